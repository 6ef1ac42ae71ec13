//! Deadlines: retransmission (RFC 6298), persist, delayed ACK, keep-alive, lingering, the owner's.

use dataplane::{Ctr, Time};

use super::Tcp;
use super::tcb::{CloseReason, Events, Flags, FlowId, State};

/// Expiries handled in one pass at most; the rest is carried, and counted (DESIGN.md 6).
pub const EXPIRIES_PER_PASS: usize = 256;
/// Retransmissions of a SYN before we give up: 1 + 2 + 4 + … s, beyond the 3 minutes of RFC 9293 3.8.3.
const SYN_TRIES: u8 = 7;
/// Retransmissions of data: more than the 100 s of RFC 9293 3.8.3 (R2).
const DATA_TRIES: u8 = 12;
/// The same for a connection whose owner has left: nobody waits for it.
const ORPHAN_TRIES: u8 = 7;
/// Silence between two keep-alive probes.
const KEEP_ALIVE_INTERVAL_NS: u64 = 10_000_000_000;
/// Keep-alive probes without answer before we give up.
const KEEP_ALIVE_TRIES: u8 = 6;
/// How long an orphan waits for its peer.
pub const LINGER_NS: u64 = 30_000_000_000;
/// How long an orphan lasts in all, however its peer goes on: what is left to send then are two windows at most.
pub const LINGER_MAX_NS: u64 = 300_000_000_000;
/// How long the peer may be silent in FIN-WAIT-2 before it is probed (Linux: for ever, while the socket has an owner).
pub const FIN_WAIT_2_NS: u64 = 60_000_000_000;
/// Back-off of window probes once the peer has shown that it lives: they go on without end.
pub const PERSIST_BACKOFF_MAX: u8 = 6;

impl Tcp {
    /// Runs what is due. Gives whether anything was.
    pub fn timers(&mut self, now: Time) -> bool {
        self.now_us = super::rate::micros(now);
        let mut due: [FlowId; EXPIRIES_PER_PASS] = [FlowId::NONE; EXPIRIES_PER_PASS];
        let mut n = 0;
        let more = self.wheel.expire(now, EXPIRIES_PER_PASS, |_, id| {
            due[n] = id;
            n += 1;
        });
        if more {
            self.counters.inc(Ctr::TcpTimersCarried);
        }
        for id in &due[..n] {
            self.expired(*id, now);
        }
        self.time_wait.expire(now, EXPIRIES_PER_PASS);
        self.set_gauges();
        n > 0
    }

    /// When `timers` must run next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next_deadline()
    }

    fn expired(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        if t.ack_at <= now {
            t.ack_at = Time::NEVER;
            t.flags.set(Flags::ACK_NOW);
            self.counters.inc(Ctr::TcpDelayedAcks);
            self.want_output(id);
        }
        let t = &mut self.table.flows[id];
        if t.pace_at <= now {
            t.pace_at = Time::NEVER;
            self.want_output(id);
        }
        if self.table.flows[id].probe_at <= now {
            self.probe_due(id, now);
        }
        if self.table.flows[id].rexmit_at <= now && !self.retransmit_due(id, now) {
            return;
        }
        if self.table.flows[id].idle_at <= now && !self.idle_due(id, now) {
            return;
        }
        let t = &mut self.table.flows[id];
        if t.user_at <= now {
            t.user_at = Time::NEVER;
            if t.flags.has(Flags::ORPHAN) {
                // Byte by byte, nobody would ever end it.
                self.counters.inc(Ctr::TcpLingerOver);
                self.abort(id);
                return;
            }
            self.raise(id, Events::TIMEOUT);
        }
        // The wheel may have fired for a deadline that has moved since.
        self.rearm(id);
    }

    /// The retransmission timer. Gives whether the connection goes on.
    fn retransmit_due(&mut self, id: FlowId, now: Time) -> bool {
        let t = &mut self.table.flows[id];
        let syn = matches!(t.state, State::SynSent | State::SynReceived);
        let orphan = t.flags.has(Flags::ORPHAN);
        let tries = if syn {
            SYN_TRIES
        } else if orphan {
            ORPHAN_TRIES
        } else {
            DATA_TRIES
        };
        // A peer that answers probes keeps us waiting as long as it likes; one that does not, is gone.
        let silent = !t.flags.has(Flags::PERSIST) || now.since_ns(t.last_heard) > t.rtt.rto_ns(t.backoff);
        if t.backoff >= tries && (silent || orphan) {
            self.counters.inc(Ctr::TcpTimeouts);
            if t.state == State::SynSent {
                self.counters.inc(Ctr::TcpActiveFailed);
            }
            self.finish(id, CloseReason::TimedOut);
            return false;
        }
        t.backoff = t.backoff.saturating_add(1);
        t.rexmit_at = now.plus_ns(t.rtt.rto_ns(t.backoff));
        if t.flags.has(Flags::PERSIST) {
            t.flags.set(Flags::PROBE_NOW);
            if !t.out.is_empty() {
                t.tally.goes_on(super::rate::micros(now));
            }
            self.counters.inc(Ctr::TcpZeroWindowProbes);
        } else if syn {
            t.flags.set(Flags::SYN_NOW);
            t.flags.clear(Flags::TIMING);
            self.counters.inc(Ctr::TcpRto);
        } else if !t.out.is_empty() {
            t.tally.goes_on(super::rate::micros(now));
            if t.backoff >= 2 {
                self.mtu_suspect(id, now);
            }
            self.retransmit_timeout(id, now);
        } else {
            t.rexmit_at = Time::NEVER;
            return true;
        }
        self.want_output(id);
        true
    }

    /// Keep-alive, FIN-WAIT-2, lingering. Gives whether the connection goes on.
    fn idle_due(&mut self, id: FlowId, now: Time) -> bool {
        let t = &mut self.table.flows[id];
        if t.flags.has(Flags::ORPHAN) {
            // Data that is still being acknowledged keeps it; a peer that only keeps us open does not.
            if t.snd_una != t.linger_una {
                t.linger_una = t.snd_una;
                t.idle_at = now.plus_ns(LINGER_NS);
                return true;
            }
            self.counters.inc(Ctr::TcpTimeouts);
            self.abort(id);
            return false;
        }
        let quiet = now.since_ns(t.last_heard);
        // A peer in FIN-WAIT-2 need not say anything, and what it says may be retransmitted as seldom as its own longest
        // timeout lets it: it is asked whether it is there. How long one may be that only says yes, is the owner's to know.
        let patience = if t.state == State::FinWait2 { FIN_WAIT_2_NS } else { self.config.keep_alive_ns };
        if quiet < patience {
            t.idle_at = t.last_heard.plus_ns(patience);
            t.probes = 0;
            return true;
        }
        if t.probes >= KEEP_ALIVE_TRIES {
            self.counters.inc(Ctr::TcpTimeouts);
            self.finish(id, CloseReason::TimedOut);
            return false;
        }
        t.probes += 1;
        t.idle_at = now.plus_ns(KEEP_ALIVE_INTERVAL_NS);
        t.flags.set(Flags::PROBE_NOW);
        self.counters.inc(Ctr::TcpKeepAlives);
        self.want_output(id);
        true
    }
}
