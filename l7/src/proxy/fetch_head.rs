//! The head of a fetch's response: whether and how it is stored, and what the fetch's clients hear of it.

use dataplane::Ctr;

use super::exchange::ExchangeId;
use super::pump::Took;
use super::side::{Fetches, Outcome, Side};
use super::{Io, Proxy};
use crate::cache::policy::blob::{Blob, BlobParts, write_blob, write_pending};
use crate::cache::policy::decide::{OriginFailure, decide_on_failure};
use crate::cache::policy::facts::{Facts, Flags};
use crate::cache::policy::freshness::Times;
use crate::cache::policy::key::{UrlParts, url_of_key, write_key};
use crate::cache::policy::request::RequestFacts;
use crate::cache::policy::rules::CacheRules;
use crate::cache::policy::storable::{NotStored, storable};
use crate::cache::policy::validate::{freshen, is_selected_by};
use crate::cache::policy::vary;
use crate::cache::store::{Claim, Fill, Handle, ObjectId, Pick};
use crate::http1::{
    FieldName, HeadScan, Parsed, RequestHead, ResponseHead, SliceSink, parse_request, write_interim_to_client,
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
    /// Not for the store either: it answers the client whose fetch it is.
    Answer,
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
            // An answer that is none is not the client's either.
            Kept::Failed => Took::Failed(if status < 500 { 502 } else { status }),
            Kept::Anew => Took::Ends(Outcome::Open),
            Kept::Answer if !self.goes_on(f) => {
                self.counters.inc(Ctr::CacheSlicesRefused);
                Took::NotForStore
            }
            Kept::Answer => Took::Ends(Outcome::NoSlice),
            Kept::Not { mark } => {
                self.counters.inc(Ctr::CacheNotStored);
                if mark && status < 500 {
                    self.mark_pass(f, response_ms);
                }
                match self.in_place_of_a_slice(f, status) {
                    Some(outcome) => Took::Ends(outcome),
                    None => Took::NotForStore,
                }
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
        let https = self.exchanges[f].is_https();
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
                    _ => {
                        // It was purged or evicted meanwhile, or has no room for the new head: those who wait look again.
                        store.unlink(stale);
                        Kept::Anew
                    }
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
        let wanted = s.slice.map(|(slice, _)| slice.wanted);
        let new = match storable(&facts, head, wanted, rules, times) {
            Ok(new) => new,
            Err(why) => {
                let headers = asked.headers();
                let is_answer =
                    facts.range && !facts.conditional && headers.known(FieldName::IfRange).next().is_none();
                let mark = match (wanted, head.status()) {
                    // The range that the client wants begins even later.
                    (Some(wanted), 416) if wanted.start > 0 && is_answer => return Kept::Answer,
                    // No slice of this URL would be of use; nor can there be any of an empty one.
                    (Some(_), 206) => true,
                    (Some(wanted), 416) => wanted.start == 0,
                    _ => !matches!(why, NotStored::Request | NotStored::RequestNoStore | NotStored::Status),
                };
                return Kept::Not { mark };
            }
        };
        let mut sink = SliceSink::new(&mut self.key);
        if write_key(&UrlParts::of(asked, https, b""), &rules.key, &mut sink).is_err() {
            return Kept::Not { mark: false };
        }
        let slice = s.slice.filter(|_| new.has(Flags::SLICE));
        if let Some((slice, _)) = slice
            && slice.wanted.write_suffix(&mut sink).is_err()
        {
            return Kept::Not { mark: false };
        }
        let key_len = sink.len();
        let key = &self.key[..key_len];
        if slice.is_none() && s.slice.is_some() {
            self.counters.inc(Ctr::CacheSlicesRefused);
            let fits = |b: &Blob<'_>| {
                vary::variant(b.vary(), &asked.headers(), &rules.key, &self.keys) == b.facts().variant
            };
            match whole_instead(store, s, key, &mut self.blob, &mut self.blob2, fits) {
                Ok(()) => {}
                Err(kept) => return kept,
            }
        }
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
        if let (Kept::Yes(object), Some((slice, _))) = (&kept, slice)
            && store.parts_gone_until(slice.url_hash) >= times.request_ms
        {
            // It may be older than what has made it invalid: for those who wait, and nobody else.
            store.unlink(*object);
        }
        s.fill = Some(fill);
        kept
    }

    /// Has those that come after know that this key's responses are not to be shared, so that none waits for
    /// another's.
    fn mark_pass(&mut self, f: ExchangeId, now_ms: u64) {
        let (Side::Fetches(s), Some(store)) = (&mut self.exchanges[f].side, &mut self.store) else { return };
        if let Some((slice, _)) = s.slice {
            let Some(object) = s.fill.as_ref().map(Fill::id).or(s.stale) else { return };
            let Some(b) = Blob::read(store.view(object, &mut self.blob).blob) else { return };
            let url = url_of_key(b.key());
            self.key[..url.len()].copy_from_slice(url);
            let url = &self.key[..url.len()];
            // It is the whole of which is known now that it is not to be stored.
            let Ok(n) = write_pending(url, &mut self.blob2) else { return };
            let is_known = |b: Blob<'_>| b.key() == url && b.facts().stale_ms(now_ms).is_none();
            let claim = store.claim(slice.url_hash, &self.blob2[..n], &mut self.blob, |view| {
                if Blob::read(view.blob).is_some_and(is_known) { Pick::Take } else { Pick::Next }
            });
            let Claim::New(fill) = claim else { return };
            if let Some(part) = s.fill.replace(fill) {
                store.fail(part);
            }
        }
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

    /// What the client of a fetch hears of an answer that came in place of a slice, where that cannot be its own answer.
    fn in_place_of_a_slice(&mut self, f: ExchangeId, status: u16) -> Option<Outcome> {
        let Side::Fetches(s) = &self.exchanges[f].side else { return None };
        s.slice?;
        self.counters.inc(Ctr::CacheSlicesRefused);
        match status {
            206 | 416 => Some(Outcome::NoSlice),
            _ if !self.goes_on(f) => None,
            200 => Some(Outcome::NoSlice),
            _ => Some(Outcome::Failed(502)),
        }
    }

    /// Whether the client of a fetch is in the middle of a body.
    fn goes_on(&self, f: ExchangeId) -> bool {
        let Side::Fetches(s) = &self.exchanges[f].side else { return false };
        s.first.is_some() && self.exchanges[s.first].responding
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

/// The origin has answered a request for a slice with the whole: the fetch is one of that from now on, under the URL's
/// `key`; unless somebody else has begun one.
fn whole_instead(
    store: &mut Handle,
    s: &mut Fetches,
    key: &[u8],
    blob: &mut [u8],
    room: &mut [u8],
    fits: impl Fn(&Blob<'_>) -> bool,
) -> Result<(), Kept> {
    let Some((slice, purges)) = s.slice.take() else { return Ok(()) };
    let Ok(n) = write_pending(key, room) else { return Err(Kept::Not { mark: false }) };
    let claim =
        store.claim_late(purges, slice.url_hash, &room[..n], blob, |view| match Blob::read(view.blob) {
            Some(b) if b.key() == key && view.state.is_filling() && (b.is_pending() || fits(&b)) => {
                Pick::Take
            }
            _ => Pick::Next,
        });
    let fill = match claim {
        Claim::New(fill) => fill,
        Claim::Existing(_) => return Err(Kept::Anew),
        Claim::Busy | Claim::Full | Claim::Purged => return Err(Kept::Not { mark: false }),
    };
    (s.hash, s.purges) = (slice.url_hash, purges);
    if let Some(part) = s.fill.replace(fill) {
        store.fail(part);
    }
    if let Some(part) = s.stale.take() {
        store.unlink(part);
        if std::mem::take(&mut s.validates) {
            store.end_revalidation(part);
        }
        store.unpin(part);
    }
    Ok(())
}
