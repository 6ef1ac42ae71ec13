//! A port whose addresses the kernel has too: its services, its answers, its routes and neighbours, while the node
//! serves the same addresses under load.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Client;
use crate::lab::{Checks, EDGE_V4, EDGE_V6, Edge, Lab, NGINX, PATIENCE, config, count, enter, skip, text};

/// A site whose origin is behind a router that only the kernel knows.
const FAR: &str = "[[site]]\nhosts = \"far.lab\"\norigin = \"http://192.0.2.3:80\"\n\
                   [[site]]\nhosts = \"far6.lab\"\norigin = \"http://[2001:db8:2::3]:80\"\n";

fn shared(more: &str) -> String {
    let device = "device = \"mr0\"\n";
    let all = config(&format!("{FAR}{NGINX}"));
    assert!(all.contains(device));
    all.replace(device, &format!("{device}host_if = \"wan0\"\n")).replace("name = \"e2e\"\n", more)
}

fn net(lab: &Lab, line: &str) {
    let out = lab.sh_in(&lab.net(), 20, line);
    assert!(out.status.success(), "{line}: {}", text(&out));
}

/// The kernel sees the frames by these interfaces as well, and must not answer there: strict filtering of sources makes
/// it hear only what comes by the interface that it would answer by.
fn deafen(lab: &Lab, interfaces: &str) {
    net(lab, &format!("for i in {interfaces}; do echo 1 >/proc/sys/net/ipv4/conf/$i/rp_filter; done"));
}

fn get(lab: &Lab, to: &str, host: &str) -> u16 {
    let mut c =
        Client::new(lab.connect(SocketAddr::new(to.parse().expect("an address"), 80)).expect("taken"));
    c.send(format!("GET /1k HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).expect("sent");
    c.answer("GET").whole()
}

/// A service of the kernel's: echoes what each connection sends, to its end. Ends with the test.
fn echo(lab: &Lab, at: SocketAddr) {
    let listener = enter(&lab.net(), || TcpListener::bind(at)).expect("a free port");
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buf = vec![0; 64 << 10];
                while let Ok(n @ 1..) = socket.read(&mut buf) {
                    if socket.write_all(&buf[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Sends `bytes` and reads them back.
fn through_echo(lab: &Lab, at: SocketAddr, bytes: usize) {
    let socket = lab.connect(at).expect("taken");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let sent: Vec<u8> = (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut writer = socket.try_clone().expect("cloned");
    thread::scope(|s| {
        s.spawn(|| writer.write_all(&sent).expect("sent"));
        let mut got = vec![0; bytes];
        let mut socket = &socket;
        socket.read_exact(&mut got).expect("all of it");
        assert!(got == sent, "the echo of {at} is another");
    });
}

/// What must hold whatever carries the frames. `mac`: the port's.
fn shares(lab: &Lab, edge: &Edge, c: &mut Checks, what: &str) {
    let v4: SocketAddr = format!("{EDGE_V4}:7").parse().expect("an address");
    let v6: SocketAddr = format!("[{EDGE_V6}]:7").parse().expect("an address");
    let facts = edge.stats()["node"]["ports"][0].clone();
    c.check(&format!("{what}: says what runs"), || {
        assert_eq!(facts["host_if"], "wan0", "{facts}");
        let said = String::from_utf8_lossy(&edge.cli(&[]).stdout).into_owned();
        assert!(said.contains("exception path: TAP wan0"), "{said}");
        let log = edge.log();
        assert!(log.contains("TAP wan0, which was given 10.80.0.1/24 fd80::1/64"), "{log}");
        let out = lab.sh_in(&lab.net(), 5, "ip link show wan0");
        assert!(text(&out).contains(facts["mac"].as_str().expect("a MAC")), "{}", text(&out));
    });

    c.check(&format!("{what}: each question for a neighbour has one answer, with the port's MAC"), || {
        let seen = lab.dir().join("seen");
        let line = format!(
            "ip neigh flush dev eth0; timeout 20 tcpdump -nnl -i eth0 'arp or icmp6' >{0} 2>{0}.err & dump=$!; \
             until grep -q listening {0}.err; do sleep 0.05; done; \
             ping -c 3 -i 0.1 -W 5 {EDGE_V4} && ping -c 3 -i 0.1 -W 5 {EDGE_V6}; result=$?; \
             sleep 0.5; kill $dump; wait $dump; exit $result",
            seen.display()
        );
        let said = lab.ask(30, &line);
        assert_eq!(said.matches("3 received").count(), 2, "{said}");
        let seen = fs::read_to_string(&seen).expect("what was seen");
        let of = |all: &[&str]| seen.lines().filter(|l| all.iter().all(|w| l.contains(w))).count();
        let mac = facts["mac"].as_str().expect("a MAC");
        assert!(of(&[&format!("Request who-has {EDGE_V4} ")]) >= 1, "{seen}");
        assert_eq!(of(&[&format!("Reply {EDGE_V4} is-at {mac}")]), of(&[&format!("who-has {EDGE_V4} ")]), "{seen}");
        assert_eq!(of(&["is-at", EDGE_V4]), of(&["is-at", EDGE_V4, mac]), "{seen}");
        let asked = of(&["neighbor solicitation", &format!("who has {EDGE_V6},")]);
        assert!(asked >= 1, "{seen}");
        assert_eq!(of(&["neighbor advertisement", &format!("tgt is {EDGE_V6},")]), asked, "{seen}");
    });

    echo(lab, v4);
    echo(lab, v6);
    c.check(&format!("{what}: the kernel's services beside the node's, under load"), || {
        thread::scope(|s| {
            let load = s.spawn(|| lab.ask(40, &format!("wrk -t 2 -c 64 -d 3s http://{EDGE_V4}/1k")));
            let ping = s.spawn(|| lab.ask(40, &format!("ping -c 25 -i 0.1 -W 5 {EDGE_V4}")));
            let ping6 = s.spawn(|| lab.ask(40, &format!("ping -c 25 -i 0.1 -W 5 {EDGE_V6}")));
            // One that is open all the time, beside others that come and go.
            let mut kept = lab.connect(v4).expect("taken");
            kept.set_read_timeout(Some(PATIENCE)).expect("set");
            for n in 0..10u8 {
                through_echo(lab, if n % 2 == 0 { v4 } else { v6 }, 200_000);
                let mut back = [0; 1000];
                kept.write_all(&[n; 1000]).and_then(|()| kept.read_exact(&mut back)).expect("an echo");
                assert_eq!(back, [n; 1000]);
            }
            let (load, pings) =
                (load.join().expect("wrk"), [ping.join().expect("ping"), ping6.join().expect("ping")]);
            assert!(!load.contains("Non-2xx") && !load.contains("Socket errors"), "{load}");
            for said in pings {
                assert!(said.contains("25 received"), "{said}");
            }
            eprintln!("       {}", load.lines().find(|l| l.contains("Requests/sec")).unwrap_or_default());
        });
    });

    c.check(&format!("{what}: what nobody has is refused by the kernel"), || {
        let ours = || {
            let s = edge.at_rest();
            (count(&s, "tcp.resets_sent"), count(&s, "icmp.errors_sent"))
        };
        let before = ours();
        for ip in [EDGE_V4, EDGE_V6] {
            let at = SocketAddr::new(ip.parse().expect("an address"), 81);
            assert_eq!(lab.connect(at).expect_err("nobody").kind(), ErrorKind::ConnectionRefused);
            let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let udp = enter(&lab.client(), || UdpSocket::bind(any)).expect("a socket");
            udp.connect(at).and_then(|()| udp.set_read_timeout(Some(PATIENCE))).expect("set");
            udp.send(b"anybody?").expect("sent");
            assert_eq!(udp.recv(&mut [0; 9]).expect_err("nobody").kind(), ErrorKind::ConnectionRefused);
        }
        assert_eq!(ours(), before, "not by us");
    });

    c.check(&format!("{what}: the kernel puts fragments together"), || {
        // net_af_packet has its fragments of IPv4 put together before it gets them, and then they are too long for it.
        let all = if what == "net_af_packet" { &[EDGE_V6][..] } else { &[EDGE_V4, EDGE_V6] };
        for to in all {
            let said = lab.ask(20, &format!("ping -c 3 -i 0.1 -W 5 -s 4000 {to}"));
            assert!(said.contains("3 received"), "{said}");
        }
    });

    c.check(&format!("{what}: the kernel opens connections from the same address"), || {
        for to in ["10.80.0.3:80", "[fd80::3]:80"] {
            for _ in 0..20 {
                let to: SocketAddr = to.parse().expect("an address");
                let socket = enter(&lab.net(), || TcpStream::connect_timeout(&to, PATIENCE)).expect("taken");
                let mut c = Client::new(socket);
                c.send("GET /1m HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
                assert_eq!(c.answer("GET").whole(), 200);
            }
        }
    });

    c.check(&format!("{what}: origins behind routes that the kernel has"), || {
        let origin = |line: &str| {
            let out = lab.sh_in(&lab.origin(), 10, line);
            assert!(out.status.success(), "{line}: {}", text(&out));
        };
        origin("ip addr replace 192.0.2.3/32 dev eth0; ip addr replace 2001:db8:2::3/128 dev eth0 nodad");
        for (host, route, router) in
            [("far.lab", "192.0.2.0/24", "10.80.0.3"), ("far6.lab", "2001:db8:2::/64", "fd80::3")]
        {
            assert!((502..=503).contains(&get(lab, EDGE_V4, host)), "no route yet");
            net(lab, &format!("ip route add {route} via {router} dev wan0"));
            // The cores hear of it when the kernel has told us.
            let until = Instant::now() + PATIENCE;
            while get(lab, EDGE_V4, host) != 200 {
                assert!(Instant::now() < until, "{host} is not reached: {}", edge.log());
                thread::sleep(Duration::from_millis(50));
            }
            net(lab, &format!("ip route del {route}"));
        }
        let s = edge.stats();
        assert!(count(&s, "neighbour.kernel_asked") >= 2, "{s}");
        // We have told the link our address when we started; the questions are the kernel's.
        assert_eq!((count(&s, "arp.requests_sent"), count(&s, "nd.solicitations_sent")), (1, 0), "{s}");
    });

    c.check(&format!("{what}: both laws hold exactly"), || {
        let s = edge.at_rest();
        assert!(count(&s, "rx.punted") > 1000 && count(&s, "rx.forwarded") > 1000, "{s}");
        for name in ["drop.punt.link", "drop.punt.other"] {
            assert_eq!(count(&s, name), 0, "{name}");
        }
        assert_eq!((count(&s, "arp.replies_sent"), count(&s, "icmp.echo_replies")), (0, 0));
    });
}

#[test]
fn shared_tap() {
    let Some(lab) = Lab::up("shared_tap", 's', true) else { return };
    deafen(&lab, "br0");
    let mut c = Checks::new();
    let mut edge = lab.edge(&shared("name = \"e2e\"\n"));
    shares(&lab, &edge, &mut c, "tap");

    c.check("the interface goes with the node that made it", || {
        edge.term();
        assert_eq!(edge.wait(PATIENCE).and_then(|s| s.code()), Some(0), "{}", edge.log());
        assert!(!lab.sh_in(&lab.net(), 5, "ip link show wan0").status.success());
    });

    c.check("one that is there already is taken as it is, and stays", || {
        net(&lab, "ip tuntap add wan0 mode tap && ip addr add 10.80.0.1/24 dev wan0");
        let mut edge = lab.edge_named("kept", &shared("name = \"kept\"\n"));
        assert!(edge.log().contains("TAP wan0, which was given fd80::1/64;"), "{}", edge.log());
        lab.ask(10, &format!("ping -c 1 -W 5 {EDGE_V4}"));
        edge.term();
        assert_eq!(edge.wait(PATIENCE).and_then(|s| s.code()), Some(0), "{}", edge.log());
        net(&lab, "ip link show wan0 && ip tuntap del wan0 mode tap");
    });

    c.check("what cannot be had ends the start with a reason", || {
        for (name, words) in [
            ("br0", "port \"lan\", host_if: cannot open TAP br0: Invalid argument (os error 22); it exists, but is not a TAP device"),
            ("taken0", "host_if: cannot open TAP taken0: Device or resource busy (os error 16); another process has it open"),
        ] {
            // Somebody else's TAP.
            let _other = (name == "taken0").then(|| lab.edge_named("other", &config(NGINX).replace("mr0", name).replace("\"e2e\"", "\"other\"")));
            let file = lab.dir().join("bad.toml");
            fs::write(&file, shared("name = \"e2e\"\n").replace("\"wan0\"", &format!("\"{name}\""))).expect("written");
            let out = lab.millrace(&["run", "--config", &file.display().to_string()]);
            assert_eq!(out.status.code(), Some(1), "{}", text(&out));
            assert!(text(&out).replace("\\\"", "\"").contains(words), "{}", text(&out));
        }
    });
    c.end();
}

#[test]
fn shared_tap_of_two_cores() {
    let name = "shared_tap_of_two_cores";
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skip(name, "needs two CPUs");
    }
    let Some(lab) = Lab::up(name, 'w', true) else { return };
    deafen(&lab, "br0");
    net(
        &lab,
        "ip tuntap del mr0 mode tap && ip tuntap add mr0 mode tap multi_queue && ip link set mr0 master br0 up",
    );
    let mut c = Checks::new();
    let edge = lab.edge(&shared("name = \"e2e\"\ncores = [0, 1]\n"));
    shares(&lab, &edge, &mut c, "two cores");
    c.end();
}

#[cfg(feature = "dpdk")]
#[test]
fn shared_af_packet() {
    let Some(lab) = Lab::up("shared_af_packet", 'k', true) else { return };
    if !["/usr/sbin/ethtool", "/sbin/ethtool"].iter().any(|path| std::path::Path::new(path).exists()) {
        return skip("shared_af_packet", "needs ethtool; scripts/setup.sh installs it");
    }
    net(&lab, "ip link add dp0 type veth peer name dp1 && ip link set dp1 master br0");
    net(&lab, "echo 1 >/proc/sys/net/ipv6/conf/dp0/disable_ipv6; ip link set dp0 up; ip link set dp1 up");
    net(&lab, "ethtool -K dp1 tx off");
    deafen(&lab, "br0 dp0");
    let mut c = Checks::new();
    let tap = "kind = \"tap\"\ndevice = \"mr0\"";
    let edge = lab.edge(
        &shared("name = \"e2e\"\n").replace(tap, "kind = \"dpdk\"\ndevice = \"net_af_packet0,iface=dp0\""),
    );
    shares(&lab, &edge, &mut c, "net_af_packet");
    c.end();
}
