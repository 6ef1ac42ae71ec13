//! Fixed work, to be counted in instructions: `scripts/bench/callgrind.sh` runs this under callgrind, which
//! collects only inside of functions whose name begins with `measured_`.
//!
//! `counted NAME REQUESTS` with NAME one of tcp, bulk, syn, stub, cached, proxied, head. REQUESTS are segments sent of
//! bulk, and SYNs answered by cookies of syn.
//!
//! `counted passes REQUESTS [KEY]`: passes of the loop with 64 requests in a burst, by TLS; with a KEY (PEM, PKCS #8),
//! which is then the certificate's, beside strangers who shake hands. `scripts/bench/passes.sh` counts each pass.

#[path = "../common/mod.rs"]
mod common;
#[path = "../node/strangers.rs"]
mod strangers;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;

use common::engine::{Engine, REQUEST, limits};
use dataplane::BURST_MAX;
use dataplane::rng::Rng;
use l7::http1::{HeadScan, HeaderSlots, HttpLimits, Parsed, parse_request};
use rcgen::KeyPair;
use stack::tcp::CookieUse;
use strangers::{BODY_BYTES, Crowd, Key};
use support::tls::NoBell;
use support::{Rig, Who};

const CONNECTIONS: usize = 256;
/// Strangers at a time, and those who come before one pass.
const STRANGERS: usize = 64;
const AT_ONCE: usize = 8;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, requests, ..] = &words[..] else { return }; // As `cargo bench` and `cargo test` call it.
    let requests: usize = requests.parse().expect("a number of requests");
    match name.as_str() {
        "tcp" => tcp(requests),
        "bulk" => bulk(requests),
        "syn" => syn(requests),
        "stub" => node(Who::Stub(1024), 1, requests),
        "cached" => node(Who::Cached, 1, requests),
        "proxied" => node(Who::Proxy, 2, requests),
        "head" => head(requests),
        "passes" => passes(requests, words.get(2).map(String::as_str)),
        _ => panic!("{name} is not one of tcp, bulk, syn, stub, cached, proxied, head"),
    }
}

fn tcp(requests: usize) {
    let mut e = Engine::new(CONNECTIONS as u32, true);
    let mut run = |requests: usize, is_measured: bool| {
        for _ in 0..requests / BURST_MAX {
            let n = e.fill();
            if is_measured {
                measured_engine(&mut e)
            } else {
                e.pass()
            }
            assert_eq!(e.take_sent(), n);
        }
    };
    run(CONNECTIONS * 4, false);
    run(requests, true);
}

/// Downloads of 32 connections, an ACK for each of them after a pass.
fn bulk(segments: usize) {
    let mut e = Engine::new(32, true);
    e.download();
    // The first request begins it.
    e.fill();
    let mut left = segments as i64 * 2;
    let mut measured = 0;
    while measured < segments {
        if left > segments as i64 {
            e.pass();
            left -= e.take_segments() as i64;
        } else {
            measured_engine(&mut e);
            measured += e.take_segments();
        }
        e.ack_all();
    }
}

/// SYNs that cookies answer.
fn syn(syns: usize) {
    let mut e = Engine::with(limits(1024), 64, true, CookieUse::Always);
    let mut rng = Rng::new(1);
    for turn in 0..syns / BURST_MAX + 8 {
        for _ in 0..BURST_MAX {
            e.strange_syn(&mut rng);
        }
        if turn < 8 {
            e.pass();
        } else {
            measured_engine(&mut e);
        }
        assert_eq!(e.take_segments(), BURST_MAX);
    }
}

#[inline(never)]
fn measured_engine(e: &mut Engine) {
    e.pass();
}

fn node(who: Who, passes: u64, requests: usize) {
    let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=86400\r\nContent-Length: 1024\r\n\r\n";
    let response = [head.to_vec(), vec![b'y'; 1024]].concat();
    let mut rig = Rig::new(who, CONNECTIONS, response);
    rig.open_all();
    let mut at = 0;
    let mut run = |requests: usize, is_measured: bool| {
        for _ in 0..requests / BURST_MAX {
            for k in 0..BURST_MAX {
                rig.load.request((at + k) % CONNECTIONS, REQUEST);
            }
            for _ in 0..passes {
                rig.now = rig.now.plus_ns(1_000 * BURST_MAX as u64 / passes);
                if is_measured {
                    measured_core(&mut rig);
                } else {
                    rig.core.pass(rig.now);
                }
                rig.load.poll();
            }
            // The first requests open connections to the origin, which takes longer.
            for _ in 0..if is_measured { 0 } else { 6 } {
                rig.core.pass(rig.now);
                rig.load.poll();
            }
            for k in 0..BURST_MAX {
                assert!(rig.load.conns[(at + k) % CONNECTIONS].got > 1024);
            }
            at = (at + BURST_MAX) % CONNECTIONS;
        }
    };
    run(CONNECTIONS * 4, false);
    run(requests, true);
}

#[inline(never)]
fn measured_core(rig: &mut Rig) {
    rig.core.pass(rig.now);
}

fn passes(requests: usize, key: Option<&str>) {
    let read = |file| KeyPair::from_pem(&std::fs::read_to_string(file).expect("a file")).expect("a key");
    let mut rig =
        strangers::rig(&key.map_or_else(|| Key::P256.make(), read), CONNECTIONS, STRANGERS, Arc::new(NoBell));
    let mut crowd = Crowd::new(CONNECTIONS, STRANGERS);
    for turn in 0..CONNECTIONS / BURST_MAX * 2 + requests / BURST_MAX {
        let first = turn * BURST_MAX % CONNECTIONS;
        for k in 0..BURST_MAX {
            rig.load.request((first + k) % CONNECTIONS, REQUEST);
        }
        let answered =
            |rig: &Rig, k: usize| rig.load.conns[(first + k) % CONNECTIONS].got as usize > BODY_BYTES;
        while !(0..BURST_MAX).all(|k| answered(&rig, k)) {
            if key.is_some() {
                let more = STRANGERS - crowd.here();
                crowd.come(&mut rig.load, more.min(AT_ONCE));
            }
            rig.now = rig.now.plus_ns(1_000 * BURST_MAX as u64);
            if turn < CONNECTIONS / BURST_MAX * 2 {
                rig.core.pass(rig.now);
            } else {
                measured_core(&mut rig);
            }
            rig.load.poll();
            crowd.go(&mut rig.load);
        }
    }
    eprintln!("handshakes {}", crowd.done);
}

fn head(requests: usize) {
    let (limits, mut slots) = (HttpLimits::default(), HeaderSlots::new());
    for _ in 0..requests {
        measured_head(&limits, &mut slots);
    }
}

#[inline(never)]
fn measured_head(limits: &HttpLimits, slots: &mut HeaderSlots) {
    let parsed = parse_request(black_box(REQUEST), &mut HeadScan::new(), limits, slots);
    assert!(matches!(black_box(parsed), Ok(Parsed::Complete(_, n)) if n == REQUEST.len()));
}
