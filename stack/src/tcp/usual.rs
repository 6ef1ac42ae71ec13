//! The usual segment, in one go: in order, of an open connection on which nothing is lost; with data or without, and with an
//! acknowledgment of what is out. It comes to what `in_synchronized` and all that it calls would make of it, no more and no
//! less, with one look-up of the control block; what is special about a segment or its connection is left to them.

use dataplane::{Ctr, Packet, Time};

use super::ack::Found;
use super::cc::{Ack, Kind};
use super::options::Timestamps;
use super::rack::ProbeTimer;
use super::rate::micros;
use super::receive::{SMALL_SEGMENTS, store};
use super::recovery::Phase;
use super::segment::{Segment, bits};
use super::tcb::{Events, Flags, FlowId, State};
use super::{Tcp, WINDOW_SHARE, push};
use crate::parse::{ecn, source_mac};

/// Of a connection that has one of these each segment is looked into.
const SPECIAL: Flags =
    Flags(Flags::ORPHAN.0 | Flags::PERSIST.0 | Flags::FIN_PENDING.0 | Flags::FIN_TAKEN.0 | Flags::ECN_ECHO.0);

/// The timestamps of a segment that has them alone, as nearly all have: `Some(None)` of one without options, `None` of one
/// with others.
#[inline(always)]
fn timestamps(p: &Packet) -> Option<Option<Timestamps>> {
    let m = p.meta();
    let options = &p.head()[usize::from(m.l4) + 20..usize::from(m.payload)];
    if options.is_empty() {
        return Some(None);
    }
    let words = <&[u8; 12]>::try_from(options).ok()?;
    let [kind, val, ecr] =
        [0, 4, 8].map(|i| u32::from_be_bytes([words[i], words[i + 1], words[i + 2], words[i + 3]]));
    (kind == 0x0101_080a).then_some(Some(Timestamps { val, ecr }))
}

impl Tcp {
    /// Takes a usual segment; gives back one that is not, and nothing is done.
    #[inline]
    pub(super) fn usual_segment(
        &mut self,
        id: FlowId,
        p: Packet,
        seg: &Segment,
        now: Time,
    ) -> Result<(), Packet> {
        let t = &mut self.table.flows[id];
        let (una, acked) = (t.snd_una, seg.ack.0.wrapping_sub(t.snd_una.0));
        let window = u32::from(seg.window) << t.snd_wscale;
        // The state first: before it is open nothing else is set.
        let is_plain = t.state == State::Established
            && seg.bits & !bits::PSH == bits::ACK
            && !t.flags.has(SPECIAL)
            && seg.seq == t.rcv_nxt
            && seg.len <= t.rcv_adv.since(t.rcv_nxt)
            && acked <= t.snd_nxt.0.wrapping_sub(una.0)
            && (acked > 0 || seg.len > 0)
            && window > 0
            && t.mac == source_mac(&p);
        let is_calm = t.recovery.is_calm()
            && t.out.sacked() == 0
            && t.out.next_lost().is_none()
            && t.ooo.is_empty()
            && t.sack_out.is_empty()
            && t.acks_owed == 0
            && t.mss == t.mss_full;
        if !is_plain || !is_calm || self.config.looks_closely || self.rx_pool.free_count() < self.rx_reserve {
            return Err(p);
        }
        let Some(options) = timestamps(&p) else { return Err(p) };
        if t.flags.has(Flags::TIMESTAMPS) {
            let Some(ts) = options else { return Err(p) };
            if (ts.val.wrapping_sub(t.ts_recent) as i32) < 0 {
                return Err(p);
            }
        }
        if t.flags.has(Flags::ECN) && ecn(&p) == super::ecn::CE {
            return Err(p);
        }
        let (mut events, mut sends) = (Events::default(), false);
        t.heard(now);

        if acked > 0 {
            let now_us = micros(now);
            let in_flight_before = t.pipe();
            let mut found = Found::default();
            t.snd_una = seg.ack;
            t.backoff = 0;
            t.dup_acks = 0;
            Tcp::take_acknowledged(&mut self.segments, t, seg.ack, &mut found, now_us);
            Tcp::free_acknowledged(&mut self.records, t);
            let first = t.out.first();
            if first.is_some() {
                let o = &mut self.segments[first];
                if o.seq == seg.ack {
                    o.piece = t.send_head;
                }
            }
            t.tally.acknowledged(acked, now_us);
            if found.rtt_us != 0 {
                t.rtt.sample(found.rtt_us);
                t.recovery.rack.take_min_rtt(found.last_rtt_us, now_us);
            }
            let lost_before = t.rate.lost;
            if t.flags.has(Flags::SACK_OK) && found.delivered > 0 {
                let oldest = t.out.oldest();
                if oldest.is_none() || t.recovery.rack.finds_nothing(&self.segments[oldest]) {
                    if t.recovery.rack.timer == ProbeTimer::Reordering {
                        t.probe_at = Time::NEVER;
                        t.recovery.rack.timer = ProbeTimer::Tail;
                    }
                } else if Tcp::detect_losses(&mut self.segments, &self.counters, t, now) {
                    let lost = t.rate.lost.wrapping_sub(lost_before);
                    t.enter(&self.counters, Kind::Loss, lost, now);
                }
            }
            let lost = t.rate.lost.wrapping_sub(lost_before);
            let a = Ack {
                now,
                delivered: found.delivered,
                acked,
                lost,
                rtt_us: found.last_rtt_us,
                srtt_us: t.rtt.srtt_us,
                min_rtt_us: t.recovery.rack.min_rtt_us,
                in_flight_before,
                in_flight: t.pipe(),
                snd_nxt: t.snd_nxt.0,
                snd_una: seg.ack.0,
                total_delivered: t.rate.bytes,
                total_lost: t.rate.lost,
                limited: t.recovery.was_limited(&t.window),
                in_recovery: t.recovery.phase != Phase::Open,
                rate: found.rate(t),
                mss: t.mss.into(),
            };
            t.cc.on_ack(&mut t.window, &a);
            if t.recovery.is_reducing() && t.cc.prr() {
                let (ssthresh, mss) = (t.window.ssthresh, t.mss.into());
                t.window.cwnd = t.recovery.prr(found.delivered, lost, true, a.in_flight, ssthresh, mss);
            }
            t.rexmit_at = if t.out.is_empty() { Time::NEVER } else { now.plus_ns(t.rtt.rto_ns(0)) };
            Tcp::arm_probe(t, now);
            events.set(Events::WRITABLE);
            sends = true;
        }

        if t.snd_wl1.lt(seg.seq) || (t.snd_wl1 == seg.seq && t.snd_wl2.le(seg.ack)) {
            sends |= window > t.snd_wnd;
            t.snd_wnd = window;
            t.snd_wnd_max = t.snd_wnd_max.max(window);
            (t.snd_wl1, t.snd_wl2) = (seg.seq, seg.ack);
        }
        if let Some(ts) = options
            && t.flags.has(Flags::TIMESTAMPS)
        {
            if seg.seq.le(t.rcv_acked) {
                t.set_ts_recent(ts.val, now);
            }
            if seg.len > 0 {
                t.measure_receiving(seg, Some(ts), now);
            }
        }

        if seg.len > 0 {
            let len = seg.len;
            t.rcv_mss = t.rcv_mss.max(len.min(u32::from(u16::MAX)) as u16);
            t.rcv_nxt += len;
            t.rcv_held += len;
            t.tally.received += u64::from(len);
            store(&mut t.rx, &self.counters, p, 0, 0, len, WINDOW_SHARE * t.rcv_wnd_max);
            self.counters.add(Ctr::TcpBytesIn, len.into());
            events.set(Events::READABLE);
            t.unacked_segments = t.unacked_segments.saturating_add(1);
            let much = t.rcv_nxt.since(t.rcv_acked) >= 2 * u32::from(t.rcv_mss);
            let quick = t.quick_acks > 0 && len >= t.mss_full.into();
            t.quick_acks -= u8::from(quick);
            if much || quick || t.unacked_segments >= SMALL_SEGMENTS {
                t.flags.set(Flags::ACK_NOW);
                sends = true;
            } else if t.ack_at == Time::NEVER {
                t.ack_at = now.plus_ns(self.config.ack_delay_ns);
            }
        }

        t.events.set(events);
        let (listed, has_output) = (t.flags.has(Flags::IN_READY), t.flags.has(Flags::IN_OUTPUT));
        let (port, deadline) = (t.port, t.deadline());
        t.flags.set(Flags::IN_READY);
        if sends {
            t.flags.set(Flags::IN_OUTPUT);
        }
        if !listed {
            push(&mut self.table, &mut self.ready, id, |t| &mut t.ready_next);
        }
        if has_output || sends {
            // Armed with the pass's output.
            if !has_output {
                let list = usize::from(port) % super::OUTPUT_LISTS;
                push(&mut self.table, &mut self.output[list], id, |t| &mut t.output_next);
            }
        } else if deadline != Time::NEVER {
            self.wheel.arm(id, deadline);
        }
        Ok(())
    }
}
