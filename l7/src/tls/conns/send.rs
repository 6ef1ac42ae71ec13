//! What goes: plaintext of the owner, gathered, sealed, and queued in TCP.

use dataplane::{Ctr, Slice};
use stack::FlowId;

use super::{Conns, Phase, RECORD_PLAIN_MAX, SMALL_RECORDS_BYTES, SecuredId};
use crate::tls::record::{Alert, ContentType, OVERHEAD_MAX, SessionId};

impl Conns<'_> {
    /// Queues data.
    ///
    /// # Errors
    /// Gives the slice back when there is no room for it, or the side has been shut down.
    pub fn send(&mut self, flow: FlowId, data: Slice) -> Result<(), Slice> {
        let Some(c) = self.secured(flow) else { return self.tcp.send(flow, data) };
        if !self.tls.secured[c].takes_data() {
            return Err(data);
        }
        if self.tls.builder.flow != flow {
            self.flush();
            self.tls.builder.flow = flow;
            if self.tcp.queued(flow) == 0 {
                self.tls.secured[c].sent = 0;
            }
        }
        let mut left: &[u8] = &data;
        while !left.is_empty() {
            let max = self.record_max(flow, c);
            let b = &mut self.tls.builder;
            let n = left.len().min(max.saturating_sub(b.len));
            b.bytes[b.len..b.len + n].copy_from_slice(&left[..n]);
            b.len += n;
            left = &left[n..];
            if b.len >= max && !self.seal_pending() {
                return Err(data);
            }
        }
        Ok(())
    }

    /// How much the record that is being built may hold: at first what fits a segment.
    pub(super) fn record_max(&self, flow: FlowId, c: SecuredId) -> usize {
        let s = &self.tls.secured[c];
        if s.sent >= SMALL_RECORDS_BYTES {
            return RECORD_PLAIN_MAX;
        }
        let overhead = match s.phase {
            Phase::Open(session) => self.tls.sessions.sealed_bytes(session, 0),
            _ => OVERHEAD_MAX,
        };
        let mss = usize::from(self.tcp.flow(flow).mss);
        mss.saturating_sub(overhead).clamp(256, RECORD_PLAIN_MAX)
    }

    /// Seals what has been gathered. `false`: there was no room, and it is lost: the connection cannot go on.
    pub(super) fn seal_pending(&mut self) -> bool {
        let (flow, n) = (self.tls.builder.flow, std::mem::take(&mut self.tls.builder.len));
        let Some(c) = self.secured(flow).filter(|_| n > 0) else { return true };
        let phase = self.tls.secured[c].phase;
        if let Phase::Open(session) = phase
            && self.tls.sessions.update_due(session)
            && !self.update(flow, c)
        {
            return false;
        }
        let s = &mut self.tls.secured[c];
        s.sent = s.sent.saturating_add(n as u32);
        let bytes = std::mem::take(&mut self.tls.builder.bytes);
        let done = match phase {
            Phase::Open(session) => self.ship(flow, session, ContentType::ApplicationData, &bytes[..n]),
            Phase::Shakes(h) => self.ship_early(flow, h, &bytes[..n]),
            Phase::Free | Phase::Broken => false,
        };
        self.tls.builder.bytes = bytes;
        done
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
        self.tls.builder.flow = FlowId::NONE;
    }

    /// The pass is over: what waits for more goes out.
    pub fn finish(&mut self) {
        self.flush();
    }

    /// Forgets what waits for more of this connection's.
    pub(super) fn drop_pending(&mut self, flow: FlowId) {
        if self.tls.builder.flow == flow {
            self.tls.builder.len = 0;
            self.tls.builder.flow = FlowId::NONE;
        }
    }

    pub(super) fn update(&mut self, flow: FlowId, c: SecuredId) -> bool {
        let Phase::Open(session) = self.tls.secured[c].phase else { return false };
        let sessions = &mut self.tls.sessions;
        let Some(mut w) = self.tls.cells.writer(64) else { return false };
        w.fill(|room| sessions.update(session, false, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    /// Seals one record and queues it.
    pub(super) fn ship(&mut self, flow: FlowId, session: SessionId, kind: ContentType, plain: &[u8]) -> bool {
        let tls = &mut *self.tls;
        let Some(mut w) = tls.cells.writer(tls.sessions.sealed_bytes(session, plain.len())) else {
            tls.counters.inc(Ctr::TlsNoCell);
            return false;
        };
        w.fill(|room| tls.sessions.seal(session, kind, plain, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    pub(super) fn ship_alert(&mut self, flow: FlowId, session: SessionId, alert: Alert) -> bool {
        let tls = &mut *self.tls;
        let Some(mut w) = tls.cells.writer(2 + OVERHEAD_MAX) else {
            tls.counters.inc(Ctr::TlsNoCell);
            return false;
        };
        w.fill(|room| tls.sessions.alert(session, alert, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    /// Says that nothing more comes from us.
    pub(super) fn say_close(&mut self, flow: FlowId, c: SecuredId) {
        if self.tls.builder.flow == flow {
            self.flush();
        }
        if let Phase::Open(session) = self.tls.secured[c].phase
            && !std::mem::replace(&mut self.tls.secured[c].said_close, true)
        {
            self.ship_alert(flow, session, Alert::CLOSE_NOTIFY);
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
        if self.tls.builder.flow == flow { self.tls.builder.len as u32 } else { 0 }
    }
}
