//! What goes on to the next hop, byte for byte.

use core::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::phases::EditList;

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn origin() -> ToOrigin<'static> {
    ToOrigin {
        client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        client_tls: true,
        identity: None,
        host: None,
        forward_expect: true,
        forward_upgrade: true,
        keep_alive: true,
        edits: &[],
    }
}

fn to_origin(request: &str, ctx: &ToOrigin<'_>) -> String {
    with_request(request.as_bytes(), |head| written(|sink| write_request_to_origin(&head, ctx, sink)))
}

fn to_client(response: &str, method: Method, version: Version, keep_alive: bool) -> String {
    let ctx = ToClient { version, method, keep_alive, date: DATE, own: b"", edits: EditList::NONE };
    with_response(response.as_bytes(), method, |head| {
        written(|sink| write_response_to_client(&head, &ctx, sink))
    })
}

#[test]
fn a_request_as_a_browser_sends_it() {
    assert_eq!(
        to_origin(
            "GET /a?b HTTP/1.1\r\nUser-Agent: x\r\nHost: example.com:8080\r\nAccept: */*\r\nConnection: keep-alive\r\n\
             Cookie: c\r\nX-Real-IP: 1\r\n\r\n",
            &origin()
        ),
        "GET /a?b HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: x\r\nAccept: */*\r\nCookie: c\r\nX-Real-IP: 1\r\n\
         Via: 1.1 millrace\r\nX-Forwarded-For: 192.0.2.10\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: example.com:8080\r\n\r\n"
    );
}

#[test]
fn what_is_hop_by_hop_stays_behind() {
    assert_eq!(
        to_origin(
            "POST http://b HTTP/1.1\r\nHost: a\r\nConnection: X-Secret, close, host, Content-Length\r\nx-secret: 1\r\n\
             Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\nProxy: z\r\nTE: gzip\r\n\
             Upgrade: websocket\r\nX :nothing\r\nContent-Length: 005\r\n\r\n"
                .replace("X :nothing", "X:   tidied  ")
                .as_str(),
            &ToOrigin { keep_alive: false, client_tls: false, ..origin() }
        ),
        "POST / HTTP/1.1\r\nHost: b\r\nX: tidied\r\nContent-Length: 5\r\nVia: 1.1 millrace\r\n\
         X-Forwarded-For: 192.0.2.10\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: b\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn forwarding_fields_are_appended_to_or_replaced() {
    let request = "GET / HTTP/1.0\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: x\r\nX-Forwarded-Host: y\r\n\
                   Via: 1.0 z\r\nX-Forwarded-For: 2.2.2.2\r\n\r\n";
    let ctx = ToOrigin { client_ip: "2001:db8::1".parse().unwrap(), host: Some(b"origin:81"), ..origin() };
    assert_eq!(
        to_origin(request, &ctx),
        "GET / HTTP/1.1\r\nHost: origin:81\r\nVia: 1.0 z\r\nVia: 1.0 millrace\r\n\
         X-Forwarded-For: 1.1.1.1, 2.2.2.2, 2001:db8::1\r\nX-Forwarded-Proto: https\r\n\r\n"
    );
    let nominated =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nConnection: x-forwarded-for\r\n\r\n";
    assert!(to_origin(nominated, &origin()).contains("X-Forwarded-For: 192.0.2.10\r\n"));
}

#[test]
fn expectations_upgrades_trailers_and_max_forwards() {
    let tail = "Via: 1.1 millrace\r\nX-Forwarded-For: 192.0.2.10\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n";
    let first = "Host: a\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\
                TE: trailers, deflate\r\nConnection: TE\r\n\r\n";
    assert_eq!(
        to_origin(post, &origin()),
        format!(
            "POST / HTTP/1.1\r\n{first}Trailer: X\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n{tail}\
             TE: trailers\r\nConnection: TE\r\n\r\n"
        )
    );
    assert!(!to_origin(post, &ToOrigin { forward_expect: false, ..origin() }).contains("Expect"));

    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, WebSocket\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   HTTP2-Settings: x\r\n\r\n";
    assert_eq!(
        to_origin(upgrade, &origin()),
        format!("GET / HTTP/1.1\r\n{first}{tail}Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n")
    );
    let without = ToOrigin { forward_upgrade: false, ..origin() };
    assert_eq!(to_origin(upgrade, &without), format!("GET / HTTP/1.1\r\n{first}{tail}\r\n"));
    let h2c = upgrade.replace(", WebSocket", "");
    assert_eq!(
        to_origin(&h2c, &origin()),
        format!("GET / HTTP/1.1\r\n{first}{tail}\r\n"),
        "h2c never goes on"
    );

    assert_eq!(
        to_origin("OPTIONS http://a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n", &origin()),
        format!("OPTIONS * HTTP/1.1\r\n{first}Max-Forwards: 4\r\n{tail}\r\n")
    );
    assert_eq!(
        to_origin("GET http://a?q HTTP/1.1\r\nHost: b\r\nMax-Forwards: 5\r\n\r\n", &origin()),
        format!("GET /?q HTTP/1.1\r\n{first}Max-Forwards: 5\r\n{tail}\r\n")
    );
}

#[test]
fn responses_are_framed_for_the_client() {
    use Method::{Get, Head};
    use Version::{Http10, Http11};
    let via = "Via: 1.1 millrace\r\n";
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let length = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: D\r\nContent-Length: 05\r\nConnection: keep-alive, X-A\r\nX-A: 1\r\n\r\n";
    assert_eq!(
        to_client(length, Get, Http11, true),
        format!("HTTP/1.1 200 OK\r\nServer: x\r\nDate: D\r\nContent-Length: 5\r\n{via}\r\n")
    );
    assert_eq!(
        to_client(length, Get, Http11, false),
        format!(
            "HTTP/1.1 200 OK\r\nServer: x\r\nDate: D\r\nContent-Length: 5\r\n{via}Connection: close\r\n\r\n"
        )
    );
    assert_eq!(
        to_client(length, Head, Http10, true),
        format!(
            "HTTP/1.1 200 OK\r\nServer: x\r\nDate: D\r\nContent-Length: 5\r\n{via}Connection: keep-alive\r\n\r\n"
        )
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n";
    assert_eq!(
        to_client(chunked, Get, Http11, true),
        format!("HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n{date}{via}\r\n")
    );
    assert_eq!(
        to_client(chunked, Get, Http10, true),
        format!("HTTP/1.1 200 OK\r\n{date}{via}Connection: close\r\n\r\n")
    );
    let until_close = "HTTP/1.0 200\r\n\r\n";
    assert_eq!(
        to_client(until_close, Get, Http11, true),
        format!("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n{date}Via: 1.0 millrace\r\n\r\n")
    );
    assert_eq!(
        to_client("HTTP/1.1 304 N\r\nContent-Length: 7\r\nETag: e\r\n\r\n", Get, Http11, true),
        format!("HTTP/1.1 304 N\r\nETag: e\r\nContent-Length: 7\r\n{date}{via}\r\n")
    );
    assert_eq!(
        to_client("HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n", Get, Http11, true),
        format!("HTTP/1.1 204 N\r\n{date}{via}\r\n")
    );
    assert_eq!(
        to_client("HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", Get, Http11, true),
        format!("HTTP/1.1 101 S\r\n{date}{via}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    );
}

#[test]
fn interim_responses_are_for_those_who_know_them() {
    let bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    with_response(bytes, Method::Get, |head| {
        let text = written(|sink| {
            assert_eq!(write_interim_to_client(&head, Version::Http10, sink), Ok(false));
            assert!(sink.is_empty());
            assert_eq!(write_interim_to_client(&head, Version::Http11, sink), Ok(true));
            Ok(())
        });
        assert_eq!(text, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 millrace\r\n\r\n");
    });
    assert_eq!(written(|sink| write_100_continue(sink)), "HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn error_pages_are_complete_messages() {
    for status in 400..600 {
        for (method, version, close) in [
            (Some(Method::Get), Some(Version::Http11), false),
            (Some(Method::Head), Some(Version::Http10), false),
            (None, None, true),
        ] {
            let ctx = ErrorContext { method, version, close, date: DATE };
            let text = written(|sink| write_error(status, &ctx, sink));
            let sent = method.unwrap_or(Method::Get);
            with_response(text.as_bytes(), sent, |head| {
                let body = text.split_once("\r\n\r\n").unwrap().1;
                assert_eq!(head.status(), status);
                assert_eq!(head.keep_alive(), !close);
                assert_eq!(head.headers().get(b"date"), Some(&DATE[..]));
                match sent {
                    Method::Head => assert!(body.is_empty() && head.content_length() > Some(0)),
                    _ => assert_eq!(head.body(), BodyLength::Length(body.len() as u64)),
                }
                assert_eq!(
                    head.headers().get(b"connection").is_some(),
                    close || version == Some(Version::Http10)
                );
            });
        }
    }
}

#[test]
fn a_full_sink_is_an_error_and_never_a_panic() {
    let bytes = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX:y\r\nZ: z\r\n\r\n";
    with_request(bytes, |head| {
        let needed = written(|sink| write_request_to_origin(&head, &origin(), sink)).len();
        for room in 0..needed {
            let mut room = vec![0; room];
            assert_eq!(write_request_to_origin(&head, &origin(), &mut SliceSink::new(&mut room)), Err(Full));
        }
    });
}
