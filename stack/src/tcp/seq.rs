//! Sequence numbers: modulo 2^32 (RFC 9293 3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence number. Comparisons hold for numbers less than 2^31 apart.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Seq(pub u32);

impl Seq {
    /// `self < other`.
    #[inline]
    pub const fn lt(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
    /// `self ≤ other`.
    #[inline]
    pub const fn le(self, other: Seq) -> bool {
        !other.lt(self)
    }
    /// `self > other`.
    #[inline]
    pub const fn gt(self, other: Seq) -> bool {
        other.lt(self)
    }
    /// `self ≥ other`.
    #[inline]
    pub const fn ge(self, other: Seq) -> bool {
        !self.lt(other)
    }
    /// Whether a number that SND.NXT was once is acknowledged. However long ago that was: what is ahead of both is not
    /// ahead, but more than half of all numbers behind.
    #[inline]
    pub const fn is_past(self, snd_una: Seq, snd_nxt: Seq) -> bool {
        self.le(snd_una) || self.gt(snd_nxt)
    }
    /// The later of two.
    #[inline]
    pub const fn max(self, other: Seq) -> Seq {
        if self.lt(other) { other } else { self }
    }
    /// The earlier of two.
    #[inline]
    pub const fn min(self, other: Seq) -> Seq {
        if self.lt(other) { self } else { other }
    }
    /// Bytes from `earlier` to this; 0 when this is not later.
    #[inline]
    pub const fn since(self, earlier: Seq) -> u32 {
        if self.gt(earlier) { self.0.wrapping_sub(earlier.0) } else { 0 }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn add(self, n: u32) -> Seq {
        Seq(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for Seq {
    #[inline]
    fn add_assign(&mut self, n: u32) {
        self.0 = self.0.wrapping_add(n);
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn sub(self, n: u32) -> Seq {
        Seq(self.0.wrapping_sub(n))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn wraps() {
        let a = Seq(u32::MAX - 1);
        let b = a + 5;
        assert!(a.lt(b) && b.gt(a) && a.le(a) && a.ge(a) && !b.le(a));
        for una in [1000u32, u32::MAX - 5] {
            let (una, nxt) = (Seq(una), Seq(una) + 10_000);
            assert!(!nxt.is_past(una, nxt) && !(una + 1).is_past(una, nxt) && una.is_past(una, nxt));
            for ago in [1u32 << 20, 1 << 30, (1 << 31) + 1, 3 << 30, u32::MAX - 10_000] {
                assert!((una - ago).is_past(una, nxt), "{ago} ago");
            }
        }
        assert_eq!((b.since(a), a.since(b), b - 5, a.max(b), a.min(b)), (5, 0, a, b, a));
    }
}
