//! Who is believed to be an origin.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::{Roots, TlsError, Trust};

/// A certificate that has signed itself: webpki says only that it knows no issuer.
#[derive(Clone, Copy, Debug)]
pub struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("self-signed certificate")
    }
}

impl std::error::Error for SelfSigned {}

/// webpki's verdict, with two differences: a certificate that has signed itself is called that, and one that stands
/// itself in the file of roots is believed whatever it says about being an authority (`openssl req -x509` makes such
/// ones, and other servers take them).
#[derive(Debug)]
pub struct ByRoots {
    webpki: Arc<WebPkiServerVerifier>,
    roots: Arc<Roots>,
}

/// Believes everybody; that the handshake is by whoever has the certificate's key is checked all the same.
#[derive(Debug)]
pub struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

/// What verifies an origin that is trusted like this.
///
/// # Errors
/// When there is no root.
pub fn verifier(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    match trust {
        Trust::Anybody => Ok(Arc::new(Anybody { algorithms: provider.signature_verification_algorithms })),
        Trust::Roots(roots) => {
            let webpki =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots.store), Arc::clone(provider));
            let webpki = webpki.build().map_err(|e| TlsError::Roots(e.to_string()))?;
            Ok(Arc::new(ByRoots { webpki, roots: Arc::clone(roots) }))
        }
    }
}

impl ByRoots {
    /// What else there is to say when webpki has refused.
    fn second_look(
        &self,
        refused: Error,
        end_entity: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        match &refused {
            // Said after its time was found good, and before anything else is looked at.
            Error::InvalidCertificate(CertificateError::Other(OtherError(e)))
                if is_authority(e.as_ref()) && self.roots.has(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)
            }
            Error::InvalidCertificate(CertificateError::Other(OtherError(e)))
                if is_authority(e.as_ref()) && is_self_signed(end_entity) =>
            {
                Err(self_signed())
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer) if is_self_signed(end_entity) => {
                Err(self_signed())
            }
            _ => Err(refused),
        }
    }
}

fn self_signed() -> Error {
    CertificateError::Other(OtherError(Arc::new(SelfSigned))).into()
}

fn is_authority(e: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(e.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Whether it names itself as its issuer.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|c| c.issuer() == c.subject())
}

impl ServerCertVerifier for ByRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Ok(verified) => Ok(verified),
            Err(refused) => {
                self.second_look(refused, end_entity, name)?;
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
