//! Pieces of a send queue that their owner can make again, bit for bit: their bytes may be let go until they are
//! acknowledged, when memory is short.
//!
//! ```text
//!   send_tagged ─► queued ─► sent ─► let_go: the piece stays, its bytes go ─► acknowledged: it goes as any other
//!                                       │ found lost                   ▲
//!                                       ▼                              │
//!                            Events::MISSING ─► missing ─► put_back ─► sent again
//! ```
//!
//! What has not been sent yet is never let go, so that new data finds all its bytes. Who has no memory to make a piece
//! again is asked again after a millisecond; the retransmission timer runs meanwhile, as for a peer that does not answer.

use dataplane::Slice;
use dataplane::buf::TAIL_MAX;

use super::output::Sending;
use super::scoreboard::Segments;
use super::tcb::{FlowId, RecordId, SegId, SendRecord, Tcb};
use super::{Tcp, owner};
use hugepages::Slab;

/// When an owner that could not make a piece again is asked once more.
pub(super) const ASK_AGAIN_NS: u64 = 1_000_000;

impl Tcp {
    /// As [`Tcp::send`], for data that its owner can make again, and knows by `tag`, which is not 0. Gives the piece of the
    /// send queue that it is.
    ///
    /// # Errors
    /// As there.
    pub fn send_tagged(&mut self, id: FlowId, data: Slice, tag: u32) -> Result<RecordId, Slice> {
        debug_assert!(tag != 0 && !data.is_empty());
        self.enqueue(id, data, tag)?;
        Ok(self.table.flows[id].send_tail)
    }

    /// Lets the bytes of a piece go, which [`Tcp::send_tagged`] has given and which is not acknowledged. Gives whether they
    /// are gone by this call: not before all of them have been sent, nor when some of them are next to be sent again.
    pub fn let_go(&mut self, id: FlowId, piece: RecordId, tag: u32) -> bool {
        // One that is acknowledged may be free by now, or somebody else's.
        if !self.records.is_used(piece) {
            return false;
        }
        let t = &mut self.table.flows[id];
        let r = &mut self.records[piece];
        if r.tag != tag || r.slice.is_none() {
            return false;
        }
        let (bytes, end) = (r.span(), r.seq + r.span());
        let lost = t.out.next_lost();
        let is_next = lost.is_some() && {
            let o = &self.segments[lost];
            o.seq.lt(end) && o.end().gt(r.seq)
        };
        if end.gt(t.snd_nxt) || is_next {
            return false;
        }
        r.slice = None;
        t.send_charge -= r.charge - bytes;
        r.charge = bytes;
        true
    }

    /// The piece that a connection lacks to go on sending again, by its tag.
    pub fn missing(&self, id: FlowId) -> Option<u32> {
        let t = &self.table.flows[id];
        let lost = t.out.next_lost();
        let r = if lost.is_some() { lacks(&self.records, &self.segments, t, lost)? } else { return None };
        Some(self.records[r].tag)
    }

    /// Puts the bytes of a piece back that had been let go: the same.
    ///
    /// # Errors
    /// Gives them back when there is no such piece, or they are not as many.
    pub fn put_back(&mut self, id: FlowId, piece: RecordId, tag: u32, data: Slice) -> Result<(), Slice> {
        if !self.records.is_used(piece) {
            return Err(data);
        }
        let (r, t) = (&mut self.records[piece], &mut self.table.flows[id]);
        if r.tag != tag || r.slice.is_some() || r.charge as usize != data.len() {
            return Err(data);
        }
        let charge = owner::charge_of(&data);
        t.send_charge += charge - r.charge;
        r.charge = charge;
        r.slice = Some(data);
        self.want_output(id);
        Ok(())
    }

    /// Whether all bytes that a connection has queued are there: none have been let go. O(pieces).
    pub fn is_whole(&self, id: FlowId) -> bool {
        let mut r = self.table.flows[id].send_head;
        while r.is_some() {
            if self.records[r].slice.is_none() {
                return false;
            }
            r = self.records[r].next;
        }
        true
    }
}

impl Sending<'_> {
    /// The first piece with bytes of a segment that is to be sent again that were let go.
    #[inline(never)] // Only where something was lost.
    pub(super) fn lacks(&self, t: &Tcb, s: SegId) -> Option<RecordId> {
        lacks(self.records, self.segments, t, s)
    }
}

fn lacks(records: &Slab<RecordId, SendRecord>, segments: &Segments, t: &Tcb, s: SegId) -> Option<RecordId> {
    let o = &segments[s];
    let end = o.seq + u32::from(o.len.min(t.mss));
    let mut r = o.piece;
    // No more of them fit one packet.
    for _ in 0..TAIL_MAX {
        if r.is_none() || records[r].seq.ge(end) {
            break;
        }
        if records[r].slice.is_none() {
            return Some(r);
        }
        r = records[r].next;
    }
    None
}
