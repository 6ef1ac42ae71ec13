//! What an established connection's records are protected by: what a handshake leaves behind.

use std::fmt;

use rustls::CipherSuite;
use zeroize::Zeroize;

/// Bytes of the longest secret: SHA-384's.
pub const SECRET_BYTES: usize = 48;

/// The protocol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 5246, with AEAD suites only.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The AEAD of the records, and in TLS 1.3 with it the hash of the key schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-128 in GCM; SHA-256.
    Aes128Gcm,
    /// AES-256 in GCM; SHA-384.
    Aes256Gcm,
    /// ChaCha20 and Poly1305; SHA-256.
    ChaCha20Poly1305,
}

/// One direction's secret, and the number of its next record.
#[derive(Clone)]
pub struct Half {
    /// TLS 1.3: the traffic secret, as long as the hash. TLS 1.2: the write key, then the 12 bytes that a record's number is
    /// XORed with to get its nonce (in GCM the salt, and where the explicit part starts from). The rest is 0.
    pub secret: [u8; SECRET_BYTES],
    /// Of the next record (RFC 8446, 5.3; RFC 5246, 6.1).
    pub seq: u64,
}

/// Both directions of a connection whose handshake is done.
#[derive(Clone)]
pub struct Keys {
    /// The version that was agreed on.
    pub version: Version,
    /// The suite that was agreed on.
    pub suite: Suite,
    /// What the peer sends.
    pub rx: Half,
    /// What we send.
    pub tx: Half,
}

impl Suite {
    /// By the number of a suite of TLS 1.3.
    pub fn of_tls13(suite: CipherSuite) -> Option<Suite> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Suite::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Suite::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Suite::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Bytes of the AEAD's key.
    pub const fn key_bytes(self) -> usize {
        match self {
            Suite::Aes128Gcm => 16,
            Suite::Aes256Gcm | Suite::ChaCha20Poly1305 => 32,
        }
    }

    /// Bytes of the hash, and of a traffic secret, in TLS 1.3.
    pub const fn hash_bytes(self) -> usize {
        match self {
            Suite::Aes256Gcm => 48,
            Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => 32,
        }
    }
}

impl Half {
    /// A direction whose secret is `secret`, which is at most [`SECRET_BYTES`] long, and whose next record is `seq`.
    pub fn new(secret: &[u8], seq: u64) -> Option<Half> {
        let mut bytes = [0; SECRET_BYTES];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Half { secret: bytes, seq })
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Half {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("version", &self.version)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}
