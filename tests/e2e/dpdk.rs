//! Ports of kind `dpdk` over virtual devices that the kernel is on the other side of.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::{Checks, EDGE_V4, EDGE_V6, Edge, Lab, NGINX, PATIENCE, config, count, skip, text};

/// The lab's config with this device instead of its TAP.
pub fn with(device: &str) -> String {
    let tap = "kind = \"tap\"\ndevice = \"mr0\"";
    let all = config(NGINX);
    assert!(all.contains(tap));
    all.replace(tap, &format!("kind = \"dpdk\"\ndevice = \"{device}\""))
}

/// What must work whatever carries the frames.
pub fn serves(lab: &Lab, edge: &Edge, c: &mut Checks, device: &str, driver: &str, tx: &str) {
    c.check(&format!("{driver}: says what runs"), || {
        let port = &edge.stats()["node"]["ports"][0];
        assert_eq!((&port["kind"], &port["device"]), (&"dpdk".into(), &device.into()), "{port}");
        let mode = port["mode"].as_str().expect("a mode");
        assert!(mode.starts_with(&format!("{driver}, 1 queue, zero-copy rx, {tx} tx")), "{mode}");
    });
    c.check(&format!("{driver}: ping"), || {
        for to in [EDGE_V4, EDGE_V6] {
            let said = lab.ask(20, &format!("ping -c 5 -i 0.05 -W 5 -s 1400 {to}"));
            assert!(said.contains("5 received"), "{said}");
        }
    });
    c.check(&format!("{driver}: bodies come whole, from one segment to thousands"), || {
        for name in ["0", "1", "1k", "1m"] {
            let file = lab.dir().join("www").join(name);
            for to in [EDGE_V4.to_owned(), format!("[{EDGE_V6}]")] {
                let got = lab.ask(30, &format!("curl -gsS --max-time 20 http://{to}/{name} | sha256sum"));
                let expected = lab.ask(20, &format!("sha256sum <{}", file.display()));
                assert_eq!(got, expected, "{name} from {to}");
            }
        }
    });
    c.check(&format!("{driver}: many connections at once"), || {
        let urls = format!("http://{EDGE_V4}/1k?[1-300]");
        let line = format!(
            "curl -sS --max-time 25 -Z --parallel-max 30 -o /dev/null -w '%{{http_code}}\\n' '{urls}'"
        );
        let codes = lab.ask(30, &line);
        assert_eq!(codes.lines().filter(|code| *code == "200").count(), 300, "{codes}");
    });
    c.check(&format!("{driver}: what the device counts is told"), || {
        let until = Instant::now() + PATIENCE;
        let told = || edge.stats()["node"]["ports"][0]["device_counts"]["rx_good_packets"].as_u64();
        while told().unwrap_or(0) < 1000 {
            assert!(Instant::now() < until, "{}", edge.stats()["node"]);
            thread::sleep(Duration::from_millis(100));
        }
    });
    c.check(&format!("{driver}: both laws hold exactly"), || {
        let s = edge.at_rest();
        assert!(count(&s, "rx.packets") > 1000 && count(&s, "tx.sent") > 1000, "{}", s["counters"]);
        assert_eq!(count(&s, "drop.tx.port_error"), 0);
    });
}

/// A stop that gives everything back: a debug build panics when an mbuf is missing.
pub fn stops(mut edge: Edge, c: &mut Checks, driver: &str) {
    c.check(&format!("{driver}: a graceful stop"), || {
        edge.term();
        let status = edge.wait(PATIENCE).expect("it ends");
        assert!(status.success(), "{status}: {}", edge.log());
        assert!(!edge.log().contains("did not come back"), "{}", edge.log());
    });
}

#[test]
fn dpdk_devices() {
    let Some(lab) = Lab::up("dpdk_devices", 'd', false) else { return };
    if !["/usr/sbin/ethtool", "/sbin/ethtool"].iter().any(|path| Path::new(path).exists()) {
        return skip("dpdk_devices", "needs ethtool; scripts/setup.sh installs it");
    }
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
    let device = "net_af_packet0,iface=dp0";
    let edge = lab.edge_named("af_packet", &with(device).replace("\"e2e\"", "\"af_packet\""));
    serves(&lab, &edge, &mut c, device, "net_af_packet", "extbuf");
    c.check("net_af_packet: frames beyond the MTU are counted and dropped", || {
        let mtu = |bytes: u32| {
            let all = "for dev in dp0 dp1 client0 br0; do ip link set $dev mtu MTU; done";
            net(&all.replace("MTU", &bytes.to_string()));
            lab.ask(5, &format!("ip link set eth0 mtu {bytes}"));
        };
        let before = edge.at_rest();
        // The longer ones do not fit the driver's ring either, and it cuts them without a word.
        mtu(3000);
        for bytes in [1600, 2800] {
            let out = lab.sh(20, &format!("ping -c 3 -i 0.05 -W 1 -s {bytes} {EDGE_V4}"));
            assert!(!out.status.success(), "an answer: {}", text(&out));
        }
        mtu(1500);
        let after = edge.at_rest();
        let new = |name: &str| count(&after, name) - count(&before, name);
        assert_eq!((new("drop.port.too_long"), new("drop.ip4.malformed")), (6, 0), "{}", after["counters"]);
        lab.ask(20, &format!("ping -c 3 -i 0.05 -W 5 -s 1400 {EDGE_V4}"));
    });
    stops(edge, &mut c, "net_af_packet");
    net("ip link del dp0");

    let device = "net_tap0,iface=dpt0";
    let edge = lab.edge_named("dtap", &with(device).replace("\"e2e\"", "\"dtap\""));
    net("ip link set dpt0 master br0 up");
    // The address has moved to another station; what they knew would last a while.
    for ns in [lab.client(), lab.origin()] {
        let out = lab.sh_in(&ns, 5, "ip neigh flush dev eth0");
        assert!(out.status.success(), "{}", text(&out));
    }
    serves(&lab, &edge, &mut c, device, "net_tap", "extbuf");
    stops(edge, &mut c, "net_tap");

    // The driver computes the sums of what we send.
    let device = "net_tap0,iface=dpt0";
    let all = with(device).replace("kind = \"dpdk\"", "kind = \"dpdk\"\nchecksums = \"device\"");
    let edge = lab.edge_named("dsum", &all.replace("\"e2e\"", "\"dsum\""));
    net("ip link set dpt0 master br0 up");
    serves(&lab, &edge, &mut c, device, "net_tap", "copying");
    c.check("net_tap: sums by the driver are right", || {
        let mode = edge.stats()["node"]["ports"][0]["mode"].to_string();
        let who = "rx checksums by the driver, tx checksums by the driver, TSO offered but not used";
        assert!(mode.contains(who), "{mode}");
        for ns in [lab.client(), lab.origin()] {
            // The last column of TCP's counts is InCsumErrors.
            let out = lab.sh_in(
                &ns,
                5,
                "awk '/^Tcp:/ { names = last; last = $NF } END { print names, last }' /proc/net/snmp",
            );
            assert_eq!(text(&out).trim(), "InCsumErrors 0", "{ns}");
        }
    });
    stops(edge, &mut c, "net_tap with sums by the driver");

    let all = with(device).replace("kind = \"dpdk\"", "kind = \"dpdk\"\nhost_if = \"mrk0\"");
    let edge = lab.edge_named("dlink", &all.replace("\"e2e\"", "\"dlink\""));
    c.check("net_tap: its link is told of, also to the kernel", || {
        for (word, changes) in [("up", 0), ("down", 1), ("up", 2)] {
            net(&format!("ip link set dpt0 {word}"));
            let until = Instant::now() + PATIENCE;
            loop {
                let link = edge.stats()["node"]["ports"][0]["link"].clone();
                if link["up"] == (word == "up") && link["changes"] == changes {
                    break;
                }
                assert!(Instant::now() < until, "{word}: {link}");
                thread::sleep(Duration::from_millis(50));
            }
            let out = lab.sh_in(&lab.net(), 5, "cat /sys/class/net/mrk0/carrier");
            assert_eq!(text(&out).trim(), if word == "up" { "1" } else { "0" });
        }
    });
    stops(edge, &mut c, "net_tap whose link came and went");

    c.check("what cannot be opened ends the start with a reason", || {
        for (device, word) in [
            ("net_af_packet1,iface=nowhere0", "iface= an interface that is there"),
            ("net_nonesuch0", "cannot open DPDK's net_nonesuch0"),
            ("net_ring0\"\nchecksums = \"device", "it does not compute checksums both ways"),
        ] {
            let file = lab.dir().join("bad.toml");
            std::fs::write(&file, with(device)).expect("the config written");
            let out = lab.millrace(&["run", "--config", &file.display().to_string()]);
            assert_eq!(out.status.code(), Some(1), "{}", text(&out));
            assert!(text(&out).contains(word), "{}", text(&out));
        }
    });

    c.check("a killed node leaves nothing that a new one minds", || {
        let device = "net_tap0,iface=dpt0";
        for name in ["killed", "after"] {
            let edge = lab.edge_named(name, &with(device).replace("\"e2e\"", &format!("\"{name}\"")));
            net("ip link set dpt0 master br0 up");
            let until = Instant::now() + PATIENCE;
            while !lab.sh(5, &format!("ping -c 1 -W 1 {EDGE_V4}")).status.success() {
                assert!(Instant::now() < until, "{name} does not answer: {}", edge.log());
                thread::sleep(Duration::from_millis(50));
            }
            let pid = rustix::process::Pid::from_raw(edge.pid() as i32).expect("a pid");
            rustix::process::kill_process(pid, Signal::KILL).expect("a living node");
        }
    });
    c.end();
}
