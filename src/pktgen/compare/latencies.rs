//! What was measured of one run: how many answers took how long, and which questions that can answer.

/// Samples that must lie beyond a quantile before it is worth claiming.
pub const BEYOND_MIN: f64 = 10.0;

/// Latencies as steps that rise.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    /// A value in microseconds, and how many samples do not exceed it.
    steps: Vec<(f64, u64)>,
}

impl Latencies {
    /// From buckets, in any order: the highest value of each in microseconds, and the samples in it. `None` without
    /// samples.
    pub fn new(mut buckets: Vec<(f64, u64)>) -> Option<Latencies> {
        buckets.retain(|(_, n)| *n > 0);
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut steps: Vec<(f64, u64)> = Vec::with_capacity(buckets.len());
        let mut total = 0u64;
        for (value, n) in buckets {
            total = total.saturating_add(n);
            match steps.last_mut() {
                Some(last) if last.0 == value => last.1 = total,
                _ => steps.push((value, total)),
            }
        }
        (!steps.is_empty()).then_some(Latencies { steps })
    }

    /// Samples.
    pub fn count(&self) -> u64 {
        self.steps.last().map_or(0, |s| s.1)
    }

    /// The steps: value, and how many samples do not exceed it.
    pub fn steps(&self) -> &[(f64, u64)] {
        &self.steps
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.steps[0].0
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.steps[self.steps.len() - 1].0
    }

    /// The value that a share `q` (0 to 1) of the samples does not exceed.
    pub fn quantile(&self, q: f64) -> f64 {
        let total = self.count();
        // What is a whole number on paper must not become the next one in floating point.
        let rank = ((total as f64 * q - 1e-6).ceil() as u64).clamp(1, total);
        let at = self.steps.partition_point(|(_, n)| *n < rank);
        self.steps[at].0
    }

    /// Whether enough samples lie beyond a quantile for it to mean something.
    pub fn can_claim(&self, q: f64) -> bool {
        self.count() as f64 * (1.0 - q) > BEYOND_MIN - 0.001
    }
}

/// Which quantile of single requests is the quantile `q` of pages. A page is as slow as the slowest of its `n`
/// requests, and all of them stay below x with the n-th power of the chance that one does.
pub fn of_page(q: f64, n: u32) -> f64 {
    q.powf(1.0 / f64::from(n))
}

/// The share of pages with `n` requests in which one at least lies beyond the quantile `q`.
pub fn pages_beyond(q: f64, n: u32) -> f64 {
    1.0 - q.powf(f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(n: u32) -> Latencies {
        Latencies::new((1..=n).rev().map(|v| (f64::from(v), 1)).collect()).expect("samples")
    }

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let l = uniform(10_000);
        assert_eq!((l.count(), l.min(), l.max()), (10_000, 1.0, 10_000.0));
        for (q, value) in
            [(0.0, 1.0), (0.5, 5000.0), (0.9, 9000.0), (0.99, 9900.0), (0.999, 9990.0), (1.0, 10_000.0)]
        {
            assert_eq!(l.quantile(q), value, "{q}");
        }
    }

    #[test]
    fn equal_values_are_one_step_and_empty_buckets_none() {
        let l = Latencies::new(vec![(5.0, 2), (1.0, 1), (5.0, 1), (9.0, 0)]).expect("samples");
        assert_eq!(l.steps(), [(1.0, 1), (5.0, 4)]);
        assert_eq!(Latencies::new(vec![(9.0, 0)]), None);
        assert_eq!(Latencies::new(Vec::new()), None);
    }

    #[test]
    fn a_quantile_needs_ten_samples_beyond_it() {
        for (n, q, can) in [
            (1000, 0.99, true),
            (999, 0.99, false),
            (100_000, 0.9999, true),
            (99_000, 0.9999, false),
            (20, 0.5, true),
        ] {
            assert_eq!(Latencies::new(vec![(1.0, n)]).expect("samples").can_claim(q), can, "{n} {q}");
        }
    }

    #[test]
    fn a_page_is_as_slow_as_its_slowest_request() {
        assert_eq!(of_page(0.5, 1), 0.5);
        // All of a page stay below it in half of the cases: the power undoes the root.
        for n in [2, 50, 300] {
            assert!((of_page(0.5, n).powi(n as i32) - 0.5).abs() < 1e-9);
        }
        assert!((pages_beyond(0.99, 50) - 0.395).abs() < 0.001);
        // Against pages that are put together from the samples: 1 to 10,000, ten at a time, in a stride that visits
        // each once.
        let l = uniform(10_000);
        let order: Vec<u64> = (0..10_000u64).map(|i| i * 7919 % 10_007 % 10_000 + 1).collect();
        let mut pages: Vec<u64> = order.chunks(10).filter_map(|p| p.iter().max().copied()).collect();
        pages.sort_unstable();
        let median = pages[pages.len() / 2] as f64;
        let told = l.quantile(of_page(0.5, 10));
        assert!((told / median - 1.0).abs() < 0.02, "{told} {median}");
    }
}
