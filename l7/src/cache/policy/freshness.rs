//! How long a response is fresh and how old it is (RFC 9111 4.2). No sum here can overflow: times that make no
//! sense make a response old, never young for ever.

use super::cache_control::{DELTA_SECONDS_MAX, ResponseDirectives, delta_seconds};
use super::fields::Line;
use super::rules::CacheRules;
use super::targeted;
use crate::http1::bytes;
use crate::http1::{FieldName, http_date};

/// When a request was sent and its response's head was there, in unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the request was sent.
    pub request_ms: u64,
    /// When the response's head had arrived.
    pub response_ms: u64,
}

/// All that the header lines of a response say about caching it, in one place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survey<'a> {
    /// The directives that count: those of the first valid targeted field (RFC 9213), else of Cache-Control.
    pub directives: ResponseDirectives,
    /// Whether they are those of a targeted field.
    pub is_targeted: bool,
    /// Date, if it can be read.
    pub date_s: Option<u64>,
    /// Expires; `Some(None)` where it cannot be read, which means the past (RFC 9111 5.3).
    pub expires_s: Option<Option<u64>>,
    /// Last-Modified, if it can be read.
    pub last_modified_s: Option<u64>,
    /// ETag, if it has one that can be sent back.
    pub etag: Option<&'a [u8]>,
    /// Age, if it can be read.
    pub age_s: Option<u32>,
    /// Content-Range.
    pub content_range: Option<&'a [u8]>,
    /// Set-Cookie is there.
    pub set_cookie: bool,
    /// Vary is there.
    pub vary: bool,
    /// Vary has `*`.
    pub vary_any: bool,
}

impl<'a> Survey<'a> {
    /// Of `lines`.
    pub fn of(lines: impl Iterator<Item = Line<'a>> + Clone, rules: &CacheRules, times: Times) -> Self {
        let now_s = times.response_ms / 1000;
        let mut survey = Self::default();
        let (mut date, mut age) = (false, false);
        for line in lines.clone() {
            match line.known {
                FieldName::CacheControl => survey.directives.note(line.value),
                FieldName::Date if !date => {
                    date = true;
                    survey.date_s = http_date::parse_any_case(line.value, now_s);
                }
                FieldName::Expires if survey.expires_s.is_none() => {
                    survey.expires_s = Some(http_date::parse_any_case(line.value, now_s));
                }
                FieldName::LastModified if survey.last_modified_s.is_none() => {
                    survey.last_modified_s = http_date::parse_any_case(line.value, now_s).filter(|&s| s > 0);
                }
                FieldName::ETag if survey.etag.is_none() => {
                    survey.etag = Some(line.value).filter(|v| is_usable_etag(v));
                }
                // RFC 9111 5.1: the first member counts; what is no number is ignored.
                FieldName::Age if !age => {
                    age = true;
                    survey.age_s = bytes::list(line.value).next().and_then(delta_seconds);
                }
                FieldName::ContentRange => survey.content_range = Some(line.value),
                FieldName::SetCookie => survey.set_cookie = true,
                FieldName::Vary => {
                    survey.vary = true;
                    survey.vary_any |= bytes::list(line.value).any(|name| name == b"*");
                }
                _ => {}
            }
        }
        if let Some(directives) = targeted::select(&rules.targeted, lines) {
            // RFC 9213 2.2: Cache-Control and Expires are as if they were not there.
            survey.directives = directives;
            survey.is_targeted = true;
            survey.expires_s = None;
        }
        survey
    }

    /// When its age was 0, in unix milliseconds: `response_time - corrected_initial_age` (RFC 9111 4.2.3).
    pub fn birth_ms(&self, times: Times) -> u64 {
        let apparent_age_ms =
            self.date_s.map_or(0, |date_s| times.response_ms.saturating_sub(date_s.saturating_mul(1000)));
        let response_delay_ms = times.response_ms.saturating_sub(times.request_ms);
        let corrected_age_ms = u64::from(self.age_s.unwrap_or(0)) * 1000 + response_delay_ms;
        times.response_ms.saturating_sub(apparent_age_ms.max(corrected_age_ms))
    }

    /// The lifetime that it states itself (RFC 9111 4.2.1): s-maxage, then max-age, then Expires.
    pub fn explicit_lifetime_s(&self, times: Times) -> Option<u32> {
        let directives = &self.directives;
        directives.s_maxage_s.or(directives.max_age_s).or_else(|| {
            let expires_s = self.expires_s?.unwrap_or(0);
            // RFC 9110 6.6.1: without Date, the time at which it came.
            let date_s = self.date_s.unwrap_or(times.response_ms / 1000);
            Some(expires_s.saturating_sub(date_s).min(u64::from(DELTA_SECONDS_MAX)) as u32)
        })
    }

    /// The lifetime that may be guessed for it: a tenth of the time since it was changed (RFC 9111 4.2.2).
    pub fn heuristic_lifetime_s(&self, times: Times, rules: &CacheRules) -> Option<u32> {
        let last_modified_s = self.last_modified_s.filter(|_| rules.heuristic_max_s > 0)?;
        let date_s = self.date_s.unwrap_or(times.response_ms / 1000);
        let tenth_s = date_s.saturating_sub(last_modified_s) / 10;
        Some(tenth_s.min(u64::from(rules.heuristic_max_s)) as u32)
    }
}

/// Whether it can be sent back in If-None-Match without breaking the list there. What has no quotes is not an
/// entity-tag (RFC 9110 8.8.3), but serves as one while nothing in it is a delimiter.
fn is_usable_etag(value: &[u8]) -> bool {
    let opaque = value.strip_prefix(b"W/").unwrap_or(value);
    match opaque {
        [b'"', inner @ .., b'"'] => !inner.contains(&b'"'),
        [] | [b'*'] => false,
        bare => bare.iter().all(|&b| b > b' ' && !matches!(b, b'"' | b',')),
    }
}
