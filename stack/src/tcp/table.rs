//! The flow table: buckets of control blocks, chained through the blocks, found by a keyed hash.

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
        let ports = u64::from(t.local_port) | u64::from(t.remote_port) << 16;
        if t.local.is_v4() && t.remote.is_v4() {
            // A shorter message, and so never the same as one of IPv6: the hash takes in its length.
            let addresses = u64::from(word(&t.local.0[12..])) | u64::from(word(&t.remote.0[12..])) << 32;
            return sip13(self.key, [addresses, ports | 12 << 56]);
        }
        let half = |a: &[u8]| u64::from(word(a)) | u64::from(word(&a[4..])) << 32;
        let (l, r) = (&t.local.0, &t.remote.0);
        sip13(self.key, [half(l), half(&l[8..]), half(r), half(&r[8..]), ports | 36 << 56])
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

#[inline]
fn word(b: &[u8]) -> u32 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

/// SipHash-1-3 (Aumasson and Bernstein 2012) of a message that the caller has put into words: the last one
/// holds what is left of it and, in its top byte, its length. The general ones copy their way to the words.
#[inline]
fn sip13<const N: usize>(key: [u64; 2], message: [u64; N]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for m in message {
        v[3] ^= m;
        sip_round(&mut v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
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
