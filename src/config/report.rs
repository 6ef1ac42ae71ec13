//! What is wrong with a config: the errors, where each one is, and how they are shown.
//!
//! One error is one line, `FILE:LINE: cause; mend`, so that editors and scripts can jump to it. Everything in
//! the file is reported in one go: an operator should not have to run `check` once per typing error.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One thing that is wrong, with its place and the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Error {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path of the key, as in `port[0].device`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, one clause.
    pub cause: String,
    /// What to do about it, one clause.
    pub mend: String,
    /// True where the cause is that something is absent. After a syntax error such errors are doubtful (the
    /// missing thing may stand in the part that could not be read), so they are left out.
    #[serde(skip)]
    pub absence: bool,
}

/// All errors of one file, in the file's order.
#[derive(Debug, Clone)]
pub struct Report {
    file: PathBuf,
    source: String,
    errors: Vec<Error>,
}

/// What is not wrong with a good file, but worth saying.
#[derive(Debug, Clone)]
pub struct Warnings {
    file: PathBuf,
    warnings: Vec<Error>,
}

/// The stable answer of `check --json`.
#[derive(Serialize)]
struct Json<'a> {
    file: String,
    ok: bool,
    errors: &'a [Error],
    warnings: &'a [Error],
}

impl Warnings {
    /// Of this file; none is usual.
    pub fn new(file: &Path, mut warnings: Vec<Error>) -> Warnings {
        warnings.sort_by_key(|e| (e.line, e.column));
        Warnings { file: file.to_path_buf(), warnings }
    }

    /// A line for each: `FILE:LINE: warning: cause; mend`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let file = self.file.display();
        self.warnings.iter().map(move |w| format!("{file}:{}: warning: {}; {}", w.line, w.cause, w.mend))
    }

    /// The answer of `check --json`.
    pub fn json(&self) -> String {
        json(&self.file, &[], &self.warnings)
    }
}

impl Report {
    /// A report over `errors`; `source` is the file's text where there is one (for the caret).
    pub fn new(file: &Path, source: &str, mut errors: Vec<Error>) -> Report {
        debug_assert!(!errors.is_empty(), "a report without errors is not a report");
        errors.sort_by_key(|e| (e.line, e.column));
        Report { file: file.to_path_buf(), source: source.to_string(), errors }
    }

    /// A report on a file that could not be read at all.
    pub fn unreadable(file: &Path, cause: String, mend: &str) -> Report {
        let error =
            Error { line: 1, column: 1, key: String::new(), cause, mend: mend.to_string(), absence: false };
        Report::new(file, "", vec![error])
    }

    /// The errors, in the file's order; never empty.
    pub fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// One line per error and under each the line that it is about, with a caret: for a terminal.
    pub fn with_source(&self) -> String {
        let mut out = String::new();
        for error in &self.errors {
            let _ = writeln!(out, "{}", self.line_of(error));
            let Some(line) = self.source.lines().nth(error.line - 1).filter(|l| !l.trim().is_empty()) else {
                continue;
            };
            // A tab is one column wide here, so that the caret stands where it should. Lines can be long and
            // hold anything: they are cut, and control characters do not reach the terminal.
            let shown: String =
                line.chars().take(160).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = writeln!(out, "{:>6} | {}", error.line, shown.trim_end());
            if error.column <= 160 {
                let _ = writeln!(out, "       | {:>1$}", "^", error.column);
            }
        }
        out
    }

    /// The answer of `check --json`.
    pub fn json(&self) -> String {
        json(&self.file, &self.errors, &[])
    }

    fn line_of(&self, error: &Error) -> String {
        format!("{}:{}: {}; {}", self.file.display(), error.line, error.cause, error.mend)
    }
}

/// `check --json` for a file with these errors; none means that it is good.
pub fn json(file: &Path, errors: &[Error], warnings: &[Error]) -> String {
    let answer = Json { file: file.display().to_string(), ok: errors.is_empty(), errors, warnings };
    serde_json::to_string(&answer).expect("strings and numbers always serialise")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_char('\n')?;
            }
            f.write_str(&self.line_of(error))?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Line and column, both from 1, of a byte offset; an offset past the end or inside a character is rounded down.
pub fn position(source: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A value from the file, quoted for one line of a report: escaped, and cut where it is long.
pub fn quote(value: &str) -> String {
    const CHARS_MAX: usize = 60;
    if value.chars().count() <= CHARS_MAX {
        return format!("{value:?}");
    }
    let head: String = value.chars().take(CHARS_MAX).collect();
    format!("{head:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = "ab\nüx\n";
        assert_eq!(position(source, 0), (1, 1));
        assert_eq!(position(source, 3), (2, 1));
        assert_eq!(position(source, 4), (2, 1), "inside the two bytes of ü");
        assert_eq!(position(source, 5), (2, 2));
        assert_eq!(position(source, 99), (3, 1));
        assert_eq!(position("", 0), (1, 1));
    }

    #[test]
    fn a_report_is_one_line_per_error_in_the_files_order() {
        let error = |line, cause: &str| Error {
            line,
            column: 3,
            key: "k".into(),
            cause: cause.into(),
            mend: "mend it".into(),
            absence: false,
        };
        let report =
            Report::new(Path::new("a.toml"), "x = 1\n\ty = 2\n", vec![error(2, "late"), error(1, "early")]);
        assert_eq!(report.to_string(), "a.toml:1: early; mend it\na.toml:2: late; mend it");
        assert!(report.with_source().contains("     2 |  y = 2\n       |   ^\n"), "{}", report.with_source());
        assert_eq!(
            report.json(),
            r#"{"file":"a.toml","ok":false,"errors":[{"line":1,"column":3,"key":"k","cause":"early","mend":"mend it"},{"line":2,"column":3,"key":"k","cause":"late","mend":"mend it"}],"warnings":[]}"#
        );
        let warnings = Warnings::new(Path::new("a.toml"), vec![error(2, "late"), error(1, "early")]);
        let lines: Vec<String> = warnings.lines().collect();
        assert_eq!(lines, ["a.toml:1: warning: early; mend it", "a.toml:2: warning: late; mend it"]);
        assert!(
            warnings.json().starts_with(r#"{"file":"a.toml","ok":true,"errors":[],"warnings":[{"line":1"#)
        );
    }

    #[test]
    fn quoted_values_stay_on_one_line() {
        assert_eq!(quote("a\nb"), r#""a\nb""#);
        assert!(quote(&"x".repeat(1000)).chars().count() < 80);
    }
}
