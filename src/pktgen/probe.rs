//! Probes: frames that say which they are and when they left, and what is found out when they come back.
//!
//! The signature stands at the start of the L4 payload, where an echo of any kind brings it back:
//! magic (8) ∣ stream (4) ∣ zero (4) ∣ number (8) ∣ nanoseconds (8), all big-endian.

use dataplane::Time;
use dataplane::counters::Histogram;

/// Bytes of a signature.
pub const BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"mr.probe";
/// Numbers back to which a second copy is told from a first one.
const WINDOW: u64 = 1 << 16;

/// A signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Which stream.
    pub stream: u32,
    /// Which frame of it, from 0.
    pub number: u64,
    /// When it left.
    pub sent: Time,
}

impl Signature {
    /// Its bytes.
    pub fn write(&self) -> [u8; BYTES] {
        let mut b = [0; BYTES];
        b[..8].copy_from_slice(&MAGIC);
        b[8..12].copy_from_slice(&self.stream.to_be_bytes());
        b[16..24].copy_from_slice(&self.number.to_be_bytes());
        b[24..].copy_from_slice(&self.sent.0.to_be_bytes());
        b
    }

    /// From the start of a payload; `None` when there is none.
    pub fn read(payload: &[u8]) -> Option<Signature> {
        let b: &[u8; BYTES] = payload.first_chunk()?;
        if b[..8] != MAGIC {
            return None;
        }
        let word = |at: usize| b[at..at + 8].iter().fold(0u64, |n, x| n << 8 | u64::from(*x));
        Some(Signature { stream: (word(8) >> 32) as u32, number: word(16), sent: Time(word(24)) })
    }
}

/// What has come back of one stream.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Different frames.
    pub unique: u64,
    /// Further copies of one that had come.
    pub duplicates: u64,
    /// Frames that came after one with a higher number.
    pub reordered: u64,
    /// Frames too old to say whether they are copies.
    pub too_old: u64,
    /// From leaving to coming back, in nanoseconds.
    pub latency: Histogram,
    window: Vec<u64>,
    next: u64,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            unique: 0,
            duplicates: 0,
            reordered: 0,
            too_old: 0,
            latency: Histogram::default(),
            window: vec![0; (WINDOW / 64) as usize],
            next: 0,
        }
    }
}

impl Seen {
    /// A frame is back.
    pub fn take(&mut self, s: &Signature, now: Time) {
        let (word, bit) = ((s.number % WINDOW / 64) as usize, 1u64 << (s.number % 64));
        if s.number >= self.next {
            // What lies between has not come, and its places in the window are others' from now on.
            if s.number - self.next >= WINDOW {
                self.window.fill(0);
            } else {
                for n in self.next..=s.number {
                    self.window[(n % WINDOW / 64) as usize] &= !(1 << (n % 64));
                }
            }
            self.next = s.number + 1;
        } else if self.next - s.number > WINDOW {
            self.too_old += 1;
            return;
        } else if self.window[word] & bit != 0 {
            self.duplicates += 1;
            return;
        } else {
            self.reordered += 1;
        }
        self.window[word] |= bit;
        self.unique += 1;
        self.latency.record(now.since_ns(s.sent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_as_written() {
        let s = Signature { stream: 7, number: 1 << 40, sent: Time(123_456_789_012) };
        let mut bytes = s.write().to_vec();
        assert_eq!(Signature::read(&bytes), Some(s));
        assert_eq!(Signature::read(&bytes[..31]), None);
        bytes[0] ^= 1;
        assert_eq!(Signature::read(&bytes), None);
    }

    #[test]
    fn copies_and_late_ones_are_told_apart() {
        let mut seen = Seen::default();
        let mut take = |n| seen.take(&Signature { stream: 0, number: n, sent: Time(100) }, Time(1100));
        for n in [0, 1, 3, 2, 3, 1, 10, 200_000, 199_999, 199_999, 5] {
            take(n);
        }
        assert_eq!((seen.unique, seen.duplicates, seen.reordered, seen.too_old), (7, 3, 2, 1));
        assert_eq!(seen.latency.count(), 7);
        assert!((1000..=1040).contains(&seen.latency.max()));
    }
}
