//! Pacing, where it is a number's business alone.

use super::*;

/// Found by the storm, seed 100243: 14 segments that were sent again with a window of one, and a round trip of a minute,
/// had a connection wait for a quarter of an hour, with nothing out.
#[test]
fn what_was_sent_at_a_slow_pace_does_not_hold_up_a_faster_one() {
    let mut t = Tcb { mss: 300, ..Tcb::default() };
    let now = Time::from_ms(100_000);
    t.window.pacing_rate = 6;
    for _ in 0..14 {
        t.charge_pace(300, now);
    }
    t.window.pacing_rate = 1_000_000;
    assert!(!t.may_send_now(now), "it waits");
    assert!(t.may_send_now(now.plus_ns(PACE_AHEAD_NS_MAX)), "but not for long");
    // At an ordinary pace nothing is cut: a window of 100 ms is 100 ms ahead.
    t.pace_next = now;
    t.charge_pace(100_000, now);
    assert_eq!(t.pace_next, now.plus_ns(100_000_000));
}
