//! A config as one core runs it, and the swap to the next one.
//!
//! ```text
//!  control side: Program (sites, router; checked, compiled) ── Arc ──► every core
//!  core:         Plan = Program + which of the core's origin slots each origin is
//!                current ◄── new requests      old … ◄── requests that began with them
//! ```
//!
//! A request keeps the plan that it began with: it holds an `Rc`, a plain counter of this core, so that no
//! count is shared between cores. A plan goes when its last request has ended; the program itself is freed by
//! the control side, which keeps a handle until no core has one.
//!
//! What clients are shown ([`Front`]) comes with a program, and may be replaced without another one.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use dataplane::{Ctr, Slice, Time};
use stack::FlowId;

use super::config::{Answer, Origin, ProxyConfig, Route};
use super::exchange::ExchangeId;
use super::{Io, Proxy};
use crate::http1::ClientConn;
use crate::phases::{Phase, Router};
use crate::tls::Front;
use crate::tls::origin::{OriginTls, Reason};

/// Old plans that a core keeps for requests that are still under way. A swap beyond that ends the requests
/// of the oldest.
pub const OLD_PLANS_MAX: usize = 8;

/// A config, compiled: built on the control side, read by all cores.
#[derive(Debug)]
pub struct Program {
    /// The config.
    pub config: ProxyConfig,
    /// Finds the site of a host, and the place of the route of a path among the site's.
    pub router: Router,
}

impl Program {
    /// Compiles a config.
    pub fn new(config: ProxyConfig) -> Arc<Program> {
        Program::following(config, None)
    }

    /// Compiles a config that takes over from another: what is known of the health of upstreams that stay is kept.
    pub fn following(mut config: ProxyConfig, old: Option<&Program>) -> Arc<Program> {
        let known = old.into_iter().flat_map(|o| &o.config.upstreams).flat_map(|u| &u.origins);
        let known: Vec<&Arc<OriginTls>> = known.filter_map(|o| o.tls.as_ref()).collect();
        for tls in config.upstreams.iter_mut().flat_map(|u| &mut u.origins).filter_map(|o| o.tls.as_mut()) {
            // With its tickets.
            if let Some(same) = known.iter().find(|k| **k == tls) {
                *tls = Arc::clone(same);
            }
        }
        for u in &mut config.upstreams {
            if let Some(same) = old.and_then(|o| o.config.upstreams.iter().find(|v| v.is_same(u))) {
                u.health = Arc::clone(&same.health);
            }
        }
        for route in &config.routes {
            // Those phases have no place for modules in this proxy: see `phases`.
            let unused = [Phase::Connection, Phase::CacheKey, Phase::Log];
            assert!(unused.iter().all(|p| route.modules.is_empty(*p)), "a module that would never run");
        }
        let router = Router::new(config.sites.iter().map(|s| {
            (
                s.hosts.iter().map(String::as_str).collect(),
                s.routes.iter().map(|(prefix, _)| prefix.as_str()).collect(),
            )
        }));
        Arc::new(Program { config, router })
    }
}

/// A program with what a core adds to it.
pub(super) struct Plan {
    pub program: Arc<Program>,
    /// By upstream.
    pub places: Vec<Places>,
    /// By route: the stub's body, in a cell of the core, if there was one for it.
    pub stubs: Vec<Option<Slice>>,
}

/// An upstream on this core.
pub(super) struct Places {
    /// The core's group of its origins.
    pub group: u16,
    /// The core's slot of each origin.
    pub slots: Vec<u16>,
    /// Origins without an address so far, as a mask.
    pub nowhere: u64,
}

impl Plan {
    pub fn route(&self, route: u16) -> &Route {
        &self.program.config.routes[route as usize]
    }

    /// How long a body of the route may stand still.
    pub fn idle_ns(&self, route: u16) -> u64 {
        self.program.config.routes.get(route as usize).map_or(u64::MAX, |r| r.timeouts.idle_ns)
    }

    /// The core's places of the route's origins.
    pub fn places_of(&self, route: u16) -> Option<&Places> {
        match self.route(route).answer {
            Answer::Upstream(n) => self.places.get(n as usize),
            _ => None,
        }
    }

    fn uses(&self, slot: u16) -> bool {
        self.places.iter().any(|p| p.slots.contains(&slot))
    }

    fn uses_group(&self, group: u16) -> bool {
        self.places.iter().any(|p| p.group == group)
    }
}

/// Where the connections of a slot lead. Those with TLS are the name's, the roots' and our certificate's that they
/// were made by: none serves an origin that is another one by any of these.
#[derive(PartialEq, Eq)]
pub(super) struct Place {
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub tls: Option<Arc<OriginTls>>,
}

/// An origin of this core: its kept-alive connections outlive a reload.
pub(super) struct OriginSlot {
    /// `None`: free.
    pub place: Option<Place>,
    /// Why its last TLS handshake failed that was told of, and when that was.
    pub told: Option<(Reason, Time)>,
    /// The address that won the last race, as its place in the list: the next one begins with it.
    pub best: u8,
    /// Kept-alive connections.
    pub idle: Vec<(FlowId, ClientConn)>,
}

impl Proxy {
    /// A plan of `program` on this core. Not for the hot path: it allocates. It cannot fail, so that a reload is taken
    /// by all cores or by none: what could is checked where the program is compiled, once for all of them.
    pub(super) fn plan_of(&mut self, program: Arc<Program>) -> Plan {
        let (mut places, mut stubs) = (Vec::new(), Vec::new());
        for u in &program.config.upstreams {
            let group = self.group_of(u);
            let idle_max = program.config.idle_per_origin_max;
            let slots = u.origins.iter().map(|o| self.slot_of(o, idle_max)).collect();
            let without = u.origins.iter().enumerate().filter(|(_, o)| o.addresses.is_empty());
            let nowhere = without.fold(0, |mask, (i, _)| mask | 1 << i);
            places.push(Places { group, slots, nowhere });
        }
        for r in &program.config.routes {
            stubs.push(match &r.answer {
                Answer::Stub(body) => self.cells.store(body),
                _ => None,
            });
        }
        Plan { program, places, stubs }
    }

    fn slot_of(&mut self, origin: &Origin, idle_max: usize) -> u16 {
        let place =
            Some(Place { addresses: origin.addresses.clone(), port: origin.port, tls: origin.tls.clone() });
        let same = self.origins.iter().position(|o| o.place == place);
        let n = same.or_else(|| self.origins.iter().position(|o| o.place.is_none()));
        let n = n.unwrap_or_else(|| {
            self.origins.push(OriginSlot {
                place: None,
                told: None,
                best: 0,
                idle: Vec::with_capacity(idle_max),
            });
            self.origins.len() - 1
        });
        if same.is_none() {
            self.origins[n].best = self.best_of(origin);
            self.origins[n].place = place;
            self.origins[n].told = None;
        }
        n as u16
    }

    /// The address to begin with at an origin whose addresses are other ones than before: the one that won last, or
    /// one of its family.
    fn best_of(&self, origin: &Origin) -> u8 {
        let new = &origin.addresses;
        let won = self.origins.iter().find_map(|o| {
            let old = o.place.as_ref()?;
            let is_it = old.port == origin.port && old.addresses.iter().any(|a| new.contains(a));
            is_it.then(|| old.addresses.get(usize::from(o.best)))?
        });
        let Some(won) = won else { return 0 };
        let at = new.iter().position(|a| a == won);
        let at = at.or_else(|| new.iter().position(|a| a.is_ipv6() == won.is_ipv6()));
        at.unwrap_or(0) as u8
    }

    /// New requests follow `program` from now on; those under way keep theirs.
    pub fn swap(&mut self, program: Arc<Program>, io: &mut Io<'_>) {
        let new = self.plan_of(program);
        self.front = Arc::clone(&new.program.config.front);
        let old = std::mem::replace(&mut self.current, Rc::new(new));
        self.old.push(old);
        self.old.retain(|v| Rc::strong_count(v) > 1);
        while self.old.len() > OLD_PLANS_MAX {
            let oldest = self.old.remove(0);
            let late: Vec<ExchangeId> = self
                .exchanges
                .used()
                .filter(|x| self.exchanges[*x].plan.as_ref().is_some_and(|v| Rc::ptr_eq(v, &oldest)))
                .collect();
            for x in late {
                // Ending one may end another with it.
                if self.exchanges.is_used(x) {
                    self.counters.inc(Ctr::HttpPlanEnded);
                    if self.exchanges[x].is_fetch() {
                        self.abandon_fetch(io, x);
                    } else {
                        self.break_off(io, x);
                    }
                }
            }
        }
        self.forget_unused_origins(io);
        self.renew_checks(io);
    }

    /// Clients are shown `front` from now on, and nothing else changes: no plan comes of it, so that there may be as many as
    /// there are certificates to renew. Its entries have to be verified as those of the current program's front; whoever
    /// gives it keeps it, as a program.
    pub fn present(&mut self, front: Arc<Front>) {
        self.front = front;
    }

    /// Lets go of old plans whose last request has ended, and with them of their programs: there may be no swap for
    /// a long time that would. Once in a pass while there are old plans: a look at each, at most
    /// [`OLD_PLANS_MAX`].
    #[cold]
    pub(super) fn forget_unused_plans(&mut self, io: &mut Io<'_>) {
        let before = self.old.len();
        self.old.retain(|v| Rc::strong_count(v) > 1);
        if self.old.len() < before {
            self.forget_unused_origins(io);
        }
    }

    /// Closes the connections to origins that no plan has any more, and frees their slots.
    fn forget_unused_origins(&mut self, io: &mut Io<'_>) {
        for n in 0..self.origins.len() {
            let slot = n as u16;
            let used = self.current.uses(slot) || self.old.iter().any(|v| v.uses(slot));
            if !used && self.origins[n].place.take().is_some() {
                while let Some((flow, _)) = self.origins[n].idle.pop() {
                    self.idle_origins -= 1;
                    io.tcp.orphan(flow, io.now);
                }
            }
        }
        for n in 0..self.groups.len() {
            let group = n as u16;
            if !self.current.uses_group(group) && !self.old.iter().any(|v| v.uses_group(group)) {
                self.groups[n].health = None;
            }
        }
    }

    /// Plans that this core still has requests of, the current one included.
    pub fn plans(&self) -> usize {
        1 + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::HttpLimits;
    use crate::proxy::{ClientTimeouts, Upstream};
    use crate::tls::origin::{Spec, Trust};

    fn secured(name: &str) -> Arc<OriginTls> {
        let spec = Spec::new(name, Trust::Anybody).expect("a name");
        Arc::new(OriginTls::new(spec, 1).expect("good settings"))
    }

    fn origin(tls: Option<Arc<OriginTls>>) -> Origin {
        Origin { tls, ..Origin::at(([192, 0, 2, 1], 443).into(), b"a.example") }
    }

    fn config(origins: Vec<Origin>) -> ProxyConfig {
        ProxyConfig {
            sites: Vec::new(),
            routes: Vec::new(),
            upstreams: vec![Upstream::new(origins)],
            http: HttpLimits::default(),
            client: ClientTimeouts { header_ns: 1, keep_alive_ns: 1 },
            idle_per_origin_max: 1,
            origin_keep_alive_ns: 1,
            request_budget_bytes: 1,
            unix_ns_at_start: 0,
            proxy_headers_from: Vec::new(),
            tls_listeners: Vec::new(),
            front: Front::none(),
            tunings: Vec::new(),
            log: None,
        }
    }

    #[test]
    fn a_reload_keeps_the_tickets_of_origins_that_stay_as_they_are() {
        let tls = |p: &Program, n: usize| p.config.upstreams[0].origins[n].tls.clone().expect("TLS");
        let both = || vec![origin(Some(secured("a.example"))), origin(Some(secured("b.example")))];
        let old = Program::new(config(both()));
        let new = Program::following(config(both()), Some(&old));
        assert!((0..2).all(|n| Arc::ptr_eq(&tls(&old, n), &tls(&new, n))));
        let same = |a: &Program, b: &Program| {
            Arc::ptr_eq(&a.config.upstreams[0].health, &b.config.upstreams[0].health)
        };
        assert!(same(&old, &new), "and their health");
        let one = vec![origin(Some(secured("a.example"))), origin(Some(secured("c.example")))];
        let other = Program::following(config(one), Some(&old));
        assert!(Arc::ptr_eq(&tls(&old, 0), &tls(&other, 0)));
        assert!(!Arc::ptr_eq(&tls(&old, 1), &tls(&other, 1)) && !same(&old, &other));
    }

    #[test]
    fn connections_of_one_name_never_serve_another() {
        let place = |tls| Place { addresses: vec![IpAddr::from([192, 0, 2, 1])], port: 443, tls };
        let a = place(Some(secured("a.example")));
        assert!(a == place(Some(secured("a.example"))));
        assert!(a != place(Some(secured("b.example"))));
        assert!(a != place(None));
    }
}
