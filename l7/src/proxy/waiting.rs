//! Who waits for which object: a table of lists through the exchanges, so that a wake-up finds its readers
//! without a search and a reader leaves without one.

use hugepages::Slab;

use super::exchange::{Exchange, ExchangeId};
use crate::cache::store::ObjectId;

/// Links of an exchange in the list of its object's bucket.
#[derive(Default, Clone, Copy)]
pub(super) struct Links {
    pub object: Option<ObjectId>,
    next: ExchangeId,
    prev: ExchangeId,
}

/// The table.
pub(super) struct Waiting {
    heads: Vec<ExchangeId>,
}

impl Waiting {
    /// For as many exchanges as there are contexts.
    pub fn new(contexts: u32) -> Waiting {
        let buckets = (contexts as usize).next_power_of_two().clamp(16, 1 << 16);
        Waiting { heads: vec![ExchangeId::NONE; buckets] }
    }

    fn bucket(&self, object: ObjectId) -> usize {
        object.number() as usize & (self.heads.len() - 1)
    }

    /// Puts an exchange into its object's list.
    pub fn enter(&mut self, all: &mut Slab<ExchangeId, Exchange>, x: ExchangeId, object: ObjectId) {
        if all[x].links.object == Some(object) {
            return;
        }
        self.leave(all, x);
        let bucket = self.bucket(object);
        let first = self.heads[bucket];
        all[x].links = Links { object: Some(object), next: first, prev: ExchangeId::NONE };
        if first.is_some() {
            all[first].links.prev = x;
        }
        self.heads[bucket] = x;
    }

    /// Takes an exchange out of the list that it is in, if any.
    pub fn leave(&mut self, all: &mut Slab<ExchangeId, Exchange>, x: ExchangeId) {
        let links = std::mem::take(&mut all[x].links);
        let Some(object) = links.object else { return };
        if links.prev.is_some() {
            all[links.prev].links.next = links.next;
        } else {
            let bucket = self.bucket(object);
            self.heads[bucket] = links.next;
        }
        if links.next.is_some() {
            all[links.next].links.prev = links.prev;
        }
    }

    /// Calls `wake` for everyone who waits for `object`.
    pub fn each(&self, all: &Slab<ExchangeId, Exchange>, object: ObjectId, mut wake: impl FnMut(&Exchange)) {
        let mut x = self.heads[self.bucket(object)];
        while x.is_some() {
            let e = &all[x];
            if e.links.object == Some(object) {
                wake(e);
            }
            x = e.links.next;
        }
    }

    /// Calls `wake` for everyone who waits for anything.
    pub fn all(&self, all: &Slab<ExchangeId, Exchange>, mut wake: impl FnMut(&Exchange)) {
        for first in &self.heads {
            let mut x = *first;
            while x.is_some() {
                wake(&all[x]);
                x = all[x].links.next;
            }
        }
    }
}
