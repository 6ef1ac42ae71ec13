//! Moving an exchange on: as far as what has arrived, and the other side's room, allow.

use std::rc::Rc;

use dataplane::{Ctr, Hist, Slice};
use stack::{FlowId, State, Tcp};

use super::body::{Gathered, Moved, gather, move_body};
use super::exchange::ExchangeId;
use super::respond::count_status;
use super::{Cells, Io, Proxy, settle};
use crate::http1::{
    BodyLength, ClientEof, ClientState, Discarded, Parsed, ServerEof, ServerState, SliceSink, ToClient,
    ToOrigin, Upgrade, outgoing_body, write_interim_to_client, write_request_to_origin,
    write_response_to_client,
};

/// Steps of one exchange in a row: pieces, heads, requests. Then the others get their turn.
const STEPS_MAX: usize = 64;

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something moved: look again.
    Moved,
    /// Nothing to do before the next event.
    Waits,
    /// The exchange is over.
    Gone,
}

impl Proxy {
    /// Moves an exchange on. Gives whether it still is.
    pub(super) fn pump(&mut self, io: &mut Io<'_>, x: ExchangeId) -> bool {
        for _ in 0..STEPS_MAX {
            let client = self.client_step(io, x);
            if client == Step::Gone {
                return false;
            }
            let origin = self.origin_step(io, x);
            if origin == Step::Gone {
                return false;
            }
            if client == Step::Waits && origin == Step::Waits {
                self.settle(io, x);
                return true;
            }
        }
        self.settle(io, x);
        io.tcp.wake(self.exchanges[x].client);
        true
    }

    /// Opens windows by what the other sides have acknowledged, and moves the stall timers on.
    fn settle(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        settle(&mut e.up, io.tcp, e.client, e.origin);
        if e.origin.is_some() {
            settle(&mut e.down, io.tcp, e.origin, e.client);
        }
        if e.server.state() == ServerState::Exchange || e.tunnel {
            let idle = e.idle_ns();
            io.tcp.set_timer(e.client, io.now.plus_ns(idle));
        }
    }

    // ── From the client ─────────────────────────────────────────────────────────────────────────────

    fn client_step(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        if self.exchanges[x].tunnel {
            return self.tunnel_up(io, x);
        }
        match self.exchanges[x].server.state() {
            ServerState::Idle | ServerState::Head => self.request_head(io, x),
            ServerState::Exchange => self.request_body(io, x),
            ServerState::Draining => self.drain_request(io, x),
            ServerState::Tunnel => Step::Waits,
            ServerState::Lingering | ServerState::Closed => {
                self.close_client(io, x);
                Step::Gone
            }
        }
    }

    fn request_head(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &mut self.exchanges[x];
        let client = e.client;
        let Some(input) = e.client_in.take().or_else(|| io.tcp.read(client)) else {
            if io.tcp.at_end(client) {
                e.server.on_eof();
                self.close_client(io, x);
            } else {
                self.go_idle(io, x);
            }
            return Step::Gone;
        };
        if self.draining {
            e.server.close_soon_after();
        }
        if e.server.state() == ServerState::Idle {
            // The next request of the connection follows what is current now.
            e.plan = Some(Rc::clone(&self.current));
        }
        let plan = e.plan.clone().unwrap_or_else(|| Rc::clone(&self.current));
        let (http, slots) = (&plan.program.config.http, &mut self.slots);
        let (consumed, reject) = match e.server.read_head(&input, http, slots) {
            Ok(Parsed::Complete(head, n)) => {
                e.method = head.method();
                e.version = head.version();
                e.request_body = head.body();
                e.upgrade = head.upgrade() != Upgrade::None;
                e.up.chunked = head.body() == BodyLength::Chunked;
                e.started = io.now;
                self.counters.inc(Ctr::HttpRequests);
                match plan.program.router.find(head.host()) {
                    None => {
                        self.counters.inc(Ctr::HttpNoSite);
                        (n, Some(421))
                    }
                    Some(site) => {
                        e.site = site;
                        let wants = head.max_forwards() == Some(0);
                        if wants {
                            (n, Some(501))
                        } else if plan.stubs[site as usize].is_some() {
                            (n, None)
                        } else {
                            let s = plan.site(site);
                            let written =
                                write_head(&head, s, io.tcp, client, &mut self.scratch, &self.cells);
                            e.head = written;
                            if e.head.is_none() {
                                self.counters.inc(Ctr::PoolPayloadEmpty);
                            }
                            (n, e.head.is_none().then_some(503))
                        }
                    }
                }
            }
            Ok(Parsed::Partial) => return self.more_head(io, x, input),
            Err(r) => {
                self.counters.inc(Ctr::HttpRequests);
                self.counters.inc(Ctr::HttpRejected);
                (input.len(), Some(r.status))
            }
        };
        self.take_client(io, x, input, consumed);
        match reject {
            Some(status) => {
                self.fail(io, x, status);
                self.gone_or_moved(x, client)
            }
            None => {
                match plan.stubs[self.exchanges[x].site as usize].clone() {
                    Some(body) => self.respond_stub(io, x, body),
                    None => self.forward(io, x),
                }
                self.gone_or_moved(x, client)
            }
        }
    }

    /// Whether an exchange that may have ended in a call still is the one of `client`.
    fn gone_or_moved(&self, x: ExchangeId, client: FlowId) -> Step {
        if self.exchanges.is_used(x) && self.exchanges[x].client == client { Step::Moved } else { Step::Gone }
    }

    /// The head is not complete: puts the next piece behind it.
    fn more_head(&mut self, io: &mut Io<'_>, x: ExchangeId, input: Slice) -> Step {
        let e = &mut self.exchanges[x];
        match gather(&self.cells, io.tcp, e.client, input) {
            Gathered::More(joined) => {
                e.client_in = Some(joined);
                Step::Moved
            }
            Gathered::NoRoom => self.no_room(io, x),
            Gathered::Waits(_) if io.tcp.at_end(e.client) => {
                e.server.on_eof();
                self.close_client(io, x);
                Step::Gone
            }
            Gathered::Waits(input) => {
                if !e.head_timed {
                    e.head_timed = true;
                    let header_ns = self.current.program.config.client.header_ns;
                    io.tcp.set_timer(e.client, io.now.plus_ns(header_ns));
                }
                e.client_in = Some(input);
                Step::Waits
            }
        }
    }

    /// Takes `n` bytes of the client's input; they need no room any more.
    fn take_client(&mut self, io: &mut Io<'_>, x: ExchangeId, mut input: Slice, n: usize) {
        let e = &mut self.exchanges[x];
        input.advance(n);
        io.tcp.consume(e.client, n as u32);
        if !input.is_empty() {
            e.client_in = Some(input);
        }
    }

    fn request_body(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &mut self.exchanges[x];
        if e.server.is_request_complete() || !e.connected || e.origin.is_none() {
            return Step::Waits;
        }
        // An origin that has answered and reset within this burst: its own event, with the answer, comes next.
        if io.tcp.state(e.origin) == State::Closed {
            return Step::Waits;
        }
        if self.up_is_full(io, x) {
            return Step::Waits;
        }
        let e = &mut self.exchanges[x];
        let client = e.client;
        let Some(input) = e.client_in.take().or_else(|| io.tcp.read(client)) else {
            if io.tcp.at_end(client) && e.server.on_eof() == ServerEof::BodyTruncated {
                self.counters.inc(Ctr::HttpClientGone);
                self.close_client(io, x);
                return Step::Gone;
            }
            return Step::Waits;
        };
        // The body is on its way: it is not there for a second try.
        e.head = None;
        e.conn.request_body_used();
        let first_byte = e.plan.as_ref().map_or(u64::MAX, |v| v.site(e.site).timeouts.first_byte_ns);
        if e.conn.state() == ClientState::AwaitingHead {
            io.tcp.set_timer(e.origin, io.now.plus_ns(first_byte));
        }
        let server = &mut e.server;
        let moved = move_body(&mut e.up, io.tcp, e.origin, &self.cells.payload, input, |b| {
            let (step, n) = server.read_body(b)?;
            Ok((step, n, server.is_request_complete()))
        });
        match moved {
            Moved::Open => Step::Moved,
            Moved::Complete(rest) => {
                e.conn.request_sent();
                if !rest.is_empty() {
                    e.client_in = Some(rest);
                }
                Step::Moved
            }
            Moved::Rest(rest) => match gather(&self.cells, io.tcp, client, rest) {
                Gathered::More(joined) => {
                    e.client_in = Some(joined);
                    Step::Moved
                }
                Gathered::Waits(rest) => {
                    e.client_in = Some(rest);
                    Step::Waits
                }
                Gathered::NoRoom => self.no_room(io, x),
            },
            Moved::Refused(r) => {
                self.counters.inc(Ctr::HttpRejected);
                self.fail(io, x, r.status);
                self.gone_or_moved(x, client)
            }
            Moved::NoRoom => self.no_room(io, x),
        }
    }

    /// There is no cell or record left for what the client sends.
    fn no_room(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let client = self.exchanges[x].client;
        self.counters.inc(Ctr::PoolPayloadEmpty);
        self.fail(io, x, 503);
        self.gone_or_moved(x, client)
    }

    /// The response is out, the request's body is not in: throws it away.
    fn drain_request(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &mut self.exchanges[x];
        let client = e.client;
        let Some(mut input) = e.client_in.take().or_else(|| io.tcp.read(client)) else {
            if io.tcp.at_end(client) {
                self.close_client(io, x);
                return Step::Gone;
            }
            return Step::Waits;
        };
        let (n, what) = e.server.discard(&input);
        if what == Discarded::More && n < input.len() {
            // The start of a trailer line.
            input.advance(n);
            io.tcp.consume(client, n as u32);
            let (left, step) = match gather(&self.cells, io.tcp, client, input) {
                Gathered::More(joined) => (joined, Step::Moved),
                Gathered::Waits(rest) => (rest, Step::Waits),
                Gathered::NoRoom => {
                    self.close_client(io, x);
                    return Step::Gone;
                }
            };
            e.client_in = Some(left);
            return step;
        }
        self.take_client(io, x, input, n);
        match what {
            Discarded::More => Step::Moved,
            Discarded::NextRequest => {
                io.tcp.set_timer(client, io.now.plus_ns(self.config().client.keep_alive_ns));
                Step::Moved
            }
            Discarded::Close => {
                self.close_client(io, x);
                Step::Gone
            }
        }
    }

    // ── From the origin ─────────────────────────────────────────────────────────────────────────────

    fn origin_step(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &self.exchanges[x];
        if e.origin.is_none() || !e.connected {
            return Step::Waits;
        }
        if e.tunnel {
            return self.tunnel_down(io, x);
        }
        match e.conn.state() {
            ClientState::AwaitingHead => self.response_head(io, x),
            ClientState::Body => self.response_body(io, x),
            ClientState::Idle | ClientState::Tunnel | ClientState::Closed => Step::Waits,
        }
    }

    fn response_head(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &mut self.exchanges[x];
        let (client, origin) = (e.client, e.origin);
        let Some(input) = e.origin_in.take().or_else(|| io.tcp.read(origin)) else {
            if io.tcp.at_end(origin) {
                self.origin_eof(io, x, false);
                return self.gone_or_moved(x, client);
            }
            return Step::Waits;
        };
        let http = &self.current.program.config.http;
        let parsed = e.conn.read_head(&input, http, &mut self.slots);
        let mut sink = SliceSink::new(&mut self.scratch);
        let (n, status, written) = match parsed {
            Ok(Parsed::Partial) => return self.more_response_head(io, x, input),
            Err(_) => {
                self.counters.inc(Ctr::OriginBadResponse);
                self.fail(io, x, 502);
                return self.gone_or_moved(x, client);
            }
            Ok(Parsed::Complete(head, n)) => {
                let status = head.status();
                if head.is_interim() {
                    let written = write_interim_to_client(&head, e.version, &mut sink);
                    if status == 100 {
                        e.server.continued();
                    }
                    (n, status, written.map(|_| ()))
                } else if status == 101 {
                    let ctx =
                        ToClient { version: e.version, method: e.method, keep_alive: true, date: &self.date };
                    e.responding = true;
                    (n, status, write_response_to_client(&head, &ctx, &mut sink))
                } else {
                    if self.draining {
                        e.server.close_soon_after();
                    }
                    let framing = outgoing_body(&head, e.version);
                    let keep = e.server.respond(framing);
                    e.down.chunked = framing == BodyLength::Chunked;
                    e.responding = true;
                    e.head = None;
                    let ctx =
                        ToClient { version: e.version, method: e.method, keep_alive: keep, date: &self.date };
                    (n, status, write_response_to_client(&head, &ctx, &mut sink))
                }
            }
        };
        let len = sink.len();
        let mut rest = input;
        rest.advance(n);
        io.tcp.consume(origin, n as u32);
        let e = &mut self.exchanges[x];
        if !rest.is_empty() {
            e.origin_in = Some(rest);
        }
        let idle = e.idle_ns();
        io.tcp.set_timer(origin, io.now.plus_ns(idle));
        let interim = status < 200 && status != 101;
        if interim {
            self.counters.inc(Ctr::Http1xx);
        } else {
            self.counters.record(Hist::FirstByteOrigin, io.now.since_ns(e.started));
            count_status(&self.counters, status);
        }
        if written.is_err() || (len > 0 && !self.send_scratch(io, x, len)) {
            self.break_off(io, x);
            return Step::Gone;
        }
        if status == 101 {
            self.counters.inc(Ctr::HttpTunnels);
            let e = &mut self.exchanges[x];
            e.server.upgrade();
            e.tunnel = true;
        } else if !interim && self.exchanges[x].conn.is_response_complete() {
            return self.response_done(io, x);
        }
        Step::Moved
    }

    fn more_response_head(&mut self, io: &mut Io<'_>, x: ExchangeId, input: Slice) -> Step {
        let e = &mut self.exchanges[x];
        let (client, origin) = (e.client, e.origin);
        match gather(&self.cells, io.tcp, origin, input) {
            Gathered::More(joined) => {
                e.origin_in = Some(joined);
                Step::Moved
            }
            Gathered::NoRoom => {
                self.counters.inc(Ctr::OriginBadResponse);
                self.fail(io, x, 502);
                self.gone_or_moved(x, client)
            }
            Gathered::Waits(_) if io.tcp.at_end(origin) => {
                self.origin_eof(io, x, false);
                self.gone_or_moved(x, client)
            }
            Gathered::Waits(input) => {
                e.origin_in = Some(input);
                Step::Waits
            }
        }
    }

    fn response_body(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        if self.down_is_full(io, x) {
            return Step::Waits;
        }
        let e = &mut self.exchanges[x];
        let (client, origin) = (e.client, e.origin);
        let Some(input) = e.origin_in.take().or_else(|| io.tcp.read(origin)) else {
            if !io.tcp.at_end(origin) || e.conn.is_response_complete() {
                return Step::Waits;
            }
            // Ends a body that is framed by closing; anything else is cut short.
            if e.conn.on_eof(false) == ClientEof::Clean && e.conn.is_response_complete() {
                return self.response_done(io, x);
            }
            self.counters.inc(Ctr::OriginClosedEarly);
            self.break_off(io, x);
            return Step::Gone;
        };
        let idle = e.idle_ns();
        io.tcp.set_timer(origin, io.now.plus_ns(idle));
        let conn = &mut e.conn;
        let moved = move_body(&mut e.down, io.tcp, client, &self.cells.payload, input, |b| {
            let (step, n) = conn.read_body(b)?;
            Ok((step, n, conn.is_response_complete()))
        });
        let gathered = match moved {
            Moved::Open => return Step::Moved,
            Moved::Complete(rest) => {
                if !rest.is_empty() {
                    e.origin_in = Some(rest);
                }
                self.complete(io, x);
                return self.gone_or_moved(x, client);
            }
            Moved::Rest(rest) => gather(&self.cells, io.tcp, origin, rest),
            Moved::Refused(_) => {
                self.counters.inc(Ctr::OriginBadResponse);
                self.break_off(io, x);
                return Step::Gone;
            }
            Moved::NoRoom => Gathered::NoRoom,
        };
        match gathered {
            Gathered::More(joined) => {
                e.origin_in = Some(joined);
                Step::Moved
            }
            Gathered::Waits(rest) => {
                e.origin_in = Some(rest);
                Step::Waits
            }
            Gathered::NoRoom => {
                // A client that has left within this burst is no shortage.
                if io.tcp.state(client) != State::Closed {
                    self.counters.inc(Ctr::PoolPayloadEmpty);
                }
                self.break_off(io, x);
                Step::Gone
            }
        }
    }

    /// A response without (more) body is complete.
    fn response_done(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &mut self.exchanges[x];
        let client = e.client;
        if !e.down.end(io.tcp, client, &self.cells.payload) {
            self.break_off(io, x);
            return Step::Gone;
        }
        self.complete(io, x);
        self.gone_or_moved(x, client)
    }

    // ── Tunnels ─────────────────────────────────────────────────────────────────────────────────────

    fn tunnel_up(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        if self.up_is_full(io, x) {
            return Step::Waits;
        }
        let e = &mut self.exchanges[x];
        let (client, origin) = (e.client, e.origin);
        let Some(piece) = e.client_in.take().or_else(|| io.tcp.read(client)) else {
            return self.tunnel_end(io, x, client, origin);
        };
        e.up.held += piece.len() as u32;
        if io.tcp.send(origin, piece).is_err() {
            self.break_off(io, x);
            return Step::Gone;
        }
        Step::Moved
    }

    fn tunnel_down(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        if self.down_is_full(io, x) {
            return Step::Waits;
        }
        let e = &mut self.exchanges[x];
        let (client, origin) = (e.client, e.origin);
        let Some(piece) = e.origin_in.take().or_else(|| io.tcp.read(origin)) else {
            return self.tunnel_end(io, x, origin, client);
        };
        e.down.held += piece.len() as u32;
        let idle = e.idle_ns();
        io.tcp.set_timer(origin, io.now.plus_ns(idle));
        if io.tcp.send(client, piece).is_err() {
            self.break_off(io, x);
            return Step::Gone;
        }
        Step::Moved
    }

    /// One side of a tunnel has nothing to read: when it has ended, so does our side towards the other.
    fn tunnel_end(&mut self, io: &mut Io<'_>, x: ExchangeId, from: FlowId, to: FlowId) -> Step {
        if !io.tcp.at_end(from) {
            return Step::Waits;
        }
        io.tcp.shutdown(to);
        if io.tcp.at_end(to) {
            // Both have ended.
            io.tcp.shutdown(from);
            let e = &mut self.exchanges[x];
            let origin = std::mem::replace(&mut e.origin, FlowId::NONE);
            io.tcp.orphan(origin, io.now);
            self.close_client(io, x);
            return Step::Gone;
        }
        Step::Waits
    }
}

fn write_head(
    head: &crate::http1::RequestHead<'_>,
    site: &super::Site,
    tcp: &Tcp,
    client: FlowId,
    scratch: &mut [u8],
    cells: &Cells,
) -> Option<Slice> {
    let authority = match &site.answer {
        super::Answer::Origins(o) => o.first().map(|o| &o.authority[..]),
        super::Answer::Stub(_) => None,
    };
    let ctx = ToOrigin {
        client_ip: tcp.tuple(client).remote.ip(),
        client_tls: false,
        host: if head.authority().is_empty() { authority } else { None },
        forward_expect: true,
        forward_upgrade: true,
        keep_alive: true,
    };
    let mut sink = SliceSink::new(scratch);
    write_request_to_origin(head, &ctx, &mut sink).ok()?;
    cells.store(sink.written())
}
