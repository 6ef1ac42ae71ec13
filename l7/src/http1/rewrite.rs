//! Writing the heads that a gateway sends on (RFC 9110 7.6, RFC 9112 3.2, 6.1, 9.6).
//!
//! Header lines that are already as they should be are copied, many at a time where they lie side by side. What
//! concerns one connection only, framing included, is left out and said anew.

use core::fmt::{self, Write};
use core::net::IpAddr;

use super::bytes;
use super::field::{FieldName, HeaderSlot, Headers};
use super::framing::{self, BodyLength, Upgrade};
use super::head::{RequestHead, ResponseHead};
use super::method::{Method, Version};
use super::sink::{Full, HeadSink};
use super::target::Scheme;
use crate::phases::{EditList, HeadEdit, Vars};
use crate::tls::certs::Identity;

/// What the head of a request to an origin needs beyond the client's head.
#[derive(Clone, Copy, Debug)]
pub struct ToOrigin<'a> {
    /// For X-Forwarded-For.
    pub client_ip: IpAddr,
    /// Whether the client came over TLS, for X-Forwarded-Proto.
    pub client_tls: bool,
    /// Who it is by its certificate, for the edits.
    pub identity: Option<&'a Identity>,
    /// Host for the origin, if it is not to be the one that the client asked for. An HTTP/1.0 client may have
    /// asked for none ([`RequestHead::authority`] is empty): then it has to be named here.
    pub host: Option<&'a [u8]>,
    /// Whether to pass on `Expect: 100-continue`; its 100 then comes from the origin. Else the caller sends
    /// its own with [`super::write_100_continue`].
    pub forward_expect: bool,
    /// Whether to pass on a wish to upgrade; h2c never is.
    pub forward_upgrade: bool,
    /// Whether the connection to the origin may be used again.
    pub keep_alive: bool,
    /// What is set, added and removed besides.
    pub edits: &'a [&'a HeadEdit],
}

/// What the head of a response to a client needs beyond the origin's head.
#[derive(Clone, Copy, Debug)]
pub struct ToClient<'a> {
    /// The version of the request.
    pub version: Version,
    /// The method of the request.
    pub method: Method,
    /// Whether the client's connection goes on, as [`super::ServerConn::respond`] says.
    pub keep_alive: bool,
    /// For a response that has no Date (RFC 9110 6.6.1): [`super::http_date::format`].
    pub date: &'a [u8; 29],
    /// Whole lines of the node's own, Cache-Status or none: behind those that came of that name (RFC 9211 2).
    pub own: &'a [u8],
    /// What is set, added and removed besides.
    pub edits: EditList<'a>,
}

/// What the writers ask of edits. There are two: none at all, which leaves nothing of it in the code, and a list.
pub(crate) trait Editing {
    /// Whether a line that came with the message stays behind.
    fn drops(&self, known: FieldName, name: &[u8]) -> bool;
    /// Whether a line that the node would add stays out.
    fn replaces(&self, name: &[u8]) -> bool;
    /// Writes the lines that are added.
    fn append(&self, sink: &mut impl HeadSink) -> Result<(), Full>;
}

/// No edits.
struct AsItIs;

impl Editing for AsItIs {
    fn drops(&self, _: FieldName, _: &[u8]) -> bool {
        false
    }

    fn replaces(&self, _: &[u8]) -> bool {
        false
    }

    fn append(&self, _: &mut impl HeadSink) -> Result<(), Full> {
        Ok(())
    }
}

/// How the body of `head` is framed for a client of `version`.
pub fn outgoing_body(head: &ResponseHead<'_>, version: Version) -> BodyLength {
    match (head.body(), version) {
        (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => BodyLength::UntilClose,
        (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) => BodyLength::Chunked,
        (length, _) => length,
    }
}

/// Writes the head of the request that goes to the origin. Its body is to be framed as `head.body()` says.
pub fn write_request_to_origin(
    head: &RequestHead<'_>,
    ctx: &ToOrigin<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    write_request(head, head.method_bytes(), ctx, |_| true, sink)?;
    sink.put(b"\r\n")
}

/// The same under another method, with those lines only that `keep` wants, and without the empty line at the end:
/// the caller may have more to say.
pub(crate) fn write_request(
    head: &RequestHead<'_>,
    method: &[u8],
    ctx: &ToOrigin<'_>,
    keep: impl Fn(FieldName) -> bool,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    if ctx.edits.is_empty() {
        return edited_request(head, method, ctx, keep, &AsItIs, sink);
    }
    let vars = Vars {
        client_ip: ctx.client_ip,
        scheme: if ctx.client_tls { Scheme::Https } else { Scheme::Http },
        host: head.host(),
        path: head.path(),
        identity: ctx.identity,
    };
    edited_request(head, method, ctx, keep, &EditList { edits: ctx.edits, vars }, sink)
}

#[inline]
fn edited_request(
    head: &RequestHead<'_>,
    method: &[u8],
    ctx: &ToOrigin<'_>,
    keep: impl Fn(FieldName) -> bool,
    edits: &impl Editing,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    sink.put(method)?;
    sink.put(b" ")?;
    sink.put(head.path())?;
    if let Some(query) = head.query() {
        sink.put(b"?")?;
        sink.put(query)?;
    }
    // We speak our own version, whatever the client spoke (RFC 9110 2.5). Host comes first (RFC 9110 7.2).
    sink.put(b" HTTP/1.1\r\nHost: ")?;
    sink.put(ctx.host.unwrap_or(head.authority()))?;
    sink.put(b"\r\n")?;

    let headers = head.headers();
    let buf = headers.buf();
    let max_forwards = head.max_forwards();
    pass_on(&headers, sink, |slot| match slot.known {
        FieldName::Host
        | FieldName::ContentLength
        | FieldName::Expect
        | FieldName::XForwardedFor
        | FieldName::XForwardedHost
        | FieldName::XForwardedProto => false,
        FieldName::MaxForwards => max_forwards.is_none(),
        FieldName::Trailer => head.body() == BodyLength::Chunked,
        known => keep(known) && !edits.drops(known, slot.name.of(buf)),
    })?;

    put_framing(head.body(), sink)?;
    if let Some(left) = max_forwards {
        put_number(b"Max-Forwards: ", left.saturating_sub(1), sink)?;
    }
    if ctx.forward_expect && head.expect_continue() {
        sink.put(b"Expect: 100-continue\r\n")?;
    }
    put_via(head.version(), sink)?;
    put_forwarded(head, ctx, edits, sink)?;
    edits.append(sink)?;

    let te = head.takes_trailers();
    if te {
        sink.put(b"TE: trailers\r\n")?;
    }
    let upgrade = ctx.forward_upgrade && head.upgrade() != Upgrade::None;
    if upgrade {
        put_upgrade(&headers, sink)?;
    }
    put_connection(&[(te, b"TE"), (upgrade, b"Upgrade"), (!ctx.keep_alive, b"close")], sink)
}

/// Writes the head of a final response, or of a 101, for the client. The body is to be framed as
/// [`outgoing_body`] says; where that is `UntilClose` the connection cannot be kept.
pub fn write_response_to_client(
    head: &ResponseHead<'_>,
    ctx: &ToClient<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    debug_assert!(!head.is_interim());
    if ctx.edits.edits.is_empty() {
        response_to_client(head, ctx, &AsItIs, sink)
    } else {
        edited_response_to_client(head, ctx, sink)
    }
}

/// Apart, as for a request.
#[inline(never)]
fn edited_response_to_client(
    head: &ResponseHead<'_>,
    ctx: &ToClient<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    response_to_client(head, ctx, &ctx.edits, sink)
}

#[inline]
fn response_to_client(
    head: &ResponseHead<'_>,
    ctx: &ToClient<'_>,
    edits: &impl Editing,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    let body = outgoing_body(head, ctx.version);
    let keep_alive = ctx.keep_alive && body != BodyLength::UntilClose;
    put_status_line(head, sink)?;
    let headers = head.headers();
    let buf = headers.buf();
    pass_on(&headers, sink, |slot| match slot.known {
        FieldName::ContentLength => false,
        FieldName::Trailer => body == BodyLength::Chunked,
        known => !edits.drops(known, slot.name.of(buf)),
    })?;

    match head.content_length() {
        // The length that GET would have had (RFC 9110 8.6). Other messages without a body have none.
        Some(length) if body == BodyLength::None && (head.status() == 304 || is_head_ok(head, ctx)) => {
            put_number(b"Content-Length: ", length, sink)?;
        }
        _ => put_framing(body, sink)?,
    }
    if !headers.slots().iter().any(|slot| slot.known == FieldName::Date && !slot.hop_by_hop) {
        sink.put(b"Date: ")?;
        sink.put(ctx.date)?;
        sink.put(b"\r\n")?;
    }
    if !edits.replaces(b"via") {
        put_via(head.version(), sink)?;
    }
    if !ctx.own.is_empty() && !edits.drops(FieldName::Other, b"cache-status") {
        sink.put(ctx.own)?;
    }
    edits.append(sink)?;
    let upgrade = head.status() == 101;
    if upgrade {
        put_upgrade(&headers, sink)?;
    }
    let keep_10 = keep_alive && ctx.version == Version::Http10;
    put_connection(
        &[(upgrade, b"Upgrade"), (!keep_alive && !upgrade, b"close"), (keep_10, b"keep-alive")],
        sink,
    )?;
    sink.put(b"\r\n")
}

/// Writes an interim response for the client. `false`: nothing was written, as HTTP/1.0 knows none
/// (RFC 9110 15.2).
pub fn write_interim_to_client(
    head: &ResponseHead<'_>,
    version: Version,
    sink: &mut impl HeadSink,
) -> Result<bool, Full> {
    debug_assert!(head.is_interim());
    if version == Version::Http10 {
        return Ok(false);
    }
    put_status_line(head, sink)?;
    pass_on(&head.headers(), sink, |slot| {
        !matches!(slot.known, FieldName::ContentLength | FieldName::Trailer)
    })?;
    put_via(head.version(), sink)?;
    sink.put(b"\r\n")?;
    Ok(true)
}

/// Writes the end of the head of a final response that we make ourselves, after its own lines: framing, Connection,
/// and the empty line. A body `UntilClose` ends the connection.
pub fn put_head_end(
    body: BodyLength,
    version: Version,
    keep_alive: bool,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    let keep_alive = keep_alive && body != BodyLength::UntilClose;
    put_framing(body, sink)?;
    match (keep_alive, version) {
        (true, Version::Http11) => sink.put_text(b"\r\n"),
        (true, Version::Http10) => sink.put(b"Connection: keep-alive\r\n\r\n"),
        (false, _) => sink.put(b"Connection: close\r\n\r\n"),
    }
}

/// Whether it answers HEAD and a body would have been possible.
fn is_head_ok(head: &ResponseHead<'_>, ctx: &ToClient<'_>) -> bool {
    ctx.method == Method::Head && head.status() >= 200 && head.status() != 204
}

/// Copies the header lines that are not hop-by-hop and that `keep` wants. Lines side by side go in one piece.
pub(crate) fn pass_on(
    headers: &Headers<'_>,
    sink: &mut impl HeadSink,
    keep: impl Fn(&HeaderSlot) -> bool,
) -> Result<(), Full> {
    let buf = headers.buf();
    let (mut start, mut end) = (0, 0);
    for slot in headers.slots() {
        if slot.hop_by_hop || !keep(slot) {
            continue;
        }
        if slot.is_tidy && slot.name.start() == end {
            end = slot.value.end() + 2;
            continue;
        }
        sink.put(&buf[start..end])?;
        if slot.is_tidy {
            (start, end) = (slot.name.start(), slot.value.end() + 2);
        } else {
            (start, end) = (0, 0);
            sink.put(slot.name.of(buf))?;
            sink.put(b": ")?;
            sink.put(slot.value.of(buf))?;
            sink.put(b"\r\n")?;
        }
    }
    sink.put(&buf[start..end])
}

#[inline(always)]
pub(crate) fn put_status_line(head: &ResponseHead<'_>, sink: &mut impl HeadSink) -> Result<(), Full> {
    let mut digits = [0; 20];
    sink.put(b"HTTP/1.1 ")?;
    sink.put(bytes::format_decimal(u64::from(head.status()), &mut digits))?;
    sink.put(b" ")?;
    sink.put(head.reason())?;
    sink.put(b"\r\n")
}

#[inline(always)]
fn put_framing(body: BodyLength, sink: &mut impl HeadSink) -> Result<(), Full> {
    match body {
        BodyLength::None | BodyLength::UntilClose => Ok(()),
        BodyLength::Length(length) => put_number(b"Content-Length: ", length, sink),
        BodyLength::Chunked => sink.put(b"Transfer-Encoding: chunked\r\n"),
    }
}

#[inline]
pub(crate) fn put_number<const N: usize>(
    name: &[u8; N],
    n: u64,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    sink.put_text(name)?;
    sink.put_decimal(n)?;
    sink.put_text(b"\r\n")
}

/// Our own hop (RFC 9110 7.6.3), after those that were there: the version is that of the message received.
#[inline]
pub(crate) fn put_via(received: Version, sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put_text(match received {
        Version::Http10 => b"Via: 1.0 millrace\r\n",
        Version::Http11 => b"Via: 1.1 millrace\r\n",
    })
}

/// X-Forwarded-*: one line with the client's address at the end of what the client sent; protocol and host are
/// what we saw ourselves. A line that the edits set or remove is theirs.
fn put_forwarded(
    head: &RequestHead<'_>,
    ctx: &ToOrigin<'_>,
    edits: &impl Editing,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    // It also ends the line before it, if there is one.
    let protocol: &[u8] = if edits.replaces(b"x-forwarded-proto") {
        b"\r\n"
    } else if ctx.client_tls {
        b"\r\nX-Forwarded-Proto: https\r\n"
    } else {
        b"\r\nX-Forwarded-Proto: http\r\n"
    };
    if edits.replaces(b"x-forwarded-for") {
        sink.put(&protocol[2..])?;
    } else {
        sink.put(b"X-Forwarded-For: ")?;
        let buf = head.headers().buf();
        for slot in head.headers().slots() {
            // A list that Connection nominates was for us alone.
            if slot.known == FieldName::XForwardedFor
                && !slot.hop_by_hop
                && !slot.value.is_empty()
                && !edits.drops(slot.known, slot.name.of(buf))
            {
                sink.put(slot.value.of(buf))?;
                sink.put(b", ")?;
            }
        }
        put_ip(ctx.client_ip, sink)?;
        sink.put(protocol)?;
    }
    if !head.authority().is_empty() && !edits.replaces(b"x-forwarded-host") {
        sink.put(b"X-Forwarded-Host: ")?;
        sink.put(head.authority())?;
        sink.put(b"\r\n")?;
    }
    Ok(())
}

pub(crate) fn put_ip(ip: IpAddr, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
    /// The longest IPv6 address has 45 bytes in text.
    struct Text {
        bytes: [u8; 48],
        len: usize,
    }
    impl Write for Text {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            let end = self.len + piece.len();
            self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(piece.as_bytes());
            self.len = end;
            Ok(())
        }
    }
    let mut text = Text { bytes: [0; 48], len: 0 };
    match ip {
        IpAddr::V4(v4) => {
            let mut digits = [0; 20];
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    sink.put(b".")?;
                }
                sink.put(bytes::format_decimal(u64::from(octet), &mut digits))?;
            }
            Ok(())
        }
        IpAddr::V6(v6) => {
            write!(text, "{v6}").map_err(|_| Full)?;
            sink.put(&text.bytes[..text.len])
        }
    }
}

/// Upgrade without h2c.
fn put_upgrade(headers: &Headers<'_>, sink: &mut impl HeadSink) -> Result<(), Full> {
    let mut separator: &[u8] = b"Upgrade: ";
    for value in headers.known(FieldName::Upgrade) {
        for protocol in bytes::list(value).filter(|p| !p.is_empty() && !framing::is_h2c(p)) {
            sink.put(separator)?;
            sink.put(protocol)?;
            separator = b", ";
        }
    }
    if separator == b", " { sink.put(b"\r\n") } else { Ok(()) }
}

fn put_connection(options: &[(bool, &[u8])], sink: &mut impl HeadSink) -> Result<(), Full> {
    let mut separator: &[u8] = b"Connection: ";
    for (_, option) in options.iter().filter(|(wanted, _)| *wanted) {
        sink.put(separator)?;
        sink.put(option)?;
        separator = b", ";
    }
    if separator == b", " { sink.put(b"\r\n") } else { Ok(()) }
}
