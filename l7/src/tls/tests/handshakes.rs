//! Handshakes of a core without TCP.

mod bounds;
mod certificates;
mod hellos;
mod helpers;
mod passes;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use dataplane::Ctr;
use dataplane::counters::Segment;
use hugepages::SlabIndex;
use rustls::ClientConnection;
use stack::FlowId;

use super::support::*;
use crate::tls::front::Front;
use crate::tls::handshake::{Established, Failure};
use crate::tls::handshakes::{HandshakeId, HandshakeLimits, Handshakes, Outcome, Peers};
use crate::tls::offload::{Helpers, Host};

/// Connections without TCP: what came for each, and what was said to it.
#[derive(Default)]
struct Wire {
    flows: BTreeMap<u32, Flow>,
    /// How much lies together.
    slice: usize,
}

#[derive(Default)]
struct Flow {
    inbox: Vec<u8>,
    /// Taken, and not consumed.
    held: usize,
    sent: Vec<u8>,
    early: Vec<u8>,
    done: Option<Box<Established>>,
    failed: Option<Failure>,
}

impl Wire {
    fn of(&mut self, flow: FlowId) -> &mut Flow {
        self.flows.entry(flow.to_u32()).or_default()
    }
}

impl Peers for Wire {
    fn received(&mut self, flow: FlowId) -> &[u8] {
        let slice = if self.slice == 0 { usize::MAX } else { self.slice };
        let inbox = &self.of(flow).inbox;
        &inbox[..inbox.len().min(slice)]
    }

    fn take(&mut self, flow: FlowId, bytes: usize) {
        let flow = self.of(flow);
        flow.inbox.drain(..bytes);
        flow.held += bytes;
    }

    fn consume(&mut self, flow: FlowId, bytes: usize) {
        self.of(flow).held -= bytes;
    }

    fn outcome(&mut self, _: HandshakeId, flow: FlowId, outcome: Outcome<'_>) {
        let flow = self.of(flow);
        assert!(flow.done.is_none() && flow.failed.is_none(), "nothing is said after the end");
        match outcome {
            Outcome::Send(bytes) => flow.sent.extend_from_slice(bytes),
            Outcome::Early { data, .. } => flow.early.extend_from_slice(data),
            Outcome::Established(established) => flow.done = Some(established),
            Outcome::Failed(failure) => flow.failed = Some(failure),
        }
    }
}

/// A core.
struct Core {
    handshakes: Handshakes,
    front: Front,
    wire: Wire,
    counters: dataplane::Counters,
    helpers: Option<(Helpers, Receiver<usize>)>,
}

struct Bell(std::sync::Mutex<Sender<usize>>);

impl Host for Bell {
    fn done(&self, core: usize) {
        let _ = self.0.lock().unwrap().send(core);
    }
}

const SOURCE: [u8; 4] = [192, 0, 2, 1];

impl Core {
    fn new(front: Front, limits: HandshakeLimits) -> Core {
        let counters = Segment::in_memory(1).writer(0);
        let handshakes = Handshakes::new(limits, None, counters.clone());
        Core { handshakes, front, wire: Wire::default(), counters, helpers: None }
    }

    fn with_helpers(front: Front, limits: HandshakeLimits, places: usize) -> Core {
        let (bell, rings) = channel();
        let helpers = Helpers::start(2, 1, places, Arc::new(Bell(bell.into()))).unwrap();
        let mut core = Core::new(front, limits.clone());
        assert!(helpers.of(1).is_none());
        core.handshakes = Handshakes::new(limits, helpers.of(0), core.counters.clone());
        core.helpers = Some((helpers, rings));
        core
    }

    fn run(&mut self) {
        self.handshakes.run(&self.front, &mut self.wire);
    }

    /// Runs until there is nothing to do, waiting for the helpers.
    fn settle(&mut self) {
        self.settle_while(|_| true);
    }

    /// The same, for as long as `more` says.
    fn settle_while(&mut self, mut more: impl FnMut(&mut Core) -> bool) {
        while more(self) {
            self.run();
            if self.handshakes.has_work() {
                continue;
            }
            if self.counters.get(Ctr::TlsAway) == 0 {
                return;
            }
            self.helpers.as_ref().unwrap().1.recv().unwrap();
        }
    }

    fn start(&mut self, flow: u32) -> HandshakeId {
        self.handshakes.start_server(FlowId::from_u32(flow), SOURCE.into()).unwrap()
    }

    fn give(&mut self, flow: u32, id: HandshakeId, bytes: &[u8]) {
        self.wire.of(FlowId::from_u32(flow)).inbox.extend_from_slice(bytes);
        self.handshakes.readable(id);
    }

    fn flow(&mut self, flow: u32) -> &mut Flow {
        self.wire.of(FlowId::from_u32(flow))
    }

    /// Shakes hands with a stock client, which may send `behind` as soon as it can.
    fn shake(
        &mut self,
        flow: u32,
        client: &mut ClientConnection,
        behind: &[u8],
    ) -> Result<(), rustls::Error> {
        let id = self.start(flow);
        let mut has_sent = false;
        for _ in 0..10 {
            if !client.is_handshaking() && !has_sent {
                has_sent = true;
                std::io::Write::write_all(&mut client.writer(), behind).unwrap();
            }
            let bytes = flush(client);
            if bytes.is_empty() {
                break;
            }
            self.give(flow, id, &bytes);
            self.settle();
            let sent = std::mem::take(&mut self.flow(flow).sent);
            feed(client, &sent)?;
        }
        Ok(())
    }
}

fn limits(handshakes: u32) -> HandshakeLimits {
    HandshakeLimits { per_source: handshakes, ..HandshakeLimits::new(handshakes, [1, 2]) }
}
