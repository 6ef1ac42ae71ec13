//! A FIN that TLS has not announced may be an attacker's (RFC 8446, 6.1): it is never a clean end, neither of an origin's
//! response that ends with its connection, nor of what a client sends.

use std::io::Write;
use std::sync::Arc;

use dataplane::Ctr;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConfig};

use crate::rig::{get, origin, site, v4};
use crate::stock::{be_asked, by_tls, silence, tls_node, turn};
use crate::support::identity::Identity;
use crate::support::peers::Peers;

const BODY: &[u8] = b"as much as there is";

/// How an origin ends a response whose body ends with the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Announced,
    Cut,
    Reset,
}

/// Serves the node's next connection to the origin: one request, and its response.
fn serve(p: &mut Peers, config: &Arc<ServerConfig>, response: &[u8], end: End) {
    let (mut tls, port) = be_asked(p, config);
    tls.writer().write_all(response).expect("no bound is set");
    if end == End::Announced {
        tls.send_close_notify();
    }
    let (_, out) = turn(&mut tls, b"");
    p.origin_sends(port, &out);
    p.settle(&mut silence);
    if end == End::Reset {
        p.origin_resets(port)
    } else {
        p.origin_closes(port)
    }
    p.settle(&mut silence);
}

/// One GET whose response ends as said. Gives what the client got, whether its connection ended in order or by a reset,
/// and whether a second GET found it stored.
fn response_that_ends(end: End) -> (String, bool, bool, bool) {
    let (config, origin) = by_tls("origin.lab");
    let mut p = tls_node(site(vec![origin], true));
    let mut head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n\r\n".to_vec();
    head.extend(BODY);
    let first = p.connect(&get("/"));
    p.settle(&mut silence);
    serve(&mut p, &config, &head, end);
    let (got, ended, reset) = p.client_got(first);
    let got = (String::from_utf8_lossy(got).into_owned(), ended, reset);
    let connections = p.syns.len();
    let second = p.connect(&get("/"));
    p.settle(&mut silence);
    let stored = String::from_utf8_lossy(p.client_got(second).0).contains("as much as there is");
    assert!(!stored || p.syns.len() == connections, "it is from the store");
    let s = p.segment.read();
    // A reset is one that TCP tells of.
    assert_eq!(s.get(Ctr::TlsTruncated), u64::from(end == End::Cut));
    (got.0, got.1, got.2, stored)
}

#[test]
fn an_origins_end_that_tls_announces_is_one() {
    let (got, ended, reset, stored) = response_that_ends(End::Announced);
    assert!(got.starts_with("HTTP/1.1 200 OK") && got.contains("as much as there is"), "{got}");
    assert!(got.contains("Content-Length: 19\r\n") || got.ends_with("\r\n0\r\n\r\n"), "{got}");
    assert!(!ended && !reset && stored);
}

#[test]
fn an_origins_end_that_tls_does_not_announce_is_none() {
    for end in [End::Cut, End::Reset] {
        let (got, ended, reset, stored) = response_that_ends(end);
        assert!(got.starts_with("HTTP/1.1 200 OK") && got.contains("as much as there is"), "{got}");
        assert!(!got.contains("\r\n0\r\n"), "the client is told that this is all: {got}");
        assert!(ended && !reset, "the client's connection ends, and the body does not");
        assert!(!stored, "half of it is served to the next");
    }
}

/// A client's FIN in the middle of a request, with close_notify and without.
#[test]
fn a_clients_end_that_tls_does_not_announce_is_none() {
    for announced in [true, false] {
        let identity = Identity::new(&["site.lab"]);
        let mut config = site(vec![origin(&[v4()])], false);
        config.tls_listeners = vec![true];
        config.front = identity.front();
        let mut p = tls_node(config);
        let name = ServerName::try_from("site.lab").expect("a name");
        let client = ClientConnection::new(Arc::new(identity.client_config()), name).expect("a good config");
        let mut tls = Connection::from(client);
        let port = p.connect(&turn(&mut tls, b"").1);
        // Its body is said to be longer than what comes of it.
        let request = b"POST / HTTP/1.1\r\nHost: site.lab\r\nContent-Length: 100\r\n\r\nhalf";
        tls.writer().write_all(request).expect("no bound is set");
        for _ in 0..10 {
            p.settle(&mut silence);
            let came = std::mem::take(p.client_got(port).0);
            let (_, out) = turn(&mut tls, &came);
            p.client_sends(port, &out);
        }
        assert_eq!((p.syns.len(), p.segment.read().get(Ctr::HttpRequests)), (1, 1));
        if announced {
            tls.send_close_notify();
            p.client_sends(port, &turn(&mut tls, b"").1);
        }
        p.client_closes(port);
        p.settle(&mut silence);
        let s = p.segment.read();
        assert_eq!(s.get(Ctr::TlsTruncated), u64::from(!announced));
        assert!(p.origin_is_left(p.syns[0].2), "the origin does not wait for the rest");
        assert_eq!(s.get(Ctr::TlsSessions), 0);
    }
}
