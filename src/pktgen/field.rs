//! Fields that change from packet to packet: addresses, ports, VLANs, sizes.

use std::net::IpAddr;

use dataplane::rng::Rng;

/// What a field may be. Addresses are numbers of their width, the first byte the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Always this.
    Fixed(u128),
    /// One after the other, from `lo` to `hi`, and again.
    Step(u128, u128),
    /// Any of `lo` to `hi`, by the seed.
    Random(u128, u128),
}

impl Field {
    /// The smallest value.
    pub fn lowest(self) -> u128 {
        match self {
            Field::Fixed(v) | Field::Step(v, _) | Field::Random(v, _) => v,
        }
    }

    /// The largest.
    pub fn highest(self) -> u128 {
        match self {
            Field::Fixed(v) | Field::Step(_, v) | Field::Random(_, v) => v,
        }
    }

    /// From the words of a person: `80`, `1024-65535` (one after the other), `1024~65535` (at random), `random`.
    ///
    /// # Errors
    /// What is wrong, with the mend.
    pub fn number(text: &str, min: u64, max: u64) -> Result<Field, String> {
        if text == "random" {
            return Ok(Field::Random(min.into(), max.into()));
        }
        let one = |t: &str| match t.parse::<u64>() {
            Ok(n) if (min..=max).contains(&n) => Ok(u128::from(n)),
            _ => Err(format!("\"{t}\" is no number from {min} to {max}")),
        };
        span(text, one)
    }

    /// From the words of a person: an address, `A-B` (one after the other), `A~B` or a prefix (at random).
    ///
    /// # Errors
    /// What is wrong, with the mend.
    pub fn address(text: &str) -> Result<(Field, bool), String> {
        let parse = |t: &str| {
            t.parse::<IpAddr>().map_err(|_| {
                format!("\"{t}\" is no address; write one, a range A-B or A~B, or a prefix A/LEN")
            })
        };
        if let Some((net, len)) = text.split_once('/') {
            let net = parse(net)?;
            let bits: u32 = if net.is_ipv4() { 32 } else { 128 };
            let len: u32 = len
                .parse()
                .ok()
                .filter(|l| *l <= bits)
                .ok_or_else(|| format!("\"{len}\" is no prefix length; write 0 to {bits}"))?;
            let host = if bits == len { 0 } else { u128::MAX >> (128 - (bits - len)) };
            let lo = number_of(net) & !host;
            return Ok((Field::Random(lo, lo | host), net.is_ipv6()));
        }
        let first = parse(text.split(['-', '~']).next().unwrap_or(text))?;
        let same = |t: &str| {
            let a = parse(t)?;
            if a.is_ipv6() != first.is_ipv6() {
                return Err(format!("\"{text}\" mixes IPv4 and IPv6; keep to one"));
            }
            Ok(number_of(a))
        };
        Ok((span(text, same)?, first.is_ipv6()))
    }
}

fn span(text: &str, one: impl Fn(&str) -> Result<u128, String>) -> Result<Field, String> {
    for (mark, make) in [('-', Field::Step as fn(u128, u128) -> Field), ('~', Field::Random)] {
        if let Some((lo, hi)) = text.split_once(mark) {
            let (lo, hi) = (one(lo)?, one(hi)?);
            if lo > hi {
                return Err(format!("\"{text}\" ends before it begins; turn it round"));
            }
            return Ok(if lo == hi { Field::Fixed(lo) } else { make(lo, hi) });
        }
    }
    Ok(Field::Fixed(one(text)?))
}

/// An address as a number of its width.
pub fn number_of(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// A field on its way through its values.
#[derive(Clone, Debug)]
pub enum Varied {
    /// Always this.
    Fixed(u128),
    /// All its values have the same first 64 bits, or only the last 64.
    Near { above: u64, low: Near },
    /// From `lo` to `hi`, and again.
    Step { lo: u128, hi: u128, at: u128 },
    /// `lo`, and up to `span`.
    Random { lo: u128, span: u128 },
}

/// Values of up to 64 bits.
#[derive(Clone, Debug)]
pub enum Near {
    /// From `lo` to `hi`, and again.
    Step { lo: u64, hi: u64, at: u64 },
    /// `lo`, and a number below `n`.
    Below { lo: u64, n: u64 },
    /// Any.
    Any,
}

impl Near {
    /// The next value.
    #[inline(always)]
    pub fn next(&mut self, rng: &mut Rng) -> u64 {
        match self {
            Near::Below { lo, n } => *lo + rng.below(*n),
            Near::Step { lo, hi, at } => {
                let v = *at;
                *at = if v >= *hi { *lo } else { v + 1 };
                v
            }
            Near::Any => rng.next_u64(),
        }
    }
}

impl From<Field> for Varied {
    fn from(field: Field) -> Varied {
        let (lo, hi) = (field.lowest(), field.highest());
        let is_near = lo >> 64 == hi >> 64;
        let low = match field {
            _ if lo == hi => return Varied::Fixed(lo),
            Field::Step(..) if is_near => Near::Step { lo: lo as u64, hi: hi as u64, at: lo as u64 },
            _ if is_near => match ((hi - lo) as u64).checked_add(1) {
                Some(n) => Near::Below { lo: lo as u64, n },
                None => Near::Any,
            },
            Field::Step(..) => return Varied::Step { lo, hi, at: lo },
            _ => return Varied::Random { lo, span: hi - lo },
        };
        Varied::Near { above: (lo >> 64) as u64, low }
    }
}

impl Varied {
    /// The next value.
    pub fn next(&mut self, rng: &mut Rng) -> u128 {
        match self {
            Varied::Fixed(v) => *v,
            Varied::Near { above, low } => u128::from(*above) << 64 | u128::from(low.next(rng)),
            Varied::Step { lo, hi, at } => {
                let v = *at;
                *at = if v >= *hi { *lo } else { v + 1 };
                v
            }
            Varied::Random { lo, span } => {
                let word = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
                span.checked_add(1).map_or(word, |n| *lo + word % n)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_fields() {
        let n = |t| Field::number(t, 0, 65_535);
        assert_eq!(n("80"), Ok(Field::Fixed(80)));
        assert_eq!(n("1-3"), Ok(Field::Step(1, 3)));
        assert_eq!(n("7-7"), Ok(Field::Fixed(7)));
        assert_eq!(n("1~3"), Ok(Field::Random(1, 3)));
        assert_eq!(n("random"), Ok(Field::Random(0, 65_535)));
        for bad in ["", "x", "65536", "3-1", "-1", "1-", "1--2"] {
            assert!(n(bad).is_err(), "{bad}");
        }
        let a = |t| Field::address(t);
        assert_eq!(a("10.0.0.1"), Ok((Field::Fixed(0x0a00_0001), false)));
        assert_eq!(a("10.0.0.1-10.0.0.3"), Ok((Field::Step(0x0a00_0001, 0x0a00_0003), false)));
        assert_eq!(a("10.1.2.3/16"), Ok((Field::Random(0x0a01_0000, 0x0a01_ffff), false)));
        assert_eq!(a("10.0.0.1/32"), Ok((Field::Random(0x0a00_0001, 0x0a00_0001), false)));
        assert_eq!(a("0.0.0.0/0"), Ok((Field::Random(0, u128::from(u32::MAX)), false)));
        let (f, v6) = a("2001:db8::/64").expect("a prefix");
        assert!(v6 && f.highest() - f.lowest() == u128::from(u64::MAX));
        assert_eq!(a("::/0").map(|(f, _)| f), Ok(Field::Random(0, u128::MAX)));
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.1-::1", "10.0.0.2-10.0.0.1", "a/8"] {
            assert!(a(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_stay_within_and_come_round() {
        let mut rng = Rng::new(1);
        let mut v = Varied::from(Field::Step(5, 7));
        let got: Vec<u128> = (0..7).map(|_| v.next(&mut rng)).collect();
        assert_eq!(got, [5, 6, 7, 5, 6, 7, 5]);
        for (lo, hi) in [(1, 3), (0, u128::from(u64::MAX)), (0, u128::MAX), (9, 9), (5, 5 + (1 << 100))] {
            let mut v = Varied::from(Field::Random(lo, hi));
            assert!((0..1000).all(|_| (lo..=hi).contains(&v.next(&mut rng))), "{lo}..{hi}");
        }
    }
}
