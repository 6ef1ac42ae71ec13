//! The owner of the storm's connections: it reads, writes, waits, forgets and leaves as the dice fall.

use dataplane::{Pool, Slice, Time};
use hugepages::SlabIndex;

use super::Storm;
use super::frame::{RAMP, is_ramp};
use crate::tcp::Seq;
use crate::tcp::cc::Algorithm;
use crate::{Events, FlowId};

/// Most that is queued by connections whose owner is in the mood.
const QUEUED_MAX: u32 = 48 << 10;

/// What the owner knows of a connection.
#[derive(Clone, Copy, Default)]
pub struct Own {
    /// It is there.
    pub here: bool,
    /// Read and not yet consumed.
    held: u32,
    /// Where the next byte stands.
    at: Option<Seq>,
}

impl Own {
    /// Of a connection that has just come to be.
    pub fn new() -> Own {
        Own { here: true, ..Own::default() }
    }
}

/// A cell that all sending is done from.
pub fn ramp_cell(pool: &Pool) -> Slice {
    let mut p = pool.alloc().expect("a cell");
    let n = 2048;
    assert!(p.append(&RAMP[..n]));
    p.into_slice(0, n)
}

impl Storm {
    /// What has happened to connections.
    pub(super) fn events(&mut self) {
        while let Some((id, e)) = self.stack.tcp.next_event() {
            let own = &mut self.owned[id.to_u32() as usize];
            if e.has(Events::ACCEPTED) {
                assert!(!own.here, "accepted twice");
                *own = Own::new();
            }
            assert!(own.here, "an event of nobody's: {e:?}");
            if e.has(Events::CLOSED) {
                self.ends += 1;
                if self.dice(4) {
                    self.read(id);
                }
                self.owned[id.to_u32() as usize].here = false;
                self.stack.tcp.release(id);
                continue;
            }
            if e.has(Events::READABLE) && !self.dice(self.mood.lazy) {
                self.read(id);
                if !self.dice(8) {
                    self.consume(id);
                }
            }
            let begun = e.has(Events::ACCEPTED) || e.has(Events::CONNECTED);
            if begun && self.dice(8) {
                self.stack.tcp.set_keep_alive(id, self.now);
            }
            if (begun || e.has(Events::READABLE) || e.has(Events::WRITABLE)) && self.dice(self.mood.talks) {
                self.send(id);
            }
            if e.has(Events::FIN) && self.dice(3) {
                self.leave(id);
            } else if e.has(Events::TIMEOUT) && self.dice(2) {
                self.act(id);
            }
        }
    }

    /// The owner does something that nobody asked for.
    pub(super) fn act(&mut self, id: FlowId) {
        if !self.owned[id.to_u32() as usize].here || !self.stack.tcp.is_owned(id) {
            return;
        }
        match self.rng.below(64) {
            0..=19 => self.send(id),
            20..=29 => self.read(id),
            30..=47 => self.consume(id),
            48..=49 => self.stack.tcp.set_keep_alive(id, self.now),
            50..=52 => {
                let at = if self.dice(4) { Time::NEVER } else { self.soon() };
                self.stack.tcp.set_timer(id, at);
            }
            53..=54 => self.stack.tcp.wake(id),
            55 => {
                let a = Algorithm::ALL[self.rng.below(Algorithm::ALL.len() as u64) as usize];
                self.stack.tcp.set_algorithm(id, a);
            }
            _ if self.ends_now() => self.leave(id),
            _ => self.send(id),
        }
    }

    fn soon(&mut self) -> Time {
        let bits = self.rng.range(16, 33);
        self.now.plus_ns(self.rng.below(1 << bits))
    }

    /// In one of the ways that there are.
    pub(super) fn leave(&mut self, id: FlowId) {
        let tcp = &mut self.stack.tcp;
        let gone = match self.rng.below(16) {
            0..=7 => {
                tcp.shutdown(id);
                false
            }
            8..=12 => {
                tcp.orphan(id, self.now);
                true
            }
            13..=14 => {
                tcp.abort(id);
                true
            }
            _ => {
                tcp.release(id);
                true
            }
        };
        if gone {
            self.owned[id.to_u32() as usize].here = false;
        }
    }

    fn read(&mut self, id: FlowId) {
        let own = &mut self.owned[id.to_u32() as usize];
        let t = self.stack.tcp.flow(id);
        let unread: usize = t.rx.iter().map(|(_, n)| n).sum();
        let fin = u32::from(t.flags.has(crate::tcp::Flags::FIN_TAKEN));
        let from = t.rcv_nxt.0.wrapping_sub(fin).wrapping_sub(unread as u32);
        let mut at = own.at.unwrap_or(Seq(from));
        assert!(!self.mood.tame || at.0 == from, "the stream goes on at {from}, and not at {at:?}");
        loop {
            // Some of it as a layer does that takes bytes, and not slices.
            let front = self.stack.tcp.front(id);
            let first = if at.0.is_multiple_of(3) { front.len() / 3 } else { 0 };
            let is_right = !self.mood.tame || is_ramp(at.0, &front[..first]);
            assert!(is_right, "at the front of {at:?} is what does not belong there");
            self.stack.tcp.skip(id, first);
            at += first as u32;
            own.held += first as u32;
            let Some(s) = self.stack.tcp.read(id) else { break };
            if self.mood.tame {
                assert!(is_ramp(at.0, &s), "received at {at:?} what does not belong there");
            }
            at += s.len() as u32;
            own.held += s.len() as u32;
            if self.rng.below(16) == 0 {
                break;
            }
        }
        if at.0 != from {
            own.at = Some(at);
        }
    }

    fn consume(&mut self, id: FlowId) {
        let own = &mut self.owned[id.to_u32() as usize];
        let n =
            if self.rng.below(4) == 0 { self.rng.below(u64::from(own.held) + 1) as u32 } else { own.held };
        own.held -= n;
        self.stack.tcp.consume(id, n);
    }

    fn send(&mut self, id: FlowId) {
        let pieces = self.rng.below(6);
        for _ in 0..=pieces {
            let t = self.stack.tcp.flow(id);
            if t.queued() > QUEUED_MAX {
                return;
            }
            let at = (t.queue_end.0 & 0xff) as usize;
            let len = match self.rng.below(4) {
                0 => 1 + self.rng.below(20) as usize,
                1 => 1 + self.rng.below(1400) as usize,
                _ => 1700,
            };
            let mut piece = self.ramp.view(at, len);
            if self.rng.below(8) == 0 {
                // A cell of its own, which is charged by its whole size.
                let Some(mut p) = self.pools[2].alloc() else { return };
                assert!(p.append(&piece));
                piece = p.into_slice(0, len);
            }
            // In two, which are joined again.
            let front = if self.rng.below(4) == 0 { piece.split_to(len / 3) } else { piece.split_to(0) };
            let tcp = &mut self.stack.tcp;
            if tcp.send(id, front).is_err() || tcp.send(id, piece).is_err() {
                return;
            }
        }
    }
}
