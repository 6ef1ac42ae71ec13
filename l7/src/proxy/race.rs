//! A new connection to an origin: a race between its addresses (RFC 8305), of which there may be one.
//!
//! ```text
//!  connect ─► race_on ─► Connect: `origin`, then `rival` beside it ─┬─ CONNECTED ─► the other is aborted, the head goes out
//!                ▲                                                  └─ failed, timed out ─┐
//!                └──────────── the other goes on as `origin` ◄────────────────────────────┘
//! ```
//!
//! Where TLS is spoken, a connection is made when its handshake is done; one whose handshake fails has failed, and the
//! origin's next address is tried.
//!
//! Nothing but SYNs and handshakes goes out before one has won: no origin sees a request twice. However many connections race, the
//! request counts once at its origin (`connections_max`), and the origin is to blame only when all have failed.

use std::net::SocketAddr;

use dataplane::{Ctr, Hist, Time};
use stack::{CloseReason, ConnectError, Events, FlowId, State};

use super::config::Origin;
use super::exchange::{ExchangeId, Role};
use super::{Io, Proxy};
use crate::http1::ClientConn;
use crate::phases::Mark;
use crate::tls::origin::{Reason, Refusal};
use crate::upstream::{Attempt, Lane, Race, Sent};

impl Proxy {
    /// Opens a new connection for the exchange, to the origin that was chosen.
    pub(super) fn connect(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let addresses = self.origin_config(x).map_or(0, |o| o.addresses.len());
        let http = self.plan(x).program.config.http;
        let e = &mut self.exchanges[x];
        debug_assert!(e.origin.is_none() && e.rival.is_none());
        e.connected = false;
        e.conn = ClientConn::new(&http);
        e.race = Race::new(addresses, self.origins[e.slot as usize].best);
        self.race_on(io, x, 503);
    }

    /// Does what the race wants next. `status`: of the error, should there be nothing left to try.
    fn race_on(&mut self, io: &mut Io<'_>, x: ExchangeId, mut status: u16) {
        let plan = self.plan(x);
        let patience_ns = plan.route(self.exchanges[x].route).timeouts.connect_ns;
        loop {
            match self.exchanges[x].race.poll(io.now, patience_ns) {
                Attempt::Connect(address) => match self.attempt(io, x, address) {
                    Ok(()) => {}
                    Err(why) => {
                        let e = &mut self.exchanges[x];
                        let lane = if e.origin.is_some() { Lane::Newer } else { Lane::Older };
                        if why == ConnectError::NoRoute {
                            e.race.failed(lane);
                        } else {
                            // Without a port or a flow of ours, the next one would fare no better.
                            e.race.give_up(lane);
                        }
                        status = 503;
                    }
                },
                Attempt::MakeRoom => {
                    self.counters.inc(Ctr::OriginConnectTimeout);
                    self.drop_lane(io, x, Lane::Older);
                }
                Attempt::TimedOut(lane) => {
                    self.count_timeout(io, x, lane);
                    self.exchanges[x].race.failed(lane);
                    self.drop_lane(io, x, lane);
                    status = 504;
                }
                Attempt::WaitUntil(then) => {
                    let e = &self.exchanges[x];
                    io.tcp.set_timer(e.origin, then);
                    if e.rival.is_some() {
                        io.tcp.set_timer(e.rival, Time::NEVER);
                    }
                    return;
                }
                Attempt::Failed => {
                    let e = &mut self.exchanges[x];
                    e.blame = e.race.has_failed();
                    if !e.blame || !self.retry(io, x, Sent::Nothing) {
                        self.fail(io, x, status);
                    }
                    return;
                }
            }
        }
    }

    /// Opens a connection to one of the origin's addresses: `origin`, or `rival` where that is taken.
    fn attempt(&mut self, io: &mut Io<'_>, x: ExchangeId, address: u8) -> Result<(), ConnectError> {
        let to = self.origin_config(x).and_then(|o| {
            let address = o.addresses.get(usize::from(address))?;
            Some(SocketAddr::new(*address, o.port))
        });
        self.counters.inc(Ctr::OriginConnects);
        let opened = match to {
            Some(to) => io.tcp.connect(io.net, to, io.now),
            None => Err(ConnectError::NoRoute),
        };
        let flow = opened.inspect_err(|_| self.counters.inc(Ctr::OriginConnectFailed))?;
        let plan = self.plan(x);
        let e = &self.exchanges[x];
        let tls = plan.program.config.origins(e.route).get(e.origin_index as usize);
        if let Some(tls) = tls.and_then(|o| o.tls.as_ref())
            && !(self.announce(io, x, flow) && self.start_tls(io, flow, tls))
        {
            io.tcp.abort(flow);
            self.counters.inc(Ctr::OriginTlsNoRoom);
            return Err(ConnectError::NoFlow);
        }
        io.tcp.set_user(flow, Role::Origin(x).encode());
        let e = &mut self.exchanges[x];
        if e.origin.is_some() {
            self.counters.inc(Ctr::OriginRaced);
            e.rival = flow;
        } else {
            e.origin = flow;
            if e.race.begun() == 1 {
                e.asks_origin(io, &self.counters);
            }
        }
        Ok(())
    }

    /// Something has happened to a connection that is not made yet, or has just been. Gives whether the event goes on
    /// to the exchange: there is a connection.
    pub(super) fn race_event(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        flow: FlowId,
        events: Events,
    ) -> bool {
        let e = &self.exchanges[x];
        let lane = if e.rival == flow { Lane::Newer } else { Lane::Older };
        debug_assert!(e.origin == flow || e.rival == flow, "a loser is nobody's any more");
        if events.has(Events::CONNECTED) {
            return self.has_won(io, x, lane);
        }
        if events.has(Events::CLOSED) {
            let reason = io.tcp.close_reason(flow);
            let refused = self.has_refused(io, x, flow);
            if refused.is_none() {
                if io.tcp.is_secured(flow) && matches!(reason, CloseReason::Done | CloseReason::Reset) {
                    // It was there, and went away in the middle of the handshake.
                    self.tell_refusal(io, x, flow, &Refusal::plain(Reason::Closed));
                } else {
                    self.counters.inc(Ctr::OriginConnectFailed);
                }
            }
            let is_ours = refused.is_some_and(|reason| !reason.is_the_origins());
            let race = &mut self.exchanges[x].race;
            if is_ours {
                race.give_up(lane)
            } else {
                race.failed(lane)
            }
            self.drop_lane(io, x, lane);
            let status = match reason {
                _ if is_ours => 503,
                CloseReason::TimedOut => 504,
                _ => 502,
            };
            self.race_on(io, x, status);
        } else if events.has(Events::TIMEOUT) {
            self.race_on(io, x, 504);
        }
        false
    }

    /// The first connection is made: the other one is of no use, and the request goes out. Gives whether it did.
    fn has_won(&mut self, io: &mut Io<'_>, x: ExchangeId, lane: Lane) -> bool {
        let other = if lane == Lane::Older { Lane::Newer } else { Lane::Older };
        let won = self.exchanges[x].race.won(lane);
        self.drop_lane(io, x, other);
        let e = &mut self.exchanges[x];
        e.connected = true;
        let (flow, route) = (e.origin, e.route);
        let slot = &mut self.origins[e.slot as usize];
        if let Some((address, begun)) = won {
            slot.best = address;
            self.counters.record(Hist::OriginConnect, io.now.since_ns(begun));
        }
        let tuple = io.tcp.tuple(flow);
        e.asked = Some(SocketAddr::new(tuple.remote.ip(), tuple.remote_port));
        e.timings.mark(Mark::Connected, io.now.0);
        e.timings.mark(Mark::RequestSent, io.now.0);
        let first_byte = self.plan(x).route(route).timeouts.first_byte_ns;
        io.tcp.set_timer(flow, io.now.plus_ns(first_byte));
        // Where TLS is spoken, that was said before it.
        let is_tls = self.origin_config(x).is_some_and(|o| o.tls.is_some());
        if !is_tls && !self.announce(io, x, flow) {
            self.fail(io, x, 503);
            return false;
        }
        self.send_head(io, x)
    }

    /// Lets go of a connection of the race. The newer one takes the place of the older.
    fn drop_lane(&mut self, io: &mut Io<'_>, x: ExchangeId, lane: Lane) {
        let e = &mut self.exchanges[x];
        let rival = std::mem::replace(&mut e.rival, FlowId::NONE);
        let gone = match lane {
            Lane::Older => std::mem::replace(&mut e.origin, rival),
            Lane::Newer => rival,
        };
        if gone.is_some() {
            io.let_go(gone);
        }
    }

    /// The exchange lets go of its origin: whatever still races for it.
    pub(super) fn end_race(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        self.exchanges[x].race = Race::OVER;
        self.drop_lane(io, x, Lane::Newer);
    }

    /// A connection was not made in time.
    fn count_timeout(&mut self, io: &Io<'_>, x: ExchangeId, lane: Lane) {
        let e = &self.exchanges[x];
        let flow = if lane == Lane::Older { e.origin } else { e.rival };
        if flow.is_some() && io.tcp.state(flow) != State::SynSent {
            self.tell_refusal(io, x, flow, &Refusal::plain(Reason::Timeout));
        } else {
            self.counters.inc(Ctr::OriginConnectTimeout);
        }
    }

    fn origin_config(&self, x: ExchangeId) -> Option<&Origin> {
        let e = &self.exchanges[x];
        e.plan.as_ref()?.program.config.origins(e.route).get(e.origin_index as usize)
    }
}
