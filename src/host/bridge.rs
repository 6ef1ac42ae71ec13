//! The bridge's thread: one loop over frames, listeners, connections and deadlines.
//!
//! A turn takes a batch of frames from the node and hands each to its connection, accepts, then serves every
//! connection that something happened to, once: what it has to move is moved, what its cell has to send is
//! sent. When nothing is left, it sleeps on the kernel's sockets and on the wire's doorbell.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use dataplane::port::mem::WireEnd;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use smoltcp::time::Instant;

use super::conn::{Conn, Fate, Side, plain};
use super::frame::{self, ETHERNET, Key};
use super::link::Link;
use super::{HostConfig, HostCounters, NO_ACCEPT, STOP, bump, cell};

/// Frames that one turn takes from the wire.
const FRAMES_PER_TURN: usize = 256;
/// Turns that look again at once when the wire is full, before each waits for a millisecond.
const EAGER_TURNS: u32 = 64;
/// How long listeners rest when the process has no descriptor left.
const ACCEPT_REST: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(100);

const WAKER: Token = Token(0);
const WIRE: Token = Token(1);
const FIRST_LISTENER: usize = 2;
/// Above every listener's.
const FIRST_CONN: usize = 1 << 16;

/// The thread's state.
pub(super) struct Bridge {
    poll: Poll,
    link: Link,
    listeners: Vec<Listener>,
    table: Table,
    order: Arc<AtomicU8>,
    started: std::time::Instant,
    accept_after: Instant,
    full_turns: u32,
}

struct Listener {
    socket: TcpListener,
    /// Clients may wait.
    ready: bool,
}

/// The connections.
struct Table {
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    /// By index: when to serve it, in microseconds; dense, since every turn looks for the earliest.
    deadlines: Vec<i64>,
    /// Connections to serve in this turn; `queued` says who is among them.
    work: Vec<usize>,
    queued: Vec<bool>,
    clients: usize,
    origins: usize,
    side_max: usize,
}

const NEVER: i64 = i64::MAX;

impl Bridge {
    /// A bridge that is ready to run, and what wakes it.
    pub(super) fn new(
        config: &HostConfig,
        wire: WireEnd,
        mut sockets: Vec<TcpListener>,
        counters: Arc<HostCounters>,
        order: Arc<AtomicU8>,
    ) -> io::Result<(Bridge, Waker)> {
        if wire.frame_bytes() < usize::from(config.mtu) + ETHERNET {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the wire carries frames of {} bytes, an MTU of {} needs {}; make the wire longer",
                    wire.frame_bytes(),
                    config.mtu,
                    usize::from(config.mtu) + ETHERNET
                ),
            ));
        }
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        wire.hang_doorbell()?;
        if let Some(fd) = wire.wait_fd() {
            poll.registry().register(&mut SourceFd(&fd), WIRE, Interest::READABLE)?;
        }
        for (i, l) in sockets.iter_mut().enumerate() {
            poll.registry().register(l, Token(FIRST_LISTENER + i), Interest::READABLE)?;
        }
        let bridge = Bridge {
            poll,
            link: Link::new(wire, config.node_mac, config.bridge_mac, config.mtu, counters),
            listeners: sockets.into_iter().map(|socket| Listener { socket, ready: true }).collect(),
            table: Table::new(config.connections_max / 2),
            order,
            started: std::time::Instant::now(),
            accept_after: Instant::ZERO,
            full_turns: 0,
        };
        Ok((bridge, waker))
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.started.elapsed().as_micros() as i64)
    }

    /// Turns until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let order = self.order.load(Ordering::Relaxed);
            if order == STOP {
                break;
            }
            if order == NO_ACCEPT {
                self.listeners.clear();
            }
            let now = self.now();
            let more = self.take_frames(now);
            self.accept(now);
            self.table.queue_due(now);
            let blocked = self.table.serve(&self.link, now);
            let timeout = self.timeout(more, blocked, now);
            if !self.wait(&mut events, timeout) {
                break;
            }
        }
        self.close();
    }

    /// Takes a batch of frames. Gives whether there may be more.
    fn take_frames(&mut self, now: Instant) -> bool {
        let Bridge { table, link, poll, .. } = self;
        for _ in 0..FRAMES_PER_TURN {
            // Each frame may be answered at once: without room for that it waits.
            if !link.wire.can_send() {
                return false;
            }
            if link.wire.recv_with(|f| table.frame(f, link, poll.registry(), now)).is_none() {
                return false;
            }
        }
        true
    }

    fn accept(&mut self, now: Instant) {
        if now < self.accept_after {
            return;
        }
        for l in &mut self.listeners {
            while l.ready && self.table.clients < self.table.side_max {
                match l.socket.accept() {
                    Ok((stream, peer)) => {
                        bump(&self.link.counters.accepted);
                        let taken = stream.local_addr().and_then(|node| {
                            let key = Key { node: plain(node), peer: plain(peer) };
                            let conn = Conn::client(&self.link, stream, key, now)?;
                            self.table.insert(conn, self.poll.registry(), &self.link, now)
                        });
                        if taken.is_err() {
                            // Reset by the client in the meantime: closing it is all there is to do.
                            bump(&self.link.counters.refused);
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => l.ready = false,
                    Err(e) if is_of_one_client(&e) => {}
                    Err(_) => {
                        // No descriptor or memory left: what waits in the queue stays there for a while.
                        bump(&self.link.counters.accept_errors);
                        self.accept_after = now + ACCEPT_REST;
                        return;
                    }
                }
            }
        }
    }

    /// How long to sleep; `None` for until something happens.
    fn timeout(&mut self, more: bool, blocked: bool, now: Instant) -> Option<Duration> {
        if more {
            return Some(Duration::ZERO);
        }
        if blocked || (self.link.wire.has_rx() && !self.link.wire.can_send()) {
            // The core frees the wire with its next pass, and no bell rings for that.
            bump(&self.link.counters.wire_full);
            self.full_turns += 1;
            if self.full_turns > EAGER_TURNS {
                return Some(Duration::from_millis(1));
            }
            std::thread::yield_now();
            return Some(Duration::ZERO);
        }
        self.full_turns = 0;
        let mut at = self.table.deadlines.iter().copied().min().unwrap_or(NEVER);
        let may_accept = self.table.clients < self.table.side_max;
        if may_accept && self.listeners.iter().any(|l| l.ready) {
            at = at.min(self.accept_after.total_micros());
        }
        (at != NEVER).then(|| Duration::from_micros((at - now.total_micros()).max(0) as u64))
    }

    /// Sleeps, and takes note of what happened; `false` when the kernel's poll is broken.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> bool {
        let sleeps = timeout != Some(Duration::ZERO) && {
            let wire = &self.link.wire;
            // A frame that cannot be taken for want of room must not keep us from sleeping.
            wire.prepare_wait() || !wire.can_send()
        };
        let r = self.poll.poll(events, if sleeps { timeout } else { Some(Duration::ZERO) });
        if sleeps {
            self.link.wire.end_wait();
        }
        match r {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => return true,
            Err(_) => return false,
        }
        for e in events.iter() {
            match e.token() {
                WAKER | WIRE => {}
                Token(t) if t >= FIRST_CONN => self.table.ready(t - FIRST_CONN, e),
                Token(t) => {
                    if let Some(l) = self.listeners.get_mut(t - FIRST_LISTENER) {
                        l.ready = true;
                    }
                }
            }
        }
        true
    }

    /// Resets what is still open, on both sides.
    fn close(mut self) {
        let now = self.now();
        for conn in self.table.conns.iter_mut().flatten() {
            if conn.break_off(&self.link, now) != Fate::Gone {
                conn.reset_kernel(&self.link);
            }
        }
        self.link.counters.open.store(0, Ordering::Relaxed);
    }
}

/// Errors of accept(2) that are the new connection's own.
fn is_of_one_client(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::PermissionDenied
    )
}

impl Table {
    fn new(side_max: usize) -> Table {
        Table {
            conns: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            deadlines: Vec::new(),
            work: Vec::new(),
            queued: Vec::new(),
            clients: 0,
            origins: 0,
            side_max,
        }
    }

    /// Hands a frame from the node to its connection.
    fn frame(&mut self, frame: &[u8], link: &Link, registry: &Registry, now: Instant) {
        let Some(segment) = frame::read(frame) else {
            bump(&link.counters.strays);
            return;
        };
        let packet = &frame[ETHERNET..];
        if let Some(&i) = self.by_key.get(&segment.key) {
            let replaced = segment.opens && self.conns[i].as_ref().is_some_and(|c| c.is_replaced_by_syn());
            if !replaced {
                if let Some(c) = &mut self.conns[i] {
                    c.input(link, packet, now);
                }
                self.queue(i);
                return;
            }
            self.remove(i, link);
        }
        if !segment.opens {
            bump(&link.counters.strays);
            cell::refuse(link, packet, now);
            return;
        }
        let over = self.origins >= self.side_max;
        let dialed = if over { Err(ErrorKind::Other.into()) } else { Conn::origin(packet, segment.key, now) };
        if dialed.and_then(|c| self.insert(c, registry, link, now)).is_err() {
            bump(&link.counters.failed);
            if over {
                bump(&link.counters.over_limit);
            }
            cell::refuse(link, packet, now);
        }
    }

    fn insert(&mut self, conn: Conn, registry: &Registry, link: &Link, now: Instant) -> io::Result<()> {
        // The kernel has given the same addresses out again, so the connection before is over. The node hears
        // of that first: its RST goes ahead of the new SYN.
        if let Some(&old) = self.by_key.get(&conn.key) {
            if let Some(c) = &mut self.conns[old] {
                c.break_off(link, now);
            }
            self.remove(old, link);
        }
        let i = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.deadlines.push(NEVER);
            self.queued.push(false);
            self.conns.len() - 1
        });
        let mut conn = Box::new(conn);
        let token = Token(FIRST_CONN + i);
        if let Err(e) = registry.register(conn.source(), token, Interest::READABLE | Interest::WRITABLE) {
            self.free.push(i);
            return Err(e);
        }
        *self.side(conn.side) += 1;
        self.by_key.insert(conn.key, i);
        self.conns[i] = Some(conn);
        self.queue(i);
        link.counters.open.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets a connection. Closing its socket takes it out of the poll, too.
    fn remove(&mut self, i: usize, link: &Link) {
        if let Some(conn) = self.conns[i].take() {
            *self.side(conn.side) -= 1;
            self.by_key.remove(&conn.key);
            self.deadlines[i] = NEVER;
            self.free.push(i);
            link.counters.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn side(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Client => &mut self.clients,
            Side::Origin => &mut self.origins,
        }
    }

    fn ready(&mut self, i: usize, e: &mio::event::Event) {
        // An event of a connection that went in the same turn may come to its successor: readiness that is
        // not there is found out by the first read.
        if let Some(c) = self.conns.get_mut(i).and_then(Option::as_mut) {
            c.ready(e);
            self.queue(i);
        }
    }

    fn queue(&mut self, i: usize) {
        if !std::mem::replace(&mut self.queued[i], true) {
            self.work.push(i);
        }
    }

    fn queue_due(&mut self, now: Instant) {
        for i in 0..self.deadlines.len() {
            if self.deadlines[i] <= now.total_micros() {
                self.queue(i);
            }
        }
    }

    /// Serves every connection in the queue. Gives whether some wait for room on the wire.
    fn serve(&mut self, link: &Link, now: Instant) -> bool {
        let mut work = std::mem::take(&mut self.work);
        work.retain(|&i| {
            let fate = self.conns[i].as_mut().map_or(Fate::Gone, |c| c.serve(link, now));
            self.deadlines[i] = match fate {
                Fate::Until(Some(at)) => at.total_micros(),
                _ => NEVER,
            };
            if fate == Fate::Gone {
                self.remove(i, link);
            }
            self.queued[i] = fate == Fate::Blocked;
            self.queued[i]
        });
        self.work = work;
        !self.work.is_empty()
    }
}
