//! One request under way: a client connection, its origin connection, and what is between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use dataplane::{CellWriter, Slice, Time};
use hugepages::typed_index;
use stack::FlowId;

use super::early::Early;
use super::log::{CacheWord, Logged};
use super::peers::PeerId;
use super::plan::Plan;
use super::side::{Parts, Side, Slicing};
use super::waiting::Links;
use crate::cache::policy::status::Fwd;
use crate::http1::{BodyLength, ClientConn, HttpLimits, Method, Scheme, ServerConn, Version};
use crate::phases::Timings;
use crate::tls::certs::Identity;
use crate::upstream::{Race, Ticket};

typed_index! {
    /// A request under way.
    pub struct ExchangeId;
}

/// What a connection is to the proxy: kept in the connection's own control block, so that an idle one costs
/// nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A client without a request.
    IdleClient {
        /// Whom it has announced, if anybody.
        peer: PeerId,
    },
    /// A client that has to begin with a PROXY header, and has sent nothing yet.
    Announces,
    /// The client of an exchange.
    Client(ExchangeId),
    /// The origin of an exchange.
    Origin(ExchangeId),
    /// In the pool of an origin.
    Pooled {
        /// The core's slot of the origin.
        slot: u16,
    },
    /// A health check's.
    Check {
        /// Which of the core's checked groups.
        run: u16,
        /// Which of its origins.
        origin: u8,
    },
}

impl Role {
    /// As the number that a connection keeps for its owner.
    pub fn encode(self) -> u64 {
        use hugepages::SlabIndex;
        match self {
            // Nobody is NONE, and that is 0 here: a new connection's number.
            Role::IdleClient { peer } => u64::from(peer.to_u32().wrapping_add(1)),
            Role::Announces => 5 << 32,
            Role::Client(x) => 1 << 32 | u64::from(x.to_u32()),
            Role::Origin(x) => 2 << 32 | u64::from(x.to_u32()),
            Role::Pooled { slot } => 3 << 32 | u64::from(slot),
            Role::Check { run, origin } => 4 << 32 | u64::from(run) << 8 | u64::from(origin),
        }
    }

    /// From that number.
    pub fn decode(n: u64) -> Role {
        use hugepages::SlabIndex;
        match n >> 32 {
            1 => Role::Client(ExchangeId::from_u32(n as u32)),
            2 => Role::Origin(ExchangeId::from_u32(n as u32)),
            3 => Role::Pooled { slot: n as u16 },
            4 => Role::Check { run: (n >> 8) as u16, origin: n as u8 },
            5 => Role::Announces,
            _ => Role::IdleClient { peer: PeerId::from_u32((n as u32).wrapping_sub(1)) },
        }
    }
}

/// One direction of an exchange.
#[derive(Default)]
pub struct Leg {
    /// Bytes taken from the source and not yet consumed there: they wait in the destination's send queue.
    pub held: u32,
    /// Whether what goes out is framed in chunks.
    pub chunked: bool,
    /// Whether a chunk's data has been sent without the line end behind it.
    pub chunk_open: bool,
    /// Whether what goes out ends with the connection.
    pub unframed: bool,
    /// Whether the last chunk's line has been sent: trailers may follow.
    pub last_chunk: bool,
    /// Bytes of body sent, without their framing.
    pub body: u64,
    /// Where chunk lines are written.
    pub writer: CellWriter,
}

/// The site of a request whose host is not known yet, or nobody's.
pub const NO_SITE: u16 = u16::MAX;

/// A request under way.
pub struct Exchange {
    /// The client's connection.
    pub client: FlowId,
    /// The origin's; NONE before one is chosen and after it was given back.
    pub origin: FlowId,
    /// The client's side of HTTP.
    pub server: ServerConn,
    /// The origin's side of HTTP.
    pub conn: ClientConn,
    /// Bytes from the client that are not parsed yet.
    pub client_in: Option<Slice>,
    /// Bytes from the origin that are not parsed yet.
    pub origin_in: Option<Slice>,
    /// The head as sent to the origin, until it can no longer be needed again.
    pub head: Option<Slice>,
    /// The client's head as it came: kept while it may have to be read again (a request that waits for the cache).
    pub request: Option<Slice>,
    /// Decoded bytes of the response's body that come before what the origin's connection gives next.
    pub spill: Option<Slice>,
    /// What it has to do with the cache.
    pub(super) side: Side,
    /// Its place among those who wait for an object.
    pub(super) links: Links,
    /// The parts of a response with several ranges.
    pub(super) parts: Option<Parts>,
    /// What it has to keep of a large object in slices.
    pub(super) slicing: Slicing,
    /// Timeouts since something was read that came of our want of memory to read.
    pub starved: u8,
    /// Nothing will happen that could move it on: it is to look again by itself, soon.
    pub soon: bool,
    /// Why the cache did not have it.
    pub(super) fwd: Option<Fwd>,
    /// What the client's connection is: its requests' scheme, whatever they say.
    pub scheme: Scheme,
    /// Who asks: for the origin to know.
    pub peer: IpAddr,
    /// Who that is by its certificate, where it was asked for one.
    pub identity: Option<Rc<Identity>>,
    /// Whom the connection has announced by a PROXY header.
    pub(super) peer_id: PeerId,
    /// Whether that header is still to come.
    pub announces: bool,
    /// Where and by what it is logged.
    pub(super) logged: Logged,
    /// Whether the cache gave the response.
    pub(super) cache_word: CacheWord,
    /// The origin that was asked.
    pub asked: Option<SocketAddr>,
    /// Status of the final response; 0 before that.
    pub status: u16,
    /// When what happened.
    pub timings: Timings,
    /// Client to origin.
    pub up: Leg,
    /// Origin to client.
    pub down: Leg,
    /// The config that the request follows; `None` in a context that is not in use.
    pub(super) plan: Option<Rc<Plan>>,
    /// Site.
    pub site: u16,
    /// Route of the site.
    pub route: u16,
    /// Origin of the route's upstream.
    pub origin_index: u16,
    /// The core's slot of that origin.
    pub slot: u16,
    /// The core's group of the route's origins.
    pub group: u16,
    /// Whether the request counts as under way at its origin: it has begun there, and has to end.
    pub counted: bool,
    /// Whether the origin has shown itself unfit in this request.
    pub blame: bool,
    /// Its place among those who wait for room at an origin.
    pub(super) ticket: Option<Ticket>,
    /// Origins that have failed this request, as a mask.
    pub tried: u64,
    /// Key of a balance by key.
    pub key: u64,
    /// The race for a new connection to the origin, while there is one.
    pub race: Race,
    /// The newer of the two connections that race; `origin` is the older.
    pub rival: FlowId,
    /// Origins that failed this request.
    pub attempts: u8,
    /// Whether the origin's connection is established.
    pub connected: bool,
    /// Whether a final response has begun.
    pub responding: bool,
    /// Whether both directions are a tunnel now.
    pub tunnel: bool,
    /// The response has come to an end that is none, and only a reset can tell: it follows what is queued.
    pub is_cut: bool,
    /// Method of the request.
    pub method: Method,
    /// Version of the request.
    pub version: Version,
    /// Framing of the request's body.
    pub request_body: BodyLength,
    /// Whether the request asked for an upgrade.
    pub upgrade: bool,
    /// What it has to do with its client's TLS handshake.
    pub(super) early: Early,
    /// Whether the timer for the head runs (the first head's does from the start).
    pub head_timed: bool,
    /// Whether nothing of a request has been noted since the last one was let go of.
    is_reset: bool,
    /// When the head was complete.
    pub started: Time,
}

impl Exchange {
    /// A context, as the slab has them from the start.
    pub fn new(client: FlowId, limits: &HttpLimits) -> Exchange {
        Exchange {
            client,
            origin: FlowId::NONE,
            server: ServerConn::new(limits),
            conn: ClientConn::new(limits),
            client_in: None,
            origin_in: None,
            head: None,
            request: None,
            spill: None,
            side: Side::Direct,
            links: Links::default(),
            parts: None,
            slicing: Slicing::default(),
            starved: 0,
            soon: false,
            fwd: None,
            scheme: Scheme::Http,
            peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            identity: None,
            peer_id: PeerId::NONE,
            announces: false,
            logged: Logged::default(),
            cache_word: CacheWord::None,
            asked: None,
            status: 0,
            timings: Timings::start(0),
            up: Leg::default(),
            down: Leg::default(),
            plan: None,
            site: NO_SITE,
            route: 0,
            origin_index: 0,
            slot: 0,
            group: 0,
            counted: false,
            blame: false,
            ticket: None,
            tried: 0,
            key: 0,
            race: Race::OVER,
            rival: FlowId::NONE,
            attempts: 0,
            connected: false,
            responding: false,
            tunnel: false,
            is_cut: false,
            method: Method::Get,
            version: Version::Http11,
            request_body: BodyLength::None,
            upgrade: false,
            early: Early::No,
            head_timed: true,
            is_reset: false,
            started: Time(0),
        }
    }

    /// Takes a context that was given back into use, for a client connection with a byte of a request. What
    /// belongs to one request was let go of when it was given back, and `conn` is set with the origin: only
    /// the rest is written.
    pub(super) fn begin(&mut self, client: FlowId, plan: Rc<Plan>) {
        debug_assert!(self.client_in.is_none() && self.origin_in.is_none() && self.head.is_none());
        debug_assert!(
            self.origin.is_none() && self.rival.is_none() && self.up.held == 0 && self.down.held == 0
        );
        debug_assert!(!self.counted && self.ticket.is_none());
        debug_assert!(!self.connected && !self.responding && !self.tunnel && !self.is_cut);
        debug_assert!(self.attempts == 0);
        self.client = client;
        self.server = ServerConn::new(&plan.program.config.http);
        self.plan = Some(plan);
        self.site = NO_SITE;
        self.route = 0;
        self.method = Method::Get;
        self.version = Version::Http11;
        self.request_body = BodyLength::None;
        self.upgrade = false;
        self.head_timed = true;
        self.peer_id = PeerId::NONE;
        self.announces = false;
        self.is_reset = false;
    }

    /// Something of a request is about to be noted.
    pub(super) fn touch(&mut self) {
        self.is_reset = false;
    }

    /// Whether the client's connection is TLS.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether it is a fetch: no client waits at its end.
    pub fn is_fetch(&self) -> bool {
        matches!(self.side, Side::Fetches(_))
    }

    /// How long a body may stand still.
    pub fn idle_ns(&self) -> u64 {
        self.plan.as_ref().map_or(u64::MAX, |v| v.idle_ns(self.route))
    }

    /// Lets go of everything that belongs to one request, for the next one on the same connection.
    pub fn reset_request(&mut self) {
        if std::mem::replace(&mut self.is_reset, true) {
            return;
        }
        self.origin = FlowId::NONE;
        self.origin_in = None;
        debug_assert!(!self.counted && self.ticket.is_none(), "left without telling its origins");
        debug_assert!(self.rival.is_none(), "left in the middle of a race");
        debug_assert!(matches!(self.side, Side::Direct), "left without letting go of the cache");
        self.head = None;
        self.request = None;
        self.spill = None;
        self.parts = None;
        self.slicing = Slicing::default();
        self.starved = 0;
        self.soon = false;
        self.fwd = None;
        self.identity = None;
        self.logged = Logged::default();
        self.site = NO_SITE;
        // The next request may follow another plan, which has no route of that number.
        self.route = 0;
        self.up = Leg::default();
        self.down = Leg::default();
        self.attempts = 0;
        self.blame = false;
        self.key = 0;
        self.connected = false;
        self.responding = false;
        self.tunnel = false;
        self.is_cut = false;
        self.early = Early::No;
        self.head_timed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugepages::SlabIndex;

    #[test]
    fn roles_round_trip() {
        let x = ExchangeId::from_u32(77);
        assert!(x.is_some() && !x.is_none());
        let idle = |peer| Role::IdleClient { peer };
        for r in [
            idle(PeerId::NONE),
            idle(PeerId::from_u32(0)),
            idle(PeerId::from_u32(9)),
            Role::Announces,
            Role::Client(x),
            Role::Origin(x),
            Role::Pooled { slot: 9 },
            Role::Check { run: 300, origin: 63 },
        ] {
            assert_eq!(Role::decode(r.encode()), r);
        }
        for r in [Role::Client(x), Role::Origin(x), Role::Pooled { slot: 9 }] {
            assert_eq!(Role::decode(r.encode()), r);
        }
        assert_eq!(Role::decode(0), idle(PeerId::NONE), "a new connection");
    }
}
