//! The record layer against itself, the RFC's own records, and rustls.

mod basics;
mod garbled;
mod messages;
mod peer;
mod pool;
mod properties;
mod sealing;
mod vectors;

use super::harness::{Forger, PROTECTIONS, keys, sessions, turned};
use super::*;

const DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

/// A session of ours, and who sends to it what it likes.
struct Ends {
    ours: Sessions,
    id: SessionId,
    peer: Forger,
}

fn ends(protection: (Version, Suite), side: Side) -> Ends {
    let keys = keys(protection, 1);
    let mut ours = sessions(2, 2);
    let id = ours.open(&keys, side).unwrap();
    Ends { ours, id, peer: Forger::new(&keys) }
}

impl Ends {
    fn take(&mut self, mut record: Vec<u8>) -> Result<Received, Alert> {
        self.ours.receive(self.id, &mut record)
    }

    fn take_kind(&mut self, kind: u8, content: &[u8]) -> Result<Received, Alert> {
        let record = self.peer.of_kind(kind, content);
        self.take(record)
    }

    fn count(&self, counter: dataplane::Ctr) -> u64 {
        self.ours.counters.get(counter)
    }
}

/// Seals into a buffer of its own.
fn sealed(s: &mut Sessions, id: SessionId, kind: ContentType, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0xaa; RECORD_MAX];
    let n = s.seal(id, kind, plain, &mut out)?;
    out.truncate(n);
    Ok(out)
}
