//! What is kept of an established connection: a few numbers and its two secrets.

use hugepages::typed_index;
use zeroize::Zeroize;

use super::contexts::ContextId;
use super::derive::{self, NONCE_BYTES};
use super::{Broken, Side};
use crate::tls::keys::{Half, Keys, SECRET_BYTES, Suite, Version};

typed_index! {
    /// An established connection's place in [`Sessions`](super::Sessions).
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

/// What a record needs stands first, in 64 bytes; the secrets are read when a context is made.
#[repr(C)]
pub(super) struct Session {
    /// Of the next record, by way.
    pub seq: [u64; 2],
    /// What a record's number is XORed with, by way.
    pub iv: [[u8; NONCE_BYTES]; 2],
    /// Where its AEAD contexts are, if it has any now.
    pub context: ContextId,
    /// KeyUpdates that we have sent: a record number means something within one of them only.
    pub generation: u32,
    /// Bytes still to come of a ticket that spans records, and that is let go.
    pub skip: u32,
    /// The first bytes of a handshake message that spans records.
    pub partial: [u8; 4],
    /// How many of them are there.
    pub partial_bytes: u8,
    /// Records in a row that brought no data.
    pub quiet: u8,
    pub flags: u8,
    pub version: Version,
    pub suite: Suite,
    pub side: Side,
    /// As in [`Half`], by way.
    secret: [[u8; SECRET_BYTES]; 2],
}

const _: () = assert!(size_of::<Session>() == 160);

impl Session {
    /// One that belongs to nobody.
    pub fn unused() -> Session {
        Session {
            seq: [0; 2],
            iv: [[0; NONCE_BYTES]; 2],
            context: ContextId::NONE,
            generation: 0,
            skip: 0,
            partial: [0; 4],
            partial_bytes: 0,
            quiet: 0,
            flags: 0,
            version: Version::Tls13,
            suite: Suite::Aes128Gcm,
            side: Side::Server,
            secret: [[0; SECRET_BYTES]; 2],
        }
    }

    /// Begins with what a handshake left.
    pub fn begin(&mut self, keys: &Keys, side: Side) -> Result<(), Broken> {
        *self = Session { version: keys.version, suite: keys.suite, side, ..Session::unused() };
        for (way, Half { secret, seq }) in [(Way::Rx, &keys.rx), (Way::Tx, &keys.tx)] {
            self.seq[way as usize] = *seq;
            self.set_secret(way, secret)?;
        }
        Ok(())
    }

    /// Leaves nothing that opens a record.
    pub fn wipe(&mut self) {
        self.secret.zeroize();
        self.iv.zeroize();
        self.flags = TX_CLOSED | RX_BROKEN;
    }

    /// The secret, for a context.
    pub fn secret(&self, way: Way) -> &[u8; SECRET_BYTES] {
        &self.secret[way as usize]
    }

    /// The next secret counts from here on, and numbers begin anew (RFC 8446, 5.3 and 7.2).
    pub fn advance(&mut self, way: Way) -> Result<(), Broken> {
        let next = derive::next_secret(self.suite, self.secret(way))?;
        self.set_secret(way, &next)?;
        self.seq[way as usize] = 0;
        Ok(())
    }

    /// The nonce of record `seq` (RFC 8446, 5.3; RFC 7905, 2; for GCM in TLS 1.2, whose explicit part may be anything that
    /// is used once, the same: RFC 5288, 3).
    #[inline]
    pub fn nonce(&self, way: Way, seq: u64) -> [u8; NONCE_BYTES] {
        let mut nonce = self.iv[way as usize];
        for (n, s) in nonce[4..].iter_mut().zip(seq.to_be_bytes()) {
            *n ^= s;
        }
        nonce
    }

    /// Bytes of the explicit part of the nonce that stands in each record.
    #[inline]
    pub fn explicit_bytes(&self) -> usize {
        super::explicit_bytes(self.version, self.suite)
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set_secret(&mut self, way: Way, secret: &[u8; SECRET_BYTES]) -> Result<(), Broken> {
        self.secret[way as usize] = *secret;
        self.iv[way as usize] = derive::iv(self.version, self.suite, secret)?;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}
