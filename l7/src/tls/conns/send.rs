//! What goes: plaintext of the owner, gathered, sealed, and queued in TCP.
//!
//! What fills a record is sealed where it lies: a piece of the owner's, or bytes of the store. What does not waits, as it is,
//! for what follows it; only pieces that share a record are copied.

use dataplane::{Ctr, Slice};
use stack::FlowId;

use super::again::Stored;
use super::secured::{Phase, SAID_CLOSE};
use super::{Conns, RECORD_PLAIN_MAX, SMALL_RECORDS_BYTES, SessionId};
use crate::cache::store::{Cursor, ObjectId};
use crate::tls::record::{Alert, ContentType, OVERHEAD_MAX};

/// Plaintext on its way into a record.
pub(super) struct Builder {
    /// Whose it is; NONE while there is none.
    pub flow: FlowId,
    /// All of it, while it is one piece.
    held: Option<Slice>,
    /// Several pieces, one behind the other.
    pub bytes: Box<[u8]>,
    len: usize,
}

impl Builder {
    /// With room for so many bytes: a record's, or 0 where there is no TLS.
    pub fn new(bytes: usize) -> Builder {
        Builder { flow: FlowId::NONE, held: None, bytes: vec![0; bytes].into(), len: 0 }
    }

    /// How much waits.
    fn waiting(&self) -> usize {
        self.held.as_ref().map_or(self.len, |s| s.len())
    }

    /// Copies what one more record may hold of `data`, up to `max` in all. Gives how much that is.
    fn gather(&mut self, data: &[u8], max: usize) -> usize {
        if let Some(s) = self.held.take() {
            self.bytes[..s.len()].copy_from_slice(&s);
            self.len = s.len();
        }
        let n = data.len().min(max.saturating_sub(self.len));
        self.bytes[self.len..self.len + n].copy_from_slice(&data[..n]);
        self.len += n;
        n
    }

    fn clear(&mut self) {
        (self.held, self.len, self.flow) = (None, 0, FlowId::NONE);
    }
}

/// What came of sending stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many of them are queued.
    Bytes(usize),
    /// None: there is no memory for a record now.
    Later,
    /// The connection takes no more.
    Never,
}

impl Conns<'_> {
    /// Queues data.
    ///
    /// # Errors
    /// Gives the slice back when there is no room for it, or the side has been shut down.
    pub fn send(&mut self, flow: FlowId, mut data: Slice) -> Result<(), Slice> {
        let Some(c) = self.secured(flow) else { return self.send_plain(flow, data) };
        if !self.turn_to(flow, c) {
            return Err(data);
        }
        loop {
            let max = self.record_max(flow, c);
            let waits = self.tls.builder.waiting();
            if waits == 0 && data.len() < max {
                self.tls.builder.held = Some(data).filter(|d| !d.is_empty());
                return Ok(());
            }
            if data.is_empty() && waits < max {
                return Ok(());
            }
            let done = if waits == 0 {
                let record = data.split_to(max);
                self.seal_data(flow, c, &record, None)
            } else {
                let n = self.tls.builder.gather(&data, max);
                data.advance(n);
                waits + n < max || self.seal_pending()
            };
            if !done {
                return Err(data);
            }
        }
    }

    /// Queues some of the next `most` bytes of a stored body, which are there, from the cursor on, and moves that behind
    /// them: a record at most, sealed from where they lie. Whoever calls has found the object in this pass, or pins it.
    pub fn send_stored(&mut self, flow: FlowId, object: ObjectId, cursor: &mut Cursor, most: u64) -> Sent {
        let (Some(c), Some(bodies)) = (self.secured(flow), self.tls.again.bodies()) else {
            return Sent::Never;
        };
        if self.is_out_of_cells() {
            return Sent::Later;
        }
        if !self.turn_to(flow, c) {
            return Sent::Never;
        }
        if self.is_held_up(flow, c) {
            return Sent::Later;
        }
        let max = self.record_max(flow, c);
        let waits = self.tls.builder.waiting();
        let want = most.min(max.saturating_sub(waits) as u64) as usize;
        let whole = waits == 0 && (want == max || want > self.tls.cells.payload.cell_bytes() as usize);
        let at = Stored { object, from: cursor.offset() };
        let (mut done, mut n) = (None, 0);
        bodies.read(object, cursor, want, |piece| {
            if whole && piece.len() == want {
                done = Some(self.seal_data(flow, c, piece, Some(at)));
            } else {
                self.tls.builder.gather(piece, max);
            }
            n += piece.len();
        });
        let done = match done {
            Some(done) => done,
            None if whole => self.seal_gathered(flow, c, Some(at)),
            None => waits + n < max || self.seal_pending(),
        };
        if done { Sent::Bytes(n) } else { Sent::Never }
    }

    /// What is built from here on is this connection's. Gives whether it may still send.
    fn turn_to(&mut self, flow: FlowId, c: SessionId) -> bool {
        if !self.tls.secured[c].takes_data() {
            return false;
        }
        if self.tls.builder.flow != flow {
            self.flush();
            self.tls.builder.flow = flow;
            if self.tcp.queued(flow) == 0 {
                self.tls.secured[c].sent = 0;
            }
        }
        true
    }

    /// How much the record that is being built may hold: at first what fits a segment.
    pub(super) fn record_max(&self, flow: FlowId, c: SessionId) -> usize {
        let s = &self.tls.secured[c];
        if s.sent >= SMALL_RECORDS_BYTES {
            return RECORD_PLAIN_MAX;
        }
        let overhead = if s.is_open() { self.tls.sessions.sealed_bytes(c, 0) } else { OVERHEAD_MAX };
        let mss = usize::from(self.tcp.flow(flow).mss);
        mss.saturating_sub(overhead).clamp(256, RECORD_PLAIN_MAX)
    }

    /// Seals what waits. `false`: there was no room, and it is lost: the connection cannot go on.
    pub(super) fn seal_pending(&mut self) -> bool {
        let flow = self.tls.builder.flow;
        let Some(c) = self.secured(flow).filter(|_| self.tls.builder.waiting() > 0) else { return true };
        match self.tls.builder.held.take() {
            Some(held) => self.seal_data(flow, c, &held, None),
            None => self.seal_gathered(flow, c, None),
        }
    }

    fn seal_gathered(&mut self, flow: FlowId, c: SessionId, stored: Option<Stored>) -> bool {
        let n = std::mem::take(&mut self.tls.builder.len);
        let bytes = std::mem::take(&mut self.tls.builder.bytes);
        let done = self.seal_data(flow, c, &bytes[..n], stored);
        self.tls.builder.bytes = bytes;
        done
    }

    /// Seals a record of data; `stored`: where it lies in the store, if it does.
    fn seal_data(&mut self, flow: FlowId, c: SessionId, plain: &[u8], stored: Option<Stored>) -> bool {
        let s = &mut self.tls.secured[c];
        match s.phase() {
            Phase::Open => {}
            Phase::Shakes(h) => {
                s.sent = s.sent.saturating_add(plain.len() as u16);
                return self.ship_early(flow, h, plain);
            }
            Phase::Free | Phase::Connects | Phase::Leaves | Phase::Broken => return false,
        }
        if self.tls.sessions.update_due(c) && !self.update(flow, c) {
            return false;
        }
        let s = &mut self.tls.secured[c];
        s.sent = s.sent.saturating_add(plain.len() as u16);
        match stored {
            Some(at) => self.ship_stored(flow, c, plain, at),
            None => self.ship(flow, c, ContentType::ApplicationData, plain),
        }
    }

    /// Seals and sends what waits for more.
    pub(super) fn flush(&mut self) {
        let flow = self.tls.builder.flow;
        if flow.is_none() {
            return;
        }
        if !self.seal_pending() {
            self.break_now(flow);
        }
        self.tls.builder.clear();
    }

    /// The pass is over: what waits for more goes out.
    pub fn finish(&mut self) {
        self.flush();
        if self.tls.is_on() {
            let free = self.tls.cells.records.free_count();
            self.tls.counters.set(Ctr::PoolRecordFree, free.into());
        }
    }

    /// Forgets what waits for more of this connection's.
    pub(super) fn drop_pending(&mut self, flow: FlowId) {
        if self.tls.builder.flow == flow {
            self.tls.builder.clear();
        }
    }

    pub(super) fn update(&mut self, flow: FlowId, c: SessionId) -> bool {
        if !self.tls.secured[c].is_open() {
            return false;
        }
        // What has been let go could not be sealed again under the next key.
        if !self.make_whole(flow, c) {
            self.tls.counters.inc(Ctr::TlsNoCell);
            return false;
        }
        let sessions = &mut self.tls.sessions;
        let Some(mut w) = self.tls.cells.writer(64) else { return false };
        w.fill(|room| sessions.update(c, false, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    /// Seals one record and queues it; or several, where only short cells are left.
    pub(super) fn ship(&mut self, flow: FlowId, c: SessionId, kind: ContentType, plain: &[u8]) -> bool {
        let cells = &self.tls.cells;
        let short = (cells.payload.cell_bytes() as usize).saturating_sub(OVERHEAD_MAX).max(1);
        if plain.len() > short && cells.records.free_count() == 0 {
            return plain.chunks(short).all(|part| self.ship_one(flow, c, kind, part));
        }
        self.ship_one(flow, c, kind, plain)
    }

    #[inline]
    fn ship_one(&mut self, flow: FlowId, c: SessionId, kind: ContentType, plain: &[u8]) -> bool {
        let record = self.sealed(c, kind, plain);
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    /// One record, in a cell.
    #[inline(always)]
    pub(super) fn sealed(&mut self, c: SessionId, kind: ContentType, plain: &[u8]) -> Option<Slice> {
        let tls = &mut *self.tls;
        let Some(mut w) = tls.cells.writer(tls.sessions.sealed_bytes(c, plain.len())) else {
            tls.counters.inc(Ctr::TlsNoCell);
            return None;
        };
        w.fill(|room| tls.sessions.seal(c, kind, plain, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record
    }

    pub(super) fn ship_alert(&mut self, flow: FlowId, c: SessionId, alert: Alert) -> bool {
        let tls = &mut *self.tls;
        let Some(mut w) = tls.cells.writer(2 + OVERHEAD_MAX) else {
            tls.counters.inc(Ctr::TlsNoCell);
            return false;
        };
        w.fill(|room| tls.sessions.alert(c, alert, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    /// Says that nothing more comes from us.
    pub(super) fn say_close(&mut self, flow: FlowId, c: SessionId) {
        if self.tls.builder.flow == flow {
            self.flush();
        }
        let s = &mut self.tls.secured[c];
        if s.is_open() && !s.has(SAID_CLOSE) {
            s.set(SAID_CLOSE);
            self.ship_alert(flow, c, Alert::CLOSE_NOTIFY);
        }
        self.close_early(flow, c);
    }

    /// Bytes queued and not yet acknowledged.
    pub fn queued(&self, flow: FlowId) -> u32 {
        self.tcp.queued(flow) + self.pending(flow)
    }

    /// Memory that the send queue holds, by true size.
    pub fn queued_true(&self, flow: FlowId) -> u32 {
        self.tcp.queued_true(flow) + self.pending(flow)
    }

    pub(super) fn pending(&self, flow: FlowId) -> u32 {
        if self.tls.builder.flow == flow { self.tls.builder.waiting() as u32 } else { 0 }
    }
}
