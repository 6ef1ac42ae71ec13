//! Segments out: what was lost, then new data, as far as both windows and pacing let it.

mod bulk;
#[cfg(test)]
mod tests;

use dataplane::{Counters, Ctr, Packet, Time, TxQueue};
use hugepages::Slab;

use super::away::ASK_AGAIN_NS;
use super::cc::Sent;
use super::rate::micros;
use super::scoreboard::{Out, Place, Segments};
use super::segment::bits;
use super::tcb::{Events, Flags, FlowId, RecordId, SegId, SendRecord, State, Tcb};
use super::window::RxRoom;
use super::{List, OUTPUT_LISTS, Seq, Tcp, TcpConfig};
use crate::net::Net;

/// Segments that one connection may send in one pass, so that one download does not delay the rest.
const SEGMENTS_PER_PASS: u32 = 64;

/// When a connection that has no record for its first segment looks again.
const NO_RECORD_NS: u64 = 1_000_000;

/// How a connection's turn at sending ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Until something happens to it there is nothing to send.
    Done,
    /// It may send more: after the others.
    More,
    /// The port, or a pool, has no room: for the others neither.
    Full,
    /// What has to be sent again was let go: its owner has to make it again.
    Asks,
}

impl Turn {
    fn full_unless(sent: bool) -> Turn {
        if sent { Turn::Done } else { Turn::Full }
    }
}

impl Tcp {
    /// Sends for every connection that wants to, once. Called after the owner has seen the events.
    /// Gives whether anything was sent or is left to send.
    pub fn output(&mut self, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let mut any = false;
        for list in 0..OUTPUT_LISTS {
            if self.output[list].first.is_some() {
                any = true;
                self.output_list(list, net, tx, now);
            }
        }
        any
    }

    /// Those of one port. When it is full the rest keeps its place in the list, and costs nothing.
    fn output_list(&mut self, list: usize, net: &mut Net, tx: &mut [TxQueue], now: Time) {
        // Those that are put back in the list come after `last`.
        let last = self.output[list].last;
        loop {
            let id = self.output[list].first;
            let t = &mut self.table.flows[id];
            if tx[t.port as usize].room() == 0 {
                return;
            }
            self.output[list].first = t.output_next;
            if self.output[list].first.is_none() {
                self.output[list] = List::default();
            }
            t.output_next = FlowId::NONE;
            t.flags.clear(Flags::IN_OUTPUT);
            let closed = t.state == State::Closed;
            let (t, mut sending) = self.sending(id);
            let mut turn = Turn::Done;
            if closed {
                sending.last_word(t, net, tx, now);
            } else {
                turn = sending.turn(t, net, tx, now);
                match turn {
                    Turn::Done => {}
                    Turn::Asks => self.raise(id, Events::MISSING),
                    Turn::More | Turn::Full => self.want_output(id),
                }
            }
            let t = &self.table.flows[id];
            if t.flags.has(Flags::DEAD) {
                self.free_if_unlisted(id);
            } else {
                let at = t.deadline();
                if at != Time::NEVER {
                    self.wheel.arm(id, at);
                }
            }
            if id == last || turn == Turn::Full || self.output[list].first.is_none() {
                return;
            }
        }
    }
}

/// What sending takes of the engine, beside the connection itself.
pub(super) struct Sending<'a> {
    pub records: &'a Slab<RecordId, SendRecord>,
    pub segments: &'a mut Segments,
    pub counters: &'a Counters,
    pub config: &'a TcpConfig,
    pub rx: RxRoom<'a>,
}

impl Tcp {
    /// A connection, and what sending on it takes.
    #[inline(always)]
    pub(super) fn sending(&mut self, id: FlowId) -> (&mut Tcb, Sending<'_>) {
        let sending = Sending {
            records: &self.records,
            segments: &mut self.segments,
            counters: &self.counters,
            config: &self.config,
            rx: RxRoom { pool: &self.rx_pool, reserve: self.rx_reserve },
        };
        (&mut self.table.flows[id], sending)
    }
}

impl Sending<'_> {
    /// The last word of a connection that is over: the ACK of the peer's FIN, or a RST (abort).
    fn last_word(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) {
        if !t.flags.has(Flags::ACK_NOW) {
            return;
        }
        t.flags.clear(Flags::ACK_NOW);
        let to_time_wait = t.flags.has(Flags::FIN_TAKEN) && t.snd_una.gt(t.queue_end);
        let (seq, bits) = if to_time_wait {
            (t.snd_nxt, bits::ACK)
        } else {
            self.counters.inc(Ctr::TcpResetsSent);
            (t.snd_nxt, bits::RST | bits::ACK)
        };
        self.emit(t, net, tx, seq, bits, &[], None, now);
    }

    /// Sends for one connection.
    #[inline(always)]
    fn turn(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> Turn {
        if matches!(t.state, State::SynSent | State::SynReceived) {
            if t.flags.has(Flags::SYN_NOW) {
                return Turn::full_unless(self.send_syn(t, net, tx, now));
            }
            // Before the peer's SYN there is nothing to acknowledge.
            return Turn::full_unless(t.state == State::SynSent || self.send_acks(t, net, tx, now));
        }
        let mut turn = self.send_stream(t, net, tx, now);
        if turn == Turn::Done && t.flags.has(Flags::TAIL_PROBE_NOW) {
            turn = Turn::full_unless(self.send_tail_probe(t, net, tx, now));
        }
        // Data waits, nothing is out, the window is too small: probe it, or we wait for each other for ever.
        let waits = t.rexmit_at == Time::NEVER && t.pace_at == Time::NEVER;
        if turn == Turn::Done && waits && t.out.is_empty() && t.has_unsent() {
            t.flags.set(Flags::PERSIST);
            t.backoff = 0;
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        }
        if t.acks_owed == 0 && !t.flags.has(Flags(Flags::ACK_NOW.0 | Flags::PROBE_NOW.0)) {
            return turn;
        }
        // The ACKs before the probe, which carries one too, but in a segment that the peer need not look into.
        if self.send_acks(t, net, tx, now) && self.send_probe(t, net, tx, now) { turn } else { Turn::Full }
    }

    /// Sends again what was lost, and then new data.
    #[inline(always)]
    fn send_stream(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> Turn {
        if t.out.next_lost().is_none() && !t.has_unsent() {
            return Turn::Done;
        }
        t.pace_at = Time::NEVER;
        let port = t.port as usize;
        let cuts = net.ifaces[port].tso_bytes_max > 0;
        let (mut limited, mut paced) = (false, false);
        let mut turn = Turn::Done;
        let mut budget = SEGMENTS_PER_PASS;
        loop {
            let lost = t.out.next_lost();
            if lost.is_none() {
                t.flags.clear(Flags::REXMIT_NOW); // It has come after all.
            }
            if lost.is_none() && !t.has_unsent() {
                // All of it is out: what the path could carry more, the owner does not have.
                if t.pipe() < t.window.cwnd {
                    let in_flight = t.out.in_flight();
                    t.rate.set_app_limited(in_flight);
                }
                break;
            }
            let allowed =
                if lost.is_some() { t.may_send_again(&self.segments[lost]) } else { t.may_send_next() };
            match allowed {
                Allowed::Yes => {}
                Allowed::NotByCongestion => {
                    limited = true;
                    break;
                }
                Allowed::NotByPeer => break,
            }
            if budget == 0 {
                turn = Turn::More;
                break;
            }
            if tx[port].room() == 0 {
                turn = Turn::Full;
                break;
            }
            if !t.flags.has(Flags::REXMIT_NOW) && !t.may_send_now(now) {
                (limited, paced) = (true, true);
                break;
            }
            if cuts && lost.is_none() {
                let n = self.send_bulk(t, net, tx, budget, now);
                if n > 0 {
                    budget -= n;
                    continue;
                }
            }
            budget -= 1;
            if lost.is_some() && self.lacks(t, lost).is_some() {
                // Its owner is asked, and once more as long as it has no memory for it.
                turn = Turn::Asks;
                t.pace_at = now.plus_ns(ASK_AGAIN_NS);
                paced = true;
                break;
            }
            let sent = if lost.is_some() {
                self.send_again(t, lost, net, tx, now)
            } else {
                self.send_new(t, net, tx, now)
            };
            if !sent {
                // No record for it: the ACK of those that it has itself, or their timeout, brings its next turn. One that
                // has none looks again soon, instead of in every pass: others may hold all for as long as they like.
                turn = if self.segments.is_full() { Turn::Done } else { Turn::Full };
                if turn == Turn::Done && t.out.is_empty() {
                    t.pace_at = now.plus_ns(NO_RECORD_NS);
                    paced = true;
                }
                break;
            }
        }
        if !paced && turn == Turn::Done {
            // What pacing had allowed, and something else did not, is gone.
            t.pace_next = t.pace_next.max(now);
        }
        let (in_flight, una, nxt) = (t.pipe(), t.snd_una, t.snd_nxt);
        t.recovery.note_flight(in_flight, limited, una, nxt);
        turn
    }

    /// A tail loss probe: new data when there is some, the last segment otherwise (RFC 8985 7.3).
    fn send_tail_probe(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let last = t.out.last();
        let new = t.has_unsent()
            && t.snd_wnd.saturating_sub(t.flight()) >= u32::from(t.mss)
            && !self.segments.is_full();
        // One that is longer than the path takes by now, or whose bytes were let go, is not probed with: it will time out.
        let again = !new
            && last.is_some()
            && self.segments[last].place == Place::InFlight
            && self.segments[last].len <= t.mss
            && self.lacks(t, last).is_none();
        if new || again {
            if tx[t.port as usize].room() == 0 {
                return false;
            }
            let sent =
                if new { self.send_new(t, net, tx, now) } else { self.send_again(t, last, net, tx, now) };
            if !sent {
                if !self.segments.is_full() {
                    return false;
                }
                // No record for a probe: the timeout does without.
                t.flags.clear(Flags::TAIL_PROBE_NOW);
                t.probe_at = Time::NEVER;
                return true;
            }
            self.counters.inc(Ctr::TcpTailProbes);
            t.tally.tail_probes = t.tally.tail_probes.saturating_add(1);
            Tcp::probe_sent(t, new);
            t.probe_at = Time::NEVER;
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(t.backoff));
        }
        t.flags.clear(Flags::TAIL_PROBE_NOW);
        true
    }

    /// Sends the next segment of new data (and FIN, where it follows). Gives whether it was built.
    fn send_new(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let seq = t.snd_nxt;
        let room = t.snd_wnd.saturating_sub(t.flight());
        let want = t.queue_end.since(seq).min(t.mss.into()).min(room);
        let Some(s) = self.segments.alloc() else {
            self.counters.inc(Ctr::TcpNoSegment);
            return false;
        };
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

    /// Records the next segment of new data, whose first byte is in `piece`, as out, before it is sent.
    #[inline(always)]
    fn record_new(
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
    fn send_again(&mut self, t: &mut Tcb, s: SegId, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
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
        t.tally.resent += 1;
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
    fn gather(&self, net: &mut Net, seq: Seq, want: u32, from: RecordId) -> Option<(Packet, u32, RecordId)> {
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
    fn send_data(
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

/// Whether a segment may go out, and if not, who says so.
enum Allowed {
    Yes,
    NotByCongestion,
    NotByPeer,
}

/// The longest burst that pacing lets out, when that is not less than two segments.
const BURST_NS: u64 = 1 << 20;
/// How late a paced burst may be for the time to be made up for.
const LATE_NS_MAX: u64 = 5_000_000;
/// How long a connection may have to wait for its pace. What it sent at a rate that it had once (a window of one segment, a
/// round trip of a minute) must not hold it back when it has another.
const PACE_AHEAD_NS_MAX: u64 = 1_000_000_000;
/// The largest.
const BURST_BYTES_MAX: u64 = 64 << 10;

/// How far ahead of its pace a connection may be.
#[inline]
fn burst_ns(rate: u64, mss: u16) -> u64 {
    let two = 2 * u64::from(mss) * 1_000_000_000 / rate;
    BURST_NS.min(BURST_BYTES_MAX * 1_000_000_000 / rate).max(two)
}

impl Tcb {
    /// Whether data or FIN has not been sent.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        self.snd_nxt.lt(self.queue_end)
            || (self.flags.has(Flags::FIN_QUEUED) && self.snd_nxt == self.queue_end)
    }

    /// Whether the windows let a lost segment out again.
    fn may_send_again(&self, o: &Out) -> Allowed {
        // SND.UNA is sent again whatever the window is, but not while it is being probed.
        let fits = o.end().le(self.snd_una + self.snd_wnd) || o.seq == self.snd_una;
        if !fits || self.flags.has(Flags::PERSIST) {
            return Allowed::NotByPeer;
        }
        let pipe = self.pipe();
        if pipe > 0 && pipe + o.span() > self.window.cwnd && !self.flags.has(Flags::REXMIT_NOW) {
            return Allowed::NotByCongestion;
        }
        Allowed::Yes
    }

    /// Whether the windows let the next segment out (RFC 9293 3.8.6.2.1, Nagle off).
    fn may_send_next(&self) -> Allowed {
        let (mss, flight, pipe) = (u32::from(self.mss), self.flight(), self.pipe());
        let unsent = self.queue_end.since(self.snd_nxt);
        let next = unsent.min(mss);
        if unsent == 0 {
            // FIN alone: no congestion window holds it back.
            return if self.snd_wnd > flight { Allowed::Yes } else { Allowed::NotByPeer };
        }
        if pipe > 0 && pipe + next > self.window.cwnd {
            return Allowed::NotByCongestion;
        }
        let room = self.snd_wnd.saturating_sub(flight);
        // A full segment, all there is, or half of the largest window: else wait, unless nothing is out.
        if room >= next || (room > 0 && (flight == 0 || room >= self.snd_wnd_max / 2)) {
            Allowed::Yes
        } else {
            Allowed::NotByPeer
        }
    }

    /// Whether pacing lets a segment out now; sets its timer when not. Bursts of a millisecond's worth, at least two
    /// segments: so that the port and the peer's device have something to work on at once.
    #[inline]
    fn may_send_now(&mut self, now: Time) -> bool {
        let rate = self.window.pacing_rate;
        if rate == 0 || self.pace_next <= now {
            return true;
        }
        let ahead = burst_ns(rate, self.mss);
        if self.pace_next <= now.plus_ns(ahead) {
            return true;
        }
        self.pace_at = Time(self.pace_next.0 - ahead / 2);
        false
    }

    /// Takes what is sent off what pacing allows.
    #[inline]
    fn charge_pace(&mut self, bytes: u32, now: Time) {
        if let Some(ns) = (u64::from(bytes) * 1_000_000_000).checked_div(self.window.pacing_rate) {
            // A core that comes late makes up for it.
            let earliest = Time(now.0.saturating_sub(LATE_NS_MAX));
            let next = self.pace_next.max(earliest).plus_ns(ns);
            self.pace_next = next.min(now.plus_ns(PACE_AHEAD_NS_MAX));
        }
    }
}
