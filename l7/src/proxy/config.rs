//! What the proxy is told: sites, routes, upstreams, limits. Built on the control side, read by the cores.

use std::net::SocketAddr;

use super::log::LogTo;
use super::peers::{Network, ProxyVersion};
use crate::cache::policy::rules::CacheRules;
use crate::http1::{HttpLimits, Method};
use crate::phases::{self, ErrorPages, Phase};

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
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its address.
    pub address: SocketAddr,
    /// Its name in `Host`, for clients that gave none.
    pub authority: Vec<u8>,
}

/// A group of origins that can stand in for each other.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// Taken in turn.
    pub origins: Vec<Origin>,
    /// The PROXY header that begins each connection to them.
    pub proxy_protocol: Option<ProxyVersion>,
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
    pub(super) fn reads_request_later(&self, method: Method) -> bool {
        !self.modules.is_empty(Phase::Response)
            || !self.modules.is_empty(Phase::OriginResponse)
            || (self.cache.is_some() && (!method.is_safe() || method == Method::Head))
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
    /// Where requests are logged that are no site's, or cannot be read.
    pub log: Option<LogTo>,
}

impl ProxyConfig {
    /// Adds an upstream; gives its number.
    pub fn add_upstream(&mut self, origins: Vec<Origin>) -> Answer {
        self.upstreams.push(Upstream { origins, proxy_protocol: None });
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
        });
        self.routes.push(Route::new(answer, timeouts));
        &mut self.routes[number]
    }

    /// The PROXY header that connections to a route's origins begin with.
    pub(super) fn proxy_version(&self, route: u16) -> Option<ProxyVersion> {
        match self.routes.get(route as usize)?.answer {
            Answer::Upstream(n) => self.upstreams[n as usize].proxy_protocol,
            _ => None,
        }
    }

    /// The origins of a route.
    pub fn origins(&self, route: u16) -> &[Origin] {
        match self.routes[route as usize].answer {
            Answer::Upstream(n) => &self.upstreams[n as usize].origins,
            _ => &[],
        }
    }
}
