//! `docs/tcp-coverage.md` is true as far as a test can tell: what it cites is there, no row is empty, and every numbered
//! requirement of RFC 9293's appendix B has a row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The numbers of appendix B: all from 1 to the last, of each kind.
const NUMBERED: [(&str, u32); 4] = [("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];

/// Files without a folder are of one of these.
const CODE: [&str; 3] = ["stack/src/tcp", "stack/src", "stack/src/tcp/cc"];
const TESTS: &str = "stack/tests/net";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn what_the_coverage_list_cites_exists() {
    let list = fs::read_to_string(root().join("docs/tcp-coverage.md")).expect("the list");
    let (mut faults, mut seen, mut tests) = (Vec::new(), BTreeSet::new(), 0);
    for line in list.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, requirement, code, test] = cells[..] else {
            faults.push(format!("not four cells: {line}"));
            continue;
        };
        if number == "Requirement" {
            continue;
        }
        if requirement.is_empty() || code.is_empty() && test.is_empty() {
            faults.push(format!("an empty row: {line}"));
        }
        if test.is_empty() {
            faults.push(format!("neither a test nor a reason: {line}"));
        }
        if !seen.insert((number.to_owned(), requirement.to_owned())) {
            faults.push(format!("twice: {line}"));
        }
        for file in quoted(code) {
            let found = match file.contains('/') {
                true => root().join(file).exists(),
                false => CODE.iter().any(|folder| root().join(folder).join(file).is_file()),
            };
            if !found {
                faults.push(format!("no file {file}: {line}"));
            }
        }
        for citation in quoted(test) {
            let Some((place, function)) = citation.split_once("::") else { continue };
            tests += 1;
            if !is_test(place, function) {
                faults.push(format!("no test {citation}: {line}"));
            }
        }
    }
    for (kind, last) in NUMBERED {
        for n in 1..=last {
            let number = format!("{kind}-{n}");
            if !seen.iter().any(|(of, _)| *of == number) {
                faults.push(format!("no row for {number}"));
            }
        }
        let beyond = format!("{kind}-{}", last + 1);
        if seen.iter().any(|(of, _)| *of == beyond) {
            faults.push(format!("appendix B has no {beyond}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen.len() >= 160 && tests >= 120, "the list is read: {} rows, {tests} tests", seen.len());
}

/// Whether `place` has a test of this name.
fn is_test(place: &str, function: &str) -> bool {
    let path = match place.contains('/') {
        true => root().join(place),
        false => root().join(TESTS).join(place).with_extension("rs"),
    };
    let text = fs::read_to_string(&path).unwrap_or_default();
    text.split_once(&format!("fn {function}(")).is_some_and(|(before, _)| {
        before.trim_end().rsplit('\n').next().is_some_and(|l| l.trim() == "#[test]")
    })
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}
