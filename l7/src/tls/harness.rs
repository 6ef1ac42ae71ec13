//! What must hold for any bytes that a client may send, for the fuzz target (`fuzz/`) and the property tests. Tests only:
//! it allocates and panics as it likes.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SignatureScheme};

use super::certs::{Identity, not_after_s};
use super::front;
use super::handshake::{self, Handshake, Progress};
use super::hello::{ClientHello, HELLO_BYTES_MAX, HELLO_RECORDS_MAX, Peek, missing, peek};
use super::ocsp;

/// Any bytes as a hello: our look at it agrees with rustls', and a handshake comes to the same however they are cut.
pub fn hello(input: &[u8]) {
    let mut joined = Vec::new();
    let seen = peek(input, &mut joined);
    if let Some(accepted) = accept(input)
        && is_within_limits(input)
    {
        let Ok(Peek::Hello(seen)) = &seen else { panic!("rustls takes it: {seen:?}") };
        agree(seen, &accepted.client_hello());
    }
    if let Ok(Peek::Hello(hello)) = &seen {
        // Nothing behind a hello changes it, and nothing before its end is one.
        let mut again = Vec::new();
        let longer = [input, &[22, 3, 3, 0, 1, 1]].concat();
        let Ok(Peek::Hello(same)) = peek(&longer, &mut again) else { panic!("it was one") };
        assert_eq!(format!("{hello:?}"), format!("{same:?}"));
        hello.shares().chain(hello.suites()).chain(hello.groups()).for_each(drop);
    }
    cut_anywhere(input, seen.is_ok());
    let whole = shake(input, usize::MAX);
    for chunk in [1, 6, 100] {
        assert_eq!(shake(input, chunk), whole, "in pieces of {chunk}");
    }
}

/// The certificate that responses are read for, and its issuer's.
pub const LEAF: &[u8] = include_bytes!("tests/ocsp/leaf.der");
pub const ISSUER: &[u8] = include_bytes!("tests/ocsp/issuer.der");

/// Any bytes as an OCSP response, and as a certificate: they are read without harm, and what is good has its end where it
/// ends.
pub fn ocsp(input: &[u8]) {
    if let Ok(good) = ocsp::read(input, LEAF, Some(ISSUER)) {
        let longer = [input, &[0]].concat();
        assert_eq!(ocsp::read(&longer, LEAF, Some(ISSUER)), Err(ocsp::Fault::NotDer));
        for end in [0, 1, input.len() / 2, input.len() - 1] {
            assert_eq!(ocsp::read(&input[..end], LEAF, Some(ISSUER)), Err(ocsp::Fault::NotDer));
        }
        assert!(ocsp::read(input, ISSUER, Some(ISSUER)).is_err(), "it is the leaf's");
        assert!(!good.is_good_at(good.from_s.wrapping_sub(1)) || good.from_s == 0);
    }
    let _ = (Identity::of(input), not_after_s(input), ocsp::read(input, input, Some(input)));
}

/// Read as it comes: never more than is missing, and to the same end.
fn cut_anywhere(input: &[u8], is_ok: bool) {
    let (mut at, mut record) = (0, 0);
    let mut joined = Vec::new();
    loop {
        let more = missing(&input[record..at]);
        if more > 0 {
            at += more;
            if at > input.len() {
                return; // What is there of a header may have been refused.
            }
            continue;
        }
        record = at;
        match peek(&input[..at], &mut joined) {
            Ok(Peek::Hello(_)) => return assert!(is_ok),
            Ok(Peek::Partial) => {}
            Err(_) => return assert!(!is_ok),
        }
    }
}

/// What rustls makes of it. `None`: no hello, or not all of one.
fn accept(mut input: &[u8]) -> Option<rustls::server::Accepted> {
    let mut acceptor = Acceptor::default();
    while !input.is_empty() {
        if acceptor.read_tls(&mut input).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted);
        }
    }
    None
}

/// rustls takes longer hellos, and any number of records.
fn is_within_limits(input: &[u8]) -> bool {
    let (mut rest, mut bytes, mut records) = (input, Vec::new(), 0);
    while let Some((&[_, _, _, high, low], body)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(body.len());
        bytes.extend_from_slice(&body[..len]);
        rest = &body[len..];
        records += 1;
        if let Some(&[_, a, b, c]) = bytes.first_chunk() {
            let message = u32::from_be_bytes([0, a, b, c]) as usize;
            if message <= bytes.len() - 4 {
                return message <= HELLO_BYTES_MAX && records <= HELLO_RECORDS_MAX;
            }
        }
    }
    false
}

fn agree(ours: &ClientHello<'_>, theirs: &rustls::server::ClientHello<'_>) {
    let name = ours.server_name.map(|name| String::from_utf8_lossy(name).to_ascii_lowercase());
    match theirs.server_name() {
        Some(theirs) => assert_eq!(name.as_deref(), Some(theirs)),
        // An address is no name to rustls; ours are looked up, and no entry has one.
        None => assert!(name.is_none_or(|name| name.parse::<std::net::IpAddr>().is_ok())),
    }
    assert!(ours.alpn().eq(theirs.alpn().into_iter().flatten()));
    assert!(ours.schemes().map(SignatureScheme::from).eq(theirs.signature_schemes().iter().copied()));
    assert!(ours.suites().map(rustls::CipherSuite::from).eq(theirs.cipher_suites().iter().copied()));
    let groups = theirs.named_groups().unwrap_or_default();
    assert!(ours.groups().map(rustls::NamedGroup::from).eq(groups.iter().copied()));
}

/// How a handshake goes with these bytes: what it came to, and what it answered first.
fn shake(input: &[u8], chunk: usize) -> (String, Option<u8>) {
    let mut ours = Handshake::server(config()).expect("a handshake");
    let mut out = Vec::new();
    let mut end = "wants more".to_owned();
    for piece in input.chunks(chunk.min(input.len().max(1))) {
        match ours.advance(piece, &mut out) {
            Ok(Progress::WantsMore) => {}
            Ok(Progress::Done(_)) => panic!("nobody can finish a handshake blindly"),
            Err(failure) => {
                end = failure.to_string();
                break;
            }
        }
    }
    (end, out.first().copied())
}

/// A config whose certificate is none: nobody looks at it here.
fn config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || {
        let provider = front::provider();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .expect("a key");
        let key = PrivatePkcs8KeyDer::from(key.as_ref().to_vec());
        let key = provider.key_provider.load_private_key(key.into()).expect("a key that it takes");
        let certified = CertifiedKey::new(vec![CertificateDer::from(vec![0x30, 0])], key);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        handshake::serve(&mut config);
        Arc::new(config)
    };
    CONFIG.get_or_init(make).clone()
}
