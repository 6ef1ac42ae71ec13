//! From TCP's events to the exchange that they concern.

use std::net::IpAddr;
use std::rc::Rc;

use dataplane::Ctr;
use stack::{CloseReason, Events, FlowId};

use super::exchange::{ExchangeId, Role};
use super::{Io, Proxy};
use crate::http1::{ClientEof, ClientState, Scheme, ServerState};
use crate::upstream::Sent;

/// Timeouts in a row that we take upon ourselves, where we lack memory to read what has come.
const STARVED_MAX: u8 = 3;

impl Proxy {
    pub(super) fn event(&mut self, io: &mut Io<'_>, flow: FlowId, events: Events) {
        if events.has(Events::ACCEPTED) && !self.accepted(io, flow) {
            return;
        }
        match Role::decode(io.tcp.user(flow)) {
            Role::IdleClient { .. } | Role::Announces => self.idle_client_event(io, flow, events),
            Role::Client(x) => self.client_event(io, x, flow, events),
            Role::Origin(x) => self.origin_event(io, x, flow, events),
            Role::Check { run, origin } => self.check_event(io, run, origin, flow, events),
            Role::Pooled { slot } => {
                // Nothing is due from it: data, FIN, RST and the idle timer all mean that it is of no use.
                let idle_acks = Events::WRITABLE;
                if events.0 & !idle_acks.0 != 0 {
                    self.counters.inc(Ctr::OriginIdleClosed);
                    self.forget_pooled(flow, slot);
                    io.tcp.orphan(flow, io.now);
                }
            }
        }
    }

    /// A client's connection is new. Gives whether it goes on; if not, nothing of it is left.
    fn accepted(&mut self, io: &mut Io<'_>, flow: FlowId) -> bool {
        self.counters.inc(Ctr::HttpConnections);
        self.clients += 1;
        io.tcp.set_user(flow, self.role_of_new(&io.tcp, flow).encode());
        io.tcp.set_timer(flow, io.now.plus_ns(self.config().client.header_ns));
        // What announces somebody does so before it says anything by TLS.
        let announces = Role::decode(io.tcp.user(flow)) == Role::Announces;
        let source = io.tcp.tuple(flow).remote.ip();
        announces || !self.wants_tls(io, flow) || self.begin_tls(io, flow, source)
    }

    /// Whether a client's connection is to begin with TLS.
    pub(super) fn wants_tls(&self, io: &Io<'_>, flow: FlowId) -> bool {
        let listener = usize::from(io.tcp.listener(flow));
        self.config().tls_listeners.get(listener).is_some_and(|wants| *wants)
    }

    /// Begins TLS; `source`: whose connection it is. Gives whether it goes on.
    pub(super) fn begin_tls(&mut self, io: &mut Io<'_>, flow: FlowId, source: IpAddr) -> bool {
        let begun = io.tcp.start_server(flow, source);
        if !begun {
            // Nothing can be said to it in a way that it understands.
            self.clients -= 1;
            io.tcp.abort(flow);
        }
        begun
    }

    fn idle_client_event(&mut self, io: &mut Io<'_>, flow: FlowId, events: Events) {
        // While there is no memory to read what has come it stays idle, and has no more time than that.
        if !events.has(Events::CLOSED) && io.tcp.has_data(flow) {
            let Some(x) = self.exchanges.alloc() else {
                self.counters.inc(Ctr::HttpNoContext);
                self.refuse(io, flow);
                return;
            };
            let e = &mut self.exchanges[x];
            e.begin(flow, Rc::clone(&self.current));
            e.scheme = if io.tcp.is_secured(flow) { Scheme::Https } else { Scheme::Http };
            match Role::decode(io.tcp.user(flow)) {
                Role::IdleClient { peer } => e.peer_id = peer,
                role => e.announces = role == Role::Announces,
            }
            io.tcp.set_user(flow, Role::Client(x).encode());
            io.tcp.set_timer(flow, io.now.plus_ns(self.config().client.header_ns));
            self.pump(io, x);
        } else if events.has(Events::CLOSED) || io.tcp.at_end(flow) {
            self.close_idle_client(io, flow);
        } else if events.has(Events::TIMEOUT) {
            self.counters.inc(Ctr::HttpIdleClosed);
            self.close_idle_client(io, flow);
        } else if events.has(Events::CONNECTED) {
            // Its handshake is done, behind a request that came early.
            io.tcp.set_timer(flow, io.now.plus_ns(self.config().client.keep_alive_ns));
        }
    }

    pub(super) fn close_idle_client(&mut self, io: &mut Io<'_>, flow: FlowId) {
        self.clients -= 1;
        if let Role::IdleClient { peer } = Role::decode(io.tcp.user(flow)) {
            self.peers.remove(peer);
            io.tcp.set_user(flow, 0);
        }
        io.tcp.orphan(flow, io.now);
    }

    fn client_event(&mut self, io: &mut Io<'_>, x: ExchangeId, flow: FlowId, events: Events) {
        if events.has(Events::CLOSED) && self.tunnel_is_done(io, x, flow) {
            self.pump(io, x);
            return;
        }
        if events.has(Events::CLOSED) {
            if self.exchanges[x].server.state() != ServerState::Head {
                self.counters.inc(Ctr::HttpClientGone);
            }
            self.detach(io, x);
            self.drop_origin(io, x);
            io.tcp.release(flow, io.now);
            self.clients -= 1;
            self.end(x);
            return;
        }
        if events.has(Events::CONNECTED) {
            self.is_not_early(x);
        }
        if events.has(Events::TIMEOUT) && !self.client_timeout(io, x) {
            return;
        }
        self.pump(io, x);
    }

    /// Whether a side of a tunnel is over because both of its halves ended in order. What it sent last may still
    /// have to be read, or even wait for room on the other side.
    fn tunnel_is_done(&self, io: &Io<'_>, x: ExchangeId, flow: FlowId) -> bool {
        self.exchanges[x].tunnel && io.tcp.close_reason(flow) == CloseReason::Done
    }

    /// The client has stood still. Gives whether the exchange goes on.
    fn client_timeout(&mut self, io: &mut Io<'_>, x: ExchangeId) -> bool {
        let e = &self.exchanges[x];
        let idle = e.idle_ns();
        match e.server.state() {
            ServerState::Exchange if e.early.waits() && io.tcp.is_shaking(e.client) => {
                self.counters.inc(Ctr::HttpHeaderTimeout);
                if e.responding {
                    self.break_off(io, x)
                } else {
                    self.close_client(io, x)
                }
                false
            }
            ServerState::Idle | ServerState::Head if io.tcp.starves(e.client) => {
                let header_ns = self.config().client.header_ns;
                self.starved(io, x, e.client, header_ns)
            }
            ServerState::Idle | ServerState::Head => {
                self.counters.inc(Ctr::HttpHeaderTimeout);
                self.fail(io, x, 408);
                false
            }
            ServerState::Exchange
                if !e.server.is_request_complete() && e.ticket.is_none() && !self.up_is_full(io, x) =>
            {
                if io.tcp.starves(e.client) {
                    return self.starved(io, x, e.client, idle);
                }
                self.counters.inc(Ctr::HttpBodyTimeout);
                self.fail(io, x, 408);
                false
            }
            ServerState::Draining => {
                self.close_client(io, x);
                false
            }
            _ if io.tcp.queued(e.client) > 0 => {
                // It reads nothing: what is queued for it has not moved since the timer was set.
                self.counters.inc(Ctr::HttpBodyTimeout);
                self.break_off(io, x);
                false
            }
            _ => {
                io.tcp.set_timer(e.client, io.now.plus_ns(idle));
                true
            }
        }
    }

    /// What `flow` has sent lies there, and we lack a cell to read it: it gets its time again, but not for ever. Gives
    /// whether the exchange goes on; if not, it is nobody's fault but ours.
    #[cold]
    fn starved(&mut self, io: &mut Io<'_>, x: ExchangeId, flow: FlowId, patience_ns: u64) -> bool {
        let e = &mut self.exchanges[x];
        if e.starved < STARVED_MAX {
            e.touch();
            e.starved += 1;
            io.tcp.set_timer(flow, io.now.plus_ns(patience_ns));
            return true;
        }
        let is_cut = flow == e.origin && e.conn.state() == ClientState::Body;
        self.counters.inc(Ctr::TlsNoCell);
        if is_cut {
            self.cut_short(io, x);
        } else {
            self.fail(io, x, 503);
        }
        false
    }

    fn origin_event(&mut self, io: &mut Io<'_>, x: ExchangeId, flow: FlowId, events: Events) {
        if !self.exchanges[x].connected && !self.race_event(io, x, flow, events) {
            return;
        }
        if events.has(Events::CLOSED) && !io.tcp.is_readable(flow) {
            self.origin_gone(io, x);
            return;
        }
        if events.has(Events::TIMEOUT) && !self.origin_timeout(io, x) {
            return;
        }
        let alive = self.pump(io, x);
        // What it had sent before it died has been read by now, or cannot be.
        if events.has(Events::CLOSED) && alive && self.exchanges[x].origin == flow {
            self.origin_gone(io, x);
        }
    }

    /// The origin has stood still. Gives whether the exchange goes on.
    fn origin_timeout(&mut self, io: &mut Io<'_>, x: ExchangeId) -> bool {
        let e = &self.exchanges[x];
        let timeouts = self.plan(x).route(e.route).timeouts;
        match e.conn.state() {
            ClientState::AwaitingHead if e.server.is_request_complete() || self.up_is_full(io, x) => {
                if io.tcp.starves(e.origin) {
                    return self.starved(io, x, e.origin, timeouts.first_byte_ns);
                }
                self.counters.inc(Ctr::OriginFirstByteTimeout);
                self.exchanges[x].blame = true;
                self.fail(io, x, 504);
                false
            }
            ClientState::Body if !self.down_is_full(io, x) => {
                if io.tcp.starves(e.origin) {
                    return self.starved(io, x, e.origin, timeouts.idle_ns);
                }
                self.counters.inc(Ctr::HttpBodyTimeout);
                self.exchanges[x].blame = true;
                self.cut_short(io, x);
                false
            }
            // It waits for the client, not we for it.
            _ => {
                let e = &self.exchanges[x];
                io.tcp.set_timer(e.origin, io.now.plus_ns(timeouts.idle_ns));
                true
            }
        }
    }

    /// The connection to the origin is over, and nothing of it is left to read.
    fn origin_gone(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let origin = self.exchanges[x].origin;
        // One that does not like our certificate says so after the handshake (TLS 1.3).
        self.has_refused(io, x, origin);
        let e = &self.exchanges[x];
        let reason = io.tcp.close_reason(e.origin);
        if e.tunnel {
            if self.tunnel_is_done(io, x, self.exchanges[x].origin) {
                self.pump(io, x);
            } else {
                self.cut_short(io, x);
            }
            return;
        }
        self.origin_eof(io, x, reason != CloseReason::Done);
    }

    /// The origin will send no more.
    pub(super) fn origin_eof(&mut self, io: &mut Io<'_>, x: ExchangeId, is_reset: bool) {
        match self.exchanges[x].conn.on_eof(is_reset) {
            ClientEof::Retry => {
                self.counters.inc(Ctr::OriginRetries);
                self.again(io, x);
            }
            ClientEof::BadGateway => {
                self.counters.inc(Ctr::OriginClosedEarly);
                let e = &mut self.exchanges[x];
                e.blame = true;
                if !e.conn.is_untouched() || !self.retry(io, x, Sent::Head) {
                    self.fail(io, x, 502);
                }
            }
            ClientEof::Truncated => {
                self.counters.inc(Ctr::OriginClosedEarly);
                self.exchanges[x].blame = true;
                self.cut_short(io, x);
            }
            ClientEof::Clean if self.exchanges[x].conn.is_response_complete() => {
                self.complete(io, x);
            }
            ClientEof::Clean => self.cut_short(io, x),
        }
    }

    pub(super) fn up_is_full(&self, io: &Io<'_>, x: ExchangeId) -> bool {
        let e = &self.exchanges[x];
        let budget = self.config().request_budget_bytes;
        e.origin.is_some() && (io.tcp.queued_true(e.origin) >= budget || io.tcp.is_short(e.client, e.origin))
    }

    pub(super) fn down_is_full(&self, io: &Io<'_>, x: ExchangeId) -> bool {
        if self.exchanges[x].is_fetch() {
            return false;
        }
        let (client, origin) = (self.exchanges[x].client, self.exchanges[x].origin);
        let budget = self.config().request_budget_bytes;
        let queued = io.tcp.queued_true(client);
        queued >= budget && queued >= self.queue_bytes_max(io, client, io.tcp.rx_pool())
            || io.tcp.is_short(origin, client)
    }
}
