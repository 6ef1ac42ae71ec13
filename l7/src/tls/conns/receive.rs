//! What comes: ciphertext out of TCP's queue, a record at a time, to plaintext for the owner.

use dataplane::{Ctr, Slice};
use rustls::{AlertDescription, Error};
use stack::FlowId;

use super::secured::HAS_CLOSED;
use super::{Conns, EMPTY_IN_A_ROW, SessionId};
use crate::tls::handshake::{Failure, FailureKind};
use crate::tls::record::{Alert, HEADER_BYTES, Received, tickets};

impl Conns<'_> {
    /// The length of the record that is next, when all of it has come; an alert where it cannot be one.
    fn next_record(&self, flow: FlowId) -> Result<Option<usize>, Alert> {
        let front = self.tcp.front(flow);
        let bytes = if front.len() >= HEADER_BYTES {
            self.tls.sessions.header(front)?
        } else {
            let mut head = [0; HEADER_BYTES];
            let n = self.tcp.peek(flow, &mut head);
            self.tls.sessions.header(&head[..n])?
        };
        Ok(bytes.filter(|n| front.len() >= *n || self.tcp.unread(flow, *n) >= *n))
    }

    /// Whether a whole record is there, or something that will never be one.
    pub(super) fn has_record(&self, flow: FlowId) -> bool {
        !matches!(self.next_record(flow), Ok(None))
    }

    /// Opens records until there is data, or no whole record any more. Gives whether one is left for the owner to ask for: it
    /// would take a cell for records, and keep it for as long as nobody reads.
    pub(super) fn open_ahead(&mut self, flow: FlowId, c: SessionId, is_asked: bool) -> bool {
        for _ in 0..EMPTY_IN_A_ROW {
            let s = &self.tls.secured[c];
            if !s.is_open() || !s.plain.is_empty() {
                return false;
            }
            if s.has(HAS_CLOSED) {
                self.ignore_rest(flow);
                return false;
            }
            let bytes = match self.next_record(flow) {
                Ok(Some(n)) => n,
                Ok(None) => return false,
                Err(alert) => return self.fail(flow, c, alert),
            };
            if !is_asked && self.is_gathered(flow, bytes) {
                return true;
            }
            let Some(mut record) = self.take_record(flow, bytes) else {
                if self.starve(flow, c) {
                    return false;
                }
                self.tls.counters.inc(Ctr::TlsNoCell);
                return self.fail(flow, c, Alert::INTERNAL_ERROR);
            };
            let Some(lies) = record.unique_mut() else {
                debug_assert!(false, "a record that is taken is its cell's only view");
                return self.fail(flow, c, Alert::INTERNAL_ERROR);
            };
            let received = self.tls.sessions.receive(c, lies);
            let mut data = 0;
            match received {
                Ok(Received::Data(range)) => {
                    record.advance(range.start);
                    record.truncate(range.len());
                    data = range.len();
                    // It is the only view, and nothing else waits there.
                    if self.tls.secured[c].plain.put(record).is_err() {
                        debug_assert!(false, "plaintext that cannot wait");
                        return self.fail(flow, c, Alert::INTERNAL_ERROR);
                    }
                }
                Ok(Received::Nothing) => {}
                // One that asks for ours is remembered: it goes out before our next data.
                Ok(Received::KeyUpdate { .. }) => {}
                Ok(Received::Tickets(range)) => {
                    if let Some(kernel) = self.tls.secured[c].tickets() {
                        for body in tickets(&record[range]) {
                            // One that cannot be read is of no use, and does no harm.
                            let _ = kernel.handle_new_session_ticket(body);
                        }
                    }
                }
                Ok(Received::CloseNotify) => self.tls.secured[c].set(HAS_CLOSED),
                Ok(Received::Fatal(alert)) => {
                    // An origin that does not like our certificate says so only now (TLS 1.3).
                    let error = Error::AlertReceived(AlertDescription::from(alert.0));
                    let failure = Failure { kind: FailureKind::Alert, error };
                    self.tls.secured[c].set_failure(failure);
                    self.break_now(flow);
                    return false;
                }
                Err(alert) => return self.fail(flow, c, alert),
            }
            self.tcp.consume(flow, (bytes - data) as u32);
        }
        // There may be more of them: after the others.
        self.tcp.wake(flow);
        false
    }

    /// Whether the next record, which is whole, is opened in a cell for records.
    fn is_gathered(&self, flow: FlowId, bytes: usize) -> bool {
        bytes > self.tls.cells.payload.cell_bytes() as usize && self.tcp.front(flow).len() != bytes
    }

    /// Takes a whole record out of what has come: the only view of its cell. `None`: there was no cell to gather it in.
    fn take_record(&mut self, flow: FlowId, bytes: usize) -> Option<Slice> {
        if self.tcp.front(flow).len() == bytes {
            return self.tcp.read(flow);
        }
        // The last ones are for what is to be sent.
        if self.is_gathered(flow, bytes) && self.is_out_of_cells() {
            return None;
        }
        let mut w = self.tls.cells.writer(bytes)?;
        let mut left = bytes;
        while left > 0 {
            let front = self.tcp.front(flow);
            debug_assert!(!front.is_empty(), "a whole record is there");
            if front.is_empty() {
                return None;
            }
            let n = w.put(&front[..left.min(front.len())]);
            self.tcp.skip(flow, n);
            left -= n;
        }
        let record = w.take();
        w.release();
        record
    }

    /// What comes behind close_notify is not looked at (RFC 8446, 6.1).
    pub(super) fn ignore_rest(&mut self, flow: FlowId) {
        let n = self.tcp.unread(flow, usize::MAX);
        self.tcp.skip(flow, n);
        self.tcp.consume(flow, n as u32);
    }

    /// Tells the peer what is wrong, and the owner that the connection is closed. Nothing is left to ask for.
    fn fail(&mut self, flow: FlowId, c: SessionId, alert: Alert) -> bool {
        self.drop_pending(flow);
        if self.tls.secured[c].is_open() {
            self.ship_alert(flow, c, alert);
        }
        self.break_now(flow);
        false
    }

    /// Takes the next piece of received data.
    pub fn read(&mut self, flow: FlowId) -> Option<Slice> {
        let Some(c) = self.secured(flow) else { return self.tcp.read(flow) };
        self.open_next(flow, c);
        self.tls.secured[c].plain.take()
    }

    /// Opens the next record for the owner. Gives whether there is data now.
    fn open_next(&mut self, flow: FlowId, c: SessionId) -> bool {
        self.open_ahead(flow, c, true);
        let s = &self.tls.secured[c];
        let has_data = !s.plain.is_empty();
        if !has_data && s.is_open() && self.is_cut_off(flow, c) {
            // The end came with the last data: there will be no event for it but this.
            self.cut_off(flow);
        }
        has_data
    }

    /// Whether there is data to read, and the memory to read it.
    pub fn has_data(&mut self, flow: FlowId) -> bool {
        match self.secured(flow) {
            None => self.tcp.is_readable(flow),
            Some(c) => self.open_next(flow, c),
        }
    }

    /// Whether something to read has come.
    pub fn is_readable(&self, flow: FlowId) -> bool {
        match self.secured(flow) {
            None => self.tcp.is_readable(flow),
            Some(c) => {
                let s = &self.tls.secured[c];
                !s.plain.is_empty() || s.is_open() && !s.has(HAS_CLOSED) && self.has_record(flow)
            }
        }
    }

    /// Whether the peer has ended its side in order and everything before that has been read.
    pub fn at_end(&self, flow: FlowId) -> bool {
        match self.secured(flow) {
            None => self.tcp.at_end(flow),
            Some(c) => {
                let s = &self.tls.secured[c];
                s.has(HAS_CLOSED) && s.plain.is_empty()
            }
        }
    }

    /// Bytes that the owner has read and not consumed.
    pub fn held(&self, flow: FlowId) -> u32 {
        let held = self.tcp.held(flow);
        match self.secured(flow) {
            None => held,
            Some(c) => {
                let here = self.tls.secured[c].plain.len() + self.tcp.unread(flow, usize::MAX);
                held.saturating_sub(here as u32)
            }
        }
    }
}
