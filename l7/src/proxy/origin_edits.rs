//! The origin response phase of a response that is fetched into the store: its edits come before the cache looks at it
//! (D8), so that they decide what may be stored, and what a 304 changes. A response that is only passed on has them
//! from `pump.rs`.

use super::Proxy;
use super::config::Route;
use super::exchange::ExchangeId;
use super::fetch_head::Kept;
use crate::cache::policy::freshness::Times;
use crate::http1::rewrite::put_status_line;
use crate::http1::{
    Full, HeadScan, HeadSink, Method, Parsed, RequestHead, ResponseHead, SliceSink, parse_response,
};
use crate::phases::{CleanPath, EditList, RequestView, ResponseView, apply_edits};

impl Proxy {
    /// As [`Proxy::store_head`], of the head that the route's modules make of this one.
    #[cold]
    pub(super) fn store_edited_head(
        &mut self,
        f: ExchangeId,
        asked: &RequestHead<'_>,
        head: &ResponseHead<'_>,
        route: &Route,
        times: Times,
    ) -> Kept {
        let Some(rules) = &route.cache else { return Kept::Not { mark: false } };
        let mut room = [0; CleanPath::ROOM];
        let path = if asked.path() == b"*" { b"/" } else { asked.path() };
        let clean = CleanPath::of(path, &mut room).unwrap_or(path);
        let identity = self.exchanges[f].identity.clone();
        let view = RequestView::of(asked, self.exchanges[f].scheme, self.exchanges[f].peer, clean);
        let view = view.by(identity.as_deref());
        let seen = ResponseView { status: head.status(), headers: Some(head.headers()) };
        let edits = route.modules.origin_response(&view, &seen);
        let list = EditList { edits: &edits, vars: view.vars() };
        let (mut text, bench) = (std::mem::take(&mut self.scratch), self.edit_bench.take());
        let (Ok(len), Some(mut bench)) = (write_edited(head, &list, &mut text), bench) else {
            self.scratch = text;
            return Kept::Not { mark: false };
        };
        let http = self.current.program.config.http;
        let kept =
            match parse_response(&text[..len], Method::Get, &mut HeadScan::new(), &http, &mut bench.slots) {
                Ok(Parsed::Complete(edited, _)) => self.store_head(f, asked, &edited, rules, times),
                // Too many lines, or too long with what was added: it goes its way without being stored.
                _ => Kept::Not { mark: false },
            };
        self.scratch = text;
        self.edit_bench = Some(bench);
        kept
    }
}

/// Without lines of framing: the body has been taken out of it.
fn write_edited(head: &ResponseHead<'_>, list: &EditList<'_>, out: &mut [u8]) -> Result<usize, Full> {
    let mut sink = SliceSink::new(out);
    put_status_line(head, &mut sink)?;
    apply_edits(&head.headers(), list, &mut sink)?;
    sink.put(b"\r\n")?;
    Ok(sink.len())
}
