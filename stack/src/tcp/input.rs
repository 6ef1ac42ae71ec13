//! Segments in: RFC 9293 3.10.7, with the checks of RFC 5961, and loss recovery by RFC 6582.

use arrayvec::ArrayVec;
use dataplane::{Counters, Ctr, L4, Packet, Time, TxQueue};

use super::output::Reply;
use super::segment::{Segment, SynOptions, bits, ports};
use super::tcb::{CloseReason, Events, Flags, FlowId, State};
use super::time_wait::Waiting;
use super::{PortRole, Seq, Tcp};
use crate::addr::Tuple;
use crate::icmp::TcpError;
use crate::net::Net;
use crate::parse::{addresses, source_mac};

/// Challenge ACKs in a second, at most (RFC 5961 7).
const CHALLENGES_PER_SECOND: u32 = 1000;
/// Payloads below this are copied out of their cell when they must wait (DESIGN.md D11).
const COMPACT_BELOW: usize = 256;
/// Bytes that an orphan still takes before it resets.
const DISCARD_MAX: u32 = 256 << 10;
/// Small segments that are acknowledged together at most.
const SMALL_SEGMENTS: u8 = 4;
/// Third duplicate ACK: loss (RFC 5681 3.2).
const DUP_ACKS: u8 = 3;

/// `Ok`: the segment's consumer took it. `Err`: the reason that it was dropped.
type Verdict = Result<(), Ctr>;

/// Hashes and tuples of a burst.
type Keys = ArrayVec<(u64, Tuple), { dataplane::BURST_MAX }>;

impl Tcp {
    /// Takes the TCP packets of a burst, all parsed. Four steps over the burst, so that the cache misses of
    /// one segment overlap with those of the next.
    pub fn input(&mut self, net: &mut Net, burst: &mut dataplane::Burst, tx: &mut [TxQueue], now: Time) {
        let mut keys = Keys::new();
        self.ask_for(burst, &mut keys);
        for (p, (hash, tuple)) in burst.drain(..).zip(keys) {
            let c = match self.segment(net, p, tuple, hash, tx, now) {
                Ok(()) => Ctr::RxAccepted,
                Err(reason) => reason,
            };
            self.counters.inc(c);
        }
    }

    /// How many of a burst's packets, all parsed, have a connection here. What [`Tcp::input`] does first, and nothing of
    /// what it does with them: for measurements.
    pub fn demux(&self, burst: &dataplane::Burst) -> usize {
        let mut keys = Keys::new();
        self.ask_for(burst, &mut keys);
        keys.iter().filter(|(hash, tuple)| self.table.find(*hash, tuple).is_some()).count()
    }

    /// Hashes of a burst's tuples; what their segments will touch is on its way into the CPU's caches.
    #[inline(always)]
    fn ask_for(&self, burst: &dataplane::Burst, keys: &mut Keys) {
        for p in burst.iter() {
            debug_assert_eq!(p.meta().l4_kind, L4::Tcp);
            let tuple = tuple_of(p);
            let hash = self.table.hash(&tuple);
            self.table.prefetch_bucket(hash);
            keys.push((hash, tuple));
        }
        if burst.len() > 1 {
            let mut first = [FlowId::NONE; dataplane::BURST_MAX];
            for ((hash, _), id) in keys.iter().zip(&mut first) {
                *id = self.table.prefetch_flow(*hash);
                self.wheel.prefetch(*id);
            }
            // What this segment most likely acknowledges.
            for id in first.iter().filter(|id| id.is_some()) {
                self.records.prefetch(self.table.flows[*id].send_head, 1);
            }
            // And whose cell is given back with it.
            for id in first.iter().filter(|id| id.is_some()) {
                let head = self.table.flows[*id].send_head;
                if head.is_some()
                    && let Some(slice) = &self.records[head].slice
                {
                    slice.prefetch();
                }
            }
        }
    }

    fn segment(
        &mut self,
        net: &mut Net,
        p: Packet,
        tuple: Tuple,
        hash: u64,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Verdict {
        let seg = Segment::read(&p);
        let Some(id) = self.table.find(hash, &tuple) else {
            return match self.no_flow(net, &p, &seg, tuple, hash, tx, now) {
                Err(Ctr::RxPunted) => Err(net.punt(p, tx, now)),
                verdict => verdict,
            };
        };
        self.counters.inc(Ctr::TcpSegmentsIn);
        let t = &mut self.table.flows[id];
        t.last_heard = now;
        t.probes = 0;
        if !t.flags.has(Flags::HAS_MAC) {
            // Answer the station that it came from (DESIGN.md 5).
            t.mac = source_mac(&p);
            t.flags.set(Flags::HAS_MAC);
        }
        let verdict = match t.state {
            State::SynSent => self.in_syn_sent(net, id, &p, &seg, tx, now),
            _ => self.in_synchronized(net, id, p, &seg, tx, now),
        };
        // The connection may be gone; what is left of it is in a list until the pass's end.
        // One that waits for the pass's output is armed there.
        if self.table.flows.is_used(id) {
            let f = self.table.flows[id].flags;
            if !f.has(Flags::DEAD) && !f.has(Flags::IN_OUTPUT) {
                self.rearm(id);
            }
        }
        verdict
    }

    // ── No connection: TIME-WAIT, LISTEN, CLOSED. `RxPunted`: the kernel's, and still to be handed to it ────────────────────────────────────────────────────

    #[inline(never)] // Out of the way of segments that have a connection.
    #[allow(clippy::too_many_arguments)] // One segment, parsed in steps.
    fn no_flow(
        &mut self,
        net: &mut Net,
        p: &Packet,
        seg: &Segment,
        tuple: Tuple,
        hash: u64,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Verdict {
        let mut iss = self.isn(hash, now);
        if let Some(w) = self.time_wait.find(hash) {
            let is_new = seg.has(bits::SYN) && !seg.has(bits::ACK | bits::RST) && seg.seq.gt(w.rcv_nxt);
            if !is_new {
                // RFC 1337: a RST does not end TIME-WAIT. RFC 9293: answer the peer's FIN again.
                if !seg.has(bits::RST) && seg.seq_len() > 0 {
                    self.reply(net, p, Reply::Ack(w), tx, now);
                }
                return Err(Ctr::DropTcpTimeWait);
            }
            // RFC 6191, by sequence number: the peer has begun a new connection.
            self.time_wait.remove(hash);
            // Ours must be beyond the old connection's too, which may have outrun the clock (RFC 1122 4.2.2.13).
            iss = iss.max(w.snd_nxt + 65_537);
            self.counters.inc(Ctr::TcpTimeWaitReused);
        }
        let opens = seg.has(bits::SYN) && !seg.has(bits::ACK);
        let listener = self.listener_for(&tuple.local, tuple.local_port);
        let role = self.role_of(listener, tuple.local_port);
        if !opens && let Some(c) = net.hand_over(p, &tuple, role) {
            return Err(c);
        }
        // What is nobody's here is the kernel's, where it shares the port; what answers there are it gives.
        if role != PortRole::Listeners && net.is_shared(p.meta().port) {
            return Err(Ctr::RxPunted);
        }
        if seg.has(bits::RST) {
            return Err(Ctr::DropTcpReset);
        }
        if !opens {
            self.reply(net, p, Reply::Reset, tx, now);
            return Err(Ctr::DropTcpNoFlow);
        }
        let Some(listener) = listener else {
            self.reply(net, p, Reply::Reset, tx, now);
            return Err(Ctr::DropTcpNoListener);
        };
        if !self.listeners[listener as usize].open {
            self.reply(net, p, Reply::Reset, tx, now);
            return Err(Ctr::DropTcpDraining);
        }
        // A FIN with a SYN is nobody's honest segment (Linux drops it too).
        if seg.has(bits::FIN) {
            return Err(Ctr::DropTcpMalformed);
        }
        if self.half_open >= self.half_open_max {
            return Err(Ctr::DropTcpHalfOpenFull);
        }
        let port = p.meta().port;
        let Some(id) = self.new_flow(tuple, hash, port, net) else { return Err(Ctr::DropTcpFlowsFull) };
        net.watch_prediction(p, &tuple);
        let mac = source_mac(p);
        self.half_open += 1;
        let scale = self.config.window_scale;
        let t = &mut self.table.flows[id];
        t.state = State::SynReceived;
        t.listener = listener;
        t.mac = mac;
        for f in [Flags::HAS_MAC, Flags::HALF_OPEN, Flags::SYN_NOW] {
            t.flags.set(f);
        }
        t.take_syn(seg, &SynOptions::read(p), scale);
        t.start_sending(iss);
        t.last_heard = now;
        t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        self.want_output(id);
        self.rearm(id);
        Ok(())
    }

    // ── SYN-SENT (RFC 9293 3.10.7.3) ────────────────────────────────────────────────────────────────

    fn in_syn_sent(
        &mut self,
        net: &mut Net,
        id: FlowId,
        p: &Packet,
        seg: &Segment,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Verdict {
        let t = &mut self.table.flows[id];
        let acks = seg.has(bits::ACK);
        if acks && (seg.ack.le(t.iss) || seg.ack.gt(t.snd_max)) {
            if seg.has(bits::RST) {
                return Err(Ctr::DropTcpReset);
            }
            self.reply(net, p, Reply::Reset, tx, now);
            return Err(Ctr::DropTcpAck);
        }
        if seg.has(bits::RST) {
            if !acks {
                return Err(Ctr::DropTcpReset);
            }
            self.counters.inc(Ctr::TcpResetsReceived);
            self.counters.inc(Ctr::TcpActiveFailed);
            self.finish(id, CloseReason::Refused);
            return Ok(());
        }
        if !seg.has(bits::SYN) {
            return Err(Ctr::DropTcpNoAck);
        }
        t.take_syn(seg, &SynOptions::read(p), self.config.window_scale);
        t.cc = super::Reno::new(t.mss.into());
        if !acks {
            // Simultaneous open.
            t.state = State::SynReceived;
            t.flags.set(Flags::SYN_NOW);
            self.want_output(id);
            return Ok(());
        }
        // The window of a SYN is never scaled (RFC 7323 2.2).
        t.snd_wnd = u32::from(seg.window);
        self.established(id, seg, now);
        let t = &mut self.table.flows[id];
        t.flags.set(Flags::ACK_NOW);
        self.raise(id, Events::CONNECTED);
        self.want_output(id);
        // Data or FIN in a SYN-ACK was not acknowledged: it comes again.
        Ok(())
    }

    /// The handshake is done, by an ACK of our SYN.
    fn established(&mut self, id: FlowId, seg: &Segment, now: Time) {
        let t = &mut self.table.flows[id];
        t.state = State::Established;
        // A SYN that came twice may have asked for an answer that is not due any more.
        t.flags.clear(Flags::SYN_NOW);
        t.flags.clear(Flags::PROBE_NOW);
        t.snd_una = seg.ack;
        t.snd_nxt = t.snd_nxt.max(seg.ack);
        t.snd_wl1 = seg.seq;
        t.snd_wl2 = seg.ack;
        t.snd_wnd_max = t.snd_wnd_max.max(t.snd_wnd);
        if t.flags.has(Flags::TIMING) {
            t.flags.clear(Flags::TIMING);
            t.rtt.sample((now.since_ns(t.timed_at) / 1000) as u32);
        }
        t.backoff = 0;
        t.rexmit_at = Time::NEVER;
        if t.flags.has(Flags::HALF_OPEN) {
            t.flags.clear(Flags::HALF_OPEN);
            self.half_open -= 1;
        }
    }

    // ── All states with a synchronized peer (RFC 9293 3.10.7.4) ─────────────────────────────────────

    fn in_synchronized(
        &mut self,
        net: &mut Net,
        id: FlowId,
        p: Packet,
        seg: &Segment,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Verdict {
        let t = &self.table.flows[id];
        let mut seg = *seg;
        if t.state == State::SynReceived && seg.has(bits::SYN) && seg.has(bits::ACK) && seg.seq == t.irs {
            // Simultaneous open (RFC 9293 3.5, figure 8): the SYN has been taken, the ACK is news.
            seg.bits &= !bits::SYN;
            seg.seq += 1;
        }
        let seg = &seg;
        self.check_sequence(id, seg)?;
        if seg.has(bits::RST) {
            return self.reset_received(id, seg);
        }
        if seg.has(bits::SYN) {
            self.challenge(id, now);
            return Err(Ctr::DropTcpSyn);
        }
        if !seg.has(bits::ACK) {
            return Err(Ctr::DropTcpNoAck);
        }
        if self.table.flows[id].state == State::SynReceived {
            let t = &mut self.table.flows[id];
            if seg.ack.le(t.snd_una) || seg.ack.gt(t.snd_max) {
                self.reply(net, &p, Reply::Reset, tx, now);
                return Err(Ctr::DropTcpAck);
            }
            let active = t.flags.has(Flags::ACTIVE);
            t.snd_wnd = u32::from(seg.window) << t.snd_wscale;
            self.established(id, seg, now);
            if active {
                self.raise(id, Events::CONNECTED);
            } else {
                self.counters.inc(Ctr::TcpPassiveOpens);
                self.raise(id, Events::ACCEPTED);
            }
            // What was queued while the handshake ran can go.
            self.want_output(id);
        } else {
            self.acknowledge(id, seg, now)?;
        }
        if self.table.flows[id].state == State::Closed {
            return Ok(());
        }
        self.payload(id, p, seg, now)
    }

    /// First check: is the segment within the window?
    fn check_sequence(&mut self, id: FlowId, seg: &Segment) -> Verdict {
        let t = &mut self.table.flows[id];
        let (len, window) = (seg.seq_len(), t.rcv_adv.since(t.rcv_nxt));
        let (first, edge) = (seg.seq, t.rcv_nxt + window);
        let starts_in = first.ge(t.rcv_nxt) && first.lt(edge);
        let ends_in = len > 0 && (first + (len - 1)).ge(t.rcv_nxt) && (first + (len - 1)).lt(edge);
        let fits = starts_in || ends_in || (len == 0 && first == t.rcv_nxt) || (len == 0 && first == edge);
        // Old data that also brings new: the part before RCV.NXT is cut off later.
        let covers = len > 0 && first.lt(t.rcv_nxt) && (first + len).gt(t.rcv_nxt);
        // A closed window takes no data, but the ACKs, URGs and RSTs that come with it (3.10.7.4).
        let at_closed_window = window == 0 && first == t.rcv_nxt;
        if fits || covers || at_closed_window {
            return Ok(());
        }
        if seg.has(bits::RST) {
            return Err(Ctr::DropTcpReset);
        }
        if t.state == State::SynReceived && seg.has(bits::SYN) && first == t.irs {
            // Our SYN-ACK was lost: the peer's SYN came again.
            t.flags.set(Flags::SYN_NOW);
            self.want_output(id);
            return Err(Ctr::DropTcpDuplicate);
        }
        t.flags.set(Flags::ACK_NOW);
        self.want_output(id);
        let t = &mut self.table.flows[id];
        if seg.len <= 1 && first + 1 == t.rcv_nxt && !seg.has(bits::SYN | bits::FIN) {
            return Ok(()); // A keep-alive, or a probe of our window: answering it is all there is to do.
        }
        if len > 0 && (first + len).le(t.rcv_nxt) {
            Err(Ctr::DropTcpDuplicate)
        } else {
            Err(Ctr::DropTcpWindow)
        }
    }

    /// RFC 5961 3.2: only a RST at exactly RCV.NXT resets.
    fn reset_received(&mut self, id: FlowId, seg: &Segment) -> Verdict {
        let t = &self.table.flows[id];
        if seg.seq != t.rcv_nxt {
            self.challenge(id, t.last_heard);
            return Err(Ctr::DropTcpReset);
        }
        let reason = if t.flags.has(Flags::ACTIVE) && t.state == State::SynReceived {
            CloseReason::Refused
        } else {
            CloseReason::Reset
        };
        self.counters.inc(Ctr::TcpResetsReceived);
        self.finish(id, reason);
        Ok(())
    }

    /// RFC 5961: asks the peer to prove itself, within a rate.
    fn challenge(&mut self, id: FlowId, now: Time) {
        let second = now.0 / 1_000_000_000;
        if second != self.challenge_second {
            (self.challenge_second, self.challenges) = (second, 0);
        }
        self.challenges += 1;
        if self.challenges > CHALLENGES_PER_SECOND {
            self.counters.inc(Ctr::TcpChallengeLimited);
            return;
        }
        self.counters.inc(Ctr::TcpChallengeAcks);
        self.table.flows[id].flags.set(Flags::ACK_NOW);
        self.want_output(id);
    }

    /// Fifth check: the acknowledgment.
    fn acknowledge(&mut self, id: FlowId, seg: &Segment, now: Time) -> Verdict {
        let t = &mut self.table.flows[id];
        // RFC 5961 5.2.
        let oldest = t.snd_una - t.snd_wnd_max.max(1);
        if seg.ack.gt(t.snd_max) || seg.ack.lt(oldest) {
            self.challenge(id, now);
            return Err(Ctr::DropTcpAck);
        }
        let window = u32::from(seg.window) << t.snd_wscale;
        if seg.ack.gt(t.snd_una) {
            self.new_ack(id, seg.ack, now);
        } else if seg.ack == t.snd_una
            && seg.len == 0
            && !seg.has(bits::FIN)
            && window == t.snd_wnd
            && t.snd_max.gt(t.snd_una)
            && !t.flags.has(Flags::PERSIST)
        {
            self.duplicate_ack(id);
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
            if window == 0 && t.snd_max.gt(t.snd_una) && !t.flags.has(Flags::PERSIST) {
                // What is out does not fit any more: probe until it does, instead of timing out on it.
                t.flags.set(Flags::PERSIST);
                t.snd_nxt = t.snd_una;
                t.send_cursor = t.send_head;
            }
            if opened {
                if t.flags.has(Flags::PERSIST) {
                    t.flags.clear(Flags::PERSIST);
                    t.backoff = 0;
                    t.rexmit_at =
                        if t.snd_max.gt(t.snd_una) { now.plus_ns(t.rtt.rto_ns(0)) } else { Time::NEVER };
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

    /// New data acknowledged.
    fn new_ack(&mut self, id: FlowId, ack: Seq, now: Time) {
        let t = &mut self.table.flows[id];
        let (bytes, mss) = (ack.since(t.snd_una), u32::from(t.mss));
        let flight = t.snd_max.since(t.snd_una);
        t.snd_una = ack;
        t.snd_nxt = t.snd_nxt.max(ack);
        t.backoff = 0;
        t.flags.clear(Flags::PERSIST);
        if t.flags.has(Flags::TIMING) && ack.gt(t.timed_seq) {
            t.flags.clear(Flags::TIMING);
            t.rtt.sample((now.since_ns(t.timed_at) / 1000).min(u64::from(u32::MAX)) as u32);
        }
        if t.flags.has(Flags::RECOVERY) {
            if ack.ge(t.recover) {
                t.flags.clear(Flags::RECOVERY);
                t.cc.on_recovered(t.snd_max.since(ack), mss);
            } else {
                t.cc.on_partial_ack(bytes, mss);
                t.flags.set(Flags::REXMIT_NOW);
            }
        } else {
            let limited = t.flags.has(Flags::CWND_LIMITED) || flight + mss > t.cc.cwnd;
            t.cc.on_ack(bytes, mss, limited);
        }
        t.dup_acks = 0;
        let left = t.snd_max.gt(ack);
        t.rexmit_at = if left { now.plus_ns(t.rtt.rto_ns(0)) } else { Time::NEVER };
        self.free_acknowledged(id);
        let t = &mut self.table.flows[id];
        let fin_acked = t.flags.has(Flags::FIN_QUEUED) && ack.gt(t.queue_end);
        if fin_acked {
            match t.state {
                State::FinWait1 => {
                    t.state = State::FinWait2;
                    let patience = if t.flags.has(Flags::ORPHAN) {
                        super::timers::LINGER_NS
                    } else {
                        super::timers::FIN_WAIT_2_NS
                    };
                    t.linger_una = ack; // That was the last progress.
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
    fn free_acknowledged(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        while t.send_head.is_some() {
            let r = &mut self.records[t.send_head];
            let len = r.slice.as_ref().map_or(0, |s| s.len()) as u32;
            if t.snd_una.lt(r.seq + len) {
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
            self.records.free(gone);
        }
    }

    fn duplicate_ack(&mut self, id: FlowId) {
        self.counters.inc(Ctr::TcpDupAcks);
        let t = &mut self.table.flows[id];
        let mss = u32::from(t.mss);
        t.dup_acks = t.dup_acks.saturating_add(1);
        if t.flags.has(Flags::RECOVERY) {
            t.cc.on_dup_ack(mss);
        } else if t.dup_acks == DUP_ACKS && t.snd_una.ge(t.recover) {
            t.recover = t.snd_max;
            t.cc.on_loss(t.snd_max.since(t.snd_una), mss);
            t.flags.set(Flags::RECOVERY);
            t.flags.set(Flags::REXMIT_NOW);
            t.flags.clear(Flags::TIMING); // Karn
            self.counters.inc(Ctr::TcpFastRetransmit);
        }
        // The first two let new data out (limited transmit, RFC 3042), which `output` knows by `dup_acks`.
        self.want_output(id);
    }

    /// Sixth to eighth: data, and FIN.
    fn payload(&mut self, id: FlowId, p: Packet, seg: &Segment, now: Time) -> Verdict {
        let fin = seg.has(bits::FIN);
        if seg.len == 0 && !fin {
            return Ok(());
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
        if self.table.flows[id].state == State::Closed {
            return verdict;
        }
        self.take_fin(id, now);
        if self.table.flows[id].state == State::Closed {
            return verdict;
        }
        self.schedule_ack(id, now);
        verdict
    }

    /// Whether a piece of data at `seq` may keep a cell of the receive pool. The lower the pool, the more it
    /// must be worth: data that waits for a gap to be filled comes first to be refused, then data behind
    /// what the owner has not consumed; a flow that holds nothing gets on even below the reserve.
    fn has_cell_for(&mut self, id: FlowId, seq: Seq) -> bool {
        let (free, reserve) = (self.rx_pool.free_count(), self.rx_reserve);
        let t = &mut self.table.flows[id];
        if seq != t.rcv_nxt {
            return free >= reserve.saturating_mul(2);
        }
        if free < reserve && !t.ooo.is_empty() {
            // What was never acknowledged was never promised: it makes room.
            t.ooo.clear();
            return true;
        }
        free >= if t.rcv_held == 0 { reserve / 2 } else { reserve }
    }

    fn in_order(&mut self, id: FlowId, p: Packet, skip: u32, len: u32) -> Verdict {
        let t = &mut self.table.flows[id];
        let budget = self.config.receive_budget_bytes;
        if !t.ooo.is_empty() {
            t.flags.set(Flags::ACK_NOW); // RFC 5681 4.2: at once when a gap is filled.
            self.want_output(id);
        }
        let t = &mut self.table.flows[id];
        t.rcv_nxt += len;
        t.rcv_held += len;
        store(&mut t.rx, &self.counters, p, 0, skip, len, budget);
        self.counters.add(Ctr::TcpBytesIn, len.into());
        // What was waiting behind it.
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
        self.raise(id, Events::READABLE);
        Ok(())
    }

    fn out_of_order(&mut self, id: FlowId, p: Packet, seq: Seq, skip: u32, len: u32) -> Verdict {
        let t = &mut self.table.flows[id];
        t.acks_owed = t.acks_owed.saturating_add(1);
        // What overlaps with what is held is cut off; only the part before the next piece is kept. Mostly
        // there is nothing to look for: it comes behind all that is held.
        let (mut start, mut end) = (seq, seq + len);
        let held_to = t.ooo.back().map_or(t.rcv_nxt, |(tag, n)| Seq(tag) + n as u32);
        if held_to.gt(start) {
            for (tag, n) in t.ooo.iter() {
                let (a, b) = (Seq(tag), Seq(tag) + n as u32);
                if a.le(start) {
                    start = start.max(b);
                } else {
                    end = end.min(a);
                    break;
                }
            }
        }
        let last = start.ge(held_to);
        if start.ge(end) {
            return Err(Ctr::DropTcpOverlap);
        }
        if t.ooo.true_bytes() > self.config.receive_budget_bytes {
            return Err(Ctr::DropTcpRxLow);
        }
        let (skip, len) = (skip + start.since(seq), end.since(start));
        // Small pieces in a row share a cell.
        let follows = !t.ooo.is_empty() && held_to == start;
        self.counters.inc(Ctr::TcpOutOfOrder);
        if follows && (len as usize) < COMPACT_BELOW {
            let at = skip as usize;
            if t.ooo.extend_back(&p.payload()[at..at + len as usize]) {
                self.counters.inc(Ctr::TcpCompacted);
                return Ok(());
            }
        }
        let at = p.meta().payload as usize + skip as usize;
        let slice = p.into_slice(at, len as usize);
        // A frame that was just received has one handle: ours.
        let _ = if last {
            t.ooo.push_back(start.0, slice)
        } else {
            t.ooo.insert_before(start.0, slice, |tag, _| Seq(tag).gt(start))
        };
        Ok(())
    }

    /// Data for a connection whose owner has left.
    fn discard(&mut self, id: FlowId, seq: Seq, len: u32) -> Verdict {
        let t = &mut self.table.flows[id];
        if seq != t.rcv_nxt {
            t.acks_owed = t.acks_owed.saturating_add(1);
            return Err(Ctr::DropTcpClosed);
        }
        t.rcv_nxt += len;
        t.discarded = t.discarded.saturating_add(len);
        if t.discarded > DISCARD_MAX {
            self.abort(id);
        }
        Err(Ctr::DropTcpClosed)
    }

    /// Takes the peer's FIN, when everything before it is there.
    fn take_fin(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        if !t.flags.has(Flags::FIN_PENDING) || t.flags.has(Flags::FIN_TAKEN) || t.rcv_nxt != t.fin_seq {
            return;
        }
        t.rcv_nxt += 1;
        t.flags.set(Flags::FIN_TAKEN);
        t.flags.set(Flags::ACK_NOW);
        t.ooo.clear();
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
    fn schedule_ack(&mut self, id: FlowId, now: Time) {
        let delay = self.config.ack_delay_ns;
        let t = &mut self.table.flows[id];
        let gap = !t.ooo.is_empty() || t.acks_owed > 0;
        t.unacked_segments = t.unacked_segments.saturating_add(1);
        let much = t.rcv_nxt.since(t.rcv_acked) >= 2 * u32::from(t.rcv_mss);
        // A second *full-sized* segment is acknowledged at once (RFC 5681 4.2); a response that comes as a small
        // head and a small body is not two of them, and the next request carries its ACK.
        if gap || much || t.unacked_segments >= SMALL_SEGMENTS || t.flags.has(Flags::FIN_TAKEN) {
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
        } else if t.ack_at == Time::NEVER {
            t.ack_at = now.plus_ns(delay);
        }
    }

    /// Both sides have closed, and we closed first: a record is all that is kept.
    fn enter_time_wait(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        let w = Waiting { snd_nxt: t.snd_max, rcv_nxt: t.rcv_nxt };
        let hash = self.table.hash(&self.table.flows[id].tuple);
        self.counters.inc(Ctr::TcpTimeWaits);
        self.counters.inc(Ctr::TcpClosed);
        if self.time_wait.insert(hash, w, now) {
            self.counters.inc(Ctr::TcpTimeWaitRecycled);
        }
        if self.table.flows[id].flags.has(Flags::ACK_NOW) {
            self.want_output(id);
        }
        self.finish(id, CloseReason::Done);
    }

    /// An ICMP error about a connection.
    ///
    /// # Errors
    /// When it is about none, or about a segment that is not out (RFC 5927).
    pub fn icmp_error(&mut self, e: &TcpError, _now: Time) -> Verdict {
        let hash = self.table.hash(&e.tuple);
        let Some(id) = self.table.find(hash, &e.tuple) else { return Err(Ctr::DropIcmpUnmatched) };
        let t = &self.table.flows[id];
        let seq = Seq(e.seq);
        if seq.lt(t.snd_una) || seq.gt(t.snd_max) {
            return Err(Ctr::DropIcmpUnmatched);
        }
        self.counters.inc(Ctr::IcmpErrorsReceived);
        // A hard error ends an attempt to connect; on an open connection it is only a hint (RFC 5927 4.3).
        if t.state == State::SynSent && e.hard {
            self.counters.inc(Ctr::TcpActiveFailed);
            self.finish(id, CloseReason::Unreachable);
        }
        Ok(())
    }
}

/// Queues in-order payload: copied behind what waits already when it is small or the flow is over its
/// budget, in its own cell otherwise.
fn store(
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

fn tuple_of(p: &Packet) -> Tuple {
    let (src, dst) = addresses(p);
    let (remote_port, local_port) = ports(p);
    Tuple { local: dst, remote: src, local_port, remote_port }
}

impl super::Tcb {
    /// Takes what a SYN says.
    fn take_syn(&mut self, seg: &Segment, o: &SynOptions, our_scale: u8) {
        self.irs = seg.seq;
        self.rcv_nxt = seg.seq + 1;
        // Our own SYN has announced a window already.
        let announced = if self.flags.has(Flags::ACTIVE) { self.rcv_wnd_max.min(0xffff) } else { 0 };
        self.rcv_adv = self.rcv_nxt + announced;
        self.rcv_acked = self.rcv_nxt;
        // RFC 9293 3.7.1: 536 (IPv4) or 1220 (IPv6) without the option.
        let default = if self.tuple.local.is_v4() { 536 } else { 1220 };
        self.mss = self.mss.min(o.mss.unwrap_or(default).max(88));
        if let Some(s) = o.window_scale {
            self.flags.set(Flags::SCALED);
            self.snd_wscale = s;
            self.rcv_wscale = our_scale;
        }
        self.snd_wnd = u32::from(seg.window);
        self.snd_wnd_max = self.snd_wnd;
        self.snd_wl1 = seg.seq;
    }
}
