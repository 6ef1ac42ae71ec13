//! Origins by https of a running node.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use crate::clients::{Pair, free_port, secure_echo};
use crate::running::{Node, PATIENCE};

/// Whom the system trusts may change while the node runs: a reload sees it.
#[test]
fn the_roots_of_the_system_are_read_anew_by_a_reload() {
    let (http, good, other) =
        (free_port(), Pair::new(&["127.0.0.1"], "good"), Pair::new(&["b.example"], "other"));
    let roots = std::env::temp_dir().join(format!("mr-roots-{}.pem", std::process::id()));
    fs::write(&roots, &other.chain).expect("written");
    let config = format!(
        "[node]\nname = \"roots\"\nmemory = \"64MiB\"\n[[port]]\nname = \"lo\"\nkind = \"host\"\n\
         [[listener]]\naddress = \"127.0.0.1\"\nhttp = {http}\n\
         [[site]]\nhosts = \"*\"\norigin = \"https://{}\"\n",
        secure_echo(&good)
    );
    let node = Node::start_in(
        "roots",
        &config,
        &[("SSL_CERT_FILE", &roots), ("SSL_CERT_DIR", Path::new(""))],
        |_| (),
    );
    let status = || {
        let mut s = TcpStream::connect(("127.0.0.1", http)).expect("taken");
        s.set_read_timeout(Some(PATIENCE)).expect("set");
        s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut all = String::new();
        s.read_to_string(&mut all).expect("an answer");
        all.split(' ').nth(1).map(str::to_owned)
    };
    let reload = |said: &str| {
        let (code, text) = node.says(&["reload"]);
        assert!(text.contains(said), "{code} {text}");
    };
    assert_eq!(status().as_deref(), Some("502"));
    reload("nothing has changed");

    fs::write(&roots, format!("{}{}", other.chain, good.chain)).expect("written");
    reload("the new config is in force");
    assert_eq!(status().as_deref(), Some("200"));

    // One that is trusted no more: kept connections and tickets are of no use to it either.
    fs::write(&roots, &other.chain).expect("written");
    reload("the new config is in force");
    assert_eq!(status().as_deref(), Some("502"));

    // As `run` would: a node without any does not start.
    fs::write(&roots, "").expect("written");
    reload("the system has no trusted root certificates");
    fs::remove_file(&roots).expect("ours");
}
