//! Opening connections: ports (RFC 6056), initial sequence numbers (RFC 6528).

use std::net::SocketAddr;

use dataplane::rss::Rss;
use dataplane::{Ctr, Time, sip};

use super::input::half_second;
use super::tcb::{Flags, FlowId, State};
use super::{Seq, Tcp};
use crate::addr::{Addr, Tuple};
use crate::net::Net;
use crate::steer::{back, to_port};

/// The ports that we connect from, both included; they are shared out over the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPorts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Default for OwnPorts {
    fn default() -> OwnPorts {
        OwnPorts { first: 32_768, last: u16::MAX }
    }
}

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No address of ours reaches the destination.
    NoRoute,
    /// Every control block is in use.
    NoFlow,
    /// Every source port towards it is in use.
    NoPort,
}

impl Tcp {
    /// Opens a connection to `remote`. [`Events::CONNECTED`](super::Events::CONNECTED) or [`Events::CLOSED`](super::Events::CLOSED) follows.
    ///
    /// # Errors
    /// When there is no way, no control block or no port left for it.
    pub fn connect(&mut self, net: &Net, remote: SocketAddr, now: Time) -> Result<FlowId, ConnectError> {
        self.connect_as(net, None, remote, now)
    }

    /// The same from `source`, one of our addresses: for who has many.
    ///
    /// # Errors
    /// As [`Tcp::connect`]; no port left means none of this source's.
    pub fn connect_as(
        &mut self,
        net: &Net,
        source: Option<Addr>,
        remote: SocketAddr,
        now: Time,
    ) -> Result<FlowId, ConnectError> {
        let dst = Addr::from(remote.ip());
        let (port, own) = net.route(&dst).ok_or(ConnectError::NoRoute)?;
        // RFC 9293 3.9.2.3 (MUST-46).
        if net.ifaces[usize::from(port)].is_for_many(&dst) {
            return Err(ConnectError::NoRoute);
        }
        let src = source.unwrap_or(own);
        debug_assert!(net.ifaces[usize::from(port)].owns(&src), "{src:?} is not ours");
        let (tuple, hash) = self.pick_port(net, port, src, dst, remote.port()).ok_or(ConnectError::NoPort)?;
        let id = self.new_flow(tuple, hash, port, net).ok_or(ConnectError::NoFlow)?;
        let iss = self.isn(hash, now);
        let t = &mut self.table.flows[id];
        t.state = State::SynSent;
        t.flags.set(Flags::ACTIVE);
        t.flags.set(Flags::SYN_NOW);
        t.start_sending(iss);
        t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        t.heard(now);
        t.challenged = half_second(now).wrapping_sub(1);
        self.counters.inc(Ctr::TcpActiveOpens);
        self.want_output(id);
        self.rearm(id);
        Ok(id)
    }

    /// Makes this the engine of one core of several: it connects from the ports that are its own, which are those with
    /// `core` modulo `cores`, or those that its device's RSS brings back to this core.
    pub fn share_ports(&mut self, core: u32, cores: u32) {
        debug_assert!(core < cores);
        self.share = (core, cores);
    }

    /// Connects from these ports, of which there must be many for each core. Before any connection.
    pub fn connect_from(&mut self, ports: OwnPorts) {
        debug_assert!(ports.first < ports.last);
        self.own_ports = ports;
    }

    /// Ephemeral port by RFC 6056 algorithm 3: a keyed offset per destination, and a counter; of those ports that are
    /// this core's.
    fn pick_port(
        &mut self,
        net: &Net,
        port: u8,
        local: Addr,
        remote: Addr,
        remote_port: u16,
    ) -> Option<(Tuple, u64)> {
        const TRIES: u32 = 512;
        let (core, cores) = self.share;
        if let (Some(rss), true) = (net.ifaces[usize::from(port)].rss.as_deref(), cores > 1) {
            return self.pick_predicted_port(rss, Tuple { local, remote, local_port: 0, remote_port });
        }
        let OwnPorts { first, last } = self.own_ports;
        // The first that is `core` modulo `cores`.
        let first = u32::from(first) + (core + cores - u32::from(first) % cores) % cores;
        let count = (u32::from(last) + 1 - first).div_ceil(cores);
        let mut tuple = Tuple { local, remote, local_port: 0, remote_port };
        let offset = (self.table.hash(&tuple) ^ self.config.keys[3]) as u32 % count;
        for _ in 0..TRIES {
            self.next_port = self.next_port.wrapping_add(1);
            tuple.local_port = (first + offset.wrapping_add(self.next_port) % count * cores) as u16;
            let hash = self.table.hash(&tuple);
            if self.table.find(hash, &tuple).is_none() && self.time_wait.find(hash).is_none() {
                return Some((tuple, hash));
            }
        }
        None
    }

    /// The same, of the ports whose answers the device brings to this core: one in as many as there are cores.
    fn pick_predicted_port(&mut self, rss: &Rss, mut tuple: Tuple) -> Option<(Tuple, u64)> {
        const FREE_TRIES: u32 = 512;
        let (core, cores) = self.share;
        let OwnPorts { first, last } = self.own_ports;
        let (first, count) = (u32::from(first), u32::from(last - first) + 1);
        let offset = (self.table.hash(&tuple) ^ self.config.keys[3]) as u32 % count;
        let back = back(&tuple, rss);
        let mut tries = 0;
        for _ in 0..count {
            self.next_port = self.next_port.wrapping_add(1);
            tuple.local_port = (first + offset.wrapping_add(self.next_port) % count) as u16;
            // Two loads for each port that is not ours.
            if u32::from(rss.queue(back ^ to_port(&tuple, rss))) % cores != core {
                continue;
            }
            let hash = self.table.hash(&tuple);
            if self.table.find(hash, &tuple).is_none() && self.time_wait.find(hash).is_none() {
                return Some((tuple, hash));
            }
            tries += 1;
            if tries == FREE_TRIES {
                break;
            }
        }
        None
    }

    /// RFC 6528: a clock of 4 µs and a keyed hash of the tuple.
    pub(super) fn isn(&self, hash: u64, now: Time) -> Seq {
        // The flow hash is keyed by one secret; hashing it under another keeps the ISN from telling of the table.
        let f = sip::words([self.config.keys[2], self.config.keys[3]], [hash, 1]);
        let ticks = (now.0 / 4000).wrapping_add(self.config.epoch_ms.wrapping_mul(250));
        Seq((ticks as u32).wrapping_add(f as u32))
    }
}
