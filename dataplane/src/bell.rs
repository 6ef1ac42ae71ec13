//! Doorbells: how the writer of a ring wakes a reader that sleeps, at no cost while the reader is busy.
//!
//! ```text
//!  reader: prepare() ── sleeping = true ── is the ring empty? ── yes ──► wait on the descriptor ──► awake()
//!  writer: put into the ring ── is sleeping set? ── yes, take it back ──► write to the eventfd
//! ```
//!
//! Either the writer sees `sleeping`, or the reader sees what was put: a full fence stands between the store
//! and the load on both sides, so that no wake-up is lost. The first ring of a sleep takes `sleeping` back:
//! one system call wakes the reader for any number of frames.
//!
//! A core has one bell ([`Bells`]), which whoever leaves something for it rings: other cores with mail, the
//! control side with orders, a shared store with news. The reader of a [`mem`](crate::port::mem) wire has one of its
//! own.
#![allow(unsafe_code)] // eventfd: create, read, write; poll.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

/// Descriptors that one core waits on at most: its bell and its ports.
pub const WAIT_FDS_MAX: usize = 16;

/// The bells of a node's cores. Any thread may ring any of them.
pub struct Bells {
    bells: Box<[Doorbell]>,
}

impl Bells {
    /// A bell for each of `cores` cores.
    ///
    /// # Errors
    /// When the kernel gives no eventfd: too many open files.
    pub fn new(cores: usize) -> io::Result<Arc<Bells>> {
        let bells: io::Result<Vec<Doorbell>> = (0..cores).map(|_| Doorbell::new()).collect();
        Ok(Arc::new(Bells { bells: bells?.into() }))
    }

    /// Wakes `core` if it sleeps; to be called after something was left for it. A fence and a load while it is awake.
    #[inline]
    pub fn ring(&self, core: usize) {
        if let Some(b) = self.bells.get(core) {
            b.ring();
        }
    }

    /// Wakes every core that sleeps.
    pub fn ring_all(&self) {
        self.bells.iter().for_each(Doorbell::ring);
    }

    /// Sleeps as `core`, a thread of the caller's, until its bell is rung, one of `fds` (few: see [`WAIT_FDS_MAX`]) is
    /// readable, or `timeout` has passed. Not if `may_sleep`, which looks whether something was left meanwhile, says no.
    pub fn wait(&self, core: usize, fds: &[RawFd], timeout: Duration, may_sleep: impl FnOnce() -> bool) {
        let bell = self.of(core);
        bell.prepare();
        if !may_sleep() {
            return bell.cancel();
        }
        let mut all = vec![bell.fd()];
        all.extend(fds);
        wait_readable(&all, timeout);
        bell.awake();
    }

    /// A core's own bell.
    pub(crate) fn of(&self, core: usize) -> &Doorbell {
        &self.bells[core]
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.bells.len()
    }
}

/// Waits until one of `fds` (at most [`WAIT_FDS_MAX`] are looked at) is readable, or `timeout` has passed. Gives which
/// are, as a bit each.
pub fn wait_readable(fds: &[RawFd], timeout: Duration) -> u32 {
    let mut polled = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; WAIT_FDS_MAX];
    for (p, fd) in polled.iter_mut().zip(fds) {
        p.fd = *fd;
    }
    let n = fds.len().min(WAIT_FDS_MAX);
    let ts = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: `n` of the pollfds and one timespec, which outlive the call.
    unsafe { libc::ppoll(polled.as_mut_ptr(), n as libc::nfds_t, &raw const ts, std::ptr::null()) };
    polled[..n].iter().enumerate().fold(0, |bits, (i, p)| bits | u32::from(p.revents != 0) << i)
}

/// One reader's doorbell.
pub(crate) struct Doorbell {
    fd: OwnedFd,
    sleeping: AtomicBool,
}

impl Doorbell {
    /// A doorbell that nobody has rung.
    pub(crate) fn new() -> io::Result<Doorbell> {
        // SAFETY: eventfd takes two plain values.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Doorbell { fd, sleeping: AtomicBool::new(false) })
    }

    /// Readable once the bell has been rung, until [`Doorbell::awake`].
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The reader is about to sleep; it must look at its ring once more after this.
    pub(crate) fn prepare(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The reader does not sleep after all. If a writer rang in between, the next sleep ends at once.
    pub(crate) fn cancel(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// The reader is awake: the bell is silent again, but for a writer that is about to ring; then the next
    /// sleep ends at once, which is harmless.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
        let mut count = 0u64;
        // SAFETY: an eventfd gives 8 bytes into `count`, which outlives the call.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }

    /// The writer has put something into the ring.
    #[inline]
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.sleeping.swap(false, Ordering::Relaxed) {
            let one = 1u64;
            // SAFETY: an eventfd takes 8 bytes from `one`, which outlives the call. It cannot fail but for a
            // count near 2^64, which would wake the reader just as well.
            unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_descriptors_ends_the_wait() {
        let bells = Bells::new(3).unwrap();
        let fds: Vec<RawFd> = (0..3).map(|c| bells.of(c).fd()).collect();
        bells.ring(1); // Nobody sleeps: nothing happens.
        assert_eq!(wait_readable(&fds, Duration::from_millis(1)), 0);
        bells.of(1).prepare();
        bells.ring(1);
        bells.ring(7); // There is no such core.
        assert_eq!(wait_readable(&fds, Duration::from_secs(20)), 0b010);
        bells.of(1).awake();
        assert_eq!(wait_readable(&fds, Duration::ZERO), 0, "a bell that was heard is silent again");
        for c in 0..3 {
            bells.of(c).prepare();
        }
        bells.of(2).cancel();
        bells.ring_all();
        assert_eq!(wait_readable(&fds, Duration::from_secs(20)), 0b011);
    }
}
