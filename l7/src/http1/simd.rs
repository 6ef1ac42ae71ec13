//! Which of sixteen bytes are not of a class, or not text, as a bit mask.
//!
//! A class of ASCII bytes is a table of 8 rows (the high half of a byte) and 16 columns (the low half). Two shuffles look
//! up the rows that a byte's column has and the row that the byte is in; where they do not meet, the byte is not of the
//! class. Builds without SSSE3 do the same byte by byte.
#![cfg_attr(target_feature = "ssse3", allow(unsafe_code))]

/// Sixteen bytes from `at` on; zeros, which are of no class, behind the end.
#[inline]
pub(super) fn block(buf: &[u8], at: usize) -> [u8; 16] {
    let rest = buf.get(at..).unwrap_or_default();
    if let Some(block) = rest.first_chunk::<16>() {
        return *block;
    }
    if let Some(last) = buf.last_chunk::<16>() {
        // In one load, as a copy of unknown length would be a call.
        return u128::from_le_bytes(*last)
            .checked_shr(128 - 8 * rest.len() as u32)
            .unwrap_or(0)
            .to_le_bytes();
    }
    let mut block = [0; 16];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// The members of a class, by their low half: a bit for each high half.
pub(super) const fn columns(class: u8, table: &[u8; 256]) -> [u8; 16] {
    let mut columns = [0; 16];
    let mut b = 0;
    while b < 128 {
        if table[b] & class != 0 {
            columns[b & 15] |= 1 << (b >> 4);
        }
        b += 1;
    }
    columns
}

#[cfg(target_feature = "ssse3")]
mod vector {
    use core::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8,
        _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_setzero_si128, _mm_shuffle_epi8, _mm_srli_epi16,
    };

    /// The bit of each high half; ASCII has the first eight.
    const ROWS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let n = u128::from_le_bytes(*bytes);
        _mm_set_epi64x((n >> 64) as i64, n as i64)
    }

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn outside_ssse3(block: &[u8; 16], columns: &[u8; 16]) -> u32 {
        let bytes = load(block);
        let high = _mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15));
        let row = _mm_shuffle_epi8(load(&ROWS), high);
        // A byte above ASCII finds no column.
        let rows_of_column = _mm_shuffle_epi8(load(columns), bytes);
        let met = _mm_and_si128(row, rows_of_column);
        _mm_movemask_epi8(_mm_cmpeq_epi8(met, _mm_setzero_si128())) as u32
    }

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn not_text_ssse3(block: &[u8; 16]) -> u32 {
        let bytes = load(block);
        let is_control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let is_tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(9));
        let is_delete = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        _mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(is_tab, is_control), is_delete)) as u32
    }

    #[inline]
    pub(in super::super) fn outside(block: &[u8; 16], columns: &[u8; 16], _: impl Fn(u8) -> bool) -> u32 {
        // SAFETY: this is compiled only where the build has SSSE3.
        unsafe { outside_ssse3(block, columns) }
    }

    #[inline]
    pub(in super::super) fn not_text(block: &[u8; 16], _: impl Fn(u8) -> bool) -> u32 {
        // SAFETY: as above.
        unsafe { not_text_ssse3(block) }
    }
}

#[cfg(not(target_feature = "ssse3"))]
mod vector {
    #[inline]
    fn mask(block: &[u8; 16], is_in: impl Fn(u8) -> bool) -> u32 {
        block.iter().enumerate().fold(0, |mask, (at, &b)| mask | u32::from(!is_in(b)) << at)
    }

    #[inline]
    pub(in super::super) fn outside(block: &[u8; 16], _: &[u8; 16], is_in: impl Fn(u8) -> bool) -> u32 {
        mask(block, is_in)
    }

    #[inline]
    pub(in super::super) fn not_text(block: &[u8; 16], is_text: impl Fn(u8) -> bool) -> u32 {
        mask(block, is_text)
    }
}

pub(super) use vector::{not_text, outside};
