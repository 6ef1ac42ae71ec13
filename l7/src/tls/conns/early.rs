//! Before a handshake is done: what a client sends early, and what it is answered (RFC 8446, 2.3).
//!
//! ```text
//!  client ── hello, early data ──► Handshakes ── Early ──► the one piece of plaintext that waits ──► owner: read
//!         ◄── our flight, records that rustls seals ◄───────────────────────── send ◄──────────────┘
//!         ── EndOfEarlyData, Finished ──► Established: from here on the records are ours
//! ```
//!
//! The owner hears READABLE while [`is_shaking`](Conns::is_shaking) is true, and CONNECTED when the handshake is done. What
//! it reads before that may be sent again by anybody, once (RFC 8446, 8); what it sends, only the client can read.

use dataplane::{CellWriter, Ctr, Slice};
use stack::FlowId;

use super::shaking::Shaking;
use super::{Also, Conns, News, Phase, RecordCells, Secured, SecuredId};
use crate::tls::handshake::Failure;
use crate::tls::handshakes::HandshakeId;
use crate::tls::record::OVERHEAD_MAX;

impl Secured {
    /// Whether the owner may send data.
    pub(super) fn takes_data(&self) -> bool {
        !self.said_close
            && match self.phase {
                Phase::Open(_) => true,
                Phase::Shakes(_) => self.news == News::Early,
                Phase::Free | Phase::Leaves(_) | Phase::Broken => false,
            }
    }
}

impl Shaking<'_> {
    /// Keeps early data for the owner, behind what it has not read yet.
    pub(super) fn take_early(&mut self, flow: FlowId, c: SecuredId, data: &[u8]) {
        let s = &mut self.secured[c];
        s.news = News::Early;
        let appended = s.plain.as_mut().is_some_and(|plain| plain.extend_in_place(data));
        if !appended {
            s.plain = match s.plain.take() {
                None => self.cells.store(data),
                Some(plain) => self.cells.join(&plain, data),
            };
        }
        if s.plain.is_none() {
            self.counters.inc(Ctr::TlsNoCell);
            // Its next event ends it: the handshake cannot be ended from within.
            s.also = Also::Failure(Box::new(Failure::internal("no cell for early data")));
        }
        self.tcp.wake(flow);
    }
}

impl Conns<'_> {
    /// Seals a record for a client that has not finished, and queues it.
    pub(super) fn ship_early(&mut self, flow: FlowId, h: HandshakeId, plain: &[u8]) -> bool {
        let tls = &mut *self.tls;
        let sent = ship(&tls.cells, plain.len(), |room| tls.handshakes.seal(h, plain, room));
        let Some(record) = sent else {
            tls.counters.inc(Ctr::TlsNoCell);
            return false;
        };
        tls.counters.inc(Ctr::TlsRecordsSealed);
        tls.counters.add(Ctr::TlsBytesSealed, plain.len() as u64);
        self.tcp.send(flow, record).is_ok()
    }

    /// Says to such a client that nothing more comes.
    pub(super) fn close_early(&mut self, flow: FlowId, c: SecuredId) {
        let s = &mut self.tls.secured[c];
        let Phase::Shakes(h) = s.phase else { return };
        if s.news != News::Early || std::mem::replace(&mut s.said_close, true) {
            return;
        }
        let tls = &mut *self.tls;
        if let Some(record) = ship(&tls.cells, 2, |room| tls.handshakes.seal_close(h, room)) {
            // Without it the client hears of an end that was not announced.
            let _ = self.tcp.send(flow, record);
        }
    }
}

impl RecordCells {
    /// `first` and `second`, in a cell that has room for all that may come early.
    fn join(&self, first: &[u8], second: &[u8]) -> Option<Slice> {
        let room = self.records.cell_bytes() as usize;
        let mut w = CellWriter::default();
        if first.len() + second.len() > room || !w.reserve(room, &self.records) {
            return None;
        }
        w.put(first);
        w.put(second);
        w.take()
    }
}

/// A record of `plain` bytes, as `seal` writes it.
fn ship(cells: &RecordCells, plain: usize, seal: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Slice> {
    let mut w = cells.writer(plain + OVERHEAD_MAX)?;
    w.fill(|room| seal(room).unwrap_or(0));
    let record = w.take();
    w.release();
    record
}
