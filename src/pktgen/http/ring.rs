//! A queue of fixed room, in memory that was reserved at start.

use hugepages::{Arena, FixedVec};

/// First in, first out; never grows.
pub struct Ring<T> {
    items: FixedVec<T>,
    first: usize,
    len: usize,
}

impl<T: Copy + Default> Ring<T> {
    /// Bytes that one with this room takes from an arena.
    pub const fn cost(room: usize) -> usize {
        Arena::cost::<T>(room)
    }

    /// One with this room; `None` when the arena is too small.
    pub fn new(arena: &mut Arena, room: usize) -> Option<Ring<T>> {
        Some(Ring { items: arena.array(room.max(1), |_| T::default())?, first: 0, len: 0 })
    }

    /// Items in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts one at the end; `false` when there is no room.
    #[inline]
    pub fn push(&mut self, item: T) -> bool {
        if self.len == self.items.len() {
            return false;
        }
        let mut at = self.first + self.len;
        if at >= self.items.len() {
            at -= self.items.len();
        }
        self.items[at] = item;
        self.len += 1;
        true
    }

    /// The first.
    #[inline]
    pub fn front(&self) -> Option<T> {
        (self.len > 0).then(|| self.items[self.first])
    }

    /// Takes the first.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let item = self.front()?;
        self.first += 1;
        if self.first == self.items.len() {
            self.first = 0;
        }
        self.len -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugepages::PagePolicy;

    #[test]
    fn first_in_first_out_and_no_more_than_its_room() {
        let mut arena = Arena::reserve(Ring::<u32>::cost(3), PagePolicy::NormalOnly).expect("memory");
        let mut r = Ring::new(&mut arena, 3).expect("room");
        let (mut next, mut want) = (0, 0);
        for step in 0..100u32 {
            if step % 3 != 2 {
                next += u32::from(r.push(next));
            } else if let Some(got) = r.pop() {
                assert_eq!(got, want);
                want += 1;
            }
            assert!(r.len() <= 3);
            assert_eq!(r.front(), (!r.is_empty()).then_some(want));
        }
        assert_eq!((next, want, r.len()), (36, 33, 3));
    }
}
