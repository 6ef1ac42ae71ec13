//! A running node and TLS clients that are nobody's of ours: curl, openssl, rustls. What needs a config of its own: what
//! any server shows is in scripts/checks/tls-clients.sh.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, SupportedProtocolVersion, version};

use crate::clients::{self, Client, Pair, echo, free_port};
use crate::running::Node;

/// A node for `a.example`, with these tables after the site's; and where it listens.
fn node(name: &str, pair: &Pair, more: &str) -> (Node, u16) {
    let (origin, https) = (echo(), free_port());
    let config = format!(
        "[node]\nname = \"{name}\"\nmemory = \"64MiB\"\n[[port]]\nname = \"lo\"\nkind = \"host\"\n\
         [[listener]]\naddress = \"127.0.0.1\"\nhttps = {https}\n\
         [[site]]\nhosts = \"a.example\"\norigin = \"http://{origin}\"\n\
         certificate = {{ chain = \"site.pem\", key = \"site.pem\" }}\n{more}\n"
    );
    let node = Node::start_with(name, &config, |dir| {
        fs::write(dir.join("site.pem"), pair.pem()).expect("written");
        fs::write(dir.join("ticket.key"), [0x5a; 80]).expect("written");
        fs::write(dir.join("other.key"), [0xa5; 80]).expect("written");
    });
    (node, https)
}

/// What a program says, with a request as its input.
fn said(program: &str, args: &[&str]) -> (bool, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may have ended.
    let _ = stdin.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// A client that resumes sessions, of this version.
fn resuming(pair: &Pair, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.certificate.clone()).expect("a certificate");
    let mut config = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// Two nodes with one file resume each other's sessions; one with another file, or none, shakes hands in full.
#[test]
fn nodes_with_one_key_file_resume_each_others_sessions() {
    let pair = Pair::new(&["a.example"], "a.example");
    let file = |name: &str| format!("[tls]\ntickets = {{ key_file = \"{name}\" }}");
    let nodes = [
        node("tickets-1", &pair, &file("ticket.key")),
        node("tickets-2", &pair, &file("ticket.key")),
        node("tickets-3", &pair, &file("other.key")),
        node("tickets-4", &pair, ""),
    ];
    for version in [&version::TLS13, &version::TLS12] {
        for (to, resumed) in [(0, true), (1, true), (2, false), (3, false)] {
            let client = resuming(&pair, version);
            let visit = |node: usize| {
                let mut c = Client::connect(nodes[node].1, &client, "a.example").expect("a good certificate");
                assert_eq!(c.get("a.example", "").expect("an answer").0, 200);
                c.is_resumed()
            };
            assert!(!visit(0));
            assert_eq!(visit(to), resumed, "{version:?} at node {}", to + 1);
        }
        // openssl's own, by a file.
        let v = if version.version == rustls::ProtocolVersion::TLSv1_3 { "-tls1_3" } else { "-tls1_2" };
        let session = nodes[0].0.dir.join("session").display().to_string();
        for (to, option, start) in
            [(0, "-sess_out", "New, "), (1, "-sess_in", "Reused, "), (2, "-sess_in", "New, ")]
        {
            let at = format!("127.0.0.1:{}", nodes[to].1);
            let args =
                ["s_client", "-connect", &at, "-servername", "a.example", v, "-ign_eof", option, &session];
            let (_, text) = said("openssl", &args);
            assert!(text.lines().any(|l| l.starts_with(start)), "{v} at node {}: {text}", to + 1);
        }
    }
    assert_eq!(nodes[1].0.counter("tls.handshakes_resumed"), Some(4));
    assert_eq!(nodes[2].0.counter("tls.handshakes_resumed"), Some(0));
}

/// Nobody is shown a certificate that is for somebody else: openssl hears the alert.
#[test]
fn a_name_that_nobody_has_is_an_alert() {
    let pair = Pair::new(&["a.example"], "a.example");
    let (node, https) = node("names", &pair, "");
    let at = format!("127.0.0.1:{https}");
    for v in ["-tls1_2", "-tls1_3"] {
        for name in [&["-servername", "nobody.example"][..], &["-noservername"]] {
            let (good, text) = said("openssl", &[&["s_client", "-connect", &at, v][..], name].concat());
            assert!(!good && text.contains("unrecognized name"), "{v} {name:?}: {text}");
            assert!(!text.contains("BEGIN CERTIFICATE"), "{v} {name:?}: {text}");
        }
        let (good, text) =
            said("openssl", &["s_client", "-connect", &at, v, "-servername", "A.Example", "-ign_eof"]);
        assert!(good && text.contains("200 OK"), "{v}: {text}");
    }
    assert_eq!(node.counter("tls.handshakes_full"), Some(2));
}

/// Certificates of clients, by curl and by openssl: who has none or a stranger's stays outside.
#[test]
fn clients_show_certificates() {
    let (pair, somebody) = (Pair::new(&["a.example"], "a.example"), Pair::new(&["somebody"], "somebody"));
    let stranger = Pair::new(&["somebody"], "somebody");
    let folder = std::env::temp_dir().join(format!("mr-stock-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let written = |name: &str, text: &str| -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let more = format!(
        "client_auth = {{ ca = \"{}\" }}\nrequest_headers = {{ set = {{ X-Client = \"{{client_subject}}\" }} }}",
        written("staff.pem", &somebody.chain).display()
    );
    let (node, https) = node("staff", &pair, &more);
    let text = |path: &Path| path.display().to_string();
    let ca = text(&written("ca.pem", &pair.chain));
    let (to, at) = (format!("a.example:{https}:127.0.0.1"), format!("127.0.0.1:{https}"));
    let url = format!("https://a.example:{https}/");
    for (name, own) in [("somebody", Some(&somebody)), ("stranger", Some(&stranger)), ("nobody", None)] {
        let own = own.map(|own| text(&written(&format!("{name}.pem"), &own.pem())));
        for v in ["1.2", "1.3"] {
            let mut curl = vec!["-sS", "--max-time", "20", "--cacert", &ca, "--resolve", &to, "--tls-max", v];
            let v_openssl = format!("-tls{}", v.replace('.', "_"));
            let mut openssl =
                vec!["s_client", "-connect", &at, "-servername", "a.example", "-CAfile", &ca, "-ign_eof"];
            openssl.extend(["-verify_return_error", &v_openssl]);
            if let Some(own) = &own {
                curl.extend(["--cert", own]);
                openssl.extend(["-cert", own, "-key", own]);
            }
            curl.push(&url);
            for (program, args) in [("curl", &curl), ("openssl", &openssl)] {
                let (_, text) = said(program, args);
                let let_in = text.contains("X-Client: CN=somebody");
                assert_eq!(let_in, name == "somebody", "{program}, TLS {v}, {name}: {text}");
                assert!(let_in || text.contains("alert"), "{program}, TLS {v}, {name}: {text}");
            }
        }
    }
    // By rustls too, as it is there.
    let ours = clients::config(&[&pair.certificate], Some(&somebody));
    assert_eq!(
        Client::connect(https, &ours, "a.example").and_then(|mut c| c.get("a.example", "")).expect("in").0,
        200
    );
    node.until("they are counted", || node.counter("tls.failed_certificate") == Some(8));
    fs::remove_dir_all(&folder).expect("ours");
}
