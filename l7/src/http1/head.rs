//! Request and response heads (RFC 9112 2 to 5): one pass over the bytes, and everything strict.
//!
//! Our own parser rather than httparse with a second look: the rules that matter (bare LF, folding, blanks
//! before a colon, targets, repeated framing fields) have to be decided byte by byte anyway, and doing it in the
//! same pass costs less than asking twice. Numbers are in the commit that brought it.

use core::fmt;

use super::bytes::{self, TOKEN};
use super::field::{self, FieldName, HeaderSlot, HeaderSlots, Headers, Side, Span};
use super::framing::{BodyLength, Facts, Framing, Upgrade};
use super::limits::HttpLimits;
use super::method::{Method, Version};
use super::reject::{Reject, RejectReason};
use super::scan::HeadScan;
use super::target::{self, Scheme, Target, TargetForm};

/// What came of a look at the bytes.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<T> {
    /// Nothing is wrong so far and the end is not there yet.
    Partial,
    /// The head, and how many bytes it took, an empty line before it included.
    Complete(T, usize),
}

/// Parses the request head at the start of `buf`.
///
/// `buf` holds everything received of this head so far: when the answer is `Partial`, call again with the same
/// bytes and more after them, and with the same `scan`, which keeps that from being quadratic. On `Complete` or
/// an error `scan` is reset.
pub fn parse_request<'b>(
    buf: &'b [u8],
    scan: &mut HeadScan,
    limits: &HttpLimits,
    slots: &'b mut HeaderSlots,
) -> Result<Parsed<RequestHead<'b>>, Reject> {
    let window = limits.head_window(buf);
    let parts = settle(scan, window, Side::Request, limits, |limits| request_parts(window, limits, slots))
        .map_err(Reject::request)?;
    Ok(match parts {
        None => Parsed::Partial,
        Some(parts) => {
            let consumed = parts.consumed;
            Parsed::Complete(RequestHead { headers: Headers::new(buf, slots.as_slice()), parts }, consumed)
        }
    })
}

/// Parses the response head at the start of `buf`; the contract is that of [`parse_request`]. How the body is
/// framed depends on the method of the request that it answers.
pub fn parse_response<'b>(
    buf: &'b [u8],
    request_method: Method,
    scan: &mut HeadScan,
    limits: &HttpLimits,
    slots: &'b mut HeaderSlots,
) -> Result<Parsed<ResponseHead<'b>>, Reject> {
    let window = limits.head_window(buf);
    let parts = settle(scan, window, Side::Response, limits, |limits| {
        response_parts(window, request_method, limits, slots)
    })
    .map_err(Reject::response)?;
    Ok(match parts {
        None => Parsed::Partial,
        Some(parts) => {
            let consumed = parts.consumed;
            Parsed::Complete(ResponseHead { headers: Headers::new(buf, slots.as_slice()), parts }, consumed)
        }
    })
}

/// A request head: views into the bytes that it was parsed from.
#[derive(Clone, Copy)]
pub struct RequestHead<'b> {
    headers: Headers<'b>,
    parts: RequestParts,
}

impl<'b> RequestHead<'b> {
    /// The method.
    pub fn method(&self) -> Method {
        self.parts.method
    }

    /// The method as it was written.
    pub fn method_bytes(&self) -> &'b [u8] {
        self.parts.method_span.of(self.headers.buf())
    }

    /// The target as it was written.
    pub fn target(&self) -> &'b [u8] {
        self.parts.target.of(self.headers.buf())
    }

    /// The form of the target.
    pub fn target_form(&self) -> TargetForm {
        self.parts.form
    }

    /// The scheme that an absolute target names.
    pub fn scheme(&self) -> Option<Scheme> {
        self.parts.scheme
    }

    /// The path as it was written, never decoded; `/` when an absolute target has none, `*` for asterisk-form
    /// and for `OPTIONS http://host` (RFC 9112 3.2.4).
    pub fn path(&self) -> &'b [u8] {
        match self.parts.path.of(self.headers.buf()) {
            [] if self.parts.method == Method::Options && self.parts.query.is_none() => b"*",
            [] => b"/",
            path => path,
        }
    }

    /// What is after the `?`, if there is one.
    pub fn query(&self) -> Option<&'b [u8]> {
        self.parts.query.map(|span| span.of(self.headers.buf()))
    }

    /// The host that the request is for, port split off, brackets kept, case as written: from the target where
    /// that has one, else from Host. Empty only in HTTP/1.0 without Host.
    pub fn host(&self) -> &'b [u8] {
        self.parts.host.of(self.headers.buf())
    }

    /// The port, if one was named.
    pub fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// Host and port as they were written.
    pub fn authority(&self) -> &'b [u8] {
        self.parts.authority.of(self.headers.buf())
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// The header lines.
    pub fn headers(&self) -> Headers<'b> {
        self.headers
    }

    /// How long the body is.
    pub fn body(&self) -> BodyLength {
        self.parts.framing.body
    }

    /// Whether the client wants the connection to go on (RFC 9112 9.3).
    pub fn keep_alive(&self) -> bool {
        self.parts.framing.keep_alive
    }

    /// Whether the client waits for 100 (RFC 9110 10.1.1).
    pub fn expect_continue(&self) -> bool {
        self.parts.framing.expect_continue
    }

    /// Upgrade together with Connection: upgrade (RFC 9110 7.8).
    pub fn upgrade(&self) -> Upgrade {
        self.parts.framing.upgrade
    }

    /// Whether the client takes trailers (RFC 9110 10.1.4).
    pub fn takes_trailers(&self) -> bool {
        self.parts.framing.te_trailers
    }

    /// Max-Forwards where it binds us (RFC 9110 7.6.2): at 0 the request is answered here, not forwarded.
    pub fn max_forwards(&self) -> Option<u64> {
        match self.parts.method {
            Method::Options | Method::Trace => {
                self.headers.known(FieldName::MaxForwards).next().and_then(bytes::decimal)
            }
            _ => None,
        }
    }
}

impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({}) {:?} body {:?}",
            self.method_bytes().escape_ascii(),
            self.target().escape_ascii(),
            self.authority().escape_ascii(),
            self.version(),
            self.body()
        )
    }
}

/// A response head: views into the bytes that it was parsed from.
#[derive(Clone, Copy)]
pub struct ResponseHead<'b> {
    headers: Headers<'b>,
    parts: ResponseParts,
}

impl<'b> ResponseHead<'b> {
    /// The status, 100 to 599.
    pub fn status(&self) -> u16 {
        self.parts.status
    }

    /// Whether it is interim: 1xx but not 101, another response follows (RFC 9110 15.2).
    pub fn is_interim(&self) -> bool {
        self.parts.status < 200 && self.parts.status != 101
    }

    /// The reason phrase, often empty.
    pub fn reason(&self) -> &'b [u8] {
        self.parts.reason.of(self.headers.buf())
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// The header lines.
    pub fn headers(&self) -> Headers<'b> {
        self.headers
    }

    /// How long the body is.
    pub fn body(&self) -> BodyLength {
        self.parts.framing.body
    }

    /// What Content-Length says, also where there is no body (HEAD, 304).
    pub fn content_length(&self) -> Option<u64> {
        self.parts.framing.content_length
    }

    /// Whether the origin lets the connection go on after this response.
    pub fn keep_alive(&self) -> bool {
        self.parts.framing.keep_alive
    }

    /// The protocol of a 101.
    pub fn upgrade(&self) -> Upgrade {
        self.parts.framing.upgrade
    }
}

impl fmt::Debug for ResponseHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.status(), self.reason().escape_ascii(), self.body())
    }
}

/// Everything about a request head that is not a header line.
#[derive(Clone, Copy)]
struct RequestParts {
    method: Method,
    version: Version,
    form: TargetForm,
    scheme: Option<Scheme>,
    method_span: Span,
    target: Span,
    path: Span,
    query: Option<Span>,
    authority: Span,
    host: Span,
    port: Option<u16>,
    framing: Framing,
    consumed: usize,
}

/// Everything about a response head that is not a header line.
#[derive(Clone, Copy)]
struct ResponseParts {
    status: u16,
    version: Version,
    reason: Span,
    framing: Framing,
    consumed: usize,
}

/// Parses at once where that is likely to succeed, else only when the scan has found the end.
fn settle<T>(
    scan: &mut HeadScan,
    window: &[u8],
    side: Side,
    limits: &HttpLimits,
    mut parse: impl FnMut(&HttpLimits) -> Result<Option<T>, RejectReason>,
) -> Result<Option<T>, RejectReason> {
    let outcome = (|| {
        if !scan.has_begun()
            && let Some(parts) = parse(limits)?
        {
            return Ok(Some(parts));
        }
        if scan.advance(window, side, limits)? {
            let parts = parse(limits)?;
            debug_assert!(parts.is_some(), "the scan found the end");
            return Ok(parts);
        }
        if window.len() >= limits.head_ceiling() {
            return Err(RejectReason::HeadTooLarge);
        }
        Ok(None)
    })();
    if !matches!(outcome, Ok(None)) {
        scan.reset();
    }
    outcome
}

fn request_parts(
    buf: &[u8],
    limits: &HttpLimits,
    slots: &mut HeaderSlots,
) -> Result<Option<RequestParts>, RejectReason> {
    let Some(start) = skip_leading_line(buf, Side::Request)? else { return Ok(None) };
    let Some(line) = request_line(buf, start, limits)? else { return Ok(None) };
    let mut facts = Facts::default();
    let Some(end) = header_section(buf, line.next, Side::Request, limits, slots, &mut facts)? else {
        return Ok(None);
    };
    let framing = facts.request(line.method, line.version)?;
    let (authority, host, port) = effective_host(buf, &line, &facts)?;
    Ok(Some(RequestParts {
        method: line.method,
        version: line.version,
        form: line.target.form,
        scheme: line.target.scheme,
        method_span: line.method_span,
        target: Span::new(line.method_span.end() + 1, line.target.end),
        path: line.target.path,
        query: line.target.query,
        authority,
        host,
        port,
        framing,
        consumed: end,
    }))
}

fn response_parts(
    buf: &[u8],
    request_method: Method,
    limits: &HttpLimits,
    slots: &mut HeaderSlots,
) -> Result<Option<ResponseParts>, RejectReason> {
    let Some(start) = skip_leading_line(buf, Side::Response)? else { return Ok(None) };
    let Some(line) = status_line(buf, start)? else { return Ok(None) };
    let mut facts = Facts::default();
    let Some(end) = header_section(buf, line.next, Side::Response, limits, slots, &mut facts)? else {
        return Ok(None);
    };
    let framing = facts.response(line.status, request_method, line.version)?;
    Ok(Some(ResponseParts {
        status: line.status,
        version: line.version,
        reason: line.reason,
        framing,
        consumed: end,
    }))
}

/// One empty line before a request line is ignored (RFC 9112 2.2); before a status line it is not.
fn skip_leading_line(buf: &[u8], side: Side) -> Result<Option<usize>, RejectReason> {
    match buf {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] if side == Side::Request => Ok(None),
        [b'\r', b'\n', b'\r', b'\n', ..] if side == Side::Request => Err(RejectReason::LeadingEmptyLines),
        [b'\r', b'\n', ..] => check_leading_line(0, side).map(|()| Some(2)),
        [b'\r', ..] => Err(RejectReason::BareCr),
        _ => Ok(Some(0)),
    }
}

/// The same rule for the scan: an empty line that begins at `start`, before any other.
pub(crate) fn check_leading_line(start: usize, side: Side) -> Result<(), RejectReason> {
    match (side, start) {
        (Side::Request, 0) => Ok(()),
        (Side::Request, _) => Err(RejectReason::LeadingEmptyLines),
        (Side::Response, _) => Err(RejectReason::StatusLineMalformed),
    }
}

/// A complete start line, for the scan.
pub(crate) fn check_start_line(
    buf: &[u8],
    start: usize,
    side: Side,
    limits: &HttpLimits,
) -> Result<(), RejectReason> {
    match side {
        Side::Request => request_line(buf, start, limits).map(|_| ()),
        Side::Response => status_line(buf, start).map(|_| ()),
    }
}

/// A start line without its end, for the scan: garbage shows in the first bytes.
pub(crate) fn check_open_start_line(
    line: &[u8],
    side: Side,
    limits: &HttpLimits,
) -> Result<(), RejectReason> {
    match side {
        // Not the phrase: the scan has seen to its bytes, and this is called again for every piece.
        Side::Response => status_line(line.get(..13).unwrap_or(line), 0).map(|_| ()),
        Side::Request => {
            let Some((_, end)) = method_at(line, 0, limits)? else { return Ok(()) };
            // The longest that may follow a target is the version and CR.
            let rest = line.len() - (end + 1);
            if rest > limits.target_bytes_max.saturating_add(b" HTTP/1.1\r".len()) {
                return Err(RejectReason::TargetTooLong);
            }
            // The form is known from the first bytes; the rest is looked at when the line is complete.
            let rest = &line[end + 1..];
            match rest.first() {
                None | Some(b'/' | b'*' | b'h' | b'H') => Ok(()),
                Some(&b) if !bytes::is(b, bytes::QUERY) => Err(target::fault_of(b)),
                Some(_) => Err(RejectReason::TargetFormInvalid),
            }
        }
    }
}

struct RequestLine {
    method: Method,
    method_span: Span,
    target: Target,
    version: Version,
    next: usize,
}

/// `method SP request-target SP HTTP-version CRLF`, with single spaces (RFC 9112 3).
#[inline]
fn request_line(buf: &[u8], start: usize, limits: &HttpLimits) -> Result<Option<RequestLine>, RejectReason> {
    let Some((method, method_end)) = method_at(buf, start, limits)? else { return Ok(None) };
    let target_start = method_end + 1;
    let Some(target) = target::parse(buf, target_start, method)? else { return Ok(None) };
    if target.end - target_start > limits.target_bytes_max {
        return Err(RejectReason::TargetTooLong);
    }
    let rest = &buf[target.end + 1..];
    let version = match rest.first_chunk::<10>() {
        Some(b"HTTP/1.1\r\n") => Version::Http11,
        Some(b"HTTP/1.0\r\n") => Version::Http10,
        _ => return bad_version(rest).map(|()| None),
    };
    Ok(Some(RequestLine {
        method,
        method_span: Span::new(start, method_end),
        target,
        version,
        next: target.end + 11,
    }))
}

/// The method, and where the space after it is.
#[inline]
fn method_at(buf: &[u8], start: usize, limits: &HttpLimits) -> Result<Option<(Method, usize)>, RejectReason> {
    let end = bytes::skip::<TOKEN>(buf, start);
    if end - start > limits.method_bytes_max {
        return Err(RejectReason::MethodTooLong);
    }
    match buf.get(end) {
        None => Ok(None),
        Some(b' ') if end > start => match Method::of(&buf[start..end]) {
            Method::Connect => Err(RejectReason::ConnectRefused),
            method => Ok(Some((method, end))),
        },
        Some(b'\n') => Err(RejectReason::BareLf),
        Some(&b) if b != b'\r' && !bytes::is_text(b) => Err(RejectReason::ControlByte),
        Some(b'\r') => match buf.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => Err(RejectReason::RequestLineMalformed),
            Some(_) => Err(RejectReason::BareCr),
        },
        Some(_) => Err(RejectReason::MethodInvalid),
    }
}

/// What is wrong with bytes that are not a version that we speak and its CRLF; `Ok` while they may become that.
#[cold]
fn bad_version(rest: &[u8]) -> Result<(), RejectReason> {
    for (at, &b) in rest.iter().take(10).enumerate() {
        let good = match at {
            0..=4 => b == b"HTTP/"[at],
            5 | 7 => b.is_ascii_digit(),
            6 => b == b'.',
            8 => b == b'\r',
            _ => b == b'\n',
        };
        if !good {
            return Err(match b {
                b'\n' if at > 0 => RejectReason::BareLf,
                b'\r' => RejectReason::VersionMalformed,
                _ if at == 9 => RejectReason::BareCr,
                _ if !bytes::is_text(b) => RejectReason::ControlByte,
                _ => RejectReason::VersionMalformed,
            });
        }
    }
    match rest {
        // Known as soon as the digits are there.
        [_, _, _, _, _, major, _, minor, ..]
            if (*major, *minor) != (b'1', b'0') && (*major, *minor) != (b'1', b'1') =>
        {
            Err(RejectReason::VersionUnsupported)
        }
        _ => Ok(()),
    }
}

struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
    next: usize,
}

/// `HTTP-version SP 3DIGIT SP [reason-phrase] CRLF` (RFC 9112 4). The second space may be missing with the phrase,
/// as many servers have it.
fn status_line(buf: &[u8], start: usize) -> Result<Option<StatusLine>, RejectReason> {
    let line = &buf[start..];
    for (at, &b) in line.iter().take(12).enumerate() {
        let good = match at {
            0..=4 => b == b"HTTP/"[at],
            5 | 7 | 9..=11 => b.is_ascii_digit(),
            6 => b == b'.',
            _ => b == b' ',
        };
        if !good {
            return Err(match b {
                b'\n' => RejectReason::BareLf,
                b'\r' => RejectReason::StatusLineMalformed,
                _ if !bytes::is_text(b) => RejectReason::ControlByte,
                _ => RejectReason::StatusLineMalformed,
            });
        }
    }
    let version = match line.get(5..8) {
        None => return Ok(None),
        Some(b"1.1") => Version::Http11,
        Some(b"1.0") => Version::Http10,
        Some(_) => return Err(RejectReason::VersionUnsupported),
    };
    let Some(digits) = line.get(9..12) else { return Ok(None) };
    let status = digits.iter().fold(0u16, |n, &b| n * 10 + u16::from(b - b'0'));
    if !(100..=599).contains(&status) {
        return Err(RejectReason::StatusInvalid);
    }
    let phrase = match line.get(12) {
        None => return Ok(None),
        Some(b' ') => 13,
        Some(b'\r' | b'\n') => 12,
        Some(_) => return Err(RejectReason::StatusLineMalformed),
    };
    let end = bytes::text_end(line, phrase);
    match (line.get(end), line.get(end + 1)) {
        (None, _) | (Some(b'\r'), None) => Ok(None),
        (Some(b'\r'), Some(b'\n')) => Ok(Some(StatusLine {
            version,
            status,
            reason: Span::new(start + phrase, start + end),
            next: start + end + 2,
        })),
        (Some(b'\r'), Some(_)) => Err(RejectReason::BareCr),
        (Some(b'\n'), _) => Err(RejectReason::BareLf),
        (Some(_), _) => Err(RejectReason::ControlByte),
    }
}

/// The header lines from `pos` on, into `slots`; where the body begins.
#[inline]
fn header_section(
    buf: &[u8],
    mut pos: usize,
    side: Side,
    limits: &HttpLimits,
    slots: &mut HeaderSlots,
    facts: &mut Facts,
) -> Result<Option<usize>, RejectReason> {
    slots.clear();
    let headers_max = limits.headers_ceiling();
    loop {
        if buf.get(pos) == Some(&b'\r') {
            match buf.get(pos + 1) {
                None => return Ok(None),
                Some(b'\n') => break,
                Some(_) => return Err(RejectReason::BareCr),
            }
        }
        let Some(line) = field::parse_line(buf, pos, side)? else { return Ok(None) };
        let name = Span::new(line.name.0, line.name.1);
        let known = FieldName::of(name.of(buf));
        if known != FieldName::Other {
            facts.note(known, &buf[line.value.0..line.value.1], line.value)?;
        }
        let slot = HeaderSlot {
            name,
            value: Span::new(line.value.0, line.value.1),
            known,
            hop_by_hop: known.is_hop_by_hop(),
            is_tidy: line.is_tidy,
        };
        if slots.len() >= headers_max || !slots.push(slot) {
            return Err(RejectReason::TooManyHeaders);
        }
        pos = line.next;
    }
    facts.note_connection(buf, slots, limits)?;
    Ok(Some(pos + 2))
}

/// The authority that the request is for, its host and its port (RFC 9112 3.2, 3.3).
fn effective_host(
    buf: &[u8],
    line: &RequestLine,
    facts: &Facts,
) -> Result<(Span, Span, Option<u16>), RejectReason> {
    let named = match facts.host() {
        Some((start, end)) => Some(split_authority(buf, Span::new(start, end))?),
        // RFC 9112 3.2: also with an absolute target.
        None if line.version == Version::Http11 => return Err(RejectReason::HostMissing),
        None => None,
    };
    if line.target.form == TargetForm::Absolute {
        return split_authority(buf, line.target.authority);
    }
    Ok(named.unwrap_or((Span::EMPTY, Span::EMPTY, None)))
}

fn split_authority(buf: &[u8], span: Span) -> Result<(Span, Span, Option<u16>), RejectReason> {
    let (host, port) = target::parse_authority(span.of(buf)).ok_or(RejectReason::HostInvalid)?;
    Ok((span, Span::new(span.start(), span.start() + host.len()), port))
}
