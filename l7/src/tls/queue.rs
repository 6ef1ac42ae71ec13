//! Queues through the slots of a table: a slot is in one of them at most, and can leave it from any place.

/// No slot.
const NONE: u32 = u32::MAX;
/// In no queue.
const OUT: u8 = u8::MAX;

/// A slot's neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: u32,
    after: u32,
    /// The queue's number.
    queue: u8,
}

impl Default for Links {
    fn default() -> Self {
        Links { before: NONE, after: NONE, queue: OUT }
    }
}

impl Links {
    /// Whether the slot is in a queue.
    pub fn is_queued(&self) -> bool {
        self.queue != OUT
    }
}

/// First in, first out.
#[derive(Debug)]
pub(super) struct Queue {
    number: u8,
    first: u32,
    last: u32,
    len: u32,
}

impl Queue {
    /// One that is empty. All over the same slots have numbers of their own.
    pub const fn new(number: u8) -> Queue {
        Queue { number, first: NONE, last: NONE, len: 0 }
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At the end. The slot must be in no queue.
    pub fn push<S: AsMut<Links>>(&mut self, slots: &mut [S], slot: u32) {
        let links = slots[slot as usize].as_mut();
        assert!(!links.is_queued(), "slot {slot} is in a queue");
        *links = Links { before: self.last, after: NONE, queue: self.number };
        match slots.get_mut(self.last as usize) {
            Some(last) => last.as_mut().after = slot,
            None => self.first = slot,
        }
        self.last = slot;
        self.len += 1;
    }

    /// The first.
    pub fn pop<S: AsMut<Links>>(&mut self, slots: &mut [S]) -> Option<u32> {
        let first = self.first;
        (first != NONE).then(|| {
            self.unlink(slots, first);
            first
        })
    }

    /// Takes a slot out if it is in this queue.
    pub fn remove<S: AsMut<Links>>(&mut self, slots: &mut [S], slot: u32) {
        if slots[slot as usize].as_mut().queue == self.number {
            self.unlink(slots, slot);
        }
    }

    fn unlink<S: AsMut<Links>>(&mut self, slots: &mut [S], slot: u32) {
        let Links { before, after, .. } = std::mem::take(slots[slot as usize].as_mut());
        match slots.get_mut(before as usize) {
            Some(before) => before.as_mut().after = after,
            None => self.first = after,
        }
        match slots.get_mut(after as usize) {
            Some(after) => after.as_mut().before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    impl AsMut<Links> for Links {
        fn as_mut(&mut self) -> &mut Links {
            self
        }
    }

    proptest! {
        #[test]
        fn two_queues_over_the_same_slots(steps in prop::collection::vec((0u32..8, 0usize..2, 0u8..3), 0..200)) {
            let mut slots = [Links::default(); 8];
            let mut queues = [Queue::new(0), Queue::new(1)];
            let mut models = [VecDeque::new(), VecDeque::new()];
            for (slot, at, step) in steps {
                match step {
                    0 if !slots[slot as usize].is_queued() => {
                        queues[at].push(&mut slots, slot);
                        models[at].push_back(slot);
                    }
                    1 => prop_assert_eq!(queues[at].pop(&mut slots), models[at].pop_front()),
                    _ => {
                        queues[at].remove(&mut slots, slot);
                        models[at].retain(|other| *other != slot);
                    }
                }
                for (queue, model) in queues.iter().zip(&models) {
                    prop_assert_eq!(queue.len() as usize, model.len());
                    prop_assert_eq!(queue.is_empty(), model.is_empty());
                }
            }
        }
    }
}
