//! Results of active checks, from the core that checks to all others: one word per origin, no lock.

use std::sync::atomic::{AtomicU64, Ordering};

use dataplane::Time;

/// An origin's health as its checks have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it is up.
    pub up: bool,
    /// Since when; `Time(0)` for the state at start.
    pub since: Time,
}

/// The health of a set's origins. One core writes a word, all cores read it.
#[derive(Debug)]
pub struct SharedHealth {
    /// The top bit: down. Below: nanoseconds of the last change (292 years of them).
    words: Box<[AtomicU64]>,
    /// Counts the changes, so that readers look at one word while nothing changes.
    version: AtomicU64,
}

const DOWN: u64 = 1 << 63;

impl SharedHealth {
    /// All up, since the start.
    pub fn new(origins: usize) -> SharedHealth {
        SharedHealth { words: (0..origins).map(|_| AtomicU64::new(0)).collect(), version: AtomicU64::new(0) }
    }

    /// How many origins there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Changes whenever a word does.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// An origin's health.
    #[inline]
    pub fn get(&self, origin: usize) -> Health {
        let word = self.words[origin].load(Ordering::Relaxed);
        Health { up: word & DOWN == 0, since: Time(word & !DOWN) }
    }

    /// Says that an origin is up or down from `now` on.
    pub fn set(&self, origin: usize, up: bool, now: Time) {
        let flag = if up { 0 } else { DOWN };
        self.words[origin].store(flag | now.0 & !DOWN, Ordering::Relaxed);
        // Whoever sees the new version sees the word.
        self.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let health = SharedHealth::new(3);
        assert_eq!(health.get(1), Health { up: true, since: Time(0) });
        let before = health.version();
        health.set(1, false, Time(77));
        assert_ne!(health.version(), before);
        assert_eq!(health.get(1), Health { up: false, since: Time(77) });
        assert_eq!(health.get(2), Health { up: true, since: Time(0) });
        health.set(1, true, Time(99));
        assert_eq!(health.get(1), Health { up: true, since: Time(99) });
    }

    #[test]
    fn a_version_seen_is_a_word_seen() {
        let health = std::sync::Arc::new(SharedHealth::new(1));
        let writer = std::sync::Arc::clone(&health);
        let thread =
            std::thread::spawn(move || (1..=10_000).for_each(|n| writer.set(0, n % 2 == 0, Time(n))));
        loop {
            let version = health.version();
            assert!(health.get(0).since.0 >= version);
            if version == 10_000 {
                break;
            }
        }
        thread.join().expect("the writer ends");
    }
}
