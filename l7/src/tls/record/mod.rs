//! The record layer: established sessions, their records sealed and opened (RFC 8446, 5; RFC 5246, 6).
//!
//! ```text
//!   a handshake's Keys ──► Sessions::open ──► SessionId        (a place may be kept before: reserve ──► begin)
//!
//!   plaintext, where it lies ──► seal ──► a record in the flow's cells   out of place: the cache is never written
//!   a whole record ──► receive ──► Data · KeyUpdate · Tickets · CloseNotify · Fatal     opened in place
//!                         └─ Err(alert): what we must send, and then end
//!
//!   Sessions ─┬─ slab of Session: numbers, two secrets (128 bytes); nothing else is kept of an idle connection
//!             └─ pool of AEAD contexts, made from the secrets when a record comes, for who used theirs last
//! ```
//!
//! Sans-IO: no clock, no socket, no randomness. Nothing is allocated but by a context that is made; the pool bounds
//! how many there are. A record that does not authenticate ends its session: nothing after it is taken.
//!
//! **Limits.** AES-GCM is safe for about 2^24.5 records under a key (RFC 8446, 5.5). Half-way, [`Sessions::update_due`]
//! asks for a KeyUpdate (TLS 1.3), or [`Sessions::worn`] for an end in good order (TLS 1.2, which has none); at 2^24 data
//! is refused.
//!
//! **Floods.** A record that brings no data (empty, padding only, a warning, a KeyUpdate, a ticket) costs us as much as one
//! that does. [`QUIET_MAX`] of them in a row are taken; one more is unexpected_message. KeyUpdates that follow each other
//! within a few records count as in a row, as each costs us a context. A peer's KeyUpdate requests are
//! answered once, before our next data, however many there were.
//!
//! **Renegotiation** (TLS 1.2) is refused with a fatal handshake_failure, on both sides.

mod alert;
mod contexts;
mod derive;
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub mod harness;
mod receive;
mod session;
mod sessions;

#[cfg(test)]
mod tests;

pub use alert::Alert;
pub use receive::{QUIET_MAX, Received, tickets};
pub use session::SessionId;
pub use sessions::{RecordNumber, Sessions};

use aws_lc_rs::aead::{Aad, Nonce};
use derive::Context;

use super::keys::{SECRET_BYTES, Suite, Version};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client connected to us.
    Server,
    /// We connected to an origin.
    Client,
}

/// What a record carries (RFC 8446, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ContentType {
    /// Of handshakes only.
    ChangeCipherSpec = 20,
    /// Two bytes: level and [`Alert`].
    Alert = 21,
    /// Handshake messages, or parts of them.
    Handshake = 22,
    /// Data.
    ApplicationData = 23,
}

impl ContentType {
    const fn from_byte(byte: u8) -> Option<ContentType> {
        Some(match byte {
            20 => ContentType::ChangeCipherSpec,
            21 => ContentType::Alert,
            22 => ContentType::Handshake,
            23 => ContentType::ApplicationData,
            _ => return None,
        })
    }
}

/// Why a record was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// More than [`PLAIN_MAX`] bytes.
    TooLong,
    /// `out` is too small for the record.
    NoRoom,
    /// The key has sealed as many records as it may: an update, or the end.
    Exhausted,
    /// close_notify or a fatal alert was sent already.
    Closed,
    /// To seal again what was sealed before a KeyUpdate, or never: its key is not there.
    Gone,
    /// TLS 1.2 has no KeyUpdate.
    NoUpdate,
    /// The AEAD library failed: out of memory.
    Library,
}

impl std::fmt::Display for SealError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SealError::TooLong => "more than a record holds",
            SealError::NoRoom => "no room for the record",
            SealError::Exhausted => "as many records as the key may seal",
            SealError::Closed => "closed already",
            SealError::Gone => "sealed with a key that is gone",
            SealError::NoUpdate => "no KeyUpdate in TLS 1.2",
            SealError::Library => "the AEAD library is out of memory",
        })
    }
}

impl std::error::Error for SealError {}

/// The AEAD library failed where only want of memory lets it.
#[derive(Clone, Copy, Debug)]
struct Broken;

impl From<Broken> for SealError {
    fn from(_: Broken) -> SealError {
        SealError::Library
    }
}

impl From<Broken> for Alert {
    fn from(_: Broken) -> Alert {
        Alert::INTERNAL_ERROR
    }
}

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 5;
/// Bytes of plaintext that a record holds at most (RFC 8446, 5.1; RFC 5246, 6.2.1).
pub const PLAIN_MAX: usize = 1 << 14;
/// Bytes of a record at most, with its header (RFC 8446, 5.2). TLS 1.2 allows 2^14 + 2,048 behind the header, but no AEAD
/// adds more than 24 to the plaintext: what is longer than this holds too much in either version.
pub const RECORD_MAX: usize = HEADER_BYTES + PLAIN_MAX + 256;
/// Bytes that a record is longer than its plaintext, at most.
pub const OVERHEAD_MAX: usize = HEADER_BYTES + EXPLICIT_BYTES + TAG_BYTES;
const TAG_BYTES: usize = 16;
const EXPLICIT_BYTES: usize = 8;

/// Bytes of the part of the nonce that stands in each record (RFC 5288, 3).
const fn explicit_bytes(version: Version, suite: Suite) -> usize {
    match (version, suite) {
        (Version::Tls12, Suite::Aes128Gcm | Suite::Aes256Gcm) => EXPLICIT_BYTES,
        _ => 0,
    }
}

/// Bytes of a record that holds `plain` bytes: header, explicit part of the nonce, plaintext, inner type, tag.
pub const fn sealed_bytes(version: Version, suite: Suite, plain: usize) -> usize {
    let inner_type = match version {
        Version::Tls13 => 1,
        Version::Tls12 => 0,
    };
    HEADER_BYTES + explicit_bytes(version, suite) + plain + inner_type + TAG_BYTES
}

/// Whether this record is the first that was sealed by a traffic secret of TLS 1.3.
pub(super) fn opens(suite: Suite, secret: &[u8; SECRET_BYTES], record: &[u8]) -> bool {
    let Some((head, sealed)) = record.split_first_chunk::<HEADER_BYTES>() else { return false };
    let Ok(context) = Context::new(Version::Tls13, suite, secret) else { return false };
    let nonce = Nonce::assume_unique_for_key(context.nonce(0));
    context.key.open_in_place(nonce, Aad::from(*head), &mut sealed.to_vec()).is_ok()
}

/// Bytes of the record that `bytes` begins with, as soon as its header is there.
///
/// The version in the header is not looked at: TLS 1.3 says so (RFC 8446, 5.1), and in both it is authenticated.
///
/// # Errors
/// The alert to send when no record of TLS begins like this: unexpected_message or record_overflow.
pub fn header(bytes: &[u8]) -> Result<Option<usize>, Alert> {
    let Some(&[kind, _, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
    if ContentType::from_byte(kind).is_none() {
        return Err(Alert::UNEXPECTED_MESSAGE);
    }
    let length = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > RECORD_MAX { Err(Alert::RECORD_OVERFLOW) } else { Ok(Some(length)) }
}
