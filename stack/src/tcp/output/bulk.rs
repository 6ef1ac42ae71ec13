//! Several segments as one frame, for a port that cuts it (TSO): one header, one pass through the port, for all of them. To
//! everything that comes after it they are segments like others, with a record each; what is sent again goes alone.

use dataplane::buf::TAIL_MAX;
use dataplane::{Ctr, Time, TxQueue};

use super::super::Seq;
use super::super::tcb::{Flags, RecordId, Tcb};
use super::Sending;
use crate::net::Net;

/// Ethernet with a VLAN's tag, IPv6, TCP with all its options.
const HEADERS_MAX: u32 = 18 + 40 + 60;

impl Sending<'_> {
    /// Sends the next segments of new data, at most `most`, as one frame that the port cuts. Gives how many they are. 0: none
    /// is sent, as there are fewer than two, or there is something special about the next: that is for `send_new`.
    #[inline(never)] // Most ports cut nothing.
    pub(super) fn send_bulk(
        &mut self,
        t: &mut Tcb,
        net: &mut Net,
        tx: &mut [TxQueue],
        most: u32,
        now: Time,
    ) -> u32 {
        let frame_max = net.ifaces[t.port as usize].tso_bytes_max;
        // What answers an ECN-Echo says so in one segment, and the port would have to know (RFC 3168 6.1.2).
        if frame_max <= HEADERS_MAX || t.flags.has(Flags::CWR_NEXT) {
            return 0;
        }
        let (mss, seq, from) = (u32::from(t.mss), t.snd_nxt, t.send_cursor);
        let most = most.min(t.paced_segments(now)).min(self.segments.room_for(&t.out));
        let unsent = t.queue_end.since(seq);
        let room = t.bulk_room().min(frame_max - HEADERS_MAX).min(most.saturating_mul(mss)).min(unsent);
        if room <= mss {
            return 0;
        }
        let room = self.reach(seq, room, from);
        // A short one only at the end of all there is, and not where a FIN is to go with it.
        let ends = room == unsent && !t.flags.has(Flags::FIN_QUEUED);
        let want = if ends { room } else { room - room % mss };
        if want <= mss {
            return 0;
        }
        let Some((mut p, len, cursor)) = self.gather(net, seq, want, from) else { return 0 };
        debug_assert!(len == want, "all that `reach` has seen is gathered");
        p.meta_mut().tso_mss = mss as u16;
        let (mut at, mut piece, mut n) = (seq, from, 0);
        while at.lt(seq + len) {
            let Some(s) = self.segments.alloc() else {
                debug_assert!(false, "there were enough");
                break;
            };
            piece = self.piece_with(at, piece);
            let bytes = (seq + len).since(at).min(mss) as u16;
            self.record_new(t, s, (at, bytes, false), piece, now);
            at += u32::from(bytes);
            n += 1;
        }
        debug_assert!(at == seq + len);
        t.send_cursor = cursor;
        // `emit` counts one.
        t.tally.segments_out = t.tally.segments_out.wrapping_add(n - 1);
        self.counters.add(Ctr::TcpSegmentsOut, u64::from(n) - 1);
        self.send_data(t, net, tx, (seq, len as u16, false), p, now);
        n
    }

    /// How much of the `want` bytes from `seq` on, which lies in piece `from`, the tail of one packet carries.
    fn reach(&self, seq: Seq, want: u32, from: RecordId) -> u32 {
        let (mut len, mut r) = (0, from);
        for _ in 0..TAIL_MAX {
            if len >= want || r.is_none() {
                break;
            }
            let rec = &self.records[r];
            let Some(slice) = &rec.slice else { break };
            len += (slice.len() as u32).saturating_sub((seq + len).since(rec.seq));
            r = rec.next;
        }
        len.min(want)
    }

    /// The piece in which `at` lies: `from`, or one that follows it.
    fn piece_with(&self, at: Seq, from: RecordId) -> RecordId {
        let mut r = from;
        // As many steps as a packet's tail has pieces, at most.
        loop {
            let rec = &self.records[r];
            if rec.next.is_none() || at.lt(rec.seq + rec.span()) {
                return r;
            }
            r = rec.next;
        }
    }
}
