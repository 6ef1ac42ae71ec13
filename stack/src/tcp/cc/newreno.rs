//! NewReno (RFC 5681, 6582), the reference: bytes counted (RFC 3465), an unused window does not grow (RFC 7661).
//!
//! Loss recovery itself is the engine's (SACK, RACK-TLP, PRR): only the size of the reduction is decided here.

use dataplane::Time;

use super::common::{
    MAX_WINDOW, Phase, ack_phase, after_idle, pace, recovered, reduction_base, slow_start, timeout_window,
    undo,
};
use super::{Ack, Congestion, CongestionControl, Kind, Sent, Window};

/// State of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewReno {
    /// Bytes acknowledged towards the next segment of growth, in congestion avoidance.
    counted: u32,
    phase: Phase,
}

impl NewReno {
    /// At the start of a connection.
    pub const fn new() -> NewReno {
        NewReno { counted: 0, phase: Phase::Open }
    }

    /// One segment for each window of bytes that was acknowledged (RFC 5681 3.1, RFC 3465 2.1).
    fn avoid(&mut self, w: &mut Window, bytes: u32, mss: u32) {
        self.counted = self.counted.saturating_add(bytes);
        if self.counted >= w.cwnd {
            self.counted = (self.counted - w.cwnd).min(w.cwnd);
            w.cwnd = w.cwnd.saturating_add(mss).min(MAX_WINDOW);
        }
    }
}

impl CongestionControl for NewReno {
    const PRR: bool = true;

    fn on_sent(&mut self, w: &mut Window, s: &Sent) {
        if after_idle(w, s) {
            self.counted = 0;
        }
    }

    fn on_ack(&mut self, w: &mut Window, a: &Ack) {
        if ack_phase(self.phase, a) && a.limited {
            let rest = slow_start(w, a, self.phase);
            if rest > 0 && w.cwnd >= w.ssthresh {
                self.avoid(w, rest, a.mss);
            }
        }
        pace(w, a, self.phase);
    }

    fn on_congestion(&mut self, w: &mut Window, c: &Congestion) {
        self.counted = 0;
        match c.kind {
            Kind::Loss | Kind::Ecn => {
                w.ssthresh = (reduction_base(w, c) / 2).max(2 * c.mss);
                self.phase = Phase::Recovery;
            }
            Kind::Rto { first } => {
                // A timeout in a recovery, or one more in a row, is the congestion that was answered already.
                if first && self.phase == Phase::Open {
                    w.ssthresh = (reduction_base(w, c) / 2).max(2 * c.mss);
                }
                timeout_window(w, c);
                self.phase = Phase::Timeout;
            }
        }
    }

    fn on_recovered(&mut self, w: &mut Window, _: Time, _: u32) {
        recovered(w, &mut self.phase);
    }

    fn on_undo(&mut self, w: &mut Window, prior: &Window, _: Time) {
        undo(w, &mut self.phase, prior);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{ack, lost_at, sent_after};
    use super::super::{INITIAL_SEGMENTS, NO_THRESHOLD};
    use super::*;

    const MSS: u32 = 1000;

    fn start() -> (NewReno, Window) {
        (NewReno::new(), Window::new(MSS))
    }

    #[test]
    fn slow_start_doubles_then_one_segment_a_window() {
        let (mut c, mut w) = start();
        for _ in 0..10 {
            c.on_ack(&mut w, &ack(MSS, MSS));
        }
        assert_eq!(w.cwnd, 20 * MSS);
        w.ssthresh = 20 * MSS;
        for _ in 0..20 {
            c.on_ack(&mut w, &ack(MSS, MSS));
        }
        assert_eq!(w.cwnd, 21 * MSS);
        for bytes in [MSS, 50 * MSS] {
            c.on_ack(&mut w, &Ack { limited: false, ..ack(bytes, MSS) });
        }
        assert_eq!(w.cwnd, 21 * MSS, "an unused window does not grow");
    }

    #[test]
    fn slow_start_ends_at_the_threshold_within_one_ack() {
        let (mut c, mut w) = start();
        w.ssthresh = 15 * MSS;
        c.on_ack(&mut w, &ack(10 * MSS, MSS));
        assert_eq!(w.cwnd, 15 * MSS, "five in slow start; five count towards the next segment");
        c.on_ack(&mut w, &ack(10 * MSS, MSS));
        assert_eq!(w.cwnd, 16 * MSS);
    }

    #[test]
    fn an_unpaced_burst_is_bounded_by_two_segments_an_ack() {
        let (mut c, mut w) = start();
        c.on_ack(&mut w, &Ack { srtt_us: 0, ..ack(10 * MSS, MSS) });
        assert_eq!(w.cwnd, 12 * MSS, "RFC 3465 L = 2");
        assert_eq!(w.pacing_rate, 0);
    }

    /// RFC 5681 (4), RFC 6582, RFC 7661 4.4: what a loss leaves.
    #[test]
    fn loss_ecn_and_timeouts() {
        let cases = [
            // kind, window, in flight → ssthresh, cwnd (in segments)
            (Kind::Loss, 40, 40, 20, 40),
            (Kind::Ecn, 40, 38, 20, 40),
            (Kind::Loss, 3, 3, 2, 3),
            (Kind::Loss, 40, 12, 10, 40),
            (Kind::Rto { first: true }, 40, 40, 20, 1),
        ];
        for (kind, cwnd, flight, ssthresh, after) in cases {
            let (mut c, mut w) = start();
            w.cwnd = cwnd * MSS;
            c.on_congestion(&mut w, &lost_at(kind, flight * MSS, MSS));
            assert_eq!((w.ssthresh, w.cwnd), (ssthresh * MSS, after * MSS), "{kind:?} {cwnd} {flight}");
        }
    }

    #[test]
    fn one_reduction_for_one_congestion() {
        let (mut c, mut w) = start();
        w.cwnd = 40 * MSS;
        c.on_congestion(&mut w, &lost_at(Kind::Loss, 40 * MSS, MSS));
        c.on_congestion(&mut w, &lost_at(Kind::Rto { first: true }, 30 * MSS, MSS));
        c.on_congestion(&mut w, &lost_at(Kind::Rto { first: false }, MSS, MSS));
        assert_eq!((w.ssthresh, w.cwnd), (20 * MSS, MSS), "neither timeout halves again");
        // After a timeout the window grows though the engine still retransmits; in fast recovery it does not.
        let in_recovery = Ack { in_recovery: true, ..ack(4 * MSS, MSS) };
        c.on_ack(&mut w, &in_recovery);
        assert_eq!(w.cwnd, 2 * MSS, "RFC 3465 2.3: one segment an ACK after a timeout");
        c.on_recovered(&mut w, Time(0), MSS);
        assert_eq!(w.cwnd, 2 * MSS);
        c.on_congestion(&mut w, &lost_at(Kind::Loss, 2 * MSS, MSS));
        c.on_ack(&mut w, &in_recovery);
        assert_eq!(w.cwnd, 2 * MSS);
        w.cwnd = MSS;
        c.on_recovered(&mut w, Time(0), MSS);
        assert_eq!(w.cwnd, w.ssthresh);
    }

    #[test]
    fn undo_and_idle() {
        let (mut c, mut w) = start();
        w.cwnd = 40 * MSS;
        let prior = w;
        c.on_congestion(&mut w, &lost_at(Kind::Rto { first: true }, 40 * MSS, MSS));
        c.on_undo(&mut w, &prior, Time(0));
        assert_eq!((w.cwnd, w.ssthresh), (40 * MSS, NO_THRESHOLD));

        w.ssthresh = 4 * MSS;
        c.on_sent(&mut w, &sent_after(150_000_000, MSS));
        assert_eq!(w.cwnd, 40 * MSS, "less than an RTO");
        c.on_sent(&mut w, &sent_after(450_000_000, MSS));
        assert_eq!((w.cwnd, w.ssthresh), (10 * MSS, 30 * MSS), "two RTOs");
        c.on_sent(&mut w, &sent_after(u64::MAX, MSS));
        assert_eq!(w.cwnd, INITIAL_SEGMENTS * MSS);
    }

    #[test]
    fn paced_at_six_fifths_of_the_window_once_slow_start_has_ended() {
        let (mut c, mut w) = start();
        c.on_ack(&mut w, &ack(0, MSS));
        assert_eq!(w.pacing_rate, 0, "the first slow start is clocked by its ACKs");
        w.ssthresh = 12 * MSS;
        c.on_ack(&mut w, &ack(0, MSS));
        assert_eq!(w.pacing_rate, 12 * u64::from(MSS) * 50, "20 ms");
        w.ssthresh = 40 * MSS;
        c.on_ack(&mut w, &ack(0, MSS));
        assert_eq!(w.pacing_rate, 2 * 10 * u64::from(MSS) * 50, "a later one");
    }
}
