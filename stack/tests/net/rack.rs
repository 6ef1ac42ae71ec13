//! Losses by SACK and time (RFC 8985), segment by segment; congestion that was none (RFC 3708, 4015).

use crate::support::script::run;

/// A client with MSS 100 and SACK whose RTT is 20 ms.
const SACK: &str = "
    < S 0 win 60000 mss 100 sackok
    > SA 0 ack 1
    +20
    < A 1 ack 1 win 60000
    ev ACCEPTED
";

/// The same with timestamps: ours are 0 at the beginning.
const STAMPED: &str = "
    < S 0 win 60000 mss 112 sackok ts 500 0
    > SA 0 ack 1 ts 0 500
    +20
    < A 1 ack 1 win 60000 ts 520 0
    ev ACCEPTED
";

const FIVE: &str = "send 500\n> A 1:101 ack 1\n> A 101:201 ack 1\n> A 201:301 ack 1\n> A 301:401 ack 1\n> A 401:501 ack 1\n+20\n";

fn opened(name: &str, script: &str) {
    run(name, &format!("{SACK}{script}"));
}

#[test]
fn three_that_overtook_it_say_that_a_segment_is_lost() {
    opened(
        "at once; what was SACKed is not sent again",
        &format!(
            "{FIVE}< A 1 ack 1 win 60000 sack 201:501\n> A 1:101 ack 1\n> A 101:201 ack 1\ncount tcp.fast_retransmits 1
             +20\n< A 1 ack 201 win 60000 sack 201:501\n< A 1 ack 501 win 60000\n> -\ncount tcp.retransmits 2"
        ),
    );
    opened(
        "also when they come one by one",
        &format!(
            "{FIVE}< A 1 ack 1 win 60000 sack 201:301\n> -\n< A 1 ack 1 win 60000 sack 201:401\n> -
             < A 1 ack 1 win 60000 sack 201:501\n> A 1:101 ack 1\n> -\n< A 1 ack 101 win 60000 sack 201:501\n> A 101:201 ack 1"
        ),
    );
}

#[test]
fn reordering_that_was_reported_gives_segments_more_time_for_sixteen_recoveries() {
    // The first segment of five is sent again after a quarter of the RTT, 5 ms, and had arrived: a quarter more.
    let mut script = format!(
        "{FIVE}< A 1 ack 1 win 60000 sack 101:201\n+4\n> -\n+2\n> A 1:101 ack 1\n< A 1 ack 501 win 60000 sack 1:101\ncount tcp.undo 1\n+20\n"
    );
    // Each time one of two is lost indeed.
    for n in 0..17 {
        let (from, half, to) = (501 + 200 * n, 601 + 200 * n, 701 + 200 * n);
        let (before, behind) = if n < 16 { (9, 2) } else { (4, 2) };
        script += &format!(
            "send 200\n> A {from}:{half} ack 1\n> A {half}:{to} ack 1\n+20\n< A 1 ack {from} win 60000 sack {half}:{to}\n+{before}\n> -
             +{behind}\n> A {from}:{half} ack 1\n< A 1 ack {to} win 60000\n+20\n"
        );
    }
    opened("and no longer", &script);
}

#[test]
fn fewer_say_so_when_it_is_late() {
    opened(
        "a quarter of the lowest RTT later, without another ACK",
        &format!(
            "{FIVE}< A 1 ack 1 win 60000 sack 101:201\n> -\n+4\n> -\n+2\n> A 1:101 ack 1\ncount tcp.fast_retransmits 1"
        ),
    );
    opened(
        "unless it comes in time: then they were reordered",
        &format!(
            "{FIVE}< A 1 ack 1 win 60000 sack 101:201\n+4\n< A 1 ack 501 win 60000\n+100\n> -\ncount tcp.retransmits 0"
        ),
    );
}

#[test]
fn a_tail_is_probed() {
    const TWO: &str = "send 200\n> A 1:101 ack 1\n> A 101:201 ack 1\n";
    opened(
        "after two RTTs, by its last segment; where an ACK goes beyond it, it has repaired a loss",
        &format!(
            "{TWO}+41\n> -\n+2\n> A 101:201 ack 1\ncount tcp.tail_probes 1\n+20\n< A 1 ack 201 win 60000\nsend 100
             > A 201:301 ack 1\n+20\n< A 1 ack 301 win 60000\ncount tcp.tail_repaired 1\ncount tcp.rto 0"
        ),
    );
    opened(
        "two ACKs of it: both have arrived",
        &format!(
            "{TWO}+43\n> A 101:201 ack 1\n+20\n< A 1 ack 201 win 60000\nsend 100\n> A 201:301 ack 1\n< A 1 ack 201 win 60000
             +20\n< A 1 ack 301 win 60000\ncount tcp.tail_repaired 0"
        ),
    );
    opened(
        "a duplicate that the peer reports is none",
        &format!(
            "{TWO}+43\n> A 101:201 ack 1\n+20\n< A 1 ack 201 win 60000 sack 101:201\ncount tcp.tail_repaired 0
             count tcp.dsack_received 1"
        ),
    );
    opened(
        "once; then the timeout has its turn",
        &format!(
            "{TWO}+43\n> A 101:201 ack 1\n+100\n> -\n+200\n> A 1:101 ack 1\ncount tcp.tail_probes 1\ncount tcp.rto 1"
        ),
    );
    opened(
        "by new data where there is some that the windows let through",
        "send 200\n> A 1:101 ack 1\n> A 101:201 ack 1\n+20\n< A 1 ack 1 win 200\nsend 100\n> -\n< A 1 ack 1 win 300\n> A 201:301 ack 1",
    );
}

#[test]
fn a_loss_that_was_none_is_undone() {
    opened(
        "the peer had what was sent again (RFC 3708)",
        &format!(
            "{FIVE}< A 1 ack 1 win 60000 sack 101:401\n> A 1:101 ack 1\n+20\n< A 1 ack 501 win 60000 sack 1:101
             count tcp.undo 1\ncount tcp.dsack_received 1"
        ),
    );
    run(
        "it echoes the time of the first sending (Eifel, RFC 4015)",
        &format!(
            "{STAMPED}{FIVE}< A 1 ack 1 win 60000 sack 101:401 ts 540 20\n> A 1:101 ack 1 ts 40 540\n+10
             < A 1 ack 501 win 60000 ts 550 20\ncount tcp.undo 1"
        ),
    );
    run(
        "one that echoes the second is a loss",
        &format!(
            "{STAMPED}{FIVE}< A 1 ack 1 win 60000 sack 101:401 ts 540 20\n> A 1:101 ack 1 ts 40 540\n+20
             < A 1 ack 501 win 60000 ts 560 40\ncount tcp.undo 0"
        ),
    );
}

#[test]
fn a_timeout_goes_on_from_what_is_not_sacked() {
    opened(
        "what was SACKed stays so",
        &format!(
            "{FIVE}< A 1 ack 1 win 60000 sack 301:501\n+6\n> A 1:101 ack 1\n> A 101:201 ack 1\n> A 201:301 ack 1
             +201\n> A 1:101 ack 1\ncount tcp.rto 1\n< A 1 ack 501 win 60000\n> -"
        ),
    );
    opened(
        "unless the peer has thrown it away: then its first segment would not be missing",
        &format!(
            "{FIVE}< A 1 ack 1 win 60000 sack 1:101\n+30\n> A 401:501 ack 1\n+201\n> A 1:101 ack 1\ncount tcp.sack_reneged 1\n< A 1 ack 501 win 60000"
        ),
    );
}

#[test]
fn what_is_known_of_the_path_does_not_outlive_the_clock() {
    // The clock of segments wraps after 71 minutes: half of that later, what was sent now looks older than what was
    // delivered last, and late.
    opened(
        "an hour of silence",
        "send 100\n> A 1:101 ack 1\n+20\n< A 1 ack 101 win 60000\n+2400000\nsend 300\n> A 101:201 ack 1\n> A 201:301 ack 1\n> A 301:401 ack 1
         +30\n< A 1 ack 201 win 60000\n+5\n> -\n< A 1 ack 401 win 60000\ncount tcp.lost 0",
    );
}

#[test]
fn another_algorithm_in_the_middle_of_a_recovery_ends_it_with_a_window() {
    // BBR recovers to no threshold, and CUBIC's window is the threshold at its end. (Found by the storm, seed 6.)
    opened(
        "half of what was there before",
        &format!(
            "algorithm Bbr\n{FIVE}< A 1 ack 1 win 60000 sack 201:501\n> A 1:101 ack 1\n> A 101:201 ack 1
             algorithm Cubic\n+20\n< A 1 ack 501 win 60000\ncwnd 500"
        ),
    );
}
