//! Connections: opened as the ramp allows, lost, timed out, opened again.

use dataplane::Time;
use l7::tls::origin::{Reason, Refusal};
use stack::{CloseReason, ConnectError, FlowId};

use super::client::{Client, Phase};
use super::response::Response;
use super::slot::{Pause, State};
use super::tally::Count;

/// SYNs of one pass.
const PER_PASS: usize = 64;
/// Connections that are being opened at once, where they are kept: more than listeners have places for would be lost, and
/// wait a second for their next SYN. Those that are opened for a request each are as many as were asked for.
pub(super) const OPENING_MAX: u32 = 256;
/// After a failure, and when there is no port.
const PAUSE_NS: u64 = 50_000_000;
/// Sources that are tried for one connection.
const SOURCES_TRIED: u64 = 8;
/// What is to be done about a server that nothing is heard of.
pub(super) const LOOK: &str = "look whether it listens, and at the way there";
/// What the ramp saves up, for a core that comes too late.
const RAMP_SAVED_NS: u64 = 1_000_000;

impl Client {
    /// Whether connections that wait to be opened are to be: at the end, only for requests that are still to be sent.
    fn may_open(&self) -> bool {
        match self.phase {
            Phase::Opening | Phase::Asking { .. } => true,
            Phase::Draining { .. } => {
                self.plan.close || !self.t.again.is_empty() || !self.t.waiting.is_empty()
            }
            _ => false,
        }
    }

    fn has_place(&self) -> bool {
        self.plan.close || self.opening < OPENING_MAX
    }

    /// When the next connection can be opened, as far as time decides that.
    pub(super) fn next_open(&self) -> Time {
        if !self.may_open() {
            return Time::NEVER;
        }
        let paused = self.t.paused.front().map_or(Time::NEVER, |p| p.until);
        let next = if self.t.to_open.is_empty() || !self.has_place() { Time::NEVER } else { self.ramp_at };
        paused.min(next)
    }

    /// Opens connections. Gives whether any was.
    pub(super) fn open_some(&mut self, room: usize, now: Time) -> bool {
        if !self.may_open() {
            return false;
        }
        let mut n = 0;
        while n < PER_PASS && self.t.paused.front().is_some_and(|p| p.until <= now) {
            let Some(p) = self.t.paused.pop() else { break };
            n += 1;
            let slot = &mut self.t.slots[p.slot as usize];
            slot.is_paused = false;
            if self.plan.close && slot.outstanding == 0 {
                self.offer(p.slot, now);
            } else {
                self.queue(p.slot);
            }
        }
        let mut opened = 0;
        while opened < PER_PASS.min(room) && self.has_place() && self.ramp_at <= now {
            let Some(s) = self.t.to_open.pop() else { break };
            opened += 1;
            if let Some(per_second) = self.plan.ramp {
                let from = self.ramp_at.max(Time(now.0.saturating_sub(RAMP_SAVED_NS)));
                self.ramp_at = from.plus_ns((1e9 / per_second) as u64);
            }
            if !self.open(s, now) {
                // Looking for a port that is free is dear when none is: not again in this pass.
                break;
            }
        }
        n + opened > 0
    }

    fn queue(&mut self, s: u32) {
        let queued = self.t.to_open.push(s);
        debug_assert!(queued, "each connection waits once");
    }

    fn pause(&mut self, s: u32, now: Time) {
        self.t.slots[s as usize].is_paused = true;
        let queued = self.t.paused.push(Pause { until: now.plus_ns(PAUSE_NS), slot: s });
        debug_assert!(queued, "each connection waits once");
    }

    /// Gives whether its SYN is on its way.
    fn open(&mut self, s: u32, now: Time) -> bool {
        let mut found = Err(ConnectError::NoPort);
        let all: u64 = self.plan.sources.iter().map(|s| u64::from(s.count())).sum();
        let tries = all.clamp(1, SOURCES_TRIED);
        for _ in 0..tries {
            let source = self.source();
            found = self.stack.tcp.connect_as(&self.stack.net, source, self.plan.server, now);
            if found != Err(ConnectError::NoPort) {
                break;
            }
        }
        let id = match found {
            Ok(id) => id,
            Err(e) => {
                let why = match e {
                    ConnectError::NoPort => Count::NoPort,
                    ConnectError::NoFlow => Count::NoFlow,
                    // There was a way when it began.
                    ConnectError::NoRoute => Count::ConnectUnreachable,
                };
                self.tally.inc(why);
                self.refusal
                    .get_or_insert_with(|| ("cannot be reached from any port of ours".to_owned(), LOOK));
                self.pause(s, now);
                return false;
            }
        };
        let tcp = &mut self.stack.tcp;
        tcp.set_user(id, u64::from(s) + 1);
        tcp.set_timer(id, now.plus_ns(self.plan.timeout_ns));
        let slot = &mut self.t.slots[s as usize];
        slot.flow = id;
        slot.state = State::Opening;
        slot.has_timer = true;
        slot.served = 0;
        slot.since = now;
        slot.response = Response::new(&self.limits);
        self.opening += 1;
        true
    }

    /// The address that the next connection comes from.
    fn source(&mut self) -> Option<stack::Addr> {
        let i = self.next_source;
        self.next_source = i.wrapping_add(1);
        let n = self.plan.sources.len() as u32;
        let range = self.plan.sources.get(i.checked_rem(n)? as usize)?;
        Some(range.nth(i / n))
    }

    pub(super) fn connected(&mut self, s: u32, now: Time) {
        let slot = &mut self.t.slots[s as usize];
        debug_assert!(slot.state == State::Opening);
        let took = now.since_ns(slot.since);
        self.tally.inc(Count::Connects);
        self.tally.connect.record(took);
        if self.tls.is_none() {
            self.up(s, now);
        } else if !self.shake_hands(s, now) {
            self.not_opened_for(s, Count::NoMemory);
            let id = self.t.slots[s as usize].flow;
            self.stack.tcp.abort(id);
            self.went_down(s, now);
        }
    }

    /// The connection can be used.
    pub(super) fn up(&mut self, s: u32, now: Time) {
        let slot = &mut self.t.slots[s as usize];
        slot.state = State::Up;
        slot.has_timer = false;
        self.stack.tcp.set_timer(slot.flow, Time::NEVER);
        self.opening -= 1;
        self.open += 1;
        if self.t.slots[s as usize].outstanding > 0 {
            let place = self.first_place(s);
            self.send(s, place, now);
        } else {
            self.offer(s, now);
        }
    }

    /// The server will send no more.
    pub(super) fn ended(&mut self, s: u32, now: Time) {
        let slot = &mut self.t.slots[s as usize];
        match slot.state {
            State::Shaking => self.not_shaken(s, Refusal::plain(Reason::Closed)),
            State::Up => {
                // Without its close_notify, what came may not be all.
                if self.is_whole(s) {
                    let slot = &mut self.t.slots[s as usize];
                    if slot.outstanding > 0 && slot.response.end() {
                        self.answered(s, now);
                    }
                }
                self.give_up(s, Count::Closed);
            }
            _ => {}
        }
        let id = self.t.slots[s as usize].flow;
        self.stack.tcp.orphan(id, now);
        self.went_down(s, now);
    }

    /// The engine says that a connection is over.
    pub(super) fn closed(&mut self, s: u32, now: Time) {
        let id = self.t.slots[s as usize].flow;
        let reason = self.stack.tcp.close_reason(id);
        match self.t.slots[s as usize].state {
            State::Opening => self.not_opened(s, reason),
            State::Shaking => self.not_shaken(s, Refusal::plain(Reason::Closed)),
            _ => {
                let why = match reason {
                    CloseReason::TimedOut => Count::Timeout,
                    CloseReason::Done => Count::Closed,
                    _ => Count::Reset,
                };
                self.give_up(s, why);
            }
        }
        self.stack.tcp.release(id);
        self.went_down(s, now);
    }

    /// A connection could not be opened; nor can the request that it was for be answered.
    fn not_opened(&mut self, s: u32, reason: CloseReason) {
        let (why, said) = match reason {
            CloseReason::TimedOut => (Count::ConnectTimeout, "does not answer"),
            CloseReason::Unreachable => (Count::ConnectUnreachable, "cannot be reached"),
            _ => (Count::ConnectRefused, "refuses connections"),
        };
        self.refusal = Some((said.to_owned(), LOOK));
        self.not_opened_for(s, why);
    }

    /// Counts a connection that came to nothing, or the request that it was for.
    pub(super) fn not_opened_for(&mut self, s: u32, why: Count) {
        if self.t.slots[s as usize].outstanding == 0 {
            self.tally.inc(why);
        }
        while self.t.slots[s as usize].outstanding > 0 {
            let asked = self.take_first(s);
            self.lose(&asked, why);
        }
    }

    /// The time that was set for a connection is over.
    pub(super) fn timed_out(&mut self, s: u32, now: Time) {
        let slot = &mut self.t.slots[s as usize];
        slot.has_timer = false;
        let id = slot.flow;
        match slot.state {
            State::Opening | State::Shaking => {
                if slot.state == State::Opening {
                    self.not_opened(s, CloseReason::TimedOut);
                } else {
                    self.not_shaken(s, Refusal::plain(Reason::Timeout));
                }
                self.stack.tcp.abort(id);
                self.went_down(s, now);
            }
            State::Up if slot.outstanding > 0 => {
                let until = self.first(s).sent.plus_ns(self.plan.timeout_ns);
                if until <= now {
                    self.broken(s, Count::Timeout, now);
                } else {
                    self.t.slots[s as usize].has_timer = true;
                    self.stack.tcp.set_timer(id, until);
                }
            }
            // The server has not closed: we do.
            State::Ending => {
                self.stack.tcp.orphan(id, now);
                self.went_down(s, now);
            }
            State::Up | State::Down => {}
        }
    }

    /// A connection is gone: another follows.
    pub(super) fn went_down(&mut self, s: u32, now: Time) {
        let slot = &mut self.t.slots[s as usize];
        debug_assert!(slot.outstanding == 0);
        let was = std::mem::take(&mut slot.state);
        slot.flow = FlowId::NONE;
        slot.has_timer = false;
        slot.response.gathered = None;
        self.forget_tls(s);
        match was {
            State::Opening | State::Shaking => {
                self.opening -= 1;
                self.pause(s, now);
                return;
            }
            State::Up | State::Ending => self.open -= 1,
            State::Down => {}
        }
        if self.plan.close {
            self.offer(s, now);
        } else {
            self.queue(s);
        }
    }
}
