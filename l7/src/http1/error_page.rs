//! The answers that the node gives itself: errors, and 100.

use super::bytes;
use super::method::{Method, Version};
use super::sink::{Full, HeadSink};
use crate::phases::EditList;

/// What an error response depends on.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// The method of the request, if it was understood: HEAD gets no body.
    pub method: Option<Method>,
    /// The version of the request, if it was understood.
    pub version: Option<Version>,
    /// Whether the connection ends with this response.
    pub close: bool,
    /// [`super::http_date::format`].
    pub date: &'a [u8; 29],
}

/// Writes a small complete response, head and body.
pub fn write_error(status: u16, ctx: &ErrorContext<'_>, sink: &mut impl HeadSink) -> Result<(), Full> {
    write_own_error(status, ctx, &EditList::NONE, sink)
}

/// [`write_error`], with the lines that edits add.
pub fn write_own_error(
    status: u16,
    ctx: &ErrorContext<'_>,
    edits: &EditList<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    let (title, sentence) = words(status);
    let mut digits = [0; 20];
    let code = bytes::format_decimal(u64::from(status), &mut digits);
    let body: [&[u8]; 11] = [
        b"<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>",
        code,
        b" ",
        title.as_bytes(),
        b"</title></head>\n<body>\n<h1>",
        code,
        b" ",
        title.as_bytes(),
        b"</h1>\n<p>",
        sentence.as_bytes(),
        b"</p>\n</body>\n</html>\n",
    ];
    let length: usize = body.iter().map(|piece| piece.len()).sum();
    write_error_head(status, ctx, "text/html; charset=utf-8", length as u64, edits, sink)?;
    if ctx.method == Some(Method::Head) {
        return Ok(());
    }
    body.iter().try_for_each(|piece| sink.put(piece))
}

/// Writes the head of an error whose page, of this type and length, the caller sends after it (not to HEAD).
pub fn write_error_head(
    status: u16,
    ctx: &ErrorContext<'_>,
    content_type: &str,
    body_length: u64,
    edits: &EditList<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    put_start(status, ctx, sink)?;
    if !edits.replaces(b"content-type") {
        sink.put(b"Content-Type: ")?;
        sink.put(content_type.as_bytes())?;
        sink.put(b"\r\n")?;
    }
    if !edits.replaces(b"cache-control") {
        sink.put(b"Cache-Control: no-store\r\n")?;
    }
    put_end(ctx, body_length, edits, sink)
}

/// Writes a redirect, complete: it has no body. `location` writes the value of Location.
pub fn write_redirect<S: HeadSink>(
    status: u16,
    ctx: &ErrorContext<'_>,
    edits: &EditList<'_>,
    sink: &mut S,
    location: impl FnOnce(&mut S) -> Result<(), Full>,
) -> Result<(), Full> {
    put_start(status, ctx, sink)?;
    sink.put(b"Location: ")?;
    location(sink)?;
    sink.put(b"\r\n")?;
    put_end(ctx, 0, edits, sink)
}

fn put_start(status: u16, ctx: &ErrorContext<'_>, sink: &mut impl HeadSink) -> Result<(), Full> {
    let mut digits = [0; 20];
    sink.put(b"HTTP/1.1 ")?;
    sink.put(bytes::format_decimal(u64::from(status), &mut digits))?;
    sink.put(b" ")?;
    sink.put(words(status).0.as_bytes())?;
    sink.put(b"\r\nDate: ")?;
    sink.put(ctx.date)?;
    sink.put(b"\r\n")
}

fn put_end(
    ctx: &ErrorContext<'_>,
    body_length: u64,
    edits: &EditList<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    edits.append(sink)?;
    let mut digits = [0; 20];
    sink.put(b"Content-Length: ")?;
    sink.put(bytes::format_decimal(body_length, &mut digits))?;
    sink.put(match (ctx.close, ctx.version) {
        (true, _) => b"\r\nConnection: close\r\n\r\n".as_slice(),
        (false, Some(Version::Http10)) => b"\r\nConnection: keep-alive\r\n\r\n",
        (false, _) => b"\r\n\r\n",
    })
}

/// Tells a client that waits with its body to go on (RFC 9110 15.2.1).
pub fn write_100_continue(sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put(b"HTTP/1.1 100 Continue\r\n\r\n")
}

/// The name of a status, and what it means to whoever reads the page.
fn words(status: u16) -> (&'static str, &'static str) {
    match status {
        301 => ("Moved Permanently", ""),
        302 => ("Found", ""),
        307 => ("Temporary Redirect", ""),
        308 => ("Permanent Redirect", ""),
        400 => ("Bad Request", "The server could not understand what the browser sent."),
        403 => ("Forbidden", "Access to this address is not allowed."),
        404 => ("Not Found", "There is nothing at this address."),
        405 => ("Method Not Allowed", "This address does not take requests of this kind."),
        408 => ("Request Timeout", "The request took too long to arrive. Please try again."),
        413 => ("Content Too Large", "What was sent is larger than this server accepts."),
        414 => ("URI Too Long", "The address is longer than this server accepts."),
        417 => ("Expectation Failed", "The server cannot do what the request expects of it."),
        421 => ("Misdirected Request", "This server does not serve that site on this connection."),
        429 => ("Too Many Requests", "There were too many requests in a short time. Please wait a little."),
        431 => {
            ("Request Header Fields Too Large", "The request's headers are larger than this server accepts.")
        }
        500 => ("Internal Server Error", "Something went wrong in this server."),
        501 => ("Not Implemented", "This server does not know how to do what was asked."),
        502 => ("Bad Gateway", "The server behind this one gave no answer that could be used."),
        503 => ("Service Unavailable", "The server is too busy at the moment. Please try again shortly."),
        504 => ("Gateway Timeout", "The server behind this one did not answer in time."),
        505 => ("HTTP Version Not Supported", "This server does not speak that version of HTTP here."),
        _ if status < 500 => ("Client Error", "The request could not be served."),
        _ => ("Server Error", "The request could not be served."),
    }
}
