//! Data and FIN in: RFC 9293 3.10.7.4, sixth to eighth; what waits for a gap to be filled; when to acknowledge.

use dataplane::buf::NotInserted;
use dataplane::{Counters, Ctr, Packet, Time};
use hugepages::SlabIndex;

use super::input::Verdict;
use super::segment::{Segment, bits};
use super::tcb::{Events, Flags, FlowId, State};
use super::{Seq, Tcp, WINDOW_SHARE};

/// Payloads below this are copied out of their cell when they must wait (DESIGN.md D11).
const COMPACT_BELOW: usize = 256;
/// Bytes that an orphan still takes before it resets.
const DISCARD_MAX: u32 = 256 << 10;
/// Runs of out-of-order data that are walked by to find a segment's place: more holes than a bad path makes, and few
/// enough that a peer which makes them on purpose costs little.
const WALK_MAX: usize = 128;
/// Small segments that are acknowledged together at most.
pub(super) const SMALL_SEGMENTS: u8 = 4;
/// Places of control blocks that are looked at for something out of order to let go, for each segment that has no room.
const LOOKS_FOR_ROOM: u32 = 16;
/// Half seconds after which what nobody has completed is let go before what is larger.
const LONG_OUT_OF_ORDER: u8 = 3;

impl Tcp {
    /// Sixth to eighth: data, and FIN.
    pub(super) fn payload(&mut self, id: FlowId, p: Packet, seg: &Segment, now: Time) -> Verdict {
        let fin = seg.has(bits::FIN);
        if seg.len == 0 && !fin {
            return Ok(());
        }
        if seg.has(bits::URG) {
            self.counters.inc(Ctr::TcpUrgent);
        }
        let t = &mut self.table.flows[id];
        if !t.state.can_receive() {
            // The peer has sent its FIN already: this is not new, whatever it says.
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
            return Err(Ctr::DropTcpDuplicate);
        }
        let edge = t.rcv_adv;
        let skip = t.rcv_nxt.since(seg.seq);
        let seq = seg.seq + skip;
        t.sack_out.came_again(seg.seq, seq.min(seg.seq + seg.len));
        let mut len = seg.len.saturating_sub(skip);
        let beyond = (seq + len).since(edge);
        let cut = beyond.min(len);
        len -= cut;
        // A FIN behind data that was cut off is not in the window either.
        let fin = fin && cut == 0 && (len > 0 || seq + len == seg.seq + seg.len);
        if seg.len > 0 && len == 0 && !fin {
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
            return Err(if beyond > 0 { Ctr::DropTcpWindow } else { Ctr::DropTcpDuplicate });
        }
        t.rcv_mss = t.rcv_mss.max(seg.len.min(u32::from(u16::MAX)) as u16);
        if fin {
            if t.flags.has(Flags::FIN_PENDING) && t.fin_seq != seq + len {
                t.sack_out.forget_runs(); // The one at another place may have been told.
            }
            t.fin_seq = seq + len;
            t.flags.set(Flags::FIN_PENDING);
        }
        let mut verdict = Ok(());
        if len > 0 {
            let (orphan, in_order) = (t.flags.has(Flags::ORPHAN), seq == t.rcv_nxt);
            verdict = if orphan {
                self.discard(id, seq, len)
            } else if !self.has_cell_for(id, seq) {
                Err(Ctr::DropTcpRxLow)
            } else if in_order {
                self.in_order(id, p, skip, len)
            } else {
                self.out_of_order(id, p, seq, skip, len)
            };
        }
        let t = &mut self.table.flows[id];
        if t.state == State::Closed {
            return verdict;
        }
        if fin && t.fin_seq.gt(t.rcv_nxt) {
            // It is remembered: the peer need not send it again (nor the data before it, if that is held).
            t.sack_out.arrived(t.fin_seq, t.fin_seq + 1);
            t.acks_owed = t.acks_owed.max(1);
        }
        self.take_fin(id, now);
        if self.table.flows[id].state == State::Closed {
            return verdict;
        }
        self.schedule_ack(id, seg, now);
        verdict
    }

    /// Whether a piece of data at `seq` may keep a cell of the receive pool. The lower the pool, the more it
    /// must be worth: data that waits for a gap to be filled comes first to be refused, then data behind
    /// what the owner has not consumed; a flow that holds nothing gets on even below the reserve.
    pub(super) fn has_cell_for(&mut self, id: FlowId, seq: Seq) -> bool {
        let (free, reserve) = (self.rx_pool.free_count(), self.rx_reserve);
        let t = &mut self.table.flows[id];
        if seq != t.rcv_nxt {
            return free >= reserve.saturating_mul(2);
        }
        if free < reserve && !t.ooo.is_empty() {
            // What was never acknowledged was never promised: it makes room.
            self.drop_out_of_order(id);
            self.counters.inc(Ctr::TcpReneged);
            return true;
        }
        free >= if t.rcv_held == 0 { reserve / 2 } else { reserve }
    }

    /// Lets go what waits out of order.
    pub(super) fn drop_out_of_order(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        self.waiting_bytes -= u64::from(t.ooo.true_bytes());
        t.ooo.clear();
        t.sack_out.forget_runs();
    }

    /// Whether one more piece may wait out of order. All that waits has a bound, so that what nobody ever completes closes
    /// no windows. At the bound others' makes room: that of a connection on which nothing was completed for a while, as a
    /// retransmission would have done it; or else the largest of a few, of others each time.
    #[inline]
    fn has_room_out_of_order(&mut self, id: FlowId) -> bool {
        self.waiting_bytes < self.waiting_max || self.make_room_out_of_order(id)
    }

    #[inline(never)]
    fn make_room_out_of_order(&mut self, id: FlowId) -> bool {
        let (flows, half, mut looks) = (self.table.flows.capacity(), self.half_second(), LOOKS_FOR_ROOM);
        let (mut victim, mut most) = (FlowId::NONE, 0);
        while looks > 0 {
            let from = self.waiting_hand;
            let found = self.table.flows.next_used(from, looks);
            let next = found.map_or_else(|on| on, |at| at.to_u32() + 1);
            looks -= (next - from).clamp(1, looks);
            self.waiting_hand = if next >= flows { 0 } else { next };
            let Some(at) = found.ok().filter(|at| *at != id) else { continue };
            let t = &self.table.flows[at];
            let bytes = t.ooo.true_bytes();
            let long = half.wrapping_sub(t.sack_out.since) >= LONG_OUT_OF_ORDER;
            if bytes > most || (bytes > 0 && long) {
                (victim, most) = (at, bytes);
            }
            if bytes > 0 && long {
                break;
            }
        }
        if victim.is_some() {
            self.drop_out_of_order(victim);
            self.counters.inc(Ctr::TcpReneged);
        }
        self.waiting_bytes < self.waiting_max
    }

    /// Which half second of the clock this pass is in, modulo 2^8.
    fn half_second(&self) -> u8 {
        (self.now_us >> 19) as u8
    }

    pub(super) fn in_order(&mut self, id: FlowId, p: Packet, skip: u32, len: u32) -> Verdict {
        let t = &mut self.table.flows[id];
        let budget = WINDOW_SHARE * t.rcv_wnd_max;
        if !t.ooo.is_empty() {
            t.flags.set(Flags::ACK_NOW); // RFC 5681 4.2: at once when a gap is filled.
            self.want_output(id);
        }
        let half = self.half_second();
        let t = &mut self.table.flows[id];
        let before = t.rcv_nxt;
        t.rcv_nxt += len;
        t.rcv_held += len;
        store(&mut t.rx, &self.counters, p, 0, skip, len, budget);
        self.counters.add(Ctr::TcpBytesIn, len.into());
        // What was waiting behind it.
        let waited = t.ooo.true_bytes();
        if waited > 0 {
            t.sack_out.since = half;
        }
        while let Some((tag, n)) = t.ooo.front() {
            if Seq(tag).gt(t.rcv_nxt) {
                break;
            }
            let Some((tag, mut s)) = t.ooo.pop_front() else { break };
            let old = t.rcv_nxt.since(Seq(tag));
            if (old as usize) < n {
                s.advance(old as usize);
                let fresh = n as u32 - old;
                t.rcv_nxt += fresh;
                t.rcv_held += fresh;
                self.counters.add(Ctr::TcpBytesIn, fresh.into());
                // Out-of-order cells have one handle: ours.
                let _ = t.rx.push_back(0, s);
            }
        }
        self.waiting_bytes -= u64::from(waited - t.ooo.true_bytes());
        t.tally.received += u64::from(t.rcv_nxt.since(before));
        t.sack_out.acknowledged(t.rcv_nxt);
        self.raise(id, Events::READABLE);
        Ok(())
    }

    pub(super) fn out_of_order(&mut self, id: FlowId, p: Packet, seq: Seq, skip: u32, len: u32) -> Verdict {
        let t = &mut self.table.flows[id];
        t.acks_owed = t.acks_owed.saturating_add(1);
        let held_to = t.ooo.back().map_or(t.rcv_nxt, |(tag, n)| Seq(tag) + n as u32);
        if t.ooo.true_bytes() > WINDOW_SHARE * t.rcv_wnd_max || !self.has_room_out_of_order(id) {
            return Err(Ctr::DropTcpRxLow);
        }
        let half = self.half_second();
        let t = &mut self.table.flows[id];
        let waited = t.ooo.true_bytes();
        if waited == 0 {
            t.sack_out.since = half;
        }
        // Small pieces in a row share a cell.
        if !t.ooo.is_empty() && held_to == seq && (len as usize) < COMPACT_BELOW {
            let at = skip as usize;
            if t.ooo.extend_back(&p.payload()[at..at + len as usize]) {
                self.waiting_bytes += u64::from(t.ooo.true_bytes() - waited);
                t.sack_out.arrived(seq, seq + len);
                self.counters.inc(Ctr::TcpOutOfOrder);
                self.counters.inc(Ctr::TcpCompacted);
                return Ok(());
            }
        }
        // What overlaps with what is held is cut off; only the part before the next piece is kept. A frame that was
        // just received has one handle: ours.
        let at = p.meta().payload as usize + skip as usize;
        let put = t.ooo.insert((seq.0, (seq + len).0), WALK_MAX, |a, b| {
            p.into_slice(at + a.wrapping_sub(seq.0) as usize, b.wrapping_sub(a) as usize)
        });
        match put {
            Ok((start, end)) => {
                self.waiting_bytes += u64::from(t.ooo.true_bytes() - waited);
                t.sack_out.arrived(Seq(start), Seq(end));
                t.sack_out.came_again(seq, Seq(start));
                self.counters.inc(Ctr::TcpOutOfOrder);
                Ok(())
            }
            Err(NotInserted::Held) => {
                t.sack_out.came_again(seq, seq + len);
                Err(Ctr::DropTcpOverlap)
            }
            Err(NotInserted::TooManyRuns | NotInserted::Shared) => Err(Ctr::DropTcpHoles),
        }
    }

    /// Data for a connection whose owner has left.
    pub(super) fn discard(&mut self, id: FlowId, seq: Seq, len: u32) -> Verdict {
        let t = &mut self.table.flows[id];
        if seq != t.rcv_nxt {
            t.acks_owed = t.acks_owed.saturating_add(1);
            return Err(Ctr::DropTcpClosed);
        }
        t.rcv_nxt += len;
        t.sack_out.acknowledged(t.rcv_nxt);
        t.discarded = t.discarded.saturating_add(len);
        if t.discarded > DISCARD_MAX {
            self.abort(id);
        }
        Err(Ctr::DropTcpClosed)
    }

    /// Takes the peer's FIN, when everything before it is there.
    pub(super) fn take_fin(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        if !t.flags.has(Flags::FIN_PENDING) || t.flags.has(Flags::FIN_TAKEN) || t.rcv_nxt != t.fin_seq {
            return;
        }
        t.rcv_nxt += 1;
        t.flags.set(Flags::FIN_TAKEN);
        t.flags.set(Flags::ACK_NOW);
        self.drop_out_of_order(id);
        let t = &mut self.table.flows[id];
        let fin_acked = t.flags.has(Flags::FIN_QUEUED) && t.snd_una.gt(t.queue_end);
        match t.state {
            State::Established => t.state = State::CloseWait,
            State::FinWait1 if !fin_acked => t.state = State::Closing,
            State::FinWait1 | State::FinWait2 => {
                // The last ACK must go out while the control block is still there.
                self.raise(id, Events::FIN);
                return self.enter_time_wait(id, now);
            }
            _ => {}
        }
        self.raise(id, Events::FIN);
        self.want_output(id);
    }

    /// Decides when what was received is acknowledged (RFC 5681 4.2, RFC 9293 3.8.6.3).
    pub(super) fn schedule_ack(&mut self, id: FlowId, seg: &Segment, now: Time) {
        let delay = self.config.ack_delay_ns;
        let t = &mut self.table.flows[id];
        let gap = !t.ooo.is_empty() || t.acks_owed > 0;
        t.unacked_segments = t.unacked_segments.saturating_add(1);
        let much = t.rcv_nxt.since(t.rcv_acked) >= 2 * u32::from(t.rcv_mss);
        // A second *full-sized* segment is acknowledged at once (RFC 5681 4.2); a response that comes as a small
        // head and a small body is not two of them, and the next request carries its ACK.
        // At the start of a connection each one is, as the peer's slow start lives on ACKs: each that is as long as those
        // that we may send, so that a request, which is answered anyway, costs none.
        let quick = t.quick_acks > 0 && seg.len >= t.mss_full.into();
        t.quick_acks -= u8::from(quick);
        if gap || much || quick || t.unacked_segments >= SMALL_SEGMENTS || t.flags.has(Flags::FIN_TAKEN) {
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
        } else if t.ack_at == Time::NEVER {
            t.ack_at = now.plus_ns(delay);
        }
    }
}

/// Queues in-order payload: copied behind what waits already when it is small or the flow is over its
/// budget, in its own cell otherwise.
#[inline(always)]
pub(super) fn store(
    queue: &mut dataplane::CellQueue,
    counters: &Counters,
    p: Packet,
    tag: u32,
    skip: u32,
    len: u32,
    budget: u32,
) {
    let (skip, len) = (skip as usize, len as usize);
    if len < COMPACT_BELOW || queue.true_bytes() > budget {
        let at = skip;
        if queue.extend_back(&p.payload()[at..at + len]) {
            counters.inc(Ctr::TcpCompacted);
            return;
        }
    }
    let at = p.meta().payload as usize + skip;
    // A frame that was just received has one handle: ours.
    let _ = queue.push_back(tag, p.into_slice(at, len));
}
