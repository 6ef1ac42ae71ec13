//! RFC 9111 4, 4.2.4, 5.2.1; RFC 5861; RFC 8246.

use super::{NOW_MS, facts_of, request_facts};
use crate::cache::policy::decide::*;
use crate::cache::policy::facts::Facts;
use crate::cache::policy::status::Fwd;
use Decision::*;

const STALE: Decision = Revalidate { why: Fwd::Stale };
const REQUEST: Decision = Revalidate { why: Fwd::Request };

/// A response that arrived now with these directives.
fn stored(directives: &str) -> Facts {
    facts_of("200", &format!("ETag: \"a\"\nCache-Control: {directives}\n")).expect(directives)
}

#[test]
fn whether_it_is_served() {
    // Section, the request's Cache-Control, the response's, its age, the decision.
    let cases: &[(&str, &str, &str, u64, Decision)] = &[
        ("4.2: fresh", "", "max-age=60", 0, Serve { age_s: 0 }),
        ("4.2: fresh", "", "max-age=60", 59, Serve { age_s: 59 }),
        ("4.2: lifetime must be greater than age", "", "max-age=60", 60, STALE),
        ("4.2.4: stale", "", "max-age=60", 61, STALE),
        ("4: s-maxage", "", "s-maxage=10, max-age=60", 11, STALE),
        ("5.2.2.4", "", "no-cache, max-age=60", 0, STALE),
        ("5.2.2.4: for some fields", "", "no-cache=\"b\", max-age=60", 0, Serve { age_s: 0 }),
        ("5.2.2.2: fresh", "", "must-revalidate, max-age=60", 0, Serve { age_s: 0 }),
        ("5.2.1.1", "max-age=10", "max-age=60", 10, Serve { age_s: 10 }),
        ("5.2.1.1", "max-age=10", "max-age=60", 11, REQUEST),
        ("5.2.1.1", "max-age=0", "max-age=60", 1, REQUEST),
        ("5.2.1.1: more than the response allows", "max-age=100", "max-age=60", 61, STALE),
        ("5.2.1.2", "max-stale=10", "max-age=60", 70, ServeStale { age_s: 70 }),
        ("5.2.1.2", "max-stale=10", "max-age=60", 71, STALE),
        ("5.2.1.2: any", "max-stale", "max-age=60", 9999, ServeStale { age_s: 9999 }),
        ("5.2.1.2: zero", "max-stale=0", "max-age=60", 61, STALE),
        ("5.2.1.2: fresh all the same", "max-stale=10", "max-age=60", 5, Serve { age_s: 5 }),
        ("5.2.1.2: with max-age", "max-stale=10, max-age=65", "max-age=60", 64, ServeStale { age_s: 64 }),
        ("5.2.1.2: with max-age", "max-stale=10, max-age=62", "max-age=60", 64, STALE),
        ("5.2.2.2: against max-stale", "max-stale", "max-age=60, must-revalidate", 61, STALE),
        ("5.2.2.8: against max-stale", "max-stale", "max-age=60, proxy-revalidate", 61, STALE),
        ("5.2.2.10: against max-stale", "max-stale", "s-maxage=60", 61, STALE),
        ("5.2.2.4: against max-stale", "max-stale", "no-cache, max-age=60", 61, STALE),
        ("5.2.1.3", "min-fresh=10", "max-age=60", 50, Serve { age_s: 50 }),
        ("5.2.1.3", "min-fresh=10", "max-age=60", 51, REQUEST),
        ("5.2.1.3: more than there is", "min-fresh=61", "max-age=60", 0, REQUEST),
        ("5.2.1.3: stale is never fresh enough", "min-fresh=0, max-stale", "max-age=60", 61, STALE),
        ("5.2.1.4", "no-cache", "max-age=60", 0, REQUEST),
        ("5.2.1.4: stale", "no-cache", "max-age=60", 61, STALE),
        ("5.2.1.4: against max-stale", "no-cache, max-stale", "max-age=60", 61, STALE),
        ("5.2.1.5: stored before", "no-store", "max-age=60", 0, Serve { age_s: 0 }),
        ("5.2.1.7", "only-if-cached", "max-age=60", 0, Serve { age_s: 0 }),
        ("5.2.1.7: stale", "only-if-cached", "max-age=60", 61, GatewayTimeout),
        (
            "5.2.1.7: stale, but good enough",
            "only-if-cached, max-stale",
            "max-age=60",
            61,
            ServeStale { age_s: 61 },
        ),
        ("5.2.1.7: no-cache", "only-if-cached, no-cache", "max-age=60", 0, GatewayTimeout),
        ("5861 3", "", "max-age=60, stale-while-revalidate=10", 59, Serve { age_s: 59 }),
        ("5861 3", "", "max-age=60, stale-while-revalidate=10", 60, ServeWhileRevalidating { age_s: 60 }),
        ("5861 3", "", "max-age=60, stale-while-revalidate=10", 70, ServeWhileRevalidating { age_s: 70 }),
        ("5861 3", "", "max-age=60, stale-while-revalidate=10", 71, STALE),
        ("5861 3: zero", "", "max-age=60, stale-while-revalidate=0", 60, STALE),
        ("5861 3: the client wants more", "max-age=60", "max-age=60, stale-while-revalidate=10", 65, STALE),
        ("5861 3: the client wants more", "min-fresh=1", "max-age=60, stale-while-revalidate=10", 65, STALE),
        ("5861 3: the client wants more", "no-cache", "max-age=60, stale-while-revalidate=10", 65, STALE),
        ("5861 3: must-revalidate", "", "max-age=60, stale-while-revalidate=10, must-revalidate", 65, STALE),
        ("5861 3: no-cache", "", "no-cache, max-age=60, stale-while-revalidate=10", 65, STALE),
        ("5861 4: not without a failure", "", "max-age=60, stale-if-error=10", 65, STALE),
        (
            "5861 3: only-if-cached",
            "only-if-cached",
            "max-age=60, stale-while-revalidate=10",
            65,
            ServeWhileRevalidating { age_s: 65 },
        ),
        ("8246 2.1", "max-age=0", "max-age=60, immutable", 30, Serve { age_s: 30 }),
        ("8246 2.1: a signal from the client", "no-cache", "max-age=60, immutable", 30, REQUEST),
        ("8246 2: stale", "", "max-age=60, immutable", 61, STALE),
        ("8246 2: stale", "max-age=0", "max-age=60, immutable", 61, STALE),
        ("8246 2: min-fresh is about the future", "min-fresh=40", "max-age=60, immutable", 30, REQUEST),
    ];
    for (section, request, response, age_s, want) in cases {
        let request = request_facts(&if request.is_empty() {
            String::new()
        } else {
            format!("Cache-Control: {request}\n")
        });
        let got = decide(&request, &stored(response), false, NOW_MS + age_s * 1000);
        assert_eq!(got, *want, "{section}: {response}");
    }
}

#[test]
fn milliseconds_count() {
    let facts = stored("max-age=60");
    let none = request_facts("");
    assert_eq!(decide(&none, &facts, false, NOW_MS + 59_999), Serve { age_s: 59 });
    assert_eq!(
        decide(&request_facts("Cache-Control: max-age=10\n"), &facts, false, NOW_MS + 10_001),
        REQUEST
    );
}

#[test]
fn pragma_counts_like_no_cache() {
    // RFC 9111 5.4.
    assert_eq!(decide(&request_facts("Pragma: no-cache\n"), &stored("max-age=60"), false, NOW_MS), REQUEST);
}

#[test]
fn soft_purged_is_stale() {
    let none = request_facts("");
    for (directives, age_s, want) in [
        ("max-age=60", 1, STALE),
        ("max-age=60, immutable", 1, STALE),
        ("max-age=60, stale-while-revalidate=5", 1, ServeWhileRevalidating { age_s: 1 }),
        ("max-age=60, stale-while-revalidate=5", 66, STALE),
    ] {
        assert_eq!(decide(&none, &stored(directives), true, NOW_MS + age_s * 1000), want, "{directives}");
    }
}

#[test]
fn when_nothing_is_stored() {
    // RFC 9111 5.2.1.7.
    assert_eq!(decide_miss(&request_facts("")), None);
    assert_eq!(decide_miss(&request_facts("Cache-Control: only-if-cached\n")), Some(GatewayTimeout));
}

#[test]
fn when_the_origin_fails() {
    use OriginFailure::*;
    // Section, the request's Cache-Control, the response's, its age, the failure, whether it is served.
    let cases: &[(&str, &str, &str, u64, OriginFailure, bool)] = &[
        ("5861 4", "", "max-age=60, stale-if-error=10", 61, NoResponse, true),
        ("5861 4", "", "max-age=60, stale-if-error=10", 70, NoResponse, true),
        ("5861 4", "", "max-age=60, stale-if-error=10", 71, NoResponse, false),
        ("5861 4", "", "max-age=60, stale-if-error=10", 61, Status(500), true),
        ("5861 4", "", "max-age=60, stale-if-error=10", 61, Status(502), true),
        ("5861 4", "", "max-age=60, stale-if-error=10", 61, Status(503), true),
        ("5861 4", "", "max-age=60, stale-if-error=10", 61, Status(504), true),
        ("5861 4: no failures", "", "max-age=60, stale-if-error=10", 61, Status(501), false),
        ("5861 4: no failures", "", "max-age=60, stale-if-error=10", 61, Status(404), false),
        ("5861 4: no failures", "", "max-age=60, stale-if-error=10", 61, Status(200), false),
        ("5861 4: nothing allows it", "", "max-age=60", 61, NoResponse, false),
        ("5861 4: the request does", "stale-if-error=10", "max-age=60", 61, NoResponse, true),
        ("5861 4: the request does", "stale-if-error=10", "max-age=60", 71, NoResponse, false),
        ("5.2.2.2", "stale-if-error=10", "max-age=60, must-revalidate", 61, NoResponse, false),
        ("5.2.2.2", "", "max-age=60, must-revalidate, stale-if-error=10", 61, Status(503), false),
        ("5.2.2.8", "", "max-age=60, proxy-revalidate, stale-if-error=10", 61, Status(503), false),
        ("5.2.2.10", "stale-if-error=10", "s-maxage=60", 61, NoResponse, false),
        ("5.2.2.10: the response allows it", "", "s-maxage=60, stale-if-error=10", 61, NoResponse, true),
        ("5.2.2.4", "", "no-cache, max-age=60, stale-if-error=10", 1, NoResponse, false),
        ("4.2.4: fresh, asked for age", "max-age=0", "max-age=60", 1, NoResponse, true),
        ("5.2.1.4: fresh, asked anew", "no-cache", "max-age=60", 1, NoResponse, false),
        ("5.2.1.4: fresh, failures covered", "no-cache", "max-age=60, stale-if-error=5", 1, NoResponse, true),
    ];
    for (section, request, response, age_s, failure, want) in cases {
        let request = request_facts(&if request.is_empty() {
            String::new()
        } else {
            format!("Cache-Control: {request}\n")
        });
        let got = decide_on_failure(&request, &stored(response), false, *failure, NOW_MS + age_s * 1000);
        assert_eq!(got, want.then_some(*age_s), "{section}: {response} {failure:?}");
    }
}

#[test]
fn the_latest_of_several_is_served() {
    // RFC 9111 4: by Date; by arrival where Dates are equal.
    let at = |date_ms, response_ms| Facts { date_ms, response_ms, ..Facts::default() };
    assert!(is_better(&at(2, 1), &at(1, 2)) && !is_better(&at(1, 2), &at(2, 1)));
    assert!(is_better(&at(1, 2), &at(1, 1)) && !is_better(&at(1, 1), &at(1, 1)));
    // RFC 9111 4.1: Vary before its absence.
    let with_vary = facts_of("200", "Vary: a\nCache-Control: max-age=60\n").expect("it may be stored");
    let newer = Facts { date_ms: u64::MAX, ..stored("max-age=60") };
    assert!(is_better(&with_vary, &newer) && !is_better(&newer, &with_vary));
}
