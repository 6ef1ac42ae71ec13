//! What is chosen for a listener's connections: their congestion control, and how many there may be.
//!
//! It may change while the engine runs, for connections to come. A share of them may have another algorithm than the
//! rest. The share is a part of all hashes, so that a connection's algorithm follows from its addresses and ports alone,
//! and the secret: every packet of it would choose the same.

use super::Tcp;
use super::cc::Algorithm;
use super::tcb::{Flags, FlowId};

/// How a listener treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Congestion control of those that no share of `split` is for.
    pub algorithm: Algorithm,
    /// By an algorithm's number, how many of a hundred have it.
    pub split: [u8; Algorithm::ALL.len()],
    /// Most of them at a time, on this core.
    pub flows_max: u32,
    /// They are counted with those of this listener, whose bound is theirs too; `None`: for themselves. For an address of
    /// several; never changed while there are any.
    pub counted_with: Option<u16>,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            algorithm: Algorithm::default(),
            split: [0; Algorithm::ALL.len()],
            flows_max: u32::MAX,
            counted_with: None,
        }
    }
}

impl Tuning {
    /// The algorithm of a connection with this hash.
    fn algorithm_of(&self, hash: u64) -> Algorithm {
        // The low half chooses the bucket of the table.
        let mut place = (hash >> 32) % 100;
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

    /// The owner knows now what `id` is for: from here on it has this congestion control.
    pub fn set_algorithm(&mut self, id: FlowId, algorithm: Algorithm) {
        let _ = (id, algorithm);
    }

    /// The listener that the connections of `listener` are counted at.
    fn counter_of(&self, listener: u16) -> usize {
        let with = self.listeners[usize::from(listener)].tuning.counted_with;
        with.map(usize::from).filter(|n| *n < self.listeners.len()).unwrap_or(usize::from(listener))
    }

    /// Whether `listener` has as many connections as it may.
    pub(super) fn is_full(&self, listener: u16) -> bool {
        let l = &self.listeners[self.counter_of(listener)];
        l.flows >= l.tuning.flows_max
    }

    /// A connection has come by `listener`: notes it, and gives the algorithm that it is to have.
    pub(super) fn came_by(&mut self, id: FlowId, listener: u16, hash: u64) -> Algorithm {
        let counter = self.counter_of(listener);
        self.listeners[counter].flows += 1;
        self.table.flows[id].listener = listener;
        self.listeners[usize::from(listener)].tuning.algorithm_of(hash)
    }

    /// A connection is released: its listener has room for another.
    pub(super) fn leaves(&mut self, id: FlowId) {
        let t = &self.table.flows[id];
        if !t.flags.has(Flags::ACTIVE) {
            let counter = self.counter_of(t.listener);
            let l = &mut self.listeners[counter];
            debug_assert!(l.flows > 0, "more have left than came");
            l.flows = l.flows.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_a_share_of_the_hashes() {
        let mut t = Tuning { algorithm: Algorithm::Cubic, ..Tuning::default() };
        t.split[Algorithm::Bbr as usize] = 10;
        t.split[Algorithm::Reno as usize] = 5;
        let mut counts = [0; 3];
        for n in 0..1000u64 {
            counts[t.algorithm_of(n << 32 | 7) as usize] += 1;
        }
        assert_eq!(counts, [850, 100, 50]);
        assert_eq!(
            t.algorithm_of(3 << 32),
            t.algorithm_of(3 << 32 | 0xffff_ffff),
            "the low half does not matter"
        );
        t.split = [0, 100, 0];
        assert!((0..100u64).all(|n| t.algorithm_of(n << 32) == Algorithm::Bbr));
    }
}
