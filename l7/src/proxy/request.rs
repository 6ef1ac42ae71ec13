//! A request's head: who answers it, and how.

use std::rc::Rc;

use dataplane::{Ctr, Slice};
use stack::FlowId;

use super::cached::{Asked, Serving};
use super::config::{Answer, ClientAuth};
use super::early::Early;
use super::exchange::{Exchange, ExchangeId, NO_SITE};
use super::fetch::Goal;
use super::log::{LogTo, Logged};
use super::plan::Plan;
use super::pump::Step;
use super::side::SliceOf;
use super::{Io, Proxy};
use crate::cache::policy::blob::Blob;
use crate::cache::policy::validate::write_fetch_head;
use crate::cache::store::{Fill, ObjectId};
use crate::http1::{
    BodyLength, ErrorContext, HeaderSlots, Method, Parsed, RequestHead, ServerState, SliceSink, ToOrigin,
    Upgrade, Version, write_request_to_origin,
};
use crate::phases::{self, CleanPath, EditList, HeadEdit, Phase, RequestView, write_answer};

/// Where heads are taken apart: lent to whoever parses one, so that the rest of the proxy stays at hand.
pub(super) struct Bench {
    pub slots: HeaderSlots,
    pub path: [u8; CleanPath::ROOM],
}

impl Bench {
    pub fn new() -> Box<Bench> {
        Box::new(Bench { slots: HeaderSlots::new(), path: [0; CleanPath::ROOM] })
    }
}

/// What is to be done about a request whose head has been read.
pub(super) enum Act {
    /// An error of ours.
    Error(u16),
    /// A response without a body from the store, or a module's answer, is written in the scratch buffer.
    Written { len: usize, status: u16 },
    /// The connection ends without a word.
    Close,
    /// Nothing yet: it waits for the client's handshake.
    Hold,
    /// The stub.
    Stub(Slice),
    /// To the origin; the exchange has the head.
    Forward,
    /// A stored response.
    Serve(Serving),
    /// The beginning of a stored response, whose rest is in other slices.
    ServeSlices(Serving),
    /// Wait for this object: it is being filled, or validated by somebody.
    Wait { object: ObjectId, validates: bool },
    /// Fetch it.
    Fetch { head: Slice, hash: u64, fill: Fill, slice: Option<SliceOf> },
    /// Ask the origin whether this one is still good.
    Validate { head: Slice, hash: u64, object: ObjectId, slice: Option<SliceOf> },
}

impl Proxy {
    pub(super) fn request_head(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
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
        if self.draining || io.tcp.is_worn(client) {
            e.server.close_soon_after();
        }
        e.touch();
        if e.server.state() == ServerState::Idle {
            // The next request of the connection follows what is current now.
            e.plan = Some(Rc::clone(&self.current));
        }
        let Some(mut bench) = self.bench.take() else { return Step::Waits };
        let http = &self.current.program.config.http;
        let parsed = self.exchanges[x].server.read_head(&input, http, &mut bench.slots);
        let done = match parsed {
            Ok(Parsed::Complete(head, n)) => {
                let e = &mut self.exchanges[x];
                e.method = head.method();
                e.version = head.version();
                e.request_body = head.body();
                e.upgrade = head.upgrade() != Upgrade::None;
                e.up.chunked = head.body() == BodyLength::Chunked;
                e.started = io.now;
                e.begin_log(io.now);
                self.exchanges[x].peer = self.client_address(&io.tcp, x).ip();
                let e = &mut self.exchanges[x];
                if e.is_https() {
                    e.identity = io.tcp.identity(client).cloned();
                }
                self.counters.inc(Ctr::HttpRequests);
                // For those that will be read again: a fetch's, and a request's that waits.
                e.request = Some(input.view(0, n));
                if io.tcp.is_shaking(client) {
                    self.comes_early(x, &head);
                }
                let act = match self.exchanges[x].early {
                    Early::Held => Act::Hold,
                    _ => self.act(io, x, &head, &mut bench.path),
                };
                let to = self.log_of(x);
                if to.is_some() {
                    let kept = self.head_for_log(x, &head);
                    self.exchanges[x].logged = Logged { to, head: kept };
                }
                self.keep_request(x, &act);
                Some((n, act))
            }
            Ok(Parsed::Partial) => None,
            Err(r) => {
                self.counters.inc(Ctr::HttpRequests);
                self.counters.inc(Ctr::HttpRejected);
                self.begin_unreadable(io, x);
                Some((input.len(), Act::Error(r.status)))
            }
        };
        self.bench = Some(bench);
        let Some((consumed, act)) = done else { return self.more_head(io, x, input) };
        self.take_client(io, x, input, consumed);
        self.do_act(io, x, act, 0);
        self.gone_or_moved(x, client)
    }

    /// Lets go of a request's head, unless it will be read again.
    pub(super) fn keep_request(&mut self, x: ExchangeId, act: &Act) {
        let e = &mut self.exchanges[x];
        let again =
            matches!(act, Act::Wait { .. } | Act::Fetch { .. } | Act::Validate { .. } | Act::ServeSlices(_));
        if !again
            && e.early == Early::No
            && !e.plan.as_ref().is_some_and(|p| p.route(e.route).reads_request_later(e.method))
        {
            e.request = None;
        }
        self.keep_head(x);
    }

    /// Where a request is logged.
    pub(super) fn log_of(&self, x: ExchangeId) -> Option<LogTo> {
        let e = &self.exchanges[x];
        let config = &e.plan.as_ref()?.program.config;
        config.sites.get(e.site as usize).map_or(config.log, |s| s.log)
    }

    /// A request whose head cannot be read, or does not come: it is logged with what is known of it.
    pub(super) fn begin_unreadable(&mut self, io: &Io<'_>, x: ExchangeId) {
        let peer = self.client_address(&io.tcp, x).ip();
        let e = &mut self.exchanges[x];
        e.touch();
        e.site = NO_SITE;
        e.method = Method::Get;
        e.version = Version::Http11;
        e.started = io.now;
        e.begin_log(io.now);
        e.peer = peer;
        let to = self.log_of(x);
        self.exchanges[x].logged = Logged { to, head: None };
    }

    /// Whether a request for `site` came by a connection on which its client was verified otherwise than this site's are,
    /// or not at all (RFC 9110, 15.5.20).
    fn is_another_sites(&self, io: &Io<'_>, x: ExchangeId, site: u16) -> bool {
        let e = &self.exchanges[x];
        let site = e.plan.as_ref().and_then(|p| p.program.config.sites.get(usize::from(site)));
        e.is_https() && site.is_some_and(|site| !site.is_served_over(io.tcp.policy(e.client)))
    }

    /// Whether `site` has nothing for whoever comes without TLS, and so without a certificate. A route may still send them
    /// to where they can show one.
    fn wants_tls_for(&self, x: ExchangeId, site: u16) -> bool {
        let e = &self.exchanges[x];
        let site = e.plan.as_ref().and_then(|p| p.program.config.sites.get(usize::from(site)));
        !e.is_https() && site.is_some_and(|site| site.client_auth == ClientAuth::Required)
    }

    /// Decides who answers a request.
    pub(super) fn act(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        head: &RequestHead<'_>,
        room: &mut [u8; CleanPath::ROOM],
    ) -> Act {
        let plan = self.plan(x);
        let Some(site) = plan.program.router.site(head.host()) else {
            self.counters.inc(Ctr::HttpNoSite);
            return Act::Error(421);
        };
        self.exchanges[x].site = site;
        if self.is_another_sites(io, x, site) {
            self.counters.inc(Ctr::HttpMisdirected);
            // Nothing that can still happen makes it that site's connection.
            self.exchanges[x].server.close_soon_after();
            return Act::Error(421);
        }
        if let Some(algorithm) = plan.program.config.sites[site as usize].congestion {
            io.tcp.set_algorithm(self.exchanges[x].client, algorithm);
        }
        let path = if head.path() == b"*" { b"/" } else { head.path() };
        let Some(clean) = CleanPath::of(path, room) else {
            self.counters.inc(Ctr::HttpRejected);
            return Act::Error(400);
        };
        let Some(place) = plan.program.router.route(site, clean) else { return Act::Error(404) };
        let number = plan.program.config.sites[site as usize].routes[place as usize].1;
        self.exchanges[x].route = number;
        // An operator's redirects and rules are for others: the server comes by http, and without a certificate.
        if let Some(answer) = self.front.proof(head.host(), clean) {
            return match self.cells.store(answer) {
                Some(body) => Act::Stub(body),
                None => {
                    self.counters.inc(Ctr::PoolPayloadEmpty);
                    Act::Error(503)
                }
            };
        }
        let route = plan.route(number);
        let (peer, scheme) = (self.exchanges[x].peer, self.exchanges[x].scheme);
        self.exchanges[x].key = plan.program.config.upstream(number).map_or(0, |u| u.key(head, peer));
        let identity = self.exchanges[x].identity.clone();
        let view = RequestView::of(head, scheme, peer, clean).by(identity.as_deref());
        if !route.modules.is_empty(Phase::Request)
            && let Some(answer) = route.modules.request(&view)
        {
            let Some(status) = answer.status() else { return Act::Close };
            if matches!(answer, phases::Answer::Error(_)) {
                return Act::Error(status);
            }
            let e = &mut self.exchanges[x];
            let keep = e.server.respond(BodyLength::Length(0)) && !self.draining;
            if !keep {
                e.server.close_soon();
            }
            let ctx = ErrorContext {
                method: Some(e.method),
                version: Some(e.version),
                close: !keep,
                date: &self.date,
            };
            let pages = &plan.program.config.sites[site as usize].pages;
            let mut sink = SliceSink::new(&mut self.scratch);
            let edits = EditList::NONE;
            return match write_answer(&answer, &view, &ctx, pages, &edits, &mut sink) {
                Ok(()) => Act::Written { len: sink.len(), status },
                Err(_) => Act::Error(500),
            };
        }
        if head.max_forwards() == Some(0) {
            return Act::Error(501);
        }
        match &route.answer {
            Answer::Stub(body) => {
                // Without a cell when the plan was made there may be one now; a body that fits in none has none ever.
                return match plan.stubs[number as usize].clone().or_else(|| self.cells.store(body)) {
                    Some(body) => Act::Stub(body),
                    None => {
                        self.counters.inc(Ctr::PoolPayloadEmpty);
                        Act::Error(503)
                    }
                };
            }
            Answer::Nobody => return Act::Error(404),
            Answer::Upstream(_) => {}
        }
        if self.wants_tls_for(x, site) {
            self.counters.inc(Ctr::HttpNoCertificate);
            return Act::Error(403);
        }
        if let (Some(rules), true) = (&route.cache, self.store.is_some())
            && let Some(act) = self.ask_cache(io, x, head, &view, rules, 0)
        {
            return act;
        }
        self.forward_head(x, head, &view)
    }

    /// Makes ready what goes to the origin, as the client asked for it.
    pub(super) fn forward_head(
        &mut self,
        x: ExchangeId,
        head: &RequestHead<'_>,
        view: &RequestView<'_>,
    ) -> Act {
        match self.origin_head(x, head, view) {
            Some(s) => {
                self.exchanges[x].head = Some(s);
                Act::Forward
            }
            None => {
                self.counters.inc(Ctr::PoolPayloadEmpty);
                Act::Error(503)
            }
        }
    }

    /// The head of the request to the origin, as the client asked for it.
    fn origin_head(
        &mut self,
        x: ExchangeId,
        head: &RequestHead<'_>,
        view: &RequestView<'_>,
    ) -> Option<Slice> {
        let plan = self.plan(x);
        let e = &self.exchanges[x];
        let edits = plan.route(e.route).modules.origin_request(view);
        let ctx = to_origin(&plan, e, head, &edits);
        let mut sink = SliceSink::new(&mut self.scratch);
        write_request_to_origin(head, &ctx, &mut sink).ok()?;
        self.cells.store(sink.written())
    }

    /// The head of the request by which the cache fetches for itself; `stored` is what it asks about.
    pub(super) fn fetch_request(
        &mut self,
        x: ExchangeId,
        asked: &Asked<'_>,
        stored: Option<&Blob<'_>>,
    ) -> Option<Slice> {
        let plan = self.plan(x);
        let e = &self.exchanges[x];
        let edits = plan.route(e.route).modules.origin_request(asked.view);
        let ctx = to_origin(&plan, e, asked.head, &edits);
        let mut sink = SliceSink::new(&mut self.scratch);
        let slice = asked.slice.map(|s| s.wanted);
        write_fetch_head(asked.head, &ctx, stored.copied().into_iter(), slice, &mut sink).ok()?;
        self.cells.store(sink.written())
    }

    /// Does what was decided. `looks`: how often the cache has been asked for this request before.
    pub(super) fn do_act(&mut self, io: &mut Io<'_>, x: ExchangeId, act: Act, looks: u8) {
        match act {
            Act::Error(status) => self.fail(io, x, status),
            Act::Written { len, status } => self.respond_written(io, x, len, status),
            Act::Close => self.close_client(io, x),
            Act::Hold => {}
            Act::Stub(body) => self.respond_stub(io, x, body),
            Act::Forward => self.forward(io, x),
            Act::Serve(serving) => self.serve(io, x, serving),
            Act::ServeSlices(serving) => self.serve_slices(io, x, serving),
            Act::Wait { object, validates } => {
                self.counters.inc(Ctr::CacheCollapsed);
                self.wait_on(x, object, ExchangeId::NONE, validates, looks);
            }
            Act::Fetch { head, hash, fill, slice } => {
                let object = fill.id();
                self.wait_on(x, object, ExchangeId::NONE, false, looks);
                self.tie(io, x, head, (hash, slice), Goal::Fill(fill));
            }
            Act::Validate { head, hash, object, slice } => {
                self.wait_on(x, object, ExchangeId::NONE, true, looks);
                self.tie(io, x, head, (hash, slice), Goal::Validate(object));
            }
        }
    }

    /// Begins the fetch that `x` waits for.
    fn tie(&mut self, io: &mut Io<'_>, x: ExchangeId, head: Slice, of: (u64, Option<SliceOf>), goal: Goal) {
        self.start_fetch(io, x, x, head, of, goal);
        // However that went, there may be something to see already.
        let client = self.exchanges[x].client;
        if client != FlowId::NONE {
            io.tcp.wake(client);
        }
    }
}

fn to_origin<'a>(
    plan: &'a Plan,
    e: &'a Exchange,
    head: &RequestHead<'_>,
    edits: &'a [&'a HeadEdit],
) -> ToOrigin<'a> {
    let authority = plan.program.config.origins(e.route).first().map(|o| &o.authority[..]);
    ToOrigin {
        client_ip: e.peer,
        client_tls: e.is_https(),
        identity: e.identity.as_deref(),
        host: if head.authority().is_empty() { authority } else { None },
        early: matches!(e.early, Early::Now { .. }),
        forward_expect: true,
        forward_upgrade: true,
        keep_alive: true,
        edits,
    }
}
