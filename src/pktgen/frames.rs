//! Frames of a stream: a template that is copied into each, and what varies written over it. Checksums are not counted
//! anew: the sums of what never changes are known. A long filling is one cell of zeroes that all share.

use dataplane::buf::{HEADROOM, TAIL_MAX};
use dataplane::port::Mac;
use dataplane::rng::Rng;
use dataplane::{Packet, Pool, Slice, Time};
use hugepages::{PagePolicy, ReserveError};
use stack::Sum;
use stack::parse::protocol;

use super::field::{Field, Near, Varied};
use super::probe::{self, Signature};
use super::rate::FCS_BYTES;
use super::spec::{DNS_BYTES, Kind, SIZE_MAX, Size, Spec, flag};

/// A template is copied in such pieces.
const PIECE_BYTES: usize = 64;
/// Headers, a DNS message or a probe's signature, and what is filled in place: in whole pieces.
pub const TEMPLATE_BYTES: usize = 4 * PIECE_BYTES;
/// A filling up to here is part of the template.
const INLINE_BYTES: usize = 128;
/// Bytes of a cell for headers. An odd number of cache lines: cells do not all begin in the same sets of a cache.
const HEAD_CELL_BYTES: u32 = (HEADROOM + TEMPLATE_BYTES + 64) as u32;

/// Where frames are made from.
pub struct Pools {
    heads: Pool,
    zeroes: Slice,
}

impl Pools {
    /// Cells of their own for `frames` frames that are under way.
    ///
    /// # Errors
    /// As [`Pool::reserve`].
    pub fn reserve(frames: u32) -> Result<Pools, ReserveError> {
        Pools::of(Pool::reserve("frames", frames, HEAD_CELL_BYTES, PagePolicy::Best)?)
    }

    /// Frames are made in cells of this pool, which have room for [`SIZE_MAX`]'s headers: what a port can send as it is.
    ///
    /// # Errors
    /// As [`Pool::reserve`].
    pub fn of(heads: Pool) -> Result<Pools, ReserveError> {
        assert!(heads.cell_bytes() >= HEAD_CELL_BYTES, "cells of a frame's size");
        let filling = Pool::reserve("filling", 1, SIZE_MAX as u32 + 256, PagePolicy::Best)?;
        let mut cell = filling.alloc().expect("the one cell of a new pool");
        assert!(cell.append(&[0; SIZE_MAX as usize]));
        Ok(Pools { heads, zeroes: cell.into_slice(0, SIZE_MAX as usize) })
    }
}

enum Sizes {
    Field(Varied),
    Mix { picks: Vec<(u16, u32)>, total: u32 },
}

impl Sizes {
    /// Bytes of the next frame, without FCS.
    #[inline]
    fn next(&mut self, rng: &mut Rng) -> usize {
        let with_fcs = match self {
            Sizes::Field(f) => f.next(rng) as usize,
            Sizes::Mix { picks, total } => {
                let mut at = rng.below(u64::from(*total)) as u32;
                let hit = picks.iter().find(|(_, w)| match at.checked_sub(*w) {
                    Some(rest) => {
                        at = rest;
                        false
                    }
                    None => true,
                });
                hit.map_or(64, |(n, _)| usize::from(*n))
            }
        };
        with_fcs - FCS_BYTES as usize
    }
}

/// A field of up to 8 bytes that changes from frame to frame.
struct Change {
    to: Near,
    at: usize,
    width: Width,
    /// All ones where it is in the checksum of IP, of L4; else zero.
    in_ip: u64,
    in_l4: u64,
}

/// An address whose first 64 bits change as well.
struct WideChange {
    to: Varied,
    at: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Width {
    Two,
    Four,
    /// A MAC address, which no checksum covers.
    Six,
    Eight,
}

/// One stream on its way.
pub struct Stream {
    /// A whole frame of the size that was asked for first; zero where something changes, and behind the headers.
    template: [u8; TEMPLATE_BYTES],
    headers_bytes: usize,
    /// Where the headers of IP and of what it carries begin.
    l3: usize,
    l4: usize,
    kind: Kind,
    v6: bool,
    probe: bool,
    id: u32,
    changes: Vec<Change>,
    wide: Vec<WideChange>,
    sizes: Sizes,
    /// Of the frame that the template is: what is in the sums and headers.
    size: usize,
    /// Of what never changes: the header of IPv4, and the L4 header with its pseudo-header.
    ip_sum: Sum,
    l4_sum: Sum,
    /// Whether they are each frame's own.
    ip_changes: bool,
    l4_changes: bool,
    /// All frames are the template.
    is_constant: bool,
    rng: Rng,
    number: u64,
}

impl Stream {
    /// Stream number `id` as `spec` says, from `src` and `src_mac` where it leaves that to us.
    pub fn new(spec: &Spec, id: u32, src: Field, src_mac: Mac, dst_mac: Mac, seed: u64) -> Stream {
        let mut sizes = match &spec.size {
            Size::Field(f) => Sizes::Field((*f).into()),
            Size::Mix(all) => Sizes::Mix { picks: all.clone(), total: all.iter().map(|(_, w)| w).sum() },
        };
        let mut template = [0; TEMPLATE_BYTES];
        let (l3, l4) = write_headers(&mut template, spec, spec.dst_mac.unwrap_or(dst_mac));
        let mut rng = Rng::new(seed ^ u64::from(id) << 32);
        let headers_bytes = spec.headers_bytes();
        let is_sized = matches!(sizes, Sizes::Field(Varied::Fixed(_)));
        let mut s = Stream {
            template,
            headers_bytes,
            l3,
            l4,
            kind: spec.kind,
            v6: spec.v6,
            probe: spec.probe,
            id,
            changes: Vec::new(),
            wide: Vec::new(),
            size: if is_sized { sizes.next(&mut rng).max(headers_bytes) } else { 0 },
            sizes,
            ip_sum: Sum::default(),
            l4_sum: Sum::default(),
            ip_changes: !is_sized,
            l4_changes: !is_sized || spec.probe || spec.kind == Kind::Dns,
            is_constant: false,
            rng,
            number: 0,
        };
        let own_mac = src_mac.iter().fold(0, |n, b| n << 8 | u128::from(*b));
        s.fields(spec, src, Field::Fixed(own_mac));
        if is_sized {
            let (size, udp) = (s.size, s.is_udp());
            put_lengths(&mut s.template, l3, l4, size, spec.v6, udp);
        }
        s.sum_template();
        s.is_constant = !(s.ip_changes || s.l4_changes) && s.changes.is_empty() && s.wide.is_empty();
        s
    }

    fn is_udp(&self) -> bool {
        !matches!(self.kind, Kind::Icmp | Kind::Tcp(_))
    }

    /// Whether addresses and lengths are in the checksum of L4.
    fn has_pseudo_header(&self) -> bool {
        self.kind != Kind::Icmp || self.v6
    }

    /// Every field that may change: into the template if it does not.
    fn fields(&mut self, spec: &Spec, src: Field, own_mac: Field) {
        let (l3, l4) = (self.l3, self.l4);
        let any = |bits: u32| Field::Random(0, (1 << bits) - 1);
        self.field(spec.src_mac.unwrap_or(own_mac), 6, 6, [false; 2]);
        if let Some(id) = spec.vlan {
            self.field(id, 14, 2, [false; 2]);
        }
        let (bytes, [from, to]) = if self.v6 { (16, [l3 + 8, l3 + 24]) } else { (4, [l3 + 12, l3 + 16]) };
        let sums = [!self.v6, self.has_pseudo_header()];
        self.field(spec.src.unwrap_or(src), from, bytes, sums);
        self.field(spec.dst, to, bytes, sums);
        if self.kind == Kind::Fragments {
            // The first fragment and those in the middle: more of them always follow.
            self.field(any(16), l3 + 4, 2, [true, false]);
            self.field(Field::Random(0x2000, 0x2fff), l3 + 6, 2, [true, false]);
        }
        let l4_only = [false, true];
        if self.kind == Kind::Icmp {
            self.field(spec.sport, l4 + 4, 2, l4_only);
            self.field(Field::Step(0, 0xffff), l4 + 6, 2, l4_only);
        } else {
            self.field(spec.sport, l4, 2, l4_only);
            self.field(spec.dport, l4 + 2, 2, l4_only);
        }
        match self.kind {
            Kind::Tcp(flags) if flags & flag::ACK != 0 => self.field(any(64), l4 + 4, 8, l4_only),
            Kind::Tcp(_) => self.field(any(32), l4 + 4, 4, l4_only),
            Kind::Dns | Kind::Amplified => self.field(any(16), l4 + 8, 2, l4_only),
            _ => {}
        }
    }

    /// A field of so many bytes: 2, 4, 6, 8, or 16 of an IPv6 address.
    fn field(&mut self, field: Field, at: usize, bytes: usize, [in_ip, in_l4]: [bool; 2]) {
        let (to, at) = match Varied::from(field) {
            Varied::Fixed(v) => {
                self.template[at..at + bytes].copy_from_slice(&v.to_be_bytes()[16 - bytes..]);
                return;
            }
            Varied::Near { above, low } if bytes == 16 => {
                put(&mut self.template, at, above.to_be_bytes());
                (low, at + 8)
            }
            Varied::Near { low, .. } => (low, at),
            to => {
                self.l4_changes |= in_l4;
                self.wide.push(WideChange { to, at });
                return;
            }
        };
        self.ip_changes |= in_ip;
        self.l4_changes |= in_l4;
        let width = match bytes {
            2 => Width::Two,
            4 => Width::Four,
            6 => Width::Six,
            _ => Width::Eight,
        };
        let mask = |is_in: bool| if is_in { u64::MAX } else { 0 };
        self.changes.push(Change { to, at, width, in_ip: mask(in_ip), in_l4: mask(in_l4) });
    }

    /// Sums up the template, and puts the checksums into it that are the same in each frame.
    fn sum_template(&mut self) {
        let (l3, l4) = (self.l3, self.l4);
        let t = &self.template;
        if !self.v6 {
            self.ip_sum.add(&t[l3..l4]);
        }
        self.l4_sum.add(&t[l4..self.headers_bytes.next_multiple_of(2)]);
        if self.has_pseudo_header() {
            let (addresses, protocol) =
                if self.v6 { (l3 + 8..l4, t[l3 + 6]) } else { (l3 + 12..l4, t[l3 + 9]) };
            self.l4_sum.add(&t[addresses]);
            self.l4_sum.add_u16(u16::from(protocol));
            self.l4_sum.add_u16(self.size.saturating_sub(l4) as u16);
        }
        let (ip_sum, l4_sum) = (self.ip_sum, self.l4_sum);
        if !self.v6 && !self.ip_changes {
            put(&mut self.template, l3 + 10, ip_sum.finish().to_be_bytes());
        }
        if !self.l4_changes {
            put_l4_sum(&mut self.template, self.kind, l4, l4_sum);
        }
    }

    /// Frames made so far.
    pub fn made(&self) -> u64 {
        self.number
    }

    /// The next frame in a packet; `None`, and nothing changed, when no cell is free.
    #[inline]
    pub fn next(&mut self, pools: &Pools, now: Time) -> Option<Packet> {
        let mut p = pools.heads.alloc()?;
        let size = self.next_size();
        let filling = size - self.headers_bytes;
        let inline = if filling <= INLINE_BYTES { filling } else { 0 };
        let room = p.room_mut();
        self.write_head(room, inline);
        self.vary(room, size, now);
        p.set_len(self.headers_bytes + inline);
        if inline < filling {
            let attached = p.attach(pools.zeroes.view(0, filling));
            debug_assert!(attached.is_ok() && TAIL_MAX > 0);
        }
        self.number += 1;
        Some(p)
    }

    /// The next frame, written to the start of `room`, which must be long enough for it and a template; its length.
    #[inline]
    pub fn write_next(&mut self, room: &mut [u8], now: Time) -> usize {
        let size = self.next_size();
        let filling = size - self.headers_bytes;
        if filling <= INLINE_BYTES {
            self.write_head(room, filling);
        } else {
            self.write_head(room, 0);
            room[self.headers_bytes..size].fill(0);
        }
        self.vary(room, size, now);
        self.number += 1;
        size
    }

    #[inline]
    fn next_size(&mut self) -> usize {
        match self.size {
            0 => self.sizes.next(&mut self.rng).max(self.headers_bytes),
            fixed => fixed,
        }
    }

    /// Copies headers, and so many zeroes behind them.
    #[inline]
    fn write_head(&self, room: &mut [u8], filling: usize) {
        let len = (self.headers_bytes + filling).next_multiple_of(PIECE_BYTES);
        let to = room[..len].as_chunks_mut::<PIECE_BYTES>().0;
        for (to, piece) in to.iter_mut().zip(self.template[..len].as_chunks::<PIECE_BYTES>().0) {
            *to = *piece;
        }
    }

    /// Writes what is this frame's own over the template.
    #[inline]
    fn vary(&mut self, h: &mut [u8], size: usize, now: Time) {
        if self.is_constant {
            return;
        }
        let (l3, l4) = (self.l3, self.l4);
        let (mut ip_sum, mut l4_sum) = (self.ip_sum, self.l4_sum);
        // Its state is in a register then, from one draw to the next.
        let mut rng = self.rng.clone();
        for c in &mut self.changes {
            let words = write(h, c.at, c.width, c.to.next(&mut rng));
            ip_sum.add_words(words & c.in_ip);
            l4_sum.add_words(words & c.in_l4);
        }
        for c in &mut self.wide {
            let address = c.to.next(&mut rng).to_be_bytes();
            put(h, c.at, address);
            l4_sum.add(&address);
        }
        if self.size == 0 {
            put_lengths(h, l3, l4, size, self.v6, self.is_udp());
            ip_sum.add_u16((size - l3) as u16);
            if self.is_udp() {
                l4_sum.add_u16((size - l4) as u16);
            }
            if self.has_pseudo_header() {
                l4_sum.add_u16((size - l4) as u16);
            }
        }
        if self.kind == Kind::Dns {
            // From an odd byte on: with its neighbours as zeroes, which the template has counted.
            let (label, mut words) = (label(rng.next_u64()), [0; 14]);
            words[1..13].copy_from_slice(&label);
            put(h, l4 + 21, label);
            l4_sum.add(&words);
        }
        if self.probe {
            let s = Signature { stream: self.id, number: self.number, sent: now }.write();
            put(h, self.headers_bytes - probe::BYTES, s);
            l4_sum.add(&s);
        }
        if self.ip_changes && !self.v6 {
            put(h, l3 + 10, ip_sum.finish().to_be_bytes());
        }
        if self.l4_changes {
            put_l4_sum(h, self.kind, l4, l4_sum);
        }
        self.rng = rng;
    }
}

/// Writes a field, and gives the sum of its words, in the order of the machine.
#[inline(always)]
fn write(h: &mut [u8], at: usize, width: Width, value: u64) -> u64 {
    let word = |v: u32| u64::from(v.to_be());
    match width {
        Width::Two => {
            put(h, at, (value as u16).to_be_bytes());
            u64::from((value as u16).to_be())
        }
        Width::Four => {
            put(h, at, (value as u32).to_be_bytes());
            word(value as u32)
        }
        Width::Six => {
            put(h, at, ((value >> 16) as u32).to_be_bytes());
            put(h, at + 4, (value as u16).to_be_bytes());
            0
        }
        Width::Eight => {
            put(h, at, value.to_be_bytes());
            word((value >> 32) as u32) + word(value as u32)
        }
    }
}

/// Lengths in the headers of IP and UDP.
#[inline]
fn put_lengths(h: &mut [u8], l3: usize, l4: usize, size: usize, v6: bool, udp: bool) {
    let (at, len) = if v6 { (l3 + 4, size - l4) } else { (l3 + 2, size - l3) };
    put(h, at, (len as u16).to_be_bytes());
    if udp {
        put(h, l4 + 4, ((size - l4) as u16).to_be_bytes());
    }
}

#[inline]
fn put_l4_sum(h: &mut [u8], kind: Kind, l4: usize, sum: Sum) {
    let (at, sum) = match (kind, sum.finish()) {
        // What it is a part of never becomes whole.
        (Kind::Fragments, _) => return,
        (Kind::Icmp, sum) => (l4 + 2, sum),
        (Kind::Tcp(_), sum) => (l4 + 16, sum),
        // None, to UDP (RFC 768).
        (_, 0) => (l4 + 6, 0xffff),
        (_, sum) => (l4 + 6, sum),
    };
    put(h, at, sum.to_be_bytes());
}

#[inline(always)]
fn put<const N: usize>(h: &mut [u8], at: usize, bytes: [u8; N]) {
    h[at..at + N].copy_from_slice(&bytes);
}

/// What makes headers of a kind. Gives where those of IP and of what it carries begin.
fn write_headers(t: &mut [u8; TEMPLATE_BYTES], spec: &Spec, dst_mac: Mac) -> (usize, usize) {
    t[..6].copy_from_slice(&dst_mac);
    let l3 = if spec.vlan.is_some() { 18 } else { 14 };
    if spec.vlan.is_some() {
        put(t, 12, [0x81, 0]);
    }
    put(t, l3 - 2, if spec.v6 { [0x86, 0xdd] } else { [8, 0] });
    let protocol = match spec.kind {
        Kind::Tcp(_) => protocol::TCP,
        Kind::Icmp if spec.v6 => protocol::ICMP6,
        Kind::Icmp => protocol::ICMP,
        _ => protocol::UDP,
    };
    let l4 = if spec.v6 {
        put(t, l3, [0x60, 0, 0, 0, 0, 0, protocol, spec.ttl]);
        l3 + 40
    } else {
        // Not to be fragmented, so that its number says nothing (RFC 6864, 4.1); of fragments both are their own.
        put(t, l3, [0x45, 0, 0, 0, 0, 0, 0x40, 0, spec.ttl, protocol]);
        if spec.kind == Kind::Fragments {
            t[l3 + 6] = 0;
        }
        l3 + 20
    };
    match spec.kind {
        Kind::Icmp => t[l4] = if spec.v6 { 128 } else { 8 },
        Kind::Tcp(flags) => {
            let is_syn = flags & flag::SYN != 0;
            put(t, l4 + 12, [if is_syn { 0x60 } else { 0x50 }, flags, 0xff, 0xff]);
            if is_syn {
                // Segments of up to 1,460 bytes.
                put(t, l4 + 20, [2, 4, 5, 0xb4]);
            }
        }
        Kind::Dns => put(t, l4 + 8, DNS_QUERY),
        // An answer without error, authoritative for nothing, of which only the head makes sense.
        Kind::Amplified => put(t, l4 + 8, [0, 0, 0x81, 0x80, 0, 1, 0, 30, 0, 0, 0, 0]),
        Kind::Udp | Kind::Fragments => {}
    }
    (l3, l4)
}

/// A query for A of a name below example.com; its number and the name's first label, of 12 letters, are each frame's own.
const DNS_QUERY: [u8; DNS_BYTES] =
    *b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";

/// 12 letters of a number: different ones for different numbers below 2^60, so that no cache has the answer.
#[inline]
fn label(mut n: u64) -> [u8; 12] {
    let mut label = [0; 12];
    for b in &mut label {
        // As base32 (RFC 4648, 6), in the lower case: 26 letters and 6 digits.
        let five = (n & 31) as u8;
        *b = if five < 26 { b'a' + five } else { b'2' + five - 26 };
        n >>= 5;
    }
    label
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire;

    use super::*;
    use crate::pktgen::spec::{Source, parse};

    const US: Mac = [2, 0, 0, 0, 0, 1];
    const THEM: Mac = [2, 0, 0, 0, 0, 2];

    fn frames(text: &str, n: usize) -> Vec<Vec<u8>> {
        let Ok(Source::Made(spec)) = parse(text) else { panic!("{text}") };
        let pools = Pools::reserve(4).expect("memory");
        let src = if spec.v6 { Field::Fixed(1) } else { Field::Fixed(0x0a00_0063) };
        let mut s = Stream::new(&spec, 3, src, US, THEM, 1);
        let all = (0..n)
            .map(|i| {
                let p = s.next(&pools, Time(i as u64)).expect("a cell");
                let mut out = vec![0; p.total_len()];
                p.copy_to(&mut out).expect("room");
                out
            })
            .collect();
        assert_eq!(pools.heads.free_count(), 4, "all cells are back");
        all
    }

    /// An independent reader finds every length and checksum right.
    #[test]
    fn frames_are_what_others_take() {
        let all = ChecksumCapabilities::default();
        for text in [
            "udp dst=10.0.0.1 sport=9",
            "udp dst=2001:db8::1 sport=9 size=80",
            "dns dst=2001:db8::1 size=128",
            "udp dst=10.0.0.1 size=64-1518",
            "udp dst=10.0.0.1 size=imix src=10.1.0.0/16",
            "udp dst=2001:db8::1 size=64-200 src=2001:db8:1::/64",
            "syn dst=10.0.0.1:80 src=10.1.0.0/16",
            "ack dst=2001:db8::1 size=100~1518",
            "dns dst=10.0.0.1",
            "amp dst=10.0.0.1",
            "udp dst=10.0.0.1 probe size=78-1518",
            "icmp dst=10.0.0.1 probe size=500",
            "icmp dst=2001:db8::1 size=64-300",
            "udp dst=10.0.0.1 size=9216",
        ] {
            for f in frames(text, 300) {
                let eth = wire::EthernetFrame::new_checked(&f[..]).expect("Ethernet");
                assert_eq!((eth.src_addr().0, eth.dst_addr().0), (US, THEM));
                let (src, dst, proto, l4): (wire::IpAddress, wire::IpAddress, _, &[u8]) =
                    match eth.ethertype() {
                        wire::EthernetProtocol::Ipv4 => {
                            let ip = wire::Ipv4Packet::new_checked(eth.payload()).expect("IPv4");
                            assert!(ip.verify_checksum(), "{text}");
                            assert_eq!(usize::from(ip.total_len()), f.len() - 14, "{text}");
                            let l4 = &eth.payload()[20..];
                            (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), l4)
                        }
                        wire::EthernetProtocol::Ipv6 => {
                            let ip = wire::Ipv6Packet::new_checked(eth.payload()).expect("IPv6");
                            assert_eq!(usize::from(ip.payload_len()), f.len() - 54, "{text}");
                            let l4 = &eth.payload()[40..];
                            (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), l4)
                        }
                        other => panic!("{other}"),
                    };
                match proto {
                    wire::IpProtocol::Udp => {
                        let udp = wire::UdpPacket::new_checked(l4).expect("UDP");
                        assert!(udp.verify_checksum(&src, &dst), "{text}");
                        wire::UdpRepr::parse(&udp, &src, &dst, &all).expect("UDP");
                    }
                    wire::IpProtocol::Tcp => {
                        let tcp = wire::TcpPacket::new_checked(l4).expect("TCP");
                        wire::TcpRepr::parse(&tcp, &src, &dst, &all).expect("TCP");
                    }
                    wire::IpProtocol::Icmp => {
                        let icmp = wire::Icmpv4Packet::new_checked(l4).expect("ICMP");
                        assert!(icmp.verify_checksum(), "{text}");
                    }
                    wire::IpProtocol::Icmpv6 => {
                        let icmp = wire::Icmpv6Packet::new_checked(l4).expect("ICMPv6");
                        let (wire::IpAddress::Ipv6(s), wire::IpAddress::Ipv6(d)) = (src, dst) else {
                            panic!("IPv6")
                        };
                        assert!(icmp.verify_checksum(&s, &d), "{text}");
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }

    #[test]
    fn fields_change_as_asked() {
        let f = frames("udp dst=10.0.0.1-10.0.0.3:5-6 src=10.1.0.9 sport=7 size=64 vlan=9", 6);
        let dst: Vec<u8> = f.iter().map(|f| f[18 + 19]).collect();
        assert_eq!(dst, [1, 2, 3, 1, 2, 3]);
        let port: Vec<u8> = f.iter().map(|f| f[18 + 23]).collect();
        assert_eq!(port, [5, 6, 5, 6, 5, 6]);
        assert!(f.iter().all(|f| f.len() == 60 && f[12..16] == [0x81, 0, 0, 9] && f[18 + 15] == 9));
        let sizes: Vec<usize> = frames("udp dst=10.0.0.1 size=imix", 12_000).iter().map(Vec::len).collect();
        let share = |n| sizes.iter().filter(|s| **s == n).count();
        assert!((6700..7300).contains(&share(60)), "{}", share(60));
        assert_eq!(share(60) + share(590) + share(1514), 12_000);
    }

    #[test]
    fn fragments_never_become_whole() {
        for f in frames("frags dst=10.0.0.1 src=10.1.0.0/16", 100) {
            let ip = wire::Ipv4Packet::new_checked(&f[14..]).expect("IPv4");
            assert!(ip.verify_checksum() && ip.more_frags() && !ip.dont_frag());
        }
    }
}
