//! Frames by hand, over smoltcp's wire types: what tests inject, and what they take apart.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpAddress, IpProtocol, IpRepr, Ipv4Packet,
    Ipv6Packet, TcpPacket,
};

/// Where a frame comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
    pub src: IpAddr,
    pub dst: IpAddr,
}

impl Ends {
    /// From host number `from` to host number `to` of [`Setup::host`](super::own::Setup::host).
    pub fn hosts(from: u8, to: u8, v6: bool) -> Ends {
        let ip = |n: u8| match v6 {
            true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)]),
            false => IpAddr::from([10, 0, 0, n]),
        };
        Ends { src_mac: [2, 0, 0, 0, 0, from], dst_mac: [2, 0, 0, 0, 0, to], src: ip(from), dst: ip(to) }
    }
}

/// An Ethernet and IP frame around an L4 packet.
pub fn ip_frame(e: &Ends, protocol: IpProtocol, l4: &[u8]) -> Vec<u8> {
    let repr = IpRepr::new(e.src.into(), e.dst.into(), protocol, l4.len(), 64);
    let mut ip = vec![0; repr.buffer_len()];
    repr.emit(&mut ip[..], &ChecksumCapabilities::default());
    let header = ip.len() - l4.len();
    ip[header..].copy_from_slice(l4);
    ethernet(e, if e.src.is_ipv6() { 0x86dd } else { 0x0800 }, &ip)
}

/// ICMP's "fragmentation needed" or ICMPv6's "packet too big", from a router, about a segment of host 1 to host 2.
pub fn too_big(v6: bool, mtu: u16, src_port: u16, dst_port: u16, seq: u32) -> Vec<u8> {
    let mut tcp = [0; 20];
    tcp[..2].copy_from_slice(&src_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&dst_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    let quoted = ip_frame(&Ends::hosts(1, 2, v6), IpProtocol::Tcp, &tcp);
    let e = Ends::hosts(2, 1, v6);
    let mut icmp = if v6 { vec![2, 0, 0, 0, 0, 0] } else { vec![3, 4, 0, 0, 0, 0] };
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(&quoted[14..]);
    if v6 {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (e.src, e.dst) else { unreachable!("IPv6") };
        Icmpv6Packet::new_unchecked(&mut icmp[..]).fill_checksum(&src, &dst);
        return ip_frame(&e, IpProtocol::Icmpv6, &icmp);
    }
    Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
    ip_frame(&e, IpProtocol::Icmp, &icmp)
}

/// An Ethernet frame.
pub fn ethernet(e: &Ends, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&e.dst_mac[..], &e.src_mac, &ethertype.to_be_bytes(), payload].concat()
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub bits: u8,
    pub window: u16,
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    /// SACK is permitted.
    pub sack_ok: bool,
    /// Timestamps: value and echo.
    pub ts: Option<(u32, u32)>,
    /// SACK blocks.
    pub sack: Vec<(u32, u32)>,
    /// The IP header's ECN codepoint.
    pub ecn: u8,
    pub payload: Vec<u8>,
}

impl Tcp {
    /// The frame of this segment.
    pub fn frame(&self, e: &Ends) -> Vec<u8> {
        let mut o = vec![];
        if let Some(m) = self.mss {
            o.extend([2, 4, (m >> 8) as u8, m as u8]);
        }
        if self.sack_ok {
            o.extend([1, 1, 4, 2]);
        }
        if let Some((val, ecr)) = self.ts {
            o.extend([1, 1, 8, 10]);
            o.extend(val.to_be_bytes());
            o.extend(ecr.to_be_bytes());
        }
        if let Some(s) = self.scale {
            o.extend([1, 3, 3, s]);
        }
        if !self.sack.is_empty() {
            o.extend([1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            for (from, to) in &self.sack {
                o.extend(from.to_be_bytes());
                o.extend(to.to_be_bytes());
            }
        }
        let mut b = vec![0; 20];
        b[..2].copy_from_slice(&self.src_port.to_be_bytes());
        b[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        b[4..8].copy_from_slice(&self.seq.to_be_bytes());
        b[8..12].copy_from_slice(&self.ack.to_be_bytes());
        b[12] = (((20 + o.len()) / 4) << 4) as u8;
        b[13] = self.bits;
        b[14..16].copy_from_slice(&self.window.to_be_bytes());
        b.extend(o);
        b.extend(&self.payload);
        TcpPacket::new_unchecked(&mut b[..]).fill_checksum(&e.src.into(), &e.dst.into());
        let mut frame = ip_frame(e, IpProtocol::Tcp, &b);
        if e.src.is_ipv6() {
            frame[15] |= self.ecn << 4;
        } else {
            frame[15] |= self.ecn;
            Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        }
        frame
    }

    /// Takes a frame apart, with all checksums verified by smoltcp; `None` when it is not TCP.
    ///
    /// # Panics
    /// When smoltcp finds it malformed.
    pub fn parse(frame: &[u8]) -> Option<Tcp> {
        let eth = EthernetFrame::new_checked(frame).expect("Ethernet");
        let (src, dst, l4): (IpAddress, IpAddress, &[u8]) = match eth.ethertype() {
            EthernetProtocol::Ipv4 => {
                let ip = Ipv4Packet::new_checked(eth.payload()).expect("IPv4");
                assert!(ip.verify_checksum(), "IPv4 checksum");
                assert_eq!(usize::from(ip.total_len()), eth.payload().len());
                if ip.next_header() != IpProtocol::Tcp {
                    return None;
                }
                (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
            }
            EthernetProtocol::Ipv6 => {
                let ip = Ipv6Packet::new_checked(eth.payload()).expect("IPv6");
                if ip.next_header() != IpProtocol::Tcp {
                    return None;
                }
                (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
            }
            _ => return None,
        };
        let t = TcpPacket::new_checked(l4).expect("TCP");
        assert!(t.verify_checksum(&src, &dst), "TCP checksum");
        let second = eth.payload()[1];
        let ecn = if matches!(src, IpAddress::Ipv6(_)) { second >> 4 & 3 } else { second & 3 };
        let mut found = Tcp { ecn, ..Tcp::default() };
        let mut rest = t.options();
        let word = |b: &[u8]| u32::from_be_bytes(b.try_into().expect("four bytes"));
        loop {
            match *rest {
                [] | [0, ..] => break,
                [1, ref next @ ..] => rest = next,
                [kind, len, ..] => {
                    let (o, next) = rest.split_at(usize::from(len));
                    match (kind, &o[2..]) {
                        (2, m) => found.mss = Some(u16::from_be_bytes(m.try_into().expect("two bytes"))),
                        (3, &[s]) => found.scale = Some(s),
                        (4, &[]) => found.sack_ok = true,
                        (5, b) => found.sack = b.chunks(8).map(|b| (word(&b[..4]), word(&b[4..]))).collect(),
                        (8, b) => found.ts = Some((word(&b[..4]), word(&b[4..]))),
                        _ => panic!("an option that we never send: {o:?}"),
                    }
                    rest = next;
                }
                _ => panic!("options end in the middle: {rest:?}"),
            }
        }
        Some(Tcp {
            src_port: t.src_port(),
            dst_port: t.dst_port(),
            seq: t.seq_number().0 as u32,
            ack: t.ack_number().0 as u32,
            bits: l4[13],
            window: t.window_len(),
            payload: t.payload().to_vec(),
            ..found
        })
    }
}
