//! The whole box: clients on two links, the edge, an origin on a third; faults, virtual time, and the verdict.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dataplane::core_loop::Core;
use dataplane::counters::{Segment, Snapshot};
use dataplane::mail::Post;
use dataplane::pcapng::PcapWriter;
use dataplane::port::link::{Faults, Link};
use dataplane::port::mem::{MemPort, WireEnd, wire};
use dataplane::rng::Rng;
use dataplane::{Bells, Ctr, Pool, Time};
use hugepages::{Arena, Limits, PagePolicy};
use l7::cache::policy::blob::Blob;
use l7::cache::policy::hash::HashKeys;
use l7::cache::policy::rules::CacheRules;
use l7::cache::store::{Cursor, Pick, Store, StoreConfig};
use l7::http1::HttpLimits;
use l7::proxy::{
    Cells, ClientTimeouts, HEAD_CELL_BYTES, Origin, OriginTimeouts, Program, Proxy, ProxyConfig,
};
use l7::tls::{Front, HandshakeLimits, Handshakes, RECORD_BYTES_MAX, RecordCells, Tls};
use millrace::node::{NodePipeline, Orders};
use rustls::{ClientConfig, RootCertStore};
use stack::neigh::Neighbours;
use stack::{Net, Stack, Steering, Tcp, TcpConfig, Udp};

use super::early::{Clock, Early};
use super::hosts::{OwnHost, Place, SmolHost};
use super::http::{Client, Framing, Request, Session, body_byte};
use super::identity::Identity;
use super::tls::OverTls;
use super::watch::Watch;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const ORIGIN: u16 = 8000;
const FRAMES: usize = 512;
const FRAME_BYTES: usize = 1600;
/// Virtual time that a seed may take.
const PATIENCE: Time = Time(4 * 3_600_000_000_000);
/// Bytes of bodies in one seed, both ways together.
const SEED_BYTES: u64 = 6 << 20;

/// Bytes of the cache, where there is one.
const CACHE_BYTES: u64 = 8 << 20;
const CACHE_KEYS: HashKeys = HashKeys(3, 4);
/// Cells for records where they are few: for two connections, of about twenty.
const FEW_RECORDS: u32 = 24;

/// Of four clients, where they are few, the one that asks for new keys.
const ASKING: usize = 1;

/// What a seed is run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Without TLS.
    Plain,
    /// Clients over TLS.
    Tls,
    /// As `Tls`; they want a few large objects, which the edge stores, and it has hardly any memory for records.
    Pressed,
}

/// Stalls in all seeds so far.
pub static STALLS: AtomicU64 = AtomicU64::new(0);

pub struct World {
    /// The edge's cores.
    edge: Vec<Core<NodePipeline>>,
    orders: Vec<Arc<Orders>>,
    segment: Arc<Segment>,
    pools: Vec<Pool>,
    /// Between the links and an edge of several cores.
    devices: Vec<Device>,
    own: OwnHost,
    smol: SmolHost,
    origin: OwnHost,
    links: Vec<Link>,
    now: Time,
    /// What clients trust, where they speak TLS.
    identity: Option<Identity>,
    /// Where they send early data.
    early: Option<Early>,
    /// What time TLS takes it to be.
    clock: Arc<Clock>,
    stalls: Stalls,
    store: Option<Arc<Store>>,
    watches: Vec<Rc<RefCell<Watch>>>,
}

/// When cores of the edge do nothing for a while, as those do that the kernel takes away.
struct Stalls {
    rng: Rng,
    /// How often a step ends in one for a core, in a million; 0: never.
    ppm: u32,
    /// Until when each core does.
    until: Vec<Time>,
    drawn: u64,
}

/// The longest.
const STALL_NS_MAX: u64 = 2_000_000_000;

impl Stalls {
    fn draw(&mut self, now: Time) {
        for until in &mut self.until {
            if *until <= now && self.rng.chance(self.ppm) {
                *until = now.plus_ns(self.rng.below(STALL_NS_MAX));
                self.drawn += 1;
            }
        }
    }
}

/// What a seed has drawn.
pub struct Drawn {
    pub faults: Faults,
    pub v6: bool,
    pub clients: Vec<Client>,
    pub requests: usize,
    /// Cores of the edge stall.
    pub stalls: bool,
    /// What they want, where that is stored.
    objects: Vec<Request>,
}

pub fn draw(seed: u64) -> Drawn {
    let mut r = Rng::new(seed);
    // Every fourth seed has every fault at its worst, every eighth none at all.
    let ppm = |r: &mut Rng| match seed % 8 {
        0 => 0,
        3 | 7 => 50_000,
        _ => r.below(50_001) as u32,
    };
    let faults = Faults {
        delay_ns: r.range(50_000, 20_000_000),
        jitter_ns: r.below(2_000_000),
        rate_bps: r.range(10_000_000, 1_000_000_000),
        queue_bytes: r.range(32_000, 1_000_000),
        loss_ppm: ppm(&mut r),
        duplicate_ppm: ppm(&mut r),
        reorder_ppm: ppm(&mut r),
        reorder_ns: r.range(100_000, 30_000_000),
        corrupt_ppm: ppm(&mut r),
        ..Faults::default()
    };
    let v6 = r.below(2) == 1;
    let conns = if r.below(3) == 0 { r.range(1, 64) } else { r.range(1, 12) };
    let mut left = SEED_BYTES;
    let mut size = |r: &mut Rng| {
        let bits = r.below(21);
        let n = if r.below(6) == 0 { 0 } else { r.below((1 << bits) + 1) };
        let n = if r.below(40) == 0 { 1 << 20 } else { n }.min(left);
        left -= n;
        n
    };
    let mut requests = 0;
    let clients = (0..conns)
        .map(|_| {
            let n = if r.below(4) == 0 { r.range(1, 50) } else { r.range(1, 6) };
            requests += n as usize;
            let list = (0..n)
                .map(|_| {
                    let (down, up) = (size(&mut r), if r.below(3) == 0 { size(&mut r) } else { 0 });
                    Request {
                        up,
                        up_chunked: up > 0 && r.below(3) == 0,
                        down,
                        framing: [Framing::Length, Framing::Chunked, Framing::Close][r.below(3) as usize],
                        seed: r.next_u64() >> 1,
                        head: up == 0 && r.below(12) == 0,
                        close: false,
                    }
                })
                .collect();
            let pause = (r.below(4) == 0).then(|| (r.below(300_000), r.range(1_000_000_000, 20_000_000_000)));
            let abort = (r.below(12) == 0).then(|| r.below(200_000));
            Client::new(list, r.below(4) == 0, v6, pause, abort)
        })
        .collect();
    // What else a seed draws does not depend on it.
    Drawn { faults, v6, clients, requests, stalls: seed % 3 == 1, objects: Vec::new() }
}

/// Many clients, some of whom read slowly, that want the same few objects over links that lose.
pub fn draw_pressed(seed: u64) -> Drawn {
    let mut r = Rng::new(seed ^ 0x9E55);
    let mut drawn = draw(seed);
    drawn.faults.loss_ppm = r.range(2_000, 40_000) as u32;
    drawn.faults.rate_bps = r.range(50_000_000, 1_000_000_000);
    let sizes = [(400_000, Framing::Length), (150_000, Framing::Chunked), (60_000, Framing::Length)];
    let object = |(down, framing)| Request {
        up: 0,
        up_chunked: false,
        down,
        framing,
        seed: seed * 3 + down,
        head: false,
        close: false,
    };
    drawn.objects = sizes.map(object).to_vec();
    drawn.clients = (0..r.range(12, 24))
        .map(|n| {
            let mut list: Vec<Request> =
                (0..r.range(1, 3)).map(|_| drawn.objects[r.below(3) as usize].clone()).collect();
            if let Some(last) = list.last_mut() {
                last.close = n % 2 == 0;
            }
            let pause = (n % 3 != 0).then(|| (r.below(150_000), r.range(1_000_000_000, 20_000_000_000)));
            let abort = (r.below(12) == 0).then(|| r.below(200_000));
            // What is behind a response that waits for new keys does not.
            let pipelines = r.below(4) == 0 && n as usize % 4 != ASKING;
            Client::new(list, pipelines, drawn.v6, pause, abort)
        })
        .collect();
    drawn.requests = drawn.clients.len();
    drawn
}

impl World {
    pub fn new(faults: &Faults, seed: u64, cores: usize, scene: Scene, pcap: Option<&Path>) -> World {
        let clock = Arc::new(Clock::default());
        let identity = (scene != Scene::Plain)
            .then(|| Identity { time: clock.clone(), ..Identity::new(&["sim.example"]) });
        let early = identity.as_ref().filter(|_| scene == Scene::Tls).and_then(|i| Early::draw(seed, i));
        let front = identity.as_ref().map(|i| early.as_ref().map_or_else(|| i.front(), Early::front));
        let mut ends = Vec::new();
        let mut links = Vec::new();
        let mut hosts = Vec::new();
        let mut watches = Vec::new();
        for n in 0..3u64 {
            let (host, left) = wire(FRAMES, FRAME_BYTES);
            let (edge, right) = wire(FRAMES, FRAME_BYTES);
            let mut link = Link::new(left, right, faults.clone(), seed * 3 + n);
            if let Some(dir) = pcap {
                let path = dir.join(format!("link{n}.pcapng"));
                link.capture(
                    PcapWriter::create(&path, &["to-edge", "from-edge"]).expect("a writable directory"),
                );
            }
            let watch = Rc::new(RefCell::new(Watch::default()));
            watches.push(Rc::clone(&watch));
            link.watch(move |f| watch.borrow_mut().frame(f, [HTTP, HTTPS]));
            links.push(link);
            ends.push(edge);
            hosts.push(host);
        }
        let mut hosts = hosts.into_iter();
        let mut host = || hosts.next().expect("three links");
        let own = OwnHost::new(Place::new(1, 2), host(), seed);
        let smol = SmolHost::new(Place::new(2, 2), host(), seed);
        let mut origin = OwnHost::new(Place::new(3, 2), host(), seed ^ 5);
        origin.listen(ORIGIN);
        let mut devices = Vec::new();
        let mut queues: Vec<Vec<WireEnd>> = (0..cores).map(|_| Vec::new()).collect();
        for end in ends {
            if cores == 1 {
                queues[0].push(end);
                continue;
            }
            let (near, far): (Vec<_>, Vec<_>) = (0..cores).map(|_| wire(FRAMES, FRAME_BYTES)).unzip();
            queues.iter_mut().zip(near).for_each(|(q, w)| q.push(w));
            devices.push(Device { link: end, queues: far, turn: 0 });
        }
        let segment = Segment::in_memory(cores);
        let bells = Bells::new(cores).expect("descriptors");
        let post = (cores > 1).then(|| Post::new(256, FRAME_BYTES, bells));
        let store = (scene == Scene::Pressed).then(|| {
            let config = StoreConfig::for_bytes(CACHE_BYTES, cores as u32 + 1, [1, 2]);
            Store::reserve(config, PagePolicy::NormalOnly, Box::new(|_| {})).expect("memory")
        });
        let (mut edge, mut orders, mut pools) = (Vec::new(), Vec::new(), Vec::new());
        for (n, ends) in queues.into_iter().enumerate() {
            let steering = post.as_ref().map(|p| Steering::new(n, Arc::clone(p)));
            let (core, order, own) =
                edge_core(ends, seed, &segment, n, steering, (front.as_ref(), store.as_ref()));
            edge.push(core);
            orders.push(order);
            pools.extend(own);
        }
        let until = vec![Time(0); cores];
        let stalls = Stalls { rng: Rng::new(seed ^ 0x57A1), ppm: 0, until, drawn: 0 };
        World {
            edge,
            orders,
            segment,
            pools,
            devices,
            own,
            smol,
            origin,
            links,
            now: Time(0),
            identity,
            early,
            clock,
            stalls,
            store,
            watches,
        }
    }

    /// A pass of every core of the edge that does not stall.
    fn pass_edge(&mut self, now: Time) -> bool {
        let mut busy = false;
        for d in &mut self.devices {
            busy |= d.carry();
        }
        for (core, until) in self.edge.iter_mut().zip(&self.stalls.until) {
            busy |= *until <= now && core.pass(now);
        }
        for d in &mut self.devices {
            busy |= d.carry();
        }
        busy
    }

    /// Runs until nothing moves at this time, then goes on to the next time at which something does.
    fn step(&mut self) -> bool {
        let mut turns = 0;
        self.stalls.draw(self.now);
        loop {
            let now = self.now;
            let mut busy = false;
            for l in &mut self.links {
                l.step(now);
            }
            busy |= self.pass_edge(now);
            busy |= self.own.core.pass(now);
            busy |= self.origin.core.pass(now);
            busy |= self.smol.pass(now);
            if !busy {
                break;
            }
            turns += 1;
            assert!(turns < 200_000, "no end of work at {now}");
        }
        let now = self.now;
        for l in &mut self.links {
            l.step(now);
        }
        let mut next: Vec<Option<Time>> = self.links.iter().map(Link::next_due).collect();
        use dataplane::core_loop::Pipeline;
        let edge = self.edge.iter().zip(&self.stalls.until);
        next.extend(
            edge.map(|(c, until)| if *until <= now { c.pipeline.next_deadline() } else { Some(*until) }),
        );
        next.push(self.own.core.pipeline.next_deadline());
        next.push(self.origin.core.pipeline.next_deadline());
        next.push(self.smol.next_deadline(now));
        match next.into_iter().flatten().min() {
            Some(t) => {
                self.now = t.max(now.plus_ns(1));
                self.clock.set(self.now);
                true
            }
            None => false,
        }
    }

    fn open(&self) -> usize {
        self.own.open() + self.smol.open()
    }

    fn edge_flows(&self) -> u32 {
        self.edge.iter().map(|c| c.pipeline.stack.tcp.in_use().0).sum()
    }

    /// Runs the clients to their end, drains the edge, and judges. Gives the edge's counters.
    pub fn run(mut self, drawn: Drawn) -> Result<Snapshot, String> {
        self.stalls.ppm = if drawn.stalls { 300 } else { 0 };
        let mut coming: VecDeque<_> = drawn.clients.into_iter().enumerate().collect();
        let at_once = self.early.as_ref().map_or(coming.len(), |e| e.at_once);
        while self.open() + coming.len() > 0 {
            while self.open() < at_once
                && let Some((n, c)) = coming.pop_front()
            {
                self.connect(n, c, drawn.v6);
            }
            let seen = self.watches.iter().find_map(|w| w.borrow().wrong.clone());
            let wrong = seen.or_else(|| self.results().find_map(|r| r.as_ref().err().cloned()));
            if let Some(w) = wrong {
                return Err(w);
            }
            if self.now > PATIENCE {
                return Err(format!("{} connections are not over at {}", self.open(), self.now));
            }
            if !self.step() && self.open() > 0 {
                return Err(format!(
                    "nothing moves any more at {}, {} connections open",
                    self.now,
                    self.open()
                ));
            }
        }
        // All are there when it is over.
        self.stalls.ppm = 0;
        self.now = self.stalls.until.iter().copied().max().unwrap_or(self.now).max(self.now);
        STALLS.fetch_add(self.stalls.drawn, Ordering::Relaxed);
        for o in &self.orders {
            o.drain.store(true, Ordering::Relaxed);
        }
        let end = self.now.plus_ns(600_000_000_000);
        self.pass_edge(self.now);
        while (self.edge_flows() > 0 || self.origin.open() > 0) && self.now < end && self.step() {}
        // What is still under way arrives.
        for _ in 0..10_000 {
            if self.links.iter().all(|l| l.next_due().is_none()) {
                break;
            }
            self.step();
        }
        // A SYN that came twice may have opened half a connection, which the other end does not know: it runs out.
        while (self.own.leaks().is_some() || self.origin.leaks().is_some()) && self.now < end && self.step() {
        }
        for r in self.results() {
            r.clone()?;
        }
        if let Some(store) = &self.store {
            let host = if drawn.v6 { "[fd01::1]" } else { "sim.example" };
            read_back(store, self.edge.len(), host, &drawn.objects)?;
        }
        self.check()
    }

    /// Client number `n` comes.
    fn connect(&mut self, n: usize, c: Client, v6: bool) {
        let (port, c): (u16, Box<dyn Session>) = match (&mut self.early, &self.identity) {
            (Some(early), _) => (HTTPS, Box::new(early.client(c))),
            (None, Some(i)) => (HTTPS, Box::new(self.over_tls(i, n, c))),
            (None, None) => (HTTP, Box::new(c)),
        };
        let to = |link| (Place::new(link, 1).ip(v6), port).into();
        if n.is_multiple_of(2) {
            self.own.connect(to(1), c, self.now);
        } else {
            self.smol.connect(to(2), c);
        }
    }

    /// Client number `n`. Where memory is short, some speak TLS 1.2, and some want new keys in the middle of it.
    fn over_tls(&self, identity: &Identity, n: usize, c: Client) -> OverTls {
        let is_pressed = self.store.is_some();
        let is_old = is_pressed && n % 4 == 2;
        let config = Arc::new(if is_old { old_config(identity) } else { identity.client_config() });
        let tls = OverTls::client(Box::new(c), &config, "sim.example");
        if is_pressed && n % 4 == ASKING { tls.asking(70_000) } else { tls }
    }

    fn results(&self) -> impl Iterator<Item = &Result<(), String>> {
        self.own
            .core
            .pipeline
            .results
            .iter()
            .chain(&self.smol.results)
            .chain(&self.origin.core.pipeline.results)
    }

    fn check(&mut self) -> Result<Snapshot, String> {
        // Whatever the last pass still sends is on a wire until its link has looked.
        self.pass_edge(self.now);
        for l in &mut self.links {
            l.step(self.now);
        }
        let s = self.segment.read();
        if (s.rx_imbalance(), s.tx_imbalance()) != (0, 0) {
            return Err(format!("the laws: rx {}, tx {}", s.rx_imbalance(), s.tx_imbalance()));
        }
        let delivered: u64 = self.links.iter().map(|l| l.stats().0.delivered).sum();
        let offered: u64 = self.links.iter().map(|l| l.stats().1.offered).sum();
        if (s.get(Ctr::RxPackets), s.get(Ctr::TxSent)) != (delivered, offered) {
            return Err(format!(
                "rx {} of {delivered} delivered, sent {} of {offered} taken",
                s.get(Ctr::RxPackets),
                s.get(Ctr::TxSent)
            ));
        }
        if s.in_mail() != 0 {
            return Err(format!("{} frames are in the mail", s.in_mail()));
        }
        for (n, core) in self.edge.iter().enumerate() {
            let p = &core.pipeline;
            let (flows, records) = p.stack.tcp.in_use();
            if (flows, records, p.proxy.active(), p.proxy.open_clients()) != (0, 0, 0, 0) {
                return Err(format!(
                    "core {n} holds {flows} flows, {records} records, {} requests, {} clients",
                    p.proxy.active(),
                    p.proxy.open_clients()
                ));
            }
            if p.tls.notes_in_use() > 0 {
                return Err(format!("core {n} holds {} notes of records", p.tls.notes_in_use()));
            }
            let s = self.segment.read_core(n);
            if (s.rx_imbalance(), s.tx_imbalance()) != (0, 0) {
                return Err(format!("core {n}'s laws: rx {}, tx {}", s.rx_imbalance(), s.tx_imbalance()));
            }
        }
        if let Some(p) = self.pools.iter().map(Pool::stats).find(|p| p.free != p.capacity) {
            return Err(format!("not everything is back in its pool: {p:?}"));
        }
        for h in [&self.own, &self.origin] {
            let s = h.segment.read();
            if (s.rx_imbalance(), s.tx_imbalance()) != (0, 0) {
                return Err(format!("a host's laws: rx {}, tx {}", s.rx_imbalance(), s.tx_imbalance()));
            }
            if let Some(l) = h.leaks() {
                return Err(format!("a host holds {l}"));
            }
        }
        if let Some(wrong) = self.watches.iter().find_map(|w| w.borrow().wrong.clone()) {
            return Err(wrong);
        }
        let resent = s.get(Ctr::TcpRetransmits) > 0;
        if self.store.is_some() && resent && self.watches.iter().all(|w| w.borrow().again == 0) {
            return Err("nothing that was sent again has gone by".to_owned());
        }
        let mut sum = s;
        sum.merge(&self.own.segment.read());
        sum.merge(&self.origin.segment.read());
        Ok(sum)
    }
}

/// A client that does not know TLS 1.3.
fn old_config(identity: &Identity) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(identity.certificate.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
    config.with_root_certificates(roots).with_no_client_auth()
}

/// What is stored is what the origin has sent, whatever was sealed from it.
fn read_back(store: &Arc<Store>, control: usize, host: &str, objects: &[Request]) -> Result<(), String> {
    let mut handle = store.handle(control);
    let mut blob = vec![0; store.head_bytes_max()];
    let mut found = 0;
    for o in objects {
        let letter = if o.framing == Framing::Chunked { "c" } else { "l" };
        let key = format!("https://{host}/{letter}/{}/{}/0", o.down, o.seed);
        let hash = CACHE_KEYS.hash(key.as_bytes());
        let is_it = |b: Blob<'_>| b.key() == key.as_bytes();
        let picked = handle.lookup(hash, &mut blob, |view| match Blob::read(view.blob).is_some_and(is_it) {
            true => Pick::Take,
            false => Pick::Next,
        });
        let Some(id) = picked else { continue };
        found += 1;
        let mut at = 0;
        let mut wrong = None;
        handle.read(id, &mut Cursor::at(0), o.down as usize, |piece| {
            for b in piece {
                if *b != body_byte(o.seed ^ 0xD0, at) {
                    wrong = wrong.or(Some(at));
                }
                at += 1;
            }
        });
        if wrong.is_some() || at != o.down {
            return Err(format!("{key}: {at} bytes are stored, the first wrong one is {wrong:?}"));
        }
    }
    if found == 0 { Err("nothing is stored".to_owned()) } else { Ok(()) }
}

/// A device with a queue for each core, as bad as a TAP: a client's packets stay together, but what comes for a
/// connection that we opened comes to any core.
struct Device {
    link: WireEnd,
    queues: Vec<WireEnd>,
    turn: usize,
}

impl Device {
    fn carry(&mut self) -> bool {
        let mut busy = false;
        while self.queues.iter().all(WireEnd::can_send) {
            let Some(frame) = self.link.recv_with(<[u8]>::to_vec) else { break };
            self.turn += 1;
            let queue = match client(&frame) {
                Some(hash) => hash % self.queues.len(),
                None => self.turn % self.queues.len(),
            };
            busy |= self.queues[queue].send(&frame);
        }
        for q in &self.queues {
            while self.link.can_send() && q.recv_with(|f| self.link.send(f)).is_some() {
                busy = true;
            }
        }
        busy
    }
}

/// A hash of the client, of a segment to our listener; corrupted frames come to any core.
fn client(frame: &[u8]) -> Option<usize> {
    let l4 = match frame.get(12..14)? {
        [8, 0] => 34,
        [0x86, 0xdd] => 54,
        _ => return None,
    };
    let ports = frame.get(l4..l4 + 4)?;
    let to_edge = [HTTP, HTTPS].iter().any(|p| ports[2..] == p.to_be_bytes());
    to_edge.then(|| usize::from(ports[0]) * 31 + usize::from(ports[1]))
}

type EdgeCore = (Core<NodePipeline>, Arc<Orders>, Vec<Pool>);

fn edge_core(
    ends: Vec<WireEnd>,
    seed: u64,
    segment: &Arc<Segment>,
    number: usize,
    steering: Option<Steering>,
    (front, store): (Option<&Arc<Front>>, Option<&Arc<Store>>),
) -> EdgeCore {
    let mut l = Limits::for_core_memory(32 << 20);
    l.flows = 1024;
    l.half_open = 512;
    if front.is_some() {
        l.tls_connections = l.flows;
        // Fewer than there are connections: some are made anew.
        l.tls_contexts = 8;
        l.tls_handshakes = 128;
        l.record_cells = if store.is_some() { FEW_RECORDS } else { 256 };
    }
    let pages = PagePolicy::NormalOnly;
    let pool = |name, n, bytes| Pool::reserve(name, n, bytes, pages).unwrap();
    let (rx, headers) = (pool("rx", l.rx_cells, 2048), pool("header", 4096, 256));
    let (payload, heads) = (pool("payload", 4096, 2048), pool("head", 64, HEAD_CELL_BYTES));
    let c = segment.writer(number);
    let mut ports: Vec<Box<dyn dataplane::Port>> = Vec::new();
    let mut ifaces = Vec::new();
    for (n, end) in ends.into_iter().enumerate() {
        let place = Place::new(n as u8 + 1, 1);
        ports.push(Box::new(MemPort::new(end, rx.clone(), place.mac, 1500, n as u8)));
        ifaces.push(place.iface());
    }
    let net = Net::new(ifaces, Neighbours::new(16), headers.clone(), c.clone());
    let mut arena = Arena::reserve(Tcp::cost(&l) + Tls::cost(&l) + Proxy::cost(&l), pages).unwrap();
    let mut tcp =
        Tcp::new(&l, &mut arena, TcpConfig::new([seed, 7, 8, 9], &l), rx.clone(), c.clone()).unwrap();
    tcp.listen(None, HTTP).unwrap();
    tcp.listen(None, HTTPS).unwrap();
    // Nothing here is to time out but by intent: faults make virtual hours of an unlucky transfer.
    const DAY_NS: u64 = 86_400_000_000_000;
    let origin = |v6| Origin::at((Place::new(3, 2).ip(v6), ORIGIN).into(), b"origin");
    let timeouts = OriginTimeouts { connect_ns: DAY_NS, first_byte_ns: DAY_NS, idle_ns: DAY_NS };
    let mut config = ProxyConfig {
        sites: Vec::new(),
        routes: Vec::new(),
        upstreams: Vec::new(),
        http: HttpLimits::default(),
        client: ClientTimeouts { header_ns: DAY_NS, keep_alive_ns: DAY_NS },
        idle_per_origin_max: 64,
        origin_keep_alive_ns: DAY_NS,
        request_budget_bytes: l.request_budget_bytes,
        unix_ns_at_start: 1_700_000_000_000_000_000,
        proxy_headers_from: Vec::new(),
        tls_listeners: vec![false, front.is_some()],
        front: front.map_or_else(Front::none, Arc::clone),
        tunings: Vec::new(),
        log: None,
    };
    for (host, v6) in [("sim.example", false), ("*", true)] {
        let answer = config.add_upstream(vec![origin(v6)]);
        let route = config.add_site(&[host], answer, timeouts);
        route.cache = store.map(|_| CacheRules::default());
    }
    let cells = Cells { payload: payload.clone(), heads: heads.clone() };
    let cache = store.map(|s| (s.handle(number), CACHE_KEYS));
    let proxy = Proxy::new(Program::new(config), &l, &mut arena, cells, cache, c.clone()).unwrap();
    let records = pool("record", l.record_cells.max(1), RECORD_BYTES_MAX);
    // The clients come from two addresses.
    let handshakes =
        HandshakeLimits { per_source: l.tls_handshakes, ..HandshakeLimits::new(l.tls_handshakes, [1, 2]) };
    let record_cells = RecordCells { payload: payload.clone(), records: records.clone() };
    let handshakes = Handshakes::new(handshakes, None, c.clone());
    let mut tls = Tls::new(&l, &mut arena, handshakes, record_cells, c.clone()).unwrap();
    if let Some(store) = store {
        tls.read_from(Arc::clone(store));
    }
    let orders = Arc::new(Orders::default());
    let mut stack = Stack::new(net, tcp, Udp::new(4), c.clone());
    if let Some(s) = steering {
        stack.steer(s);
    }
    let pipeline = NodePipeline::new(stack, tls, proxy, Arc::clone(&orders), c.clone());
    (Core::new(ports, pipeline, c, 1024), orders, vec![rx, headers, payload, heads, records])
}
