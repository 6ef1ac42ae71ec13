//! NICs of this host, before DPDK is told of them: where one is, and what keeps it from being ours. DPDK's own words for
//! these cases are a number; an operator needs the cause and the mend.
//!
//! Only looks, and changes nothing. Tests point it to a made-up `/sys`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::port::PciAddress;

/// Drivers through which a process gets a NIC for itself.
const FOR_PROCESSES: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Drivers of the kernel's that a process can work beside: DPDK goes through verbs.
const SHARED: [&str; 2] = ["mlx5_core", "mlx4_core"];
/// Drivers in an IOMMU group that vfio does not mind.
const HARMLESS: [&str; 3] = ["vfio-pci", "pci-stub", "pcieport"];

/// Where the host shows its devices.
#[derive(Clone, Debug)]
pub struct Host {
    sys: PathBuf,
    dev: PathBuf,
}

impl Default for Host {
    fn default() -> Host {
        Host { sys: "/sys".into(), dev: "/dev".into() }
    }
}

impl Host {
    /// The NIC that an interface of the kernel's is on.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn nic_of(&self, interface: &str) -> Result<PciAddress, String> {
        let link = self.sys.join("class/net").join(interface);
        if fs::symlink_metadata(&link).is_err() {
            return Err(format!(
                "there is no interface {interface}; `ip link` lists them. A NIC that the kernel does not have any \
                 more is named by its PCI address: {}",
                self.nics()
            ));
        }
        let path = fs::canonicalize(link.join("device")).unwrap_or_default();
        // Of virtio the device is one on a bus of its own, and the PCI device above it.
        let on_bus = |p: &Path| p.file_name().and_then(|n| PciAddress::parse(n.to_str()?));
        path.ancestors().take(2).find_map(on_bus).ok_or_else(|| {
            format!(
                "the interface {interface} is not on a PCI device; write device = \"net_af_packet0,iface={interface}\""
            )
        })
    }

    /// Says what keeps a NIC from being ours, if anything does; what is hardest to mend comes first.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn check(&self, nic: PciAddress) -> Result<(), String> {
        let at = self.sys.join("bus/pci/devices").join(nic.to_string());
        if !at.exists() {
            return Err(format!("there is no PCI device {nic}; {}", self.nics()));
        }
        let class = fs::read_to_string(at.join("class")).unwrap_or_default();
        if !is_network(&class) {
            return Err(format!(
                "the PCI device {nic} is not a NIC but of class {}; {}",
                class.trim(),
                self.nics()
            ));
        }
        let driver = name_of_link(&at.join("driver"));
        if driver.as_deref().is_some_and(|d| SHARED.contains(&d)) {
            return Ok(());
        }
        if driver.as_deref().is_none_or(|d| d == "vfio-pci" || !FOR_PROCESSES.contains(&d)) {
            self.check_vfio()?;
        }
        match driver.as_deref() {
            Some("vfio-pci") => self.check_group(nic, &at),
            Some(d) if FOR_PROCESSES.contains(&d) => Ok(()),
            Some(d) => Err(format!(
                "the kernel's driver {d} has {nic}{}; take it away, and give it to vfio-pci: {}",
                self.interface_on(&at).map_or_else(String::new, |i| format!(" (interface {i})")),
                bind(nic, true)
            )),
            None => Err(format!("no driver has {nic}; give it to vfio-pci: {}", bind(nic, false))),
        }
    }

    fn check_vfio(&self) -> Result<(), String> {
        let entries = |path: &str| fs::read_dir(self.sys.join(path)).map_or(0, Iterator::count);
        let without = fs::read_to_string(self.sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode"));
        if entries("kernel/iommu_groups") == 0 && without.is_ok_and(|v| v.trim() != "Y")
            || entries("kernel/iommu_groups") == 0 && !self.sys.join("module/vfio").exists()
        {
            return Err("no IOMMU is in use, which vfio-pci needs; turn on VT-d or AMD-Vi in the firmware, and start \
                        the kernel with intel_iommu=on (Intel). In a virtual machine without one, and without \
                        protection of its memory: modprobe vfio enable_unsafe_noiommu_mode=1"
                .to_owned());
        }
        if !self.sys.join("bus/pci/drivers/vfio-pci").exists() {
            return Err("the kernel's module vfio-pci is not loaded; modprobe vfio-pci".to_owned());
        }
        Ok(())
    }

    /// All of a group goes to one process, or none.
    fn check_group(&self, nic: PciAddress, at: &Path) -> Result<(), String> {
        let Some(group) = name_of_link(&at.join("iommu_group")) else { return Ok(()) };
        let members = self.sys.join("kernel/iommu_groups").join(&group).join("devices");
        for member in fs::read_dir(members).into_iter().flatten().flatten() {
            let Some(driver) = name_of_link(&member.path().join("driver")) else { continue };
            if !HARMLESS.contains(&driver.as_str()) {
                let other = member.file_name();
                let other = other.to_string_lossy();
                return Err(format!(
                    "{nic} shares the IOMMU group {group} with {other}, which the kernel's driver {driver} has; give \
                     that one to vfio-pci as well, or put the NIC into another slot"
                ));
            }
        }
        // Without an IOMMU the file has another name.
        let names = [group.clone(), format!("noiommu-{group}")];
        let file = names.iter().map(|name| self.dev.join("vfio").join(name)).find(|path| path.exists());
        let Some(file) = file else {
            return Err(format!(
                "there is no {} for {nic}; are the module vfio-pci and udev at work?",
                self.dev.join("vfio").join(group).display()
            ));
        };
        match fs::OpenOptions::new().read(true).write(true).open(&file) {
            Ok(_) => Ok(()),
            Err(e) => Err(cannot_open(nic, &file, &e)),
        }
    }

    /// The NUMA node that a CPU is on, where there are several.
    pub fn node_of_cpu(&self, cpu: u16) -> Option<i32> {
        let dir = self.sys.join(format!("devices/system/cpu/cpu{cpu}"));
        let names = fs::read_dir(dir).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok());
        names.filter_map(|name| name.strip_prefix("node")?.parse().ok()).next()
    }

    /// The NICs there are, for whoever named none of them.
    fn nics(&self) -> String {
        let all = fs::read_dir(self.sys.join("bus/pci/devices")).into_iter().flatten().flatten();
        let mut all: Vec<String> = all
            .filter(|e| fs::read_to_string(e.path().join("class")).is_ok_and(|c| is_network(&c)))
            .map(|e| {
                let driver = name_of_link(&e.path().join("driver")).unwrap_or_else(|| "no driver".to_owned());
                format!("{} ({driver})", e.file_name().to_string_lossy())
            })
            .collect();
        all.sort();
        match all.len() {
            0 => "this host shows no NIC on its PCI bus".to_owned(),
            _ => format!("there are {}", all.join(", ")),
        }
    }

    fn interface_on(&self, at: &Path) -> Option<String> {
        let below = |dir: &Path| fs::read_dir(dir).ok()?.flatten().next()?.file_name().into_string().ok();
        let virtio = || {
            let mut all = fs::read_dir(at).ok()?.flatten();
            all.find_map(|e| below(&e.path().join("net")))
        };
        below(&at.join("net")).or_else(virtio)
    }
}

/// How a NIC gets to vfio-pci. Its own lines, as what does all this comes with a later version.
fn bind(nic: PciAddress, has_driver: bool) -> String {
    let at = format!("/sys/bus/pci/devices/{nic}");
    let unbind = if has_driver { format!("echo {nic} >{at}/driver/unbind; ") } else { String::new() };
    format!("echo vfio-pci >{at}/driver_override; {unbind}echo {nic} >/sys/bus/pci/drivers_probe")
}

fn cannot_open(nic: PciAddress, file: &Path, e: &io::Error) -> String {
    let file = file.display();
    match e.raw_os_error() {
        Some(libc::EBUSY) => {
            format!("another process has {nic}; stop it first: fuser -v {file} says which it is")
        }
        Some(libc::EACCES | libc::EPERM) => {
            format!("{file} may not be opened; run as root, or give it to this user: chown $USER {file}")
        }
        _ => format!("cannot open {file} for {nic}: {e}; look at `dmesg`"),
    }
}

/// Class 2 is that of network controllers.
fn is_network(class: &str) -> bool {
    class.starts_with("0x02")
}

fn name_of_link(link: &Path) -> Option<String> {
    fs::read_link(link).ok()?.file_name()?.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host of files; gone when this is dropped.
    struct MadeUp(PathBuf);

    impl MadeUp {
        fn new(name: &str) -> MadeUp {
            let root = std::env::temp_dir().join(format!("millrace-host-{}-{name}", std::process::id()));
            let made = MadeUp(root);
            for dir in
                ["sys/class/net", "sys/kernel/iommu_groups", "sys/bus/pci/drivers", "sys/bus/pci/devices"]
            {
                fs::create_dir_all(made.0.join(dir)).expect("a directory");
            }
            made
        }
        fn host(&self) -> Host {
            Host { sys: self.0.join("sys"), dev: self.0.join("dev") }
        }
        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("written");
        }
        fn link(&self, from: &str, to: &str) {
            let from = self.0.join(from);
            fs::create_dir_all(from.parent().expect("a parent")).expect("a directory");
            fs::create_dir_all(self.0.join(to)).expect("a directory");
            let _ = fs::remove_file(&from);
            symlink(self.0.join(to), from).expect("a link");
        }
        /// A PCI device of a class with a driver.
        fn pci(&self, address: &str, class: &str, driver: &str) {
            let at = format!("sys/devices/pci0000:00/{address}");
            self.write(&format!("{at}/class"), class);
            self.link(&format!("sys/bus/pci/devices/{address}"), &at);
            if !driver.is_empty() {
                self.link(&format!("{at}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
            }
        }
        fn vfio(&self) {
            fs::create_dir_all(self.0.join("sys/kernel/iommu_groups/7")).expect("a directory");
            fs::create_dir_all(self.0.join("sys/bus/pci/drivers/vfio-pci")).expect("a directory");
        }
        /// Puts a device into group 7.
        fn group(&self, address: &str) {
            let at = format!("sys/devices/pci0000:00/{address}");
            self.link(&format!("{at}/iommu_group"), "sys/kernel/iommu_groups/7");
            self.link(&format!("sys/kernel/iommu_groups/7/devices/{address}"), &at);
        }
        fn check(&self, nic: &str) -> String {
            let nic = PciAddress::parse(nic).expect("a good address");
            self.host().check(nic).err().unwrap_or_default()
        }
    }

    impl Drop for MadeUp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const NIC: &str = "0000:3b:00.0";

    #[test]
    fn a_device_that_is_not_there_or_not_a_nic() {
        let m = MadeUp::new("none");
        assert_eq!(
            m.check(NIC),
            format!("there is no PCI device {NIC}; this host shows no NIC on its PCI bus")
        );
        m.pci("0000:3b:00.1", "0x020000\n", "ixgbe");
        m.pci("0000:00:02.0", "0x030000\n", "");
        let there = "there are 0000:3b:00.1 (ixgbe)";
        assert_eq!(m.check(NIC), format!("there is no PCI device {NIC}; {there}"));
        let expected = format!("the PCI device 0000:00:02.0 is not a NIC but of class 0x030000; {there}");
        assert_eq!(m.check("00:02.0"), expected);
    }

    #[test]
    fn a_device_of_the_kernels() {
        let m = MadeUp::new("kernel");
        m.vfio();
        m.pci(NIC, "0x020000\n", "ixgbe");
        m.write(&format!("sys/devices/pci0000:00/{NIC}/net/eth7/mtu"), "1500");
        let e = m.check(NIC);
        assert!(e.starts_with(&format!("the kernel's driver ixgbe has {NIC} (interface eth7); ")), "{e}");
        let mend = format!(
            "echo vfio-pci >/sys/bus/pci/devices/{NIC}/driver_override; echo {NIC} >/sys/bus/pci/devices/{NIC}/driver/unbind; echo {NIC} >/sys/bus/pci/drivers_probe"
        );
        assert!(e.ends_with(&mend), "{e}");
        // virtio's interface is one level further down.
        m.pci("0000:3b:00.2", "0x020000\n", "virtio-pci");
        m.write("sys/devices/pci0000:00/0000:3b:00.2/virtio5/net/eth8/mtu", "1500");
        assert!(m.check("3b:00.2").contains("(interface eth8)"), "{}", m.check("3b:00.2"));
        m.pci("0000:3b:00.3", "0x020000\n", "");
        let e = m.check("3b:00.3");
        assert!(
            e.starts_with("no driver has 0000:3b:00.3; give it to vfio-pci: echo") && !e.contains("unbind"),
            "{e}"
        );
        // Nothing to take away from this one.
        m.pci("0000:3b:00.4", "0x020000\n", "mlx5_core");
        assert_eq!(m.check("3b:00.4"), "");
    }

    #[test]
    fn no_iommu_and_no_vfio() {
        let m = MadeUp::new("iommu");
        m.pci(NIC, "0x020000\n", "ixgbe");
        m.pci("0000:3b:00.1", "0x020000\n", "uio_pci_generic");
        assert!(m.check(NIC).starts_with("no IOMMU is in use"), "{}", m.check(NIC));
        assert_eq!(m.check("3b:00.1"), "", "that driver needs none");
        m.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
        assert!(m.check(NIC).starts_with("no IOMMU is in use"), "{}", m.check(NIC));
        m.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
        assert_eq!(m.check(NIC), "the kernel's module vfio-pci is not loaded; modprobe vfio-pci");
        fs::create_dir_all(m.0.join("sys/bus/pci/drivers/vfio-pci")).expect("a directory");
        assert!(m.check(NIC).contains("driver ixgbe has"), "{}", m.check(NIC));
    }

    #[test]
    fn a_device_of_vfios() {
        let m = MadeUp::new("vfio");
        m.vfio();
        m.pci(NIC, "0x020000\n", "vfio-pci");
        m.group(NIC);
        assert!(m.check(NIC).contains("/dev/vfio/7 for 0000:3b:00.0; are the module"), "{}", m.check(NIC));
        m.write("dev/vfio/7", "");
        assert_eq!(m.check(NIC), "");
        m.pci("0000:3b:00.1", "0x020000\n", "ixgbe");
        m.group("0000:3b:00.1");
        let e = m.check(NIC);
        assert!(
            e.contains("shares the IOMMU group 7 with 0000:3b:00.1, which the kernel's driver ixgbe has"),
            "{e}"
        );
        m.pci("0000:3b:00.1", "0x060400\n", "pcieport");
        assert_eq!(m.check(NIC), "", "bridges may stay");

        let nic = PciAddress::parse(NIC).expect("a good address");
        let because =
            |errno| cannot_open(nic, Path::new("/dev/vfio/7"), &io::Error::from_raw_os_error(errno));
        let e = because(libc::EBUSY);
        assert_eq!(
            e,
            format!("another process has {NIC}; stop it first: fuser -v /dev/vfio/7 says which it is")
        );
        assert!(because(libc::EACCES).contains("run as root"));
        assert!(because(libc::EIO).contains("dmesg"));
    }

    #[test]
    fn nics_by_the_names_of_interfaces() {
        let m = MadeUp::new("names");
        m.pci(NIC, "0x020000\n", "ixgbe");
        m.link("sys/class/net/eth1/device", &format!("sys/devices/pci0000:00/{NIC}"));
        m.link("sys/class/net/eth2/device", "sys/devices/pci0000:00/0000:3b:00.1/virtio3");
        m.write("sys/class/net/veth0/mtu", "1500");
        let of = |name: &str| m.host().nic_of(name).map(|a| a.to_string());
        assert_eq!(of("eth1").as_deref(), Ok(NIC));
        assert_eq!(of("eth2").as_deref(), Ok("0000:3b:00.1"));
        let e = of("eth9").expect_err("not there");
        assert!(
            e.starts_with("there is no interface eth9; `ip link`") && e.ends_with("0000:3b:00.0 (ixgbe)"),
            "{e}"
        );
        let e = of("veth0").expect_err("a virtual one");
        assert!(e.ends_with("write device = \"net_af_packet0,iface=veth0\""), "{e}");
    }

    #[test]
    fn nodes_of_cpus() {
        let m = MadeUp::new("nodes");
        m.write("sys/devices/system/cpu/cpu3/node1/x", "");
        assert_eq!((m.host().node_of_cpu(3), m.host().node_of_cpu(4)), (Some(1), None));
    }
}
