//! Vary (RFC 9111 4.1): which requests a stored response answers besides the one that it was made for.
//!
//! A stored response keeps the names of the fields that its Vary nominates, and one hash over what its request had
//! in them. A request matches when its own fields, hashed the same way, give the same. Values are brought into one
//! form first where the section allows it: several lines are one list, blanks around commas do not count, and
//! Accept-Encoding counts as the set that it is.

use core::hash::Hasher;

use super::fields::Line;
use super::hash::HashKeys;
use super::key::put_lower;
use super::rules::KeyRules;
use crate::http1::bytes;
use crate::http1::{FieldName, Full, HeadSink, Headers};

/// Whether a Vary among `lines` has `*`: then nothing matches (RFC 9111 4.1).
pub fn is_any<'a>(lines: impl Iterator<Item = Line<'a>>) -> bool {
    lines.filter(|line| line.known == FieldName::Vary).any(|line| bytes::list(line.value).any(|n| n == b"*"))
}

/// Writes the names that Vary has among `lines`, in lower case with commas between.
pub fn write_names<'a>(lines: impl Iterator<Item = Line<'a>>, sink: &mut impl HeadSink) -> Result<(), Full> {
    let mut separator: &[u8] = b"";
    for line in lines.filter(|line| line.known == FieldName::Vary) {
        for name in bytes::list(line.value).filter(|name| !name.is_empty()) {
            sink.put(separator)?;
            put_lower(name, sink)?;
            separator = b",";
        }
    }
    Ok(())
}

/// Which variant a request with these `headers` asks for, among responses whose Vary has `names`. Fields and
/// cookies that the rules have in the key count too. 0 where nothing counts.
pub fn variant(names: &[u8], headers: &Headers<'_>, rules: &KeyRules, keys: &HashKeys) -> u64 {
    if names.is_empty() && rules.headers.is_empty() && rules.cookies.is_empty() {
        return 0;
    }
    let mut hasher = keys.hasher();
    if !names.is_empty() {
        for name in names.split(|&b| b == b',') {
            mix_field(name, headers, rules, keys, &mut hasher);
        }
    }
    for name in &rules.headers {
        mix_field(name, headers, rules, keys, &mut hasher);
    }
    for name in &rules.cookies {
        hasher.write_u8(b';');
        for value in headers.known(FieldName::Cookie).flat_map(|line| cookie(line, name)) {
            hasher.write(value);
            hasher.write_u8(0);
        }
    }
    // 0 is taken.
    hasher.finish() | 1 << 63
}

/// Mixes in the name of a field, whether it is there, and what its lines have together.
fn mix_field(
    name: &[u8],
    headers: &Headers<'_>,
    rules: &KeyRules,
    keys: &HashKeys,
    hasher: &mut impl Hasher,
) {
    hasher.write(name);
    hasher.write_u8(b':');
    let mut lines = headers.get_all(name).peekable();
    if lines.peek().is_none() {
        // RFC 9111 4.1: absent matches absent only.
        return hasher.write_u8(0);
    }
    if name.eq_ignore_ascii_case(b"accept-encoding") {
        let set = lines.fold(0u64, |set, line| set.wrapping_add(codings(line, &rules.encodings, keys)));
        return hasher.write_u64(set);
    }
    let any_case = name.eq_ignore_ascii_case(b"accept-language");
    for line in lines {
        hasher.write_u8(b',');
        mix_list(line, any_case, hasher);
    }
    hasher.write_u8(1);
}

/// Mixes in a value, blanks around its commas left out unless they are in quotes.
fn mix_list(value: &[u8], any_case: bool, hasher: &mut impl Hasher) {
    let mut quoted = false;
    let mut at = 0;
    while let Some(&b) = value.get(at) {
        match b {
            b'\\' if quoted => {
                hasher.write_u8(b);
                at += 1;
                if let Some(&escaped) = value.get(at) {
                    hasher.write_u8(escaped);
                }
                at += 1;
                continue;
            }
            b'"' => quoted = !quoted,
            b' ' | b'\t' if !quoted => {
                let next = bytes::skip_blanks(value, at);
                let beside_comma = value.get(next) == Some(&b',') || (at > 0 && value[at - 1] == b',');
                if !beside_comma {
                    hasher.write(&value[at..next]);
                }
                at = next;
                continue;
            }
            _ => {}
        }
        hasher.write_u8(if any_case { b.to_ascii_lowercase() } else { b });
        at += 1;
    }
}

/// The sum over the codings that a line of Accept-Encoding accepts (RFC 9110 12.5.3): order and repeated blanks
/// cannot matter in a sum. A weight counts, as it may decide which coding the origin takes; a coding that is
/// refused by weight 0 is left out like one that is not named, but for `identity` and `*`, which change what those
/// mean that are not named.
fn codings(line: &[u8], only: &[Box<[u8]>], keys: &HashKeys) -> u64 {
    let mut sum = 0u64;
    for element in bytes::list(line).filter(|element| !element.is_empty()) {
        let mut parts = element.split(|&b| b == b';').map(bytes::trim);
        let mut name = parts.next().unwrap_or_default();
        if let [b'x' | b'X', b'-', rest @ ..] = name {
            // RFC 9110 8.4.1: x-gzip and x-compress are the same without.
            name = rest;
        }
        let weight = parts.find_map(weight_milli).unwrap_or(1000);
        let is_wide = name == b"*" || name.eq_ignore_ascii_case(b"identity");
        if weight == 0 && (!is_wide || !only.is_empty()) {
            continue;
        }
        if !only.is_empty() && !only.iter().any(|coding| coding.eq_ignore_ascii_case(name)) {
            continue;
        }
        let mut hasher = keys.hasher();
        for &b in name {
            hasher.write_u8(b.to_ascii_lowercase());
        }
        if only.is_empty() {
            hasher.write_u16(weight);
        }
        sum = sum.wrapping_add(hasher.finish());
    }
    sum
}

/// `q=0.5` in thousandths (RFC 9110 12.4.2). What is no weight counts as if it were not there.
fn weight_milli(parameter: &[u8]) -> Option<u16> {
    let (b'q' | b'Q', [b'=', text @ ..]) = parameter.split_first()? else { return None };
    let (whole, digits) = match text {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (*whole, digits),
        _ => return None,
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fraction = (0..3).fold(0, |n, at| n * 10 + digits.get(at).map_or(0, |d| u16::from(d - b'0')));
    Some((u16::from(whole - b'0') * 1000 + fraction).min(1000))
}

/// The values of the cookie `name` in a line of Cookie (RFC 6265 4.2).
fn cookie<'a>(line: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    line.split(|&b| b == b';').map(bytes::trim).filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair)?;
        (pair[..at] == *name).then(|| &pair[at + 1..])
    })
}
