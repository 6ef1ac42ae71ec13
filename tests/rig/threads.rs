//! Two cores on threads of their own, over wires: mail, bells, orders and barriers as they are in a node.

use std::time::{Duration, Instant};

use dataplane::Ctr;

use crate::support::{Threads, Who};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
const CONNS: usize = 32;
/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn until(t: &mut Threads, what: &str, done: impl Fn(&Threads) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done(t) {
        t.load.poll();
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn two_cores_serve_what_a_bad_device_gives_them() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    let mut t = Threads::start(&Who::Proxy, CONNS, response, 2, |i, from_origin, cores| {
        (i + usize::from(from_origin)) % cores
    });
    for i in 0..CONNS {
        t.load.open(i);
    }
    until(&mut t, "connections", |t| t.load.conns.iter().all(|c| c.open));
    let desk = t.shared.desk();
    for round in 0..200 {
        for i in 0..CONNS {
            t.load.request(i, GET);
        }
        until(&mut t, "answers", |t| t.load.conns.iter().all(|c| c.got > 0));
        if round % 20 == 0 {
            // Asleep or at work: every core passes.
            let ticket = desk.barrier();
            assert!(desk.wait(&ticket, PATIENCE));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let segment = t.stop();
    let s = segment.read();
    assert_eq!(s.get(Ctr::Http2xx), 200 * CONNS as u64);
    assert!(s.get(Ctr::RxHandedOver) > 1000, "{}", s.get(Ctr::RxHandedOver));
    assert_eq!((s.get(Ctr::TcpResetsSent), s.get(Ctr::DropMailFull), s.in_mail()), (0, 0, 0));
    for core in 0..2 {
        let s = segment.read_core(core);
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "core {core}");
        assert_eq!(s.get(Ctr::HttpRequests), 100 * CONNS as u64);
    }
}
