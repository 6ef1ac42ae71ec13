//! CUBIC (RFC 9438), with HyStart++ for the first slow start.
//!
//! After a reduction at window W_max the window follows W(t) = C (t - K)³ + W_max: steep, flat about W_max, steep again;
//! or what Reno would have, where that is more. Windows are bytes, times milliseconds; all in integers.

use dataplane::Time;

use super::common::{
    MAX_WINDOW, Phase, ack_phase, after_idle, pace, recovered, reduction_base, slow_start, timeout_window,
    undo,
};
use super::hystart::{HyStart, Step};
use super::{Ack, Congestion, CongestionControl, Kind, NO_THRESHOLD, Sent, Window};

/// β = 0.7, in tenths.
const BETA_TENTHS: u32 = 7;
/// Fast convergence leaves (1 + β) / 2 of the window, in twentieths.
const CONVERGENCE_TWENTIETHS: u32 = 17;
/// α = 3 (1 - β) / (1 + β) = 9/17: as aggressive as Reno with a reduction to β (RFC 9438 4.3).
const ALPHA: u64 = 9;
/// α = 1.
const ALPHA_ONE: u64 = 17;
/// C = 0.4 segments/s³, per ms³, times 2^64.
const C_PER_MS3: u128 = 7_378_697_629;
/// Longer than this from the plateau, the curve is steeper than any window: (t - K)³ still fits.
const DISTANCE_MAX_MS: u32 = 1 << 20;

/// The curve: what a spurious congestion event gives back (RFC 9438 4.9).
#[derive(Clone, Copy, Debug, Default)]
struct Curve {
    /// W_max, bytes.
    w_max: u32,
    /// K, ms.
    k_ms: u32,
    /// t_epoch, ms modulo 2^32; see `running`.
    epoch_ms: u32,
    /// W_est, bytes.
    w_est: u32,
    /// cwnd_prior, bytes.
    cwnd_prior: u32,
    /// The epoch has begun.
    running: bool,
}

/// State of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Cubic {
    curve: Curve,
    /// From before the last congestion.
    saved: Curve,
    /// (target - cwnd) × bytes acknowledged, towards cwnd × MSS: a segment more.
    credit: u64,
    /// α × bytes acknowledged, towards cwnd: a segment more in W_est.
    est_credit: u64,
    /// W(t + RTT), and the millisecond that it is for.
    target: u32,
    target_ms: u32,
    /// The last ACK, ms: time in which the window was not used is taken out of the epoch (RFC 9438 5.8).
    seen_ms: u32,
    hystart: HyStart,
    phase: Phase,
    /// The next epoch starts on the plateau: after a timeout (RFC 9438 4.8).
    plateau: bool,
}

impl Default for Cubic {
    fn default() -> Cubic {
        Cubic::new()
    }
}

/// Milliseconds modulo 2^32.
fn ms(now: Time) -> u32 {
    (now.0 / 1_000_000) as u32
}

/// The integer cube root.
fn cube_root(x: u64) -> u32 {
    let mut root: u64 = 0;
    for bit in (0..22).rev() {
        let tried = root | 1 << bit;
        // Below 2^22, so its cube is below 2^66; u64 holds it up to 2 642 245.
        if tried <= 2_642_245 && tried * tried * tried <= x {
            root = tried;
        }
    }
    root as u32
}

impl Curve {
    /// K: how long until W_max, from a window of `cwnd` (RFC 9438 4.2).
    fn k(w_max: u32, cwnd: u32, mss: u32) -> u32 {
        // cbrt(segments / 0.4) in seconds is cbrt(segments × 2.5 × 10⁹) in milliseconds.
        cube_root(u64::from(w_max.saturating_sub(cwnd)) * 2_500_000_000 / u64::from(mss.max(1)))
    }

    /// W(t), bytes; `t_ms` since the epoch began.
    fn window(&self, t_ms: u32, mss: u32) -> u32 {
        let distance = u128::from(t_ms.abs_diff(self.k_ms).min(DISTANCE_MAX_MS));
        let bytes = (distance * distance * distance * u128::from(mss) * C_PER_MS3) >> 64;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if t_ms < self.k_ms {
            self.w_max.saturating_sub(bytes)
        } else {
            self.w_max.saturating_add(bytes).min(MAX_WINDOW)
        }
    }

    /// A stage of congestion avoidance begins (RFC 9438 4.2, 4.8, 4.10).
    fn begin(&mut self, now_ms: u32, cwnd: u32, mss: u32, plateau: bool) {
        if plateau || cwnd >= self.w_max {
            self.w_max = cwnd;
            self.k_ms = 0;
        } else {
            self.k_ms = Curve::k(self.w_max, cwnd, mss);
        }
        self.epoch_ms = now_ms;
        self.w_est = cwnd;
        self.running = true;
    }
}

impl Cubic {
    /// At the start of a connection.
    pub const fn new() -> Cubic {
        let curve = Curve { w_max: 0, k_ms: 0, epoch_ms: 0, w_est: 0, cwnd_prior: 0, running: false };
        Cubic {
            curve,
            saved: curve,
            credit: 0,
            est_credit: 0,
            target: 0,
            target_ms: 0,
            seen_ms: 0,
            hystart: HyStart::new(),
            phase: Phase::Open,
            plateau: false,
        }
    }

    /// Slow start; says how many bytes are left for congestion avoidance.
    fn start(&mut self, w: &mut Window, a: &Ack) -> u32 {
        if w.ssthresh != NO_THRESHOLD || self.phase != Phase::Open {
            return slow_start(w, a, self.phase);
        }
        match self.hystart.on_ack(a) {
            Step::Exit => w.ssthresh = w.cwnd,
            Step::Grow(bytes) if a.limited => {
                slow_start(w, &Ack { delivered: bytes, ..*a }, self.phase);
            }
            Step::Grow(_) => {}
        }
        0
    }

    /// Congestion avoidance (RFC 9438 4.2 to 4.5).
    #[inline(never)]
    fn avoid(&mut self, w: &mut Window, bytes: u32, a: &Ack) {
        let now_ms = ms(a.now);
        if !self.curve.running {
            self.curve.begin(now_ms, w.cwnd, a.mss, self.plateau);
            (self.plateau, self.credit, self.est_credit) = (false, 0, 0);
            self.target_ms = now_ms.wrapping_sub(1);
        }
        if self.target_ms != now_ms {
            self.target_ms = now_ms;
            // The clock may not have passed a shifted epoch.
            let t_ms = (now_ms.wrapping_sub(self.curve.epoch_ms) as i32).max(0) as u32;
            self.target = self.curve.window(t_ms.saturating_add(a.srtt_us / 1000), a.mss);
        }
        // 4.4, 4.5: towards W(t + RTT), by half a window in a round trip at most. Before the first loss nothing is known of
        // the plateau that slow start was taken to have found: a twentieth of the window in a round trip, as Linux does.
        let least = if self.curve.cwnd_prior == 0 { w.cwnd + w.cwnd / 20 } else { w.cwnd };
        let target = self.target.clamp(least, w.cwnd.saturating_add(w.cwnd / 2));
        let (cwnd, mss) = (u64::from(w.cwnd), u64::from(a.mss));
        self.credit += u64::from(target - w.cwnd) * u64::from(bytes);
        if self.credit >= cwnd * mss {
            let grown = (self.credit / (cwnd * mss) * mss).min(u64::from(target - w.cwnd).max(mss));
            self.credit %= cwnd * mss;
            w.cwnd = w.cwnd.saturating_add(grown as u32);
        }
        // 4.3: what Reno would have.
        let alpha = if self.curve.w_est >= self.curve.cwnd_prior { ALPHA_ONE } else { ALPHA };
        self.est_credit += u64::from(bytes) * alpha;
        if self.est_credit >= cwnd * ALPHA_ONE {
            self.est_credit = (self.est_credit - cwnd * ALPHA_ONE).min(cwnd * ALPHA_ONE);
            self.curve.w_est = self.curve.w_est.saturating_add(a.mss);
        }
        w.cwnd = w.cwnd.max(self.curve.w_est).min(MAX_WINDOW);
    }

    /// Time in which the window was not what held the sender back does not count (RFC 9438 5.8).
    fn shift(&mut self, now_ms: u32) {
        if self.curve.running {
            self.curve.epoch_ms = self.curve.epoch_ms.wrapping_add(now_ms.wrapping_sub(self.seen_ms));
        }
        self.seen_ms = now_ms;
    }

    /// Multiplicative decrease and fast convergence (RFC 9438 4.6, 4.7).
    fn reduce(&mut self, w: &mut Window, c: &Congestion) {
        if self.phase == Phase::Open {
            self.saved = self.curve;
        }
        let base = reduction_base(w, c);
        self.curve.w_max = if base < self.curve.w_max {
            (u64::from(base) * u64::from(CONVERGENCE_TWENTIETHS) / 20) as u32
        } else {
            base
        };
        self.curve.cwnd_prior = base;
        self.curve.running = false;
        w.ssthresh = ((u64::from(base) * u64::from(BETA_TENTHS) / 10) as u32).max(2 * c.mss);
    }
}

impl CongestionControl for Cubic {
    const PRR: bool = true;

    fn on_sent(&mut self, w: &mut Window, s: &Sent) {
        if s.in_flight > 0 {
            return;
        }
        self.shift(ms(s.now));
        if after_idle(w, s) {
            self.curve.running = false;
        }
    }

    #[inline]
    fn on_ack(&mut self, w: &mut Window, a: &Ack) {
        if ack_phase(self.phase, a) {
            let rest = if w.cwnd < w.ssthresh { self.start(w, a) } else { a.delivered };
            if !a.limited {
                self.shift(ms(a.now));
            } else if rest > 0 && w.cwnd >= w.ssthresh {
                self.avoid(w, rest, a);
            }
        }
        self.seen_ms = ms(a.now);
        pace(w, a, self.phase);
    }

    fn on_congestion(&mut self, w: &mut Window, c: &Congestion) {
        match c.kind {
            Kind::Loss | Kind::Ecn => {
                self.reduce(w, c);
                self.phase = Phase::Recovery;
            }
            Kind::Rto { first } => {
                if first && self.phase == Phase::Open {
                    self.reduce(w, c);
                }
                self.curve.running = false;
                self.plateau = true;
                timeout_window(w, c);
                self.phase = Phase::Timeout;
            }
        }
    }

    fn on_recovered(&mut self, w: &mut Window, _: Time, _: u32) {
        recovered(w, &mut self.phase);
    }

    fn on_undo(&mut self, w: &mut Window, prior: &Window, _: Time) {
        // Slow start goes on as it was: carefully, when a queue had been found.
        undo(w, &mut self.phase, prior);
        self.curve = self.saved;
        self.plateau = false;
    }
}

#[cfg(test)]
mod tests;
