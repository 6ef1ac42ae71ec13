//! Ports of kind `dpdk` over the kernel's AF_XDP sockets (`net_af_xdp`) on a veth pair, in normal pages and in hugepages.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::dpdk::{serves, stops, with};
use crate::lab::{Checks, EDGE_V4, Edge, Lab, PATIENCE, count, skip, text};

const DEVICE: &str = "net_af_xdp0,iface=dp0";
/// Hugepages of 2 MiB: for one node, and for what else may take some meanwhile.
const HUGEPAGES: u64 = 512;
/// For one node of 64 MiB over a ring.
const HUGEPAGES_OF_ONE: u64 = 70;

/// Hugepages that this test has added to the host's; taken away again when this is dropped.
struct Hugepages {
    before: u64,
    // One test at a time.
    _turn: File,
}

impl Hugepages {
    const COUNT: &str = "/proc/sys/vm/nr_hugepages";

    fn read() -> Option<u64> {
        fs::read_to_string(Hugepages::COUNT).ok()?.trim().parse().ok()
    }

    /// `None` where the kernel does not give them.
    fn add(n: u64) -> Option<Hugepages> {
        let path = "/tmp/millrace-hugepages.lock";
        let turn = OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("the lock");
        turn.lock().expect("locked");
        let pages = Hugepages { before: Hugepages::read()?, _turn: turn };
        let wanted = pages.before + n;
        fs::write(Hugepages::COUNT, wanted.to_string()).ok()?;
        (Hugepages::read()? == wanted).then_some(pages)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        let _ = fs::write(Hugepages::COUNT, self.before.to_string());
    }
}

fn named(name: &str, pages: &str) -> String {
    with(DEVICE).replace("\"e2e\"", &format!("\"{name}\"\npages = \"{pages}\""))
}

/// What they knew of the last station with this address would last a while.
fn forget(lab: &Lab) {
    for ns in [lab.client(), lab.origin()] {
        let out = lab.sh_in(&ns, 5, "ip neigh flush dev eth0");
        assert!(out.status.success(), "{}", text(&out));
    }
}

fn answers(lab: &Lab, edge: &Edge) {
    let until = Instant::now() + PATIENCE;
    while !lab.sh(5, &format!("ping -c 1 -W 1 {EDGE_V4}")).status.success() {
        assert!(Instant::now() < until, "no answer: {}", edge.log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Nodes that start at once, and hugepages for one of them: each starts, and says what it got.
#[test]
fn nodes_take_hugepages_in_turn() {
    let name = "nodes_take_hugepages_in_turn";
    let Some(lab) = Lab::up(name, 'g', false) else { return };
    let Some(_pages) = Hugepages::add(HUGEPAGES_OF_ONE) else {
        return skip(name, &format!("the kernel does not give {HUGEPAGES_OF_ONE} hugepages"));
    };
    let config =
        |name: &str| with("net_ring0").replace("256MiB", "64MiB").replace("\"e2e\"", &format!("\"{name}\""));
    for round in 0..3 {
        let names = ["a", "b"].map(|node| format!("turn{node}{round}"));
        let modes: Vec<String> = thread::scope(|scope| {
            let nodes: Vec<_> = names
                .iter()
                .map(|name| {
                    let (lab, config) = (&lab, config(name));
                    scope.spawn(move || lab.edge_named(name, &config))
                })
                .collect();
            let edges: Vec<Edge> = nodes.into_iter().map(|n| n.join().expect("both start")).collect();
            edges.iter().map(|e| e.stats()["node"]["ports"][0]["mode"].to_string()).collect()
        });
        let huge = modes.iter().filter(|m| m.contains("of mbufs in hugepages")).count();
        let normal = modes.iter().filter(|m| m.contains("of mbufs in normal pages (needs ")).count();
        // Others on this machine may have taken them all.
        assert!(huge <= 1 && huge + normal == 2, "{modes:?}");
        eprintln!("       {huge} of 2 in hugepages");
    }
}

#[test]
fn dpdk_over_af_xdp() {
    let name = "dpdk_over_af_xdp";
    if !["/usr/sbin/ethtool", "/sbin/ethtool"].iter().any(|path| Path::new(path).exists()) {
        return skip(name, "needs ethtool; scripts/setup.sh installs it");
    }
    let Some(lab) = Lab::up(name, 'x', false) else { return };
    let net = |line: &str| {
        let out = lab.sh_in(&lab.net(), 20, line);
        assert!(out.status.success(), "{line}: {}", text(&out));
    };
    let mut c = Checks::new();
    // A pair of its own beside the lab's TAP. Without the peer's offloads the kernel finishes sums and cuts segments
    // before they come to us.
    net("ip link add dp0 type veth peer name dp1 && ip link set dp1 master br0");
    net("echo 1 >/proc/sys/net/ipv6/conf/dp0/disable_ipv6; ip link set dp0 up; ip link set dp1 up");
    net("ethtool -K dp1 tx off");

    let edge = lab.edge_named("xnormal", &named("xnormal", "normal"));
    serves(&lab, &edge, &mut c, DEVICE, "net_af_xdp", "copying");
    c.check("net_af_xdp: frames beyond the MTU are dropped", || {
        let mtu = |bytes: u32| {
            let all = "for dev in dp0 dp1 client0 br0; do ip link set $dev mtu MTU; done";
            net(&all.replace("MTU", &bytes.to_string()));
            lab.ask(5, &format!("ip link set eth0 mtu {bytes}"));
        };
        let before = edge.at_rest();
        mtu(3000);
        // Those that fit a buffer come to us; longer ones the kernel drops.
        for bytes in [1600, 2800] {
            let out = lab.sh(20, &format!("ping -c 3 -i 0.05 -W 1 -s {bytes} {EDGE_V4}"));
            assert!(!out.status.success(), "an answer: {}", text(&out));
        }
        mtu(1500);
        let after = edge.at_rest();
        let new = |name: &str| count(&after, name) - count(&before, name);
        assert_eq!((new("drop.port.too_long"), new("drop.ip4.malformed")), (3, 0), "{}", after["counters"]);
        lab.ask(20, &format!("ping -c 3 -i 0.05 -W 5 -s 1400 {EDGE_V4}"));
    });
    stops(edge, &mut c, "net_af_xdp");

    match Hugepages::add(HUGEPAGES) {
        None => eprintln!("note: not in hugepages: the kernel does not give {HUGEPAGES} of them"),
        Some(_pages) => {
            let edge = lab.edge_named("xhuge", &named("xhuge", "huge"));
            c.check("net_af_xdp: in hugepages", || {
                let mode = edge.stats()["node"]["ports"][0]["mode"].to_string();
                assert!(mode.contains("of mbufs in hugepages"), "{mode}");
            });
            forget(&lab);
            serves(&lab, &edge, &mut c, DEVICE, "net_af_xdp", "copying");
            stops(edge, &mut c, "net_af_xdp in hugepages");
        }
    }

    c.check("net_af_xdp: a killed node leaves nothing that a new one minds", || {
        for name in ["xkilled", "xafter"] {
            let edge = lab.edge_named(name, &named(name, "normal"));
            forget(&lab);
            answers(&lab, &edge);
            let pid = rustix::process::Pid::from_raw(edge.pid() as i32).expect("a pid");
            rustix::process::kill_process(pid, Signal::KILL).expect("a living node");
        }
    });
    c.check("net_af_xdp: what cannot be opened ends the start with a reason", || {
        for (device, mtu, words) in [
            ("net_af_xdp1,iface=nowhere0", 1500, "iface= an interface that is there"),
            (DEVICE, 3500, "an MTU of at most 3200"),
        ] {
            let file = lab.dir().join("bad.toml");
            let all = with(device).replace("kind = \"dpdk\"", &format!("mtu = {mtu}\nkind = \"dpdk\""));
            fs::write(&file, all).expect("the config written");
            let out = lab.millrace(&["run", "--config", &file.display().to_string()]);
            assert_eq!(out.status.code(), Some(1), "{}", text(&out));
            assert!(text(&out).contains(words), "{}", text(&out));
        }
    });
    c.end();
}
