//! Keys, nonces and next secrets out of secrets (RFC 8446, 7.1 to 7.3).

use aws_lc_rs::aead::{self, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::{Zeroize, Zeroizing};

use super::Broken;
use crate::tls::keys::{SECRET_BYTES, Suite, Version};

/// Bytes of a nonce, in every suite (RFC 8446, 5.3; RFC 5288, 3; RFC 7905, 2).
pub(super) const NONCE_BYTES: usize = 12;

/// One direction's AEAD, ready for records, and what a record's number is XORed with to get its nonce.
pub(super) struct Context {
    pub key: LessSafeKey,
    iv: [u8; NONCE_BYTES],
}

impl Context {
    /// Out of a secret. TLS 1.3: the traffic secret, and all is derived from it. TLS 1.2: the key, and behind it what the
    /// nonces are made from.
    pub fn new(version: Version, suite: Suite, secret: &[u8; SECRET_BYTES]) -> Result<Context, Broken> {
        let algorithm = match suite {
            Suite::Aes128Gcm => &aead::AES_128_GCM,
            Suite::Aes256Gcm => &aead::AES_256_GCM,
            Suite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..suite.key_bytes()];
        match version {
            Version::Tls12 => key.copy_from_slice(&secret[..suite.key_bytes()]),
            Version::Tls13 => expand_label(suite, secret, b"key", key)?,
        }
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| Broken)?);
        Ok(Context { key, iv: iv(version, suite, secret)? })
    }

    /// The nonce of record `seq` (RFC 8446, 5.3; RFC 7905, 2; for GCM in TLS 1.2, whose explicit part may be anything that
    /// is used once, the same: RFC 5288, 3).
    #[inline]
    pub fn nonce(&self, seq: u64) -> [u8; NONCE_BYTES] {
        let mut nonce = self.iv;
        for (n, s) in nonce[4..].iter_mut().zip(seq.to_be_bytes()) {
            *n ^= s;
        }
        nonce
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

/// What the number of a record is XORed with to get its nonce. TLS 1.2: what follows the key, which for GCM is the salt
/// and a start of the explicit part, both from the handshake.
pub(super) fn iv(
    version: Version,
    suite: Suite,
    secret: &[u8; SECRET_BYTES],
) -> Result<[u8; NONCE_BYTES], Broken> {
    let mut iv = [0; NONCE_BYTES];
    match version {
        Version::Tls12 => iv.copy_from_slice(&secret[suite.key_bytes()..][..NONCE_BYTES]),
        Version::Tls13 => expand_label(suite, secret, b"iv", &mut iv)?,
    }
    Ok(iv)
}

/// The secret after a KeyUpdate (RFC 8446, 7.2).
pub(super) fn next_secret(
    suite: Suite,
    secret: &[u8; SECRET_BYTES],
) -> Result<Zeroizing<[u8; SECRET_BYTES]>, Broken> {
    let mut next = Zeroizing::new([0; SECRET_BYTES]);
    expand_label(suite, secret, b"traffic upd", &mut next[..suite.hash_bytes()])?;
    Ok(next)
}

/// HKDF-Expand-Label with an empty context (RFC 8446, 7.1).
fn expand_label(
    suite: Suite,
    secret: &[u8; SECRET_BYTES],
    label: &[u8],
    out: &mut [u8],
) -> Result<(), Broken> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    const PREFIX: &[u8] = b"tls13 ";
    let hash = match suite {
        Suite::Aes256Gcm => hkdf::HKDF_SHA384,
        Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
    };
    let length = (out.len() as u16).to_be_bytes();
    let label_length = [(PREFIX.len() + label.len()) as u8];
    let info: [&[u8]; 5] = [&length, &label_length, PREFIX, label, &[0]];
    hkdf::Prk::new_less_safe(hash, &secret[..suite.hash_bytes()])
        .expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| Broken)
}

/// The key that a traffic secret gives.
#[cfg(test)]
pub(super) fn key_for_tests(suite: Suite, secret: &[u8; SECRET_BYTES]) -> Vec<u8> {
    let mut key = vec![0; suite.key_bytes()];
    expand_label(suite, secret, b"key", &mut key).expect("the library works");
    key
}
