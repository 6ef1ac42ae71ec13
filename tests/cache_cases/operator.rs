//! What the operator may decide (RFC 9111 leaves it to "configuration"): lifetimes, keys, bounds.

use super::{Table, get, ok, status};

pub fn cases(t: &mut Table) {
    for cc in ["no-cache", "max-age=0", "no-store", "min-fresh=1000"] {
        t.on(
            "deaf",
            "9111 5.2.1",
            format!("a site may ignore the request's {cc}"),
            [get().origin(ok("max-age=60")), get().after(1.0).with_cc(cc).hit("a")],
        );
    }
    t.on(
        "guess",
        "9111 4.2.2",
        "default_ttl for what says nothing",
        [get().origin(ok("")), get().after(19.0).hit("a").age(19), get().after(2.0).origin(ok(""))],
    );
    t.on(
        "guess",
        "9111 4.2.2",
        "default_ttl says nothing about what has a lifetime",
        [get().origin(ok("max-age=5")), get().after(6.0).origin(ok(""))],
    );
    t.on(
        "guess",
        "9111 5.2.2.5",
        "default_ttl says nothing about no-store",
        [get().origin(ok("no-store")), get().origin(ok("no-store").body("b"))],
    );
    for (code, n) in [(404, 10), (503, 5)] {
        t.on(
            "guess",
            "9111 4.2.2",
            format!("negative_ttl of {code}"),
            [
                get().origin(status(code)),
                get().after(f64::from(n) - 1.0).asked(0).status(code).body("a"),
                get().after(2.0).origin(ok("")),
            ],
        );
    }
    t.on(
        "guess",
        "9111 3",
        "a status without a negative_ttl is not kept",
        [get().origin(status(403)), get().origin(status(403).body("b"))],
    );
    t.on(
        "bounds",
        "9111 4.2.1",
        "min_ttl",
        [get().origin(ok("max-age=2")), get().after(9.0).hit("a"), get().after(2.0).origin(ok(""))],
    );
    t.on(
        "bounds",
        "9111 4.2.1",
        "max_ttl",
        [get().origin(ok("max-age=2000")), get().after(99.0).hit("a"), get().after(2.0).origin(ok(""))],
    );
    t.on(
        "sober",
        "9111 4.2.2",
        "no guesses where the operator wants none",
        [
            get().origin(ok("").field("Last-Modified: {now-100000}")),
            get().after(1.0).origin(ok("").body("b")),
        ],
    );
    t.on(
        "sober",
        "9211 2",
        "no Cache-Status where the operator wants none",
        [get().origin(ok("max-age=60")).has_not("cache-status"), get().hit("a").has_not("cache-status")],
    );
    for (name, one, other, same) in [
        ("the chosen parameter", "?id=1&x=1", "?id=1&x=2", true),
        ("another value of it", "?id=1", "?id=2", false),
        ("none of it", "?x=1", "?x=2", true),
    ] {
        let second = get().at(other);
        let second = if same { second.hit("a") } else { second.origin(ok("max-age=60").body("b")) };
        t.on(
            "ids",
            "9111 2",
            format!("the key by query: {name}"),
            [get().at(one).origin(ok("max-age=60")), second],
        );
    }
    for (name, one, other, same) in [
        ("cookie", "Cookie: lang=de; s=1", "Cookie: s=2; lang=de", true),
        ("another cookie", "Cookie: lang=de", "Cookie: lang=en", false),
        ("header", "X-Kind: a", "X-Kind: a", true),
        ("another header", "X-Kind: a", "X-Kind: b", false),
    ] {
        let second = get().with(other);
        let second = if same { second.hit("a") } else { second.origin(ok("max-age=60").body("b")) };
        t.on(
            "ids",
            "9111 2",
            format!("the key by {name}"),
            [get().with(one).origin(ok("max-age=60")), second],
        );
    }
    t.on(
        "bare",
        "9111 2",
        "the key without the query",
        [get().at("?a").origin(ok("max-age=60")), get().at("?b").hit("a")],
    );
    let long = "x".repeat(1500);
    t.on(
        "small",
        "9111 3",
        "what is longer than object_max is passed on",
        [get().origin(ok("max-age=60").body(&long)), get().origin(ok("max-age=60").body(&long))],
    );
    t.on("small", "9111 3", "what is shorter is kept", [get().origin(ok("max-age=60")), get().hit("a")]);
}
