//! The store allocates nothing once it is made: not on hits, not on misses that evict, not when it refuses.

use hugepages::PagePolicy;
use l7::cache::store::{Claim, Cursor, Handle, ObjectId, ObjectView, Pick, Store, StoreConfig};

use crate::malloc::assert_none;

fn matches(key: u64) -> impl Fn(&ObjectView<'_>) -> Pick {
    move |v| if v.blob[..8] == key.to_le_bytes() { Pick::Take } else { Pick::Next }
}

fn hit(h: &mut Handle, key: u64, scratch: &mut [u8]) -> Option<ObjectId> {
    let hash = h.store().hash(&key.to_le_bytes());
    let id = h.lookup(hash, scratch, matches(key))?;
    let (mut c, mut sum) = (Cursor::at(0), 0u64);
    while h.read(id, &mut c, 4096, |piece| sum += u64::from(piece[0])) > 0 {}
    std::hint::black_box(sum);
    Some(id)
}

/// A miss with everything that can come of one.
fn miss(h: &mut Handle, other: &mut Handle, key: u64, scratch: &mut [u8]) {
    let hash = h.store().hash(&key.to_le_bytes());
    let mut head = [0; 300];
    head[..8].copy_from_slice(&key.to_le_bytes());
    let mut fill = match h.claim(hash, &head[..8], scratch, matches(key)) {
        Claim::New(fill) => fill,
        other => panic!("key {key}: {other:?}, {:?}", h.store().stats()),
    };
    let id = fill.id();
    let Claim::Existing(found) = other.claim(hash, &head[..8], scratch, matches(key)) else {
        panic!("there")
    };
    other.pin(found);
    assert!(other.wait_for(found, other.progress(found)));
    h.set_head(&mut fill, &head).unwrap();
    for _ in 0..1 + key % 12 {
        let _ = h.append(&mut fill, &[key as u8; 700]);
        h.publish(&fill);
    }
    match key % 16 {
        0 => h.fail(fill),
        1 => {
            h.fill_pass(fill, &head, None);
        }
        _ => {
            h.finish(fill, None);
        }
    }
    other.drain_wakes(|w| {
        std::hint::black_box(w);
    });
    if key.is_multiple_of(5) && h.begin_revalidation(id) {
        let _ = h.replace_head(id, &head);
        h.end_revalidation(id);
    }
    if key.is_multiple_of(7) {
        h.unlink(id);
    }
    if key.is_multiple_of(11) {
        h.purge_hash(hash, scratch, |_| true, key.is_multiple_of(2));
    }
    other.unpin(found);
    h.quiescent();
    other.quiescent();
}

#[test]
fn nothing_is_allocated_after_the_start() {
    let config = StoreConfig::for_bytes(8 << 20, 2, [1, 2]);
    let store = Store::reserve(config, PagePolicy::NormalOnly, Box::new(|_| ())).unwrap();
    let (mut h, mut other) = (store.handle(0), store.handle(1));
    let mut scratch = vec![0; store.head_bytes_max()];
    assert_none(|| {
        for key in 0..50_000 {
            miss(&mut h, &mut other, key, &mut scratch);
            let there =
                (key.saturating_sub(20)..key).filter(|k| hit(&mut other, *k, &mut scratch).is_some()).count();
            std::hint::black_box(there);
        }
    });
    let stats = store.stats();
    assert!(stats.evictions > 10_000, "it was full: {stats:?}");
}
