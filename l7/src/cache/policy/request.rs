//! What a request means to the cache, in one look at its head.

use super::cache_control::RequestDirectives;
use super::rules::CacheRules;
use super::status::Fwd;
use crate::http1::bytes;
use crate::http1::{BodyLength, FieldName, Method, RequestHead, TargetForm, Upgrade};

/// What a request means to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The method.
    pub method: Method,
    /// What it asks of caches, as far as the rules let it.
    pub wants: RequestDirectives,
    /// Authorization is there (RFC 9111 3.5).
    pub authorization: bool,
    /// Range is there, and the method gives it a meaning (RFC 9110 14.2).
    pub range: bool,
    /// If-None-Match or If-Modified-Since is there.
    pub conditional: bool,
    /// Why the cache is not asked, if it is not.
    pub pass: Option<Fwd>,
}

impl RequestFacts {
    /// Of `head`.
    pub fn of(head: &RequestHead<'_>, rules: &CacheRules) -> Self {
        let mut facts = Self {
            method: head.method(),
            wants: RequestDirectives::default(),
            authorization: false,
            range: false,
            conditional: false,
            pass: None,
        };
        let (mut pragma, mut cache_control, mut for_origin) = (false, false, false);
        let headers = head.headers();
        for slot in headers.slots() {
            if slot.known == FieldName::Other {
                continue;
            }
            let value = slot.value.of(headers.buf());
            match slot.known {
                FieldName::CacheControl => {
                    cache_control = true;
                    facts.wants.note(value);
                }
                // RFC 9111 5.4; one without Cache-Control comes from something old.
                FieldName::Pragma => {
                    pragma |= bytes::list(value).any(|p| p.eq_ignore_ascii_case(b"no-cache"));
                }
                FieldName::Authorization => facts.authorization = true,
                FieldName::Range => facts.range = head.method() == Method::Get,
                FieldName::IfNoneMatch | FieldName::IfModifiedSince => facts.conditional = true,
                // RFC 9110 13.1.1, 13.1.4: what the origin has now, no cache can know.
                FieldName::IfMatch | FieldName::IfUnmodifiedSince => for_origin = true,
                _ => {}
            }
        }
        facts.wants.no_cache |= pragma && !cache_control;
        facts.obey(rules);
        facts.pass = if !matches!(head.method(), Method::Get | Method::Head) {
            Some(Fwd::Method)
        } else if head.body() != BodyLength::None
            || head.upgrade() != Upgrade::None
            || head.target_form() == TargetForm::Asterisk
            || for_origin
        {
            Some(Fwd::Bypass)
        } else {
            None
        };
        facts
    }

    /// Whether a response to it could be stored (RFC 9111 3): only GET, and not with no-store.
    pub fn may_store(&self) -> bool {
        self.method == Method::Get && !self.wants.no_store && self.pass.is_none()
    }

    fn obey(&mut self, rules: &CacheRules) {
        let obey = rules.obey;
        let wants = &mut self.wants;
        wants.no_cache &= obey.no_cache;
        wants.no_store &= obey.no_store;
        if !obey.ages {
            (wants.max_age_s, wants.min_fresh_s) = (None, None);
            (wants.max_stale_s, wants.stale_if_error_s) = (None, None);
        }
    }
}
