//! Latency histograms: HdrHistogram's log-linear buckets (32 to an octave: within 3 %) as plain counters.

/// Buckets of one histogram: values of up to 2^42 ns (73 minutes); larger ones count in the last.
pub const BUCKETS: usize = (42 - SUB_BITS as usize + 1) * SUB;
const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;

/// The bucket of a value.
#[inline]
pub const fn bucket_of(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let octave = 63 - value.leading_zeros() - SUB_BITS;
    let i = (octave as usize + 1) * SUB + ((value >> octave) as usize - SUB);
    if i < BUCKETS { i } else { BUCKETS - 1 }
}

/// The largest value that falls into a bucket.
pub const fn highest_of(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let octave = bucket / SUB - 1;
    (((SUB + bucket % SUB) as u64 + 1) << octave) - 1
}

/// A merged histogram, for reading.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// Adds `n` to a bucket.
    pub fn add(&mut self, bucket: usize, n: u64) {
        self.counts[bucket] += n;
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Histogram) {
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
    }

    /// Records a value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
    }

    /// Values recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The value that `quantile` (0 to 1) of all values do not exceed; 0 when there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let total = self.count();
        let rank = ((total as f64 * quantile).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (i, n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return highest_of(i);
            }
        }
        0
    }

    /// The buckets that have something in them, from below: the largest value that falls into each, and how many have.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (highest_of(i), *n))
    }

    /// The largest value, as its bucket tells it.
    pub fn max(&self) -> u64 {
        self.counts.iter().rposition(|n| *n > 0).map_or(0, highest_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_within_three_percent() {
        let mut last = 0;
        for exp in 0..41 {
            for step in 0..64u64 {
                let v = (1u64 << exp) + step * ((1u64 << exp) / 64);
                let b = bucket_of(v);
                assert!(b >= last, "{v}");
                last = b;
                assert!(highest_of(b) >= v && highest_of(b) as f64 <= v as f64 * 1.04, "{v}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let mut h = Histogram::default();
        assert_eq!((h.quantile(0.99), h.max()), (0, 0));
        for v in 1..=1000u64 {
            h.record(v * 1000);
        }
        let p50 = h.quantile(0.5) as f64;
        assert!((500_000.0..520_000.0).contains(&p50), "{p50}");
        assert!(h.quantile(1.0) >= 1_000_000 && h.max() == h.quantile(1.0));
        assert_eq!(h.buckets().map(|(_, n)| n).sum::<u64>(), 1000);
        assert_eq!(h.buckets().last().map(|(value, _)| value), Some(h.max()));
    }
}
