//! Lines of text from one core to the control thread that writes them out: a bounded ring, by copy.
//!
//! ```text
//!  core ── put ──► [ record │ record │ record … ] ── take ──► control thread ── file
//!                   word: tag, length; then the bytes, in words
//! ```
//!
//! One writer, one reader. The ring's memory is made once; what does not fit is refused, and the writer counts it.
//! Nothing is rung: the reader comes by itself, many times a second.

use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering};

/// An index on a cache line of its own.
#[repr(align(64))]
struct Index(AtomicU64);

struct Ring {
    /// As many as a power of two.
    words: Box<[AtomicU64]>,
    /// Words read so far.
    read: Index,
    /// Words written so far.
    written: Index,
}

impl Ring {
    fn word(&self, at: u64) -> &AtomicU64 {
        &self.words[at as usize & (self.words.len() - 1)]
    }
}

/// The core's end.
pub struct LineWriter {
    ring: Arc<Ring>,
    written: u64,
    /// What the reader had read when we looked last.
    read: u64,
}

/// The control thread's end.
pub struct LineReader {
    ring: Arc<Ring>,
    line: Vec<u8>,
}

/// A ring of at least `bytes` bytes.
pub fn ring(bytes: usize) -> (LineWriter, LineReader) {
    let n = bytes.div_ceil(8).next_power_of_two();
    let index = || Index(AtomicU64::new(0));
    // Not zeros, which the kernel would give pages to at the first use only: on the hot path.
    let words = (0..n).map(|_| AtomicU64::new(u64::MAX)).collect();
    let ring = Arc::new(Ring { words, read: index(), written: index() });
    (LineWriter { ring: Arc::clone(&ring), written: 0, read: 0 }, LineReader { ring, line: Vec::new() })
}

impl LineWriter {
    /// Adds a line; `false` when there is no room for it. `tag` is the reader's to understand.
    pub fn put(&mut self, tag: u16, line: &[u8]) -> bool {
        let need = 1 + line.len().div_ceil(8) as u64;
        let room = |s: &LineWriter| s.ring.words.len() as u64 - (s.written - s.read);
        if room(self) < need {
            self.read = self.ring.read.0.load(Ordering::Acquire);
            if room(self) < need {
                return false;
            }
        }
        let mut at = self.written;
        let head = u64::from(tag) << 32 | line.len() as u64;
        self.ring.word(at).store(head, Ordering::Relaxed);
        for piece in line.chunks(8) {
            let mut bytes = [0; 8];
            bytes[..piece.len()].copy_from_slice(piece);
            at += 1;
            self.ring.word(at).store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        self.written += need;
        self.ring.written.0.store(self.written, Ordering::Release);
        true
    }
}

impl LineReader {
    /// Takes all lines that are there now; gives how many there were.
    pub fn take(&mut self, mut each: impl FnMut(u16, &[u8])) -> usize {
        let written = self.ring.written.0.load(Ordering::Acquire);
        let mut at = self.ring.read.0.load(Ordering::Relaxed);
        let mut n = 0;
        while at < written {
            let head = self.ring.word(at).load(Ordering::Relaxed);
            let (tag, len) = ((head >> 32) as u16, head as u32 as usize);
            self.line.clear();
            let words = len.div_ceil(8) as u64;
            for i in 1..=words {
                let word = self.ring.word(at + i).load(Ordering::Relaxed);
                self.line.extend_from_slice(&word.to_le_bytes());
            }
            self.line.truncate(len);
            at += 1 + words;
            self.ring.read.0.store(at, Ordering::Release);
            each(tag, &self.line);
            n += 1;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_goes_on_when_it_is_read() {
        let (mut w, mut r) = ring(64);
        assert!(w.put(7, b"twelve bytes") && w.put(8, b""));
        assert!(w.put(9, b"sixteen bytes, x"));
        assert!(!w.put(1, b"more"), "one word is left");
        assert!(w.put(2, b""));
        let mut got = Vec::new();
        assert_eq!(r.take(|tag, line| got.push((tag, line.to_vec()))), 4);
        let want: [(u16, &[u8]); 4] = [(7, b"twelve bytes"), (8, b""), (9, b"sixteen bytes, x"), (2, b"")];
        assert!(got.iter().map(|(t, l)| (*t, &l[..])).eq(want));
        assert!(w.put(1, b"more") && r.take(|_, line| assert_eq!(line, b"more")) == 1);
        assert!(!w.put(1, &[0; 64]), "longer than the ring");
    }

    #[test]
    fn every_line_arrives_once_and_whole() {
        let (mut w, mut r) = ring(1 << 10);
        let writer = std::thread::spawn(move || {
            let mut refused = 0u64;
            for i in 0..50_000u32 {
                let line = vec![i as u8; i as usize % 90];
                while !w.put(i as u16, &line) {
                    refused += 1;
                    std::thread::yield_now();
                }
            }
            refused
        });
        let mut next = 0u32;
        while next < 50_000 {
            r.take(|tag, line| {
                assert_eq!(tag, next as u16);
                assert_eq!(line.len(), next as usize % 90);
                assert!(line.iter().all(|b| *b == next as u8));
                next += 1;
            });
            std::thread::yield_now();
        }
        writer.join().unwrap();
    }
}
