//! Explicit congestion notification (RFC 3168): marks that came are echoed until the peer says that it has heard; echoes
//! that came bring our window down, once in a round trip.
//!
//! ECT(0) is set on new data alone: not on SYNs, empty segments, retransmissions and window probes (6.1.1 to 6.1.6).

use dataplane::{Ctr, Packet, Time};

use super::Tcp;
use super::cc::Kind;
use super::recovery::Phase;
use super::segment::{Segment, bits};
use super::tcb::{Flags, FlowId};
use crate::parse::ecn;

/// Codepoint: the sender understands ECN.
pub(super) const ECT0: u8 = 2;
/// Codepoint: a router has met congestion.
pub(super) const CE: u8 = 3;

impl Tcp {
    /// What an acceptable segment of a connection with ECN says of congestion on its own way.
    pub(super) fn take_marks(&mut self, id: FlowId, p: &Packet, seg: &Segment) {
        let t = &mut self.table.flows[id];
        if seg.has(bits::CWR) {
            t.flags.clear(Flags::ECN_ECHO);
        }
        if ecn(p) == CE {
            self.counters.inc(Ctr::TcpCeReceived);
            if !t.flags.has(Flags::ECN_ECHO) {
                t.flags.set(Flags::ECN_ECHO);
                t.flags.set(Flags::ACK_NOW); // The sooner it is heard, the less is lost.
                self.want_output(id);
            }
        }
    }

    /// An echo of a mark of ours. Before its ACK is looked into: what was out when it came is what the path carried, and
    /// what it acknowledges does not open the window any more.
    pub(super) fn take_echo(&mut self, id: FlowId, seg: &Segment, now: Time) {
        let t = &mut self.table.flows[id];
        if !seg.has(bits::ECE) || seg.has(bits::SYN) || seg.ack.lt(t.snd_una) || seg.ack.gt(t.snd_nxt) {
            return;
        }
        self.counters.inc(Ctr::TcpEceReceived);
        match t.recovery.phase {
            Phase::Open => {
                t.flags.set(Flags::CWR_NEXT);
                if !t.out.is_empty() {
                    t.enter(&self.counters, Kind::Ecn, 0, now);
                }
            }
            // It came down for a loss; that is said too.
            Phase::Recovery | Phase::Loss => t.flags.set(Flags::CWR_NEXT),
            // Once in a round trip.
            Phase::Reduced => {}
        }
    }
}
