//! Measures what lies between two network namespaces, for scripts/bench/link.sh: round trips, the rate of a flood, the
//! throughput of one TCP connection. Plain sockets of the kernel's on both sides; nothing of the link's own numbers.
//!
//! ```text
//! measure rtt    FROM ADDRESS COUNT        pings, which the other kernel answers, 5 ms between: quantiles of the time
//! measure flood  FROM TO ADDRESS SECONDS MBIT   UDP at that rate: what comes through, as frames (payload + 42 bytes)
//! measure tcp    FROM TO ADDRESS SECONDS   one connection: bits of payload per second after the first second
//! measure which  FROM TO ADDRESS COUNT     numbered UDP datagrams: how many come, and a hash of their numbers
//! ```
//! FROM and TO are namespaces, ADDRESS is TO's. Prints an object of JSON.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::Timeout;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

/// Ethernet, IPv4 and UDP around a payload.
const HEADERS: usize = 14 + 20 + 8;
/// The longest payload of an unfragmented packet of 1,500 bytes.
const PAYLOAD: usize = 1472;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let out = match words[..] {
        ["rtt", from, address, count] => rtt(from, address, number(count)),
        ["flood", from, to, address, seconds, mbit] => {
            flood(from, to, address, number(seconds), number(mbit))
        }
        ["tcp", from, to, address, seconds] => tcp(from, to, address, number(seconds)),
        ["which", from, to, address, count] => which(from, to, address, number(count) as u32),
        _ => panic!("measure rtt|flood|tcp|which …: see link/examples/measure.rs"),
    };
    println!("{out}");
}

/// Runs `f` on a thread in the namespace; what it opens stays there.
fn enter<T: Send>(namespace: &str, f: impl FnOnce() -> T + Send) -> T {
    let door = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    let inside = || {
        move_into_link_name_space(door.as_fd(), Some(LinkNameSpaceType::Network)).expect("let in");
        f()
    };
    thread::scope(|s| s.spawn(inside).join()).expect("no panic")
}

fn udp(from: &str, to: &str, address: &str) -> (UdpSocket, UdpSocket, SocketAddr) {
    let there: SocketAddr = format!("{address}:7001").parse().expect("an address");
    let sender = enter(from, || UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    let receiver = enter(to, || UdpSocket::bind(there).expect("a socket"));
    // Room for all, however late the reader is.
    net::sockopt::set_socket_recv_buffer_size_force(&receiver, 64 << 20).expect("root");
    receiver.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    (sender, receiver, there)
}

fn rtt(from: &str, address: &str, count: u64) -> Value {
    let there: Ipv4Addr = address.parse().expect("an address");
    // A socket for pings: the kernel fills in identifier and checksum, and gives it the answers.
    let socket = enter(from, || {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").expect("root");
        net::socket(AddressFamily::INET, SocketType::DGRAM, Some(net::ipproto::ICMP)).expect("a socket")
    });
    net::sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5)))
        .expect("a timeout");
    net::connect(&socket, &SocketAddrV4::new(there, 0)).expect("a route");
    let (mut ping, mut buf) = ([0u8; 64], [0u8; 256]);
    ping[0] = 8;
    let mut rtts_ns: Vec<u64> = (0..count)
        .map(|i| {
            ping[6..8].copy_from_slice(&(i as u16).to_be_bytes());
            let sent = Instant::now();
            net::send(&socket, &ping, SendFlags::empty()).expect("sent");
            net::recv(&socket, &mut buf, RecvFlags::empty()).expect("an answer");
            let rtt = sent.elapsed();
            assert_eq!((buf[0], &buf[6..8]), (0, &ping[6..8]), "the answer to this ping");
            thread::sleep(Duration::from_millis(5));
            rtt.as_nanos() as u64
        })
        .collect();
    rtts_ns.sort_unstable();
    let at = |q: f64| rtts_ns[((rtts_ns.len() as f64 * q) as usize).min(rtts_ns.len() - 1)];
    json!({ "rtts": count, "min_ns": at(0.0), "p50_ns": at(0.5), "p99_ns": at(0.99), "max_ns": at(1.0) })
}

fn flood(from: &str, to: &str, address: &str, seconds: u64, mbit: u64) -> Value {
    let (sender, receiver, there) = udp(from, to, address);
    let over = AtomicBool::new(false);
    let (first, last, frames, sent) = thread::scope(|s| {
        let sending = s.spawn(|| {
            let (began, mut sent) = (Instant::now(), 0u64);
            let per_second = mbit as f64 * 1e6 / 8.0 / (PAYLOAD + HEADERS) as f64;
            while began.elapsed() < Duration::from_secs(seconds) {
                while (sent as f64) < began.elapsed().as_secs_f64() * per_second {
                    sender.send_to(&[0; PAYLOAD], there).expect("sent");
                    sent += 1;
                }
                thread::sleep(Duration::from_micros(500));
            }
            over.store(true, Ordering::Relaxed);
            sent
        });
        let mut buf = [0; 2048];
        let began = Instant::now();
        let (mut first, mut last, mut frames) = (None, began, 0u64);
        while !over.load(Ordering::Relaxed) {
            if receiver.recv(&mut buf).is_err() {
                continue;
            }
            last = Instant::now();
            // Until the queue in front of the rate is full for certain.
            if first.is_none() && began.elapsed() > Duration::from_secs(1) {
                first = Some(last);
            } else if first.is_some() {
                frames += 1;
            }
        }
        (first.expect("a second's worth"), last, frames, sending.join().expect("no panic"))
    });
    let ns = (last - first).as_nanos() as f64;
    let bits = frames as f64 * ((PAYLOAD + HEADERS) * 8) as f64;
    json!({ "sent": sent, "frames": frames, "ns": ns as u64, "bits_per_second": bits * 1e9 / ns })
}

fn which(from: &str, to: &str, address: &str, count: u32) -> Value {
    let (sender, receiver, there) = udp(from, to, address);
    for i in 0..count {
        sender.send_to(&i.to_be_bytes(), there).expect("sent");
        if i % 20 == 19 {
            thread::sleep(Duration::from_micros(200));
        }
    }
    let (mut buf, mut came, mut hash) = ([0; 4], 0u64, 0xcbf2_9ce4_8422_2325u64);
    while receiver.recv(&mut buf).is_ok() {
        came += 1;
        // FNV-1a.
        hash = buf.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    }
    json!({ "sent": count, "came": came, "hash": format!("{hash:016x}") })
}

fn tcp(from: &str, to: &str, address: &str, seconds: u64) -> Value {
    let there: SocketAddr = format!("{address}:7002").parse().expect("an address");
    let listener = enter(to, || TcpListener::bind(there).expect("a listener"));
    let mut sender = enter(from, || TcpStream::connect(there).expect("a connection"));
    let (mut receiver, _) = listener.accept().expect("a connection");
    let (began, length) = (Instant::now(), Duration::from_secs(seconds));
    let (bytes, ns) = thread::scope(|s| {
        s.spawn(move || {
            let chunk = vec![0u8; 128 << 10];
            while began.elapsed() < length && sender.write_all(&chunk).is_ok() {}
        });
        let mut buf = vec![0u8; 256 << 10];
        let (mut bytes, mut first, mut last) = (0u64, None, began);
        while let Ok(n) = receiver.read(&mut buf) {
            if n == 0 || began.elapsed() > length {
                break;
            }
            last = Instant::now();
            if first.is_none() && began.elapsed() > Duration::from_secs(1) {
                first = Some(last);
            } else if first.is_some() {
                bytes += n as u64;
            }
        }
        // The sender may be waiting for room.
        let _ = receiver.shutdown(std::net::Shutdown::Both);
        drop(receiver);
        (bytes, (last - first.expect("more than a second")).as_nanos() as f64)
    });
    json!({ "bytes": bytes, "ns": ns as u64, "bits_per_second": bytes as f64 * 8e9 / ns })
}
