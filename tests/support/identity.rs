//! A certificate made on the spot, what a client needs that trusts it, and an edge that presents it.

use std::sync::Arc;

use l7::tls::front::{self, ClientAuth, Entry, Front, FrontSpec, Tickets};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, RootCertStore};

/// A certificate signed by itself.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    /// Where clients and edge get their time from.
    pub time: Arc<dyn TimeProvider>,
}

impl Identity {
    /// With Ed25519: its signatures are always as long, so that the packets of a run are, too.
    pub fn new(names: &[&str]) -> Identity {
        Identity::of(names, &rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key"))
    }

    /// With this key.
    pub fn of(names: &[&str], key: &rcgen::KeyPair) -> Identity {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names)
            .and_then(|params| params.self_signed(key))
            .expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        let time = Arc::new(DefaultTimeProvider);
        Identity { certificate: certificate.der().clone(), key, time }
    }

    /// What a client needs that trusts it.
    pub fn client_config(&self) -> ClientConfig {
        let config = ClientConfig::builder().with_root_certificates(self.roots());
        let mut config = config.with_no_client_auth();
        config.time_provider = self.time.clone();
        config
    }

    /// Whom such a client trusts.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        roots
    }

    /// An edge that presents it to whoever comes.
    pub fn front(&self) -> Arc<Front> {
        self.front_with(None, 0)
    }

    /// The same; sessions are resumed like this, and a client that comes again may send so much early.
    pub fn front_with(&self, tickets: Option<Tickets>, early_data_bytes: u32) -> Arc<Front> {
        self.front_proving(&[], tickets, early_data_bytes)
    }

    /// The same, while an ACME server is to find it under these names.
    pub fn front_proving(
        &self,
        names: &[&str],
        tickets: Option<Tickets>,
        early_data_bytes: u32,
    ) -> Arc<Front> {
        let provider = front::provider();
        let chain = vec![self.certificate.clone()];
        let certified = front::certified(chain, self.key.clone_key(), None, &provider)
            .expect("the key is the certificate's");
        let challenges = names.iter().map(|name| ((*name).to_owned(), Arc::clone(&certified))).collect();
        let entry = Entry {
            names: vec!["*".to_owned()],
            certificates: vec![certified],
            client_auth: ClientAuth::None,
            alpn: vec![b"http/1.1".to_vec()],
            tls12: true,
            early_data_bytes,
        };
        let time = self.time.clone();
        let spec = FrontSpec { entries: vec![entry], challenges, provider, time, tickets };
        Arc::new(Front::new(spec).expect("a good entry"))
    }
}
