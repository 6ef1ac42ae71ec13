//! What connections have done, added up by listener and congestion control: how it crosses the control socket, and how
//! `millrace stats tcp` shows it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stack::tcp::{Algorithm, Class};

use super::flows::rate;

/// Whose connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Clients', by this listener of the config.
    Listener(u16),
    /// Ours, to origins.
    Origins,
}

/// Sums over the connections of one side under one algorithm.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Whose.
    pub who: Who,
    /// Congestion control; for those that have ended, the last that they had.
    pub algorithm: Algorithm,
    /// The sums.
    pub sums: Class,
}

/// The field `tcp` of `millrace stats tcp --json`: stable, and described in docs/stats.md.
pub fn to_json(rows: &[Row]) -> Value {
    let mut listeners = Vec::new();
    let mut origins = Vec::new();
    let mut algorithms: Vec<(Algorithm, Class)> = Vec::new();
    for r in rows {
        let mut row = json!({ "algorithm": r.algorithm.name() });
        fill(&mut row, &r.sums);
        match r.who {
            Who::Origins => origins.push(row),
            Who::Listener(n) => {
                row["listener"] = n.into();
                listeners.push(row);
                match algorithms.iter_mut().find(|(a, _)| *a == r.algorithm) {
                    Some((_, sums)) => sums.add(&r.sums),
                    None => algorithms.push((r.algorithm, r.sums)),
                }
            }
        }
    }
    let algorithms: Vec<Value> = algorithms
        .iter()
        .map(|(a, sums)| {
            let mut row = json!({ "algorithm": a.name() });
            fill(&mut row, sums);
            row
        })
        .collect();
    json!({ "listeners": listeners, "origins": origins, "algorithms": algorithms })
}

/// The sums, and what they come to.
fn fill(row: &mut Value, sums: &Class) {
    for (name, n) in Class::NAMES.iter().zip(sums.words()) {
        row[*name] = n.into();
    }
    let per = |n: u64, of: u64, times: f64| {
        if of == 0 { Value::Null } else { (n as f64 * times / of as f64).into() }
    };
    row["goodput_bytes_per_second"] = match sums.busy_us {
        0 => Value::Null,
        us => ((u128::from(sums.bytes_acked) * 1_000_000 / u128::from(us)) as u64).into(),
    };
    row["retransmit_percent"] = per(sums.retransmitted_segments, sums.segments_sent, 100.0);
    row["srtt_mean_us"] = sums.srtt_sum_us.checked_div(sums.srtt_flows).into();
}

/// The table for a person.
pub fn table(tcp: &Value) -> String {
    let mut o = format!(
        "{:<11} {:<6} {:>7} {:>9} {:>8} {:>10} {:>10} {:>11} {:>8} {:>6} {:>6} {:>6} {:>5} {:>9} {:>9} {:>9}\n",
        "connections",
        "",
        "open",
        "opened",
        "refused",
        "acked",
        "received",
        "segments",
        "again %",
        "rto",
        "recov",
        "tlp",
        "undo",
        "goodput",
        "rtt ms",
        "least ms"
    );
    let mut rows = |who: &dyn Fn(&Value) -> String, list: &Value| {
        for row in list.as_array().into_iter().flatten() {
            line(&mut o, &who(row), row);
        }
    };
    rows(&|r| format!("listener {}", r["listener"]), &tcp["listeners"]);
    rows(&|_| "clients".to_owned(), &tcp["algorithms"]);
    rows(&|_| "origins".to_owned(), &tcp["origins"]);
    o
}

fn line(o: &mut String, who: &str, row: &Value) {
    let n = |k: &str| row[k].as_u64().unwrap_or(0);
    let or_dash = |v: Option<String>| v.unwrap_or_else(|| "-".to_owned());
    let ms =
        |us: Option<u64>| or_dash(us.filter(|us| *us > 0).map(|us| format!("{:.2}", us as f64 / 1000.0)));
    // Writing to a String cannot fail.
    let _ = writeln!(
        o,
        "{who:<11} {:<6} {:>7} {:>9} {:>8} {:>10} {:>10} {:>11} {:>8} {:>6} {:>6} {:>6} {:>5} {:>9} {:>9} {:>9}",
        row["algorithm"].as_str().unwrap_or("?"),
        n("open"),
        n("opened"),
        n("refused"),
        bytes(n("bytes_acked")),
        bytes(n("bytes_received")),
        n("segments_sent"),
        or_dash(row["retransmit_percent"].as_f64().map(|p| format!("{p:.3}"))),
        n("timeouts"),
        n("recoveries"),
        n("tail_probes"),
        n("undone"),
        or_dash(row["goodput_bytes_per_second"].as_u64().map(rate)),
        ms(row["srtt_mean_us"].as_u64()),
        ms(Some(n("min_rtt_us"))),
    );
}

/// Bytes in four digits and a unit.
fn bytes(n: u64) -> String {
    let units = ["", "K", "M", "G", "T", "P"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 9999.5 && unit < units.len() - 1 {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{value:.0}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_what_they_come_to() {
        let sums = Class {
            open: 1,
            opened: 2,
            bytes_acked: 3_000_000,
            busy_us: 1_500_000,
            segments_sent: 2000,
            retransmitted_segments: 10,
            srtt_sum_us: 3000,
            srtt_flows: 2,
            min_rtt_us: 900,
            ..Class::default()
        };
        let row = |who, algorithm| Row { who, algorithm, sums };
        let tcp = to_json(&[
            row(Who::Listener(0), Algorithm::Cubic),
            row(Who::Listener(0), Algorithm::Bbr),
            row(Who::Listener(1), Algorithm::Cubic),
            row(Who::Origins, Algorithm::Cubic),
        ]);
        let all = &tcp["algorithms"][0];
        assert_eq!((&all["algorithm"], &all["opened"]), (&"cubic".into(), &4.into()));
        assert_eq!(all["goodput_bytes_per_second"], 2_000_000);
        assert_eq!((&all["retransmit_percent"], &all["srtt_mean_us"]), (&0.5.into(), &1500.into()));
        assert_eq!(tcp["origins"].as_array().map(Vec::len), Some(1));
        let text = table(&tcp);
        assert_eq!(text.lines().count(), 1 + 3 + 2 + 1, "{text}");
        let first = text.lines().nth(1).expect("a line").split_whitespace().collect::<Vec<_>>();
        assert_eq!(first[..6], ["listener", "0", "cubic", "1", "2", "0"]);
        assert!(text.contains(" 16.0Mbps ") && text.contains(" 0.500 ") && text.contains(" 0.90"), "{text}");
        // The columns stand under their names.
        assert_eq!(text.lines().map(str::len).collect::<std::collections::BTreeSet<_>>().len(), 1, "{text}");
    }

    #[test]
    fn nothing_yet() {
        let mut row = json!({});
        fill(&mut row, &Class::default());
        assert!(row["goodput_bytes_per_second"].is_null() && row["srtt_mean_us"].is_null());
        assert!(row["retransmit_percent"].is_null());
        assert_eq!([bytes(0), bytes(9999), bytes(10_240), bytes(3 << 40)], ["0", "9999", "10K", "3072G"]);
    }
}
