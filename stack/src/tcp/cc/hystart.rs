//! HyStart++ (RFC 9406): the first slow start ends when the round-trip time says that a queue builds, not when it overflows.
//!
//! ```text
//!   slow start ──RTT of this round ≥ last round's + 1/8 (4..16 ms)──► conservative slow start (a quarter of the growth)
//!       ▲        or a train of ACKs as long as half the RTT               │                 │
//!       └──────────── RTT below what it was at the change ◄───────────────┘    5 rounds, or both: ssthresh = cwnd
//! ```
//!
//! The train of ACKs is the other half of HyStart (Ha and Rhee, 2011), which RFC 9406 leaves out: a window that goes out in
//! one lot meets an empty queue with its first segments, so that the round's first RTTs tell nothing, and the next, twice as
//! large, is out before the later ones do. ACKs that come without a gap for half a round trip mean that the window fills
//! half the path, and the next one all of it. Where they were spread by something else, conservative slow start goes on.
//!
//! A path that is too short for trains (4 ms) has its own RTT as the threshold, as 4 ms may be all of its queue, and each
//! eight samples are judged for themselves there, not the lowest RTT of the round, which is that of its first ACKs.

use super::Ack;

/// MIN_RTT_THRESH.
const RTT_THRESHOLD_MIN_US: u32 = 4_000;
/// On a path shorter than MIN_RTT_THRESH its own RTT is threshold enough, down to this.
const RTT_THRESHOLD_LEAST_US: u32 = 500;
/// MAX_RTT_THRESH.
const RTT_THRESHOLD_MAX_US: u32 = 16_000;
/// MIN_RTT_DIVISOR.
const RTT_DIVISOR: u32 = 8;
/// N_RTT_SAMPLE: fewer in a round say nothing.
const SAMPLES: u8 = 8;
/// CSS_GROWTH_DIVISOR.
const CSS_GROWTH_DIVISOR: u32 = 4;
/// CSS_ROUNDS.
const CSS_ROUNDS: u8 = 5;
/// ACKs with no longer gap between them are a train (HyStart: ACK spacing).
const TRAIN_GAP_US: u32 = 2_000;
/// No RTT yet.
const NONE: u32 = u32::MAX;

/// State of one connection's first slow start.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    /// windowEnd: the round ends when more than this is acknowledged.
    round_end: u32,
    last_round_min_us: u32,
    this_round_min_us: u32,
    /// Lowest of the last samples, up to [`SAMPLES`].
    group_min_us: u32,
    /// When the first and the last ACK of a train came, µs modulo 2^32.
    train_began_us: u32,
    train_us: u32,
    /// cssBaselineMinRtt; [`NONE`] outside of conservative slow start.
    css_baseline_us: u32,
    /// In the group.
    samples: u8,
    css_rounds: u8,
    started: bool,
    /// Conservative because of a train of ACKs, or a train has come since.
    train: bool,
}

/// What an ACK in slow start comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The window may grow by that much.
    Grow(u32),
    /// Slow start is over.
    Exit,
}

/// RttThresh: how much more than `rtt_us` is a queue.
fn threshold(rtt_us: u32) -> u32 {
    (rtt_us / RTT_DIVISOR)
        .clamp(rtt_us.clamp(RTT_THRESHOLD_LEAST_US, RTT_THRESHOLD_MIN_US), RTT_THRESHOLD_MAX_US)
}

impl HyStart {
    pub(super) const fn new() -> HyStart {
        HyStart {
            round_end: 0,
            last_round_min_us: NONE,
            this_round_min_us: NONE,
            group_min_us: NONE,
            train_began_us: 0,
            train_us: 0,
            css_baseline_us: NONE,
            samples: 0,
            css_rounds: 0,
            started: false,
            train: false,
        }
    }

    /// In conservative slow start.
    pub(super) fn conservative(&self) -> bool {
        self.css_baseline_us != NONE
    }

    /// An ACK in the first slow start (RFC 9406 4.2). It counts for all that it delivers, though what it lets go is not
    /// paced: `common::slow_start` says why.
    #[inline]
    pub(super) fn on_ack(&mut self, a: &Ack) -> Step {
        if !self.started {
            self.started = true;
            self.round_end = a.snd_nxt;
            self.board(a);
        } else if a.snd_una.wrapping_sub(self.round_end) as i32 > 0 {
            // A round begins with the first ACK of what was sent in the last one, as in Linux; not with the last ACK before,
            // as RFC 9406 has it: what that lets go is not out yet then. A round would end sooner than the window that it
            // follows, by more in each, until its first samples were those of a window's last segments, that wait in the
            // queue which the window itself is.
            // A train is one round's, too; that of the next may follow without a gap.
            self.board(a);
            if self.next_round(a.snd_nxt) {
                return Step::Exit;
            }
        }
        if a.rtt_us > 0 {
            self.this_round_min_us = self.this_round_min_us.min(a.rtt_us);
            self.group_min_us = self.group_min_us.min(a.rtt_us);
            self.samples += 1;
            if self.samples == SAMPLES {
                self.judge();
                // A train is what tells early on a longer path.
                if a.min_rtt_us / 2 <= TRAIN_GAP_US {
                    (self.samples, self.group_min_us) = (0, NONE);
                } else {
                    self.samples -= 1;
                }
            }
        }
        self.follow_train(a);
        if self.both_agree(a) {
            return Step::Exit;
        }
        Step::Grow(if self.conservative() { a.delivered / CSS_GROWTH_DIVISOR } else { a.delivered })
    }

    /// The first ACK of a train.
    fn board(&mut self, a: &Ack) {
        let now_us = (a.now.0 / 1000) as u32;
        (self.train_began_us, self.train_us) = (now_us, now_us);
    }

    /// ACKs without a gap for half a round trip: the path is about to be full.
    fn follow_train(&mut self, a: &Ack) {
        let now_us = (a.now.0 / 1000) as u32;
        if now_us.wrapping_sub(self.train_us) > TRAIN_GAP_US {
            return self.board(a); // The last ACK of a window may have been delayed: the train begins here.
        }
        self.train_us = now_us;
        let half = a.min_rtt_us / 2;
        // Where a round trip is no longer than a gap may be, everything is a train.
        let told_apart = a.min_rtt_us != NONE && half > TRAIN_GAP_US;
        let long = told_apart && now_us.wrapping_sub(self.train_began_us) > half;
        if long && self.this_round_min_us != NONE {
            self.train = true;
            if !self.conservative() {
                self.css_baseline_us = self.this_round_min_us;
                self.css_rounds = 0;
            }
        }
    }

    /// A train, and at its end a queue: the path is full, and there is nothing to be careful about any more.
    fn both_agree(&self, a: &Ack) -> bool {
        if !self.train || a.rtt_us == 0 {
            return false;
        }
        a.rtt_us >= a.min_rtt_us.saturating_add(threshold(a.min_rtt_us))
    }

    /// Enough samples: does a queue build, or was the last such finding a false one?
    fn judge(&mut self) {
        if self.conservative() {
            if self.group_min_us < self.css_baseline_us {
                (self.css_baseline_us, self.train) = (NONE, false);
            }
        } else if self.last_round_min_us != NONE
            && self.group_min_us >= self.last_round_min_us.saturating_add(threshold(self.last_round_min_us))
        {
            self.css_baseline_us = self.group_min_us;
            self.css_rounds = 0;
        }
    }

    /// A round is over. Whether slow start is, too.
    fn next_round(&mut self, snd_nxt: u32) -> bool {
        self.round_end = snd_nxt;
        self.last_round_min_us = self.this_round_min_us;
        (self.this_round_min_us, self.group_min_us, self.samples) = (NONE, NONE, 0);
        if self.conservative() {
            // A round that was partly conservative counts (RFC 9406 4.2).
            self.css_rounds += 1;
        }
        self.conservative() && self.css_rounds >= CSS_ROUNDS
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::ack;
    use super::*;

    const MSS: u32 = 1000;

    /// Ten ACKs of a segment each, all with that RTT; says how the window grew, or that slow start ended.
    fn round(h: &mut HyStart, nxt: &mut u32, rtt_us: u32) -> Option<u32> {
        let una = *nxt;
        *nxt = nxt.wrapping_add(10 * MSS);
        let mut grown = 0;
        for i in 1..=10 {
            // With the last of them the next ten go out.
            let snd_nxt = nxt.wrapping_add(i / 10 * 10 * MSS);
            let a = Ack { snd_una: una.wrapping_add(i * MSS), snd_nxt, rtt_us, ..ack(MSS, MSS) };
            match h.on_ack(&a) {
                Step::Grow(bytes) => grown += bytes,
                Step::Exit => return None,
            }
        }
        Some(grown)
    }

    #[test]
    fn a_steady_path_doubles_and_a_growing_queue_ends_it_after_five_rounds() {
        for start in [0, u32::MAX - 35_000] {
            let (mut h, mut nxt) = (HyStart::new(), start);
            for _ in 0..4 {
                assert_eq!(round(&mut h, &mut nxt, 40_000), Some(10 * MSS));
            }
            assert_eq!(round(&mut h, &mut nxt, 44_999), Some(10 * MSS), "below an eighth");
            let grown = round(&mut h, &mut nxt, 51_000).unwrap();
            assert!(
                h.conservative() && grown > 7 * MSS && grown < 9 * MSS,
                "from the eighth sample on: {grown}"
            );
            for _ in 0..4 {
                assert!(h.conservative());
                if round(&mut h, &mut nxt, 55_000).is_none() {
                    return;
                }
            }
            assert_eq!(round(&mut h, &mut nxt, 55_000), None);
        }
    }

    #[test]
    fn a_false_alarm_is_taken_back() {
        let (mut h, mut nxt) = (HyStart::new(), 5);
        round(&mut h, &mut nxt, 20_000);
        round(&mut h, &mut nxt, 20_000);
        round(&mut h, &mut nxt, 24_500);
        assert!(h.conservative());
        round(&mut h, &mut nxt, 21_000);
        assert!(!h.conservative());
        assert_eq!(round(&mut h, &mut nxt, 21_000), Some(10 * MSS));
    }

    #[test]
    fn thresholds_are_bounded_and_few_samples_say_nothing() {
        for (before, after, found) in [
            (100, 599, false),
            (100, 600, true),
            (1_000, 1_999, false),
            (1_000, 2_000, true),
            (10_000, 13_999, false),
            (10_000, 14_000, true),
            (80_000, 89_999, false),
            (80_000, 90_000, true),
            (400_000, 415_999, false),
            (400_000, 416_000, true),
        ] {
            let (mut h, mut nxt) = (HyStart::new(), 0);
            round(&mut h, &mut nxt, before);
            round(&mut h, &mut nxt, before);
            round(&mut h, &mut nxt, after);
            assert_eq!(h.conservative(), found, "{before} then {after}");
        }
        let mut h = HyStart::new();
        for i in 0..20u32 {
            // Two ACKs a round.
            for rtt_us in [20_000 + i * 10_000; 2] {
                h.on_ack(&Ack { snd_una: i * MSS, snd_nxt: (i + 1) * MSS, rtt_us, ..ack(MSS, MSS) });
            }
        }
        assert!(!h.conservative());
    }

    /// Over a path of 100 ms with a segment in 120 µs, each ACK of a window lets two segments go, of which one waits for the
    /// other: a window's last segments find a queue of half its size.
    #[test]
    fn a_window_is_not_taken_for_a_queue_before_it_fills_half_the_path() {
        let (mut h, mut una, mut nxt) = (HyStart::new(), 0u32, 10 * MSS);
        for round in 1..8u64 {
            let window = 5 << round;
            for i in 0..window {
                una += MSS;
                let now = dataplane::Time(round * 100_000_000 + u64::from(i) * 120_000);
                let rtt_us = 100_000 + i * 60;
                let a = Ack { now, snd_una: una, snd_nxt: nxt, rtt_us, min_rtt_us: 100_000, ..ack(MSS, MSS) };
                match h.on_ack(&a) {
                    // Half the path is 50 ms: 417 ACKs. By then there is a queue of 25 ms, too.
                    Step::Exit => return assert_eq!((window, i), (640, 417)),
                    step => assert_eq!(step, Step::Grow(MSS), "segment {i} of {window}"),
                }
                // What the ACK lets go is sent behind it.
                nxt += 2 * MSS;
            }
        }
        panic!("never found");
    }
}
