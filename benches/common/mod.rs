//! What the benches share: arguments, interleaved rounds, medians, tables.

#![allow(dead_code)] // Each bench uses its part of it.

pub mod crowds;
pub mod engine;

use std::collections::HashMap;

/// `--json`, `--rounds N`, `--requests N`, `--only TEXT`; what cargo adds is ignored.
pub struct Args {
    pub json: bool,
    pub rounds: usize,
    /// Requests per row and round.
    pub requests: usize,
    /// Only rows whose name contains it.
    pub only: String,
}

impl Args {
    pub fn parse(requests: usize) -> Args {
        let mut a = Args { json: false, rounds: 7, requests, only: String::new() };
        let mut words = std::env::args().skip(1);
        while let Some(w) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            match w.as_str() {
                "--json" => a.json = true,
                "--rounds" => a.rounds = number(&value()),
                "--requests" => a.requests = number(&value()),
                "--only" => a.only = value(),
                "--bench" => {}                    // From `cargo bench`.
                "--test" => std::process::exit(0), // From `cargo test --benches`: nothing to test here.
                _ => die(&format!("unknown argument {w}; known: --json --rounds N --requests N --only TEXT")),
            }
        }
        a
    }

    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

fn number(s: &str) -> usize {
    s.parse().ok().filter(|n| *n > 0).unwrap_or_else(|| die(&format!("{s:?} is not a number above 0")))
}

fn die(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(2)
}

/// A figure of every round.
#[derive(Clone, Default)]
pub struct Rounds(pub Vec<f64>);

impl Rounds {
    pub fn median(&self) -> f64 {
        let mut v = self.0.clone();
        v.sort_by(f64::total_cmp);
        match v.len() {
            0 => 0.0,
            n if n % 2 == 1 => v[n / 2],
            n => (v[n / 2 - 1] + v[n / 2]) / 2.0,
        }
    }

    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "median": self.median(), "min": self.min(), "max": self.max(), "rounds": self.0 })
    }
}

/// Bursts in a stretch: stage counters are read once in a stretch, and a stretch is short beside the time that
/// the kernel gives a thread, so that the median stretch is one that was not interrupted.
pub const STRETCH: usize = 8;

/// The median of many.
pub fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(middle, f64::total_cmp).1 }
}

/// A table in plain text: the first column to the left, the others to the right.
pub fn table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |i: usize| {
        let cells = rows.iter().map(|r| r[i].chars().count());
        cells.chain([head[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let parts: Vec<String> =
            cells
                .enumerate()
                .map(|(i, c)| {
                    if i == 0 { format!("{c:<w$}", w = widths[i]) } else { format!("{c:>w$}", w = widths[i]) }
                })
                .collect();
        println!("{}", parts.join("  ").trim_end());
    };
    println!("\n{title}");
    line(&mut head.iter().copied());
    for r in rows {
        line(&mut r.iter().map(String::as_str));
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A line about the machine, for the head of a report.
pub fn machine(hz: f64) -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let fields: HashMap<&str, &str> =
        info.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
    let cpu = fields.get("model name").copied().unwrap_or("unknown CPU");
    // Not those that this thread is kept to.
    let n = info.lines().filter(|l| l.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{n} x {cpu}, TSC {:.2} GHz, Linux {}", hz / 1e9, kernel.trim())
}

/// Memory that this process has resident, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    pages * 4096
}
