//! An upstream: a set of origins, and how requests are spread over them.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{OriginTls, Scheme};

/// A set of origins with everything that has a state per origin. Sites and routes that say the same share one, and
/// with it connections, health and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// 1 to [`ORIGINS_MAX`](crate::config::ORIGINS_MAX), without duplicates.
    pub origins: Vec<Origin>,
    /// How the next origin is chosen.
    pub balance: Balance,
    /// Bounds for each origin.
    pub limits: OriginLimits,
    /// When a failed request is tried again.
    pub retries: Retries,
    /// Active checks; `None` means none.
    pub health: Option<HealthCheck>,
    /// What takes an origin out that fails requests; `None` means that nothing does.
    pub outlier: Option<Outlier>,
    /// The PROXY protocol header that begins each connection to an origin.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How connections to those of its origins are made that are reached by https.
    pub tls: OriginTls,
}

impl Upstream {
    /// Whether an origin is verified by whom the system trusts.
    pub fn trusts_the_system(&self) -> bool {
        let verified = self.tls.verify && self.tls.roots.is_none();
        verified && self.origins.iter().any(|o| o.scheme == Scheme::Https)
    }
}

/// An origin server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: OriginHost,
    /// TCP port, never 0.
    pub port: u16,
    /// `host:port` as in the config (the port left out where it is the scheme's own): for messages, and for `Host` where a
    /// request has none.
    pub authority: String,
    /// Its share of the requests, beside the others'; 1 to [`WEIGHT_MAX`](crate::config::WEIGHT_MAX).
    pub weight: u16,
}

/// Where an origin is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OriginHost {
    /// At this address.
    Address(IpAddr),
    /// Wherever this name leads: in lower case, without a closing point.
    Name(String),
}

/// `balance` and `hash_key`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// Each in turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way, by weight.
    LeastOutstanding,
    /// The same one for the same key.
    Hash(HashKey),
}

/// `hash_key`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashKey {
    /// Path and query.
    #[default]
    Uri,
    /// Path without the query.
    Path,
    /// The client's address.
    ClientIp,
    /// A request's header field, in lower case; a request without it counts as an empty one.
    Header(String),
    /// A cookie; a request without it counts as an empty one.
    Cookie(String),
}

/// `origin_limits`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginLimits {
    /// Connections to each origin, over all cores; `None` means bounded by `[limits] connections` alone.
    pub connections_max: Option<u32>,
    /// Requests that may wait for a connection, over all cores; beyond, they are answered 503.
    pub queue_max: u32,
    /// How long one waits before it is answered 503.
    pub queue_timeout: Duration,
}

/// `retries`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Further attempts per request; 0 means none.
    pub max: u8,
    /// Retries as a share of requests, 0 to 100.
    pub budget_percent: u8,
}

/// `health`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for with GET; begins with `/`.
    pub path: String,
    /// `Host` of the check; `None` means the origin's authority.
    pub host: Option<String>,
    /// From check to check.
    pub interval: Duration,
    /// From the SYN to the response's head; not longer than `interval`.
    pub timeout: Duration,
    /// Good checks in a row that bring an origin up; never 0.
    pub rise: u8,
    /// Bad checks in a row that take it down; never 0.
    pub fall: u8,
    /// Statuses that are good; at least one.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// How long the share of an origin that came up grows to its full size; zero means at once.
    pub slow_start: Duration,
}

/// `outlier`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlier {
    /// Failed requests in a row (no connection, no response, or a 5xx); never 0.
    pub failures: u16,
    /// How long it is out the first time; each time after that it is longer.
    pub ejection: Duration,
}

/// Version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// A binary header.
    V2,
}

impl Upstream {
    /// One origin, with defaults otherwise.
    pub fn plain(origin: Origin) -> Upstream {
        Upstream { origins: vec![origin], ..Upstream::none() }
    }

    /// What an upstream is, before its origins are known.
    pub(in crate::config) fn none() -> Upstream {
        Upstream {
            origins: Vec::new(),
            balance: Balance::default(),
            limits: OriginLimits::default(),
            retries: Retries::default(),
            health: None,
            outlier: Some(Outlier::default()),
            proxy_protocol: None,
            tls: OriginTls::default(),
        }
    }
}

impl Origin {
    /// The origin at a socket's address, spoken to without TLS.
    pub fn at(address: SocketAddr, authority: String) -> Origin {
        let host = OriginHost::Address(address.ip());
        Origin { scheme: Scheme::Http, host, port: address.port(), authority, weight: 1 }
    }

    /// Its address, where the config gives it.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            OriginHost::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            OriginHost::Name(_) => None,
        }
    }
}

impl Default for OriginLimits {
    fn default() -> OriginLimits {
        OriginLimits { connections_max: None, queue_max: 1024, queue_timeout: Duration::from_secs(5) }
    }
}

impl Default for Retries {
    fn default() -> Retries {
        Retries { max: 2, budget_percent: 20 }
    }
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        HealthCheck {
            path: "/".to_string(),
            host: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            statuses: vec![200..=299],
            slow_start: Duration::ZERO,
        }
    }
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier { failures: 5, ejection: Duration::from_secs(30) }
    }
}
