//! A host with our stack, under the core loop, and an application that follows plans.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dataplane::buf::CellWriter;
use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::{Segment, Snapshot};
use dataplane::port::mem::{MemPort, WireEnd};
use dataplane::{Burst, Counters, Ctr, Pool, Port, Time, TxQueue};
use hugepages::{Arena, Limits, PagePolicy};
use stack::neigh::Neighbours;
use stack::tcp::RecordId;
use stack::{ConnectError, Events, FlowId, Iface, Net, Stack, Tcp, TcpConfig, Udp};

use super::cutter::{Cutter, TSO_BYTES_MAX};
use super::{Finish, Host, Outcome, Plan, Reading, byte_at};

/// One side of a connection.
pub struct Conn {
    pub id: Option<FlowId>,
    pub plan: Plan,
    pub out: Outcome,
    writer: CellWriter,
    started: Time,
    is_shut: bool,
}

/// The application: what the core's pipeline runs over the stack.
pub struct App {
    pub stack: Stack,
    pub conns: Vec<Conn>,
    /// Events that came, when the test wants to see them instead of having plans followed.
    pub manual: bool,
    pub events: Vec<(FlowId, Events)>,
    listening: Vec<Plan>,
    payload: Pool,
    /// When connections are looked after, whatever happens to them.
    pub wake: Time,
    budget: u32,
    /// The engine's invariants are looked at after each pass.
    pub audited: bool,
    /// What was sent that can be made again: its bytes are let go as soon as TCP allows. `None`: nothing is.
    forgotten: Option<Vec<Made>>,
    /// Pieces that were let go, and made again.
    pub made_again: (u64, u64),
}

/// A piece of a connection's stream.
struct Made {
    id: FlowId,
    n: usize,
    at: RecordId,
    from: u64,
    len: usize,
}

/// What can be chosen about a host.
#[derive(Clone)]
pub struct Setup {
    pub limits: Limits,
    pub mac: [u8; 6],
    pub addresses: Vec<(IpAddr, u8)>,
    pub gateway: Option<IpAddr>,
    pub mtu: u16,
    pub vlan: Option<u16>,
    pub keys: [u64; 4],
    pub tx_bound: usize,
    /// What is said of TCP.
    pub tcp: fn(&mut TcpConfig),
    /// Everybody is reached at this station: no address resolution.
    pub peer_mac: Option<[u8; 6]>,
    /// Whatever has been sent is let go, and made again if it was lost.
    pub forgets: bool,
    /// Its port cuts long frames into segments, and fills in checksums.
    pub cuts: bool,
}

impl Setup {
    /// Host number `n` (1 …) of 10.0.0.0/24 and fd00::/64.
    pub fn host(n: u8) -> Setup {
        Setup {
            limits: Limits {
                rx_cells: 1024,
                rx_reserve: 64,
                payload_cells: 512,
                head_cells: 1,
                header_cells: 1024,
                flows: 64,
                half_open: 32,
                time_wait: 64,
                send_records: 1024,
                segments: 1024,
                http_contexts: 1,
                tls_connections: 0,
                tls_per_source: 0,
                tls_contexts: 0,
                tls_handshakes: 0,
                record_cells: 0,
                neighbours: 16,
                request_budget_bytes: 256 << 10,
            },
            mac: [2, 0, 0, 0, 0, n],
            addresses: vec![
                (IpAddr::from([10, 0, 0, n]), 24),
                (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n.into()]), 64),
            ],
            gateway: None,
            mtu: 1500,
            vlan: None,
            keys: [n.into(), 2, 3, 4],
            tx_bound: 512,
            tcp: |_| {},
            peer_mac: None,
            cuts: false,
            forgets: false,
        }
    }
}

pub struct OwnHost {
    pub core: Core<App>,
    pub segment: Arc<Segment>,
    pub rx: Pool,
    pub headers: Pool,
    pub payload: Pool,
    /// Its port cuts frames: more of them reach the wire than it takes.
    pub cuts: bool,
}

impl OwnHost {
    pub fn new(setup: &Setup, end: WireEnd) -> OwnHost {
        OwnHost::on(setup, end, None)
    }

    /// A host whose addresses a kernel has too, which is at the other end of `kernel`.
    pub fn shared(setup: &Setup, end: WireEnd, kernel: WireEnd) -> OwnHost {
        OwnHost::on(setup, end, Some(kernel))
    }

    fn on(setup: &Setup, end: WireEnd, kernel: Option<WireEnd>) -> OwnHost {
        let l = &setup.limits;
        let pool = |name, cells, bytes| Pool::reserve(name, cells, bytes, PagePolicy::NormalOnly).unwrap();
        let (rx, headers) = (pool("rx", l.rx_cells, 2048), pool("headers", l.header_cells, 256));
        let payload = pool("payload", l.payload_cells, 2048);
        let segment = Segment::in_memory(1);
        let counters: Counters = segment.writer(0);
        let mut iface = Iface::new(setup.mac, setup.mtu);
        for (ip, prefix) in &setup.addresses {
            assert!(iface.add(*ip, *prefix));
        }
        if let Some(g) = setup.gateway {
            iface.gateway[usize::from(g.is_ipv6())] = Some(g.into());
        }
        iface.peer_mac = setup.peer_mac;
        if setup.cuts {
            (iface.tx_checksum_offload, iface.tso_bytes_max) = (true, TSO_BYTES_MAX);
        }
        iface.vlan = setup.vlan.unwrap_or(iface.vlan);
        let mut net =
            Net::new(vec![iface], Neighbours::new(l.neighbours as usize), headers.clone(), counters.clone());
        if kernel.is_some() {
            assert_eq!(net.share(0), Some(1));
        }
        let mut arena = Arena::reserve(Tcp::cost(l), PagePolicy::NormalOnly).unwrap();
        let mut config = TcpConfig::new(setup.keys, l);
        (setup.tcp)(&mut config);
        let tcp = Tcp::new(l, &mut arena, config, rx.clone(), counters.clone()).unwrap();
        let stack = Stack::new(net, tcp, Udp::new(16), counters.clone());
        let app = App {
            stack,
            conns: Vec::new(),
            manual: false,
            events: Vec::new(),
            listening: Vec::new(),
            payload: payload.clone(),
            wake: Time::NEVER,
            budget: 128 << 10,
            audited: true,
            forgotten: setup.forgets.then(Vec::new),
            made_again: (0, 0),
        };
        let port = |end, number| -> Box<dyn Port> {
            let port = MemPort::new(end, rx.clone(), setup.mac, setup.mtu, number);
            if setup.cuts { Box::new(Cutter::new(port)) } else { Box::new(port) }
        };
        let mut ports = vec![port(end, 0)];
        ports.extend(kernel.map(|end| port(end, 1)));
        let core = Core::new(ports, app, counters, setup.tx_bound);
        OwnHost { core, segment, rx, headers, payload, cuts: setup.cuts }
    }

    pub fn stack(&mut self) -> &mut Stack {
        &mut self.core.pipeline.stack
    }

    pub fn tcp(&mut self) -> &mut Tcp {
        &mut self.core.pipeline.stack.tcp
    }

    /// Takes connections on `port`, each of which follows `plan`.
    pub fn listen(&mut self, port: u16, plan: Plan) {
        assert!(self.tcp().listen(None, port).is_some());
        self.core.pipeline.listening.push(plan);
    }

    /// Opens a connection that follows `plan`; gives its number.
    pub fn connect(&mut self, to: SocketAddr, plan: Plan, now: Time) -> Result<usize, ConnectError> {
        let app = &mut self.core.pipeline;
        let id = app.stack.tcp.connect(&app.stack.net, to, now)?;
        Ok(app.add(id, plan, now))
    }

    /// A slice of `n` bytes of stream `seed` from `from` on, at most a cell.
    pub fn data(&mut self, seed: u64, from: u64, n: usize) -> dataplane::Slice {
        let mut w = CellWriter::default();
        assert!(w.reserve(n, &self.payload));
        let bytes: Vec<u8> = (from..from + n as u64).map(|i| byte_at(seed, i)).collect();
        assert_eq!(w.put(&bytes), n);
        w.take().unwrap()
    }

    pub fn counts(&self) -> Snapshot {
        self.segment.read()
    }

    pub fn get(&self, c: Ctr) -> u64 {
        self.core.counters().get(c)
    }

    /// Both laws, exactly.
    ///
    /// # Errors
    /// Which does not hold.
    pub fn laws(&self) -> Result<(), String> {
        let s = self.counts();
        match (s.rx_imbalance(), s.tx_imbalance()) {
            (0, 0) => Ok(()),
            (rx, tx) => Err(format!("conservation: rx {rx}, tx {tx}")),
        }
    }

    /// Whether every connection, record and cell is back.
    ///
    /// # Errors
    /// What is missing.
    pub fn leaks(&mut self) -> Result<(), String> {
        let in_use = self.tcp().in_use();
        if in_use != (0, 0) {
            let states: Vec<_> = self.tcp().flows().collect();
            let states: Vec<_> = states.iter().map(|id| self.tcp().state(*id)).collect();
            return Err(format!("flows and records left: {in_use:?} {states:?}"));
        }
        for p in [&self.rx, &self.headers, &self.payload] {
            if p.free_count() != p.capacity() {
                return Err(format!("cells left: {:?}", p.stats()));
            }
        }
        Ok(())
    }
}

impl App {
    fn add(&mut self, id: FlowId, plan: Plan, now: Time) -> usize {
        let n = self.conns.len();
        self.stack.tcp.set_user(id, n as u64);
        self.conns.push(Conn {
            id: Some(id),
            plan,
            out: Outcome::default(),
            writer: CellWriter::default(),
            started: now,
            is_shut: false,
        });
        n
    }

    fn run(&mut self, now: Time) {
        let due = now >= self.wake;
        if due {
            self.wake = Time::NEVER;
        }
        while let Some((id, e)) = self.stack.tcp.next_event() {
            if self.manual {
                self.events.push((id, e));
                continue;
            }
            if e.has(Events::ACCEPTED) {
                let plan = self.listening[self.stack.tcp.listener(id) as usize].clone();
                self.add(id, plan, now);
            }
            let n = self.stack.tcp.user(id) as usize;
            if e.has(Events::MISSING) {
                self.make_again(id);
            }
            self.conns[n].out.opened |= e.has(Events::ACCEPTED) | e.has(Events::CONNECTED);
            if e.has(Events::CLOSED) {
                self.pump(n, Time::NEVER); // Whatever is there is read now, or never.
                let c = &mut self.conns[n];
                if c.id.take().is_some() {
                    c.out.closed = Some(Some(self.stack.tcp.close_reason(id)));
                    self.stack.tcp.release(id);
                }
                c.writer.release();
            } else {
                self.pump(n, now);
            }
        }
        if due {
            for n in 0..self.conns.len() {
                self.pump(n, now);
            }
        }
    }

    /// Lets go what has been sent.
    fn forget(&mut self) {
        for (k, m) in self.forgotten.iter().flatten().enumerate() {
            if self.conns[m.n].id == Some(m.id) && self.stack.tcp.let_go(m.id, m.at, k as u32 + 1) {
                self.made_again.0 += 1;
                assert!(!self.stack.tcp.is_whole(m.id));
            }
        }
    }

    /// Makes what TCP lacks; every third time there is no memory for it.
    fn make_again(&mut self, id: FlowId) {
        let (Some(tag), Some(made)) = (self.stack.tcp.missing(id), &self.forgotten) else { return };
        let m = &made[tag as usize - 1];
        assert_eq!(m.id, id);
        self.made_again.1 += 1;
        let mut w = CellWriter::default();
        if self.made_again.1.is_multiple_of(3) || !w.reserve(m.len, &self.payload) {
            return;
        }
        let seed = self.conns[m.n].plan.seed;
        let bytes: Vec<u8> = (m.from..m.from + m.len as u64).map(|i| byte_at(seed, i)).collect();
        w.put(&bytes[1..]);
        let short = w.take().expect("written");
        assert!(self.stack.tcp.put_back(id, m.at, tag, short).is_err(), "it is not as long");
        w.release();
        assert!(w.reserve(m.len, &self.payload));
        w.put(&bytes);
        let piece = w.take().expect("written");
        let again = piece.clone();
        self.stack.tcp.put_back(id, m.at, tag, piece).expect("it was missing");
        assert!(self.stack.tcp.put_back(id, m.at, tag, again).is_err(), "it is there");
    }

    fn pump(&mut self, n: usize, now: Time) {
        let Some(id) = self.conns[n].id else { return };
        self.read(n, id, now);
        self.write(n, id, now);
        let c = &mut self.conns[n];
        let all_sent = c.out.sent == c.plan.send && c.out.opened;
        match c.plan.finish {
            Finish::AfterSending if all_sent => self.stack.tcp.shutdown(id),
            Finish::AfterPeer if all_sent && c.out.fin => self.stack.tcp.shutdown(id),
            Finish::Orphan if all_sent && c.out.got == c.plan.expect && now != Time::NEVER => {
                self.stack.tcp.orphan(id, now);
                c.id = None;
                c.out.closed = Some(None);
            }
            Finish::Abort(at) if c.out.opened && c.out.got >= at && now != Time::NEVER => {
                self.stack.tcp.abort(id);
                c.id = None;
                c.out.closed = Some(None);
            }
            _ => return,
        }
        c.writer.release();
        c.is_shut = true;
    }

    fn read(&mut self, n: usize, id: FlowId, now: Time) {
        let c = &mut self.conns[n];
        let allowed = match c.plan.reading {
            Reading::Eager => u64::MAX,
            Reading::After(t) if now >= t => u64::MAX,
            Reading::After(t) => {
                self.wake = self.wake.min(t);
                0
            }
            Reading::Rate(per_ms) if now != Time::NEVER => {
                self.wake = self.wake.min(now.plus_ns(1_000_000));
                now.since_ns(c.started) / 1_000_000 * per_ms
            }
            Reading::Rate(_) => u64::MAX,
        };
        while c.out.got < allowed {
            let Some(s) = self.stack.tcp.read(id) else { break };
            c.out.take(&c.plan, &s);
            self.stack.tcp.consume(id, s.len() as u32);
        }
        c.out.fin |= self.stack.tcp.at_end(id);
    }

    fn write(&mut self, n: usize, id: FlowId, now: Time) {
        let c = &mut self.conns[n];
        let mut buf = [0u8; 2048];
        while !c.is_shut
            && c.out.sent < c.plan.send
            && self.stack.tcp.queued_true(id) < self.budget.max(self.stack.tcp.flow(id).send_target())
        {
            let want = (c.plan.send - c.out.sent).min(c.plan.chunk.min(buf.len()) as u64) as usize;
            let piece = want.min(if c.writer.room() == 0 { want } else { c.writer.room() });
            if !c.writer.reserve(piece, &self.payload) {
                self.wake = self.wake.min(now.plus_ns(1_000_000));
                break;
            }
            for (i, b) in buf[..piece].iter_mut().enumerate() {
                *b = byte_at(c.plan.seed, c.out.sent + i as u64);
            }
            assert_eq!(c.writer.put(&buf[..piece]), piece);
            let Some(s) = c.writer.take() else { break };
            let from = c.out.sent;
            let sent = match &mut self.forgotten {
                None => self.stack.tcp.send(id, s).is_ok(),
                Some(made) => {
                    c.writer.release();
                    let at = self.stack.tcp.send_tagged(id, s, made.len() as u32 + 1);
                    let kept = at.map(|at| made.push(Made { id, n, at, from, len: piece }));
                    kept.is_ok()
                }
            };
            if !sent {
                // What was written is lost: begin a new cell at the same place of the stream.
                c.writer.release();
                self.wake = self.wake.min(now.plus_ns(1_000_000));
                break;
            }
            c.out.sent += piece as u64;
        }
    }
}

impl Pipeline for App {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.stack.input(rx, tx, now);
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let ran = self.stack.mail(tx, now) | self.stack.timers(tx, now) | (now >= self.wake);
        self.run(now);
        self.forget();
        let ran = ran | self.stack.output(tx, now);
        // Flows are few here, except where a test fills the table.
        if self.audited && self.stack.tcp.in_use().0 <= 64 {
            self.stack.tcp.audit().expect("an invariant of the engine");
        }
        ran
    }

    fn next_deadline(&self) -> Option<Time> {
        let wake = (self.wake != Time::NEVER).then_some(self.wake);
        [self.stack.next_deadline(), wake].into_iter().flatten().min()
    }
}

impl Host for OwnHost {
    fn pass(&mut self, now: Time) -> bool {
        self.core.pass(now)
    }

    fn next_deadline(&mut self, _now: Time) -> Option<Time> {
        self.core.pipeline.next_deadline()
    }

    fn is_done(&self) -> bool {
        let app = &self.core.pipeline;
        app.conns.iter().all(|c| c.out.closed.is_some()) && app.stack.tcp.in_use() == (0, 0)
    }

    fn results(&self) -> Vec<(Plan, Outcome)> {
        self.core.pipeline.conns.iter().map(|c| (c.plan.clone(), c.out.clone())).collect()
    }
}
