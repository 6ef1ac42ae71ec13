//! What TLS has no part in: TCP's own calls.

use dataplane::Time;
use stack::tcp::cc::Algorithm;
use stack::{ConnectError, FlowId, Net};

use super::Conns;

impl Conns<'_> {
    /// As [`stack::Tcp::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(
        &mut self,
        net: &Net,
        to: std::net::SocketAddr,
        now: Time,
    ) -> Result<FlowId, ConnectError> {
        self.tcp.connect(net, to, now)
    }

    /// As [`stack::Tcp::consume`].
    pub fn consume(&mut self, flow: FlowId, bytes: u32) {
        self.tcp.consume(flow, bytes);
    }

    /// As [`stack::Tcp::skip`]: what comes before TLS begins.
    pub fn skip(&mut self, flow: FlowId, bytes: usize) {
        self.tcp.skip(flow, bytes);
    }

    /// As [`stack::Tcp::wake`].
    pub fn wake(&mut self, flow: FlowId) {
        self.tcp.wake(flow);
    }

    /// As [`stack::Tcp::set_timer`].
    pub fn set_timer(&mut self, flow: FlowId, at: Time) {
        self.tcp.set_timer(flow, at);
    }

    /// As [`stack::Tcp::set_user`].
    pub fn set_user(&mut self, flow: FlowId, user: u64) {
        self.tcp.set_user(flow, user);
    }

    /// As [`stack::Tcp::set_algorithm`].
    pub fn set_algorithm(&mut self, flow: FlowId, algorithm: Algorithm) {
        self.tcp.set_algorithm(flow, algorithm);
    }

    /// As [`stack::Tcp::close_listeners`].
    pub fn close_listeners(&mut self) {
        self.tcp.close_listeners();
    }
}
