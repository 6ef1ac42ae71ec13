//! How long a session can be resumed, whoever keeps it.

use std::sync::Arc;

use rcgen::date_time_ymd;
use rustls::client::ResolvesClientCert;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error};

use super::support::*;
use crate::tls::front::{self, ClientAuth, Front, Tickets};
use crate::tls::handshake::{Established, Failure, FailureKind, Handshake};
use crate::tls::hello::{Peek, peek};
use crate::tls::store::SessionStore;
use crate::tls::tickets::{SharedTime, TicketSpec, Ticketer};

/// Seconds that a key seals, and that a session is good.
const PERIOD_S: u64 = 100;
const KEEP_S: u64 = 250;
const START_S: u64 = 1_050;

struct Server {
    time: Arc<SharedTime>,
    ticketer: Arc<Ticketer>,
    front: Front,
}

impl Server {
    fn new(authority: &Authority, auth: ClientAuth, start_s: u64, early: bool) -> Server {
        let time = Arc::new(SharedTime::default());
        time.set(start_s);
        let keys = TicketSpec { period_s: PERIOD_S, lifetime_s: KEEP_S, secret: None };
        let ticketer = Ticketer::new(keys, start_s).unwrap();
        let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
        (entry.client_auth, entry.early_data_bytes) = (auth, if early { 64 } else { 0 });
        let mut spec = spec(vec![entry]);
        spec.time = time.clone();
        let kept = early.then(|| SessionStore::new(64, KEEP_S, time.clone()));
        spec.tickets = Some(Tickets { producer: ticketer.clone(), sent: 2, kept });
        Server { time, ticketer, front: Front::new(spec).unwrap() }
    }

    /// With a stock client, at this time.
    fn shake(&self, now_s: u64, config: &Arc<ClientConfig>) -> (Result<Established, Failure>, Option<Error>) {
        self.time.set(now_s);
        self.ticketer.rotate(now_s);
        let mut client = client(config, "a.test");
        let hello = flush(&mut client);
        let mut joined = Vec::new();
        let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
        let mut ours = Handshake::server(self.front.choose(&seen).unwrap().config).unwrap();
        ours.give(&hello);
        let result = drive(ours, &mut client, 1 << 20, b"");
        // What it was told at the end it says again whenever it is asked.
        (result, client.process_new_packets().err())
    }

    fn resumes(&self, now_s: u64, config: &Arc<ClientConfig>) -> bool {
        self.shake(now_s, config).0.unwrap().resumed
    }
}

/// A session is as old as the full handshake that it began with, however many tickets there were since.
#[test]
fn nobody_resumes_for_ever() {
    let authority = Authority::new("ca");
    for (tls13, early) in [(true, false), (false, false), (true, true)] {
        let server = Server::new(&authority, ClientAuth::None, START_S, early);
        let config = Arc::new(client_config(&authority, tls13));
        for began in [START_S, START_S + KEEP_S, START_S + 2 * KEEP_S] {
            assert!(!server.resumes(began, &config), "{began}");
            for age in [0, 50, 100, 150, 200, 240, KEEP_S - 1] {
                assert!(server.resumes(began + age, &config), "{age} after {began}");
            }
        }
    }
}

/// The key is there for whoever came at the end of its period.
#[test]
fn a_ticket_is_over_before_its_key() {
    let authority = Authority::new("ca");
    for tls13 in [true, false] {
        let server = Server::new(&authority, ClientAuth::None, START_S, false);
        let config = || Arc::new(client_config(&authority, tls13));
        let [early, late, last] = [config(), config(), config()];
        assert!(!server.resumes(START_S, &early) && !server.resumes(START_S + 49, &late));
        assert!(!server.resumes(START_S + KEEP_S, &early), "its time is over");
        assert!(server.resumes(START_S + KEEP_S + 48, &late));
        // With a clock that was far ahead once.
        assert!(!server.resumes(START_S + 2_000, &last));
        assert!(!server.resumes(START_S + 1_000, &last), "who knows how old it is");
    }
}

/// A client's certificate with its end, as one shows it.
fn shows(people: &Authority, until: (i32, u8)) -> Arc<dyn ResolvesClientCert> {
    let (chain, key) = people.issue_with(&["somebody.test"], KeyType::Ecdsa, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until.0, until.1, 1);
    });
    Arc::new(SingleCertAndKey::from(front::certified(chain, key, None, &front::provider()).unwrap()))
}

/// 2030-01-01, 0:00:00: the last second of the certificate.
const END_S: u64 = 1_893_456_000;

#[test]
fn a_certificate_that_is_over_resumes_nothing() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    for tls13 in [true, false] {
        for required in [true, false] {
            let auth = match required {
                true => ClientAuth::Required(people.roots()),
                false => ClientAuth::Optional(people.roots()),
            };
            let server = Server::new(&authority, auth, END_S - 20, false);
            let mut config = client_config(&authority, tls13);
            config.client_auth_cert_resolver = shows(&people, (2030, 1));
            // The same client, when it has got another one.
            let mut renewed = config.clone();
            renewed.client_auth_cert_resolver = shows(&people, (2031, 1));
            let (config, renewed) = (Arc::new(config), Arc::new(renewed));
            for (now, resumed) in [(END_S - 20, false), (END_S - 10, true), (END_S, true)] {
                let established = server.shake(now, &config).0.unwrap();
                assert_eq!((established.resumed, established.peer.len()), (resumed, 1), "{now}");
            }
            let (result, told) = server.shake(END_S + 1, &config);
            let failure = result.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Certificate);
            let Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) = failure.error
            else {
                panic!("{failure}")
            };
            assert_eq!(told, Some(Error::AlertReceived(AlertDescription::CertificateExpired)));
            assert!(!server.resumes(END_S + 2, &renewed));
            assert!(server.resumes(END_S + 3, &renewed));
        }
    }
}
