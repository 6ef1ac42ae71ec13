//! Loops over a virtual device of DPDK's, on this thread: what each of our stages adds to what testpmd does.
//!
//! | loop | what a pass does |
//! |---|---|
//! | `bare` | bursts of 32 mbufs, received and sent on: testpmd's mode `io` |
//! | `shim` | the same, with a C function around each of DPDK's inline bursts |
//! | `port` | our port: mbufs become packets, which wait in a queue and leave by it; bursts of up to 64 |
//! | `parse` | and every packet is parsed, its checksums verified |
//! | `demux` | and its connection is looked for, and found |
//!
//! `net_null` makes up frames of 64 bytes in whatever mbuf it gets: those hold what was written to them last, which are
//! segments of 1,000 connections. `net_ring` has so many frames going round, as testpmd's `--tx-first` would.
//!
//! One round of each loop; `scripts/bench/testpmd.sh` runs rounds, with testpmd between them.
//!
//! `cargo bench -p millrace --bench dpdk -- [--device net_null] [--loops bare,port] [--seconds 2] [--frames 32]`

mod common;

use std::time::{Duration, Instant};

use common::engine::Engine;
use common::median;
use dataplane::port::dpdk::bare::Bare;
use dataplane::port::dpdk::{Checksums, DpdkConfig, DpdkPort, Eal, EalConfig};
use dataplane::{BURST_MAX, Burst, Clock, Pool, Port, TxQueue, time::cycles};
use hugepages::PagePolicy;
use rustix::time::{ClockId, clock_gettime};
use stack::Iface;

const MTU: u16 = 1500;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CELLS: u32 = 4096;
const FLOWS: u32 = 1_000;
/// Ethernet, IPv4 and TCP.
const FRAME_BYTES: usize = 54;
/// Passes between two looks at the clock: about 0.1 ms.
const STRETCH_PASSES: usize = 200;
/// Passes in which frames are written.
const PRIMING_PASSES: usize = 2_000;

#[derive(Clone)]
struct Args {
    device: String,
    loops: Vec<String>,
    seconds: f64,
    frames: usize,
}

impl Args {
    fn parse() -> Args {
        let mut a = Args {
            device: "net_null".to_owned(),
            loops: ["bare", "shim", "port", "parse", "demux"].map(str::to_owned).to_vec(),
            seconds: 2.0,
            frames: 32,
        };
        let mut words = std::env::args().skip(1);
        while let Some(w) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            match w.as_str() {
                "--device" => a.device = value(),
                "--loops" => a.loops = value().split(',').map(str::to_owned).collect(),
                "--seconds" => a.seconds = value().parse().expect("a number"),
                "--frames" => a.frames = value().parse().expect("a number"),
                "--bench" => {}
                "--test" => std::process::exit(0),
                _ => {
                    eprintln!("unknown argument {w}; known: --device --loops --seconds --frames");
                    std::process::exit(2)
                }
            }
        }
        a
    }
}

/// Nanoseconds that this thread has run.
fn own_ns() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Turns a loop for so long, a tenth of it as a warm-up, and prints a line: loop, packets, nanoseconds of this thread's,
/// packets that were not as they should be, and cycles per packet in the median stretch, which nobody interrupted.
fn measure(name: &str, seconds: f64, mut pass: impl FnMut() -> (usize, usize)) {
    let mut turn = |seconds: f64| {
        let (until, ns) = (Instant::now() + Duration::from_secs_f64(seconds), own_ns());
        let (mut packets, mut odd) = (0, 0);
        let mut stretches = Vec::with_capacity(1 << 20);
        while Instant::now() < until {
            let (before, t0) = (packets, cycles());
            for _ in 0..STRETCH_PASSES {
                let (n, bad) = pass();
                packets += n;
                odd += bad;
            }
            stretches.push((cycles() - t0) as f64 / (packets - before).max(1) as f64);
        }
        (packets, own_ns() - ns, odd, median(&mut stretches))
    };
    turn(seconds / 10.0);
    let (packets, ns, odd, cycles) = turn(seconds);
    println!("{name} {packets} {ns} {odd} {cycles:.2}");
}

fn main() {
    let args = Args::parse();
    let clock = Clock::calibrated();
    let buffers_bytes = DpdkPort::buffers_bytes(CELLS, MTU, &[&args.device]) + Bare::bytes(MTU);
    let eal =
        Eal::start(&EalConfig { buffers_bytes, pages: PagePolicy::Best, args: Vec::new(), nics: Vec::new() })
            .unwrap_or_else(|e| panic!("{e}"));
    println!(
        "# {} MHz, {}",
        clock.cycles_per_second() / 1_000_000,
        if eal.hugepages() { "hugepages" } else { "normal pages" }
    );
    let engine = Engine::new(FLOWS, false);
    let frames: Vec<Vec<u8>> = (0..FLOWS as usize).map(|i| engine.ack(i)).collect();
    for (i, name) in args.loops.iter().enumerate() {
        // DPDK keeps the ring of a net_ring that is gone: each has a name of its own.
        let args = &Args { device: format!("{}{i}", args.device), ..args.clone() };
        match name.as_str() {
            "bare" | "shim" => bare(eal, args, name, &frames),
            "port" | "parse" | "demux" => ours(eal, args, name, &frames, &engine, &clock),
            _ => panic!("no loop {name}"),
        }
    }
}

fn bare(eal: Eal, args: &Args, name: &str, frames: &[Vec<u8>]) {
    let mut bare = Bare::open(eal, &args.device, MTU).expect("the device");
    if args.device.starts_with("net_ring") {
        for i in 0..args.frames {
            bare.prime(1, &frames[i % frames.len()]);
        }
    }
    match name {
        "bare" => measure(name, args.seconds, || (bare.pass(), 0)),
        _ => measure(name, args.seconds, || (bare.pass_by_shim(), 0)),
    }
}

fn ours(eal: Eal, args: &Args, name: &str, frames: &[Vec<u8>], engine: &Engine, clock: &Clock) {
    let pool = DpdkPort::rx_buffers(eal, CELLS, MTU, &[&args.device], None)
        .unwrap_or_else(|e| panic!("{e}"))
        .into_pool("rx");
    let config = DpdkConfig {
        device: &args.device,
        mac: Some(MAC),
        fallback_mac: MAC,
        mtu: MTU,
        checksums: Checksums::Auto,
    };
    let mut port = DpdkPort::open(eal, &config, pool.clone(), 0).unwrap_or_else(|e| panic!("{e}"));
    let mut queue = TxQueue::new(4 * BURST_MAX);
    let packet = |i: usize| {
        let mut p = pool.alloc().expect("a cell");
        assert!(p.append(&frames[i % frames.len()]));
        p
    };
    let mut burst = Burst::new();
    if args.device.starts_with("net_ring") {
        (0..args.frames).for_each(|i| queue.push(packet(i)));
    } else {
        // Whatever mbufs it will have to do with have a frame in them.
        for pass in 0..PRIMING_PASSES {
            port.rx_burst(&mut burst, clock.now());
            for (i, mut p) in burst.drain(..).enumerate() {
                p.head_mut()[..FRAME_BYTES].copy_from_slice(&frames[(pass * BURST_MAX + i) % frames.len()]);
                queue.push(p);
            }
            port.tx_burst(&mut queue, clock.now());
        }
    }
    let mut iface = Iface::new(MAC, MTU);
    iface.add(std::net::Ipv4Addr::new(10, 0, 0, 1).into(), 8);
    // Monomorphic loops, as the node's is: what a loop does not do costs it nothing.
    macro_rules! turn {
        ($stage:expr) => {{
            let stage = $stage;
            measure(name, args.seconds, || {
                let now = clock.now();
                port.rx_burst(&mut burst, now);
                let n = burst.len();
                let odd: usize = stage(&mut burst);
                for p in burst.drain(..) {
                    queue.push(p);
                }
                port.tx_burst(&mut queue, now);
                (n, odd)
            })
        }};
    }
    let parse = |burst: &mut Burst| -> usize {
        burst.iter_mut().map(|p| usize::from(stack::parse::parse(p, &iface).is_err())).sum()
    };
    match name {
        "port" => turn!(|_: &mut Burst| 0),
        "parse" => turn!(parse),
        _ => turn!(|burst: &mut Burst| parse(burst) + burst.len() - engine.stack.tcp.demux(burst)),
    }
    drop(queue);
    let _: &Pool = port.rx_pool();
}
