//! The addresses that connections come from: one after the other, so that each has its share of the ports.

use std::net::IpAddr;

use stack::Addr;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
}

impl std::str::FromStr for Sources {
    type Err = String;
    /// `10.1.0.0/16`, `10.1.0.1-10.1.0.99`, or an address.
    fn from_str(text: &str) -> Result<Sources, String> {
        let wrong =
            || format!("\"{text}\" are no addresses; write 10.1.0.0/16, 10.1.0.1-10.1.0.99 or 10.1.0.1");
        let address = |t: &str| t.trim().parse::<IpAddr>().map_err(|_| wrong());
        if let Some((a, b)) = text.split_once('-') {
            let (first, last) = (address(a)?, address(b)?);
            if first.is_ipv4() != last.is_ipv4() {
                return Err(format!("\"{text}\" begins in one family and ends in the other; keep to one"));
            }
            if first > last {
                return Err(format!("\"{text}\" ends before it begins; turn it round"));
            }
            return Ok(Sources { first, last });
        }
        let Some((a, len)) = text.split_once('/') else {
            let one = address(text)?;
            return Ok(Sources { first: one, last: one });
        };
        let a = address(a)?;
        let bits = if a.is_ipv4() { 32 } else { 128 };
        let len: u32 = len.parse().ok().filter(|l| *l <= bits).ok_or_else(wrong)?;
        let host = u128::MAX.checked_shr(len + 128 - bits).unwrap_or(0);
        let n = number(a) & !host;
        // Not the network's own address and not its broadcast, where it has them.
        let edge = u128::from(bits == 32 && len < 31);
        Ok(Sources { first: of(n + edge, a.is_ipv4()), last: of((n | host) - edge, a.is_ipv4()) })
    }
}

fn number(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

fn of(n: u128, v4: bool) -> IpAddr {
    if v4 { IpAddr::V4((n as u32).into()) } else { IpAddr::V6(n.into()) }
}

impl Sources {
    /// How many there are; no more than a `u32` holds are ever used.
    pub fn count(&self) -> u32 {
        (number(self.last) - number(self.first)).saturating_add(1).min(u32::MAX.into()) as u32
    }

    /// The `i`-th, round and round.
    pub fn nth(&self, i: u32) -> Addr {
        of(number(self.first) + u128::from(i % self.count()), self.first.is_ipv4()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_networks_and_single_addresses() {
        for (text, first, last, count) in [
            ("10.1.0.0/16", "10.1.0.1", "10.1.255.254", 65_534),
            ("10.1.7.9/24", "10.1.7.1", "10.1.7.254", 254),
            ("10.1.7.8/31", "10.1.7.8", "10.1.7.9", 2),
            ("10.1.7.8", "10.1.7.8", "10.1.7.8", 1),
            ("10.1.0.250-10.1.1.5", "10.1.0.250", "10.1.1.5", 12),
            ("fd00::/120", "fd00::", "fd00::ff", 256),
            ("fd00::/64", "fd00::", "fd00::ffff:ffff:ffff:ffff", u32::MAX),
        ] {
            let s: Sources = text.parse().expect(text);
            let ip = |t: &str| t.parse::<IpAddr>().expect(t);
            assert_eq!((s.first, s.last, s.count()), (ip(first), ip(last), count), "{text}");
        }
        let s: Sources = "10.1.0.250-10.1.1.5".parse().expect("good");
        assert_eq!(s.nth(7).ip().to_string(), "10.1.1.1");
        assert_eq!(s.nth(12), s.nth(0));
        for (bad, says) in [
            ("", "write 10.1.0.0/16"),
            ("10.1.0.0/33", "write 10.1.0.0/16"),
            ("10.1.0.9-10.1.0.1", "turn it round"),
            ("10.1.0.9-fd00::1", "keep to one"),
            ("all", "write 10.1.0.0/16"),
        ] {
            let e = bad.parse::<Sources>().expect_err(bad);
            assert!(e.contains(says), "{bad}: {e}");
        }
    }
}
