//! A handshake's turn: a hello is answered, a record is taken a step further, or either is left to a helper.

use std::mem;
use std::sync::Arc;

use dataplane::Ctr;
use hugepages::SlabIndex;
use rustls::{AlertDescription, ServerConfig};

use super::super::front::Front;
use super::super::handshake::{Failure, FailureKind, Handshake, Progress};
use super::super::hello::{self, Peek};
use super::super::offload::Helper;
use super::super::slow;
use super::budget::{HELLO, HELPED, STEP, TRIFLE, VERIFY};
use super::slot::{Early, Read, Room, Side, State, read_hello, read_record};
use super::{HandshakeId, Handshakes, Outcome, Peers};

/// What a turn came to.
pub(super) enum Turn {
    /// The peer's turn.
    Waits,
    /// There is more to be done.
    Again,
    /// The next step is for a helper.
    Slow,
    /// It is a helper's, or over.
    Left,
}

impl Handshakes {
    /// What one is to do next, as far as the core does it.
    pub(super) fn turn(&mut self, number: u32, front: &Front, peers: &mut impl Peers) -> Turn {
        let helps_out = self.helps_out();
        let slot = &mut self.slots[number as usize];
        match &mut slot.state {
            State::Hello { bytes, shown } => {
                let progress = read_hello(bytes, shown, slot.flow, peers);
                if progress == Read::Missing {
                    return Turn::Waits;
                }
                let bytes = mem::take(bytes);
                self.answer_hello(number, &bytes, front, peers)
            }
            State::Asks(config, name) => {
                self.budget.spend(HELLO);
                slot.by_client = config.client_auth_cert_resolver.has_certs();
                self.out.clear();
                let begun = Handshake::client(config.clone(), name.clone());
                let result = begun.map_err(|error| Failure { kind: FailureKind::Internal, error }).and_then(
                    |mut handshake| {
                        let result = handshake.advance(&[], &mut self.out);
                        slot.state = State::Running { handshake: Box::new(handshake) };
                        result
                    },
                );
                self.settle(number, result, peers)
            }
            State::Running { handshake } => {
                let room = Room {
                    verifies: slot.verifies,
                    by_client: slot.by_client,
                    is_long: &mut slot.is_long,
                    places: &mut self.long,
                };
                match read_record(handshake, slot.flow, (slot.early, &mut slot.taken), room, peers) {
                    Read::Missing => return Turn::Waits,
                    Read::NoRoom => {
                        self.counters.inc(Ctr::TlsShedLong);
                        self.out.clear();
                        let failure = Failure::internal("no place for certificates that long");
                        return self.settle(number, Err(failure), peers);
                    }
                    Read::Whole => {}
                }
                // An origin's certificates may come in one record with its hello.
                let is_slow = slot.is_slow || slot.side == Side::Client && handshake.has_more_than_hello();
                let is_trifle = handshake.is_trifle();
                // Early data is answered at once, which only the core can do.
                let had_better = helps_out && !is_trifle && slot.early == Early::None;
                if had_better || is_slow && self.helper.is_some() {
                    return Turn::Slow;
                }
                self.budget.spend(match slot.side {
                    _ if is_slow => VERIFY,
                    _ if is_trifle => TRIFLE,
                    Side::Client => HELLO,
                    Side::Server => STEP,
                });
                self.out.clear();
                let mut advance = || handshake.advance(&[], &mut self.out);
                // What would sign slowly has been foreseen; if not, it comes to nothing.
                let result = if self.helper.is_some() { slow::without(advance).0 } else { advance() };
                self.settle(number, result, peers)
            }
            State::Free | State::Away => Turn::Left,
        }
    }

    /// A whole hello, or what can't become one.
    fn answer_hello(&mut self, number: u32, bytes: &[u8], front: &Front, peers: &mut impl Peers) -> Turn {
        self.budget.spend(TRIFLE);
        let helps_out = self.helps_out();
        let slot = &mut self.slots[number as usize];
        let seen = match hello::peek(bytes, &mut self.joined) {
            Ok(Peek::Hello(hello)) => hello,
            Ok(Peek::Partial) => {
                slot.state = State::Hello { bytes: bytes.to_vec(), shown: bytes.len() };
                return Turn::Again;
            }
            Err(alert) => return self.refuse(number, alert, FailureKind::Protocol, peers),
        };
        let resumes = seen.resumes;
        slot.name = seen.server_name.and_then(|name| std::str::from_utf8(name).ok()).map(Box::from);
        let choice = match front.choose(&seen) {
            Ok(choice) => choice,
            Err(alert) => {
                self.counters.inc(Ctr::TlsUnknownName);
                return self.refuse(number, alert, FailureKind::Incompatible, peers);
            }
        };
        (slot.entry, slot.verifies, slot.slow_exchange) =
            (choice.entry, choice.verifies, choice.slow_exchange);
        slot.policy = choice.policy;
        slot.by_client = choice.verifies;
        slot.early = if seen.early_data { Early::Offered } else { Early::None };
        let helped = self.helper.is_some();
        let is_too_much =
            self.new.len() >= self.limits.waiting && self.helper.as_ref().is_some_and(Helper::has_room);
        let begin = |config: &Arc<ServerConfig>| {
            Handshake::server(config.clone()).map(|mut handshake| {
                if !choice.verifies {
                    handshake.expect_no_certificates();
                }
                if seen.early_data {
                    handshake.expect_early(config.max_early_data_size);
                }
                handshake.give(bytes);
                Box::new(handshake)
            })
        };
        let Ok(mut handshake) = begin(&choice.config) else {
            return self.refuse(number, AlertDescription::InternalError, FailureKind::Internal, peers);
        };
        if helped && ((choice.slow && !resumes) || choice.slow_exchange || is_too_much || helps_out) {
            slot.state = State::Running { handshake };
            self.budget.spend(HELPED - TRIFLE);
            return Turn::Slow;
        }
        self.budget.spend(HELLO - TRIFLE);
        self.out.clear();
        let result = if helped {
            let (result, was_refused) = slow::without(|| handshake.advance(&[], &mut self.out));
            if was_refused && let Ok(again) = begin(&choice.config) {
                slot.state = State::Running { handshake: again };
                return Turn::Slow;
            }
            result
        } else {
            handshake.advance(&[], &mut self.out)
        };
        slot.state = State::Running { handshake };
        self.settle(number, result, peers)
    }

    /// Whether a helper takes a step that the core could do: the core has much else to do.
    fn helps_out(&self) -> bool {
        self.budget.is_busy() && self.helper.as_ref().is_some_and(Helper::has_room)
    }

    /// Sends what there is in `out`, and sees what a step came to.
    pub(super) fn settle(
        &mut self,
        number: u32,
        mut result: Result<Progress, Failure>,
        peers: &mut impl Peers,
    ) -> Turn {
        let (id, slot) = (HandshakeId::from_u32(number), &mut self.slots[number as usize]);
        let flow = slot.flow;
        if let State::Running { handshake } = &mut slot.state
            && handshake.take_over()
        {
            self.counters.inc(Ctr::TlsSessionOver);
        }
        if !self.out.is_empty() {
            peers.outcome(id, flow, Outcome::Send(&self.out));
        }
        let early = match (&mut slot.state, &mut result) {
            (_, Ok(Progress::Done(established))) => mem::take(&mut established.early),
            (State::Running { handshake, .. }, Ok(Progress::WantsMore)) => handshake.take_early(),
            _ => Vec::new(),
        };
        if !early.is_empty() {
            if mem::replace(&mut slot.early, Early::Taken) != Early::Taken {
                self.counters.inc(Ctr::TlsEarlyTaken);
            }
            peers.outcome(id, flow, Outcome::Early { entry: slot.entry, data: &early });
        }
        let done = mem::take(&mut slot.taken).saturating_sub(early.len());
        if done > 0 {
            peers.consume(flow, done);
        }
        match result {
            Ok(Progress::WantsMore) => {
                let State::Running { handshake } = &slot.state else { return Turn::Left };
                // The second hello of two need not ask for what the first has asked for.
                slot.is_slow = (slot.slow_exchange && handshake.is_tls12())
                    || handshake.is_retrying()
                    || (slot.verifies && handshake.is_full());
                if peers.received(flow).is_empty() { Turn::Waits } else { Turn::Again }
            }
            Ok(Progress::Done(mut established)) => {
                (established.entry, established.policy) = (slot.entry, slot.policy);
                established.server_name = slot.name.take();
                if slot.early == Early::Offered {
                    self.counters.inc(Ctr::TlsEarlyRefused);
                }
                self.counters.inc(match (slot.side, established.resumed) {
                    (Side::Server, false) => Ctr::TlsFull,
                    (Side::Server, true) => Ctr::TlsResumed,
                    (Side::Client, false) => Ctr::TlsOriginFull,
                    (Side::Client, true) => Ctr::TlsOriginResumed,
                });
                self.end(number);
                peers.outcome(id, flow, Outcome::Established(established));
                Turn::Left
            }
            Err(failure) => {
                self.counters.inc(match (slot.side, failure.kind) {
                    (Side::Client, _) => Ctr::TlsOriginFailed,
                    (Side::Server, FailureKind::Protocol) => Ctr::TlsFailedProtocol,
                    (Side::Server, FailureKind::Incompatible) => Ctr::TlsFailedIncompatible,
                    (Side::Server, FailureKind::Certificate) => Ctr::TlsFailedCertificate,
                    (Side::Server, FailureKind::Alert) => Ctr::TlsFailedAlert,
                    (Side::Server, FailureKind::Internal) => Ctr::TlsFailedInternal,
                });
                self.end(number);
                peers.outcome(id, flow, Outcome::Failed(failure));
                Turn::Left
            }
        }
    }

    /// Fails what rustls has not seen.
    fn refuse(
        &mut self,
        number: u32,
        alert: AlertDescription,
        kind: FailureKind,
        peers: &mut impl Peers,
    ) -> Turn {
        self.out.clear();
        self.out.extend_from_slice(&[21, 3, 3, 0, 2, 2, alert.into()]);
        self.settle(number, Err(Failure::refused(kind, alert)), peers)
    }
}
