//! Whether a response may be stored (RFC 9111 3, 3.1, 3.2 … 3.5), and with which facts.

use super::blob::{self, Blob, BlobParts};
use super::cache_control::private_fields;
use super::facts::{Facts, Flags};
use super::fields::{self, Line};
use super::freshness::{Survey, Times};
use super::hash::HashKeys;
use super::request::RequestFacts;
use super::rules::{CacheRules, SetCookieRule};
use super::slices::{self, SliceWanted};
use super::{tags, vary};
use crate::http1::{BodyLength, FieldName, Full, Headers, ResponseHead, Version};

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// The request's method is not GET, or it was not for the cache.
    Request,
    /// The request says no-store (RFC 9111 5.2.1.5).
    RequestNoStore,
    /// Its status says something about this request only (206 that is no slice, 304, 412, 416, 425), or the response
    /// wants its status to be understood and it is not (RFC 9111 5.2.2.3).
    Status,
    /// It says no-store (RFC 9111 5.2.2.5).
    NoStore,
    /// It says private (RFC 9111 5.2.2.7).
    Private,
    /// The request had Authorization and nothing allows it (RFC 9111 3.5).
    Authorization,
    /// Vary: * (RFC 9111 4.1).
    VaryAny,
    /// Set-Cookie, and the rules do not let it in.
    SetCookie,
    /// Nothing says how long it is fresh, and it may not be guessed (RFC 9111 4.2.2).
    NoLifetime,
    /// It could never be served nor revalidated.
    Useless,
    /// Longer than an object may be.
    TooLarge,
    /// A slice without a strong validator: nothing tells what it may be put together with (RFC 9111 3.4).
    Uncombinable,
}

/// Whether the response with this head may be stored, and the facts to store it with. `slice`: what Range asked
/// for, when it was ours.
pub fn storable(
    request: &RequestFacts,
    head: &ResponseHead<'_>,
    slice: Option<SliceWanted>,
    rules: &CacheRules,
    times: Times,
) -> Result<Facts, NotStored> {
    if request.wants.no_store {
        return Err(NotStored::RequestNoStore);
    }
    if !request.may_store() {
        return Err(NotStored::Request);
    }
    let lines = fields::of_headers(&head.headers());
    let survey = Survey::of(lines.clone(), rules, times);
    let mut facts = Facts { status: head.status(), ..Facts::default() };
    facts.body_total = match head.body() {
        BodyLength::None => 0,
        BodyLength::Length(length) => length,
        BodyLength::Chunked | BodyLength::UntilClose => Facts::TOTAL_UNKNOWN,
    };
    if head.body() == BodyLength::Length(facts.body_total) && facts.body_total > rules.object_bytes_max {
        return Err(NotStored::TooLarge);
    }
    facts.flags.set(Flags::HTTP10, head.version() == Version::Http10);
    match head.status() {
        206 => slice
            .and_then(|wanted| slices::take(&mut facts, survey.content_range, head.body(), wanted))
            .ok_or(NotStored::Status)?,
        ..200 | 304 | 412 | 416 | 425 => return Err(NotStored::Status),
        _ => {}
    }
    may_be_kept(request, head.status(), lines, &survey, rules)?;
    settle(&mut facts, &survey, rules, times)?;
    if let Some(wanted) = slice
        && facts.has(Flags::SLICE)
        && !slices::is_usable(&facts, wanted)
    {
        return Err(NotStored::Uncombinable);
    }
    Ok(facts)
}

/// Writes the blob of a response that [`storable`] gave `facts` for; how long it is. `request_headers` are those
/// that the client sent, for Vary.
pub fn store(
    key: &[u8],
    request_headers: &Headers<'_>,
    head: &ResponseHead<'_>,
    facts: Facts,
    rules: &CacheRules,
    keys: &HashKeys,
    out: &mut [u8],
) -> Result<usize, Full> {
    let lines = fields::of_headers(&head.headers());
    let reason = if facts.has(Flags::SLICE) { b"OK" } else { head.reason() };
    let parts = BlobParts { key, reason, facts };
    let len = blob::write_blob(&parts, lines.clone(), tags::tags_of(lines, rules, keys), rules, out)?;
    set_variant(request_headers, rules, keys, out)?;
    Ok(len)
}

/// Puts the variant of the request into a blob that has been written.
pub(super) fn set_variant(
    request_headers: &Headers<'_>,
    rules: &CacheRules,
    keys: &HashKeys,
    out: &mut [u8],
) -> Result<(), Full> {
    let blob = Blob::read(out).ok_or(Full)?;
    let variant = vary::variant(blob.vary(), request_headers, &rules.key, keys);
    let facts = Facts { variant, ..blob.facts() };
    out.first_chunk_mut::<{ Facts::BYTES }>().ok_or(Full)?.copy_from_slice(&facts.encode());
    Ok(())
}

/// RFC 9111 3, besides the lifetime.
pub(super) fn may_be_kept<'a>(
    request: &RequestFacts,
    status: u16,
    lines: impl Iterator<Item = Line<'a>> + Clone,
    survey: &Survey<'_>,
    rules: &CacheRules,
) -> Result<(), NotStored> {
    let directives = &survey.directives;
    if directives.must_understand {
        // RFC 9111 5.2.2.3: no-store is then for those that do not understand.
        if !is_understood(status) {
            return Err(NotStored::Status);
        }
    } else if directives.no_store {
        return Err(NotStored::NoStore);
    }
    if directives.private {
        return Err(NotStored::Private);
    }
    // RFC 9111 5.2.2.7 lets the rest be stored. We would have to keep the listed fields apart for the request
    // that fetched them; a response that has none of them loses nothing.
    if directives.private_fields {
        let mut listed = lines
            .clone()
            .filter(|line| line.known == FieldName::CacheControl)
            .flat_map(|line| private_fields(line.value));
        if listed.any(|name| lines.clone().any(|line| line.is(name))) {
            return Err(NotStored::Private);
        }
    }
    if request.authorization
        && !(directives.must_revalidate || directives.public || directives.s_maxage_s.is_some())
    {
        return Err(NotStored::Authorization);
    }
    if survey.vary_any {
        return Err(NotStored::VaryAny);
    }
    if survey.set_cookie {
        let explicit = directives.public || directives.has_lifetime() || survey.expires_s.is_some();
        if rules.set_cookie == SetCookieRule::Never || !explicit {
            return Err(NotStored::SetCookie);
        }
    }
    Ok(())
}

/// Fills in what the lifetime, the age and the validators are.
pub(super) fn settle(
    facts: &mut Facts,
    survey: &Survey<'_>,
    rules: &CacheRules,
    times: Times,
) -> Result<(), NotStored> {
    let directives = &survey.directives;
    let explicit_s = survey.explicit_lifetime_s(times);
    let lifetime_s = match explicit_s {
        Some(explicit_s) => explicit_s,
        None => assumed_lifetime_s(facts.status, survey, rules, times).ok_or(NotStored::NoLifetime)?,
    };
    let floor_s = if lifetime_s == 0 { 0 } else { rules.min_ttl_s };
    facts.fresh_s = lifetime_s.max(floor_s).min(rules.max_ttl_s);
    facts.birth_ms = survey.birth_ms(times);
    facts.response_ms = times.response_ms;
    facts.date_ms = survey.date_s.map_or(times.response_ms, |date_s| date_s.saturating_mul(1000));
    facts.last_modified_s = survey.last_modified_s.unwrap_or(0);

    // RFC 9111 5.2.2.2, 5.2.2.8, 5.2.2.10. That s-maxage forbids what the same response allows in so many words
    // (RFC 5861) is not how origins mean it: there it only rules out staleness that others allow.
    let strict = directives.must_revalidate || directives.proxy_revalidate || directives.no_cache;
    let never_stale = strict || directives.s_maxage_s.is_some();
    let stale_s = |stated: Option<u32>, by_rule: u32| match stated {
        _ if strict => 0,
        Some(stated_s) => stated_s,
        None if never_stale => 0,
        None => by_rule,
    };
    facts.swr_s = stale_s(directives.swr_s, rules.swr_s);
    facts.sie_s = stale_s(directives.sie_s, rules.sie_s);

    let flags = &mut facts.flags;
    flags.set(Flags::NO_CACHE, directives.no_cache);
    flags.set(Flags::NEVER_STALE, never_stale);
    flags.set(Flags::IMMUTABLE, directives.immutable);
    flags.set(Flags::HEURISTIC, explicit_s.is_none());
    flags.set(Flags::VARY, survey.vary);
    flags.set(Flags::ETAG, survey.etag.is_some());
    flags.set(Flags::STRONG_ETAG, survey.etag.is_some_and(|etag| etag.starts_with(b"\"")));
    // RFC 9110 8.8.2.2: far enough apart that clocks do not matter.
    let apart = survey.last_modified_s.zip(survey.date_s).is_some_and(|(lm, date)| date >= lm + 60);
    flags.set(Flags::STRONG_DATE, apart);

    let served_ever = !directives.no_cache && (facts.fresh_s > 0 || facts.swr_s > 0 || facts.sie_s > 0);
    if served_ever || facts.has_validator() { Ok(()) } else { Err(NotStored::Useless) }
}

/// The lifetime of a response that states none: what the operator said, else a guess (RFC 9111 4.2.2). A response
/// that may be guessed about but gives no ground for it is stale at once, and may serve after revalidation.
fn assumed_lifetime_s(status: u16, survey: &Survey<'_>, rules: &CacheRules, times: Times) -> Option<u32> {
    if let Some((_, ttl_s)) = rules.status_ttl_s.iter().find(|(s, _)| *s == status) {
        return Some(*ttl_s);
    }
    // RFC 9111 3: the status allows it, or the response does.
    if !is_heuristically_cacheable(status) && !survey.directives.public {
        return None;
    }
    if let Some(ttl_s) = rules.default_ttl_s
        && status < 400
    {
        return Some(ttl_s);
    }
    Some(survey.heuristic_lifetime_s(times, rules).unwrap_or(0))
}

/// RFC 9110 15.1.
pub fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The final statuses of RFC 9110 whose rules about caching we follow.
fn is_understood(status: u16) -> bool {
    matches!(status, 200 | 203..=204 | 206 | 300..=303 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421 | 422 | 426
        | 500..=505)
}
