//! RFC 9293, state by state: each case is a few lines of what comes and what must come back.

use crate::support::script::run;

/// A client's handshake: MSS 1000, no window scaling.
const OPEN: &str = "
    < S 0 win 60000 mss 1000
    > SA 0 ack 1 win 65535
    < A 1 ack 1
    = ESTAB
    ev ACCEPTED
";

/// Our own handshake.
const CONNECT: &str = "
    connect
    > S 0 win 65535 ws 7
    = SYN-SENT
    < SA 0 ack 1 win 60000 mss 1000
    > A 1 ack 1
    = ESTAB
    ev CONNECTED
";

fn opened(name: &str, script: &str) {
    run(name, &format!("{OPEN}{script}"));
}

fn connected(name: &str, script: &str) {
    run(name, &format!("{CONNECT}{script}"));
}

#[test]
fn closed() {
    run("a SYN to a closed port is refused at once", "port 81\n< S 0 win 1\n> RA 0 ack 1\n= -");
    run("a stray ACK is reset by its own number", "< A 5 ack 7\n> R 7\n= -");
    run("data without ACK is reset", "< . 5:8\n> RA 0 ack 8");
    run("a stray RST is not answered", "< R 5\n< RA 5 ack 7\ncount drop.tcp.stray_reset 2");
    run("a SYN-ACK nobody asked for", "< SA 0 ack 7\n> R 7");
    run("SYN with FIN is dropped", "< SF 0\ncount drop.tcp.malformed 1\n= -");
    run("SYN with RST is dropped", "< SR 0\n= -");
}

#[test]
fn syn_received() {
    run("options are answered", "< S 0 mss 1000 ws 3\n> SA 0 ack 1 win 65535 ws 7");
    run("no scaling unless both want it", "< S 0 mss 1000\n> SA 0 ack 1 win 65535\n< A 1 ack 1\n= ESTAB");
    run("the SYN again: the SYN-ACK again", "< S 0\n> SA 0 ack 1\n< S 0\n> SA 0 ack 1\n= SYN-RECV");
    run(
        "the SYN-ACK is sent again with back-off, then all is forgotten without a word",
        "< S 0\n> SA 0 ack 1\n+1001\n> SA 0 ack 1\n+2001\n> SA 0 ack 1\n+4001\n> SA 0 ack 1\n+8001\n> SA 0 ack 1
         +16001\n> SA 0 ack 1\n+32001\n> SA 0 ack 1\n= SYN-RECV\n+60001\n> SA 0 ack 1\n+60001\n= -\nev -",
    );
    run(
        "a bad ACK is reset",
        "< S 0\n> SA 0 ack 1\n< A 1 ack 2\n> R 2\n= SYN-RECV\n< A 1 ack 0\n> R 0\n= SYN-RECV",
    );
    run("RST at RCV.NXT ends it, unseen", "< S 0\n> SA 0 ack 1\n< R 1\n= -\nev -");
    run("RST elsewhere in the window is challenged", "< S 0\n> SA 0 ack 1\n< R 100\n> A 1 ack 1\n= SYN-RECV");
    run("RST beyond the window is nothing", "< S 0\n> SA 0 ack 1\n< R 70000\n= SYN-RECV");
    run("another SYN is challenged", "< S 0\n> SA 0 ack 1\n< S 500\n> A 1 ack 1\n= SYN-RECV");
    run("an old segment is answered", "< S 0\n> SA 0 ack 1\n< A -500 ack 1\n> A 1 ack 1\n= SYN-RECV");
    run(
        "data with the third ACK",
        "< S 0\n> SA 0 ack 1\n< A 1:11 ack 1\n+41\n> A 1 ack 11\nev ACCEPTED READABLE\nread 10",
    );
    run(
        "FIN with the third ACK",
        "< S 0\n> SA 0 ack 1\n< FA 1 ack 1\n> A 1 ack 2\n= CLOSE-WAIT\nev ACCEPTED FIN",
    );
    run(
        "a lost third ACK is made good by data",
        "< S 0\n> SA 0 ack 1\n< A 11:21 ack 1\n> A 1 ack 1\n= ESTAB",
    );
    run(
        "a SYN that comes twice, the second one with the ACK behind it",
        "< S 0\n> SA 0 ack 1\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\n= ESTAB",
    );
}

#[test]
fn syn_sent() {
    connected("the SYN-ACK is acknowledged", "");
    run("RST refuses", "connect\n> S 0\n< RA 0 ack 1\n= CLOSED Refused\nev CLOSED\nrelease\n= -");
    run("RST without ACK is nothing", "connect\n> S 0\n< R 0\n= SYN-SENT");
    run("RST with a bad ACK is nothing", "connect\n> S 0\n< RA 0 ack 5\n= SYN-SENT");
    run(
        "a bad ACK is reset",
        "connect\n> S 0\n< SA 0 ack 5\n> R 5\n= SYN-SENT\n< A 0 ack 0\n> R 0\n= SYN-SENT",
    );
    run("an ACK alone is nothing", "connect\n> S 0\n< A 0 ack 1\n= SYN-SENT");
    run(
        "simultaneous open",
        "connect\n> S 0\n< S 0 mss 1000\n> SA 0 ack 1\n= SYN-RECV\n< SA 0 ack 1\n= ESTAB\nev CONNECTED\n
         < A 1 ack 1\n",
    );
    run(
        "simultaneous open, by an ACK",
        "connect\n> S 0\n< S 0\n> SA 0 ack 1\n< A 1 ack 1\n= ESTAB\nev CONNECTED",
    );
    run(
        "simultaneous open, refused",
        "connect\n> S 0\n< S 0\n> SA 0 ack 1\n< R 1\n= CLOSED Refused\nev CLOSED",
    );
    run(
        "the SYN is sent again with back-off, until the time is up",
        "connect\n> S 0\n+1001\n> S 0\n+2001\n> S 0\n+4001\n> S 0\n+8001\n> S 0\n+16001\n> S 0\n+32001\n> S 0
         +60001\n> S 0\n+60001\n= CLOSED TimedOut\nev CLOSED\ncount tcp.active_failed 1",
    );
    run("aborted before anything was sent", "connect\n> S 0\nabort\n= -\n< SA 0 ack 1\n> R 1");
    run(
        "what was queued and shut goes after the handshake",
        "connect\n> S 0\nsend 10\nshutdown\n< SA 0 ack 1\n> FA 1:11 ack 1\n= FIN-WAIT-1",
    );
    run("data in the SYN-ACK comes again", "connect\n> S 0\n< SA 0:10 ack 1\n> A 1 ack 1\n= ESTAB");
}

#[test]
fn established_receives() {
    opened("two segments are acknowledged at once, one is after 40 ms",
        "< A 1:1001 ack 1\n> -\n< A 1001:2001 ack 1\n> A 1 ack 2001\n< A 2001:2011 ack 1\n+39\n> -\n+2\n> A 1 ack 2011
         ev READABLE\nread 2010\ncount tcp.delayed_acks 1");
    opened(
        "data carries the ACK",
        "< A 1:11 ack 1\nsend 5\n> A 1:6 ack 11\n+100\n< A 11 ack 6\nev READABLE WRITABLE",
    );
    opened(
        "a gap is answered at once, and when it is filled",
        "< A 101:201 ack 1\n> A 1 ack 1\n< A 301:401 ack 1\n> A 1 ack 1\nev -\n< A 1:101 ack 1\n> A 1 ack 201
         < A 201:301 ack 1\n> A 1 ack 401\nev READABLE\nread 400\ncount tcp.out_of_order 2",
    );
    opened(
        "old data is answered",
        "< A 1:101 ack 1\n+50\n> A 1 ack 101\n< A 1:101 ack 1\n> A 1 ack 101\nread 100",
    );
    opened(
        "half old, half new",
        "< A 1:101 ack 1\n+50\n> A 1 ack 101\n< A 51:151 ack 1\n+50\n> A 1 ack 151\nread 150",
    );
    opened(
        "overlaps out of order keep each byte once",
        "< A 101:201 ack 1\n> A 1 ack 1\n< A 151:251 ack 1\n> A 1 ack 1\n< A 51:301 ack 1\n> A 1 ack 1
         < A 120:180 ack 1\n> A 1 ack 1\n< A 1:51 ack 1\n> A 1 ack 251\nread 250\n
         count drop.tcp.ooo_overlap 1",
    );
    opened("a keep-alive is answered", "< A 0 ack 1\n> A 1 ack 1\n< A 0:1 ack 1\n> A 1 ack 1");
    opened(
        "what brings nothing is answered once in half a second",
        "< A 70000 ack 1\n> A 1 ack 1\n< A 70000 ack 1\n> -\n< R 2\n> -\ncount tcp.challenge_limited 2\n< A 70000:70010 ack 1\n> A 1 ack 1
         +600\n< A 70000 ack 1\n> A 1 ack 1",
    );
    opened(
        "what is outside of the window is no sign of life",
        "keep\n+50000\n< A 70000 ack 1\n> A 1 ack 1\n+9999\n> -\n+2\n> A 0 ack 1",
    );
    opened(
        "another router may bring it; not what is outside of the window",
        "mac 9\n< A 1:11 ack 1\n+41\n> A 1 ack 11\nto 9\nsend 10\n> A 1:11 ack 11\nto 9\nmac 8\n< A 70000:70010 ack 1\n> A 11 ack 11\nto 9
         mac 2\n< A 11 ack 11\nsend 10\n> A 11:21 ack 11\nto 2\nread 10",
    );
    opened("beyond the window", "< A 70000:70010 ack 1\n> A 1 ack 1\ncount drop.tcp.out_of_window 1");
    opened(
        "the window's end cuts",
        "< A 65035:66035 ack 1\n> A 1 ack 1\n< A 65536:65537 ack 1\n> A 1 ack 1\ncells 1",
    );
    opened("without ACK it is dropped", "< . 1:11\ncount drop.tcp.no_ack 1\n= ESTAB");
    opened(
        "unread data closes the window; reading opens it, in large steps",
        "< A 1:1001 ack 1\n< A 1001:2001 ack 1\n> A 1 ack 2001 win 65535\nhold 2000\n+50\n> -\nconsume 2000",
    );
}

#[test]
fn established_resets_and_challenges() {
    opened("RST at RCV.NXT", "< R 1\n= CLOSED Reset\nev CLOSED\nrelease\n= -");
    opened(
        "RST in the window",
        "< R 2\n> A 1 ack 1\n= ESTAB\ncount tcp.challenge_acks 1\n< R 1\n= CLOSED Reset",
    );
    opened("RST outside", "< R 0\n< R 70000\n= ESTAB\ncount drop.tcp.stray_reset 2");
    opened("SYN in the window", "< S 1\n> A 1 ack 1\n= ESTAB\ncount drop.tcp.challenged_syn 1");
    opened("SYN outside", "< S 70000\n> A 1 ack 1\n= ESTAB");
    opened("SYN-ACK again", "< SA 0 ack 1\n> A 1 ack 1\n= ESTAB");
    opened("ACK of what was never sent", "< A 1:11 ack 2\n> A 1 ack 1\ncount drop.tcp.bad_ack 1\nread 0");
    opened("ACK too old", "< A 1:11 ack -70000\n> A 1 ack 1\ncount drop.tcp.bad_ack 1\nread 0");
    opened(
        "ACK a little old brings its data",
        "send 10\n> A 1:11 ack 1\n< A 1 ack 11\n< A 1:11 ack 5\n+41\n> A 11 ack 11\nread 10",
    );
    opened(
        "data before a RST can be read",
        "< A 1:11 ack 1\n< R 11\nev READABLE CLOSED\nread 10\nrelease\n= -",
    );
    opened("abort", "abort\n> RA 1 ack 1\n= -\n< A 1 ack 1\n> R 1");
    opened(
        "abort with data queued",
        "send 5000\n> A 1:1001 ack 1\n> A 1001:2001 ack 1\n> A 2001:3001 ack 1
        > A 3001:4001 ack 1\n> A 4001:5001 ack 1\nabort\n> RA 5001 ack 1\n= -",
    );
    opened("release of an open connection is an abort", "release\n> RA 1 ack 1\n= -");
}

#[test]
fn the_peer_closes_first() {
    opened("close, then we",
        "< FA 1 ack 1\n> A 1 ack 2\n= CLOSE-WAIT\nev FIN\nsend 10\n> A 1:11 ack 2\n< A 2 ack 11\nshutdown\n> FA 11 ack 2
         = LAST-ACK\n< A 2 ack 12\n= CLOSED Done\nev WRITABLE CLOSED\nrelease\n= -\ncount tcp.closed 1");
    opened(
        "both at once from us: data and FIN in one",
        "< FA 1 ack 1\n> A 1 ack 2\nsend 10\n> A 1:11 ack 2\nshutdown\n> FA 11 ack 2\n= LAST-ACK",
    );
    opened("FIN with data", "< FA 1:11 ack 1\n> A 1 ack 12\n= CLOSE-WAIT\nev READABLE FIN\nread 10");
    opened(
        "FIN out of order waits",
        "< FA 11 ack 1\n> A 1 ack 1\nev -\n= ESTAB\n< A 1:11 ack 1\n> A 1 ack 12\n= CLOSE-WAIT\nev READABLE FIN\nread 10",
    );
    opened(
        "data and FIN out of order",
        "< FA 11:21 ack 1\n> A 1 ack 1\n= ESTAB\n< A 1:11 ack 1\n> A 1 ack 22\n= CLOSE-WAIT\nread 20",
    );
    opened(
        "FIN again is answered again",
        "< FA 1 ack 1\n> A 1 ack 2\n< FA 1 ack 1\n> A 1 ack 2\n= CLOSE-WAIT",
    );
    opened("data behind a FIN is nothing", "< FA 1 ack 1\n> A 1 ack 2\n< A 2:12 ack 1\n> A 1 ack 2\nread 0");
    opened(
        "our FIN is sent again",
        "< FA 1 ack 1\n> A 1 ack 2\nshutdown\n> FA 1 ack 2\n+201\n> FA 1 ack 2\n= LAST-ACK\n< A 2 ack 2\n= CLOSED Done",
    );
    opened("RST in CLOSE-WAIT", "< FA 1 ack 1\n> A 1 ack 2\n< R 2\n= CLOSED Reset\nev FIN CLOSED");
    opened("RST in LAST-ACK", "< FA 1 ack 1\n> A 1 ack 2\nshutdown\n> FA 1 ack 2\n< R 2\n= CLOSED Reset");
    opened(
        "unread data outlives the close",
        "< FA 1:11 ack 1\n> A 1 ack 12\nshutdown\n> FA 1 ack 12\n< A 12 ack 2\n= CLOSED Done\nread 10\nrelease\n= -",
    );
}

#[test]
fn we_close_first() {
    opened("FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT",
        "shutdown\n> FA 1 ack 1\n= FIN-WAIT-1\n< A 1 ack 2\n= FIN-WAIT-2\n< FA 1 ack 2\n> A 2 ack 2\n= CLOSED Done
         ev WRITABLE FIN CLOSED\nrelease\n= TIME-WAIT\n< FA 1 ack 2\n> A 2 ack 2\n< R 3\n< A 2 ack 2\n= TIME-WAIT");
    opened("half closed, we still receive",
        "shutdown\n> FA 1 ack 1\n< A 1:1001 ack 2\n< A 1001:2001 ack 2\n> A 2 ack 2001\n= FIN-WAIT-2\nrefused\nread 2000
         < FA 2001 ack 2\n> A 2 ack 2002\n= CLOSED Done");
    opened(
        "FIN with the ACK of ours",
        "shutdown\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\n= CLOSED Done\nrelease\n= TIME-WAIT",
    );
    opened(
        "simultaneous close",
        "shutdown\n> FA 1 ack 1\n< FA 1 ack 1\n> A 2 ack 2\n= CLOSING\nev FIN\n< A 2 ack 2\n= CLOSED Done\nrelease\n= TIME-WAIT",
    );
    opened(
        "simultaneous close, our FIN lost",
        "shutdown\n> FA 1 ack 1\n< FA 1 ack 1\n> A 2 ack 2\n+201\n> FA 1 ack 2\n= CLOSING\n< A 2 ack 2\n= CLOSED Done",
    );
    opened(
        "data and FIN are sent again",
        "send 10\n> A 1:11 ack 1\nshutdown\n> FA 11 ack 1\n+201\n> A 1:11 ack 1\n> FA 11 ack 1\n< A 1 ack 11\n= FIN-WAIT-1\n< A 1 ack 12\n= FIN-WAIT-2",
    );
    opened("RST in FIN-WAIT-1", "shutdown\n> FA 1 ack 1\n< R 1\n= CLOSED Reset");
    opened("RST in FIN-WAIT-2", "shutdown\n> FA 1 ack 1\n< A 1 ack 2\n< R 1\n= CLOSED Reset");
    opened(
        "FIN-WAIT-2 is probed after a minute of silence, and ends when nobody answers",
        &format!(
            "shutdown\n> FA 1 ack 1\n< A 1 ack 2\n+50000\n< A 1:11 ack 2\n+41\n> A 2 ack 11\n+50000\n= FIN-WAIT-2\n+9960
             {}= CLOSED TimedOut",
            "> A 1 ack 11\n+10001\n".repeat(6)
        ),
    );
    opened(
        "a peer that answers may take its time, and lose what it sends",
        &format!(
            "shutdown\n> FA 1 ack 1\n< A 1 ack 2\n{}+59000\n< FA 1 ack 2\n> A 2 ack 2\n= CLOSED Done",
            "+60001\n> A 1 ack 1\n< A 1 ack 2\n".repeat(20)
        ),
    );
    opened("shutdown twice is once", "shutdown\n> FA 1 ack 1\nshutdown\n> -");
    opened(
        "data in TIME-WAIT is answered",
        "shutdown\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\nrelease\n< A 2:12 ack 2\n> A 2 ack 2",
    );
}

#[test]
fn time_wait_ends_and_is_reused() {
    let close = "shutdown\n> FA 1 ack 1\n< FA 1 ack 2\n> A 2 ack 2\nrelease\n= TIME-WAIT\n";
    opened("after a minute the tuple is free", &format!("{close}+60100\n< A 2 ack 2\n> R 2"));
    opened(
        "a newer SYN takes it over, with a newer ISN",
        &format!(
            "{close}< S 100 mss 1000\n> SA 65539 ack 101\n= SYN-RECV\ncount tcp.time_wait_reused 1\n< A 101 ack 65540\n= ESTAB"
        ),
    );
    opened(
        "an older SYN does not",
        &format!("{close}< S -100\n> A 2 ack 2\ncount tcp.time_wait_reused 0\n= TIME-WAIT"),
    );
    opened(
        "but whoever resets what it is answered finds nothing with its next one",
        &format!(
            "{close}< S -100 mss 1000\n> A 2 ack 2\n< R 2\n= -\ncount tcp.time_wait_reset 1\n< S -100 mss 1000\n> SA 0 ack -99\n= SYN-RECV"
        ),
    );
    opened(
        "a reset with another number does nothing",
        &format!("{close}< R 1\n< R 3\ncount tcp.time_wait_reset 0\n= TIME-WAIT"),
    );
}

#[test]
fn orphans() {
    opened(
        "what still comes is thrown away, then the peer's FIN ends it",
        "send 10\n> A 1:11 ack 1\norphan\n> FA 11 ack 1\n< A 1:101 ack 12\n+41\n> A 12 ack 101\n= FIN-WAIT-2\n< FA 101 ack 12\n> A 12 ack 102\n= TIME-WAIT\nev -",
    );
    opened("unread data is let go", "< A 1:101 ack 1\norphan\n> FA 1 ack 101\ncells 0\nev READABLE");
    opened("the peer closed already", "< FA 1 ack 1\n> A 1 ack 2\norphan\n> FA 1 ack 2\n< A 2 ack 2\n= -");
    opened(
        "a silent peer is reset after 30 s",
        "orphan\n> FA 1 ack 1\n< A 1 ack 2\n+29000\n= FIN-WAIT-2\n+1001\n> RA 2 ack 1\n= -",
    );
    opened("a RST ends it", "orphan\n> FA 1 ack 1\n< R 1\n= -");
}
