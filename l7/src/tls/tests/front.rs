use std::fmt;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme, version,
};

use super::support::*;
use crate::tls::certs::of_name_and_serial;
use crate::tls::front::{self, ACME_TLS, CHALLENGE, Choice, Front};
use crate::tls::handshake::{Established, Failure, FailureKind, Handshake};
use crate::tls::hello::{Peek, peek};
use crate::tls::tickets::SharedTime;
use crate::tls::{harness, ocsp};

/// A verifier that takes some signatures only, and remembers what it was shown.
struct Witness {
    webpki: Arc<WebPkiServerVerifier>,
    schemes: Vec<SignatureScheme>,
    seen: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap() = Some((end_entity.to_vec(), ocsp.to_vec()));
        self.webpki.verify_server_cert(end_entity, intermediates, name, &[], now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// Gives, once, the certificate and the OCSP response that a client was shown.
pub type Seen = Arc<dyn Fn() -> Option<(Vec<u8>, Vec<u8>)>>;

/// Makes a client one that can verify these only.
pub fn witness(config: &mut ClientConfig, authority: &Authority, schemes: &[SignatureScheme]) -> Seen {
    let webpki =
        WebPkiServerVerifier::builder_with_provider(authority.roots(), front::provider()).build().unwrap();
    let witness = Arc::new(Witness { webpki, schemes: schemes.to_vec(), seen: Mutex::default() });
    config.dangerous().set_certificate_verifier(witness.clone());
    Arc::new(move || witness.seen.lock().unwrap().take())
}

/// What a front chooses for a client's hello, and what comes of it.
fn shake(
    front: &Front,
    config: ClientConfig,
    name: &str,
) -> (Result<Choice, AlertDescription>, Option<Result<Established, Failure>>) {
    let mut client = client(&Arc::new(config), name);
    let hello = flush(&mut client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
    let choice = front.choose(&seen);
    let result = choice.as_ref().ok().map(|choice| {
        let mut ours = Handshake::server(choice.config.clone()).unwrap();
        ours.give(&hello);
        drive(ours, &mut client, 1 << 20, b"")
    });
    (choice, result)
}

const EC: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const PSS: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;
const PKCS1: SignatureScheme = SignatureScheme::RSA_PKCS1_SHA256;

#[test]
fn the_key_is_the_best_that_the_client_can_verify() {
    let authority = Authority::new("ca");
    let (rsa, ec) =
        (authority.certified(&["a.test"], KeyType::Rsa), authority.certified(&["a.test"], KeyType::Ecdsa));
    let front = Front::new(spec(vec![entry(&["a.test"], vec![rsa.clone(), ec.clone()])])).unwrap();
    for tls13 in [true, false] {
        for (schemes, is_slow) in [(&[PSS, PKCS1, EC][..], false), (&[EC], false), (&[PSS, PKCS1], true)] {
            let mut config = client_config(&authority, tls13);
            let seen = witness(&mut config, &authority, schemes);
            let (choice, result) = shake(&front, config, "a.test");
            assert_eq!(choice.unwrap().slow, is_slow, "{schemes:?}");
            result.unwrap().unwrap();
            let expected = if is_slow { &rsa } else { &ec };
            assert_eq!(seen().unwrap().0, expected.cert[0].as_ref());
        }
    }
    // In TLS 1.2 it is the suite that says whether ECDSA may be.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("ECDHE_RSA"));
    let config = client_config_of(&authority, &Arc::new(provider), &[&version::TLS12]);
    let (choice, result) = shake(&front, config, "a.test");
    assert!(choice.unwrap().slow);
    result.unwrap().unwrap();
    // Nothing fits: a reason that a person understands.
    let front = Front::new(spec(vec![entry(&["a.test"], vec![ec])])).unwrap();
    let mut config = client_config(&authority, true);
    witness(&mut config, &authority, &[PSS]);
    let failure = shake(&front, config, "a.test").1.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Incompatible);
    assert!(failure.to_string().contains("NoSignatureSchemesInCommon"), "{failure}");
}

#[test]
fn names_are_found_as_hosts_are() {
    let authority = Authority::new("ca");
    let names = [&["a.test", "*.test"][..], &["*.b.test"], &["*"]];
    let all = ["a.test", "x.test", "x.b.test", "y.x.b.test", "b.test", "elsewhere.example"];
    let entries = names.iter().map(|names| entry(names, vec![authority.certified(&all, KeyType::Ecdsa)]));
    let front = Front::new(spec(entries.collect())).unwrap();
    assert_eq!(front.entries(), 3);
    for (name, number) in [
        ("a.test", 0),
        ("A.TEST", 0),
        ("x.test", 0),
        ("x.b.test", 1),
        ("y.x.b.test", 1),
        ("elsewhere.example", 2),
    ] {
        assert_eq!(shake(&front, client_config(&authority, true), name).0.unwrap().entry, number, "{name}");
    }
    let mut nameless = client_config(&authority, true);
    nameless.enable_sni = false;
    assert_eq!(shake(&front, nameless, "a.test").0.unwrap().entry, 2);
    let empty = Front::new(spec(Vec::new())).unwrap();
    let choice = shake(&empty, client_config(&authority, true), "a.test").0;
    assert_eq!(choice.unwrap_err(), AlertDescription::UnrecognisedName);
}

#[test]
fn hybrid_key_exchange_alpn_and_versions() {
    let authority = Authority::new("ca");
    let mut only13 = entry(&["a.test"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    only13.tls12 = false;
    only13.alpn = vec![b"http/1.1".to_vec()];
    let front = Front::new(spec(vec![only13])).unwrap();
    let established = shake(&front, client_config(&authority, true), "a.test").1.unwrap().unwrap();
    assert_eq!(established.group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(established.alpn, None, "it was not asked for");
    // A client that has only the classic one.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let config = client_config_of(&authority, &Arc::new(provider), &[&version::TLS13]);
    assert_eq!(shake(&front, config, "a.test").1.unwrap().unwrap().group, Some(NamedGroup::X25519));
    // Nothing in common.
    let failure = shake(&front, client_config(&authority, false), "a.test").1.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Incompatible);
    let mut config = client_config(&authority, true);
    config.alpn_protocols = vec![b"h3".to_vec()];
    let failure = shake(&front, config, "a.test").1.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Incompatible);
}

#[test]
fn a_response_is_stapled_while_it_is_good() {
    const RESPONSE: &[u8] = include_bytes!("../../../../fuzz/corpus/tls_ocsp/good");
    let authority = Authority::new("ca");
    for key_type in [KeyType::Ecdsa, KeyType::Rsa] {
        let (chain, key) = authority.issue_with(&["a.test"], key_type, |params| {
            params.serial_number = Some(vec![0x9a, 0x12, 0x34].into());
        });
        // As the issuer of this one would say it.
        let hash = |leaf: &[u8]| {
            let (_, issuer, _) = of_name_and_serial(leaf).unwrap();
            digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, issuer)
        };
        let (theirs, ours) = (hash(harness::LEAF), hash(&chain[0]));
        let at = RESPONSE.windows(20).position(|w| w == theirs.as_ref()).unwrap();
        let mut response = RESPONSE.to_vec();
        response[at..at + 20].copy_from_slice(ours.as_ref());
        let good = ocsp::read(&response, &chain[0], None).unwrap();
        let with = |ocsp: &[u8]| {
            let certified =
                front::certified(chain.clone(), key.clone_key(), Some(ocsp.to_vec()), &front::provider());
            let mut spec = spec(vec![entry(&["*"], vec![certified.unwrap()])]);
            let time = Arc::new(SharedTime::default());
            spec.time = time.clone();
            Front::new(spec).map(|front| (front, time))
        };
        let (front, time) = with(&response).unwrap();
        let until_s = good.until_s.unwrap();
        for (now_s, is_sent) in
            [(good.from_s - 1, false), (good.from_s, true), (until_s, true), (until_s + 1, false)]
        {
            time.set(now_s);
            for tls13 in [true, false] {
                let mut config = client_config(&authority, tls13);
                let seen = witness(&mut config, &authority, &[EC, PSS, PKCS1]);
                shake(&front, config, "a.test").1.unwrap().unwrap();
                assert_eq!(seen().unwrap().1, if is_sent { &response[..] } else { b"" }, "{now_s}");
            }
        }
        let error = with(RESPONSE).err().unwrap().to_string();
        assert_eq!(error, "its OCSP response is for a certificate of another issuer");
    }
}

#[test]
fn an_acme_server_gets_its_certificate() {
    let authority = Authority::new("ca");
    let (usual, challenge) =
        (authority.certified(&["a.test"], KeyType::Ecdsa), authority.certified(&["a.test"], KeyType::Ecdsa));
    let mut spec = spec(vec![entry(&["*"], vec![usual.clone()])]);
    spec.challenges = vec![("a.test".into(), challenge.clone())];
    let front = Front::new(spec).unwrap();
    let asking = |name: &str, acme: bool| {
        let mut config = client_config(&authority, true);
        config.alpn_protocols = vec![if acme { ACME_TLS.to_vec() } else { b"http/1.1".to_vec() }];
        let seen = witness(&mut config, &authority, &[EC]);
        let (choice, result) = shake(&front, config, name);
        (choice, result, seen())
    };
    let (choice, result, seen) = asking("a.test", true);
    assert_eq!(choice.unwrap().entry, CHALLENGE);
    assert_eq!(result.unwrap().unwrap().alpn.as_deref(), Some(ACME_TLS));
    assert_eq!(seen.unwrap().0, challenge.cert[0].as_ref());
    assert_eq!(asking("b.test", true).0.unwrap_err(), AlertDescription::UnrecognisedName);
    let (choice, _, seen) = asking("a.test", false);
    assert_eq!(choice.unwrap().entry, 0);
    assert_eq!(seen.unwrap().0, usual.cert[0].as_ref());
}

#[test]
fn a_spec_that_cannot_be_says_which_entry() {
    let authority = Authority::new("ca");
    let good = entry(&["a.test"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    let error = Front::new(spec(vec![good, entry(&["b.test"], Vec::new())])).unwrap_err();
    assert_eq!((error.entry, error.to_string().as_str()), (Some(1), "no certificate"));
    let mut nobody = entry(&["a.test"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    nobody.client_auth = front::ClientAuth::Required(Arc::new(rustls::RootCertStore::empty()));
    let error = Front::new(spec(vec![nobody])).unwrap_err();
    assert_eq!(error.entry, Some(0));
    assert!(!error.what.is_empty());
}

/// What rustls will take is not always the first that a client says.
#[test]
fn what_takes_long_is_known_before() {
    let authority = Authority::new("ca");
    let both = [KeyType::Rsa, KeyType::Ecdsa].map(|key| authority.certified(&["a.test"], key));
    let front = Front::new(spec(vec![entry(&["*"], both.to_vec())])).unwrap();
    let choice = |hello: &[u8]| {
        let mut joined = Vec::new();
        let Ok(Peek::Hello(seen)) = peek(hello, &mut joined) else { panic!("a hello") };
        front.choose(&seen).unwrap()
    };
    let replace = |hello: &mut Vec<u8>, from: &[u8], to: &[u8]| {
        let at = hello.windows(from.len()).position(|w| w == from).unwrap();
        hello[at..at + to.len()].copy_from_slice(to);
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let has = [NamedGroup::X25519, NamedGroup::secp384r1];
    provider.kx_groups.retain(|group| has.contains(&group.name()));
    let config = Arc::new(client_config_of(&authority, &Arc::new(provider), &[&version::TLS12]));
    let mut hello = flush(&mut client(&config, "a.test"));
    assert!(!choice(&hello).slow && !choice(&hello).slow_exchange);
    // A group that TLS 1.2 has not, and P-384.
    replace(&mut hello, &[0, 10, 0, 6, 0, 4, 0, 0x1d], &[0, 10, 0, 6, 0, 4, 0x11, 0xec]);
    assert!(choice(&hello).slow_exchange);
    // Suites with ECDSA that we have not, and those with RSA.
    for (from, to) in
        [([0xc0, 0x2c], [0xc0, 0x0a]), ([0xc0, 0x2b], [0xc0, 0x09]), ([0xcc, 0xa9], [0xc0, 0x09])]
    {
        replace(&mut hello, &from, &to);
    }
    assert!(choice(&hello).slow);
}
