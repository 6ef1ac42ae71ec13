//! What holds for any bytes; the kept corpora too.

use std::path::Path;

use proptest::prelude::*;

use crate::cache::policy::harness;
use crate::cache::policy::ranges::{self, Ranges, Resolved};

/// Bytes that are likely to mean something.
fn words(list: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => proptest::sample::select(list).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(word, 0..12).prop_map(|w| w.concat())
}

const CONTROL: &[&str] = &[
    "max-age",
    "=",
    "60",
    ",",
    " ",
    "\"",
    "\\",
    "no-cache",
    "private",
    "no-store",
    "s-maxage",
    "public",
    "a",
    ";",
    "?1",
    "(",
    ")",
    ":",
    "-",
    ".",
    "*",
    "\n",
    "stale-if-error",
];
const RANGE: &[&str] =
    &["bytes=", "0", "-", "5", ",", " ", "99999999999999999999", "1-2", "bytes ", "/", "*", "10"];
const VARY: &[&str] =
    &["Accept-Encoding", "a", ",", " ", "\n", "gzip", ";q=0.5", "\"", "\\", "*", "br", "x-"];

proptest! {
    #[test]
    fn directives_of_any_bytes(input in words(CONTROL)) {
        harness::cache_control(&input);
    }

    #[test]
    fn targeted_fields_of_any_bytes(input in words(CONTROL)) {
        harness::targeted(&input);
    }

    #[test]
    fn ranges_of_any_bytes(input in words(RANGE)) {
        harness::range(&input);
    }

    #[test]
    fn variants_of_any_bytes(input in words(VARY)) {
        harness::vary(&input);
    }

    #[test]
    fn parts_are_the_slices_that_were_asked_for(
        specs in proptest::collection::vec((0usize..200, 0usize..60), 1..16), total in 1usize..200,
    ) {
        let body: Vec<u8> = (0..total).map(|n| n as u8).collect();
        let list: Vec<_> = specs.iter().map(|(first, n)| format!("{first}-{}", first + n)).collect();
        let mut found = Ranges::new();
        let resolved = ranges::resolve(format!("bytes={}", list.join(",")).as_bytes(), total as u64, &mut found);
        // What is sent covers exactly the bytes that were asked for, each once.
        let mut asked = vec![false; total];
        for (first, n) in &specs {
            asked.iter_mut().skip(*first).take(n + 1).for_each(|byte| *byte = true);
        }
        let mut sent = vec![0; total];
        for range in &found {
            body[range.start as usize..range.end as usize].iter().for_each(|&b| sent[usize::from(b)] += 1);
        }
        prop_assert_eq!(resolved == Resolved::Satisfiable, asked.contains(&true));
        prop_assert!(sent.iter().zip(&asked).all(|(sent, asked)| *sent == i32::from(*asked)));
    }
}

#[test]
fn the_kept_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    type Body = fn(&[u8]);
    let bodies: [(&str, Body); 4] = [
        ("cache_control", harness::cache_control),
        ("cache_targeted", harness::targeted),
        ("cache_range", harness::range),
        ("cache_vary", harness::vary),
    ];
    for (name, body) in bodies {
        let mut seen = 0;
        for entry in std::fs::read_dir(corpora.join(name)).expect(name) {
            body(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
            seen += 1;
        }
        assert!(seen > 0, "{name} has no corpus");
    }
}
