//! The control block: everything that the engine keeps of a connection, laid out by cache line.

mod flags;
mod state;

use std::mem::offset_of;

use dataplane::port::Mac;
use dataplane::{CellQueue, Slice, Time};
use hugepages::typed_index;

pub use flags::{Events, Flags};
pub use state::{CloseReason, State};

use super::cc::{Cc, Cubic, Window};
use super::rate::Delivered;
use super::recovery::Recovery;
use super::rtt::Rtt;
use super::sack_out::SackOut;
use super::scoreboard::Scoreboard;
use super::seq::Seq;
use super::totals::Tally;
use super::window::Sizing;
use crate::addr::Tuple;

typed_index! {
    /// A connection.
    pub struct FlowId;
}

typed_index! {
    /// A piece of data that waits in a send queue.
    pub struct RecordId;
}

typed_index! {
    /// A segment that is out.
    pub struct SegId;
}

/// A piece of data in a send queue: a retained slice and where it stands in the stream.
#[derive(Default)]
pub struct SendRecord {
    /// The data; `None` while the record is free, or its bytes have been let go.
    pub slice: Option<Slice>,
    /// Sequence number of its first byte.
    pub seq: Seq,
    /// What it is charged to the flow, by true size. Of one whose bytes have been let go: how many they are.
    pub charge: u32,
    /// The next piece.
    pub next: RecordId,
    /// By what its owner knows it who can make it again; 0: nobody can.
    pub tag: u32,
}

impl SendRecord {
    /// Sequence numbers that it takes.
    #[inline]
    pub fn span(&self) -> u32 {
        self.slice.as_ref().map_or(self.charge, |s| s.len() as u32)
    }
}

/// The control block. Thirteen cache lines: with its bucket and timer, and with what TLS keeps (`l7/src/tls/conns/secured.rs`
/// and `l7/src/tls/record/session.rs`), an idle connection is at 1 KiB, and not above. A segment on a connection on which
/// nothing is lost touches all of them but lines 7 and 11, as they are numbered below.
#[repr(C, align(64))]
pub struct Tcb {
    // Line 0: finding it, and what every segment touches first.
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Low half of the tuple's keyed hash.
    pub hash: u32,
    /// Next in the bucket.
    pub hash_next: FlowId,
    /// Notes.
    pub flags: Flags,
    /// What the owner has not seen yet.
    pub events: Events,
    /// State.
    pub state: State,
    /// Port it is reached by.
    pub port: u8,
    /// Scale of the windows that the peer announces.
    pub snd_wscale: u8,
    /// Scale of those that we announce.
    pub rcv_wscale: u8,
    /// Timeouts in a row.
    pub backoff: u8,
    /// Duplicate ACKs in a row, of a peer that does not SACK.
    pub dup_acks: u8,
    /// The owner's number for it.
    pub user: u64,

    // Line 1: sequence space.
    /// SND.UNA.
    pub snd_una: Seq,
    /// SND.NXT: what has been sent, once or more often, ends here.
    pub snd_nxt: Seq,
    /// SND.WND, scaled up.
    pub snd_wnd: u32,
    /// SND.WL1.
    pub snd_wl1: Seq,
    /// SND.WL2.
    pub snd_wl2: Seq,
    /// The largest window that the peer ever announced (RFC 5961 5.2).
    pub snd_wnd_max: u32,
    /// ISS.
    pub iss: Seq,
    /// RCV.NXT.
    pub rcv_nxt: Seq,
    /// Right edge of the window that we announced last. Never moves left.
    pub rcv_adv: Seq,
    /// RCV.NXT of the last ACK that we sent.
    pub rcv_acked: Seq,
    /// Bytes taken in order and not yet consumed by the owner.
    pub rcv_held: u32,
    /// The most bytes that we hold for the owner.
    pub rcv_wnd_max: u32,
    /// Largest payload that we send.
    pub mss: u16,
    /// Largest payload seen from the peer.
    pub rcv_mss: u16,
    /// Duplicate ACKs that are owed for out-of-order arrivals.
    pub acks_owed: u8,
    /// Keep-alive probes, or tries to close, without answer.
    pub probes: u8,
    /// Segments taken since the last ACK.
    pub unacked_segments: u8,
    /// Why it is over.
    pub close_reason: CloseReason,
    /// Sequence number behind the last queued byte.
    pub queue_end: Seq,
    /// The piece with SND.NXT.
    pub send_cursor: RecordId,

    // Line 2: what may be sent, and where to.
    /// What congestion control allows.
    pub window: Window,
    /// RTT and RTO.
    pub rtt: Rtt,
    /// First piece of the send queue: the one with SND.UNA.
    pub send_head: RecordId,
    /// Last piece.
    pub send_tail: RecordId,
    /// What the send queue is charged, by true size.
    pub send_charge: u32,
    /// Next in the list of connections with events.
    pub ready_next: FlowId,
    /// Next in the list of connections with something to send.
    pub output_next: FlowId,
    /// The peer's station.
    pub mac: Mac,
    /// Listener that it came by (passive).
    pub listener: u16,
    /// `mss` as it would be if the path took anything.
    pub mss_full: u16,
    /// Full segments that are still acknowledged one by one.
    pub quick_acks: u8,
    /// The half second of the clock, modulo 2^8, in which an ACK of nothing was sent last.
    pub challenged: u8,
    /// The number of a layer between the engine and the owner; 0: there is none.
    pub layer: u32,

    // Line 3: what is out; timestamps (RFC 7323).
    /// Segments that are out: which of them are SACKed, which lost.
    pub out: Scoreboard,
    /// What our timestamps are ahead of the clock.
    pub ts_offset: u32,
    /// TS.Recent.
    pub ts_recent: u32,
    /// When it was taken, in units of 2^30 ns.
    pub ts_recent_at: u32,
    /// When that is tried again, in units of 2^30 ns.
    pub path_full_at: u32,
    /// Where the peer's FIN stands, when it came early.
    pub fin_seq: Seq,

    // Line 4: time.
    /// Retransmission, persist or SYN timer.
    pub rexmit_at: Time,
    /// RACK's reordering timer, or that of a tail loss probe: `Recovery::timer` says which.
    pub probe_at: Time,
    /// When pacing lets the next burst out; [`Time::NEVER`] while it holds nothing back.
    pub pace_at: Time,
    /// Delayed ACK.
    pub ack_at: Time,
    /// The owner's.
    pub user_at: Time,
    /// Keep-alive; FIN-WAIT-2 and lingering.
    pub idle_at: Time,
    /// When data was last sent.
    pub last_sent: Time,
    /// When the last segment came that was within the window.
    pub last_heard: Time,

    // Line 5: what has come, and what has arrived there.
    /// When the next segment would be due if segments went out one by one, at the pacing rate.
    pub pace_next: Time,
    /// In order, for the owner to read.
    pub rx: CellQueue,
    /// What has been delivered, for rate samples.
    pub rate: Delivered,

    // Line 6, and half of line 7, which is for repairing losses, and so is what follows it.
    /// Loss recovery.
    pub recovery: Recovery,
    /// The SACK blocks of the last ACK that had any.
    pub sacked: [(Seq, Seq); 4],

    // Line 8: sums.
    /// What it has done in all.
    pub tally: Tally,
    /// How it grows.
    pub sizing: Sizing,

    // Lines 9 to 11: congestion control; CUBIC's are two.
    /// Congestion control.
    pub cc: Cc,

    // Line 12: whether anything is out of order. Where it waits, and the blocks that tell of it (RFC 2018), lie about.
    /// Out of order, tagged with sequence numbers.
    pub ooo: CellQueue,
    /// The blocks that the next ACK carries.
    pub sack_out: SackOut,
    /// High half of the tuple's keyed hash.
    pub hash_high: u32,
    /// Bytes thrown away since the owner left.
    pub discarded: u32,
    /// SND.UNA when an orphan's progress was last looked at.
    pub linger_una: Seq,
}

impl Default for Tcb {
    fn default() -> Tcb {
        Tcb::EMPTY
    }
}

impl Tcb {
    /// Of no connection.
    pub const EMPTY: Tcb = Tcb {
        tuple: Tuple::EMPTY,
        hash: 0,
        hash_high: 0,
        hash_next: FlowId::NONE,
        flags: Flags(0),
        events: Events(0),
        state: State::Closed,
        port: 0,
        snd_wscale: 0,
        rcv_wscale: 0,
        backoff: 0,
        dup_acks: 0,
        user: 0,
        layer: 0,
        snd_una: Seq(0),
        snd_nxt: Seq(0),
        snd_wnd: 0,
        snd_wl1: Seq(0),
        snd_wl2: Seq(0),
        snd_wnd_max: 0,
        iss: Seq(0),
        rcv_nxt: Seq(0),
        rcv_adv: Seq(0),
        rcv_acked: Seq(0),
        rcv_held: 0,
        rcv_wnd_max: 0,
        mss: 0,
        rcv_mss: 0,
        acks_owed: 0,
        probes: 0,
        unacked_segments: 0,
        close_reason: CloseReason::Done,
        queue_end: Seq(0),
        send_head: RecordId::NONE,
        send_tail: RecordId::NONE,
        send_cursor: RecordId::NONE,
        send_charge: 0,
        sacked: [(Seq(0), Seq(0)); 4],
        window: Window::new(0),
        rtt: Rtt::UNKNOWN,
        out: Scoreboard::EMPTY,
        rx: CellQueue::EMPTY,
        ooo: CellQueue::EMPTY,
        fin_seq: Seq(0),
        discarded: 0,
        linger_una: Seq(0),
        rexmit_at: Time::NEVER,
        probe_at: Time::NEVER,
        pace_at: Time::NEVER,
        pace_next: Time(0),
        ack_at: Time::NEVER,
        user_at: Time::NEVER,
        idle_at: Time::NEVER,
        last_sent: Time(0),
        last_heard: Time(0),
        ready_next: FlowId::NONE,
        output_next: FlowId::NONE,
        listener: 0,
        mac: [0; 6],
        ts_offset: 0,
        ts_recent: 0,
        ts_recent_at: 0,
        sack_out: SackOut::EMPTY,
        mss_full: 0,
        path_full_at: 0,
        sizing: Sizing::EMPTY,
        quick_acks: 0,
        challenged: 0,
        rate: Delivered::EMPTY,
        recovery: Recovery::NONE,
        cc: Cc::Cubic(Cubic::new()),
        tally: Tally::EMPTY,
    };

    /// A segment has come that may be the peer's.
    #[inline]
    pub(super) fn heard(&mut self, now: Time) {
        self.last_heard = now;
        self.probes = 0;
    }

    /// Sequence numbers sent and not acknowledged.
    #[inline]
    pub fn flight(&self) -> u32 {
        self.snd_nxt.since(self.snd_una)
    }

    /// Bytes queued: sent and not acknowledged, and not yet sent.
    #[inline]
    pub fn queued(&self) -> u32 {
        self.queue_end.since(self.snd_una)
    }

    /// What its owner should keep queued, bytes: two windows, the smaller of the path's and the peer's; and what the peer
    /// has already, beyond a hole: it stays in the queue, and must not take the place of what could be sent meanwhile.
    #[inline]
    pub fn send_target(&self) -> u32 {
        self.window.cwnd.min(self.snd_wnd).saturating_mul(2).saturating_add(self.out.sacked())
    }

    /// Whether our FIN has been sent at least once.
    #[inline]
    pub fn fin_sent(&self) -> bool {
        self.flags.has(Flags::FIN_QUEUED) && self.snd_nxt.gt(self.queue_end)
    }

    /// The earliest of the timers.
    #[inline]
    pub fn deadline(&self) -> Time {
        let sending = self.rexmit_at.min(self.probe_at).min(self.pace_at);
        sending.min(self.ack_at).min(self.user_at).min(self.idle_at)
    }
}

const _: () = {
    assert!(size_of::<Tcb>() <= 832);
    // Which line is which.
    assert!(offset_of!(Tcb, snd_una) == 64);
    assert!(offset_of!(Tcb, window) == 2 * 64);
    assert!(offset_of!(Tcb, out) == 3 * 64);
    assert!(offset_of!(Tcb, rexmit_at) == 4 * 64);
    assert!(offset_of!(Tcb, pace_next) == 5 * 64);
    assert!(offset_of!(Tcb, recovery) == 6 * 64);
    assert!(offset_of!(Tcb, tally) == 8 * 64);
    assert!(offset_of!(Tcb, cc) == 9 * 64);
    assert!(offset_of!(Tcb, sack_out) / 64 == 12);
    assert!(size_of::<SendRecord>() <= 32);
};
