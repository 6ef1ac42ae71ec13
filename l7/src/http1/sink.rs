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
        self.room.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(piece);
        self.len = end;
        Ok(())
    }
}
