//! The second opinion: smoltcp's wire types.

use dataplane::{L4, Packet};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv6Address, Ipv6Packet, TcpPacket, UdpPacket,
};

use crate::parse::addresses;

/// Fills in the checksums of an untagged frame, as far as it has any.
pub fn mend_checksums(frame: &mut [u8]) {
    if frame.len() < 34 {
        return;
    }
    let is_v4 = frame[12..14] == [8, 0];
    let ip = &mut frame[14..];
    let (proto, at, end, src, dst): (u8, usize, usize, IpAddress, IpAddress) = if is_v4 {
        let (header, total) = (usize::from(ip[0] & 15) * 4, usize::from(ip[2]) << 8 | usize::from(ip[3]));
        if header < 20 || header > total || total > ip.len() {
            return;
        }
        Ipv4Packet::new_unchecked(&mut *ip).fill_checksum();
        let p = Ipv4Packet::new_unchecked(&*ip);
        (ip[9], header, total, p.src_addr().into(), p.dst_addr().into())
    } else {
        let end = 40 + (usize::from(ip[4]) << 8 | usize::from(ip[5]));
        if ip.len() < 40 || end > ip.len() {
            return;
        }
        let p = Ipv6Packet::new_unchecked(&*ip);
        (ip[6], 40, end, p.src_addr().into(), p.dst_addr().into())
    };
    let l4 = &mut ip[at..end];
    match proto {
        6 if l4.len() >= 20 => TcpPacket::new_unchecked(l4).fill_checksum(&src, &dst),
        17 if l4.len() >= 8 => {
            // smoltcp sums what UDP's own length says.
            let n = usize::from(l4[4]) << 8 | usize::from(l4[5]);
            if (8..=l4.len()).contains(&n) {
                UdpPacket::new_unchecked(l4).fill_checksum(&src, &dst);
            }
        }
        1 if l4.len() >= 8 && is_v4 => Icmpv4Packet::new_unchecked(l4).fill_checksum(),
        58 if l4.len() >= 8 && !is_v4 => {
            if let (IpAddress::Ipv6(s), IpAddress::Ipv6(d)) = (src, dst) {
                Icmpv6Packet::new_unchecked(l4).fill_checksum(&s, &d);
            }
        }
        _ => {}
    }
}

/// What we have parsed, smoltcp finds well-formed and undamaged too.
pub fn agrees(p: &Packet) {
    let m = *p.meta();
    let eth = EthernetFrame::new_checked(p.head()).expect("Ethernet");
    if m.l4_kind == L4::Arp {
        return;
    }
    let tagged = m.l3 == 18;
    if !tagged {
        match eth.ethertype() {
            EthernetProtocol::Ipv4 => {
                let ip = Ipv4Packet::new_checked(eth.payload()).expect("IPv4");
                assert!(ip.verify_checksum() && !ip.more_frags() && ip.frag_offset() == 0);
            }
            EthernetProtocol::Ipv6 => {
                Ipv6Packet::new_checked(eth.payload()).expect("IPv6");
            }
            other => panic!("parsed as IP: {other}"),
        }
    }
    let (src, dst) = addresses(p);
    let l4 = &p.head()[m.l4 as usize..(m.payload + m.payload_len) as usize];
    l4_is_sound(m.l4_kind, &src.ip().into(), &dst.ip().into(), l4);
}

fn l4_is_sound(kind: L4, src: &IpAddress, dst: &IpAddress, l4: &[u8]) {
    match kind {
        L4::Tcp => {
            let t = TcpPacket::new_checked(l4).expect("TCP");
            assert!(t.verify_checksum(src, dst), "TCP checksum");
        }
        L4::Udp => {
            let u = UdpPacket::new_checked(l4).expect("UDP");
            // Ours covers what IP says is there, smoltcp's what UDP says; they are the same in honest packets.
            assert!(u.checksum() == 0 || usize::from(u.len()) != l4.len() || u.verify_checksum(src, dst));
        }
        L4::Icmp4 => assert!(Icmpv4Packet::new_checked(l4).map_or(true, |i| i.verify_checksum())),
        L4::Icmp6 => {
            let (IpAddress::Ipv6(s), IpAddress::Ipv6(d)) = (src, dst) else { panic!("ICMPv6 over IPv4") };
            assert!(Icmpv6Packet::new_checked(l4).map_or(true, |i| i.verify_checksum(s, d)));
        }
        _ => {}
    }
}

/// A frame that we have built: well-formed to the last byte.
pub fn is_sound(frame: &[u8]) {
    let eth = EthernetFrame::new_checked(frame).expect("Ethernet");
    let (proto, src, dst, l4): (_, IpAddress, IpAddress, &[u8]) = match eth.ethertype() {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(eth.payload()).expect("IPv4");
            assert!(ip.verify_checksum() && usize::from(ip.total_len()) == eth.payload().len());
            let (s, d): (Ipv4Address, Ipv4Address) = (ip.src_addr(), ip.dst_addr());
            (ip.next_header(), s.into(), d.into(), ip.payload())
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(eth.payload()).expect("IPv6");
            assert_eq!(ip.total_len(), eth.payload().len());
            let (s, d): (Ipv6Address, Ipv6Address) = (ip.src_addr(), ip.dst_addr());
            (ip.next_header(), s.into(), d.into(), ip.payload())
        }
        _ => return,
    };
    let kind = match proto {
        IpProtocol::Tcp => L4::Tcp,
        IpProtocol::Icmp => L4::Icmp4,
        IpProtocol::Icmpv6 => L4::Icmp6,
        other => panic!("we send no {other}"),
    };
    l4_is_sound(kind, &src, &dst, l4);
}
