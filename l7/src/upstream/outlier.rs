//! What requests show: an origin that fails several in a row is left out for a while.
//!
//! ```text
//!   in ──(failures in a row)──► ejected ──(time is over)──► on trial ──(a success)──► in
//!                                  ▲                           │
//!                                  └── for longer ─(a failure)─┘
//! ```

use dataplane::Time;

use super::members;

/// When an origin is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierSettings {
    /// Failures in a row; not 0.
    pub failures: u16,
    /// How long the first time. It doubles each time that the origin fails again soon, up to ten times this.
    pub ejection_ns: u64,
}

/// The longest ejection, in first ones.
const GROWTH_MAX: u64 = 10;

/// The passive view of a set's origins on one core.
#[derive(Debug)]
pub struct Outlier {
    settings: Option<OutlierSettings>,
    origins: Box<[State]>,
    ejected: u64,
    /// The earliest return; no need to look before.
    next: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    failures: u16,
    /// Ejections without a long good time between them.
    ejections: u8,
    /// End of the current ejection, or of the last.
    until: Time,
}

impl Outlier {
    /// For `origins` of them; without settings nothing is ever ejected.
    pub fn new(settings: Option<OutlierSettings>, origins: usize) -> Outlier {
        let origins = vec![State::default(); origins].into();
        Outlier { settings, origins, ejected: 0, next: Time::NEVER }
    }

    /// Those that are out, as of the last [`readmit`](Self::readmit).
    #[inline]
    pub fn ejected(&self) -> u64 {
        self.ejected
    }

    /// Takes back those whose time is over, and gives them.
    #[inline]
    pub fn readmit(&mut self, now: Time) -> u64 {
        if now < self.next { 0 } else { self.readmit_slow(now) }
    }

    fn readmit_slow(&mut self, now: Time) -> u64 {
        let failures = self.settings.map_or(1, |s| s.failures);
        let mut back = 0;
        self.next = Time::NEVER;
        for i in members(self.ejected) {
            let state = &mut self.origins[i];
            if state.until <= now {
                back |= 1 << i;
                // On trial: one failure is enough.
                state.failures = failures - 1;
            } else {
                self.next = self.next.min(state.until);
            }
        }
        self.ejected &= !back;
        back
    }

    /// The end of an origin's current ejection, or of its last.
    pub fn until(&self, origin: usize) -> Time {
        self.origins[origin].until
    }

    /// A request went well.
    #[inline]
    pub fn success(&mut self, origin: usize) {
        self.origins[origin].failures = 0;
    }

    /// A request failed; true when the origin is ejected for it.
    pub fn failure(&mut self, origin: usize, now: Time) -> bool {
        let Some(settings) = self.settings else { return false };
        if self.ejected >> origin & 1 == 1 {
            return false; // From before, or because all are out.
        }
        let state = &mut self.origins[origin];
        state.failures = state.failures.saturating_add(1);
        if state.failures < settings.failures {
            return false;
        }
        let longest = settings.ejection_ns.saturating_mul(GROWTH_MAX);
        if state.ejections > 0 && now.since_ns(state.until) > longest {
            state.ejections = 0;
        }
        let length = settings.ejection_ns.saturating_mul(1 << state.ejections.min(4)).min(longest);
        state.ejections = state.ejections.saturating_add(1);
        state.failures = 0;
        state.until = now.plus_ns(length);
        self.next = self.next.min(state.until);
        self.ejected |= 1 << origin;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn outlier() -> Outlier {
        Outlier::new(Some(OutlierSettings { failures: 3, ejection_ns: 10 * SECOND }), 2)
    }

    fn at(second: u64) -> Time {
        Time(second * SECOND)
    }

    #[test]
    fn failures_in_a_row_eject_and_time_brings_back() {
        let mut o = outlier();
        assert!(!o.failure(1, at(0)) && !o.failure(1, at(0)));
        o.success(1);
        assert!(!o.failure(1, at(0)) && !o.failure(1, at(1)));
        assert!(o.failure(1, at(2)));
        assert_eq!(o.ejected(), 0b10);
        assert!(!o.failure(1, at(3)), "it is out already");
        assert_eq!((o.readmit(at(11)), o.ejected()), (0, 0b10));
        assert_eq!((o.readmit(at(12)), o.ejected()), (0b10, 0));
    }

    #[test]
    fn each_time_is_longer_up_to_a_bound() {
        let mut o = outlier();
        let mut now = 0;
        let mut lengths = Vec::new();
        while !o.failure(0, at(now)) {}
        for _ in 0..6 {
            let out_at = now;
            while o.readmit(at(now)) == 0 {
                now += 1;
            }
            lengths.push(now - out_at);
            assert!(o.failure(0, at(now)), "on trial, one failure is enough");
        }
        assert_eq!(lengths, [10, 20, 40, 80, 100, 100]);
        o.readmit(at(now + 100));
        o.success(0);
        assert!(!o.failure(0, at(now + 101)), "a success ends the trial");
        o.success(0);
        let later = now + 1000;
        assert!((0..3).any(|_| o.failure(0, at(later))));
        assert_eq!((o.readmit(at(later + 9)), o.readmit(at(later + 10))), (0, 1), "as the first time");
    }

    #[test]
    fn without_settings_nothing_is_ejected() {
        let mut o = Outlier::new(None, 1);
        assert!((0..1000).all(|_| !o.failure(0, at(0))));
        assert_eq!((o.ejected(), o.readmit(at(1))), (0, 0));
    }
}
