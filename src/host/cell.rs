//! One TCP connection of smoltcp's: an interface of its own with one socket.
//!
//! smoltcp visits every socket of an interface for every frame; with one socket in each, a frame costs the
//! same however many connections there are. An interface without addresses, neighbours or fragments is small;
//! what counts is the two rings.

use std::net::SocketAddr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpEndpoint, IpListenEndpoint};

use super::link::Link;

/// One ring, each way. Below 64 KiB: smoltcp 0.14 panics with an out-of-order segment on a larger one.
pub(super) const RING_BYTES: usize = 48 << 10;

/// One side of one connection.
pub(super) struct TcpCell {
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl TcpCell {
    /// Connects from `from` (a client's address) to `to`; the SYN leaves with the next [`TcpCell::output`].
    /// `None` for what is no address to connect to, such as port 0.
    pub(super) fn connect(link: &Link, from: SocketAddr, to: SocketAddr, now: Instant) -> Option<TcpCell> {
        let mut c = TcpCell::new(link, now);
        let s = c.sockets.get_mut::<Socket>(c.handle);
        s.connect(c.iface.context(), IpEndpoint::from(to), IpListenEndpoint::from(IpEndpoint::from(from)))
            .ok()?;
        Some(c)
    }

    /// Waits for a SYN to `at`, which is fed in by [`TcpCell::input`].
    pub(super) fn listen(link: &Link, at: SocketAddr, now: Instant) -> Option<TcpCell> {
        let mut c = TcpCell::new(link, now);
        c.socket().listen(IpEndpoint::from(at)).ok()?;
        Some(c)
    }

    fn new(link: &Link, now: Instant) -> TcpCell {
        let iface = interface(link, now);
        let ring = || SocketBuffer::new(vec![0; RING_BYTES]);
        let mut socket = Socket::new(ring(), ring());
        // Nothing is gained by waiting on a wire of memory.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        TcpCell { iface, sockets, handle }
    }

    /// The socket.
    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The socket's state.
    pub(super) fn state(&self) -> State {
        self.sockets.get::<Socket>(self.handle).state()
    }

    /// Takes an IP packet of this connection.
    pub(super) fn input(&mut self, link: &Link, packet: &[u8], now: Instant) {
        self.iface.poll_ingress_single(now, &mut link.device(Some(packet)), &mut self.sockets);
    }

    /// Sends what there is to send, as far as the wire takes it.
    pub(super) fn output(&mut self, link: &Link, now: Instant) {
        let mut device = link.device(None);
        while self.iface.poll_egress(now, &mut device, &mut self.sockets)
            == smoltcp::iface::PollResult::SocketStateChanged
        {}
    }

    /// When `output` is due next; not later than `now` when it is due already.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.iface.poll_at(now, &self.sockets)
    }
}

/// An interface for every address.
fn interface(link: &Link, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed_for(isn(now));
    let mut i = Interface::new(config, &mut link.device(None), now);
    // With this alone, every destination is taken for ours (loopback too); without a link layer, every
    // destination is reached. No address and no route is needed.
    i.set_any_ip(true);
    i
}

/// Answers a packet of no connection as TCP must: by RST, unless it is one.
pub(super) fn refuse(link: &Link, packet: &[u8], now: Instant) {
    let mut nobody = SocketSet::new(Vec::new());
    interface(link, now).poll_ingress_single(now, &mut link.device(Some(packet)), &mut nobody);
}

/// Initial sequence numbers by a clock of 62.5 ns (as Linux has it; RFC 6528 without the secret, as nobody
/// else is on the wire): when a client's port comes again while the node keeps its last connection in
/// TIME-WAIT, the new SYN lies after the old connection's end, and the node takes it (RFC 6191).
fn isn(now: Instant) -> u32 {
    (now.total_micros() as u64).wrapping_mul(16) as u32
}

/// The seed with which smoltcp's generator (its `rand.rs`) gives `isn` second: the first number becomes the
/// interface's IPv4 identification. Should a later version do otherwise, then ISNs are arbitrary again, and the
/// test below fails. (Once in 65,536 times the identification is 0 and drawn again, and the ISN is arbitrary.)
fn seed_for(isn: u32) -> u64 {
    const M: u64 = 0xbb2e_fcec_3c39_611d;
    const A: u64 = 0x7590_ef39;
    // The inverse of M modulo 2^64, by Newton's iteration from 3 correct bits.
    const M_INVERSE: u64 = {
        let (mut x, mut i) = (M, 0);
        while i < 5 {
            x = x.wrapping_mul(2u64.wrapping_sub(M.wrapping_mul(x)));
            i += 1;
        }
        x
    };
    let before = |state: u64| state.wrapping_sub(A).wrapping_mul(M_INVERSE);
    // A state below 2^61 gives its bits from 29 on.
    before(before(u64::from(isn) << 29))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::{HostCounters, frame};

    #[test]
    fn syn_carries_our_isn_and_addresses() {
        let (a, b) = dataplane::port::mem::wire(8, 1600);
        let link = Link::new(a, [1; 6], [2; 6], 1500, Arc::new(HostCounters::default()));
        let (client, node) = ("[::1]:50000".parse().unwrap(), "[::1]:8080".parse().unwrap());
        for now in [0, 1, 77_777, 600_000_000].map(Instant::from_micros) {
            let mut c = TcpCell::connect(&link, client, node, now).unwrap();
            c.output(&link, now);
            b.recv_with(|f| {
                assert_eq!(f[..12], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
                assert_eq!(f[14 + 40 + 4..][..4], isn(now).to_be_bytes());
                // Read from the other side: the bridge's own frames look like the node's.
                let s = frame::read(f).unwrap();
                assert!(s.opens && s.key.node == client && s.key.peer == node);
            })
            .expect("a SYN");
            assert!(!b.has_rx());
        }
    }

    #[test]
    fn a_stray_is_refused_and_a_stray_rst_is_not_answered() {
        let (a, b) = dataplane::port::mem::wire(8, 1600);
        let link = Link::new(a, [1; 6], [2; 6], 1500, Arc::new(HostCounters::default()));
        let now = Instant::from_micros(0);
        let (from, to) = ("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:3000".parse().unwrap());
        TcpCell::connect(&link, from, to, now).unwrap().output(&link, now);
        let syn = b.recv_with(<[u8]>::to_vec).unwrap();
        refuse(&link, &syn[14..], now);
        let rst = b.recv_with(<[u8]>::to_vec).unwrap();
        assert_eq!(rst[14 + 20 + 13] & 0x14, 0x14, "RST and ACK");
        refuse(&link, &rst[14..], now);
        assert!(!b.has_rx());
    }
}
