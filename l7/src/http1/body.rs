//! A message body of any framing (RFC 9112 6.3, 8).

use core::fmt;
use core::ops::Range;

use super::chunked::{ChunkStep, ChunkedDecoder};
use super::framing::BodyLength;
use super::limits::HttpLimits;
use super::reject::RejectReason;

/// What the next bytes are. Ranges are positions in the input of the same call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Data of the body.
    Data(Range<usize>),
    /// A trailer line that may be forwarded.
    #[allow(missing_docs)] // Their names are their documentation.
    Trailer { name: Range<usize>, value: Range<usize> },
    /// More input is needed; the gather contract of [`ChunkStep::NeedMore`] holds.
    NeedMore,
    /// The message is complete; what was not consumed belongs to the next.
    Done,
}

/// The connection ended inside of the body: it is not complete and must not look as if it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection ended inside of a message body")
    }
}

impl core::error::Error for Truncated {}

/// Takes one body apart.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder {
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// What is left; 0 is done.
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

impl BodyDecoder {
    /// For a body that is framed like this.
    pub fn new(length: BodyLength, limits: &HttpLimits) -> Self {
        let kind = match length {
            BodyLength::None => Kind::Length(0),
            BodyLength::Length(n) => Kind::Length(n),
            BodyLength::Chunked => Kind::Chunked(ChunkedDecoder::new(limits)),
            BodyLength::UntilClose => Kind::UntilClose,
        };
        Self { kind }
    }

    /// Whether the end has been seen. True at once where there is no body.
    pub fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(decoder) => decoder.is_done(),
            Kind::UntilClose => false,
        }
    }

    /// How many bytes are still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.kind {
            Kind::Length(left) => Some(*left),
            Kind::Chunked(decoder) => decoder.is_done().then_some(0),
            Kind::UntilClose => None,
        }
    }

    /// The next step in `input`, and how much of it is used up. Call until `NeedMore` or `Done`.
    pub fn next(&mut self, input: &[u8]) -> Result<(BodyStep, usize), RejectReason> {
        let taken = match &mut self.kind {
            Kind::Length(0) => return Ok((BodyStep::Done, 0)),
            Kind::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                taken
            }
            Kind::UntilClose => input.len(),
            Kind::Chunked(decoder) => {
                let (step, consumed) = decoder.decode(input)?;
                return Ok((step.into(), consumed));
            }
        };
        Ok(if taken == 0 { (BodyStep::NeedMore, 0) } else { (BodyStep::Data(0..taken), taken) })
    }

    /// The sender has closed. Only a body that is complete, or that is ended by closing, ends well.
    pub fn on_eof(&mut self) -> Result<(), Truncated> {
        match self.kind {
            Kind::UntilClose => {
                self.kind = Kind::Length(0);
                Ok(())
            }
            _ if self.is_done() => Ok(()),
            _ => Err(Truncated),
        }
    }
}

impl From<ChunkStep> for BodyStep {
    fn from(step: ChunkStep) -> Self {
        match step {
            ChunkStep::Data(range) => Self::Data(range),
            ChunkStep::Trailer { name, value } => Self::Trailer { name, value },
            ChunkStep::NeedMore => Self::NeedMore,
            ChunkStep::Done => Self::Done,
        }
    }
}
