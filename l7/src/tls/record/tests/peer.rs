//! rustls on the other side: both versions, all suites, both roles.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, KeyLog, RootCertStore,
    ServerConfig, ServerConnection,
};

use super::*;
use crate::tls::keys::{Half, Keys};

/// Takes the traffic secrets down.
#[derive(Debug, Default)]
struct Secrets(Mutex<HashMap<String, Vec<u8>>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().insert(label.to_owned(), secret.to_vec());
    }
}

/// An established connection: rustls on one side, a session of ours on the other.
struct Link {
    ours: Sessions,
    id: SessionId,
    peer: Connection,
}

fn provider((version, suite): (Version, Suite)) -> Arc<CryptoProvider> {
    use CipherSuite as C;
    let only = match (version, suite) {
        (Version::Tls13, Suite::Aes128Gcm) => C::TLS13_AES_128_GCM_SHA256,
        (Version::Tls13, Suite::Aes256Gcm) => C::TLS13_AES_256_GCM_SHA384,
        (Version::Tls13, Suite::ChaCha20Poly1305) => C::TLS13_CHACHA20_POLY1305_SHA256,
        (Version::Tls12, Suite::Aes128Gcm) => C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        (Version::Tls12, Suite::Aes256Gcm) => C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        (Version::Tls12, Suite::ChaCha20Poly1305) => C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    };
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|s| s.suite() == only);
    assert_eq!(provider.cipher_suites.len(), 1);
    Arc::new(provider)
}

/// Shakes hands, and puts a session of ours in the place of one side's. `fragment`: the longest record that the peer sends.
fn link(protection: (Version, Suite), side: Side, fragment: Option<usize>) -> Link {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let secrets = Arc::new(Secrets::default());
    let versions = [match protection.0 {
        Version::Tls12 => &rustls::version::TLS12,
        Version::Tls13 => &rustls::version::TLS13,
    }];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut server = ServerConfig::builder_with_provider(provider(protection))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider(protection))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    server.key_log = secrets.clone();
    server.max_fragment_size = fragment.filter(|_| side == Side::Client);
    server.enable_secret_extraction = true;
    client.max_fragment_size = fragment.filter(|_| side == Side::Server);
    client.enable_secret_extraction = true;
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), "a.test".try_into().unwrap()).unwrap();

    // Until each side is done; what the server sends after that (tickets) is for our session to read if that is the client.
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        if client.is_handshaking() || side == Side::Server {
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    }
    let (extracted, peer) = match side {
        Side::Server => (server.dangerous_extract_secrets(), Connection::from(client)),
        Side::Client => (client.dangerous_extract_secrets(), Connection::from(server)),
    };
    let rustls::ExtractedSecrets { tx, rx } = extracted.unwrap();
    let secrets = secrets.0.lock().unwrap();
    let half = |(seq, extracted): (u64, ConnectionTrafficSecrets), label: &str| {
        let (key, iv) = match &extracted {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
            _ => panic!("another suite"),
        };
        let half = match protection.0 {
            Version::Tls12 => Half::new(&[key, iv].concat(), seq).unwrap(),
            Version::Tls13 => Half::new(&secrets[label], seq).unwrap(),
        };
        let derived = derive::iv(protection.0, protection.1, &half.secret).unwrap();
        assert_eq!(derived, iv, "what we derive is what rustls derives");
        if protection.0 == Version::Tls13 {
            assert_eq!(derive::key_for_tests(protection.1, &half.secret), key);
        }
        half
    };
    let (of_server, of_client) = ("SERVER_TRAFFIC_SECRET_0", "CLIENT_TRAFFIC_SECRET_0");
    let (rx_label, tx_label) =
        if side == Side::Server { (of_client, of_server) } else { (of_server, of_client) };
    let (version, suite) = protection;
    let keys = Keys { version, suite, rx: half(rx, rx_label), tx: half(tx, tx_label) };
    let mut ours = sessions(1, 1);
    let id = ours.open(&keys, side).unwrap();
    Link { ours, id, peer }
}

/// What came of the peer's records.
#[derive(Default, Debug)]
struct Heard {
    data: Vec<u8>,
    tickets: usize,
    updates: usize,
    closed: bool,
    fatal: Option<Alert>,
}

impl Link {
    /// Hands a record, or several, to rustls; what it reads is given.
    fn to_peer(&mut self, records: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let (mut rest, mut read) = (records, Vec::new());
        while !rest.is_empty() {
            self.peer.read_tls(&mut rest).unwrap();
            let state = self.peer.process_new_packets()?;
            let mut piece = vec![0; state.plaintext_bytes_to_read()];
            self.peer.reader().read_exact(&mut piece).unwrap();
            read.extend(piece);
        }
        Ok(read)
    }

    fn say(&mut self, plain: &[u8]) -> Vec<u8> {
        let record = sealed(&mut self.ours, self.id, ContentType::ApplicationData, plain).unwrap();
        self.to_peer(&record).unwrap()
    }

    /// Takes all that rustls has to send.
    fn hear(&mut self) -> Result<Heard, Alert> {
        let mut bytes = Vec::new();
        while self.peer.wants_write() {
            self.peer.write_tls(&mut bytes).unwrap();
        }
        let mut heard = Heard::default();
        let mut rest = bytes.as_mut_slice();
        while let Some(n) = header(rest)? {
            let (record, behind) = rest.split_at_mut(n);
            rest = behind;
            match self.ours.receive(self.id, record)? {
                Received::Data(range) => heard.data.extend_from_slice(&record[range]),
                Received::Tickets(range) => heard.tickets += tickets(&record[range]).count(),
                Received::KeyUpdate { .. } => heard.updates += 1,
                Received::CloseNotify => heard.closed = true,
                Received::Fatal(alert) => heard.fatal = Some(alert),
                Received::Nothing => {}
            }
        }
        assert!(rest.is_empty());
        Ok(heard)
    }

    fn peer_says(&mut self, plain: &[u8]) -> Vec<u8> {
        self.peer.writer().write_all(plain).unwrap();
        self.hear().unwrap().data
    }
}

/// Each protection in each role.
fn each(mut work: impl FnMut((Version, Suite), Side)) {
    for protection in PROTECTIONS {
        for side in [Side::Server, Side::Client] {
            work(protection, side);
        }
    }
}

#[test]
fn data_both_ways_and_the_end() {
    each(|protection, side| {
        let mut link = link(protection, side, None);
        let tickets = link.hear().unwrap().tickets;
        assert_eq!(tickets > 0, protection.0 == Version::Tls13 && side == Side::Client);
        for n in [1, 16, 1000, PLAIN_MAX] {
            let plain: Vec<u8> = (0..n).map(|i| (i * 7) as u8).collect();
            assert_eq!(link.say(&plain), plain, "{protection:?} {side:?}");
            assert_eq!(link.peer_says(&plain), plain, "{protection:?} {side:?}");
        }
        let long: Vec<u8> = (0..60_000).map(|i| (i % 251) as u8).collect();
        assert_eq!(link.peer_says(&long), long, "in several records");
        link.peer.send_close_notify();
        assert!(link.hear().unwrap().closed);
        assert_eq!(link.say(b"still open this way"), b"still open this way");
        let mut out = [0; 64];
        let n = link.ours.alert(link.id, Alert::CLOSE_NOTIFY, &mut out).unwrap();
        link.to_peer(&out[..n]).unwrap();
        assert!(link.peer.process_new_packets().unwrap().peer_has_closed());
    });
}

#[test]
fn small_fragments() {
    each(|protection, side| {
        let mut link = link(protection, side, Some(64));
        // Tickets span records, and are let go.
        assert_eq!(link.hear().unwrap().tickets, 0);
        assert_eq!(link.peer_says(&[b'x'; 1000]), [b'x'; 1000]);
        assert_eq!(link.say(b"answer"), b"answer");
    });
}

#[test]
fn key_updates_both_ways() {
    each(|protection, side| {
        if protection.0 == Version::Tls12 {
            return;
        }
        let mut link = link(protection, side, None);
        link.hear().unwrap();
        let mut out = [0; 64];
        for round in 0..5u8 {
            // The peer's, which asks for ours.
            link.peer.refresh_traffic_keys().unwrap();
            let heard = link.hear().unwrap();
            assert_eq!(heard.updates, 1);
            assert_eq!(link.peer_says(&[round; 100]), [round; 100]);
            if link.ours.update_due(link.id) {
                let n = link.ours.update(link.id, false, &mut out).unwrap();
                assert_eq!(link.to_peer(&out[..n]).unwrap(), b"");
            }
            assert_eq!(link.say(&[round; 50]), [round; 50]);
            // Ours, which asks for the peer's.
            let n = link.ours.update(link.id, true, &mut out).unwrap();
            link.to_peer(&out[..n]).unwrap();
            assert_eq!(link.say(b"under the new key"), b"under the new key");
            link.peer.writer().write_all(b"mine too").unwrap();
            let heard = link.hear().unwrap();
            assert_eq!((heard.updates, heard.data.as_slice()), (1, &b"mine too"[..]));
        }
    });
}

/// What we say of a record that is not the peer's, it understands.
#[test]
fn a_fatal_alert_arrives() {
    each(|protection, side| {
        let mut link = link(protection, side, None);
        link.hear().unwrap();
        link.peer.writer().write_all(b"hello").unwrap();
        let mut bytes = Vec::new();
        link.peer.write_tls(&mut bytes).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let alert = link.ours.receive(link.id, &mut bytes).unwrap_err();
        let mut out = [0; 64];
        let n = link.ours.alert(link.id, alert, &mut out).unwrap();
        let error = link.to_peer(&out[..n]).unwrap_err();
        assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));

        // And the other way round.
        let mut link = self::link(protection, side, None);
        link.hear().unwrap();
        let mut record = sealed(&mut link.ours, link.id, ContentType::ApplicationData, b"hello").unwrap();
        *record.last_mut().unwrap() ^= 1;
        assert!(link.to_peer(&record).is_err());
        assert_eq!(link.hear().unwrap().fatal, Some(Alert::BAD_RECORD_MAC));
    });
}

/// A client of rustls' that wants to shake hands again does not exist; its refusal of ours does.
#[test]
fn alerts_have_the_codes_of_rustls() {
    for code in 0..=255u8 {
        let alert = Alert(code);
        let theirs = rustls::AlertDescription::from(code);
        assert_eq!(Alert::from(theirs), alert);
        if alert.name() != "unknown" {
            let name = format!("{theirs:?}").to_lowercase();
            let same = alert.name().replace('_', "") == name
                || ["unrecognisedname", "unsupportedcertificate", "unknownca"].contains(&name.as_str());
            assert!(same || name.starts_with("unknown"), "{alert:?} is {theirs:?}");
        }
    }
}
