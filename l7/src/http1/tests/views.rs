//! What a parsed head says about itself.

use super::*;

#[test]
fn a_request() {
    let bytes = b"GET /a/b?c=d HTTP/1.1\r\nHost: Example.com:8080\r\nAccept: x\r\nX: 1\r\nx: 2\r\n\
                  Connection: close, X-Hop ,,te\r\nTE: trailers\r\nX-Hop: 3\r\n\r\nnext";
    with_request(bytes, |head| {
        assert_eq!((head.method(), head.method_bytes()), (Method::Get, &b"GET"[..]));
        assert_eq!((head.target(), head.target_form()), (&b"/a/b?c=d"[..], TargetForm::Origin));
        assert_eq!((head.path(), head.query()), (&b"/a/b"[..], Some(&b"c=d"[..])));
        assert_eq!((head.host(), head.port()), (&b"Example.com"[..], Some(8080)));
        assert_eq!(head.authority(), b"Example.com:8080");
        assert_eq!((head.version(), head.scheme()), (Version::Http11, None));
        assert!(!head.keep_alive() && !head.expect_continue() && head.takes_trailers());

        let headers = head.headers();
        assert_eq!(headers.len(), 7);
        assert_eq!(headers.get(b"ACCEPT"), Some(&b"x"[..]));
        assert_eq!(headers.get(b"accep"), None);
        assert!(headers.get_all(b"X").eq([b"1", b"2"]));
        assert!(headers.connection_options().eq([&b"close"[..], b"X-Hop", b"te"]));
        for (name, hop) in [("x-hop", true), ("Keep-Alive", true), ("connection", true), ("accept", false)] {
            assert_eq!(headers.is_hop_by_hop(name.as_bytes()), hop, "{name}");
        }
    });
}

#[test]
fn targets_and_hosts() {
    type Case = (&'static str, TargetForm, &'static str, Option<&'static str>, &'static str, Option<u16>);
    let cases: &[Case] = &[
        ("/", TargetForm::Origin, "/", None, "h", Some(1)),
        ("/?", TargetForm::Origin, "/", Some(""), "h", Some(1)),
        ("//x/y", TargetForm::Origin, "//x/y", None, "h", Some(1)),
        ("/http://x/", TargetForm::Origin, "/http://x/", None, "h", Some(1)),
        ("http://b", TargetForm::Absolute, "/", None, "b", None),
        ("http://b:8/x?y", TargetForm::Absolute, "/x", Some("y"), "b", Some(8)),
        ("https://[::1]:8?y", TargetForm::Absolute, "/", Some("y"), "[::1]", Some(8)),
    ];
    for &(target, form, path, query, host, port) in cases {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: h:1\r\n\r\n");
        with_request(bytes.as_bytes(), |head| {
            assert_eq!(head.target(), target.as_bytes());
            assert_eq!(head.target_form(), form, "{target}");
            assert_eq!((head.path(), head.query()), (path.as_bytes(), query.map(str::as_bytes)), "{target}");
            assert_eq!((head.host(), head.port()), (host.as_bytes(), port), "{target}");
        });
    }
    with_request(b"GET / HTTP/1.0\r\n\r\n", |head| assert_eq!(head.host(), b""));
}

#[test]
fn what_becomes_of_the_connection() {
    let cases: &[(&str, &str, bool)] = &[
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive, close\r\n", false),
    ];
    for (version, lines, kept) in cases {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(with_request(bytes.as_bytes(), |head| head.keep_alive()), *kept, "{version} {lines}");
    }
    let upgrades: &[(&str, &str, Upgrade)] = &[
        ("1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n", Upgrade::WebSocket),
        ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: x/1, WebSocket\r\n", Upgrade::WebSocket),
        ("1.1", "Upgrade: x\r\nConnection: Upgrade\r\n", Upgrade::Other),
        ("1.1", "Upgrade: h2c\r\nConnection: Upgrade\r\n", Upgrade::None),
        ("1.1", "Upgrade: H2C/1\r\nConnection: Upgrade\r\n", Upgrade::None),
        ("1.1", "Upgrade: websocket\r\n", Upgrade::None),
        ("1.1", "Connection: upgrade\r\n", Upgrade::None),
        ("1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n", Upgrade::None),
    ];
    for (version, lines, upgrade) in upgrades {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(with_request(bytes.as_bytes(), |head| head.upgrade()), *upgrade, "{version} {lines}");
    }
    let expect = |version: &str| format!("GET / HTTP/{version}\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    assert!(with_request(expect("1.1").as_bytes(), |head| head.expect_continue()));
    assert!(!with_request(expect("1.0").as_bytes(), |head| head.expect_continue()));
}

#[test]
fn a_head_is_kept_small() {
    // It is moved out of the parser by value.
    assert!(size_of::<Parsed<RequestHead<'_>>>() <= 176);
    assert!(size_of::<HeaderSlots>() <= 1216);
    assert!(size_of::<ServerConn>() <= 128);
    assert!(size_of::<ClientConn>() <= 112);
}
