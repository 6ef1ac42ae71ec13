//! The segments that are out: one record for each, which serves retransmission, RTT and rate samples, SACK (RFC 2018)
//! and RACK (RFC 8985) alike.
//!
//! ```text
//!  in order of sequence   head ◄─► ● ◄─► ● ◄─► ● ◄─► ● ◄─► tail       all of them
//!  in flight                       └───────────┘─────┘                by the time of (re)transmission
//!  lost, to be sent again    └──►                                     in order; a retransmission that was lost first
//!  SACKed                                └──►                         in neither
//! ```
//!
//! Every step is O(1), or O(1) for each segment that changes its place; a search for a SACK block's first segment has
//! a bound, behind which the block is left for the next ACK.

mod audit;
mod records;

pub use records::Segments;

use super::rate::Stamp;
use super::seq::Seq;
use super::tcb::{RecordId, SegId};

/// Segments that one search passes at most.
const FIND_STEPS: u32 = 256;

/// A segment that is out.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Out {
    /// Its first byte.
    pub seq: Seq,
    /// Its payload, bytes.
    pub len: u16,
    /// A FIN follows the payload.
    pub fin: bool,
    /// Where it is.
    pub place: Place,
    /// Times that it was sent again.
    pub resent: u8,
    /// The owner had too little to send when it was sent.
    pub app_limited: bool,
    /// When it was sent last, µs.
    pub sent_us: u32,
    /// Which of the connection's sendings that was, modulo 2^32.
    pub sent_no: u32,
    /// The piece of the send queue that holds its first byte.
    pub piece: RecordId,
    /// What was delivered when it was sent last.
    pub stamp: Stamp,
    pub(super) next: SegId,
    pub(super) prev: SegId,
    /// In flight: sent after this one. Lost: to be sent after this one.
    pub(super) later: SegId,
    pub(super) earlier: SegId,
}

/// Where a segment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// On its way, as far as we know.
    #[default]
    InFlight,
    /// Found lost, not yet sent again.
    Lost,
    /// The peer has it, and may still throw it away.
    Sacked,
}

impl Out {
    /// Sequence numbers: payload and FIN.
    #[inline]
    pub fn span(&self) -> u32 {
        u32::from(self.len) + u32::from(self.fin)
    }

    /// The sequence number behind it.
    #[inline]
    pub fn end(&self) -> Seq {
        self.seq + self.span()
    }

    /// The next in sequence.
    #[inline]
    pub fn next(&self) -> SegId {
        self.next
    }
}

#[derive(Clone, Copy, Default)]
struct Ends {
    first: SegId,
    last: SegId,
}

impl Ends {
    const NONE: Ends = Ends { first: SegId::NONE, last: SegId::NONE };
}

/// The scoreboard of one connection.
#[derive(Clone, Copy, Default)]
pub struct Scoreboard {
    order: Ends,
    flight: Ends,
    lost: Ends,
    /// Where the last SACK block was found.
    hint: SegId,
    /// Sequence numbers in flight.
    in_flight: u32,
    /// Sequence numbers SACKed.
    sacked: u32,
    /// Segments that were sent, once or again, modulo 2^32.
    sendings: u32,
    /// Segments SACKed.
    pub sacked_segments: u16,
    /// Records that it has.
    records: u16,
}

impl Scoreboard {
    /// Nothing is out.
    pub const EMPTY: Scoreboard = Scoreboard {
        order: Ends::NONE,
        flight: Ends::NONE,
        lost: Ends::NONE,
        hint: SegId::NONE,
        in_flight: 0,
        sacked: 0,
        sendings: 0,
        sacked_segments: 0,
        records: 0,
    };

    /// Sequence numbers in flight: sent, not acknowledged, not SACKed, not found lost (RFC 6675: pipe).
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Sequence numbers that the peer has SACKed.
    #[inline]
    pub fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Whether nothing is out.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.order.first.is_none()
    }

    /// The first in sequence.
    #[inline]
    pub fn first(&self) -> SegId {
        self.order.first
    }

    /// The last in sequence.
    #[inline]
    pub fn last(&self) -> SegId {
        self.order.last
    }

    /// The one in flight that was sent first.
    #[inline]
    pub fn oldest(&self) -> SegId {
        self.flight.first
    }

    /// The next to be sent again.
    #[inline]
    pub fn next_lost(&self) -> SegId {
        self.lost.first
    }
}

impl Segments {
    /// A new segment has been sent: behind all others, in sequence and in time.
    #[inline]
    pub fn push(&mut self, b: &mut Scoreboard, id: SegId, out: Out) {
        let (last, sent_last) = (b.order.last, b.flight.last);
        b.sendings = b.sendings.wrapping_add(1);
        b.records += 1;
        b.in_flight += out.span();
        self.0[id] = Out {
            place: Place::InFlight,
            sent_no: b.sendings,
            next: SegId::NONE,
            prev: last,
            later: SegId::NONE,
            earlier: sent_last,
            ..out
        };
        (b.order.last, b.flight.last) = (id, id);
        if sent_last.is_some() {
            self.0[sent_last].later = id;
        } else {
            b.flight.first = id;
        }
        if last.is_some() {
            self.0[last].next = id;
        } else {
            b.order.first = id;
        }
    }

    /// Takes the first in sequence, which is `out`, out: it has been acknowledged.
    #[inline(always)]
    pub fn pop(&mut self, b: &mut Scoreboard, out: &Out) {
        let id = b.order.first;
        b.order.first = out.next;
        b.records -= 1;
        if out.place == Place::InFlight && out.earlier.is_none() && out.later == out.next {
            // The first in both lists, and so is what follows it.
            b.in_flight -= out.span();
            b.flight.first = out.next;
            if out.next.is_some() {
                let next = &mut self.0[out.next];
                (next.prev, next.earlier) = (SegId::NONE, SegId::NONE);
            } else {
                (b.order.last, b.flight.last) = (SegId::NONE, SegId::NONE);
            }
        } else {
            self.leave(b, id);
            if out.next.is_some() {
                self.0[out.next].prev = SegId::NONE;
            } else {
                b.order.last = SegId::NONE;
            }
        }
        if b.hint == id {
            b.hint = out.next;
        }
        self.0.free(id);
    }

    /// Everything goes: the connection is over.
    pub fn clear(&mut self, b: &mut Scoreboard) {
        let mut id = b.order.first;
        while id.is_some() {
            let next = self.0[id].next;
            self.0.free(id);
            id = next;
        }
        *b = Scoreboard::default();
    }

    /// Cuts the front of the first segment off: it has been acknowledged in part. Which piece holds what is left is for the
    /// caller to say.
    pub fn trim(&mut self, b: &mut Scoreboard, to: Seq) {
        let o = &mut self.0[b.order.first];
        let n = to.since(o.seq);
        debug_assert!(n < o.span());
        match o.place {
            Place::InFlight => b.in_flight -= n,
            Place::Sacked => b.sacked -= n,
            Place::Lost => {}
        }
        o.len -= n as u16;
        o.seq = to;
    }

    /// Cuts a segment that was lost in two at `at` bytes; the rest comes behind it, lost too. `piece`: holds the rest's
    /// first byte. Gives `false` when there is no record for it.
    pub fn split(&mut self, b: &mut Scoreboard, id: SegId, at: u16, piece: RecordId) -> bool {
        debug_assert!(self.0[id].place == Place::Lost && at < self.0[id].len);
        // Beyond its share: what does not fit the path must be cut, or nothing goes on.
        if b.records == u16::MAX {
            return false;
        }
        let Some(rest) = self.0.alloc() else { return false };
        b.records += 1;
        let o = self.0[id];
        self.0[rest] = Out { seq: o.seq + u32::from(at), len: o.len - at, piece, prev: id, earlier: id, ..o };
        if o.next.is_some() {
            self.0[o.next].prev = rest;
        } else {
            b.order.last = rest;
        }
        if o.later.is_some() {
            self.0[o.later].earlier = rest;
        } else {
            b.lost.last = rest;
        }
        let o = &mut self.0[id];
        (o.next, o.later, o.len, o.fin) = (rest, rest, at, false);
        true
    }

    /// The peer has it.
    #[inline]
    pub fn set_sacked(&mut self, b: &mut Scoreboard, id: SegId) {
        self.leave(b, id);
        let o = &mut self.0[id];
        o.place = Place::Sacked;
        b.sacked += o.span();
        b.sacked_segments = b.sacked_segments.saturating_add(1);
    }

    /// It is lost, and goes to those that are to be sent again.
    pub fn set_lost(&mut self, b: &mut Scoreboard, id: SegId) {
        self.leave(b, id);
        let o = &mut self.0[id];
        o.place = Place::Lost;
        // The peer waits for a lost retransmission longer than for what lies behind it.
        let first = b.lost.first;
        let before = first.is_some() && self.0[id].seq.lt(self.0[first].seq);
        self.enqueue(&mut b.lost, id, before);
    }

    /// It, which is lost, is sent again before the others.
    pub fn set_first_lost(&mut self, b: &mut Scoreboard, id: SegId) {
        debug_assert_eq!(self.0[id].place, Place::Lost);
        if b.lost.first != id {
            self.leave(b, id);
            self.enqueue(&mut b.lost, id, true);
        }
    }

    /// It has been sent again.
    pub fn set_resent(&mut self, b: &mut Scoreboard, id: SegId, stamp: Stamp, sent_us: u32) {
        self.leave(b, id);
        let o = &mut self.0[id];
        o.place = Place::InFlight;
        o.resent = o.resent.saturating_add(1);
        b.sendings = b.sendings.wrapping_add(1);
        (o.stamp, o.sent_us, o.sent_no) = (stamp, sent_us, b.sendings);
        b.in_flight += o.span();
        self.enqueue(&mut b.flight, id, false);
    }

    /// What was thought lost and not yet sent again was only late.
    pub fn unlose(&mut self, b: &mut Scoreboard) {
        // Last first, each to the front: they were sent before all that is in flight.
        while b.lost.last.is_some() {
            let id = b.lost.last;
            self.leave(b, id);
            let o = &mut self.0[id];
            o.place = Place::InFlight;
            b.in_flight += o.span();
            self.enqueue(&mut b.flight, id, true);
        }
    }

    /// Takes a segment from the place that it is in.
    #[inline]
    fn leave(&mut self, b: &mut Scoreboard, id: SegId) {
        let o = self.0[id];
        let ends = match o.place {
            Place::InFlight => {
                b.in_flight -= o.span();
                &mut b.flight
            }
            Place::Lost => &mut b.lost,
            Place::Sacked => {
                b.sacked -= o.span();
                b.sacked_segments = b.sacked_segments.saturating_sub(1);
                return;
            }
        };
        if o.earlier.is_some() {
            self.0[o.earlier].later = o.later;
        } else {
            ends.first = o.later;
        }
        if o.later.is_some() {
            self.0[o.later].earlier = o.earlier;
        } else {
            ends.last = o.earlier;
        }
    }

    #[inline]
    fn enqueue(&mut self, ends: &mut Ends, id: SegId, in_front: bool) {
        if in_front {
            let first = ends.first;
            (self.0[id].earlier, self.0[id].later) = (SegId::NONE, first);
            if first.is_some() {
                self.0[first].earlier = id;
            } else {
                ends.last = id;
            }
            ends.first = id;
        } else {
            let last = ends.last;
            (self.0[id].earlier, self.0[id].later) = (last, SegId::NONE);
            if last.is_some() {
                self.0[last].later = id;
            } else {
                ends.first = id;
            }
            ends.last = id;
        }
    }

    /// The first segment that begins at `seq` or behind it; `Err` when the search was too long: the next one goes on
    /// from where this one stopped.
    pub fn find(&self, b: &mut Scoreboard, seq: Seq) -> Result<SegId, ()> {
        let (first, last) = (b.order.first, b.order.last);
        if first.is_none() || seq.gt(self.0[last].seq) {
            return Ok(SegId::NONE);
        }
        // From the nearest of three: both ends, and where the last block was.
        let from_first = seq.since(self.0[first].seq);
        let from_last = self.0[last].seq.since(seq);
        let mut at = if from_first <= from_last { first } else { last };
        if b.hint.is_some() {
            let h = self.0[b.hint].seq;
            if h.since(seq).max(seq.since(h)) < from_first.min(from_last) {
                at = b.hint;
            }
        }
        for _ in 0..FIND_STEPS {
            let o = &self.0[at];
            if o.seq.lt(seq) {
                at = o.next; // There is one: the last begins at `seq` or behind it.
                if self.0[at].seq.ge(seq) {
                    b.hint = at;
                    return Ok(at);
                }
            } else {
                if o.prev.is_none() || self.0[o.prev].seq.lt(seq) {
                    b.hint = at;
                    return Ok(at);
                }
                at = o.prev;
            }
        }
        b.hint = at;
        Err(())
    }
}

const _: () = assert!(size_of::<Out>() == 64);
