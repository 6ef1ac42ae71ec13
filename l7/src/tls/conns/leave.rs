//! Owners that leave before TCP has all bytes of what they have sent: until it has, the connection stays with its TLS, which
//! alone can seal again what was let go.

use dataplane::{Ctr, Time};
use stack::{Events, FlowId, State};

use super::secured::Phase;
use super::{Conns, SessionId};

/// How long such a connection has for each step forward.
const LEAVE_NS: u64 = 30_000_000_000;
/// How long it lasts in all, however its peer goes on: as an orphan of TCP's, which it may become after that.
const LEAVE_MAX_S: u16 = 300;
const SECOND_NS: u64 = 1_000_000_000;

fn seconds(now: Time) -> u16 {
    (now.0 / SECOND_NS) as u16
}

impl Conns<'_> {
    /// The owner leaves, and has said all. Gives whether the connection stays with us, as TCP lacks some of its bytes.
    pub(super) fn leave(&mut self, flow: FlowId, c: SessionId, now: Time) -> bool {
        let s = &self.tls.secured[c];
        if !s.is_open()
            || s.notes().is_none()
            || matches!(self.tcp.state(flow), State::Closed | State::SynSent)
            || self.tcp.is_whole(flow)
        {
            return false;
        }
        self.tls.counters.inc(Ctr::TlsAgainLeft);
        self.tls.secured[c].leaves(seconds(now).wrapping_add(LEAVE_MAX_S));
        self.tcp.set_user(flow, 0);
        self.tcp.shutdown(flow);
        self.throw_away(flow);
        self.tcp.set_timer(flow, now.plus_ns(LEAVE_NS));
        true
    }

    /// What comes is not read by anybody.
    fn throw_away(&mut self, flow: FlowId) {
        while self.tcp.read(flow).is_some() {}
        let held = self.tcp.held(flow);
        self.tcp.consume(flow, held);
    }

    /// An event of a connection whose owner has left.
    #[cold]
    pub(super) fn leaving_event(&mut self, flow: FlowId, c: SessionId, events: Events) {
        if events.has(Events::CLOSED) {
            self.forget(flow);
            self.tcp.release(flow);
            return;
        }
        self.throw_away(flow);
        self.look_back(flow, c, events);
        let now = self.tls.again.now;
        if self.tls.secured[c].phase() != Phase::Leaves || events.has(Events::TIMEOUT) {
            self.abort(flow);
        } else if self.tcp.is_whole(flow) {
            self.forget(flow);
            self.tcp.orphan(flow, now);
        } else if events.has(Events::WRITABLE) {
            let left_s = self.tls.secured[c].sent.wrapping_sub(seconds(now));
            // Past its end it is a large number. The timer of the last step forward has told before that.
            let left_s = if left_s > LEAVE_MAX_S { 0 } else { left_s };
            self.tcp.set_timer(flow, now.plus_ns(LEAVE_NS.min(u64::from(left_s) * SECOND_NS)));
        }
    }
}
