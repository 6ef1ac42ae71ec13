//! `[[listener]]`, and what holds between listeners.

use std::collections::HashMap;
use std::net::IpAddr;

use stack::tcp::cc::Algorithm;

use super::congestion::{congestion, split};
use super::ports::PortAt;
use super::{At, Reader, texts};
use crate::config::CONNECTIONS_MAX;
use crate::config::model::*;
use crate::config::names;
use crate::config::reader::{Place, Table, Value};

/// A listener with the places that later checks point at.
pub(super) struct ListenerAt {
    pub addresses: Vec<At<IpAddr>>,
    /// Neither is there where neither could be read.
    pub http: Option<At<u16>>,
    pub https: Option<At<u16>>,
    pub proxy_protocol_from: Vec<Cidr>,
    pub congestion: Algorithm,
    pub split: Split,
    pub connections_max: Option<u32>,
}

impl Reader<'_, '_> {
    pub(super) fn listener(&mut self, table: &Table<'_, '_>) {
        let address = table.require("address", "give it one of a port's, as in address = \"192.0.2.10\"");
        let http = table.get("http");
        let https = table.get("https");
        table.later("quic", "remove it");
        if http.is_none() && https.is_none() {
            let cause = "[[listener]] has neither \"http\" nor \"https\"";
            self.context.report_absence(table.place(), cause, "add one, as in http = 80 or https = 443");
        }
        let proxy_protocol_from = self.proxy_protocol(table);
        let congestion = congestion(table).unwrap_or_default();
        let split = split(table, congestion);
        let connections_max =
            table.get("connections_max").and_then(|v| v.integer(1..=u64::from(CONNECTIONS_MAX)));
        table.finish();
        let addresses = address.map(|v| texts(&v.one_or_more(), names::address)).unwrap_or_default();
        let port = |value: Option<Value<'_, '_>>| {
            value.and_then(|v| Some(At { value: v.integer(1..=65535)? as u16, place: v.place.clone() }))
        };
        let (http, https) = (port(http), port(https));
        if let (Some(http), Some(https)) = (&http, &https)
            && http.value == https.value
        {
            let cause = format!("\"http\" and \"https\" are both TCP port {}", https.value);
            self.context.report(&https.place, cause, "choose another for one of them: 443 is the usual one");
        }
        self.listeners.push(ListenerAt {
            addresses,
            http,
            https,
            proxy_protocol_from,
            congestion,
            split,
            connections_max: connections_max.map(|n| n as u32),
        });
    }

    /// Whose connections begin with a PROXY protocol header.
    fn proxy_protocol(&self, table: &Table<'_, '_>) -> Vec<Cidr> {
        let on = table.get("proxy_protocol").and_then(|v| v.boolean()).unwrap_or(false);
        let Some(from) = table.get("proxy_protocol_from") else {
            let everywhere = ["0.0.0.0/0", "::/0"].map(|n| names::network(n).expect("a good network"));
            return if on { everywhere.to_vec() } else { Vec::new() };
        };
        if !on {
            let cause = "\"proxy_protocol_from\" means nothing without proxy_protocol = true";
            from.error(cause, "add that, or remove this");
        }
        texts(&from.one_or_more(), names::network).into_iter().map(|n| n.value).collect()
    }

    pub(super) fn between_listeners(&self) {
        let context = self.context;
        let mut taken: HashMap<(IpAddr, u16), &Place> = HashMap::new();
        for listener in &self.listeners {
            for at in &listener.addresses {
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
                for port in listener.ports() {
                    let number = port.value;
                    let Some(other) = taken.get(&(ip, number)) else {
                        taken.insert((ip, number), &at.place);
                        continue;
                    };
                    // Its own two were compared before.
                    if **other != at.place {
                        let line = other.line(context);
                        let cause =
                            format!("TCP port {number} of {ip} is taken by the listener of line {line}");
                        context.report(&at.place, cause, "remove one, or choose another TCP port");
                    }
                }
            }
        }
    }
}

impl ListenerAt {
    /// Its TCP ports, as far as they could be read.
    pub fn ports(&self) -> impl Iterator<Item = &At<u16>> {
        self.http.iter().chain(&self.https)
    }
}
