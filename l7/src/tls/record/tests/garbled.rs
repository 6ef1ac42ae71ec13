//! What an attacker on the way can do to records: nothing that is taken.

use dataplane::Ctr;

use super::*;

const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Every single bit of a record, turned.
#[test]
fn no_turned_bit_is_taken() {
    for protection in PROTECTIONS {
        let record = ends(protection, Side::Server).peer.of_kind(DATA, PLAIN);
        let mut s = sessions(1, 1);
        for bit in 0..record.len() * 8 {
            let id = s.open(&keys(protection, 1), Side::Server).unwrap();
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let alert = s.receive(id, &mut bad).expect_err("a turned bit");
            let expected: &[Alert] = match bit / 8 {
                // Another type: TLS 1.3 has none, in TLS 1.2 it is authenticated.
                0 => &[Alert::UNEXPECTED_MESSAGE, Alert::BAD_RECORD_MAC],
                3 | 4 => &[Alert::DECODE_ERROR],
                _ => &[Alert::BAD_RECORD_MAC],
            };
            assert!(expected.contains(&alert), "bit {bit}: {alert:?}");
            let mut good = record.clone();
            assert_eq!(s.receive(id, &mut good), Err(Alert::UNEXPECTED_MESSAGE), "it is over");
            s.close(id);
        }
        assert!(s.counters.get(Ctr::TlsBadMac) >= 8 * (record.len() as u64 - 5));
        assert_eq!(s.counters.get(Ctr::TlsRecordsOpened), 0);
    }
}

#[test]
fn nothing_shorter_or_longer_is_taken() {
    for protection in PROTECTIONS {
        let record = ends(protection, Side::Server).peer.of_kind(DATA, PLAIN);
        for length in (0..record.len()).chain(record.len() + 1..record.len() + 40) {
            let mut bad = record.clone();
            bad.resize(length, 0);
            assert!(ends(protection, Side::Server).take(bad.clone()).is_err(), "{length} bytes");
            if length >= 5 {
                // With a header that says so.
                bad[4] = (length - 5) as u8;
                assert_eq!(ends(protection, Side::Server).take(bad), Err(Alert::BAD_RECORD_MAC), "{length}");
            }
        }
    }
}

#[test]
fn no_record_twice_none_left_out_none_in_another_order() {
    for protection in PROTECTIONS {
        let mut forger = ends(protection, Side::Server).peer;
        let records: Vec<Vec<u8>> = (0..3).map(|n| forger.of_kind(DATA, &[n])).collect();
        for order in [[0, 0], [1, 0], [0, 2], [2, 1]] {
            let mut e = ends(protection, Side::Server);
            let first = e.take(records[order[0]].clone());
            if order[0] == 0 {
                assert!(matches!(first, Ok(Received::Data(_))));
                assert_eq!(e.take(records[order[1]].clone()), Err(Alert::BAD_RECORD_MAC), "{order:?}");
            } else {
                assert_eq!(first, Err(Alert::BAD_RECORD_MAC), "{order:?}");
            }
        }
        // Our own, sent back to us.
        let mut e = ends(protection, Side::Server);
        let mirrored = sealed(&mut e.ours, e.id, ContentType::ApplicationData, PLAIN).unwrap();
        assert_eq!(e.take(mirrored), Err(Alert::BAD_RECORD_MAC));
    }
}

/// A record of the key before the update is not taken after it.
#[test]
fn an_old_key_counts_no_more() {
    for protection in &PROTECTIONS[..3] {
        let mut e = ends(*protection, Side::Server);
        let update = e.peer.of_kind(HANDSHAKE, &[24, 0, 0, 1, 0]);
        let late = e.peer.of_kind(DATA, b"late");
        assert_eq!(e.take(update), Ok(Received::KeyUpdate { asked: false }));
        assert_eq!(e.take(late), Err(Alert::BAD_RECORD_MAC));
    }
}

#[test]
fn the_largest_record_and_one_byte_more() {
    for protection in PROTECTIONS {
        let full = vec![b'x'; PLAIN_MAX];
        let taken = ends(protection, Side::Server).take_kind(DATA, &full);
        assert!(matches!(&taken, Ok(Received::Data(range)) if range.len() == PLAIN_MAX));
        let more = vec![b'x'; PLAIN_MAX + 1];
        let mut e = ends(protection, Side::Server);
        assert_eq!(e.take_kind(DATA, &more), Err(Alert::RECORD_OVERFLOW));
        assert_eq!(e.count(Ctr::TlsBadLength), 1);
        // Longer than any record.
        let most = vec![b'x'; PLAIN_MAX + 300];
        assert_eq!(ends(protection, Side::Server).take_kind(DATA, &most), Err(Alert::RECORD_OVERFLOW));
    }
}
