//! Finding the end of a head that arrives in pieces, once over each byte.
//!
//! A head that arrives whole is parsed at once and never scanned. One that trickles is scanned from where the
//! last scan ended, each completed line is checked once, and the head is parsed when its end is there: two looks
//! at each byte however it was cut. A bad byte is found when it comes, a bad line with its end at the latest, and
//! what only several lines together do wrong (two Hosts, two framings) at the end of the head.

use super::bytes::{self, TOKEN};
use super::field::{self, Side};
use super::head;
use super::limits::HttpLimits;
use super::reject::RejectReason;

/// How far into an incomplete head we have looked. Kept per connection; `reset` for each head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// Bytes that need not be looked at again.
    scanned: u32,
    /// Where the line begins that is not complete.
    line_start: u32,
    /// Complete lines, the empty one before the start line not counted.
    lines: u32,
}

impl HeadScan {
    /// For a new head.
    pub const fn new() -> Self {
        Self { scanned: 0, line_start: 0, lines: 0 }
    }

    /// Forgets the head.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Whether part of a head has been seen.
    pub fn has_begun(&self) -> bool {
        self.scanned > 0
    }

    /// Looks at what is new in `window`. `true`: the end of the head is there.
    pub(crate) fn advance(
        &mut self,
        window: &[u8],
        side: Side,
        limits: &HttpLimits,
    ) -> Result<bool, RejectReason> {
        debug_assert!(self.scanned as usize <= window.len(), "a head only grows");
        let mut at = self.scanned as usize;
        loop {
            at = bytes::text_end(window, at);
            match (window.get(at), window.get(at + 1)) {
                (None, _) | (Some(b'\r'), None) => break,
                (Some(b'\r'), Some(b'\n')) => {}
                (Some(b'\r'), Some(_)) => return Err(RejectReason::BareCr),
                (Some(b'\n'), _) => return Err(RejectReason::BareLf),
                (Some(_), _) => return Err(RejectReason::ControlByte),
            }
            if self.end_line(window, at, side, limits)? {
                return Ok(true);
            }
            at += 2;
            self.line_start = at as u32;
        }
        self.scanned = at as u32;
        self.check_open_line(window, side, limits)?;
        Ok(false)
    }

    /// A line ends at `at`. `true`: it was the empty one after the headers.
    fn end_line(
        &mut self,
        window: &[u8],
        at: usize,
        side: Side,
        limits: &HttpLimits,
    ) -> Result<bool, RejectReason> {
        let start = self.line_start as usize;
        match (self.lines, start == at) {
            (0, true) => head::check_leading_line(start, side)?,
            (0, false) => {
                head::check_start_line(window, start, side, limits)?;
                self.lines = 1;
            }
            (_, true) => return Ok(true),
            (_, false) => {
                if self.lines as usize > limits.headers_ceiling() {
                    return Err(RejectReason::TooManyHeaders);
                }
                field::parse_line(window, start, side)?;
                self.lines += 1;
            }
        }
        Ok(false)
    }

    /// What can be said about a line before its end. Bounded by the length of a method, not by the line's.
    fn check_open_line(&self, window: &[u8], side: Side, limits: &HttpLimits) -> Result<(), RejectReason> {
        let line = window.get(self.line_start as usize..).unwrap_or_default();
        match (line.first(), self.lines) {
            (None | Some(b'\r'), _) => Ok(()),
            (Some(b' ' | b'\t'), 1..) => Err(RejectReason::ObsFold),
            (Some(b':'), 1..) => Err(RejectReason::FieldNameEmpty),
            (Some(&b), 1..) if !bytes::is(b, TOKEN) => Err(RejectReason::FieldNameInvalid),
            (Some(_), 1..) => Ok(()),
            (Some(_), 0) => head::check_open_start_line(line, side, limits),
        }
    }
}
