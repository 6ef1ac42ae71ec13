//! What other threads give back to its owner: a stack that any thread pushes to, and the owner takes whole.
//!
//! ```text
//!  any thread:  push ──► top ─► c ─► b ─► a            a release
//!  the owner:   take ◄── all of it at once             an acquire
//! ```
//!
//! As all is taken at once, it does no harm that a thing which was taken is pushed again between a push's look at the top and
//! its exchange: then it is the top again, and belongs below. Model-checked: scripts/checks/loom.sh.
#![allow(unsafe_code)]

use std::cell::Cell;

use crate::sync::{AtomicPtr, Ordering};

/// Of what can be given back.
///
/// # Safety
/// `below` always gives the same cell, which nobody but [`GiveBack`] writes while the thing is on its way.
pub unsafe trait Linked: Sized {
    /// Where the thing that was given back before it is kept.
    fn below(&self) -> &Cell<*mut Self>;
}

/// The stack.
pub struct GiveBack<T> {
    top: AtomicPtr<T>,
}

impl<T: Linked> GiveBack<T> {
    /// An empty one.
    pub fn new() -> GiveBack<T> {
        GiveBack { top: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Whether nothing waits. What is pushed at this moment may be missed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.top.load(Ordering::Relaxed).is_null()
    }

    /// Gives a thing back, on any thread.
    ///
    /// # Safety
    /// The thing is the caller's alone, and from now on its owner's; it lives until it has been taken.
    pub unsafe fn push(&self, thing: *mut T) {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: as the caller says.
            unsafe { (*thing).below().set(top) };
            // The owner sees what was written before this when it takes.
            match self.top.compare_exchange_weak(top, thing, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes all, the last one first, on the owner's thread.
    pub fn take(&self, mut each: impl FnMut(*mut T)) {
        // What was written before the pushes is seen from here on: each exchange goes on with the release of those below.
        let mut thing = self.top.swap(std::ptr::null_mut(), Ordering::Acquire);
        while !thing.is_null() {
            // SAFETY: it was pushed, and so lives until here; `each` may use it again, so the one below is read first.
            let below = unsafe { (*thing).below().get() };
            each(thing);
            thing = below;
        }
    }
}
