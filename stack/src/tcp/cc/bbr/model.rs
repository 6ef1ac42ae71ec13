//! Updating Network Path Model Parameters: rounds, max_bw, min_rtt, extra_acked.

use super::super::{Ack, Window};
use super::{Bbr, INFINITY, Sample, ms, reached};

/// ProbeRTTInterval.
const PROBE_RTT_INTERVAL_MS: u32 = 5_000;
/// MinRTTFilterLen.
const MIN_RTT_FILTER_MS: u32 = 10_000;
/// Half of ExtraAckedFilterLen: the filter is two halves.
const EXTRA_ACKED_HALF_ROUNDS: u8 = 5;

impl Bbr {
    /// StartRound.
    pub(super) fn start_round(&mut self) {
        self.next_round_delivered = self.delivered;
    }

    /// UpdateRound: packet-timed round trips.
    fn update_round(&mut self, rs: &Sample) {
        self.round_start = rs.valid && reached(rs.prior_delivered, self.next_round_delivered);
        if self.round_start {
            self.start_round();
            self.rounds = self.rounds.wrapping_add(1);
            self.rounds_since_probe_up = self.rounds_since_probe_up.saturating_add(1);
        }
    }

    /// UpdateMaxBw.
    pub(super) fn update_max_bw(&mut self, rs: &Sample) {
        self.update_round(rs);
        if rs.bw > 0 && (rs.bw >= self.max_bw() || !rs.app_limited) {
            self.max_bw[0] = self.max_bw[0].max(rs.bw);
        }
    }

    /// AdvanceMaxBwFilter: a cycle is over. One without a sample is not: what was known stays known.
    pub(super) fn advance_max_bw(&mut self) {
        if self.max_bw[0] > 0 {
            self.max_bw = [0, self.max_bw[0]];
        }
    }

    /// UpdateACKAggregation: how much more than the model expects is acknowledged at once.
    pub(super) fn update_ack_aggregation(&mut self, w: &Window, a: &Ack) {
        if self.round_start {
            self.extra_acked_rounds = self.extra_acked_rounds.saturating_add(1);
            // In Startup only the last round counts.
            let half = if self.full_bw_reached { EXTRA_ACKED_HALF_ROUNDS } else { 1 };
            if self.extra_acked_rounds >= half {
                self.extra_acked_rounds = 0;
                let kept = if self.full_bw_reached { self.extra_acked[0] } else { 0 };
                self.extra_acked = [0, kept];
            }
        }
        if a.delivered == 0 {
            return;
        }
        let now_us = (a.now.0 / 1000) as u32;
        let interval = now_us.wrapping_sub(self.extra_acked_start_us);
        let mut expected = self.bw().saturating_mul(u64::from(interval)) / 1_000_000;
        if u64::from(self.extra_acked_delivered) <= expected {
            self.extra_acked_delivered = 0;
            self.extra_acked_start_us = now_us;
            expected = 0;
        }
        self.extra_acked_delivered = self.extra_acked_delivered.saturating_add(a.delivered);
        // What was delivered is a u32, so the difference is.
        let extra = u64::from(self.extra_acked_delivered).saturating_sub(expected) as u32;
        self.extra_acked[0] = self.extra_acked[0].max(extra.min(w.cwnd));
    }

    /// BBR.extra_acked.
    pub(super) fn extra_acked(&self) -> u32 {
        self.extra_acked[0].max(self.extra_acked[1])
    }

    /// UpdateMinRTT: the filter of min_rtt, and when it is time to look for a lower one.
    pub(super) fn update_min_rtt(&mut self, a: &Ack) {
        let now = ms(a.now);
        self.probe_rtt_expired = now.wrapping_sub(self.probe_rtt_min_ms) > PROBE_RTT_INTERVAL_MS;
        if a.rtt_us > 0 && (a.rtt_us < self.probe_rtt_min_us || self.probe_rtt_expired) {
            self.probe_rtt_min_us = a.rtt_us;
            self.probe_rtt_min_ms = now;
        }
        let expired = now.wrapping_sub(self.min_rtt_ms) > MIN_RTT_FILTER_MS;
        if self.probe_rtt_min_us < self.min_rtt_us || (expired && self.probe_rtt_min_us != INFINITY) {
            self.min_rtt_us = self.probe_rtt_min_us;
            self.min_rtt_ms = self.probe_rtt_min_ms;
        }
    }
}
