//! A node of two cores over one TAP device: both get work, what comes to the wrong one finds the right one.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Client;
use crate::lab::{Checks, EDGE_V4, EDGE_V6, Edge, Lab, NGINX, PATIENCE, config, count, skip, text};
use crate::script;

pub fn two_cores(sites: &str) -> String {
    config(sites).replace("name = \"e2e\"", "name = \"e2e\"\ncores = [0, 1]")
}

/// A counter of each core.
pub fn of_cores(stats: &Value, name: &str) -> Vec<u64> {
    let cores = stats["cores"].as_array().expect("cores");
    cores.iter().map(|c| c["counters"][name].as_u64().expect("a counter")).collect()
}

/// Both laws on each core, and nothing in the mail.
pub fn laws(edge: &Edge) -> Value {
    let s = edge.at_rest();
    let law = &s["conservation"];
    assert_eq!(law["in_mail"], 0, "{law}");
    let drops: Vec<String> = s["drops"]
        .as_array()
        .expect("drops")
        .iter()
        .map(|d| d["name"].as_str().expect("a name").to_owned())
        .filter(|n| !n.starts_with("drop.tx."))
        .collect();
    let core = |i: usize, name: &str| of_cores(&s, name)[i];
    for i in 0..2 {
        let drops: u64 = drops.iter().map(|n| core(i, n)).sum();
        let known = core(i, "rx.accepted") + core(i, "rx.handed_over") + drops;
        assert_eq!(core(i, "rx.packets") + core(i, "rx.taken_over"), known, "core {i}");
    }
    s
}

pub fn request(lab: &Lab, at: &str, host: &str, path: &str) -> (u16, Vec<u8>) {
    let at: SocketAddr = at.parse().expect("an address");
    let mut c = Client::new(lab.connect(at).expect("taken"));
    c.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).expect("sent");
    let a = c.answer("GET");
    (a.whole(), a.body)
}

#[test]
fn two_cores_share_a_device() {
    let name = "two_cores_share_a_device";
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip(name, "needs two CPUs");
    }
    let Some(lab) = Lab::up(name, 'c', true) else { return };
    let seen = script::start(&lab);
    let sites = format!("[[site]]\nhosts = \"script.lab\"\norigin = \"http://10.80.0.3:9000\"\n{NGINX}");
    let mut c = Checks::new();

    c.check("a device with one queue is refused with the mend", || {
        let file = lab.dir().join("two.toml");
        std::fs::write(&file, two_cores(&sites)).expect("written");
        let out = lab.millrace(&["run", "--config", file.to_str().expect("UTF-8")]);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        assert!(text(&out).contains("ip tuntap add mr0 mode tap multi_queue"), "{}", text(&out));
        let line = "ip tuntap del mr0 mode tap && ip tuntap add mr0 mode tap multi_queue && ip link set mr0 master br0 up";
        let out = lab.sh_in(&lab.net(), 10, line);
        assert!(out.status.success(), "{}", text(&out));
        let file = lab.dir().join("one.toml");
        std::fs::write(&file, config(&sites)).expect("written");
        let out = lab.millrace(&["run", "--config", file.to_str().expect("UTF-8")]);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        assert!(text(&out).contains("made for several queues"), "{}", text(&out));
    });

    let mut edge = lab.edge(&two_cores(&sites));

    c.check("it says what runs", || {
        let s = edge.stats();
        assert_eq!(s["node"]["cpus"], serde_json::json!([0, 1]));
        let mode = s["node"]["ports"][0]["mode"].as_str().expect("a mode").to_owned();
        assert!(mode.contains("2 queues") && mode.contains("software steering"), "{mode}");
        assert!(text(&edge.cli(&["node"])).contains("handed over"));
        let comm = lab.sh(10, &format!("cat /proc/{}/task/*/comm", edge.pid()));
        assert!(text(&comm).contains("millrace-core1"), "{}", text(&comm));
    });

    c.check("both get clients, over both families", || {
        for at in [format!("{EDGE_V4}:80"), format!("[{EDGE_V6}]:80")] {
            for host in ["any.lab", "v6.lab"] {
                for _ in 0..25 {
                    let (status, body) = request(&lab, &at, host, "/1k");
                    assert_eq!((status, body.len()), (200, 1024));
                }
            }
        }
        let s = laws(&edge);
        let requests = of_cores(&s, "http.requests");
        assert_eq!(requests.iter().sum::<u64>(), 100);
        assert!(requests.iter().all(|n| *n >= 20), "{requests:?}");
        assert!(of_cores(&s, "origin.connects").iter().all(|n| *n > 0));
        assert_eq!((count(&s, "tcp.resets_sent"), count(&s, "drop.tcp.no_flow")), (0, 0));
    });

    c.check("what comes late from an origin is steered to its connection", || {
        let before = edge.stats();
        let began = Instant::now();
        thread::scope(|scope| {
            for i in 0..12 {
                let lab = &lab;
                scope.spawn(move || {
                    let (status, body) =
                        request(lab, &format!("{EDGE_V4}:80"), "script.lab", &format!("/late?{i}"));
                    assert_eq!((status, &body[..]), (200, &b"better late"[..]));
                });
            }
        });
        assert!(began.elapsed() > Duration::from_secs(4));
        let s = laws(&edge);
        let handed = count(&s, "rx.handed_over") - count(&before, "rx.handed_over");
        eprintln!("       {handed} frames were handed over");
        assert!(handed > 0, "some of twelve connections come back to the other core");
        assert_eq!(count(&s, "drop.mail.full"), 0);
        assert_eq!(seen.count("/late?0"), 1, "asked once");
    });

    c.check("idle origin connections are reused by the core that has them", || {
        thread::sleep(Duration::from_secs(4)); // Forgotten by the device.
        let before = edge.stats();
        for _ in 0..40 {
            assert_eq!(request(&lab, &format!("{EDGE_V4}:80"), "any.lab", "/1k").0, 200);
        }
        let s = laws(&edge);
        assert!(count(&s, "origin.reused") > count(&before, "origin.reused"));
        assert_eq!(count(&s, "drop.tcp.no_flow"), count(&before, "drop.tcp.no_flow"));
    });

    c.check("ping, large bodies and many connections", || {
        lab.ask(20, &format!("ping -c 5 -i 0.2 -W 2 {EDGE_V4}"));
        lab.ask(20, &format!("ping -6 -c 5 -i 0.2 -W 2 {EDGE_V6}"));
        let sums = std::fs::read_to_string(lab.dir().join("www/SHA256SUMS")).expect("sums");
        let got = lab.ask(60, &format!("curl -fsS http://{EDGE_V4}/1m | sha256sum"));
        let sum = got.split_whitespace().next().unwrap_or("?").to_owned();
        assert!(sums.contains(&format!("{sum}  1m")), "{got}");
        let seen = lab.ask(40, &format!("wrk -t 2 -c 64 -d 2s http://{EDGE_V4}/1k"));
        assert!(!seen.contains("Socket errors") && !seen.contains("Non-2xx"), "{seen}");
        let s = laws(&edge);
        let requests = of_cores(&s, "http.requests");
        eprintln!("       requests by core {requests:?}");
        assert!(requests.iter().all(|n| *n > 200), "{requests:?}");
    });

    c.check("both drain", || {
        let late = thread::scope(|scope| {
            let all: Vec<_> = (0..6)
                .map(|i| {
                    let lab = &lab;
                    scope.spawn(move || {
                        request(lab, &format!("{EDGE_V4}:80"), "script.lab", &format!("/late?drain{i}"))
                    })
                })
                .collect();
            edge.wait_for("http.requests_active", 6);
            edge.term();
            all.into_iter().map(|j| j.join().expect("answered").0).collect::<Vec<_>>()
        });
        assert_eq!(late, [200; 6]);
        let status = edge.wait(PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(0), "{}", edge.log());
        assert!(edge.log().contains("stopped\""), "{}", edge.log());
    });
    c.end();
}
