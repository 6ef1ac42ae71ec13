//! What the loss-based algorithms share: slow start, pacing, idle, what a reduction starts from and how it ends.

use super::{Ack, Congestion, INITIAL_SEGMENTS, NO_THRESHOLD, Sent, Window};

/// No window is larger: the largest that window scaling can offer (RFC 7323 2.3).
pub(super) const MAX_WINDOW: u32 = 1 << 30;

/// Where the engine's recovery stands, as an algorithm needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No recovery.
    #[default]
    Open,
    /// After loss or a congestion mark: the engine brings the window down (PRR).
    Recovery,
    /// After a timeout: slow start from one segment, though the engine still retransmits.
    Timeout,
}

/// Whether this ACK may let the window grow.
pub(super) fn ack_phase(phase: Phase, a: &Ack) -> bool {
    match phase {
        Phase::Open => !a.in_recovery,
        Phase::Recovery => false,
        Phase::Timeout => true,
    }
}

/// Slow start (RFC 5681 3.1, RFC 3465 2.2): grows by what was delivered, up to the threshold. Says how many bytes are left
/// for congestion avoidance.
///
/// An ACK counts for all that it delivers (RFC 9406 4.2: L is infinite), also in the slow start of a connection, which is
/// not paced (see [`pace`]), where RFC 9406 asks for L = 8 then: receivers and networks that join segments (GRO) acknowledge
/// dozens at once, a limit would have them start slower for that, and Linux, which has none, is what paths are used to. Before
/// the first RTT sample for two segments, and for one after a timeout (RFC 3465 2.3), as the delivered bytes may then have
/// been sent long ago.
pub(super) fn slow_start(w: &mut Window, a: &Ack, phase: Phase) -> u32 {
    if w.cwnd >= w.ssthresh {
        return a.delivered;
    }
    let counted = match phase {
        Phase::Timeout => a.delivered.min(a.mss),
        // Nothing is known of the path yet.
        _ if a.srtt_us == 0 => a.delivered.min(2 * a.mss),
        _ => a.delivered,
    };
    let room = w.ssthresh.min(MAX_WINDOW).saturating_sub(w.cwnd);
    w.cwnd += counted.min(room);
    counted.saturating_sub(room)
}

/// Segments up to which a window that doubles, and is paced, is paced by its own size only.
pub(super) const UNPACED_SEGMENTS: u32 = 64;

/// Pacing of a sender that a window clocks: a fifth more than the window in a round trip, so that pacing never is what
/// holds it back (Linux: `tcp_pacing_ca_ratio`), and twice the window in a later slow start, up to half of the threshold. Not
/// in the slow start of a connection: there ACKs clock it, an object that is done within it would come later by up to a round
/// trip, and HyStart looks for the ACKs of a window that went out at once.
pub(super) fn pace(w: &mut Window, a: &Ack, phase: Phase) {
    if a.srtt_us == 0 || w.ssthresh == NO_THRESHOLD {
        w.pacing_rate = 0;
        return;
    }
    let window = match phase {
        // The engine is about to set the window: between what is out and the threshold.
        Phase::Recovery => w.ssthresh.max(w.cwnd),
        _ => w.cwnd,
    };
    let window = u64::from(window.max(a.in_flight));
    let per_round = if w.cwnd < w.ssthresh / 2 { 2_000_000 } else { 1_200_000 };
    w.pacing_rate = (window * per_round / u64::from(a.srtt_us)).max(1);
}

/// What a reduction starts from: the window where it was in use, else what was out, and half the window at least: a window
/// grows only when it is used, so it was right once (RFC 9438 4.6), but it has not been tried since (RFC 7661 4.4.1).
pub(super) fn reduction_base(w: &Window, c: &Congestion) -> u32 {
    if c.in_flight < w.cwnd / 2 { w.cwnd / 2 } else { w.cwnd }
}

/// After a timeout one segment may be out (RFC 5681 3.1, the loss window).
pub(super) fn timeout_window(w: &mut Window, c: &Congestion) {
    w.cwnd = c.mss;
}

/// Nothing was out for longer than an RTO: the window halves for each, down to the initial one (RFC 5681 4.1 by way of
/// RFC 2861); the threshold remembers three quarters of it. Whether it was so.
pub(super) fn after_idle(w: &mut Window, s: &Sent) -> bool {
    if s.in_flight > 0 || s.idle_ns <= s.rto_ns || s.rto_ns == 0 {
        return false;
    }
    let restart = (INITIAL_SEGMENTS * s.mss).min(w.cwnd);
    let halvings = (s.idle_ns / s.rto_ns).min(31) as u32;
    w.ssthresh = w.ssthresh.max(w.cwnd / 4 * 3);
    w.cwnd = (w.cwnd >> halvings).max(restart);
    true
}

/// Recovery is over; after a timeout the window stays as it has grown.
pub(super) fn recovered(w: &mut Window, phase: &mut Phase) {
    if *phase == Phase::Recovery {
        w.cwnd = w.ssthresh;
    }
    *phase = Phase::Open;
}

/// The congestion was none: what was before it.
pub(super) fn undo(w: &mut Window, phase: &mut Phase, prior: &Window) {
    w.cwnd = w.cwnd.max(prior.cwnd);
    w.ssthresh = w.ssthresh.max(prior.ssthresh);
    *phase = Phase::Open;
}
