//! Segments without a connection: LISTEN, TIME-WAIT, CLOSED (RFC 9293 3.10.7.1, 3.10.7.2).

use dataplane::{Ctr, Packet, Time, TxQueue};

use super::emit::Reply;
use super::input::{Verdict, half_second};
use super::options::{SynOptions, TIMESTAMPS_BYTES};
use super::segment::{Segment, bits};
use super::tcb::{Flags, FlowId, State};
use super::{PortRole, Seq, Tcp};
use crate::addr::Tuple;
use crate::net::Net;
use crate::parse::source_mac;

impl Tcp {
    #[inline(never)] // Out of the way of segments that have a connection.
    #[allow(clippy::too_many_arguments)] // One segment, parsed in steps.
    pub(super) fn no_flow(
        &mut self,
        net: &mut Net,
        p: Packet,
        seg: &Segment,
        tuple: Tuple,
        hash: u64,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Verdict {
        if let Some(made) = self.take_cookie(net, &p, seg, &tuple, hash, now) {
            let id = made?;
            let verdict = self.in_synchronized(net, id, p, seg, tx, now);
            self.rearm(id);
            return verdict;
        }
        let waiting = self.time_wait.find(hash);
        if let Some(w) = waiting {
            let opens = seg.has(bits::SYN) && !seg.has(bits::ACK | bits::RST);
            if !opens || !w.is_newer(seg.seq, SynOptions::read(&p).timestamps.map(|ts| ts.val)) {
                // A peer whose new connection is not taken for newer (it has begun anew, or is another one behind the same
                // NAT) says so by resetting what it is answered: its next SYN finds nothing here. As Linux does it, and RFC
                // 9293 3.10.7.4, against RFC 1337; only with the one number that stands in our ACK (RFC 5961 3.2).
                if seg.has(bits::RST) && seg.seq == w.rcv_nxt {
                    self.time_wait.remove(hash);
                    self.counters.inc(Ctr::TcpTimeWaitReset);
                // RFC 9293: answer the peer's FIN again.
                } else if !seg.has(bits::RST) && seg.seq_len() > 0 {
                    self.reply(net, &p, Reply::Ack(w, self.ts_offset(hash)), tx, now);
                }
                return Err(Ctr::DropTcpTimeWait);
            }
        }
        let opens = seg.has(bits::SYN) && !seg.has(bits::ACK);
        let listener = self.listener_for(&tuple.local, tuple.local_port);
        let role = self.role_of(listener, tuple.local_port);
        if !opens && let Some(c) = net.hand_over(&p, &tuple, role) {
            return Err(c);
        }
        // What is nobody's here is the kernel's, where it shares the port; what answers there are it gives.
        if role != PortRole::Listeners && net.is_shared(p.meta().port) {
            return Err(net.punt(p, tx, now));
        }
        if seg.has(bits::RST) {
            return Err(Ctr::DropTcpReset);
        }
        if !opens {
            self.reply(net, &p, Reply::Reset, tx, now);
            return Err(Ctr::DropTcpNoFlow);
        }
        let Some(listener) = listener else {
            self.reply(net, &p, Reply::Reset, tx, now);
            return Err(Ctr::DropTcpNoListener);
        };
        if !self.listeners[listener as usize].open {
            self.reply(net, &p, Reply::Reset, tx, now);
            return Err(Ctr::DropTcpDraining);
        }
        // A FIN with a SYN is nobody's honest segment (Linux drops it too).
        if seg.has(bits::FIN) {
            return Err(Ctr::DropTcpMalformed);
        }
        if self.uses_cookies() {
            self.has_room_for(listener)?;
            return self.send_cookie(net, &p, seg, &tuple, hash, tx, now);
        }
        if self.half_open >= self.half_open_max {
            self.refused(listener);
            return Err(Ctr::DropTcpHalfOpenFull);
        }
        let mut iss = self.isn(hash, now);
        if let Some(w) = waiting {
            // The peer has begun a new connection. Ours must be beyond the old one's numbers too, which may have outrun the clock (RFC 1122 4.2.2.13).
            iss = iss.max(w.snd_nxt + 65_537);
        }
        let id = self.begin(net, &p, seg, &SynOptions::read(&p), (tuple, hash), listener, iss, now)?;
        if waiting.is_some() {
            // Not by a SYN that a cookie answers: a flood of made-up ones must not end TIME-WAIT.
            self.time_wait.remove(hash);
            self.counters.inc(Ctr::TcpTimeWaitReused);
        }
        let ecn = self.agrees_to_ecn(seg);
        let t = &mut self.table.flows[id];
        t.flags.set(Flags::SYN_NOW);
        if ecn {
            t.flags.set(Flags::ECN);
        }
        self.want_output(id);
        self.rearm(id);
        Ok(())
    }

    /// Makes a half-open connection of what a SYN says.
    #[allow(clippy::too_many_arguments)] // One segment, parsed in steps.
    pub(super) fn begin(
        &mut self,
        net: &mut Net,
        p: &Packet,
        syn: &Segment,
        options: &SynOptions,
        (tuple, hash): (Tuple, u64),
        listener: u16,
        iss: Seq,
        now: Time,
    ) -> Result<FlowId, Ctr> {
        self.has_room_for(listener)?;
        let Some(id) = self.new_flow(tuple, hash, p.meta().port, net) else {
            self.refused(listener);
            return Err(Ctr::DropTcpFlowsFull);
        };
        net.watch_prediction(p, &tuple);
        self.half_open += 1;
        let scale = self.config.window_scale;
        self.came_by(id, listener, hash);
        let t = &mut self.table.flows[id];
        t.state = State::SynReceived;
        t.mac = source_mac(p);
        t.flags.set(Flags::HAS_MAC);
        t.flags.set(Flags::HALF_OPEN);
        t.take_syn(syn, options, scale, now);
        self.use_known_mtu(id, now);
        let t = &mut self.table.flows[id];
        t.start_sending(iss);
        t.heard(now);
        t.challenged = half_second(now).wrapping_sub(1);
        t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        Ok(id)
    }

    /// Whether a listener may have one more connection.
    #[inline(always)]
    fn has_room_for(&mut self, listener: u16) -> Verdict {
        if !self.is_full(listener) {
            return Ok(());
        }
        self.refused(listener);
        Err(Ctr::DropTcpListenerFull)
    }

    /// Whether a SYN asks for ECN, and we are to agree (RFC 3168 6.1.1).
    pub(super) fn agrees_to_ecn(&self, seg: &Segment) -> bool {
        seg.bits & (bits::ECE | bits::CWR) == bits::ECE | bits::CWR && self.config.ecn.answers()
    }
}

impl super::Tcb {
    /// Takes what a SYN says.
    pub(super) fn take_syn(&mut self, seg: &Segment, o: &SynOptions, our_scale: u8, now: Time) {
        self.rcv_nxt = seg.seq + 1;
        // Our own SYN has announced a window already.
        let announced = if self.flags.has(Flags::ACTIVE) { self.rcv_wnd_max.min(0xffff) } else { 0 };
        self.rcv_adv = self.rcv_nxt + announced;
        self.rcv_acked = self.rcv_nxt;
        // RFC 9293 3.7.1: 536 (IPv4) or 1220 (IPv6) without the option.
        let default = if self.tuple.local.is_v4() { 536 } else { 1220 };
        self.mss = self.mss.min(o.mss.unwrap_or(default).max(88));
        if o.sack {
            self.flags.set(Flags::SACK_OK);
        }
        if let Some(ts) = o.timestamps {
            self.flags.set(Flags::TIMESTAMPS);
            self.set_ts_recent(ts.val, now);
            self.mss -= TIMESTAMPS_BYTES; // Options are not in the MSS (RFC 6691).
        }
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
