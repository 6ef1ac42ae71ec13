use std::sync::Arc;

use aws_lc_rs::hkdf;
use rustls::ConnectionTrafficSecrets;

use super::support::*;
use crate::tls::handshake::{FailureKind, Handshake, Progress};
use crate::tls::hello::{Peek, peek};
use crate::tls::keys::{Half, Keys, Suite, Version};

/// HKDF-Expand-Label (RFC 8446, 7.1) with no context.
fn expand(keys: &Keys, half: &Half, label: &str, bytes: usize) -> Vec<u8> {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let algorithm = match keys.suite {
        Suite::Aes256Gcm => hkdf::HKDF_SHA384,
        Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
    };
    let prk = hkdf::Prk::new_less_safe(algorithm, &half.secret[..keys.suite.hash_bytes()]);
    let label = format!("tls13 {label}");
    let info = [&(bytes as u16).to_be_bytes()[..], &[label.len() as u8], label.as_bytes(), &[0]].concat();
    let mut out = vec![0; bytes];
    prk.expand(&[&info], Len(bytes)).unwrap().fill(&mut out).unwrap();
    out
}

/// That `half` means the same as what rustls extracted.
fn assert_same(keys: &Keys, half: &Half, seq: u64, secrets: &ConnectionTrafficSecrets) {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
        _ => panic!("no such suite"),
    };
    assert_eq!(half.seq, seq);
    match keys.version {
        Version::Tls13 => {
            assert_eq!(expand(keys, half, "key", keys.suite.key_bytes()), key);
            assert_eq!(expand(keys, half, "iv", 12), iv);
        }
        Version::Tls12 => {
            let fixed = if keys.suite == Suite::ChaCha20Poly1305 { 12 } else { 4 };
            let (of_key, rest) = half.secret.split_at(keys.suite.key_bytes());
            assert_eq!(of_key, key);
            assert_eq!(rest[..fixed], iv[..fixed]);
        }
    }
}

/// Every suite and both versions: the suite, its version, ours.
fn suites() -> Vec<(rustls::SupportedCipherSuite, Version, Suite)> {
    let mut suites = Vec::new();
    for suite in rustls::crypto::aws_lc_rs::default_provider().cipher_suites {
        let name = format!("{:?}", suite.suite());
        let ours = match &name {
            name if name.contains("AES_128") => Suite::Aes128Gcm,
            name if name.contains("AES_256") => Suite::Aes256Gcm,
            _ => Suite::ChaCha20Poly1305,
        };
        let version = if suite.tls13().is_some() { Version::Tls13 } else { Version::Tls12 };
        // The certificates here are ECDSA's.
        if !name.contains("ECDHE_RSA") {
            suites.push((suite, version, ours));
        }
    }
    assert_eq!(suites.len(), 6);
    suites
}

#[test]
fn the_servers_keys_are_those_of_a_stock_client() {
    let authority = Authority::new("tls ca");
    let front = simple_front(&authority);
    for (suite, version, ours) in suites() {
        for chunk in [1, 7, 100_000] {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.cipher_suites = vec![suite];
            let versions: &[_] = match version {
                Version::Tls13 => &[&rustls::version::TLS13],
                Version::Tls12 => &[&rustls::version::TLS12],
            };
            let mut config = client_config_of(&authority, &Arc::new(provider), versions);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let mut client = client(&Arc::new(config), "a.test");
            let hello = flush(&mut client);
            let mut joined = Vec::new();
            let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
            assert_eq!(seen.server_name, Some(&b"a.test"[..]));
            let choice = front.choose(&seen).unwrap();
            assert!(!choice.slow);
            let mut ours_side = Handshake::server(choice.config).unwrap();
            let mut out = Vec::new();
            for piece in hello.chunks(chunk) {
                assert!(matches!(ours_side.advance(piece, &mut out), Ok(Progress::WantsMore)));
            }
            feed(&mut client, &out).unwrap();
            let established = drive(ours_side, &mut client, chunk, b"GET /").unwrap();
            assert_eq!((established.keys.version, established.keys.suite), (version, ours));
            assert_eq!(established.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert!(!established.resumed && established.early.is_empty() && established.peer.is_empty());
            // In TLS 1.2 the server is done first.
            let behind = u64::from(version == Version::Tls13);
            assert_eq!(
                established.unread.is_empty(),
                behind == 0,
                "what came behind is still sealed, and not lost"
            );
            let secrets = client.dangerous_extract_secrets().unwrap();
            assert_same(&established.keys, &established.keys.tx, secrets.rx.0, &secrets.rx.1);
            assert_same(&established.keys, &established.keys.rx, secrets.tx.0 - behind, &secrets.tx.1);
        }
    }
}

#[test]
fn the_clients_keys_are_those_of_a_stock_server() {
    let authority = Authority::new("tls ca");
    for (tls13, version) in [(true, Version::Tls13), (false, Version::Tls12)] {
        for chunk in [1, 100_000] {
            let ours = our_client(client_config(&authority, true), "a.test");
            let mut server =
                stock_server(server_config(authority.certified(&["a.test"], KeyType::Ecdsa), tls13));
            let established = drive(ours, &mut server, chunk, b"").unwrap();
            assert_eq!(established.keys.version, version);
            assert_eq!(established.kernel.is_some(), tls13);
            assert_eq!(established.peer.len(), 1);
            assert_eq!(established.unread.is_empty(), !tls13, "a server's tickets are not of the handshake");
            let secrets = server.dangerous_extract_secrets().unwrap();
            let tickets = if tls13 { secrets.tx.0 } else { 0 };
            assert_same(&established.keys, &established.keys.rx, secrets.tx.0 - tickets, &secrets.tx.1);
            assert_same(&established.keys, &established.keys.tx, secrets.rx.0, &secrets.rx.1);
        }
    }
}

#[test]
fn no_more_is_taken_than_wanted() {
    let authority = Authority::new("tls ca");
    let front = simple_front(&authority);
    for tls13 in [true, false] {
        let mut client = client(&Arc::new(client_config(&authority, tls13)), "a.test");
        let mut inbox = flush(&mut client);
        let mut joined = Vec::new();
        let Ok(Peek::Hello(hello)) = peek(&inbox, &mut joined) else { panic!("a stock hello") };
        let mut ours = Handshake::server(front.choose(&hello).unwrap().config).unwrap();
        let established = loop {
            let mut out = Vec::new();
            let wants = ours.wants();
            assert!(wants > 0 && wants <= inbox.len(), "{wants} of {}", inbox.len());
            let taken: Vec<u8> = inbox.drain(..wants).collect();
            match ours.advance(&taken, &mut out).unwrap() {
                Progress::Done(established) => break established,
                Progress::WantsMore => {}
            }
            feed(&mut client, &out).unwrap();
            let was_handshaking = client.is_handshaking();
            inbox.extend(flush(&mut client));
            if !client.is_handshaking() && !was_handshaking && tls13 {
                std::io::Write::write_all(&mut client.writer(), b"GET /").unwrap();
                inbox.extend(flush(&mut client));
            }
        };
        assert!(established.unread.is_empty());
    }
}

#[test]
fn failures_are_told_by_kind_and_answered_by_an_alert() {
    let authority = Authority::new("tls ca");
    let config = |authority: &Authority| {
        let mut config = server_config(authority.certified(&["a.test"], KeyType::Ecdsa), true);
        crate::tls::handshake::serve(&mut config);
        Arc::new(config)
    };
    // Nothing of TLS.
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x80, 0x2e, 1, 3, 1],
        &[22, 3, 1, 0xff, 0xff],
        &[21, 3, 3, 0, 2, 2, 40],
    ] {
        let mut out = Vec::new();
        let failure = Handshake::server(config(&authority)).unwrap().advance(garbage, &mut out).unwrap_err();
        let is_alert = garbage[0] == 21;
        assert_eq!(
            failure.kind,
            if is_alert { FailureKind::Alert } else { FailureKind::Protocol },
            "{failure}"
        );
        assert!(is_alert || out.starts_with(&[21, 3]), "an alert: {out:?}");
        assert!(!failure.to_string().is_empty());
    }
    // A client that knows another authority: it sends an alert.
    let mut stranger = client(&Arc::new(client_config(&Authority::new("other"), true)), "a.test");
    let mut ours = Handshake::server(config(&authority)).unwrap();
    let mut out = Vec::new();
    assert!(matches!(ours.advance(&flush(&mut stranger), &mut out), Ok(Progress::WantsMore)));
    assert!(feed(&mut stranger, &out).is_err());
    let failure = ours.advance(&flush(&mut stranger), &mut out).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Alert, "{failure}");
    // Our client, and a certificate it does not know, or of another name.
    for (issuer, name, text) in
        [(Authority::new("other"), "a.test", "UnknownIssuer"), (authority, "b.test", "not valid for name")]
    {
        let known = Authority::new("known");
        let roots = if text == "UnknownIssuer" { &known } else { &issuer };
        let ours = our_client(client_config(roots, true), name);
        let mut server = stock_server(server_config(issuer.certified(&["a.test"], KeyType::Ecdsa), true));
        let failure = drive(ours, &mut server, 1 << 20, b"").unwrap_err();
        assert_eq!(failure.kind, FailureKind::Certificate);
        assert!(failure.to_string().contains(text), "{failure}");
    }
}
