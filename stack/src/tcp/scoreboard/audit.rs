//! Whether lists and sums hold, for tests and the simulator.

use super::super::Seq;
use super::super::tcb::SegId;
use super::{Place, Scoreboard, Segments};

impl Segments {
    /// Checks all lists and sums of a connection.
    ///
    /// # Errors
    /// What does not hold.
    pub fn audit(&self, b: &Scoreboard, una: Seq, nxt: Seq) -> Result<u32, String> {
        let (mut at, mut prev, mut n) = (b.order.first, SegId::NONE, 0u32);
        let (mut in_flight, mut sacked, mut lost, mut end) = (0, 0, 0u32, una);
        let mut flying = 0u32;
        while at.is_some() {
            let o = &self.0[at];
            if !self.0.is_used(at) || o.prev != prev || o.seq != end || o.span() == 0 {
                return Err(format!("segment {n} at {:?} (expected {end:?}), {} bytes", o.seq, o.span()));
            }
            match o.place {
                Place::InFlight => (in_flight, flying) = (in_flight + o.span(), flying + 1),
                Place::Sacked => sacked += o.span(),
                Place::Lost => lost += 1,
            }
            (end, prev, at, n) = (o.end(), at, o.next, n + 1);
        }
        if prev != b.order.last || end != nxt {
            return Err(format!("the segments end at {end:?}, SND.NXT is {nxt:?}"));
        }
        if n != b.records.into() {
            return Err(format!("{n} records, counted {}", b.records));
        }
        if in_flight != b.in_flight || sacked != b.sacked {
            return Err(format!(
                "{in_flight} in flight, {sacked} SACKed; counted {} {}",
                b.in_flight, b.sacked
            ));
        }
        for (ends, place, count) in [(&b.flight, Place::InFlight, flying), (&b.lost, Place::Lost, lost)] {
            let (mut at, mut earlier, mut n) = (ends.first, SegId::NONE, 0);
            while at.is_some() {
                let o = &self.0[at];
                if o.place != place || o.earlier != earlier || n > count {
                    return Err(format!("{:?} in the list of {place:?}", o.place));
                }
                (earlier, at, n) = (at, o.later, n + 1);
            }
            if n != count || earlier != ends.last {
                return Err(format!("{n} in the list of {place:?}, {count} are"));
            }
        }
        Ok(n)
    }
}
