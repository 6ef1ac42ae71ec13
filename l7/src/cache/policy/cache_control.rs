//! Cache-Control (RFC 9111 5.2), as requests and as responses have it.
//!
//! Reading is lenient where leniency restricts: a directive that forbids something counts whatever its argument
//! looks like. It is strict where it would permit: a lifetime that is not a number is none (section 4.2.1 wants
//! such a response to be stale). Of several values of one directive the first counts (section 4.2.1).

use crate::http1::bytes::{self, TOKEN};

/// The greatest number of seconds that is told apart (RFC 9111 1.2.2).
pub const DELTA_SECONDS_MAX: u32 = 1 << 31;

/// `delta-seconds` (RFC 9111 1.2.2): digits; too great a number is taken for the greatest.
pub fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        text.iter().fold(0u32, |n, &b| {
            n.saturating_mul(10).saturating_add(u32::from(b - b'0')).min(DELTA_SECONDS_MAX)
        }),
    )
}

/// What follows the `=` of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// There is none.
    None,
    /// A token, or what stands in its place.
    Token(&'a [u8]),
    /// What is between quotes, escapes not yet resolved.
    Quoted(&'a [u8]),
    /// Quotes that do not end, or bytes between the argument and the comma.
    Malformed,
}

impl<'a> Argument<'a> {
    /// As seconds: both forms are accepted (RFC 9111 5.2).
    pub fn seconds(self) -> Option<u32> {
        match self {
            Self::Token(text) | Self::Quoted(text) => delta_seconds(text),
            Self::None | Self::Malformed => None,
        }
    }

    /// The field names that it lists (RFC 9111 5.2.2.4, 5.2.2.7); none where there is no such list.
    pub fn field_names(self) -> impl Iterator<Item = &'a [u8]> {
        let text = match self {
            Self::Token(text) | Self::Quoted(text) => text,
            Self::None | Self::Malformed => b"",
        };
        bytes::list(text).filter(|name| !name.is_empty())
    }

    /// Whether it is a list of field names and nothing else.
    fn is_field_names(self) -> bool {
        self.field_names().next().is_some() && self.field_names().all(|name| bytes::all(name, TOKEN))
    }
}

/// The directives of one field value, in order; what is no directive is passed over.
pub fn directives(value: &[u8]) -> Directives<'_> {
    Directives { rest: value }
}

/// See [`directives`].
#[derive(Clone, Copy, Debug)]
pub struct Directives<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Directives<'a> {
    type Item = (&'a [u8], Argument<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.rest.iter().position(|&b| !bytes::is_blank(b) && b != b',')?;
            self.rest = &self.rest[start..];
            let end = bytes::skip::<TOKEN>(self.rest, 0);
            let name = &self.rest[..end];
            self.rest = &self.rest[end..];
            let argument = self.argument();
            if !name.is_empty() {
                return Some((name, argument));
            }
        }
    }
}

impl<'a> Directives<'a> {
    /// The argument that begins here, if one does; afterwards the comma is next.
    fn argument(&mut self) -> Argument<'a> {
        let argument = match self.rest {
            [b'=', b'"', quoted @ ..] => match closing_quote(quoted) {
                Some(at) => {
                    self.rest = &quoted[at + 1..];
                    Argument::Quoted(&quoted[..at])
                }
                None => {
                    // No end: whatever was meant, the rest of the value belongs to it.
                    self.rest = &[];
                    Argument::Malformed
                }
            },
            [b'=', rest @ ..] => {
                let end = rest.iter().position(|&b| bytes::is_blank(b) || b == b',').unwrap_or(rest.len());
                self.rest = &rest[end..];
                Argument::Token(&rest[..end])
            }
            _ => Argument::None,
        };
        let junk = self.skip_to_comma();
        if junk { Argument::Malformed } else { argument }
    }

    /// To the next comma that is not in quotes; whether anything but blanks was passed.
    fn skip_to_comma(&mut self) -> bool {
        let mut junk = false;
        loop {
            match self.rest {
                [] | [b',', ..] => return junk,
                [b'"', quoted @ ..] => {
                    junk = true;
                    self.rest = closing_quote(quoted).map_or(&[], |at| &quoted[at + 1..]);
                }
                [b, rest @ ..] => {
                    junk |= !bytes::is_blank(*b);
                    self.rest = rest;
                }
            }
        }
    }
}

/// Where the quote is that ends a quoted string (RFC 9110 5.6.4).
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// What a request asks of caches (RFC 9111 5.2.1, RFC 5861 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// No older than that.
    pub max_age_s: Option<u32>,
    /// Stale by that much is good enough; without an argument any staleness is.
    pub max_stale_s: Option<u32>,
    /// Fresh for that much longer.
    pub min_fresh_s: Option<u32>,
    /// Stale by that much is good enough when the origin fails.
    pub stale_if_error_s: Option<u32>,
    /// Not without asking the origin.
    pub no_cache: bool,
    /// Nothing of this exchange is to be stored.
    pub no_store: bool,
    /// The content is to stay as it is; we never change it.
    pub no_transform: bool,
    /// From a cache or not at all.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Takes in one field value.
    pub fn note(&mut self, value: &[u8]) {
        for (name, argument) in directives(value) {
            match Known::of(name) {
                // Not a number: the client wants something young, so nothing is young enough.
                Known::MaxAge => first(&mut self.max_age_s, argument.seconds().or(Some(0))),
                Known::MinFresh => first(&mut self.min_fresh_s, argument.seconds()),
                Known::StaleIfError => first(&mut self.stale_if_error_s, argument.seconds()),
                Known::MaxStale => first(
                    &mut self.max_stale_s,
                    if argument == Argument::None { Some(u32::MAX) } else { argument.seconds() },
                ),
                Known::NoCache => self.no_cache = true,
                Known::NoStore => self.no_store = true,
                Known::NoTransform => self.no_transform = true,
                Known::OnlyIfCached => self.only_if_cached = true,
                _ => {}
            }
        }
    }
}

/// What a response tells caches (RFC 9111 5.2.2, RFC 5861, RFC 8246).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// Lifetime.
    pub max_age_s: Option<u32>,
    /// Lifetime in shared caches.
    pub s_maxage_s: Option<u32>,
    /// How long after its lifetime it may be served while it is revalidated.
    pub swr_s: Option<u32>,
    /// How long after its lifetime it may be served when the origin fails.
    pub sie_s: Option<u32>,
    /// Never without asking the origin.
    pub no_cache: bool,
    /// The same, for some fields only; they are found again with [`no_cache_fields`].
    pub no_cache_fields: bool,
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be stored in a shared cache.
    pub private: bool,
    /// Some fields are not to be stored in a shared cache.
    pub private_fields: bool,
    /// To be stored even where that is not the rule.
    pub public: bool,
    /// Stale is never good enough.
    pub must_revalidate: bool,
    /// Stale is never good enough in shared caches.
    pub proxy_revalidate: bool,
    /// To be stored only by caches that know its status.
    pub must_understand: bool,
    /// It does not change while it is fresh.
    pub immutable: bool,
    /// The content is to stay as it is; we never change it.
    pub no_transform: bool,
}

impl ResponseDirectives {
    /// Takes in one field value.
    pub fn note(&mut self, value: &[u8]) {
        for (name, argument) in directives(value) {
            self.note_directive(name, argument);
        }
    }

    /// Takes in one directive.
    pub fn note_directive(&mut self, name: &[u8], argument: Argument<'_>) {
        // RFC 9111 4.2.1: a lifetime that cannot be read makes the response stale.
        let lifetime = argument.seconds().unwrap_or(0);
        match Known::of(name) {
            Known::MaxAge => first(&mut self.max_age_s, Some(lifetime)),
            Known::SMaxage => first(&mut self.s_maxage_s, Some(lifetime)),
            Known::StaleWhileRevalidate => first(&mut self.swr_s, Some(lifetime)),
            Known::StaleIfError => first(&mut self.sie_s, Some(lifetime)),
            Known::NoCache if argument.is_field_names() => self.no_cache_fields = true,
            Known::NoCache => self.no_cache = true,
            Known::NoStore => self.no_store = true,
            Known::Private if argument.is_field_names() => self.private_fields = true,
            Known::Private => self.private = true,
            Known::Public => self.public = true,
            Known::MustRevalidate => self.must_revalidate = true,
            Known::ProxyRevalidate => self.proxy_revalidate = true,
            Known::MustUnderstand => self.must_understand = true,
            Known::Immutable => self.immutable = true,
            Known::NoTransform => self.no_transform = true,
            _ => {}
        }
    }

    /// Whether it says how long the response is fresh.
    pub fn has_lifetime(&self) -> bool {
        self.max_age_s.is_some() || self.s_maxage_s.is_some()
    }
}

/// The fields that `no-cache="…"` in this value names (RFC 9111 5.2.2.4).
pub fn no_cache_fields(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    listed(value, Known::NoCache)
}

/// The fields that `private="…"` in this value names (RFC 9111 5.2.2.7).
pub fn private_fields(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    listed(value, Known::Private)
}

fn listed(value: &[u8], directive: Known) -> impl Iterator<Item = &[u8]> {
    directives(value)
        .filter(move |(name, argument)| Known::of(name) == directive && argument.is_field_names())
        .flat_map(|(_, argument)| argument.field_names())
}

fn first(slot: &mut Option<u32>, value: Option<u32>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// The directives that mean something to us; the others are ignored (RFC 9111 5.2.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    MaxAge,
    SMaxage,
    MaxStale,
    MinFresh,
    NoCache,
    NoStore,
    NoTransform,
    OnlyIfCached,
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    Immutable,
    StaleWhileRevalidate,
    StaleIfError,
    Other,
}

impl Known {
    /// Names are compared without case (RFC 9111 5.2). Their lengths tell most of them apart.
    fn of(name: &[u8]) -> Self {
        let candidates: &[(&[u8], Known)] = match name.len() {
            6 => &[(b"public", Self::Public)],
            7 => &[(b"max-age", Self::MaxAge), (b"private", Self::Private)],
            8 => &[(b"no-cache", Self::NoCache), (b"no-store", Self::NoStore), (b"s-maxage", Self::SMaxage)],
            9 => &[
                (b"immutable", Self::Immutable),
                (b"max-stale", Self::MaxStale),
                (b"min-fresh", Self::MinFresh),
            ],
            12 => &[(b"no-transform", Self::NoTransform)],
            14 => &[(b"stale-if-error", Self::StaleIfError), (b"only-if-cached", Self::OnlyIfCached)],
            15 => &[(b"must-revalidate", Self::MustRevalidate), (b"must-understand", Self::MustUnderstand)],
            16 => &[(b"proxy-revalidate", Self::ProxyRevalidate)],
            22 => &[(b"stale-while-revalidate", Self::StaleWhileRevalidate)],
            _ => &[],
        };
        candidates.iter().find(|(text, _)| text.eq_ignore_ascii_case(name)).map_or(Self::Other, |(_, k)| *k)
    }
}
