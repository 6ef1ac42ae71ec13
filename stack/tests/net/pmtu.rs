//! How long a packet the path takes: told by ICMP, found without, and tried again.

use crate::support::script::{run_on, run_over};

const OPEN: &str = "< S 0 win 60000 mss 1400\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED\n";

fn v4(name: &str, script: &str) {
    run_over(&[false], name, &|_| {}, &format!("{OPEN}{script}"));
}

fn v6(name: &str, script: &str) {
    run_over(&[true], name, &|_| {}, &format!("{OPEN}{script}"));
}

#[test]
fn icmp_tells() {
    let sent = "send 2800\n> A 1:1401 ack 1\n> A 1401:2801 ack 1\n";
    v4("what is out goes out again in pieces, what follows is shorter",
       &format!("{sent}toobig 1000 1\n> A 1:961 ack 1\n> A 961:1401 ack 1\n> A 1401:2361 ack 1\n> A 2361:2801 ack 1\ncount tcp.mtu_learnt 1
         toobig 1000 961\n> -\n< A 1 ack 2801\nsend 2000\n> A 2801:3761 ack 1\n> A 3761:4721 ack 1\n> A 4721:4801 ack 1"));
    v6(
        "over IPv6",
        &format!(
            "{sent}toobig 1300 1\n> A 1:1241 ack 1\n> A 1241:1401 ack 1\n> A 1401:2641 ack 1\n> A 2641:2801 ack 1"
        ),
    );
    v4("a second router is narrower still", &format!("{sent}toobig 1200 1401\n> A 1:1161 ack 1\n> A 1161:1401 ack 1\n> A 1401:2561 ack 1\n> A 2561:2801 ack 1
         toobig 1100 1\n> A 1:1061 ack 1\n> A 1061:1161 ack 1\n> A 1161:1401 ack 1\n> A 1401:2461 ack 1\n> A 2461:2561 ack 1\n> A 2561:2801 ack 1"));
    v4(
        "one that does not say how long: the next common length",
        &format!(
            "{sent}toobig 0 1\n> A 1:967 ack 1\n> A 967:1401 ack 1\n> A 1401:2367 ack 1\n> A 2367:2801 ack 1"
        ),
    );
    v4("never below 552", "send 600\n> A 1:601 ack 1\ntoobig 68 1\n> A 1:513 ack 1\n> A 513:601 ack 1");
    for family in [v4, v6] {
        family(
            "not what is longer than what we send",
            &format!("{sent}toobig 1500 1\n> -\ncount tcp.mtu_learnt 0"),
        );
        family(
            "not about a segment that is not out",
            &format!(
                "{sent}< A 1 ack 1401\ntoobig 1300 1\n> -\ntoobig 1300 2801\n> -\ntoobig 1300 90000\n> -\ncount drop.icmp.unmatched 3"
            ),
        );
    }
    v6("not below 1280", &format!("{sent}toobig 1279 1\n> -\ncount drop.icmp.unmatched 1"));
    run_over(
        &[false],
        "timestamps are part of the length",
        &|_| {},
        "< S 0 win 60000 mss 1400 ts 5 0\n> SA 0 ack 1\n< A 1 ack 1 ts 5 0\nev ACCEPTED\nsend 1388\n> A 1:1389 ack 1\ntoobig 1000 1\n> A 1:949 ack 1\n> A 949:1389 ack 1",
    );
}

#[test]
fn a_destination_is_remembered_for_ten_minutes() {
    v4("the next connection begins with it; after ten minutes none does",
       "send 1400\n> A 1:1401 ack 1\ntoobig 1000 1\n> A 1:961 ack 1\n> A 961:1401 ack 1\n< A 1 ack 1401\n
        peer 7001\n< S 0 mss 1400 win 60000\n> SA 0 ack 1 mss 1460\n< A 1 ack 1\nev ACCEPTED WRITABLE\nsend 1400\n> A 1:961 ack 1\n> A 961:1401 ack 1\n< A 1 ack 1401
        +602000\nsend 1400\n> A 1401:2361 ack 1\n> A 2361:2801 ack 1\n< A 1 ack 2801\nsend 1400\n> A 2801:4201 ack 1
        peer 7002\n< S 0 mss 1400 win 60000\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED WRITABLE\nsend 1400\n> A 1:1401 ack 1");
}

#[test]
fn a_path_that_swallows_long_packets_is_found() {
    v4("two timeouts, then shorter; shorter again",
       "send 1400\n> A 1:1401 ack 1\n+201\n> A 1:1401 ack 1\n+401\n> A 1:1025 ack 1\ncount tcp.mtu_suspects 1
        +801\n> A 1:537 ack 1\n< A 1 ack 537\n> A 537:1025 ack 1\n> A 1025:1401 ack 1\n< A 1 ack 1401\ncount tcp.mtu_suspects 2
        send 1000\n> A 1401:1937 ack 1\n> A 1937:2401 ack 1");
    v6(
        "not below 1280",
        "send 1400\n> A 1:1401 ack 1\n+201\n> A 1:1401 ack 1\n+401\n> A 1:1221 ack 1\n< A 1 ack 1221\n> A 1221:1401 ack 1",
    );
    v4("a path that takes nothing at all: full length when it works again",
       "send 1400\n> A 1:1401 ack 1\n+201\n> A 1:1401 ack 1\n+401\n> A 1:1025 ack 1\n+801\n> A 1:537 ack 1\n+1601\n> A 1:537 ack 1
        < A 1 ack 1401\nsend 1400\n> A 1401:2801 ack 1\ncount tcp.mtu_suspects 2");
    v4(
        "short segments are not suspected",
        "send 500\n> A 1:501 ack 1\n+201\n> A 1:501 ack 1\n+401\n> A 1:501 ack 1\ncount tcp.mtu_suspects 0",
    );
}

#[test]
fn the_mss_has_an_upper_bound() {
    run_on("of the config: announced, and sent",
        &|s| s.tcp = |t: &mut stack::TcpConfig| t.mss_max = 1200,
        "< S 0 win 60000 mss 1400\n> SA 0 ack 1 mss 1200\n< A 1 ack 1\nev ACCEPTED\nsend 1400\n> A 1:1201 ack 1\n> A 1201:1401 ack 1
         connect\n> S 0 mss 1200\n< R 0");
}
