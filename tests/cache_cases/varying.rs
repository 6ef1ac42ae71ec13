//! Vary (RFC 9111 4.1).

use super::{Table, get, ok};

pub fn cases(t: &mut Table) {
    let reply = |vary: &str| ok("max-age=60").field(&format!("Vary: {vary}"));
    for (name, vary, one, other, same) in [
        ("the same value", "Foo", "Foo: 1", "Foo: 1", true),
        ("another value", "Foo", "Foo: 1", "Foo: 2", false),
        ("a field that is missing now", "Foo", "Foo: 1", "X: 1", false),
        ("a field that was missing", "Foo", "X: 1", "Foo: 1", false),
        ("a field that is missing both times", "Foo", "X: 1", "X: 2", true),
        ("a field that it does not name", "Foo", "Foo: 1\r\nBar: 1", "Foo: 1\r\nBar: 2", true),
        ("names in another case", "FOO", "foo: 1", "Foo: 1", true),
        ("values in another case", "Foo", "Foo: a", "Foo: A", false),
        ("two fields alike", "Foo, Bar", "Foo: 1\r\nBar: 2", "Bar: 2\r\nFoo: 1", true),
        ("two fields, one other", "Foo, Bar", "Foo: 1\r\nBar: 2", "Foo: 1\r\nBar: 3", false),
        ("two fields, one missing", "Foo, Bar", "Foo: 1\r\nBar: 2", "Foo: 1", false),
        (
            "two lines of Vary, the second decides",
            "Foo\r\nVary: Bar",
            "Foo: 1\r\nBar: 2",
            "Foo: 1\r\nBar: 3",
            false,
        ),
        ("two lines of Vary, alike", "Foo\r\nVary: Bar", "Foo: 1\r\nBar: 2", "Foo: 1\r\nBar: 2", true),
        ("lines of one field in another order", "Foo", "Foo: 1\r\nFoo: 2", "Foo: 2\r\nFoo: 1", false),
        ("space around the value", "Foo", "Foo: 1", "Foo:   1  ", true),
        ("an empty member of Vary", "Foo, ,", "Foo: 1", "Foo: 1", true),
        ("Accept-Encoding", "Accept-Encoding", "Accept-Encoding: gzip", "Accept-Encoding: br", false),
        ("Accept-Language", "Accept-Language", "Accept-Language: de", "Accept-Language: de", true),
        ("Cookie", "Cookie", "Cookie: a=1", "Cookie: a=2", false),
        ("User-Agent", "User-Agent", "User-Agent: one", "User-Agent: two", false),
        ("a value and an empty one", "Foo", "Foo: 1", "Foo:", false),
    ] {
        let second = get().with(other);
        let second = if same { second.hit("a") } else { second.origin(reply(vary).body("b")) };
        t.add(
            "9111 4.1",
            format!("Vary: {name} {}", if same { "matches" } else { "does not match" }),
            [get().with(one).origin(reply(vary)), second],
        );
    }
    for line in ["*", "Foo, *", "*, Foo"] {
        t.not_kept("9111 4.1", format!("Vary: {line} never matches"), reply(line));
    }
    t.add(
        "9111 4.1",
        "variants live beside each other",
        [
            get().with("Foo: 1").origin(reply("Foo").body("one")),
            get().with("Foo: 2").origin(reply("Foo").body("two")),
            get().with("Foo: 3").origin(reply("Foo").body("three")),
            get().with("Foo: 1").hit("one"),
            get().with("Foo: 2").hit("two"),
            get().with("Foo: 3").hit("three"),
            get().origin(reply("Foo").body("none")),
            get().with("Foo: 1").hit("one"),
        ],
    );
    t.add(
        "9111 4.1",
        "variants by different fields",
        [
            get().with("Foo: 1").origin(reply("Foo").body("foo")),
            get().with("Foo: 2").with("Bar: 1").origin(reply("Foo, Bar").body("bar")),
            get().with("Foo: 1").with("Bar: 7").hit("foo"),
            get().with("Foo: 2").with("Bar: 1").hit("bar"),
            get().with("Foo: 2").with("Bar: 2").origin(reply("Foo, Bar").body("other")),
        ],
    );
    t.add(
        "9211 2.2",
        "Cache-Status tells a missing variant from a missing URL",
        [
            get().with("Foo: 1").origin(reply("Foo")).says("fwd=uri-miss"),
            get().with("Foo: 2").origin(reply("Foo")).says("fwd=vary-miss"),
        ],
    );
    t.add(
        "9111 4.1",
        "each variant has a lifetime of its own",
        [
            get().with("Foo: 1").origin(ok("max-age=10").field("Vary: Foo").body("one")),
            get().with("Foo: 2").origin(ok("max-age=100").field("Vary: Foo").body("two")),
            get().after(20.0).with("Foo: 1").origin(ok("max-age=10").field("Vary: Foo").body("new")),
            get().with("Foo: 2").hit("two").age(20),
        ],
    );
    t.add(
        "9111 4.3.1",
        "the stored variant is validated by its own tag",
        [
            get()
                .with("Foo: 1")
                .origin(ok("max-age=1").field("Vary: Foo").field("ETag: \"one\"").body("one")),
            get()
                .with("Foo: 2")
                .origin(ok("max-age=1").field("Vary: Foo").field("ETag: \"two\"").body("two")),
            get()
                .after(1.5)
                .with("Foo: 2")
                .if_asked(super::not_modified("max-age=60").field("ETag: \"two\"").field("Vary: Foo"))
                .asked(1)
                .origin_has("foo", "2")
                .status(200)
                .body("two"),
            get().with("Foo: 2").hit("two"),
        ],
    );
}
