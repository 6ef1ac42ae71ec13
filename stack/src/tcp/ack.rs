//! Acknowledgments in: RFC 9293 3.10.7.4, fifth check; RFC 5961.

use dataplane::{Ctr, Time};

use super::input::Verdict;
use super::options::Options;
use super::segment::{Segment, bits};
use super::tcb::{CloseReason, Events, Flags, FlowId, State};
use super::{Seq, Tcp};

/// Third duplicate ACK: loss (RFC 5681 3.2).
const DUP_ACKS: u8 = 3;

impl Tcp {
    /// Fifth check: the acknowledgment.
    pub(super) fn acknowledge(
        &mut self,
        id: FlowId,
        seg: &Segment,
        _options: &Options,
        now: Time,
    ) -> Verdict {
        let t = &mut self.table.flows[id];
        // RFC 5961 5.2.
        let oldest = t.snd_una - t.snd_wnd_max.max(1);
        if seg.ack.gt(t.snd_max) || seg.ack.lt(oldest) {
            self.challenge(id, now);
            return Err(Ctr::DropTcpAck);
        }
        let window = u32::from(seg.window) << t.snd_wscale;
        if seg.ack.gt(t.snd_una) {
            self.new_ack(id, seg.ack, now);
        } else if seg.ack == t.snd_una
            && seg.len == 0
            && !seg.has(bits::FIN)
            && window == t.snd_wnd
            && t.snd_max.gt(t.snd_una)
            && !t.flags.has(Flags::PERSIST)
        {
            self.duplicate_ack(id);
        }
        let t = &mut self.table.flows[id];
        if t.state == State::Closed {
            return Ok(());
        }
        if seg.ack.ge(t.snd_una) && (t.snd_wl1.lt(seg.seq) || (t.snd_wl1 == seg.seq && t.snd_wl2.le(seg.ack)))
        {
            let opened = window > t.snd_wnd;
            if window == 0 && t.snd_wnd != 0 {
                self.counters.inc(Ctr::TcpZeroWindow);
            }
            t.snd_wnd = window;
            t.snd_wnd_max = t.snd_wnd_max.max(window);
            t.snd_wl1 = seg.seq;
            t.snd_wl2 = seg.ack;
            if window == 0 && t.snd_max.gt(t.snd_una) && !t.flags.has(Flags::PERSIST) {
                // What is out does not fit any more: probe until it does, instead of timing out on it.
                t.flags.set(Flags::PERSIST);
                t.snd_nxt = t.snd_una;
                t.send_cursor = t.send_head;
            }
            if opened {
                if t.flags.has(Flags::PERSIST) {
                    t.flags.clear(Flags::PERSIST);
                    t.backoff = 0;
                    t.rexmit_at =
                        if t.snd_max.gt(t.snd_una) { now.plus_ns(t.rtt.rto_ns(0)) } else { Time::NEVER };
                }
                self.want_output(id);
            }
        }
        if self.table.flows[id].flags.has(Flags::PERSIST) {
            // The peer lives, its window is closed: probe on at the same pace, without end (3.8.6.1).
            self.table.flows[id].backoff =
                self.table.flows[id].backoff.min(super::timers::PERSIST_BACKOFF_MAX);
        }
        Ok(())
    }

    /// New data acknowledged.
    pub(super) fn new_ack(&mut self, id: FlowId, ack: Seq, now: Time) {
        let t = &mut self.table.flows[id];
        let (bytes, mss) = (ack.since(t.snd_una), u32::from(t.mss));
        let flight = t.snd_max.since(t.snd_una);
        t.snd_una = ack;
        t.snd_nxt = t.snd_nxt.max(ack);
        t.backoff = 0;
        t.flags.clear(Flags::PERSIST);
        if t.flags.has(Flags::TIMING) && ack.gt(t.timed_seq) {
            t.flags.clear(Flags::TIMING);
            t.rtt.sample((now.since_ns(t.timed_at) / 1000).min(u64::from(u32::MAX)) as u32);
        }
        if t.flags.has(Flags::RECOVERY) {
            if ack.ge(t.recover) {
                t.flags.clear(Flags::RECOVERY);
                t.cc.on_recovered(t.snd_max.since(ack), mss);
            } else {
                t.cc.on_partial_ack(bytes, mss);
                t.flags.set(Flags::REXMIT_NOW);
            }
        } else {
            let limited = t.flags.has(Flags::CWND_LIMITED) || flight + mss > t.cc.cwnd;
            t.cc.on_ack(bytes, mss, limited);
        }
        t.dup_acks = 0;
        let left = t.snd_max.gt(ack);
        t.rexmit_at = if left { now.plus_ns(t.rtt.rto_ns(0)) } else { Time::NEVER };
        self.free_acknowledged(id);
        let t = &mut self.table.flows[id];
        let fin_acked = t.flags.has(Flags::FIN_QUEUED) && ack.gt(t.queue_end);
        if fin_acked {
            match t.state {
                State::FinWait1 => {
                    t.state = State::FinWait2;
                    let patience = if t.flags.has(Flags::ORPHAN) {
                        super::timers::LINGER_NS
                    } else {
                        super::timers::FIN_WAIT_2_NS
                    };
                    t.linger_una = ack; // That was the last progress.
                    t.idle_at = now.plus_ns(patience);
                }
                State::Closing => return self.enter_time_wait(id, now),
                State::LastAck => {
                    self.counters.inc(Ctr::TcpClosed);
                    return self.finish(id, CloseReason::Done);
                }
                _ => {}
            }
        }
        self.raise(id, Events::WRITABLE);
        self.want_output(id);
    }

    /// Lets the acknowledged front of the send queue go.
    pub(super) fn free_acknowledged(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        while t.send_head.is_some() {
            let r = &mut self.records[t.send_head];
            let len = r.slice.as_ref().map_or(0, |s| s.len()) as u32;
            if t.snd_una.lt(r.seq + len) {
                break;
            }
            let gone = t.send_head;
            r.slice = None;
            t.send_charge -= r.charge;
            t.send_head = r.next;
            if t.send_cursor == gone {
                t.send_cursor = t.send_head;
            }
            if t.send_head.is_none() {
                t.send_tail = t.send_head;
            }
            self.records.free(gone);
        }
    }

    pub(super) fn duplicate_ack(&mut self, id: FlowId) {
        self.counters.inc(Ctr::TcpDupAcks);
        let t = &mut self.table.flows[id];
        let mss = u32::from(t.mss);
        t.dup_acks = t.dup_acks.saturating_add(1);
        if t.flags.has(Flags::RECOVERY) {
            t.cc.on_dup_ack(mss);
        } else if t.dup_acks == DUP_ACKS && t.snd_una.ge(t.recover) {
            t.recover = t.snd_max;
            t.cc.on_loss(t.snd_max.since(t.snd_una), mss);
            t.flags.set(Flags::RECOVERY);
            t.flags.set(Flags::REXMIT_NOW);
            t.flags.clear(Flags::TIMING); // Karn
            self.counters.inc(Ctr::TcpFastRetransmit);
        }
        // The first two let new data out (limited transmit, RFC 3042), which `output` knows by `dup_acks`.
        self.want_output(id);
    }
}
