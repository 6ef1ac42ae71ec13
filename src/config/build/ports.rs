//! `[[port]]`, and what holds between ports.

use std::collections::HashMap;
use std::net::IpAddr;

use dataplane::port::{Checksums, Segmentation};

use super::{At, Reader, path, text, texts};
use crate::config::MTU;
use crate::config::model::*;
use crate::config::names;
use crate::config::reader::{Place, Table, Value};
use crate::config::report::quote;

/// A port with the places that later checks point at.
pub(super) struct PortAt {
    pub port: Port,
    pub name: Place,
    pub device: Place,
    pub addresses: Vec<At<Cidr>>,
    pub pcap: Option<Place>,
    pub host_if: Option<Place>,
}

impl Reader<'_, '_> {
    pub(super) fn port(&mut self, table: &Table<'_, '_>) {
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
        let host_if_value = table.get("host_if");
        let host_if = host_if_value.as_ref().and_then(|v| text(v, names::interface));
        let checksums_value = table.get("checksums");
        let checksums = checksums_value.as_ref().and_then(|v| {
            let choices =
                [("auto", Checksums::Auto), ("device", Checksums::Device), ("software", Checksums::Software)];
            v.choice(&choices)
        });
        let segmentation_value = table.get("segmentation");
        let segmentation = segmentation_value
            .as_ref()
            .and_then(|v| v.choice(&[("auto", Segmentation::Auto), ("software", Segmentation::Software)]));
        table.later("members", "remove it: one device per port");
        table.later("bond", "remove it: one device per port");
        table.later("origin_source", "remove it: the addresses of the port are used");
        table.finish();

        if let (Some(Kind::Host), Some(value), Some(_)) = (kind, &checksums_value, checksums) {
            let cause =
                "\"checksums\" means nothing for kind = \"host\": the kernel's sockets need none from us";
            value.error(cause, "remove it");
        }
        let is_shared = kind == Some(Kind::Tap) && host_if_value.is_some();
        if let (true, Some(value), Some(Checksums::Device)) = (is_shared, &checksums_value, checksums) {
            let cause = "with \"host_if\", what is received from a TAP needs whole checksums: the kernel gets some of it back";
            value.error(cause, "remove it: \"auto\" leaves those of what is sent to the device");
        }
        if let (Some(Kind::Dpdk | Kind::Host), Some(value), Some(_)) =
            (kind, &segmentation_value, segmentation)
        {
            let cause = "\"segmentation\" is for ports of kind \"tap\": no other leaves it to its device";
            value.error(cause, "remove it");
        }
        if kind == Some(Kind::Host) {
            for value in [&device_value, &vlan_value, &mac_value].into_iter().flatten() {
                let key = value.place.key.rsplit('.').next().unwrap_or_default();
                value.error(format!("\"{key}\" means nothing for kind = \"host\""), "remove it");
            }
            if let Some(value) = &host_if_value {
                let cause = "\"host_if\" means nothing for kind = \"host\": its sockets are the kernel's";
                value.error(cause, "remove it");
            }
            if let Some(gateway) = table.get("gateway") {
                let mend = "remove it: the kernel's routes are used";
                gateway.error("\"gateway\" means nothing for kind = \"host\"", mend);
            }
        }
        let device = kind.and_then(|kind| self.device(table, kind, device_value.as_ref()));
        let kind = match (kind, device) {
            (Some(Kind::Tap), Some(device)) => PortKind::Tap { device },
            (Some(Kind::Dpdk), Some(device)) => PortKind::Dpdk { device },
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
                host_if,
                checksums: checksums.unwrap_or_default(),
                segmentation: segmentation.unwrap_or_default(),
            },
            name: place(&name_value),
            device: if device_value.is_some() { place(&device_value) } else { place(&kind_value) },
            addresses,
            pcap: pcap_value.map(|v| v.place),
            host_if: host_if_value.map(|v| v.place),
        });
    }

    /// The device of a kind that has one.
    fn device(&self, table: &Table<'_, '_>, kind: Kind, value: Option<&Value<'_, '_>>) -> Option<String> {
        let (word, mend) = match kind {
            Kind::Host => return None,
            Kind::Tap => ("tap", "name the interface, as in device = \"tap0\""),
            Kind::Dpdk => ("dpdk", "name it, as in device = \"0000:3b:00.0\""),
        };
        let Some(value) = value else {
            let cause = format!("[[port]] of kind \"{word}\" has no \"device\"");
            self.context.report_absence(table.place(), cause, mend);
            return None;
        };
        match kind {
            Kind::Dpdk => text(value, names::dpdk_device),
            _ => text(value, names::interface),
        }
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

    /// The exception interface of port `i` is no port's device, and no other's exception interface.
    fn host_if_is_free(&self, i: usize) {
        let at = &self.ports[i];
        let (Some(name), Some(place)) = (&at.port.host_if, &at.host_if) else { return };
        let is_device = |p: &&PortAt| matches!(&p.port.kind, PortKind::Tap { device } if device == name);
        let device = self.ports.iter().find(is_device).map(|p| &p.device);
        let before = || self.ports[..i].iter().find(|p| p.port.host_if.as_ref() == Some(name));
        if let Some(other) = device.or_else(|| before().and_then(|p| p.host_if.as_ref())) {
            let cause =
                format!("the interface {} is taken by line {}", quote(name), other.line(self.context));
            self.context.report(place, cause, "give the exception path an interface of its own");
        }
    }

    pub(super) fn between_ports(&self, eal_args_at: Option<&Place>) {
        let context = self.context;
        let of_dpdk = self.ports.iter().find(|p| matches!(p.port.kind, PortKind::Dpdk { .. }));
        if let (None, Some(at)) = (of_dpdk, eal_args_at) {
            let cause = "\"eal_args\" means nothing without a port of kind \"dpdk\"";
            context.report(at, cause, "remove it");
        }
        let mut addresses: HashMap<IpAddr, &Place> = HashMap::new();
        for (i, at) in self.ports.iter().enumerate() {
            let before = &self.ports[..i];
            let name = &at.port.name;
            if let Some(other) = before.iter().find(|p| !name.is_empty() && p.port.name == *name) {
                let cause =
                    format!("the port name {} is taken by line {}", quote(name), other.name.line(context));
                context.report(&at.name, cause, "give each port a name of its own");
            }
            if let Some(other) = before.iter().find(|p| p.port.kind.clashes(&at.port.kind)) {
                let line = other.device.line(context);
                let (cause, mend) = match &at.port.kind {
                    PortKind::Tap { device } | PortKind::Dpdk { device } => (
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
            self.host_if_is_free(i);
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tap,
    Dpdk,
    Host,
}

/// What was left out of this build needs other words than what is not built yet.
const NO_DPDK: (&str, &str) = (
    "this millrace was built without DPDK",
    "build it without `--no-default-features` (needs libdpdk-dev and libclang-dev), or use kind = \"tap\"",
);

fn port_kind(value: &Value<'_, '_>) -> Option<Kind> {
    match value.string()? {
        "dpdk" if !cfg!(feature = "dpdk") => value.error(NO_DPDK.0, NO_DPDK.1),
        "af_xdp" => {
            let mend = "use kind = \"tap\" with a TAP device bridged to the interface, or kind = \"host\"";
            value.error("kind = \"af_xdp\" is not yet in this version", mend);
        }
        _ => return value.choice(&[("tap", Kind::Tap), ("dpdk", Kind::Dpdk), ("host", Kind::Host)]),
    }
    None
}
