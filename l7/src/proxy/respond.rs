//! What we say ourselves: errors, the stub's answer; and how an exchange ends.

use dataplane::{Counters, Ctr, Hist, Slice};
use stack::{FlowId, State};

use super::exchange::{ExchangeId, Role};
use super::peers::PeerId;
use super::pump::Step;
use super::{Io, Proxy};
use crate::cache::policy::status::{CacheStatus, Fwd, write_cache_status};
use crate::http1::bytes::format_decimal;
use crate::http1::{
    AfterResponse, BodyLength, ErrorContext, HeadSink, Method, ServerState, SliceSink, Version, write_error,
    write_error_head,
};
use crate::phases::{EditList, Mark};

/// Room for a Cache-Status line of a response that is passed on.
pub(super) const CACHE_STATUS_BYTES: usize = 64;

/// Counts a final response.
pub(super) fn count_status(c: &Counters, status: u16) {
    c.inc(match status / 100 {
        2 => Ctr::Http2xx,
        3 => Ctr::Http3xx,
        4 => Ctr::Http4xx,
        5 => Ctr::Http5xx,
        _ => Ctr::HttpOther,
    });
}

/// Bytes behind the head of a response.
fn body_bytes(response: &[u8]) -> u64 {
    let end = response.windows(4).position(|w| w == b"\r\n\r\n").map_or(response.len(), |at| at + 4);
    (response.len() - end) as u64
}

impl Proxy {
    /// Answers with an error of ours; when a response has begun, breaks it off instead.
    pub(super) fn fail(&mut self, io: &mut Io<'_>, x: ExchangeId, status: u16) {
        if self.exchanges[x].is_fetch() {
            self.fetch_failed(io, x, status);
            return;
        }
        self.detach(io, x);
        self.drop_origin(io, x);
        let e = &mut self.exchanges[x];
        if e.responding || !matches!(e.server.state(), ServerState::Exchange | ServerState::Head) {
            self.break_off(io, x);
            return;
        }
        if e.server.state() == ServerState::Head && e.logged.to.is_none() {
            self.begin_unreadable(io, x);
        }
        let e = &mut self.exchanges[x];
        let keep = e.server.respond(BodyLength::Length(0)) && !self.draining;
        if !keep {
            e.server.close_soon();
        }
        e.responding = true;
        e.status = status;
        let plan = e.plan.clone();
        let sites = plan.as_ref().map_or(&[][..], |p| &p.program.config.sites[..]);
        let page = sites.get(e.site as usize).and_then(|s| s.pages.find(status));
        let ctx =
            ErrorContext { method: Some(e.method), version: Some(e.version), close: !keep, date: &self.date };
        let mut sink = SliceSink::new(&mut self.scratch);
        let written = match page {
            None => write_error(status, &ctx, &mut sink),
            Some(p) => {
                let (kind, length) = (p.content_type(), p.body().len() as u64);
                write_error_head(status, &ctx, kind, length, &EditList::NONE, &mut sink)
            }
        };
        let n = sink.len();
        if page.is_none() {
            e.down.body = body_bytes(sink.written());
        }
        let is_head = e.method == Method::Head;
        let mut sent = written.is_ok() && self.send_scratch(io, x, n);
        if let (Some(page), false) = (page, is_head) {
            sent = sent && self.send_page(io, x, page.body());
        }
        count_status(&self.counters, status);
        if sent { self.finish_response(io, x) } else { self.break_off(io, x) }
    }

    /// Sends an error page, in as many cells as it takes.
    fn send_page(&mut self, io: &mut Io<'_>, x: ExchangeId, page: &[u8]) -> bool {
        for piece in page.chunks(self.cells.payload.cell_bytes() as usize) {
            let Some(s) = self.cells.store(piece) else {
                self.counters.inc(Ctr::PoolPayloadEmpty);
                return false;
            };
            let e = &mut self.exchanges[x];
            if io.tcp.send(e.client, s).is_err() {
                return false;
            }
            e.down.body += piece.len() as u64;
        }
        true
    }

    /// What a response that is passed on says of the cache (RFC 9211): why the request went past it. Nothing where the
    /// route has none, or does not say; and errors of ours have none either, as they come from no cache (section 2).
    pub(super) fn cache_status_of<'b>(
        &self,
        x: ExchangeId,
        line: &'b mut [u8; CACHE_STATUS_BYTES],
    ) -> &'b [u8] {
        let e = &self.exchanges[x];
        let Some(plan) = &e.plan else { return b"" };
        let route = plan.route(e.route);
        if route.cache.is_none() || !route.cache_status {
            return b"";
        }
        // Whatever has kept it from being served has left the reason, or has found nothing of use.
        let status = CacheStatus::forwarded(e.fwd.unwrap_or(Fwd::Miss));
        let mut sink = SliceSink::new(line);
        let len = match write_cache_status(&status, &mut sink) {
            Ok(()) => sink.len(),
            Err(_) => 0,
        };
        &line[..len]
    }

    /// Answers a client for whom there is no context: 503, and the connection ends.
    pub(super) fn refuse(&mut self, io: &mut Io<'_>, flow: FlowId) {
        let ctx = ErrorContext { method: None, version: None, close: true, date: &self.date };
        let mut sink = SliceSink::new(&mut self.scratch);
        if write_error(503, &ctx, &mut sink).is_ok()
            && let Some(s) = self.cells.store(sink.written())
        {
            // Without a send record the client sees a close without an answer: it can try again.
            let _ = io.tcp.send(flow, s);
        }
        self.counters.inc(Ctr::Http5xx);
        self.close_idle_client(io, flow);
    }

    /// Answers with a site's stub.
    pub(super) fn respond_stub(&mut self, io: &mut Io<'_>, x: ExchangeId, body: Slice) {
        self.counters.inc(Ctr::HttpStub);
        let e = &mut self.exchanges[x];
        let keep = e.server.respond(BodyLength::Length(body.len() as u64)) && !self.draining;
        if !keep {
            e.server.close_soon();
        }
        let mut sink = SliceSink::new(&mut self.scratch);
        let mut digits = [0u8; 20];
        let length = format_decimal(body.len() as u64, &mut digits);
        let connection: &[u8] = match (keep, e.version) {
            (false, _) => b"\r\nConnection: close\r\n\r\n",
            (true, Version::Http10) => b"\r\nConnection: keep-alive\r\n\r\n",
            (true, _) => b"\r\n\r\n",
        };
        let parts: [&[u8]; 5] = [
            b"HTTP/1.1 200 OK\r\nDate: ",
            &self.date,
            b"\r\nContent-Type: application/octet-stream\r\nContent-Length: ",
            length,
            connection,
        ];
        let written = parts.iter().try_for_each(|p| sink.put(p)).is_ok();
        let n = sink.len();
        let head = e.method == Method::Head;
        let client = e.client;
        e.responding = true;
        e.status = 200;
        e.down.body = if head { 0 } else { body.len() as u64 };
        count_status(&self.counters, 200);
        let ok = written && self.send_scratch(io, x, n) && (head || io.tcp.send(client, body).is_ok());
        if ok { self.finish_response(io, x) } else { self.break_off(io, x) }
    }

    /// Sends a response without a body that is written in the scratch buffer.
    pub(super) fn respond_written(&mut self, io: &mut Io<'_>, x: ExchangeId, len: usize, status: u16) {
        count_status(&self.counters, status);
        self.exchanges[x].responding = true;
        self.exchanges[x].status = status;
        if self.send_scratch(io, x, len) { self.finish_response(io, x) } else { self.break_off(io, x) }
    }

    /// Sends the first `n` bytes of the scratch buffer to the client.
    pub(super) fn send_scratch(&mut self, io: &mut Io<'_>, x: ExchangeId, n: usize) -> bool {
        let Some(s) = self.cells.store(&self.scratch[..n]) else {
            self.counters.inc(Ctr::PoolPayloadEmpty);
            return false;
        };
        let e = &mut self.exchanges[x];
        if e.responding {
            e.timings.mark(Mark::FirstByte, io.now.0);
        }
        io.tcp.send(e.client, s).is_ok()
    }

    /// The origin's response is complete, and handed to TCP.
    pub(super) fn complete(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        if self.exchanges[x].is_fetch() {
            self.fetch_complete(io, x);
            return;
        }
        self.give_back(io, x);
        self.finish_response(io, x);
    }

    /// The response is handed to TCP to its last byte: what comes next on the connection?
    pub(super) fn finish_response(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        self.counters.inc(Ctr::HttpComplete);
        let e = &mut self.exchanges[x];
        self.counters.record(Hist::LastByte, io.now.since_ns(e.started));
        e.timings.mark(Mark::LastByte, io.now.0);
        self.log_request(x);
        let e = &mut self.exchanges[x];
        if e.server.state() != ServerState::Exchange {
            // Told to close when it was idle already.
            self.close_client(io, x);
            return;
        }
        match e.server.responded() {
            AfterResponse::NextRequest => {
                let held = std::mem::take(&mut e.up.held);
                if held > 0 {
                    io.tcp.consume(e.client, held);
                }
                e.reset_request();
                let client = e.client;
                let times = self.config().client;
                // A handshake has the time of a head, whatever was answered meanwhile.
                let patience = if io.tcp.is_shaking(client) { times.header_ns } else { times.keep_alive_ns };
                io.tcp.set_timer(client, io.now.plus_ns(patience));
            }
            AfterResponse::Drain => {
                let held = std::mem::take(&mut e.up.held);
                io.tcp.consume(e.client, held);
                e.reset_request();
                io.tcp.set_timer(e.client, io.now.plus_ns(self.config().client.header_ns));
            }
            AfterResponse::Linger | AfterResponse::Close => self.close_client(io, x),
        }
    }

    /// Ends the client's connection in order. What it still sends is thrown away by TCP for a while.
    pub(super) fn close_client(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        self.detach(io, x);
        self.drop_origin(io, x);
        io.tcp.orphan(self.exchanges[x].client, io.now);
        self.clients -= 1;
        self.end(x);
    }

    /// The response ends before its end, by no fault of the client's. It gets what has come of it; then its connection ends
    /// so that it cannot take that for the whole. A length that is not reached tells, or a last chunk that is not there: then
    /// TCP ends in order, and TLS does not say so (RFC 9112, 8 and 9.8). A body that ends with its connection is followed by a
    /// reset, when the client has all that is queued.
    pub(super) fn cut_short(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &self.exchanges[x];
        let client = e.client;
        let is_open = !e.is_fetch() && e.responding && io.tcp.state(client) != State::Closed;
        let tells = !e.tunnel && !e.down.unframed;
        if !is_open || !tells && io.tcp.queued(client) == 0 {
            self.break_off(io, x);
            return;
        }
        let idle = e.idle_ns();
        self.detach(io, x);
        self.drop_origin(io, x);
        if tells {
            self.counters.inc(Ctr::HttpAborted);
            io.tcp.orphan_cut(client, io.now);
            self.clients -= 1;
            self.end(x);
        } else {
            self.exchanges[x].is_cut = true;
            io.tcp.set_timer(client, io.now.plus_ns(idle));
        }
    }

    /// The response was cut short: the reset goes out when the client has what came before it.
    #[cold]
    pub(super) fn cut_step(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        if io.tcp.queued(self.exchanges[x].client) > 0 {
            return Step::Waits;
        }
        self.break_off(io, x);
        Step::Gone
    }

    /// Ends the exchange at once, so that the client cannot take what it got for the whole. What is queued for it is lost.
    pub(super) fn break_off(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        if self.exchanges[x].is_fetch() {
            self.fetch_failed(io, x, 502);
            return;
        }
        self.detach(io, x);
        // A client that has left in the same burst is not the origin's failure; its event would say so next.
        let gone = io.tcp.state(self.exchanges[x].client) == State::Closed;
        self.counters.inc(if gone { Ctr::HttpClientGone } else { Ctr::HttpAborted });
        self.drop_origin(io, x);
        io.tcp.abort(self.exchanges[x].client);
        self.clients -= 1;
        self.end(x);
    }

    /// The connection goes on without a request: all that is kept of it is its flow.
    pub(super) fn go_idle(&mut self, io: &mut Io<'_>, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        let client = e.client;
        let peer = std::mem::replace(&mut e.peer_id, PeerId::NONE);
        let role = if e.announces { Role::Announces } else { Role::IdleClient { peer } };
        io.tcp.set_user(client, role.encode());
        self.end(x);
        if self.draining {
            self.close_idle_client(io, client);
        }
    }

    /// Gives the context back.
    pub(super) fn end(&mut self, x: ExchangeId) {
        self.log_request(x);
        let e = &mut self.exchanges[x];
        self.peers.remove(std::mem::replace(&mut e.peer_id, PeerId::NONE));
        e.reset_request();
        e.client_in = None;
        e.plan = None;
        e.client = FlowId::NONE;
        self.exchanges.free(x);
    }
}
