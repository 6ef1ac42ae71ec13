//! Clients that wait for a fetch, their own or another one's.

use super::cached::{Age, Asked, Chosen};
use super::exchange::ExchangeId;
use super::pump::Step;
use super::request::Act;
use super::side::{Outcome, Side};
use super::{Io, Proxy};
use crate::cache::policy::blob::Blob;
use crate::cache::policy::decide::{OriginFailure, decide_on_failure};
use crate::cache::policy::request::RequestFacts;
use crate::cache::policy::status::CacheStatus;
use crate::http1::{HeadScan, Parsed, RequestHead, parse_request};
use crate::phases::{CleanPath, RequestView};

impl Proxy {
    /// Moves a client on that waits for an object.
    pub(super) fn waits_step(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let client = self.exchanges[x].client;
        let (Side::Waits(w), Some(store)) = (&mut self.exchanges[x].side, &mut self.store) else {
            return Step::Waits;
        };
        let (object, looks, outcome, fetch) = (w.object, w.looks, w.outcome, w.fetch);
        let p = store.progress(object);
        let state = p.state;
        let ready = match outcome {
            Outcome::Use(_) | Outcome::Failed(_) | Outcome::NoSlice => true,
            Outcome::Open if fetch.is_some() => false,
            Outcome::Open if w.validates => !state.is_revalidating(),
            Outcome::Open => state.is_pass() || state.is_failed() || state.is_gone() || state.has_head(),
        };
        if !ready {
            w.seen = p;
            if store.wait_for(object, p) {
                self.waiting.enter(&mut self.exchanges, x, object);
                return Step::Waits;
            }
            return Step::Moved;
        }
        if self.exchanges[x].slicing.rest.is_some() {
            return self.slice_came(io, x, outcome);
        }
        let Some(request) = self.exchanges[x].request.clone() else {
            self.fail(io, x, 500);
            return self.gone_or_moved(x, client);
        };
        let Some(mut bench) = self.bench.take() else { return Step::Waits };
        let http = self.current.program.config.http;
        let act = match parse_request(&request, &mut HeadScan::new(), &http, &mut bench.slots) {
            Ok(Parsed::Complete(head, _)) => {
                let path = if head.path() == b"*" { b"/" } else { head.path() };
                let clean = CleanPath::of(path, &mut bench.path).unwrap_or(path);
                let identity = self.exchanges[x].identity.clone();
                let view = RequestView::of(&head, self.exchanges[x].scheme, self.exchanges[x].peer, clean);
                let view = view.by(identity.as_deref());
                self.look_again(io, x, &head, &view, outcome, looks + 1)
            }
            _ => Act::Error(500),
        };
        self.bench = Some(bench);
        if !matches!(act, Act::Serve(_) | Act::ServeSlices(_)) {
            self.detach(io, x);
        }
        self.do_act(io, x, act, looks + 1);
        self.gone_or_moved(x, client)
    }

    /// A request that has waited, with what its own fetch says.
    fn look_again(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        head: &RequestHead<'_>,
        view: &RequestView<'_>,
        outcome: Outcome,
        looks: u8,
    ) -> Act {
        let plan = self.plan(x);
        let route = plan.route(self.exchanges[x].route);
        let Some(rules) = &route.cache else { return self.forward_head(x, head, view) };
        let facts = RequestFacts::of(head, rules);
        let now_ms = self.now_ms(io);
        let asked = Asked { head, view, facts, rules, now_ms, url_hash: 0, slice: None };
        let act = match outcome {
            Outcome::Use(object) => {
                self.store.as_ref().map(|s| s.view(object, &mut self.blob).len);
                let fwd = self.exchanges[x].fwd;
                Blob::read(&self.blob).map(|b| b.facts()).and_then(|f| {
                    let status = CacheStatus {
                        fwd,
                        stored: true,
                        ttl_s: Some(f.ttl_s(now_ms)),
                        ..CacheStatus::default()
                    };
                    // What was only confirmed has the age that it has.
                    let validated = matches!(&self.exchanges[x].side, Side::Waits(w) if w.object == object && w.validates);
                    let age_s = f.age_s(now_ms);
                    let age = if validated { Age::Stored(age_s) } else { Age::First(age_s) };
                    self.write_stored(io, x, &asked, Chosen { object, age, status })
                })
            }
            Outcome::Failed(status) => {
                let waited = match &self.exchanges[x].side {
                    Side::Waits(w) if w.validates => Some(w.object),
                    _ => None,
                };
                waited
                    .and_then(|object| {
                        let stored = self.store.as_ref()?.view(object, &mut self.blob);
                        let soft = stored.state.is_soft();
                        let b = Blob::read(&self.blob)?;
                        let failure = OriginFailure::NoResponse;
                        let age_s = decide_on_failure(&facts, &b.facts(), soft, failure, now_ms)?;
                        self.write_on_error(io, x, &asked, object, age_s)
                    })
                    .or(Some(Act::Error(status)))
            }
            Outcome::NoSlice => None,
            Outcome::Open => self.ask_cache(io, x, head, view, rules, looks),
        };
        match act {
            Some(act) => act,
            None => self.forward_head(x, head, view),
        }
    }
}
