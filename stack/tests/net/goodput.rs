//! How fast an object arrives over a path with a rate, a delay, a queue and losses: our sender to our receiver, in virtual
//! time, by seed, for each congestion control.
//!
//! `MILLRACE_GOODPUT_SEEDS=25 cargo test -p stack --test net goodput -- --nocapture` prints the table of many seeds;
//! `MILLRACE_GOODPUT` holds words, and only cells and algorithms with all of them in their line are run;
//! `MILLRACE_GOODPUT_TRACE=1` prints the sender's state eight times in a round trip, `=2` its algorithm's too.

use std::net::SocketAddr;

use dataplane::port::link::Faults;
use dataplane::{Ctr, Time};
use stack::TcpConfig;
use stack::tcp::cc::Algorithm;

use crate::support::own::Setup;
use crate::support::{Finish, Plan, pair_on};

/// A path and an object.
struct Cell {
    name: &'static str,
    mbit: u64,
    rtt_ms: u64,
    /// What the queue holds, ms at the rate.
    queue_ms: u64,
    bytes: u64,
    /// In a million.
    loss: u32,
    reorder: u32,
    duplicate: u32,
}

const CELL: Cell =
    Cell { name: "", mbit: 100, rtt_ms: 20, queue_ms: 40, bytes: 5 << 20, loss: 0, reorder: 0, duplicate: 0 };

/// The share of the rate, per cent, that the median of the seeds reaches at least: CUBIC, BBR, Reno.
const CELLS: [(Cell, [u64; 3]); 16] = [
    (Cell { name: "clean", ..CELL }, [72, 70, 70]),
    (Cell { name: "clean-far", rtt_ms: 100, queue_ms: 100, ..CELL }, [33, 33, 25]),
    (Cell { name: "loss0.1", loss: 1_000, ..CELL }, [45, 68, 25]),
    (Cell { name: "loss1", loss: 10_000, ..CELL }, [5, 60, 4]),
    (Cell { name: "loss0.1-far", loss: 1_000, rtt_ms: 100, queue_ms: 100, ..CELL }, [14, 27, 7]),
    (Cell { name: "loss1-far", loss: 10_000, rtt_ms: 100, queue_ms: 100, ..CELL }, [1, 24, 1]),
    (Cell { name: "tail-drop", queue_ms: 20, ..CELL }, [72, 72, 70]),
    (Cell { name: "reorder1", reorder: 10_000, ..CELL }, [70, 70, 70]),
    (Cell { name: "duplicate1", duplicate: 10_000, ..CELL }, [68, 70, 68]),
    (Cell { name: "gigabit", mbit: 1000, rtt_ms: 1, queue_ms: 4, ..CELL }, [80, 80, 80]),
    (Cell { name: "gigabit-loss0.1", mbit: 1000, rtt_ms: 1, queue_ms: 4, loss: 1_000, ..CELL }, [75, 78, 60]),
    (Cell { name: "gigabit-far", mbit: 1000, ..CELL }, [10, 10, 10]),
    (Cell { name: "far-tail-drop", rtt_ms: 100, ..CELL }, [20, 20, 15]),
    (Cell { name: "near-tail-drop", rtt_ms: 1, queue_ms: 20, ..CELL }, [60, 60, 60]),
    (Cell { name: "small", bytes: 100_000, ..CELL }, [8, 8, 8]),
    (Cell { name: "small-loss1", bytes: 100_000, loss: 10_000, ..CELL }, [5, 5, 5]),
];

/// What a transfer came to.
struct Outcome {
    kbit: u64,
    resent: u64,
    rto: u64,
    undone: u64,
    tail_drops: u64,
}

/// A receiver that hurries, as Linux does at the start of a connection.
fn set(c: &mut TcpConfig, algorithm: Algorithm) {
    c.congestion.algorithm = algorithm;
    c.ack_delay_ns = 0;
}

fn host(n: u8, algorithm: Algorithm) -> Setup {
    let mut s = Setup::host(n);
    // No address resolution: an object's time begins with the SYN.
    s.peer_mac = Some([2, 0, 0, 0, 0, 3 - n]);
    s.limits.rx_cells = 8192;
    s.limits.payload_cells = 8192;
    s.limits.header_cells = 8192;
    s.limits.send_records = 16_384;
    s.limits.segments = 16_384;
    s.limits.request_budget_bytes = 8 << 20;
    s.tcp = match algorithm {
        Algorithm::Cubic => |c: &mut TcpConfig| set(c, Algorithm::Cubic),
        Algorithm::Bbr => |c: &mut TcpConfig| set(c, Algorithm::Bbr),
        Algorithm::Reno => |c: &mut TcpConfig| set(c, Algorithm::Reno),
    };
    s
}

fn run(cell: &Cell, algorithm: Algorithm, seed: u64) -> Outcome {
    let there = Faults {
        rate_bps: cell.mbit * 1_000_000,
        overhead_bytes: 24,
        queue_ns: cell.queue_ms * 1_000_000,
        delay_ns: cell.rtt_ms * 500_000,
        loss_ppm: cell.loss,
        reorder_ppm: cell.reorder,
        reorder_ns: cell.rtt_ms * 100_000,
        duplicate_ppm: cell.duplicate,
        ..Faults::default()
    };
    let back = Faults { loss_ppm: 0, reorder_ppm: 0, duplicate_ppm: 0, ..there.clone() };
    let mut w = pair_on(&host(1, algorithm), &host(2, algorithm), there, back, seed);
    w.a.core.pipeline.audited = false;
    w.b.core.pipeline.audited = false;
    let (here, there) = Plan::both(seed, cell.bytes, 0);
    w.b.listen(80, there.ending(Finish::AfterPeer));
    let to: SocketAddr = "10.0.0.2:80".parse().unwrap();
    w.a.connect(to, here.chunks(1448), w.now).unwrap();
    let got = |w: &crate::support::world::World<crate::support::own::OwnHost>| {
        w.b.core.pipeline.conns.first().map_or(0, |c| c.out.got)
    };
    let trace = std::env::var_os("MILLRACE_GOODPUT_TRACE").is_some();
    let trace_state = std::env::var("MILLRACE_GOODPUT_TRACE").is_ok_and(|v| v == "2");
    let mut next = Time(0);
    let limit = Time::from_ms(600_000);
    let over = w.run_until(limit, |w| {
        if trace && w.now >= next {
            next = w.now.plus_ns(cell.rtt_ms * 1_000_000 / 8);
            let (so_far, id) = (got(w), w.a.tcp().flows().next());
            if let Some(id) = id {
                let f = w.a.tcp().flow(id);
                println!(
                    "  {} cwnd {} ssthresh {} pace {} Mbit/s pipe {} srtt {} got {} {:?}",
                    w.now,
                    f.window.cwnd / 1448,
                    f.window.ssthresh / 1448,
                    f.window.pacing_rate * 8 / 1_000_000,
                    f.pipe() / 1448,
                    f.rtt.srtt_us,
                    so_far,
                    f.recovery.phase,
                );
                if trace_state {
                    println!("    {:?}", f.cc);
                }
            }
        }
        got(w) >= cell.bytes
    });
    assert!(
        over,
        "{} {algorithm:?} seed {seed}: {} of {} bytes by {}",
        cell.name,
        got(&w),
        cell.bytes,
        w.now
    );
    let o = Outcome {
        kbit: cell.bytes * 8 * 1_000_000 / w.now.0,
        resent: w.a.get(Ctr::TcpRetransmits),
        rto: w.a.get(Ctr::TcpRto),
        undone: w.a.get(Ctr::TcpUndo),
        tail_drops: w.link.stats().0.queue_full,
    };
    // Intact, and nothing left behind.
    w.a.core.pipeline.audited = true;
    let r = w.finish(limit.plus_ns(600_000_000_000)).and_then(|()| w.check_b());
    assert!(r.is_ok(), "{} {algorithm:?} seed {seed}: {r:?}", cell.name);
    o
}

#[test]
fn goodput_by_cell_and_algorithm() {
    let only = std::env::var("MILLRACE_GOODPUT").unwrap_or_default();
    // Not those of the simulator: what takes it seconds takes forty times as many transfers minutes.
    let seeds = std::env::var("MILLRACE_GOODPUT_SEEDS").map_or(1, |n| n.parse::<u64>().unwrap());
    println!(
        "{:16} {:5} {:>9} {:>9} {:>9} {:>7} {:>5} {:>5} {:>6}",
        "cell", "cc", "kbit/s", "lowest", "highest", "resent", "rto", "undo", "drops"
    );
    for (cell, floors) in &CELLS {
        for (algorithm, floor) in Algorithm::ALL.into_iter().zip(floors) {
            let line = format!("{} {}", cell.name, algorithm.name());
            if !only.is_empty() && !only.split(' ').all(|w| line.split(' ').any(|l| l == w)) {
                continue;
            }
            let outs: Vec<Outcome> = (0..seeds).map(|seed| run(cell, algorithm, seed)).collect();
            let mut kbit: Vec<u64> = outs.iter().map(|o| o.kbit).collect();
            kbit.sort_unstable();
            let n = outs.len() as u64;
            let mean = |f: fn(&Outcome) -> u64| outs.iter().map(f).sum::<u64>() as f64 / n as f64;
            println!(
                "{:16} {:5} {:9} {:9} {:9} {:7.1} {:5.1} {:5.1} {:6.1}",
                cell.name,
                algorithm.name(),
                kbit[kbit.len() / 2],
                kbit[0],
                kbit[kbit.len() - 1],
                mean(|o| o.resent),
                mean(|o| o.rto),
                mean(|o| o.undone),
                mean(|o| o.tail_drops)
            );
            let median = kbit[kbit.len() / 2];
            assert!(median >= floor * cell.mbit * 10, "{line}: {median} kbit/s, below {floor} % of the rate");
            if cell.loss == 0 {
                assert!(outs.iter().all(|o| o.rto == 0), "{line}: a timeout without a loss by chance");
            }
        }
    }
}
