//! TLS to an origin: whom we believe, what we show, what is agreed on. Built on the control side, read by the cores.
//!
//! ```text
//!  control side: Spec (name, roots or nobody's, our certificate, oldest version) ─► OriginTls ── Arc ──► every core
//!  core:         OriginTls::config(core) ─► a handshake ─┬─ established: the pool is the name's own
//!                     ▲ tickets                          └─ Refusal: why, for the log line and the counters
//!                     └──────────────────────────────────────────
//! ```
//!
//! **What is checked.** That a trusted root has signed the certificate by a chain that is good now, and that it is for
//! the name: by webpki, in every full handshake. A resumed one relies on the full one before it, and only with the very
//! same settings: a store of tickets is one [`OriginTls`]'s, and a pool of connections too. There is no way from a
//! handshake that failed to a connection without TLS, or without the check.

mod kept;
mod reason;
mod verifier;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, version};

pub use self::kept::{Kept, TICKETS_MAX};
pub use self::reason::{Reason, Refusal};
use super::handshake;
use super::keys::Version;

/// Why there can be no TLS to an origin with what is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// This is neither a name nor an address.
    Name(String),
    /// The roots are of no use.
    Roots(String),
    /// Our certificate or its key is of no use.
    Identity(String),
    /// rustls refuses the settings.
    Settings(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Name(name) => write!(f, "\"{name}\" is no name that a certificate can have"),
            TlsError::Roots(why) => write!(f, "the trusted roots are of no use: {why}"),
            TlsError::Identity(why) => write!(f, "the client certificate is of no use: {why}"),
            TlsError::Settings(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TlsError {}

/// Certificates that are trusted to sign others.
pub struct Roots {
    store: Arc<RootCertStore>,
    /// A hash of each, sorted.
    hashes: Vec<[u8; 32]>,
}

impl Roots {
    /// Those of a file that an operator wrote, or of the system. `strict`: each must be one; otherwise those that are
    /// none are left out (systems have some that are too old to be read).
    ///
    /// # Errors
    /// There is none, or, if strict, one that cannot be read.
    pub fn new(certificates: &[CertificateDer<'_>], strict: bool) -> Result<Roots, TlsError> {
        let mut store = RootCertStore::empty();
        let mut hashes = Vec::with_capacity(certificates.len());
        for (n, c) in certificates.iter().enumerate() {
            match store.add(c.clone()) {
                Ok(()) => hashes.push(sha256(&[c])),
                Err(_) if !strict => {}
                Err(e) => return Err(TlsError::Roots(format!("certificate {} of it: {e}", n + 1))),
            }
        }
        if store.is_empty() {
            return Err(TlsError::Roots("there is none".to_owned()));
        }
        hashes.sort_unstable();
        hashes.dedup();
        Ok(Roots { store: Arc::new(store), hashes })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Never: roots are at least one.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the certificate is itself one of them.
    fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.hashes.binary_search(&sha256(&[certificate])).is_ok()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} roots", self.len())
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that one of these has signed.
    Roots(Arc<Roots>),
    /// Anybody's: whoever sits between us and the origin can read and change everything.
    Anybody,
}

impl PartialEq for Trust {
    fn eq(&self, other: &Trust) -> bool {
        match (self, other) {
            (Trust::Roots(a), Trust::Roots(b)) => Arc::ptr_eq(a, b) || a.hashes == b.hashes,
            (Trust::Anybody, Trust::Anybody) => true,
            _ => false,
        }
    }
}

impl Eq for Trust {}

/// What we show to origins that ask who we are.
pub struct Identity {
    key: Arc<SingleCertAndKey>,
    /// Of the chain and the key.
    hash: [u8; 32],
}

impl Identity {
    /// A chain, our own certificate first, and its key.
    ///
    /// # Errors
    /// They do not fit together, or cannot be read.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Identity, TlsError> {
        if chain.is_empty() {
            return Err(TlsError::Identity("the chain has no certificate".to_owned()));
        }
        let mut parts: Vec<&[u8]> = chain.iter().map(|c| &**c).collect();
        parts.push(key.secret_der());
        let hash = sha256(&parts);
        let key = CertifiedKey::from_der(chain, key, &provider::default_provider())
            .map_err(|e| TlsError::Identity(e.to_string()))?;
        Ok(Identity { key: Arc::new(SingleCertAndKey::from(key)), hash })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Identity {}

/// What is configured of an origin's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The name that it is asked for by, and that its certificate must have; an address is never sent as a name.
    pub name: ServerName<'static>,
    /// Whom we believe.
    pub trust: Trust,
    /// Who we are.
    pub identity: Option<Arc<Identity>>,
    /// The oldest version that is agreed to.
    pub oldest: Version,
}

impl Spec {
    /// One with both versions, and without a certificate of ours.
    ///
    /// # Errors
    /// `name` is neither a name nor an address.
    pub fn new(name: &str, trust: Trust) -> Result<Spec, TlsError> {
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        Ok(Spec { name, trust, identity: None, oldest: Version::Tls12 })
    }
}

/// TLS to one origin.
pub struct OriginTls {
    spec: Spec,
    /// By core: the same but for the tickets.
    configs: Box<[Arc<ClientConfig>]>,
}

impl OriginTls {
    /// For so many cores.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub fn new(spec: Spec, cores: usize) -> Result<OriginTls, TlsError> {
        let base = client_config(&spec)?;
        let each = |_| {
            let mut config = base.clone();
            config.resumption = Resumption::store(Arc::new(Kept::new(spec.name.clone(), TICKETS_MAX)));
            Arc::new(config)
        };
        let configs = (0..cores.max(1)).map(each).collect();
        Ok(OriginTls { spec, configs })
    }

    /// What was configured.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The name that is asked for and checked.
    pub fn name(&self) -> &ServerName<'static> {
        &self.spec.name
    }

    /// What a core's handshakes with it begin with.
    pub fn config(&self, core: usize) -> &Arc<ClientConfig> {
        &self.configs[core % self.configs.len()]
    }
}

impl fmt::Debug for OriginTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl PartialEq for OriginTls {
    /// Whether connections and tickets of the one are good for the other.
    fn eq(&self, other: &OriginTls) -> bool {
        self.spec == other.spec && self.configs.len() == other.configs.len()
    }
}

impl Eq for OriginTls {}

/// What a client that asks for HTTP/1.1 begins with; without tickets.
///
/// # Errors
/// What is wrong with the spec.
pub fn client_config(spec: &Spec) -> Result<ClientConfig, TlsError> {
    client_config_with(spec, provider::default_provider())
}

/// The same, with other suites or groups than usual.
///
/// # Errors
/// What is wrong with the spec.
pub fn client_config_with(spec: &Spec, crypto: CryptoProvider) -> Result<ClientConfig, TlsError> {
    let crypto = Arc::new(crypto);
    let versions: &[_] = match spec.oldest {
        Version::Tls12 => &[&version::TLS13, &version::TLS12],
        Version::Tls13 => &[&version::TLS13],
    };
    let verifier = verifier::verifier(&spec.trust, &crypto)?;
    let builder = ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(versions)
        .map_err(|e| TlsError::Settings(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &spec.identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::clone(&identity.key) as _),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    handshake::ask(&mut config);
    Ok(config)
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut all = digest::Context::new(&digest::SHA256);
    for part in parts {
        // With its length, so that what is in one part cannot look like two.
        all.update(&(part.len() as u64).to_le_bytes());
        all.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(all.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests;
