//! What we tell the peer of data that waits out of order: SACK blocks (RFC 2018 4), and of data that came twice:
//! D-SACK (RFC 2883).
//!
//! A block is a run of bytes that are held. The few that were reported last are kept in the control block, the one with
//! the latest arrival first, so that building an ACK costs the same however much waits. A run that has not been
//! reported for a while may have been forgotten; what it holds is then told again when something is added to it, from
//! the addition on: less than is true, never more (Linux does the same).

use super::options::{SACK_BLOCKS_MAX, SackBlocks};
use super::seq::Seq;

/// The blocks that the next ACK carries.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SackOut {
    len: u8,
    has_duplicate: bool,
    /// When what waits began to wait, or was last completed in part: half a second of the clock, modulo 2^8.
    pub(super) since: u8,
    /// Runs; where there is a duplicate, it is in the last place.
    blocks: [(Seq, Seq); SACK_BLOCKS_MAX],
}

const LAST: usize = SACK_BLOCKS_MAX - 1;

impl SackOut {
    /// Nothing to tell.
    pub const EMPTY: SackOut =
        SackOut { len: 0, has_duplicate: false, since: 0, blocks: [(Seq(0), Seq(0)); SACK_BLOCKS_MAX] };

    /// Whether there is nothing to tell.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0 && !self.has_duplicate
    }

    /// The runs, the latest first.
    pub fn runs(&self) -> &[(Seq, Seq)] {
        &self.blocks[..usize::from(self.len)]
    }

    /// `from..to` has come out of order and is held: with what it touches it is the first block.
    pub fn arrived(&mut self, from: Seq, to: Seq) {
        let mut run = (from, to);
        // Twice: a run that has grown may touch one that it did not touch before.
        for _ in 0..2 {
            self.keep(|b| {
                let touches = b.0.le(run.1) && b.1.ge(run.0);
                if touches {
                    run = (run.0.min(b.0), run.1.max(b.1));
                }
                !touches
            });
        }
        let n = usize::from(self.len).min(LAST - usize::from(self.has_duplicate));
        self.blocks.copy_within(0..n, 1);
        self.blocks[0] = run;
        self.len = n as u8 + 1;
    }

    /// `from..to` has come although we had it. The next ACK says so, once; the run that holds it, if it is not
    /// acknowledged yet, comes second (RFC 2883 4).
    pub fn came_again(&mut self, from: Seq, to: Seq) {
        if from.ge(to) {
            return;
        }
        // Of several in one pass the first is told, as far as it goes on.
        if self.has_duplicate && self.blocks[LAST].1 == from {
            self.blocks[LAST].1 = to;
        } else if !self.has_duplicate {
            self.len = self.len.min(LAST as u8);
            (self.blocks[LAST], self.has_duplicate) = ((from, to), true);
        }
        if let Some(at) = self.runs().iter().position(|b| b.0.le(from) && b.1.gt(from)) {
            self.blocks[..=at].rotate_right(1);
        }
    }

    /// All before `rcv_nxt` is acknowledged from now on.
    #[inline]
    pub fn acknowledged(&mut self, rcv_nxt: Seq) {
        if self.len > 0 {
            self.keep(|b| b.0.gt(rcv_nxt));
        }
    }

    /// What waited out of order has been let go.
    pub fn forget_runs(&mut self) {
        self.len = 0;
    }

    /// The blocks for an ACK, the duplicate first, and told once.
    pub fn take(&mut self) -> SackBlocks {
        let mut out = SackBlocks::default();
        if std::mem::take(&mut self.has_duplicate) {
            out.push(self.blocks[LAST].0, self.blocks[LAST].1);
        }
        for b in self.runs() {
            out.push(b.0, b.1);
        }
        out
    }

    fn keep(&mut self, mut which: impl FnMut(&(Seq, Seq)) -> bool) {
        let mut n = 0;
        for i in 0..usize::from(self.len) {
            let b = self.blocks[i];
            if which(&b) {
                self.blocks[n] = b;
                n += 1;
            }
        }
        self.len = n as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(s: &mut SackOut) -> Vec<(u32, u32)> {
        s.take().iter().map(|b| (b.0.0, b.1.0)).collect()
    }

    #[test]
    fn the_latest_comes_first_and_runs_grow_together() {
        let mut s = SackOut::default();
        assert!(s.is_empty());
        for from in [10, 30, 50] {
            s.arrived(Seq(from), Seq(from + 10));
        }
        assert_eq!(taken(&mut s), [(50, 60), (30, 40), (10, 20)]);
        // RFC 2018's rule: the block with the latest arrival, whole, and first.
        s.arrived(Seq(20), Seq(30));
        assert_eq!(taken(&mut s), [(10, 40), (50, 60)]);
        for from in [100, 120, 140, 160] {
            s.arrived(Seq(from), Seq(from + 10));
        }
        assert_eq!(taken(&mut s), [(160, 170), (140, 150), (120, 130), (100, 110)], "four, the latest");
        s.acknowledged(Seq(130));
        assert_eq!(taken(&mut s), [(160, 170), (140, 150)]);
        s.forget_runs();
        assert!(s.is_empty());
    }

    #[test]
    fn a_run_that_closes_two_gaps_at_once_is_one() {
        let mut s = SackOut::default();
        for (from, to) in [(10, 20), (30, 40), (22, 28)] {
            s.arrived(Seq(from), Seq(to));
        }
        // An arrival that touches all of them, the outer ones only by way of the inner.
        s.arrived(Seq(20), Seq(30));
        assert_eq!(taken(&mut s), [(10, 40)]);
    }

    #[test]
    fn duplicates_are_told_once_with_the_run_that_holds_them_behind() {
        let mut s = SackOut::default();
        s.arrived(Seq(10), Seq(20));
        s.arrived(Seq(30), Seq(40));
        s.came_again(Seq(12), Seq(15));
        assert_eq!(taken(&mut s), [(12, 15), (10, 20), (30, 40)]);
        assert_eq!(taken(&mut s), [(10, 20), (30, 40)]);
        s.came_again(Seq(1), Seq(3));
        s.came_again(Seq(3), Seq(5));
        s.came_again(Seq(8), Seq(8));
        assert_eq!(taken(&mut s)[0], (1, 5));
    }

    #[test]
    fn numbers_wrap() {
        let mut s = SackOut::default();
        s.arrived(Seq(u32::MAX - 4), Seq(5));
        s.arrived(Seq(5), Seq(9));
        assert_eq!(taken(&mut s), [(u32::MAX - 4, 9)]);
        s.acknowledged(Seq(9));
        assert!(s.is_empty());
    }
}
