use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::NamedGroup;

use super::support::*;
use crate::tls::harness;
use crate::tls::hello::{HELLO_BYTES_MAX, JOINED_BYTES_MAX, Peek, peek};

/// The hello of a stock client.
fn stock(tls13: bool, name: &str) -> Vec<u8> {
    let mut config = client_config(&Authority::new("ca"), tls13);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    flush(&mut client(&Arc::new(config), name))
}

#[test]
fn what_is_in_a_hello() {
    let mut joined = Vec::new();
    let bytes = stock(true, "www.Example.test");
    let Ok(Peek::Hello(hello)) = peek(&bytes, &mut joined) else { panic!("a stock hello") };
    assert_eq!(hello.server_name.map(<[u8]>::to_ascii_lowercase).as_deref(), Some(&b"www.example.test"[..]));
    assert!(hello.alpn().eq([&b"h2"[..], b"http/1.1"]));
    assert!(hello.offers_tls13() && !hello.resumes && !hello.early_data);
    assert_eq!(hello.legacy_version, 0x0303);
    assert_eq!(hello.bytes, bytes.len() - 5 - 4);
    let hybrid = u16::from(NamedGroup::X25519MLKEM768);
    assert_eq!(hello.groups().next(), Some(hybrid));
    assert!(hello.shares().eq([hybrid, u16::from(NamedGroup::X25519)]));
    assert!(hello.suites().any(|suite| suite == 0x1301) && hello.schemes().any(|scheme| scheme == 0x0403));
    let bytes = stock(false, "a.test");
    let Ok(Peek::Hello(hello)) = peek(&bytes, &mut joined) else { panic!("a stock hello") };
    assert!(!hello.offers_tls13() && hello.shares().next().is_none());
}

#[test]
fn an_address_is_no_name() {
    let name = b"www.example";
    let at = |bytes: &[u8]| bytes.windows(name.len()).position(|w| w == name).unwrap();
    for (other, is_name) in
        [("192.0.2.100", false), ("192.0.2.10.", false), ("...........", false), ("1.2.3.4.5.b", true)]
    {
        let mut bytes = stock(true, "www.example");
        let at = at(&bytes);
        bytes[at..at + name.len()].copy_from_slice(other.as_bytes());
        let mut joined = Vec::new();
        let Ok(Peek::Hello(hello)) = peek(&bytes, &mut joined) else { panic!("a hello") };
        assert_eq!(hello.server_name, is_name.then_some(other.as_bytes()));
    }
}

#[test]
fn no_more_is_joined_than_a_hello_can_have() {
    // All of a hello but a byte, and a record that is longer than what is missing.
    let body = vec![0; HELLO_BYTES_MAX - 1];
    let len = (HELLO_BYTES_MAX as u32).to_be_bytes();
    let mut bytes = [&[22, 3, 1, 0, 4, 1], &len[1..]].concat();
    bytes.extend([&[22, 3, 1], &(body.len() as u16).to_be_bytes()[..], &body].concat());
    bytes.extend([&[22, 3, 1], &(16u16 << 10).to_be_bytes()[..], &[0; 16 << 10]].concat());
    let mut joined = Vec::with_capacity(JOINED_BYTES_MAX);
    assert!(peek(&bytes, &mut joined).is_err(), "it is whole, and nothing is in it");
    assert_eq!((joined.len(), joined.capacity()), (JOINED_BYTES_MAX, JOINED_BYTES_MAX));
}

#[test]
fn every_part_of_a_hello_is_partial() {
    for bytes in [stock(true, "a.test"), stock(false, "a.test")] {
        let mut joined = Vec::new();
        for at in 0..bytes.len() {
            assert!(matches!(peek(&bytes[..at], &mut joined), Ok(Peek::Partial)), "{at}");
        }
        harness::hello(&bytes);
    }
}

fn in_records(message: &[u8], mut cuts: Vec<usize>) -> Vec<u8> {
    cuts.retain_mut(|cut| {
        *cut %= message.len();
        *cut > 0
    });
    cuts.extend([0, message.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    let record = |cut: &[usize]| {
        let piece = &message[cut[0]..cut[1]];
        [&[22, 3, 1], &(piece.len() as u16).to_be_bytes()[..], piece].concat()
    };
    cuts.windows(2).flat_map(record).collect()
}

/// What fuzzing has found and begun with.
#[test]
fn the_kept_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/tls_hello");
    let mut seen = 0;
    for entry in fs::read_dir(corpus).expect("the corpus is part of the repository") {
        harness::hello(&fs::read(entry.expect("readable").path()).expect("readable"));
        seen += 1;
    }
    assert!(seen > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn hellos_that_are_changed_cut_and_put_into_records(
        tls13 in any::<bool>(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(any::<usize>(), 0..70),
        end in any::<usize>(),
        is_cut in any::<bool>(),
    ) {
        let mut message = stock(tls13, "a.test")[5..].to_vec();
        for (at, byte) in changes {
            let at = at % message.len();
            message[at] = byte;
        }
        let mut bytes = in_records(&message, cuts);
        if is_cut {
            bytes.truncate(end % bytes.len());
        }
        harness::hello(&bytes);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), is_record in any::<bool>()) {
        match is_record {
            true => harness::hello(&in_records(&[&[1, 0, 0, bytes.len() as u8], &bytes[..]].concat(), Vec::new())),
            false => harness::hello(&bytes),
        }
    }
}
