//! The key text of an object: its URL, as far as the rules say that it counts.
//!
//! `http://host/path?query`, and a suffix after it for a slice ([`super::slices`]). Scheme, host and port are in the form that
//! RFC 9110 4.2.3 lets everybody use (lower case, no default port); path and query are kept byte for byte, as any
//! other normalisation could make one of two resources (RFC 9111 2). What else the rules have in the key (fields,
//! cookies) is part of the variant: so one hash finds all variants of a URL, for lookups and for purges.

use super::rules::{KeyRules, QueryRule};
use crate::http1::bytes::format_decimal;
use crate::http1::{Full, HeadSink, RequestHead};

/// A URL in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlParts<'a> {
    /// Whether it is https.
    pub https: bool,
    /// Host, brackets kept, in any case.
    pub host: &'a [u8],
    /// The port, if one was named.
    pub port: Option<u16>,
    /// The path as it was written.
    pub path: &'a [u8],
    /// What is after the `?`, if there is one.
    pub query: Option<&'a [u8]>,
}

impl<'a> UrlParts<'a> {
    /// Of the target of `head`, which came over TLS or not. `default_host` is for HTTP/1.0 without Host.
    pub fn of(head: &RequestHead<'a>, https: bool, default_host: &'a [u8]) -> Self {
        let host = if head.host().is_empty() { default_host } else { head.host() };
        Self { https, host, port: head.port(), path: head.path(), query: head.query() }
    }

    /// The port, if it is not the scheme's own.
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// Whether both have the same origin (RFC 9110 4.3.1): scheme, host and port.
    pub fn is_same_origin(&self, other: &UrlParts<'_>) -> bool {
        self.https == other.https
            && self.host.eq_ignore_ascii_case(other.host)
            && self.effective_port() == other.effective_port()
    }
}

/// Writes the key text of `url`.
pub fn write_key(url: &UrlParts<'_>, rules: &KeyRules, sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put(if url.https && !rules.any_scheme { b"https://" } else { b"http://" })?;
    put_lower(url.host, sink)?;
    match (url.port, url.https) {
        (None, _) | (Some(80), false) | (Some(443), true) => {}
        (Some(port), _) => {
            sink.put(b":")?;
            sink.put(format_decimal(u64::from(port), &mut [0; 20]))?;
        }
    }
    sink.put(if url.path.is_empty() { b"/" } else { url.path })?;
    let Some(query) = url.query else { return Ok(()) };
    match &rules.query {
        QueryRule::All => {
            sink.put(b"?")?;
            sink.put(query)
        }
        QueryRule::None => Ok(()),
        QueryRule::Only(names) => put_parts(query, sink, |name| is_among(names, name)),
        QueryRule::Except(names) => put_parts(query, sink, |name| !is_among(names, name)),
    }
}

/// The key text without the suffix of a slice: what a purge by URL is about.
pub fn url_of_key(key: &[u8]) -> &[u8] {
    memchr::memchr(b'#', key).map_or(key, |at| &key[..at])
}

/// Whether the object with this key falls under a purge by prefix. The prefix is of a key text: scheme, host in
/// lower case, path. It counts by bytes, not by path segments.
pub fn has_prefix(key: &[u8], prefix: &[u8]) -> bool {
    url_of_key(key).starts_with(prefix)
}

/// The host, with its port if there is one, in a key text: what a purge by host is about.
pub fn host_of_key(key: &[u8]) -> &[u8] {
    let rest = match memchr::memmem::find(key, b"://") {
        Some(at) => &key[at + 3..],
        None => key,
    };
    &rest[..memchr::memchr(b'/', rest).unwrap_or(rest.len())]
}

fn put_parts(query: &[u8], sink: &mut impl HeadSink, keep: impl Fn(&[u8]) -> bool) -> Result<(), Full> {
    let mut separator = b"?";
    for part in query.split(|&b| b == b'&') {
        let name = &part[..memchr::memchr(b'=', part).unwrap_or(part.len())];
        if keep(name) {
            sink.put(separator)?;
            sink.put(part)?;
            separator = b"&";
        }
    }
    Ok(())
}

/// Names of parameters are compared byte for byte; one that ends in `*` stands for all that begin so.
fn is_among(names: &[Box<[u8]>], name: &[u8]) -> bool {
    names.iter().any(|n| match n.strip_suffix(b"*") {
        Some(start) => name.starts_with(start),
        None => **n == *name,
    })
}

/// Puts `text` in lower case.
pub(super) fn put_lower(text: &[u8], sink: &mut impl HeadSink) -> Result<(), Full> {
    let mut room = [0; 64];
    for piece in text.chunks(room.len()) {
        let lower = &mut room[..piece.len()];
        lower.copy_from_slice(piece);
        lower.make_ascii_lowercase();
        sink.put(lower)?;
    }
    Ok(())
}
