//! What comes in order: when it is acknowledged, how the window grows, what is urgent.

use dataplane::port::link::Faults;
use dataplane::{Ctr, Time};

use crate::support::own::Setup;
use crate::support::script::{run, run_on};
use crate::support::{Host, Plan, Reading, pair_with};

const OPEN: &str = "< S 0 win 60000 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED\n";

#[test]
fn the_start_of_a_connection_is_acknowledged_one_by_one() {
    let full = |from: u32, to: u32| {
        (from..to)
            .map(|i| {
                format!("< A {}:{} ack 1\n> A 1 ack {}\n", i * 1000 + 1, i * 1000 + 1001, i * 1000 + 1001)
            })
            .collect::<String>()
    };
    run_on(
        "sixteen full segments, then every second one",
        &|s| s.tcp = |_| {},
        &format!(
            "{OPEN}{}< A 16001:17001 ack 1\n> -\n< A 17001:18001 ack 1\n> A 1 ack 18001\nread 18000",
            full(0, 16)
        ),
    );
    run_on(
        "a request is not one",
        &|s| s.tcp = |_| {},
        &format!("{OPEN}< A 1:601 ack 1\n> -\n+41\n> A 1 ack 601\nread 600"),
    );
}

#[test]
fn a_burst_costs_one_ack() {
    run(
        "however many segments it has, in order",
        &format!(
            "{OPEN}<+ A 1:1001 ack 1\n<+ A 1001:2001 ack 1\n<+ A 2001:3001 ack 1\n<+ A 3001:4001 ack 1\n< A 4001:5001 ack 1\n> A 1 ack 5001\nev READABLE\nread 5000"
        ),
    );
    run(
        "two full segments in two bursts: one, with the second",
        &format!("{OPEN}< A 1:1001 ack 1\n> -\n< A 1001:2001 ack 1\n> A 1 ack 2001\nread 2000"),
    );
    run("a gap in it: as many as a sender counts, with SACK",
        "< S 0 win 60000 mss 1000 sackok\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED
         <+ A 1001:2001 ack 1\n<+ A 2001:3001 ack 1\n<+ A 3001:4001 ack 1\n<+ A 4001:5001 ack 1\n< A 5001:6001 ack 1
         > A 1 ack 1 sack 1001:6001\n> A 1 ack 1 sack 1001:6001\n> A 1 ack 1 sack 1001:6001\n< A 1:1001 ack 1\n> A 1 ack 6001 sack -\nread 6000");
}

#[test]
fn urgent_data_is_delivered_in_its_place() {
    run(
        "and counted",
        &format!("{OPEN}< AU 1:11 ack 1\n< A 11:21 ack 1\n+41\n> A 1 ack 21\nread 20\ncount tcp.urgent 1"),
    );
}

#[test]
fn what_is_skipped_counts_until_it_is_consumed() {
    run(
        "a part of a piece, all of one, and over its end",
        &format!(
            "{OPEN}< A 1:1001 ack 1\n> -\n< A 1001:2001 ack 1\n> A 1 ack 2001\nev READABLE
             skip 0\nskip 1\nskip 399\ncells 2\nskip 600\ncells 1\nskip 1000\ncells 0
             consume 2000\n< A 2001:3001 ack 1\n< A 3001:4001 ack 1\n> A 1 ack 4001
             skip 1500\ncells 1\nread 500\ncells 0\nev READABLE"
        ),
    );
    run(
        "what comes behind a piece of which some was taken",
        &format!(
            "{OPEN}< A 1:501 ack 1\nskip 450\n< A 501:601 ack 1\n> -\n< A 601:1201 ack 1\n> A 1 ack 1201
             count tcp.compacted 1\ncells 2\nskip 151\nskip 599\ncells 0\nconsume 1200"
        ),
    );
    run(
        "a hole that is filled, and the end",
        &format!(
            "{OPEN}< A 1001:2001 ack 1\n> A 1 ack 1\nskip 0\n< FA 2001:2001 ack 1\n> A 1 ack 1
             < A 1:1001 ack 1\n> A 1 ack 2002\nev READABLE FIN\nskip 1999\ncells 1\nread 1\n= CLOSE-WAIT"
        ),
    );
    run(
        "an owner that leaves in the middle of one",
        &format!("{OPEN}< A 1:1001 ack 1\n> -\nskip 400\norphan\n> FA 1 ack 1001\ncells 0"),
    );
}

/// The largest window that the receiver came to, and how long 20 MB took, over 200 Mbit/s and 50 ms.
fn grown(reading: Reading, rx_cells: u32) -> (u32, Time) {
    let mut b = Setup::host(2);
    (b.limits.rx_cells, b.limits.rx_reserve) = (rx_cells, 256);
    let faults =
        Faults { delay_ns: 25_000_000, rate_bps: 200_000_000, queue_bytes: 1 << 20, ..Faults::default() };
    let mut w = pair_with(&Setup::host(1), &b, faults, 1);
    let (here, there) = Plan::both(1, 5_000_000, 0);
    w.b.listen(80, there.reading(reading));
    w.a.connect(([10, 0, 0, 2], 80).into(), here, w.now).unwrap();
    let mut most = 0;
    while w.b.results().first().is_none_or(|r| r.1.got != 5_000_000) && w.now < Time::from_ms(5_000) {
        let next = w.now.plus_ns(10_000_000);
        w.run_to(next);
        let flows: Vec<_> = w.b.tcp().flows().collect();
        most = flows.iter().map(|id| w.b.tcp().flow(*id).rcv_wnd_max).max().unwrap_or(0).max(most);
    }
    assert_eq!(w.b.get(Ctr::DropTcpRxLow), 0);
    (most, w.now)
}

#[test]
fn the_window_grows_with_what_is_read_and_no_further_than_its_share() {
    // 1.25 MB are on the way at once; half of the pool's sixteenth of 32,768 cells is more than that.
    let (most, took) = grown(Reading::Eager, 32_768);
    assert!(most > 1_250_000 && most <= 2 << 20, "{most}");
    assert!(took < Time::from_ms(1_500), "{took}");
    let (most, _) = grown(Reading::Eager, 8192);
    assert_eq!(most, 8192 / 16 * 1024, "its share of a small pool");
    let (most, _) = grown(Reading::Rate(200), 32_768);
    assert_eq!(most, 128 << 10, "a reader of 200 KB/s does not get more than it began with");
}
