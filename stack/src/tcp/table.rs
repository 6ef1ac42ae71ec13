//! The flow table: buckets of control blocks, chained through the blocks, found by a keyed hash.

use std::hash::Hasher;

use hugepages::{Arena, FixedVec, Slab, prefetch};
use siphasher::sip::SipHasher13;

use super::tcb::{FlowId, Tcb};
use crate::addr::Tuple;

/// Cache lines of a control block that a segment touches: all of them.
const LINES: usize = size_of::<Tcb>() / 64;

/// Control blocks and the index over them.
pub struct Table {
    /// The control blocks.
    pub flows: Slab<FlowId, Tcb>,
    buckets: FixedVec<FlowId>,
    key: [u64; 2],
}

impl Table {
    /// Bytes taken from the arena.
    pub const fn cost(flows: usize) -> usize {
        Slab::<FlowId, Tcb>::cost(flows) + Arena::cost::<FlowId>((flows * 2).next_power_of_two())
    }

    /// A table for `flows` connections, hashed under a secret `key`; `None` when the arena is too small.
    pub fn new(arena: &mut Arena, flows: u32, key: [u64; 2]) -> Option<Table> {
        Some(Table {
            flows: Slab::new(arena, flows, Tcb::default)?,
            buckets: arena.array((flows as usize * 2).next_power_of_two(), |_| FlowId::NONE)?,
            key,
        })
    }

    /// The keyed hash of a tuple. SipHash: a client chooses its own port and address, and must not be able
    /// to choose its bucket.
    #[inline]
    pub fn hash(&self, t: &Tuple) -> u64 {
        let mut h = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        let mut b = [0u8; 36];
        b[..16].copy_from_slice(&t.local.0);
        b[16..32].copy_from_slice(&t.remote.0);
        b[32..34].copy_from_slice(&t.local_port.to_ne_bytes());
        b[34..].copy_from_slice(&t.remote_port.to_ne_bytes());
        h.write(&b);
        h.finish()
    }

    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// First step of a burst: asks for the bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        prefetch(&self.buckets[self.bucket(hash as u32)], 1);
    }

    /// Second step of a burst: asks for the first control block in the bucket, which it gives.
    #[inline]
    pub fn prefetch_flow(&self, hash: u64) -> FlowId {
        let first = self.buckets[self.bucket(hash as u32)];
        if first.is_some() {
            self.flows.prefetch(first, LINES);
        }
        first
    }

    /// Finds a connection.
    #[inline]
    pub fn find(&self, hash: u64, t: &Tuple) -> Option<FlowId> {
        let mut at = self.buckets[self.bucket(hash as u32)];
        while at.is_some() {
            let f = &self.flows[at];
            if f.hash == hash as u32 && f.tuple == *t {
                return Some(at);
            }
            at = f.hash_next;
        }
        None
    }

    /// Puts a control block, whose tuple and hash are set, into the index.
    pub fn insert(&mut self, id: FlowId) {
        let b = self.bucket(self.flows[id].hash);
        self.flows[id].hash_next = self.buckets[b];
        self.buckets[b] = id;
    }

    /// Takes a control block out of the index.
    pub fn remove(&mut self, id: FlowId) {
        let b = self.bucket(self.flows[id].hash);
        let next = self.flows[id].hash_next;
        let mut at = self.buckets[b];
        if at == id {
            self.buckets[b] = next;
            return;
        }
        while at.is_some() {
            let after = self.flows[at].hash_next;
            if after == id {
                self.flows[at].hash_next = next;
                return;
            }
            at = after;
        }
    }
}
