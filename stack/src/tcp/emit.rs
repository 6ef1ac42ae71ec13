//! Building segments: SYNs, ACKs, probes, data; and answers without a connection. All state that a segment reports
//! (acknowledgment, window, options) is written here.

use dataplane::{Ctr, Packet, Time, TxQueue};

use super::ecn::ECT0;
use super::options::{OPTIONS_MAX, Options, SynOptions, Timestamps};
use super::output::Sending;
use super::rate::micros;
use super::segment::{self, Header, Segment, bits};
use super::tcb::{Flags, State, Tcb};
use super::time_wait::Waiting;
use super::timestamps::clock_ms;
use super::{EcnUse, Seq, Tcp};
use crate::addr::Tuple;
use crate::frame::{HOP_LIMIT, Leaves};
use crate::net::{Net, Path};
use crate::parse::{addresses, protocol, source_mac};

/// ACKs for out-of-order arrivals that one pass sends at most.
const OWED_ACKS_MAX: u8 = 8;
/// The same where one ACK tells of all of them (RFC 2018): as many as a sender that counts them all the same waits for.
const OWED_SACKS_MAX: u8 = 3;

/// An answer to a segment that belongs to no connection of ours.
pub(super) enum Reply {
    /// RST (RFC 9293 3.10.7.1).
    Reset,
    /// ACK, from TIME-WAIT; the second is what its timestamps are ahead of the clock.
    Ack(Waiting, u32),
}

impl Sending<'_> {
    /// Sends the ACKs that no data carried. Gives whether none is left: `false` when there was no room.
    pub(super) fn send_acks(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        // One ACK for each out-of-order arrival: the peer counts them to find its loss (RFC 5681 3.2).
        let most = if t.flags.has(Flags::SACK_OK) { OWED_SACKS_MAX } else { OWED_ACKS_MAX };
        let owed = t.acks_owed.min(most).max(u8::from(t.flags.has(Flags::ACK_NOW)));
        let (port, seq) = (t.port as usize, t.ack_seq());
        for sent in 0..owed {
            if tx[port].room() == 0 || !self.emit(t, net, tx, seq, bits::ACK, &[], None, now) {
                t.acks_owed = owed - sent;
                return false;
            }
        }
        t.acks_owed = 0;
        true
    }

    /// Sends a probe that is wanted. Gives `false` when there was no room.
    pub(super) fn send_probe(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        if !t.flags.has(Flags::PROBE_NOW) {
            return true;
        }
        let seq = t.snd_una - 1;
        if tx[t.port as usize].room() == 0 || !self.emit(t, net, tx, seq, bits::ACK, &[], None, now) {
            return false;
        }
        t.flags.clear(Flags::PROBE_NOW);
        true
    }

    /// Sends our SYN or SYN-ACK. Gives whether it was built.
    pub(super) fn send_syn(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let passive = t.state == State::SynReceived;
        let bits = match passive {
            // A SYN that was not answered may have been thrown away for its asking (RFC 3168 6.1.1.1).
            false if self.config.ecn == EcnUse::Always && t.backoff == 0 => bits::SYN | bits::ECE | bits::CWR,
            false => bits::SYN,
            true if t.flags.has(Flags::ECN) => bits::SYN | bits::ACK | bits::ECE,
            true => bits::SYN | bits::ACK,
        };
        let iface = &net.ifaces[t.port as usize];
        let headers = if t.tuple.local.is_v4() { 40 } else { 60 };
        let scale = !passive || t.flags.has(Flags::SCALED);
        let options = SynOptions {
            mss: Some(self.config.our_mss(iface.mtu, headers)),
            window_scale: scale.then_some(self.config.window_scale),
            sack: !passive || t.flags.has(Flags::SACK_OK),
            timestamps: if !passive {
                Some(Timestamps { val: t.ts_now(now), ecr: 0 })
            } else {
                t.flags.has(Flags::TIMESTAMPS).then(|| t.timestamps(now))
            },
        };
        let mut o = [0; OPTIONS_MAX];
        let n = options.write(&mut o);
        let iss = t.iss;
        if !self.emit(t, net, tx, iss, bits, &o[..n], None, now) {
            return false;
        }
        t.flags.clear(Flags::SYN_NOW);
        if t.snd_nxt == iss {
            t.rate.first_sent_us = micros(now);
            t.flags.set(Flags::TIMING);
        } else {
            t.flags.clear(Flags::TIMING);
            self.counters.inc(Ctr::TcpRetransmits);
        }
        t.snd_nxt = iss + 1;
        true
    }

    /// Builds and queues one segment. Every segment carries the latest acknowledgment and window.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // The fields of one segment.
    pub(super) fn emit(
        &self,
        t: &mut Tcb,
        net: &mut Net,
        tx: &mut [TxQueue],
        seq: Seq,
        flags: u8,
        options: &[u8],
        payload: Option<Packet>,
        now: Time,
    ) -> bool {
        self.emit_here(t, net, tx, seq, flags, options, payload, now)
    }

    /// The same, without a call: for what is sent most.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // As above.
    pub(super) fn emit_here(
        &self,
        t: &mut Tcb,
        net: &mut Net,
        tx: &mut [TxQueue],
        seq: Seq,
        flags: u8,
        options: &[u8],
        payload: Option<Packet>,
        now: Time,
    ) -> bool {
        let Some(p) = payload.or_else(|| net.headers.alloc()) else {
            self.counters.inc(Ctr::TcpNoHeader);
            return false;
        };
        let room = self.rx.window_limit();
        let mut window = 0;
        if flags & bits::ACK != 0 {
            let is_syn = flags & bits::SYN != 0;
            let scale = if is_syn { 0 } else { t.rcv_wscale };
            let w = t.window_field(room, scale);
            window = w as u16;
            t.rcv_adv = t.rcv_adv.max(t.rcv_nxt + (w << scale));
            t.rcv_acked = t.rcv_nxt;
            t.ack_at = Time::NEVER;
            t.unacked_segments = 0;
            t.flags.clear(Flags::ACK_NOW);
        } else if flags & bits::SYN != 0 {
            window = self.config.first_window();
        }
        let (mut flags, mut ecn) = (flags, 0);
        if t.flags.has(Flags::ECN) && flags & (bits::SYN | bits::RST) == 0 {
            flags |= if t.flags.has(Flags::ECN_ECHO) { bits::ECE } else { 0 };
            if t.flags.has(Flags::NEW_DATA) {
                ecn = ECT0;
                flags |= if t.flags.has(Flags::CWR_NEXT) { bits::CWR } else { 0 };
                t.flags.clear(Flags::CWR_NEXT);
            }
        }
        t.flags.clear(Flags::NEW_DATA);
        let h = Header {
            src_port: t.tuple.local_port,
            dst_port: t.tuple.remote_port,
            seq,
            ack: if flags & bits::ACK != 0 { t.rcv_nxt } else { Seq(0) },
            bits: flags,
            window,
        };
        let mut room = [0; OPTIONS_MAX];
        let n = if flags & bits::SYN != 0 {
            room[..options.len()].copy_from_slice(options);
            options.len()
        } else {
            t.options(&p, flags, now, &mut room)
        };
        t.tally.segments_out = t.tally.segments_out.wrapping_add(1);
        self.counters.inc(Ctr::TcpSegmentsOut);
        let leaves = Leaves { port: t.port, mac: t.flags.has(Flags::HAS_MAC).then_some(&t.mac), ecn };
        send(net, p, (&h, &room, n), &t.tuple, (&leaves, t.hash), tx, now);
        true
    }
}

impl Tcp {
    /// Answers a segment that belongs to no connection.
    pub(super) fn reply(&mut self, net: &mut Net, to: &Packet, r: Reply, tx: &mut [TxQueue], now: Time) {
        let seg = Segment::read(to);
        let (src, dst) = addresses(to);
        let (src_port, dst_port) = segment::ports(to);
        let mut options = Options::default();
        let (seq, ack, flags) = match r {
            Reply::Reset => {
                if seg.has(bits::RST) {
                    return;
                }
                self.counters.inc(Ctr::TcpResetsSent);
                if seg.has(bits::ACK) {
                    (seg.ack, Seq(0), bits::RST)
                } else {
                    (Seq(0), seg.seq + seg.seq_len(), bits::RST | bits::ACK)
                }
            }
            Reply::Ack(w, offset) => {
                let val = clock_ms(now).wrapping_add(offset);
                options.timestamps = w.ts_recent.map(|ecr| Timestamps { val, ecr });
                (w.snd_nxt, w.rcv_nxt, bits::ACK)
            }
        };
        let Some(p) = net.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return;
        };
        let h = Header { src_port: dst_port, dst_port: src_port, seq, ack, bits: flags, window: 0 };
        let mut room = [0; OPTIONS_MAX];
        let n = options.write(&mut room);
        let tuple = Tuple { local: dst, remote: src, local_port: dst_port, remote_port: src_port };
        let leaves = Leaves { port: to.meta().port, mac: Some(&source_mac(to)), ecn: 0 };
        self.counters.inc(Ctr::TcpSegmentsOut);
        send(net, p, (&h, &room, n), &tuple, (&leaves, 0), tx, now);
    }
}

/// Puts the headers of a segment, whose options are the first `n` bytes of `options`, in front of its payload and queues
/// it.
#[inline(always)]
pub(super) fn send(
    net: &mut Net,
    p: Packet,
    segment: (&Header, &[u8; OPTIONS_MAX], usize),
    tuple: &Tuple,
    (leaves, flow_label): (&Leaves<'_>, u32),
    tx: &mut [TxQueue],
    now: Time,
) {
    if let Err(p) = net.send_usual(p, segment, tuple, leaves, tx) {
        send_layers(net, p, segment, tuple, (leaves, flow_label), tx, now);
    }
}

/// The same, a layer at a time.
#[inline(never)]
fn send_layers(
    net: &mut Net,
    mut p: Packet,
    (h, options, n): (&Header, &[u8; OPTIONS_MAX], usize),
    tuple: &Tuple,
    (leaves, flow_label): (&Leaves<'_>, u32),
    tx: &mut [TxQueue],
    now: Time,
) {
    let offload = net.ifaces[usize::from(leaves.port)].tx_checksum_offload;
    segment::write(&mut p, h, &options[..n], &tuple.local, &tuple.remote, !offload);
    let path = Path {
        port: leaves.port,
        src: tuple.local,
        dst: tuple.remote,
        mac: leaves.mac.copied(),
        protocol: protocol::TCP,
        hop_limit: HOP_LIMIT,
        flow_label,
        ecn: leaves.ecn,
    };
    net.send(p, &path, tx, now);
}

impl super::Tcb {
    /// Writes the options of a segment without SYN: timestamps where they were agreed (in a RST too: RFC 7323 3.2), and
    /// what waits out of order, as far as there is room beside the payload. Gives the length.
    #[inline(always)]
    fn options(&mut self, p: &Packet, flags: u8, now: Time, out: &mut [u8; OPTIONS_MAX]) -> usize {
        if !self.sack_out.is_empty() {
            return self.options_with_blocks(p, flags, now, out);
        }
        if !self.flags.has(Flags::TIMESTAMPS) {
            return 0;
        }
        self.timestamps(now).write(out)
    }

    #[inline(never)]
    fn options_with_blocks(
        &mut self,
        p: &Packet,
        flags: u8,
        now: Time,
        out: &mut [u8; OPTIONS_MAX],
    ) -> usize {
        let mut o = Options::default();
        if self.flags.has(Flags::TIMESTAMPS) {
            o.timestamps = Some(self.timestamps(now));
        }
        if self.flags.has(Flags::SACK_OK) && flags & bits::RST == 0 {
            let payload: usize = p.tail().iter().map(|s| s.len()).sum();
            // Mostly an ACK alone. Data leaves room at the end of a stream; full segments go without.
            if payload + OPTIONS_MAX <= usize::from(self.mss) || payload == 0 {
                o.sack = self.sack_out.take();
            }
        }
        o.write(out)
    }

    /// The sequence number of a segment without data: that of the next data, whatever is being sent again,
    /// but within the peer's window, or the peer would throw it away, acknowledgment and all.
    pub(super) fn ack_seq(&self) -> Seq {
        self.snd_nxt.min(self.snd_una + self.snd_wnd)
    }
}
