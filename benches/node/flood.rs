//! What established connections keep of their goodput while strangers from as many addresses flood the node with
//! handshakes.
//!
//! Requests for a cached object over a thousand connections, so many under way at a time, as fast as the core takes them.
//! In half of the stretches strangers come in each second of the core's own time, more than it can shake hands with:
//! they only say hello and stay, or shake hands to the end and are followed by others. Seconds are those of
//! `Core::pass`; what the load takes is outside of them, and the helper thread, which works meanwhile, is held to the same
//! seconds. Strangers who shake hands leave as soon as they have done their part, so that few handshakes are counted as
//! done: the node hears of their end with their last message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataplane::counters::Snapshot;
use dataplane::{Ctr, time::cycles};
use l7::tls::offload::Host;

use crate::REQUEST;
use crate::common::crowds::Calm;
use crate::common::{self, Args, Rounds, resident_bytes, table, thousands};
use crate::cpus::keep_to;
use crate::strangers::{BODY_BYTES, Crowd, Key, PATIENCE_S, rig};
use crate::support::{Rig, Stranger};

/// Established connections.
const FLOWS: usize = 1_000;
/// Strangers who come in a second of the core's time: a core that does nothing else makes some ten thousand handshakes.
const PER_SECOND: f64 = 20_000.0;
/// At a time; the node's pool of handshakes has 4,096 places.
const STRANGERS: usize = 8_192;
/// Who comes before one pass: what they send has to go onto the wire.
const AT_ONCE: usize = 16;
/// Of the core's time: longer than it takes to send again what was lost.
const PATIENCE_NS: u64 = 10_000_000_000;
/// Seconds of the core until the pool is as full as it gets, at most.
const FILLING_S: f64 = 1.0;

/// Key, manners, requests under way.
const KINDS: [(&str, Key, Stranger, usize); 4] = [
    ("flood hello", Key::P256, Stranger::Hello, 64),
    ("flood ecdsa", Key::P256, Stranger::Shakes, 64),
    ("flood rsa", Key::Rsa2048, Stranger::Shakes, 64),
    ("flood ecdsa, few requests", Key::P256, Stranger::Shakes, 8),
];

pub fn names() -> impl Iterator<Item = String> {
    KINDS.iter().map(|k| k.0.to_owned())
}

/// Holds the helper thread to the core's time: what the load takes of the clock on the wall is not the helper's either.
struct Pace {
    /// What the core has had since the connections are open, in nanoseconds; before that: all there is.
    core: AtomicU64,
    /// CPU time of the helper until then.
    before: AtomicU64,
}

impl Pace {
    fn new() -> Pace {
        Pace { core: AtomicU64::new(u64::MAX), before: AtomicU64::new(0) }
    }
}

impl Host for Pace {
    fn started(&self, _: usize) {
        keep_to(1);
    }

    fn done(&self, _: usize) {
        let own = own_time();
        // It is to end when the bench does.
        for _ in 0..10_000 {
            match self.core.load(Ordering::Relaxed) {
                u64::MAX => return self.before.store(own, Ordering::Relaxed),
                core if own <= self.before.load(Ordering::Relaxed) + core => break,
                _ => std::thread::sleep(Duration::from_micros(20)),
            }
        }
        // Waiting is no work.
        self.before.fetch_add(own_time() - own, Ordering::Relaxed);
    }
}

/// Nanoseconds of the CPU that this thread has had.
fn own_time() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

struct Row {
    name: &'static str,
    rig: Rig,
    crowd: Crowd,
    pace: Arc<Pace>,
    calm: [Calm; 2],
    under_way: usize,
    at: usize,
    /// Of this stretch: cycles of the core, and strangers who were due by them.
    spent: u64,
    due: u64,
    /// Requests per second, without and with the flood; of each round, what is kept.
    rates: [Rounds; 2],
    kept: Rounds,
    /// Of the stretches with the flood.
    seconds: f64,
    came: u64,
    full: u64,
    shed: u64,
    helped: u64,
    active_max: u64,
    /// Resident memory after the first flood and after the last.
    resident: (u64, u64),
}

/// All that `args` wants.
pub fn run(args: &Args, hz: f64) -> Vec<serde_json::Value> {
    let wanted = KINDS.iter().filter(|k| args.wants(k.0));
    let mut rows: Vec<Row> = wanted.map(|k| Row::new(*k)).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    for r in &mut rows {
        r.stretch(args.requests, false, hz);
        r.begin_flood(hz);
        r.stretch(args.requests, true, hz);
        r.end_flood(hz);
        r.resident.0 = resident_bytes();
    }
    for _ in 0..args.rounds {
        for r in &mut rows {
            r.round(args.requests, hz);
        }
    }
    for r in &mut rows {
        r.resident.1 = resident_bytes();
    }
    if args.json {
        return rows.iter().map(Row::json).collect();
    }
    print(&rows, hz);
    Vec::new()
}

impl Row {
    fn new((name, key, manners, under_way): (&'static str, Key, Stranger, usize)) -> Row {
        keep_to(0);
        let pace = Arc::new(Pace::new());
        let mut rig = rig(&key.make(), FLOWS, STRANGERS, Arc::clone(&pace) as Arc<dyn Host>);
        pace.core.store(0, Ordering::Relaxed);
        rig.load.strangers = manners;
        Row {
            name,
            rig,
            crowd: Crowd::new(FLOWS, STRANGERS),
            pace,
            calm: Default::default(),
            under_way,
            at: 0,
            spent: 0,
            due: 0,
            rates: Default::default(),
            kept: Rounds::default(),
            seconds: 0.0,
            came: 0,
            full: 0,
            shed: 0,
            helped: 0,
            active_max: 0,
            resident: (0, 0),
        }
    }

    fn round(&mut self, requests: usize, hz: f64) {
        let quiet = requests as f64 / self.stretch(requests, false, hz);
        self.begin_flood(hz);
        let (before, came) = (self.rig.segment.read(), self.crowd.came);
        let seconds = self.stretch(requests, true, hz);
        let after = self.rig.segment.read();
        let came = self.crowd.came - came;
        self.end_flood(hz);
        let since = |c: Ctr| after.get(c) - before.get(c);
        self.seconds += seconds;
        self.came += came;
        self.full += since(Ctr::TlsFull);
        self.shed += since(Ctr::TlsShedFull) + since(Ctr::TlsShedSource);
        self.helped += since(Ctr::TlsHelped);
        let flooded = requests as f64 / seconds;
        self.rates[0].0.push(quiet);
        self.rates[1].0.push(flooded);
        self.kept.0.push(flooded / quiet);
        self.check(&after);
    }

    /// What was measured is what was meant: every request answered, none lost.
    fn check(&self, s: &Snapshot) {
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "{}: the laws hold", self.name);
        assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests), "{}", self.name);
    }

    /// So many requests. Gives the seconds of the core that they took.
    fn stretch(&mut self, requests: usize, flooded: bool, hz: f64) -> f64 {
        (self.spent, self.due) = (0, 0);
        let mut done = 0;
        while done < requests {
            done += self.burst(flooded, hz);
            let active = self.rig.segment.read().get(Ctr::TlsActive);
            self.active_max = self.active_max.max(active);
        }
        self.spent as f64 / hz
    }

    /// Strangers come until the node refuses some, or has had time enough to.
    fn begin_flood(&mut self, hz: f64) {
        let shed = |r: &Row| {
            let s = r.rig.segment.read();
            s.get(Ctr::TlsShedFull) + s.get(Ctr::TlsShedSource)
        };
        let (before, began) = (shed(self), Instant::now());
        (self.spent, self.due) = (0, 0);
        while shed(self) == before
            && self.spent as f64 / hz < FILLING_S
            && began.elapsed().as_secs() < PATIENCE_S
        {
            self.burst(true, hz);
        }
    }

    /// Those who shake hands get to the end, so that the next stretch is without; who has said hello has his answer.
    fn end_flood(&mut self, hz: f64) {
        let began = Instant::now();
        while !self.is_calm() && began.elapsed().as_secs() < PATIENCE_S {
            self.pass(1, hz);
        }
        if self.rig.load.strangers == Stranger::Shakes {
            self.crowd.leave(&mut self.rig);
        }
    }

    /// Requests on as many connections as are under way at a time, and the passes until all are answered. Gives their
    /// number.
    fn burst(&mut self, flooded: bool, hz: f64) -> usize {
        let (first, n) = (self.at, self.under_way);
        for k in 0..n {
            self.rig.load.request((first + k) % FLOWS, REQUEST);
        }
        self.at = (first + n) % FLOWS;
        let began = self.rig.now;
        loop {
            assert!(self.rig.now.0 - began.0 < PATIENCE_NS, "{}: a request is not answered", self.name);
            if flooded {
                let due = (self.spent as f64 / hz * PER_SECOND) as u64;
                let n = (due - self.due).min(AT_ONCE as u64);
                // Who cannot come at once does not come later: the rate is that of a second, not of its parts.
                self.due = due;
                self.crowd.come(&mut self.rig.load, n as usize);
            }
            self.spent += self.pass(usize::from(flooded), hz);
            let answered = |k: usize| self.rig.load.conns[(first + k) % FLOWS].got as usize > BODY_BYTES;
            if (0..n).all(answered) {
                break;
            }
        }
        n
    }

    /// Whether there is nothing more to be done for strangers.
    fn is_calm(&self) -> bool {
        let s = self.rig.segment.read();
        let nobody = self.rig.load.strangers == Stranger::Hello || self.crowd.here() == 0;
        nobody && s.get(Ctr::TlsWaiting) + s.get(Ctr::TlsAway) == 0
    }

    fn pass(&mut self, calm: usize, hz: f64) -> u64 {
        let t0 = cycles();
        self.rig.core.pass(self.rig.now);
        let took = self.calm[calm].count(cycles() - t0, 1);
        let ns = (took as f64 / hz * 1e9) as u64;
        self.rig.now = self.rig.now.plus_ns(ns);
        self.pace.core.fetch_add(ns, Ordering::Relaxed);
        self.rig.load.poll();
        self.crowd.go(&mut self.rig.load);
        took
    }

    fn grown(&self) -> f64 {
        self.resident.1 as f64 - self.resident.0 as f64
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "requests_per_second": self.rates[0].json(),
            "requests_per_second_flooded": self.rates[1].json(),
            "kept": self.kept.json(),
            "came_per_second": self.came as f64 / self.seconds,
            "full_per_second": self.full as f64 / self.seconds,
            "helped_per_second": self.helped as f64 / self.seconds,
            "shed_share": self.shed as f64 / self.came.max(1) as f64,
            "handshakes_max": self.active_max,
            "resident_growth_bytes": self.grown(),
        })
    }
}

fn print(rows: &[Row], hz: f64) {
    println!("Established connections beside a flood of handshakes. {}", common::machine(hz));
    let cells = |r: &Row| {
        let per_second = |n: u64| thousands(n as f64 / r.seconds);
        vec![
            r.name.to_owned(),
            r.under_way.to_string(),
            thousands(r.rates[0].median()),
            thousands(r.rates[1].median()),
            format!("{:.1} %", r.kept.median() * 100.0),
            format!("{:.1}", r.kept.min() * 100.0),
            format!("{:.1}", r.kept.max() * 100.0),
            per_second(r.came),
            per_second(r.full),
            per_second(r.helped),
            format!("{:.1} %", r.shed as f64 / r.came.max(1) as f64 * 100.0),
            thousands(r.active_max as f64),
            format!("{:+.1}", r.grown() / 1e6),
        ]
    };
    let head = [
        "",
        "under way",
        "req/s",
        "flooded",
        "kept",
        "min",
        "max",
        "came/s",
        "full/s",
        "helped/s",
        "shed",
        "at a time",
        "MB grown",
    ];
    table(
        "requests and strangers per second of the core's time",
        &head,
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
    println!(
        "(kept: median, min, max of the rounds; shed: tls.shed.* of those who came; at a time: the most handshakes;"
    );
    println!(
        " MB grown: resident memory of node and load, from the end of the first flood to the end of the last)"
    );
}
