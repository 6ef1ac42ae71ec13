//! A request and the cache: what is stored for it, and what becomes of it.
//!
//! ```text
//!  ask_cache ── fresh ─────────────────────────────► Serve
//!      │  stale, may be served meanwhile ──────────► Serve, and a fetch without a client validates it
//!      │  stale ── nobody asks the origin yet ─────► Validate ──► Waits
//!      │        └─ somebody does ──────────────────► Wait ──────► Waits
//!      │  being filled ────────────────────────────► Wait
//!      │  nothing ── claimed ──────────────────────► Fetch ─────► Waits
//!      └─ not to be shared, no room ───────────────► None: the request goes its own way
//!  Waits ── its fetch has it, or the object turns out to fit ──► Serve
//!        └─ else: asks again, a bounded number of times, then goes its own way
//! ```

use dataplane::{CellWriter, Ctr, Hist, Slice};

use super::config::Route;
use super::exchange::ExchangeId;
use super::log::CacheWord;
use super::request::Act;
use super::respond::count_status;
use super::side::{Parts, SliceOf};
use super::{Io, Proxy};
use crate::cache::policy::blob::Blob;
use crate::cache::policy::decide::{self, Decision, OriginFailure, decide, decide_on_failure};
use crate::cache::policy::facts::Flags;
use crate::cache::policy::hash::HashKeys;
use crate::cache::policy::key::{UrlParts, write_key};
use crate::cache::policy::ranges::Boundary;
use crate::cache::policy::request::RequestFacts;
use crate::cache::policy::respond::{Cached, Content, plan, write_cached_head};
use crate::cache::policy::rules::CacheRules;
use crate::cache::policy::status::{CacheStatus, Fwd};
use crate::cache::policy::vary;
use crate::cache::store::{Cursor, Handle, ObjectId, Pick, State};
use crate::http1::{
    BodyLength, HeadScan, HeadSink, Method, Parsed, RequestHead, SliceSink, Version, parse_response,
    put_head_end,
};
use crate::phases::{EditList, Mark, Phase, RequestView, ResponseView, apply_edits};

/// How often a request asks the cache before it goes to the origin by itself.
pub(super) const LOOKS_MAX: u8 = 3;

/// A stored response that is about to be sent: its head is written in the scratch buffer.
pub(super) struct Serving {
    /// Bytes of head in the scratch buffer.
    pub len: usize,
    pub object: ObjectId,
    pub status: u16,
    /// Where in the body it begins.
    pub from: u64,
    /// Bytes of body; `None`: until the object is complete.
    pub left: Option<u64>,
}

/// How old a response is.
#[derive(Clone, Copy)]
pub(super) enum Age {
    /// It was stored before the request.
    Stored(u64),
    /// It was fetched for the request. One that comes from the origin itself has no age.
    First(u64),
}

impl Age {
    fn shown(self) -> Option<u64> {
        match self {
            Age::Stored(age_s) => Some(age_s),
            Age::First(age_s) => (age_s > 0).then_some(age_s),
        }
    }
}

/// A stored response that was chosen for a request.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'s> {
    pub object: ObjectId,
    pub age: Age,
    /// What Cache-Status says of it.
    pub status: CacheStatus<'s>,
}

/// A request, as the cache looks at it.
pub(super) struct Asked<'a> {
    pub head: &'a RequestHead<'a>,
    pub view: &'a RequestView<'a>,
    pub facts: RequestFacts,
    pub rules: &'a CacheRules,
    pub now_ms: u64,
    /// Of the URL's key.
    pub url_hash: u64,
    /// The slice that it is about now, if it is one.
    pub slice: Option<SliceOf>,
}

/// What was found for a request.
pub(super) enum Found {
    Nothing { vary_miss: bool },
    Pass,
    Pending(ObjectId),
    Stored { object: ObjectId, state: State },
}

/// Looks a key up. What it finds last lies in `blob`.
pub(super) fn find(
    store: &mut Handle,
    keys: &HashKeys,
    (key, hash): (&[u8], u64),
    head: &RequestHead<'_>,
    rules: &CacheRules,
    blob: &mut [u8],
    now_ms: u64,
) -> Found {
    let (mut pass, mut pending, mut vary_miss, mut state) = (false, None, false, None);
    let headers = head.headers();
    let found = store.lookup(hash, blob, |view| {
        let Some(b) = Blob::read(view.blob) else { return Pick::Next };
        if b.key() != key {
            return Pick::Next;
        }
        if view.state.is_pass() {
            pass |= b.facts().stale_ms(now_ms).is_none();
            return Pick::Next;
        }
        if b.is_pending() {
            pending = Some(view.id);
            return Pick::Next;
        }
        if vary::variant(b.vary(), &headers, &rules.key, keys) != b.facts().variant {
            vary_miss = true;
            return Pick::Next;
        }
        state = Some(view.state);
        Pick::Take
    });
    match (found, state, pending) {
        (Some(object), Some(state), _) => Found::Stored { object, state },
        _ if pass => Found::Pass,
        (_, _, Some(object)) => Found::Pending(object),
        _ => Found::Nothing { vary_miss },
    }
}

impl Proxy {
    /// Unix time in milliseconds.
    pub(super) fn now_ms(&self, io: &Io<'_>) -> u64 {
        (self.unix_ns_at_start + io.now.0) / 1_000_000
    }

    /// Asks the cache for a request. `None`: it goes its own way.
    pub(super) fn ask_cache(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        head: &RequestHead<'_>,
        view: &RequestView<'_>,
        rules: &CacheRules,
        looks: u8,
    ) -> Option<Act> {
        let facts = RequestFacts::of(head, rules);
        if facts.pass.is_some() {
            self.exchanges[x].fwd = facts.pass;
            return None;
        }
        let now_ms = self.now_ms(io);
        let keys = self.keys;
        let url = UrlParts::of(head, self.exchanges[x].is_https(), b"");
        let mut sink = SliceSink::new(&mut self.key);
        if write_key(&url, &rules.key, &mut sink).is_err() {
            self.counters.inc(Ctr::CacheBypassed);
            self.exchanges[x].fwd = Some(Fwd::Bypass);
            return None;
        }
        let mut key_len = sink.len();
        let store = self.store.as_mut()?;
        let key = &self.key[..key_len];
        let mut hash = keys.hash(key);
        let mut asked = Asked { head, view, facts, rules, now_ms, url_hash: hash, slice: None };
        let mut found = find(store, &keys, (key, hash), head, rules, &mut self.blob, now_ms);
        if rules.slice_bytes > 0 && matches!(found, Found::Nothing { .. }) {
            (found, key_len, hash) = self.ask_slices(x, &mut asked, (found, key_len, hash))?;
        }
        let (object, state) = match found {
            Found::Stored { object, state } => (object, state),
            Found::Pass | Found::Pending(_) | Found::Nothing { .. }
                if decide::decide_miss(&facts).is_some() =>
            {
                return Some(Act::Error(504));
            }
            Found::Pass => {
                self.counters.inc(Ctr::CacheBypassed);
                self.exchanges[x].fwd = Some(Fwd::Bypass);
                return None;
            }
            Found::Pending(object) if looks < LOOKS_MAX && (!facts.range || asked.slice.is_some()) => {
                return Some(Act::Wait { object, validates: false });
            }
            Found::Pending(_) => return None,
            Found::Nothing { vary_miss } => {
                self.counters.inc(Ctr::CacheMisses);
                self.exchanges[x].fwd = Some(if vary_miss { Fwd::VaryMiss } else { Fwd::UriMiss });
                return self.claim(io, x, &asked, (key_len, hash), looks);
            }
        };
        let b = Blob::read(&self.blob)?;
        match decide(&facts, &b.facts(), state.is_soft(), now_ms) {
            Decision::GatewayTimeout => Some(Act::Error(504)),
            Decision::Serve { age_s } => {
                self.counters.inc(Ctr::CacheHits);
                self.exchanges[x].cache_word = CacheWord::Hit;
                let status = CacheStatus::hit(b.facts().ttl_s(now_ms));
                self.write_stored(io, x, &asked, Chosen { object, age: Age::Stored(age_s), status })
            }
            Decision::ServeStale { age_s } => {
                self.counters.inc(Ctr::CacheHitsStale);
                self.exchanges[x].cache_word = CacheWord::Stale;
                let status = CacheStatus::hit(b.facts().ttl_s(now_ms));
                self.write_stored(io, x, &asked, Chosen { object, age: Age::Stored(age_s), status })
            }
            Decision::ServeWhileRevalidating { age_s } => {
                self.counters.inc(Ctr::CacheHitsStale);
                self.exchanges[x].cache_word = CacheWord::Stale;
                self.exchanges[x].cache_word = CacheWord::Stale;
                let status = CacheStatus {
                    detail: Some("stale-while-revalidate"),
                    ..CacheStatus::hit(b.facts().ttl_s(now_ms))
                };
                if self.failures.find(hash, io.now).is_none() {
                    self.validate_behind(io, x, &asked, object, hash);
                }
                self.write_stored(io, x, &asked, Chosen { object, age: Age::Stored(age_s), status })
            }
            Decision::Revalidate { why } => {
                self.exchanges[x].fwd = Some(why);
                if let Some(status) = self.failures.find(hash, io.now) {
                    // Somebody has just found out that the origin does not answer.
                    let failure = OriginFailure::NoResponse;
                    return Some(
                        match decide_on_failure(&facts, &b.facts(), state.is_soft(), failure, now_ms) {
                            Some(age_s) => {
                                let act = self.write_on_error(io, x, &asked, object, age_s);
                                act.unwrap_or(Act::Error(status))
                            }
                            None => Act::Error(status),
                        },
                    );
                }
                if looks >= LOOKS_MAX {
                    return None;
                }
                if state.is_filling() {
                    // Not for others, and not complete either.
                    return self.claim(io, x, &asked, (key_len, hash), LOOKS_MAX);
                }
                let store = self.store.as_mut()?;
                if !store.begin_revalidation(object) {
                    return Some(Act::Wait { object, validates: true });
                }
                match self.validating_head(x, &asked) {
                    Some(head) => Some(Act::Validate { head, hash, object, slice: asked.slice }),
                    None => {
                        self.store.as_mut()?.end_revalidation(object);
                        self.counters.inc(Ctr::PoolPayloadEmpty);
                        Some(Act::Error(503))
                    }
                }
            }
        }
    }

    /// A stale response in place of an error.
    pub(super) fn write_on_error(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        asked: &Asked<'_>,
        object: ObjectId,
        age_s: u64,
    ) -> Option<Act> {
        self.counters.inc(Ctr::CacheHitsStale);
        self.exchanges[x].cache_word = CacheWord::Stale;
        let ttl_s = Blob::read(&self.blob)?.facts().ttl_s(asked.now_ms);
        let status = CacheStatus {
            fwd: Some(Fwd::Stale),
            ttl_s: Some(ttl_s),
            detail: Some("stale-if-error"),
            ..CacheStatus::default()
        };
        self.write_stored(io, x, asked, Chosen { object, age: Age::Stored(age_s), status })
    }
}

impl Proxy {
    /// Writes the head of a stored response, whose blob is in `self.blob`, into the scratch buffer.
    pub(super) fn write_stored(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        asked: &Asked<'_>,
        chosen: Chosen<'_>,
    ) -> Option<Act> {
        if asked.rules.slice_bytes > 0 && Blob::read(&self.blob)?.facts().has(Flags::SLICE) {
            return self.write_slice(io, x, asked, chosen);
        }
        self.write_object(io, x, asked, chosen)
    }

    /// The same, of an object that has been looked at.
    pub(super) fn write_object(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        asked: &Asked<'_>,
        chosen: Chosen<'_>,
    ) -> Option<Act> {
        let Chosen { object, age, status } = chosen;
        let store = self.store.as_ref()?;
        let progress = store.progress(object);
        let complete = progress.state.is_complete();
        let blob = Blob::read(&self.blob)?;
        let is_slice = asked.rules.slice_bytes > 0 && blob.facts().has(Flags::SLICE);
        let total = (complete && !is_slice).then_some(progress.len);
        let reply = plan(&asked.facts, asked.head, &blob, total, asked.now_ms);
        if matches!(reply.content, Content::Range(..) | Content::Parts(..)) && !complete && !is_slice {
            return None; // What is not there yet may be far away: the origin has it.
        }
        let boundary = match reply.content {
            Content::Parts(_) => Boundary::new(self.random(io)),
            _ => Boundary::NONE,
        };
        let blob = Blob::read(&self.blob)?;
        let is_hidden = !self.plan(x).route(self.exchanges[x].route).cache_status;
        let e = &mut self.exchanges[x];
        let framing = reply.body(e.version, &boundary, &blob);
        if self.draining {
            e.server.close_soon_after();
        }
        let keep_alive = e.server.respond(framing);
        let cached = Cached {
            version: e.version,
            keep_alive,
            age_s: age.shown(),
            status: CacheStatus { is_hidden, ..status },
            is_first: matches!(age, Age::First(_)),
            boundary: &boundary,
            date: &self.date,
        };
        let mut sink = SliceSink::new(&mut self.scratch);
        if write_cached_head(&blob, &reply, &cached, &mut sink).is_err() {
            return Some(Act::Close);
        }
        let mut len = sink.len();
        let version = e.version;
        e.down.chunked = framing == BodyLength::Chunked;
        e.down.unframed = framing == BodyLength::UntilClose;
        let (from, left) = match &reply.content {
            _ if reply.is_head => (0, Some(0)),
            Content::NotModified | Content::Unsatisfiable(_) => (0, Some(0)),
            Content::Whole(total) => (0, if reply.status == 204 { Some(0) } else { *total }),
            Content::Range(range, _) => (range.start, Some(range.count())),
            Content::Parts(total) => {
                e.parts = Some(Parts { ranges: reply.parts.clone(), total: *total, boundary, next: 0 });
                (0, Some(0))
            }
        };
        let (plan, route) = (self.plan(x), self.exchanges[x].route);
        if !plan.route(route).modules.is_empty(Phase::Response) {
            len = match self.edit_stored(len, plan.route(route), asked.view, (framing, version, keep_alive)) {
                Some(len) => len,
                None => return Some(Act::Close),
            };
        }
        Some(Act::Serve(Serving { len, object, status: reply.status, from, left }))
    }

    /// Has the response phase's modules edit the stored response's head in the scratch buffer. Gives its length.
    fn edit_stored(
        &mut self,
        len: usize,
        route: &Route,
        view: &RequestView<'_>,
        (framing, version, keep_alive): (BodyLength, Version, bool),
    ) -> Option<usize> {
        let mut bench = self.response_bench.take()?;
        let http = self.current.program.config.http;
        let head = &self.scratch[..len];
        let mut sink = SliceSink::new(&mut self.blob2);
        let written = match parse_response(head, Method::Get, &mut HeadScan::new(), &http, &mut bench.slots) {
            Ok(Parsed::Complete(parsed, _)) => {
                let seen = ResponseView { status: parsed.status(), headers: Some(parsed.headers()) };
                let edits = route.modules.response(view, &seen);
                let list = EditList { edits: &edits, vars: view.vars() };
                let line_end = memchr::memchr(b'\n', head).map_or(0, |at| at + 1);
                // A length is among the lines that are kept.
                let framing = match framing {
                    BodyLength::Length(_) => BodyLength::None,
                    other => other,
                };
                sink.put(&head[..line_end]).is_ok()
                    && apply_edits(&parsed.headers(), &list, &mut sink).is_ok()
                    && put_head_end(framing, version, keep_alive, &mut sink).is_ok()
            }
            _ => false,
        };
        let n = sink.len();
        self.response_bench = Some(bench);
        self.scratch.get_mut(..n).filter(|_| written)?.copy_from_slice(&self.blob2[..n]);
        Some(n)
    }

    /// Sends a stored response, whose head is in the scratch buffer.
    pub(super) fn serve(&mut self, io: &mut Io<'_>, x: ExchangeId, s: Serving) {
        let Serving { len, object, status, from, left } = s;
        count_status(&self.counters, status);
        self.exchanges[x].status = status;
        let started = self.exchanges[x].started;
        self.counters.record(Hist::FirstByteCache, io.now.since_ns(started));
        self.exchanges[x].responding = true;
        if left == Some(0) && self.exchanges[x].parts.is_none() {
            self.detach(io, x);
            if self.send_scratch(io, x, len) {
                self.finish_response(io, x)
            } else {
                self.break_off(io, x)
            }
            return;
        }
        if let Some(body) = left
            && let Some(whole) = self.copy_whole(x, len, object, from, body)
        {
            self.detach(io, x);
            let e = &mut self.exchanges[x];
            e.down.body += body;
            e.timings.mark(Mark::FirstByte, io.now.0);
            if io.tcp.send(e.client, whole).is_ok() {
                self.finish_response(io, x);
            } else {
                self.break_off(io, x);
            }
            return;
        }
        if !self.send_scratch(io, x, len) {
            self.break_off(io, x);
            return;
        }
        self.read_from(io, x, object, from, left);
        let _ = self.reads_step(io, x);
    }

    /// A short response in one cell: the head in the scratch buffer, and the body, if all of it is there. It needs no
    /// pin, as the copy is done within the pass, and one send record.
    fn copy_whole(
        &mut self,
        x: ExchangeId,
        len: usize,
        object: ObjectId,
        from: u64,
        body: u64,
    ) -> Option<Slice> {
        let store = self.store.as_mut()?;
        let pool = &self.cells.payload;
        if len as u64 + body > u64::from(pool.cell_bytes())
            || self.exchanges[x].parts.is_some()
            || store.progress(object).len < from + body
        {
            return None;
        }
        let mut w = CellWriter::default();
        if !w.reserve(len + body as usize, pool) {
            return None;
        }
        w.put(&self.scratch[..len]);
        store.read(object, &mut Cursor::at(from), body as usize, |piece| {
            w.put(piece);
        });
        self.counters.add(Ctr::CacheBytesServed, body);
        w.take()
    }
}
