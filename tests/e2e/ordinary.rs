//! Ports of kind `dpdk` under an ordinary user, without any privilege: a ring, files, and memory that two nodes share.
//!
//! As root, the node is a copy of the binary that runs under another user.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::Time;
use dataplane::pcapng::{PcapReader, PcapWriter};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::Client;
use crate::lab::{PATIENCE, count};

/// `nobody`.
const USER: u32 = 65_534;

/// A folder of that user's with the binary in it; gone when this is dropped.
struct Home(PathBuf);

impl Home {
    fn new(test: &str) -> Home {
        let home = Home(std::env::temp_dir().join(format!("mr-{test}-{}", std::process::id())));
        fs::create_dir_all(home.0.join("run")).expect("a folder");
        let program = home.0.join("millrace");
        fs::copy(env!("CARGO_BIN_EXE_millrace"), &program).expect("copied");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("may be run");
        home.give("");
        home.give("run");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a file the user's.
    fn give(&self, name: &str) {
        if rustix::process::geteuid().is_root() {
            chown(self.path(name), Some(USER), Some(USER)).expect("given");
        }
    }

    fn command(&self) -> Command {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut c = Command::new("setpriv");
            let user = [format!("--reuid={USER}"), format!("--regid={USER}")];
            c.args(user).args(["--clear-groups", "--no-new-privs"]).arg(self.path("millrace"));
            c
        } else {
            Command::new(self.path("millrace"))
        };
        command.env("MILLRACE_RUN", self.path("run")).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    /// Starts a node; it runs when this returns.
    fn node(&self, name: &str, config: &str) -> Node<'_> {
        let file = self.path(&format!("{name}.toml"));
        fs::write(
            &file,
            format!("[node]\nname = \"{name}\"\nmemory = \"64MiB\"\npages = \"normal\"\n{config}"),
        )
        .expect("written");
        let log = fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = self.command();
        let child = command.args(["run", "--config"]).arg(&file).stdout(Stdio::null()).stderr(log).spawn();
        let mut node = Node { home: self, name: name.to_owned(), child: child.expect("started") };
        let until = Instant::now() + PATIENCE;
        while !node.log().contains(" serves http://") {
            assert!(node.child.try_wait().expect("our child").is_none(), "it has ended: {}", node.log());
            assert!(Instant::now() < until, "it does not start in time: {}", node.log());
            thread::sleep(Duration::from_millis(20));
        }
        node
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Node<'a> {
    home: &'a Home,
    name: String,
    child: Child,
}

impl Node<'_> {
    fn log(&self) -> String {
        fs::read_to_string(self.home.path(&format!("{}.log", self.name))).unwrap_or_default()
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < until, "{}: not in time: {what}\n{}", self.name, self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn stats(&self) -> Value {
        let out =
            self.home.command().args(["stats", "--json", "--node", &self.name]).output().expect("stats");
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    fn is_exact(&self) -> bool {
        let law = &self.stats()["conservation"];
        let zero = |name: &str| law[name].as_i64() == Some(0);
        zero("held") && zero("tx_imbalance") && zero("tx_queued")
    }

    /// Stops in order, with every buffer back: a debug build panics when one is missing.
    fn stop(mut self) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        let uid = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let uid = uid.lines().find(|l| l.starts_with("Uid:")).unwrap_or_default();
        assert!(!uid.split_whitespace().any(|id| id == "0"), "not an ordinary user: {uid}");
        kill_process(pid, Signal::TERM).expect("a living node");
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("our child").is_none() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        let status = self.child.try_wait().expect("our child");
        assert_eq!(status.and_then(|s| s.code()), Some(0), "{}: {}", self.name, self.log());
        assert!(!self.log().contains("did not come back"), "{}", self.log());
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}'s log:\n{}", self.name, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port(device: &str, address: &str) -> String {
    format!(
        "[[port]]\nname = \"wan\"\nkind = \"dpdk\"\ndevice = \"{device}\"\naddresses = \"{address}/24\"\n\
         mac = \"02:00:00:00:00:{}\"\n",
        address.rsplit('.').next().map(|n| format!("{n:0>2}")).unwrap_or_default()
    )
}

const TO_ELSEWHERE: &str = "[[listener]]\naddress = \"10.9.0.1\"\nhttp = 80\n\
                            [[site]]\nhosts = \"*\"\nredirect = { https = true }\n";

#[test]
fn dpdk_for_an_ordinary_user_over_a_ring() {
    let home = Home::new("ring");
    // What it asks about its origin comes back to itself.
    let config = "[[listener]]\naddress = \"10.9.0.1\"\nhttp = 80\n[[site]]\nhosts = \"*\"\n\
                  origin = \"http://10.9.0.9:80\"\nhealth = { interval = \"1s\" }\n";
    let eal_args = "eal_args = [\"-n\", \"4\", \"--log-level=lib.eal:warning\"]\n";
    let node = home.node("ring", &format!("{eal_args}{}{config}", port("net_ring0", "10.9.0.1")));
    node.until("questions come back", || {
        let s = node.stats();
        count(&s, "arp.requests_sent") > 0 && count(&s, "rx.packets") == count(&s, "tx.sent")
    });
    node.until("both laws hold", || node.is_exact());
    let s = node.stats();
    let mode = s["node"]["ports"][0]["mode"].as_str().expect("a mode");
    assert!(mode.starts_with("net_ring, 1 queue") && mode.ends_with("normal pages"), "{mode}");
    node.stop();
}

#[test]
fn dpdk_for_an_ordinary_user_over_files() {
    let home = Home::new("pcap");
    // A hundred stations ask who has 10.9.0.1.
    let mut file = PcapWriter::create(&home.path("in.pcapng"), &["test"]).expect("a file");
    for n in 0..100u8 {
        let mut frame = [0xff; 6].to_vec();
        frame.extend([2, 0, 0, 0, 1, n, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, n, 10, 9, 0, 100 + n]);
        frame.extend([0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
        frame.resize(60, 0);
        file.write(Time(0), 0, &[&frame]).expect("written");
    }
    file.flush().expect("written");
    home.give("in.pcapng");
    let node =
        home.node("pcap", &(port("net_pcap0,rx_pcap=in.pcapng,tx_pcap=out.pcap", "10.9.0.1") + TO_ELSEWHERE));
    node.until("all have been read", || count(&node.stats(), "arp.replies_sent") == 100);
    node.until("both laws hold", || node.is_exact());
    let s = node.stats();
    assert_eq!(count(&s, "rx.packets"), 100, "{}", s["counters"]);
    node.stop();
    let mut reader = PcapReader::open(&home.path("out.pcap")).expect("what it wrote");
    let (mut frame, mut answers, mut frames) = (Vec::new(), 0u8, 0);
    while reader.next_frame(&mut frame).expect("readable").is_some() {
        frames += 1;
        // The rest is what it says of itself when it starts.
        if (&frame[12..14], frame[21]) == (&[8, 6], 2) && frame[0] != 0xff {
            assert_eq!(frame[..6], [2, 0, 0, 0, 1, answers], "an answer to each, in order");
            answers += 1;
        }
    }
    assert_eq!((answers, frames), (100, count(&s, "tx.sent")));
}

#[test]
fn dpdk_for_an_ordinary_user_between_two_nodes() {
    let home = Home::new("memif");
    let device = |role: &str| {
        format!("net_memif0,role={role},socket-abstract=no,socket={}", home.path("m.sock").display())
    };
    let behind = home.node("behind", &(port(&device("server"), "10.9.0.1") + TO_ELSEWHERE));
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
    let config = format!(
        "[[port]]\nname = \"here\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttp = {free}\n\
         [[site]]\nhosts = \"*\"\norigin = \"http://10.9.0.1:80\"\n"
    );
    let front = home.node("front", &(port(&device("client"), "10.9.0.2") + &config));
    let at: SocketAddr = ([127, 0, 0, 1], free).into();
    // They find each other on a thread of DPDK's; until then there is no way to the origin.
    let ask = |path: &str| {
        let mut c = Client::new(TcpStream::connect(at).expect("taken"));
        c.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).expect("sent");
        c.answer("GET").whole()
    };
    front.until("the other node answers", || ask("/first") == 308);
    for i in 0..50 {
        assert_eq!(ask(&format!("/{i}")), 308);
    }
    let s = behind.stats();
    assert!(count(&s, "http.requests") >= 51 && count(&s, "rx.packets") > 51, "{}", s["counters"]);
    for node in [&front, &behind] {
        node.until("both laws hold", || node.is_exact());
    }
    front.stop();
    behind.stop();
}

/// PCI addresses of NICs that the kernel has.
fn nics_of_the_kernels() -> Vec<String> {
    let all = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let is_nic = |e: &fs::DirEntry| {
        let class = fs::read_to_string(e.path().join("class")).unwrap_or_default();
        let driver = fs::read_link(e.path().join("driver")).unwrap_or_default();
        let driver = driver.file_name().and_then(|n| n.to_str().map(str::to_owned)).unwrap_or_default();
        class.starts_with("0x02")
            && !driver.is_empty()
            && !["vfio-pci", "mlx5_core", "mlx4_core"].contains(&&*driver)
    };
    all.filter(is_nic).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn dpdk_says_what_is_in_the_way() {
    let home = Home::new("way");
    let run = |node: &str, device: &str| {
        let file = home.path("bad.toml");
        let config = port(device, "10.9.0.1") + TO_ELSEWHERE;
        fs::write(&file, format!("[node]\nname = \"way\"\nmemory = \"64MiB\"\n{node}\n{config}"))
            .expect("written");
        let out = home.command().args(["run", "--config"]).arg(&file).output().expect("run");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        said
    };
    for (node, device, words) in [
        ("", "ffff:ff:1f.7", &["port \\\"wan\\\": there is no PCI device ffff:ff:1f.7; "][..]),
        ("", "nosuchif0", &["there is no interface nosuchif0; "]),
        ("", "lo", &["not on a PCI device; write device = ", "net_af_packet0,iface=lo"]),
        ("", "net_nonesuch0", &["cannot open DPDK's net_nonesuch0"]),
        ("", "net_null0,colour=red", &["cannot open DPDK's net_null0,colour=red", "look at its arguments"]),
        ("", "net_memif0,role=client,socket-abstract=no,socket=nobody.sock", &["must be there first"]),
        ("eal_args = [\"--base-virtaddr=nonsense\"]", "net_null0", &["DPDK does not start: "]),
    ] {
        let said = run(node, device);
        for word in words {
            assert!(said.contains(word), "{device}: {said}");
        }
    }
    // What exactly depends on the machine: no IOMMU, no vfio-pci, or the kernel's driver.
    for nic in nics_of_the_kernels().iter().take(1) {
        let said = run("", nic);
        assert!(
            ["no IOMMU is in use", "vfio-pci is not loaded", "the kernel's driver"]
                .iter()
                .any(|w| said.contains(w)),
            "{said}"
        );
    }
    let info = fs::read_to_string("/proc/meminfo").expect("its facts");
    if info.lines().any(|l| l.starts_with("HugePages_Free:") && l.ends_with(" 0")) {
        let said = run("pages = \"huge\"", "net_null0");
        assert!(
            said.contains("of hugepages, and none are free; reserve that many more: sysctl vm.nr_hugepages="),
            "{said}"
        );
    }
}
