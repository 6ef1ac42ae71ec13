//! Active health checks: when to ask, what to send, what the answer means.
//!
//! ```text
//!   poll ─► Start(origin) ─► the caller connects and sends `request` ─► reply(bytes) ─► status / failed ─┐
//!     ▲                            └─ TimedOut(origin): abort the connection ──────────────────────────────┤
//!     └───────────────── interval ± 10 % after the start ◄── rise / fall in a row: SharedHealth ◄─────────┘
//! ```
//!
//! One core checks for all: the others read its [`SharedHealth`].

use std::ops::RangeInclusive;
use std::sync::Arc;

use dataplane::Time;

use super::{ORIGINS_MAX, SharedHealth};

/// How a set's origins are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// Path, perhaps with a query.
    pub path: Vec<u8>,
    /// Between two checks of an origin.
    pub interval_ns: u64,
    /// For one check; not more than the interval.
    pub timeout_ns: u64,
    /// Good ones in a row that bring an origin up; not 0.
    pub rise: u8,
    /// Bad ones in a row that take it down; not 0.
    pub fall: u8,
    /// Statuses that are good.
    pub statuses: Vec<RangeInclusive<u16>>,
}

/// An origin to check.
#[derive(Clone, Debug)]
pub struct CheckTarget {
    /// Value of `Host`.
    pub host: Vec<u8>,
    /// Bytes in front of the request: a PROXY protocol header, or nothing.
    pub preamble: Vec<u8>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckAction {
    /// Open a connection to the origin and send it [`Checks::request`].
    Start(usize),
    /// The check took too long, and counts as failed: abort its connection.
    TimedOut(usize),
}

/// What the beginning of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckReply {
    /// Too little to say.
    More,
    /// An answer of this status: the rest does not matter.
    Status(u16),
    /// Not HTTP/1.
    Bad,
}

/// The checks of one set.
#[derive(Debug)]
pub struct Checks {
    settings: CheckSettings,
    origins: Box<[State]>,
    shared: Arc<SharedHealth>,
    next: Time,
    /// Checks that went well.
    pub good: u64,
    /// Checks that did not.
    pub bad: u64,
}

#[derive(Debug)]
struct State {
    request: Box<[u8]>,
    up: bool,
    /// Results in a row that speak against `up`.
    streak: u8,
    /// Start of the next check, or deadline of the one under way.
    due: Time,
    running: bool,
    /// When the next one begins after the one under way.
    then: Time,
}

impl Checks {
    /// Checks of these origins, the first ones at once, spread over a tenth of the interval.
    pub fn new(
        settings: CheckSettings,
        targets: &[CheckTarget],
        shared: Arc<SharedHealth>,
        now: Time,
        random: u64,
    ) -> Checks {
        assert!(targets.len() <= ORIGINS_MAX && targets.len() == shared.len(), "a word for each origin");
        let state = |(i, target): (usize, &CheckTarget)| State {
            request: request(&settings.path, target),
            up: shared.get(i).up,
            streak: 0,
            due: now.plus_ns(part(settings.interval_ns / 10, super::mix(random ^ i as u64))),
            running: false,
            then: now,
        };
        let origins = targets.iter().enumerate().map(state).collect();
        Checks { settings, origins, shared, next: now, good: 0, bad: 0 }
    }

    /// When [`poll`](Self::poll) has something to say again.
    pub fn next_deadline(&self) -> Time {
        self.next
    }

    /// What is to be done now; ask until it is nothing. `random` spreads the checks of many nodes.
    pub fn poll(&mut self, now: Time, random: u64) -> Option<CheckAction> {
        if now < self.next {
            return None;
        }
        let Some(i) = self.origins.iter().position(|o| o.due <= now) else {
            self.next = self.origins.iter().map(|o| o.due).min().unwrap_or(Time::NEVER);
            return None;
        };
        let state = &mut self.origins[i];
        if state.running {
            self.failed(i, now);
            return Some(CheckAction::TimedOut(i));
        }
        let interval = self.settings.interval_ns;
        // A tenth to either side; from start to start, so that slow answers do not stretch it.
        let spread = interval - interval / 10 + part(interval / 5, random);
        state.running = true;
        state.then = now.plus_ns(spread);
        state.due = now.plus_ns(self.settings.timeout_ns);
        Some(CheckAction::Start(i))
    }

    /// What is sent.
    pub fn request(&self, origin: usize) -> &[u8] {
        &self.origins[origin].request
    }

    /// The origin answered. Gives its state where that has changed.
    pub fn status(&mut self, origin: usize, status: u16, now: Time) -> Option<bool> {
        let good = self.settings.statuses.iter().any(|s| s.contains(&status));
        self.result(origin, good, now)
    }

    /// No connection, or no answer, or none that is HTTP. Gives the origin's state where that has changed.
    pub fn failed(&mut self, origin: usize, now: Time) -> Option<bool> {
        self.result(origin, false, now)
    }

    /// Whether the check of this one is under way, and has had its time.
    pub fn is_late(&self, origin: usize, now: Time) -> bool {
        let state = &self.origins[origin];
        state.running && state.due <= now
    }

    /// It could not be begun, or its answer not be read, for a reason of our own: as if it had not been due.
    pub fn left_out(&mut self, origin: usize, now: Time) {
        let state = &mut self.origins[origin];
        state.running = false;
        state.due = state.then.max(now);
        self.next = self.next.min(state.due);
    }

    fn result(&mut self, origin: usize, good: bool, now: Time) -> Option<bool> {
        if !self.origins[origin].running {
            return None; // It timed out before.
        }
        self.left_out(origin, now);
        let state = &mut self.origins[origin];
        if good {
            self.good += 1
        } else {
            self.bad += 1
        }
        if good == state.up {
            state.streak = 0;
            return None;
        }
        state.streak += 1;
        let enough = if good { self.settings.rise } else { self.settings.fall };
        if state.streak < enough {
            return None;
        }
        state.streak = 0;
        state.up = good;
        self.shared.set(origin, good, now);
        Some(good)
    }
}

/// What the beginning of an answer says.
pub fn reply(bytes: &[u8]) -> CheckReply {
    const START: &[u8] = b"HTTP/1.";
    let seen = bytes.len().min(START.len());
    if bytes[..seen] != START[..seen] {
        return CheckReply::Bad;
    }
    match bytes.get(START.len()..START.len() + 6) {
        None => CheckReply::More,
        Some([minor, b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ' | b'\r'])
            if minor.is_ascii_digit() =>
        {
            let digit = |d: &u8| u16::from(d - b'0');
            CheckReply::Status(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        Some(_) => CheckReply::Bad,
    }
}

fn request(path: &[u8], target: &CheckTarget) -> Box<[u8]> {
    let parts: [&[u8]; 7] = [
        &target.preamble,
        b"GET ",
        path,
        b" HTTP/1.1\r\nHost: ",
        &target.host,
        b"\r\nUser-Agent: millrace-check\r\nAccept: */*",
        b"\r\nConnection: close\r\n\r\n",
    ];
    parts.concat().into()
}

/// A random part of `whole`.
fn part(whole: u64, random: u64) -> u64 {
    ((u128::from(whole) * u128::from(random)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn checks(origins: usize) -> (Checks, Arc<SharedHealth>) {
        let settings = CheckSettings {
            path: b"/up".to_vec(),
            interval_ns: 1000 * MS,
            timeout_ns: 400 * MS,
            rise: 2,
            fall: 3,
            statuses: vec![200..=299, 401..=401],
        };
        let target = CheckTarget { host: b"o.example".to_vec(), preamble: Vec::new() };
        let shared = Arc::new(SharedHealth::new(origins));
        (Checks::new(settings, &vec![target; origins], Arc::clone(&shared), Time(0), 0), shared)
    }

    #[test]
    fn what_is_sent() {
        let (checks, _) = checks(1);
        let text = String::from_utf8_lossy(checks.request(0)).into_owned();
        assert!(text.starts_with("GET /up HTTP/1.1\r\nHost: o.example\r\n"), "{text}");
        assert!(text.ends_with("\r\nConnection: close\r\n\r\n"), "{text}");
    }

    #[test]
    fn rise_and_fall() {
        let (mut checks, shared) = checks(1);
        let mut now = Time(0);
        // A status for an answer, 0 for none; and whether the origin is up afterwards.
        for (n, (status, up)) in [
            (200, true),
            (500, true),
            (0, true),
            (204, true),
            (500, true),
            (500, true),
            (0, false),
            (200, false),
            (404, false),
            (200, false),
            (401, true),
            (503, true),
        ]
        .into_iter()
        .enumerate()
        {
            now = now.max(checks.next_deadline()).plus_ns(2000 * MS);
            assert_eq!(checks.poll(now, 0), Some(CheckAction::Start(0)), "{n}");
            let change = match status {
                0 => checks.failed(0, now),
                status => checks.status(0, status, now),
            };
            assert_eq!(shared.get(0).up, up, "{n}");
            if change.is_some() {
                assert_eq!((change, shared.get(0).since), (Some(up), now), "{n}");
            }
            assert_eq!(checks.poll(now, 0), None);
        }
        assert_eq!((checks.good, checks.bad), (5, 7));
    }

    #[test]
    fn intervals_and_timeouts() {
        let (mut checks, _) = checks(1);
        let at = |ms| Time(ms * MS);
        assert_eq!(checks.poll(at(0), 0), Some(CheckAction::Start(0)));
        assert_eq!((checks.poll(at(0), 0), checks.next_deadline()), (None, at(400)));
        assert_eq!(checks.poll(at(399), 0), None);
        assert_eq!(checks.poll(at(400), 0), Some(CheckAction::TimedOut(0)));
        assert_eq!(checks.status(0, 200, at(401)), None, "too late");
        assert_eq!((checks.good, checks.bad), (0, 1));
        assert_eq!((checks.poll(at(401), 0), checks.next_deadline()), (None, at(900)));
        assert_eq!(checks.poll(at(900), u64::MAX), Some(CheckAction::Start(0)));
        checks.status(0, 200, at(901));
        assert_eq!(checks.poll(at(901), 0), None);
        assert!(checks.next_deadline() > at(900 + 1099) && checks.next_deadline() <= at(900 + 1100));
    }

    #[test]
    fn one_that_is_left_out_says_nothing() {
        let (mut checks, shared) = checks(1);
        let mut now = Time(0);
        for _ in 0..20 {
            now = now.max(checks.next_deadline());
            assert_eq!(checks.poll(now, 0), Some(CheckAction::Start(0)));
            checks.left_out(0, now);
            assert_eq!(checks.poll(now, 0), None, "its next turn is an interval later");
        }
        assert_eq!((checks.good, checks.bad, shared.get(0).up), (0, 0, true));
    }

    #[test]
    fn every_origin_has_its_turn() {
        let (mut checks, shared) = checks(64);
        let mut started = 0u64;
        let mut now = Time(0);
        while started != u64::MAX {
            now = now.max(checks.next_deadline());
            while let Some(action) = checks.poll(now, 0) {
                let CheckAction::Start(i) = action else { panic!("{action:?}") };
                assert_eq!(started >> i & 1, 0, "{i} before all others");
                started |= 1 << i;
                checks.status(i, 200, now);
            }
        }
        assert!(now <= Time(100 * MS), "within a tenth of the interval");
        assert!((0..64).all(|i| shared.get(i).up));
    }

    #[test]
    fn answers() {
        use CheckReply::*;
        for (bytes, expected) in [
            (&b""[..], More),
            (b"HT", More),
            (b"HTTP/1.1 200", More),
            (b"HTTP/1.1 200 OK\r\n", Status(200)),
            (b"HTTP/1.0 503\r\n", Status(503)),
            (b"HTTP/2.0 200 OK\r\n", Bad),
            (b"HTTP/1.1 20 OK\r\n", Bad),
            (b"HTTP/1.1 700 OK\r\n", Bad),
            (b"SSH-2.0", Bad),
            (b"HTTP/1.1  200 ", Bad),
        ] {
            assert_eq!(reply(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
