//! Somebody beside a transfer who knows the addresses and ports, but not what is said: RFC 5961. What he makes up falls
//! within the windows and outside of them; the stream survives. He is made to guess well: his numbers come from the
//! victim's control block, and are right but for the one that the rules rest on.

use std::net::IpAddr;

use dataplane::port::link::{Faults, Link};
use dataplane::port::mem::{WireEnd, wire};
use dataplane::rng::Rng;
use dataplane::{Ctr, Time};
use stack::tcp::{Flags, Tcb};
use stack::{CloseReason, State};

use crate::support::frames::{Ends, Tcp, too_big};
use crate::support::own::{OwnHost, Setup};
use crate::support::{Host, Plan, seeds};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const FIN: u8 = 1;
const BYTES: u64 = 400_000;

/// Host 1, a link, host 2; whoever sits on host 2's wire can add to what arrives there.
struct Beside {
    a: OwnHost,
    b: OwnHost,
    link: Link,
    mid: WireEnd,
    near: WireEnd,
    now: Time,
    rng: Rng,
    v6: bool,
    made_up: u64,
}

impl Beside {
    fn new(seed: u64, v6: bool) -> Beside {
        Beside::with(&Setup::host(2), seed, v6)
    }

    fn with(host: &Setup, seed: u64, v6: bool) -> Beside {
        let (host_a, left) = wire(256, 1600);
        let (right, mid) = wire(256, 1600);
        let (near, host_b) = wire(512, 1600);
        let faults = Faults {
            delay_ns: 2_000_000,
            rate_bps: 100_000_000,
            queue_bytes: 200_000,
            loss_ppm: if seed.is_multiple_of(2) { 0 } else { 5_000 },
            ..Faults::default()
        };
        Beside {
            a: OwnHost::new(&Setup::host(1), host_a),
            b: OwnHost::new(host, host_b),
            link: Link::new(left, right, faults, seed),
            mid,
            near,
            now: Time(0),
            rng: Rng::new(seed ^ 0x5961),
            v6,
            made_up: 0,
        }
    }

    fn carry(&mut self) {
        while self.mid.recv_with(|f| self.near.send(f)).is_some() {}
        while self.near.recv_with(|f| self.mid.send(f)).is_some() {}
    }

    fn step(&mut self) -> bool {
        let mut turns = 0;
        loop {
            self.link.step(self.now);
            self.carry();
            if !(self.a.pass(self.now) | self.b.pass(self.now)) {
                break;
            }
            turns += 1;
            assert!(turns < 100_000, "no end of work at {}", self.now);
        }
        self.carry();
        self.link.step(self.now);
        let next = [self.link.next_due(), self.a.next_deadline(self.now), self.b.next_deadline(self.now)];
        let Some(next) = next.into_iter().flatten().min() else { return false };
        self.now = next.max(self.now.plus_ns(1));
        true
    }

    /// Runs to the end, with up to `flood` segments made up at each step; gives when it was.
    fn run(&mut self, flood: u64) -> Time {
        let limit = Time::from_ms(600_000);
        while !(self.a.is_done() && self.b.is_done()) {
            assert!(self.now < limit, "not over: {:?} {:?}", self.a.results(), self.b.results());
            for _ in 0..self.rng.below(flood + 1) {
                self.make_up();
            }
            if !self.step() {
                break;
            }
        }
        let end = self.now;
        for h in [&mut self.a, &mut self.b] {
            for (plan, out) in h.results() {
                out.verify(&plan).unwrap();
                assert_eq!(out.closed, Some(Some(CloseReason::Done)));
            }
            assert_eq!(h.get(Ctr::TcpResetsReceived), 0);
        }
        while self.now < end.plus_ns(1_000_000_000) && self.step() {}
        for h in [&mut self.a, &mut self.b] {
            h.laws().and_then(|()| h.leaks()).unwrap();
        }
        end
    }

    /// One segment from nobody.
    fn make_up(&mut self) {
        let Some(id) = self.b.tcp().flows().next() else { return };
        let t = self.b.tcp().flow(id);
        if matches!(t.state, State::Closed | State::SynSent | State::SynReceived) {
            return;
        }
        let frame = made_up(&mut self.rng, t, self.v6);
        self.made_up += u64::from(self.near.send(&frame));
    }
}

/// A segment, or an ICMP error, that RFC 5961 (RFC 5927, RFC 7323) promises to survive.
fn made_up(r: &mut Rng, t: &Tcb, v6: bool) -> Vec<u8> {
    let window = t.rcv_adv.since(t.rcv_nxt);
    let nxt = t.rcv_nxt.0;
    // In the window, but not where it begins.
    let within = nxt.wrapping_add(1 + r.below(u64::from(window.max(2) - 1)) as u32);
    let outside = nxt.wrapping_add((1 << 30) + r.below(1 << 31) as u32);
    let good_ack = t.snd_una.0.wrapping_add(r.below(u64::from(t.flight()) + 1) as u32);
    let bad_ack = match r.below(3) {
        0 => t.snd_nxt.0.wrapping_add(1),
        1 => t.snd_nxt.0.wrapping_add(1 + r.below(1 << 30) as u32),
        _ => t.snd_una.0.wrapping_sub(t.snd_wnd_max + 1 + r.below(1 << 30) as u32),
    };
    let any = [nxt, within, outside][r.below(3) as usize];
    let payload = |r: &mut Rng| vec![0xEE; r.below(900) as usize + 1];
    let mut s = Tcp {
        src_port: t.tuple.remote_port,
        dst_port: t.tuple.local_port,
        ack: good_ack,
        bits: ACK,
        window: r.next_u64() as u16,
        ts: t.flags.has(Flags::TIMESTAMPS).then(|| (t.ts_recent.wrapping_add(r.below(3) as u32), 0)),
        ..Tcp::default()
    };
    match r.below(12) {
        // At the exact place it would reset: that is what RFC 5961 leaves of the attack. A window of nothing has no other.
        0 if window > 1 => (s.seq, s.bits) = (within, RST),
        1 if window > 1 => (s.seq, s.bits, s.ack) = (within, RST | ACK, good_ack),
        0..=2 => (s.seq, s.bits) = (outside, RST | (r.next_u64() as u8 & ACK)),
        3 => (s.seq, s.bits) = (any, SYN),
        4 => (s.seq, s.bits) = (any, SYN | ACK),
        5 => (s.seq, s.ack, s.payload) = (nxt, bad_ack, payload(r)),
        6 => (s.seq, s.ack, s.payload, s.bits) = (within, bad_ack, payload(r), ACK | FIN),
        7 => (s.seq, s.payload, s.bits) = (outside, payload(r), ACK | (r.next_u64() as u8 & FIN)),
        8 => (s.seq, s.ack) = (any, bad_ack),
        9 => (s.seq, s.bits, s.payload) = (any, 0, payload(r)),
        10 if s.ts.is_some() => {
            (s.seq, s.payload) = (nxt, payload(r));
            s.ts = Some((t.ts_recent.wrapping_sub(1 + r.below(1 << 30) as u32), 0));
        }
        10 => {
            (s.seq, s.ack) = (any, bad_ack);
            s.sack = vec![(t.snd_una.0, t.snd_nxt.0), (t.snd_nxt.0, t.snd_nxt.0.wrapping_add(9000))];
        }
        // "Too big", of what is not out: the quoted port and number are ours.
        _ => {
            let seq = [t.snd_nxt.0, t.snd_una.0.wrapping_sub(1), outside][r.below(3) as usize];
            return turned(too_big(v6, 600 + r.below(900) as u16, s.dst_port, s.src_port, seq));
        }
    }
    s.frame(&Ends::hosts(1, 2, v6))
}

/// An ICMP error that was written for host 1, for host 2.
fn turned(frame: Vec<u8>) -> Vec<u8> {
    let mut f = frame;
    f[..12].rotate_left(6);
    let swap = |f: &mut [u8], at: usize, n: usize| {
        let (a, b) = f[at..at + 2 * n].split_at_mut(n);
        a.swap_with_slice(b);
    };
    // The sums stay as they are: they do not know what is first.
    if f[12] == 8 {
        swap(&mut f, 26, 4);
        swap(&mut f, 14 + 20 + 8 + 12, 4);
    } else {
        swap(&mut f, 22, 16);
        swap(&mut f, 14 + 40 + 8 + 8, 16);
    }
    f
}

/// Made-up clients, whose handshakes are done, and whose data never begins at its beginning.
struct Junk {
    ends: Ends,
    to: u16,
    clients: Vec<(u16, u32, u32)>,
    round: u32,
}

impl Junk {
    /// So many of them at host 2.
    fn new(w: &mut Beside, clients: u16, to: u16) -> Junk {
        let ends = Ends { src: [10, 0, 0, 77].into(), ..Ends::hosts(1, 2, false) };
        let mut j = Junk { ends, to, clients: Vec::new(), round: 0 };
        for port in 20_000..20_000 + clients {
            let syn = Tcp { src_port: port, dst_port: to, bits: SYN, mss: Some(1460), ..Tcp::default() };
            w.near.send(&Tcp { window: 60_000, ..syn.clone() }.frame(&ends));
            while w.b.pass(w.now) {}
            let t = w.b.tcp();
            let id = t.flows().find(|id| t.tuple(*id).remote_port == port).expect("a connection");
            let seq = t.flow(id).iss.0.wrapping_add(1);
            let ack = Tcp { src_port: port, dst_port: to, seq: 1, ack: seq, bits: ACK, ..Tcp::default() };
            w.near.send(&Tcp { window: 60_000, ..ack }.frame(&ends));
            while w.b.pass(w.now) {}
            w.carry();
            j.clients.push((port, 1, seq));
        }
        j
    }

    /// So many segments from one after the other, none of which is the first.
    fn send(&mut self, w: &mut Beside, segments: u32) {
        for _ in 0..segments {
            let clients = self.clients.len() as u32;
            let (port, seq, ack) = &self.clients[(self.round % clients) as usize];
            let seq = seq + 1000 + self.round / clients % 43 * 1500;
            self.round += 1;
            let s = Tcp { src_port: *port, dst_port: self.to, seq, ack: *ack, bits: ACK, ..Tcp::default() };
            w.near.send(&Tcp { window: 60_000, payload: vec![0xEE; 1400], ..s }.frame(&self.ends));
            while w.b.pass(w.now) {}
            w.carry();
        }
    }
}

#[test]
fn a_little_now_and_then_does_not_keep_what_nobody_owns() {
    let mut w = Beside::new(0, false);
    let (all, finish) = (100_000, crate::support::Finish::Orphan);
    w.b.listen(80, Plan::both(1, all, 0).0.ending(finish));
    let j = Junk::new(&mut w, 1, 80);
    let (port, seq, _) = j.clients[0];
    let began = w.now;
    let mut next = began;
    while w.b.tcp().in_use().0 > 0 && w.now < began.plus_ns(3_000_000_000_000) {
        if w.now >= next {
            next = w.now.plus_ns(10_000_000_000);
            let t = w.b.tcp();
            let id = t.flows().next().expect("it is still there");
            let ack = t.flow(id).snd_una.0.wrapping_add(100);
            let s = Tcp { src_port: port, dst_port: 80, seq, ack, bits: ACK, ..Tcp::default() };
            w.near.send(&Tcp { window: 60_000, ..s }.frame(&j.ends));
        }
        assert!(w.step());
    }
    let took = w.now.since_ns(began) / 1_000_000_000;
    assert!((299..=301).contains(&took), "{took} s");
    assert_eq!((w.b.get(Ctr::TcpLingerOver), w.b.get(Ctr::TcpTimeouts)), (1, 0));
    assert!(w.b.results()[0].1.sent == all);
    w.b.leaks().unwrap();
}

#[test]
fn what_is_never_completed_closes_no_windows() {
    let mut took = [0; 2];
    for (junk, took) in [false, true].into_iter().zip(&mut took) {
        let mut host = Setup::host(2);
        (host.limits.rx_cells, host.limits.flows) = (8192, 256);
        let mut w = Beside::with(&host, 1, false); // With losses: what is out of order is of use, too.
        let mut j = Junk::new(&mut w, 0, 81);
        w.b.listen(80, Plan::both(9, 0, 0).0);
        let nothing = Plan::both(9, 0, 0).1.ending(crate::support::Finish::Never);
        w.b.listen(81, nothing);
        if junk {
            j = Junk::new(&mut w, 200, 81);
            j.send(&mut w, 43 * 200);
            w.now = w.now.plus_ns(2_000_000_000);
        }
        let (here, there) = Plan::both(1, 3 * BYTES, 0);
        w.b.listen(82, there);
        let (began, mut steps) = (w.now, 0);
        w.a.connect(([10, 0, 0, 2], 82).into(), here, w.now).unwrap();
        let got = |w: &Beside| w.b.results().iter().map(|(_, o)| o.got).max();
        while got(&w) < Some(3 * BYTES) && w.now < began.plus_ns(60_000_000_000) {
            // Some thousand in a second: as many as wait in two.
            steps += 1;
            if junk && steps % 16 == 0 {
                j.send(&mut w, 1);
            }
            assert!(w.step());
        }
        *took = w.now.since_ns(began) / 1_000_000;
        let free = w.b.rx.free_count();
        assert!(free > 8192 / 2, "{free} cells are free");
        assert_eq!(junk, w.b.get(Ctr::TcpReneged) > 0, "others' made room");
    }
    let [alone, beside] = took;
    assert!(beside <= alone + alone / 2, "{beside} ms, {alone} alone");
}

#[test]
fn a_transfer_survives_whoever_guesses_beside_it() {
    let (mut challenged, mut made_up) = (0, 0);
    let mut slowest: f64 = 0.0;
    for seed in seeds(24) {
        let v6 = seed & 2 != 0;
        let mut took = [Time(0); 2];
        for (flood, took) in [0, 3].into_iter().zip(&mut took) {
            let mut w = Beside::new(seed, v6);
            let (here, there) = Plan::both(seed, BYTES, BYTES / 2);
            let ip = |n: u16| {
                if v6 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]) } else { [10, 0, 0, n as u8].into() }
            };
            if seed & 4 == 0 {
                w.b.listen(80, there);
                w.a.connect((ip(2), 80).into(), here, w.now).unwrap();
            } else {
                w.a.listen(80, here);
                w.b.connect((ip(1), 80).into(), there, w.now).unwrap();
            }
            *took = w.run(flood);
            challenged += w.b.get(Ctr::TcpChallengeAcks) + w.b.get(Ctr::TcpChallengeLimited);
            made_up += w.made_up;
            if flood > 0 {
                assert!(w.made_up > 300, "seed {seed}: {}", w.made_up);
                assert_eq!(w.b.get(Ctr::TcpMtuLearnt), 0, "seed {seed}");
            }
        }
        slowest = slowest.max(took[1].0 as f64 / took[0].0 as f64);
    }
    println!(
        "{made_up} made up, {challenged} challenges, sent or held back; the slowest took {slowest:.2} times as long as alone"
    );
    assert!(challenged > 1000, "{challenged}");
}
