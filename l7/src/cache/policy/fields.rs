//! Header lines as the policy looks at them: of a head just parsed, of a stored one, or of both at once.

use crate::http1::bytes;
use crate::http1::{FieldName, Headers};

/// One header line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Which field it is, if it is one that we know.
    pub known: FieldName,
    /// Its name as it was written.
    pub name: &'a [u8],
    /// Its value without the blanks around it.
    pub value: &'a [u8],
}

impl Line<'_> {
    /// Whether it is a line of the field `name`, whatever the case (RFC 9110 5.1).
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The lines of a parsed head that concern more than one connection (RFC 9110 7.6.1).
pub fn of_headers<'b>(headers: &Headers<'b>) -> impl Iterator<Item = Line<'b>> + Clone + use<'b> {
    let buf = headers.buf();
    headers.slots().iter().filter(|slot| !slot.hop_by_hop).map(move |slot| Line {
        known: slot.known,
        name: slot.name.of(buf),
        value: slot.value.of(buf),
    })
}

/// The lines of a stored head: `Name: value` and CRLF each, as we wrote them ourselves.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// Over `lines`.
    pub fn new(lines: &'a [u8]) -> Self {
        Self { rest: lines }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        // A field value has no CR, so the first one ends the line.
        let end = memchr::memchr(b'\r', self.rest)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(2..).unwrap_or_default();
        let colon = memchr::memchr(b':', line)?;
        let name = &line[..colon];
        Some(Line { known: FieldName::of(name), name, value: bytes::trim(&line[colon + 1..]) })
    }
}
