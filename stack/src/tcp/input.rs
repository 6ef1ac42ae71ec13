//! Segments in: RFC 9293 3.10.7, with the checks of RFC 5961.
//!
//! ```text
//!  burst ─► input ─┬─ no connection ─► listen: LISTEN, TIME-WAIT, CLOSED
//!                  └─ in its state ──► ack: what we have sent ─► receive: data and FIN
//! ```

use arrayvec::ArrayVec;
use dataplane::{Ctr, L4, Packet, Time, TxQueue, sip};

use super::emit::Reply;
use super::options::{Options, SynOptions};
use super::rate::micros;
use super::segment::{Segment, bits, ports};
use super::tcb::{CloseReason, Events, Flags, FlowId, State};
use super::time_wait::Waiting;
use super::{EcnUse, Tcp};
use crate::addr::{Addr, Tuple};
use crate::frame::usual_key;
use crate::net::Net;
use crate::parse::{addresses, source_mac};

/// Challenge ACKs in a second (RFC 5961 7): from half of this on, and up to half as many again.
const CHALLENGES_PER_SECOND: u32 = 1000;

/// `Ok`: the segment's consumer took it. `Err`: the reason that it was dropped.
pub(super) type Verdict = Result<(), Ctr>;

/// Hashes and tuples of a burst.
type Keys = ArrayVec<(u64, Tuple), { dataplane::BURST_MAX }>;

impl Tcp {
    /// Takes the TCP packets of a burst, all parsed. Four steps over the burst, so that the cache misses of
    /// one segment overlap with those of the next.
    pub fn input(&mut self, net: &mut Net, burst: &mut dataplane::Burst, tx: &mut [TxQueue], now: Time) {
        let mut keys = Keys::new();
        self.now_us = micros(now);
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
            let key = self.key_of(p);
            self.table.prefetch_bucket(key.0);
            keys.push(key);
        }
        if burst.len() > 1 {
            let mut first = [FlowId::NONE; dataplane::BURST_MAX];
            for ((hash, _), id) in keys.iter().zip(&mut first) {
                *id = self.table.prefetch_flow(*hash);
                self.wheel.prefetch(*id);
                if id.is_none() {
                    self.time_wait.prefetch_bucket(*hash);
                }
            }
            for ((hash, _), id) in keys.iter().zip(&first) {
                if id.is_none() {
                    self.time_wait.prefetch_record(*hash);
                    continue;
                }
                // What this segment most likely acknowledges.
                let t = &self.table.flows[*id];
                self.records.prefetch(t.send_head, 1);
                self.segments.prefetch(t.out.first());
                if matches!(t.state, State::FinWait1 | State::FinWait2) {
                    // Its next is TIME-WAIT.
                    self.time_wait.prefetch_bucket(*hash);
                }
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
            return self.no_flow(net, p, &seg, tuple, hash, tx, now);
        };
        self.counters.inc(Ctr::TcpSegmentsIn);
        let t = &mut self.table.flows[id];
        t.tally.segments_in += 1;
        t.last_heard = now;
        t.probes = 0;
        if !t.flags.has(Flags::HAS_MAC) {
            // Answer the station that it came from (DESIGN.md 5).
            t.mac = source_mac(&p);
            t.flags.set(Flags::HAS_MAC);
        }
        let p = match self.usual_segment(id, p, &seg, now) {
            Ok(()) => return Ok(()),
            Err(p) => p,
        };
        let verdict = match self.table.flows[id].state {
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
        if acks && (seg.ack.le(t.iss) || seg.ack.gt(t.snd_nxt)) {
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
        t.take_syn(seg, &SynOptions::read(p), self.config.window_scale, now);
        let asked = seg.bits & (bits::ECE | bits::CWR);
        // Agreed to; in a simultaneous open: asked for (RFC 3168 6.1.1).
        self.use_known_mtu(id, now);
        let t = &mut self.table.flows[id];
        let agreed = if acks {
            self.config.ecn == EcnUse::Always && asked == bits::ECE
        } else {
            self.config.ecn.answers() && asked == bits::ECE | bits::CWR
        };
        if agreed {
            t.flags.set(Flags::ECN);
        }
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
    pub(super) fn established(&mut self, id: FlowId, seg: &Segment, now: Time) {
        let t = &mut self.table.flows[id];
        t.state = State::Established;
        // A SYN that came twice may have asked for an answer that is not due any more.
        t.flags.clear(Flags::SYN_NOW);
        t.flags.clear(Flags::PROBE_NOW);
        t.snd_una = seg.ack;
        t.start_window();
        t.snd_wl1 = seg.seq;
        t.snd_wl2 = seg.ack;
        t.snd_wnd_max = t.snd_wnd_max.max(t.snd_wnd);
        if t.flags.has(Flags::TIMING) {
            t.flags.clear(Flags::TIMING);
            let now_us = micros(now);
            let us = now_us.wrapping_sub(t.rate.first_sent_us).max(1);
            t.rtt.sample(us);
            t.recovery.rack.take_min_rtt(us, now_us);
        }
        t.backoff = 0;
        t.rexmit_at = Time::NEVER;
        if t.flags.has(Flags::HALF_OPEN) {
            t.flags.clear(Flags::HALF_OPEN);
            self.half_open -= 1;
        }
    }

    // ── All states with a synchronized peer (RFC 9293 3.10.7.4) ─────────────────────────────────────

    pub(super) fn in_synchronized(
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
        if t.state == State::SynReceived
            && seg.has(bits::SYN)
            && seg.has(bits::ACK)
            && seg.seq + 1 == t.rcv_nxt
        {
            // Simultaneous open (RFC 9293 3.5, figure 8): the SYN has been taken, the ACK is news.
            seg.bits &= !bits::SYN;
            seg.seq += 1;
        }
        let (seg, options) = (&seg, &Options::read(&p));
        self.check_timestamp(id, seg, options, now)?;
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
            if seg.ack.le(t.snd_una) || seg.ack.gt(t.snd_nxt) {
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
            if seg.has(bits::ECE) && self.table.flows[id].flags.has(Flags::ECN) {
                self.take_echo(id, seg, now);
            }
            self.acknowledge(id, seg, options, now)?;
        }
        if self.table.flows[id].state == State::Closed {
            return Ok(());
        }
        if self.table.flows[id].flags.has(Flags::ECN) {
            self.take_marks(id, &p, seg);
        }
        let t = &self.table.flows[id];
        if t.mss < t.mss_full {
            self.try_full_length(id, now);
        }
        self.take_timestamp(id, seg, options, now);
        if seg.len > 0 {
            self.table.flows[id].measure_receiving(seg, options.timestamps, now);
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
        if t.state == State::SynReceived && seg.has(bits::SYN) && first + 1 == t.rcv_nxt {
            // Our SYN-ACK was lost: the peer's SYN came again.
            t.flags.set(Flags::SYN_NOW);
            self.want_output(id);
            return Err(Ctr::DropTcpDuplicate);
        }
        t.flags.set(Flags::ACK_NOW);
        if len > 0 && (first + len).le(t.rcv_nxt) {
            t.sack_out.came_again(first, first + len);
        }
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
    pub(super) fn challenge(&mut self, id: FlowId, now: Time) {
        let second = now.0 / 1_000_000_000;
        if second != self.challenge_second {
            (self.challenge_second, self.challenges) = (second, 0);
        }
        self.challenges += 1;
        // Another number in each second: one that is known could be counted out by somebody who wants to learn whether
        // other connections are challenged (CVE-2016-5696).
        let [.., a, b] = self.config.keys;
        let more = sip::words([a, b], [second, 5]) % u64::from(CHALLENGES_PER_SECOND);
        if self.challenges > CHALLENGES_PER_SECOND / 2 + more as u32 {
            self.counters.inc(Ctr::TcpChallengeLimited);
            return;
        }
        self.counters.inc(Ctr::TcpChallengeAcks);
        self.table.flows[id].flags.set(Flags::ACK_NOW);
        self.want_output(id);
    }

    /// Both sides have closed, and we closed first: a record is all that is kept.
    pub(super) fn enter_time_wait(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        let ts_recent = t.flags.has(Flags::TIMESTAMPS).then_some(t.ts_recent);
        let w = Waiting { snd_nxt: t.snd_nxt, rcv_nxt: t.rcv_nxt, ts_recent };
        let hash = u64::from(t.hash) | u64::from(t.hash_high) << 32;
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
}

impl Tcp {
    /// The tuple of a segment, and its hash.
    #[inline(always)]
    fn key_of(&self, p: &Packet) -> (u64, Tuple) {
        let Some((local, remote, ports)) = usual_key(p) else {
            let tuple = tuple_of(p);
            return (self.table.hash(&tuple), tuple);
        };
        let (local_port, remote_port) = (ports as u16, (ports >> 16) as u16);
        let tuple = Tuple { local: Addr::v4(&local), remote: Addr::v4(&remote), local_port, remote_port };
        (self.table.hash_v4(local, remote, ports), tuple)
    }
}

#[inline(never)]
fn tuple_of(p: &Packet) -> Tuple {
    let (src, dst) = addresses(p);
    let (remote_port, local_port) = ports(p);
    Tuple { local: dst, remote: src, local_port, remote_port }
}
