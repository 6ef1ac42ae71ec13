//! Timestamps in and out (RFC 7323): the clock that we send, TS.Recent, and PAWS.

use dataplane::{Ctr, Time};

use super::Tcp;
use super::input::Verdict;
use super::options::{Options, Timestamps};
use super::segment::{Segment, bits};
use super::tcb::{Flags, FlowId, Tcb};

/// How long TS.Recent is good (RFC 7323 5.5): 24 days, in units of 2^30 ns.
const RECENT_MAX: u32 = ((24 * 86_400 * 1_000_000_000u64) >> 30) as u32;

impl Tcp {
    /// What a connection's timestamps are ahead of the clock: keyed, so that they tell nobody how long we have been up
    /// (RFC 7323 7.1), and by the tuple alone, so that they go on from one connection to the next (RFC 6191).
    pub(super) fn ts_offset(&self, hash: u64) -> u32 {
        // The half of the tuple's keyed hash that nothing else tells of: the other is the IPv6 flow label's.
        ((hash >> 32) as u32).wrapping_add(self.config.epoch_ms as u32)
    }

    /// PAWS (RFC 7323 5.3, R1): a segment that is older than what has been taken.
    pub(super) fn check_timestamp(&mut self, id: FlowId, seg: &Segment, o: &Options, now: Time) -> Verdict {
        let t = &self.table.flows[id];
        if !t.flags.has(Flags::TIMESTAMPS) || seg.has(bits::RST) {
            return Ok(());
        }
        let Some(ts) = o.timestamps else {
            // RFC 7323 3.2 would have it dropped. Linux takes it, and so do we: there are middleboxes that strip
            // options from some segments of a connection, and whoever guesses a sequence number could guess this too.
            self.counters.inc(Ctr::TcpNoTimestamp);
            return Ok(());
        };
        let age = t.ts_recent.wrapping_sub(ts.val) as i32;
        if age <= 0 || coarse(now).wrapping_sub(t.ts_recent_at) > RECENT_MAX {
            return Ok(());
        }
        // An ACK that was overtaken on its way brings nothing that could be wrong: Linux takes it too.
        let overtaken = seg.seq_len() == 0 && seg.seq == t.rcv_nxt && seg.ack == t.snd_una;
        if overtaken && (age as u32) <= t.rtt.rto_us / 1000 {
            return Ok(());
        }
        if seg.seq_len() > 0 {
            // A retransmission that was overtaken by its own original's ACK is a duplicate all the same.
            let (from, to) = (seg.seq, seg.seq + seg.seq_len());
            let t = &mut self.table.flows[id];
            if to.le(t.rcv_nxt) {
                t.sack_out.came_again(from, to);
            }
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
        } else {
            // Two ends that find each other's ACKs too old must not go on for ever: within the rate limit.
            self.challenge(id, now);
        }
        Err(Ctr::DropTcpPaws)
    }

    /// Remembers the timestamp to echo (RFC 7323 4.3 and 5.3, R3): that of the segment that the last ACK asked for. Once
    /// window and acknowledgment were found right: a made-up one would have all that follow refused.
    #[inline]
    pub(super) fn take_timestamp(&mut self, id: FlowId, seg: &Segment, o: &Options, now: Time) {
        let t = &mut self.table.flows[id];
        if let Some(ts) = o.timestamps
            && t.flags.has(Flags::TIMESTAMPS)
            && seg.seq.le(t.rcv_acked)
        {
            let newer = ts.val.wrapping_sub(t.ts_recent) as i32 >= 0;
            if newer || coarse(now).wrapping_sub(t.ts_recent_at) > RECENT_MAX {
                t.set_ts_recent(ts.val, now);
            }
        }
    }
}

impl Tcb {
    /// The timestamps for a segment of this connection.
    #[inline]
    pub(super) fn timestamps(&self, now: Time) -> Timestamps {
        Timestamps { val: self.ts_now(now), ecr: self.ts_recent }
    }

    /// Our timestamp clock: milliseconds, from an offset of the connection's own.
    #[inline]
    pub(crate) fn ts_now(&self, now: Time) -> u32 {
        clock_ms(now).wrapping_add(self.ts_offset)
    }

    pub(super) fn set_ts_recent(&mut self, val: u32, now: Time) {
        self.ts_recent = val;
        self.ts_recent_at = coarse(now);
    }
}

/// The clock of all connections, without their offsets.
#[inline]
pub(super) fn clock_ms(now: Time) -> u32 {
    (now.0 / 1_000_000) as u32
}

/// About seconds: enough for days.
#[inline]
fn coarse(now: Time) -> u32 {
    (now.0 >> 30) as u32
}
