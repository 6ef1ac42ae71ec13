//! What nearly every segment is: TCP over IPv4 without options, in a frame without a tag. Read and written in one piece, where
//! the general way (`parse`, `segment::write`, `Net::send`) takes a layer at a time. Whatever is unusual about a frame, or
//! wrong with it, is left to that.

use dataplane::buf::{NO_VLAN, RxFlags};
use dataplane::port::Mac;
use dataplane::{L4, Packet, TxQueue};

use crate::addr::{Addr, Tuple};
use crate::checksum::{Sum, fold};
use crate::net::{Iface, Net};
use crate::parse::{ETHERNET_LEN, protocol};
use crate::tcp::options::OPTIONS_MAX;
use crate::tcp::segment::Header;

/// Ethernet, IPv4, TCP.
const HEADERS: usize = ETHERNET_LEN + 20 + 20;
const HEADERS_MAX: usize = HEADERS + OPTIONS_MAX;
/// Of what we send.
pub(crate) const HOP_LIMIT: u8 = 64;
const CHECKSUMS_OK: u8 = RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK;

#[inline(always)]
fn be16(h: &[u8; HEADERS], at: usize) -> u16 {
    u16::from_be_bytes([h[at], h[at + 1]])
}

#[inline(always)]
fn be32(h: &[u8; HEADERS], at: usize) -> u32 {
    u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]])
}

/// Parses a frame, if it is a usual one and nothing is wrong with it; `false`, and nothing done, otherwise.
#[inline]
pub(crate) fn parse_usual(p: &mut Packet, iface: &Iface) -> bool {
    let flags = p.meta().flags;
    let f = p.head();
    let Some(h) = f.first_chunk::<HEADERS>() else { return false };
    // The ethertype, version 4 and a header of 20 bytes; what follows is the type of service.
    let is_ipv4 = be32(h, 12) & 0xffff_ff00 == 0x0800_4500;
    let is_tcp = h[23] == protocol::TCP && be16(h, 20) & 0x3fff == 0;
    if !is_ipv4 || !is_tcp || h[..6] != iface.mac || iface.vlan != NO_VLAN {
        return false;
    }
    let (total, header) = (usize::from(be16(h, 16)), usize::from(h[46] >> 4) * 4);
    if ETHERNET_LEN + total > f.len() || header < 20 || 20 + header > total {
        return false;
    }
    // Sources that there may be: not 0/8, not 127/8, nor a group. Ports that somebody has.
    let source_ok = h[26].wrapping_sub(1) < 223 && h[26] != 127 && h[26..30] != h[30..34];
    let ports = be32(h, 34);
    if !source_ok || ports >> 16 == 0 || ports & 0xffff == 0 || !iface.owns(&Addr::v4(&h[30..34])) {
        return false;
    }
    if flags.0 & CHECKSUMS_OK != CHECKSUMS_OK && !checksums_ok(&f[ETHERNET_LEN..ETHERNET_LEN + total]) {
        return false;
    }
    let m = p.meta_mut();
    m.l3 = ETHERNET_LEN as u16;
    m.l4 = ETHERNET_LEN as u16 + 20;
    m.payload = (ETHERNET_LEN + 20 + header) as u16;
    m.payload_len = (total - 20 - header) as u16;
    m.vlan = NO_VLAN;
    m.l4_kind = L4::Tcp;
    true
}

/// Our address, the peer's, and the ports (ours in the lower half) of a segment that [`parse_usual`] has parsed, or one like
/// it.
#[inline(always)]
pub(crate) fn usual_key(p: &Packet) -> Option<([u8; 4], [u8; 4], u32)> {
    let m = p.meta();
    if m.flags.has(RxFlags::IPV6) || m.l3 != ETHERNET_LEN as u16 || m.l4 != ETHERNET_LEN as u16 + 20 {
        return None;
    }
    let h = p.head().first_chunk::<HEADERS>()?;
    Some(([h[30], h[31], h[32], h[33]], [h[26], h[27], h[28], h[29]], be32(h, 34)))
}

/// Both of a packet without IP options.
fn checksums_ok(ip: &[u8]) -> bool {
    let Some((h, segment)) = ip.split_first_chunk::<20>() else { return false };
    let mut of_ip = Sum::default();
    of_ip.add(h);
    let mut of_tcp = Sum::default();
    of_tcp.add_pseudo(&h[12..16], &h[16..20], protocol::TCP, segment.len());
    of_tcp.add(segment);
    of_ip.is_valid() && of_tcp.is_valid()
}

/// How a segment leaves, beside what its connection's tuple says.
#[derive(Clone, Copy)]
pub(crate) struct Leaves<'a> {
    /// The port to leave by.
    pub port: u8,
    /// The station to hand it to, where that is known.
    pub mac: Option<&'a Mac>,
    /// ECN codepoint.
    pub ecn: u8,
}

impl Net {
    /// Puts all headers in front of a segment's payload and queues it, where that is what is usual; gives it back
    /// otherwise. The options are the first `n` bytes of `options`.
    #[inline(always)]
    pub(crate) fn send_usual(
        &mut self,
        mut p: Packet,
        (h, options, n): (&Header, &[u8; OPTIONS_MAX], usize),
        tuple: &Tuple,
        leaves: &Leaves<'_>,
        tx: &mut [TxQueue],
    ) -> Result<(), Packet> {
        let iface = &self.ifaces[usize::from(leaves.port)];
        let Some(mac) = leaves.mac.or(iface.peer_mac.as_ref()) else { return Err(p) };
        let (Some(src), Some(dst)) = (tuple.local.as_v4(), tuple.remote.as_v4()) else { return Err(p) };
        if iface.vlan != NO_VLAN {
            return Err(p);
        }
        let offload = iface.tx_checksum_offload;
        let (mut payload, mut data) = (0, Sum::default());
        for s in p.tail() {
            payload += s.len();
            if !offload {
                data.add(s);
            }
        }
        let len = 20 + n + payload;
        let id = self.ip_id.wrapping_add(1);
        let Some(f) = p.begin::<HEADERS_MAX>(ETHERNET_LEN + 20, HEADERS + n) else { return Err(p) };
        self.ip_id = id;
        f[..6].copy_from_slice(mac);
        f[6..12].copy_from_slice(&iface.mac);
        let mut put = |at: usize, word: u32| f[at..at + 4].copy_from_slice(&word.to_be_bytes());
        // Words as numbers: their sum, folded, is the checksum's.
        let addresses = u64::from(src) + u64::from(dst);
        let first = 0x4500_0000 | u32::from(leaves.ecn) << 16 | (len as u32 + 20) & 0xffff;
        let second = u32::from(id) << 16 | 0x4000; // don't fragment
        let third = u32::from(HOP_LIMIT) << 24 | u32::from(protocol::TCP) << 16;
        let sum = addresses + u64::from(first) + u64::from(second) + u64::from(third);
        put(14, first);
        put(18, second);
        put(22, third | u32::from(!fold(sum)));
        put(26, src);
        put(30, dst);
        let ports = u32::from(h.src_port) << 16 | u32::from(h.dst_port);
        let fourth = (20 + n as u32) << 26 | u32::from(h.bits) << 16 | u32::from(h.window);
        put(34, ports);
        put(38, h.seq.0);
        put(42, h.ack.0);
        put(46, fourth);
        let mut sum = addresses + u64::from(protocol::TCP) + (len as u64 & 0xffff);
        let checksum = if offload {
            fold(sum) // Where a device goes on from.
        } else {
            sum += u64::from(ports) + u64::from(h.seq.0) + u64::from(h.ack.0) + u64::from(fourth);
            sum += options[..n]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|w| u64::from(u32::from_be_bytes(*w)))
                .sum::<u64>();
            !fold(sum + u64::from(data.value()))
        };
        put(50, u32::from(checksum) << 16);
        f[12] = 8;
        f[13] = 0;
        f[HEADERS..].copy_from_slice(options);
        let m = p.meta_mut();
        m.port = leaves.port;
        if offload {
            m.flags.set(RxFlags::L4_CHECKSUM_BLANK);
        }
        tx[usize::from(leaves.port)].push(p);
        Ok(())
    }
}
