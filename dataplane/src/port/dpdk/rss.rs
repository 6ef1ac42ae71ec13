//! RSS of a device: whether it has what we need, and that it does what we asked for.
//!
//! A device is asked for it only if we can predict it: a hash over addresses and ports of TCP for both families, a key
//! that we set, and a table that can be written. Else the cores steer in software.

use dpdk_sys as sys;

use crate::rss::{KEY_BYTES, Rss, even_table};

/// The largest key of a NIC's that there is room for.
pub const KEY_BYTES_MAX: usize = 64;
/// The largest table.
pub(super) const TABLE_MAX: usize = 4096;
/// Entries of one part of a table, as DPDK writes it.
pub(super) const GROUP: usize = 64;

/// TCP of both families, by addresses and ports.
pub(super) const HASHED: u64 =
    sys::RTE_ETH_RSS_NONFRAG_IPV4_TCP as u64 | sys::RTE_ETH_RSS_NONFRAG_IPV6_TCP as u64;

/// What a device says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offered {
    /// What it can hash.
    pub hashes: u64,
    pub key_bytes: usize,
    pub table: usize,
}

/// How a device is to spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub key: Vec<u8>,
    pub table: Vec<u16>,
}

/// What to ask a device of so many queues for; `None` where it cannot be predicted. `secret`: random bytes.
pub(super) fn plan(offered: Offered, queues: u16, secret: &[u8; KEY_BYTES_MAX]) -> Option<Plan> {
    let good = queues > 1
        && offered.hashes & HASHED == HASHED
        && (KEY_BYTES..=KEY_BYTES_MAX).contains(&offered.key_bytes)
        && offered.table.is_power_of_two()
        && (usize::from(queues).max(2)..=TABLE_MAX).contains(&offered.table);
    good.then(|| Plan { key: secret[..offered.key_bytes].to_vec(), table: even_table(offered.table, queues) })
}

/// The device's RSS by what was read back. `None`: it has another key or another table than it was asked for, and what
/// it does with them is not to be relied on.
pub(super) fn confirm(plan: &Plan, key: &[u8], table: &[u16]) -> Option<Rss> {
    if plan.key != key || plan.table != table {
        return None;
    }
    Rss::new(plan.key.first_chunk()?, &plan.table)
}

#[cfg(test)]
#[allow(unsafe_code)] // DPDK's own hash is the second opinion.
mod tests {
    use super::*;

    const SECRET: [u8; KEY_BYTES_MAX] = {
        let mut all = [0; KEY_BYTES_MAX];
        let mut i = 0;
        while i < KEY_BYTES_MAX {
            all[i] = (i as u8).wrapping_mul(109).wrapping_add(17);
            i += 1;
        }
        all
    };

    #[test]
    fn only_what_can_be_predicted_is_asked_for() {
        let good = Offered { hashes: u64::MAX, key_bytes: 40, table: 128 };
        let made = plan(good, 3, &SECRET).expect("as NICs are");
        assert_eq!((made.key.len(), made.table.len()), (40, 128));
        assert_eq!(made.table[..4], [0, 1, 2, 0]);
        let long = plan(Offered { key_bytes: 52, table: 512, ..good }, 2, &SECRET).expect("a longer key");
        assert_eq!((long.key.len(), long.table.len()), (52, 512));
        for bad in [
            // A TAP device of DPDK's: it hashes, but has no table.
            Offered { key_bytes: 40, table: 0, ..good },
            Offered { table: 100, ..good },
            Offered { table: 8192, ..good },
            Offered { table: 2, ..good },
            Offered { key_bytes: 0, ..good },
            Offered { key_bytes: 39, ..good },
            Offered { key_bytes: 65, ..good },
            Offered { hashes: 0, ..good },
            Offered { hashes: sys::RTE_ETH_RSS_NONFRAG_IPV4_TCP as u64, ..good },
        ] {
            assert_eq!(plan(bad, 3, &SECRET), None, "{bad:?}");
        }
        assert_eq!(plan(good, 1, &SECRET), None, "one queue needs none");
    }

    #[test]
    fn what_reads_back_otherwise_is_not_relied_on() {
        let made = plan(Offered { hashes: HASHED, key_bytes: 52, table: 64 }, 2, &SECRET).expect("good");
        assert!(confirm(&made, &made.key, &made.table).is_some());
        let mut table = made.table.clone();
        table[63] = 0;
        assert!(confirm(&made, &made.key, &table).is_none());
        assert!(confirm(&made, &made.key, &made.table[..32]).is_none());
        assert!(confirm(&made, &made.key[..40], &made.table).is_none());
    }

    #[test]
    fn our_hash_is_dpdks() {
        let key = SECRET.first_chunk().expect("40 bytes");
        let rss = Rss::new(key, &[0; 2]).expect("good");
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed
        };
        for n in [4, 16] {
            for _ in 0..200 {
                // Words in the host's order, as rte_softrss takes them.
                let mut words: Vec<u32> = (0..n / 2 + 1).map(|_| random() ^ random() >> 16).collect();
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
                let count = words.len() as u32;
                // SAFETY: `count` words, and 4 bytes of key behind the last of their bits.
                let theirs = unsafe { sys::mr_softrss(words.as_mut_ptr(), count, SECRET.as_ptr()) };
                let (src, rest) = bytes.split_at(n);
                let (dst, ports) = rest.split_at(n);
                let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
                assert_eq!(rss.hash(src, dst, port(0), port(2)), theirs);
            }
        }
    }
}
