//! Handshakes per second of one core, the server's side alone: ours (look at the hello, entry by name, pool, driver,
//! keys) beside rustls' own connection, in turns, one handshake each. What is told is the median of all handshakes, which
//! those that the kernel or a neighbour on this machine interrupted do not move.
//!
//! Control: rustls' own connection beside itself, with a config of its own, in the same turns. How far that is from 1 is
//! what a ratio is worth.
//!
//! `cargo bench -p l7 --bench handshakes [-- [--quick]]`      about a minute

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::Ctr;
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

/// Handshakes of each with a key whose signatures are quick, and with one whose are slow.
const TIMES: [usize; 2] = [6000, 1500];
/// Before they count.
const WARM: usize = 100;

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // As `cargo test` calls it.
    }
    let share = if std::env::args().any(|arg| arg == "--quick") { 20 } else { 1 };
    println!(
        "{:<12} {:<16} {:<8} {:>10} {:>10} {:>7} {:>8}",
        "key", "group", "", "ours/s", "rustls/s", "ratio", "control"
    );
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
                let [ours, theirs, again] =
                    bench.run(TIMES[usize::from(key_name != "P-256")] / share, resumes);
                let how = if resumes { "resumed" } else { "full" };
                let (ratio, control) = (ours / theirs, again / theirs);
                let group = format!("{group:?}");
                println!(
                    "{key_name:<12} {group:<16} {how:<8} {ours:>10.0} {theirs:>10.0} {ratio:>7.3} {control:>8.3}"
                );
            }
        }
    }
}

struct Bench {
    front: Front,
    /// rustls' own: the one that ours is held against, and its control.
    stock: [Arc<ServerConfig>; 2],
    /// One for each server, ours first: a ticket is one server's.
    clients: [Arc<ClientConfig>; 3],
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
                early_data_sessions: 0,
            }],
            challenges: Vec::new(),
            provider: front::provider(),
            time,
            tickets: Some(Tickets { producer, sent: 2 }),
        })
        .expect("a front");
        let stock = || {
            let mut stock = ServerConfig::builder_with_provider(front::provider())
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())));
            stock.alpn_protocols = vec![b"http/1.1".to_vec()];
            stock.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("a ticketer");
            assert_eq!(stock.send_tls13_tickets, 2, "as many as ours");
            Arc::new(stock)
        };
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
        Bench { front, stock: [stock(), stock()], clients: [client(), client(), client()] }
    }

    /// Handshakes per second: ours, rustls', and rustls' once more.
    fn run(&self, times: usize, resumes: bool) -> [f64; 3] {
        let counters = Segment::in_memory(1).writer(0);
        let mut handshakes = Handshakes::new(HandshakeLimits::new(16, [1, 2]), None, counters.clone());
        let mut took: [Vec<Duration>; 3] = Default::default();
        for n in 0..WARM + times {
            // Whoever goes first finds colder caches.
            for turn in (0..3).map(|k| (n + k) % 3) {
                let time = match turn {
                    0 => self.ours(&mut handshakes),
                    other => self.theirs(other - 1),
                };
                if n >= WARM {
                    took[turn].push(time);
                }
            }
        }
        let (full, resumed) = (counters.get(Ctr::TlsFull), counters.get(Ctr::TlsResumed));
        let all = (WARM + times) as u64;
        assert_eq!((full, resumed), if resumes { (1, all - 1) } else { (all, 0) }, "as they are meant");
        took.map(|mut took| {
            took.sort();
            1.0 / took[took.len() / 2].as_secs_f64()
        })
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

    fn theirs(&self, which: usize) -> Duration {
        let mut client = connection(&self.clients[1 + which]);
        let mut time = Duration::ZERO;
        let mut server = None;
        loop {
            let bytes = flush(&mut client);
            let start = Instant::now();
            let server = server.get_or_insert_with(|| {
                ServerConnection::new(self.stock[which].clone()).expect("a connection")
            });
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

    fn consume(&mut self, _: FlowId, bytes: usize) {
        self.taken += bytes;
    }

    fn outcome(&mut self, _: HandshakeId, _: FlowId, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Send(bytes) => self.sent.extend_from_slice(bytes),
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
