//! The config as the node sees it: plain values that cannot be wrong any more.
//!
//! The reader makes these (parse, don't validate): addresses are addresses, times are durations, hosts are in
//! lower case, and what refers to something else has been found there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dataplane::port::{Checksums, Segmentation};
use hugepages::PagePolicy;
use l7::tls::origin::Trust;
use stack::tcp::cc::Algorithm;
use stack::{CookieUse, EcnUse};

mod cache;
mod site;
mod tls;
mod upstream;

pub use cache::*;
pub use site::*;
pub use tls::*;
pub use upstream::*;

/// A whole, valid config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node itself.
    pub node: Node,
    /// At least one; names, devices and addresses are unique.
    pub ports: Vec<Port>,
    /// At least one; no two share an address and a TCP port, and each address is on a port.
    pub listeners: Vec<Listener>,
    /// At least one; no host is in two.
    pub sites: Vec<Site>,
    /// Where the sites' routes lead; no two are equal.
    pub upstreams: Vec<Upstream>,
    /// Memory of the cache.
    pub cache: Cache,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// Bounds of tables and buffers.
    pub limits: Limits,
    /// What all connections have in common.
    pub tcp: Tcp,
    /// What all connections with TLS have in common.
    pub tls: Tls,
    /// Whom the system trusts, where an origin is verified by that: read with the config, so that a reload sees what has
    /// changed.
    pub system_roots: Option<Trust>,
    /// Where certificates come from that are not the operator's own.
    pub acme: Option<Acme>,
    /// What is logged and how.
    pub log: Log,
    /// How origins' names become addresses.
    pub resolver: Resolver,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Names the run directory: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// CPU numbers, one loop each; empty means one loop that is not pinned.
    pub cores: Vec<u16>,
    /// For cache and pools together.
    pub memory_bytes: u64,
    /// What that memory is made of.
    pub pages: PagePolicy,
    /// Arguments of DPDK's environment beyond our own. Only where there is a port of kind `dpdk`.
    pub eal_args: Vec<String>,
    /// How long a stopping node serves the connections that it has.
    pub drain: Duration,
}

/// `[[port]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Unique among the ports.
    pub name: String,
    /// What carries its packets.
    pub kind: PortKind,
    /// At least one.
    pub addresses: Vec<Cidr>,
    /// At most one per address family, each within a prefix of the port (or IPv6 link-local).
    pub gateways: Vec<IpAddr>,
    /// 802.1Q tag of all frames.
    pub vlan: Option<u16>,
    /// Largest IP packet.
    pub mtu: u16,
    /// Unicast; chosen by the port where it is not given.
    pub mac: Option<[u8; 6]>,
    /// Every frame of the port is also written to this pcap file.
    pub pcap: Option<PathBuf>,
    /// The TAP interface by which the kernel has the port's addresses too. Not for `host`.
    pub host_if: Option<String>,
    /// Who computes checksums; for `dpdk` and `tap`.
    pub checksums: Checksums,
    /// Who cuts what is sent into segments; for `tap`.
    pub segmentation: Segmentation,
}

/// What carries a port's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortKind {
    /// A TAP device of this name.
    Tap {
        /// Interface name, at most 15 bytes.
        device: String,
    },
    /// A device of DPDK's. Only where cargo's feature `dpdk` is on.
    Dpdk {
        /// As [`dataplane::port::DeviceName`] takes it apart; PCI addresses are in the form that the kernel writes.
        device: String,
    },
    /// No device: ordinary kernel sockets, bridged in the process.
    Host,
}

impl PortKind {
    /// Whether both would have the same device.
    pub fn clashes(&self, other: &PortKind) -> bool {
        match (self, other) {
            (PortKind::Dpdk { device: a }, PortKind::Dpdk { device: b }) => {
                // The rest are arguments: DPDK knows one device of a name.
                a.split(',').next() == b.split(',').next()
            }
            _ => self == other,
        }
    }
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The host's own address, not the network's.
    pub address: IpAddr,
    /// At most 32 or 128.
    pub prefix_len: u8,
}

/// `[[listener]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// At least one; each is on a port.
    pub addresses: Vec<IpAddr>,
    /// TCP port for plain HTTP, never 0. At least one of `http` and `https` is there.
    pub http: Option<u16>,
    /// TCP port for HTTP over TLS, never 0, and another than `http`.
    pub https: Option<u16>,
    /// Connections from these networks begin with a PROXY protocol header, v1 or v2; empty means none do. From
    /// elsewhere a connection begins with the request.
    pub proxy_protocol_from: Vec<Cidr>,
    /// Congestion control of its connections.
    pub congestion: Algorithm,
    /// The shares of them that have another.
    pub split: Split,
    /// Most of its connections at a time, over all cores; `None`: as many as the node has room for.
    pub connections_max: Option<u32>,
}

/// What is spoken on a listener's TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP as it is.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Shares of a listener's connections, in percent, by the number of the congestion control that they have; the rest,
/// which is not negative, has the listener's own, whose share here is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split(pub [u8; Algorithm::ALL.len()]);

/// Which hosts a site answers for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `"*"`: whatever no other site answers for.
    Default,
    /// `"www.example.com"`, in lower case, without a closing point; IPv6 literals in brackets, as in `Host`.
    Exact(String),
    /// `"*.example.com"`: holds `example.com`, which itself is not matched.
    Wildcard(String),
}

/// `[timeouts]`: how long a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From a request's first byte to the end of its head.
    pub header: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request or response head: start line and fields together.
    pub head_bytes_max: u32,
    /// Most connections at a time, over all cores; `None` means computed from the memory.
    pub connections_max: Option<u32>,
}

/// `[tcp]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tcp {
    /// When SYNs are answered by cookies.
    pub syn_cookies: CookieUse,
    /// When connections use ECN.
    pub ecn: EcnUse,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least weighty kind of message that is written.
    pub level: LogLevel,
    /// How a message is written.
    pub format: LogFormat,
    /// Where a line per request goes, for sites that say nothing else; a site's own value has it already.
    pub access: Option<LogTarget>,
    /// How such a line is written.
    pub access_format: AccessFormat,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

/// `access_format` of `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// An object per line.
    Json,
    /// The combined format that web servers share, and the times.
    Text,
}

/// `[resolver]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers; empty means those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// An answer is kept at least this long.
    pub ttl_min: Duration,
}

/// `level` of `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// What an operator wants to know: start, reload, drain.
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

/// `format` of `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// A line for people.
    Text,
    /// An object per line.
    Json,
}

impl Config {
    /// Whether any origin is reached by https.
    pub fn has_secure_origins(&self) -> bool {
        self.upstreams.iter().any(|u| u.origins.iter().any(|o| o.scheme == Scheme::Https))
    }
}

impl Listener {
    /// Its TCP ports.
    pub fn ports(&self) -> impl Iterator<Item = (u16, Scheme)> {
        let http = self.http.map(|port| (port, Scheme::Http));
        http.into_iter().chain(self.https.map(|port| (port, Scheme::Https)))
    }

    /// Where it listens, in the order in which TCP is told: each address without TLS, then each with it.
    pub fn sockets(&self) -> impl Iterator<Item = (SocketAddr, Scheme)> {
        self.ports().flat_map(|(port, scheme)| {
            self.addresses.iter().map(move |a| (SocketAddr::new(*a, port), scheme))
        })
    }
}

impl Scheme {
    /// As in a URL.
    pub fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The TCP port that a URL without one means.
    pub fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Cidr {
    /// Whether an address is in this one's network.
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same_prefix(a.to_bits().into(), b.to_bits().into(), 32, self.prefix_len)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same_prefix(a.to_bits(), b.to_bits(), 128, self.prefix_len),
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, width: u8, prefix_len: u8) -> bool {
    debug_assert!(prefix_len <= width);
    // A shift by all 128 bits would overflow: /0 holds everything.
    prefix_len == 0 || (a ^ b) >> (width - prefix_len) == 0
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Default => f.write_str("*"),
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { header: Duration::from_secs(10), keep_alive: Duration::from_secs(60) }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { head_bytes_max: 16 << 10, connections_max: None }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: LogLevel::Info,
            format: LogFormat::Auto,
            access: None,
            access_format: AccessFormat::Json,
        }
    }
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver { servers: Vec::new(), ttl_min: Duration::from_secs(5) }
    }
}
