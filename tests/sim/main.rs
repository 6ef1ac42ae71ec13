//! The whole node in a seeded simulator: clients (smoltcp's stack and our own), the edge, an origin, faulty
//! links, virtual time. Every failure is a seed that anyone can replay:
//!
//! ```text
//! cargo test --test sim -- --seed 42 [--tls | --pressed]  one seed, with a pcapng of every link
//! MILLRACE_SIM_SEEDS=2000 cargo test --test sim        2000 of them, from MILLRACE_SIM_FROM (0) on
//! ```
//!
//! Its own `main` instead of libtest's, for `--seed`; it answers what cargo and nextest ask of a test binary.

mod early;
mod hosts;
mod http;
#[path = "../support/identity.rs"]
mod identity;
mod tls;
mod watch;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use dataplane::Ctr;
use dataplane::counters::Snapshot;
use world::Scene;

const SEEDS: &str = "every_stream_is_intact_over_seeds";
const OVER_TLS: &str = "every_stream_is_intact_over_tls";
const PRESSED: &str = "what_was_let_go_is_sealed_again_the_same";
const FIXED: &str = "seeds_that_once_failed";

/// Seeds that have found something, kept for ever.
const FIXED_SEEDS: &[u64] = include!("fixed_seeds.in");
/// The same over TLS.
const FIXED_OVER_TLS: &[u64] = &[
    51, // refused early data in many records
];

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
/// What else over TLS.
const MUST_HAPPEN_EARLY: &[Ctr] = &[
    Ctr::TlsEarlyTaken,
    Ctr::TlsEarlyRefused,
    Ctr::TlsEarlyEvicted,
    Ctr::HttpEarly,
    Ctr::HttpEarlyHeld,
    Ctr::HttpEarlyAgain,
];
/// The same where memory for records is short.
const MUST_HAPPEN_PRESSED: &[Ctr] = &[
    Ctr::TcpRto,
    Ctr::TcpFastRetransmit,
    Ctr::TcpZeroWindow,
    Ctr::CacheHits,
    Ctr::TlsRecordsLetGo,
    Ctr::TlsRecordsSealedAgain,
    Ctr::TlsAgainLeft,
    Ctr::TlsKeyUpdatesSent,
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
            println!("{SEEDS}: test\n{OVER_TLS}: test\n{PRESSED}: test\n{FIXED}: test");
        }
        return ExitCode::SUCCESS;
    }
    let scene = match (has("--tls"), has("--pressed")) {
        (_, true) => Scene::Pressed,
        (true, _) => Scene::Tls,
        _ => Scene::Plain,
    };
    if let Some(i) = args.iter().position(|a| a == "--seed") {
        let Some(seed) = args.get(i + 1).and_then(|s| s.parse().ok()) else {
            eprintln!("--seed wants a number");
            return ExitCode::from(2);
        };
        return replay(seed, scene);
    }
    if let Some(seed) = env("MILLRACE_SIM_SEED") {
        return replay(seed, scene);
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
        let is_good = run(FIXED_SEEDS.iter().copied(), &[], Scene::Plain);
        report(FIXED, run(FIXED_OVER_TLS.iter().copied(), &[], Scene::Tls) && is_good);
    }
    if wanted(SEEDS) {
        let from = env("MILLRACE_SIM_FROM").unwrap_or(0);
        report(SEEDS, run(from..from + env("MILLRACE_SIM_SEEDS").unwrap_or(200), MUST_HAPPEN, Scene::Plain));
    }
    if wanted(OVER_TLS) {
        let from = env("MILLRACE_SIM_FROM").unwrap_or(0);
        let must = [MUST_HAPPEN, MUST_HAPPEN_EARLY].concat();
        report(OVER_TLS, run(from..from + env("MILLRACE_SIM_SEEDS").unwrap_or(100), &must, Scene::Tls));
    }
    if wanted(PRESSED) {
        let from = env("MILLRACE_SIM_FROM").unwrap_or(0);
        let seeds = from..from + env("MILLRACE_SIM_SEEDS").unwrap_or(20);
        report(PRESSED, run(seeds, MUST_HAPPEN_PRESSED, Scene::Pressed));
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

fn replay(seed: u64, scene: Scene) -> ExitCode {
    match one(seed, true, scene) {
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

fn one(seed: u64, capture: bool, scene: Scene) -> Result<(Snapshot, usize), String> {
    let dir = capture.then(|| {
        let dir: PathBuf = std::env::temp_dir().join(format!("millrace-sim-{seed}"));
        std::fs::create_dir_all(&dir).expect("a writable temporary directory");
        println!(
            "frames: {}/link0.pcapng (own clients), link1 (smoltcp clients), link2 (origin)",
            dir.display()
        );
        dir
    });
    let mut drawn = if scene == Scene::Pressed { world::draw_pressed(seed) } else { world::draw(seed) };
    // Those seeds that once failed did so without.
    drawn.stalls &= !FIXED_SEEDS.contains(&seed);
    let requests = drawn.requests;
    let faults = drawn.faults.clone();
    let cores = if scene == Scene::Pressed { 1 } else { cores(seed) };
    let w = world::World::new(&faults, seed, cores, scene, dir.as_deref());
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

fn run(seeds: impl Iterator<Item = u64>, must: &[Ctr], scene: Scene) -> bool {
    let mut sum = Snapshot::default();
    let (mut n, mut requests, mut bad) = (0u64, 0, Vec::new());
    for seed in seeds {
        match one(seed, false, scene) {
            Ok((s, r)) => {
                sum.merge(&s);
                requests += r;
            }
            Err(e) => {
                println!("seed {seed} failed: {e}");
                // The same run again, recorded.
                let _ = one(seed, true, scene);
                let flag = match scene {
                    Scene::Plain => "",
                    Scene::Tls => " --tls",
                    Scene::Pressed => " --pressed",
                };
                println!("replay: cargo test --test sim -- --seed {seed}{flag}");
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
    let missing: Vec<&str> = must.iter().filter(|c| sum.get(**c) == 0).map(|c| c.name()).collect();
    if n >= 20 && !missing.is_empty() {
        println!("never happened: {missing:?}");
        return false;
    }
    bad.is_empty()
}

fn print(s: &Snapshot) {
    for c in MUST_HAPPEN.iter().chain(MUST_HAPPEN_EARLY).chain(&[
        Ctr::TcpRetransmits,
        Ctr::TcpZeroWindowProbes,
        Ctr::TcpResetsSent,
        Ctr::Http2xx,
        Ctr::HttpClientGone,
        Ctr::TlsRecordsLetGo,
        Ctr::TlsRecordsSealedAgain,
        Ctr::TlsAgainLeft,
        Ctr::TlsAgainWaits,
        Ctr::TlsAgainDiffers,
        Ctr::TlsNoCell,
    ]) {
        println!("  {:<24} {}", c.name(), s.get(*c));
    }
}
