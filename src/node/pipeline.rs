//! What a data core does in a pass: the stack, and the proxy on top of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dataplane::core_loop::Pipeline;
use dataplane::{Burst, Counters, Ctr, Time, TxQueue};
use l7::proxy::{Io, Program, Proxy};
use l7::tls::{Conns, Tls};
use stack::{Stack, Tcp};

use super::orders::{CoreOrder, KernelNews, Orders};

/// Between looks at all connections of a core that drains.
const DRAIN_LOOK_NS: u64 = 50_000_000;

/// The pipeline of one core.
pub struct NodePipeline {
    /// Ethernet to TCP.
    pub stack: Stack,
    /// TLS between them.
    pub tls: Tls,
    /// HTTP.
    pub proxy: Proxy,
    orders: Arc<Orders>,
    counters: Counters,
    /// Whether the link still has to be told our addresses: by one core of the node.
    announces: bool,
    draining: bool,
    drain_look: Time,
}

impl NodePipeline {
    /// Puts the parts together.
    pub fn new(
        stack: Stack,
        tls: Tls,
        proxy: Proxy,
        orders: Arc<Orders>,
        counters: Counters,
    ) -> NodePipeline {
        NodePipeline {
            stack,
            tls,
            proxy,
            orders,
            counters,
            announces: true,
            draining: false,
            drain_look: Time(0),
        }
    }

    /// The pipeline of a core that leaves the announcing of our addresses to another.
    pub fn quiet(mut self) -> NodePipeline {
        self.announces = false;
        self
    }

    /// Does what the control side asks for.
    fn obey(&mut self, order: CoreOrder, tx: &mut [TxQueue], now: Time) {
        match order {
            CoreOrder::Config(program) => {
                let mut io = io(&mut self.stack, &mut self.tls, now);
                self.proxy.swap(Arc::clone(&program), &mut io);
                tune(&mut self.stack.tcp, &program);
            }
            CoreOrder::Front(front) => self.proxy.present(front),
            CoreOrder::Totals(page) => page.step(&mut self.stack.tcp, now),
            CoreOrder::Flows(page) => page.fill(&self.stack.tcp, now),
            CoreOrder::Kernel(news) => match &*news {
                KernelNews::Routes(port, routes) => self.stack.mirror_routes(*port, Arc::clone(routes)),
                KernelNews::Neighbours(all) => {
                    for (port, who, mac) in all {
                        self.stack.mirror(*port, who, *mac, tx, now);
                    }
                }
            },
        }
    }
}

fn io<'a>(stack: &'a mut Stack, tls: &'a mut Tls, now: Time) -> Io<'a> {
    Io { tcp: Conns { tcp: &mut stack.tcp, tls }, net: &stack.net, now }
}

/// Tells TCP how to treat the connections of its listeners.
pub(super) fn tune(tcp: &mut Tcp, program: &Program) {
    for (number, tuning) in program.config.tunings.iter().enumerate() {
        tcp.tune(number as u16, *tuning);
    }
}

impl Pipeline for NodePipeline {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.tls.beside(rx.len());
        self.stack.input(rx, tx, now);
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let mut ran = self.stack.mail(tx, now);
        if self.orders.tray.waits() {
            let tray = Arc::clone(&self.orders.tray);
            ran |= tray.look(|order| self.obey(order, tx, now));
        }
        ran |= self.stack.timers(tx, now);
        if self.announces {
            self.announces = false;
            self.stack.net.announce(tx, now);
            ran = true;
        }
        let mut io = io(&mut self.stack, &mut self.tls, now);
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
        let own = Some(self.proxy.next_deadline()).filter(|t| *t != Time::NEVER);
        self.stack.next_deadline().into_iter().chain(own).min()
    }

    fn may_sleep(&mut self) -> bool {
        !self.stack.has_mail() && !self.orders.tray.waits() && !self.tls.has_work() && self.proxy.may_sleep()
    }

    fn woken(&mut self) {
        self.proxy.woken();
    }
}
