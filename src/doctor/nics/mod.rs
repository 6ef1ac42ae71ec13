//! NICs on PCI: what they are, who holds them, and whether one may be taken.

mod known;

use serde::Serialize;

use self::known::driver_of;
use super::control::Routes;
use super::iommu::{Vfio, group_file};
use super::{Finding, Host, Kind};

const DEVICES: &str = "/sys/bus/pci/devices";
/// Ethernet, and InfiniBand for NICs that are both.
const CLASSES: [u32; 2] = [0x0200, 0x0207];
/// Drivers of DPDK's that work beside the kernel's: nothing is bound anew.
const BESIDE_KERNEL: [(&str, &str); 2] = [("net_mlx5", "mlx5_core"), ("net_mlx4", "mlx4_core")];
/// Drivers that hold a device for a process.
const FOR_PROCESSES: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// How far devices on top of a NIC are followed (a VLAN on a bridge on a bond).
const DEPTH: usize = 4;

/// Whether a port of kind `dpdk` may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may: held for a process, and this user may open it.
    Ready,
    /// Held for a process, but not as it should be.
    Held,
    /// The kernel has it and does nothing with it, or nobody has it.
    Free,
    /// The kernel has it and works with it.
    InUse,
    /// No driver of DPDK's takes it.
    Unknown,
}

/// A NIC.
#[derive(Clone, Debug, Serialize)]
pub struct Nic {
    /// PCI address.
    pub address: String,
    pub vendor: String,
    pub device: String,
    /// The kernel driver that holds it.
    pub driver: Option<String>,
    /// The kernel's interfaces on it.
    pub interfaces: Vec<String>,
    pub up: bool,
    /// Why it should not be taken: addresses, a default route, an ssh session; in words.
    pub used_for: Vec<String>,
    pub node: Option<u32>,
    pub speed_mbps: Option<u64>,
    pub iommu_group: Option<String>,
    /// The driver of DPDK's that takes it.
    pub dpdk_driver: Option<&'static str>,
    pub state: State,
    /// In the way, where the state is `Held`: what, and what mends it.
    #[serde(skip)]
    trouble: Option<(String, String)>,
}

impl Nic {
    /// Whether DPDK has it, or could have it at once.
    pub fn with_dpdk(&self) -> bool {
        matches!(self.state, State::Ready | State::Held)
    }

    /// Whether it is had by vfio, if at all.
    pub fn wants_vfio(&self) -> bool {
        let beside = self.dpdk_driver.is_some_and(|d| BESIDE_KERNEL.iter().any(|(name, _)| *name == d));
        self.state != State::Unknown && !beside
    }

    fn title(&self) -> String {
        let Nic { vendor, device, .. } = self;
        let what = self.dpdk_driver.map_or(String::new(), |d| format!(", DPDK's {d}"));
        let names = if self.interfaces.is_empty() {
            String::new()
        } else {
            format!("{}, ", self.interfaces.join(", "))
        };
        let speed = self.speed_mbps.map_or(String::new(), |m| match m {
            1000.. => format!(", {} Gbit/s", m as f64 / 1000.0),
            _ => format!(", {m} Mbit/s"),
        });
        let node = self.node.map_or(String::new(), |n| format!(", NUMA node {n}"));
        format!("{names}{vendor}:{device}{what}{speed}{node}")
    }

    /// Commands that take it from the kernel and hold it for a process.
    fn bind(&self) -> String {
        let at = format!("{DEVICES}/{}", self.address);
        let down = self.interfaces.iter().map(|i| format!("ip link set {i} down && ")).collect::<String>();
        let unbind = self
            .driver
            .as_ref()
            .map_or(String::new(), |_| format!("echo {} > {at}/driver/unbind && ", self.address));
        format!(
            "modprobe vfio-pci && {down}echo vfio-pci > {at}/driver_override && {unbind}echo {} > /sys/bus/pci/drivers_probe",
            self.address
        )
    }
}

/// All NICs, by address.
pub fn all(host: &Host) -> Vec<Nic> {
    let (routes, vfio) = (Routes::read(host), Vfio::read(host));
    host.files.names(DEVICES).into_iter().filter_map(|a| read(host, &routes, &vfio, a)).collect()
}

fn read(host: &Host, routes: &Routes, vfio: &Vfio, address: String) -> Option<Nic> {
    let files = &host.files;
    let at = format!("{DEVICES}/{address}");
    if !CLASSES.contains(&(files.hex(&format!("{at}/class"))? >> 8)) {
        return None;
    }
    let (vendor, device) = (files.hex(&format!("{at}/vendor"))?, files.hex(&format!("{at}/device"))?);
    let interfaces = interfaces(host, &at);
    let flags = |i: &String| files.hex(&format!("/sys/class/net/{i}/flags")).unwrap_or(0);
    let speeds = interfaces.iter().filter_map(|i| files.number(&format!("/sys/class/net/{i}/speed")));
    let mut nic = Nic {
        vendor: format!("{vendor:04x}"),
        device: format!("{device:04x}"),
        driver: files.link(&format!("{at}/driver")),
        up: interfaces.iter().any(|i| flags(i) & 1 == 1),
        used_for: interfaces.iter().flat_map(|i| uses(host, routes, i)).collect(),
        node: files.number(&format!("{at}/numa_node")).and_then(|n| u32::try_from(n).ok()),
        // A link that is down has none, or says 2^32 - 1.
        speed_mbps: speeds.max().filter(|s| (1..1 << 24).contains(s)),
        iommu_group: files.link(&format!("{at}/iommu_group")),
        dpdk_driver: driver_of(vendor, device),
        interfaces,
        address,
        state: State::Unknown,
        trouble: None,
    };
    (nic.state, nic.trouble) = state(host, vfio, &nic);
    Some(nic)
}

/// The kernel's interfaces on a device; virtio has a device of its own between.
fn interfaces(host: &Host, at: &str) -> Vec<String> {
    let between = host.files.names(at).into_iter().filter(|n| n.starts_with("virtio"));
    let mut all = host.files.names(&format!("{at}/net"));
    all.extend(between.flat_map(|n| host.files.names(&format!("{at}/{n}/net"))));
    all
}

/// What the kernel does by an interface, and by those on top of it (VLANs, bridges, bonds).
fn uses(host: &Host, routes: &Routes, interface: &str) -> Vec<String> {
    let mut all = vec![interface.to_owned()];
    let mut layer = all.clone();
    for _ in 0..DEPTH {
        let above = |i: &String| {
            let names = host.files.names(&format!("/sys/class/net/{i}"));
            names.into_iter().filter_map(|n| n.strip_prefix("upper_").map(str::to_owned)).collect::<Vec<_>>()
        };
        layer = layer.iter().flat_map(above).filter(|i| !all.contains(i)).collect();
        all.extend(layer.iter().cloned());
    }
    let mut uses = Vec::new();
    for i in &all {
        let on = if i == interface { String::new() } else { format!(" (by {i})") };
        let addresses: Vec<_> = routes.on(i).collect();
        if host.ssh.is_some_and(|a| addresses.contains(&a)) {
            uses.push(format!("this ssh session goes through it{on}"));
        }
        if routes.has_default(i) {
            uses.push(format!("it has the default route{on}"));
        }
        if !addresses.is_empty() {
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            uses.push(format!("the kernel has {} on it{on}", shown.join(", ")));
        }
    }
    uses
}

fn state(host: &Host, vfio: &Vfio, nic: &Nic) -> (State, Option<(String, String)>) {
    let Some(dpdk) = nic.dpdk_driver else { return (State::Unknown, None) };
    let holder = nic.driver.as_deref().unwrap_or("");
    if BESIDE_KERNEL.contains(&(dpdk, holder)) {
        // It needs the verbs of rdma-core, and leaves the kernel what is not the node's.
        return if nic.used_for.is_empty() { (State::Ready, None) } else { (State::InUse, None) };
    }
    if !FOR_PROCESSES.contains(&holder) {
        return (if nic.used_for.is_empty() { State::Free } else { State::InUse }, None);
    }
    let held = |what: String, mend: String| (State::Held, Some((what, mend)));
    if holder != "vfio-pci" {
        return match host.asker.uid {
            0 if !host.asker.in_namespace => (State::Ready, None),
            _ => held(
                format!("only root may have it by {holder}"),
                format!("run the node as root, or use vfio: {}", nic.bind()),
            ),
        };
    }
    let Some(group) = &nic.iommu_group else {
        return held("it is in no IOMMU group".to_owned(), "see the finding about the IOMMU".to_owned());
    };
    let others = strangers(host, group);
    if !others.is_empty() {
        let mend = "hold these by vfio-pci too, or put the NIC into another slot".to_owned();
        return held(
            format!("its IOMMU group {group} has devices of the kernel's in it: {}", others.join(", ")),
            mend,
        );
    }
    let (file, may) = group_file(host, group, vfio);
    if !may {
        return held(format!("this user may not open {file}"), format!("chown {} {file}", host.asker.uid));
    }
    (State::Ready, None)
}

/// Devices of a group that a kernel driver works with; bridges don't count.
fn strangers(host: &Host, group: &str) -> Vec<String> {
    let folder = format!("/sys/kernel/iommu_groups/{group}/devices");
    let held = |address: String| {
        let driver = host.files.link(&format!("{DEVICES}/{address}/driver"))?;
        let fine = driver == "vfio-pci" || driver == "pcieport" || driver == "pci-stub";
        (!fine).then(|| format!("{address} ({driver})"))
    };
    host.files.names(&folder).into_iter().filter_map(held).collect()
}

pub fn findings(host: &Host, nics: &[Nic]) -> Vec<Finding> {
    let mut all: Vec<Finding> = nics.iter().map(one).collect();
    all.push(usable(host, nics));
    all.into_iter().map(|f| f.matters_to(&[Kind::Dpdk])).collect()
}

fn one(nic: &Nic) -> Finding {
    const CHECK: &str = "nic";
    let title = nic.title();
    let holder = nic.driver.as_deref();
    let by = holder.map_or("held by no driver".to_owned(), |d| format!("held by {d}"));
    let f = match nic.state {
        State::Ready => Finding::ok(CHECK, format!("{title}: {by}, ready for dpdk")),
        State::Held => {
            let (what, mend) = nic.trouble.clone().unwrap_or_default();
            Finding::warn(CHECK, format!("{title}: {by}, but {what}")).mend(mend)
        }
        State::Free => {
            Finding::note(CHECK, format!("{title}: {by}, not in use: dpdk could have it")).mend(nic.bind())
        }
        State::InUse => {
            Finding::note(CHECK, format!("{title}: {by}; do not take it: {}", nic.used_for.join("; ")))
        }
        State::Unknown => Finding::note(CHECK, format!("{title}: {by}; no driver of DPDK 22.11 takes it")),
    };
    f.about(nic.address.as_str())
}

/// Whether there is one for a port of kind `dpdk`.
fn usable(host: &Host, nics: &[Nic]) -> Finding {
    const CHECK: &str = "dpdk.nics";
    let with = |state: State| nics.iter().filter(move |n| n.state == state).collect::<Vec<_>>();
    let names = |nics: &[&Nic]| nics.iter().map(|n| n.address.as_str()).collect::<Vec<_>>().join(", ");
    let ready = with(State::Ready);
    if !ready.is_empty() {
        return Finding::ok(CHECK, format!("ready for ports of kind dpdk: {}", names(&ready)));
    }
    let no = |found: String, mend: String| Finding::note(CHECK, found).mend(mend).blocks(&[Kind::Dpdk]);
    let without = "a port of kind dpdk without a NIC of its own: device = \"net_af_packet0,iface=NAME\"";
    if let [first, ..] = &with(State::Held)[..] {
        let (what, mend) = first.trouble.clone().unwrap_or_default();
        return no(format!("{} is held for dpdk, but {what}", first.address), mend);
    }
    if let [first, ..] = &with(State::Free)[..] {
        let found = format!("no NIC is held for dpdk; {} could be", names(&with(State::Free)));
        return no(found, first.bind());
    }
    if !host.files.exists(DEVICES) {
        return no(
            "what NICs there are is not known: /sys cannot be read".to_owned(),
            "in a container: mount /sys, or run the doctor on the host".to_owned(),
        );
    }
    match with(State::InUse).is_empty() {
        true => {
            no("no NIC that DPDK knows is here".to_owned(), format!("give the host one, or have {without}"))
        }
        false => no(
            "the kernel works with every NIC that DPDK knows".to_owned(),
            format!("give the host another, or have {without}"),
        ),
    }
}
