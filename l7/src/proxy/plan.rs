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

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use dataplane::{Ctr, Slice};
use stack::FlowId;

use super::config::{Answer, ProxyConfig, Router, Site};
use super::exchange::ExchangeId;
use super::{Io, Proxy};
use crate::http1::ClientConn;

/// Old plans that a core keeps for requests that are still under way. A swap beyond that ends the requests
/// of the oldest.
pub const OLD_PLANS_MAX: usize = 8;

/// A config, compiled: built on the control side, read by all cores.
#[derive(Debug)]
pub struct Program {
    /// The config.
    pub config: ProxyConfig,
    /// Finds the site of a host.
    pub router: Router,
}

impl Program {
    /// Compiles a config.
    pub fn new(config: ProxyConfig) -> Arc<Program> {
        let router = Router::new(&config.sites);
        Arc::new(Program { config, router })
    }
}

/// A program with what a core adds to it.
pub(super) struct Plan {
    pub program: Arc<Program>,
    /// By site, then origin: the core's slot of the origin.
    pub slots: Vec<Vec<u16>>,
    /// By site: the stub's body, in a cell of the core.
    pub stubs: Vec<Option<Slice>>,
}

impl Plan {
    pub fn site(&self, site: u16) -> &Site {
        &self.program.config.sites[site as usize]
    }

    /// How long a body of the site may stand still.
    pub fn idle_ns(&self, site: u16) -> u64 {
        self.program.config.sites.get(site as usize).map_or(u64::MAX, |s| s.timeouts.idle_ns)
    }

    fn uses(&self, slot: u16) -> bool {
        self.slots.iter().any(|s| s.contains(&slot))
    }
}

/// An origin of this core: its kept-alive connections outlive a reload.
pub(super) struct OriginSlot {
    /// `None`: free.
    pub address: Option<SocketAddr>,
    /// Kept-alive connections.
    pub idle: Vec<(FlowId, ClientConn)>,
}

impl Proxy {
    /// A plan of `program` on this core. Not for the hot path: it allocates. `None` when a stub's body is larger
    /// than a cell.
    pub(super) fn plan_of(&mut self, program: Arc<Program>) -> Option<Plan> {
        let (mut slots, mut stubs) = (Vec::new(), Vec::new());
        for s in &program.config.sites {
            let (mut of_site, mut stub) = (Vec::new(), None);
            match &s.answer {
                Answer::Origins(all) => {
                    for o in all {
                        let n = self.slot_of(o.address, program.config.idle_per_origin_max);
                        of_site.push(n);
                    }
                }
                Answer::Stub(body) => stub = Some(self.cells.store(body)?),
            }
            slots.push(of_site);
            stubs.push(stub);
        }
        Some(Plan { program, slots, stubs })
    }

    fn slot_of(&mut self, address: SocketAddr, idle_max: usize) -> u16 {
        let same = self.origins.iter().position(|o| o.address == Some(address));
        let n = same.or_else(|| self.origins.iter().position(|o| o.address.is_none()));
        let n = n.unwrap_or_else(|| {
            self.origins.push(OriginSlot { address: None, idle: Vec::with_capacity(idle_max) });
            self.origins.len() - 1
        });
        self.origins[n].address = Some(address);
        n as u16
    }

    /// New requests follow `program` from now on; those under way keep theirs. Gives whether it was taken.
    pub fn swap(&mut self, program: Arc<Program>, io: &mut Io<'_>) -> bool {
        let Some(new) = self.plan_of(program) else { return false };
        let old = std::mem::replace(&mut self.current, Rc::new(new));
        self.old.push(old);
        self.forget_unused_plans();
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
                    self.break_off(io, x);
                }
            }
        }
        for n in 0..self.origins.len() {
            let slot = n as u16;
            let used = self.current.uses(slot) || self.old.iter().any(|v| v.uses(slot));
            if !used && self.origins[n].address.take().is_some() {
                while let Some((flow, _)) = self.origins[n].idle.pop() {
                    self.idle_origins -= 1;
                    io.tcp.orphan(flow, io.now);
                }
            }
        }
        true
    }

    /// Lets go of old plans that no request has any more.
    pub(super) fn forget_unused_plans(&mut self) {
        self.old.retain(|v| Rc::strong_count(v) > 1);
    }

    /// Plans that this core still has requests of, the current one included.
    pub fn plans(&self) -> usize {
        1 + self.old.len()
    }
}
