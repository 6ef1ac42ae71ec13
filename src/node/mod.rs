//! The node: ports, cores and pipeline put together from a [`Config`], started, drained, stopped.
//!
//! ```text
//!  control threads                                  data cores (a thread each, pinned when [node] cores says so)
//!   run directory, counters segment
//!   host bridges (a thread each) ◄── mem wires ──►  port ─► stack ─► proxy ─► port     ╮ mail: frames that came
//!   signals, control socket ──► Orders, Desk ────►  looked at once in a pass           ╯ to the wrong core
//!   counters segment ◄───────────── plain stores ── counters
//! ```
//!
//! Cores share nothing on the hot path. The node's memory is divided among them; each has its own queue of every
//! device, its own pools, connections and origin connections.

mod acme;
mod assemble;
mod demo;
mod devices;
mod dpdk;
mod flows;
mod names;
mod orders;
mod origin_tls;
mod pipeline;
mod program;
mod purge;
mod reload;
mod serve;
mod shared;
mod totals;
mod verbs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::counters::{FACTS_BYTES_MAX, NodeState, Segment};
use dataplane::mail::Post;
use dataplane::port::mem;
use dataplane::{Bells, Clock, Ctr};
use hugepages::human_bytes;
use l7::cache::policy::hash::HashKeys;
use l7::cache::store::{Store, StoreConfig};
use l7::proxy::Program;
use serde_json::json;

pub(crate) use assemble::own_mac;
pub use assemble::{CorePlan, KernelPlan, SharedCache, core as build_core, limits_for};
pub use demo::demo;
use devices::Devices;
pub use flows::{FlowPage, FlowsVerb};
pub use names::Names;
pub use orders::{CoreOrder, Desk, KernelNews, Orders, Ticket, Tray};
pub use pipeline::NodePipeline;
pub use program::{Given, compile};
pub use reload::{Outcome, Reloader};
pub use serve::run;
use serve::{Signals, failed, serve};
pub use totals::{TotalsPage, TotalsVerb};

use crate::access_log::{AccessLog, Targets};
use crate::config::{Config, PortKind};
use crate::control::Control;
use crate::host::{self, HostBridge, HostConfig};
use crate::host_if::Mirror;
use crate::log;
use crate::rundir::RunDir;
use crate::tls::Side;

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
    /// What wakes the cores.
    pub bells: Arc<Bells>,
    /// What the cores are told.
    pub desk: Arc<Desk<CoreOrder>>,
    /// Who answers on the control socket: whoever has verbs adds them.
    pub control: Control,
    /// The config as the cores follow it from the start.
    pub program: Arc<Program>,
    /// The cache that the cores share, if there is one.
    pub cache: Option<SharedCache>,
    /// The files of the access log.
    pub logs: Arc<Targets>,
    log: AccessLog,
    /// Where the names of origins lead.
    pub names: Arc<Names>,
    /// What the cores have for TLS.
    pub tls: Arc<Side>,
    /// What the segment says of the node, without what changes.
    facts: serde_json::Value,
    /// What DPDK's devices say of themselves.
    devices: Option<Devices>,
    cores: Vec<CoreThread>,
    bridges: Vec<HostBridge>,
    /// What follows the kernel, where a port is shared with it.
    mirror: Option<Mirror>,
    /// Held until the end: it says that the node lives.
    _rundir: RunDir,
}

/// A data core, as the control side knows it.
struct CoreThread {
    orders: Arc<Orders>,
    /// `None` once it has been waited for.
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node. It serves when this returns.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn start(mut config: Config) -> Result<Node, String> {
        let rundir = RunDir::create(&config.node.name).map_err(|e| e.to_string())?;
        // Before the cores: what it starts may run wherever this thread may.
        let eal = dpdk::start(&config)?;
        let cores = assemble::cores(&config);
        let segment = Segment::create(&rundir.counters(), cores)
            .map_err(|e| format!("cannot make {}: {e}", rundir.counters().display()))?;
        let clock = Clock::calibrated();
        segment.set_cycles_per_second(clock.cycles_per_second());
        let bells = Bells::new(cores)
            .map_err(|e| format!("cannot make the cores' doorbells: {e}; raise the limit of open files"))?;
        let control = Control::start(&rundir.control_socket())
            .map_err(|e| format!("cannot listen on {}: {e}", rundir.control_socket().display()))?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ns_at_start = (unix.as_nanos() as u64).saturating_sub(clock.now().0);
        let cache = shared_cache(&config, cores, &bells)?;
        let limits = limits_for(&config);
        let logs = Arc::new(Targets::default());
        let (log, lines) = AccessLog::start(Arc::clone(&logs), cores)
            .map_err(|e| format!("cannot start the access log's thread: {e}"))?;
        let [log_seed, ..] = secrets()?;
        let names = Arc::<Names>::default();
        names.follow(&config)?;
        let known = |name: &str| names.addresses(name);
        let tls = Arc::new(Side::start(&config, cores, &bells)?);
        let keys = tls.keys(&config)?;
        let given = Given {
            limits: &limits,
            unix_ns_at_start,
            known: &known,
            old: None,
            logs: &logs,
            shown: &[],
            tickets: keys.tickets(),
        };
        let program = program::compile(&config, given)?;
        tls.keep(keys);
        let all_orders: Vec<Arc<Orders>> = (0..cores).map(|_| Arc::default()).collect();
        let trays = all_orders.iter().map(|o| Arc::clone(&o.tray)).collect();
        let mut node = Node {
            segment: Arc::clone(&segment),
            kernel_addresses: Vec::new(),
            bells: Arc::clone(&bells),
            desk: Arc::new(Desk::new(trays, Arc::clone(&bells))),
            control,
            program,
            logs,
            log,
            cache,
            names,
            tls,
            facts: serde_json::Value::Null,
            devices: None,
            cores: Vec::new(),
            bridges: Vec::new(),
            mirror: None,
            _rundir: rundir,
        };
        let mut wires = node.bridge_kernel(&mut config, cores)?.into_iter();
        let post = (cores > 1)
            .then(|| Post::new(assemble::MAIL_LETTERS, assemble::frame_bytes(&config), Arc::clone(&bells)));
        // The same on all cores: a connection's hash, and with it its ISN, do not depend on where it lands.
        let keys = secrets()?;
        let kernel = shared::plan(&config)?;
        // After the node, which waits for cores that wait for those without a seat: dropped before it.
        let seats = dpdk::take(&config, eal, assemble::own_mac)?;
        node.devices = Some(Devices::new(&config, dpdk::counts(&seats)));
        let mut reports = Vec::new();
        for (((core, orders), lines), seats) in all_orders.into_iter().enumerate().zip(lines).zip(seats) {
            let plan = CorePlan {
                core,
                bells: Arc::clone(&bells),
                post: post.clone(),
                config: config.clone(),
                program: Arc::clone(&node.program),
                cache: node.cache.clone(),
                limits: limits.clone(),
                lines,
                log_seed: log_seed.wrapping_add((core as u64) << 48),
                seats,
                host_wire: wires.next().map(|wire| (wire, NODE_MAC, BRIDGE_MAC)),
                orders,
                helper: node.tls.helper(core),
                kernel: kernel.as_ref().map(|k| k.of_cores.clone()),
                counters: segment.writer(core),
                keys,
                pages: config.node.pages,
            };
            reports.push(node.start_core(plan, &clock)?);
        }
        // Each says for itself what it runs on; all have done so before the node counts as running.
        let reports: Result<Vec<_>, String> = reports
            .into_iter()
            .map(|told| match told.recv() {
                Ok(report) => report,
                Err(_) => Err("a data core ended before it served; its message is above".to_owned()),
            })
            .collect();
        let reports = reports?;
        announce(&config, &limits, &reports);
        if let (Some(kernel), Some(first)) = (kernel, reports.first()) {
            node.mirror = Some(kernel.start(&config, first, Arc::clone(&node.desk))?);
        }
        node.facts = facts(&config, &reports);
        segment.set_facts(&node.facts.to_string());
        segment.set_state(NodeState::Running);
        Ok(node)
    }

    /// Starts the bridges of a host port, one for each core; gives the cores' ends of their wires.
    fn bridge_kernel(&mut self, config: &mut Config, cores: usize) -> Result<Vec<mem::WireEnd>, String> {
        let Some(p) = config.ports.iter().find(|p| p.kind == PortKind::Host) else { return Ok(Vec::new()) };
        let frame_bytes = usize::from(p.mtu) + 18;
        let (near, far): (Vec<_>, Vec<_>) =
            (0..cores).map(|_| mem::wire(HOST_WIRE_FRAMES, frame_bytes)).unzip();
        let listen = assemble::kernel_listeners(config);
        let host = HostConfig::new(listen, NODE_MAC, BRIDGE_MAC);
        self.bridges = host::start_each(&host, far).map_err(|e| e.to_string())?;
        self.kernel_addresses = self.bridges.first().map(|b| b.addresses().to_vec()).unwrap_or_default();
        take_chosen_ports(config, &self.kernel_addresses);
        Ok(near)
    }

    /// Starts a core's thread, which tells what it has built.
    fn start_core(&mut self, plan: CorePlan, clock: &Clock) -> Result<Told, String> {
        let (core, clock) = (plan.core, clock.clone());
        let cpu = plan.config.node.cores.get(core).copied();
        let orders = Arc::clone(&plan.orders);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("millrace-core{core}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                sleep_exactly();
                let orders = Arc::clone(&plan.orders);
                match build_core(plan) {
                    Ok((mut core, report)) => {
                        let _ = tell.send(Ok(report));
                        core.run(&clock, &orders.stop);
                    }
                    Err(e) => drop(tell.send(Err(e))),
                }
            })
            .map_err(|e| format!("cannot start a data core's thread: {e}"))?;
        self.cores.push(CoreThread { orders, thread: Some(thread) });
        Ok(told)
    }

    /// Takes nothing new from now on.
    pub fn drain(&self) {
        self.segment.set_state(NodeState::Draining);
        for b in &self.bridges {
            b.stop_accepting();
        }
        for c in &self.cores {
            c.orders.drain.store(true, Ordering::Relaxed);
        }
        self.bells.ring_all();
    }

    /// Brings what devices say of themselves into the segment.
    fn tell_of_devices(&self) {
        let all = self.devices.as_ref().map(Devices::look).unwrap_or_default();
        if all.is_empty() {
            return;
        }
        let mut facts = self.facts.clone();
        let ports = facts["ports"].as_array_mut().into_iter().flatten();
        for (port, told) in ports.filter(|p| p["kind"] == "dpdk").zip(all) {
            for (key, value) in told {
                port[key] = value;
            }
        }
        let text = facts.to_string();
        if text.len() <= FACTS_BYTES_MAX {
            self.segment.set_facts(&text);
        }
    }

    /// Client connections that are open.
    pub fn open_clients(&self) -> u64 {
        self.segment.read().get(Ctr::HttpOpen)
    }

    /// Connections of any kind that would lose something if the node ended now; known once it drains.
    fn unfinished(&self) -> u64 {
        let of = |c: &CoreThread| c.orders.unfinished.load(Ordering::Relaxed);
        self.cores.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Whether a data core has ended by itself.
    pub fn has_died(&self) -> bool {
        self.cores.iter().any(|c| c.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }

    /// Ends the node at once.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.mirror = None;
        for c in &self.cores {
            c.orders.stop.store(true, Ordering::Relaxed);
        }
        self.bells.ring_all();
        for thread in self.cores.iter_mut().filter_map(|c| c.thread.take()) {
            // A panic over there has been reported by its own thread.
            let _ = thread.join();
        }
        self.log.end();
        for mut b in self.bridges.drain(..) {
            b.shutdown();
        }
        self.segment.set_state(NodeState::Stopped);
    }
}

type Told = mpsc::Receiver<Result<assemble::CoreReport, String>>;

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// The cache, where any site has one. Its participants are the cores, and after them the control side.
fn shared_cache(config: &Config, cores: usize, bells: &Arc<Bells>) -> Result<Option<SharedCache>, String> {
    let c = &config.cache;
    if c.memory_bytes == 0 {
        return Ok(None);
    }
    let [a, b, d, e] = secrets()?;
    let mut store = StoreConfig::for_bytes(c.memory_bytes, cores as u32 + 1, [a, b]);
    store.object_bytes_max = c.object_bytes_max.min(store.bytes);
    store.pinned_bytes_max = c.pinned_bytes_max;
    let bells = Arc::clone(bells);
    let wake = Box::new(move |core: usize| bells.ring(core));
    let store = Store::reserve(store, config.node.pages, wake)
        .map_err(|e| format!("{e}; lower [cache] memory, or [node] memory"))?;
    Ok(Some(SharedCache { store, keys: HashKeys(d, e) }))
}

/// Port 0 asks the kernel for any: the node must listen where the kernel does.
fn take_chosen_ports(config: &mut Config, chosen: &[SocketAddr]) {
    let mut chosen = chosen.iter();
    for l in &mut config.listeners {
        // In the order of `Listener::sockets`.
        for port in [&mut l.http, &mut l.https].into_iter().flatten() {
            for _ in &l.addresses {
                if let (0, Some(a)) = (*port, chosen.next()) {
                    *port = a.port();
                }
            }
        }
    }
}

pub(crate) fn secrets() -> Result<[u64; 4], String> {
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

/// Keeps this thread on a CPU, if it may.
pub(crate) fn pin(cpu: u16) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu.into());
    if let Err(e) = rustix::thread::sched_setaffinity(None, &set) {
        log::warn(format_args!("cannot pin a data core to CPU {cpu}: {e}; it runs unpinned"));
    }
}

/// Has this thread woken when it asked to be: the kernel lets others sleep up to 50 µs longer, which is half of what
/// pacing reckons in.
fn sleep_exactly() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Says what runs.
fn announce(config: &Config, limits: &hugepages::Limits, reports: &[assemble::CoreReport]) {
    let Some(first) = reports.first() else { return };
    let footprint = assemble::footprint(config, limits);
    let each = match reports.len() {
        1 => String::new(),
        n => format!(" for each of {n} cores"),
    };
    log::info(format_args!(
        "memory {}{each} in {}\n{footprint}",
        human_bytes(footprint.bytes() as usize),
        first.memory
    ));
    for p in &first.ports {
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
}

fn facts(config: &Config, reports: &[assemble::CoreReport]) -> serde_json::Value {
    let first = reports.first();
    let ports: Vec<_> = first
        .into_iter()
        .flat_map(|r| &r.ports)
        .map(|p| {
            let mac = p.facts.mac.map(|b| format!("{b:02x}")).join(":");
            json!({
                "name": p.name, "kind": p.facts.kind, "device": p.facts.device, "mode": p.facts.mode,
                "mac": mac, "mtu": p.facts.mtu, "addresses": p.addresses, "host_if": p.host_if,
            })
        })
        .collect();
    json!({
        "name": config.node.name,
        "version": env!("CARGO_PKG_VERSION"),
        "memory": first.map(|r| &r.memory),
        "cpus": config.node.cores,
        "ports": ports,
    })
}
