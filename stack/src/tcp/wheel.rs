//! The timer wheel: one entry per flow, hierarchical, doubly linked.
//!
//! Four levels of 256 slots with ticks of 65.536 µs, 16.8 ms, 4.3 s and 18 min. `arm`, `cancel` and each
//! expiry are O(1); an entry moves down a level at most three times. Entries are re-armed lazily by the
//! owner: an entry may fire before its flow's real deadline, never after it by more than a tick.

use hugepages::{Arena, FixedVec, SlabIndex};

use dataplane::Time;

const TICK_SHIFT: u32 = 16; // 65.536 µs
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
    /// Level and slot, or `NONE` when not armed.
    place: u32,
    _pad: u32,
    when: Time,
}

/// A wheel over indices `I` below a fixed capacity.
pub struct Wheel<I> {
    links: FixedVec<Link>,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// The tick up to which everything has been expired.
    tick: u64,
    armed: u32,
    _index: std::marker::PhantomData<I>,
}

impl<I: SlabIndex> Wheel<I> {
    /// Bytes taken from the arena.
    pub const fn cost(capacity: usize) -> usize {
        Arena::cost::<Link>(capacity)
    }

    /// A wheel for indices below `capacity`; `None` when the arena is too small.
    pub fn new(arena: &mut Arena, capacity: u32) -> Option<Wheel<I>> {
        let idle = Link { prev: NONE, next: NONE, place: NONE, _pad: 0, when: Time::NEVER };
        Some(Wheel {
            links: arena.array(capacity as usize, |_| idle)?,
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [[0; SLOTS / 64]; LEVELS],
            tick: 0,
            armed: 0,
            _index: std::marker::PhantomData,
        })
    }

    /// Entries armed.
    #[cfg(test)]
    pub fn armed(&self) -> u32 {
        self.armed
    }

    /// When the entry will fire, if it is armed.
    pub fn deadline(&self, index: I) -> Option<Time> {
        let l = &self.links[index.to_u32() as usize];
        (l.place != NONE).then_some(l.when)
    }

    /// Makes sure that the entry fires at `when` or earlier. Does nothing when it is armed for no later.
    #[inline]
    pub fn arm(&mut self, index: I, when: Time) {
        let i = index.to_u32();
        let l = &self.links[i as usize];
        if l.place != NONE {
            if l.when <= when {
                return;
            }
            self.unlink(i);
        }
        // Never into the tick already expired.
        self.link(i, when, self.tick, self.tick + 1);
    }

    /// Asks the CPU to fetch the entry.
    #[inline]
    pub fn prefetch(&self, index: I) {
        if let Some(l) = self.links.get(index.to_u32() as usize) {
            hugepages::prefetch(l, 1);
        }
    }

    /// Takes the entry out.
    pub fn cancel(&mut self, index: I) {
        let i = index.to_u32();
        if self.links[i as usize].place != NONE {
            self.unlink(i);
        }
    }

    /// Links an entry for `when`, but not before the tick `floor`. `base` is the tick that distances, and so
    /// the level, are counted from: the last one expired, or (within a cascade) the one that begins.
    fn link(&mut self, i: u32, when: Time, base: u64, floor: u64) {
        // Rounded up, so that nothing fires early within its tick.
        let tick = (when.0.saturating_add((1 << TICK_SHIFT) - 1) >> TICK_SHIFT).max(floor);
        let delta = tick - base;
        let mut level = 0;
        while level + 1 < LEVELS && delta >> (SLOT_BITS * (level as u32 + 1)) != 0 {
            level += 1;
        }
        // Beyond the top level's span: as far as it goes; it is linked again from there.
        let reach = 1u64 << (SLOT_BITS * LEVELS as u32);
        let tick = if delta >= reach { base + reach - 1 } else { tick };
        let slot = (tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1);
        let head = self.heads[level][slot];
        let l = &mut self.links[i as usize];
        *l = Link { prev: NONE, next: head, place: (level << SLOT_BITS | slot) as u32, _pad: 0, when };
        if head != NONE {
            self.links[head as usize].prev = i;
        }
        self.heads[level][slot] = i;
        self.occupied[level][slot / 64] |= 1 << (slot % 64);
        self.armed += 1;
    }

    fn unlink(&mut self, i: u32) {
        let l = self.links[i as usize];
        let (level, slot) = ((l.place >> SLOT_BITS) as usize, l.place as usize & (SLOTS - 1));
        if l.prev == NONE {
            self.heads[level][slot] = l.next;
            if l.next == NONE {
                self.occupied[level][slot / 64] &= !(1 << (slot % 64));
            }
        } else {
            self.links[l.prev as usize].next = l.next;
        }
        if l.next != NONE {
            self.links[l.next as usize].prev = l.prev;
        }
        self.links[i as usize].place = NONE;
        self.armed -= 1;
    }

    /// Calls `fire` for entries that are due, at most `max` of them; each is disarmed before its call.
    /// Gives whether there are more.
    pub fn expire(&mut self, now: Time, max: usize, mut fire: impl FnMut(&mut Wheel<I>, I)) -> bool {
        let target = now.0 >> TICK_SHIFT;
        let mut fired = 0;
        while self.tick < target {
            if self.armed == 0 {
                self.tick = target;
                return false;
            }
            // Skip empty stretches of the lowest level in one step.
            let next = self.tick + 1;
            let slot = next as usize & (SLOTS - 1);
            if slot != 0 {
                let skip = self.next_occupied(0, slot).unwrap_or(SLOTS) - slot;
                if skip > 0 {
                    self.tick = (self.tick + skip as u64).min(target);
                    continue;
                }
            } else {
                self.cascade(next);
            }
            // Ahead of the calls: what they arm for the past goes into the next tick, not into this loop.
            self.tick = next;
            while self.heads[0][slot] != NONE {
                if fired == max {
                    self.tick = next - 1;
                    return true;
                }
                let i = self.heads[0][slot];
                self.unlink(i);
                fired += 1;
                fire(self, I::from_u32(i));
            }
        }
        false
    }

    /// Moves what a higher level holds for the stretch that begins at `tick` down to lower levels.
    fn cascade(&mut self, tick: u64) {
        for level in 1..LEVELS {
            let slot = (tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1);
            let mut i = self.heads[level][slot];
            while i != NONE {
                let (next, when) = (self.links[i as usize].next, self.links[i as usize].when);
                self.unlink(i);
                // Counted from `tick`, all of the stretch is within the lower levels' span. Counted from the
                // tick before, its last entry would come back to this slot, and wait for another turn.
                self.link(i, when, tick, tick);
                i = next;
            }
            if slot != 0 {
                break;
            }
        }
    }

    fn next_occupied(&self, level: usize, from: usize) -> Option<usize> {
        let words = &self.occupied[level];
        let mut w = from / 64;
        let mut bits = words[w] & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(w * 64 + bits.trailing_zeros() as usize);
            }
            w += 1;
            bits = *words.get(w)?;
        }
    }

    /// No entry fires before this; `None` when none is armed. Exact when that entry is in the lowest level;
    /// when the stretch that it waits in begins, otherwise.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.armed == 0 {
            return None;
        }
        let begins = |level: usize| {
            let shift = SLOT_BITS * level as u32;
            let turn = (self.tick >> shift) + 1;
            let from = turn as usize & (SLOTS - 1);
            // The slots from the next one on, and round.
            let ahead = match self.next_occupied(level, from) {
                Some(slot) => slot - from,
                None => self.next_occupied(level, 0)? + SLOTS - from,
            };
            Some((turn + ahead as u64) << shift)
        };
        (0..LEVELS).filter_map(begins).min().map(|tick| Time(tick << TICK_SHIFT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::rng::Rng;
    use hugepages::{PagePolicy, typed_index};

    typed_index! {
        /// A test's index.
        pub struct Id;
    }

    fn wheel(n: u32) -> Wheel<Id> {
        let mut a = Arena::reserve(Wheel::<Id>::cost(n as usize), PagePolicy::NormalOnly).unwrap();
        Wheel::new(&mut a, n).unwrap()
    }

    fn id(i: u32) -> Id {
        assert!(Id::NONE.is_none() && !Id::NONE.is_some());
        Id::from_u32(i)
    }

    #[test]
    fn fires_on_time_at_every_distance() {
        let tick = 1u64 << TICK_SHIFT;
        let mut rng = Rng::new(1);
        let mut w = wheel(1000);
        let mut due = vec![];
        for i in 0..1000 {
            let exp = rng.range(10, 44);
            let when = Time(rng.below(1 << exp));
            w.arm(id(i), when);
            due.push(when);
        }
        let mut now = Time(0);
        let (mut seen, mut turns, mut empty) = (0, 0, 0);
        while w.armed() > 0 {
            let next = w.next_deadline().unwrap();
            assert!(next > now || now == Time(0), "{next} at {now}");
            now = next;
            let before = seen;
            turns += 1;
            w.expire(now, usize::MAX, |_, i| {
                let want = due[i.to_u32() as usize];
                assert!(now >= want, "early: {now} for {want}");
                assert!(now.since_ns(want) <= 2 * tick, "late: {now} for {want}");
                seen += 1;
            });
            empty += u32::from(seen == before);
        }
        assert_eq!(seen, 1000);
        assert!(empty <= 3 * turns / 4, "{empty} of {turns} looks found nothing: at most three levels each");
    }

    #[test]
    fn far_jumps_lose_nothing_and_the_bound_carries_the_rest() {
        let mut w = wheel(600);
        for i in 0..600 {
            w.arm(id(i), Time::from_ms(u64::from(i) * 37));
        }
        let mut seen = 0;
        let mut passes = 0;
        while w.expire(Time::from_ms(10_000_000), 256, |_, _| seen += 1) {
            passes += 1;
        }
        assert_eq!((seen, passes, w.next_deadline()), (600, 2, None));
    }

    #[test]
    fn rearm_earlier_moves_and_later_stays() {
        let mut w = wheel(2);
        w.arm(id(0), Time::from_ms(100));
        w.arm(id(0), Time::from_ms(500));
        assert_eq!(w.deadline(id(0)), Some(Time::from_ms(100)));
        w.arm(id(0), Time::from_ms(50));
        assert_eq!(w.deadline(id(0)), Some(Time::from_ms(50)));
        w.cancel(id(0));
        w.cancel(id(0));
        assert_eq!((w.armed(), w.deadline(id(0))), (0, None));
        let mut fired = 0;
        w.arm(id(1), Time::from_ms(1));
        w.expire(Time::from_ms(5), 10, |w, i| {
            fired += 1;
            if fired < 5 {
                w.arm(i, Time(0));
            }
        });
        assert_eq!(fired, 5, "an entry re-armed for the past fires in the next tick, not in a loop");
    }
}
