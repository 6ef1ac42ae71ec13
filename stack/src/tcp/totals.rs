//! What connections have done in all: of each while it lives, and added up by listener and congestion control.
//!
//! ```text
//!  hot path ── a few additions ──► Tally (in the control block) ── it ends ──► Totals::ended
//!                                        │                          │
//!                 somebody asks: walk ───┴── not walked past yet ───┴──► Totals::counted
//! ```
//!
//! Nothing is added up while nobody asks, but for what a connection leaves when it ends. A [walk](Tcp::count) begins with
//! all that has ended, and adds the living, a few in a pass. A connection that ends meanwhile is added by its end if the
//! walk has not come to it, so that each is counted once: a sum never goes down from one walk to the next.

use dataplane::Time;
use hugepages::SlabIndex;

use super::cc::Algorithm;
use super::info::{COPIES_MAX, LOOKS_MAX};
use super::rate::micros;
use super::tcb::{Flags, FlowId, Tcb};
use super::{LISTENERS_MAX, Tcp};

/// Algorithms that there are.
const ALGORITHMS: usize = Algorithm::ALL.len();
/// No walk is under way: every place has been walked past.
const DONE: u32 = u32::MAX;

/// What one connection has done. Beside these there are `Delivered` and `Recovery`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Sequence numbers that the peer has acknowledged: the data, and our FIN.
    pub acked: u64,
    /// Bytes taken in order.
    pub received: u64,
    /// Time with data out, µs, up to `busy_since_us`.
    busy_us: u64,
    /// Where data is out, up to when that is in `busy_us`, µs modulo 2^32.
    busy_since_us: u32,
    /// Segments sent, of any kind, modulo 2^32: six terabytes of them. The bytes are counted whole.
    pub segments_out: u32,
    /// Segments that came, modulo 2^32.
    pub segments_in: u32,
    /// Segments sent again. Saturating, as all that follows.
    pub resent: u32,
    /// Retransmission timeouts.
    pub timeouts: u16,
    /// Recoveries that ACKs began.
    pub recoveries: u16,
    /// Tail loss probes.
    pub tail_probes: u16,
    /// Losses that were none.
    pub undone: u16,
}

impl Tally {
    /// Nothing has been done.
    pub const EMPTY: Tally = Tally {
        acked: 0,
        received: 0,
        busy_us: 0,
        busy_since_us: 0,
        segments_out: 0,
        segments_in: 0,
        resent: 0,
        timeouts: 0,
        recoveries: 0,
        tail_probes: 0,
        undone: 0,
    };

    /// Data goes out, and nothing was.
    #[inline]
    pub(super) fn begins(&mut self, now_us: u32) {
        self.busy_since_us = now_us;
    }

    /// So much of what was out is acknowledged.
    #[inline]
    pub(super) fn acknowledged(&mut self, n: u32, now_us: u32) {
        self.acked += u64::from(n);
        self.goes_on(now_us);
    }

    /// Data has been out until now. More often than the clock of microseconds goes round (71 minutes).
    #[inline]
    pub(super) fn goes_on(&mut self, now_us: u32) {
        self.busy_us += u64::from(now_us.wrapping_sub(self.busy_since_us));
        self.busy_since_us = now_us;
    }

    /// Time with data out, µs; `out`: some is now.
    pub(super) fn busy_us(&self, out: bool, now: Time) -> u64 {
        let since = if out { micros(now).wrapping_sub(self.busy_since_us) } else { 0 };
        self.busy_us + u64::from(since)
    }
}

macro_rules! class {
    ($($(#[$doc:meta])* $field:ident)*) => {
        /// Sums over some connections.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Class {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Class {
            /// The names of the fields, in the order of [`Class::words`].
            pub const NAMES: &[&str] = &[$(stringify!($field)),*];

            /// The fields as words.
            pub fn words(&self) -> [u64; Class::NAMES.len()] {
                [$(self.$field),*]
            }

            /// From words.
            pub fn of([$($field),*]: [u64; Class::NAMES.len()]) -> Class {
                Class { $($field),* }
            }

            /// Adds others; of the least, the least.
            pub fn add(&mut self, other: &Class) {
                let least = [self.min_rtt_us, other.min_rtt_us].into_iter().filter(|n| *n > 0).min();
                $(self.$field += other.$field;)*
                self.min_rtt_us = least.unwrap_or(0);
            }
        }
    };
}

class! {
    /// Connections that are open (or being opened or closed).
    open
    /// Connections that came, or that we opened.
    opened
    /// SYNs refused, as there was no room.
    refused
    /// Sequence numbers acknowledged: the data, and FINs.
    bytes_acked
    /// Bytes received in order.
    bytes_received
    /// Segments sent, of any kind.
    segments_sent
    /// Segments that came.
    segments_received
    /// Segments sent again.
    retransmitted_segments
    /// Bytes sent again.
    retransmitted_bytes
    /// Retransmission timeouts.
    timeouts
    /// Recoveries that ACKs began.
    recoveries
    /// Tail loss probes.
    tail_probes
    /// Losses that were none.
    undone
    /// Time with data out, µs, added up.
    busy_us
    /// Smoothed RTTs, µs, added up.
    srtt_sum_us
    /// Connections that have one.
    srtt_flows
    /// The lowest RTT, µs; 0: none is known.
    min_rtt_us
}

/// Whose connections: those of a listener, or those that we opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// They came by this listener.
    Listener(u16),
    /// We opened them.
    Ours,
}

/// Sums by side and algorithm.
pub(super) struct Totals {
    /// Of connections that have ended; refused ones.
    ended: Box<[Class]>,
    /// What the walk under way, or the last one, has come to.
    counted: Box<[Class]>,
    /// Where the walk stands.
    place: u32,
}

impl Totals {
    pub(super) fn new() -> Totals {
        let classes = || vec![Class::default(); (LISTENERS_MAX + 1) * ALGORITHMS].into_boxed_slice();
        Totals { ended: classes(), counted: classes(), place: DONE }
    }
}

fn place_of(side: Side, algorithm: Algorithm) -> usize {
    let side = match side {
        Side::Listener(n) => usize::from(n).min(LISTENERS_MAX - 1),
        Side::Ours => LISTENERS_MAX,
    };
    side * ALGORITHMS + algorithm as usize
}

fn side_of(t: &Tcb) -> Side {
    if t.flags.has(Flags::ACTIVE) { Side::Ours } else { Side::Listener(t.listener) }
}

/// What a connection has done.
fn sum_of(t: &Tcb, open: bool, now: Time) -> Class {
    let (n, srtt) = (&t.tally, t.rtt.srtt_us);
    Class {
        open: open.into(),
        opened: 1,
        refused: 0,
        bytes_acked: n.acked,
        bytes_received: n.received,
        segments_sent: n.segments_out.into(),
        segments_received: n.segments_in.into(),
        retransmitted_segments: n.resent.into(),
        retransmitted_bytes: t.rate.resent,
        timeouts: n.timeouts.into(),
        recoveries: n.recoveries.into(),
        tail_probes: n.tail_probes.into(),
        undone: n.undone.into(),
        busy_us: n.busy_us(!t.out.is_empty(), now),
        srtt_sum_us: srtt.into(),
        srtt_flows: (srtt > 0).into(),
        min_rtt_us: Some(t.recovery.rack.min_rtt_us).filter(|n| *n != u32::MAX).unwrap_or(0).into(),
    }
}

impl Tcp {
    /// A connection is released: what it has done is kept in the sums.
    pub(super) fn sum_up(&mut self, id: FlowId) {
        let t = &self.table.flows[id];
        // What was out when it ended is no time of sending that anybody would ask for.
        let (sum, place) = (sum_of(t, false, t.last_heard), place_of(side_of(t), t.cc.algorithm()));
        self.totals.ended[place].add(&sum);
        if self.totals.place != DONE && id.to_u32() >= self.totals.place {
            self.totals.counted[place].add(&sum);
        }
    }

    /// A SYN was refused for want of room.
    #[inline(never)]
    pub(super) fn refused(&mut self, listener: u16) {
        let algorithm = self.tuning(listener).congestion.algorithm;
        let place = place_of(Side::Listener(listener), algorithm);
        self.totals.ended[place].refused += 1;
        if self.totals.place != DONE {
            self.totals.counted[place].refused += 1;
        }
    }

    /// Begins to count all connections.
    pub fn begin_count(&mut self) {
        self.totals.counted.copy_from_slice(&self.totals.ended);
        self.totals.place = 0;
    }

    /// Counts on, a bounded amount; gives whether all are counted.
    pub fn count(&mut self, now: Time) -> bool {
        let flows = &self.table.flows;
        let (mut at, end) = (self.totals.place, self.totals.place.saturating_add(LOOKS_MAX));
        let mut counted = 0;
        while at < end && counted < COPIES_MAX && at < flows.capacity() {
            match flows.next_used(at, end - at) {
                Ok(id) => {
                    let t = &flows[id];
                    if !t.flags.has(Flags::DEAD) {
                        let place = place_of(side_of(t), t.cc.algorithm());
                        self.totals.counted[place].add(&sum_of(t, true, now));
                    }
                    counted += 1;
                    at = id.to_u32() + 1;
                }
                Err(on) => at = on.max(at + 1),
            }
        }
        let done = at >= flows.capacity();
        self.totals.place = if done { DONE } else { at };
        done
    }

    /// What the last count has come to: by the listeners that there are, and at last our own connections; for each by the
    /// number of the algorithm.
    pub fn counted(&self) -> impl Iterator<Item = &Class> {
        let (theirs, ours) = self.totals.counted.split_at(LISTENERS_MAX * ALGORITHMS);
        theirs[..self.listeners.len() * ALGORITHMS].iter().chain(ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_the_least() {
        let mut a = Class { open: 1, bytes_acked: 7, min_rtt_us: 0, ..Class::default() };
        a.add(&Class { open: 2, bytes_acked: 3, min_rtt_us: 50, ..Class::default() });
        assert_eq!((a.open, a.bytes_acked, a.min_rtt_us), (3, 10, 50));
        a.add(&Class { min_rtt_us: 40, ..Class::default() });
        a.add(&Class { min_rtt_us: 0, ..Class::default() });
        assert_eq!(a.min_rtt_us, 40);
        assert_eq!(Class::of(a.words()), a);
        assert_eq!(Class::NAMES[0], "open");
    }

    #[test]
    fn time_with_data_out() {
        let mut t = Tally::default();
        t.begins(100);
        t.acknowledged(10, 150);
        assert_eq!(t.busy_us(true, Time(160_000)), 60);
        t.acknowledged(10, 200);
        assert_eq!((t.acked, t.busy_us(false, Time(999_000))), (20, 100));
        // The clock of microseconds wraps.
        t.begins(u32::MAX - 9);
        t.acknowledged(1, 10);
        assert_eq!(t.busy_us(false, Time(0)), 120);
        // A download of ten hours, in which there is always something out; for the first two the window is closed.
        let (hour, began) = (3_600_000_000u64, 10);
        for half in 1..20 {
            let now_us = (began + half * hour / 2) as u32;
            if half < 4 { t.goes_on(now_us) } else { t.acknowledged(1, now_us) }
        }
        let now = Time((began + 10 * hour) * 1000);
        assert_eq!(t.busy_us(true, now), 120 + 10 * hour);
    }
}
