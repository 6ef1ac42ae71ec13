//! `millrace check` as operators see it: the real binary over files under tests/configs.
//!
//! Each file under bad/ states what is to be reported in its first lines, `# expect: LINE: cause; mend` for each
//! error in order; the text given is the beginning of the line after the file's name. with_dpdk/ and without_dpdk/
//! hold those whose answer depends on cargo's feature `dpdk`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn every_bad_config_is_reported_as_it_says() {
    let mut files = configs("bad");
    assert!(files.len() >= 20, "only {} bad configs", files.len());
    files.extend(configs(if cfg!(feature = "dpdk") { "with_dpdk/bad" } else { "without_dpdk/bad" }));
    for file in files {
        let source = fs::read_to_string(&file).expect("a readable file");
        let expected: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
        assert!(!expected.is_empty(), "{} expects nothing", file.display());
        let output = check(&[file.as_os_str().to_str().expect("UTF-8")]);
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{}: {stderr}", file.display());
        assert!(output.stdout.is_empty(), "{}", file.display());
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{}: reported\n{stderr}", file.display());
        for (line, expected) in lines.iter().zip(expected) {
            let start = format!("{}:{expected}", file.display());
            assert!(line.starts_with(&start), "reported {line}\nexpected {start}");
            assert_shape(line, &file);
        }
    }
}

#[test]
fn every_good_config_is_good() {
    let mut files = configs("good");
    assert!(files.len() >= 3, "only {} good configs", files.len());
    if cfg!(feature = "dpdk") {
        files.extend(configs("with_dpdk/good"));
    }
    for file in files {
        let output = check(&[file.to_str().expect("UTF-8")]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {stderr}", file.display());
        assert!(stderr.is_empty(), "{}: {stderr}", file.display());
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        assert!(stdout.starts_with(&format!("{}: good; node \"", file.display())), "{stdout}");
    }
}

#[test]
fn the_one_line_says_what_the_node_would_do() {
    let output = check(&["tests/configs/good/full.toml"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "tests/configs/good/full.toml: good; node \"edge-1\" would run 2 ports, 2 listeners and 2 sites on 1 core, \
         with 64MiB of memory\n"
    );
}

#[test]
fn json_has_stable_fields() {
    let output = check(&["tests/configs/bad/core_twice.toml", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({
        "file": "tests/configs/bad/core_twice.toml",
        "ok": false,
        "errors": [{
            "line": 3, "column": 13, "key": "node.cores[1]",
            "cause": "core 0 is listed twice", "mend": "list each core once"
        }],
        "warnings": []
    });
    assert_eq!(answer, expected);

    let output = check(&["--json", "tests/configs/good/small.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = serde_json::json!({ "file": "tests/configs/good/small.toml", "ok": true, "errors": [], "warnings": [] });
    assert_eq!(answer, expected);
}

#[test]
fn files_that_cannot_be_read_are_errors_of_line_1() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let latin = dir.join("latin1.toml");
    fs::write(&latin, b"[node]\nname = \"edge\"\n# Z\xfcrich\n").expect("writable");
    let large = dir.join("large.toml");
    fs::write(&large, "#".repeat(5 << 20)).expect("writable");
    let cases = [
        (Path::new("no/such.toml"), ":1: there is no such file; check the path"),
        (Path::new("tests"), ":1: this is a directory; name the file in it"),
        (&latin, ":3: the file is not UTF-8 from here on; save it as UTF-8"),
        (&large, ":1: the file is larger than 4MiB; check the path"),
    ];
    for (file, expected) in cases {
        let output = check(&[file.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{}{expected}\n", file.display()));
    }
}

/// A config with this site and these other tables, on a host port; and its folder, which goes with it.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, rest: &str) -> Written {
        let dir = std::env::temp_dir().join(format!("mr-check-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a folder");
        let source = format!(
            "[[port]]\nname = \"h\"\nkind = \"host\"\n\
             [[listener]]\naddress = \"127.0.0.1\"\nhttp = 8080\n[[site]]\nhosts = \"a.example\"\n{rest}"
        );
        fs::write(dir.join("t.toml"), source).expect("writable");
        Written(dir)
    }

    fn check(&self, with: impl FnOnce(&mut Command)) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.arg("check").arg(self.0.join("t.toml"));
        with(&mut command);
        command.output().expect("the binary runs")
    }

    /// Lines of what is wrong, without the file's path.
    fn errors(&self, with: impl FnOnce(&mut Command)) -> Vec<String> {
        let output = self.check(with);
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let file = self.0.join("t.toml");
        let line = |line: &str| {
            assert_shape(line, &file);
            line.replace(&format!("{}:", file.display()), "")
        };
        stderr.lines().map(line).collect()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The user may not read a key, a certificate, the ticket keys; nor write where ACME stores.
#[test]
fn what_the_user_may_not_do_has_its_own_mend() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let written = Written::new(
        "rights",
        "origin = \"http://127.0.0.1:9\"\ncertificate = { chain = \"site.pem\", key = \"locked/site.key\" }\n\
         [tls]\ntickets = { key_file = \"ticket.key\" }\n\
         [acme]\naccept_terms = true\nstorage = \"locked/acme\"\n",
    );
    let set = |name: &str, mode| {
        let to = fs::Permissions::from_mode(mode);
        fs::set_permissions(written.0.join(name), to).expect("ours");
    };
    for name in ["site.pem", "ticket.key"] {
        fs::write(written.0.join(name), "x").expect("writable");
        set(name, 0o000);
    }
    fs::create_dir(written.0.join("locked")).expect("writable");
    fs::write(written.0.join("locked/site.key"), "x").expect("writable");
    // A path that may not be walked; then one that may, to where nothing may be written.
    for (mode, key, storage) in [
        (0o000, "may not be read; run", "can't be made (Permission denied (os error 13)); name"),
        (0o555, "is not PEM", "can't be made (Permission denied (os error 13)); name"),
    ] {
        set("locked", mode);
        // Nobody, where the tests are root's: root may do anything.
        let errors = written.errors(|c| {
            if rustix::process::geteuid().is_root() {
                c.uid(65534);
            }
        });
        let expected = [
            "10: \"site.pem\" may not be read; run as its owner, or change its mode".to_owned(),
            format!("10: \"locked/site.key\" {key}"),
            "12: \"ticket.key\" may not be read; run as its owner, or change its mode".to_owned(),
            format!("15: the storage \"locked/acme\" {storage}"),
        ];
        set("locked", 0o755);
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.starts_with(&expected), "{error} for {expected}");
        }
    }
}

/// As `run` would: an origin by https, and nobody whom the system trusts.
#[test]
fn a_system_without_roots_is_an_error() {
    let origin = "origin = \"https://127.0.0.1:9\"\n";
    let without = |c: &mut Command| {
        c.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
    };
    let errors = Written::new("roots", origin).errors(without);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    let start = "9: the system has no trusted root certificates";
    let end = "; install ca-certificates, or name a file: origin_tls = { ca = \"ca.pem\" }";
    assert!(error.starts_with(start) && error.ends_with(end), "{error}");
    // Nobody needs them here.
    for good in [
        "origin = \"http://127.0.0.1:9\"\n".to_owned(),
        format!("{origin}origin_tls = {{ verify = false }}\n"),
        format!("{origin}origin_tls = {{ ca = \"ca.pem\" }}\n"),
    ] {
        let written = Written::new("roots", &good);
        fs::copy("tests/configs/pki/site.pem", written.0.join("ca.pem")).expect("a copy");
        let output = written.check(without);
        assert_eq!(output.status.code(), Some(0), "{good}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // ACME's server is asked later, and again: the node runs.
    let acme = "certificate = \"acme\"\norigin = \"http://127.0.0.1:9\"\n\
                [acme]\naccept_terms = true\nstorage = \"acme\"\n";
    let written = Written::new("roots", acme);
    let output = written.check(without);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(0), 1), "{stderr}");
    assert!(stderr.contains(":11: warning: the system has no trusted root certificates"), "{stderr}");
    assert!(!written.0.join("acme").exists(), "a check changes nothing");
}

#[test]
fn a_wrong_command_line_exits_2() {
    let later = ["filter", "capture", "host"];
    let help = String::from_utf8(millrace(&["--help"]).stdout).expect("UTF-8");
    for verb in later {
        assert_eq!(millrace(&[verb]).status.code(), Some(2), "{verb} is not in this version");
        assert!(!help.contains(&format!("\n  {verb} ")), "{verb} is in --help");
    }
    for args in [
        &[][..],
        &["check"],
        &["check", "a", "b"],
        &["run"],
        &["run", "--cfg", "x"],
        &["demo", "--listen", "80"],
    ] {
        let output = millrace(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn version_says_what_this_is() {
    let output = millrace(&["version"]);
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with(concat!("millrace ", env!("CARGO_PKG_VERSION")))
    );
    let answer: serde_json::Value =
        serde_json::from_slice(&millrace(&["version", "--json"]).stdout).expect("JSON");
    assert_eq!(answer["name"], "millrace");
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
}

/// `FILE:LINE: cause; mend`
fn assert_shape(line: &str, file: &Path) {
    let rest = line.strip_prefix(&format!("{}:", file.display())).expect("begins with the file");
    let (number, rest) = rest.split_once(": ").expect("a line number");
    assert!(number.parse::<usize>().is_ok_and(|n| n > 0), "{line}");
    let (cause, mend) = rest.split_once("; ").expect("a mend");
    assert!(!cause.is_empty() && !mend.is_empty(), "{line}");
}

fn configs(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new("tests/configs").join(folder)).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn check(args: &[&str]) -> Output {
    millrace(&[&["check"], args].concat())
}

fn millrace(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace")).args(args).output().expect("the binary runs")
}
