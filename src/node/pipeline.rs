//! What a data core does in a pass: the stack, and the proxy on top of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dataplane::core_loop::Pipeline;
use dataplane::{Burst, Counters, Ctr, Time, TxQueue};
use l7::proxy::{Io, Proxy};
use stack::Stack;

/// What the control side tells a core, and what the core looks at once in a pass.
#[derive(Debug, Default)]
pub struct Orders {
    /// End the loop.
    pub stop: AtomicBool,
    /// Take nothing new; finish what is under way.
    pub drain: AtomicBool,
}

/// The pipeline of one core.
pub struct NodePipeline {
    /// Ethernet to TCP.
    pub stack: Stack,
    /// HTTP.
    pub proxy: Proxy,
    orders: Arc<Orders>,
    counters: Counters,
    announced: bool,
    draining: bool,
}

impl NodePipeline {
    /// Puts the parts together.
    pub fn new(stack: Stack, proxy: Proxy, orders: Arc<Orders>, counters: Counters) -> NodePipeline {
        NodePipeline { stack, proxy, orders, counters, announced: false, draining: false }
    }
}

impl Pipeline for NodePipeline {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.stack.input(rx, tx, now);
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let mut ran = self.stack.timers(tx, now);
        if !self.announced {
            self.announced = true;
            self.stack.net.announce(tx, now);
            ran = true;
        }
        let mut io = Io { tcp: &mut self.stack.tcp, net: &self.stack.net, now };
        if !self.draining && self.orders.drain.load(Ordering::Relaxed) {
            self.draining = true;
            self.proxy.drain(&mut io);
            ran = true;
        }
        ran |= self.proxy.run(&mut io);
        ran |= self.stack.output(tx, now);
        if ran {
            self.counters.set(Ctr::PoolHeaderFree, self.stack.net.headers.free_count().into());
        }
        ran
    }

    fn next_deadline(&self) -> Option<Time> {
        self.stack.next_deadline()
    }
}
