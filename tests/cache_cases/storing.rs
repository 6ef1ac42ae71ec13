//! What is stored (RFC 9111 3).

use super::{Framing, Table, ask, get, head, ok, status};

pub fn cases(t: &mut Table) {
    for code in [
        200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 410, 413, 414, 421, 422,
        429, 451, 500, 501, 502, 503, 504, 299, 399, 499, 599,
    ] {
        t.kept("9111 3", format!("{code} with max-age is kept"), status(code).cc("max-age=60"));
        t.not_kept(
            "9111 5.2.2.5",
            format!("{code} with no-store is not kept"),
            status(code).cc("no-store, max-age=60"),
        );
    }
    t.not_kept(
        "9111 3.3",
        "a 206 nobody asked for is not kept",
        status(206).cc("max-age=60").field("Content-Range: bytes 0-0/9"),
    );
    for (section, name, cc) in [
        ("9111 5.2.2.5", "no-store", "no-store"),
        ("9111 5.2.2.5", "no-store after max-age", "max-age=60, no-store"),
        ("9111 5.2.2.7", "private", "private, max-age=60"),
        ("9111 5.2.2.7", "private in capitals", "PRIVATE, max-age=60"),
        ("9111 5.2.2.7", "private beside public", "public, private, max-age=60"),
        ("9111 5.2.2.5", "No-Store in mixed case", "max-age=60, No-Store"),
        ("9111 5.2.2.5", "no-store with an argument", "no-store=1, max-age=60"),
    ] {
        t.not_kept(section, format!("not kept: {name}"), ok(cc));
    }
    t.not_kept(
        "9111 5.2.2.5",
        "no-store on a line of its own",
        ok("max-age=60").field("Cache-Control: no-store"),
    );
    t.not_kept(
        "9111 5.2.2.7",
        "private with the name of a field that is there",
        ok("max-age=60, private=\"X-Me\"").field("X-Me: 1"),
    );
    t.kept(
        "9111 5.2.2.7",
        "private with the name of a field that is not there",
        ok("max-age=60, private=\"X-Me\""),
    );
    // Authorization.
    let auth = || get().with("Authorization: Basic dGVzdDp0ZXN0");
    for (cc, kept) in [
        ("max-age=60", false),
        ("", false),
        ("max-age=60, immutable", false),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, proxy-revalidate", false),
        ("max-age=60, s-maxage=30", true),
    ] {
        let name = format!(
            "the answer to a request with Authorization, \"{cc}\", is {}",
            if kept { "kept" } else { "not kept" }
        );
        match kept {
            true => t.kept_for("9111 3.5", name, auth(), ok(cc)),
            false => t.not_kept_for("9111 3.5", name, auth(), ok(cc)),
        }
    }
    t.add(
        "9111 3.5",
        "a request with Authorization may be answered by what is stored",
        [get().origin(ok("max-age=60")), auth().hit("a")],
    );
    // Requests.
    t.not_kept_for(
        "9111 5.2.1.5",
        "the answer to a request with no-store is not kept",
        get().with_cc("no-store"),
        ok("max-age=60"),
    );
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "BREW"] {
        t.not_kept_for(
            "9111 3",
            format!("the answer to {method} is not kept"),
            ask(method),
            ok("max-age=60"),
        );
        t.add(
            "9111 4",
            format!("{method} is not answered from the store"),
            [get().origin(ok("max-age=60")), ask(method).origin(ok("no-store").body("done"))],
        );
    }
    t.add(
        "9111 3",
        "a request with a body goes to the origin",
        [
            get().origin(ok("max-age=60")),
            get().with("Content-Length: 2\r\n\r\nhi").if_asked(ok("max-age=60")).asked(1),
        ],
    );
    // HEAD.
    t.add(
        "9110 9.3.2",
        "HEAD is answered from a stored GET",
        [
            get().origin(ok("max-age=60").body("hello").field("X-Any: thing")),
            head().hit("").has("content-length", "5").has("x-any", "thing"),
        ],
    );
    t.add(
        "9111 3",
        "HEAD's answer is none for GET",
        [head().origin(ok("max-age=60")), get().origin(ok("max-age=60"))],
    );
    // Framings.
    t.kept(
        "9111 3.3",
        "a body in chunks is kept",
        ok("max-age=60").framing(Framing::Chunked).body("a body of some pieces"),
    );
    t.kept(
        "9111 3.3",
        "a body up to the end of the connection is kept",
        ok("max-age=60").framing(Framing::UntilClose),
    );
    t.kept("9111 3.3", "an empty body is kept", ok("max-age=60").body(""));
    let cut = ok("max-age=60").body("this body is cut").framing(Framing::Cut(4));
    t.add(
        "9111 3.3",
        "an incomplete body is not kept, and not taken for whole",
        [get().if_asked(cut).broken(), get().after(1.5).origin(ok("max-age=60").body("whole"))],
    );
    t.add(
        "9111 3.3",
        "a stored body in chunks has a length",
        [
            get()
                .if_asked(ok("max-age=60").framing(Framing::Chunked).body("0123456789abc"))
                .body("0123456789abc"),
            get().hit("0123456789abc").has("content-length", "13").has_not("transfer-encoding"),
        ],
    );
    t.add(
        "9111 3.1",
        "trailers are not stored as fields",
        [
            get().if_asked(ok("max-age=60").framing(Framing::Trailers).field("Trailer: X-Sum")).asked(1),
            get().hit("a").has_not("x-sum"),
        ],
    );
    // Fields.
    for line in [
        "X-Unknown: some value",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Language: de",
        "ETag: \"abc\"",
        "Last-Modified: Mon, 01 Jan 2001 00:00:00 GMT",
        "Content-Location: /elsewhere",
        "Link: </style.css>; rel=preload",
        "Set-Cookie: a=b; Path=/",
        "Server: origin/1.0",
        "Warning: 110 - \"stale\"",
        "Strict-Transport-Security: max-age=1",
    ] {
        let (name, value) = line.split_once(": ").expect("a field");
        t.add(
            "9111 3.1",
            format!("{name} is stored"),
            [get().origin(ok("max-age=60").field(line)).has(name, value), get().hit("a").has(name, value)],
        );
    }
    for (line, why) in [
        ("Proxy-Authenticate: Basic", "3.1 names it"),
        ("Proxy-Authentication-Info: x=1", "3.1 names it"),
        ("Connection: X-Hop\r\nX-Hop: 1", "Connection names it"),
        ("Keep-Alive: timeout=5", "it is for one connection"),
        ("Proxy-Connection: keep-alive", "it is for one connection"),
    ] {
        let name = line.rsplit("\r\n").next().and_then(|l| l.split(':').next()).expect("a field");
        t.add(
            "9111 3.1",
            format!("{name} is not stored: {why}"),
            [get().origin(ok("max-age=60").field(line)), get().hit("a").has_not(name)],
        );
    }
    t.add(
        "9111 3.1",
        "a field on two lines is kept as that",
        [
            get().origin(ok("max-age=60").field("X-Two: 1").field("X-Two: 2")),
            get().hit("a").has("x-two", "1, 2"),
        ],
    );
    t.add(
        "9110 6.6.1",
        "Date is added where there is none",
        [get().origin(ok("max-age=60").no_date()), get().hit("a").has("date", "")],
    );
    t.add(
        "9110 6.6.1",
        "Date is the origin's",
        [
            get().origin(ok("max-age=60").no_date().field("Date: Thu, 18 Aug 2050 02:01:18 GMT")),
            get().hit("a").has("date", "Thu, 18 Aug 2050 02:01:18 GMT"),
        ],
    );
    t.add(
        "9111 3",
        "an interim response is not what is stored",
        [
            get().origin(ok("max-age=60").interim("HTTP/1.1 103 Early Hints\r\nLink: </a.css>")),
            get().hit("a").has_not("link"),
        ],
    );
    // Keys.
    for (name, one, other) in [
        ("paths", "/a", "/b"),
        ("queries", "?a=1", "?a=2"),
        ("a query and none", "?a=1", ""),
        ("an empty query and none", "?", ""),
        ("letters of another case", "/a", "/A"),
        ("a slash at the end", "/a", "/a/"),
    ] {
        t.add(
            "9111 2",
            format!("other URLs are other objects: {name}"),
            [
                get().at(one).origin(ok("max-age=60")),
                get().at(other).origin(ok("max-age=60").body("b")),
                get().at(one).hit("a"),
                get().at(other).hit("b"),
            ],
        );
    }
}
