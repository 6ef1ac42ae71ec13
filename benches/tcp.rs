//! The TCP engine alone: nanoseconds per request, bytes per idle connection, connections that come and go, and what a flood
//! of SYNs leaves.
//!
//! A request is one segment in (81 bytes of payload, which acknowledges the answer before it), an event, an
//! owner that reads, consumes and queues 1 KiB (a view of one retained cell), and one segment out. The clock
//! runs over `Stack::input`, `timers`, the owner's loop and `Stack::output`, in bursts of up to 64 different
//! connections in shuffled order; making the frames and reading the answers is outside of it.
//!
//! `cargo bench -p millrace --bench tcp -- [--json] [--rounds N] [--requests N] [--only TEXT]`

mod common;

use common::crowds::{Opened, flood, open_and_close};
use common::engine::{Engine, limits};
use common::{Args, Rounds, STRETCH, machine, median, resident_bytes, table, thousands};
use dataplane::{Clock, Stage};
use hugepages::{Arena, PagePolicy};
use stack::{Tcp, TcpConfig};

const FLOWS: [u32; 4] = [1, 1_000, 10_000, 100_000];
/// DESIGN.md 4.
const IDLE_BYTES_MAX: f64 = 1024.0;

struct Row {
    flows: u32,
    offload: bool,
    engine: Engine,
    ns: Rounds,
    /// Cycles per request in parse, TCP input and output, of the counters.
    stages: [Rounds; 3],
}

fn main() {
    let args = Args::parse(200_000);
    let hz = Clock::calibrated().cycles_per_second() as f64;
    // Before the rows, so that what they give back to the allocator is not counted here.
    let idle = idle_bytes();
    let mut rows = Vec::new();
    for flows in FLOWS {
        for offload in [true, false] {
            let name = format!("{flows} {}", if offload { "offload" } else { "software" });
            if args.wants(&name) {
                let engine = Engine::new(flows, offload);
                rows.push(Row { flows, offload, engine, ns: Rounds::default(), stages: Default::default() });
            }
        }
    }
    for r in &mut rows {
        run(&mut r.engine, (r.flows as usize * 4).min(args.requests));
    }
    for _ in 0..args.rounds {
        for r in &mut rows {
            round(r, args.requests, hz);
        }
    }
    let opened = args.wants("connections").then(|| [true, false].map(|o| open_and_close(o, hz)));
    let floods = if args.wants("flood") { floods(&args, hz) } else { vec![] };
    if args.json {
        print_json(&rows, &idle, &opened, &floods, hz);
    } else {
        print_text(&rows, &idle, hz);
        print_crowds(&opened, &floods);
    }
    assert!(idle.computed <= IDLE_BYTES_MAX, "an idle connection costs {} bytes", idle.computed);
}

/// SYNs in a second of the core's time, in a flood.
const FLOOD: f64 = 2e6;

/// A core with a flood, beside the same without, in rounds.
struct FloodRow {
    flows: u32,
    offload: bool,
    alone: Rounds,
    flooded: Rounds,
    kept: Rounds,
    syns: Rounds,
    grown: f64,
    tried: u64,
    answered: u64,
}

fn floods(args: &Args, hz: f64) -> Vec<FloodRow> {
    let mut rows = Vec::new();
    for flows in [64, 1_000, 10_000] {
        for offload in [true, false] {
            let mut r = FloodRow {
                flows,
                offload,
                alone: Rounds::default(),
                flooded: Rounds::default(),
                kept: Rounds::default(),
                syns: Rounds::default(),
                grown: 0.0,
                tried: 0,
                answered: 0,
            };
            for _ in 0..args.rounds {
                let alone = flood(flows, offload, 0.0, args.requests, hz);
                let with = flood(flows, offload, FLOOD, args.requests, hz);
                r.alone.0.push(alone.goodput);
                r.flooded.0.push(with.goodput);
                r.kept.0.push(with.goodput / alone.goodput * 100.0);
                r.syns.0.push(with.syns / 1e6);
                r.grown = r.grown.max(with.grown);
                r.tried += with.tried;
                r.answered += with.answered;
            }
            rows.push(r);
        }
    }
    rows
}

fn print_crowds(opened: &Option<[Opened; 2]>, floods: &[FloodRow]) {
    if let Some(all) = opened {
        println!("\nhandshake, one request, close by the server; 120 s of virtual time, TIME-WAIT in it");
        for (o, offload) in all.iter().zip([true, false]) {
            println!(
                "{:<12} {:.0} ns ({} connections a second), mean {:.0} ns; {} connections, {} records recycled",
                word(offload),
                o.ns,
                thousands(1e9 / o.ns),
                o.mean_ns,
                thousands(o.connections as f64),
                o.recycled,
            );
        }
    }
    if floods.is_empty() {
        return;
    }
    let cells = |r: &FloodRow| {
        vec![
            thousands(r.flows.into()),
            word(r.offload).to_owned(),
            format!("{:.0}", r.alone.median()),
            format!("{:.0}", r.flooded.median()),
            format!("{:.1} %", r.kept.median()),
            format!("{:.1} .. {:.1}", r.kept.min(), r.kept.max()),
            format!("{:.2}", r.syns.median()),
            format!("{} of {}", r.answered, r.tried),
            format!("{:.0}", r.grown),
        ]
    };
    let head = [
        "flows",
        "checksums",
        "alone",
        "flooded",
        "kept",
        "min .. max",
        "Mpps of SYNs",
        "new answered",
        "grown",
    ];
    table(
        "MB of answers per second of the core, alone and beside a flood of SYNs",
        &head,
        &floods.iter().map(cells).collect::<Vec<_>>(),
    );
}

/// One burst of requests; gives cycles per request, and requests.
fn burst(e: &mut Engine) -> (f64, usize) {
    let n = e.fill();
    let cycles = e.timed_pass() as f64 / n as f64;
    assert_eq!(e.take_sent(), n, "every request is answered in its pass, in one segment");
    (cycles, n)
}

fn run(e: &mut Engine, requests: usize) {
    let mut done = 0;
    while done < requests {
        done += burst(e).1;
    }
}

/// A round's figures are those of its median burst (stages: stretch), as a burst that the kernel or a neighbour
/// on this machine interrupts says nothing of the engine.
fn round(r: &mut Row, requests: usize, hz: f64) {
    const STAGES: [Stage; 3] = [Stage::Parse, Stage::Tcp, Stage::Output];
    let (mut bursts, mut stages) = (Vec::new(), [const { Vec::new() }; 3]);
    let mut done = 0;
    while done < requests {
        let before = r.engine.segment.read();
        let mut stretch = 0;
        for _ in 0..STRETCH {
            let (cycles, n) = burst(&mut r.engine);
            bursts.push(cycles);
            stretch += n;
        }
        let after = r.engine.segment.read();
        for (s, out) in STAGES.iter().zip(&mut stages) {
            out.push((after.stage(*s).cycles - before.stage(*s).cycles) as f64 / stretch as f64);
        }
        done += stretch;
    }
    r.ns.0.push(median(&mut bursts) / hz * 1e9);
    for (values, out) in stages.iter_mut().zip(&mut r.stages) {
        out.0.push(median(values));
    }
}

/// What one more connection costs that is open and has nothing under way.
struct Idle {
    /// By `Tcp::cost`: control block, slab link, buckets, timer link.
    computed: f64,
    /// By the resident memory of this process, as an engine for so many more flows was made.
    resident: f64,
    /// Receive cells, send records of 1,000 connections that have each had an answer.
    held: (u32, u32),
}

fn idle_bytes() -> Idle {
    const MORE: u32 = 1 << 17;
    let (some, many) = (limits(1 << 10), limits((1 << 10) + MORE));
    // Records are what bytes under way take, and not a share of an idle connection.
    let many = hugepages::Limits { send_records: some.send_records, segments: some.segments, ..many };
    let grown = (Tcp::cost(&many) - Tcp::cost(&some)) as f64 / f64::from(MORE);
    let pool = dataplane::Pool::reserve("rx", 64, 2048, PagePolicy::NormalOnly).unwrap();
    let segment = dataplane::counters::Segment::in_memory(1);
    let before = resident_bytes();
    let mut arena = Arena::reserve(Tcp::cost(&many), PagePolicy::NormalOnly).unwrap();
    let config = TcpConfig::new([1, 2, 3, 4], &many);
    let tcp = Tcp::new(&many, &mut arena, config, pool, segment.writer(0)).unwrap();
    let resident = (resident_bytes() - before) as f64 / f64::from(many.flows);
    drop(tcp);
    let mut e = Engine::new(1_000, true);
    run(&mut e, 1_000);
    // The next request acknowledges the answer; one more pass of plain requests would be answered again, so
    // what the last answer holds is looked at, and it is views of one shared cell.
    let held = (e.rx_cells() - e.rx_free(), e.stack.tcp.in_use().1);
    Idle { computed: grown, resident, held }
}

fn word(offload: bool) -> &'static str {
    if offload { "offloaded" } else { "in software" }
}

fn print_text(rows: &[Row], idle: &Idle, hz: f64) {
    println!("TCP engine alone, 1 KiB answers, bursts of up to 64. {}", machine(hz));
    let cells = |r: &Row| {
        let stage = |i: usize| format!("{:.0}", r.stages[i].median());
        vec![
            thousands(r.flows.into()),
            word(r.offload).to_owned(),
            format!("{:.1}", r.ns.median()),
            format!("{:.1}", r.ns.min()),
            format!("{:.1}", r.ns.max()),
            format!("{:.0}", r.ns.median() * hz / 1e9),
            stage(0),
            stage(1),
            stage(2),
        ]
    };
    table(
        "ns per request",
        &["flows", "checksums", "median", "min", "max", "cycles", "parse", "input", "output"],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    );
    println!("(cycles: of the median; parse, input, output: their share by the stage counters, median)");
    println!("\nbytes per idle connection");
    println!("computed  {:.0} (control block, slab link, buckets, timer link)", idle.computed);
    println!("resident  {:.0} (growth of this process's memory, per flow)", idle.resident);
    println!(
        "held      {} receive cells and {} send records by 1,000 connections whose last answer is not yet acknowledged",
        idle.held.0, idle.held.1
    );
}

fn print_json(rows: &[Row], idle: &Idle, opened: &Option<[Opened; 2]>, floods: &[FloodRow], hz: f64) {
    let connections = |o: &Opened| {
        serde_json::json!({
            "ns": o.ns,
            "mean_ns": o.mean_ns,
            "connections": o.connections,
            "time_wait_recycled": o.recycled,
        })
    };
    let flooded = |r: &FloodRow| {
        serde_json::json!({
            "flows": r.flows,
            "checksum_offload": r.offload,
            "alone_mb": r.alone.json(),
            "flooded_mb": r.flooded.json(),
            "kept_percent": r.kept.json(),
            "syn_mpps": r.syns.json(),
            "new_tried": r.tried,
            "new_answered": r.answered,
            "grown_bytes": r.grown,
        })
    };
    let row = |r: &Row| {
        serde_json::json!({
            "flows": r.flows,
            "checksum_offload": r.offload,
            "ns_per_request": r.ns.json(),
            "cycles_parse": r.stages[0].json(),
            "cycles_input": r.stages[1].json(),
            "cycles_output": r.stages[2].json(),
        })
    };
    let all = serde_json::json!({
        "bench": "tcp",
        "machine": machine(hz),
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "idle_bytes_computed": idle.computed,
        "idle_bytes_resident": idle.resident,
        "connections": opened.as_ref().map(|o| o.iter().map(connections).collect::<Vec<_>>()),
        "flood": floods.iter().map(flooded).collect::<Vec<_>>(),
    });
    println!("{all:#}");
}
