//! Our own look at a `ClientHello` (RFC 8446, 4.1.2), before any of rustls is set up for it: which name, which
//! certificates the client can verify, whether it resumes. What is chosen by it is a config; rustls then reads the same
//! bytes again and has the last word on whether they are a hello at all.
//!
//! Nothing is allocated for a hello that came in one record, which is nearly every one. One in several records is joined
//! in a buffer of the caller's.

use rustls::AlertDescription;

/// Longest hello that is looked at. With a hybrid key share and a resumed session they have about 2 KiB.
pub const HELLO_BYTES_MAX: usize = 16 << 10;
/// The longest hello, and its type and length before it.
pub const JOINED_BYTES_MAX: usize = 4 + HELLO_BYTES_MAX;
/// Records that one may come in: whoever sends a byte in each makes us work.
pub const HELLO_RECORDS_MAX: usize = 64;
/// Longest name that is looked for (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// What can be seen so far.
#[derive(Debug)]
pub enum Peek<'a> {
    /// Not all of it is there.
    Partial,
    /// All of it.
    Hello(ClientHello<'a>),
}

/// What counts for choosing how to answer a hello. Everything is as the client wrote it; lists are of whole items.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientHello<'a> {
    /// The name that it asks for (RFC 6066, 3), if it is one of letters, digits, hyphens, underscores and dots: an IP
    /// address is none.
    pub server_name: Option<&'a [u8]>,
    suites: &'a [u8],
    schemes: &'a [u8],
    versions: &'a [u8],
    groups: &'a [u8],
    shares: &'a [u8],
    alpn: &'a [u8],
    /// Its own word on its version: TLS 1.2 at most, whatever it can (RFC 8446, 4.1.2).
    pub legacy_version: u16,
    /// It has a ticket of an earlier session (RFC 8446, 4.2.11; RFC 5077).
    pub resumes: bool,
    /// It will send data before it has heard anything (RFC 8446, 4.2.10).
    pub early_data: bool,
    /// Bytes of the message.
    pub bytes: usize,
}

/// Looks at what a client has sent so far, records and all. `joined` is used if the hello comes in several; at most
/// [`JOINED_BYTES_MAX`] bytes are put there.
///
/// # Errors
/// When these bytes can't become a hello: the alert to answer with.
pub fn peek<'a>(bytes: &'a [u8], joined: &'a mut Vec<u8>) -> Result<Peek<'a>, AlertDescription> {
    let Some((first, rest)) = fragment(bytes)? else { return Ok(Peek::Partial) };
    let first = match message(first)? {
        Some(body) => return parse(body).map(Peek::Hello),
        None => first,
    };
    joined.clear();
    joined.extend_from_slice(first);
    let mut rest = rest;
    for _ in 1..HELLO_RECORDS_MAX {
        let Some((more, after)) = fragment(rest)? else { return Ok(Peek::Partial) };
        rest = after;
        let room = JOINED_BYTES_MAX.saturating_sub(joined.len());
        joined.extend_from_slice(more.get(..room).unwrap_or(more));
        // What is behind the message is rustls' to judge.
        if message(joined)?.is_some() {
            return match message(joined)? {
                Some(body) => parse(body).map(Peek::Hello),
                None => Ok(Peek::Partial),
            };
        }
    }
    Err(AlertDescription::DecodeError)
}

/// How many bytes are missing until there is something new to look at: of a header, or of a record; `bytes` starts with a
/// record. None are missing of what [`peek`] refuses.
pub fn missing(bytes: &[u8]) -> usize {
    match (fragment(bytes), bytes) {
        (Ok(None), [_, _, _, high, low, body @ ..]) => {
            usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(body.len())
        }
        (Ok(None), _) => HEADER_BYTES.saturating_sub(bytes.len()),
        _ => 0,
    }
}

/// The body of a record, and what is behind it.
type Fragment<'a> = (&'a [u8], &'a [u8]);

/// The first record. `None`: it is not whole.
fn fragment(bytes: &[u8]) -> Result<Option<Fragment<'_>>, AlertDescription> {
    match bytes {
        [kind, ..] if *kind != HANDSHAKE => return Err(AlertDescription::UnexpectedMessage),
        [_, major, ..] if *major != 3 => return Err(AlertDescription::ProtocolVersion),
        _ => {}
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    match usize::from(u16::from_be_bytes([high, low])) {
        // RFC 8446, 5.1: no empty fragments of handshake messages.
        0 => Err(AlertDescription::DecodeError),
        bytes if bytes > RECORD_BYTES_MAX => Err(AlertDescription::RecordOverflow),
        bytes => Ok(rest.split_at_checked(bytes)),
    }
}

/// The body of the hello, once all of it is there.
fn message(bytes: &[u8]) -> Result<Option<&[u8]>, AlertDescription> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(AlertDescription::UnexpectedMessage);
    }
    let Some((&[_, a, b, c], body)) = bytes.split_first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    if len > HELLO_BYTES_MAX {
        return Err(AlertDescription::DecodeError);
    }
    Ok(body.get(..len))
}

fn parse(body: &[u8]) -> Result<ClientHello<'_>, AlertDescription> {
    parse_fields(body).ok_or(AlertDescription::DecodeError)
}

fn parse_fields(body: &[u8]) -> Option<ClientHello<'_>> {
    let mut r = Reader(body);
    let mut hello = ClientHello { legacy_version: r.u16()?, bytes: body.len(), ..ClientHello::default() };
    r.take(32)?; // The client's random.
    let session = r.short()?;
    hello.suites = r.long()?;
    r.short()?; // Methods of compression.
    if session.len() > 32 || !is_list(hello.suites) {
        return None;
    }
    if r.0.is_empty() {
        return Some(hello); // RFC 5246 allows a hello without extensions.
    }
    let mut extensions = Reader(r.long()?);
    if !r.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut r = Reader(extensions.long()?);
        let list = match kind {
            SERVER_NAME => {
                hello.server_name = host_name(r.long()?)?;
                continue;
            }
            SESSION_TICKET => {
                hello.resumes |= !r.0.is_empty();
                continue;
            }
            PRE_SHARED_KEY => {
                hello.resumes = true;
                continue;
            }
            EARLY_DATA => {
                hello.early_data = true;
                continue;
            }
            ALPN => {
                hello.alpn = r.long()?;
                let mut names = Reader(hello.alpn);
                while !names.0.is_empty() {
                    names.short()?;
                }
                continue;
            }
            KEY_SHARE => {
                hello.shares = r.long()?;
                let mut shares = Reader(hello.shares);
                while !shares.0.is_empty() {
                    shares.u16()?;
                    shares.long()?;
                }
                continue;
            }
            SIGNATURE_ALGORITHMS => {
                hello.schemes = r.long()?;
                hello.schemes
            }
            SUPPORTED_GROUPS => {
                hello.groups = r.long()?;
                hello.groups
            }
            SUPPORTED_VERSIONS => {
                hello.versions = r.short()?;
                hello.versions
            }
            _ => continue,
        };
        if !is_list(list) {
            return None;
        }
    }
    Some(hello)
}

/// The one host name of the extension. `None` inside: there is none that can be looked for.
fn host_name(list: &[u8]) -> Option<Option<&[u8]>> {
    if list.is_empty() {
        return None;
    }
    let mut r = Reader(list);
    let mut found = None;
    // How long a name of another type is, nobody knows: what stands behind it cannot be read.
    while !r.0.is_empty() && r.u8()? == HOST_NAME {
        // RFC 6066, 3: one of each type.
        if found.replace(r.long()?).is_some() {
            return None;
        }
    }
    Some(found.filter(|name| {
        let last = name.rsplit(|b| *b == b'.').find(|part| !part.is_empty());
        (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            // The last part of an IPv4 address is a number; no top-level domain is (RFC 6066, 3; RFC 3696, 2).
            && last.is_some_and(|part| !part.iter().all(u8::is_ascii_digit))
    }))
}

impl<'a> ClientHello<'a> {
    /// The suites it offers.
    pub fn suites(&self) -> impl Iterator<Item = u16> + use<'a> {
        items(self.suites)
    }

    /// The signatures that it can verify.
    pub fn schemes(&self) -> impl Iterator<Item = u16> + use<'a> {
        items(self.schemes)
    }

    /// The versions that it can, where it says so: with TLS 1.3 it does.
    pub fn versions(&self) -> impl Iterator<Item = u16> + use<'a> {
        items(self.versions)
    }

    /// The groups of key exchanges that it can.
    pub fn groups(&self) -> impl Iterator<Item = u16> + use<'a> {
        items(self.groups)
    }

    /// The groups that it has sent a key for.
    pub fn shares(&self) -> impl Iterator<Item = u16> + use<'a> {
        let mut shares = Reader(self.shares);
        std::iter::from_fn(move || {
            let group = shares.u16()?;
            shares.long()?;
            Some(group)
        })
    }

    /// The protocols that it speaks within (RFC 7301).
    pub fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut names = Reader(self.alpn);
        std::iter::from_fn(move || names.short())
    }

    /// Whether it offers TLS 1.3.
    pub fn offers_tls13(&self) -> bool {
        self.versions().any(|version| version == 0x0304)
    }
}

/// Of a record's header.
const HEADER_BYTES: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Longest body of a record in plain text (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 16 << 10;

// Types of extensions.
const SERVER_NAME: u16 = 0;
/// Of a name in it (RFC 6066, 3).
const HOST_NAME: u8 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

/// Whether these are whole numbers of two bytes.
fn is_list(list: &[u8]) -> bool {
    list.len().is_multiple_of(2)
}

fn items(list: &[u8]) -> impl Iterator<Item = u16> {
    list.as_chunks().0.iter().map(|item| u16::from_be_bytes(*item))
}

/// Reads fields, and vectors with their lengths before them.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A vector of at most 255 bytes.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// A vector of at most 65,535 bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }
}
