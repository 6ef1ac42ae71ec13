//! The pool of contexts: what it does never shows in the bytes.

use dataplane::Ctr;

use super::*;

const APP: ContentType = ContentType::ApplicationData;

/// Many pairs of sessions in turn, at random, with room for 1, a few or all of their contexts: all data arrive.
#[test]
fn sessions_in_turn_with_few_contexts() {
    for contexts in [1, 2, 3, 24] {
        let mut s = sessions(24, contexts);
        let pairs: Vec<(SessionId, SessionId)> = (0..12u64)
            .map(|n| {
                let keys = keys(PROTECTIONS[n as usize % 6], n);
                let server = s.open(&keys, Side::Server).unwrap();
                (server, s.open(&turned(&keys), Side::Client).unwrap())
            })
            .collect();
        let mut rng = dataplane::rng::Rng::new(5);
        for round in 0..2000u32 {
            let dice = rng.next_u64();
            let (a, b) = pairs[dice as usize % pairs.len()];
            let (from, to) = if dice & 256 == 0 { (a, b) } else { (b, a) };
            let plain = round.to_be_bytes();
            let mut record = sealed(&mut s, from, APP, &plain).unwrap();
            match s.receive(to, &mut record) {
                Ok(Received::Data(range)) => assert_eq!(record[range], plain),
                other => panic!("{other:?} with {contexts} contexts"),
            }
            if dice & 0xf000 == 0 && s.protection(from).0 == Version::Tls13 {
                let mut out = [0; 64];
                let n = s.update(from, false, &mut out).unwrap();
                assert_eq!(s.receive(to, &mut out[..n]), Ok(Received::KeyUpdate { asked: false }));
            }
        }
        let (made, evicted) = (s.counters.get(Ctr::TlsContextsMade), s.counters.get(Ctr::TlsContextsEvicted));
        if contexts == 24 {
            let updates = s.counters.get(Ctr::TlsKeyUpdatesSent);
            assert_eq!((made, evicted), (48 + 2 * updates - not_made_again(&s, &pairs), 0));
        } else {
            assert!(evicted > 1000 && made > evicted);
        }
    }
}

/// Directions that have had no record since their last update.
fn not_made_again(s: &Sessions, pairs: &[(SessionId, SessionId)]) -> u64 {
    let fresh = |id: SessionId| s.sessions[id].seq.iter().filter(|seq| **seq == 0).count() as u64;
    pairs.iter().map(|(a, b)| fresh(*a) + fresh(*b)).sum()
}

#[test]
fn who_used_theirs_keeps_it() {
    let mut s = sessions(4, 3);
    let ids: Vec<SessionId> =
        (0..4).map(|n| s.open(&keys(PROTECTIONS[0], n), Side::Server).unwrap()).collect();
    for id in &ids[..3] {
        sealed(&mut s, *id, APP, b"x").unwrap();
    }
    // All have used theirs: the hand goes round once, and takes the first.
    sealed(&mut s, ids[3], APP, b"x").unwrap();
    let has =
        |s: &Sessions| -> Vec<bool> { ids.iter().map(|id| s.sessions[*id].context.is_some()).collect() };
    assert_eq!(has(&s), [false, true, true, true]);
    // The second is in use, the third is not: it goes.
    sealed(&mut s, ids[1], APP, b"x").unwrap();
    sealed(&mut s, ids[0], APP, b"x").unwrap();
    assert_eq!(has(&s), [true, true, false, true]);
    // A closed session's place is free: nobody else loses theirs.
    s.close(ids[1]);
    let evicted = s.counters.get(Ctr::TlsContextsEvicted);
    sealed(&mut s, ids[2], APP, b"x").unwrap();
    assert_eq!(s.counters.get(Ctr::TlsContextsEvicted), evicted);
}

#[test]
fn the_hand_looks_at_a_few_only() {
    let mut s = sessions(101, 100);
    let ids: Vec<SessionId> =
        (0..101).map(|n| s.open(&keys(PROTECTIONS[0], n), Side::Server).unwrap()).collect();
    for id in &ids {
        sealed(&mut s, *id, APP, b"x").unwrap();
    }
    assert!(s.sessions[ids[15]].context.is_none(), "the sixteenth, though all were used");
}
