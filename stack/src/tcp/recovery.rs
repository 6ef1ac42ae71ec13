//! Loss recovery: its phases, PRR (RFC 6937), timeouts (RFC 6298), undo (RFC 4015, 3708). What is lost, `rack` finds.
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
use super::cc::{Congestion, Kind, Window};
use super::options::Options;
use super::rack::{Rack, lose};
use super::rate::micros;
use super::scoreboard::Place;
use super::seq::Seq;
use super::tcb::{Flags, FlowId, Tcb};

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

/// Segments sent again in a recovery that are remembered.
const RESENT_KNOWN: usize = 2;

/// State of loss recovery.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Recovery {
    // What each ACK and each segment touches: a line.
    /// What is known of times and order on this path.
    pub rack: Rack,
    /// Where we stand.
    pub phase: Phase,
    /// The last congestion can still turn out to be none.
    can_undo: bool,
    /// The window held the sender back in this round.
    limited: bool,
    /// `can_undo`, because of that many segments that were sent again since,
    resent: u16,
    /// of which the peer has had that many already.
    needless: u16,
    /// TSval of the first retransmission (Eifel, RFC 3522); 0: none.
    first_resent_ts: u32,
    /// Most sequence numbers in flight in this round.
    pub flight_max: u32,
    /// The round that `flight_max` is of ends here.
    round_end: Seq,
    /// PRR: bytes sent since.
    prr_out: u32,
    /// PRR: bytes that may be sent, and have not been.
    prr_due: u32,

    // What recovery itself needs.
    /// PRR: bytes delivered since it began.
    prr_delivered: u32,
    /// PRR: bytes that were out then (RecoverFS).
    prr_base: u32,
    /// The windows before it: congestion window and threshold.
    prior: (u32, u32),
    /// Where these begin.
    resent_at: [Seq; RESENT_KNOWN],
    /// SND.NXT when loss was found (RFC 6582).
    pub until: Seq,
    /// SND.UNA then: what is before it cannot speak of this recovery.
    since: Seq,
}

const _: () = assert!(std::mem::offset_of!(Recovery, prr_delivered) == 64);

impl Default for Recovery {
    fn default() -> Recovery {
        Recovery::NONE
    }
}

impl Recovery {
    /// Nothing was ever lost.
    pub const NONE: Recovery = Recovery {
        phase: Phase::Open,
        rack: Rack::new(Seq(0)),
        can_undo: false,
        resent: 0,
        needless: 0,
        resent_at: [Seq(0); RESENT_KNOWN],
        until: Seq(0),
        since: Seq(0),
        first_resent_ts: 0,
        prior: (0, 0),
        prr_delivered: 0,
        prr_out: 0,
        prr_due: 0,
        prr_base: 0,
        flight_max: 0,
        round_end: Seq(0),
        limited: false,
    };

    /// At the start of a connection.
    pub fn start(&mut self, iss: Seq) {
        *self = Recovery { until: iss, since: iss, rack: Rack::new(iss), ..Recovery::NONE };
        self.round_end = iss;
    }

    /// Nothing is lost or probed for, and nothing that was taken for lost can be found not to have been, by an ACK of new
    /// data without SACK blocks.
    #[inline]
    pub fn is_calm(&self) -> bool {
        let told = !self.can_undo || (self.first_resent_ts == 0 && !self.needs_a_look());
        self.phase == Phase::Open && self.rack.probe.is_none() && told
    }

    /// Whether PRR or the like decides how much goes out.
    #[inline]
    pub fn is_reducing(&self) -> bool {
        matches!(self.phase, Phase::Recovery | Phase::Reduced)
    }

    /// The windows before it.
    pub fn prior_cwnd(&self) -> u32 {
        self.prior.0
    }

    /// Whether an ACK that acknowledges nothing new can end or undo something.
    #[inline]
    pub fn needs_a_look(&self) -> bool {
        self.can_undo && self.resent > 0 && self.needless >= self.resent
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

impl Tcp {
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
                r.rack.reordering_seen = true;
                let (cwnd, ssthresh) = r.prior;
                let prior = Window { cwnd, ssthresh, ..t.window };
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
            r.rack.recovered();
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
        r.rack.duplicate_reported(from, t.snd_una, t.snd_nxt);
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
        let late = t.late_us();
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
        t.enter(&self.counters, Kind::Rto { first }, lost, now);
        t.flags.set(Flags::REXMIT_NOW);
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
    /// Loss or a mark was found: the window comes down, at most once in a round trip.
    pub(super) fn enter(&mut self, counters: &Counters, kind: Kind, lost: u32, now: Time) {
        let t = self;
        let new_phase = match kind {
            Kind::Loss => Phase::Recovery,
            Kind::Ecn => Phase::Reduced,
            Kind::Rto { .. } => Phase::Loss,
        };
        let was = t.recovery.phase;
        // A timeout within a recovery, or one more in a row, keeps what the first one has saved. A mark's reduction stands,
        // whatever becomes of a loss within it.
        if was == Phase::Open || was == Phase::Reduced {
            let whole = if was == Phase::Reduced && t.cc.prr() { t.window.ssthresh } else { t.window.cwnd };
            t.recovery.prior = (whole, t.window.ssthresh);
        }
        if was == Phase::Open || was == Phase::Reduced || (was == Phase::Recovery && new_phase == Phase::Loss)
        {
            let r = &mut t.recovery;
            // No segment that comes after all says that a router has not marked another.
            (r.can_undo, r.resent, r.needless, r.first_resent_ts) = (kind != Kind::Ecn, 0, 0, 0);
            r.since = t.snd_una;
        }
        let r = &mut t.recovery;
        r.phase = new_phase;
        r.until = t.snd_nxt;
        r.rack.probe = None;
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
                counters.inc(Ctr::TcpFastRetransmit);
            }
            Kind::Ecn => {}
            Kind::Rto { .. } => {
                // One segment more than what may still be under way.
                t.window.cwnd = t.window.cwnd.max(t.out.in_flight() + u32::from(t.mss));
                t.tally.timeouts = t.tally.timeouts.saturating_add(1);
                counters.inc(Ctr::TcpRto);
            }
        }
    }

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
