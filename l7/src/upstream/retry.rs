//! Whether a failed request may be tried again: only where that is safe, and only as a share of all requests.
//!
//! Retries multiply the load of origins that are failing under load. The budget bounds them: each request puts a
//! part of a retry into it, each retry takes a whole one. A few in each second are free, so that a quiet site can
//! retry at all.

use dataplane::Time;

/// Retries in each second that cost nothing.
const FREE_PER_SECOND: u64 = 3;
/// What can be saved up.
const SAVED_MAX: u32 = 100;
/// A retry, in the budget's unit: a request puts in as many as the percentage.
const WHOLE: u32 = 100;
const SECOND_NS: u64 = 1_000_000_000;

/// How much of a request the origin may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing: there was no connection.
    Nothing,
    /// The head, or a part of it; the body, if there is one, is still here.
    Head,
    /// Of the body too, which is gone.
    Body,
}

/// Why a request is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// The method is not idempotent, and the origin may have acted on it.
    Unsafe,
    /// A part of the body is gone.
    BodySent,
    /// It was tried often enough.
    Attempts,
    /// Too many others are being retried.
    Budget,
}

/// The budget of one set on one core.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    retries_max: u8,
    percent: u32,
    saved: u32,
    /// Free retries, counted in nanoseconds of waiting for them.
    free_ns: u64,
    at: Time,
}

impl RetryBudget {
    /// At most `retries_max` per request and `percent` of all requests.
    pub fn new(retries_max: u8, percent: u8) -> RetryBudget {
        RetryBudget { retries_max, percent: percent.into(), saved: 0, free_ns: SECOND_NS, at: Time(0) }
    }

    /// A request came (not a retry).
    #[inline]
    pub fn request(&mut self) {
        self.saved = (self.saved + self.percent).min(SAVED_MAX * WHOLE);
    }

    /// Whether a request may be tried again after `attempts` of it failed; takes it from the budget if so.
    /// `idempotent` is whether its method is (safe ones are; RFC 9110, section 9.2.2).
    ///
    /// # Errors
    /// Why not.
    pub fn may_retry(
        &mut self,
        now: Time,
        idempotent: bool,
        sent: Sent,
        attempts: u8,
    ) -> Result<(), NoRetry> {
        match sent {
            Sent::Body => return Err(NoRetry::BodySent),
            Sent::Head if !idempotent => return Err(NoRetry::Unsafe),
            Sent::Head | Sent::Nothing => {}
        }
        if attempts > self.retries_max {
            return Err(NoRetry::Attempts);
        }
        self.free_ns = (self.free_ns + now.since_ns(self.at)).min(SECOND_NS);
        self.at = now;
        if let Some(rest) = self.free_ns.checked_sub(SECOND_NS / FREE_PER_SECOND) {
            self.free_ns = rest;
            return Ok(());
        }
        self.saved = self.saved.checked_sub(WHOLE).ok_or(NoRetry::Budget)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_it_is_safe() {
        for (idempotent, sent, attempts, expected) in [
            (true, Sent::Nothing, 1, Ok(())),
            (false, Sent::Nothing, 1, Ok(())),
            (true, Sent::Head, 1, Ok(())),
            (true, Sent::Head, 2, Ok(())),
            (true, Sent::Head, 3, Err(NoRetry::Attempts)),
            (false, Sent::Head, 1, Err(NoRetry::Unsafe)),
            (true, Sent::Body, 1, Err(NoRetry::BodySent)),
            (false, Sent::Body, 1, Err(NoRetry::BodySent)),
        ] {
            let mut budget = RetryBudget::new(2, 20);
            assert_eq!(budget.may_retry(Time(0), idempotent, sent, attempts), expected);
        }
        assert_eq!(
            RetryBudget::new(0, 100).may_retry(Time(0), true, Sent::Nothing, 1),
            Err(NoRetry::Attempts)
        );
    }

    #[test]
    fn an_outage_adds_no_more_than_its_share() {
        let mut budget = RetryBudget::new(2, 20);
        let mut retries = 0;
        // Ten seconds of 1,000 requests each, all of them failing.
        for n in 0..10_000u64 {
            let now = Time(n * 1_000_000);
            budget.request();
            for attempt in 1.. {
                if budget.may_retry(now, true, Sent::Head, attempt).is_err() {
                    break;
                }
                retries += 1;
            }
        }
        let expected = 2_000 + 30 + FREE_PER_SECOND;
        assert!((2_000..=expected).contains(&retries), "{retries} retries");
    }

    #[test]
    fn a_quiet_site_has_a_few() {
        let mut budget = RetryBudget::new(9, 0);
        let mut at = |ms| budget.may_retry(Time::from_ms(ms), true, Sent::Head, 1).is_ok();
        assert_eq!(
            [0, 0, 0, 0, 100, 400, 500, 5_000].map(&mut at),
            [true, true, true, false, false, true, false, true]
        );
    }
}
