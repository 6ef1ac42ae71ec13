//! The head of a fetch's response: whether and how it is stored, and what the fetch's clients hear of it.

use dataplane::Ctr;

use super::exchange::ExchangeId;
use super::pump::Took;
use super::side::Side;
use super::{Io, Proxy};
use crate::cache::policy::blob::{Blob, BlobParts, write_blob, write_pending};
use crate::cache::policy::decide::{OriginFailure, decide_on_failure};
use crate::cache::policy::facts::Facts;
use crate::cache::policy::freshness::Times;
use crate::cache::policy::key::{UrlParts, write_key};
use crate::cache::policy::request::RequestFacts;
use crate::cache::policy::rules::CacheRules;
use crate::cache::policy::storable::{NotStored, storable};
use crate::cache::policy::validate::{freshen, is_selected_by};
use crate::cache::store::{Claim, ObjectId, Pick};
use crate::http1::{
    HeadScan, Parsed, RequestHead, ResponseHead, SliceSink, parse_request, write_interim_to_client,
};
use crate::phases::Phase;

/// For how long requests for something that is not shared do not wait for each other, seconds.
const PASS_S: u32 = 120;

/// What became of a fetch's head.
pub(super) enum Kept {
    /// It is this object's.
    Yes(ObjectId),
    /// Not for the store. `mark`: nor are those that come after it.
    Not { mark: bool },
    /// It counts as no answer.
    Failed,
    /// It confirms something else than what is stored: that has to be fetched.
    Anew,
}

impl Proxy {
    /// Takes the head of a fetch's response: the object's, from now on; or what a stored one is confirmed by.
    pub(super) fn fetch_head(
        &mut self,
        io: &mut Io<'_>,
        f: ExchangeId,
        head: &ResponseHead<'_>,
        n: usize,
    ) -> Took {
        let status = head.status();
        if head.is_interim() {
            self.interim_to_first(io, f, head);
            return Took::Head { n, status, len: 0 };
        }
        let plan = self.plan(f);
        let e = &self.exchanges[f];
        let route = plan.route(e.route);
        let (Some(request), Some(rules)) = (e.request.clone(), route.cache.as_ref()) else {
            return Took::Refused;
        };
        if status == 101 {
            return Took::Refused;
        }
        let response_ms = self.now_ms(io);
        let request_ms = response_ms - io.now.since_ns(e.started) / 1_000_000;
        let times = Times { request_ms, response_ms };
        let Some(mut bench) = self.bench.take() else { return Took::Refused };
        let http = self.current.program.config.http;
        let took = match parse_request(&request, &mut HeadScan::new(), &http, &mut bench.slots) {
            Ok(Parsed::Complete(asked, _)) if route.modules.is_empty(Phase::OriginResponse) => {
                self.store_head(f, &asked, head, rules, times)
            }
            Ok(Parsed::Complete(asked, _)) => self.store_edited_head(f, &asked, head, route, times),
            _ => Kept::Not { mark: false },
        };
        self.bench = Some(bench);
        match took {
            Kept::Yes(object) => {
                self.offer_first(io, f, object);
                Took::Head { n, status, len: 0 }
            }
            Kept::Failed => Took::Failed(status),
            Kept::Anew => Took::Anew,
            Kept::Not { mark } => {
                self.counters.inc(Ctr::CacheNotStored);
                if mark && status < 500 {
                    self.mark_pass(f, response_ms);
                }
                Took::NotForStore
            }
        }
    }

    /// Puts a response's head into the store, or confirms the stored one with it.
    pub(super) fn store_head(
        &mut self,
        f: ExchangeId,
        asked: &RequestHead<'_>,
        head: &ResponseHead<'_>,
        rules: &CacheRules,
        times: Times,
    ) -> Kept {
        let facts = RequestFacts::of(asked, rules);
        let (Side::Fetches(s), Some(store)) = (&mut self.exchanges[f].side, &mut self.store) else {
            return Kept::Not { mark: false };
        };
        if let (Some(stale), None) = (s.stale, &s.fill) {
            let view = store.view(stale, &mut self.blob);
            let soft = view.state.is_soft();
            let Some(old) = Blob::read(view.blob) else { return Kept::Not { mark: false } };
            if head.status() == 304 && !is_selected_by(head, &old, true) {
                // RFC 9111 4.3.4: what is stored is out of date, and all who wait look again.
                store.unlink(stale);
                return Kept::Anew;
            }
            if head.status() == 304 {
                let new = &mut self.blob2;
                let keys = &self.keys;
                let fresh = freshen(&old, (&facts, &asked.headers()), head, rules, times, keys, new);
                return match fresh {
                    Ok(fresh) if store.replace_head(stale, &new[..fresh.len]).is_ok() => {
                        self.counters.inc(Ctr::CacheValidated);
                        s.confirmed = true;
                        if fresh.not_kept.is_some() {
                            // Good for those who have waited for it, and for nobody else.
                            store.unlink(stale);
                        }
                        Kept::Yes(stale)
                    }
                    _ => Kept::Failed,
                };
            }
            let failure = OriginFailure::Status(head.status());
            if decide_on_failure(&facts, &old.facts(), soft, failure, times.response_ms).is_some() {
                return Kept::Failed;
            }
        }
        if head.status() == 304 {
            return Kept::Failed; // We did not ask.
        }
        let new = match storable(&facts, head, None, rules, times) {
            Ok(new) => new,
            Err(why) => {
                let mark = !matches!(why, NotStored::Request | NotStored::RequestNoStore | NotStored::Status);
                return Kept::Not { mark };
            }
        };
        let mut sink = SliceSink::new(&mut self.key);
        if write_key(&UrlParts::of(asked, false, b""), &rules.key, &mut sink).is_err() {
            return Kept::Not { mark: false };
        }
        let key_len = sink.len();
        let key = &self.key[..key_len];
        let mut fill = match s.fill.take() {
            Some(fill) => fill,
            None => {
                // What was validated is replaced by a new object, unless something was purged meanwhile.
                let Ok(n) = write_pending(key, &mut self.blob2) else { return Kept::Not { mark: false } };
                match store.claim_late(s.purges, s.hash, &self.blob2[..n], &mut self.blob, |_| Pick::Next) {
                    Claim::New(fill) => fill,
                    _ => return Kept::Not { mark: false },
                }
            }
        };
        let written = crate::cache::policy::storable::store(
            key,
            &asked.headers(),
            head,
            new,
            rules,
            &self.keys,
            &mut self.blob,
        );
        let kept = match written {
            Ok(len) if store.set_head(&mut fill, &self.blob[..len]).is_ok() => Kept::Yes(fill.id()),
            _ => Kept::Not { mark: false },
        };
        if let (Kept::Yes(_), Some(stale), true) = (&kept, s.stale, s.validates) {
            // Those who wait for the answer find the new object now, not when its body is complete.
            s.validates = false;
            store.end_revalidation(stale);
        }
        s.fill = Some(fill);
        kept
    }

    /// Has those that come after know that this key's responses are not to be shared, so that none waits for
    /// another's.
    fn mark_pass(&mut self, f: ExchangeId, now_ms: u64) {
        let (Side::Fetches(s), Some(store)) = (&mut self.exchanges[f].side, &mut self.store) else { return };
        let Some(fill) = s.fill.take() else { return };
        let view = store.view(fill.id(), &mut self.blob);
        let Some(old) = Blob::read(view.blob) else {
            s.fill = Some(fill);
            return;
        };
        let facts = Facts {
            birth_ms: now_ms,
            response_ms: now_ms,
            date_ms: now_ms,
            fresh_s: PASS_S,
            status: 204,
            ..Facts::default()
        };
        let parts = BlobParts { key: old.key(), reason: b"", facts };
        let none = CacheRules::default();
        match write_blob(&parts, core::iter::empty(), core::iter::empty(), &none, &mut self.blob2) {
            Ok(len) => {
                store.fill_pass(fill, &self.blob2[..len], None);
            }
            Err(_) => s.fill = Some(fill),
        }
    }

    /// Early hints and the like: for the first client, while it waits.
    fn interim_to_first(&mut self, io: &mut Io<'_>, f: ExchangeId, head: &ResponseHead<'_>) {
        let Side::Fetches(s) = &self.exchanges[f].side else { return };
        let first = s.first;
        if head.status() == 100 || first.is_none() || self.exchanges[first].responding {
            return;
        }
        let mut sink = SliceSink::new(&mut self.scratch);
        if matches!(write_interim_to_client(head, self.exchanges[first].version, &mut sink), Ok(true)) {
            let len = sink.len();
            self.counters.inc(Ctr::Http1xx);
            self.send_scratch(io, first, len);
        }
    }
}
