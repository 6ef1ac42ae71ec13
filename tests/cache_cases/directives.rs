//! Cache-Control, as responses and requests write it (RFC 9111 5.2), and in targeted fields (RFC 9213).

use super::{Table, get, not_modified, ok, status};

pub fn cases(t: &mut Table) {
    // Spellings.
    for (name, cc, n) in [
        ("capitals", "MAX-AGE=10", 10),
        ("a space after the comma", "public,   max-age=10", 10),
        ("no space", "public,max-age=10", 10),
        ("empty members", ",, max-age=10 ,,", 10),
        ("a tab", "public,\tmax-age=10", 10),
        ("quoted", "max-age=\"10\"", 10),
        ("an unknown directive before", "foo, max-age=10", 10),
        ("an unknown directive with an argument", "foo=60, max-age=10", 10),
        ("an unknown quoted argument with a comma", "foo=\"a, max-age=60, b\", max-age=10", 10),
        ("an unknown quoted argument with no-store", "foo=\"no-store\", max-age=10", 10),
        ("a directive that begins alike", "max-ages=60, max-age=10", 10),
        ("leading zeros", "max-age=0010", 10),
    ] {
        t.fresh_for("9111 5.2", format!("max-age with {name}"), ok(cc), n, 0);
    }
    for (name, cc) in [
        ("without an argument", "max-age"),
        ("empty", "max-age="),
        ("a word", "max-age=soon"),
        ("negative", "max-age=-10"),
    ] {
        let reply = ok(cc);
        t.stale_at_once("9111 4.2.1", format!("max-age {name} makes nothing fresh"), reply);
    }
    t.add(
        "9111 5.2",
        "lines of Cache-Control are one list",
        [
            get().origin(ok("public").field("Cache-Control: max-age=10")),
            get().after(9.0).hit("a"),
            get().after(2.0).origin(ok("")),
        ],
    );
    // Not without validation.
    for cc in ["no-cache", "no-cache, max-age=60", "max-age=60, No-Cache", "s-maxage=60, no-cache"] {
        t.add(
            "9111 5.2.2.4",
            format!("\"{cc}\" is validated every time"),
            [
                get().origin(ok(cc).field("ETag: \"1\"")),
                get()
                    .if_asked(not_modified(""))
                    .asked(1)
                    .origin_has("if-none-match", "\"1\"")
                    .status(200)
                    .body("a"),
                get()
                    .if_asked(not_modified(""))
                    .asked(1)
                    .origin_has("if-none-match", "\"1\"")
                    .status(200)
                    .body("a"),
            ],
        );
    }
    t.add(
        "9111 5.2.2.4",
        "no-cache with names of fields leaves those out for others",
        [
            get().origin(ok("max-age=60, no-cache=\"X-Me\"").field("X-Me: 1").field("X-All: 2")),
            get().if_asked(ok("max-age=60")).status(200).has_not("x-me"),
        ],
    );
    for cc in ["must-revalidate", "proxy-revalidate", "s-maxage=2"] {
        t.add(
            "9111 4.2.4",
            format!("{cc}: not served stale, whatever the client would take"),
            [
                get().origin(ok(&format!("max-age=2, {cc}"))),
                get().after(5.0).with_cc("max-stale").origin(ok("max-age=2").body("b")),
            ],
        );
    }
    // Requests.
    let stored = || get().origin(ok("max-age=100"));
    for (section, name, wait, cc, asks) in [
        ("9111 5.2.1.1", "max-age of the request above the age", 5.0, "max-age=10", false),
        ("9111 5.2.1.1", "max-age of the request below the age", 15.0, "max-age=10", true),
        ("9111 5.2.1.1", "max-age=0 of the request", 2.0, "max-age=0", true),
        ("9111 5.2.1.3", "min-fresh that is there", 50.0, "min-fresh=40", false),
        ("9111 5.2.1.3", "min-fresh that is not there", 70.0, "min-fresh=40", true),
        ("9111 5.2.1.4", "no-cache of the request", 1.0, "no-cache", true),
        ("9111 5.2.1.4", "No-Cache of the request", 1.0, "No-Cache", true),
        ("9111 5.2.1.2", "max-stale of what is fresh", 5.0, "max-stale=10", false),
        ("9111 5.2.1.2", "max-stale that is enough", 105.0, "max-stale=10", false),
        ("9111 5.2.1.2", "max-stale that is not enough", 115.0, "max-stale=10", true),
        ("9111 5.2.1.2", "max-stale without a bound", 5000.0, "max-stale", false),
        ("9111 5.2.1.2", "max-stale with max-age below the age", 105.0, "max-stale=10, max-age=10", true),
        ("9111 5.2.1.7", "only-if-cached of what is fresh", 5.0, "only-if-cached", false),
        ("9111 5.2.3", "an unknown directive of the request", 5.0, "foo=1, bar", false),
        ("9111 5.2.1.6", "no-transform of the request", 5.0, "no-transform", false),
    ] {
        let second = get().after(wait).with_cc(cc);
        let second = if asks { second.origin(ok("max-age=100").body("b")) } else { second.hit("a") };
        t.add(section, format!("{name}: {}", if asks { "asks" } else { "does not ask" }), [stored(), second]);
    }
    t.add(
        "9111 5.2.1.7",
        "only-if-cached of nothing",
        [get().with_cc("only-if-cached").asked(0).status(504)],
    );
    t.add(
        "9111 5.2.1.7",
        "only-if-cached of what is stale",
        [get().origin(ok("max-age=1")), get().after(1.5).with_cc("only-if-cached").asked(0).status(504)],
    );
    t.add(
        "9111 5.2.1.7",
        "only-if-cached with no-cache",
        [stored(), get().with_cc("only-if-cached, no-cache").asked(0).status(504)],
    );
    t.add(
        "9111 5.4",
        "Pragma: no-cache asks, without Cache-Control",
        [stored(), get().with("Pragma: no-cache").origin(ok(""))],
    );
    t.add(
        "9111 5.4",
        "Pragma: no-cache says nothing beside Cache-Control",
        [stored(), get().with("Pragma: no-cache").with_cc("max-age=60").hit("a")],
    );
    t.add(
        "9111 5.4",
        "Pragma of a response says nothing",
        [get().origin(ok("max-age=60").field("Pragma: no-cache")), get().hit("a")],
    );
    t.add(
        "9111 5.2.1.5",
        "a request with no-store may be answered from the store",
        [stored(), get().with_cc("no-store").status(200)],
    );
    t.add(
        "9111 5.2.1.4",
        "what a no-cache request brings takes the place of what was stored",
        [stored(), get().with_cc("no-cache").origin(ok("max-age=100").body("b")), get().hit("b")],
    );
    // Immutable.
    t.add(
        "8246 2.1",
        "immutable: max-age=0 of the request does not ask while it is fresh",
        [get().origin(ok("max-age=100, immutable")), get().after(5.0).with_cc("max-age=0").hit("a")],
    );
    t.add(
        "8246 2.1",
        "immutable: no-cache of the request asks",
        [
            get().origin(ok("max-age=100, immutable")),
            get().with_cc("no-cache").origin(ok("max-age=9").body("b")),
        ],
    );
    t.add(
        "8246 2",
        "immutable says nothing about what is stale",
        [get().origin(ok("max-age=2, immutable")), get().after(3.0).origin(ok("max-age=9").body("b"))],
    );
    // must-understand.
    t.kept(
        "9111 5.2.2.3",
        "must-understand, no-store with a status that is understood",
        ok("must-understand, no-store, max-age=60"),
    );
    t.not_kept(
        "9111 5.2.2.3",
        "must-understand with a status that is not",
        status(299).cc("must-understand, max-age=60"),
    );
    // Targeted.
    let targeted = |line: &str, cc: &str| ok(cc).field(&format!("CDN-Cache-Control: {line}"));
    for (name, line, cc, n) in [
        ("goes before a longer Cache-Control", "max-age=5", "max-age=60", 5),
        ("goes before a shorter Cache-Control", "max-age=20", "max-age=5", 20),
        ("goes before no-store", "max-age=20", "no-store", 20),
        ("goes before private", "max-age=20", "private", 20),
        ("knows parameters", "max-age=20;foo=bar", "max-age=5", 20),
        ("that is no structured field is ignored", "max-age=20, &", "max-age=5", 5),
        ("that is empty is ignored", "", "max-age=5", 5),
        ("with the last of two members", "max-age=50, max-age=20", "max-age=5", 20),
    ] {
        t.fresh_for("9213 2.2", format!("CDN-Cache-Control {name}"), targeted(line, cc), n, 0);
    }
    t.not_kept("9213 2.2", "CDN-Cache-Control: no-store beside max-age", targeted("no-store", "max-age=60"));
    t.not_kept(
        "9213 2.2",
        "CDN-Cache-Control: private beside public",
        targeted("private", "public, max-age=60"),
    );
    t.stale_at_once(
        "9213 2.2",
        "CDN-Cache-Control: max-age=0 beside Expires",
        targeted("max-age=0", "").field("Expires: {now+60}"),
    );
    t.fresh_for(
        "9213 2.2",
        "a targeted field for others says nothing",
        ok("max-age=5").field("Example-Cache-Control: max-age=60"),
        5,
        0,
    );
    t.fresh_for(
        "9213 2.1",
        "names in targeted fields are in lower case",
        targeted("MAX-AGE=20", "max-age=5"),
        5,
        0,
    );
}
