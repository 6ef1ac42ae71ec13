//! What a run of the packet generator has to say: for a person, for a program, and for HdrHistogram's tools.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use dataplane::Ctr;
use dataplane::counters::{Histogram, Snapshot};
use serde_json::{Value, json};

use super::generator::{End, Tally};
use super::look::Seen;
use super::probe;
use super::rate::{GAP_BYTES, human};

/// The quantiles that are told.
pub const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// A run that is over.
pub struct Report<'a> {
    /// How it ended.
    pub end: &'a End,
    /// What was counted.
    pub tally: &'a Tally,
    /// The core's counters.
    pub counters: &'a Snapshot,
    /// The port.
    pub port: String,
    /// The rate that was asked for.
    pub rate: String,
}

impl Report<'_> {
    fn seconds(&self) -> f64 {
        (self.end.sending_ns as f64 / 1e9).max(1e-9)
    }

    /// Frames that the port has taken, and those that it has not.
    fn sent(&self) -> (u64, u64, u64, u64) {
        let made = self.tally.made.load(Relaxed);
        let errors = self.counters.get(Ctr::DropTxPortError);
        let full = self.counters.get(Ctr::DropTxQueueFull);
        let queued = self.counters.get(Ctr::TxQueued);
        (made - (errors + full + queued).min(made), errors, full, queued)
    }

    fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Seen::ALL.iter().zip(&self.tally.seen).map(|(s, n)| (s.name(), n.load(Relaxed)))
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut t = String::new();
        let (sent, errors, full, queued) = self.sent();
        let made = self.tally.made.load(Relaxed);
        let bits = self.tally.made_bytes.load(Relaxed) as f64 * 8.0;
        let wire = bits + (made * GAP_BYTES * 8) as f64;
        let s = self.seconds();
        let _ = writeln!(
            t,
            "sent       {sent} frames in {s:.3} s: {}pps, {}bps, {}bps with gaps (asked: {})",
            human(sent as f64 / s),
            human(bits / s),
            human(wire / s),
            self.rate
        );
        if errors + full + queued > 0 {
            let _ = writeln!(
                t,
                "not sent   {errors} refused by the port, {full} found its queue full, {queued} left in it"
            );
        }
        if self.end.behind >= 1.0 {
            let _ = writeln!(
                t,
                "behind     the core came too late for {} of what the rate would have been",
                human(self.end.behind)
            );
        }
        let got: Vec<String> =
            self.seen().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
        let all = self.counters.get(Ctr::RxPackets);
        let dropped = self.counters.get(Ctr::DropPortMissed)
            + self.counters.get(Ctr::DropPortNoBuffer)
            + self.counters.get(Ctr::DropPortTooLong);
        let _ = writeln!(
            t,
            "received   {all} frames{}{}",
            if got.is_empty() { String::new() } else { format!(": {}", got.join(", ")) },
            if dropped > 0 { format!("; {dropped} dropped by the port") } else { String::new() }
        );
        for stream in &self.end.streams {
            let _ = writeln!(t, "stream     {}: {} frames", stream.text, stream.made);
            if let Some(p) = &stream.probes {
                let _ = writeln!(
                    t,
                    "  back     {} ({} lost, {} twice, {} out of order)",
                    p.unique,
                    stream.made - p.unique.min(stream.made),
                    p.duplicates,
                    p.reordered
                );
                if p.unique > 0 {
                    let _ = writeln!(t, "  latency  {}", quantiles(&p.latency));
                }
            }
        }
        t
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let (sent, errors, full, queued) = self.sent();
        let s = self.seconds();
        let made = self.tally.made.load(Relaxed);
        let bytes = self.tally.made_bytes.load(Relaxed);
        let streams: Vec<Value> = self
            .end
            .streams
            .iter()
            .map(|stream| {
                let mut v = json!({ "stream": stream.text, "frames": stream.made });
                if let Some(p) = &stream.probes {
                    v["probes"] = probes(stream.made, p);
                }
                v
            })
            .collect();
        let seen: serde_json::Map<String, Value> =
            self.seen().map(|(name, n)| (name.to_owned(), n.into())).collect();
        json!({
            "port": self.port,
            "rate": self.rate,
            "seconds": s,
            "tx": {
                "frames": sent,
                "made": made,
                "bytes": bytes,
                "pps": sent as f64 / s,
                "bps": bytes as f64 * 8.0 / s,
                "wire_bps": (bytes + made * GAP_BYTES) as f64 * 8.0 / s,
                "refused": errors,
                "queue_full": full,
                "left": queued,
                "behind": self.end.behind,
            },
            "rx": {
                "frames": self.counters.get(Ctr::RxPackets),
                "bytes": self.counters.get(Ctr::RxBytes),
                "missed": self.counters.get(Ctr::DropPortMissed),
                "no_buffer": self.counters.get(Ctr::DropPortNoBuffer),
                "too_long": self.counters.get(Ctr::DropPortTooLong),
                "kinds": seen,
            },
            "streams": streams,
        })
    }
}

fn probes(made: u64, p: &probe::Seen) -> Value {
    let mut latency = serde_json::Map::new();
    for (name, q) in QUANTILES {
        latency.insert(name.to_owned(), (p.latency.quantile(q) as f64 / 1e3).into());
    }
    latency.insert("max".to_owned(), (p.latency.max() as f64 / 1e3).into());
    json!({
        "back": p.unique,
        "lost": made - p.unique.min(made),
        "duplicates": p.duplicates,
        "reordered": p.reordered,
        "too_old": p.too_old,
        "latency_us": latency,
        "histogram_us": histogram_us(&p.latency),
    })
}

/// The buckets that have something in them: the highest value of each in microseconds, and how many.
pub fn histogram_us(h: &Histogram) -> Value {
    h.buckets().map(|(ns, n)| json!([ns as f64 / 1e3, n])).collect()
}

fn quantiles(h: &Histogram) -> String {
    let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
    let mut all: Vec<String> =
        QUANTILES.iter().map(|(name, q)| format!("{name} {}", us(h.quantile(*q)))).collect();
    all.push(format!("max {} µs", us(h.max())));
    all.join(", ")
}

/// HdrHistogram's percentile distribution, in microseconds: what its plotters read.
///
/// # Errors
/// When the file cannot be written.
pub fn write_hdr(file: &Path, h: &Histogram) -> io::Result<()> {
    let mut t = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let total = h.count();
    // Five ticks to each halving of what is left, as its own tools print.
    let mut left = 1.0f64;
    while total > 0 && left * total as f64 >= 0.5 {
        for tick in 0..5 {
            let q = 1.0 - left * (1.0 - f64::from(tick) / 10.0);
            let _ = writeln!(
                t,
                "{:12.3} {q:14.12} {:10} {:14.2}",
                h.quantile(q) as f64 / 1e3,
                (q * total as f64).ceil(),
                1.0 / (1.0 - q)
            );
        }
        left /= 2.0;
    }
    let _ = writeln!(t, "{:12.3} {:14.12} {total:10}", h.max() as f64 / 1e3, 1.0);
    let _ = writeln!(t, "#[Max     = {:12.3}, Total count    = {total:12}]", h.max() as f64 / 1e3);
    std::fs::write(file, t)
}
