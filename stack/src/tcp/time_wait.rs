//! TIME-WAIT as records of 32 bytes in a ring of their own (DESIGN.md 6).
//!
//! All live equally long, so the ring is in order of expiry. A record knows its connection by the 64-bit
//! keyed hash of its tuple: what it must answer, it answers to the segment that came. When the ring is full
//! the oldest record goes.
//!
//! A bucket names its newest record, and each record the one before it in its bucket. What expires is not taken out of
//! these chains: with a million records that is a cache miss or two for each. A place in the ring that has been given on
//! is known when it is come to instead: what is there belongs to another bucket, or is younger than the record that named
//! it.

use hugepages::{Arena, FixedVec, prefetch};

use super::seq::Seq;
use dataplane::Time;

/// 2 × MSL, as Linux has it.
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    hash: u64,
    snd_nxt: Seq,
    rcv_nxt: Seq,
    expires_ms: u32,
    next: u32,
    ts_recent: u32,
    has_timestamps: bool,
    live: bool,
}

const NONE: u32 = u32::MAX;

/// What a segment of a connection in TIME-WAIT is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Our next sequence number.
    pub snd_nxt: Seq,
    /// The peer's.
    pub rcv_nxt: Seq,
    /// The latest timestamp that was taken, where there were timestamps.
    pub ts_recent: Option<u32>,
}

impl Waiting {
    /// Whether a SYN begins a new connection (RFC 6191 2): by its timestamp where both have one, by its sequence number
    /// where that does not say. A SYN with timestamps after a connection without would be taken by that RFC whatever its
    /// number, as old segments would then be known by having none; here they are not, so it is not.
    pub fn is_newer(&self, seq: Seq, timestamp: Option<u32>) -> bool {
        match (self.ts_recent, timestamp) {
            (Some(last), Some(new)) if last != new => (new.wrapping_sub(last) as i32) > 0,
            _ => seq.gt(self.rcv_nxt),
        }
    }
}

/// The ring.
pub struct TimeWait {
    records: FixedVec<Record>,
    buckets: FixedVec<u32>,
    first: usize,
    used: usize,
    live: u32,
}

impl TimeWait {
    /// Bytes taken from the arena.
    pub const fn cost(capacity: usize) -> usize {
        Arena::cost::<Record>(capacity) + Arena::cost::<u32>(capacity.next_power_of_two())
    }

    /// A ring of `capacity` records; `None` when the arena is too small.
    pub fn new(arena: &mut Arena, capacity: u32) -> Option<TimeWait> {
        let n = capacity.max(1) as usize;
        Some(TimeWait {
            records: arena.array(n, |_| Record::default())?,
            buckets: arena.array(n.next_power_of_two(), |_| NONE)?,
            first: 0,
            used: 0,
            live: 0,
        })
    }

    /// Records that are live.
    pub fn live(&self) -> u32 {
        self.live
    }

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// How many records are older than the one at `i`; at least `used` where there is none.
    fn age_rank(&self, i: usize) -> usize {
        if i >= self.first { i - self.first } else { i + self.records.len() - self.first }
    }

    /// First step of a burst: asks for the bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if self.live > 0 {
            prefetch(&self.buckets[self.bucket(hash)], 1);
        }
    }

    /// Second step of a burst: asks for the newest record in the bucket.
    #[inline]
    pub fn prefetch_record(&self, hash: u64) {
        if self.live > 0
            && let Some(r) = self.records.get(self.buckets[self.bucket(hash)] as usize)
        {
            prefetch(r, 1);
        }
    }

    /// Adds a record. Gives whether an unexpired one had to go for it.
    pub fn insert(&mut self, hash: u64, w: Waiting, now: Time) -> bool {
        let mut recycled = false;
        if self.used == self.records.len() {
            recycled = self.records[self.first].live;
            self.drop_first();
        }
        let end = self.first + self.used;
        let at = if end >= self.records.len() { end - self.records.len() } else { end };
        self.used += 1;
        let bucket = self.bucket(hash);
        self.records[at] = Record {
            hash,
            snd_nxt: w.snd_nxt,
            rcv_nxt: w.rcv_nxt,
            expires_ms: (now.plus_ns(TIME_WAIT_NS).0 / 1_000_000) as u32,
            next: std::mem::replace(&mut self.buckets[bucket], at as u32),
            ts_recent: w.ts_recent.unwrap_or(0),
            has_timestamps: w.ts_recent.is_some(),
            live: true,
        };
        self.live += 1;
        recycled
    }

    /// Where a connection's record is, and the one that names it; that is the record itself where the bucket does.
    #[inline]
    fn place(&self, hash: u64) -> Option<(usize, usize)> {
        if self.live == 0 {
            return None;
        }
        let bucket = self.bucket(hash);
        let (mut i, mut younger) = (self.buckets[bucket] as usize, self.used);
        let mut by = i;
        loop {
            let rank = if i < self.records.len() { self.age_rank(i) } else { usize::MAX };
            if rank >= younger {
                return None;
            }
            let r = &self.records[i];
            if r.hash == hash && r.live {
                return Some((by, i));
            }
            if self.bucket(r.hash) != bucket {
                return None;
            }
            (by, i, younger) = (i, r.next as usize, rank);
        }
    }

    /// Finds a connection.
    #[inline]
    pub fn find(&self, hash: u64) -> Option<Waiting> {
        let r = &self.records[self.place(hash)?.1];
        let ts_recent = r.has_timestamps.then_some(r.ts_recent);
        Some(Waiting { snd_nxt: r.snd_nxt, rcv_nxt: r.rcv_nxt, ts_recent })
    }

    /// Takes a connection out (a new SYN takes over its tuple).
    pub fn remove(&mut self, hash: u64) -> bool {
        let Some((by, i)) = self.place(hash) else { return false };
        // Out of the chain too: one connection that comes again and again must not make it long.
        let next = self.records[i].next;
        if by == i {
            let bucket = self.bucket(hash);
            self.buckets[bucket] = next;
        } else {
            self.records[by].next = next;
        }
        self.records[i].live = false;
        self.live -= 1;
        true
    }

    fn drop_first(&mut self) {
        self.live -= u32::from(self.records[self.first].live);
        self.first = if self.first + 1 == self.records.len() { 0 } else { self.first + 1 };
        self.used -= 1;
    }

    /// Lets expired records go, at most `max`.
    pub fn expire(&mut self, now: Time, max: usize) {
        let now_ms = (now.0 / 1_000_000) as u32;
        for _ in 0..max {
            if self.used == 0 {
                break;
            }
            let r = self.records[self.first];
            // Modulo 2^32 ms: records live for a minute, the clock wraps in 49 days.
            if r.live && (now_ms.wrapping_sub(r.expires_ms) as i32) < 0 {
                break;
            }
            self.drop_first();
        }
    }
}

const _: () = assert!(size_of::<Record>() <= 32);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use hugepages::PagePolicy;

    fn ring(n: u32) -> TimeWait {
        let mut a = Arena::reserve(TimeWait::cost(n as usize), PagePolicy::NormalOnly).unwrap();
        TimeWait::new(&mut a, n).unwrap()
    }

    fn w(n: u32) -> Waiting {
        Waiting { snd_nxt: Seq(n), rcv_nxt: Seq(n + 1), ts_recent: n.is_multiple_of(2).then_some(n) }
    }

    #[test]
    fn finds_removes_expires() {
        let mut t = ring(8);
        for i in 0..5u32 {
            // All in one bucket.
            assert!(!t.insert(u64::from(i) << 32, w(i), Time::from_ms(u64::from(i) * 1000)));
        }
        assert_eq!(t.find(2 << 32), Some(w(2)));
        assert!(t.remove(2 << 32) && !t.remove(2 << 32));
        assert_eq!((t.find(2 << 32), t.find(4 << 32), t.live()), (None, Some(w(4)), 4));
        t.expire(Time::from_ms(61_500), 100);
        assert_eq!((t.live(), t.find(1 << 32), t.find(3 << 32)), (2, None, Some(w(3))));
        t.expire(Time::from_ms(100_000), 100);
        assert_eq!(t.live(), 0);
    }

    /// Against a list that knows everything: many in a bucket, places given on, taken out in between.
    #[test]
    fn chains_survive_places_that_are_given_on() {
        let mut rng = dataplane::rng::Rng::new(1);
        let mut t = ring(13);
        let mut model: VecDeque<(u64, u32, u64, bool)> = VecDeque::new();
        let (mut ms, mut recycled) = (0, 0);
        for n in 0..20_000u32 {
            ms += rng.below(8_000);
            t.expire(Time::from_ms(ms), usize::MAX);
            while model.front().is_some_and(|(_, _, at, live)| !live || at + TIME_WAIT_NS / 1_000_000 <= ms) {
                model.pop_front();
            }
            // Sixteen buckets, three hashes in each.
            let hash = rng.below(16) | rng.below(3) << 32;
            let known = model.iter_mut().find(|(h, _, _, live)| *h == hash && *live);
            match known {
                Some(known) => {
                    known.3 = false;
                    assert!(t.remove(hash));
                }
                None => {
                    assert!(!t.remove(hash));
                    let gone = if model.len() == 13 { model.pop_front() } else { None };
                    assert_eq!(t.insert(hash, w(n), Time::from_ms(ms)), gone.is_some_and(|g| g.3));
                    recycled += u32::from(gone.is_some());
                    model.push_back((hash, n, ms, true));
                }
            }
            assert_eq!(t.live() as usize, model.iter().filter(|m| m.3).count());
            for h in (0..48).map(|i| (i % 16) | ((i / 16) << 32)) {
                let known = model.iter().find(|(k, _, _, live)| *k == h && *live).map(|(_, n, ..)| w(*n));
                assert_eq!(t.find(h), known, "{n}");
            }
        }
        assert!(recycled > 1000, "{recycled}");
    }

    #[test]
    fn one_that_comes_again_and_again_leaves_no_chain() {
        let mut t = ring(1000);
        // Two of one bucket, in turns, so that neither is always the newest.
        for i in 0..400 {
            for hash in [5, 5 | 1 << 32] {
                assert_eq!(t.remove(hash), i > 0);
                t.insert(hash, w(i), Time(0));
            }
        }
        let (mut steps, mut at) = (0, t.buckets[5]);
        while at != NONE {
            (steps, at) = (steps + 1, t.records[at as usize].next);
        }
        assert_eq!((steps, t.live()), (2, 2));
    }

    #[test]
    fn a_syn_is_newer_by_its_timestamp_or_by_its_number() {
        let (with, without) =
            (Waiting { ts_recent: Some(u32::MAX), ..w(100) }, Waiting { ts_recent: None, ..w(100) });
        for (old, seq, ts, newer) in [
            (with, 5, Some(0), true),
            (with, 500, Some(u32::MAX - 1), false),
            (with, 5, Some(u32::MAX), false),
            (with, 500, Some(u32::MAX), true),
            (with, 500, None, true),
            (with, 101, None, false),
            (without, 5, Some(7), false),
            (without, 102, Some(7), true),
            (without, 102, None, true),
        ] {
            assert_eq!(old.is_newer(Seq(seq), ts), newer, "{old:?} {seq} {ts:?}");
        }
    }

    #[test]
    fn when_full_the_oldest_goes() {
        let mut t = ring(4);
        for i in 0..10u64 {
            assert_eq!(t.insert(i, w(i as u32), Time(0)), i >= 4);
        }
        assert_eq!((t.live(), t.find(5), t.find(6)), (4, None, Some(w(6))));
    }
}
