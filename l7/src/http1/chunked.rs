//! The chunked transfer coding (RFC 9112 7.1), incrementally.
//!
//! ```text
//!  Size ─hex─► Size ─;─► extension states ─CR─► LineLf ─LF─► Data ─► DataCr ─► DataLf ─► Size …
//!                                                  └─ size 0 ─► Trailers ─ empty line ─► Done
//! ```
//!
//! Chunk lines may be cut anywhere; nothing of them is kept but the state. Only CRLF ends a line. Extensions are
//! checked against their grammar and ignored. Framing that dwarfs the data is refused: every line is charged to
//! a budget, which data pays back, as tiny chunks with long extensions cost a reader far more than a sender.

use core::ops::Range;

use super::bytes::{self, TOKEN};
use super::field::{self, FieldName, Side};
use super::limits::HttpLimits;
use super::reject::RejectReason;

/// What ends a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A chunk of this size or more pays for its own line.
const FREE_LINE_BYTES: usize = 16;

/// What the next bytes are. Ranges are positions in the input of the same call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// Data of the body.
    Data(Range<usize>),
    /// A trailer line that may be forwarded.
    #[allow(missing_docs)] // Their names are their documentation.
    Trailer { name: Range<usize>, value: Range<usize> },
    /// More input is needed. **Gather:** if less than the whole input was consumed, what is left is the start
    /// of a trailer line; present it again with more after it. Elsewhere the whole input is always consumed.
    NeedMore,
    /// The message is complete; what was not consumed belongs to the next.
    Done,
}

/// Decodes one chunked body.
#[derive(Clone, Copy, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Of the chunk: what has been read of its size, then what is left of its data.
    remaining: u64,
    line_bytes: u32,
    digits: u8,
    overhead_bytes: u32,
    trailer_bytes: u32,
    trailers_dropped: u32,
    line_bytes_max: u32,
    overhead_bytes_max: u32,
    trailer_bytes_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size.
    Size,
    /// Blanks after the size: only an extension may follow.
    SizeBlank,
    /// After `;`.
    ExtensionStart,
    ExtensionName,
    ExtensionNameBlank,
    /// After `=`.
    ValueStart,
    ValueToken,
    ValueQuoted,
    ValueQuotedPair,
    ValueQuotedEnd,
    ValueBlank,
    /// The line's LF.
    LineLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

impl ChunkedDecoder {
    /// For one body.
    pub fn new(limits: &HttpLimits) -> Self {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            state: State::Size,
            remaining: 0,
            line_bytes: 0,
            digits: 0,
            overhead_bytes: 0,
            trailer_bytes: 0,
            trailers_dropped: 0,
            line_bytes_max: narrow(limits.chunk_line_bytes_max),
            overhead_bytes_max: narrow(limits.chunk_overhead_bytes_max),
            trailer_bytes_max: narrow(limits.trailer_bytes_max),
        }
    }

    /// Whether the end has been seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Trailers that were left out, since no trailer may have such a name.
    pub fn trailers_dropped(&self) -> u32 {
        self.trailers_dropped
    }

    /// The next step in `input`, and how much of it is used up. Call until `NeedMore` or `Done`. After an error
    /// the decoder is not to be used.
    pub fn decode(&mut self, input: &[u8]) -> Result<(ChunkStep, usize), RejectReason> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok((ChunkStep::Done, at)),
                State::Trailers => return self.trailer(input, at),
                State::Data => {
                    let available = input.len() - at;
                    if available == 0 {
                        return Ok((ChunkStep::NeedMore, at));
                    }
                    let taken = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(available);
                    debug_assert!(taken > 0);
                    self.remaining -= taken as u64;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok((ChunkStep::Data(at..at + taken), at + taken));
                }
                _ => {
                    let Some(&b) = input.get(at) else { return Ok((ChunkStep::NeedMore, at)) };
                    at += 1;
                    self.framing_byte(b)?;
                }
            }
        }
    }

    /// A byte that is neither data nor trailer.
    fn framing_byte(&mut self, b: u8) -> Result<(), RejectReason> {
        match (self.state, b) {
            (State::DataCr, b'\r') => self.state = State::DataLf,
            (State::DataLf, b'\n') => {
                self.state = State::Size;
                self.line_bytes = 0;
                self.digits = 0;
            }
            (State::DataCr | State::DataLf, _) => return Err(RejectReason::ChunkDataUnterminated),
            (State::LineLf, b'\n') => return self.line_end(),
            (State::LineLf, _) => return Err(RejectReason::BareCr),
            (_, b'\n') => return Err(RejectReason::BareLf),
            _ => {
                self.line_bytes += 1;
                // CRLF is part of the line.
                if self.line_bytes.saturating_add(2) > self.line_bytes_max && b != b'\r' {
                    return Err(RejectReason::ChunkLineTooLong);
                }
                self.state = self.line_byte(b)?;
            }
        }
        Ok(())
    }

    /// A byte of a chunk line; the state after it.
    fn line_byte(&mut self, b: u8) -> Result<State, RejectReason> {
        let blank = bytes::is_blank(b);
        let token = bytes::is(b, TOKEN);
        Ok(match (self.state, b) {
            (State::Size, _) if b.is_ascii_hexdigit() => return self.size_digit(b),
            (State::Size, _) if self.digits == 0 => return Err(RejectReason::ChunkSizeInvalid),
            (State::Size | State::SizeBlank, b';') => State::ExtensionStart,
            (State::Size, b'\r') => State::LineLf,
            // BWS before `;` (RFC 9112 7.1.1).
            (State::Size | State::SizeBlank, _) if blank => State::SizeBlank,
            (State::Size | State::SizeBlank, _) => return Err(RejectReason::ChunkSizeInvalid),

            (State::ExtensionStart, _) if blank => State::ExtensionStart,
            (State::ExtensionStart | State::ExtensionName, _) if token => State::ExtensionName,
            (State::ExtensionName | State::ExtensionNameBlank, b'=') => State::ValueStart,
            (State::ExtensionName | State::ExtensionNameBlank, b';') => State::ExtensionStart,
            (State::ExtensionName, b'\r') => State::LineLf,
            (State::ExtensionName | State::ExtensionNameBlank, _) if blank => State::ExtensionNameBlank,

            (State::ValueStart, _) if blank => State::ValueStart,
            (State::ValueStart, b'"') => State::ValueQuoted,
            (State::ValueStart | State::ValueToken, _) if token => State::ValueToken,
            (State::ValueQuoted, b'"') => State::ValueQuotedEnd,
            (State::ValueQuoted, b'\\') => State::ValueQuotedPair,
            (State::ValueQuoted | State::ValueQuotedPair, _) if bytes::is_text(b) => State::ValueQuoted,
            (State::ValueToken | State::ValueQuotedEnd | State::ValueBlank, b';') => State::ExtensionStart,
            (State::ValueToken | State::ValueQuotedEnd, b'\r') => State::LineLf,
            (State::ValueToken | State::ValueQuotedEnd | State::ValueBlank, _) if blank => State::ValueBlank,
            _ => return Err(RejectReason::ChunkExtensionInvalid),
        })
    }

    fn size_digit(&mut self, b: u8) -> Result<State, RejectReason> {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            _ => (b | 0x20) - b'a' + 10,
        };
        // Leading zeros count as well: sixteen digits are all that 64 bits can need.
        if self.digits == 16 {
            return Err(RejectReason::ChunkSizeOverflow);
        }
        self.digits += 1;
        self.remaining = (self.remaining << 4) | u64::from(digit);
        Ok(State::Size)
    }

    fn line_end(&mut self) -> Result<(), RejectReason> {
        let excused = usize::try_from(self.remaining).unwrap_or(usize::MAX).saturating_add(FREE_LINE_BYTES);
        let excused = u32::try_from(excused).unwrap_or(u32::MAX);
        self.overhead_bytes = self.overhead_bytes.saturating_add(self.line_bytes).saturating_sub(excused);
        if self.overhead_bytes > self.overhead_bytes_max {
            return Err(RejectReason::ChunkOverhead);
        }
        self.state = if self.remaining == 0 { State::Trailers } else { State::Data };
        Ok(())
    }

    /// Trailer lines from `at` on; one that must not be forwarded is skipped (RFC 9110 6.5.1).
    fn trailer(&mut self, input: &[u8], mut at: usize) -> Result<(ChunkStep, usize), RejectReason> {
        loop {
            match (input.get(at), input.get(at + 1)) {
                (None, _) | (Some(b'\r'), None) => return self.trailers_pending(input, at),
                (Some(b'\r'), Some(b'\n')) => {
                    self.state = State::Done;
                    return Ok((ChunkStep::Done, at + 2));
                }
                (Some(b'\r'), Some(_)) => return Err(RejectReason::BareCr),
                _ => {}
            }
            let Some(line) = field::parse_line(input, at, Side::Request)? else {
                return self.trailers_pending(input, at);
            };
            self.charge_trailer(line.next - at)?;
            at = line.next;
            let name = line.name.0..line.name.1;
            if is_forbidden_trailer(&input[name.clone()]) {
                self.trailers_dropped = self.trailers_dropped.saturating_add(1);
                continue;
            }
            return Ok((ChunkStep::Trailer { name, value: line.value.0..line.value.1 }, at));
        }
    }

    fn trailers_pending(&self, input: &[u8], at: usize) -> Result<(ChunkStep, usize), RejectReason> {
        // What is pending counts against the limit, or a line without an end would have none. The empty line
        // that ends the section is not counted, nor is half of it.
        let pending = match &input[at..] {
            [b'\r'] => 0,
            line => u32::try_from(line.len()).unwrap_or(u32::MAX),
        };
        if self.trailer_bytes.saturating_add(pending) > self.trailer_bytes_max {
            return Err(RejectReason::TrailersTooLarge);
        }
        Ok((ChunkStep::NeedMore, at))
    }

    fn charge_trailer(&mut self, line_bytes: usize) -> Result<(), RejectReason> {
        let line_bytes = u32::try_from(line_bytes).unwrap_or(u32::MAX);
        self.trailer_bytes = self.trailer_bytes.saturating_add(line_bytes);
        if self.trailer_bytes > self.trailer_bytes_max {
            return Err(RejectReason::TrailersTooLarge);
        }
        Ok(())
    }
}

/// Fields that decide about framing, routing, authentication, or how the content is read: too late in a trailer
/// (RFC 9110 6.5.1), and a way around whoever looked at the headers.
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    const FORBIDDEN: &[&[u8]] = &[
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-location",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expires",
        b"forwarded",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"pragma",
        b"proxy-authentication-info",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"warning",
        b"www-authenticate",
        b"x-real-ip",
    ];
    FieldName::of(name) != FieldName::Other || FORBIDDEN.iter().any(|f| f.eq_ignore_ascii_case(name))
}

/// The line before a chunk of `len` bytes; after the data comes CRLF. `len` is not 0: that would end the body.
pub fn write_chunk_header(len: usize, out: &mut [u8; 18]) -> &[u8] {
    debug_assert!(len > 0);
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 16;
    let mut rest = len;
    while rest > 0 {
        at -= 1;
        out[at] = HEX[rest & 15];
        rest >>= 4;
    }
    out[16] = b'\r';
    out[17] = b'\n';
    &out[at..]
}
