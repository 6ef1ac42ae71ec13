//! Frames of a stream: headers from a template, varied in place; the filling is one cell of zeroes that all share.

use dataplane::buf::TAIL_MAX;
use dataplane::port::Mac;
use dataplane::rng::Rng;
use dataplane::{Packet, Pool, Slice, Time};
use hugepages::{PagePolicy, ReserveError};
use stack::Sum;
use stack::parse::protocol;

use super::field::{Field, Varied};
use super::probe::Signature;
use super::rate::FCS_BYTES;
use super::spec::{DNS_BYTES, Kind, SIZE_MAX, Size, Spec, flag};

/// Bytes of a cell for headers: [`dataplane::buf::HEADROOM`] in front of it is not used.
const HEAD_CELL_BYTES: u32 = 512;
/// A filling up to here is written behind the headers.
const INLINE_BYTES: usize = 128;

/// Where frames are made from.
pub struct Pools {
    heads: Pool,
    zeroes: Slice,
}

impl Pools {
    /// Cells for `frames` frames that are under way.
    ///
    /// # Errors
    /// As [`Pool::reserve`].
    pub fn reserve(frames: u32) -> Result<Pools, ReserveError> {
        let heads = Pool::reserve("frames", frames, HEAD_CELL_BYTES, PagePolicy::Best)?;
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

/// One stream on its way.
pub struct Stream {
    kind: Kind,
    v6: bool,
    probe: bool,
    id: u32,
    dst_mac: Mac,
    src_mac: Varied,
    vlan: Option<Varied>,
    src: Varied,
    dst: Varied,
    sport: Varied,
    dport: Varied,
    ttl: u8,
    sizes: Sizes,
    headers_bytes: usize,
    rng: Rng,
    number: u64,
}

impl Stream {
    /// Stream number `id` as `spec` says, from `src` and `src_mac` where it leaves that to us.
    pub fn new(spec: &Spec, id: u32, src: Field, src_mac: Mac, dst_mac: Mac, seed: u64) -> Stream {
        let own_mac = Field::Fixed(src_mac.iter().fold(0, |n, b| n << 8 | u128::from(*b)));
        let sizes = match &spec.size {
            Size::Field(f) => Sizes::Field((*f).into()),
            Size::Mix(all) => Sizes::Mix { picks: all.clone(), total: all.iter().map(|(_, w)| w).sum() },
        };
        Stream {
            kind: spec.kind,
            v6: spec.v6,
            probe: spec.probe,
            id,
            dst_mac: spec.dst_mac.unwrap_or(dst_mac),
            src_mac: spec.src_mac.unwrap_or(own_mac).into(),
            vlan: spec.vlan.map(Varied::from),
            src: spec.src.unwrap_or(src).into(),
            dst: spec.dst.into(),
            sport: spec.sport.into(),
            dport: spec.dport.into(),
            ttl: spec.ttl,
            sizes,
            headers_bytes: spec.headers_bytes(),
            rng: Rng::new(seed ^ u64::from(id) << 32),
            number: 0,
        }
    }

    /// Frames made so far.
    pub fn made(&self) -> u64 {
        self.number
    }

    /// The next frame; `None`, and nothing changed, when no cell is free.
    pub fn next(&mut self, pools: &Pools, now: Time) -> Option<Packet> {
        let mut p = pools.heads.alloc()?;
        let size = self.size().max(self.headers_bytes);
        let filling = size - self.headers_bytes;
        let l2 = self.ethernet(&mut p);
        let l3 = if self.v6 { 40 } else { 20 };
        let (src, dst) = (self.src.next(&mut self.rng), self.dst.next(&mut self.rng));
        let fragment = (self.kind == Kind::Fragments).then(|| self.rng.next_u64());
        if self.v6 {
            self.ipv6(&mut p, size - l2 - 40, src, dst);
        } else {
            self.ipv4(&mut p, size - l2, [src as u32, dst as u32], fragment);
        }
        let l4 = l2 + l3;
        self.l4(&mut p, size - l4);
        if self.probe {
            let s = Signature { stream: self.id, number: self.number, sent: now };
            p.append(&s.write());
        }
        if fragment.is_none() {
            self.checksum(&mut p, l2, l4, size - l4);
        }
        self.number += 1;
        if filling <= INLINE_BYTES {
            p.append(&[0; INLINE_BYTES][..filling]);
        } else {
            let attached = p.attach(pools.zeroes.view(0, filling));
            debug_assert!(attached.is_ok() && TAIL_MAX > 0);
        }
        Some(p)
    }

    /// Bytes of the next frame, without FCS.
    fn size(&mut self) -> usize {
        let with_fcs = match &mut self.sizes {
            Sizes::Field(f) => f.next(&mut self.rng) as usize,
            Sizes::Mix { picks, total } => {
                let mut at = self.rng.below(u64::from(*total)) as u32;
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

    fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp(_) => protocol::TCP,
            Kind::Icmp if self.v6 => protocol::ICMP6,
            Kind::Icmp => protocol::ICMP,
            _ => protocol::UDP,
        }
    }

    fn ethernet(&mut self, p: &mut Packet) -> usize {
        let src = self.src_mac.next(&mut self.rng).to_be_bytes();
        p.append(&self.dst_mac);
        p.append(&src[10..]);
        if let Some(v) = &mut self.vlan {
            let id = v.next(&mut self.rng) as u16;
            p.append(&[0x81, 0]);
            p.append(&id.to_be_bytes());
        }
        p.append(if self.v6 { &[0x86, 0xdd] } else { &[8, 0] });
        p.head().len()
    }

    fn ipv4(&self, p: &mut Packet, len: usize, addresses: [u32; 2], fragment: Option<u64>) {
        let at = p.head().len();
        // The first fragment and those in the middle: more of them always follow.
        let (id, offset) = match fragment {
            Some(any) => (any as u16, 0x2000 | ((any >> 16) as u16 & 0x0fff)),
            None => (self.number as u16, 0x4000),
        };
        p.append(&[0x45, 0]);
        p.append(&(len as u16).to_be_bytes());
        p.append(&id.to_be_bytes());
        p.append(&offset.to_be_bytes());
        p.append(&[self.ttl, self.protocol(), 0, 0]);
        addresses.iter().for_each(|a| {
            p.append(&a.to_be_bytes());
        });
        let sum = stack::checksum(&p.head()[at..]);
        p.head_mut()[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
    }

    fn ipv6(&self, p: &mut Packet, len: usize, src: u128, dst: u128) {
        p.append(&[0x60, 0, 0, 0]);
        p.append(&(len as u16).to_be_bytes());
        p.append(&[self.protocol(), self.ttl]);
        p.append(&src.to_be_bytes());
        p.append(&dst.to_be_bytes());
    }

    /// The L4 header, its checksum zero, and what DNS puts behind it.
    fn l4(&mut self, p: &mut Packet, len: usize) {
        let sport = (self.sport.next(&mut self.rng) as u16).to_be_bytes();
        let dport = (self.dport.next(&mut self.rng) as u16).to_be_bytes();
        let any = self.rng.next_u64().to_be_bytes();
        match self.kind {
            Kind::Icmp => {
                let kind = if self.v6 { 128 } else { 8 };
                p.append(&[kind, 0, 0, 0, sport[0], sport[1]]);
                p.append(&(self.number as u16).to_be_bytes());
            }
            Kind::Tcp(flags) => {
                let is_syn = flags & flag::SYN != 0;
                let acked: &[u8] = if flags & flag::ACK != 0 { &any[4..] } else { &[0; 4] };
                p.append(&sport);
                p.append(&dport);
                p.append(&any[..4]);
                p.append(acked);
                p.append(&[if is_syn { 0x60 } else { 0x50 }, flags, 0xff, 0xff, 0, 0, 0, 0]);
                if is_syn {
                    // Segments of up to 1,460 bytes.
                    p.append(&[2, 4, 5, 0xb4]);
                }
            }
            _ => {
                p.append(&sport);
                p.append(&dport);
                p.append(&(len as u16).to_be_bytes());
                p.append(&[0, 0]);
                match self.kind {
                    Kind::Dns => dns_query(p, &any),
                    // An answer without error, authoritative for nothing, of which only the head makes sense.
                    Kind::Amplified => {
                        p.append(&[any[0], any[1], 0x81, 0x80, 0, 1, 0, 30, 0, 0, 0, 0]);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Everything from `l4` on is in the head; the filling is zero and adds nothing.
    fn checksum(&self, p: &mut Packet, l2: usize, l4: usize, len: usize) {
        let h = p.head();
        let mut sum = Sum::default();
        let is_icmp4 = self.kind == Kind::Icmp && !self.v6;
        if !is_icmp4 {
            let (src, dst) = if self.v6 { (8..24, 24..40) } else { (12..16, 16..20) };
            sum.add_pseudo(&h[l2..][src], &h[l2..][dst], self.protocol(), len);
        }
        sum.add(&h[l4..]);
        let at = match self.kind {
            Kind::Icmp => l4 + 2,
            Kind::Tcp(_) => l4 + 16,
            _ => l4 + 6,
        };
        let sum = match sum.finish() {
            // None, to UDP (RFC 768).
            0 if self.protocol() == protocol::UDP => 0xffff,
            sum => sum,
        };
        p.head_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A query for A of a name below example.com that changes each time: no cache has the answer.
fn dns_query(p: &mut Packet, any: &[u8; 8]) {
    let before = p.head().len();
    p.append(&[any[0], any[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 12]);
    let mut n = u64::from_be_bytes(*any);
    let mut label = [0; 12];
    for b in &mut label {
        *b = b'a' + (n % 26) as u8;
        n /= 26;
    }
    p.append(&label);
    p.append(b"\x07example\x03com\x00\x00\x01\x00\x01");
    debug_assert_eq!(p.head().len() - before, DNS_BYTES);
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
