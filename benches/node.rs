//! A whole core in memory: requests per second and cycles per request, from the wire to the wire.
//!
//! The core is the node's own (`mem` port, stack, proxy, counters); the load is frames made by hand on the other
//! end of the wire, up to 64 requests at a time. The clock runs over `Core::pass` only: the generator's cost is
//! outside of it, the copies off and onto the wire are within. Requests per second are what one core would do
//! at that cost without a pause. What the generator took is shown apart.
//!
//! With DPDK in the build there are rows over a `net_ring` device as well, whose other end is the generator's in the same
//! thread: what a NIC's driver would do with mbufs is the core's, and checksums are verified and filled in by it, as such
//! a device does neither. The rows `sums` are the `mem` port's to hold them against.
//!
//! Only when they are asked for, as they take minutes: `--only passes`, how long passes are with and without handshakes
//! beside them (by RSA with 2048 and 4096 bits, by ECDSA), and `--only flood`, what established connections keep of their
//! goodput in a flood of handshakes.
//!
//! `cargo bench -p millrace --bench node -- [--json] [--rounds N] [--requests N] [--only TEXT]`

#[path = "../tests/support/mod.rs"]
mod support;

mod common;
#[path = "node/cpus.rs"]
mod cpus;
#[path = "node/flood.rs"]
mod flood;
#[path = "node/passes.rs"]
mod passes;
#[path = "node/strangers.rs"]
mod strangers;

use common::{Args, Rounds, STRETCH, machine, median, table, thousands};
use dataplane::counters::{Histogram, Snapshot, bucket_of};
use dataplane::{BURST_MAX, Clock, Ctr, Stage, time::cycles};
use support::tls::TlsOf;
use support::{Rig, Shared, Who};

const REQUEST: &[u8] = common::engine::REQUEST;
const BODY_BYTES: usize = 1024;
const STAGES: [Stage; 7] =
    [Stage::Rx, Stage::Parse, Stage::Tcp, Stage::Http, Stage::Output, Stage::Tx, Stage::Timers];

/// Who answers.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The node, with a fixed body: HTTP without cache and origin.
    Stub,
    /// The cache: one object, fresh.
    Cached,
    /// The origin, each time.
    Proxied,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Stub => "stub",
            Kind::Cached => "cached",
            Kind::Proxied => "proxied",
        }
    }
}

/// What is between the node and the load.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    /// Two copies; frames are trusted.
    Mem,
    /// The same, with checksums.
    Sums,
    /// As `Mem`, and clients speak TLS 1.3.
    Tls,
    /// Rings of mbufs, by DPDK's port; with checksums.
    #[cfg(feature = "dpdk")]
    Ring,
}

impl Wire {
    fn name(self) -> &'static str {
        match self {
            Wire::Mem => "",
            Wire::Sums => " sums",
            Wire::Tls => " tls",
            #[cfg(feature = "dpdk")]
            Wire::Ring => " ring",
        }
    }
}

struct Row {
    name: String,
    kind: Kind,
    rig: Rig,
    at: usize,
    cycles: Rounds,
    /// The generator's cycles per request.
    generator: Rounds,
    /// Of every request: its share of the passes that it took.
    latency: Histogram,
    /// Requests measured.
    requests: usize,
    /// Cycles per packet by stage, and packets.
    stages: Vec<(Rounds, f64)>,
}

impl Row {
    fn new(kind: Kind, conns: usize, wire: Wire) -> Row {
        let who = match kind {
            Kind::Stub => Who::Stub(BODY_BYTES),
            Kind::Cached => Who::Cached,
            Kind::Proxied => Who::Proxy,
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: max-age=86400\r\nETag: \"6745-400\"\r\n\
             Content-Length: {BODY_BYTES}\r\n\r\n"
        );
        let response = [head.as_bytes(), &[b'y'; BODY_BYTES]].concat();
        let mut rig = match wire {
            Wire::Mem => Rig::new(who, conns, response),
            Wire::Sums => {
                let mut shared = Shared::new(1);
                shared.has_checksums = true;
                Rig::with_cores(who, conns, response, &shared, |_, _, _| 0)
            }
            Wire::Tls => {
                let mut shared = Shared::new(1);
                shared.tls = Some(TlsOf::new());
                Rig::with_cores(who, conns, response, &shared, |_, _, _| 0)
            }
            #[cfg(feature = "dpdk")]
            Wire::Ring => Rig::on_ring(&who, conns, response),
        };
        rig.open_all();
        Row {
            name: format!("{} {}{}", kind.name(), thousands(conns as f64), wire.name()),
            kind,
            rig,
            at: 0,
            cycles: Rounds::default(),
            generator: Rounds::default(),
            latency: Histogram::default(),
            requests: 0,
            stages: vec![(Rounds::default(), 0.0); STAGES.len()],
        }
    }

    /// One burst of requests, and the passes until all are answered. Gives cycles in the core, in the generator, and
    /// requests.
    fn burst(&mut self) -> (u64, u64, usize) {
        let conns = self.rig.load.conns.len();
        let n = conns.min(BURST_MAX);
        let first = self.at;
        let t0 = cycles();
        for k in 0..n {
            self.rig.load.request((first + k) % conns, REQUEST);
        }
        let mut generator = cycles() - t0;
        self.at = (first + n) % conns;
        // Proxied: the request on to the origin in the first pass, its response to the client in the second. A
        // connection to the origin that must first be opened takes two more.
        let passes = if self.kind == Kind::Proxied { 2 } else { 1 };
        let mut spent = 0;
        for k in 0.. {
            assert!(k < 8, "{}: a request is not answered", self.name);
            if k >= passes && (0..n).all(|k| self.is_answered(first + k)) {
                break;
            }
            // About a microsecond of the connections' time passes per request.
            self.rig.now = self.rig.now.plus_ns(1_000 * n as u64 / passes);
            let t0 = cycles();
            self.rig.core.pass(self.rig.now);
            self.rig.load.drive();
            let t1 = cycles();
            spent += t1 - t0;
            self.rig.load.poll();
            generator += cycles() - t1;
        }
        (spent, generator, n)
    }

    fn is_answered(&self, i: usize) -> bool {
        let conns = &self.rig.load.conns;
        conns[i % conns.len()].got as usize > BODY_BYTES
    }

    fn run(&mut self, requests: usize) {
        let mut done = 0;
        while done < requests {
            done += self.burst().2;
        }
    }

    /// A round's figures are those of its median burst (stages: stretch), as a burst that the kernel or a
    /// neighbour on this machine interrupts says nothing of the node; what such bursts cost is in `latency`.
    fn round(&mut self, requests: usize) {
        let (mut bursts, mut generators) = (Vec::new(), Vec::new());
        let mut stages = vec![Vec::new(); STAGES.len()];
        let mut done = 0;
        while done < requests {
            let before = self.rig.segment.read();
            let mut stretch = 0;
            for _ in 0..STRETCH {
                let (spent, generator, n) = self.burst();
                generators.push(generator as f64 / n as f64);
                self.latency.add(bucket_of(spent / n as u64), n as u64);
                bursts.push(spent as f64 / n as f64);
                stretch += n;
            }
            let after = self.rig.segment.read();
            for ((stage, values), (_, per_request)) in STAGES.iter().zip(&mut stages).zip(&mut self.stages) {
                let (a, b) = (before.stage(*stage), after.stage(*stage));
                let packets = b.packets - a.packets;
                if packets > 0 {
                    values.push((b.cycles - a.cycles) as f64 / packets as f64);
                }
                *per_request += packets as f64;
            }
            done += stretch;
        }
        self.requests += done;
        self.cycles.0.push(median(&mut bursts));
        self.generator.0.push(median(&mut generators));
        for (values, (rounds, _)) in stages.iter_mut().zip(&mut self.stages) {
            rounds.0.push(median(values));
        }
    }
}

fn main() {
    let args = Args::parse(100_000);
    let hz = Clock::calibrated().cycles_per_second() as f64;
    if passes::names().chain(flood::names()).any(|name| !args.only.is_empty() && args.wants(&name)) {
        let rows = [passes::run(&args, hz), flood::run(&args, hz)].concat();
        if args.json {
            println!("{:#}", serde_json::json!({ "bench": "node", "machine": machine(hz), "rows": rows }));
        }
        return;
    }
    let mut kinds = vec![
        (Kind::Stub, 1, Wire::Mem),
        (Kind::Stub, 1_000, Wire::Mem),
        (Kind::Stub, 10_000, Wire::Mem),
        (Kind::Cached, 1, Wire::Mem),
        (Kind::Cached, 1_000, Wire::Mem),
        (Kind::Cached, 10_000, Wire::Mem),
        (Kind::Proxied, 1, Wire::Mem),
        (Kind::Proxied, 1_000, Wire::Mem),
        (Kind::Cached, 1, Wire::Sums),
        (Kind::Cached, 1_000, Wire::Sums),
        (Kind::Proxied, 1_000, Wire::Sums),
        (Kind::Cached, 1, Wire::Tls),
        (Kind::Cached, 1_000, Wire::Tls),
        (Kind::Cached, 10_000, Wire::Tls),
        (Kind::Proxied, 1_000, Wire::Tls),
    ];
    #[cfg(feature = "dpdk")]
    kinds.extend([
        (Kind::Cached, 1, Wire::Ring),
        (Kind::Cached, 1_000, Wire::Ring),
        (Kind::Proxied, 1_000, Wire::Ring),
    ]);
    let name = |k: Kind, n: usize, w: Wire| format!("{} {n}{}", k.name(), w.name());
    kinds.retain(|(k, n, w)| args.wants(&name(*k, *n, *w)));
    let mut rows: Vec<Row> = kinds.into_iter().map(|(k, n, w)| Row::new(k, n, w)).collect();
    for r in &mut rows {
        let warm = (r.rig.load.conns.len() * 3).max(10_000);
        r.run(warm);
        r.latency = Histogram::default();
    }
    for _ in 0..args.rounds {
        for r in &mut rows {
            r.round(args.requests);
        }
    }
    for r in &rows {
        check(r, &r.rig.segment.read());
    }
    if args.json { print_json(&rows, hz) } else { print_text(&rows, hz) }
}

/// What was measured is what was meant: every request answered with 200, nothing lost or resent.
fn check(r: &Row, s: &Snapshot) {
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "{}: the laws hold", r.name);
    assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests), "{}", r.name);
    assert_eq!(s.get(Ctr::TcpRetransmits), 0, "{}", r.name);
    assert_eq!(r.rig.core.pipeline.proxy.active(), 0, "{}: no context is held between requests", r.name);
}

fn print_text(rows: &[Row], hz: f64) {
    println!("A whole core in memory, 1 KiB bodies, bursts of up to 64. {}", machine(hz));
    let cells = |r: &Row| {
        let ns = |q: f64| format!("{:.0}", r.latency.quantile(q) as f64 / hz * 1e9);
        vec![
            r.name.clone(),
            thousands(hz / r.cycles.median()),
            thousands(hz / r.cycles.max()),
            thousands(hz / r.cycles.min()),
            thousands(r.cycles.median()),
            thousands(r.cycles.min()),
            thousands(r.cycles.max()),
            ns(0.5),
            ns(0.99),
            ns(0.999),
            thousands(r.generator.median()),
        ]
    };
    table(
        "requests per second, cycles and nanoseconds per request",
        &[
            "connections",
            "req/s",
            "min",
            "max",
            "cycles",
            "min",
            "max",
            "ns p50",
            "p99",
            "p99.9",
            "generator",
        ],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
    println!("(req/s and cycles: median, min, max over the rounds of each round's median burst;");
    println!(
        " ns: a burst's time over its requests, of all rounds, interruptions and all; generator: its cycles)"
    );
    let mut head = vec!["connections"];
    head.extend(STAGES.iter().map(|s| s.name()));
    let cells = |r: &Row| {
        let mut v = vec![r.name.clone()];
        v.extend(r.stages.iter().map(|(c, n)| format!("{:.0} x {:.2}", c.median(), n / r.requests as f64)));
        v
    };
    table(
        "cycles per packet (HTTP: per event; timers: per pass) x packets per request, by stage",
        &head,
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
}

fn print_json(rows: &[Row], hz: f64) {
    let row = |r: &Row| {
        let stages: serde_json::Map<String, serde_json::Value> = STAGES
            .iter()
            .zip(&r.stages)
            .map(|(s, (c, n))| {
                let v = serde_json::json!({ "cycles_per_packet": c.json(), "packets_per_request": n / r.requests as f64 });
                (s.name().to_owned(), v)
            })
            .collect();
        serde_json::json!({
            "name": r.name,
            "cycles_per_request": r.cycles.json(),
            "generator_cycles_per_request": r.generator.json(),
            "requests_per_second_median": hz / r.cycles.median(),
            "ns_p50": r.latency.quantile(0.5) as f64 / hz * 1e9,
            "ns_p99": r.latency.quantile(0.99) as f64 / hz * 1e9,
            "ns_p999": r.latency.quantile(0.999) as f64 / hz * 1e9,
            "stages": stages,
        })
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    println!("{:#}", serde_json::json!({ "bench": "node", "machine": machine(hz), "rows": rows }));
}
