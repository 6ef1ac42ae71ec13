//! What a handshake under way holds of the heap, between its steps, is no more than the footprint says. Within a step it may
//! be more: of one at a time.

use std::sync::Arc;

use l7::tls::front::{self, ClientAuth, Entry, Front, FrontSpec};
use l7::tls::handshake::{Handshake, Progress, SHORT_INPUT_BYTES_MAX, certificates_bytes_max};
use l7::tls::hello::{Peek, peek};
use l7::tls::{HANDSHAKE_BYTES, LONG_HANDSHAKE_BYTES};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, version};

use crate::malloc::{held, hold_anew, holds};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, names: Vec<String>) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }
}

fn front(authority: &Authority, client_auth: ClientAuth) -> Front {
    let provider = front::provider();
    let (certificate, key) = authority.issue(vec!["a.test".to_owned()]);
    let entry = Entry {
        names: vec!["*".to_owned()],
        certificates: vec![front::certified(vec![certificate], key, None, &provider).unwrap()],
        client_auth,
        alpn: Vec::new(),
        tls12: true,
        early_data_bytes: 0,
    };
    let time = Arc::new(DefaultTimeProvider);
    let spec = FrontSpec { entries: vec![entry], challenges: Vec::new(), provider, time, tickets: None };
    Front::new(spec).unwrap()
}

fn client(authority: &Authority, tls13: bool, names: usize) -> ClientConnection {
    let versions: &[_] = if tls13 { &[&version::TLS13] } else { &[&version::TLS12] };
    let mut config = ClientConfig::builder_with_provider(front::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    if names > 0 {
        let names = (0..names).map(|n| format!("somebody-with-many-names-{n:04}.test")).collect();
        let (certificate, key) = authority.issue(names);
        let certified = front::certified(vec![certificate], key, None, &front::provider()).unwrap();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    }
    ClientConnection::new(Arc::new(config), ServerName::try_from("a.test").unwrap()).unwrap()
}

fn flush(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// A handshake whose hello is answered; `out` has room for all that may be sent.
fn begun(front: &Front, client: &mut ClientConnection, out: &mut Vec<u8>) -> Handshake {
    let hello = flush(client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
    let choice = front.choose(&seen).unwrap();
    hold_anew();
    let ours = holds(|| {
        let mut ours = Handshake::server(choice.config).unwrap();
        ours.give(&hello);
        assert!(matches!(ours.advance(&[], out), Ok(Progress::WantsMore)));
        ours
    });
    client.read_tls(&mut &out[..]).unwrap();
    client.process_new_packets().unwrap();
    out.clear();
    ours
}

#[test]
fn a_handshake_is_in_the_footprint_with_all_that_it_holds() {
    let authority = Authority::new();
    let mut out = Vec::with_capacity(64 << 10);
    for tls13 in [true, false] {
        // A record of which all but a byte has come, in pieces.
        let front = front(&authority, ClientAuth::None);
        let mut ours = begun(&front, &mut client(&authority, tls13, 0), &mut out);
        let body = SHORT_INPUT_BYTES_MAX - 5;
        let kind = if tls13 { 23 } else { 22 };
        let record = [&[kind, 3, 3][..], &(body as u16).to_be_bytes(), &vec![0; body - 1]].concat();
        holds(|| record.chunks(1460).for_each(|piece| ours.give(piece)));
        println!("1.3: {tls13}: {} of {HANDSHAKE_BYTES}", held());
        assert!(held() > record.len() as u64 && held() <= HANDSHAKE_BYTES);
        drop(ours);
        // Certificates that need no place, and longer ones, nearly as long as they may be.
        for names in [1, 110, 230, 700, 1_500] {
            let front = self::front(&authority, ClientAuth::Required(authority.roots()));
            let mut client = client(&authority, tls13, names);
            let mut ours = begun(&front, &mut client, &mut out);
            let flight = flush(&mut client);
            let room = match flight.len() > certificates_bytes_max(tls13, true) {
                true => HANDSHAKE_BYTES + LONG_HANDSHAKE_BYTES,
                false => HANDSHAKE_BYTES,
            };
            // Record by record, in pieces, as its driver does.
            let mut left = &flight[..];
            let (mut done, mut most) = (None, 0);
            while !left.is_empty() {
                let n = ours.wants().min(left.len()).min(1460);
                holds(|| ours.give(&left[..n]));
                most = held().max(most);
                left = &left[n..];
                if ours.wants() == 0 {
                    let progress = holds(|| ours.advance(&[], &mut out)).expect("a good handshake");
                    if let Progress::Done(established) = progress {
                        done = Some(established);
                    }
                    most = held().max(most);
                }
            }
            println!("1.3: {tls13}, {names} names, {} bytes: {most} of {room}", flight.len());
            assert!(done.is_some() && most > flight.len() as u64 && most <= room);
            out.clear();
        }
    }
}
