//! Two cores with a queue each of one DPDK device, steered in software: what the kernel can learn does not cross cores, and
//! what it cannot finds its core.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cores::{laws, of_cores, request, two_cores};
use crate::http::Client;
use crate::lab::{Checks, EDGE_V4, EDGE_V6, Edge, Lab, NGINX, PATIENCE, count, skip, text};

/// The lab's config for two cores with this device instead of its TAP.
fn with(name: &str, device: &str) -> String {
    let tap = "kind = \"tap\"\ndevice = \"mr0\"";
    // Normal pages: others on this machine may take hugepages between our count and DPDK's.
    let all = two_cores(NGINX).replace("\"e2e\"", &format!("\"{name}\"\npages = \"normal\""));
    assert!(all.contains(tap));
    all.replace(tap, &format!("kind = \"dpdk\"\ndevice = \"{device}\""))
}

fn mode_says(edge: &Edge, driver: &str) {
    let s = edge.stats();
    let mode = s["node"]["ports"][0]["mode"].as_str().expect("a mode").to_owned();
    assert!(mode.starts_with(&format!("{driver}, 2 queues, software steering, ")), "{mode}");
}

/// A hundred proxied requests on connections of their own: both cores serve, each asks the origin itself, nothing is
/// answered by the wrong one.
fn both_serve(lab: &Lab, edge: &Edge) -> Value {
    for at in [format!("{EDGE_V4}:80"), format!("[{EDGE_V6}]:80")] {
        for host in ["any.lab", "v6.lab"] {
            for _ in 0..25 {
                let (status, body) = request(lab, &at, host, "/1k");
                assert_eq!((status, body.len()), (200, 1024));
            }
        }
    }
    let s = laws(edge);
    let requests = of_cores(&s, "http.requests");
    assert_eq!(requests.iter().sum::<u64>(), 100);
    assert!(requests.iter().all(|n| *n >= 10), "{requests:?}");
    for (asked, new) in of_cores(&s, "http.requests").iter().zip(of_cores(&s, "origin.connects")) {
        assert!(new > 0 && new <= *asked, "each core has connections of its own: {}", s["cores"]);
    }
    assert_eq!((count(&s, "tcp.resets_sent"), count(&s, "drop.tcp.no_flow")), (0, 0), "{}", s["counters"]);
    assert_eq!(count(&s, "drop.mail.full"), 0);
    s
}

/// Frames that crossed cores while clients with open connections asked on and on; and the longest time that any of them
/// waited for its turn.
fn crossed(lab: &Lab, edge: &Edge, rounds: usize) -> (u64, Duration) {
    let at: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
    let mut clients: Vec<Client> = (0..12).map(|_| Client::new(lab.connect(at).expect("taken"))).collect();
    let (mut longest, mut began) = (Duration::ZERO, Instant::now());
    let mut ask = |rounds: usize| {
        for _ in 0..rounds {
            for c in &mut clients {
                c.send("GET /1k HTTP/1.1\r\nHost: any.lab\r\n\r\n").expect("sent");
                assert_eq!(c.answer("GET").whole(), 200);
            }
            // Since the end of the last one: what lies between, too, is time in which the kernel forgets.
            longest = longest.max(began.elapsed());
            began = Instant::now();
        }
    };
    ask(2);
    let before = edge.at_rest_but(12);
    ask(rounds);
    let after = edge.at_rest_but(12);
    let new = |name: &str| count(&after, name) - count(&before, name);
    assert_eq!(new("http.requests"), (rounds * 12) as u64);
    let by_core: Vec<u64> = of_cores(&after, "http.requests")
        .iter()
        .zip(of_cores(&before, "http.requests"))
        .map(|(a, b)| a - b)
        .collect();
    assert!(by_core.iter().all(|n| *n > 0), "both had clients: {by_core:?}");
    let (reused, all) = (new("origin.reused"), new("http.requests"));
    assert!(
        reused * 10 >= all * 9,
        "over connections that are open: {reused} of {all}, the longest round {longest:?}"
    );
    assert_eq!(new("rx.handed_over"), new("rx.taken_over"));
    eprintln!(
        "       {} requests, by core {by_core:?}: {} frames crossed, the longest round {longest:?}",
        rounds * 12,
        new("rx.handed_over")
    );
    (new("rx.handed_over"), longest)
}

fn stops(mut edge: Edge) {
    edge.term();
    let status = edge.wait(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}: {}", edge.log());
    assert!(!edge.log().contains("did not come back"), "{}", edge.log());
}

#[test]
fn two_cores_share_a_dpdk_device() {
    let name = "two_cores_share_a_dpdk_device";
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip(name, "needs two CPUs");
    }
    if !["/usr/sbin/ethtool", "/sbin/ethtool"].iter().any(|path| Path::new(path).exists()) {
        return skip(name, "needs ethtool; scripts/setup.sh installs it");
    }
    let Some(lab) = Lab::up(name, 'q', false) else { return };
    let net = |line: &str| {
        let out = lab.sh_in(&lab.net(), 20, line);
        assert!(out.status.success(), "{line}: {}", text(&out));
    };
    let mut c = Checks::new();

    c.check("a device with one queue is refused with the mend", || {
        let file = lab.dir().join("one.toml");
        std::fs::write(&file, with("one", "net_pcap0,tx_pcap=/dev/null")).expect("written");
        let out = lab.millrace(&["run", "--config", file.to_str().expect("UTF-8")]);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        let said = text(&out);
        assert!(
            said.contains("it has one queue each way, and the node has 2 cores; list one in \\\"cores\\\""),
            "{said}"
        );
    });

    let edge = lab.edge_named("qtap", &with("qtap", "net_tap0,iface=dpq0"));
    net("ip link set dpq0 master br0 up");
    c.check("net_tap: two queues", || mode_says(&edge, "net_tap"));
    c.check("net_tap: both cores serve", || drop(both_serve(&lab, &edge)));
    c.check("net_tap: no frame crosses cores once the kernel has learned", || {
        // It forgets a connection after 3 s; on a machine that is busy with other things a round can take as long. Then one
        // frame or the other comes to the core that it would without the memory.
        let quick = (0..10)
            .map(|_| crossed(&lab, &edge, 40))
            .find(|(frames, longest)| *frames == 0 && *longest < Duration::from_secs(1));
        assert_eq!(quick.map(|(frames, _)| frames), Some(0));
        laws(&edge);
    });
    c.check("net_tap: both stop", || stops(edge));

    // A pair of its own beside the lab's TAP, without the peer's offloads.
    net("ip link add dp0 type veth peer name dp1 && ip link set dp1 master br0");
    net("echo 1 >/proc/sys/net/ipv6/conf/dp0/disable_ipv6; ip link set dp0 up; ip link set dp1 up");
    net("ethtool -K dp1 tx off");
    let edge = lab.edge_named("qpacket", &with("qpacket", "net_af_packet0,iface=dp0"));
    // The address has moved to another station; what they knew would last a while.
    for ns in [lab.client(), lab.origin()] {
        let out = lab.sh_in(&ns, 5, "ip neigh flush dev eth0");
        assert!(out.status.success(), "{}", text(&out));
    }
    c.check("net_af_packet: two queues", || mode_says(&edge, "net_af_packet"));
    c.check("net_af_packet: both cores serve, by mail where its hash says otherwise", || {
        let s = both_serve(&lab, &edge);
        eprintln!("       {} of {} frames crossed", count(&s, "rx.handed_over"), count(&s, "rx.packets"));
        // It learns nothing: of the few connections to origins, those cross whose answers it hashes to the other core.
        // Clients' connections stay where their first frame came.
        crossed(&lab, &edge, 10);
        laws(&edge);
    });
    c.check("net_af_packet: both stop", || stops(edge));
    c.end();
}
