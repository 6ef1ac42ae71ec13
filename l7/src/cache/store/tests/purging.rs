//! Purges, and what must not come back after one.

use super::*;

fn keys(h: &mut Handle, n: u32) -> Vec<u32> {
    (0..n).filter(|k| find(h, *k).is_some()).collect()
}

#[test]
fn everything_goes_at_once_and_memory_comes_back() {
    let (store, _) = store(|_| ());
    let (mut a, mut control) = (store.handle(0), store.handle(1));
    // More often than a stamp has values.
    for round in 0..600 {
        for key in 0..5 {
            put(&mut a, key, round, 600, 0).unwrap();
        }
        assert_eq!(control.purge_all(false), 5, "round {round}");
        assert_eq!(keys(&mut a, 5), [0; 0]);
        if round % 3 == 0 {
            assert!(control.sweep() >= 5);
        }
        a.quiescent();
        control.quiescent();
    }
    control.sweep();
    let mut both = [a, control];
    settle(&mut both);
    drop(both);
    assert_eq!((store.stats().bytes_used, store.stats().objects), (0, 0));
    assert_eq!(store.stats().purged, 3000);
}

#[test]
fn soft_purges_show_and_a_later_304_ends_them() {
    let (store, _) = store(|_| ());
    let (mut a, mut control) = (store.handle(0), store.handle(1));
    let id = put(&mut a, 1, 1, 600, 0).unwrap();
    for how in 0..3 {
        let mut purge = |a: &mut Handle| {
            let mut scratch = [0; 4096];
            let n = match how {
                0 => control.purge_all(true),
                1 => control.purge_matching(|b| parse(b).0 == 1, true),
                _ => a.purge_hash(hash_of(&store, 1), &mut scratch, |v| parse(v.blob).0 == 1, true),
            };
            assert_eq!(n, 1);
        };
        purge(&mut a);
        assert_eq!(find(&mut a, 1), Some(id), "it is there still");
        assert!(a.state(id).is_soft());
        assert!(a.begin_revalidation(id));
        a.replace_head(id, &blob(1, 1, 600, 5)).unwrap();
        a.end_revalidation(id);
        assert!(!a.state(id).is_soft(), "how {how}");
        // A purge while the origin is asked is not undone by its answer.
        assert!(a.begin_revalidation(id));
        purge(&mut a);
        a.replace_head(id, &blob(1, 1, 600, 5)).unwrap();
        a.end_revalidation(id);
        assert!(a.state(id).is_soft(), "how {how}");
    }
}

#[test]
fn by_what_the_blob_says() {
    let (store, _) = store(|_| ());
    let (mut a, mut control) = (store.handle(0), store.handle(1));
    for key in 0..100 {
        put(&mut a, key, key % 7, 600, 0).unwrap();
    }
    a.quiescent();
    assert_eq!(control.purge_matching(|b| parse(b).1 == 3, false), 14);
    assert_eq!(keys(&mut a, 100).len(), 86);
    assert_eq!(control.purge_matching(|b| parse(b).1 == 3, false), 0, "they are gone");
    let mut scratch = [0; 4096];
    let n = a.purge_hash(hash_of(&store, 1), &mut scratch, |v| parse(v.blob).0 == 1, false);
    assert_eq!((n, find(&mut a, 1)), (1, None));
    assert_eq!(control.sweep(), 14);
}

#[test]
fn a_fill_from_before_a_purge_brings_nothing_back() {
    let (store, _) = store(|_| ());
    let (mut a, mut control) = (store.handle(0), store.handle(1));
    for (how, headed) in (0..3).flat_map(|how| [(how, false), (how, true)]) {
        let mut fill = start(&mut a, 1, false).unwrap();
        if headed {
            a.set_head(&mut fill, &blob(1, 1, 0, 0)).unwrap();
        }
        let id = fill.id();
        let mut scratch = [0; 4096];
        match how {
            0 => control.purge_all(false),
            // Before its head is known, it may have the tag.
            1 => control.purge_matching(|b| headed && parse(b).0 == 1, false),
            _ => control.purge_hash(hash_of(&store, 1), &mut scratch, |v| parse(v.blob).0 == 1, false),
        };
        assert_eq!(find(&mut a, 1), None, "how {how}, headed {headed}");
        let other = start(&mut a, 1, false).expect("a new fill");
        a.append(&mut fill, b"old").unwrap();
        a.finish(fill, None);
        assert_eq!(find(&mut a, 1), Some(other.id()));
        a.finish(other, None);
        let there = find(&mut a, 1).unwrap();
        assert_ne!(there, id);
        a.unlink(there);
        a.quiescent();
        control.quiescent();
        control.sweep();
    }
    // A purge of others leaves a fill alone.
    let mut fill = start(&mut a, 1, false).unwrap();
    a.set_head(&mut fill, &blob(1, 1, 0, 0)).unwrap();
    control.purge_matching(|b| parse(b).0 == 2, false);
    let id = a.finish(fill, None);
    assert_eq!(find(&mut a, 1), Some(id));
}

#[test]
fn a_late_claim_is_refused_after_a_purge_that_may_concern_it() {
    let (store, _) = store(|_| ());
    let (mut a, mut control) = (store.handle(0), store.handle(1));
    let mut scratch = [0; 4096];
    let hash = hash_of(&store, 1);
    let since = a.purge_epoch(hash);
    let Claim::New(fill) = a.claim_late(since, hash, &blob(1, 0, 0, 0), &mut scratch, wants(1)) else {
        panic!("nothing was purged")
    };
    a.fail(fill);
    // Another URL's is none of its business, its own is.
    let other = hash.wrapping_add(1);
    control.purge_hash(other, &mut [0; 4096], |_| true, false);
    let Claim::New(fill) = a.claim_late(since, hash, &blob(1, 0, 0, 0), &mut scratch, wants(1)) else {
        panic!("nothing that concerns it was purged")
    };
    a.fail(fill);
    control.purge_hash(hash, &mut [0; 4096], |_| true, false);
    let refused = a.claim_late(since, hash, &blob(1, 0, 0, 0), &mut scratch, wants(1));
    assert!(matches!(refused, Claim::Purged));
    let since = a.purge_epoch(hash);
    control.purge_matching(|_| false, false);
    let refused = a.claim_late(since, hash, &blob(1, 0, 0, 0), &mut scratch, wants(1));
    assert!(matches!(refused, Claim::Purged));
    assert_eq!(find(&mut a, 1), None);
    let mut both = [a, control];
    settle(&mut both);
    drop(both);
    assert_eq!((store.stats().bytes_used, store.stats().objects), (0, 0));
}

#[test]
fn waiting_for_an_epoch_waits_for_the_others() {
    let (store, _) = store(|_| ());
    let (mut a, mut control) = (store.handle(0), store.handle(1));
    assert!(!control.wait_for_epoch(std::time::Duration::from_millis(2)), "a has not been at its top");
    let tag = control.epoch_tag();
    control.quiescent();
    assert!(!control.epoch_passed(tag));
    a.quiescent();
    assert!(control.epoch_passed(tag));
    a.offline();
    assert!(control.wait_for_epoch(std::time::Duration::from_secs(60)));
}

#[test]
fn purged_objects_that_nobody_sweeps_do_not_fill_a_chain() {
    let (store, _) = store(|_| ());
    let (mut a, mut control) = (store.handle(0), store.handle(1));
    for round in 0..1000 {
        put(&mut a, 1, round, 100, 0).unwrap();
        assert_eq!(control.purge_matching(|b| parse(b).0 == 1, false), 1);
        a.quiescent();
        control.quiescent();
    }
    assert_eq!(store.stats().chain_too_long, 0);
    assert!(control.sweep() <= 5);
}
