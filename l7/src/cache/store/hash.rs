//! SipHash-1-3 (Aumasson and Bernstein 2012) of a key. Keyed, because clients choose what they ask for, and must
//! not be able to choose its bucket.

#[inline]
pub(in crate::cache) fn sip13(key: [u64; 2], message: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = message.as_chunks::<8>();
    for w in words {
        absorb(&mut v, u64::from_le_bytes(*w));
    }
    // The last word: what is left, and the length in its top byte.
    let left = match message.last_chunk::<8>() {
        // In one load, as a copy of unknown length would be a call.
        Some(last) => u64::from_le_bytes(*last).checked_shr(64 - 8 * rest.len() as u32).unwrap_or(0),
        None => rest.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b)),
    };
    absorb(&mut v, left | (message.len() as u64) << 56);
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], m: u64) {
    v[3] ^= m;
    round(v);
    v[0] ^= m;
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
    use std::hash::Hasher;

    #[test]
    fn it_is_siphash() {
        let bytes: Vec<u8> = (0..=255).cycle().take(600).collect();
        for n in (0..70).chain([255, 256, 257, 600]) {
            let mut h = SipHasher13::new_with_keys(7, u64::MAX - 3);
            h.write(&bytes[..n]);
            assert_eq!(sip13([7, u64::MAX - 3], &bytes[..n]), h.finish(), "{n} bytes");
        }
    }
}
