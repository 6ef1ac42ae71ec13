//! Hundreds of clients that hardly read, uploads that hardly come, an origin that hardly reads: memory stays flat and
//! others are served as before. How fast they are served is printed, not judged: scripts/bench/backpressure.sh.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::http::Client;
use crate::lab::{Checks, EDGE_V4, Lab, NGINX, PATIENCE, config, enter, load_seconds};
use crate::script;

const READERS: usize = 500;
const WRITERS: usize = 100;
const SIPPED: usize = 20;
/// Of each slow client, in each direction.
const BYTES_PER_SECOND: usize = 1024;
/// What a node with all its pools reserved at start may still touch for the first time.
const GROWTH_KIB: u64 = 8 << 10;

#[test]
fn backpressure() {
    let Some(lab) = Lab::up("backpressure", 'b', true) else { return };
    let _seen = script::start(&lab);
    let sip = "[[site]]\nhosts = \"sip.lab\"\norigin = \"http://10.80.0.3:9000\"\n";
    let edge = lab.edge(&config(&format!("{sip}{NGINX}")));
    let to: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
    let mut c = Checks::new();

    let mut probe = Client::new(lab.connect(to).expect("taken"));
    let at_start = edge.at_rest_but(1);
    let samples = std::env::var("MILLRACE_E2E_SAMPLES").ok().and_then(|s| s.parse().ok()).unwrap_or(2000);
    measure(&mut probe, samples / 4);
    let before = measure(&mut probe, samples);
    let rss = edge.rss_kib();

    let mut beginning = vec![0; 1 << 20];
    File::open(lab.dir().join("www/200m")).and_then(|mut f| f.read_exact(&mut beginning)).expect("the file");
    let mut slow: Vec<Slow> = Vec::new();
    enter(&lab.client(), || {
        for n in 0..READERS + WRITERS + SIPPED {
            let socket = thrifty(to);
            slow.push(if n < READERS {
                Slow::reader(socket)
            } else if n < READERS + WRITERS {
                Slow::writer(socket, "any.lab", &format!("/upload/slow-{n}"), BYTES_PER_SECOND)
            } else {
                // These send as fast as they may: it is the origin that is slow.
                Slow::writer(socket, "sip.lab", "/sip", usize::MAX)
            });
        }
    });
    let load = Arc::new(Load::default());
    let shared = Arc::clone(&load);
    let pusher = thread::spawn(move || push(slow, &beginning, &shared));
    // Until every window is full.
    thread::sleep(Duration::from_secs(3));

    let mut during = before;
    c.check("others are served", || during = measure(&mut probe, samples));
    c.check("memory is flat", || {
        let mut most = edge.rss_kib();
        let until = Instant::now() + Duration::from_secs(load_seconds());
        while Instant::now() < until {
            most = most.max(edge.rss_kib());
            thread::sleep(Duration::from_millis(100));
        }
        println!("backpressure: memory {rss} KiB before, at most {most} KiB during");
        assert!(most < rss + GROWTH_KIB, "{rss} KiB before, {most} KiB during");
    });
    c.check("the slow are served too", || {
        let s = edge.stats();
        assert_eq!(s["counters"]["http.connections_open"], READERS + WRITERS + SIPPED + 1);
        assert_eq!(s["counters"]["http.aborted"], 0);
        let (read, written) = (load.read.load(Ordering::Relaxed), load.written.load(Ordering::Relaxed));
        println!(
            "backpressure: the slow have read {read} B and written {written} B; rx cells free {} of {}; \
             refused for want of cells {}, probes {}, retransmissions {}",
            s["counters"]["pool.rx_free"],
            at_start["counters"]["pool.rx_free"],
            s["counters"]["drop.tcp.rx_low"],
            s["counters"]["tcp.zero_window_probes"],
            s["counters"]["tcp.retransmits"],
        );
        assert!(read > (READERS * BYTES_PER_SECOND) as u64, "{read}");
        assert!(written > (WRITERS * BYTES_PER_SECOND) as u64, "{written}");
    });
    load.stop.store(true, Ordering::Relaxed);
    let judged = pusher.join();
    c.check("what they got was right", || judged.expect("right"));
    edge.at_rest_but(1);
    // Once more without them: on a shared machine what was before is not all there is to compare with.
    let after = measure(&mut probe, samples);
    for (name, [before, during, after]) in
        [("p50", [before.0, during.0, after.0]), ("p99", [before.1, during.1, after.1])]
    {
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        println!(
            "backpressure: {name} before, during, after: {:.0} {:.0} {:.0} µs; ratio to before {:.2}, to the mean \
             of before and after {:.2}",
            us(before),
            us(during),
            us(after),
            us(during) / us(before),
            2.0 * us(during) / us(before + after),
        );
    }
    drop(probe);
    c.check("and everything comes back", || {
        let end = edge.at_rest();
        edge.wait_for("pool.rx_free", at_start["counters"]["pool.rx_free"].as_u64().expect("a number"));
        assert_eq!(end["counters"]["tcp.no_send_record"], 0);
        assert_eq!(end["counters"]["tcp.no_header"], 0);
    });
    drop(edge);
    c.end();
}

/// Median and p99 of `n` small requests, one after the other.
fn measure(client: &mut Client, n: usize) -> (Duration, Duration) {
    let mut all: Vec<Duration> = (0..n)
        .map(|_| {
            let began = Instant::now();
            client.send("GET /1k HTTP/1.1\r\nHost: any.lab\r\n\r\n").expect("sent");
            let a = client.answer("GET");
            assert_eq!((a.whole(), a.body.len()), (200, 1024));
            began.elapsed()
        })
        .collect();
    all.sort();
    (all[n / 2], all[n * 99 / 100])
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    read: AtomicU64,
    written: AtomicU64,
}

struct Slow {
    socket: TcpStream,
    request: Vec<u8>,
    writes: usize,
    got: Vec<u8>,
}

impl Slow {
    fn reader(socket: TcpStream) -> Slow {
        let request = b"GET /200m HTTP/1.1\r\nHost: any.lab\r\n\r\n".to_vec();
        Slow { socket, request, writes: 0, got: Vec::new() }
    }

    fn writer(socket: TcpStream, host: &str, path: &str, writes: usize) -> Slow {
        let n = 200 << 20;
        let request =
            format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {n}\r\n\r\n").into_bytes();
        Slow { socket, request, writes, got: Vec::new() }
    }
}

/// Gives every slow client its turn once a second, spread over that second; at the end says whether all was right.
fn push(mut slow: Vec<Slow>, beginning: &[u8], load: &Load) {
    let data = vec![b'u'; 16 << 10];
    for s in &mut slow {
        s.socket.write_all(&s.request).expect("sent");
        s.socket.set_nonblocking(true).expect("set");
    }
    let began = Instant::now();
    let turns = 100;
    for turn in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        for s in slow.iter_mut().skip(turn % turns).step_by(turns) {
            if s.writes == 0 {
                let mut buf = [0; BYTES_PER_SECOND];
                match s.socket.read(&mut buf) {
                    Ok(0) => panic!("a slow reader was cut off"),
                    Ok(n) => {
                        s.got.extend_from_slice(&buf[..n]);
                        load.read.fetch_add(n as u64, Ordering::Relaxed);
                    }
                    Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "a slow reader was cut off"),
                }
                continue;
            }
            let mut left = s.writes;
            while left > 0 {
                match s.socket.write(&data[..left.min(data.len())]) {
                    Ok(n) => {
                        left -= n;
                        load.written.fetch_add(n as u64, Ordering::Relaxed);
                    }
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::WouldBlock, "a slow writer was cut off");
                        break;
                    }
                }
            }
        }
        let next = began + Duration::from_millis(1000 / turns as u64) * (turn as u32 + 1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    for s in slow.iter().filter(|s| s.writes == 0) {
        let body = s.got.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
        assert!(s.got.starts_with(b"HTTP/1.1 200 "));
        assert!(beginning.starts_with(&s.got[body..]), "the body is not the file's");
    }
}

/// A connection with the smallest of receive buffers.
fn thrifty(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    socket.connect_timeout(&to.into(), PATIENCE).expect("the node takes connections");
    socket.set_write_timeout(Some(PATIENCE)).expect("set");
    // What it has queued does not outlive it: the kernel would go on sending for minutes.
    socket.set_linger(Some(Duration::ZERO)).expect("set");
    socket.into()
}
