//! The exception path: a port whose addresses the kernel of this host has too.
//!
//! ```text
//!           wire port                                            exception port (a TAP: the kernel's end)
//!  frame ──► parse ──► a connection, listener or socket of ours? ──yes──► stack
//!              │ not for an address of ours      │ no
//!              └──────────────► punt ◄───────────┘ ──► budget ──► its tx queue ──► kernel   rx.punted
//!  frame ◄── tx queue of the wire port ◄──────────────────────── whatever the kernel sends   rx.forwarded
//! ```
//!
//! There are never two answerers: on such a port the kernel alone speaks ARP and neighbour discovery, answers echo
//! requests, and says what is unreachable; we answer for our own listeners and connections only. What is broken (a
//! checksum, a length) is dropped here, as on any port. The routes and neighbours of our own connections are the
//! kernel's: [`Routes`] are a copy that the control side keeps up to date, and who has an address is asked of the
//! kernel through [`Questions`].
//!
//! Exception ports are numbered behind the wire ports, which have the [`Iface`](crate::Iface)s. The kernel's frames have
//! no VLAN tag: it is taken off and put on here.
//!
//! The kernel's time is spent on this core (a write to the TAP runs its receive path), so it has a budget: three
//! kinds of frames, each with a rate, so that a flood of one does not starve the others.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use dataplane::buf::{NO_VLAN, RxFlags};
use dataplane::{Bells, Ctr, L4, Packet, Time, TxQueue};

use crate::Stack;
use crate::addr::Addr;
use crate::arp_nd::is_nd;
use crate::icmp::quoted_connection;
use crate::net::Net;
use crate::parse::{be16, protocol};
use crate::tcp::PortRole;

/// Ports that can be shared.
pub const SHARED_MAX: usize = 8;
/// Routes that one port mirrors at most.
pub const ROUTES_MAX: usize = 256;
/// Questions that may wait for the control side.
pub const QUESTIONS_MAX: usize = 256;
/// What a rate saves up for: so much time's frames may come at once.
const BURST_NS: u64 = 50_000_000;

/// The kinds of punted frames: what they are dropped as beyond their rate, and frames in a second.
const KINDS: [(Ctr, u64); 3] =
    [(Ctr::DropPuntLink, 10_000), (Ctr::DropPuntTcp, 50_000), (Ctr::DropPuntOther, 20_000)];

/// What a port that is shared with the kernel has besides others.
#[derive(Clone, Debug)]
pub struct KernelSide {
    /// The number of the exception port.
    pub port: u8,
    /// The kernel's routes through it.
    pub routes: Arc<Routes>,
}

/// Where the kernel sends what is for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Length of the prefix, of the family's own bits.
    pub prefix_len: u8,
    /// The prefix.
    pub prefix: Addr,
    /// The router, of the same family; `None`: the destination is on the link.
    pub via: Option<Addr>,
}

/// The kernel's routes through one port: the shortest prefixes, at most [`ROUTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(Box<[Route]>);

impl Routes {
    /// These routes, of which each prefix is there once; and how many there was no room for.
    pub fn new(mut all: Vec<Route>) -> (Routes, usize) {
        // Of too many, the longest prefixes go: what is for them follows a shorter one.
        all.sort_unstable();
        let left_out = all.len().saturating_sub(ROUTES_MAX);
        all.truncate(ROUTES_MAX);
        all.reverse();
        (Routes(all.into()), left_out)
    }

    /// The next hop towards `dst` by the longest prefix, and its length.
    pub fn way(&self, dst: &Addr) -> Option<(u8, Addr)> {
        let r = self.0.iter().find(|r| r.prefix.matches(dst, r.prefix_len))?;
        Some((r.prefix_len, r.via.unwrap_or(*dst)))
    }

    /// The routes, longest prefix first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

/// What the cores ask of the kernel: who has an address. The control side takes the questions, and gives the answers to
/// [`Stack::mirror`].
pub struct Questions {
    queue: ArrayQueue<(u8, Addr)>,
    bells: Arc<Bells>,
}

impl Questions {
    /// An empty queue whose reader is woken by bell 0 of `bells`.
    pub fn new(bells: Arc<Bells>) -> Questions {
        Questions { queue: ArrayQueue::new(QUESTIONS_MAX), bells }
    }

    fn ask(&self, port: u8, who: Addr) -> bool {
        let asked = self.queue.push((port, who)).is_ok();
        self.bells.ring(0);
        asked
    }

    /// The next question: port, and address of a neighbour.
    pub fn take(&self) -> Option<(u8, Addr)> {
        self.queue.pop()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// The rates of one core.
#[derive(Default)]
pub(crate) struct Budgets([Budget; KINDS.len()]);

/// A token bucket. Time that has passed is what is saved and spent.
#[derive(Default)]
struct Budget {
    saved_ns: u64,
    seen: Time,
}

impl Budget {
    fn take(&mut self, per_second: u64, now: Time) -> bool {
        let cost = 1_000_000_000 / per_second;
        let passed = if self.seen == Time(0) { BURST_NS } else { now.since_ns(self.seen) };
        self.saved_ns = self.saved_ns.saturating_add(passed).min(BURST_NS);
        self.seen = now.max(Time(1));
        let has = self.saved_ns >= cost;
        if has {
            self.saved_ns -= cost;
        }
        has
    }
}

impl Net {
    /// Shares port number `port` with the kernel. Gives the number that its exception port must have; `None` when
    /// too many are shared.
    pub fn share(&mut self, port: u8) -> Option<u8> {
        let number = (self.ifaces.len() + self.wire_of.len()) as u8;
        self.wire_of.try_push(port).ok()?;
        self.ifaces[port as usize].kernel = Some(KernelSide { port: number, routes: Arc::default() });
        Some(number)
    }

    /// Where neighbours on shared ports are asked for.
    pub fn ask_kernel_through(&mut self, questions: Arc<Questions>) {
        self.questions = Some(questions);
    }

    /// Whether a port is shared with the kernel.
    #[inline]
    pub(crate) fn is_shared(&self, port: u8) -> bool {
        self.ifaces.get(port as usize).is_some_and(|i| i.kernel.is_some())
    }

    /// Asks the kernel for a neighbour. The answer, if there is one, comes by [`Stack::mirror`].
    pub(crate) fn ask_kernel(&mut self, port: u8, who: &Addr) {
        let asked = self.questions.as_ref().is_some_and(|q| q.ask(port, *who));
        self.counters.inc(if asked { Ctr::NeighboursAsked } else { Ctr::NeighboursUnasked });
    }

    /// Hands a frame of a shared port to the kernel. Gives what to count it as.
    #[cold]
    pub(crate) fn punt(&mut self, mut p: Packet, tx: &mut [TxQueue], now: Time) -> Ctr {
        let port = p.meta().port as usize;
        let Some(KernelSide { port: to, .. }) = self.ifaces[port].kernel else {
            debug_assert!(false, "punted on a port that is not shared");
            return Ctr::DropPuntOther;
        };
        let kind = kind(&p);
        let (beyond, per_second) = KINDS[kind];
        if !self.budgets.0[kind].take(per_second, now) {
            return beyond;
        }
        if self.ifaces[port].vlan != NO_VLAN {
            // Behind the addresses come the 4 bytes of the tag.
            let len = p.head().len() - 4;
            p.head_mut().copy_within(16.., 12);
            p.set_len(len);
        }
        p.meta_mut().port = to;
        tx[to as usize].push(p);
        Ctr::RxPunted
    }

    /// Sends what came from the kernel on, as it is.
    #[cold]
    pub(crate) fn kernel_sends(&mut self, mut p: Packet, tx: &mut [TxQueue]) -> Ctr {
        let from = p.meta().port as usize;
        let Some(port) = from.checked_sub(self.ifaces.len()).and_then(|n| self.wire_of.get(n).copied())
        else {
            debug_assert!(false, "a frame of a port that there is not");
            return Ctr::DropL2NotOurs;
        };
        if p.head().len() < crate::parse::ETHERNET_LEN {
            return Ctr::DropL2Malformed;
        }
        let vlan = self.ifaces[port as usize].vlan;
        if vlan != NO_VLAN {
            let Some(h) = p.push_front(4) else { return Ctr::DropL2Malformed };
            h.copy_from_slice(&[0; 4]);
            let h = p.head_mut();
            h.copy_within(4..16, 0);
            h[12..14].copy_from_slice(&[0x81, 0]);
            h[14..16].copy_from_slice(&vlan.to_be_bytes());
        }
        p.meta_mut().port = port;
        tx[port as usize].push(p);
        Ctr::RxForwarded
    }
}

/// The number of a frame's kind in [`KINDS`]: what only a neighbour can send, TCP, the rest.
fn kind(p: &Packet) -> usize {
    let (m, f) = (p.meta(), p.head());
    // No router passes on a hop limit of 255.
    let nd = || m.l4_kind == L4::Icmp6 && is_nd(f[m.l4 as usize]) && f[m.l3 as usize + 7] == 255;
    match m.l4_kind {
        _ if f[0] & 1 != 0 => 0,
        L4::Arp => 0,
        L4::Tcp => 1,
        _ if nd() => 0,
        _ => 2,
    }
}

impl Stack {
    /// A frame that `parse` has refused: whether it is the kernel's all the same. Gives what to count it as.
    #[cold]
    pub(crate) fn refused(&mut self, p: Packet, reason: Ctr, tx: &mut [TxQueue], now: Time) -> Ctr {
        let port = p.meta().port;
        if !self.net.is_shared(port) {
            return reason;
        }
        let kernels = match reason {
            // Another protocol, another address of the kernel's, a group of its own.
            Ctr::DropL2Ethertype | Ctr::DropIp4NotOurs | Ctr::DropIp6NotOurs => true,
            Ctr::DropIp4Fragment | Ctr::DropIp6Fragment => !self.begins_ours(&p),
            _ => false,
        };
        if kernels { self.net.punt(p, tx, now) } else { reason }
    }

    /// Whether a fragment begins a packet of ours: without it the kernel never has the whole, and does not answer it.
    fn begins_ours(&self, p: &Packet) -> bool {
        let ip = &p.head()[p.meta().l3 as usize..];
        let (first, proto, at, dst) = if ip[0] >> 4 == 4 {
            (be16(ip, 6) & 0x1fff == 0, ip[9], usize::from(ip[0] & 15) * 4, Addr::v4(&ip[16..20]))
        } else {
            // Behind other extension headers nobody honest has a fragment's.
            if ip[6] != 44 || ip.len() < 48 {
                return true;
            }
            (be16(ip, 42) & 0xfff8 == 0, ip[40], 48, Addr::v6(&ip[24..40]))
        };
        if !first || !self.net.ifaces[p.meta().port as usize].owns(&dst) {
            return false;
        }
        let ours = |l4: &[u8; 4]| match proto {
            protocol::TCP => self.tcp.role(&dst, be16(l4, 2)) != PortRole::Nobodys,
            protocol::UDP => self.udp.is_listening(be16(l4, 2)),
            _ => false,
        };
        // One without the ports is an attack on whoever looks at them.
        ip.get(at..).and_then(|l4| l4.first_chunk()).is_none_or(ours)
    }

    /// Everything but TCP, on a shared port. Gives what to count it as.
    #[cold]
    pub(crate) fn other_shared(&mut self, mut p: Packet, tx: &mut [TxQueue], now: Time) -> Ctr {
        match p.meta().l4_kind {
            L4::Icmp4 | L4::Icmp6 => {
                if let Some(Ok(e)) = quoted_connection(&p) {
                    if self.tcp.icmp_error(&e, now).is_ok() {
                        return Ctr::RxAccepted;
                    }
                    let port = e.tuple.local_port;
                    if let Some(c) = self.net.hand_over(&p, &e.tuple, self.tcp.role(&e.tuple.local, port)) {
                        return c;
                    }
                }
            }
            L4::Udp => match self.udp.input(p) {
                Ok(c) => {
                    if c == Ctr::RxAccepted {
                        self.counters.inc(Ctr::UdpReceived);
                    }
                    return c;
                }
                Err(back) => p = back,
            },
            _ => {}
        }
        debug_assert!(!p.meta().flags.has(RxFlags::L2_GROUP) || p.head()[0] & 1 == 1);
        self.net.punt(p, tx, now)
    }

    /// Takes the kernel's routes through a shared port.
    pub fn mirror_routes(&mut self, port: u8, routes: Arc<Routes>) {
        if let Some(k) = self.net.ifaces.get_mut(port as usize).and_then(|i| i.kernel.as_mut()) {
            k.routes = routes;
        }
    }

    /// Takes what the kernel knows of a neighbour on a shared port: its MAC, or that there is none.
    pub fn mirror(
        &mut self,
        port: u8,
        who: &Addr,
        mac: Option<dataplane::port::Mac>,
        tx: &mut [TxQueue],
        now: Time,
    ) {
        if !self.net.is_shared(port) {
            return;
        }
        match mac {
            // Nothing is learned that this core has not asked for.
            Some(mac) => self.net.learn(port, who, mac, false, tx, now),
            None => self.net.forget(port, who, tx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(s: &str) -> Addr {
        s.parse::<std::net::IpAddr>().unwrap().into()
    }

    fn route(prefix: &str, prefix_len: u8, via: Option<&str>) -> Route {
        Route { prefix_len, prefix: addr(prefix), via: via.map(addr) }
    }

    #[test]
    fn the_longest_prefix_of_the_family_decides() {
        let (r, left_out) = Routes::new(vec![
            route("0.0.0.0", 0, Some("10.0.0.254")),
            route("10.0.0.0", 24, None),
            route("10.0.0.128", 25, Some("10.0.0.9")),
            route("fd00::", 64, None),
        ]);
        assert_eq!(left_out, 0);
        for (dst, want) in [
            ("10.0.0.5", Some("10.0.0.5")),
            ("10.0.0.200", Some("10.0.0.9")),
            ("192.0.2.1", Some("10.0.0.254")),
            ("fd00::7", Some("fd00::7")),
            ("2001:db8::1", None),
        ] {
            assert_eq!(r.way(&addr(dst)).map(|(_, hop)| hop), want.map(addr), "{dst}");
        }
    }

    #[test]
    fn of_too_many_routes_the_short_ones_stay() {
        let mut all: Vec<Route> = (0..400u32)
            .map(|i| Route {
                prefix_len: 32,
                prefix: Addr::v4(&(0xc000_0200 + i).to_be_bytes()),
                via: Some(addr("10.0.0.1")),
            })
            .collect();
        all.push(route("0.0.0.0", 0, Some("10.0.0.254")));
        let (r, left_out) = Routes::new(all);
        assert_eq!((left_out, r.iter().count()), (401 - ROUTES_MAX, ROUTES_MAX));
        assert_eq!(r.way(&addr("8.8.8.8")), Some((0, addr("10.0.0.254"))));
    }

    #[test]
    fn a_budget_is_a_rate_with_a_burst() {
        let mut b = Budget::default();
        let mut taken = |from_ms: u64, ms: u64| {
            (0..ms * 100).filter(|i| b.take(10_000, Time(from_ms * 1_000_000 + i * 10_000))).count()
        };
        // 100 frames in each ms: 500 at once, and 10 in each ms.
        let first = taken(1000, 100);
        assert!((1498..=1502).contains(&first), "{first}");
        // A rest of 5 ms saves 50.
        let next = taken(1105, 1);
        assert!((58..=62).contains(&next), "{next}");
    }
}
