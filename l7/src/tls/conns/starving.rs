//! Connections whose next record has come, and for which there is no cell: their ciphertext waits in TCP's queue, against
//! TCP's window, until others have let go of theirs.

use dataplane::Ctr;
use hugepages::{Arena, FixedVec};
use stack::FlowId;

use super::secured::{HAS_CLOSED, STARVES};
use super::{Conns, SessionId};

/// That wait at a time. Whoever finds no place here fails.
const PLACES: u32 = 8192;

/// In the order in which they came.
pub(super) struct Starving {
    flows: FixedVec<FlowId>,
    first: usize,
    len: usize,
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
        Some(Starving { flows, first: 0, len: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, flow: FlowId) -> bool {
        if self.len == self.flows.len() {
            return false;
        }
        let at = (self.first + self.len) % self.flows.len();
        self.flows[at] = flow;
        self.len += 1;
        true
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
        if !self.tls.starving.push(flow) {
            return false;
        }
        self.tls.secured[c].set(STARVES);
        self.tls.counters.inc(Ctr::TlsCellWaits);
        true
    }

    /// Those go on for whom there are cells now.
    pub(super) fn feed(&mut self) {
        let mut free = self.tls.cells.records.free_count();
        while free > 0
            && !self.is_out_of_cells()
            && let Some(flow) = self.tls.starving.pop()
        {
            // It may be over, and its number another's.
            if let Some(c) = self.secured(flow)
                && self.tls.secured[c].take(STARVES)
            {
                self.tcp.wake(flow);
                free -= 1;
            }
        }
    }
}
    /// Whether a record has come that its owner has not been able to read.
    pub fn starves(&self, flow: FlowId) -> bool {
        self.secured(flow).is_some_and(|c| {
            let s = &self.tls.secured[c];
            s.is_open() && s.plain.is_empty() && !s.has(HAS_CLOSED) && self.has_record(flow)
        })
    }

