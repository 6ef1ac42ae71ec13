//! The receive window: how much a connection may hold for its owner, how that grows, and what is announced.
//!
//! A connection begins with half of `receive_budget_bytes` (payload; its cells are up to twice that) and grows as far as
//! its owner takes the data: to twice what was consumed in a round trip, and more while that itself grows (dynamic
//! right-sizing, as Linux does it). So a window is never what keeps a sender from filling the path, and one that sends
//! to an owner who does not read has no more than it began with. The most is `receive_max_bytes`, or the connection's
//! share of the receive pool, one sixteenth. Under memory pressure nothing grows, and `Tcp::window_limit` closes the
//! windows of all, by not opening them.

use dataplane::{Pool, Time};

use super::options::Timestamps;
use super::segment::Segment;
use super::tcb::{Flags, FlowId, Tcb};
use super::{Tcp, TcpConfig, WINDOW_SHARE};

/// Flows that may fill the receive pool between them.
const POOL_SHARES: u32 = 16;
/// Payload that a cell of the receive pool holds at least, where segments are full.
const CELL_PAYLOAD: u32 = 1024;
/// What is taken to be consumed in the first round trip: ten segments (RFC 6928).
const FIRST_SPACE: u32 = 10 * 1460;

/// What is measured for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizing {
    /// Round-trip time as the receiver sees it by timestamps, µs; 0: not known.
    pub rtt_us: u32,
    /// Bytes consumed since.
    consumed: u32,
    since_us: u32,
    /// The most that was consumed in a round trip, KiB.
    space_kib: u16,
    /// The last echo that gave a sample, as far as it tells it from the next.
    echo: u16,
}

impl Sizing {
    /// Nothing has been measured.
    pub const EMPTY: Sizing = Sizing { rtt_us: 0, consumed: 0, since_us: 0, space_kib: 0, echo: 0 };

    /// Takes what the owner has consumed. Gives the window that would be right, when a round trip has passed and more
    /// was consumed in it than ever before.
    fn consume(&mut self, bytes: u32, rtt_us: u32, mss: u32, now_us: u32) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(bytes);
        let passed = now_us.wrapping_sub(self.since_us);
        if passed < rtt_us.max(1) {
            return None;
        }
        let copied = std::mem::take(&mut self.consumed);
        self.since_us = now_us;
        let before = (u64::from(self.space_kib) << 10).max(FIRST_SPACE.into());
        // A pause makes no round trip of many: what came in it says nothing of the path.
        let many = u64::from(passed) > 4 * u64::from(rtt_us.max(1)) + 1_000_000;
        if many || u64::from(copied) <= before {
            return None;
        }
        self.space_kib = copied.div_ceil(1024).min(u16::MAX.into()) as u16;
        // Room for a sender that doubles its window in the next round trip, and for how much that was in this one.
        let want = 2 * u64::from(copied) + 16 * u64::from(mss);
        let growth = want * (u64::from(copied) - before) / before;
        Some((want + 2 * growth).min(u32::MAX.into()) as u32)
    }

    /// Takes a sample of the round-trip time: what is shorter at once, what is longer (a peer that had nothing to
    /// send) slowly.
    fn sample(&mut self, us: u32) {
        let us = us.clamp(1, 10_000_000);
        self.rtt_us =
            if self.rtt_us == 0 || us < self.rtt_us { us } else { self.rtt_us + (us - self.rtt_us) / 8 };
    }
}

impl TcpConfig {
    /// The MSS that we announce by an interface.
    pub(super) fn our_mss(&self, mtu: u16, headers: u16) -> u16 {
        (mtu - headers).min(self.mss_max)
    }

    /// The window of a SYN, which is not scaled.
    pub(super) fn first_window(&self) -> u16 {
        (self.receive_budget_bytes / WINDOW_SHARE).min(0xffff) as u16
    }

    /// The most payload that a connection may hold, of a receive pool of so many cells.
    pub(super) fn window_max(&self, rx_cells: u32) -> u32 {
        let share = (rx_cells / POOL_SHARES).saturating_mul(CELL_PAYLOAD);
        share.min(self.receive_max_bytes).max(self.receive_budget_bytes / WINDOW_SHARE)
    }

    /// The scale that lets the largest window be announced (RFC 7323 2.3), not below the one configured.
    pub(super) fn scale_for(&self, window_max: u32) -> u8 {
        (self.window_scale..14).find(|s| 0xffff << s >= window_max).unwrap_or(14)
    }
}

impl Tcp {
    /// `bytes` that were read have left the owner's hands: the window may open by them.
    pub fn consume(&mut self, id: FlowId, bytes: u32) {
        let room = self.rx_room().window_limit();
        let t = &mut self.table.flows[id];
        debug_assert!(bytes <= t.rcv_held, "consumed {bytes} of {}", t.rcv_held);
        t.rcv_held = t.rcv_held.saturating_sub(bytes);
        if bytes > 0 && t.rcv_wnd_max < self.window_max && t.rcv_wnd_max < room {
            let rtt = if t.sizing.rtt_us != 0 { t.sizing.rtt_us } else { t.rtt.srtt_us };
            if let Some(want) = t.sizing.consume(bytes, rtt, t.rcv_mss.into(), self.now_us) {
                t.rcv_wnd_max = t.rcv_wnd_max.max(want.min(self.window_max));
            }
        }
        // RFC 9293 3.8.6.2.2: no announcement of small openings; and none to a peer that has room enough:
        // data that goes its way, or the next ACK, will carry it.
        let (limit, left) = (t.rcv_wnd_max.min(room), t.rcv_adv.since(t.rcv_nxt));
        let two = 2 * u32::from(t.rcv_mss);
        if left >= (limit / 4).max(two) || !t.state.can_receive() {
            return;
        }
        if t.window(room) - left >= two.min(limit / 2) {
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
        }
    }

    fn rx_room(&self) -> RxRoom<'_> {
        RxRoom { pool: &self.rx_pool, reserve: self.rx_reserve }
    }
}

/// The receive pool, and what is left of it for those who hold nothing.
#[derive(Clone, Copy)]
pub(super) struct RxRoom<'a> {
    pub pool: &'a Pool,
    pub reserve: u32,
}

impl RxRoom<'_> {
    /// The most that any connection may announce, by how much of the receive pool is free: an empty pool
    /// helps nobody, so windows shrink (by not opening) long before it is.
    #[inline]
    pub fn window_limit(&self) -> u32 {
        let (free, all) = (self.pool.free_count(), self.pool.capacity());
        if free > all / 2 {
            u32::MAX
        } else if free <= 2 * self.reserve {
            // Only what comes in order is still taken, a segment at a time: no more may be out.
            2 << 10
        } else if free > all / 4 {
            32 << 10
        } else {
            8 << 10
        }
    }
}

impl Tcb {
    /// The window to announce: no more than the field can say at the connection's scale, never less than what
    /// was announced before (RFC 9293 3.8.6.2.2).
    #[inline]
    pub fn window(&self, room: u32) -> u32 {
        let limit = self.rcv_wnd_max.min(room);
        let fresh = limit.saturating_sub(self.rcv_held);
        let announced = self.rcv_adv.since(self.rcv_nxt);
        // A window that is nearly closed opens by a segment at least, or the peer sends little pieces for ever. Above
        // that, a small opening keeps nobody from sending whole ones.
        if announced < limit / 2 && fresh.saturating_sub(announced) < u32::from(self.rcv_mss).min(limit / 2) {
            return announced;
        }
        // No more than the field can say: what the peer cannot read is not an opening.
        fresh.min(0xffff << self.rcv_wscale).max(announced)
    }

    /// The window as the field says it at this scale. Rounded down to the scale's unit, so that what we announce is what
    /// the peer reads; up, where the right edge would move left (SHLD-14), as it need not lie at a whole unit. A peer that
    /// sends less than a unit at a time would so be given a little more each time: not once it has had a unit too much.
    #[inline]
    pub fn window_field(&self, room: u32, scale: u8) -> u32 {
        let down = self.window(room) >> scale;
        let shrinks = down << scale < self.rcv_adv.since(self.rcv_nxt);
        let may = self.rcv_held < self.rcv_wnd_max.saturating_add(1 << scale);
        (down + u32::from(shrinks && may)).min(0xffff)
    }

    /// Measures the round-trip time by data that came (without timestamps, what sending has found is good enough).
    #[inline]
    pub(super) fn measure_receiving(&mut self, seg: &Segment, ts: Option<Timestamps>, now: Time) {
        if let Some(ts) = ts
            && self.flags.has(Flags::TIMESTAMPS)
        {
            // One sample for each echo: the data that our ACK let out. Milliseconds.
            if ts.ecr as u16 != self.sizing.echo && seg.len >= u32::from(self.rcv_mss) {
                self.sizing.echo = ts.ecr as u16;
                let ms = self.ts_now(now).wrapping_sub(ts.ecr);
                if ms < 10_000 {
                    self.sizing.sample(ms.max(1) * 1000);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_between_two_units_is_kept() {
        let mut t = Tcb { rcv_wnd_max: 1000, rcv_wscale: 7, rcv_mss: 100, ..Tcb::default() };
        t.rcv_adv = t.rcv_nxt + 1000;
        (t.rcv_nxt, t.rcv_held) = (t.rcv_nxt + 990, 990);
        assert_eq!(t.window_field(u32::MAX, 7), 1, "ten bytes are promised: 128 are said");
        // Little pieces come, and nothing is consumed.
        for n in 0..100u32 {
            let w = t.window_field(u32::MAX, 7) << 7;
            t.rcv_adv = t.rcv_adv.max(t.rcv_nxt + w);
            let piece = t.rcv_adv.since(t.rcv_nxt).min(100);
            (t.rcv_nxt, t.rcv_held) = (t.rcv_nxt + piece, t.rcv_held + piece);
            assert!(t.rcv_held <= 1000 + 2 * 128, "{} after {n}", t.rcv_held);
        }
    }

    #[test]
    fn a_window_without_scaling_does_not_open_for_ever() {
        // A peer that does not scale: of 128 KiB it can be told 64. What it cannot be told must not look like
        // an opening that is worth an ACK of its own, or every request costs one.
        let mut t = Tcb { rcv_wnd_max: 128 << 10, ..Tcb::default() };
        assert_eq!(t.window(u32::MAX), 0xffff);
        t.rcv_adv = t.rcv_nxt + 0xffff;
        assert_eq!(t.window(u32::MAX) - t.rcv_adv.since(t.rcv_nxt), 0);
        t.rcv_wscale = 7;
        assert_eq!(t.window(u32::MAX), 128 << 10);
    }

    #[test]
    fn a_window_that_is_nearly_closed_opens_by_a_segment() {
        let mut t = Tcb { rcv_wnd_max: 10_000, rcv_mss: 1000, rcv_held: 10_000, ..Tcb::default() };
        assert_eq!(t.window(u32::MAX), 0);
        t.rcv_held = 9001;
        assert_eq!(t.window(u32::MAX), 0);
        t.rcv_held = 9000;
        assert_eq!(t.window(u32::MAX), 1000);
        // A window that is open follows what is consumed.
        (t.rcv_adv, t.rcv_held) = (t.rcv_nxt + 6000, 3990);
        assert_eq!(t.window(u32::MAX), 6010);
        // Of a budget below a segment, half.
        t = Tcb { rcv_wnd_max: 800, rcv_mss: 1000, rcv_held: 401, ..Tcb::default() };
        assert_eq!(t.window(u32::MAX), 0);
        t.rcv_held = 400;
        assert_eq!(t.window(u32::MAX), 400);
    }

    #[test]
    fn grows_to_twice_what_is_consumed_in_a_round_trip_and_more_while_that_grows() {
        let mut s = Sizing::default();
        let rtt = 20_000;
        assert_eq!(s.consume(FIRST_SPACE, rtt, 1000, rtt), None, "not more than at first");
        assert_eq!(s.consume(20_000, rtt, 1000, rtt + 100), None, "no round trip has passed");
        let first = s.consume(20_000, rtt, 1000, 2 * rtt).unwrap();
        assert!(first >= 2 * 40_000 + 16_000, "{first}");
        assert_eq!(s.consume(40_000, rtt, 1000, 3 * rtt), None, "as much as before");
        let steady = s.consume(44_000, rtt, 1000, 4 * rtt).unwrap();
        assert!((2 * 44_000..3 * 44_000 + 32_000).contains(&steady), "{steady}");
        // After a long silence a heap of data is no proof of speed.
        assert_eq!(s.consume(10 << 20, rtt, 1000, 4 * rtt + 5_000_000), None);
    }

    #[test]
    fn the_scale_fits_the_largest_window() {
        let l = hugepages::Limits::for_core_memory(128 << 20);
        let mut c = TcpConfig::new([0; 4], &l);
        for (max, scale) in [(128 << 10, 7), (8_388_480, 7), (8_388_481, 8), (1 << 30, 14)] {
            assert_eq!(c.scale_for(max), scale, "{max}");
        }
        assert_eq!(c.window_max(l.rx_cells), 28_672 / 16 * 1024);
        assert_eq!(c.window_max(1024), 128 << 10, "not below what it begins with");
        c.receive_max_bytes = 1 << 20;
        assert_eq!(c.window_max(l.rx_cells), 1 << 20);
    }
}
