//! A port that the kernel shares: who gets which frame, that nobody else answers it, and what the stack takes from the
//! kernel.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dataplane::mail::Post;
use dataplane::port::mem::{WireEnd, wire};
use dataplane::{Bells, Ctr, Time};
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, UdpPacket};
use stack::{Addr, CloseReason, OwnPorts, Questions, Route, Routes, Steering};

use crate::support::frames::{Ends, Tcp, ethernet, ip_frame};
use crate::support::own::{OwnHost, Setup};
use crate::support::peer::PeerHost;
use crate::support::{Finish, Host, Plan};

const KERNEL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST_2: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Host 1, shared with a kernel; its wire and the kernel's in the test's hands.
struct Bench {
    host: OwnHost,
    wire: WireEnd,
    kernel: WireEnd,
    questions: Arc<Questions>,
    now: Time,
}

impl Bench {
    fn new(change: impl Fn(&mut Setup)) -> Bench {
        let mut setup = Setup::host(1);
        change(&mut setup);
        let ((near, wire), (tap, kernel)) = (wire(512, 1600), wire(512, 1600));
        let mut host = OwnHost::shared(&setup, near, tap);
        host.core.pipeline.manual = true;
        assert!(host.tcp().listen(Some(IpAddr::from([10, 0, 0, 1]).into()), 80).is_some());
        assert!(host.tcp().listen(Some("fd00::1".parse::<IpAddr>().unwrap().into()), 80).is_some());
        assert!(host.stack().udp.listen(53));
        let questions = Arc::new(Questions::new(Bells::new(1).unwrap()));
        host.stack().net.ask_kernel_through(Arc::clone(&questions));
        Bench { host, wire, kernel, questions, now: Time::from_ms(5) }
    }

    /// Sends a frame to the wire port; gives what goes to the kernel, and what is answered.
    fn ask(&mut self, frame: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        assert!(self.wire.send(frame));
        self.pass()
    }

    fn pass(&mut self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        while self.host.pass(self.now) {}
        let all = |end: &WireEnd| std::iter::from_fn(|| end.recv_with(<[u8]>::to_vec)).collect();
        (all(&self.kernel), all(&self.wire))
    }

    fn end(mut self) {
        while self.host.stack().udp.take().is_some() {}
        let left: Vec<_> = self.host.tcp().flows().collect();
        for id in left {
            self.host.tcp().abort(id);
        }
        for _ in 0..100 {
            self.now = self.now.plus_ns(100_000_000);
            self.pass();
        }
        self.host.laws().unwrap();
        self.host.leaks().unwrap();
    }
}

fn tcp(dst_port: u16, bits: u8, e: &Ends) -> Vec<u8> {
    Tcp { src_port: 9, dst_port, seq: 5, ack: 6, bits, ..Tcp::default() }.frame(e)
}

fn udp(e: &Ends, dst_port: u16) -> Vec<u8> {
    let mut b = [&[0, 9][..], &dst_port.to_be_bytes(), &[0, 12, 0, 0, 1, 2, 3, 4]].concat();
    UdpPacket::new_unchecked(&mut b[..]).fill_checksum(&e.src.into(), &e.dst.into());
    ip_frame(e, IpProtocol::Udp, &b)
}

fn icmp4(e: &Ends, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut b = [&[kind, 0, 0, 0, 0, 1, 0, 1][..], rest].concat();
    Icmpv4Packet::new_unchecked(&mut b[..]).fill_checksum();
    ip_frame(e, IpProtocol::Icmp, &b)
}

fn icmp6(e: &Ends, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut b = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], rest].concat();
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (e.src, e.dst) else { panic!("IPv6") };
    Icmpv6Packet::new_unchecked(&mut b[..]).fill_checksum(&src, &dst);
    ip_frame(e, IpProtocol::Icmpv6, &b)
}

/// The same frame as a fragment: with these flags and offset.
fn fragment(mut f: Vec<u8>, flags_and_offset: u16) -> Vec<u8> {
    f[20..22].copy_from_slice(&flags_and_offset.to_be_bytes());
    Ipv4Packet::new_unchecked(&mut f[14..]).fill_checksum();
    f
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// The kernel gets it as it is; nobody answers.
    Kernel,
    /// We take it.
    Us,
    /// We drop it, for this reason, without an answer.
    Nobody(Ctr),
    /// We drop it, for this reason, and answer it.
    Answered(Ctr),
}

#[test]
fn who_gets_what() {
    use To::*;
    let (v4, v6) = (Ends::hosts(2, 1, false), Ends::hosts(2, 1, true));
    let to_group = |mac, ip: &str| Ends { dst_mac: mac, dst: ip.parse().unwrap(), ..v4 };
    let group6 = |mac, ip: &str| Ends { dst_mac: mac, dst: ip.parse().unwrap(), ..v6 };
    let elsewhere = Ends { dst: IpAddr::from([10, 0, 0, 77]), ..v4 };
    let arp = |op: u8| {
        let b = [&[0, 1, 8, 0, 6, 4, 0, op][..], &HOST_2, &[10, 0, 0, 2], &[0; 6], &[10, 0, 0, 1]].concat();
        ethernet(&Ends { dst_mac: [0xff; 6], ..v4 }, 0x0806, &b)
    };
    let mut broken = tcp(22, 2, &v4);
    *broken.last_mut().unwrap() ^= 1;
    let frag6 = |next: u8, offset: u8, port: u16| {
        let head = [&[next, 0, 0, offset | 1, 0, 0, 0, 9, 0, 9][..], &port.to_be_bytes(), &[0; 20]].concat();
        ip_frame(&v6, IpProtocol::Ipv6Frag, &head)
    };
    let behind = ip_frame(&v6, IpProtocol::HopByHop, &[44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 9]);
    let cases: Vec<(&str, Vec<u8>, To)> = vec![
        ("ARP request", arp(1), Kernel),
        ("ARP reply", arp(2), Kernel),
        ("neighbour solicitation", icmp6(&v6, 135, &[0; 16]), Kernel),
        ("neighbour advertisement", icmp6(&v6, 136, &[0; 16]), Kernel),
        ("router advertisement", icmp6(&group6([0x33, 0x33, 0, 0, 0, 1], "ff02::1"), 134, &[0; 8]), Kernel),
        ("echo request", icmp4(&v4, 8, b"ping"), Kernel),
        ("echo request, IPv6", icmp6(&v6, 128, b"ping"), Kernel),
        ("echo reply", icmp4(&v4, 0, b"ping"), Kernel),
        ("SYN to ssh", tcp(22, 2, &v4), Kernel),
        ("ACK to ssh", tcp(22, 16, &v4), Kernel),
        ("RST to ssh", tcp(22, 4, &v4), Kernel),
        ("SYN to ssh, IPv6", tcp(22, 2, &v6), Kernel),
        ("SYN-ACK to a connection of the kernel's", tcp(45_000, 18, &v4), Kernel),
        ("UDP", udp(&v4, 123), Kernel),
        ("UDP, IPv6", udp(&v6, 123), Kernel),
        ("another protocol", ip_frame(&v4, IpProtocol::Unknown(89), &[0; 24]), Kernel),
        ("another address", tcp(80, 2, &elsewhere), Kernel),
        (
            "OSPF to its group",
            ip_frame(&to_group([1, 0, 0x5e, 0, 0, 5], "224.0.0.5"), IpProtocol::Unknown(89), &[0; 24]),
            Kernel,
        ),
        ("broadcast", udp(&to_group([0xff; 6], "255.255.255.255"), 67), Kernel),
        ("a group that we are not in, IPv6", udp(&group6([0x33, 0x33, 0, 0, 0, 9], "ff02::9"), 521), Kernel),
        ("LLDP", ethernet(&Ends { dst_mac: [1, 0x80, 0xc2, 0, 0, 0x0e], ..v4 }, 0x88cc, &[0; 46]), Kernel),
        ("first fragment for ssh", fragment(tcp(22, 16, &v4), 0x2000), Kernel),
        ("first fragment for UDP", fragment(udp(&v4, 123), 0x2000), Kernel),
        ("later fragment", fragment(tcp(80, 16, &v4), 0x2010), Kernel),
        ("first fragment for ssh, IPv6", frag6(6, 0, 22), Kernel),
        ("later fragment, IPv6", frag6(6, 8, 80), Kernel),
        (
            "ICMP error about nothing of ours",
            icmp4(&v4, 3, &tcp(33, 2, &Ends::hosts(1, 2, false))[14..42]),
            Kernel,
        ),
        ("SYN to our listener", tcp(80, 2, &v4), Us),
        ("SYN to our listener, IPv6", tcp(80, 2, &v6), Us),
        ("datagram to our socket", udp(&v4, 53), Us),
        (
            "ACK to our listener",
            tcp(80, 16, &Ends { src: IpAddr::from([10, 0, 0, 9]), ..v4 }),
            Answered(Ctr::DropTcpNoFlow),
        ),
        (
            "RST to our listener",
            tcp(80, 4, &Ends { src: IpAddr::from([10, 0, 0, 9]), ..v4 }),
            Nobody(Ctr::DropTcpReset),
        ),
        ("wrong checksum", broken, Nobody(Ctr::DropTcpChecksum)),
        (
            "another station's",
            tcp(22, 2, &Ends { dst_mac: [2, 0, 0, 0, 0, 8], ..v4 }),
            Nobody(Ctr::DropL2NotOurs),
        ),
        ("first fragment for our listener", fragment(tcp(80, 16, &v4), 0x2000), Nobody(Ctr::DropIp4Fragment)),
        ("first fragment for our socket", fragment(udp(&v4, 53), 0x2000), Nobody(Ctr::DropIp4Fragment)),
        ("first fragment for our listener, IPv6", frag6(6, 0, 80), Nobody(Ctr::DropIp6Fragment)),
        (
            "fragment without the ports",
            fragment(ip_frame(&v4, IpProtocol::Tcp, &[0, 9]), 0x2000),
            Nobody(Ctr::DropIp4Fragment),
        ),
        ("fragment behind other headers", behind, Nobody(Ctr::DropIp6Fragment)),
    ];
    let mut b = Bench::new(|_| {});
    for (name, frame, to) in cases {
        let before = b.host.counts();
        let (kernel, answers) = b.ask(&frame);
        let grew = |c| b.host.counts().get(c) - before.get(c);
        assert_eq!(kernel, if to == Kernel { vec![frame] } else { vec![] }, "{name}");
        match to {
            Kernel => assert_eq!((grew(Ctr::RxPunted), answers.len()), (1, 0), "{name}"),
            Us => assert_eq!(grew(Ctr::RxAccepted), 1, "{name}"),
            Nobody(c) => assert_eq!((grew(c), answers.len()), (1, 0), "{name}"),
            Answered(c) => assert_eq!((grew(c), answers.len()), (1, 1), "{name}"),
        }
        b.host.laws().unwrap();
    }
    assert_eq!(
        (b.host.get(Ctr::ArpReplies), b.host.get(Ctr::NdAdverts), b.host.get(Ctr::IcmpEchoReplies)),
        (0, 0, 0)
    );
    b.end();
}

#[test]
fn what_the_kernel_sends_goes_out_as_it_is() {
    let mut b = Bench::new(|_| {});
    let frame = udp(&Ends::hosts(1, 2, false), 9);
    assert!(b.kernel.send(&frame) && b.kernel.send(&[1, 2, 3]));
    let (kernel, out) = b.pass();
    assert_eq!((kernel.len(), out), (0, vec![frame]));
    assert_eq!((b.host.get(Ctr::RxForwarded), b.host.get(Ctr::DropL2Malformed)), (1, 1));
    b.end();
}

#[test]
fn the_kernels_frames_have_no_tag() {
    let mut b = Bench::new(|s| s.vlan = Some(100));
    let plain = udp(&Ends::hosts(2, 1, false), 123);
    let tagged = [&plain[..12], &[0x81, 0, 0x60, 100], &plain[12..]].concat();
    // Priority bits are not kept; a frame of another VLAN is nobody's.
    assert_eq!(b.ask(&tagged), (vec![plain.clone()], vec![]));
    assert_eq!(b.ask(&plain), (vec![], vec![]));
    assert_eq!(b.host.get(Ctr::DropL2Vlan), 1);
    let plain = udp(&Ends::hosts(1, 2, false), 9);
    assert!(b.kernel.send(&plain));
    let tagged = [&plain[..12], &[0x81, 0, 0, 100], &plain[12..]].concat();
    assert_eq!(b.pass(), (vec![], vec![tagged]));
    b.end();
}

#[test]
fn a_flood_of_one_kind_leaves_the_others_their_share() {
    let mut b = Bench::new(|s| s.tx_bound = 2048);
    let e = Ends::hosts(2, 1, false);
    let mut kernel = 0;
    for _ in 0..40 {
        for _ in 0..50 {
            assert!(b.wire.send(&udp(&e, 123)));
        }
        kernel += b.pass().0.len();
    }
    assert_eq!((kernel, b.host.get(Ctr::DropPuntOther)), (1000, 1000));
    assert_eq!(b.ask(&tcp(22, 16, &e)).0.len(), 1);
    let arp = ethernet(&Ends { dst_mac: [0xff; 6], ..e }, 0x0806, &[0; 28]);
    assert_eq!(b.ask(&arp).0.len(), 1);
    // 20,000 in a second.
    b.now = b.now.plus_ns(1_000_000);
    let mut more = 0;
    for _ in 0..100 {
        more += b.ask(&udp(&e, 123)).0.len();
    }
    assert_eq!(more, 20);
    b.end();
}

#[test]
fn next_hops_and_neighbours_are_the_kernels() {
    for v6 in [false, true] {
        let ip = |n: u8| Ends::hosts(n, n, v6).src;
        let far: IpAddr = if v6 { "2001:db8::7" } else { "192.0.2.7" }.parse().unwrap();
        let mut b = Bench::new(|_| {});
        let connect = |b: &mut Bench, to| {
            let now = b.now;
            let stack = b.host.stack();
            stack.tcp.connect(&stack.net, SocketAddr::new(to, 80), now)
        };
        assert!(connect(&mut b, far).is_err(), "no route yet");
        let any = if v6 { Addr::UNSPECIFIED } else { IpAddr::from([0; 4]).into() };
        let default = Route { prefix_len: 0, prefix: any, via: Some(ip(9).into()) };
        b.host.stack().mirror_routes(0, Arc::new(Routes::new(vec![default]).0));
        connect(&mut b, far).unwrap();
        let (kernel, out) = b.pass();
        assert_eq!((kernel.len(), out.len()), (0, 0), "we ask nobody on the wire");
        assert_eq!((b.questions.take(), b.questions.take()), (Some((0, ip(9).into())), None));
        // The answer sends what waited, and holds for half a minute.
        let answer = |b: &mut Bench, who: IpAddr, mac| {
            let Bench { host, now, .. } = b;
            let mut tx = [dataplane::TxQueue::new(8), dataplane::TxQueue::new(8)];
            host.stack().mirror(0, &who.into(), mac, &mut tx, *now);
            let sent: Vec<_> = std::iter::from_fn(|| tx[0].pop()).map(|p| p.head()[..6].to_vec()).collect();
            sent
        };
        assert_eq!(answer(&mut b, ip(9), Some(HOST_2)), [HOST_2]);
        connect(&mut b, far).unwrap();
        assert_eq!((b.pass().1.len(), b.questions.take()), (1, None));
        // What nobody here has asked for is not learned.
        assert!(answer(&mut b, ip(5), Some(HOST_2)).is_empty());
        connect(&mut b, ip(5)).unwrap();
        assert_eq!((b.pass().1.len(), b.questions.take()), (0, Some((0, ip(5).into()))));
        // Gone: what waits is dropped.
        let dropped = b.host.get(Ctr::DropTxNeighbour);
        answer(&mut b, ip(5), None);
        assert_eq!(b.host.get(Ctr::DropTxNeighbour), dropped + 1);
        assert_eq!(b.host.get(Ctr::NeighboursAsked), 2);
        assert_eq!((b.host.get(Ctr::ArpRequests), b.host.get(Ctr::NdSolicits)), (0, 0));
    }
}

#[test]
fn an_icmp_error_about_our_connection_is_ours() {
    let mut b = Bench::new(|s| s.peer_mac = Some(HOST_2));
    let (stack, now) = (b.host.stack(), b.now);
    let id = stack.tcp.connect(&stack.net, "10.0.0.2:81".parse().unwrap(), now).unwrap();
    let (_, out) = b.pass();
    let mut icmp = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &out[0][14..42]].concat();
    Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
    let frame = ip_frame(&Ends::hosts(2, 1, false), IpProtocol::Icmp, &icmp);
    assert_eq!(b.ask(&frame), (vec![], vec![]));
    assert_eq!(b.host.tcp().close_reason(id), CloseReason::Unreachable);
    b.host.tcp().release(id);
    assert_eq!(b.ask(&frame), (vec![frame], vec![]), "nobody's any more: the kernel's");
    b.end();
}

/// Turns everybody on the wire until nobody has anything to do.
fn settle(hosts: &mut [&mut dyn Host], wires: &[(&WireEnd, &WireEnd)], now: Time) -> Option<Time> {
    loop {
        let mut busy = false;
        for (a, b) in wires {
            for (from, to) in [(a, b), (b, a)] {
                while let Some(f) = from.recv_with(<[u8]>::to_vec) {
                    assert!(to.send(&f));
                    busy = true;
                }
            }
        }
        for h in hosts.iter_mut() {
            busy |= h.pass(now);
        }
        if !busy {
            return hosts.iter_mut().filter_map(|h| h.next_deadline(now)).min();
        }
    }
}

#[test]
fn a_kernel_and_we_serve_one_address_at_once() {
    // smoltcp is the kernel of host 1, and host 2.
    for v6 in [false, true] {
        let ((near, w1), (tap, k1)) = (wire(256, 1600), wire(256, 1600));
        let ((w2, client_end), (k2, kernel_end)) = (wire(256, 1600), wire(256, 1600));
        let mut host = OwnHost::shared(&Setup::host(1), near, tap);
        let mut kernel = PeerHost::new(&Setup::host(1), kernel_end, 1);
        let mut client = PeerHost::new(&Setup::host(2), client_end, 2);
        let at = |port| SocketAddr::new(Ends::hosts(1, 1, v6).src, port);
        for (seed, port) in [(1, 80), (2, 22)] {
            let (ours, theirs) = Plan::both(seed, 200_000, 100_000);
            match port {
                80 => host.listen(80, ours.ending(Finish::AfterPeer)),
                _ => kernel.listen(22, ours.ending(Finish::AfterPeer)),
            }
            client.connect(at(port), theirs, Time(0));
        }
        let mut now = Time(0);
        while now < Time::from_ms(60_000) {
            let hosts: &mut [&mut dyn Host] = &mut [&mut host, &mut kernel, &mut client];
            match settle(hosts, &[(&w1, &w2), (&k1, &k2)], now) {
                Some(t) => now = t.max(now.plus_ns(1)),
                None => break,
            }
        }
        for h in [&host as &dyn Host, &kernel, &client] {
            assert!(h.is_done());
            for (plan, out) in h.results() {
                out.verify(&plan).unwrap();
            }
        }
        assert!(host.get(Ctr::RxPunted) > 70 && host.get(Ctr::RxForwarded) > 130);
        assert_eq!(host.get(Ctr::TcpResetsSent), 0);
        host.laws().unwrap();
        host.leaks().unwrap();
        assert_eq!(KERNEL_MAC, Setup::host(1).mac);
    }
}

#[test]
fn with_several_cores_a_frame_is_punted_once_by_the_core_that_would_know() {
    let post = Post::new(64, 1600, Bells::new(3).unwrap());
    let mut cores: Vec<Bench> = (0..3).map(|_| Bench::new(|_| {})).collect();
    for (i, c) in cores.iter_mut().enumerate() {
        c.host.stack().steer(Steering::new(i, Arc::clone(&post)));
        c.host.tcp().connect_from(OwnPorts { first: 16_384, last: 32_767 });
    }
    let e = Ends::hosts(2, 1, false);
    // The port, and who punts what comes to core 0: our own ports are asked for at their owner.
    for (port, at) in [(22, 0), (45_000, 0), (16_384, 16_384 % 3), (16_385, 16_385 % 3), (16_386, 16_386 % 3)]
    {
        let frame = tcp(port, 16, &e);
        assert!(cores[0].wire.send(&frame));
        let mut got = vec![Vec::new(); 3];
        for _ in 0..3 {
            for (i, c) in cores.iter_mut().enumerate() {
                let (kernel, answers) = c.pass();
                got[i].extend(kernel);
                assert!(answers.is_empty());
            }
        }
        let want: Vec<Vec<Vec<u8>>> =
            (0..3).map(|i| if i == at { vec![frame.clone()] } else { vec![] }).collect();
        assert_eq!(got, want, "port {port}");
    }
    // What is to our listener goes round, and is answered by the last core.
    assert!(cores[0].wire.send(&tcp(80, 16, &e)));
    let mut answers = 0;
    for _ in 0..3 {
        for c in &mut cores {
            let (kernel, out) = c.pass();
            assert!(kernel.is_empty());
            answers += out.len();
        }
    }
    assert_eq!(answers, 1);
    // Our connections begin at our ports, each core at its own.
    for (i, c) in cores.iter_mut().enumerate() {
        for n in 0..20 {
            let (stack, now) = (c.host.stack(), c.now);
            let id = stack.tcp.connect(&stack.net, SocketAddr::from(([10, 0, 0, 2], 1000 + n)), now).unwrap();
            let port = c.host.tcp().tuple(id).local_port;
            assert!((16_384..=32_767).contains(&port) && usize::from(port) % 3 == i, "{port}");
        }
    }
}
