//! The node: ports, cores and pipeline put together from a [`Config`], started, drained, stopped.
//!
//! ```text
//!  control thread                                   data core (one thread, pinned when [node] cores says so)
//!   run directory, counters segment
//!   host bridge (its own thread) ◄── mem wire ──►   port ─► stack ─► proxy ─► port
//!   signals ──► Orders {drain, stop} ────────────►  looked at once in a pass
//!   counters segment ◄───────────── plain stores ── counters
//! ```

mod assemble;
mod demo;
mod pipeline;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane::counters::{NodeState, Segment};
use dataplane::port::mem;
use dataplane::{Clock, Ctr};
use hugepages::{PagePolicy, human_bytes};
use serde_json::json;

pub use assemble::{CorePlan, core as build_core, limits_for};
pub use demo::demo;
pub use pipeline::{NodePipeline, Orders};

use crate::config::{Config, PortKind};
use crate::host::{self, HostBridge, HostConfig};
use crate::rundir::RunDir;
use crate::{exit, log};

/// Frames that the wire to the host bridge holds in each direction.
const HOST_WIRE_FRAMES: usize = 1024;
const NODE_MAC: [u8; 6] = [0x02, 0x4d, 0x52, 0, 0, 1];
const BRIDGE_MAC: [u8; 6] = [0x02, 0x4d, 0x52, 0, 0, 2];

/// A node that runs.
pub struct Node {
    /// Its counters.
    pub segment: Arc<Segment>,
    /// Where the kernel listens for a host port (ports that were 0 are known now).
    pub kernel_addresses: Vec<SocketAddr>,
    orders: Arc<Orders>,
    bridge: Option<HostBridge>,
    core: Option<JoinHandle<()>>,
    /// Held until the end: it says that the node lives.
    _rundir: RunDir,
}

impl Node {
    /// Starts a node. It serves when this returns.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn start(mut config: Config) -> Result<Node, String> {
        let rundir = RunDir::create(&config.node.name).map_err(|e| e.to_string())?;
        let segment = Segment::create(&rundir.counters(), 1)
            .map_err(|e| format!("cannot make {}: {e}", rundir.counters().display()))?;
        let clock = Clock::calibrated();
        segment.set_cycles_per_second(clock.cycles_per_second());

        let (mut bridge, mut host_wire, mut kernel_addresses) = (None, None, Vec::new());
        if let Some(p) = config.ports.iter().find(|p| p.kind == PortKind::Host) {
            let (near, far) = mem::wire(HOST_WIRE_FRAMES, usize::from(p.mtu) + 18);
            let listen = assemble::kernel_listeners(&config);
            let b =
                host::start(HostConfig::new(listen, NODE_MAC, BRIDGE_MAC), far).map_err(|e| e.to_string())?;
            kernel_addresses = b.addresses().to_vec();
            take_chosen_ports(&mut config, &kernel_addresses);
            bridge = Some(b);
            host_wire = Some((near, NODE_MAC, BRIDGE_MAC));
        }

        let limits = limits_for(&config, config.node.memory_bytes);
        let mtu = config.ports.iter().map(|p| p.mtu).max().unwrap_or(1500);
        let footprint = assemble::footprint(&limits, mtu);
        let orders = Arc::new(Orders::default());
        let plan = CorePlan {
            config: config.clone(),
            limits,
            host_wire,
            orders: Arc::clone(&orders),
            counters: segment.writer(0),
            keys: secrets()?,
            pages: PagePolicy::Best,
        };
        let cpu = config.node.cores.first().copied();
        let (tell, told) = mpsc::channel();
        let flags = Arc::clone(&orders);
        let core = std::thread::Builder::new()
            .name("millrace-core0".to_owned())
            .spawn(move || {
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                match build_core(plan) {
                    Ok((mut core, report)) => {
                        let _ = tell.send(Ok(report));
                        core.run(&clock, &flags.stop);
                    }
                    Err(e) => drop(tell.send(Err(e))),
                }
            })
            .map_err(|e| format!("cannot start the data core's thread: {e}"))?;
        let report = match told.recv() {
            Ok(Ok(report)) => report,
            Ok(Err(e)) => return Err(e),
            Err(_) => return Err("the data core ended before it served; its message is above".to_owned()),
        };

        log::info(format_args!(
            "memory {} in {}\n{footprint}",
            human_bytes(footprint.bytes() as usize),
            report.memory
        ));
        for p in &report.ports {
            log::info(format_args!(
                "port \"{}\": {} {}, {}, MTU {}, {}",
                p.name,
                p.facts.kind,
                p.facts.device,
                p.addresses.join(" "),
                p.facts.mtu,
                p.facts.mode
            ));
        }
        segment.set_facts(&facts(&config, &report));
        segment.set_state(NodeState::Running);
        Ok(Node { segment, kernel_addresses, orders, bridge, core: Some(core), _rundir: rundir })
    }

    /// Takes nothing new from now on.
    pub fn drain(&self) {
        self.segment.set_state(NodeState::Draining);
        if let Some(b) = &self.bridge {
            b.stop_accepting();
        }
        self.orders.drain.store(true, Ordering::Relaxed);
    }

    /// Client connections that are open.
    pub fn open_clients(&self) -> u64 {
        self.segment.read_core(0).get(Ctr::HttpOpen)
    }

    /// Connections of any kind that would lose something if the node ended now; known once it drains.
    fn unfinished(&self) -> u64 {
        self.orders.unfinished.load(Ordering::Relaxed)
    }

    /// Whether the data core has ended by itself.
    pub fn has_died(&self) -> bool {
        self.core.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the node at once.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        if let Some(core) = self.core.take() {
            // A panic over there has been reported by its own thread.
            let _ = core.join();
        }
        if let Some(mut b) = self.bridge.take() {
            b.shutdown();
        }
        self.segment.set_state(NodeState::Stopped);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// Port 0 asks the kernel for any: the node must listen where the kernel does.
fn take_chosen_ports(config: &mut Config, chosen: &[SocketAddr]) {
    let mut chosen = chosen.iter();
    for l in &mut config.listeners {
        for _ in &l.addresses {
            if let (0, Some(a)) = (l.http, chosen.next()) {
                l.http = a.port();
            }
        }
    }
}

fn secrets() -> Result<[u64; 4], String> {
    let mut bytes = [0u8; 32];
    let mut at = 0;
    while at < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        at += rustix::rand::getrandom(&mut bytes[at..], flags)
            .map_err(|e| format!("the kernel gives no random numbers: {e}"))?;
    }
    let word = |i: usize| u64::from_ne_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap_or_default());
    Ok([word(0), word(1), word(2), word(3)])
}

fn pin(cpu: u16) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu.into());
    if let Err(e) = rustix::thread::sched_setaffinity(None, &set) {
        log::warn(format_args!("cannot pin the data core to CPU {cpu}: {e}; it runs unpinned"));
    }
}

fn facts(config: &Config, report: &assemble::CoreReport) -> String {
    let ports: Vec<_> = report
        .ports
        .iter()
        .map(|p| {
            let mac = p.facts.mac.map(|b| format!("{b:02x}")).join(":");
            json!({
                "name": p.name, "kind": p.facts.kind, "device": p.facts.device, "mode": p.facts.mode,
                "mac": mac, "mtu": p.facts.mtu, "addresses": p.addresses,
            })
        })
        .collect();
    json!({
        "name": config.node.name,
        "version": env!("CARGO_PKG_VERSION"),
        "memory": report.memory,
        "ports": ports,
    })
    .to_string()
}

/// `millrace run`
pub fn run(config: Config) -> ExitCode {
    log::init(config.log.level, config.log.format);
    let drain_limit = config.node.drain;
    let name = config.node.name.clone();
    let listeners = config.listeners.clone();
    let signals = match Signals::install() {
        Ok(s) => s,
        Err(e) => return failed(&format!("cannot take signals: {e}")),
    };
    let node = match Node::start(config) {
        Ok(n) => n,
        Err(e) => return failed(&e),
    };
    for l in &listeners {
        for a in &l.addresses {
            log::info(format_args!("node \"{name}\" serves http://{}", SocketAddr::new(*a, l.http)));
        }
    }
    serve(node, &signals, drain_limit, |_| {})
}

fn failed(sentence: &str) -> ExitCode {
    log::error(sentence);
    exit::bad()
}

/// Waits for a signal, then drains and stops. `every_second` is called once a second until then.
fn serve(
    node: Node,
    signals: &Signals,
    drain_limit: Duration,
    mut every_second: impl FnMut(&Node),
) -> ExitCode {
    let mut last = Instant::now();
    loop {
        if signals.take_reload() {
            log::warn("reload is not yet in this version; restart the node to change its config");
        }
        if signals.ends() > 0 {
            break;
        }
        if node.has_died() {
            return failed("the data core has ended; the node cannot go on");
        }
        if last.elapsed() >= Duration::from_secs(1) {
            last = Instant::now();
            every_second(&node);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    log::info(format_args!(
        "draining {} connections, for {drain_limit:?} at most; a second signal stops at once",
        node.open_clients()
    ));
    node.drain();
    let began = Instant::now();
    // A connection that the peer merely has not closed yet is not waited for.
    while node.unfinished() > 0 && began.elapsed() < drain_limit && signals.ends() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = node.open_clients();
    node.stop();
    if left > 0 {
        log::warn(format_args!("stopped with {left} connections open"));
    } else {
        log::info("stopped");
    }
    exit::DONE
}

/// SIGTERM, SIGINT and SIGHUP, as counts that a loop can look at.
struct Signals {
    ends: Arc<std::sync::atomic::AtomicUsize>,
    reload: Arc<std::sync::atomic::AtomicBool>,
}

impl Signals {
    fn install() -> std::io::Result<Signals> {
        let s = Signals { ends: Arc::default(), reload: Arc::default() };
        let mut pending = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGHUP,
        ])?;
        let (ends, reload) = (Arc::clone(&s.ends), Arc::clone(&s.reload));
        std::thread::Builder::new().name("millrace-signals".to_owned()).spawn(move || {
            for signal in pending.forever() {
                if signal == signal_hook::consts::SIGHUP {
                    reload.store(true, Ordering::Relaxed);
                } else {
                    ends.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(s)
    }

    fn ends(&self) -> usize {
        self.ends.load(Ordering::Relaxed)
    }

    fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}
