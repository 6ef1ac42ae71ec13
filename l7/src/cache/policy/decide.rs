//! Whether a stored response may be served, has to be revalidated, or is of no use (RFC 9111 4, 4.2.4, 5.2.1;
//! RFC 5861; RFC 8246).

use super::facts::{Facts, Flags};
use super::request::RequestFacts;
use super::status::Fwd;

/// What to do with a stored response that matches the request's key and variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Serve {
        /// For Age.
        age_s: u64,
    },
    /// Serve it although it is stale: the client said that this is good enough (max-stale).
    ServeStale {
        /// For Age.
        age_s: u64,
    },
    /// Serve it although it is stale, and have one request revalidate it meanwhile (RFC 5861 3).
    ServeWhileRevalidating {
        /// For Age.
        age_s: u64,
    },
    /// Ask the origin first.
    Revalidate {
        /// For Cache-Status: `Stale` or `Request`.
        why: Fwd,
    },
    /// 504: the client wants an answer from the cache only (RFC 9111 5.2.1.7).
    GatewayTimeout,
}

/// What a failed attempt to reach the origin looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginFailure {
    /// No response: no connection, a timeout, a malformed head, an empty pool of healthy origins.
    NoResponse,
    /// This status. Only 500, 502, 503 and 504 count as failures (RFC 5861 4).
    Status(u16),
}

/// What to do with a stored response that matches the request's key and variant. `soft_purged`: it counts as
/// stale whatever its age.
pub fn decide(request: &RequestFacts, facts: &Facts, soft_purged: bool, now_ms: u64) -> Decision {
    let age_ms = facts.age_ms(now_ms);
    let age_s = age_ms / 1000;
    let stale_ms = match facts.stale_ms(now_ms) {
        None if soft_purged => Some(0),
        stale => stale,
    };
    let wants = &request.wants;
    let ask = |why| {
        if wants.only_if_cached { Decision::GatewayTimeout } else { Decision::Revalidate { why } }
    };
    if facts.has(Flags::NO_CACHE) {
        return ask(Fwd::Stale);
    }
    if wants.no_cache {
        return ask(if stale_ms.is_some() { Fwd::Stale } else { Fwd::Request });
    }
    // RFC 8246 2.1: what does not change need not be younger.
    let immutable = facts.has(Flags::IMMUTABLE) && stale_ms.is_none();
    let too_old = wants.max_age_s.is_some_and(|max| age_ms > u64::from(max) * 1000) && !immutable;
    let Some(stale_ms) = stale_ms else {
        let left_ms = (u64::from(facts.fresh_s) * 1000).saturating_sub(age_ms);
        let too_short = wants.min_fresh_s.is_some_and(|min| left_ms < u64::from(min) * 1000);
        return if too_old || too_short { ask(Fwd::Request) } else { Decision::Serve { age_s } };
    };
    // RFC 9111 5.2.1.2: max-stale lifts the limit of the lifetime; with max-age, that of max-age as well.
    let within = |limit_s: u32| stale_ms <= u64::from(limit_s) * 1000;
    if let Some(max_stale_s) = wants.max_stale_s
        && !facts.has(Flags::NEVER_STALE)
        && wants.min_fresh_s.is_none()
        && (max_stale_s == u32::MAX || within(max_stale_s))
        && !too_old
    {
        return Decision::ServeStale { age_s };
    }
    if facts.swr_s > 0 && within(facts.swr_s) && !too_old && wants.min_fresh_s.is_none() {
        return Decision::ServeWhileRevalidating { age_s };
    }
    ask(Fwd::Stale)
}

/// What to do when nothing stored matches: `None` is to go to the origin, else 504 (RFC 9111 5.2.1.7).
pub fn decide_miss(request: &RequestFacts) -> Option<Decision> {
    request.wants.only_if_cached.then_some(Decision::GatewayTimeout)
}

/// Whether a stored response may be served in place of the origin's failure, and with which age (RFC 5861 4,
/// RFC 9111 4.2.4).
pub fn decide_on_failure(
    request: &RequestFacts,
    facts: &Facts,
    soft_purged: bool,
    failure: OriginFailure,
    now_ms: u64,
) -> Option<u64> {
    if let OriginFailure::Status(status) = failure
        && !matches!(status, 500 | 502 | 503 | 504)
    {
        return None;
    }
    if facts.has(Flags::NO_CACHE) {
        return None;
    }
    let age_s = facts.age_s(now_ms);
    let Some(stale_ms) = facts.stale_ms(now_ms) else {
        // Fresh: the origin was asked because the client or a soft purge wanted it. A client that said no-cache
        // (RFC 9111 5.2.1.4) gets it only where the failure would have been covered if it were stale.
        let allowed = soft_purged || !request.wants.no_cache || facts.sie_s > 0;
        return allowed.then_some(age_s);
    };
    let by_request = match request.wants.stale_if_error_s {
        Some(limit_s) if !facts.has(Flags::NEVER_STALE) => limit_s,
        _ => 0,
    };
    let limit_s = facts.sie_s.max(by_request);
    (limit_s > 0 && stale_ms <= u64::from(limit_s) * 1000).then_some(age_s)
}

/// Whether `a` is to be served rather than `b`, where both match: one with Vary rather than one without, which may
/// only have forgotten it (RFC 9111 4.1); else the one with the later Date (RFC 9111 4).
pub fn is_better(a: &Facts, b: &Facts) -> bool {
    let rank = |facts: &Facts| (facts.has(Flags::VARY), facts.date_ms, facts.response_ms);
    rank(a) > rank(b)
}
