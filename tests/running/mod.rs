//! A node as a process: the real binary on a host port, in a folder of its own. Ended, and its folder removed, with the
//! test.

#![allow(dead_code)] // Each of the targets that include this uses its part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What takes longer has hung.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Node {
    pub child: Child,
    pub dir: PathBuf,
}

impl Node {
    /// A node with this config, once it serves.
    pub fn start(name: &str, config: &str) -> Node {
        Node::start_with(name, config, |_| ())
    }

    /// The same, once its folder has what the config names.
    pub fn start_with(name: &str, config: &str, fill: impl FnOnce(&Path)) -> Node {
        Node::start_in(name, config, &[], fill)
    }

    /// The same, with these variables.
    pub fn start_in(name: &str, config: &str, env: &[(&str, &Path)], fill: impl FnOnce(&Path)) -> Node {
        let dir = std::env::temp_dir().join(format!("mr-run-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a folder");
        fs::write(dir.join("edge.toml"), config).expect("written");
        fill(&dir);
        let log = fs::File::create(dir.join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_millrace"))
            // A relative path, which the node must find again.
            .args(["run", "--config", "edge.toml"])
            .current_dir(&dir)
            .env("MILLRACE_RUN", dir.join("run"))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("millrace");
        let node = Node { child, dir };
        node.until("it runs", || node.log().contains(" serves http"));
        node
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < until, "not in time: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Another verb, about this node.
    pub fn millrace(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(args)
            .env("MILLRACE_RUN", self.dir.join("run"))
            .stdin(Stdio::null())
            .output()
            .expect("millrace")
    }

    pub fn write(&self, config: &str) {
        fs::write(self.file(), config).expect("written");
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("edge.toml")
    }

    /// Exit code, and what was said.
    pub fn says(&self, args: &[&str]) -> (i32, String) {
        let out = self.millrace(args);
        let text = [out.stdout, out.stderr].concat();
        (out.status.code().expect("an exit code"), String::from_utf8(text).expect("UTF-8"))
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.millrace(args).stdout).expect("JSON")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("a living node");
    }

    /// Waits until it has ended of itself, in order.
    pub fn end(&mut self) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(s) = self.child.try_wait().expect("our child") {
                break s;
            }
            assert!(Instant::now() < until, "it runs still\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// A counter as `millrace stats` tells it; `None` when it does not answer.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let stats: Value = serde_json::from_slice(&self.millrace(&["stats", "--json"]).stdout).ok()?;
        stats["counters"][name].as_u64()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the node's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
