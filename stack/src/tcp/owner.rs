//! The owner's side of a connection: events, reading, sending, ending.

use dataplane::{Ctr, Slice, Time};

use super::tcb::{CloseReason, Events, Flags, FlowId, RecordId, SendRecord, State, Tcb};
use super::{Tcp, timers};
use crate::addr::Tuple;

impl Tcp {
    /// The next connection with events, and what they are.
    pub fn next_event(&mut self) -> Option<(FlowId, Events)> {
        while self.ready.first.is_some() {
            let id = self.ready.first;
            let t = &mut self.table.flows[id];
            self.ready.first = t.ready_next;
            if self.ready.first.is_none() {
                self.ready.last = FlowId::NONE;
            }
            t.ready_next = FlowId::NONE;
            t.flags.clear(Flags::IN_READY);
            let events = std::mem::take(&mut t.events);
            if t.flags.has(Flags::DEAD) {
                self.free_if_unlisted(id);
            } else if events.0 != 0 && !t.flags.has(Flags::ORPHAN) {
                return Some((id, events));
            }
        }
        None
    }

    /// Puts a connection behind the others that have events: its owner has stopped in the middle, so that
    /// they get their turn.
    pub fn wake(&mut self, id: FlowId) {
        self.raise(id, Events::WRITABLE);
    }

    /// Takes the next piece of received data. It counts against the window until it is consumed.
    pub fn read(&mut self, id: FlowId) -> Option<Slice> {
        self.table.flows[id].rx.pop_front().map(|(_, s)| s)
    }

    /// The bytes that are next to read, as many as lie together; none where nothing is there.
    #[inline]
    pub fn front(&self, id: FlowId) -> &[u8] {
        self.table.flows[id].rx.front_bytes()
    }

    /// Takes the first `bytes` of what is there to read (at most all), and gives them to nobody. As what is read, they count
    /// against the window until they are consumed.
    #[inline]
    pub fn skip(&mut self, id: FlowId, bytes: usize) {
        self.table.flows[id].rx.skip(bytes);
    }

    /// Copies the first bytes that are there to read, as many as `out` takes; gives their number.
    pub fn peek(&self, id: FlowId, out: &mut [u8]) -> usize {
        self.table.flows[id].rx.peek(out)
    }

    /// Bytes that are there to read, counted no further than `enough`.
    pub fn unread(&self, id: FlowId, enough: usize) -> usize {
        let mut n = 0;
        let mut pieces = self.table.flows[id].rx.iter();
        while let Some((_, len)) = pieces.next().filter(|_| n < enough) {
            n += len;
        }
        n
    }

    /// Whether the peer has sent its FIN, and everything before it has come.
    pub fn has_ended(&self, id: FlowId) -> bool {
        self.table.flows[id].flags.has(Flags::FIN_TAKEN)
    }

    /// What a layer between the engine and the owner keeps of a connection: a number of its own, 0 for a new one.
    pub fn layer(&self, id: FlowId) -> u32 {
        self.table.flows[id].layer
    }

    /// Sets [`Tcp::layer`].
    pub fn set_layer(&mut self, id: FlowId, layer: u32) {
        self.table.flows[id].layer = layer;
    }

    /// Whether there is data to read.
    pub fn is_readable(&self, id: FlowId) -> bool {
        !self.table.flows[id].rx.is_empty()
    }

    /// Whether the peer has sent its FIN and everything before it has been read.
    pub fn at_end(&self, id: FlowId) -> bool {
        let t = &self.table.flows[id];
        t.flags.has(Flags::FIN_TAKEN) && t.rx.is_empty()
    }

    /// Bytes read and not yet consumed, or not yet read.
    pub fn held(&self, id: FlowId) -> u32 {
        self.table.flows[id].rcv_held
    }

    /// Queues data. It is kept, not copied, until the peer has acknowledged it.
    ///
    /// # Errors
    /// Gives the slice back when every send record is in use (counted), or the side has been shut down.
    pub fn send(&mut self, id: FlowId, data: Slice) -> Result<(), Slice> {
        self.enqueue(id, data, 0)
    }

    /// As [`Tcp::send`], of data that keeps `pinned` bytes from being used again: they are what it is charged.
    ///
    /// # Errors
    /// As there.
    pub fn send_pinning(&mut self, id: FlowId, data: Slice, pinned: u32) -> Result<(), Slice> {
        self.enqueue(id, data, 0)?;
        let t = &mut self.table.flows[id];
        if t.send_tail.is_some() {
            let last = &mut self.records[t.send_tail];
            let more = pinned.saturating_sub(last.charge);
            last.charge += more;
            t.send_charge += more;
        }
        Ok(())
    }

    /// As [`Tcp::send`]; a `tag` other than 0 is its owner's, who can make it again.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, id: FlowId, data: Slice, tag: u32) -> Result<(), Slice> {
        let t = &mut self.table.flows[id];
        if !t.state.can_send() || t.flags.has(Flags::FIN_QUEUED) {
            return Err(data);
        }
        if data.is_empty() {
            return Ok(());
        }
        let len = data.len() as u32;
        let data = if t.send_tail.is_none() || tag != 0 {
            data
        } else {
            match self.join(id, data, len) {
                Ok(()) => return Ok(()),
                Err(data) => data,
            }
        };
        let t = &mut self.table.flows[id];
        let Some(r) = self.records.alloc() else {
            self.counters.inc(Ctr::TcpNoRecord);
            return Err(data);
        };
        let charge = charge_of(&data);
        let record = &mut self.records[r];
        debug_assert!(record.slice.is_none(), "what is free holds nothing");
        *record = SendRecord { slice: Some(data), seq: t.queue_end, charge, next: RecordId::NONE, tag };
        if t.send_tail.is_some() {
            self.records[t.send_tail].next = r;
        } else {
            t.send_head = r;
        }
        t.send_tail = r;
        if t.send_cursor.is_none() {
            t.send_cursor = r;
        }
        t.queue_end += len;
        t.send_charge += charge;
        if !t.flags.has(Flags::IN_OUTPUT) {
            self.want_output(id);
        }
        Ok(())
    }

    /// Adds data to the last piece of the send queue, when it follows it in the same cell.
    #[inline(always)] // Its two callers are one.
    fn join(&mut self, id: FlowId, data: Slice, len: u32) -> Result<(), Slice> {
        let t = &mut self.table.flows[id];
        if t.send_tail.is_none() {
            return Err(data);
        }
        let r = &mut self.records[t.send_tail];
        let Some(last) = r.slice.as_mut().filter(|_| r.tag == 0) else { return Err(data) };
        last.try_join(data)?;
        r.charge += len;
        t.send_charge += len;
        t.queue_end += len;
        if t.send_cursor.is_none() {
            t.send_cursor = t.send_tail;
        }
        self.want_output(id);
        Ok(())
    }

    /// Bytes queued and not yet acknowledged.
    pub fn queued(&self, id: FlowId) -> u32 {
        self.table.flows[id].queued()
    }

    /// Memory that the send queue holds, by true size.
    pub fn queued_true(&self, id: FlowId) -> u32 {
        self.table.flows[id].send_charge
    }

    /// Ends our side in order: FIN follows what is queued.
    pub fn shutdown(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        if t.state.can_send() && !t.flags.has(Flags::FIN_QUEUED) {
            t.flags.set(Flags::FIN_QUEUED);
            self.want_output(id);
        }
    }

    /// Ends the connection at once, with a RST, and releases it.
    pub fn abort(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        if t.state == State::SynSent {
            t.flags.clear(Flags::ACK_NOW); // The peer knows of no connection yet.
        } else if t.state != State::Closed {
            // Sent with this pass's output; the control block lives until then.
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
        }
        self.table.flows[id].state = State::Closed;
        self.release(id);
    }

    /// The owner leaves: our side ends in order, what still comes is thrown away for a while (so that a RST
    /// does not overtake our last bytes: RFC 9112 9.6), and the engine releases the connection itself.
    pub fn orphan(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        if matches!(t.state, State::Closed | State::SynSent) {
            self.abort(id);
            return;
        }
        t.flags.set(Flags::ORPHAN);
        t.rx.clear();
        self.drop_out_of_order(id);
        let t = &mut self.table.flows[id];
        let held = t.rcv_held;
        // The owner's timer is nobody's any more: it is how long this may last in all.
        t.user_at = now.plus_ns(timers::LINGER_MAX_NS);
        t.idle_at = now.plus_ns(timers::LINGER_NS);
        t.linger_una = t.snd_una;
        self.consume(id, held);
        self.shutdown(id);
        self.rearm(id);
    }

    /// Forgets a connection that is over (one that is not, is aborted).
    pub fn release(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        if t.flags.has(Flags::DEAD) {
            return;
        }
        if t.state != State::Closed {
            return self.abort(id);
        }
        t.flags.set(Flags::DEAD);
        t.rx.clear();
        self.drop_out_of_order(id);
        self.leaves(id);
        let t = &mut self.table.flows[id];
        if t.flags.has(Flags::HALF_OPEN) {
            t.flags.clear(Flags::HALF_OPEN);
            self.half_open -= 1;
        }
        self.drop_send_queue(id);
        if self.table.flows[id].flags.has(Flags::HASHED) {
            self.table.flows[id].flags.clear(Flags::HASHED);
            self.table.remove(id);
        }
        self.wheel.cancel(id);
        self.sum_up(id);
        self.free_if_unlisted(id);
    }

    pub(super) fn free_if_unlisted(&mut self, id: FlowId) {
        let f = self.table.flows[id].flags;
        if f.has(Flags::DEAD) && !f.has(Flags::IN_READY) && !f.has(Flags::IN_OUTPUT) {
            self.table.flows.free(id);
        }
    }

    pub(super) fn drop_send_queue(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        let mut r = t.send_head;
        t.send_head = RecordId::NONE;
        t.send_tail = RecordId::NONE;
        t.send_cursor = RecordId::NONE;
        t.send_charge = 0;
        self.segments.clear(&mut t.out);
        while r.is_some() {
            let rec = std::mem::take(&mut self.records[r]);
            self.records.free(r);
            r = rec.next;
        }
    }

    /// Sets the owner's timer ([`Events::TIMEOUT`]); `Time::NEVER` stops it. One that has run out and not been
    /// told yet is void: its cause is.
    pub fn set_timer(&mut self, id: FlowId, at: Time) {
        let t = &mut self.table.flows[id];
        t.events.clear(Events::TIMEOUT);
        t.user_at = at;
        self.rearm(id);
    }

    /// Asks for keep-alive probes.
    pub fn set_keep_alive(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        // FIN-WAIT-2 has a limit of its own already.
        if !matches!(t.state, State::Closed | State::FinWait2) {
            t.idle_at = now.plus_ns(self.config.keep_alive_ns);
            self.rearm(id);
        }
    }

    /// The owner's number for a connection.
    pub fn user(&self, id: FlowId) -> u64 {
        self.table.flows[id].user
    }

    /// Sets the owner's number for a connection.
    pub fn set_user(&mut self, id: FlowId, user: u64) {
        self.table.flows[id].user = user;
    }

    /// A connection's addresses and ports.
    pub fn tuple(&self, id: FlowId) -> &Tuple {
        &self.table.flows[id].tuple
    }

    /// The listener that a connection came by.
    pub fn listener(&self, id: FlowId) -> u16 {
        self.table.flows[id].listener
    }

    /// Why a connection is over.
    pub fn close_reason(&self, id: FlowId) -> CloseReason {
        self.table.flows[id].close_reason
    }

    /// A connection's state.
    pub fn state(&self, id: FlowId) -> State {
        self.table.flows[id].state
    }

    /// A connection's control block, to look at.
    pub fn flow(&self, id: FlowId) -> &Tcb {
        &self.table.flows[id]
    }

    /// Whether a connection has been given to its owner, and not been released since.
    pub fn is_owned(&self, id: FlowId) -> bool {
        let f = self.table.flows[id].flags;
        !f.has(Flags::DEAD) && !f.has(Flags::ORPHAN) && !f.has(Flags::HALF_OPEN)
    }

    /// Whether there is a connection of this number: for who has kept the number of one that may be over.
    pub fn is_used(&self, id: FlowId) -> bool {
        self.table.flows.is_used(id)
    }

    /// Connections with a control block, for reports.
    pub fn flows(&self) -> impl Iterator<Item = FlowId> + '_ {
        self.table.flows.used()
    }

    /// Whether a connection's end can still go wrong: not when its owner has left and the peer has acknowledged
    /// all that we sent, our FIN with it. It may then take its time with its own. Nor before it is open.
    pub fn is_unfinished(&self, id: FlowId) -> bool {
        let t = &self.table.flows[id];
        let f = t.flags;
        !(f.has(Flags::DEAD) || f.has(Flags::HALF_OPEN) || f.has(Flags::ORPHAN) && t.state == State::FinWait2)
    }

    /// Control blocks, and records of data queued and of segments out, in use: all 0 when nothing leaked.
    pub fn in_use(&self) -> (u32, u32) {
        (self.table.flows.in_use(), self.records.in_use() + self.segments.in_use())
    }
}

/// What data is charged to its connection, by true size.
#[inline]
pub(super) fn charge_of(data: &Slice) -> u32 {
    // A view of a cell that others hold too pins no memory of its own.
    if data.is_unique() { data.true_size() } else { data.len() as u32 + 64 }
}
