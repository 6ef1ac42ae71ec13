//! Handshakes per second of one core, the server's side alone: ours (look at the hello, entry by name, pool, driver,
//! keys) beside rustls' own connection, in turns.
//!
//! `cargo bench -p l7 --bench handshakes`

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::counters::Segment;
use hugepages::SlabIndex;
use l7::tls::front::{self, ClientAuth, Entry, Front, FrontSpec, Tickets};
use l7::tls::handshakes::{HandshakeId, HandshakeLimits, Handshakes, Outcome, Peers};
use l7::tls::tickets::{SharedTime, TicketSpec, Ticketer};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, ServerConfig, ServerConnection};
use stack::FlowId;

const ROUNDS: usize = 5;

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // As `cargo test` calls it.
    }
    println!("{:<12} {:<16} {:<8} {:>10} {:>10} {:>7}", "key", "group", "", "ours/s", "rustls/s", "ratio");
    for (key_name, algorithm) in [("P-256", &PKCS_ECDSA_P256_SHA256), ("RSA-2048", &PKCS_RSA_SHA256)] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let certificate = CertificateParams::new(vec!["a.test".into()])
            .expect("a name")
            .self_signed(&key)
            .expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let certified =
            front::certified(vec![certificate.der().clone()], key, None, &front::provider()).expect("ours");
        for group in [NamedGroup::X25519, NamedGroup::X25519MLKEM768] {
            for resumes in [false, true] {
                let bench = Bench::new(&certified, &roots, group, resumes);
                let (ours, theirs) = bench.run(if key_name == "P-256" { 2000 } else { 500 });
                let how = if resumes { "resumed" } else { "full" };
                let ratio = ours / theirs;
                println!("{key_name:<12} {group:<16?} {how:<8} {ours:>10.0} {theirs:>10.0} {ratio:>7.3}");
            }
        }
    }
}

struct Bench {
    front: Front,
    stock: Arc<ServerConfig>,
    /// One for each server: a ticket is one server's.
    clients: [Arc<ClientConfig>; 2],
}

impl Bench {
    fn new(certified: &Arc<CertifiedKey>, roots: &RootCertStore, group: NamedGroup, resumes: bool) -> Bench {
        let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
        let time = Arc::new(SharedTime::default());
        time.set(now);
        let producer = Ticketer::new(TicketSpec::default(), now).expect("a ticketer");
        let front = Front::new(FrontSpec {
            entries: vec![Entry {
                names: vec!["a.test".into()],
                certificates: vec![certified.clone()],
                client_auth: ClientAuth::None,
                alpn: vec![b"http/1.1".to_vec()],
                tls12: true,
                early_data_bytes: 0,
            }],
            challenges: Vec::new(),
            provider: front::provider(),
            time,
            tickets: Some(Tickets { producer, sent: 2, kept: None }),
        })
        .expect("a front");
        let mut stock = ServerConfig::builder_with_provider(front::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())));
        stock.alpn_protocols = vec![b"http/1.1".to_vec()];
        stock.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("a ticketer");
        let client = || {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.kx_groups.retain(|have| have.name() == group);
            let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            if !resumes {
                config.resumption = rustls::client::Resumption::disabled();
            }
            Arc::new(config)
        };
        Bench { front, stock: Arc::new(stock), clients: [client(), client()] }
    }

    /// Handshakes per second of both, the best round of each.
    fn run(&self, times: u32) -> (f64, f64) {
        let counters = Segment::in_memory(1).writer(0);
        let mut handshakes = Handshakes::new(HandshakeLimits::new(16, [1, 2]), None, counters);
        let (mut best_ours, mut best_theirs) = (Duration::MAX, Duration::MAX);
        for round in 0..=ROUNDS {
            let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
            for n in 0..times {
                // Whoever goes first finds colder caches.
                for turn in [n % 2, 1 - n % 2] {
                    match turn {
                        0 => ours += self.ours(&mut handshakes),
                        _ => theirs += self.theirs(),
                    }
                }
            }
            if round > 0 {
                (best_ours, best_theirs) = (best_ours.min(ours), best_theirs.min(theirs));
            }
        }
        let per_second = |time: Duration| f64::from(times) / time.as_secs_f64();
        (per_second(best_ours), per_second(best_theirs))
    }

    fn ours(&self, handshakes: &mut Handshakes) -> Duration {
        let mut client = connection(&self.clients[0]);
        let mut wire = Wire::default();
        let mut time = Duration::ZERO;
        let mut id = None;
        while !wire.is_done {
            let bytes = flush(&mut client);
            let start = Instant::now();
            let id = *id.get_or_insert_with(|| {
                handshakes.start_server(FlowId::from_u32(0), [192, 0, 2, 1].into()).expect("room")
            });
            wire.inbox = bytes;
            wire.taken = 0;
            handshakes.readable(id);
            while handshakes.has_work() {
                handshakes.run(&self.front, &mut wire);
            }
            time += start.elapsed();
            feed(&mut client, &std::mem::take(&mut wire.sent));
        }
        time
    }

    fn theirs(&self) -> Duration {
        let mut client = connection(&self.clients[1]);
        let mut time = Duration::ZERO;
        let mut server = None;
        loop {
            let bytes = flush(&mut client);
            let start = Instant::now();
            let server = server
                .get_or_insert_with(|| ServerConnection::new(self.stock.clone()).expect("a connection"));
            feed(server, &bytes);
            let sent = flush(server);
            time += start.elapsed();
            feed(&mut client, &sent);
            if !server.is_handshaking() {
                return time;
            }
        }
    }
}

#[derive(Default)]
struct Wire {
    inbox: Vec<u8>,
    taken: usize,
    sent: Vec<u8>,
    is_done: bool,
}

impl Peers for Wire {
    fn received(&mut self, _: FlowId) -> &[u8] {
        &self.inbox[self.taken..]
    }

    fn take(&mut self, _: FlowId, bytes: usize) {
        self.taken += bytes;
    }

    fn consume(&mut self, _: FlowId, _: usize) {}

    fn outcome(&mut self, _: HandshakeId, _: FlowId, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Send(bytes) => self.sent.extend_from_slice(bytes),
            Outcome::Early { .. } => {}
            Outcome::Established(_) => self.is_done = true,
            Outcome::Failed(failure) => panic!("{failure}"),
        }
    }
}

fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("a.test").expect("a name"))
        .expect("a connection")
}

fn flush<D: rustls::SideData>(from: &mut rustls::ConnectionCommon<D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("a Vec takes all");
    }
    bytes
}

fn feed<D: rustls::SideData>(to: &mut rustls::ConnectionCommon<D>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).expect("a slice gives all");
        to.process_new_packets().expect("a handshake");
    }
}
