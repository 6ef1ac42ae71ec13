//! Receive-side scaling as NICs do it: Toeplitz's hash under a secret key, and the indirection table that makes it a
//! queue. We set both, so we can say beforehand to which queue a packet comes.
//!
//! ```text
//!  source address │ destination address │ source port │ destination port      as they stand in the packet that arrives
//!        └── for each bit that is set: ^= 32 bits of the key from that bit on ──► hash ──► table[hash mod size] ──► queue
//! ```
//!
//! The hash is linear: a table holds what each value of each byte adds, and the parts of a tuple can be hashed apart
//! ([`Rss::part`]). So a port for a connection of ours that comes back to its own core is found by two loads for each port
//! that is tried. A packet of IPv4 costs 12 loads, one of IPv6 36, from 36 KiB.

use std::fmt;

/// Bytes of key that the hash of an IPv6 tuple needs: 36 for its bits, 4 behind the last one.
pub const KEY_BYTES: usize = 40;
/// Bytes of an IPv6 tuple.
const INPUT_BYTES: usize = 36;
/// Where a tuple's destination port is.
const DST_PORT: [usize; 2] = [10, 34];

/// The hash under one key.
pub struct Toeplitz {
    /// For each byte of the input: what each of its values adds.
    bytes: Box<[[u32; 256]]>,
}

impl Toeplitz {
    /// Under this key. Of longer ones (some NICs want 52 bytes) the rest has no say in our hashes.
    pub fn new(key: &[u8; KEY_BYTES]) -> Toeplitz {
        // The 32 bits of the key from this bit on.
        let window = |bit: usize| {
            let from = bit / 8;
            let five = key[from..from + 5].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
            (five >> (8 - bit % 8)) as u32
        };
        let of_byte = |i: usize| {
            let mut all = [0u32; 256];
            for (value, sum) in all.iter_mut().enumerate() {
                for bit in (0..8).filter(|bit| value >> (7 - bit) & 1 == 1) {
                    *sum ^= window(8 * i + bit);
                }
            }
            all
        };
        Toeplitz { bytes: (0..INPUT_BYTES).map(of_byte).collect() }
    }

    /// What `part` adds to the hash of an input in which it begins at byte `at`.
    ///
    /// # Panics
    /// When it reaches beyond the longest tuple.
    #[inline]
    pub fn part(&self, at: usize, part: &[u8]) -> u32 {
        let tables = &self.bytes[at..at + part.len()];
        tables.iter().zip(part).fold(0, |sum, (table, byte)| sum ^ table[usize::from(*byte)])
    }
}

/// How a device spreads TCP over its queues.
pub struct Rss {
    toeplitz: Toeplitz,
    table: Box<[u16]>,
    mask: u32,
}

impl Rss {
    /// With the key that the device has, and its indirection table. `None`: of a table whose size is not a power of 2
    /// we do not know how devices index it.
    pub fn new(key: &[u8; KEY_BYTES], table: &[u16]) -> Option<Rss> {
        let mask = u32::try_from(table.len()).ok().filter(|n| n.is_power_of_two())? - 1;
        Some(Rss { toeplitz: Toeplitz::new(key), table: table.into(), mask })
    }

    /// The hash of a packet's addresses and ports, which are both of 4 or both of 16 bytes.
    pub fn hash(&self, src: &[u8], dst: &[u8], src_port: u16, dst_port: u16) -> u32 {
        self.part(src, dst, src_port) ^ self.of_port(src.len() == 16, dst_port)
    }

    /// The queue that a hash leads to.
    #[inline]
    pub fn queue(&self, hash: u32) -> u16 {
        self.table[(hash & self.mask) as usize]
    }

    /// The hash of all but the destination's port. Addresses of two families, which only a made-up quote in an ICMP error can
    /// have, give some hash or other.
    pub fn part(&self, src: &[u8], dst: &[u8], src_port: u16) -> u32 {
        let n = src.len();
        let port = self.toeplitz.part(2 * n, &src_port.to_be_bytes());
        self.toeplitz.part(0, src) ^ self.toeplitz.part(n, dst) ^ port
    }

    /// What the destination's port adds to it.
    #[inline]
    pub fn of_port(&self, is_v6: bool, dst_port: u16) -> u32 {
        self.toeplitz.part(DST_PORT[usize::from(is_v6)], &dst_port.to_be_bytes())
    }
}

impl fmt::Debug for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is secret, and the tables tell it.
        write!(f, "Rss({} entries)", self.table.len())
    }
}

/// So many packets are looked at before a device is judged.
pub const JUDGED_AFTER: u64 = 64;

/// What packets say about a device: whether it does what we predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Too few have come.
    Open,
    /// It does, but for strays (odd packets that devices hash in other ways).
    Predicted,
    /// It does not: software steering has the work.
    Wrong,
}

/// Judges by how many packets came to the queue that was predicted, and how many did not.
pub fn judge(as_predicted: u64, otherwise: u64) -> Judgement {
    let seen = as_predicted + otherwise;
    if seen < JUDGED_AFTER {
        Judgement::Open
    } else if otherwise * 8 <= seen {
        Judgement::Predicted
    } else {
        Judgement::Wrong
    }
}

/// A table that gives each of `queues` queues as many entries as the others, or one more.
pub fn even_table(size: usize, queues: u16) -> Vec<u16> {
    (0..size).map(|i| (i % usize::from(queues.max(1))) as u16).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// The key of Microsoft's "Verifying the RSS Hash Calculation", and its vectors.
    const KEY: [u8; KEY_BYTES] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    /// Destination, source, hash of the addresses, hash with the ports.
    const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
        ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e_8fc2, 0x51cc_c178),
        ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718_262a, 0xc626_b0ea),
        ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0_a5de, 0x5c2b_394a),
        ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x8298_9176, 0xafc7_327f),
        ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d18_09c5, 0x10e8_28a2),
        ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc1_8cd5, 0x4020_7d3d),
        ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn bytes(ip: &str) -> Vec<u8> {
        match ip.parse().expect("an address") {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        }
    }

    #[test]
    fn the_published_vectors() {
        let rss = Rss::new(&KEY, &even_table(128, 4)).expect("a table of 128");
        for (dst, dst_port, src, src_port, addresses, all) in VECTORS {
            let (src, dst) = (bytes(src), bytes(dst));
            let two = rss.toeplitz.part(0, &src) ^ rss.toeplitz.part(src.len(), &dst);
            assert_eq!(two, addresses, "{src:?} {dst:?}");
            let hash = rss.hash(&src, &dst, src_port, dst_port);
            assert_eq!(hash, all, "{src:?} {dst:?}");
            assert_eq!(u32::from(rss.queue(hash)), (all & 127) % 4);
        }
    }

    #[test]
    fn the_hash_by_its_definition() {
        // Bit by bit, with a key of another look.
        let mut key = [0; KEY_BYTES];
        for (i, b) in key.iter_mut().enumerate() {
            *b = (i as u8).wrapping_mul(151).wrapping_add(43);
        }
        let t = Toeplitz::new(&key);
        for seed in 0..50u8 {
            let input: Vec<u8> = (0..INPUT_BYTES).map(|i| (i as u8).wrapping_mul(seed) ^ seed).collect();
            let mut sum = 0u32;
            for bit in (0..8 * INPUT_BYTES).filter(|bit| input[bit / 8] >> (7 - bit % 8) & 1 == 1) {
                for k in 0..32 {
                    let at = bit + k;
                    sum ^= u32::from(key[at / 8] >> (7 - at % 8) & 1) << (31 - k);
                }
            }
            assert_eq!(t.part(0, &input), sum);
            assert_eq!(t.part(0, &input[..7]) ^ t.part(7, &input[7..]), sum, "linear");
        }
    }

    #[test]
    fn addresses_of_two_families_do_no_harm() {
        let rss = Rss::new(&KEY, &[0; 2]).expect("a good table");
        rss.hash(&[1; 4], &[2; 16], 3, 4);
        rss.hash(&[1; 16], &[2; 4], 3, 4);
    }

    #[test]
    fn tables_are_even() {
        assert_eq!(even_table(8, 3), [0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(even_table(4, 0), [0; 4]);
        assert!(Rss::new(&KEY, &[]).is_none() && Rss::new(&KEY, &[0; 100]).is_none());
        let shown = format!("{:?}", Rss::new(&KEY, &[0; 64]).expect("a good size"));
        assert_eq!(shown, "Rss(64 entries)");
    }

    #[test]
    fn devices_are_judged_by_many_packets() {
        for (good, bad, expected) in [
            (0, 0, Judgement::Open),
            (63, 0, Judgement::Open),
            (0, 63, Judgement::Open),
            (64, 0, Judgement::Predicted),
            (56, 8, Judgement::Predicted),
            (55, 9, Judgement::Wrong),
            // Two queues, and a device that knows nothing of the key.
            (34, 30, Judgement::Wrong),
            (1_000_000, 10, Judgement::Predicted),
        ] {
            assert_eq!(judge(good, bad), expected, "{good} {bad}");
        }
    }
}
