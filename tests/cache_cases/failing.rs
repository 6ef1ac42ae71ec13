//! Stale responses, while they are validated and when the origin fails (RFC 5861, RFC 9111 4.2.4), and what
//! Cache-Status says (RFC 9211).

use super::{Answer, Table, ask, get, head, not_modified, ok, status};

pub fn cases(t: &mut Table) {
    // While it is validated.
    t.add(
        "5861 3",
        "stale-while-revalidate: the stale one at once, the new one next",
        [
            get().origin(ok("max-age=1, stale-while-revalidate=60")),
            get().after(1.5).if_asked(ok("max-age=60").body("b")).asked(1).status(200).body("a").age(1),
            get().hit("b"),
        ],
    );
    t.add(
        "5861 3",
        "stale-while-revalidate: a 304 freshens behind the client's back",
        [
            get().origin(ok("max-age=1, stale-while-revalidate=60").field("ETag: \"1\"")),
            get()
                .after(1.5)
                .if_asked(not_modified("max-age=60"))
                .asked(1)
                .origin_has("if-none-match", "\"1\"")
                .status(200)
                .body("a"),
            get().hit("a"),
        ],
    );
    for (n, wait, serves) in [(10, 8.0, true), (10, 14.0, false), (100, 90.0, true), (100, 110.0, false)] {
        let second = get().after(wait);
        let second = match serves {
            true => second.if_asked(ok("max-age=60").body("b")).asked(1).status(200).body("a"),
            false => second.origin(ok("max-age=60").body("b")),
        };
        let reply = ok(&format!("max-age=3, stale-while-revalidate={n}"));
        t.add(
            "5861 3",
            format!("stale-while-revalidate={n}, {wait} s after a max-age of 3"),
            [get().origin(reply), second],
        );
    }
    for cc in ["must-revalidate", "proxy-revalidate", "no-cache"] {
        t.add(
            "9111 4.2.4",
            format!("stale-while-revalidate says nothing beside {cc}"),
            [
                get().origin(ok(&format!("max-age=1, stale-while-revalidate=60, {cc}"))),
                get().after(1.5).origin(ok("max-age=60").body("b")),
            ],
        );
    }
    t.add(
        "5861 3",
        "stale-while-revalidate: a failing origin changes nothing for the client",
        [
            get().origin(ok("max-age=1, stale-while-revalidate=60")),
            get().after(1.5).if_fails(Answer::Close).status(200).body("a"),
            get().after(2.0).if_asked(ok("max-age=60").body("b")).asked(1).status(200).body("a"),
            get().hit("b"),
        ],
    );
    // When the origin fails.
    let failures: [(&str, Answer); 6] = [
        ("500", Answer::Reply(status(500))),
        ("502", Answer::Reply(status(502))),
        ("503", Answer::Reply(status(503))),
        ("504", Answer::Reply(status(504))),
        ("a closed connection", Answer::Close),
        ("silence", Answer::Silence),
    ];
    for (how, answer) in failures {
        let code = match &answer {
            Answer::Reply(r) => r.status,
            Answer::Close => 502,
            Answer::Silence => 504,
        };
        t.add(
            "5861 4",
            format!("stale-if-error covers {how}"),
            [
                get().origin(ok("max-age=1, stale-if-error=60")),
                get().after(1.5).if_fails(answer.clone()).status(200).body("a").says("fwd=stale"),
            ],
        );
        t.add(
            "5861 4",
            format!("stale-if-error of the request covers {how}"),
            [
                get().origin(ok("max-age=1")),
                get().after(1.5).with_cc("stale-if-error=60").if_fails(answer.clone()).status(200).body("a"),
            ],
        );
        t.add(
            "5861 4",
            format!("stale-if-error that is over does not cover {how}"),
            [
                get().origin(ok("max-age=1, stale-if-error=2")),
                get().after(4.0).if_fails(answer.clone()).status(code),
            ],
        );
        for cc in ["must-revalidate", "no-cache", "proxy-revalidate"] {
            t.add(
                "9111 5.2.2.2",
                format!("stale-if-error says nothing beside {cc}: {how}"),
                [
                    get().origin(ok(&format!("max-age=1, stale-if-error=60, {cc}"))),
                    get().after(1.5).if_fails(answer.clone()).status(code),
                ],
            );
        }
        t.add(
            "9111 4.2.4",
            format!("nothing allows stale: {how} is told"),
            [get().origin(ok("max-age=1")), get().after(1.5).if_fails(answer.clone()).status(code)],
        );
        t.add(
            "9111 4.2.4",
            format!("nothing is stored: {how} is told"),
            [get().if_fails(answer.clone()).status(code)],
        );
        t.on(
            "grace",
            "5861 4",
            format!("stale-if-error of the operator covers {how}"),
            [
                get().origin(ok("max-age=1")),
                // After what the operator allows while it is validated.
                get().after(40.0).if_fails(answer.clone()).status(200).body("a").says("fwd=stale"),
            ],
        );
        t.on(
            "grace",
            "9111 4.2.4",
            format!("the operator's stale-if-error says nothing beside must-revalidate: {how}"),
            [get().origin(ok("max-age=1, must-revalidate")), get().after(1.5).if_fails(answer).status(code)],
        );
    }
    for code in [400, 403, 404, 410, 501] {
        t.add(
            "5861 4",
            format!("stale-if-error does not cover {code}"),
            [
                get().origin(ok("max-age=1, stale-if-error=60")),
                get().after(1.5).origin(status(code).cc("no-store").body("b")),
            ],
        );
    }
    t.add(
        "5861 4",
        "the origin comes back: it is asked again",
        [
            get().origin(ok("max-age=1, stale-if-error=600")),
            get().after(1.5).if_fails(Answer::Close).status(200).body("a"),
            get().after(3.0).origin(ok("max-age=60").body("b")),
            get().hit("b"),
        ],
    );
    t.add(
        "9111 4",
        "what is fresh is served while the origin fails",
        [get().origin(ok("max-age=60")), get().after(10.0).if_fails(Answer::Close).hit("a").says("hit")],
    );
    // Cache-Status.
    t.add(
        "9211 2.1",
        "a hit says so, with what is left",
        [get().origin(ok("max-age=60")), get().after(10.0).hit("a").says("hit").says("ttl=50")],
    );
    t.add(
        "9211 2.2",
        "a miss says why, and that it was stored",
        [get().origin(ok("max-age=60")).says("fwd=uri-miss").says("stored")],
    );
    t.add(
        "9211 2.2",
        "a validated response says stale",
        [
            get().origin(ok("max-age=1").field("ETag: \"1\"")),
            get().after(1.5).if_asked(not_modified("max-age=60")).asked(1).says("fwd=stale"),
        ],
    );
    t.add(
        "9211 2.2",
        "a request that wants the origin says so",
        [
            get().origin(ok("max-age=60")),
            get().with_cc("no-cache").origin(ok("max-age=60").body("b")).says("fwd=request"),
        ],
    );
    t.add(
        "9211 2",
        "members of caches before us are kept, and come first",
        [
            get().origin(ok("max-age=60").field("Cache-Status: inner; hit")),
            get().hit("a").has("cache-status", "inner; hit, millrace; hit; ttl=*"),
        ],
    );
    for (what, step, fwd) in [
        ("an unsafe method", ask("POST"), "fwd=method"),
        ("OPTIONS", ask("OPTIONS"), "fwd=method"),
        ("a condition that only the origin can judge", get().with("If-Match: \"1\""), "fwd=bypass"),
    ] {
        t.add(
            "9211 2.2",
            format!("a request that goes past the cache says so: {what}"),
            [get().origin(ok("max-age=60")), step.origin(ok("max-age=60").body("b")).says(fwd)],
        );
    }
    t.add(
        "9211 2.2",
        "what is not to be stored says why it was asked for, and later that it is no use to wait",
        [
            get().origin(ok("no-store")).says("fwd=uri-miss"),
            get().after(1.0).origin(ok("no-store").body("b")).says("fwd=bypass"),
        ],
    );
    t.add(
        "9211 2.2",
        "HEAD and a range of what is not stored are misses",
        [
            head().origin(ok("max-age=60")).says("fwd=uri-miss"),
            get().with("Range: bytes=0-0").origin(ok("max-age=60")).says("fwd=uri-miss"),
        ],
    );
    t.add(
        "9211 2",
        "a response that is passed on keeps the members of caches before us",
        [ask("POST")
            .origin(ok("").field("Cache-Status: inner; fwd=bypass"))
            .has("cache-status", "inner; fwd=bypass, millrace; fwd=method")],
    );
    t.add(
        "9211 2",
        "an error of ours comes from no cache, and says nothing of one",
        [
            get().if_fails(Answer::Close).status(502).any_body().has_not("cache-status"),
            get().at("?2").with_cc("only-if-cached").asked(0).status(504).any_body().has_not("cache-status"),
        ],
    );
    t.on(
        "sober",
        "9211 2",
        "a site that does not say what its cache does says nothing of what goes past it either",
        [ask("POST").origin(ok("")).has_not("cache-status")],
    );
    t.add(
        "9211 2.5",
        "a stale hit has a ttl below zero",
        [
            get().origin(ok("max-age=2")),
            get().after(5.0).with_cc("max-stale").hit("a").says("hit").says("ttl=-3"),
        ],
    );
}
