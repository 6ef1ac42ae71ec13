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

/// Why [`CellQueue::insert`] put nothing in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInserted {
    /// All of it is there already.
    Held,
    /// Its place is behind more runs than the caller wants to walk by.
    TooManyRuns,
    /// The slice's cell has other handles.
    Shared,
}

impl Header {
    /// Of an entry whose tag is a position: behind its last byte.
    fn end(&self) -> u32 {
        self.tag.get().wrapping_add(self.len.get())
    }
}

impl CellQueue {
    /// An empty queue.
    pub const EMPTY: CellQueue = CellQueue { first: None, last: None, count: 0, true_bytes: 0 };

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

    /// Puts what is new of the bytes `from..to` in its place, in a queue whose entries are all put in by this. Tags are
    /// positions modulo 2^32 then, each entry holds the bytes from its tag on, and none overlaps with another. Of the new
    /// bytes only those before the next entry are taken; `make` gets their range and gives the slice that holds them.
    ///
    /// Entries that follow on each other are a run, and a run costs one step, however many they are. At most `steps` are
    /// taken; behind the last entry none is needed. Gives the range that was put in.
    ///
    /// # Errors
    /// When nothing was put in.
    pub fn insert(
        &mut self,
        (from, to): (u32, u32),
        steps: usize,
        make: impl FnOnce(u32, u32) -> Slice,
    ) -> Result<(u32, u32), NotInserted> {
        let before = |a: u32, b: u32| (a.wrapping_sub(b) as i32) < 0;
        // The last run that begins at or before `from`: its last entry, and where it ends.
        let mut prev: Option<(NonNull<Header>, u32)> = None;
        let mut next = self.first;
        match self.last {
            // SAFETY: entries of the queue are kept by it.
            Some(last) if !before(from, unsafe { last.as_ref() }.end()) => {
                // SAFETY: as above.
                (prev, next) = (Some((last, unsafe { last.as_ref() }.end())), None);
            }
            _ => {
                let mut left = steps;
                while let Some(head) = next {
                    // SAFETY: as above; the first entry of a run knows its last one.
                    let h = unsafe { head.as_ref() };
                    if before(from, h.tag.get()) {
                        break;
                    }
                    if left == 0 {
                        return Err(NotInserted::TooManyRuns);
                    }
                    left -= 1;
                    let tail = h.run.get().unwrap_or(head);
                    // SAFETY: as above.
                    let t = unsafe { tail.as_ref() };
                    (prev, next) = (Some((tail, t.end())), t.link.get());
                }
            }
        }
        let (mut start, mut end) = (from, to);
        if let Some((_, held_to)) = prev
            && before(start, held_to)
        {
            start = held_to;
        }
        // SAFETY: as above.
        let next_at = next.map(|n| unsafe { n.as_ref() }.tag.get());
        if let Some(at) = next_at
            && before(at, end)
        {
            end = at;
        }
        if !before(start, end) {
            return Err(NotInserted::Held);
        }
        let slice = make(start, end);
        debug_assert_eq!(slice.len() as u32, end.wrapping_sub(start));
        let cell = slice.cell;
        if self.insert_after(prev.map(|p| p.0), start, slice).is_err() {
            return Err(NotInserted::Shared);
        }
        // The run that it makes with its neighbours.
        // SAFETY: as above; the last entry of a run knows its first one, and the other way round.
        unsafe {
            let head = match prev {
                Some((tail, held_to)) if held_to == start => tail.as_ref().run.get().unwrap_or(tail),
                _ => cell,
            };
            let tail = match next {
                Some(n) if next_at == Some(end) => n.as_ref().run.get().unwrap_or(n),
                _ => cell,
            };
            head.as_ref().run.set(Some(tail));
            tail.as_ref().run.set(Some(head));
        }
        Ok((start, end))
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

    /// Copies the first bytes of what is queued, as many as there are and `out` takes; gives their number.
    pub fn peek(&self, out: &mut [u8]) -> usize {
        let (mut at, mut done) = (self.first, 0);
        while let Some(cell) = at.filter(|_| done < out.len()) {
            // SAFETY: an entry of the queue, which `&self` keeps as it is.
            let header = unsafe { cell.as_ref() };
            at = header.link.get();
            let view = ManuallyDrop::new(Slice { cell, off: header.off.get(), len: header.len.get() });
            let n = view.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&view[..n]);
            done += n;
        }
        done
    }

    /// The first entry's bytes; none where there is no entry.
    #[inline]
    pub fn front_bytes(&self) -> &[u8] {
        let Some(cell) = self.first else { return &[] };
        // SAFETY: an entry of the queue, whose range is within its cell. Only the queue reaches its bytes, and it writes
        // none of them while `&self` is there.
        unsafe {
            let header = cell.as_ref();
            let data = header.data.as_ptr().add(header.off.get() as usize);
            std::slice::from_raw_parts(data, header.len.get() as usize)
        }
    }

    /// Drops the first `n` bytes of what is queued (at most all): entries of which nothing is left go. The tag of one that
    /// stays is taken for a position, and moves along.
    #[inline]
    pub fn skip(&mut self, n: usize) {
        let mut left = n;
        while left > 0
            && let Some(cell) = self.first
        {
            // SAFETY: an entry of the queue.
            let header = unsafe { cell.as_ref() };
            let len = header.len.get() as usize;
            if left < len {
                let n = left as u32; // Less than a u32.
                header.off.set(header.off.get() + n);
                header.len.set(header.len.get() - n);
                header.tag.set(header.tag.get().wrapping_add(n));
                return;
            }
            left -= len;
            self.pop_front();
        }
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
        if let Some(tail) = header.run.take()
            && let Some(next) = self.first
            && tail != cell
        {
            // SAFETY: as above; what is left of the run, which is more than nothing, begins at the next entry.
            unsafe {
                next.as_ref().run.set(Some(tail));
                tail.as_ref().run.set(Some(next));
            }
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
        for tag in [10, 20, 30] {
            q.push_back(tag, packet(&p, b"ab").into_slice(0, 2)).unwrap();
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

    /// Bytes dropped from the front at random, and read in pieces: what is left is what a plain buffer would have.
    #[test]
    fn what_is_skipped_is_gone_and_nothing_else() {
        let p = pool(64);
        let mut rng = crate::rng::Rng::new(11);
        for _ in 0..50 {
            let (mut q, mut model, mut next) = (CellQueue::default(), Vec::new(), 0u8);
            for _ in 0..100 {
                let n = 1 + rng.below(30) as usize;
                let bytes: Vec<u8> = (0..n).map(|i| next.wrapping_add(i as u8)).collect();
                match rng.below(4) {
                    0 if q.len() < 60 => {
                        // Somewhere in a frame, as payload is.
                        q.push_back(0, packet(&p, &[b"head", &bytes[..]].concat()).into_slice(4, n)).unwrap();
                        model.extend(&bytes);
                        next = next.wrapping_add(n as u8);
                    }
                    1 if q.extend_back(&bytes) => {
                        model.extend(&bytes);
                        next = next.wrapping_add(n as u8);
                    }
                    2 => {
                        q.skip(n);
                        model.drain(..n.min(model.len()));
                    }
                    3 => {
                        if let Some((_, s)) = q.pop_front() {
                            assert_eq!(model.drain(..s.len()).collect::<Vec<u8>>(), *s);
                        }
                    }
                    _ => {}
                }
                let front = q.front_bytes();
                assert!(model.starts_with(front));
                assert_eq!(front.is_empty(), model.is_empty(), "an entry that is empty does not stay");
                assert_eq!(front.len(), q.front().map_or(0, |(_, n)| n));
                assert_eq!(q.iter().map(|(_, n)| n).sum::<usize>(), model.len());
                assert_eq!(q.true_bytes(), q.len() as u32 * Pool::true_size(2048));
                let mut out = vec![0; model.len() + 1];
                assert_eq!(q.peek(&mut out), model.len());
                assert_eq!(out[..model.len()], model);
            }
            assert_eq!(p.free_count() as usize, 64 - q.len());
        }
        assert_eq!(p.free_count(), 64);
    }

    #[test]
    fn a_run_whose_front_is_skipped_stays_a_run() {
        let p = pool(8);
        let mut q = CellQueue::default();
        let entry = |at: u32| packet(&p, &[at as u8; 10]).into_slice(0, 10);
        for at in [10, 20, 40] {
            q.insert((at, at + 10), 2, |a, _| entry(a)).unwrap();
        }
        q.skip(13);
        assert_eq!(q.iter().collect::<Vec<_>>(), [(23, 7), (40, 10)]);
        // Two runs: what ends at the first is behind one step.
        assert_eq!(q.insert((25, 30), 1, |_, _| unreachable!("it is held")), Err(NotInserted::Held));
        assert_eq!(q.insert((30, 40), 1, |a, _| entry(a)), Ok((30, 40)));
        assert_eq!(q.insert((23, 40), 1, |_, _| unreachable!("it is held")), Err(NotInserted::Held));
        q.skip(100);
        assert!(q.is_empty() && q.front_bytes().is_empty());
        assert_eq!(p.free_count(), 8);
    }

    /// Every byte that is held, by a model: the position of each, from which a slice's content follows.
    #[test]
    fn what_is_inserted_by_position_is_there_once_and_in_order() {
        const SPACE: u32 = 400;
        let p = pool(256);
        let mut rng = crate::rng::Rng::new(7);
        for round in 0..40 {
            let base = if round % 2 == 0 { 1000 } else { u32::MAX - 150 };
            let mut q = CellQueue::default();
            let mut held = [false; SPACE as usize];
            for _ in 0..60 {
                let from = rng.below(u64::from(SPACE) - 1) as u32;
                let to = (from + 1 + rng.below(20) as u32).min(SPACE);
                let content: Vec<u8> = (from..to).map(|i| i as u8).collect();
                let r = q.insert((base.wrapping_add(from), base.wrapping_add(to)), usize::MAX, |a, b| {
                    let (a, b) =
                        (a.wrapping_sub(base.wrapping_add(from)), b.wrapping_sub(base.wrapping_add(from)));
                    packet(&p, &content).into_slice(a as usize, (b - a) as usize)
                });
                let first_new = (from..to).find(|i| !held[*i as usize]);
                match r {
                    Ok((a, b)) => {
                        let (a, b) = (a.wrapping_sub(base), b.wrapping_sub(base));
                        assert_eq!(Some(a), first_new);
                        assert!(b > a && (b == to || held[b as usize]));
                        (a..b).for_each(|i| assert!(!std::mem::replace(&mut held[i as usize], true)));
                    }
                    Err(e) => assert_eq!((e, first_new), (NotInserted::Held, None)),
                }
                if rng.below(10) == 0
                    && let Some((tag, s)) = q.pop_front()
                {
                    let at = tag.wrapping_sub(base);
                    (at..at + s.len() as u32).for_each(|i| held[i as usize] = false);
                }
                // As many steps as there are runs find any place; the walk is by runs, or it would not get there.
                let runs = (0..SPACE as usize).filter(|i| held[*i] && (*i == 0 || !held[i - 1])).count();
                if let Some(last) = held.iter().rposition(|h| *h) {
                    let probe = base.wrapping_add(last as u32);
                    let r = q.insert((probe, probe.wrapping_add(1)), runs, |_, _| unreachable!("it is held"));
                    assert_eq!(r, Err(NotInserted::Held));
                    let r =
                        q.insert((probe, probe.wrapping_add(1)), runs - 1, |_, _| unreachable!("it is held"));
                    assert_eq!(r, Err(NotInserted::TooManyRuns));
                }
            }
            let mut seen = vec![];
            while let Some((tag, s)) = q.pop_front() {
                let at = tag.wrapping_sub(base);
                assert!(s.iter().enumerate().all(|(i, b)| *b == (at as usize + i) as u8));
                seen.extend(at..at + s.len() as u32);
            }
            let want: Vec<u32> = (0..SPACE).filter(|i| held[*i as usize]).collect();
            assert_eq!(seen, want);
        }
        assert_eq!(p.free_count(), 256);
    }
}
