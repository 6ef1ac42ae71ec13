//! Whole handshakes in memory, with a server of rustls' own on the other side.

use std::io::{Read, Write};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use super::*;

const NAME: &str = "origin.example";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key()).expect("an authority")
}

fn params(names: &[&str]) -> CertificateParams {
    let subject = names[0];
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("params");
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

/// A chain and its key.
struct Pair(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Clone for Pair {
    fn clone(&self) -> Pair {
        Pair(self.0.clone(), self.1.clone_key())
    }
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).expect("a key")
}

fn signed(params: CertificateParams, by: &Issuer) -> Pair {
    let key = key();
    Pair(vec![params.signed_by(&key, by).expect("signed").der().clone()], der(&key))
}

fn self_signed(params: CertificateParams) -> Pair {
    let key = key();
    Pair(vec![params.self_signed(&key).expect("signed").der().clone()], der(&key))
}

fn roots(certificates: &[&CertificateDer<'static>]) -> Trust {
    let all: Vec<_> = certificates.iter().map(|c| (*c).clone()).collect();
    Trust::Roots(Arc::new(Roots::new(&all, true).expect("roots")))
}

fn spec(name: &str, trust: Trust) -> Spec {
    Spec::new(name, trust).expect("a name")
}

fn origin_tls(spec: Spec) -> OriginTls {
    OriginTls::new(spec, 2).expect("good settings")
}

fn server(pair: Pair, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(pair.0, pair.1)
        .expect("a certificate")
}

fn both(pair: Pair) -> ServerConfig {
    server(pair, &[&version::TLS13, &version::TLS12])
}

/// What the client has come to: the handshake's kind, and whether its name was sent.
fn shake(
    tls: &OriginTls,
    core: usize,
    server: &Arc<ServerConfig>,
) -> Result<(HandshakeKind, Option<String>), Error> {
    let mut client =
        ClientConnection::new(Arc::clone(tls.config(core)), tls.name().clone()).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    let mut wire = Vec::new();
    for _ in 0..10 {
        client.write_tls(&mut wire).expect("in memory");
        server.read_tls(&mut &wire[..]).expect("in memory");
        wire.clear();
        let end = server.process_new_packets();
        if end.is_ok() && !server.is_handshaking() {
            let _ = server.writer().write(b"x");
        }
        server.write_tls(&mut wire).expect("in memory");
        while !wire.is_empty() {
            let n = client.read_tls(&mut &wire[..]).expect("in memory");
            wire.drain(..n);
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let mut byte = [0];
    client.reader().read_exact(&mut byte).expect("what the server said");
    Ok((client.handshake_kind().expect("done"), server.server_name().map(str::to_owned)))
}

fn refusal(tls: &OriginTls, server: ServerConfig) -> Refusal {
    Refusal::of(&shake(tls, 0, &Arc::new(server)).expect_err("a refusal"))
}

#[test]
fn a_good_origin_is_asked_for_by_its_name() {
    let ca = authority("Ours");
    let tls = origin_tls(spec(NAME, roots(&[ca.der()])));
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let server = Arc::new(server(signed(params(&[NAME]), &ca), versions));
        let (kind, name) = shake(&tls, 0, &server).expect("good");
        assert!(matches!(kind, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        assert_eq!(name.as_deref(), Some(NAME));
    }
    // By its address: checked, and not sent as a name.
    for (address, written) in [("192.0.2.80", "192.0.2.80"), ("2001:db8::80", "[2001:db8::80]")] {
        let tls = origin_tls(spec(written, roots(&[ca.der()])));
        let server = Arc::new(both(signed(params(&[address]), &ca)));
        assert_eq!(shake(&tls, 0, &server).expect("good").1, None);
        let other = both(signed(params(&[NAME]), &ca));
        assert_eq!(refusal(&tls, other).reason, Reason::NameMismatch);
    }
}

#[test]
fn every_bad_certificate_has_its_word() {
    let (ca, stranger) = (authority("Ours"), authority("Theirs"));
    let tls = origin_tls(spec(NAME, roots(&[ca.der()])));
    let say = |pair| refusal(&tls, both(pair));

    let wrong = say(signed(params(&["other.example"]), &ca));
    assert_eq!(wrong.reason, Reason::NameMismatch);
    assert!(wrong.to_string().contains("not for origin.example, but for"), "{wrong}");
    assert!(wrong.to_string().contains("other.example"), "{wrong}");

    let mut old = params(&[NAME]);
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let expired = say(signed(old.clone(), &ca));
    assert_eq!(expired.reason, Reason::Expired);
    assert!(expired.to_string().contains("01 Jan 2021"), "{expired}");

    let mut young = params(&[NAME]);
    (young.not_before, young.not_after) = (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1));
    assert_eq!(say(signed(young, &ca)).reason, Reason::NotYetValid);

    assert_eq!(say(signed(params(&[NAME]), &stranger)).reason, Reason::UnknownIssuer);
    assert_eq!(say(self_signed(params(&[NAME]))).reason, Reason::SelfSigned);
    let mut root_like = params(&[NAME]);
    root_like.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(say(self_signed(root_like)).reason, Reason::SelfSigned);

    let mut client_only = params(&[NAME]);
    client_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(say(signed(client_only, &ca)).reason, Reason::BadCertificate);

    // Believed without a look, where that is asked for.
    let anybody = origin_tls(spec(NAME, Trust::Anybody));
    assert!(shake(&anybody, 0, &Arc::new(both(signed(old, &stranger)))).is_ok());
}

#[test]
fn a_certificate_that_is_itself_in_the_file_is_believed() {
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::ExplicitNoCa, IsCa::NoCa] {
        let mut own = params(&[NAME]);
        own.is_ca = is_ca;
        let pair = self_signed(own.clone());
        let tls = origin_tls(spec(NAME, roots(&[&pair.0[0]])));
        assert!(shake(&tls, 0, &Arc::new(both(pair.clone()))).is_ok(), "{:?}", own.is_ca);
        // For its name and its time only.
        let other = origin_tls(spec("other.example", roots(&[&pair.0[0]])));
        assert_eq!(refusal(&other, both(pair)).reason, Reason::NameMismatch);
        (own.not_before, own.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        let pair = self_signed(own);
        let tls = origin_tls(spec(NAME, roots(&[&pair.0[0]])));
        assert_eq!(refusal(&tls, both(pair)).reason, Reason::Expired);
    }
}

#[test]
fn a_server_that_wants_to_know_who_asks() {
    let ca = authority("Ours");
    let mut roots_of_clients = RootCertStore::empty();
    roots_of_clients.add(ca.der().clone()).expect("a root");
    let crypto = Arc::new(provider::default_provider());
    let wants = WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of_clients), Arc::clone(&crypto));
    let pair = signed(params(&[NAME]), &ca);
    let server = ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&version::TLS12])
        .expect("versions")
        .with_client_cert_verifier(wants.build().expect("a verifier"))
        .with_single_cert(pair.0, pair.1)
        .expect("a certificate");
    let mut known = spec(NAME, roots(&[ca.der()]));
    let unknown = origin_tls(known.clone());
    let Pair(chain, key) = signed(params(&["edge.example"]), &ca);
    known.identity = Some(Arc::new(Identity::new(chain.clone(), key).expect("an identity")));
    assert!(shake(&origin_tls(known), 0, &Arc::new(server.clone())).is_ok());
    let refused = refusal(&unknown, server);
    assert!(matches!(refused.reason, Reason::Alert(_)), "{refused}");

    let stranger = der(&self::key());
    let why = Identity::new(chain, stranger).expect_err("a key of another certificate").to_string();
    assert!(why.starts_with("the client certificate is of no use"), "{why}");
    assert!(Identity::new(Vec::new(), der(&self::key())).is_err());
}

#[test]
fn what_is_not_agreed_on() {
    let ca = authority("Ours");
    let pair = signed(params(&[NAME]), &ca);
    let mut new_only = spec(NAME, roots(&[ca.der()]));
    new_only.oldest = Version::Tls13;
    let new_only = origin_tls(new_only);
    let old = server(pair.clone(), &[&version::TLS12]);
    assert_eq!(refusal(&new_only, old).reason, Reason::NothingInCommon);

    let tls = origin_tls(spec(NAME, roots(&[ca.der()])));
    let mut h2 = both(pair);
    h2.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(refusal(&tls, h2).reason, Reason::NothingInCommon);

    let mut client = ClientConnection::new(Arc::clone(tls.config(0)), tls.name().clone()).expect("a client");
    client.read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]).expect("in memory");
    let refused = Refusal::of(&client.process_new_packets().expect_err("no TLS"));
    assert_eq!(refused.reason, Reason::NotTls, "{refused}");
    let alert = Refusal::alert(u8::from(AlertDescription::CertificateRequired));
    assert_eq!(alert.to_string(), "alert certificate_required (it wants a client's certificate)");
}

#[test]
fn a_second_handshake_is_short_and_only_at_its_own_core_and_name() {
    let ca = authority("Ours");
    let tls = origin_tls(spec(NAME, roots(&[ca.der()])));
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let mut server = server(signed(params(&[NAME, "other.example"]), &ca), versions);
        server.send_tls13_tickets = 1;
        let server = Arc::new(server);
        let kind = |tls: &OriginTls, core| shake(tls, core, &server).expect("good").0;
        let tls = origin_tls(tls.spec().clone());
        assert_ne!(kind(&tls, 0), HandshakeKind::Resumed);
        for _ in 0..2 * TICKETS_MAX {
            assert_eq!(kind(&tls, 0), HandshakeKind::Resumed);
        }
        assert_ne!(kind(&tls, 1), HandshakeKind::Resumed, "a core has its own");
        let other = origin_tls(spec("other.example", roots(&[ca.der()])));
        assert_ne!(kind(&other, 0), HandshakeKind::Resumed);
    }
}

#[test]
fn what_is_the_same() {
    let (ca, other) = (authority("Ours"), authority("Theirs"));
    let of = |name, trust| origin_tls(spec(name, trust));
    let a = of(NAME, roots(&[ca.der(), other.der()]));
    assert_eq!(a, of(NAME, roots(&[other.der(), ca.der()])), "in another order, read again");
    assert_ne!(a, of("www.origin.example", roots(&[ca.der(), other.der()])));
    assert_ne!(a, of(NAME, roots(&[ca.der()])));
    assert_ne!(a, of(NAME, Trust::Anybody));
    let mut with = a.spec().clone();
    let Pair(chain, key) = signed(params(&["edge.example"]), &ca);
    with.identity = Some(Arc::new(Identity::new(chain, key).expect("an identity")));
    assert_ne!(a, origin_tls(with.clone()));
    assert_eq!(origin_tls(with.clone()), origin_tls(with));
    assert!(Spec::new("a b", Trust::Anybody).is_err());
    assert!(Roots::new(&[], true).is_err());
    let nonsense = CertificateDer::from(vec![1, 2, 3]);
    assert!(Roots::new(&[ca.der().clone(), nonsense.clone()], true).is_err());
    assert_eq!(Roots::new(&[ca.der().clone(), nonsense], false).expect("one is left").len(), 1);
}
