//! The search for the highest rate at which no more than a share of frames is lost: what RFC 2544, section 26.1 calls
//! throughput where that share is nothing, found by bisection. It sends nothing: it is told what a trial has shown, and
//! says which rate is next.
//!
//! ```text
//!  lost too much  ·····································×───────────×   the lowest such rate bounds from above
//!                                     (res. × 1, 2, 4 …)  ╱ bisect
//!  passed         ───────●──────────────────────────●····             the highest below that one bounds from below
//!                     of the first try's rate, what came back of it
//! ```
//!
//! The first trial is as fast as it goes. Where it loses, the second is a little below the rate at which frames came
//! back then: a device that drops what is too much is found within a few trials. A device that loses now and then has
//! passes above failures; those do not count, so that the answer is below every rate at which it has failed.

/// Trials of one search, at most.
pub const TRIALS_MAX: usize = 64;
/// The search gives up below this share of the fastest.
const FLOOR: f64 = 1e-3;
/// The sender may fall short of what was asked this often before that is taken for all it can do.
const SHORT_MAX: usize = 3;

/// What one trial has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// The rate that was asked for; `None`: as fast as it goes.
    pub asked: Option<f64>,
    /// The rate at which frames were sent.
    pub rate: f64,
    /// The share that did not come back, from 0 to 1.
    pub loss: f64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// A trial at this rate; `None`: as fast as it goes.
    Trial(Option<f64>),
    /// Every goal has its answer.
    Done,
}

/// What is known about one goal. The numbers are those of trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It passed at one, and failed at another within the resolution above.
    Found {
        /// The highest that passed below all that failed.
        passed: usize,
        /// The lowest that failed.
        failed: usize,
    },
    /// It passed as fast as could be sent: the device was not the limit.
    AtLeast {
        /// The fastest that passed.
        passed: usize,
    },
    /// It failed even at a thousandth of the fastest, or where a trial is a handful of frames.
    Nowhere {
        /// The lowest.
        failed: usize,
    },
    /// The search was ended early, or went on for too long.
    Open {
        /// The highest that passed below all that failed.
        passed: Option<usize>,
        /// The lowest that failed.
        failed: Option<usize>,
    },
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    /// Shares of frames that may be lost.
    goals: Vec<f64>,
    resolution: f64,
    max: Option<f64>,
    least: f64,
    trials: Vec<Shown>,
}

/// The bounds of one goal.
struct Bounds {
    passed: Option<usize>,
    failed: Option<usize>,
    passes: i32,
    fails: i32,
}

impl Search {
    /// For shares that may be lost, up to rates of `max`. `resolution` is how far what failed may lie above what
    /// passed, as a share of it. Below `least` it gives up.
    pub fn new(goals: Vec<f64>, resolution: f64, max: Option<f64>, least: f64) -> Search {
        debug_assert!(resolution > 0.0 && resolution < 1.0);
        debug_assert!(goals.iter().all(|g| (0.0..1.0).contains(g)));
        Search { goals, resolution, max, least, trials: Vec::new() }
    }

    /// A trial is over.
    pub fn record(&mut self, shown: Shown) {
        self.trials.push(shown);
    }

    fn bounds(&self, goal: f64) -> Bounds {
        let rate = |n: &usize| self.trials[*n].rate;
        let all = 0..self.trials.len();
        let failed = all.clone().filter(|n| self.trials[*n].loss > goal);
        let failed = failed.min_by(|a, b| rate(a).total_cmp(&rate(b)));
        let below = |n: &usize| self.trials[*n].loss <= goal && failed.is_none_or(|f| rate(n) < rate(&f));
        let passed = all.filter(below).max_by(|a, b| rate(a).total_cmp(&rate(b)));
        let passes = self.trials.iter().filter(|t| t.loss <= goal).count() as i32;
        Bounds { passed, failed, passes, fails: self.trials.len() as i32 - passes }
    }

    /// The sender did clearly less than it was asked for.
    fn short(&self, t: &Shown) -> bool {
        t.asked.is_some_and(|a| t.rate < a * (1.0 - self.resolution / 2.0))
    }

    /// Where it gives up.
    fn floor(&self) -> f64 {
        self.trials.first().map_or(0.0, |t| t.rate * FLOOR).max(self.least)
    }

    /// What is known about a goal, by its place.
    pub fn answer(&self, goal: usize) -> Answer {
        let goal = self.goals[goal];
        let b = self.bounds(goal);
        match (b.passed, b.failed) {
            (Some(passed), None) => Answer::AtLeast { passed },
            (Some(passed), Some(failed)) => {
                let (low, high) = (self.trials[passed].rate, self.trials[failed].rate);
                let short = self.trials.iter().filter(|t| t.loss <= goal && self.short(t)).count();
                if low >= high * (1.0 - self.resolution) {
                    Answer::Found { passed, failed }
                } else if short >= SHORT_MAX {
                    Answer::AtLeast { passed }
                } else {
                    Answer::Open { passed: b.passed, failed: b.failed }
                }
            }
            (None, Some(failed)) if self.trials[failed].rate <= self.floor() => Answer::Nowhere { failed },
            (None, failed) => Answer::Open { passed: None, failed },
        }
    }

    /// What is to be done.
    pub fn next(&self) -> Next {
        if self.trials.is_empty() {
            return Next::Trial(self.max);
        }
        let open = |n: &usize| matches!(self.answer(*n), Answer::Open { .. });
        if self.trials.len() >= TRIALS_MAX {
            return Next::Done;
        }
        let Some(goal) = (0..self.goals.len()).find(open) else { return Next::Done };
        let b = self.bounds(self.goals[goal]);
        // Open: it has failed.
        let Some(failed) = b.failed.map(|n| self.trials[n]) else { return Next::Done };
        let step = |n: i32| (self.resolution * 2f64.powi(n.clamp(0, 30))).min(0.5);
        let rate = match b.passed.map(|n| self.trials[n].rate) {
            None => {
                let came = failed.rate * (1.0 - failed.loss) * (1.0 - self.resolution / 2.0);
                came.min(failed.rate * (1.0 - step(b.fails - 1))).max(self.floor() * 0.9)
            }
            // What lies less than a resolution above a pass and fails ends it; else twice as far, up to half of what is left.
            Some(passed) => ((passed + failed.rate) / 2.0).min(passed * (1.0 + 0.9 * step(b.passes - 1))),
        };
        Next::Trial(Some(rate))
    }
}

#[cfg(test)]
mod tests {
    use dataplane::rng::Rng;
    use proptest::prelude::*;

    use super::*;

    /// Searches on a device: what share it loses at a rate. Gives the search when it is done.
    fn on(
        goals: &[f64],
        resolution: f64,
        fastest: f64,
        max: Option<f64>,
        mut device: impl FnMut(f64) -> f64,
    ) -> Search {
        let mut s = Search::new(goals.to_vec(), resolution, max, 0.0);
        while let Next::Trial(asked) = s.next() {
            let rate = asked.unwrap_or(fastest).min(fastest);
            s.record(Shown { asked, rate, loss: device(rate) });
        }
        s
    }

    fn knee(capacity: f64) -> impl Fn(f64) -> f64 {
        move |rate| (1.0 - capacity / rate).max(0.0)
    }

    #[test]
    fn a_device_that_drops_what_is_too_much_takes_three_trials() {
        let s = on(&[0.0], 0.01, 1e6, None, knee(123_456.0));
        let Answer::Found { passed, failed } = s.answer(0) else { panic!("{:?}", s.answer(0)) };
        assert!(s.trials[passed].rate > 122_000.0 && s.trials[passed].rate <= 123_456.0, "{s:?}");
        assert!(s.trials[failed].rate <= 124_700.0, "{s:?}");
        assert_eq!(s.trials.len(), 3, "{s:?}");
    }

    #[test]
    fn a_device_that_is_faster_than_the_sender_is_told_as_such() {
        let s = on(&[0.0, 0.005], 0.01, 1e6, None, knee(2e6));
        assert_eq!(
            (s.answer(0), s.answer(1)),
            (Answer::AtLeast { passed: 0 }, Answer::AtLeast { passed: 0 })
        );
        let s = on(&[0.0], 0.01, 1e6, Some(3e6), knee(2e6));
        assert_eq!((s.answer(0), s.trials.len()), (Answer::AtLeast { passed: 0 }, 1));
    }

    #[test]
    fn a_device_that_always_loses_has_no_rate_and_another_goal_may_have_one() {
        let s = on(&[0.0, 0.05], 0.01, 1e6, None, |_| 0.02);
        let Answer::Nowhere { failed } = s.answer(0) else { panic!("{:?}", s.answer(0)) };
        assert!(s.trials[failed].rate <= 1000.0, "{s:?}");
        assert_eq!(s.answer(1), Answer::AtLeast { passed: 0 });
        assert!(s.trials.len() <= 24, "{} trials", s.trials.len());
    }

    #[test]
    fn a_sender_that_falls_short_ends_it() {
        let mut s = Search::new(vec![0.0], 0.01, None, 0.0);
        s.record(Shown { asked: None, rate: 1e6, loss: 0.1 });
        while let Next::Trial(asked) = s.next() {
            // Paced, it does no more than this.
            let rate = asked.unwrap_or(1e6).min(7e5);
            s.record(Shown { asked, rate, loss: 0.0 });
        }
        assert!(matches!(s.answer(0), Answer::AtLeast { passed } if s.trials[passed].rate == 7e5), "{s:?}");
        assert!(s.trials.len() < 8, "{s:?}");
    }

    #[test]
    fn what_was_broken_off_is_open() {
        let mut s = Search::new(vec![0.0], 0.01, None, 0.0);
        assert_eq!(s.answer(0), Answer::Open { passed: None, failed: None });
        s.record(Shown { asked: None, rate: 1e6, loss: 0.5 });
        assert_eq!(s.answer(0), Answer::Open { passed: None, failed: Some(0) });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_knee_is_found_within_the_resolution(
            capacity in 2e3..9e5f64, resolution in 0.001..0.2f64, goal in 0.0..0.1f64, power in 1.0..3.0f64,
        ) {
            // Beyond its capacity a device drops what is too much, or, with a higher power, more than that.
            let device = |rate: f64| 1.0 - (capacity / rate).min(1.0).powf(power);
            let s = on(&[0.0, goal], resolution, 1e6, None, device);
            prop_assert!(s.trials.len() <= 40, "{} trials", s.trials.len());
            for (n, goal) in [0.0, goal].into_iter().enumerate() {
                // The rate at which just that share is lost.
                let edge = capacity / (1.0 - goal).powf(1.0 / power);
                match s.answer(n) {
                    Answer::Found { passed, failed } => {
                        let (low, high) = (s.trials[passed].rate, s.trials[failed].rate);
                        prop_assert!(low <= edge * 1.000001 && high >= edge * 0.999999, "{low} {edge} {high}");
                        prop_assert!(low >= high * (1.0 - resolution));
                    }
                    Answer::AtLeast { .. } => prop_assert!(edge >= 1e6 * 0.999999),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }

        #[test]
        fn noise_gives_an_answer_below_every_failure(
            capacity in 1e4..9e5f64, often in 0.0..0.5f64, share in 1e-6..0.02f64, seed in any::<u64>(),
        ) {
            let mut rng = Rng::new(seed);
            let sharp = knee(capacity);
            let s = on(&[0.0, 0.005], 0.01, 1e6, None, |rate| {
                let hit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                sharp(rate) + if hit < often { share } else { 0.0 }
            });
            prop_assert!(s.trials.len() <= TRIALS_MAX);
            for (n, goal) in [0.0, 0.005].into_iter().enumerate() {
                if let Answer::Found { passed, failed } = s.answer(n) {
                    let p = s.trials[passed];
                    prop_assert!(p.loss <= goal && s.trials[failed].loss > goal);
                    prop_assert!(s.trials.iter().all(|t| t.loss <= goal || t.rate > p.rate));
                    prop_assert!(p.rate <= capacity / (1.0 - goal));
                }
            }
            // What may lose more is never the slower answer.
            let rate = |n: usize| match s.answer(n) {
                Answer::Found { passed, .. } | Answer::AtLeast { passed } => Some(s.trials[passed].rate),
                _ => None,
            };
            if let (Some(strict), Some(partial)) = (rate(0), rate(1)) {
                prop_assert!(partial >= strict, "{strict} {partial}");
            }
        }
    }
}
