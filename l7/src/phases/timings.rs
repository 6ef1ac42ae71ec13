//! How long the parts of an exchange took.

/// A moment in the life of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mark {
    /// The request's head is complete.
    Start,
    /// A connection to an origin is asked for: the wait for a place in its queue is over.
    ConnectStart,
    /// There is one, new or kept.
    Connected,
    /// The request's head is handed to it.
    RequestSent,
    /// The origin's response begins.
    OriginFirstByte,
    /// Our response begins.
    FirstByte,
    /// Our response is handed to TCP to its last byte.
    LastByte,
}

impl Mark {
    const COUNT: usize = 7;

    /// All of them, in order.
    pub const ALL: [Mark; Mark::COUNT] = [
        Mark::Start,
        Mark::ConnectStart,
        Mark::Connected,
        Mark::RequestSent,
        Mark::OriginFirstByte,
        Mark::FirstByte,
        Mark::LastByte,
    ];
}

/// The moments of one exchange, 32 bytes: each in microseconds after the start, a little over an hour at most.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    start_ns: u64,
    /// After the start, [`UNSET`] where it has not come.
    marks_us: [u32; Mark::COUNT - 1],
}

const UNSET: u32 = u32::MAX;
const MAX_US: u64 = UNSET as u64 - 1;

impl Timings {
    /// The request's head is complete at `now_ns`.
    pub const fn start(now_ns: u64) -> Self {
        Self { start_ns: now_ns, marks_us: [UNSET; Mark::COUNT - 1] }
    }

    /// It is `now_ns`. A mark of the way to the origin is moved by a retry; the first byte that we send is not.
    pub fn mark(&mut self, mark: Mark, now_ns: u64) {
        let after_us = (now_ns.saturating_sub(self.start_ns) / 1_000).min(MAX_US) as u32;
        let Some(at) = (mark as usize).checked_sub(1) else {
            *self = Self::start(now_ns);
            return;
        };
        if mark == Mark::FirstByte && self.marks_us[at] != UNSET {
            return;
        }
        self.marks_us[at] = after_us;
        // What came before a retry is no part of the try that counts.
        if mark < Mark::FirstByte {
            self.marks_us[at + 1..Mark::FirstByte as usize - 1].fill(UNSET);
        }
    }

    /// Takes the way to the origin from another exchange, which went it for this one.
    pub fn take_origin(&mut self, other: &Timings) {
        for mark in Mark::ALL.into_iter().filter(|m| (Mark::ConnectStart..Mark::FirstByte).contains(m)) {
            let at = mark as usize - 1;
            let moved = |us: u32| {
                let ns = other.start_ns.saturating_add(u64::from(us) * 1_000).saturating_sub(self.start_ns);
                (ns / 1_000).min(MAX_US) as u32
            };
            self.marks_us[at] = other.get(mark).map_or(UNSET, moved);
        }
    }

    /// From the head of the request to the place in the origin's queue.
    pub fn wait_us(&self) -> Option<u32> {
        self.get(Mark::ConnectStart)
    }

    /// From there to a connection; 0 for a kept one.
    pub fn connect_us(&self) -> Option<u32> {
        self.between(Mark::ConnectStart, Mark::Connected)
    }

    /// From the request's head sent to the origin's first byte.
    pub fn origin_first_byte_us(&self) -> Option<u32> {
        self.between(Mark::RequestSent, Mark::OriginFirstByte)
    }

    /// From the head of the request to our first byte.
    pub fn first_byte_us(&self) -> Option<u32> {
        self.get(Mark::FirstByte)
    }

    /// From the head of the request to our last byte.
    pub fn last_byte_us(&self) -> Option<u32> {
        self.get(Mark::LastByte)
    }

    fn get(&self, mark: Mark) -> Option<u32> {
        let us = *self.marks_us.get((mark as usize).wrapping_sub(1))?;
        (us != UNSET).then_some(us)
    }

    fn between(&self, from: Mark, to: Mark) -> Option<u32> {
        Some(self.get(to)?.saturating_sub(self.get(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small() {
        assert!(size_of::<Timings>() <= 32);
    }

    #[test]
    fn a_miss() {
        let mut t = Timings::start(1_000_000);
        assert_eq!((t.wait_us(), t.connect_us(), t.last_byte_us()), (None, None, None));
        for (mark, us) in [
            (Mark::ConnectStart, 5),
            (Mark::Connected, 105),
            (Mark::RequestSent, 106),
            (Mark::OriginFirstByte, 1_106),
            (Mark::FirstByte, 1_110),
            (Mark::FirstByte, 1_500),
            (Mark::LastByte, 9_000),
        ] {
            t.mark(mark, 1_000_000 + us * 1_000);
        }
        assert_eq!(
            [t.wait_us(), t.connect_us(), t.origin_first_byte_us(), t.first_byte_us(), t.last_byte_us()],
            [Some(5), Some(100), Some(1_000), Some(1_110), Some(9_000)]
        );
    }

    #[test]
    fn a_hit_has_no_origin() {
        let mut t = Timings::start(0);
        t.mark(Mark::FirstByte, 3_999);
        t.mark(Mark::LastByte, u64::MAX);
        assert_eq!((t.wait_us(), t.connect_us(), t.origin_first_byte_us()), (None, None, None));
        assert_eq!((t.first_byte_us(), t.last_byte_us()), (Some(3), Some(u32::MAX - 1)));
    }

    #[test]
    fn a_fetch_went_the_way() {
        let mut fetch = Timings::start(10_000);
        fetch.mark(Mark::ConnectStart, 12_000);
        fetch.mark(Mark::Connected, 15_000);
        let mut t = Timings::start(5_000);
        t.mark(Mark::FirstByte, 30_000);
        t.take_origin(&fetch);
        assert_eq!((t.wait_us(), t.connect_us(), t.origin_first_byte_us()), (Some(7), Some(3), None));
        assert_eq!(t.first_byte_us(), Some(25));
    }

    #[test]
    fn a_retry_starts_the_origins_part_anew() {
        let mut t = Timings::start(0);
        t.mark(Mark::ConnectStart, 1_000);
        t.mark(Mark::Connected, 2_000);
        t.mark(Mark::RequestSent, 2_000);
        t.mark(Mark::OriginFirstByte, 3_000);
        t.mark(Mark::ConnectStart, 10_000);
        assert_eq!((t.wait_us(), t.connect_us(), t.origin_first_byte_us()), (Some(10), None, None));
        t.mark(Mark::Connected, 9_000);
        assert_eq!(t.connect_us(), Some(0), "a clock that goes back does no harm");
        t.mark(Mark::Start, 50_000);
        assert_eq!(t.wait_us(), None);
    }
}
