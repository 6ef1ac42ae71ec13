//! Fixed arrays cut from a [`Region`], for the life of the process or the test.
#![allow(unsafe_code)] // Typed views over reserved memory.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::{PagePolicy, Region, ReserveError};

/// A bump allocator over one region: things are cut off it at start and never given back.
pub struct Arena {
    region: Arc<Region>,
    used: usize,
}

impl Arena {
    /// Reserves an arena of at least `bytes`.
    ///
    /// # Errors
    /// As [`Region::reserve`].
    pub fn reserve(bytes: usize, policy: PagePolicy) -> Result<Arena, ReserveError> {
        Ok(Arena { region: Arc::new(Region::reserve(bytes, policy)?), used: 0 })
    }

    /// The region behind it.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Bytes not yet cut off.
    pub fn remaining(&self) -> usize {
        self.region.len() - self.used
    }

    /// Bytes that [`Arena::array`] takes for `n` items of `T`, alignment included.
    pub const fn cost<T>(n: usize) -> usize {
        n * size_of::<T>() + align_up(align_of::<T>())
    }

    /// An array of `n` items made by `make(i)`, aligned to at least a cache line; `None` when the arena is
    /// too small.
    pub fn array<T>(&mut self, n: usize, mut make: impl FnMut(usize) -> T) -> Option<FixedVec<T>> {
        let align = align_up(align_of::<T>());
        let start = self.used.next_multiple_of(align);
        let end = start.checked_add(n.checked_mul(size_of::<T>())?)?;
        if end > self.region.len() {
            return None;
        }
        self.used = end;
        // SAFETY: start ≤ end ≤ len, so the address lies in the region (or one past it for n = 0).
        let base = unsafe { self.region.base().add(start) }.cast::<T>();
        for i in 0..n {
            // SAFETY: item i lies in [start, end), is aligned (the region is page-aligned, `start` is a
            // multiple of T's alignment), and nobody else was given this stretch.
            unsafe { base.add(i).write(make(i)) };
        }
        Some(FixedVec { base, len: n, _region: Arc::clone(&self.region) })
    }
}

const fn align_up(align: usize) -> usize {
    if align < 64 { 64 } else { align }
}

/// An array of fixed length in an [`Arena`]; keeps the memory alive.
pub struct FixedVec<T> {
    base: NonNull<T>,
    len: usize,
    _region: Arc<Region>,
}

// SAFETY: a FixedVec owns its items as a Vec does.
unsafe impl<T: Send> Send for FixedVec<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for FixedVec<T> {}

impl<T> Deref for FixedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` items were written at `base`, which only this value can reach.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for FixedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the view the only one.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl<T> Drop for FixedVec<T> {
    fn drop(&mut self) {
        // SAFETY: the items are ours and are not reached again.
        unsafe { std::ptr::drop_in_place(std::ptr::slice_from_raw_parts_mut(self.base.as_ptr(), self.len)) };
    }
}

/// Asks the CPU to fetch the first `lines` cache lines of `item`. A hint: it has no effect on any result.
#[inline]
pub fn prefetch<T>(item: &T, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines.min(size_of::<T>().div_ceil(64)) {
        let p = std::ptr::from_ref(item).cast::<i8>().wrapping_add(line * 64);
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (item, lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_aligned_disjoint_and_dropped() {
        let mut a = Arena::reserve(1 << 16, PagePolicy::NormalOnly).unwrap();
        let alive = Arc::new(());
        let x = a.array(3, |_| Arc::clone(&alive)).unwrap();
        let mut y = a.array(100, |i| i as u8).unwrap();
        assert_eq!(y.as_ptr() as usize % 64, 0);
        y[0] = 200;
        assert_eq!(Arc::strong_count(&alive), 4);
        drop(a); // The arrays keep the region.
        assert_eq!(y[99], 99);
        drop(x);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn too_small_is_none_and_takes_nothing() {
        let mut a = Arena::reserve(4096, PagePolicy::NormalOnly).unwrap();
        let before = a.remaining();
        assert!(a.array(1 << 20, |_| 0u64).is_none());
        assert!(a.array(usize::MAX, |_| 0u64).is_none());
        assert_eq!(a.remaining(), before);
    }
}
