//! The two state machines, a table of moves per state.

use super::*;

fn server(limits: &HttpLimits, bytes: &[u8]) -> (ServerConn, Result<usize, Reject>) {
    let mut conn = ServerConn::new(limits);
    let read = read(&mut conn, bytes, limits);
    (conn, read)
}

fn read(conn: &mut ServerConn, bytes: &[u8], limits: &HttpLimits) -> Result<usize, Reject> {
    let mut slots = HeaderSlots::new();
    match conn.read_head(bytes, limits, &mut slots)? {
        Parsed::Partial => Ok(0),
        Parsed::Complete(_, consumed) => Ok(consumed),
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const GET_10: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const POST_5: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const POST_CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const POST_EXPECT: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[test]
fn pipelined_requests_are_served_one_after_the_other() {
    let limits = HttpLimits::default();
    let stream = [GET, POST_5, b"abcde", GET_CLOSE].concat();
    let mut conn = ServerConn::new(&limits);
    assert_eq!(conn.state(), ServerState::Idle);
    let mut at = read(&mut conn, &stream, &limits).unwrap();
    assert_eq!(conn.state(), ServerState::Exchange);
    assert!(conn.is_request_complete());
    assert!(conn.respond(BodyLength::Length(1)));
    assert_eq!(conn.responded(), AfterResponse::NextRequest);

    at += read(&mut conn, &stream[at..], &limits).unwrap();
    assert!(!conn.is_request_complete());
    assert_eq!(conn.read_body(&stream[at..]), Ok((BodyStep::Data(0..5), 5)));
    at += 5;
    assert!(conn.is_request_complete());
    assert!(conn.respond(BodyLength::Chunked));
    assert_eq!(conn.responded(), AfterResponse::NextRequest);

    at += read(&mut conn, &stream[at..], &limits).unwrap();
    assert_eq!(at, stream.len());
    assert!(!conn.respond(BodyLength::None));
    assert_eq!(conn.responded(), AfterResponse::Linger);
    assert_eq!(conn.requests(), 3);
    assert_eq!(conn.on_eof(), ServerEof::Clean);
    assert_eq!(conn.state(), ServerState::Closed);
}

#[test]
fn what_keeps_a_connection() {
    let few = HttpLimits { requests_per_connection_max: 1, ..HttpLimits::default() };
    let cases: &[(&str, &[u8], HttpLimits, BodyLength, bool)] = &[
        ("1.1", GET, HttpLimits::default(), BodyLength::Length(1), true),
        ("close asked for", GET_CLOSE, HttpLimits::default(), BodyLength::Length(1), false),
        ("1.0", GET_10, HttpLimits::default(), BodyLength::Length(1), false),
        ("response until close", GET, HttpLimits::default(), BodyLength::UntilClose, false),
        ("last request", GET, few, BodyLength::Length(1), false),
        ("body outstanding", POST_5, HttpLimits::default(), BodyLength::Length(1), true),
        ("no 100 was sent", POST_EXPECT, HttpLimits::default(), BodyLength::Length(1), false),
        (
            "too much to throw away",
            POST_5,
            HttpLimits { discard_bytes_max: 4, ..HttpLimits::default() },
            BodyLength::Length(1),
            false,
        ),
    ];
    for (name, bytes, limits, framing, kept) in cases {
        let (mut conn, read) = server(limits, bytes);
        assert_eq!(read, Ok(bytes.len()), "{name}");
        assert_eq!(conn.respond(*framing), *kept, "{name}");
    }
    let (mut conn, _) = server(&HttpLimits::default(), POST_EXPECT);
    assert!(conn.awaits_continue());
    conn.continued();
    assert!(conn.respond(BodyLength::None), "after a 100 the body will come");
    let (mut conn, _) = server(&HttpLimits::default(), GET);
    conn.close_soon();
    assert!(!conn.respond(BodyLength::None), "the node drains");
    let mut conn = ServerConn::new(&HttpLimits::default());
    conn.close_soon();
    assert_eq!(conn.state(), ServerState::Closed, "an idle one goes at once");
}

#[test]
fn an_early_answer_drains_the_body_up_to_the_bound() {
    let limits = HttpLimits { discard_bytes_max: 20, ..HttpLimits::default() };
    let (mut conn, _) = server(&limits, POST_5);
    conn.respond(BodyLength::None);
    assert_eq!(conn.responded(), AfterResponse::Drain);
    assert_eq!(conn.discard(b"abc"), (3, Discarded::More));
    assert_eq!(conn.discard(b"deGET"), (2, Discarded::NextRequest));
    assert_eq!(conn.state(), ServerState::Idle);
    assert_eq!(read(&mut conn, GET, &limits), Ok(GET.len()));

    let (mut conn, _) = server(&limits, POST_CHUNKED);
    conn.respond(BodyLength::None);
    conn.responded();
    assert_eq!(conn.discard(b"3\r\nabc\r\n0\r\n\r\nGET"), (13, Discarded::NextRequest));

    let (mut conn, _) = server(&limits, POST_CHUNKED);
    conn.respond(BodyLength::None);
    conn.responded();
    assert_eq!(conn.discard(b"ff\r\n"), (4, Discarded::More));
    assert_eq!(conn.discard(&[b'a'; 40]), (40, Discarded::Close));
    assert_eq!(conn.state(), ServerState::Closed);

    let (mut conn, _) = server(&limits, POST_CHUNKED);
    conn.respond(BodyLength::None);
    conn.responded();
    assert_eq!(conn.discard(b"zz").1, Discarded::Close, "bad framing ends it");
}

#[test]
fn a_bad_message_is_answered_and_lingered_over() {
    let limits = HttpLimits { discard_bytes_max: 10, ..HttpLimits::default() };
    let (mut conn, read) = server(&limits, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(read.unwrap_err().status, 400);
    assert!(!conn.respond(BodyLength::Length(10)));
    assert_eq!(conn.responded(), AfterResponse::Linger);
    assert_eq!(conn.discard(b"GET /"), (5, Discarded::More));
    assert_eq!(conn.discard(b" HTTP"), (5, Discarded::Close));

    let (mut conn, _) = server(&limits, POST_CHUNKED);
    assert_eq!(conn.read_body(b"x\r\n").unwrap_err().status, 400);
    assert!(!conn.respond(BodyLength::Length(10)));
    assert_eq!(conn.responded(), AfterResponse::Linger);

    let (mut conn, read) = server(&limits, b"GET / HT");
    assert_eq!((read, conn.state()), (Ok(0), ServerState::Head));
    assert!(!conn.respond(BodyLength::Length(10)), "408");
    assert_eq!(conn.responded(), AfterResponse::Linger);
}

#[test]
fn the_end_of_a_clients_bytes() {
    let limits = HttpLimits::default();
    assert_eq!(ServerConn::new(&limits).on_eof(), ServerEof::Clean);
    assert_eq!(server(&limits, b"GET ").0.on_eof(), ServerEof::HeadTruncated);
    assert_eq!(server(&limits, POST_5).0.on_eof(), ServerEof::BodyTruncated);
    assert_eq!(server(&limits, POST_CHUNKED).0.on_eof(), ServerEof::BodyTruncated);
    let (mut conn, _) = server(&limits, GET);
    assert_eq!(conn.on_eof(), ServerEof::FinishResponse);
    assert!(!conn.respond(BodyLength::None));
    let (mut conn, _) = server(&limits, GET);
    conn.upgrade();
    assert_eq!(conn.state(), ServerState::Tunnel);
}

/// An origin connection that has served `exchanges` requests, and has been given another.
fn client(exchanges: u32, method: Method, has_body: bool, upgrade: bool) -> ClientConn {
    let limits = HttpLimits::default();
    let mut conn = ClientConn::new(&limits);
    for _ in 0..exchanges {
        conn.begin(Method::Get, false, false);
        assert_eq!(head(&mut conn, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(200));
        assert!(conn.finish(0));
    }
    conn.begin(method, has_body, upgrade);
    conn
}

fn head(conn: &mut ClientConn, bytes: &[u8]) -> Result<u16, Reject> {
    let mut slots = HeaderSlots::new();
    match conn.read_head(bytes, &HttpLimits::default(), &mut slots)? {
        Parsed::Partial => Ok(0),
        Parsed::Complete(head, consumed) => {
            assert_eq!(consumed, bytes.len());
            Ok(head.status())
        }
    }
}

#[test]
fn what_lets_an_origin_connection_be_used_again() {
    type Case = (&'static str, &'static [u8], &'static [u8], usize, bool);
    let cases: &[Case] = &[
        ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"abc", 0, true),
        ("bytes left", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"abc", 1, false),
        ("body short", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"abc", 0, false),
        ("close", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n", b"abc", 0, false),
        ("1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", b"abc", 0, false),
        ("until close", b"HTTP/1.1 200 OK\r\n\r\n", b"abc", 0, false),
    ];
    for &(name, bytes, body, left, reusable) in cases {
        let mut conn = client(0, Method::Get, false, false);
        assert_eq!(head(&mut conn, bytes), Ok(200), "{name}");
        assert_eq!(conn.read_body(body).unwrap().1, body.len(), "{name}");
        assert_eq!(conn.finish(left), reusable, "{name}");
        let state = if reusable { ClientState::Idle } else { ClientState::Closed };
        assert_eq!(conn.state(), state, "{name}");
    }
    let mut conn = client(0, Method::Post, true, false);
    assert_eq!(head(&mut conn, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), Ok(403));
    assert!(!conn.finish(0), "the request is not out yet");
    let mut conn = client(0, Method::Post, true, false);
    conn.request_sent();
    assert_eq!(head(&mut conn, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(200));
    assert!(conn.finish(0));
}

#[test]
fn interim_responses_and_upgrades() {
    let mut conn = client(0, Method::Get, false, false);
    assert_eq!(head(&mut conn, b"HTTP/1.1 103 Early Hints\r\n\r\n"), Ok(103));
    assert_eq!(conn.state(), ClientState::AwaitingHead);
    assert_eq!(head(&mut conn, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(200));
    assert_eq!(conn.state(), ClientState::Body);

    let mut conn = client(0, Method::Get, false, false);
    for _ in 0..16 {
        assert_eq!(head(&mut conn, b"HTTP/1.1 100 Continue\r\n\r\n"), Ok(100));
    }
    let reject = head(&mut conn, b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_err();
    assert_eq!(reject, Reject { status: 502, reason: RejectReason::TooManyInterim });

    const SWITCHING: &[u8] = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut conn = client(0, Method::Get, false, true);
    assert_eq!(head(&mut conn, SWITCHING), Ok(101));
    assert_eq!(conn.state(), ClientState::Tunnel);
    let mut conn = client(0, Method::Get, false, false);
    assert_eq!(head(&mut conn, SWITCHING).unwrap_err().reason, RejectReason::UpgradeUnasked);
    assert_eq!(conn.state(), ClientState::Closed);
    let mut conn = client(0, Method::Post, true, true);
    assert_eq!(head(&mut conn, SWITCHING).unwrap_err().reason, RejectReason::UpgradeUnasked, "too early");
}

#[test]
fn the_end_of_an_origins_bytes() {
    // Exchanges before, method, whether body bytes are gone, bytes of a response, and the verdict.
    let cases: &[(u32, Method, bool, &[u8], ClientEof)] = &[
        (1, Method::Get, false, b"", ClientEof::Retry),
        (1, Method::Put, false, b"", ClientEof::Retry),
        (0, Method::Get, false, b"", ClientEof::BadGateway),
        (1, Method::Post, false, b"", ClientEof::BadGateway),
        (1, Method::Extension, false, b"", ClientEof::BadGateway),
        (1, Method::Put, true, b"", ClientEof::BadGateway),
        (1, Method::Get, false, b"H", ClientEof::BadGateway),
        (1, Method::Get, false, b"HTTP/1.1 100 Continue\r\n\r\n", ClientEof::BadGateway),
        (1, Method::Get, false, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", ClientEof::Truncated),
        (
            1,
            Method::Get,
            false,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            ClientEof::Truncated,
        ),
        (1, Method::Get, false, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ClientEof::Clean),
        (1, Method::Get, false, b"HTTP/1.1 200 OK\r\n\r\n", ClientEof::Clean),
    ];
    for &(exchanges, method, used, bytes, want) in cases {
        let mut conn = client(exchanges, method, used, false);
        if used {
            conn.request_body_used();
        }
        head(&mut conn, bytes).unwrap();
        assert_eq!(conn.may_retry(), want == ClientEof::Retry);
        assert_eq!(conn.on_eof(false), want, "{method:?} {}", bytes.escape_ascii());
    }
    let mut conn = client(1, Method::Get, false, false);
    head(&mut conn, b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert_eq!(conn.on_eof(true), ClientEof::Truncated, "a reset ends no body");

    let mut conn = client(0, Method::Get, false, false);
    head(&mut conn, b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert_eq!(conn.on_eof(false), ClientEof::Clean);
    assert!(!conn.finish(0), "complete, and gone");
}
