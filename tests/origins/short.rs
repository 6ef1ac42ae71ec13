//! Bodies that end before their end: what has come of them is delivered, and the client sees that it is not the whole.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use dataplane::Ctr;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection};

use crate::rig::{MS, at_rest, count, node, origin, site, text, v4, wait};
use crate::stock::{be_asked, by_tls, silence, tls_node, turn};
use crate::support::identity::Identity;
use crate::support::peers::{Act, Asked, Peers};

const BODY: &str = "as much as there is";
/// Ways to say less of a body than was promised, by its length or by chunks.
const SHORT: &[&str] = &[
    "Content-Length: 100\r\n\r\nas much as there is",
    "Transfer-Encoding: chunked\r\n\r\n13\r\nas much as there is\r\n",
    "Transfer-Encoding: chunked\r\n\r\n20\r\nas much as there is",
    "Transfer-Encoding: chunked\r\n\r\n13\r\nas much as there is\r\n0\r\nX-Trail",
    "Transfer-Encoding: chunked\r\n\r\n13\r\nas much as there is\r\nno number\r\n",
];

fn get(version: &str) -> Vec<u8> {
    format!("GET / HTTP/1.{version}\r\nHost: site.lab\r\n\r\n").into_bytes()
}

/// An origin that says `rest` behind a head that would be stored, and ends its connection with it.
fn says(rest: &str) -> impl FnMut(&Asked, u64) -> Act {
    let response = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{rest}").into_bytes();
    move |_, _| Act::Send(response.clone(), true)
}

/// Whether a client is told how much is missing, or that there is more: not where its body ends with the connection.
fn is_told(version: &str, rest: &str) -> bool {
    version == "1" || rest.starts_with("Content-Length")
}

/// That `got` holds what came, and does not end as a whole would.
fn assert_short(got: &str, version: &str, rest: &str) {
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains(BODY), "{rest:?}: {got:?}");
    let (head, body) = got.split_once("\r\n\r\n").expect("a head");
    let framed = [head.contains("Content-Length: 100"), head.contains("chunked")];
    let expected = match (version, rest.starts_with("Content-Length")) {
        (_, true) => [true, false],
        ("1", false) => [false, true],
        _ => [false, false],
    };
    assert_eq!(framed, expected, "{head}");
    assert!(!body.ends_with("0\r\n\r\n"), "{body:?}");
}

#[test]
fn what_has_come_is_delivered_and_is_not_the_whole() {
    for cached in [false, true] {
        for (version, rest) in ["0", "1"].iter().flat_map(|v| SHORT.iter().map(move |rest| (*v, *rest))) {
            let mut p = node(site(vec![origin(&[v4()])], cached));
            let start = p.now;
            let client = p.connect(&get(version));
            p.settle(&mut says(rest));
            assert!(p.now.since_ns(start) < MS, "nobody has waited for a timer: {rest:?}");
            let (_, ended, reset) = p.client_got(client);
            let told = is_told(version, rest);
            assert_eq!((ended, reset), (told, !told), "1.{version}, cached: {cached}, {rest:?}");
            assert_short(&text(&mut p, client), version, rest);
            let faults = [Ctr::OriginClosedEarly, Ctr::OriginBadResponse].map(|c| count(&p, c));
            assert_eq!((count(&p, Ctr::HttpAborted), faults.iter().sum::<u64>()), (1, 1), "{rest:?}");
            // Nobody else gets it.
            wait(&mut p, 1_100, &mut silence);
            let connects = p.syns.len();
            let next = p.connect(&get(version));
            p.settle(&mut silence);
            assert_eq!((text(&mut p, next), p.syns.len()), (String::new(), connects + 1));
            p.client_resets(next);
            p.origin_resets_all();
            p.settle(&mut silence);
            at_rest(&mut p, client);
        }
    }
}

#[test]
fn a_fin_that_tls_has_not_announced_ends_nothing_and_takes_nothing_away() {
    for cached in [false, true] {
        for version in ["0", "1"] {
            let (config, origin) = by_tls("origin.lab");
            let mut p = tls_node(site(vec![origin], cached));
            let client = p.connect(&get(version));
            p.settle(&mut silence);
            let (mut tls, port) = be_asked(&mut p, &config);
            let start = p.now;
            let response = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\n{BODY}");
            tls.writer().write_all(response.as_bytes()).expect("no bound is set");
            let (_, out) = turn(&mut tls, b"");
            p.origin_sends(port, &out);
            p.origin_closes(port);
            p.settle(&mut silence);
            assert!(p.now.since_ns(start) < MS, "nobody has waited for a timer");
            let (_, ended, reset) = p.client_got(client);
            assert_eq!((ended, reset), (version == "1", version == "0"), "cached: {cached}");
            assert_short(&text(&mut p, client), version, "");
            assert_eq!((count(&p, Ctr::TlsTruncated), count(&p, Ctr::CacheStored)), (1, 0));
        }
    }
}

#[test]
fn to_a_client_by_tls_no_end_is_announced() {
    for (version, rest) in ["0", "1"].iter().flat_map(|v| SHORT.iter().map(move |rest| (*v, *rest))) {
        let identity = Identity::new(&["site.lab"]);
        let mut config = site(vec![origin(&[v4()])], false);
        config.tls_listeners = vec![true];
        config.front = identity.front();
        let mut p = tls_node(config);
        let name = ServerName::try_from("site.lab").expect("a name");
        let client = ClientConnection::new(Arc::new(identity.client_config()), name).expect("a good config");
        let mut tls = Connection::from(client);
        let port = p.connect(&turn(&mut tls, b"").1);
        tls.writer().write_all(&get(version)).expect("no bound is set");
        let mut got = Vec::new();
        for _ in 0..10 {
            p.settle(&mut says(rest));
            let came = std::mem::take(p.client_got(port).0);
            let (data, out) = turn(&mut tls, &came);
            got.extend(data);
            p.client_sends(port, &out);
        }
        let told = is_told(version, rest);
        let (_, ended, reset) = p.client_got(port);
        assert_eq!((ended, reset), (told, !told), "1.{version}, {rest:?}");
        assert_short(&String::from_utf8_lossy(&got), version, rest);
        assert_eq!(tls.read_tls(&mut &b""[..]).expect("from memory"), 0);
        let end = tls.reader().read(&mut [0; 8]).map_err(|e| e.kind());
        assert_eq!(end, Err(ErrorKind::UnexpectedEof), "an end that is none");
        assert_eq!(count(&p, Ctr::TlsSessions), 0);
        at_rest(&mut p, port);
    }
}

/// All that a slow client gets until its connection is over.
fn read_slowly(p: &mut Peers, client: u16) -> (usize, bool) {
    let mut n = 0;
    for _ in 0..1_000 {
        p.client_reads(client, 10_000);
        p.settle(&mut silence);
        let (input, ended, reset) = p.client_got(client);
        n += std::mem::take(input).len();
        if ended || reset {
            return (n, reset);
        }
    }
    panic!("it does not end: {n}");
}

#[test]
fn a_slow_client_gets_all_of_it_too() {
    const BYTES: usize = 300_000;
    for version in ["0", "1"] {
        for head in ["Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nF4240\r\n"] {
            let mut p = node(site(vec![origin(&[v4()])], false));
            let rest = format!("{head}{}", "x".repeat(BYTES));
            let client = p.connect_slow(&get(version), 10_000);
            p.settle(&mut says(&rest));
            let first = p.client_got(client).0.len();
            let (n, reset) = read_slowly(&mut p, client);
            assert!(first + n > BYTES, "1.{version}, {head:?}: {first} and {n}");
            assert_eq!(reset, !is_told(version, head));
            at_rest(&mut p, client);
        }
    }
}

#[test]
fn who_does_not_read_has_no_more_time_than_in_a_whole_body() {
    for version in ["0", "1"] {
        let mut p = node(site(vec![origin(&[v4()])], false));
        let client = p.connect_slow(&get(version), 10_000);
        p.settle(&mut says(&format!("Transfer-Encoding: chunked\r\n\r\nF4240\r\n{}", "x".repeat(20_000))));
        let (_, ended, reset) = p.client_got(client);
        assert!(!ended && !reset);
        // As long as a body may stand still, and as long as TCP waits for a peer that does not take the end.
        wait(&mut p, 70_000, &mut silence);
        let core = &p.cores[0].pipeline;
        assert_eq!((core.proxy.active(), core.stack.tcp.flows().count()), (0, 0), "1.{version}");
        assert_eq!(count(&p, Ctr::HttpAborted), 1);
    }
}

#[test]
fn a_tunnel_that_is_cut_off_has_brought_what_came() {
    let (config, origin) = by_tls("origin.lab");
    let mut p = tls_node(site(vec![origin], false));
    let client =
        p.connect(b"GET / HTTP/1.1\r\nHost: site.lab\r\nConnection: upgrade\r\nUpgrade: words\r\n\r\n");
    p.settle(&mut silence);
    let (mut tls, port) = be_asked(&mut p, &config);
    let response =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: words\r\n\r\nlast words";
    tls.writer().write_all(response).expect("no bound is set");
    let (_, out) = turn(&mut tls, b"");
    p.origin_sends(port, &out);
    p.origin_closes(port);
    p.settle(&mut silence);
    let (_, ended, reset) = p.client_got(client);
    assert!(reset && !ended, "nothing else can tell");
    let got = text(&mut p, client);
    assert!(got.starts_with("HTTP/1.1 101") && got.ends_with("last words"), "{got}");
    at_rest(&mut p, client);
}
