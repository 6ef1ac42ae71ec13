//! One bridged connection: a kernel socket, a smoltcp socket, and what flows between them.
//!
//! ```text
//!            from a client                                   to an origin
//!  accepted ─► cell connects ─► Open            SYN held ─► kernel connects ─► cell listens, SYN fed ─► Open
//!                   │ RST or silence                            │ refused or silence      │ RST
//!                   ▼                                           ▼                         ▼
//!             client is reset                              node is reset            origin is reset
//!
//!  Open:  kernel EOF   ─► cell.close() (FIN)        kernel error ─► cell.abort() (RST)
//!         node's FIN   ─► shutdown(Write)           node's RST   ─► kernel socket closed with a RST
//! ```
//!
//! A connection is gone when both sides are done. smoltcp would keep it for 10 s in TIME-WAIT: here the wire
//! loses nothing once the last ACK is on it, so the cell goes with the kernel socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use smoltcp::socket::tcp::{RecvError, State};
use smoltcp::time::Instant;
use socket2::{SockRef, TcpKeepalive};

use super::bump;
use super::cell::{self, TcpCell};
use super::frame::Key;
use super::link::Link;

/// For a handshake on either side. The node's own limits are shorter.
const HANDSHAKE_MAX: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(10);
/// Silence before the kernel asks whether its peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Who opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A client, to the node.
    Client,
    /// The node, to an origin.
    Origin,
}

/// What is left of a connection after it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// To be served again at this time, or when something happens.
    Until(Option<Instant>),
    /// To be served again as soon as the wire has room.
    Blocked,
    /// Over.
    Gone,
}

/// A bridged connection.
pub(super) struct Conn {
    pub(super) key: Key,
    pub(super) side: Side,
    stream: TcpStream,
    /// `None` while the kernel connects to an origin.
    cell: Option<TcpCell>,
    /// The node's SYN, until the origin has answered.
    syn: Box<[u8]>,
    handshake_ends: Instant,
    open: bool,
    /// What the kernel socket may be ready for: edges, cleared when it says that it is not.
    readable: bool,
    writable: bool,
    errored: bool,
    /// The kernel's peer has sent everything, and the cell knows.
    kernel_ended: bool,
    /// The node has sent everything, and the kernel knows.
    node_ended: bool,
    node_reset: bool,
    /// The cell is in TIME-WAIT, and has nothing more to say.
    last_ack_sent: bool,
    /// The cell was aborted: over once its RST is on the wire.
    aborted: bool,
}

impl Conn {
    /// A client's connection that the kernel has accepted. The error is one of the kernel's socket.
    pub(super) fn client(link: &Link, stream: TcpStream, key: Key, now: Instant) -> io::Result<Conn> {
        let cell = TcpCell::connect(link, key.peer, key.node, now).ok_or(ErrorKind::InvalidInput)?;
        Conn::new(Side::Client, stream, Some(cell), Box::default(), key, now)
    }

    /// A connection that the node has asked for with `syn` (an IP packet).
    pub(super) fn origin(syn: &[u8], key: Key, now: Instant) -> io::Result<Conn> {
        Conn::new(Side::Origin, TcpStream::connect(key.peer)?, None, syn.into(), key, now)
    }

    fn new(
        side: Side,
        stream: TcpStream,
        cell: Option<TcpCell>,
        syn: Box<[u8]>,
        key: Key,
        now: Instant,
    ) -> io::Result<Conn> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))?;
        Ok(Conn {
            key,
            side,
            stream,
            cell,
            syn,
            handshake_ends: now + HANDSHAKE_MAX,
            open: false,
            readable: false,
            writable: false,
            errored: false,
            kernel_ended: false,
            node_ended: false,
            node_reset: false,
            last_ack_sent: false,
            aborted: false,
        })
    }

    /// The kernel socket, to register.
    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether a SYN on this connection's addresses begins another one: the node's port came again.
    pub(super) fn is_replaced_by_syn(&self) -> bool {
        self.cell
            .as_ref()
            .is_some_and(|c| matches!(c.state(), State::Closed | State::TimeWait | State::Listen))
    }

    /// Takes note of what the kernel socket is ready for.
    pub(super) fn ready(&mut self, e: &Event) {
        self.readable |= e.is_readable() || e.is_read_closed();
        self.writable |= e.is_writable();
        self.errored |= e.is_error();
    }

    /// Takes an IP packet from the node.
    pub(super) fn input(&mut self, link: &Link, packet: &[u8], now: Instant) {
        // While the kernel connects there are only repetitions of the SYN, which wait with the first.
        let Some(cell) = &mut self.cell else { return };
        let before = cell.state();
        cell.input(link, packet, now);
        self.node_reset |= match cell.state() {
            // The ACK of our FIN closes in order; in every other case it was a RST.
            State::Closed if before == State::LastAck => cell.socket().send_queue() > 0,
            State::Closed => before != State::Closed,
            // A listening socket falls back by a RST in the handshake.
            State::Listen => before == State::SynReceived,
            _ => false,
        };
    }

    /// Moves what can be moved, and says what becomes of the connection.
    pub(super) fn serve(&mut self, link: &Link, now: Instant) -> Fate {
        if self.cell.is_none() {
            match self.dialed(now) {
                Ok(false) => return Fate::Until(Some(self.handshake_ends)),
                Ok(true) => {
                    let Some(mut cell) = TcpCell::listen(link, self.key.peer, now) else { return Fate::Gone };
                    cell.input(link, &self.syn, now);
                    self.cell = Some(cell);
                    self.syn = Box::default();
                    bump(&link.counters.opened);
                }
                Err(_) => {
                    if !link.wire.can_send() {
                        return Fate::Blocked;
                    }
                    cell::refuse(link, &self.syn, now);
                    bump(&link.counters.failed);
                    return Fate::Gone;
                }
            }
        }
        if self.node_reset && !self.aborted {
            return self.reset_kernel(link);
        }
        if !self.aborted {
            self.transfer(link, now);
        }
        let fate = self.output(link, now);
        if fate == Fate::Gone && self.aborted {
            return self.reset_kernel(link);
        }
        fate
    }

    /// Whether the kernel has connected; the error is why it never will.
    fn dialed(&mut self, now: Instant) -> io::Result<bool> {
        if self.aborted {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if let Some(e) = self.stream.take_error()? {
            return Err(e);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() != ErrorKind::NotConnected => Err(e),
            Err(_) if now >= self.handshake_ends => Err(ErrorKind::TimedOut.into()),
            Err(_) => Ok(false),
        }
    }

    fn transfer(&mut self, link: &Link, now: Instant) {
        let failed = std::mem::take(&mut self.errored) && !matches!(self.stream.take_error(), Ok(None));
        if failed {
            return self.abort();
        }
        let Some(cell) = &mut self.cell else { return };
        if !self.open {
            self.open = !matches!(cell.state(), State::SynSent | State::SynReceived | State::Listen);
            if !self.open {
                if now >= self.handshake_ends {
                    self.abort();
                }
                return;
            }
        }
        if self.pump_to_kernel(link).and_then(|()| self.pump_to_node(link)).is_err() {
            self.abort();
        }
    }

    /// From the cell's ring to the kernel, as far as it takes it.
    fn pump_to_kernel(&mut self, link: &Link) -> io::Result<()> {
        let Some(cell) = &mut self.cell else { return Ok(()) };
        let socket = cell.socket();
        while self.writable && socket.can_recv() {
            let wrote = socket.recv(|bytes| match (&self.stream).write(bytes) {
                Ok(n) => (n, Ok(n)),
                Err(e) => (0, Err(e)),
            });
            match wrote {
                Ok(Ok(n)) => {
                    link.counters.from_node_bytes.fetch_add(n as u64, Ordering::Relaxed);
                }
                Ok(Err(e)) if e.kind() == ErrorKind::WouldBlock => self.writable = false,
                Ok(Err(e)) if e.kind() == ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Err(e),
                Err(_) => break,
            }
        }
        if !self.node_ended && socket.recv(|_| (0, ())) == Err(RecvError::Finished) {
            self.node_ended = true;
            match self.stream.shutdown(Shutdown::Write) {
                // The peer has reset it: known from the next read or event.
                Err(e) if e.kind() != ErrorKind::NotConnected => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// From the kernel to the cell's ring, as far as it has room.
    fn pump_to_node(&mut self, link: &Link) -> io::Result<()> {
        let Some(cell) = &mut self.cell else { return Ok(()) };
        let socket = cell.socket();
        while self.readable && !self.kernel_ended && socket.can_send() {
            let read = socket.send(|room| match (&self.stream).read(room) {
                Ok(n) => (n, Ok(n)),
                Err(e) => (0, Err(e)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.kernel_ended = true;
                    socket.close();
                }
                Ok(Ok(n)) => {
                    link.counters.to_node_bytes.fetch_add(n as u64, Ordering::Relaxed);
                }
                Ok(Err(e)) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                Ok(Err(e)) if e.kind() == ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Err(e),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Ends the connection now: a RST to the node, if the wire has room, and one to the kernel's peer.
    pub(super) fn break_off(&mut self, link: &Link, now: Instant) -> Fate {
        self.abort();
        self.serve(link, now)
    }

    /// The kernel's side is broken: the node gets a RST.
    fn abort(&mut self) {
        self.aborted = true;
        self.last_ack_sent = false;
        if let Some(cell) = &mut self.cell {
            cell.socket().abort();
        }
    }

    /// The kernel socket is closed with a RST when it is dropped.
    pub(super) fn reset_kernel(&mut self, link: &Link) -> Fate {
        // On a socket that is already reset there is nothing left to set.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        bump(match (self.open, self.side) {
            (true, _) => &link.counters.reset,
            (false, Side::Client) => &link.counters.refused,
            (false, Side::Origin) => &link.counters.failed,
        });
        Fate::Gone
    }

    /// Sends what the cell has to send, and says what is left to do.
    fn output(&mut self, link: &Link, now: Instant) -> Fate {
        let done = self.node_ended && self.kernel_ended;
        let Some(cell) = &mut self.cell else { return Fate::Until(None) };
        if !self.last_ack_sent {
            cell.output(link, now);
            if !link.wire.can_send() && cell.deadline(now).is_some_and(|t| t <= now) {
                return Fate::Blocked;
            }
            // In TIME-WAIT the last ACK has now gone out (`input` answers a repeated FIN), and output must not
            // be called again: when smoltcp's timer runs out, it throws away what a slow client has not read.
            self.last_ack_sent = cell.state() == State::TimeWait;
        }
        match cell.state() {
            State::Closed if self.aborted || done => Fate::Gone,
            State::TimeWait if done => Fate::Gone,
            State::Closed | State::TimeWait => Fate::Until(None),
            _ => {
                let mut at = cell.deadline(now);
                if !self.open {
                    at = Some(at.map_or(self.handshake_ends, |t| t.min(self.handshake_ends)));
                }
                // "At once" right after output would be a turn for nothing, for ever.
                Fate::Until(at.map(|t| t.max(now + smoltcp::time::Duration::from_millis(1))))
            }
        }
    }
}

/// Addresses as keys have them: without an IPv6 scope or flow label, which do not cross the wire.
pub(super) fn plain(a: SocketAddr) -> SocketAddr {
    SocketAddr::new(a.ip(), a.port())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::HostCounters;

    #[test]
    fn what_a_slow_client_has_not_read_outlives_time_wait() {
        let (a, b) = dataplane::port::mem::wire(64, 1514);
        let [near, far] =
            [a, b].map(|end| Link::new(end, [1; 6], [2; 6], 1500, Arc::new(HostCounters::default())));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (kernel, peer) = listener.accept().unwrap();
        kernel.set_nonblocking(true).unwrap();
        let key = Key { node: "127.0.0.1:8080".parse().unwrap(), peer };
        let mut now = Instant::from_micros(1);
        let mut conn = Conn::client(&near, TcpStream::from_std(kernel), key, now).unwrap();
        let mut node = TcpCell::listen(&far, key.node, now).unwrap();
        let exchange = |conn: &mut Conn, node: &mut TcpCell, now| {
            for _ in 0..20 {
                if conn.serve(&near, now) == Fate::Gone {
                    return Fate::Gone;
                }
                while far.wire.recv_with(|f| node.input(&far, &f[14..], now)).is_some() {}
                node.output(&far, now);
                while near.wire.recv_with(|f| conn.input(&near, &f[14..], now)).is_some() {}
            }
            Fate::Until(None)
        };
        // The client has sent all (nothing), and takes nothing yet; then the node answers and ends.
        client.shutdown(Shutdown::Write).unwrap();
        conn.readable = true;
        exchange(&mut conn, &mut node, now);
        assert_eq!(node.state(), State::CloseWait);
        let data = [7; 20_000];
        assert_eq!(node.socket().send_slice(&data), Ok(data.len()));
        node.socket().close();
        exchange(&mut conn, &mut node, now);
        assert_eq!(conn.cell.as_ref().unwrap().state(), State::TimeWait);
        assert_eq!(node.state(), State::Closed);
        // Long after smoltcp's 10 s the client reads.
        for _ in 0..30 {
            now += smoltcp::time::Duration::from_secs(1);
            assert_ne!(exchange(&mut conn, &mut node, now), Fate::Gone);
        }
        conn.writable = true;
        assert_eq!(exchange(&mut conn, &mut node, now), Fate::Gone);
        drop(conn);
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert!(got == data, "{} of {} bytes", got.len(), data.len());
    }
}
