//! The pictures: how latencies are distributed, on a scale for the tail and on a plain one, and quantiles of one run
//! against those of another.

use super::latencies::BEYOND_MIN;
use super::read::Run;
use super::svg::{Picture, Plot, Tick};

/// A range of latencies in microseconds, shown by its logarithm.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LogScale {
    low: f64,
    high: f64,
}

/// Values in a decade that an axis begins or ends with.
const ROUND: [f64; 3] = [1.0, 2.0, 5.0];
/// Letters of a name in the legend.
const NAME_MAX: usize = 32;
/// What a bucket of the value 0 is shown as.
const LEAST_US: f64 = 0.001;

impl LogScale {
    /// All of the runs, between round numbers.
    fn of(runs: &[Run]) -> LogScale {
        let least = runs.iter().map(|r| r.latencies.min()).fold(f64::MAX, f64::min).max(LEAST_US);
        let most = runs.iter().map(|r| r.latencies.max()).fold(least, f64::max);
        let round = |v: f64, up: bool| {
            let decade = 10f64.powf(v.log10().floor());
            let mut all = ROUND.iter().chain(&[10.0]).map(|r| r * decade);
            // A little slack: 10^log10(v) is not always v.
            if up {
                all.find(|r| *r >= v * 0.999_999).unwrap_or(10.0 * decade)
            } else {
                all.rfind(|r| *r <= v * 1.000_001).unwrap_or(decade)
            }
        };
        let (low, high) = (round(least, false), round(most, true));
        LogScale { low, high: if high > low * 1.5 { high } else { low * 2.0 } }
    }

    /// Where a value lies, from 0 to 1.
    fn at(self, us: f64) -> f64 {
        ((us.max(LEAST_US) / self.low).log10() / (self.high / self.low).log10()).clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<Tick> {
        let decades = (self.high / self.low).log10();
        let mut ticks = Vec::new();
        let mut decade = 10f64.powf(self.low.log10().floor());
        while decade <= self.high * 1.01 {
            for r in ROUND {
                let v = r * decade;
                if v >= self.low * 0.99 && v <= self.high * 1.01 {
                    let first = r == 1.0;
                    let word = (first || decades <= 4.0).then(|| time(v));
                    ticks.push(Tick { at: self.at(v), word, first });
                }
            }
            decade *= 10.0;
        }
        ticks
    }
}

/// Microseconds in the unit that fits: three digits.
fn time(us: f64) -> String {
    let (n, unit) = match us {
        n if n < 0.9995 => (n * 1e3, "ns"),
        n if n < 999.5 => (n, "µs"),
        n if n < 999_500.0 => (n / 1e3, "ms"),
        n => (n / 1e6, "s"),
    };
    let places = if n < 9.995 { 2 } else { usize::from(n < 99.95) };
    let text = format!("{n:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

fn titled(title: Option<&str>, what: &str) -> String {
    title.map_or_else(|| what.to_owned(), |t| format!("{t}: {what}"))
}

fn legend(plot: &mut Plot, n: usize, run: &Run) {
    let l = &run.latencies;
    let mut name: String = run.name.chars().take(NAME_MAX).collect();
    if name.len() < run.name.len() {
        name.push('…');
    }
    let mut t = format!("{name}: p50 {}", time(l.quantile(0.5)));
    for (name, q) in [("p99", 0.99), ("p99.9", 0.999)] {
        if l.can_claim(q) {
            t.push_str(&format!(", {name} {}", time(l.quantile(q))));
        }
    }
    t.push_str(&format!(", max {} of {}", time(l.max()), l.count()));
    plot.legend(Some(n), &t);
}

/// How many nines the share has that lies beyond: p90 is at 1, p99 at 2.
fn nines(q: f64) -> f64 {
    -(1.0 - q).log10()
}

/// The distribution on HdrHistogram's scale, where each nine has as much room as the one before.
pub fn tail(runs: &[Run], title: Option<&str>) -> Picture {
    let scale = LogScale::of(runs);
    let top = runs.iter().map(|r| (r.latencies.count() as f64).log10()).fold(1.0, f64::max);
    let mut plot = Plot::new(
        &titled(title, "latency by percentile"),
        360.0,
        ["latency (logarithmic)", "percentile (one nine more each)"],
    );
    let tick = |t: f64, word: String| Tick { at: t / top, word: Some(word), first: true };
    let mut ticks = vec![tick(nines(0.5), "50".to_owned()), tick(0.0, "0".to_owned())];
    for n in 1..=top as i32 {
        let percent = 100.0 - 100.0 / 10f64.powi(n);
        ticks.push(tick(f64::from(n), format!("{percent:.0$}", (n - 2).max(0) as usize)));
    }
    plot.ticks(&scale.ticks(), &ticks);
    let mut few = false;
    for (n, run) in runs.iter().enumerate() {
        let total = run.latencies.count();
        let limit = (total as f64 / BEYOND_MIN).log10().max(0.0);
        let (mut sure, mut unsure) = (Vec::new(), Vec::new());
        let mut before = 0.0;
        for (value, count) in run.latencies.steps() {
            let x = scale.at(*value);
            // The largest stands where one sample of all lies.
            let y =
                if *count == total { (total as f64).log10() } else { nines(*count as f64 / total as f64) };
            for y in [before, y] {
                if y <= limit {
                    sure.push((x, y / top));
                } else {
                    if unsure.is_empty() && before <= limit {
                        sure.push((x, limit / top));
                        unsure.push((x, limit / top));
                    }
                    unsure.push((x, y / top));
                }
            }
            before = y;
        }
        few |= unsure.len() > 1;
        plot.line(&format!("line s{n}"), &sure);
        plot.line(&format!("line few s{n}"), &unsure);
        legend(&mut plot, n, run);
    }
    if few {
        plot.legend(None, &format!("Dashed: fewer than {BEYOND_MIN} samples lie beyond."));
    }
    plot.done()
}

/// The plain distribution.
pub fn plain(runs: &[Run], title: Option<&str>) -> Picture {
    let scale = LogScale::of(runs);
    let mut plot = Plot::new(
        &titled(title, "cumulative distribution of latency"),
        300.0,
        ["latency (logarithmic)", "share not slower"],
    );
    let quarter = |n: u32| Tick { at: f64::from(n) / 4.0, word: Some(format!("{} %", 25 * n)), first: true };
    let ticks: Vec<Tick> = (0..=4).map(quarter).collect();
    plot.ticks(&scale.ticks(), &ticks);
    for (n, run) in runs.iter().enumerate() {
        let total = run.latencies.count() as f64;
        let (mut points, mut before) = (Vec::new(), 0.0);
        for (value, count) in run.latencies.steps() {
            let (x, y) = (scale.at(*value), *count as f64 / total);
            points.extend([(x, before), (x, y)]);
            before = y;
        }
        plot.line(&format!("line s{n}"), &points);
        legend(&mut plot, n, run);
    }
    plot.done()
}

/// Quantiles of every further run against the same quantiles of the first.
pub fn against(runs: &[Run], title: Option<&str>) -> Picture {
    let scale = LogScale::of(runs);
    let first = &runs[0];
    let mut plot = Plot::new(
        &titled(title, &format!("quantiles against {}", first.name)),
        520.0,
        [&format!("latency of {} (logarithmic)", first.name), "latency at the same quantile (logarithmic)"],
    );
    plot.ticks(&scale.ticks(), &scale.ticks());
    plot.line("same", &[(0.0, 0.0), (1.0, 1.0)]);
    plot.word((0.0, 1.0), (10.0, 20.0), "start", "above the diagonal: slower");
    plot.word((1.0, 0.0), (-10.0, -12.0), "end", "below: faster");
    let mut few = false;
    for (n, run) in runs.iter().enumerate().skip(1) {
        let samples = first.latencies.count().min(run.latencies.count()) as f64;
        let limit = (samples / BEYOND_MIN).log10().max(0.0);
        let at = |t: f64| {
            let q = 1.0 - 10f64.powf(-t);
            (scale.at(first.latencies.quantile(q)), scale.at(run.latencies.quantile(q)))
        };
        let along = |from: f64, to: f64| -> Vec<(f64, f64)> {
            let steps = ((to - from) / 0.01).ceil().max(1.0) as u32;
            (0..=steps).map(|i| at(from + (to - from) * f64::from(i) / f64::from(steps))).collect()
        };
        plot.line(&format!("line s{n}"), &along(0.0, limit));
        let mut rest = along(limit, samples.log10().max(limit));
        rest.push((scale.at(first.latencies.max()), scale.at(run.latencies.max())));
        plot.line(&format!("line few s{n}"), &rest);
        few = true;
        let mut told: Option<(f64, f64)> = None;
        for (name, t) in [("p50", nines(0.5)), ("p90", 1.0), ("p99", 2.0), ("p99.9", 3.0), ("p99.99", 4.0)] {
            if t > limit + 1e-9 {
                break;
            }
            let p = at(t);
            let q = 1.0 - 10f64.powf(-t);
            let values = [first, run].map(|r| format!("{} {}", r.name, time(r.latencies.quantile(q))));
            plot.dot(n, p, &format!("{name}: {}", values.join(", ")));
            // Of several runs the words would stand on each other: the dots are the same ones in the same order.
            if n == 1 && told.is_none_or(|last| plot.distance(last, p) > 24.0) {
                // On the side of the line where the diagonal is not.
                if p.1 > p.0 {
                    plot.word(p, (-9.0, -5.0), "end", name);
                } else {
                    plot.word(p, (9.0, 16.0), "start", name);
                }
                told = Some(p);
            }
        }
        legend(&mut plot, n, run);
    }
    plot.legend(
        None,
        "Dots, from below: p50, p90, p99, p99.9, p99.99, as far as there are samples for them.",
    );
    if few {
        plot.legend(None, &format!("Dashed: fewer than {BEYOND_MIN} samples lie beyond."));
    }
    plot.done()
}

#[cfg(test)]
mod tests {
    use super::super::latencies::Latencies;
    use super::super::svg;
    use super::*;

    fn run(name: &str, buckets: &[(f64, u64)]) -> Run {
        Run {
            name: name.to_owned(),
            file: name.into(),
            throughput: None,
            failed: None,
            latencies: Latencies::new(buckets.to_vec()).expect("samples"),
        }
    }

    /// Every element is closed in its order, every attribute quoted, no bare `<` or `&` in text, and no number is none.
    fn assert_well_formed(xml: &str) {
        assert!(!xml.contains("NaN") && !xml.contains("inf"), "{xml}");
        let (mut open, mut rest) = (Vec::new(), xml);
        while let Some(at) = rest.find('<') {
            let text = &rest[..at];
            assert!(!text.contains('>'), "{text}");
            for entity in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;", "quot;"].iter().any(|e| entity.starts_with(e));
                assert!(known, "&{entity}");
            }
            let end = at + rest[at..].find('>').expect("a tag ends");
            let tag = &rest[at + 1..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(!tag.contains('<') && !tag.contains('&'), "{tag}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split_whitespace().next().expect("a name")),
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    }

    #[test]
    fn pictures_are_well_formed_whatever_was_measured() {
        let long: Vec<(f64, u64)> =
            (0..3000u32).map(|i| (1.5f64.powf(f64::from(i % 40)), u64::from(i))).collect();
        let cases: [&[(f64, u64)]; 5] =
            [&[(7.0, 1)], &[(0.0, 3)], &[(100.0, 5), (100.0, 6)], &[(0.001, 1), (1e9, 1)], &long];
        for a in cases {
            for b in cases {
                let runs = [run("a <&> \"b\"\u{1}", a), run("b", b), run("c", a)];
                let all = [tail(&runs, Some("<t>")), plain(&runs, None), against(&runs, None)];
                let text = svg::document(&all);
                assert_well_formed(&text);
                assert!(text.contains("a &lt;&amp;&gt; &quot;b&quot; "), "{text}");
            }
        }
    }

    #[test]
    fn axes_begin_and_end_with_round_numbers() {
        for (least, most, low, high) in [
            (1.0, 10.0, 1.0, 10.0),
            (130.0, 4400.0, 100.0, 5000.0),
            (0.0, 0.3, 0.001, 0.5),
            (7.0, 7.0, 5.0, 10.0),
        ] {
            let s = LogScale::of(&[run("x", &[(least, 1), (most, 1)])]);
            assert!(
                (s.low / low - 1.0).abs() < 1e-9 && (s.high / high - 1.0).abs() < 1e-9,
                "{s:?} {low} {high}"
            );
            assert!(s.at(least) >= 0.0 && s.at(most) <= 1.0);
            assert!(s.ticks().iter().filter(|t| t.word.is_some()).count() >= 2, "{s:?}");
        }
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (us, text) in [
            (0.05, "50 ns"),
            (1.0, "1 µs"),
            (143.4, "143 µs"),
            (999.9, "1 ms"),
            (6553.6, "6.55 ms"),
            (10_000.0, "10 ms"),
            (200_000.0, "200 ms"),
            (2e6, "2 s"),
        ] {
            assert_eq!(time(us), text);
        }
    }
}
