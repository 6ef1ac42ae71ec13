//! ProbeRTT: now and then half a BDP for a moment, so that the queues of all such flows drain and min_rtt can be seen.

use super::super::{Ack, Window};
use super::{AckPhase, Bbr, Sample, State, later, ms};

/// ProbeRTTDuration.
const PROBE_RTT_MS: u32 = 200;

impl Bbr {
    /// CheckProbeRTT, EnterProbeRTT.
    pub(super) fn check_probe_rtt(&mut self, w: &mut Window, a: &Ack, rs: &Sample) {
        if self.state != State::ProbeRtt && self.probe_rtt_expired && !self.idle_restart {
            // While the state is still the other one: the window is the one to come back to.
            self.save_cwnd(w);
            self.state = State::ProbeRtt;
            self.probe_rtt_holding = false;
            self.ack_phase = AckPhase::Stopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(w, a);
        }
        if rs.delivered > 0 {
            self.idle_restart = false;
        }
    }

    /// HandleProbeRTT.
    fn handle_probe_rtt(&mut self, w: &mut Window, a: &Ack) {
        // MarkConnectionAppLimited: low rates are of our own making.
        self.self_limited = true;
        self.limited_until = self.delivered.wrapping_add(a.in_flight);
        let now = ms(a.now);
        if !self.probe_rtt_holding {
            if a.in_flight <= self.probe_rtt_cwnd(a.mss) {
                self.probe_rtt_holding = true;
                self.probe_rtt_done_ms = now.wrapping_add(PROBE_RTT_MS);
                self.probe_rtt_round_done = false;
                self.start_round();
            }
            return;
        }
        self.probe_rtt_round_done |= self.round_start;
        if self.probe_rtt_round_done {
            self.check_probe_rtt_done(w, now);
        }
    }

    /// CheckProbeRTTDone, ExitProbeRTT.
    pub(super) fn check_probe_rtt_done(&mut self, w: &mut Window, now_ms: u32) {
        if !self.probe_rtt_holding || !later(now_ms, self.probe_rtt_done_ms, 0) {
            return;
        }
        self.probe_rtt_holding = false;
        self.probe_rtt_min_ms = now_ms;
        self.restore_cwnd(w);
        self.reset_short_term_model();
        if self.full_bw_reached {
            // What is in flight is below the BDP already.
            self.start_down(now_ms);
            self.start_cruise();
        } else {
            self.enter_startup();
        }
    }
}
