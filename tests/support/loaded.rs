//! The load client and a server stub over our own stack, on the two ends of an in-process wire: for the client's tests
//! and benches. The stub counts heads that end, and answers each with the same slices.

#![allow(dead_code)] // Each of the targets that include this uses its part of it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};

use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::Segment;
use dataplane::port::link::{Faults, Link};
use dataplane::port::mem::{MemPort, WireEnd, wire};
use dataplane::{Burst, Pool, Slice, Time, TxQueue};
use hugepages::{Arena, Limits, PagePolicy};
use millrace::pktgen::http::plan::{self, Plan};
use millrace::pktgen::http::request::{Parts, Request};
use millrace::pktgen::http::tally::{Count, End, Tally};
use millrace::pktgen::http::{Client, Outside};
use stack::neigh::Neighbours;
use stack::{Events, FlowId, Iface, Net, Stack, Tcp, TcpConfig, Udp};

const SERVER_IP: [u8; 4] = [10, 0, 0, 1];
const CLIENT_IP: [u8; 4] = [10, 0, 0, 2];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORT: u16 = 80;
const HOUR_NS: u64 = 3_600_000_000_000;
const PAGES: PagePolicy = PagePolicy::NormalOnly;

/// A closed loop of this many connections, for ever; to be changed as a test wants it.
pub fn plan(connections: u32) -> Plan {
    Plan {
        server: (SERVER_IP, PORT).into(),
        requests: vec![request("/", false)],
        connections,
        pipeline: 1,
        close: false,
        rate: None,
        arrival: Default::default(),
        waiting_max: 4096,
        duration_ns: None,
        count: None,
        warmup_ns: 0,
        linger_ns: HOUR_NS,
        timeout_ns: HOUR_NS,
        ramp: None,
        sources: Vec::new(),
        verify: false,
        seed: 1,
        epoch_ms: 0,
        tls: None,
    }
}

/// A GET of `path`.
pub fn request(path: &str, close: bool) -> Request {
    Parts { method: "GET", path, headers: &[], body: b"", host: "stub", close }
        .build()
        .expect("a good request")
}

/// What the stub does.
#[derive(Clone)]
pub struct Manners {
    /// What every request is answered with.
    pub answer: Vec<u8>,
    /// What the last one of a connection is answered with, before the connection is closed.
    pub last: Vec<u8>,
    /// Requests that a connection may ask; those after them are not answered.
    pub requests_max: u32,
    /// Connections that it may have.
    pub flows: u32,
}

impl Manners {
    /// Keeps connections, and answers with a body of this size.
    pub fn of_body(bytes: usize, flows: u32) -> Manners {
        let answer = |more: &str| {
            let head = format!("HTTP/1.1 200 OK\r\nServer: stub\r\n{more}Content-Length: {bytes}\r\n\r\n");
            [head.into_bytes(), body(bytes)].concat()
        };
        Manners { answer: answer(""), last: answer("Connection: close\r\n"), requests_max: u32::MAX, flows }
    }
}

/// The body of such an answer.
pub fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| b'a' + (i % 23) as u8).collect()
}

/// The server.
pub struct Stub {
    pub stack: Stack,
    answer: Vec<Slice>,
    last: Vec<Slice>,
    requests_max: u32,
    /// Requests that came.
    pub requests: u64,
    /// Answers that went.
    pub answers: u64,
}

impl Stub {
    fn serve(&mut self, id: FlowId, now: Time) {
        // How far the end of a head has been seen, and how many requests came before.
        let user = self.stack.tcp.user(id);
        let (mut seen, mut asked) = ((user & 3) as usize, (user >> 2) as u32);
        while let Some(piece) = self.stack.tcp.read(id) {
            self.stack.tcp.consume(id, piece.len() as u32);
            for b in piece.iter() {
                seen = match (*b, seen) {
                    (b'\r', 0 | 2) | (b'\n', 1) => seen + 1,
                    (b'\n', 3) => {
                        asked += 1;
                        self.requests += 1;
                        if asked <= self.requests_max {
                            let last = asked == self.requests_max;
                            let answer = if last { &self.last } else { &self.answer };
                            for slice in answer {
                                self.stack.tcp.send(id, slice.clone()).expect("records enough");
                            }
                            self.answers += 1;
                        }
                        0
                    }
                    (b'\r', _) => 1,
                    _ => 0,
                };
            }
        }
        self.stack.tcp.set_user(id, seen as u64 | u64::from(asked) << 2);
        if asked >= self.requests_max || self.stack.tcp.at_end(id) {
            self.stack.tcp.orphan(id, now);
        }
    }
}

impl Pipeline for Stub {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.stack.input(rx, tx, now);
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let mut ran = self.stack.timers(tx, now);
        while let Some((id, e)) = self.stack.tcp.next_event() {
            ran = true;
            if e.has(Events::CLOSED) {
                self.stack.tcp.release(id);
            } else {
                self.serve(id, now);
            }
        }
        ran | self.stack.output(tx, now)
    }

    fn next_deadline(&self) -> Option<Time> {
        self.stack.next_deadline()
    }
}

/// Client and stub, and what is between them.
pub struct Pair {
    pub client: Core<Client>,
    pub stub: Core<Stub>,
    pub link: Option<Link>,
    pub tally: Arc<Tally>,
    pub segment: Arc<Segment>,
    pub end: mpsc::Receiver<End>,
    pub now: Time,
    /// What the client has reserved.
    pub memory_bytes: u64,
    /// What a pass takes of the virtual time.
    pub pass_ns: u64,
    /// Times at which the stub does nothing: within this much of the start of each period.
    pub stall: Option<(u64, u64)>,
}

impl Pair {
    /// On one wire, or with a link of this seed between them.
    pub fn new(plan: Plan, manners: Manners, faults: Option<(Faults, u64)>, sums: bool) -> Pair {
        let (near, far, link) = match faults {
            None => {
                let (near, far) = wire(256, 1600);
                (near, far, None)
            }
            Some((faults, seed)) => {
                let ((near, left), (far, right)) = (wire(2048, 1600), wire(2048, 1600));
                (near, far, Some(Link::new(left, right, faults, seed)))
            }
        };
        let tally = Arc::<Tally>::default();
        let (tell, end) = mpsc::channel();
        let segment = Segment::in_memory(1);
        let c = segment.writer(0);
        let rx = Pool::reserve("rx", 4096, 2048, PAGES).expect("memory");
        let mut iface = Iface::new(CLIENT_MAC, 1500);
        iface.add(CLIENT_IP.into(), 8);
        plan.sources.iter().for_each(|s| assert!(iface.add_range(s.first, s.last)));
        iface.peer_mac = Some(SERVER_MAC);
        iface.tx_checksum_offload = !sums;
        let headers =
            Pool::reserve("header", plan::HEADER_CELLS, plan::HEADER_CELL_BYTES, PAGES).expect("memory");
        let net = Net::new(vec![iface], Neighbours::new(16), headers, c.clone());
        let memory_bytes = plan.memory_bytes(rx.capacity(), rx.cell_bytes());
        let outside = Outside {
            tally: Arc::clone(&tally),
            stop: Arc::<AtomicBool>::default(),
            enough: Arc::<AtomicBool>::default(),
            end: tell,
        };
        let client = Client::new(net, rx.clone(), plan, outside, c.clone(), PAGES).expect("memory");
        let port = port_of(near, rx, CLIENT_MAC, sums);
        Pair {
            client: Core::new(vec![port], client, c, 1024),
            stub: stub(far, &manners, sums),
            link,
            tally,
            segment,
            end,
            now: Time(1_000_000),
            memory_bytes,
            pass_ns: 5_000,
            stall: None,
        }
    }

    /// One pass of both. Gives whether anything moved.
    pub fn pass(&mut self) -> bool {
        let now = self.now;
        if let Some(l) = &mut self.link {
            l.step(now);
        }
        let mut busy = self.client.pass(now);
        if let Some(l) = &mut self.link {
            l.step(now);
        }
        if !self.is_stalled() {
            busy |= self.stub.pass(now);
        }
        busy
    }

    fn is_stalled(&self) -> bool {
        self.stall.is_some_and(|(length, period)| self.now.0 % period < length)
    }

    /// Turns until the client is done, in virtual time. Gives how it ended.
    pub fn run(&mut self) -> End {
        for turn in 0u64.. {
            assert!(turn < 50_000_000, "no end at {}", self.now);
            if let Ok(end) = self.end.try_recv() {
                return end;
            }
            if self.pass() {
                self.now = self.now.plus_ns(self.pass_ns);
                continue;
            }
            let stalled = self.stall.filter(|_| self.is_stalled());
            let mut next = vec![self.client.pipeline.next_deadline()];
            next.push(self.link.as_ref().and_then(Link::next_due));
            next.push(match stalled {
                Some((length, period)) => Some(Time(self.now.0 / period * period + length)),
                None => self.stub.pipeline.next_deadline(),
            });
            let next = next.into_iter().flatten().min().unwrap_or(Time(0));
            self.now = next.max(self.now.plus_ns(10_000));
        }
        unreachable!("the turns have a bound")
    }

    pub fn count(&self, c: Count) -> u64 {
        self.tally.get(c)
    }
}

fn port_of(end: WireEnd, rx: Pool, mac: [u8; 6], sums: bool) -> Box<dyn dataplane::Port> {
    let port = MemPort::new(end, rx, mac, 1500, 0);
    Box::new(if sums { port } else { port.trust_wire("mem", "in-process".to_owned()) })
}

fn stub(end: WireEnd, manners: &Manners, sums: bool) -> Core<Stub> {
    let segment = Segment::in_memory(1);
    let c = segment.writer(0);
    let pieces = (manners.answer.len().max(manners.last.len()) as u32).div_ceil(60_000) + 1;
    let mut limits = Limits::for_core_memory(64 << 20);
    limits.flows = manners.flows * 2 + 1024;
    limits.half_open = 4096;
    limits.time_wait = 65_536;
    limits.send_records = limits.flows * pieces * 4;
    let pool = |name, n, bytes| Pool::reserve(name, n, bytes, PAGES).expect("memory");
    let mut iface = Iface::new(SERVER_MAC, 1500);
    iface.add(SERVER_IP.into(), 8);
    iface.peer_mac = Some(CLIENT_MAC);
    iface.tx_checksum_offload = !sums;
    let net = Net::new(vec![iface], Neighbours::new(16), pool("header", 8192, 256), c.clone());
    let rx = pool("rx", 8192, 2048);
    let mut arena = Arena::reserve(Tcp::cost(&limits), PAGES).expect("memory");
    let mut tcp = Tcp::new(&limits, &mut arena, TcpConfig::new([9, 8, 7, 6], &limits), rx.clone(), c.clone())
        .expect("room");
    tcp.listen(None, PORT).expect("a place");
    let cells = pool("answers", 2 * pieces, 61_000);
    let slices = |bytes: &[u8]| {
        let cell = |piece: &[u8]| {
            let mut p = cells.alloc().expect("a cell");
            assert!(p.append(piece));
            p.into_slice(0, piece.len())
        };
        bytes.chunks(60_000).map(cell).collect::<Vec<Slice>>()
    };
    let (answer, last) = (slices(&manners.answer), slices(&manners.last));
    let stub = Stub {
        stack: Stack::new(net, tcp, Udp::new(4), c.clone()),
        answer,
        last,
        requests_max: manners.requests_max,
        requests: 0,
        answers: 0,
    };
    Core::new(vec![port_of(end, rx, SERVER_MAC, sums)], stub, c, 1024)
}
