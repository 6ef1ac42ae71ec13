//! Random operations by two participants against a plain map.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Put { who: usize, key: u32, len: u64, filling: usize },
    Begin { who: usize, key: u32 },
    Go { slot: usize, how: u8 },
    Get { who: usize, key: u32 },
    Unlink { who: usize, key: u32 },
    Head { who: usize, key: u32, filling: usize },
    Pin { who: usize, key: u32 },
    Unpin { slot: usize },
    Purge { how: u8, key: u32, soft: bool },
    Sweep,
    Top { who: usize },
    Sleep { who: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let (who, key) = (0..2usize, 0..24u32);
    prop_oneof![
        6 => (who.clone(), key.clone(), 0..9000u64, 0..1500usize)
            .prop_map(|(who, key, len, filling)| Op::Put { who, key, len, filling }),
        2 => (who.clone(), key.clone()).prop_map(|(who, key)| Op::Begin { who, key }),
        3 => (0..8usize, 0..6u8).prop_map(|(slot, how)| Op::Go { slot, how }),
        8 => (who.clone(), key.clone()).prop_map(|(who, key)| Op::Get { who, key }),
        2 => (who.clone(), key.clone()).prop_map(|(who, key)| Op::Unlink { who, key }),
        2 => (who.clone(), key.clone(), 0..1500usize)
            .prop_map(|(who, key, filling)| Op::Head { who, key, filling }),
        2 => (who.clone(), key.clone()).prop_map(|(who, key)| Op::Pin { who, key }),
        2 => (0..8usize).prop_map(|slot| Op::Unpin { slot }),
        1 => (0..3u8, key, any::<bool>()).prop_map(|(how, key, soft)| Op::Purge { how, key, soft }),
        1 => Just(Op::Sweep),
        8 => who.clone().prop_map(|who| Op::Top { who }),
        1 => who.prop_map(|who| Op::Sleep { who }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    version: u32,
    len: u64,
    soft: bool,
}

/// A fill under way: whose, of what; whether a purge has taken it, and whether softly.
struct Under {
    who: usize,
    key: u32,
    version: u32,
    fill: Fill,
    dead: bool,
    soft: bool,
}

/// With `exact`, the store is so large that it never evicts, and must agree with the map in everything; without, what
/// it gives must be what the map has.
fn run(ops: &[Op], exact: bool) {
    let (store, _) = store(|c| {
        c.participants = 3;
        if !exact {
            c.bytes = 48 << 10;
            c.objects_max = 20;
            c.shards = 2;
        }
    });
    let mut h = [store.handle(0), store.handle(1)];
    let mut control = store.handle(2);
    let mut map: HashMap<u32, Known> = HashMap::new();
    let mut under: Vec<Under> = Vec::new();
    let mut pins: Vec<(usize, ObjectId, u32, u32, u64)> = Vec::new();
    let mut version = 0;
    for op in ops {
        match *op {
            Op::Put { who, key, len, filling } => {
                version += 1;
                // A fill that is under way would be found first.
                if under.iter().any(|u| u.key == key && !u.dead) {
                    continue;
                }
                match put(&mut h[who], key, version, len, filling) {
                    Some(_) => {
                        map.insert(key, Known { version, len, soft: false });
                    }
                    None => assert!(!exact, "there is room"),
                }
            }
            Op::Begin { who, key } => {
                version += 1;
                let busy = map.contains_key(&key) || under.iter().any(|u| u.key == key && !u.dead);
                if under.len() < 4 && !busy {
                    h[who].quiescent();
                    // What was not whole before an eviction could be found under another version.
                    if let Some(id) = find(&mut h[who], key) {
                        panic!("{id:?} of key {key} is not known");
                    }
                    if let Some(fill) = start(&mut h[who], key, false) {
                        under.push(Under { who, key, version, fill, dead: false, soft: false });
                    }
                }
            }
            Op::Go { slot, how } if slot < under.len() => {
                let u = under.swap_remove(slot);
                let who = u.who;
                if how == 0 {
                    h[who].fail(u.fill);
                    continue;
                }
                let len = u64::from(how) * 700;
                let Some(fill) = write(&mut h[who], u.fill, u.key, u.version, len, 10) else {
                    assert!(!exact);
                    continue;
                };
                h[who].finish(fill, None);
                if !u.dead {
                    map.insert(u.key, Known { version: u.version, len, soft: u.soft });
                }
            }
            Op::Get { who, key } => {
                if under.iter().any(|u| u.key == key && !u.dead) {
                    assert!(find(&mut h[who], key).is_some(), "a fill that is under way is found");
                    continue;
                }
                let got = get(&mut h[who], key).map(|(version, len)| {
                    let soft = { find(&mut h[who], key).map(|id| h[who].state(id).is_soft()) };
                    Known { version, len, soft: soft.unwrap_or(false) }
                });
                match got {
                    Some(_) => assert_eq!(got.as_ref(), map.get(&key), "key {key}"),
                    None if exact => assert_eq!(map.get(&key), None, "key {key}"),
                    None => {
                        map.remove(&key);
                    }
                }
            }
            Op::Unlink { who, key } => {
                if under.iter().any(|u| u.key == key && !u.dead) {
                    continue;
                }
                if let Some(id) = find(&mut h[who], key) {
                    h[who].unlink(id);
                    assert_eq!(find(&mut h[1 - who], key), None);
                }
                map.remove(&key);
            }
            Op::Head { who, key, filling } => {
                let Some(known) = map.get_mut(&key) else { continue };
                let Some(id) = find(&mut h[who], key) else { continue };
                let h = &mut h[who];
                assert!(h.begin_revalidation(id));
                match h.replace_head(id, &blob(key, known.version, known.len, filling)) {
                    Ok(()) => known.soft = false,
                    Err(e) => assert!(!exact && e == HeadError::NoRoom),
                }
                h.end_revalidation(id);
            }
            Op::Pin { who, key } => {
                let Some(known) = map.get(&key) else { continue };
                if pins.len() < 4
                    && let Some(id) = find(&mut h[who], key)
                {
                    h[who].pin(id);
                    pins.push((who, id, key, known.version, known.len));
                }
            }
            Op::Unpin { slot } if slot < pins.len() => {
                let (who, id, key, version, len) = pins.swap_remove(slot);
                assert_eq!(check_body(&h[who], id, key, version, len / 2, 1000), len, "pinned");
                h[who].unpin(id);
            }
            Op::Purge { how, key, soft } => {
                let mut scratch = [0; 4096];
                let all = |_: u32| true;
                let one = |k: u32| k == key;
                let many = |k: u32| k % 3 == key % 3;
                let hit: &dyn Fn(u32) -> bool = match how {
                    0 => &all,
                    1 => &one,
                    _ => &many,
                };
                match how {
                    0 => control.purge_all(soft),
                    1 => control.purge_hash(
                        hash_of(&store, key),
                        &mut scratch,
                        |v| parse(v.blob).0 == key,
                        soft,
                    ),
                    _ => control.purge_matching(|b| hit(parse(b).0), soft),
                };
                for u in &mut under {
                    // A purge by blob takes all that have no head yet: all of these.
                    if how == 2 || hit(u.key) {
                        if soft {
                            u.soft = true;
                        } else {
                            u.dead = true;
                        }
                    }
                }
                map.retain(|k, v| {
                    v.soft |= soft && hit(*k);
                    soft || !hit(*k)
                });
            }
            Op::Sweep => {
                control.sweep();
            }
            Op::Top { who } => {
                h[who].quiescent();
                control.quiescent();
            }
            Op::Sleep { who } => {
                h[who].offline();
                h[1 - who].quiescent();
                h[who].online();
            }
            Op::Go { .. } | Op::Unpin { .. } => {}
        }
    }
    for u in under {
        h[u.who].fail(u.fill);
    }
    for (who, id, key, version, len) in pins {
        assert_eq!(check_body(&h[who], id, key, version, 0, 4096), len);
        h[who].unpin(id);
    }
    control.purge_all(false);
    control.sweep();
    let [a, b] = h;
    let mut all = [a, b, control];
    settle(&mut all);
    drop(all);
    let s = store.stats();
    assert_eq!((s.bytes_used, s.objects, s.bytes_pinned), (0, 0, 0), "everything has come back");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_large_store_is_a_map(ops in prop::collection::vec(op(), 1..200)) {
        run(&ops, true);
    }

    #[test]
    fn a_small_store_forgets_but_never_lies(ops in prop::collection::vec(op(), 1..300)) {
        run(&ops, false);
    }
}
