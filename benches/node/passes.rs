//! How long a pass of the loop takes, with and without handshakes beside it.
//!
//! 64 requests for a cached object in each burst, over a thousand established connections; in half of the stretches
//! also 64 strangers at a time who shake hands, each followed by the next when it is done, so that the helper thread
//! always has signatures to make. The clock runs over `Core::pass` only, and is the real one: the helper works meanwhile
//! as it does in a node, on another CPU.
//!
//! Stretches with and without take turns. A pass in which the kernel or a neighbour on this machine took the CPU away is
//! as long with as without: of the longest, the median of the rounds is told, and beside it the quantiles of all.

use std::sync::Arc;
use std::time::Instant;

use dataplane::{BURST_MAX, Ctr, time::cycles};

use crate::common::{Args, Rounds, table, thousands};
use crate::cpus::{Apart, keep_to};
use crate::strangers::{BODY_BYTES, Crowd, Key, PATIENCE_S, rig};
use crate::support::Rig;
use crate::{REQUEST, common};

/// Established connections.
const FLOWS: usize = 1_000;
/// Strangers at a time.
const STRANGERS: usize = 64;
/// Who comes before one pass: what they send has to go onto the wire.
const AT_ONCE: usize = 8;
/// Passes until a burst is answered, at most.
const PATIENCE: usize = 64;
const KEYS: [Key; 3] = [Key::Rsa2048, Key::Rsa4096, Key::P256];
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

pub fn names() -> impl Iterator<Item = String> {
    KEYS.iter().map(|k| format!("passes {}", k.name()))
}

/// Passes of one kind.
#[derive(Default)]
struct Side {
    cycles: Vec<f64>,
    /// Of each round.
    longest: Rounds,
    seconds: f64,
    handshakes: u64,
}

struct Row {
    name: String,
    rig: Rig,
    crowd: Crowd,
    began: Instant,
    at: usize,
    quiet: Side,
    beside: Side,
}

/// All that `args` wants.
pub fn run(args: &Args, hz: f64) -> Vec<serde_json::Value> {
    let wanted = KEYS.into_iter().zip(names()).filter(|(_, name)| args.wants(name));
    let mut rows: Vec<Row> = wanted.map(|(key, name)| Row::new(key, name)).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    for r in &mut rows {
        r.round(FLOWS * 4, false);
        r.round(FLOWS * 4, true);
        (r.quiet, r.beside) = Default::default();
    }
    for n in 0..args.rounds {
        for r in &mut rows {
            // Whoever goes first finds colder caches.
            for beside in [n % 2 == 0, n % 2 != 0] {
                r.round(args.requests, beside);
            }
        }
    }
    if args.json {
        return rows.iter().map(|r| r.json(hz)).collect();
    }
    print(&rows, hz);
    Vec::new()
}

impl Row {
    fn new(key: Key, name: String) -> Row {
        keep_to(0);
        Row {
            name,
            rig: rig(&key.make(), FLOWS, STRANGERS, Arc::new(Apart)),
            crowd: Crowd::new(FLOWS, STRANGERS),
            began: Instant::now(),
            at: 0,
            quiet: Side::default(),
            beside: Side::default(),
        }
    }

    fn round(&mut self, requests: usize, beside: bool) {
        let before = self.crowd.done;
        let (mut passes, began) = (Vec::new(), Instant::now());
        for _ in 0..requests.div_ceil(BURST_MAX) {
            self.burst(beside, &mut passes);
        }
        let side = if beside { &mut self.beside } else { &mut self.quiet };
        side.seconds += began.elapsed().as_secs_f64();
        side.handshakes += self.crowd.done - before;
        side.longest.0.push(passes.iter().copied().fold(0.0, f64::max));
        side.cycles.append(&mut passes);
        // Those who are here get what they came for, so that nobody shakes hands in the next stretch without.
        let began = Instant::now();
        while self.crowd.here() > 0 && began.elapsed().as_secs() < PATIENCE_S {
            self.pass();
        }
        self.crowd.leave(&mut self.rig);
        let s = self.rig.segment.read();
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "{}: the laws hold", self.name);
        assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests), "{}", self.name);
    }

    fn burst(&mut self, beside: bool, passes: &mut Vec<f64>) {
        let first = self.at;
        for k in 0..BURST_MAX {
            self.rig.load.request((first + k) % FLOWS, REQUEST);
        }
        self.at = (first + BURST_MAX) % FLOWS;
        for k in 0.. {
            assert!(k < PATIENCE, "{}: a request is not answered", self.name);
            if beside {
                let more = STRANGERS - self.crowd.here();
                self.crowd.come(&mut self.rig.load, more.min(AT_ONCE));
            }
            passes.push(self.pass());
            let answered = |k: usize| self.rig.load.conns[(first + k) % FLOWS].got as usize > BODY_BYTES;
            if (0..BURST_MAX).all(answered) {
                return;
            }
        }
    }

    /// Gives the cycles that it took.
    fn pass(&mut self) -> f64 {
        let now = dataplane::Time(1_000_000_000).plus_ns(self.began.elapsed().as_nanos() as u64);
        self.rig.now = now.max(self.rig.now);
        let t0 = cycles();
        self.rig.core.pass(self.rig.now);
        let took = cycles() - t0;
        self.rig.load.poll();
        self.crowd.go(&mut self.rig.load);
        took as f64
    }

    fn json(&self, hz: f64) -> serde_json::Value {
        let side = |s: &Side| {
            let [p50, p99, p999] = s.quantiles(hz);
            serde_json::json!({
                "passes": s.cycles.len(), "us_p50": p50, "us_p99": p99, "us_p999": p999,
                "us_longest_of_rounds": s.longest.0.iter().map(|c| c / hz * 1e6).collect::<Vec<_>>(),
                "handshakes_per_second": s.handshakes as f64 / s.seconds,
            })
        };
        serde_json::json!({ "name": self.name, "without": side(&self.quiet), "with": side(&self.beside) })
    }
}

impl Side {
    /// Microseconds.
    fn quantiles(&self, hz: f64) -> [f64; 3] {
        let mut sorted = self.cycles.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        QUANTILES.map(|q| sorted.get((last as f64 * q).round() as usize).map_or(0.0, |c| c / hz * 1e6))
    }

    /// The quantiles, the longest (median, least and most of the rounds).
    fn figures(&self, hz: f64) -> Vec<f64> {
        let us = |cycles: f64| cycles / hz * 1e6;
        let mut all = self.quantiles(hz).to_vec();
        all.extend([us(self.longest.median()), us(self.longest.min()), us(self.longest.max())]);
        all
    }
}

fn print(rows: &[Row], hz: f64) {
    println!("Passes of the loop beside handshakes. {}", common::machine(hz));
    let mut cells = Vec::new();
    for r in rows {
        let (quiet, beside) = (r.quiet.figures(hz), r.beside.figures(hz));
        let ratio: Vec<f64> = beside.iter().zip(&quiet).map(|(b, q)| b / q).collect();
        let of = |s: &Side| [thousands(s.cycles.len() as f64), thousands(s.handshakes as f64 / s.seconds)];
        for (what, figures, more) in [
            ("without", &quiet, of(&r.quiet)),
            ("with", &beside, of(&r.beside)),
            ("ratio", &ratio, [String::new(), String::new()]),
        ] {
            let digits = if what == "ratio" { 3 } else { 1 };
            let mut line = vec![format!("{}, {what}", r.name)];
            line.extend(figures.iter().map(|f| format!("{f:.digits$}")));
            line.extend(more);
            cells.push(line);
        }
    }
    let head = ["", "p50", "p99", "p99.9", "longest", "least", "most", "passes", "handshakes/s"];
    table("microseconds of a pass, 64 requests in a burst", &head, &cells);
    println!(
        "(longest: median, least and most of the rounds' longest passes, interruptions by others and all;"
    );
    println!(" handshakes/s: by the clock on the wall, in which the load takes its share of the CPU)");
}
