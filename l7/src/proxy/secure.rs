//! TLS to origins, as the proxy sees it: begun on connections of its own, refused for a reason.
//!
//! A handshake that fails is a connection that failed, as with nginx and HAProxy, whatever the reason: nothing of the
//! request has gone out, so that it may be tried again, at another address or another origin, whatever its method; the
//! origin is charged with it (outlier, health); with nobody left to try the client gets 502, or 504 where the handshake
//! has not come to an end in the time for connecting.

use dataplane::Time;
use stack::FlowId;

use super::exchange::ExchangeId;
use super::{Io, Proxy};
use crate::tls::handshake::FailureKind;
use crate::tls::origin::{OriginTls, Reason, Refusal};

/// An origin that goes on failing for the same reason is told of as often.
const TOLD_AGAIN_NS: u64 = 10_000_000_000;

impl Proxy {
    /// Has a connection that is being opened begin with a handshake: CONNECTED comes when it is done. Gives whether there
    /// was room for it.
    pub(super) fn start_tls(&mut self, io: &mut Io<'_>, flow: FlowId, tls: &OriginTls) -> bool {
        io.tcp.start_client(flow, tls.config(self.core), tls.name())
    }

    /// Why TLS has ended a connection, if it has.
    pub(super) fn tls_refusal(&self, io: &Io<'_>, flow: FlowId) -> Option<Refusal> {
        io.tcp.failure(flow).map(|f| match f.kind {
            FailureKind::Internal => Refusal::ours(&f.error),
            _ => Refusal::of(&f.error),
        })
    }

    /// Tells of an origin that has ended a connection, or had it ended, for a reason of TLS. Gives that, if it has.
    pub(super) fn has_refused(&mut self, io: &Io<'_>, x: ExchangeId, flow: FlowId) -> Option<Reason> {
        let refusal = self.tls_refusal(io, flow)?;
        self.tell_refusal(io, x, flow, &refusal);
        Some(refusal.reason)
    }

    /// Counts and tells why a handshake with the exchange's origin has failed.
    #[cold]
    pub(super) fn tell_refusal(&mut self, io: &Io<'_>, x: ExchangeId, flow: FlowId, refusal: &Refusal) {
        self.counters.inc(refusal.reason.counter());
        let told = &mut self.origins[self.exchanges[x].slot as usize].told;
        let is_new =
            |(reason, at): (_, Time)| reason != refusal.reason || io.now.since_ns(at) >= TOLD_AGAIN_NS;
        if told.is_none_or(is_new) {
            *told = Some((refusal.reason, io.now));
            let at = io.tcp.tuple(flow).remote.ip();
            self.say_refused(io.now, x, at, refusal);
        }
    }
}
