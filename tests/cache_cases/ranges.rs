//! Ranges of what is stored (RFC 9110 14, RFC 9111 3.3, 3.4).

use super::{Framing, Table, get, head, ok, status};

const BODY: &str = "0123456789abcdefghij";

pub fn cases(t: &mut Table) {
    let full = || {
        ok("max-age=60").body(BODY).field("ETag: \"1\"").field("Last-Modified: Mon, 01 Jan 2001 00:00:00 GMT")
    };
    let stored = || get().origin(full());
    for (range, from, to) in [
        ("0-0", 0, 0),
        ("0-4", 0, 4),
        ("5-9", 5, 9),
        ("19-19", 19, 19),
        ("19-", 19, 19),
        ("0-", 0, 19),
        ("15-", 15, 19),
        ("-1", 19, 19),
        ("-5", 15, 19),
        ("-20", 0, 19),
        ("-500", 0, 19),
        ("10-500", 10, 19),
        ("0-99999999999999999999", 0, 19),
        ("00-04", 0, 4),
    ] {
        t.add(
            "9110 14.1.2",
            format!("bytes={range}"),
            [
                stored(),
                get()
                    .with(&format!("Range: bytes={range}"))
                    .asked(0)
                    .status(206)
                    .body(&BODY[from..=to])
                    .has("content-range", &format!("bytes {from}-{to}/20"))
                    .has("content-length", &(to - from + 1).to_string())
                    .has("etag", "\"1\""),
            ],
        );
    }
    for range in ["20-", "20-25", "500-", "-0", "99999999999999999999-"] {
        t.add(
            "9110 15.5.17",
            format!("bytes={range} cannot be satisfied"),
            [
                stored(),
                get()
                    .with(&format!("Range: bytes={range}"))
                    .asked(0)
                    .status(416)
                    .has("content-range", "bytes */20"),
            ],
        );
    }
    for range in [
        "bytes=5-4",
        "bytes=a-b",
        "bytes=",
        "bytes",
        "bytes=-",
        "bytes=1",
        "lines=0-4",
        "bytes=0-4,x",
        "bytes 0-4",
    ] {
        t.add(
            "9110 14.2",
            format!("Range: {range} is ignored"),
            [stored(), get().with(&format!("Range: {range}")).hit(BODY)],
        );
    }
    t.add(
        "9110 14.2",
        "the unit is in any case",
        [stored(), get().with("Range: BYTES=0-1").asked(0).status(206).body("01")],
    );
    t.add(
        "9110 14.2",
        "HEAD has no ranges",
        [stored(), head().with("Range: bytes=0-1").hit("").has("content-length", "20")],
    );
    t.add(
        "9110 14.2",
        "no range of what is no 200",
        [
            get().origin(status(404).cc("max-age=60").body("not here")),
            get().with("Range: bytes=0-1").asked(0).status(404).body("not here"),
        ],
    );
    // Several.
    t.add(
        "9110 15.3.7.2",
        "two ranges are two parts",
        [
            get().origin(full().field("Content-Type: text/plain")),
            get()
                .with("Range: bytes=0-1,10-11")
                .asked(0)
                .status(206)
                .has_not("content-range")
                .contains("Content-Range: bytes 0-1/20")
                .contains("Content-Range: bytes 10-11/20")
                .contains("\r\n\r\n01\r\n--")
                .contains("\r\n\r\nab\r\n--"),
        ],
    );
    t.add(
        "9110 15.3.7.2",
        "one range of two that can be had is no multipart",
        [stored(), get().with("Range: bytes=0-1,500-").asked(0).status(206).contains("01")],
    );
    t.add(
        "9110 14.1.2",
        "two ranges of which none can be had",
        [
            stored(),
            get().with("Range: bytes=500-,600-").asked(0).status(416).has("content-range", "bytes */20"),
        ],
    );
    // If-Range.
    for (name, value, holds) in [
        ("the tag", "\"1\"", true),
        ("another tag", "\"2\"", false),
        ("the weak tag", "W/\"1\"", false),
        ("the date", "Mon, 01 Jan 2001 00:00:00 GMT", true),
        ("a later date", "Mon, 01 Jan 2007 00:00:00 GMT", false),
        ("an earlier date", "Sat, 01 Jan 2000 00:00:00 GMT", false),
        ("nonsense", "nonsense", false),
    ] {
        let ask = get().with("Range: bytes=0-1").with(&format!("If-Range: {value}"));
        let want = if holds { ask.asked(0).status(206).body("01") } else { ask.hit(BODY) };
        t.add("9110 13.1.5", format!("If-Range with {name}"), [stored(), want]);
    }
    t.add(
        "9110 13.1.5",
        "If-Range with a weak tag that is stored",
        [
            get().origin(ok("max-age=60").body(BODY).field("ETag: W/\"1\"")),
            get().with("Range: bytes=0-1").with("If-Range: W/\"1\"").hit(BODY),
        ],
    );
    t.add(
        "9110 13.1.5",
        "If-Range without Range is ignored",
        [stored(), get().with("If-Range: \"2\"").hit(BODY)],
    );
    t.add(
        "9110 13.2.2",
        "If-None-Match goes before Range",
        [
            stored(),
            get().with("Range: bytes=0-1").with("If-None-Match: \"1\"").asked(0).status(304).body(""),
            get().with("Range: bytes=0-1").with("If-None-Match: \"2\"").asked(0).status(206).body("01"),
        ],
    );
    t.add(
        "9110 14.2",
        "ranges of what came in chunks",
        [
            get().if_asked(full().framing(Framing::Chunked)),
            get()
                .with("Range: bytes=-5")
                .asked(0)
                .status(206)
                .body("fghij")
                .has("content-range", "bytes 15-19/20"),
        ],
    );
    // Passed through.
    let part = || {
        status(206).cc("max-age=60").field("ETag: \"1\"").field("Content-Range: bytes 5-9/20").body("56789")
    };
    t.add(
        "9111 3.3",
        "a range of nothing that is stored is passed on, and its answer not kept",
        [
            get().with("Range: bytes=5-9").origin(part()).origin_has("range", "bytes=5-9"),
            get().origin(full()),
            get().hit(BODY),
        ],
    );
    t.add(
        "9111 3.3",
        "a part is not the answer to a request for the whole",
        [get().with("Range: bytes=5-9").origin(part()), get().origin(full())],
    );
    t.add(
        "9110 14.2",
        "an Age is on a range",
        [stored(), get().after(5.0).with("Range: bytes=0-1").asked(0).status(206).age(5)],
    );
}
