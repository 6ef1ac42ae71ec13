//! BBR version 3 (draft-ietf-ccwg-bbr): sends by a model of the path, not by its losses alone.
//!
//! ```text
//!   each ACK ──► model ([`model`], [`loss`]) ──► state machine ([`cycle`], [`probe_rtt`]) ──► control ([`control`])
//!                max_bw, min_rtt,                 Startup ─► Drain ─► ┌─► DOWN ─► CRUISE ┐     pacing rate
//!                extra_acked, what                   ProbeRTT ◄──────►│                  │     window
//!                losses say of both                                   └── UP ◄── REFILL ◄┘
//! ```
//!
//! Names are the draft's where there is one. Rates are bytes a second, volumes bytes, round-trip times µs, other times
//! ms modulo 2^32, gains per cent. What is random in the draft comes from a seed.

mod control;
mod cycle;
mod loss;
mod model;
mod probe_rtt;

use dataplane::Time;

use super::common::Phase;
use super::{Ack, Congestion, CongestionControl, Kind, Lost, Sent, Window};

/// LossThresh is 2 %: one in fifty.
const LOSS_THRESHOLD: u32 = 50;
/// Beta.
const BETA_PERCENT: u64 = 70;
/// Headroom.
const HEADROOM_PERCENT: u64 = 15;
/// MinPipeCwnd, segments.
const MIN_PIPE_SEGMENTS: u32 = 4;
/// No bound, no value yet.
const INFINITY: u32 = u32::MAX;
const INFINITE_RATE: u64 = u64::MAX;

/// BBR.state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl State {
    /// BBR.pacing_gain (Summary of Control Behavior in the State Machine).
    fn pacing_gain(self) -> u64 {
        match self {
            State::Startup => 277,
            State::Drain => 50,
            State::Down => 90,
            State::Cruise | State::Refill | State::ProbeRtt => 100,
            State::Up => 125,
        }
    }

    /// BBR.cwnd_gain.
    fn cwnd_gain(self) -> u64 {
        match self {
            State::Up => 225,
            State::ProbeRtt => 50,
            _ => 200,
        }
    }

    /// IsInAProbeBWState.
    fn is_probe_bw(self) -> bool {
        matches!(self, State::Down | State::Cruise | State::Refill | State::Up)
    }

    /// IsProbingBW: losses are what such a state looks for.
    fn is_probing(self) -> bool {
        matches!(self, State::Startup | State::Refill | State::Up)
    }
}

/// BBR.ack_phase: what ACKs say about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum AckPhase {
    Init,
    Refilling,
    Starting,
    Feedback,
    Stopping,
}

/// The rate sample (RS) of one ACK.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// There is one.
    valid: bool,
    /// RS.delivery_rate.
    bw: u64,
    delivered: u32,
    prior_delivered: u32,
    tx_in_flight: u32,
    lost: u32,
    app_limited: bool,
}

/// State of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Bbr {
    /// BBR.max_bw_filter: of this cycle, and of the one before.
    max_bw: [u64; 2],
    bw_shortterm: u64,
    bw_latest: u64,
    full_bw: u64,
    undo_bw_shortterm: u64,

    inflight_latest: u32,
    inflight_longterm: u32,
    inflight_shortterm: u32,
    undo_inflight_longterm: u32,
    undo_inflight_shortterm: u32,
    prior_cwnd: u32,

    /// C.delivered, as the last ACK left it.
    delivered: u32,
    next_round_delivered: u32,
    loss_round_delivered: u32,
    /// Samples of what was sent before this are limited by ProbeRTT, not by the path; see `self_limited`.
    limited_until: u32,

    min_rtt_us: u32,
    min_rtt_ms: u32,
    probe_rtt_min_us: u32,
    probe_rtt_min_ms: u32,
    probe_rtt_done_ms: u32,

    /// BBR.extra_acked_filter: two halves of its window.
    extra_acked: [u32; 2],
    extra_acked_start_us: u32,
    extra_acked_delivered: u32,

    probe_up_acked_per_inc: u32,
    bw_probe_up_acked: u32,
    cycle_ms: u32,
    random: u32,
    bw_probe_wait_ms: u16,
    /// BBR.round_count modulo 2^8.
    rounds: u8,
    drain_start_round: u8,
    rounds_since_probe_up: u8,

    state: State,
    undo_state: Option<State>,
    ack_phase: AckPhase,
    phase: Phase,
    extra_acked_rounds: u8,
    bw_probe_up_rounds: u8,
    full_bw_count: u8,
    /// ACKs in this loss round that found losses.
    loss_events: u8,

    started: bool,
    round_start: bool,
    loss_round_start: bool,
    is_loss_in_round: bool,
    lost_since_ack: bool,
    /// The undo state is of this episode of loss.
    undo_saved: bool,
    full_bw_reached: bool,
    full_bw_now: bool,
    is_bw_probe_sample: bool,
    prev_probe_too_high: bool,
    prev_probe_precautionary: bool,
    idle_restart: bool,
    probe_rtt_expired: bool,
    /// `probe_rtt_done_ms` is set.
    probe_rtt_holding: bool,
    probe_rtt_round_done: bool,
    self_limited: bool,
}

/// Milliseconds modulo 2^32.
fn ms(now: Time) -> u32 {
    (now.0 / 1_000_000) as u32
}

/// Whether `now` is later than `then` plus `wait`, modulo 2^32.
fn later(now: u32, then: u32, wait: u32) -> bool {
    now.wrapping_sub(then.wrapping_add(wait)) as i32 > 0
}

/// Whether a counter modulo 2^32 has come to `mark`.
fn reached(counter: u32, mark: u32) -> bool {
    counter.wrapping_sub(mark) as i32 >= 0
}

impl Bbr {
    /// Initialization. `seed` decides how long the waits between probes are.
    pub const fn new(seed: u32) -> Bbr {
        Bbr {
            max_bw: [0; 2],
            bw_shortterm: INFINITE_RATE,
            bw_latest: 0,
            full_bw: 0,
            undo_bw_shortterm: 0,
            inflight_latest: 0,
            inflight_longterm: INFINITY,
            inflight_shortterm: INFINITY,
            undo_inflight_longterm: 0,
            undo_inflight_shortterm: 0,
            prior_cwnd: 0,
            delivered: 0,
            next_round_delivered: 0,
            loss_round_delivered: 0,
            limited_until: 0,
            rounds: 0,
            drain_start_round: 0,
            min_rtt_us: INFINITY,
            min_rtt_ms: 0,
            probe_rtt_min_us: INFINITY,
            probe_rtt_min_ms: 0,
            probe_rtt_done_ms: 0,
            extra_acked: [0; 2],
            extra_acked_start_us: 0,
            extra_acked_delivered: 0,
            probe_up_acked_per_inc: INFINITY,
            bw_probe_up_acked: 0,
            cycle_ms: 0,
            bw_probe_wait_ms: 0,
            rounds_since_probe_up: 0,
            // Xorshift never leaves zero.
            random: seed | 1 << 31,
            state: State::Startup,
            undo_state: None,
            ack_phase: AckPhase::Init,
            phase: Phase::Open,
            extra_acked_rounds: 0,
            bw_probe_up_rounds: 0,
            full_bw_count: 0,
            loss_events: 0,
            started: false,
            round_start: false,
            loss_round_start: false,
            is_loss_in_round: false,
            lost_since_ack: false,
            undo_saved: false,
            full_bw_reached: false,
            full_bw_now: false,
            is_bw_probe_sample: false,
            prev_probe_too_high: false,
            prev_probe_precautionary: false,
            idle_restart: false,
            probe_rtt_expired: false,
            probe_rtt_holding: false,
            probe_rtt_round_done: false,
            self_limited: false,
        }
    }

    /// The first ACK starts the clocks.
    fn start(&mut self, a: &Ack) {
        self.started = true;
        let now = ms(a.now);
        (self.min_rtt_ms, self.probe_rtt_min_ms, self.cycle_ms) = (now, now, now);
        self.extra_acked_start_us = (a.now.0 / 1000) as u32;
        // On a connection that had another algorithm before, gigabytes may have been delivered.
        let delivered_before = a.total_delivered.wrapping_sub(a.delivered);
        (self.next_round_delivered, self.loss_round_delivered) = (delivered_before, delivered_before);
    }

    /// The rate sample, with what this algorithm itself has held back marked as no measure of the path.
    fn sample(&mut self, a: &Ack) -> Sample {
        let Some(r) = a.rate else { return Sample::default() };
        if self.self_limited && reached(r.prior_delivered, self.limited_until.wrapping_add(1)) {
            self.self_limited = false;
        }
        // Delivery Rate: data cannot have been delivered within less than a round trip of its sending.
        let reliable = a.min_rtt_us == u32::MAX || r.interval_us >= a.min_rtt_us;
        Sample {
            valid: true,
            bw: if reliable {
                u64::from(r.delivered) * 1_000_000 / u64::from(r.interval_us.max(1))
            } else {
                0
            },
            delivered: r.delivered,
            prior_delivered: r.prior_delivered,
            tx_in_flight: r.tx_in_flight,
            lost: r.lost,
            app_limited: r.app_limited || self.self_limited,
        }
    }

    /// BBR.max_bw.
    fn max_bw(&self) -> u64 {
        self.max_bw[0].max(self.max_bw[1])
    }

    /// BoundBWForModel: BBR.bw.
    fn bw(&self) -> u64 {
        self.max_bw().min(self.bw_shortterm)
    }

    /// A number below `bound` (xorshift).
    fn random_below(&mut self, bound: u32) -> u32 {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random = x;
        ((u64::from(x) * u64::from(bound)) >> 32) as u32
    }
}

impl CongestionControl for Bbr {
    const PRR: bool = false;

    /// HandleRestartFromIdle.
    fn on_sent(&mut self, w: &mut Window, s: &Sent) {
        if s.in_flight > 0 || !s.app_limited {
            return;
        }
        self.idle_restart = true;
        self.extra_acked_start_us = (s.now.0 / 1000) as u32;
        if self.state.is_probe_bw() {
            self.set_pacing_rate(w, 100);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(w, ms(s.now));
        }
    }

    /// UpdateOnACK.
    fn on_ack(&mut self, w: &mut Window, a: &Ack) {
        self.delivered = a.total_delivered;
        if !self.started {
            self.start(a);
        }
        let rs = self.sample(a);
        // UpdateModelAndState.
        self.update_latest_signals(&rs);
        self.update_congestion_signals(w, &rs);
        self.update_ack_aggregation(w, a);
        self.check_full_bw_reached(&rs);
        self.check_startup_done(a, &rs);
        self.check_drain_done(w, a);
        self.update_cycle(w, a, &rs);
        self.update_min_rtt(a);
        self.check_probe_rtt(w, a, &rs);
        self.advance_latest_signals(&rs);
        // UpdateControlParameters.
        self.init_pacing_rate(w, a);
        self.set_pacing_rate(w, self.state.pacing_gain());
        self.set_cwnd(w, a);
    }

    fn on_lost(&mut self, w: &mut Window, l: &Lost) {
        self.handle_lost(w, l);
    }

    fn on_congestion(&mut self, w: &mut Window, c: &Congestion) {
        match c.kind {
            // Modulating cwnd in Loss Recovery: OnEnterFastRecovery.
            Kind::Loss => {
                self.save_cwnd(w);
                self.phase = Phase::Recovery;
            }
            Kind::Ecn => self.handle_mark(w, c),
            // OnEnterRTO: nothing is in flight that still counts.
            Kind::Rto { .. } => {
                self.save_upon_loss(w);
                w.cwnd = c.mss;
                self.phase = Phase::Timeout;
            }
        }
    }

    fn on_recovered(&mut self, w: &mut Window, _: Time, mss: u32) {
        self.phase = Phase::Open;
        self.undo_saved = false;
        self.restore_cwnd(w);
        self.bound_cwnd_for_model(w, mss);
    }

    fn on_undo(&mut self, w: &mut Window, prior: &Window, _: Time) {
        self.prior_cwnd = self.prior_cwnd.max(prior.cwnd);
        self.phase = Phase::Open;
        self.handle_spurious_loss(w);
    }
}

#[cfg(test)]
mod tests;
