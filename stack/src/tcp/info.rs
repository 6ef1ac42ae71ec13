//! What a connection is doing, for people: copied by the core whose connection it is, a few at a time.
//!
//! ```text
//!  control side ── from which place on? ──► core: Tcp::copy_flows ──► FlowInfo by FlowInfo
//!               ◄── where to go on ────────
//! ```
//!
//! The core copies between two segments, so that what is seen of one connection is of one moment. What is seen of two
//! is not: connections come and go between two looks. Nothing here is kept up to date for anybody: a core that is not
//! asked does nothing, and one that is looks at [`COPIES_MAX`] connections and [`LOOKS_MAX`] places at a time.

use dataplane::Time;
use hugepages::SlabIndex;

use super::cc::Algorithm;
use super::recovery::Phase;
use super::tcb::{Flags, Tcb};
use super::totals::Tally;
use super::{State, Tcp};
use crate::addr::Tuple;

/// Connections that are copied in one go.
pub const COPIES_MAX: u32 = 64;
/// Places of the table that are looked at in one go.
pub const LOOKS_MAX: u32 = 4096;

/// A connection as `millrace flows` shows it. Bytes are of payload; a time that is not known is 0.
#[derive(Clone, Copy, Debug)]
pub struct FlowInfo {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// State.
    pub state: State,
    /// Congestion control.
    pub algorithm: Algorithm,
    /// We opened it: the origin is on the other side.
    pub active: bool,
    /// The owner has left; the engine ends it.
    pub orphan: bool,
    /// The listener that it came by, of those that were opened without.
    pub listener: u16,
    /// The port that it is reached by.
    pub port: u8,
    /// Timeouts in a row.
    pub backoff: u8,
    /// Both sides scale their windows.
    pub scaled: bool,
    /// Scale of the windows that the peer announces, and of ours.
    pub wscale: (u8, u8),
    /// Largest payload that we send.
    pub mss: u16,
    /// Largest payload that came.
    pub rcv_mss: u16,
    /// Smoothed RTT, µs.
    pub srtt_us: u32,
    /// Its mean deviation, µs.
    pub rttvar_us: u32,
    /// Lowest RTT of the last minutes, µs.
    pub min_rtt_us: u32,
    /// Retransmission timeout with its back-off, µs.
    pub rto_us: u64,
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Slow-start threshold, bytes; `u32::MAX` before the first loss.
    pub ssthresh: u32,
    /// Bytes a second at which data is spread; 0: it is not.
    pub pacing_rate: u64,
    /// What loss recovery is doing.
    pub phase: Phase,
    /// Both sides send timestamps,
    pub timestamps: bool,
    /// understand SACK,
    pub sack: bool,
    /// and congestion marks.
    pub ecn: bool,
    /// The peer's window, bytes.
    pub snd_wnd: u32,
    /// Our window, bytes.
    pub rcv_wnd: u32,
    /// Sent, neither acknowledged nor SACKed nor lost, bytes.
    pub in_flight: u32,
    /// Sent and not acknowledged, bytes.
    pub unacked: u32,
    /// SACKed, bytes.
    pub sacked: u32,
    /// Queued, sent or not, and not acknowledged, bytes.
    pub send_queue: u32,
    /// Received and not yet let go of by the owner, bytes.
    pub receive_queue: u32,
    /// Acknowledged by the peer, bytes, our FIN counted as one.
    pub bytes_acked: u64,
    /// Received in order, bytes.
    pub bytes_received: u64,
    /// Sent again, bytes.
    pub bytes_resent: u64,
    /// Found lost, bytes, modulo 2^32.
    pub bytes_lost: u32,
    /// Time with data out, µs.
    pub busy_us: u64,
    /// Segments and losses.
    pub tally: Tally,
    /// Since data was last sent, µs; `None`: none was.
    pub since_sent_us: Option<u64>,
    /// Since anything last came, µs.
    pub since_heard_us: u64,
}

impl FlowInfo {
    /// What `t` is doing at `now`.
    fn of(t: &Tcb, now: Time) -> FlowInfo {
        let since_us = |then: Time| now.0.saturating_sub(then.0) / 1000;
        FlowInfo {
            tuple: t.tuple,
            state: t.state,
            algorithm: t.cc.algorithm(),
            active: t.flags.has(Flags::ACTIVE),
            orphan: t.flags.has(Flags::ORPHAN),
            listener: t.listener,
            port: t.port,
            backoff: t.backoff,
            scaled: t.flags.has(Flags::SCALED),
            wscale: (t.snd_wscale, t.rcv_wscale),
            mss: t.mss,
            rcv_mss: t.rcv_mss,
            srtt_us: t.rtt.srtt_us,
            rttvar_us: t.rtt.var_us,
            rto_us: t.rtt.rto_ns(t.backoff) / 1000,
            cwnd: t.window.cwnd,
            ssthresh: t.window.ssthresh,
            min_rtt_us: Some(t.recovery.rack.min_rtt_us).filter(|n| *n != u32::MAX).unwrap_or(0),
            pacing_rate: t.window.pacing_rate,
            phase: t.recovery.phase,
            timestamps: t.flags.has(Flags::TIMESTAMPS),
            sack: t.flags.has(Flags::SACK_OK),
            ecn: t.flags.has(Flags::ECN),
            snd_wnd: t.snd_wnd,
            rcv_wnd: t.rcv_adv.since(t.rcv_nxt),
            in_flight: t.out.in_flight(),
            unacked: t.flight(),
            sacked: t.out.sacked(),
            send_queue: t.queued(),
            receive_queue: t.rcv_held,
            bytes_acked: t.tally.acked,
            bytes_received: t.tally.received,
            bytes_resent: t.rate.resent,
            bytes_lost: t.rate.lost,
            busy_us: t.tally.busy_us(!t.out.is_empty(), now),
            tally: t.tally,
            since_sent_us: (t.last_sent != Time(0)).then(|| since_us(t.last_sent)),
            since_heard_us: since_us(t.last_heard),
        }
    }
}

impl Tcp {
    /// Gives the connections at place `from` and behind it, as they are at `now`, to `take`: at most [`COPIES_MAX`] of
    /// them. The place to go on from, `None` after the last.
    pub fn copy_flows(&self, from: u32, now: Time, mut take: impl FnMut(FlowInfo)) -> Option<u32> {
        let flows = &self.table.flows;
        let (mut at, end) = (from, from.saturating_add(LOOKS_MAX));
        let mut copied = 0;
        while at < end && copied < COPIES_MAX {
            match flows.next_used(at, end - at) {
                Ok(id) => {
                    let t = &flows[id];
                    if !t.flags.has(Flags::DEAD) {
                        take(FlowInfo::of(t, now));
                    }
                    copied += 1;
                    at = id.to_u32() + 1;
                }
                Err(on) => at = on.max(at + 1),
            }
        }
        (at < flows.capacity()).then_some(at)
    }
}
