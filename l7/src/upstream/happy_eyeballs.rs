//! Which of an origin's addresses to try, and when (RFC 8305).
//!
//! Addresses are tried in turn, IPv6 and IPv4 by turns, each 250 ms after the one before or as soon as that has
//! failed. The first connection that is made wins; the others are for the caller to abort.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use dataplane::Time;

/// Addresses of one origin that are tried; more are left out.
pub const ADDRESSES_MAX: usize = 8;
/// RFC 8305, section 8: the Connection Attempt Delay.
pub const ATTEMPT_DELAY_NS: u64 = 250_000_000;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Open a connection to the address; its number is for [`HappyEyeballs::failed`] and
    /// [`HappyEyeballs::connected`].
    Connect(u8, IpAddr),
    /// Nothing before this time; [`Time::NEVER`] when all have been tried and some are still under way.
    WaitUntil(Time),
    /// All have failed.
    Failed,
}

/// One race.
#[derive(Clone, Debug)]
pub struct HappyEyeballs {
    addresses: ArrayVec<IpAddr, ADDRESSES_MAX>,
    /// The next one to try.
    next: u8,
    /// When it is its turn, if none fails before.
    next_at: Time,
    /// Attempts under way.
    running: u8,
}

impl HappyEyeballs {
    /// A race between `addresses`, beginning with `first` (the one that won last time) if it is among them, else
    /// with IPv6 (section 4).
    pub fn new(addresses: &[IpAddr], first: Option<IpAddr>) -> HappyEyeballs {
        let mut order: ArrayVec<IpAddr, ADDRESSES_MAX> = ArrayVec::new();
        let first = first.filter(|f| addresses.contains(f));
        if let Some(first) = first {
            order.push(first);
        }
        let rest = |v6: bool| addresses.iter().filter(move |a| a.is_ipv6() == v6 && Some(**a) != first);
        let (mut six, mut four) = (rest(true), rest(false));
        let mut six_next = first.is_none_or(|f| f.is_ipv4());
        while !order.is_full() {
            let next = if six_next {
                six.next().or_else(|| four.next())
            } else {
                four.next().or_else(|| six.next())
            };
            let Some(next) = next else { break };
            if !order.contains(next) {
                order.push(*next);
                six_next = next.is_ipv4();
            }
        }
        HappyEyeballs { addresses: order, next: 0, next_at: Time(0), running: 0 }
    }

    /// What is to be done now. Ask again after each answer until it is to wait, and after each event.
    pub fn poll(&mut self, now: Time) -> Attempt {
        let Some(&address) = self.addresses.get(usize::from(self.next)) else {
            return if self.running == 0 { Attempt::Failed } else { Attempt::WaitUntil(Time::NEVER) };
        };
        if self.running != 0 && now < self.next_at {
            return Attempt::WaitUntil(self.next_at);
        }
        let number = self.next;
        self.next += 1;
        self.running |= 1 << number;
        self.next_at = now.plus_ns(ATTEMPT_DELAY_NS);
        Attempt::Connect(number, address)
    }

    /// An attempt failed (refused, timed out, no route): the next one need not wait (section 5).
    pub fn failed(&mut self, number: u8, now: Time) {
        self.running &= !(1u8.checked_shl(number.into()).unwrap_or(0));
        self.next_at = now;
    }

    /// An attempt has a connection: the race is over. Gives the numbers, as bits, of those to abort.
    pub fn connected(&mut self, number: u8) -> u8 {
        let losers = self.running & !(1u8.checked_shl(number.into()).unwrap_or(0));
        self.running = 0;
        self.next = self.addresses.len() as u8;
        losers
    }

    /// The address of an attempt.
    pub fn address(&self, number: u8) -> Option<IpAddr> {
        self.addresses.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn order(addresses: &[&str], first: Option<&str>) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| ip(a)).collect();
        let race = HappyEyeballs::new(&addresses, first.map(ip));
        race.addresses.iter().map(|a| a.to_string()).collect()
    }

    #[test]
    fn families_by_turns() {
        let all = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "::1", "::2"];
        assert_eq!(order(&all, None), ["::1", "1.1.1.1", "::2", "1.1.1.2", "1.1.1.3"]);
        assert_eq!(order(&all, Some("1.1.1.2")), ["1.1.1.2", "::1", "1.1.1.1", "::2", "1.1.1.3"]);
        assert_eq!(order(&all, Some("9.9.9.9"))[0], "::1");
        assert_eq!(order(&["1.1.1.1", "1.1.1.1"], None), ["1.1.1.1"]);
        let many: Vec<String> = (0..20).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(order(&many, None).len(), ADDRESSES_MAX);
        assert!(order(&[], None).is_empty());
    }

    #[test]
    fn the_next_one_after_a_delay_or_a_failure() {
        let ms = Time::from_ms;
        let mut race = HappyEyeballs::new(&[ip("::1"), ip("::2"), ip("1.1.1.1"), ip("1.1.1.2")], None);
        assert_eq!(race.poll(ms(0)), Attempt::Connect(0, ip("::1")));
        assert_eq!(race.poll(ms(0)), Attempt::WaitUntil(ms(250)));
        assert_eq!(race.poll(ms(250)), Attempt::Connect(1, ip("1.1.1.1")));
        assert_eq!(race.poll(ms(250)), Attempt::WaitUntil(ms(500)));
        race.failed(1, ms(300));
        assert_eq!(race.poll(ms(300)), Attempt::Connect(2, ip("::2")));
        assert_eq!(race.poll(ms(400)), Attempt::WaitUntil(ms(550)));
        assert_eq!(race.connected(0), 0b100, "the third is aborted, the second has failed already");
        assert_eq!(race.address(0), Some(ip("::1")));
    }

    #[test]
    fn all_fail() {
        let mut race = HappyEyeballs::new(&[ip("1.1.1.1"), ip("1.1.1.2")], None);
        for (number, address) in [(0, "1.1.1.1"), (1, "1.1.1.2")] {
            assert_eq!(race.poll(Time(5)), Attempt::Connect(number, ip(address)));
            race.failed(number, Time(5));
        }
        assert_eq!(race.poll(Time(5)), Attempt::Failed);
        assert_eq!(HappyEyeballs::new(&[], None).poll(Time(0)), Attempt::Failed);

        let mut race = HappyEyeballs::new(&[ip("1.1.1.1")], None);
        race.poll(Time(0));
        assert_eq!(race.poll(Time(1)), Attempt::WaitUntil(Time::NEVER));
        race.failed(200, Time(1));
        assert_eq!(race.poll(Time(1)), Attempt::WaitUntil(Time::NEVER), "there is no such attempt");
    }
}
