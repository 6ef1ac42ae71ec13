//! How old a session is, over all of its tickets: counted from the full handshake in which the client was last verified
//! (RFC 8446, 4.6.1, which recommends such a bound, and that it heeds the certificate's end).
//!
//! ```text
//!  full handshake ───────────────► sealed: began now, and the end of the client's certificate
//!  resumed: opened ── Past ──────► sealed: the same again
//!             └─ too old, or the certificate is over: it does not open, and the handshake is a full one
//! ```
//!
//! rustls knows nothing of it: each resumption gets tickets as if nothing had been before, and so whoever went on resuming
//! would never be verified again, and would have the same secret for ever in TLS 1.2. What a call of rustls opens or
//! verifies is noted here, on its thread; [`Handshake`](super::handshake::Handshake) takes it over, and puts it back for the
//! call that seals.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certs;

/// What a handshake's session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// When the full handshake was that the session began with, in seconds since 1970; `None`: it is this one.
    began_s: Option<u64>,
    /// The last second of the client's certificate.
    certified_until_s: u64,
    /// The client has brought a session whose time is over.
    is_over: bool,
}

/// What goes with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Age {
    /// When its full handshake was.
    pub began_s: u64,
    /// The last second of the certificate that the client has shown; without one the end of time.
    pub certified_until_s: u64,
}

thread_local! {
    /// Of the handshake that this thread is at.
    static PAST: Cell<Past> = const { Cell::new(Past::NONE) };
}

impl Past {
    pub const NONE: Past = Past { began_s: None, certified_until_s: u64::MAX, is_over: false };

    /// This thread goes on with the handshake that this belongs to.
    pub fn enter(self) {
        PAST.set(self);
    }

    /// It does so no more.
    pub fn leave() -> Past {
        PAST.replace(Past::NONE)
    }

    /// What was opened is not resumed: rustls has found that it does not fit.
    pub fn forget_opened(&mut self) {
        if self.began_s.is_some() {
            *self = Past { is_over: self.is_over, ..Past::NONE };
        }
    }

    /// Whether the client has brought a session whose time is over. Says so once.
    pub fn take_over(&mut self) -> bool {
        std::mem::take(&mut self.is_over)
    }
}

impl Age {
    pub const BYTES: usize = 16;

    /// Of a session that is sealed now.
    pub fn of_sealed(now_s: u64) -> Age {
        let Past { began_s, certified_until_s, .. } = PAST.get();
        Age { began_s: began_s.unwrap_or(now_s), certified_until_s }
    }

    /// Seconds that it may still be resumed, where sessions are good for `keep_s`. 0: not any more.
    pub fn left_s(self, now_s: u64, keep_s: u64) -> u64 {
        let until_s = self.began_s.saturating_add(keep_s).min(self.certified_until_s.saturating_add(1));
        until_s.saturating_sub(now_s)
    }

    /// This session was opened, and will be resumed if rustls finds nothing wrong with it.
    pub fn note_opened(self) {
        let Age { began_s, certified_until_s } = self;
        PAST.set(Past { began_s: Some(began_s), certified_until_s, is_over: false });
    }

    /// A session was found whose time is over.
    pub fn note_over() {
        PAST.set(Past { is_over: true, ..PAST.get() });
    }

    pub fn to_bytes(self) -> [u8; Age::BYTES] {
        let mut bytes = [0; Age::BYTES];
        let (began, until) = bytes.split_at_mut(8);
        began.copy_from_slice(&self.began_s.to_be_bytes());
        until.copy_from_slice(&self.certified_until_s.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; Age::BYTES]) -> Age {
        let both = u128::from_be_bytes(bytes);
        Age { began_s: (both >> 64) as u64, certified_until_s: both as u64 }
    }
}

/// Verifies clients as another does, and notes until when their certificates are good.
pub(super) fn noting(verifier: Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Noting(verifier))
}

#[derive(Debug)]
struct Noting(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Noting {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        // One whose end we cannot read is for this connection only.
        let certified_until_s = certs::not_after_s(end_entity).unwrap_or(0);
        PAST.set(Past { certified_until_s, ..Past::NONE });
        Ok(verified)
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_its_time_and_its_certificates() {
        let age = |began_s, certified_until_s| Age { began_s, certified_until_s };
        assert_eq!(age(1_000, u64::MAX).left_s(1_000, 60), 60);
        assert_eq!(age(1_000, u64::MAX).left_s(1_059, 60), 1);
        assert_eq!(age(1_000, u64::MAX).left_s(1_060, 60), 0);
        // The last second of a certificate counts.
        assert_eq!([1_030, 1_031].map(|now| age(1_000, 1_030).left_s(now, 60)), [1, 0]);
        assert_eq!(age(u64::MAX, u64::MAX).left_s(1, u64::MAX), u64::MAX - 1);
    }

    #[test]
    fn it_is_sealed_as_it_was_opened() {
        let first = Age::of_sealed(7);
        assert_eq!(first, Age { began_s: 7, certified_until_s: u64::MAX });
        let age = Age { began_s: 3, certified_until_s: 1 << 40 };
        assert_eq!(Age::from_bytes(age.to_bytes()), age);
        age.note_opened();
        assert_eq!(Age::of_sealed(7), age);
        let mut past = Past::leave();
        assert_eq!(Age::of_sealed(7), first);
        past.enter();
        assert_eq!(Age::of_sealed(7), age);
        past.forget_opened();
        assert_eq!(past, Past::NONE);
        Past::NONE.enter();
        Age::note_over();
        let mut past = Past::leave();
        assert!(past.take_over() && !past.take_over());
    }
}
