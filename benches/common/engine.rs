//! The TCP engine with its network side and nothing above or below: frames are made by hand, put into cells of
//! the receive pool before the clock runs, and what comes out is read after it has stopped.

use std::sync::Arc;

use dataplane::buf::RxFlags;
use dataplane::counters::Segment;
use dataplane::rng::Rng;
use dataplane::{BURST_MAX, Burst, Pool, Slice, Time, TxQueue, time::cycles};
use hugepages::{Arena, Limits, PagePolicy};
use stack::neigh::Neighbours;
use stack::tcp::CookieUse;
use stack::{Events, FlowId, Iface, Net, Stack, Sum, Tcp, TcpConfig, Udp};

const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NODE_IP: [u8; 4] = [10, 0, 0, 1];
const PORT: u16 = 80;
const FIRST_PORT: u32 = 2048;
/// Connections from one client address.
const PER_ADDRESS: u32 = 50_000;
const HEADERS: usize = 54;
/// A SYN's only option: segments of up to 1,460 bytes.
const MSS: [u8; 4] = [2, 4, 5, 0xb4];

pub const REQUEST: &[u8] =
    b"GET /object?id=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";
pub const ANSWER_BYTES: usize = 1024;
/// What a download has queued.
const BULK_BYTES: u32 = 16 << 10;

/// Limits for `flows` connections.
pub fn limits(flows: u32) -> Limits {
    let mut l = Limits::for_core_memory(64 << 20);
    l.flows = flows;
    l.half_open = 4096;
    l.send_records = flows * 2 + 4096;
    // Each connection has an answer out until its next request.
    l.segments = flows * 2 + 4096;
    l.time_wait = 1024;
    l
}

#[derive(Clone, Copy, Default)]
struct Peer {
    snd: u32,
    rcv: u32,
}

/// An engine with `flows` open connections, and their peers.
pub struct Engine {
    pub stack: Stack,
    tx: [TxQueue; 1],
    rx: Burst,
    rx_pool: Pool,
    answer: Slice,
    peers: Vec<Peer>,
    /// In which order connections send: shuffled, so that no prefetcher guesses the next control block.
    order: Vec<u32>,
    at: usize,
    now: Time,
    offload: bool,
    closes: bool,
    bulk: bool,
    pub segment: Arc<Segment>,
}

impl Engine {
    pub fn new(flows: u32, offload: bool) -> Engine {
        let mut e =
            Engine::with(limits(flows.next_power_of_two().max(1024)), flows, offload, CookieUse::default());
        e.open_all();
        e
    }

    /// An engine within these limits, and so many peers; no connection is open yet.
    pub fn with(limits: Limits, peers: u32, offload: bool, cookies: CookieUse) -> Engine {
        let pages = PagePolicy::NormalOnly;
        let pool = |name, n, bytes| Pool::reserve(name, n, bytes, pages).unwrap();
        let segment = Segment::in_memory(1);
        let c = segment.writer(0);
        let mut iface = Iface::new(NODE_MAC, 1500);
        iface.add(std::net::Ipv4Addr::from(NODE_IP).into(), 8);
        iface.peer_mac = Some(PEER_MAC);
        iface.tx_checksum_offload = offload;
        let net = Net::new(vec![iface], Neighbours::new(16), pool("header", 4096, 256), c.clone());
        let mut arena = Arena::reserve(Tcp::cost(&limits), pages).unwrap();
        let rx_pool = pool("rx", limits.rx_cells, 2048);
        let mut config = TcpConfig::new([1, 2, 3, 4], &limits);
        config.cookies = cookies;
        let mut tcp = Tcp::new(&limits, &mut arena, config, rx_pool.clone(), c.clone()).unwrap();
        tcp.listen(None, PORT).unwrap();
        let payload = pool("payload", 4, 2048);
        let mut cell = payload.alloc().unwrap();
        cell.append(&[b'x'; ANSWER_BYTES]);
        let mut order: Vec<u32> = (0..peers).collect();
        let mut rng = Rng::new(1);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        Engine {
            stack: Stack::new(net, tcp, Udp::new(16), c),
            tx: [TxQueue::new(1024)],
            rx: Burst::new(),
            rx_pool,
            answer: cell.into_slice(0, ANSWER_BYTES),
            peers: vec![Peer::default(); peers as usize],
            order,
            at: 0,
            now: Time(1_000_000),
            offload,
            closes: false,
            bulk: false,
            segment,
        }
    }

    /// The SYN of peer `i`.
    pub fn syn(&mut self, i: usize) {
        self.peers[i] = Peer { snd: (i as u32).wrapping_mul(77), rcv: 0 };
        self.receive(i, 2, &MSS);
        self.peers[i].snd = self.peers[i].snd.wrapping_add(1);
    }

    /// A segment of peer `i`, with the numbers that are next.
    pub fn segment(&mut self, i: usize, bits: u8, payload: &[u8]) {
        self.receive(i, bits, payload);
        self.peers[i].snd = self.peers[i].snd.wrapping_add(payload.len() as u32 + u32::from(bits & 1));
    }

    /// Whether peer `i` has heard anything from us since its SYN.
    pub fn heard(&self, i: usize) -> bool {
        self.peers[i].rcv != 0
    }

    /// A SYN of nobody that we know, as a flood is made of: with the options that Linux's have.
    pub fn strange_syn(&mut self, rng: &mut Rng) {
        const OPTIONS: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7];
        let (r, snd) = (rng.next_u64(), rng.next_u64() as u32);
        let at = self.peers.len();
        self.peers.push(Peer { snd, rcv: 0 });
        let mut p = self.rx_pool.alloc().expect("receive cells");
        let len = HEADERS + OPTIONS.len();
        self.write(at, 2, &OPTIONS, &mut p.room_mut()[..len]);
        self.peers.pop();
        let room = &mut p.room_mut()[..len];
        room[26..30].copy_from_slice(&[172, 16 | (r as u8 & 15), (r >> 8) as u8, (r >> 16) as u8]);
        room[34..36].copy_from_slice(&((r >> 24) as u16 | 1024).to_be_bytes());
        room[46] = 0xa0;
        if !self.offload {
            room[24..26].fill(0);
            room[50..52].fill(0);
            fill_checksums(room);
        }
        p.set_len(len);
        let m = p.meta_mut();
        m.arrival = self.now;
        m.port = 0;
        if self.offload {
            m.flags.set(RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK);
        }
        self.rx.push(p);
    }

    /// Packets that the next pass gets.
    pub fn waiting(&self) -> usize {
        self.rx.len()
    }

    /// Time goes by without packets.
    pub fn wait_ns(&mut self, ns: u64) {
        self.now = self.now.plus_ns(ns);
    }

    /// From now on the owner closes behind each answer, and lets go what is over.
    pub fn close_first(&mut self) {
        self.closes = true;
    }

    /// From now on each connection downloads without end.
    pub fn download(&mut self) {
        self.bulk = true;
    }

    /// An ACK of each connection that something was sent to, for all of it.
    pub fn ack_all(&mut self) {
        for i in 0..self.peers.len().min(BURST_MAX) {
            self.receive(i, 16, &[]);
        }
    }

    /// How many segments were sent.
    pub fn take_segments(&mut self) -> usize {
        let n = self.tx[0].len();
        self.take_sent();
        n
    }

    pub fn open_all(&mut self) {
        for from in (0..self.peers.len()).step_by(BURST_MAX) {
            let some = from..(from + BURST_MAX).min(self.peers.len());
            for i in some.clone() {
                self.syn(i);
            }
            self.pass();
            self.take_sent();
            for i in some {
                self.receive(i, 16, &[]);
            }
            self.pass();
            self.take_sent();
        }
        assert_eq!(self.stack.tcp.in_use().0 as usize, self.peers.len());
        self.order.iter().for_each(|i| assert_ne!(self.peers[*i as usize].rcv, 0, "connection {i} is open"));
    }

    /// Puts up to 64 requests of different connections into the burst; gives how many.
    pub fn fill(&mut self) -> usize {
        let n = self.order.len().min(BURST_MAX);
        self.fill_some(n);
        n
    }

    /// The same with `n` of them.
    pub fn fill_some(&mut self, n: usize) {
        for _ in 0..n {
            let i = self.order[self.at] as usize;
            self.at = (self.at + 1) % self.order.len();
            self.receive(i, 16 | 8, REQUEST);
            self.peers[i].snd = self.peers[i].snd.wrapping_add(REQUEST.len() as u32);
        }
    }

    /// More peers, which have no connection and send nothing by [`Engine::fill`].
    pub fn add_peers(&mut self, n: usize) {
        self.peers.extend(std::iter::repeat_n(Peer::default(), n + 1));
        self.peers.pop(); // Room for one more: `strange_syn` borrows a place.
    }

    /// What is measured: the burst in, the owner's answer to each request, the segments out. About a
    /// microsecond of the connections' time passes per request.
    #[inline(never)]
    pub fn pass(&mut self) {
        self.now = self.now.plus_ns(1_000 * self.rx.len().max(1) as u64);
        self.stack.input(&mut self.rx, &mut self.tx, self.now);
        self.stack.timers(&mut self.tx, self.now);
        while let Some((id, events)) = self.stack.tcp.next_event() {
            self.owner(id);
            if events.has(Events::CLOSED) {
                self.stack.tcp.release(id);
            }
        }
        self.stack.output(&mut self.tx, self.now);
    }

    #[inline]
    fn owner(&mut self, id: FlowId) {
        if self.bulk {
            // A download: so much is queued that the window is what bounds it.
            while self.stack.tcp.queued_true(id) < BULK_BYTES
                && self.stack.tcp.send(id, self.answer.clone()).is_ok()
            {}
        }
        while let Some(request) = self.stack.tcp.read(id) {
            self.stack.tcp.consume(id, request.len() as u32);
            let _ = self.stack.tcp.send(id, self.answer.clone());
            if self.closes {
                self.stack.tcp.shutdown(id);
            }
        }
    }

    /// As [`Engine::pass`]; gives the cycles that it took.
    pub fn timed_pass(&mut self) -> u64 {
        let t0 = cycles();
        self.pass();
        cycles() - t0
    }

    /// Takes what was sent, and gives how many segments carried an answer.
    pub fn take_sent(&mut self) -> usize {
        let mut answers = 0;
        while let Some(p) = self.tx[0].pop() {
            let h = p.head();
            if h[30] != 10 {
                continue; // The answer to a SYN of nobody.
            }
            let client = u32::from(h[33]);
            let port = u32::from(u16::from_be_bytes([h[36], h[37]]));
            let i = (client - 2) * PER_ADDRESS + (port - FIRST_PORT);
            let seq = u32::from_be_bytes([h[38], h[39], h[40], h[41]]);
            let len = (p.total_len() - 34) as u32 - u32::from(h[46] >> 4) * 4;
            let ends = u32::from(h[47] >> 1 & 1) + u32::from(h[47] & 1);
            self.peers[i as usize].rcv = seq.wrapping_add(len + ends);
            answers += usize::from(len == ANSWER_BYTES as u32);
        }
        answers
    }

    /// Cells of the receive pool that no connection holds.
    pub fn rx_free(&self) -> u32 {
        self.rx_pool.free_count()
    }

    pub fn rx_cells(&self) -> u32 {
        self.rx_pool.capacity()
    }

    /// A frame of connection `i`'s that carries nothing new.
    pub fn ack(&self, i: usize) -> Vec<u8> {
        let mut frame = vec![0; HEADERS];
        self.write(i, 16, &[], &mut frame);
        frame
    }

    fn receive(&mut self, i: usize, bits: u8, payload: &[u8]) {
        let mut p = self.rx_pool.alloc().expect("receive cells");
        let len = HEADERS + payload.len();
        self.write(i, bits, payload, &mut p.room_mut()[..len]);
        p.set_len(len);
        let m = p.meta_mut();
        m.arrival = self.now;
        m.port = 0;
        if self.offload {
            m.flags.set(RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK);
        }
        self.rx.push(p);
    }

    fn write(&self, i: usize, bits: u8, payload: &[u8], room: &mut [u8]) {
        let len = room.len();
        let Peer { snd, rcv } = self.peers[i];
        let (client, port) = (i as u32 / PER_ADDRESS + 2, (FIRST_PORT + i as u32 % PER_ADDRESS) as u16);
        room[..6].copy_from_slice(&NODE_MAC);
        room[6..12].copy_from_slice(&PEER_MAC);
        room[12..26].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        room[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
        room[26..30].copy_from_slice(&[10, 0, 0, client as u8]);
        room[30..34].copy_from_slice(&NODE_IP);
        room[34..36].copy_from_slice(&port.to_be_bytes());
        room[36..38].copy_from_slice(&PORT.to_be_bytes());
        room[38..42].copy_from_slice(&snd.to_be_bytes());
        room[42..46].copy_from_slice(&rcv.to_be_bytes());
        let offset = if bits == 2 { 0x60 } else { 0x50 };
        room[46..54].copy_from_slice(&[offset, bits, 0xff, 0xff, 0, 0, 0, 0]);
        room[54..].copy_from_slice(payload);
        if !self.offload {
            fill_checksums(room);
        }
    }
}

fn fill_checksums(frame: &mut [u8]) {
    let c = stack::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&c.to_be_bytes());
    let mut s = Sum::default();
    s.add_pseudo(&frame[26..30], &frame[30..34], 6, frame.len() - 34);
    s.add(&frame[34..]);
    let c = s.finish();
    frame[50..52].copy_from_slice(&c.to_be_bytes());
}
