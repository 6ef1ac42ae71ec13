//! Pools whose cells lie in memory of somebody else's: DPDK's mbufs.
//!
//! ```text
//!                    ┌─────────── adopt: what a device has received ──────────┐
//!                    │                                                        ▼
//!   a Source  ◄── give_back, refill: in bulk ──►  the pool's list  ◄──►  cells that are out
//!   (mempool)        ▲                                                        │
//!                    └─────────── gone: what a device has sent ───────────────┘
//! ```
//!
//! A cell's header stands in a place that the source keeps for it, once for all time. Taking and releasing a cell is what
//! it is in any pool, with the list between; only a list that is empty, or that became long, goes to the source.
//!
//! A source has more places than the pool has cells: what a device holds to receive into is nobody's cell. Free are the
//! `capacity` less what is out; so many of them are on the list, and `away` is the number of the others.
//!
//! The rules of `cell.rs` hold. A place is with exactly one of: the source (its devices among it), the list, or as a cell
//! that is out; `refs` is 0 but in the last.

use std::any::{Any, TypeId};

use super::*;

/// Room for a header, and its alignment is 64.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// The most places that go to or from a source at once.
pub const REFILL_MAX: usize = 64;

/// A header in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Place(NonNull<Header>);

impl Place {
    /// The place at an address.
    ///
    /// # Safety
    /// [`Pool::place`] has made a header there, of a pool that lives.
    #[inline]
    pub unsafe fn at(address: NonNull<u8>) -> Place {
        Place(address.cast())
    }

    /// Its address.
    #[inline]
    pub fn address(self) -> NonNull<u8> {
        self.0.cast()
    }
}

/// Where the cells of a pool come from that are not its own.
///
/// # Safety
/// A place that is given by `take` has a header of the pool, and is nobody else's until it comes back by `give`.
/// Memory behind places stays while the source lives; one that cannot be freed when the source is dropped is never freed.
pub unsafe trait Source: Any {
    /// Takes at most `most` places that nobody has; fewer or none, where there are not so many.
    fn take(&self, most: usize, places: &mut ArrayVec<Place, REFILL_MAX>);

    /// Gives places back, at most [`REFILL_MAX`].
    fn give(&self, places: &[Place]);
}

impl PoolInner {
    fn listed(&self) -> u32 {
        self.free_count.get() - self.away.get()
    }

    /// Gives free cells back to the source until `keep` are listed.
    pub(super) fn give_back(&self, keep: u32) {
        let Memory::Outside(source) = &self.memory else { return };
        let mut places: ArrayVec<Place, REFILL_MAX> = ArrayVec::new();
        while self.listed() > keep {
            let Some(h) = self.free.get() else { break };
            // SAFETY: a header on the free list is valid.
            self.free.set(unsafe { h.as_ref() }.link.take());
            self.away.set(self.away.get() + 1);
            places.push(Place(h));
            if places.is_full() {
                source.give(&places);
                places.clear();
            }
        }
        if !places.is_empty() {
            source.give(&places);
        }
    }
}

impl Pool {
    /// A pool of at most `capacity` cells of `cell_bytes` each, from `source`. [`Pool::place`] follows for each place.
    pub fn outside<S: Source>(name: &'static str, capacity: u32, cell_bytes: u32, source: S) -> Pool {
        let inner = Box::leak(Box::new(PoolInner {
            free: Cell::new(None),
            free_count: Cell::new(capacity),
            low_water: Cell::new(capacity),
            empty_count: Cell::new(0),
            handles: Cell::new(1),
            capacity,
            cell_bytes,
            away: Cell::new(capacity),
            name,
            kind: TypeId::of::<S>(),
            memory: Memory::Outside(Box::new(source)),
            _not_send: PhantomData,
        }));
        Pool(NonNull::from(inner))
    }

    /// Where its cells come from, if that is an `S`.
    pub fn source<S: Source>(&self) -> Option<&S> {
        match &self.inner().memory {
            Memory::Own { .. } => None,
            Memory::Outside(source) => (&**source as &dyn Any).downcast_ref(),
        }
    }

    /// Cells that are out.
    pub fn out(&self) -> u32 {
        self.capacity() - self.free_count()
    }

    /// Cells that are free and not with the source.
    pub fn listed(&self) -> u32 {
        self.inner().listed()
    }

    /// Makes the header of a cell of this pool, whose buffer is `cap` bytes at `data`.
    ///
    /// # Safety
    /// `address` has [`HEADER_BYTES`] of room, aligned to 64, and `data` is written or zeroed; both are this cell's alone
    /// and stay as long as the source.
    pub unsafe fn place(&self, address: NonNull<u8>, data: NonNull<u8>, cap: u32) {
        // SAFETY: as the caller says.
        unsafe { address.cast::<Header>().write(Header::new(self.0, data, cap)) };
    }

    /// A frame that a device has put `off` bytes behind the start of the place's buffer; `None`, and the place is still
    /// the caller's, when `capacity` cells are out (counted).
    ///
    /// # Safety
    /// The place is of this pool and nobody's, and the buffer's bytes `off .. off + len` are written.
    #[inline]
    pub unsafe fn adopt(&self, place: Place, off: u32, len: u32) -> Option<Packet> {
        let inner = self.inner();
        if inner.away.get() == 0 && !self.make_away() {
            return None;
        }
        inner.away.set(inner.away.get() - 1);
        let left = inner.free_count.get() - 1;
        inner.free_count.set(left);
        if left < inner.low_water.get() {
            inner.low_water.set(left);
        }
        // SAFETY: as the caller says: valid, and without a handle.
        let header = unsafe { place.0.as_ref() };
        debug_assert!(header.pool == self.0 && header.refs.get() == 0 && header.link.get().is_none());
        debug_assert!(off + len <= header.cap, "a frame beyond its buffer");
        header.refs.set(1);
        header.off.set(off);
        header.len.set(len);
        // SAFETY: no other handle exists.
        unsafe { *header.meta.0.get() = Meta { vlan: crate::buf::NO_VLAN, ..Meta::default() } };
        Some(Packet(place.0))
    }

    /// All that is free is listed: the source gets some.
    #[cold]
    fn make_away(&self) -> bool {
        let inner = self.inner();
        inner.give_back(inner.listed().saturating_sub(REFILL_MAX as u32));
        if inner.away.get() == 0 {
            inner.empty_count.set(inner.empty_count.get() + 1);
        }
        inner.away.get() > 0
    }

    /// Gives free cells back to the source when more than `most` are listed: what a core has no use for, a device has.
    #[inline]
    pub fn trim(&self, most: u32) {
        let inner = self.inner();
        if inner.listed() > most {
            inner.give_back(most / 2);
        }
    }

    /// Lists some of those that are away. Gives whether there were any.
    pub(super) fn refill(&self) -> bool {
        let inner = self.inner();
        let Memory::Outside(source) = &inner.memory else { return false };
        let mut places: ArrayVec<Place, REFILL_MAX> = ArrayVec::new();
        let most = (inner.away.get() as usize).min(REFILL_MAX);
        if most > 0 {
            source.take(most, &mut places);
        }
        debug_assert!(places.len() <= most, "a source gave more than it was asked for");
        self.list(&places)
    }

    fn list(&self, places: &[Place]) -> bool {
        let inner = self.inner();
        for place in places {
            // SAFETY: a source gives places with headers, and they are nobody's.
            let header = unsafe { place.0.as_ref() };
            debug_assert!(header.pool == self.0 && header.refs.get() == 0);
            header.link.set(inner.free.replace(Some(place.0)));
        }
        inner.away.set(inner.away.get() - places.len() as u32);
        !places.is_empty()
    }
}

impl Packet {
    /// Whether its cell is from a source of type `S`.
    #[inline]
    pub fn is_from<S: Source>(&self) -> bool {
        // SAFETY: rule 1: a cell that is out keeps its pool.
        unsafe { self.header().pool.as_ref() }.kind == TypeId::of::<S>()
    }

    /// Where its header stands: of use for cells of a source.
    #[inline]
    pub fn place(&self) -> Place {
        Place(self.0)
    }

    /// Where the head lies in the cell's buffer: bytes in front of it, and its length.
    #[inline]
    pub fn bounds(&self) -> (u32, u32) {
        let h = self.header();
        (h.off.get(), h.len.get())
    }

    /// Ends a packet whose place somebody has taken who will give it to the source by himself. The tail is let go.
    ///
    /// # Safety
    /// The cell is a source's; the place is nobody's cell until the source gives it to us again.
    #[inline]
    pub unsafe fn gone(mut self) {
        self.clear_tail();
        let me = ManuallyDrop::new(self);
        let header = me.header();
        header.refs.set(0);
        // SAFETY: rule 1: a cell that is counted as out keeps its pool.
        let pool = unsafe { header.pool.as_ref() };
        debug_assert!(
            matches!(pool.memory, Memory::Outside(_)),
            "a cell of the pool's own has nowhere to go"
        );
        pool.free_count.set(pool.free_count.get() + 1);
        pool.away.set(pool.away.get() + 1);
        if pool.handles.get() == 0 {
            release_if_dead(header.pool);
        }
    }

    /// A handle more on the head's cell, for somebody who reads it while the packet is not written to.
    #[inline]
    pub fn handle(&self) -> Handle {
        retain(self.0);
        Handle(self.0)
    }
}

impl Slice {
    /// As [`Packet::is_from`].
    #[inline]
    pub fn is_from<S: Source>(&self) -> bool {
        // SAFETY: this handle keeps the cell, and rule 1: that keeps its pool.
        unsafe { self.cell.as_ref().pool.as_ref() }.kind == TypeId::of::<S>()
    }

    /// As [`Packet::place`].
    #[inline]
    pub fn place(&self) -> Place {
        Place(self.cell)
    }

    /// A handle more on its cell.
    #[inline]
    pub fn handle(&self) -> Handle {
        retain(self.cell);
        Handle(self.cell)
    }
}

/// One of the handles on a cell, without a view of its bytes: for who keeps it as an address.
#[must_use]
#[derive(Debug)]
pub struct Handle(NonNull<Header>);

impl Handle {
    /// The handle as an address.
    #[inline]
    pub fn into_raw(self) -> NonNull<()> {
        ManuallyDrop::new(self).0.cast()
    }

    /// The handle again.
    ///
    /// # Safety
    /// From [`Handle::into_raw`], once, on the same thread.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<()>) -> Handle {
        Handle(raw.cast())
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        release(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::rc::Rc;

    const BUFFER: usize = 256;

    #[repr(C, align(64))]
    struct Slot([std::cell::UnsafeCell<u8>; HEADER_BYTES + BUFFER]);

    /// A stack of places, which a "device" takes from as well.
    struct Stack {
        places: RefCell<Vec<Place>>,
        slots: Box<[Slot]>,
    }

    struct Shared(Rc<Stack>);

    // SAFETY: places are handed to one taker at a time; memory stays as long as the `Rc`.
    unsafe impl Source for Shared {
        fn take(&self, most: usize, places: &mut ArrayVec<Place, REFILL_MAX>) {
            let mut mine = self.0.places.borrow_mut();
            while places.len() < most {
                let Some(place) = mine.pop() else { break };
                places.push(place);
            }
        }
        fn give(&self, places: &[Place]) {
            self.0.places.borrow_mut().extend(places);
        }
    }

    /// A pool of `capacity` cells from a source with `total` places.
    fn outside(capacity: u32, total: usize) -> (Pool, Rc<Stack>) {
        let slot = || Slot(std::array::from_fn(|_| 0.into()));
        let slots: Box<[Slot]> = (0..total).map(|_| slot()).collect();
        let stack = Rc::new(Stack { places: RefCell::default(), slots });
        let pool = Pool::outside("outside", capacity, BUFFER as u32, Shared(Rc::clone(&stack)));
        for slot in &stack.slots {
            let header = NonNull::from(&slot.0).cast::<u8>();
            // SAFETY: a slot has room for both, aligned to 64; nobody else uses it.
            unsafe {
                pool.place(header, header.add(HEADER_BYTES), BUFFER as u32);
                stack.places.borrow_mut().push(Place::at(header));
            }
        }
        (pool, stack)
    }

    /// What a device does: takes a place, writes a frame into its buffer, and gives it to the pool.
    fn receive(pool: &Pool, stack: &Stack, frame: &[u8]) -> Option<Packet> {
        let place = stack.places.borrow_mut().pop()?;
        // SAFETY: a place that nobody has; the frame is written where `adopt` is told.
        let packet = unsafe {
            let to = place.address().add(HEADER_BYTES + 16);
            std::ptr::copy_nonoverlapping(frame.as_ptr(), to.as_ptr(), frame.len());
            pool.adopt(place, 16, frame.len() as u32)
        };
        if packet.is_none() {
            stack.places.borrow_mut().push(place);
        }
        packet
    }

    /// And then: the frame goes to the device, and its place back to the source.
    fn send(packet: Packet, stack: &Stack) {
        let place = packet.place();
        // SAFETY: taken from the source again only after this.
        unsafe { packet.gone() };
        stack.places.borrow_mut().push(place);
    }

    #[test]
    fn a_received_frame_is_a_cell_and_its_place_comes_back() {
        let (pool, stack) = outside(4, 6);
        let p = receive(&pool, &stack, b"headerspayload").expect("a cell");
        assert_eq!((p.head(), p.bounds()), (&b"headerspayload"[..], (16, 14)));
        assert!(p.is_from::<Shared>() && pool.source::<Shared>().is_some());
        assert_eq!((pool.free_count(), pool.out(), pool.listed(), stack.places.borrow().len()), (3, 1, 0, 5));
        let mut s = p.into_slice(7, 7);
        assert!(s.extend_in_place(b"!"), "compaction works as in any cell");
        assert_eq!(&*s, b"payload!");
        drop(s);
        assert_eq!((pool.free_count(), pool.listed()), (4, 1));
        let q = receive(&pool, &stack, b"x").expect("a cell");
        send(q, &stack);
        assert_eq!((pool.free_count(), pool.listed(), stack.places.borrow().len()), (4, 1, 5));
        let weak = Rc::downgrade(&stack);
        drop((pool, stack));
        assert!(weak.upgrade().is_none(), "the source goes with the pool");
    }

    #[test]
    fn no_more_cells_than_the_capacity_are_out_however_many_places_there_are() {
        let (pool, stack) = outside(3, 100);
        let mut held: Vec<_> = (0..2).map(|_| receive(&pool, &stack, b"a").expect("a cell")).collect();
        held.push(pool.alloc().expect("a cell"));
        assert!(pool.alloc().is_none() && receive(&pool, &stack, b"b").is_none());
        assert_eq!((pool.stats().empty_count, pool.stats().low_water, pool.free_count()), (2, 0, 0));
        held.truncate(1);
        // Both free ones are listed; a received frame needs one of them back at the source.
        assert_eq!((pool.free_count(), pool.listed()), (2, 2));
        held.push(receive(&pool, &stack, b"c").expect("a cell"));
        assert_eq!(pool.free_count(), 1);
        assert!(held.iter().all(|p| p.head() == b"a" || p.head() == b"c"));
        drop(held);
        assert_eq!(pool.free_count(), 3);
    }

    #[test]
    fn a_source_that_has_nothing_leaves_the_pool_empty() {
        let (pool, stack) = outside(8, 8);
        let device = std::mem::take(&mut *stack.places.borrow_mut());
        assert!(pool.alloc().is_none());
        assert_eq!((pool.free_count(), pool.stats().empty_count), (8, 1));
        stack.places.borrow_mut().extend(device);
        assert!(pool.alloc().is_some());
    }

    #[test]
    fn cells_keep_the_source_without_the_pool() {
        let (pool, stack) = outside(4, 4);
        let weak = Rc::downgrade(&stack);
        let s = receive(&pool, &stack, b"late").expect("a cell").into_slice(0, 4);
        let other = receive(&pool, &stack, b"sent").expect("a cell");
        drop(pool);
        send(other, &stack);
        drop(stack);
        assert_eq!((&*s, weak.strong_count()), (&b"late"[..], 1));
        drop(s);
        assert!(weak.upgrade().is_none());
    }

    /// Any order of doings: no place is in two hands, none is lost, counts are right, bytes are whole.
    #[test]
    fn whatever_is_done_every_place_is_in_one_hand() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut below = |n: u64| (rng.next_u64() % n) as usize;
            let (capacity, spare) = (1 + below(200), below(100));
            let (pool, stack) = outside(capacity as u32, capacity + spare);
            let mut packets: Vec<(u8, Packet)> = Vec::new();
            let mut slices: Vec<(u8, Slice)> = Vec::new();
            // Places that the device has to receive into, or is sending.
            let mut device: Vec<Place> = Vec::new();
            for step in 0..400 {
                let tag = step as u8;
                match below(9) {
                    0 | 1 => packets.extend(receive(&pool, &stack, &[tag; 40]).map(|p| (tag, p))),
                    2 => packets.extend(pool.alloc().map(|mut p| {
                        assert!(p.append(&[tag; 40]));
                        (tag, p)
                    })),
                    3 if !packets.is_empty() => drop(packets.swap_remove(below(packets.len() as u64))),
                    4 if !packets.is_empty() => {
                        let (tag, p) = packets.swap_remove(below(packets.len() as u64));
                        let mut s = p.into_slice(4, 36);
                        slices.push((tag, s.split_to(10)));
                        slices.push((tag, s));
                    }
                    5 if !slices.is_empty() => drop(slices.swap_remove(below(slices.len() as u64))),
                    6 if !packets.is_empty() => {
                        let (_, p) = packets.swap_remove(below(packets.len() as u64));
                        device.push(p.place());
                        // SAFETY: back in the source later.
                        unsafe { p.gone() };
                    }
                    7 if device.len() < spare => device.extend(stack.places.borrow_mut().pop()),
                    8 => {
                        pool.trim(below(20) as u32);
                        stack.places.borrow_mut().append(&mut device);
                    }
                    _ => {}
                }
                assert!(packets.iter().all(|(tag, p)| p.head() == [*tag; 40]));
                assert!(slices.iter().all(|(tag, s)| s.iter().all(|b| b == tag)));
                let mut cells: Vec<_> = packets.iter().map(|(_, p)| p.0).collect();
                cells.extend(slices.iter().map(|(_, s)| s.cell));
                cells.sort();
                cells.dedup();
                assert_eq!(pool.out() as usize, cells.len(), "seed {seed}, step {step}");
                let places =
                    stack.places.borrow().len() + device.len() + pool.listed() as usize + cells.len();
                assert_eq!(places, capacity + spare, "seed {seed}, step {step}");
                assert!(pool.listed() <= pool.free_count());
            }
            drop((packets, slices));
            assert_eq!(pool.free_count() as usize, capacity);
            stack.places.borrow_mut().append(&mut device);
            let weak = Rc::downgrade(&stack);
            drop((pool, stack));
            assert!(weak.upgrade().is_none());
        }
    }
}
