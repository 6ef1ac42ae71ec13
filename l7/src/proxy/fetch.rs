//! Fetches: exchanges without a client that bring a response into the store.
//!
//! ```text
//!  start ──► origin's connection (upstream.rs, as for any exchange) ──► head
//!                       │ no answer                     │ storable: the object's head; then its body, piece by piece
//!                       ▼                               │ 304: the stored object gets a new head
//!   first client: Outcome::Failed                       │ neither: the first client takes the connection over
//! ```
//!
//! The origin is read as fast as it sends: the object's memory is the buffer. When that is full, or the object
//! grows beyond its bound, the fetch is *parked* until its first client has read what is there, and goes on as that
//! client's own connection; others that have begun to read are broken off where it ends.

use dataplane::{Ctr, Slice};
use stack::{FlowId, State};

use super::exchange::{ExchangeId, Role};
use super::pump::Took;
use super::side::{Fetches, Outcome, Side};
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
use crate::cache::store::{AppendError, Claim, Fill, ObjectId, Pick};
use crate::http1::{
    BodyStep, HeadScan, Method, Parsed, RequestHead, ResponseHead, SliceSink, Version, parse_request,
    write_interim_to_client,
};

/// How long a failed fetch answers for the next ones of its key.
const FAILURE_NS: u64 = 1_000_000_000;
const FAILURES: usize = 256;
/// For how long requests for something that is not shared do not wait for each other, seconds.
const PASS_S: u32 = 120;

/// Fetches that failed a moment ago: those who waited for them, and who come right after, are not sent to the same
/// dead origin one by one.
pub(super) struct Failures([Failure; FAILURES]);

#[derive(Clone, Copy, Default)]
struct Failure {
    hash: u64,
    until: dataplane::Time,
    status: u16,
}

impl Failures {
    pub fn new() -> Failures {
        Failures([Failure::default(); FAILURES])
    }

    fn note(&mut self, hash: u64, status: u16, now: dataplane::Time) {
        self.0[hash as usize % FAILURES] = Failure { hash, until: now.plus_ns(FAILURE_NS), status };
    }

    /// The status that the key's fetch failed with a moment ago.
    pub fn find(&self, hash: u64, now: dataplane::Time) -> Option<u16> {
        let f = &self.0[hash as usize % FAILURES];
        (f.hash == hash && f.until > now).then_some(f.status)
    }
}

/// What a fetch is for.
pub(super) enum Goal {
    /// To fill this object.
    Fill(Fill),
    /// To ask whether this one is still good.
    Validate(ObjectId),
}

/// What became of a fetch's head.
enum Kept {
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
    /// Begins a fetch by the request of `x`. `first` waits for it (`x`, or
    /// nobody). Where no context is left, what was claimed is given back.
    pub(super) fn start_fetch(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        first: ExchangeId,
        head: Slice,
        hash: u64,
        goal: Goal,
    ) {
        let Some(store) = &mut self.store else { return };
        let (fill, stale) = match goal {
            Goal::Fill(fill) => (Some(fill), None),
            Goal::Validate(stale) => (None, Some(stale)),
        };
        let purges = store.purge_epoch(hash);
        let plan = self.exchanges[x].plan.clone();
        let (Some(f), Some(plan)) = (self.exchanges.alloc(), plan) else {
            self.counters.inc(Ctr::HttpNoContext);
            if let Some(fill) = fill {
                store.fail(fill);
            }
            if let Some(stale) = stale {
                store.end_revalidation(stale);
            }
            self.tell_first(io, first, Outcome::Failed(503));
            return;
        };
        if let Some(stale) = stale {
            store.pin(stale);
        }
        self.counters.inc(if stale.is_some() { Ctr::CacheValidations } else { Ctr::CacheFetches });
        let (site, route, request, client, key) = {
            let e = &self.exchanges[x];
            (e.site, e.route, e.request.clone(), e.peer, e.key)
        };
        let validates = stale.is_some();
        let e = &mut self.exchanges[f];
        e.begin(FlowId::NONE, plan);
        e.site = site;
        e.route = route;
        e.request = request;
        e.peer = client;
        e.key = key;
        e.method = Method::Get;
        e.version = Version::Http11;
        e.head = Some(head);
        e.started = io.now;
        e.begin_log(io.now);
        e.side = Side::Fetches(Fetches {
            fill,
            stale,
            first,
            purges,
            hash,
            is_parked: false,
            confirmed: false,
            validates,
        });
        if first.is_some()
            && let Side::Waits(w) = &mut self.exchanges[first].side
        {
            w.fetch = f;
        }
        self.forward(io, f);
    }

    /// No response could be had, or it broke off before the first client could take anything: that client is told,
    /// and everyone else looks anew.
    pub(super) fn fetch_failed(&mut self, io: &mut Io<'_>, f: ExchangeId, status: u16) {
        self.counters.inc(Ctr::CacheFetchFailed);
        self.drop_origin(io, f);
        if let Side::Fetches(s) = &self.exchanges[f].side {
            self.failures.note(s.hash, status, io.now);
        }
        self.end_fetch(io, f, Outcome::Failed(status));
    }

    /// Gives up a fetch whose origin has not failed: its config is too old, or the store has no room and the client that
    /// could take it over is gone. Others who want the object look anew, instead of being told of a failure.
    pub(super) fn abandon_fetch(&mut self, io: &mut Io<'_>, f: ExchangeId) {
        self.drop_origin(io, f);
        self.end_fetch(io, f, Outcome::Failed(502));
    }

    /// Ends a fetch: an unfinished fill fails, a validation is given up.
    pub(super) fn end_fetch(&mut self, io: &mut Io<'_>, f: ExchangeId, outcome: Outcome) {
        if let (Side::Fetches(s), Some(store)) =
            (std::mem::take(&mut self.exchanges[f].side), &mut self.store)
        {
            if let Some(fill) = s.fill {
                store.fail(fill);
            }
            if let Some(stale) = s.stale {
                if s.validates {
                    store.end_revalidation(stale);
                }
                store.unpin(stale);
            }
            self.tell_way(f, s.first);
            self.tell_first(io, s.first, outcome);
        }
        self.end(f);
    }

    /// The way to the origin that a fetch has gone counts for the client whose request began it.
    fn tell_way(&mut self, f: ExchangeId, first: ExchangeId) {
        let (asked, timings) = (self.exchanges[f].asked, self.exchanges[f].timings);
        if first.is_some() && matches!(self.exchanges[first].side, Side::Waits(_)) {
            self.exchanges[first].takes_way_of(asked, &timings);
        }
    }

    /// Tells the client whose request began a fetch what has come of it. It is no longer tied to the fetch.
    fn tell_first(&mut self, io: &mut Io<'_>, first: ExchangeId, outcome: Outcome) {
        if first.is_none() {
            return;
        }
        let e = &mut self.exchanges[first];
        match &mut e.side {
            Side::Waits(w) => {
                w.fetch = ExchangeId::NONE;
                if w.outcome == Outcome::Open {
                    w.outcome = outcome;
                }
            }
            Side::Reads(r) => r.fetch = ExchangeId::NONE,
            _ => return,
        }
        io.tcp.wake(e.client);
    }

    /// The first client hears of an object that can be used now; the fetch goes on.
    pub(super) fn offer_first(&mut self, io: &mut Io<'_>, f: ExchangeId, object: ObjectId) {
        let Side::Fetches(s) = &self.exchanges[f].side else { return };
        let first = s.first;
        if first.is_none() {
            return;
        }
        self.tell_way(f, first);
        let e = &mut self.exchanges[first];
        if let Side::Waits(w) = &mut e.side {
            w.outcome = Outcome::Use(object);
            io.tcp.wake(e.client);
        }
    }

    /// The response is not for the store: the first client takes over the connection, with what was read of it.
    /// `conn` is its state before the head was read.
    pub(super) fn hand_over(
        &mut self,
        io: &mut Io<'_>,
        f: ExchangeId,
        conn: crate::http1::ClientConn,
        input: Slice,
    ) {
        let Side::Fetches(s) = &self.exchanges[f].side else { return };
        let first = s.first;
        let waits = first.is_some() && matches!(self.exchanges[first].side, Side::Waits(_));
        if !waits {
            self.drop_origin(io, f);
            self.end_fetch(io, f, Outcome::Open);
            return;
        }
        self.detach(io, first);
        self.exchanges[f].conn = conn;
        let (asked, timings) = (self.exchanges[f].asked, self.exchanges[f].timings);
        self.exchanges[first].takes_way_of(asked, &timings);
        self.give_connection(io, f, first);
        self.exchanges[first].origin_in = Some(input);
        if let Side::Fetches(s) = &mut self.exchanges[f].side {
            s.first = ExchangeId::NONE;
        }
        self.end_fetch(io, f, Outcome::Open);
        io.tcp.wake(self.exchanges[first].client);
    }

    /// The origin's connection of `from` becomes that of `to`.
    fn give_connection(&mut self, io: &mut Io<'_>, from: ExchangeId, to: ExchangeId) {
        let e = &mut self.exchanges[from];
        let origin = std::mem::replace(&mut e.origin, FlowId::NONE);
        let (conn, slot, index) = (e.conn, e.slot, e.origin_index);
        debug_assert!(e.rival.is_none(), "a race is over when there is a response");
        let (attempts, input) = (e.attempts, e.origin_in.take());
        e.connected = false;
        let (group, counted, blame) = (e.group, std::mem::take(&mut e.counted), e.blame);
        let t = &mut self.exchanges[to];
        debug_assert!(!t.counted);
        t.group = group;
        t.counted = counted;
        t.blame = blame;
        t.origin = origin;
        t.conn = conn;
        t.slot = slot;
        t.origin_index = index;
        t.attempts = attempts;
        t.connected = true;
        t.origin_in = input;
        if origin.is_some() {
            io.tcp.set_user(origin, Role::Origin(to).encode());
        }
    }

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
        let (Some(request), Some(rules)) = (e.request.clone(), plan.route(e.route).cache.as_ref()) else {
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
            Ok(Parsed::Complete(asked, _)) => self.store_head(f, &asked, head, rules, times),
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
    fn store_head(
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
                let fresh = freshen(&old, &facts, &asked.headers(), head, rules, times, keys, new);
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
            if decide_on_failure(&facts, old.facts(), soft, failure, times.response_ms).is_some() {
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

    /// Moves the body of a fetch into its object. Gives whether there was anything to move.
    pub(super) fn fetch_body(&mut self, io: &mut Io<'_>, f: ExchangeId) -> bool {
        let e = &mut self.exchanges[f];
        let origin = e.origin;
        let (Side::Fetches(s), Some(store)) = (&mut e.side, &mut self.store) else { return false };
        let Some(fill) = &mut s.fill else { return false };
        if s.is_parked {
            return false;
        }
        let mut moved = false;
        let mut full = false;
        let mut refused = false;
        while !e.conn.is_response_complete() {
            let Some(mut input) = e.origin_in.take().or_else(|| io.tcp.read(origin)) else { break };
            let (step, used) = match e.conn.read_body(&input) {
                Ok(ok) => ok,
                Err(_) => {
                    refused = true;
                    break;
                }
            };
            moved = true;
            if let BodyStep::Data(range) = &step {
                let room = store.append(fill, &input[range.clone()]);
                if matches!(room, Err(AppendError::NoRoom | AppendError::TooLarge)) {
                    // The decoder has taken these bytes: they are kept for whoever takes the connection over.
                    let data = input.view(range.start, range.len());
                    e.spill = Some(data);
                    full = true;
                }
            }
            io.tcp.consume(origin, used as u32);
            input.advance(used);
            let waits = step == BodyStep::NeedMore;
            if waits && !input.is_empty() {
                // The start of a trailer line: more of it may have come.
                match io.tcp.read(origin) {
                    Some(more) => match self.cells.join(input, &more) {
                        Some(joined) => e.origin_in = Some(joined),
                        None => {
                            refused = true;
                            break;
                        }
                    },
                    None => {
                        e.origin_in = Some(input);
                        break;
                    }
                }
            } else if !input.is_empty() {
                e.origin_in = Some(input);
            }
            if full {
                break;
            }
        }
        store.publish(fill);
        if refused {
            self.counters.inc(Ctr::OriginBadResponse);
            self.fetch_failed(io, f, 502);
            return true;
        }
        if full {
            self.park(io, f);
            return true;
        }
        let e = &self.exchanges[f];
        if e.conn.is_response_complete() {
            self.fetch_complete(io, f);
            return true;
        }
        if io.tcp.at_end(origin) && e.origin_in.is_none() {
            self.origin_eof(io, f, io.tcp.state(origin) == State::Closed);
            return true;
        }
        let idle = e.idle_ns();
        io.tcp.set_timer(origin, io.now.plus_ns(idle));
        moved
    }

    /// The whole response is in the store.
    pub(super) fn fetch_complete(&mut self, io: &mut Io<'_>, f: ExchangeId) {
        self.give_back(io, f);
        let (Side::Fetches(s), Some(store)) = (&mut self.exchanges[f].side, &mut self.store) else { return };
        let mut outcome = Outcome::Open;
        if let Some(fill) = s.fill.take() {
            self.counters.inc(Ctr::CacheStored);
            outcome = Outcome::Use(fill.id());
            store.finish(fill, s.stale);
        } else if let (Some(stale), true) = (s.stale, s.confirmed) {
            outcome = Outcome::Use(stale);
        }
        self.end_fetch(io, f, outcome);
    }

    /// The store has no room for more of the object. Nobody new finds it; the first client takes over when it
    /// has read what is there.
    fn park(&mut self, io: &mut Io<'_>, f: ExchangeId) {
        self.counters.inc(Ctr::CacheOutgrown);
        let (Side::Fetches(s), Some(store)) = (&mut self.exchanges[f].side, &mut self.store) else { return };
        let first = s.first;
        if first.is_none() || !matches!(self.exchanges[first].side, Side::Waits(_) | Side::Reads(_)) {
            self.abandon_fetch(io, f);
            return;
        }
        let Side::Fetches(s) = &mut self.exchanges[f].side else { return };
        s.is_parked = true;
        if let Some(fill) = &s.fill {
            store.unlink(fill.id());
        }
        // It waits for its client from now on, however slow that is.
        io.tcp.set_timer(self.exchanges[f].origin, dataplane::Time::NEVER);
        io.tcp.wake(self.exchanges[first].client);
    }

    /// The first client of a parked fetch has read all that is stored: the rest comes straight from the origin.
    pub(super) fn take_over(&mut self, io: &mut Io<'_>, x: ExchangeId, f: ExchangeId) {
        let spill = self.exchanges[f].spill.take();
        if let Side::Fetches(s) = &mut self.exchanges[f].side {
            // Or letting go of it would end it.
            s.is_parked = false;
        }
        self.detach(io, x);
        self.give_connection(io, f, x);
        if let Side::Fetches(s) = &mut self.exchanges[f].side {
            s.first = ExchangeId::NONE;
        }
        self.end_fetch(io, f, Outcome::Open);
        let e = &mut self.exchanges[x];
        e.spill = spill;
        let idle = e.idle_ns();
        if e.origin.is_some() {
            io.tcp.set_timer(e.origin, io.now.plus_ns(idle));
        }
    }
}
