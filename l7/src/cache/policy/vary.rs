//! Vary (RFC 9111 4.1): which requests a stored response answers besides the one that it was made for.
//!
//! A stored response keeps the names of the fields that its Vary nominates, and one hash over what its request had
//! in them. A request matches when its own fields, hashed the same way, give the same. Values are brought into one
//! form first where the section allows it: several lines are one list, blanks around commas do not count, and
//! Accept-Encoding counts as the set that it is.

use core::hash::Hasher;

use super::fields::Line;
use super::hash::HashKeys;
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
            sink.put_lower(name)?;
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
    // What nearly every Vary names is found by number.
    if name.eq_ignore_ascii_case(b"accept-encoding") {
        let (mut set, mut present) = (Codings::default(), false);
        for line in headers.known(FieldName::AcceptEncoding) {
            present = true;
            set.note(line, &rules.encodings, keys);
        }
        // RFC 9111 4.1: absent matches absent only.
        hasher.write_u64(set.sum);
        return hasher.write_u16(u16::from(set.usual) | u16::from(present) << 8);
    }
    let mut lines = headers.get_all(name).peekable();
    if lines.peek().is_none() {
        return hasher.write_u8(0);
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

/// The codings that Accept-Encoding accepts (RFC 9110 12.5.3), as a set: neither order nor blanks can matter. A
/// weight counts, as it may decide which coding the origin takes; a coding that is refused by weight 0 is left out
/// like one that is not named, but for `identity` and `*`, which change what those mean that are not named.
#[derive(Clone, Copy, Default)]
struct Codings {
    /// One bit for each of the usual ones without a weight, so that what browsers send is cheap.
    usual: u8,
    /// The sum of the hashes of the others.
    sum: u64,
}

const USUAL: [&[u8]; 5] = [b"gzip", b"br", b"deflate", b"zstd", b"identity"];

impl Codings {
    fn note(&mut self, line: &[u8], only: &[Box<[u8]>], keys: &HashKeys) {
        for element in bytes::list(line).filter(|element| !element.is_empty()) {
            let semicolon = memchr::memchr(b';', element).unwrap_or(element.len());
            let mut name = bytes::trim(&element[..semicolon]);
            if let [b'x' | b'X', b'-', rest @ ..] = name {
                // RFC 9110 8.4.1: x-gzip and x-compress are the same without.
                name = rest;
            }
            let mut parameters = element[semicolon..].split(|&b| b == b';').map(bytes::trim);
            let weight = parameters.find_map(weight_milli).unwrap_or(1000);
            let is_wide = name == b"*" || name.eq_ignore_ascii_case(b"identity");
            if weight == 0 && (!is_wide || !only.is_empty()) {
                continue;
            }
            if !only.is_empty() && !only.iter().any(|coding| coding.eq_ignore_ascii_case(name)) {
                continue;
            }
            let weight = if only.is_empty() { weight } else { 1000 };
            match USUAL.iter().position(|coding| coding.eq_ignore_ascii_case(name)) {
                Some(bit) if weight == 1000 => self.usual |= 1 << bit,
                _ => self.sum = self.sum.wrapping_add(hash_coding(name, weight, keys)),
            }
        }
    }
}

fn hash_coding(name: &[u8], weight: u16, keys: &HashKeys) -> u64 {
    let mut hasher = keys.hasher();
    let mut room = [0; 16];
    for piece in name.chunks(room.len()) {
        let lower = &mut room[..piece.len()];
        lower.copy_from_slice(piece);
        lower.make_ascii_lowercase();
        hasher.write(lower);
    }
    hasher.write_u16(weight);
    hasher.finish()
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
