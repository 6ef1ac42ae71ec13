//! What is kept of heads, while nothing of them moves: it must not keep memory that records need.
//!
//! A record that came in several segments is opened in a cell that has room for the longest one, and a head that came by it lies
//! there. Where the head is only kept, for the log, or until it is whole, or until it is read again, it is copied into a cell
//! of ours. Long ones take no more than half of the cells for heads: the others are for those that are just being gathered.

use dataplane::{CellWriter, Pool, Slice};

use super::exchange::ExchangeId;
use super::{Cells, HEAD_CELL_BYTES, Proxy};
use crate::http1::{RequestHead, Version};
use crate::tls::RECORD_BYTES_MAX;

/// Fields that the log may name.
const LOGGED: [&[u8]; 3] = [b"Host", b"User-Agent", b"Referer"];

/// Whether a piece lies in a cell for records.
#[inline]
fn pins_record(s: &Slice) -> bool {
    (Pool::true_size(RECORD_BYTES_MAX)..Pool::true_size(HEAD_CELL_BYTES)).contains(&s.true_size())
}

impl Cells {
    /// The same bytes, but not in a cell for records, as far as there is another one for them.
    fn out_of_record(&self, s: Slice) -> Slice {
        let is_small = s.len() <= self.payload.cell_bytes() as usize;
        if !pins_record(&s) || !is_small && self.heads.free_count() <= self.heads.capacity() / 2 {
            return s;
        }
        self.store(&s).unwrap_or(s)
    }

    /// What the log needs of a head, as a head; `None` when it does not fit into a small cell, or there is none.
    fn shortened(&self, head: &RequestHead<'_>, version: Version) -> Option<Slice> {
        let mut w = CellWriter::default();
        if !w.reserve(self.payload.cell_bytes() as usize, &self.payload) {
            return None;
        }
        let version: &[u8] = if version == Version::Http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
        let mut fits = true;
        let mut put = |bytes: &[u8]| fits &= w.put(bytes) == bytes.len();
        [head.method_bytes(), b" ", head.target(), version].into_iter().for_each(&mut put);
        for name in LOGGED {
            if let Some(value) = head.headers().get(name) {
                [name, b": ", value, b"\r\n"].into_iter().for_each(&mut put);
            }
        }
        put(b"\r\n");
        let short = w.take();
        w.release();
        short.filter(|_| fits)
    }
}

impl Proxy {
    /// What is kept for the log of a request whose head has been read.
    pub(super) fn head_for_log(&self, x: ExchangeId, head: &RequestHead<'_>) -> Option<Slice> {
        let e = &self.exchanges[x];
        let request = e.request.clone()?;
        if !pins_record(&request) {
            return Some(request);
        }
        self.cells.shortened(head, e.version).or_else(|| Some(self.cells.out_of_record(request)))
    }

    /// The request's head will be read again.
    pub(super) fn keep_head(&mut self, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        e.request = e.request.take().map(|s| self.cells.out_of_record(s));
    }

    /// What has come from the client waits: for the rest of it, or for what comes first.
    #[inline]
    pub(super) fn keep_input(&mut self, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        if e.client_in.as_ref().is_some_and(pins_record) {
            e.client_in = e.client_in.take().map(|s| self.cells.out_of_record(s));
        }
    }
}
