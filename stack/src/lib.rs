//! The network stack: Ethernet to TCP, sans-IO.
//!
//! ```text
//!  Burst ──► parse ──┬──► tcp::input ──────► events ──► owner (L7)
//!   (L2–L4, verdict  │                                     │
//!    or drop reason) ├──► icmp, arp_nd ──► answers         │ send, shutdown, …
//!                    ├──► udp                              ▼
//!                    └──► kernel (ports shared with it)    │
//!  TxQueue ◄── net (IP, next hop, Ethernet) ◄── tcp::output
//! ```
//!
//! [`Stack`] is the stack of one core; `steer` joins those of several. In a pass: [`Stack::mail`], [`Stack::input`] for each burst, [`Stack::timers`], then
//! the owner handles the events of [`Stack::tcp`], then [`Stack::output`].
#![forbid(unsafe_code)]

pub mod addr;
pub mod arp_nd;
mod checksum;
mod frame;
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub mod harness;
pub mod icmp;
pub mod kernel;
pub mod neigh;
pub mod net;
pub mod parse;
pub mod steer;
pub mod tcp;
pub mod udp;

use dataplane::{Burst, Counters, Ctr, L4, Packet, Stage, Time, TxQueue, time::cycles};

pub use addr::{Addr, Tuple};
pub use checksum::{Sum, checksum};
use icmp::{ErrorBudget, ErrorKind, Taken};
pub use kernel::{Questions, Route, Routes};
pub use net::{Iface, Net};
pub use steer::Steering;
pub use tcp::{
    CloseReason, ConnectError, CookieSecrets, CookieUse, EcnUse, Events, FlowId, FlowInfo, OwnPorts, State,
    Tcp, TcpConfig,
};
pub use udp::Udp;

/// The stack of one core.
pub struct Stack {
    /// Interfaces and neighbours.
    pub net: Net,
    /// The TCP engine.
    pub tcp: Tcp,
    /// UDP.
    pub udp: Udp,
    errors: ErrorBudget,
    counters: Counters,
    tcp_burst: Burst,
}

impl Stack {
    /// Puts the parts together.
    pub fn new(net: Net, tcp: Tcp, udp: Udp, counters: Counters) -> Stack {
        Stack { net, tcp, udp, errors: ErrorBudget::default(), counters, tcp_burst: Burst::new() }
    }

    /// Takes a burst: every packet is accepted by its consumer, or dropped for a reason that is counted.
    pub fn input(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        let t0 = cycles();
        let n = rx.len() as u64;
        let mut others: Burst = Burst::new();
        for mut p in rx.drain(..) {
            let port = p.meta().port as usize;
            let Some(iface) = self.net.ifaces.get(port) else {
                let c = self.net.kernel_sends(p, tx);
                self.counters.inc(c);
                continue;
            };
            if frame::parse_usual(&mut p, iface) {
                self.tcp_burst.push(p);
                continue;
            }
            match parse::parse(&mut p, iface) {
                Ok(()) if p.meta().l4_kind == L4::Tcp => self.tcp_burst.push(p),
                Ok(()) => others.push(p),
                Err(reason) => {
                    let c = self.refused(p, reason, tx, now);
                    self.counters.inc(c);
                }
            }
        }
        let t1 = cycles();
        self.counters.stage(Stage::Parse, n, t1 - t0);
        let mut t2 = t1;
        if !others.is_empty() {
            let n = others.len() as u64;
            for p in others {
                let c = self.other(p, tx, now);
                self.counters.inc(c);
            }
            t2 = cycles();
            self.counters.stage(Stage::Net, n, t2 - t1);
        }
        if !self.tcp_burst.is_empty() {
            let n = self.tcp_burst.len() as u64;
            self.tcp.input(&mut self.net, &mut self.tcp_burst, tx, now);
            self.counters.stage(Stage::Tcp, n, cycles() - t2);
        }
    }

    /// Everything but TCP. Gives what to count the packet as.
    fn other(&mut self, p: Packet, tx: &mut [TxQueue], now: Time) -> Ctr {
        if self.net.is_shared(p.meta().port) {
            return self.other_shared(p, tx, now);
        }
        let taken = match p.meta().l4_kind {
            L4::Arp => self.net.arp_input(&p, tx, now).map(|()| Taken::Done),
            L4::Icmp4 => self.net.icmp4_input(p, tx, now),
            L4::Icmp6 => self.net.icmp6_input(p, tx, now),
            L4::Udp => match self.udp.input(p) {
                Ok(c) => {
                    if c == Ctr::RxAccepted {
                        self.counters.inc(Ctr::UdpReceived);
                    }
                    return c;
                }
                Err(p) => {
                    self.net.send_error(&p, ErrorKind::PortUnreachable, &mut self.errors, tx, now);
                    Err(Ctr::DropUdpNoListener)
                }
            },
            _ => {
                self.net.send_error(&p, ErrorKind::ProtocolUnreachable, &mut self.errors, tx, now);
                Err(Ctr::DropIpProtocol)
            }
        };
        match taken {
            Ok(Taken::Done) => Ctr::RxAccepted,
            Ok(Taken::Tcp(e, p)) => match self.tcp.icmp_error(&e, now) {
                Ok(()) => Ctr::RxAccepted,
                Err(unmatched) => {
                    let role = self.tcp.role(&e.tuple.local, e.tuple.local_port);
                    self.net.hand_over(&p, &e.tuple, role).unwrap_or(unmatched)
                }
            },
            Err(reason) => reason,
        }
    }

    /// Runs what is due. Gives whether anything was.
    pub fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let t0 = cycles();
        let ran = self.tcp.timers(now);
        if ran {
            self.counters.stage(Stage::Timers, 1, cycles() - t0);
        }
        self.net.timers(tx, now) | ran
    }

    /// Sends what connections have to send. Gives whether anything was.
    pub fn output(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let t0 = cycles();
        let before: u64 = tx.iter().map(|q| q.built).sum();
        let ran = self.tcp.output(&mut self.net, tx, now);
        if ran {
            let built: u64 = tx.iter().map(|q| q.built).sum();
            self.counters.stage(Stage::Output, built - before, cycles() - t0);
        }
        ran
    }

    /// When `timers` must run next.
    pub fn next_deadline(&self) -> Option<Time> {
        let n = self.net.neighbours.next_deadline();
        match self.tcp.next_deadline() {
            Some(t) => Some(t.min(n)),
            None => (n != Time::NEVER).then_some(n),
        }
    }
}
