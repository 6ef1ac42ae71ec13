//! Large objects in slices: a response whose body is sent from one stored slice after the other.
//!
//! ```text
//!  ask_cache ── nothing under the URL ──► ask_slices: the slice that the body begins in ──► as any other object
//!                                                                                            │
//!  its head: write_slice ◄───────────────────────────────────────────────────────────────────┘
//!      │ all of the body is in it ──► Serve
//!      └ ServeSlices ──► Reads ── all that is wanted of it is sent ──► next_slice ──► find_slice
//!                          ▲                                             │ stored, of the same representation
//!                          └─────────────────────────────────────────────┤
//!                          └── slice_came ◄── Waits ◄── fetched, waited for, or validated
//! ```
//!
//! A slice is an object like others: claimed, fetched once for all who want it, validated, evicted. The next one is
//! looked for when the one before has been handed to TCP, so a client that reads slowly, or leaves, makes the node
//! fetch no more than that. Once a response has begun, every slice has to be of the representation that it began with;
//! one that is not means that the object has changed, and the client is shown that it did not get all of it.

use dataplane::{Ctr, Hist};

use super::cached::{Asked, Chosen, Found, Serving, find};
use super::exchange::ExchangeId;
use super::log::CacheWord;
use super::pump::Step;
use super::request::Act;
use super::respond::count_status;
use super::side::{Outcome, Rest, Side, SliceOf};
use super::{Io, Proxy};
use crate::cache::policy::blob::Blob;
use crate::cache::policy::decide::{Decision, OriginFailure, decide, decide_on_failure};
use crate::cache::policy::facts::Flags;
use crate::cache::policy::key::{UrlParts, write_key};
use crate::cache::policy::request::RequestFacts;
use crate::cache::policy::respond::{Content, plan};
use crate::cache::policy::slices::{Representation, SliceWanted, body_of, first_position};
use crate::cache::policy::status::Fwd;
use crate::cache::store::ObjectId;
use crate::http1::{HeadScan, Parsed, SliceSink, parse_request};
use crate::phases::{CleanPath, RequestView};

/// How often what is stored may tell otherwise where a body begins.
const MOVES_MAX: u8 = 2;
/// How often a fetch of the next slice may come to nothing.
const TRIES_MAX: u8 = 3;
/// How often the store may be too busy or full for the next slice: about a second, at a look every 5 ms.
const LATER_MAX: u8 = 200;

/// Where the next slice of a body comes from.
enum Next {
    /// This object.
    Read(ObjectId),
    /// Somebody fetches, or validates, it.
    Wait(ObjectId, bool),
    /// A fetch of our own.
    Fetch(Act),
    /// There is no room for it just now.
    Later,
    /// An origin, which is asked when the client's handshake is done.
    Handshake,
    /// Nowhere: the response cannot go on.
    Nowhere,
}

impl Proxy {
    // ── The first slice ─────────────────────────────────────────────────────────────────────────────

    /// Nothing is stored under a URL whose route has slices: looks for the one that the response begins in. Gives what
    /// was found, and where: as before, where the request is none for slices.
    pub(super) fn ask_slices(
        &mut self,
        x: ExchangeId,
        asked: &mut Asked<'_>,
        (whole, url_len, url_hash): (Found, usize, u64),
    ) -> Option<(Found, usize, u64)> {
        let known = self.exchanges[x].slicing.begins_at;
        let Some(mut at) = known.or_else(|| first_position(&asked.facts, asked.head)) else {
            return Some((whole, url_len, url_hash));
        };
        for _ in 0..MOVES_MAX {
            let wanted = SliceWanted::at(at, asked.rules.slice_bytes);
            asked.slice = Some(SliceOf { wanted, url_hash });
            let mut found = self.find_slice(asked, url_len)?;
            if let (Found::Stored { .. }, Some(b)) = (&found.0, Blob::read(&self.blob))
                && let Some(body) = body_of(&plan(&asked.facts, asked.head, &b, None, asked.now_ms))
                && !wanted.has(body.start)
            {
                // If-Range, or a range from the end: it is this slice that tells.
                at = body.start;
                continue;
            }
            if let (Found::Nothing { vary_miss }, Found::Nothing { vary_miss: true }) = (&mut found.0, &whole)
            {
                *vary_miss = true;
            }
            return Some(found);
        }
        None
    }

    /// Looks for the slice that `asked` is about; the URL's key text is written. What it finds lies in `blob`.
    fn find_slice(&mut self, asked: &Asked<'_>, url_len: usize) -> Option<(Found, usize, u64)> {
        let SliceOf { wanted, url_hash } = asked.slice?;
        let mut sink = SliceSink::new(self.key.get_mut(url_len..)?);
        wanted.write_suffix(&mut sink).ok()?;
        let key_len = url_len + sink.len();
        let key = &self.key[..key_len];
        let hash = self.keys.hash(key);
        let store = self.store.as_mut()?;
        let found =
            find(store, &self.keys, (key, hash), asked.head, asked.rules, &mut self.blob, asked.now_ms);
        if let Found::Stored { object, .. } = found
            && let Some(b) = Blob::read(&self.blob)
            && b.facts().response_ms <= store.parts_gone_until(url_hash)
        {
            store.unlink(object);
            return Some((Found::Nothing { vary_miss: false }, key_len, hash));
        }
        Some((found, key_len, hash))
    }

    /// Writes the head of a response that begins in a stored slice, whose blob is in `self.blob`.
    pub(super) fn write_slice(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        asked: &Asked<'_>,
        chosen: Chosen<'_>,
    ) -> Option<Act> {
        let blob = Blob::read(&self.blob)?;
        let facts = blob.facts();
        let here = SliceWanted { start: facts.slice_start, bytes: asked.rules.slice_bytes };
        let reply = plan(&asked.facts, asked.head, &blob, None, asked.now_ms);
        if matches!(reply.content, Content::Parts(_)) {
            return None;
        }
        let Some(body) = body_of(&reply) else {
            return self.write_object(io, x, asked, chosen);
        };
        if !here.has(body.start) {
            return self.begin_elsewhere(io, x, asked, body.start);
        }
        let of = Representation::of(&blob, &self.keys);
        let goes_on = body.end > here.end();
        if goes_on && asked.facts.wants.only_if_cached {
            return Some(Act::Error(504)); // Whether the others are stored cannot be promised.
        }
        let rest = match (goes_on, of) {
            (false, _) => None,
            (true, None) => return None,
            (true, Some(of)) => {
                let (at, end, came_ms) = (here.end(), body.end, facts.response_ms);
                Some(Rest { of, came_ms, at, end, tries: 0, later: 0 })
            }
        };
        let act = self.write_object(io, x, asked, chosen)?;
        let Act::Serve(serving) = act else { return Some(act) };
        let left = body.end.min(here.end()) - body.start;
        let serving = Serving { from: body.start - here.start, left: Some(left), ..serving };
        self.counters.inc(Ctr::CacheSlicesServed);
        self.exchanges[x].slicing.rest = rest;
        Some(if goes_on { Act::ServeSlices(serving) } else { Act::Serve(serving) })
    }

    /// A slice that has been fetched tells that the body begins in another one.
    fn begin_elsewhere(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        asked: &Asked<'_>,
        position: u64,
    ) -> Option<Act> {
        let e = &mut self.exchanges[x];
        e.slicing.moves += 1;
        if e.slicing.moves > MOVES_MAX {
            return None;
        }
        e.slicing.begins_at = Some(position);
        e.cache_word = CacheWord::None;
        self.ask_cache(io, x, asked.head, asked.view, asked.rules, 1)
    }

    /// Sends the head that is in the scratch buffer, and begins with the first slice.
    pub(super) fn serve_slices(&mut self, io: &mut Io<'_>, x: ExchangeId, s: Serving) {
        count_status(&self.counters, s.status);
        let e = &mut self.exchanges[x];
        (e.status, e.responding) = (s.status, true);
        self.counters.record(Hist::FirstByteCache, io.now.since_ns(e.started));
        if !self.send_scratch(io, x, s.len) {
            self.break_off(io, x);
            return;
        }
        self.read_from(io, x, s.object, s.from, s.left);
        let _ = self.reads_step(io, x);
    }

    // ── The slices after it ─────────────────────────────────────────────────────────────────────────

    /// The client has been given all that it wants of a slice: goes on with the next one. `None`: there is more to
    /// read.
    pub(super) fn next_slice(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Option<Step> {
        let next = self.with_request(io, x, |proxy, io, asked, key| proxy.look_for_next(io, x, asked, key));
        self.go_on(io, x, next)
    }

    /// The slice that a client has waited for in the middle of a body has come, or has not.
    pub(super) fn slice_came(&mut self, io: &mut Io<'_>, x: ExchangeId, outcome: Outcome) -> Step {
        let next = self.with_request(io, x, |proxy, io, asked, key| match outcome {
            Outcome::Use(object) => proxy.use_slice(x, asked, object),
            Outcome::Failed(_) => proxy.use_stale(x, asked),
            Outcome::NoSlice => {
                let until_ms = asked.now_ms;
                proxy.mismatched(asked.url_hash, until_ms)
            }
            Outcome::Open => proxy.look_for_next(io, x, asked, key),
        });
        self.go_on(io, x, next).unwrap_or(Step::Moved)
    }

    /// Reads the request of `x` once more, for `f`: with the length of the URL's key text, which is written.
    fn with_request(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        f: impl FnOnce(&mut Proxy, &mut Io<'_>, &Asked<'_>, usize) -> Next,
    ) -> Next {
        let plan = self.plan(x);
        let e = &self.exchanges[x];
        let (Some(request), Some(rest)) = (e.request.clone(), e.slicing.rest) else { return Next::Nowhere };
        let Some(rules) = &plan.route(e.route).cache else { return Next::Nowhere };
        let (peer, scheme, identity) = (e.peer, e.scheme, e.identity.clone());
        let Some(mut bench) = self.bench.take() else { return Next::Later };
        let http = self.current.program.config.http;
        let next = match parse_request(&request, &mut HeadScan::new(), &http, &mut bench.slots) {
            Ok(Parsed::Complete(head, _)) => {
                let path = if head.path() == b"*" { b"/" } else { head.path() };
                let clean = CleanPath::of(path, &mut bench.path).unwrap_or(path);
                let view = RequestView::of(&head, scheme, peer, clean).by(identity.as_deref());
                let mut sink = SliceSink::new(&mut self.key);
                match write_key(&UrlParts::of(&head, e.is_https(), b""), &rules.key, &mut sink) {
                    Ok(()) => {
                        let url_len = sink.len();
                        let url_hash = self.keys.hash(sink.written());
                        let wanted = SliceWanted { start: rest.at, bytes: rules.slice_bytes };
                        let facts = RequestFacts::of(&head, rules);
                        let slice = Some(SliceOf { wanted, url_hash });
                        let now_ms = self.now_ms(io);
                        let asked = Asked { head: &head, view: &view, facts, rules, now_ms, url_hash, slice };
                        f(self, io, &asked, url_len)
                    }
                    Err(_) => Next::Nowhere,
                }
            }
            _ => Next::Nowhere,
        };
        self.bench = Some(bench);
        next
    }

    /// Looks for the next slice, and has it fetched or validated if need be.
    fn look_for_next(&mut self, io: &mut Io<'_>, x: ExchangeId, asked: &Asked<'_>, url_len: usize) -> Next {
        let Some((found, key_len, hash)) = self.find_slice(asked, url_len) else { return Next::Nowhere };
        let rest = self.exchanges[x].slicing.rest.filter(|r| r.tries < TRIES_MAX);
        let Some(rest) = rest else { return Next::Nowhere };
        let (object, state) = match found {
            Found::Pass => return Next::Nowhere,
            Found::Pending(object) => return Next::Wait(object, false),
            Found::Nothing { .. } => return self.fetch_next(io, x, asked, (key_len, hash)),
            Found::Stored { object, state } => (object, state),
        };
        let Some(b) = Blob::read(&self.blob) else { return Next::Nowhere };
        let facts = b.facts();
        if Representation::of(&b, &self.keys) != Some(rest.of) {
            if facts.response_ms > rest.came_ms {
                // What the body began with is out of date.
                return self.mismatched(asked.url_hash, facts.response_ms);
            }
            self.counters.inc(Ctr::CacheSlicesMismatched);
            if let Some(store) = &mut self.store {
                store.unlink(object);
            }
            return self.fetch_next(io, x, asked, (key_len, hash));
        }
        match decide(&asked.facts, &facts, state.is_soft(), asked.now_ms) {
            Decision::Serve { .. } | Decision::ServeStale { .. } => Next::Read(object),
            Decision::ServeWhileRevalidating { .. } => {
                if self.failures.find(hash, io.now).is_none() {
                    self.validate_behind(io, x, asked, object, hash);
                }
                Next::Read(object)
            }
            Decision::GatewayTimeout => Next::Nowhere,
            // It has been asked for since this body began, and is not for others.
            Decision::Revalidate { .. } if state.is_filling() => Next::Read(object),
            Decision::Revalidate { .. } => {
                if self.failures.find(hash, io.now).is_some() {
                    let failure = OriginFailure::NoResponse;
                    let allowed =
                        decide_on_failure(&asked.facts, &facts, state.is_soft(), failure, asked.now_ms);
                    return if allowed.is_some() { Next::Read(object) } else { Next::Nowhere };
                }
                if self.exchanges[x].early.is_now() && self.is_to_wait(io, x) {
                    return Next::Handshake;
                }
                self.fetches_part(x);
                let Some(store) = &mut self.store else { return Next::Nowhere };
                if !store.begin_revalidation(object) {
                    return Next::Wait(object, true);
                }
                match self.validating_head(x, asked) {
                    Some(head) => Next::Fetch(Act::Validate { head, hash, object, slice: asked.slice }),
                    None => {
                        if let Some(store) = &mut self.store {
                            store.end_revalidation(object);
                        }
                        Next::Later
                    }
                }
            }
        }
    }

    fn fetch_next(&mut self, io: &mut Io<'_>, x: ExchangeId, asked: &Asked<'_>, key: (usize, u64)) -> Next {
        if asked.facts.wants.only_if_cached {
            return Next::Nowhere;
        }
        if self.exchanges[x].early.is_now() && self.is_to_wait(io, x) {
            return Next::Handshake;
        }
        self.fetches_part(x);
        match self.claim(io, x, asked, key, 1) {
            Some(Act::Wait { object, validates }) => Next::Wait(object, validates),
            Some(act @ Act::Fetch { .. }) => Next::Fetch(act),
            Some(_) => Next::Nowhere,
            None => Next::Later,
        }
    }

    /// A response that was thought to be a hit needs the origin for part of it.
    fn fetches_part(&mut self, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        if e.cache_word != CacheWord::None {
            (e.cache_word, e.fwd) = (CacheWord::None, Some(Fwd::Partial));
        }
    }

    /// The slice that was fetched or confirmed for this response, if it is of the same representation.
    fn use_slice(&mut self, x: ExchangeId, asked: &Asked<'_>, object: ObjectId) -> Next {
        let (Some(store), Some(rest)) = (&self.store, self.exchanges[x].slicing.rest) else {
            return Next::Nowhere;
        };
        let Some(b) = Blob::read(store.view(object, &mut self.blob).blob) else { return Next::Nowhere };
        let facts = b.facts();
        let is_it = facts.has(Flags::SLICE) && facts.slice_start == rest.at;
        if is_it && Representation::of(&b, &self.keys) == Some(rest.of) {
            return Next::Read(object);
        }
        if !is_it && !matches!(facts.status, 200 | 404 | 410) {
            // That says nothing about the object.
            return Next::Nowhere;
        }
        // Within a millisecond there may be both: then the new one is fetched once more.
        let until_ms = facts.response_ms;
        self.mismatched(asked.url_hash, until_ms)
    }

    /// The origin did not answer: the stale slice that it was asked about, where that may be served.
    fn use_stale(&mut self, x: ExchangeId, asked: &Asked<'_>) -> Next {
        let (Side::Waits(w), Some(store)) = (&self.exchanges[x].side, &self.store) else {
            return Next::Nowhere;
        };
        let (object, validates) = (w.object, w.validates);
        let view = store.view(object, &mut self.blob);
        let soft = view.state.is_soft();
        let (Some(b), true) = (Blob::read(view.blob), validates) else { return Next::Nowhere };
        let failure = OriginFailure::NoResponse;
        let allowed = decide_on_failure(&asked.facts, &b.facts(), soft, failure, asked.now_ms);
        if allowed.is_some() { Next::Read(object) } else { Next::Nowhere }
    }

    /// The object is not what it was when this response began: the slices of it that came until then are dropped.
    fn mismatched(&mut self, url_hash: u64, until_ms: u64) -> Next {
        self.counters.inc(Ctr::CacheSlicesMismatched);
        if let Some(store) = &self.store {
            store.drop_parts(url_hash, until_ms);
        }
        Next::Nowhere
    }

    /// Goes on where the next slice comes from. `None`: it is being read.
    fn go_on(&mut self, io: &mut Io<'_>, x: ExchangeId, next: Next) -> Option<Step> {
        let client = self.exchanges[x].client;
        let Some(rest) = &mut self.exchanges[x].slicing.rest else { return Some(Step::Waits) };
        match &next {
            Next::Wait(..) | Next::Fetch(_) => rest.tries += 1,
            Next::Later => rest.later += 1,
            Next::Read(_) | Next::Handshake | Next::Nowhere => {}
        }
        let is_over = rest.later > LATER_MAX;
        match next {
            Next::Read(object) if self.read_next(io, x, object) => return None,
            Next::Fetch(act) => {
                self.detach(io, x);
                self.do_act(io, x, act, 0);
                return Some(self.gone_or_moved(x, client));
            }
            Next::Wait(object, validates) => {
                self.keeping(io, x, object, |proxy, _| {
                    proxy.wait_on(x, object, ExchangeId::NONE, validates, 0);
                });
                return Some(Step::Moved);
            }
            Next::Later if !is_over => {
                self.exchanges[x].soon = io.tcp.queued(client) == 0;
                return Some(Step::Waits);
            }
            Next::Handshake => return Some(Step::Waits),
            _ => {}
        }
        self.cut_short(io, x);
        Some(self.gone_or_moved(x, client))
    }

    /// Lets go of what `x` has read or waited for, and does `f`, which pins `object`: that stays although what is let go
    /// of may be the same.
    fn keeping(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        object: ObjectId,
        f: impl FnOnce(&mut Proxy, &Io<'_>),
    ) {
        if let Some(store) = &mut self.store {
            store.pin(object);
        }
        self.detach(io, x);
        f(self, io);
        if let Some(store) = &mut self.store {
            store.unpin(object);
        }
    }

    /// Reads on in `object`, which is the next slice.
    fn read_next(&mut self, io: &mut Io<'_>, x: ExchangeId, object: ObjectId) -> bool {
        let plan = self.plan(x);
        let rules = plan.route(self.exchanges[x].route).cache.as_ref();
        let (Some(store), Some(rest), Some(rules)) = (&self.store, self.exchanges[x].slicing.rest, rules)
        else {
            return false;
        };
        let Some(b) = Blob::read(store.view(object, &mut self.blob).blob) else { return false };
        let (came_ms, start) = (b.facts().response_ms, b.facts().slice_start);
        debug_assert_eq!(start, rest.at);
        let at = SliceWanted { start, bytes: rules.slice_bytes }.end();
        let left = rest.end.min(at) - start;
        self.keeping(io, x, object, |proxy, io| proxy.read_from(io, x, object, 0, Some(left)));
        self.counters.inc(Ctr::CacheSlicesServed);
        let goes_on = rest.end > at;
        self.exchanges[x].slicing.rest = goes_on.then_some(Rest { at, came_ms, tries: 0, later: 0, ..rest });
        true
    }
}
