//! Origin connections: from the pool or new, given back or let go.

use std::rc::Rc;

use dataplane::Ctr;
use stack::FlowId;

use super::exchange::{ExchangeId, Role};
use super::plan::Plan;
use super::{ATTEMPTS_MAX, Io, Proxy};
use crate::http1::{BodyLength, ClientConn};

impl Proxy {
    /// The config that an exchange follows.
    pub(super) fn plan(&self, x: ExchangeId) -> Rc<Plan> {
        Rc::clone(self.exchanges[x].plan.as_ref().unwrap_or(&self.current))
    }

    /// Gets a connection to an origin of the exchange's site, and sends it the request's head.
    pub(super) fn forward(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let plan = self.plan(x);
        let e = &mut self.exchanges[x];
        let slots = plan.slots_of(e.route);
        let chosen = self.turn % slots.len().max(1);
        self.turn = self.turn.wrapping_add(1);
        e.origin_index = chosen as u16;
        e.slot = slots.get(chosen).copied().unwrap_or_default();
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
            self.send_head(io, x);
        } else {
            self.connect(io, x);
        }
    }

    /// Opens a new connection for the exchange.
    fn connect(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let plan = self.plan(x);
        let e = &mut self.exchanges[x];
        let origins = plan.program.config.origins(e.route);
        let timeouts = plan.route(e.route).timeouts;
        e.attempts += 1;
        e.connected = false;
        e.conn = ClientConn::new(&plan.program.config.http);
        e.connect_started = io.now;
        e.slot = plan.slots_of(e.route)[e.origin_index as usize];
        self.counters.inc(Ctr::OriginConnects);
        match io.tcp.connect(io.net, origins[e.origin_index as usize].address, io.now) {
            Ok(flow) => {
                e.origin = flow;
                io.tcp.set_timer(flow, io.now.plus_ns(timeouts.connect_ns));
                if self.announce(io, x) {
                    self.send_head(io, x);
                } else {
                    self.fail(io, x, 503);
                }
            }
            Err(_) => {
                e.origin = FlowId::NONE;
                self.counters.inc(Ctr::OriginConnectFailed);
                self.fail(io, x, 503);
            }
        }
    }

    fn send_head(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        let Some(head) = e.head.clone() else { return };
        e.asks_origin(io, &self.counters);
        io.tcp.set_user(e.origin, Role::Origin(x).encode());
        e.conn.begin(e.method, e.request_body != BodyLength::None, e.upgrade);
        if e.server.is_request_complete() {
            e.conn.request_sent();
        }
        if io.tcp.send(e.origin, head).is_err() {
            self.fail(io, x, 503);
        }
    }

    /// A connection could not be made: takes the site's next origin, while there is one and nothing of the
    /// request's body is gone. Gives whether it did.
    pub(super) fn try_another(&mut self, io: &mut Io<'_>, x: ExchangeId) -> bool {
        let e = &mut self.exchanges[x];
        let origins = e.plan.as_ref().map_or(0, |v| v.slots_of(e.route).len());
        if usize::from(e.attempts) >= origins.min(ATTEMPTS_MAX as usize) || e.head.is_none() {
            return false;
        }
        io.tcp.abort(e.origin);
        e.origin = FlowId::NONE;
        e.origin_index = ((e.origin_index as usize + 1) % origins) as u16;
        self.connect(io, x);
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
        let e = &mut self.exchanges[x];
        let flow = std::mem::replace(&mut e.origin, FlowId::NONE);
        if flow.is_none() {
            return;
        }
        let left = e.origin_in.take().map_or(0, |s| s.len()) + usize::from(io.tcp.is_readable(flow));
        let done = e.conn.finish(left) && self.announces_to_origin(x).is_none();
        let e = &mut self.exchanges[x];
        let incomplete = !e.server.is_request_complete();
        let (slot, conn) = (e.slot, e.conn);
        let config = &self.current.program.config;
        let pool = &mut self.origins[slot as usize];
        // An origin that the config no longer has keeps no connections.
        let room = pool.address.is_some() && pool.idle.len() < config.idle_per_origin_max;
        if done && room && !self.draining && !io.tcp.at_end(flow) {
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

    /// Ends the origin's connection at once: nobody wants its answer.
    pub(super) fn drop_origin(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        let flow = std::mem::replace(&mut e.origin, FlowId::NONE);
        e.origin_in = None;
        if flow.is_some() {
            io.tcp.abort(flow);
        }
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
