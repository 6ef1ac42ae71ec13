//! Congestion control, behind one small trait.
//!
//! ```text
//!             ┌── on_sent ◄── output
//!  algorithm ─┼── on_ack  ◄── every ACK: what it delivered, what was found lost, a rate sample
//!   (Cc)      ├── on_lost ◄── each segment found lost
//!             └── on_congestion, on_recovered, on_undo ◄── recovery (RFC 6675, 8985, RTO, ECN)
//!                    │
//!                    ▼
//!               [`Window`]: cwnd, ssthresh, pacing rate ──► output
//! ```
//!
//! The engine finds losses, enters and leaves recovery, and spreads the reduction by PRR (RFC 6937) where the
//! algorithm asks for it. An algorithm sees bytes and times only: it is tested without a connection.

mod bbr;
mod choice;
mod common;
mod cubic;
mod hystart;
mod newreno;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod test_support;

use dataplane::Time;

pub use bbr::Bbr;
pub use choice::{Algorithm, Cc};
pub use cubic::Cubic;
pub use newreno::NewReno;

/// Initial window: ten segments (RFC 6928).
pub const INITIAL_SEGMENTS: u32 = 10;
/// No slow-start threshold yet.
pub const NO_THRESHOLD: u32 = u32::MAX;

/// What an algorithm decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Slow-start threshold, bytes; [`NO_THRESHOLD`] before the first loss.
    pub ssthresh: u32,
    /// Bytes a second; 0: not paced.
    pub pacing_rate: u64,
}

impl Window {
    /// At the start of a connection.
    pub const fn new(mss: u32) -> Window {
        Window { cwnd: INITIAL_SEGMENTS * mss, ssthresh: NO_THRESHOLD, pacing_rate: 0 }
    }
}

impl Default for Window {
    fn default() -> Window {
        Window::new(0)
    }
}

/// A delivery-rate sample (draft-ietf-ccwg-bbr, 4.1): what was delivered between a segment's sending and its acknowledgment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Bytes delivered in `interval_us`.
    pub delivered: u32,
    /// The longer of the time that sending them took and the time that their ACKs took; never 0.
    pub interval_us: u32,
    /// `Ack::total_delivered` when the segment was sent (P.delivered).
    pub prior_delivered: u32,
    /// Bytes in flight when it was sent, itself included (P.tx_in_flight).
    pub tx_in_flight: u32,
    /// Bytes found lost since it was sent.
    pub lost: u32,
    /// The owner had too little to send.
    pub app_limited: bool,
}

/// What one ACK has changed.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When it came.
    pub now: Time,
    /// Bytes that it newly delivers: acknowledged, or SACKed and not before.
    pub delivered: u32,
    /// Bytes by which SND.UNA advances.
    pub acked: u32,
    /// Bytes found lost by it.
    pub lost: u32,
    /// RTT of the segment sent last of those that it delivers, µs; 0: no sample (Karn).
    pub rtt_us: u32,
    /// Smoothed RTT, µs.
    pub srtt_us: u32,
    /// Lowest RTT of the last minutes, µs; `u32::MAX`: none.
    pub min_rtt_us: u32,
    /// Bytes in flight before it.
    pub in_flight_before: u32,
    /// Bytes in flight now.
    pub in_flight: u32,
    /// SND.NXT, as a round of slow start is counted by it (RFC 9406 4.2): sequence number of the next new byte.
    pub snd_nxt: u32,
    /// SND.UNA, this ACK included.
    pub snd_una: u32,
    /// Bytes delivered by the connection in all, modulo 2^32.
    pub total_delivered: u32,
    /// Bytes found lost by the connection in all, modulo 2^32.
    pub total_lost: u32,
    /// The congestion window was what held the sender back.
    pub limited: bool,
    /// In recovery (after loss, ECN or a timeout), and so it stays with this ACK. After a timeout the algorithm lets the
    /// window grow all the same: slow start, no PRR.
    pub in_recovery: bool,
    /// Rate sample of the segment sent last of those that it delivers.
    pub rate: Option<Rate>,
    /// Largest payload, bytes.
    pub mss: u32,
}

/// A segment that was found lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// When it was found.
    pub now: Time,
    /// Its bytes.
    pub bytes: u32,
    /// Bytes in flight when it was sent, itself included (P.tx_in_flight).
    pub tx_in_flight: u32,
    /// Bytes found lost since it was sent, itself included.
    pub lost_since: u32,
    /// `Ack::total_delivered` when it was sent.
    pub prior_delivered: u32,
    /// The owner had too little to send when it was sent.
    pub app_limited: bool,
    /// Largest payload, bytes.
    pub mss: u32,
}

/// Data that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Now.
    pub now: Time,
    /// Bytes in flight without it.
    pub in_flight: u32,
    /// Bytes delivered by the connection in all, modulo 2^32.
    pub total_delivered: u32,
    /// The last rate samples are limited by the owner, not by the path.
    pub app_limited: bool,
    /// When data was sent last; how long the RTO is, ns: what "idle" is measured by (RFC 5681 4.1).
    pub idle_ns: u64,
    /// RTO, ns.
    pub rto_ns: u64,
    /// Largest payload, bytes.
    pub mss: u32,
}

/// What kind of congestion was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Loss, by duplicate ACKs, SACK or RACK: recovery begins.
    Loss,
    /// The peer echoes a mark of ours (RFC 3168).
    Ecn,
    /// The retransmission timer ran out.
    Rto {
        /// The first time in a row.
        first: bool,
    },
}

/// Congestion: at most once in a round trip.
#[derive(Clone, Copy, Debug)]
pub struct Congestion {
    /// When it was found.
    pub now: Time,
    /// What it is.
    pub kind: Kind,
    /// Bytes in flight, those found lost just now included.
    pub in_flight: u32,
    /// Smoothed RTT, µs.
    pub srtt_us: u32,
    /// Largest payload, bytes.
    pub mss: u32,
}

/// An algorithm's answers to what happens to one connection.
pub trait CongestionControl {
    /// Data goes out after a while without (or always, where `in_flight` is not 0).
    fn on_sent(&mut self, w: &mut Window, s: &Sent);

    /// An ACK. In recovery the engine sets `cwnd` itself afterwards, where [`CongestionControl::PRR`] says so.
    fn on_ack(&mut self, w: &mut Window, a: &Ack);

    /// A segment was found lost. Called for each, before `on_congestion` and `on_ack`; nothing to an algorithm that goes by
    /// congestions.
    fn on_lost(&mut self, _: &mut Window, _: &Lost) {}

    /// Congestion: sets `ssthresh`, and `cwnd` where the engine does not.
    fn on_congestion(&mut self, w: &mut Window, c: &Congestion);

    /// All that was out when recovery began has been acknowledged.
    fn on_recovered(&mut self, w: &mut Window, now: Time, mss: u32);

    /// The last congestion was none: segments were late, not lost. `prior` is the window from before it.
    fn on_undo(&mut self, w: &mut Window, prior: &Window, now: Time);

    /// Whether the engine brings `cwnd` down to `ssthresh` by PRR in recovery from loss or ECN. Not after a timeout:
    /// there the algorithm sets one segment and grows by itself.
    const PRR: bool;
}
