//! Responses of a real server: `openssl ocsp` has made them, for a certificate with the number 9a1234, on 2026-11-22.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::tls::harness::{self, ISSUER, LEAF};
use crate::tls::ocsp::{Fault, Good, read};

fn corpus() -> impl Iterator<Item = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/tls_ocsp");
    let all = fs::read_dir(folder).expect("the corpus is part of the repository");
    all.map(|entry| fs::read(entry.expect("readable").path()).expect("readable"))
}

fn response(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/tls_ocsp");
    fs::read(folder.join(name)).expect("readable")
}

/// 2026-11-22, 11:08:50.
const MADE_S: u64 = 1_795_345_730;
const WEEK_S: u64 = 7 * 86_400;

#[test]
fn what_a_response_says() {
    let read = |name: &str| read(&response(name), LEAF, Some(ISSUER));
    let good = read("good").unwrap();
    assert_eq!(good, Good { from_s: MADE_S, until_s: Some(MADE_S + WEEK_S) });
    let at = |now| good.is_good_at(now);
    assert_eq!(
        [MADE_S - 1, MADE_S, MADE_S + WEEK_S, MADE_S + WEEK_S + 1].map(at),
        [false, true, true, false]
    );
    // By the key of who has made it, without certificates; by SHA-256; behind another certificate's.
    for name in ["short", "sha256", "two"] {
        let good = read(name).unwrap();
        assert_eq!(good.until_s, Some(good.from_s + WEEK_S), "{name}");
    }
    let endless = read("no_next").unwrap();
    assert!(endless.until_s.is_none() && endless.is_good_at(u64::MAX));
    assert_eq!(read("unknown"), Err(Fault::Unknown));
    assert_eq!(read("revoked"), Err(Fault::Revoked(1_790_856_000)), "2026-10-01, 12:00:00");
    assert_eq!(read("other"), Err(Fault::Other));
    assert_eq!(read("other_issuer"), Err(Fault::OtherIssuer));
    assert_eq!(read("try_later"), Err(Fault::NoState(3)));
}

#[test]
fn what_is_not_known_of_the_issuer_is_not_asked() {
    assert!(read(&response("good"), LEAF, None).is_ok());
    assert_eq!(read(&response("other_issuer"), LEAF, None), Err(Fault::OtherIssuer), "by its name");
    // One that has the same name, and another key.
    assert_eq!(read(&response("good"), LEAF, Some(LEAF)), Err(Fault::OtherIssuer));
    assert_eq!(read(&response("good"), b"no certificate", None), Err(Fault::Other));
    // A hash that we do not know.
    let mut changed = response("good");
    let sha1 = [0x2b, 0x0e, 3, 2, 0x1a];
    let at = changed.windows(5).position(|w| w == sha1).unwrap();
    changed[at + 4] = 0x1b;
    assert!(read(&changed, LEAF, Some(ISSUER)).is_ok());
}

#[test]
fn what_is_cut_is_no_response() {
    let whole = response("good");
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end], LEAF, Some(ISSUER)), Err(Fault::NotDer), "{end}");
    }
    for bytes in [&b"\x30\x05\x0a\x01\x00\x04\x00"[..], b"\x30\x03\x0a\x01\x00", b"\x30\x80\x00\x00"] {
        assert_eq!(read(bytes, LEAF, None), Err(Fault::NotDer));
    }
}

/// What fuzzing has found and begun with.
#[test]
fn the_kept_corpus() {
    assert!(corpus().map(|response| harness::ocsp(&response)).count() > 8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn responses_that_are_changed(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut response = which.get(&corpus().collect::<Vec<_>>()).clone();
        for (at, byte) in changes {
            let at = at.index(response.len());
            response[at] = byte;
        }
        if let Some(cut) = cut {
            response.truncate(cut.index(response.len()));
        }
        harness::ocsp(&response);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        harness::ocsp(&bytes);
    }
}
