//! What is inside of records: padding, alerts, handshake messages, floods.

use dataplane::Ctr;

use super::*;

const TLS13: (Version, Suite) = PROTECTIONS[0];
const TLS12: (Version, Suite) = PROTECTIONS[3];
const CCS: u8 = 20;

fn server(protection: (Version, Suite)) -> Ends {
    ends(protection, Side::Server)
}

#[test]
fn padding_is_taken_off() {
    for zeros in [0, 1, 15, 16, 255, 10_000] {
        let mut e = server(TLS13);
        let inner = [b"data\0\0".as_slice(), &[DATA], &vec![0; zeros]].concat();
        let record = e.peer.record(DATA, &inner);
        assert_eq!(e.take(record), Ok(Received::Data(5..11)), "zeros of the data's own stay");
        let record = e.peer.record(DATA, &[&[DATA], vec![0; zeros].as_slice()].concat());
        assert_eq!(e.take(record), Ok(Received::Nothing), "padding alone");
    }
    let mut e = server(TLS13);
    let inner = [vec![b'x'; PLAIN_MAX - 100], vec![DATA], vec![0; 100]].concat();
    let record = e.peer.record(DATA, &inner);
    assert!(matches!(e.take(record), Ok(Received::Data(_))), "full with padding");
}

#[test]
fn no_type_inside_is_no_record() {
    for zeros in [0, 1, 100, PLAIN_MAX + 1] {
        let mut e = server(TLS13);
        let record = e.peer.record(DATA, &vec![0; zeros]);
        assert_eq!(e.take(record), Err(Alert::UNEXPECTED_MESSAGE));
        assert_eq!(e.count(Ctr::TlsBadType), 1);
    }
    for kind in [1, 19, 20, 24, 255] {
        let mut e = server(TLS13);
        let record = e.peer.record(DATA, &[1, kind]);
        assert_eq!(e.take(record), Err(Alert::UNEXPECTED_MESSAGE), "inner type {kind}");
    }
}

#[test]
fn no_other_type_outside_in_tls13() {
    for kind in [CCS, ALERT, HANDSHAKE] {
        let mut e = server(TLS13);
        let record = e.peer.record(kind, &[1, DATA]);
        assert_eq!(e.take(record), Err(Alert::UNEXPECTED_MESSAGE));
    }
    // A dummy change_cipher_spec too: it may come before the peer's Finished only.
    assert_eq!(server(TLS13).take(vec![CCS, 3, 3, 0, 1, 1]), Err(Alert::UNEXPECTED_MESSAGE));
    assert_eq!(server(TLS13).take(vec![ALERT, 3, 3, 0, 2, 2, 40]), Err(Alert::UNEXPECTED_MESSAGE));
    assert_eq!(server(TLS12).take(vec![ALERT, 3, 3, 0, 2, 2, 40]), Err(Alert::BAD_RECORD_MAC));
    assert_eq!(server(TLS12).take_kind(CCS, &[1]), Err(Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn alerts() {
    type Case = (&'static [u8], Result<Received, Alert>, Result<Received, Alert>);
    let cases: [Case; 9] = [
        (&[1, 0], Ok(Received::CloseNotify), Ok(Received::CloseNotify)),
        (&[2, 0], Ok(Received::CloseNotify), Ok(Received::CloseNotify)),
        (&[1, 90], Ok(Received::Nothing), Ok(Received::Nothing)),
        (&[1, 100], Ok(Received::Fatal(Alert(100))), Ok(Received::Nothing)),
        (&[2, 40], Ok(Received::Fatal(Alert(40))), Ok(Received::Fatal(Alert(40)))),
        (&[7, 40], Ok(Received::Fatal(Alert(40))), Err(Alert::ILLEGAL_PARAMETER)),
        (&[], Err(Alert::UNEXPECTED_MESSAGE), Err(Alert::UNEXPECTED_MESSAGE)),
        (&[1], Err(Alert::DECODE_ERROR), Err(Alert::DECODE_ERROR)),
        (&[1, 0, 1, 0], Err(Alert::DECODE_ERROR), Err(Alert::DECODE_ERROR)),
    ];
    for (body, in13, in12) in cases {
        for (protection, expected) in [(TLS13, in13), (TLS12, in12)] {
            for side in [Side::Server, Side::Client] {
                let mut e = ends(protection, side);
                assert_eq!(e.take_kind(ALERT, body), expected, "{body:?}, {protection:?}");
                let next = e.take_kind(DATA, b"more");
                match expected {
                    Ok(Received::CloseNotify) => assert_eq!(next, Ok(Received::Nothing), "ignored"),
                    Ok(Received::Nothing) => assert!(matches!(next, Ok(Received::Data(_)))),
                    _ => assert_eq!(next, Err(Alert::UNEXPECTED_MESSAGE)),
                }
            }
        }
    }
}

#[test]
fn renegotiation_is_refused() {
    for (side, hello) in [(Side::Client, [0, 0, 0, 0]), (Side::Server, [1, 0, 0, 0])] {
        let mut e = ends(TLS12, side);
        assert_eq!(e.take_kind(HANDSHAKE, &hello), Err(Alert::HANDSHAKE_FAILURE));
        assert_eq!(e.count(Ctr::TlsRenegotiationRefused), 1);
        // The other side's message.
        let other = if side == Side::Client { Side::Server } else { Side::Client };
        assert_eq!(ends(TLS12, other).take_kind(HANDSHAKE, &hello), Err(Alert::UNEXPECTED_MESSAGE));
    }
    assert_eq!(server(TLS12).take_kind(HANDSHAKE, &[24, 0, 0, 1, 0]), Err(Alert::UNEXPECTED_MESSAGE));
    assert_eq!(server(TLS12).take_kind(HANDSHAKE, &[]), Err(Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn key_updates() {
    for side in [Side::Server, Side::Client] {
        for asked in [false, true] {
            let mut e = ends(TLS13, side);
            assert_eq!(
                e.take_kind(HANDSHAKE, &[24, 0, 0, 1, u8::from(asked)]),
                Ok(Received::KeyUpdate { asked })
            );
            assert_eq!(e.ours.update_due(e.id), asked);
            e.peer.update();
            assert!(matches!(e.take_kind(DATA, b"x"), Ok(Received::Data(_))));
        }
    }
    for (message, alert) in [
        (&[24, 0, 0, 1, 2][..], Alert::ILLEGAL_PARAMETER),
        (&[24, 0, 0, 0], Alert::DECODE_ERROR),
        (&[24, 0, 0, 2, 0, 0], Alert::DECODE_ERROR),
        (&[24, 1, 0, 1, 0], Alert::DECODE_ERROR),
        // Something behind it in its record: sealed with a key that is over.
        (&[24, 0, 0, 1, 0, 24], Alert::UNEXPECTED_MESSAGE),
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Alert::UNEXPECTED_MESSAGE),
    ] {
        assert_eq!(server(TLS13).take_kind(HANDSHAKE, message), Err(alert), "{message:?}");
    }
}

#[test]
fn messages_in_parts() {
    let update = [24, 0, 0, 1, 1];
    for cut in 1..5 {
        let mut e = server(TLS13);
        assert_eq!(e.take_kind(HANDSHAKE, &update[..cut]), Ok(Received::Nothing));
        assert_eq!(e.take_kind(HANDSHAKE, &update[cut..]), Ok(Received::KeyUpdate { asked: true }));
        e.peer.update();
        assert!(matches!(e.take_kind(DATA, b"x"), Ok(Received::Data(_))));
        // Nothing may come in between.
        for (kind, content) in [(DATA, &b"x"[..]), (DATA, b""), (ALERT, &[1, 0])] {
            let mut e = server(TLS13);
            assert_eq!(e.take_kind(HANDSHAKE, &update[..cut]), Ok(Received::Nothing));
            assert_eq!(e.take_kind(kind, content), Err(Alert::UNEXPECTED_MESSAGE));
        }
    }
}

fn ticket(length: usize) -> Vec<u8> {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    [vec![4, a, b, c], (0..length).map(|i| i as u8).collect()].concat()
}

#[test]
fn tickets_are_for_clients() {
    assert_eq!(server(TLS13).take_kind(HANDSHAKE, &ticket(50)), Err(Alert::UNEXPECTED_MESSAGE));
    let mut e = ends(TLS13, Side::Client);
    let two = [ticket(50), ticket(0), ticket(7)].concat();
    let mut record = e.peer.of_kind(HANDSHAKE, &two);
    let got = e.ours.receive(e.id, &mut record);
    assert_eq!(got, Ok(Received::Tickets(5..5 + two.len())));
    let bodies: Vec<&[u8]> = tickets(&record[5..5 + two.len()]).collect();
    assert_eq!(bodies, [&ticket(50)[4..], &[], &ticket(7)[4..]]);
    for kind in [1, 2, 8, 11, 13, 20] {
        let got = ends(TLS13, Side::Client).take_kind(HANDSHAKE, &[kind, 0, 0, 0]);
        assert_eq!(got, Err(Alert::UNEXPECTED_MESSAGE), "message {kind}");
    }
    let got = ends(TLS13, Side::Client).take_kind(HANDSHAKE, &[4, 255, 0, 0]);
    assert_eq!(got, Err(Alert::DECODE_ERROR), "longer than a ticket can be");
}

#[test]
fn a_ticket_and_an_update_in_one_record() {
    let mut e = ends(TLS13, Side::Client);
    let both = [ticket(9), vec![24, 0, 0, 1, 1]].concat();
    assert_eq!(e.take_kind(HANDSHAKE, &both), Ok(Received::Tickets(5..18)));
    assert!(e.ours.update_due(e.id));
    e.peer.update();
    assert!(matches!(e.take_kind(DATA, b"x"), Ok(Received::Data(_))));
}

/// Three tickets and an update, cut in pieces of every size: no piece is an error, what is whole within one is found, and
/// the update counts.
#[test]
fn tickets_in_parts_are_let_go() {
    let all = [ticket(300), ticket(40), ticket(41), vec![24, 0, 0, 1, 0]].concat();
    for size in (1..60).chain([100, 304, 305, 348, 349]) {
        if all.len().div_ceil(size) > usize::from(QUIET_MAX) {
            continue;
        }
        let mut e = ends(TLS13, Side::Client);
        let (mut updates, mut found) = (0, 0);
        for piece in all.chunks(size) {
            let mut record = e.peer.of_kind(HANDSHAKE, piece);
            match e.ours.receive(e.id, &mut record) {
                Ok(Received::Tickets(range)) => {
                    for body in tickets(&record[range]) {
                        assert!([300, 40, 41].contains(&body.len()));
                        assert_eq!(body, &ticket(body.len())[4..]);
                        found += 1;
                    }
                }
                Ok(Received::KeyUpdate { asked: false }) => updates += 1,
                Ok(Received::Nothing) => {}
                other => panic!("{other:?} in pieces of {size}"),
            }
        }
        if size >= 348 {
            assert!(found >= 2);
        }
        e.peer.update();
        assert!(matches!(e.take_kind(DATA, b"x"), Ok(Received::Data(_))), "pieces of {size}");
        assert_eq!(e.count(Ctr::TlsKeyUpdatesReceived), 1);
        assert!(updates <= 1);
    }
}

#[test]
fn floods_end() {
    type Quiet = (u8, &'static [u8]);
    let quiet: [Quiet; 3] = [(DATA, b""), (ALERT, &[1, 90]), (HANDSHAKE, &[24, 0, 0, 1, 1])];
    for (version, kinds) in [(TLS13, &quiet[..]), (TLS12, &quiet[..2])] {
        for (kind, content) in kinds {
            let mut e = server(version);
            let send = |e: &mut Ends| {
                let got = e.take_kind(*kind, content);
                if let Ok(Received::KeyUpdate { .. }) = got {
                    e.peer.update();
                }
                got
            };
            for _ in 0..3 {
                for _ in 0..QUIET_MAX {
                    assert!(send(&mut e).is_ok());
                }
                for _ in 0..16 {
                    assert!(matches!(e.take_kind(DATA, b"x"), Ok(Received::Data(_))), "data make it good");
                }
            }
            for _ in 0..QUIET_MAX {
                assert!(send(&mut e).is_ok());
            }
            assert_eq!(send(&mut e), Err(Alert::UNEXPECTED_MESSAGE));
            assert_eq!((e.count(Ctr::TlsFloods), e.count(Ctr::TlsBadType)), (1, 0));
        }
    }
}

/// A change of keys costs more than a record: one for each byte of data is a flood, one for some records is none.
#[test]
fn data_do_not_hide_a_flood_of_key_updates() {
    for (data, taken) in [(1, 32), (14, 32), (15, 200)] {
        let mut e = server(TLS13);
        let mut updates = 0;
        while updates < 200 && e.take_kind(HANDSHAKE, &[24, 0, 0, 1, 0]).is_ok() {
            updates += 1;
            e.peer.update();
            for _ in 0..=data {
                assert!(matches!(e.take_kind(DATA, b"x"), Ok(Received::Data(_))));
            }
        }
        assert_eq!((updates, e.count(Ctr::TlsFloods)), (taken, u64::from(taken < 200)), "{data}");
    }
}

/// However many updates a peer asks for, we owe one.
#[test]
fn many_requests_one_answer() {
    let mut e = server(TLS13);
    for _ in 0..10 {
        assert_eq!(e.take_kind(HANDSHAKE, &[24, 0, 0, 1, 1]), Ok(Received::KeyUpdate { asked: true }));
        e.peer.update();
    }
    assert!(e.ours.update_due(e.id));
    e.ours.update(e.id, false, &mut [0; 64]).unwrap();
    assert!(!e.ours.update_due(e.id));
}
