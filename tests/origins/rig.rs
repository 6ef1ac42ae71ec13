//! A node with one site, its clients and its origins.

use std::net::IpAddr;
use std::sync::Arc;

use dataplane::lines::LineReader;
use dataplane::port::mem::wire;
use dataplane::{Ctr, Time};
use hugepages::PagePolicy;
use l7::cache::policy::hash::HashKeys;
use l7::cache::policy::rules::CacheRules;
use l7::cache::store::{Store, StoreConfig};
use l7::phases::LogFormat;
use l7::proxy::{LogTo, Origin, OriginTimeouts, Program, ProxyConfig};

use crate::support::peers::{Act, Asked, Peers};
use crate::support::{ORIGIN_IP, ORIGIN_IP6, ORIGIN_PORT, Shared, config, core_with};

pub const MS: u64 = 1_000_000;
/// For one attempt to connect.
pub const CONNECT_MS: u64 = 2_000;
const CLIENT_NS: u64 = 60_000 * MS;

/// The origin's two addresses, as they are tried.
pub const V6: IpAddr = IpAddr::V6(ORIGIN_IP6);

pub fn v4() -> IpAddr {
    ORIGIN_IP.into()
}

/// An origin with these addresses.
pub fn origin(addresses: &[IpAddr]) -> Origin {
    Origin {
        addresses: addresses.to_vec(),
        port: ORIGIN_PORT,
        authority: b"origin.lab".to_vec(),
        weight: 1,
        tls: None,
    }
}

/// A config with one site for all hosts, over these origins.
pub fn site(origins: Vec<Origin>, cached: bool) -> ProxyConfig {
    let mut config = config(CLIENT_NS);
    let answer = config.add_upstream(origins);
    let timeouts =
        OriginTimeouts { connect_ns: CONNECT_MS * MS, first_byte_ns: 5_000 * MS, idle_ns: 5_000 * MS };
    let route = config.add_site(&["*"], answer, timeouts);
    route.cache = cached.then(CacheRules::default);
    config
}

/// A node of one core that runs it.
pub fn node(config: ProxyConfig) -> Peers {
    node_of(config, &Shared::new(1))
}

/// The same; and what it writes into the ring of its log.
pub fn logged_node(mut config: ProxyConfig) -> (Peers, LineReader) {
    config.log = Some(LogTo { target: 0, format: LogFormat::Text });
    let shared = Shared::new(1);
    let peers = node_of(config, &shared);
    let reader = shared.lines.lock().expect("no panic").pop().expect("a ring");
    (peers, reader)
}

/// A node as `shared` says.
pub fn node_of(config: ProxyConfig, shared: &Shared) -> Peers {
    node_with(config, shared, StoreConfig::for_bytes(16 << 20, 2, [5, 6]))
}

/// The same, with this store where it has a cache.
pub fn node_with(config: ProxyConfig, shared: &Shared, store: StoreConfig) -> Peers {
    let (near, far) = wire(4096, 1600);
    let cache = config.routes.iter().any(|r| r.cache.is_some()).then(|| {
        let bells = Arc::clone(&shared.bells);
        let wake = Box::new(move |core: usize| bells.ring(core));
        let store = Store::reserve(store, PagePolicy::NormalOnly, wake).expect("a store");
        (store.handle(0), HashKeys(7, 8))
    });
    let core = core_with(Program::new(config), cache, 1024, near, shared, 0);
    Peers::new(vec![core], vec![far], Arc::clone(&shared.segment))
}

/// A node with an origin at `[V6, v4()]`.
pub fn two_addresses() -> Peers {
    node(site(vec![origin(&[V6, v4()])], false))
}

/// What an origin says that has nothing to say, and how often it was asked.
pub fn hello(asked: &mut usize) -> impl FnMut(&Asked, u64) -> Act {
    |_, _| {
        *asked += 1;
        Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(), false)
    }
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: site.lab\r\n\r\n").into_bytes()
}

/// Lets so much time go by.
pub fn wait(p: &mut Peers, ms: u64, origin: &mut dyn FnMut(&Asked, u64) -> Act) {
    let then = p.now.plus_ns(ms * MS);
    p.until(then, origin);
}

/// All that a client has got so far; and takes it.
pub fn text(p: &mut Peers, port: u16) -> String {
    String::from_utf8_lossy(&std::mem::take(p.client_got(port).0)).into_owned()
}

/// The statuses that a client has got so far, in order; and takes them.
pub fn statuses(p: &mut Peers, port: u16) -> Vec<u16> {
    let text = text(p, port);
    let first = |part: &str| part.split(' ').next().and_then(|n| n.parse().ok());
    text.split("HTTP/1.1 ").skip(1).filter_map(first).collect()
}

/// The origin's addresses that SYNs came to since `from`, and how many milliseconds after it; a repeated SYN of the
/// same connection is left out.
pub fn attempts(p: &Peers, from: Time) -> Vec<(IpAddr, u64)> {
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for (at, to, port) in p.syns.iter().filter(|(at, ..)| *at >= from) {
        if !seen.contains(&(*to, *port)) {
            seen.push((*to, *port));
            all.push((*to, at.since_ns(from) / MS));
        }
    }
    all
}

pub fn count(p: &Peers, c: Ctr) -> u64 {
    p.segment.read().get(c)
}

/// That nothing is left of any request or connection, but kept-alive ones to the origin.
pub fn at_rest(p: &mut Peers, client: u16) {
    p.client_resets(client);
    p.settle(&mut |_, _| Act::Hold);
    let core = &p.cores[0].pipeline;
    assert_eq!(core.proxy.active(), 0, "requests");
    assert_eq!(core.stack.tcp.flows().count() as u64, count(p, Ctr::OriginIdle), "connections");
}
