//! What comes: ciphertext out of TCP's queue, a record at a time, to plaintext for the owner.

use dataplane::{Ctr, Slice};
use rustls::{AlertDescription, Error};
use stack::FlowId;

use super::{Also, Conns, EMPTY_IN_A_ROW, Phase, SecuredId};
use crate::tls::handshake::{Failure, FailureKind};
use crate::tls::record::{Alert, Received, tickets};

impl Conns<'_> {
    /// The length of the record that is next, once its header is there; an alert where it cannot be one.
    pub(super) fn record_bytes(&self, flow: FlowId, c: SecuredId) -> Result<Option<usize>, Alert> {
        let mut head = [0; 5];
        let rest = self.tls.secured[c].rest.as_deref().unwrap_or_default();
        let n = rest.len().min(5);
        head[..n].copy_from_slice(&rest[..n]);
        let n = n + self.tcp.peek(flow, &mut head[n..]);
        self.tls.sessions.header(&head[..n])
    }

    /// Whether a whole record is there, or something that will never be one.
    pub(super) fn has_record(&self, flow: FlowId, c: SecuredId) -> bool {
        match self.record_bytes(flow, c) {
            Err(_) => true,
            Ok(None) => false,
            Ok(Some(n)) => {
                let rest = self.tls.secured[c].rest.as_ref().map_or(0, |s| s.len());
                rest >= n || rest + self.tcp.unread(flow, n - rest) >= n
            }
        }
    }

    /// Opens records until there is data, or no whole record any more.
    pub(super) fn open_ahead(&mut self, flow: FlowId, c: SecuredId) {
        for _ in 0..EMPTY_IN_A_ROW {
            let s = &self.tls.secured[c];
            let Phase::Open(session) = s.phase else { return };
            if s.plain.is_some() {
                return;
            }
            if s.has_closed {
                return self.ignore_rest(flow, c);
            }
            let bytes = match self.record_bytes(flow, c) {
                Ok(Some(n)) if self.has_record(flow, c) => n,
                Ok(_) => return,
                Err(alert) => return self.fail(flow, c, alert),
            };
            let Some(mut record) = self.take_record(flow, c, bytes) else {
                self.tls.counters.inc(Ctr::TlsNoCell);
                return self.fail(flow, c, Alert::INTERNAL_ERROR);
            };
            let Some(lies) = record.unique_mut() else {
                debug_assert!(false, "a record that is taken is its cell's only view");
                return self.fail(flow, c, Alert::INTERNAL_ERROR);
            };
            let received = self.tls.sessions.receive(session, lies);
            let mut data = 0;
            match received {
                Ok(Received::Data(range)) => {
                    record.advance(range.start);
                    record.truncate(range.len());
                    data = range.len();
                    self.tls.secured[c].plain = Some(record);
                }
                Ok(Received::Nothing) => {}
                // One that asks for ours is remembered: it goes out before our next data.
                Ok(Received::KeyUpdate { .. }) => {}
                Ok(Received::Tickets(range)) => {
                    if let Also::Tickets(kernel) = &mut self.tls.secured[c].also {
                        for body in tickets(&record[range]) {
                            // One that cannot be read is of no use, and does no harm.
                            let _ = kernel.handle_new_session_ticket(body);
                        }
                    }
                }
                Ok(Received::CloseNotify) => self.tls.secured[c].has_closed = true,
                Ok(Received::Fatal(alert)) => {
                    // An origin that does not like our certificate says so only now (TLS 1.3).
                    let error = Error::AlertReceived(AlertDescription::from(alert.0));
                    let failure = Failure { kind: FailureKind::Alert, error };
                    self.tls.secured[c].also = Also::Failure(Box::new(failure));
                    return self.break_now(flow);
                }
                Err(alert) => return self.fail(flow, c, alert),
            }
            self.tcp.consume(flow, (bytes - data) as u32);
        }
        // There may be more of them: after the others.
        self.tcp.wake(flow);
    }

    /// Takes a whole record out of what has come: the only view of its cell. `None`: there was no cell to gather it in.
    pub(super) fn take_record(&mut self, flow: FlowId, c: SecuredId, bytes: usize) -> Option<Slice> {
        let s = &mut self.tls.secured[c];
        let mut first = s.rest.take().or_else(|| self.tcp.read(flow))?;
        if first.len() == bytes && first.is_unique() {
            return Some(first);
        }
        let mut w = self.tls.cells.writer(bytes)?;
        let mut left = bytes;
        loop {
            let n = left.min(first.len());
            w.put(&first[..n]);
            first.advance(n);
            left -= n;
            if left == 0 {
                break;
            }
            first = self.tcp.read(flow)?;
        }
        if !first.is_empty() {
            s.rest = Some(first);
        }
        let record = w.take();
        w.release();
        record
    }

    /// What comes behind close_notify is not looked at (RFC 8446, 6.1).
    pub(super) fn ignore_rest(&mut self, flow: FlowId, c: SecuredId) {
        let mut n = self.tls.secured[c].rest.take().map_or(0, |s| s.len());
        while let Some(s) = self.tcp.read(flow) {
            n += s.len();
        }
        self.tcp.consume(flow, n as u32);
    }

    /// Tells the peer what is wrong, and the owner that the connection is closed.
    pub(super) fn fail(&mut self, flow: FlowId, c: SecuredId, alert: Alert) {
        self.drop_pending(flow);
        if let Phase::Open(session) = self.tls.secured[c].phase {
            self.ship_alert(flow, session, alert);
        }
        self.break_now(flow);
    }

    /// Takes the next piece of received data.
    pub fn read(&mut self, flow: FlowId) -> Option<Slice> {
        let Some(c) = self.secured(flow) else { return self.tcp.read(flow) };
        if !matches!(self.tls.secured[c].phase, Phase::Open(_)) {
            return None;
        }
        self.open_ahead(flow, c);
        let plain = self.tls.secured[c].plain.take();
        if plain.is_none() && matches!(self.tls.secured[c].phase, Phase::Open(_)) && self.is_cut_off(flow, c)
        {
            // The end came with the last data: there will be no event for it but this.
            self.cut_off(flow);
        }
        plain
    }

    /// Whether there is data to read.
    pub fn is_readable(&self, flow: FlowId) -> bool {
        match self.secured(flow) {
            None => self.tcp.is_readable(flow),
            Some(c) => {
                let s = &self.tls.secured[c];
                s.plain.is_some()
                    || matches!(s.phase, Phase::Open(_)) && !s.has_closed && self.has_record(flow, c)
            }
        }
    }

    /// Whether the peer has ended its side in order and everything before that has been read.
    pub fn at_end(&self, flow: FlowId) -> bool {
        match self.secured(flow) {
            None => self.tcp.at_end(flow),
            Some(c) => {
                let s = &self.tls.secured[c];
                s.has_closed && s.plain.is_none()
            }
        }
    }

    /// Bytes that the owner has read and not consumed.
    pub fn held(&self, flow: FlowId) -> u32 {
        let held = self.tcp.held(flow);
        match self.secured(flow) {
            None => held,
            Some(c) => {
                let s = &self.tls.secured[c];
                let here =
                    [&s.rest, &s.plain].iter().map(|s| s.as_ref().map_or(0, |s| s.len())).sum::<usize>();
                held.saturating_sub((here + self.tcp.unread(flow, usize::MAX)) as u32)
            }
        }
    }
}
