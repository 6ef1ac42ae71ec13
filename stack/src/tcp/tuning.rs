//! What is chosen for a listener's connections: their congestion control, and how many there may be.
//!
//! It may change while the engine runs, for connections to come. A share of them may have another algorithm than the
//! rest. The share is a part of all hashes, so that a connection's algorithm follows from its addresses and ports alone,
//! and the secret: every packet of it would choose the same.

use super::Tcp;
use super::cc::{Algorithm, Cc, NO_THRESHOLD};
use super::tcb::{Flags, FlowId};

/// Which algorithm connections get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Congestion {
    /// That of those that no share of `split` is for.
    pub algorithm: Algorithm,
    /// Others for shares of them, to compare them: by an algorithm's number, how many of a hundred have it.
    pub split: [u8; Algorithm::ALL.len()],
}

impl Congestion {
    /// The same for all.
    pub const fn all(algorithm: Algorithm) -> Congestion {
        Congestion { algorithm, split: [0; Algorithm::ALL.len()] }
    }

    /// The algorithm of the connection with this hash.
    pub(super) fn choose(&self, hash: u32) -> Algorithm {
        let mut place = (u64::from(hash) * 100) >> 32;
        for a in Algorithm::ALL {
            let share = u64::from(self.split[a as usize]);
            if place < share {
                return a;
            }
            place -= share;
        }
        self.algorithm
    }
}

/// How a listener treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Their congestion control.
    pub congestion: Congestion,
    /// Most of them at a time, on this core; those whose handshake is not done do not count.
    pub connections_max: u32,
    /// They are counted with those of this listener, whose bound is theirs too; `None`: for themselves. For an address of
    /// several; never changed while there are any.
    pub counted_with: Option<u16>,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { congestion: Congestion::default(), connections_max: u32::MAX, counted_with: None }
    }
}

impl Tcp {
    /// Treats connections that come by `listener` from now on like this. No listener of this number: nothing.
    pub fn tune(&mut self, listener: u16, tuning: Tuning) {
        if let Some(l) = self.listeners.get_mut(usize::from(listener)) {
            l.tuning = tuning;
        }
    }

    /// How `listener` treats its connections.
    pub fn tuning(&self, listener: u16) -> Tuning {
        self.listeners.get(usize::from(listener)).map_or_else(Tuning::default, |l| l.tuning)
    }

    /// Gives a connection another congestion control: that of its site, which is not known before its request. What its
    /// window has come to it keeps.
    pub fn set_algorithm(&mut self, id: FlowId, algorithm: Algorithm) {
        let t = &mut self.table.flows[id];
        if t.cc.algorithm() != algorithm {
            t.cc = Cc::new(algorithm, t.hash);
            if t.recovery.is_reducing() && t.window.ssthresh == NO_THRESHOLD {
                // The one before it recovers to no threshold (BBR); this one's window will be what it finds there.
                t.window.ssthresh = (t.recovery.prior_cwnd() / 2).max(2 * u32::from(t.mss));
            }
        }
    }

    /// The listener that the connections of `listener` are counted at.
    #[inline]
    pub(super) fn counter_of(&self, listener: u16) -> usize {
        let with = self.listeners[usize::from(listener)].tuning.counted_with;
        with.map(usize::from).filter(|n| *n < self.listeners.len()).unwrap_or(usize::from(listener))
    }

    /// Lets at most `max` connections that came by a listener be open at once. SYNs beyond that are dropped and counted: the
    /// client tries again in a second, as if it stood in a queue; a RST would tell it that there is no service.
    ///
    /// A handshake that is not done does not count: else a few made-up SYNs a second, each of which lasts two minutes, would
    /// keep everybody out, and too few for cookies to begin. One that is done when there is no room any more stays half open:
    /// the client's next segment, or its answer to our next SYN-ACK, tries again.
    pub fn limit_connections(&mut self, listener: u16, max: u32) {
        self.listeners[usize::from(listener)].tuning.connections_max = max;
    }

    /// Connections that came by a listener, of those whose handshake is done.
    pub fn connections_of(&self, listener: u16) -> u32 {
        self.listeners[self.counter_of(listener)].connections
    }

    /// Whether `listener` has as many connections as it may.
    #[inline]
    pub(super) fn is_full(&self, listener: u16) -> bool {
        let l = &self.listeners[self.counter_of(listener)];
        l.connections >= l.tuning.connections_max
    }

    /// A connection has come by `listener`, with this hash of its addresses.
    pub(super) fn came_by(&mut self, id: FlowId, listener: u16, hash: u64) {
        self.table.flows[id].listener = listener;
        // The low half of the hash chooses the bucket of the table.
        let algorithm = self.listeners[usize::from(listener)].tuning.congestion.choose((hash >> 32) as u32);
        self.set_algorithm(id, algorithm);
    }

    /// The handshake of a connection that came is done.
    pub(super) fn counts(&mut self, id: FlowId) {
        let counter = self.counter_of(self.table.flows[id].listener);
        self.listeners[counter].connections += 1;
    }

    /// A connection is released: its listener has room for another.
    pub(super) fn leaves(&mut self, id: FlowId) {
        let t = &self.table.flows[id];
        if !t.flags.has(Flags(Flags::ACTIVE.0 | Flags::HALF_OPEN.0)) {
            let counter = self.counter_of(t.listener);
            let l = &mut self.listeners[counter];
            debug_assert!(l.connections > 0, "more have left than came");
            l.connections = l.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_a_share_of_the_hashes() {
        let mut c = Congestion::all(Algorithm::Cubic);
        c.split[Algorithm::Bbr as usize] = 10;
        c.split[Algorithm::Reno as usize] = 5;
        let mut counts = [0; 3];
        for n in 0..1000u64 {
            counts[c.choose(((n << 32) / 1000) as u32) as usize] += 1;
        }
        assert_eq!(counts, [849, 101, 50], "100 and 50 of 1000, but for rounding");
        c.split = [0, 100, 0];
        assert!([0, 1, 1 << 31, u32::MAX].iter().all(|h| c.choose(*h) == Algorithm::Bbr));
        c = Congestion::all(Algorithm::Reno);
        assert!([0, 1, 1 << 31, u32::MAX].iter().all(|h| c.choose(*h) == Algorithm::Reno));
    }
}
