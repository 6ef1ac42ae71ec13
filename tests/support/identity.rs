//! A certificate made on the spot, what a client needs that trusts it, and an edge that presents it.

use std::sync::Arc;

use l7::tls::front::{self, ClientAuth, Entry, Front, FrontSpec};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A certificate signed by itself. Ed25519: its signatures are always as long, so that the packets of a run are, too.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn new(names: &[&str]) -> Identity {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names)
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        Identity { certificate: certificate.der().clone(), key }
    }

    /// What a client needs that trusts it.
    pub fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    }

    /// An edge that presents it to whoever comes.
    pub fn front(&self) -> Arc<Front> {
        let provider = front::provider();
        let chain = vec![self.certificate.clone()];
        let certified = front::certified(chain, self.key.clone_key(), None, &provider)
            .expect("the key is the certificate's");
        let entry = Entry {
            names: vec!["*".to_owned()],
            certificates: vec![certified],
            client_auth: ClientAuth::None,
            alpn: vec![b"http/1.1".to_vec()],
            tls12: true,
            early_data_bytes: 0,
        };
        let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
        let spec = FrontSpec { entries: vec![entry], challenges: Vec::new(), provider, time, tickets: None };
        Arc::new(Front::new(spec).expect("a good entry"))
    }
}
