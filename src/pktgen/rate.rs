//! Rates: what a person writes, and when the next packet is due.

use dataplane::Time;

/// Preamble, start of frame and the gap between frames, in bytes (IEEE 802.3).
pub const GAP_BYTES: u64 = 20;
/// The frame check sequence.
pub const FCS_BYTES: u64 = 4;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Frames per second.
    Packets(f64),
    /// Bits of frames, FCS included, per second.
    Bits(f64),
    /// Percent of what the link can carry, preambles and gaps included.
    Percent(f64),
    /// As fast as the port takes them.
    Max,
}

impl std::str::FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || {
            format!(
                "\"{text}\" is no rate; write packets (10mpps, 50kpps), bits (5gbps, 100mbit), 40% or max"
            )
        };
        let lower = text.to_ascii_lowercase();
        if lower == "max" {
            return Ok(Rate::Max);
        }
        let unit = lower.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = lower.split_at(unit);
        let n: f64 = number.parse().ok().filter(|n| *n > 0.0).ok_or_else(wrong)?;
        if unit == "%" {
            return if n <= 100.0 { Ok(Rate::Percent(n)) } else { Err(wrong()) };
        }
        let (scale, unit) = match unit.as_bytes().first() {
            Some(b'k') => (1e3, &unit[1..]),
            Some(b'm') => (1e6, &unit[1..]),
            Some(b'g') => (1e9, &unit[1..]),
            _ => (1.0, unit),
        };
        match unit {
            "pps" => Ok(Rate::Packets(n * scale)),
            "bps" | "bit" | "bit/s" => Ok(Rate::Bits(n * scale)),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rate::Packets(n) => write!(f, "{}pps", human(*n)),
            Rate::Bits(n) => write!(f, "{}bps", human(*n)),
            Rate::Percent(n) => write!(f, "{n}%"),
            Rate::Max => write!(f, "max"),
        }
    }
}

/// A number with k, m or g: at most three decimals.
pub fn human(n: f64) -> String {
    let (n, unit) = match n {
        n if n >= 1e9 => (n / 1e9, "g"),
        n if n >= 1e6 => (n / 1e6, "m"),
        n if n >= 1e3 => (n / 1e3, "k"),
        n => (n, ""),
    };
    let text = format!("{n:.3}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Says what may be sent now. Credit grows with time, in packets or bits; a frame takes its share.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Credit per nanosecond; `None`: no limit.
    per_ns: Option<f64>,
    bits: bool,
    overhead: u64,
    credit: f64,
    /// The most that is saved up.
    cap: f64,
    last: Time,
    /// Credit that was lost because the sender came too late.
    pub behind: f64,
}

impl Pacer {
    /// For a rate, from `start` on.
    ///
    /// # Errors
    /// A share of a link whose speed nobody knows.
    pub fn new(rate: Rate, link_bps: Option<f64>, start: Time) -> Result<Pacer, String> {
        let (per_s, bits, overhead) = match rate {
            Rate::Max => (None, false, 0),
            Rate::Packets(n) => (Some(n), false, 0),
            Rate::Bits(n) => (Some(n), true, FCS_BYTES),
            Rate::Percent(n) => {
                let link = link_bps
                    .ok_or("a rate in % needs the speed of the link, which this port does not tell; add --link 10gbps")?;
                (Some(link * n / 100.0), true, FCS_BYTES + GAP_BYTES)
            }
        };
        let per_ns = per_s.map(|n| n / 1e9);
        // A millisecond's worth, and never less than a burst of 64 full frames.
        let burst = 64.0 * if bits { 1518.0 * 8.0 } else { 1.0 };
        let cap = per_ns.map_or(0.0, |n| (n * 1e6).max(burst));
        Ok(Pacer { per_ns, bits, overhead, credit: 0.0, cap, last: start, behind: 0.0 })
    }

    /// Lets time pass.
    #[inline]
    pub fn advance(&mut self, now: Time) {
        let Some(per_ns) = self.per_ns else { return };
        self.credit += per_ns * now.since_ns(self.last) as f64;
        self.last = self.last.max(now);
        if self.credit > self.cap {
            self.behind += self.credit - self.cap;
            self.credit = self.cap;
        }
    }

    /// Whether a frame may go.
    #[inline]
    pub fn may(&self) -> bool {
        match self.per_ns {
            None => true,
            // What a frame takes beyond the credit is paid by the next.
            Some(_) if self.bits => self.credit > 0.0,
            Some(_) => self.credit >= 1.0,
        }
    }

    /// A frame has gone.
    #[inline]
    pub fn pay(&mut self, frame_bytes: usize) {
        if self.per_ns.is_some() {
            self.credit -= if self.bits { (frame_bytes as u64 + self.overhead) as f64 * 8.0 } else { 1.0 };
        }
    }

    /// When the next frame may go.
    pub fn next(&self) -> Time {
        self.per_ns.map_or(Time(0), |per_ns| {
            let missing = if self.bits { -self.credit } else { 1.0 - self.credit };
            self.last.plus_ns((missing / per_ns).max(0.0).ceil() as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_rates() {
        for (text, rate) in [
            ("10mpps", Rate::Packets(1e7)),
            ("1.5kpps", Rate::Packets(1500.0)),
            ("7pps", Rate::Packets(7.0)),
            ("5gbps", Rate::Bits(5e9)),
            ("100Mbit", Rate::Bits(1e8)),
            ("40%", Rate::Percent(40.0)),
            ("max", Rate::Max),
        ] {
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
        for bad in ["", "10", "0pps", "101%", "-1pps", "10mb", "pps", "1e3pps", "1.2.3pps"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert_eq!(Rate::Packets(1.5e6).to_string(), "1.5mpps");
        assert_eq!(Rate::Bits(1e8).to_string(), "100mbps");
    }

    fn sent(rate: Rate, frame: usize, step_ns: u64, until_ms: u64) -> u64 {
        let mut p = Pacer::new(rate, Some(1e10), Time(0)).expect("a link");
        let (mut n, mut now) = (0, 0);
        while now < until_ms * 1_000_000 {
            now += step_ns;
            p.advance(Time(now));
            while p.may() {
                p.pay(frame);
                n += 1;
            }
        }
        n
    }

    #[test]
    fn the_rate_is_kept_however_often_it_is_asked() {
        for step in [500, 12_345, 1_000_000] {
            let n = sent(Rate::Packets(100_000.0), 60, step, 1000);
            assert!((99_990..=100_010).contains(&n), "{n} with steps of {step} ns");
        }
        // 1,514 B and 4 of FCS, 1 Gbit/s.
        let n = sent(Rate::Bits(1e9), 1514, 5_000, 1000);
        assert!((82_340..=82_350).contains(&n), "{n}");
        // Line rate of 10G at 64 B: 14.88 Mpps.
        let n = sent(Rate::Percent(100.0), 60, 1_000, 100);
        assert!((1_488_000..=1_488_200).contains(&n), "{n}");
    }

    #[test]
    fn what_could_not_be_sent_in_time_is_not_made_up_for_without_bound() {
        let mut p = Pacer::new(Rate::Packets(1000.0), None, Time(0)).expect("no link needed");
        p.advance(Time(10_000_000_000));
        let mut n = 0;
        while p.may() {
            p.pay(60);
            n += 1;
        }
        assert_eq!(n, 64);
        assert_eq!(p.behind.round(), 10_000.0 - 64.0);
        assert_eq!(p.next(), Time(10_001_000_000));
        assert!(Pacer::new(Rate::Percent(1.0), None, Time(0)).is_err());
    }
}
