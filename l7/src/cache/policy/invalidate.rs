//! What a request with an unsafe method makes invalid (RFC 9111 4.4).

use super::key::{UrlParts, write_key};
use super::rules::KeyRules;
use crate::http1::target::parse_authority;
use crate::http1::{FieldName, Method, RequestHead, ResponseHead, SliceSink};

/// The most bytes that a URL in Location or Content-Location may have; a longer one is left alone.
const REFERENCE_BYTES_MAX: usize = 4096;

/// Gives `found` the key text of every URL that the response to this request made invalid: its own, and those of
/// Location and Content-Location if they have the same origin. For a safe method, or an error, there are none.
/// `scratch` holds one key text and one resolved path at a time.
pub fn invalidated(
    request: &RequestHead<'_>,
    https: bool,
    default_host: &[u8],
    response: &ResponseHead<'_>,
    rules: &KeyRules,
    scratch: &mut [u8],
    mut found: impl FnMut(&[u8]),
) {
    // RFC 9111 4.4: also for methods that we do not know. A 2xx or 3xx is no error.
    if request.method().is_safe() || !(200..400).contains(&response.status()) {
        return;
    }
    debug_assert!(request.method() != Method::Connect);
    let base = UrlParts::of(request, https, default_host);
    give(&base, rules, scratch, &mut found);
    let headers = response.headers();
    for reference in headers.known(FieldName::Location).chain(headers.known(FieldName::ContentLocation)) {
        if reference.len() > REFERENCE_BYTES_MAX {
            continue;
        }
        let (path_room, key_room) = scratch.split_at_mut(scratch.len() / 2);
        if let Some(url) = resolve(&base, reference, path_room)
            && url.is_same_origin(&base)
        {
            give(&url, rules, key_room, &mut found);
        }
    }
}

fn give(url: &UrlParts<'_>, rules: &KeyRules, room: &mut [u8], found: &mut impl FnMut(&[u8])) {
    let mut sink = SliceSink::new(room);
    if write_key(url, rules, &mut sink).is_ok() {
        found(sink.written());
    }
}

/// Resolves a URI reference (RFC 3986 5.2); `None` where it is no http URL or does not fit `room`.
fn resolve<'a>(base: &UrlParts<'a>, reference: &'a [u8], room: &'a mut [u8]) -> Option<UrlParts<'a>> {
    let reference = &reference[..memchr::memchr(b'#', reference).unwrap_or(reference.len())];
    let (https, rest) = match scheme_end(reference) {
        Some(at) if reference[..at].eq_ignore_ascii_case(b"http") => (false, &reference[at + 1..]),
        Some(at) if reference[..at].eq_ignore_ascii_case(b"https") => (true, &reference[at + 1..]),
        Some(_) => return None,
        None => (base.https, reference),
    };
    let has_scheme = rest.len() != reference.len();
    if let Some(rest) = rest.strip_prefix(b"//") {
        let end = rest.iter().position(|&b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (host, port) = parse_authority(&rest[..end])?;
        let (path, query) = split_query(&rest[end..]);
        let path = remove_dot_segments(&[path], room)?;
        return Some(UrlParts { https, host, port, path, query });
    }
    if has_scheme {
        return None;
    }
    let (path, query) = split_query(rest);
    let (path, query) = match path {
        [] => (base.path, query.or(base.query)),
        [b'/', ..] => (remove_dot_segments(&[path], room)?, query),
        _ => {
            let directory = &base.path[..base.path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1)];
            (remove_dot_segments(&[directory, path], room)?, query)
        }
    };
    Some(UrlParts { path, query, ..*base })
}

/// Where the colon is that ends a scheme.
fn scheme_end(reference: &[u8]) -> Option<usize> {
    let end = reference.iter().position(|&b| matches!(b, b':' | b'/' | b'?'))?;
    (reference[end] == b':' && end > 0).then_some(end)
}

fn split_query(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', rest) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    }
}

/// Writes the path that `pieces` make together without `.` and `..` (RFC 3986 5.2.4).
fn remove_dot_segments<'a>(pieces: &[&[u8]], room: &'a mut [u8]) -> Option<&'a [u8]> {
    // One after the other, then in place: what is written never overtakes what is read.
    let mut len = 0;
    for piece in pieces {
        room.get_mut(len..len + piece.len())?.copy_from_slice(piece);
        len += piece.len();
    }
    let (mut read, mut write) = (0, 0);
    while read < len {
        // A segment with the slash before it.
        let end = memchr::memchr(b'/', &room[read + 1..len]).map_or(len, |at| read + 1 + at);
        let is_last = end == len;
        match &room[read..end] {
            b"/." => {
                if is_last {
                    room[write] = b'/';
                    write += 1;
                }
            }
            b"/.." => {
                write = room[..write].iter().rposition(|&b| b == b'/').unwrap_or(0);
                if is_last {
                    room[write] = b'/';
                    write += 1;
                }
            }
            segment => {
                let n = segment.len();
                room.copy_within(read..end, write);
                write += n;
            }
        }
        read = end;
    }
    Some(&room[..write])
}
