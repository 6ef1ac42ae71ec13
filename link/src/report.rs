//! What a link has done, for people and as JSON, and whether what was measured over it is worth anything.

use std::fmt::Write;

use dataplane::port::link::LinkStats;
use serde_json::{Value, json};

use crate::turn::{Turning, Way};

/// Why figures that were taken over this link must not be used; empty when they may.
pub fn void(t: &Turning) -> Vec<String> {
    let mut out = Vec::new();
    let rtt_ns = rtt_ns(t);
    for (name, way) in [("up", &t.up), ("down", &t.down)] {
        let p99 = way.lateness_ns.quantile(0.99);
        if rtt_ns != 0 && p99 > rtt_ns / 20 {
            out.push(format!(
                "{name}: p99 of lateness {} is more than 5 % of the RTT of {}",
                us(p99),
                us(rtt_ns)
            ));
        }
        let s = way.stats();
        for (n, what) in [
            (way.missed, "frames dropped in front of the link: it was too slow"),
            (
                way.oversize,
                "frames longer than the interface carries: turn the sender's offloads off (ethtool -K DEV tx off)",
            ),
            (
                way.unfinished,
                "frames without a finished checksum: turn the sender's offloads off (ethtool -K DEV tx off)",
            ),
            (s.no_room, "frames dropped because as much is in flight as --memory allows"),
            (s.overrun, "frames that the far side did not take"),
        ] {
            if n != 0 {
                let error = way.send_error.as_ref().filter(|_| what.contains("far side"));
                out.push(format!("{name}: {n} {what}{}", error.map_or(String::new(), |e| format!(" ({e})"))));
            }
        }
    }
    out
}

/// The round trip's delay as it was asked for.
fn rtt_ns(t: &Turning) -> u64 {
    t.up.faults().delay_ns + t.down.faults().delay_ns
}

fn us(ns: u64) -> String {
    format!("{:.1} us", ns as f64 / 1e3)
}

/// Counts by name, in the order of a frame's way.
fn counts(way: &Way) -> [(&'static str, u64); 15] {
    let s: LinkStats = way.stats();
    [
        ("missed", way.missed),
        ("oversize", way.oversize),
        ("unfinished", way.unfinished),
        ("offered", s.offered),
        ("too_long", s.too_long),
        ("lost", s.lost),
        ("no_room", s.no_room),
        ("queue_full", s.queue_full),
        ("reordered", s.reordered),
        ("corrupted", s.corrupted),
        ("corrupted_dropped", s.corrupted_dropped),
        ("duplicated", s.duplicated),
        ("in_flight", way.held() as u64),
        ("overrun", s.overrun),
        ("delivered", s.delivered),
    ]
}

fn way_json(way: &Way) -> Value {
    let mut out = json!({ "delivered_bytes": way.stats().delivered_bytes });
    for (name, n) in counts(way) {
        out[name] = n.into();
    }
    let h = &way.lateness_ns;
    out["lateness_ns"] = json!({
        "p50": h.quantile(0.5), "p99": h.quantile(0.99), "p99_9": h.quantile(0.999), "max": h.max(),
    });
    out
}

/// All of it, in one object.
pub fn json(t: &Turning, event: &str, cpu_ns: u64) -> Value {
    let void = void(t);
    json!({
        "event": event,
        "elapsed_ns": t.elapsed_ns,
        "cpu_ns": cpu_ns,
        "rtt_ns": rtt_ns(t),
        "up": way_json(&t.up),
        "down": way_json(&t.down),
        "void": !void.is_empty(),
        "void_reasons": void,
    })
}

/// The final report.
pub fn text(t: &Turning, cpu_ns: u64) -> String {
    let mut out = String::new();
    let seconds = t.elapsed_ns as f64 / 1e9;
    let busy = cpu_ns as f64 / t.elapsed_ns.max(1) as f64 * 100.0;
    let _ = writeln!(out, "{seconds:.2} s, {busy:.0} % of a CPU");
    let _ = writeln!(out, "{:<18} {:>14} {:>14}", "", "up", "down");
    for ((name, up), (_, down)) in counts(&t.up).into_iter().zip(counts(&t.down)) {
        if up + down > 0 || ["offered", "delivered"].contains(&name) {
            let _ = writeln!(out, "{:<18} {up:>14} {down:>14}", name.replace('_', " "));
        }
    }
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        let [up, down] = [&t.up, &t.down].map(|w| us(w.lateness_ns.quantile(q)));
        let _ = writeln!(out, "{:<18} {up:>14} {down:>14}", format!("lateness {name}"));
    }
    let void = void(t);
    if void.is_empty() {
        let _ = writeln!(out, "void: no");
    } else {
        let _ = writeln!(out, "void: yes");
        for reason in void {
            let _ = writeln!(out, "  {reason}");
        }
    }
    out
}

/// A line of the block that comes each second: what is new since the last one.
pub struct Lines {
    last: [LinkStats; 2],
    last_ns: u64,
}

impl Lines {
    /// From the start.
    pub fn new() -> Lines {
        Lines { last: [LinkStats::default(); 2], last_ns: 0 }
    }

    /// The next one.
    pub fn next(&mut self, t: &Turning) -> String {
        let mut out = format!("{:>6.1} s", t.elapsed_ns as f64 / 1e9);
        let ns = (t.elapsed_ns - self.last_ns).max(1);
        for ((name, way), last) in [("up", &t.up), ("down", &t.down)].into_iter().zip(&mut self.last) {
            let s = way.stats();
            let dropped = |s: &LinkStats| {
                s.lost + s.queue_full + s.too_long + s.corrupted_dropped + s.no_room + s.overrun
            };
            let _ = write!(
                out,
                "   {name}: {:>8.2} Mbit/s {:>7} frames {:>5} dropped {:>5} in flight",
                (s.delivered_bytes - last.delivered_bytes) as f64 * 8e3 / ns as f64,
                s.delivered - last.delivered,
                dropped(&s) - dropped(last),
                way.held(),
            );
            *last = s;
        }
        self.last_ns = t.elapsed_ns;
        out
    }
}
