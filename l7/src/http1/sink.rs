//! Where written heads go.

use super::bytes::format_decimal;

/// There is no room for the whole head; what was put so far is to be thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Takes the pieces of a head in order.
pub trait HeadSink {
    /// Appends all of `piece`, or fails.
    fn put(&mut self, piece: &[u8]) -> Result<(), Full>;

    /// The same, of a text whose length the compiler knows: it costs a few moves.
    #[inline(always)]
    fn put_text<const N: usize>(&mut self, text: &[u8; N]) -> Result<(), Full>
    where
        Self: Sized,
    {
        self.put(text)
    }

    /// Appends `n` in decimal.
    #[inline]
    fn put_decimal(&mut self, n: u64) -> Result<(), Full>
    where
        Self: Sized,
    {
        self.put(format_decimal(n, &mut [0; 20]))
    }

    /// Appends `text` in lower case.
    fn put_lower(&mut self, text: &[u8]) -> Result<(), Full>
    where
        Self: Sized,
    {
        let mut room = [0; 64];
        for piece in text.chunks(room.len()) {
            let lower = &mut room[..piece.len()];
            lower.copy_from_slice(piece);
            lower.make_ascii_lowercase();
            self.put(lower)?;
        }
        Ok(())
    }
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

    #[inline(always)]
    fn put_text<const N: usize>(&mut self, text: &[u8; N]) -> Result<(), Full> {
        let room = self.room.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut::<N>());
        *room.ok_or(Full)? = *text;
        self.len += N;
        Ok(())
    }

    #[inline]
    fn put_lower(&mut self, text: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(text.len()).ok_or(Full)?;
        let room = self.room.get_mut(self.len..end).ok_or(Full)?;
        lower(room, text);
        self.len = end;
        Ok(())
    }
}

/// Writes `text`, which is as long as `room`, in lower case: eight bytes at a time, the last eight once more where they
/// do not come out even.
#[inline]
fn lower(room: &mut [u8], text: &[u8]) {
    let (words, _) = text.as_chunks::<8>();
    let (Some(last), true) = (text.last_chunk::<8>(), room.len() == text.len()) else {
        for (to, from) in room.iter_mut().zip(text) {
            *to = from.to_ascii_lowercase();
        }
        return;
    };
    for (to, word) in room.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = lower_word(*word);
    }
    if let Some(to) = room.last_chunk_mut::<8>() {
        *to = lower_word(*last);
    }
}

#[inline]
fn lower_word(word: [u8; 8]) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let n = u64::from_le_bytes(word);
    let low = n & (ONES * 0x7f);
    // The high bit of each byte from `A` on, and of each beyond `Z`; of bytes that are ASCII.
    let is_upper = (low + ONES * (0x80 - 0x41)) & !(low + ONES * (0x80 - 0x5b)) & !n & (ONES * 0x80);
    (n | is_upper >> 2).to_le_bytes()
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
    fn lower_case_is_that_of_ascii_at_every_length() {
        let all: Vec<u8> = (0..=255).collect();
        for len in 0..=all.len() {
            let mut room = [0; 256];
            let mut sink = SliceSink::new(&mut room);
            sink.put_lower(&all[256 - len..]).unwrap();
            assert_eq!(sink.written(), all[256 - len..].to_ascii_lowercase());
            assert_eq!(SliceSink::new(&mut room[..len / 2]).put_lower(&all[..len]).is_err(), len > len / 2);
        }
    }

    #[test]
    fn numbers_are_written_with_and_without_room_to_spare() {
        for n in [0, 1, 9, 10, 99, 100, 12_345, 999_999_999, 4_294_967_295, 4_294_967_296, u64::MAX] {
            let text = n.to_string();
            let mut room = [0; 30];
            let mut sink = SliceSink::new(&mut room);
            sink.put_decimal(n).unwrap();
            assert_eq!(sink.written(), text.as_bytes());
            let mut sink = SliceSink::new(&mut room[..text.len()]);
            sink.put_decimal(n).unwrap();
            assert_eq!(sink.written(), text.as_bytes());
            assert_eq!(SliceSink::new(&mut room[..text.len() - 1]).put_decimal(n), Err(Full));
        }
    }

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
