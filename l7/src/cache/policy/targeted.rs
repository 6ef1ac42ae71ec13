//! Targeted cache control (RFC 9213): `CDN-Cache-Control` and its like, dictionaries of structured fields.
//!
//! The first field of the list that is there, is valid and is not empty decides, and Cache-Control and Expires
//! count for nothing then. A field with any error in it is as if it were not there (2.1), so reading is strict.

use super::cache_control::{DELTA_SECONDS_MAX, ResponseDirectives};
use super::fields::Line;

/// The directives of the first field of `names` among `lines` that says anything.
pub fn select<'a>(
    names: &[Box<[u8]>],
    lines: impl Iterator<Item = Line<'a>> + Clone,
) -> Option<ResponseDirectives> {
    names.iter().find_map(|name| {
        parse(lines.clone().filter(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value))
    })
}

/// The directives of one field, given all its lines; `None` where it is empty or has an error.
pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<ResponseDirectives> {
    let mut directives = ResponseDirectives::default();
    let mut any = false;
    for line in lines {
        let mut reader = Reader { rest: line };
        reader.skip(b" ");
        while !reader.rest.is_empty() {
            reader.member(&mut directives)?;
            any = true;
            reader.skip(b" \t");
            if reader.rest.is_empty() {
                break;
            }
            reader.expect(b',')?;
            reader.skip(b" \t");
            // RFC 8941 4.2.2: no comma at the end.
            if reader.rest.is_empty() {
                return None;
            }
        }
    }
    any.then_some(directives)
}

/// A bare item or an inner list (RFC 8941 3.1.1, 3.3), as far as directives need it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Integer(i64),
    Boolean(bool),
    Other,
}

/// RFC 8941 4.2, letter by letter.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn skip(&mut self, what: &[u8]) {
        while let [first, rest @ ..] = self.rest
            && what.contains(first)
        {
            self.rest = rest;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn expect(&mut self, b: u8) -> Option<()> {
        (self.next()? == b).then_some(())
    }

    /// Takes `b` if it is next.
    fn take(&mut self, b: u8) -> bool {
        let is_next = self.rest.first() == Some(&b);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    /// The bytes from here on that are `inside`.
    fn run(&mut self, inside: impl Fn(u8) -> bool) -> &[u8] {
        let end = self.rest.iter().position(|&b| !inside(b)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    fn member(&mut self, directives: &mut ResponseDirectives) -> Option<()> {
        let whole = self.rest;
        self.key()?;
        let name = &whole[..whole.len() - self.rest.len()];
        let value = if self.take(b'=') {
            if self.rest.first() == Some(&b'(') { self.inner_list()? } else { self.bare_item()? }
        } else {
            Value::Boolean(true)
        };
        // Parameters mean nothing here (RFC 9213 2.1), but they have to be right.
        self.parameters()?;
        apply(directives, name, value);
        Some(())
    }

    fn key(&mut self) -> Option<()> {
        if !matches!(self.next()?, b'a'..=b'z' | b'*') {
            return None;
        }
        self.run(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        Some(())
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn inner_list(&mut self) -> Option<Value> {
        self.expect(b'(')?;
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.rest.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn bare_item(&mut self) -> Option<Value> {
        match self.rest.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.run(|b| {
                    crate::http1::bytes::is(b, crate::http1::bytes::TOKEN) || b == b':' || b == b'/'
                });
                Some(Value::Other)
            }
            b':' => {
                self.expect(b':')?;
                self.run(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
                self.expect(b':')?;
                Some(Value::Other)
            }
            b'?' => {
                self.expect(b'?')?;
                match self.next()? {
                    b'0' => Some(Value::Boolean(false)),
                    b'1' => Some(Value::Boolean(true)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// At most fifteen digits, or twelve, a point and three (RFC 8941 4.2.4).
    fn number(&mut self) -> Option<Value> {
        let negative = self.take(b'-');
        let whole = self.run(|b| b.is_ascii_digit());
        let digits = whole.len();
        let n = whole.iter().take(15).fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
        if digits == 0 || digits > 15 {
            return None;
        }
        if !self.take(b'.') {
            return Some(Value::Integer(if negative { -n } else { n }));
        }
        let fraction = self.run(|b| b.is_ascii_digit()).len();
        (digits <= 12 && (1..=3).contains(&fraction)).then_some(Value::Other)
    }

    fn string(&mut self) -> Option<Value> {
        self.expect(b'"')?;
        loop {
            match self.next()? {
                b'"' => return Some(Value::Other),
                b'\\' if !matches!(self.next()?, b'"' | b'\\') => return None,
                0x20..=0x7e => {}
                _ => return None,
            }
        }
    }
}

/// Takes in one directive; the last of several counts (RFC 8941 4.2.2). One whose value is of another type than the
/// directive has is read to the safe side: a lifetime is over, a restriction holds for the whole response.
fn apply(directives: &mut ResponseDirectives, name: &[u8], value: Value) {
    let seconds = match value {
        Value::Integer(n) => u32::try_from(n.min(i64::from(DELTA_SECONDS_MAX))).unwrap_or(0),
        _ => 0,
    };
    let on = value != Value::Boolean(false);
    match name {
        b"max-age" => directives.max_age_s = Some(seconds),
        b"s-maxage" => directives.s_maxage_s = Some(seconds),
        b"stale-while-revalidate" => directives.swr_s = Some(seconds),
        b"stale-if-error" => directives.sie_s = Some(seconds),
        b"no-cache" => directives.no_cache = on,
        b"no-store" => directives.no_store = on,
        b"private" => directives.private = on,
        b"public" => directives.public = value == Value::Boolean(true),
        b"must-revalidate" => directives.must_revalidate = on,
        b"proxy-revalidate" => directives.proxy_revalidate = on,
        b"must-understand" => directives.must_understand = on,
        b"immutable" => directives.immutable = value == Value::Boolean(true),
        b"no-transform" => directives.no_transform = on,
        _ => {}
    }
}
