//! A namespace lab of a test's own (scripts/lab/lab under a prefix), the node in it, and what is asked of both.
//!
//! Sockets are made by a thread that enters the namespace, and used from the test's own: no helper programs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

pub const EDGE_V4: &str = "10.80.0.1";
pub const EDGE_V6: &str = "fd80::1";
const MILLRACE: &str = env!("CARGO_BIN_EXE_millrace");
/// Nothing that a test waits for takes as long; what does has hung.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Three namespaces, a bridge, nginx; gone when this is dropped.
pub struct Lab {
    prefix: String,
    // Unlocked when the lab is gone.
    _turn: Option<File>,
}

impl Lab {
    /// A lab for `test`; `letter` tells the labs of one process apart. `heavy`: waits until no other heavy test
    /// runs. `None` when it cannot be had here: then the test has been noted as skipped.
    pub fn up(test: &str, letter: char, heavy: bool) -> Option<Lab> {
        Lab::with(test, letter, heavy, &[])
    }

    /// The same with a link on either side, of these words (docs/lab.md). It needs the program of the crate `link`, which
    /// the tests of the whole workspace build.
    pub fn with_links(test: &str, letter: char, client: &str, origin: &str) -> Option<Lab> {
        if !link_program().exists() {
            skip(test, "needs millrace-link: cargo build -p millrace-link");
            return None;
        }
        Lab::with(test, letter, false, &["--shim-client", client, "--shim-origin", origin])
    }

    fn with(test: &str, letter: char, heavy: bool, options: &[&str]) -> Option<Lab> {
        if let Some(reason) = missing(letter) {
            skip(test, &reason);
            return None;
        }
        let turn = heavy.then(|| {
            let path = "/tmp/millrace-e2e.lock";
            let file =
                OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("the lock");
            file.lock().expect("locked");
            file
        });
        let lab = Lab { prefix: format!("e{letter}{}", base36(std::process::id())), _turn: turn };
        let up = lab.script(&[&["up", "--no-edge"], options].concat());
        assert!(up.status.success(), "the lab does not come up: {}", text(&up));
        Some(lab)
    }

    fn script(&self, verb: &[&str]) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab/lab");
        run(Command::new("timeout")
            .args(["-k", "5", "120", script, "--prefix", &self.prefix])
            .args(verb)
            .env("MILLRACE_LINK", link_program()))
    }

    pub fn client(&self) -> String {
        format!("{}-client", self.prefix)
    }

    pub fn origin(&self) -> String {
        format!("{}-origin", self.prefix)
    }

    pub fn net(&self) -> String {
        format!("{}-net", self.prefix)
    }

    /// The lab's files: www/, access.log.
    pub fn dir(&self) -> PathBuf {
        Path::new("/var/lib/millrace-lab").join(&self.prefix)
    }

    /// A shell line in a namespace, ended after `seconds`.
    pub fn sh_in(&self, namespace: &str, seconds: u64, line: &str) -> Output {
        let seconds = seconds.to_string();
        run(Command::new("timeout")
            .args(["-k", "5", &seconds, "ip", "netns", "exec", namespace, "bash", "-c", line]))
    }

    /// A shell line where the clients are.
    pub fn sh(&self, seconds: u64, line: &str) -> Output {
        self.sh_in(&self.client(), seconds, line)
    }

    /// What a shell line in the client's namespace prints; it must succeed.
    pub fn ask(&self, seconds: u64, line: &str) -> String {
        let out = self.sh(seconds, line);
        assert!(out.status.success(), "{line}: {}\n{}", out.status, text(&out));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// A connection from the client's namespace.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        enter(&self.client(), || TcpStream::connect_timeout(&to, PATIENCE))
    }

    /// A listener in the origin's namespace.
    pub fn listen(&self, at: SocketAddr) -> TcpListener {
        enter(&self.origin(), || TcpListener::bind(at)).expect("a free port")
    }

    /// Runs `millrace` with these arguments where nodes run, for 20 s at most.
    pub fn millrace(&self, args: &[&str]) -> Output {
        let run_dir = self.dir().join("run");
        fs::create_dir_all(&run_dir).expect("a run directory");
        run(Command::new("timeout")
            .args(["-k", "5", "20", "ip", "netns", "exec", &self.net(), MILLRACE])
            .args(args)
            .env("MILLRACE_RUN", run_dir))
    }

    /// Starts a node with this config, and waits until it runs.
    pub fn edge(&self, config: &str) -> Edge {
        self.edge_named("e2e", config)
    }

    /// The same for a node with another name.
    pub fn edge_named(&self, name: &str, config: &str) -> Edge {
        let run = self.dir().join("run");
        fs::create_dir_all(&run).expect("a run directory");
        let file = self.dir().join(format!("{name}.toml"));
        fs::write(&file, config).expect("the config written");
        let log = self.dir().join(format!("{name}.log"));
        let out = || OpenOptions::new().create(true).append(true).open(&log).expect("the log");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.net(), MILLRACE, "run", "--config"])
            .arg(&file)
            .env("MILLRACE_RUN", &run)
            .stdin(Stdio::null())
            .stdout(out())
            .stderr(out())
            .spawn()
            .expect("ip");
        let mut edge = Edge { child, name: name.to_owned(), run, log };
        let until = Instant::now() + PATIENCE;
        while edge.try_stats().is_none_or(|s| s["node"]["state"] != "running") {
            assert!(edge.ended().is_none(), "the node does not start: {}", edge.log());
            assert!(Instant::now() < until, "the node does not start in time: {}", edge.log());
            thread::sleep(Duration::from_millis(20));
        }
        edge
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A lab that does not go is seen by the next one; a panic here would hide what went wrong before.
        let down = self.script(&["down"]);
        if !down.status.success() {
            eprintln!("the lab \"{}\" is still there: {}", self.prefix, text(&down));
        }
    }
}

/// A running node.
pub struct Edge {
    child: Child,
    name: String,
    run: PathBuf,
    log: PathBuf,
}

impl Edge {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `millrace stats` with these arguments, for 20 s at most.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new("timeout");
        c.args(["-k", "5", "20", MILLRACE, "stats"]).args(args).env("MILLRACE_RUN", &self.run);
        c
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    fn try_stats(&self) -> Option<Value> {
        let out = self.cli(&["--node", &self.name, "--json"]);
        out.status.success().then(|| serde_json::from_slice(&out.stdout).expect("JSON"))
    }

    pub fn stats(&self) -> Value {
        self.try_stats().expect("a node that answers stats")
    }

    pub fn counter(&self, name: &str) -> u64 {
        count(&self.stats(), name)
    }

    /// Waits until a counter has this value.
    pub fn wait_for(&self, name: &str, value: u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let now = self.counter(name);
            if now == value {
                return;
            }
            assert!(Instant::now() < until, "{name} is {now}, not {value}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until nobody is connected and both laws hold exactly.
    pub fn at_rest(&self) -> Value {
        self.at_rest_but(0)
    }

    /// The same with some connections that stay open, idle.
    pub fn at_rest_but(&self, clients: u64) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let s = self.stats();
            let law = &s["conservation"];
            let zero = |v: &Value| v.as_i64() == Some(0);
            let exact = zero(&law["held"]) && zero(&law["tx_imbalance"]) && zero(&law["tx_queued"]);
            let open = count(&s, "http.connections_open") + count(&s, "http.requests_active");
            if exact && open == clients {
                return s;
            }
            assert!(Instant::now() < until, "not at rest: {open} open, {law}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Memory in RAM, KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a living node");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    pub fn term(&self) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a pid");
        kill_process(pid, Signal::TERM).expect("a living node");
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            if status.core_dumped() || status.signal().is_some() {
                eprintln!("the node ended by {status}:\n{}", self.log());
            }
            return;
        }
        if thread::panicking() {
            eprintln!("the node's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn count(stats: &Value, name: &str) -> u64 {
    stats["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
}

/// Runs `f` on a thread in the namespace; what it opens stays there.
pub fn enter<T: Send>(namespace: &str, f: impl FnOnce() -> T + Send) -> T {
    let door = File::open(Path::new("/run/netns").join(namespace)).expect("a namespace");
    let inside = || {
        use std::os::fd::AsFd;
        move_into_link_name_space(door.as_fd(), Some(LinkNameSpaceType::Network)).expect("let in");
        f()
    };
    thread::scope(|s| s.spawn(inside).join()).expect("no panic")
}

/// Checks of one lab: each is run, and what failed is told at the end.
pub struct Checks {
    failed: Vec<String>,
}

impl Checks {
    pub fn new() -> Checks {
        Checks { failed: Vec::new() }
    }

    pub fn check(&mut self, name: &str, f: impl FnOnce()) {
        // For work on one of them.
        if std::env::var("MILLRACE_E2E_ONLY").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        let began = Instant::now();
        let good = catch_unwind(AssertUnwindSafe(f)).is_ok();
        eprintln!(
            "{} {name}  {:.2} s",
            if good { "ok    " } else { "FAILED" },
            began.elapsed().as_secs_f64()
        );
        if !good {
            self.failed.push(name.to_owned());
        }
    }

    pub fn end(self) {
        assert!(self.failed.is_empty(), "failed: {}", self.failed.join("; "));
    }
}

/// How long loads run: MILLRACE_E2E_SECONDS, else 3.
pub fn load_seconds() -> u64 {
    std::env::var("MILLRACE_E2E_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3)
}

pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A node's config: the lab's port and listener, and these sites.
pub fn config(extra: &str) -> String {
    format!(
        "[node]\nname = \"e2e\"\nmemory = \"256MiB\"\ndrain = \"20s\"\n\
         [[port]]\nname = \"lan\"\nkind = \"tap\"\ndevice = \"mr0\"\n\
         addresses = [\"{EDGE_V4}/24\", \"{EDGE_V6}/64\"]\n\
         [[listener]]\naddress = [\"{EDGE_V4}\", \"{EDGE_V6}\"]\nhttp = 80\n{extra}"
    )
}

/// The sites of the lab's nginx.
pub const NGINX: &str = "[[site]]\nhosts = \"v6.lab\"\norigin = \"http://[fd80::3]:80\"\n\
                         [[site]]\nhosts = \"*\"\norigin = \"http://10.80.0.3:80\"\n";

/// Beside the node's own program.
fn link_program() -> PathBuf {
    Path::new(MILLRACE).with_file_name("millrace-link")
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// Why there can be no lab here.
fn missing(letter: char) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root, for network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("needs /dev/net/tun".to_owned());
    }
    for tool in ["ip", "nginx", "wrk", "curl", "openssl", "tcpdump", "ss", "ping", "timeout"] {
        let found = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(tool).exists());
        if !found {
            return Some(format!("needs {tool}; scripts/setup.sh installs it"));
        }
    }
    // In a container, root may not be enough.
    let probe = format!("ep{letter}{}", base36(std::process::id()));
    let added = run(Command::new("ip").args(["netns", "add", &probe]));
    run(Command::new("ip").args(["netns", "del", &probe]));
    (!added.status.success()).then(|| format!("cannot make a network namespace: {}", text(&added).trim()))
}

pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    if let Ok(path) = std::env::var("MILLRACE_TEST_SKIPS") {
        use std::io::Write;
        let noted = OpenOptions::new().create(true).append(true).open(path);
        noted.and_then(|mut f| writeln!(f, "{test} {reason}")).expect("the list of skipped tests");
    }
}

/// Reads to the end, whatever it is; gives what came and whether it ended in order.
pub fn read_all(mut from: impl Read) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let end = from.read_to_end(&mut all).map(|_| ());
    (all, end)
}

fn base36(mut n: u32) -> String {
    let mut s = Vec::new();
    while n > 0 {
        s.push(char::from_digit(n % 36, 36).expect("a digit"));
        n /= 36;
    }
    s.iter().rev().collect()
}
