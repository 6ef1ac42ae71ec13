//! A node over DPDK whose clients do their worst: the mbufs that it receives into do not run out.

use dataplane::Ctr;

use crate::support::rings::Pump;
use crate::support::{Rig, Shared, Who};

const IDLE: usize = 10_000;
const BAD: usize = 20;
const UNREAD: usize = 40;
const PIECES: usize = 1_800;
const GET: &[u8] = b"GET /object?id=1 HTTP/1.1\r\nHost: example.com\r\n\r\n";

fn turns(rig: &mut Rig, pump: &mut Pump, n: usize) {
    for _ in 0..n {
        rig.pass();
        pump.turn(rig.now);
        rig.load.poll();
    }
}

/// 10,000 idle flows; clients that never read a response, and go on sending in segments of one byte: five times as many
/// of these as there are cells. Without compaction each segment would keep one.
#[test]
fn idle_flows_unread_responses_and_one_byte_segments_leave_mbufs_to_receive_into() {
    let mut shared = Shared::new(1);
    shared.core_bytes = 32 << 20;
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nfirst bytes".to_vec();
    let (_rings, mut rig, mut pump) = Rig::over_rings(Who::Proxy, IDLE + BAD + 1, response, &shared);
    let pool = rig.core.ports().next().expect("a port").rx_pool().clone();
    assert!((pool.capacity() as usize) < IDLE.min(BAD * PIECES / 4), "{}", pool.capacity());

    for i in 0..IDLE + BAD + 1 {
        rig.load.open(i);
        if i % 32 == 31 {
            turns(&mut rig, &mut pump, 4);
        }
    }
    turns(&mut rig, &mut pump, 20);
    assert!(rig.load.conns.iter().all(|c| c.open));
    assert_eq!(pool.out(), 0, "an idle flow holds nothing");

    // What the origin answers waits in the mbufs that it came in, for clients that do not take it.
    for i in IDLE..IDLE + BAD {
        rig.load.conns[i].deaf = true;
        rig.load.request(i, GET);
    }
    turns(&mut rig, &mut pump, 20);
    for _ in 0..UNREAD {
        rig.load.answer_more(&[b'y'; 1400]);
        turns(&mut rig, &mut pump, 2);
    }
    assert!(pool.out() as usize >= BAD * UNREAD, "{}", pool.out());
    // Meanwhile nobody reads what they send.
    for piece in 0..PIECES {
        for i in IDLE..IDLE + BAD {
            rig.load.request(i, &GET[piece % GET.len()..][..1]);
        }
        turns(&mut rig, &mut pump, 2);
    }
    turns(&mut rig, &mut pump, 20);
    let s = rig.segment.read();
    let dropped = [Ctr::DropPortNoBuffer, Ctr::DropTcpRxLow, Ctr::DropPortMissed].map(|c| s.get(c));
    assert_eq!(dropped, [0, 0, 0], "{:?}", pool.stats());
    assert!(s.get(Ctr::TcpCompacted) as usize > BAD * (PIECES - 10), "{}", s.get(Ctr::TcpCompacted));
    assert!(pool.stats().low_water > pool.capacity() * 3 / 4, "{:?}", pool.stats());
    assert_eq!(pool.stats().empty_count, 0);

    // Who behaves is served.
    let good = IDLE + BAD;
    rig.load.request(good, GET);
    turns(&mut rig, &mut pump, 20);
    assert!(rig.load.conns[good].got > 50, "{}", rig.load.conns[good].got);
    let s = rig.segment.read();
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
    // The ports assert that every mbuf comes back.
    drop((rig, pump));
    assert_eq!(pool.out(), 0);
}
