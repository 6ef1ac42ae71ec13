//! A doorbell: how the writer of a ring wakes a reader that sleeps, at no cost while the reader is busy.
//!
//! ```text
//!  reader: prepare() ── sleeping = true ── is the ring empty? ── yes ──► wait on the descriptor ──► awake()
//!  writer: put into the ring ── is sleeping set? ── yes, take it back ──► write to the eventfd
//! ```
//!
//! Either the writer sees `sleeping`, or the reader sees what was put: a full fence stands between the store
//! and the load on both sides, so that no wake-up is lost. The first ring of a sleep takes `sleeping` back:
//! one system call wakes the reader for any number of frames.
#![allow(unsafe_code)] // eventfd: create, read, write.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// One reader's doorbell.
pub(super) struct Doorbell {
    fd: OwnedFd,
    sleeping: AtomicBool,
}

impl Doorbell {
    /// A doorbell that nobody has rung.
    pub(super) fn new() -> io::Result<Doorbell> {
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
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The reader is about to sleep; it must look at its ring once more after this.
    pub(super) fn prepare(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The reader does not sleep after all. If a writer rang in between, the next sleep ends at once.
    pub(super) fn cancel(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// The reader is awake: the bell is silent again, but for a writer that is about to ring; then the next
    /// sleep ends at once, which is harmless.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
        let mut count = 0u64;
        // SAFETY: an eventfd gives 8 bytes into `count`, which outlives the call.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }

    /// The writer has put something into the ring.
    #[inline]
    pub(super) fn ring(&self) {
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
