//! `docs/tls-coverage.md` is true as far as a test can tell: what it cites is there, and no row is empty.

use std::fs;
use std::path::Path;

const RECORD: &str = "l7/src/tls/record";

#[test]
fn what_the_coverage_list_cites_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let list = fs::read_to_string(root.join("docs/tls-coverage.md")).expect("the list");
    let mut faults = Vec::new();
    let mut seen = Vec::new();
    let (mut rows, mut tests) = (0, 0);
    for line in list.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [section, level, requirement, code, test] = cells[..] else {
            faults.push(format!("not five cells: {line}"));
            continue;
        };
        if section == "Section" {
            continue;
        }
        rows += 1;
        if !["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"].contains(&level) || requirement.is_empty() {
            faults.push(format!("no requirement: {line}"));
        }
        if seen.contains(&(section, level, requirement)) {
            faults.push(format!("twice: {line}"));
        }
        seen.push((section, level, requirement));
        if test.is_empty() {
            faults.push(format!("neither a test nor a reason: {line}"));
        }
        for file in quoted(code) {
            let path = if file.contains('/') { root.join(file) } else { root.join(RECORD).join(file) };
            if !path.is_file() {
                faults.push(format!("no file {file}: {line}"));
            }
        }
        // What starts with a capital is a type of ours, not a test.
        let citations = quoted(test).filter(|c| c.starts_with(char::is_lowercase));
        for (place, function) in citations.filter_map(|citation| citation.split_once("::")) {
            tests += 1;
            let path = if place.contains('/') {
                root.join(place)
            } else {
                root.join(RECORD).join("tests").join(place).with_extension("rs")
            };
            let text = fs::read_to_string(&path).unwrap_or_default();
            let is_test = text.split(&format!("fn {function}(")).next().is_some_and(|before| {
                before.len() < text.len()
                    && before.trim_end().rsplit('\n').next().is_some_and(|l| l.trim() == "#[test]")
            });
            if !is_test {
                faults.push(format!("no test {place}::{function}: {line}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(rows >= 40 && tests >= 50, "the list is read: {rows} rows, {tests} tests");
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}
