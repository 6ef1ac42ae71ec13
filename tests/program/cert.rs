//! `millrace cert self-signed` as operators see it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cert-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Folder(folder)
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn self_signed(args: &[&str]) -> Output {
    let all = [&["cert", "self-signed"], args].concat();
    Command::new(env!("CARGO_BIN_EXE_millrace")).args(all).output().expect("the binary runs")
}

#[test]
fn what_is_written_is_what_a_site_takes() {
    for (kind, args) in [("ecdsa", &[][..]), ("rsa", &["--rsa"][..])] {
        let folder = Folder::new(kind);
        let names = ["Example.com", "*.example.com", "192.0.2.10", "2001:db8::10"];
        let output = self_signed(&[&names[..], args, &["--out", folder.text(), "--days", "7"]].concat());
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(output.status.code(), Some(0), "{stdout}");
        assert!(
            stdout.contains("cert.pem is for example.com, *.example.com, 192.0.2.10, 2001:db8::10, until "),
            "{stdout}"
        );
        assert_eq!(folder.names(), ["cert.pem", "key.pem"]);
        let mode =
            |name: &str| fs::metadata(folder.0.join(name)).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode("key.pem"), 0o600);
        let config = folder.0.join("t.toml");
        let source = "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttps = 8443\n\
                      [[site]]\nhosts = [\"example.com\", \"*.example.com\", \"192.0.2.10\", \"[2001:db8::10]\"]\n\
                      origin = \"http://127.0.0.1:3000\"\ncertificate = { chain = \"cert.pem\", key = \"key.pem\" }\n";
        fs::write(&config, source).expect("writable");
        let check =
            Command::new(env!("CARGO_BIN_EXE_millrace")).arg("check").arg(&config).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&check.stderr);
        assert_eq!((check.status.code(), &*stderr), (Some(0), ""), "{kind}");
    }
}

#[test]
fn nothing_is_replaced_unless_asked_for() {
    let folder = Folder::new("force");
    fs::create_dir_all(&folder.0).expect("a folder");
    fs::write(folder.0.join("key.pem"), "precious").expect("writable");
    let output = self_signed(&["a.example", "--out", folder.text()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("key.pem is there already; choose another --out, or --force"), "{stderr}");
    assert_eq!(folder.names(), ["key.pem"], "half of a pair is of no use");
    assert_eq!(fs::read_to_string(folder.0.join("key.pem")).expect("a file"), "precious");

    let output = self_signed(&["a.example", "--out", folder.text(), "--force", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(folder.names(), ["cert.pem", "key.pem"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["ok"], &answer["names"]), (&true.into(), &serde_json::json!(["a.example"])));
    assert_eq!(answer["fingerprint_sha256"].as_str().map(str::len), Some(95));
    assert_eq!(answer["not_after"].as_str().map(str::len), Some(10));
    assert!(answer["certificate"].as_str().is_some_and(|c| c.ends_with("/cert.pem")));
    assert!(
        fs::read_to_string(folder.0.join("key.pem")).expect("a file").starts_with("-----BEGIN PRIVATE KEY")
    );
}

#[test]
fn bad_names_are_a_wrong_command_line() {
    for args in [&[][..], &["*"], &["a b"], &["https://a.example"], &["a.example", "--days", "0"]] {
        assert_eq!(self_signed(args).status.code(), Some(2), "{args:?}");
    }
}
