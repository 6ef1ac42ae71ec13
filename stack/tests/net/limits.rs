//! Bounds: what happens at each of them.

use dataplane::port::link::Faults;
use dataplane::{Ctr, Time};

use crate::support::own::{OwnHost, Setup};
use crate::support::script::run_on;
use crate::support::world::World;
use crate::support::{Finish, Host, Plan, Reading, pair_with};

const OPEN: &str = "< S 0 win 60000 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED\n";

#[test]
fn flows_and_half_open() {
    run_on(
        "every control block in use",
        &|s| s.limits.flows = 2,
        "< S 0\n> SA 0 ack 1\n< A 1 ack 1\npeer 7001\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\npeer 7002\n< S 0\n> -
         count drop.tcp.flows_full 1\nconnect NoFlow\npeer 7001\n",
    );
    run_on(
        "too many handshakes without cookies; one that is done makes room",
        &|s| {
            s.limits.half_open = 1;
            s.tcp = |t| t.cookies = stack::CookieUse::Never;
        },
        "< S 0\n> SA 0 ack 1\npeer 7001\n< S 0\n> -\ncount drop.tcp.half_open_full 1
         forget\npeer 7000\n< S 0\n> SA 0 ack 1\n< R 1\npeer 7001\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\npeer 7002\n< S 0\n> SA 0 ack 1",
    );
    run_on(
        "the oldest TIME-WAIT goes",
        &|s| s.limits.time_wait = 1,
        "< S 0\n> SA 0 ack 1\n< A 1 ack 1\nshutdown\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\nrelease
         peer 7001\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\nshutdown\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\nrelease
         count tcp.time_wait_recycled 1\n< FA 1 ack 2\n> A 2 ack 2\npeer 7000\n< FA 1 ack 2\n> R 2",
    );
}

#[test]
fn connections_of_a_listener() {
    let first = "limit 1\n< S 0\n> SA 0 ack 1\npeer 7001\n< S 0\n> -\ncount drop.tcp.listener_full 1\n";
    run_on(
        "one at a time: the next SYN is dropped, until the first has gone",
        &|_| {},
        &format!("{first}forget\npeer 7000\n< R 1\npeer 7001\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED"),
    );
    run_on(
        "our own do not count",
        &|_| {},
        "limit 1\nconnect\n> S 0\n< R 0\nport 80\npeer 7000\n< S 0\n> SA 0 ack 1",
    );
    run_on(
        "with cookies, when the ACK comes",
        &|s| s.tcp = |t: &mut stack::TcpConfig| t.cookies = stack::CookieUse::Always,
        "limit 1\n< S 0\n> SA 0 ack 1\npeer 7001\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED\nshutdown\n> FA 1 ack 1
         peer 7000\n< S 0\n> -\ncount drop.tcp.listener_full 1",
    );
}

#[test]
fn cells() {
    run_on(
        "an rx pool down to its reserve takes no data, and ACKs still",
        &|s| (s.limits.rx_cells, s.limits.rx_reserve) = (8, 6),
        &format!(
            "{OPEN}< A 1:1001 ack 1\n+50\n> A 1 ack 1001\n< A 1001:2001 ack 1\n+50\n> A 1 ack 2001\n< A 2001:3001 ack 1
             count drop.tcp.rx_low 1\n+50\n> A 1 ack 2001\nread 2000\n< A 2001:3001 ack 1\n+50\n> A 1 ack 3001\nread 1000"
        ),
    );
    let tiny: String = (0..1500)
        .map(|i| {
            format!(
                "< A {}:{} ack 1\n{}",
                i + 1,
                i + 2,
                if i % 4 == 3 { format!("> A 1 ack {}\n", i + 2) } else { String::new() }
            )
        })
        .collect();
    run_on("one-byte segments share a cell", &|_| {}, &format!("{OPEN}{tiny}cells 1\nread 1500\ncells 0"));
    let tiny: String = (0..1500).map(|i| format!("< A {}:{} ack 1\n> A 1 ack 1\n", i + 11, i + 12)).collect();
    run_on(
        "out of order too",
        &|_| {},
        &format!("{OPEN}{tiny}cells 1\n< A 1:11 ack 1\n> A 1 ack 1511\nread 1510\ncells 0"),
    );
    run_on(
        "behind too many holes nothing is looked for; behind all of them there is nothing to look for",
        &|s| (s.limits.request_budget_bytes, s.limits.rx_cells) = (2 << 20, 2048),
        &format!(
            "{OPEN}{}< A 391:392 ack 1\n> A 1 ack 1\ncount drop.tcp.too_many_holes 1\n< A 11:12 ack 1\n> A 1 ack 1\ncount tcp.out_of_order 141",
            (0..140)
                .map(|i| format!("< A {}:{} ack 1\n> A 1 ack 1\n", 3 + 3 * i, 4 + 3 * i))
                .collect::<String>()
        ),
    );
    run_on(
        "out-of-order data beyond the budget is not taken",
        &|s| s.limits.request_budget_bytes = 10_000,
        &format!(
            "{OPEN}{}count drop.tcp.rx_low 3\ncells 5",
            (0..8)
                .map(|i| format!("< A {}:{} ack 1\n> A 1 ack 1\n", 11 + i * 400, 300 + i * 400))
                .collect::<String>()
        ),
    );
}

/// Both hosts small in one respect: everything still comes through.
fn squeezed(name: &str, change: impl Fn(&mut Setup), plan: impl Fn(Plan) -> Plan, hit: &[Ctr]) {
    let (mut a, mut b) = (Setup::host(1), Setup::host(2));
    change(&mut a);
    change(&mut b);
    let faults = Faults { delay_ns: 1_000_000, loss_ppm: 5_000, ..Faults::default() };
    let mut w = pair_with(&a, &b, faults, 3);
    for n in 0..4u16 {
        let (here, there) = Plan::both(n.into(), 150_000, 150_000);
        w.b.listen(80 + n, plan(there));
        w.a.connect(([10, 0, 0, 2], 80 + n).into(), plan(here), w.now).unwrap();
    }
    let r = w.finish(Time::from_ms(600_000)).and_then(|()| w.check_b());
    assert!(r.is_ok(), "{name} at {}: {r:?}", w.now);
    for c in hit {
        assert!(w.a.get(*c) + w.b.get(*c) > 0, "{name}: {} is 0", c.name());
    }
}

#[test]
fn empty_pools_only_slow_things_down() {
    let same = |p: Plan| p;
    squeezed("few header cells", |s| s.limits.header_cells = 6, same, &[Ctr::TcpNoHeader]);
    squeezed("few send records", |s| s.limits.send_records = 10, |p| p.chunks(2000), &[Ctr::TcpNoRecord]);
    squeezed("few payload cells", |s| s.limits.payload_cells = 12, same, &[]);
    squeezed("a short queue to the port", |s| s.tx_bound = 3, same, &[]);
    squeezed("one place in it", |s| s.tx_bound = 1, same, &[]);
    squeezed("few receive cells", |s| (s.limits.rx_cells, s.limits.rx_reserve) = (48, 16), same, &[]);
    squeezed(
        "few receive cells and slow readers",
        |s| (s.limits.rx_cells, s.limits.rx_reserve) = (64, 16),
        |p| p.reading(Reading::Rate(100)),
        &[Ctr::DropTcpRxLow],
    );
    squeezed("a small budget", |s| s.limits.request_budget_bytes = 8000, same, &[]);
    squeezed("a small MTU", |s| s.mtu = 576, same, &[]);
    squeezed(
        "all of it",
        |s| {
            s.limits.header_cells = 8;
            s.limits.send_records = 12;
            s.limits.payload_cells = 16;
            (s.limits.rx_cells, s.limits.rx_reserve) = (80, 16);
            s.tx_bound = 2;
        },
        |p| p.chunks(300),
        &[],
    );
}

/// Senders that keep nothing of what they have sent, and make it again when it was lost.
#[test]
fn what_was_let_go_is_made_again() {
    for (seed, loss_ppm) in [(1, 5_000), (2, 50_000), (3, 200_000), (4, 0)] {
        let (mut a, mut b) = (Setup::host(1), Setup::host(2));
        (a.forgets, b.forgets) = (true, true);
        // A path that is narrower than it seems: what is out goes again in smaller pieces.
        b.mtu = if seed == 2 { 900 } else { 1500 };
        let faults = Faults { delay_ns: 3_000_000, loss_ppm, reorder_ppm: 10_000, ..Faults::default() };
        let mut w = pair_with(&a, &b, Faults { reorder_ns: 2_000_000, ..faults }, seed);
        for n in 0..4u16 {
            let (here, there) = Plan::both(n.into(), 150_000, 60_000);
            let slow = if n == 0 { Reading::After(Time::from_ms(5_000)) } else { Reading::Eager };
            w.b.listen(80 + n, there.chunks(1700).reading(slow));
            w.a.connect(([10, 0, 0, 2], 80 + n).into(), here.chunks(700), w.now).unwrap();
        }
        let r = w.finish(Time::from_ms(900_000)).and_then(|()| w.check_b());
        assert!(r.is_ok(), "loss of {loss_ppm} at {}: {r:?}", w.now);
        let (gone, again) = w.a.core.pipeline.made_again;
        assert!(gone > 100, "{gone} pieces were let go");
        assert!(again > 5 || loss_ppm == 0, "{again} of {gone} were made again with a loss of {loss_ppm}");
    }
}

#[test]
fn ports_run_out() {
    let mut a = Setup::host(1);
    a.limits.flows = 33_000;
    a.limits.neighbours = 4;
    let mut w = pair_with(&a, &Setup::host(2), Faults::default(), 1);
    let to = ([10, 0, 0, 2], 80).into();
    let mut opened = 0;
    let e = loop {
        let stack = w.a.stack();
        match stack.tcp.connect(&stack.net, to, Time(0)) {
            Ok(_) => opened += 1,
            Err(e) => break e,
        }
    };
    assert_eq!((opened, e), (32_768, stack::ConnectError::NoPort));
    let stack = w.a.stack();
    assert!(
        stack.tcp.connect(&stack.net, ([10, 0, 0, 2], 81).into(), Time(0)).is_ok(),
        "another port is another space"
    );
    assert_eq!(
        stack.tcp.connect(&stack.net, ([10, 9, 0, 2], 80).into(), Time(0)),
        Err(stack::ConnectError::NoRoute)
    );
}

#[test]
fn closes_of_every_kind_leave_nothing() {
    let ends =
        [Finish::AfterSending, Finish::AfterPeer, Finish::Orphan, Finish::Abort(0), Finish::Abort(5000)];
    for (n, ours) in ends.into_iter().enumerate() {
        for (m, theirs) in ends.into_iter().enumerate() {
            if ours == Finish::AfterPeer && theirs == Finish::AfterPeer {
                continue; // Both wait for each other.
            }
            let faults = Faults { delay_ns: 5_000_000, loss_ppm: 20_000, ..Faults::default() };
            let mut w = pair_with(&Setup::host(1), &Setup::host(2), faults, (n * 7 + m) as u64);
            for k in 0..4u16 {
                let (here, there) = Plan::both(k.into(), 20_000, 20_000);
                w.b.listen(80 + k, there.ending(theirs));
                w.a.connect(([10, 0, 0, 2], 80 + k).into(), here.ending(ours), w.now).unwrap();
            }
            let done = w.run_until(Time::from_ms(600_000), |w| w.a.is_done() && w.b.is_done());
            assert!(done, "{ours:?} {theirs:?}: {:?} {:?}", w.a.results(), w.b.results());
            let end = w.now.plus_ns(2_000_000_000);
            w.run_to(end);
            w.check_a().and_then(|()| w.check_b()).unwrap_or_else(|e| panic!("{ours:?} {theirs:?}: {e}"));
            for (_, o) in w.a.results().iter().chain(&w.b.results()) {
                assert_eq!(o.wrong, None);
            }
        }
    }
}

/// Under pressure the window is 2 KiB: its reader's openings must be told, or each ends in a probe of the
/// peer's, 200 ms later.
#[test]
fn a_pool_at_its_reserve_slows_a_transfer_and_does_not_stall_it() {
    let mut b = Setup::host(2);
    (b.limits.rx_cells, b.limits.rx_reserve) = (64, 16);
    let faults = Faults { delay_ns: 1_000_000, ..Faults::default() };
    let mut w = pair_with(&Setup::host(1), &b, faults, 1);
    // A reader that takes next to nothing fills the pool down to its reserve.
    let (here, there) = Plan::both(1, 500_000, 0);
    w.b.listen(80, there.reading(Reading::Rate(1)));
    w.a.connect(([10, 0, 0, 2], 80).into(), here, w.now).unwrap();
    w.run_to(Time::from_ms(1_000));
    let (here, there) = Plan::both(2, 100_000, 0);
    w.b.listen(81, there);
    w.a.connect(([10, 0, 0, 2], 81).into(), here, w.now).unwrap();
    let got = |w: &mut World<OwnHost>| w.b.results().iter().map(|(_, o)| o.got).max();
    let done = w.run_until(Time::from_ms(2_000), |w| got(w) >= Some(100_000));
    assert!(done, "{:?} of 100,000 bytes by {}", got(&mut w), w.now);
}
