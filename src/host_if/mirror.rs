//! Copies the kernel's routes and neighbours of shared ports to the cores, and asks the kernel for those neighbours that
//! the cores want.
//!
//! Routes are few, and are read anew as a whole when any has changed (at most ten times in a second). Neighbours are
//! copied only if a core has asked for them, and asked for again by a core that still uses one after half a minute;
//! the kernel finds out by itself whether they are still there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane::Bells;
use dataplane::port::Mac;
use rustix::io::Errno;
use stack::{Addr, Questions, Route, Routes};

use super::netlink::{
    INET, Message, Request, Socket, attributes, family, flag, half, ip, kind, octets, word,
};
use crate::log;
use crate::node::{CoreOrder, Desk, KernelNews};

/// Metric and next hop of the best route to each prefix, longest prefix last.
type Best = BTreeMap<(u8, Addr), (u32, Option<Addr>)>;

/// Neighbours that are followed at most.
const WANTED_MAX: usize = 1024;
/// Between two readings of all routes.
const READ_AGAIN: Duration = Duration::from_millis(100);
/// The same, after an error.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long the thread sleeps when nothing happens.
const SLEEP: Duration = Duration::from_secs(10);
/// Until the cores are told again what they had no room for.
const TELL_AGAIN: Duration = Duration::from_millis(2);

const RTN_UNICAST: u8 = 1;
const TABLE_MAIN: u32 = 254;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_DEAD: u32 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NTF_USE: u8 = 1;
/// PERMANENT, NOARP, PROBE, DELAY, STALE, REACHABLE: those in which a neighbour has a MAC.
const NUD_VALID: u16 = 0x80 | 0x40 | 0x10 | 0x08 | 0x04 | 0x02;
const NUD_FAILED: u16 = 0x20;

/// The thread that copies.
pub struct Mirror {
    stop: Arc<AtomicBool>,
    bells: Arc<Bells>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Follows these ports, by number and index of the kernel's interface. The cores have been told the routes when
    /// this returns. `bells` are those of `questions`.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn start(
        ports: Vec<(u8, u32)>,
        desk: Arc<Desk<CoreOrder>>,
        questions: Arc<Questions>,
        bells: Arc<Bells>,
    ) -> Result<Mirror, String> {
        let stop = Arc::<AtomicBool>::default();
        let follow = || -> io::Result<Follower> {
            // First the events, so that nothing is missed between the two.
            let events = Socket::of_events()?;
            let mut f = Follower {
                ports,
                events,
                socket: Socket::new()?,
                wanted: HashMap::new(),
                routes: HashMap::new(),
                news: News::default(),
                read_routes: None,
                read_at: Instant::now(),
                told_left_out: false,
            };
            f.all_routes()?;
            Ok(f)
        };
        let explain =
            |e| format!("cannot read the kernel's routes by netlink: {e}; see dmesg, or restart the node");
        let mut f = follow().map_err(explain)?;
        f.news.tell(&desk);
        let (stop2, bells2) = (Arc::clone(&stop), Arc::clone(&bells));
        let thread = std::thread::Builder::new()
            .name("millrace-mirror".to_owned())
            .spawn(move || f.run(&desk, &questions, &bells2, &stop2))
            .map_err(|e| format!("cannot start the thread that follows the kernel's routes: {e}"))?;
        Ok(Mirror { stop, bells, thread: Some(thread) })
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.bells.ring(0);
        if let Some(t) = self.thread.take() {
            // A panic over there has been reported by its own thread.
            let _ = t.join();
        }
    }
}

/// What the cores are to be told.
#[derive(Default)]
struct News {
    routes: BTreeMap<u8, Arc<Routes>>,
    neighbours: BTreeMap<(u8, Addr), Option<Mac>>,
    /// What they were told, as long as they may hold it: no core is ever the last to let go.
    told: Vec<Arc<KernelNews>>,
    routes_told: Vec<Arc<Routes>>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.neighbours.is_empty()
    }

    /// Tells the cores, as far as they have room.
    fn tell(&mut self, desk: &Desk<CoreOrder>) {
        self.told.retain(|n| Arc::strong_count(n) > 1);
        self.routes_told.retain(|r| Arc::strong_count(r) > 1);
        while let Some((port, routes)) = self.routes.pop_first() {
            let news = Arc::new(KernelNews::Routes(port, Arc::clone(&routes)));
            if desk.tell_all(|_| CoreOrder::Kernel(Arc::clone(&news))).is_none() {
                self.routes.insert(port, routes);
                return;
            }
            self.told.push(news);
            self.routes_told.push(routes);
        }
        if !self.neighbours.is_empty() {
            let all = self.neighbours.iter().map(|((port, who), mac)| (*port, *who, *mac)).collect();
            let news = Arc::new(KernelNews::Neighbours(all));
            if desk.tell_all(|_| CoreOrder::Kernel(Arc::clone(&news))).is_some() {
                self.told.push(news);
                self.neighbours.clear();
            }
        }
    }
}

struct Follower {
    ports: Vec<(u8, u32)>,
    events: Socket,
    socket: Socket,
    /// What the cores have asked for.
    wanted: HashMap<(u8, Addr), Option<Mac>>,
    /// What they were told of each port.
    routes: HashMap<u8, Arc<Routes>>,
    news: News,
    /// When all routes are to be read.
    read_routes: Option<Instant>,
    read_at: Instant,
    told_left_out: bool,
}

impl Follower {
    fn run(&mut self, desk: &Desk<CoreOrder>, questions: &Questions, bells: &Bells, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let until_read = self.read_routes.map(|t| t.saturating_duration_since(Instant::now()));
            let mut sleep = until_read.unwrap_or(SLEEP);
            if !self.news.is_empty() {
                sleep = sleep.min(TELL_AGAIN);
            }
            bells.wait(0, &[self.events.fd()], sleep, || {
                questions.is_empty() && !stop.load(Ordering::Relaxed)
            });
            if let Err(e) = self.turn(questions) {
                log::warn(format_args!("netlink: {e}; the kernel's routes and neighbours are read anew"));
                self.read_all_in(AFTER_ERROR);
            }
            self.news.tell(desk);
        }
    }

    fn turn(&mut self, questions: &Questions) -> io::Result<()> {
        self.take_events()?;
        while let Some((port, who)) = questions.take() {
            self.ask(port, who)?;
        }
        if self.read_routes.is_some_and(|t| t <= Instant::now()) {
            self.all_routes()?;
        }
        Ok(())
    }

    fn take_events(&mut self) -> io::Result<()> {
        let mut seen = Vec::new();
        let (mut routes, mut lost, mut gone) = (false, false, false);
        let (ports, events) = (&self.ports, &mut self.events);
        let ours = |index: Option<u32>| ports.iter().any(|(_, i)| Some(*i) == index);
        let mut take = |m: Message<'_>| match m.kind {
            kind::NEW_NEIGH | kind::DEL_NEIGH => seen.extend(neighbour(&m)),
            kind::NEW_ROUTE | kind::DEL_ROUTE => routes |= hops(&m).iter().any(|(i, _)| ours(Some(*i))),
            // A route can go with its address or link without a word of its own.
            kind::NEW_ADDR | kind::DEL_ADDR | kind::NEW_LINK | kind::DEL_LINK => {
                let is_ours = ours(m.fixed::<8>().and_then(|f| word(f, 4)));
                routes |= is_ours;
                gone |= is_ours && m.kind == kind::DEL_LINK;
            }
            _ => {}
        };
        loop {
            match events.events(&mut take) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) if e.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    lost = true;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        if lost {
            self.read_all_in(READ_AGAIN);
        }
        if gone {
            log::warn(
                "an exception path's interface has been deleted: the kernel is cut off; restart the node",
            );
        }
        for (index, who, mac) in seen {
            if let Some((port, _)) = self.ports.iter().find(|(_, i)| *i == index) {
                let key = (*port, Addr::from(who));
                if let Some(known) = self.wanted.get_mut(&key) {
                    *known = mac;
                    self.news.neighbours.insert(key, mac);
                }
            }
        }
        if routes && self.read_routes.is_none() {
            self.read_routes = Some((self.read_at + READ_AGAIN).max(Instant::now()));
        }
        Ok(())
    }

    /// Events were lost: what is known may be wrong.
    fn read_all_in(&mut self, wait: Duration) {
        self.read_routes = Some(Instant::now() + wait);
        // Whoever still uses a neighbour asks again.
        let gone = self.wanted.drain().filter(|(_, mac)| mac.is_some()).map(|(key, _)| (key, None));
        self.news.neighbours.extend(gone);
    }

    /// Has the kernel find a neighbour, or make sure of it; gives what it knows already.
    fn ask(&mut self, port: u8, who: Addr) -> io::Result<()> {
        let Some((_, index)) = self.ports.iter().find(|(p, _)| *p == port).copied() else { return Ok(()) };
        if self.wanted.len() >= WANTED_MAX && !self.wanted.contains_key(&(port, who)) {
            // The cores ask again for what they use.
            self.wanted.clear();
        }
        let known = self.wanted.entry((port, who)).or_default();
        let dst = who.ip();
        let fixed = |flags| {
            let mut f = [0; 12];
            f[0] = family(&dst);
            f[4..8].copy_from_slice(&index.to_ne_bytes());
            f[10] = flags;
            f
        };
        let uses = Request::new(kind::NEW_NEIGH, flag::ACK | flag::CREATE, &fixed(NTF_USE));
        // Refused while the interface is down, or for an address that the kernel has itself: nobody answers then.
        if self.socket.ask(uses.with(NDA_DST, &octets(&dst)), |_| ()).is_err() {
            return Ok(());
        }
        let get = Request::new(kind::GET_NEIGH, flag::ACK, &fixed(0)).with(NDA_DST, &octets(&dst));
        let mut found = None;
        let asked = self.socket.ask(get, |m| found = found.or(neighbour(&m)));
        if let (Ok(()), Some((_, _, Some(mac)))) = (asked, found) {
            *known = Some(mac);
            self.news.neighbours.insert((port, who), Some(mac));
        }
        Ok(())
    }

    fn all_routes(&mut self) -> io::Result<()> {
        self.read_routes = None;
        self.read_at = Instant::now();
        let mut found: HashMap<u8, Best> = HashMap::new();
        let ports = &self.ports;
        self.socket.ask(Request::new(kind::GET_ROUTE, flag::DUMP, &[0; 12]), |m| {
            let Some((prefix, len, metric)) = route(&m) else { return };
            for (index, via) in hops(&m) {
                for (port, _) in ports.iter().filter(|(_, i)| *i == index) {
                    let best = found.entry(*port).or_default().entry((len, prefix)).or_insert((metric, via));
                    if metric < best.0 {
                        *best = (metric, via);
                    }
                }
            }
        })?;
        let mut left_out = 0;
        for (port, _) in self.ports.clone() {
            let all = found.remove(&port).unwrap_or_default().into_iter();
            let all = all.map(|((prefix_len, prefix), (_, via))| Route { prefix_len, prefix, via }).collect();
            let (routes, beyond) = Routes::new(all);
            left_out += beyond;
            if self.routes.get(&port).is_none_or(|old| **old != routes) {
                let routes = Arc::new(routes);
                self.routes.insert(port, Arc::clone(&routes));
                self.news.routes.insert(port, routes);
            }
        }
        if left_out > 0 && !self.told_left_out {
            log::warn(format_args!(
                "{left_out} of the kernel's routes are left out: a port follows the {} shortest prefixes",
                stack::kernel::ROUTES_MAX
            ));
        }
        self.told_left_out = left_out > 0;
        Ok(())
    }
}

/// Index, address and MAC of a neighbour; no MAC when it is not known, or gone.
fn neighbour(m: &Message<'_>) -> Option<(u32, IpAddr, Option<Mac>)> {
    let fixed = m.fixed::<12>()?;
    let dst = ip(m.attribute(12, NDA_DST)?)?;
    let (is_there, state) = (m.kind == kind::NEW_NEIGH, half(fixed, 8)?);
    let valid = is_there && state & NUD_VALID != 0;
    // Asked for, and no answer yet: that is no news.
    if is_there && !valid && state & NUD_FAILED == 0 {
        return None;
    }
    let mac = m.attribute(12, NDA_LLADDR).and_then(|b| b.try_into().ok()).filter(|_| valid);
    Some((word(fixed, 4)?, dst, mac))
}

/// Prefix, its length and the metric of a route of the main table.
fn route(m: &Message<'_>) -> Option<(Addr, u8, u32)> {
    let f = m.fixed::<12>()?;
    let table = m.attribute(12, RTA_TABLE).and_then(|t| word(t, 0)).unwrap_or(u32::from(f[4]));
    let (unicast, flags) = (f[7] == RTN_UNICAST, word(f, 8)?);
    // A source prefix or a type of service is more than the cores look at.
    if m.kind != kind::NEW_ROUTE
        || !unicast
        || table != TABLE_MAIN
        || flags & RTM_F_CLONED != 0
        || f[2] != 0
        || f[3] != 0
    {
        return None;
    }
    let none = if f[0] == INET { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let prefix = m.attribute(12, RTA_DST).map_or(Some(none), ip)?;
    let metric = m.attribute(12, RTA_PRIORITY).and_then(|p| word(p, 0)).unwrap_or(0);
    Some((prefix.into(), f[1], metric))
}

/// Where a route leads: interface, and router if it is not on the link. Routers of the other family are not followed.
fn hops(m: &Message<'_>) -> Vec<(u32, Option<Addr>)> {
    let hop = |index: Option<u32>, flags: u32, get: &dyn Fn(u16) -> Option<Vec<u8>>| {
        let via = get(RTA_GATEWAY).and_then(|b| ip(&b)).map(Addr::from);
        let good = flags & RTNH_F_DEAD == 0 && get(RTA_VIA).is_none();
        index.filter(|_| good).map(|i| (i, via))
    };
    let Some(f) = m.fixed::<12>() else { return Vec::new() };
    let Some(mut rest) = m.attribute(12, RTA_MULTIPATH) else {
        let get = |k| m.attribute(12, k).map(<[u8]>::to_vec);
        let index = m.attribute(12, RTA_OIF).and_then(|b| word(b, 0));
        return hop(index, word(f, 8).unwrap_or(0), &get).into_iter().collect();
    };
    let mut all = Vec::new();
    while let (Some(len), Some(index)) = (half(rest, 0), word(rest, 4)) {
        let Some(attrs) = rest.get(8..usize::from(len)) else { break };
        let get = |k| attributes(attrs).find(|(kind, _)| *kind == k).map(|(_, v)| v.to_vec());
        all.extend(hop(Some(index), u32::from(rest[2]), &get));
        rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{INET6, messages};
    use super::*;

    /// What `read` makes of a message with these attributes.
    fn read<T>(kind: u16, fixed: &[u8; 12], attrs: &[(u16, &[u8])], read: impl Fn(&Message<'_>) -> T) -> T {
        let mut r = attrs.iter().fold(Request::new(kind, 0, fixed), |r, (k, v)| r.with(*k, v));
        read(&messages(r.bytes(1)).next().expect("a message"))
    }

    fn addr(s: &str) -> Addr {
        s.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn routes_of_the_main_table_are_read() {
        // Family, prefix lengths, TOS, table, protocol, scope, type, flags.
        let main = [INET, 24, 0, 0, 254, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
        let to: &[u8] = &[192, 0, 2, 0];
        let of = |kind, fixed: &[u8; 12], attrs: &[(u16, &[u8])]| read(kind, fixed, attrs, route);
        let with = |at: usize, value: u8| {
            let mut f = main;
            f[at] = value;
            f
        };
        let net = addr("192.0.2.0");
        assert_eq!(of(kind::NEW_ROUTE, &main, &[(RTA_DST, to)]), Some((net, 24, 0)));
        let metric: &[u8] = &7u32.to_ne_bytes();
        assert_eq!(of(kind::NEW_ROUTE, &main, &[(RTA_DST, to), (RTA_PRIORITY, metric)]), Some((net, 24, 7)));
        assert_eq!(of(kind::NEW_ROUTE, &with(1, 0), &[]), Some((addr("0.0.0.0"), 0, 0)));
        let mut v6 = with(0, INET6);
        v6[1] = 0;
        assert_eq!(of(kind::NEW_ROUTE, &v6, &[]), Some((addr("::"), 0, 0)));
        // Gone; local; another table, by byte and by attribute; a type of service; a copy.
        assert_eq!(of(kind::DEL_ROUTE, &main, &[(RTA_DST, to)]), None);
        assert_eq!(of(kind::NEW_ROUTE, &with(7, 2), &[(RTA_DST, to)]), None);
        assert_eq!(of(kind::NEW_ROUTE, &with(4, 100), &[(RTA_DST, to)]), None);
        let table: &[u8] = &1000u32.to_ne_bytes();
        assert_eq!(of(kind::NEW_ROUTE, &main, &[(RTA_DST, to), (RTA_TABLE, table)]), None);
        assert_eq!(of(kind::NEW_ROUTE, &with(3, 8), &[(RTA_DST, to)]), None);
        assert_eq!(of(kind::NEW_ROUTE, &with(9, 2), &[(RTA_DST, to)]), None);
        assert_eq!(of(kind::NEW_ROUTE, &main, &[(RTA_DST, &[1, 2, 3])]), None);
    }

    #[test]
    fn hops_are_read_one_or_several() {
        let main = [INET, 24, 0, 0, 254, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
        let oif: &[u8] = &9u32.to_ne_bytes();
        let of = |fixed: &[u8; 12], attrs: &[(u16, &[u8])]| read(kind::NEW_ROUTE, fixed, attrs, hops);
        let via: &[u8] = &[10, 0, 0, 1];
        assert_eq!(of(&main, &[(RTA_OIF, oif)]), [(9, None)]);
        assert_eq!(of(&main, &[(RTA_OIF, oif), (RTA_GATEWAY, via)]), [(9, Some(addr("10.0.0.1")))]);
        assert_eq!(of(&main, &[(RTA_OIF, oif), (RTA_VIA, &[10, 0, 1, 2, 3, 4])]), []);
        assert_eq!(of(&main, &[]), []);
        let mut dead = main;
        dead[8] = RTNH_F_DEAD as u8;
        assert_eq!(of(&dead, &[(RTA_OIF, oif)]), []);
        // Length, flags, weight, index; then attributes of its own. The second one is dead, the last one cut off.
        let hop = |flags: u8, index: u8, to: u8| -> Vec<u8> {
            let own = [8, 0, RTA_GATEWAY as u8, 0, 10, 0, 0, to];
            [&[16, 0, flags, 0, index, 0, 0, 0][..], &own].concat()
        };
        let all = [hop(0, 9, 1), hop(1, 9, 2), hop(0, 8, 3), hop(0, 9, 4)[..12].to_vec()].concat();
        let want = [(9, Some(addr("10.0.0.1"))), (8, Some(addr("10.0.0.3")))];
        assert_eq!(of(&main, &[(RTA_MULTIPATH, &all)]), want);
    }

    #[test]
    fn a_neighbour_is_there_gone_or_no_news() {
        let mac: &[u8] = &[2, 0, 0, 0, 0, 5];
        let of = |kind, state: u8| {
            let fixed = [INET, 0, 0, 0, 9, 0, 0, 0, state, 0, 0, 0];
            let found = read(kind, &fixed, &[(NDA_DST, &[10, 0, 0, 5]), (NDA_LLADDR, mac)], neighbour);
            found.map(|(index, who, mac)| {
                assert_eq!((index, who), (9, IpAddr::from([10, 0, 0, 5])));
                mac
            })
        };
        // Reachable, stale, delay, probe, no ARP, permanent.
        for state in [2, 4, 8, 16, 64, 128] {
            assert_eq!(of(kind::NEW_NEIGH, state), Some(Some([2, 0, 0, 0, 0, 5])), "state {state}");
        }
        assert_eq!((of(kind::NEW_NEIGH, 0), of(kind::NEW_NEIGH, 1)), (None, None), "none, incomplete");
        assert_eq!(
            (of(kind::NEW_NEIGH, 32), of(kind::DEL_NEIGH, 2)),
            (Some(None), Some(None)),
            "failed, gone"
        );
    }
}
