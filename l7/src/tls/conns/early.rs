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

use super::secured::{EARLY, Phase, SAID_CLOSE};
use super::shaking::Shaking;
use super::{Conns, RecordCells, SessionId};
use crate::tls::handshake::Failure;
use crate::tls::handshakes::HandshakeId;
use crate::tls::record::OVERHEAD_MAX;

impl Shaking<'_> {
    /// Keeps early data for the owner, behind what it has not read yet.
    pub(super) fn take_early(&mut self, flow: FlowId, c: SessionId, data: &[u8]) {
        let s = &mut self.secured[c];
        s.set(EARLY);
        if !s.plain.extend(data) {
            let whole = match s.plain.take() {
                None => self.cells.store(data),
                Some(plain) => self.cells.join(&plain, data),
            };
            // In a cell of its own, so that it can wait there.
            if whole.is_none_or(|whole| s.plain.put(whole).is_err()) {
                self.counters.inc(Ctr::TlsNoCell);
                // Its next event ends it: the handshake cannot be ended from within.
                s.set_failure(Failure::internal("no cell for early data"));
            }
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
    pub(super) fn close_early(&mut self, flow: FlowId, c: SessionId) {
        let s = &mut self.tls.secured[c];
        let Phase::Shakes(h) = s.phase() else { return };
        if !s.has(EARLY) || s.has(SAID_CLOSE) {
            return;
        }
        s.set(SAID_CLOSE);
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
