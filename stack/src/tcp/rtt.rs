//! Round-trip time and the retransmission timeout (RFC 6298).

/// RTO floor. RFC 6298 says 1 s; 200 ms is what Linux and everybody who measures uses (DESIGN.md 6).
pub const RTO_MIN_US: u32 = 200_000;
/// RTO ceiling (RFC 6298 2.5: at least 60 s).
pub const RTO_MAX_US: u32 = 60_000_000;
/// RTO before the first sample (RFC 6298 2.1).
pub const RTO_INITIAL_US: u32 = 1_000_000;

/// The estimator; microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    /// Smoothed RTT; 0 before the first sample.
    pub srtt_us: u32,
    /// Its mean deviation.
    pub var_us: u32,
    /// RTO without back-off.
    pub rto_us: u32,
}

impl Default for Rtt {
    fn default() -> Rtt {
        Rtt::UNKNOWN
    }
}

impl Rtt {
    /// Before the first sample.
    pub const UNKNOWN: Rtt = Rtt { srtt_us: 0, var_us: 0, rto_us: RTO_INITIAL_US };

    /// Takes a sample. The caller keeps Karn's rule: never from a segment that was sent twice.
    #[inline(always)]
    pub fn sample(&mut self, us: u32) {
        let us = us.clamp(1, RTO_MAX_US);
        if self.srtt_us == 0 {
            self.srtt_us = us;
            self.var_us = us / 2;
        } else {
            let err = self.srtt_us.abs_diff(us);
            self.var_us = self.var_us - self.var_us / 4 + err / 4;
            self.srtt_us = self.srtt_us - self.srtt_us / 8 + us / 8;
        }
        // The clock's granularity term (G) is the wheel's tick, 64 µs: far below the floor.
        self.rto_us = self.srtt_us.saturating_add((4 * self.var_us).max(64)).clamp(RTO_MIN_US, RTO_MAX_US);
    }

    /// The timeout after `backoff` expiries in a row, in nanoseconds (RFC 6298 5.5).
    #[inline]
    pub fn rto_ns(&self, backoff: u8) -> u64 {
        let us = u64::from(self.rto_us) << backoff.min(16);
        us.min(u64::from(RTO_MAX_US)) * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_sample_then_smoothing_within_the_bounds() {
        let mut r = Rtt::default();
        assert_eq!(r.rto_ns(0), 1_000_000_000);
        r.sample(300_000);
        assert_eq!((r.srtt_us, r.var_us, r.rto_us), (300_000, 150_000, 900_000));
        for _ in 0..200 {
            r.sample(10_000);
        }
        assert_eq!(r.rto_us, RTO_MIN_US);
        assert_eq!(r.rto_ns(1), 400_000_000);
        assert_eq!(r.rto_ns(200), u64::from(RTO_MAX_US) * 1000);
        r.sample(0);
        r.sample(u32::MAX);
        assert!(r.rto_us <= RTO_MAX_US);
    }
}
