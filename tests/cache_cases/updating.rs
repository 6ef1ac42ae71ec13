//! Validation by the cache: its requests, and what their answers change (RFC 9111 3.2, 4.3).

use super::{Table, get, head, not_modified, ok, status};

pub fn cases(t: &mut Table) {
    let tagged = |cc: &str| ok(cc).field("ETag: \"1\"");
    // What is asked.
    for (name, lines, tag, since) in [
        ("a tag", "ETag: \"1\"", "\"1\"", ""),
        ("a weak tag", "ETag: W/\"1\"", "W/\"1\"", ""),
        ("a date", "Last-Modified: Mon, 01 Jan 2001 00:00:00 GMT", "", "Mon, 01 Jan 2001 00:00:00 GMT"),
        (
            "both",
            "ETag: \"x,y\"\r\nLast-Modified: Mon, 01 Jan 2001 00:00:00 GMT",
            "\"x,y\"",
            "Mon, 01 Jan 2001 00:00:00 GMT",
        ),
    ] {
        let mut second = get().after(1.5).if_asked(not_modified("max-age=60")).asked(1).status(200).body("a");
        second = if tag.is_empty() {
            second.origin_has_not("if-none-match")
        } else {
            second.origin_has("if-none-match", tag)
        };
        second = if since.is_empty() {
            second.origin_has_not("if-modified-since")
        } else {
            second.origin_has("if-modified-since", since)
        };
        t.add(
            "9111 4.3.1",
            format!("a stale response is validated by {name}"),
            [get().origin(ok("max-age=1").field(lines)), second, get().hit("a")],
        );
    }
    t.add(
        "9111 4.3.1",
        "the client's own conditions are not the cache's",
        [
            get().origin(tagged("max-age=1")),
            get()
                .after(1.5)
                .with("If-None-Match: \"2\"")
                .if_asked(not_modified("max-age=60"))
                .asked(1)
                .status(200)
                .body("a"),
            get().with("If-None-Match: \"1\"").asked(0).status(304),
        ],
    );
    t.add(
        "9111 4.3.3",
        "a client with the tag gets 304 from a validated response",
        [
            get().origin(tagged("max-age=1")),
            get()
                .after(1.5)
                .with("If-None-Match: \"1\"")
                .if_asked(not_modified("max-age=60"))
                .asked(1)
                .status(304),
        ],
    );
    t.add(
        "9111 4.3.1",
        "without a validator the whole is fetched",
        [
            get().origin(ok("max-age=1")),
            get()
                .after(1.5)
                .origin(ok("max-age=60").body("b"))
                .origin_has_not("if-none-match")
                .origin_has_not("if-modified-since"),
            get().hit("b"),
        ],
    );
    // Freshened.
    for (name, cc, n) in [
        ("a new max-age", "max-age=20", 20),
        ("a shorter one", "max-age=5", 5),
        ("s-maxage", "s-maxage=9", 9),
    ] {
        t.add(
            "9111 4.3.4",
            format!("a 304 freshens: {name}"),
            [
                get().origin(tagged("max-age=10")),
                get().after(12.0).if_asked(not_modified(cc)).asked(1).status(200).body("a"),
                get().after(n as f64 - 1.0).hit("a").age(n - 1),
                get().after(2.0).if_asked(not_modified(cc)).asked(1).status(200).body("a"),
            ],
        );
    }
    t.add(
        "9111 4.3.4",
        "a 304 that says nothing freshens by the stored max-age",
        [
            get().origin(tagged("max-age=10")),
            get().after(12.0).if_asked(not_modified("")).asked(1).status(200).body("a"),
            get().after(9.0).hit("a").age(9),
        ],
    );
    for (name, value) in [
        ("X-Any", "new"),
        ("Content-Language", "de"),
        ("Set-Cookie", "a=2"),
        ("Content-Type", "text/plain"),
        ("Expires", "Thu, 18 Aug 2050 02:01:18 GMT"),
        ("Link", "</b.css>"),
    ] {
        t.add(
            "9111 3.2",
            format!("a 304 updates {name}"),
            [
                get().origin(tagged("max-age=1").field(&format!("{name}: old"))),
                get()
                    .after(1.5)
                    .if_asked(not_modified("max-age=60").field(&format!("{name}: {value}")))
                    .asked(1)
                    .has(name, value),
                get().hit("a").has(name, value),
            ],
        );
    }
    t.add(
        "9111 3.2",
        "a 304 adds fields, and leaves alone what it does not name",
        [
            get().origin(tagged("max-age=1").field("X-Old: 1")),
            get().after(1.5).if_asked(not_modified("max-age=60").field("X-New: 2")).asked(1),
            get().hit("a").has("x-old", "1").has("x-new", "2"),
        ],
    );
    for (name, old, new) in [
        ("Content-Length", "1", "99"),
        ("Content-Encoding", "gzip", "br"),
        ("Content-Range", "bytes 0-0/1", "bytes 0-9/10"),
    ] {
        if name == "Content-Range" {
            continue; // A 200 has none.
        }
        let first = if name == "Content-Length" {
            tagged("max-age=1")
        } else {
            tagged("max-age=1").field(&format!("{name}: {old}"))
        };
        t.add(
            "9111 3.2",
            format!("a 304 does not update {name}"),
            [
                get().origin(first),
                get()
                    .after(1.5)
                    .if_asked(not_modified("max-age=60").field(&format!("{name}: {new}")))
                    .asked(1)
                    .body("a"),
                get().hit("a").has(name, old),
            ],
        );
    }
    t.add(
        "9111 4.3.4",
        "a 304 that says no-store ends the storing",
        [
            get().origin(tagged("max-age=1")),
            get().after(1.5).if_asked(not_modified("no-store")).asked(1).status(200).body("a"),
            get().origin(ok("max-age=60").body("b")),
        ],
    );
    t.add(
        "9111 4.3.4",
        "a 304 with another strong tag is about something else: the whole is fetched",
        [
            get().origin(tagged("max-age=1").field("X-Any: old")),
            get()
                .after(1.5)
                .if_asked(not_modified("max-age=60").field("ETag: \"2\"").field("X-Any: new"))
                .then(ok("max-age=60").field("ETag: \"2\"").body("b"))
                .asked(2)
                .status(200)
                .body("b")
                .origin_has_not("if-none-match"),
            get().hit("b").has("etag", "\"2\""),
        ],
    );
    t.add(
        "9111 4.3.4",
        "a 304 with a strong tag that is stored as a weak one (as by who compresses) must not update it: the whole is fetched",
        [
            get().origin(ok("max-age=1").field("ETag: W/\"1\"")),
            get()
                .after(1.5)
                .if_asked(not_modified("max-age=60").field("ETag: \"1\""))
                .then(ok("max-age=60").field("ETag: \"1\"").body("b"))
                .asked(2)
                .status(200)
                .body("b"),
            get().hit("b").has("etag", "\"1\""),
        ],
    );
    t.add(
        "9111 4.3.4",
        "a 304 without a validator is about what was asked",
        [
            get().origin(tagged("max-age=1")),
            get().after(1.5).if_asked(not_modified("max-age=60")).asked(1).status(200).body("a"),
            get().hit("a").has("etag", "\"1\""),
        ],
    );
    t.add(
        "9111 4.3.4",
        "a 304 with the stored weak tag freshens",
        [
            get().origin(ok("max-age=1").field("ETag: W/\"1\"")),
            get()
                .after(1.5)
                .if_asked(not_modified("max-age=60").field("ETag: W/\"1\""))
                .asked(1)
                .status(200)
                .body("a"),
            get().hit("a"),
        ],
    );
    // Replaced.
    for code in [200, 203, 404, 410, 301] {
        t.add(
            "9111 4.3.3",
            format!("a {code} takes the place of what was validated"),
            [
                get().origin(tagged("max-age=1")),
                get().after(1.5).origin(status(code).cc("max-age=60").body("b")),
                get().asked(0).status(code).body("b"),
            ],
        );
    }
    t.add(
        "9111 4.3.3",
        "a 200 that must not be stored takes the place of what was validated, for its client",
        [
            get().origin(tagged("max-age=1")),
            get().after(1.5).origin(ok("no-store").body("b")),
            get().origin(ok("max-age=60").body("c")),
        ],
    );
    for code in [500, 502, 503, 504] {
        t.add(
            "9111 4.3.3",
            format!("a {code} is passed on where nothing stale may be served"),
            [
                get().origin(tagged("max-age=1, must-revalidate")),
                get().after(1.5).origin(status(code).body("b")),
            ],
        );
    }
    // HEAD.
    t.add(
        "9111 4.3.5",
        "a stale response is validated for HEAD as well",
        [
            get().origin(tagged("max-age=1")),
            head().after(1.5).if_asked(not_modified("max-age=60")).status(200).body(""),
        ],
    );
    // Unsafe methods.
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        t.add(
            "9111 4",
            format!("{method} is written through"),
            [super::ask(method).origin(ok("no-store").body("done"))],
        );
    }
    for method in ["OPTIONS", "TRACE"] {
        if method == "TRACE" {
            continue; // Not everybody passes it on.
        }
        t.add(
            "9111 4.4",
            format!("{method} is safe: it invalidates nothing"),
            [get().origin(ok("max-age=60")), super::ask(method).if_asked(ok("no-store")), get().hit("a")],
        );
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        t.add(
            "9111 4.4",
            format!("{method} that fails invalidates nothing"),
            [
                get().origin(ok("max-age=60")),
                super::ask(method).if_asked(status(500).cc("no-store")),
                get().hit("a"),
            ],
        );
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        for code in [200, 201, 204, 303] {
            t.add(
                "9111 4.4",
                format!("{method} with {code} invalidates its own URL"),
                [
                    get().origin(ok("max-age=60")),
                    super::ask(method).if_asked(status(code).cc("no-store")).asked(1).status(code),
                    get().origin(ok("max-age=60").body("b")),
                    get().hit("b"),
                ],
            );
        }
        t.add(
            "9111 4.4",
            format!("{method} invalidates all variants"),
            [
                get().with("Foo: 1").origin(ok("max-age=60").field("Vary: Foo")),
                get().with("Foo: 2").origin(ok("max-age=60").field("Vary: Foo")),
                super::ask(method).if_asked(ok("no-store")).asked(1),
                get().with("Foo: 1").origin(ok("max-age=60").field("Vary: Foo").body("b")),
                get().with("Foo: 2").origin(ok("max-age=60").field("Vary: Foo").body("b")),
            ],
        );
        t.add(
            "9111 4.4",
            format!("{method} invalidates no other URL"),
            [
                get().at("/x").origin(ok("max-age=60")),
                super::ask(method).at("/y").if_asked(ok("no-store")).asked(1),
                get().at("/x").hit("a"),
            ],
        );
        for name in ["Location", "Content-Location"] {
            for (how, value, goes) in [
                ("of a path", "{url}/other", true),
                ("of a URL", "http://book.lab{url}/other", true),
                ("relative", "other", true),
                ("of another host", "http://elsewhere.lab{url}/other", false),
            ] {
                let last = get().at("/other");
                let last = if goes { last.origin(ok("max-age=60").body("b")) } else { last.hit("a") };
                let section = if goes { "9111 4.4 (MAY)" } else { "9111 4.4" };
                t.add(
                    section,
                    format!("{method}: {name} {how} is {}", if goes { "invalidated" } else { "left alone" }),
                    [
                        get().at("/other").origin(ok("max-age=60")),
                        super::ask(method)
                            .at("/form")
                            .if_asked(ok("no-store").field(&format!("{name}: {value}")))
                            .asked(1),
                        last,
                    ],
                );
            }
        }
    }
    // RFC 9111 4.3.5.
    for (name, lines, outdated) in [
        ("another tag", "ETag: \"2\"", true),
        ("the same tag", "ETag: \"1\"", false),
        ("another Last-Modified", "ETag: \"1\"\r\nLast-Modified: Mon, 01 Jan 2007 00:00:00 GMT", true),
    ] {
        let first = tagged("max-age=60").field("Last-Modified: Mon, 01 Jan 2001 00:00:00 GMT");
        let last = get();
        let last = match outdated {
            true => last.if_asked(ok("max-age=60").field("ETag: \"2\"").body("b")).asked(1).body("b"),
            false => last.hit("a"),
        };
        t.add(
            "9111 4.3.5",
            format!("HEAD's 200 from the origin says what GET is worth: {name}"),
            [
                get().origin(first),
                head().with_cc("no-cache").if_asked(ok("max-age=60").field(lines)).asked(1),
                last,
            ],
        );
    }
}
