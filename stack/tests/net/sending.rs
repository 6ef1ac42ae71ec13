//! The sending side: windows, retransmission, probes; case by case.

use crate::support::script::run;

/// A client with MSS 100, a window of 1,000 and no scaling.
const OPEN: &str = "
    < S 0 win 1000 mss 100
    > SA 0 ack 1
    < A 1 ack 1 win 1000
    ev ACCEPTED
";

fn opened(name: &str, script: &str) {
    run(name, &format!("{OPEN}{script}"));
}

#[test]
fn windows() {
    opened(
        "the peer's window is filled and no more",
        "send 350
         > A 1:101 ack 1\n> A 101:201 ack 1\n> A 201:301 ack 1\n> A 301:351 ack 1
         < A 1 ack 351 win 150
         send 300
         > A 351:451 ack 1
         < A 1 ack 451 win 0
         count tcp.zero_window 1",
    );
    opened(
        "a window smaller than a segment is used when nothing is out",
        "< A 1 ack 1 win 30\nsend 100\n> A 1:31 ack 1\n< A 1 ack 31 win 30\n> A 31:61 ack 1",
    );
    opened(
        "ten segments at first, then two for each that is acknowledged",
        "< A 1 ack 1 win 60000\nsend 3000
         > A 1:101 ack 1\n> A 101:201 ack 1\n> A 201:301 ack 1\n> A 301:401 ack 1\n> A 401:501 ack 1
         > A 501:601 ack 1\n> A 601:701 ack 1\n> A 701:801 ack 1\n> A 801:901 ack 1\n> A 901:1001 ack 1
         < A 1 ack 101 win 60000
         > A 1001:1101 ack 1\n> A 1101:1201 ack 1
         < A 1 ack 301 win 60000
         > A 1201:1301 ack 1\n> A 1301:1401 ack 1\n> A 1401:1501 ack 1\n> A 1501:1601 ack 1",
    );
    run(
        "windows are scaled",
        "< S 0 win 1000 mss 100 ws 2\n> SA 0 ack 1 win 65535 ws 7\n< A 1 ack 1 win 50\nsend 300
         > A 1:101 ack 1 win 1024\n> A 101:201 ack 1\n> -\n< A 1 ack 201 win 50\n> A 201:301 ack 1",
    );
    opened(
        "an old segment does not move the window back",
        "< A 11:21 ack 1 win 1000\n> A 1 ack 1\n< A 1 ack 1 win 5\nsend 50\n> A 1:51 ack 1",
    );
    opened(
        "small writes that follow each other are one segment",
        "< A 1 ack 1 win 0\nsend 3\nsend 3\nsend 3\n< A 1 ack 1 win 1000\n> A 1:10 ack 1",
    );
}

#[test]
fn a_closed_window_is_probed() {
    opened(
        "probes with back-off; when it opens the data goes",
        "< A 1 ack 1 win 0\nsend 50\n> -\n+201\n> A 0 ack 1\n< A 1 ack 1 win 0\n+401\n> A 0 ack 1\n< A 1 ack 1 win 0
         +801\n> A 0 ack 1\n< A 1 ack 1 win 40\n> A 1:41 ack 1\n< A 1 ack 41 win 40\n> A 41:51 ack 1
         count tcp.zero_window_probes 3",
    );
    opened(
        "a peer that answers is probed for ever",
        &format!(
            "< A 1 ack 1 win 0\nsend 50\n+201\n> A 0 ack 1\n< A 1 ack 1 win 0\n+401\n> A 0 ack 1\n< A 1 ack 1 win 0
             +801\n> A 0 ack 1\n< A 1 ack 1 win 0\n+1601\n> A 0 ack 1\n< A 1 ack 1 win 0\n+3201\n> A 0 ack 1\n< A 1 ack 1 win 0
             +6401\n> A 0 ack 1\n< A 1 ack 1 win 0
             +12801\n> A 0 ack 1\n< A 1 ack 1 win 0\n{}= ESTAB",
            "+25601\n> A 0 ack 1\n< A 1 ack 1 win 0\n".repeat(20),
        ),
    );
    opened(
        "a peer that does not is given up",
        "< A 1 ack 1 win 0\nsend 50\n+201\n> A 0 ack 1\n+401\n> A 0 ack 1\n+801\n> A 0 ack 1\n+1601\n> A 0 ack 1
         +3201\n> A 0 ack 1\n+6401\n> A 0 ack 1\n+12801\n> A 0 ack 1\n+25601\n> A 0 ack 1\n+51201\n> A 0 ack 1
         +60001\n> A 0 ack 1\n+60001\n> A 0 ack 1\n+60001\n> A 0 ack 1\n+60001\n= CLOSED TimedOut",
    );
    opened(
        "a window that closes over data that is out",
        "send 100\n> A 1:101 ack 1\n< A 1 ack 1 win 0\n+201\n> A 0 ack 1\n< A 1 ack 1 win 1000\n> A 1:101 ack 1
         < A 1 ack 101 win 1000\n= ESTAB",
    );
    opened(
        "FIN waits for the window too",
        "< A 1 ack 1 win 0\nshutdown\n> -\n+201\n> A 0 ack 1\n< A 1 ack 1 win 1\n> FA 1 ack 1\n= FIN-WAIT-1",
    );
    opened(
        "FIN does not go with data that fills the window",
        "< A 1 ack 1 win 0\nsend 50\nshutdown\n< A 1 ack 1 win 50\n> A 1:51 ack 1\n< A 1 ack 51 win 0\n+201\n> A 50 ack 1
         < A 1 ack 51 win 100\n> FA 51 ack 1",
    );
    opened(
        "ours: shut when the owner does not consume, probed in between, opened when it does",
        &format!(
            "{}+50\n> A 1 ack 131001 win 72\n< A 131001:131073 ack 1\n+50\n> A 1 ack 131073 win 0
             < A 131073:131074 ack 1\n> A 1 ack 131073 win 0\n< A 131072 ack 1\n> A 1 ack 131073 win 0
             hold 131072\nconsume 500\n> -\nconsume 130572\n> A 1 ack 131073 win 65535",
            thousands(131),
        ),
    );
}

/// The peer sends `n` thousand bytes, every second thousand acknowledged at once.
fn thousands(n: u32) -> String {
    let one = |i| {
        let ack = if i % 2 == 1 { format!("> A 1 ack {}\n", (i + 1) * 1000 + 1) } else { String::new() };
        format!("< A {}:{} ack 1\n{ack}", i * 1000 + 1, (i + 1) * 1000 + 1)
    };
    (0..n).map(one).collect()
}

const FIVE: &str =
    "send 500\n> A 1:101 ack 1\n> A 101:201 ack 1\n> A 201:301 ack 1\n> A 301:401 ack 1\n> A 401:501 ack 1\n";

#[test]
fn loss() {
    opened(
        "the third duplicate ACK sends again; a partial ACK the next hole",
        &format!(
            "{FIVE}< A 1 ack 1\n< A 1 ack 1\n> -\n< A 1 ack 1\n> A 1:101 ack 1\ncount tcp.fast_retransmits 1
             < A 1 ack 201\n> A 201:301 ack 1\n< A 1 ack 501\n> -\n= ESTAB"
        )
        .replace("< A 1 ack 1\n", "< A 1 ack 1 win 1000\n")
        .replace("< A 1 ack 201", "< A 1 ack 201 win 1000")
        .replace("< A 1 ack 501", "< A 1 ack 501 win 1000"),
    );
    opened(
        "ACKs with data or another window are no duplicates",
        &format!(
            "{FIVE}< A 1 ack 1 win 1001\n< A 1 ack 1 win 1002\n< A 1 ack 1 win 1003\n< A 1:2 ack 1 win 1003\n< A 2:3 ack 1 win 1003
             > -\n< A 3:4 ack 1 win 1003\n> -\n+41\n> A 501 ack 4\ncount tcp.dup_acks 0"
        ),
    );
    opened(
        "timeout: from SND.UNA on, one segment, then two for each ACK",
        &format!(
            "{FIVE}+201\n> A 1:101 ack 1\n> -\n+401\n> A 1:101 ack 1\ncount tcp.rto 2\n< A 1 ack 101 win 1000
             > A 101:201 ack 1\n> A 201:301 ack 1\n< A 1 ack 501 win 1000\n> -\n= ESTAB"
        ),
    );
    opened(
        "after a timeout an ACK of more goes on from there",
        &format!(
            "{FIVE}+201\n> A 1:101 ack 1\n< A 1 ack 351 win 1000\n> A 351:401 ack 1\n> A 401:501 ack 1\n< A 1 ack 501 win 1000\n> -"
        ),
    );
    opened(
        "what was sent in pieces is sent again in pieces",
        "< A 1 ack 1 win 50\nsend 20\n> A 1:21 ack 1\nsend 10\n> A 21:31 ack 1\n+201\n> A 1:21 ack 1\n> A 21:31 ack 1\n< A 1 ack 31 win 50",
    );
    opened(
        "a retransmission does not reach beyond the window",
        "< A 1 ack 1 win 20\nsend 200\n> A 1:21 ack 1\n+201\n> A 1:21 ack 1\n< A 1 ack 21 win 20\n> A 21:41 ack 1",
    );
    opened(
        "an ACK while data is sent again has SND.MAX",
        &format!("{FIVE}+201\n> A 1:101 ack 1\n< A 11:21 ack 1 win 1000\n> A 501 ack 1"),
    );
    opened(
        "nobody there",
        "send 10\n> A 1:11 ack 1\n+201\n> A 1:11 ack 1\n+401\n> A 1:11 ack 1\n+801\n> A 1:11 ack 1\n+1601\n> A 1:11 ack 1
         +3201\n> A 1:11 ack 1\n+6401\n> A 1:11 ack 1\n+12801\n> A 1:11 ack 1\n+25601\n> A 1:11 ack 1\n+51201\n> A 1:11 ack 1
         +60001\n> A 1:11 ack 1\n+60001\n> A 1:11 ack 1\n+60001\n> A 1:11 ack 1\n= ESTAB\n+60001\n= CLOSED TimedOut\ncount tcp.timeouts 1",
    );
}

#[test]
fn keep_alive_and_timers() {
    opened(
        "an answered keep-alive goes on",
        "keep\n+59900\n> -\n+200\n> A 0 ack 1\n< A 1 ack 1\n+59800\n> -\n+400\n> A 0 ack 1\n< A 1 ack 1\n= ESTAB\ncount tcp.keep_alives 2",
    );
    opened(
        "six without answer end it",
        "keep\n+60001\n> A 0 ack 1\n+10001\n> A 0 ack 1\n+10001\n> A 0 ack 1\n+10001\n> A 0 ack 1\n+10001\n> A 0 ack 1\n+10001\n> A 0 ack 1
         +10001\n= CLOSED TimedOut\nev CLOSED",
    );
    opened("the owner's timer", "timer 500\n+499\nev -\n+2\nev TIMEOUT\n+1000\nev -");
    opened("a timer that moves", "timer 500\ntimer 1000\n+999\nev -\ntimer 10\n+11\nev TIMEOUT\n+2000\nev -");
}
