//! What was opened here and goes out without TLS: it must not keep the memory that records need.
//!
//! A record that came in several segments is opened in a cell that has room for the longest one, and its plaintext goes out
//! as it lies. What is a small part of its cell is copied instead, into small cells; what is not is charged the whole cell.
//! So a peer that reads slowly holds no more than the budget that it has, whatever its records are like.

use dataplane::Slice;
use stack::FlowId;

use super::Conns;

/// What is less than one in so many bytes of its cell is copied.
const SMALL_PART: usize = 4;

impl Conns<'_> {
    /// Queues data on a connection without TLS.
    pub(super) fn send_plain(&mut self, flow: FlowId, mut data: Slice) -> Result<(), Slice> {
        let pinned = data.true_size();
        let small = &self.tls.cells.payload;
        if !self.tls.is_on() || pinned <= dataplane::Pool::true_size(small.cell_bytes()) {
            return self.tcp.send(flow, data);
        }
        let room = small.cell_bytes() as usize;
        while !data.is_empty() && data.len() * SMALL_PART < pinned as usize {
            let n = data.len().min(room);
            // Without a small cell it goes out as it is.
            let Some(copy) = self.tls.cells.store(&data[..n]) else { break };
            if self.tcp.send(flow, copy).is_err() {
                return Err(data);
            }
            data.advance(n);
        }
        match data.is_empty() {
            true => Ok(()),
            false => self.tcp.send_pinning(flow, data, pinned),
        }
    }
}
