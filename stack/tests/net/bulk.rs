//! Several segments as one frame, over a port that cuts it: what arrives is the same, and what is lost is sent again alone.

use dataplane::port::link::Faults;
use dataplane::{Ctr, Time};

use crate::support::own::Setup;
use crate::support::world::World;
use crate::support::{Host, Plan, pair_with, seeds, with_peer};

fn cutting(n: u8) -> Setup {
    Setup { cuts: true, ..Setup::host(n) }
}

fn address(v6: bool) -> std::net::SocketAddr {
    let ip = if v6 { "fd00::2" } else { "10.0.0.2" };
    (ip.parse::<std::net::IpAddr>().expect("an address"), 80).into()
}

/// Sends so many bytes each way; gives segments, and frames that the port was given.
fn transfer<B: Host>(
    w: &mut World<B>,
    v6: bool,
    bytes: u64,
    listen: impl FnOnce(&mut B, Plan),
) -> (u64, u64) {
    let (here, there) = Plan::both(7, bytes, 30_000);
    listen(&mut w.b, there);
    w.a.connect(address(v6), here, w.now).expect("a connection");
    w.finish(Time::from_ms(600_000)).expect("intact, conserved, nothing left");
    (w.a.get(Ctr::TcpSegmentsOut), w.a.counts().get(Ctr::TxSent))
}

#[test]
fn fewer_frames_than_segments() {
    for v6 in [false, true] {
        let faults = Faults { delay_ns: 1_000_000, ..Faults::default() };
        let mut w = pair_with(&cutting(1), &Setup::host(2), faults, 1);
        let (segments, frames) = transfer(&mut w, v6, 1 << 20, |b, plan| b.listen(80, plan));
        w.check_b().expect("the other side");
        // 2 KiB of a stream in each cell, six cells in a packet's tail: seven segments in a frame, where there are as many.
        assert!(segments >= 700 && frames * 3 < segments, "{segments} segments, {frames} frames");
        assert_eq!(w.a.get(Ctr::TcpRetransmits), 0);
    }
}

#[test]
fn smoltcp_gets_it_too() {
    for v6 in [false, true] {
        let mut w = with_peer(&cutting(1), Faults { delay_ns: 1_000_000, ..Faults::default() }, 1);
        let (segments, frames) = transfer(&mut w, v6, 300_000, |b, plan| b.listen(80, plan));
        assert!(frames < segments, "{segments} segments, {frames} frames");
    }
}

#[test]
fn over_bad_links() {
    let (mut segments, mut frames, mut again) = (0, 0, 0);
    for seed in seeds(60) {
        let ppm = |n: u64| (seed * n % 5 * 8000) as u32;
        let faults = Faults {
            delay_ns: 1_000_000 + seed % 7 * 2_000_000,
            rate_bps: seed % 3 * 40_000_000,
            queue_bytes: 60_000,
            loss_ppm: ppm(1),
            reorder_ppm: ppm(3),
            reorder_ns: 3_000_000,
            duplicate_ppm: ppm(7),
            corrupt_ppm: ppm(11),
            ..Faults::default()
        };
        let mut w = pair_with(&cutting(1), &cutting(2), faults, seed);
        let (s, f) = transfer(&mut w, seed % 2 == 0, 20_000 + seed * 7001, |b, plan| b.listen(80, plan));
        w.check_b().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        (segments, frames, again) = (segments + s, frames + f, again + w.a.get(Ctr::TcpRetransmits));
    }
    assert!(frames < segments && again > 0, "{segments} segments, {frames} frames, {again} sent again");
}
