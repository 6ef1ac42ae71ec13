//! What ICMP says about a connection (RFC 5927).

use dataplane::{Ctr, Time};

use super::input::Verdict;
use super::tcb::{CloseReason, State};
use super::{Seq, Tcp};
use crate::icmp::TcpError;

impl Tcp {
    /// An ICMP error about a connection.
    ///
    /// # Errors
    /// When it is about none, or about a segment that is not out (RFC 5927).
    pub fn icmp_error(&mut self, e: &TcpError, _now: Time) -> Verdict {
        let hash = self.table.hash(&e.tuple);
        let Some(id) = self.table.find(hash, &e.tuple) else { return Err(Ctr::DropIcmpUnmatched) };
        let t = &self.table.flows[id];
        let seq = Seq(e.seq);
        if seq.lt(t.snd_una) || seq.gt(t.snd_nxt) {
            return Err(Ctr::DropIcmpUnmatched);
        }
        self.counters.inc(Ctr::IcmpErrorsReceived);
        // A hard error ends an attempt to connect; on an open connection it is only a hint (RFC 5927 4.3).
        if t.state == State::SynSent && e.hard {
            self.counters.inc(Ctr::TcpActiveFailed);
            self.finish(id, CloseReason::Unreachable);
        }
        Ok(())
    }
}
