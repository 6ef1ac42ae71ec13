//! When requests of an open loop are due: at equal distances, or as a Poisson process.

use dataplane::Time;
use dataplane::rng::Rng;

/// The distances between arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// All equal.
    #[default]
    Constant,
    /// Exponentially distributed: as of many clients that know nothing of each other.
    Poisson,
}

/// Arrivals at a rate. The next is always known; those that nobody fetched in time stay due.
pub struct Arrivals {
    kind: Kind,
    /// Mean distance in nanoseconds.
    mean_ns: f64,
    /// The next: from the start, in nanoseconds, with the fraction that a whole one would lose.
    next_ns: f64,
    from: Time,
    rng: Rng,
}

impl Arrivals {
    /// `rate` arrivals a second.
    pub fn new(kind: Kind, rate: f64, rng: Rng) -> Arrivals {
        let mut a = Arrivals { kind, mean_ns: 1e9 / rate, next_ns: 0.0, from: Time(0), rng };
        if kind == Kind::Poisson {
            a.next_ns = a.distance();
        }
        a
    }

    /// The first is counted from here.
    pub fn start(&mut self, from: Time) {
        self.from = from;
    }

    /// When the next is due.
    #[inline]
    pub fn next(&self) -> Time {
        self.from.plus_ns(self.next_ns as u64)
    }

    /// Takes the next, if it is due.
    #[inline]
    pub fn take(&mut self, now: Time) -> Option<Time> {
        let at = self.next();
        if at > now {
            return None;
        }
        self.next_ns += self.distance();
        Some(at)
    }

    fn distance(&mut self) -> f64 {
        match self.kind {
            Kind::Constant => self.mean_ns,
            Kind::Poisson => {
                // 53 bits, in (0, 1].
                let u = ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                -u.ln() * self.mean_ns
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(kind: Kind, rate: f64, seconds: u64, step_ns: u64) -> Vec<u64> {
        let mut a = Arrivals::new(kind, rate, Rng::new(9));
        a.start(Time(1_000));
        let mut times = Vec::new();
        let mut now = 0;
        while now < seconds * 1_000_000_000 {
            now += step_ns;
            while let Some(t) = a.take(Time(now)) {
                assert!(t <= Time(now));
                times.push(t.0);
            }
        }
        times
    }

    #[test]
    fn constant_is_exact_however_often_it_is_asked() {
        let fine = all(Kind::Constant, 3000.0, 1, 10_000);
        assert_eq!(
            fine,
            all(Kind::Constant, 3000.0, 1, 5_000_000),
            "late or not, they are due at the same times"
        );
        assert_eq!(fine.len(), 3000);
        assert_eq!((fine[0], fine[3], fine[2997]), (1_000, 1_001_000, 999_001_000));
    }

    #[test]
    fn poisson_has_the_mean_and_the_spread() {
        let times = all(Kind::Poisson, 1000.0, 100, 1_000_000);
        let n = times.len() as f64;
        assert!((n - 100_000.0).abs() < 4.0 * 100_000f64.sqrt(), "{n}");
        // Distances of an exponential distribution: 1/e of them are longer than the mean.
        let long = times.windows(2).filter(|w| w[1] - w[0] > 1_000_000).count() as f64 / n;
        assert!((long - (-1f64).exp()).abs() < 0.01, "{long}");
        assert_eq!(times, all(Kind::Poisson, 1000.0, 100, 700_000), "the same seed, the same times");
    }
}
