//! What DPDK's devices say of themselves while the node runs: their counts, and their links. Asked once a second on the
//! control side: drivers ask the kernel for it, or a NIC's registers.

use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::dpdk::{self, Counts};
use crate::config::{Config, PortKind};
use crate::{host_if, log};

/// Some NICs have hundreds of counts, and the counters' segment has room for a page of text.
const COUNTS_MAX: usize = 128;

/// The devices, in the order of the ports of kind `dpdk`.
pub struct Devices {
    counts: Counts,
    links: Mutex<Vec<Link>>,
}

/// The link of a port.
struct Link {
    port: String,
    host_if: Option<String>,
    /// As it was seen last; at first it counts as up, which is what the kernel takes a new TAP for.
    up: bool,
    changes: u64,
}

impl Devices {
    /// Those of a config.
    pub fn new(config: &Config, counts: Counts) -> Devices {
        let of_dpdk = config.ports.iter().filter(|p| matches!(p.kind, PortKind::Dpdk { .. }));
        let links = of_dpdk
            .map(|p| Link { port: p.name.clone(), host_if: p.host_if.clone(), up: true, changes: 0 })
            .collect();
        Devices { counts, links: Mutex::new(links) }
    }

    /// Asks them all; gives what the facts of their ports are to say besides. Empty without such ports.
    pub fn look(&self) -> Vec<Map<String, Value>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let all = dpdk::read(&self.counts).into_iter().zip(links.iter_mut());
        all.map(|(device, link)| {
            let mut told = Map::new();
            let counts = device.counts.into_iter().take(COUNTS_MAX);
            told.insert("device_counts".to_owned(), counts.map(|(name, n)| (name, json!(n))).collect());
            if let Some(now) = device.link {
                link.see(now.up);
                let link = json!({ "up": now.up, "speed_mbps": now.speed_mbps, "changes": link.changes });
                told.insert("link".to_owned(), link);
            }
            told
        })
        .collect()
    }
}

impl Link {
    /// The kernel, where it shares the port, is to see what the device sees: routing daemons act on it.
    fn see(&mut self, up: bool) {
        if up == self.up {
            return;
        }
        self.up = up;
        self.changes += 1;
        let word = if up { "up" } else { "down" };
        log::warn(format_args!("port \"{}\": the link is {word}", self.port));
        if let Some(Err(e)) = self.host_if.as_ref().map(|name| host_if::set_carrier(name, up)) {
            log::warn(format_args!(
                "port \"{}\", host_if: the kernel cannot be told of its link: {e}",
                self.port
            ));
        }
    }
}
