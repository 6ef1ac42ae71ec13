//! Explicit congestion notification (RFC 3168), line by line.

use stack::{EcnUse, TcpConfig};

use crate::support::script::{run, run_on};

const OPEN: &str = "< SEW 0 win 60000 mss 1000\n> SAE 0 ack 1 notect\n< A 1 ack 1\nev ACCEPTED\n";

fn opened(name: &str, script: &str) {
    run(name, &format!("{OPEN}{script}"));
}

#[test]
fn agreeing() {
    run(
        "not asked",
        "< S 0 mss 1000\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED\nsend 10\n> A 1:11 ack 1 notect\n< A 1:11 ack 11 ce\n+41\n> A 11 ack 11\nread 10",
    );
    run("half an offer is none", "< SE 0 mss 1000\n> SA 0 ack 1");
    run_on("never", &|s| s.tcp = |t: &mut TcpConfig| t.ecn = EcnUse::Never, "< SEW 0 mss 1000\n> SA 0 ack 1");
    run_on(
        "we ask, the peer agrees",
        &|s| s.tcp = |t: &mut TcpConfig| t.ecn = EcnUse::Always,
        "connect\n> SEW 0\n< SAE 0 ack 1 mss 1000\n> A 1 ack 1 notect\nsend 10\n> A 1:11 ack 1 ect",
    );
    run_on(
        "we ask, the peer does not understand",
        &|s| s.tcp = |t: &mut TcpConfig| t.ecn = EcnUse::Always,
        "connect\n> SEW 0\n< SAEW 0 ack 1 mss 1000\n> A 1 ack 1\nsend 10\n> A 1:11 ack 1 notect",
    );
    run_on(
        "a SYN that is not answered may be thrown away for asking",
        &|s| s.tcp = |t: &mut TcpConfig| t.ecn = EcnUse::Always,
        "connect\n> SEW 0\n+1001\n> S 0\n< SA 0 ack 1\n> A 1 ack 1",
    );
    run_on(
        "a cookie remembers it",
        &|s| s.tcp = |t: &mut TcpConfig| t.cookies = stack::CookieUse::Always,
        "+100\n< SEW 0 win 60000 mss 1460 ts 9 0\n> SAE 0 ack 1 ts * 9\n= -\n< A 1 ack 1 ts 9 100\nev ACCEPTED\nsend 10\n> A 1:11 ack 1 ect",
    );
}

#[test]
fn marks_are_echoed_until_they_were_heard() {
    opened("at once, and on every ACK until CWR",
        "< A 1:11 ack 1 ce\n> AE 1 ack 11\n< A 11:21 ack 1\n+41\n> AE 1 ack 21\nsend 10\n> AE 1:11 ack 21 ect\n< AW 21:31 ack 11\n+41\n> A 11 ack 31
         count tcp.ce_received 1\n< AW 31:41 ack 11 ce\n> AE 11 ack 41\nread 40");
}

#[test]
fn what_was_sent_again_for_nothing_does_not_undo_it() {
    // RTT 1 ms, so that pacing lets a window out at once.
    run("a tail that was probed had arrived",
        "< SEW 0 win 60000 mss 1000 sackok\n> SAE 0 ack 1\n+1\n< A 1 ack 1\nev ACCEPTED\nsend 20000\n> A 1:1001 ack 1\n> A 1001:2001 ack 1
         > A 2001:3001 ack 1\n> A 3001:4001 ack 1\n> A 4001:5001 ack 1\n> A 5001:6001 ack 1\n> A 6001:7001 ack 1\n> A 7001:8001 ack 1
         > A 8001:9001 ack 1\n> A 9001:10001 ack 1\n+1\n< AE 1 ack 10001\n> AW 10001:11001 ack 1\n> A 11001:12001 ack 1
         > A 12001:13001 ack 1\n> A 13001:14001 ack 1\n> A 14001:15001 ack 1\n> A 15001:16001 ack 1\n> A 16001:17001 ack 1\n+1
         < A 1 ack 17001\n> A 17001:18001 ack 1\n> A 18001:19001 ack 1\n> A 19001:20001 ack 1\n+6\n> A 19001:20001 ack 1
         count tcp.tail_probes 1\n< A 1 ack 20001 sack 19001:20001\ncount tcp.dsack_received 1\ncount tcp.undo 0");
}

#[test]
fn an_echo_brings_the_window_down_once() {
    opened("and is answered by CWR on the next new data; what is sent again is not marked as able",
        "send 20000\n> A 1:1001 ack 1 ect\n> A 1001:2001 ack 1 ect\n> A 2001:3001 ack 1\n> A 3001:4001 ack 1\n> A 4001:5001 ack 1
         > A 5001:6001 ack 1\n> A 6001:7001 ack 1\n> A 7001:8001 ack 1\n> A 8001:9001 ack 1\n> A 9001:10001 ack 1
         < AE 1 ack 10001\n> AW 10001:11001 ack 1 ect\n> A 11001:12001 ack 1\n> A 12001:13001 ack 1\n> A 13001:14001 ack 1
         > A 14001:15001 ack 1\n> A 15001:16001 ack 1\n> A 16001:17001 ack 1");
}
