//! Where records lie in TCP's segments is nobody's business: cut anywhere, several in one, behind what comes before TLS,
//! with the end behind them.

use std::io::Write;

use dataplane::Ctr;
use dataplane::rng::Rng;
use l7::http1::SliceSink;
use l7::phases::proxy_protocol::{ProxyHeader, write_v1, write_v2};
use l7::proxy::Network;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::early::{Client, Names, ROOM, at_rest, flush, get, node, ok};
use crate::rig::{count, origin, site, v4};
use crate::support::CLIENT_IP;
use crate::support::peers::{Act, Asked, Peers};

/// Whom a PROXY header names.
const ANNOUNCED: &str = "203.0.113.7";

/// Says which path was asked for, and for whom.
fn served((_, head): &Asked, _: u64) -> Act {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let whose = head.lines().find_map(|l| l.strip_prefix("X-Forwarded-For: ")).unwrap_or_default();
    ok(&format!("[{path} {whose}]"), "")
}

/// A connection whose handshake is done.
fn connect(p: &mut Peers, names: &Names) -> Client {
    let mut c = Client::connect(p, &names.clients, b"");
    c.settle(p, &mut served);
    c
}

/// The record of a request, which is not sent yet.
fn sealed(c: &mut Client, path: &str, padding: usize) -> Vec<u8> {
    let line = format!("X-Padding: {}\r\n", "x".repeat(padding));
    c.tls.writer().write_all(&get(path, &line)).expect("room");
    flush(&mut c.tls)
}

/// Sends `bytes`, cut like this; each part is taken before the next one comes.
fn send_cut(p: &mut Peers, c: &Client, bytes: &[u8], cuts: &[usize]) {
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        p.client_sends(c.port, &bytes[from..to]);
        p.settle(&mut served);
        from = to;
    }
}

/// The paths of the answers that have come, in order.
fn answers(p: &mut Peers, c: &mut Client) -> Vec<String> {
    c.listen(p);
    let text = c.text();
    c.got.clear();
    let path = |part: &str| part.split(' ').next().unwrap_or_default().to_owned();
    text.split("\r\n\r\n[").skip(1).map(path).collect()
}

#[test]
fn a_record_may_be_cut_anywhere() {
    let names = Names::new();
    let mut p = names.node(false, 0);
    // Small pieces are put together as they come, large ones lie in cells of their own.
    for padding in [0, 700] {
        let mut c = connect(&mut p, &names);
        let n = sealed(&mut c, "/a", padding).len();
        p.client_resets(c.port);
        c = connect(&mut p, &names);
        for cut in 1..n {
            let record = sealed(&mut c, "/a", padding);
            assert_eq!(record.len(), n);
            send_cut(&mut p, &c, &record[..cut], &[]);
            assert!(p.client_got(c.port).0.is_empty(), "{cut} of {n} bytes are no record");
            send_cut(&mut p, &c, &record[cut..], &[]);
            assert_eq!(answers(&mut p, &mut c), ["/a"], "cut at {cut} of {n}");
        }
        let mut rng = Rng::new(3);
        for _ in 0..200 {
            let record = sealed(&mut c, "/b", padding);
            let mut cuts = [0; 3].map(|_| rng.below(n as u64) as usize);
            cuts.sort_unstable();
            send_cut(&mut p, &c, &record, &cuts);
            assert_eq!(answers(&mut p, &mut c), ["/b"], "cut at {cuts:?} of {n}");
        }
        let record = sealed(&mut c, "/c", padding);
        send_cut(&mut p, &c, &record, &(1..n).collect::<Vec<_>>());
        assert_eq!(answers(&mut p, &mut c), ["/c"], "byte by byte");
        p.client_resets(c.port);
    }
}

#[test]
fn a_segment_may_hold_several_and_a_part_of_one_more() {
    let names = Names::new();
    let mut p = names.node(false, 0);
    let mut c = connect(&mut p, &names);
    let three = |c: &mut Client| ["/0", "/1", "/2"].map(|path| sealed(c, path, 40)).concat();
    let n = three(&mut c).len();
    p.client_resets(c.port);
    c = connect(&mut p, &names);
    for cut in 0..n {
        let records = three(&mut c);
        send_cut(&mut p, &c, &records, &[cut]);
        assert_eq!(answers(&mut p, &mut c), ["/0", "/1", "/2"], "cut at {cut} of {n}");
    }
    // In one burst: records that lie in one segment, in two, and over the end of one.
    for padding in [150, 500, 1300, 3000] {
        let paths: Vec<String> = (0..20).map(|i| format!("/{i}")).collect();
        let all = paths.iter().map(|path| sealed(&mut c, path, padding)).collect::<Vec<_>>().concat();
        send_cut(&mut p, &c, &all, &[]);
        assert_eq!(answers(&mut p, &mut c), paths, "{padding}");
    }
    at_rest(&mut p, &c);
    assert_eq!(count(&p, Ctr::TlsBadMac), 0);
}

/// A request and the end behind it.
fn request_and_end(c: &mut Client) -> (Vec<u8>, usize) {
    let mut bytes = sealed(c, "/last", 0);
    let of_request = bytes.len();
    c.tls.send_close_notify();
    bytes.extend(flush(&mut c.tls));
    (bytes, of_request)
}

#[test]
fn an_end_behind_data_is_the_end_and_what_is_behind_it_nothing() {
    let names = Names::new();
    let mut p = names.node(false, 0);
    let n = request_and_end(&mut connect(&mut p, &names)).0.len();
    for cut in 0..=n {
        let mut c = connect(&mut p, &names);
        let (mut bytes, _) = request_and_end(&mut c);
        if cut % 2 == 0 {
            bytes.extend(b"anything that comes behind it");
        }
        p.client_sends(c.port, &bytes[..cut]);
        p.settle(&mut served);
        p.client_sends(c.port, &bytes[cut..]);
        p.client_closes(c.port);
        p.settle(&mut served);
        assert_eq!(answers(&mut p, &mut c), ["/last"], "cut at {cut} of {n}");
        assert!(c.is_told() && p.client_got(c.port).1, "cut at {cut} of {n}");
    }
    assert_eq!(count(&p, Ctr::TlsTruncated), 0);
    assert_eq!(count(&p, Ctr::TlsSessions), 1, "of the one that has shown how long it is");
}

#[test]
fn without_all_of_the_end_it_is_none() {
    let names = Names::new();
    let mut p = names.node(false, 0);
    let n = request_and_end(&mut connect(&mut p, &names)).0.len();
    for cut in 0..n {
        let mut c = connect(&mut p, &names);
        let (bytes, of_request) = request_and_end(&mut c);
        p.client_sends(c.port, &bytes[..cut]);
        p.client_closes(c.port);
        p.settle(&mut served);
        let answered = answers(&mut p, &mut c);
        assert!(answered.is_empty() || cut >= of_request, "{cut} of {of_request}");
        assert!(!c.is_told(), "cut at {cut} of {n}");
        assert_eq!(count(&p, Ctr::TlsTruncated), 1 + cut as u64);
        p.client_resets(c.port);
    }
}

/// A node that its clients tell by a PROXY header for whom they speak.
fn announced(names: &Names, by_tls: bool) -> Peers {
    let mut config = site(vec![origin(&[v4()])], false);
    config.proxy_headers_from = vec![vec![Network { address: CLIENT_IP.into(), prefix_len: 32 }]];
    let mut p = if by_tls { node(config, names.front(0)) } else { crate::rig::node(config) };
    p.cores[0].pipeline.proxy.expect_proxy_headers(64);
    p
}

fn headers() -> [Vec<u8>; 2] {
    let header = ProxyHeader::Proxied {
        source: format!("{ANNOUNCED}:40000").parse().expect("an address"),
        destination: "198.51.100.1:443".parse().expect("an address"),
    };
    let (mut first, mut second) = ([0; 128], [0; 128]);
    let (mut v1, mut v2) = (SliceSink::new(&mut first), SliceSink::new(&mut second));
    write_v1(&header, &mut v1).expect("room");
    write_v2(&header, &mut v2).expect("room");
    [v1.written().to_vec(), v2.written().to_vec()]
}

#[test]
fn a_hello_may_come_with_the_proxy_header_before_it() {
    let names = Names::new();
    let mut p = announced(&names, true);
    for header in headers() {
        let mut all_cuts: Vec<Vec<usize>> = (0..header.len() + 8).map(|cut| vec![cut]).collect();
        all_cuts.push((1..header.len() + 8).collect());
        for cuts in all_cuts {
            let name = ServerName::try_from("site.lab").expect("a name");
            let tls = ClientConnection::new(names.clients.clone(), name).expect("a good config");
            let mut c = Client { tls, port: p.connect(b""), got: Vec::new() };
            p.settle(&mut served);
            let bytes = [&header[..], &flush(&mut c.tls)].concat();
            send_cut(&mut p, &c, &bytes, &cuts);
            c.settle(&mut p, &mut served);
            c.send(&mut p, &get("/announced", ""));
            c.settle(&mut p, &mut served);
            assert!(c.text().ends_with(&format!("[/announced {ANNOUNCED}]")), "{cuts:?}: {}", c.text());
            at_rest(&mut p, &c);
        }
    }
    assert_eq!(count(&p, Ctr::HttpProxyBad), 0);
}

#[test]
fn what_follows_a_proxy_header_may_come_with_it_and_an_end_in_it_is_none() {
    let names = Names::new();
    let mut p = announced(&names, false);
    for header in headers() {
        let bytes = [&header[..], &get("/clear", "")].concat();
        for cut in 0..bytes.len() {
            let port = p.connect(&bytes[..cut]);
            p.settle(&mut served);
            p.client_sends(port, &bytes[cut..]);
            p.settle(&mut served);
            let text = crate::rig::text(&mut p, port);
            assert!(text.ends_with(&format!("[/clear {ANNOUNCED}]")), "cut at {cut}: {text}");
            crate::rig::at_rest(&mut p, port);
        }
        let bad = count(&p, Ctr::HttpProxyBad);
        for cut in 1..header.len() {
            let port = p.connect(&header[..cut]);
            p.client_closes(port);
            p.settle(&mut served);
            assert_eq!(count(&p, Ctr::HttpProxyBad) - bad, cut as u64);
            assert_eq!(crate::rig::text(&mut p, port), "");
            crate::rig::at_rest(&mut p, port);
        }
    }
    // One that is longer than any may be, as soon as it says so; and one that is not.
    let [_, v2] = headers();
    for (extra, is_good) in [(536 - v2.len(), true), (537 - v2.len(), false)] {
        let mut long = v2.clone();
        let length = (v2.len() - 16 + extra) as u16;
        long[14..16].copy_from_slice(&length.to_be_bytes());
        long.resize(v2.len() + extra, 0);
        let bad = count(&p, Ctr::HttpProxyBad);
        let port = p.connect(&long[..300]);
        p.settle(&mut served);
        p.client_sends(port, &[&long[300..], &get("/clear", "")].concat());
        p.settle(&mut served);
        assert_eq!(crate::rig::text(&mut p, port).contains("[/clear"), is_good);
        assert_eq!(count(&p, Ctr::HttpProxyBad) - bad, u64::from(!is_good));
        crate::rig::at_rest(&mut p, port);
    }
}

#[test]
fn early_data_may_be_cut_anywhere() {
    let names = Names::new();
    let mut p = names.node(false, ROOM);
    names.prime(&mut p, &mut served);
    let mut taken = 0;
    for pieces in [1, 2] {
        let mut cut = 0;
        loop {
            let name = ServerName::try_from("site.lab").expect("a name");
            let mut tls = ClientConnection::new(names.clients.clone(), name).expect("a good config");
            let request = get("/early", "");
            for piece in request.chunks(request.len().div_ceil(pieces)) {
                tls.early_data().expect("a ticket that allows it").write_all(piece).expect("room");
            }
            let bytes = flush(&mut tls);
            let hello = 5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
            // All of the early records; of the hello only its ends.
            if cut > 10 && cut < hello - 10 {
                cut = hello - 10;
            }
            if cut > bytes.len() {
                break;
            }
            let mut c = Client { tls, port: p.connect(b""), got: Vec::new() };
            p.settle(&mut served);
            send_cut(&mut p, &c, &bytes, &[cut]);
            c.listen(&mut p);
            assert!(c.text().contains("[/early"), "cut at {cut} of {}: {}", bytes.len(), c.text());
            c.settle(&mut p, &mut served);
            c.send(&mut p, &get("/later", ""));
            c.settle(&mut p, &mut served);
            assert!(c.text().contains("[/later"), "cut at {cut} of {}: {}", bytes.len(), c.text());
            taken += 1;
            assert_eq!(count(&p, Ctr::TlsEarlyTaken), taken, "cut at {cut} of {}", bytes.len());
            at_rest(&mut p, &c);
            cut += 1;
        }
    }
}
