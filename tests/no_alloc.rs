//! The hot path allocates nothing: malloc, calloc, realloc and posix_memalign are interposed, and counted
//! while the data core's loop runs over steady-state traffic.
#![allow(unsafe_code)] // Interposing the C allocator.

#[path = "../benches/common/engine.rs"]
#[allow(dead_code)] // The benches use the rest of it.
mod engine;
#[path = "support/loaded.rs"]
mod loaded;
mod support;

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

use dataplane::Ctr;
use dataplane::rng::Rng;
use l7::phases::LogFormat;
use millrace::node::{CoreOrder, FlowPage};
use stack::State;
use stack::tcp::CookieUse;
use support::{Rig, Shared, Who};

thread_local! {
    /// Whether this thread's allocations count: only the core's passes do. `const`, so that reading it in
    /// malloc allocates nothing itself.
    static ARMED: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

unsafe extern "C" {
    fn __libc_malloc(n: usize) -> *mut c_void;
    fn __libc_calloc(n: usize, m: usize) -> *mut c_void;
    fn __libc_realloc(p: *mut c_void, n: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, n: usize) -> *mut c_void;
}

fn count() {
    if ARMED.get() {
        COUNT.set(COUNT.get() + 1);
    }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(n: usize) -> *mut c_void {
    count();
    // SAFETY: glibc's own malloc, with the caller's argument.
    unsafe { __libc_malloc(n) }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(n: usize, m: usize) -> *mut c_void {
    count();
    // SAFETY: glibc's own calloc, with the caller's arguments.
    unsafe { __libc_calloc(n, m) }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(p: *mut c_void, n: usize) -> *mut c_void {
    count();
    // SAFETY: glibc's own realloc, with the caller's arguments.
    unsafe { __libc_realloc(p, n) }
}

/// # Safety
/// As the C function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, n: usize) -> c_int {
    count();
    // SAFETY: glibc's own memalign; `out` is valid, as the caller of posix_memalign promises.
    unsafe {
        *out = __libc_memalign(align, n);
        if (*out).is_null() { 12 } else { 0 }
    }
}

/// Runs the core's pass with the count armed.
fn pass(rig: &mut Rig) {
    ARMED.set(true);
    rig.pass();
    rig.load.drive();
    ARMED.set(false);
}

fn requests(rig: &mut Rig, total: usize, request: &[u8]) {
    let n = rig.load.conns.len();
    let mut done = 0;
    while done < total {
        for i in 0..n {
            rig.load.request(i, request);
        }
        // A proxied request crosses the core four times; one that waits for another's answer, more often.
        for pass_no in 0..64 {
            pass(rig);
            rig.load.poll();
            if pass_no >= 8 && rig.load.conns.iter().all(|c| c.got > 0) {
                break;
            }
        }
        for (i, c) in rig.load.conns.iter().enumerate() {
            assert!(c.got > 0, "connection {i} got no answer after {done} requests");
        }
        done += n;
    }
}

const GET: &[u8] =
    b"GET /object?id=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";

#[test]
fn the_counter_counts() {
    COUNT.set(0);
    ARMED.set(true);
    let v = std::hint::black_box(vec![1u8; 100]);
    ARMED.set(false);
    drop(v);
    assert_eq!(COUNT.get(), 1);
}

#[test]
fn keep_alive_requests_answered_by_the_stub() {
    let mut rig = Rig::new(Who::Stub(1024), 64, Vec::new());
    rig.open_all();
    requests(&mut rig, 2_000, GET);
    COUNT.set(0);
    requests(&mut rig, 100_000, GET);
    assert_eq!(COUNT.get(), 0, "allocations over 100,000 requests");
    let s = rig.segment.read();
    assert!(s.get(Ctr::HttpStub) >= 102_000);
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
}

#[test]
fn proxied_requests_on_pooled_origin_connections() {
    let response = [b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".to_vec(), vec![b'y'; 1024]].concat();
    let mut rig = Rig::new(Who::Proxy, 64, response);
    rig.open_all();
    requests(&mut rig, 2_000, GET);
    COUNT.set(0);
    requests(&mut rig, 100_000, GET);
    assert_eq!(COUNT.get(), 0, "allocations over 100,000 proxied requests");
    let s = rig.segment.read();
    assert!(s.get(Ctr::OriginReused) >= 100_000, "{}", s.get(Ctr::OriginReused));
    assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests));
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
}

/// With cookies, while open connections go on: nothing is allocated, and nothing of what we keep grows.
#[test]
fn a_flood_of_syns() {
    let mut e = engine::Engine::with(engine::limits(1024), 64, true, CookieUse::Always);
    e.open_all();
    let mut rng = Rng::new(3);
    let mut before = ((0, 0), 0);
    for turn in 0..2_000 {
        for _ in 0..60 {
            e.strange_syn(&mut rng);
        }
        e.fill_some(4);
        ARMED.set(true);
        e.pass();
        ARMED.set(false);
        assert_eq!(e.take_sent(), 4, "every request is answered beside the flood");
        // Each connection has had an answer, which holds a record until the next request.
        if turn == 100 {
            COUNT.set(0);
            before = (e.stack.tcp.in_use(), e.rx_free());
        }
    }
    assert_eq!(COUNT.get(), 0, "allocations");
    assert_eq!((e.stack.tcp.in_use(), e.rx_free()), before, "flows, records, cells");
    assert!(e.segment.read().get(Ctr::TcpCookiesSent) >= 60 * 2_000);
}

/// Hits; responses that may not be stored, each fetched and handed over; and ones that are
/// fetched, stored and replaced every time.
#[test]
fn requests_with_a_cache() {
    for (control, bytes, hits) in
        [("max-age=3600", 1024, true), ("no-store", 1024, false), ("max-age=0\r\nETag: \"a\"", 1024, false)]
    {
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: {bytes}\r\n\r\n");
        let mut rig = Rig::new(Who::Cached, 64, [head.into_bytes(), vec![b'y'; bytes]].concat());
        rig.open_all();
        requests(&mut rig, 2_000, GET);
        COUNT.set(0);
        requests(&mut rig, 20_000, GET);
        assert_eq!(COUNT.get(), 0, "allocations over 20,000 requests, {control}, {bytes} bytes");
        let s = rig.segment.read();
        assert_eq!(s.get(Ctr::CacheHits) >= 20_000, hits, "{control}");
        assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests), "{control}");
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
    }
}

/// The same on a port of DPDK's, with what a NIC's driver does. libdpdk and its drivers find the interposed functions as
/// well: the program exports them.
#[cfg(feature = "dpdk")]
#[test]
fn requests_from_the_cache_over_dpdk() {
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: 1024\r\n\r\n";
    let mut rig = Rig::on_ring(&Who::Cached, 64, [head.as_bytes(), &[b'y'; 1024]].concat());
    rig.open_all();
    requests(&mut rig, 2_000, GET);
    COUNT.set(0);
    requests(&mut rig, 20_000, GET);
    assert_eq!(COUNT.get(), 0, "allocations over 20,000 requests");
    let s = rig.segment.read();
    assert!(s.get(Ctr::CacheHits) >= 20_000);
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
}

/// An answer of the origin for a slice of `total` bytes.
fn slice(from: usize, end: usize, total: usize, control: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nCache-Control: {control}\r\nETag: \"a\"\r\n\
         Content-Range: bytes {from}-{}/{total}\r\nContent-Length: {}\r\n\r\n",
        end - 1,
        end - from
    );
    [head.into_bytes(), vec![b'y'; end - from]].concat()
}

/// The AEAD library's allocations would count, too: contexts are kept as long as their connections have records.
#[test]
fn requests_over_tls() {
    for who in [Who::Cached, Who::Proxy] {
        let mut shared = Shared::new(1);
        shared.tls = Some(support::tls::TlsOf::new());
        let response = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: 1024\r\n\r\n{:01024}",
            0
        );
        let mut rig = Rig::with_cores(who, 64, response.into_bytes(), &shared, |_, _, _| 0);
        rig.open_all();
        requests(&mut rig, 2_000, GET);
        COUNT.set(0);
        requests(&mut rig, 10_000, GET);
        assert_eq!(COUNT.get(), 0, "allocations over 10,000 requests");
        let s = rig.segment.read();
        assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests));
        assert_eq!(s.get(Ctr::TlsRecordsOpened), s.get(Ctr::HttpRequests));
    }
}

/// Clients of a large stored object who stop listening in the middle of it, and too little memory for records: what was
/// sent is let go, and sealed again when it times out.
#[test]
fn records_let_go_and_sealed_again() {
    const BODY: usize = 150_000;
    let mut shared = Shared::new(1);
    shared.tls = Some(support::tls::TlsOf::new());
    shared.record_cells = 32;
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: {BODY}\r\n\r\n");
    let first = [head.as_bytes(), &[b'x'; 1000]].concat();
    let mut rig = Rig::with_cores(Who::Cached, 16, first, &shared, |_, _, _| 0);
    rig.open_all();
    rig.load.acknowledges = true;
    // The origin's answer, in segments.
    rig.load.request(0, GET);
    for _ in 0..8 {
        rig.pass();
        rig.load.poll();
    }
    for piece in [b'x'; BODY - 1000].chunks(1400) {
        rig.load.answer_more(piece);
        rig.pass();
        rig.load.poll();
    }
    let n = rig.load.conns.len();
    let turn = |rig: &mut Rig, passes: usize| {
        for _ in 0..passes {
            pass(rig);
            rig.load.poll();
        }
    };
    turn(&mut rig, 400);
    assert!(rig.load.conns[0].got as usize > BODY, "{} bytes", rig.load.conns[0].got);
    for round in 0..12 {
        if round == 2 {
            COUNT.set(0);
        }
        (0..n).for_each(|i| rig.load.request(i, GET));
        // By then some are at the start of it, some in the middle.
        turn(&mut rig, 1 + round % 4);
        rig.load.conns.iter_mut().for_each(|c| c.deaf = true);
        for _ in 0..3 {
            turn(&mut rig, 40);
            rig.now = rig.now.plus_ns(1_000_000_000);
        }
        rig.load.conns.iter_mut().for_each(|c| c.deaf = false);
        for _ in 0..400 {
            turn(&mut rig, 20);
            if rig.load.conns.iter().all(|c| c.got as usize > BODY) {
                break;
            }
            rig.now = rig.now.plus_ns(50_000_000);
        }
        assert!(rig.load.conns.iter().all(|c| c.got as usize > BODY), "round {round}");
    }
    assert_eq!(COUNT.get(), 0, "allocations over 10 rounds");
    let s = rig.segment.read();
    let (gone, again) = (s.get(Ctr::TlsRecordsLetGo), s.get(Ctr::TlsRecordsSealedAgain));
    assert!(gone > 100 && again > 20, "{gone} let go, {again} sealed again");
    assert_eq!((s.get(Ctr::TlsAgainDiffers), s.get(Ctr::TlsNoCell), s.get(Ctr::HttpAborted)), (0, 0, 0));
}

/// Bodies from two stored slices, ranges of one; and a slice that is validated and replaced every time.
#[test]
fn slices_of_a_cache() {
    const FIRST: &[u8] = b"GET /object?id=1 HTTP/1.1\r\nHost: example.com\r\nRange: bytes=0-9\r\n\r\n";
    const SECOND: &[u8] = b"GET /object?id=1 HTTP/1.1\r\nHost: example.com\r\nRange: bytes=1100-1109\r\n\r\n";
    let mut rig = Rig::new(Who::Sliced(1024), 64, slice(0, 1024, 1500, "max-age=3600"));
    rig.open_all();
    requests(&mut rig, 64, FIRST);
    rig.load.response = slice(1024, 1500, 1500, "max-age=3600");
    requests(&mut rig, 64, SECOND);
    requests(&mut rig, 2_000, GET);
    let served = rig.segment.read().get(Ctr::CacheSlicesServed);
    COUNT.set(0);
    requests(&mut rig, 10_000, GET);
    requests(&mut rig, 10_000, SECOND);
    assert_eq!(COUNT.get(), 0, "allocations over 20,000 requests");
    let s = rig.segment.read();
    assert_eq!((s.get(Ctr::CacheSlicesFetched), s.get(Ctr::CacheSlicesRefused)), (2, 0));
    assert!(s.get(Ctr::CacheSlicesServed) - served >= 30_000, "{}", s.get(Ctr::CacheSlicesServed));
    assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests));
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));

    let mut rig = Rig::new(Who::Sliced(1024), 64, slice(0, 1000, 1000, "max-age=0"));
    rig.open_all();
    requests(&mut rig, 2_000, GET);
    COUNT.set(0);
    requests(&mut rig, 10_000, GET);
    assert_eq!(COUNT.get(), 0, "allocations over 10,000 requests");
    let s = rig.segment.read();
    assert!(s.get(Ctr::CacheSlicesFetched) > 100, "{}", s.get(Ctr::CacheSlicesFetched));
    assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests));
}

#[test]
fn logged_requests() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody".to_vec();
        let shared = Shared::new(1);
        let mut rig = Rig::with_cores(Who::Logged(format), 64, response, &shared, |_, _, _| 0);
        rig.open_all();
        requests(&mut rig, 64, GET);
        COUNT.set(0);
        let mut lines = 0;
        for _ in 0..100 {
            requests(&mut rig, 128, GET);
            lines += shared.lines.lock().expect("no panic")[0].take(|_, line| {
                let line = std::str::from_utf8(line).expect("UTF-8");
                assert!(line.ends_with('\n') && line.contains("/object?id=1") && line.contains("10.0.0.2"));
                if format == LogFormat::Json {
                    let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
                    assert_eq!((&json["status"], &json["body_bytes"]), (&200.into(), &4.into()));
                    assert_eq!(json["origin"], "10.0.0.3:8000");
                    assert!(json["origin_first_byte_us"].is_u64() && json["last_byte_us"].is_u64());
                }
            });
        }
        assert_eq!(COUNT.get(), 0, "allocations over 12,800 logged requests");
        let s = rig.segment.read();
        assert_eq!((s.get(Ctr::LogLines), s.get(Ctr::LogDropped)), (lines as u64, 0));
        assert_eq!(s.get(Ctr::HttpRequests), lines as u64);
        // Nobody reads any more: lines are lost, requests are not.
        requests(&mut rig, 1_000, GET);
        let s = rig.segment.read();
        assert!(s.get(Ctr::LogDropped) > 0);
        assert_eq!(s.get(Ctr::LogLines) + s.get(Ctr::LogDropped), s.get(Ctr::HttpComplete));
    }
}

/// Somebody looks at the connections all the time.
#[test]
fn requests_while_somebody_looks() {
    let shared = Shared::new(1);
    let mut rig = Rig::with_cores(Who::Stub(1024), 200, Vec::new(), &shared, |_, _, _| 0);
    rig.open_all();
    requests(&mut rig, 400, GET);
    let (desk, page) = (shared.desk(), Arc::<FlowPage>::default());
    let (mut seen, mut told) = (0, 0);
    COUNT.set(0);
    for _ in 0..40 {
        page.begin(0);
        while page.place().is_some() {
            assert!(desk.tell_all(|_| CoreOrder::Flows(Arc::clone(&page))).is_some());
            requests(&mut rig, 200, GET);
            seen += std::iter::from_fn(|| page.take()).filter(|f| f.state == State::Established).count();
            told += 1;
        }
    }
    assert_eq!(COUNT.get(), 0, "allocations over {told} looks");
    assert_eq!(seen, 40 * 200);
    assert_eq!(rig.segment.read().get(Ctr::HttpStub), 400 + 200 * told);
}

#[test]
fn frames_that_come_to_the_wrong_core() {
    let response = [b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".to_vec(), vec![b'y'; 1024]].concat();
    // Clients by turns; what the origin sends comes to the core that does not own the port.
    let spread = |i: usize, from_origin: bool, cores: usize| (i + usize::from(from_origin)) % cores;
    let mut rig = Rig::with_cores(Who::Proxy, 64, response, &Shared::new(2), spread);
    rig.open_all();
    requests(&mut rig, 2_000, GET);
    COUNT.set(0);
    requests(&mut rig, 50_000, GET);
    assert_eq!(COUNT.get(), 0, "allocations over 50,000 requests");
    let s = rig.segment.read();
    assert_eq!(s.get(Ctr::Http2xx), s.get(Ctr::HttpRequests));
    assert!(s.get(Ctr::RxHandedOver) >= 50_000 && s.in_mail() == 0);
    for core in 0..2 {
        let s = rig.segment.read_core(core);
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
        assert!(s.get(Ctr::HttpRequests) > 20_000);
    }
}

/// A port of DPDK's: neither ours nor DPDK's own allocate.
#[cfg(feature = "dpdk")]
#[test]
fn requests_over_dpdks_rings() {
    // Heads that are copied into mbufs, and bodies that are attached to them.
    let response = [b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".to_vec(), vec![b'y'; 1024]].concat();
    for who in [Who::Stub(1024), Who::Proxy] {
        let (_rings, mut rig, mut pump) = Rig::over_rings(who, 64, response.clone(), &Shared::new(1));
        let turns = |rig: &mut Rig, pump: &mut support::rings::Pump, n: usize| {
            for _ in 0..n {
                pass(rig);
                pump.turn(rig.now);
                rig.load.poll();
            }
        };
        for i in 0..64 {
            rig.load.open(i);
        }
        turns(&mut rig, &mut pump, 20);
        for round in 0..600 {
            for i in 0..64 {
                rig.load.request(i, GET);
            }
            turns(&mut rig, &mut pump, 16);
            assert!(rig.load.conns.iter().all(|c| c.got > 1024), "round {round}");
            if round == 50 {
                COUNT.set(0);
            }
        }
        assert_eq!(COUNT.get(), 0, "allocations over 35,000 requests");
        let s = rig.segment.read();
        assert!(s.get(Ctr::Http2xx) >= 600 * 64);
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
    }
}

#[test]
fn connections_accepted_served_once_and_closed() {
    const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";
    let mut rig = Rig::new(Who::Stub(1024), 12_000, Vec::new());
    let round = |rig: &mut Rig, range: std::ops::Range<usize>| {
        for i in range.clone() {
            rig.load.open(i);
        }
        for step in 0..12 {
            pass(rig);
            rig.load.poll();
            if step == 2 {
                range.clone().for_each(|i| rig.load.request(i, CLOSE));
            }
            if step == 6 {
                range.clone().for_each(|i| rig.load.close(i));
            }
        }
        for i in range {
            let c = rig.load.conns[i];
            assert!(c.got > 1024 && c.ended, "connection {i}");
        }
    };
    // A pass takes one burst: as many connections at a time as fit one.
    for k in 0..40 {
        round(&mut rig, k * 50..(k + 1) * 50);
    }
    COUNT.set(0);
    for k in 40..240 {
        round(&mut rig, k * 50..(k + 1) * 50);
    }
    assert_eq!(COUNT.get(), 0, "allocations over 10,000 connections");
    let s = rig.segment.read();
    assert_eq!(s.get(Ctr::TcpPassiveOpens), 12_000);
    assert_eq!(rig.core.pipeline.stack.tcp.in_use(), (0, 0), "everything was given back");
}

/// The load client in its steady state, closed and open loop, with kept connections and one for each request; with
/// bodies that are hashed.
#[test]
fn requests_of_the_load_client() {
    use loaded::{Manners, Pair, plan, request};
    use millrace::pktgen::http::arrivals::Kind;
    use millrace::pktgen::http::tally::Count;

    for (what, close, rate, verify) in [
        ("closed loop", false, None, false),
        ("closed loop, hashed", false, None, true),
        ("a connection for each", true, None, false),
        ("open loop", false, Some(100_000.0), true),
        ("open loop, a connection for each", true, Some(50_000.0), false),
    ] {
        let mut wanted = plan(64);
        (wanted.close, wanted.rate, wanted.verify, wanted.arrival) = (close, rate, verify, Kind::Poisson);
        wanted.requests = vec![request("/a", close), request("/b", close)];
        let mut manners = Manners::of_body(1024, 256);
        manners.requests_max = if close { 1 } else { u32::MAX };
        let mut pair = Pair::new(wanted, manners, None, false);
        let mut until = |responses: u64| {
            let t0 = pair.count(Count::Responses);
            for turn in 0.. {
                assert!(turn < 10_000_000, "{what}: no end");
                if pair.count(Count::Responses) - t0 >= responses {
                    break;
                }
                ARMED.set(true);
                let busy = pair.client.pass(pair.now);
                ARMED.set(false);
                pair.stub.pass(pair.now);
                pair.now = pair.now.plus_ns(if busy { 5_000 } else { 20_000 });
            }
        };
        until(2_000);
        COUNT.set(0);
        until(30_000);
        assert_eq!(COUNT.get(), 0, "{what}: allocations over 30,000 requests");
        assert_eq!((pair.count(Count::Failed), pair.count(Count::WrongBody)), (0, 0), "{what}");
        let s = pair.segment.read();
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
    }
}

/// The packet generator: all kinds of streams, written into a wire's buffers; and as packets, by which a TAP gets them.
#[test]
fn frames_of_the_packet_generator() {
    use dataplane::counters::Segment;
    use dataplane::port::{Burst, Fill, LinkFacts, PortStats, mem};
    use dataplane::{Pool, Port, Time, TxQueue};
    use hugepages::PagePolicy;

    /// A port that cannot be written to.
    struct Plain(mem::MemPort);
    impl Port for Plain {
        fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
            self.0.rx_burst(out, now)
        }
        fn tx_burst(&mut self, queue: &mut TxQueue, now: Time) -> usize {
            self.0.tx_burst(queue, now)
        }
        fn tx_fill(&mut self, _: usize, _: usize, _: Fill) -> Option<usize> {
            None
        }
        fn facts(&self) -> &LinkFacts {
            self.0.facts()
        }
        fn stats(&self) -> PortStats {
            self.0.stats()
        }
        fn rx_pool(&self) -> &Pool {
            self.0.rx_pool()
        }
    }

    let streams = [
        "udp dst=10.0.0.1 sport=9 dstmac=02:00:00:00:00:02",
        "syn dst=10.0.0.1:80 src=10.1.0.0/16 srcmac=random dstmac=02:00:00:00:00:02",
        "dns dst=2001:db8::1 src=2001::/16 dstmac=02:00:00:00:00:02 weight=3",
        "udp dst=10.0.0.1:7 size=imix vlan=1-9 probe dstmac=02:00:00:00:00:02",
        "frags dst=10.0.0.1 dstmac=02:00:00:00:00:02",
    ];
    for written in [true, false] {
        let (near, far) = mem::wire(256, 2048);
        let pool = Pool::reserve("rx", 256, 2048, PagePolicy::NormalOnly).expect("memory");
        let port = mem::MemPort::new(near, pool, [2, 0, 0, 0, 0, 1], 1500, 0);
        let port: Box<dyn Port> = if written { Box::new(port) } else { Box::new(Plain(port)) };
        let segment = Segment::in_memory(1);
        let mut core = millrace::pktgen::endless(port, &streams, &segment).expect("streams");
        let (mut got, mut bytes) = (0u64, 0);
        let mut turn = |passes: u64| {
            for now in 0..passes {
                ARMED.set(true);
                core.pass(Time(now * 1000));
                ARMED.set(false);
                while let Some(n) = far.recv_with(<[u8]>::len) {
                    got += 1;
                    bytes += n as u64;
                }
            }
        };
        turn(10);
        COUNT.set(0);
        turn(2_000);
        assert_eq!(COUNT.get(), 0, "allocations over {got} frames");
        let s = segment.read();
        assert!(got > 100_000, "{got} frames");
        assert_eq!((s.get(Ctr::TxSent), s.get(Ctr::TxBytes), s.tx_imbalance()), (got, bytes, 0));
    }
}
