//! https: the demo's, certificates that a reload takes into use or refuses, and who a client is for the origin.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::clients::{Client, Pair, config, echo, free_port};
use crate::running::Node;

/// The demo, until it is dropped.
struct Demo {
    child: Child,
    run: std::path::PathBuf,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.run);
    }
}

#[test]
fn the_demo_by_https() {
    let run = std::env::temp_dir().join(format!("mr-demo-{}", std::process::id()));
    let child = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["demo", "--listen", "127.0.0.1:0", "--https"])
        .env("MILLRACE_RUN", &run)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("millrace");
    let mut demo = Demo { child, run };
    let mut lines = BufReader::new(demo.child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let first = lines.next().expect("where it serves");
    let port = first.split_once("https://127.0.0.1:").and_then(|(_, rest)| rest.split_once('/'));
    let port: u16 = port.and_then(|(port, _)| port.parse().ok()).unwrap_or_else(|| panic!("{first}"));
    let second = lines.next().expect("its certificate");
    let (_, fingerprint) = second.split_once("SHA-256 ").unwrap_or_else(|| panic!("{second}"));

    // Nobody trusts it without having been told to.
    let stranger = config(&[&Pair::new(&["localhost"], "localhost").certificate], None);
    assert!(Client::connect(port, &stranger, "localhost").is_err());
    let shown = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("openssl");
    let text = String::from_utf8_lossy(&shown.stdout);
    let from = text.find("-----BEGIN CERTIFICATE").expect("a certificate is shown");
    let certificate = CertificateDer::from_pem_slice(&text.as_bytes()[from..]).expect("PEM");
    assert_eq!(millrace::cert::fingerprint(&certificate), fingerprint);

    let trusting = config(&[&certificate], None);
    for name in ["localhost", "127.0.0.1"] {
        let mut client = Client::connect(port, &trusting, name).expect("it is for this name");
        for _ in 0..2 {
            let (status, body) = client.get("localhost", "").expect("an answer");
            assert!(status == 200 && body.contains("<html"), "{status} {body}");
        }
    }
}

fn site(https: u16, origin: std::net::SocketAddr, more: &str) -> String {
    format!(
        "[node]\nname = \"https\"\nmemory = \"64MiB\"\n[[port]]\nname = \"lo\"\nkind = \"host\"\n\
         [[listener]]\naddress = \"127.0.0.1\"\nhttps = {https}\n\
         [[site]]\nhosts = \"a.example\"\norigin = \"http://{origin}\"\n\
         certificate = {{ chain = \"site.pem\", key = \"site.pem\" }}\n{more}\n"
    )
}

/// A node whose site shows `pair`.
fn node(name: &str, https: u16, pair: &Pair, more: &str) -> Node {
    Node::start_with(name, &site(https, echo(), more), |dir| {
        fs::write(dir.join("site.pem"), pair.pem()).expect("written");
    })
}

#[test]
fn a_broken_certificate_is_refused_and_a_new_one_taken() {
    let (https, old, new) = (free_port(), Pair::new(&["a.example"], "old"), Pair::new(&["a.example"], "new"));
    let node = node("certificates", https, &old, "");
    let trusting = config(&[&old.certificate, &new.certificate], None);
    let connect = || Client::connect(https, &trusting, "a.example").expect("a good certificate");
    let answers = |client: &mut Client| client.get("a.example", "").expect("an answer").0 == 200;
    let mut first = connect();
    assert!(answers(&mut first) && *first.shown() == old.certificate);

    // A file that is none, one with another's key, one that is cut off: each is an error that says what to do, and what
    // was in force stays.
    let of_another = new.chain.clone() + &old.key();
    for (bad, cause) in [
        ("nonsense", "site.pem"),
        (of_another.as_str(), "is not the certificate's"),
        (&new.chain[..200], "site.pem"),
    ] {
        fs::write(node.dir.join("site.pem"), bad).expect("written");
        let (code, said) = node.says(&["reload"]);
        assert_eq!(code, 1, "{said}");
        let file = node.file();
        assert!(said.starts_with(&format!("{}:", file.display())), "{said}");
        assert!(said.contains(cause) && said.contains("site.pem") && said.contains("; "), "{said}");
        assert!(*connect().shown() == old.certificate, "the old one stays: {said}");
        assert!(answers(&mut first));
    }

    fs::write(node.dir.join("site.pem"), new.pem()).expect("written");
    let (code, said) = node.says(&["reload"]);
    assert_eq!(code, 0, "{said}");
    let mut second = connect();
    assert!(*second.shown() == new.certificate, "the next handshake has the new one");
    assert!(answers(&mut second));
    assert!(answers(&mut first) && *first.shown() == old.certificate, "and who was there notices nothing");
    assert_eq!(node.counter("tls.handshakes_full").map(|n| n >= 5), Some(true));
}

/// The origin is told who the client is by its certificate, whatever the client says.
#[test]
fn the_origin_is_told_who_the_client_is() {
    let (https, pair) = (free_port(), Pair::new(&["a.example"], "a.example"));
    let somebody = Pair::new(&["somebody"], "Some, body");
    let more = "client_auth = { ca = \"staff.pem\", mode = \"optional\" }\n\
                request_headers = { set = { X-Client = \"{client_subject}\", X-Key = \"{client_fingerprint}\" } }";
    let node = Node::start_with("identity", &site(https, echo(), more), |dir| {
        fs::write(dir.join("site.pem"), pair.pem()).expect("written");
        fs::write(dir.join("staff.pem"), &somebody.chain).expect("written");
    });
    let told = |own: Option<&Pair>| {
        let mut client =
            Client::connect(https, &config(&[&pair.certificate], own), "a.example").expect("let in");
        // The second request of a connection as the first; what the client claims is gone.
        let mut last = Vec::new();
        for claim in ["", "X-Client: CN=root\r\nx-key: 0\r\n"] {
            let (status, head) = client.get("a.example", claim).expect("an answer");
            assert_eq!(status, 200);
            last = head
                .lines()
                .filter(|l| l.to_lowercase().starts_with("x-client:") || l.starts_with("X-Key:"))
                .map(str::to_owned)
                .collect();
            assert!(!head.to_lowercase().contains("cn=root"), "{head}");
        }
        last
    };
    let key = millrace::cert::fingerprint(&somebody.certificate).replace(':', "").to_lowercase();
    assert_eq!(told(Some(&somebody)), ["X-Client: CN=Some\\, body".to_owned(), format!("X-Key: {key}")]);
    assert_eq!(told(None), [""; 0]);
    let stranger = Pair::new(&["stranger"], "Some, body");
    let shaken = Client::connect(https, &config(&[&pair.certificate], Some(&stranger)), "a.example");
    assert!(
        shaken.and_then(|mut c| c.get("a.example", "")).is_err(),
        "one with a bad certificate is never let in"
    );
    node.until("it is counted", || node.counter("tls.failed_certificate") == Some(1));
}
