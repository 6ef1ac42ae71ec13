//! Usual segments, which the engine takes in one go, come to the same as if it had looked closely at each: the same
//! connections over the same links do the same, to the last counter and the last nanosecond.

use std::net::{IpAddr, SocketAddr};

use dataplane::port::link::Faults;
use dataplane::rng::Rng;
use dataplane::{Ctr, Time};
use stack::TcpConfig;
use stack::tcp::{Algorithm, Congestion, EcnUse};

use crate::support::own::Setup;
use crate::support::world::pair_with;
use crate::support::{Finish, Plan, Reading, seeds};

/// What is drawn for both runs.
fn link(rng: &mut Rng) -> Faults {
    let ppm = |r: &mut Rng| if r.chance(500_000) { 0 } else { r.below(30_000) as u32 };
    Faults {
        delay_ns: rng.range(10_000, 20_000_000),
        jitter_ns: if rng.chance(700_000) { 0 } else { rng.below(2_000_000) },
        rate_bps: if rng.chance(500_000) { 0 } else { rng.range(5_000_000, 200_000_000) },
        queue_bytes: rng.range(20_000, 300_000),
        loss_ppm: ppm(rng),
        duplicate_ppm: ppm(rng),
        reorder_ppm: ppm(rng),
        reorder_ns: rng.range(100_000, 10_000_000),
        ..Faults::default()
    }
}

/// How the hosts are set up, by turns; each of them once more with close looks.
const KINDS: [[fn(&mut TcpConfig); 2]; 4] = [
    [|_| {}, |c| c.looks_closely = true],
    [
        |c| c.congestion = Congestion::all(Algorithm::Bbr),
        |c| (c.congestion, c.looks_closely) = (Congestion::all(Algorithm::Bbr), true),
    ],
    [
        |c| c.congestion = Congestion::all(Algorithm::Reno),
        |c| (c.congestion, c.looks_closely) = (Congestion::all(Algorithm::Reno), true),
    ],
    [|c| c.ecn = EcnUse::Always, |c| (c.ecn, c.looks_closely) = (EcnUse::Always, true)],
];

/// All counters of both hosts, and when it was over.
fn run(seed: u64, close: bool) -> (Vec<[u64; 2]>, Time) {
    let mut rng = Rng::new(seed);
    let tcp = KINDS[seed as usize % KINDS.len()][usize::from(close)];
    let [a, b] = [1, 2].map(|n| Setup { tcp, ..Setup::host(n) });
    let mut w = pair_with(&a, &b, link(&mut rng), seed);
    let v6 = rng.chance(300_000);
    for n in 0..rng.range(1, 5) {
        let size = |r: &mut Rng| if r.chance(300_000) { r.below(5000) } else { r.below(400_000) };
        let (mut here, mut there) = Plan::both(n, size(&mut rng), size(&mut rng));
        for p in [&mut here, &mut there] {
            p.chunk = [100, 1460, 2000][rng.below(3) as usize];
            p.reading =
                if rng.chance(200_000) { Reading::Rate(rng.range(200, 2000)) } else { Reading::Eager };
        }
        if rng.chance(500_000) {
            there.finish = Finish::AfterPeer;
        }
        let port = 80 + n as u16;
        let ip = if v6 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]) } else { IpAddr::from([10, 0, 0, 2]) };
        w.b.listen(port, there);
        w.a.connect(SocketAddr::new(ip, port), here, w.now).unwrap();
    }
    let r = w.finish(Time::from_ms(1_200_000)).and_then(|()| w.check_b());
    assert!(r.is_ok(), "seed {seed} at {}: {r:?}", w.now);
    let all = Ctr::ALL.iter().map(|c| [w.a.get(*c), w.b.get(*c)]).collect();
    (all, w.now)
}

#[test]
fn a_close_look_at_each_segment_changes_nothing() {
    for seed in seeds(40) {
        let ((quick, quick_end), (close, close_end)) = (run(seed, false), run(seed, true));
        for ((c, q), l) in Ctr::ALL.iter().zip(&quick).zip(&close) {
            assert_eq!(q, l, "seed {seed}: {c:?}");
        }
        assert_eq!(quick_end, close_end, "seed {seed}");
    }
}
