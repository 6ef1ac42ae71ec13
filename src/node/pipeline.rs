//! What a data core does in a pass: the stack, and the proxy on top of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dataplane::core_loop::Pipeline;
use dataplane::{Burst, Counters, Ctr, Time, TxQueue};
use l7::proxy::{Io, Proxy};
use stack::Stack;

/// Between looks at all connections of a core that drains.
const DRAIN_LOOK_NS: u64 = 50_000_000;

/// What the control side tells a core, and what the core looks at once in a pass.
#[derive(Debug)]
pub struct Orders {
    /// End the loop.
    pub stop: AtomicBool,
    /// Take nothing new; finish what is under way.
    pub drain: AtomicBool,
    /// The core's answer to `drain`: connections that would lose something if it ended now.
    pub unfinished: AtomicU64,
}

impl Default for Orders {
    fn default() -> Orders {
        Orders { stop: false.into(), drain: false.into(), unfinished: u64::MAX.into() }
    }
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
    drain_look: Time,
}

impl NodePipeline {
    /// Puts the parts together.
    pub fn new(stack: Stack, proxy: Proxy, orders: Arc<Orders>, counters: Counters) -> NodePipeline {
        NodePipeline {
            stack,
            proxy,
            orders,
            counters,
            announced: false,
            draining: false,
            drain_look: Time(0),
        }
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
        if self.draining && now >= self.drain_look {
            self.drain_look = now.plus_ns(DRAIN_LOOK_NS);
            let tcp = &self.stack.tcp;
            let unfinished = tcp.flows().filter(|f| tcp.is_unfinished(*f)).count();
            self.orders.unfinished.store(unfinished as u64, Ordering::Relaxed);
        }
        if ran {
            self.counters.set(Ctr::PoolHeaderFree, self.stack.net.headers.free_count().into());
        }
        ran
    }

    fn next_deadline(&self) -> Option<Time> {
        self.stack.next_deadline()
    }
}
