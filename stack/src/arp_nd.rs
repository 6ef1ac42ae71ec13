//! ARP (RFC 826) and neighbour discovery (RFC 4861): answering for our addresses, asking for others'. On ports that the
//! kernel shares it does both: we ask it.

use dataplane::buf::RxFlags;
use dataplane::port::Mac;
use dataplane::{Ctr, Packet, Time, TxQueue};

use crate::addr::Addr;
use crate::checksum::Sum;
use crate::neigh::Due;
use crate::net::{Net, Path, solicited_node};
use crate::parse::{addresses, protocol, source_mac};

/// ICMPv6 types of neighbour discovery.
pub mod nd_type {
    /// Router solicitation.
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation.
    pub const SOLICIT: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

const OPT_SOURCE_MAC: u8 = 1;
const OPT_TARGET_MAC: u8 = 2;

impl Net {
    /// Takes an ARP packet.
    ///
    /// # Errors
    /// The counter of the reason to drop it.
    pub fn arp_input(&mut self, p: &Packet, tx: &mut [TxQueue], now: Time) -> Result<(), Ctr> {
        let (l3, port) = (p.meta().l3 as usize, p.meta().port);
        let Some(a) = p.head().get(l3..l3 + 28) else { return Err(Ctr::DropArpMalformed) };
        // Ethernet, IPv4, 6 and 4 bytes.
        if a[..6] != [0, 1, 8, 0, 6, 4] || a[6] != 0 || !(1..=2).contains(&a[7]) {
            return Err(Ctr::DropArpMalformed);
        }
        let mut sender_mac: Mac = [0; 6];
        sender_mac.copy_from_slice(&a[8..14]);
        let (sender, target) = (Addr::v4(&a[14..18]), Addr::v4(&a[24..28]));
        let for_us = self.ifaces[port as usize].owns(&target);
        let is_probe = a[14..18] == [0; 4]; // RFC 5227
        if !is_probe && !self.ifaces[port as usize].owns(&sender) {
            // RFC 826: merge when known; add when we are the target.
            self.learn(port, &sender, sender_mac, for_us, tx, now);
            // Of the rest, what tells the whole link of a change matters to the other cores too (RFC 5227 3).
            if for_us || target == sender {
                self.tell_neighbour(port, &sender, sender_mac, for_us);
            }
        }
        if !for_us {
            return Err(Ctr::DropArpNotOurs);
        }
        if a[7] == 1 {
            self.counters.inc(Ctr::ArpReplies);
            self.send_arp(port, 2, &target, sender_mac, sender_mac, &sender, tx);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // The fields of one ARP packet.
    fn send_arp(
        &mut self,
        port: u8,
        op: u8,
        from: &Addr,
        to_mac: Mac,
        target_mac: Mac,
        target: &Addr,
        tx: &mut [TxQueue],
    ) {
        let Some(mut p) = self.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return;
        };
        let mut a = [0u8; 28];
        a[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, op]);
        a[8..14].copy_from_slice(&self.ifaces[port as usize].mac);
        a[14..18].copy_from_slice(from.wire());
        a[18..24].copy_from_slice(&target_mac);
        a[24..28].copy_from_slice(target.wire());
        if p.append(&a) && self.push_ethernet(&mut p, port, to_mac, 0x0806) {
            tx[port as usize].push(p);
        }
    }

    /// Learns, and sends what waited.
    pub(crate) fn learn(
        &mut self,
        port: u8,
        addr: &Addr,
        mac: Mac,
        create: bool,
        tx: &mut [TxQueue],
        now: Time,
    ) {
        for p in self.neighbours.learn(port, addr, mac, create, now) {
            self.send_frame(p, port, mac, !addr.is_v4(), tx);
        }
        self.counters.set(Ctr::Neighbours, self.neighbours.len() as u64);
    }

    /// A neighbour is not there: what waits for it is dropped.
    pub(crate) fn forget(&mut self, port: u8, addr: &Addr, tx: &mut [TxQueue]) {
        let dropped = self.neighbours.forget(port, addr) as u64;
        tx[port as usize].built += dropped;
        self.counters.add(Ctr::DropTxNeighbour, dropped);
        self.counters.set(Ctr::Neighbours, self.neighbours.len() as u64);
    }

    /// Asks for a neighbour: all (`to` = None), or the station that was known.
    pub(crate) fn solicit(&mut self, port: u8, who: &Addr, to: Option<Mac>, tx: &mut [TxQueue], now: Time) {
        let iface = &self.ifaces[port as usize];
        if iface.kernel.is_some() {
            return self.ask_kernel(port, who);
        }
        let Some(src) = iface.source_for(who) else { return };
        if who.is_v4() {
            self.counters.inc(Ctr::ArpRequests);
            self.send_arp(port, 1, &src, to.unwrap_or([0xff; 6]), [0; 6], who, tx);
            return;
        }
        self.counters.inc(Ctr::NdSolicits);
        let dst = if to.is_some() { *who } else { solicited_node(who) };
        self.send_nd(port, nd_type::SOLICIT, 0, who, OPT_SOURCE_MAC, &src, &dst, to, tx, now);
    }

    #[allow(clippy::too_many_arguments)] // The fields of one ND message.
    fn send_nd(
        &mut self,
        port: u8,
        kind: u8,
        flags: u8,
        target: &Addr,
        option: u8,
        src: &Addr,
        dst: &Addr,
        mac: Option<Mac>,
        tx: &mut [TxQueue],
        now: Time,
    ) {
        let Some(mut p) = self.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return;
        };
        let mut m = [0u8; 32];
        m[0] = kind;
        m[4] = flags;
        m[8..24].copy_from_slice(&target.0);
        m[24] = option;
        m[25] = 1;
        m[26..32].copy_from_slice(&self.ifaces[port as usize].mac);
        let mut s = Sum::default();
        s.add_pseudo(&src.0, &dst.0, protocol::ICMP6, 32);
        s.add(&m);
        m[2..4].copy_from_slice(&s.finish().to_be_bytes());
        p.append(&m);
        // Hop limit 255: what a receiver checks to know that we are on the link (RFC 4861 7.1).
        let path = Path {
            port,
            src: *src,
            dst: *dst,
            mac,
            protocol: protocol::ICMP6,
            hop_limit: 255,
            flow_label: 0,
            ecn: 0,
        };
        self.send(p, &path, tx, now);
    }

    /// Takes a neighbour discovery message (its ICMPv6 checksum is right).
    ///
    /// # Errors
    /// The counter of the reason to drop it.
    pub fn nd_input(&mut self, p: &Packet, tx: &mut [TxQueue], now: Time) -> Result<(), Ctr> {
        let m = *p.meta();
        let hop_limit = p.head()[m.l3 as usize + 7];
        let end = (m.payload + m.payload_len) as usize;
        let icmp = &p.head()[m.l4 as usize..end];
        if hop_limit != 255 || icmp[1] != 0 {
            return Err(Ctr::DropNdMalformed);
        }
        let kind = icmp[0];
        // Routers are configured, not discovered: advertisements and redirects of a stranger move no route.
        if kind != nd_type::SOLICIT && kind != nd_type::ADVERT {
            return Err(Ctr::DropIcmpUnhandled);
        }
        if icmp.len() < 24 {
            return Err(Ctr::DropNdMalformed);
        }
        let (src, dst) = addresses(p);
        let target = Addr::v6(&icmp[8..24]);
        if target.is_group() || target.is_v4() {
            return Err(Ctr::DropNdMalformed);
        }
        let want = if kind == nd_type::SOLICIT { OPT_SOURCE_MAC } else { OPT_TARGET_MAC };
        let mac = option_mac(&icmp[24..], want)?;
        if kind == nd_type::SOLICIT {
            self.solicited(p, &src, &dst, &target, mac, tx, now)
        } else {
            let solicited = icmp[4] & 0x40 != 0;
            if solicited && dst.is_group() {
                return Err(Ctr::DropNdMalformed);
            }
            // An advertisement confirms what we asked for; it never makes an entry (RFC 4861 7.2.5).
            if let Some(mac) = mac {
                self.learn(m.port, &target, mac, false, tx, now);
                self.tell_neighbour(m.port, &target, mac, false);
            }
            Ok(())
        }
    }

    #[allow(clippy::too_many_arguments)] // The fields of one ND message.
    fn solicited(
        &mut self,
        p: &Packet,
        src: &Addr,
        dst: &Addr,
        target: &Addr,
        mac: Option<Mac>,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Result<(), Ctr> {
        let port = p.meta().port;
        let is_dad = *src == Addr::UNSPECIFIED;
        if is_dad && (mac.is_some() || *dst != solicited_node(target)) {
            return Err(Ctr::DropNdMalformed);
        }
        if !self.ifaces[port as usize].owns(target) {
            return Err(Ctr::DropIp6NotOurs);
        }
        if let (false, Some(mac)) = (is_dad, mac) {
            self.learn(port, src, mac, true, tx, now);
            self.tell_neighbour(port, src, mac, true);
        }
        self.counters.inc(Ctr::NdAdverts);
        const SOLICITED: u8 = 0x40;
        const OVERRIDE: u8 = 0x20;
        const ALL_NODES: Addr = Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let (flags, to, to_mac) = if is_dad {
            (OVERRIDE, ALL_NODES, None)
        } else {
            (SOLICITED | OVERRIDE, *src, Some(mac.unwrap_or_else(|| source_mac(p))))
        };
        self.send_nd(port, nd_type::ADVERT, flags, target, OPT_TARGET_MAC, target, &to, to_mac, tx, now);
        Ok(())
    }

    /// Tells the link our addresses: a gratuitous ARP (RFC 5227) and an unsolicited advertisement each. Also on ports that
    /// the kernel shares: it does not do so by itself, and nobody is to answer.
    pub fn announce(&mut self, tx: &mut [TxQueue], now: Time) {
        for port in 0..self.ifaces.len() {
            if self.ifaces[port].peer_mac.is_some() {
                continue;
            }
            for i in 0..self.ifaces[port].addresses.len() {
                let (own, _) = self.ifaces[port].addresses[i];
                if own.is_v4() {
                    self.counters.inc(Ctr::ArpRequests);
                    self.send_arp(port as u8, 1, &own, [0xff; 6], [0; 6], &own, tx);
                } else {
                    const ALL_NODES: Addr = Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                    self.counters.inc(Ctr::NdAdverts);
                    let port = port as u8;
                    self.send_nd(
                        port,
                        nd_type::ADVERT,
                        0x20,
                        &own,
                        OPT_TARGET_MAC,
                        &own,
                        &ALL_NODES,
                        None,
                        tx,
                        now,
                    );
                }
            }
        }
    }

    /// Runs the neighbours' timers.
    pub fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let mut due: arrayvec::ArrayVec<Due, 64> = arrayvec::ArrayVec::new();
        let ran = self.neighbours.timers(now, |d| due.push(d));
        for d in due {
            match d {
                Due::Solicit(port, addr, to) => self.solicit(port, &addr, to, tx, now),
                Due::GaveUp(port, packets) => {
                    tx[port as usize].built += packets as u64;
                    self.counters.add(Ctr::DropTxNeighbour, packets as u64);
                }
            }
        }
        let (overflowed, recycled) = self.neighbours.take_counts();
        if overflowed + recycled > 0 {
            // Which port it was does not matter to the law: it sums over all.
            tx[0].built += overflowed;
            self.counters.add(Ctr::DropTxNeighbour, overflowed);
            self.counters.add(Ctr::NeighboursFull, recycled);
        }
        // What was counted here is work: the core settles its laws only after a pass that did some.
        ran | (overflowed + recycled > 0)
    }
}

/// Finds a link-layer address option; walks all options, as a zero length makes the whole message invalid.
fn option_mac(mut options: &[u8], want: u8) -> Result<Option<Mac>, Ctr> {
    let mut found = None;
    while !options.is_empty() {
        let len = options.get(1).map_or(0, |n| usize::from(*n) * 8);
        if len == 0 || len > options.len() {
            return Err(Ctr::DropNdMalformed);
        }
        if options[0] == want {
            let mut m = [0; 6];
            m.copy_from_slice(&options[2..8]);
            found = Some(m);
        }
        options = &options[len..];
    }
    Ok(found)
}

/// Whether an ICMPv6 type is neighbour discovery's.
pub fn is_nd(kind: u8) -> bool {
    (nd_type::ROUTER_SOLICIT..=nd_type::REDIRECT).contains(&kind)
}

/// Whether a frame came to a group at L2.
pub fn is_group(p: &Packet) -> bool {
    p.meta().flags.has(RxFlags::L2_GROUP)
}
