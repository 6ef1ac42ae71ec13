//! Origins as a group: what is under way at each, and who waits for room.
//!
//! ```text
//!   forward ─► pick ─► go ─► begin … leave_origin ─► end          exactly one end for each begin
//!                └─ full ─► wait_for_room ─► look_at_queues: place again, or 503 when its time is over
//! ```
//!
//! [`Exchange::counted`](super::exchange::Exchange) says that an end is due. Those that wait are looked at once in a
//! pass, not where somebody leaves: that may be in the middle of another exchange's step.

use std::sync::Arc;

use dataplane::{Ctr, Time};
use hugepages::SlabIndex;

use super::config::Upstream;
use super::exchange::ExchangeId;
use super::{Io, Proxy};
use crate::upstream::{OriginSet, OriginSpec, Outcome, SetSettings, SharedHealth};

/// A group of origins on this core: it outlives a reload that leaves it as it is.
pub(super) struct Group {
    /// What all cores know of it, and what it is known by; `None`: free.
    pub health: Option<Arc<SharedHealth>>,
    pub set: OriginSet,
}

impl Proxy {
    /// The core's group of an upstream. Not for the hot path: it allocates.
    pub(super) fn group_of(&mut self, u: &Upstream) -> u16 {
        let is_it = |g: &Group| g.health.as_ref().is_some_and(|h| Arc::ptr_eq(h, &u.health));
        if let Some(n) = self.groups.iter().position(is_it) {
            return n as u16;
        }
        let group = Group { health: Some(Arc::clone(&u.health)), set: self.set_of(u) };
        match self.groups.iter().position(|g| g.health.is_none()) {
            Some(n) => {
                self.groups[n] = group;
                n as u16
            }
            None => {
                self.groups.push(group);
                self.groups.len() as u16 - 1
            }
        }
    }

    fn set_of(&self, u: &Upstream) -> OriginSet {
        let share = |bound| SetSettings::share(bound, self.core, self.cores);
        let mine = SetSettings {
            connections_max: u.settings.connections_max.map(share),
            queue_max: share(u.settings.queue_max),
            ..u.settings
        };
        let specs = u.origins.iter().map(|o| OriginSpec { weight: o.weight, name: &o.authority });
        let specs: Vec<OriginSpec<'_>> = specs.collect();
        OriginSet::new(&mine, &specs, Arc::clone(&u.health))
    }

    /// Says which core this is, of how many: before it runs. Bounds of the whole node are shared out by that, and
    /// who checks which origins.
    pub fn on_core(mut self, core: usize, cores: usize) -> Proxy {
        (self.core, self.cores) = (core, cores.max(1));
        let program = Arc::clone(&self.current.program);
        for (u, places) in program.config.upstreams.iter().zip(&self.current.places) {
            let set = self.set_of(u);
            self.groups[places.group as usize].set = set;
        }
        self.start_checks(Time(0));
        self
    }

    /// The request is over at its origin, or has never been there.
    pub(super) fn leave_origin(&mut self, now: Time, x: ExchangeId, outcome: Outcome) {
        let e = &mut self.exchanges[x];
        e.blame = false;
        if std::mem::take(&mut e.counted)
            && self.groups[e.group as usize].set.end(e.origin_index.into(), outcome, now)
        {
            self.counters.inc(Ctr::OriginEjections);
            self.say_ejected(now, x);
        }
    }

    /// All origins are full: takes a place in the queue, or answers 503.
    pub(super) fn wait_for_room(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        e.connected = false;
        e.ticket = self.groups[e.group as usize].set.wait(x.to_u32(), io.now);
        if e.ticket.is_some() {
            self.waiting_for_room += 1;
            self.counters.inc(Ctr::OriginQueued);
        } else {
            self.counters.inc(Ctr::OriginQueueFull);
            self.fail(io, x, 503);
        }
    }

    /// The exchange is not to wait any longer.
    pub(super) fn wait_no_more(&mut self, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        if let Some(ticket) = e.ticket.take()
            && self.groups[e.group as usize].set.cancel(ticket, x.to_u32())
        {
            self.waiting_for_room -= 1;
        }
    }

    /// Sends on those for whom there is room, and away those who have waited too long. Gives whether there was one.
    pub(super) fn look_at_queues(&mut self, io: &mut Io<'_>) -> bool {
        if self.waiting_for_room == 0 {
            return false;
        }
        let before = self.waiting_for_room;
        for n in 0..self.groups.len() {
            while let Some(id) = self.groups[n].set.expired(io.now) {
                let x = self.called(id);
                self.counters.inc(Ctr::OriginQueueTimeout);
                let client = self.exchanges[x].client;
                self.fail(io, x, 503);
                if self.exchanges.is_used(x) && self.exchanges[x].client == client && client.is_some() {
                    io.tcp.wake(client); // Its next request may be here.
                }
            }
            // Each once: one that finds no room after all waits again, at the end.
            for _ in 0..self.groups[n].set.waiting() {
                let Some(id) = self.groups[n].set.admit(io.now) else { break };
                let x = self.called(id);
                self.exchanges[x].tried = 0;
                self.place(io, x);
            }
        }
        self.waiting_for_room != before
    }

    /// One that waited, and does no more.
    fn called(&mut self, id: u32) -> ExchangeId {
        let x = ExchangeId::from_u32(id);
        self.exchanges[x].ticket = None;
        self.waiting_for_room -= 1;
        x
    }

    /// When there is something to be done that no packet and no timer of a connection says.
    pub fn next_deadline(&self) -> Time {
        let checks = self.checks_at;
        if self.waiting_for_room == 0 {
            return checks;
        }
        self.groups.iter().map(|g| g.set.next_deadline()).fold(checks, Time::min)
    }
}
