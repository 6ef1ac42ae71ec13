//! What responses that came past the cache say about what it has stored.

use dataplane::Ctr;

use super::{Io, Proxy};
use crate::cache::policy::blob::Blob;
use crate::cache::policy::invalidate::invalidated;
use crate::cache::policy::key::{UrlParts, write_key};
use crate::cache::policy::rules::CacheRules;
use crate::cache::policy::validate::{AfterHead, after_head};
use crate::cache::policy::vary;
use crate::cache::store::ObjectView;
use crate::http1::{Method, RequestHead, ResponseHead, SliceSink};

impl Proxy {
    /// Makes stale what a 200 to HEAD from the origin does not agree with (RFC 9111 4.3.5).
    fn doubt(&mut self, asked: &RequestHead<'_>, https: bool, answer: &ResponseHead<'_>, rules: &CacheRules) {
        let mut sink = SliceSink::new(&mut self.key);
        if answer.status() != 200
            || write_key(&UrlParts::of(asked, https, b""), &rules.key, &mut sink).is_err()
        {
            return;
        }
        let len = sink.len();
        let (Some(store), key, keys) = (&mut self.store, &self.key[..len], &self.keys) else { return };
        let headers = asked.headers();
        let doubted = |b: Blob<'_>| {
            b.key() == key
                && !b.is_pending()
                && vary::variant(b.vary(), &headers, &rules.key, keys) == b.facts().variant
                && after_head(answer, &b) == AfterHead::Outdated
        };
        let matches =
            |view: &ObjectView<'_>| !view.state.is_pass() && Blob::read(view.blob).is_some_and(doubted);
        let n = store.purge_hash(keys.hash(key), &mut self.blob, matches, true);
        self.counters.add(Ctr::CacheInvalidated, n);
    }

    /// Makes invalid what an unsafe request has changed (RFC 9111 4.4), and doubts what HEAD says otherwise about.
    pub(super) fn invalidate(
        &mut self,
        io: &Io<'_>,
        asked: &RequestHead<'_>,
        https: bool,
        answer: &ResponseHead<'_>,
        rules: &CacheRules,
    ) {
        if asked.method() == Method::Head {
            self.doubt(asked, https, answer, rules);
            return;
        }
        let now_ms = self.now_ms(io);
        let Some(store) = &mut self.store else { return };
        let (keys, blob, counters) = (&self.keys, &mut self.blob, &self.counters);
        invalidated(asked, https, b"", answer, &rules.key, &mut self.key, |key| {
            let n = store.purge_hash(
                keys.hash(key),
                blob,
                |view| Blob::read(view.blob).is_some_and(|b| b.key() == key),
                false,
            );
            counters.add(Ctr::CacheInvalidated, n);
            if store.store().has_parts() {
                store.drop_parts(keys.hash(key), now_ms);
            }
        });
    }
}
