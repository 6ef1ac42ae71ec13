//! Updating the Model Upon Packet Loss: while probing it bounds what may be in flight in the long term, else it slows the
//! flow down for the short term; and what a spurious loss gives back.

use super::super::common::Phase;
use super::super::{Congestion, Lost, Window};
use super::{BETA_PERCENT, Bbr, INFINITE_RATE, INFINITY, LOSS_THRESHOLD, Sample, State, ms, reached};

/// `value` × Beta.
fn beta(value: u64) -> u64 {
    // Rates and volumes are far below 2^57.
    value / 100 * BETA_PERCENT + value % 100 * BETA_PERCENT / 100
}

/// IsInflightTooHigh: more than LossThresh of what was in flight was lost.
pub(super) fn inflight_too_high(lost: u32, tx_in_flight: u32) -> bool {
    u64::from(lost) * u64::from(LOSS_THRESHOLD) > u64::from(tx_in_flight)
}

/// InflightAtLoss: at what volume losses crossed LossThresh, which may have been within this segment.
fn inflight_at_loss(l: &Lost) -> u32 {
    let inflight_prev = l.tx_in_flight.saturating_sub(l.bytes);
    let lost_prev = l.lost_since.saturating_sub(l.bytes);
    let budget = inflight_prev / LOSS_THRESHOLD;
    // Divided by (1 - LossThresh).
    let lost_prefix = u64::from(budget.saturating_sub(lost_prev)) * u64::from(LOSS_THRESHOLD)
        / u64::from(LOSS_THRESHOLD - 1);
    inflight_prev.saturating_add(lost_prefix as u32)
}

impl Bbr {
    /// NoteLoss.
    fn note_loss(&mut self, w: &Window) {
        if !self.is_loss_in_round {
            self.loss_round_delivered = self.delivered;
            self.save_upon_loss(w);
        }
        self.is_loss_in_round = true;
        self.lost_since_ack = true;
    }

    /// HandleLostPacket.
    pub(super) fn handle_lost(&mut self, w: &Window, l: &Lost) {
        self.note_loss(w);
        if self.is_bw_probe_sample && inflight_too_high(l.lost_since, l.tx_in_flight) {
            self.handle_inflight_too_high(w, inflight_at_loss(l), l.app_limited, ms(l.now));
        }
    }

    /// A congestion mark: the draft wants congestion to be seen in it and says no more (ECN). It is taken for losses above
    /// the threshold.
    pub(super) fn handle_mark(&mut self, w: &Window, c: &Congestion) {
        self.note_loss(w);
        if self.is_bw_probe_sample {
            self.handle_inflight_too_high(w, c.in_flight, false, ms(c.now));
        } else if self.state == State::Startup {
            self.exit_startup_on_congestion();
        }
    }

    /// HandleInflightTooHigh.
    pub(super) fn handle_inflight_too_high(
        &mut self,
        w: &Window,
        tx_in_flight: u32,
        app_limited: bool,
        now_ms: u32,
    ) {
        self.prev_probe_too_high = true;
        self.is_bw_probe_sample = false;
        if !app_limited {
            let floor = beta(u64::from(self.target_inflight(w))) as u32;
            self.inflight_longterm = tx_in_flight.max(floor);
        }
        if self.state == State::Up {
            self.undo_state = Some(State::Up);
            self.start_down(now_ms);
        }
    }

    /// UpdateLatestDeliverySignals.
    pub(super) fn update_latest_signals(&mut self, rs: &Sample) {
        self.loss_round_start = false;
        if !rs.valid {
            return;
        }
        self.bw_latest = self.bw_latest.max(rs.bw);
        self.inflight_latest = self.inflight_latest.max(rs.delivered);
        if reached(rs.prior_delivered, self.loss_round_delivered) {
            self.loss_round_delivered = self.delivered;
            self.loss_round_start = true;
        }
    }

    /// AdvanceLatestDeliverySignals.
    pub(super) fn advance_latest_signals(&mut self, rs: &Sample) {
        if self.loss_round_start {
            self.bw_latest = rs.bw;
            self.inflight_latest = rs.delivered;
        }
    }

    /// ResetCongestionSignals.
    pub(super) fn reset_congestion_signals(&mut self) {
        self.is_loss_in_round = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }

    /// UpdateCongestionSignals.
    pub(super) fn update_congestion_signals(&mut self, w: &Window, rs: &Sample) {
        self.update_max_bw(rs);
        if self.loss_round_start {
            self.adapt_lower_bounds(w);
            self.is_loss_in_round = false;
        }
    }

    /// AdaptLowerBoundsFromCongestion, InitLowerBounds, LossLowerBounds.
    fn adapt_lower_bounds(&mut self, w: &Window) {
        if self.state.is_probing() || !self.is_loss_in_round {
            return;
        }
        if self.bw_shortterm == INFINITE_RATE {
            self.bw_shortterm = self.max_bw();
        }
        if self.inflight_shortterm == INFINITY {
            // After a timeout the window is one segment, which says nothing about the path.
            self.inflight_shortterm =
                if self.phase == Phase::Open { w.cwnd } else { w.cwnd.max(self.prior_cwnd) };
        }
        self.bw_shortterm = self.bw_latest.max(beta(self.bw_shortterm));
        self.inflight_shortterm = self.inflight_latest.max(beta(u64::from(self.inflight_shortterm)) as u32);
    }

    /// ResetShortTermModel.
    pub(super) fn reset_short_term_model(&mut self) {
        self.bw_shortterm = INFINITE_RATE;
        self.inflight_shortterm = INFINITY;
    }

    /// SaveStateUponLoss, once in an episode: what a loss has changed already is not what to come back to.
    pub(super) fn save_upon_loss(&mut self, w: &Window) {
        self.save_cwnd(w);
        if self.undo_saved {
            return;
        }
        self.undo_saved = true;
        self.undo_state = None;
        self.undo_bw_shortterm = self.bw_shortterm;
        self.undo_inflight_shortterm = self.inflight_shortterm;
        self.undo_inflight_longterm = self.inflight_longterm;
    }

    /// HandleSpuriousLossDetection.
    pub(super) fn handle_spurious_loss(&mut self, w: &mut Window) {
        self.restore_cwnd(w);
        self.undo_saved = false;
        self.is_loss_in_round = false;
        self.reset_full_bw();
        self.bw_shortterm = self.bw_shortterm.max(self.undo_bw_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(self.undo_inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(self.undo_inflight_longterm);
        match self.undo_state.take() {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_bw_reached = false;
                if self.state != State::ProbeRtt {
                    self.enter_startup();
                }
            }
            Some(State::Up) if !matches!(self.state, State::Up | State::ProbeRtt) => self.start_refill(),
            _ => {}
        }
    }
}
