//! Going to the origin on behalf of the cache: the right to fetch a key, and the heads of such requests.

use dataplane::{Ctr, Slice};

use super::cached::{Asked, LOOKS_MAX};
use super::exchange::ExchangeId;
use super::fetch::Goal;
use super::request::Act;
use super::{Io, Proxy};
use crate::cache::policy::blob::{self, Blob};
use crate::cache::policy::vary;
use crate::cache::store::{Claim, ObjectId, Pick};

impl Proxy {
    /// Whether a URL that is not stored has been asked for often enough to be.
    #[cold]
    fn is_admitted(&mut self, asked: &Asked<'_>) -> bool {
        let Some(store) = &self.store else { return true };
        let is_admitted = store.count_request(asked.url_hash, asked.now_ms / 1000) >= asked.rules.admit_after;
        if !is_admitted {
            self.counters.inc(Ctr::CacheNotAdmitted);
        }
        is_admitted
    }

    /// Claims the key of a request, so that it alone fetches; or finds that somebody has been faster.
    pub(super) fn claim(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        asked: &Asked<'_>,
        (key_len, hash): (usize, u64),
        looks: u8,
    ) -> Option<Act> {
        let Asked { head, rules, slice, .. } = *asked;
        let is_whole = asked.slice.is_none();
        if !asked.facts.may_store() || (is_whole && (asked.facts.range || rules.slice_bytes > 0)) {
            return None;
        }
        if rules.admit_after > 1 && looks == 0 && !self.is_admitted(asked) {
            return None;
        }
        if let Some(status) = self.failures.find(hash, io.now) {
            return Some(Act::Error(status));
        }
        let Some(origin_head) = self.fetch_request(x, asked, None) else {
            self.counters.inc(Ctr::PoolPayloadEmpty);
            return Some(Act::Error(503));
        };
        let key = &self.key[..key_len];
        let n = blob::write_pending(key, &mut self.blob2).ok()?;
        let alone = looks >= LOOKS_MAX;
        let (keys, headers) = (self.keys, head.headers());
        let store = self.store.as_mut()?;
        let claim = store.claim(hash, &self.blob2[..n], &mut self.blob, |view| {
            let Some(b) = Blob::read(view.blob) else { return Pick::Next };
            if alone || view.state.is_pass() || b.key() != key || !view.state.is_filling() {
                return Pick::Next;
            }
            let fits =
                b.is_pending() || vary::variant(b.vary(), &headers, &rules.key, &keys) == b.facts().variant;
            if fits { Pick::Take } else { Pick::Next }
        });
        match claim {
            Claim::New(fill) => Some(Act::Fetch { head: origin_head, hash, fill, slice }),
            Claim::Existing(object) => Some(Act::Wait { object, validates: false }),
            Claim::Busy | Claim::Full | Claim::Purged => {
                self.counters.inc(Ctr::CacheBypassed);
                None
            }
        }
    }

    /// The head that asks the origin whether the response in `self.blob` is still good (RFC 9111 4.3.1).
    pub(super) fn validating_head(&mut self, x: ExchangeId, asked: &Asked<'_>) -> Option<Slice> {
        let blob = std::mem::take(&mut self.blob);
        let stored = Blob::read(&blob);
        let s = self.fetch_request(x, asked, stored.as_ref());
        self.blob = blob;
        s
    }

    /// Has the origin asked about a response that is being served meanwhile.
    pub(super) fn validate_behind(
        &mut self,
        io: &mut Io<'_>,
        x: ExchangeId,
        asked: &Asked<'_>,
        object: ObjectId,
        hash: u64,
    ) {
        let Some(store) = &mut self.store else { return };
        if !store.begin_revalidation(object) {
            return;
        }
        match self.validating_head(x, asked) {
            Some(head) => {
                let goal = Goal::Validate(object);
                self.start_fetch(io, x, ExchangeId::NONE, head, (hash, asked.slice), goal);
            }
            None => {
                if let Some(store) = &mut self.store {
                    store.end_revalidation(object);
                }
            }
        }
    }
}
