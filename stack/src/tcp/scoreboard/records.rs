//! The records of all connections, and how many of them one may have.

use hugepages::{Arena, Slab};

use super::super::tcb::SegId;
use super::{Out, Scoreboard};

/// Segments that a connection may have out however few records are left, but for the reserve: an initial window, and a few.
const RECORDS_MIN: u32 = 16;
/// The part of the records that is for connections with nothing out.
const RESERVE_PART: u32 = 8;

/// The records of all connections.
///
/// A connection may have as many of them as are left for others: one alone comes to half, of a dozen each has a thirteenth,
/// and what is left is as much again. So no peer takes them all from others, by segments that are as short as it likes or by
/// a window that it never acknowledges. The last eighth, which is what is left when as many as the second field says are in
/// use, is for connections that have nothing out.
pub struct Segments(pub(super) Slab<SegId, Out>, u32);

impl std::ops::Index<SegId> for Segments {
    type Output = Out;
    #[inline]
    fn index(&self, id: SegId) -> &Out {
        &self.0[id]
    }
}

impl std::ops::IndexMut<SegId> for Segments {
    #[inline]
    fn index_mut(&mut self, id: SegId) -> &mut Out {
        &mut self.0[id]
    }
}

impl Segments {
    /// Bytes taken from the arena.
    pub const fn cost(capacity: usize) -> usize {
        Slab::<SegId, Out>::cost(capacity)
    }

    /// `capacity` records; `None` when the arena is too small.
    pub fn new(arena: &mut Arena, capacity: u32) -> Option<Segments> {
        Some(Segments(Slab::new(arena, capacity, Out::default)?, capacity - capacity / RESERVE_PART))
    }

    /// Records in use.
    pub fn in_use(&self) -> u32 {
        self.0.in_use()
    }

    /// Whether none is left.
    pub fn is_full(&self) -> bool {
        self.0.in_use() == self.0.capacity()
    }

    /// Whether a connection may have one more record.
    #[inline(always)]
    pub fn has_room_for(&self, b: &Scoreboard) -> bool {
        (u32::from(b.records) < RECORDS_MIN && self.0.in_use() < self.1) || self.room_for(b) > 0
    }

    /// Records that a connection may have beside those that it has.
    #[inline(never)]
    pub fn room_for(&self, b: &Scoreboard) -> u32 {
        let has = u32::from(b.records);
        let left = self.1.saturating_sub(self.0.in_use());
        if left > 0 {
            left.clamp(RECORDS_MIN, u16::MAX.into()).saturating_sub(has).min(left)
        } else {
            u32::from(has == 0 && self.0.in_use() < self.0.capacity())
        }
    }

    /// Asks the CPU to fetch a record.
    #[inline]
    pub fn prefetch(&self, id: SegId) {
        self.0.prefetch(id, 1);
    }

    /// A record for a segment that a connection is about to send, and that there was room for; `None` when all are in use.
    #[inline]
    pub fn alloc(&mut self) -> Option<SegId> {
        self.0.alloc()
    }

    /// Gives back a record that was not pushed.
    pub fn give_back(&mut self, id: SegId) {
        self.0.free(id);
    }
}
