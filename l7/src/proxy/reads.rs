//! Sending stored bodies: from the store's chunks into the client's cells, as far as the client takes them.

use dataplane::{CellWriter, Ctr, Pool, Slice};
use stack::FlowId;

use super::exchange::ExchangeId;
use super::pump::Step;
use super::side::{Outcome, Reads, Side, Waits};
use super::{Io, Proxy};
use crate::cache::policy::blob::Blob;
use crate::cache::policy::ranges::{write_part_head, write_parts_end};
use crate::cache::store::{Cursor, ObjectId, Progress, Wake};
use crate::http1::SliceSink;
use crate::tls::Sent;

/// Bytes that a client's queue is filled to at least, and at most: between them, twice what TCP may have in flight.
const QUEUE_BYTES_MIN: u32 = 32 << 10;

impl Proxy {
    /// Wakes the clients whose objects have moved on.
    pub(super) fn wake_readers(&mut self, io: &mut Io<'_>) {
        let Some(store) = &mut self.store else { return };
        let (waiting, all) = (&self.waiting, &self.exchanges);
        store.drain_wakes(|wake| match wake {
            Wake::Object(id) => waiting.each(all, id, |e| io.tcp.wake(e.client)),
            Wake::All => waiting.all(all, |e| io.tcp.wake(e.client)),
        });
    }

    /// `x` waits for an object; pins it.
    pub(super) fn wait_on(
        &mut self,
        x: ExchangeId,
        object: ObjectId,
        fetch: ExchangeId,
        validates: bool,
        looks: u8,
    ) {
        let Some(store) = &mut self.store else { return };
        store.pin(object);
        let seen = store.progress(object);
        self.exchanges[x].side =
            Side::Waits(Waits { object, seen, fetch, outcome: Outcome::Open, validates, looks });
        self.waiting.enter(&mut self.exchanges, x, object);
    }

    /// `x` begins to read the body of `object`; pins it.
    pub(super) fn read_from(
        &mut self,
        io: &Io<'_>,
        x: ExchangeId,
        object: ObjectId,
        from: u64,
        left: Option<u64>,
    ) {
        let Some(store) = &mut self.store else { return };
        store.pin(object);
        let mut fetch = ExchangeId::NONE;
        if let Side::Waits(w) = std::mem::take(&mut self.exchanges[x].side) {
            store.unpin(w.object);
            fetch = w.fetch;
        }
        self.exchanges[x].side =
            Side::Reads(Reads { object, cursor: Cursor::at(from), left, fetch, moved: io.now });
    }

    /// `x` has nothing to do with the cache any more: pins, lists and its fetch let go of it.
    #[inline]
    pub(super) fn detach(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &self.exchanges[x];
        if !matches!(e.side, Side::Direct) || e.links.object.is_some() {
            self.let_go(io, x);
        }
    }

    fn let_go(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        self.waiting.leave(&mut self.exchanges, x);
        let (object, fetch) = match std::mem::take(&mut self.exchanges[x].side) {
            Side::Waits(w) => (w.object, w.fetch),
            Side::Reads(r) => (r.object, r.fetch),
            other => {
                self.exchanges[x].side = other;
                return;
            }
        };
        if let Some(store) = &mut self.store {
            store.unpin(object);
        }
        if fetch.is_some()
            && let Side::Fetches(f) = &mut self.exchanges[fetch].side
        {
            f.first = ExchangeId::NONE;
            if f.is_parked {
                // It was kept for this client alone.
                self.abandon_fetch(io, fetch);
            }
        }
    }

    /// How much may wait in a client's send queue: two windows, so that none runs empty while the next is filled; a
    /// request's budget in any case, and beyond it as long as that is not more than half of what is free of the pool
    /// that it is taken from. So a long path may have many megabytes out while there are few, and when there are many,
    /// or they read slowly, each has its share.
    pub(super) fn queue_bytes_max(&self, io: &Io<'_>, client: FlowId, pool: &Pool) -> u32 {
        let budget = self.current.program.config.request_budget_bytes;
        let free = u64::from(pool.free_count()) * u64::from(pool.cell_bytes()) / 2;
        let most = (free.min(u64::from(u32::MAX)) as u32).max(budget);
        io.tcp.flow(client).send_target().clamp(QUEUE_BYTES_MIN.min(budget), most)
    }

    /// Sends on what there is of a stored body.
    pub(super) fn reads_step(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let client = self.exchanges[x].client;
        let target = self.queue_bytes_max(io, client, &self.cells.payload);
        loop {
            // Where cells are short a client has what is on its way, which can be let go, and one record that waits.
            let has_enough = io.tcp.is_short(FlowId::NONE, client) && io.tcp.has_unsent(client);
            if has_enough || io.tcp.queued_true(client) >= target {
                return Step::Waits;
            }
            let e = &mut self.exchanges[x];
            let (Side::Reads(r), Some(store)) = (&mut e.side, &mut self.store) else { return Step::Waits };
            let progress = store.progress(r.object);
            let there = progress.len.saturating_sub(r.cursor.offset());
            let there = r.left.map_or(there, |left| there.min(left));
            if there == 0 {
                match self.reads_on(io, x, progress) {
                    None => continue,
                    Some(step) => return step,
                }
            }
            if !e.down.chunked && io.tcp.is_secured(client) {
                match self.seal_on(io, x, there) {
                    Sent::Bytes(_) => continue,
                    Sent::Later => return Step::Waits,
                    Sent::Never => {
                        self.break_off(io, x);
                        return Step::Gone;
                    }
                }
            }
            let n = there.min(u64::from(self.cells.payload.cell_bytes()));
            let Some(piece) = copy_out(store, r, n as usize, &self.cells.payload) else {
                self.counters.inc(Ctr::PoolPayloadEmpty);
                // If nothing will be acknowledged that could wake it.
                self.exchanges[x].soon = io.tcp.queued(client) == 0;
                return Step::Waits;
            };
            if let Some(left) = &mut r.left {
                *left -= piece.len() as u64;
            }
            r.moved = io.now;
            self.counters.add(Ctr::CacheBytesServed, piece.len() as u64);
            if !e.down.forward(&mut io.tcp, client, &self.cells.payload, piece) {
                self.break_off(io, x);
                return Step::Gone;
            }
        }
    }

    /// Sends on a record of a stored body, of which `there` bytes are to be sent, from where they lie.
    fn seal_on(&mut self, io: &mut Io<'_>, x: ExchangeId, there: u64) -> Sent {
        let e = &mut self.exchanges[x];
        let Side::Reads(r) = &mut e.side else { return Sent::Never };
        let sent = io.tcp.send_stored(e.client, r.object, &mut r.cursor, there);
        match sent {
            Sent::Bytes(n) => {
                if let Some(left) = &mut r.left {
                    *left -= n as u64;
                }
                r.moved = io.now;
                e.down.body += n as u64;
                self.counters.add(Ctr::CacheBytesServed, n as u64);
            }
            // If nothing will be acknowledged that could wake it.
            Sent::Later => e.soon = io.tcp.queued(e.client) == 0,
            Sent::Never => {}
        }
        sent
    }

    /// Nothing more can be sent of what is there: is that the end, or what comes next? `None`: there is more.
    fn reads_on(&mut self, io: &mut Io<'_>, x: ExchangeId, progress: Progress) -> Option<Step> {
        let (Side::Reads(r), Some(store)) = (&self.exchanges[x].side, &self.store) else {
            return Some(Step::Waits);
        };
        let at_end = match r.left {
            Some(left) => left == 0,
            None => progress.state.is_complete(),
        };
        if at_end && self.exchanges[x].slicing.rest.is_some() {
            return self.next_slice(io, x);
        }
        if at_end {
            return match self.next_part(io, x) {
                Some(true) => None,
                Some(false) => Some(self.reads_done(io, x)),
                None => {
                    self.break_off(io, x);
                    Some(Step::Gone)
                }
            };
        }
        let (object, fetch) = (r.object, r.fetch);
        if fetch.is_some() && matches!(&self.exchanges[fetch].side, Side::Fetches(f) if f.is_parked) {
            self.take_over(io, x, fetch);
            return Some(Step::Moved);
        }
        if progress.state.is_failed() || progress.state.is_complete() {
            // It is shorter than its head says, or was broken off.
            let client = self.exchanges[x].client;
            self.cut_short(io, x);
            return Some(self.gone_or_moved(x, client));
        }
        if store.wait_for(object, progress) {
            self.waiting.enter(&mut self.exchanges, x, object);
            return Some(Step::Waits);
        }
        None
    }

    /// Begins the next part of a response with several ranges. `Some(false)`: there is none; the end has been sent.
    /// `None`: no cell was left.
    fn next_part(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Option<bool> {
        let e = &mut self.exchanges[x];
        let (Some(parts), Side::Reads(r), Some(store)) = (&mut e.parts, &mut e.side, &self.store) else {
            return Some(false);
        };
        let mut sink = SliceSink::new(&mut self.scratch);
        let more = match parts.ranges.get(parts.next) {
            Some(range) => {
                store.view(r.object, &mut self.blob);
                let blob = Blob::read(&self.blob)?;
                let line = blob.content_type_line();
                let first = parts.next == 0;
                write_part_head(first, &parts.boundary, line, *range, parts.total, &mut sink).ok()?;
                parts.next += 1;
                r.cursor = Cursor::at(range.start);
                r.left = Some(range.count());
                true
            }
            None => {
                write_parts_end(&parts.boundary, &mut sink).ok()?;
                e.parts = None;
                false
            }
        };
        let n = sink.len();
        self.send_scratch(io, x, n).then_some(more)
    }

    fn reads_done(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let client = self.exchanges[x].client;
        if !self.exchanges[x].down.end(&mut io.tcp, client, &self.cells.payload) {
            self.break_off(io, x);
            return Step::Gone;
        }
        self.detach(io, x);
        self.complete(io, x);
        self.gone_or_moved(x, client)
    }

    /// Of the clients that hold bytes which are out of the index, ends the one that has stood still for longest.
    /// Called while the store is over its bound of such bytes.
    pub(super) fn reset_slowest(&mut self, io: &mut Io<'_>) {
        let Some(store) = &mut self.store else { return };
        if !store.over_pinned_cap() {
            return;
        }
        let slowest = self
            .exchanges
            .used()
            .filter_map(|x| match &self.exchanges[x].side {
                Side::Reads(r) if store.is_evicted(r.object) => Some((r.moved, x)),
                _ => None,
            })
            .min_by_key(|(moved, _)| *moved);
        if let Some((_, x)) = slowest {
            self.counters.inc(Ctr::CacheSlowReset);
            self.break_off(io, x);
        } else if io.tcp.keep_less(|object| store.is_evicted(object)) {
            self.counters.inc(Ctr::CacheSlowReset);
        }
    }
}

/// Copies up to `n` bytes at the reader's place into a cell.
fn copy_out(
    store: &mut crate::cache::store::Handle,
    r: &mut Reads,
    n: usize,
    pool: &dataplane::Pool,
) -> Option<Slice> {
    let mut w = CellWriter::default();
    if !w.reserve(n, pool) {
        return None;
    }
    store.read(r.object, &mut r.cursor, n, |piece| {
        w.put(piece);
    });
    w.take()
}
