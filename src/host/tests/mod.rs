//! Kernel sockets on both sides, our stack in between: nothing is mocked.

mod node;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use node::{Rig, wait_until};
use socket2::SockRef;

/// No step of a test waits longer.
const PATIENCE: Duration = Duration::from_secs(15);

fn connect(to: SocketAddr) -> TcpStream {
    let s = TcpStream::connect(to).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s.set_write_timeout(Some(PATIENCE)).unwrap();
    s
}

/// Bytes in which every misplacement shows.
fn pattern(n: usize, seed: u32) -> Vec<u8> {
    let mut x = seed | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Sends `data`, ends, and reads until the other side ends.
fn round_trip(to: SocketAddr, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let s = connect(to);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Its error shows as a short answer.
            let _ = (&s).write_all(data);
            let _ = s.shutdown(Shutdown::Write);
        });
        let mut back = Vec::new();
        (&s).read_to_end(&mut back).map(|_| back)
    })
}

fn is_reset(r: &std::io::Result<impl Sized>) -> bool {
    r.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

fn get(c: &AtomicU64) -> u64 {
    c.load(Ordering::Relaxed)
}

/// An origin that sends back what comes, on a thread of its own for each connection.
fn echo_origin(ip: &str) -> SocketAddr {
    let l = TcpListener::bind((ip, 0)).unwrap();
    let at = l.local_addr().unwrap();
    thread::spawn(move || {
        for s in l.incoming().flatten() {
            thread::spawn(move || {
                let _ = std::io::copy(&mut &s, &mut &s);
                let _ = s.shutdown(Shutdown::Write);
            });
        }
    });
    at
}

/// An address that nothing listens on.
fn dead_origin() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn echo_of_every_size_on_both_families() {
    for ip in ["127.0.0.1", "::1"] {
        let rig = Rig::new(ip, dead_origin());
        for n in [0, 1, 1460, 1 << 20] {
            let data = pattern(n, 7);
            let back = round_trip(rig.at().echo, &data).unwrap();
            assert!(back == data, "{ip}: {n} bytes sent, {} came back", back.len());
        }
        let c = rig.bridge.counters();
        let all = 1 + 1460 + (1 << 20);
        assert_eq!((get(&c.accepted), get(&c.refused), get(&c.reset)), (4, 0, 0));
        assert_eq!((get(&c.to_node_bytes), get(&c.from_node_bytes)), (all, all));
        rig.settle();
    }
}

#[test]
fn half_close_lets_the_answer_through() {
    let rig = Rig::new("127.0.0.1", dead_origin());
    let mut s = connect(rig.at().echo);
    s.write_all(b"first").unwrap();
    let mut five = [0; 5];
    s.read_exact(&mut five).unwrap();
    s.write_all(b"last!").unwrap();
    s.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    s.read_to_end(&mut rest).unwrap();
    assert_eq!((&five, &rest[..]), (b"first", &b"last!"[..]));
    rig.settle();
}

#[test]
fn a_refusing_node_resets_the_client() {
    let rig = Rig::new("127.0.0.1", dead_origin());
    let t0 = Instant::now();
    let mut s = connect(rig.at().closed);
    let r = s.read(&mut [0; 1]);
    assert!(is_reset(&r), "{r:?}");
    assert!(t0.elapsed() < Duration::from_secs(1));
    assert_eq!(get(&rig.bridge.counters().refused), 1);
    rig.settle();
}

#[test]
fn an_origin_is_reached_and_data_flows_both_ways() {
    for ip in ["127.0.0.1", "::1"] {
        let rig = Rig::new(ip, echo_origin(ip));
        for n in [0, 1, 300_000] {
            let data = pattern(n, 3);
            let back = round_trip(rig.at().proxy, &data).unwrap();
            assert!(back == data, "{ip}: {n} bytes sent, {} came back", back.len());
        }
        let c = rig.bridge.counters();
        assert_eq!((get(&c.opened), get(&c.failed)), (3, 0));
        rig.settle();
    }
}

#[test]
fn a_refusing_origin_is_known_at_once() {
    let rig = Rig::new("127.0.0.1", dead_origin());
    let t0 = Instant::now();
    let r = round_trip(rig.at().proxy, b"hello");
    assert!(is_reset(&r), "{r:?}");
    assert!(t0.elapsed() < Duration::from_secs(1), "{:?}", t0.elapsed());
    let c = rig.bridge.counters();
    assert_eq!((get(&c.opened), get(&c.failed)), (0, 1));
    rig.settle();
}

#[test]
fn a_resetting_origin_resets_the_client() {
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::new("127.0.0.1", l.local_addr().unwrap());
    let mut s = connect(rig.at().proxy);
    s.write_all(b"hello").unwrap();
    let (mut o, _) = l.accept().unwrap();
    o.read_exact(&mut [0; 5]).unwrap();
    SockRef::from(&o).set_linger(Some(Duration::ZERO)).unwrap();
    drop(o);
    let r = s.read(&mut [0; 1]);
    assert!(is_reset(&r), "{r:?}");
    assert_eq!(get(&rig.bridge.counters().reset), 2, "the origin's side and the client's");
    rig.settle();
}

#[test]
fn a_hundred_at_once_on_a_narrow_wire() {
    let rig = Rig::with("127.0.0.1", echo_origin("127.0.0.1"), 32, |_| {});
    let at = rig.at();
    thread::scope(|scope| {
        for i in 0..100 {
            let to = if i % 2 == 0 { at.echo } else { at.proxy };
            scope.spawn(move || {
                let data = pattern(50_000 + i as usize, i);
                assert!(round_trip(to, &data).unwrap() == data, "connection {i}");
            });
        }
    });
    let c = rig.bridge.counters();
    assert_eq!((get(&c.accepted), get(&c.opened), get(&c.reset)), (100, 50, 0));
    assert!(get(&c.wire_full) > 0, "32 frames must have been too few at some time");
    rig.settle();
}

#[test]
fn a_client_killed_in_mid_transfer_is_noticed() {
    let rig = Rig::new("127.0.0.1", echo_origin("127.0.0.1"));
    let at = rig.at();
    for to in [at.echo, at.proxy] {
        let mut s = connect(to);
        let data = pattern(400_000, 5);
        let writer = s.try_clone().unwrap();
        let t = thread::spawn(move || (&writer).write_all(&data));
        s.read_exact(&mut [0; 1000]).unwrap();
        // As a killed process: what it has not read is left, so the kernel sends a RST.
        SockRef::from(&s).set_linger(Some(Duration::ZERO)).unwrap();
        s.shutdown(Shutdown::Both).unwrap();
        drop(s);
        let _ = t.join().unwrap();
        let c = rig.bridge.counters();
        wait_until("the dead client's connection stays", || get(&c.open) == 0);
    }
    rig.settle();
}

#[test]
fn at_the_bound_clients_wait_and_the_nodes_connections_are_refused() {
    let rig = Rig::with("127.0.0.1", echo_origin("127.0.0.1"), 256, |c| c.connections_max = 8);
    let at = rig.at();
    let c = rig.bridge.counters().clone();
    let held: Vec<_> = (0..4).map(|_| connect(at.echo)).collect();
    wait_until("four are taken", || get(&c.open) == 4);
    let late = connect(at.echo);
    (&late).write_all(b"x").unwrap();
    late.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!((&late).read(&mut [0; 1]).is_err(), "the fifth waits in the kernel's queue");
    drop(held);
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&late).read(&mut [0; 1]).unwrap(), 1, "and is served when there is room");
    drop(late);
    rig.settle();
}

#[test]
fn ports_that_come_again_at_once_are_served() {
    // The client resets, and binds the same port again: the node must hear of the end before the new SYN.
    let rig = Rig::new("127.0.0.1", dead_origin());
    let mut from: Option<SocketAddr> = None;
    for round in 0..20 {
        let s = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        s.set_reuse_address(true).unwrap();
        s.bind(&from.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap()).into()).unwrap();
        s.connect(&rig.at().echo.into()).unwrap();
        let mut s = TcpStream::from(s);
        from = Some(s.local_addr().unwrap());
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        let t0 = Instant::now();
        s.write_all(b"again").unwrap();
        s.read_exact(&mut [0; 5]).unwrap();
        assert!(t0.elapsed() < Duration::from_millis(500), "round {round}: {:?}", t0.elapsed());
        // A RST leaves no TIME-WAIT in the kernel, so that the port can come again.
        SockRef::from(&s).set_linger(Some(Duration::ZERO)).unwrap();
    }
    rig.settle();
}

#[test]
fn shutdown_resets_what_is_open_and_joins() {
    let mut rig = Rig::new("127.0.0.1", dead_origin());
    let mut s = connect(rig.at().echo);
    s.write_all(b"x").unwrap();
    s.read_exact(&mut [0; 1]).unwrap();
    rig.bridge.stop_accepting();
    wait_until("the listener stays", || TcpStream::connect(rig.at().echo).is_err());
    s.write_all(b"y").unwrap();
    s.read_exact(&mut [0; 1]).unwrap(); // What is open goes on.
    let t0 = Instant::now();
    rig.bridge.shutdown();
    assert!(t0.elapsed() < Duration::from_secs(1));
    let r = s.read(&mut [0; 1]);
    assert!(is_reset(&r), "{r:?}");
    rig.settle();
}

#[test]
fn an_address_in_use_is_refused_with_the_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let start = |at: &str, frame_bytes| {
        let (a, _b) = dataplane::port::mem::wire(2, frame_bytes);
        let e = super::start(super::HostConfig::new(vec![at.parse().unwrap()], [1; 6], [2; 6]), a);
        e.err().expect("refused").to_string()
    };
    let e = start(&at.to_string(), 1514);
    assert!(e.contains(&format!("cannot listen on {at}")) && e.contains("ss -ltnp"), "{e}");
    let e = start("192.0.2.77:8080", 1514);
    assert!(e.contains("no interface of this machine"), "{e}");
    let e = start("127.0.0.1:0", 1500);
    assert!(e.contains("MTU of 1500 needs 1514"), "{e}");
}
