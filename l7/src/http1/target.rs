//! The request-target (RFC 9112 3.2) and the authority (RFC 3986 3.2).

use super::bytes::{self, IP_LITERAL, PATH, PLAIN_NAME, PLAIN_PATH, QUERY, REG_NAME};
use super::field::Span;
use super::method::Method;
use super::reject::RejectReason;

/// How the target was written (RFC 9112 3.2). Authority-form belongs to CONNECT, which is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`: the host is taken from here and Host is ignored.
    Absolute,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// The scheme of an absolute target. It is the client's word; what the connection is, the listener knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Their names are their documentation.
pub enum Scheme {
    Http,
    Https,
}

/// Where the parts of a target are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub form: TargetForm,
    pub scheme: Option<Scheme>,
    pub authority: Span,
    pub path: Span,
    pub query: Option<Span>,
    /// Where the space after the target is.
    pub end: usize,
}

/// The target that starts at `pos` and ends before a space; `None` when the space is not there yet.
pub(crate) fn parse(buf: &[u8], pos: usize, method: Method) -> Result<Option<Target>, RejectReason> {
    match buf.get(pos) {
        None => Ok(None),
        Some(b'/') => path_and_query(buf, pos, TargetForm::Origin, None, Span::EMPTY),
        Some(b'*') => asterisk(buf, pos, method),
        Some(_) => absolute(buf, pos),
    }
}

/// A host with its port, if it names one (RFC 9110 7.2); `None` where it is not one. The host is not empty.
pub(crate) fn parse_authority(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, port) = match authority {
        [b'[', rest @ ..] => {
            let close = memchr::memchr(b']', rest)?;
            if !bytes::all(&rest[..close], IP_LITERAL) {
                return None;
            }
            authority.split_at(close + 2)
        }
        _ => {
            let mut end = bytes::skip::<PLAIN_NAME>(authority, 0);
            if authority.get(end) == Some(&b'%') {
                end = bytes::skip::<REG_NAME>(authority, end);
                if !percent_signs_are_good(&authority[..end]) {
                    return None;
                }
            }
            authority.split_at(end)
        }
    };
    let port = match port {
        [] | [b':'] => None,
        [b':', digits @ ..] => Some(u16::try_from(bytes::decimal(digits)?).ok()?),
        _ => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

fn asterisk(buf: &[u8], pos: usize, method: Method) -> Result<Option<Target>, RejectReason> {
    if method != Method::Options {
        return Err(RejectReason::TargetFormInvalid);
    }
    match buf.get(pos + 1) {
        None => Ok(None),
        Some(b' ') => Ok(Some(Target {
            form: TargetForm::Asterisk,
            scheme: None,
            authority: Span::EMPTY,
            path: Span::new(pos, pos + 1),
            query: None,
            end: pos + 1,
        })),
        Some(_) => Err(RejectReason::TargetInvalid),
    }
}

fn absolute(buf: &[u8], pos: usize) -> Result<Option<Target>, RejectReason> {
    let rest = &buf[pos..];
    let (scheme, length) = if begins(rest, b"http://") {
        (Scheme::Http, 7)
    } else if begins(rest, b"https://") {
        (Scheme::Https, 8)
    } else if !rest.first().is_some_and(|&b| bytes::is(b, QUERY)) {
        return Err(fault_of(rest.first().copied().unwrap_or_default()));
    } else {
        return Err(RejectReason::TargetFormInvalid);
    };
    if rest.len() < length {
        return Ok(None);
    }
    let start = pos + length;
    let mut end = start;
    while end < buf.len() && (bytes::is(buf[end], PATH) && buf[end] != b'/') {
        end += 1;
    }
    if end == buf.len() {
        return Ok(None);
    }
    path_and_query(buf, end, TargetForm::Absolute, Some(scheme), Span::new(start, end))
}

/// Whether `rest` begins with `prefix`, or is too short to tell and has been right so far.
fn begins(rest: &[u8], prefix: &[u8]) -> bool {
    let n = rest.len().min(prefix.len());
    rest[..n].eq_ignore_ascii_case(&prefix[..n])
}

#[inline]
fn path_and_query(
    buf: &[u8],
    pos: usize,
    form: TargetForm,
    scheme: Option<Scheme>,
    authority: Span,
) -> Result<Option<Target>, RejectReason> {
    let mut path_end = bytes::skip::<PLAIN_PATH>(buf, pos);
    let has_percent = buf.get(path_end) == Some(&b'%');
    if has_percent {
        path_end = bytes::skip::<PATH>(buf, path_end);
    }
    let (query, end) = match buf.get(path_end) {
        Some(b'?') => {
            let end = bytes::skip::<QUERY>(buf, path_end + 1);
            (Some(Span::new(path_end + 1, end)), end)
        }
        _ => (None, path_end),
    };
    match buf.get(end) {
        None => return Ok(None),
        Some(b' ') => {}
        Some(&b) => return Err(fault_of(b)),
    }
    if has_percent && !percent_signs_are_good(&buf[pos..path_end]) {
        return Err(RejectReason::TargetPercentInvalid);
    }
    Ok(Some(Target { form, scheme, authority, path: Span::new(pos, path_end), query, end }))
}

/// What a byte that ends a target too early says about the request line.
pub(crate) fn fault_of(b: u8) -> RejectReason {
    match b {
        b'\r' => RejectReason::RequestLineMalformed,
        b'\n' => RejectReason::BareLf,
        _ if !bytes::is_text(b) => RejectReason::ControlByte,
        _ => RejectReason::TargetInvalid,
    }
}

/// `pct-encoded` (RFC 3986 2.1).
fn percent_signs_are_good(part: &[u8]) -> bool {
    memchr::memchr_iter(b'%', part)
        .all(|at| matches!(part.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::parse_authority;

    #[test]
    fn authorities() {
        let good: &[(&str, &str, Option<u16>)] = &[
            ("example.com", "example.com", None),
            ("example.com:8080", "example.com", Some(8080)),
            ("example.com:", "example.com", None),
            ("192.0.2.1:65535", "192.0.2.1", Some(65535)),
            ("[2001:db8::1]", "[2001:db8::1]", None),
            ("[::1]:443", "[::1]", Some(443)),
            ("a_b.example", "a_b.example", None),
            ("%41.example", "%41.example", None),
        ];
        for &(text, host, port) in good {
            assert_eq!(parse_authority(text.as_bytes()), Some((host.as_bytes(), port)), "{text}");
        }
        let bad = [
            "",
            ":80",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:-1",
            "user@a",
            "a/b",
            "a b",
            "[::1",
            "[]",
            "[::1]x",
            "::1",
            "a\\b",
            "a?b",
            "a#b",
            "%4",
            "%zz",
            "\u{e4}.example",
        ];
        for text in bad {
            assert_eq!(parse_authority(text.as_bytes()), None, "{text}");
        }
    }
}
