//! What holds for all inputs; the harness does the asserting.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::tls::record::harness;

/// A step of a few bytes, of every kind, with contents that mean something now and then.
fn step() -> impl Strategy<Value = Vec<u8>> {
    let known: &[&[u8]] = &[
        b"",
        &[24, 0, 0, 1, 0],
        &[24, 0, 0, 1, 1],
        &[24, 0, 0],
        &[1, 1],
        &[4, 0, 0, 3, 1, 2, 3],
        &[4, 0, 0, 9, 1],
        &[1, 0],
        &[1, 90],
        &[2, 40],
        &[0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[23, 3, 3, 0, 0],
        &[b'x', 23],
        &[b'x', 23, 0, 0],
        &[24, 0, 0, 1, 1, 22],
    ];
    let content = prop_oneof![
        4 => prop::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..255),
    ];
    // Authentic ones mostly, else nothing comes far.
    let what = prop_oneof![4 => (0..4u8).prop_map(|kind| 20 | kind), 1 => any::<u8>()];
    (what, content).prop_map(|(what, content)| [&[what, content.len() as u8], content.as_slice()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(input in prop::collection::vec(any::<u8>(), 0..400)) {
        harness::records(&input);
    }

    #[test]
    fn any_steps(first in any::<u8>(), steps in prop::collection::vec(step(), 0..60)) {
        harness::records(&[&[first], steps.concat().as_slice()].concat());
    }
}

#[test]
fn the_kept_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/tls_records");
    let mut seen = 0;
    for entry in fs::read_dir(corpus).expect("the corpus is part of the repository") {
        harness::records(&fs::read(entry.expect("readable").path()).expect("readable"));
        seen += 1;
    }
    assert!(seen > 0);
}
