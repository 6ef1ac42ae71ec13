//! Updating Control Parameters: pacing rate, send quantum, congestion window.

use super::super::common::{MAX_WINDOW, Phase, UNPACED_SEGMENTS};
use super::super::{Ack, INITIAL_SEGMENTS, Window};
use super::{Bbr, INFINITY, MIN_PIPE_SEGMENTS, State};

/// PacingMarginPercent is 1.
const PACED_PERCENT: u64 = 99;
/// The most that goes out at once.
const QUANTUM_MAX: u64 = 64 * 1024;

impl Bbr {
    /// InitPacingRate: the window in a round trip, as it is before there is a rate to go by. The draft does so with the
    /// initial window only; the next few are as much of a guess, and their ACKs come a round trip late.
    pub(super) fn init_pacing_rate(&self, w: &mut Window, a: &Ack) {
        // The handshake's RTT may have had the neighbour's resolution in it.
        let rtt_us = if a.rtt_us > 0 { a.rtt_us } else { a.srtt_us };
        if rtt_us > 0 && !self.full_bw_reached && w.cwnd < UNPACED_SEGMENTS * a.mss {
            let nominal = u64::from(w.cwnd) * 1_000_000 / u64::from(rtt_us);
            w.pacing_rate = w.pacing_rate.max(nominal * State::Startup.pacing_gain() / 100).max(1);
        }
    }

    /// SetPacingRateWithGain: until the pipe was full once, the rate only rises.
    pub(super) fn set_pacing_rate(&self, w: &mut Window, gain_percent: u64) {
        let rate = self.bw().saturating_mul(gain_percent * PACED_PERCENT) / 10_000;
        if rate > 0 && (self.full_bw_reached || rate > w.pacing_rate) {
            w.pacing_rate = rate;
        }
    }

    /// SetSendQuantum: a millisecond's worth.
    pub(super) fn send_quantum(w: &Window, mss: u32) -> u32 {
        ((w.pacing_rate / 1000).min(QUANTUM_MAX) as u32).max(2 * mss)
    }

    /// BDPMultiple; none before the first RTT sample.
    pub(super) fn bdp(&self, bw: u64, gain_percent: u64) -> Option<u32> {
        if self.min_rtt_us == INFINITY {
            return None;
        }
        let bdp = (bw.saturating_mul(u64::from(self.min_rtt_us)) / 1_000_000).min(u64::from(MAX_WINDOW));
        Some((bdp * gain_percent / 100) as u32)
    }

    /// TargetInflight.
    pub(super) fn target_inflight(&self, w: &Window) -> u32 {
        self.bdp(self.bw(), 100).unwrap_or(INFINITY).min(w.cwnd)
    }

    /// QuantizationBudget: three bursts, or what ACKs of every second segment need.
    fn quantization_budget(&self, cap: u32, w: &Window, mss: u32) -> u32 {
        let cap = cap.max(3 * Bbr::send_quantum(w, mss)).max(MIN_PIPE_SEGMENTS * mss);
        if self.state == State::Up { cap.saturating_add(2 * mss) } else { cap }
    }

    /// Inflight.
    pub(super) fn inflight(&self, bw: u64, gain_percent: u64, w: &Window, mss: u32) -> u32 {
        self.quantization_budget(self.bdp(bw, gain_percent).unwrap_or(INITIAL_SEGMENTS * mss), w, mss)
    }

    /// UpdateMaxInflight.
    fn max_inflight(&self, w: &Window, mss: u32) -> u32 {
        let cap = self.bdp(self.bw(), self.state.cwnd_gain()).unwrap_or(INITIAL_SEGMENTS * mss);
        self.quantization_budget(cap.saturating_add(self.extra_acked()), w, mss)
    }

    /// ProbeRTTCwnd.
    pub(super) fn probe_rtt_cwnd(&self, mss: u32) -> u32 {
        let cap = self.bdp(self.bw(), State::ProbeRtt.cwnd_gain()).unwrap_or(INITIAL_SEGMENTS * mss);
        cap.max(MIN_PIPE_SEGMENTS * mss)
    }

    /// SetCwnd. The draft lets the window grow without a look at the model until the initial window has been delivered;
    /// the model knows little more before the next few have.
    pub(super) fn set_cwnd(&self, w: &mut Window, a: &Ack) {
        let max_inflight = self.max_inflight(w, a.mss);
        let grown = w.cwnd.saturating_add(a.delivered).min(MAX_WINDOW);
        if self.full_bw_reached {
            w.cwnd = grown.min(max_inflight);
        } else if w.cwnd < max_inflight || self.delivered < UNPACED_SEGMENTS * a.mss {
            w.cwnd = grown;
        }
        w.cwnd = w.cwnd.max(MIN_PIPE_SEGMENTS * a.mss);
        if self.state == State::ProbeRtt {
            w.cwnd = w.cwnd.min(self.probe_rtt_cwnd(a.mss));
        }
        self.bound_cwnd_for_model(w, a.mss);
    }

    /// BoundCwndForModel: the volume caps of the states.
    pub(super) fn bound_cwnd_for_model(&self, w: &mut Window, mss: u32) {
        let cap = match self.state {
            State::Down | State::Refill | State::Up => self.inflight_longterm,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(mss),
            State::Startup | State::Drain => INFINITY,
        };
        w.cwnd = w.cwnd.min(cap.min(self.inflight_shortterm).max(MIN_PIPE_SEGMENTS * mss));
    }

    /// SaveCwnd: the last window that neither recovery nor ProbeRTT had cut.
    pub(super) fn save_cwnd(&mut self, w: &Window) {
        self.prior_cwnd = if self.phase == Phase::Open && self.state != State::ProbeRtt {
            w.cwnd
        } else {
            self.prior_cwnd.max(w.cwnd)
        };
    }

    /// RestoreCwnd.
    pub(super) fn restore_cwnd(&self, w: &mut Window) {
        w.cwnd = w.cwnd.max(self.prior_cwnd);
    }
}
