//! The control network: names are resolved, and operators log in, by the kernel's own network.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::asker::Cap;
use super::{Finding, Host, Kind};

const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// What the kernel's tables say.
#[derive(Default)]
pub struct Routes {
    /// Whether there were tables to read.
    known: bool,
    /// Interfaces with a default route.
    default: BTreeSet<String>,
    /// Interfaces with any route but the link's own.
    any: BTreeSet<String>,
    /// Addresses of this host, and the interface.
    addresses: Vec<(IpAddr, String)>,
}

impl Routes {
    pub fn read(host: &Host) -> Routes {
        let mut routes = Routes::default();
        let v4 = host.files.text("/proc/net/route");
        let v6 = host.files.text("/proc/net/ipv6_route");
        routes.known = v4.is_some() || v6.is_some();
        let connected = routes.take_v4(&v4.unwrap_or_default());
        routes.take_v6(&v6.unwrap_or_default());
        let trie = host.files.text("/proc/net/fib_trie").unwrap_or_default();
        for address in local_v4(&trie) {
            let net = connected.iter().filter(|c| u32::from(address) & c.1 == c.0).max_by_key(|c| c.1);
            if let Some((_, _, iface)) = net {
                routes.addresses.push((address.into(), iface.clone()));
            }
        }
        routes.addresses.extend(local_v6(&host.files.text("/proc/net/if_inet6").unwrap_or_default()));
        routes
    }

    /// Gives the networks that are reached without a gateway: address, mask, interface.
    fn take_v4(&mut self, text: &str) -> Vec<(u32, u32, String)> {
        let mut connected = Vec::new();
        for line in text.lines().skip(1) {
            let f: Vec<&str> = line.split_whitespace().collect();
            let number = |i: usize| f.get(i).and_then(|n: &&str| u32::from_str_radix(n, 16).ok());
            let (Some(to), Some(gateway), Some(flags), Some(mask)) =
                (number(1), number(2), number(3), number(7))
            else {
                continue;
            };
            if f[0] == "lo" || flags & UP == 0 || flags & REJECT != 0 {
                continue;
            }
            self.take(f[0], mask == 0);
            if gateway == 0 {
                // Written as the machine has it in memory.
                connected.push((u32::from_be(to), u32::from_be(mask), f[0].to_owned()));
            }
        }
        connected
    }

    fn take_v6(&mut self, text: &str) {
        for line in text.lines() {
            let f: Vec<&str> = line.split_whitespace().collect();
            let (Some(to), Some(len), Some(flags), Some(iface)) = (f.first(), f.get(1), f.get(8), f.get(9))
            else {
                continue;
            };
            let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
            let of_the_link = to.starts_with("fe80") || to.starts_with("ff");
            if *iface == "lo" || flags & UP == 0 || flags & REJECT != 0 || of_the_link {
                continue;
            }
            self.take(iface, *len == "00");
        }
    }

    fn take(&mut self, iface: &str, default: bool) {
        self.any.insert(iface.to_owned());
        if default {
            self.default.insert(iface.to_owned());
        }
    }

    pub fn has_default(&self, iface: &str) -> bool {
        self.default.contains(iface)
    }

    /// Addresses on an interface, without those of the link alone.
    pub fn on<'a>(&'a self, iface: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        self.addresses.iter().filter(move |(_, i)| i == iface).map(|(a, _)| *a)
    }
}

/// The `/32 host LOCAL` leaves of the trie: each follows the line with its address.
fn local_v4(trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut all = BTreeSet::new();
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.trim() == "/32 host LOCAL" {
            all.extend(last);
        }
    }
    all
}

fn local_v6(text: &str) -> Vec<(IpAddr, String)> {
    let one = |line: &str| {
        let f: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv6Addr::from(u128::from_str_radix(f.first()?, 16).ok()?);
        let iface = f.get(5)?;
        let good = *iface != "lo" && !address.is_unicast_link_local();
        good.then(|| (address.into(), (*iface).to_owned()))
    };
    text.lines().filter_map(one).collect()
}

pub fn findings(host: &Host) -> Vec<Finding> {
    vec![network(&Routes::read(host)), low_ports(host)]
}

fn network(routes: &Routes) -> Finding {
    const CHECK: &str = "control.route";
    let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    if !routes.known {
        return Finding::note(CHECK, "the kernel's routes are not known: /proc/net cannot be read");
    }
    if !routes.default.is_empty() {
        let found =
            format!("the kernel has a default route by {} for names and control", names(&routes.default));
        return Finding::ok(CHECK, found);
    }
    if !routes.any.is_empty() {
        let found = format!("the kernel has routes by {}, but no default route", names(&routes.any));
        return Finding::note(CHECK, found)
            .mend("where origins or resolvers are further away: ip route add default via GATEWAY");
    }
    Finding::warn(CHECK, "the kernel has no route to anywhere: no name can be resolved, and nobody can log in")
        .mend("give a management NIC an address and a route: ip link set NIC up && ip address add ADDRESS/LENGTH dev NIC && ip route add default via GATEWAY")
        .blocks(&Kind::ALL)
}

/// A port of kind `host` listens with the kernel's sockets.
fn low_ports(host: &Host) -> Finding {
    const CHECK: &str = "host.low_ports";
    let first = host.files.number("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or(1024);
    let f = if host.asker.can(Cap::NetBindService) {
        Finding::ok(CHECK, "a port of kind host may listen on 80 and 443 (CAP_NET_BIND_SERVICE)")
    } else if first <= 80 {
        Finding::ok(
            CHECK,
            format!("a port of kind host may listen on 80 and 443 (every user may from {first})"),
        )
    } else {
        Finding::note(CHECK, format!("this user may not listen below {first} with a port of kind host")).mend(
            "setcap cap_net_bind_service=+ep MILLRACE, or: sysctl -w net.ipv4.ip_unprivileged_port_start=80",
        )
    };
    f.matters_to(&[Kind::Host])
}
