//! Certificates made on the spot, and the other side.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    version,
};

use crate::tls::front::{self, ClientAuth, Entry, Front, FrontSpec};
use crate::tls::handshake::{self, Established, Failure, Handshake, Progress};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyType {
    Ecdsa,
    Rsa,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    pub fn issue(
        &self,
        names: &[&str],
        key_type: KeyType,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        self.issue_with(names, key_type, |_| {})
    }

    /// With something special.
    pub fn issue_with(
        &self,
        names: &[&str],
        key_type: KeyType,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate_for(match key_type {
            KeyType::Ecdsa => &PKCS_ECDSA_P256_SHA256,
            KeyType::Rsa => &PKCS_RSA_SHA256,
        })
        .unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    pub fn certified(&self, names: &[&str], key_type: KeyType) -> Arc<CertifiedKey> {
        let (chain, key) = self.issue(names, key_type);
        front::certified(chain, key, None, &front::provider()).unwrap()
    }
}

/// An entry with nothing special.
pub fn entry(names: &[&str], certificates: Vec<Arc<CertifiedKey>>) -> Entry {
    Entry {
        names: names.iter().map(|name| name.to_string()).collect(),
        certificates,
        client_auth: ClientAuth::None,
        alpn: vec![b"http/1.1".to_vec()],
        tls12: true,
        early_data_bytes: 0,
    }
}

/// A spec with nothing special.
pub fn spec(entries: Vec<Entry>) -> FrontSpec {
    FrontSpec {
        entries,
        challenges: Vec::new(),
        provider: front::provider(),
        time: Arc::new(DefaultTimeProvider),
        tickets: None,
    }
}

/// A front with one entry, the default.
pub fn simple_front(authority: &Authority) -> Front {
    Front::new(spec(vec![entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)])])).unwrap()
}

/// A client of TLS 1.3 and 1.2, or of 1.2 only.
pub fn client_config(authority: &Authority, tls13: bool) -> ClientConfig {
    let versions: &[_] = if tls13 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS12] };
    client_config_of(authority, &front::provider(), versions)
}

pub fn client_config_of(
    authority: &Authority,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    config
}

pub fn server_config(certified: Arc<CertifiedKey>, tls13: bool) -> ServerConfig {
    let versions: &[_] = if tls13 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS12] };
    let mut config = ServerConfig::builder_with_provider(front::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.enable_secret_extraction = true;
    config
}

/// A stock client that asks for `name`.
pub fn client(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from(name.to_string()).unwrap()).unwrap()
}

/// What a stock connection has to send.
pub fn flush<D: rustls::SideData>(from: &mut rustls::ConnectionCommon<D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives a stock connection what came for it.
pub fn feed<D: rustls::SideData>(
    to: &mut rustls::ConnectionCommon<D>,
    mut bytes: &[u8],
) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// Ours, fed `chunk` bytes at a time, beside a stock connection, until ours is done and all that it sent has been read;
/// with `behind` sent by theirs right behind its last flight.
pub fn drive(
    mut ours: Handshake,
    theirs: &mut rustls::ConnectionCommon<impl rustls::SideData>,
    chunk: usize,
    behind: &[u8],
) -> Result<Established, Failure> {
    let mut out = Vec::new();
    let mut done = None;
    if let Progress::Done(_) = ours.advance(&[], &mut out)? {
        panic!("done by nothing");
    }
    for _ in 0..20 {
        let result = feed(theirs, &std::mem::take(&mut out));
        let mut bytes = flush(theirs);
        if !theirs.is_handshaking() && !behind.is_empty() && done.is_none() {
            std::io::Write::write_all(&mut theirs.writer(), behind).unwrap();
            bytes.extend(flush(theirs));
        }
        if bytes.is_empty() && done.is_some() {
            result.unwrap();
            break;
        }
        for piece in bytes.chunks(chunk.max(1)) {
            if let Some(established) = &mut done {
                let established: &mut Established = established;
                established.unread.extend_from_slice(piece);
                continue;
            }
            match ours.advance(piece, &mut out) {
                Ok(Progress::WantsMore) => {}
                Ok(Progress::Done(established)) => done = Some(*established),
                Err(failure) => {
                    let _ = feed(theirs, &out);
                    return Err(failure);
                }
            }
        }
    }
    Ok(done.expect("a handshake comes to an end"))
}

/// Our client's side, for a config of any kind.
pub fn our_client(mut config: ClientConfig, name: &str) -> Handshake {
    handshake::ask(&mut config);
    Handshake::client(Arc::new(config), ServerName::try_from(name.to_string()).unwrap()).unwrap()
}

pub fn stock_server(config: ServerConfig) -> ServerConnection {
    ServerConnection::new(Arc::new(config)).unwrap()
}
