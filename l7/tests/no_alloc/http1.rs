//! The HTTP/1.1 layer allocates nothing: not for a request, not for a response, not for what it refuses.

use l7::http1::*;
use l7::phases::EditList;

use crate::malloc::assert_none;

const REQUEST: &[u8] =
    b"POST /a?b HTTP/1.1\r\nHost: a:81\r\nTE: trailers\r\nConnection: TE, X-Hop, Upgrade\r\n\
    X-Hop: 1\r\nUpgrade: websocket\r\nExpect: 100-continue\r\nX-Forwarded-For: 1.1.1.1\r\nX:y\r\n\
    Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nabcde\r\n0\r\nA: b\r\nHost: c\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";

fn exchange(limits: &HttpLimits, slots: &mut HeaderSlots, room: &mut [u8]) {
    let mut server = ServerConn::new(limits);
    let mut client = ClientConn::new(limits);
    let mut sink = SliceSink::new(room);

    // In pieces first, so that the scan runs too.
    for end in 1..100 {
        assert!(matches!(server.read_head(&REQUEST[..end], limits, slots), Ok(Parsed::Partial)));
    }
    let Ok(Parsed::Complete(head, mut at)) = server.read_head(REQUEST, limits, slots) else {
        panic!("a request")
    };
    let to_origin = ToOrigin {
        client_ip: "2001:db8::1".parse().expect("an address"),
        client_tls: true,
        identity: None,
        host: None,
        forward_expect: true,
        forward_upgrade: true,
        keep_alive: true,
        edits: &[],
    };
    write_request_to_origin(&head, &to_origin, &mut sink).expect("room");
    let (method, version) = (head.method(), head.version());
    while !server.is_request_complete() {
        let (_, consumed) = server.read_body(&REQUEST[at..]).expect("a body");
        at += consumed;
    }

    client.begin(method, true, true);
    client.request_sent();
    let Ok(Parsed::Complete(head, at)) = client.read_head(RESPONSE, limits, slots) else {
        panic!("a response")
    };
    let date = http_date::format(784_111_777);
    let to_client = ToClient {
        version,
        method,
        keep_alive: server.respond(outgoing_body(&head, version)),
        date: &date,
        own: b"",
        edits: EditList::NONE,
    };
    write_response_to_client(&head, &to_client, &mut sink).expect("room");
    client.read_body(&RESPONSE[at..]).expect("a body");
    client.finish(0);
    server.responded();

    let error = ErrorContext { method: None, version: None, close: true, date: &date };
    for bad in [
        &b"GET / HTTP/3.0\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03",
        b"GET / HTTP/1.1\r\nA : b\r\n",
    ] {
        let reject = ServerConn::new(limits).read_head(bad, limits, slots).expect_err("it is bad");
        write_error(reject.status, &error, &mut sink).expect("room");
    }
}

#[test]
fn nothing_is_allocated() {
    let limits = HttpLimits::default();
    let mut slots = HeaderSlots::new();
    let mut room = [0; 16 * 1024];
    assert_none(|| exchange(&limits, &mut slots, &mut room));
}
