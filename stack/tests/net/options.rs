//! Options on the wire: SACK and D-SACK sent (RFC 2018, 2883), timestamps and PAWS (RFC 7323).

use crate::support::script::run;

/// A client's handshake with everything that Linux offers; the script's clock stands at 0 ms.
const OPEN: &str = "
    < S 0 win 60000 mss 1000 ws 7 sackok ts 500 0
    > SA 0 ack 1 win 65535 ws 7 sackok ts 0 500
    < A 1 ack 1 win 500 ts 500 0
    ev ACCEPTED
";

/// SACK alone.
const SACK: &str = "
    < S 0 win 60000 mss 1000 sackok
    > SA 0 ack 1 sackok nots
    < A 1 ack 1
    ev ACCEPTED
";

fn opened(name: &str, script: &str) {
    run(name, &format!("{OPEN}{script}"));
}

fn with_sack(name: &str, script: &str) {
    run(name, &format!("{SACK}{script}"));
}

#[test]
fn what_is_offered_and_answered() {
    run("a SYN offers all", "connect\n> S 0 win 65535 ws 7 sackok ts 0 0\n< R 0");
    run(
        "nothing is answered that was not offered",
        "< S 0 mss 1000\n> SA 0 ack 1 nots\n< A 1 ack 1\nev ACCEPTED\nsend 10\n> A 1:11 ack 1 nots",
    );
    run(
        "what the SYN-ACK does not agree to is not used",
        "connect\n> S 0 sackok\n< SA 0 ack 1 mss 1000\n> A 1 ack 1 nots\n< A 11:21 ack 1\n> A 1 ack 1 sack - nots\nsend 1000\n> A 1:1001 ack 1",
    );
    run(
        "what it agrees to is",
        "connect\n> S 0 sackok\n< SA 0 ack 1 mss 1000 sackok ts 77 0\n> A 1 ack 1 ts 0 77\n< A 11:21 ack 1 ts 78 0
         > A 1 ack 1 sack 11:21 ts 0 77\nsend 1000\n> A 1:989 ack 1 ts 0 77\n> A 989:1001 ack 1",
    );
    run(
        "simultaneous open",
        "connect\n> S 0 ts 0 0\n+5\n< S 0 mss 1000 sackok ts 9 0\n> SA 0 ack 1 sackok ts 5 9\n< SA 0 ack 1 sackok ts 9 0\nev CONNECTED",
    );
    opened("a RST carries timestamps too", "+7\nabort\n> RA 1 ack 1 ts 7 500");
    opened(
        "the SYN-ACK is sent again with the time of its own sending",
        "< S 0 ts 501 0\n> A 1 ack 1 ts 0 500",
    );
}

#[test]
fn timestamps_are_echoed() {
    opened(
        "that of the segment that the last ACK asked for: the first of two",
        "< A 1:1001 ack 1 ts 510 0\n< A 1001:2001 ack 1 ts 520 0\n> A 1 ack 2001 ts 0 510\n+3
         < A 2001:3001 ack 1 ts 530 0\n< A 3001:4001 ack 1 ts 540 0\n> A 1 ack 4001 ts 3 530",
    );
    opened(
        "not that of one behind a gap; that of the one that fills it",
        "< A 11:21 ack 1 ts 510 0\n> A 1 ack 1 ts 0 500 sack 11:21\n< A 1:11 ack 1 ts 505 0\n> A 1 ack 21 ts 0 505 sack -",
    );
    opened(
        "a made-up one in a segment with a bad ACK is not taken",
        "< A 1 ack 900 ts 99999 0\n> A 1 ack 1 ts 0 500",
    );
}

#[test]
fn paws() {
    opened("older data is dropped and answered",
        "< A 1:11 ack 1 ts 600 0\n+41\n> A 1 ack 11 ts 40 600\n< A 11:21 ack 1 ts 599 0\n> A 1 ack 11 ts 41 600
         count drop.tcp.paws 1\n< A 11:21 ack 1 ts 600 0\n+41\n> A 1 ack 21");
    opened("a RST is looked at without", "< R 1 ts 3 0\n= CLOSED Reset\nev CLOSED\nrelease");
    opened(
        "a segment without a timestamp is taken",
        "< A 1:11 ack 1\n+41\n> A 1 ack 11 ts 40 500\ncount tcp.no_timestamp 1",
    );
    opened(
        "an ACK that was overtaken is taken, a much older one is not",
        "< A 1:11 ack 1 ts 700 0\n+41\n> A 1 ack 11\n< A 11 ack 1 win 500 ts 690 0\n< A 11 ack 1 win 500 ts 10 0\n> A 1 ack 11\ncount drop.tcp.paws 1",
    );
    opened("the clock wraps",
        "< A 1:11 ack 1 ts 2147483648 0\n+41\n> A 1 ack 11 ts 40 2147483648\n< A 11:21 ack 1 ts 4294967295 0\n+41\n> A 1 ack 21
         < A 21:31 ack 1 ts 4 0\n+41\n> A 1 ack 31 ts 122 4");
    opened(
        "after 24 days of silence anything is newer",
        "+2073000000\n< A 1:11 ack 1 ts 400 0\n> A 1 ack 1\n+2000000\n< A 1:11 ack 1 ts 400 0\n+41\n> A 1 ack 11 ts * 400",
    );
}

#[test]
fn sack() {
    with_sack(
        "the latest first, then those before it",
        "< A 11:21 ack 1\n> A 1 ack 1 sack 11:21\n< A 31:41 ack 1\n> A 1 ack 1 sack 31:41 sack 11:21
         < A 51:61 ack 1\n> A 1 ack 1 sack 51:61 sack 31:41 sack 11:21
         < A 71:81 ack 1\n> A 1 ack 1 sack 71:81 sack 51:61 sack 31:41 sack 11:21
         < A 91:101 ack 1\n> A 1 ack 1 sack 91:101 sack 71:81 sack 51:61 sack 31:41
         < A 21:31 ack 1\n> A 1 ack 1 sack 21:41 sack 91:101 sack 71:81 sack 51:61
         < A 1:11 ack 1\n> A 1 ack 41 sack 91:101 sack 71:81 sack 51:61",
    );
    opened("three, with timestamps",
        "< A 11:21 ack 1 ts 500 0\n> A 1 ack 1\n< A 31:41 ack 1 ts 500 0\n> A 1 ack 1\n< A 51:61 ack 1 ts 500 0\n> A 1 ack 1
         < A 71:81 ack 1 ts 500 0\n> A 1 ack 1 ts 0 500 sack 71:81 sack 51:61 sack 31:41");
    with_sack("runs grow in front, behind, and together",
        "< A 11:21 ack 1\n> A 1 ack 1 sack 11:21\n< A 21:31 ack 1\n> A 1 ack 1 sack 11:31\n< A 41:51 ack 1
         > A 1 ack 1 sack 41:51 sack 11:31\n< A 31:41 ack 1\n> A 1 ack 1 sack 11:51\n< A 5:11 ack 1\n> A 1 ack 1 sack 5:51");
    with_sack(
        "every ACK tells, one with data too",
        "< A 11:21 ack 1\n> A 1 ack 1 sack 11:21\nsend 10\n> A 1:11 ack 1 sack 11:21\nsend 1000\n> A 11:1011 ack 1 sack -",
    );
    with_sack(
        "a FIN that came early is told with the data before it",
        "< FA 11:21 ack 1\n> A 1 ack 1 sack 11:22\n< A 1:11 ack 1\n> A 1 ack 22 sack -\nev READABLE FIN\nread 20",
    );
    with_sack(
        "and one alone",
        "< FA 11 ack 1\n> A 1 ack 1 sack 11:12\n< A 1:11 ack 1\n> A 1 ack 12 sack -\nread 10",
    );
}

#[test]
fn duplicates_are_told() {
    with_sack(
        "a segment that came again (RFC 2883, 4.1.1)",
        "< A 1:501 ack 1\n+41\n> A 1 ack 501 sack -\n< A 1:501 ack 1\n> A 1 ack 501 sack 1:501\n< A 501:601 ack 1\n+41\n> A 1 ack 601 sack -",
    );
    with_sack(
        "out of order and again (4.1.2)",
        "< A 501:1001 ack 1\n> A 1 ack 1 sack 501:1001\n< A 501:1001 ack 1\n> A 1 ack 1 sack 501:1001 sack 501:1001",
    );
    with_sack(
        "a part of it (4.2.1)",
        "< A 1:501 ack 1\n+41\n> A 1 ack 501\n< A 1001:1501 ack 1\n> A 1 ack 501 sack 1001:1501\n< A 401:601 ack 1\n> A 1 ack 601 sack 401:501 sack 1001:1501",
    );
    with_sack("a part of a run in the middle (4.2.2)",
        "< A 1001:1501 ack 1\n> A 1 ack 1\n< A 2001:2501 ack 1\n> A 1 ack 1\n< A 1201:1301 ack 1\n> A 1 ack 1 sack 1201:1301 sack 1001:1501 sack 2001:2501
         < A 1401:1601 ack 1\n> A 1 ack 1 sack 1401:1501 sack 1001:1601 sack 2001:2501");
}

/// We close first; a record with the peer's number 2 and timestamp 500 is left.
const TIME_WAIT: &str = "shutdown\n> FA 1 ack 1 ts 0 500\n< FA 1 ack 2 ts 500 0\n> A 2 ack 2 ts 0 500\nrelease\nev WRITABLE FIN CLOSED\n= TIME-WAIT\n+10\n";

#[test]
fn time_wait_is_reused_by_timestamps() {
    let waiting = |name: &str, script: &str| opened(name, &format!("{TIME_WAIT}{script}"));
    waiting("its ACK carries them", "< FA 1 ack 2 ts 501 0\n> A 2 ack 2 ts 10 500");
    waiting(
        "a later one opens anew, whatever its number",
        "forget\n< S -99 sackok ts 501 0\n> SA 0 ack -98 ts 10 501\ncount tcp.time_wait_reused 1\n< A -98 ack 1 ts 501 10\n= ESTAB\nev ACCEPTED",
    );
    waiting(
        "an earlier one does not, whatever its number",
        "< S 9000 ts 499 0\n> A 2 ack 2 ts 10 500\n= TIME-WAIT",
    );
    waiting(
        "the same one does by its number",
        "< S 1 ts 500 0\n> A 2 ack 2\nforget\n< S 100 ts 500 0\n> SA 0 ack 101",
    );
    waiting("without one it is by number", "< S 1\n> A 2 ack 2\nforget\n< S 100\n> SA 0 ack 101 nots");
}
