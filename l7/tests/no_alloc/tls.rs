//! The record layer allocates nothing, the AEAD library included, but one block for each context that is made.

use dataplane::counters::Segment;
use dataplane::{Counters, Ctr};
use hugepages::{Arena, PagePolicy};
use l7::tls::keys::{Half, Keys, Suite, Version};
use l7::tls::record::*;

use crate::malloc::{assert_none, counts_of};

const APP: ContentType = ContentType::ApplicationData;
const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

fn protections() -> impl Iterator<Item = (Version, Suite)> {
    [Version::Tls13, Version::Tls12].into_iter().flat_map(|v| SUITES.map(|s| (v, s)))
}

fn sessions(n: u32, contexts: u32) -> (Sessions, Counters) {
    let counters = Segment::in_memory(1).writer(0);
    let mut arena = Arena::reserve(Sessions::cost(n, contexts), PagePolicy::NormalOnly).unwrap();
    (Sessions::new(n, contexts, &mut arena, counters.clone()).unwrap(), counters)
}

fn keys((version, suite): (Version, Suite), n: u8) -> (Keys, Keys) {
    let (a, b) = (Half::new(&[n; 48], 0).unwrap(), Half::new(&[n ^ 0x80; 48], 0).unwrap());
    let server = Keys { version, suite, rx: a.clone(), tx: b.clone() };
    (server, Keys { version, suite, rx: b, tx: a })
}

/// Data one way: sealed, opened, and sealed once more.
fn exchange(
    s: &mut Sessions,
    from: SessionId,
    to: SessionId,
    plain: &[u8],
    room: &mut [u8],
    copy: &mut [u8],
) {
    let number = s.next_number(from);
    let n = s.seal(from, APP, plain, room).unwrap();
    let again = s.seal_again(from, number, APP, plain, copy).unwrap();
    assert_eq!(room[..n], copy[..again]);
    match s.receive(to, &mut room[..n]).unwrap() {
        Received::Data(range) => assert_eq!(&room[range], plain),
        other => panic!("{other:?}"),
    }
}

#[test]
fn records() {
    let (mut s, counters) = sessions(12, 12);
    let mut room = vec![0; RECORD_MAX];
    let mut copy = vec![0; RECORD_MAX];
    let plain = vec![b'x'; PLAIN_MAX];
    let pairs: Vec<(SessionId, SessionId)> = protections()
        .map(|p| {
            let (server, client) = keys(p, 1);
            (s.open(&server, Side::Server).unwrap(), s.open(&client, Side::Client).unwrap())
        })
        .collect();
    let mut round = |s: &mut Sessions, n: usize| {
        for (a, b) in &pairs {
            exchange(s, *a, *b, &plain[..n], &mut room, &mut copy);
            exchange(s, *b, *a, &plain[..n], &mut room, &mut copy);
        }
    };
    round(&mut s, 100);
    let made = counters.get(Ctr::TlsContextsMade);
    assert_eq!(made, 24);
    assert_none(|| {
        for i in 0..2000 {
            round(&mut s, 1 + i * 37 % PLAIN_MAX);
        }
    });
    assert_eq!(counters.get(Ctr::TlsContextsMade), made);

    // Alerts and empty records.
    assert_none(|| {
        for (a, b) in &pairs {
            let n = s.seal(*a, APP, b"", &mut room).unwrap();
            assert_eq!(s.receive(*b, &mut room[..n]), Ok(Received::Nothing));
            let n = s.alert(*a, Alert::USER_CANCELED, &mut room).unwrap();
            assert_eq!(s.receive(*b, &mut room[..n]), Ok(Received::Nothing));
            let n = s.alert(*a, Alert::CLOSE_NOTIFY, &mut room).unwrap();
            assert_eq!(s.receive(*b, &mut room[..n]), Ok(Received::CloseNotify));
        }
    });

    // What does not authenticate. The library notes its first error on a thread in a queue that it makes then, once.
    let mut garbled = |(a, b): (SessionId, SessionId)| {
        let n = s.seal(b, APP, b"garbled", &mut room).unwrap();
        room[n - 1] ^= 1;
        assert_eq!(s.receive(a, &mut room[..n]), Err(Alert::BAD_RECORD_MAC));
    };
    let first = counts_of(|| garbled(pairs[0]));
    assert!(first.allocations <= 2 && first.bytes <= 1024, "{first:?}");
    assert_none(|| pairs[1..].iter().for_each(|pair| garbled(*pair)));
}

/// Neither does the begin of a session: nonces are derived without allocation. Its end gives the contexts back.
#[test]
fn sessions_come_and_go() {
    let (mut s, _) = sessions(2, 2);
    let mut room = vec![0; RECORD_MAX];
    for p in protections() {
        let (server, _) = keys(p, 3);
        let mut id = SessionId::NONE;
        assert_none(|| id = s.open(&server, Side::Server).unwrap());
        s.seal(id, APP, b"x", &mut room).unwrap();
        let end = counts_of(|| s.close(id));
        assert_eq!((end.allocations, end.frees), (0, 1), "{p:?}");
    }
}

/// A key update derives without allocation; the new key's context is one block, and the old one's was given back.
#[test]
fn key_updates() {
    for suite in SUITES {
        let (mut s, _) = sessions(2, 2);
        let (server, client) = keys((Version::Tls13, suite), 1);
        let (a, b) = (s.open(&server, Side::Server).unwrap(), s.open(&client, Side::Client).unwrap());
        let mut room = vec![0; RECORD_MAX];
        let mut copy = vec![0; RECORD_MAX];
        exchange(&mut s, a, b, b"x", &mut room, &mut copy);
        for _ in 0..10 {
            let counts = counts_of(|| {
                let n = s.update(a, false, &mut room).unwrap();
                assert_eq!(s.receive(b, &mut room[..n]), Ok(Received::KeyUpdate { asked: false }));
                exchange(&mut s, a, b, b"x", &mut room, &mut copy);
            });
            assert_eq!((counts.allocations, counts.frees), (2, 2), "{suite:?}");
        }
    }
}

/// Who needs a context that another has: one block each way is given back, and one of the same size is taken.
#[test]
fn what_an_eviction_allocates() {
    for p in protections() {
        let (mut s, counters) = sessions(2, 1);
        let (server, client) = keys(p, 1);
        let (a, b) = (s.open(&server, Side::Server).unwrap(), s.open(&client, Side::Client).unwrap());
        let mut room = vec![0; RECORD_MAX];
        let mut copy = vec![0; RECORD_MAX];
        exchange(&mut s, a, b, b"x", &mut room, &mut copy);
        let made = counters.get(Ctr::TlsContextsMade);
        let counts = counts_of(|| {
            for _ in 0..1000 {
                exchange(&mut s, a, b, b"x", &mut room, &mut copy);
                exchange(&mut s, b, a, b"x", &mut room, &mut copy);
            }
        });
        let made = counters.get(Ctr::TlsContextsMade) - made;
        assert!(made >= 2000, "each direction is made anew");
        assert_eq!((counts.allocations, counts.frees), (made, made), "{p:?}");
        assert!(counts.bytes <= 640 * made, "{} bytes each", counts.bytes / made);
    }
}
