//! A node for these tests: one core with our stack, and an application that is as small as can be.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::{Segment, Snapshot};
use dataplane::port::Mac;
use dataplane::port::mem::{MemPort, wire};
use dataplane::{Burst, Clock, Pool, Time, TxQueue};
use hugepages::{Arena, Limits, PagePolicy};
use stack::neigh::Neighbours;
use stack::{Addr, CloseReason, Events, FlowId, Iface, Net, Stack, Tcp, TcpConfig, Udp};

use crate::host::{HostBridge, HostConfig, start};

const NODE_MAC: Mac = [2, 0, 0, 0, 0, 1];
const BRIDGE_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// Bytes that may wait to be sent on one connection before the node reads no more for it.
const QUEUE_MAX: u32 = 128 << 10;

/// A bridge and a node. Dropping it stops both.
pub(super) struct Rig {
    pub(super) bridge: HostBridge,
    segment: Arc<Segment>,
    stop: Arc<AtomicBool>,
    node: Option<JoinHandle<(u32, u32)>>,
}

/// The addresses of a rig, by what the node does there.
pub(super) struct At {
    /// Sends back what comes.
    pub(super) echo: SocketAddr,
    /// Joins the client to the origin.
    pub(super) proxy: SocketAddr,
    /// Does not listen.
    pub(super) closed: SocketAddr,
}

impl Rig {
    /// Listens on three ports of `ip`; proxied connections go to `origin`.
    pub(super) fn new(ip: &str, origin: SocketAddr) -> Rig {
        Rig::with(ip, origin, 256, |_| {})
    }

    /// As `new`, with a wire of so many frames and a changed config.
    pub(super) fn with(ip: &str, origin: SocketAddr, frames: usize, change: impl Fn(&mut HostConfig)) -> Rig {
        let at = SocketAddr::new(ip.parse().unwrap(), 0);
        let (near, far) = wire(frames, 1514);
        let mut config = HostConfig::new(vec![at, at, at], NODE_MAC, BRIDGE_MAC);
        change(&mut config);
        let bridge = start(config, far).unwrap();
        let listen = bridge.addresses().to_vec();
        let segment = Segment::in_memory(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (seg, flag) = (Arc::clone(&segment), Arc::clone(&stop));
        let node = std::thread::spawn(move || {
            let limits = Limits::for_core_memory(64 << 20);
            let rx = Pool::reserve("rx", limits.rx_cells, 2048, PagePolicy::NormalOnly).unwrap();
            let headers = Pool::reserve("headers", limits.header_cells, 256, PagePolicy::NormalOnly).unwrap();
            let mut arena = Arena::reserve(Tcp::cost(&limits), PagePolicy::NormalOnly).unwrap();
            let config = TcpConfig::new([1, 2, 3, 4], &limits);
            let tcp = Tcp::new(&limits, &mut arena, config, rx.clone(), seg.writer(0)).unwrap();
            let mut iface = Iface::new(NODE_MAC, 1500);
            iface.peer_mac = Some(BRIDGE_MAC);
            iface.tx_checksum_offload = true;
            iface.add(listen[0].ip(), 8);
            let net = Net::new(vec![iface], Neighbours::new(16), headers, seg.writer(0));
            let mut stack = Stack::new(net, tcp, Udp::new(0), seg.writer(0));
            for a in &listen[..2] {
                stack.tcp.listen(Some(Addr::from(a.ip())), a.port()).unwrap();
            }
            let port = MemPort::new(near, rx, NODE_MAC, 1500, 0)
                .trust_wire("host", "test".to_owned())
                .with_doorbell()
                .unwrap();
            let app = App { stack, peers: HashMap::new(), over: HashSet::new(), origin };
            let mut core = Core::new(vec![Box::new(port)], app, seg.writer(0), 1024);
            core.run(&Clock::calibrated(), &flag);
            core.pipeline.stack.tcp.in_use()
        });
        Rig { bridge, segment, stop, node: Some(node) }
    }

    pub(super) fn at(&self) -> At {
        let a = self.bridge.addresses();
        At { echo: a[0], proxy: a[1], closed: a[2] }
    }

    /// Waits until nothing is bridged any more, and the node has no flow left; then stops both, and checks the
    /// conservation laws.
    pub(super) fn settle(mut self) -> Snapshot {
        let c = Arc::clone(self.bridge.counters());
        wait_until("connections are left on the bridge", || c.open.load(Ordering::Relaxed) == 0);
        let seg = Arc::clone(&self.segment);
        wait_until("flows are left in the node", || seg.read().get(dataplane::Ctr::TcpFlows) == 0);
        self.bridge.shutdown();
        assert_eq!(self.stop_node(), (0, 0), "flows and send records left");
        let s = self.segment.read();
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
        s
    }

    fn stop_node(&mut self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic over there has been reported by its own thread.
        self.node.take().map_or((0, 0), |n| n.join().unwrap_or((u32::MAX, u32::MAX)))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.bridge.shutdown();
        self.stop_node();
    }
}

/// Waits up to 10 s.
pub(super) fn wait_until(complaint: &str, done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{complaint}");
}

/// Joins each connection to a peer: to itself on the first listener, to a new one to the origin on the second.
struct App {
    stack: Stack,
    peers: HashMap<FlowId, FlowId>,
    over: HashSet<FlowId>,
    origin: SocketAddr,
}

impl App {
    fn events(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some((id, e)) = self.stack.tcp.next_event() {
            any = true;
            if e.has(Events::ACCEPTED) {
                self.accepted(id, now);
            }
            if e.has(Events::CLOSED) {
                self.closed(id);
                continue;
            }
            let Some(&peer) = self.peers.get(&id) else { continue };
            self.carry(id, peer);
            self.carry(peer, id);
        }
        any
    }

    fn accepted(&mut self, id: FlowId, now: Time) {
        let tcp = &mut self.stack.tcp;
        if tcp.listener(id) == 0 {
            self.peers.insert(id, id);
            return;
        }
        match tcp.connect(&self.stack.net, self.origin, now) {
            Ok(peer) => {
                self.peers.insert(id, peer);
                self.peers.insert(peer, id);
            }
            Err(_) => tcp.abort(id),
        }
    }

    /// What has come on `from` goes out on `to`.
    fn carry(&mut self, from: FlowId, to: FlowId) {
        let tcp = &mut self.stack.tcp;
        while tcp.queued(to) < QUEUE_MAX
            && let Some(s) = tcp.read(from)
        {
            let len = s.len() as u32;
            if tcp.send(to, s).is_err() {
                return; // The other side has gone: its event follows.
            }
            tcp.consume(from, len);
        }
        if tcp.at_end(from) {
            tcp.shutdown(to);
        }
    }

    /// A flow that ended in order stays until its peer has, too: what it has received may not be sent yet.
    fn closed(&mut self, id: FlowId) {
        let tcp = &mut self.stack.tcp;
        let peer = self.peers.get(&id).copied().unwrap_or(id);
        if peer == id {
            self.peers.remove(&id);
            tcp.release(id);
        } else if tcp.close_reason(id) != CloseReason::Done {
            for i in [id, peer] {
                self.peers.remove(&i);
                self.over.remove(&i);
            }
            tcp.abort(peer);
            tcp.release(id);
        } else if self.over.remove(&peer) {
            for i in [id, peer] {
                self.peers.remove(&i);
                tcp.release(i);
            }
        } else {
            self.over.insert(id);
            self.carry(id, peer);
        }
    }
}

impl Pipeline for App {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.stack.input(rx, tx, now);
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let ran = self.stack.timers(tx, now);
        let any = self.events(now);
        self.stack.output(tx, now) | ran | any
    }

    fn next_deadline(&self) -> Option<Time> {
        self.stack.next_deadline()
    }
}
