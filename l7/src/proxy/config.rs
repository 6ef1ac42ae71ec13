//! What the proxy is told: sites, routes, upstreams, limits. Built on the control side, read by the cores.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use stack::tcp::Tuning;
use stack::tcp::cc::Algorithm;

use super::log::LogTo;
use super::peers::{Network, ProxyVersion};
use crate::cache::policy::rules::CacheRules;
use crate::http1::{self, HttpLimits, RequestHead};
use crate::phases::{self, ErrorPages, Phase};
use crate::tls::Front;
use crate::tls::origin::OriginTls;
use crate::upstream::{CheckSettings, Method, SetSettings, SharedHealth, hash_key};

/// Timeouts of client connections, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// From the connection (or the first byte) to the end of the head.
    pub header_ns: u64,
    /// A connection without a request.
    pub keep_alive_ns: u64,
}

/// Timeouts towards origins, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct OriginTimeouts {
    /// SYN to established.
    pub connect_ns: u64,
    /// Request sent to the head of the response.
    pub first_byte_ns: u64,
    /// A body that stands still, in either direction.
    pub idle_ns: u64,
}

/// Who answers a route's requests.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The origins of the upstream of this number.
    Upstream(u16),
    /// We, with this body and status 200: for benches, which want to see the node alone.
    Stub(Vec<u8>),
    /// Nobody: a module answers every request.
    Nobody,
}

/// Where an origin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its addresses, in the order in which they are tried; none: the name has not been found yet.
    pub addresses: Vec<IpAddr>,
    /// Its TCP port.
    pub port: u16,
    /// Its name in `Host`, for clients that gave none; balancing and health know it by that too.
    pub authority: Vec<u8>,
    /// Its share of the requests; not 0.
    pub weight: u16,
    /// How TLS is spoken with it; `None`: it is not.
    pub tls: Option<Arc<OriginTls>>,
}

impl Origin {
    /// One with a single address.
    pub fn at(address: SocketAddr, authority: &[u8]) -> Origin {
        Origin {
            addresses: vec![address.ip()],
            port: address.port(),
            authority: authority.to_vec(),
            weight: 1,
            tls: None,
        }
    }
}

/// What the key of a balance by key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// Path and query.
    Uri,
    /// The path alone.
    Path,
    /// The client's address.
    ClientIp,
    /// A header field.
    Header(Vec<u8>),
    /// A cookie.
    Cookie(Vec<u8>),
}

/// How the origins of an upstream are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChecks {
    /// What is asked, and when.
    pub settings: CheckSettings,
    /// Its `Host`; `None` means the origin's authority.
    pub host: Option<Vec<u8>>,
}

/// A group of origins that can stand in for each other.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// 1 to 64.
    pub origins: Vec<Origin>,
    /// The PROXY header that begins each connection to them.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How requests are spread, bounded and retried. The bounds are the whole node's.
    pub settings: SetSettings,
    /// For [`Method::Hash`].
    pub key: KeyOf,
    /// Active checks.
    pub checks: Option<HealthChecks>,
    /// What the checks have found; outlives a reload that leaves the upstream as it is.
    pub health: Arc<SharedHealth>,
}

impl Upstream {
    /// Origins in turn, with one retry at another, without bounds.
    pub fn new(origins: Vec<Origin>) -> Upstream {
        let settings = SetSettings {
            method: Method::RoundRobin,
            slow_start_ns: 0,
            connections_max: None,
            queue_max: 0,
            queue_timeout_ns: 0,
            outlier: None,
            retries_max: 2,
            retry_percent: 20,
        };
        let health = Arc::new(SharedHealth::new(origins.len()));
        Upstream { origins, proxy_protocol: None, settings, key: KeyOf::Uri, checks: None, health }
    }

    /// Whether both are the same, wherever their names lead at the moment.
    pub fn is_same(&self, other: &Upstream) -> bool {
        let known = |o: &Origin| (o.authority.clone(), o.port, o.weight, o.tls.clone());
        self.settings == other.settings
            && self.proxy_protocol == other.proxy_protocol
            && self.key == other.key
            && self.checks == other.checks
            && self.origins.iter().map(known).eq(other.origins.iter().map(known))
    }

    /// The key of a request, for a balance by key.
    pub fn key(&self, head: &RequestHead<'_>, client: IpAddr) -> u64 {
        if self.settings.method != Method::Hash {
            return 0;
        }
        match &self.key {
            KeyOf::Uri => match head.query() {
                None => hash_key(head.path()),
                Some(query) => hash_key(head.path()).rotate_left(32) ^ hash_key(query),
            },
            KeyOf::Path => hash_key(head.path()),
            KeyOf::ClientIp => match client {
                IpAddr::V4(a) => hash_key(&a.octets()),
                IpAddr::V6(a) => hash_key(&a.octets()),
            },
            KeyOf::Header(name) => hash_key(head.headers().get(name).unwrap_or_default()),
            KeyOf::Cookie(name) => hash_key(cookie(head, name)),
        }
    }
}

/// The value of a cookie; empty where there is none.
fn cookie<'h>(head: &RequestHead<'h>, name: &[u8]) -> &'h [u8] {
    let line = head.headers().get(b"cookie").unwrap_or_default();
    let mut pairs = line.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    pairs.find_map(|p| p.strip_prefix(name)?.strip_prefix(b"=")).unwrap_or_default()
}

/// A part of a site, by the prefix of its paths.
#[derive(Debug)]
pub struct Route {
    /// Who answers.
    pub answer: Answer,
    /// Timeouts.
    pub timeouts: OriginTimeouts,
    /// How its responses are cached, if they are.
    pub cache: Option<CacheRules>,
    /// Whether `Cache-Status` is sent.
    pub cache_status: bool,
    /// What happens to a request besides being carried.
    pub modules: phases::Program,
}

impl Route {
    /// A route without modules and cache.
    pub fn new(answer: Answer, timeouts: OriginTimeouts) -> Route {
        Route { answer, timeouts, cache: None, cache_status: true, modules: phases::Program::default() }
    }

    /// Whether the head of a request with this method is looked at again when its response comes: by modules, or
    /// for what the request makes invalid.
    pub(super) fn reads_request_later(&self, method: http1::Method) -> bool {
        !self.modules.is_empty(Phase::Response)
            || !self.modules.is_empty(Phase::OriginResponse)
            || (self.cache.is_some() && (!method.is_safe() || method == http1::Method::Head))
    }
}

/// One site.
#[derive(Debug)]
pub struct Site {
    /// `example.com`, `*.example.com`, or `*`; lower case.
    pub hosts: Vec<String>,
    /// Prefixes of paths, and which of [`ProxyConfig::routes`] each leads to.
    pub routes: Vec<(String, u16)>,
    /// Bodies of the errors that we answer with.
    pub pages: ErrorPages,
    /// Where its requests are logged, if they are.
    pub log: Option<LogTo>,
    /// Congestion control of clients' connections from their first request for it on, where it says so.
    pub congestion: Option<Algorithm>,
    /// Whether its clients show certificates.
    pub client_auth: ClientAuth,
    /// [`Front::policy`] of the entries by which they are verified: only connections that were opened by one of them are
    /// this site's.
    pub policies: Vec<u32>,
}

/// Whether a site's clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; who has none is served.
    Optional,
    /// Who has shown none is not served; nor who could show none, as there is no TLS.
    Required,
}

impl Site {
    /// Whether requests for it may come by a connection that was verified by `policy`; 0: nobody was asked.
    pub(super) fn is_served_over(&self, policy: u32) -> bool {
        match policy {
            0 => self.client_auth == ClientAuth::None,
            policy => self.policies.contains(&policy),
        }
    }
}

/// Everything the proxy is told.
#[derive(Debug)]
pub struct ProxyConfig {
    /// The sites.
    pub sites: Vec<Site>,
    /// The routes of all sites.
    pub routes: Vec<Route>,
    /// The upstreams of all routes.
    pub upstreams: Vec<Upstream>,
    /// Limits of the parser.
    pub http: HttpLimits,
    /// Client timeouts.
    pub client: ClientTimeouts,
    /// Kept-alive connections per origin and core.
    pub idle_per_origin_max: usize,
    /// How long an unused one is kept.
    pub origin_keep_alive_ns: u64,
    /// Memory that a request may hold in each direction, by true size.
    pub request_budget_bytes: u32,
    /// Unix time at `Time(0)`, in nanoseconds: for `Date`, and for the ages of stored responses.
    pub unix_ns_at_start: u64,
    /// By listener of TCP: the networks whose connections begin with a PROXY header.
    pub proxy_headers_from: Vec<Vec<Network>>,
    /// By listener of TCP: whether its connections begin with TLS.
    pub tls_listeners: Vec<bool>,
    /// What their clients are shown.
    pub front: Arc<Front>,
    /// By listener of TCP: how its connections are treated. It is the node's to tell TCP.
    pub tunings: Vec<Tuning>,
    /// Where requests are logged that are no site's, or cannot be read.
    pub log: Option<LogTo>,
}

impl ProxyConfig {
    /// Adds an upstream; gives its number.
    pub fn add_upstream(&mut self, origins: Vec<Origin>) -> Answer {
        self.upstreams.push(Upstream::new(origins));
        Answer::Upstream(self.upstreams.len() as u16 - 1)
    }

    /// Adds a site with one route for all of its paths; gives that.
    pub fn add_site(&mut self, hosts: &[&str], answer: Answer, timeouts: OriginTimeouts) -> &mut Route {
        let number = self.routes.len();
        self.sites.push(Site {
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            routes: vec![("/".to_owned(), number as u16)],
            pages: ErrorPages::none(),
            log: self.log,
            congestion: None,
            client_auth: ClientAuth::None,
            policies: Vec::new(),
        });
        self.routes.push(Route::new(answer, timeouts));
        &mut self.routes[number]
    }

    /// The PROXY header that connections to a route's origins begin with.
    pub(super) fn proxy_version(&self, route: u16) -> Option<ProxyVersion> {
        self.upstream(route)?.proxy_protocol
    }

    /// The upstream of a route.
    pub fn upstream(&self, route: u16) -> Option<&Upstream> {
        match self.routes[route as usize].answer {
            Answer::Upstream(n) => self.upstreams.get(n as usize),
            _ => None,
        }
    }

    /// The origins of a route.
    pub fn origins(&self, route: u16) -> &[Origin] {
        self.upstream(route).map_or(&[], |u| &u.origins)
    }
}
