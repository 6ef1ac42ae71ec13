//! The PROXY protocol on a host port: the real binary, kernel sockets, no privilege. What it does on a device is shown by
//! `tests/e2e/edge.rs`; here the connection comes over the bridge, whose client is the one that the kernel accepted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use l7::http1::SliceSink;
use l7::phases::proxy_protocol::{ProxyHeader, write_v2};

use crate::running::{Node, PATIENCE};

/// An origin whose bodies are the X-Forwarded-For of the requests. It ends with the process.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(socket));
        }
    });
    at
}

fn serve(socket: TcpStream) {
    let Ok(mut out) = socket.try_clone() else { return };
    let mut lines = BufReader::new(socket).lines();
    while let Some(Ok(_)) = lines.next() {
        let mut who = String::from("nobody");
        while let Some(Ok(line)) = lines.next()
            && !line.is_empty()
        {
            if let Some(value) = line.strip_prefix("X-Forwarded-For: ") {
                who = value.to_owned();
            }
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{who}", who.len());
        if out.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port")
}

fn config(at: SocketAddr, origin: SocketAddr, from: &str) -> String {
    format!(
        "[node]\nname = \"host\"\nmemory = \"96MiB\"\n[[port]]\nname = \"lo\"\nkind = \"host\"\n\
         [[listener]]\naddress = \"127.0.0.1\"\nhttp = {}\nproxy_protocol = true\nproxy_protocol_from = \"{from}\"\n\
         [[site]]\nhosts = \"*\"\norigin = \"http://{origin}\"\n",
        at.port()
    )
}

/// All that comes when this is sent, in these pieces, as the last thing.
fn say(to: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut socket = TcpStream::connect(to).expect("the node takes connections");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    for piece in pieces {
        socket.write_all(piece).expect("sent");
        thread::sleep(Duration::from_millis(20));
    }
    let mut got = Vec::new();
    // A reset is an end like any other here.
    let _ = socket.read_to_end(&mut got);
    String::from_utf8_lossy(&got).into_owned()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 80\r\n";

#[test]
fn a_balancer_on_this_host_announces_its_clients() {
    let at = free_port();
    let node = Node::start("from", &config(at, origin(), "127.0.0.0/8"));
    let is_for = |got: &str, who: &str, n: usize| {
        assert_eq!(got.matches("HTTP/1.1 200 OK").count(), n, "{got}");
        assert!(got.ends_with(&format!("\r\n\r\n{who}")), "not for {who}: {got}");
    };
    is_for(&say(at, &[V1, GET, LAST]), "203.0.113.7", 2);
    is_for(&say(at, &[&V1[..7], &V1[7..20], &V1[20..], LAST]), "203.0.113.7", 1);
    let mut room = [0; 64];
    for (header, who) in [
        (
            ProxyHeader::Proxied {
                source: "[2001:db8::7]:1".parse().expect("an address"),
                destination: "[2001:db8::8]:80".parse().expect("an address"),
            },
            "2001:db8::7",
        ),
        (ProxyHeader::Local, "127.0.0.1"),
    ] {
        let mut sink = SliceSink::new(&mut room);
        write_v2(&header, &mut sink).expect("room");
        is_for(&say(at, &[&[sink.written(), LAST].concat()]), who, 1);
    }
    // Without one, and with one that is none.
    assert_eq!(say(at, &[LAST]), "");
    assert_eq!(say(at, &[b"PROXY TCP4 203.0.113.7\r\n", LAST]), "");
    node.until("both counted", || node.counter("http.proxy_protocol_bad") == Some(2));
}

#[test]
fn a_client_of_no_trusted_network_announces_nobody() {
    let at = free_port();
    let node = Node::start("elsewhere", &config(at, origin(), "192.0.2.0/24"));
    let got = say(at, &[LAST]);
    assert!(got.ends_with("\r\n\r\n127.0.0.1"), "{got}");
    let got = say(at, &[V1, LAST]);
    assert!(got.starts_with("HTTP/1.1 400 "), "it is no request: {got}");
    assert_eq!(node.counter("http.proxy_protocol_bad"), Some(0));
}
