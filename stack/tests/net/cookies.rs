//! SYN cookies: when, what they keep, and what is refused.

use stack::CookieUse;

use crate::support::own::Setup;
use crate::support::script::run_on;

fn always(s: &mut Setup) {
    s.tcp = |t| t.cookies = CookieUse::Always;
}

#[test]
fn a_cookie_makes_a_connection() {
    run_on(
        "nothing is kept until the ACK, which makes the connection, with its data",
        &always,
        "< S 0 win 60000 mss 1000\n> SA 0 ack 1 win 65535 nots\n= -\ncount tcp.cookies_sent 1\n< A 1:11 ack 1 win 500\n= ESTAB
         ev ACCEPTED READABLE\ncount tcp.cookies_accepted 1\n+41\n> A 1 ack 11\nread 10\nsend 600
         > A 1:501 ack 11\n< A 11 ack 501\n> A 501:601 ack 11\ncount tcp.passive_opens 1",
    );
    run_on(
        "the MSS is the next below that of the SYN; without timestamps neither scale nor SACK",
        &always,
        "< S 0 win 60000 mss 1430 ws 7 sackok\n> SA 0 ack 1 nots\n< A 1 ack 1\nev ACCEPTED\nsend 1500\n> A 1:1401 ack 1\n> A 1401:1501 ack 1
         < A 11:21 ack 1\n> A 1501 ack 1 win 65535 sack -",
    );
    run_on(
        "with timestamps: scale, SACK, and a clock that goes on",
        &always,
        "+100\n< S 0 win 60000 mss 1430 ws 7 sackok ts 500 0\n> SA 0 ack 1 win 65535 ws 7 sackok ts * 500\n= -
         +30\n< A 1 ack 1 win 10 ts 530 100\nev ACCEPTED\nsend 1281\n> A 1:1281 ack 1 ts * 530\n> -
         < A 11:21 ack 1 win 10 ts 531 100\n> A 1281 ack 1 win 1024 sack 11:21 ts * 530",
    );
    run_on(
        "an ACK that was lost is made good by the first data",
        &always,
        "< S 0 mss 1000\n> SA 0 ack 1\n< S 0 mss 1000\n> SA 0 ack 1\n+500\n< A 1:11 ack 1\nev ACCEPTED READABLE\n+41\n> A 1 ack 11\nread 10",
    );
    run_on(
        "FIN with it",
        &always,
        "< S 0\n> SA 0 ack 1\n< FA 1:11 ack 1\n> A 1 ack 12\nev ACCEPTED READABLE FIN\nread 10\n= CLOSE-WAIT",
    );
}

#[test]
fn what_is_no_cookie_is_reset() {
    run_on(
        "made up",
        &always,
        "< S 0\n> SA 0 ack 1\n< A 1 ack 2\n> R 2\n< A 2 ack 1\n> R 1\n= -\ncount tcp.cookies_refused 2\n< A 1 ack 1\n= ESTAB\nev ACCEPTED",
    );
    run_on("for another port", &always, "< S 0\n> SA 0 ack 1\npeer 7001\n< A 1 ack 1\n> R 1\n= -");
    run_on("too old", &always, "< S 0\n> SA 0 ack 1\n+131072\n< A 1 ack 1\n> R 1\n= -");
    run_on(
        "a RST is not answered",
        &always,
        "< S 0\n> SA 0 ack 1\n< R 1\n= -\n< A 1 ack 1\n= ESTAB\nev ACCEPTED",
    );
    run_on("nobody has asked", &always, "< A 1 ack 1\n> R 1\ncount tcp.cookies_refused 0");
}

#[test]
fn under_pressure_only() {
    // Of four places three are taken: from there on cookies, until fewer than two are.
    run_on(
        "the table, then cookies, then the table again",
        &|s| s.limits.half_open = 4,
        "< S 0\n> SA 0 ack 1\npeer 7001\n< S 0\n> SA 0 ack 1\npeer 7002\n< S 0\n> SA 0 ack 1\ncount tcp.cookies_sent 0
         +5\npeer 7003\n< S 0\n> SA 0 ack 1\ncount tcp.cookies_sent 1\ncount tcp.cookies_active 1\n< A 1 ack 1\n= ESTAB\nev ACCEPTED
         forget\npeer 7000\n< R 1\npeer 7004\n< S 0\n> SA 0 ack 1\ncount tcp.cookies_sent 2
         peer 7001\n< R 1\npeer 7005\n< S 0\n> SA 0 ack 1\ncount tcp.cookies_sent 2\ncount tcp.cookies_active 0",
    );
}

#[test]
fn bounds_hold_for_cookies_too() {
    run_on(
        "every control block in use: the ACK is dropped, and comes again with data",
        &|s| {
            always(s);
            s.limits.flows = 1;
        },
        "< S 0\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED\npeer 7001\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\n> -\ncount drop.tcp.flows_full 1",
    );
    run_on(
        "a SYN that a cookie answers does not end TIME-WAIT; its ACK does",
        &always,
        "< S 0\n> SA 0 ack 1\n< A 1 ack 1\nev ACCEPTED\nshutdown\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\nrelease\nforget
         < S 100\n> SA 0 ack 101\n= TIME-WAIT\n< A 101 ack 1\n= ESTAB\nev ACCEPTED WRITABLE CLOSED FIN",
    );
}
