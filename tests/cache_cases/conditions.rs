//! Conditional requests of clients (RFC 9111 4.3.2, RFC 9110 13).

use super::{Table, get, head, ok, status};

pub fn cases(t: &mut Table) {
    let full = || {
        ok("max-age=60")
            .field("ETag: \"1\"")
            .field("Last-Modified: Mon, 01 Jan 2001 00:00:00 GMT")
            .field("X-Any: 1")
    };
    for (section, name, line, code) in [
        ("9110 13.1.2", "If-None-Match with the tag", "If-None-Match: \"1\"", 304),
        ("9110 13.1.2", "If-None-Match with another tag", "If-None-Match: \"2\"", 200),
        ("9110 13.1.2", "If-None-Match with the tag in a list", "If-None-Match: \"0\", \"1\", \"2\"", 304),
        ("9110 13.1.2", "If-None-Match on two lines", "If-None-Match: \"0\"\r\nIf-None-Match: \"1\"", 304),
        ("9110 13.1.2", "If-None-Match: *", "If-None-Match: *", 304),
        ("9110 13.1.2", "If-None-Match with the weak tag", "If-None-Match: W/\"1\"", 304),
        ("9110 13.1.2", "If-None-Match without quotes", "If-None-Match: 1", 200),
        ("9110 13.1.2", "If-None-Match with a list of others", "If-None-Match: \"a\", W/\"b\"", 200),
        ("9110 13.1.2", "If-None-Match with a comma in another tag", "If-None-Match: \"a,\", \"1\"", 304),
        (
            "9110 13.1.3",
            "If-Modified-Since the date",
            "If-Modified-Since: Mon, 01 Jan 2001 00:00:00 GMT",
            304,
        ),
        ("9110 13.1.3", "If-Modified-Since later", "If-Modified-Since: Mon, 01 Jan 2007 00:00:00 GMT", 304),
        ("9110 13.1.3", "If-Modified-Since earlier", "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT", 200),
        ("9110 13.1.3", "If-Modified-Since that is no date", "If-Modified-Since: lately", 200),
        ("9110 13.1.3", "If-Modified-Since as asctime", "If-Modified-Since: Mon Jan  1 00:00:00 2001", 304),
        (
            "9110 13.1.3",
            "If-Modified-Since as RFC 850",
            "If-Modified-Since: Monday, 01-Jan-01 00:00:00 GMT",
            304,
        ),
        (
            "9110 13.1.3",
            "If-None-Match that fails beside If-Modified-Since that holds",
            "If-None-Match: \"2\"\r\nIf-Modified-Since: Mon, 01 Jan 2007 00:00:00 GMT",
            200,
        ),
        (
            "9110 13.1.3",
            "If-None-Match that holds beside If-Modified-Since that fails",
            "If-None-Match: \"1\"\r\nIf-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT",
            304,
        ),
    ] {
        for (method, ask) in [("GET", get()), ("HEAD", head())] {
            let second =
                ask.with(line).asked(0).status(code).has("etag", "\"1\"").has("cache-control", "max-age=60");
            let second = match (code, method) {
                (304, _) => second.body("").has("date", ""),
                (_, "HEAD") => second.body(""),
                _ => second.body("a"),
            };
            t.add(section, format!("{name}: {method} gets {code}"), [get().origin(full()), second]);
        }
    }
    t.add(
        "9110 13.1.2",
        "a weak tag that is stored matches weakly",
        [
            get().origin(ok("max-age=60").field("ETag: W/\"1\"")),
            get().with("If-None-Match: \"1\"").asked(0).status(304),
        ],
    );
    t.add(
        "9111 4.3.2",
        "If-Modified-Since against Date where there is no Last-Modified",
        [
            get().origin(ok("max-age=60")),
            get().with("If-Modified-Since: {now+5}").asked(0).status(304),
            get().with("If-Modified-Since: {now-1000}").hit("a"),
        ],
    );
    t.add(
        "9110 13.1.2",
        "If-None-Match: with a tag, where none is stored",
        [get().origin(ok("max-age=60")), get().with("If-None-Match: \"1\"").hit("a")],
    );
    t.add(
        "9111 4.3.2",
        "a 304 has an Age",
        [get().origin(full()), get().after(7.0).with("If-None-Match: \"1\"").asked(0).status(304).age(7)],
    );
    t.add(
        "9110 15.4.5",
        "a 304 says nothing about its content",
        [
            get().origin(full().field("Content-Type: text/plain").field("Content-Language: de")),
            get().with("If-None-Match: \"1\"").asked(0).status(304).has_not("transfer-encoding"),
        ],
    );
    t.add(
        "9110 13.2.1",
        "conditions say nothing where the answer is no 200",
        [
            get().origin(status(404).cc("max-age=60").field("ETag: \"1\"").body("gone")),
            get().with("If-None-Match: \"1\"").asked(0).status(404).body("gone"),
        ],
    );
    // On a miss: the cache fetches the whole, and judges itself.
    t.add(
        "9111 4.3.2",
        "a conditional miss is filled, and judged by what came",
        [get().with("If-None-Match: \"1\"").if_asked(full()).asked(1), get().hit("a")],
    );
    for line in [
        "If-Match: \"1\"",
        "If-Match: \"2\"",
        "If-Match: *",
        "If-Unmodified-Since: Mon, 01 Jan 2007 00:00:00 GMT",
    ] {
        t.add(
            "9111 4.3.2",
            format!("{line} is for the origin"),
            [get().origin(full()), get().with(line).if_asked(status(412).body("no")).asked(1).status(412)],
        );
    }
}
