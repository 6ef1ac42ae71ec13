//! ICMP (RFC 792, 1122) and ICMPv6 (RFC 4443): echo, errors that we send, errors that we receive.

use dataplane::buf::RxFlags;
use dataplane::{Ctr, L4, Packet, Time, TxQueue};

use crate::addr::{Addr, Tuple};
use crate::arp_nd::is_group;
use crate::checksum::{Sum, checksum};
use crate::net::{Net, Path};
use crate::parse::{addresses, be16, protocol, source_mac};

/// Errors that we send in a second, at most (RFC 4443 2.4 f, RFC 1812 4.3.2.8).
pub const ERRORS_PER_SECOND: u64 = 100;

/// Why a packet is answered by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing listens on the UDP port.
    PortUnreachable,
    /// We do not speak the protocol.
    ProtocolUnreachable,
}

/// What an ICMP error says about a TCP connection of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpError {
    /// The connection, as its end here.
    pub tuple: Tuple,
    /// The sequence number that the quoted segment had.
    pub seq: u32,
    /// Whether the destination cannot be reached at all (protocol or port unreachable), as far as the sender
    /// knows.
    pub hard: bool,
    /// MTU of the next hop, for packet-too-big.
    pub mtu: Option<u32>,
}

/// What became of an ICMP packet.
pub enum Taken {
    /// Dealt with.
    Done,
    /// It is about a TCP connection: what it says, and the packet itself.
    Tcp(TcpError, Packet),
}

/// A token bucket for errors.
#[derive(Default)]
pub struct ErrorBudget {
    second: u64,
    sent: u64,
}

impl ErrorBudget {
    fn take(&mut self, now: Time) -> bool {
        let second = now.0 / 1_000_000_000;
        if second != self.second {
            (self.second, self.sent) = (second, 0);
        }
        self.sent += 1;
        self.sent <= ERRORS_PER_SECOND
    }
}

impl Net {
    /// Takes an ICMPv4 packet (its checksum is right).
    ///
    /// # Errors
    /// The counter of the reason to drop it.
    pub fn icmp4_input(&mut self, p: Packet, tx: &mut [TxQueue], now: Time) -> Result<Taken, Ctr> {
        let m = *p.meta();
        let icmp = &p.head()[m.l4 as usize..(m.payload + m.payload_len) as usize];
        match icmp[0] {
            8 => self.echo(p, 0, tx, now),
            _ => quoted_connection(&p).unwrap_or(Err(Ctr::DropIcmpUnhandled)).map(|e| Taken::Tcp(e, p)),
        }
    }

    /// Takes an ICMPv6 packet (its checksum is right).
    ///
    /// # Errors
    /// The counter of the reason to drop it.
    pub fn icmp6_input(&mut self, p: Packet, tx: &mut [TxQueue], now: Time) -> Result<Taken, Ctr> {
        let m = *p.meta();
        let icmp = &p.head()[m.l4 as usize..(m.payload + m.payload_len) as usize];
        match icmp[0] {
            128 => self.echo(p, 129, tx, now),
            t if crate::arp_nd::is_nd(t) => self.nd_input(&p, tx, now).map(|()| Taken::Done),
            _ => quoted_connection(&p).unwrap_or(Err(Ctr::DropIcmpUnhandled)).map(|e| Taken::Tcp(e, p)),
        }
    }

    /// Answers an echo request: the request's own bytes, in its own cell, behind new headers.
    fn echo(&mut self, p: Packet, reply: u8, tx: &mut [TxQueue], now: Time) -> Result<Taken, Ctr> {
        let (src, dst) = addresses(&p);
        let m = *p.meta();
        // RFC 1122 3.2.2.6 lets us be silent to groups; RFC 4443 4.2 wants an answer from an own address,
        // which is more than an amplifier deserves.
        if is_group(&p) || dst.is_group() {
            return Err(Ctr::DropIcmpUnhandled);
        }
        let mac = source_mac(&p);
        let len = (m.payload + m.payload_len - m.l4) as usize;
        let Some(mut out) = self.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return Ok(Taken::Done);
        };
        let mut head = [0u8; 8];
        head.copy_from_slice(&p.head()[m.l4 as usize..m.l4 as usize + 8]);
        head[0] = reply;
        head[2..4].copy_from_slice(&[0, 0]);
        let body = p.into_slice(m.l4 as usize + 8, len - 8);
        let mut s = Sum::default();
        if !dst.is_v4() {
            s.add_pseudo(&dst.0, &src.0, protocol::ICMP6, len);
        }
        s.add(&head);
        s.add(&body);
        head[2..4].copy_from_slice(&s.finish().to_be_bytes());
        out.append(&head);
        // A fresh header cell has an empty tail.
        let _ = out.attach(body);
        self.counters.inc(Ctr::IcmpEchoReplies);
        let protocol = if dst.is_v4() { protocol::ICMP } else { protocol::ICMP6 };
        let path = Path {
            port: m.port,
            src: dst,
            dst: src,
            mac: Some(mac),
            protocol,
            hop_limit: 64,
            flow_label: 0,
            ecn: 0,
        };
        self.send(out, &path, tx, now);
        Ok(Taken::Done)
    }

    /// Answers a packet by an error, within the rate limit.
    pub fn send_error(
        &mut self,
        p: &Packet,
        kind: ErrorKind,
        budget: &mut ErrorBudget,
        tx: &mut [TxQueue],
        now: Time,
    ) {
        let (src, dst) = addresses(p);
        // Never about a packet to a group, or from nowhere (RFC 1122 3.2.2).
        if is_group(p) || dst.is_group() || src == Addr::UNSPECIFIED {
            return;
        }
        if !budget.take(now) {
            self.counters.inc(Ctr::IcmpErrorsLimited);
            return;
        }
        let Some(mut out) = self.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return;
        };
        let m = *p.meta();
        let v6 = m.flags.has(RxFlags::IPV6);
        let offending = &p.head()[m.l3 as usize..(m.payload + m.payload_len) as usize];
        let mut head = [0u8; 8];
        (head[0], head[1]) = match (kind, v6) {
            (ErrorKind::PortUnreachable, false) => (3, 3),
            (ErrorKind::ProtocolUnreachable, false) => (3, 2),
            (ErrorKind::PortUnreachable, true) => (1, 4),
            (ErrorKind::ProtocolUnreachable, true) => (4, 1),
        };
        if v6 && kind == ErrorKind::ProtocolUnreachable {
            head[4..8].copy_from_slice(&6u32.to_be_bytes()); // pointer: the next-header field
        }
        // What fits a header cell: more than the 8 bytes beyond the IP header that RFC 792 asks for.
        let quote = &offending[..offending.len().min(if v6 { 40 + 24 } else { 60 + 8 })];
        let mut s = Sum::default();
        if v6 {
            s.add_pseudo(&dst.0, &src.0, protocol::ICMP6, 8 + quote.len());
        }
        s.add(&head);
        s.add(quote);
        head[2..4].copy_from_slice(&s.finish().to_be_bytes());
        if !(out.append(&head) && out.append(quote)) {
            return;
        }
        self.counters.inc(Ctr::IcmpErrorsSent);
        let protocol = if v6 { protocol::ICMP6 } else { protocol::ICMP };
        let mac = Some(source_mac(p));
        let path =
            Path { port: m.port, src: dst, dst: src, mac, protocol, hop_limit: 64, flow_label: 0, ecn: 0 };
        self.send(out, &path, tx, now);
    }
}

/// What an ICMP or ICMPv6 error says of the TCP connection that it quotes; `None`: it is not an error.
pub(crate) fn quoted_connection(p: &Packet) -> Option<Result<TcpError, Ctr>> {
    let m = p.meta();
    let icmp = &p.head()[m.l4 as usize..(m.payload + m.payload_len) as usize];
    match (m.l4_kind, icmp[0]) {
        (L4::Icmp4, 3 | 11 | 12) => {
            let mtu = (icmp[0] == 3 && icmp[1] == 4).then(|| u32::from(be16(icmp, 6)));
            let hard = icmp[0] == 3 && matches!(icmp[1], 2 | 3);
            Some(quoted_tcp4(&icmp[8..], hard, mtu))
        }
        (L4::Icmp6, 1..=4) => {
            let mtu = (icmp[0] == 2).then(|| u32::from_be_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]));
            let hard = (icmp[0] == 1 && icmp[1] == 4) || icmp[0] == 4;
            Some(quoted_tcp6(&icmp[8..], hard, mtu))
        }
        _ => None,
    }
}

fn quoted_tcp4(ip: &[u8], hard: bool, mtu: Option<u32>) -> Result<TcpError, Ctr> {
    if ip.len() < 20 || ip[0] >> 4 != 4 {
        return Err(Ctr::DropIcmpMalformed);
    }
    let header = usize::from(ip[0] & 15) * 4;
    // Our own packets: 20 bytes of header with a right checksum.
    if header != 20 || checksum(&ip[..20]) != 0 || ip[9] != protocol::TCP || ip.len() < 28 {
        return Err(Ctr::DropIcmpUnmatched);
    }
    Ok(quoted(Addr::v4(&ip[12..16]), Addr::v4(&ip[16..20]), &ip[20..], hard, mtu))
}

fn quoted_tcp6(ip: &[u8], hard: bool, mtu: Option<u32>) -> Result<TcpError, Ctr> {
    if ip.len() < 40 || ip[0] >> 4 != 6 {
        return Err(Ctr::DropIcmpMalformed);
    }
    if ip[6] != protocol::TCP || ip.len() < 48 {
        return Err(Ctr::DropIcmpUnmatched);
    }
    Ok(quoted(Addr::v6(&ip[8..24]), Addr::v6(&ip[24..40]), &ip[40..], hard, mtu))
}

fn quoted(local: Addr, remote: Addr, tcp: &[u8], hard: bool, mtu: Option<u32>) -> TcpError {
    let tuple = Tuple { local, remote, local_port: be16(tcp, 0), remote_port: be16(tcp, 2) };
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    TcpError { tuple, seq, hard, mtu }
}
