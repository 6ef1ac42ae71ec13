//! A place for one slice. The rules behind its `unsafe` are those of `cell.rs`.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::{Header, Slice};

/// A place where a slice waits, or none: 8 bytes, for owners of which there are many.
///
/// Where in its cell the slice lies is written into the cell itself, so only one that is its cell's sole handle can wait
/// here.
#[derive(Default)]
pub struct Stash(Option<NonNull<Header>>);

impl Stash {
    /// With nothing in it.
    pub const EMPTY: Stash = Stash(None);

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: this place keeps the cell.
        self.0.map_or(0, |cell| unsafe { cell.as_ref() }.len.get() as usize)
    }

    /// Puts a slice where none is.
    ///
    /// # Errors
    /// Gives the slice back when its cell has other handles, or there is one already.
    #[inline]
    pub fn put(&mut self, slice: Slice) -> Result<(), Slice> {
        if self.0.is_some() || !slice.is_unique() {
            return Err(slice);
        }
        let s = ManuallyDrop::new(slice);
        // SAFETY: the slice's handle is now this place's; refs == 1, so its range can stand in the header.
        let header = unsafe { s.cell.as_ref() };
        header.off.set(s.off);
        header.len.set(s.len);
        self.0 = Some(s.cell);
        Ok(())
    }

    /// Takes the slice.
    #[inline]
    pub fn take(&mut self) -> Option<Slice> {
        let cell = self.0.take()?;
        // SAFETY: this place's handle, which goes to the slice.
        let header = unsafe { cell.as_ref() };
        Some(Slice { cell, off: header.off.get(), len: header.len.get() })
    }

    /// Copies `bytes` behind the slice's, in its own cell; `false`, and nothing done, when there is no room there, or no
    /// slice.
    pub fn extend(&mut self, bytes: &[u8]) -> bool {
        let Some(cell) = self.0 else { return false };
        // SAFETY: this place keeps the cell.
        let header = unsafe { cell.as_ref() };
        let mut view = ManuallyDrop::new(Slice { cell, off: header.off.get(), len: header.len.get() });
        let done = view.extend_in_place(bytes);
        header.len.set(view.len);
        done
    }

    /// Lets the slice go, if there is one.
    #[inline]
    pub fn clear(&mut self) {
        drop(self.take());
    }
}

impl Drop for Stash {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl std::fmt::Debug for Stash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stash({} B)", self.len())
    }
}

const _: () = assert!(size_of::<Stash>() == 8);

#[cfg(test)]
mod tests {
    use super::super::tests::{packet, pool};
    use super::*;

    #[test]
    fn what_is_put_is_what_is_taken() {
        let p = pool(4);
        let mut stash = Stash::default();
        assert_eq!((stash.is_empty(), stash.len(), stash.extend(b"x")), (true, 0, false));
        assert!(stash.take().is_none());
        let s = packet(&p, b"a record").into_slice(2, 6);
        let at = s.as_ptr();
        stash.put(s).unwrap();
        assert!(!stash.is_empty() && stash.len() == 6);
        let s = stash.take().unwrap();
        assert_eq!((&*s, s.as_ptr(), s.is_unique()), (&b"record"[..], at, true));
        assert!(stash.is_empty() && stash.take().is_none());
        drop(s);
        assert_eq!(p.free_count(), 4);
    }

    #[test]
    fn one_that_others_see_does_not_wait_here_nor_a_second_one() {
        let p = pool(4);
        let mut stash = Stash::EMPTY;
        let s = packet(&p, b"ab").into_slice(0, 2);
        let other = s.view(1, 1);
        let s = stash.put(s).unwrap_err();
        drop(other);
        stash.put(s).unwrap();
        let second = stash.put(packet(&p, b"cd").into_slice(0, 2)).unwrap_err();
        assert_eq!((&*second, stash.len()), (&b"cd"[..], 2));
        drop(second);
        assert_eq!(p.free_count(), 3);
        stash.clear();
        assert_eq!((p.free_count(), stash.is_empty()), (4, true));
    }

    #[test]
    fn it_grows_in_its_cell_and_gives_it_back() {
        let p = pool(2);
        let mut stash = Stash::EMPTY;
        stash.put(packet(&p, b"early").into_slice(0, 5)).unwrap();
        assert!(stash.extend(b" data"));
        assert!(!stash.extend(&[0; 2048]), "more than the cell has");
        assert_eq!(stash.len(), 10);
        assert_eq!(stash.take().as_deref(), Some(&b"early data"[..]));
        stash.put(packet(&p, b"x").into_slice(0, 1)).unwrap();
        assert_eq!(p.free_count(), 1);
        drop(stash);
        assert_eq!(p.free_count(), 2);
    }
}
