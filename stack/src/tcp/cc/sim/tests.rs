//! What the algorithms come to on a path, in virtual numbers: goodput is kbit/s of payload.

use super::super::{Algorithm, NO_THRESHOLD};
use super::{MSS, Path, Sim, jain};

fn one(path: Path, algorithm: Algorithm, seed: u64) -> Sim {
    let mut s = Sim::new(path, seed);
    s.add(algorithm);
    s
}

#[test]
fn a_clean_path_is_filled() {
    // Mbit/s, ms, queue in BDP/100.
    for (mbit, rtt_ms, queue) in
        [(100, 20, 100), (100, 20, 500), (100, 100, 100), (1000, 1, 100), (2, 20, 400)]
    {
        for (algorithm, share) in [(Algorithm::Cubic, 97), (Algorithm::Bbr, 94), (Algorithm::Reno, 95)] {
            let mut s = one(Path::new(mbit, rtt_ms, queue), algorithm, 1);
            s.run(2000);
            let got = s.goodput(if mbit < 1000 { 15_000 } else { 4_000 })[0];
            assert!(got >= mbit * share * 10, "{algorithm:?} {mbit} Mbit/s {rtt_ms} ms {queue} %: {got}");
            assert_eq!(s.flows[0].timeouts, 0);
        }
    }
}

/// HyStart++ leaves slow start when the queue grows: a deep queue loses far less than when slow start runs into its end.
#[test]
fn slow_start_ends_before_a_deep_queue_overflows() {
    let deep = Path::new(100, 20, 800);
    let mut s = one(deep, Algorithm::Cubic, 1);
    s.run(1500);
    let f = &s.flows[0];
    assert!(f.w.ssthresh != NO_THRESHOLD && f.lost == 0, "{:?}, {} lost", f.w, f.lost);
    let mut s = one(deep, Algorithm::Reno, 1);
    s.run(1500);
    assert!(s.tail_drops > 1000, "{}", s.tail_drops);
}

#[test]
fn bbr_finds_the_rate_within_a_few_rounds_and_keeps_the_queue_small() {
    for (mbit, rtt_ms) in [(100, 20), (100, 100), (400, 10)] {
        let mut s = one(Path::new(mbit, rtt_ms, 300), Algorithm::Bbr, 1);
        // Doubling from ten segments to the BDP, three rounds on the plateau, two more to drain.
        let bdp_segments = mbit * 125 * rtt_ms / u64::from(MSS);
        let rounds = u64::from((bdp_segments / 10).ilog2()) + 1 + 6;
        s.run(rounds * rtt_ms * 3 / 2);
        let rate = s.flows[0].w.pacing_rate * 8 / 1_000_000;
        assert!(
            (mbit * 80 / 100..mbit * 130 / 100).contains(&rate),
            "{mbit} {rtt_ms}: paced at {rate} Mbit/s"
        );
        assert!(s.queue_us() < rtt_ms * 1000 / 4, "drained: {} µs", s.queue_us());
        let mut queues: Vec<u64> = (0..400)
            .map(|_| {
                s.run(10);
                s.queue_us()
            })
            .collect();
        queues.sort_unstable();
        assert!(queues[200] < rtt_ms * 1000 / 10, "median queue {} µs", queues[200]);
        assert!(queues[390] < rtt_ms * 1300, "while it probes: {} µs", queues[390]);
        assert_eq!(s.tail_drops, 0);
    }
}

#[test]
fn bbr_follows_a_change_of_capacity() {
    let mut s = one(Path::new(50, 20, 200), Algorithm::Bbr, 1);
    s.run(3000);
    s.path.rate = 100_000_000;
    s.run(6000);
    let up = s.goodput(2000)[0];
    assert!(up >= 90_000, "after a rise: {up}");
    s.path.rate = 20_000_000;
    s.path.queue = 200_000;
    s.run(8000);
    let down = s.goodput(4000)[0];
    assert!((18_000..=20_100).contains(&down), "after a drop: {down}");
    let before = s.flows[0].lost;
    s.run(5000);
    let lost = s.flows[0].lost - before;
    assert!(lost * 100 < 2 * 12_500_000, "{lost} bytes of 12.5 MB: it still overflows the queue");
}

#[test]
fn bbr_holds_its_rate_at_one_per_cent_of_random_loss() {
    for (rtt_ms, loss, share) in [(20, 10, 88), (20, 100, 78), (100, 10, 88), (100, 100, 80)] {
        let mut sum = 0;
        for seed in 1..=3 {
            let mut s = one(Path::new(100, rtt_ms, 100).loss(loss), Algorithm::Bbr, seed);
            s.run(2000);
            sum += s.goodput(12_000)[0];
        }
        assert!(sum / 3 >= share * 1000, "{rtt_ms} ms, {loss} of 10,000: {}", sum / 3);
    }
}

/// Loss-based senders follow the square root of the loss rate: RFC 9438 5.1, Reno-friendly at this length of path.
#[test]
fn cubic_at_random_loss_is_not_below_reno() {
    for loss in [10, 100] {
        let share = |algorithm| -> u64 {
            (1..=3u64)
                .map(|seed| {
                    let mut s = one(Path::new(100, 20, 100).loss(loss), algorithm, seed);
                    s.run(2000);
                    s.goodput(12_000)[0]
                })
                .sum()
        };
        let (cubic, reno) = (share(Algorithm::Cubic), share(Algorithm::Reno));
        assert!(cubic * 100 >= reno * 95, "{loss} of 10,000: {cubic} against {reno}");
    }
}

#[test]
fn two_flows_share() {
    for (pair, queue, index) in [
        ([Algorithm::Cubic; 2], 50, 90),
        ([Algorithm::Cubic; 2], 100, 95),
        ([Algorithm::Bbr; 2], 50, 95),
        ([Algorithm::Bbr; 2], 100, 95),
        ([Algorithm::Bbr; 2], 400, 90),
        ([Algorithm::Cubic, Algorithm::Bbr], 100, 90),
        ([Algorithm::Reno, Algorithm::Cubic], 50, 90),
    ] {
        let mut s = Sim::new(Path::new(100, 20, queue), 1);
        s.add(pair[0]);
        s.run(1000);
        s.add(pair[1]);
        s.run(8_000);
        let shares = s.goodput(25_000);
        let total: u64 = shares.iter().sum();
        assert!(jain(&shares) >= index && total >= 93_000, "{pair:?} {queue} %: {shares:?}");
    }
}

/// A quiet sender comes back without a burst into a closed window and without forgetting the path.
#[test]
fn silence_and_the_way_back() {
    for algorithm in Algorithm::ALL {
        let mut s = one(Path::new(100, 20, 100), algorithm, 1);
        s.run(3000);
        s.flows[0].budget = Some(0);
        s.run(2000);
        assert_eq!(s.flows[0].in_flight, 0);
        s.tail_drops = 0;
        s.give(0, 2_000_000);
        let got = s.goodput(400)[0];
        assert!(got >= 38_000, "{algorithm:?}: {got} kbit/s of 40,000");
        assert_eq!(s.tail_drops, 0, "{algorithm:?}");
    }
}
