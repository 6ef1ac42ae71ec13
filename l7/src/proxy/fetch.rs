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
use super::side::{Fetches, Outcome, Side};
use super::{Io, Proxy};
use crate::cache::store::{AppendError, Fill, ObjectId};
use crate::http1::{BodyStep, Method, Version};

/// How long a failed fetch answers for the next ones of its key.
const FAILURE_NS: u64 = 1_000_000_000;
const FAILURES: usize = 256;

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

impl Proxy {
    /// Begins a fetch for `x`, whose request `head` is: into `fill`, or to validate `stale`. Gives its exchange;
    /// `None` when no context is left (then the claims are given back).
    pub(super) fn start_fetch(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        head: Slice,
        hash: u64,
        fill: Option<Fill>,
        stale: Option<ObjectId>,
    ) -> Option<ExchangeId> {
        let Some(store) = &mut self.store else { return None };
        let purges = store.purge_epoch();
        let plan = self.exchanges[x].plan.clone();
        let (Some(f), Some(plan)) = (self.exchanges.alloc(), plan) else {
            self.counters.inc(Ctr::HttpNoContext);
            if let Some(fill) = fill {
                store.fail(fill);
            }
            if let Some(stale) = stale {
                store.end_revalidation(stale);
            }
            return None;
        };
        if let Some(stale) = stale {
            store.pin(stale);
        }
        self.counters.inc(if stale.is_some() { Ctr::CacheValidations } else { Ctr::CacheFetches });
        let (site, request, client) = {
            let e = &self.exchanges[x];
            (e.site, e.request.clone(), e.peer)
        };
        let e = &mut self.exchanges[f];
        e.begin(FlowId::NONE, plan);
        e.site = site;
        e.request = request;
        e.peer = client;
        e.method = Method::Get;
        e.version = Version::Http11;
        e.head = Some(head);
        e.started = io.now;
        e.side = Side::Fetches(Fetches { fill, stale, first: x, purges, hash, is_parked: false });
        self.forward(io, f);
        Some(f)
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

    /// Ends a fetch: an unfinished fill fails, a validation is given up.
    pub(super) fn end_fetch(&mut self, io: &mut Io<'_>, f: ExchangeId, outcome: Outcome) {
        if let (Side::Fetches(s), Some(store)) =
            (std::mem::take(&mut self.exchanges[f].side), &mut self.store)
        {
            if let Some(fill) = s.fill {
                store.fail(fill);
            }
            if let Some(stale) = s.stale {
                store.end_revalidation(stale);
                store.unpin(stale);
            }
            self.tell_first(io, s.first, outcome);
        }
        self.end(f);
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
                w.outcome = outcome;
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
        let (attempts, started, input) = (e.attempts, e.connect_started, e.origin_in.take());
        e.connected = false;
        let t = &mut self.exchanges[to];
        t.origin = origin;
        t.conn = conn;
        t.slot = slot;
        t.origin_index = index;
        t.attempts = attempts;
        t.connect_started = started;
        t.connected = true;
        t.origin_in = input;
        if origin.is_some() {
            io.tcp.set_user(origin, Role::Origin(to).encode());
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
        if let Some(fill) = s.fill.take() {
            self.counters.inc(Ctr::CacheStored);
            store.finish(fill, s.stale);
        }
        self.end_fetch(io, f, Outcome::Open);
    }

    /// The store has no room for more of the object. Nobody new finds it; the first client takes over when it
    /// has read what is there.
    fn park(&mut self, io: &mut Io<'_>, f: ExchangeId) {
        self.counters.inc(Ctr::CacheOutgrown);
        let (Side::Fetches(s), Some(store)) = (&mut self.exchanges[f].side, &mut self.store) else { return };
        let first = s.first;
        if first.is_none() || !matches!(self.exchanges[first].side, Side::Waits(_) | Side::Reads(_)) {
            self.fetch_failed(io, f, 502);
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
