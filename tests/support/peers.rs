//! Clients and an origin for a node in memory, byte streams under a virtual clock, with just enough of TCP ([`End`]).
//! Wires are perfect, or have links in them that are not ([`Peers::over`]). Several cores are turned one after the
//! other.

pub mod end;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::Time;
use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::Segment;
use dataplane::port::link::{Link, LinkStats};
use dataplane::port::mem::WireEnd;
use millrace::node::NodePipeline;

use super::{
    CLIENT_IP, NODE_IP, NODE_IP6, NODE_MAC, NODE_PORT, ORIGIN_IP, ORIGIN_PORT, PEER_MAC, UNIX_NS_AT_START,
};
use end::{ACK, End, RST, SYN, Segment as Seg};

const FIRST_PORT: u16 = 10_000;
const PORTS: usize = 50_000;
const SEGMENT: usize = 1460;
/// Frames that a wire keeps free for SYN, ACK and RST.
const WIRE_RESERVE: usize = 512;
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
    /// One in each wire, or none.
    links: Vec<Link>,
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
            links: Vec::new(),
            clients: BTreeMap::new(),
            origins: BTreeMap::new(),
            next: 0,
        }
    }

    /// The same, with a link in each wire. What these lose is sent again.
    pub fn over(mut self, links: Vec<Link>) -> Peers {
        assert_eq!(links.len(), self.wires.len());
        self.links = links;
        self
    }

    pub fn unix_s(&self) -> u64 {
        (UNIX_NS_AT_START + self.now.0) / 1_000_000_000
    }

    /// A new client; its first bytes go when the connection is there.
    pub fn connect(&mut self, bytes: &[u8]) -> u16 {
        let port = FIRST_PORT + (self.next % PORTS) as u16;
        let snd = (self.next as u32).wrapping_mul(100_000) + 77;
        self.next += 1;
        let mut end = End::new(snd);
        end.out.extend(bytes);
        self.clients.insert(port, end);
        self.frame(false, port, SYN, &[]);
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

    /// The client ends its side, behind what it sends.
    pub fn client_closes(&mut self, port: u16) {
        self.end(false, port).fin = true;
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

    pub fn client_reads_again(&mut self, port: u16) {
        self.end(false, port).deaf = false;
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

    /// What has come for the origin on a connection, for who reads it himself.
    pub fn origin_takes(&mut self, port: u16) -> Vec<u8> {
        std::mem::take(&mut self.end(true, port).input)
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
        self.carry();
        for c in &mut self.cores {
            busy |= c.pass(self.now);
        }
        self.carry();
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

    /// What the first link has done to frames, towards the node and away from it.
    pub fn link_stats(&self) -> (LinkStats, LinkStats) {
        self.links.first().map(Link::stats).unwrap_or_default()
    }

    fn carry(&mut self) {
        self.links.iter_mut().for_each(|l| l.step(self.now));
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

    /// When the node, or somebody around it, has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        let late = self.late.iter().map(|(due, _)| *due);
        let node = self.cores.iter().filter_map(|c| c.pipeline.next_deadline());
        let links = self.links.iter().filter_map(Link::next_due);
        let ends = self.clients.values().chain(self.origins.values());
        node.chain(late).chain(links).chain(ends.filter_map(|e| e.due)).min()
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
        let (now, lossy) = (self.now, !self.links.is_empty());
        let mut room = self.wires.iter().map(WireEnd::room).min().unwrap_or(0).saturating_sub(WIRE_RESERVE);
        room = room.min(512);
        let all = if origin { &mut self.origins } else { &mut self.clients };
        let mut frames: Vec<(u16, Seg)> = Vec::new();
        for (port, e) in all.iter_mut().filter(|(_, e)| !e.gone && !e.reset) {
            e.flush(SEGMENT, lossy, room, |s| {
                room = room.saturating_sub(1);
                frames.push((*port, s));
            });
            if lossy {
                e.again(now, SEGMENT, origin, |s| frames.push((*port, s)));
            }
        }
        let busy = !frames.is_empty();
        for (port, s) in frames {
            self.put(origin, port, &s);
        }
        busy
    }

    fn take(&mut self, f: &[u8]) {
        let lossy = !self.links.is_empty();
        let Some((src, dst, s)) = end::read(f, lossy) else { return };
        let (to, origin) = (dst.0, dst.0 != IpAddr::from(CLIENT_IP));
        let port = if origin { src.1 } else { dst.1 };
        if origin && s.bits & SYN != 0 {
            let rcv = s.seq.wrapping_add(1);
            if self.origins.get(&port).is_some_and(|e| e.at == Some(to) && e.rcv == rcv) {
                // It is under way, or is answered already and the answer will be sent again.
                return;
            }
            let way = self.ways.get(&to).copied();
            self.syns.push((self.now, to, port));
            if self.silent || way == Some(Way::Silent) {
                return;
            }
            let mut e = End::new(7000);
            (e.at, e.rcv, e.window) = (Some(to), rcv, s.window);
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
        let Some(e) = all.get_mut(&port) else {
            if lossy && s.bits & RST == 0 {
                // Our farewell was lost.
                let reset =
                    Seg { seq: s.ack, ack: s.seq.wrapping_add(s.room()), bits: RST | ACK, ..Seg::default() };
                self.put(origin, port, &reset);
            }
            return;
        };
        let refused = e.take(&s, origin, lossy);
        if refused {
            self.frame(origin, port, RST | ACK, &[]);
        }
    }

    fn refuse(&mut self, port: u16) {
        self.end(true, port).gone = true;
        self.frame(true, port, RST | ACK, &[]);
    }

    fn accept(&mut self, port: u16) {
        self.end(true, port).open = true;
        self.frame(true, port, SYN | ACK, &[]);
    }

    /// Sends a segment of this connection, at the place where it is.
    fn frame(&mut self, from_origin: bool, port: u16, bits: u8, payload: &[u8]) {
        let s = self.end(from_origin, port).segment(bits, payload.to_vec());
        self.put(from_origin, port, &s);
    }

    fn put(&mut self, from_origin: bool, port: u16, s: &Seg) {
        let (from, sport, dport) = match from_origin {
            true => (self.end(true, port).at.unwrap_or(ORIGIN_IP.into()), ORIGIN_PORT, port),
            false => (CLIENT_IP.into(), port, NODE_PORT),
        };
        let to = if from.is_ipv6() { NODE_IP6.into() } else { NODE_IP.into() };
        let wire = usize::from(port) % self.wires.len();
        let sums = !self.links.is_empty();
        let ok = self.wires[wire].send_with(|b| {
            b[..6].copy_from_slice(&NODE_MAC);
            b[6..12].copy_from_slice(&PEER_MAC);
            Some(end::write(b, (from, sport), (to, dport), s, sums))
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
