//! Early data that is refused: it is passed over, as much of it as clients may send, until their Finished comes (RFC 8446,
//! 4.2.10).
//!
//! rustls would do so, but not in a way that a client can count on: it counts bytes as they are sealed, where clients count
//! them as they were before; and it keeps what it has passed over in its input, and counts that again whenever it looks.
//! So that only the first record is left to it, from which it is seen whether a session's early data is taken; of a full
//! handshake none ever is. The rest rustls does not see. What opens by the handshake's key is the client's last flight.

use super::keys::{SECRET_BYTES, Suite};
use super::record::{self, HEADER_BYTES};

/// What is passed over where early data is off, and a client has not heard of that.
const ROOM_WHERE_OFF: u32 = 16 << 10;
/// Bytes of a record that are no data: its inner type and a tag.
const OVERHEAD: usize = 1 + 16;

/// What may still come of it.
pub(super) struct Refused {
    /// Bytes, as clients count them.
    left: usize,
    /// It is known that none is taken.
    pub is_certain: bool,
    /// rustls was shown a record of it.
    pub is_tried: bool,
}

impl Refused {
    /// Of a client that has said that it sends early data, and may send so much.
    pub fn new(room: u32) -> Refused {
        let room = if room == 0 { ROOM_WHERE_OFF } else { room };
        Refused { left: room as usize, is_certain: false, is_tried: false }
    }

    /// Whether rustls is not to see this record, which is sealed. `key`: the client's, of the handshake; `None`: it is
    /// asked for another hello.
    pub fn passes_over(&mut self, record: &[u8], key: Option<(Suite, &[u8; SECRET_BYTES])>) -> bool {
        self.is_tried = true;
        // Empty ones are to have an end, too.
        let bytes = record.len().saturating_sub(HEADER_BYTES + OVERHEAD).max(1);
        // rustls has the right alert for what is too much.
        let Some(left) = self.left.checked_sub(bytes) else { return false };
        if !self.is_certain || key.is_some_and(|(suite, secret)| record::opens(suite, secret, record)) {
            return false;
        }
        self.left = left;
        true
    }
}
