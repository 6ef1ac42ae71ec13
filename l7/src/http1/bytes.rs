//! Byte classes and the few scans that everything else is made of.

/// `tchar` (RFC 9110 5.6.2): methods, field names, options.
pub(crate) const TOKEN: u8 = 1;
/// What a path may have: `pchar`, `/`, and `[` `]`, which browsers send as they are.
pub(crate) const PATH: u8 = 2;
/// What a query may have: besides RFC 3986 what browsers send without encoding it (WHATWG URL, query set).
pub(crate) const QUERY: u8 = 4;
/// `reg-name` without its colons (RFC 3986 3.2.2).
pub(crate) const REG_NAME: u8 = 8;
/// What may stand between the brackets of an `IP-literal`.
pub(crate) const IP_LITERAL: u8 = 16;

const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut b = 0usize;
    while b < 256 {
        let c = b as u8;
        let alnum = c.is_ascii_alphanumeric();
        let sub_delim =
            matches!(c, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        let unreserved = alnum || matches!(c, b'-' | b'.' | b'_' | b'~');
        let reg_name = unreserved || sub_delim || c == b'%';
        let path = reg_name || matches!(c, b':' | b'@' | b'/' | b'[' | b']');
        let query = path || matches!(c, b'?' | b'{' | b'}' | b'|' | b'^' | b'`' | b'\\');
        let token = alnum
            || matches!(
                c,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        let ip_literal = unreserved || sub_delim || c == b':';
        table[b] = when(token, TOKEN)
            | when(path, PATH)
            | when(query, QUERY)
            | when(reg_name, REG_NAME)
            | when(ip_literal, IP_LITERAL);
        b += 1;
    }
    table
}

const fn when(member: bool, class: u8) -> u8 {
    if member { class } else { 0 }
}

/// Whether `b` is of `class`.
#[inline]
pub(crate) fn is(b: u8, class: u8) -> bool {
    CLASS[b as usize] & class != 0
}

/// Whether all of `bytes`, of which there is at least one, are of `class`.
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is(b, class))
}

/// The first position from `pos` on that is not of `class`; `buf.len()` when there is none.
#[inline]
pub(crate) fn skip(buf: &[u8], pos: usize, class: u8) -> usize {
    let rest = buf.get(pos..).unwrap_or_default();
    // Blocks of known length are unrolled without bounds checks.
    let (blocks, tail) = rest.as_chunks::<8>();
    for (index, block) in blocks.iter().enumerate() {
        for (at, &b) in block.iter().enumerate() {
            if !is(b, class) {
                return pos + index * 8 + at;
            }
        }
    }
    let tail_at = buf.len() - tail.len();
    tail_at + tail.iter().position(|&b| !is(b, class)).unwrap_or(tail.len())
}

/// The first position from `pos` on that is neither space nor tab.
#[inline]
pub(crate) fn skip_blanks(buf: &[u8], pos: usize) -> usize {
    let rest = buf.get(pos..).unwrap_or_default();
    pos + rest.iter().position(|&b| !is_blank(b)).unwrap_or(rest.len())
}

/// Space or tab: what OWS is made of (RFC 9110 5.6.3).
#[inline]
pub(crate) fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// Whether a field value, a reason phrase or a quoted string may have `b`: no control byte but tab.
#[inline]
pub(crate) fn is_text(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

/// The first position from `pos` on that is not text; sixteen bytes at a time while they are, then eight.
#[inline]
pub(crate) fn text_end(buf: &[u8], pos: usize) -> usize {
    let mut at = pos;
    while let Some(block) = buf.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        // No early exit: it becomes a few vector instructions. A tab is left to the loop below.
        if block.iter().fold(false, |found, &b| found | (b < 0x20) | (b == 0x7f)) {
            break;
        }
        at += 16;
    }
    while let Some(word) = buf.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let mask = not_text_or_tab(u64::from_le_bytes(*word));
        if mask == 0 {
            at += 8;
            continue;
        }
        at += mask.trailing_zeros() as usize / 8;
        if buf[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    while at < buf.len() && is_text(buf[at]) {
        at += 1;
    }
    at
}

/// The high bit of each byte that is below 0x20 or is 0x7f. A borrow may flag too much, but only above a byte
/// that is flagged rightly, so the lowest flag, the only one used, is exact.
#[inline]
fn not_text_or_tab(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ (ONES * 0x7f);
    (below_space | (delete.wrapping_sub(ONES) & !delete)) & HIGH
}

/// Without the blanks at both ends.
#[inline]
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

/// `1*DIGIT` that fits 64 bits, and nothing else.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 { None } else { n.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// The elements of a comma-separated list (RFC 9110 5.6.1), blanks removed; empty elements are given too.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim)
}

/// `n` in decimal, in the tail of `out`.
pub(crate) fn format_decimal(mut n: u64, out: &mut [u8; 20]) -> &[u8] {
    let mut at = out.len();
    loop {
        at -= 1;
        out[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &out[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_end_agrees_with_the_byte_by_byte_scan_at_every_alignment() {
        for bad in (0..=255u8).filter(|&b| !is_text(b)) {
            for at in 0..40 {
                for fill in [b'a', b'\t', 0xff, 0x80, 0x20, 0x7e] {
                    let mut line = [fill; 40];
                    line[at] = bad;
                    for pos in 0..=at {
                        assert_eq!(text_end(&line, pos), at);
                    }
                    assert_eq!(text_end(&line, at + 1), 40);
                }
            }
        }
    }

    #[test]
    fn decimal_is_digits_and_nothing_else() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "+1", "-1", " 1", "1 ", "0x1", "1,1", "\u{661}"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
        let mut out = [0; 20];
        for n in [0, 7, 10, 511, u64::MAX] {
            assert_eq!(format_decimal(n, &mut out), n.to_string().as_bytes());
        }
    }
}
