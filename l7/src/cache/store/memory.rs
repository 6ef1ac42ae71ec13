//! The raw memory of heads and bodies: equal chunks, and a table of links beside them.
//!
//! Together with [`chain`](super::chain), which calls it, this is all of the store's `unsafe`. It rests on three
//! rules, which the store keeps:
//!
//! 1. **One writer.** A chunk belongs to the participant that took it from the free pool. Only that one writes to
//!    it: before anybody else can find it, or (a body's last chunk) beyond what is published.
//! 2. **Readers stay below what was published.** A head blob is written whole, then its first chunk's number is
//!    stored by release. Body bytes, links and index entries are written, then the length is stored by release.
//!    A reader loads the number, or the length, by acquire, and reads nothing else. Published bytes never change.
//! 3. **Nothing returns to the pool while it can be read.** A chain goes back when its object (or its blob) has
//!    been unlinked, the epoch has passed, and no pin is left. No slice outlives the call that made it, and no
//!    call spans a quiescent state: slices go to closures only.
//!
//! Links are atomics, so that following a wrong one could only give wrong bytes, not undefined behaviour.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use hugepages::{Arena, FixedVec, PagePolicy, Region, ReserveError};

/// Bytes of a chunk.
pub(super) const CHUNK_BYTES: usize = 512;

/// No chunk; no object.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Chunks {
    region: Region,
    base: NonNull<u8>,
    count: u32,
    links: FixedVec<AtomicU32>,
}

// SAFETY: the bytes are shared under the rules above; everything else is plain or atomic.
unsafe impl Send for Chunks {}
// SAFETY: as above.
unsafe impl Sync for Chunks {}

impl Chunks {
    /// Bytes that the table of links takes from an arena.
    pub(super) const fn links_cost(count: usize) -> usize {
        Arena::cost::<AtomicU32>(count)
    }

    /// Reserves `count` chunks; `None` inside when the arena is too small for the links.
    pub(super) fn reserve(
        count: u32,
        arena: &mut Arena,
        policy: PagePolicy,
    ) -> Result<Option<Chunks>, ReserveError> {
        let region = Region::reserve(count as usize * CHUNK_BYTES, policy)?;
        let base = region.base();
        let Some(links) = arena.array(count as usize, |_| AtomicU32::new(NONE)) else { return Ok(None) };
        let chunks = Chunks { region, base, count, links };
        for chunk in 0..count {
            chunks.poison(chunk);
        }
        Ok(Some(chunks))
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// The chunk after this one: in its object, or in a free chain.
    #[inline]
    pub(super) fn link(&self, chunk: u32) -> &AtomicU32 {
        &self.links[chunk as usize]
    }

    /// Address of byte `at` of a chunk, for `len` bytes, which may reach into the chunks right after it.
    #[inline]
    fn address(&self, chunk: u32, at: usize, len: usize) -> NonNull<u8> {
        let start = chunk as usize * CHUNK_BYTES + at;
        assert!(chunk < self.count && start + len <= self.count as usize * CHUNK_BYTES, "outside the chunks");
        // SAFETY: start ≤ count × CHUNK_BYTES ≤ the region's length.
        unsafe { self.base.add(start) }
    }

    /// Bytes of a chunk (and of those right after it).
    ///
    /// # Safety
    /// Rules 2 and 3: all `len` bytes are published, and stay so until the slice is gone.
    #[inline]
    pub(super) unsafe fn slice(&self, chunk: u32, at: usize, len: usize) -> &[u8] {
        // SAFETY: in bounds (`address`), initialised (the region is zeroed), and unchanged by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.address(chunk, at, len).as_ptr(), len) }
    }

    /// Copies `bytes` into a chunk.
    ///
    /// # Safety
    /// Rule 1: the caller owns the chunk, and nobody reads these bytes yet.
    #[inline]
    pub(super) unsafe fn write(&self, chunk: u32, at: usize, bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= CHUNK_BYTES);
        let to = self.address(chunk, at, bytes.len()).as_ptr();
        // SAFETY: in bounds (`address`); `bytes` is no part of it, as nobody reads there.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Asks the CPU to fetch the first `lines` cache lines of a chunk. A hint; no chunk is no harm.
    #[inline]
    pub(super) fn prefetch(&self, chunk: u32, lines: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in 0..lines {
            let p = self.base.as_ptr().wrapping_add(chunk as usize * CHUNK_BYTES + line * 64).cast();
            // SAFETY: a prefetch never faults, whatever the address, and reads nothing as far as the program sees.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (chunk, lines);
    }

    /// The chunk is free: under AddressSanitizer, whoever still reads it is caught.
    #[inline]
    pub(super) fn poison(&self, chunk: u32) {
        #[cfg(asan)]
        // SAFETY: marks bytes of the region in the sanitizer's shadow; it changes none of them.
        unsafe {
            __asan_poison_memory_region(self.address(chunk, 0, CHUNK_BYTES).as_ptr().cast(), CHUNK_BYTES);
        }
        #[cfg(not(asan))]
        let _ = chunk;
    }

    /// The chunk has been taken.
    #[inline]
    pub(super) fn unpoison(&self, chunk: u32) {
        #[cfg(asan)]
        // SAFETY: as above.
        unsafe {
            __asan_unpoison_memory_region(self.address(chunk, 0, CHUNK_BYTES).as_ptr().cast(), CHUNK_BYTES);
        }
        #[cfg(not(asan))]
        let _ = chunk;
    }
}

#[cfg(asan)]
impl Drop for Chunks {
    fn drop(&mut self) {
        // The addresses go back to the kernel, and may be anybody's next.
        for chunk in 0..self.count {
            self.unpoison(chunk);
        }
    }
}

#[cfg(asan)]
unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const std::ffi::c_void, bytes: usize);
    fn __asan_unpoison_memory_region(start: *const std::ffi::c_void, bytes: usize);
}
