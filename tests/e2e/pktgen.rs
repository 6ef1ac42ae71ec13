//! `millrace pktgen` against the Linux kernel: what it says it sent and got is what the kernel counted.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataplane::Time;
use dataplane::pcapng::PcapWriter;
use serde_json::Value;

use super::lab::{Checks, Lab, enter, text};

const PORT: [&str; 6] = ["--port", "tap:mr0", "--address", "10.80.0.1/24", "--address", "fd80::1/64"];

fn pktgen(lab: &Lab, streams: &[&str], options: &str) -> Value {
    let mut args = vec!["pktgen"];
    args.extend(streams);
    args.extend(PORT);
    args.extend(options.split_whitespace());
    args.push("--json");
    let out = lab.millrace(&args);
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

/// What the client's kernel has counted.
fn kernel(lab: &Lab, name: &str) -> u64 {
    let all = lab.ask(5, &format!("nstat -asz {name} | awk '$1 == \"{name}\" {{ print $2 }}'"));
    all.parse().unwrap_or_else(|_| panic!("{name}: {all}"))
}

fn n(v: &Value, path: &str) -> u64 {
    v.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {v}"))
}

#[test]
fn pktgen_and_the_kernel_agree() {
    let Some(lab) = Lab::up("pktgen::pktgen_and_the_kernel_agree", 'k', false) else { return };
    lab.ask(
        5,
        "sysctl -qw net.ipv4.tcp_syncookies=2 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
         net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0; ip route add 10.77.0.0/16 via 10.80.0.1",
    );
    let mut checks = Checks::new();

    checks.check("pktgen: a SYN flood is answered by cookies, frame by frame", || {
        let _listener = enter(&lab.client(), || TcpListener::bind("0.0.0.0:8080")).expect("a free port");
        let (cookies, segments) = (kernel(&lab, "TcpExtSyncookiesSent"), kernel(&lab, "TcpInSegs"));
        let r = pktgen(&lab, &["syn dst=10.80.0.2:8080 src=10.77.0.0/16"], "--rate 5kpps --count 5000");
        let sent = n(&r, "/tx/frames");
        assert_eq!((sent, n(&r, "/tx/made")), (5000, 5000), "{r}");
        assert_eq!(kernel(&lab, "TcpInSegs") - segments, sent);
        let answered = kernel(&lab, "TcpExtSyncookiesSent") - cookies;
        assert_eq!(answered, sent);
        // What it sent and we did not get, our port dropped and counted.
        let lost = n(&r, "/rx/missed") + n(&r, "/rx/no_buffer");
        assert_eq!(n(&r, "/rx/kinds/syn_ack") + lost, answered, "{r}");
        assert_eq!(n(&r, "/rx/kinds/rst"), 0);
    });

    checks.check("pktgen: pings are probes", || {
        let (v4, v6) = (kernel(&lab, "IcmpInEchos"), kernel(&lab, "Icmp6InEchos"));
        let streams = ["icmp dst=10.80.0.2 probe size=imix", "icmp dst=fd80::2 probe weight=3"];
        let r = pktgen(&lab, &streams, "--rate 2kpps --count 2000");
        for (i, frames) in [500, 1500].into_iter().enumerate() {
            let of = |what: &str| n(&r, &format!("/streams/{i}/{what}"));
            assert_eq!((of("frames"), of("probes/back"), of("probes/lost")), (frames, frames, 0), "{r}");
            assert_eq!((of("probes/duplicates"), of("probes/reordered")), (0, 0), "{r}");
            let p50 = r["streams"][i]["probes"]["latency_us"]["p50"].as_f64();
            assert!(p50.is_some_and(|us| us > 0.0), "{r}");
        }
        assert_eq!(kernel(&lab, "IcmpInEchos") - v4, 500);
        assert_eq!(kernel(&lab, "Icmp6InEchos") - v6, 1500);
    });

    checks.check("pktgen: an echo of UDP brings probes back, and their latencies go to a file", || {
        let echo = enter(&lab.client(), || UdpSocket::bind("10.80.0.2:7")).expect("a free port");
        echo.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        let over = AtomicBool::new(false);
        let hdr = lab.dir().join("latencies.hgrm");
        let r = std::thread::scope(|s| {
            s.spawn(|| {
                let mut buf = [0; 2048];
                while !over.load(Ordering::Relaxed) {
                    if let Ok((len, from)) = echo.recv_from(&mut buf) {
                        let _ = echo.send_to(&buf[..len], from);
                    }
                }
            });
            let options = format!("--rate 2mbit --count 500 --linger 1s --hdr {}", hdr.display());
            let r = pktgen(&lab, &["udp dst=10.80.0.2:7 size=78-1518 probe"], &options);
            over.store(true, Ordering::Relaxed);
            r
        });
        assert_eq!((n(&r, "/streams/0/probes/back"), n(&r, "/streams/0/probes/lost")), (500, 0), "{r}");
        let file = std::fs::read_to_string(&hdr).expect("the file");
        assert!(file.contains("Total count    =          500"), "{file}");
    });

    checks.check("pktgen: reports are held against each other, and drawn", || {
        let file = |n: u32, rate: &str| {
            let r = pktgen(&lab, &["icmp dst=10.80.0.2 probe"], &format!("--rate {rate} --count 300"));
            let file = lab.dir().join(format!("pings{n}.json"));
            std::fs::write(&file, r.to_string()).expect("written");
            file.display().to_string()
        };
        let (a, b) = (file(1, "1kpps"), file(2, "2kpps"));
        let pictures = lab.dir().join("pictures");
        let out =
            lab.millrace(&["pktgen", "compare", &a, &b, "--json", "--svg", &pictures.display().to_string()]);
        assert!(out.status.success(), "{}", text(&out));
        let v: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!((n(&v, "/runs/0/samples"), n(&v, "/runs/1/samples")), (300, 300), "{v}");
        assert!(v["ratios"][0]["latency"]["p50"].as_f64().is_some_and(|r| r > 0.0), "{v}");
        assert_eq!(v["runs"][0]["latency_us"]["too_few_samples"][0], "p99", "{v}");
        for name in ["tail.svg", "cdf.svg", "qq.svg"] {
            let svg = std::fs::read_to_string(pictures.join(name)).expect("drawn");
            assert!(svg.starts_with("<svg") && svg.contains("pings2"), "{svg}");
        }
        let out = lab.millrace(&["pktgen", "compare", &a, "/no/such/report"]);
        assert!(out.status.code() == Some(1) && text(&out).contains("/no/such/report"), "{}", text(&out));
    });

    checks.check("pktgen: of a device that loses every other frame, only half has a rate", || {
        let echo = enter(&lab.client(), || UdpSocket::bind("10.80.0.2:7")).expect("a free port");
        echo.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        let over = AtomicBool::new(false);
        let out = std::thread::scope(|s| {
            s.spawn(|| {
                let (mut buf, mut frames) = ([0; 2048], 0u32);
                while !over.load(Ordering::Relaxed) {
                    let Ok((len, from)) = echo.recv_from(&mut buf) else { continue };
                    frames += 1;
                    if frames % 2 == 0 {
                        let _ = echo.send_to(&buf[..len], from);
                    }
                }
            });
            let mut args = vec!["pktgen", "ndr", "udp dst=10.80.0.2:7 probe", "--max", "400pps", "--json"];
            args.extend("--trial 300ms --linger 500ms --pdr 90%".split_whitespace());
            args.extend(PORT);
            let out = lab.millrace(&args);
            over.store(true, Ordering::Relaxed);
            out
        });
        assert!(out.status.success(), "{}", text(&out));
        let v: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(
            (&v["answers"][0]["outcome"], &v["answers"][1]["outcome"]),
            (&"none".into(), &"at_least".into()),
            "{v}"
        );
        for trial in v["trials"].as_array().expect("trials") {
            let of = |what: &str| trial[what].as_u64().expect("a count");
            assert!(of("sent") >= 2 && of("sent") == of("back") + of("lost"), "{v}");
        }
    });

    checks.check("pktgen: what is nobody's is refused, and fragments wait in vain", || {
        let (closed, needed) = (kernel(&lab, "UdpNoPorts"), kernel(&lab, "IpReasmReqds"));
        let streams = ["udp dst=10.80.0.2:9", "frags dst=10.80.0.2 src=10.77.0.0/16"];
        let r = pktgen(&lab, &streams, "--rate 1kpps --count 400");
        assert_eq!(kernel(&lab, "UdpNoPorts") - closed, 200);
        assert_eq!(kernel(&lab, "IpReasmReqds") - needed, 200);
        assert!(n(&r, "/rx/kinds/unreachable") > 0, "{r}");
    });

    checks.check("pktgen: a capture arrives as it was recorded", || {
        let sink = enter(&lab.client(), || UdpSocket::bind("10.80.0.2:4000")).expect("a free port");
        sink.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        let mac = lab.ask(
            5,
            "cat /sys/class/net/eth0/address 2>/dev/null || ip -br link | awk '!/^lo/ { print $3; exit }'",
        );
        let mac: Vec<u8> = mac.split(':').map(|b| u8::from_str_radix(b, 16).expect("a MAC")).collect();
        let file = lab.dir().join("three.pcapng");
        let mut w = PcapWriter::create(&file, &["x"]).expect("a file");
        for (i, at) in [0u64, 20_000_000, 30_000_000].into_iter().enumerate() {
            let mut f = [&mac[..], &[2, 0, 0, 0, 0, 9, 8, 0]].concat();
            let mut ip = vec![0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 80, 0, 1, 10, 80, 0, 2];
            let sum = stack::checksum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            f.extend(ip);
            // No checksum: to UDP over IPv4 that is good (RFC 768).
            f.extend([0x13, 0x88, 0x0f, 0xa0, 0, 9, 0, 0, b'a' + i as u8]);
            w.write(Time(at), 0, &[&f]).expect("written");
        }
        w.flush().expect("written");
        let r = pktgen(&lab, &[&format!("pcap:{}", file.display())], "");
        assert_eq!((n(&r, "/tx/frames"), &r["rate"]), (3, &Value::from("as recorded")), "{r}");
        let mut got = Vec::new();
        for _ in 0..3 {
            let mut b = [0; 16];
            let len = sink.recv(&mut b).expect("a datagram");
            got.extend_from_slice(&b[..len]);
        }
        assert_eq!(got, b"abc");
    });

    checks.check("pktgen: what cannot be sent says why", || {
        let run = |stream: &str, more: &[&str]| {
            let out = lab.millrace(&[&["pktgen", stream], more].concat());
            (out.status.code(), text(&out))
        };
        let (code, said) = run("udp dst=10.80.0.99", &PORT);
        assert!(code == Some(1) && said.contains("nobody answers towards 10.80.0.99"), "{said}");
        let (code, said) = run("udp dst=192.0.2.1", &PORT);
        assert!(code == Some(1) && said.contains("add --gateway"), "{said}");
        let (code, said) = run("upd dst=10.80.0.2", &PORT);
        assert!(code == Some(2) && said.contains("did you mean udp?"), "{said}");
        let (code, said) = run("udp dst=10.80.0.2", &["--port", "eth0"]);
        assert!(code == Some(1) && said.contains("write tap:DEVICE"), "{said}");
        let (code, said) = run("udp dst=10.80.0.2 size=9000", &PORT);
        assert!(code == Some(2) && said.contains("add --mtu"), "{said}");
    });
    checks.end();
}
