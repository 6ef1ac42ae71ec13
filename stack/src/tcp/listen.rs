//! Segments without a connection: LISTEN, TIME-WAIT, CLOSED (RFC 9293 3.10.7.1, 3.10.7.2).

use dataplane::{Ctr, Packet, Time, TxQueue};

use super::emit::Reply;
use super::input::Verdict;
use super::options::{SynOptions, TIMESTAMPS_BYTES};
use super::segment::{Segment, bits};
use super::tcb::{Flags, State};
use super::{PortRole, Tcp};
use crate::addr::Tuple;
use crate::net::Net;
use crate::parse::source_mac;

impl Tcp {
    #[inline(never)] // Out of the way of segments that have a connection.
    #[allow(clippy::too_many_arguments)] // One segment, parsed in steps.
    pub(super) fn no_flow(
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
        let algorithm = self.listeners[listener as usize].congestion.choose((hash >> 32) as u32);
        self.set_algorithm(id, algorithm);
        let t = &mut self.table.flows[id];
        t.state = State::SynReceived;
        t.listener = listener;
        t.mac = mac;
        for f in [Flags::HAS_MAC, Flags::HALF_OPEN, Flags::SYN_NOW] {
            t.flags.set(f);
        }
        t.take_syn(seg, &SynOptions::read(p), scale, now);
        t.start_sending(iss);
        t.last_heard = now;
        t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        self.want_output(id);
        self.rearm(id);
        Ok(())
    }
}

impl super::Tcb {
    /// Takes what a SYN says.
    pub(super) fn take_syn(&mut self, seg: &Segment, o: &SynOptions, our_scale: u8, now: Time) {
        self.irs = seg.seq;
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
