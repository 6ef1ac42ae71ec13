//! Segments out: new data within both windows, and retransmissions.

use dataplane::{Ctr, Time, TxQueue};

use super::segment::bits;
use super::tcb::{Flags, FlowId, RecordId, State};
use super::{Seq, Tcp};
use crate::net::Net;

/// New segments that one connection may send in one pass, so that one download does not delay the rest.
const SEGMENTS_PER_PASS: u32 = 64;

impl Tcp {
    /// Sends for every connection that wants to, once. Called after the owner has seen the events.
    /// Gives whether anything was sent or is left to send.
    pub fn output(&mut self, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let last = self.output.last;
        if last.is_none() {
            return false;
        }
        // Those that are put back in the list (no room left) come after `last`.
        loop {
            let id = self.output.first;
            let t = &mut self.table.flows[id];
            self.output.first = t.output_next;
            if self.output.first.is_none() {
                self.output.last = FlowId::NONE;
            }
            t.output_next = FlowId::NONE;
            t.flags.clear(Flags::IN_OUTPUT);
            if t.state == State::Closed {
                self.output_closed(id, net, tx, now);
            } else if self.output_one(id, net, tx, now) {
                self.want_output(id);
            }
            if self.table.flows.is_used(id) {
                if self.table.flows[id].flags.has(Flags::DEAD) {
                    self.free_if_unlisted(id);
                } else {
                    self.rearm(id);
                }
            }
            if id == last || self.output.first.is_none() {
                return true;
            }
        }
    }

    /// The last word of a connection that is over: the ACK of the peer's FIN, or a RST (abort).
    fn output_closed(&mut self, id: FlowId, net: &mut Net, tx: &mut [TxQueue], now: Time) {
        let t = &mut self.table.flows[id];
        if !t.flags.has(Flags::ACK_NOW) {
            return;
        }
        t.flags.clear(Flags::ACK_NOW);
        let to_time_wait = t.flags.has(Flags::FIN_TAKEN) && t.snd_una.gt(t.queue_end);
        let (seq, bits) = if to_time_wait {
            (t.snd_max, bits::ACK)
        } else {
            self.counters.inc(Ctr::TcpResetsSent);
            (self.table.flows[id].snd_max, bits::RST | bits::ACK)
        };
        self.emit(id, net, tx, seq, bits, &[], None, now);
    }

    /// Sends for one connection. Gives whether it must stay in the list: something is left that only wants
    /// for room.
    fn output_one(&mut self, id: FlowId, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let port = self.table.flows[id].port as usize;
        if tx[port].room() == 0 {
            return true;
        }
        let t = &mut self.table.flows[id];
        if matches!(t.state, State::SynSent | State::SynReceived) {
            if t.flags.has(Flags::SYN_NOW) {
                return !self.send_syn(id, net, tx, now);
            }
            // Before the peer's SYN there is nothing to acknowledge.
            return t.state == State::SynReceived && !self.send_acks(id, net, tx, now);
        }
        let mut stay = false;
        if t.flags.has(Flags::REXMIT_NOW) {
            let (una, head) = (t.snd_una, t.send_head);
            if t.snd_max.gt(una) && !self.send_data(id, net, tx, una, head, now) {
                // No header cell: nothing else can be built either.
                return true;
            }
            self.table.flows[id].flags.clear(Flags::REXMIT_NOW);
        }
        let mut budget = SEGMENTS_PER_PASS;
        loop {
            let t = &mut self.table.flows[id];
            if !t.has_unsent() {
                t.flags.clear(Flags::CWND_LIMITED);
                break;
            }
            if !t.may_send_next() {
                break;
            }
            if budget == 0 || tx[port].room() == 0 {
                stay = true;
                break;
            }
            budget -= 1;
            if t.flight() == 0 && now.since_ns(t.last_sent) > t.rtt.rto_ns(0) {
                t.cc.on_idle(t.mss.into());
            }
            let (nxt, cursor) = (t.snd_nxt, t.send_cursor);
            if !self.send_data(id, net, tx, nxt, cursor, now) {
                stay = true;
                break;
            }
        }
        let t = &mut self.table.flows[id];
        // Data waits, nothing is out, the window is too small: probe it, or we wait for each other for ever.
        if !stay && t.rexmit_at == Time::NEVER && t.snd_max == t.snd_una && t.has_unsent() {
            t.flags.set(Flags::PERSIST);
            t.backoff = 0;
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        }
        if t.acks_owed == 0 && !t.flags.has(Flags(Flags::ACK_NOW.0 | Flags::PROBE_NOW.0)) {
            return stay;
        }
        // The ACKs before the probe, which carries one too, but in a segment that the peer need not look into.
        !(self.send_acks(id, net, tx, now) && self.send_probe(id, net, tx, now)) || stay
    }

    /// Sends one segment of data (and FIN, where it follows) from `seq`, which lies in piece `from`.
    /// Gives whether it was built.
    fn send_data(
        &mut self,
        id: FlowId,
        net: &mut Net,
        tx: &mut [TxQueue],
        seq: Seq,
        from: RecordId,
        now: Time,
    ) -> bool {
        let t = &self.table.flows[id];
        let mss = u32::from(t.mss);
        // Never beyond the peer's window; but SND.UNA is sent again whatever the window is now.
        let mut limit = t.snd_una + t.snd_wnd;
        if seq == t.snd_una {
            limit = limit.max(t.snd_max);
        }
        let want = t.queue_end.since(seq).min(mss).min(limit.since(seq));
        let Some(mut p) = net.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return false;
        };
        let (mut at, mut len, mut r) = (seq, 0, from);
        let mut cursor = from;
        while len < want && r.is_some() {
            let rec = &self.records[r];
            let Some(slice) = &rec.slice else { break };
            let off = at.since(rec.seq) as usize;
            let piece = slice.view(off, (want - len) as usize);
            let n = piece.len() as u32;
            if p.attach(piece).is_err() {
                break; // The tail is full: the rest goes into the next segment.
            }
            len += n;
            at += n;
            cursor = r;
            if off as u32 + n < slice.len() as u32 {
                break;
            }
            r = rec.next;
            cursor = r;
        }
        let t = &mut self.table.flows[id];
        let fin = t.flags.has(Flags::FIN_QUEUED) && at == t.queue_end && limit.gt(at);
        if len == 0 && !fin {
            return false;
        }
        let mut flags = bits::ACK;
        if fin {
            flags |= bits::FIN;
        }
        if at == t.queue_end && len > 0 {
            flags |= bits::PSH;
        }
        let end = at + u32::from(fin);
        self.counters.add(Ctr::TcpBytesOut, at.since(t.snd_max.max(seq)).into());
        let is_new = seq.ge(t.snd_max);
        if is_new {
            // In recovery the answer waits for the holes before it to be filled: no sample.
            if !t.flags.has(Flags::TIMING) && !t.flags.has(Flags::RECOVERY) {
                t.flags.set(Flags::TIMING);
                t.timed_seq = seq;
                t.timed_at = now;
            }
        } else {
            self.counters.inc(Ctr::TcpRetransmits);
            // Karn: no sample from a stretch that was sent twice.
            if t.flags.has(Flags::TIMING) && t.timed_seq.lt(end) {
                t.flags.clear(Flags::TIMING);
            }
        }
        if fin {
            t.state = match t.state {
                State::Established => State::FinWait1,
                State::CloseWait => State::LastAck,
                s => s,
            };
        }
        if seq.le(t.snd_nxt) && end.gt(t.snd_nxt) {
            t.snd_nxt = end;
            t.send_cursor = cursor;
        }
        t.snd_max = t.snd_max.max(end);
        if t.rexmit_at == Time::NEVER || t.flags.has(Flags::PERSIST) {
            t.flags.clear(Flags::PERSIST);
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(t.backoff));
        }
        t.last_sent = now;
        self.emit(id, net, tx, seq, flags, &[], Some(p), now)
    }
}

impl super::Tcb {
    /// Whether data or FIN has not been sent (or is to be sent again after a timeout).
    pub(super) fn has_unsent(&self) -> bool {
        self.snd_nxt.lt(self.queue_end)
            || (self.flags.has(Flags::FIN_QUEUED) && self.snd_nxt == self.queue_end)
    }

    /// Whether the windows let the next segment out (RFC 9293 3.8.6.2.1, Nagle off).
    fn may_send_next(&mut self) -> bool {
        let (mss, flight) = (u32::from(self.mss), self.flight());
        let unsent = self.queue_end.since(self.snd_nxt);
        // Limited transmit: two segments beyond the congestion window on the first two duplicate ACKs.
        let limited = if self.flags.has(Flags::RECOVERY) { 0 } else { u32::from(self.dup_acks.min(2)) * mss };
        let cwnd = self.cc.cwnd.saturating_add(limited);
        let next = unsent.min(mss);
        if unsent == 0 {
            return self.snd_wnd > flight; // FIN alone: no congestion window holds it back.
        }
        if flight + next > cwnd && flight > 0 {
            self.flags.set(Flags::CWND_LIMITED);
            return false;
        }
        let room = self.snd_wnd.saturating_sub(flight);
        // A full segment, all there is, or half of the largest window: else wait, unless nothing is out.
        room >= next || (room > 0 && (flight == 0 || room >= self.snd_wnd_max / 2))
    }
}
