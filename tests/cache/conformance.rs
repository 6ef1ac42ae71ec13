//! The table against the node in memory: over a perfect wire, and over one that loses, repeats, reorders and damages
//! frames by seed.
//!
//! ```text
//! MILLRACE_CASE=TEXT MILLRACE_CASE_SEED=N cargo test --test cache over_a_bad_link -- --nocapture    one again
//! MILLRACE_CASE_SEEDS=20 cargo test --test cache over_a_bad_link                                     more of them
//! ```

use dataplane::Time;
use dataplane::port::link::{Faults, LinkStats};
use dataplane::rng::Rng;

use crate::cache_cases::{Answer, Case, Got, all, faults};
use crate::rig::{answer, faulty_node, node};
use crate::support::peers::{Act, Asked, Peers};

const SECOND: u64 = 1_000_000_000;
/// Each step begins so long after the time that the table wants, or later.
const START_NS: u64 = 10_000_000;
/// Lost frames cost time. A case has failed when it fails less than this behind its own schedule: its times are half a
/// second apart or more.
const LATE_NS_MAX: u64 = 400_000_000;
/// Runs of a case that may be too late before it counts as failed.
const LATE_RUNS_MAX: u64 = 40;

#[test]
fn every_case_of_the_table() {
    let cases = all();
    let only = std::env::var("MILLRACE_CASE").unwrap_or_default();
    let mut p = node(1, 1024, 8 << 20);
    let mut bad = Vec::new();
    for (n, case) in cases.iter().enumerate().filter(|(_, c)| c.name.contains(&only)) {
        let run = run(&mut p, n, case, &mut 0);
        if let Err(e) = run {
            bad.push(format!("{} ({}): {e}", case.name, case.section));
        }
    }
    assert!(bad.is_empty(), "{} of {} cases fail:\n{}", bad.len(), cases.len(), bad.join("\n"));
    assert!(cases.len() >= 300, "only {} cases", cases.len());
}

/// The same on a route with slices, whose origin knows no ranges: what it answers is kept as ever.
#[test]
fn every_case_of_the_book_with_slices() {
    let mut p = node(1, 1024, 8 << 20);
    let mut bad = Vec::new();
    let mut n = 0;
    // Those that name the site's host; or where the origin answers with a part of its own choice, so that the request has
    // to be sent again without a range; or where a range is a miss that is not kept; or with Authorization, whose answers
    // are not kept on such a route.
    const OTHERS: [&str; 6] = [
        "ocation of a URL",
        "a 206 nobody asked for",
        "a range of nothing",
        "a part is not the answer",
        "Authorization",
        "a range of what is not stored",
    ];
    for mut case in all().into_iter().filter(|c| c.site == "book") {
        if OTHERS.iter().any(|part| case.name.contains(part)) {
            continue;
        }
        case.site = "slices";
        n += 1;
        if let Err(e) = run(&mut p, n, &case, &mut 0) {
            bad.push(format!("{} ({}): {e}", case.name, case.section));
        }
    }
    assert!(n >= 550, "only {n} cases");
    assert!(bad.is_empty(), "{} of {n} cases fail:\n{}", bad.len(), bad.join("\n"));
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().expect("a number"))
}

/// What a seed does to frames: up to a twentieth of them each is lost, repeated, late, and damaged.
fn bad_link(seed: u64) -> Faults {
    let mut r = Rng::new(seed);
    let mut ppm = || r.below(50_001) as u32;
    let (loss_ppm, duplicate_ppm, reorder_ppm, corrupt_ppm) = (ppm(), ppm(), ppm(), ppm());
    Faults {
        delay_ns: r.range(50_000, 2_000_000),
        jitter_ns: r.below(500_000),
        loss_ppm,
        duplicate_ppm,
        reorder_ppm,
        reorder_ns: r.range(100_000, 5_000_000),
        corrupt_ppm,
        ..Faults::default()
    }
}

#[test]
fn every_case_over_a_bad_link() {
    let cases = all();
    let only = std::env::var("MILLRACE_CASE").unwrap_or_default();
    let (first, one) = (env("MILLRACE_CASE_SEED").unwrap_or(0), env("MILLRACE_CASE_SEED").is_some());
    let seeds = if one { 1 } else { env("MILLRACE_CASE_SEEDS").unwrap_or(1) };
    let (mut bad, mut late_runs, mut done) = (Vec::new(), 0, Vec::new());
    for (n, case) in cases.iter().enumerate().filter(|(_, c)| c.name.contains(&only)) {
        for seed in first..first + seeds {
            let mut tries = 0..=if one { 0 } else { LATE_RUNS_MAX };
            let failed = loop {
                // Each case meets other faults; a later try of the same seed, others again.
                let Some(t) = tries.next() else { break Some("every run was too late".to_owned()) };
                let own = if one { seed } else { ((n as u64) << 32 | seed << 8) + t };
                let mut p = faulty_node(&bad_link(own), own);
                let mut late_ns = 0;
                let run = run(&mut p, n, case, &mut late_ns);
                done.push(p.link_stats());
                match run {
                    Ok(()) => break None,
                    Err(_) if late_ns > LATE_NS_MAX && !one => late_runs += 1,
                    Err(e) => {
                        break Some(format!(
                            "MILLRACE_CASE_SEED={own}: {} ms late: {e}",
                            late_ns / 1_000_000
                        ));
                    }
                }
            };
            bad.extend(failed.map(|e| format!("{} ({}): {e}", case.name, case.section)));
        }
    }
    let sum = |f: fn(&LinkStats) -> u64| done.iter().flat_map(|(a, b)| [a, b]).map(f).sum::<u64>();
    println!(
        "{} runs, {late_runs} of them too late to judge: {} frames, {} lost, {} twice, {} reordered, {} damaged",
        done.len(),
        sum(|s| s.offered),
        sum(|s| s.lost),
        sum(|s| s.duplicated),
        sum(|s| s.reordered),
        sum(|s| s.corrupted),
    );
    assert!(bad.is_empty(), "{} of {} cases fail:\n{}", bad.len(), cases.len(), bad.join("\n"));
}

/// `late_ns`: how far behind the table's times a step began, at most.
fn run(p: &mut Peers, n: usize, case: &Case, late_ns: &mut u64) -> Result<(), String> {
    // Dates have seconds: every case begins right after one does.
    let second = p.now.0.div_ceil(SECOND) * SECOND;
    let mut planned = Time(second + START_NS);
    p.until(planned, &mut |_, _| Act::Close);
    let (url, host) = (format!("/c{n}"), format!("{}.lab", case.site));
    let mut ended = p.now;
    for (k, step) in case.steps.iter().enumerate() {
        if step.wait_ms > 0 {
            planned = planned.plus_ns(step.wait_ms * 1_000_000);
            let mut asked = Vec::new();
            p.until(ended.plus_ns(step.wait_ms * 1_000_000), &mut |a: &Asked, _| {
                asked.push(a.1.clone());
                Act::Close
            });
            if !asked.is_empty() {
                return Err(format!("step {}: the origin was asked before: {asked:?}", k + 1));
            }
        }
        *late_ns = p.now.since_ns(planned).max(*late_ns);
        let unix_s = p.unix_s();
        let mut asked: Vec<String> = Vec::new();
        let mut origin = |a: &Asked, unix_s: u64| {
            let is_head = a.1.starts_with("HEAD ");
            let how = &step.answers[asked.len().min(step.answers.len() - 1)];
            asked.push(a.1.clone());
            match how {
                Answer::Reply(r) => {
                    let (bytes, ends) = r.bytes(is_head, &url, unix_s);
                    Act::Send(bytes, ends)
                }
                Answer::Close => Act::Close,
                Answer::Silence => Act::Hold,
            }
        };
        let client = p.connect(&step.request(&host, &url, unix_s));
        let mut got = answer(p, client, step.method == "HEAD", &mut origin);
        ended = p.now;
        p.client_resets(client);
        p.settle(&mut origin);
        if step.answers.iter().any(|a| matches!(a, Answer::Silence)) {
            // The conversation itself wants this time: it is none that faults have cost.
            planned = planned.max(p.now);
        } else {
            finish(p, &mut origin);
        }
        got.asked = asked;
        let bad = faults(step, &got, &url, unix_s, 0);
        if !bad.is_empty() {
            let Got { head, asked, .. } = got;
            return Err(format!("step {}: {}\n    {head:?}\n    {asked:?}", k + 1, bad.join("; ")));
        }
    }
    Ok(())
}

/// What goes on behind the client's back comes to its end, if it does so soon: no time goes by over a perfect wire.
fn finish(p: &mut Peers, origin: &mut dyn FnMut(&Asked, u64) -> Act) {
    let end = p.now.plus_ns(SECOND);
    let active = |p: &Peers| p.cores.iter().any(|c| c.pipeline.proxy.active() > 0);
    while active(p) {
        let Some(t) = p.deadline().filter(|t| *t < end) else { return };
        p.now = t.max(p.now);
        p.settle(origin);
    }
}
