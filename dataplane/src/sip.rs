//! SipHash-1-3 (Aumasson and Bernstein 2012): a hash under a secret key, for tables whose keys others choose. Who does
//! not know the node's secret cannot make two of them meet.
//!
//! Three ways to it, all with the same result: [`words`] for short messages that are put into words by their caller,
//! [`bytes`] for one that lies together, [`Sip13`] for one that comes in pieces.

use std::hash::Hasher;

/// The secret.
pub type Key = [u64; 2];

/// The hash of a message in words: the last one holds what is left of it and, in its top byte, its length. For the flow
/// table, as there is nothing to copy and no length to ask about.
#[inline]
pub fn words<const N: usize>(key: Key, message: [u64; N]) -> u64 {
    let mut v = start(key);
    for m in message {
        absorb(&mut v, m);
    }
    end(v)
}

/// The hash of a message.
#[inline]
pub fn bytes(key: Key, message: &[u8]) -> u64 {
    let mut v = start(key);
    let (words, rest) = message.as_chunks::<8>();
    for w in words {
        absorb(&mut v, u64::from_le_bytes(*w));
    }
    absorb(&mut v, last(rest, message.len()));
    end(v)
}

/// The hash of a message in pieces; where they are cut makes no difference.
#[derive(Clone, Debug)]
pub struct Sip13 {
    v: [u64; 4],
    /// Bytes so far, and those of them that do not make up a word yet.
    len: usize,
    rest: [u8; 8],
}

impl Sip13 {
    /// Nothing so far.
    pub fn new(key: Key) -> Sip13 {
        Sip13 { v: start(key), len: 0, rest: [0; 8] }
    }
}

impl Hasher for Sip13 {
    fn write(&mut self, mut message: &[u8]) {
        let at = self.len % 8;
        self.len = self.len.wrapping_add(message.len());
        if at > 0 {
            let (first, more) = message.split_at(message.len().min(8 - at));
            self.rest[at..at + first.len()].copy_from_slice(first);
            if at + first.len() < 8 {
                return;
            }
            absorb(&mut self.v, u64::from_le_bytes(self.rest));
            message = more;
        }
        let (words, rest) = message.as_chunks::<8>();
        for w in words {
            absorb(&mut self.v, u64::from_le_bytes(*w));
        }
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    fn finish(&self) -> u64 {
        let mut v = self.v;
        absorb(&mut v, last(&self.rest[..self.len % 8], self.len));
        end(v)
    }
}

#[inline(always)]
fn start(key: Key) -> [u64; 4] {
    [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ]
}

/// The last word: what is left, and the length in its top byte.
#[inline(always)]
fn last(rest: &[u8], len: usize) -> u64 {
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = len as u8;
    u64::from_le_bytes(last)
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], m: u64) {
    v[3] ^= m;
    round(v);
    v[0] ^= m;
}

#[inline(always)]
fn end(mut v: [u64; 4]) -> u64 {
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;

    #[test]
    fn it_is_siphash_however_it_comes() {
        let all: Vec<u8> = (0..=255).cycle().take(600).collect();
        let key = [7, u64::MAX - 3];
        for n in (0..70).chain([255, 256, 257, 600]) {
            let mut other = SipHasher13::new_with_keys(key[0], key[1]);
            other.write(&all[..n]);
            assert_eq!(bytes(key, &all[..n]), other.finish(), "{n} bytes");
            for piece in 1..20 {
                let mut h = Sip13::new(key);
                all[..n].chunks(piece).for_each(|p| h.write(p));
                assert_eq!(h.finish(), other.finish(), "{n} bytes in pieces of {piece}");
            }
        }
        let mut twelve = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 12];
        let two = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| twelve[at + i])));
        twelve[15] = 0;
        assert_eq!(words(key, two), bytes(key, &twelve[..12]));
    }
}
