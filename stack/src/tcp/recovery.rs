//! Loss recovery: RACK-TLP (RFC 8985), PRR (RFC 6937), timeouts (RFC 6298), undo (RFC 4015, 3708).
//!
//! ```text
//!            lost (RACK, three duplicate ACKs)          RTO
//!   Open ─────────────────────────────► Recovery ───────────────► Loss
//!    ▲ │ ECE                               │                        │
//!    │ └──────► Reduced (RFC 3168)         │                        │
//!    └──────────────┴──── all acknowledged that was out then ───────┘
//!    ◄──────────── undo: the losses were none ──────────────────────┘
//! ```

use dataplane::{Counters, Ctr, Time};

use super::Tcp;
use super::cc::{Congestion, Kind, Lost, Window};
use super::options::Options;
use super::rate::micros;
use super::scoreboard::{Out, Place, Segments};
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

/// Where a connection stands with its losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing is known to be lost.
    #[default]
    Open,
    /// A congestion mark is being answered.
    Reduced,
    /// Loss was found by ACKs.
    Recovery,
    /// The retransmission timer ran out.
    Loss,
}

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

/// Segments sent again in a recovery that are remembered.
const RESENT_KNOWN: usize = 2;

/// State of loss recovery.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// Where we stand.
    pub phase: Phase,
    /// What `Tcb::probe_at` is for.
    pub timer: ProbeTimer,
    /// Quarters of the lowest RTT that a segment may be late.
    reorder_quarters: u8,
    /// Recoveries until that falls back to one.
    reorder_persist: u8,
    /// Segments have overtaken each other on this path.
    reordering_seen: bool,
    /// A tail loss probe is out, up to `probe_end`; it was new data, or a segment sent again.
    probe: Option<ProbeKind>,
    /// The last congestion can still turn out to be none.
    can_undo: bool,
    /// ... because of that many segments that were sent again since,
    resent: u16,
    /// of which the peer has had that many already.
    needless: u16,
    /// Where these begin.
    resent_at: [Seq; RESENT_KNOWN],
    /// SND.NXT when loss was found (RFC 6582).
    pub until: Seq,
    /// SND.UNA then: what is before it cannot speak of this recovery.
    since: Seq,
    /// TSval of the first retransmission (Eifel, RFC 3522); 0: none.
    first_resent_ts: u32,
    /// The windows before it.
    prior: Window,
    /// PRR: bytes delivered since it began.
    prr_delivered: u32,
    /// PRR: bytes sent since.
    prr_out: u32,
    /// PRR: bytes that may be sent, and have not been.
    prr_due: u32,
    /// PRR: bytes that were out then (RecoverFS).
    prr_base: u32,
    /// SND.NXT behind the tail loss probe.
    probe_end: Seq,
    /// RACK: when the segment was sent that was sent last of all that were delivered, µs.
    rack_sent_us: u32,
    /// RACK: its end.
    rack_end: Seq,
    /// RACK: its RTT, µs; 0: none yet.
    rack_rtt_us: u32,
    /// The highest end of what was delivered.
    fack: Seq,
    /// A D-SACK has widened the reordering window in this round, which ends here.
    dsack_round: Seq,
    /// Lowest RTT of the last minutes, µs.
    pub min_rtt_us: u32,
    min_rtt_at_us: u32,
    /// Most sequence numbers in flight in this round.
    pub flight_max: u32,
    /// The round that `flight_max` is of ends here.
    round_end: Seq,
    /// The window held the sender back in this round.
    limited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeKind {
    New,
    Again,
}

impl Default for Recovery {
    fn default() -> Recovery {
        Recovery {
            phase: Phase::Open,
            timer: ProbeTimer::Tail,
            reorder_quarters: 1,
            reorder_persist: 0,
            reordering_seen: false,
            probe: None,
            can_undo: false,
            resent: 0,
            needless: 0,
            resent_at: [Seq(0); RESENT_KNOWN],
            until: Seq(0),
            since: Seq(0),
            first_resent_ts: 0,
            prior: Window::default(),
            prr_delivered: 0,
            prr_out: 0,
            prr_due: 0,
            prr_base: 0,
            probe_end: Seq(0),
            rack_sent_us: 0,
            rack_end: Seq(0),
            rack_rtt_us: 0,
            fack: Seq(0),
            dsack_round: Seq(0),
            min_rtt_us: u32::MAX,
            min_rtt_at_us: 0,
            flight_max: 0,
            round_end: Seq(0),
            limited: false,
        }
    }
}

/// `a` was sent after `b` (RFC 8985 5.3): by time, then by sequence.
#[inline]
fn sent_after(a_us: u32, a_end: Seq, b_us: u32, b_end: Seq) -> bool {
    a_us != b_us && (a_us.wrapping_sub(b_us) as i32) > 0 || a_us == b_us && a_end.gt(b_end)
}

impl Recovery {
    /// At the start of a connection.
    pub fn start(&mut self, iss: Seq) {
        *self = Recovery {
            until: iss,
            since: iss,
            rack_end: iss,
            fack: iss,
            dsack_round: iss,
            ..Recovery::default()
        };
        self.round_end = iss;
        self.probe_end = iss;
    }

    /// Whether PRR or the like decides how much goes out.
    #[inline]
    pub fn is_reducing(&self) -> bool {
        matches!(self.phase, Phase::Recovery | Phase::Reduced)
    }

    /// Whether an ACK that acknowledges nothing new can end or undo something.
    #[inline]
    pub fn needs_a_look(&self) -> bool {
        self.can_undo && self.resent > 0 && self.needless >= self.resent
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
        if self.rack_rtt_us == 0 || sent_after(o.sent_us, o.end(), self.rack_sent_us, self.rack_end) {
            (self.rack_sent_us, self.rack_end, self.rack_rtt_us) = (o.sent_us, o.end(), rtt.max(1));
        }
    }

    /// Takes an RTT for the lowest.
    #[inline]
    pub fn take_min_rtt(&mut self, us: u32, now_us: u32) {
        if us <= self.min_rtt_us || now_us.wrapping_sub(self.min_rtt_at_us) > MIN_RTT_SPAN_US {
            (self.min_rtt_us, self.min_rtt_at_us) = (us, now_us);
        }
    }

    /// How late a segment may be, µs (RFC 8985 6.2, step 4).
    fn reorder_window_us(&self, t: &Tcb) -> u32 {
        if !self.reordering_seen
            && (matches!(self.phase, Phase::Recovery | Phase::Loss)
                || t.out.sacked_segments >= DUP_THRESH.into())
        {
            return 0;
        }
        let quarter = if self.min_rtt_us == u32::MAX { 0 } else { self.min_rtt_us / 4 };
        (quarter.saturating_mul(self.reorder_quarters.into())).min(t.rtt.srtt_us)
    }

    /// A D-SACK: what was sent again had been received (RFC 8985 6.2: the window grows, once a round).
    fn duplicate_reported(&mut self, snd_una: Seq, snd_nxt: Seq) {
        if snd_una.ge(self.dsack_round) {
            self.dsack_round = snd_nxt;
            self.reorder_quarters = (self.reorder_quarters + 1).min(REORDER_STEPS_MAX);
            self.reorder_persist = REORDER_PERSIST;
        }
    }

    /// Whether the window, or pacing, held the sender back: in this round, or by what was in flight at most.
    pub fn was_limited(&self, w: &Window) -> bool {
        if w.cwnd < w.ssthresh { w.cwnd < self.flight_max.saturating_mul(2) } else { self.limited }
    }

    /// What is in flight after sending, and whether more wants to and may not.
    #[inline]
    pub fn note_flight(&mut self, in_flight: u32, limited: bool, snd_una: Seq, snd_nxt: Seq) {
        if self.round_end.le(snd_una) {
            (self.round_end, self.flight_max, self.limited) = (snd_nxt, 0, false);
        }
        self.flight_max = self.flight_max.max(in_flight);
        self.limited |= limited;
    }

    /// Nothing is out: what RACK knows is of segments that are all delivered, and its clock may have wrapped since.
    #[inline]
    pub fn begin_flight(&mut self) {
        self.rack_rtt_us = 0;
    }

    /// Bytes have been sent.
    #[inline]
    pub fn sent(&mut self, bytes: u32) {
        self.prr_out = self.prr_out.saturating_add(bytes);
        self.prr_due = self.prr_due.saturating_sub(bytes);
    }

    /// The segment at `seq` has been sent again, with this TSval (0: none).
    pub fn sent_again(&mut self, seq: Seq, ts: u32) {
        if let Some(place) = self.resent_at.get_mut(usize::from(self.resent)) {
            *place = seq;
        }
        self.resent = self.resent.saturating_add(1);
        // Only the very first speaks for all: an ACK of the second is older than the third.
        if self.resent == 1 {
            self.first_resent_ts = ts;
        }
    }

    /// Whether a D-SACK for what begins at `from` is of something that was sent again, and not of what the network has
    /// doubled (RFC 3708 3). Where much was sent again, only timestamps can undo it.
    fn was_sent_again(&self, from: Seq) -> bool {
        let known = usize::from(self.resent);
        known <= RESENT_KNOWN && self.resent_at[..known].contains(&from)
    }

    /// PRR with its slow-start bound (RFC 6937 3): the window after an ACK. What one ACK of a burst allows is not taken
    /// back by the next: it is due until it is sent.
    pub fn prr(
        &mut self,
        delivered: u32,
        lost: u32,
        advanced: bool,
        in_flight: u32,
        ssthresh: u32,
        mss: u32,
    ) -> u32 {
        self.prr_delivered = self.prr_delivered.saturating_add(delivered);
        let (out, pipe) = (self.prr_out.saturating_add(self.prr_due), in_flight.saturating_add(self.prr_due));
        let send = if pipe > ssthresh {
            let due = u64::from(self.prr_delivered) * u64::from(ssthresh);
            (due.div_ceil(self.prr_base.max(1).into()) as u32).saturating_sub(out)
        } else {
            // Slow start only while the recovery goes well (RFC 6937 bis: the bound is chosen by that).
            let grow = if advanced && lost == 0 { mss } else { 0 };
            let room = self.prr_delivered.saturating_sub(out).max(delivered) + grow;
            room.min(ssthresh - pipe)
        };
        // The first goes out at once.
        self.prr_due = (self.prr_due + send).max(if self.prr_out == 0 { mss } else { 0 });
        in_flight + self.prr_due
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
    pub(super) fn detect_losses(&mut self, id: FlowId, now: Time) -> bool {
        let t = &mut self.table.flows[id];
        let now_us = micros(now);
        if t.recovery.timer == ProbeTimer::Reordering {
            t.probe_at = Time::NEVER;
            t.recovery.timer = ProbeTimer::Tail;
        }
        if t.recovery.rack_rtt_us == 0 {
            return false;
        }
        let late = t.recovery.rack_rtt_us.saturating_add(t.recovery.reorder_window_us(t));
        let mut any = false;
        // In the order of sending: the first that is not late ends it. Each turn takes a segment out of flight.
        loop {
            let s = t.out.oldest();
            if s.is_none() {
                return any;
            }
            let o = &self.segments[s];
            if !sent_after(t.recovery.rack_sent_us, t.recovery.rack_end, o.sent_us, o.end()) {
                return any;
            }
            let for_us = now_us.wrapping_sub(o.sent_us);
            if for_us < late {
                t.recovery.timer = ProbeTimer::Reordering;
                t.probe_at = now.plus_ns(u64::from(late - for_us) * 1000);
                return any;
            }
            lose(&mut self.segments, &self.counters, t, s, now);
            any = true;
        }
    }

    /// Loss or a mark was found: the window comes down, at most once in a round trip.
    pub(super) fn enter(&mut self, id: FlowId, kind: Kind, lost: u32, now: Time) {
        let t = &mut self.table.flows[id];
        let new_phase = match kind {
            Kind::Loss => Phase::Recovery,
            Kind::Ecn => Phase::Reduced,
            Kind::Rto { .. } => Phase::Loss,
        };
        let was = t.recovery.phase;
        // A timeout within a recovery, or one more in a row, keeps what the first one has saved.
        if was == Phase::Open {
            t.recovery.prior = t.window;
        }
        if was == Phase::Open || was == Phase::Reduced || (was == Phase::Recovery && new_phase == Phase::Loss)
        {
            let r = &mut t.recovery;
            (r.can_undo, r.resent, r.needless, r.first_resent_ts) = (true, 0, 0, 0);
            r.since = t.snd_una;
        }
        let r = &mut t.recovery;
        r.phase = new_phase;
        r.until = t.snd_nxt;
        r.probe = None;
        let c = Congestion {
            now,
            kind,
            in_flight: t.out.in_flight().saturating_add(lost),
            srtt_us: t.rtt.srtt_us,
            mss: t.mss.into(),
        };
        t.cc.on_congestion(&mut t.window, &c);
        (r.prr_delivered, r.prr_out, r.prr_due) = (0, 0, 0);
        r.prr_base = t.snd_nxt.since(t.snd_una).saturating_sub(t.out.sacked());
        match kind {
            Kind::Loss => {
                t.flags.set(Flags::REXMIT_NOW);
                t.tally.recoveries = t.tally.recoveries.saturating_add(1);
                self.counters.inc(Ctr::TcpFastRetransmit);
            }
            Kind::Ecn => {}
            Kind::Rto { .. } => {
                // One segment more than what may still be under way.
                t.window.cwnd = t.window.cwnd.max(t.out.in_flight() + u32::from(t.mss));
                t.tally.timeouts = t.tally.timeouts.saturating_add(1);
                self.counters.inc(Ctr::TcpRto);
            }
        }
    }

    /// Leaves recovery when all is acknowledged that was out when it began; undoes it when the losses were none.
    pub(super) fn leave(&mut self, id: FlowId, o: &Options, now: Time) {
        let t = &mut self.table.flows[id];
        let r = &mut t.recovery;
        if r.can_undo && t.snd_una.gt(r.since) {
            // Eifel (RFC 4015): what was sent first is acknowledged after it was sent again. Only an ACK of the very
            // segment tells: before it may lie what an earlier recovery had sent again.
            let told = r.first_resent_ts != 0 && t.snd_una.gt(r.resent_at[0]);
            let late =
                told && o.timestamps.is_some_and(|ts| (ts.ecr.wrapping_sub(r.first_resent_ts) as i32) < 0);
            // RFC 3708: the peer had everything already that was sent again.
            let needless = r.resent > 0 && r.needless >= r.resent;
            // All that was thought lost came before any of it was sent again.
            let early = r.phase == Phase::Recovery && r.resent == 0 && t.out.next_lost().is_none();
            if late || needless || early {
                t.tally.undone = t.tally.undone.saturating_add(1);
                self.counters.inc(Ctr::TcpUndo);
                r.can_undo = false;
                // Out of order, it seems, by more than the window.
                r.reordering_seen = true;
                let prior = r.prior;
                r.phase = Phase::Open;
                t.flags.clear(Flags::REXMIT_NOW);
                t.cc.on_undo(&mut t.window, &prior, now);
                self.segments.unlose(&mut t.out);
                return;
            }
            // An ACK that tells it apart decides it; only D-SACKs can still come.
            if o.timestamps.is_some() && told {
                r.first_resent_ts = 0;
            }
        }
        if r.phase != Phase::Open && t.snd_una.ge(r.until) {
            if r.is_reducing() && t.cc.prr() {
                t.window.cwnd = t.window.ssthresh;
            }
            r.phase = Phase::Open;
            t.cc.on_recovered(&mut t.window, now, t.mss.into());
            if r.reorder_persist > 0 {
                r.reorder_persist -= 1;
                if r.reorder_persist == 0 {
                    r.reorder_quarters = 1;
                }
            }
        }
    }

    /// A D-SACK came: for something that was sent again, or that the network has doubled.
    pub(super) fn duplicate_reported(&mut self, id: FlowId, from: Seq) {
        self.counters.inc(Ctr::TcpDsackReceived);
        let t = &mut self.table.flows[id];
        let r = &mut t.recovery;
        if r.can_undo && r.was_sent_again(from) {
            r.needless = r.needless.saturating_add(1);
        }
        r.duplicate_reported(t.snd_una, t.snd_nxt);
        if r.probe == Some(ProbeKind::Again) && from.lt(r.probe_end) {
            r.probe = None; // The tail had arrived: nothing was lost.
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
        let Some(kind) = r.probe else { return false };
        if ack.lt(r.probe_end) {
            return false;
        }
        if kind == ProbeKind::New {
            r.probe = None;
        } else if ack.gt(r.probe_end) {
            r.probe = None;
            return true;
        } else if duplicate && without_sack {
            r.probe = None; // Both have arrived.
        }
        false
    }

    /// Sets the timer of a tail loss probe (RFC 8985 7.2), where one is due before the retransmission timer.
    pub(super) fn arm_probe(t: &mut Tcb, now: Time) {
        let r = &mut t.recovery;
        if r.timer == ProbeTimer::Reordering && t.probe_at != Time::NEVER {
            return;
        }
        t.probe_at = Time::NEVER;
        if r.phase != Phase::Open
            || r.probe.is_some()
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
        if t.recovery.timer == ProbeTimer::Reordering {
            let before = t.rate.lost;
            if self.detect_losses(id, now) {
                let t = &self.table.flows[id];
                if !matches!(t.recovery.phase, Phase::Recovery | Phase::Loss) {
                    let lost = t.rate.lost.wrapping_sub(before);
                    self.enter(id, Kind::Loss, lost, now);
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
        r.probe = Some(if new { ProbeKind::New } else { ProbeKind::Again });
        r.probe_end = t.snd_nxt;
    }

    /// The retransmission timer has run out on data (RFC 6298 5.4 to 5.6, RFC 8985 6.3).
    pub(super) fn retransmit_timeout(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        let first = t.recovery.phase != Phase::Loss || t.snd_una.ge(t.recovery.until);
        let before = t.rate.lost;
        let head = t.out.first();
        if self.segments[head].place == Place::Sacked {
            // The peer has thrown away what it had SACKed (RFC 2018 8).
            self.counters.inc(Ctr::TcpSackReneged);
            let mut s = head;
            while s.is_some() {
                let next = self.segments[s].next();
                if self.segments[s].place == Place::Sacked {
                    lose(&mut self.segments, &self.counters, t, s, now);
                }
                s = next;
            }
        }
        // The first, and what was sent so long ago that its ACK would be here; a peer without SACK gets all again.
        if self.segments[head].place == Place::InFlight {
            lose(&mut self.segments, &self.counters, t, head, now);
        }
        let (now_us, sack) = (micros(now), t.flags.has(Flags::SACK_OK));
        let late = t.recovery.rack_rtt_us.saturating_add(t.recovery.reorder_window_us(t));
        loop {
            let s = t.out.oldest();
            if s.is_none() || (sack && now_us.wrapping_sub(self.segments[s].sent_us) < late) {
                break;
            }
            lose(&mut self.segments, &self.counters, t, s, now);
        }
        let t = &mut self.table.flows[id];
        if self.segments[head].place == Place::Lost {
            // A peer that is short of memory takes nothing else, and the window may let out no more than one.
            self.segments.set_first_lost(&mut t.out, head);
        }
        t.dup_acks = 0;
        t.probe_at = Time::NEVER;
        t.flags.clear(Flags::TAIL_PROBE_NOW);
        t.pace_at = Time::NEVER;
        let lost = t.rate.lost.wrapping_sub(before);
        self.enter(id, Kind::Rto { first }, lost, now);
        self.table.flows[id].flags.set(Flags::REXMIT_NOW);
    }

    /// Everything that is out is taken for lost, without blame on the path: the peer's window does not hold it any
    /// more, or it was too long for the path.
    pub(super) fn take_back(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        while t.out.oldest().is_some() {
            let s = t.out.oldest();
            self.segments.set_lost(&mut t.out, s);
        }
        t.probe_at = Time::NEVER;
    }
}

impl Tcb {
    /// The handshake is done: MSS and algorithm are known, sending may begin.
    pub(super) fn start_window(&mut self) {
        let mss = u32::from(self.mss);
        self.window = Window::new(mss);
        if self.backoff > 1 {
            // RFC 5681 3.1: a path that has lost more than one SYN gets one segment to begin with.
            self.window.cwnd = mss;
        }
    }
}
