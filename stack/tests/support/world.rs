//! Two hosts, the link between them, and virtual time.

use dataplane::Time;
use dataplane::port::link::{Faults, Link};
use dataplane::port::mem::wire;
use dataplane::rng::Rng;

use super::Host;
use super::own::{OwnHost, Setup};
use super::peer::PeerHost;

/// Frames that a wire holds in each direction.
const FRAMES: usize = 256;
const FRAME_BYTES: usize = 1600;

pub struct World<B> {
    pub a: OwnHost,
    pub b: B,
    pub link: Link,
    pub now: Time,
    /// Hosts that do nothing for a while now and then, as a core that was taken away does.
    pub stalls: Stalls,
}

/// When hosts stall.
pub struct Stalls {
    rng: Rng,
    /// How often a step ends in one; 0: never.
    ppm: u64,
    /// The longest.
    max_ns: u64,
    /// Until when each host does.
    until: [Time; 2],
}

impl Stalls {
    /// Never.
    pub fn none() -> Stalls {
        Stalls::drawn(0, 0, 0)
    }

    /// After a step out of so many million, for up to so long, by seed.
    pub fn drawn(seed: u64, ppm: u64, max_ns: u64) -> Stalls {
        Stalls { rng: Rng::new(seed ^ 0x57A1), ppm, max_ns, until: [Time(0); 2] }
    }

    fn draw(&mut self, now: Time) {
        for until in &mut self.until {
            if self.ppm > 0 && *until <= now && self.rng.chance(self.ppm as u32) {
                *until = now.plus_ns(self.rng.below(self.max_ns));
            }
        }
    }
}

/// Two of our hosts.
pub fn pair(faults: Faults, seed: u64) -> World<OwnHost> {
    pair_with(&Setup::host(1), &Setup::host(2), faults, seed)
}

/// Two of our hosts, set up as the caller wants them.
pub fn pair_with(a: &Setup, b: &Setup, faults: Faults, seed: u64) -> World<OwnHost> {
    let (host_a, left) = wire(FRAMES, FRAME_BYTES);
    let (host_b, right) = wire(FRAMES, FRAME_BYTES);
    World {
        a: OwnHost::new(a, host_a),
        b: OwnHost::new(b, host_b),
        link: Link::new(left, right, faults, seed),
        now: Time(0),
        stalls: Stalls::none(),
    }
}

/// Two of our hosts on a link whose directions differ.
pub fn pair_on(a: &Setup, b: &Setup, there: Faults, back: Faults, seed: u64) -> World<OwnHost> {
    let (host_a, left) = wire(FRAMES, FRAME_BYTES);
    let (host_b, right) = wire(FRAMES, FRAME_BYTES);
    World {
        a: OwnHost::new(a, host_a),
        b: OwnHost::new(b, host_b),
        link: Link::asymmetric(left, right, there, back, seed),
        now: Time(0),
        stalls: Stalls::none(),
    }
}

/// Our host and smoltcp's.
pub fn with_peer(a: &Setup, faults: Faults, seed: u64) -> World<PeerHost> {
    let (host_a, left) = wire(FRAMES, FRAME_BYTES);
    let (host_b, right) = wire(FRAMES, FRAME_BYTES);
    World {
        a: OwnHost::new(a, host_a),
        b: PeerHost::new(&Setup::host(2), host_b, seed),
        link: Link::new(left, right, faults, seed),
        now: Time(0),
        stalls: Stalls::none(),
    }
}

impl<B: Host> World<B> {
    /// Lets everybody do what there is to do at this time, then goes on to the next time at which there is
    /// something. Gives `false` when there is none.
    pub fn step(&mut self) -> bool {
        let mut turns = 0;
        self.stalls.draw(self.now);
        let until = self.stalls.until;
        let [a, b] = until.map(|t| t <= self.now);
        loop {
            self.link.step(self.now);
            let busy = (a && self.a.pass(self.now)) | (b && self.b.pass(self.now));
            if !busy {
                break;
            }
            turns += 1;
            assert!(turns < 100_000, "no end of work at {}", self.now);
        }
        self.link.step(self.now);
        let (of_a, of_b) = (self.a.next_deadline(self.now), self.b.next_deadline(self.now));
        let next = [
            self.link.next_due(),
            if a { of_a } else { Some(until[0]) },
            if b { of_b } else { Some(until[1]) },
        ];
        match next.into_iter().flatten().min() {
            Some(t) => {
                self.now = t.max(self.now.plus_ns(1));
                true
            }
            None => false,
        }
    }

    /// Steps until `done` holds; `false` when it does not by `limit`.
    pub fn run_until(&mut self, limit: Time, mut done: impl FnMut(&mut World<B>) -> bool) -> bool {
        while !done(self) {
            if self.now >= limit || !self.step() {
                return done(self);
            }
        }
        true
    }

    /// Steps until this time.
    pub fn run_to(&mut self, at: Time) {
        while self.now < at {
            let before = self.now;
            if !self.step() || self.now > at {
                // Nobody has anything to do until then.
                self.now = at.max(before);
            }
        }
    }

    /// Steps until all connections are over.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn finish(&mut self, limit: Time) -> Result<(), String> {
        if !self.run_until(limit, |w| w.a.is_done() && w.b.is_done()) {
            return Err(format!("not over by {}: {:?} {:?}", self.now, self.a.results(), self.b.results()));
        }
        // What is still on its way arrives, at hosts that are there.
        self.stalls = Stalls::none();
        let end = self.now.plus_ns(1_000_000_000);
        self.run_to(end);
        self.step();
        for (plan, out) in self.a.results().into_iter().chain(self.b.results()) {
            out.verify(&plan)?;
        }
        self.check_a()
    }

    /// The laws, the link's count against ours, and leaks, on our side.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn check_a(&mut self) -> Result<(), String> {
        let (there, back) = self.link.stats();
        check(&mut self.a, there.offered, back.delivered)
    }
}

impl World<OwnHost> {
    /// The same on the other side.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn check_b(&mut self) -> Result<(), String> {
        let (there, back) = self.link.stats();
        check(&mut self.b, back.offered, there.delivered)
    }
}

fn check(h: &mut OwnHost, sent: u64, delivered: u64) -> Result<(), String> {
    use dataplane::Ctr;
    h.laws()?;
    let s = h.counts();
    let (rx, tx) = (s.get(Ctr::RxPackets), s.get(Ctr::TxSent));
    // A port that cuts takes one frame for several.
    if rx != delivered || tx > sent || (tx < sent && !h.cuts) {
        return Err(format!("rx {rx} of {delivered} delivered, tx {tx} of {sent} taken"));
    }
    h.leaks()
}
