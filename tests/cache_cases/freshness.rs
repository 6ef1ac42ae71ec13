//! How long responses are fresh, and how old they are (RFC 9111 4.2).

use super::{Table, get, head, ok, status};

pub fn cases(t: &mut Table) {
    for n in [2, 3, 10, 60, 3600, 86_400] {
        t.fresh_for("9111 4.2.1", format!("max-age={n}"), ok(&format!("max-age={n}")), n, 0);
        t.fresh_for("9111 5.2.2.10", format!("s-maxage={n}"), ok(&format!("s-maxage={n}")), n, 0);
        let expires = status(200).field(&format!("Expires: {{now+{n}}}"));
        t.fresh_for("9111 5.3", format!("Expires in {n} s"), expires, n, 0);
        let targeted = status(200).field(&format!("CDN-Cache-Control: max-age={n}"));
        t.fresh_for("9213 2.2", format!("CDN-Cache-Control: max-age={n}"), targeted, n, 0);
    }
    // The first that is there decides: s-maxage, max-age, Expires.
    let first = [
        ("s-maxage before a shorter max-age", "max-age=5, s-maxage=20", "{now+5}", 20),
        ("s-maxage before a longer max-age", "s-maxage=5, max-age=60", "{now+60}", 5),
        ("max-age before a longer Expires", "max-age=5", "{now+60}", 5),
        ("max-age before a shorter Expires", "max-age=20", "{now+5}", 20),
        ("max-age before an Expires that is past", "max-age=20", "{now-60}", 20),
        ("max-age before an Expires that is no date", "max-age=20", "0", 20),
        ("s-maxage before an Expires that is past", "s-maxage=20", "{now-60}", 20),
        ("public says nothing about Expires", "public", "{now+20}", 20),
    ];
    for (name, cc, expires, n) in first {
        t.fresh_for("9111 4.2.1", name, ok(cc).field(&format!("Expires: {expires}")), n, 0);
    }
    for (name, value) in [
        ("0", "0"),
        ("-1", "-1"),
        ("in the past", "{now-10}"),
        ("now", "{now}"),
        ("never", "never"),
        ("empty", ""),
        ("a year of two digits too few", "Thu, 01 Dec 99 16:00:00"),
        ("a zone that is not GMT", "Thu, 18 Aug 2050 02:01:18 AEST"),
        ("a number", "3600"),
        ("ISO 8601", "2050-08-18T02:01:18Z"),
    ] {
        let reply = status(200).field(&format!("Expires: {value}")).field("Last-Modified: {now-1000000}");
        t.stale_at_once("9111 5.3", format!("Expires is {name}"), reply);
    }
    for (name, value) in [
        ("RFC 850", "Thursday, 18-Aug-50 02:01:18 GMT"),
        ("asctime", "Thu Aug 18 02:01:18 2050"),
        ("IMF-fixdate", "Thu, 18 Aug 2050 02:01:18 GMT"),
        ("IMF-fixdate in lower case", "thu, 18 aug 2050 02:01:18 gmt"),
        ("far away", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        t.kept("9111 4.2", format!("Expires as {name}"), status(200).field(&format!("Expires: {value}")));
    }
    // Expires counts from Date, not from our clock.
    let skewed = ok("").no_date().field("Date: {now+3600}").field("Expires: {now+3610}");
    t.fresh_for(
        "9111 4.2.1",
        "Expires of an origin whose clock is ahead counts from its Date",
        skewed,
        10,
        0,
    );
    let skewed = ok("").no_date().field("Date: {now-3600}").field("Expires: {now-3500}");
    t.stale_at_once(
        "9111 4.2.3",
        "Expires of an origin whose clock is behind: its Date makes the response old",
        skewed,
    );
    // Age.
    for (age, max) in [(1, 10), (5, 10), (9, 20), (100, 200), (3000, 3600)] {
        let reply = ok(&format!("max-age={max}")).field(&format!("Age: {age}"));
        t.fresh_for("9111 4.2.3", format!("Age {age} of max-age={max}"), reply, max - age, age);
        let old = ok(&format!("max-age={max}")).no_date().field(&format!("Date: {{now-{age}}}"));
        t.fresh_for("9111 4.2.3", format!("Date {age} s ago, max-age={max}"), old, max - age, age);
    }
    let both = ok("max-age=100").no_date().field("Date: {now-10}").field("Age: 40");
    t.fresh_for("9111 4.2.3", "the greater of Age and apparent age counts: Age", both, 60, 40);
    let both = ok("max-age=100").no_date().field("Date: {now-40}").field("Age: 10");
    t.fresh_for("9111 4.2.3", "the greater of Age and apparent age counts: Date", both, 60, 40);
    for (name, reply) in [
        ("Age as much as max-age", ok("max-age=10").field("Age: 10")),
        ("Age above max-age", ok("max-age=10").field("Age: 11")),
        ("Age above 2^31", ok("max-age=1000").field("Age: 9999999999999")),
        ("Date longer ago than max-age", ok("max-age=10").no_date().field("Date: {now-11}")),
        ("max-age=0", ok("max-age=0")),
        ("s-maxage=0 beside max-age", ok("max-age=3600, s-maxage=0")),
    ] {
        t.stale_at_once("9111 4.2", format!("stale on arrival: {name}"), reply);
    }
    for (name, line, age) in [
        ("with a fraction is ignored", "Age: 7.5", 0),
        ("that is negative is ignored", "Age: -7", 0),
        ("that is a word is ignored", "Age: old", 0),
        ("that is a list counts by its first member", "Age: 7, 40", 7),
        ("on two lines counts by its first member", "Age: 7\r\nAge: 40", 7),
        ("0", "Age: 0", 0),
    ] {
        let reply = ok("max-age=20").field(line);
        t.fresh_for("9111 5.1", format!("an Age {name}"), reply, 20 - age, age);
    }
    t.fresh_for(
        "9111 5.1",
        "a response without Date is as old as its stay",
        ok("max-age=20").no_date(),
        20,
        0,
    );
    t.fresh_for(
        "9111 4.2.3",
        "a Date that is no date counts as none",
        ok("max-age=20").no_date().field("Date: yesterday"),
        20,
        0,
    );
    t.fresh_for(
        "9111 4.2.3",
        "a Date in the future makes nothing younger",
        ok("max-age=20").no_date().field("Date: {now+500}"),
        20,
        0,
    );
    for n in ["2147483647", "2147483648", "4294967296", "99999999999999999999"] {
        t.add(
            "9111 1.2.2",
            format!("max-age={n} lasts for years"),
            [
                get().origin(ok(&format!("max-age={n}"))),
                get().after(86_400.0 * 300.0).hit("a").age(86_400 * 300),
            ],
        );
    }
    // Guesses.
    for (ago, fresh) in [(100, 10), (1000, 100), (36_000, 3600), (864_000_000, 86_400)] {
        let reply = ok("").field(&format!("Last-Modified: {{now-{ago}}}"));
        t.fresh_for(
            "9111 4.2.2",
            format!("modified {ago} s ago is fresh for a tenth, a day at most"),
            reply,
            fresh,
            0,
        );
    }
    for code in [200, 203, 300, 301, 308, 404, 405, 410, 414, 501] {
        let reply = status(code).field("Last-Modified: {now-100000}");
        t.kept("9110 15.1", format!("{code} may be guessed about"), reply);
    }
    for code in [201, 202, 302, 303, 307, 400, 401, 403, 409, 418, 422, 429, 500, 502, 503, 504, 599] {
        let reply = status(code).field("Last-Modified: {now-100000}");
        t.not_kept("9110 15.1", format!("{code} may not be guessed about"), reply);
    }
    for code in [302, 307, 403] {
        let reply = status(code).cc("public").field("Last-Modified: {now-100000}");
        t.kept("9111 4.2.2", format!("{code} with public may be guessed about"), reply);
    }
    t.stale_at_once("9111 4.2.2", "no guess without Last-Modified", ok(""));
    t.stale_at_once(
        "9111 4.2.2",
        "no guess by a Last-Modified in the future",
        ok("").field("Last-Modified: {now+500}"),
    );
    t.add(
        "9111 5.1",
        "the first response from the origin itself has no Age",
        [get().origin(ok("max-age=9")).has_not("age"), get().hit("a").age(0)],
    );
    t.add(
        "9111 5.1",
        "Age is that of the response, not of its last use",
        [
            get().origin(ok("max-age=90")),
            get().after(10.0).hit("a").age(10),
            get().after(10.0).hit("a").age(20),
            head().after(10.0).hit("").age(30),
        ],
    );
    t.add(
        "9111 4",
        "Age takes the place of the Age that came",
        [get().origin(ok("max-age=90").field("Age: 12")), get().after(3.0).hit("a").has("age", "15")],
    );
}
