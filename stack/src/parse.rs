//! L2 to L4 of a received frame: offsets into its [`Meta`](dataplane::Meta), or the reason to drop it.
//!
//! Everything that the later stages take for granted is settled here: lengths lie within the frame, both
//! checksums are right, the destination is ours, the source is one that packets may come from.

use dataplane::buf::{NO_VLAN, RxFlags};
use dataplane::{Ctr, L4, Packet};

use crate::addr::Addr;
use crate::checksum::Sum;
use crate::net::Iface;

/// Length of an Ethernet header without tag.
pub const ETHERNET_LEN: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Protocol numbers (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMP6: u8 = 58;
}

/// Extension headers that one packet may carry (RFC 8200 gives no bound; more are an attack).
const EXTENSIONS_MAX: usize = 8;

/// Two bytes of a header.
#[inline]
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// Parses a frame received on `iface`.
///
/// # Errors
/// The counter of the reason to drop it.
pub fn parse(p: &mut Packet, iface: &Iface) -> Result<(), Ctr> {
    let f = p.head();
    if f.len() < ETHERNET_LEN {
        return Err(Ctr::DropL2Malformed);
    }
    let group = f[0] & 1 != 0;
    if !group && f[..6] != iface.mac {
        return Err(Ctr::DropL2NotOurs);
    }
    let (mut ethertype, mut l3, mut vlan) = (be16(f, 12), ETHERNET_LEN, NO_VLAN);
    if ethertype == ETHERTYPE_VLAN {
        if f.len() < ETHERNET_LEN + 4 {
            return Err(Ctr::DropL2Malformed);
        }
        // VLAN 0 is a priority tag: the frame belongs to no VLAN (IEEE 802.1Q 6.9).
        let id = be16(f, 14) & 0x0fff;
        vlan = if id == 0 { NO_VLAN } else { id };
        ethertype = be16(f, 16);
        l3 += 4;
    }
    if vlan != iface.vlan {
        return Err(Ctr::DropL2Vlan);
    }
    let m = p.meta_mut();
    m.l3 = l3 as u16;
    m.vlan = vlan;
    if group {
        m.flags.set(RxFlags::L2_GROUP);
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(p, l3, iface),
        ETHERTYPE_IPV6 => ipv6(p, l3, iface),
        ETHERTYPE_ARP => {
            p.meta_mut().l4_kind = L4::Arp;
            Ok(())
        }
        _ => Err(Ctr::DropL2Ethertype),
    }
}

fn ipv4(p: &mut Packet, l3: usize, iface: &Iface) -> Result<(), Ctr> {
    let flags = p.meta().flags;
    let ip = &p.head()[l3..];
    if ip.len() < 20 || ip[0] >> 4 != 4 {
        return Err(Ctr::DropIp4Malformed);
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(be16(ip, 2));
    if header < 20 || total < header || total > ip.len() {
        return Err(Ctr::DropIp4Malformed);
    }
    if !flags.has(RxFlags::L3_CHECKSUM_OK) {
        let mut s = Sum::default();
        s.add(&ip[..header]);
        if !s.is_valid() {
            return Err(Ctr::DropIp4Checksum);
        }
    }
    // MF set or an offset: RFC 791.
    if be16(ip, 6) & 0x3fff != 0 {
        return Err(Ctr::DropIp4Fragment);
    }
    let (src, dst) = (Addr::v4(&ip[12..16]), Addr::v4(&ip[16..20]));
    if !iface.owns(&dst) || flags.has(RxFlags::L2_GROUP) {
        return Err(Ctr::DropIp4NotOurs);
    }
    // RFC 1122 3.2.1.3: 0/8, loopback from outside, multicast and broadcast are never sources.
    if src.is_group() || ip[12] == 0 || (src.is_loopback() && !dst.is_loopback()) {
        return Err(Ctr::DropIpMartian);
    }
    let proto = ip[9];
    l4(p, proto, l3, l3 + header, l3 + total, src, dst)
}

fn ipv6(p: &mut Packet, l3: usize, iface: &Iface) -> Result<(), Ctr> {
    let group = p.meta().flags.has(RxFlags::L2_GROUP);
    let ip = &p.head()[l3..];
    if ip.len() < 40 || ip[0] >> 4 != 6 {
        return Err(Ctr::DropIp6Malformed);
    }
    let end = 40 + usize::from(be16(ip, 4));
    if end > ip.len() {
        return Err(Ctr::DropIp6Malformed);
    }
    let (src, dst) = (Addr::v6(&ip[8..24]), Addr::v6(&ip[24..40]));
    // An IPv4-mapped address on the wire would be taken for IPv4 by our tables (RFC 4942 2.2).
    if src.is_group() || src.is_v4() || (src.is_loopback() && !dst.is_loopback()) {
        return Err(Ctr::DropIpMartian);
    }
    let for_us = if dst.is_group() { iface.in_group(&dst) } else { iface.owns(&dst) && !group };
    if !for_us || dst.is_v4() {
        return Err(Ctr::DropIp6NotOurs);
    }
    let (mut next, mut at) = (ip[6], 40);
    let mut seen = 0;
    // Hop-by-hop, routing, destination options: skipped. Their options ask nothing of an end host that
    // answers no jumbograms.
    while matches!(next, 0 | 43 | 60) {
        seen += 1;
        if seen > EXTENSIONS_MAX || at + 8 > end || (next == 0 && at != 40) {
            return Err(Ctr::DropIp6Malformed);
        }
        // A routing header with segments left is not for us to process (RFC 5095 and 8200 4.4).
        if next == 43 && ip[at + 3] != 0 {
            return Err(Ctr::DropIp6Malformed);
        }
        next = ip[at];
        at += 8 + usize::from(ip[at + 1]) * 8;
        if at > end {
            return Err(Ctr::DropIp6Malformed);
        }
    }
    if next == 44 {
        return Err(Ctr::DropIp6Fragment);
    }
    // The unspecified source is for address resolution only (RFC 4291 2.5.2).
    if src == Addr::UNSPECIFIED && next != protocol::ICMP6 {
        return Err(Ctr::DropIpMartian);
    }
    p.meta_mut().flags.set(RxFlags::IPV6);
    l4(p, next, l3, l3 + at, l3 + end, src, dst)
}

fn l4(p: &mut Packet, proto: u8, l3: usize, at: usize, end: usize, src: Addr, dst: Addr) -> Result<(), Ctr> {
    let flags = p.meta().flags;
    let is_v6 = flags.has(RxFlags::IPV6);
    let seg = &p.head()[at..end];
    let checksum_ok = || {
        if flags.has(RxFlags::L4_CHECKSUM_OK) {
            return true;
        }
        let mut s = Sum::default();
        s.add_pseudo(src.wire(), dst.wire(), proto, seg.len());
        s.add(seg);
        s.is_valid()
    };
    let (kind, header) = match proto {
        protocol::TCP => {
            let header = if seg.len() >= 20 { usize::from(seg[12] >> 4) * 4 } else { 0 };
            if header < 20 || header > seg.len() {
                return Err(Ctr::DropTcpMalformed);
            }
            if !checksum_ok() {
                return Err(Ctr::DropTcpChecksum);
            }
            // A connection with itself ("land"), and port 0, which nobody has.
            if (src == dst && seg[..2] == seg[2..4]) || be16(seg, 0) == 0 || be16(seg, 2) == 0 {
                return Err(Ctr::DropIpMartian);
            }
            if dst.is_group() {
                return Err(Ctr::DropIp6NotOurs);
            }
            (L4::Tcp, header)
        }
        protocol::UDP => {
            if seg.len() < 8 || usize::from(be16(seg, 4)) < 8 || usize::from(be16(seg, 4)) > seg.len() {
                return Err(Ctr::DropUdpMalformed);
            }
            // Zero means "none": allowed over IPv4 only (RFC 768, RFC 8200 8.1).
            let none = be16(seg, 6) == 0;
            if (none && is_v6) || (!none && !checksum_ok()) {
                return Err(Ctr::DropUdpChecksum);
            }
            (L4::Udp, 8)
        }
        protocol::ICMP if !is_v6 => {
            let mut s = Sum::default();
            s.add(seg);
            if seg.len() < 8 {
                return Err(Ctr::DropIcmpMalformed);
            }
            if !s.is_valid() {
                return Err(Ctr::DropIcmpChecksum);
            }
            (L4::Icmp4, 8)
        }
        protocol::ICMP6 if is_v6 => {
            if seg.len() < 8 {
                return Err(Ctr::DropIcmpMalformed);
            }
            let mut s = Sum::default();
            s.add_pseudo(src.wire(), dst.wire(), proto, seg.len());
            s.add(seg);
            if !s.is_valid() {
                return Err(Ctr::DropIcmpChecksum);
            }
            (L4::Icmp6, 8)
        }
        other => (L4::Other(other), 0),
    };
    // UDP's own length may be shorter than the IP payload; what is behind it is not the datagram's.
    let payload_len = match kind {
        L4::Udp => usize::from(be16(seg, 4)) - 8,
        _ => seg.len() - header,
    };
    let m = p.meta_mut();
    m.l3 = l3 as u16;
    m.l4 = at as u16;
    m.l4_kind = kind;
    m.payload = (at + header) as u16;
    m.payload_len = payload_len as u16;
    Ok(())
}

/// Source and destination address of a parsed IP packet.
#[inline]
pub fn addresses(p: &Packet) -> (Addr, Addr) {
    let l3 = p.meta().l3 as usize;
    let ip = &p.head()[l3..];
    if p.meta().flags.has(RxFlags::IPV6) {
        (Addr::v6(&ip[8..24]), Addr::v6(&ip[24..40]))
    } else {
        (Addr::v4(&ip[12..16]), Addr::v4(&ip[16..20]))
    }
}

/// The ECN codepoint of a parsed IP packet (RFC 3168 5).
#[inline]
pub fn ecn(p: &Packet) -> u8 {
    let l3 = p.meta().l3 as usize;
    let second = p.head()[l3 + 1];
    if p.meta().flags.has(RxFlags::IPV6) { second >> 4 & 3 } else { second & 3 }
}

/// The source MAC of a frame.
#[inline]
pub fn source_mac(p: &Packet) -> [u8; 6] {
    let mut m = [0; 6];
    m.copy_from_slice(&p.head()[6..12]);
    m
}
