//! One thing at a time.

use super::*;

#[test]
fn what_is_put_is_found_whole() {
    let (store, _) = store(|_| ());
    let mut h = store.handle(0);
    for (key, len) in [(1, 0), (2, 1), (3, 511), (4, 512), (5, 513), (6, 1024), (7, 70_000), (8, 300_000)] {
        assert_eq!(find(&mut h, key), None);
        put(&mut h, key, 9, len, key as usize * 100).unwrap();
        h.quiescent();
        assert_eq!(get(&mut h, key), Some((9, len)));
    }
    let id = find(&mut h, 8).unwrap();
    assert!(h.state(id).is_complete() && h.state(id).has_head() && !h.state(id).is_filling());
    // A seek to any place, before and after an index entry, and beyond the end.
    for at in [0, 1, 511, 512, 65_535, 65_536, 65_537, 131_072, 200_000, 299_999, 300_000, 400_000] {
        let end = check_body(&h, id, 8, 9, at, 777);
        assert_eq!(end, at.max(300_000));
    }
}

#[test]
fn a_long_body_has_more_than_one_chunk_of_index() {
    let (store, _) = store(|c| {
        *c = StoreConfig { head_bytes_max: 4096, ..StoreConfig::for_bytes(64 << 20, 1, [1, 2]) };
        c.object_bytes_max = 32 << 20;
        c.shards = 1;
    });
    let mut h = store.handle(0);
    let len = (20 << 20) + 3;
    let mut fill = start(&mut h, 1, false).unwrap();
    let mut at = 0;
    while at < len {
        let end = len.min(at + 60_000);
        h.append(&mut fill, &body(1, 1, at..end)).unwrap();
        at = end;
    }
    h.set_head(&mut fill, &blob(1, 1, len, 0)).unwrap();
    h.publish(&fill);
    let id = fill.id();
    for at in [0, 8 << 20, (8 << 20) + 65_536, (16 << 20) + 1, len - 1] {
        assert_eq!(check_body(&h, id, 1, 1, at, 1 << 20), len);
    }
    h.fail(fill);
    let mut all = [h];
    settle(&mut all);
    let [h] = all;
    drop(h);
    assert_eq!((store.stats().bytes_used, store.stats().objects), (0, 0), "everything has come back");
}

#[test]
fn a_claim_is_had_once_and_the_others_follow_the_fill() {
    let (store, woken) = store(|_| ());
    let (mut a, mut b) = (store.handle(0), store.handle(3));
    let Claim::New(mut fill) = claim(&mut a, 7) else { panic!("new") };
    let Claim::Existing(id) = claim(&mut b, 7) else { panic!("there") };
    assert_eq!(id, fill.id());
    b.pin(id);
    let seen = b.progress(id);
    assert!(seen.state.is_filling() && !seen.state.has_head());
    assert!(b.wait_for(id, seen), "nothing new");
    a.set_head(&mut fill, &blob(7, 1, 2000, 50)).unwrap();
    assert!(!b.wait_for(id, seen), "the head has come");
    let mut wakes = Vec::new();
    b.drain_wakes(|w| wakes.push(w));
    assert_eq!(wakes, [Wake::Object(id)]);
    assert_eq!(woken[3].load(Ordering::Relaxed), 1);

    a.append(&mut fill, &body(7, 1, 0..1500)).unwrap();
    assert_eq!(b.progress(id).len, 0, "not published");
    assert_eq!(check_body(&b, id, 7, 1, 0, 9999), 0);
    a.publish(&fill);
    assert_eq!(check_body(&b, id, 7, 1, 0, 9999), 1500);
    let seen = b.progress(id);
    assert!(b.wait_for(id, seen));
    a.append(&mut fill, &body(7, 1, 1500..2000)).unwrap();
    a.finish(fill, None);
    assert_eq!(check_body(&b, id, 7, 1, 0, 9999), 2000);
    assert!(b.state(id).is_complete());
    let mut n = 0;
    b.drain_wakes(|_| n += 1);
    assert!(n >= 1);
    b.unpin(id);
    assert_eq!(get(&mut b, 7), Some((1, 2000)));
}

#[test]
fn a_failed_fill_is_found_no_more_but_read_to_its_end() {
    let (store, _) = store(|_| ());
    let (mut a, mut b) = (store.handle(0), store.handle(1));
    let fill = start(&mut a, 1, false).unwrap();
    let fill = write(&mut a, fill, 1, 1, 3000, 10).unwrap();
    let id = find(&mut b, 1).unwrap();
    b.pin(id);
    a.fail(fill);
    assert_eq!((find(&mut b, 1), find(&mut a, 1)), (None, None));
    assert!(b.state(id).is_failed() && b.is_evicted(id));
    for _ in 0..10 {
        a.quiescent();
        b.quiescent();
    }
    assert_eq!(check_body(&b, id, 1, 1, 0, 100), 3000, "pinned");
    assert!(store.stats().bytes_pinned >= 3000);
    b.unpin(id);
    assert_eq!(store.stats().bytes_pinned, 0);
    let mut both = [a, b];
    settle(&mut both);
    drop(both);
    assert_eq!((store.stats().bytes_used, store.stats().objects), (0, 0));
}

#[test]
fn a_newer_object_replaces_the_older() {
    let (store, _) = store(|_| ());
    let mut h = store.handle(0);
    for version in 1..100 {
        put(&mut h, 5, version, 700, 30).unwrap();
        assert_eq!(get(&mut h, 5), Some((version, 700)));
        h.quiescent();
    }
    let mut all = [h];
    settle(&mut all);
    assert!(store.stats().objects <= 1 + 16, "the old ones have gone: {:?}", store.stats());
}

#[test]
fn a_304_changes_the_head_and_keeps_the_body() {
    let (store, _) = store(|_| ());
    let (mut a, mut b) = (store.handle(0), store.handle(1));
    let id = put(&mut a, 5, 1, 5000, 600).unwrap();
    assert!(a.begin_revalidation(id) && !b.begin_revalidation(id), "one at a time");
    let seen = b.progress(id);
    assert!(b.wait_for(id, seen));
    // Same key, version and length; another filling, over more chunks.
    a.replace_head(id, &blob(5, 1, 5000, 1500)).unwrap();
    a.end_revalidation(id);
    let mut n = 0;
    b.drain_wakes(|w| n += u32::from(w == Wake::Object(id)));
    assert_eq!(n, 1);
    let mut scratch = [0; 4096];
    assert_eq!(b.view(id, &mut scratch).blob.len(), 1516);
    assert_eq!(get(&mut b, 5), Some((1, 5000)));
    assert_eq!(a.replace_head(id, &[0; 4097]), Err(HeadError::TooLarge));
    a.unlink(id);
    assert_eq!(a.replace_head(id, &blob(5, 1, 5000, 0)), Err(HeadError::Gone));
    let mut both = [a, b];
    settle(&mut both);
    drop(both);
    assert_eq!((store.stats().bytes_used, store.stats().objects), (0, 0));
}

#[test]
fn pass_markers_are_small_and_found() {
    let (store, _) = store(|_| ());
    let mut h = store.handle(0);
    let fill = start(&mut h, 1, false).unwrap();
    assert!(h.fill_pass(fill, &blob(1, 1, 0, 20), None));
    let id = find(&mut h, 1).unwrap();
    assert!(h.state(id).is_pass() && !h.state(id).is_filling() && !h.state(id).is_complete());
    // With a body, there is no marker.
    let mut fill = start(&mut h, 2, false).unwrap();
    h.append(&mut fill, b"body").unwrap();
    assert!(!h.fill_pass(fill, &blob(2, 1, 0, 20), None));
    assert_eq!(find(&mut h, 2), None);
}

#[test]
fn limits_are_kept() {
    let (store, _) = store(|c| {
        c.object_bytes_max = 10_000;
        c.bytes = 64 << 10;
        c.objects_max = 32;
        c.shards = 1;
    });
    let mut h = store.handle(0);
    let mut fill = start(&mut h, 1, false).unwrap();
    h.append(&mut fill, &[1; 9_999]).unwrap();
    assert_eq!(h.append(&mut fill, &[1; 2]), Err(AppendError::TooLarge));
    assert_eq!(fill.len(), 9_999, "nothing of it");
    h.append(&mut fill, &[1; 1]).unwrap();
    assert_eq!(h.set_head(&mut fill, &[0; 4097]), Err(HeadError::TooLarge));
    // Fills hold all the memory: the next ones are told so, and it comes back.
    let mut fills = vec![fill];
    let full = loop {
        let Some(mut f) = start(&mut h, 100 + fills.len() as u32, false) else { break true };
        while f.len() < 10_000 && h.append(&mut f, &[7; 500]).is_ok() {}
        fills.push(f);
        assert!(fills.len() < 40);
    };
    assert!(full && store.stats().no_room > 0);
    for f in fills {
        h.fail(f);
    }
    let mut all = [h];
    settle(&mut all);
    let [mut h] = all;
    assert!(put(&mut h, 1, 1, 5000, 0).is_some());
}

#[test]
fn eviction_makes_room_and_spares_what_is_asked_for() {
    let (store, _) = store(|c| c.shards = 1);
    let mut h = store.handle(0);
    for hot in 0..20 {
        put(&mut h, hot, 1, 1000, 0).unwrap();
    }
    for cold in 1000..20_000 {
        put(&mut h, cold, 1, 1000, 0).unwrap();
        h.quiescent();
        if cold % 10 == 0 {
            let hot = cold / 10 % 20;
            assert_eq!(get(&mut h, hot), Some((1, 1000)), "{hot} at {cold}");
        }
    }
    let s = store.stats();
    assert!(s.evictions > 10_000 && s.bytes_used <= s.bytes_total && s.no_room == 0, "{s:?}");
}

#[test]
fn a_mailbox_that_overflows_says_so() {
    let (store, _) = store(|c| c.wakes_max = 2);
    let (mut a, mut b) = (store.handle(0), store.handle(1));
    let fills: Vec<Fill> = (0..5).map(|k| start(&mut a, k, false).unwrap()).collect();
    for f in &fills {
        let id = f.id();
        b.pin(id);
        assert!(b.wait_for(id, b.progress(id)));
    }
    for f in fills {
        a.fail(f);
    }
    let (mut ids, mut all) = (0, 0);
    b.drain_wakes(|w| match w {
        Wake::Object(_) => ids += 1,
        Wake::All => all += 1,
    });
    assert_eq!((ids, all), (2, 1));
    b.drain_wakes(|w| panic!("{w:?}"));
}

#[test]
fn the_pinned_cap_is_noticed_and_ends() {
    let (store, _) = store(|c| {
        c.shards = 1;
        c.pinned_bytes_max = 100_000;
    });
    let (mut a, mut slow) = (store.handle(0), store.handle(1));
    let mut held = Vec::new();
    for key in 0..30 {
        let id = put(&mut a, key, 1, 20_000, 0).unwrap();
        slow.pin(id);
        held.push((key, id));
        a.quiescent();
        slow.quiescent();
    }
    assert!(!slow.over_pinned_cap(), "they are all in the index");
    let mut key = 100;
    while !slow.over_pinned_cap() {
        let _ = put(&mut a, key, 1, 20_000, 0);
        key += 1;
        assert!(key < 10_000);
        a.quiescent();
        slow.quiescent();
    }
    // What the owner of the pins does about it.
    while slow.over_pinned_cap() {
        let at = held.iter().position(|(_, id)| slow.is_evicted(*id)).expect("an evicted one");
        let (key, id) = held.swap_remove(at);
        assert_eq!(check_body(&slow, id, key, 1, 0, 4096), 20_000, "readable to the end");
        slow.unpin(id);
    }
    assert!(store.stats().bytes_pinned <= 100_000);
    for (_, id) in held {
        slow.unpin(id);
    }
    let mut both = [a, slow];
    settle(&mut both);
    assert_eq!(store.stats().bytes_pinned, 0);
}

#[test]
fn a_handle_leaves_what_it_retired_to_the_next() {
    let (store, _) = store(|_| ());
    let mut a = store.handle(0);
    let mut b = store.handle(1);
    let id = put(&mut a, 1, 1, 1000, 0).unwrap();
    assert_eq!(find(&mut b, 1), Some(id));
    a.unlink(id);
    drop(a);
    assert_eq!(check_body(&b, id, 1, 1, 0, 512), 1000, "b is still in its pass");
    b.quiescent();
    let mut both = [store.handle(0), b];
    settle(&mut both);
    drop(both);
    assert_eq!((store.stats().bytes_used, store.stats().objects), (0, 0));
}
