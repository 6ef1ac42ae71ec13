//! What the proxy is told: a [`Program`] from a [`Config`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hugepages::Limits;
use l7::cache::policy::rules::{CacheRules, KeyRules, Obey, QueryRule};
use l7::http1::HttpLimits;
use l7::phases::modules::RedirectTo;
use l7::phases::{
    EditSpec, ErrorPages, Filter, LogFormat, Program as Modules, Redirect, RequestHeaders, ResponseHeaders,
};
use l7::proxy::{
    Answer, ClientAuth, ClientTimeouts, HealthChecks, KeyOf, LogTo, Network, Origin, OriginTimeouts, Program,
    ProxyConfig, ProxyVersion, Route, Site, Upstream,
};
use l7::tls::Front;
use l7::tls::front::Tickets;
use l7::upstream::{ADDRESSES_MAX, CheckSettings, Method, OutlierSettings, SetSettings};

use stack::tcp::{Congestion, Tuning};

use super::acme;
use super::assemble::cores;
use super::origin_tls;
use crate::access_log::Targets;
use crate::acme::Shown;
use crate::config::{
    self, AccessFormat, Balance, Config, HashKey, HeaderRules, HostPattern, LogTarget, NamePattern,
    OriginHost, QueryKey, Scheme, ValuePart, Variable,
};
use crate::tls;

/// Kept-alive connections per origin and core.
const IDLE_PER_ORIGIN_MAX: usize = 256;
/// How long an unused origin connection is kept: less than the 60 to 75 s that origins usually wait.
const ORIGIN_KEEP_ALIVE_NS: u64 = 50_000_000_000;

/// What the cores' program is made from, beside the config.
pub struct Given<'a> {
    /// The pools of each core.
    pub limits: &'a Limits,
    /// The time at which the cores' clock was 0.
    pub unix_ns_at_start: u64,
    /// Where names lead, as far as that is known.
    pub known: &'a dyn Fn(&str) -> Vec<IpAddr>,
    /// What it has found about origins that stay is kept.
    pub old: Option<&'a Program>,
    /// Where lines of the access log go.
    pub logs: &'a Targets,
    /// What ACME's server has to find.
    pub shown: &'a [Shown],
    /// How clients' sessions are resumed.
    pub tickets: Option<Tickets>,
}

/// What clients are shown, by TLS or for a while by ACME.
pub struct Presented {
    /// For the cores.
    pub front: Arc<Front>,
    /// By site: how clients are verified whose requests are its.
    policies: Vec<Vec<u32>>,
}

impl Presented {
    /// Whether it may take the place of what a program has: its sites' clients are verified as they were.
    pub fn fits(&self, program: &Program) -> bool {
        program.config.sites.iter().map(|s| &s.policies).eq(&self.policies)
    }
}

/// What clients are shown by a config.
///
/// # Errors
/// One sentence.
pub fn presented(config: &Config, tickets: Option<Tickets>, shown: &[Shown]) -> Result<Presented, String> {
    let fronts = tls::fronts(config, tickets, &acme::challenges(shown))?;
    let (front, sites) = fronts.map_or_else(|| (Front::empty(), Vec::new()), |f| (f.front, f.sites));
    let mut policies = vec![Vec::new(); config.sites.len()];
    for (entry, site) in (0..).zip(sites) {
        let policy = front.policy(entry);
        if policy != 0 {
            policies[usize::from(site)].push(policy);
        }
    }
    let front = Arc::new(front.proving(acme::proofs(&config.sites, shown)));
    Ok(Presented { front, policies })
}

/// Compiles a config for the cores.
///
/// # Errors
/// One sentence, where a rule cannot be compiled.
pub fn compile(config: &Config, given: Given<'_>) -> Result<Arc<Program>, String> {
    let Given { limits, unix_ns_at_start, known, old, logs, shown, tickets } = given;
    let Presented { front, mut policies } = presented(config, tickets, shown)?;
    let log_to = |target: &Option<LogTarget>| -> Result<Option<LogTo>, String> {
        let Some(target) = target else { return Ok(None) };
        let format = match config.log.access_format {
            AccessFormat::Json => LogFormat::Json,
            AccessFormat::Text => LogFormat::Text,
        };
        Ok(Some(LogTo { target: logs.number(target)?, format }))
    };
    let upstreams = config.upstreams.iter().map(|u| upstream(u, config, known));
    let mut p = ProxyConfig {
        sites: Vec::new(),
        routes: Vec::new(),
        upstreams: upstreams.collect::<Result<_, _>>()?,
        http: HttpLimits { head_bytes_max: config.limits.head_bytes_max as usize, ..HttpLimits::default() },
        client: ClientTimeouts {
            header_ns: ns(config.timeouts.header),
            keep_alive_ns: ns(config.timeouts.keep_alive),
        },
        idle_per_origin_max: IDLE_PER_ORIGIN_MAX,
        origin_keep_alive_ns: ORIGIN_KEEP_ALIVE_NS,
        request_budget_bytes: limits.request_budget_bytes,
        unix_ns_at_start,
        tls_listeners: config
            .listeners
            .iter()
            .flat_map(|l| l.sockets().map(|(_, s)| s == Scheme::Https))
            .collect(),
        front,
        tunings: tunings(config),
        proxy_headers_from: config.listeners.iter().flat_map(proxy_headers_from).collect(),
        log: log_to(&config.log.access)?,
    };
    for s in &config.sites {
        let first = p.routes.len();
        for r in &s.routes {
            let route =
                route(r).map_err(|e| format!("site {}, route {}: {e}", host_text(&s.hosts[0]), r.path))?;
            p.routes.push(route);
        }
        let pages: Vec<_> = s.error_pages.iter().map(|e| (statuses_text(&e.statuses), e)).collect();
        p.sites.push(Site {
            hosts: s.hosts.iter().map(host_text).collect(),
            routes: (first..).zip(&s.routes).map(|(n, r)| (r.path.clone(), n as u16)).collect(),
            pages: ErrorPages::typed(
                pages.iter().map(|(which, e)| (which.as_str(), e.content_type, e.body.to_vec())),
            )
            .map_err(|e| format!("error_pages: {e}"))?,
            log: log_to(&s.access_log)?,
            congestion: s.congestion,
            client_auth: match &s.tls.client_auth {
                None => ClientAuth::None,
                Some(auth) if auth.required => ClientAuth::Required,
                Some(_) => ClientAuth::Optional,
            },
            policies: std::mem::take(&mut policies[p.sites.len()]),
        });
    }
    Ok(Program::following(p, old))
}

fn ns(d: Duration) -> u64 {
    d.as_nanos().min(u128::from(u64::MAX / 4)) as u64
}

fn seconds(d: Duration) -> u32 {
    d.as_secs().min(u64::from(u32::MAX)) as u32
}

/// `known`: where names lead, as far as that is known.
fn upstream(
    u: &config::Upstream,
    config: &Config,
    known: &dyn Fn(&str) -> Vec<IpAddr>,
) -> Result<Upstream, String> {
    let mut tls = origin_tls::Maker::new(u, config.system_roots.as_ref(), cores(config));
    let origin = |o: &config::Origin| -> Result<Origin, String> {
        Ok(Origin {
            addresses: match &o.host {
                OriginHost::Address(a) => vec![*a],
                OriginHost::Name(name) => by_turns(known(name)),
            },
            port: o.port,
            authority: o.authority.clone().into_bytes(),
            weight: o.weight,
            tls: tls.of(o)?,
        })
    };
    let mut up = Upstream::new(u.origins.iter().map(origin).collect::<Result<_, _>>()?);
    let (method, key) = match &u.balance {
        Balance::RoundRobin => (Method::RoundRobin, KeyOf::Uri),
        Balance::LeastOutstanding => (Method::LeastOutstanding, KeyOf::Uri),
        Balance::Hash(key) => (Method::Hash, key_of(key)),
    };
    up.key = key;
    up.settings = SetSettings {
        method,
        slow_start_ns: u.health.as_ref().map_or(0, |h| ns(h.slow_start)),
        connections_max: u.limits.connections_max,
        queue_max: u.limits.queue_max,
        queue_timeout_ns: ns(u.limits.queue_timeout),
        outlier: u.outlier.map(|o| OutlierSettings { failures: o.failures, ejection_ns: ns(o.ejection) }),
        retries_max: u.retries.max,
        retry_percent: u.retries.budget_percent,
    };
    up.proxy_protocol = u.proxy_protocol.map(|version| match version {
        config::ProxyVersion::V1 => ProxyVersion::V1,
        config::ProxyVersion::V2 => ProxyVersion::V2,
    });
    up.checks = u.health.as_ref().map(|h| HealthChecks {
        settings: CheckSettings {
            path: h.path.clone().into_bytes(),
            interval_ns: ns(h.interval),
            timeout_ns: ns(h.timeout),
            rise: h.rise,
            fall: h.fall,
            statuses: h.statuses.clone(),
        },
        host: h.host.clone().map(String::into_bytes),
    });
    Ok(up)
}

/// For each of a listener's sockets, which is a listener of TCP: whose connections begin with a PROXY header.
fn proxy_headers_from(l: &config::Listener) -> Vec<Vec<Network>> {
    let network = |c: &config::Cidr| Network { address: c.address, prefix_len: c.prefix_len };
    vec![l.proxy_protocol_from.iter().map(network).collect(); l.sockets().count()]
}

/// For each socket of each listener, which is a listener of TCP: how its connections are treated on a core. A bound is
/// the listener's, shared by its sockets, and divided among the cores.
fn tunings(config: &Config) -> Vec<Tuning> {
    let cores = cores(config) as u32;
    let mut tunings = Vec::new();
    for l in &config.listeners {
        let first = tunings.len() as u16;
        let connections_max = l.connections_max.map_or(u32::MAX, |n| n.div_ceil(cores));
        let counted_with = Some(first);
        let congestion = Congestion { algorithm: l.congestion, split: l.split.0 };
        let each = Tuning { congestion, connections_max, counted_with };
        tunings.resize(tunings.len() + l.sockets().count(), each);
    }
    tunings
}

fn key_of(key: &HashKey) -> KeyOf {
    match key {
        HashKey::Uri => KeyOf::Uri,
        HashKey::Path => KeyOf::Path,
        HashKey::ClientIp => KeyOf::ClientIp,
        HashKey::Header(name) => KeyOf::Header(name.clone().into_bytes()),
        HashKey::Cookie(name) => KeyOf::Cookie(name.clone().into_bytes()),
    }
}

/// Families by turns, IPv6 first, no more than are tried (RFC 8305, section 4).
fn by_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut six, mut four): (VecDeque<_>, VecDeque<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let mut order = Vec::new();
    while order.len() < ADDRESSES_MAX && !(six.is_empty() && four.is_empty()) {
        order.extend(six.pop_front());
        order.extend(four.pop_front());
    }
    order.truncate(ADDRESSES_MAX);
    order
}

#[cfg(test)]
#[test]
fn families_by_turns() {
    let order = |text: &str| {
        let all = text.split(' ').filter(|t| !t.is_empty()).map(|t| t.parse().expect("an address"));
        by_turns(all.collect()).iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order("1.1.1.1 1.1.1.2 1.1.1.3 ::1 ::2"), "::1 1.1.1.1 ::2 1.1.1.2 1.1.1.3");
    assert_eq!(order("::1 ::2 1.1.1.1"), "::1 1.1.1.1 ::2");
    assert_eq!(order("1.1.1.1"), "1.1.1.1");
    assert_eq!(order(""), "");
    let many: String = (0..20).map(|n| format!("10.0.0.{n} ")).collect();
    assert_eq!(order(&many).split(' ').count(), ADDRESSES_MAX);
}

fn route(r: &config::Route) -> Result<Route, String> {
    let answer = match r.upstream {
        Some(n) => Answer::Upstream(n as u16),
        None => Answer::Nobody,
    };
    let mut route = Route::new(
        answer,
        OriginTimeouts {
            connect_ns: ns(r.timeouts.connect),
            first_byte_ns: ns(r.timeouts.first_byte),
            idle_ns: ns(r.timeouts.idle),
        },
    );
    route.cache = r.cache.as_ref().map(cache_rules);
    route.cache_status = r.cache.as_ref().is_some_and(|c| c.status);
    let mut modules = Modules::builder();
    if let Some(to) = &r.redirect {
        for to_where in redirects(to) {
            let module = Redirect::new(to.status, &to_where, Filter::ALWAYS).map_err(|e| e.to_string())?;
            modules = modules.with(module).map_err(|e| e.to_string())?;
        }
    }
    if !r.request_headers.is_empty() {
        let spec = edit_spec(&r.request_headers);
        let module = RequestHeaders::new(&spec, Filter::ALWAYS).map_err(|e| e.to_string())?;
        modules = modules.with(module).map_err(|e| e.to_string())?;
    }
    if !r.response_headers.is_empty() {
        let spec = edit_spec(&r.response_headers);
        let module = ResponseHeaders::new(&spec, Filter::ALWAYS).map_err(|e| e.to_string())?;
        modules = modules.with(module).map_err(|e| e.to_string())?;
    }
    route.modules = modules.build();
    Ok(route)
}

fn redirects(r: &config::Redirect) -> Vec<RedirectTo> {
    let https = r.https.then_some(RedirectTo::Https(443));
    https.into_iter().chain(r.host.clone().map(RedirectTo::Host)).collect()
}

fn edit_spec(h: &HeaderRules) -> EditSpec {
    let field = |f: &config::HeaderField| {
        let value: String = f
            .value
            .iter()
            .map(|part| match part {
                ValuePart::Text(text) => text.as_str(),
                ValuePart::Variable(Variable::ClientIp) => "{client_ip}",
                ValuePart::Variable(Variable::Host) => "{host}",
                ValuePart::Variable(Variable::Path) => "{path}",
                ValuePart::Variable(Variable::Scheme) => "{scheme}",
                ValuePart::Variable(Variable::ClientSubject) => "{client_subject}",
                ValuePart::Variable(Variable::ClientIssuer) => "{client_issuer}",
                ValuePart::Variable(Variable::ClientSerial) => "{client_serial}",
                ValuePart::Variable(Variable::ClientFingerprint) => "{client_fingerprint}",
            })
            .collect();
        (f.name.clone(), value)
    };
    EditSpec {
        set: h.set.iter().map(field).collect(),
        add: h.add.iter().map(field).collect(),
        remove: h.remove.iter().map(pattern_text).collect(),
    }
}

fn pattern_text(p: &NamePattern) -> String {
    match p {
        NamePattern::Exact(name) => name.clone(),
        NamePattern::Prefix(prefix) => format!("{prefix}*"),
    }
}

fn statuses_text(statuses: &std::ops::RangeInclusive<u16>) -> String {
    if statuses.start() == statuses.end() {
        statuses.start().to_string()
    } else {
        format!("{}xx", statuses.start() / 100)
    }
}

fn boxed<'s>(texts: impl IntoIterator<Item = &'s String>) -> Box<[Box<[u8]>]> {
    texts.into_iter().map(|t| Box::from(t.as_bytes())).collect()
}

fn cache_rules(c: &config::CacheRules) -> CacheRules {
    let is_space = |name: &&String| name.eq_ignore_ascii_case("surrogate-key");
    CacheRules {
        default_ttl_s: c.default_ttl.map(seconds),
        min_ttl_s: seconds(c.min_ttl),
        max_ttl_s: c.max_ttl.map_or(u32::MAX, seconds),
        heuristic_max_s: if c.heuristic { seconds(c.heuristic_max) } else { 0 },
        status_ttl_s: c.negative_ttl.iter().map(|(status, ttl)| (*status, seconds(*ttl))).collect(),
        swr_s: seconds(c.stale_while_revalidate),
        sie_s: seconds(c.stale_if_error),
        object_bytes_max: c.object_bytes_max,
        slice_bytes: c.slice_bytes,
        admit_after: c.admit_after,
        key: KeyRules {
            query: query_rule(&c.key),
            headers: boxed(&c.key.headers),
            cookies: boxed(&c.key.cookies),
            ..KeyRules::default()
        },
        obey: Obey { no_cache: c.obey_request, no_store: c.obey_request, ages: c.obey_request },
        targeted: boxed(&c.targeted),
        comma_tags: boxed(c.tags.iter().filter(|t| !is_space(t))),
        space_tags: boxed(c.tags.iter().filter(is_space)),
        ..CacheRules::default()
    }
}

fn query_rule(key: &config::CacheKey) -> QueryRule {
    match (&key.query, key.query_ignore.is_empty()) {
        (QueryKey::All, true) => QueryRule::All,
        (QueryKey::All, false) => QueryRule::Except(
            key.query_ignore.iter().map(|p| Box::from(pattern_text(p).as_bytes())).collect(),
        ),
        (QueryKey::None, _) => QueryRule::None,
        (QueryKey::Only(names), _) => QueryRule::Only(boxed(names)),
    }
}

fn host_text(h: &HostPattern) -> String {
    match h {
        HostPattern::Default => "*".to_owned(),
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(parent) => format!("*.{parent}"),
    }
}
