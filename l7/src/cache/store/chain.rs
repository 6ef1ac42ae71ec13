//! Head blobs and bodies in chains of chunks.
//!
//! ```text
//!   head ─► │len│ blob … │─►│ … │                  (length first: the pointer swings from one whole blob to the next)
//!   body ─► │ 512 B │─►│ 512 B │─► …  ─►│ tail │
//!   index ─►│ 128 × u32: the number of body chunk 128, 256, … │─►│ … │    (a seek: one step per 8 MiB, and 127 links)
//! ```
//!
//! The callers keep the rules of [`memory`](super::memory): each function says which one it relies on.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::header::Header;
use super::memory::{CHUNK_BYTES, Chunks, NONE};
use super::pool::{Chain, Links};

/// Every so many chunks of a body, the index notes one.
pub(super) const INDEX_STEP: usize = 128;
/// Entries in a chunk of index.
pub(super) const INDEX_SLOTS: usize = CHUNK_BYTES / 4;
/// Chunks that lie side by side are handed out as one piece, up to this many.
const RUN_MAX: usize = 64;
const PREFIX: usize = 4;

impl Links for Chunks {
    #[inline]
    fn link(&self, i: u32) -> &std::sync::atomic::AtomicU32 {
        Chunks::link(self, i)
    }
}

/// Chunks of a blob.
pub(super) fn blob_chunks(len: usize) -> u32 {
    (len + PREFIX).div_ceil(CHUNK_BYTES) as u32
}

/// Chunks of a body, its index apart.
pub(super) fn body_chunks(len: u64) -> u32 {
    len.div_ceil(CHUNK_BYTES as u64) as u32
}

/// Chunks of the index of a body of so many chunks.
pub(super) fn index_chunks(body_chunks: u32) -> u32 {
    // Entry k is for chunk (k + 1) × INDEX_STEP, and is there when that chunk is.
    let entries = body_chunks.saturating_sub(1) / INDEX_STEP as u32;
    entries.div_ceil(INDEX_SLOTS as u32)
}

/// Where a writer stands in a body.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) chunk: u32,
    pub(super) index_chunk: u32,
    pub(super) written: u64,
}

/// A place in a body. It belongs to one object, and is valid as long as its id is.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    offset: u64,
    chunk: u32,
    /// Which chunk of the body that is.
    number: u32,
}

impl Cursor {
    /// A cursor that starts at `offset`; the first read finds the place.
    pub fn at(offset: u64) -> Cursor {
        Cursor { offset, chunk: NONE, number: 0 }
    }

    /// Where it stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl Default for Cursor {
    fn default() -> Self {
        Cursor::at(0)
    }
}

impl Chunks {
    #[inline]
    fn take(&self, own: &mut Chain) -> u32 {
        let chunk = own.pop(self).expect("the caller has counted the chunks");
        self.unpoison(chunk);
        chunk
    }

    /// Writes a blob into chunks from `own`, which holds enough. Rule 1: they are the caller's.
    pub(super) fn write_blob(&self, own: &mut Chain, blob: &[u8]) -> u32 {
        let first = self.take(own);
        // SAFETY: the chunk has just been taken, and nobody has been told of it.
        unsafe { self.write(first, 0, &(blob.len() as u32).to_le_bytes()) };
        let (mut chunk, mut at, mut rest) = (first, PREFIX, blob);
        loop {
            let (piece, after) = rest.split_at(rest.len().min(CHUNK_BYTES - at));
            // SAFETY: as above.
            unsafe { self.write(chunk, at, piece) };
            if after.is_empty() {
                return first;
            }
            let next = self.take(own);
            self.link(chunk).store(next, Relaxed);
            (chunk, at, rest) = (next, 0, after);
        }
    }

    /// Length of a blob. Rules 2 and 3: `first` was loaded by acquire in this pass, from an object that was found
    /// in it or is pinned.
    #[inline]
    pub(super) fn blob_len(&self, first: u32) -> usize {
        // SAFETY: a published blob has its length in front.
        let prefix = unsafe { self.slice(first, 0, PREFIX) };
        u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize
    }

    /// Copies a blob out; `None` when it is longer than `to`. Rules 2 and 3, as in `blob_len`.
    #[inline]
    pub(super) fn read_blob<'a>(&self, first: u32, to: &'a mut [u8]) -> Option<&'a [u8]> {
        let len = self.blob_len(first);
        let to = to.get_mut(..len)?;
        let (mut chunk, mut at, mut done) = (first, PREFIX, 0);
        loop {
            let n = (len - done).min(CHUNK_BYTES - at);
            // SAFETY: the blob was published whole.
            to[done..done + n].copy_from_slice(unsafe { self.slice(chunk, at, n) });
            done += n;
            if done == len {
                return Some(to);
            }
            (chunk, at) = (self.link(chunk).load(Relaxed), 0);
        }
    }

    /// The chain of a blob that goes back to the pool.
    pub(super) fn blob_chain(&self, first: u32) -> Chain {
        let count = blob_chunks(self.blob_len(first));
        self.walk(first, count)
    }

    /// A chain of `count` chunks from `first`.
    pub(super) fn walk(&self, first: u32, count: u32) -> Chain {
        let mut tail = first;
        for _ in 1..count {
            tail = self.link(tail).load(Relaxed);
        }
        Chain { head: first, tail, count }
    }

    /// Marks a chain as free, before it goes to the pool. Costs nothing but under AddressSanitizer.
    pub(super) fn poison_chain(&self, chain: &Chain) {
        if cfg!(asan) {
            let mut at = chain.head;
            for _ in 0..chain.count {
                self.poison(at);
                at = self.link(at).load(Relaxed);
            }
        }
    }

    /// Chunks that `append` would take.
    pub(super) fn append_cost(tail: &Tail, more: usize) -> u32 {
        let (now, then) = (body_chunks(tail.written), body_chunks(tail.written + more as u64));
        then - now + index_chunks(then) - index_chunks(now)
    }

    /// Writes body bytes behind `tail`, into chunks from `own`, which holds enough (`append_cost`). Rule 1: only the
    /// filling participant has the `tail`, and nothing behind it has been published.
    pub(super) fn append(&self, h: &Header, tail: &mut Tail, own: &mut Chain, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = (tail.written % CHUNK_BYTES as u64) as usize;
            if at == 0 {
                self.extend(h, tail, own);
            }
            let (piece, after) = rest.split_at(rest.len().min(CHUNK_BYTES - at));
            // SAFETY: bytes behind the published length of a body that is ours to write.
            unsafe { self.write(tail.chunk, at, piece) };
            tail.written += piece.len() as u64;
            rest = after;
        }
    }

    fn extend(&self, h: &Header, tail: &mut Tail, own: &mut Chain) {
        let chunk = self.take(own);
        let number = (tail.written / CHUNK_BYTES as u64) as usize;
        // Readers follow this link, and look at the header's numbers, once the length that covers them is published.
        if number == 0 {
            h.body.store(chunk, Relaxed);
        } else {
            self.link(tail.chunk).store(chunk, Relaxed);
        }
        tail.chunk = chunk;
        if number > 0 && number.is_multiple_of(INDEX_STEP) {
            let slot = (number / INDEX_STEP - 1) % INDEX_SLOTS;
            if slot == 0 {
                let more = self.take(own);
                if number == INDEX_STEP {
                    h.index.store(more, Relaxed);
                } else {
                    self.link(tail.index_chunk).store(more, Relaxed);
                }
                tail.index_chunk = more;
            }
            // SAFETY: an entry of the index that is ours to write; it is read when this chunk is published.
            unsafe { self.write(tail.index_chunk, slot * 4, &chunk.to_le_bytes()) };
        }
    }

    /// Hands on at most `max` published bytes from the cursor; gives their number. Rules 2 and 3: the caller has
    /// found the object in this pass, or pins it.
    pub(super) fn read(&self, h: &Header, c: &mut Cursor, max: usize, mut take: impl FnMut(&[u8])) -> usize {
        let len = h.growth.len();
        if c.offset >= len {
            return 0;
        }
        let all = (len - c.offset).min(max as u64) as usize;
        let mut left = all;
        while left > 0 {
            let number = (c.offset / CHUNK_BYTES as u64) as u32;
            if c.chunk == NONE {
                c.chunk = self.seek(h, number);
            } else if number != c.number {
                debug_assert_eq!(number, c.number + 1);
                c.chunk = self.link(c.chunk).load(Relaxed);
            }
            c.number = number;
            let at = (c.offset % CHUNK_BYTES as u64) as usize;
            let (mut n, mut run) = ((CHUNK_BYTES - at).min(left), 1);
            while n < left && run < RUN_MAX {
                let next = self.link(c.chunk).load(Relaxed);
                if next != c.chunk + 1 {
                    break;
                }
                n += (left - n).min(CHUNK_BYTES);
                (c.chunk, c.number, run) = (next, c.number + 1, run + 1);
            }
            // SAFETY: `n` bytes below the published length; the chunks of a run lie side by side.
            take(unsafe { self.slice(c.chunk + 1 - run as u32, at, n) });
            c.offset += n as u64;
            left -= n;
        }
        all
    }

    /// Chunk `number` of a body, which is published.
    fn seek(&self, h: &Header, number: u32) -> u32 {
        let step = INDEX_STEP as u32;
        let (mut chunk, links) = match number / step {
            0 => (h.body.load(Relaxed), number),
            noted => {
                let entry = noted as usize - 1;
                let mut index = h.index.load(Relaxed);
                for _ in 0..entry / INDEX_SLOTS {
                    index = self.link(index).load(Relaxed);
                }
                // SAFETY: the entry was written before the length that covers its chunk was published.
                let e = unsafe { self.slice(index, entry % INDEX_SLOTS * 4, 4) };
                (u32::from_le_bytes([e[0], e[1], e[2], e[3]]), number % step)
            }
        };
        for _ in 0..links {
            chunk = self.link(chunk).load(Relaxed);
        }
        chunk
    }

    /// All chunks of an object that nobody reaches any more, body and index first.
    pub(super) fn object_chain(&self, h: &Header) -> Chain {
        let mut all = Chain::EMPTY;
        let count = body_chunks(h.growth.len());
        if count > 0 {
            let (head, tail) = (h.body.load(Relaxed), h.tail.load(Relaxed));
            all.splice(self, Chain { head, tail, count });
            let index = index_chunks(count);
            if index > 0 {
                let chain = self.walk(h.index.load(Relaxed), index);
                all.splice(self, chain);
            }
        }
        let blob = self.blob_chain(h.head.load(Acquire));
        all.splice(self, blob);
        all
    }

    /// Chunks that `object_chain` would give now.
    pub(super) fn object_chunks(&self, h: &Header) -> u32 {
        let body = body_chunks(h.growth.len());
        body + index_chunks(body) + blob_chunks(self.blob_len(h.head.load(Acquire)))
    }

    /// Shows a blob to readers; gives the one before.
    pub(super) fn swing(h: &Header, blob: u32) -> u32 {
        // An exchange, so that of two that come at once each gets another one back.
        h.head.swap(blob, AcqRel)
    }
}
