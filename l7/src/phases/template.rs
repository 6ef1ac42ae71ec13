//! Values with variables: `{client_ip}`, `{host}`, `{path}`, `{scheme}`, and what a client's certificate says:
//! `{client_subject}`, `{client_issuer}`, `{client_serial}`, `{client_fingerprint}`. `{{` and `}}` are braces.

use core::net::IpAddr;
use core::ops::Range;

use crate::http1::bytes;
use crate::http1::{Full, HeadSink, Scheme};
use crate::tls::certs::Identity;

/// What the variables stand for.
#[derive(Clone, Copy, Debug)]
pub struct Vars<'a> {
    /// `{client_ip}`.
    pub client_ip: IpAddr,
    /// `{scheme}`: `http` or `https`.
    pub scheme: Scheme,
    /// `{host}`, as it was written.
    pub host: &'a [u8],
    /// `{path}`, as it was written.
    pub path: &'a [u8],
    /// Who the client is by its certificate.
    pub identity: Option<&'a Identity>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// In the text that the template was compiled to.
    Text(Range<u32>),
    ClientIp,
    Scheme,
    Host,
    Path,
    Certificate(Certified),
}

/// What of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certified {
    Subject,
    Issuer,
    Serial,
    Fingerprint,
}

/// What is wrong with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateFault {
    UnknownVariable,
    BraceUnpaired,
}

/// Compiles `template`, its text going to the end of `text`.
pub(super) fn compile(
    template: &str,
    text: &mut Vec<u8>,
    pieces: &mut Vec<Piece>,
) -> Result<(), TemplateFault> {
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        put_text(&rest[..at], text, pieces);
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            put_text(brace, text, pieces);
            rest = after;
            continue;
        }
        let (name, after) =
            rest.split_once('}').filter(|_| brace == "{").ok_or(TemplateFault::BraceUnpaired)?;
        pieces.push(match name {
            "client_ip" => Piece::ClientIp,
            "scheme" => Piece::Scheme,
            "host" => Piece::Host,
            "path" => Piece::Path,
            "client_subject" => Piece::Certificate(Certified::Subject),
            "client_issuer" => Piece::Certificate(Certified::Issuer),
            "client_serial" => Piece::Certificate(Certified::Serial),
            "client_fingerprint" => Piece::Certificate(Certified::Fingerprint),
            _ => return Err(TemplateFault::UnknownVariable),
        });
        rest = after;
    }
    put_text(rest, text, pieces);
    Ok(())
}

/// Text goes to the piece before it where that is text too.
pub(super) fn put_text(more: &str, text: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if more.is_empty() {
        return;
    }
    let start = text.len() as u32;
    text.extend_from_slice(more.as_bytes());
    let end = text.len() as u32;
    match pieces.last_mut() {
        Some(Piece::Text(range)) if range.end == start => range.end = end,
        _ => pieces.push(Piece::Text(start..end)),
    }
}

/// Writes a compiled template.
#[inline]
pub(super) fn write(
    pieces: &[Piece],
    text: &[u8],
    vars: &Vars<'_>,
    sink: &mut (impl HeadSink + ?Sized),
) -> Result<(), Full> {
    for piece in pieces {
        match piece {
            Piece::Text(range) => {
                sink.put(text.get(range.start as usize..range.end as usize).unwrap_or_default())?;
            }
            Piece::ClientIp => crate::http1::rewrite::put_ip(vars.client_ip, sink)?,
            Piece::Scheme => sink.put(scheme_name(vars.scheme))?,
            Piece::Host => put_variable(vars.host, sink)?,
            Piece::Path => put_variable(vars.path, sink)?,
            Piece::Certificate(of) => {
                if let Some(identity) = vars.identity {
                    put_certified(*of, identity, sink)?;
                }
            }
        }
    }
    Ok(())
}

fn put_certified(
    of: Certified,
    identity: &Identity,
    sink: &mut (impl HeadSink + ?Sized),
) -> Result<(), Full> {
    match of {
        Certified::Subject => put_variable(identity.subject.as_bytes(), sink),
        Certified::Issuer => put_variable(identity.issuer.as_bytes(), sink),
        Certified::Serial => put_variable(identity.serial.as_bytes(), sink),
        Certified::Fingerprint => sink.put(&identity.fingerprint_hex()),
    }
}

/// Whether it says something that only a client with a certificate has.
pub(super) fn needs_identity(pieces: &[Piece]) -> bool {
    pieces.iter().any(|piece| matches!(piece, Piece::Certificate(_)))
}

/// As it stands in a URL.
pub(super) fn scheme_name(scheme: Scheme) -> &'static [u8] {
    match scheme {
        Scheme::Http => b"http",
        Scheme::Https => b"https",
    }
}

/// Parsed heads cannot have a control byte here; should one come from elsewhere, the value is left out: a line
/// never becomes two.
pub(super) fn put_variable(value: &[u8], sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
    if bytes::text_end(value, 0) == value.len() { sink.put(value) } else { Ok(()) }
}
