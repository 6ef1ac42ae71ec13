//! Choosing an origin, and knowing which ones are any good: sans-IO, per core, nothing allocated after start.
//!
//! ```text
//!              request ──► OriginSet::pick ──► Pick::Origin(i) ─► begin ─► … ─► end(outcome) ─┐
//!                              │   ▲                                                         │
//!            Pick::Full ─► WaitQueue │ masks: down · ejected · full          Outlier ◄────────┤ failures in a row
//!                                  │                                       RetryBudget ◄────┘ may it be tried again?
//!   Checks (one core) ─► SharedHealth ─► every core
//! ```
//!
//! - [`Balancer`]: round robin, least outstanding, or by a key; by weight; a recovered origin starts slowly.
//! - [`Checks`]: active health checks, on one core for all; [`SharedHealth`] carries the results over.
//! - [`Outlier`]: what requests show, on each core by itself.
//! - [`WaitQueue`]: requests for which no origin has room.
//! - [`RetryBudget`]: whether a failed request may be tried again.
//! - [`Race`]: which of an origin's addresses to try, and when.
//!
//! **All down.** When every origin is down or ejected, health is no longer believed: requests go to those that
//! are merely ejected, else to all. A wrong check or a path lost between this node and all of them must not turn
//! into an outage; and if it is none, an error is what the client would have got anyway. (HAProxy answers 503
//! here, Envoy does as we do.)

mod balance;
mod check;
mod happy_eyeballs;
mod outlier;
mod queue;
mod retry;
mod set;
mod shared;

pub use balance::{Balancer, Masks, Method, Pick};
pub use check::{CheckAction, CheckReply, CheckSettings, CheckTarget, Checks, reply};
pub use happy_eyeballs::{ADDRESSES_MAX, ATTEMPT_DELAY_NS, Attempt, Lane, Race};
pub use outlier::{Outlier, OutlierSettings};
pub use queue::{Ticket, WaitQueue};
pub use retry::{NoRetry, RetryBudget, Sent};
pub use set::{Counts, OriginSet, OriginSpec, OriginState, Outcome, SetSettings};
pub use shared::{Health, SharedHealth};

/// Origins of a set: a mask of them is one word.
pub const ORIGINS_MAX: usize = 64;

/// The mask of the first `n` origins.
pub(crate) const fn all(n: usize) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// The origins of a mask, in order.
pub(crate) fn members(mask: u64) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let i = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (i < 64).then_some(i)
    })
}

/// Spreads the bits of a number: the finish of splitmix64.
pub(crate) const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Hash of a balancing key or an origin's name. It has no secret and never changes: all cores, all nodes and the
/// next start must choose the same origin. Whoever chooses keys can aim at one origin, hash or no hash.
pub fn hash_key(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = mix(bytes.len() as u64 ^ K);
    for word in words {
        hash = (hash.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(K);
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash.rotate_left(29) ^ u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!((all(0), all(3), all(64)), (0, 7, u64::MAX));
        assert_eq!(members(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
        assert_eq!(members(u64::MAX).count(), 64);
        assert_eq!(members(1 << 63).collect::<Vec<_>>(), [63]);
    }

    #[test]
    fn keys_hash_to_what_they_always_did() {
        // Nodes of different versions share origins' caches: these values are a promise.
        assert_eq!(hash_key(b""), 0x228c_40b0_dd58_54a4);
        assert_eq!(hash_key(b"/index.html"), 0x6fac_eec1_f909_5273);
        assert_ne!(hash_key(b"a"), hash_key(b"a\0"));
        assert_ne!(hash_key(b"/index.html"), hash_key(b"/index.htm"));
    }
}
