//! Where written heads go.

/// There is no room for the whole head; what was put so far is to be thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Takes the pieces of a head in order.
pub trait HeadSink {
    /// Appends all of `piece`, or fails.
    fn put(&mut self, piece: &[u8]) -> Result<(), Full>;
}

/// A sink over a slice that somebody else owns.
#[derive(Debug)]
pub struct SliceSink<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl<'a> SliceSink<'a> {
    /// Writes from the start of `room`.
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, len: 0 }
    }

    /// How much has been written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What has been written.
    pub fn written(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

impl HeadSink for SliceSink<'_> {
    #[inline]
    fn put(&mut self, piece: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(piece.len()).ok_or(Full)?;
        copy(self.room.get_mut(self.len..end).ok_or(Full)?, piece);
        self.len = end;
        Ok(())
    }
}

/// Copies `from` to `to`, which has the same length. What heads are made of is short: two moves that may overlap take
/// less than a call.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    if from.len() > 32 {
        to.copy_from_slice(from);
    } else if !(both_ends::<16>(to, from) || both_ends::<8>(to, from) || both_ends::<4>(to, from)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

/// Copies the first and the last `N` bytes, if there are as many.
#[inline]
fn both_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
    match to.first_chunk_mut::<N>() {
        Some(room) => *room = *first,
        None => return false,
    }
    match to.last_chunk_mut::<N>() {
        Some(room) => *room = *last,
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_lengths_are_copied_and_nothing_beyond() {
        let text: Vec<u8> = (1..=80).collect();
        for len in 0..text.len() {
            let mut room = [0; 100];
            let mut sink = SliceSink::new(&mut room);
            sink.put(b"ab").unwrap();
            sink.put(&text[..len]).unwrap();
            assert_eq!(&sink.written()[2..], &text[..len]);
            assert!(room[2 + len..].iter().all(|&b| b == 0));
            assert_eq!(SliceSink::new(&mut room[..len]).put(&text[..len + 1]), Err(Full));
        }
    }
}
