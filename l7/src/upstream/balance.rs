//! Which origin is next.
//!
//! | Method | Cost | What it does |
//! |---|---|---|
//! | round robin | O(n) additions | smooth: `a a b` by weight 2 and 1 comes as `a b a`, not `a a b` |
//! | least outstanding | O(n) compares | exact over all origins, requests under way by weight; ties in turn |
//! | by key | O(n) hashes | rendezvous: each origin draws for the key, the best draw has it |
//!
//! n is at most 64. Rendezvous was chosen over a table (Maglev) because it needs no memory per set, is exact about
//! who moves (only the keys of the origin that went, spread over all others), and takes weights that change with
//! time (slow start) without a rebuild.

use dataplane::Time;

use super::{ORIGINS_MAX, all, members, mix};

/// How the next origin is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastOutstanding,
    /// The same one for the same key.
    Hash,
}

/// Which origins are out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Down by their checks.
    pub down: u64,
    /// Left out for failing requests.
    pub ejected: u64,
    /// Without room for another connection.
    pub full: u64,
    /// Tried by this request already.
    pub exclude: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one.
    Origin(usize),
    /// Those that could be used are full: wait, or answer 503.
    Full,
    /// All that could be used are excluded. (The same one again may still be worth it: pick without `exclude`.)
    None,
}

/// A full weight: shares of a slow start are counted in 256ths of a weight.
const WHOLE: u32 = 256;

/// Chooses among a set's origins.
#[derive(Debug)]
pub struct Balancer {
    method: Method,
    slow_start_ns: u64,
    origins: Box<[State]>,
    /// Whether all weights are the same.
    uniform: bool,
    /// Origins that may be in their slow start.
    growing: u64,
    /// Where ties begin.
    turn: u32,
}

#[derive(Clone, Copy, Debug)]
struct State {
    weight: u32,
    seed: u64,
    /// Smooth round robin's balance.
    current: i64,
    outstanding: u32,
    recovered: Time,
}

impl Balancer {
    /// A balancer over origins of these weights (1 to 65535) and seeds (hashes of their names: a set in another
    /// order chooses the same ones).
    pub fn new(method: Method, slow_start_ns: u64, origins: &[(u16, u64)]) -> Balancer {
        assert!((1..=ORIGINS_MAX).contains(&origins.len()), "1 to 64 origins");
        let state = |&(weight, seed): &(u16, u64)| State {
            weight: u32::from(weight.max(1)),
            seed,
            current: 0,
            outstanding: 0,
            recovered: Time(0),
        };
        let uniform = origins.iter().all(|o| o.0 == origins[0].0);
        let origins = origins.iter().map(state).collect();
        Balancer { method, slow_start_ns, origins, uniform, growing: 0, turn: 0 }
    }

    /// How many origins there are.
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Never: a set has an origin.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Chooses; the origin does not count as used before [`begin`](Self::begin).
    pub fn pick(&mut self, now: Time, key: u64, masks: Masks) -> Pick {
        let everyone = all(self.origins.len());
        // See the module above: all down is not believed.
        let good = everyone & !(masks.down | masks.ejected);
        let tier = [good, everyone & !masks.down, everyone].into_iter().find(|t| *t != 0).unwrap_or(0);
        let wanted = tier & !masks.exclude;
        if wanted == 0 {
            return Pick::None;
        }
        let free = wanted & !masks.full;
        if free == 0 {
            return Pick::Full;
        }
        if free.is_power_of_two() {
            return Pick::Origin(free.trailing_zeros() as usize);
        }
        for i in members(self.growing) {
            if !self.is_growing(i, now) {
                self.growing &= !(1 << i);
            }
        }
        Pick::Origin(match self.method {
            Method::RoundRobin => self.in_turn(now, free),
            Method::LeastOutstanding => self.least(now, free),
            Method::Hash => self.by_key(now, key, free),
        })
    }

    /// A request goes to the origin.
    pub fn begin(&mut self, origin: usize) {
        self.origins[origin].outstanding += 1;
    }

    /// It is over.
    pub fn end(&mut self, origin: usize) {
        debug_assert!(self.origins[origin].outstanding > 0, "an end without a beginning");
        self.origins[origin].outstanding = self.origins[origin].outstanding.saturating_sub(1);
    }

    /// Requests under way at the origin.
    pub fn outstanding(&self, origin: usize) -> u32 {
        self.origins[origin].outstanding
    }

    /// The origin came back at `since`: its share grows from there.
    pub fn recovered(&mut self, origin: usize, since: Time) {
        let state = &mut self.origins[origin];
        // It may have been down and ejected at once: the later return counts.
        state.recovered = state.recovered.max(since);
        if self.slow_start_ns > 0 {
            self.growing |= 1 << origin;
        }
    }

    /// Whether the origin's share is still growing.
    pub fn is_growing(&self, origin: usize, now: Time) -> bool {
        self.growing >> origin & 1 == 1 && now.since_ns(self.origins[origin].recovered) < self.slow_start_ns
    }

    /// The origin's weight in 256ths: never 0, so that nothing starves.
    #[inline]
    fn weight(&self, i: usize, now: Time) -> u32 {
        let state = &self.origins[i];
        let whole = state.weight * WHOLE;
        if self.growing >> i & 1 == 0 {
            return whole;
        }
        let elapsed = now.since_ns(state.recovered);
        if elapsed >= self.slow_start_ns {
            return whole;
        }
        ((u128::from(whole) * u128::from(elapsed) / u128::from(self.slow_start_ns)) as u32).max(1)
    }

    fn in_turn(&mut self, now: Time, free: u64) -> usize {
        let mut total = 0i64;
        let mut best = (i64::MIN, 0);
        for i in members(free) {
            let weight = i64::from(self.weight(i, now));
            total += weight;
            let state = &mut self.origins[i];
            state.current += weight;
            if state.current > best.0 {
                best = (state.current, i);
            }
        }
        self.origins[best.1].current -= total;
        self.forget_old_credit(total);
        best.1
    }

    /// What an origin saved up before it went must not come in a row when it is back.
    fn forget_old_credit(&mut self, total: i64) {
        // Among those that take part, smooth round robin stays within one round's total.
        for state in &mut self.origins {
            state.current = state.current.clamp(-total, total);
        }
    }

    fn least(&mut self, now: Time, free: u64) -> usize {
        self.turn = self.turn.wrapping_add(1);
        let n = self.origins.len() as u32;
        let start = self.turn % n;
        // Those from `start` on first: ties go in turn.
        let from = free & (u64::MAX << start);
        let mut best: Option<(u64, u64, usize)> = None;
        for i in members(from).chain(members(free & !from)) {
            let load = u64::from(self.origins[i].outstanding) + 1;
            let weight = u64::from(self.weight(i, now));
            // load / weight < best load / best weight
            if best.is_none_or(|(l, w, _)| load * w < l * weight) {
                best = Some((load, weight, i));
            }
        }
        best.map_or(0, |(_, _, i)| i)
    }

    fn by_key(&mut self, now: Time, key: u64, free: u64) -> usize {
        let equal = self.uniform && self.growing & free == 0;
        let mut best = (f64::INFINITY, 0);
        for i in members(free) {
            let draw = mix(key ^ self.origins[i].seed);
            if equal {
                // The logarithm changes no order: spared.
                let score = -((draw >> 11) as f64);
                if score < best.0 {
                    best = (score, i);
                }
                continue;
            }
            // Within (0, 1): 53 bits and a half.
            let unit = ((draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            // An exponential draw by weight: the least has the chance weight / sum of weights.
            let score = -unit.ln() / f64::from(self.weight(i, now));
            if score < best.0 {
                best = (score, i);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::hash_key;

    fn balancer(method: Method, weights: &[u16]) -> Balancer {
        let origins: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, w)| (*w, hash_key(format!("origin-{i}").as_bytes())))
            .collect();
        Balancer::new(method, 0, &origins)
    }

    fn origin(pick: Pick) -> usize {
        match pick {
            Pick::Origin(i) => i,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn round_robin_is_smooth() {
        let mut b = balancer(Method::RoundRobin, &[5, 1, 1]);
        let picks: Vec<usize> = (0..7).map(|_| origin(b.pick(Time(0), 0, Masks::default()))).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
        let mut b = balancer(Method::RoundRobin, &[1, 1, 1]);
        let picks: Vec<usize> = (0..6).map(|_| origin(b.pick(Time(0), 0, Masks::default()))).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn who_is_out_is_not_picked() {
        let masks = |down, ejected, full, exclude| Masks { down, ejected, full, exclude };
        for (case, m, expected) in [
            ("one left", masks(0b001, 0b010, 0, 0), Pick::Origin(2)),
            ("the good one is full", masks(0b001, 0b010, 0b100, 0), Pick::Full),
            ("the good one was tried", masks(0b001, 0b010, 0, 0b100), Pick::None),
            ("all tried", masks(0, 0, 0, 0b111), Pick::None),
            ("all full", masks(0, 0, 0b111, 0), Pick::Full),
            ("all down or ejected: the ejected one", masks(0b101, 0b010, 0, 0), Pick::Origin(1)),
            ("all down: any that has not been tried", masks(0b111, 0b111, 0, 0b110), Pick::Origin(0)),
            ("bits beyond the set", masks(!0b100, 0, 0, 0), Pick::Origin(2)),
        ] {
            for method in [Method::RoundRobin, Method::LeastOutstanding, Method::Hash] {
                assert_eq!(balancer(method, &[1, 1, 1]).pick(Time(0), 7, m), expected, "{case}, {method:?}");
            }
        }
    }

    #[test]
    fn least_outstanding_takes_the_idlest_by_weight() {
        let mut b = balancer(Method::LeastOutstanding, &[1, 1, 2]);
        for _ in 0..400 {
            let i = origin(b.pick(Time(0), 0, Masks::default()));
            b.begin(i);
        }
        assert_eq!([0, 1, 2].map(|i| b.outstanding(i)), [100, 100, 200]);
        for _ in 0..50 {
            b.end(0);
        }
        assert_eq!(b.pick(Time(0), 0, Masks::default()), Pick::Origin(0));
        // Idle origins go in turn.
        let mut b = balancer(Method::LeastOutstanding, &[1, 1, 1]);
        let mut seen: Vec<usize> = (0..3).map(|_| origin(b.pick(Time(0), 0, Masks::default()))).collect();
        seen.sort();
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn who_was_away_does_not_make_up_for_it() {
        let mut b = balancer(Method::RoundRobin, &[1, 1]);
        for _ in 0..1000 {
            b.pick(Time(0), 0, Masks { down: 0b10, ..Masks::default() });
        }
        let picks: Vec<usize> = (0..8).map(|_| origin(b.pick(Time(0), 0, Masks::default()))).collect();
        let second = picks.iter().filter(|p| **p == 1).count();
        assert!((3..=5).contains(&second), "{picks:?}");
    }

    #[test]
    fn a_slow_start_grows_with_time() {
        const SECOND: u64 = 1_000_000_000;
        for method in [Method::RoundRobin, Method::Hash] {
            let mut b = Balancer::new(method, 100 * SECOND, &[(1, hash_key(b"a")), (1, hash_key(b"b"))]);
            b.recovered(1, Time(SECOND));
            assert!(b.is_growing(1, Time(50 * SECOND)) && !b.is_growing(1, Time(101 * SECOND)));
            let mut shares = Vec::new();
            for second in [1, 11, 26, 51, 101, 500] {
                let now = Time(second * SECOND);
                let share =
                    (0..10_000u64).filter(|k| b.pick(now, mix(*k), Masks::default()) == Pick::Origin(1));
                shares.push(share.count());
            }
            let expected = [0, 909, 2000, 3333, 5000, 5000];
            for (share, expected) in shares.iter().zip(expected) {
                assert!(share.abs_diff(expected) <= 250, "{method:?}: {shares:?}");
            }
            assert!(shares[0] > 0 || method == Method::Hash, "nothing starves: {shares:?}");
        }
    }

    #[test]
    fn only_the_keys_of_the_one_that_went_move() {
        let n = 10;
        let mut b = balancer(Method::Hash, &vec![1; n]);
        let mut moved = 0;
        for k in 0..20_000u64 {
            let key = hash_key(&k.to_le_bytes());
            let before = origin(b.pick(Time(0), key, Masks::default()));
            let after = origin(b.pick(Time(0), key, Masks { down: 1 << 3, ..Masks::default() }));
            assert!(before == after || before == 3, "a key moved without need");
            moved += usize::from(before != after);
        }
        assert!(moved.abs_diff(20_000 / n) < 200, "{moved} keys moved");
    }

    #[test]
    fn a_set_in_another_order_chooses_the_same() {
        let [a, b, c] = ["a", "b", "c"].map(|n| (1u16, hash_key(n.as_bytes())));
        let mut one = Balancer::new(Method::Hash, 0, &[a, b, c]);
        let mut two = Balancer::new(Method::Hash, 0, &[c, a, b]);
        for k in 0..1000 {
            let (i, j) =
                (one.pick(Time(0), mix(k), Masks::default()), two.pick(Time(0), mix(k), Masks::default()));
            assert_eq!((origin(i) + 1) % 3, origin(j));
        }
    }

    #[test]
    fn the_short_way_for_equal_weights_chooses_the_same() {
        let mut short = balancer(Method::Hash, &[3; 7]);
        let mut long = balancer(Method::Hash, &[3; 7]);
        long.uniform = false;
        for k in 0..5000 {
            assert_eq!(
                short.pick(Time(0), mix(k), Masks::default()),
                long.pick(Time(0), mix(k), Masks::default())
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        /// Shares follow the weights, whoever is out.
        #[test]
        fn shares_are_by_weight(
            weights in proptest::collection::vec(1u16..20, 2..64), down: u64, hash: bool
        ) {
            let method = if hash { Method::Hash } else { Method::RoundRobin };
            let mut b = balancer(method, &weights);
            let up = all(weights.len()) & !down;
            let taking = if up == 0 { all(weights.len()) } else { up };
            let total: u64 = members(taking).map(|i| u64::from(weights[i])).sum();
            let rounds = 40u64;
            let mut counts = vec![0u64; weights.len()];
            for k in 0..total * rounds {
                let i = origin(b.pick(Time(0), mix(k), Masks { down, ..Masks::default() }));
                counts[i] += 1;
            }
            for (i, count) in counts.iter().enumerate() {
                if taking >> i & 1 == 0 {
                    prop_assert_eq!(*count, 0);
                    continue;
                }
                let expected = u64::from(weights[i]) * rounds;
                // Round robin is exact; a hash is random: five standard deviations.
                let slack = if hash { 5 * (expected as f64).sqrt() as u64 + 5 } else { 0 };
                prop_assert!(count.abs_diff(expected) <= slack, "{} instead of {}", count, expected);
            }
        }

        /// Under any history of masks nobody who may be picked waits for more than a few rounds.
        #[test]
        fn nothing_starves(masks in proptest::collection::vec(any::<u64>(), 0..40), weights in proptest::collection::vec(1u16..6, 1..12)) {
            let mut b = balancer(Method::RoundRobin, &weights);
            for down in masks {
                b.pick(Time(0), 0, Masks { down, ..Masks::default() });
            }
            let total: usize = weights.iter().map(|w| usize::from(*w)).sum();
            let mut seen = 0u64;
            for _ in 0..4 * total {
                seen |= 1 << origin(b.pick(Time(0), 0, Masks::default()));
            }
            prop_assert_eq!(seen, all(weights.len()));
        }
    }
}
