//! The Internet checksum (RFC 1071) over pieces.

/// A running one's-complement sum. Pieces may have any length: the sum knows whether it stands at an odd
/// byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Sum of 16-bit words in native byte order, not folded.
    acc: u64,
    odd: bool,
}

impl Sum {
    /// Adds bytes.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let s = sum_native(bytes);
        self.acc += if self.odd { u64::from(fold(s).swap_bytes()) } else { s };
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds a 16-bit number; only at an even position.
    #[inline]
    pub fn add_u16(&mut self, v: u16) {
        debug_assert!(!self.odd);
        self.acc += u64::from(v.to_be());
    }

    /// Adds 16-bit and 32-bit words, at an even position, that were summed up in the order of the machine.
    #[inline]
    pub fn add_words(&mut self, words: u64) {
        debug_assert!(!self.odd);
        self.acc += words;
    }

    /// Adds a pseudo-header: addresses, protocol, L4 length (RFC 9293 3.1, RFC 8200 8.1).
    #[inline]
    pub fn add_pseudo(&mut self, src: &[u8], dst: &[u8], protocol: u8, len: usize) {
        self.acc += sum_native(src) + sum_native(dst);
        self.add_u16(u16::from(protocol));
        self.add_u16(len as u16);
    }

    /// The checksum field's value, in host order: the complement.
    #[inline]
    pub fn finish(self) -> u16 {
        !u16::from_be(fold(self.acc))
    }

    /// The sum itself, in host order: not the complement.
    #[inline]
    pub(crate) fn value(self) -> u16 {
        u16::from_be(fold(self.acc))
    }

    /// Whether bytes that contain their own checksum sum up right.
    #[inline]
    pub fn is_valid(self) -> bool {
        fold(self.acc) == 0xffff
    }
}

#[inline]
fn sum_native(bytes: &[u8]) -> u64 {
    // Four bytes at a time into 64 bits cannot overflow below 2^32 words, and the compiler vectorises it.
    let mut chunks = bytes.chunks_exact(4);
    let mut acc: u64 = chunks.by_ref().map(|c| u64::from(u32::from_ne_bytes([c[0], c[1], c[2], c[3]]))).sum();
    let rest = chunks.remainder();
    let mut last = [0u8; 4];
    last[..rest.len()].copy_from_slice(rest);
    acc += u64::from(u32::from_ne_bytes(last));
    acc
}

/// A sum of words in 16 bits. A number and itself turned by half: the upper half of that sum has the carry of the lower.
#[inline]
pub(crate) fn fold(acc: u64) -> u16 {
    let acc = (acc.wrapping_add(acc.rotate_left(32)) >> 32) as u32;
    (acc.wrapping_add(acc.rotate_left(16)) >> 16) as u16
}

/// The checksum of one piece.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut s = Sum::default();
    s.add(bytes);
    s.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut s = 0u32;
        for c in bytes.chunks(2) {
            s += u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]));
        }
        while s >> 16 != 0 {
            s = (s >> 16) + (s & 0xffff);
        }
        !(s as u16)
    }

    #[test]
    fn agrees_with_the_textbook_at_every_length_and_split() {
        let data: Vec<u8> =
            (0..1500u32).map(|i| ((i * 7 + i / 251) as u8) | (u8::from(i > 900) * 0xf0)).collect();
        for len in (0..80).chain([1459, 1460, 1500]) {
            let d = &data[..len];
            assert_eq!(checksum(d), reference(d), "{len}");
            for cut in [0, 1, 2, 3, 5, len / 2] {
                let cut = cut.min(len);
                let mut s = Sum::default();
                s.add(&d[..cut]);
                s.add(&d[cut..]);
                assert_eq!(s.finish(), reference(d), "{len} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_header_with_its_checksum_is_valid() {
        let mut h = [0x45, 0, 0, 60, 0x1c, 0x46, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let c = checksum(&h);
        h[10..12].copy_from_slice(&c.to_be_bytes());
        let mut s = Sum::default();
        s.add(&h);
        assert!(s.is_valid());
    }
}
