//! `millrace doctor` on this very host, as whoever runs the tests and, where that is root, as an ordinary user: what it
//! says can't be known beforehand, but its shape, its exit code and what it may never do can.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const KINDS: [&str; 3] = ["dpdk", "tap", "host"];

/// A copy of the program that every user can run; gone when this is dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(test: &str) -> Copy {
        let dir = std::env::temp_dir().join(format!("millrace-doctor-bin-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let copy = Copy(dir);
        fs::copy(env!("CARGO_BIN_EXE_millrace"), copy.program()).expect("copied");
        for path in [&copy.0, &copy.program()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        copy
    }

    fn program(&self) -> PathBuf {
        self.0.join("millrace")
    }

    /// Nobody, as far as the kernel is concerned; where the tests are not root's, whoever runs them.
    fn as_ordinary_user(&self, args: &[&str]) -> Output {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut c = Command::new("setpriv");
            c.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(self.program());
            c
        } else {
            Command::new(self.program())
        };
        command
            .args(args)
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.output().expect("it runs")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn doctor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace")).arg("doctor").args(args).output().expect("it runs")
}

#[track_caller]
fn object(output: &Output) -> Value {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The exit code says what the object says, and the object agrees with itself.
#[track_caller]
fn assert_sound(output: &Output) -> Value {
    let v = object(output);
    let ok = v["ok"].as_bool().expect("a word");
    assert_eq!(output.status.code(), Some(i32::from(!ok)), "{v:#}");
    let findings = v["findings"].as_array().expect("a list");
    assert_eq!(ok, findings.iter().all(|f| f["level"] != "must"));
    for f in findings {
        assert!(["ok", "note", "warn", "must"].contains(&f["level"].as_str().expect("a word")), "{f}");
        let sentence = f["found"].as_str().expect("a sentence");
        assert!(!sentence.is_empty() && !sentence.contains('\n'), "{f}");
        let blocks = !f["blocks"].as_array().expect("a list").is_empty();
        assert!(!blocks || f["mend"].is_string(), "what is in the way can be mended: {f}");
    }
    for verdict in v["ports"].as_array().expect("a list") {
        let because = verdict["because"].as_array().expect("a list");
        assert_eq!(verdict["can_run"].as_bool(), Some(because.is_empty()));
    }
    v
}

#[test]
fn every_kind_is_answered_soundly_to_anybody() {
    let copy = Copy::new("anybody");
    for kind in KINDS {
        for output in [
            doctor(&["--port", kind, "--json"]),
            copy.as_ordinary_user(&["doctor", "--port", kind, "--json"]),
        ] {
            let v = assert_sound(&output);
            assert_eq!(v["port"], kind);
            assert_eq!(v["ports"].as_array().map(Vec::len), Some(1));
        }
    }
    for output in [doctor(&["--json"]), copy.as_ordinary_user(&["doctor", "--json"])] {
        let v = assert_sound(&output);
        assert!(v["port"].is_null());
        let kinds: Vec<&str> =
            v["ports"].as_array().expect("a list").iter().filter_map(|p| p["kind"].as_str()).collect();
        assert_eq!(kinds, KINDS);
    }
}

#[test]
fn the_table_has_a_line_for_each_finding_and_a_verdict_for_each_kind() {
    let v = object(&doctor(&["--json"]));
    let output = doctor(&[]);
    assert_eq!(output.status.code(), doctor(&["--json"]).status.code());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for f in v["findings"].as_array().expect("a list") {
        let (level, check) = (f["level"].as_str().expect("a word"), f["check"].as_str().expect("a word"));
        let there = text.lines().any(|l| l.starts_with(level) && l.contains(&format!("  {check} ")));
        assert!(there, "{level} {check}:\n{text}");
    }
    for kind in KINDS {
        assert!(text.lines().any(|l| l.starts_with(&format!("{kind:<4}  "))), "{kind}:\n{text}");
    }
    assert!(text.lines().last().is_some_and(|l| l.contains(" must be mended, ")), "{text}");
}

#[test]
fn what_it_says_of_this_host_is_so() {
    let v = object(&doctor(&["--json"]));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let of = |check: &str| {
        let all = v["findings"].as_array().expect("a list");
        all.iter().find(|f| f["check"] == check).unwrap_or_else(|| panic!("no {check}")).clone()
    };
    // At most so many, as this process may be kept to some.
    let found = of("cpu.cores")["found"].as_str().expect("a sentence").to_owned();
    let n: usize = found.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(n >= cpus, "{found}");
    assert_eq!(of("cpu.level")["level"], "ok", "or it would not run");
    let tun = Path::new("/dev/net/tun").exists();
    if rustix::process::geteuid().is_root() && tun {
        assert_eq!(of("tap.device")["level"], "ok");
    }
    for nic in v["nics"].as_array().expect("a list") {
        let address = nic["address"].as_str().expect("an address");
        assert!(Path::new("/sys/bus/pci/devices").join(address).exists());
    }
    if cfg!(feature = "dpdk") {
        let library = of("dpdk.library");
        assert!(library["found"].as_str().is_some_and(|s| s.starts_with("DPDK 22.11")), "{library}");
    } else {
        assert!(of("dpdk.library")["blocks"].as_array().is_some_and(|b| b.len() == 1));
    }
}

#[test]
fn without_privileges_there_is_no_tap_unless_one_is_owned() {
    if !rustix::process::geteuid().is_root() {
        return; // Whoever runs the tests may own one.
    }
    let copy = Copy::new("tap");
    let output = copy.as_ordinary_user(&["doctor", "--port", "tap"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("\ntap   cannot run yet: tap.device\n"), "{text}");
}

#[test]
fn a_wrong_kind_is_told_which_there_are() {
    for (kind, said) in
        [("af_xdp", "not yet in this version; choose from dpdk, tap, host"), ("nic", "choose from dpdk")]
    {
        let output = doctor(&["--port", kind]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said), "{stderr}");
    }
}
