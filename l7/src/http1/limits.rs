//! Every bound of the HTTP/1.1 layer, in one value.

use super::field::MAX_HEADERS;

/// Spans inside a head are 16 bits wide, so that a header slot is ten bytes.
const HEAD_BYTES_CEILING: usize = u16::MAX as usize;

/// What one connection may ask of us. A value beyond its ceiling counts as the ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// A whole head, start line and final empty line included; at most 65,535. Beyond it: 431 (or 414).
    pub head_bytes_max: usize,
    /// Header lines in a head; at most [`MAX_HEADERS`]. Beyond it: 431.
    pub headers_max: usize,
    /// A request-target. Beyond it: 414.
    pub target_bytes_max: usize,
    /// A method. Beyond it: 501, as RFC 9112 section 3 asks for a method longer than any we implement.
    pub method_bytes_max: usize,
    /// Options in all `Connection` fields together: each is compared with every header name.
    pub connection_options_max: usize,
    /// A whole trailer section.
    pub trailer_bytes_max: usize,
    /// One chunk-size line, extensions included.
    pub chunk_line_bytes_max: usize,
    /// Chunk framing beyond what the data that it carries excuses (see [`super::chunked`]).
    pub chunk_overhead_bytes_max: usize,
    /// Interim (1xx) responses before a final one.
    pub interim_responses_max: u32,
    /// What is read and thrown away of a request that was answered early, before the connection is closed.
    pub discard_bytes_max: u64,
    /// Requests on one client connection; 0 is unlimited.
    pub requests_per_connection_max: u32,
}

impl HttpLimits {
    /// The part of `buf` in which a head must end.
    pub(crate) fn head_window<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        &buf[..buf.len().min(self.head_ceiling())]
    }

    /// The largest head that is parsed.
    pub(crate) fn head_ceiling(&self) -> usize {
        self.head_bytes_max.min(HEAD_BYTES_CEILING)
    }

    /// The largest number of header lines that is parsed.
    pub(crate) fn headers_ceiling(&self) -> usize {
        self.headers_max.min(MAX_HEADERS)
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: MAX_HEADERS,
            target_bytes_max: 8 * 1024,
            method_bytes_max: 32,
            connection_options_max: 32,
            trailer_bytes_max: 8 * 1024,
            chunk_line_bytes_max: 256,
            chunk_overhead_bytes_max: 16 * 1024,
            interim_responses_max: 16,
            discard_bytes_max: 256 * 1024,
            requests_per_connection_max: 0,
        }
    }
}
