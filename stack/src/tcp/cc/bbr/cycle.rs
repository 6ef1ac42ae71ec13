//! State Machine Operation: Startup, Drain, and the four states of ProbeBW.

use super::super::common::Phase;
use super::super::{Ack, Window};
use super::loss::inflight_too_high;
use super::{AckPhase, Bbr, HEADROOM_PERCENT, INFINITY, MIN_PIPE_SEGMENTS, Sample, State, later, ms};

/// BBRStartupFullLossCnt.
const STARTUP_LOSS_EVENTS: u8 = 6;
/// T_bbr: 2 s, and up to another.
const PROBE_WAIT_MS: u16 = 2_000;
const PROBE_WAIT_RANDOM_MS: u32 = 1_000;
/// T_reno_bound, rounds.
const RENO_ROUNDS_MAX: u32 = 63;
/// Drain is over after so many rounds.
const DRAIN_ROUNDS: u8 = 3;

// Startup and Drain.
impl Bbr {
    /// EnterStartup.
    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    /// ResetFullBW.
    pub(super) fn reset_full_bw(&mut self) {
        self.full_bw = 0;
        self.full_bw_count = 0;
        self.full_bw_now = false;
    }

    /// CheckFullBWReached: three rounds in which the rate grew by less than a quarter.
    pub(super) fn check_full_bw_reached(&mut self, rs: &Sample) {
        if self.full_bw_now || !self.round_start || rs.app_limited {
            return;
        }
        if rs.bw >= self.full_bw + self.full_bw / 4 {
            self.reset_full_bw();
            self.full_bw = rs.bw;
            return;
        }
        self.full_bw_count += 1;
        self.full_bw_now = self.full_bw_count >= 3;
        self.full_bw_reached |= self.full_bw_now;
    }

    /// CheckStartupDone, CheckStartupHighLoss.
    pub(super) fn check_startup_done(&mut self, a: &Ack, rs: &Sample) {
        if self.lost_since_ack {
            self.lost_since_ack = false;
            self.loss_events = self.loss_events.saturating_add(1);
        }
        if self.loss_round_start {
            // A loss round began with the first loss: this is a whole round of recovery later.
            let recovering = a.in_recovery || self.phase == Phase::Recovery;
            if self.state == State::Startup
                && recovering
                && self.loss_events >= STARTUP_LOSS_EVENTS
                && inflight_too_high(rs.lost, rs.tx_in_flight)
            {
                self.exit_startup_on_congestion();
            }
            self.loss_events = 0;
        }
        if self.state == State::Startup && self.full_bw_reached {
            self.enter_drain();
        }
    }

    /// Exiting Startup Based on Packet Loss.
    pub(super) fn exit_startup_on_congestion(&mut self) {
        self.undo_state = Some(State::Startup);
        self.full_bw_reached = true;
        self.inflight_longterm = self.bdp(self.bw(), 100).unwrap_or(0).max(self.inflight_latest);
        self.enter_drain();
    }

    /// EnterDrain.
    fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.drain_start_round = self.rounds;
    }

    /// CheckDrainDone.
    pub(super) fn check_drain_done(&mut self, w: &Window, a: &Ack) {
        if self.state == State::Drain
            && (a.in_flight <= self.inflight(self.bw(), 100, w, a.mss)
                || self.rounds.wrapping_sub(self.drain_start_round) > DRAIN_ROUNDS)
        {
            self.start_down(ms(a.now));
        }
    }
}

// ProbeBW.
impl Bbr {
    /// StartProbeBW_DOWN, with PickProbeWait.
    pub(super) fn start_down(&mut self, now_ms: u32) {
        self.reset_congestion_signals();
        self.probe_up_acked_per_inc = INFINITY;
        self.rounds_since_probe_up = self.random_below(2) as u8;
        self.bw_probe_wait_ms = PROBE_WAIT_MS + self.random_below(PROBE_WAIT_RANDOM_MS) as u16;
        self.cycle_ms = now_ms;
        self.ack_phase = AckPhase::Stopping;
        self.start_round();
        self.state = State::Down;
    }

    /// StartProbeBW_CRUISE.
    pub(super) fn start_cruise(&mut self) {
        self.state = State::Cruise;
    }

    /// StartProbeBW_REFILL.
    pub(super) fn start_refill(&mut self) {
        self.reset_short_term_model();
        self.bw_probe_up_rounds = 0;
        self.bw_probe_up_acked = 0;
        self.prev_probe_precautionary = false;
        self.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::Refill;
    }

    /// StartProbeBW_UP.
    fn start_up(&mut self, w: &Window, rs: &Sample, mss: u32) {
        self.ack_phase = AckPhase::Starting;
        self.start_round();
        self.reset_full_bw();
        self.full_bw = rs.bw;
        self.state = State::Up;
        self.raise_inflight_longterm_slope(w, mss);
    }

    /// UpdateProbeBWCyclePhase.
    pub(super) fn update_cycle(&mut self, w: &Window, a: &Ack, rs: &Sample) {
        if !self.full_bw_reached || a.delivered == 0 || self.adapt_long_term_model(w, a, rs) {
            return;
        }
        match self.state {
            State::Down => {
                if !self.probe_if_time(w, a) && self.is_time_to_cruise(w, a) {
                    self.start_cruise();
                }
            }
            State::Cruise => {
                self.probe_if_time(w, a);
            }
            State::Refill => {
                if self.round_start {
                    self.is_bw_probe_sample = true;
                    self.start_up(w, rs, a.mss);
                }
            }
            State::Up => {
                if self.is_time_to_go_down(w, a, rs) {
                    self.prev_probe_too_high = false;
                    self.start_down(ms(a.now));
                }
            }
            State::Startup | State::Drain | State::ProbeRtt => {}
        }
    }

    /// IsTimeToProbeBW, IsRenoCoexistenceProbeTime.
    fn probe_if_time(&mut self, w: &Window, a: &Ack) -> bool {
        let reno_rounds = (self.target_inflight(w) / a.mss.max(1)).min(RENO_ROUNDS_MAX);
        let time = later(ms(a.now), self.cycle_ms, self.bw_probe_wait_ms.into())
            || u32::from(self.rounds_since_probe_up) >= reno_rounds;
        if time {
            self.start_refill();
        }
        time
    }

    /// IsTimeToCruise.
    fn is_time_to_cruise(&self, w: &Window, a: &Ack) -> bool {
        a.in_flight <= self.inflight_with_headroom(a.mss)
            && a.in_flight <= self.inflight(self.max_bw(), 100, w, a.mss)
    }

    /// IsTimeToGoDown.
    fn is_time_to_go_down(&mut self, w: &Window, a: &Ack, rs: &Sample) -> bool {
        if self.prev_probe_too_high && a.in_flight >= self.inflight_longterm {
            self.prev_probe_precautionary = true;
            return true;
        }
        if self.cwnd_limited(w, a) && w.cwnd >= self.inflight_longterm {
            self.reset_full_bw();
            self.full_bw = rs.bw;
            return false;
        }
        self.full_bw_now
    }

    /// C.is_cwnd_limited: a burst more would not have fitted when this ACK came.
    fn cwnd_limited(&self, w: &Window, a: &Ack) -> bool {
        a.limited && a.in_flight_before.saturating_add(Bbr::send_quantum(w, a.mss)) > w.cwnd
    }

    /// InflightWithHeadroom.
    pub(super) fn inflight_with_headroom(&self, mss: u32) -> u32 {
        if self.inflight_longterm == INFINITY {
            return INFINITY;
        }
        let headroom = (u64::from(self.inflight_longterm) * HEADROOM_PERCENT / 100) as u32;
        self.inflight_longterm.saturating_sub(headroom.max(mss)).max(MIN_PIPE_SEGMENTS * mss)
    }

    /// RaiseInflightLongtermSlope.
    fn raise_inflight_longterm_slope(&mut self, w: &Window, mss: u32) {
        let growth = 1 << self.bw_probe_up_rounds;
        self.bw_probe_up_rounds = (self.bw_probe_up_rounds + 1).min(30);
        self.probe_up_acked_per_inc = (w.cwnd / growth).max(mss).max(1);
    }

    /// ProbeInflightLongtermUpward.
    fn probe_inflight_longterm_upward(&mut self, w: &Window, a: &Ack) {
        if !self.cwnd_limited(w, a) || w.cwnd < self.inflight_longterm {
            return;
        }
        self.bw_probe_up_acked = self.bw_probe_up_acked.saturating_add(a.delivered);
        if self.bw_probe_up_acked >= self.probe_up_acked_per_inc {
            let delta = self.bw_probe_up_acked / self.probe_up_acked_per_inc;
            self.bw_probe_up_acked -= delta * self.probe_up_acked_per_inc;
            self.inflight_longterm = self.inflight_longterm.saturating_add(delta.saturating_mul(a.mss));
        }
        if self.round_start {
            self.raise_inflight_longterm_slope(w, a.mss);
        }
    }

    /// AdaptLongTermModel. Whether it has decided on a new state.
    fn adapt_long_term_model(&mut self, w: &Window, a: &Ack, rs: &Sample) -> bool {
        if self.round_start {
            match self.ack_phase {
                AckPhase::Starting => self.ack_phase = AckPhase::Feedback,
                AckPhase::Stopping => {
                    self.is_bw_probe_sample = false;
                    self.ack_phase = AckPhase::Init;
                    if self.state.is_probe_bw() {
                        if !rs.app_limited {
                            self.advance_max_bw();
                        }
                        // Precautionary Bandwidth Probing: Acceleration.
                        if self.prev_probe_precautionary && !self.prev_probe_too_high {
                            self.start_refill();
                            return true;
                        }
                    }
                }
                _ => {}
            }
        }
        if rs.valid && !inflight_too_high(rs.lost, rs.tx_in_flight) && self.inflight_longterm != INFINITY {
            self.inflight_longterm = self.inflight_longterm.max(rs.tx_in_flight);
            if self.state == State::Up {
                self.probe_inflight_longterm_upward(w, a);
            }
        }
        false
    }
}
