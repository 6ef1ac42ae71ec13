//! Pacing: when a segment may go out, at the rate that congestion control gives.

use dataplane::Time;

use super::super::tcb::Tcb;

/// The longest burst that pacing lets out, when that is not less than two segments.
const BURST_NS: u64 = 1 << 20;
/// The largest.
const BURST_BYTES_MAX: u64 = 64 << 10;
/// How late a paced burst may be for the time to be made up for.
const LATE_NS_MAX: u64 = 5_000_000;
/// How long a connection may have to wait for its pace. What it sent at a rate that it had once (a window of one segment, a
/// round trip of a minute) must not hold it back when it has another.
const PACE_AHEAD_NS_MAX: u64 = 1_000_000_000;

/// How far ahead of its pace a connection may be.
#[inline]
fn burst_ns(rate: u64, mss: u16) -> u64 {
    let two = 2 * u64::from(mss) * 1_000_000_000 / rate;
    BURST_NS.min(BURST_BYTES_MAX * 1_000_000_000 / rate).max(two)
}

impl Tcb {
    /// Whether pacing lets a segment out now; sets its timer when not. Bursts of a millisecond's worth, at least two
    /// segments: so that the port and the peer's device have something to work on at once.
    #[inline]
    pub(super) fn may_send_now(&mut self, now: Time) -> bool {
        let rate = self.window.pacing_rate;
        if rate == 0 || self.pace_next <= now {
            return true;
        }
        let ahead = burst_ns(rate, self.mss);
        if self.pace_next <= now.plus_ns(ahead) {
            return true;
        }
        self.pace_at = Time(self.pace_next.0 - ahead / 2);
        false
    }

    /// Takes what is sent off what pacing allows.
    #[inline]
    pub(super) fn charge_pace(&mut self, bytes: u32, now: Time) {
        if let Some(ns) = (u64::from(bytes) * 1_000_000_000).checked_div(self.window.pacing_rate) {
            // A core that comes late makes up for it.
            let earliest = Time(now.0.saturating_sub(LATE_NS_MAX));
            let next = self.pace_next.max(earliest).plus_ns(ns);
            self.pace_next = next.min(now.plus_ns(PACE_AHEAD_NS_MAX));
        }
    }

    /// Segments that pacing lets out now, if it lets one: as many as `may_send_now` would, asked before each.
    pub(super) fn paced_segments(&self, now: Time) -> u32 {
        let rate = self.window.pacing_rate;
        if rate == 0 {
            return u32::MAX;
        }
        let from = self.pace_next.max(Time(now.0.saturating_sub(LATE_NS_MAX)));
        let ns = now.plus_ns(burst_ns(rate, self.mss)).since_ns(from);
        let bytes = ns.saturating_mul(rate) / 1_000_000_000;
        (bytes / u64::from(self.mss.max(1)) + 1).min(u32::MAX.into()) as u32
    }
}

#[cfg(test)]
mod tests;
