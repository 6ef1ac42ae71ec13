//! Several cores of one node, and a device that gives their packets to whichever core the test says: each turned in
//! one thread, in virtual time.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use dataplane::mail::Post;
use dataplane::port::mem::{WireEnd, wire};
use dataplane::rss::{Rss, even_table};
use dataplane::{Bells, Ctr, Time};
use smoltcp::wire::{Icmpv4Packet, IpProtocol};
use stack::{CloseReason, Steering};

use crate::support::frames::{Ends, Tcp, ip_frame};
use crate::support::own::{OwnHost, Setup};
use crate::support::{Finish, Host, Plan};

const MS: u64 = 1_000_000;
const LETTERS: usize = 64;

/// Which core gets a frame: its number among all frames, and the frame.
type Device = fn(u64, &[u8]) -> usize;

/// A node of several cores at 10.0.0.1, and host 2 on the other side of its device.
struct Node {
    cores: Vec<OwnHost>,
    wires: Vec<WireEnd>,
    peer: OwnHost,
    peer_wire: WireEnd,
    device: Device,
    frames: u64,
    /// Frames that the node sent: by core.
    sent: Vec<Vec<Vec<u8>>>,
    now: Time,
}

impl Node {
    fn new(n: usize, letters: usize, device: Device) -> Node {
        let post = Post::new(letters, 1600, Bells::new(n).unwrap());
        let (mut cores, mut wires) = (Vec::new(), Vec::new());
        for i in 0..n {
            let (near, far) = wire(512, 1600);
            let mut core = OwnHost::new(&Setup::host(1), near);
            core.stack().steer(Steering::new(i, Arc::clone(&post)));
            cores.push(core);
            wires.push(far);
        }
        let (near, peer_wire) = wire(512, 1600);
        let peer = OwnHost::new(&Setup::host(2), near);
        let sent = vec![Vec::new(); n];
        Node { cores, wires, peer, peer_wire, device, frames: 0, sent, now: Time(0) }
    }

    /// Carries what is on the wires, and turns everybody until nobody has anything to do. Gives when somebody has.
    fn step(&mut self) -> Option<Time> {
        loop {
            let mut busy = false;
            while let Some(f) = self.peer_wire.recv_with(<[u8]>::to_vec) {
                let to = (self.device)(self.frames, &f);
                self.frames += 1;
                assert!(self.wires[to].send(&f));
                busy = true;
            }
            for (i, w) in self.wires.iter().enumerate() {
                while let Some(f) = w.recv_with(<[u8]>::to_vec) {
                    assert!(self.peer_wire.send(&f));
                    self.sent[i].push(f);
                    busy = true;
                }
            }
            for c in &mut self.cores {
                busy |= c.pass(self.now);
            }
            busy |= self.peer.pass(self.now);
            if !busy {
                break;
            }
        }
        let hosts = self.cores.iter_mut().chain([&mut self.peer]);
        hosts.filter_map(|h| h.next_deadline(self.now)).min()
    }

    fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_ns(ms * MS);
        while let Some(t) = self.step().filter(|t| *t < end) {
            self.now = t.max(self.now.plus_ns(1));
        }
        self.now = end;
        self.step();
    }

    /// A frame from outside for one core; gives what the node sends.
    fn ask(&mut self, core: usize, frame: &[u8]) -> Vec<Vec<u8>> {
        self.sent.iter_mut().for_each(Vec::clear);
        assert!(self.wires[core].send(frame));
        self.step();
        self.sent.concat()
    }

    fn count(&self, c: Ctr) -> u64 {
        self.cores.iter().map(|h| h.get(c)).sum()
    }

    /// Everything is whole and over, the laws hold on each core, nothing is in the mail.
    fn finish(&mut self) {
        self.run_ms(200_000);
        for h in self.cores.iter_mut().chain([&mut self.peer]) {
            assert!(h.is_done());
            for (plan, out) in h.results() {
                out.verify(&plan).unwrap();
            }
        }
        self.at_rest();
    }

    fn at_rest(&mut self) {
        for h in self.cores.iter_mut().chain([&mut self.peer]) {
            h.laws().unwrap();
            h.leaks().unwrap();
        }
        assert_eq!(self.count(Ctr::RxHandedOver), self.count(Ctr::RxTakenOver));
        assert_eq!(self.count(Ctr::MailSent), self.count(Ctr::MailReceived));
    }
}

fn local_port(frame: &[u8]) -> Option<u16> {
    (frame[12..14] == [8, 0] && frame[23] == 6).then(|| u16::from_be_bytes([frame[36], frame[37]]))
}

fn is_syn(frame: &[u8]) -> bool {
    local_port(frame).is_some() && frame[47] & 0x12 == 2
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], port))
}

#[test]
fn connections_that_we_open_are_steered_to_their_core() {
    // One core of two, one of three, all by turns, and always to one that is not the owner.
    let devices: [(usize, Device); 4] = [
        (2, |_, _| 0),
        (3, |_, _| 2),
        (3, |n, _| n as usize % 3),
        (3, |_, f| local_port(f).map_or(1, |p| (usize::from(p) + 1) % 3)),
    ];
    for (n, device) in devices {
        let mut node = Node::new(n, LETTERS, device);
        for i in 0..6 {
            let (ours, theirs) = Plan::both(i, 30_000, 50_000);
            node.peer.listen(80 + i as u16, theirs.ending(Finish::AfterPeer));
            let core = i as usize % n;
            let now = node.now;
            node.cores[core].connect(address(80 + i as u16), ours, now).unwrap();
            let id = node.cores[core].tcp().flows().last().unwrap();
            assert_eq!(usize::from(node.cores[core].tcp().tuple(id).local_port) % n, core);
        }
        node.finish();
        assert!(node.count(Ctr::RxHandedOver) > 20, "{}", node.count(Ctr::RxHandedOver));
        assert_eq!((node.count(Ctr::DropTcpNoFlow), node.count(Ctr::TcpResetsSent)), (0, 0));
        assert_eq!(node.peer.get(Ctr::TcpResetsReceived), 0);
    }
}

/// What a NIC has for three queues: a key, and a table that was written evenly.
fn rss() -> &'static Arc<Rss> {
    static RSS: OnceLock<Arc<Rss>> = OnceLock::new();
    RSS.get_or_init(|| {
        let key = std::array::from_fn(|i| (i as u8).wrapping_mul(83) ^ 0xa6);
        Arc::new(Rss::new(&key, &even_table(128, 3)).unwrap())
    })
}

/// The queue that such a NIC gives a frame to: what is not TCP comes to the first.
fn by_rss(frame: &[u8]) -> usize {
    let ports = |at: usize| {
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        (port(at), port(at + 2))
    };
    let (src, dst, (src_port, dst_port)) = match (&frame[12..14], frame[23], frame[20]) {
        ([8, 0], 6, _) => (&frame[26..30], &frame[30..34], ports(34)),
        ([0x86, 0xdd], _, 6) => (&frame[22..38], &frame[38..54], ports(54)),
        _ => return 0,
    };
    rss().queue(rss().hash(src, dst, src_port, dst_port)).into()
}

/// Connections both ways over both families, on a node of three cores that all predict this device.
fn over_a_device_with_rss(device: Device) -> Node {
    let mut node = Node::new(3, LETTERS, device);
    let (ours, theirs) = Plan::both(3, 20_000, 20_000);
    for c in &mut node.cores {
        c.stack().net.ifaces[0].rss = Some(Arc::clone(rss()));
        c.listen(80, ours.clone().ending(Finish::AfterPeer));
    }
    node.peer.listen(90, theirs.clone().ending(Finish::AfterPeer));
    for i in 0..24 {
        let now = node.now;
        let (to, from) =
            if i % 2 == 0 { ("[fd00::2]:90", "[fd00::1]:80") } else { ("10.0.0.2:90", "10.0.0.1:80") };
        node.cores[i % 3].connect(to.parse().unwrap(), ours.clone(), now).unwrap();
        let id = node.cores[i % 3].tcp().flows().last().unwrap();
        let tuple = node.cores[i % 3].tcp().tuple(id);
        assert_eq!(stack::steer::owner(tuple, Some(rss()), 3), i % 3);
        node.peer.connect(from.parse().unwrap(), theirs.clone(), now).unwrap();
    }
    node.finish();
    assert_eq!(node.count(Ctr::TcpPassiveOpens), 24);
    assert_eq!((node.count(Ctr::DropTcpNoFlow), node.count(Ctr::TcpResetsSent)), (0, 0));
    assert!(node.cores.iter().all(|c| c.get(Ctr::TcpPassiveOpens) > 2));
    node
}

#[test]
fn no_packet_crosses_cores_where_the_device_does_as_predicted() {
    let node = over_a_device_with_rss(|_, f| by_rss(f));
    assert_eq!(node.count(Ctr::RxHandedOver), 0);
    assert_eq!((node.count(Ctr::SteerPredicted), node.count(Ctr::SteerUnpredicted)), (24, 0));
}

#[test]
fn a_device_that_does_not_do_as_predicted_is_noticed_and_steered_in_software() {
    let node = over_a_device_with_rss(|_, f| (by_rss(f) + 1) % 3);
    assert!(node.count(Ctr::RxHandedOver) > 20);
    assert_eq!((node.count(Ctr::SteerPredicted), node.count(Ctr::SteerUnpredicted)), (0, 24));
}

#[test]
fn clients_packets_find_their_core_by_asking_round() {
    // A SYN decides; what follows comes anywhere.
    let devices: [(usize, Device); 2] = [
        (2, |n, f| if is_syn(f) { 1 } else { n as usize % 2 }),
        (4, |n, f| if is_syn(f) { n as usize % 4 } else { n as usize / 3 % 4 }),
    ];
    for (n, device) in devices {
        let mut node = Node::new(n, LETTERS, device);
        let (ours, theirs) = Plan::both(1, 20_000, 20_000);
        for c in &mut node.cores {
            c.listen(80, ours.clone().ending(Finish::AfterPeer));
        }
        for _ in 0..8 {
            let now = node.now;
            node.peer.connect(SocketAddr::from(([10, 0, 0, 1], 80)), theirs.clone(), now).unwrap();
        }
        node.finish();
        assert_eq!(node.count(Ctr::TcpPassiveOpens), 8);
        assert!(node.count(Ctr::RxHandedOver) > 20);
        // What comes round after its connection was closed may be answered; nothing is broken by it.
        assert_eq!(node.peer.get(Ctr::TcpResetsReceived), 0);
    }
}

#[test]
fn neighbours_are_learned_by_all_and_answered_once() {
    for v6 in [false, true] {
        // What the peer answers comes to core 0, whoever asked.
        let mut node = Node::new(3, LETTERS, |_, _| 0);
        let to = if v6 { "[fd00::2]:80" } else { "10.0.0.2:80" }.parse().unwrap();
        let (ours, theirs) = Plan::both(1, 10, 10);
        node.peer.listen(80, theirs);
        let now = node.now;
        node.cores[2].connect(to, ours.clone(), now).unwrap();
        node.run_ms(50);
        assert!(node.cores[2].results()[0].1.opened, "the answer to core 2's question was learned by it");
        let asked = node.count(Ctr::ArpRequests) + node.count(Ctr::NdSolicits);
        // The others know it too; but an advertisement confirms only what was asked for (RFC 4861 7.2.5).
        node.cores[1].connect(to, ours, now).unwrap();
        node.run_ms(50);
        assert!(node.cores[1].results()[0].1.opened);
        let again = node.count(Ctr::ArpRequests) + node.count(Ctr::NdSolicits) - asked;
        assert_eq!(again, u64::from(v6));
        let answers = node.count(Ctr::ArpReplies) + node.count(Ctr::NdAdverts);
        let questions = node.peer.get(Ctr::ArpRequests) + node.peer.get(Ctr::NdSolicits);
        assert_eq!(answers, questions, "one answer to each question");
        node.run_ms(200_000);
        node.at_rest();
    }
}

#[test]
fn an_icmp_error_finds_its_connection() {
    for n in [2, 3] {
        let mut node = Node::new(n, LETTERS, |_, _| 0);
        let now = node.now;
        // Nobody answers at host 2's port; its RST is kept from us.
        let ours = Plan::both(1, 1, 1).0;
        node.cores[1].stack().net.ifaces[0].peer_mac = Some([2, 0, 0, 0, 0, 2]);
        node.cores[1].connect(address(81), ours, now).unwrap();
        let id = node.cores[1].tcp().flows().last().unwrap();
        node.cores[1].pass(now);
        let syn = node.wires[1].recv_with(<[u8]>::to_vec).unwrap();
        let mut icmp = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &syn[14..42]].concat();
        Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
        let frame = ip_frame(&Ends::hosts(2, 1, false), IpProtocol::Icmp, &icmp);
        assert!(node.wires[0].send(&frame));
        node.cores[1].core.pipeline.manual = true;
        node.step();
        assert_eq!(node.cores[1].tcp().close_reason(id), CloseReason::Unreachable);
        node.cores[1].tcp().release(id);
        assert_eq!((node.count(Ctr::IcmpErrorsReceived), node.count(Ctr::DropIcmpUnmatched)), (1, 0));
        // Once more: now nobody has it, and its owner says so.
        node.ask(0, &frame);
        assert_eq!((node.count(Ctr::DropIcmpUnmatched), node.count(Ctr::RxTakenOver)), (1, 2));
        node.at_rest();
    }
}

#[test]
fn what_nobody_has_is_answered_once_and_not_passed_on_for_ever() {
    for n in [1, 2, 4] {
        let mut node = Node::new(n, LETTERS, |_, _| 0);
        for c in &mut node.cores {
            c.listen(80, Plan::both(1, 1, 1).0);
        }
        let e = Ends::hosts(2, 1, false);
        let mut cases = 0;
        for dst_port in [80, 79, 40_000, 40_001] {
            for bits in [16u8, 17, 18, 4, 2] {
                if (dst_port, bits) == (80, 2) {
                    continue; // A connection.
                }
                let frame = Tcp { src_port: 9, dst_port, seq: 5, ack: 6, bits, ..Tcp::default() }.frame(&e);
                let out = node.ask(cases % n, &frame);
                let resets = out.iter().filter_map(|f| Tcp::parse(f)).filter(|t| t.bits & 4 != 0).count();
                assert_eq!(resets, usize::from(bits != 4), "port {dst_port} bits {bits} cores {n}");
                cases += 1;
            }
        }
        let dropped: u64 = [Ctr::DropTcpNoFlow, Ctr::DropTcpReset, Ctr::DropTcpNoListener]
            .iter()
            .map(|c| node.count(*c))
            .sum();
        assert_eq!(dropped, cases as u64);
        // To a listener's port each of the four goes round; SYNs and impossible ports go nowhere.
        let round = 4 * (n as u64 - 1);
        let handed = node.count(Ctr::RxHandedOver);
        assert!((round..=round + 8).contains(&handed), "{handed}");
        node.at_rest();
    }
}

#[test]
fn full_mail_is_a_counted_drop() {
    let mut node = Node::new(2, 8, |_, _| 0);
    for c in &mut node.cores {
        c.listen(80, Plan::both(1, 1, 1).0);
    }
    let e = Ends::hosts(2, 1, false);
    let seg = |dst_port| Tcp { src_port: 9, dst_port, seq: 5, ack: 6, bits: 16, ..Tcp::default() }.frame(&e);
    // Core 1 does not turn. Whoever asks round gets half of the box, who has an owner all of it.
    let flood = |node: &mut Node, port| {
        for _ in 0..20 {
            assert!(node.wires[0].send(&seg(port)));
        }
        let now = node.now;
        node.cores[0].pass(now);
        (node.count(Ctr::RxHandedOver), node.count(Ctr::DropMailFull))
    };
    let (handed, dropped) = flood(&mut node, 80);
    assert_eq!((handed, dropped), (5, 15));
    let (handed, dropped) = flood(&mut node, 40_001);
    assert_eq!((handed, dropped), (8, 32));
    node.cores[0].laws().unwrap();
    assert_eq!(node.count(Ctr::TcpResetsSent), 0, "a RST could end a connection that core 1 has");
    node.step();
    assert_eq!(node.count(Ctr::DropTcpNoFlow), 8);
    node.at_rest();
}
