//! Many connections that come and go, and many SYNs that lead to none: over the engine alone.

use dataplane::rng::Rng;
use dataplane::{BURST_MAX, Ctr};
use hugepages::Limits;
use stack::tcp::CookieUse;

use super::engine::{ANSWER_BYTES, Engine, REQUEST, limits};
use super::median;

/// Virtual time of the run with TIME-WAIT in it.
const SECONDS: u64 = 120;
/// Connections in a second of virtual time: as many records of TIME-WAIT as 60 s of it take.
const PER_SECOND: u64 = 20_000;
/// Passes of one connection: SYN, ACK and request, FIN.
const STEPS: usize = 3;

/// Cycles of passes, where those that the kernel or a neighbour on this machine interrupted count like those before them.
#[derive(Default)]
pub struct Calm {
    per_packet: f64,
}

impl Calm {
    fn pass(&mut self, e: &mut Engine) -> u64 {
        let packets = e.waiting();
        self.count(e.timed_pass(), packets)
    }

    /// What a pass is to count that took so long for so many packets.
    pub fn count(&mut self, took: u64, packets: usize) -> u64 {
        let packets = packets.max(1) as f64;
        let each = took as f64 / packets;
        if self.per_packet == 0.0 || each < 4.0 * self.per_packet {
            self.per_packet += (each - self.per_packet) / if self.per_packet == 0.0 { 1.0 } else { 32.0 };
            return took;
        }
        // A change that lasts is believed in the end.
        self.per_packet *= 1.02;
        (self.per_packet * packets) as u64
    }
}

/// What connections cost that have one request and are closed by the server.
pub struct Opened {
    /// Nanoseconds of the core for each, median of the bursts behind the first 60 s.
    pub ns: f64,
    /// The same over the whole run, with what interrupted it.
    pub mean_ns: f64,
    pub connections: u64,
    /// Records of TIME-WAIT that were given to others before their time.
    pub recycled: u64,
}

/// Handshake, one request, close, with the server closing first; 64 at a time.
pub fn open_and_close(offload: bool, hz: f64) -> Opened {
    let n = (SECONDS * PER_SECOND) as usize;
    let limits = Limits { time_wait: (62 * PER_SECOND) as u32, ..limits(4096) };
    let mut e = Engine::with(limits, n as u32, offload, CookieUse::default());
    e.close_first();
    let (mut late, mut sum, mut opened) = (Vec::new(), 0.0, 0);
    for from in (0..n).step_by(BURST_MAX) {
        let some = from..(from + BURST_MAX).min(n);
        let mut cycles = 0;
        for step in 0..STEPS {
            for i in some.clone() {
                match step {
                    0 => e.syn(i),
                    // The handshake's ACK, and the request behind it, as two segments.
                    1 if i % 2 == 0 => {
                        e.segment(i, 16, &[]);
                        e.segment(i, 16 | 8, REQUEST);
                    }
                    1 => {}
                    _ => e.segment(i, 16 | 1, &[]),
                }
            }
            cycles += e.timed_pass();
            let answers = e.take_sent();
            if step == 1 {
                // A burst is 64 packets: the other half.
                for i in some.clone().filter(|i| i % 2 == 1) {
                    e.segment(i, 16, &[]);
                    e.segment(i, 16 | 8, REQUEST);
                }
                cycles += e.timed_pass();
                assert_eq!(answers + e.take_sent(), some.len(), "every request is answered");
            }
            e.wait_ns(some.len() as u64 * 1_000_000_000 / PER_SECOND / STEPS as u64);
        }
        opened += some.len() as u64;
        let each = cycles as f64 / some.len() as f64;
        sum += cycles as f64;
        if from as u64 > n as u64 / 2 {
            late.push(each);
        }
    }
    let c = e.segment.read();
    assert_eq!(c.get(Ctr::TcpTimeWaits), opened, "each ends in TIME-WAIT");
    assert_eq!(e.stack.tcp.in_use().0, 0);
    let ns = |cycles: f64| cycles / hz * 1e9;
    Opened {
        ns: ns(median(&mut late)),
        mean_ns: ns(sum / opened as f64),
        connections: opened,
        recycled: c.get(Ctr::TcpTimeWaitRecycled),
    }
}

/// What a core does beside a flood.
pub struct Flooded {
    /// Bytes of answers in a second of the core's time, MB.
    pub goodput: f64,
    /// Requests in it.
    pub requests: f64,
    /// SYNs in it.
    pub syns: f64,
    /// New connections that were tried meanwhile, and those that got their answer.
    pub tried: u64,
    pub answered: u64,
    /// Growth of this process's memory, bytes.
    pub grown: f64,
}

/// Requests on `flows` open connections as fast as the core takes them, and `rate` SYNs in each second of the core's own
/// time, all answered by cookies; beside them new connections of honest clients.
pub fn flood(flows: u32, offload: bool, rate: f64, requests: usize, hz: f64) -> Flooded {
    let mut e =
        Engine::with(limits(flows.next_power_of_two().max(1024) * 2), flows, offload, CookieUse::Always);
    // Opened by cookies, too.
    e.open_all();
    let honest = flows as usize;
    let more = 4096;
    e.add_peers(more);
    let mut rng = Rng::new(9);
    let (mut cycles, mut syns, mut done) = (0u64, 0u64, 0usize);
    let (mut tried, mut answered, mut step) = (0u64, 0u64, 0usize);
    let mut before = (0, e.stack.tcp.in_use(), e.rx_free());
    let mut warm = flows as usize * 2;
    let mut turns = 0usize;
    let mut clock = Calm::default();
    while done < requests {
        let owed = (cycles as f64 / hz * rate) as u64 - syns;
        for _ in 0..owed.min(BURST_MAX as u64 - 4) {
            e.strange_syn(&mut rng);
            syns += 1;
        }
        // An honest client is somewhere in the handshake, in a pass out of four.
        turns += 1;
        let i = honest + tried as usize % more;
        if turns.is_multiple_of(4) {
            match step {
                0 => e.syn(i),
                1 => e.segment(i, 16, &[]),
                2 => e.segment(i, 16 | 8, REQUEST),
                _ => e.segment(i, 4, &[]),
            }
        }
        let n = (BURST_MAX - e.waiting()).min(flows as usize);
        e.fill_some(n);
        cycles += clock.pass(&mut e);
        let got = e.take_sent();
        if turns.is_multiple_of(4) {
            answered += (got - n) as u64;
            step = (step + 1) % 4;
            tried += u64::from(step == 0);
        }
        done += n;
        if warm > 0 {
            warm = warm.saturating_sub(n);
            if warm == 0 {
                (cycles, syns, done) = (0, 0, 0);
                before = (super::resident_bytes(), e.stack.tcp.in_use(), e.rx_free());
            }
        }
    }
    let seconds = cycles as f64 / hz;
    assert!(e.stack.tcp.in_use().0 <= before.1.0 + 1, "the flood takes no flows");
    Flooded {
        goodput: done as f64 * ANSWER_BYTES as f64 / seconds / 1e6,
        requests: done as f64 / seconds,
        syns: syns as f64 / seconds,
        tried,
        answered,
        grown: super::resident_bytes() as f64 - before.0 as f64,
    }
}
