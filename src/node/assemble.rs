//! A core from a [`Config`]: pools, ports, stack, proxy. Runs on the core's own thread, so that memory is
//! touched where it is used and nothing of a core's ever crosses a thread.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataplane::core_loop::Core;
use dataplane::lines::LineWriter;
use dataplane::mail::Post;
use dataplane::port::mem::{MemPort, WireEnd};
use dataplane::port::pcap::Tee;
use dataplane::port::tap::{Offloads, TapPort};
use dataplane::port::{Checksums, Mac, Port, Segmentation};
use dataplane::{Bells, Counters, Pool};
use hugepages::{Arena, Footprint, Limits, PagePolicy, Region};
use l7::cache::policy::hash::HashKeys;
use l7::cache::store::Store;
use l7::proxy::{Cells, HEAD_CELL_BYTES, Program, Proxy};
use l7::tls::offload::Helper;
use l7::tls::store::SessionStore;
use l7::tls::{HandshakeLimits, Handshakes, RECORD_BYTES_MAX, RecordCells, Tls};
use stack::neigh::Neighbours;
use stack::{Addr, Iface, Net, OwnPorts, Questions, Stack, Steering, Tcp, TcpConfig, Udp};

use super::dpdk;
use super::orders::Orders;
use super::pipeline::{NodePipeline, tune};
use crate::access_log::RING_BYTES;
use crate::config::{self, Config, PortKind};
use crate::tls::sessions_kept;

/// Packets that may wait for a port.
const TX_BOUND: usize = 1024;
/// Between two looks for frames of the kernel's, while there are none and the core is busy.
const EXCEPTION_REST_NS: u64 = 50_000;
/// Header cells: headroom for Ethernet, VLAN, IPv6, and room for TCP with options or an ICMP quote.
pub(super) const HEADER_CELL_BYTES: u16 = 256;
/// Payload cells.
const PAYLOAD_CELL_BYTES: u32 = 2048;
/// Letters that may wait for one core.
pub const MAIL_LETTERS: usize = 512;

/// Everything that one core is built from.
pub struct CorePlan {
    /// Its number, from 0.
    pub core: usize,
    /// What wakes the cores; there are as many as bells.
    pub bells: Arc<Bells>,
    /// The mail between them, if there are several.
    pub post: Option<Arc<Post>>,
    /// The config.
    pub config: Config,
    /// The config as the proxy follows it.
    pub program: Arc<Program>,
    /// The cache that all cores share, if there is one.
    pub cache: Option<SharedCache>,
    /// The core's pools.
    pub limits: Limits,
    /// Where the core's lines of the access log go.
    pub lines: LineWriter,
    /// Its queues of DPDK's devices.
    pub seats: dpdk::Seats,
    /// For a `host` port: the wire to its bridge, and the bridge's and our MAC.
    pub host_wire: Option<(WireEnd, Mac, Mac)>,
    /// Orders from the control side.
    pub orders: Arc<Orders>,
    /// Its way to the threads that take slow steps of handshakes.
    pub helper: Option<Helper>,
    /// What its connections are to know of the kernel, where a port is shared with it.
    pub kernel: Option<KernelPlan>,
    /// The core's counters.
    pub counters: Counters,
    /// Where the numbers of the core's requests start.
    pub log_seed: u64,
    /// Secrets.
    pub keys: [u64; 4],
    /// Which pages.
    pub pages: PagePolicy,
}

/// What a core is told of the kernel that shares a port.
#[derive(Clone)]
pub struct KernelPlan {
    /// Where it asks for neighbours.
    pub questions: Arc<Questions>,
    /// The ports that it connects from: not the kernel's.
    pub own_ports: OwnPorts,
}

/// The cache that all cores share.
#[derive(Clone)]
pub struct SharedCache {
    /// The store. A core is the participant of its number.
    pub store: Arc<Store>,
    /// Secrets of the hashes of keys.
    pub keys: HashKeys,
}

/// What a core has to report when it is built.
pub struct CoreReport {
    /// The ports as they run.
    pub ports: Vec<PortReport>,
    /// What the memory is made of, and why better pages could not be had.
    pub memory: String,
}

/// A port as it runs.
pub struct PortReport {
    /// Name in the config.
    pub name: String,
    /// Kind, device and mode.
    pub facts: dataplane::LinkFacts,
    /// Addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// The kernel's interface, where it shares them.
    pub host_if: Option<String>,
}

/// How many cores the node runs: an empty list means one, which is not pinned.
pub fn cores(config: &Config) -> usize {
    config.node.cores.len().max(1)
}

/// The pools of each core: the node's memory and connections are divided here, and nowhere else.
pub fn limits_for(config: &Config) -> Limits {
    let share = cores(config) as u64;
    let kept = u64::from(sessions_kept(config)) * SessionStore::SESSION_BYTES;
    let memory = (config.node.memory_bytes - config.cache.memory_bytes).saturating_sub(kept) / share;
    let memory = memory.saturating_sub(dpdk::device_buffers(config));
    // What sources are counted in takes 72 bytes of a connection at most, of which there are 96 in a MiB.
    let per_source = config.tls.connections_per_source_max.filter(|_| has_tls(config));
    let memory = if per_source.is_some() { memory - memory / 128 } else { memory };
    let mut l = if has_tls(config) { Limits::with_tls(memory) } else { Limits::for_core_memory(memory) };
    if let Some(n) = config.limits.connections_max {
        l.flows = n.div_ceil(share as u32).max(16);
        l.half_open = l.half_open.min(l.flows / 2).max(8);
        l.http_contexts = l.http_contexts.min(l.flows);
        l.tls_connections = l.tls_connections.min(l.flows);
        l.tls_handshakes = l.tls_handshakes.min(l.flows);
    }
    if let Some(n) = config.tls.handshakes_max.filter(|_| l.tls_handshakes > 0) {
        l.tls_handshakes = n.div_ceil(share as u32).clamp(1, l.flows);
    }
    l.tls_per_source = per_source.map_or(0, |n| n.div_ceil(share as u32));
    // Larger frames need larger cells, and mbufs have heads of their own: the same memory, fewer of them.
    let scale = rx_cell_cost(config) * 100 / u64::from(Pool::true_size(2048));
    l.rx_cells = (u64::from(l.rx_cells) * 100 / scale) as u32;
    l.rx_reserve = (l.rx_cells / 16).max(64);
    l
}

/// Bytes that a cell for received frames takes.
fn rx_cell_cost(config: &Config) -> u64 {
    dpdk::rx_cell_cost(config).unwrap_or(Pool::true_size(rx_cell_bytes(mtu(config))).into())
}

fn rx_cell_bytes(mtu: u16) -> u32 {
    // Ethernet with a VLAN tag in front of the packet, headroom in front of that.
    (u32::from(mtu) + 18 + dataplane::buf::HEADROOM as u32).next_multiple_of(64).max(2048)
}

/// Bytes of a frame with its Ethernet header and a VLAN tag, for the largest packet.
pub fn frame_bytes(config: &Config) -> usize {
    usize::from(mtu(config)) + 18
}

pub(super) fn mtu(config: &Config) -> u16 {
    config.ports.iter().map(|p| p.mtu).max().unwrap_or(1500)
}

/// What the pools of one core cost.
pub fn footprint(config: &Config, limits: &Limits) -> Footprint {
    let mut f = Footprint::default();
    let cell = |bytes| u64::from(Pool::true_size(bytes));
    f.add(
        "rx cells",
        limits.rx_cells.into(),
        rx_cell_cost(config),
        "received frames, and data that waits for a reader",
    );
    let mbufs = dpdk::device_buffers(config);
    if mbufs > 0 {
        f.add("mbufs", 1, mbufs, "what DPDK's devices receive into and send from, and its caches");
    }
    f.add(
        "payload cells",
        limits.payload_cells.into(),
        cell(PAYLOAD_CELL_BYTES),
        "heads and chunk lines that we write",
    );
    f.add(
        "head cells",
        limits.head_cells.into(),
        cell(HEAD_CELL_BYTES),
        "heads that are long or came in pieces",
    );
    f.add(
        "header cells",
        limits.header_cells.into(),
        dpdk::head_cell_cost(config).unwrap_or(cell(HEADER_CELL_BYTES.into())),
        "one per segment on its way out",
    );
    if limits.record_cells > 0 {
        f.add("record cells", limits.record_cells.into(), cell(RECORD_BYTES_MAX), "TLS records on their way");
    }
    Tcp::footprint(limits, &mut f);
    Tls::footprint(limits, &mut f);
    let kept = sessions_kept(config);
    if kept > 0 {
        let share = kept.div_ceil(cores(config) as u32);
        let why = "of clients that may send early data; this core's share";
        f.add("tls early sessions", share.into(), SessionStore::SESSION_BYTES, why);
    }
    Proxy::footprint(limits, &mut f);
    f.add("access log", 1, RING_BYTES as u64, "lines on their way to the log");
    if announced(config) {
        f.add("peers", limits.flows.into(), Proxy::PEER_BYTES, "addresses from PROXY headers");
    }
    if cores(config) > 1 {
        let letter = frame_bytes(config) as u64 + 32;
        f.add("mail", MAIL_LETTERS as u64, letter, "frames that other cores received for this one");
    }
    f
}

fn handshake_limits(config: &Config, limits: &Limits, keys: [u64; 4]) -> HandshakeLimits {
    let usual = HandshakeLimits::new(limits.tls_handshakes, [keys[0] ^ 5, keys[1] ^ 5]);
    let per_source =
        config.tls.handshakes_per_source_max.map_or(usual.per_source, |n| n.div_ceil(cores(config) as u32));
    HandshakeLimits { per_source, ..usual }
}

/// Whether connections may have TLS, of clients or to origins.
pub(super) fn has_tls(config: &Config) -> bool {
    config.listeners.iter().any(|l| l.https.is_some()) || config.has_secure_origins()
}

/// Whether connections may begin with a PROXY header.
fn announced(config: &Config) -> bool {
    config.listeners.iter().any(|l| !l.proxy_protocol_from.is_empty())
}

/// Builds a core.
///
/// # Errors
/// One sentence, with the mend.
pub fn core(plan: CorePlan) -> Result<(Core<NodePipeline>, CoreReport), String> {
    let CorePlan { core, bells, post, config, limits, host_wire, orders, counters, keys, pages, .. } = plan;
    let mut seats = plan.seats;
    let mtu = mtu(&config);
    let pool = |name, n, bytes| Pool::reserve(name, n, bytes, pages).map_err(|e| e.to_string());
    let rx = match dpdk::rx_pool(&config, &limits, &seats)? {
        Some(pool) => pool,
        None => pool("rx", limits.rx_cells, rx_cell_bytes(mtu))?,
    };
    let headers = match dpdk::head_pool(&config, &limits, &seats)? {
        Some(pool) => pool,
        None => pool("header", limits.header_cells, HEADER_CELL_BYTES.into())?,
    };
    let payload = pool("payload", limits.payload_cells, PAYLOAD_CELL_BYTES)?;
    let heads = pool("head", limits.head_cells, HEAD_CELL_BYTES)?;
    let records = pool("record", limits.record_cells.max(1), RECORD_BYTES_MAX)?;
    let need = Tcp::cost(&limits) + Tls::cost(&limits) + Proxy::cost(&limits);
    let mut arena = Arena::reserve(need, pages).map_err(|e| e.to_string())?;
    let memory = describe_pages(arena.region());

    let mut wire = host_wire;
    let mut ports: Vec<Box<dyn Port>> = Vec::new();
    let mut ifaces = Vec::new();
    let mut reports = Vec::new();
    for (n, p) in config.ports.iter().enumerate() {
        let number = n as u8;
        let (port, peer_mac): (Box<dyn Port>, _) = match &p.kind {
            PortKind::Tap { device } => {
                let mac = p.mac.unwrap_or_else(|| own_mac(device));
                let (cores, offloads) = (cores(&config), tap_offloads(p));
                let tap = TapPort::open(device, mac, p.mtu, rx.clone(), number, cores, offloads)
                    .map_err(|e| e.to_string())?;
                (Box::new(tap), None)
            }
            PortKind::Dpdk { .. } => (dpdk::open(&mut seats, p, (rx.clone(), &headers), number)?, None),
            PortKind::Host => {
                let (end, mac, bridge) = wire.take().ok_or("only one host port can be had")?;
                let port = MemPort::new(end, rx.clone(), mac, p.mtu, number)
                    .trust_wire("host", host_device(cores(&config)))
                    .with_doorbell()
                    .map_err(|e| {
                        format!("cannot make the host port's doorbell: {e}; raise the limit of open files")
                    })?;
                (Box::new(port), Some(bridge))
            }
        };
        let port = record(port, p.pcap.as_deref(), core)?;
        let facts = port.facts().clone();
        let mut iface = Iface::new(facts.mac, facts.mtu);
        if peer_mac.is_some() {
            iface.addresses.clear();
            // Whatever the other side is, it is behind the one station of the wire.
            iface.gateway = [Some(Addr::UNSPECIFIED), Some(Addr::UNSPECIFIED)];
        }
        iface.peer_mac = peer_mac;
        iface.tx_checksum_offload = facts.tx_checksum_offload;
        iface.tso_bytes_max = facts.tso_bytes_max;
        iface.rss = facts.rss.clone();
        iface.vlan = p.vlan.unwrap_or(dataplane::buf::NO_VLAN);
        for a in &p.addresses {
            if !iface.add(a.address, a.prefix_len) {
                return Err(format!(
                    "port \"{}\" has too many addresses; {} fit",
                    p.name,
                    stack::net::ADDRESSES_MAX
                ));
            }
        }
        for g in &p.gateways {
            iface.gateway[usize::from(g.is_ipv6())] = Some((*g).into());
        }
        reports.push(PortReport {
            name: p.name.clone(),
            facts,
            addresses: p.addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix_len)).collect(),
            host_if: p.host_if.clone(),
        });
        ifaces.push(iface);
        ports.push(port);
    }

    let small = "the core's arena is smaller than its pools; this is a defect";
    let mut net = Net::new(ifaces, Neighbours::new(limits.neighbours as usize), headers, counters.clone());
    for (n, p) in config.ports.iter().enumerate() {
        if let Some(name) = &p.host_if {
            let number = net.share(n as u8).ok_or("too many ports with host_if; 8 fit")?;
            let (mac, mtu) = (reports[n].facts.mac, reports[n].facts.mtu);
            // Its far end, the kernel's, is to have this MAC: `host_if` sees to that.
            // Its frames come from a wire, or go to one: they are finished.
            let offloads = Offloads::default();
            let tap = TapPort::open(name, mac, mtu, rx.clone(), number, cores(&config), offloads)
                .map_err(|e| format!("port \"{}\", host_if: {e}", p.name))?;
            debug_assert_eq!(usize::from(number), ports.len());
            ports.push(Box::new(tap.resting(EXCEPTION_REST_NS)));
        }
    }
    let mut tcp_config = TcpConfig::new(keys, &limits);
    tcp_config.cookies = config.tcp.syn_cookies;
    tcp_config.ecn = config.tcp.ecn;
    let mut tcp = Tcp::new(&limits, &mut arena, tcp_config, rx, counters.clone()).ok_or(small)?;
    if let Some(kernel) = plan.kernel {
        net.ask_kernel_through(kernel.questions);
        tcp.connect_from(kernel.own_ports);
    }
    for l in &config.listeners {
        for (at, _) in l.sockets() {
            tcp.listen(Some(at.ip().into()), at.port()).ok_or("too many listeners; 64 fit")?;
        }
    }
    tune(&mut tcp, &plan.program);
    let record_cells = RecordCells { payload: payload.clone(), records };
    let handshakes = Handshakes::new(handshake_limits(&config, &limits, keys), plan.helper, counters.clone());
    let mut tls = Tls::new(&limits, &mut arena, handshakes, record_cells, counters.clone()).ok_or(small)?;
    if let Some(cache) = &plan.cache {
        tls.read_from(Arc::clone(&cache.store));
    }
    let cells = Cells { payload, heads };
    let cache = plan.cache.map(|c| (c.store.handle(core), c.keys));
    let proxy = Proxy::new(plan.program, &limits, &mut arena, cells, cache, counters.clone()).ok_or(small)?;
    let mut proxy = proxy.on_core(core, cores(&config));
    proxy.log_to(plan.lines, plan.log_seed);
    if announced(&config) {
        proxy.expect_proxy_headers(limits.flows);
    }
    let mut stack = Stack::new(net, tcp, Udp::new(64), counters.clone());
    if let Some(post) = post {
        stack.steer(Steering::new(core, post));
    }
    let mut pipeline = NodePipeline::new(stack, tls, proxy, orders, counters.clone());
    if core > 0 {
        pipeline = pipeline.quiet();
    }
    let built = Core::new(ports, pipeline, counters, TX_BOUND).with_bell(bells, core);
    Ok((built, CoreReport { ports: reports, memory }))
}

fn host_device(cores: usize) -> String {
    match cores {
        1 => "kernel sockets".to_owned(),
        n => format!("kernel sockets, a bridge for each of {n} cores"),
    }
}

/// Each core writes a file of its own: the first one that of the config, the others one beside it with their number.
/// What the kernel does for a TAP. A recording shows what a wire would carry, unless `device` says otherwise; and a port that
/// is shared with the kernel gives it received frames back, whose checksums have to be whole for that.
fn tap_offloads(p: &config::Port) -> Offloads {
    let tx_checksums = match p.checksums {
        Checksums::Auto => p.pcap.is_none(),
        Checksums::Device => true,
        Checksums::Software => false,
    };
    Offloads {
        rx_checksums: tx_checksums && p.host_if.is_none(),
        tx_checksums,
        segmentation: tx_checksums && p.pcap.is_none() && p.segmentation == Segmentation::Auto,
    }
}

fn record(port: Box<dyn Port>, pcap: Option<&Path>, core: usize) -> Result<Box<dyn Port>, String> {
    match pcap {
        None => Ok(port),
        Some(path) => match Tee::new(port, &pcap_of(path, core)) {
            Ok(tee) => Ok(Box::new(tee)),
            Err(e) => Err(format!("cannot write {}: {e}; change pcap in the port's table", path.display())),
        },
    }
}

fn pcap_of(path: &Path, core: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if core > 0 {
        name.push(format!(".{core}"));
    }
    name.into()
}

fn describe_pages(r: &Region) -> String {
    let mut s = r.page().to_string();
    for a in r.attempts() {
        s.push_str(&format!("; {} × {}: {}", a.pages, a.page, a.error));
    }
    s
}

/// A locally administered address that stays the same for a device name.
pub(crate) fn own_mac(device: &str) -> Mac {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for b in device.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let b = h.to_be_bytes();
    [0x02, b[1], b[2], b[3], b[4], b[5]]
}

/// Where the kernel is to listen for a host port: every listener's addresses.
pub fn kernel_listeners(config: &Config) -> Vec<SocketAddr> {
    let host: Vec<_> = config.ports.iter().filter(|p| p.kind == PortKind::Host).collect();
    let on_host = |ip: &IpAddr| host.iter().any(|p| p.addresses.iter().any(|a| a.contains(*ip)));
    let mut all = Vec::new();
    for l in &config.listeners {
        all.extend(l.sockets().map(|(at, _)| at).filter(|at| on_host(&at.ip())));
    }
    all
}
