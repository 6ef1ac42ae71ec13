//! The connections whose handshakes are under way, as [`Handshakes`](crate::tls::Handshakes) needs them.

use std::rc::Rc;

use dataplane::{Counters, Ctr};
use hugepages::Slab;
use stack::{FlowId, Tcp};

use super::{Also, Phase, RECORD_BYTES_MAX, RecordCells, Secured, SecuredId, secured_of};
use crate::tls::certs::Identity;
use crate::tls::front::CHALLENGE;
use crate::tls::handshake::Failure;
use crate::tls::handshakes::{HandshakeId, Outcome, Peers};
use crate::tls::record::{Sessions, Side};

/// The connections that shake hands, as its driver needs them.
pub(super) struct Shaking<'a> {
    pub tcp: &'a mut Tcp,
    pub sessions: &'a mut Sessions,
    pub secured: &'a mut Slab<SecuredId, Secured>,
    pub cells: &'a RecordCells,
    pub counters: &'a Counters,
}

impl Shaking<'_> {
    fn at(&self, flow: FlowId) -> Option<SecuredId> {
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
        let Some(c) = self.at(flow) else { return &[] };
        let s = &mut self.secured[c];
        if s.rest.is_none() {
            s.rest = self.tcp.read(flow);
            if s.rest.is_none() && self.tcp.has_ended(flow) {
                // It waits for what will never come: its next event ends it.
                self.tcp.wake(flow);
            }
        }
        s.rest.as_deref().unwrap_or_default()
    }

    fn consume(&mut self, flow: FlowId, bytes: usize) {
        let Some(c) = self.at(flow) else { return };
        let rest = &mut self.secured[c].rest;
        if let Some(s) = rest {
            s.advance(bytes);
            if s.is_empty() {
                *rest = None;
            }
        }
        self.tcp.consume(flow, bytes as u32);
    }

    fn outcome(&mut self, id: HandshakeId, flow: FlowId, outcome: Outcome<'_>) {
        let Some(c) = self.at(flow).filter(|c| self.secured[*c].phase == Phase::Shakes(id)) else { return };
        match outcome {
            Outcome::Send(bytes) => {
                if !self.send(flow, bytes) {
                    // A handshake that lacks a part of its flight comes to nothing. Its next event ends it: it cannot be
                    // ended from within.
                    let failure = Failure::internal("no cell for a part of the handshake");
                    self.secured[c].failure = Some(Box::new(failure));
                    self.tcp.wake(flow);
                }
            }
            Outcome::Established(_) if self.secured[c].failure.is_some() => {
                self.secured[c].phase = Phase::Broken;
                self.tcp.wake(flow);
            }
            Outcome::Established(e) => {
                let s = &mut self.secured[c];
                let side = if s.is_client { Side::Client } else { Side::Server };
                match self.sessions.open(&e.keys, side) {
                    Some(session) => s.phase = Phase::Open(session),
                    None => s.phase = Phase::Broken,
                }
                s.is_new = true;
                s.policy = e.policy;
                // RFC 8737, 3: an ACME server has seen what it wanted, and nothing more is said. Its owner finds the
                // connection at its end, and closes it.
                s.has_closed = e.entry == CHALLENGE;
                let shown = if s.is_client { None } else { e.peer.first() };
                s.also = match (e.kernel, shown.and_then(|certificate| Identity::of(certificate))) {
                    (Some(kernel), _) => Also::Tickets(Box::new(kernel)),
                    (_, Some(identity)) => Also::Client(Rc::new(identity)),
                    _ => Also::Nothing,
                };
                self.tcp.wake(flow);
            }
            Outcome::Failed(failure) => {
                let s = &mut self.secured[c];
                s.phase = Phase::Broken;
                s.also = Also::Failure(Box::new(failure));
                self.tcp.wake(flow);
            }
        }
    }
}
