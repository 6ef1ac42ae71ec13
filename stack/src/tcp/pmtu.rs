//! How long a packet the path takes: what ICMP says (RFC 1191, 8201), believed as far as RFC 5927 lets us, and what is
//! found without it (after RFC 4821): a path that swallows long packets and says nothing.
//!
//! ```text
//!  packet too big ──► about a segment that is out? below what we send? not below the least? ─┬─► shorter segments from
//!  timeouts in a row of a long segment ──► 1,064, then 576 bytes (IPv6: 1,280) ──────────────┘   now on; those out again
//!  ten minutes later ──► full length again
//! ```
//!
//! What ICMP says is kept for its destination too, so that the next connection need not learn it again.

use dataplane::{Ctr, Time, sip};
use hugepages::{Arena, FixedVec};

use super::Tcp;
use super::input::Verdict;
use super::options::TIMESTAMPS_BYTES;
use super::seq::Seq;
use super::tcb::{CloseReason, Flags, FlowId, State, Tcb};
use crate::addr::Addr;
use crate::icmp::TcpError;

/// What we go down to for IPv4 at least, as Linux: less is more likely a lie than a path. Packets go out unfragmented,
/// so a path that is narrower still does not work.
const LEAST_V4: u16 = 552;
/// IPv6: no path is narrower (RFC 8200 5).
const LEAST_V6: u16 = 1280;
/// Routers before RFC 1191 do not say how long (there, section 7): what common links take.
const PLATEAUS: [u16; 4] = [8166, 1492, 1006, LEAST_V4];
/// What a path is tried with that seems to swallow longer packets, IPv4: an MSS of 1,024, then of 536.
const STEPS_V4: [u16; 2] = [1064, 576];
/// How long a path is taken for narrow (RFC 1191 6.3: ten minutes), in units of 2^30 ns.
const NARROW_FOR: u32 = ((600 * 1_000_000_000u64) >> 30) as u32;
/// Destinations whose path is remembered.
const DESTINATIONS: usize = 256;

#[inline]
fn coarse(now: Time) -> u32 {
    (now.0 >> 30) as u32
}

#[derive(Clone, Copy, Default)]
struct Known {
    to: Addr,
    mtu: u16,
    until: u32,
}

/// What ICMP has said of destinations: two places for each, the older goes.
pub(super) struct PathMtus {
    known: FixedVec<Known>,
    key: [u64; 2],
    /// When the last one ends: mostly there is none.
    until: u32,
}

impl PathMtus {
    /// Bytes taken from the arena.
    pub const fn cost() -> usize {
        Arena::cost::<Known>(DESTINATIONS)
    }

    pub fn new(arena: &mut Arena, key: [u64; 2]) -> Option<PathMtus> {
        Some(PathMtus { known: arena.array(DESTINATIONS, |_| Known::default())?, key, until: 0 })
    }

    fn places(&self, to: &Addr) -> [usize; 2] {
        let half = |i: usize| to.0[i..i + 8].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let at = sip::words(self.key, [half(0), half(8), 4]) as usize % DESTINATIONS;
        [at, at ^ 1]
    }

    #[inline]
    fn get(&self, to: &Addr, now: Time) -> Option<u16> {
        if self.until <= coarse(now) {
            return None;
        }
        let known = self.places(to).map(|i| self.known[i]);
        known.iter().find(|k| k.to == *to && k.until > coarse(now)).map(|k| k.mtu)
    }

    fn put(&mut self, to: &Addr, mtu: u16, now: Time) {
        let [a, b] = self.places(to);
        let (x, y) = (&self.known[a], &self.known[b]);
        let at = if x.to == *to || (y.to != *to && x.until <= y.until) { a } else { b };
        self.until = coarse(now) + NARROW_FOR;
        self.known[at] = Known { to: *to, mtu, until: self.until };
    }
}

impl Tcp {
    /// An ICMP error about a connection.
    ///
    /// # Errors
    /// When it is about none, or about a segment that is not out (RFC 5927).
    pub fn icmp_error(&mut self, e: &TcpError, now: Time) -> Verdict {
        let hash = self.table.hash(&e.tuple);
        let Some(id) = self.table.find(hash, &e.tuple) else { return Err(Ctr::DropIcmpUnmatched) };
        let t = &self.table.flows[id];
        let seq = Seq(e.seq);
        if seq.lt(t.snd_una) || seq.gt(t.snd_nxt) {
            return Err(Ctr::DropIcmpUnmatched);
        }
        if let Some(mtu) = e.mtu {
            return self.too_big(id, seq, mtu, now);
        }
        self.counters.inc(Ctr::IcmpErrorsReceived);
        // A hard error ends an attempt to connect; on an open connection it is only a hint (RFC 5927 4.3).
        if t.state == State::SynSent && e.hard {
            self.counters.inc(Ctr::TcpActiveFailed);
            self.finish(id, CloseReason::Unreachable);
        }
        Ok(())
    }

    /// A router says that a packet of ours was too long.
    fn too_big(&mut self, id: FlowId, seq: Seq, mtu: u32, now: Time) -> Verdict {
        let t = &self.table.flows[id];
        // An empty segment is never too long.
        if seq == t.snd_nxt {
            return Err(Ctr::DropIcmpUnmatched);
        }
        let (v4, current) = (t.tuple.local.is_v4(), t.path_mtu());
        let mtu = match (mtu, v4) {
            (0, true) => PLATEAUS.into_iter().find(|p| *p < current).unwrap_or(LEAST_V4),
            (m, true) => m.clamp(LEAST_V4.into(), u16::MAX.into()) as u16,
            // RFC 8201 4: no reason to go below what every link must take.
            (m, false) if m < LEAST_V6.into() => return Err(Ctr::DropIcmpUnmatched),
            (m, false) => m.min(u16::MAX.into()) as u16,
        };
        self.counters.inc(Ctr::IcmpErrorsReceived);
        if mtu < current {
            let to = t.tuple.remote;
            self.path_mtus.put(&to, mtu, now);
            self.counters.inc(Ctr::TcpMtuLearnt);
            self.path_mtu_lowered(id, mtu, now);
        }
        Ok(())
    }

    /// The path takes packets of `mtu` bytes at most: what is out that is longer will not arrive, and goes out again in
    /// pieces.
    fn path_mtu_lowered(&mut self, id: FlowId, mtu: u16, now: Time) {
        let t = &mut self.table.flows[id];
        t.set_path_mtu(mtu);
        t.path_full_at = coarse(now) + NARROW_FOR;
        if !matches!(t.state, State::SynSent | State::SynReceived) {
            self.take_back(id);
            self.want_output(id);
        }
    }

    /// The first segment that is out has timed out more than once: perhaps it is too long for the path, and no router
    /// says so. Called before it is sent again.
    pub(super) fn mtu_suspect(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        let first = t.out.first();
        if first.is_none() {
            return;
        }
        let (len, beside) = (self.segments[first].len, t.path_mtu() - t.mss);
        let steps: &[u16] = if t.tuple.local.is_v4() { &STEPS_V4 } else { &[LEAST_V6] };
        match steps.iter().find(|s| len + beside > **s) {
            Some(step) => {
                self.counters.inc(Ctr::TcpMtuSuspects);
                t.set_path_mtu(*step);
                t.path_full_at = coarse(now) + NARROW_FOR;
            }
            // It was not the length: as soon as the path works again, it is given full length again.
            None => t.path_full_at = t.path_full_at.min(coarse(now)),
        }
    }

    /// A segment has been acknowledged on a connection that sends shorter ones than it might: perhaps the path has
    /// changed since.
    #[inline(never)]
    pub(super) fn try_full_length(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        if t.path_full_at <= coarse(now) && t.backoff == 0 {
            t.mss = t.mss_full;
        }
    }

    /// What the SYN says has been taken: with what is known of the path the MSS is complete.
    pub(super) fn use_known_mtu(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        t.mss_full = t.mss;
        if let Some(mtu) = self.path_mtus.get(&t.tuple.remote, now) {
            t.set_path_mtu(mtu);
            t.path_full_at = coarse(now) + NARROW_FOR;
        }
    }
}

impl Tcb {
    /// Headers and options of a full segment.
    fn overhead(&self) -> u16 {
        let ip = if self.tuple.local.is_v4() { 40 } else { 60 };
        ip + if self.flags.has(Flags::TIMESTAMPS) { TIMESTAMPS_BYTES } else { 0 }
    }

    /// The longest packet that we send.
    pub(super) fn path_mtu(&self) -> u16 {
        self.mss + self.overhead()
    }

    fn set_path_mtu(&mut self, mtu: u16) {
        self.mss = self.mss.min(mtu.saturating_sub(self.overhead()).max(88));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugepages::PagePolicy;

    #[test]
    fn destinations_are_remembered_for_ten_minutes_and_no_more_of_them_than_there_is_room_for() {
        let mut arena = Arena::reserve(PathMtus::cost(), PagePolicy::NormalOnly).unwrap();
        let mut m = PathMtus::new(&mut arena, [1, 2]).unwrap();
        let to = |n: u32| Addr::from(std::net::IpAddr::from(n.to_be_bytes()));
        let (start, end) = (Time::from_ms(1000), Time::from_ms(602_000));
        assert_eq!(m.get(&to(1), start), None);
        m.put(&to(1), 1400, start);
        m.put(&to(1), 1300, start);
        assert_eq!(
            (m.get(&to(1), start), m.get(&to(2), start), m.get(&to(1), end)),
            (Some(1300), None, None)
        );
        for n in 0..10_000 {
            m.put(&to(n), 1000 + (n % 256) as u16, start);
            assert_eq!(m.get(&to(n), start), Some(1000 + (n % 256) as u16), "{n}");
        }
        let left = (0..10_000).filter(|n| m.get(&to(*n), start).is_some()).count();
        assert!(left <= DESTINATIONS && left > DESTINATIONS / 2, "{left}");
    }
}
