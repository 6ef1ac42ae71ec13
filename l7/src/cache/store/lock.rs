//! A lock that is tried, not waited for: only misses and purges take one, and a miss can go uncached.

use std::sync::atomic::{AtomicBool, Ordering};

/// Looks before giving up: a few microseconds, longer than any holder needs, unless it lost its CPU.
const SPINS: u32 = 256;

#[derive(Default)]
pub(super) struct Lock(AtomicBool);

/// Unlocks when dropped. Functions that need the lock take a `&Guard`, so that they cannot be called without one.
pub(super) struct Guard<'a>(&'a Lock);

impl Lock {
    /// The lock, or `None` when somebody holds on to it.
    #[inline]
    pub(super) fn attempt(&self) -> Option<Guard<'_>> {
        for _ in 0..SPINS {
            // Look first: a failed exchange would take the line from its holder.
            if !self.0.load(Ordering::Relaxed)
                && self.0.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Some(Guard(self));
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The lock, however long it takes: control threads only.
    pub(super) fn wait(&self) -> Guard<'_> {
        loop {
            if let Some(guard) = self.attempt() {
                return guard;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}
