//! Which algorithm a connection runs: chosen once, called without indirection.

use dataplane::Time;

use super::{Ack, Bbr, Congestion, CongestionControl, Cubic, Lost, NewReno, Sent, Window};

/// The algorithms by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// BBR version 3 (draft-ietf-ccwg-bbr).
    Bbr,
    /// NewReno (RFC 5681, 6582).
    Reno,
}

impl Algorithm {
    /// Each of them, in the order of their numbers.
    pub const ALL: [Algorithm; 3] = [Algorithm::Cubic, Algorithm::Bbr, Algorithm::Reno];

    /// As configuration and statistics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Cubic => "cubic",
            Algorithm::Bbr => "bbr",
            Algorithm::Reno => "reno",
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// One connection's algorithm and its state.
#[derive(Clone, Copy, Debug)]
pub enum Cc {
    /// NewReno.
    Reno(NewReno),
    /// CUBIC.
    Cubic(Cubic),
    /// BBR.
    Bbr(Bbr),
}

/// It lies in every control block.
const _: () = assert!(size_of::<Cc>() <= 176);

impl Default for Cc {
    fn default() -> Cc {
        Cc::new(Algorithm::default(), 0)
    }
}

macro_rules! each {
    ($cc:expr, $c:ident => $call:expr) => {
        match $cc {
            Cc::Reno($c) => $call,
            Cc::Cubic($c) => $call,
            Cc::Bbr($c) => $call,
        }
    };
}

impl Cc {
    /// At the start of a connection. What is random in an algorithm comes from `seed`.
    pub fn new(algorithm: Algorithm, seed: u32) -> Cc {
        match algorithm {
            Algorithm::Reno => Cc::Reno(NewReno::new()),
            Algorithm::Cubic => Cc::Cubic(Cubic::new()),
            Algorithm::Bbr => Cc::Bbr(Bbr::new(seed)),
        }
    }

    /// Which one it is.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Cc::Reno(_) => Algorithm::Reno,
            Cc::Cubic(_) => Algorithm::Cubic,
            Cc::Bbr(_) => Algorithm::Bbr,
        }
    }

    /// [`CongestionControl::PRR`].
    pub fn prr(&self) -> bool {
        match self {
            Cc::Reno(_) => NewReno::PRR,
            Cc::Cubic(_) => Cubic::PRR,
            Cc::Bbr(_) => Bbr::PRR,
        }
    }

    /// Whether [`Ack::rate`] is looked at.
    #[inline]
    pub fn wants_rates(&self) -> bool {
        matches!(self, Cc::Bbr(_))
    }

    /// [`CongestionControl::on_sent`].
    #[inline]
    pub fn on_sent(&mut self, w: &mut Window, s: &Sent) {
        each!(self, c => c.on_sent(w, s));
    }

    /// [`CongestionControl::on_ack`].
    #[inline(always)]
    pub fn on_ack(&mut self, w: &mut Window, a: &Ack) {
        each!(self, c => c.on_ack(w, a));
    }

    /// [`CongestionControl::on_lost`].
    #[inline]
    pub fn on_lost(&mut self, w: &mut Window, l: &Lost) {
        each!(self, c => c.on_lost(w, l));
    }

    /// [`CongestionControl::on_congestion`].
    #[inline]
    pub fn on_congestion(&mut self, w: &mut Window, c: &Congestion) {
        each!(self, a => a.on_congestion(w, c));
    }

    /// [`CongestionControl::on_recovered`].
    #[inline]
    pub fn on_recovered(&mut self, w: &mut Window, now: Time, mss: u32) {
        each!(self, c => c.on_recovered(w, now, mss));
    }

    /// [`CongestionControl::on_undo`].
    #[inline]
    pub fn on_undo(&mut self, w: &mut Window, prior: &Window, now: Time) {
        each!(self, c => c.on_undo(w, prior, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for a in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(a.name()), Some(a));
            assert_eq!(Algorithm::ALL[a as usize], a);
        }
        assert_eq!(Algorithm::from_name("vegas"), None);
        assert_eq!(Algorithm::default(), Algorithm::Cubic);
    }
}
