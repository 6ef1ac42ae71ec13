//! What is copied of connections for people.

use std::collections::BTreeSet;

use dataplane::Time;
use dataplane::port::mem::wire;
use stack::tcp::{COPIES_MAX, Class};
use stack::{FlowId, FlowInfo, State};

use crate::support::own::{OwnHost, Setup};
use crate::support::script::run;

const FLOWS: u32 = 300;

fn host() -> OwnHost {
    let mut setup = Setup::host(1);
    setup.peer_mac = Some([2, 0, 0, 0, 0, 2]);
    setup.limits.flows = FLOWS;
    let (end, _wire) = wire(64, 1600);
    let mut host = OwnHost::new(&setup, end);
    host.core.pipeline.manual = true;
    host
}

fn connect(host: &mut OwnHost, n: u16) -> FlowId {
    let stack = &mut host.core.pipeline.stack;
    let remote = ([10, 0, 0, 2], n).into();
    stack.tcp.connect(&stack.net, remote, Time::from_ms(1000)).expect("room")
}

/// All connections, and how many calls it took.
fn all(host: &mut OwnHost, now: Time) -> (Vec<FlowInfo>, u32) {
    let (mut flows, mut calls, mut from) = (Vec::new(), 0, Some(0));
    while let Some(place) = from {
        let before = flows.len();
        from = host.tcp().copy_flows(place, now, |f| flows.push(f));
        assert!(flows.len() - before <= COPIES_MAX as usize, "a bounded amount in a go");
        calls += 1;
    }
    (flows, calls)
}

#[test]
fn every_connection_once_a_few_at_a_time() {
    let mut host = host();
    let (none, calls) = all(&mut host, Time::from_ms(1000));
    assert_eq!((none.len(), calls), (0, 1));
    let ids: Vec<FlowId> = (1..=200).map(|n| connect(&mut host, n)).collect();
    let (flows, calls) = all(&mut host, Time::from_ms(1500));
    let ports: BTreeSet<u16> = flows.iter().map(|f| f.tuple.remote_port).collect();
    assert_eq!((flows.len(), ports.len()), (200, 200));
    assert!(calls >= 4, "{calls}");
    let f = &flows[0];
    assert_eq!((f.state, f.active, f.orphan, f.srtt_us), (State::SynSent, true, false, 0));
    assert_eq!((f.rto_us, f.since_heard_us, f.since_sent_us), (1_000_000, 500_000, None));

    // Those that are over are not shown, even while something of them is left.
    for id in &ids[..150] {
        host.tcp().abort(*id);
    }
    let (flows, _) = all(&mut host, Time::from_ms(1500));
    assert_eq!(flows.len(), 50);
    assert!(flows.iter().all(|f| f.tuple.remote_port > 150));
}

/// Whatever way a connection ends, its place at the listener is free again. TIME-WAIT has none.
#[test]
fn a_listener_takes_no_more_than_it_may() {
    const OPEN: &str = "< S 0 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\n";
    for (name, opened, end) in [
        ("reset while half-open", "< S 0\n> SA 0 ack 1\n", "< R 1\n"),
        ("reset by the peer", OPEN, "< R 1\nrelease\n"),
        ("reset by us", OPEN, "abort\n> RA 1 ack 1\n"),
        ("closed by us", OPEN, "shutdown\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\nrelease\n"),
        (
            "closed by the peer",
            OPEN,
            "< FA 1 ack 1\n> A 1 ack 2\nshutdown\n> FA 1 ack 2\n< A 2 ack 2\nrelease\n",
        ),
        ("left by its owner", OPEN, "orphan\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\n"),
    ] {
        let refused = "forget\npeer 7001\n< S 0\n> -\ncount drop.tcp.listener_full 1\n";
        let again = "forget\npeer 7002\n< S 0 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\n= ESTAB\n";
        run(name, &format!("flows-max 1\n{opened}{end}{again}"));
        // The connection goes on as it was.
        if opened == OPEN {
            let more = "flows-max 2\nforget\npeer 7001\n< S 0 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\n= ESTAB\n";
            run(name, &format!("flows-max 1\n{opened}{refused}{more}"));
        }
    }
    let ours =
        "flows-max 1\nconnect\n> S 0\n< SA 0 ack 1 mss 1000\n> A 1 ack 1\nforget\nport 80\npeer 7001\n";
    run("those that we open do not count", &format!("{ours}{OPEN}= ESTAB"));
}

/// Every connection is in the sums once, whenever it ends: before, behind or after the walk.
#[test]
fn sums_hold_each_connection_once() {
    let mut host = host();
    let ours = |host: &mut OwnHost| {
        host.tcp().counted().fold(Class::default(), |mut sum, c| {
            sum.add(c);
            sum
        })
    };
    let ids: Vec<FlowId> = (1..=200).map(|n| connect(&mut host, n)).collect();
    let now = Time::from_ms(1000);
    for id in &ids[..50] {
        host.tcp().abort(*id);
    }
    host.tcp().begin_count();
    let mut steps = 1;
    while !host.tcp().count(now) {
        // One of those that were counted with the first step, and one that is behind the walk.
        if steps == 1 {
            host.tcp().abort(ids[50]);
            host.tcp().abort(ids[199]);
        }
        steps += 1;
    }
    assert!(steps >= 3, "a bounded amount in a step: {steps}");
    let sums = ours(&mut host);
    assert_eq!(sums.opened, 200);
    assert_eq!(sums.open, 149, "one was open when it was counted, and is not any more");

    // The next one knows what ended.
    host.tcp().begin_count();
    while !host.tcp().count(now) {}
    let sums = ours(&mut host);
    assert_eq!((sums.opened, sums.open), (200, 148));
    // While nobody counts, what was counted stays.
    host.tcp().abort(ids[60]);
    assert_eq!(ours(&mut host).open, 148);
}

#[test]
fn a_place_beyond_the_end_is_the_end() {
    let mut host = host();
    connect(&mut host, 1);
    for place in [FLOWS, FLOWS + 1, u32::MAX - 1, u32::MAX] {
        assert_eq!(host.tcp().copy_flows(place, Time(0), |_| panic!("nothing is there")), None);
    }
}
