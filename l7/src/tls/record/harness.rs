//! What must hold for any bytes at all, authentic or not. One body for the fuzz target (`fuzz/`) and for the tests, which
//! run the kept corpus too. Tests only: it allocates and panics as it likes.

use aws_lc_rs::aead::{Aad, Nonce};
use dataplane::counters::Segment;
use hugepages::{Arena, PagePolicy};

use super::derive::Context;
use super::session::{Session, Way};
use super::sessions::{aad12, head_of};
use super::*;
use crate::tls::keys::{Half, Keys};

/// All pairs of a version and a suite.
pub const PROTECTIONS: [(Version, Suite); 6] = [
    (Version::Tls13, Suite::Aes128Gcm),
    (Version::Tls13, Suite::Aes256Gcm),
    (Version::Tls13, Suite::ChaCha20Poly1305),
    (Version::Tls12, Suite::Aes128Gcm),
    (Version::Tls12, Suite::Aes256Gcm),
    (Version::Tls12, Suite::ChaCha20Poly1305),
];

/// Room for `sessions`, of which `contexts` can be ready.
pub fn sessions(sessions: u32, contexts: u32) -> Sessions {
    let mut arena =
        Arena::reserve(Sessions::cost(sessions, contexts), PagePolicy::NormalOnly).expect("memory");
    Sessions::new(sessions, contexts, &mut arena, Segment::in_memory(1).writer(0)).expect("what it costs")
}

/// Keys of a connection, by number: the same number, the same keys.
pub fn keys((version, suite): (Version, Suite), n: u64) -> Keys {
    let half = |way: u8| {
        let mut secret = [way; 48];
        secret[..8].copy_from_slice(&n.to_be_bytes());
        Half::new(&secret, 0).expect("as long as a secret")
    };
    Keys { version, suite, rx: half(1), tx: half(2) }
}

/// The other end's.
pub fn turned(keys: &Keys) -> Keys {
    Keys { rx: keys.tx.clone(), tx: keys.rx.clone(), ..*keys }
}

/// The other end of a connection, which sends what it likes, well protected.
pub struct Forger(Session);

impl Forger {
    /// The end that sends what `keys` receive.
    pub fn new(keys: &Keys) -> Forger {
        let mut session = Session::unused();
        session.begin(&turned(keys), Side::Client);
        Forger(session)
    }

    /// The next record: outside of type `outer`, inside `inner`, which in TLS 1.3 ends with type and padding.
    pub fn record(&mut self, outer: u8, inner: &[u8]) -> Vec<u8> {
        let s = &mut self.0;
        let context = Context::new(s.version, s.suite, s.secret(Way::Tx)).expect("the library works");
        let seq = s.seq[Way::Tx as usize];
        s.seq[Way::Tx as usize] += 1;
        let (key, nonce) = (&context.key, context.nonce(seq));
        let explicit = s.explicit_bytes();
        let mut head = head_of(ContentType::Alert, explicit + inner.len() + TAG_BYTES);
        head[0] = outer;
        let mut body = inner.to_vec();
        let sealed = match s.version {
            Version::Tls13 => key.seal_in_place_separate_tag(Nonce::from(&nonce), Aad::from(head), &mut body),
            Version::Tls12 => {
                let mut short = head_of(ContentType::Alert, inner.len());
                short[0] = outer;
                let aad = Aad::from(aad12(seq, short));
                key.seal_in_place_separate_tag(Nonce::from(&nonce), aad, &mut body)
            }
        };
        let tag = sealed.expect("the library works");
        [&head, &nonce[12 - explicit..], body.as_slice(), tag.as_ref()].concat()
    }

    /// The next record, of type `kind` and without padding.
    pub fn of_kind(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        match self.0.version {
            Version::Tls13 => self.record(23, &[content, &[kind]].concat()),
            Version::Tls12 => self.record(kind, content),
        }
    }

    /// Its key changes.
    pub fn update(&mut self) {
        self.0.advance(Way::Tx).expect("the library works");
    }
}

/// Any bytes as what a peer sends: the first says which protection and which side, the rest are steps of a few bytes
/// each, an authentic record or a strange one. Nothing strange may be taken, what is authentic must be what was sent, and
/// after an error nothing may be taken at all.
pub fn records(input: &[u8]) {
    let [first, steps @ ..] = input else { return };
    let protection = PROTECTIONS[usize::from(first & 7) % 6];
    let side = if first & 8 == 0 { Side::Server } else { Side::Client };
    let keys = keys(protection, 7);
    let mut ours = sessions(2, 1);
    let id = ours.open(&keys, side).expect("a place");
    let other = ours.open(&keys, side).expect("a place");
    let mut peer = Forger::new(&keys);
    let mut rest = steps;
    let mut over = false;
    let mut quiet = 0;
    while let [what, length, behind @ ..] = rest {
        let (content, behind) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = behind;
        let (mut record, authentic) = step(&mut peer, *what, content);
        // Another session's record takes the only context away.
        if what & 64 != 0 {
            let mut out = [0; 64];
            ours.seal(other, ContentType::ApplicationData, b"x", &mut out).expect("room, and early enough");
        }
        let before = record.clone();
        match ours.receive(id, &mut record) {
            Err(_) => over = true,
            Ok(received) => {
                assert!(!over || received == Received::Nothing, "{received:?} after the end");
                if !over {
                    assert!(authentic, "{before:?} was taken");
                    quiet = check(&received, &record, content, quiet);
                }
                if ours.sessions[id].seq[Way::Rx as usize] == 0 && !over {
                    peer.update();
                }
                match received {
                    Received::CloseNotify => over = true,
                    Received::Fatal(_) => {
                        let mut more = peer.of_kind(23, b"more");
                        assert!(ours.receive(id, &mut more).is_err());
                        return;
                    }
                    _ => {}
                }
            }
        }
    }
    if ours.update_due(id) {
        assert_eq!(protection.0, Version::Tls13);
        let mut out = [0; 64];
        ours.update(id, false, &mut out).expect("an answer");
        assert!(!ours.update_due(id));
    }
}

/// One record, and whether it is authentic.
fn step(peer: &mut Forger, what: u8, content: &[u8]) -> (Vec<u8>, bool) {
    let kind = 20 + (what & 3);
    match what >> 2 & 7 {
        // The content as a whole record, header and all.
        0 => (content.to_vec(), false),
        // A right header, and the content unprotected.
        1 => {
            let mut head = head_of(ContentType::ApplicationData, content.len());
            head[0] = kind;
            ([&head, content].concat(), false)
        }
        // Authentic, then one bit of it turned.
        2 => {
            let mut record = peer.of_kind(kind, content);
            let at = content.iter().fold(usize::from(what), |sum, b| sum * 31 % 65_521 + usize::from(*b));
            let bit = at % (record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
            (record, false)
        }
        // Authentic, and cut short; the header may say so.
        3 => {
            let mut record = peer.of_kind(kind, content);
            record.truncate(record.len() - 1 - content.len() % (record.len() - 1));
            if what & 128 != 0 && record.len() > HEADER_BYTES {
                let short = head_of(ContentType::Alert, record.len() - HEADER_BYTES);
                record[3..HEADER_BYTES].copy_from_slice(&short[3..]);
            }
            (record, false)
        }
        // The content as the inside of a record, type and padding and all.
        4 => (peer.record(23, content), true),
        _ => (peer.of_kind(kind, content), true),
    }
}

/// What is said of a record must be so; gives the records in a row without data.
fn check(received: &Received, record: &[u8], content: &[u8], quiet: u32) -> u32 {
    match received {
        Received::Data(range) => {
            assert!(!range.is_empty());
            assert!(content.starts_with(&record[range.clone()]), "other data than were sent");
            return 0;
        }
        Received::Tickets(range) => {
            let bodies: usize = tickets(&record[range.clone()]).map(|body| body.len() + 4).sum();
            assert_eq!(bodies, range.len(), "whole messages");
        }
        Received::Nothing | Received::KeyUpdate { .. } | Received::CloseNotify | Received::Fatal(_) => {}
    }
    assert!(quiet < u32::from(QUIET_MAX) || matches!(received, Received::CloseNotify | Received::Fatal(_)));
    quiet + 1
}
