//! A node's cores over in-process wires, and raw load on the wires' other ends: for the allocation test and
//! the in-memory benches. The load is made of frames built by hand, so that what is measured is the node.
//!
//! Several cores are turned one after the other in the caller's thread ([`Rig::with_cores`]), or each on a thread of its
//! own ([`Threads`]); the load plays the device that spreads packets over them, well or badly ([`Spread`]).

#![allow(dead_code)] // Each of the targets that include this uses its part of it.

pub mod identity;
pub mod peers;
#[cfg(feature = "dpdk")]
pub mod rings;
pub mod tls;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use dataplane::core_loop::Core;
use dataplane::counters::Segment;
use dataplane::lines::{self, LineReader};
use dataplane::mail::Post;
use dataplane::port::mem::{MemPort, WireEnd, wire};
use dataplane::{Bells, Clock, Pool, Port, Time};
use hugepages::{Arena, Limits, PagePolicy};
use l7::cache::policy::hash::HashKeys;
use l7::cache::policy::rules::CacheRules;
use l7::cache::store::{Handle, Store, StoreConfig};
use l7::http1::HttpLimits;
use l7::phases::LogFormat;
use l7::proxy::{
    Answer, Cells, ClientTimeouts, HEAD_CELL_BYTES, LogTo, Origin, OriginTimeouts, Program, Proxy,
    ProxyConfig,
};
use l7::tls::offload::Helpers;
use l7::tls::{Front, HandshakeLimits, Handshakes, RECORD_BYTES_MAX, RecordCells, Tls};
use millrace::node::{CoreOrder, Desk, NodePipeline, Orders};
use peers::end::{ACK, FIN, RST, SYN, Segment as Seg, write};
use stack::neigh::Neighbours;
use stack::{Iface, Net, Stack, Steering, Tcp, TcpConfig, Udp};
use tls::{TlsLoad, TlsOf};

pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const NODE_IP: [u8; 4] = [10, 0, 0, 1];
pub const CLIENT_IP: [u8; 4] = [10, 0, 0, 2];
pub const ORIGIN_IP: [u8; 4] = [10, 0, 0, 3];
/// The node's address, and an origin's, over IPv6.
pub const NODE_IP6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub const ORIGIN_IP6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
pub const NODE_PORT: u16 = 80;
pub const ORIGIN_PORT: u16 = 8000;
/// Connection `i` comes from this port plus `i`; a stranger from this one.
const FIRST_PORT: u16 = 10_000;
/// The networks in which each stranger has an address of its own: 172.16.0.0/12.
const STRANGERS: (u8, u8) = (172, 16);

/// Frames that the wire of a [`Rig`] holds each way. They are used in turn, so that a larger ring would cost a core
/// cache misses that a device's DMA spares it.
const RIG_FRAMES: usize = 256;

/// Room of a core's log: for less than a thousand lines.
const LOG_BYTES: usize = 128 << 10;
/// What the opening of all connections may take.
const OPENING_S: u64 = 300;
const HOUR_NS: u64 = 3_600_000_000_000;
/// The time at which the cores' clock is 0.
pub const UNIX_NS_AT_START: u64 = 1_700_000_000_000_000_000;

/// Who answers.
#[derive(Clone)]
pub enum Who {
    Stub(usize),
    Proxy,
    /// As `Proxy`, with a cache.
    Cached,
    /// As `Cached`, in slices of this size.
    Sliced(u32),
    /// As `Proxy`; and every request is logged, in this format.
    Logged(LogFormat),
}

/// The queue of the device that a frame comes by: for connection `i` of a client, or, of the origin, for the node's
/// port `i`; among so many.
pub type Spread = fn(i: usize, from_origin: bool, cores: usize) -> usize;

/// What the cores of one node have in common. May cross threads; cores may not.
#[derive(Clone)]
pub struct Shared {
    pub segment: Arc<Segment>,
    pub bells: Arc<Bells>,
    pub post: Option<Arc<Post>>,
    pub orders: Vec<Arc<Orders>>,
    /// The cache, once somebody has asked for it.
    pub store: Arc<OnceLock<Arc<Store>>>,
    /// The far ends of the cores' logs.
    pub lines: Arc<Mutex<Vec<LineReader>>>,
    /// Memory of each core, from which the sizes of its pools follow.
    pub core_bytes: u64,
    /// Clients speak TLS.
    pub tls: Option<TlsOf>,
    /// Cells for records of each core.
    pub record_cells: u32,
    /// The wire may damage frames: checksums are filled in, and verified.
    pub has_checksums: bool,
}

impl Shared {
    pub fn new(cores: usize) -> Shared {
        let bells = Bells::new(cores).expect("descriptors");
        Shared {
            segment: Segment::in_memory(cores),
            post: (cores > 1).then(|| Post::new(512, 1600, Arc::clone(&bells))),
            bells,
            lines: Arc::default(),
            core_bytes: 256 << 20,
            tls: None,
            record_cells: 1024,
            has_checksums: false,
            orders: (0..cores).map(|_| Arc::default()).collect(),
            store: Arc::default(),
        }
    }

    /// The cache of all cores, with a place for the control side after theirs.
    pub fn store(&self, bytes: u64) -> Arc<Store> {
        let make = || {
            let config = StoreConfig::for_bytes(bytes, self.orders.len() as u32 + 1, [1, 2]);
            let bells = Arc::clone(&self.bells);
            Store::reserve(config, PagePolicy::NormalOnly, Box::new(move |core| bells.ring(core)))
                .expect("memory")
        };
        Arc::clone(self.store.get_or_init(make))
    }

    /// The control side's end of the cores' trays.
    pub fn desk(&self) -> Desk<CoreOrder> {
        let trays = self.orders.iter().map(|o| Arc::clone(&o.tray)).collect();
        Desk::new(trays, Arc::clone(&self.bells))
    }
}

/// The load's end of what carries frames to a core.
pub enum Far {
    Mem(WireEnd),
    #[cfg(feature = "dpdk")]
    Ring(Box<dataplane::port::dpdk::FarEnd>),
}

impl Far {
    fn send_with(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        match self {
            Far::Mem(end) => end.send_with(fill),
            #[cfg(feature = "dpdk")]
            Far::Ring(end) => end.send_with(fill),
        }
    }

    /// Frames that it takes now.
    fn room(&self) -> usize {
        match self {
            Far::Mem(end) => end.room(),
            #[cfg(feature = "dpdk")]
            Far::Ring(_) => RIG_FRAMES,
        }
    }

    /// The next frame that the node has sent, as far as its headers go.
    fn recv_with<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        match self {
            Far::Mem(end) => end.recv_with(look),
            #[cfg(feature = "dpdk")]
            Far::Ring(end) => end.recv_with(|first, _| look(first)),
        }
    }
}

/// A core with `flows` connections' worth of pools, and the far end of its wire.
pub fn core(who: Who, flows: u32) -> (Core<NodePipeline>, WireEnd, Arc<Segment>) {
    let (near, far) = wire(2048, 1600);
    let shared = Shared::new(1);
    (core_of(&who, flows, near, &shared, 0), far, shared.segment)
}

/// One core of several, at the end of its wire.
pub fn core_of(who: &Who, flows: u32, near: WireEnd, shared: &Shared, n: usize) -> Core<NodePipeline> {
    let (program, cache) = program_of(who, shared, n);
    core_with(program, cache, flows, near, shared, n)
}

/// What such a core follows, and its share of the cache.
fn program_of(who: &Who, shared: &Shared, n: usize) -> (Arc<Program>, Option<(Handle, HashKeys)>) {
    let mut config = config(HOUR_NS);
    if let Some(tls) = &shared.tls {
        config.tls_listeners = vec![true];
        config.front = Arc::clone(&tls.front);
    }
    let answer = match who {
        Who::Stub(n) => Answer::Stub(vec![b'x'; *n]),
        Who::Proxy | Who::Cached | Who::Sliced(_) | Who::Logged(_) => config.add_upstream(vec![origin()]),
    };
    let timeouts = OriginTimeouts { connect_ns: HOUR_NS, first_byte_ns: HOUR_NS, idle_ns: HOUR_NS };
    if let Who::Logged(format) = who {
        config.log = Some(LogTo { target: 0, format: *format });
    }
    let route = config.add_site(&["*"], answer, timeouts);
    let mut cache = None;
    if let Who::Cached | Who::Sliced(_) = who {
        let slice_bytes = if let Who::Sliced(n) = who { *n } else { 0 };
        route.cache = Some(CacheRules { slice_bytes, ..CacheRules::default() });
        cache = Some((shared.store(64 << 20).handle(n), HashKeys(3, 4)));
    }
    (Program::new(config), cache)
}

/// The origin that [`Load`] plays.
pub fn origin() -> Origin {
    Origin::at((ORIGIN_IP, ORIGIN_PORT).into(), b"origin")
}

/// A config without sites, whose clients have this time for everything.
pub fn config(client_ns: u64) -> ProxyConfig {
    ProxyConfig {
        sites: Vec::new(),
        routes: Vec::new(),
        upstreams: Vec::new(),
        http: HttpLimits::default(),
        client: ClientTimeouts { header_ns: client_ns, keep_alive_ns: client_ns },
        idle_per_origin_max: 1024,
        origin_keep_alive_ns: HOUR_NS,
        request_budget_bytes: Limits::for_core_memory(256 << 20).request_budget_bytes,
        unix_ns_at_start: UNIX_NS_AT_START,
        proxy_headers_from: Vec::new(),
        tls_listeners: Vec::new(),
        front: Front::none(),
        tunings: Vec::new(),
        log: None,
    }
}

/// One core of several, at the end of its wire, with this program and share of the cache.
pub fn core_with(
    program: Arc<Program>,
    cache: Option<(Handle, HashKeys)>,
    flows: u32,
    near: WireEnd,
    shared: &Shared,
    n: usize,
) -> Core<NodePipeline> {
    core_over(program, cache, flows, shared, n, |cells| {
        let rx = Pool::reserve("rx", cells, 2048, PagePolicy::NormalOnly).unwrap();
        let mut port = MemPort::new(near, rx.clone(), NODE_MAC, 1500, 0);
        if !shared.has_checksums {
            port = port.trust_wire("mem", "bench".to_owned());
        }
        (Box::new(port), rx)
    })
}

/// One core of several, over a port that is opened for so many cells.
pub fn core_over(
    program: Arc<Program>,
    cache: Option<(Handle, HashKeys)>,
    flows: u32,
    shared: &Shared,
    n: usize,
    open: impl FnOnce(u32) -> (Box<dyn Port>, Pool),
) -> Core<NodePipeline> {
    let mut limits = Limits::for_core_memory(shared.core_bytes);
    limits.flows = flows.max(1024) * 2;
    limits.half_open = limits.flows / 2;
    // As in a node: cells run out before records of what they hold do.
    limits.send_records = limits.send_records.max(limits.flows * 4);
    limits.time_wait = limits.flows;
    limits.http_contexts = limits.flows;
    if let Some(tls) = &shared.tls {
        limits.tls_connections = limits.flows;
        limits.tls_contexts = limits.flows;
        limits.tls_handshakes = tls.handshakes;
        limits.tls_per_source = tls.connections_per_source;
        limits.record_cells = shared.record_cells;
    }
    let pages = PagePolicy::NormalOnly;
    let pool = |name, n, bytes| Pool::reserve(name, n, bytes, pages).unwrap();
    let c = shared.segment.writer(n);
    let (port, rx) = open(limits.rx_cells);
    let mut iface = Iface::new(NODE_MAC, 1500);
    iface.add(std::net::Ipv4Addr::from(NODE_IP).into(), 24);
    iface.add(NODE_IP6.into(), 64);
    iface.peer_mac = Some(PEER_MAC);
    iface.tx_checksum_offload = !shared.has_checksums;
    let headers = pool("header", limits.header_cells, 256);
    let net = Net::new(vec![iface], Neighbours::new(64), headers, c.clone());
    let mut arena =
        Arena::reserve(Tcp::cost(&limits) + Tls::cost(&limits) + Proxy::cost(&limits), pages).unwrap();
    let tcp_config = TcpConfig::new([1, 2, 3, 4], &limits);
    let mut tcp = Tcp::new(&limits, &mut arena, tcp_config, rx, c.clone()).unwrap();
    tcp.listen(None, NODE_PORT).unwrap();
    let cells = Cells {
        payload: pool("payload", limits.payload_cells, 2048),
        heads: pool("head", 64, HEAD_CELL_BYTES),
    };
    let records = pool("record", limits.record_cells.max(1), RECORD_BYTES_MAX);
    let record_cells = RecordCells { payload: cells.payload.clone(), records };
    let n_shaking = limits.tls_handshakes;
    let per_source = shared.tls.as_ref().map_or(n_shaking, |tls| tls.per_source);
    let shaking = HandshakeLimits { per_source, ..HandshakeLimits::new(n_shaking, [1, 2]) };
    let helper = shared.tls.as_ref().and_then(|tls| tls.helper(n));
    let handshakes = Handshakes::new(shaking, helper, c.clone());
    let mut tls = Tls::new(&limits, &mut arena, handshakes, record_cells, c.clone()).unwrap();
    if let Some((store, _)) = &cache {
        tls.read_from(Arc::clone(store.store()));
    }
    let is_logged = program.config.log.is_some();
    let announces = program.config.proxy_headers_from.iter().any(|from| !from.is_empty());
    let proxy = Proxy::new(program, &limits, &mut arena, cells, cache, c.clone()).unwrap();
    let mut proxy = proxy.on_core(n, shared.orders.len());
    if announces {
        proxy.expect_proxy_headers(limits.flows);
    }
    if is_logged {
        let (writer, reader) = lines::ring(LOG_BYTES);
        proxy.log_to(writer, 7);
        shared.lines.lock().expect("no panic").push(reader);
    }
    let mut stack = Stack::new(net, tcp, Udp::new(16), c.clone());
    if let Some(post) = &shared.post {
        stack.steer(Steering::new(n, Arc::clone(post)));
    }
    let pipeline = NodePipeline::new(stack, tls, proxy, Arc::clone(&shared.orders[n]), c.clone());
    Core::new(vec![port], pipeline, c, 1024).with_bell(Arc::clone(&shared.bells), n)
}

#[derive(Clone, Copy, Default)]
pub struct Conn {
    snd: u32,
    rcv: u32,
    pub open: bool,
    /// Bytes of response received since the last request.
    pub got: u32,
    /// The node has sent FIN.
    pub ended: bool,
    /// What the node sends is not taken, nor acknowledged.
    pub deaf: bool,
    /// What came is to be acknowledged.
    owes: bool,
    /// The node has refused it, or broken it off.
    pub reset: bool,
}

/// What a stranger does when its connection is open.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Stranger {
    /// Shakes hands, to the end.
    #[default]
    Shakes,
    /// Says hello, and is never heard of again.
    Hello,
}

/// The far side: clients towards the node, and an origin for it.
pub struct Load {
    /// One for each core.
    ends: Vec<Far>,
    spread: Spread,
    /// Frames have their checksums.
    has_checksums: bool,
    pub conns: Vec<Conn>,
    /// Connections from this one on are strangers', each from an address of its own.
    pub known: usize,
    pub strangers: Stranger,
    origin: Vec<Conn>,
    /// What the origin answers with.
    pub response: Vec<u8>,
    /// Requests that the origin has answered.
    pub answered: u64,
    /// Clients acknowledge what comes, and not only by their next request.
    pub acknowledges: bool,
    owed: Vec<(bool, usize)>,
    /// Strangers' frames that wait for room: whose, SEQ, ACK, bits, payload.
    late: VecDeque<(usize, u32, u32, u8, Vec<u8>)>,
    /// Clients speak TLS.
    pub tls: Option<TlsLoad>,
}

impl Load {
    pub fn new(end: WireEnd, conns: usize, response: Vec<u8>) -> Load {
        Load::over(vec![end], |_, _, _| 0, conns, response)
    }

    pub fn over(ends: Vec<WireEnd>, spread: Spread, conns: usize, response: Vec<u8>) -> Load {
        Load::over_any(ends.into_iter().map(Far::Mem).collect(), spread, conns, response)
    }

    fn over_any(ends: Vec<Far>, spread: Spread, conns: usize, response: Vec<u8>) -> Load {
        let origin = vec![Conn::default(); 65_536];
        Load {
            ends,
            spread,
            has_checksums: false,
            conns: vec![Conn::default(); conns],
            known: conns,
            strangers: Stranger::default(),
            origin,
            response,
            answered: 0,
            acknowledges: false,
            owed: Vec::with_capacity(4096),
            late: VecDeque::new(),
            tls: None,
        }
    }

    fn frame(&mut self, from_origin: bool, i: usize, bits: u8, payload: &[u8]) {
        let c = if from_origin { self.origin[i] } else { self.conns[i] };
        let (src, dst) = match from_origin {
            true => ((ORIGIN_IP.into(), ORIGIN_PORT), (NODE_IP.into(), i as u16)),
            false => (client(i, self.known), (NODE_IP.into(), NODE_PORT)),
        };
        let at = (self.spread)(i, from_origin, self.ends.len());
        let is_strange = !from_origin && i >= self.known;
        if is_strange && (!self.late.is_empty() || self.ends[at].room() < RIG_FRAMES * 3 / 8) {
            // What room there is left is for the others.
            self.late.push_back((i, c.snd, c.rcv, bits, payload.to_vec()));
            return;
        }
        let (end, sums) = (&mut self.ends[at], self.has_checksums);
        let ok = end.send_with(|b| {
            b[..6].copy_from_slice(&NODE_MAC);
            b[6..12].copy_from_slice(&PEER_MAC);
            let s = Seg { seq: c.snd, ack: c.rcv, bits, window: 0xffff, payload };
            Some(write(b, src, dst, &s, sums))
        });
        assert!(ok, "the wire is full");
    }

    /// Whether the wires have room for more strangers.
    pub fn has_room(&self) -> bool {
        self.late.is_empty() && self.ends.iter().all(|end| end.room() > RIG_FRAMES / 2)
    }

    /// Strangers' frames for which there was no room, as far as there is some now.
    fn send_late(&mut self) {
        while self.ends.iter().all(|end| end.room() >= RIG_FRAMES * 3 / 8)
            && let Some((i, seq, ack, bits, payload)) = self.late.pop_front()
        {
            let at = (self.spread)(i, false, self.ends.len());
            let (src, dst) = (client(i, self.known), (NODE_IP.into(), NODE_PORT));
            let (end, sums) = (&mut self.ends[at], self.has_checksums);
            let ok = end.send_with(|b| {
                b[..6].copy_from_slice(&NODE_MAC);
                b[6..12].copy_from_slice(&PEER_MAC);
                Some(write(b, src, dst, &Seg { seq, ack, bits, window: 0xffff, payload: &payload }, sums))
            });
            assert!(ok, "the wire is full");
        }
    }

    /// What a NIC's driver would do, where the load plays a NIC: the node's work, and not the load's.
    pub fn drive(&mut self) {
        for end in &mut self.ends {
            match end {
                Far::Mem(_) => (),
                #[cfg(feature = "dpdk")]
                Far::Ring(end) => end.drive(),
            }
        }
    }

    pub fn open(&mut self, i: usize) {
        self.conns[i] = Conn { snd: i as u32 * 1000, ..Conn::default() };
        self.frame(false, i, SYN, &[]);
        self.conns[i].snd += 1;
    }

    /// Sends a request; its segment acknowledges what came before.
    pub fn request(&mut self, i: usize, bytes: &[u8]) {
        self.conns[i].got = 0;
        match self.tls.take() {
            None => self.data(i, bytes),
            Some(mut tls) => {
                self.data(i, tls.seal(i, bytes));
                self.tls = Some(tls);
            }
        }
    }

    fn data(&mut self, i: usize, bytes: &[u8]) {
        for piece in bytes.chunks(1400) {
            self.frame(false, i, ACK | 8, piece);
            self.conns[i].snd = self.conns[i].snd.wrapping_add(piece.len() as u32);
        }
    }

    /// Goes on with a handshake.
    fn shake(&mut self, i: usize, received: Option<&[u8]>) {
        let Some(mut tls) = self.tls.take() else { return };
        let out = match received {
            None => tls.begin(i),
            Some(bytes) => tls.take(i, bytes),
        };
        self.data(i, &out);
        if i >= self.known && self.strangers == Stranger::Hello {
            tls.forget(i);
            self.conns[i].deaf = true;
        }
        self.tls = Some(tls);
    }

    /// Breaks a connection off; its place is another's.
    pub fn leave(&mut self, i: usize) {
        if !self.conns[i].reset {
            self.frame(false, i, RST | ACK, &[]);
        }
        self.conns[i] = Conn::default();
        if let Some(tls) = &mut self.tls {
            tls.forget(i);
        }
    }

    /// Whether a connection could be asked something.
    pub fn is_open(&self, i: usize) -> bool {
        self.conns[i].open && self.tls.as_ref().is_none_or(|tls| tls.is_open(i))
    }

    /// The origin goes on with its answer, on every connection that it has.
    pub fn answer_more(&mut self, bytes: &[u8]) {
        for i in 0..self.origin.len() {
            if self.origin[i].snd != 0 {
                self.frame(true, i, ACK | 8, bytes);
                self.origin[i].snd = self.origin[i].snd.wrapping_add(bytes.len() as u32);
            }
        }
    }

    /// Acknowledges, and closes.
    pub fn close(&mut self, i: usize) {
        self.frame(false, i, ACK | FIN, &[]);
        self.conns[i].snd = self.conns[i].snd.wrapping_add(1);
    }

    /// Takes everything that the node has sent; the origin answers at once.
    pub fn poll(&mut self) -> usize {
        self.send_late();
        let mut n = 0;
        let mut from = 0;
        while from < self.ends.len() {
            // Payload is of interest in handshakes only.
            let (tls, known) = (self.tls.as_ref(), self.known);
            let look = |f: &[u8]| {
                let head = read(f, known);
                let (to_origin, i, .., len) = head;
                let shakes = |t: &&TlsLoad| !to_origin && len > 0 && t.is_shaking(i);
                (head, tls.filter(shakes).map(|_| f[f.len() - len as usize..].to_vec()))
            };
            let Some(((to_origin, i, seq, bits, len), shaken)) = self.ends[from].recv_with(look) else {
                from += 1;
                continue;
            };
            n += 1;
            let c = if to_origin { &mut self.origin[i] } else { &mut self.conns[i] };
            if bits & RST != 0 {
                c.reset = true;
                continue;
            }
            if bits & SYN != 0 {
                if c.open && !to_origin {
                    self.frame(false, i, ACK, &[]); // It has missed ours.
                    continue;
                }
                c.rcv = seq.wrapping_add(1);
                c.open = !to_origin;
                if to_origin {
                    c.snd = 7000;
                    self.frame(true, i, SYN | ACK, &[]);
                    self.origin[i].snd += 1;
                } else {
                    self.owed.push((false, i));
                }
                continue;
            }
            let is_next = seq == c.rcv && !c.deaf;
            if is_next {
                c.rcv = seq.wrapping_add(len + u32::from(bits & FIN));
                c.got += len;
                c.ended |= bits & FIN != 0;
                c.owes |= self.acknowledges && !to_origin && len > 0;
            }
            if let Some(bytes) = shaken.filter(|_| is_next) {
                self.shake(i, Some(&bytes));
            }
            if to_origin && len > 0 {
                self.answered += 1;
                let response = std::mem::take(&mut self.response);
                self.frame(true, i, ACK | 8, &response);
                self.origin[i].snd = self.origin[i].snd.wrapping_add(response.len() as u32);
                self.response = response;
            }
        }
        for i in 0..if self.acknowledges { self.conns.len() } else { 0 } {
            if std::mem::take(&mut self.conns[i].owes) {
                self.frame(false, i, ACK, &[]);
            }
        }
        while let Some((origin, i)) = self.owed.pop() {
            self.frame(origin, i, ACK, &[]);
            if !origin {
                self.shake(i, None);
            }
        }
        n
    }
}

/// Where connection `i` comes from, where the first `known` are no strangers.
fn client(i: usize, known: usize) -> (std::net::IpAddr, u16) {
    match i.checked_sub(known) {
        None => (CLIENT_IP.into(), FIRST_PORT + i as u16),
        Some(n) => ([STRANGERS.0, STRANGERS.1 | (n >> 16) as u8, (n >> 8) as u8, n as u8].into(), FIRST_PORT),
    }
}

/// Whether a frame is for the origin, the connection (of the origin's: the port of the node's side), SEQ, bits, payload
/// length.
fn read(f: &[u8], known: usize) -> (bool, usize, u32, u8, u32) {
    let ip = &f[14..];
    let total = u32::from(u16::from_be_bytes([ip[2], ip[3]]));
    let t = &ip[20..];
    let (sport, dport) = (u16::from_be_bytes([t[0], t[1]]), u16::from_be_bytes([t[2], t[3]]));
    let seq = u32::from_be_bytes([t[4], t[5], t[6], t[7]]);
    let to_origin = ip[16..20] == ORIGIN_IP;
    let i = match to_origin {
        true => usize::from(sport),
        false if ip[16] == STRANGERS.0 => {
            known + u32::from_be_bytes([0, ip[17] & 15, ip[18], ip[19]]) as usize
        }
        false => usize::from(dport - FIRST_PORT),
    };
    (to_origin, i, seq, t[13], total - 20 - u32::from(t[12] >> 4) * 4)
}

/// A node's core, or cores, with their load, turned by the caller.
pub struct Rig {
    pub core: Core<NodePipeline>,
    /// The other cores, if there are any.
    pub others: Vec<Core<NodePipeline>>,
    pub load: Load,
    pub segment: Arc<Segment>,
    pub now: Time,
    /// They end with the last one who has them.
    pub helpers: Option<Arc<Helpers>>,
}

impl Rig {
    pub fn new(who: Who, conns: usize, response: Vec<u8>) -> Rig {
        Rig::with_cores(who, conns, response, &Shared::new(1), |_, _, _| 0)
    }

    /// A node of as many cores as `shared` is for, over a device that spreads frames like this.
    pub fn with_cores(who: Who, conns: usize, response: Vec<u8>, shared: &Shared, spread: Spread) -> Rig {
        let n = shared.orders.len();
        let (near, far): (Vec<_>, Vec<_>) = (0..n).map(|_| wire(RIG_FRAMES, 1600)).unzip();
        let cores = near.into_iter().enumerate();
        let mut cores = cores.map(|(i, near)| core_of(&who, conns as u32, near, shared, i));
        let core = cores.next().expect("a core");
        let mut load = Load::over(far, spread, conns, response);
        load.has_checksums = shared.has_checksums;
        load.tls = shared.tls.as_ref().map(|t| TlsLoad::new(&t.client, conns));
        let segment = Arc::clone(&shared.segment);
        let helpers = shared.tls.as_ref().and_then(|t| t.helpers.clone());
        Rig { core, others: cores.collect(), load, segment, now: Time(1_000_000), helpers }
    }

    /// One pass of each core, a microsecond later.
    pub fn pass(&mut self) {
        self.now = self.now.plus_ns(1_000);
        self.core.pass(self.now);
        for c in &mut self.others {
            c.pass(self.now);
        }
    }

    /// Opens every connection that is no stranger's.
    pub fn open_all(&mut self) {
        let n = self.load.known;
        let (mut first, began) = (0, Instant::now());
        for i in 0..n {
            self.load.open(i);
            if i % 32 == 31 || i + 1 == n {
                // A handshake takes passes of its own, and some the time of another thread.
                for passes in 0.. {
                    let all = passes >= 6 && (first..=i).all(|i| self.load.is_open(i));
                    if all || began.elapsed().as_secs() > OPENING_S {
                        break;
                    }
                    self.pass();
                    self.load.poll();
                }
                first = i + 1;
            }
        }
        assert!((0..n).all(|i| self.load.is_open(i)));
    }
}

#[cfg(feature = "dpdk")]
impl Drop for Rig {
    fn drop(&mut self) {
        // A port counts its mbufs when it closes.
        for end in &mut self.load.ends {
            if let Far::Ring(end) = end {
                end.let_go();
            }
        }
    }
}

/// A node's cores, each on a thread of its own, under a real clock.
pub struct Threads {
    pub shared: Shared,
    pub load: Load,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    pub fn start(who: &Who, conns: usize, response: Vec<u8>, cores: usize, spread: Spread) -> Threads {
        let shared = Shared::new(cores);
        let (mut far, mut threads) = (Vec::new(), Vec::new());
        let clock = Clock::calibrated();
        for n in 0..cores {
            let (near, end) = wire(2048, 1600);
            far.push(end);
            let (who, shared, clock) = (who.clone(), shared.clone(), clock.clone());
            threads.push(std::thread::spawn(move || {
                let mut core = core_of(&who, conns as u32, near, &shared, n);
                core.run(&clock, &shared.orders[n].stop);
            }));
        }
        Threads { shared, load: Load::over(far, spread, conns, response), threads }
    }

    /// Ends the cores. What they have counted stays.
    pub fn stop(self) -> Arc<Segment> {
        for o in &self.shared.orders {
            o.stop.store(true, Ordering::Relaxed);
        }
        self.shared.bells.ring_all();
        for t in self.threads {
            t.join().expect("no panic");
        }
        self.shared.segment
    }
}
