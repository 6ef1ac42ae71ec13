//! TIME-WAIT as records of 32 bytes in a ring of their own (DESIGN.md 6).
//!
//! All live equally long, so the ring is in order of expiry. A record knows its connection by the 64-bit
//! keyed hash of its tuple: what it must answer, it answers to the segment that came. When the ring is full
//! the oldest record goes.

use hugepages::{Arena, FixedVec};

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

    /// Adds a record. Gives whether an unexpired one had to go for it.
    pub fn insert(&mut self, hash: u64, w: Waiting, now: Time) -> bool {
        if self.buckets[self.bucket(hash)] != NONE {
            self.remove(hash);
        }
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
            next: self.buckets[bucket],
            ts_recent: w.ts_recent.unwrap_or(0),
            has_timestamps: w.ts_recent.is_some(),
            live: true,
        };
        self.buckets[bucket] = at as u32;
        self.live += 1;
        recycled
    }

    /// Finds a connection.
    #[inline]
    pub fn find(&self, hash: u64) -> Option<Waiting> {
        if self.live == 0 {
            return None;
        }
        let mut i = self.buckets[self.bucket(hash)];
        while i != NONE {
            let r = &self.records[i as usize];
            if r.hash == hash {
                let ts_recent = r.has_timestamps.then_some(r.ts_recent);
                return Some(Waiting { snd_nxt: r.snd_nxt, rcv_nxt: r.rcv_nxt, ts_recent });
            }
            i = r.next;
        }
        None
    }

    /// Takes a connection out (a new SYN takes over its tuple).
    pub fn remove(&mut self, hash: u64) -> bool {
        let bucket = self.bucket(hash);
        let (mut prev, mut i) = (NONE, self.buckets[bucket]);
        while i != NONE {
            let r = self.records[i as usize];
            if r.hash == hash {
                if prev == NONE {
                    self.buckets[bucket] = r.next;
                } else {
                    self.records[prev as usize].next = r.next;
                }
                self.records[i as usize].live = false;
                self.live -= 1;
                return true;
            }
            (prev, i) = (i, r.next);
        }
        false
    }

    fn drop_first(&mut self) {
        let r = self.records[self.first];
        if r.live {
            self.remove(r.hash);
        }
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
