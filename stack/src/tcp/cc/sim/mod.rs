//! A bottleneck with senders at it, in virtual time: what the algorithms come to on a path, without an engine.
//!
//! One drop-tail queue at one rate; every packet is acknowledged by itself a base RTT after it has left the queue; what
//! is lost is known when three later packets have been acknowledged; a sender has a window, pacing, PRR, rate samples and
//! a retransmission timer. Randomness is a seed's.

mod flow;
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dataplane::Time;

use super::Algorithm;
pub(super) use flow::Flow;

/// Bytes of payload in a packet; rates are of payload.
pub(super) const MSS: u32 = 1448;
const MS: u64 = 1_000_000;

/// The path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Bits a second.
    pub rate: u64,
    /// Round trip of an empty path, ms.
    pub rtt_ms: u64,
    /// What the queue holds, bytes.
    pub queue: u64,
    /// Packets lost at random, of 10,000.
    pub loss: u64,
}

impl Path {
    /// With a queue of that many BDP/100.
    pub(super) fn new(mbit: u64, rtt_ms: u64, queue_percent: u64) -> Path {
        let bdp = mbit * 1_000_000 / 8 * rtt_ms / 1000;
        Path { rate: mbit * 1_000_000, rtt_ms, queue: bdp * queue_percent / 100, loss: 0 }
    }

    pub(super) fn loss(self, per_10000: u64) -> Path {
        Path { loss: per_10000, ..self }
    }

    fn ns(&self, bytes: u64) -> u64 {
        bytes * 8 * 1_000_000_000 / self.rate
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The acknowledgment of that packet arrives.
    Ack(usize, u64),
    /// Pacing, or the retransmission timer.
    Wake(usize),
}

/// The world.
pub(super) struct Sim {
    pub now: u64,
    pub path: Path,
    pub flows: Vec<Flow>,
    /// Packets dropped by the full queue, and by chance.
    pub tail_drops: u64,
    /// Highest delay in the queue since it was last taken, ns.
    pub delay_max: u64,
    busy_until: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    random: u64,
}

impl Sim {
    pub(super) fn new(path: Path, seed: u64) -> Sim {
        Sim {
            now: 0,
            path,
            flows: Vec::new(),
            tail_drops: 0,
            delay_max: 0,
            busy_until: 0,
            events: BinaryHeap::new(),
            order: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// A sender with endless data.
    pub(super) fn add(&mut self, algorithm: Algorithm) -> usize {
        let id = self.flows.len();
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.flows.push(Flow::new(algorithm, (self.random >> 32) as u32, self.now));
        self.pump(id);
        id
    }

    /// More to send for a flow that has a budget.
    pub(super) fn give(&mut self, id: usize, bytes: u64) {
        if let Some(b) = &mut self.flows[id].budget {
            *b += bytes;
        }
        self.pump(id);
    }

    /// Until that many ms from now.
    pub(super) fn run(&mut self, for_ms: u64) {
        let end = self.now + for_ms * MS;
        while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
            if at > end {
                break;
            }
            self.events.pop();
            self.now = at;
            match event {
                Event::Ack(flow, packet) => {
                    self.flows[flow].on_ack(Time(at), packet);
                    self.pump(flow);
                }
                // An earlier one took its place.
                Event::Wake(flow) if self.flows[flow].wake_at != at => {}
                Event::Wake(flow) => {
                    self.flows[flow].wake_at = u64::MAX;
                    self.flows[flow].on_timer(Time(at));
                    self.pump(flow);
                }
            }
        }
        self.now = end;
    }

    /// What each flow has delivered in the next `for_ms`, in kbit/s.
    pub(super) fn goodput(&mut self, for_ms: u64) -> Vec<u64> {
        let before: Vec<u64> = self.flows.iter().map(|f| f.delivered).collect();
        self.run(for_ms);
        self.flows.iter().zip(before).map(|(f, b)| (f.delivered - b) * 8 / for_ms).collect()
    }

    /// Delay in the queue, µs.
    pub(super) fn queue_us(&self) -> u64 {
        self.busy_until.saturating_sub(self.now) / 1000
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    /// Sends what may be sent, and sets the flow's timer.
    fn pump(&mut self, id: usize) {
        while let Some(packet) = self.flows[id].send(Time(self.now)) {
            let backlog = self.busy_until.saturating_sub(self.now);
            let limit = self.path.ns(self.path.queue);
            let dropped = backlog + self.path.ns(u64::from(MSS)) > limit + self.path.ns(u64::from(MSS));
            self.random =
                self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unlucky = (self.random >> 33) % 10_000 < self.path.loss;
            if dropped {
                self.tail_drops += 1;
                continue;
            }
            self.busy_until = self.busy_until.max(self.now) + self.path.ns(u64::from(MSS));
            self.delay_max = self.delay_max.max(backlog);
            if !unlucky {
                self.at(self.busy_until + self.path.rtt_ms * MS, Event::Ack(id, packet));
            }
        }
        let at = self.flows[id].next_wake(self.now);
        if at < self.flows[id].wake_at {
            self.flows[id].wake_at = at;
            self.at(at, Event::Wake(id));
        }
    }
}

/// Jain's index, per cent.
pub(super) fn jain(shares: &[u64]) -> u64 {
    let sum: u64 = shares.iter().sum();
    let squares: u64 = shares.iter().map(|s| s * s).sum();
    100 * sum * sum / (squares.max(1) * shares.len() as u64)
}
