//! Cache-Status (RFC 9211): what the cache did, in the response.

use crate::http1::{Full, HeadSink};

/// Why a request went to the origin (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fwd {
    /// The cache is not to be asked about it.
    Bypass,
    /// Its method is not one that is answered from the cache.
    Method,
    /// Nothing is stored for its URL.
    UriMiss,
    /// Something is stored for its URL, but not for its Vary fields.
    VaryMiss,
    /// Nothing was found, and it is not known which of the two it is.
    Miss,
    /// What is stored is fresh, but the request wants the origin to be asked.
    Request,
    /// What is stored is stale.
    Stale,
    /// Part of what it wants is stored.
    Partial,
}

impl Fwd {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Bypass => b"bypass",
            Self::Method => b"method",
            Self::UriMiss => b"uri-miss",
            Self::VaryMiss => b"vary-miss",
            Self::Miss => b"miss",
            Self::Request => b"request",
            Self::Stale => b"stale",
            Self::Partial => b"partial",
        }
    }
}

/// Our member of Cache-Status.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheStatus<'a> {
    /// Why the request went to the origin; `None`: it did not, that is a hit. A stale response that is served
    /// because the origin failed has both a reason here and a `detail`.
    pub fwd: Option<Fwd>,
    /// What the origin answered, where that is not what the client gets.
    pub fwd_status: Option<u16>,
    /// What is left of the lifetime.
    pub ttl_s: Option<i64>,
    /// Whether the response is stored now.
    pub stored: bool,
    /// Whether the request waited for another one's response.
    pub collapsed: Option<bool>,
    /// The key text, where it may be shown.
    pub key: Option<&'a [u8]>,
    /// A token of ours, like `stale-if-error`.
    pub detail: Option<&'static str>,
    /// The operator does not want it to be said.
    pub is_hidden: bool,
}

impl CacheStatus<'_> {
    /// A hit with what is left of its lifetime.
    pub fn hit(ttl_s: i64) -> Self {
        Self { ttl_s: Some(ttl_s), ..Self::default() }
    }

    /// A request that went on for this reason.
    pub fn forwarded(fwd: Fwd) -> Self {
        Self { fwd: Some(fwd), ..Self::default() }
    }
}

/// Writes the line `Cache-Status: millrace; …`. It comes after those of caches nearer to the origin (RFC 9211 2).
pub fn write_cache_status(status: &CacheStatus<'_>, sink: &mut impl HeadSink) -> Result<(), Full> {
    if status.is_hidden {
        return Ok(());
    }
    match status.fwd {
        None => sink.put_text(b"Cache-Status: millrace; hit")?,
        Some(fwd) => {
            sink.put(b"Cache-Status: millrace; fwd=")?;
            sink.put(fwd.as_bytes())?;
            if let Some(code) = status.fwd_status {
                sink.put(b"; fwd-status=")?;
                sink.put_decimal(u64::from(code))?;
            }
        }
    }
    if let Some(ttl_s) = status.ttl_s {
        sink.put_text(b"; ttl=")?;
        if ttl_s < 0 {
            sink.put_text(b"-")?;
        }
        sink.put_decimal(ttl_s.unsigned_abs())?;
    }
    if status.stored {
        sink.put(b"; stored")?;
    }
    match status.collapsed {
        Some(true) => sink.put(b"; collapsed")?,
        Some(false) => sink.put(b"; collapsed=?0")?,
        None => {}
    }
    if let Some(key) = status.key {
        sink.put(b"; key=\"")?;
        // sf-string: printable ASCII, quote and backslash escaped (RFC 8941 3.3.3). A URL that has anything else
        // has been refused.
        for piece in key.split_inclusive(|&b| b == b'"' || b == b'\\') {
            match piece {
                [text @ .., special @ (b'"' | b'\\')] => {
                    sink.put(text)?;
                    sink.put(&[b'\\', *special])?;
                }
                _ => sink.put(piece)?,
            }
        }
        sink.put(b"\"")?;
    }
    if let Some(detail) = status.detail {
        sink.put(b"; detail=")?;
        sink.put(detail.as_bytes())?;
    }
    sink.put_text(b"\r\n")
}
