//! `docs/cache-coverage.md` and `docs/tls-coverage.md` are true as far as a test can tell: what they cite is there, and no
//! row is empty.

use std::fs;
use std::path::Path;

/// A list, and where what it cites without a folder is.
struct List {
    file: &'static str,
    /// Code. Tests are in `tests/` below it.
    folder: &'static str,
    /// It has more rows than that, and cites more tests: else it was not read.
    rows: usize,
    tests: usize,
}

#[test]
fn what_the_list_of_the_cache_cites_exists() {
    check(&List { file: "docs/cache-coverage.md", folder: "l7/src/cache/policy", rows: 80, tests: 80 });
}

#[test]
fn what_the_list_of_tls_cites_exists() {
    check(&List { file: "docs/tls-coverage.md", folder: "l7/src/tls/record", rows: 40, tests: 50 });
}

fn check(list: &List) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join(list.folder);
    let text = fs::read_to_string(root.join(list.file)).expect("the list");
    let mut faults = Vec::new();
    let mut seen = Vec::new();
    let (mut rows, mut tests) = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("| ")) {
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
            let path = if file.contains('/') { root.join(file) } else { folder.join(file) };
            if !path.is_file() {
                faults.push(format!("no file {file}: {line}"));
            }
        }
        // What starts with a capital is a type of ours, not a test.
        let citations = quoted(test).filter(|c| c.starts_with(char::is_lowercase));
        for (place, function) in citations.filter_map(|citation| citation.split_once("::")) {
            tests += 1;
            let path = match place.contains('/') {
                true => root.join(place),
                false => folder.join("tests").join(place).with_extension("rs"),
            };
            if !is_test(&path, function) {
                faults.push(format!("no test {place}::{function}: {line}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let (least_rows, least_tests) = (list.rows, list.tests);
    assert!(rows >= least_rows && tests >= least_tests, "the list is read: {rows} rows, {tests} tests");
}

/// Whether the file has a test of this name.
fn is_test(path: &Path, function: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_once(&format!("fn {function}(")).is_some_and(|(before, _)| {
        before.trim_end().rsplit('\n').next().is_some_and(|l| l.trim() == "#[test]")
    })
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}
