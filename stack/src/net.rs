//! Interfaces, and sending an L4 packet over one: IP header, next hop, Ethernet header, queue.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dataplane::buf::NO_VLAN;
use dataplane::port::Mac;
use dataplane::rss::Rss;
use dataplane::{Counters, Ctr, Packet, Pool, Time, TxQueue};

use crate::addr::Addr;
use crate::checksum::checksum;
use crate::kernel::{Budgets, KernelSide, Questions, SHARED_MAX};
use crate::neigh::{Lookup, Neighbours};
use crate::steer::Steering;

/// Addresses that one port may have.
pub const ADDRESSES_MAX: usize = 64;
/// Ranges of addresses that one port may have beside them.
pub const RANGES_MAX: usize = 8;

/// What one port of the node is on the network.
#[derive(Clone, Debug)]
pub struct Iface {
    /// Our MAC.
    pub mac: Mac,
    /// Our VLAN, or [`NO_VLAN`].
    pub vlan: u16,
    /// Bytes of IP packet that fit a frame.
    pub mtu: u16,
    /// Our addresses with their prefix lengths; the IPv6 link-local address is among them.
    pub addresses: ArrayVec<(Addr, u8), ADDRESSES_MAX>,
    /// Addresses that are ours too, first and last of each range: a load generator's many sources. They say nothing of
    /// what is on the link.
    pub ranges: ArrayVec<(Addr, Addr), RANGES_MAX>,
    /// Gateway for everything that is not on the link, by family: IPv4, IPv6.
    pub gateway: [Option<Addr>; 2],
    /// Everybody is reached at this MAC: a wire with one other end, which answers no ARP.
    pub peer_mac: Option<Mac>,
    /// The port fills in L4 checksums, or its other side needs none.
    pub tx_checksum_offload: bool,
    /// The longest frame that the port takes to cut it into segments; 0: none.
    pub tso_bytes_max: u32,
    /// How its device spreads TCP over the cores, where that can be predicted.
    pub rss: Option<Arc<Rss>>,
    /// The kernel has the addresses too (see `kernel`).
    pub kernel: Option<KernelSide>,
}

impl Iface {
    /// An interface without addresses.
    pub fn new(mac: Mac, mtu: u16) -> Iface {
        let mut i = Iface {
            mac,
            vlan: NO_VLAN,
            mtu,
            addresses: ArrayVec::new(),
            ranges: ArrayVec::new(),
            gateway: [None, None],
            peer_mac: None,
            tx_checksum_offload: false,
            tso_bytes_max: 0,
            rss: None,
            kernel: None,
        };
        i.addresses.push((link_local(mac), 64));
        i
    }

    /// Adds an address; `false` when there are too many.
    pub fn add(&mut self, ip: IpAddr, prefix: u8) -> bool {
        self.addresses.try_push((ip.into(), prefix)).is_ok()
    }

    /// Adds all addresses from `first` to `last`, of one family; `false` when there are too many ranges.
    pub fn add_range(&mut self, first: IpAddr, last: IpAddr) -> bool {
        debug_assert!(first.is_ipv4() == last.is_ipv4() && first <= last);
        self.ranges.try_push((first.into(), last.into())).is_ok()
    }

    /// Whether an address is ours.
    #[inline]
    pub fn owns(&self, a: &Addr) -> bool {
        self.addresses.iter().any(|(own, _)| own == a)
            || self.ranges.iter().any(|(first, last)| (first..=last).contains(&a))
    }

    /// Whether we are in an IPv6 multicast group: all nodes, or an address's solicited-node group
    /// (RFC 4291 2.8).
    pub fn in_group(&self, g: &Addr) -> bool {
        const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        g.0 == ALL_NODES
            || self.addresses.iter().any(|(a, _)| !a.is_v4() && solicited_node(a) == *g)
            || self.ranges.iter().any(|(first, last)| !first.is_v4() && solicits(first, last, g))
    }

    /// Whether nobody in particular is meant: a group, or all hosts of a network of ours.
    pub fn is_for_many(&self, dst: &Addr) -> bool {
        let all_of = |(own, prefix): &(Addr, u8)| {
            let hosts = 32u32.saturating_sub((*prefix).into());
            // In a /31 (RFC 3021) and a /32 every address is a host's.
            hosts > 1 && own.is_v4() && own.matches(dst, *prefix) && {
                let low = u32::from_be_bytes([dst.0[12], dst.0[13], dst.0[14], dst.0[15]]);
                low.trailing_ones() >= hosts
            }
        };
        dst.is_group() || self.addresses.iter().any(all_of)
    }

    /// Our address to send from to `dst`: one of the family, on the same link where there is one.
    pub fn source_for(&self, dst: &Addr) -> Option<Addr> {
        let on_link = self.addresses.iter().find(|(a, p)| a.matches(dst, *p));
        let routable = || {
            self.addresses
                .iter()
                .find(|(a, _)| a.is_v4() == dst.is_v4() && (a.is_v4() || a.0[..2] != [0xfe, 0x80]))
        };
        on_link.or_else(routable).map(|(a, _)| *a)
    }

    /// Whom to hand a packet for `dst` to on this link.
    fn next_hop(&self, dst: &Addr) -> Option<Addr> {
        self.way(dst).map(|(_, hop)| hop)
    }

    /// The next hop on this link towards `dst`, with the length of the prefix that says so.
    fn way(&self, dst: &Addr) -> Option<(u8, Addr)> {
        let on_link = self.addresses.iter().filter(|(a, p)| a.matches(dst, *p)).map(|(_, p)| *p).max();
        let on_link = on_link.map(|p| (p, *dst));
        // The kernel's routes, then the config's gateway: it is for what the kernel has no route for.
        let kernels = self.kernel.as_ref().and_then(|k| k.routes.way(dst));
        let gateway = || self.gateway[usize::from(!dst.is_v4())].map(|g| (0, g));
        match (kernels, on_link) {
            (Some(k), Some(own)) if k.0 < own.0 => Some(own),
            _ => kernels.or(on_link).or_else(gateway),
        }
    }
}

/// fe80::/64 with the MAC's modified EUI-64 (RFC 4291 appendix A).
fn link_local(m: Mac) -> Addr {
    Addr([0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]])
}

/// ff02::1:ffXX:XXXX (RFC 4291 2.7.1).
pub fn solicited_node(a: &Addr) -> Addr {
    Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a.0[13], a.0[14], a.0[15]])
}

/// Whether `g` is the solicited-node group of any address of a range: one whose last 24 bits are the group's.
fn solicits(first: &Addr, last: &Addr, g: &Addr) -> bool {
    let (lo, hi, asked) =
        (u128::from_be_bytes(first.0), u128::from_be_bytes(last.0), u128::from_be_bytes(g.0));
    // The least one at or above `lo` with those bits.
    let least = lo.saturating_add(asked.wrapping_sub(lo) & 0xff_ffff);
    least <= hi && solicited_node(&Addr(least.to_be_bytes())) == *g
}

/// The network side of the stack: interfaces, neighbours, and where headers come from.
pub struct Net {
    /// By port number.
    pub ifaces: Vec<Iface>,
    /// ARP and ND.
    pub neighbours: Neighbours,
    /// Header cells.
    pub headers: Pool,
    /// The core's counters.
    pub counters: Counters,
    /// The other cores, if there are any.
    pub(crate) steering: Option<Steering>,
    /// The wire port of each exception port; these are numbered behind the interfaces.
    pub(crate) wire_of: ArrayVec<u8, SHARED_MAX>,
    pub(crate) questions: Option<Arc<Questions>>,
    pub(crate) budgets: Budgets,
    pub(crate) ip_id: u16,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The port to leave by.
    pub port: u8,
    /// From.
    pub src: Addr,
    /// To.
    pub dst: Addr,
    /// The station to hand it to, where that is known; resolved otherwise.
    pub mac: Option<Mac>,
    /// IP protocol.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// IPv6 flow label: 20 bits that stay the same for a flow (RFC 6437), 0 for none.
    pub flow_label: u32,
    /// ECN codepoint (RFC 3168 5).
    pub ecn: u8,
}

/// Neither on the link nor behind a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable;

impl Net {
    /// A network side with these interfaces.
    pub fn new(ifaces: Vec<Iface>, neighbours: Neighbours, headers: Pool, counters: Counters) -> Net {
        Net {
            ifaces,
            neighbours,
            headers,
            counters,
            steering: None,
            wire_of: ArrayVec::new(),
            questions: None,
            budgets: Budgets::default(),
            ip_id: 0,
        }
    }

    /// The interface that reaches `dst` by the longest prefix, with our address on it.
    pub fn route(&self, dst: &Addr) -> Option<(u8, Addr)> {
        let mut best: Option<(u8, (u8, Addr))> = None;
        for (n, i) in self.ifaces.iter().enumerate() {
            if let (Some((len, _)), Some(src)) = (i.way(dst), i.source_for(dst))
                && best.is_none_or(|(longest, _)| len > longest)
            {
                best = Some((len, (n as u8, src)));
            }
        }
        best.map(|(_, found)| found)
    }

    /// Puts IP and Ethernet headers in front of an L4 packet and queues it.
    ///
    /// Unresolved next hops hold it back (bounded); without a route it is dropped and counted.
    pub fn send(&mut self, mut p: Packet, path: &Path, tx: &mut [TxQueue], now: Time) {
        let len = p.total_len();
        let ok =
            if path.dst.is_v4() { self.push_ipv4(&mut p, path, len) } else { push_ipv6(&mut p, path, len) };
        debug_assert!(ok, "a header cell has room for its headers");
        if !ok {
            return;
        }
        self.send_ip(p, path, tx, now);
    }

    /// The station to hand packets for `dst` to by `port`, asked for where it is not known: `Ok(None)` until it has
    /// answered.
    ///
    /// # Errors
    /// When no way leads there from this port.
    pub fn resolve(
        &mut self,
        port: u8,
        dst: &Addr,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Result<Option<Mac>, Unreachable> {
        let iface = &self.ifaces[port as usize];
        if iface.peer_mac.is_some() {
            return Ok(iface.peer_mac);
        }
        let hop = iface.next_hop(dst).ok_or(Unreachable)?;
        let (mac, ask) = self.neighbours.resolve(port, &hop, now);
        if ask {
            self.solicit(port, &hop, None, tx, now);
        }
        Ok(mac)
    }

    fn push_ipv4(&mut self, p: &mut Packet, path: &Path, len: usize) -> bool {
        self.ip_id = self.ip_id.wrapping_add(1);
        let id = self.ip_id;
        let Some(h) = p.push_front(20) else { return false };
        h[0] = 0x45;
        h[1] = path.ecn;
        h[2..4].copy_from_slice(&((len + 20) as u16).to_be_bytes());
        h[4..6].copy_from_slice(&id.to_be_bytes());
        h[6..8].copy_from_slice(&[0x40, 0]); // don't fragment
        h[8] = path.hop_limit;
        h[9] = path.protocol;
        h[10..12].copy_from_slice(&[0, 0]);
        h[12..16].copy_from_slice(path.src.wire());
        h[16..20].copy_from_slice(path.dst.wire());
        let c = checksum(h);
        h[10..12].copy_from_slice(&c.to_be_bytes());
        true
    }

    /// Sends an IP packet: as `send`, for one that has its IP header.
    fn send_ip(&mut self, p: Packet, path: &Path, tx: &mut [TxQueue], now: Time) {
        let iface = &self.ifaces[path.port as usize];
        let is_v6 = !path.dst.is_v4();
        let group = is_v6 && path.dst.is_group();
        let mac = if group {
            Some([0x33, 0x33, path.dst.0[12], path.dst.0[13], path.dst.0[14], path.dst.0[15]])
        } else {
            path.mac.or(iface.peer_mac)
        };
        if let Some(mac) = mac {
            self.send_frame(p, path.port, mac, is_v6, tx);
            return;
        }
        let Some(hop) = iface.next_hop(&path.dst) else {
            tx[path.port as usize].built += 1;
            self.counters.inc(Ctr::DropTxNoRoute);
            return;
        };
        match self.neighbours.lookup(path.port, &hop, p, now) {
            Lookup::Known(mac, p, probe) => {
                self.send_frame(p, path.port, mac, is_v6, tx);
                if probe {
                    self.solicit(path.port, &hop, Some(mac), tx, now);
                }
            }
            Lookup::Waits { solicit } => {
                if solicit {
                    self.solicit(path.port, &hop, None, tx, now);
                }
            }
            Lookup::Dropped => {}
        }
    }

    /// Puts the Ethernet header on and queues the frame.
    pub fn send_frame(&mut self, mut p: Packet, port: u8, to: Mac, is_v6: bool, tx: &mut [TxQueue]) {
        let ethertype: u16 = if is_v6 { 0x86dd } else { 0x0800 };
        if self.push_ethernet(&mut p, port, to, ethertype) {
            tx[port as usize].push(p);
        }
    }

    /// Puts the Ethernet header (with our VLAN's tag) on.
    pub fn push_ethernet(&self, p: &mut Packet, port: u8, to: Mac, ethertype: u16) -> bool {
        let i = &self.ifaces[port as usize];
        let tagged = i.vlan != NO_VLAN;
        let Some(h) = p.push_front(if tagged { 18 } else { 14 }) else { return false };
        h[..6].copy_from_slice(&to);
        h[6..12].copy_from_slice(&i.mac);
        if tagged {
            h[12..14].copy_from_slice(&[0x81, 0]);
            h[14..16].copy_from_slice(&i.vlan.to_be_bytes());
            h[16..18].copy_from_slice(&ethertype.to_be_bytes());
        } else {
            h[12..14].copy_from_slice(&ethertype.to_be_bytes());
        }
        p.meta_mut().port = port;
        true
    }
}

fn push_ipv6(p: &mut Packet, path: &Path, len: usize) -> bool {
    let Some(h) = p.push_front(40) else { return false };
    h[..4].copy_from_slice(
        &(0x6000_0000 | u32::from(path.ecn) << 20 | (path.flow_label & 0xf_ffff)).to_be_bytes(),
    );
    h[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    h[6] = path.protocol;
    h[7] = path.hop_limit;
    h[8..24].copy_from_slice(&path.src.0);
    h[24..40].copy_from_slice(&path.dst.0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_ours_and_their_groups_too() {
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().expect("an address"));
        let mut i = Iface::new([2, 0, 0, 0, 0, 1], 1500);
        let mut add = |a: &str, b: &str| i.add_range(a.parse().expect("an address"), b.parse().expect("one"));
        assert!(add("10.1.0.5", "10.2.0.0") && add("fd00::1:fffe", "fd00::1:100:3"));
        for (ours, text) in [
            (true, "10.1.0.5"),
            (true, "10.1.255.255"),
            (true, "10.2.0.0"),
            (false, "10.1.0.4"),
            (false, "10.2.0.1"),
            (true, "fd00::1:ffff"),
            (false, "fd00::1:fffd"),
            (false, "::a01:5"),
        ] {
            assert_eq!(i.owns(&addr(text)), ours, "{text}");
        }
        for (ours, text) in
            [(true, "fd00::1:fffe"), (true, "fd00::2:0"), (true, "fd00::1:100:0"), (true, "fd00::1:100:3")]
        {
            assert_eq!(i.in_group(&solicited_node(&addr(text))), ours, "{text}");
        }
        // A range of less than 2^24: most groups are nobody's.
        let mut few = Iface::new([2, 0, 0, 0, 0, 1], 1500);
        assert!(few.add_range("fd00::ff:fffe".parse().expect("v6"), "fd00::100:3".parse().expect("v6")));
        for (ours, text) in [(true, "::ff:ffff"), (true, "::3"), (false, "::4"), (false, "::ff:fffd")] {
            assert_eq!(few.in_group(&solicited_node(&addr(text))), ours, "{text}");
        }
    }
}
