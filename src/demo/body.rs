//! Deterministic bodies: any byte of any length is known without keeping one, so a client (or a test) can check
//! what came through the proxy.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// Largest piece handed to hyper at once.
const PIECE_BYTES: usize = 64 << 10;

/// The pattern is a line of 64 bytes, over and over; a shift by even one byte shows.
const LINE: &[u8; 64] = b"the water goes past the river, straight to the wheel  millrace \n";

/// A piece of the pattern; every piece begins at a multiple of its length, so one serves all.
static PIECE: [u8; PIECE_BYTES] = {
    assert!(PIECE_BYTES.is_multiple_of(LINE.len()));
    let mut piece = [0; PIECE_BYTES];
    let mut i = 0;
    while i < PIECE_BYTES {
        piece[i] = LINE[i % LINE.len()];
        i += 1;
    }
    piece
};

/// Byte `i` of every streamed body.
pub fn byte_at(i: u64) -> u8 {
    LINE[(i % LINE.len() as u64) as usize]
}

/// What the origin's answers consist of.
pub enum Answer {
    /// Bytes at hand.
    Whole(Option<Bytes>),
    /// The pattern; with a length announced or chunked.
    Pattern(Pattern),
    /// A few pieces, slowly.
    Drip(Drip),
    /// Some bytes of a longer announced body, then an error, which makes hyper close the connection.
    Broken(Broken),
}

/// The pattern of [`byte_at`], up to some length.
pub struct Pattern {
    left_bytes: u64,
    /// Whether the length is announced; if not, the body goes chunked.
    sized: bool,
}

/// A piece now and then.
pub struct Drip {
    left: u32,
    every: Duration,
    next: Pin<Box<Sleep>>,
}

/// Bytes, a pause in which they leave, and the end before its time.
pub struct Broken {
    bytes: Option<Bytes>,
    end: Pin<Box<Sleep>>,
}

impl Answer {
    /// Bytes at hand.
    pub fn whole(bytes: impl Into<Bytes>) -> Answer {
        Answer::Whole(Some(bytes.into()))
    }

    /// `bytes` of the pattern.
    pub fn pattern(bytes: u64, sized: bool) -> Answer {
        Answer::Pattern(Pattern { left_bytes: bytes, sized })
    }

    /// The first of `pieces` after `first`, then one each `every`.
    pub fn drip(first: Duration, pieces: u32, every: Duration) -> Answer {
        Answer::Drip(Drip { left: pieces, every, next: Box::pin(sleep_until(Instant::now() + first)) })
    }

    /// `bytes`, and shortly after them an error: without the pause hyper would drop what it has not sent yet, the
    /// head included.
    pub fn broken(bytes: &'static str) -> Answer {
        let end = Box::pin(sleep_until(Instant::now() + Duration::from_millis(50)));
        Answer::Broken(Broken { bytes: Some(Bytes::from_static(bytes.as_bytes())), end })
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let data = match &mut *self {
            Answer::Whole(bytes) => bytes.take(),
            Answer::Pattern(pattern) => {
                let length = pattern.left_bytes.min(PIECE_BYTES as u64);
                pattern.left_bytes -= length;
                (length > 0).then(|| Bytes::from_static(&PIECE[..length as usize]))
            }
            Answer::Drip(drip) if drip.left == 0 => None,
            Answer::Drip(drip) => {
                if drip.next.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                drip.left -= 1;
                let next = drip.next.deadline() + drip.every;
                drip.next.as_mut().reset(next);
                Some(Bytes::from_static(b"drop\n"))
            }
            Answer::Broken(broken) => match broken.bytes.take() {
                Some(bytes) => Some(bytes),
                None if broken.end.as_mut().poll(context).is_pending() => return Poll::Pending,
                None => return Poll::Ready(Some(Err(std::io::Error::other("broken on purpose")))),
            },
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(bytes) => bytes.is_none(),
            Answer::Pattern(pattern) => pattern.left_bytes == 0,
            Answer::Drip(drip) => drip.left == 0,
            Answer::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Answer::Pattern(pattern) if pattern.sized => SizeHint::with_exact(pattern.left_bytes),
            _ => SizeHint::default(),
        }
    }
}
