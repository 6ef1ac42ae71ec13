//! What both windows, the peer's and the path's, have room for.

use super::super::scoreboard::Out;
use super::super::tcb::{Flags, Tcb};

/// Whether a segment may go out, and if not, who says so.
pub(super) enum Allowed {
    Yes,
    NotByCongestion,
    NotByPeer,
}

impl Tcb {
    /// Whether data or FIN has not been sent.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        self.snd_nxt.lt(self.queue_end)
            || (self.flags.has(Flags::FIN_QUEUED) && self.snd_nxt == self.queue_end)
    }

    /// Whether the windows let a lost segment out again.
    pub(super) fn may_send_again(&self, o: &Out) -> Allowed {
        // SND.UNA is sent again whatever the window is, but not while it is being probed.
        let fits = o.end().le(self.snd_una + self.snd_wnd) || o.seq == self.snd_una;
        if !fits || self.flags.has(Flags::PERSIST) {
            return Allowed::NotByPeer;
        }
        let pipe = self.pipe();
        if pipe > 0 && pipe + o.span() > self.window.cwnd && !self.flags.has(Flags::REXMIT_NOW) {
            return Allowed::NotByCongestion;
        }
        Allowed::Yes
    }

    /// Whether the windows let the next segment out (RFC 9293 3.8.6.2.1, Nagle off).
    pub(super) fn may_send_next(&self) -> Allowed {
        let (mss, flight, pipe) = (u32::from(self.mss), self.flight(), self.pipe());
        let unsent = self.queue_end.since(self.snd_nxt);
        let next = unsent.min(mss);
        if unsent == 0 {
            // FIN alone: no congestion window holds it back.
            return if self.snd_wnd > flight { Allowed::Yes } else { Allowed::NotByPeer };
        }
        if pipe > 0 && pipe + next > self.window.cwnd {
            return Allowed::NotByCongestion;
        }
        let room = self.snd_wnd.saturating_sub(flight);
        // A full segment, all there is, or half of the largest window: else wait, unless nothing is out.
        if room >= next || (room > 0 && (flight == 0 || room >= self.snd_wnd_max / 2)) {
            Allowed::Yes
        } else {
            Allowed::NotByPeer
        }
    }

    /// Bytes of new data that both windows have room for.
    pub(super) fn bulk_room(&self) -> u32 {
        let by_path = self.window.cwnd.saturating_sub(self.pipe());
        by_path.min(self.snd_wnd.saturating_sub(self.flight()))
    }
}
