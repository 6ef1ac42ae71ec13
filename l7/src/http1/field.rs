//! Header lines (RFC 9110 5, RFC 9112 5): parsing one, keeping where many are, looking them up.

use super::bytes::{self, TOKEN};
use super::reject::RejectReason;

/// The size of the fixed arrays, and the ceiling of `HttpLimits::headers_max`.
pub const MAX_HEADERS: usize = 100;

/// A range inside a head, which is never longer than 65,535 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    pub const EMPTY: Span = Span { start: 0, end: 0 };

    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Self { start: start as u16, end: end as u16 }
    }

    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start()..self.end()).unwrap_or_default()
    }

    #[inline]
    pub fn start(self) -> usize {
        usize::from(self.start)
    }

    #[inline]
    pub fn end(self) -> usize {
        usize::from(self.end)
    }

    pub fn len(self) -> usize {
        self.end() - self.start()
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The field by which a gateway says that a request may have been sent again by somebody else (RFC 8470 5.1).
pub const EARLY_DATA: &[u8] = b"early-data";

/// The fields that a gateway or its cache treats in its own way; anything else is `Other` and passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // Their names are their documentation.
pub enum FieldName {
    Other,
    AcceptEncoding,
    Age,
    Authorization,
    CacheControl,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentLocation,
    ContentRange,
    ContentType,
    Cookie,
    Date,
    ETag,
    Expect,
    Expires,
    Host,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    KeepAlive,
    LastModified,
    Location,
    MaxForwards,
    Pragma,
    Proxy,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Vary,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
}

impl FieldName {
    /// Names are compared without case (RFC 9110 5.1).
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        // Length and first letter alone rule out nearly every other name.
        let first = name.first().map_or(0, |b| b | 0x20);
        let (found, field) = match (name.len(), first) {
            (2, b't') => (is_name(name, b"te"), Self::Te),
            (3, b'a') => (is_name(name, b"age"), Self::Age),
            (3, b'v') => (is_name(name, b"via"), Self::Via),
            (4, b'v') => (is_name(name, b"vary"), Self::Vary),
            (4, b'e') => (is_name(name, b"etag"), Self::ETag),
            (4, b'h') => (is_name(name, b"host"), Self::Host),
            (4, b'd') => (is_name(name, b"date"), Self::Date),
            (5, b'r') => (is_name(name, b"range"), Self::Range),
            (5, b'p') => (is_name(name, b"proxy"), Self::Proxy),
            (6, b'c') => (is_name(name, b"cookie"), Self::Cookie),
            (6, b'p') => (is_name(name, b"pragma"), Self::Pragma),
            (6, b'e') => (is_name(name, b"expect"), Self::Expect),
            (7, b'e') => (is_name(name, b"expires"), Self::Expires),
            (7, b't') => (is_name(name, b"trailer"), Self::Trailer),
            (7, b'u') => (is_name(name, b"upgrade"), Self::Upgrade),
            (8, b'i') if is_name(name, b"if-range") => (true, Self::IfRange),
            (8, b'i') => (is_name(name, b"if-match"), Self::IfMatch),
            (8, b'l') => (is_name(name, b"location"), Self::Location),
            (10, b'c') => (is_name(name, b"connection"), Self::Connection),
            (10, b'k') => (is_name(name, b"keep-alive"), Self::KeepAlive),
            (10, b's') => (is_name(name, b"set-cookie"), Self::SetCookie),
            (12, b'c') => (is_name(name, b"content-type"), Self::ContentType),
            (12, b'm') => (is_name(name, b"max-forwards"), Self::MaxForwards),
            (13, b'a') => (is_name(name, b"authorization"), Self::Authorization),
            (13, b'c') if is_name(name, b"cache-control") => (true, Self::CacheControl),
            (13, b'c') => (is_name(name, b"content-range"), Self::ContentRange),
            (13, b'i') => (is_name(name, b"if-none-match"), Self::IfNoneMatch),
            (13, b'l') => (is_name(name, b"last-modified"), Self::LastModified),
            (14, b'c') => (is_name(name, b"content-length"), Self::ContentLength),
            (15, b'a') => (is_name(name, b"accept-encoding"), Self::AcceptEncoding),
            (15, b'x') => (is_name(name, b"x-forwarded-for"), Self::XForwardedFor),
            (16, b'c') if is_name(name, b"content-encoding") => (true, Self::ContentEncoding),
            (16, b'c') => (is_name(name, b"content-location"), Self::ContentLocation),
            (16, b'p') => (is_name(name, b"proxy-connection"), Self::ProxyConnection),
            (16, b'x') => (is_name(name, b"x-forwarded-host"), Self::XForwardedHost),
            (17, b'i') => (is_name(name, b"if-modified-since"), Self::IfModifiedSince),
            (17, b't') => (is_name(name, b"transfer-encoding"), Self::TransferEncoding),
            (17, b'x') => (is_name(name, b"x-forwarded-proto"), Self::XForwardedProto),
            (18, b'p') => (is_name(name, b"proxy-authenticate"), Self::ProxyAuthenticate),
            (19, b'i') => (is_name(name, b"if-unmodified-since"), Self::IfUnmodifiedSince),
            (19, b'p') => (is_name(name, b"proxy-authorization"), Self::ProxyAuthorization),
            _ => return Self::Other,
        };
        if found { field } else { Self::Other }
    }

    /// Hop-by-hop whether or not Connection says so (RFC 9110 7.6.1, and what proxies long agree on).
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::Proxy // Not a field of HTTP, but CGI hands it on as HTTP_PROXY ("httpoxy").
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// Whether `name`, a token, is `text`, which has lower-case letters and hyphens only. Among the bytes of a token
/// only the capital is taken for its letter. The length is a constant, so that whole words are compared.
#[inline]
fn is_name<const N: usize>(name: &[u8], text: &[u8; N]) -> bool {
    match name.first_chunk::<N>() {
        Some(first) if name.len() == N => {
            first.iter().zip(text).fold(0, |differs, (a, b)| differs | ((a | 0x20) ^ b)) == 0
        }
        _ => false,
    }
}

/// Where one header line is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderSlot {
    pub name: Span,
    pub value: Span,
    pub known: FieldName,
    /// By its name or because Connection nominates it.
    pub hop_by_hop: bool,
    /// Written exactly `Name: value`, so that the line can be passed on in one piece.
    pub is_tidy: bool,
}

impl HeaderSlot {
    const EMPTY: HeaderSlot = HeaderSlot {
        name: Span::EMPTY,
        value: Span::EMPTY,
        known: FieldName::Other,
        hop_by_hop: false,
        is_tidy: false,
    };
}

/// Room for the slots of one head; owned by the caller, one per core is enough, and reused for every head.
#[derive(Clone, Debug)]
pub struct HeaderSlots {
    slots: [HeaderSlot; MAX_HEADERS],
    len: usize,
}

impl HeaderSlots {
    /// Empty.
    pub const fn new() -> Self {
        Self { slots: [HeaderSlot::EMPTY; MAX_HEADERS], len: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// `false` when it is full.
    #[inline]
    pub(crate) fn push(&mut self, slot: HeaderSlot) -> bool {
        match self.slots.get_mut(self.len) {
            Some(room) => {
                *room = slot;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[HeaderSlot] {
        &self.slots[..self.len]
    }

    /// Marks what `option`, an element of Connection, nominates. Early-Data is never to be removed (RFC 8470 5.1).
    pub(crate) fn nominate(&mut self, buf: &[u8], option: &[u8]) {
        if option.eq_ignore_ascii_case(EARLY_DATA) {
            return;
        }
        for slot in &mut self.slots[..self.len] {
            if slot.name.len() == option.len() && slot.name.of(buf).eq_ignore_ascii_case(option) {
                slot.hop_by_hop = true;
            }
        }
    }
}

impl Default for HeaderSlots {
    fn default() -> Self {
        Self::new()
    }
}

/// The header section of a parsed head.
#[derive(Clone, Copy)]
pub struct Headers<'b> {
    buf: &'b [u8],
    slots: &'b [HeaderSlot],
}

impl<'b> Headers<'b> {
    pub(crate) fn new(buf: &'b [u8], slots: &'b [HeaderSlot]) -> Self {
        Self { buf, slots }
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Names as they were written, and values without the blanks around them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
        let buf = self.buf;
        self.slots.iter().map(move |slot| (slot.name.of(buf), slot.value.of(buf)))
    }

    /// The values of every line with this name, in order.
    pub fn get_all<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        let buf = self.buf;
        self.slots
            .iter()
            .filter(move |slot| slot.name.len() == name.len() && slot.name.of(buf).eq_ignore_ascii_case(name))
            .map(move |slot| slot.value.of(buf))
    }

    /// The first value with this name.
    pub fn get(&self, name: &[u8]) -> Option<&'b [u8]> {
        self.get_all(name).next()
    }

    /// The values of every line of a field that is known by number, which is cheaper.
    pub fn known(&self, name: FieldName) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let buf = self.buf;
        self.slots.iter().filter(move |slot| slot.known == name).map(move |slot| slot.value.of(buf))
    }

    /// The options that Connection lists (RFC 9110 7.6.1): `close` and the like, and names of other fields.
    pub fn connection_options(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.known(FieldName::Connection).flat_map(bytes::list).filter(|option| !option.is_empty())
    }

    /// Whether a field of this name must not be forwarded: by its own nature or because Connection nominates it.
    pub fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        FieldName::of(name).is_hop_by_hop()
            || self.connection_options().any(|option| option.eq_ignore_ascii_case(name))
    }

    pub(crate) fn slots(&self) -> &'b [HeaderSlot] {
        self.slots
    }

    pub(crate) fn buf(&self) -> &'b [u8] {
        self.buf
    }
}

/// Whose message it is: a few rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// One header line as it stands in the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldLine {
    pub name: (usize, usize),
    pub value: (usize, usize),
    pub is_tidy: bool,
    /// Where the next line begins.
    pub next: usize,
}

/// The header line at `pos`, up to and with its CRLF; `None` when that is not there yet and nothing is wrong so
/// far. An empty line is for the caller to see first.
#[inline]
pub(crate) fn parse_line(buf: &[u8], pos: usize, side: Side) -> Result<Option<FieldLine>, RejectReason> {
    let name_end = bytes::skip::<TOKEN>(buf, pos);
    let colon = match buf.get(name_end) {
        None => return Ok(None),
        Some(b':') if name_end > pos => name_end,
        Some(_) => match unusual_name(buf, pos, name_end, side)? {
            Some(colon) => colon,
            None => return Ok(None),
        },
    };
    // One space, as nearly everybody writes it.
    let start = match buf.get(colon + 1..colon + 3) {
        Some([b' ', b]) if !bytes::is_blank(*b) => colon + 2,
        _ => bytes::skip_blanks(buf, colon + 1),
    };
    let line_end = bytes::text_end(buf, start);
    match (buf.get(line_end), buf.get(line_end + 1)) {
        (None, _) | (Some(b'\r'), None) => return Ok(None),
        (Some(b'\r'), Some(b'\n')) => {}
        (Some(b'\r'), Some(_)) => return Err(RejectReason::BareCr),
        (Some(b'\n'), _) => return Err(RejectReason::BareLf),
        (Some(_), _) => return Err(RejectReason::ControlByte),
    }
    let mut end = line_end;
    while end > start && bytes::is_blank(buf[end - 1]) {
        end -= 1;
    }
    let is_tidy = end == line_end && colon == name_end && start == colon + 2 && buf[colon + 1] == b' ';
    Ok(Some(FieldLine { name: (pos, name_end), value: (start, end), is_tidy, next: line_end + 2 }))
}

/// A name that is not followed by its colon: where the colon is, if that may be forgiven.
#[cold]
fn unusual_name(buf: &[u8], pos: usize, name_end: usize, side: Side) -> Result<Option<usize>, RejectReason> {
    match buf[name_end] {
        b':' => Err(RejectReason::FieldNameEmpty),
        b' ' | b'\t' if name_end == pos => Err(RejectReason::ObsFold),
        b' ' | b'\t' => {
            let colon = bytes::skip_blanks(buf, name_end);
            match (buf.get(colon), side) {
                (None, _) => Ok(None),
                // RFC 9112 5.1: refused in a request; a proxy removes it from a response.
                (Some(b':'), Side::Response) => Ok(Some(colon)),
                (Some(b':'), Side::Request) => Err(RejectReason::SpaceBeforeColon),
                (Some(_), _) => Err(RejectReason::FieldNameInvalid),
            }
        }
        b'\n' => Err(RejectReason::BareLf),
        b'\r' => match buf.get(name_end + 1) {
            None => Ok(None),
            Some(b'\n') => Err(RejectReason::ColonMissing),
            Some(_) => Err(RejectReason::BareCr),
        },
        b if !bytes::is_text(b) => Err(RejectReason::ControlByte),
        _ => Err(RejectReason::FieldNameInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_small() {
        assert!(size_of::<HeaderSlot>() <= 12);
    }

    #[test]
    fn known_names_are_found_in_any_case_and_only_whole() {
        assert_eq!(FieldName::of(b"tRANSFER-eNCODING"), FieldName::TransferEncoding);
        assert_eq!(FieldName::of(b"Content-Length"), FieldName::ContentLength);
        assert_eq!(FieldName::of(b"Content_Length"), FieldName::Other);
        assert_eq!(FieldName::of(b"Transfer-Encodin"), FieldName::Other);
        assert_eq!(FieldName::of(b""), FieldName::Other);
        for (name, known) in [
            (&b"age"[..], FieldName::Age),
            (b"Accept-Encoding", FieldName::AcceptEncoding),
            (b"authorization", FieldName::Authorization),
            (b"CACHE-CONTROL", FieldName::CacheControl),
            (b"Content-Encoding", FieldName::ContentEncoding),
            (b"Content-Location", FieldName::ContentLocation),
            (b"Content-Range", FieldName::ContentRange),
            (b"Content-Type", FieldName::ContentType),
            (b"Cookie", FieldName::Cookie),
            (b"ETag", FieldName::ETag),
            (b"Expires", FieldName::Expires),
            (b"If-Match", FieldName::IfMatch),
            (b"If-Modified-Since", FieldName::IfModifiedSince),
            (b"If-None-Match", FieldName::IfNoneMatch),
            (b"If-Range", FieldName::IfRange),
            (b"If-Unmodified-Since", FieldName::IfUnmodifiedSince),
            (b"Last-Modified", FieldName::LastModified),
            (b"Location", FieldName::Location),
            (b"Pragma", FieldName::Pragma),
            (b"Range", FieldName::Range),
            (b"Set-Cookie", FieldName::SetCookie),
            (b"Vary", FieldName::Vary),
        ] {
            assert_eq!(FieldName::of(name), known, "{}", name.escape_ascii());
            assert!(!known.is_hop_by_hop());
        }
    }
}
