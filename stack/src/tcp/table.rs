//! The flow table: buckets of control blocks, chained through the blocks, found by a keyed hash.

use dataplane::sip;
use hugepages::{Arena, FixedVec, Slab, prefetch};

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

/// Two for each connection: 8 bytes of what an idle one costs, however many there may be.
const fn buckets(flows: usize) -> usize {
    if flows == 0 { 1 } else { flows * 2 }
}

impl Table {
    /// Bytes taken from the arena.
    pub const fn cost(flows: usize) -> usize {
        Slab::<FlowId, Tcb>::cost(flows) + Arena::cost::<FlowId>(buckets(flows))
    }

    /// A table for `flows` connections, hashed under a secret `key`; `None` when the arena is too small.
    pub fn new(arena: &mut Arena, flows: u32, key: [u64; 2]) -> Option<Table> {
        Some(Table {
            flows: Slab::new(arena, flows, Tcb::default)?,
            buckets: arena.array(buckets(flows as usize), |_| FlowId::NONE)?,
            key,
        })
    }

    /// The keyed hash of a tuple. SipHash: a client chooses its own port and address, and must not be able
    /// to choose its bucket.
    #[inline]
    pub fn hash(&self, t: &Tuple) -> u64 {
        let ports = u32::from(t.local_port) | u32::from(t.remote_port) << 16;
        if let (Some(l), Some(r)) = (t.local.as_v4(), t.remote.as_v4()) {
            return self.hash_v4(l.to_be_bytes(), r.to_be_bytes(), ports);
        }
        let ports = u64::from(ports);
        let half = |a: &[u8]| u64::from(word(a)) | u64::from(word(&a[4..])) << 32;
        let (l, r) = (&t.local.0, &t.remote.0);
        sip::words(self.key, [half(l), half(&l[8..]), half(r), half(&r[8..]), ports | 36 << 56])
    }

    /// The same of IPv4: a shorter message, and so never the same as one of IPv6, as the hash takes in its length.
    #[inline]
    pub fn hash_v4(&self, local: [u8; 4], remote: [u8; 4], ports: u32) -> u64 {
        let addresses = u64::from(u32::from_le_bytes(local)) | u64::from(u32::from_le_bytes(remote)) << 32;
        sip::words(self.key, [addresses, u64::from(ports) | 12 << 56])
    }

    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        // By its upper bits: as even as the rest of a division, which buckets need that are no power of two.
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
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

#[inline]
fn word(b: &[u8]) -> u32 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    #[test]
    fn the_hash_is_siphash_of_the_tuple() {
        let mut arena = Arena::reserve(Table::cost(4), hugepages::PagePolicy::NormalOnly).unwrap();
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let table = Table::new(&mut arena, 4, key).unwrap();
        let address = |s: &str| crate::Addr::from(s.parse::<std::net::IpAddr>().unwrap());
        for (local, remote) in
            [("10.1.2.3", "192.0.2.77"), ("2001:db8::1:2", "fe80::99"), ("::1", "10.0.0.1")]
        {
            let (local, remote) = (address(local), address(remote));
            let t = Tuple { local, remote, local_port: 0x1234, remote_port: 0xfedc };
            let both_v4 = local.is_v4() && remote.is_v4();
            let (l, r) =
                if both_v4 { (&local.0[12..], &remote.0[12..]) } else { (&local.0[..], &remote.0[..]) };
            let mut h = SipHasher13::new_with_keys(key[0], key[1]);
            h.write(&[l, r, &0x1234u16.to_le_bytes(), &0xfedcu16.to_le_bytes()].concat());
            assert_eq!(table.hash(&t), h.finish(), "{t:?}");
        }
    }
}
