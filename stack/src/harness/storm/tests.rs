//! The storm by seeds: a few in every run of the tests, many by `scripts/checks/storm.sh`.

use std::io::Write;
use std::time::Instant;

use dataplane::Ctr;

use super::Storm;
use crate::harness::tests::{Seed, first, runs};

/// Frames that a seed gives to the stack.
fn frames_each() -> u64 {
    std::env::var("MILLRACE_FUZZ_FRAMES").ok().and_then(|v| v.parse().ok()).unwrap_or(10_000)
}

/// What must have happened in a run of the tests, or the storm does not reach what it is for.
const REACHED: &[Ctr] = &[
    Ctr::TcpPassiveOpens,
    Ctr::TcpActiveFailed,
    Ctr::TcpClosed,
    Ctr::TcpTimeouts,
    Ctr::TcpRto,
    Ctr::TcpFastRetransmit,
    Ctr::TcpTailProbes,
    Ctr::TcpUndo,
    Ctr::TcpDsackReceived,
    Ctr::TcpSackReneged,
    Ctr::TcpOutOfOrder,
    Ctr::TcpDupAcks,
    Ctr::TcpZeroWindow,
    Ctr::TcpZeroWindowProbes,
    Ctr::TcpKeepAlives,
    Ctr::TcpChallengeAcks,
    Ctr::TcpDelayedAcks,
    Ctr::TcpCompacted,
    Ctr::TcpCookiesSent,
    Ctr::TcpCookiesAccepted,
    Ctr::TcpCookiesRefused,
    Ctr::TcpCeReceived,
    Ctr::TcpEceReceived,
    Ctr::TcpMtuLearnt,
    Ctr::TcpReneged,
    Ctr::TcpNoRecord,
    Ctr::TcpNoSegment,
    Ctr::TcpNoHeader,
    Ctr::TcpTimeWaits,
    Ctr::TcpTimeWaitReused,
    Ctr::TcpResetsReceived,
    Ctr::TcpResetsSent,
    Ctr::DropTcpMalformed,
    Ctr::DropTcpChecksum,
    Ctr::DropTcpNoListener,
    Ctr::DropTcpNoFlow,
    Ctr::DropTcpReset,
    Ctr::DropTcpWindow,
    Ctr::DropTcpAck,
    Ctr::DropTcpSyn,
    Ctr::DropTcpNoAck,
    Ctr::DropTcpDuplicate,
    Ctr::DropTcpFlowsFull,
    Ctr::DropTcpListenerFull,
    Ctr::DropTcpRxLow,
    Ctr::DropTcpClosed,
    Ctr::DropTcpTimeWait,
    Ctr::DropTcpPaws,
];

/// Seed by seed; a failing one says how to run it again.
#[test]
fn a_storm_of_segments_leaves_nothing_behind() {
    let (from, seeds, each) = (first(), runs(24), frames_each());
    let begun = Instant::now();
    let (mut frames, mut sent) = (0, 0);
    let mut seen = vec![0u64; REACHED.len()];
    for seed in from..from + seeds {
        let _seed = Seed(seed);
        let out = Storm::new(seed).run(each);
        frames += out.frames;
        sent += out.sent;
        for (n, c) in seen.iter_mut().zip(REACHED) {
            *n += out.counts.get(*c);
        }
        let done = seed + 1 - from;
        if done.is_multiple_of(100) || done == seeds {
            let rate = frames as f64 / begun.elapsed().as_secs_f64();
            println!("{done} seeds from {from} on, {frames} frames in, {sent} out, {rate:.0} a second");
            let _ = std::io::stdout().flush();
        }
    }
    if seeds > 1 {
        println!("of them:");
    }
    for (n, c) in seen.iter().zip(REACHED) {
        println!("{n:12} {}", c.name());
        assert!(*n > 0 || seeds < 24, "no {} in {frames} frames", c.name());
    }
}
