//! Requests out, responses in, and what is counted of both.

use dataplane::Time;
use sha2::{Digest, Sha256};

use super::client::{Client, Phase};
use super::response::{Fault, Step};
use super::slot::{Asked, State};
use super::tally::Count;

/// How long the server may take to close a connection whose last answer it has sent.
const ENDING_NS: u64 = 1_000_000_000;

impl Client {
    // ── Requests ────────────────────────────────────────────────────────────────────────────────────

    /// Whether a request waits to be sent, or may be begun.
    pub(super) fn has_work(&self) -> bool {
        if !self.t.again.is_empty() {
            return true;
        }
        match self.arrivals {
            Some(_) => {
                !self.t.waiting.is_empty()
                    && matches!(self.phase, Phase::Asking { .. } | Phase::Draining { .. })
            }
            None => self.is_asking() && self.left > 0,
        }
    }

    /// Takes the next request that is to be sent.
    fn work(&mut self, now: Time) -> Option<Asked> {
        if !self.has_work() {
            return None;
        }
        if let Some(asked) = self.t.again.pop() {
            return Some(asked);
        }
        let start = match self.arrivals {
            Some(_) => Time(self.t.waiting.pop()?),
            None => now,
        };
        let is_measured = start >= self.measure_from;
        if is_measured {
            self.tally.inc(Count::Requests);
            if self.arrivals.is_none() {
                self.left -= u64::from(self.left != u64::MAX);
            }
        }
        self.in_flight += 1;
        Some(Asked { start, sent: Time(0), request: self.pick(), is_measured })
    }

    /// One of the requests, by their weights.
    fn pick(&mut self) -> u32 {
        if self.shares.len() == 1 {
            return 0;
        }
        let at = self.rng.below(*self.shares.last().unwrap_or(&1));
        self.shares.partition_point(|sum| *sum <= at) as u32
    }

    /// Whether a connection has room for a request: one for each request has when there is none.
    fn has_room(&self, s: u32) -> bool {
        let slot = &self.t.slots[s as usize];
        if self.plan.close {
            slot.state == State::Down && slot.outstanding == 0 && !slot.is_paused
        } else {
            slot.state == State::Up && slot.outstanding < self.plan.pipeline
        }
    }

    /// Gives a connection all the work that it has room for; if there is more room, it waits for more work.
    pub(super) fn offer(&mut self, s: u32, now: Time) {
        while self.has_room(s) {
            let Some(asked) = self.work(now) else {
                self.make_ready(s);
                return;
            };
            let k = self.put(s, asked);
            if self.plan.close {
                let queued = self.t.to_open.push(s);
                debug_assert!(queued, "each connection waits once");
            } else {
                self.send(s, k, now);
            }
        }
    }

    /// Notes that a connection has room.
    pub(super) fn make_ready(&mut self, s: u32) {
        let slot = &mut self.t.slots[s as usize];
        if !slot.in_ready {
            slot.in_ready = true;
            let queued = self.t.ready.push(s);
            debug_assert!(queued, "each connection waits once");
        }
    }

    /// Where the `k`-th outstanding request of a connection is noted.
    fn place(&self, s: u32, k: u16) -> usize {
        let n = self.plan.pipeline;
        let mut at = self.t.slots[s as usize].first + k;
        if at >= n {
            at -= n;
        }
        s as usize * usize::from(n) + usize::from(at)
    }

    fn put(&mut self, s: u32, asked: Asked) -> usize {
        let place = self.place(s, self.t.slots[s as usize].outstanding);
        self.t.asked[place] = asked;
        self.t.slots[s as usize].outstanding += 1;
        place
    }

    /// Takes the oldest request of a connection.
    pub(super) fn take_first(&mut self, s: u32) -> Asked {
        let asked = self.t.asked[self.place(s, 0)];
        let slot = &mut self.t.slots[s as usize];
        debug_assert!(slot.outstanding > 0);
        slot.first += 1;
        if slot.first == self.plan.pipeline {
            slot.first = 0;
        }
        slot.outstanding -= 1;
        asked
    }

    /// Where it is noted.
    pub(super) fn first_place(&self, s: u32) -> usize {
        self.place(s, 0)
    }

    /// The oldest request of a connection that has any.
    pub(super) fn first(&self, s: u32) -> Asked {
        self.t.asked[self.place(s, 0)]
    }

    /// Sends the request that is noted at `place`, on a connection that is up.
    pub(super) fn send(&mut self, s: u32, place: usize, now: Time) {
        let asked = &mut self.t.asked[place];
        if self.arrivals.is_none() && asked.sent == Time(0) {
            asked.start = now;
        }
        asked.sent = now;
        let bytes = self.bytes[asked.request as usize].clone();
        let slot = &mut self.t.slots[s as usize];
        let tcp = &mut self.stack.tcp;
        if !slot.has_timer {
            slot.has_timer = true;
            tcp.set_timer(slot.flow, now.plus_ns(self.plan.timeout_ns));
        }
        let flow = slot.flow;
        let sent = match self.tls {
            None => self.stack.tcp.send(flow, bytes).is_ok(),
            Some(_) => self.send_sealed(s, &bytes),
        };
        if !sent {
            // Out of records, which are as many as requests can be: the server keeps what it was sent long ago
            // unacknowledged. It is of no more use.
            self.broken(s, Count::NoMemory, now);
        }
    }

    // ── Responses ───────────────────────────────────────────────────────────────────────────────────

    /// Reads what has come, and what its end means.
    pub(super) fn readable(&mut self, s: u32, now: Time) {
        let id = self.t.slots[s as usize].flow;
        if self.tls.is_some() {
            match self.secured_readable(s, now) {
                Ok(()) => {}
                Err(fault) => return self.faulty(s, fault, now),
            }
            // A handshake that has failed.
            if self.t.slots[s as usize].flow != id {
                return;
            }
        }
        while let Some(piece) = self.stack.tcp.read(id) {
            let taken = match self.t.slots[s as usize].state {
                State::Up => self.take(s, &piece, now),
                // What comes after the last answer is nobody's.
                _ => Ok(()),
            };
            self.stack.tcp.consume(id, piece.len() as u32);
            match taken {
                Ok(()) => {}
                Err(fault) => return self.faulty(s, fault, now),
            }
        }
        if self.stack.tcp.at_end(id) {
            self.ended(s, now);
        } else if self.t.slots[s as usize].state == State::Up {
            self.offer(s, now);
        }
    }

    /// What has come is of no use.
    fn faulty(&mut self, s: u32, fault: Fault, now: Time) {
        let why = match fault {
            Fault::NotHttp => Count::Parse,
            Fault::NoMemory => Count::NoMemory,
            Fault::Tls(_) => Count::Tls,
        };
        if self.t.slots[s as usize].state == State::Shaking {
            self.not_opened_for(s, why);
        }
        self.broken(s, why, now);
    }

    /// Takes a piece of the stream apart.
    pub(super) fn take(&mut self, s: u32, bytes: &[u8], now: Time) -> Result<(), Fault> {
        let Some(mut all) = self.t.slots[s as usize].response.gathered.take() else {
            let used = self.walk(s, bytes, now)?;
            return self.gather(s, &bytes[used..]);
        };
        if !all.append(bytes) {
            return Err(Fault::NoMemory);
        }
        let used = self.walk(s, all.head(), now)?;
        if used == 0 {
            self.t.slots[s as usize].response.gathered = Some(all);
            return Ok(());
        }
        self.gather(s, &all.head()[used..])
    }

    /// Keeps the start of something until the rest of it has come.
    fn gather(&mut self, s: u32, bytes: &[u8]) -> Result<(), Fault> {
        let slot = &mut self.t.slots[s as usize];
        if bytes.is_empty() || slot.state != State::Up {
            return Ok(());
        }
        let mut cell = self.heads.alloc().ok_or(Fault::NoMemory)?;
        if !cell.append(bytes) {
            return Err(Fault::NoMemory);
        }
        slot.response.gathered = Some(cell);
        Ok(())
    }

    /// Goes through `bytes`; gives how many are used up.
    fn walk(&mut self, s: u32, bytes: &[u8], now: Time) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let slot = &self.t.slots[s as usize];
            if slot.state != State::Up {
                return Ok(bytes.len());
            }
            if slot.outstanding == 0 {
                // Nobody has asked for more.
                return if at == bytes.len() { Ok(at) } else { Err(Fault::NotHttp) };
            }
            let asked = self.first(s);
            let method = self.plan.requests[asked.request as usize].method;
            let hashes = self.is_hashed(&asked);
            let slot = &mut self.t.slots[s as usize];
            let had_begun = slot.response.begun;
            let (step, used) = slot.response.step(&bytes[at..], method, &self.limits, &mut self.lines)?;
            if !had_begun && slot.response.begun && asked.is_measured {
                self.tally.first_byte.record(now.since_ns(asked.start));
            }
            at += used;
            if asked.is_measured {
                self.tally.add(Count::Bytes, used as u64);
            }
            match step {
                Step::More => return Ok(at),
                Step::Interim => self.tally.add(Count::Interim, asked.is_measured.into()),
                Step::Data(data) => {
                    if asked.is_measured {
                        self.tally.add(Count::BodyBytes, data.len() as u64);
                    }
                    if let (true, Some(all)) = (hashes, &mut self.t.hashes) {
                        all[s as usize].update(data);
                    }
                }
                Step::Done => self.answered(s, now),
            }
        }
    }

    fn is_hashed(&self, asked: &Asked) -> bool {
        self.t.hashes.is_some()
            && (self.plan.verify || self.wanted[asked.request as usize].is_some())
            && self.plan.requests[asked.request as usize].method != l7::http1::Method::Head
    }

    /// The oldest request of a connection is answered.
    pub(super) fn answered(&mut self, s: u32, now: Time) {
        let asked = self.take_first(s);
        self.in_flight -= 1;
        self.last_answer = now;
        let slot = &mut self.t.slots[s as usize];
        slot.served = slot.served.saturating_add(1);
        self.no_more_tickets(s);
        let slot = &mut self.t.slots[s as usize];
        let (status, keeps) = (slot.response.status, slot.response.keep_alive && !self.plan.close);
        let right = self.has_right_body(s, &asked);
        if asked.is_measured {
            self.tally.latency.record(now.since_ns(asked.start));
            self.tally.inc(Count::Responses);
            self.tally.inc(Count::of_status(status));
            if self.plan.requests[asked.request as usize].status.is_some_and(|wanted| wanted != status) {
                self.tally.inc(Count::WrongStatus);
            }
            if !right {
                self.tally.inc(Count::WrongBody);
            }
        }
        if !keeps {
            self.give_up(s, Count::Closed);
            let slot = &mut self.t.slots[s as usize];
            slot.state = State::Ending;
            slot.has_timer = true;
            self.stack.tcp.set_timer(slot.flow, now.plus_ns(ENDING_NS));
        }
    }

    /// Whether the body that has just come is what was wanted. The first of a request that is to be the same each time is
    /// what the others are held against.
    fn has_right_body(&mut self, s: u32, asked: &Asked) -> bool {
        if !self.is_hashed(asked) {
            return true;
        }
        let Some(all) = &mut self.t.hashes else { return true };
        let hash: [u8; 32] = std::mem::replace(&mut all[s as usize], Sha256::new()).finalize().into();
        *self.wanted[asked.request as usize].get_or_insert(hash) == hash
    }

    // ── Failures ────────────────────────────────────────────────────────────────────────────────────

    /// A request will not be answered.
    pub(super) fn lose(&mut self, asked: &Asked, why: Count) {
        self.in_flight -= 1;
        if asked.is_measured {
            self.tally.inc(Count::Failed);
            self.tally.inc(why);
        }
    }

    /// A connection answers no more. What it has not begun to answer is sent again, as RFC 9112 9.3.1 allows: when the
    /// connection has served before, so that the server may just have closed it, and the request may be repeated.
    pub(super) fn give_up(&mut self, s: u32, why: Count) {
        let may_repeat = {
            let slot = &mut self.t.slots[s as usize];
            let stale = slot.served > 0 && !slot.response.begun;
            slot.response.gathered = None;
            stale && matches!(why, Count::Closed | Count::Reset)
        };
        if let Some(all) = &mut self.t.hashes {
            all[s as usize] = Sha256::new();
        }
        while self.t.slots[s as usize].outstanding > 0 {
            let asked = self.take_first(s);
            let repeatable = self.plan.requests[asked.request as usize].method.is_idempotent();
            if may_repeat && repeatable && self.t.again.push(asked) {
                self.tally.add(Count::Resent, asked.is_measured.into());
            } else {
                self.lose(&asked, why);
            }
        }
    }

    /// A connection is of no more use.
    pub(super) fn broken(&mut self, s: u32, why: Count, now: Time) {
        // What has come so far answers nothing: none of the rest is sent again.
        self.t.slots[s as usize].response.begun = true;
        self.give_up(s, why);
        let id = self.t.slots[s as usize].flow;
        self.stack.tcp.abort(id);
        self.went_down(s, now);
    }
}
