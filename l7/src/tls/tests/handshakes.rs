use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use dataplane::Ctr;
use dataplane::counters::Segment;
use hugepages::SlabIndex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{AlertDescription, ClientConfig, ClientConnection, HandshakeKind, NamedGroup, SignatureScheme};
use stack::FlowId;

use super::support::*;
use crate::tls::front::{ClientAuth, Front, Tickets};
use crate::tls::handshake::{self, Established, Failure, FailureKind};
use crate::tls::handshakes::{HandshakeId, HandshakeLimits, Handshakes, Outcome, Peers, Shed};
use crate::tls::offload::{Helpers, Host};
use crate::tls::store::SessionStore;
use crate::tls::tickets::{TicketSpec, Ticketer};

/// Connections without TCP: what came for each, and what was said to it.
#[derive(Default)]
struct Wire {
    flows: BTreeMap<u32, Flow>,
    /// How much lies together.
    slice: usize,
}

#[derive(Default)]
struct Flow {
    inbox: Vec<u8>,
    /// Taken, and not consumed.
    held: usize,
    sent: Vec<u8>,
    early: Vec<u8>,
    done: Option<Box<Established>>,
    failed: Option<Failure>,
}

impl Wire {
    fn of(&mut self, flow: FlowId) -> &mut Flow {
        self.flows.entry(flow.to_u32()).or_default()
    }
}

impl Peers for Wire {
    fn received(&mut self, flow: FlowId) -> &[u8] {
        let slice = if self.slice == 0 { usize::MAX } else { self.slice };
        let inbox = &self.of(flow).inbox;
        &inbox[..inbox.len().min(slice)]
    }

    fn take(&mut self, flow: FlowId, bytes: usize) {
        let flow = self.of(flow);
        flow.inbox.drain(..bytes);
        flow.held += bytes;
    }

    fn consume(&mut self, flow: FlowId, bytes: usize) {
        self.of(flow).held -= bytes;
    }

    fn outcome(&mut self, _: HandshakeId, flow: FlowId, outcome: Outcome<'_>) {
        let flow = self.of(flow);
        assert!(flow.done.is_none() && flow.failed.is_none(), "nothing is said after the end");
        match outcome {
            Outcome::Send(bytes) => flow.sent.extend_from_slice(bytes),
            Outcome::Early { data, .. } => flow.early.extend_from_slice(data),
            Outcome::Established(established) => flow.done = Some(established),
            Outcome::Failed(failure) => flow.failed = Some(failure),
        }
    }
}

/// A core.
struct Core {
    handshakes: Handshakes,
    front: Front,
    wire: Wire,
    counters: dataplane::Counters,
    helpers: Option<(Helpers, Receiver<usize>)>,
}

struct Bell(std::sync::Mutex<Sender<usize>>);

impl Host for Bell {
    fn done(&self, core: usize) {
        let _ = self.0.lock().unwrap().send(core);
    }
}

const SOURCE: [u8; 4] = [192, 0, 2, 1];

impl Core {
    fn new(front: Front, limits: HandshakeLimits) -> Core {
        let counters = Segment::in_memory(1).writer(0);
        let handshakes = Handshakes::new(limits, None, counters.clone());
        Core { handshakes, front, wire: Wire::default(), counters, helpers: None }
    }

    fn with_helpers(front: Front, limits: HandshakeLimits, places: usize) -> Core {
        let (bell, rings) = channel();
        let helpers = Helpers::start(2, 1, places, Arc::new(Bell(bell.into()))).unwrap();
        let mut core = Core::new(front, limits.clone());
        assert!(helpers.of(1).is_none());
        core.handshakes = Handshakes::new(limits, helpers.of(0), core.counters.clone());
        core.helpers = Some((helpers, rings));
        core
    }

    fn run(&mut self) {
        self.handshakes.run(&self.front, &mut self.wire);
    }

    /// Runs until there is nothing to do, waiting for the helpers.
    fn settle(&mut self) {
        self.settle_while(|_| true);
    }

    /// The same, for as long as `more` says.
    fn settle_while(&mut self, mut more: impl FnMut(&mut Core) -> bool) {
        while more(self) {
            self.run();
            if self.handshakes.has_work() {
                continue;
            }
            if self.counters.get(Ctr::TlsAway) == 0 {
                return;
            }
            self.helpers.as_ref().unwrap().1.recv().unwrap();
        }
    }

    fn start(&mut self, flow: u32) -> HandshakeId {
        self.handshakes.start_server(FlowId::from_u32(flow), SOURCE.into()).unwrap()
    }

    fn give(&mut self, flow: u32, id: HandshakeId, bytes: &[u8]) {
        self.wire.of(FlowId::from_u32(flow)).inbox.extend_from_slice(bytes);
        self.handshakes.readable(id);
    }

    fn flow(&mut self, flow: u32) -> &mut Flow {
        self.wire.of(FlowId::from_u32(flow))
    }

    /// Shakes hands with a stock client, which may send `behind` as soon as it can.
    fn shake(
        &mut self,
        flow: u32,
        client: &mut ClientConnection,
        behind: &[u8],
    ) -> Result<(), rustls::Error> {
        let id = self.start(flow);
        let mut has_sent = false;
        for _ in 0..10 {
            if !client.is_handshaking() && !has_sent {
                has_sent = true;
                std::io::Write::write_all(&mut client.writer(), behind).unwrap();
            }
            let bytes = flush(client);
            if bytes.is_empty() {
                break;
            }
            self.give(flow, id, &bytes);
            self.settle();
            let sent = std::mem::take(&mut self.flow(flow).sent);
            feed(client, &sent)?;
        }
        Ok(())
    }
}

fn limits(handshakes: u32) -> HandshakeLimits {
    HandshakeLimits { per_source: handshakes, ..HandshakeLimits::new(handshakes, [1, 2]) }
}

#[test]
fn what_is_behind_a_handshake_stays_where_it_was() {
    let authority = Authority::new("ca");
    for tls13 in [true, false] {
        for slice in [0, 1, 3] {
            let mut core = Core::new(simple_front(&authority), limits(4));
            core.wire.slice = slice;
            let config = Arc::new(client_config(&authority, tls13));
            let mut client = client(&config, "a.test");
            core.shake(1, &mut client, b"GET / HTTP/1.1\r\n").unwrap();
            let established = core.flow(1).done.take().unwrap();
            assert!(established.unread.is_empty());
            assert_eq!(established.server_name.as_deref(), Some("a.test"));
            // The record of the request: header, bytes, and what the AEAD adds.
            let added = if tls13 { 1 + 16 } else { 8 + 16 };
            assert_eq!(core.flow(1).inbox.len(), 5 + 16 + added);
            assert_eq!(core.counters.get(Ctr::TlsFull), 1);
            assert_eq!(core.handshakes.active(), 0);
        }
    }
}

#[test]
fn the_pool_and_each_source_have_a_bound() {
    let authority = Authority::new("ca");
    let limits = HandshakeLimits { per_source: 2, ..HandshakeLimits::new(4, [1, 2]) };
    let mut core = Core::new(simple_front(&authority), limits);
    let start = |core: &mut Core, flow, source: &str| {
        core.handshakes.start_server(FlowId::from_u32(flow), source.parse().unwrap())
    };
    let first = start(&mut core, 1, "2001:db8::1").unwrap();
    start(&mut core, 2, "2001:db8::2").unwrap();
    assert_eq!(start(&mut core, 3, "2001:db8::3"), Err(Shed::Source));
    let other = start(&mut core, 3, "192.0.2.1").unwrap();
    core.handshakes.cancel(first);
    core.handshakes.cancel(first);
    assert_eq!(core.handshakes.active(), 2);
    let again = start(&mut core, 5, "2001:db8::1").unwrap();
    core.handshakes.cancel(again);
    core.handshakes.cancel(other);
    assert_eq!(core.counters.get(Ctr::TlsShedSource), 1);
    assert_eq!(core.counters.get(Ctr::TlsCancelled), 3);
}

/// Whoever opens connections and says nothing keeps out neither clients that do, nor our own handshakes.
#[test]
fn who_says_nothing_makes_room() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(16));
    let config = Arc::new(client_config(&authority, true));
    for flow in 0..14 {
        core.start(flow);
        assert_eq!(core.handshakes.take_evicted(), None);
    }
    // The first has said something, the third a part of it, the second nothing: that one goes.
    let ours: Vec<_> = [0, 2].map(HandshakeId::from_u32).into();
    core.give(0, ours[0], &flush(&mut client(&config, "a.test")));
    core.settle();
    core.give(2, ours[1], &[22, 3, 1]);
    core.settle();
    for (flow, oldest) in (14..26).zip([1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]) {
        let id = core.start(flow);
        assert_eq!(core.handshakes.take_evicted(), Some(FlowId::from_u32(oldest)), "for {flow}");
        core.give(flow, id, &flush(&mut client(&config, "a.test")));
        core.settle();
        assert!(!core.flow(flow).sent.is_empty());
    }
    // Now the one with a part of a hello; and then all have said hello.
    let id = core.start(26);
    assert_eq!(core.handshakes.take_evicted(), Some(FlowId::from_u32(2)));
    core.give(26, id, &flush(&mut client(&config, "a.test")));
    let refused = core.handshakes.start_server(FlowId::from_u32(27), SOURCE.into());
    assert_eq!((refused, core.handshakes.take_evicted()), (Err(Shed::Full), None));
    assert_eq!((core.handshakes.active(), core.counters.get(Ctr::TlsShedSilent)), (14, 13));
    // Two places are for handshakes of our own.
    let mut config = client_config(&authority, true);
    handshake::ask(&mut config);
    let config = Arc::new(config);
    let start = |core: &mut Core, flow| {
        let name = ServerName::try_from("a.test").unwrap();
        core.handshakes.start_client(FlowId::from_u32(flow), config.clone(), name)
    };
    start(&mut core, 30).unwrap();
    start(&mut core, 31).unwrap();
    assert_eq!(start(&mut core, 32), Err(Shed::Full));
    core.settle();
    assert!([30, 31].iter().all(|flow| !core.flow(*flow).sent.is_empty()));
}

#[test]
fn a_pass_says_one_hello_and_what_was_begun_comes_first() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(16));
    let config = Arc::new(client_config(&authority, true));
    let mut clients: Vec<_> = (0..8).map(|_| client(&config, "a.test")).collect();
    let mut ids = Vec::new();
    for (n, client) in (0..).zip(&mut clients) {
        let id = core.start(n);
        core.give(n, id, &flush(client));
        ids.push(id);
    }
    for pass in 1..=4 {
        core.run();
        let answered = core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count();
        assert_eq!(answered, pass);
    }
    // The first one's next flight is read before the fifth's hello.
    let sent = std::mem::take(&mut core.flow(0).sent);
    feed(&mut clients[0], &sent).unwrap();
    let flight = flush(&mut clients[0]);
    core.give(0, ids[0], &flight);
    core.run();
    assert!(core.flow(0).done.is_some());
    assert!(core.handshakes.has_work());
    // One that is cancelled while it waits has no turn.
    core.handshakes.cancel(ids[7]);
    core.settle();
    assert!(core.flow(7).sent.is_empty() && !core.flow(6).sent.is_empty());
}

#[test]
fn a_flood_has_its_budget_in_each_pass_and_whoever_is_refused_is_counted() {
    let authority = Authority::new("ca");
    // Two places are for handshakes of our own.
    let limits = HandshakeLimits { per_source: 2, ..HandshakeLimits::new(18, [1, 2]) };
    let mut core = Core::new(simple_front(&authority), limits);
    let config = Arc::new(client_config(&authority, true));
    let (mut begun, mut refused) = (Vec::new(), Vec::new());
    for n in 0..64 {
        // Three from each address.
        match core.handshakes.start_server(FlowId::from_u32(n), [10, 0, n as u8 / 3, 1].into()) {
            Ok(id) => {
                let mut client = client(&config, "a.test");
                core.give(n, id, &flush(&mut client));
                begun.push((n, id, client));
            }
            Err(why) => refused.push(why),
        }
    }
    assert_eq!((begun.len(), refused.len()), (16, 48));
    let counted = |core: &Core, ctr, why| {
        assert_eq!(core.counters.get(ctr), refused.iter().filter(|r| **r == why).count() as u64);
    };
    counted(&core, Ctr::TlsShedSource, Shed::Source);
    counted(&core, Ctr::TlsShedFull, Shed::Full);
    for pass in 1..=16 {
        core.run();
        assert_eq!(core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count(), pass);
        assert_eq!(core.counters.get(Ctr::TlsWaiting), 16 - pass as u64);
    }
    // All of them answer at once: each with a record that changes nothing, of which a pass takes sixteen, and then with
    // one that does: four.
    for (n, id, client) in &mut begun {
        let sent = std::mem::take(&mut core.flow(*n).sent);
        feed(client, &sent).unwrap();
        core.give(*n, *id, &flush(client));
    }
    let mut done = Vec::new();
    while done.last() != Some(&16) {
        core.run();
        done.push(core.wire.flows.values().filter(|flow| flow.done.is_some()).count());
        assert!(done.len() <= 10, "{done:?}");
    }
    assert!(done[0] <= 4 && done.windows(2).all(|pair| pair[1] - pair[0] <= 4), "{done:?}");
    assert_eq!(core.counters.get(Ctr::TlsFull), 16);
}

#[test]
fn a_busy_core_gives_its_handshakes_away() {
    let authority = Authority::new("ca");
    for (packets, helped) in [(31, 0), (32, 2)] {
        let mut core = Core::with_helpers(simple_front(&authority), limits(16), 4);
        let mut client = client(&Arc::new(client_config(&authority, true)), "a.test");
        let id = core.start(1);
        while client.is_handshaking() || core.flow(1).done.is_none() {
            core.give(1, id, &flush(&mut client));
            core.handshakes.beside(packets);
            core.settle();
            let sent = std::mem::take(&mut core.flow(1).sent);
            feed(&mut client, &sent).unwrap();
        }
        // The hello, and what follows it; not the record between them, which changes nothing.
        assert_eq!(core.counters.get(Ctr::TlsHelped), helped, "beside {packets}");
    }
}

#[test]
fn packets_come_before_handshakes() {
    let authority = Authority::new("ca");
    // An eighth of them is for our own handshakes.
    let mut core = Core::new(simple_front(&authority), limits(80));
    let config = Arc::new(client_config(&authority, true));
    for n in 0..64 {
        let id = core.start(n);
        core.give(n, id, &flush(&mut client(&config, "a.test")));
    }
    let answered = |core: &Core| core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count();
    // A hello for each 512 packets, however they come.
    for (packets, hellos) in [(64, 8), (32, 4), (1, 1)] {
        let before = answered(&core);
        for _ in 0..64 {
            core.handshakes.beside(packets);
            core.run();
        }
        let done = answered(&core) - before;
        assert!((hellos - 1..=hellos + 1).contains(&done), "{done} beside {packets} in a pass");
    }
    // Without any, one in each pass.
    let before = answered(&core);
    for pass in 1..=8 {
        core.run();
        assert_eq!(answered(&core), before + pass);
    }
    core.settle();
    assert_eq!(answered(&core), 64);
}

#[test]
fn a_name_that_nobody_has_is_told_so() {
    let authority = Authority::new("ca");
    let certified = || vec![authority.certified(&["a.test", "*.b.test"], KeyType::Ecdsa)];
    let entries = vec![entry(&["a.test"], certified()), entry(&["*.b.test"], certified())];
    let mut core = Core::new(Front::new(spec(entries)).unwrap(), limits(4));
    let config = Arc::new(client_config(&authority, true));
    for (flow, name, number) in [(1, "a.test", 0), (2, "x.b.test", 1)] {
        core.shake(flow, &mut client(&config, name), b"").unwrap();
        assert_eq!(core.flow(flow).done.as_ref().unwrap().entry, number);
    }
    for (flow, name) in [(3, "b.test"), (4, "192.0.2.7")] {
        let error = core.shake(flow, &mut client(&config, name), b"").unwrap_err();
        assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::UnrecognisedName));
        assert_eq!(core.flow(flow).failed.as_ref().unwrap().kind, FailureKind::Incompatible);
    }
    assert_eq!(core.counters.get(Ctr::TlsUnknownName), 2);
    assert_eq!(core.handshakes.active(), 0);
}

/// A record of `bytes`.
fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

#[test]
fn a_hello_in_many_records() {
    let authority = Authority::new("ca");
    let config = Arc::new(client_config(&authority, true));
    for count in [2, 5, 64] {
        let mut core = Core::new(simple_front(&authority), limits(4));
        let mut client = client(&config, "a.test");
        let hello = flush(&mut client);
        let body = &hello[5..];
        let id = core.start(1);
        for piece in body.chunks(body.len().div_ceil(count)) {
            core.give(1, id, &record(22, piece));
            core.settle();
        }
        let sent = std::mem::take(&mut core.flow(1).sent);
        feed(&mut client, &sent).unwrap();
        core.give(1, id, &flush(&mut client));
        core.settle();
        assert!(core.flow(1).done.is_some(), "{count} records");
    }
}

#[test]
fn what_cannot_become_a_hello_ends_at_once() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(4));
    let long = [&[1, 1, 0, 0][..], &[0; 100]].concat();
    let many: Vec<u8> = (0..100).flat_map(|_| record(22, &[1])).collect();
    let cases: &[(&str, &[u8], AlertDescription)] = &[
        ("plain text", b"GET / HTTP/1.1\r\n\r\n", AlertDescription::UnexpectedMessage),
        ("SSL 2", &[0x80, 0x2e, 1, 3, 1, 0, 0x15], AlertDescription::UnexpectedMessage),
        ("an alert", &record(21, &[2, 40]), AlertDescription::UnexpectedMessage),
        ("version 4", &[22, 4, 0, 0, 5, 1, 0, 0, 1, 0], AlertDescription::ProtocolVersion),
        ("an empty record", &record(22, &[]), AlertDescription::DecodeError),
        ("a record too long", &[22, 3, 1, 0x40, 1], AlertDescription::RecordOverflow),
        ("another message", &record(22, &[2, 0, 0, 1, 0]), AlertDescription::UnexpectedMessage),
        ("64 KiB", &record(22, &long), AlertDescription::DecodeError),
        ("an empty hello", &record(22, &[1, 0, 0, 0]), AlertDescription::DecodeError),
        ("a record for each byte", &many, AlertDescription::DecodeError),
    ];
    for (flow, (what, bytes, alert)) in (0..).zip(cases) {
        let id = core.start(flow);
        core.give(flow, id, bytes);
        core.settle();
        let flow = core.flow(flow);
        assert_eq!(flow.failed.as_ref().map(|failure| failure.kind), Some(FailureKind::Protocol), "{what}");
        assert_eq!(flow.sent, [21, 3, 3, 0, 2, 2, u8::from(*alert)], "{what}");
        assert_eq!(core.handshakes.active(), 0);
    }
    assert_eq!(core.counters.get(Ctr::TlsFailedProtocol), cases.len() as u64);
    // Half a hello is none, and costs no work.
    let id = core.start(99);
    core.give(99, id, &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc]);
    core.settle();
    assert!(!core.handshakes.has_work() && core.handshakes.active() == 1);
    core.handshakes.cancel(id);
}

/// Headers that can be no record's, some of which rustls would wait for the rest of.
const NO_RECORDS: &[(&str, [u8; 5])] = &[
    ("DTLS 1.2", [22, 0xfe, 0xfd, 0, 13]),
    ("SSL 2", [22, 0, 2, 0, 13]),
    ("version 4", [22, 4, 0, 0, 13]),
    ("a heartbeat", [24, 3, 3, 0, 13]),
    ("no type", [99, 3, 3, 0, 13]),
    ("too long", [22, 3, 3, 0x48, 1]),
];

#[test]
fn what_cannot_become_a_record_ends_at_its_header() {
    let authority = Authority::new("ca");
    for tls13 in [true, false] {
        let config = Arc::new(client_config(&authority, tls13));
        for (n, (what, header)) in (1..).zip(NO_RECORDS) {
            let mut core = Core::new(simple_front(&authority), limits(4));
            let id = core.start(n);
            core.give(n, id, &flush(&mut client(&config, "a.test")));
            core.settle();
            let flight = std::mem::take(&mut core.flow(n).sent);
            assert!(!flight.is_empty() && core.flow(n).failed.is_none());
            core.give(n, id, header);
            core.settle();
            let failed = core.flow(n).failed.as_ref().map(|failure| failure.kind);
            assert_eq!(failed, Some(FailureKind::Protocol), "{what}, 1.3: {tls13}");
            let sent = &core.flow(n).sent;
            // In TLS 1.3 it is sealed.
            assert_eq!(sent.first(), Some(if tls13 { &23 } else { &21 }), "{what}: {sent:?}");
            assert_eq!(core.handshakes.active(), 0);
        }
    }
}

fn rsa_front(authority: &Authority) -> Front {
    let both = vec![
        authority.certified(&["a.test"], KeyType::Rsa),
        authority.certified(&["a.test"], KeyType::Ecdsa),
    ];
    Front::new(spec(vec![
        entry(&["*"], both),
        entry(&["rsa.test"], vec![authority.certified(&["rsa.test"], KeyType::Rsa)]),
    ]))
    .unwrap()
}

/// A client that makes the other side sign by RSA.
fn rsa_client(authority: &Authority, tls13: bool) -> ClientConfig {
    let mut config = client_config(authority, tls13);
    super::front::witness(
        &mut config,
        authority,
        &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256],
    );
    config
}

#[test]
fn slow_signatures_are_made_by_helpers() {
    let authority = Authority::new("ca");
    let front = rsa_front(&authority);
    let mut core = Core::with_helpers(front, limits(16), 1);
    for (flow, tls13) in [(1, true), (2, false)] {
        let config = Arc::new(rsa_client(&authority, tls13));
        core.shake(flow, &mut client(&config, "a.test"), b"").unwrap();
        assert!(core.flow(flow).done.is_some());
        assert_eq!(core.counters.get(Ctr::TlsHelped), u64::from(flow));
    }
    // Whoever can verify ECDSA gets that.
    let config = Arc::new(client_config(&authority, true));
    core.shake(3, &mut client(&config, "a.test"), b"").unwrap();
    assert_eq!(core.counters.get(Ctr::TlsHelped), 2);
    // Several at once, with one place: they wait, and all are served.
    let mut clients: Vec<_> = (10..16).map(|flow| (flow, client(&config, "rsa.test"))).collect();
    let mut ids = Vec::new();
    for (flow, client) in &mut clients {
        let id = core.start(*flow);
        core.give(*flow, id, &flush(client));
        ids.push(id);
    }
    core.settle();
    for ((flow, client), id) in clients.iter_mut().zip(ids) {
        let sent = std::mem::take(&mut core.flow(*flow).sent);
        feed(client, &sent).unwrap();
        core.give(*flow, id, &flush(client));
        core.settle();
        assert!(core.flow(*flow).done.is_some());
    }
    assert_eq!(core.counters.get(Ctr::TlsHelped), 8);
    assert!(core.counters.get(Ctr::TlsHelpersFull) > 0);
}

#[test]
fn a_resumed_session_signs_nothing_and_a_bad_ticket_makes_no_core_sign() {
    let authority = Authority::new("ca");
    let certified = authority.certified(&["a.test"], KeyType::Rsa);
    let make_front = || {
        let mut spec = spec(vec![entry(&["*"], vec![certified.clone()])]);
        let producer = Ticketer::new(TicketSpec::default(), 1_000_000).unwrap();
        spec.tickets = Some(Tickets { producer, sent: 2, kept: None });
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let has = [NamedGroup::X25519MLKEM768, NamedGroup::X25519];
        provider.kx_groups.retain(|group| has.contains(&group.name()));
        spec.provider = Arc::new(provider);
        Front::new(spec).unwrap()
    };
    let mut core = Core::with_helpers(make_front(), limits(4), 4);
    for tls13 in [true, false] {
        let config = Arc::new(client_config(&authority, tls13));
        let before = core.counters.get(Ctr::TlsHelped);
        core.shake(1, &mut client(&config, "a.test"), b"").unwrap();
        assert_eq!(core.counters.get(Ctr::TlsHelped), before + 1);
        *core.flow(1) = Flow::default();
        core.shake(1, &mut client(&config, "a.test"), b"").unwrap();
        assert!(core.flow(1).done.take().unwrap().resumed);
        assert_eq!(core.counters.get(Ctr::TlsHelped), before + 1, "on the core");
        // Tickets that do not open.
        core.front = make_front();
        core.shake(1, &mut client(&config, "a.test"), b"").unwrap();
        assert!(!core.flow(1).done.take().unwrap().resumed);
        assert_eq!(core.counters.get(Ctr::TlsHelped), before + 2);
        // The same with a key share that the server has no use for: the second hello is a helper's.
        if tls13 {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
            provider.kx_groups.reverse();
            let config =
                Arc::new(client_config_of(&authority, &Arc::new(provider), &[&rustls::version::TLS13]));
            let mut done = Vec::new();
            for round in 0..3 {
                if round == 2 {
                    core.front = make_front();
                }
                let mut client = client(&config, "a.test");
                core.shake(1, &mut client, b"").unwrap();
                // Once it knows the server's group it is not asked again.
                let is_retried = client.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
                assert!(is_retried || round > 0);
                done.push(core.flow(1).done.take().is_some());
            }
            assert_eq!(done, [true; 3]);
        }
        *core.flow(1) = Flow::default();
    }
    assert_eq!(core.counters.get(Ctr::TlsFailedInternal), 0);
}

#[test]
fn sessions_that_are_forgotten_are_counted() {
    let authority = Authority::new("ca");
    let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    entry.early_data_bytes = 100;
    let mut spec = spec(vec![entry]);
    let kept = SessionStore::new(8, 3600, Arc::new(DefaultTimeProvider));
    assert_eq!(kept.capacity(), 8);
    spec.tickets = Some(Tickets { kept: Some(kept), ..super::early::tickets() });
    let mut core = Core::new(Front::new(spec).unwrap(), limits(4));
    // Two for each client.
    for (flow, evicted) in (0..6).zip([0, 0, 0, 0, 2, 4]) {
        let config = Arc::new(client_config(&authority, true));
        core.shake(flow, &mut client(&config, "a.test"), b"").unwrap();
        assert_eq!(core.counters.get(Ctr::TlsEarlyEvicted), evicted);
    }
}

/// A provider that knows only these groups.
fn provider_of(groups: &[NamedGroup]) -> Arc<CryptoProvider> {
    let all = rustls::crypto::aws_lc_rs::default_provider();
    let of = |group: &NamedGroup| *all.kx_groups.iter().find(|g| g.name() == *group).unwrap();
    let kx_groups = groups.iter().map(of).collect();
    Arc::new(CryptoProvider { kx_groups, ..all })
}

/// The second hello asks for what the first did not let expect.
#[test]
fn a_second_hello_makes_no_core_sign() {
    let authority = Authority::new("ca");
    let both = [KeyType::Rsa, KeyType::Ecdsa].map(|key| authority.certified(&["a.test"], key));
    let mut spec = spec(vec![entry(&["*"], both.to_vec())]);
    spec.provider = provider_of(&[NamedGroup::secp256r1]);
    let mut core = Core::with_helpers(Front::new(spec).unwrap(), limits(4), 4);
    let groups = provider_of(&[NamedGroup::X25519, NamedGroup::secp256r1]);
    let client_of = |schemes: &[SignatureScheme]| {
        let mut config = client_config_of(&authority, &groups, &[&rustls::version::TLS13]);
        super::front::witness(&mut config, &authority, schemes);
        client(&Arc::new(config), "a.test")
    };
    let mut ecdsa = client_of(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
    let mut rsa = client_of(&[SignatureScheme::RSA_PSS_SHA256]);
    let ids = [1, 2].map(|flow| core.start(flow));
    core.give(1, ids[0], &flush(&mut ecdsa));
    core.give(2, ids[1], &flush(&mut rsa));
    core.settle();
    let sent = std::mem::take(&mut core.flow(2).sent);
    feed(&mut rsa, &sent).unwrap();
    let second = flush(&mut rsa);
    let before = core.counters.get(Ctr::TlsHelped);
    core.flow(1).sent.clear();
    core.give(1, ids[0], &second);
    core.settle();
    assert!(!core.flow(1).sent.is_empty(), "it is answered as any");
    assert!(core.counters.get(Ctr::TlsHelped) > before);
}

#[test]
fn slow_exchanges_are_made_by_helpers_in_every_step() {
    let authority = Authority::new("ca");
    let certified = authority.certified(&["a.test"], KeyType::Ecdsa);
    let mut spec = spec(vec![entry(&["*"], vec![certified])]);
    spec.provider = provider_of(&[NamedGroup::secp384r1]);
    let mut core = Core::with_helpers(Front::new(spec).unwrap(), limits(4), 4);
    let groups = provider_of(&[NamedGroup::X25519, NamedGroup::secp384r1]);
    // Two hellos, and Finished; a hello, and what it takes to finish.
    for (flow, version, steps) in [(1, &rustls::version::TLS13, 3), (2, &rustls::version::TLS12, 2)] {
        let before = core.counters.get(Ctr::TlsHelped);
        let config = Arc::new(client_config_of(&authority, &groups, &[version]));
        core.shake(flow, &mut client(&config, "a.test"), b"").unwrap();
        assert!(core.flow(flow).done.is_some());
        assert!(core.counters.get(Ctr::TlsHelped) >= before + steps);
    }
}

#[test]
fn one_that_is_cancelled_with_a_helper_is_forgotten() {
    let authority = Authority::new("ca");
    let mut core = Core::with_helpers(rsa_front(&authority), limits(1), 4);
    let config = Arc::new(client_config(&authority, true));
    let id = core.start(1);
    core.give(1, id, &flush(&mut client(&config, "rsa.test")));
    core.run();
    assert_eq!(core.counters.get(Ctr::TlsAway), 1);
    core.handshakes.cancel(id);
    // Its slot is another's at once.
    core.shake(2, &mut client(&config, "a.test"), b"").unwrap();
    core.settle();
    assert!(core.flow(2).done.is_some());
    assert!(core.flow(1).sent.is_empty() && core.flow(1).done.is_none());
}

#[test]
fn too_many_hellos_are_shared_with_the_helpers() {
    let authority = Authority::new("ca");
    let mut core =
        Core::with_helpers(simple_front(&authority), HandshakeLimits { waiting: 2, ..limits(16) }, 16);
    let config = Arc::new(client_config(&authority, true));
    let mut clients: Vec<_> = (0..10).map(|_| client(&config, "a.test")).collect();
    for (n, client) in (0..).zip(&mut clients) {
        let id = core.start(n);
        core.give(n, id, &flush(client));
    }
    core.settle();
    assert!(core.counters.get(Ctr::TlsHelped) >= 6, "{}", core.counters.get(Ctr::TlsHelped));
    assert_eq!(core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count(), 10);
}

#[test]
fn clients_show_certificates_where_they_are_to() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let make_front = |auth: ClientAuth| {
        let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
        entry.client_auth = auth;
        Front::new(spec(vec![entry])).unwrap()
    };
    let with_certificate = |issuer: &Authority, tls13| {
        let (chain, key) = issuer.issue(&["somebody.test"], KeyType::Ecdsa);
        let mut config = client_config(&authority, tls13);
        let resolver = rustls::sign::SingleCertAndKey::from(
            crate::tls::front::certified(chain, key, None, config.crypto_provider()).unwrap(),
        );
        config.client_auth_cert_resolver = Arc::new(resolver);
        Arc::new(config)
    };
    let none = |tls13| Arc::new(client_config(&authority, tls13));
    let stranger = Authority::new("stranger");
    for helped in [false, true] {
        for tls13 in [true, false] {
            let make = |auth| match helped {
                true => Core::with_helpers(make_front(auth), limits(4), 4),
                false => Core::new(make_front(auth), limits(4)),
            };
            let mut core = make(ClientAuth::Required(people.roots()));
            core.shake(1, &mut client(&with_certificate(&people, tls13), "a.test"), b"GET").unwrap();
            assert_eq!(core.flow(1).done.as_ref().unwrap().peer.len(), 1);
            assert_eq!(core.counters.get(Ctr::TlsHelped) > 0, helped);
            assert!(core.shake(2, &mut client(&none(tls13), "a.test"), b"").is_err());
            assert_eq!(core.flow(2).failed.as_ref().unwrap().kind, FailureKind::Certificate);
            assert!(core.shake(3, &mut client(&with_certificate(&stranger, tls13), "a.test"), b"").is_err());
            assert_eq!(core.flow(3).failed.as_ref().unwrap().kind, FailureKind::Certificate);
            let mut core = make(ClientAuth::Optional(people.roots()));
            core.shake(4, &mut client(&none(tls13), "a.test"), b"").unwrap();
            assert!(core.flow(4).done.as_ref().unwrap().peer.is_empty());
            core.shake(5, &mut client(&with_certificate(&people, tls13), "a.test"), b"").unwrap();
            assert_eq!(core.flow(5).done.as_ref().unwrap().peer.len(), 1);
        }
    }
}

/// So many that their certificate does not fit one record.
fn many_names() -> Vec<String> {
    (0..700).map(|n| format!("somebody-with-many-names-{n:04}.test")).collect()
}

/// Whoever has long certificates takes one of a few places, and leaves it again; others do not notice.
#[test]
fn long_certificates_have_their_places() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let names = many_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let who = |names: &[&str]| {
        let (chain, key) = people.issue(names, KeyType::Ecdsa);
        let mut config = client_config(&authority, true);
        let certified = crate::tls::front::certified(chain, key, None, config.crypto_provider()).unwrap();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        Arc::new(config)
    };
    let (long, usual) = (who(&names), who(&["somebody.test"]));
    let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    entry.client_auth = ClientAuth::Required(people.roots());
    let mut core = Core::new(Front::new(spec(vec![entry])).unwrap(), limits(32));
    let places = Handshakes::long(32);
    // All but the end of what follows the hello.
    let begin = |core: &mut Core, flow| {
        let mut client = client(&long, "a.test");
        let id = core.start(flow);
        core.give(flow, id, &flush(&mut client));
        core.settle();
        let sent = std::mem::take(&mut core.flow(flow).sent);
        feed(&mut client, &sent).unwrap();
        let mut flight = flush(&mut client);
        assert!(flight.len() > 20_000, "{}", flight.len());
        let last = flight.pop().unwrap();
        core.give(flow, id, &flight);
        core.settle();
        (id, last)
    };
    let held: Vec<_> = (0..places).map(|flow| begin(&mut core, flow)).collect();
    assert_eq!(core.counters.get(Ctr::TlsShedLong), 0);
    begin(&mut core, 10);
    assert_eq!(core.flow(10).failed.as_ref().unwrap().kind, FailureKind::Internal);
    assert_eq!((core.counters.get(Ctr::TlsShedLong), core.handshakes.active()), (1, places));
    core.shake(11, &mut client(&usual, "a.test"), b"").unwrap();
    assert!(core.flow(11).done.is_some());
    // One comes to its end, another one is given up: both places are free.
    core.give(0, held[0].0, &[held[0].1]);
    core.settle();
    assert!(core.flow(0).done.is_some());
    core.handshakes.cancel(held[1].0);
    for flow in 20..30 {
        core.shake(flow, &mut client(&long, "a.test"), b"").unwrap();
        assert_eq!(core.flow(flow).done.as_ref().unwrap().peer.len(), 1);
    }
    assert_eq!(core.counters.get(Ctr::TlsShedLong), 1);
}

#[test]
fn our_own_handshakes_do_not_wait_behind_a_flood() {
    let authority = Authority::new("ca");
    // One place with the helpers, and nobody takes what is there: all but one of the slow ones wait.
    let rsa = || vec![authority.certified(&["a.test"], KeyType::Rsa)];
    let front = Front::new(spec(vec![entry(&["a.test"], rsa())])).unwrap();
    let mut core = Core::with_helpers(front, limits(80), 1);
    let config = Arc::new(client_config(&authority, true));
    for n in 0..64 {
        let id = core.start(n);
        core.give(n, id, &flush(&mut client(&config, "a.test")));
    }
    let mut server = stock_server(server_config(authority.certified(&["o.test"], KeyType::Ecdsa), true));
    let mut config = client_config(&authority, true);
    handshake::ask(&mut config);
    let name = ServerName::try_from("o.test").unwrap();
    let ours = 100;
    let id = core.handshakes.start_client(FlowId::from_u32(ours), Arc::new(config), name).unwrap();
    // Its hello leaves with the first pass, and its certificates are looked at as soon as a helper is free.
    core.run();
    let hello = std::mem::take(&mut core.flow(ours).sent);
    assert!(!hello.is_empty());
    feed(&mut server, &hello).unwrap();
    core.give(ours, id, &flush(&mut server));
    core.settle_while(|core| core.flow(ours).done.is_none());
    let others = core.wire.flows.iter().filter(|(flow, at)| **flow != ours && !at.sent.is_empty());
    assert!(others.count() < 32, "most of the others still wait");
    core.settle();
}

#[test]
fn our_clients_shake_hands_with_origins() {
    let authority = Authority::new("ca");
    for helped in [false, true] {
        let front = simple_front(&authority);
        let mut core =
            if helped { Core::with_helpers(front, limits(4), 4) } else { Core::new(front, limits(4)) };
        for (flow, tls13) in [(1, true), (2, false)] {
            let mut server =
                stock_server(server_config(authority.certified(&["a.test"], KeyType::Ecdsa), tls13));
            let mut config = client_config(&authority, true);
            handshake::ask(&mut config);
            let name = ServerName::try_from("a.test").unwrap();
            let id = core.handshakes.start_client(FlowId::from_u32(flow), Arc::new(config), name).unwrap();
            core.settle();
            while core.flow(flow).done.is_none() {
                let sent = std::mem::take(&mut core.flow(flow).sent);
                feed(&mut server, &sent).unwrap();
                core.give(flow, id, &flush(&mut server));
                core.settle();
            }
            let sent = std::mem::take(&mut core.flow(flow).sent);
            feed(&mut server, &sent).unwrap();
            assert!(!server.is_handshaking());
        }
        assert_eq!(core.counters.get(Ctr::TlsOriginFull), 2);
        assert_eq!(core.counters.get(Ctr::TlsHelped) > 0, helped);
        // A certificate for another name.
        let mut server = stock_server(server_config(authority.certified(&["b.test"], KeyType::Ecdsa), true));
        let mut config = client_config(&authority, true);
        handshake::ask(&mut config);
        let name = ServerName::try_from("a.test").unwrap();
        let id = core.handshakes.start_client(FlowId::from_u32(3), Arc::new(config), name).unwrap();
        core.settle();
        let sent = std::mem::take(&mut core.flow(3).sent);
        feed(&mut server, &sent).unwrap();
        core.give(3, id, &flush(&mut server));
        core.settle();
        assert_eq!(core.flow(3).failed.as_ref().unwrap().kind, FailureKind::Certificate);
        assert_eq!(core.counters.get(Ctr::TlsOriginFailed), 1);
    }
}
