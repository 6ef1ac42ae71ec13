//! The `host` port's far side: ordinary kernel TCP on one side, the node's own stack on the other.
//!
//! ```text
//!  browser ──► kernel TCP ──► bridge thread ──► smoltcp ──► Ethernet frames ──► mem wire ──► data core
//!              (listeners)     copies bytes    (one cell                      (MemPort, trust_wire)
//!  origin  ◄── kernel TCP ◄──  both ways    ◄── per connection) ◄──────────────────────────  our stack
//! ```
//!
//! With it a node needs no NIC and no root: a browser on this machine reaches it, through every layer that a
//! frame from a NIC goes through. The bridge's own TCP is smoltcp, an implementation that is not ours, so that
//! the two check each other.
//!
//! The node's stack owns the listen addresses, and sees the client's real address and port. Both ends of
//! a connection may be 127.0.0.1: the wire is private, and nothing on it is routed.
//!
//! Each connection has a smoltcp interface with one socket (`cell`): frames find theirs by a hash table, so
//! that the cost of a frame does not grow with the number of connections, as it would with one interface for
//! all. Bytes are copied from kernel to ring and from ring to kernel only as far as the other side takes them,
//! so backpressure passes through; so do half-closes, and resets in both directions.
//!
//! Bounds: [`HostConfig::connections_max`], `cell::RING_BYTES` each way per connection, the wire's frames.
//! Only TCP is carried.

mod bridge;
mod cell;
mod conn;
mod frame;
mod link;
mod listen;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;

use dataplane::port::Mac;
use dataplane::port::mem::WireEnd;
use mio::Waker;

/// What a bridge carries, and where.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Kernel addresses to take connections on. The node must own each of them, and listen on the port that
    /// [`HostBridge::addresses`] gives.
    pub listen: Vec<SocketAddr>,
    /// The node's MAC on the wire.
    pub node_mac: Mac,
    /// The bridge's: the node's `Iface::peer_mac`.
    pub bridge_mac: Mac,
    /// Bytes of IP packet that a frame carries, on both sides.
    pub mtu: u16,
    /// Connections that are bridged at the same time: half of them clients', half of them to origins. At the
    /// bound clients wait in the kernel's accept queue, and the node's connections are refused.
    pub connections_max: usize,
}

impl HostConfig {
    /// A bridge for these addresses, with the usual bounds.
    pub fn new(listen: Vec<SocketAddr>, node_mac: Mac, bridge_mac: Mac) -> HostConfig {
        HostConfig { listen, node_mac, bridge_mac, mtu: 1500, connections_max: 1024 }
    }
}

/// What the bridge has counted. All but the gauge only grow.
#[derive(Debug, Default)]
pub struct HostCounters {
    /// Kernel connections taken from clients.
    pub accepted: AtomicU64,
    /// Of `accepted`: refused by the node, or not answered by it in time. The client saw a reset.
    pub refused: AtomicU64,
    /// Kernel connections opened for the node.
    pub opened: AtomicU64,
    /// Connections of the node that could not be opened. The node saw a reset.
    pub failed: AtomicU64,
    /// Of `failed`: because the bridge had as many as it may.
    pub over_limit: AtomicU64,
    /// Connections that ended by a reset of either side after they were open.
    pub reset: AtomicU64,
    /// Bytes from kernel sockets to the node.
    pub to_node_bytes: AtomicU64,
    /// Bytes from the node to kernel sockets.
    pub from_node_bytes: AtomicU64,
    /// Times that the wire to the node was full and the bridge had to wait.
    pub wire_full: AtomicU64,
    /// Frames from the node that belong to no connection.
    pub strays: AtomicU64,
    /// Kernel connections that could not be taken: too many open files.
    pub accept_errors: AtomicU64,
    /// Gauge: connections that are bridged now.
    pub open: AtomicU64,
}

pub(crate) fn bump(c: &AtomicU64) {
    c.fetch_add(1, Ordering::Relaxed);
}

const RUN: u8 = 0;
const NO_ACCEPT: u8 = 1;
const STOP: u8 = 2;

/// A running bridge. Dropping it stops it.
pub struct HostBridge {
    addresses: Vec<SocketAddr>,
    counters: Arc<HostCounters>,
    order: Arc<AtomicU8>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// Binds the listeners and starts the bridge's thread on `wire`, whose other end is the node's `MemPort`.
///
/// # Errors
/// When an address cannot be listened on, with what to do about it; when the wire is too short for the MTU, or
/// the kernel gives no thread or descriptor.
pub fn start(config: HostConfig, wire: WireEnd) -> io::Result<HostBridge> {
    let listeners = config.listen.iter().map(|&a| listen::bind(a)).collect::<io::Result<Vec<_>>>()?;
    run(&config, wire, listeners)
}

/// The same for a node of several cores: a bridge for each wire, over the same listeners. Whichever bridge accepts a
/// connection first has it, and its core with it.
///
/// # Errors
/// As [`start`].
pub fn start_each(config: &HostConfig, wires: Vec<WireEnd>) -> io::Result<Vec<HostBridge>> {
    let listeners = config.listen.iter().map(|&a| listen::bind(a)).collect::<io::Result<Vec<_>>>()?;
    let share = wires.len().max(1);
    let config = HostConfig { connections_max: (config.connections_max / share).max(2), ..config.clone() };
    let bridges = wires.into_iter().map(|wire| {
        let shared = listeners.iter().map(listen::share).collect::<io::Result<Vec<_>>>()?;
        run(&config, wire, shared)
    });
    bridges.collect()
}

fn run(config: &HostConfig, wire: WireEnd, listeners: Vec<mio::net::TcpListener>) -> io::Result<HostBridge> {
    let addresses = listeners.iter().map(|l| l.local_addr()).collect::<io::Result<Vec<_>>>()?;
    let counters = Arc::new(HostCounters::default());
    let order = Arc::new(AtomicU8::new(RUN));
    let (bridge, waker) =
        bridge::Bridge::new(config, wire, listeners, Arc::clone(&counters), Arc::clone(&order))?;
    let thread = std::thread::Builder::new().name("host-bridge".to_owned()).spawn(move || bridge.run())?;
    Ok(HostBridge { addresses, counters, order, waker, thread: Some(thread) })
}

impl HostBridge {
    /// The addresses that are listened on, in the order of the config, with the ports that the kernel chose
    /// where 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What has been counted.
    pub fn counters(&self) -> &Arc<HostCounters> {
        &self.counters
    }

    /// Closes the listeners: new clients are refused by the kernel; open connections go on.
    pub fn stop_accepting(&self) {
        self.tell(NO_ACCEPT);
    }

    /// Resets what is still open, ends the thread and waits for it.
    pub fn shutdown(&mut self) {
        self.tell(STOP);
        if let Some(t) = self.thread.take() {
            // A panic over there has been reported by its own thread.
            let _ = t.join();
        }
    }

    fn tell(&self, order: u8) {
        self.order.fetch_max(order, Ordering::Relaxed);
        // Can only fail when the eventfd is gone, and the thread with it.
        let _ = self.waker.wake();
    }
}

impl Drop for HostBridge {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests;
