//! Key texts: RFC 9111 2, RFC 9110 4.2.3.

use super::{text, with_request};
use crate::cache::policy::key::*;
use crate::cache::policy::rules::{KeyRules, QueryRule, names};

fn key(start: &str, host: &str, https: bool, rules: &KeyRules) -> String {
    with_request(start, &format!("Host: {host}\n"), |head| {
        text(|sink| write_key(&UrlParts::of(head, https, b"default"), rules, sink))
    })
}

#[test]
fn the_url_is_the_key() {
    let rules = KeyRules::default();
    // Section, target, Host, TLS, key.
    let cases: &[(&str, &str, &str, bool, &str)] = &[
        ("9111 2", "/", "a", false, "http://a/"),
        ("9111 2: the scheme", "/", "a", true, "https://a/"),
        ("9110 4.2.3: host in any case", "/B", "A.Example", false, "http://a.example/B"),
        ("9110 4.2.3: default port", "/", "a:80", false, "http://a/"),
        ("9110 4.2.3: default port", "/", "a:443", true, "https://a/"),
        ("9110 4.2.3: another port", "/", "a:443", false, "http://a:443/"),
        ("9110 4.2.3: another port", "/", "a:8080", true, "https://a:8080/"),
        ("9110 7.1: the target's host", "http://B:81/x?y", "a", false, "http://b:81/x?y"),
        ("9110 4.2.3: no path", "http://b", "a", false, "http://b/"),
        ("9111 2: escapes are kept", "/%7e%2F?%41", "a", false, "http://a/%7e%2F?%41"),
        ("9111 2: dots are kept", "/a/../b", "a", false, "http://a/a/../b"),
        ("9111 2: an empty query is one", "/?", "a", false, "http://a/?"),
        ("9111 2: order is kept", "/?b&a", "a", false, "http://a/?b&a"),
        ("an address", "/", "[::1]:81", false, "http://[::1]:81/"),
    ];
    for (section, target, host, https, want) in cases {
        assert_eq!(
            key(&format!("GET {target} HTTP/1.1"), host, *https, &rules),
            *want,
            "{section}: {target}"
        );
    }
    let without = with_request("GET / HTTP/1.0", "", |head| {
        text(|sink| write_key(&UrlParts::of(head, false, b"Default"), &rules, sink))
    });
    assert_eq!(without, "http://default/");
}

#[test]
fn queries_by_rule() {
    let rule = |query| KeyRules { query, ..KeyRules::default() };
    let only = rule(QueryRule::Only(names(["a", "b"])));
    let except = rule(QueryRule::Except(names(["utm", "b"])));
    let none = rule(QueryRule::None);
    for (rules, query, want) in [
        (&none, "?a=1", ""),
        (&only, "?a=1&c=2&b=3", "?a=1&b=3"),
        (&only, "?b=3&a=1", "?b=3&a=1"),
        (&only, "?a&a=2", "?a&a=2"),
        (&only, "?A=1&aa=2", ""),
        (&only, "?", ""),
        (&except, "?a=1&utm=2", "?a=1"),
        (&except, "?utm", ""),
        (&except, "?utm=1&utmx=2", "?utmx=2"),
        (&except, "?x&&y", "?x&&y"),
    ] {
        let want = format!("http://h/p{want}");
        assert_eq!(key(&format!("GET /p{query} HTTP/1.1"), "h", false, rules), want, "{query}");
    }
    let any = KeyRules { any_scheme: true, ..KeyRules::default() };
    assert_eq!(key("GET / HTTP/1.1", "h", true, &any), key("GET / HTTP/1.1", "h", false, &any));
}

#[test]
fn slices_belong_to_their_url() {
    assert_eq!(url_of_key(b"http://a/b#0+12"), b"http://a/b");
    assert_eq!(url_of_key(b"http://a/b"), b"http://a/b");
    assert!(has_prefix(b"http://a/b#0+12", b"http://a/") && !has_prefix(b"http://a/b#0+12", b"http://a/b#"));
    assert_eq!(host_of_key(b"https://a:81/b"), b"a:81");
}
