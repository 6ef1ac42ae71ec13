//! Writing bytes into payload cells, and handing them on while writing goes on.
#![allow(unsafe_code)] // Rule 3 of cell.rs: writes only beyond what slices of the cell can see.

use std::ptr::NonNull;

use super::cell::{Header, Pool, Slice};

/// Bytes written by L7 (heads, chunk framing): appended to a cell, taken as [`Slice`]s.
///
/// `take` gives what was written since the last `take`; what follows goes behind it in the same cell, so
/// that many small pieces share one.
#[derive(Default)]
pub struct CellWriter {
    cell: Option<NonNull<Header>>,
    start: u32,
    end: u32,
}

impl CellWriter {
    /// Bytes written and not yet taken.
    #[inline]
    pub fn pending(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Room left in the current cell.
    #[inline]
    pub fn room(&self) -> usize {
        // SAFETY: this writer's handle keeps the cell.
        self.cell.map_or(0, |c| (unsafe { c.as_ref() }.cap - self.end) as usize)
    }

    /// Gets ready for at least `n` more bytes in one piece, with a new cell of `pool` where the current
    /// one is too full; `false` when the pool is empty, the cell too small, or untaken bytes stand in the
    /// way.
    #[inline]
    pub fn reserve(&mut self, n: usize, pool: &Pool) -> bool {
        if self.room() >= n {
            return true;
        }
        if self.pending() != 0 || n > pool.cell_bytes() as usize {
            return false;
        }
        self.release();
        self.cell = pool.take();
        // The next writer's, in two parts: a core waits for few lines at a time.
        pool.prefetch_next(0..n / 2);
        self.cell.is_some()
    }

    /// Appends as many of `bytes` as fit; gives their number.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        if let Some(c) = self.cell {
            // SAFETY: [end, end + n) is within the buffer and beyond every slice taken so far, and this
            // writer is the only one that writes to the cell.
            unsafe {
                let to = c.as_ref().data.as_ptr().add(self.end as usize);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
            }
            self.end += n as u32;
        }
        n
    }

    /// Lets `f` write into the room that is left; it gives how many bytes from the room's start it has written, which
    /// count as put. Where nothing is reserved it is not asked.
    #[inline]
    pub fn fill(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let room = self.room();
        let Some(c) = self.cell else { return 0 };
        // SAFETY: [end, end + room) is within the buffer, which is initialised (a pool's memory is zeroed), and beyond
        // every slice taken so far; this writer is the only one that writes to the cell.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(c.as_ref().data.as_ptr().add(self.end as usize), room) };
        let n = f(bytes).min(room);
        self.end += n as u32;
        n
    }

    /// What was written since the last call; `None` when nothing was.
    #[inline]
    pub fn take(&mut self) -> Option<Slice> {
        let c = self.cell?;
        if self.start == self.end {
            return None;
        }
        // SAFETY: this writer's handle keeps the cell.
        let header = unsafe { c.as_ref() };
        header.refs.set(header.refs.get() + 1);
        if self.start == 0 {
            header.prefetch_next(self.end as usize / 2..self.end as usize);
        }
        // SAFETY: the handle counted just now; [start, end) was written.
        let slice = unsafe { Slice::from_raw(c, self.start, self.end - self.start) };
        self.start = self.end;
        Some(slice)
    }

    /// Lets go of the current cell (bytes that were not taken are lost). An idle connection holds none.
    #[inline]
    pub fn release(&mut self) {
        if let Some(c) = self.cell.take() {
            // SAFETY: turns this writer's counted handle into a slice, whose drop gives it back.
            drop(unsafe { Slice::from_raw(c, 0, 0) });
        }
        self.start = 0;
        self.end = 0;
    }
}

impl Drop for CellWriter {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugepages::PagePolicy;

    #[test]
    fn pieces_share_a_cell_and_move_on_when_it_is_full() {
        let pool = Pool::reserve("w", 3, 64, PagePolicy::NormalOnly).unwrap();
        let mut w = CellWriter::default();
        assert_eq!(w.put(b"nothing"), 0);
        assert!(w.reserve(10, &pool));
        assert_eq!(w.put(b"0123456789"), 10);
        let a = w.take().unwrap();
        assert!(w.take().is_none());
        assert_eq!(w.put(&[b'x'; 100]), 54);
        assert!(!w.reserve(1, &pool), "untaken bytes are not thrown away");
        let b = w.take().unwrap();
        assert!(w.reserve(20, &pool));
        assert_eq!(pool.free_count(), 1);
        w.put(b"z");
        assert_eq!((&*a, b.len(), w.take().as_deref()), (&b"0123456789"[..], 54, Some(&b"z"[..])));
        assert!(!w.reserve(65, &pool), "larger than a cell");
        drop((a, b, w));
        assert_eq!(pool.free_count(), 3);
    }
}
