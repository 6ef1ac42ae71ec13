//! The comparison in words and figures.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::latencies::{BEYOND_MIN, of_page, pages_beyond};
use super::read::Run;
use crate::pktgen::rate::human;
use crate::pktgen::report::QUANTILES;

/// Quantiles of pages that are told.
const OF_PAGES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// A figure, and whether there are enough samples to claim it.
#[derive(Clone, Copy)]
struct Figure {
    value: f64,
    claimed: bool,
}

/// What stands in a cell, the number that a ratio is made of, and whether it can be claimed.
type Cell = (String, Option<f64>, bool);

fn single(run: &Run, q: f64) -> Figure {
    Figure { value: run.latencies.quantile(q), claimed: run.latencies.can_claim(q) }
}

/// Microseconds with about three digits.
fn us(n: f64) -> String {
    match n {
        n if n < 10.0 => format!("{n:.2}"),
        n if n < 100.0 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

fn ratio(a: f64, b: f64) -> Option<f64> {
    (a > 0.0).then_some(b / a)
}

/// For a person: a table, and what must be known to read it.
pub fn text(runs: &[Run], page: u32) -> String {
    let names = |n: usize| char::from(b'A' + n as u8);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut head = vec![String::new()];
    for (n, run) in runs.iter().enumerate() {
        head.push(format!("{} {}", names(n), run.name));
        if n > 0 {
            head.push(format!("{}/A", names(n)));
        }
    }
    rows.push(head);
    let mut row = |label: String, cell: &dyn Fn(&Run) -> Cell| {
        let mut cells = vec![label];
        let first = cell(&runs[0]);
        for (n, run) in runs.iter().enumerate() {
            let (said, value, claimed) = cell(run);
            cells.push(if claimed { said } else { format!("{said} ?") });
            if n > 0 {
                let r = first.1.zip(value).and_then(|(a, b)| ratio(a, b));
                let doubt = if claimed && first.2 { "" } else { " ?" };
                cells.push(r.map_or(String::new(), |r| format!("{r:.3}{doubt}")));
            }
        }
        rows.push(cells);
    };
    let what = runs[0].throughput.map_or("per second", |t| t.1);
    row(what.to_owned(), &|r| {
        (r.throughput.map_or("-".to_owned(), |t| human(t.0)), r.throughput.map(|t| t.0), true)
    });
    row("failed, lost".to_owned(), &|r| (r.failed.map_or("-".to_owned(), |n| n.to_string()), None, true));
    row("samples".to_owned(), &|r| (r.latencies.count().to_string(), None, true));
    let figure = |f: Figure| (us(f.value), Some(f.value), f.claimed);
    for (name, q) in QUANTILES {
        row(format!("{name}, µs"), &|r| figure(single(r, q)));
    }
    row("max, µs".to_owned(), &|r| figure(Figure { value: r.latencies.max(), claimed: true }));
    for (name, q) in OF_PAGES {
        row(format!("page of {page} {name}, µs"), &|r| figure(single(r, of_page(q, page))));
    }
    let mut t = table(&rows);
    if rows.iter().flatten().any(|c| c.ends_with('?')) {
        let _ = writeln!(
            t,
            "?  fewer than {BEYOND_MIN} samples lie beyond it, too few to claim it: p99.9 needs {}",
            BEYOND_MIN * 1000.0
        );
    }
    let _ = writeln!(
        t,
        "A page of {page} requests is as slow as its slowest: the median page as slow as p{:.3} of single requests, and \
         {:.0} % of pages meet one beyond p99. That takes requests to be slow independently of each other.",
        of_page(0.5, page) * 100.0,
        pages_beyond(0.99, page) * 100.0
    );
    t
}

/// Columns under each other: the first to the left, the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let wide = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(wide).collect();
    let mut t = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // A doubt stands right of its column, so that digits stay under digits.
            if c == 0 {
                let _ = write!(line, "{cell:width$}");
            } else if cell.ends_with('?') || !rows.iter().any(|r| r[c].ends_with('?')) {
                let _ = write!(line, "   {cell:>width$}");
            } else {
                let _ = write!(line, "   {cell:>0$}  ", width.saturating_sub(2));
            }
        }
        let _ = writeln!(t, "{}", line.trim_end());
    }
    t
}

/// For a program.
pub fn json(runs: &[Run], page: u32) -> Value {
    let told: Vec<Value> = runs
        .iter()
        .map(|r| {
            let l = &r.latencies;
            let values = |all: &[(&str, f64)], of: &dyn Fn(f64) -> f64| {
                let mut m: Map<String, Value> =
                    all.iter().map(|(n, q)| ((*n).to_owned(), l.quantile(of(*q)).into())).collect();
                let bad: Vec<&str> =
                    all.iter().filter(|(_, q)| !l.can_claim(of(*q))).map(|(n, _)| *n).collect();
                m.insert("too_few_samples".to_owned(), bad.into());
                m
            };
            let mut latency = values(&QUANTILES, &|q| q);
            latency.insert("max".to_owned(), l.max().into());
            json!({
                "name": r.name,
                "file": r.file.display().to_string(),
                "per_second": r.throughput.map(|t| t.0),
                "what": r.throughput.map(|t| t.1),
                "failed": r.failed,
                "samples": l.count(),
                "latency_us": latency,
                "page_us": values(&OF_PAGES, &|q| of_page(q, page)),
            })
        })
        .collect();
    let first = &told[0];
    let ratios: Vec<Value> = told[1..]
        .iter()
        .map(|other| {
            let of = |path: &str| {
                let pair = first.pointer(path).and_then(Value::as_f64).zip(other.pointer(path)?.as_f64());
                pair.and_then(|(a, b)| ratio(a, b))
            };
            let part = |part: &str, names: &[&str]| -> Map<String, Value> {
                names.iter().map(|n| ((*n).to_owned(), of(&format!("/{part}/{n}")).into())).collect()
            };
            let mut singles: Vec<&str> = QUANTILES.iter().map(|q| q.0).collect();
            singles.push("max");
            json!({
                "name": other["name"],
                "per_second": of("/per_second"),
                "latency": part("latency_us", &singles),
                "page": part("page_us", &OF_PAGES.map(|q| q.0)),
            })
        })
        .collect();
    json!({ "page": page, "runs": told, "ratios": ratios })
}

#[cfg(test)]
mod tests {
    use super::super::latencies::Latencies;
    use super::*;

    fn run(name: &str, samples: u32, slower: f64) -> Run {
        Run {
            name: name.to_owned(),
            file: name.into(),
            throughput: Some((f64::from(samples) * slower, "responses/s")),
            failed: None,
            latencies: Latencies::new((1..=samples).map(|v| (f64::from(v) * slower, 1)).collect())
                .expect("samples"),
        }
    }

    #[test]
    fn ratios_are_those_of_the_values() {
        let v = json(&[run("a", 1000, 1.0), run("b", 1000, 2.0), run("c", 1000, 0.5)], 10);
        for (n, r) in [(0, 2.0), (1, 0.5)] {
            for path in ["per_second", "latency/p50", "latency/p99.9", "latency/max", "page/p90"] {
                assert_eq!(v.pointer(&format!("/ratios/{n}/{path}")).and_then(Value::as_f64), Some(r), "{v}");
            }
        }
        assert_eq!(v["runs"][0]["latency_us"]["too_few_samples"], json!(["p99.9", "p99.99"]));
        assert_eq!(v["runs"][0]["page_us"]["too_few_samples"], json!(["p99"]));
    }

    #[test]
    fn what_cannot_be_claimed_is_marked() {
        let t = text(&[run("a", 1000, 1.0), run("b", 1_000_000, 2.0)], 1);
        let line = |begin: &str| t.lines().find(|l| l.starts_with(begin)).unwrap_or_default().to_owned();
        assert_eq!(line("p99, µs").matches('?').count(), 0, "{t}");
        // Of a, and of the ratio; b has enough.
        assert_eq!(line("p99.9, µs").matches('?').count(), 2, "{t}");
        assert!(line("p50").contains("2000.000"), "{t}");
        assert!(t.contains("too few to claim"), "{t}");
    }
}
