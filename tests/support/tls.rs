//! The load's side of TLS: it shakes hands by the node's own driver, and seals requests; what comes back is counted, not
//! opened.

use std::sync::Arc;

use dataplane::counters::Segment;
use hugepages::{Arena, PagePolicy};
use l7::tls::Front;
use l7::tls::front::Tickets;
use l7::tls::handshake::{self, Handshake, Progress};
use l7::tls::offload::{Helper, Helpers, Host};
use l7::tls::record::{ContentType, SessionId, Sessions, Side};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::identity::Identity;

/// TLS of a node's one listener, and of its clients.
#[derive(Clone)]
pub struct TlsOf {
    pub front: Arc<Front>,
    pub client: Arc<ClientConfig>,
    /// Handshakes that each core may have under way.
    pub handshakes: u32,
    /// Of those, with clients of one source. All clients that are no strangers have one address.
    pub per_source: u32,
    /// Connections of one source; 0: no bound.
    pub connections_per_source: u32,
    /// Threads that take slow steps, if there are any.
    pub helpers: Option<Arc<Helpers>>,
}

/// Cores that are turned in the caller's thread never sleep: there is no bell to be rung.
pub struct NoBell;

impl Host for NoBell {
    fn done(&self, _: usize) {}
}

impl TlsOf {
    pub fn new() -> TlsOf {
        TlsOf::of(&Identity::new(&["site.lab"]), None)
    }

    /// An edge that presents `identity`, and clients that trust it.
    pub fn of(identity: &Identity, tickets: Option<Tickets>) -> TlsOf {
        let mut client = identity.client_config();
        handshake::ask(&mut client);
        TlsOf {
            front: identity.front_with(tickets, 0),
            client: Arc::new(client),
            handshakes: 512,
            per_source: u32::MAX,
            connections_per_source: 0,
            helpers: None,
        }
    }

    /// With threads for slow steps, which `host` keeps, and of which each of `cores` may have `per_core` there at a time.
    pub fn with_helpers(self, host: Arc<dyn Host>, threads: usize, cores: usize, per_core: usize) -> TlsOf {
        let helpers = Helpers::start(threads, cores, per_core, host).expect("a thread");
        TlsOf { helpers: Some(Arc::new(helpers)), ..self }
    }

    /// A core's way to those threads. To be called once for each.
    pub fn helper(&self, core: usize) -> Option<Helper> {
        self.helpers.as_ref()?.of(core)
    }
}

enum Peer {
    Shakes(Box<Handshake>),
    Open(SessionId),
}

pub struct TlsLoad {
    config: Arc<ClientConfig>,
    sessions: Sessions,
    peers: Vec<Option<Peer>>,
    out: Vec<u8>,
}

impl TlsLoad {
    pub fn new(config: &Arc<ClientConfig>, conns: usize) -> TlsLoad {
        let n = conns as u32;
        let mut arena = Arena::reserve(Sessions::cost(n, n), PagePolicy::NormalOnly).expect("memory");
        let counters = Segment::in_memory(1).writer(0);
        let sessions = Sessions::new(n, n, &mut arena, counters).expect("what it costs");
        TlsLoad {
            config: Arc::clone(config),
            sessions,
            peers: (0..conns).map(|_| None).collect(),
            out: vec![0; 16 << 10],
        }
    }

    /// The connection is open: our hello.
    pub fn begin(&mut self, i: usize) -> Vec<u8> {
        let name = ServerName::try_from("site.lab").expect("a name");
        let mut handshake = Handshake::client(Arc::clone(&self.config), name).expect("a good config");
        let mut out = Vec::new();
        handshake.advance(&[], &mut out).expect("a hello");
        self.peers[i] = Some(Peer::Shakes(Box::new(handshake)));
        out
    }

    pub fn is_shaking(&self, i: usize) -> bool {
        matches!(self.peers[i], Some(Peer::Shakes(_)))
    }

    pub fn is_open(&self, i: usize) -> bool {
        matches!(self.peers[i], Some(Peer::Open(_)))
    }

    /// The connection is over.
    pub fn forget(&mut self, i: usize) {
        if let Some(Peer::Open(session)) = self.peers[i].take() {
            self.sessions.close(session);
        }
    }

    /// What the node has sent in the handshake. Gives what is to be answered.
    pub fn take(&mut self, i: usize, bytes: &[u8]) -> Vec<u8> {
        let Some(Peer::Shakes(handshake)) = &mut self.peers[i] else { panic!("it shakes hands") };
        let mut out = Vec::new();
        if let Progress::Done(e) = handshake.advance(bytes, &mut out).expect("the node's handshake is good") {
            assert!(e.unread.is_empty(), "nothing was asked for yet");
            let session = self.sessions.open(&e.keys, Side::Client).expect("one for each connection");
            self.peers[i] = Some(Peer::Open(session));
        }
        out
    }

    /// A request as it goes out.
    pub fn seal(&mut self, i: usize, plain: &[u8]) -> &[u8] {
        let Some(Peer::Open(session)) = self.peers[i] else { panic!("the handshake is done") };
        let n = self.sessions.seal(session, ContentType::ApplicationData, plain, &mut self.out);
        &self.out[..n.expect("room for a request")]
    }
}
