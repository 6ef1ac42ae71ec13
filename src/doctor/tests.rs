//! Hosts made of files: what the doctor says of each. Who asks is user 4242 unless the host says otherwise, whom no
//! file here belongs to.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::{Build, Host, Kind, Level, Report};

const MLX5: (&str, &str) = ("0x15b3", "0x1017");
const ICE: (&str, &str) = ("0x8086", "0x1592");
const VIRTIO: (&str, &str) = ("0x1af4", "0x1041");
const REALTEK: (&str, &str) = ("0x10ec", "0x8168");
const V3_FLAGS: &str = "fpu avx avx2 bmi1 bmi2 f16c fma abm movbe xsave constant_tsc nonstop_tsc";
const PLUGINS: &str = "/usr/lib/dpdk/pmds";

/// The files of a host, gone when this is dropped.
struct Tree(PathBuf);

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Tree {
    /// A host with /proc: two CPUs, 8 GiB, a user without privileges, a default route by eth0.
    fn new() -> Tree {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("millrace-doctor-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).expect("a folder");
        let t = Tree(root);
        t.cpus("Intel Xeon", "GenuineIntel", V3_FLAGS);
        t.asker(4242, 0);
        t.file("/proc/self/limits", "Limit  Soft  Hard  Units\nMax open files  1048576  1048576  files\nMax locked memory  8388608  8388608  bytes\n");
        t.file("/proc/self/uid_map", "         0          0 4294967295\n");
        t.file("/proc/meminfo", "MemTotal:        8388608 kB\nHugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n");
        t.file("/proc/cmdline", "root=/dev/vda1 quiet\n");
        t.file("/proc/sys/kernel/osrelease", "6.1.0\n");
        t.file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n");
        t.route("eth0", true);
        t.file("/proc/net/ipv6_route", "");
        t.file("/run/user/4242/.keep", "");
        fs::set_permissions(t.at("/run/user/4242"), fs::Permissions::from_mode(0o777)).expect("a mode");
        t
    }

    /// The same with a /sys of a small virtual machine.
    fn machine() -> Tree {
        let t = Tree::new();
        t.file("/sys/devices/system/cpu/online", "0-1\n");
        t.file("/sys/devices/system/cpu/isolated", "\n");
        t.file("/sys/devices/system/node/online", "0\n");
        t.pages(0, 2048, 0, 0);
        t.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
        t.file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        t.folder("/sys/bus/pci/devices");
        t.folder("/sys/kernel/iommu_groups");
        t.file("/dev/net/tun", "");
        t.mode("/dev/net/tun", 0o666);
        t.file(&format!("{PLUGINS}/librte_net_virtio.so.23"), "");
        t.file(&format!("{PLUGINS}/librte_net_ice.so.23"), "");
        t.file(&format!("{PLUGINS}/librte_net_mlx5.so.23"), "");
        t
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn folder(&self, path: &str) {
        fs::create_dir_all(self.at(path)).expect("a folder");
    }

    fn file(&self, path: &str, text: &str) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().expect("below the root")).expect("a folder");
        fs::write(at, text).expect("written");
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn link(&self, path: &str, target: &str) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().expect("below the root")).expect("a folder");
        let _ = fs::remove_file(&at);
        symlink(target, at).expect("a link");
    }

    fn cpus(&self, model: &str, vendor: &str, flags: &str) {
        let one = |n| {
            format!("processor\t: {n}\nvendor_id\t: {vendor}\nmodel name\t: {model}\nflags\t\t: {flags}\n\n")
        };
        self.file("/proc/cpuinfo", &[one(0), one(1)].concat());
    }

    fn asker(&self, uid: u32, caps: u64) {
        self.file("/proc/self/status", &format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t\nCapEff:\t{caps:016x}\n"));
    }

    /// 192.0.2.7/24 on an interface.
    fn route(&self, iface: &str, default: bool) {
        let mut text =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n".to_owned();
        if default {
            text += &format!("{iface}\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        }
        text += &format!("{iface}\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        self.file("/proc/net/route", &text);
        self.file("/proc/net/fib_trie", "Local:\n  +-- 192.0.2.0/24 2 0 2\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        /32 host LOCAL\n");
    }

    fn pages(&self, node: u32, kib: u64, total: u64, free: u64) {
        let at = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB");
        self.file(&format!("{at}/nr_hugepages"), &total.to_string());
        self.file(&format!("{at}/free_hugepages"), &free.to_string());
    }

    /// A NIC held by `driver`, with the kernel's interface `iface` on it if that is a name.
    fn nic(&self, address: &str, (vendor, device): (&str, &str), driver: &str, iface: &str, node: i32) {
        let at = format!("/sys/bus/pci/devices/{address}");
        self.file(&format!("{at}/class"), "0x020000\n");
        self.file(&format!("{at}/vendor"), vendor);
        self.file(&format!("{at}/device"), device);
        self.file(&format!("{at}/numa_node"), &node.to_string());
        if !driver.is_empty() {
            self.link(&format!("{at}/driver"), &format!("../../../../bus/pci/drivers/{driver}"));
        }
        if !iface.is_empty() {
            self.folder(&format!("{at}/net/{iface}"));
            self.file(&format!("/sys/class/net/{iface}/flags"), "0x1003\n");
            self.file(&format!("/sys/class/net/{iface}/speed"), "25000\n");
        }
    }

    /// The device is in this IOMMU group.
    fn group(&self, address: &str, group: u32) {
        self.link(
            &format!("/sys/bus/pci/devices/{address}/iommu_group"),
            &format!("../../../kernel/iommu_groups/{group}"),
        );
        self.folder(&format!("/sys/kernel/iommu_groups/{group}/devices/{address}"));
    }

    fn vfio(&self) {
        self.folder("/sys/module/vfio_pci");
        self.file("/dev/vfio/vfio", "");
        self.mode("/dev/vfio/vfio", 0o666);
    }

    fn examine(&self, asked: Option<Kind>) -> Report {
        self.examine_by(asked, None)
    }

    fn examine_by(&self, asked: Option<Kind>, ssh: Option<&str>) -> Report {
        let build =
            Build { version: Some("DPDK 22.11.11".to_owned()), drivers: Some(PathBuf::from(PLUGINS)) };
        Host::at(&self.0, build, PathBuf::from("/run/user/4242/millrace"), ssh.map(OsStr::new)).examine(asked)
    }
}

/// The one finding of a check, as level, sentence and mend.
#[track_caller]
fn finding(r: &Report, check: &str) -> (Level, String, String) {
    of(r, check, "")
}

#[track_caller]
fn of(r: &Report, check: &str, subject: &str) -> (Level, String, String) {
    let mut all = r.findings().iter().filter(|f| f.check == check && f.subject.contains(subject));
    let f = all.next().unwrap_or_else(|| panic!("no {check} {subject}:\n{}", r.text()));
    assert!(all.next().is_none(), "several {check} {subject}:\n{}", r.text());
    (f.level(r.asked), f.found.clone(), f.mend.clone())
}

#[track_caller]
fn assert_level(r: &Report, check: &str, level: Level) {
    assert_eq!(finding(r, check).0, level, "{check}:\n{}", r.text());
}

#[test]
fn a_bare_virtual_machine_runs_host_ports_and_can_say_why_no_more() {
    let t = Tree::machine();
    t.cpus("Intel Xeon", "GenuineIntel", &format!("{V3_FLAGS} hypervisor"));
    t.nic("0000:00:03.0", VIRTIO, "virtio-pci", "", -1);
    t.folder("/sys/bus/pci/devices/0000:00:03.0/virtio2/net/eth0");
    let r = t.examine(None);
    assert!(r.ok(), "host ports run:\n{}", r.text());
    let (level, found, _) = of(&r, "nic", "0000:00:03.0");
    assert_eq!(level, Level::Note);
    assert_eq!(
        found,
        "eth0, 1af4:1041, DPDK's net_virtio: held by virtio-pci; do not take it: it has the default route; the kernel \
         has 192.0.2.7 on it"
    );
    assert_level(&r, "dpdk.nics", Level::Warn);
    let (level, found, mend) = finding(&r, "memory.hugepages");
    assert_eq!((level, found.as_str()), (Level::Warn, "no hugepages are reserved"));
    // An eighth of 8 GiB, and DPDK's 64 MiB.
    assert_eq!(mend, "sysctl -w vm.nr_hugepages=544");
    assert!(finding(&r, "iommu").2.contains("enable_unsafe_noiommu_mode"), "{}", r.text());
    assert_eq!(
        finding(&r, "cpu.isolated").2.split_whitespace().nth(1),
        Some("\"isolcpus=managed_irq,domain,1")
    );

    let r = t.examine(Some(Kind::Dpdk));
    assert!(!r.ok());
    assert_level(&r, "dpdk.nics", Level::Must);
    assert!(r.findings().iter().all(|f| f.check != "tap.device"), "tap was not asked about");
    let r = t.examine(Some(Kind::Tap));
    assert!(!r.ok(), "no right to make devices");
    assert!(finding(&r, "tap.device").2.starts_with("ip tuntap add dev mr0 mode tap user 4242 "));
    assert!(t.examine(Some(Kind::Host)).ok());
}

/// Two nodes, two NICs: one for the kernel, one held by vfio-pci.
fn tuned() -> Tree {
    let t = Tree::machine();
    t.file("/sys/devices/system/cpu/online", "0-7\n");
    t.file("/sys/devices/system/cpu/isolated", "2-3,6-7\n");
    t.file("/sys/devices/system/cpu/nohz_full", "2-3,6-7\n");
    t.file("/sys/devices/system/node/online", "0-1\n");
    for cpu in 0..8 {
        let at = format!("/sys/devices/system/cpu/cpu{cpu}");
        t.file(&format!("{at}/topology/thread_siblings_list"), &format!("{},{}\n", cpu % 4, cpu % 4 + 4));
        t.file(&format!("{at}/cpufreq/scaling_governor"), "performance\n");
    }
    t.pages(0, 2048, 1024, 1024);
    t.pages(1, 2048, 0, 0);
    t.pages(1, 1 << 20, 4, 3);
    t.nic("0000:3b:00.0", ICE, "vfio-pci", "", 1);
    t.nic("0000:17:00.0", ICE, "ice", "eth0", 0);
    t.group("0000:3b:00.0", 26);
    t.group("0000:17:00.0", 12);
    t.link("/sys/class/iommu/dmar0", "../../devices/virtual/iommu/dmar0");
    t.vfio();
    t.file("/dev/vfio/26", "");
    t.mode("/dev/vfio/26", 0o666);
    t.file(
        "/proc/self/limits",
        "Max open files  1048576  1048576  files\nMax locked memory  unlimited  unlimited  bytes\n",
    );
    t
}

#[test]
fn a_tuned_server_is_ready() {
    let t = tuned();
    let r = t.examine(Some(Kind::Dpdk));
    assert!(r.ok(), "{}", r.text());
    assert!(r.findings().iter().all(|f| f.level(None) <= Level::Note), "{}", r.text());
    let (level, found, _) = of(&r, "nic", "0000:3b:00.0");
    assert_eq!(
        (level, found.as_str()),
        (Level::Ok, "8086:1592, DPDK's net_ice, NUMA node 1: held by vfio-pci, ready for dpdk")
    );
    assert!(
        of(&r, "nic", "0000:17:00.0")
            .1
            .contains("eth0, 8086:1592, DPDK's net_ice, 25 Gbit/s, NUMA node 0: held by ice; do not")
    );
    assert_eq!(of(&r, "memory.hugepages", "node 0").1, "1024 of 1024 pages of 2 MiB free");
    assert_eq!(of(&r, "memory.hugepages", "node 1").1, "3 of 4 pages of 1 GiB free");
    let (_, found, _) = finding(&r, "cpu.cores");
    assert!(found.starts_with("8 CPUs on 2 NUMA nodes; CPUs share cores in 4 groups (0,4, …)"), "{found}");
    assert_eq!(finding(&r, "iommu").1, "the IOMMU is on (dmar0), with 2 groups");
    assert!(r.text().ends_with("dpdk  a NIC can be driven\n0 must be mended, 0 to look at"), "{}", r.text());
}

#[test]
fn a_nic_on_a_node_without_hugepages() {
    let t = tuned();
    t.pages(1, 1 << 20, 0, 0);
    let r = t.examine(Some(Kind::Dpdk));
    assert!(!r.ok());
    let (level, found, mend) = of(&r, "memory.hugepages", "node 1");
    assert_eq!(
        (level, found.as_str()),
        (Level::Must, "no hugepages are reserved, and a NIC for dpdk is on this node")
    );
    assert_eq!(mend, "echo 544 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages");
    // As many more as lack; those of others stay.
    t.pages(1, 2048, 600, 0);
    let (level, _, mend) = of(&t.examine(Some(Kind::Dpdk)), "memory.hugepages", "node 1");
    assert_eq!((level, mend.split(' ').nth(1)), (Level::Warn, Some("1144")));
}

#[test]
fn a_group_file_that_the_user_may_not_open() {
    let t = tuned();
    t.mode("/dev/vfio/26", 0o600);
    let r = t.examine(Some(Kind::Dpdk));
    let (level, found, mend) = of(&r, "nic", "0000:3b:00.0");
    assert_eq!(level, Level::Warn);
    assert!(found.ends_with("held by vfio-pci, but this user may not open /dev/vfio/26"), "{found}");
    assert_eq!(mend, "chown 4242 /dev/vfio/26");
    assert_level(&r, "dpdk.nics", Level::Must);
    t.asker(4242, 0x1ff_ffff_ffff);
    assert!(t.examine(Some(Kind::Dpdk)).ok(), "who may do all may do this");
    t.file("/proc/self/uid_map", "         0       1000          1\n");
    assert!(
        !t.examine(Some(Kind::Dpdk)).ok(),
        "within a user namespace that says nothing of the host's files"
    );
}

#[test]
fn a_group_with_a_device_of_the_kernels() {
    let t = tuned();
    t.nic("0000:3b:00.1", ICE, "ice", "", 1);
    t.group("0000:3b:00.1", 26);
    let r = t.examine(Some(Kind::Dpdk));
    let (level, found, _) = of(&r, "nic", "0000:3b:00.0");
    assert_eq!(level, Level::Warn);
    assert!(
        found.ends_with("its IOMMU group 26 has devices of the kernel's in it: 0000:3b:00.1 (ice)"),
        "{found}"
    );
    assert!(!r.ok());
}

#[test]
fn a_free_nic_comes_with_the_commands_that_bind_it() {
    let t = tuned();
    t.nic("0000:3b:00.0", ICE, "ice", "ens1", 1);
    let r = t.examine(Some(Kind::Dpdk));
    let bind = "modprobe vfio-pci && ip link set ens1 down && \
                echo vfio-pci > /sys/bus/pci/devices/0000:3b:00.0/driver_override && \
                echo 0000:3b:00.0 > /sys/bus/pci/devices/0000:3b:00.0/driver/unbind && \
                echo 0000:3b:00.0 > /sys/bus/pci/drivers_probe";
    let (level, found, mend) = finding(&r, "dpdk.nics");
    assert_eq!((level, found.as_str()), (Level::Must, "no NIC is held for dpdk; 0000:3b:00.0 could be"));
    assert_eq!(mend, bind);
    assert_eq!(of(&r, "nic", "0000:3b:00.0").2, bind);
    assert_level(&r, "iommu", Level::Ok);
}

#[test]
fn a_mellanox_stays_with_its_kernel_driver() {
    let t = tuned();
    t.nic("0000:3b:00.0", MLX5, "mlx5_core", "ens1", 1);
    let r = t.examine(Some(Kind::Dpdk));
    assert!(r.ok(), "{}", r.text());
    assert!(of(&r, "nic", "0000:3b:00.0").1.ends_with("held by mlx5_core, ready for dpdk"));
}

#[test]
fn a_laptop_without_an_iommu() {
    let t = Tree::machine();
    t.nic("0000:02:00.0", REALTEK, "r8169", "eth0", -1);
    t.nic("0000:03:00.0", ("0x8086", "0x1533"), "igb", "enp3s0", -1);
    t.file(
        "/lib/modules/6.1.0/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/vfio.ko\n",
    );
    t.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    t.file("/sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet acpi_pm\n");
    t.file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    let r = t.examine(Some(Kind::Dpdk));
    assert!(!r.ok());
    assert!(of(&r, "nic", "0000:02:00.0").1.ends_with("held by r8169; no driver of DPDK 22.11 takes it"));
    assert_level(&r, "iommu", Level::Must);
    assert_eq!(
        finding(&r, "iommu").2,
        "turn VT-d on in the firmware, and add \"intel_iommu=on iommu=pt\" to GRUB_CMDLINE_LINUX in /etc/default/grub; \
         then: update-grub && reboot"
    );
    assert_level(&r, "vfio.module", Level::Must);
    assert!(finding(&r, "vfio.module").2.starts_with("modprobe vfio-pci && "));
    assert_level(&r, "cpu.clock", Level::Warn);
    assert!(finding(&r, "cpu.clock").2.contains("tsc=reliable"));
    assert_level(&r, "cpu.governor", Level::Warn);
    assert_level(&r, "limits.memlock", Level::Warn);
    // Told so on the command line, it must be the firmware; an AMD needs no telling.
    t.file("/proc/cmdline", "quiet intel_iommu=on");
    assert!(finding(&t.examine(None), "iommu").2.starts_with("the kernel was told to use it: turn VT-d on"));
    t.cpus("AMD Ryzen", "AuthenticAMD", V3_FLAGS);
    assert!(finding(&t.examine(None), "iommu").2.contains("AMD-Vi"));
    t.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    let r = t.examine(Some(Kind::Dpdk));
    assert_level(&r, "iommu", Level::Note);
    assert_level(&r, "vfio.noiommu", Level::Warn);
}

#[test]
fn a_container_without_sys() {
    let t = Tree::new();
    let r = t.examine(None);
    assert!(r.ok(), "host ports run:\n{}", r.text());
    for check in ["cpu.clock", "memory.transparent"] {
        assert_level(&r, check, Level::Note);
    }
    assert_eq!(finding(&r, "cpu.cores").1, "2 CPUs on 1 NUMA node, no two on one core");
    assert_eq!(finding(&r, "memory.hugepages").1, "no hugepages are reserved", "by /proc/meminfo");
    assert_eq!(finding(&r, "dpdk.nics").1, "what NICs there are is not known: /sys cannot be read");
    assert_eq!(finding(&r, "dpdk.library").1, "DPDK 22.11.11 finds no drivers in /usr/lib/dpdk/pmds");
    assert!(finding(&r, "tap.device").2.contains("--device /dev/net/tun"));
    assert!(!t.examine(Some(Kind::Tap)).ok());
}

#[test]
fn a_host_of_which_nothing_can_be_read() {
    let t = Tree(std::env::temp_dir().join(format!("millrace-doctor-{}-none", std::process::id())));
    let r = t.examine(None);
    assert_level(&r, "run.directory", Level::Must);
    assert_level(&r, "control.route", Level::Note);
    assert!(!r.ok());
}

#[test]
fn a_host_without_a_route_fails_for_every_kind() {
    let t = Tree::machine();
    t.file("/proc/net/route", "Iface\tDestination\n");
    t.file(
        "/proc/net/ipv6_route",
        "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
         00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
    );
    for asked in [None, Some(Kind::Dpdk), Some(Kind::Tap), Some(Kind::Host)] {
        let r = t.examine(asked);
        assert_level(&r, "control.route", Level::Must);
        assert!(!r.ok());
    }
    t.route("eth0", false);
    assert_level(&t.examine(None), "control.route", Level::Note);
    t.file(
        "/proc/net/ipv6_route",
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003     eth0\n",
    );
    assert_level(&t.examine(None), "control.route", Level::Ok);
}

#[test]
fn what_the_kernel_uses_a_nic_for_is_seen_through_bonds_and_vlans() {
    let t = Tree::machine();
    t.nic("0000:17:00.0", ICE, "ice", "ens1", 0);
    t.link("/sys/class/net/ens1/upper_bond0", "../bond0");
    t.link("/sys/class/net/bond0/upper_bond0.7", "../bond0.7");
    // A loop, as a confused kernel might show.
    t.link("/sys/class/net/bond0.7/upper_bond0", "../bond0");
    t.route("bond0.7", true);
    let r = t.examine_by(None, Some("198.51.100.1 50000 192.0.2.7 22"));
    let (_, found, _) = of(&r, "nic", "0000:17:00.0");
    assert!(
        found.ends_with(
            "do not take it: this ssh session goes through it (by bond0.7); it has the default route (by bond0.7); \
             the kernel has 192.0.2.7 on it (by bond0.7)"
        ),
        "{found}"
    );
    assert_eq!(finding(&r, "dpdk.nics").1, "the kernel works with every NIC that DPDK knows");
}

#[test]
fn an_old_cpu_runs_no_kind() {
    let t = Tree::machine();
    t.cpus("Old", "GenuineIntel", "fpu avx xsave");
    let r = t.examine(None);
    let (level, found, _) = finding(&r, "cpu.level");
    assert_eq!(level, if cfg!(target_feature = "avx2") { Level::Must } else { Level::Warn });
    assert!(found.starts_with("Old lacks avx2, bmi1, bmi2, "), "{found}");
}

#[test]
fn a_tap_of_the_users_own_is_enough() {
    let t = Tree::machine();
    t.file("/sys/class/net/tap7/tun_flags", "0x1002\n");
    t.file("/sys/class/net/tap7/owner", "4242\n");
    t.file("/sys/class/net/tun8/tun_flags", "0x1001\n");
    t.file("/sys/class/net/tun8/owner", "4242\n");
    t.file("/sys/class/net/tap9/tun_flags", "0x1002\n");
    t.file("/sys/class/net/tap9/owner", "-1\n");
    let r = t.examine(Some(Kind::Tap));
    assert_eq!(finding(&r, "tap.device").1, "this user may not make TAP devices, but owns tap7");
    assert!(r.ok());
}

#[test]
fn rights_of_the_host_kind() {
    let t = Tree::machine();
    let r = t.examine(Some(Kind::Host));
    assert_level(&r, "host.low_ports", Level::Note);
    t.asker(4242, 1 << 10);
    assert_level(&t.examine(Some(Kind::Host)), "host.low_ports", Level::Ok);
    t.asker(4242, 0);
    t.file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0\n");
    assert_level(&t.examine(Some(Kind::Host)), "host.low_ports", Level::Ok);
    t.mode("/run/user/4242", 0o755);
    let r = t.examine(Some(Kind::Host));
    let (level, _, mend) = finding(&r, "run.directory");
    assert_eq!(level, Level::Must);
    assert!(mend.starts_with("install -d -m 0700 -o 4242 /run/user/4242/millrace"), "{mend}");
}

#[test]
fn without_dpdk_in_the_build() {
    let t = tuned();
    let host = Host::at(&t.0, Build::default(), PathBuf::from("/run/user/4242/millrace"), None);
    assert!(host.examine(None).ok());
    let r = host.examine(Some(Kind::Dpdk));
    assert_level(&r, "dpdk.library", Level::Must);
}

/// `docs/doctor.md` promises these.
#[test]
fn the_fields_of_json_are_those_of_the_docs() {
    let t = tuned();
    let object: Value = serde_json::from_str(&t.examine(Some(Kind::Dpdk)).json()).expect("JSON");
    let docs =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md")).expect("docs");
    // Rows "| `name` | meaning |": the names that continue `prefix` by one word.
    let documented = |prefix: &str| -> Vec<String> {
        let names = docs.lines().filter_map(|l| Some(l.strip_prefix("| `")?.split_once('`')?.0));
        let names = names.filter_map(|n| n.strip_prefix(prefix)).map(|n| n.trim_end_matches("[]"));
        let mut names: Vec<_> = names.filter(|n| !n.contains('.')).map(str::to_owned).collect();
        names.sort();
        names
    };
    let keys = |v: &Value| {
        let mut keys: Vec<_> = v.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(documented(""), keys(&object));
    for list in ["ports", "findings", "nics", "hugepages"] {
        for item in object[list].as_array().expect("a list") {
            assert_eq!(documented(&format!("{list}[].")), keys(item), "{list}");
        }
    }
    assert_eq!(object["port"], "dpdk");
    assert_eq!(object["findings"][0]["check"], "cpu.level");
    assert_eq!(object["nics"][1]["state"], "ready");
    // Every check that is documented can be found, and the other way round.
    let checks: Vec<&str> =
        docs.lines().filter_map(|l| l.strip_prefix("| **`")?.split_once('`')).map(|(n, _)| n).collect();
    for f in t.examine(None).findings() {
        assert!(checks.contains(&f.check), "{} is not in docs/doctor.md", f.check);
    }
}
