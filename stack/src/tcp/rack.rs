//! What is lost, by time and order: RACK, and a probe for tails (RFC 8985).

use dataplane::{Counters, Ctr, Time};

use super::Tcp;
use super::cc::{Kind, Lost};
use super::rate::micros;
use super::recovery::Phase;
use super::scoreboard::{Out, Segments};
use super::seq::Seq;
use super::tcb::{Flags, FlowId, SegId, Tcb};

/// Segments SACKed (or duplicate ACKs) that say "lost" before reordering has been seen (RFC 5681, RFC 8985 6.2).
const DUP_THRESH: u8 = 3;
/// The peer may delay the ACK of a single segment by this much (RFC 8985 7.2: worst-case delayed ACK).
const DELAYED_ACK_MAX_US: u32 = 200_000;
/// A tail is not probed before this: below, the delay is the machine's.
const PROBE_MIN_US: u32 = 2_000;
/// Recoveries that a wider reordering window outlives (RFC 8985 6.2, step 4).
const REORDER_PERSIST: u8 = 16;
/// Factors of the reordering window, in quarters of the lowest RTT.
const REORDER_STEPS_MAX: u8 = 200;
/// How long the lowest RTT counts.
const MIN_RTT_SPAN_US: u32 = 300_000_000;

/// What `Tcb::probe_at` is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ProbeTimer {
    /// A tail loss probe.
    #[default]
    Tail,
    /// A segment that is late, but perhaps only reordered.
    Reordering,
}

/// What a tail loss probe consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// New data.
    New,
    /// A segment that was out already.
    Again,
}

/// What is known of times and order on a connection's path.
#[derive(Clone, Copy, Debug)]
pub struct Rack {
    /// What `Tcb::probe_at` is for.
    pub timer: ProbeTimer,
    /// Quarters of the lowest RTT that a segment may be late.
    reorder_quarters: u8,
    /// Recoveries until that falls back to one.
    reorder_persist: u8,
    /// Segments have overtaken each other on this path.
    pub reordering_seen: bool,
    /// A tail loss probe is out, up to `probe_end`; it was new data, or a segment sent again.
    pub probe: Option<ProbeKind>,
    /// SND.NXT behind the tail loss probe.
    probe_end: Seq,
    /// The number of the segment that was sent last of all that were delivered (RACK.segment).
    newest: u32,
    /// Its RTT, µs; 0: none yet (RACK.rtt).
    rtt_us: u32,
    /// The highest end of what was delivered (RACK.fack).
    fack: Seq,
    /// A D-SACK has widened the reordering window in this round, which ends here.
    dsack_round: Seq,
    /// Lowest RTT of the last minutes, µs; `u32::MAX`: none yet.
    pub min_rtt_us: u32,
    min_rtt_at_us: u32,
}

impl Default for Rack {
    fn default() -> Rack {
        Rack::new(Seq(0))
    }
}

impl Rack {
    /// At the start of a connection.
    pub const fn new(iss: Seq) -> Rack {
        Rack {
            timer: ProbeTimer::Tail,
            reorder_quarters: 1,
            reorder_persist: 0,
            reordering_seen: false,
            probe: None,
            probe_end: iss,
            newest: 0,
            rtt_us: 0,
            fack: iss,
            dsack_round: iss,
            min_rtt_us: u32::MAX,
            min_rtt_at_us: 0,
        }
    }

    /// Nothing is out: what RACK knows is of segments that are all delivered, and its clock may have wrapped since.
    #[inline]
    pub fn begin_flight(&mut self) {
        self.rtt_us = 0;
    }

    /// A segment has been delivered (RFC 8985 6.2, steps 1 to 3).
    #[inline]
    pub fn delivered(&mut self, o: &Out, now_us: u32) {
        let rtt = now_us.wrapping_sub(o.sent_us);
        if o.resent > 0 && self.min_rtt_us != u32::MAX && rtt < self.min_rtt_us {
            return; // The ACK is of the first one.
        }
        if o.end().lt(self.fack) {
            self.reordering_seen |= o.resent == 0;
        } else {
            self.fack = o.end();
        }
        if self.rtt_us == 0 || self.is_newer(o) {
            (self.newest, self.rtt_us) = (o.sent_no, rtt.max(1));
        }
    }

    /// Takes an RTT for the lowest.
    #[inline]
    pub fn take_min_rtt(&mut self, us: u32, now_us: u32) {
        if us <= self.min_rtt_us || now_us.wrapping_sub(self.min_rtt_at_us) > MIN_RTT_SPAN_US {
            (self.min_rtt_us, self.min_rtt_at_us) = (us, now_us);
        }
    }

    /// Whether a segment was sent after all that were delivered. By a count of what was sent: of a burst all have one time,
    /// and retransmissions do not go out in order of sequence (RFC 8985 5.3 has time, then sequence).
    #[inline]
    fn is_newer(&self, o: &Out) -> bool {
        (o.sent_no.wrapping_sub(self.newest) as i32) > 0
    }

    /// Nothing is found lost by what was delivered, as what is out, of which `oldest` was sent first, was sent after it.
    #[inline]
    pub fn finds_nothing(&self, oldest: &Out) -> bool {
        self.rtt_us == 0 || self.is_newer(oldest)
    }

    /// Recovery is over: after enough of them the reordering window is its first again.
    pub fn recovered(&mut self) {
        if self.reorder_persist > 0 {
            self.reorder_persist -= 1;
            if self.reorder_persist == 0 {
                self.reorder_quarters = 1;
            }
        }
    }

    /// A D-SACK for what begins at `from`: what was sent again had been received (RFC 8985 6.2: the window grows, once a
    /// round).
    pub fn duplicate_reported(&mut self, from: Seq, snd_una: Seq, snd_nxt: Seq) {
        if self.dsack_round.is_past(snd_una, snd_nxt) {
            self.dsack_round = snd_nxt;
            self.reorder_quarters = (self.reorder_quarters + 1).min(REORDER_STEPS_MAX);
            self.reorder_persist = REORDER_PERSIST;
        }
        if self.probe == Some(ProbeKind::Again) && from.lt(self.probe_end) {
            self.probe = None; // The tail had arrived: nothing was lost.
        }
    }
}

impl Tcb {
    /// After how long a segment is lost, µs, when what was sent after it has been delivered (RFC 8985 6.2, step 4).
    pub(super) fn late_us(&self) -> u32 {
        let rack = &self.recovery.rack;
        rack.rtt_us.saturating_add(self.reorder_window_us())
    }

    fn reorder_window_us(&self) -> u32 {
        let rack = &self.recovery.rack;
        let recovers = matches!(self.recovery.phase, Phase::Recovery | Phase::Loss);
        if !rack.reordering_seen && (recovers || self.out.sacked_segments >= DUP_THRESH.into()) {
            return 0;
        }
        let quarter = if rack.min_rtt_us == u32::MAX { 0 } else { rack.min_rtt_us / 4 };
        quarter.saturating_mul(rack.reorder_quarters.into()).min(self.rtt.srtt_us)
    }
}

/// One segment is lost.
pub(super) fn lose(segments: &mut Segments, counters: &Counters, t: &mut Tcb, s: SegId, now: Time) {
    segments.set_lost(&mut t.out, s);
    let o = &segments[s];
    t.rate.lost = t.rate.lost.wrapping_add(o.span());
    let l = Lost {
        now,
        bytes: o.span(),
        tx_in_flight: o.stamp.in_flight,
        lost_since: t.rate.lost.wrapping_sub(o.stamp.lost),
        prior_delivered: o.stamp.delivered,
        app_limited: o.app_limited,
        mss: t.mss.into(),
    };
    t.cc.on_lost(&mut t.window, &l);
    counters.inc(Ctr::TcpSegmentsLost);
}

impl Tcp {
    /// Finds what is lost by time (RFC 8985 6.2, step 5). Gives whether anything is.
    pub(super) fn detect_losses(
        segments: &mut Segments,
        counters: &Counters,
        t: &mut Tcb,
        now: Time,
    ) -> bool {
        let now_us = micros(now);
        if t.recovery.rack.timer == ProbeTimer::Reordering {
            t.probe_at = Time::NEVER;
            t.recovery.rack.timer = ProbeTimer::Tail;
        }
        if t.recovery.rack.rtt_us == 0 {
            return false;
        }
        let late = t.late_us();
        let mut any = false;
        // In the order of sending: the first that is not late ends it. Each turn takes a segment out of flight.
        loop {
            let s = t.out.oldest();
            if s.is_none() {
                return any;
            }
            let o = &segments[s];
            if t.recovery.rack.is_newer(o) {
                return any;
            }
            let for_us = now_us.wrapping_sub(o.sent_us);
            if for_us < late {
                t.recovery.rack.timer = ProbeTimer::Reordering;
                t.probe_at = now.plus_ns(u64::from(late - for_us) * 1000);
                return any;
            }
            lose(segments, counters, t, s, now);
            any = true;
        }
    }

    /// What an ACK says about a tail loss probe (RFC 8985 7.4.2). Gives whether the probe has repaired a loss.
    pub(super) fn probe_answered(
        &mut self,
        id: FlowId,
        ack: Seq,
        without_sack: bool,
        duplicate: bool,
    ) -> bool {
        let t = &mut self.table.flows[id];
        let r = &mut t.recovery;
        let Some(kind) = r.rack.probe else { return false };
        if ack.lt(r.rack.probe_end) {
            return false;
        }
        if kind == ProbeKind::New {
            r.rack.probe = None;
        } else if ack.gt(r.rack.probe_end) {
            r.rack.probe = None;
            return true;
        } else if duplicate && without_sack {
            r.rack.probe = None; // Both have arrived.
        }
        false
    }

    /// Sets the timer of a tail loss probe (RFC 8985 7.2), where one is due before the retransmission timer.
    #[inline(always)]
    pub(super) fn arm_probe(t: &mut Tcb, now: Time) {
        let r = &mut t.recovery;
        if r.rack.timer == ProbeTimer::Reordering && t.probe_at != Time::NEVER {
            return;
        }
        t.probe_at = Time::NEVER;
        if r.phase != Phase::Open
            || r.rack.probe.is_some()
            || !t.flags.has(Flags::SACK_OK)
            || t.out.is_empty()
            || t.rtt.srtt_us == 0
        {
            return;
        }
        let mut us = 2 * t.rtt.srtt_us + PROBE_MIN_US;
        if t.out.first() == t.out.last() {
            us += DELAYED_ACK_MAX_US;
        }
        let at = now.plus_ns(u64::from(us) * 1000);
        if at < t.rexmit_at {
            t.probe_at = at;
        }
    }

    /// `probe_at` has come.
    pub(super) fn probe_due(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        t.probe_at = Time::NEVER;
        if t.recovery.rack.timer == ProbeTimer::Reordering {
            let before = t.rate.lost;
            if Tcp::detect_losses(&mut self.segments, &self.counters, t, now) {
                if !matches!(t.recovery.phase, Phase::Recovery | Phase::Loss) {
                    let lost = t.rate.lost.wrapping_sub(before);
                    t.enter(&self.counters, Kind::Loss, lost, now);
                }
                self.want_output(id);
            }
            return;
        }
        if t.recovery.phase == Phase::Open && !t.out.is_empty() {
            t.flags.set(Flags::TAIL_PROBE_NOW);
            self.want_output(id);
        }
    }

    /// A tail loss probe has been sent.
    pub(super) fn probe_sent(t: &mut Tcb, new: bool) {
        let r = &mut t.recovery;
        r.rack.probe = Some(if new { ProbeKind::New } else { ProbeKind::Again });
        r.rack.probe_end = t.snd_nxt;
    }
}
