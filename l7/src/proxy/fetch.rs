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
use super::side::{Fetches, Outcome, Side, SliceOf};
use super::{Io, Proxy};
use crate::cache::store::{AppendError, Fill, ObjectId};
use crate::http1::{BodyStep, Method, Version};

/// What a fetch is for.
pub(super) enum Goal {
    /// To fill this object.
    Fill(Fill),
    /// To ask whether this one is still good.
    Validate(ObjectId),
}

impl Proxy {
    /// Begins a fetch by the request of `x`, of the key with this hash, and of this slice if it is one. `first` waits for
    /// it (`x`, or nobody). Where no context is left, what was claimed is given back.
    pub(super) fn start_fetch(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        first: ExchangeId,
        head: Slice,
        (hash, slice): (u64, Option<SliceOf>),
        goal: Goal,
    ) {
        let Some(store) = &mut self.store else { return };
        let (fill, stale) = match goal {
            Goal::Fill(fill) => (Some(fill), None),
            Goal::Validate(stale) => (None, Some(stale)),
        };
        let purges = store.purge_epoch(hash);
        let slice = slice.map(|s| (s, store.purge_epoch(s.url_hash)));
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
        if slice.is_some() {
            self.counters.inc(Ctr::CacheSlicesFetched);
            store.note_parts();
        }
        let (site, route, request, client, key) = {
            let e = &self.exchanges[x];
            (e.site, e.route, e.request.clone(), (e.peer, e.scheme, e.identity.clone()), e.key)
        };
        let validates = stale.is_some();
        let e = &mut self.exchanges[f];
        e.begin(FlowId::NONE, plan);
        e.site = site;
        e.route = route;
        e.request = request;
        (e.peer, e.scheme, e.identity) = client;
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
            slice,
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
        if first.is_none() {
            return;
        }
        let e = &mut self.exchanges[first];
        if matches!(e.side, Side::Waits(_)) && !e.responding {
            e.takes_way_of(asked, &timings);
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
        let waits = first.is_some()
            && matches!(self.exchanges[first].side, Side::Waits(_))
            && !self.exchanges[first].responding;
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
                    e.blame = true;
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
        if io.tcp.at_end(origin) {
            // What is left of a line will never be one.
            self.origin_eof(io, f, io.tcp.state(origin) == State::Closed);
            return true;
        }
        let idle = e.idle_ns();
        io.tcp.set_timer(origin, io.now.plus_ns(idle));
        if moved {
            self.exchanges[f].starved = 0;
        }
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
        // What of a slice a client wants may end before the slice does.
        if s.slice.is_some()
            || first.is_none()
            || !matches!(self.exchanges[first].side, Side::Waits(_) | Side::Reads(_))
        {
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
