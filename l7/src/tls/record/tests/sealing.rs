//! Sending: limits, key updates, alerts, and records sealed again.

use dataplane::Ctr;

use super::*;
use crate::tls::keys::Keys;

const APP: ContentType = ContentType::ApplicationData;

fn at(protection: (Version, Suite), seq: u64) -> (Sessions, SessionId) {
    let mut keys = keys(protection, 1);
    keys.tx.seq = seq;
    let mut s = sessions(1, 1);
    let id = s.open(&keys, Side::Server).unwrap();
    (s, id)
}

#[test]
fn too_long_and_no_room_use_no_number() {
    for protection in PROTECTIONS {
        let (mut s, id) = at(protection, 5);
        assert_eq!(sealed(&mut s, id, APP, &[0; PLAIN_MAX + 1]), Err(SealError::TooLong));
        let need = s.sealed_bytes(id, 10);
        assert_eq!(s.seal(id, APP, &[0; 10], &mut vec![0; need - 1]), Err(SealError::NoRoom));
        assert_eq!(s.next_number(id).seq, 5);
        assert_eq!(s.seal(id, APP, &[0; 10], &mut vec![0; need]), Ok(need));
        assert_eq!(s.next_number(id).seq, 6);
        assert_eq!(s.counters.get(Ctr::TlsRecordsSealed), 1);
        assert_eq!(s.counters.get(Ctr::TlsBytesSealed), 10);
    }
}

#[test]
fn nothing_is_written_behind_a_record() {
    let (mut s, id) = at(PROTECTIONS[0], 0);
    let mut out = [0x55; 200];
    let n = s.seal(id, APP, &[1; 100], &mut out).unwrap();
    assert!(out[n..].iter().all(|b| *b == 0x55));
}

#[test]
fn aes_gcm_is_updated_half_way_and_stops_at_its_limit() {
    for protection in PROTECTIONS {
        let (version, suite) = protection;
        let gcm = suite != Suite::ChaCha20Poly1305;
        let (s, id) = at(protection, (1 << 23) - 1);
        assert!(!s.update_due(id) && !s.worn(id));
        let (s, id) = at(protection, 1 << 23);
        assert_eq!(s.update_due(id), gcm && version == Version::Tls13);
        assert_eq!(s.worn(id), gcm && version == Version::Tls12);

        let (mut s, id) = at(protection, (1 << 24) - 1);
        assert!(sealed(&mut s, id, APP, b"the last").is_ok());
        assert_eq!(sealed(&mut s, id, APP, b"x").err(), gcm.then_some(SealError::Exhausted));
        let mut out = [0; 64];
        if version == Version::Tls13 {
            assert!(s.update(id, false, &mut out).is_ok(), "there is room for this");
            assert!(sealed(&mut s, id, APP, b"x").is_ok(), "and a new key");
        }
        assert!(s.alert(id, Alert::CLOSE_NOTIFY, &mut out).is_ok(), "and for the end");
        let (mut s, id) = at(protection, (1 << 24) + 16);
        assert_eq!(s.alert(id, Alert::CLOSE_NOTIFY, &mut out).is_err(), gcm, "which is bounded too");
    }
}

#[test]
fn the_number_never_wraps() {
    for seq in [1 << 63, u64::MAX] {
        let (mut s, id) = at(PROTECTIONS[2], seq);
        assert_eq!(sealed(&mut s, id, APP, b"x"), Err(SealError::Exhausted));
        let mut keys = keys(PROTECTIONS[2], 1);
        keys.rx.seq = seq;
        let mut forger = Forger::new(&keys);
        let mut s = sessions(1, 1);
        let id = s.open(&keys, Side::Server).unwrap();
        if seq == u64::MAX {
            let mut record = vec![23, 3, 3, 0, 17];
            record.extend([0; 17]);
            assert_eq!(s.receive(id, &mut record), Err(Alert::UNEXPECTED_MESSAGE));
        } else {
            assert!(matches!(s.receive(id, &mut forger.of_kind(23, b"x")), Ok(Received::Data(_))));
        }
    }
}

#[test]
fn a_key_update_of_ours() {
    for protection in PROTECTIONS {
        let keys = keys(protection, 1);
        let mut s = sessions(2, 2);
        let server = s.open(&keys, Side::Server).unwrap();
        let client = s.open(&turned(&keys), Side::Client).unwrap();
        let mut out = [0; 64];
        if protection.0 == Version::Tls12 {
            assert_eq!(s.update(server, true, &mut out), Err(SealError::NoUpdate));
            continue;
        }
        let old = sealed(&mut s, server, APP, b"old").unwrap();
        let mut first = old.clone();
        assert!(matches!(s.receive(client, &mut first), Ok(Received::Data(_))));
        for generation in 1..=3 {
            let n = s.update(server, generation == 2, &mut out).unwrap();
            assert_eq!(s.next_number(server), RecordNumber { generation, seq: 0 });
            let got = s.receive(client, &mut out[..n]);
            assert_eq!(got, Ok(Received::KeyUpdate { asked: generation == 2 }));
            let mut record = sealed(&mut s, server, APP, b"old").unwrap();
            assert_ne!(record, old, "another key");
            match s.receive(client, &mut record) {
                Ok(Received::Data(range)) => assert_eq!(&record[range], b"old"),
                other => panic!("{other:?}"),
            }
        }
        // The client was asked, once.
        assert!(s.update_due(client) && !s.update_due(server));
        let n = s.update(client, false, &mut out).unwrap();
        assert!(!s.update_due(client));
        assert_eq!(s.receive(server, &mut out[..n]), Ok(Received::KeyUpdate { asked: false }));
        assert!(!s.update_due(server));
        assert_eq!(s.counters.get(Ctr::TlsKeyUpdatesSent), 4);
        assert_eq!(s.counters.get(Ctr::TlsKeyUpdatesReceived), 4);
    }
}

#[test]
fn an_update_without_room_changes_nothing() {
    let (mut s, id) = at(PROTECTIONS[0], 3);
    assert_eq!(s.update(id, false, &mut [0; 26]), Err(SealError::NoRoom));
    assert_eq!(s.next_number(id), RecordNumber { generation: 0, seq: 3 });
    assert!(s.update(id, false, &mut [0; 27]).is_ok());
}

#[test]
fn after_an_end_of_ours_nothing_is_sealed() {
    for (alert, ends_it) in [
        (Alert::CLOSE_NOTIFY, true),
        (Alert::INTERNAL_ERROR, true),
        (Alert::USER_CANCELED, false),
        (Alert::NO_RENEGOTIATION, false),
    ] {
        for protection in PROTECTIONS {
            let mut e = ends(protection, Side::Server);
            let mut out = [0; 64];
            let n = e.ours.alert(e.id, alert, &mut out).unwrap();
            assert_eq!(n, sealed_bytes(protection.0, protection.1, 2));
            let after = if ends_it { Err(SealError::Closed) } else { Ok(()) };
            assert_eq!(sealed(&mut e.ours, e.id, APP, b"x").map(|_| ()), after);
            assert!(matches!(e.take_kind(DATA, b"still heard"), Ok(Received::Data(_))), "half-closed");
        }
    }
}

#[test]
fn sealed_again_bit_for_bit() {
    for protection in PROTECTIONS {
        let keys = Keys {
            tx: crate::tls::keys::Half { seq: 9, ..keys(protection, 1).tx.clone() },
            ..keys(protection, 1)
        };
        let mut s = sessions(3, 1);
        let id = s.open(&keys, Side::Server).unwrap();
        let rival = s.open(&keys, Side::Server).unwrap();
        let mut sent = Vec::new();
        for i in 0..20usize {
            let plain: Vec<u8> = (0..i * 777).map(|b| (b ^ i) as u8).collect();
            let kind = if i == 3 { ContentType::Handshake } else { APP };
            let number = s.next_number(id);
            sent.push((number, kind, plain.clone(), sealed(&mut s, id, kind, &plain).unwrap()));
        }
        for (number, kind, plain, record) in sent.iter().rev() {
            // With the context made anew in between.
            sealed(&mut s, rival, APP, b"x").unwrap();
            let mut out = vec![0; RECORD_MAX];
            let n = s.seal_again(id, *number, *kind, plain, &mut out).unwrap();
            assert!(out[..n] == record[..], "{number:?}");
        }
        assert_eq!(s.next_number(id).seq, 29, "no number was used");
        assert_eq!(s.counters.get(Ctr::TlsRecordsSealedAgain), 20);

        let never = s.next_number(id);
        assert_eq!(s.seal_again(id, never, APP, b"x", &mut [0; 64]), Err(SealError::Gone));
        if protection.0 == Version::Tls13 {
            s.update(id, false, &mut [0; 64]).unwrap();
            sealed(&mut s, id, APP, b"x").unwrap();
            let (number, kind, plain, _) = &sent[0];
            assert_eq!(s.seal_again(id, *number, *kind, plain, &mut [0; 64]), Err(SealError::Gone));
        }
    }
}
