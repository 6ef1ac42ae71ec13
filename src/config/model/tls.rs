//! TLS: what listeners present, what is asked of clients, and how origins are trusted.
//!
//! Files are read when the config is, so that a config is all that a node needs, and two configs differ when a
//! certificate has been renewed under the same name.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::HostPattern;

/// `[tls]`: what all listeners with `https` have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Clients that know nothing newer are refused.
    pub min_version: TlsVersion,
    /// How sessions are resumed; `None`: not at all.
    pub tickets: Option<Tickets>,
    /// Whether a client that comes again may send its request with its first flight (0-RTT); not where `client_auth` is.
    pub early_data: bool,
    /// Most handshakes at a time, over all cores; `None`: computed from the memory.
    pub handshakes_max: Option<u32>,
    /// Most of them from one source: an IPv4 address, or an IPv6 /64; `None`: computed from the former.
    pub handshakes_per_source_max: Option<u32>,
    /// Most connections with TLS from one source; `None`: no bound.
    pub connections_per_source_max: Option<u32>,
    /// Threads beside the cores that sign with RSA keys; `None`: computed from the cores.
    pub threads: Option<u16>,
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    V1_2,
    /// RFC 8446
    V1_3,
}

/// `[tls.tickets]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tickets {
    /// A new key is used after this time.
    pub rotate: Duration,
    /// How long a ticket is good, and so how long a key is kept that is not used for new ones any more.
    pub keep: Duration,
    /// What the keys are made from, for nodes that share them; `None`: each node has its own.
    pub shared: Option<TicketSecret>,
}

/// The file of `key_file`.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecret {
    /// Where it was read from.
    pub file: PathBuf,
    /// 32 to 256 random bytes.
    pub bytes: Arc<[u8]>,
}

/// What a site shows to clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteTls {
    /// Each with a key of another type; none: another site's that has the right name, or the default site's. Of ACME's,
    /// the stored one, if there is one.
    pub certificates: Vec<Arc<Certificate>>,
    /// Whether they come by ACME.
    pub acme: bool,
    /// Whether clients are asked for a certificate.
    pub client_auth: Option<ClientAuth>,
}

/// `[acme]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// URL of the server's directory.
    pub directory: String,
    /// Where the server's operator may write to, as URLs.
    pub contact: Vec<String>,
    /// Where the account, the keys and the certificates are kept.
    pub storage: PathBuf,
    /// Who may have issued the server's own certificate; `None`: whom the system trusts.
    pub roots: Option<Roots>,
    /// How names are proved to be ours.
    pub challenge: ChallengeKind,
}

/// How a name is proved to be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// By a path, on port 80 (RFC 8555, 8.3).
    Http01,
    /// By a handshake, on port 443 (RFC 8737).
    TlsAlpn01,
}

/// A certificate with its key, both fit to use: the key is the certificate's, the chain is in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Where the chain was read from.
    pub chain_file: PathBuf,
    /// Where the key was read from.
    pub key_file: PathBuf,
    /// The certificate, then each one's issuer.
    pub chain: Vec<CertificateDer<'static>>,
    /// The certificate's private key.
    pub key: PrivateKey,
    /// What the key is.
    pub key_type: KeyType,
    /// What its issuer's OCSP server says of it.
    pub ocsp: Option<Ocsp>,
    /// Whom it is for, as a host of a site is written; never an empty list.
    pub names: Vec<HostPattern>,
    /// Seconds of Unix time from which on it is good, and up to which.
    pub valid_unix_s: (i64, i64),
}

/// Longest time before its end from which on a certificate should have been renewed.
const ENDS_SOON_S: i64 = 14 * 86_400;

/// From when on it is told that a certificate of this time ends: when a fifth of that is left, and not before
/// two weeks before its end. Who renews in time, as ACME does with a third left, never hears of it.
pub fn ends_soon_from_s((from_s, until_s): (i64, i64)) -> i64 {
    until_s.saturating_sub((until_s.saturating_sub(from_s) / 5).clamp(0, ENDS_SOON_S))
}

/// How long until its end, for a person.
pub fn ends_in(left_s: i64) -> String {
    match (left_s + 43_200) / 86_400 {
        ..=0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}

/// A response of an OCSP server, which says that the certificate is good.
#[derive(Debug, PartialEq, Eq)]
pub struct Ocsp {
    /// Where it was read from.
    pub file: PathBuf,
    /// The response, in DER.
    pub der: Arc<[u8]>,
    /// When it is good: it is not sent to clients at any other time.
    pub good: l7::tls::ocsp::Good,
}

/// A private key, in DER. Never shown.
#[derive(PartialEq, Eq)]
pub struct PrivateKey(pub PrivateKeyDer<'static>);

/// The kind of a certificate's key, the preferred first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// P-256 or P-384 (or P-521): cheap to sign with.
    Ecdsa,
    /// Ed25519; few browsers take it.
    Ed25519,
    /// RSA: for old clients.
    Rsa,
}

/// Who looks at a certificate of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownTo {
    /// As a site's.
    Clients,
    /// By `origin_tls`.
    Origins,
}

impl ShownTo {
    /// They, in a sentence.
    pub fn text(self) -> &'static str {
        match self {
            ShownTo::Clients => "clients",
            ShownTo::Origins => "origins",
        }
    }
}

/// `client_auth` of a site
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// Who may have issued a client's certificate.
    pub roots: Roots,
    /// Whether a client without one is refused.
    pub required: bool,
}

/// Certificates that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Where they were read from.
    pub file: PathBuf,
    /// At least one.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// `origin_tls`: how connections to `https://` origins are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginTls {
    /// Who may have issued the origin's certificate; `None`: whom the system trusts.
    pub roots: Option<Roots>,
    /// The name that is asked for and that the certificate must have: a host name or an address; `None`: the origin's
    /// host.
    pub name: Option<String>,
    /// False: any certificate will do.
    pub verify: bool,
    /// What the node shows to origins that ask who it is.
    pub certificate: Option<Arc<Certificate>>,
}

impl Certificate {
    /// Whether clients that ask for this host take it. For the default site any will do.
    pub fn covers(&self, host: &HostPattern) -> bool {
        self.names.iter().any(|name| match (host, name) {
            (HostPattern::Default, _) => true,
            (HostPattern::Exact(host), HostPattern::Exact(name)) => host == name,
            // One label (RFC 9525, 6.3).
            (HostPattern::Exact(host), HostPattern::Wildcard(parent)) => {
                host.split_once('.').is_some_and(|(_, rest)| rest == parent)
            }
            (HostPattern::Wildcard(host), HostPattern::Wildcard(name)) => host == name,
            _ => false,
        })
    }
}

impl ChallengeKind {
    /// As ACME calls it.
    pub fn text(self) -> &'static str {
        match self {
            ChallengeKind::Http01 => "http-01",
            ChallengeKind::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

impl KeyType {
    /// As people write it.
    pub fn text(self) -> &'static str {
        match self {
            KeyType::Ecdsa => "ECDSA",
            KeyType::Ed25519 => "Ed25519",
            KeyType::Rsa => "RSA",
        }
    }
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            min_version: TlsVersion::V1_2,
            tickets: Some(Tickets::default()),
            early_data: false,
            handshakes_max: None,
            handshakes_per_source_max: None,
            connections_per_source_max: None,
            threads: None,
        }
    }
}

impl Default for Tickets {
    fn default() -> Tickets {
        let hour = Duration::from_secs(3600);
        Tickets { rotate: 12 * hour, keep: 24 * hour, shared: None }
    }
}

impl Default for OriginTls {
    fn default() -> OriginTls {
        OriginTls { roots: None, name: None, verify: true, certificate: None }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecret({})", self.file.display())
    }
}
