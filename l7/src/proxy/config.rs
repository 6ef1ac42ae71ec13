//! What the proxy is told: sites, origins, limits. Built on the control side, read by the cores.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::http1::HttpLimits;

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

/// Who answers a site's requests.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Origins, taken in turn.
    Origins(Vec<Origin>),
    /// We, with this body and status 200: for benches, which want to see the node alone.
    Stub(Vec<u8>),
}

/// Where an origin is.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its address.
    pub address: SocketAddr,
    /// Its name in `Host`, for clients that gave none.
    pub authority: Vec<u8>,
}

/// One site.
#[derive(Clone, Debug)]
pub struct Site {
    /// `example.com`, `*.example.com`, or `*`; lower case.
    pub hosts: Vec<String>,
    /// Who answers.
    pub answer: Answer,
    /// Timeouts.
    pub timeouts: OriginTimeouts,
}

/// Everything the proxy is told.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The sites.
    pub sites: Vec<Site>,
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
    /// Unix time at `Time(0)`, in nanoseconds: for `Date`.
    pub unix_ns_at_start: u64,
}

/// Finds a site by host name: exact names and wildcards in one table each, longest wildcard first.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Vec<u8>, u16>,
    wildcard: HashMap<Vec<u8>, u16>,
    default: Option<u16>,
}

/// Longest host name (RFC 1035 2.3.4), and a bound on what is looked up.
const HOST_BYTES_MAX: usize = 255;

impl Router {
    /// The router for these sites.
    pub fn new(sites: &[Site]) -> Router {
        let mut r = Router::default();
        for (n, site) in sites.iter().enumerate() {
            let n = n as u16;
            for host in &site.hosts {
                match host.strip_prefix("*.") {
                    _ if host == "*" => r.default = Some(n),
                    Some(parent) => drop(r.wildcard.insert(parent.as_bytes().to_vec(), n)),
                    None => drop(r.exact.insert(host.as_bytes().to_vec(), n)),
                }
            }
        }
        r
    }

    /// The site of `host` (any case, no port).
    pub fn find(&self, host: &[u8]) -> Option<u16> {
        let mut buf = [0u8; HOST_BYTES_MAX];
        let Some(name) = buf.get_mut(..host.len()) else { return self.default };
        name.copy_from_slice(host);
        name.make_ascii_lowercase();
        let mut name: &[u8] = name;
        // `example.com.` is the same name (RFC 1034 3.1).
        if let [rest @ .., b'.'] = name {
            name = rest;
        }
        if let Some(n) = self.exact.get(name) {
            return Some(*n);
        }
        if !self.wildcard.is_empty() {
            while let Some(dot) = memchr::memchr(b'.', name) {
                name = &name[dot + 1..];
                if let Some(n) = self.wildcard.get(name) {
                    return Some(*n);
                }
            }
        }
        self.default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(hosts: &[&str]) -> Site {
        Site {
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            answer: Answer::Stub(Vec::new()),
            timeouts: OriginTimeouts { connect_ns: 1, first_byte_ns: 1, idle_ns: 1 },
        }
    }

    #[test]
    fn exact_then_longest_wildcard_then_default() {
        let r = Router::new(&[
            site(&["a.example.com"]),
            site(&["*.example.com"]),
            site(&["*.b.example.com"]),
            site(&["*"]),
        ]);
        for (host, want) in [
            ("a.example.com", 0),
            ("A.Example.COM", 0),
            ("a.example.com.", 0),
            ("x.example.com", 1),
            ("x.b.example.com", 2),
            ("x.y.b.example.com", 2),
            ("b.example.com", 1),
            ("example.com", 3),
            ("other", 3),
            ("", 3),
        ] {
            assert_eq!(r.find(host.as_bytes()), Some(want), "{host}");
        }
        assert_eq!(Router::new(&[site(&["x"])]).find(b"y"), None);
        assert_eq!(r.find(&[b'a'; 300]), Some(3));
    }
}
