//! Acknowledgments in: RFC 9293 3.10.7.4, fifth check; RFC 5961, 2018.
//!
//! ```text
//!  ACK ─► cumulative part ─┐                        ┌─► losses (RACK) ─► recovery ─┐
//!         SACK blocks ─────┴─► what was delivered ──┴─► RTT, rate ─────────────────┴─► congestion control ─► timers
//! ```

use dataplane::{Ctr, Time};
use hugepages::Slab;

use super::cc::{Ack, Congestion, Kind, Rate};
use super::input::Verdict;
use super::options::Options;
use super::rack::lose;
use super::rate::{Sampler, micros};
use super::recovery::Phase;
use super::scoreboard::{Out, Place, Segments};
use super::segment::{Segment, bits};
use super::tcb::{CloseReason, Events, Flags, FlowId, RecordId, SendRecord, State, Tcb};
use super::{Seq, Tcp};

/// Third duplicate ACK: loss (RFC 5681 3.2).
const DUP_ACKS: u8 = 3;

/// Segments, SACKed already, that one ACK's blocks may lead past: a peer that tells old news in ever new blocks must not
/// cost more than one that tells news.
const PASSES_MAX: u32 = 512;

/// What one ACK has delivered.
#[derive(Default)]
pub(super) struct Found {
    sampler: Sampler,
    /// Bytes, acknowledged or SACKed.
    pub delivered: u32,
    /// RTT of the segment that was sent first, of those sent once: for the RTO; 0: none.
    pub rtt_us: u32,
    /// RTT of the one that was sent last, of those sent once: for congestion control; 0: none.
    pub last_rtt_us: u32,
}

impl Found {
    #[inline(always)]
    pub fn take(&mut self, t: &mut Tcb, o: &Out, now_us: u32) {
        self.delivered += o.span();
        self.sampler.take(&mut t.rate, &o.stamp, o.sent_us, o.app_limited, o.span(), now_us);
        if o.resent == 0 {
            // Karn: never of a segment that was sent twice.
            let rtt = now_us.wrapping_sub(o.sent_us).max(1);
            self.last_rtt_us = if self.last_rtt_us == 0 { rtt } else { self.last_rtt_us.min(rtt) };
            self.rtt_us = self.rtt_us.max(rtt);
        }
        t.recovery.rack.delivered(o, now_us);
    }

    /// The rate sample, for who asks for one.
    #[inline]
    pub fn rate(&self, t: &mut Tcb) -> Option<Rate> {
        t.rate.end_app_limited();
        if t.cc.wants_rates() { self.sampler.rate(&t.rate, t.recovery.rack.min_rtt_us) } else { None }
    }
}

impl Tcp {
    /// Fifth check: the acknowledgment.
    pub(super) fn acknowledge(&mut self, id: FlowId, seg: &Segment, o: &Options, now: Time) -> Verdict {
        let t = &mut self.table.flows[id];
        // RFC 5961 5.2.
        let oldest = t.snd_una - t.snd_wnd_max.max(1);
        if seg.ack.gt(t.snd_nxt) || seg.ack.lt(oldest) {
            self.challenge(id, now);
            return Err(Ctr::DropTcpAck);
        }
        let window = u32::from(seg.window) << t.snd_wscale;
        if seg.ack.ge(t.snd_una) && t.snd_nxt.gt(t.snd_una) {
            let duplicate = seg.ack == t.snd_una
                && seg.len == 0
                && !seg.has(bits::FIN)
                && window == t.snd_wnd
                && !t.flags.has(Flags::PERSIST);
            if seg.ack.gt(t.snd_una) || duplicate || !o.sack.is_empty() {
                self.news(id, seg.ack, o, duplicate, now);
            }
        } else if !o.sack.is_empty() && t.flags.has(Flags::SACK_OK) {
            // Nothing is out: only a D-SACK can still say something.
            self.duplicates(id, seg.ack, o);
        }
        let t = &mut self.table.flows[id];
        if t.state == State::Closed {
            return Ok(());
        }
        if seg.ack.ge(t.snd_una) && (t.snd_wl1.lt(seg.seq) || (t.snd_wl1 == seg.seq && t.snd_wl2.le(seg.ack)))
        {
            let opened = window > t.snd_wnd;
            if window == 0 && t.snd_wnd != 0 {
                self.counters.inc(Ctr::TcpZeroWindow);
            }
            t.snd_wnd = window;
            t.snd_wnd_max = t.snd_wnd_max.max(window);
            t.snd_wl1 = seg.seq;
            t.snd_wl2 = seg.ack;
            if window == 0 && t.snd_nxt.gt(t.snd_una) && !t.flags.has(Flags::PERSIST) {
                // What is out does not fit any more: probe until it does, instead of timing out on it.
                t.flags.set(Flags::PERSIST);
                self.take_back(id);
            }
            let t = &mut self.table.flows[id];
            if opened {
                if t.flags.has(Flags::PERSIST) {
                    t.flags.clear(Flags::PERSIST);
                    t.backoff = 0;
                    t.rexmit_at =
                        if t.snd_nxt.gt(t.snd_una) { now.plus_ns(t.rtt.rto_ns(0)) } else { Time::NEVER };
                }
                self.want_output(id);
            }
        }
        if self.table.flows[id].flags.has(Flags::PERSIST) {
            // The peer lives, its window is closed: probe on at the same pace, without end (3.8.6.1).
            self.table.flows[id].backoff =
                self.table.flows[id].backoff.min(super::timers::PERSIST_BACKOFF_MAX);
        }
        Ok(())
    }

    /// An ACK while something is out that may change something.
    fn news(&mut self, id: FlowId, ack: Seq, o: &Options, duplicate: bool, now: Time) {
        let now_us = micros(now);
        let t = &mut self.table.flows[id];
        let (una, in_flight_before, lost_before) = (t.snd_una, t.pipe(), t.rate.lost);
        let advanced = ack.gt(una);
        let mut found = Found::default();
        if advanced {
            self.take_cumulative(id, ack, &mut found, now_us);
        }
        let t = &mut self.table.flows[id];
        if advanced {
            t.tally.acknowledged(ack.since(una), t.out.is_empty(), now_us);
        }
        let sack = t.flags.has(Flags::SACK_OK);
        if sack && !o.sack.is_empty() {
            self.duplicates(id, ack, o);
            self.take_blocks(id, o, &mut found, now_us);
        } else if duplicate && !sack {
            t.dup_acks = t.dup_acks.saturating_add(1);
        }
        if duplicate {
            self.counters.inc(Ctr::TcpDupAcks);
        }
        let t = &mut self.table.flows[id];
        if found.rtt_us != 0 {
            t.rtt.sample(found.rtt_us);
            t.recovery.rack.take_min_rtt(found.last_rtt_us, now_us);
        }
        // What is lost.
        let mut loss = false;
        if sack {
            if found.delivered > 0 || t.out.sacked() > 0 {
                loss = Tcp::detect_losses(&mut self.segments, &self.counters, t, now);
            }
        } else {
            loss = self.count_duplicates(id, advanced, now);
        }
        let t = &mut self.table.flows[id];
        let lost = t.rate.lost.wrapping_sub(lost_before);
        let repaired = self.probe_answered(id, ack, o.sack.is_empty(), duplicate);
        if loss && !matches!(self.table.flows[id].recovery.phase, Phase::Recovery | Phase::Loss) {
            self.table.flows[id].enter(&self.counters, Kind::Loss, lost, now);
        } else if repaired && self.table.flows[id].recovery.phase == Phase::Open {
            self.blame_repaired(id, now);
        }
        if advanced || self.table.flows[id].recovery.needs_a_look() {
            self.leave(id, o, now);
        }
        // Congestion control.
        let t = &mut self.table.flows[id];
        let min_rtt_us = t.recovery.rack.min_rtt_us;
        let in_recovery = t.recovery.phase != Phase::Open;
        let a = Ack {
            now,
            delivered: found.delivered,
            acked: ack.since(una),
            lost,
            rtt_us: found.last_rtt_us,
            srtt_us: t.rtt.srtt_us,
            min_rtt_us,
            in_flight_before,
            in_flight: t.pipe(),
            snd_nxt: t.snd_nxt.0,
            snd_una: ack.0,
            total_delivered: t.rate.bytes,
            total_lost: t.rate.lost,
            limited: t.recovery.was_limited(&t.window),
            in_recovery,
            ece: false,
            rate: found.rate(t),
            mss: t.mss.into(),
        };
        t.cc.on_ack(&mut t.window, &a);
        if t.recovery.is_reducing() && t.cc.prr() {
            let (ssthresh, mss) = (t.window.ssthresh, t.mss.into());
            t.window.cwnd = t.recovery.prr(found.delivered, lost, advanced, a.in_flight, ssthresh, mss);
        }
        if advanced {
            self.forward(id, now);
        } else {
            // Behind a hole the peer takes data for a long time: more is wanted, though nothing is acknowledged.
            let t = &self.table.flows[id];
            if found.delivered > 0 && t.queue_end.since(t.snd_nxt.min(t.queue_end)) < t.window.cwnd / 2 {
                self.raise(id, Events::WRITABLE);
            }
            self.want_output(id);
        }
    }

    /// SND.UNA moves up to `ack`.
    fn take_cumulative(&mut self, id: FlowId, ack: Seq, found: &mut Found, now_us: u32) {
        let t = &mut self.table.flows[id];
        t.snd_una = ack;
        t.backoff = 0;
        t.flags.clear(Flags::PERSIST);
        Tcp::take_acknowledged(&mut self.segments, t, ack, found, now_us);
        Tcp::free_acknowledged(&mut self.records, t);
        if !t.out.is_empty() {
            let first = &mut self.segments[t.out.first()];
            // Its first byte may be in another piece now.
            if first.seq == ack {
                first.piece = t.send_head;
            }
        }
    }

    /// Takes the segments out of those that are out that `ack`, which is SND.UNA, acknowledges.
    #[inline(always)]
    pub(super) fn take_acknowledged(
        segments: &mut Segments,
        t: &mut Tcb,
        ack: Seq,
        found: &mut Found,
        now_us: u32,
    ) {
        while !t.out.is_empty() {
            let s = t.out.first();
            let o = segments[s];
            if o.end().gt(ack) {
                if o.seq.lt(ack) {
                    // In part: a peer that takes what fits its window.
                    let part = ack.since(o.seq);
                    if o.place != Place::Sacked {
                        found.delivered += part;
                        t.rate.bytes = t.rate.bytes.wrapping_add(part);
                    }
                    segments.trim(&mut t.out, ack);
                }
                break;
            }
            if o.place != Place::Sacked {
                found.take(t, &o, now_us);
            }
            segments.pop(&mut t.out, &o);
        }
    }

    /// Marks what the peer's blocks say it has (RFC 2018 5).
    fn take_blocks(&mut self, id: FlowId, o: &Options, found: &mut Found, now_us: u32) {
        let t = &mut self.table.flows[id];
        if t.out.sacked() == 0 {
            t.sacked = Default::default();
        }
        let mut known = t.sacked;
        let mut passes = PASSES_MAX;
        for (i, &(from, to)) in o.sack.iter().enumerate() {
            let (mut from, mut to) = (from.max(t.snd_una), to);
            if from.ge(to) || to.gt(t.snd_nxt) {
                continue; // Old, a D-SACK, or nonsense.
            }
            let mut whole = (from, to);
            // What the last ACK said already need not be looked at again.
            for (a, b) in t.sacked {
                if a.le(from) && b.gt(from) {
                    from = b.min(to);
                }
                if a.lt(to) && b.ge(to) {
                    to = a.max(from);
                }
            }
            if from.lt(to) {
                let Ok(mut s) = self.segments.find(&mut t.out, from) else {
                    self.counters.inc(Ctr::TcpSackSkipped);
                    continue;
                };
                while s.is_some() {
                    let out = self.segments[s];
                    if out.end().gt(to) {
                        // A segment that the peer has in part is one that it does not have.
                        whole.1 = whole.1.min(out.seq.max(from));
                        break;
                    }
                    if out.place != Place::Sacked {
                        found.take(t, &out, now_us);
                        self.segments.set_sacked(&mut t.out, s);
                    } else if passes == 0 {
                        self.counters.inc(Ctr::TcpSackSkipped);
                        whole.1 = out.seq.max(from);
                        break;
                    } else {
                        passes -= 1;
                    }
                    s = out.next();
                }
            }
            known[i % known.len()] = whole;
        }
        t.sacked = known;
    }

    /// A first block that lies below the ACK, or within the second, tells of a duplicate (RFC 2883 4).
    fn duplicates(&mut self, id: FlowId, ack: Seq, o: &Options) {
        let (from, to) = o.sack[0];
        let inside = |b: &(Seq, Seq)| from.ge(b.0) && to.le(b.1);
        if from.lt(to) && (to.le(ack) || o.sack.get(1).is_some_and(inside)) {
            self.duplicate_reported(id, from);
        }
    }

    /// The peer does not SACK: duplicate ACKs say that something is lost, and partial ones what (RFC 6582).
    fn count_duplicates(&mut self, id: FlowId, advanced: bool, now: Time) -> bool {
        let t = &mut self.table.flows[id];
        if t.out.is_empty() {
            t.dup_acks = 0;
            return false;
        }
        let lose_first = if advanced {
            t.dup_acks = 0;
            // A partial ACK: the next hole.
            t.recovery.phase == Phase::Recovery && t.snd_una.lt(t.recovery.until)
        } else {
            t.dup_acks == DUP_ACKS && t.recovery.phase == Phase::Open && t.snd_una.ge(t.recovery.until)
        };
        let first = t.out.first();
        if lose_first && self.segments[first].place == Place::InFlight {
            lose(&mut self.segments, &self.counters, t, first, now);
            if t.recovery.phase == Phase::Recovery {
                t.flags.set(Flags::REXMIT_NOW);
            }
            return true;
        }
        false
    }

    /// A tail loss probe has repaired a loss: the path is to blame all the same (RFC 8985 7.4.2).
    fn blame_repaired(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        let (in_flight, mss) = (t.pipe(), u32::from(t.mss));
        let c = Congestion { now, kind: Kind::Loss, in_flight, srtt_us: t.rtt.srtt_us, mss };
        t.cc.on_congestion(&mut t.window, &c);
        if t.cc.prr() {
            t.window.cwnd = t.window.cwnd.min(t.window.ssthresh);
        }
        t.cc.on_recovered(&mut t.window, now, mss);
        self.counters.inc(Ctr::TcpTailRepaired);
    }

    /// SND.UNA has moved: timers, our FIN, the owner.
    fn forward(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        t.rexmit_at = if t.out.is_empty() { Time::NEVER } else { now.plus_ns(t.rtt.rto_ns(0)) };
        Tcp::arm_probe(t, now);
        if t.flags.has(Flags::FIN_QUEUED) && t.snd_una.gt(t.queue_end) {
            match t.state {
                State::FinWait1 => {
                    t.state = State::FinWait2;
                    let patience = if t.flags.has(Flags::ORPHAN) {
                        super::timers::LINGER_NS
                    } else {
                        super::timers::FIN_WAIT_2_NS
                    };
                    t.linger_una = t.snd_una; // That was the last progress.
                    t.idle_at = now.plus_ns(patience);
                }
                State::Closing => return self.enter_time_wait(id, now),
                State::LastAck => {
                    self.counters.inc(Ctr::TcpClosed);
                    return self.finish(id, CloseReason::Done);
                }
                _ => {}
            }
        }
        self.raise(id, Events::WRITABLE);
        self.want_output(id);
    }

    /// Lets the acknowledged front of the send queue go.
    #[inline(always)]
    pub(super) fn free_acknowledged(records: &mut Slab<RecordId, SendRecord>, t: &mut Tcb) {
        while t.send_head.is_some() {
            let r = &mut records[t.send_head];
            if t.snd_una.lt(r.seq + r.span()) {
                break;
            }
            let gone = t.send_head;
            r.slice = None;
            t.send_charge -= r.charge;
            t.send_head = r.next;
            if t.send_cursor == gone {
                t.send_cursor = t.send_head;
            }
            if t.send_head.is_none() {
                t.send_tail = t.send_head;
            }
            records.free(gone);
        }
    }
}

impl Tcb {
    /// Bytes in flight (RFC 6675: pipe). Without SACK each duplicate ACK says that a segment has left the network.
    #[inline]
    pub fn pipe(&self) -> u32 {
        self.out.in_flight().saturating_sub(u32::from(self.dup_acks) * u32::from(self.mss))
    }
}
