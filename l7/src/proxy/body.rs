//! Moving bytes from one side of an exchange to the other: pieces of bodies as they lie, chunk lines and
//! trailers written anew; and gathering what cannot be read before more of it is there.

use dataplane::{CellWriter, Pool, Slice};
use stack::FlowId;

use super::Cells;
use super::exchange::Leg;
use crate::http1::{BodyStep, Reject, write_chunk_header};
use crate::tls::Conns;

/// What came of moving a body on.
pub(super) enum Moved {
    /// Everything that came was taken; more is to come.
    Open,
    /// The start of a trailer line is left: to be offered again with what follows it.
    Rest(Slice),
    /// The body is complete; what came behind it (may be empty).
    Complete(Slice),
    /// It is not what it says it is.
    Refused(Reject),
    /// No cell or send record was left, or the way out is closed.
    NoRoom,
}

/// Moves `input` on to `to`, as `read` finds the body in it: a step, the bytes it used, and whether the body
/// is complete with it.
pub(super) fn move_body(
    leg: &mut Leg,
    tcp: &mut Conns<'_>,
    to: FlowId,
    pool: &Pool,
    mut input: Slice,
    mut read: impl FnMut(&[u8]) -> Result<(BodyStep, usize, bool), Reject>,
) -> Moved {
    loop {
        let (step, used, complete) = match read(&input) {
            Ok(ok) => ok,
            Err(reject) => return Moved::Refused(reject),
        };
        let waits = step == BodyStep::NeedMore;
        let sent = match step {
            BodyStep::Data(r) => leg.forward(tcp, to, pool, input.view(r.start, r.len())),
            BodyStep::Trailer { name, value } => leg.trailer(tcp, to, pool, &input[name], &input[value]),
            BodyStep::NeedMore | BodyStep::Done => true,
        };
        input.advance(used);
        leg.held += used as u32;
        if !sent {
            return Moved::NoRoom;
        }
        if complete {
            return if leg.end(tcp, to, pool) { Moved::Complete(input) } else { Moved::NoRoom };
        }
        if input.is_empty() {
            return Moved::Open;
        }
        if waits {
            return Moved::Rest(input);
        }
    }
}

/// What came of gathering.
pub(super) enum Gathered {
    /// There is more of it now.
    More(Slice),
    /// Nothing more has come yet.
    Waits(Slice),
    /// No cell was left for it, or it is longer than any head may be.
    NoRoom,
}

/// Puts the next piece that came from `flow` behind `start`.
pub(super) fn gather(cells: &Cells, tcp: &mut Conns<'_>, flow: FlowId, start: Slice) -> Gathered {
    match tcp.read(flow) {
        None => Gathered::Waits(start),
        Some(more) => cells.join(start, &more).map_or(Gathered::NoRoom, Gathered::More),
    }
}

impl Leg {
    /// Sends a piece of a body on, in a chunk where the way out is chunked.
    pub(super) fn forward(&mut self, tcp: &mut Conns<'_>, to: FlowId, pool: &Pool, piece: Slice) -> bool {
        if piece.is_empty() {
            return true;
        }
        if self.chunked {
            let mut line = [0u8; 18];
            let line = write_chunk_header(piece.len(), &mut line);
            let end: &[u8] = if self.chunk_open { b"\r\n" } else { b"" };
            if !self.write(tcp, to, pool, &[end, line]) {
                return false;
            }
            self.chunk_open = true;
        }
        let n = piece.len() as u64;
        let sent = tcp.send(to, piece).is_ok();
        self.body += if sent { n } else { 0 };
        sent
    }

    /// Sends a trailer line on; where the way out is not chunked there is no place for it (RFC 9112 7.1.2).
    fn trailer(&mut self, tcp: &mut Conns<'_>, to: FlowId, pool: &Pool, name: &[u8], value: &[u8]) -> bool {
        self.start_last_chunk(tcp, to, pool)
            && (!self.chunked || self.write(tcp, to, pool, &[name, b": ", value, b"\r\n"]))
    }

    /// Ends a body, where the way out is chunked.
    pub(super) fn end(&mut self, tcp: &mut Conns<'_>, to: FlowId, pool: &Pool) -> bool {
        let ok =
            self.start_last_chunk(tcp, to, pool) && (!self.chunked || self.write(tcp, to, pool, &[b"\r\n"]));
        self.chunked = false;
        self.writer.release();
        ok
    }

    fn start_last_chunk(&mut self, tcp: &mut Conns<'_>, to: FlowId, pool: &Pool) -> bool {
        if !self.chunked || self.last_chunk {
            return true;
        }
        self.last_chunk = true;
        let end: &[u8] = if self.chunk_open { b"\r\n" } else { b"" };
        self.write(tcp, to, pool, &[end, b"0\r\n"])
    }

    fn write(&mut self, tcp: &mut Conns<'_>, to: FlowId, pool: &Pool, pieces: &[&[u8]]) -> bool {
        let w: &mut CellWriter = &mut self.writer;
        for p in pieces {
            let mut left = *p;
            while !left.is_empty() {
                if !w.reserve(1, pool) {
                    // The cell is full: what is in it goes, and the rest into a new one.
                    let Some(s) = w.take() else { return false };
                    if tcp.send(to, s).is_err() || !w.reserve(1, pool) {
                        return false;
                    }
                }
                left = &left[w.put(left)..];
            }
        }
        w.take().is_none_or(|s| tcp.send(to, s).is_ok())
    }
}
