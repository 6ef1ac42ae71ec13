//! The handshakes of one core: a bounded number of them, those that can go on in a queue, so many steps a pass.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::{Counters, Ctr, Time};
use hugepages::{SlabIndex, typed_index};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, Error};
use stack::FlowId;

use super::front::Front;
use super::handshake::{Established, Failure, FailureKind, Handshake, INPUT_BYTES_MAX, Progress};
use super::hello::{Peek, peek};

typed_index! {
    /// A handshake under way.
    pub struct HandshakeId;
}

/// Steps in a pass: each may cost as much as some hundred packets.
const STEPS_A_PASS: u32 = 1;

/// What has come of a handshake.
pub enum Outcome {
    /// These bytes are to be sent.
    Send(Vec<u8>),
    /// It is done; the entry of the front that was presented.
    Established(Box<Established>, u16),
    /// It has failed. What the peer is to be told has come as [`Outcome::Send`].
    Failed(Box<Failure>),
}

/// One that is under way.
struct Under {
    flow: FlowId,
    handshake: Option<Handshake>,
    /// What came and has not been given to rustls.
    input: Vec<u8>,
    ended: bool,
    queued: bool,
    entry: u16,
}

/// Those of one core.
pub struct Handshakes {
    slots: Vec<Option<Box<Under>>>,
    free: Vec<u32>,
    queue: VecDeque<HandshakeId>,
    outbox: VecDeque<(FlowId, Outcome)>,
    steps: u32,
    counters: Counters,
}

impl Handshakes {
    /// Room for `n` at a time.
    pub fn new(n: u32, counters: Counters) -> Handshakes {
        Handshakes {
            slots: (0..n).map(|_| None).collect(),
            free: (0..n).rev().collect(),
            queue: VecDeque::with_capacity(n as usize),
            outbox: VecDeque::new(),
            steps: 0,
            counters,
        }
    }

    /// A client's connection begins. `None`: there is no room.
    pub fn start_server(&mut self, flow: FlowId, _source: IpAddr, _now: Time) -> Option<HandshakeId> {
        self.start(flow, None)
    }

    /// We begin, on a connection of ours. `None`: there is no room.
    pub fn start_client(
        &mut self,
        flow: FlowId,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
        _now: Time,
    ) -> Option<HandshakeId> {
        let handshake = Handshake::client(Arc::clone(config), name.clone()).ok()?;
        let id = self.start(flow, Some(handshake))?;
        self.enqueue(id);
        Some(id)
    }

    fn start(&mut self, flow: FlowId, handshake: Option<Handshake>) -> Option<HandshakeId> {
        let Some(n) = self.free.pop() else {
            self.counters.inc(Ctr::TlsHandshakesShed);
            return None;
        };
        let under = Under { flow, handshake, input: Vec::new(), ended: false, queued: false, entry: 0 };
        self.slots[n as usize] = Some(Box::new(under));
        Some(HandshakeId::from_u32(n))
    }

    fn enqueue(&mut self, id: HandshakeId) {
        if let Some(u) = &mut self.slots[id.to_u32() as usize]
            && !std::mem::replace(&mut u.queued, true)
        {
            self.queue.push_back(id);
        }
    }

    /// Bytes have come for it.
    pub fn input(&mut self, id: HandshakeId, bytes: &[u8]) {
        if let Some(u) = &mut self.slots[id.to_u32() as usize] {
            // One byte more than there may be says that there were too many.
            let room = (INPUT_BYTES_MAX + 1).saturating_sub(u.input.len());
            u.input.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.enqueue(id);
    }

    /// No more bytes will come.
    pub fn ended(&mut self, id: HandshakeId) {
        if let Some(u) = &mut self.slots[id.to_u32() as usize] {
            u.ended = true;
        }
        self.enqueue(id);
    }

    /// Nobody wants it any more.
    pub fn cancel(&mut self, id: HandshakeId) {
        if self.slots[id.to_u32() as usize].take().is_some() {
            self.free.push(id.to_u32());
        }
    }

    /// Whether there is something to be done.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.outbox.is_empty()
    }

    /// The next thing that has come of one. `None`: nothing more, or not in this pass.
    pub fn step(&mut self, front: Option<&Arc<Front>>, _now: Time) -> Option<(FlowId, Outcome)> {
        loop {
            if let Some(outcome) = self.outbox.pop_front() {
                return Some(outcome);
            }
            if self.steps >= STEPS_A_PASS || self.queue.is_empty() {
                self.steps = 0;
                return None;
            }
            let id = self.queue.pop_front()?;
            self.advance(id, front);
        }
    }

    fn advance(&mut self, id: HandshakeId, front: Option<&Arc<Front>>) {
        let Some(u) = &mut self.slots[id.to_u32() as usize] else { return };
        u.queued = false;
        let mut out = Vec::new();
        let done = u.go(front, &mut out, &mut self.steps);
        let flow = u.flow;
        if !out.is_empty() {
            self.outbox.push_back((flow, Outcome::Send(out)));
        }
        let outcome = match done {
            Ok(Progress::WantsMore) => return,
            Ok(Progress::Done(e)) => {
                self.counters.inc(if e.resumed { Ctr::TlsHandshakesResumed } else { Ctr::TlsHandshakesFull });
                Outcome::Established(e, u.entry)
            }
            Err(failure) => {
                self.counters.inc(Ctr::TlsHandshakesFailed);
                Outcome::Failed(Box::new(failure))
            }
        };
        self.outbox.push_back((flow, outcome));
        self.cancel(id);
    }
}

impl Under {
    fn go(
        &mut self,
        front: Option<&Arc<Front>>,
        out: &mut Vec<u8>,
        steps: &mut u32,
    ) -> Result<Progress, Failure> {
        if self.input.len() > INPUT_BYTES_MAX {
            return Err(failure(AlertDescription::DecodeError, out));
        }
        let handshake = match &mut self.handshake {
            Some(h) => h,
            None => {
                let mut joined = Vec::new();
                let hello = match peek(&self.input, &mut joined) {
                    Ok(Peek::Hello(hello)) => hello,
                    Ok(_) if self.ended => return Err(failure(AlertDescription::CloseNotify, out)),
                    Ok(_) => return Ok(Progress::WantsMore),
                    Err(alert) => return Err(failure(alert, out)),
                };
                let front = front.ok_or_else(|| failure(AlertDescription::InternalError, out))?;
                let choice = front.choose(&hello).map_err(|alert| failure(alert, out))?;
                self.entry = choice.entry;
                let handshake = Handshake::server(choice.config)
                    .map_err(|error| Failure { kind: FailureKind::Internal, error })?;
                self.handshake.insert(handshake)
            }
        };
        *steps += 1;
        // No more than it wants: what comes behind the handshake is not its.
        let mut at = 0;
        let mut progress = handshake.advance(&[], out)?;
        while let (Progress::WantsMore, true) = (&progress, at < self.input.len()) {
            let n = handshake.wants().max(1).min(self.input.len() - at);
            progress = handshake.advance(&self.input[at..at + n], out)?;
            at += n;
        }
        if let Progress::Done(e) = &mut progress {
            e.unread.extend_from_slice(&self.input[at..]);
        }
        self.input.drain(..at);
        match progress {
            Progress::WantsMore if self.ended => Err(failure(AlertDescription::CloseNotify, out)),
            progress => Ok(progress),
        }
    }
}

/// A failure before rustls has had a say: the alert, in a record of its own.
fn failure(alert: AlertDescription, out: &mut Vec<u8>) -> Failure {
    if alert != AlertDescription::CloseNotify {
        out.extend_from_slice(&[21, 3, 3, 0, 2, 2, alert.into()]);
    }
    Failure { kind: FailureKind::Protocol, error: Error::AlertReceived(alert) }
}
