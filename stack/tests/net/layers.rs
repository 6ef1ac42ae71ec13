//! Below TCP: address resolution, ICMP, UDP, fragments, VLAN tags; frame by frame against smoltcp's types.

use std::net::{IpAddr, SocketAddr};

use dataplane::port::link::Faults;
use dataplane::port::mem::{WireEnd, wire};
use dataplane::{Ctr, Time};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, Icmpv4Packet, Icmpv6Packet, IpProtocol,
    Ipv4Packet, Ipv6Address, Ipv6Packet, NdiscNeighborFlags, NdiscRepr, UdpPacket,
};
use stack::{CloseReason, FlowId};

use crate::support::frames::{Ends, Tcp, ethernet, ip_frame};
use crate::support::own::{OwnHost, Setup};
use crate::support::{Host, Plan, pair_with};

/// Our host 1, and the wire's other end in the test's hands, as host 2.
struct Bench {
    host: OwnHost,
    wire: WireEnd,
    now: Time,
}

impl Bench {
    fn new(change: impl Fn(&mut Setup)) -> Bench {
        let mut setup = Setup::host(1);
        change(&mut setup);
        let (end, wire) = wire(64, 1600);
        let mut host = OwnHost::new(&setup, end);
        host.core.pipeline.manual = true;
        Bench { host, wire, now: Time::from_ms(5) }
    }

    /// Sends frames; gives what comes back.
    fn ask(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        for f in frames {
            assert!(self.wire.send(f));
        }
        self.answers()
    }

    fn answers(&mut self) -> Vec<Vec<u8>> {
        while self.host.pass(self.now) {}
        let mut out = vec![];
        while self.wire.recv_with(|f| out.push(f.to_vec())).is_some() {}
        out
    }

    /// Lets time pass, with the timers that are due on the way.
    fn wait(&mut self, ms: u64) -> Vec<Vec<u8>> {
        let end = self.now.plus_ns(ms * 1_000_000);
        let mut out = vec![];
        while let Some(t) = self.host.next_deadline(self.now).filter(|t| *t <= end) {
            self.now = t.max(self.now.plus_ns(1));
            out.extend(self.answers());
        }
        self.now = end;
        out.extend(self.answers());
        out
    }

    fn connect(&mut self, to: &str) -> FlowId {
        let (stack, now) = (self.host.stack(), self.now);
        stack.tcp.connect(&stack.net, to.parse().unwrap(), now).unwrap()
    }

    /// Ends what is open; the laws hold, nothing is left.
    fn end(mut self) {
        let left: Vec<FlowId> = self.host.tcp().flows().collect();
        for id in left {
            self.host.tcp().abort(id);
        }
        self.wait(10_000);
        self.host.laws().unwrap();
        self.host.leaks().unwrap();
    }
}

fn arp(op: ArpOperation, from: u8, from_mac: [u8; 6], to: u8, to_mac: [u8; 6]) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: op,
        source_hardware_addr: EthernetAddress(from_mac),
        source_protocol_addr: [10, 0, 0, from].into(),
        target_hardware_addr: EthernetAddress(to_mac),
        target_protocol_addr: [10, 0, 0, to].into(),
    };
    let mut b = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut b[..]));
    ethernet(&Ends { src_mac: from_mac, dst_mac: [0xff; 6], ..Ends::hosts(2, 1, false) }, 0x0806, &b)
}

fn parse_arp(frame: &[u8]) -> Option<ArpRepr> {
    let eth = EthernetFrame::new_checked(frame).unwrap();
    if u16::from(eth.ethertype()) != 0x0806 {
        return None;
    }
    Some(ArpRepr::parse(&ArpPacket::new_checked(eth.payload()).unwrap()).unwrap())
}

const HOST_1: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST_2: [u8; 6] = [2, 0, 0, 0, 0, 2];

#[test]
fn arp_answers_asks_and_sends_what_waited() {
    let mut b = Bench::new(|_| {});
    let out = b.ask(&[arp(ArpOperation::Request, 2, HOST_2, 1, [0; 6])]);
    let want = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(HOST_1),
        source_protocol_addr: [10, 0, 0, 1].into(),
        target_hardware_addr: EthernetAddress(HOST_2),
        target_protocol_addr: [10, 0, 0, 2].into(),
    };
    assert_eq!(out.iter().map(|f| parse_arp(f)).collect::<Vec<_>>(), [Some(want)]);
    assert!(b.ask(&[arp(ArpOperation::Request, 2, HOST_2, 9, [0; 6])]).is_empty());
    // Host 3 is unknown: five SYNs wait for it, of which three are kept.
    for port in 80..85 {
        b.connect(&format!("10.0.0.3:{port}"));
    }
    let out = b.answers();
    assert_eq!(out.len(), 1, "one request, whatever waits");
    let Some(ArpRepr::EthernetIpv4 { operation: ArpOperation::Request, target_protocol_addr, .. }) =
        parse_arp(&out[0])
    else {
        panic!("not a request")
    };
    assert_eq!((target_protocol_addr.octets(), &out[0][..6]), ([10, 0, 0, 3], &[0xff; 6][..]));
    let out = b.ask(&[arp(ArpOperation::Reply, 3, [2, 0, 0, 0, 0, 3], 1, HOST_1)]);
    let ports: Vec<u16> = out.iter().map(|f| Tcp::parse(f).unwrap().dst_port).collect();
    assert_eq!(ports, [82, 83, 84], "the newest three, in order");
    assert!(out.iter().all(|f| f[..6] == [2, 0, 0, 0, 0, 3]));
    assert_eq!(b.host.get(Ctr::DropTxNeighbour), 2);
    b.end();
}

#[test]
fn nobody_answers_arp() {
    let mut b = Bench::new(|_| {});
    b.connect("10.0.0.3:80");
    let out = b.wait(5000);
    let asked = out.iter().filter(|f| parse_arp(f).is_some()).count();
    // Three requests for the first SYN; the one sent again after a second waits too, and is given up with it.
    assert!((3..=5).contains(&asked), "{asked}");
    assert!(b.host.get(Ctr::DropTxNeighbour) >= 1);
    b.end();
}

#[test]
fn off_link_goes_to_the_gateway_or_nowhere() {
    let mut b = Bench::new(|s| s.gateway = Some(IpAddr::from([10, 0, 0, 9])));
    b.connect("192.0.2.1:80");
    let Some(ArpRepr::EthernetIpv4 { target_protocol_addr, .. }) = parse_arp(&b.answers()[0]) else {
        panic!("not ARP")
    };
    assert_eq!(target_protocol_addr.octets(), [10, 0, 0, 9]);
    let stack = b.host.stack();
    let v6: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
    assert_eq!(stack.tcp.connect(&stack.net, v6, Time(0)), Err(stack::ConnectError::NoRoute));
    b.end();
}

fn v6(n: u16) -> Ipv6Address {
    Ipv6Address::from([0xfd00, 0, 0, 0, 0, 0, 0, n])
}

fn icmp6(e: &Ends, hop_limit: u8, mut icmp: Vec<u8>) -> Vec<u8> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (e.src, e.dst) else { panic!("not IPv6") };
    Icmpv6Packet::new_unchecked(&mut icmp[..]).fill_checksum(&src, &dst);
    let mut f = ip_frame(e, IpProtocol::Icmpv6, &icmp);
    f[14 + 7] = hop_limit;
    f
}

fn ndisc(e: &Ends, hop_limit: u8, repr: &NdiscRepr) -> Vec<u8> {
    let mut b = vec![0; repr.buffer_len()];
    repr.emit(&mut Icmpv6Packet::new_unchecked(&mut b[..]));
    icmp6(e, hop_limit, b)
}

fn with_icmp6<R>(frame: &[u8], f: impl Fn(Icmpv6Packet<&[u8]>, u8) -> R) -> R {
    let eth = EthernetFrame::new_checked(frame).unwrap();
    let ip = Ipv6Packet::new_checked(eth.payload()).unwrap();
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
    f(icmp, ip.hop_limit())
}

#[test]
fn nd_answers_asks_and_sends_what_waited() {
    let mut b = Bench::new(|_| {});
    let group = Ends {
        dst_mac: [0x33, 0x33, 0xff, 0, 0, 1],
        dst: "ff02::1:ff00:1".parse().unwrap(),
        ..Ends::hosts(2, 1, true)
    };
    let ask = NdiscRepr::NeighborSolicit { target_addr: v6(1), lladdr: Some(EthernetAddress(HOST_2).into()) };
    assert!(b.ask(&[ndisc(&group, 64, &ask)]).is_empty(), "a hop limit below 255 came through a router");
    let out = b.ask(&[ndisc(&group, 255, &ask)]);
    assert_eq!((out.len(), &out[0][..6]), (1, &HOST_2[..]));
    with_icmp6(&out[0], |icmp, hops| {
        let want = NdiscRepr::NeighborAdvert {
            flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
            target_addr: v6(1),
            lladdr: Some(EthernetAddress(HOST_1).into()),
        };
        assert_eq!((NdiscRepr::parse(&icmp), hops), (Ok(want), 255));
    });
    b.connect("[fd00::3]:80");
    let out = b.answers();
    with_icmp6(&out[0], |icmp, hops| {
        let want =
            NdiscRepr::NeighborSolicit { target_addr: v6(3), lladdr: Some(EthernetAddress(HOST_1).into()) };
        assert_eq!((NdiscRepr::parse(&icmp), hops), (Ok(want), 255));
    });
    assert_eq!(out[0][..6], [0x33, 0x33, 0xff, 0, 0, 3]);
    let told = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::SOLICITED,
        target_addr: v6(3),
        lladdr: Some(EthernetAddress([2, 0, 0, 0, 0, 3]).into()),
    };
    let out = b.ask(&[ndisc(&Ends::hosts(3, 1, true), 255, &told)]);
    assert_eq!(out.iter().map(|f| Tcp::parse(f).unwrap().dst_port).collect::<Vec<_>>(), [80]);
    b.end();
}

fn echo4(e: &Ends, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 7];
    icmp.extend(body);
    Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
    ip_frame(e, IpProtocol::Icmp, &icmp)
}

#[test]
fn echo_is_answered_in_both_families() {
    let mut b = Bench::new(|_| {});
    for len in [0usize, 1, 56, 1400] {
        let body: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let e = Ends::hosts(2, 1, false);
        let out = b.ask(&[echo4(&e, 8, &body)]);
        let eth = EthernetFrame::new_checked(&out[0]).unwrap();
        let ip = Ipv4Packet::new_checked(eth.payload()).unwrap();
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(ip.verify_checksum() && icmp.verify_checksum());
        assert_eq!(&ip.payload()[4..], [&[0x12, 0x34, 0, 7][..], &body].concat());
        assert_eq!(
            (ip.payload()[0], ip.src_addr(), ip.dst_addr()),
            (0, [10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        );
        assert_eq!(eth.dst_addr().0, HOST_2);

        let mut icmp = vec![128, 0, 0, 0, 0x12, 0x34, 0, 7];
        icmp.extend(&body);
        let out = b.ask(&[icmp6(&Ends::hosts(2, 1, true), 64, icmp.clone())]);
        with_icmp6(&out[0], |got, _| {
            assert_eq!(u8::from(got.msg_type()), 129);
            assert_eq!(got.into_inner()[4..], icmp[4..]);
        });
    }
    assert_eq!(b.host.get(Ctr::IcmpEchoReplies), 8);
    let group = Ends { dst_mac: [0xff; 6], ..Ends::hosts(2, 1, false) };
    assert!(b.ask(&[echo4(&group, 8, b"x"), echo4(&Ends::hosts(2, 1, false), 0, b"x")]).is_empty());
    let mut bad = echo4(&Ends::hosts(2, 1, false), 8, b"xyz");
    bad[40] ^= 1;
    assert!(b.ask(&[bad]).is_empty());
    assert_eq!(b.host.get(Ctr::DropIcmpChecksum), 1);
    b.end();
}

fn udp(e: &Ends, port: u16, body: &[u8]) -> Vec<u8> {
    let mut u = [&7000u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 4], body].concat();
    let mut p = UdpPacket::new_unchecked(&mut u[..]);
    p.set_len(8 + body.len() as u16);
    p.fill_checksum(&e.src.into(), &e.dst.into());
    ip_frame(e, IpProtocol::Udp, &u)
}

#[test]
fn udp_is_received_or_unreachable() {
    for is_v6 in [false, true] {
        let mut b = Bench::new(|_| {});
        b.host.stack().udp.listen(53);
        let e = Ends::hosts(2, 1, is_v6);
        assert!(b.ask(&[udp(&e, 53, b"hello")]).is_empty());
        let p = b.host.stack().udp.take().unwrap();
        assert_eq!(p.payload(), b"hello");
        drop(p);
        let sent = udp(&e, 54, &[7; 600]);
        let out = b.ask(std::slice::from_ref(&sent));
        let eth = EthernetFrame::new_checked(&out[0]).unwrap();
        if is_v6 {
            with_icmp6(&out[0], |icmp, _| {
                let i = icmp.into_inner();
                assert_eq!((i[0], i[1]), (1, 4));
                assert!(i.len() >= 8 + 48 && sent[14..].starts_with(&i[8..]));
            });
        } else {
            let ip = Ipv4Packet::new_checked(eth.payload()).unwrap();
            assert!(Icmpv4Packet::new_checked(ip.payload()).unwrap().verify_checksum());
            let i = ip.payload();
            assert_eq!((i[0], i[1]), (3, 3));
            assert!(i.len() >= 8 + 28 && sent[14..].starts_with(&i[8..]));
        }
        // Not about what went to a group; and no more than a hundred in a second.
        let all = Ends { dst_mac: [0xff; 6], ..e };
        assert!(b.ask(&[udp(&all, 54, b"x")]).is_empty());
        for _ in 0..10 {
            b.ask(&vec![udp(&e, 54, b"x"); 20]);
        }
        assert_eq!((b.host.get(Ctr::IcmpErrorsSent), b.host.get(Ctr::IcmpErrorsLimited)), (100, 101));
        b.end();
    }
}

#[test]
fn unreachable_ends_an_attempt_to_connect() {
    for is_v6 in [false, true] {
        let mut b = Bench::new(|s| s.peer_mac = Some(HOST_2));
        let id = b.connect(if is_v6 { "[fd00::2]:80" } else { "10.0.0.2:80" });
        let syn = b.answers().remove(0);
        let e = Ends::hosts(2, 1, is_v6);
        let error = |code: u8, quote: &[u8]| {
            let kind = if is_v6 { 1 } else { 3 };
            let mut icmp = [&[kind, code, 0, 0, 0, 0, 0, 0][..], quote].concat();
            if is_v6 {
                return icmp6(&e, 64, icmp);
            }
            Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
            ip_frame(&e, IpProtocol::Icmp, &icmp)
        };
        let (hard, soft) = if is_v6 { (4, 0) } else { (3, 1) };
        let quote = &syn[14..14 + if is_v6 { 48 } else { 28 }];
        b.ask(&[error(soft, quote)]);
        assert_eq!(b.host.tcp().state(id).name(), "SYN-SENT", "a soft error is a hint");
        let mut other = quote.to_vec();
        let seq = other.len() - 4;
        other[seq] ^= 0x80;
        b.ask(&[error(hard, &other), error(hard, &quote[..20])]);
        assert_eq!(b.host.tcp().state(id).name(), "SYN-SENT", "not about a segment of ours");
        b.ask(&[error(hard, quote)]);
        assert_eq!(b.host.tcp().close_reason(id), CloseReason::Unreachable);
        b.host.tcp().release(id);
        b.ask(&[error(hard, quote)]);
        assert!(b.host.get(Ctr::DropIcmpUnmatched) >= 2);
        b.end();
    }
}

#[test]
fn fragments_are_counted_and_dropped() {
    let mut b = Bench::new(|_| {});
    for (at, flags) in [(20, 0x20u8), (21, 1)] {
        let mut f = echo4(&Ends::hosts(2, 1, false), 8, b"part");
        f[at] |= flags; // MF, or an offset
        let mut ip = Ipv4Packet::new_unchecked(&mut f[14..]);
        ip.fill_checksum();
        assert!(b.ask(&[f]).is_empty());
    }
    let e = Ends::hosts(2, 1, true);
    let mut f = ip_frame(&e, IpProtocol::Ipv6Frag, &[17, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4]);
    assert!(b.ask(&[f.clone()]).is_empty());
    // Also behind another extension header.
    f = ip_frame(&e, IpProtocol::HopByHop, &[44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9]);
    assert!(b.ask(&[f]).is_empty());
    assert_eq!((b.host.get(Ctr::DropIp4Fragment), b.host.get(Ctr::DropIp6Fragment)), (2, 2));
    b.end();
}

#[test]
fn unknown_protocols_are_refused() {
    for is_v6 in [false, true] {
        let mut b = Bench::new(|_| {});
        let out = b.ask(&[ip_frame(&Ends::hosts(2, 1, is_v6), IpProtocol::Unknown(132), &[0; 40])]);
        assert_eq!(out.len(), 1);
        let icmp = if is_v6 { &out[0][54..] } else { &out[0][34..] };
        assert_eq!(icmp[..2], if is_v6 { [4, 1] } else { [3, 2] });
        b.end();
    }
}

#[test]
fn a_tagged_port_speaks_its_vlan_only() {
    let tag = |n: u8| {
        let mut s = Setup::host(n);
        s.vlan = Some(100);
        s
    };
    let mut w =
        pair_with(&tag(1), &tag(2), Faults { delay_ns: 1000, loss_ppm: 10_000, ..Faults::default() }, 1);
    for (n, ip) in [(0u16, "10.0.0.2"), (1, "fd00::2")] {
        let (here, there) = Plan::both(n.into(), 50_000, 50_000);
        w.b.listen(80 + n, there);
        w.a.connect(SocketAddr::new(ip.parse().unwrap(), 80 + n), here, w.now).unwrap();
    }
    w.finish(Time::from_ms(60_000)).and_then(|()| w.check_b()).unwrap();

    let mut b = Bench::new(|s| s.vlan = Some(100));
    let plain = echo4(&Ends::hosts(2, 1, false), 8, b"x");
    let tagged = |id: u16| [&plain[..12], &[0x81, 0], &id.to_be_bytes(), &plain[12..]].concat();
    assert!(b.ask(&[plain.clone(), tagged(101), tagged(0)]).is_empty());
    assert_eq!(b.host.get(Ctr::DropL2Vlan), 3);
    let out = b.ask(&[tagged(0xe000 | 100)]);
    assert_eq!(out[0][12..18], [0x81, 0, 0, 100, 8, 0], "the answer has the tag, without priority");
    b.end();
    let mut b = Bench::new(|_| {});
    assert_eq!(b.ask(&[tagged(0)]).len(), 1, "a priority tag is of no VLAN");
    assert!(b.ask(&[tagged(100)]).is_empty());
    b.end();
}

#[test]
fn sources_that_no_packet_may_come_from() {
    let mut b = Bench::new(|_| {});
    b.host.tcp().listen(None, 80);
    let syn = Tcp { src_port: 7, dst_port: 80, bits: 2, ..Tcp::default() };
    for src in ["127.0.0.1", "0.1.2.3", "224.0.0.1", "255.255.255.255", "10.0.0.1"] {
        let mut s = syn.clone();
        s.src_port = 80; // from ourselves, to ourselves: "land"
        assert!(
            b.ask(&[s.frame(&Ends { src: src.parse().unwrap(), ..Ends::hosts(2, 1, false) })]).is_empty(),
            "{src}"
        );
    }
    for src in ["::1", "::", "ff02::1", "::ffff:10.0.0.2"] {
        let e = Ends { src: src.parse().unwrap(), ..Ends::hosts(2, 1, true) };
        assert!(b.ask(&[syn.frame(&e)]).is_empty(), "{src}");
    }
    let to = |mac: [u8; 6], dst: &str| Ends {
        dst_mac: mac,
        dst: dst.parse().unwrap(),
        ..Ends::hosts(2, 1, dst.contains(':'))
    };
    for e in
        [to(HOST_2, "10.0.0.1"), to(HOST_1, "10.0.0.7"), to([0xff; 6], "10.0.0.1"), to(HOST_1, "fd00::7")]
    {
        assert!(b.ask(&[syn.frame(&e)]).is_empty(), "{e:?}");
    }
    assert_eq!((b.host.get(Ctr::DropIpMartian), b.host.get(Ctr::DropL2NotOurs)), (9, 1));
    b.end();
}
