//! Cells that a device reads: a record for each, from when an mbuf is attached to the cell's bytes until the last mbuf on
//! them is freed.
//!
//! ```text
//!   attach ──► record (in use) ──► DPDK's callback, on the owner's thread ──► the handle is dropped, the record is free
//!                                  │
//!                                  └─ on any other ──► `returned`, a stack ──► collect, on the owner's thread ──┘
//! ```
//!
//! What is sent into a `net_ring` is freed by whoever reads it, on his thread; handles on cells may be dropped on their own
//! thread only. What the `unsafe` here rests on:
//!
//! 1. A record is with exactly one of: the free list, DPDK (from `attach` to the callback), or `returned`.
//! 2. Other threads touch `Shared::returned`, and `Record::next` of a record that they are about to push; they read
//!    `Shared::owner` and `Record::shared`, which never change. All else is the owner's.
//! 3. Records and `Shared` live until all records are back; if some are not when the owner goes, for ever.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk_sys as sys;

use super::giveback::{GiveBack, Linked};
use crate::buf::Handle;

/// One attachment.
#[repr(C, align(64))]
struct Record {
    /// What DPDK knows of it.
    info: sys::rte_mbuf_ext_shared_info,
    handle: Cell<Option<NonNull<()>>>,
    next: Cell<*mut Record>,
    shared: *const Shared,
}

struct Shared {
    /// The thread that handles belong to.
    owner: u64,
    free: Cell<*mut Record>,
    free_count: Cell<u32>,
    /// Freed on other threads.
    returned: GiveBack<Record>,
}

// SAFETY: its own cell; a record that is given back is on no other list (rule 1).
unsafe impl Linked for Record {
    fn below(&self) -> &Cell<*mut Record> {
        &self.next
    }
}

/// The records of one port on one core.
pub(super) struct Ledger {
    shared: NonNull<Shared>,
    records: NonNull<[Record]>,
    _not_send: PhantomData<*mut ()>,
}

impl Ledger {
    /// With so many records.
    pub(super) fn new(records: u32) -> Ledger {
        let shared = NonNull::from(Box::leak(Box::new(Shared {
            owner: this_thread(),
            free: Cell::new(std::ptr::null_mut()),
            free_count: Cell::new(0),
            returned: GiveBack::new(),
        })));
        let all: Box<[Record]> = (0..records)
            .map(|_| Record {
                info: sys::rte_mbuf_ext_shared_info { free_cb: Some(freed), ..Default::default() },
                handle: Cell::new(None),
                next: Cell::new(std::ptr::null_mut()),
                shared: shared.as_ptr(),
            })
            .collect();
        let all = NonNull::from(Box::leak(all));
        for i in 0..all.len() {
            // SAFETY: record i, and rule 1: it is ours.
            unsafe {
                let record = all.as_ptr().cast::<Record>().add(i);
                (*record).info.fcb_opaque = record.cast();
                shared.as_ref().put(record);
            }
        }
        Ledger { shared, records: all, _not_send: PhantomData }
    }

    fn shared(&self) -> &Shared {
        // SAFETY: rule 3.
        unsafe { self.shared.as_ref() }
    }

    /// Records that are free.
    #[inline]
    pub(super) fn free(&self) -> u32 {
        self.shared().free_count.get()
    }

    /// Cells that are attached.
    #[inline]
    pub(super) fn in_use(&self) -> u32 {
        self.records.len() as u32 - self.free()
    }

    /// Keeps `handle` until DPDK has called back; gives what the mbuf is to point to. `None` when no record is free.
    #[inline]
    pub(super) fn keep(&mut self, handle: Handle) -> Option<*mut sys::rte_mbuf_ext_shared_info> {
        let record = self.shared().take()?;
        // SAFETY: rule 1: taken from the free list, and nobody else knows it.
        unsafe {
            (*record).handle.set(Some(handle.into_raw()));
            (*record).info.refcnt = 1;
            Some(&raw mut (*record).info)
        }
    }

    /// Lets go of what was freed on other threads.
    #[inline]
    pub(super) fn collect(&mut self) {
        if !self.shared().returned.is_empty() {
            self.collect_returned();
        }
    }

    #[cold]
    fn collect_returned(&mut self) {
        let shared = self.shared();
        // SAFETY: rule 1: from `returned`, so that it is ours again.
        shared.returned.take(|record| unsafe { shared.settle(record) });
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.collect();
        if self.in_use() == 0 {
            // SAFETY: rule 3: all are back; both were made by Box::leak.
            unsafe {
                drop(Box::from_raw(self.records.as_ptr()));
                drop(Box::from_raw(self.shared.as_ptr()));
            }
        }
    }
}

impl Shared {
    /// # Safety
    /// On the owner's thread, with a record that is nobody else's.
    #[inline]
    unsafe fn put(&self, record: *mut Record) {
        // SAFETY: as the caller says.
        unsafe { (*record).next.set(self.free.replace(record)) };
        self.free_count.set(self.free_count.get() + 1);
    }

    #[inline]
    fn take(&self) -> Option<*mut Record> {
        let record = self.free.get();
        if record.is_null() {
            return None;
        }
        // SAFETY: rule 1: on the free list.
        self.free.set(unsafe { (*record).next.get() });
        self.free_count.set(self.free_count.get() - 1);
        Some(record)
    }

    /// Drops the record's handle.
    ///
    /// # Safety
    /// On the owner's thread, with a record that DPDK or another thread has given up.
    #[inline]
    unsafe fn settle(&self, record: *mut Record) {
        // SAFETY: as the caller says; the handle was kept by `keep`, on this thread.
        unsafe {
            if let Some(raw) = (*record).handle.take() {
                drop(Handle::from_raw(raw));
            }
            self.put(record);
        }
    }
}

/// DPDK's callback: no mbuf points to the cell's bytes any more.
unsafe extern "C" fn freed(_bytes: *mut c_void, record: *mut c_void) {
    let record = record.cast::<Record>();
    // SAFETY: rules 1 and 3: DPDK gives up a record of ours, and `shared` lives while one is not back.
    unsafe {
        let shared = &*(*record).shared;
        if shared.owner == this_thread() {
            shared.settle(record);
            return;
        }
        shared.returned.push(record);
    }
}

/// A number that no other thread has, or had.
#[inline]
fn this_thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static MINE: Cell<u64> = const { Cell::new(0) };
    }
    match MINE.get() {
        0 => {
            let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            MINE.set(new);
            new
        }
        mine => mine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;
    use hugepages::PagePolicy;

    /// What DPDK does when the last mbuf on the bytes is freed.
    fn free(info: usize) {
        let info = info as *mut sys::rte_mbuf_ext_shared_info;
        // SAFETY: from `keep`, once.
        unsafe {
            assert_eq!((*info).refcnt, 1);
            ((*info).free_cb.expect("a callback"))(std::ptr::null_mut(), (*info).fcb_opaque);
        }
    }

    #[test]
    fn a_cell_is_free_when_dpdk_is_done_with_it() {
        let pool = Pool::reserve("t", 4, 64, PagePolicy::NormalOnly).expect("memory");
        let mut ledger = Ledger::new(2);
        let slice = pool.alloc().expect("a cell").into_slice(0, 0);
        let kept: Vec<_> = (0..2).map(|_| ledger.keep(slice.handle()).expect("a record") as usize).collect();
        assert!(ledger.keep(slice.handle()).is_none(), "and the handle is not lost");
        drop(slice);
        assert_eq!((ledger.in_use(), pool.free_count()), (2, 3));
        kept.into_iter().for_each(free);
        assert_eq!((ledger.in_use(), pool.free_count()), (0, 4));
    }

    #[test]
    fn what_other_threads_free_comes_back_to_its_own() {
        let pool = Pool::reserve("t", 300, 64, PagePolicy::NormalOnly).expect("memory");
        let mut ledger = Ledger::new(256);
        for _ in 0..50 {
            let kept: Vec<usize> = (0..256)
                .map(|_| ledger.keep(pool.alloc().expect("a cell").handle()).expect("a record") as usize)
                .collect();
            assert_eq!((ledger.free(), pool.free_count()), (0, 44));
            std::thread::scope(|s| {
                for part in kept.chunks(80) {
                    s.spawn(|| part.iter().copied().for_each(free));
                }
                // Some of them, while others come.
                for _ in 0..100 {
                    ledger.collect();
                    assert_eq!(pool.free_count(), 44 + ledger.free());
                }
            });
            assert_eq!(pool.free_count(), 44 + ledger.free(), "no other thread has touched the pool");
            ledger.collect();
            assert_eq!((ledger.free(), pool.free_count()), (256, 300));
        }
    }

    #[test]
    fn records_outlive_a_ledger_whose_cells_are_still_read() {
        let pool = Pool::reserve("t", 2, 64, PagePolicy::NormalOnly).expect("memory");
        let mut ledger = Ledger::new(2);
        let info = ledger.keep(pool.alloc().expect("a cell").handle()).expect("a record") as usize;
        drop(ledger);
        assert_eq!(pool.free_count(), 1);
        free(info);
        assert_eq!(pool.free_count(), 2);
    }
}
