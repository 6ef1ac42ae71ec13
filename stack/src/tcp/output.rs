//! Segments out: what was lost, then new data, as far as both windows and pacing let it.

mod bulk;
mod data;
mod pace;
mod windows;

use dataplane::{Counters, Ctr, Time, TxQueue};
use hugepages::Slab;

use super::away::ASK_AGAIN_NS;
use super::scoreboard::{Place, Segments};
use super::segment::bits;
use super::tcb::{Events, Flags, FlowId, RecordId, SendRecord, State, Tcb};
use super::window::RxRoom;
use super::{List, OUTPUT_LISTS, Tcp, TcpConfig};
use crate::net::Net;
use windows::Allowed;

/// Segments that one connection may send in one pass, so that one download does not delay the rest.
const SEGMENTS_PER_PASS: u32 = 64;

/// When a connection that has no record for its first segment looks again.
const NO_RECORD_NS: u64 = 1_000_000;

/// How a connection's turn at sending ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Until something happens to it there is nothing to send.
    Done,
    /// It may send more: after the others.
    More,
    /// The port, or a pool, has no room: for the others neither.
    Full,
    /// What has to be sent again was let go: its owner has to make it again.
    Asks,
}

impl Turn {
    fn full_unless(sent: bool) -> Turn {
        if sent { Turn::Done } else { Turn::Full }
    }
}

impl Tcp {
    /// Sends for every connection that wants to, once. Called after the owner has seen the events.
    /// Gives whether anything was sent or is left to send.
    pub fn output(&mut self, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let mut any = false;
        for list in 0..OUTPUT_LISTS {
            if self.output[list].first.is_some() {
                any = true;
                self.output_list(list, net, tx, now);
            }
        }
        any
    }

    /// Those of one port. When it is full the rest keeps its place in the list, and costs nothing.
    fn output_list(&mut self, list: usize, net: &mut Net, tx: &mut [TxQueue], now: Time) {
        // Those that are put back in the list come after `last`.
        let last = self.output[list].last;
        loop {
            let id = self.output[list].first;
            let t = &mut self.table.flows[id];
            if tx[t.port as usize].room() == 0 {
                return;
            }
            self.output[list].first = t.output_next;
            if self.output[list].first.is_none() {
                self.output[list] = List::default();
            }
            t.output_next = FlowId::NONE;
            t.flags.clear(Flags::IN_OUTPUT);
            let closed = t.state == State::Closed;
            let (t, mut sending) = self.sending(id);
            let mut turn = Turn::Done;
            if closed {
                sending.last_word(t, net, tx, now);
            } else {
                turn = sending.turn(t, net, tx, now);
                match turn {
                    Turn::Done => {}
                    Turn::Asks => self.raise(id, Events::MISSING),
                    Turn::More | Turn::Full => self.want_output(id),
                }
            }
            let t = &self.table.flows[id];
            if t.flags.has(Flags::DEAD) {
                self.free_if_unlisted(id);
            } else {
                let at = t.deadline();
                if at != Time::NEVER {
                    self.wheel.arm(id, at);
                }
            }
            if id == last || turn == Turn::Full || self.output[list].first.is_none() {
                return;
            }
        }
    }
}

/// What sending takes of the engine, beside the connection itself.
pub(super) struct Sending<'a> {
    pub records: &'a Slab<RecordId, SendRecord>,
    pub segments: &'a mut Segments,
    pub counters: &'a Counters,
    pub config: &'a TcpConfig,
    pub rx: RxRoom<'a>,
}

impl Tcp {
    /// A connection, and what sending on it takes.
    #[inline(always)]
    pub(super) fn sending(&mut self, id: FlowId) -> (&mut Tcb, Sending<'_>) {
        let sending = Sending {
            records: &self.records,
            segments: &mut self.segments,
            counters: &self.counters,
            config: &self.config,
            rx: RxRoom { pool: &self.rx_pool, reserve: self.rx_reserve },
        };
        (&mut self.table.flows[id], sending)
    }
}

impl Sending<'_> {
    /// The last word of a connection that is over: the ACK of the peer's FIN, or a RST (abort).
    fn last_word(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) {
        if !t.flags.has(Flags::ACK_NOW) {
            return;
        }
        t.flags.clear(Flags::ACK_NOW);
        let to_time_wait = t.flags.has(Flags::FIN_TAKEN) && t.snd_una.gt(t.queue_end);
        let (seq, bits) = if to_time_wait {
            (t.snd_nxt, bits::ACK)
        } else {
            self.counters.inc(Ctr::TcpResetsSent);
            (t.snd_nxt, bits::RST | bits::ACK)
        };
        self.emit(t, net, tx, seq, bits, &[], None, now);
    }

    /// Sends for one connection.
    #[inline(always)]
    fn turn(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> Turn {
        if matches!(t.state, State::SynSent | State::SynReceived) {
            if t.flags.has(Flags::SYN_NOW) {
                return Turn::full_unless(self.send_syn(t, net, tx, now));
            }
            // Before the peer's SYN there is nothing to acknowledge.
            return Turn::full_unless(t.state == State::SynSent || self.send_acks(t, net, tx, now));
        }
        let mut turn = self.send_stream(t, net, tx, now);
        if turn == Turn::Done && t.flags.has(Flags::TAIL_PROBE_NOW) {
            turn = Turn::full_unless(self.send_tail_probe(t, net, tx, now));
        }
        // Data waits, nothing is out, the window is too small: probe it, or we wait for each other for ever.
        let waits = t.rexmit_at == Time::NEVER && t.pace_at == Time::NEVER;
        if turn == Turn::Done && waits && t.out.is_empty() && t.has_unsent() {
            t.flags.set(Flags::PERSIST);
            t.backoff = 0;
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        }
        if t.acks_owed == 0 && !t.flags.has(Flags(Flags::ACK_NOW.0 | Flags::PROBE_NOW.0)) {
            return turn;
        }
        // The ACKs before the probe, which carries one too, but in a segment that the peer need not look into.
        if self.send_acks(t, net, tx, now) && self.send_probe(t, net, tx, now) { turn } else { Turn::Full }
    }

    /// Sends again what was lost, and then new data.
    #[inline(always)]
    fn send_stream(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> Turn {
        if t.out.next_lost().is_none() && !t.has_unsent() {
            return Turn::Done;
        }
        t.pace_at = Time::NEVER;
        let port = t.port as usize;
        let cuts = net.ifaces[port].tso_bytes_max > 0;
        let (mut limited, mut paced) = (false, false);
        let mut turn = Turn::Done;
        let mut budget = SEGMENTS_PER_PASS;
        loop {
            let lost = t.out.next_lost();
            if lost.is_none() {
                t.flags.clear(Flags::REXMIT_NOW); // It has come after all.
            }
            if lost.is_none() && !t.has_unsent() {
                // All of it is out: what the path could carry more, the owner does not have.
                if t.pipe() < t.window.cwnd {
                    let in_flight = t.out.in_flight();
                    t.rate.set_app_limited(in_flight);
                }
                break;
            }
            let allowed =
                if lost.is_some() { t.may_send_again(&self.segments[lost]) } else { t.may_send_next() };
            match allowed {
                Allowed::Yes => {}
                Allowed::NotByCongestion => {
                    limited = true;
                    break;
                }
                Allowed::NotByPeer => break,
            }
            if budget == 0 {
                turn = Turn::More;
                break;
            }
            if tx[port].room() == 0 {
                turn = Turn::Full;
                break;
            }
            if !t.flags.has(Flags::REXMIT_NOW) && !t.may_send_now(now) {
                (limited, paced) = (true, true);
                break;
            }
            if cuts && lost.is_none() {
                let n = self.send_bulk(t, net, tx, budget, now);
                if n > 0 {
                    budget -= n;
                    continue;
                }
            }
            budget -= 1;
            if lost.is_some() && self.lacks(t, lost).is_some() {
                // Its owner is asked, and once more as long as it has no memory for it.
                turn = Turn::Asks;
                t.pace_at = now.plus_ns(ASK_AGAIN_NS);
                paced = true;
                break;
            }
            let sent = if lost.is_some() {
                self.send_again(t, lost, net, tx, now)
            } else {
                self.send_new(t, net, tx, now)
            };
            if !sent {
                // No record for it: the ACK of those that it has itself, or their timeout, brings its next turn. One that
                // has none looks again soon, instead of in every pass: others may hold all for as long as they like.
                let has_record = if lost.is_some() {
                    !self.segments.is_full()
                } else {
                    self.segments.has_room_for(&t.out)
                };
                turn = if has_record { Turn::Full } else { Turn::Done };
                if turn == Turn::Done && t.out.is_empty() {
                    t.pace_at = now.plus_ns(NO_RECORD_NS);
                    paced = true;
                } else if turn == Turn::Done {
                    // It is not the path that holds it back.
                    let in_flight = t.out.in_flight();
                    t.rate.set_app_limited(in_flight);
                }
                break;
            }
        }
        if !paced && turn == Turn::Done {
            // What pacing had allowed, and something else did not, is gone.
            t.pace_next = t.pace_next.max(now);
        }
        let (in_flight, una, nxt) = (t.pipe(), t.snd_una, t.snd_nxt);
        t.recovery.note_flight(in_flight, limited, una, nxt);
        turn
    }

    /// A tail loss probe: new data when there is some, the last segment otherwise (RFC 8985 7.3).
    fn send_tail_probe(&mut self, t: &mut Tcb, net: &mut Net, tx: &mut [TxQueue], now: Time) -> bool {
        let last = t.out.last();
        let new = t.has_unsent()
            && t.snd_wnd.saturating_sub(t.flight()) >= u32::from(t.mss)
            && self.segments.has_room_for(&t.out);
        // One that is longer than the path takes by now, or whose bytes were let go, is not probed with: it will time out.
        let again = !new
            && last.is_some()
            && self.segments[last].place == Place::InFlight
            && self.segments[last].len <= t.mss
            && self.lacks(t, last).is_none();
        if new || again {
            if tx[t.port as usize].room() == 0 {
                return false;
            }
            let sent =
                if new { self.send_new(t, net, tx, now) } else { self.send_again(t, last, net, tx, now) };
            if !sent {
                if self.segments.has_room_for(&t.out) {
                    return false;
                }
                // No record for a probe: the timeout does without.
                t.flags.clear(Flags::TAIL_PROBE_NOW);
                t.probe_at = Time::NEVER;
                return true;
            }
            self.counters.inc(Ctr::TcpTailProbes);
            t.tally.tail_probes = t.tally.tail_probes.saturating_add(1);
            Tcp::probe_sent(t, new);
            t.probe_at = Time::NEVER;
            t.rexmit_at = now.plus_ns(t.rtt.rto_ns(t.backoff));
        }
        t.flags.clear(Flags::TAIL_PROBE_NOW);
        true
    }
}
