//! Two namespaces with a veth end each, a third one between them where the link stands; gone when dropped.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

pub const A: &str = "10.81.0.1";
pub const B: &str = "10.81.0.2";
/// Nothing that a test waits for takes as long; what does has hung.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn program() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_millrace-link"));
    c.stdin(Stdio::null());
    c
}

/// A shell line, ended after a minute.
pub fn sh(line: &str) -> Output {
    Command::new("timeout")
        .args(["-k", "5", "60", "bash", "-c", &format!("PATH=$PATH:/usr/sbin:/sbin; {line}")])
        .stdin(Stdio::null())
        .output()
        .expect("timeout and bash")
}

fn must(line: &str) -> String {
    let out = sh(line);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{line}: {} {said} {}", out.status, String::from_utf8_lossy(&out.stderr));
    said
}

/// Whether something is missing that a test needs: then the test has been noted as skipped.
pub fn noted_missing(test: &str, tools: &[&str], tap: bool) -> bool {
    let probe = format!("lk-probe{}", std::process::id());
    let reason = if !geteuid().is_root() {
        Some("needs root, for network namespaces".to_owned())
    } else if tap && !std::path::Path::new("/dev/net/tun").exists() {
        Some("needs /dev/net/tun".to_owned())
    } else if let Some(tool) = tools.iter().find(|tool| !sh(&format!("command -v {tool}")).status.success()) {
        Some(format!("needs {tool}; scripts/setup.sh installs it"))
    } else if !sh(&format!("ip netns add {probe}-{test} && ip netns del {probe}-{test}")).status.success() {
        // In a container, root may not be enough.
        Some("cannot make a network namespace".to_owned())
    } else {
        None
    };
    let Some(reason) = reason else { return false };
    eprintln!("skipped {test}: {reason}");
    if let Ok(path) = std::env::var("MILLRACE_TEST_SKIPS") {
        let noted = OpenOptions::new().create(true).append(true).open(path);
        noted.and_then(|mut f| writeln!(f, "{test} {reason}")).expect("the list of skipped tests");
    }
    true
}

pub struct Ends {
    prefix: String,
}

impl Ends {
    /// `None` when there can be none here: then the test has been noted as skipped.
    pub fn up(test: &str, letter: char) -> Option<Ends> {
        if noted_missing(test, &["ip", "ethtool", "ping", "timeout"], false) {
            return None;
        }
        let ends = Ends { prefix: format!("lk{letter}{}", std::process::id()) };
        must(&format!("ip netns add {}", ends.a()));
        // No word from the kernels but what a test sends: no IPv6, no ARP, whole checksums.
        let (a, b, l) = (ends.a(), ends.b(), ends.middle());
        must(&format!(
            "set -e; ip netns add {b}; ip netns add {l}
             for ns in {a} {b} {l}; do
                 ip netns exec $ns sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
                                          echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
             done
             ip -n {l} link add a0 type veth peer name eth0 address 02:00:00:00:00:01 netns {a}
             ip -n {l} link add b0 type veth peer name eth0 address 02:00:00:00:00:02 netns {b}
             for ns in {a} {b}; do ip netns exec $ns ethtool -K eth0 tx off >/dev/null; done
             ip -n {a} addr add {A}/24 dev eth0; ip -n {b} addr add {B}/24 dev eth0
             ip -n {l} link set a0 up; ip -n {l} link set b0 up
             ip -n {a} link set eth0 up; ip -n {b} link set eth0 up
             ip -n {a} neigh replace {B} lladdr 02:00:00:00:00:02 dev eth0 nud permanent
             ip -n {b} neigh replace {A} lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
        ));
        Some(ends)
    }

    fn a(&self) -> String {
        format!("{}-a", self.prefix)
    }

    fn b(&self) -> String {
        format!("{}-b", self.prefix)
    }

    fn middle(&self) -> String {
        format!("{}-l", self.prefix)
    }

    /// Runs `f` on a thread in the first namespace; what it opens stays there.
    pub fn in_a<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        enter(&self.a(), f)
    }

    /// The same in the second.
    pub fn in_b<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        enter(&self.b(), f)
    }

    /// A shell line in the first namespace; it must succeed.
    pub fn sh_a(&self, line: &str) -> String {
        must(&format!("ip netns exec {} bash -c '{line}'", self.a()))
    }

    /// Starts the link between the two, and waits until it is ready.
    pub fn link(&self, words: &[&str]) -> Link {
        Link::start(&[&format!("{}/a0", self.middle()), &format!("{}/b0", self.middle())], words)
    }

    /// Sends one frame from the first namespace, and waits until it is in the second: how many have come to its
    /// `eth0` in all, and their bytes.
    pub fn send_frame_and_count(&self, frame: &[u8]) -> (u64, u64) {
        self.in_a(|| raw::send(frame)).expect("sent");
        let count = |name: &str| -> u64 {
            let path = format!("/sys/class/net/eth0/statistics/{name}");
            must(&format!("ip netns exec {} cat {path}", self.b())).trim().parse().expect("a number")
        };
        let until = Instant::now() + PATIENCE;
        while count("rx_packets") == 0 {
            assert!(Instant::now() < until, "it does not come");
            thread::sleep(Duration::from_millis(10));
        }
        (count("rx_packets"), count("rx_bytes"))
    }

    /// The same between two TAP devices, 10.82.0.1 and 10.82.0.2, one in each namespace.
    pub fn link_taps(&self, words: &[&str]) -> Link {
        let link = Link::start(&[&format!("{}/tap:t0", self.a()), &format!("{}/tap:t0", self.b())], words);
        for (ns, own, peer) in [(self.a(), 1, 2), (self.b(), 2, 1)] {
            must(&format!(
                "set -e; ip -n {ns} link set t0 address 02:00:00:00:01:0{own}; ip -n {ns} link set t0 up
                 ip -n {ns} addr add 10.82.0.{own}/24 dev t0
                 ip -n {ns} neigh replace 10.82.0.{peer} lladdr 02:00:00:00:01:0{peer} dev t0 nud permanent"
            ));
        }
        link
    }
}

/// Asking for what only raw sockets can do.
mod raw {
    #![allow(unsafe_code)] // a packet socket.

    use std::io;
    use std::mem::zeroed;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// Sends one frame through `eth0` of this thread's namespace.
    pub fn send(frame: &[u8]) -> io::Result<()> {
        // SAFETY: plain numbers; the descriptor that comes back is ours alone.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeroes are a value of it.
        let mut to: libc::sockaddr_ll = unsafe { zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        // SAFETY: a string that ends in zero.
        to.sll_ifindex = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) } as i32;
        // SAFETY: frame and address live until the call is over, which reads them for their lengths.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent == frame.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        for ns in [self.a(), self.b(), self.middle()] {
            sh(&format!("[ ! -e /run/netns/{ns} ] || ip netns del {ns}"));
        }
    }
}

fn enter<T: Send>(namespace: &str, f: impl FnOnce() -> T + Send) -> T {
    let door = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    let inside = || {
        move_into_link_name_space(door.as_fd(), Some(LinkNameSpaceType::Network)).expect("let in");
        f()
    };
    thread::scope(|s| s.spawn(inside).join()).expect("no panic")
}

/// A running link.
pub struct Link {
    child: Child,
    said: Receiver<Value>,
}

impl Link {
    fn start(ends: &[&str], words: &[&str]) -> Link {
        let mut child = program()
            .args(["--json", "--every", "20ms"])
            .args(ends)
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (tell, said) = channel();
        let out: ChildStdout = child.stdout.take().expect("its output");
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("JSON");
                if tell.send(value).is_err() {
                    break;
                }
            }
        });
        let link = Link { child, said };
        let ready = link.said.recv_timeout(PATIENCE).expect("it is ready");
        assert_eq!(ready["event"], "ready", "{ready}");
        link
    }

    /// The latest news that begin after this call.
    pub fn news(&self) -> Value {
        while self.said.try_recv().is_ok() {}
        self.said.recv_timeout(PATIENCE).expect("news")
    }

    /// Ends it; its report.
    pub fn end(mut self) -> Value {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, Signal::TERM).expect("it runs");
        let until = Instant::now() + PATIENCE;
        loop {
            let event = self.said.recv_timeout(PATIENCE).expect("a report");
            if event["event"] == "end" {
                let status = self.child.wait().expect("it ends");
                let void = event["void"] == true;
                assert_eq!(status.code(), Some(i32::from(void)), "{event}");
                return event;
            }
            assert!(Instant::now() < until, "it does not end");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
