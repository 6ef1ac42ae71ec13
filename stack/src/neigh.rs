//! Neighbours: who has which MAC on the link. The table only; `arp_nd` speaks the protocols.
//!
//! ```text
//!   (absent) ──lookup──► Incomplete ──answer──► Reachable ──30 s──► Stale ──lookup──► Probe ──answer──► Reachable
//!                            │ 3 tries, 1 s apart                                       │ 3 tries
//!                            ▼                                                          ▼
//!                         (absent): what waited is dropped, counted                  (absent)
//! ```
//!
//! Bounds: the table (when it is full the least recently confirmed entry goes, but incomplete entries may
//! fill only a quarter of it, so that a scan of the prefix cannot push out the gateway), and 3 packets that
//! wait per entry (the oldest goes).

use arrayvec::ArrayVec;
use dataplane::port::Mac;
use dataplane::{Packet, Time};

use crate::addr::Addr;

/// Packets that wait for one neighbour.
pub const WAITING_MAX: usize = 3;
/// Solicitations until a neighbour is given up (RFC 4861 10, MAX_MULTICAST_SOLICIT).
pub const TRIES_MAX: u8 = 3;
const RETRANS_NS: u64 = 1_000_000_000;
const REACHABLE_NS: u64 = 30_000_000_000;
/// How often entries are looked at while something is unresolved.
const TICK_NS: u64 = 100_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Incomplete,
    Reachable,
    Probe,
}

struct Entry {
    port: u8,
    addr: Addr,
    mac: Mac,
    state: State,
    tries: u8,
    /// Reachable: confirmed; otherwise: last solicited.
    since: Time,
    waiting: ArrayVec<Packet, WAITING_MAX>,
}

/// What to do with a packet for a next hop.
pub enum Lookup {
    /// Send it to this MAC; and, when `true`, ask the neighbour whether it is still there.
    Known(Mac, Packet, bool),
    /// It waits; `solicit`: ask now.
    Waits {
        /// Whether to send a solicitation.
        solicit: bool,
    },
    /// It was dropped (one packet).
    Dropped,
}

/// What is due.
pub enum Due {
    /// Ask again: to this MAC, or to all.
    Solicit(u8, Addr, Option<Mac>),
    /// Given up: this many packets of this port are gone.
    GaveUp(u8, usize),
}

/// The table.
pub struct Neighbours {
    entries: Vec<Entry>,
    capacity: usize,
    incomplete: usize,
    next_tick: Time,
    /// Packets dropped because too many waited, since last asked.
    overflowed: u64,
    recycled: u64,
}

impl Neighbours {
    /// A table of at most `capacity` entries, allocated now.
    pub fn new(capacity: usize) -> Neighbours {
        Neighbours {
            entries: Vec::with_capacity(capacity),
            capacity,
            incomplete: 0,
            next_tick: Time::NEVER,
            overflowed: 0,
            recycled: 0,
        }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, port: u8, addr: &Addr) -> Option<usize> {
        self.entries.iter().position(|e| e.addr == *addr && e.port == port)
    }

    /// Finds a next hop's MAC for `p`, or keeps `p` until it is known.
    pub fn lookup(&mut self, port: u8, addr: &Addr, p: Packet, now: Time) -> Lookup {
        if let Some(i) = self.find(port, addr) {
            let e = &mut self.entries[i];
            return match e.state {
                State::Incomplete => {
                    if e.waiting.is_full() {
                        e.waiting.remove(0);
                        self.overflowed += 1;
                    }
                    e.waiting.push(p);
                    Lookup::Waits { solicit: false }
                }
                State::Reachable if now.since_ns(e.since) < REACHABLE_NS => Lookup::Known(e.mac, p, false),
                State::Reachable => {
                    e.state = State::Probe;
                    e.tries = 1;
                    e.since = now;
                    self.incomplete += 1;
                    self.next_tick = self.next_tick.min(now.plus_ns(TICK_NS));
                    Lookup::Known(e.mac, p, true)
                }
                State::Probe => Lookup::Known(e.mac, p, false),
            };
        }
        if self.incomplete >= (self.capacity / 4).max(1) || !self.make_room() {
            self.overflowed += 1;
            return Lookup::Dropped;
        }
        let mut waiting = ArrayVec::new();
        waiting.push(p);
        self.begin(port, addr, waiting, now);
        Lookup::Waits { solicit: true }
    }

    /// A next hop's MAC, for who has no packet yet. `None`: not known; `true` with it: ask now.
    pub fn resolve(&mut self, port: u8, addr: &Addr, now: Time) -> (Option<Mac>, bool) {
        if let Some(i) = self.find(port, addr) {
            let e = &self.entries[i];
            return ((e.state != State::Incomplete).then_some(e.mac), false);
        }
        if self.incomplete >= (self.capacity / 4).max(1) || !self.make_room() {
            return (None, false);
        }
        self.begin(port, addr, ArrayVec::new(), now);
        (None, true)
    }

    fn begin(&mut self, port: u8, addr: &Addr, waiting: ArrayVec<Packet, WAITING_MAX>, now: Time) {
        let (mac, state) = ([0; 6], State::Incomplete);
        self.entries.push(Entry { port, addr: *addr, mac, state, tries: 1, since: now, waiting });
        self.incomplete += 1;
        self.next_tick = self.next_tick.min(now.plus_ns(TICK_NS));
    }

    fn make_room(&mut self) -> bool {
        if self.entries.len() < self.capacity {
            return true;
        }
        let oldest = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, e)| e.state == State::Reachable)
            .min_by_key(|(_, e)| e.since)
            .map(|(i, _)| i);
        if let Some(i) = oldest {
            self.entries.swap_remove(i);
            self.recycled += 1;
        }
        oldest.is_some()
    }

    /// Learns a neighbour's MAC. `create`: also when nothing is known of it yet (it asked for us).
    /// What waited for it comes back, to be sent.
    pub fn learn(
        &mut self,
        port: u8,
        addr: &Addr,
        mac: Mac,
        create: bool,
        now: Time,
    ) -> ArrayVec<Packet, WAITING_MAX> {
        // A group's MAC is nobody's own (RFC 1812 3.3.2).
        if mac[0] & 1 != 0 || addr.is_group() || *addr == Addr::UNSPECIFIED {
            return ArrayVec::new();
        }
        match self.find(port, addr) {
            Some(i) => {
                let e = &mut self.entries[i];
                if e.state != State::Reachable {
                    self.incomplete -= 1;
                }
                e.mac = mac;
                e.state = State::Reachable;
                e.since = now;
                std::mem::take(&mut e.waiting)
            }
            None => {
                if create && self.make_room() {
                    self.entries.push(Entry {
                        port,
                        addr: *addr,
                        mac,
                        state: State::Reachable,
                        tries: 0,
                        since: now,
                        waiting: ArrayVec::new(),
                    });
                }
                ArrayVec::new()
            }
        }
    }

    /// A neighbour is not there any more. Gives how many packets waited for it, and are gone.
    pub fn forget(&mut self, port: u8, addr: &Addr) -> usize {
        let Some(i) = self.find(port, addr) else { return 0 };
        let gone = self.entries.swap_remove(i);
        self.incomplete -= usize::from(gone.state != State::Reachable);
        gone.waiting.len()
    }

    /// Runs what is due, at most 64 entries; `act` is told what to do.
    pub fn timers(&mut self, now: Time, mut act: impl FnMut(Due)) -> bool {
        if now < self.next_tick {
            return false;
        }
        let mut i = 0;
        let mut acted = 0;
        while i < self.entries.len() && acted < 64 {
            let e = &mut self.entries[i];
            if e.state == State::Reachable || now.since_ns(e.since) < RETRANS_NS {
                i += 1;
                continue;
            }
            acted += 1;
            if e.tries < TRIES_MAX {
                e.tries += 1;
                e.since = now;
                let to = (e.state == State::Probe).then_some(e.mac);
                act(Due::Solicit(e.port, e.addr, to));
                i += 1;
            } else {
                let gone = self.entries.swap_remove(i);
                self.incomplete -= 1;
                act(Due::GaveUp(gone.port, gone.waiting.len()));
            }
        }
        self.next_tick = if self.incomplete > 0 { now.plus_ns(TICK_NS) } else { Time::NEVER };
        true
    }

    /// When `timers` must run next.
    pub fn next_deadline(&self) -> Time {
        self.next_tick
    }

    /// Packets dropped because too many waited, and entries recycled, since last asked.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.overflowed), std::mem::take(&mut self.recycled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::Pool;
    use hugepages::PagePolicy;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn addr(n: u32) -> Addr {
        Addr::v4(&(0x0a00_0000 + n).to_be_bytes())
    }

    fn pool() -> Pool {
        Pool::reserve("n", 64, 512, PagePolicy::NormalOnly).unwrap()
    }

    #[test]
    fn packets_wait_are_bounded_and_come_back_in_order() {
        let (pool, mut n) = (pool(), Neighbours::new(8));
        for i in 0..5u8 {
            let mut p = pool.alloc().unwrap();
            p.append(&[i]);
            let r = n.lookup(0, &addr(1), p, Time(0));
            assert!(matches!(r, Lookup::Waits { solicit } if solicit == (i == 0)));
        }
        assert_eq!(n.take_counts(), (2, 0));
        assert!(n.learn(0, &addr(1), [1; 6], false, Time(1)).is_empty(), "a group's MAC is refused");
        let out = n.learn(0, &addr(1), MAC, false, Time(1));
        assert_eq!(out.iter().map(|p| p.head()[0]).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(matches!(
            n.lookup(0, &addr(1), pool.alloc().unwrap(), Time(2)),
            Lookup::Known(MAC, _, false)
        ));
    }

    #[test]
    fn three_tries_then_given_up() {
        let (pool, mut n) = (pool(), Neighbours::new(8));
        n.lookup(0, &addr(1), pool.alloc().unwrap(), Time(0));
        let (mut asked, mut gave_up) = (0, 0);
        for ms in (0..10_000).step_by(50) {
            n.timers(Time::from_ms(ms), |d| match d {
                Due::Solicit(0, a, None) if a == addr(1) => asked += 1,
                Due::GaveUp(0, 1) => gave_up += 1,
                _ => panic!("unexpected"),
            });
        }
        assert_eq!((asked, gave_up, n.len()), (2, 1, 0));
        assert_eq!(n.next_deadline(), Time::NEVER);
        assert_eq!(pool.free_count(), 64);
    }

    #[test]
    fn one_that_is_gone_leaves_nothing() {
        let (pool, mut n) = (pool(), Neighbours::new(8));
        n.lookup(0, &addr(1), pool.alloc().unwrap(), Time(0));
        n.learn(0, &addr(2), MAC, true, Time(0));
        assert_eq!((n.forget(0, &addr(1)), n.forget(0, &addr(2)), n.forget(0, &addr(3))), (1, 0, 0));
        assert_eq!((n.len(), pool.free_count()), (0, 64));
        n.timers(Time::from_ms(200), |_| panic!("nothing is due"));
        assert_eq!(n.next_deadline(), Time::NEVER);
    }

    #[test]
    fn a_scan_cannot_push_out_what_is_known() {
        let (pool, mut n) = (pool(), Neighbours::new(16));
        n.learn(0, &addr(1000), MAC, true, Time(0));
        for i in 0..50 {
            n.lookup(0, &addr(i), pool.alloc().unwrap(), Time(1));
        }
        assert_eq!(n.len(), 5, "a quarter may be incomplete");
        assert!(matches!(n.lookup(0, &addr(1000), pool.alloc().unwrap(), Time(2)), Lookup::Known(..)));
    }

    #[test]
    fn stale_entries_are_used_and_probed() {
        let (pool, mut n) = (pool(), Neighbours::new(8));
        n.learn(0, &addr(1), MAC, true, Time(0));
        let late = Time::from_ms(31_000);
        assert!(matches!(n.lookup(0, &addr(1), pool.alloc().unwrap(), late), Lookup::Known(MAC, _, true)));
        assert!(matches!(n.lookup(0, &addr(1), pool.alloc().unwrap(), late), Lookup::Known(MAC, _, false)));
        n.learn(0, &addr(1), MAC, false, late);
        assert!(matches!(n.lookup(0, &addr(1), pool.alloc().unwrap(), late), Lookup::Known(MAC, _, false)));
    }
}
