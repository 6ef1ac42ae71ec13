//! The namespace lab with a link on either side, as `scripts/lab/lab` brings it up and takes it away; without an edge,
//! which the end-to-end tests of the node have.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{noted_missing, sh};

struct Lab {
    prefix: String,
}

impl Lab {
    fn run(&self, args: &[&str]) -> (bool, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab/lab");
        let out: Output = Command::new("timeout")
            .args(["-k", "5", "120", script, "--prefix", &self.prefix])
            .args(args)
            .env("MILLRACE_LINK", env!("CARGO_BIN_EXE_millrace-link"))
            .stdin(Stdio::null())
            .output()
            .expect("timeout");
        let said = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn must(&self, args: &[&str]) -> String {
        let (good, said) = self.run(args);
        assert!(good, "{args:?}: {said}");
        said
    }

    fn left_behind(&self) -> Vec<String> {
        let mut left = Vec::new();
        for part in ["client", "net", "origin", "link"] {
            left.push(format!("/run/netns/{}-{part}", self.prefix));
        }
        left.push(format!("/var/lib/millrace-lab/{}", self.prefix));
        left.retain(|path| Path::new(path).exists());
        left
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let (gone, said) = self.run(&["down"]);
        if !gone {
            eprintln!("the lab \"{}\" is still there: {said}", self.prefix);
        }
    }
}

#[test]
fn the_lab_comes_up_with_links_and_leaves_nothing() {
    let test = "the_lab_comes_up_with_links_and_leaves_nothing";
    if noted_missing(test, &["ip", "ethtool", "ping", "timeout", "nginx", "curl", "openssl"], true) {
        return;
    }
    let lab = Lab { prefix: format!("k{:x}", std::process::id()) };
    let (good, said) = lab.run(&["up", "--no-edge", "--shim-client", "delay 5"]);
    assert!(!good && said.contains("us, ms or s"), "{said}");
    assert_eq!(lab.left_behind(), Vec::<String>::new(), "after an up that failed");

    let up = [
        "up",
        "--no-edge",
        "--shim-client",
        "delay 3ms up rate 50mbit",
        "--shim-origin",
        "delay 2ms",
        "--mtu",
        "1400",
    ];
    let said = lab.must(&up);
    assert!(said.contains("without an edge") && said.contains("delay 3ms up rate 50mbit"), "{said}");
    lab.must(&up);
    let said = lab.must(&["status"]);
    assert!(said.contains("the client's link: pid") && said.contains("the origin's link: pid"), "{said}");
    let (good, said) = lab.run(&["up", "--no-edge"]);
    assert!(!good && said.contains("other settings"), "{said}");

    // Over both links, there and back: 10 ms at least.
    let client = format!("ip netns exec {}-client", lab.prefix);
    let out = sh(&format!("{client} ping -c 3 -i 0.02 -W 10 10.80.0.3"));
    let said = String::from_utf8_lossy(&out.stdout);
    let rtts: Vec<f64> =
        said.lines().filter_map(|l| l.split_once("time=")?.1.split(' ').next()?.parse().ok()).collect();
    assert!(rtts.len() == 3 && rtts.iter().all(|ms| *ms >= 10.0), "{said}");
    let sum = format!("{client} curl -sS --max-time 30 http://10.80.0.3/1m | sha256sum | cut -c 1-64");
    let file = format!("sha256sum </var/lib/millrace-lab/{}/www/1m | cut -c 1-64", lab.prefix);
    assert_eq!(sh(&sum).stdout, sh(&file).stdout);

    let said = lab.must(&["down"]);
    for words in ["up: rate 50mbit limit 100ms delay 3ms", "up: delay 2ms", "void:", "is gone"] {
        assert!(said.contains(words), "{said}");
    }
    for trouble in ["unfinished", "oversize", "overrun"] {
        assert!(!said.contains(trouble), "{said}");
    }
    assert_eq!(lab.left_behind(), Vec::<String>::new());
    let (good, said) = lab.run(&["status"]);
    assert!(!good && said.contains("not up"), "{said}");
}
