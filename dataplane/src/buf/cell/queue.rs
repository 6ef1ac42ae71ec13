//! Slices in a row, linked through their own cells. The rules behind its `unsafe` are those of `cell.rs`.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::{Header, Slice};

/// A queue of slices linked through their own cells: no memory of its own, 24 bytes in its owner.
///
/// A cell has one link, so only slices that are their cell's sole handle can be queued; a received payload
/// is. Each entry carries a `tag` (TCP: the sequence number of its first byte).
#[derive(Default)]
pub struct CellQueue {
    first: Option<NonNull<Header>>,
    last: Option<NonNull<Header>>,
    count: u32,
    true_bytes: u32,
}

impl CellQueue {
    /// Entries.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Memory held, by true size.
    pub fn true_bytes(&self) -> u32 {
        self.true_bytes
    }

    /// Puts a slice at the end.
    ///
    /// # Errors
    /// Gives the slice back when its cell has other handles.
    #[inline]
    pub fn push_back(&mut self, tag: u32, slice: Slice) -> Result<(), Slice> {
        let at = self.last;
        self.insert_after(at, tag, slice)
    }

    /// Puts a slice into the queue before the first entry for which `before(tag, len)` holds.
    ///
    /// # Errors
    /// Gives the slice back when its cell has other handles.
    pub fn insert_before(
        &mut self,
        tag: u32,
        slice: Slice,
        mut before: impl FnMut(u32, usize) -> bool,
    ) -> Result<(), Slice> {
        let mut prev = None;
        let mut at = self.first;
        while let Some(h) = at {
            // SAFETY: entries of the queue are kept by it.
            let header = unsafe { h.as_ref() };
            if before(header.tag.get(), header.len.get() as usize) {
                break;
            }
            prev = Some(h);
            at = header.link.get();
        }
        self.insert_after(prev, tag, slice)
    }

    fn insert_after(&mut self, prev: Option<NonNull<Header>>, tag: u32, slice: Slice) -> Result<(), Slice> {
        if !slice.is_unique() {
            return Err(slice);
        }
        self.true_bytes += slice.true_size();
        self.count += 1;
        let s = ManuallyDrop::new(slice);
        // SAFETY: the slice's handle is now the queue's; refs == 1, so its range can stand in the header.
        let header = unsafe { s.cell.as_ref() };
        header.off.set(s.off);
        header.len.set(s.len);
        header.tag.set(tag);
        let next = match prev {
            // SAFETY: an entry of the queue.
            Some(p) => unsafe { p.as_ref() }.link.replace(Some(s.cell)),
            None => self.first.replace(s.cell),
        };
        header.link.set(next);
        if next.is_none() {
            self.last = Some(s.cell);
        }
        Ok(())
    }

    /// The first entry's tag and length.
    #[inline]
    pub fn front(&self) -> Option<(u32, usize)> {
        // SAFETY: an entry of the queue.
        self.first.map(|h| unsafe { h.as_ref() }).map(|h| (h.tag.get(), h.len.get() as usize))
    }

    /// The last entry's tag and length.
    #[inline]
    pub fn back(&self) -> Option<(u32, usize)> {
        // SAFETY: an entry of the queue.
        self.last.map(|h| unsafe { h.as_ref() }).map(|h| (h.tag.get(), h.len.get() as usize))
    }

    /// Takes the first entry.
    #[inline]
    pub fn pop_front(&mut self) -> Option<(u32, Slice)> {
        let cell = self.first?;
        // SAFETY: an entry of the queue, whose handle goes to the slice.
        let header = unsafe { cell.as_ref() };
        self.first = header.link.take();
        if self.first.is_none() {
            self.last = None;
        }
        let slice = Slice { cell, off: header.off.get(), len: header.len.get() };
        self.count -= 1;
        self.true_bytes -= slice.true_size();
        Some((header.tag.get(), slice))
    }

    /// Copies `bytes` behind the last entry's, in its own cell; `false` when there is no room there.
    #[inline]
    pub fn extend_back(&mut self, bytes: &[u8]) -> bool {
        let Some(cell) = self.last else { return false };
        // SAFETY: an entry of the queue.
        let header = unsafe { cell.as_ref() };
        let mut view = ManuallyDrop::new(Slice { cell, off: header.off.get(), len: header.len.get() });
        let done = view.extend_in_place(bytes);
        header.len.set(view.len);
        done
    }

    /// Tags and lengths, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        let mut at = self.first;
        std::iter::from_fn(move || {
            // SAFETY: an entry of the queue, which `&self` keeps as it is.
            let header = unsafe { at?.as_ref() };
            at = header.link.get();
            Some((header.tag.get(), header.len.get() as usize))
        })
    }

    /// Lets everything go.
    pub fn clear(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl Drop for CellQueue {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::super::tests::{packet, pool};
    use super::*;

    #[test]
    fn queue_keeps_order_and_gives_everything_back() {
        let p = pool(8);
        let mut q = CellQueue::default();
        for tag in [10, 30, 20] {
            let s = packet(&p, b"ab").into_slice(0, 2);
            q.insert_before(tag, s, |t, _| t > tag).unwrap();
        }
        assert_eq!(q.iter().collect::<Vec<_>>(), [(10, 2), (20, 2), (30, 2)]);
        assert!(q.extend_back(b"cd"));
        assert_eq!((q.front(), q.back()), (Some((10, 2)), Some((30, 4))));
        let (tag, s) = q.pop_front().unwrap();
        assert_eq!((tag, &*s), (10, &b"ab"[..]));
        let shared = s.clone();
        assert!(q.push_back(40, s).is_err(), "a shared cell has no link to spare");
        drop(shared);
        assert_eq!(q.len(), 2);
        assert_eq!(q.true_bytes(), 2 * Pool::true_size(2048));
        drop(q);
        assert_eq!(p.free_count(), 8);
    }
}
