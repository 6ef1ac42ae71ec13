//! The connections whose handshakes are under way, as [`Handshakes`](crate::tls::Handshakes) needs them.

use std::rc::Rc;

use dataplane::{Counters, Ctr};
use stack::{FlowId, Tcp};

use super::secured::{HAS_CLOSED, IS_CLIENT, Phase, Places, Rare};
use super::{RECORD_BYTES_MAX, RecordCells, secured_of};
use crate::tls::certs::Identity;
use crate::tls::front::CHALLENGE;
use crate::tls::handshake::Failure;
use crate::tls::handshakes::{HandshakeId, Outcome, Peers};
use crate::tls::record::{SessionId, Sessions, Side};

/// The connections that shake hands, as its driver needs them.
pub(super) struct Shaking<'a> {
    pub tcp: &'a mut Tcp,
    pub sessions: &'a mut Sessions,
    pub secured: &'a mut Places,
    pub cells: &'a RecordCells,
    pub counters: &'a Counters,
}

impl Shaking<'_> {
    fn at(&self, flow: FlowId) -> Option<SessionId> {
        secured_of(self.tcp.layer(flow))
    }

    fn send(&mut self, flow: FlowId, bytes: &[u8]) -> bool {
        // What does not fit one cell goes out in several.
        let short = self.cells.records.free_count() == 0;
        let most = if short { self.cells.payload.cell_bytes() } else { RECORD_BYTES_MAX };
        let sent = bytes
            .chunks(most as usize)
            .all(|b| self.cells.store(b).is_some_and(|s| self.tcp.send(flow, s).is_ok()));
        if !sent {
            self.counters.inc(Ctr::TlsNoCell);
        }
        sent
    }
}

impl Peers for Shaking<'_> {
    fn received(&mut self, flow: FlowId) -> &[u8] {
        if self.at(flow).is_none() {
            return &[];
        }
        if self.tcp.at_end(flow) {
            // It waits for what will never come: its next event ends it.
            self.tcp.wake(flow);
        }
        self.tcp.front(flow)
    }

    fn take(&mut self, flow: FlowId, bytes: usize) {
        if self.at(flow).is_some() {
            self.tcp.skip(flow, bytes);
        }
    }

    fn consume(&mut self, flow: FlowId, bytes: usize) {
        self.tcp.consume(flow, bytes as u32);
    }

    fn outcome(&mut self, id: HandshakeId, flow: FlowId, outcome: Outcome<'_>) {
        let Some(c) = self.at(flow).filter(|c| self.secured[*c].phase() == Phase::Shakes(id)) else { return };
        match outcome {
            Outcome::Send(bytes) => {
                if !self.send(flow, bytes) {
                    // A handshake that lacks a part of its flight comes to nothing. Its next event ends it: it cannot be
                    // ended from within.
                    self.secured[c].set_failure(Failure::internal("no cell for a part of the handshake"));
                    self.tcp.wake(flow);
                }
            }
            Outcome::Established(_) if self.secured[c].failure().is_some() => {
                self.secured[c].breaks();
                self.tcp.wake(flow);
            }
            Outcome::Early { data, .. } => self.take_early(flow, c, data),
            Outcome::Established(e) => {
                let s = &mut self.secured[c];
                let is_client = s.has(IS_CLIENT);
                let side = if is_client { Side::Client } else { Side::Server };
                self.sessions.begin(c, &e.keys, side);
                let shown = if is_client { None } else { e.peer.first() };
                s.opens(Rare {
                    policy: e.policy,
                    asks: None,
                    client: shown.and_then(|certificate| Identity::of(certificate)).map(Rc::new),
                    tickets: e.kernel,
                    failure: None,
                });
                if e.entry == CHALLENGE {
                    // RFC 8737, 3: an ACME server has seen what it wanted, and nothing more is said. Its owner finds the
                    // connection at its end, and closes it.
                    s.set(HAS_CLOSED);
                }
                self.tcp.wake(flow);
            }
            Outcome::Failed(failure) => {
                self.secured[c].breaks_by(failure);
                self.tcp.wake(flow);
            }
        }
    }
}
