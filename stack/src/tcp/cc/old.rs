//! Congestion control: NewReno (RFC 5681, 6582), bytes counted (RFC 3465, L = 2).
//!
//! The TCP issue puts this behind a trait with CUBIC and BBR beside it; the events are the trait's already.

/// Initial window: ten segments (RFC 6928).
pub const INITIAL_SEGMENTS: u32 = 10;

/// One flow's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reno {
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Slow-start threshold, bytes.
    pub ssthresh: u32,
    /// Bytes acknowledged towards the next segment of growth, in congestion avoidance.
    acked: u32,
}

impl Reno {
    /// At the start of a connection.
    pub fn new(mss: u32) -> Reno {
        Reno { cwnd: INITIAL_SEGMENTS * mss, ssthresh: u32::MAX, acked: 0 }
    }

    /// New data acknowledged, outside of recovery; `limited`: the window was what held the sender back.
    pub fn on_ack(&mut self, bytes: u32, mss: u32, limited: bool) {
        // A window that was not used says nothing about the path (RFC 7661).
        if !limited {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd = self.cwnd.saturating_add(bytes.min(2 * mss));
            return;
        }
        self.acked = self.acked.saturating_add(bytes);
        if self.acked >= self.cwnd {
            self.acked -= self.cwnd;
            self.cwnd = self.cwnd.saturating_add(mss);
        }
    }

    /// A third duplicate ACK (RFC 6582 3.2 step 2).
    pub fn on_loss(&mut self, flight: u32, mss: u32) {
        self.ssthresh = (flight / 2).max(2 * mss);
        self.cwnd = self.ssthresh + 3 * mss;
        self.acked = 0;
    }

    /// One more duplicate ACK in recovery: a segment has left the network.
    pub fn on_dup_ack(&mut self, mss: u32) {
        self.cwnd = self.cwnd.saturating_add(mss);
    }

    /// New data acknowledged, but not all that was out when the loss was found (RFC 6582 3.2 step 5).
    pub fn on_partial_ack(&mut self, bytes: u32, mss: u32) {
        self.cwnd = self.cwnd.saturating_sub(bytes);
        if bytes >= mss {
            self.cwnd += mss;
        }
        self.cwnd = self.cwnd.max(mss);
    }

    /// All that was out is acknowledged: recovery is over.
    pub fn on_recovered(&mut self, flight: u32, mss: u32) {
        self.cwnd = self.ssthresh.min(flight.max(mss) + mss);
    }

    /// The retransmission timer ran out (RFC 5681 3.1).
    pub fn on_rto(&mut self, flight: u32, mss: u32, first: bool) {
        if first {
            self.ssthresh = (flight / 2).max(2 * mss);
        }
        self.cwnd = mss;
        self.acked = 0;
    }

    /// Nothing was sent for longer than an RTO (RFC 5681 4.1).
    pub fn on_idle(&mut self, mss: u32) {
        self.cwnd = self.cwnd.min(INITIAL_SEGMENTS * mss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn slow_start_doubles_then_one_segment_a_window() {
        let mut c = Reno::new(MSS);
        for _ in 0..10 {
            c.on_ack(MSS, MSS, true);
        }
        assert_eq!(c.cwnd, 20 * MSS);
        c.ssthresh = 20 * MSS;
        for _ in 0..20 {
            c.on_ack(MSS, MSS, true);
        }
        assert_eq!(c.cwnd, 21 * MSS);
        c.on_ack(MSS, MSS, false);
        c.on_ack(50 * MSS, MSS, false);
        assert_eq!(c.cwnd, 21 * MSS, "an unused window does not grow");
    }

    #[test]
    fn loss_halves_and_a_timeout_starts_over() {
        let mut c = Reno::new(MSS);
        c.cwnd = 40 * MSS;
        c.on_loss(40 * MSS, MSS);
        assert_eq!((c.ssthresh, c.cwnd), (20 * MSS, 23 * MSS));
        c.on_dup_ack(MSS);
        c.on_partial_ack(4 * MSS, MSS);
        assert_eq!(c.cwnd, 21 * MSS);
        c.on_recovered(5 * MSS, MSS);
        assert_eq!(c.cwnd, 6 * MSS, "no burst after recovery");
        c.on_rto(6 * MSS, MSS, true);
        assert_eq!((c.ssthresh, c.cwnd), (3 * MSS, MSS));
        c.on_rto(MSS, MSS, false);
        assert_eq!(c.ssthresh, 3 * MSS, "the second timeout in a row does not halve again");
    }
}
