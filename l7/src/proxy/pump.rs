//! Moving an exchange on: as far as what has arrived, and the other side's room, allow.

use dataplane::{Ctr, Hist, Slice};
use stack::{FlowId, State};

use super::body::{Gathered, Moved, gather, move_body};
use super::exchange::ExchangeId;
use super::respond::{CACHE_STATUS_BYTES, count_status};
use super::side::{Outcome, Side};
use super::{Io, Proxy, settle};
use crate::http1::{
    BodyLength, ClientEof, ClientState, Discarded, HeadScan, Parsed, ResponseHead, ServerEof, ServerState,
    SliceSink, ToClient, outgoing_body, parse_request, write_interim_to_client, write_response_to_client,
};
use crate::phases::{CleanPath, EditList, RequestView, ResponseView};

/// Steps of one exchange in a row: pieces, heads, requests. Then the others get their turn.
const STEPS_MAX: usize = 64;
/// An exchange that nothing will wake looks again after this.
const SOON_NS: u64 = 5_000_000;

/// What came of a response's head.
pub(super) enum Took {
    /// It is not what it says it is, or too long.
    Refused,
    /// A fetch's: not for the store.
    NotForStore,
    /// A fetch's: as good as no answer.
    Failed(u16),
    /// A fetch's: it is over, with this for the client whose it is.
    Ends(Outcome),
    /// The origin wants the request again, when the client's handshake is done: `n` bytes of head say so.
    TooEarly { n: usize },
    /// Its bytes, its status, and the bytes in the scratch buffer that go to the client.
    Head { n: usize, status: u16, len: usize },
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
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
        let e = &self.exchanges[x];
        io.tcp.wake(if e.is_fetch() { e.origin } else { e.client });
        true
    }

    /// Opens windows by what the other sides have acknowledged, and moves the stall timers on.
    fn settle(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        self.keep_input(x);
        let e = &mut self.exchanges[x];
        if e.is_fetch() {
            return; // Its bytes are consumed as they are stored.
        }
        settle(&mut e.up, &mut io.tcp, e.client, e.origin);
        if e.origin.is_some() {
            settle(&mut e.down, &mut io.tcp, e.origin, e.client);
        }
        // One that waits for its handshake has the time that it had for its head.
        if (e.server.state() == ServerState::Exchange || e.tunnel) && !e.early.waits() {
            let patience = if std::mem::take(&mut e.soon) { SOON_NS } else { e.idle_ns() };
            io.tcp.set_timer(e.client, io.now.plus_ns(patience));
        }
    }

    // ── From the client ─────────────────────────────────────────────────────────────────────────────

    fn client_step(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        if self.exchanges[x].is_cut {
            return self.cut_step(io, x);
        }
        if self.exchanges[x].tunnel {
            return self.tunnel_up(io, x);
        }
        if self.exchanges[x].is_fetch() {
            return Step::Waits;
        }
        if self.exchanges[x].early.waits() {
            return self.after_handshake(io, x);
        }
        match self.exchanges[x].server.state() {
            ServerState::Idle if self.exchanges[x].announces => self.proxy_header(io, x),
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

    /// Whether an exchange that may have ended in a call still is the one of `client`.
    pub(super) fn gone_or_moved(&self, x: ExchangeId, client: FlowId) -> Step {
        if self.exchanges.is_used(x) && self.exchanges[x].client == client { Step::Moved } else { Step::Gone }
    }

    /// The head is not complete: puts the next piece behind it.
    pub(super) fn more_head(&mut self, io: &mut Io<'_>, x: ExchangeId, input: Slice) -> Step {
        let e = &mut self.exchanges[x];
        match gather(&self.cells, &mut io.tcp, e.client, input) {
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
    pub(super) fn take_client(&mut self, io: &mut Io<'_>, x: ExchangeId, mut input: Slice, n: usize) {
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
        e.starved = 0;
        e.conn.request_body_used();
        let first_byte = e.plan.as_ref().map_or(u64::MAX, |v| v.route(e.route).timeouts.first_byte_ns);
        if e.conn.state() == ClientState::AwaitingHead {
            io.tcp.set_timer(e.origin, io.now.plus_ns(first_byte));
        }
        let server = &mut e.server;
        let moved = move_body(&mut e.up, &mut io.tcp, e.origin, &self.cells.payload, input, |b| {
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
            Moved::Rest(rest) => match gather(&self.cells, &mut io.tcp, client, rest) {
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
            let (left, step) = match gather(&self.cells, &mut io.tcp, client, input) {
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
        match &e.side {
            Side::Waits(_) => return self.waits_step(io, x),
            Side::Reads(_) => return self.reads_step(io, x),
            Side::Direct | Side::Fetches(_) => {}
        }
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
        let Some(mut bench) = self.response_bench.take() else { return Step::Waits };
        let before = e.conn;
        let http = &self.current.program.config.http;
        let parsed = e.conn.read_head(&input, http, &mut bench.slots);
        let done = match &parsed {
            Ok(Parsed::Partial) => None,
            Err(_) => Some(Took::Refused),
            Ok(Parsed::Complete(head, n)) => {
                if !head.is_interim() {
                    e.origin_answers(io.now, &self.counters);
                }
                Some(self.take_response(io, x, head, *n))
            }
        };
        self.response_bench = Some(bench);
        match done {
            None => self.more_response_head(io, x, input),
            Some(Took::Refused) => {
                self.counters.inc(Ctr::OriginBadResponse);
                self.exchanges[x].blame = true;
                self.fail(io, x, 502);
                self.gone_or_moved(x, client)
            }
            Some(Took::Failed(status)) => {
                self.fetch_failed(io, x, status);
                Step::Gone
            }
            Some(Took::Ends(outcome)) => {
                self.drop_origin(io, x);
                self.end_fetch(io, x, outcome);
                Step::Gone
            }
            Some(Took::TooEarly { n }) => {
                let mut rest = input;
                rest.advance(n);
                io.tcp.consume(origin, n as u32);
                self.exchanges[x].origin_in = (!rest.is_empty()).then_some(rest);
                self.too_early(io, x)
            }
            Some(Took::NotForStore) => {
                self.hand_over(io, x, before, input);
                Step::Gone
            }
            Some(Took::Head { n, status, len }) => self.response_head_done(io, x, input, n, status, len),
        }
    }

    /// Takes a response's head: writes what the client gets of it into the scratch buffer, or, in a fetch, the
    /// object's.
    fn take_response(&mut self, io: &mut Io<'_>, x: ExchangeId, head: &ResponseHead<'_>, n: usize) -> Took {
        self.exchanges[x].blame = head.status() >= 500 && !matches!(head.status(), 501 | 505);
        if self.exchanges[x].is_fetch() {
            return self.fetch_head(io, x, head, n);
        }
        if head.status() == 425 && self.exchanges[x].early.takes_425() {
            return Took::TooEarly { n };
        }
        if let Some(request) = self.exchanges[x].request.clone()
            && !head.is_interim()
        {
            return self.take_with_request(io, x, &request, head, n);
        }
        self.write_response(x, head, n, EditList::NONE)
    }

    /// Takes a response whose request has to be read once more: modules look at it, or it made something invalid.
    fn take_with_request(
        &mut self,
        io: &Io<'_>,
        x: ExchangeId,
        request: &Slice,
        head: &ResponseHead<'_>,
        n: usize,
    ) -> Took {
        let Some(mut bench) = self.bench.take() else { return Took::Refused };
        let http = self.current.program.config.http;
        let took = match parse_request(request, &mut HeadScan::new(), &http, &mut bench.slots) {
            Ok(Parsed::Complete(asked, _)) => {
                let plan = self.plan(x);
                let e = &self.exchanges[x];
                let (route, https) = (plan.route(e.route), e.is_https());
                if let Some(rules) = &route.cache {
                    self.invalidate(io, &asked, https, head, rules);
                }
                let path = if asked.path() == b"*" { b"/" } else { asked.path() };
                let clean = CleanPath::of(path, &mut bench.path).unwrap_or(path);
                let identity = self.exchanges[x].identity.clone();
                let view = RequestView::of(&asked, self.exchanges[x].scheme, self.exchanges[x].peer, clean);
                let view = view.by(identity.as_deref());
                let seen = ResponseView { status: head.status(), headers: Some(head.headers()) };
                let mut edits = route.modules.origin_response(&view, &seen);
                // Each phase has room for all of its modules; what does not fit beside the other's is left out.
                for edit in route.modules.response(&view, &seen) {
                    let _ = edits.try_push(edit);
                }
                self.write_response(x, head, n, EditList { edits: &edits, vars: view.vars() })
            }
            _ => Took::Refused,
        };
        self.bench = Some(bench);
        took
    }

    /// Writes the head of a response for the client into the scratch buffer.
    fn write_response(
        &mut self,
        x: ExchangeId,
        head: &ResponseHead<'_>,
        n: usize,
        edits: EditList<'_>,
    ) -> Took {
        let mut own = [0; CACHE_STATUS_BYTES];
        let own = self.cache_status_of(x, &mut own);
        let e = &mut self.exchanges[x];
        let status = head.status();
        let mut sink = SliceSink::new(&mut self.scratch);
        let written = if head.is_interim() {
            if status == 100 {
                e.server.continued();
            }
            write_interim_to_client(head, e.version, &mut sink).map(|_| ())
        } else {
            let keep_alive = if status == 101 {
                true
            } else {
                if self.draining {
                    e.server.close_soon_after();
                }
                let framing = outgoing_body(head, e.version);
                e.down.chunked = framing == BodyLength::Chunked;
                e.down.unframed = framing == BodyLength::UntilClose;
                e.head = None;
                e.server.respond(framing)
            };
            e.responding = true;
            let (version, method) = (e.version, e.method);
            let ctx = ToClient { version, method, keep_alive, date: &self.date, own, edits };
            write_response_to_client(head, &ctx, &mut sink)
        };
        match written {
            Ok(()) => Took::Head { n, status, len: sink.len() },
            Err(_) => Took::Refused,
        }
    }

    fn response_head_done(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        input: Slice,
        n: usize,
        status: u16,
        len: usize,
    ) -> Step {
        let origin = self.exchanges[x].origin;
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
        if e.is_fetch() {
            if !interim && e.conn.is_response_complete() {
                self.fetch_complete(io, x);
                return Step::Gone;
            }
            return Step::Moved;
        }
        if interim {
            self.counters.inc(Ctr::Http1xx);
        } else {
            self.counters.record(Hist::FirstByteOrigin, io.now.since_ns(e.started));
            count_status(&self.counters, status);
            e.status = status;
            // Nobody reads it any more, however long the body is, or the tunnel lasts.
            e.request = None;
        }
        if len > 0 && !self.send_scratch(io, x, len) {
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
        match gather(&self.cells, &mut io.tcp, origin, input) {
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
        if self.exchanges[x].is_fetch() {
            let moved = self.fetch_body(io, x);
            let alive = self.exchanges.is_used(x) && self.exchanges[x].is_fetch();
            return if !alive {
                Step::Gone
            } else if moved {
                Step::Moved
            } else {
                Step::Waits
            };
        }
        if self.down_is_full(io, x) {
            return Step::Waits;
        }
        let e = &mut self.exchanges[x];
        let (client, origin) = (e.client, e.origin);
        if let Some(spill) = e.spill.take()
            && !e.down.forward(&mut io.tcp, client, &self.cells.payload, spill)
        {
            self.break_off(io, x);
            return Step::Gone;
        }
        let Some(input) = e.origin_in.take().or_else(|| io.tcp.read(origin)) else {
            if !io.tcp.at_end(origin) || e.conn.is_response_complete() {
                return Step::Waits;
            }
            // Ends a body that is framed by closing; anything else is cut short.
            if e.conn.on_eof(false) == ClientEof::Clean && e.conn.is_response_complete() {
                return self.response_done(io, x);
            }
            return self.ends_short(io, x);
        };
        let idle = e.idle_ns();
        io.tcp.set_timer(origin, io.now.plus_ns(idle));
        e.starved = 0;
        let conn = &mut e.conn;
        let moved = move_body(&mut e.down, &mut io.tcp, client, &self.cells.payload, input, |b| {
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
            Moved::Rest(rest) => gather(&self.cells, &mut io.tcp, origin, rest),
            Moved::Refused(_) => {
                e.blame = true;
                self.counters.inc(Ctr::OriginBadResponse);
                self.cut_short(io, x);
                return self.gone_or_moved(x, client);
            }
            Moved::NoRoom => Gathered::NoRoom,
        };
        match gathered {
            Gathered::More(joined) => {
                e.origin_in = Some(joined);
                Step::Moved
            }
            // The rest of a line that will never come.
            Gathered::Waits(_) if io.tcp.at_end(origin) => self.ends_short(io, x),
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

    /// The origin has ended a body before its end.
    fn ends_short(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &mut self.exchanges[x];
        let client = e.client;
        e.blame = true;
        self.counters.inc(Ctr::OriginClosedEarly);
        self.cut_short(io, x);
        self.gone_or_moved(x, client)
    }

    /// A response without (more) body is complete.
    fn response_done(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let e = &mut self.exchanges[x];
        let client = e.client;
        if !e.down.end(&mut io.tcp, client, &self.cells.payload) {
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
        e.down.body += piece.len() as u64;
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
