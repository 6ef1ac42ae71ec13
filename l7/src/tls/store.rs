//! Sessions of clients that may send early data. They are kept here and not in tickets: whoever brings one takes it
//! out, so that a first flight that somebody sends again finds nothing, and its early data is refused (RFC 8446, 8.1).
//!
//! ```text
//!  id (32 random bytes, ours) ──► a set of 8 places, under a lock of its own ──► the session, once
//! ```
//!
//! One for a node: a client's next connection may come to any core. There is a fixed number of places. Where a set is
//! full its oldest session goes, and its client shakes hands in full next time; as ids are drawn by us, nobody can
//! choose whose. They are counted, by whichever core asks next ([`SessionStore::take_evicted`]).
//!
//! A session is good for so long, and so are those together that follow from it: each is as old as the full handshake that
//! they began with (`age`).
//!
//! Clients that resume by TLS 1.2 have their sessions here too, and may use them more than once: they send no early data.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;
use rustls::time_provider::TimeProvider;
use zeroize::Zeroizing;

use super::age::Age;

/// Places of a set.
const WAYS: usize = 8;
/// Bytes of an id, as rustls draws them.
const ID_BYTES: usize = 32;
/// Bytes of a session at most: the longest name, secrets, and a few numbers. One with a client's certificates is longer,
/// and not kept.
const VALUE_BYTES_MAX: usize = 512;

/// See the module.
pub struct SessionStore {
    sets: Box<[Mutex<Set>]>,
    lifetime_s: AtomicU64,
    evicted: AtomicU64,
    time: Arc<dyn TimeProvider>,
}

#[derive(Default)]
struct Set([Place; WAYS]);

/// Empty where `until_s` is 0.
#[derive(Default)]
struct Place {
    id: [u8; ID_BYTES],
    until_s: u64,
    /// When the full handshake was.
    began_s: u64,
    value: Zeroizing<Vec<u8>>,
}

impl SessionStore {
    /// Bytes of a session at most, with its place.
    pub const SESSION_BYTES: u64 = (size_of::<Mutex<Set>>() / WAYS + VALUE_BYTES_MAX) as u64;

    /// Room for so many sessions at least, each kept for `lifetime_s` from its full handshake on.
    pub fn new(sessions: u32, lifetime_s: u64, time: Arc<dyn TimeProvider>) -> Arc<SessionStore> {
        let sets = (sessions as usize).div_ceil(WAYS).next_power_of_two();
        Arc::new(SessionStore {
            sets: (0..sets).map(|_| Mutex::default()).collect(),
            lifetime_s: AtomicU64::new(lifetime_s),
            evicted: AtomicU64::new(0),
            time,
        })
    }

    /// Sessions that come from now on are kept for so long.
    pub fn keep_for(&self, lifetime_s: u64) {
        self.lifetime_s.store(lifetime_s, Ordering::Relaxed);
    }

    /// How many have gone before their time since this was last asked for.
    pub fn take_evicted(&self) -> u64 {
        // Mostly none have: then nothing is written that other cores read.
        if self.evicted.load(Ordering::Relaxed) == 0 { 0 } else { self.evicted.swap(0, Ordering::Relaxed) }
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    fn now_s(&self) -> Option<u64> {
        self.time.current_time().map(|now| now.as_secs())
    }

    /// The set that `id` belongs to.
    fn set(&self, id: &[u8; ID_BYTES]) -> Option<MutexGuard<'_, Set>> {
        let number = id.first_chunk().map_or(0, |first| u64::from_le_bytes(*first)) as usize;
        let set = self.sets.get(number & (self.sets.len() - 1))?;
        // Nothing in here is half done when a thread panics.
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the session of `id`, if it is there and its time is not over.
    fn find<T>(&self, id: &[u8], look: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let (id, now_s) = (<&[u8; ID_BYTES]>::try_from(id).ok()?, self.now_s()?);
        let mut set = self.set(id)?;
        let place = set.0.iter_mut().find(|place| place.id == *id && place.until_s > 0)?;
        if place.until_s <= now_s {
            Age::note_over();
            return None;
        }
        Age { began_s: place.began_s, certified_until_s: u64::MAX }.note_opened();
        Some(look(place))
    }
}

impl StoresServerSessions for SessionStore {
    fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        let value = Zeroizing::new(value);
        let (Ok(id), Some(now_s)) = (<[u8; ID_BYTES]>::try_from(&id[..]), self.now_s()) else { return false };
        if value.len() > VALUE_BYTES_MAX {
            return false;
        }
        let age = Age::of_sealed(now_s);
        let left_s = age.left_s(now_s, self.lifetime_s.load(Ordering::Relaxed));
        if left_s == 0 || age.certified_until_s < u64::MAX {
            return false;
        }
        let (until_s, began_s) = (now_s.saturating_add(left_s), age.began_s);
        let Some(mut set) = self.set(&id) else { return false };
        // Its own place, or the one whose time is over first; an empty one's always is.
        let place =
            set.0.iter_mut().min_by_key(|place| (place.id != id || place.until_s == 0, place.until_s));
        let Some(place) = place else { return false };
        if place.id != id && place.until_s > now_s {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        *place = Place { id, until_s, began_s, value };
        true
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.find(id, |place| place.value.to_vec())
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.find(id, |place| std::mem::take(&mut *std::mem::take(place).value))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for SessionStore {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;

    #[derive(Debug, Default)]
    struct Clock(AtomicU64);

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }

    fn id(set: u8, n: u8) -> Vec<u8> {
        let mut id = vec![n; ID_BYTES];
        id[..8].copy_from_slice(&[set, 0, 0, 0, 0, 0, 0, 0]);
        id
    }

    #[test]
    fn a_session_is_taken_once() {
        let store = SessionStore::new(16, 60, Arc::new(Clock::default()));
        assert!(store.can_cache() && store.capacity() == 16);
        assert!(store.put(id(0, 1), b"one".to_vec()) && store.put(id(1, 1), b"two".to_vec()));
        assert_eq!(store.get(&id(0, 1)).as_deref(), Some(&b"one"[..]));
        assert_eq!(store.take(&id(0, 1)).as_deref(), Some(&b"one"[..]));
        assert_eq!((store.take(&id(0, 1)), store.get(&id(0, 1))), (None, None));
        assert_eq!(store.take(&id(1, 1)).as_deref(), Some(&b"two"[..]));
        assert_eq!(store.take(b"short"), None);
        assert!(!store.put(b"short".to_vec(), b"x".to_vec()));
        assert!(!store.put(id(0, 1), vec![0; VALUE_BYTES_MAX + 1]));
    }

    #[test]
    fn of_a_full_set_the_oldest_goes() {
        let clock = Arc::new(Clock::default());
        let store = SessionStore::new(16, 600, clock.clone());
        for n in 0..9 {
            clock.0.store(u64::from(n), Ordering::Relaxed);
            assert_eq!(store.take_evicted(), 0);
            assert!(store.put(id(0, n), vec![n]));
        }
        assert_eq!((store.take_evicted(), store.take_evicted()), (1, 0));
        assert_eq!(store.get(&id(0, 0)), None);
        assert!((1..9).all(|n| store.get(&id(0, n)) == Some(vec![n])));
        // The same id again takes its own place.
        assert!(store.put(id(0, 5), b"again".to_vec()));
        assert_eq!(store.get(&id(0, 5)).as_deref(), Some(&b"again"[..]));
        assert!((1..9).all(|n| store.get(&id(0, n)).is_some()));
        // An empty place comes before anybody's.
        store.take(&id(0, 7));
        assert!(store.put(id(0, 20), vec![20]));
        assert!((1..7).all(|n| store.get(&id(0, n)).is_some()));
        // Nor is one that is over anybody's.
        clock.0.store(602, Ordering::Relaxed);
        assert!(store.put(id(0, 21), vec![21]));
        assert_eq!((store.take_evicted(), store.get(&id(0, 3))), (0, Some(vec![3])));
    }

    #[test]
    fn a_session_has_its_time() {
        let clock = Arc::new(Clock::default());
        let store = SessionStore::new(1, 60, clock.clone());
        assert!(store.put(id(0, 1), vec![1]));
        store.keep_for(10);
        assert!(store.put(id(0, 2), vec![2]));
        clock.0.store(10, Ordering::Relaxed);
        assert_eq!((store.get(&id(0, 1)), store.get(&id(0, 2))), (Some(vec![1]), None));
        clock.0.store(60, Ordering::Relaxed);
        assert_eq!(store.take(&id(0, 1)), None);
    }

    #[test]
    fn two_threads_do_not_get_the_same_session() {
        let store = SessionStore::new(1024, 60, Arc::new(Clock::default()));
        for round in 0..64u8 {
            assert!(store.put(id(round, round), vec![round]));
            let taken: usize = std::thread::scope(|s| {
                let take = || usize::from(store.take(&id(round, round)).is_some());
                let (a, b) = (s.spawn(take), s.spawn(take));
                a.join().unwrap() + b.join().unwrap()
            });
            assert_eq!(taken, 1);
        }
    }
}
