//! The PROXY protocol: whom a connection says that it speaks for, and saying it to origins.
//!
//! ```text
//!  accepted ── listener's networks? ──► Role::Announces ── header ──► Role::IdleClient { peer } ⇄ exchange
//!                    └─ elsewhere ────► Role::IdleClient { NONE }        └ the address: in a slab, as long as the
//!                                                                          connection is
//! ```
//!
//! Only connections that have announced somebody have an entry; any other is its flow record and nothing else.

use std::net::{IpAddr, SocketAddr};

use dataplane::Ctr;
use hugepages::typed_index;
use stack::{FlowId, Tcp};

use super::exchange::{ExchangeId, Role};
use super::pump::Step;
use super::side::Side;
use super::{Io, Proxy};
use crate::http1::{Parsed, SliceSink};
use crate::phases::proxy_protocol::{HEADER_BYTES_MAX, ProxyHeader, parse, write_v1, write_v2};

typed_index! {
    /// A peer that a PROXY header has announced.
    pub struct PeerId;
}

/// Addresses that start with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// At most 32 or 128.
    pub prefix_len: u8,
}

impl Network {
    /// Whether an address is one of them.
    pub fn contains(&self, other: IpAddr) -> bool {
        let (a, b, width) = match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let left = width - u32::from(self.prefix_len).min(width);
        left == 128 || (a ^ b) >> left == 0
    }
}

/// The version of a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The peers of all connections that have announced one: a bounded slab.
#[derive(Default)]
pub(super) struct Peers {
    addresses: Vec<SocketAddr>,
    free: Vec<u32>,
}

impl Peers {
    pub fn new(connections: u32) -> Peers {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        Peers { addresses: vec![nobody; connections as usize], free: (0..connections).rev().collect() }
    }

    fn add(&mut self, peer: SocketAddr) -> Option<PeerId> {
        use hugepages::SlabIndex;
        let n = self.free.pop()?;
        self.addresses[n as usize] = peer;
        Some(PeerId::from_u32(n))
    }

    /// NONE may be removed, too.
    pub fn remove(&mut self, id: PeerId) {
        use hugepages::SlabIndex;
        if id.is_some() {
            debug_assert!(self.free.len() < self.addresses.len(), "removed twice");
            self.free.push(id.to_u32());
        }
    }

    pub fn get(&self, id: PeerId) -> Option<SocketAddr> {
        use hugepages::SlabIndex;
        self.addresses.get(id.to_u32() as usize).copied()
    }
}

impl Proxy {
    /// Makes room for the peers of so many connections: for a node with a listener whose connections announce them.
    pub fn expect_proxy_headers(&mut self, connections: u32) {
        self.peers = Peers::new(connections);
    }

    /// Bytes that [`Proxy::expect_proxy_headers`] takes for each connection.
    pub const PEER_BYTES: u64 = (size_of::<SocketAddr>() + size_of::<u32>()) as u64;

    /// What a new connection is: whether it has to begin with a PROXY header.
    pub(super) fn role_of_new(&self, tcp: &Tcp, flow: FlowId) -> Role {
        match self.config().proxy_headers_from.get(usize::from(tcp.listener(flow))) {
            Some(from) if !from.is_empty() => {
                let ip = tcp.tuple(flow).remote.ip();
                if from.iter().any(|n| n.contains(ip)) {
                    Role::Announces
                } else {
                    Role::IdleClient { peer: PeerId::NONE }
                }
            }
            _ => Role::IdleClient { peer: PeerId::NONE },
        }
    }

    /// The client of a connection: whom it has announced, or who has made it.
    pub(super) fn client_address(&self, tcp: &Tcp, x: ExchangeId) -> SocketAddr {
        let e = &self.exchanges[x];
        let tuple = tcp.tuple(e.client);
        let own = || SocketAddr::new(tuple.remote.ip(), tuple.remote_port);
        self.peers.get(e.peer_id).unwrap_or_else(own)
    }

    /// Reads the header that the connection of `x` has to begin with. Until it is whole it stays in TCP's queue, as what
    /// comes behind it does.
    pub(super) fn proxy_header(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let client = self.exchanges[x].client;
        if !io.tcp.is_readable(client) {
            if io.tcp.at_end(client) {
                self.close_client(io, x);
            } else {
                self.go_idle(io, x);
            }
            return Step::Gone;
        }
        let mut parsed = parse(io.tcp.front(client));
        if let Ok(Parsed::Partial) = parsed {
            // It came in pieces. No more than this is ever looked at.
            let mut start = [0; HEADER_BYTES_MAX];
            let n = io.tcp.peek(client, &mut start);
            parsed = parse(&start[..n]);
        }
        match parsed {
            Ok(Parsed::Complete(header, n)) => {
                self.exchanges[x].announces = false;
                if let ProxyHeader::Proxied { source, .. } = header {
                    let Some(peer) = self.peers.add(source) else {
                        self.counters.inc(Ctr::HttpNoContext);
                        self.break_off(io, x);
                        return Step::Gone;
                    };
                    self.exchanges[x].peer_id = peer;
                }
                io.tcp.skip(client, n);
                io.tcp.consume(client, n as u32);
                if !self.wants_tls(io, client) {
                    return Step::Moved;
                }
                let source = self.client_address(&io.tcp, x).ip();
                if self.begin_tls(io, client, source) {
                    self.go_idle(io, x);
                } else {
                    self.end(x);
                }
                Step::Gone
            }
            Ok(Parsed::Partial) if !io.tcp.has_ended(client) => Step::Waits,
            Ok(Parsed::Partial) | Err(_) => self.bad_header(io, x),
        }
    }

    fn bad_header(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        self.counters.inc(Ctr::HttpProxyBad);
        self.close_client(io, x);
        Step::Gone
    }

    /// Begins a new connection to an origin with a PROXY header, where the upstream wants one. `false`: there was
    /// no cell or record for it.
    pub(super) fn announce(&mut self, io: &mut Io<'_>, x: ExchangeId, flow: FlowId) -> bool {
        let Some(version) = self.announces_to_origin(x) else { return true };
        // A fetch speaks for the client whose request began it; one behind a client's back for nobody.
        let who = match &self.exchanges[x].side {
            Side::Fetches(f) => f.first,
            _ => x,
        };
        let header = if who.is_some() {
            let tuple = io.tcp.tuple(self.exchanges[who].client);
            ProxyHeader::Proxied {
                source: self.client_address(&io.tcp, who),
                destination: SocketAddr::new(tuple.local.ip(), tuple.local_port),
            }
        } else {
            ProxyHeader::Local
        };
        self.send_header(io, flow, version, &header)
    }

    /// Sends a PROXY header as the first thing on a connection of ours.
    pub(super) fn send_header(
        &mut self,
        io: &mut Io<'_>,
        flow: FlowId,
        version: ProxyVersion,
        header: &ProxyHeader,
    ) -> bool {
        let mut sink = SliceSink::new(&mut self.scratch);
        let written = match version {
            ProxyVersion::V1 => write_v1(header, &mut sink),
            ProxyVersion::V2 => write_v2(header, &mut sink),
        };
        let slice = written.ok().and_then(|()| self.cells.store(sink.written()));
        slice.is_some_and(|s| io.tcp.send(flow, s).is_ok())
    }

    /// Whether connections to the origins of `x` begin with a PROXY header: such a one is one client's, and is not
    /// kept.
    pub(super) fn announces_to_origin(&self, x: ExchangeId) -> Option<ProxyVersion> {
        let e = &self.exchanges[x];
        e.plan.as_ref().and_then(|p| p.program.config.proxy_version(e.route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let network = |text: &str| {
            let (address, len) = text.split_once('/').unwrap();
            Network { address: address.parse().unwrap(), prefix_len: len.parse().unwrap() }
        };
        for (net, ip, is_in) in [
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            assert_eq!(network(net).contains(ip.parse().unwrap()), is_in, "{ip} in {net}");
        }
    }

    #[test]
    fn peers_are_bounded_and_come_back() {
        let mut peers = Peers::new(2);
        let at = |n: u8| SocketAddr::from(([192, 0, 2, n], 1));
        let (a, b) = (peers.add(at(1)).unwrap(), peers.add(at(2)).unwrap());
        assert_eq!((peers.get(a), peers.get(b), peers.add(at(3))), (Some(at(1)), Some(at(2)), None));
        peers.remove(PeerId::NONE);
        peers.remove(a);
        assert_eq!(peers.add(at(4)).and_then(|id| peers.get(id)), Some(at(4)));
        assert_eq!(peers.get(PeerId::NONE), None);
    }
}
