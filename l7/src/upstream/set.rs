//! A set of origins as one core sees it: balance, health, room and retries in one place.

use std::sync::Arc;

use dataplane::Time;

use super::balance::{Balancer, Masks, Method, Pick};
use super::outlier::{Outlier, OutlierSettings};
use super::queue::{Ticket, WaitQueue};
use super::retry::{NoRetry, RetryBudget, Sent};
use super::{SharedHealth, hash_key, members};

/// How a set behaves. The bounds are this core's part of the node's: see [`SetSettings::share`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetSettings {
    /// How the next origin is chosen.
    pub method: Method,
    /// How long the share of an origin that came back grows.
    pub slow_start_ns: u64,
    /// Requests under way at each origin; `None` means no bound.
    pub connections_max: Option<u32>,
    /// Requests that may wait for room.
    pub queue_max: u32,
    /// For how long.
    pub queue_timeout_ns: u64,
    /// When an origin that fails requests is left out.
    pub outlier: Option<OutlierSettings>,
    /// Retries of one request.
    pub retries_max: u8,
    /// Retries as a share of requests.
    pub retry_percent: u8,
}

/// An origin of a set.
#[derive(Clone, Copy, Debug)]
pub struct OriginSpec<'a> {
    /// Its weight; not 0.
    pub weight: u16,
    /// What it is known by: the same in all nodes.
    pub name: &'a [u8],
}

/// What became of a request at an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response that speaks for the origin.
    Good,
    /// No connection, no response, or a 5xx that speaks against it.
    Failed,
    /// Nothing that says anything of the origin (the client went away).
    Unknown,
}

/// An origin's state, as a person would name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginState {
    /// It takes its whole share.
    Up,
    /// It came back and takes a growing share.
    SlowStart,
    /// It failed requests and is left out on this core.
    Ejected,
    /// It failed its checks.
    Down,
}

/// A set of origins on one core.
#[derive(Debug)]
pub struct OriginSet {
    balancer: Balancer,
    outlier: Outlier,
    queue: WaitQueue,
    retries: RetryBudget,
    shared: Arc<SharedHealth>,
    version: u64,
    down: u64,
    full: u64,
    /// Origins taken back after an ejection, that nobody has been told of.
    back: u64,
    connections_max: u32,
    /// What happened.
    pub counts: Counts,
}

/// What happened in a set; for the owner to publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Origins left out for failing requests.
    pub ejected: u64,
    /// Origins taken back after that.
    pub readmitted: u64,
    /// Requests that had to wait.
    pub queued: u64,
    /// Requests for which there was no room to wait either.
    pub queue_full: u64,
    /// Requests that waited too long.
    pub queue_expired: u64,
    /// Retries.
    pub retries: u64,
    /// Retries that the budget refused.
    pub retries_refused: u64,
    /// Choices made although all origins were out.
    pub panics: u64,
}

impl SetSettings {
    /// A core's part of a bound on the whole node: they add up to it, but none is 0 unless the bound is.
    pub fn share(bound: u32, core: usize, cores: usize) -> u32 {
        let (core, cores) = (core as u32, (cores as u32).max(1));
        let part = bound / cores + u32::from(core < bound % cores);
        part.max(u32::from(bound > 0))
    }
}

impl OriginSet {
    /// A set of 1 to 64 origins; `shared` has a word for each.
    pub fn new(settings: &SetSettings, origins: &[OriginSpec<'_>], shared: Arc<SharedHealth>) -> OriginSet {
        assert_eq!(origins.len(), shared.len(), "a word for each origin");
        let specs: Vec<(u16, u64)> = origins.iter().map(|o| (o.weight, hash_key(o.name))).collect();
        let queue_max = if settings.connections_max.is_some() { settings.queue_max } else { 0 };
        let mut set = OriginSet {
            balancer: Balancer::new(settings.method, settings.slow_start_ns, &specs),
            outlier: Outlier::new(settings.outlier, origins.len()),
            queue: WaitQueue::new(queue_max, settings.queue_timeout_ns),
            retries: RetryBudget::new(settings.retries_max, settings.retry_percent),
            version: shared.version(),
            shared,
            down: 0,
            full: 0,
            back: 0,
            connections_max: settings.connections_max.unwrap_or(u32::MAX),
            counts: Counts::default(),
        };
        // A set of a reloaded config begins with what the checks have found.
        set.reload();
        set
    }

    /// How many origins there are.
    pub fn len(&self) -> usize {
        self.balancer.len()
    }

    /// Never: a set has an origin.
    pub fn is_empty(&self) -> bool {
        self.balancer.is_empty()
    }

    /// Counts a new request (not a retry): it pays into the budget of retries.
    #[inline]
    pub fn request(&mut self) {
        self.retries.request();
    }

    /// Chooses an origin for a key, none of the mask `exclude`. It is used only from [`begin`](Self::begin) on.
    pub fn pick(&mut self, now: Time, key: u64, exclude: u64) -> Pick {
        self.refresh(now);
        let out = self.down | self.outlier.ejected();
        if out.count_ones() as usize == self.len() {
            self.counts.panics += 1;
        }
        let masks = Masks { down: self.down, ejected: self.outlier.ejected(), full: self.full, exclude };
        self.balancer.pick(now, key, masks)
    }

    /// A request goes to the origin.
    #[inline]
    pub fn begin(&mut self, origin: usize) {
        self.balancer.begin(origin);
        if self.balancer.outstanding(origin) >= self.connections_max {
            self.full |= 1 << origin;
        }
    }

    /// It is over. True when the origin is ejected for it. Somebody may [go](Self::admit) now.
    #[inline]
    pub fn end(&mut self, origin: usize, outcome: Outcome, now: Time) -> bool {
        self.balancer.end(origin);
        if self.balancer.outstanding(origin) < self.connections_max {
            self.full &= !(1 << origin);
        }
        match outcome {
            Outcome::Good => self.outlier.success(origin),
            Outcome::Unknown => {}
            Outcome::Failed => {
                let ejected = self.outlier.failure(origin, now);
                self.counts.ejected += u64::from(ejected);
                return ejected;
            }
        }
        false
    }

    /// Until when an origin is, or was, left out for the requests that it failed.
    pub fn ejected_until(&self, origin: usize) -> Time {
        self.outlier.until(origin)
    }

    /// Origins whose ejection is over, as a mask: each once.
    #[inline]
    pub fn take_back(&mut self) -> u64 {
        std::mem::take(&mut self.back)
    }

    /// A request waits for room, after [`Pick::Full`]; `None`: answer 503.
    pub fn wait(&mut self, id: u32, now: Time) -> Option<Ticket> {
        let ticket = self.queue.push(id, now);
        self.counts.queued += u64::from(ticket.is_some());
        self.counts.queue_full += u64::from(ticket.is_none());
        ticket
    }

    /// The first of those that wait, when there is room for it. Ask after each [`end`](Self::end), and at
    /// [`next_deadline`](Self::next_deadline) (an origin may have come back).
    pub fn admit(&mut self, now: Time) -> Option<u32> {
        if self.queue.is_empty() {
            return None;
        }
        self.refresh(now);
        let everyone = super::all(self.len());
        let out = self.down | self.outlier.ejected();
        let usable = if out & everyone == everyone { everyone } else { everyone & !out };
        if usable & !self.full == 0 { None } else { self.queue.pop() }
    }

    /// One that waited too long: answer 503.
    pub fn expired(&mut self, now: Time) -> Option<u32> {
        let id = self.queue.expired(now)?;
        self.counts.queue_expired += 1;
        Some(id)
    }

    /// A request that waits is gone. False when it did not wait.
    pub fn cancel(&mut self, ticket: Ticket, id: u32) -> bool {
        self.queue.cancel(ticket, id)
    }

    /// When to look after those that wait; [`Time::NEVER`] when nobody does.
    pub fn next_deadline(&self) -> Time {
        self.queue.next_deadline()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether a request may be tried again after `attempts` of it failed.
    ///
    /// # Errors
    /// Why not.
    pub fn may_retry(
        &mut self,
        now: Time,
        idempotent: bool,
        sent: Sent,
        attempts: u8,
    ) -> Result<(), NoRetry> {
        let answer = self.retries.may_retry(now, idempotent, sent, attempts);
        self.counts.retries += u64::from(answer.is_ok());
        self.counts.retries_refused += u64::from(answer == Err(NoRetry::Budget));
        answer
    }

    /// An origin's state.
    pub fn state(&self, origin: usize, now: Time) -> OriginState {
        if self.down >> origin & 1 == 1 {
            OriginState::Down
        } else if self.outlier.ejected() >> origin & 1 == 1 {
            OriginState::Ejected
        } else if self.balancer.is_growing(origin, now) {
            OriginState::SlowStart
        } else {
            OriginState::Up
        }
    }

    /// Requests under way at an origin, from this core.
    pub fn outstanding(&self, origin: usize) -> u32 {
        self.balancer.outstanding(origin)
    }

    /// Takes note of what the checks found and of whose time is over.
    #[inline]
    fn refresh(&mut self, now: Time) {
        if self.shared.version() != self.version {
            self.reload();
        }
        let back = self.outlier.readmit(now);
        if back != 0 {
            self.back |= back;
            self.counts.readmitted += u64::from(back.count_ones());
            for i in members(back) {
                self.balancer.recovered(i, now);
            }
        }
    }

    fn reload(&mut self) {
        // The version first: what changes after it is read again next time.
        self.version = self.shared.version();
        for i in 0..self.len() {
            let health = self.shared.get(i);
            let was_down = self.down >> i & 1 == 1;
            match (was_down, health.up) {
                (false, false) => self.down |= 1 << i,
                (true, true) => {
                    self.down &= !(1 << i);
                    self.balancer.recovered(i, health.since);
                }
                // Down and up between two looks, or a set made during a slow start.
                (false, true) if health.since > Time(0) => self.balancer.recovered(i, health.since),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn settings() -> SetSettings {
        SetSettings {
            method: Method::RoundRobin,
            slow_start_ns: 10 * SECOND,
            connections_max: Some(2),
            queue_max: 2,
            queue_timeout_ns: SECOND,
            outlier: Some(OutlierSettings { failures: 2, ejection_ns: 5 * SECOND }),
            retries_max: 1,
            retry_percent: 0,
        }
    }

    fn set(n: usize) -> (OriginSet, Arc<SharedHealth>) {
        let shared = Arc::new(SharedHealth::new(n));
        let names: Vec<String> = (0..n).map(|i| format!("o{i}")).collect();
        let specs: Vec<_> = names.iter().map(|n| OriginSpec { weight: 1, name: n.as_bytes() }).collect();
        (OriginSet::new(&settings(), &specs, Arc::clone(&shared)), shared)
    }

    #[test]
    fn full_origins_have_a_queue_in_front_of_them() {
        let (mut set, _) = set(2);
        for _ in 0..4 {
            let Pick::Origin(i) = set.pick(Time(0), 0, 0) else { panic!("room") };
            set.begin(i);
        }
        assert_eq!(set.pick(Time(0), 0, 0), Pick::Full);
        let ticket = set.wait(10, Time(0)).expect("room to wait");
        assert!(set.wait(11, Time(1)).is_some() && set.wait(12, Time(1)).is_none());
        assert_eq!(set.admit(Time(1)), None);
        set.end(1, Outcome::Good, Time(2));
        assert_eq!(set.admit(Time(2)), Some(10));
        assert_eq!(set.pick(Time(2), 0, 0), Pick::Origin(1));
        set.begin(1);
        assert_eq!((set.admit(Time(2)), set.cancel(ticket, 10)), (None, false));
        assert_eq!(set.expired(set.next_deadline()), Some(11));
        assert_eq!((set.counts.queued, set.counts.queue_full, set.counts.queue_expired), (2, 1, 1));
    }

    #[test]
    fn states_as_they_come_and_go() {
        let (mut set, shared) = set(2);
        let at = |s| Time(s * SECOND);
        assert_eq!(set.state(0, at(0)), OriginState::Up);
        shared.set(0, false, at(1));
        assert_eq!(set.pick(at(1), 0, 0), Pick::Origin(1));
        assert_eq!(set.state(0, at(1)), OriginState::Down);
        for _ in 0..2 {
            set.begin(1);
            set.end(1, Outcome::Failed, at(2));
        }
        assert_eq!(set.state(1, at(2)), OriginState::Ejected);
        assert_eq!((set.pick(at(2), 0, 0), set.counts.panics), (Pick::Origin(1), 1), "ejected before down");
        shared.set(0, true, at(3));
        assert_eq!(set.pick(at(3), 0, 0), Pick::Origin(0));
        assert_eq!((set.state(0, at(3)), set.state(0, at(13))), (OriginState::SlowStart, OriginState::Up));
        set.pick(at(7), 0, 0);
        assert_eq!(set.state(1, at(7)), OriginState::SlowStart, "back after its ejection");
        assert_eq!((set.counts.ejected, set.counts.readmitted), (1, 1));
    }

    #[test]
    fn a_new_set_begins_with_what_the_checks_found() {
        let (_, shared) = set(3);
        shared.set(2, false, Time(5));
        let specs = [OriginSpec { weight: 1, name: b"a" }; 3];
        let mut set = OriginSet::new(&settings(), &specs, shared);
        assert_eq!(set.state(2, Time(6)), OriginState::Down);
        assert!((0..30).all(|_| set.pick(Time(6), 0, 0) != Pick::Origin(2)));
    }

    #[test]
    fn a_bound_is_shared_out() {
        for (bound, cores, expected) in
            [(10, 4, vec![3, 3, 2, 2]), (8, 2, vec![4, 4]), (1, 2, vec![1, 1]), (0, 2, vec![0, 0])]
        {
            let parts: Vec<u32> = (0..cores).map(|c| SetSettings::share(bound, c, cores)).collect();
            assert_eq!(parts, expected);
        }
    }

    #[test]
    fn retries_are_counted() {
        let (mut set, _) = set(1);
        set.request();
        let mut answers = (0..4).map(|_| set.may_retry(Time(0), true, Sent::Head, 1));
        assert!(answers.by_ref().take(3).all(|a| a.is_ok()));
        assert_eq!(answers.next(), Some(Err(NoRetry::Budget)));
        drop(answers);
        assert_eq!((set.counts.retries, set.counts.retries_refused), (3, 1));
    }
}
