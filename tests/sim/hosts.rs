//! The simulated machines: one with our own stack, one with smoltcp's; both run sessions.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dataplane::buf::CellWriter;
use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::Segment;
use dataplane::port::mem::{MemPort, WireEnd};
use dataplane::{Burst, Counters, Pool, Time, TxQueue};
use hugepages::{Arena, Limits, PagePolicy};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use stack::neigh::Neighbours;
use stack::{CloseReason, Events, FlowId, Iface, Net, Stack, Tcp, TcpConfig, Udp};

use super::http::{Intent, Origin, Session};

/// A machine's place on its link.
#[derive(Clone, Copy)]
pub struct Place {
    pub mac: [u8; 6],
    pub v4: [u8; 4],
    pub v6: [u16; 8],
}

impl Place {
    /// Host `host` on link `link`.
    pub fn new(link: u8, host: u8) -> Place {
        Place {
            mac: [2, 0, 0, 0, link, host],
            v4: [10, link, 0, host],
            v6: [0xfd00 + u16::from(link), 0, 0, 0, 0, 0, 0, host.into()],
        }
    }

    pub fn ip(&self, v6: bool) -> IpAddr {
        if v6 { IpAddr::from(self.v6) } else { IpAddr::from(self.v4) }
    }

    pub fn iface(&self) -> Iface {
        let mut i = Iface::new(self.mac, 1500);
        i.add(self.ip(false), 24);
        i.add(self.ip(true), 64);
        i
    }
}

/// Sessions on our own stack: the pipeline of a [`Core`].
pub struct App {
    pub stack: Stack,
    sessions: Vec<(FlowId, Box<dyn Session>, bool)>,
    /// Sessions that are over.
    pub results: Vec<Result<(), String>>,
    payload: Pool,
}

impl App {
    fn find(&self, id: FlowId) -> Option<usize> {
        self.sessions.iter().position(|(f, _, _)| *f == id)
    }

    fn serve(&mut self, k: usize, now: Time) {
        let (id, s, shut) = &mut self.sessions[k];
        let tcp = &mut self.stack.tcp;
        while s.reads(now) {
            let Some(piece) = tcp.read(*id) else { break };
            s.input(&piece, now);
            tcp.consume(*id, piece.len() as u32);
        }
        if tcp.at_end(*id) {
            s.eof();
        }
        while tcp.queued(*id) < 64 << 10 {
            let bytes = s.output(1400);
            if bytes.is_empty() {
                break;
            }
            let mut w = CellWriter::default();
            assert!(w.reserve(bytes.len(), &self.payload), "the host's own pool is large enough");
            w.put(&bytes);
            tcp.send(*id, w.take().expect("written")).expect("the host's own records are enough");
        }
        match s.intent() {
            Intent::Fin if !*shut => {
                *shut = true;
                tcp.shutdown(*id);
            }
            _ => {}
        }
        if s.intent() == Intent::Abort {
            let id = *id;
            s.closed(true);
            self.results.push(s.verdict().unwrap_or(Ok(())));
            self.stack.tcp.abort(id);
            self.sessions.swap_remove(k);
        }
    }
}

impl Pipeline for App {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.stack.input(rx, tx, now);
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let mut ran = self.stack.timers(tx, now);
        while let Some((id, ev)) = self.stack.tcp.next_event() {
            ran = true;
            if ev.has(Events::ACCEPTED) {
                // A RST can be lost: without probes its connection would stay for ever.
                self.stack.tcp.set_keep_alive(id, now);
                self.sessions.push((id, Box::new(Origin::default()), false));
            }
            let Some(k) = self.find(id) else { continue };
            if ev.has(Events::CLOSED) {
                while let Some(piece) = self.stack.tcp.read(id) {
                    self.sessions[k].1.input(&piece, now);
                }
                let reset = self.stack.tcp.close_reason(id) != CloseReason::Done;
                if !reset {
                    self.sessions[k].1.eof();
                }
                let (_, mut s, _) = self.sessions.swap_remove(k);
                s.closed(reset);
                self.results.push(s.verdict().unwrap_or_else(|| Err("no verdict".into())));
                self.stack.tcp.release(id);
            } else {
                self.serve(k, now);
            }
        }
        let due: Vec<FlowId> = self
            .sessions
            .iter()
            .filter(|(_, s, _)| s.wake().is_some_and(|t| t <= now))
            .map(|(f, _, _)| *f)
            .collect();
        for id in due {
            if let Some(k) = self.find(id)
                && self.stack.tcp.is_readable(id)
            {
                self.serve(k, now);
                ran = true;
            }
        }
        ran | self.stack.output(tx, now)
    }

    fn next_deadline(&self) -> Option<Time> {
        let wake = self
            .sessions
            .iter()
            .filter(|(f, _, _)| self.stack.tcp.is_readable(*f))
            .filter_map(|(_, s, _)| s.wake())
            .min();
        [self.stack.next_deadline(), wake].into_iter().flatten().min()
    }
}

/// A machine with our stack.
pub struct OwnHost {
    pub core: Core<App>,
    pub segment: Arc<Segment>,
    pools: Vec<Pool>,
}

impl OwnHost {
    pub fn new(place: Place, end: WireEnd, seed: u64) -> OwnHost {
        let mut l = Limits::for_core_memory(24 << 20);
        l.flows = 512;
        l.half_open = 256;
        l.time_wait = 4096;
        l.send_records = 16_384;
        let pool = |name, n, bytes| Pool::reserve(name, n, bytes, PagePolicy::NormalOnly).unwrap();
        let (rx, headers, payload) =
            (pool("rx", l.rx_cells, 2048), pool("header", 4096, 256), pool("payload", 8192, 2048));
        let segment = Segment::in_memory(1);
        let c: Counters = segment.writer(0);
        let net = Net::new(vec![place.iface()], Neighbours::new(16), headers.clone(), c.clone());
        let mut arena = Arena::reserve(Tcp::cost(&l), PagePolicy::NormalOnly).unwrap();
        let config = TcpConfig::new([seed, 2, 3, 4], &l);
        let tcp = Tcp::new(&l, &mut arena, config, rx.clone(), c.clone()).unwrap();
        let stack = Stack::new(net, tcp, Udp::new(4), c.clone());
        let app = App { stack, sessions: Vec::new(), results: Vec::new(), payload: payload.clone() };
        let port = MemPort::new(end, rx.clone(), place.mac, 1500, 0);
        let core = Core::new(vec![Box::new(port)], app, c, 1024);
        OwnHost { core, segment, pools: vec![rx, headers, payload] }
    }

    pub fn listen(&mut self, port: u16) {
        self.core.pipeline.stack.tcp.listen(None, port).expect("room for a listener");
    }

    pub fn connect(&mut self, to: SocketAddr, c: Box<dyn Session>, now: Time) {
        let app = &mut self.core.pipeline;
        let id = app.stack.tcp.connect(&app.stack.net, to, now).expect("a way to the edge");
        app.stack.tcp.set_keep_alive(id, now);
        app.sessions.push((id, c, false));
    }

    pub fn open(&self) -> usize {
        self.core.pipeline.sessions.len()
    }

    /// What is not back in its pool.
    pub fn leaks(&self) -> Option<String> {
        let app = &self.core.pipeline;
        let (flows, records) = app.stack.tcp.in_use();
        let pools = self.pools.iter().map(Pool::stats).find(|p| p.free != p.capacity);
        (flows + records > 0 || pools.is_some())
            .then(|| format!("{flows} flows, {records} records, {pools:?}"))
    }
}

// ── smoltcp ─────────────────────────────────────────────────────────────────────────────────────────────

struct Wire<'a>(&'a WireEnd);
struct Rx(Vec<u8>);
struct Tx<'a>(&'a WireEnd);

impl Device for Wire<'_> {
    type RxToken<'b>
        = Rx
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.0.recv_with(<[u8]>::to_vec)?;
        Some((Rx(frame), Tx(self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        self.0.can_send().then_some(Tx(self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        c.medium = Medium::Ethernet;
        c.max_transmission_unit = 1514;
        c
    }
}

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let r = f(&mut frame);
        self.0.send(&frame);
        r
    }
}

/// A machine with smoltcp's stack: clients only.
pub struct SmolHost {
    wire: WireEnd,
    iface: Interface,
    sockets: SocketSet<'static>,
    sessions: Vec<(SocketHandle, Box<dyn Session>, bool)>,
    waiting: VecDeque<(SocketAddr, Box<dyn Session>)>,
    pub results: Vec<Result<(), String>>,
    ip: Place,
    next_port: u16,
}

/// Below 64 KiB: DESIGN.md 11.
const RING: usize = 32 << 10;

impl SmolHost {
    pub fn new(place: Place, wire: WireEnd, seed: u64) -> SmolHost {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(place.mac)));
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut Wire(&wire), Instant::ZERO);
        iface.update_ip_addrs(|a| {
            let _ = a.push(IpCidr::new(place.ip(false).into(), 24));
            let _ = a.push(IpCidr::new(place.ip(true).into(), 64));
        });
        SmolHost {
            wire,
            iface,
            sockets: SocketSet::new(Vec::new()),
            sessions: Vec::new(),
            waiting: VecDeque::new(),
            results: Vec::new(),
            ip: place,
            next_port: 40_000,
        }
    }

    pub fn connect(&mut self, to: SocketAddr, c: Box<dyn Session>) {
        self.waiting.push_back((to, c));
    }

    pub fn open(&self) -> usize {
        self.sessions.len() + self.waiting.len()
    }

    fn time(now: Time) -> Instant {
        Instant::from_micros((now.0 / 1000) as i64)
    }

    fn start(&mut self) {
        while let Some((to, c)) = self.waiting.pop_front() {
            let ring = || tcp::SocketBuffer::new(vec![0; RING]);
            let mut s = tcp::Socket::new(ring(), ring());
            s.set_nagle_enabled(false);
            s.set_ack_delay(Some(Duration::from_millis(10)));
            self.next_port += 1;
            let local = (self.ip.ip(to.is_ipv6()), self.next_port);
            s.connect(self.iface.context(), to, local).expect("a fresh socket");
            self.sessions.push((self.sockets.add(s), c, false));
        }
    }

    pub fn pass(&mut self, now: Time) -> bool {
        self.start();
        let polled = self.iface.poll(Self::time(now), &mut Wire(&self.wire), &mut self.sockets);
        let mut busy = polled == smoltcp::iface::PollResult::SocketStateChanged;
        let mut k = 0;
        while k < self.sessions.len() {
            let (h, c, shut) = &mut self.sessions[k];
            let s = self.sockets.get_mut::<tcp::Socket>(*h);
            while s.can_recv() && c.reads(now) {
                let got = s.recv(|b| (b.len(), b.to_vec())).expect("can receive");
                c.input(&got, now);
                busy = true;
            }
            if s.state() == tcp::State::CloseWait && !s.can_recv() {
                c.eof();
            }
            while s.can_send() {
                let room = (s.send_capacity() - s.send_queue()).min(4096);
                let bytes = c.output(room);
                if bytes.is_empty() {
                    break;
                }
                assert_eq!(s.send_slice(&bytes), Ok(bytes.len()));
                busy = true;
            }
            match c.intent() {
                Intent::Abort if s.is_open() => {
                    s.abort();
                    busy = true;
                }
                Intent::Fin if !*shut => {
                    *shut = true;
                    s.close();
                    busy = true;
                }
                _ => {}
            }
            let over = matches!(s.state(), tcp::State::Closed | tcp::State::TimeWait) && !s.can_recv();
            // After abort the RST has to be polled out first.
            if over && polled == smoltcp::iface::PollResult::None {
                let reset = s.state() == tcp::State::Closed && !*shut;
                let (h, mut c, _) = self.sessions.swap_remove(k);
                if !reset {
                    c.eof();
                }
                c.closed(reset);
                self.results.push(c.verdict().unwrap_or_else(|| Err("no verdict".into())));
                if self.sockets.get::<tcp::Socket>(h).state() == tcp::State::Closed {
                    self.sockets.remove(h);
                }
                busy = true;
                continue;
            }
            k += 1;
        }
        busy
    }

    pub fn next_deadline(&mut self, now: Time) -> Option<Time> {
        let poll =
            self.iface.poll_at(Self::time(now), &self.sockets).map(|t| Time(t.total_micros() as u64 * 1000));
        let wake = self.sessions.iter().filter_map(|(_, c, _)| c.wake()).filter(|t| *t > now).min();
        [poll, wake].into_iter().flatten().min()
    }
}
