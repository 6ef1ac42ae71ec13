//! What a listener presents to its clients: which names, by which certificates, whom it lets in; and, as that changes with
//! it, what an ACME server looks for by HTTP. Made when a config is loaded, never changed, shared by all cores; a reload
//! makes another, and so does a renewal.
//!
//! The name that a client asks for is looked up as a request's host is ([`Hosts`]): exact, then the longest wildcard,
//! then the default. Where nothing is found the answer is the alert `unrecognized_name`; so it is for a client that
//! names nothing and a listener without a default.
//!
//! An entry may have keys of several types. The first one whose signatures the client can verify is used, so ECDSA is
//! to come before RSA; [`Front::new`] puts it there. Which one that is, is known before the handshake: a signature that
//! takes as long as thousands of packets is none of a core's business ([`Choice::slow`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello as RustlsHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, version,
};

use super::handshake;
use super::hello::ClientHello;
pub use super::proofs::Proof;
use super::proofs::Proofs;
use super::slow::slow_key;
use super::store::SessionStore;
use super::tickets::Ticketer;
use crate::phases::Hosts;

/// All that a listener presents.
pub struct FrontSpec {
    /// In the order of their numbers. Where a name comes twice, the later one counts.
    pub entries: Vec<Entry>,
    /// What an ACME server asks for, by `acme-tls/1` (RFC 8737): the names, and the certificate for each.
    pub challenges: Vec<(String, Arc<CertifiedKey>)>,
    /// Suites, groups, randomness. [`provider`] is what is used but in tests.
    pub provider: Arc<CryptoProvider>,
    /// Where certificates and tickets get their time from.
    pub time: Arc<dyn TimeProvider>,
    /// How sessions are resumed; `None`: not at all.
    pub tickets: Option<Tickets>,
}

/// How sessions are resumed.
#[derive(Clone)]
pub struct Tickets {
    /// Seals and opens them.
    pub producer: Arc<Ticketer>,
    /// How many a TLS 1.3 client gets: each is for one connection (RFC 8446, C.4).
    pub sent: usize,
    /// Where sessions are kept whose clients may send early data; `None`: nobody may.
    pub kept: Option<Arc<SessionStore>>,
}

/// One set of names.
pub struct Entry {
    /// `example.com`, `*.example.com` (names under it, not itself), `*` (the default).
    pub names: Vec<String>,
    /// One for each type of key, chain and OCSP response with it. At least one.
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// The protocols spoken within, the best first. Empty: ALPN is not answered.
    pub alpn: Vec<Vec<u8>>,
    /// TLS 1.2 too.
    pub tls12: bool,
    /// Bytes that a client may send before it has heard anything; anyone may send them again. 0: none. Otherwise the
    /// entry's sessions are kept in [`Tickets::kept`] and not in tickets: rustls takes no early data by tickets, as nobody
    /// could tell that one was used. Where clients show certificates there is none: whoever sends it again would do so
    /// in somebody's name.
    pub early_data_bytes: u32,
}

/// Whether clients show certificates, and who vouches for them.
#[derive(Clone, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; who has none is let in.
    Optional(Arc<RootCertStore>),
    /// Who has none is refused.
    Required(Arc<RootCertStore>),
}

/// What is wrong with a spec.
#[derive(Debug)]
pub struct FrontError {
    /// The entry; `None`: a challenge.
    pub entry: Option<usize>,
    /// What.
    pub what: String,
}

/// See the module.
pub struct Front {
    hosts: Hosts,
    challenge_hosts: Hosts,
    entries: Box<[Ready]>,
    challenges: Box<[Arc<ServerConfig>]>,
    proofs: Proofs,
    kept: Option<Arc<SessionStore>>,
}

struct Ready {
    config: Arc<ServerConfig>,
    keys: Arc<Keys>,
    tls12: bool,
    verifies: bool,
    policy: u32,
}

/// How to answer a hello.
#[derive(Clone, Debug)]
pub struct Choice {
    /// For [`Handshake::server`](handshake::Handshake::server).
    pub config: Arc<ServerConfig>,
    /// The entry's number; [`CHALLENGE`] for ACME's.
    pub entry: u16,
    /// Whether a full handshake will sign by a key that takes long: RSA, or a large curve.
    pub slow: bool,
    /// Whether its key exchange will take long, be it a full one or not: by P-384, which the client may choose.
    pub slow_exchange: bool,
    /// Whether a full handshake will verify the client's certificates.
    pub verifies: bool,
    /// [`Front::policy`] of the entry.
    pub policy: u32,
}

/// In [`Choice::entry`]: the client is an ACME server, and nothing but the handshake counts: the connection ends with it.
pub const CHALLENGE: u16 = u16::MAX;

/// The protocol by which ACME servers ask.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// aws-lc's suites and groups, X25519MLKEM768 first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Front {
    /// All of it, ready to shake hands.
    ///
    /// # Errors
    /// When an entry can't be: no certificate, no root, no version.
    pub fn new(spec: FrontSpec) -> Result<Front, FrontError> {
        if spec.entries.len() >= usize::from(CHALLENGE) {
            return Err(FrontError { entry: None, what: "too many entries".into() });
        }
        let hosts = Hosts::new(
            (0..)
                .zip(&spec.entries)
                .flat_map(|(number, entry)| entry.names.iter().map(move |name| (name.as_str(), number))),
        );
        let challenge_hosts =
            Hosts::new(spec.challenges.iter().zip(0..).map(|((name, _), n)| (name.as_str(), n)));
        let entries: Result<_, FrontError> = (spec.entries.iter().enumerate())
            .map(|(number, entry)| {
                Ready::new(entry, &spec).map_err(|what| FrontError { entry: Some(number), what })
            })
            .collect();
        let challenges: Result<_, FrontError> = (spec.challenges.iter())
            .map(|(_, certificate)| {
                let entry = Entry {
                    names: Vec::new(),
                    certificates: vec![certificate.clone()],
                    client_auth: ClientAuth::None,
                    alpn: vec![ACME_TLS.to_vec()],
                    tls12: true,
                    early_data_bytes: 0,
                };
                let ready = Ready::new(&entry, &FrontSpec { tickets: None, ..spec.common() });
                ready.map(|ready| ready.config).map_err(|what| FrontError { entry: None, what })
            })
            .collect();
        let (entries, challenges) = (entries?, challenges?);
        let kept = spec.tickets.and_then(|tickets| tickets.kept);
        Ok(Front { hosts, challenge_hosts, entries, challenges, kept, ..Front::empty() })
    }

    /// For a node that presents nothing: every hello is refused.
    pub fn none() -> Arc<Front> {
        Arc::new(Front::empty())
    }

    /// The same.
    pub fn empty() -> Front {
        Front {
            hosts: Hosts::new([]),
            challenge_hosts: Hosts::new([]),
            entries: Box::default(),
            challenges: Box::default(),
            proofs: Proofs::new(Vec::new()),
            kept: None,
        }
    }

    /// The same front, with what an ACME server looks for by HTTP.
    pub fn proving(self, proofs: Vec<Proof>) -> Front {
        Front { proofs: Proofs::new(proofs), ..self }
    }

    /// What is at this path of this host, if that is where an ACME server looks now.
    #[inline]
    pub fn proof(&self, host: &[u8], clean_path: &[u8]) -> Option<&[u8]> {
        self.proofs.find(host, clean_path)
    }

    /// How to answer `hello`.
    ///
    /// # Errors
    /// When there is nothing for the name: the alert to answer with.
    pub fn choose(&self, hello: &ClientHello<'_>) -> Result<Choice, AlertDescription> {
        let name = hello.server_name.unwrap_or_default();
        // RFC 8737, 3: it offers this protocol and no other.
        if !self.challenges.is_empty() && hello.alpn().eq([ACME_TLS]) {
            let config = self.challenge_hosts.find(name).and_then(|n| self.challenges.get(usize::from(n)));
            let config = config.ok_or(AlertDescription::UnrecognisedName)?.clone();
            return Ok(Choice {
                config,
                entry: CHALLENGE,
                slow: false,
                slow_exchange: false,
                verifies: false,
                policy: 0,
            });
        }
        let entry = self.hosts.find(name).ok_or(AlertDescription::UnrecognisedName)?;
        let ready = self.entries.get(usize::from(entry)).ok_or(AlertDescription::InternalError)?;
        let (slow, verifies) = (ready.is_slow(hello), ready.verifies);
        let slow_exchange = has_slow_exchange(&ready.config, hello);
        let (config, policy) = (ready.config.clone(), ready.policy);
        Ok(Choice { config, entry, slow, slow_exchange, verifies, policy })
    }

    /// What a connection that this entry has answered says about its client. 0: nothing, nobody was asked. Otherwise, by
    /// which names and whose certificates it was verified, and whether it had to be: entries that agree in this have the
    /// same number, in all fronts of this process.
    pub fn policy(&self, entry: u16) -> u32 {
        self.entries.get(usize::from(entry)).map_or(0, |ready| ready.policy)
    }

    /// Sessions that were forgotten before their time since this was last asked for ([`SessionStore::take_evicted`]).
    pub fn take_evicted(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.take_evicted())
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }
}

/// The number of a kind of session, from 1: the same for the same.
fn number_of(kind: &[u8]) -> u32 {
    static KNOWN: Mutex<BTreeMap<[u8; 32], u32>> = Mutex::new(BTreeMap::new());
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, kind).as_ref());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let next = known.len() as u32 + 1;
    *known.entry(digest).or_insert(next)
}

/// rustls takes the first of the client's groups that we have too, for the version that it will be.
fn has_slow_exchange(config: &ServerConfig, hello: &ClientHello<'_>) -> bool {
    let ours = &config.crypto_provider().kx_groups;
    let version = if hello.offers_tls13() { ProtocolVersion::TLSv1_3 } else { ProtocolVersion::TLSv1_2 };
    let fits = |group: &NamedGroup| ours.iter().any(|o| o.name() == *group && o.usable_for_version(version));
    let group = hello.groups().map(NamedGroup::from).find(fits);
    !matches!(group, None | Some(NamedGroup::X25519MLKEM768 | NamedGroup::X25519 | NamedGroup::secp256r1))
}

impl FrontSpec {
    /// The same without entries.
    fn common(&self) -> FrontSpec {
        FrontSpec {
            entries: Vec::new(),
            challenges: Vec::new(),
            provider: self.provider.clone(),
            time: self.time.clone(),
            tickets: self.tickets.clone(),
        }
    }
}

impl Ready {
    fn new(entry: &Entry, spec: &FrontSpec) -> Result<Ready, String> {
        let keys = Arc::new(Keys::new(&entry.certificates)?);
        let verifier = entry.client_auth.verifier(&spec.provider)?;
        let both: &[&'static SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        let versions = if entry.tls12 { both } else { &both[..1] };
        let mut config = ServerConfig::builder_with_details(spec.provider.clone(), spec.time.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(keys.clone());
        handshake::serve(&mut config);
        config.alpn_protocols.clone_from(&entry.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // Whoever has a file of keys could make himself a ticket of any client.
        let verifies = !matches!(entry.client_auth, ClientAuth::None);
        let good = |t: &&Tickets| !(verifies && t.producer.is_shared());
        if let Some(tickets) = spec.tickets.as_ref().filter(good) {
            config.send_tls13_tickets = tickets.sent;
            let takes_early = entry.early_data_bytes > 0 && matches!(entry.client_auth, ClientAuth::None);
            match tickets.kept.as_ref().filter(|_| takes_early) {
                None => config.ticketer = tickets.producer.bind(&entry.kind_of_session()),
                Some(kept) => {
                    config.session_storage = kept.clone();
                    config.max_early_data_size = entry.early_data_bytes;
                    // What came early is answered behind our Finished, before the client's.
                    config.send_half_rtt_data = true;
                }
            }
        }
        let policy = if verifies { number_of(&entry.kind_of_session()) } else { 0 };
        Ok(Ready { config: Arc::new(config), keys, tls12: entry.tls12, verifies, policy })
    }

    /// Whether the key that is taken is a slow one. In TLS 1.2 the suite must fit the key too.
    fn is_slow(&self, hello: &ClientHello<'_>) -> bool {
        let takes_ecdsa = hello.offers_tls13()
            || (self.tls12 && hello.suites().any(|suite| matches!(suite, 0xc02b | 0xc02c | 0xcca9)));
        let fits = |key: &&Key| {
            (takes_ecdsa || key.is_rsa()) && hello.schemes().any(|scheme| key.schemes.contains(&scheme))
        };
        self.keys.0.iter().find(fits).is_some_and(|key| key.slow)
    }
}

impl Entry {
    /// What whoever holds a session of this entry has proved and has been shown.
    fn kind_of_session(&self) -> Vec<u8> {
        let mut names = self.names.clone();
        names.sort();
        let mut kind = names.join(",").into_bytes();
        match &self.client_auth {
            ClientAuth::None => kind.push(0),
            ClientAuth::Optional(roots) => roots_to(&mut kind, 1, roots),
            ClientAuth::Required(roots) => roots_to(&mut kind, 2, roots),
        }
        kind
    }
}

fn roots_to(kind: &mut Vec<u8>, mode: u8, roots: &RootCertStore) {
    kind.push(mode);
    for root in &roots.roots {
        kind.extend_from_slice(&root.subject);
        kind.extend_from_slice(&root.subject_public_key_info);
        kind.extend_from_slice(root.name_constraints.as_deref().unwrap_or_default());
    }
}

impl ClientAuth {
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let builder = |roots: &Arc<RootCertStore>| {
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        };
        match self {
            ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
            ClientAuth::Optional(roots) => builder(roots).allow_unauthenticated().build(),
            ClientAuth::Required(roots) => builder(roots).build(),
        }
        .map_err(|error| error.to_string())
    }
}

/// The keys of an entry, the quick ones first.
struct Keys(Box<[Key]>);

struct Key {
    certified: Arc<CertifiedKey>,
    /// What it can sign by.
    schemes: Vec<u16>,
    slow: bool,
}

/// All that any key may sign by.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

impl Keys {
    fn new(certificates: &[Arc<CertifiedKey>]) -> Result<Keys, String> {
        let mut keys = Vec::new();
        for certified in certificates {
            if certified.cert.is_empty() {
                return Err("a certificate without a chain".into());
            }
            let schemes: Vec<u16> = SCHEMES
                .into_iter()
                .filter(|&scheme| certified.key.choose_scheme(&[scheme]).is_some())
                .map(u16::from)
                .collect();
            let is_quick = |scheme: &u16| {
                [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
                    .map(u16::from)
                    .contains(scheme)
            };
            let slow = !schemes.iter().all(is_quick);
            let mut certified = certified.clone();
            if slow {
                let slow = CertifiedKey {
                    cert: certified.cert.clone(),
                    key: slow_key(certified.key.clone()),
                    ocsp: certified.ocsp.clone(),
                };
                certified = Arc::new(slow);
            }
            keys.push(Key { certified, schemes, slow });
        }
        if keys.is_empty() {
            return Err("no certificate".into());
        }
        // Large curves are slow too, but not as slow as RSA.
        keys.sort_by_key(|key| (key.slow, key.is_rsa()));
        Ok(Keys(keys.into()))
    }
}

impl Key {
    fn is_rsa(&self) -> bool {
        self.certified.key.algorithm() == rustls::SignatureAlgorithm::RSA
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: RustlsHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.signature_schemes();
        let fits = |key: &&Key| offered.iter().any(|&scheme| key.schemes.contains(&u16::from(scheme)));
        // Where none fits, rustls says what is wrong with the first.
        self.0.iter().find(fits).or(self.0.first()).map(|key| key.certified.clone())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.certified.key.algorithm())).finish()
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for FrontError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for FrontError {}

/// A chain and its key, of any type that aws-lc signs by.
///
/// # Errors
/// When the key is not one, or not the certificate's.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    ocsp: Option<Vec<u8>>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let mut certified = CertifiedKey::from_der(chain, key, provider)?;
    certified.ocsp = ocsp;
    Ok(Arc::new(certified))
}
