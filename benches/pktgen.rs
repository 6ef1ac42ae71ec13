//! The load client alone: requests per second that one core can offer, over an in-process wire against a stub.
//!
//! The clock runs over the client's `Core::pass` only; the stub's passes, on the same thread, are outside of it, and shown
//! apart. A figure is the median over the rounds of each round's median stretch, as in `node`.
//!
//! `million`: a million connections from 64 addresses, opened, held, and each used twice, with the memory that they take on
//! both sides; only when it is asked for, as it takes 3 GiB.
//!
//! `cargo bench -p millrace --bench pktgen -- [--json] [--rounds N] [--requests N] [--only TEXT]`

#[path = "../tests/support/loaded.rs"]
mod loaded;

mod common;

use std::time::Instant;

use common::{Args, Rounds, STRETCH, machine, median, resident_bytes, table, thousands};
use dataplane::counters::Snapshot;
use dataplane::{Clock, Ctr, Stage, time::cycles};
use loaded::{Manners, Pair, plan, request};
use millrace::pktgen::http::plan::Plan;
use millrace::pktgen::http::tally::Count;

const BODY_BYTES: usize = 1024;
const STAGES: [Stage; 7] =
    [Stage::Rx, Stage::Parse, Stage::Tcp, Stage::Http, Stage::Output, Stage::Tx, Stage::Timers];
const MILLION: u32 = 1_000_000;
/// What the run of a million may take.
const PATIENCE_S: u64 = 300;

struct Row {
    name: String,
    pair: Pair,
    client: Rounds,
    stub: Rounds,
    /// Cycles of each stage per request.
    stages: Vec<Rounds>,
}

impl Row {
    fn new(name: &str, plan: Plan, sums: bool) -> Row {
        let mut manners = Manners::of_body(BODY_BYTES, plan.connections.max(64));
        manners.requests_max = if plan.close { 1 } else { u32::MAX };
        Row {
            name: name.to_owned(),
            pair: Pair::new(plan, manners, None, sums),
            client: Rounds::default(),
            stub: Rounds::default(),
            stages: vec![Rounds::default(); STAGES.len()],
        }
    }

    /// One pass of each. Gives the cycles of the client's and of the stub's.
    fn turn(&mut self) -> (u64, u64) {
        let now = self.pair.now;
        let t0 = cycles();
        self.pair.client.pass(now);
        let t1 = cycles();
        self.pair.stub.pass(now);
        // About what 64 requests take.
        self.pair.now = now.plus_ns(30_000);
        (t1 - t0, cycles() - t1)
    }

    fn answered(&self) -> u64 {
        self.pair.count(Count::Responses)
    }

    fn warm(&mut self, requests: u64) {
        let until = self.answered() + requests;
        for turn in 0.. {
            assert!(turn < 100_000_000, "{}: no end", self.name);
            assert!(self.pair.end.try_recv().is_err(), "{}: it has ended by itself", self.name);
            if self.answered() >= until {
                return;
            }
            self.turn();
        }
    }

    fn round(&mut self, requests: usize) {
        let (mut clients, mut stubs) = (Vec::new(), Vec::new());
        let mut stages = vec![Vec::new(); STAGES.len()];
        let until = self.answered() + requests as u64;
        while self.answered() < until {
            let (before, seen) = (self.answered(), self.pair.segment.read());
            let (mut client, mut stub) = (0, 0);
            for _ in 0..STRETCH {
                let (c, s) = self.turn();
                (client, stub) = (client + c, stub + s);
            }
            let n = (self.answered() - before) as f64;
            if n == 0.0 {
                continue;
            }
            clients.push(client as f64 / n);
            stubs.push(stub as f64 / n);
            let now = self.pair.segment.read();
            for (stage, values) in STAGES.iter().zip(&mut stages) {
                values.push((now.stage(*stage).cycles - seen.stage(*stage).cycles) as f64 / n);
            }
        }
        self.client.0.push(median(&mut clients));
        self.stub.0.push(median(&mut stubs));
        for (values, rounds) in stages.iter_mut().zip(&mut self.stages) {
            rounds.0.push(median(values));
        }
    }
}

fn rows(args: &Args) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, connections, change) in [
        ("kept 1", 1, None),
        ("kept 1,000", 1_000, None),
        ("kept 10,000", 10_000, None),
        ("kept 1,000 sums", 1_000, None),
        ("kept 1,000 hashed", 1_000, Some(false)),
        ("close 1,000", 1_000, Some(true)),
    ] {
        if !args.wants(name) {
            continue;
        }
        let mut wanted = plan(connections);
        match change {
            Some(true) => {
                wanted.close = true;
                wanted.requests = vec![request("/", true)];
                wanted.sources = vec!["10.1.0.1-10.1.0.64".parse().expect("good")];
            }
            Some(false) => wanted.verify = true,
            None => {}
        }
        rows.push(Row::new(name, wanted, name.ends_with("sums")));
    }
    rows
}

fn main() {
    let args = Args::parse(100_000);
    let hz = Clock::calibrated().cycles_per_second() as f64;
    if args.only == "million" {
        return million(args.json, hz);
    }
    let mut rows = rows(&args);
    for r in &mut rows {
        r.warm(50_000);
    }
    for _ in 0..args.rounds {
        for r in &mut rows {
            r.round(args.requests);
        }
    }
    for r in &rows {
        check(r, &r.pair.segment.read());
    }
    if args.json { print_json(&rows, hz) } else { print_text(&rows, hz) }
}

/// What was measured is what was meant: every request answered, nothing lost or sent again.
fn check(r: &Row, s: &Snapshot) {
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "{}: the laws hold", r.name);
    assert_eq!((r.pair.count(Count::Failed), r.pair.tally.errors()), (0, 0), "{}", r.name);
    assert_eq!(s.get(Ctr::TcpRetransmits), 0, "{}", r.name);
}

fn print_text(rows: &[Row], hz: f64) {
    println!("The load client in memory, closed loop, bodies of {BODY_BYTES} bytes. {}", machine(hz));
    let cells = |r: &Row| {
        vec![
            r.name.clone(),
            thousands(hz / r.client.median()),
            thousands(hz / r.client.max()),
            thousands(hz / r.client.min()),
            thousands(r.client.median()),
            thousands(r.client.min()),
            thousands(r.client.max()),
            thousands(r.stub.median()),
        ]
    };
    table(
        "requests per second of the client's core alone, and cycles per request",
        &["connections", "req/s", "min", "max", "cycles", "min", "max", "stub"],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
    let mut head = vec!["connections"];
    head.extend(STAGES.iter().map(|s| s.name()));
    let cells = |r: &Row| {
        let mut v = vec![r.name.clone()];
        v.extend(r.stages.iter().map(|c| thousands(c.median())));
        v
    };
    table("cycles per request, by stage", &head, &rows.iter().map(cells).collect::<Vec<_>>());
}

fn print_json(rows: &[Row], hz: f64) {
    let row = |r: &Row| {
        let stages: serde_json::Map<String, serde_json::Value> =
            STAGES.iter().zip(&r.stages).map(|(s, c)| (s.name().to_owned(), c.json())).collect();
        serde_json::json!({
            "name": r.name,
            "cycles_per_request": r.client.json(),
            "stub_cycles_per_request": r.stub.json(),
            "requests_per_second_median": hz / r.client.median(),
            "stages": stages,
        })
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    println!("{:#}", serde_json::json!({ "bench": "pktgen", "machine": machine(hz), "rows": rows }));
}

/// A million connections: opened, all open at once, and each used twice.
fn million(json: bool, hz: f64) {
    let mut wanted = plan(MILLION);
    // As many arrivals as make two requests on each, in the order in which they became free.
    (wanted.rate, wanted.count, wanted.waiting_max) = (Some(1e6), Some(2 * u64::from(MILLION)), 1 << 20);
    wanted.sources = vec!["10.1.0.1-10.1.0.64".parse().expect("good")];
    wanted.warmup_ns = 0;
    let resident_before = resident_bytes();
    let began = Instant::now();
    let mut row = Row::new("million", wanted, false);
    let reserved = resident_bytes() - resident_before;
    let in_time = || assert!(began.elapsed().as_secs() < PATIENCE_S, "it takes longer than {PATIENCE_S} s");
    let (mut client, mut passes) = (0, 0u64);
    let t0 = Instant::now();
    while row.pair.client.pipeline.open_count() < MILLION {
        client += row.turn().0;
        passes += 1;
        if passes.is_multiple_of(4096) {
            in_time();
        }
    }
    let (opening_s, opening_cycles) = (t0.elapsed().as_secs_f64(), client as f64 / f64::from(MILLION));
    let open_flows = row.pair.stub.pipeline.stack.tcp.in_use().0;
    let t0 = Instant::now();
    client = 0;
    let end = loop {
        if let Ok(end) = row.pair.end.try_recv() {
            break end;
        }
        // At its end every connection is closed: those cycles are no request's.
        let asking = row.pair.count(Count::Responses) < 2 * u64::from(MILLION);
        let (c, _) = row.turn();
        client += if asking { c } else { 0 };
        passes += 1;
        if passes.is_multiple_of(4096) {
            in_time();
        }
    };
    let (using_s, responses) = (t0.elapsed().as_secs_f64(), row.pair.count(Count::Responses));
    assert_eq!((end.failed, end.unfinished, end.unsent), (None, 0, 0));
    let least = row.pair.client.pipeline.served_least();
    let s = row.pair.segment.read();
    check(&row, &s);
    assert_eq!((responses, row.pair.count(Count::Connects)), (2 * u64::from(MILLION), u64::from(MILLION)));
    assert!(least >= 1, "a connection was never used");
    let memory = row.pair.memory_bytes;
    let cycles = client as f64 / responses as f64;
    let v = serde_json::json!({
        "bench": "pktgen million", "machine": machine(hz),
        "connections": MILLION, "open_at_the_stub": open_flows, "addresses": 64,
        "opening_seconds": opening_s, "opening_cycles_each": opening_cycles,
        "requests": responses, "served_least": least, "using_seconds": using_s, "cycles_per_request": cycles,
        "client_memory_bytes": memory, "client_bytes_each": memory as f64 / f64::from(MILLION),
        "resident_bytes_both": resident_bytes(), "resident_after_start_bytes": reserved,
    });
    if json {
        println!("{v:#}");
        return;
    }
    println!("A million connections over an in-process wire, client and stub on one thread. {}", machine(hz));
    println!(
        "opened      {MILLION} from 64 addresses in {opening_s:.1} s ({open_flows} open at the stub), {opening_cycles:.0} client cycles each"
    );
    println!(
        "used        {responses} requests in {using_s:.1} s, at least {least} on each; {cycles:.0} client cycles each"
    );
    println!(
        "memory      client {} reserved: {:.0} bytes a connection; resident, both sides: {} ({} when it began)",
        hugepages::human_bytes(memory as usize),
        memory as f64 / f64::from(MILLION),
        hugepages::human_bytes(resident_bytes() as usize),
        hugepages::human_bytes(reserved as usize),
    );
}
