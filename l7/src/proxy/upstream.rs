//! Origin connections: from the pool or new, given back or let go.

use std::rc::Rc;

use dataplane::Ctr;
use stack::FlowId;

use super::exchange::{ExchangeId, Role};
use super::plan::Plan;
use super::{Io, Proxy};
use crate::http1::BodyLength;
use crate::upstream::{NoRetry, Outcome, Pick, Sent};

impl Proxy {
    /// The config that an exchange follows.
    pub(super) fn plan(&self, x: ExchangeId) -> Rc<Plan> {
        Rc::clone(self.exchanges[x].plan.as_ref().unwrap_or(&self.current))
    }

    /// Gets a connection to an origin of the exchange's site, and sends it the request's head; or waits for room.
    pub(super) fn forward(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let plan = self.plan(x);
        let e = &mut self.exchanges[x];
        let Some(places) = plan.places_of(e.route) else {
            self.fail(io, x, 503);
            return;
        };
        e.group = places.group;
        e.tried = 0;
        e.attempts = 0;
        self.groups[places.group as usize].set.request();
        self.place(io, x);
    }

    /// Gives the exchange an origin, or a place in the queue.
    pub(super) fn place(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        match self.pick(io, x) {
            Pick::Origin(i) => self.go(io, x, i),
            Pick::Full => self.wait_for_room(io, x),
            Pick::None => self.fail(io, x, 503),
        }
    }

    fn pick(&mut self, io: &Io<'_>, x: ExchangeId) -> Pick {
        let e = &self.exchanges[x];
        let nowhere = e.plan.as_ref().and_then(|v| v.places_of(e.route)).map_or(0, |p| p.nowhere);
        let set = &mut self.groups[e.group as usize].set;
        let pick = set.pick(io.now, e.key, e.tried | nowhere);
        let back = set.take_back();
        if back != 0 {
            self.say_taken_back(io.now, x, back);
        }
        pick
    }

    /// Sends the request to an origin: its own connection from now on.
    fn go(&mut self, io: &mut Io<'_>, x: ExchangeId, origin: usize) {
        let plan = self.plan(x);
        let e = &mut self.exchanges[x];
        debug_assert!(!e.counted && e.ticket.is_none());
        self.groups[e.group as usize].set.begin(origin);
        e.counted = true;
        e.blame = false;
        e.origin_index = origin as u16;
        e.slot = plan.places_of(e.route).and_then(|p| p.slots.get(origin).copied()).unwrap_or_default();
        // Most recently used first: the one that the origin is least likely to have closed. (An address may be in
        // another upstream, too, whose connections announce nobody.)
        let kept = self.announces_to_origin(x).is_none();
        let e = &mut self.exchanges[x];
        if let Some((flow, conn)) =
            self.origins.get_mut(e.slot as usize).filter(|_| kept).and_then(|o| o.idle.pop())
        {
            self.idle_origins -= 1;
            self.counters.inc(Ctr::OriginReused);
            e.origin = flow;
            e.conn = conn;
            e.connected = true;
            let first_byte = plan.route(e.route).timeouts.first_byte_ns;
            io.tcp.set_timer(flow, io.now.plus_ns(first_byte));
            e.asks_origin(io, &self.counters);
            self.send_head(io, x);
        } else {
            self.connect(io, x);
        }
    }

    /// Sends the request's head on the connection that there is. Gives whether it could.
    pub(super) fn send_head(&mut self, io: &mut Io<'_>, x: ExchangeId) -> bool {
        let e = &mut self.exchanges[x];
        let Some(head) = e.head.clone() else {
            debug_assert!(false, "nothing of it is gone before there is a connection");
            return false;
        };
        io.tcp.set_user(e.origin, Role::Origin(x).encode());
        e.conn.begin(e.method, e.request_body != BodyLength::None, e.upgrade);
        if e.server.is_request_complete() {
            e.conn.request_sent();
        }
        if io.tcp.send(e.origin, head).is_err() {
            self.fail(io, x, 503);
            return false;
        }
        true
    }

    /// The origin has failed the request without a byte of a response: tries another origin, where there is one and
    /// the budget allows it. Gives whether it did.
    pub(super) fn retry(&mut self, io: &mut Io<'_>, x: ExchangeId, sent: Sent) -> bool {
        let e = &mut self.exchanges[x];
        if e.head.is_none() || !e.counted {
            return false;
        }
        e.blame = true;
        e.tried |= 1 << e.origin_index;
        e.attempts = e.attempts.saturating_add(1);
        let (attempts, idempotent, group) = (e.attempts, e.method.is_idempotent(), e.group as usize);
        // First whether there is another: what is not done costs no budget.
        let pick = self.pick(io, x);
        if pick == Pick::None {
            return false;
        }
        if let Err(why) = self.groups[group].set.may_retry(io.now, idempotent, sent, attempts) {
            if why == NoRetry::Budget {
                self.counters.inc(Ctr::OriginRetryRefused);
            }
            return false;
        }
        self.counters.inc(Ctr::OriginRetried);
        self.drop_origin(io, x);
        let e = &mut self.exchanges[x];
        e.connected = false;
        e.up.held = 0;
        match pick {
            Pick::Origin(i) => self.go(io, x, i),
            _ => self.wait_for_room(io, x),
        }
        true
    }

    /// A kept connection turned out to be stale: the same request on a new one.
    pub(super) fn again(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        io.tcp.orphan(e.origin, io.now);
        e.origin = FlowId::NONE;
        e.origin_in = None;
        e.up.held = 0;
        if e.head.is_none() {
            self.fail(io, x, 502);
            return;
        }
        self.connect(io, x);
    }

    /// Gives the origin's connection back to its pool, or ends it.
    pub(super) fn give_back(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let outcome = if self.exchanges[x].blame { Outcome::Failed } else { Outcome::Good };
        self.leave_origin(io.now, x, outcome);
        let e = &mut self.exchanges[x];
        let flow = std::mem::replace(&mut e.origin, FlowId::NONE);
        if flow.is_none() {
            return;
        }
        let left = e.origin_in.take().map_or(0, |s| s.len()) + usize::from(io.tcp.is_readable(flow));
        let done = e.conn.finish(left) && self.announces_to_origin(x).is_none() && !io.tcp.is_worn(flow);
        let e = &mut self.exchanges[x];
        let incomplete = !e.server.is_request_complete();
        let (slot, conn) = (e.slot, e.conn);
        let config = &self.current.program.config;
        let pool = &mut self.origins[slot as usize];
        // An origin that the config no longer has keeps no connections.
        let room = pool.place.is_some() && pool.idle.len() < config.idle_per_origin_max;
        // Over TLS, a FIN is no end: but nothing more comes behind it.
        let over = io.tcp.at_end(flow) || io.tcp.has_ended(flow);
        if done && room && !self.draining && !over {
            let held = io.tcp.held(flow);
            io.tcp.consume(flow, held);
            pool.idle.push((flow, conn));
            self.idle_origins += 1;
            io.tcp.set_user(flow, Role::Pooled { slot }.encode());
            io.tcp.set_timer(flow, io.now.plus_ns(config.origin_keep_alive_ns));
        } else if incomplete {
            io.tcp.abort(flow); // It must not take what it got of the request for the whole.
        } else {
            io.tcp.orphan(flow, io.now);
        }
    }

    /// Ends the origin's connection at once, or the wait for one: nobody wants its answer.
    pub(super) fn drop_origin(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        self.wait_no_more(x);
        let outcome = if self.exchanges[x].blame { Outcome::Failed } else { Outcome::Unknown };
        self.leave_origin(io.now, x, outcome);
        let e = &mut self.exchanges[x];
        let flow = std::mem::replace(&mut e.origin, FlowId::NONE);
        e.origin_in = None;
        if flow.is_some() {
            io.let_go(flow);
        }
        self.end_race(io, x);
    }

    /// Takes a connection out of its pool.
    pub(super) fn forget_pooled(&mut self, flow: FlowId, slot: u16) {
        let idle = &mut self.origins[slot as usize].idle;
        if let Some(i) = idle.iter().position(|(f, _)| *f == flow) {
            idle.swap_remove(i);
            self.idle_origins -= 1;
        }
    }
}
