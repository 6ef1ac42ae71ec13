//! Byte classes and the few scans that everything else is made of.

use super::simd;

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
/// A path's bytes but `%`, which has to be followed by two digits.
pub(crate) const PLAIN_PATH: u8 = 32;
/// A name's bytes but `%`.
pub(crate) const PLAIN_NAME: u8 = 64;

const CLASS_OF: [u8; 256] = classes();

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
            | when(ip_literal, IP_LITERAL)
            | when(path && c != b'%', PLAIN_PATH)
            | when(reg_name && c != b'%', PLAIN_NAME);
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
    CLASS_OF[b as usize] & class != 0
}

/// Whether all of `bytes`, of which there is at least one, are of `class`.
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is(b, class))
}

/// The first position from `pos` on that is not of `CLASS`; `buf.len()` when there is none.
#[inline]
pub(crate) fn skip<const CLASS: u8>(buf: &[u8], pos: usize) -> usize {
    first(buf, pos, |block| {
        simd::outside(block, const { &simd::columns(CLASS, &CLASS_OF) }, |b| is(b, CLASS))
    })
}

/// The first position from `pos` on that a mask says of its block; `buf.len()` when there is none. The zeros behind the
/// end have to be in every mask.
#[inline]
fn first(buf: &[u8], pos: usize, mask: impl Fn(&[u8; 16]) -> u32) -> usize {
    let mut at = pos;
    while at < buf.len() {
        let found = mask(&simd::block(buf, at));
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    buf.len()
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

/// The first position from `pos` on that is not text; `buf.len()` when there is none.
#[inline]
pub(crate) fn text_end(buf: &[u8], pos: usize) -> usize {
    first(buf, pos, |block| simd::not_text(block, is_text))
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
#[inline]
pub(crate) fn format_decimal(n: u64, out: &mut [u8; 20]) -> &[u8] {
    // Division by a constant of 32 bits is one multiplication, and nearly all numbers fit.
    match u32::try_from(n) {
        Ok(n) => {
            let at = format_short(n, out);
            &out[at..]
        }
        Err(_) => format_long(n, out),
    }
}

/// As [`format_decimal`]; where it begins.
#[inline]
fn format_short(mut n: u32, out: &mut [u8; 20]) -> usize {
    let mut at = out.len();
    while n >= 10 && at > 2 {
        let pair = n % 100;
        n /= 100;
        at -= 2;
        out[at] = b'0' + (pair / 10) as u8;
        out[at + 1] = b'0' + (pair % 10) as u8;
    }
    if n > 0 || at == out.len() {
        at -= 1;
        out[at] = b'0' + n as u8;
    }
    at
}

#[cold]
fn format_long(mut n: u64, out: &mut [u8; 20]) -> &[u8] {
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
    fn a_class_is_skipped_as_its_table_says() {
        fn check<const CLASS: u8>() {
            for len in [1, 7, 15, 16, 17, 40] {
                for at in 0..len {
                    for b in 0..=255u8 {
                        let mut line = vec![b'a'; len];
                        line[at] = b;
                        let end = if is(b, CLASS) { len } else { at };
                        assert_eq!(skip::<CLASS>(&line, 0), end, "{b} of {CLASS} at {at} of {len}");
                        assert_eq!(skip::<CLASS>(&line, at), end);
                        assert_eq!(skip::<CLASS>(&line, at + 1), len);
                    }
                }
            }
        }
        check::<TOKEN>();
        check::<PATH>();
        check::<QUERY>();
        check::<REG_NAME>();
        check::<PLAIN_PATH>();
        check::<PLAIN_NAME>();
        assert_eq!(skip::<TOKEN>(b"", 0), 0);
    }

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
        for n in [0, 7, 9, 10, 11, 99, 100, 511, 1000, 65_535, 4_294_967_295, 4_294_967_296, u64::MAX] {
            assert_eq!(format_decimal(n, &mut out), n.to_string().as_bytes());
        }
    }
}
