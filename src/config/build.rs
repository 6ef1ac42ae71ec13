//! From the file's tables to a [`Config`]: one function per table, then what holds between tables.
//!
//! Each function asks for all its keys before it judges any, and goes on after an error, so that one run reports
//! everything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::machine::Machine;
use super::model::*;
use super::names::{self, Wrong};
use super::reader::{Context, Place, Table, Value};
use super::report::quote;
use super::units::show_size;
use super::{CONNECTIONS_MAX, HEAD_BYTES, MEMORY_BYTES_MIN, MTU};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A value and where it stands, for the checks between tables.
struct At<T> {
    value: T,
    place: Place,
}

/// A port with the places that later checks point at.
struct PortAt {
    port: Port,
    name: Place,
    device: Place,
    addresses: Vec<At<Cidr>>,
    pcap: Option<Place>,
}

/// Reads the whole file; `None` when anything was reported.
pub fn config(context: &Context<'_>, entries: &DeTable<'_>, machine: &Machine) -> Option<Config> {
    let top = Table::top(context, entries);
    let node = node(&top.table("node"), machine);
    let mut reader =
        Reader { context, ports: Vec::new(), listeners: Vec::new(), sites: Vec::new(), whole: true };

    let ports = top.tables("port");
    let listeners = top.tables("listener");
    let sites = top.tables("site");
    for table in &ports {
        reader.port(table);
    }
    for table in &listeners {
        reader.listener(table);
    }
    for table in &sites {
        reader.site(table);
    }
    let timeouts = timeouts(&top.table("timeouts"));
    let limits = limits(&top.table("limits"));
    let log = log(&top.table("log"));
    top.later("route", "remove it: the gateway of the port is used");
    for (key, is_empty, mend) in [
        ("port", ports.is_empty(), "add one, with name, kind and addresses"),
        ("listener", listeners.is_empty(), "add one, as in address = \"192.0.2.10\", http = 80"),
        ("site", sites.is_empty(), "add one, as in hosts = [\"*\"], origin = \"http://192.0.2.80\""),
    ] {
        // With the wrong type (`[port]`), that has been said already.
        if is_empty && !entries.contains_key(key) {
            context.report_absence(&Place::file(), format!("there is no [[{key}]]"), mend);
        }
    }
    top.finish();
    reader.between_ports();
    reader.between_listeners();
    reader.between_sites();
    if context.errors_count() > 0 {
        return None;
    }

    let Reader { ports, listeners, sites, .. } = reader;
    let mut upstreams: Vec<Upstream> = Vec::new();
    let sites = sites
        .into_iter()
        .map(|(hosts, origins, timeouts)| {
            let mut upstream = Upstream::plain(origins[0].value.clone());
            upstream.origins = origins.into_iter().map(|o| o.value).collect();
            upstreams.push(upstream);
            let mut site = Site::plain(hosts.into_iter().map(|h| h.value).collect(), upstreams.len() - 1);
            site.routes[0].timeouts = timeouts;
            site
        })
        .collect();
    Some(Config {
        node,
        ports: ports.into_iter().map(|p| p.port).collect(),
        listeners: listeners
            .into_iter()
            .map(|(addresses, http)| Listener {
                addresses: addresses.into_iter().map(|a| a.value).collect(),
                http: http.value,
                proxy_protocol_from: Vec::new(),
            })
            .collect(),
        sites,
        upstreams,
        cache: Cache::OFF,
        timeouts,
        limits,
        log,
        resolver: Resolver::default(),
    })
}

type ListenerAt = (Vec<At<IpAddr>>, At<u16>);
type SiteAt = (Vec<At<HostPattern>>, Vec<At<Origin>>, OriginTimeouts);

/// The lists so far; what had an error is not in them.
struct Reader<'c, 's> {
    context: &'c Context<'s>,
    ports: Vec<PortAt>,
    listeners: Vec<ListenerAt>,
    sites: Vec<SiteAt>,
    /// False once a port or its addresses could not be read: then "on no port" would be a guess.
    whole: bool,
}

impl Reader<'_, '_> {
    fn port(&mut self, table: &Table<'_, '_>) {
        let name_value = table.require("name", "name it, as in name = \"wan\"");
        let name = name_value.as_ref().and_then(|v| text(v, names::label));
        let kind_value = table.require("kind", "write kind = \"tap\" or kind = \"host\"");
        let kind = kind_value.as_ref().and_then(port_kind);
        let device_value = table.get("device");
        let (addresses, all_read) = self.port_addresses(table, kind);
        let gateways = self.gateways(table, &addresses, all_read);
        self.whole &= all_read;
        let vlan_value = table.get("vlan");
        let vlan = vlan_value.as_ref().and_then(|v| v.integer(1..=4094)).map(|n| n as u16);
        let mtu = table.get("mtu").and_then(|v| v.integer(MTU)).map_or(1500, |n| n as u16);
        let mac_value = table.get("mac");
        let mac = mac_value.as_ref().and_then(|v| text(v, names::mac));
        let pcap_value = table.get("pcap");
        let pcap = pcap_value.as_ref().and_then(path);
        table.later("members", "remove it: one device per port");
        table.later("bond", "remove it: one device per port");
        table.later("origin_source", "remove it: the addresses of the port are used");
        table.finish();

        if kind == Some(Kind::Host) {
            for value in [&device_value, &vlan_value, &mac_value].into_iter().flatten() {
                let key = value.place.key.rsplit('.').next().unwrap_or_default();
                value.error(format!("\"{key}\" means nothing for kind = \"host\""), "remove it");
            }
            if let Some(gateway) = table.get("gateway") {
                let mend = "remove it: the kernel's routes are used";
                gateway.error("\"gateway\" means nothing for kind = \"host\"", mend);
            }
        }
        let device = match kind {
            Some(Kind::Tap) => match &device_value {
                Some(value) => text(value, names::interface),
                None => {
                    let mend = "name the interface, as in device = \"tap0\"";
                    self.context.report_absence(
                        table.place(),
                        "[[port]] of kind \"tap\" has no \"device\"",
                        mend,
                    );
                    None
                }
            },
            _ => None,
        };
        let kind = match (kind, device) {
            (Some(Kind::Tap), Some(device)) => PortKind::Tap { device },
            (Some(Kind::Host), _) => PortKind::Host,
            _ => {
                self.whole = false;
                return;
            }
        };
        let place = |value: &Option<Value<'_, '_>>| {
            value.as_ref().map_or_else(|| table.place().clone(), |v| v.place.clone())
        };
        self.ports.push(PortAt {
            port: Port {
                name: name.unwrap_or_default(),
                kind,
                addresses: addresses.iter().map(|a| a.value).collect(),
                gateways,
                vlan,
                mtu,
                mac,
                pcap,
            },
            name: place(&name_value),
            device: if device_value.is_some() { place(&device_value) } else { place(&kind_value) },
            addresses,
            pcap: pcap_value.map(|v| v.place),
        });
    }

    /// The addresses that could be read, and whether these are all.
    fn port_addresses(&self, table: &Table<'_, '_>, kind: Option<Kind>) -> (Vec<At<Cidr>>, bool) {
        if kind == Some(Kind::Host) {
            let Some(value) = table.get("addresses") else {
                let loopback = names::cidr("127.0.0.1/8").expect("a good address");
                return (vec![At { value: loopback, place: table.place().clone() }], true);
            };
            return self.listed_addresses(&value);
        }
        match table.require("addresses", "give it one, as in addresses = [\"192.0.2.10/24\"]") {
            Some(value) => self.listed_addresses(&value),
            None => (Vec::new(), false),
        }
    }

    fn listed_addresses(&self, value: &Value<'_, '_>) -> (Vec<At<Cidr>>, bool) {
        let items = value.one_or_more();
        let addresses = texts(&items, names::cidr);
        let all_read = addresses.len() == items.len() && !items.is_empty();
        (addresses, all_read)
    }

    fn gateways(&self, table: &Table<'_, '_>, addresses: &[At<Cidr>], all_read: bool) -> Vec<IpAddr> {
        let Some(value) = table.get("gateway") else { return Vec::new() };
        let gateways = texts(&value.one_or_more(), names::address);
        for (i, gateway) in gateways.iter().enumerate() {
            let ip = gateway.value;
            if gateways[..i].iter().any(|g| g.value.is_ipv4() == ip.is_ipv4()) {
                let cause = format!("{ip} is a second gateway of its address family");
                self.context.report(&gateway.place, cause, "keep one for IPv4 and one for IPv6");
            }
            if addresses.iter().any(|a| a.value.address == ip) {
                let cause = format!("the gateway {ip} is this port's own address");
                self.context.report(&gateway.place, cause, "write the router's address");
            }
            let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
                && addresses.iter().any(|a| a.value.address.is_ipv6());
            if all_read && !link_local && !addresses.iter().any(|a| a.value.contains(ip)) {
                let cause = format!("the gateway {ip} is outside the port's prefixes");
                let mend = "write an address within one of \"addresses\", or widen the prefix there";
                self.context.report(&gateway.place, cause, mend);
            }
        }
        gateways.into_iter().map(|g| g.value).collect()
    }

    fn listener(&mut self, table: &Table<'_, '_>) {
        let address = table.require("address", "give it one of a port's, as in address = \"192.0.2.10\"");
        let http = table.get("http");
        let https_later = table.later("https", "use http = 80, and end TLS in front of this node");
        let quic_later = table.later("quic", "remove it");
        if http.is_none() && !https_later && !quic_later {
            self.context.report_absence(
                table.place(),
                "[[listener]] has no \"http\"",
                "add one, as in http = 80",
            );
        }
        table.finish();
        let addresses = address.map(|v| texts(&v.one_or_more(), names::address)).unwrap_or_default();
        let port =
            http.and_then(|v| Some(At { value: v.integer(1..=65535)? as u16, place: v.place.clone() }));
        // The addresses are checked against the ports even when the TCP port is bad: 0 stands for "unknown".
        let port = port.unwrap_or_else(|| At { value: 0, place: table.place().clone() });
        self.listeners.push((addresses, port));
    }

    fn site(&mut self, table: &Table<'_, '_>) {
        let hosts = table.require("hosts", "add them, as in hosts = [\"example.com\"], or [\"*\"] for all");
        let hosts = hosts.map(|v| texts(&v.one_or_more(), names::host_pattern)).unwrap_or_default();
        let origin = table.require("origin", "add one, as in origin = \"http://192.0.2.80:8080\"");
        let origins = origin.map(|v| texts(&v.one_or_more(), names::origin)).unwrap_or_default();
        for (i, origin) in origins.iter().enumerate() {
            if origins[..i].iter().any(|o| o.value.address() == origin.value.address()) {
                let cause = format!("the origin {} is listed twice", origin.value.authority);
                self.context.report(&origin.place, cause, "keep one of them");
            }
        }
        let timeouts = origin_timeouts(&table.table("timeouts"));
        table.later("certificate", "remove it, and end TLS in front of this node");
        table.later("cache", "remove it: every request goes to the origin");
        table.finish();
        self.sites.push((hosts, origins, timeouts));
    }

    fn between_ports(&self) {
        let context = self.context;
        let mut addresses: HashMap<IpAddr, &Place> = HashMap::new();
        for (i, at) in self.ports.iter().enumerate() {
            let before = &self.ports[..i];
            let name = &at.port.name;
            if let Some(other) = before.iter().find(|p| !name.is_empty() && p.port.name == *name) {
                let cause =
                    format!("the port name {} is taken by line {}", quote(name), other.name.line(context));
                context.report(&at.name, cause, "give each port a name of its own");
            }
            if let Some(other) = before.iter().find(|p| p.port.kind == at.port.kind) {
                let line = other.device.line(context);
                let (cause, mend) = match &at.port.kind {
                    PortKind::Tap { device } => (
                        format!("the device {} is taken by the port of line {line}", quote(device)),
                        "give each port a device of its own",
                    ),
                    PortKind::Host => (
                        format!("there is a port of kind \"host\" already, on line {line}"),
                        "put all addresses into that one",
                    ),
                };
                context.report(&at.device, cause, mend);
            }
            for address in &at.addresses {
                match addresses.get(&address.value.address) {
                    None => {
                        addresses.insert(address.value.address, &address.place);
                    }
                    Some(other) => {
                        let line = other.line(context);
                        let cause = format!("the address {} is taken by line {line}", address.value.address);
                        context.report(&address.place, cause, "keep it on one port");
                    }
                }
            }
            let same_file = before.iter().find(|p| at.port.pcap.is_some() && p.port.pcap == at.port.pcap);
            if let (Some(other), Some(place)) = (same_file.and_then(|p| p.pcap.as_ref()), &at.pcap) {
                let cause = format!("the pcap file is taken by the port of line {}", other.line(context));
                context.report(place, cause, "give each port a file of its own");
            }
        }
    }

    fn between_listeners(&self) {
        let context = self.context;
        let mut taken: HashMap<(IpAddr, u16), &Place> = HashMap::new();
        for (addresses, http) in &self.listeners {
            for at in addresses {
                let ip = at.value;
                // A host port is the kernel's: any address of its networks may be listened on.
                let on_port = |p: &PortAt| {
                    let wide = p.port.kind == PortKind::Host && ip.is_loopback();
                    p.addresses.iter().any(|a| a.value.address == ip || (wide && a.value.contains(ip)))
                };
                if self.whole && !self.ports.is_empty() && !self.ports.iter().any(on_port) {
                    let cause = format!("the listener's address {ip} is on no port");
                    let mend = "add it to the addresses of a [[port]], or listen on one that is there";
                    context.report_absence(&at.place, cause, mend);
                }
                if http.value == 0 {
                    continue;
                }
                match taken.get(&(ip, http.value)) {
                    None => {
                        taken.insert((ip, http.value), &at.place);
                    }
                    Some(other) => {
                        let line = other.line(context);
                        let cause = format!(
                            "TCP port {} of {ip} is taken by the listener of line {line}",
                            http.value
                        );
                        context.report(&at.place, cause, "remove one, or choose another TCP port");
                    }
                }
            }
        }
    }

    fn between_sites(&self) {
        let context = self.context;
        let mut taken: HashMap<&HostPattern, (usize, &Place)> = HashMap::new();
        for (index, (hosts, origins, _)) in self.sites.iter().enumerate() {
            for at in hosts {
                let Some((other_index, other)) = taken.get(&at.value) else {
                    taken.insert(&at.value, (index, &at.place));
                    continue;
                };
                let line = other.line(context);
                let (cause, mend) = match &at.value {
                    _ if *other_index == index => {
                        (format!("the host \"{}\" is listed twice", at.value), "keep one of them")
                    }
                    HostPattern::Default => {
                        (format!("the default site \"*\" is taken by line {line}"), "keep \"*\" in one site")
                    }
                    host => (
                        format!("the host \"{host}\" is taken by the site of line {line}"),
                        "keep it in one site",
                    ),
                };
                context.report(&at.place, cause, mend);
            }
            for origin in origins {
                self.reach(origin);
            }
        }
    }

    /// An origin has to be reachable through a port, and must not be this node.
    fn reach(&self, at: &At<Origin>) {
        let Some(address) = at.value.address() else { return };
        let (ip, tcp_port) = (address.ip(), address.port());
        let is_listener = |(addresses, http): &ListenerAt| {
            http.value == tcp_port && addresses.iter().any(|a| a.value == ip)
        };
        if self.listeners.iter().any(is_listener) {
            let cause = format!("the origin {address} is a listener of this node");
            self.context.report(&at.place, cause, "write the address of the server behind it");
            return;
        }
        let reaches = |p: &PortAt| {
            p.port.kind == PortKind::Host
                || (!ip.is_loopback()
                    && (p.addresses.iter().any(|a| a.value.contains(ip))
                        || p.port.gateways.iter().any(|g| g.is_ipv4() == ip.is_ipv4())))
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tap,
    Host,
}

fn port_kind(value: &Value<'_, '_>) -> Option<Kind> {
    let mend = match value.string()? {
        "dpdk" => "use kind = \"tap\" with a TAP device, or kind = \"host\"",
        "af_xdp" => "use kind = \"tap\" with a TAP device bridged to the interface, or kind = \"host\"",
        _ => return value.choice(&[("tap", Kind::Tap), ("host", Kind::Host)]),
    };
    value.error(format!("kind = {} is not yet in this version", quote(value.string()?)), mend);
    None
}

fn node(table: &Table<'_, '_>, machine: &Machine) -> Node {
    let name =
        table.get("name").and_then(|v| text(&v, names::label)).unwrap_or_else(|| "default".to_string());
    let mut cores: Vec<u16> = Vec::new();
    for value in table.get("cores").map(|v| v.list()).unwrap_or_default() {
        let Some(core) = value.integer(0..=65535).map(|n| n as u16) else { continue };
        if !machine.cores.contains(&core) {
            let cause = format!("this machine has no core {core}");
            value.error(cause, format!("choose from {}", show_cores(&machine.cores)));
        } else if cores.contains(&core) {
            value.error(format!("core {core} is listed twice"), "list each core once");
        } else if !cores.is_empty() {
            // tap and host have one queue, and a queue belongs to one core.
            value.error("more than one core is not yet in this version", "list one core");
        } else {
            cores.push(core);
        }
    }
    let memory = table.get("memory").and_then(|value| {
        let bytes = value.size(0..=u64::MAX)?;
        let shown = show_size(bytes);
        if bytes < MEMORY_BYTES_MIN {
            let mend = format!("give it {} or more", show_size(MEMORY_BYTES_MIN));
            value.error(format!("{shown} of memory is too small for a node"), mend);
        } else if bytes > machine.memory_bytes {
            let mend = format!("give it less than {}MiB", machine.memory_bytes >> 20);
            value.error(format!("{shown} of memory is more than this machine has"), mend);
        }
        Some(bytes)
    });
    let drain = table.get("drain").and_then(|v| v.duration(Duration::ZERO..=24 * HOUR));
    table.finish();
    Node {
        name,
        cores,
        memory_bytes: memory.unwrap_or_else(|| machine.memory_default_bytes()),
        drain: drain.unwrap_or(30 * SECOND),
    }
}

fn timeouts(table: &Table<'_, '_>) -> Timeouts {
    let default = Timeouts::default();
    let timeouts = Timeouts {
        header: time(table, "header", default.header),
        keep_alive: time(table, "keep_alive", default.keep_alive),
    };
    table.finish();
    timeouts
}

fn origin_timeouts(table: &Table<'_, '_>) -> OriginTimeouts {
    let default = OriginTimeouts::default();
    let timeouts = OriginTimeouts {
        connect: time(table, "connect", default.connect),
        first_byte: time(table, "first_byte", default.first_byte),
        idle: time(table, "idle", default.idle),
    };
    table.finish();
    timeouts
}

fn time(table: &Table<'_, '_>, key: &'static str, default: Duration) -> Duration {
    table.get(key).and_then(|v| v.duration(MILLISECOND..=HOUR)).unwrap_or(default)
}

fn limits(table: &Table<'_, '_>) -> Limits {
    let default = Limits::default();
    let head = table.get("head_bytes_max").and_then(|v| v.size(HEAD_BYTES));
    let connections = table.get("connections").and_then(|v| v.integer(1..=u64::from(CONNECTIONS_MAX)));
    table.finish();
    Limits {
        head_bytes_max: head.map_or(default.head_bytes_max, |n| n as u32),
        connections_max: connections.map(|n| n as u32),
    }
}

fn log(table: &Table<'_, '_>) -> Log {
    let default = Log::default();
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = Log {
        level: table.get("level").and_then(|v| v.choice(&levels)).unwrap_or(default.level),
        format: table.get("format").and_then(|v| v.choice(&formats)).unwrap_or(default.format),
        ..default
    };
    table.later("access", "remove it, and log at the origin");
    table.finish();
    log
}

/// A string that one of the functions of [`names`] understands.
fn text<T>(value: &Value<'_, '_>, read: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
    match read(value.string()?) {
        Ok(read) => Some(read),
        Err(wrong) => {
            value.error(wrong.cause, wrong.mend);
            None
        }
    }
}

/// The elements that could be read, with their places.
fn texts<T>(values: &[Value<'_, '_>], read: impl Fn(&str) -> Result<T, Wrong>) -> Vec<At<T>> {
    values.iter().filter_map(|v| Some(At { value: text(v, &read)?, place: v.place.clone() })).collect()
}

fn path(value: &Value<'_, '_>) -> Option<PathBuf> {
    let path = value.string()?;
    if path.is_empty() || path.contains('\0') || path.ends_with('/') {
        value.error(format!("{} is not a file's path", quote(path)), "write one, as in \"/tmp/wan.pcap\"");
        return None;
    }
    Some(PathBuf::from(path))
}

/// `0-3, 8` for a sorted list.
fn show_cores(cores: &[u16]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &core in cores {
        match ranges.last_mut() {
            Some((_, last)) if u32::from(*last) + 1 == u32::from(core) => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let show = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shown_as_ranges() {
        assert_eq!(show_cores(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(show_cores(&[]), "");
        assert_eq!(show_cores(&[65535]), "65535");
    }
}
