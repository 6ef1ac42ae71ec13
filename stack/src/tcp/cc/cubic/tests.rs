//! CUBIC's function, step by step.

use super::super::test_support::{ack, lost_at, sent_after};
use super::*;

const MSS: u32 = 1000;

/// In congestion avoidance at that window, no loss before.
fn avoiding(segments: u32) -> (Cubic, Window) {
    let mut w = Window::new(MSS);
    w.cwnd = segments * MSS;
    w.ssthresh = w.cwnd;
    (Cubic::new(), w)
}

/// A loss with the whole window out, and the recovery from it.
fn lose(c: &mut Cubic, w: &mut Window) {
    c.on_congestion(w, &lost_at(Kind::Loss, w.cwnd, MSS));
    c.on_recovered(w, Time(0), MSS);
}

/// A window's worth of ACKs every RTT from `from_ms` for `for_ms`; what the window was after each RTT.
fn run(c: &mut Cubic, w: &mut Window, from_ms: u64, for_ms: u64, rtt_ms: u64) -> Vec<(u64, u32)> {
    let mut out = Vec::new();
    for round in 0..for_ms / rtt_ms {
        let window = w.cwnd;
        for i in 0..window / MSS {
            // Evenly over the round.
            let at = from_ms * 1000
                + round * rtt_ms * 1000
                + u64::from(i) * rtt_ms * 1000 / u64::from(window / MSS);
            let now = Time(at * 1000);
            c.on_ack(w, &Ack { now, srtt_us: rtt_ms as u32 * 1000, ..ack(MSS, MSS) });
        }
        out.push((round * rtt_ms + rtt_ms, w.cwnd));
    }
    out
}

#[test]
fn cube_roots() {
    for x in [0u64, 1, 7, 8, 26, 27, 28, 999, 1000, 1_000_000_000, u64::MAX] {
        let r = u128::from(cube_root(x));
        assert!(r * r * r <= u128::from(x) && (r + 1).pow(3) > u128::from(x), "{x}: {r}");
    }
}

/// RFC 9438 4.2: 0.7 W_max at first, W_max after K, the same above W_max after another K; K = cbrt(0.3 W_max / 0.4).
#[test]
fn the_window_follows_the_cubic_function_after_a_loss() {
    let (mut c, mut w) = avoiding(1000);
    lose(&mut c, &mut w);
    assert_eq!(w.cwnd, 700 * MSS);
    let k_s = (0.3 * 1000.0 / 0.4f64).cbrt();
    let curve = run(&mut c, &mut w, 1000, (2.0 * k_s * 1000.0) as u64, 50);
    assert_eq!(c.curve.k_ms, (k_s * 1000.0) as u32);
    for (t_ms, cwnd) in curve {
        let t = t_ms as f64 / 1000.0;
        let expected = 0.4 * (t - k_s).powi(3) + 1000.0;
        let got = f64::from(cwnd) / f64::from(MSS);
        assert!((got - expected).abs() < 12.0, "{t} s: {got}, expected {expected}");
    }
    assert!(w.cwnd >= 1270 * MSS, "{}", w.cwnd);
}

/// RFC 9438 4.3: where the path is short or slow, CUBIC is as fast as Reno with α = 9/17, and α = 1 above the last window.
#[test]
fn reno_friendly_on_a_short_path() {
    let (mut c, mut w) = avoiding(20);
    lose(&mut c, &mut w);
    assert_eq!(w.cwnd, 14 * MSS);
    // K is 2.5 s; Reno needs 6 / (9/17) = 11.3 rounds of 5 ms.
    let curve = run(&mut c, &mut w, 1000, 200, 5);
    let (t, _) = *curve.iter().find(|(_, cwnd)| *cwnd >= 20 * MSS).unwrap();
    assert!((50..=65).contains(&t), "{t} ms");
    let rounds_after = (200 - t) / 5;
    let expected = 20 + rounds_after as u32;
    assert!(w.cwnd.abs_diff(expected * MSS) <= 2 * MSS, "{} against {expected}", w.cwnd);
}

#[test]
fn fast_convergence_gives_way() {
    let (mut c, mut w) = avoiding(100);
    lose(&mut c, &mut w);
    assert_eq!(c.curve.w_max, 100 * MSS);
    lose(&mut c, &mut w);
    assert_eq!((w.cwnd, c.curve.w_max), (49 * MSS, 70 * MSS * 17 / 20), "lost below W_max");
    lose(&mut c, &mut w);
    assert_eq!(w.ssthresh, 49 * MSS * 7 / 10);
    let (mut c, mut w) = avoiding(2);
    lose(&mut c, &mut w);
    assert_eq!(w.ssthresh, 2 * MSS);
}

#[test]
fn a_timeout_starts_on_the_plateau_and_an_undone_one_leaves_no_trace() {
    let (mut c, mut w) = avoiding(100);
    lose(&mut c, &mut w);
    run(&mut c, &mut w, 1000, 500, 50);
    let (before, prior) = (c.curve, w);
    c.on_congestion(&mut w, &lost_at(Kind::Rto { first: true }, prior.cwnd, MSS));
    assert_eq!((w.cwnd, w.ssthresh), (MSS, (prior.cwnd as u64 * 7 / 10) as u32));
    let mut spurious = (c, w);
    // Slow start to the threshold, then from the plateau.
    run(&mut c, &mut w, 1500, 5000, 50);
    c.on_recovered(&mut w, Time(0), MSS);
    assert_eq!(c.curve.k_ms, 0);
    assert!(w.cwnd > w.ssthresh);

    spurious.0.on_undo(&mut spurious.1, &prior, Time(0));
    let (c, w) = spurious;
    assert_eq!((w.cwnd, w.ssthresh), (prior.cwnd, prior.ssthresh));
    assert_eq!(
        (c.curve.w_max, c.curve.k_ms, c.curve.epoch_ms, c.curve.w_est),
        (before.w_max, before.k_ms, before.epoch_ms, before.w_est)
    );
}

/// RFC 9438 5.8: neither silence nor a window that is not used makes it grow.
#[test]
fn unused_time_does_not_count() {
    let steady = {
        let (mut c, mut w) = avoiding(300);
        lose(&mut c, &mut w);
        run(&mut c, &mut w, 1000, 1000, 50);
        run(&mut c, &mut w, 2000, 1000, 50);
        w.cwnd
    };
    let (mut c, mut w) = avoiding(300);
    lose(&mut c, &mut w);
    run(&mut c, &mut w, 1000, 1000, 50);
    // Half a second of silence, then two seconds of small answers.
    c.on_sent(&mut w, &Sent { now: Time::from_ms(2500), ..sent_after(150_000_000, MSS) });
    for i in 0..40 {
        let now = Time::from_ms(2550 + i * 50);
        c.on_ack(&mut w, &Ack { now, limited: false, srtt_us: 50_000, ..ack(MSS, MSS) });
    }
    run(&mut c, &mut w, 4500, 1000, 50);
    assert!(w.cwnd.abs_diff(steady) <= 5 * MSS, "{} against {steady}", w.cwnd);
}

#[test]
fn numbers_at_the_edges_do_not_overflow() {
    for mss in [1, 536, 1448, 8960, 65_535] {
        let mut c = Cubic::new();
        let mut w = Window { cwnd: MAX_WINDOW, ssthresh: MAX_WINDOW, pacing_rate: 0 };
        c.on_congestion(&mut w, &lost_at(Kind::Loss, u32::MAX, mss));
        c.on_recovered(&mut w, Time(0), mss);
        for now in [0, 1, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            for bytes in [0, 1, mss, u32::MAX] {
                let a = Ack { now: Time(now), srtt_us: u32::MAX, in_flight: u32::MAX, ..ack(bytes, mss) };
                c.on_ack(&mut w, &a);
                assert!(w.cwnd <= MAX_WINDOW && w.cwnd >= 2 * mss && w.pacing_rate > 0);
            }
        }
    }
}
