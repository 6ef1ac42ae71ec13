//! What RFC 9293 wants and no other test shows: docs/tcp-coverage.md cites these by number.

use std::net::IpAddr;

use dataplane::buf::CellWriter;
use dataplane::port::mem::{WireEnd, wire};
use dataplane::{Ctr, Time};
use smoltcp::wire::{IpProtocol, TcpPacket};
use stack::tcp::LISTENERS_MAX;
use stack::{ConnectError, Events, FlowId, State};

use crate::support::Host;
use crate::support::frames::{Ends, Tcp, ip_frame};
use crate::support::own::{OwnHost, Setup};
use crate::support::script::run;

const IRS: u32 = 5000;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

/// Our host 1, which listens on port 80, and the wire's other end in the test's hands, as host 2.
struct Bench {
    host: OwnHost,
    wire: WireEnd,
    now: Time,
    v6: bool,
    iss: u32,
}

impl Bench {
    fn new(v6: bool, change: impl Fn(&mut Setup)) -> Bench {
        let mut setup = Setup::host(1);
        setup.peer_mac = Some([2, 0, 0, 0, 0, 2]);
        change(&mut setup);
        let (end, wire) = wire(64, 1600);
        let mut host = OwnHost::new(&setup, end);
        host.core.pipeline.manual = true;
        host.tcp().listen(None, 80).expect("room");
        Bench { host, wire, now: Time::from_ms(1000), v6, iss: 0 }
    }

    fn segment(&self, bits: u8, seq: u32, payload: &[u8]) -> Tcp {
        Tcp {
            src_port: 7000,
            dst_port: 80,
            seq: IRS.wrapping_add(seq),
            ack: if bits & ACK != 0 { self.iss.wrapping_add(1) } else { 0 },
            bits,
            window: 60_000,
            payload: payload.to_vec(),
            ..Tcp::default()
        }
    }

    fn send(&mut self, frame: &[u8]) {
        assert!(self.wire.send(frame));
    }

    fn ends(&self) -> Ends {
        Ends::hosts(2, 1, self.v6)
    }

    fn answers(&mut self) -> Vec<Tcp> {
        while self.host.pass(self.now) {}
        let mut out = Vec::new();
        while self.wire.recv_with(|f| out.extend(Tcp::parse(f))).is_some() {}
        out
    }

    fn ask(&mut self, segments: &[Tcp]) -> Vec<Tcp> {
        for s in segments {
            let frame = s.frame(&self.ends());
            self.send(&frame);
        }
        self.answers()
    }

    /// A handshake; gives the SYN-ACK, and the connection.
    fn open(&mut self, syn: &Tcp) -> (Tcp, FlowId) {
        let syn_ack = self.ask(std::slice::from_ref(syn)).remove(0);
        self.iss = syn_ack.seq;
        let third = self.segment(ACK, 1, b"");
        assert!(self.ask(&[third]).is_empty());
        (syn_ack, self.accepted())
    }

    fn accepted(&mut self) -> FlowId {
        let events = &self.host.core.pipeline.events;
        events.iter().rev().find(|(_, e)| e.has(Events::ACCEPTED)).expect("a connection").0
    }

    fn give(&mut self, id: FlowId, n: usize) {
        let (mut w, pool) = (CellWriter::default(), self.host.rx.clone());
        let mut left = n;
        while left > 0 {
            let piece = left.min(512);
            assert!(w.reserve(piece, &pool));
            assert_eq!(w.put(&[b'x'; 512][..piece]), piece);
            let slice = w.take().expect("what was put");
            assert!(self.host.tcp().send(id, slice).is_ok());
            w.release();
            left -= piece;
        }
    }

    fn read(&mut self, id: FlowId) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(s) = self.host.tcp().read(id) {
            all.extend(s.iter());
        }
        self.host.tcp().consume(id, all.len() as u32);
        all
    }
}

/// The frame of a segment with these options, as they stand.
fn with_options(s: &Tcp, options: &[u8], e: &Ends) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    let plain = s.frame(e);
    let header = plain.len() - 20 - s.payload.len();
    let mut l4 = plain[header..header + 20].to_vec();
    l4[12] = (((20 + options.len()) / 4) << 4) as u8;
    l4.extend(options);
    l4.extend(&s.payload);
    TcpPacket::new_unchecked(&mut l4[..]).fill_checksum(&e.src.into(), &e.dst.into());
    ip_frame(e, IpProtocol::Tcp, &l4)
}

#[test]
fn mss_is_told_by_syns_only_and_has_its_defaults() {
    for (v6, ours, default) in [(false, 1460, 536), (true, 1440, 1220)] {
        let mut b = Bench::new(v6, |_| {});
        let syn = b.segment(SYN, 0, b"");
        let (syn_ack, id) = b.open(&syn);
        assert_eq!(syn_ack.mss, Some(ours), "what our interface takes, without headers");
        b.give(id, 3000);
        let out = b.answers();
        assert_eq!(out[0].payload.len(), default, "the peer has not told its own");
        assert!(out.len() > 2 && out.iter().all(|s| s.mss.is_none()), "{out:?}");
        // PSH: not before the last of what is there.
        let (last, first) = out.split_last().expect("some");
        assert!(last.bits & PSH != 0 && first.iter().all(|s| s.bits & PSH == 0), "{out:?}");
    }
}

#[test]
fn a_burst_is_taken_whole_before_it_is_acknowledged() {
    for v6 in [false, true] {
        let mut b = Bench::new(v6, |_| {});
        let syn = Tcp { mss: Some(1000), ..b.segment(SYN, 0, b"") };
        let (_, id) = b.open(&syn);
        let burst: Vec<Tcp> = (0..9).map(|i| b.segment(ACK, 1 + i * 1000, &[7; 1000])).collect();
        let out = b.ask(&burst);
        assert_eq!(out.len(), 1, "{out:?}");
        assert_eq!(out[0].ack, IRS.wrapping_add(9001));
        assert_eq!(b.read(id).len(), 9000);
    }
}

#[test]
fn urgent_data_is_delivered_inline() {
    for v6 in [false, true] {
        let mut b = Bench::new(v6, |_| {});
        let syn = b.segment(SYN, 0, b"");
        let (_, id) = b.open(&syn);
        let parts = [
            b.segment(ACK, 1, b"before "),
            b.segment(ACK | URG, 8, b"urgent "),
            b.segment(ACK, 15, b"after"),
        ];
        b.ask(&parts);
        assert_eq!(b.read(id), b"before urgent after");
    }
}

#[test]
fn a_closed_window_keeps_out_no_reset_and_no_ack() {
    for v6 in [false, true] {
        let full = |b: &mut Bench| {
            let syn = b.segment(SYN, 0, b"");
            let (_, id) = b.open(&syn);
            b.give(id, 10);
            b.answers();
            let mut at = 1;
            loop {
                let data = b.segment(ACK, at, &[1; 1000]);
                let out = b.ask(&[data]);
                at += 1000;
                if out.iter().any(|s| s.window == 0) {
                    let right = out.last().map_or(0, |s| s.ack.wrapping_sub(IRS));
                    return (id, right);
                }
                assert!(at < 200_000, "the window closes when nobody reads");
            }
        };
        let mut b = Bench::new(v6, |s| s.limits.request_budget_bytes = 16 << 10);
        let (id, right) = full(&mut b);
        let mut ack = b.segment(ACK | URG, right, b"");
        ack.ack = b.iss.wrapping_add(11);
        b.ask(&[ack]);
        assert_eq!(b.host.tcp().queued(id), 0, "the ACK was taken");
        let rst = b.segment(RST, right, b"");
        b.ask(&[rst]);
        assert_eq!(b.host.tcp().state(id), State::Closed);
    }
}

/// RFC 6528: a clock of 4 µs, and a keyed function of the ends.
#[test]
fn initial_numbers_follow_a_clock_and_a_secret() {
    let first = |key: u64, port: u16, wait_ms: u64| {
        let mut b = Bench::new(false, |s| s.keys[2] ^= key);
        b.now = b.now.plus_ns(wait_ms * 1_000_000);
        let syn = Tcp { src_port: port, ..b.segment(SYN, 0, b"") };
        b.ask(&[syn])[0].seq
    };
    let seq = first(0, 7000, 0);
    assert_eq!(first(0, 7000, 0), seq, "by nothing else");
    assert_eq!(first(0, 7000, 1000), seq.wrapping_add(250_000));
    assert_ne!(first(1, 7000, 0), seq, "another secret");
    assert_ne!(first(0, 7001, 0), seq, "another connection");
}

#[test]
fn keep_alives_are_for_who_asks_and_one_may_be_lost() {
    const OPEN: &str = "< S 0 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\n";
    run("three hours of silence", &format!("{OPEN}+10800000\n> -\n= ESTAB\ncount tcp.keep_alives 0"));
    run(
        "one without an answer",
        &format!("{OPEN}keep\n+60001\n> A 0 ack 1\n+10001\n> A 0 ack 1\n< A 1 ack 1\n+59000\n> -\n= ESTAB"),
    );
}

/// RFC 5961 7, and CVE-2016-5696: nobody can count out how many there may be.
#[test]
fn challenges_are_limited_by_a_number_that_changes() {
    let mut b = Bench::new(false, |s| s.limits.flows = 2000);
    for port in 7000..8600 {
        let syn = Tcp { src_port: port, ..b.segment(SYN, 0, b"") };
        b.iss = b.ask(&[syn])[0].seq;
        let third = Tcp { src_port: port, ..b.segment(ACK, 1, b"") };
        assert!(b.ask(&[third]).is_empty());
    }
    let mut limits = Vec::new();
    let mut before = 0;
    for second in 2..6 {
        b.now = Time::from_ms(second * 1000);
        // One of each connection: it has no more in half a second.
        for n in 0..40 {
            let resets = (0..40).map(|i| Tcp { src_port: 7000 + 40 * n + i, ..b.segment(RST, 2, b"") });
            b.ask(&resets.collect::<Vec<_>>());
        }
        let (sent, held) = (b.host.get(Ctr::TcpChallengeAcks), b.host.get(Ctr::TcpChallengeLimited));
        assert_eq!(sent + held, 1600 * (second - 1));
        limits.push(sent - before);
        before = sent;
    }
    assert!(limits.iter().all(|n| (500..1500).contains(n)), "{limits:?}");
    assert!(limits.iter().any(|n| *n != limits[0]), "{limits:?}");
}

#[test]
fn a_reset_may_carry_data() {
    const OPEN: &str = "< S 0 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\n";
    run("RST with data", &format!("{OPEN}< R 1:21\n= CLOSED Reset\nrelease\n= -"));
}

/// Unknown ones, without alignment, of no possible length, and in any segment.
#[test]
fn options_that_are_odd_harm_nothing() {
    for v6 in [false, true] {
        // An unknown one of three bytes, so that the MSS stands at an odd place.
        let mut b = Bench::new(v6, |_| {});
        let syn = with_options(&b.segment(SYN, 0, b""), &[253, 3, 9, 2, 4, 1, 244, 0], &b.ends());
        b.send(&syn);
        b.iss = b.answers().remove(0).seq;
        let third = b.segment(ACK, 1, b"");
        b.ask(&[third]);
        let id = b.accepted();
        b.give(id, 1200);
        assert_eq!(b.answers()[0].payload.len(), 500, "the MSS behind it was read");
        // In a segment with data: unknown, an MSS that has no business there, one without a length, one beyond the end.
        for (n, options) in [[253, 4, 1, 2], [2, 4, 0, 1], [253, 0, 0, 0], [1, 1, 253, 40]].iter().enumerate()
        {
            let data = with_options(&b.segment(ACK, 1 + n as u32, b"d"), options, &b.ends());
            b.send(&data);
            b.answers();
            assert_eq!(b.read(id), b"d", "{options:?}");
        }
        assert_eq!(b.host.tcp().flow(id).mss, 500);
    }
}

#[test]
fn groups_are_neither_asked_nor_answered() {
    // With a gateway there is a way everywhere.
    let mut b = Bench::new(false, |s| s.gateway = Some(IpAddr::from([10, 0, 0, 9])));
    let now = b.now;
    for to in ["224.0.0.1:80", "255.255.255.255:80", "10.0.0.255:80", "[ff02::1]:80"] {
        let to = to.parse().expect("an address");
        let stack = b.host.stack();
        assert_eq!(stack.tcp.connect(&stack.net, to, now), Err(ConnectError::NoRoute), "{to}");
    }
    for (dst, mac) in [
        ("10.0.0.255", [0xff; 6]),
        ("10.0.0.255", [2, 0, 0, 0, 0, 1]),
        ("224.0.0.1", [1, 0, 0x5e, 0, 0, 1]),
        ("255.255.255.255", [0xff; 6]),
        ("ff02::1", [0x33, 0x33, 0, 0, 0, 1]),
    ] {
        let dst: IpAddr = dst.parse().expect("an address");
        let e = Ends { dst, dst_mac: mac, ..Ends::hosts(2, 1, dst.is_ipv6()) };
        for bits in [SYN, ACK] {
            let frame = b.segment(bits, 0, b"").frame(&e);
            b.send(&frame);
            assert!(b.answers().is_empty(), "{dst} {bits}");
        }
    }
    assert_eq!(b.host.tcp().in_use().0, 0);
}

#[test]
fn the_owner_may_choose_its_address() {
    let mut b = Bench::new(false, |s| s.addresses.push((IpAddr::from([10, 0, 0, 7]), 24)));
    let (now, to) = (b.now, ([10, 0, 0, 2], 80).into());
    let stack = b.host.stack();
    let own: IpAddr = [10, 0, 0, 7].into();
    let id = stack.tcp.connect_as(&stack.net, Some(own.into()), to, now).expect("room");
    assert_eq!(b.host.tcp().tuple(id).local, own.into());
    let stack = b.host.stack();
    let id = stack.tcp.connect(&stack.net, to, now).expect("room");
    assert_eq!(b.host.tcp().tuple(id).local, IpAddr::from([10, 0, 0, 1]).into());
}

#[test]
fn listeners_of_one_port_and_several_addresses() {
    let mut b = Bench::new(false, |_| {});
    let four = b.host.tcp().listen(Some(IpAddr::from([10, 0, 0, 1]).into()), 81).expect("room");
    let six: IpAddr = "fd00::1".parse().expect("an address");
    let six = b.host.tcp().listen(Some(six.into()), 81).expect("room");
    for (v6, listener) in [(false, four), (true, six)] {
        b.v6 = v6;
        let syn = Tcp { dst_port: 81, ..b.segment(SYN, 0, b"") };
        b.iss = b.ask(&[syn]).remove(0).seq;
        let third = Tcp { dst_port: 81, ..b.segment(ACK, 1, b"") };
        b.ask(&[third]);
        let id = b.accepted();
        assert_eq!(b.host.tcp().listener(id), listener);
    }
    // One too many is an error, and those that there are go on.
    for port in 0..LISTENERS_MAX as u16 {
        b.host.tcp().listen(None, 1000 + port);
    }
    assert_eq!(b.host.tcp().listen(None, 99), None);
    b.v6 = false;
    let syn = Tcp { src_port: 7001, ..b.segment(SYN, 0, b"") };
    assert_eq!(b.ask(&[syn])[0].bits, SYN | ACK);
}
