//! Segments of data: recorded as out, gathered from the send queue, given to what builds them.

use dataplane::{Ctr, Packet, Time, TxQueue};

use super::super::cc::Sent;
use super::super::rate::micros;
use super::super::scoreboard::{Out, Place};
use super::super::segment::bits;
use super::super::tcb::{Flags, RecordId, SegId, State, Tcb};
use super::super::{Seq, Tcp};
use super::Sending;
use crate::net::Net;

impl Sending<'_> {
    /// Sends the next segment of new data (and FIN, where it follows). Gives whether it was built.
    pub(super) fn send_new(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let seq = t.snd_nxt;
        let room = t.snd_wnd.saturating_sub(t.flight());
        let want = t.queue_end.since(seq).min(t.mss.into()).min(room);
        if !self.segments.has_room_for(&t.out) {
            return self.has_no_record();
        }
        let Some(s) = self.segments.alloc() else { return self.has_no_record() };
        let from = t.send_cursor;
        let Some((p, len, cursor)) = self.gather(net, seq, want, from) else {
            self.segments.give_back(s);
            return false;
        };
        let fin = t.flags.has(Flags::FIN_QUEUED) && seq + len == t.queue_end && (len > 0 || room > 0);
        let fin = fin && room > len;
        if len == 0 && !fin {
            self.segments.give_back(s);
            return false;
        }
        t.send_cursor = cursor;
        self.record_new(t, s, (seq, len as u16, fin), from, now);
        self.send_data(t, net, tx, (seq, len as u16, fin), p, now)
    }

    #[cold]
    fn has_no_record(&self) -> bool {
        self.counters.inc(Ctr::TcpNoSegment);
        false
    }

    /// Records the next segment of new data, whose first byte is in `piece`, as out, before it is sent.
    #[inline(always)]
    pub(super) fn record_new(
        &mut self,
        t: &mut Tcb,
        s: SegId,
        (seq, len, fin): (Seq, u16, bool),
        piece: RecordId,
        now: Time,
    ) {
        let (span, in_flight) = (u32::from(len) + u32::from(fin), t.out.in_flight());
        let sent_us = micros(now);
        if t.out.is_empty() {
            t.recovery.rack.begin_flight();
            t.tally.begins(sent_us);
        }
        if in_flight == 0 {
            let sent = Sent {
                now,
                in_flight,
                total_delivered: t.rate.bytes,
                app_limited: t.rate.is_app_limited(),
                idle_ns: now.since_ns(t.last_sent),
                rto_ns: t.rtt.rto_ns(0),
                mss: t.mss.into(),
            };
            t.cc.on_sent(&mut t.window, &sent);
        }
        let out = Out {
            seq,
            len,
            fin,
            app_limited: t.rate.is_app_limited(),
            sent_us,
            piece,
            stamp: t.rate.stamp(sent_us, in_flight, span),
            ..Out::default()
        };
        self.segments.push(&mut t.out, s, out);
        t.snd_nxt = seq + span;
        if fin {
            t.state = match t.state {
                State::Established => State::FinWait1,
                State::CloseWait => State::LastAck,
                s => s,
            };
        }
        if t.rexmit_at == Time::NEVER || t.flags.has(Flags::PERSIST) {
            t.flags.clear(Flags::PERSIST);
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(t.backoff));
        }
        Tcp::arm_probe(t, now);
        t.flags.set(Flags::NEW_DATA);
        self.counters.add(Ctr::TcpBytesOut, len.into());
    }

    /// Sends a segment again. Gives whether it was built.
    #[inline(never)]
    pub(super) fn send_again(
        &mut self,
        t: &mut Tcb,
        s: SegId,
        net: &mut Net,
        tx: &mut [TxQueue],
        now: Time,
    ) -> bool {
        let o = self.segments[s];
        let want = u32::from(o.len).min(t.mss.into());
        let Some((p, len, cursor)) = self.gather(net, o.seq, want, o.piece) else { return false };
        // The path has become narrower: the rest is a segment of its own.
        if len < o.len.into() {
            if o.place != Place::Lost || len == 0 {
                return false;
            }
            if !self.segments.split(&mut t.out, s, len as u16, cursor) {
                self.counters.inc(Ctr::TcpNoSegment);
                return false;
            }
        }
        let (sent_us, in_flight) = (micros(now), t.out.in_flight());
        let o = self.segments[s];
        let stamp = t.rate.stamp(sent_us, in_flight, o.span());
        self.segments.set_resent(&mut t.out, s, stamp, sent_us);
        let ts = if t.flags.has(Flags::TIMESTAMPS) { t.ts_now(now) } else { 0 };
        t.recovery.sent_again(o.seq, ts);
        t.rate.resent += u64::from(o.span());
        t.tally.resent = t.tally.resent.saturating_add(1);
        t.flags.clear(Flags::REXMIT_NOW);
        if s == t.out.first() {
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(t.backoff));
        }
        self.counters.inc(Ctr::TcpRetransmits);
        self.send_data(t, net, tx, (o.seq, o.len, o.fin), p, now)
    }

    /// A header buffer with up to `want` bytes of the send queue from `seq` on, which lies in piece `from`; how many
    /// they are, and the piece with the next one. `None`: there is no buffer.
    #[inline(always)]
    pub(super) fn gather(
        &self,
        net: &mut Net,
        seq: Seq,
        want: u32,
        from: RecordId,
    ) -> Option<(Packet, u32, RecordId)> {
        let Some(mut p) = net.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return None;
        };
        let (mut at, mut len, mut r) = (seq, 0, from);
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
            if off as u32 + n < slice.len() as u32 {
                break;
            }
            r = rec.next;
        }
        Some((p, len, r))
    }

    /// Sends a segment of data (or several, which the port cuts) that is recorded as out.
    #[inline(always)]
    pub(super) fn send_data(
        &mut self,
        t: &mut Tcb,
        net: &mut Net,
        tx: &mut [TxQueue],
        (seq, len, fin): (Seq, u16, bool),
        p: Packet,
        now: Time,
    ) -> bool {
        let span = u32::from(len) + u32::from(fin);
        t.last_sent = now;
        t.recovery.sent(span);
        t.charge_pace(span, now);
        let mut flags = bits::ACK;
        if fin {
            flags |= bits::FIN;
        }
        if len > 0 && seq + u32::from(len) == t.queue_end {
            flags |= bits::PSH;
        }
        self.emit_here(t, net, tx, seq, flags, &[], Some(p), now)
    }
}
