//! What is kept of an established connection: a few numbers and its two secrets.

use hugepages::typed_index;
use zeroize::Zeroize;

use super::contexts::ContextId;
use super::derive;
use super::{Broken, Side};
use crate::tls::keys::{Half, Keys, SECRET_BYTES, Suite, Version};

typed_index! {
    /// A connection's place in [`Sessions`](super::Sessions).
    pub struct SessionId;
}

/// A direction: an index into the pairs below.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Rx = 0,
    Tx = 1,
}

/// We have sent close_notify or a fatal alert: nothing may follow (RFC 8446, 6.1).
pub(super) const TX_CLOSED: u8 = 1;
/// The peer has sent close_notify: what follows is to be ignored (RFC 8446, 6.1).
pub(super) const RX_CLOSED: u8 = 2;
/// The peer broke the rules or gave up: nothing more is taken from it.
pub(super) const RX_BROKEN: u8 = 4;
/// The peer has asked for a KeyUpdate of ours (RFC 8446, 4.6.3).
pub(super) const UPDATE_OWED: u8 = 8;
/// It has begun and not ended.
pub(super) const OPEN: u8 = 16;

/// In [`Session::partial_bytes`]: `partial` is how many bytes are still to come of a message that is let go.
const SKIPS: u8 = u8::MAX;

/// What a record needs stands first; the secrets are read when a context is made. Two cache lines, of which a record
/// touches the first.
#[repr(C, align(64))]
pub(super) struct Session {
    /// Of the next record, by way.
    pub seq: [u64; 2],
    /// Where its AEAD contexts are, if it has any now.
    pub context: ContextId,
    /// The first bytes of a handshake message that spans records.
    pub partial: [u8; 4],
    /// How many of them are there, or [`SKIPS`].
    pub partial_bytes: u8,
    /// Records in a row that brought no data.
    pub quiet: u8,
    /// KeyUpdates that we have sent: a record number means something within one of them only. After 65,536 it begins anew:
    /// nobody has a record that old.
    pub generation: u16,
    pub flags: u8,
    pub version: Version,
    pub suite: Suite,
    pub side: Side,
    /// As in [`Half`], by way.
    secret: [[u8; SECRET_BYTES]; 2],
}

const _: () = assert!(size_of::<Session>() == 128);

impl Session {
    /// One that has not begun: nothing is sealed or received.
    pub fn unused() -> Session {
        Session {
            seq: [0; 2],
            context: ContextId::NONE,
            partial: [0; 4],
            partial_bytes: 0,
            quiet: 0,
            generation: 0,
            flags: TX_CLOSED | RX_BROKEN,
            version: Version::Tls13,
            suite: Suite::Aes128Gcm,
            side: Side::Server,
            secret: [[0; SECRET_BYTES]; 2],
        }
    }

    /// Begins with what a handshake left.
    pub fn begin(&mut self, keys: &Keys, side: Side) {
        let Keys { version, suite, .. } = *keys;
        *self = Session { version, suite, side, flags: OPEN, ..Session::unused() };
        for (way, Half { secret, seq }) in [(Way::Rx, &keys.rx), (Way::Tx, &keys.tx)] {
            self.seq[way as usize] = *seq;
            self.secret[way as usize] = *secret;
        }
    }

    /// Leaves nothing that opens a record, nor anything else of what was.
    pub fn wipe(&mut self) {
        // What is written over here is zeroed by its Drop.
        *self = Session::unused();
    }

    /// Bytes still to come of a message that spans records, and that is let go.
    pub fn skip(&self) -> u32 {
        if self.partial_bytes == SKIPS { u32::from_ne_bytes(self.partial) } else { 0 }
    }

    /// So many are still to come.
    pub fn set_skip(&mut self, bytes: u32) {
        self.partial = bytes.to_ne_bytes();
        self.partial_bytes = if bytes > 0 { SKIPS } else { 0 };
    }

    /// Whether the last record ended within a message.
    pub fn is_within_message(&self) -> bool {
        self.partial_bytes > 0
    }

    /// The secret, for a context.
    pub fn secret(&self, way: Way) -> &[u8; SECRET_BYTES] {
        &self.secret[way as usize]
    }

    /// The next secret counts from here on, and numbers begin anew (RFC 8446, 5.3 and 7.2).
    pub fn advance(&mut self, way: Way) -> Result<(), Broken> {
        let next = derive::next_secret(self.suite, self.secret(way))?;
        self.secret[way as usize] = *next;
        self.seq[way as usize] = 0;
        Ok(())
    }

    /// Bytes of the explicit part of the nonce that stands in each record.
    #[inline]
    pub fn explicit_bytes(&self) -> usize {
        super::explicit_bytes(self.version, self.suite)
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}
