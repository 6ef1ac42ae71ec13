//! IOMMU and vfio: how a NIC is given to a process without giving it all memory.

use super::asker::Cap;
use super::cpu::{boot_with, cmdline};
use super::nics::{Nic, State};
use super::{Finding, Host, Kind};

const NO_IOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// What there is to give NICs away by.
pub struct Vfio {
    /// The IOMMU has made this many groups; 0: there is none, or it is off.
    pub groups: usize,
    pub loaded: bool,
    /// vfio gives NICs away without an IOMMU.
    pub unsafe_mode: bool,
}

impl Vfio {
    pub fn read(host: &Host) -> Vfio {
        let files = &host.files;
        Vfio {
            groups: files.names("/sys/kernel/iommu_groups").len(),
            loaded: files.exists("/sys/module/vfio_pci") || files.exists("/sys/bus/pci/drivers/vfio-pci"),
            unsafe_mode: files.text(NO_IOMMU).as_deref() == Some("Y"),
        }
    }
}

pub fn findings(host: &Host, nics: &[Nic]) -> Vec<Finding> {
    let vfio = Vfio::read(host);
    // Where a NIC is ready, or none could use it, nothing of this is in the way.
    let wanted = !nics.iter().any(|n| n.state == State::Ready) && nics.iter().any(Nic::wants_vfio);
    let blocks: &[Kind] = if wanted { &[Kind::Dpdk] } else { &[] };
    let mut all = vec![iommu(host, &vfio, blocks), module(host, &vfio, blocks)];
    if vfio.unsafe_mode {
        let found = "vfio gives NICs away without an IOMMU: a NIC, and who has it, can write to all memory";
        all.push(Finding::warn("vfio.noiommu", found).mend(format!("with an IOMMU: echo N > {NO_IOMMU}")));
    }
    if vfio.loaded {
        all.push(access(host));
    }
    all.into_iter().map(|f| f.matters_to(&[Kind::Dpdk])).collect()
}

fn iommu(host: &Host, vfio: &Vfio, blocks: &[Kind]) -> Finding {
    const CHECK: &str = "iommu";
    if vfio.groups > 0 {
        let names = host.files.names("/sys/class/iommu");
        let which = names.first().map_or(String::new(), |n| format!(" ({n})"));
        return Finding::ok(CHECK, format!("the IOMMU is on{which}, with {} groups", vfio.groups));
    }
    let info = host.files.text("/proc/cpuinfo").unwrap_or_default();
    let virtual_machine =
        info.lines().any(|l| l.starts_with("flags") && l.split_whitespace().any(|f| f == "hypervisor"));
    let intel = info.contains("GenuineIntel");
    let asked_for = cmdline(host, "intel_iommu=").is_some_and(|v| v.starts_with("on"));
    let f = Finding::note(CHECK, "there is no IOMMU, or it is off");
    if vfio.unsafe_mode {
        return f;
    }
    let f = f.blocks(blocks);
    match () {
        () if virtual_machine => f.mend(format!(
            "give this virtual machine an IOMMU; or, if it may have all of its memory written to by its NIC: \
             modprobe vfio enable_unsafe_noiommu_mode=1 (or echo Y > {NO_IOMMU})"
        )),
        () if intel && !asked_for => {
            f.mend(format!("turn VT-d on in the firmware, and {}", boot_with("intel_iommu=on iommu=pt")))
        }
        () if intel => f.mend("the kernel was told to use it: turn VT-d on in the firmware, and reboot"),
        () => f.mend(format!("turn the IOMMU (AMD-Vi) on in the firmware, and {}", boot_with("iommu=pt"))),
    }
}

fn module(host: &Host, vfio: &Vfio, blocks: &[Kind]) -> Finding {
    const CHECK: &str = "vfio.module";
    if vfio.loaded {
        return Finding::ok(CHECK, "vfio-pci is loaded");
    }
    let release = host.files.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let listed = |file: &str| {
        let text = host.files.text(&format!("/lib/modules/{release}/{file}"));
        text.is_some_and(|t| t.lines().any(|l| l.split(':').next().unwrap_or("").contains("/vfio-pci.ko")))
    };
    if listed("modules.dep") || listed("modules.builtin") {
        return Finding::note(CHECK, "vfio-pci is there and not loaded")
            .mend("modprobe vfio-pci && echo vfio-pci > /etc/modules-load.d/vfio-pci.conf")
            .blocks(blocks);
    }
    Finding::note(CHECK, format!("no module vfio-pci is to be seen for kernel {release}"))
        .mend("run a kernel that has it (CONFIG_VFIO_PCI); Debian: apt-get install linux-image-amd64 && reboot; in a container: look on the host")
        .blocks(blocks)
}

/// Whether this user may use vfio at all; whose a NIC is, is found with the NIC.
fn access(host: &Host) -> Finding {
    const CHECK: &str = "vfio.access";
    match host.files.facts("/dev/vfio/vfio") {
        None => Finding::note(
            CHECK,
            "there is no /dev/vfio/vfio: no NIC is with vfio-pci yet, or this is a container",
        )
        .mend("in a container: --device /dev/vfio/vfio --device /dev/vfio/GROUP"),
        Some(facts) if host.asker.may_use(&facts) => Finding::ok(CHECK, "this user may open /dev/vfio/vfio"),
        Some(_) => {
            Finding::warn(CHECK, "this user may not open /dev/vfio/vfio").mend("chmod 0666 /dev/vfio/vfio")
        }
    }
}

/// The file by which a NIC of this group is had, and whether this user may open it.
pub fn group_file(host: &Host, group: &str, vfio: &Vfio) -> (String, bool) {
    let mut path = format!("/dev/vfio/{group}");
    if vfio.groups == 0 || !host.files.exists(&path) {
        let unsafe_path = format!("/dev/vfio/noiommu-{group}");
        if host.files.exists(&unsafe_path) {
            path = unsafe_path;
        }
    }
    let mut may = host.files.facts(&path).is_some_and(|facts| host.asker.may_use(&facts));
    if path.contains("noiommu") {
        // The kernel asks for CAP_SYS_RAWIO as well; who has one of root's capabilities has both here.
        may &= host.asker.can(Cap::DacOverride);
    }
    (path, may)
}
