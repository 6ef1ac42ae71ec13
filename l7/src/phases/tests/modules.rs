//! The modules of the node, through programs, over whole heads.

use super::*;
use crate::http1::{ErrorContext, Version};
use crate::phases::modules::{RedirectError, RedirectTo};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// The status and the Location that a redirect gives, if it gives any.
fn location(status: u16, to: &RedirectTo, scheme: Scheme, request: &str) -> Option<String> {
    let redirect = Redirect::new(status, to, Filter::ALWAYS).expect("a good redirect");
    let program = Program::builder().with(redirect).unwrap().build();
    with_view(request, scheme, |view| {
        let answer = program.request(view)?;
        let ctx = ErrorContext {
            method: Some(view.method),
            version: Some(Version::Http11),
            close: false,
            date: DATE,
        };
        let text =
            written(|sink| write_answer(&answer, view, &ctx, &ErrorPages::none(), &EditList::NONE, sink));
        assert!(answer.status().is_some_and(|status| text.starts_with(&format!("HTTP/1.1 {status} "))));
        Some(text.split("\r\nLocation: ").nth(1)?.split("\r\n").next()?.to_owned())
    })
}

#[test]
fn to_https() {
    let get = "GET /a//b/../c?x=y HTTP/1.1\r\nHost: Example.com:8080\r\n\r\n";
    for (port, scheme, request, want) in [
        (443, Scheme::Http, get, Some("https://Example.com/a//b/../c?x=y")),
        (8443, Scheme::Http, get, Some("https://Example.com:8443/a//b/../c?x=y")),
        (443, Scheme::Https, get, None),
        (443, Scheme::Http, "GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", Some("https://[2001:db8::1]/")),
        (443, Scheme::Http, "GET /? HTTP/1.1\r\nHost: a\r\n\r\n", Some("https://a/?")),
        (
            443,
            Scheme::Http,
            "GET //evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Some("https://a//evil.example/"),
        ),
        (443, Scheme::Http, "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", Some("https://b/")),
        (443, Scheme::Http, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ] {
        assert_eq!(location(301, &RedirectTo::Https(port), scheme, request).as_deref(), want, "{request}");
    }
    // Nowhere to send it: refused, not served without TLS.
    let redirect = Redirect::new(308, &RedirectTo::Https(443), Filter::ALWAYS).unwrap();
    let program = Program::builder().with(redirect).unwrap().build();
    with_view("GET / HTTP/1.0\r\n\r\n", Scheme::Http, |view| {
        assert!(matches!(program.request(view), Some(Answer::Error(400))));
    });
}

#[test]
fn to_the_canonical_host() {
    let to = RedirectTo::Host("www.example.com".to_owned());
    let with_port = RedirectTo::Host("www.example.com:8080".to_owned());
    for (to, scheme, request, want) in [
        (
            &to,
            Scheme::Https,
            "GET /a?b HTTP/1.1\r\nHost: example.com\r\n\r\n",
            Some("https://www.example.com/a?b"),
        ),
        (&to, Scheme::Http, "GET /a HTTP/1.1\r\nHost: x:81\r\n\r\n", Some("http://www.example.com/a")),
        (&to, Scheme::Http, "GET /a HTTP/1.0\r\n\r\n", Some("http://www.example.com/a")),
        (&to, Scheme::Http, "GET /a HTTP/1.1\r\nHost: WWW.example.COM:81\r\n\r\n", None),
        (&with_port, Scheme::Http, "GET / HTTP/1.1\r\nHost: b\r\n\r\n", Some("http://www.example.com:8080/")),
        (&with_port, Scheme::Http, "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", None),
    ] {
        assert_eq!(location(307, to, scheme, request).as_deref(), want, "{request}");
    }
}

#[test]
fn to_a_url() {
    let get = "GET /a/b?q HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for (url, want) in [
        ("https://new.example{path}", "https://new.example/a/b"),
        ("/moved{path}?from={host}", "/moved/a/b?from=a.example"),
        ("/", "/"),
        ("{scheme}://{host}/x", "http://a.example/x"),
    ] {
        assert_eq!(location(302, &RedirectTo::Url(url.to_owned()), Scheme::Http, get).as_deref(), Some(want));
    }
    for bad in [
        "",
        "{path}",
        "/{path}",
        "//evil.example",
        "/\\evil.example",
        "https://",
        "https://{path}",
        "https:///x",
        "javascript:x",
        "x.example",
        "https://a b",
        "https://a\r\nX: y",
        "https://a/{nothing}",
        "https://a/{",
        "https://\u{e4}.example/",
    ] {
        let made = Redirect::new(301, &RedirectTo::Url(bad.to_owned()), Filter::ALWAYS);
        assert_eq!(made.map(|_| ()), Err(RedirectError::UrlInvalid), "{bad:?}");
    }
    for status in [200, 300, 303, 304, 309, 404] {
        let made = Redirect::new(status, &RedirectTo::Https(443), Filter::ALWAYS);
        assert_eq!(made.map(|_| ()), Err(RedirectError::StatusInvalid));
    }
    for host in ["", "a b", "a/b", "a\r\nb", "user@a", "a:x"] {
        let made = Redirect::new(301, &RedirectTo::Host(host.to_owned()), Filter::ALWAYS);
        assert_eq!(made.map(|_| ()), Err(RedirectError::HostInvalid), "{host:?}");
    }
}

#[test]
fn location_cannot_become_two_lines() {
    for to in [
        RedirectTo::Https(443),
        RedirectTo::Host("x".to_owned()),
        RedirectTo::Url("/x{path}{host}".to_owned()),
    ] {
        let redirect = Redirect::new(301, &to, Filter::ALWAYS).unwrap();
        with_view("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Scheme::Http, |view| {
            // No parser gives these.
            let view = RequestView { host: b"a\r\nX: y", path: b"/\nb", query: Some(b"\r"), ..*view };
            let text = written(|sink| redirect.write_location(&view, sink));
            assert!(!text.contains(['\r', '\n']), "{text:?}");
        });
    }
}

#[test]
fn answers_are_whole_responses_with_edits() {
    let edit =
        HeadEdit::new(Message::Response, &spec(&[("Cache-Control", "max-age=5")], &[("H", "{host}")], &[]))
            .unwrap();
    let pages = ErrorPages::new([("4xx", b"<p>own".to_vec())]).unwrap();
    with_view("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Scheme::Http, |view| {
        let edits = EditList { edits: &[&edit], vars: view.vars() };
        let ctx = ErrorContext {
            method: Some(Method::Get),
            version: Some(Version::Http11),
            close: true,
            date: DATE,
        };
        let text = written(|sink| write_answer(&Answer::Error(404), view, &ctx, &pages, &edits, sink));
        assert_eq!(
            text,
            "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Type: text/html; charset=utf-8\r\nCache-Control: max-age=5\r\nH: a.example\r\n\
             Content-Length: 6\r\nConnection: close\r\n\r\n<p>own"
        );
        let head = ErrorContext { method: Some(Method::Head), ..ctx };
        let text =
            written(|sink| write_answer(&Answer::Error(404), view, &head, &pages, &EditList::NONE, sink));
        assert!(text.ends_with("Content-Length: 6\r\nConnection: close\r\n\r\n"));
        let text =
            written(|sink| write_answer(&Answer::Error(503), view, &ctx, &pages, &EditList::NONE, sink));
        assert!(text.contains("<h1>503 Service Unavailable</h1>"));
        assert_eq!(written(|sink| write_answer(&Answer::Close, view, &ctx, &pages, &edits, sink)), "");
    });
}

#[test]
fn header_modules_hand_out_their_edits() {
    let program = Program::builder()
        .with(RequestHeaders::new(&spec(&[("A", "1")], &[], &[]), Filter::ALWAYS).unwrap())
        .unwrap()
        .with(ResponseHeaders::new(&spec(&[("B", "2")], &[], &[]), Filter::ALWAYS).unwrap())
        .unwrap()
        .with(StripInternal::new(vec!["X-Internal-*".to_owned(), "X-Debug".to_owned()]).unwrap())
        .unwrap()
        .build();
    with_view("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Scheme::Http, |view| {
        let text = |edits: &Edits<'_>| written(|sink| EditList { edits, vars: view.vars() }.append(sink));
        assert_eq!(text(&program.origin_request(view)), "A: 1\r\n");
        with_response("HTTP/1.1 200 OK\r\nX-Debug: 1\r\nX-Internal-Id: 2\r\nC: 3\r\n\r\n", |head| {
            let response = ResponseView { status: 200, headers: Some(head.headers()) };
            assert_eq!(text(&program.response(view, &response)), "B: 2\r\n");
            let mut edits = program.origin_response(view, &response);
            edits.extend(program.response(view, &response));
            let list = EditList { edits: &edits, vars: view.vars() };
            assert_eq!(written(|sink| apply_edits(&head.headers(), &list, sink)), "C: 3\r\nB: 2\r\n");
        });
    });
    assert!(StripInternal::new(vec!["Content-Length".to_owned()]).is_err());
}
