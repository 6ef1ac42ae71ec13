//! A site: its hosts, its routes, and what it does with requests beside caching them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stack::tcp::cc::Algorithm;

use super::{CacheRules, HostPattern, LogTarget, SiteTls};

/// `[[site]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// At least one.
    pub hosts: Vec<HostPattern>,
    /// At least one, the longest path first: the first one that matches is the right one. The last has the path
    /// `/`: what the site itself says, or its route of that path.
    pub routes: Vec<Route>,
    /// What it shows to clients that come by https.
    pub tls: SiteTls,
    /// Bodies of the node's own error responses.
    pub error_pages: Vec<ErrorPage>,
    /// Where a line per request goes; `None` means nowhere.
    pub access_log: Option<LogTarget>,
    /// Congestion control of connections from the first request for this site on; `None`: the listener's.
    pub congestion: Option<Algorithm>,
}

/// `[[site.route]]`, or the site itself as the route of `/`: whatever a route does not say, it has from its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Begins with `/`; a request's path that begins with it takes this route.
    pub path: String,
    /// Who answers: an index into [`Config::upstreams`](super::Config::upstreams). `None` only where `redirect`
    /// answers every request.
    pub upstream: Option<usize>,
    /// How long an origin may take.
    pub timeouts: OriginTimeouts,
    /// How responses are cached; `None` means not at all.
    pub cache: Option<CacheRules>,
    /// What is changed in a request on its way to the origin.
    pub request_headers: HeaderRules,
    /// What is changed in a response on its way to the client.
    pub response_headers: HeaderRules,
    /// Requests that are answered with another place.
    pub redirect: Option<Redirect>,
}

/// `timeouts` of a site or a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginTimeouts {
    /// From the SYN to the connection.
    pub connect: Duration,
    /// From the request's last byte to the response's first.
    pub first_byte: Duration,
    /// Between two bytes of a body, in either direction.
    pub idle: Duration,
}

/// `redirect` of a site or a route. At least one of `https` and `host` is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Requests that did not come by https go there.
    pub https: bool,
    /// Requests for another host go to this one: in lower case, an IPv6 address in brackets.
    pub host: Option<String>,
    /// 301, 302, 307 or 308.
    pub status: u16,
}

/// `request_headers` or `response_headers`, in the order in which it is done: remove, set, add.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderRules {
    /// Fields that are taken out.
    pub remove: Vec<NamePattern>,
    /// Fields that are written in place of all of the same name; each name once.
    pub set: Vec<HeaderField>,
    /// Fields that are written beside those of the same name.
    pub add: Vec<HeaderField>,
}

/// A field to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderField {
    /// As in the config; never a framing or hop-by-hop field.
    pub name: String,
    /// Its value, in order.
    pub value: Vec<ValuePart>,
}

/// A part of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// These bytes: printable ASCII, spaces and tabs.
    Text(String),
    /// What the request says.
    Variable(Variable),
}

/// A variable of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `{client_ip}`
    ClientIp,
    /// `{host}`: as the request has it, without port.
    Host,
    /// `{path}`: without the query.
    Path,
    /// `{scheme}`: `http` or `https`.
    Scheme,
    /// `{client_subject}`: of the client's certificate, as all that follow.
    ClientSubject,
    /// `{client_issuer}`
    ClientIssuer,
    /// `{client_serial}`
    ClientSerial,
    /// `{client_fingerprint}`: SHA-256.
    ClientFingerprint,
}

/// A name, or all names with a beginning, in lower case where case means nothing (header fields).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// `X-Internal-Id`
    Exact(String),
    /// `X-Internal-*`: holds `x-internal-`, never empty.
    Prefix(String),
}

/// An entry of `error_pages`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// One status, or a class (`500..=599`); single ones stand before classes.
    pub statuses: RangeInclusive<u16>,
    /// Where it was read from.
    pub file: PathBuf,
    /// Value of `Content-Type`, by the file's ending.
    pub content_type: &'static str,
    /// At most [`ERROR_PAGE_BYTES_MAX`](crate::config::ERROR_PAGE_BYTES_MAX).
    pub body: Arc<[u8]>,
}

impl Site {
    /// A site that sends everything to one upstream and has defaults otherwise.
    pub fn plain(hosts: Vec<HostPattern>, upstream: usize) -> Site {
        Site {
            hosts,
            routes: vec![Route::plain(upstream)],
            tls: SiteTls::default(),
            error_pages: Vec::new(),
            access_log: None,
            congestion: None,
        }
    }
}

impl Site {
    /// The names that a certificate by ACME is for: all of its hosts that are names.
    pub fn acme_names(&self) -> Vec<String> {
        let name = |h: &HostPattern| match h {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Default | HostPattern::Wildcard(_) => None,
        };
        self.hosts.iter().filter_map(name).collect()
    }
}

impl Route {
    /// The route of `/` to this upstream, with defaults otherwise.
    pub fn plain(upstream: usize) -> Route {
        Route {
            path: "/".to_string(),
            upstream: Some(upstream),
            timeouts: OriginTimeouts::default(),
            cache: None,
            request_headers: HeaderRules::default(),
            response_headers: HeaderRules::default(),
            redirect: None,
        }
    }
}

impl NamePattern {
    /// Whether it means `name`, which is in the same case.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            NamePattern::Exact(exact) => exact == name,
            NamePattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

impl Variable {
    /// Whether only clients with a certificate have it.
    pub fn is_of_certificate(self) -> bool {
        match self {
            Variable::ClientIp | Variable::Host | Variable::Path | Variable::Scheme => false,
            Variable::ClientSubject
            | Variable::ClientIssuer
            | Variable::ClientSerial
            | Variable::ClientFingerprint => true,
        }
    }
}

impl HeaderRules {
    /// Whether a field says who a client is by its certificate.
    pub fn name_clients(&self) -> bool {
        let parts = self.set.iter().chain(&self.add).flat_map(|f| &f.value);
        let mut variables = parts.filter_map(|part| match part {
            ValuePart::Variable(variable) => Some(*variable),
            ValuePart::Text(_) => None,
        });
        variables.any(Variable::is_of_certificate)
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

impl Default for OriginTimeouts {
    fn default() -> OriginTimeouts {
        OriginTimeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(60),
        }
    }
}
