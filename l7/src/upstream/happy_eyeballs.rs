//! Which of an origin's addresses to try, and when (RFC 8305, section 5).
//!
//! ```text
//!   older  ├── SYN ─────────────── 250 ms ──────────────────────────────── … until its patience is over
//!   newer                           ├── SYN ───── 250 ms ─────┤
//!                                                              └─ a third address: the older one makes room for it
//! ```
//!
//! Addresses are tried in turn, each 250 ms after the one before, or as soon as one has failed; those under way go on,
//! two at most side by side. The first connection that is made wins, and the other one is the caller's to abort. The
//! caller has the addresses, with the families by turns (section 4), and keeps the number of the one that won: the
//! next race begins with it, so that a family that leads nowhere costs its delay once.

use dataplane::Time;

/// Addresses of one origin that are tried; more are left out.
pub const ADDRESSES_MAX: usize = 8;
/// RFC 8305, section 8: the Connection Attempt Delay.
pub const ATTEMPT_DELAY_NS: u64 = 250_000_000;

/// One of the two attempts that may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The only one, or the one that was begun first.
    Older,
    /// The one beside it.
    Newer,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Open a connection to the address of this number: it is the newer one where there is one, else the older.
    Connect(u8),
    /// Abort the older one, which has had its time: the newer is the older from now on, and a connection follows.
    MakeRoom,
    /// This one has taken too long: say that it has [failed](Race::failed).
    TimedOut(Lane),
    /// Nothing before this time.
    WaitUntil(Time),
    /// All have failed.
    Failed,
}

/// One race.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// How many addresses there are.
    addresses: u8,
    /// The one that was begun with.
    first: u8,
    /// Attempts begun so far.
    begun: u8,
    /// One has failed since the last was begun.
    hurries: bool,
    /// One has failed at all.
    has_failed: bool,
    /// Address and beginning of each that is under way, the older one first.
    running: [Option<(u8, Time)>; 2],
}

impl Race {
    /// No race: nothing is under way, and nothing to be tried.
    pub const OVER: Race =
        Race { addresses: 0, first: 0, begun: 0, hurries: false, has_failed: false, running: [None; 2] };

    /// A race between so many addresses, in turn from `first`.
    pub fn new(addresses: usize, first: u8) -> Race {
        let addresses = addresses.min(ADDRESSES_MAX) as u8;
        Race { addresses, first: if first < addresses { first } else { 0 }, ..Race::OVER }
    }

    /// What is to be done now. Ask again after each answer until it is to wait, and after each event. `patience_ns`:
    /// for one attempt.
    pub fn poll(&mut self, now: Time, patience_ns: u64) -> Attempt {
        for (lane, run) in [Lane::Older, Lane::Newer].into_iter().zip(self.running) {
            if run.is_some_and(|(_, at)| now >= at.plus_ns(patience_ns)) {
                return Attempt::TimedOut(lane);
            }
        }
        let last = self.running.iter().flatten().map(|(_, at)| at.plus_ns(ATTEMPT_DELAY_NS)).max();
        let more = self.begun < self.addresses;
        match last {
            Some(due) if !more || (now < due && !self.hurries) => {
                let ends = self.running.iter().flatten().map(|(_, at)| at.plus_ns(patience_ns));
                let end = ends.min().unwrap_or(Time::NEVER);
                Attempt::WaitUntil(if more { end.min(due) } else { end })
            }
            None if !more => Attempt::Failed,
            _ if self.running[1].is_some() => {
                self.running = [self.running[1], None];
                // What follows is due now.
                self.hurries = true;
                Attempt::MakeRoom
            }
            _ => {
                let address = (self.first + self.begun) % self.addresses;
                self.begun += 1;
                self.hurries = false;
                let free = usize::from(self.running[0].is_some());
                self.running[free] = Some((address, now));
                Attempt::Connect(address)
            }
        }
    }

    /// An attempt failed (refused, timed out, no route): the next one need not wait. When it was the older one, the
    /// newer takes its place.
    pub fn failed(&mut self, lane: Lane) {
        self.has_failed = true;
        self.ended(lane);
    }

    fn ended(&mut self, lane: Lane) {
        self.running = match lane {
            Lane::Older => [self.running[1], None],
            Lane::Newer => [self.running[0], None],
        };
        self.hurries = true;
    }

    /// An attempt has a connection: the race is over. Gives the number of its address, and when it was begun.
    pub fn won(&mut self, lane: Lane) -> Option<(u8, Time)> {
        std::mem::replace(self, Race::OVER).running[lane as usize]
    }

    /// An attempt could not be begun for want of something of ours: no further address is tried, and those under way
    /// go on.
    pub fn give_up(&mut self, lane: Lane) {
        self.ended(lane);
        self.addresses = self.begun;
    }

    /// Whether an attempt has failed, by the origin's doing.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Attempts begun so far.
    pub fn begun(&self) -> u8 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Attempt::{Connect, Failed, MakeRoom, TimedOut, WaitUntil};

    const PATIENCE: u64 = 5_000_000_000;

    fn ms(n: u64) -> Time {
        Time::from_ms(n)
    }

    /// What is said at a time, until there is to be waited.
    fn say(race: &mut Race, at: u64) -> Vec<Attempt> {
        let mut all = Vec::new();
        loop {
            let a = race.poll(ms(at), PATIENCE);
            all.push(a);
            match a {
                WaitUntil(_) | Failed => return all,
                TimedOut(lane) => race.failed(lane),
                Connect(_) | MakeRoom => {}
            }
            assert!(all.len() < 30);
        }
    }

    #[test]
    fn the_second_after_a_delay_while_the_first_goes_on() {
        let mut race = Race::new(2, 0);
        assert_eq!(say(&mut race, 0), [Connect(0), WaitUntil(ms(250))]);
        assert_eq!(say(&mut race, 100), [WaitUntil(ms(250))]);
        assert_eq!(say(&mut race, 250), [Connect(1), WaitUntil(ms(5_000))]);
        assert_eq!(race.won(Lane::Newer), Some((1, ms(250))));
        assert_eq!(say(&mut race, 251), [Failed], "nothing is left of it");

        let mut race = Race::new(2, 0);
        say(&mut race, 0);
        say(&mut race, 250);
        assert_eq!(race.won(Lane::Older), Some((0, ms(0))));
    }

    #[test]
    fn the_next_at_once_after_a_failure() {
        let mut race = Race::new(3, 1);
        assert_eq!(say(&mut race, 0), [Connect(1), WaitUntil(ms(250))]);
        race.failed(Lane::Older);
        assert_eq!(say(&mut race, 3), [Connect(2), WaitUntil(ms(253))]);
        assert_eq!(say(&mut race, 253), [Connect(0), WaitUntil(ms(5_003))]);
        race.failed(Lane::Older);
        assert_eq!(say(&mut race, 300), [WaitUntil(ms(5_253))], "the other one goes on");
        assert_eq!(race.won(Lane::Older), Some((0, ms(253))));
    }

    #[test]
    fn two_side_by_side_and_the_oldest_makes_room() {
        let mut race = Race::new(4, 0);
        say(&mut race, 0);
        say(&mut race, 250);
        assert_eq!(say(&mut race, 500), [MakeRoom, Connect(2), WaitUntil(ms(750))]);
        assert_eq!(race.running, [Some((1, ms(250))), Some((2, ms(500)))]);
        race.failed(Lane::Newer);
        assert_eq!(say(&mut race, 510), [Connect(3), WaitUntil(ms(5_250))]);
        assert_eq!(say(&mut race, 5_250), [TimedOut(Lane::Older), WaitUntil(ms(5_510))]);
        assert_eq!(say(&mut race, 5_510), [TimedOut(Lane::Older), Failed]);
        assert_eq!(race.begun(), 4);
    }

    #[test]
    fn all_fail() {
        assert_eq!(say(&mut Race::new(0, 0), 0), [Failed]);
        let mut race = Race::new(1, 7);
        assert_eq!(say(&mut race, 0), [Connect(0), WaitUntil(ms(5_000))]);
        assert_eq!(say(&mut race, 5_000), [TimedOut(Lane::Older), Failed]);
        let mut race = Race::new(20, 0);
        for n in 0..ADDRESSES_MAX as u8 {
            assert_eq!(say(&mut race, 0), [Connect(n), WaitUntil(ms(if n == 7 { 5_000 } else { 250 }))]);
            race.failed(Lane::Older);
        }
        assert_eq!(say(&mut race, 0), [Failed]);
    }

    #[test]
    fn little_patience_is_shorter_than_the_delay() {
        let mut race = Race::new(2, 0);
        let short = 100_000_000;
        assert_eq!(race.poll(ms(0), short), Connect(0));
        assert_eq!(race.poll(ms(0), short), WaitUntil(ms(100)));
        assert_eq!(race.poll(ms(100), short), TimedOut(Lane::Older));
        race.failed(Lane::Older);
        assert_eq!(race.poll(ms(100), short), Connect(1));
    }

    #[test]
    fn without_means_of_our_own_no_more_is_tried_and_nobody_has_failed() {
        let mut race = Race::new(3, 0);
        say(&mut race, 0);
        assert_eq!(race.poll(ms(250), PATIENCE), Connect(1));
        race.give_up(Lane::Newer);
        assert_eq!(say(&mut race, 250), [WaitUntil(ms(5_000))]);
        assert!(!race.has_failed());
        race.failed(Lane::Older);
        assert_eq!((say(&mut race, 300), race.has_failed()), (vec![Failed], true));
    }

    #[test]
    fn small() {
        assert!(size_of::<Race>() <= 56);
    }
}
