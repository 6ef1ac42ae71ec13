//! Memory: hugepages of each node, what may be locked, and the files that may be open.

use serde::Serialize;

use super::asker::Cap;
use super::nics::Nic;
use super::{Finding, Host, Kind};
use crate::config::Machine;

/// What DPDK takes beside the node's own memory: its heap and the buffers of a port or two.
const DPDK_BYTES: u64 = 64 << 20;
const NODES: &str = "/sys/devices/system/node";

/// Hugepages of one size on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// NUMA node; `None` where the kernel does not say.
    pub node: Option<u32>,
    pub size_kib: u64,
    pub total: u64,
    pub free: u64,
}

impl Pages {
    fn free_bytes(&self) -> u64 {
        self.free.saturating_mul(self.size_kib) << 10
    }
}

/// All sizes on all nodes that are on line, also those of which there are none.
pub fn hugepages(host: &Host) -> Vec<Pages> {
    let nodes = host.files.list(&format!("{NODES}/online"));
    let mut all: Vec<Pages> =
        nodes.iter().flat_map(|n| of(host, Some(*n), &format!("{NODES}/node{n}/hugepages"))).collect();
    if all.is_empty() {
        all = of(host, None, "/sys/kernel/mm/hugepages");
    }
    if all.is_empty() {
        all.extend(of_meminfo(host));
    }
    all.sort_by_key(|p| (p.node, p.size_kib));
    all
}

fn of(host: &Host, node: Option<u32>, folder: &str) -> Vec<Pages> {
    let pages = |name: String| {
        let size_kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let number = |file: &str| host.files.number(&format!("{folder}/{name}/{file}"));
        Some(Pages { node, size_kib, total: number("nr_hugepages")?, free: number("free_hugepages")? })
    };
    host.files.names(folder).into_iter().filter_map(pages).collect()
}

/// The size that is the kernel's default: all that there is to see without /sys.
fn of_meminfo(host: &Host) -> Option<Pages> {
    let info = host.files.text("/proc/meminfo")?;
    let field = |name: &str| {
        let rest = info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let (total, free) = (field("HugePages_Total")?, field("HugePages_Free")?);
    Some(Pages { node: None, size_kib: field("Hugepagesize")?, total, free })
}

pub fn findings(host: &Host, pages: &[Pages], nics: &[Nic]) -> Vec<Finding> {
    let mut all = huge(host, pages, nics);
    all.extend([transparent(host), locked(host), open_files(host), run_directory(host)]);
    all
}

/// A node's default memory, which a config may change, and what DPDK adds.
fn wanted_bytes(host: &Host) -> u64 {
    let kib = host.files.text("/proc/meminfo").and_then(|info| {
        info.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
    });
    let machine = Machine { cores: vec![0], memory_bytes: kib.unwrap_or(8 << 20) << 10 };
    machine.memory_default_bytes() + DPDK_BYTES
}

fn huge(host: &Host, pages: &[Pages], nics: &[Nic]) -> Vec<Finding> {
    const CHECK: &str = "memory.hugepages";
    let nodes: Vec<Option<u32>> = {
        let mut nodes: Vec<_> = pages.iter().map(|p| p.node).collect();
        nodes.dedup();
        nodes
    };
    if nodes.is_empty() {
        let found = "the kernel has no hugepages, or does not show them here";
        let mend = "run a kernel that has them (CONFIG_HUGETLBFS); in a container: look on the host";
        return vec![Finding::note(CHECK, found).mend(mend).blocks(&[Kind::Dpdk])];
    }
    let none_at_all = pages.iter().all(|p| p.total == 0);
    let wanted = wanted_bytes(host);
    let one = |node: Option<u32>| {
        let mine: Vec<&Pages> = pages.iter().filter(|p| p.node == node).collect();
        let total: u64 = mine.iter().map(|p| p.total).sum();
        let free: u64 = mine.iter().map(|p| p.free_bytes()).sum();
        let subject = node.map_or(String::new(), |n| format!("node {n}"));
        let mend = mine
            .iter()
            .find(|p| p.size_kib == 2048)
            .or(mine.first())
            .map(|p| reserve(p, nodes.len(), wanted));
        let mend = mend.unwrap_or_default();
        let f = if total == 0 {
            let served = nics.iter().any(|n| n.node == node && node.is_some() && n.with_dpdk());
            let blocks: &[Kind] = if none_at_all || served { &[Kind::Dpdk] } else { &[] };
            let why = if served { ", and a NIC for dpdk is on this node" } else { "" };
            Finding::note(CHECK, format!("no hugepages are reserved{why}")).mend(mend).blocks(blocks)
        } else {
            let shown: Vec<String> = mine.iter().filter(|p| p.total > 0).map(|p| show(p)).collect();
            let shown = shown.join(", ");
            match free {
                0 => Finding::warn(CHECK, format!("{shown}: others have them all, perhaps a node that runs"))
                    .mend(mend),
                _ if free < wanted => {
                    let need = hugepages::human_bytes(wanted as usize);
                    let found = format!("{shown}: less than the {need} that a node has by default");
                    Finding::note(CHECK, found).mend(mend)
                }
                _ => Finding::ok(CHECK, shown),
            }
        };
        f.about(subject)
    };
    nodes.iter().map(|n| one(*n)).collect()
}

fn show(p: &Pages) -> String {
    let size = match p.size_kib >> 10 {
        mib if mib >= 1024 => format!("{} GiB", mib >> 10),
        mib => format!("{mib} MiB"),
    };
    format!("{} of {} pages of {size} free", p.free, p.total)
}

/// As many more as a node takes by default.
fn reserve(p: &Pages, nodes: usize, wanted_bytes: u64) -> String {
    let lacking = wanted_bytes.div_ceil(p.size_kib << 10).saturating_sub(p.free);
    let count = p.total + lacking;
    match p.node {
        Some(n) if nodes > 1 => {
            format!("echo {count} > {NODES}/node{n}/hugepages/hugepages-{}kB/nr_hugepages", p.size_kib)
        }
        _ => format!("sysctl -w vm.nr_hugepages={count}"),
    }
}

fn transparent(host: &Host) -> Finding {
    const CHECK: &str = "memory.transparent";
    let text = host.files.text("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = text.split_whitespace().find_map(|w| w.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        Some("madvise" | "always") => {
            Finding::ok(CHECK, "where hugepages are not reserved, the kernel may still use some")
        }
        Some(other) => Finding::note(CHECK, format!("the kernel makes no hugepages by itself ({other})"))
            .mend("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        None => Finding::note(CHECK, "whether the kernel makes hugepages by itself is not known"),
    }
}

/// What vfio maps for a NIC counts as locked.
fn locked(host: &Host) -> Finding {
    const CHECK: &str = "limits.memlock";
    let asker = &host.asker;
    let f = match asker.memlock_bytes {
        None => Finding::ok(CHECK, "any amount of memory may be locked"),
        Some(_) if asker.can(Cap::IpcLock) && !asker.in_namespace => {
            Finding::ok(CHECK, "any amount of memory may be locked (CAP_IPC_LOCK)")
        }
        Some(bytes) if bytes < wanted_bytes(host) => {
            let found = format!(
                "only {} may be locked by this user, and a NIC's memory is all locked",
                hugepages::human_bytes(bytes as usize)
            );
            Finding::warn(CHECK, found)
                .mend("ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit of the service")
        }
        Some(bytes) => {
            Finding::ok(CHECK, format!("{} may be locked", hugepages::human_bytes(bytes as usize)))
        }
    };
    f.matters_to(&[Kind::Dpdk])
}

/// A port of kind `host` takes a descriptor for each connection.
fn open_files(host: &Host) -> Finding {
    const CHECK: &str = "limits.files";
    let f = match host.asker.open_files {
        Some(n @ ..4096) => {
            let found =
                format!("{n} files may be open, and a port of kind host takes one for each connection");
            Finding::note(CHECK, found)
                .mend("ulimit -n 65536, or LimitNOFILE=65536 in the unit of the service")
        }
        Some(n) => Finding::ok(CHECK, format!("{n} files may be open")),
        None => Finding::ok(CHECK, "any number of files may be open"),
    };
    f.matters_to(&[Kind::Host])
}

fn run_directory(host: &Host) -> Finding {
    const CHECK: &str = "run.directory";
    let root = host.run_root.display();
    if host.asker.may_make(&host.files, &host.run_root) {
        return Finding::ok(CHECK, format!("{root} can be made, or is there and can be written"));
    }
    Finding::warn(
        CHECK,
        format!("this user cannot write {root}, where a node keeps its counters and its socket"),
    )
    .mend(format!(
        "install -d -m 0700 -o {} {root}, or set MILLRACE_RUN to a folder of the user's",
        host.asker.uid
    ))
    .blocks(&Kind::ALL)
}
