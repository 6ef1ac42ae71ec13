//! `pktgen http` in a box: the client and a server stub over our stack, a link with faults between them, virtual time.
//! What the client counts is what the stub counted; all of it follows from seeds.

#[path = "support/loaded.rs"]
mod loaded;

use dataplane::Ctr;
use dataplane::port::link::Faults;
use loaded::{Manners, Pair, body, plan, request};
use millrace::pktgen::http::arrivals::Kind;
use millrace::pktgen::http::request::Parts;
use millrace::pktgen::http::tally::{Count, End};
use sha2::{Digest, Sha256};

const MS: u64 = 1_000_000;

fn bad_link() -> Faults {
    Faults {
        delay_ns: 2 * MS,
        jitter_ns: MS,
        rate_bps: 200_000_000,
        queue_bytes: 500_000,
        loss_ppm: 20_000,
        duplicate_ppm: 20_000,
        reorder_ppm: 20_000,
        reorder_ns: 3 * MS,
        corrupt_ppm: 10_000,
        ..Faults::default()
    }
}

/// Every request had one end, and the stub saw as many as were asked.
fn check(p: &Pair, end: &End) {
    assert_eq!(end.failed, None);
    let n = |c| p.count(c);
    let all: Vec<_> = Count::ALL.iter().map(|c| (c.name(), n(*c))).filter(|(_, n)| *n > 0).collect();
    assert_eq!(n(Count::Requests), n(Count::Responses) + n(Count::Failed) + end.unfinished, "{all:?}");
    assert_eq!(p.tally.latency.read().count(), n(Count::Responses));
    let s = p.segment.read();
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "the laws hold");
}

#[test]
fn a_bad_link_costs_time_and_no_answer() {
    for seed in 1..=4u64 {
        let mut wanted = plan(20);
        wanted.count = Some(400);
        wanted.seed = seed;
        wanted.requests[0].sha256 = Some(Sha256::digest(body(20_000)).into());
        let mut p = Pair::new(wanted, Manners::of_body(20_000, 64), Some((bad_link(), seed)), true);
        let end = p.run();
        check(&p, &end);
        let n = |c| p.count(c);
        assert_eq!((n(Count::Requests), n(Count::Responses), n(Count::Failed)), (400, 400, 0), "seed {seed}");
        assert_eq!((n(Count::WrongBody), n(Count::Status2), end.unfinished), (0, 400, 0));
        assert_eq!((p.stub.pipeline.requests, p.stub.pipeline.answers), (400, 400), "what the server saw");
        assert_eq!(n(Count::BodyBytes), 400 * 20_000);
        assert!(p.segment.read().get(Ctr::TcpRetransmits) > 0, "the link did lose something");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let once = || {
        let mut wanted = plan(8);
        (wanted.rate, wanted.arrival, wanted.duration_ns) = (Some(2000.0), Kind::Poisson, Some(300 * MS));
        wanted.requests = vec![request("/a", false), request("/bb", false)];
        let mut p = Pair::new(wanted, Manners::of_body(3000, 64), Some((bad_link(), 5)), true);
        let end = p.run();
        check(&p, &end);
        (p.now, p.count(Count::Requests), p.segment.read().get(Ctr::TxBytes), p.tally.latency.max())
    };
    let first = once();
    assert!(first.1 > 500, "{first:?}");
    assert_eq!(first, once());
}

#[test]
fn a_wrong_body_is_found_and_one_that_changes_too() {
    let mut wanted = plan(2);
    wanted.count = Some(10);
    wanted.requests[0].sha256 = Some([7; 32]);
    wanted.requests[0].status = Some(204);
    let mut p = Pair::new(wanted, Manners::of_body(100, 8), None, false);
    let end = p.run();
    check(&p, &end);
    assert_eq!((p.count(Count::WrongBody), p.count(Count::WrongStatus)), (10, 10));
    assert_eq!((p.count(Count::Responses), p.tally.errors()), (10, 20));

    // Each connection's second answer has another body than its first: what came first is what is wanted.
    let mut manners = Manners::of_body(100, 8);
    manners.requests_max = 2;
    manners.last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nxyz".to_vec();
    let mut wanted = plan(1);
    (wanted.count, wanted.verify) = (Some(10), true);
    let mut p = Pair::new(wanted, manners, None, false);
    let end = p.run();
    check(&p, &end);
    assert_eq!((p.count(Count::WrongBody), p.count(Count::Connects)), (5, 5));
}

#[test]
fn a_connection_for_each_request() {
    for (faults, requests) in [(None, 3000), (Some((bad_link(), 3)), 300)] {
        let sums = faults.is_some();
        let mut wanted = plan(16);
        (wanted.close, wanted.count, wanted.requests) = (true, Some(requests), vec![request("/", true)]);
        wanted.sources = vec!["10.1.0.1-10.1.0.3".parse().expect("good"), "10.2.0.1".parse().expect("good")];
        let mut manners = Manners::of_body(1000, 64);
        manners.requests_max = 1;
        let mut p = Pair::new(wanted, manners, faults, sums);
        let end = p.run();
        check(&p, &end);
        assert_eq!((p.count(Count::Responses), p.count(Count::Failed)), (requests, 0));
        assert_eq!((p.count(Count::Connects), p.stub.pipeline.requests), (requests, requests));
        if !sums {
            // The server has closed first, each time: its TIME-WAIT, not ours.
            assert_eq!(p.segment.read().get(Ctr::TcpTimeWaits), 0);
            assert_eq!(p.client.pipeline.stack.tcp.in_use(), (0, 0), "everything was given back");
        }
    }
}

#[test]
fn ports_run_out_and_that_is_counted() {
    // A server that never closes leaves TIME-WAIT to us: one address has 64,512 ports for a minute.
    let mut wanted = plan(8192);
    (wanted.close, wanted.count, wanted.requests) = (true, Some(65_000), vec![request("/", true)]);
    wanted.sources = vec!["10.1.0.1".parse().expect("good")];
    let mut manners = Manners::of_body(10, 16_384);
    manners.last = manners.answer.clone();
    let mut p = Pair::new(wanted, manners, None, false);
    p.pass_ns = MS;
    let end = p.run();
    check(&p, &end);
    assert_eq!((p.count(Count::Responses), p.count(Count::Failed)), (65_000, 0));
    assert!(p.count(Count::NoPort) > 0 && p.segment.read().get(Ctr::TcpTimeWaits) >= 65_000);
}

#[test]
fn a_server_that_closes_after_some_requests_loses_none() {
    for pipeline in [1, 4] {
        let mut wanted = plan(4);
        (wanted.count, wanted.pipeline) = (Some(500), pipeline);
        let mut manners = Manners::of_body(100, 64);
        manners.requests_max = 7;
        let mut p = Pair::new(wanted, manners, None, false);
        let end = p.run();
        check(&p, &end);
        assert_eq!((p.count(Count::Responses), p.count(Count::Failed)), (500, 0), "pipeline {pipeline}");
        assert!(p.count(Count::Connects) >= 500 / 7, "{}", p.count(Count::Connects));
        // What it had taken and did not answer any more was sent again, and counts as one request.
        assert_eq!(p.count(Count::Resent) > 0, pipeline > 1);
        assert_eq!(p.stub.pipeline.answers, 500);
    }
}

#[test]
fn answers_of_every_framing() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n";
    let interim =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let until_close = b"HTTP/1.0 200 OK\r\n\r\nhello";
    let mut large = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n".to_vec();
    (0..60).for_each(|i| large.extend(format!("X-{i}: {}\r\n", "y".repeat(100)).bytes()));
    large.extend(b"\r\nhello");
    for (answer, max, bytes, interims, method) in [
        (&chunked[..], u32::MAX, 5, 0, "GET"),
        (interim, u32::MAX, 0, 2, "GET"),
        (until_close, 1, 5, 0, "GET"),
        (&large, u32::MAX, 5, 0, "POST"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", u32::MAX, 0, 0, "HEAD"),
    ] {
        let mut wanted = plan(3);
        wanted.count = Some(60);
        let parts = Parts { method, path: "/", headers: &[], body: b"", host: "stub", close: false };
        wanted.requests = vec![parts.build().expect("good")];
        let manners =
            Manners { answer: answer.to_vec(), last: answer.to_vec(), requests_max: max, flows: 64 };
        // A link, so that heads come in pieces where they are longer than a segment.
        let mut p = Pair::new(wanted, manners, Some((bad_link(), 2)), true);
        let end = p.run();
        check(&p, &end);
        let said = String::from_utf8_lossy(answer);
        assert_eq!((p.count(Count::Responses), p.count(Count::Failed)), (60, 0), "{said}");
        assert_eq!(
            (p.count(Count::BodyBytes), p.count(Count::Interim)),
            (60 * bytes, 60 * interims),
            "{said}"
        );
    }
}

#[test]
fn what_is_no_answer_is_an_error_and_the_run_goes_on() {
    for (answer, max, why) in [
        (&b"SSH-2.0-nonsense\r\n"[..], u32::MAX, Count::Parse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 1, Count::Closed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", u32::MAX, Count::Parse),
        (b"", u32::MAX, Count::Timeout),
        (b"", 1, Count::Closed),
    ] {
        let mut wanted = plan(4);
        (wanted.count, wanted.timeout_ns) = (Some(20), 500 * MS);
        let manners =
            Manners { answer: answer.to_vec(), last: answer.to_vec(), requests_max: max, flows: 64 };
        let mut p = Pair::new(wanted, manners, None, false);
        let end = p.run();
        check(&p, &end);
        let n = |c| p.count(c);
        assert_eq!(n(Count::Requests), 20, "{}", answer.escape_ascii());
        assert_eq!(n(why), n(Count::Failed), "{}: {why:?}", answer.escape_ascii());
        assert!(n(Count::Failed) >= 20 - n(Count::Responses), "{}", answer.escape_ascii());
    }
}

#[test]
fn a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() {
    // The server does nothing for 100 ms of each second; otherwise an answer takes some microseconds.
    let run = |rate: Option<f64>| {
        let mut wanted = plan(10);
        (wanted.rate, wanted.duration_ns, wanted.waiting_max) = (rate, Some(3_000 * MS), 100_000);
        let mut p = Pair::new(wanted, Manners::of_body(1000, 64), None, false);
        p.stall = Some((100 * MS, 1_000 * MS));
        p.pass_ns = 50_000;
        let end = p.run();
        check(&p, &end);
        assert_eq!((p.count(Count::Failed), p.count(Count::Shed), end.unsent), (0, 0, 0));
        p
    };
    let open = run(Some(1000.0));
    let all = open.tally.latency.read();
    assert_eq!((open.count(Count::Arrivals), open.count(Count::Responses)), (3000, 3000));
    assert!(open.count(Count::Late) > 0);
    // One request in ten comes while the server stalls, and waits for 50 ms in the mean.
    assert!(
        all.quantile(0.5) < MS && all.quantile(0.99) > 80 * MS,
        "{} {}",
        all.quantile(0.5),
        all.quantile(0.99)
    );
    assert!((99 * MS..102 * MS).contains(&open.tally.latency.max()), "{}", open.tally.latency.max());
    let closed = run(None);
    let all = closed.tally.latency.read();
    // The same stalls, but only ten requests wait for each.
    assert!(all.quantile(0.999) < MS, "{}", all.quantile(0.999));
    assert!(closed.tally.latency.max() > 95 * MS);
}

#[test]
fn more_than_can_wait_is_shed_and_counted() {
    let mut wanted = plan(2);
    (wanted.rate, wanted.duration_ns, wanted.waiting_max) = (Some(10_000.0), Some(1_000 * MS), 50);
    let mut p = Pair::new(wanted, Manners::of_body(10, 64), None, false);
    p.stall = Some((500 * MS, 1_000 * MS));
    let end = p.run();
    check(&p, &end);
    let n = |c| p.count(c);
    assert_eq!(n(Count::Arrivals), 10_000);
    assert_eq!(n(Count::Arrivals), n(Count::Requests) + n(Count::Shed) + end.unsent);
    assert!((4_000..5_100).contains(&n(Count::Shed)), "{}", n(Count::Shed));
}

#[test]
fn a_ramp_a_warm_up_and_weights_are_kept() {
    let mut wanted = plan(50);
    (wanted.ramp, wanted.warmup_ns, wanted.duration_ns) = (Some(100.0), 200 * MS, Some(500 * MS));
    wanted.requests = vec![request("/often", false), request("/rare", false)];
    wanted.requests[0].weight = 99;
    wanted.requests[1].status = Some(404);
    let mut p = Pair::new(wanted, Manners::of_body(10, 64), None, false);
    p.pass_ns = 200_000;
    let end = p.run();
    check(&p, &end);
    assert!(p.now.0 >= (490 + 200 + 500) * MS, "{}", p.now);
    assert!(end.asking_ns >= 500 * MS && end.asking_ns < 510 * MS, "{}", end.asking_ns);
    let share = p.count(Count::WrongStatus) as f64 / p.count(Count::Responses) as f64;
    assert!((0.005..0.015).contains(&share), "one in a hundred is for the rare one: {share}");
    // The stub has seen what was asked in the warm-up, too.
    assert!(p.stub.pipeline.answers > p.count(Count::Responses));
}

#[test]
fn nobody_there_is_said() {
    let mut wanted = plan(3);
    wanted.server.set_port(81);
    let mut p = Pair::new(wanted, Manners::of_body(10, 64), None, false);
    let why = p.run().failed.expect("a reason");
    assert!(why.contains("10.0.0.1:81 refuses connections; look whether it listens"), "{why}");
    assert_eq!(p.count(Count::ConnectRefused), 3);
}
