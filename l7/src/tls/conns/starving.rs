//! Connections whose next record has come, and for which there is no cell: their ciphertext waits in TCP's queue, against
//! TCP's window, until others have let go of theirs.

use dataplane::Ctr;
use hugepages::{Arena, FixedVec};
use stack::FlowId;

use super::secured::{HAS_CLOSED, STARVES};
use super::{Conns, SessionId, secured_of};

/// That wait at a time. Whoever finds no place here fails.
const PLACES: u32 = 8192;
/// Places that are looked at, where there is none left, for one whose connection waits no more.
const LOOKS: usize = 16;

/// In the order in which they came; but who finds all places taken gets one of those who have gone.
pub(super) struct Starving {
    flows: FixedVec<FlowId>,
    first: usize,
    len: usize,
    /// Where those who have gone are looked for next.
    look: usize,
}

impl Starving {
    /// As many however few connections there may be: an idle one costs nothing here.
    fn places(connections: u32) -> usize {
        if connections == 0 { 0 } else { PLACES as usize }
    }

    pub fn cost(connections: u32) -> usize {
        Arena::cost::<FlowId>(Starving::places(connections))
    }

    pub fn new(connections: u32, arena: &mut Arena) -> Option<Starving> {
        let flows = arena.array(Starving::places(connections), |_| FlowId::NONE)?;
        Some(Starving { flows, first: 0, len: 0, look: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives whether there was a place; `waits`: whether a connection that is here still does.
    fn push(&mut self, flow: FlowId, waits: impl Fn(FlowId) -> bool) -> bool {
        if self.len < self.flows.len() {
            let at = (self.first + self.len) % self.flows.len();
            self.flows[at] = flow;
            self.len += 1;
            return true;
        }
        for _ in 0..LOOKS.min(self.len) {
            let at = self.look;
            self.look = (at + 1) % self.flows.len();
            if !waits(self.flows[at]) {
                self.flows[at] = flow;
                return true;
            }
        }
        false
    }

    fn pop(&mut self) -> Option<FlowId> {
        if self.len == 0 {
            return None;
        }
        let flow = self.flows[self.first];
        self.first = (self.first + 1) % self.flows.len();
        self.len -= 1;
        Some(flow)
    }
}

impl Conns<'_> {
    /// Has a connection wait for a cell. Gives whether it may.
    pub(super) fn starve(&mut self, flow: FlowId, c: SessionId) -> bool {
        if self.tls.secured[c].has(STARVES) {
            return true;
        }
        let (tcp, secured) = (&*self.tcp, &self.tls.secured);
        let waits = |other| {
            tcp.is_used(other) && secured_of(tcp.layer(other)).is_some_and(|c| secured[c].has(STARVES))
        };
        if !self.tls.starving.push(flow, waits) {
            return false;
        }
        self.tls.secured[c].set(STARVES);
        self.tls.counters.inc(Ctr::TlsCellWaits);
        true
    }

    /// Whether a record has come that its owner has not been able to read.
    pub fn starves(&self, flow: FlowId) -> bool {
        self.secured(flow).is_some_and(|c| {
            let s = &self.tls.secured[c];
            s.is_open() && s.plain.is_empty() && !s.has(HAS_CLOSED) && self.has_record(flow)
        })
    }

    /// Those go on for whom there are cells now.
    pub(super) fn feed(&mut self) {
        let mut free = self.tls.cells.records.free_count();
        while free > 0
            && !self.is_out_of_cells()
            && let Some(flow) = self.tls.starving.pop()
        {
            // It may be over, and its number another's.
            if self.tcp.is_used(flow)
                && let Some(c) = self.secured(flow)
                && self.tls.secured[c].take(STARVES)
            {
                self.tcp.wake(flow);
                free -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugepages::{PagePolicy, SlabIndex};

    /// Whoever comes when all places are taken, most of them by those who have gone, gets one; and nobody loses his.
    #[test]
    fn places_of_those_who_have_gone_are_given_away() {
        let mut arena = Arena::reserve(Starving::cost(1), PagePolicy::NormalOnly).expect("memory");
        let mut starving = Starving::new(1, &mut arena).expect("what it costs");
        let waits = |f: FlowId| f.to_u32() % 100 == 0 || f.to_u32() >= PLACES;
        for n in 0..PLACES {
            assert!(starving.push(FlowId::from_u32(n), waits));
        }
        let gone = PLACES - PLACES.div_ceil(100);
        for n in 0..gone {
            assert!(starving.push(FlowId::from_u32(PLACES + n), waits), "{n}");
        }
        assert!(!starving.push(FlowId::from_u32(2 * PLACES), waits), "all of them wait");
        let mut left = 0;
        while let Some(flow) = starving.pop() {
            assert!(waits(flow));
            left += 1;
        }
        assert_eq!(left, PLACES);
    }
}
