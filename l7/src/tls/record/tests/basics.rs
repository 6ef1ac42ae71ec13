//! Two ends of ours; sizes; what a session weighs.

use hugepages::{Arena, Footprint, PagePolicy};

use super::*;

#[test]
fn what_one_end_seals_the_other_opens() {
    for protection in PROTECTIONS {
        let keys = keys(protection, 1);
        let mut s = sessions(2, 2);
        let server = s.open(&keys, Side::Server).unwrap();
        let client = s.open(&turned(&keys), Side::Client).unwrap();
        for (from, to) in [(server, client), (client, server)] {
            for n in [0, 1, 2, 15, 16, 17, 1000, 16_383, PLAIN_MAX] {
                let plain: Vec<u8> = (0..n).map(|i| i as u8).collect();
                let mut record = sealed(&mut s, from, ContentType::ApplicationData, &plain).unwrap();
                assert_eq!(record.len(), sealed_bytes(protection.0, protection.1, n));
                assert_eq!(record.len(), s.sealed_bytes(from, n));
                assert!(record.len() <= n + OVERHEAD_MAX && record.len() <= RECORD_MAX);
                assert_eq!(header(&record), Ok(Some(record.len())));
                match s.receive(to, &mut record) {
                    Ok(Received::Data(range)) => assert_eq!(record[range], plain),
                    other => assert_eq!((n, other), (0, Ok(Received::Nothing))),
                }
            }
        }
    }
}

#[test]
fn headers() {
    assert_eq!(header(b""), Ok(None));
    assert_eq!(header(&[23, 3, 3, 0]), Ok(None));
    assert_eq!(header(&[23, 3, 3, 0, 0]), Ok(Some(5)), "whether it can be opened is not asked here");
    for kind in 0..=255 {
        let length = header(&[kind, 3, 1, 0x01, 0x02, 9]);
        assert_eq!(length.is_ok(), (20..=23).contains(&kind), "{kind}");
        assert!(length == Ok(Some(5 + 0x102)) || length == Err(Alert::UNEXPECTED_MESSAGE));
    }
    assert_eq!(header(&[23, 3, 3, 0x41, 0x00]), Ok(Some(RECORD_MAX)));
    assert_eq!(header(&[23, 3, 3, 0x41, 0x01]), Err(Alert::RECORD_OVERFLOW));
    let s = sessions(1, 1);
    assert_eq!(s.header(&[22, 3, 3, 0xff, 0xff]), Err(Alert::RECORD_OVERFLOW));
    assert_eq!(s.counters.get(dataplane::Ctr::TlsBadLength), 1);
}

#[test]
fn what_is_sealed_in_tls12_shows_its_type_and_in_13_does_not() {
    for protection in PROTECTIONS {
        let mut e = ends(protection, Side::Server);
        let record = sealed(&mut e.ours, e.id, ContentType::Alert, &[1, 0]).unwrap();
        let shown = if protection.0 == Version::Tls13 { DATA } else { ALERT };
        assert_eq!(record[..3], [shown, 3, 3]);
    }
}

#[test]
fn the_slab_is_the_bound_and_a_place_is_used_again() {
    let keys = keys(PROTECTIONS[0], 1);
    let mut s = sessions(2, 1);
    let first = s.open(&keys, Side::Server).unwrap();
    let second = s.open(&keys, Side::Server).unwrap();
    assert_eq!(s.open(&keys, Side::Server), None);
    assert_eq!(s.counters.get(dataplane::Ctr::TlsNoSession), 1);
    assert_eq!(s.counters.get(dataplane::Ctr::TlsSessions), 2);
    sealed(&mut s, first, ContentType::ApplicationData, b"x").unwrap();
    s.close(first);
    assert_eq!(s.counters.get(dataplane::Ctr::TlsSessions), 1);
    let third = s.open(&keys, Side::Server).unwrap();
    assert_eq!(s.next_number(third), RecordNumber { generation: 0, seq: 0 }, "nothing of the last user's");
    s.close(second);
    s.close(third);
    assert_eq!(s.in_use(), 0);
}

#[test]
fn a_place_can_be_kept_before_a_session_and_after_it() {
    const APP: ContentType = ContentType::ApplicationData;
    let [mine, theirs] = [1, 2].map(|n| keys(PROTECTIONS[0], n));
    let mut s = sessions(2, 1);
    let id = s.reserve().unwrap();
    let other = s.open(&turned(&mine), Side::Client).unwrap();
    assert_eq!((s.reserve(), s.in_use(), s.reserved()), (None, 1, 2));
    assert_eq!(s.counters.get(dataplane::Ctr::TlsNoSession), 1);
    let is_inert = |s: &mut Sessions, from: SessionId| {
        let mut out = [0; 64];
        assert_eq!(sealed(s, id, APP, b"x"), Err(SealError::Closed));
        assert_eq!(s.update(id, false, &mut out), Err(SealError::Closed));
        let first = RecordNumber { generation: 0, seq: 0 };
        assert_eq!(s.seal_again(id, first, APP, b"x", &mut out), Err(SealError::Gone));
        let mut record = sealed(s, from, APP, b"x").unwrap();
        assert!(s.receive(id, &mut record).is_err());
        assert!(!s.update_due(id) && !s.worn(id));
        assert_eq!((s.next_number(id), s.in_use()), (first, 1));
    };
    is_inert(&mut s, other);
    s.begin(id, &mine, Side::Server);
    assert_eq!((s.in_use(), s.counters.get(dataplane::Ctr::TlsSessions)), (2, 2));
    // The numbers of what was sealed in vain have not counted, but the peer's has.
    let mut first = sealed(&mut s, id, APP, b"x").unwrap();
    assert_eq!(s.receive(other, &mut first), Ok(Received::Data(5..6)));
    let contexts = s.counters.get(dataplane::Ctr::TlsContextsMade);
    s.end(id);
    s.end(id);
    assert!(s.sessions[id].secret(session::Way::Tx).iter().all(|b| *b == 0));
    is_inert(&mut s, other);
    assert_eq!((s.in_use(), s.reserved(), s.counters.get(dataplane::Ctr::TlsSessions)), (1, 2, 1));
    // Another session begins in the same place, and ends when the next one does.
    s.begin(id, &theirs, Side::Server);
    let with_theirs = sealed(&mut s, id, APP, b"x").unwrap();
    s.begin(id, &mine, Side::Server);
    assert_ne!(sealed(&mut s, id, APP, b"x").unwrap(), with_theirs);
    assert!(s.counters.get(dataplane::Ctr::TlsContextsMade) > contexts);
    s.close(other);
    s.close(id);
    assert_eq!((s.in_use(), s.reserved()), (0, 0));
}

#[test]
fn a_closed_session_leaves_no_secret() {
    let keys = keys(PROTECTIONS[1], 1);
    let mut session = session::Session::unused();
    session.begin(&keys, Side::Server);
    assert_eq!(*session.secret(session::Way::Tx), keys.tx.secret);
    session.wipe();
    for way in [session::Way::Rx, session::Way::Tx] {
        assert_eq!(*session.secret(way), [0; 48]);
    }
}

#[test]
fn what_it_costs_is_what_it_takes() {
    for (n, contexts) in [(1, 0), (7, 3), (1000, 64)] {
        let mut arena = Arena::reserve(Sessions::cost(n, contexts), PagePolicy::NormalOnly).unwrap();
        let segment = dataplane::counters::Segment::in_memory(1);
        assert!(Sessions::new(n, contexts, &mut arena, segment.writer(0)).is_some());
        let mut f = Footprint::default();
        Sessions::footprint(n, contexts, &mut f);
        assert!(f.bytes() as usize + 4096 >= Sessions::cost(n, contexts));
        assert_eq!(f.items[0].item_bytes, 132, "bytes of an idle session");
    }
    let mut small = Arena::reserve(4096, PagePolicy::NormalOnly).unwrap();
    let segment = dataplane::counters::Segment::in_memory(1);
    assert!(Sessions::new(1000, 10, &mut small, segment.writer(0)).is_none());
}
