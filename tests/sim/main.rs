//! The whole node in a seeded simulator: clients (smoltcp's stack and our own), the edge, an origin, faulty
//! links, virtual time. Every failure is a seed that anyone can replay:
//!
//! ```text
//! cargo test --test sim -- --seed 42 [--tls]  one seed, with a pcapng of every link
//! MILLRACE_SIM_SEEDS=2000 cargo test --test sim        2000 of them, from MILLRACE_SIM_FROM (0) on
//! ```
//!
//! Its own `main` instead of libtest's, for `--seed`; it answers what cargo and nextest ask of a test binary.

mod hosts;
mod http;
#[path = "../support/identity.rs"]
mod identity;
mod tls;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use dataplane::Ctr;
use dataplane::counters::Snapshot;

const SEEDS: &str = "every_stream_is_intact_over_seeds";
const OVER_TLS: &str = "every_stream_is_intact_over_tls";
const FIXED: &str = "seeds_that_once_failed";

/// Seeds that have found something, kept for ever.
const FIXED_SEEDS: &[u64] = include!("fixed_seeds.in");

/// Things that must have happened over a run, or it has tested less than it says.
const MUST_HAPPEN: &[Ctr] = &[
    Ctr::TcpRto,
    Ctr::TcpFastRetransmit,
    Ctr::TcpOutOfOrder,
    Ctr::TcpZeroWindow,
    Ctr::TcpResetsReceived,
    Ctr::DropTcpChecksum,
    Ctr::OriginReused,
    Ctr::RxHandedOver,
];

/// Cores of the edge. Those seeds that once failed did so with one.
fn cores(seed: u64) -> usize {
    if FIXED_SEEDS.contains(&seed) { 1 } else { [1, 1, 2, 3][seed as usize / 8 % 4] }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |a: &str| args.iter().any(|x| x == a);
    if has("--list") {
        if !has("--ignored") {
            println!("{SEEDS}: test\n{OVER_TLS}: test\n{FIXED}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(i) = args.iter().position(|a| a == "--seed") {
        let Some(seed) = args.get(i + 1).and_then(|s| s.parse().ok()) else {
            eprintln!("--seed wants a number");
            return ExitCode::from(2);
        };
        return replay(seed, has("--tls"));
    }
    if let Some(seed) = env("MILLRACE_SIM_SEED") {
        return replay(seed, has("--tls"));
    }
    // cargo test and nextest name the tests that they want.
    let wanted = |name: &str| {
        let names: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|n| name.contains(n.as_str()))
    };
    let mut passed = 0;
    let mut failed = 0;
    let mut report = |name: &str, ok: bool| {
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if ok { passed += 1 } else { failed += 1 }
    };
    if wanted(FIXED) {
        report(FIXED, run(FIXED_SEEDS.iter().copied(), false, false));
    }
    if wanted(SEEDS) {
        let from = env("MILLRACE_SIM_FROM").unwrap_or(0);
        report(SEEDS, run(from..from + env("MILLRACE_SIM_SEEDS").unwrap_or(200), true, false));
    }
    if wanted(OVER_TLS) {
        let from = env("MILLRACE_SIM_FROM").unwrap_or(0);
        report(OVER_TLS, run(from..from + env("MILLRACE_SIM_SEEDS").unwrap_or(100), true, true));
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn replay(seed: u64, over_tls: bool) -> ExitCode {
    match one(seed, true, over_tls) {
        Ok((s, requests)) => {
            println!("seed {seed}: {requests} requests, all intact");
            print(&s);
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("seed {seed}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, capture: bool, over_tls: bool) -> Result<(Snapshot, usize), String> {
    let dir = capture.then(|| {
        let dir: PathBuf = std::env::temp_dir().join(format!("millrace-sim-{seed}"));
        std::fs::create_dir_all(&dir).expect("a writable temporary directory");
        println!(
            "frames: {}/link0.pcapng (own clients), link1 (smoltcp clients), link2 (origin)",
            dir.display()
        );
        dir
    });
    let mut drawn = world::draw(seed);
    // Those seeds that once failed did so without.
    drawn.stalls &= !FIXED_SEEDS.contains(&seed);
    let requests = drawn.requests;
    let faults = drawn.faults.clone();
    let w = world::World::new(&faults, seed, cores(seed), over_tls, dir.as_deref());
    // A panic anywhere in the box is a failure of its seed.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| w.run(drawn)));
    match result {
        Ok(Ok(s)) => Ok((s, requests)),
        Ok(Err(e)) => Err(e),
        Err(p) => {
            let text = p.downcast_ref::<String>().cloned();
            Err(text.or_else(|| p.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
        }
    }
}

fn run(seeds: impl Iterator<Item = u64>, must: bool, over_tls: bool) -> bool {
    let mut sum = Snapshot::default();
    let (mut n, mut requests, mut bad) = (0u64, 0, Vec::new());
    for seed in seeds {
        match one(seed, false, over_tls) {
            Ok((s, r)) => {
                sum.merge(&s);
                requests += r;
            }
            Err(e) => {
                println!("seed {seed} failed: {e}");
                // The same run again, recorded.
                let _ = one(seed, true, over_tls);
                let tls = if over_tls { " --tls" } else { "" };
                println!("replay: cargo test --test sim -- --seed {seed}{tls}");
                bad.push(seed);
            }
        }
        n += 1;
        if n % 100 == 0 {
            println!("  {n} seeds, {requests} requests, {} failed", bad.len());
        }
        if bad.len() >= 5 {
            break;
        }
    }
    let stalls = world::STALLS.load(std::sync::atomic::Ordering::Relaxed);
    println!("{n} seeds, {requests} requests, cores stalled {stalls} times; failed: {bad:?}");
    print(&sum);
    let missing: Vec<&str> = MUST_HAPPEN.iter().filter(|c| sum.get(**c) == 0).map(|c| c.name()).collect();
    if must && n >= 100 && !missing.is_empty() {
        println!("never happened: {missing:?}");
        return false;
    }
    bad.is_empty()
}

fn print(s: &Snapshot) {
    for c in MUST_HAPPEN.iter().chain(&[
        Ctr::TcpRetransmits,
        Ctr::TcpZeroWindowProbes,
        Ctr::TcpResetsSent,
        Ctr::Http2xx,
        Ctr::HttpClientGone,
    ]) {
        println!("  {:<24} {}", c.name(), s.get(*c));
    }
}
