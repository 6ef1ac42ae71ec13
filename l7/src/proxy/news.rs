//! What an operator wants to hear of origins: that one is down or up, and who says so. A line each, through the ring
//! of the access log (`dataplane::lines`) to the control thread, which has a log for it.
//!
//! A core says at most [`LINES_MAX`] things in a second: origins by the hundred that come and go every moment must not
//! push requests' lines out of the ring, nor fill a disk. What is left out is counted, and the next line says so.

use std::fmt::{Display, Write};
use std::net::IpAddr;

use arrayvec::ArrayString;
use dataplane::{Ctr, Time};

use super::Proxy;
use super::config::Answer;
use super::exchange::ExchangeId;

/// The number, in place of a log's, of lines that warn an operator.
pub const NEWS_WARN: u16 = u16::MAX;
/// The number of lines that tell an operator.
pub const NEWS_INFO: u16 = u16::MAX - 1;
/// Lines in a second.
pub const LINES_MAX: u8 = 10;
const SECOND_NS: u64 = 1_000_000_000;
/// Longer names are cut.
const LINE_BYTES_MAX: usize = 400;

/// How much has been said.
#[derive(Default)]
pub(super) struct News {
    /// When the second began that is counted.
    since: Time,
    said: u8,
    left_out: u64,
}

impl News {
    /// Whether something may be said; gives how much was left out before it.
    fn may_say(&mut self, now: Time) -> Option<u64> {
        if now.since_ns(self.since) >= SECOND_NS || self.since == Time(0) {
            (self.since, self.said) = (now, 0);
        }
        if self.said >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Proxy {
    /// Says that the checks of an origin have taken it down, or brought it up.
    #[cold]
    pub(super) fn say_checked(&mut self, now: Time, upstream: u16, origin: usize, why: &dyn Display) {
        let up = self.config().upstreams[upstream as usize].health.get(origin).up;
        if up {
            self.say(now, NEWS_INFO, upstream, origin, &"is up again, by its health checks");
        } else {
            let what = format_args!("is down, by its health checks: {why}");
            self.say(now, NEWS_WARN, upstream, origin, &what);
        }
    }

    /// Says that the exchange's origin is left out by this core, for the requests that it has failed.
    #[cold]
    pub(super) fn say_ejected(&mut self, now: Time, x: ExchangeId) {
        let plan = self.plan(x);
        let e = &self.exchanges[x];
        let (group, origin) = (e.group as usize, usize::from(e.origin_index));
        let Answer::Upstream(upstream) = plan.route(e.route).answer else { return };
        let until = self.groups[group].set.ejected_until(origin);
        let seconds = until.since_ns(now) as f64 / SECOND_NS as f64;
        let core = self.core;
        let what =
            format_args!("is left out for {seconds} s, by core {core}: it has failed requests in a row");
        // By the exchange's plan: the current one may have other upstreams.
        let line = line(&plan.program.config, upstream, origin, &what);
        self.say_line(now, NEWS_WARN, line);
    }

    /// Says that the exchange's origin, at this address, has failed a TLS handshake.
    #[cold]
    pub(super) fn say_refused(&mut self, now: Time, x: ExchangeId, at: IpAddr, why: &dyn Display) {
        let plan = self.plan(x);
        let e = &self.exchanges[x];
        let Answer::Upstream(upstream) = plan.route(e.route).answer else { return };
        let what = format_args!("fails the TLS handshake, at {at}: {why}");
        let line = line(&plan.program.config, upstream, e.origin_index.into(), &what);
        self.say_line(now, NEWS_WARN, line);
    }

    /// Says that origins are taken back whose time is over.
    #[cold]
    pub(super) fn say_taken_back(&mut self, now: Time, x: ExchangeId, back: u64) {
        let plan = self.plan(x);
        let Answer::Upstream(upstream) = plan.route(self.exchanges[x].route).answer else { return };
        let core = self.core;
        for origin in crate::upstream::members(back) {
            let what =
                format_args!("gets requests again, by core {core}: the time that it was left out is over");
            let line = line(&plan.program.config, upstream, origin, &what);
            self.say_line(now, NEWS_INFO, line);
        }
    }

    fn say(&mut self, now: Time, tag: u16, upstream: u16, origin: usize, what: &dyn Display) {
        let line = line(self.config(), upstream, origin, what);
        self.say_line(now, tag, line);
    }

    fn say_line(&mut self, now: Time, tag: u16, mut line: ArrayString<LINE_BYTES_MAX>) {
        let Some(log) = &mut self.log else { return };
        let Some(left_out) = self.news.may_say(now) else {
            self.counters.inc(Ctr::LogNewsLeftOut);
            return;
        };
        if left_out > 0 {
            // There is room, or the rest of the line is more important.
            let _ = write!(line, " (before it, {left_out} such messages were left out)");
        }
        if !log.put(tag, line.as_bytes()) {
            self.counters.inc(Ctr::LogNewsLeftOut);
        }
    }
}

/// A line about an origin, cut where it is too long.
fn line(
    config: &super::ProxyConfig,
    upstream: u16,
    origin: usize,
    what: &dyn Display,
) -> ArrayString<LINE_BYTES_MAX> {
    let mut line = Cut(ArrayString::new());
    let name = config.upstreams.get(upstream as usize).and_then(|u| u.origins.get(origin));
    let name = name.map_or(&b"?"[..], |o| &o.authority);
    let uses = |n: &u16| matches!(config.routes[*n as usize].answer, Answer::Upstream(u) if u == upstream);
    let site = config.sites.iter().find(|s| s.routes.iter().any(|(_, n)| uses(n)));
    let site = site.and_then(|s| s.hosts.first()).map_or("?", String::as_str);
    // Never fails: what does not fit is left out.
    let _ = write!(line, "origin {} of site {site} {what}", name.escape_ascii());
    line.0
}

/// Takes as much as fits.
struct Cut(ArrayString<LINE_BYTES_MAX>);

impl Write for Cut {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let mut n = s.len().min(self.0.remaining_capacity());
        while !s.is_char_boundary(n) {
            n -= 1;
        }
        self.0.push_str(&s[..n]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_in_a_second_and_the_rest_is_told_of() {
        let mut news = News::default();
        let at = |ms| Time::from_ms(ms);
        assert!((0..LINES_MAX).all(|n| news.may_say(at(100 + u64::from(n))) == Some(0)));
        assert!((0..500).all(|_| news.may_say(at(1_000)).is_none()));
        assert_eq!(news.may_say(at(1_101)), Some(500));
        assert_eq!(news.may_say(at(1_102)), Some(0));
    }

    #[test]
    fn long_lines_are_cut() {
        let mut cut = Cut(ArrayString::new());
        write!(cut, "{}é", "x".repeat(LINE_BYTES_MAX - 1)).unwrap();
        write!(cut, "more").unwrap();
        assert_eq!(cut.0.len(), LINE_BYTES_MAX, "but for the é, which does not fit");
        assert!(cut.0.ends_with("xm"));
    }
}
