//! Clients and an origin for a node in memory, byte streams under a virtual clock: enough of TCP for a wire that loses
//! and reorders nothing. Several cores are turned one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::Time;
use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::Segment;
use dataplane::port::mem::WireEnd;
use millrace::node::NodePipeline;

use super::{
    CLIENT_IP, NODE_IP, NODE_IP6, NODE_MAC, NODE_PORT, ORIGIN_IP, ORIGIN_PORT, PEER_MAC, UNIX_NS_AT_START,
};

const FIRST_PORT: u16 = 10_000;
const PORTS: usize = 50_000;
const SEGMENT: usize = 1460;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What the origin does about a request.
pub enum Act {
    /// Sends this, and then ends the connection or does not.
    Send(Vec<u8>, bool),
    /// Ends the connection.
    Close,
    /// Nothing for now: whoever turns the world says more to the port.
    Hold,
}

/// What the origin saw: the node's port, and the head.
pub type Asked = (u16, String);

/// What an address of the origin does with a SYN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Refuses,
    Silent,
    /// Answers after so long.
    Slow(u64),
}

/// One end of a connection.
#[derive(Default)]
struct End {
    /// The origin's address; `None`: the one that all have.
    at: Option<IpAddr>,
    snd: u32,
    una: u32,
    window: u32,
    rcv: u32,
    open: bool,
    out: VecDeque<u8>,
    /// To be sent when `out` is empty.
    fin: bool,
    owes_ack: bool,
    /// What has come and was not taken.
    input: Vec<u8>,
    ended: bool,
    reset: bool,
    /// We have nothing to do with it any more.
    gone: bool,
    /// Acknowledges nothing that comes: a client that has stopped reading.
    deaf: bool,
    /// Bytes for which there is room, of a client that reads slowly; of others, there is always room.
    room: Option<u32>,
}

/// A node and everyone around it.
pub struct Peers {
    pub cores: Vec<Core<NodePipeline>>,
    pub segment: Arc<Segment>,
    pub now: Time,
    /// The origin refuses connections.
    pub refuses: bool,
    /// The origin does not even do that.
    pub silent: bool,
    /// The same for one of its addresses.
    pub ways: BTreeMap<IpAddr, Way>,
    /// The origin's addresses that SYNs came to, with the node's port, and when.
    pub syns: Vec<(Time, IpAddr, u16)>,
    /// SYNs that are answered later.
    late: Vec<(Time, u16)>,
    wires: Vec<WireEnd>,
    clients: BTreeMap<u16, End>,
    origins: BTreeMap<u16, End>,
    next: usize,
}

impl Peers {
    pub fn new(cores: Vec<Core<NodePipeline>>, wires: Vec<WireEnd>, segment: Arc<Segment>) -> Peers {
        Peers {
            cores,
            segment,
            now: Time(10_000_000),
            refuses: false,
            silent: false,
            ways: BTreeMap::new(),
            syns: Vec::new(),
            late: Vec::new(),
            wires,
            clients: BTreeMap::new(),
            origins: BTreeMap::new(),
            next: 0,
        }
    }

    pub fn unix_s(&self) -> u64 {
        (UNIX_NS_AT_START + self.now.0) / 1_000_000_000
    }

    /// A new client; its first bytes go when the connection is there.
    pub fn connect(&mut self, bytes: &[u8]) -> u16 {
        let port = FIRST_PORT + (self.next % PORTS) as u16;
        let snd = (self.next as u32).wrapping_mul(100_000) + 77;
        self.next += 1;
        let end = End { snd, una: snd, out: bytes.iter().copied().collect(), ..End::default() };
        self.clients.insert(port, end);
        self.frame(false, port, SYN, &[]);
        self.end(false, port).snd = snd.wrapping_add(1);
        port
    }

    pub fn client_sends(&mut self, port: u16, bytes: &[u8]) {
        self.end(false, port).out.extend(bytes);
    }

    /// What a client has got and was not taken; whether it ended in order, and whether it was reset.
    pub fn client_got(&mut self, port: u16) -> (&mut Vec<u8>, bool, bool) {
        let c = self.end(false, port);
        (&mut c.input, c.ended, c.reset)
    }

    /// A client that goes away without a word of farewell.
    pub fn client_resets(&mut self, port: u16) {
        if !self.end(false, port).reset {
            self.frame(false, port, RST | ACK, &[]);
        }
        self.clients.remove(&port);
    }

    /// Whether it is there: not reset by itself.
    pub fn has_client(&self, port: u16) -> bool {
        self.clients.contains_key(&port)
    }

    pub fn client_stops_reading(&mut self, port: u16) {
        self.end(false, port).deaf = true;
    }

    /// A client that has room for so much, and for more only when it is [given](Peers::client_reads).
    pub fn connect_slow(&mut self, bytes: &[u8], room: u32) -> u16 {
        let port = self.connect(bytes);
        self.end(false, port).room = Some(room);
        port
    }

    /// A slow client takes so much more.
    pub fn client_reads(&mut self, port: u16, n: u32) {
        let e = self.end(false, port);
        e.room = e.room.map(|r| r.saturating_add(n).min(0xffff));
        e.owes_ack = e.open;
    }

    pub fn origin_sends(&mut self, port: u16, bytes: &[u8]) {
        self.end(true, port).out.extend(bytes);
    }

    pub fn origin_closes(&mut self, port: u16) {
        self.end(true, port).fin = true;
    }

    pub fn origin_resets(&mut self, port: u16) {
        self.frame(true, port, RST | ACK, &[]);
        self.end(true, port).gone = true;
    }

    /// The origin breaks off all of its connections.
    pub fn origin_resets_all(&mut self) {
        let ports: Vec<u16> =
            self.origins.iter().filter(|(_, e)| !e.gone && !e.reset).map(|(p, _)| *p).collect();
        for port in ports {
            self.origin_resets(port);
        }
    }

    /// Whether the node has let go of a connection to the origin.
    pub fn origin_is_left(&mut self, port: u16) -> bool {
        let e = self.end(true, port);
        e.ended || e.reset
    }

    fn end(&mut self, origin: bool, port: u16) -> &mut End {
        let all = if origin { &mut self.origins } else { &mut self.clients };
        all.entry(port).or_default()
    }

    /// One pass of each core, a microsecond later, and of everyone around. Gives whether anything happened.
    pub fn pass(&mut self, origin: &mut dyn FnMut(&Asked, u64) -> Act) -> bool {
        self.now = self.now.plus_ns(1_000);
        let mut busy = false;
        for c in &mut self.cores {
            busy |= c.pass(self.now);
        }
        for w in 0..self.wires.len() {
            // Less than the wire holds, so that it has room for the answers.
            for _ in 0..512 {
                let Some(frame) = self.wires[w].recv_with(<[u8]>::to_vec) else { break };
                busy = true;
                self.take(&frame);
            }
        }
        while let Some(i) = self.late.iter().position(|(due, _)| *due <= self.now) {
            busy = true;
            let (_, port) = self.late.swap_remove(i);
            if !self.end(true, port).reset {
                self.accept(port);
            }
        }
        busy |= self.serve(origin);
        busy |= self.flush(false);
        busy |= self.flush(true);
        busy
    }

    /// Until nothing happens any more without time going by.
    pub fn settle(&mut self, origin: &mut dyn FnMut(&Asked, u64) -> Act) {
        let mut idle = 0;
        for _ in 0..2_000_000 {
            idle = if self.pass(origin) { 0 } else { idle + 1 };
            if idle == 4 {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    /// Lets time go by up to then.
    pub fn until(&mut self, then: Time, origin: &mut dyn FnMut(&Asked, u64) -> Act) {
        self.settle(origin);
        while let Some(t) = self.deadline().filter(|t| *t < then) {
            self.now = t.max(self.now);
            self.settle(origin);
        }
        self.now = then.max(self.now);
        self.settle(origin);
    }

    /// When the node has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        let late = self.late.iter().map(|(due, _)| *due);
        self.cores.iter().filter_map(|c| c.pipeline.next_deadline()).chain(late).min()
    }

    /// The origin hears what has come.
    fn serve(&mut self, origin: &mut dyn FnMut(&Asked, u64) -> Act) -> bool {
        let unix_s = self.unix_s();
        let mut busy = false;
        for (port, e) in &mut self.origins {
            while let Some((head, n)) = request_in(&e.input) {
                busy = true;
                e.input.drain(..n);
                match origin(&(*port, head), unix_s) {
                    Act::Send(bytes, ends) => {
                        e.out.extend(bytes);
                        e.fin |= ends;
                    }
                    Act::Close => e.fin = true,
                    Act::Hold => {}
                }
            }
        }
        busy
    }

    /// Sends what may be sent.
    fn flush(&mut self, origin: bool) -> bool {
        let all = if origin { &mut self.origins } else { &mut self.clients };
        let mut frames: Vec<(u16, u8, Vec<u8>)> = Vec::new();
        for (port, e) in all.iter_mut().filter(|(_, e)| e.open && !e.gone && !e.reset) {
            let mut in_flight = e.snd.wrapping_sub(e.una);
            while !e.out.is_empty() && frames.len() < 512 {
                let n = e.out.len().min(SEGMENT).min(e.window.saturating_sub(in_flight) as usize);
                if n == 0 {
                    break;
                }
                frames.push((*port, ACK | 8, e.out.drain(..n).collect()));
                in_flight += n as u32;
                e.owes_ack = false;
            }
            if e.fin && e.out.is_empty() {
                frames.push((*port, ACK | FIN, Vec::new()));
                (e.fin, e.gone, e.owes_ack) = (false, true, false);
            } else if std::mem::take(&mut e.owes_ack) && !e.deaf {
                frames.push((*port, ACK, Vec::new()));
            }
        }
        let busy = !frames.is_empty();
        for (port, bits, payload) in frames {
            self.frame(origin, port, bits, &payload);
            let e = self.end(origin, port);
            e.snd = e.snd.wrapping_add(payload.len() as u32 + u32::from(bits & FIN));
        }
        busy
    }

    fn take(&mut self, f: &[u8]) {
        let ip = &f[14..];
        let number = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
        let is_v6 = ip[0] >> 4 == 6;
        let (to, t): (IpAddr, &[u8]) = if is_v6 {
            let to: [u8; 16] = ip[24..40].try_into().expect("an address");
            (to.into(), &ip[40..40 + number(4)])
        } else {
            let to: [u8; 4] = ip[16..20].try_into().expect("an address");
            (to.into(), &ip[20..number(2)])
        };
        let (sport, dport) = (u16::from_be_bytes([t[0], t[1]]), u16::from_be_bytes([t[2], t[3]]));
        let seq = u32::from_be_bytes([t[4], t[5], t[6], t[7]]);
        let ack = u32::from_be_bytes([t[8], t[9], t[10], t[11]]);
        let window = u32::from(u16::from_be_bytes([t[14], t[15]]));
        let (bits, payload) = (t[13], &t[usize::from(t[12] >> 4) * 4..]);
        let origin = to != IpAddr::from(CLIENT_IP);
        let port = if origin { sport } else { dport };
        if origin && bits & SYN != 0 {
            let way = self.ways.get(&to).copied();
            self.syns.push((self.now, to, port));
            if self.silent || way == Some(Way::Silent) {
                return;
            }
            let rcv = seq.wrapping_add(1);
            let e = End { at: Some(to), snd: 7000, una: 7000, rcv, window, ..End::default() };
            self.origins.insert(port, e);
            match way {
                _ if self.refuses => self.refuse(port),
                Some(Way::Refuses) => self.refuse(port),
                Some(Way::Slow(ns)) => self.late.push((self.now.plus_ns(ns), port)),
                _ => self.accept(port),
            }
            return;
        }
        let all = if origin { &mut self.origins } else { &mut self.clients };
        let Some(e) = all.get_mut(&port) else { return };
        if bits & RST != 0 {
            e.reset = true;
            return;
        }
        if bits & SYN != 0 {
            e.rcv = seq.wrapping_add(1);
            (e.open, e.una, e.window, e.owes_ack) = (true, ack, window, true);
            return;
        }
        if bits & ACK != 0 {
            (e.una, e.window) = (ack, window);
        }
        if e.deaf {
            return;
        }
        if seq == e.rcv {
            e.input.extend(payload);
            e.room = e.room.map(|r| r.saturating_sub(payload.len() as u32));
            e.rcv = seq.wrapping_add(payload.len() as u32 + u32::from(bits & FIN));
            if bits & FIN != 0 {
                e.ended = true;
                // The origin ends its half as well; clients decide for themselves.
                e.fin |= origin;
            }
        }
        e.owes_ack |= !payload.is_empty() || bits & FIN != 0;
    }

    fn refuse(&mut self, port: u16) {
        self.end(true, port).gone = true;
        self.frame(true, port, RST | ACK, &[]);
    }

    fn accept(&mut self, port: u16) {
        self.end(true, port).open = true;
        self.frame(true, port, SYN | ACK, &[]);
        self.end(true, port).snd += 1;
    }

    fn frame(&mut self, from_origin: bool, port: u16, bits: u8, payload: &[u8]) {
        let (sport, dport) = if from_origin { (ORIGIN_PORT, port) } else { (port, NODE_PORT) };
        let wire = usize::from(port) % self.wires.len();
        let e = self.end(from_origin, port);
        let (snd, rcv) = (e.snd, e.rcv);
        let window = e.room.map_or(u16::MAX, |r| r.min(0xffff) as u16);
        let (src, six) = match e.at {
            Some(IpAddr::V6(at)) => ([0; 4], Some(at)),
            Some(IpAddr::V4(at)) => (at.octets(), None),
            None => (if from_origin { ORIGIN_IP } else { CLIENT_IP }, None),
        };
        let options: &[u8] = if bits & SYN != 0 { &[2, 4, 5, 0xb4] } else { &[] };
        let ok = self.wires[wire].send_with(|b| {
            let tcp_len = 20 + options.len() + payload.len();
            let ip_len = if six.is_some() { 40 } else { 20 };
            let len = ip_len + tcp_len;
            b[..6].copy_from_slice(&NODE_MAC);
            b[6..12].copy_from_slice(&PEER_MAC);
            let ip = &mut b[14..];
            if let Some(at) = six {
                ip[..8].copy_from_slice(&[0x60, 0, 0, 0, (tcp_len >> 8) as u8, tcp_len as u8, 6, 64]);
                ip[8..24].copy_from_slice(&at.octets());
                ip[24..40].copy_from_slice(&NODE_IP6.octets());
            } else {
                ip[..12].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]);
                ip[12..16].copy_from_slice(&src);
                ip[16..20].copy_from_slice(&NODE_IP);
            }
            b[12..14].copy_from_slice(if six.is_some() { &[0x86, 0xdd] } else { &[8, 0] });
            let t = &mut b[14 + ip_len..];
            t[..2].copy_from_slice(&sport.to_be_bytes());
            t[2..4].copy_from_slice(&dport.to_be_bytes());
            t[4..8].copy_from_slice(&snd.to_be_bytes());
            t[8..12].copy_from_slice(&rcv.to_be_bytes());
            t[12] = 0x50 + ((options.len() as u8) << 2);
            t[13] = bits;
            t[14..16].copy_from_slice(&window.to_be_bytes());
            t[16..20].copy_from_slice(&[0; 4]);
            t[20..20 + options.len()].copy_from_slice(options);
            t[20 + options.len()..][..payload.len()].copy_from_slice(payload);
            Some(14 + len)
        });
        assert!(ok, "the wire is full");
    }
}

/// The first request that is whole, as its head, and its length with the body.
fn request_in(input: &[u8]) -> Option<(String, usize)> {
    let at = input.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..at]).into_owned();
    let length = |l: &str| {
        let (n, v) = l.split_once(':')?;
        n.eq_ignore_ascii_case("content-length").then(|| v.trim().parse::<usize>().ok())?
    };
    let n = at + head.lines().find_map(length).unwrap_or(0);
    (input.len() >= n).then_some((head, n))
}
