//! A file of requests: what is asked for, how often, and what is expected.
//!
//! ```toml
//! [[request]]
//! path = "/index.html"
//! weight = 9
//! [[request]]
//! method = "POST"
//! path = "/search"
//! headers = ["Content-Type: application/x-www-form-urlencoded"]
//! body = "q=millrace"
//! status = 200
//! sha256 = "…"
//! ```

use std::path::Path;

use crate::config::reader::{Context, Table};
use crate::config::{self, Report};

use super::request::{self, Parts, Request};

/// Requests of one file.
pub const REQUESTS_MAX: usize = 4096;
/// The largest weight.
pub const WEIGHT_MAX: u64 = 1_000_000;

/// What a request has where the file says nothing.
pub struct Common<'a> {
    /// The method.
    pub method: &'a str,
    /// Header lines, before the file's.
    pub headers: &'a [String],
    /// What Host says.
    pub host: &'a str,
    /// Whether each request has a connection of its own.
    pub close: bool,
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it: file, line, cause and mend.
pub fn load(file: &Path, common: &Common<'_>) -> Result<Vec<Request>, Report> {
    parse(file, &config::text_of(file)?, common)
}

/// Reads the text of a file; `file` is only named.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &Path, source: &str, common: &Common<'_>) -> Result<Vec<Request>, Report> {
    config::parse_with(file, source, |context, entries| {
        let top = Table::top(context, entries);
        let tables = top.tables("request");
        top.finish();
        if tables.is_empty() {
            context.report_absence(top.place(), "there is no request", "write [[request]] and its path");
        }
        if tables.len() > REQUESTS_MAX {
            let cause = format!("{} requests are too many", tables.len());
            context.report(top.place(), cause, format!("keep to {REQUESTS_MAX}"));
        }
        let all: Vec<Option<Request>> = tables.iter().map(|t| one(context, t, common)).collect();
        all.into_iter().collect()
    })
}

fn one(context: &Context<'_>, t: &Table<'_, '_>, common: &Common<'_>) -> Option<Request> {
    let path = t.require("path", "write what is asked for, as in path = \"/\"");
    let method = t.get("method");
    let body = t.get("body").and_then(|v| v.string());
    let weight = t.get("weight").map_or(Some(1), |v| v.integer(1..=WEIGHT_MAX));
    let status = t.get("status").map(|v| v.integer(200..=599));
    let hash = t.get("sha256").map(|v| (v.string().map(request::sha256), v));
    let lines = t.get("headers").map(|v| v.list_or_string()).unwrap_or_default();
    t.finish();
    let sha256 = match hash {
        Some((Some(Err(e)), v)) => {
            let (cause, mend) = e.split_once("; ").unwrap_or((&e, "mend it"));
            v.error(cause, mend);
            None
        }
        Some((Some(Ok(hash)), _)) => Some(hash),
        _ => None,
    };
    let mut headers = common.headers.to_vec();
    headers.extend(lines.iter().filter_map(|v| v.string()).map(str::to_owned));
    let parts = Parts {
        method: method.as_ref().map_or(Some(common.method), |v| v.string())?,
        path: path.as_ref()?.string()?,
        headers: &headers,
        body: body.unwrap_or("").as_bytes(),
        host: common.host,
        close: common.close,
    };
    match parts.build() {
        Ok(request) => Some(Request {
            weight: weight? as u32,
            status: status.flatten().map(|s| s as u16),
            sha256,
            ..request
        }),
        Err(e) => {
            let (cause, mend) = e.split_once("; ").unwrap_or((&e, "mend it"));
            context.report(t.place(), cause, mend);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: Common<'_> = Common { method: "GET", headers: &[], host: "10.0.0.1", close: false };

    fn read(text: &str) -> Result<Vec<Request>, Report> {
        parse(Path::new("mix.toml"), text, &COMMON)
    }

    #[test]
    fn requests_with_their_weights_and_expectations() {
        let hash = "0f".repeat(32);
        let all = read(&format!(
            "[[request]]\npath = \"/a\"\nweight = 9\n[[request]]\npath = \"/b?c\"\nmethod = \"POST\"\nbody = \"x\"\n\
             headers = [\"A: b\", \"C: d\"]\nstatus = 404\nsha256 = \"{hash}\"\n"
        ))
        .expect("good");
        assert_eq!((all.len(), all[0].weight, all[0].status, all[0].sha256), (2, 9, None, None));
        assert_eq!((all[1].weight, all[1].status, all[1].sha256), (1, Some(404), Some([15; 32])));
        assert!(all[1].bytes.starts_with(b"POST /b?c HTTP/1.1\r\nHost: 10.0.0.1\r\nA: b\r\nC: d\r\n"));
    }

    #[test]
    fn errors_name_file_line_and_mend() {
        for (text, says) in [
            ("", "mix.toml:1: there is no request; write [[request]]"),
            ("[[request]]\nweight = 1\n", "mix.toml:1: [[request]] has no \"path\"; write what is asked for"),
            (
                "[[request]]\npath = \"a\"\n",
                "mix.toml:1: the path \"a\" does not begin with /; put one in front",
            ),
            (
                "[[request]]\npath = \"/\"\nwieght = 2\n",
                "mix.toml:3: unknown key \"wieght\" in [[request]]; did you",
            ),
            (
                "[[request]]\npath = \"/\"\nweight = 0\n",
                "mix.toml:3: 0 is out of range for \"weight\"; write a",
            ),
            (
                "[[request]]\npath = \"/\"\n\nsha256 = \"00\"\n",
                "mix.toml:4: \"00\" is no SHA-256; write its 64",
            ),
            ("[[request]]\npath = \"/\"\nstatus = \"ok\"\n", "mix.toml:3: \"status\" is a string"),
            ("[[request]]\npath = \"/\"\nheaders = [\"A\"]\n", "\"A\" is no header; write it as in"),
            ("[[request]\n", "mix.toml:1: "),
        ] {
            let e = read(text).expect_err(text).to_string();
            assert!(e.contains(says), "{text}: {e}");
        }
    }
}
