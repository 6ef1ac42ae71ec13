//! The timer wheel: one entry per flow, hierarchical, doubly linked.
//!
//! Four levels of 256 slots with ticks of 65.536 µs, 16.8 ms, 4.3 s and 18 min. `arm`, `cancel` and each
//! expiry are O(1); an entry moves down a level at most three times. Entries are re-armed lazily by the
//! owner: an entry may fire before its flow's real deadline, never after it by more than a tick, as long as
//! no more come at once than one call expires or moves.
//!
//! ```text
//!   level 2   │  ···  │ now's │ +1 │  ···  │ +255 │       a slot's entries move down when its stretch begins,
//!   level 1           │ now's │ +1 │  ···  │ +255 │       at most MOVES of them in a call: the rest lags behind,
//!   level 0           │ tick  │ +1 │  ···  │ +255 │ ──►   and the ticks go on meanwhile
//! ```
//!
//! A hundred thousand idle connections whose timers lie in one stretch of 4.3 s so cost each call little, and those that
//! send are on time; a stretch does not end before all of its entries have moved.

use hugepages::{Arena, FixedVec, SlabIndex};

use dataplane::Time;

const TICK_SHIFT: u32 = 16; // 65.536 µs
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
/// Entries that one call moves down at most: two cache lines each that nothing has asked for, some 50 µs.
const MOVES: u32 = 512;
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
    /// Not all entries of the stretch that `tick` lies in have moved down.
    lags: bool,
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
            lags: false,
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
        let mut tick = (when.0.saturating_add((1 << TICK_SHIFT) - 1) >> TICK_SHIFT).max(floor);
        let ahead = |level: u32| (tick >> (SLOT_BITS * level)) - (base >> (SLOT_BITS * level));
        // The lowest level on which it is less than a turn ahead: so none comes into the slot of the present, but on the
        // lowest level, where the present is over.
        let mut level = if tick - base < SLOTS as u64 { 0 } else { 1 };
        while level > 0 && level + 1 < LEVELS && ahead(level as u32) >= SLOTS as u64 {
            level += 1;
        }
        // Beyond the top level's span: as far as it goes; it is linked again from there.
        let top = SLOT_BITS * (LEVELS as u32 - 1);
        tick = tick.min(((base >> top) + SLOTS as u64 - 1) << top | ((1 << top) - 1));
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
        let (mut fired, mut moves) = (0, MOVES);
        if self.lags {
            self.lags = !self.cascade(self.tick, self.tick + 1, &mut moves);
        }
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
                if self.lags {
                    return true;
                }
                self.lags = !self.cascade(next, next, &mut moves);
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
        self.lags
    }

    /// Moves what higher levels hold for the stretch that `tick` lies in down to lower levels, to be due at `floor` at the
    /// earliest; no more than `moves`, which it counts down. Gives whether that was all.
    fn cascade(&mut self, tick: u64, floor: u64, moves: &mut u32) -> bool {
        for level in 1..LEVELS {
            let slot = (tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1);
            while self.heads[level][slot] != NONE {
                if *moves == 0 {
                    return false;
                }
                *moves -= 1;
                let i = self.heads[level][slot];
                let when = self.links[i as usize].when;
                self.unlink(i);
                // Counted from `tick`, all of the stretch is within the lower levels' span.
                self.link(i, when, tick, floor);
            }
        }
        true
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
        if self.lags {
            return Some(Time((self.tick + 1) << TICK_SHIFT));
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
        // 256 expiries in a call, or 512 moves.
        assert_eq!((seen, passes, w.next_deadline()), (600, 2, None));
    }

    #[test]
    fn a_hundred_thousand_in_one_stretch_cost_a_call_little_and_nobody_else_time() {
        let (tick, many, stretch) = (1u64 << TICK_SHIFT, 100_000, 1u64 << (TICK_SHIFT + 16));
        let mut rng = Rng::new(2);
        let mut w = wheel(many + 1);
        let mut due: Vec<Time> = (0..many).map(|_| Time(3 * stretch + rng.below(stretch))).collect();
        for (i, when) in (0..).zip(&due) {
            w.arm(id(i), *when);
        }
        due.push(Time::NEVER);
        // One that sends, and is due each millisecond.
        let busy = id(many);
        let (mut now, mut seen, mut calls, mut on_time) = (Time(3 * stretch - 10 * tick), 0, 0, 0);
        let mut next = now.plus_ns(1_000_000);
        w.arm(busy, next);
        while seen < many {
            let waiting = |w: &Wheel<Id>| {
                w.links.iter().filter(|l| l.place != NONE && l.place >> SLOT_BITS == 2).count() as u32
            };
            let before = if calls < 400 { waiting(&w) } else { 0 };
            let mut fired = vec![];
            w.expire(now, 256, |_, i| fired.push(i));
            if calls < 400 {
                assert!(before - waiting(&w) <= MOVES);
            }
            for i in fired {
                if i.to_u32() == many {
                    assert!(now >= next);
                    on_time += u32::from(now.since_ns(next) <= 200_000);
                    next = next.plus_ns(1_000_000);
                    w.arm(busy, next);
                } else {
                    let want = due[i.to_u32() as usize];
                    assert!(now >= want, "early: {now} for {want}");
                    // 200 calls at first, of 100 µs each.
                    assert!(now.since_ns(want) <= 25_000_000, "late: {now} for {want}");
                    seen += 1;
                }
            }
            calls += 1;
            assert!(w.next_deadline().is_some_and(|t| t.0 <= now.0 + stretch));
            now = now.plus_ns(100_000);
        }
        assert!(on_time > 4000, "{on_time} of {}", now.0 / 1_000_000);
    }

    #[test]
    fn fires_what_a_list_would() {
        let tick = 1u64 << TICK_SHIFT;
        for seed in 0..20 {
            let (mut rng, many) = (Rng::new(seed), 3000);
            let mut w = wheel(many);
            let mut due: Vec<Option<Time>> = vec![None; many as usize];
            let mut now = Time(rng.below(1 << 45));
            w.expire(now, usize::MAX, |_, _| ());
            for _ in 0..600 {
                // Many into one stretch, or anywhere.
                let [far, wide, on] = [(10, 46), (8, 34), (8, 40)].map(|(a, b)| 1u64 << rng.range(a, b));
                let at = now.0 + rng.below(far);
                let (spread, n) = (wide, if rng.below(8) == 0 { 1500 } else { rng.below(20) });
                for _ in 0..n {
                    let i = rng.below(many.into()) as u32;
                    let when = Time(at + rng.below(spread));
                    if rng.below(8) == 0 {
                        w.cancel(id(i));
                        due[i as usize] = None;
                    } else {
                        w.arm(id(i), when);
                        let d = &mut due[i as usize];
                        *d = Some(d.map_or(when, |d| d.min(when)));
                    }
                }
                now = match rng.below(3) {
                    0 => now.plus_ns(rng.below(on)),
                    _ => w.next_deadline().map_or(now, |t| t.max(now)),
                };
                // However little each call does, when nothing is carried on, all that was due has fired, and nothing else; what
                // lagged behind with the next tick.
                let max = rng.range(1, 300) as usize;
                for _ in 0..2 {
                    let mut fire = |i: Id| {
                        let want = due[i.to_u32() as usize].take().expect("armed");
                        assert!(now >= want, "seed {seed}: early: {now} for {want}");
                    };
                    while w.expire(now, max, |_, i| fire(i)) {}
                    now = now.plus_ns(tick);
                }
                let overdue = due.iter().flatten().filter(|d| d.0 + 3 * tick < now.0).count();
                assert_eq!(overdue, 0, "seed {seed} at {now}");
                assert_eq!(w.armed() as usize, due.iter().flatten().count());
                let first = due.iter().flatten().min();
                let next = w.next_deadline();
                assert_eq!(first.is_some(), next.is_some());
                assert!(next <= first.map(|t| t.plus_ns(2 * tick)), "seed {seed}: {next:?} for {first:?}");
            }
        }
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
