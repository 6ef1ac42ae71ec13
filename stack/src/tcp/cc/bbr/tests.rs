//! BBR's steps, one by one. What they come to on a path is in `cc::sim`.

use super::super::Rate;
use super::super::test_support::{ack, lost_at, sent_after};
use super::*;

const MSS: u32 = 1000;
/// 100 segments in 10 ms: 10 MB/s.
const BW: u64 = 10_000_000;

/// A path of 10 MB/s and 20 ms; one call is one ACK, the first of a round trip.
struct Bench {
    b: Bbr,
    w: Window,
    now_us: u64,
    delivered: u32,
}

impl Bench {
    fn new() -> Bench {
        Bench { b: Bbr::new(7), w: Window::new(MSS), now_us: 1_000_000, delivered: 0 }
    }

    /// A segment is found lost.
    fn lose(&mut self, lost_since: u32, tx_in_flight: u32) {
        let l = Lost {
            now: Time(self.now_us * 1000),
            bytes: MSS,
            tx_in_flight,
            lost_since,
            prior_delivered: self.delivered,
            app_limited: false,
            mss: MSS,
        };
        self.b.on_lost(&mut self.w, &l);
    }

    /// A round trip later, an ACK of ten segments with that rate; `change` may alter it.
    fn round_with(&mut self, bw: u64, change: impl FnOnce(&mut Ack)) {
        self.now_us += 20_000;
        let prior_delivered = self.delivered;
        self.delivered = self.delivered.wrapping_add(10 * MSS);
        let mut a = Ack {
            now: Time(self.now_us * 1000),
            total_delivered: self.delivered,
            in_flight: 100 * MSS,
            in_flight_before: 110 * MSS,
            rate: Some(Rate {
                delivered: (bw * 20 / 1000) as u32,
                interval_us: 20_000,
                prior_delivered,
                tx_in_flight: 110 * MSS,
                lost: 0,
                app_limited: false,
            }),
            ..ack(10 * MSS, MSS)
        };
        change(&mut a);
        self.b.on_ack(&mut self.w, &a);
    }

    fn round(&mut self, bw: u64) {
        self.round_with(bw, |_| {});
    }

    /// Through Startup and Drain.
    fn settled() -> Bench {
        let mut t = Bench::new();
        for bw in [BW / 8, BW / 4, BW / 2, BW, BW, BW, BW] {
            t.round(bw);
        }
        // Less than a BDP is out: Drain and DOWN have nothing to do.
        assert_eq!(t.b.state, State::Cruise);
        t
    }

    /// As far as the next ProbeBW_UP.
    fn probing() -> Bench {
        let mut t = Bench::settled();
        for _ in 0..80 {
            t.round(BW);
            if t.b.state == State::Up {
                return t;
            }
        }
        panic!("no probe: {:?}", t.b.state);
    }
}

#[test]
fn startup_ends_after_three_rounds_without_growth_then_drains() {
    let mut t = Bench::new();
    t.round(BW / 2);
    assert_eq!(t.w.pacing_rate, BW / 2 * 277 * 99 / 10_000);
    t.round(BW);
    for _ in 0..2 {
        t.round(BW + BW / 5);
        assert_eq!(t.b.state, State::Startup);
    }
    t.round_with(BW, |a| a.rate.as_mut().unwrap().app_limited = true);
    assert_eq!(t.b.state, State::Startup, "a sample that the owner limited says nothing");
    // In flight is less than a BDP of 240 segments: drained as soon as Drain is entered.
    t.round_with(BW, |a| a.in_flight = 500 * MSS);
    assert_eq!(t.b.state, State::Drain);
    assert_eq!(t.w.pacing_rate, (BW + BW / 5) * 50 * 99 / 10_000);
    for _ in 0..4 {
        assert_eq!(t.b.state, State::Drain);
        t.round_with(BW, |a| a.in_flight = 500 * MSS);
    }
    assert_eq!(t.b.state, State::Down, "three rounds are enough");
}

#[test]
fn startup_ends_on_loss_and_an_undo_takes_it_back() {
    let mut t = Bench::new();
    let mut bw = BW / 8;
    for _ in 0..3 {
        t.round(bw);
        bw *= 2;
    }
    let prior = t.w;
    t.lose(MSS, 100 * MSS);
    t.b.on_congestion(&mut t.w, &lost_at(Kind::Loss, 100 * MSS, MSS));
    // Six ACKs within a round that found losses.
    for i in 1..=6 {
        t.lose(i * MSS, 100 * MSS);
        t.round_with(bw, |a| {
            a.in_recovery = true;
            a.rate.as_mut().unwrap().prior_delivered = 0;
            a.rate.as_mut().unwrap().lost = i * MSS;
        });
    }
    assert_eq!(t.b.state, State::Startup, "not before the round is over");
    t.round_with(bw, |a| {
        a.in_recovery = true;
        a.in_flight = 500 * MSS;
        a.rate.as_mut().unwrap().lost = 7 * MSS;
    });
    assert_eq!((t.b.state, t.b.full_bw_reached), (State::Drain, true));
    assert!(t.b.inflight_longterm != INFINITY);
    t.b.on_undo(&mut t.w, &prior, Time(0));
    assert_eq!((t.b.state, t.b.full_bw_reached), (State::Startup, false));
    assert!(t.b.inflight_longterm == INFINITY && t.w.cwnd >= prior.cwnd);
}

#[test]
fn the_states_of_a_probe() {
    let mut t = Bench::settled();
    assert_eq!(t.w.pacing_rate, BW * 99 / 100);
    t = Bench::probing();
    assert_eq!(t.w.pacing_rate, BW * 125 * 99 / 10_000);
    assert!(t.b.is_bw_probe_sample);
    // The rate does not grow: three rounds, then down.
    for _ in 0..3 {
        assert_eq!(t.b.state, State::Up);
        t.round(BW);
    }
    assert_eq!(t.b.state, State::Down);
    assert_eq!(t.w.pacing_rate, BW * 90 * 99 / 10_000);
    // A rate that was seen in the probe is believed.
    t = Bench::probing();
    t.round(2 * BW);
    assert_eq!((t.b.state, t.w.pacing_rate), (State::Up, 2 * BW * 125 * 99 / 10_000));
}

#[test]
fn a_probe_that_loses_too_much_ends_at_once_and_bounds_what_may_be_in_flight() {
    let mut t = Bench::probing();
    t.lose(2 * MSS, 150 * MSS);
    assert_eq!(t.b.state, State::Up, "below 2 %");
    t.lose(4 * MSS, 160 * MSS);
    assert_eq!(t.b.state, State::Down);
    assert!(t.b.prev_probe_too_high && !t.b.is_bw_probe_sample);
    assert_eq!(
        t.b.inflight_longterm,
        159 * MSS + 183,
        "just where 2 % were crossed: 159 + (3.18 - 3) / 0.98"
    );
    let before = t.b.inflight_longterm;
    t.lose(9 * MSS, 100 * MSS);
    assert_eq!(t.b.inflight_longterm, before, "one reaction to one probe");
    // An undo restarts the probe.
    let prior = t.w;
    t.b.on_undo(&mut t.w, &prior, Time(0));
    assert_eq!(t.b.state, State::Refill);
}

#[test]
fn loss_while_cruising_slows_down_by_what_was_delivered_and_by_three_tenths_at_most() {
    for (latest, expected) in [(BW * 95 / 100, BW * 95 / 100), (BW / 10, BW * 70 / 100)] {
        let mut t = Bench::settled();
        t.round(latest);
        t.round(latest);
        t.lose(MSS, 100 * MSS);
        t.round(latest);
        t.round(latest);
        assert_eq!((t.b.state, t.b.bw_shortterm), (State::Cruise, expected));
        assert_eq!(t.w.pacing_rate, expected * 99 / 100);
        // The next probe starts without it.
        t.b.start_refill();
        assert_eq!(t.b.bw(), BW);
    }
}

#[test]
fn the_best_of_two_cycles_is_remembered() {
    let mut b = Bbr::new(1);
    let sample = |bw| Sample { valid: true, bw, ..Sample::default() };
    b.update_max_bw(&sample(100));
    b.advance_max_bw();
    b.update_max_bw(&sample(50));
    assert_eq!(b.max_bw(), 100);
    b.advance_max_bw();
    b.advance_max_bw();
    assert_eq!(b.max_bw(), 50, "a cycle without samples forgets nothing");
    b.update_max_bw(&Sample { app_limited: true, ..sample(49) });
    assert_eq!(b.max_bw[0], 0);
    b.update_max_bw(&Sample { app_limited: true, ..sample(60) });
    assert_eq!(b.max_bw(), 60);
}

#[test]
fn the_round_trip_time_is_looked_for_every_five_seconds() {
    let mut t = Bench::settled();
    let cwnd = t.w.cwnd;
    // The RTT never comes down to 20 ms again.
    while t.b.state != State::ProbeRtt {
        t.round_with(BW, |a| a.rtt_us = 25_000);
        assert!(t.now_us < 7_000_000);
    }
    assert!(t.now_us > 6_000_000);
    assert_eq!(t.w.cwnd, 100 * MSS, "half of 10 MB/s in 20 ms");
    let start = t.now_us;
    while t.b.state == State::ProbeRtt {
        t.round_with(BW / 2, |a| (a.in_flight, a.rtt_us) = (90 * MSS, 21_000));
    }
    assert!((200_000..300_000).contains(&(t.now_us - start)));
    assert_eq!(t.b.max_bw(), BW, "its samples are of our own making");
    assert!(t.w.cwnd >= cwnd.min(2 * 200 * MSS), "{} {cwnd}", t.w.cwnd);
    assert_eq!(t.b.state, State::Cruise);
}

#[test]
fn after_silence_it_sends_at_the_rate_it_knows() {
    let mut t = Bench::probing();
    let cwnd = t.w.cwnd;
    t.b.on_sent(&mut t.w, &sent_after(30_000_000_000, MSS));
    assert_eq!((t.w.pacing_rate, t.w.cwnd), (BW * 99 / 100, cwnd));
    t.now_us += 30_000_000;
    t.round(BW);
    assert!(t.b.state != State::ProbeRtt, "silence has drained the queue");
}

#[test]
fn a_timeout_leaves_one_segment_and_recovery_brings_the_window_back() {
    let mut t = Bench::settled();
    let cwnd = t.w.cwnd;
    t.b.on_congestion(&mut t.w, &lost_at(Kind::Rto { first: true }, 100 * MSS, MSS));
    assert_eq!(t.w.cwnd, MSS);
    t.round_with(BW, |a| a.in_recovery = true);
    assert_eq!(t.w.cwnd, 11 * MSS);
    t.b.on_recovered(&mut t.w, Time(0), MSS);
    assert_eq!(t.w.cwnd, cwnd);
}

#[test]
fn a_mark_is_congestion() {
    let mut t = Bench::probing();
    t.b.on_congestion(&mut t.w, &lost_at(Kind::Ecn, 150 * MSS, MSS));
    assert_eq!((t.b.state, t.b.inflight_longterm), (State::Down, 150 * MSS));
    let mut t = Bench::new();
    t.round(BW);
    t.b.on_congestion(&mut t.w, &lost_at(Kind::Ecn, 150 * MSS, MSS));
    assert_eq!(t.b.state, State::Drain);
}

#[test]
fn numbers_at_the_edges_do_not_overflow() {
    for mss in [1, 1448, 65_535] {
        let mut b = Bbr::new(u32::MAX);
        let mut w = Window { cwnd: u32::MAX, ssthresh: u32::MAX, pacing_rate: 0 };
        for now in [0, 1, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            for n in [0, 1, mss, u32::MAX] {
                let l = Lost {
                    now: Time(now),
                    bytes: n,
                    tx_in_flight: n,
                    lost_since: n / 2,
                    prior_delivered: n,
                    app_limited: false,
                    mss,
                };
                b.on_lost(&mut w, &l);
                let rate = Some(Rate {
                    delivered: n,
                    interval_us: 1,
                    prior_delivered: n,
                    tx_in_flight: n,
                    lost: n,
                    app_limited: false,
                });
                let a = Ack {
                    now: Time(now),
                    total_delivered: n,
                    in_flight: n,
                    rtt_us: n,
                    min_rtt_us: n,
                    rate,
                    ..ack(n, mss)
                };
                b.on_ack(&mut w, &a);
                b.on_congestion(&mut w, &lost_at(Kind::Ecn, n, mss));
                assert!(w.cwnd >= 4 * mss);
            }
        }
    }
}

#[test]
fn size_is_small() {
    assert!(size_of::<Bbr>() <= 176, "{}", size_of::<Bbr>());
}

#[test]
fn the_wait_between_probes_is_two_to_three_seconds_and_a_matter_of_the_seed() {
    let mut waits = Vec::new();
    for seed in 0..100 {
        let mut b = Bbr::new(seed * 7919);
        b.start_down(0);
        assert!((2000..3000).contains(&b.bw_probe_wait_ms) && b.rounds_since_probe_up < 2);
        waits.push(b.bw_probe_wait_ms);
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 20, "{}", waits.len());
}
