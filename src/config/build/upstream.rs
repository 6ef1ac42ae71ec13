//! What a site or route says of its origins: who they are, how they are chosen, and when one is left out.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use l7::tls::origin::Trust;

use super::listeners::ListenerAt;
use super::ports::PortAt;
use super::{At, HOUR, MILLISECOND, Reader, text, time};
use crate::config::model::*;
use crate::config::names;
use crate::config::reader::{Place, Switch, Table, Value};
use crate::config::{CONNECTIONS_MAX, ORIGINS_MAX, WEIGHT_MAX};
use crate::roots;

/// A check more often than this is a load, not a check.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=HOUR;
/// Requests that wait are held in memory.
const QUEUE_MAX: u64 = 1 << 20;

impl Reader<'_, '_> {
    /// The upstream of a site or route; without origins where neither names any.
    pub(super) fn upstream(&mut self, table: &Table<'_, '_>, base: &Upstream) -> Upstream {
        let origins = match table.get("origin") {
            Some(value) => self.origins(&value),
            None => base.origins.clone(),
        };
        let versions = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
        let proxy_protocol = match table.get("origin_proxy_protocol") {
            None => base.proxy_protocol,
            Some(value) if value.if_boolean() == Some(false) => None,
            Some(value) => value.choice(&versions),
        };
        let upstream = Upstream {
            origins,
            balance: balance(table, &base.balance),
            limits: limits(&table.table("origin_limits"), base.limits),
            retries: retries(&table.table("retries"), base.retries),
            health: self.health(table, base.health.as_ref()),
            outlier: outlier(table, base.outlier),
            proxy_protocol,
            tls: self.origin_tls(table, &base.tls),
        };
        if let Some(value) = table.get("origin").or_else(|| table.get("origin_tls"))
            && upstream.trusts_the_system()
        {
            self.system_trusted_at.get_or_insert(value.place);
        }
        upstream
    }

    /// Whom the system trusts, where that is asked for. Without them the node would not start.
    pub(super) fn system_roots(&self) -> Option<Trust> {
        if !self.upstreams.iter().any(Upstream::trusts_the_system) {
            return None;
        }
        match roots::of_system() {
            Ok(roots) => Some(Trust::Roots(Arc::new(roots))),
            Err(cause) => {
                let mend = "install ca-certificates, or name a file: origin_tls = { ca = \"ca.pem\" }";
                let at = self.system_trusted_at.clone().unwrap_or_else(Place::file);
                self.context.report(&at, cause, mend);
                None
            }
        }
    }

    fn origins(&self, value: &Value<'_, '_>) -> Vec<Origin> {
        let mut origins: Vec<Origin> = Vec::new();
        let mut mixed = false;
        for item in value.some_or_one() {
            let Some(at) = self.origin(&item) else { continue };
            // A request that one of them does not take goes to another.
            if origins.first().is_some_and(|first| first.scheme != at.value.scheme) && !mixed {
                mixed = true;
                let cause = "the origins are reached by http and by https: what https refuses would go out in plain text";
                let mend = "write https:// before all of them, or give a route of its own to each kind";
                self.context.report(&at.place, cause, mend);
            }
            let same =
                |o: &&Origin| (o.scheme, &o.host, o.port) == (at.value.scheme, &at.value.host, at.value.port);
            if origins.iter().any(|o| same(&o)) {
                let cause = format!("the origin {} is listed twice", at.value.authority);
                self.context.report(&at.place, cause, "keep one of them");
            } else {
                self.reach(&at);
                origins.push(at.value);
            }
        }
        if origins.len() > ORIGINS_MAX {
            let cause = format!("there are {} origins", origins.len());
            value.error(cause, format!("list {ORIGINS_MAX} at most"));
        }
        origins
    }

    /// A URL, or `{ url = "…", weight = 2 }`.
    fn origin(&self, value: &Value<'_, '_>) -> Option<At<Origin>> {
        let Some(table) = value.if_table("[[site.origin]]") else {
            return Some(At { value: text(value, names::origin)?, place: value.place.clone() });
        };
        let url = table.require("url", "add it, as in url = \"http://192.0.2.80:8080\"");
        let weight = table.get("weight").and_then(|v| v.integer(1..=u64::from(WEIGHT_MAX)));
        table.finish();
        let url = url?;
        let mut origin = text(&url, names::origin)?;
        origin.weight = weight.map_or(1, |n| n as u16);
        Some(At { value: origin, place: url.place })
    }

    /// An origin has to be reachable through a port, and must not be this node.
    fn reach(&self, at: &At<Origin>) {
        let Some(address) = at.value.address() else { return };
        let (ip, tcp_port) = (address.ip(), address.port());
        let is_listener = |l: &ListenerAt| {
            l.ports().any(|p| p.value == tcp_port) && l.addresses.iter().any(|a| a.value == ip)
        };
        if self.listeners.iter().any(is_listener) {
            let cause = format!("the origin {address} is a listener of this node");
            self.context.report(&at.place, cause, "write the address of the server behind it");
            return;
        }
        let of_family = |a: &IpAddr| a.is_ipv4() == ip.is_ipv4();
        // Where the kernel shares the port, its routes count, and they may come later.
        let kernel_may =
            |p: &PortAt| p.port.host_if.is_some() && p.addresses.iter().any(|a| of_family(&a.value.address));
        let reaches = |p: &PortAt| {
            p.port.kind == PortKind::Host
                || (!ip.is_loopback()
                    && (p.addresses.iter().any(|a| a.value.contains(ip))
                        || p.port.gateways.iter().any(of_family)
                        || kernel_may(p)))
        };
        if !self.whole || self.ports.is_empty() || self.ports.iter().any(reaches) {
            return;
        }
        let cause = format!("no port leads to the origin {ip}");
        let mend = if ip.is_loopback() {
            "use an address outside this machine, or a port of kind \"host\""
        } else {
            "give a port a gateway, or an address in the origin's network"
        };
        self.context.report_absence(&at.place, cause, mend);
    }

    fn health(&self, table: &Table<'_, '_>, base: Option<&HealthCheck>) -> Option<HealthCheck> {
        let (switch, table) = table.switch("health");
        let mut check = base.cloned().unwrap_or_default();
        if let Some(path) = table.get("path").and_then(|v| text(&v, names::check_path)) {
            check.path = path;
        }
        if let Some(host) = table.get("host").and_then(|v| text(&v, names::redirect_host)) {
            check.host = Some(host);
        }
        let interval = table.get("interval");
        let timeout = table.get("timeout");
        let said = |value: &Option<Value<'_, '_>>| value.as_ref().and_then(|v| v.duration(INTERVAL));
        let (interval_said, timeout_said) = (said(&interval), said(&timeout));
        check.interval = interval_said.unwrap_or(check.interval);
        // A shorter interval brings a shorter timeout along, where that is not given.
        check.timeout = timeout_said.unwrap_or(check.timeout.min(check.interval));
        if check.timeout > check.interval
            && let Some(value) = timeout.filter(|_| timeout_said.is_some())
        {
            value.error("the check's timeout is longer than its interval", "write a shorter one");
        }
        let count = |key| table.get(key).and_then(|v| v.integer(1..=100)).map(|n| n as u8);
        check.rise = count("rise").unwrap_or(check.rise);
        check.fall = count("fall").unwrap_or(check.fall);
        if let Some(value) = table.get("status") {
            check.statuses = value.some_or_one().iter().filter_map(statuses).collect();
        }
        if let Some(slow_start) = table.get("slow_start").and_then(|v| v.duration(Duration::ZERO..=HOUR)) {
            check.slow_start = slow_start;
        }
        table.finish();
        switch_on(switch, base, check)
    }
}

/// What a key that is `true`, `false` or a table makes of what it inherits; `said` is the table over that.
pub(super) fn switch_on<T: Clone>(switch: Switch, base: Option<&T>, said: T) -> Option<T> {
    match switch {
        Switch::Absent => base.cloned(),
        Switch::Off => None,
        Switch::On | Switch::Table => Some(said),
    }
}

fn balance(table: &Table<'_, '_>, base: &Balance) -> Balance {
    let choices = [("round_robin", 0), ("least_outstanding", 1), ("hash", 2)];
    let chosen = table.get("balance").and_then(|v| v.choice(&choices));
    let key_value = table.get("hash_key");
    let key = key_value.as_ref().and_then(|v| text(v, names::hash_key));
    let balance = match (chosen, base) {
        (None, base) => base.clone(),
        (Some(0), _) => Balance::RoundRobin,
        (Some(1), _) => Balance::LeastOutstanding,
        (Some(_), Balance::Hash(inherited)) => Balance::Hash(inherited.clone()),
        (Some(_), _) => Balance::Hash(HashKey::default()),
    };
    match (balance, key_value) {
        (Balance::Hash(inherited), _) => Balance::Hash(key.unwrap_or(inherited)),
        (other, None) => other,
        (other, Some(value)) => {
            value.error("\"hash_key\" means nothing without balance = \"hash\"", "add that, or remove this");
            other
        }
    }
}

fn limits(table: &Table<'_, '_>, base: OriginLimits) -> OriginLimits {
    let connections = table.get("connections_max").and_then(|v| v.integer(1..=u64::from(CONNECTIONS_MAX)));
    let connections_max = connections.map(|n| n as u32).or(base.connections_max);
    let queue_value = table.get("queue_max");
    let timeout_value = table.get("queue_timeout");
    let bounded = connections_max.is_some() || table.get("connections_max").is_some();
    for value in [&queue_value, &timeout_value].into_iter().flatten().filter(|_| !bounded) {
        let key = value.place.key.rsplit('.').next().unwrap_or_default();
        let cause = format!("\"{key}\" means nothing without \"connections_max\"");
        value.error(cause, "add that, or remove this: nothing waits while connections may be opened");
    }
    let queue_max = queue_value.and_then(|v| v.integer(0..=QUEUE_MAX)).map(|n| n as u32);
    let queue_timeout = timeout_value.and_then(|v| v.duration(MILLISECOND..=HOUR));
    table.finish();
    OriginLimits {
        connections_max,
        queue_max: queue_max.unwrap_or(base.queue_max),
        queue_timeout: queue_timeout.unwrap_or(base.queue_timeout),
    }
}

fn retries(table: &Table<'_, '_>, base: Retries) -> Retries {
    let max = table.get("max").and_then(|v| v.integer(0..=10)).map(|n| n as u8);
    let budget = table.get("budget").and_then(|v| v.percent(0..=100));
    table.finish();
    Retries { max: max.unwrap_or(base.max), budget_percent: budget.unwrap_or(base.budget_percent) }
}

fn outlier(table: &Table<'_, '_>, base: Option<Outlier>) -> Option<Outlier> {
    let (switch, table) = table.switch("outlier");
    let inherited = base.unwrap_or_default();
    let failures = table.get("failures").and_then(|v| v.integer(1..=1000)).map(|n| n as u16);
    let said = Outlier {
        failures: failures.unwrap_or(inherited.failures),
        ejection: time(&table, "ejection", inherited.ejection),
    };
    table.finish();
    switch_on(switch, base.as_ref(), said)
}

/// 204, "204" or "2xx".
fn statuses(value: &Value<'_, '_>) -> Option<RangeInclusive<u16>> {
    if value.is_integer() {
        return value.integer(100..=599).map(|n| n as u16..=n as u16);
    }
    text(value, names::statuses)
}
