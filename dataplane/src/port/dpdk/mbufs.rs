//! Mbufs as cells: a mempool, and the [`Pool`] over it whose cells are its mbufs.
//!
//! ```text
//!  an object of the mempool:   rte_mbuf (128 B) │ our Header (192 B) │ headroom, frame
//!                              line 0, 1        │ "private area"     │ ◄── data of both
//! ```
//!
//! So a received mbuf is a cell as it is: the header is found by adding to a pointer, and its buffer never changes.
//!
//! A mempool is made anywhere ([`Mbufs`]), and becomes the pool of the core on whose thread it is turned into one. It holds
//! more mbufs than the pool has cells: those that devices hold to receive into, or have not sent yet. What connections
//! hold can thus never keep a device from receiving.
//!
//! What the `unsafe` here rests on: an mbuf is with exactly one of: the mempool, a device's driver, the port that has just
//! received it or is about to send it, or the pool, as `buf/cell/outside.rs` says. In the mempool it is whole: one segment,
//! one reference, its own buffer.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CString, c_int, c_uint, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::eal::{Eal, last_error};
use crate::Pool;
use crate::buf::{HEADER_BYTES, Place, REFILL_MAX, Source};

pub(super) type Mbuf = NonNull<sys::rte_mbuf>;

const MBUF_BYTES: usize = size_of::<sys::rte_mbuf>();
/// What a mempool puts in front of each object.
const OBJECT_HEADER_BYTES: usize = 64;
/// A thread's own cache of a mempool's.
const CACHE: u32 = 256;
/// A cache is let to grow by half, and threads that free what we sent have one of their own.
const IN_CACHES: u32 = 3 * CACHE;
/// Any NUMA node.
const SOCKET_ANY: c_int = -1;

/// A mempool, all of whose mbufs have the same room.
pub struct Mbufs {
    mempool: NonNull<sys::rte_mempool>,
    cells: u32,
    total: u32,
    room: u16,
}

// SAFETY: a mempool may be used by any thread; nothing of it is out.
unsafe impl Send for Mbufs {}

impl Mbufs {
    /// Bytes that `cells` of `room` bytes take, with `in_devices` more that devices hold.
    pub fn bytes(cells: u32, in_devices: u32, room: u16) -> u64 {
        let each = OBJECT_HEADER_BYTES + (MBUF_BYTES + HEADER_BYTES + usize::from(room)).next_multiple_of(64);
        // Where a page ends no object stands.
        u64::from(cells + in_devices + IN_CACHES) * (each as u64 + 64)
    }

    /// Makes a mempool of mbufs with `room` bytes of buffer, for `cells` cells and what devices hold; on a NUMA node, if it
    /// is given.
    ///
    /// # Errors
    /// One sentence.
    pub fn reserve(
        eal: Eal,
        cells: u32,
        in_devices: u32,
        room: u16,
        node: Option<i32>,
    ) -> Result<Mbufs, String> {
        let total = cells + in_devices + IN_CACHES;
        Ok(Mbufs { mempool: mempool(eal, total, HEADER_BYTES as u16, room, node)?, cells, total, room })
    }

    /// The pool of this thread's core over it.
    pub fn into_pool(self, name: &'static str) -> Pool {
        unsafe extern "C" fn place(
            _: *mut sys::rte_mempool,
            pool: *mut c_void,
            object: *mut c_void,
            _: c_uint,
        ) {
            // SAFETY: called below, with the pool and each mbuf in turn; behind the mbuf there is room for a header, as
            // the mempool was made with it, and mbufs are aligned to 64 bytes. Its buffer stays with it.
            unsafe {
                let mbuf = object.cast::<sys::rte_mbuf>();
                let header = NonNull::new_unchecked(object.cast::<u8>().add(MBUF_BYTES));
                let data = NonNull::new_unchecked((*mbuf).buf_addr.cast::<u8>());
                (*pool.cast::<Pool>()).place(header, data, (*mbuf).buf_len.into());
            }
        }
        let me = std::mem::ManuallyDrop::new(self);
        let source = MbufSource {
            mempool: me.mempool,
            total: me.total,
            room: me.room,
            devices: Cell::new(0),
            kept: Cell::new(0),
        };
        let pool = Pool::outside(name, me.cells, me.room.into(), source);
        // SAFETY: nobody has an mbuf of it.
        unsafe {
            sys::rte_mempool_obj_iter(me.mempool.as_ptr(), Some(place), (&raw const pool).cast_mut().cast());
        }
        pool
    }
}

impl Drop for Mbufs {
    fn drop(&mut self) {
        // SAFETY: nobody has an mbuf of it.
        unsafe { sys::rte_mempool_free(self.mempool.as_ptr()) };
    }
}

/// Where the cells of a pool of mbufs come from.
pub(super) struct MbufSource {
    mempool: NonNull<sys::rte_mempool>,
    total: u32,
    room: u16,
    /// Devices that receive into it.
    devices: Cell<u32>,
    /// Mbufs that the drivers of closed devices have kept.
    kept: Cell<u32>,
}

impl MbufSource {
    pub(super) fn mempool(&self) -> NonNull<sys::rte_mempool> {
        self.mempool
    }

    /// Bytes of buffer of each, headroom among them.
    pub(super) fn room(&self) -> u16 {
        self.room
    }

    /// Memory that they take.
    pub(super) fn bytes(&self) -> u64 {
        Mbufs::bytes(self.total - IN_CACHES, 0, self.room)
    }

    /// A device receives into it from now on.
    pub(super) fn enter(&self) {
        self.devices.set(self.devices.get() + 1);
    }

    /// A device is closed, whose driver has kept so many. Gives how many mbufs of `pool`, which this is the source of, are
    /// nowhere, or are here though they were kept: known when it was the last.
    pub(super) fn leave(&self, pool: &Pool, kept: u32) -> u32 {
        self.devices.set(self.devices.get() - 1);
        self.kept.set(self.kept.get() + kept);
        if self.devices.get() > 0 {
            return 0;
        }
        self.elsewhere(pool).abs_diff(self.kept.get())
    }

    /// Mbufs of `pool`, which this is the source of, that are with devices, or nowhere. What the cells' owners hold comes
    /// back in its time.
    pub(super) fn elsewhere(&self, pool: &Pool) -> u32 {
        self.total.saturating_sub(self.available() + pool.out() + pool.listed())
    }

    fn available(&self) -> u32 {
        // SAFETY: it lives as long as this.
        unsafe { sys::rte_mempool_avail_count(self.mempool.as_ptr()) }
    }
}

/// The place of an mbuf's header.
///
/// # Safety
/// The mbuf is of a mempool that was made here and turned into a pool.
#[inline]
pub(super) unsafe fn place_of(mbuf: *mut sys::rte_mbuf) -> Place {
    // SAFETY: as the caller says; `into_pool` made the header.
    unsafe { Place::at(NonNull::new_unchecked(mbuf.cast::<u8>().add(MBUF_BYTES))) }
}

/// Asks the CPU for the header of an mbuf and what is known of its frame.
#[inline]
pub(super) fn prefetch_header(mbuf: *mut sys::rte_mbuf) {
    #[cfg(target_arch = "x86_64")]
    for line in [MBUF_BYTES, MBUF_BYTES + 64] {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<{ _MM_HINT_T0 }>(mbuf.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = mbuf;
}

/// The mbuf that a place is in: the place must be of a pool of mbufs.
#[inline]
pub(super) fn mbuf_of(place: Place) -> Mbuf {
    // SAFETY: such places are behind an mbuf.
    unsafe { place.address().byte_sub(MBUF_BYTES).cast() }
}

// SAFETY: every mbuf has a header; the mempool gives each to one taker only. It is freed when it has them all, else never.
unsafe impl Source for MbufSource {
    fn take(&self, most: usize, places: &mut ArrayVec<Place, REFILL_MAX>) {
        let mut got = [std::ptr::null_mut(); REFILL_MAX];
        for n in [most.min(REFILL_MAX), 1] {
            // SAFETY: room for `n` pointers; all or none are given.
            if unsafe { sys::mr_mempool_get_bulk(self.mempool.as_ptr(), got.as_mut_ptr(), n as u32) } == 0 {
                // SAFETY: mbufs of this mempool.
                places.extend(got[..n].iter().map(|m| unsafe { place_of(m.cast()) }));
                return;
            }
        }
    }

    fn give(&self, places: &[Place]) {
        let mut mbufs = [std::ptr::null_mut(); REFILL_MAX];
        for (to, place) in mbufs.iter_mut().zip(places) {
            let mbuf = mbuf_of(*place);
            // SAFETY: the place's mbuf, which is ours now.
            debug_assert!(unsafe { is_whole(mbuf.as_ref()) });
            *to = mbuf.as_ptr().cast();
        }
        // SAFETY: whole mbufs of this mempool, and nobody's: they came as they are, and a cell writes to the buffer only.
        unsafe { sys::mr_mempool_put_bulk(self.mempool.as_ptr(), mbufs.as_ptr(), places.len() as u32) };
    }
}

impl Drop for MbufSource {
    fn drop(&mut self) {
        if self.available() == self.total {
            // SAFETY: all mbufs are in it, and nobody knows it any more.
            unsafe { sys::rte_mempool_free(self.mempool.as_ptr()) };
        }
    }
}

/// Whether it is as the mempool wants it back: one segment, one reference, its own buffer.
#[inline]
pub(super) fn is_whole(m: &sys::rte_mbuf) -> bool {
    let borrowed = sys::RTE_MBUF_F_INDIRECT | sys::RTE_MBUF_F_EXTERNAL;
    m.nb_segs == 1 && m.refcnt == 1 && m.ol_flags & borrowed == 0
}

/// Gives frames back to their mempools. They must be the caller's.
pub(super) fn free(mbufs: &mut [*mut sys::rte_mbuf]) {
    if !mbufs.is_empty() {
        // SAFETY: as the caller says.
        unsafe { sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), mbufs.len() as u32) };
    }
}

/// As `rte_pktmbuf_pool_create`, but without asking for buffers that are whole in physical memory: with normal pages
/// that would put each on a page of its own and halve the throughput.
pub(super) fn mempool(
    eal: Eal,
    count: u32,
    private_area: u16,
    room: u16,
    node: Option<c_int>,
) -> Result<NonNull<sys::rte_mempool>, String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let failed = |what: &str| format!("no mbufs ({what}): {}", last_error());
    let name = format!("millrace-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let name = CString::new(name).map_err(|e| e.to_string())?;
    let element = MBUF_BYTES as u32 + u32::from(private_area) + u32::from(room);
    let mut private = sys::rte_pktmbuf_pool_private {
        mbuf_data_room_size: room,
        mbuf_priv_size: private_area,
        ..Default::default()
    };
    // NICs without an IOMMU read each buffer as one piece of physical memory; in hugepages that is to be had for nothing.
    // Without NICs there is to be no gap where a page ends: `net_af_xdp` counts on that (see `umem_fits`).
    // SAFETY: EAL runs.
    let by_address = eal.has_nics()
        && unsafe {
            sys::rte_eal_iova_mode() == sys::rte_iova_mode_RTE_IOVA_PA && sys::rte_eal_has_hugepages() != 0
        };
    let flags = if by_address { 0 } else { sys::RTE_MEMPOOL_F_NO_IOVA_CONTIG };
    let private_bytes = size_of::<sys::rte_pktmbuf_pool_private>() as u32;
    // SAFETY: EAL runs (the caller has an `Eal`); a C string; the calls are those of rte_pktmbuf_pool_create, in its
    // order; a mempool that could not be filled is freed and not used.
    unsafe {
        let pool = sys::rte_mempool_create_empty(
            name.as_ptr(),
            count,
            element,
            CACHE,
            private_bytes,
            node.unwrap_or(SOCKET_ANY),
            flags,
        );
        let pool = NonNull::new(pool).ok_or_else(|| failed("made"))?;
        let p = pool.as_ptr();
        if sys::rte_mempool_set_ops_byname(p, c"ring_mp_mc".as_ptr(), std::ptr::null_mut()) != 0 {
            let e = failed("kind");
            sys::rte_mempool_free(p);
            return Err(e);
        }
        sys::rte_pktmbuf_pool_init(p, (&raw mut private).cast::<c_void>());
        if sys::rte_mempool_populate_default(p) < count as c_int {
            let e = failed("memory");
            sys::rte_mempool_free(p);
            return Err(e);
        }
        sys::rte_mempool_obj_iter(p, Some(sys::rte_pktmbuf_init), std::ptr::null_mut());
        Ok(pool)
    }
}

const _: () = {
    assert!(MBUF_BYTES == 128 && HEADER_BYTES.is_multiple_of(64));
};
