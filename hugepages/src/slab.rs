//! Fixed-size slabs with typed indices: O(1) take and give back, bounded, last-freed first (cache-warm).

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

use crate::{Arena, FixedVec};

/// An index into a [`Slab`], made by [`typed_index!`](crate::typed_index).
pub trait SlabIndex: Copy + Eq {
    /// From a position.
    fn from_u32(i: u32) -> Self;
    /// The position.
    fn to_u32(self) -> u32;
}

/// Declares a `u32` newtype that indexes one kind of slab, so that indices cannot be mixed up.
#[macro_export]
macro_rules! typed_index {
    ($(#[$meta:meta])* $vis:vis struct $name:ident;) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis struct $name(u32);

        impl $name {
            /// "None", in four bytes: for links inside hot structs.
            pub const NONE: $name = $name(u32::MAX);
            /// Whether this is [`Self::NONE`].
            pub const fn is_none(self) -> bool {
                self.0 == u32::MAX
            }
            /// Whether this is an index.
            pub const fn is_some(self) -> bool {
                self.0 != u32::MAX
            }
        }

        impl $crate::SlabIndex for $name {
            #[inline]
            fn from_u32(i: u32) -> Self {
                $name(i)
            }
            #[inline]
            fn to_u32(self) -> u32 {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::NONE
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                if self.is_none() {
                    write!(f, concat!(stringify!($name), "(-)"))
                } else {
                    write!(f, concat!(stringify!($name), "({})"), self.0)
                }
            }
        }
    };
}

const END: u32 = u32::MAX;
const USED: u32 = u32::MAX - 1;

/// `capacity` objects of `T`, taken and given back by typed index.
///
/// Objects are made once; `alloc` hands one out as the last user left it, so the taker resets what it
/// needs. That keeps a 512-byte control block from being written twice per connection.
pub struct Slab<I, T> {
    items: FixedVec<T>,
    link: FixedVec<u32>,
    free_head: u32,
    in_use: u32,
    high_water: u32,
    _index: PhantomData<I>,
}

impl<I: SlabIndex, T> Slab<I, T> {
    /// Bytes that a slab of `capacity` takes from an arena.
    pub const fn cost(capacity: usize) -> usize {
        Arena::cost::<T>(capacity) + Arena::cost::<u32>(capacity)
    }

    /// A slab of `capacity` items cut from `arena`; `None` when it does not fit.
    pub fn new(arena: &mut Arena, capacity: u32, mut make: impl FnMut() -> T) -> Option<Self> {
        assert!(capacity < USED, "slab capacity {capacity} is beyond u32 links");
        let items = arena.array(capacity as usize, |_| make())?;
        let link =
            arena.array(capacity as usize, |i| if i as u32 + 1 == capacity { END } else { i as u32 + 1 })?;
        let free_head = if capacity == 0 { END } else { 0 };
        Some(Slab { items, link, free_head, in_use: 0, high_water: 0, _index: PhantomData })
    }

    /// Takes an item, or `None` when all are in use.
    #[inline]
    pub fn alloc(&mut self) -> Option<I> {
        let i = self.free_head;
        if i == END {
            return None;
        }
        self.free_head = self.link[i as usize];
        self.link[i as usize] = USED;
        self.in_use += 1;
        self.high_water = self.high_water.max(self.in_use);
        Some(I::from_u32(i))
    }

    /// Gives an item back.
    ///
    /// # Panics
    /// When the item is not in use: a double free is a defect of ours, never of the network's.
    #[inline]
    pub fn free(&mut self, index: I) {
        let i = index.to_u32();
        assert!(self.link[i as usize] == USED, "slab item {i} freed twice");
        self.link[i as usize] = self.free_head;
        self.free_head = i;
        self.in_use -= 1;
    }

    /// Whether the item is in use.
    pub fn is_used(&self, index: I) -> bool {
        self.link.get(index.to_u32() as usize).is_some_and(|l| *l == USED)
    }

    /// Items in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// The most that were ever in use.
    pub fn high_water(&self) -> u32 {
        self.high_water
    }

    /// Items in all.
    pub fn capacity(&self) -> u32 {
        self.items.len() as u32
    }

    /// Indices in use, in order. O(capacity): for reports, not for the hot path.
    pub fn used(&self) -> impl Iterator<Item = I> + '_ {
        self.link.iter().enumerate().filter(|(_, l)| **l == USED).map(|(i, _)| I::from_u32(i as u32))
    }

    /// The first item in use among those at `from` and behind it, of which `looks` are looked at: it, or the position to
    /// go on from. For who looks through all of a large slab a little at a time; at [`Slab::capacity`] it is through.
    pub fn next_used(&self, from: u32, looks: u32) -> Result<I, u32> {
        let end = from.saturating_add(looks).min(self.capacity());
        let rest = self.link.get(from as usize..end as usize).unwrap_or_default();
        match rest.iter().position(|l| *l == USED) {
            Some(n) => Ok(I::from_u32(from + n as u32)),
            None => Err(end.max(from)),
        }
    }

    /// Asks the CPU to fetch an item's first `lines` cache lines, and its link, which says whether it is used.
    #[inline]
    pub fn prefetch(&self, index: I, lines: usize) {
        if let Some(item) = self.items.get(index.to_u32() as usize) {
            crate::arena::prefetch(item, lines);
            crate::arena::prefetch(&self.link[index.to_u32() as usize], 1);
        }
    }
}

impl<I: SlabIndex, T> Index<I> for Slab<I, T> {
    type Output = T;
    #[inline]
    fn index(&self, index: I) -> &T {
        debug_assert!(self.is_used(index), "slab item {} is free", index.to_u32());
        &self.items[index.to_u32() as usize]
    }
}

impl<I: SlabIndex, T> IndexMut<I> for Slab<I, T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut T {
        debug_assert!(self.is_used(index), "slab item {} is free", index.to_u32());
        &mut self.items[index.to_u32() as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PagePolicy;

    typed_index! {
        /// A test's index.
        pub struct Id;
    }

    fn slab(n: u32) -> Slab<Id, u64> {
        let mut arena = Arena::reserve(Slab::<Id, u64>::cost(n as usize), PagePolicy::NormalOnly).unwrap();
        Slab::new(&mut arena, n, || 0).unwrap()
    }

    #[test]
    fn takes_to_the_bound_and_no_further() {
        let mut s = slab(3);
        let ids: Vec<Id> = (0..3).map(|_| s.alloc().unwrap()).collect();
        assert!(s.alloc().is_none());
        s[ids[1]] = 7;
        s.free(ids[1]);
        assert_eq!(s.in_use(), 2);
        assert_eq!(s.alloc(), Some(ids[1]), "last freed comes first");
        assert_eq!(s[ids[1]], 7, "objects keep their state");
        assert_eq!(s.high_water(), 3);
        assert_eq!(s.used().count(), 3);
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn double_free_is_caught() {
        let mut s = slab(2);
        let a = s.alloc().unwrap();
        s.free(a);
        s.free(a);
    }

    #[test]
    fn used_ones_are_found_a_few_looks_at_a_time() {
        let mut s = slab(6);
        let ids: Vec<Id> = (0..6).map(|_| s.alloc().unwrap()).collect();
        for i in [0, 1, 2, 4] {
            s.free(ids[i]);
        }
        assert_eq!(s.next_used(0, 2), Err(2));
        assert_eq!(s.next_used(2, 2), Ok(ids[3]));
        assert_eq!(s.next_used(4, 100), Ok(ids[5]));
        assert_eq!(s.next_used(6, 100), Err(6));
        assert_eq!(s.next_used(u32::MAX, 100), Err(u32::MAX), "beyond the end is through");
    }

    #[test]
    fn none_is_four_bytes_and_prints() {
        assert_eq!(size_of::<Id>(), 4);
        assert!(Id::NONE.is_none() && !Id::default().is_some());
        assert_eq!(format!("{:?}", Id::NONE), "Id(-)");
    }
}
