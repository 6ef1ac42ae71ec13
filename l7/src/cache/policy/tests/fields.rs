//! RFC 9111 4.2: lifetimes and ages.

use super::{NOW_MS, NOW_S, facts_of, with_response};
use crate::cache::policy::fields::{Lines, of_headers};
use crate::cache::policy::freshness::{Survey, Times};
use crate::cache::policy::rules::CacheRules;
use crate::http1::http_date;

fn date(offset: i64) -> String {
    String::from_utf8(http_date::format(NOW_S.saturating_add_signed(offset)).to_vec()).expect("ASCII")
}

#[test]
fn lifetimes() {
    let in_a_minute = date(60);
    let minute_ago = date(-60);
    let now = date(0);
    // Section, lines, lifetime.
    let cases: &[(&str, String, u32)] = &[
        ("4.2.1", "Cache-Control: s-maxage=1, max-age=2\nExpires: 0\n".into(), 1),
        ("4.2.1", format!("Cache-Control: max-age=2\nExpires: {in_a_minute}\n"), 2),
        ("4.2.1: max-age=0 before Expires", format!("Cache-Control: max-age=0\nExpires: {in_a_minute}\n"), 0),
        ("4.2.1: Expires minus Date", format!("Expires: {in_a_minute}\nDate: {minute_ago}\n"), 120),
        ("4.2.1: Expires minus Date", format!("Expires: {now}\nDate: {minute_ago}\n"), 60),
        ("4.2.1: Expires without Date", format!("Expires: {in_a_minute}\n"), 60),
        ("4.2.1: Expires, Date invalid", format!("Expires: {in_a_minute}\nDate: x\n"), 60),
        ("4.2.1: Expires in the past", format!("Expires: {minute_ago}\nDate: {now}\n"), 0),
        ("4.2.1: Expires equal to Date", format!("Expires: {now}\nDate: {now}\n"), 0),
        ("4.2.1: the first of several", format!("Expires: {in_a_minute}\nExpires: {minute_ago}\n"), 60),
        ("4.2.1: the first of several", format!("Expires: {minute_ago}\nExpires: {in_a_minute}\n"), 0),
        ("5.3: 0 is the past", "Expires: 0\n".into(), 0),
        ("5.3: what is no date is the past", "Expires: -1\n".into(), 0),
        ("5.3: what is no date is the past", "Expires:\n".into(), 0),
        ("5.3: what is no date is the past", "Expires: Thu, 18 Aug 2050 02:01:18 EST\n".into(), 0),
        ("5.3: what is no date is the past", "Expires: Thu 18 Aug 2050 02:01:18 GMT\n".into(), 0),
        ("5.3: what is no date is the past", "Expires: Thu, 18 Aug 50 02:01:18 GMT\n".into(), 0),
        ("5.3: what is no date is the past", "Expires: Thu, 18 Aug 2050 2:01:18 GMT\n".into(), 0),
        ("4.2: dates in any case", "Expires: SUN, 06 nov 1994 08:50:37 gmt\n".into(), 60),
        ("4.2: another zone", "Expires: Sun, 06 Nov 1994 08:50:37 UTC\n".into(), 0),
        ("9110 5.6.7: old forms", "Expires: Sunday, 06-Nov-94 08:50:37 GMT\n".into(), 60),
        ("9110 5.6.7: old forms", "Expires: Sun Nov  6 08:50:37 1994\n".into(), 60),
        ("1.2.2: far", "Expires: Fri, 31 Dec 9999 23:59:59 GMT\n".into(), 1 << 31),
        ("4.2.2: a tenth", format!("Last-Modified: {}\nDate: {now}\n", date(-1000)), 100),
        ("4.2.2: a tenth, without Date", format!("Last-Modified: {}\n", date(-1000)), 100),
        (
            "4.2.2: not beside max-age",
            format!("Last-Modified: {}\nCache-Control: max-age=1\n", date(-1000)),
            1,
        ),
        ("4.2.2: not beside Expires", format!("Last-Modified: {}\nExpires: 0\n", date(-1000)), 0),
        ("4.2.2: from the future", format!("Last-Modified: {}\n", date(1000)), 0),
        ("4.2.2: at most a day", format!("Last-Modified: {}\n", date(-100_000_000)), 86_400),
    ];
    for (section, lines, want) in cases {
        let got = facts_of("200", &format!("ETag: \"a\"\n{lines}")).map(|facts| facts.fresh_s);
        assert_eq!(got, Ok(*want), "{section}: {lines}");
    }
}

#[test]
fn ages() {
    // Section, lines, milliseconds that the request took, age on arrival in milliseconds.
    let cases: &[(&str, String, u64, u64)] = &[
        ("4.2.3: nothing is known", "".into(), 0, 0),
        ("4.2.3: the delay counts", "".into(), 1500, 1500),
        ("4.2.3: Age", "Age: 10\n".into(), 0, 10_000),
        ("4.2.3: Age and the delay", "Age: 10\n".into(), 1500, 11_500),
        ("4.2.3: Date", format!("Date: {}\n", date(-5)), 0, 5000),
        ("4.2.3: the greater counts", format!("Date: {}\nAge: 10\n", date(-5)), 0, 10_000),
        ("4.2.3: the greater counts", format!("Date: {}\nAge: 10\n", date(-15)), 0, 15_000),
        ("4.2.3: Date in the future", format!("Date: {}\n", date(3600)), 0, 0),
        ("4.2.3: Date in the future, Age", format!("Date: {}\nAge: 10\n", date(3600)), 0, 10_000),
        ("4.2.3: Date invalid", "Date: x\nAge: 1\n".into(), 0, 1000),
        ("5.1: first of a list", "Age: 10, 20\n".into(), 0, 10_000),
        ("5.1: first of two lines", "Age: 10\nAge: 20\n".into(), 0, 10_000),
        ("5.1: first of two lines", "Age: 0\nAge: 20\n".into(), 0, 0),
        ("5.1: no number is ignored", "Age: x\n".into(), 0, 0),
        ("5.1: no number is ignored", "Age: -10\n".into(), 0, 0),
        ("5.1: no number is ignored", "Age: 1.5\n".into(), 0, 0),
        ("5.1: no number is ignored", "Age:\n".into(), 0, 0),
        ("5.1: the first is no number", "Age: x, 10\n".into(), 0, 0),
        ("1.2.2: great numbers", "Age: 99999999999\n".into(), 0, NOW_MS),
    ];
    for (section, lines, delay_ms, want) in cases {
        let times = Times { request_ms: NOW_MS - delay_ms, response_ms: NOW_MS };
        let birth_ms = with_response("200", lines, |head| {
            Survey::of(of_headers(&head.headers()), &CacheRules::default(), times).birth_ms(times)
        });
        assert_eq!(NOW_MS - birth_ms, *want, "{section}: {lines}");
    }
}

#[test]
fn age_goes_on_while_it_is_stored() {
    // RFC 9111 4.2.3: current_age = corrected_initial_age + resident_time.
    let facts = facts_of("200", "Age: 10\nCache-Control: max-age=60\n").expect("it may be stored");
    assert_eq!((facts.age_s(NOW_MS), facts.age_s(NOW_MS + 5999)), (10, 15));
    assert_eq!((facts.stale_ms(NOW_MS + 49_999), facts.stale_ms(NOW_MS + 50_000)), (None, Some(0)));
    assert_eq!((facts.ttl_s(NOW_MS), facts.ttl_s(NOW_MS + 60_000)), (50, -10));
    assert_eq!(facts.age_s(0), 0, "a clock that goes back makes nothing older than it can be");
}

#[test]
fn connection_lines_do_not_count() {
    // RFC 9111 3.1: what Connection nominates was for the hop before.
    let got = facts_of("200", "Connection: cache-control\nCache-Control: max-age=60\nETag: \"a\"\n");
    assert_eq!(got.map(|facts| facts.fresh_s), Ok(0));
}

#[test]
fn stored_lines_are_read_back() {
    let lines: Vec<_> = Lines::new(b"A: 1\r\nb: \r\nC: d: e\r\n").map(|l| (l.name, l.value)).collect();
    assert_eq!(lines, [(&b"A"[..], &b"1"[..]), (b"b", b""), (b"C", b"d: e")]);
}
