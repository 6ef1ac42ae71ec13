//! Cells, and the two handles on them: [`Packet`] (one owner, may write) and [`Slice`] (many, read only).
//!
//! All `unsafe` of the buffers is in this file, and in `cell/queue.rs`, `cell/stash.rs` and `cell/outside.rs`. The rules that it rests on:
//!
//! 1. A header and its buffer live as long as the pool's memory, and that lives while a [`Pool`] handle or
//!    a cell is out (`PoolInner::release_if_dead`).
//! 2. `refs` counts the handles on a cell. It is a plain cell: handles are not `Send`.
//! 3. Bytes of a cell are written only through its one handle (a `Packet`, or a `Slice` with `refs == 1`) or, by a
//!    `CellWriter`, beyond everything that slices of the cell can see.
#![allow(unsafe_code)]

mod outside;
mod queue;
mod stash;

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use hugepages::{PagePolicy, Region, ReserveError};

use super::{HEADROOM, Meta, TAIL_MAX};

pub use outside::{HEADER_BYTES, Handle, Place, REFILL_MAX, Source};
pub use queue::{CellQueue, NotInserted};
pub use stash::Stash;

#[repr(C, align(64))]
pub(super) struct Header {
    // Line 0.
    pub(super) data: NonNull<u8>,
    pool: NonNull<PoolInner>,
    link: Cell<Option<NonNull<Header>>>,
    pub(super) refs: Cell<u32>,
    /// Bytes of buffer.
    pub(super) cap: u32,
    /// Where the frame's bytes start in the buffer, and how many there are: of a packet, and of a slice while it waits in a
    /// `CellQueue` or a `Stash`.
    off: Cell<u32>,
    len: Cell<u32>,
    /// While the cell waits in a `CellQueue`: a tag of the queue's owner (TCP: sequence number).
    tag: Cell<u32>,
    /// Slices in `tail`: whoever has none need not touch its line.
    pieces: Cell<u32>,
    /// As `tag`, where entries stand in runs: of a run's first entry the last one, of its last one the first. `None` in
    /// a queue without runs, and outside of queues.
    run: Cell<Option<NonNull<Header>>>,
    // Line 1.
    meta: RefCellFree<Meta>,
    // Line 2.
    tail: RefCellFree<ArrayVec<Slice, TAIL_MAX>>,
}

impl Header {
    /// Of a cell that is free.
    fn new(pool: NonNull<PoolInner>, data: NonNull<u8>, cap: u32) -> Header {
        Header {
            data,
            pool,
            link: Cell::new(None),
            refs: Cell::new(0),
            cap,
            off: Cell::new(0),
            len: Cell::new(0),
            tag: Cell::new(0),
            pieces: Cell::new(0),
            run: Cell::new(None),
            meta: RefCellFree(Meta::default().into()),
            tail: RefCellFree(ArrayVec::new().into()),
        }
    }

    /// As [`Pool::prefetch_next`], of the cell's own pool.
    #[inline]
    pub(super) fn prefetch_next(&self, bytes: Range<usize>) {
        // SAFETY: rule 1: a cell that is out keeps its pool.
        prefetch_next(unsafe { self.pool.as_ref() }, bytes);
    }
}

/// Interior mutability without a borrow flag: reached only through the one `Packet` that owns the cell.
struct RefCellFree<T>(std::cell::UnsafeCell<T>);

struct PoolInner {
    free: Cell<Option<NonNull<Header>>>,
    free_count: Cell<u32>,
    low_water: Cell<u32>,
    empty_count: Cell<u64>,
    handles: Cell<u32>,
    capacity: u32,
    cell_bytes: u32,
    /// Free cells that are not on the list, but with the pool's source: 0 without one.
    away: Cell<u32>,
    /// Of the source's type; the unit's without one.
    kind: TypeId,
    name: &'static str,
    memory: Memory,
    // Makes the intent plain: nothing of a pool may cross threads.
    _not_send: PhantomData<RefCell<*mut u8>>,
}

/// Where headers and buffers lie. Kept for its Drop.
enum Memory {
    Own { _region: Region },
    Outside(Box<dyn Source>),
}

/// How a pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Name, for reports.
    pub name: &'static str,
    /// Cells in all.
    pub capacity: u32,
    /// Cells that can be taken now.
    pub free: u32,
    /// The fewest that were ever free.
    pub low_water: u32,
    /// How often a cell was wanted and none was there.
    pub empty_count: u64,
}

/// A fixed number of equal cells of one core. Cloning the handle is cheap; the memory goes when the last
/// handle and the last cell have gone.
pub struct Pool(NonNull<PoolInner>);

impl Pool {
    /// Reserves `capacity` cells with `cell_bytes` of buffer each.
    ///
    /// # Errors
    /// As [`Region::reserve`].
    pub fn reserve(
        name: &'static str,
        capacity: u32,
        cell_bytes: u32,
        policy: PagePolicy,
    ) -> Result<Pool, ReserveError> {
        let cell_bytes = cell_bytes.next_multiple_of(64);
        let headers_len = capacity as usize * size_of::<Header>();
        let region = Region::reserve(headers_len + capacity as usize * cell_bytes as usize, policy)?;
        let headers = region.base().cast::<Header>();
        // SAFETY: the region has room for the headers and, behind them, the buffers.
        let buffers = unsafe { region.base().add(headers_len) };
        let inner = Box::leak(Box::new(PoolInner {
            free: Cell::new(None),
            free_count: Cell::new(capacity),
            low_water: Cell::new(capacity),
            empty_count: Cell::new(0),
            handles: Cell::new(1),
            capacity,
            cell_bytes,
            away: Cell::new(0),
            kind: TypeId::of::<()>(),
            name,
            memory: Memory::Own { _region: region },
            _not_send: PhantomData,
        }));
        let pool = NonNull::from(&*inner);
        for i in (0..capacity as usize).rev() {
            // SAFETY: header i and buffer i lie in the region (above), the region is page-aligned and a
            // header is 64-byte aligned and sized.
            unsafe {
                let h = headers.add(i);
                h.write(Header::new(pool, buffers.add(i * cell_bytes as usize), cell_bytes));
                h.as_ref().link.set(inner.free.get());
                inner.free.set(Some(h));
            }
        }
        Ok(Pool(pool))
    }

    /// Bytes that one cell of `cell_bytes` takes, header included.
    pub const fn true_size(cell_bytes: u32) -> u32 {
        cell_bytes.next_multiple_of(64) + size_of::<Header>() as u32
    }

    fn inner(&self) -> &PoolInner {
        // SAFETY: rule 1: this handle keeps the pool.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn take(&self) -> Option<NonNull<Header>> {
        let inner = self.inner();
        let Some(h) = inner.free.get() else { return self.take_where_none_is_listed() };
        // SAFETY: a header on the free list is valid and has no handle.
        let header = unsafe { h.as_ref() };
        inner.free.set(header.link.get());
        let left = inner.free_count.get() - 1;
        inner.free_count.set(left);
        if left < inner.low_water.get() {
            inner.low_water.set(left);
        }
        debug_assert_eq!(header.refs.get(), 0);
        header.refs.set(1);
        header.link.set(None);
        Some(h)
    }

    #[cold]
    fn take_where_none_is_listed(&self) -> Option<NonNull<Header>> {
        if self.refill() {
            return self.take();
        }
        let inner = self.inner();
        inner.empty_count.set(inner.empty_count.get() + 1);
        None
    }

    /// Asks the CPU for bytes of the cell that is taken next.
    #[inline]
    pub(super) fn prefetch_next(&self, bytes: Range<usize>) {
        prefetch_next(self.inner(), bytes);
    }

    /// A packet with nothing in it and [`HEADROOM`] in front; `None` when the pool is empty (counted).
    #[inline(always)]
    pub fn alloc(&self) -> Option<Packet> {
        let h = self.take()?;
        // SAFETY: just taken: one handle, valid.
        let header = unsafe { h.as_ref() };
        header.off.set((HEADROOM as u32).min(header.cap));
        header.len.set(0);
        // SAFETY: no other handle exists.
        unsafe { *header.meta.0.get() = Meta { vlan: super::NO_VLAN, ..Meta::default() } };
        Some(Packet(h))
    }

    /// Cells that can be taken now.
    #[inline]
    pub fn free_count(&self) -> u32 {
        self.inner().free_count.get()
    }

    /// Cells in all.
    pub fn capacity(&self) -> u32 {
        self.inner().capacity
    }

    /// Bytes of buffer in a cell.
    pub fn cell_bytes(&self) -> u32 {
        self.inner().cell_bytes
    }

    /// How the pool stands.
    pub fn stats(&self) -> PoolStats {
        let i = self.inner();
        PoolStats {
            name: i.name,
            capacity: i.capacity,
            free: i.free_count.get(),
            low_water: i.low_water.get(),
            empty_count: i.empty_count.get(),
        }
    }
}

impl Clone for Pool {
    fn clone(&self) -> Pool {
        let i = self.inner();
        i.handles.set(i.handles.get() + 1);
        Pool(self.0)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let i = self.inner();
        i.handles.set(i.handles.get() - 1);
        release_if_dead(self.0);
    }
}

/// Frees the pool when neither a handle nor a cell is out.
#[inline]
fn release_if_dead(pool: NonNull<PoolInner>) {
    // SAFETY: rule 1: the caller held a handle or a cell until just now, so the pool is still there.
    let inner = unsafe { pool.as_ref() };
    if inner.handles.get() == 0 && inner.free_count.get() == inner.capacity {
        // Headers own nothing while they are free (tails are cleared on release), so the memory can go as
        // it is. SAFETY: made by Box::leak, and nobody can reach it again.
        let inner = unsafe { Box::from_raw(pool.as_ptr()) };
        inner.give_back(0);
    }
}

/// Asks the CPU for bytes of the cell that is taken next. The header of the cell that was freed last lies in a cache,
/// but its bytes were written a round of all connections ago, and writing to them would wait for each line.
#[inline]
fn prefetch_next(pool: &PoolInner, bytes: Range<usize>) {
    let Some(h) = pool.free.get() else { return };
    // SAFETY: a header on the free list is valid.
    let header = unsafe { h.as_ref() };
    for at in (bytes.start..bytes.end.min(header.cap as usize)).step_by(64) {
        // SAFETY: within the cell's buffer, which is memory of the region, zeroed when it was reserved.
        hugepages::prefetch(unsafe { header.data.add(at).as_ref() }, 1);
    }
}

#[inline]
fn retain(h: NonNull<Header>) {
    // SAFETY: the caller has a handle.
    let header = unsafe { h.as_ref() };
    header.refs.set(header.refs.get() + 1);
}

#[inline]
fn release(h: NonNull<Header>) {
    // SAFETY: the caller gives up a handle, so the header is valid.
    let header = unsafe { h.as_ref() };
    let refs = header.refs.get();
    debug_assert!(refs > 0, "cell released twice");
    header.refs.set(refs - 1);
    if refs == 1 {
        // SAFETY: rule 1: a cell that is out keeps its pool.
        let pool = unsafe { header.pool.as_ref() };
        header.link.set(pool.free.get());
        pool.free.set(Some(h));
        pool.free_count.set(pool.free_count.get() + 1);
        if pool.handles.get() == 0 {
            release_if_dead(header.pool);
        }
    }
}

/// A frame with one owner: head bytes that can be written, and a tail of payload slices that cannot.
pub struct Packet(NonNull<Header>);

impl Packet {
    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: this handle keeps the cell.
        unsafe { self.0.as_ref() }
    }

    /// The head: the frame itself, or the headers of one whose payload is in the tail.
    #[inline]
    pub fn head(&self) -> &[u8] {
        let h = self.header();
        // SAFETY: off + len ≤ cap is kept by every method that sets them; rule 3.
        unsafe { std::slice::from_raw_parts(h.data.as_ptr().add(h.off.get() as usize), h.len.get() as usize) }
    }

    /// The head, to write.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        let h = self.header();
        // SAFETY: as in `head`, and this is the only handle.
        unsafe {
            std::slice::from_raw_parts_mut(h.data.as_ptr().add(h.off.get() as usize), h.len.get() as usize)
        }
    }

    /// Everything behind the headroom, for a port to receive into; [`Packet::set_len`] says how much came.
    #[inline]
    pub fn room_mut(&mut self) -> &mut [u8] {
        let h = self.header();
        let off = h.off.get() as usize;
        // SAFETY: off ≤ cap; this is the only handle.
        unsafe { std::slice::from_raw_parts_mut(h.data.as_ptr().add(off), h.cap as usize - off) }
    }

    /// Sets the length of the head.
    ///
    /// # Panics
    /// When the buffer is smaller.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        let h = self.header();
        assert!(h.off.get() as usize + len <= h.cap as usize, "{len} bytes do not fit the cell");
        h.len.set(len as u32);
    }

    /// Puts `n` bytes in front and gives them to be written; `None` when the headroom is too small.
    #[inline]
    pub fn push_front(&mut self, n: usize) -> Option<&mut [u8]> {
        let h = self.header();
        let off = h.off.get().checked_sub(n as u32)?;
        h.off.set(off);
        h.len.set(h.len.get() + n as u32);
        Some(&mut self.head_mut()[..n])
    }

    /// Begins the head of a packet that has none yet, `front` bytes further in front than it would: gives `N` bytes to be
    /// written, of which the first `len` are the head. `None`, and nothing done, when there is no room for them.
    #[inline]
    pub fn begin<const N: usize>(&mut self, front: usize, len: usize) -> Option<&mut [u8; N]> {
        let h = self.header();
        debug_assert_eq!(h.len.get(), 0);
        let off = (h.off.get() as usize).checked_sub(front)?;
        if off + N > h.cap as usize || len > N {
            return None;
        }
        h.off.set(off as u32);
        h.len.set(len as u32);
        self.room_mut().first_chunk_mut()
    }

    /// Copies `bytes` to the end of the head; `false`, and nothing done, when they do not fit.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let len = self.header().len.get() as usize;
        let Some(room) = self.room_mut().get_mut(len..len + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.header().len.set((len + bytes.len()) as u32);
        true
    }

    /// Attaches payload behind the head.
    ///
    /// # Errors
    /// Gives the slice back when the tail is full.
    #[inline]
    pub fn attach(&mut self, slice: Slice) -> Result<(), Slice> {
        // SAFETY: this is the only handle, and `&mut self` the only borrow.
        let tail = unsafe { &mut *self.header().tail.0.get() };
        tail.try_push(slice).map_err(|e| e.element())?;
        self.header().pieces.set(tail.len() as u32);
        Ok(())
    }

    /// The payload slices behind the head.
    #[inline]
    pub fn tail(&self) -> &[Slice] {
        if self.header().pieces.get() == 0 {
            return &[];
        }
        // SAFETY: this is the only handle; `&self` allows no writer.
        unsafe { &*self.header().tail.0.get() }
    }

    /// Bytes of head and tail.
    pub fn total_len(&self) -> usize {
        self.head().len() + self.tail().iter().map(|s| s.len()).sum::<usize>()
    }

    /// Copies head and tail to the start of `out`; gives the number of bytes, or `None` when they do not fit.
    pub fn copy_to(&self, out: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        for part in std::iter::once(self.head()).chain(self.tail().iter().map(|s| &**s)) {
            out.get_mut(at..at + part.len())?.copy_from_slice(part);
            at += part.len();
        }
        Some(at)
    }

    /// What is known of the frame.
    #[inline]
    pub fn meta(&self) -> &Meta {
        // SAFETY: this is the only handle; `&self` allows no writer.
        unsafe { &*self.header().meta.0.get() }
    }

    /// What is known of the frame, to write.
    #[inline]
    pub fn meta_mut(&mut self) -> &mut Meta {
        // SAFETY: this is the only handle, and `&mut self` the only borrow.
        unsafe { &mut *self.header().meta.0.get() }
    }

    /// The L4 payload of a parsed frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let m = self.meta();
        let at = m.payload as usize;
        self.head().get(at..at + m.payload_len as usize).unwrap_or(&[])
    }

    /// Turns the frame into its bytes `off .. off + len`, without a copy. The tail is let go.
    ///
    /// # Panics
    /// When the range is not within the head.
    #[inline]
    pub fn into_slice(mut self, off: usize, len: usize) -> Slice {
        assert!(off + len <= self.head().len(), "slice beyond the frame");
        self.clear_tail();
        let me = ManuallyDrop::new(self);
        Slice { cell: me.0, off: me.header().off.get() + off as u32, len: len as u32 }
    }

    #[inline]
    fn clear_tail(&mut self) {
        if self.header().pieces.get() != 0 {
            // SAFETY: this is the only handle, and `&mut self` the only borrow.
            unsafe { &mut *self.header().tail.0.get() }.clear();
            self.header().pieces.set(0);
        }
    }
}

impl Drop for Packet {
    #[inline]
    fn drop(&mut self) {
        self.clear_tail();
        release(self.0);
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packet({} + {} B)", self.head().len(), self.total_len() - self.head().len())
    }
}

/// A view of bytes in a cell, which it keeps. 16 bytes; cloning counts a reference, nothing is copied.
pub struct Slice {
    cell: NonNull<Header>,
    off: u32,
    len: u32,
}

impl Slice {
    /// A view of `off .. off + len` of a cell.
    ///
    /// # Safety
    /// The caller passes on one counted handle, and the range is written and within the cell.
    pub(super) unsafe fn from_raw(cell: NonNull<Header>, off: u32, len: u32) -> Slice {
        Slice { cell, off, len }
    }

    /// Cuts off and gives the first `n` bytes (at most all).
    #[inline]
    pub fn split_to(&mut self, n: usize) -> Slice {
        let n = (n as u32).min(self.len);
        retain(self.cell);
        let front = Slice { cell: self.cell, off: self.off, len: n };
        self.off += n;
        self.len -= n;
        front
    }

    /// A second view, of `off .. off + len` of this one (clamped to it).
    #[inline]
    pub fn view(&self, off: usize, len: usize) -> Slice {
        let off = (off as u32).min(self.len);
        let len = (len.min(u32::MAX as usize) as u32).min(self.len - off);
        retain(self.cell);
        Slice { cell: self.cell, off: self.off + off, len }
    }

    /// Drops the first `n` bytes (at most all).
    #[inline]
    pub fn advance(&mut self, n: usize) {
        let n = (n as u32).min(self.len);
        self.off += n;
        self.len -= n;
    }

    /// Keeps the first `n` bytes only.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        self.len = self.len.min(n.min(u32::MAX as usize) as u32);
    }

    /// Memory that this view keeps from being used again, in bytes: the whole cell.
    #[inline]
    pub fn true_size(&self) -> u32 {
        // SAFETY: this handle keeps the cell.
        unsafe { self.cell.as_ref() }.cap + size_of::<Header>() as u32
    }

    /// Asks the CPU for what is written when this view goes.
    #[inline]
    pub fn prefetch(&self) {
        // SAFETY: this handle keeps the cell.
        hugepages::prefetch(unsafe { &self.cell.as_ref().refs }, 1);
    }

    /// Whether this is the cell's only handle.
    #[inline]
    pub fn is_unique(&self) -> bool {
        // SAFETY: this handle keeps the cell.
        unsafe { self.cell.as_ref() }.refs.get() == 1
    }

    /// The bytes, to be written, if no other handle is on the cell: this is how a record is opened where it lies.
    #[inline]
    pub fn unique_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: the range is within the cell's buffer, this is the cell's only handle (rule 3), and `&mut self` its
        // only borrow.
        unsafe {
            let data = self.cell.as_ref().data.as_ptr().add(self.off as usize);
            Some(std::slice::from_raw_parts_mut(data, self.len as usize))
        }
    }

    /// Copies `bytes` right behind this view, in its own cell, if no other handle is on the cell and there
    /// is room; `false`, and nothing done, otherwise. This is how small segments are compacted.
    #[inline]
    pub fn extend_in_place(&mut self, bytes: &[u8]) -> bool {
        // SAFETY: this handle keeps the cell.
        let h = unsafe { self.cell.as_ref() };
        let end = self.off as usize + self.len as usize;
        if h.refs.get() != 1 || end + bytes.len() > h.cap as usize {
            return false;
        }
        // SAFETY: [end, end + n) is within the buffer, and no other handle can see it: refs == 1, and
        // this view ends at `end`. `bytes` cannot overlap it: that would be a view of this cell.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), h.data.as_ptr().add(end), bytes.len()) };
        self.len += bytes.len() as u32;
        true
    }

    /// Joins `next` to this view if it is what follows it in the same cell; gives it back otherwise.
    ///
    /// # Errors
    /// `next` itself, untouched.
    #[inline]
    pub fn try_join(&mut self, next: Slice) -> Result<(), Slice> {
        if next.cell == self.cell && next.off == self.off + self.len {
            self.len += next.len;
            Ok(())
        } else {
            Err(next)
        }
    }
}

impl Deref for Slice {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the range is within the cell's buffer (every constructor and method keeps it so), this
        // handle keeps the cell, and rule 3 says that nobody writes there.
        unsafe {
            let h = self.cell.as_ref();
            std::slice::from_raw_parts(h.data.as_ptr().add(self.off as usize), self.len as usize)
        }
    }
}

impl Clone for Slice {
    #[inline]
    fn clone(&self) -> Slice {
        retain(self.cell);
        Slice { cell: self.cell, off: self.off, len: self.len }
    }
}

impl Drop for Slice {
    #[inline]
    fn drop(&mut self) {
        release(self.cell);
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} B)", self.len)
    }
}

/// Asserts at compile time what ARCHITECTURE.md says of the layout.
const _: () = {
    assert!(size_of::<Header>() == 192);
    assert!(size_of::<Slice>() == 16);
    assert!(size_of::<Packet>() == 8);
    assert!(std::mem::offset_of!(Header, meta) <= 64);
};

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn pool(n: u32) -> Pool {
        Pool::reserve("test", n, 2048, PagePolicy::NormalOnly).unwrap()
    }

    pub(super) fn packet(p: &Pool, bytes: &[u8]) -> Packet {
        let mut k = p.alloc().unwrap();
        assert!(k.append(bytes));
        k
    }

    #[test]
    fn a_frame_becomes_payload_without_a_copy() {
        let p = pool(4);
        let k = packet(&p, b"headerspayload");
        let at = k.head()[7..].as_ptr();
        let mut s = k.into_slice(7, 7);
        assert_eq!(s.as_ptr(), at);
        assert_eq!(&*s.split_to(3), b"pay");
        assert_eq!(&*s, b"load");
        assert_eq!(p.free_count(), 3);
        drop(s);
        assert_eq!(p.free_count(), 4);
    }

    #[test]
    fn payload_lives_until_the_last_view_goes() {
        let p = pool(4);
        let s = packet(&p, b"body").into_slice(0, 4);
        let mut seg = p.alloc().unwrap();
        seg.append(b"head");
        seg.attach(s.clone()).unwrap();
        drop(s);
        let mut out = [0; 16];
        assert_eq!(seg.copy_to(&mut out), Some(8));
        assert_eq!(&out[..8], b"headbody");
        assert_eq!(seg.copy_to(&mut out[..7]), None);
        assert_eq!(p.free_count(), 2);
        drop(seg);
        assert_eq!(p.free_count(), 4);
    }

    #[test]
    fn memory_outlives_the_pool_handle_while_a_cell_is_out() {
        let p = pool(2);
        let s = packet(&p, b"late").into_slice(0, 4);
        drop(p);
        assert_eq!(&*s, b"late");
    }

    #[test]
    fn empty_pool_says_none_and_counts() {
        let p = pool(1);
        let k = p.alloc();
        assert!(k.is_some() && p.alloc().is_none());
        assert_eq!((p.stats().empty_count, p.stats().low_water), (1, 0));
    }

    #[test]
    fn tail_is_bounded() {
        let p = pool(10);
        let s = packet(&p, b"x").into_slice(0, 1);
        let mut seg = p.alloc().unwrap();
        for _ in 0..TAIL_MAX {
            seg.attach(s.clone()).unwrap();
        }
        assert_eq!(&*seg.attach(s.clone()).unwrap_err(), b"x");
    }

    #[test]
    fn compaction_stops_at_other_handles_and_at_the_end() {
        let p = pool(2);
        let mut s = packet(&p, b"ab").into_slice(0, 2);
        assert!(s.extend_in_place(b"cd"));
        let mut head = s.split_to(2);
        assert!(!head.extend_in_place(b"XX"), "the rest is still seen");
        drop(s);
        assert!(head.extend_in_place(b"XX"));
        assert_eq!(&*head, b"abXX");
        assert!(!head.extend_in_place(&[0; 4096]));
    }
}
