//! Memory for records when there is little of it: what may not keep any, and who is not to be blamed for that.

use std::io::Write;
use std::sync::Arc;

use dataplane::Ctr;
use l7::phases::LogFormat;
use l7::proxy::{HealthChecks, LogTo, Origin, ProxyConfig};
use l7::tls::Front;
use l7::upstream::CheckSettings;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig};

use crate::rig::{MS, count, node_of, origin, site, statuses, v4, wait};
use crate::stock::{be_asked, by_tls, silence, turn};
use crate::support::Shared;
use crate::support::identity::Identity;
use crate::support::peers::{Act, Asked, Peers};
use crate::support::tls::TlsOf;

/// Cells for records where there are few.
const FEW: u32 = 4;

/// A line that makes a head too long for a small cell.
fn long() -> String {
    format!("Cookie: {}\r\n", "c".repeat(2500))
}

fn head(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.lab\r\n{lines}\r\n")
}

fn in_use(p: &Peers, cells: u32) -> u64 {
    u64::from(cells) - count(p, Ctr::PoolRecordFree)
}

/// A node with TLS, to whose one listener clients come with it or without; what it has for records.
fn node(mut config: ProxyConfig, front: Option<&Arc<Front>>, cells: u32) -> Peers {
    if let Some(front) = front {
        config.tls_listeners = vec![true];
        config.front = Arc::clone(front);
    }
    node_of(config, &Shared { tls: Some(TlsOf::new()), record_cells: cells, ..Shared::new(1) })
}

/// A site whose bodies may stand still for an hour.
fn patient(origin: Origin) -> ProxyConfig {
    let mut config = site(vec![origin], false);
    config.routes.iter_mut().for_each(|r| r.timeouts.idle_ns = 3_600_000 * MS);
    config
}

fn edge() -> (Arc<Front>, Arc<ClientConfig>) {
    let identity = Identity::new(&["site.lab"]);
    (identity.front_with(None, 0), Arc::new(identity.client_config()))
}

struct Client {
    tls: Connection,
    port: u16,
}

impl Client {
    fn connect(p: &mut Peers, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("site.lab").expect("a name");
        let mut tls = Connection::from(ClientConnection::new(Arc::clone(config), name).expect("good"));
        let port = p.connect(&turn(&mut tls, b"").1);
        let mut client = Client { tls, port };
        client.hears(p, &mut silence);
        client
    }

    /// Sends that in a record of its own.
    fn says(&mut self, p: &mut Peers, text: &str) {
        self.tls.writer().write_all(text.as_bytes()).expect("no bound is reached");
        let (_, out) = turn(&mut self.tls, &[]);
        p.client_sends(self.port, &out);
        p.settle(&mut silence);
    }

    /// What comes, until nothing more does.
    fn hears(&mut self, p: &mut Peers, origin: &mut dyn FnMut(&Asked, u64) -> Act) -> String {
        let mut got = Vec::new();
        for _ in 0..6 {
            p.settle(origin);
            let came = std::mem::take(p.client_got(self.port).0);
            let (data, out) = turn(&mut self.tls, &came);
            got.extend(data);
            p.client_sends(self.port, &out);
        }
        String::from_utf8_lossy(&got).into_owned()
    }
}

fn ok(_: &Asked, _: u64) -> Act {
    Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(), false)
}

/// Nobody reads them, but for the log: of requests that stand still, and of heads that are not whole.
#[test]
fn heads_keep_no_cell_for_records() {
    let (front, by) = edge();
    let mut config = site(vec![origin(&[v4()])], false);
    config.log = Some(LogTo { target: 0, format: LogFormat::Text });
    config.sites[0].log = config.log;
    let shared = Shared { tls: Some(TlsOf::new()), record_cells: 64, ..Shared::new(1) };
    config.tls_listeners = vec![true];
    config.front = front;
    let mut p = node_of(config, &shared);
    let mut lines = shared.lines.lock().expect("no panic").pop().expect("a ring");

    let mut poll = Client::connect(&mut p, &by);
    poll.says(&mut p, &head("/poll", &(long() + "User-Agent: somebody\r\n")));
    assert_eq!(in_use(&p, 64), 0, "a long poll");

    let mut tunnel = Client::connect(&mut p, &by);
    tunnel.says(&mut p, &head("/tunnel", &(long() + "Connection: upgrade\r\nUpgrade: x\r\n")));
    let mut asked = 0;
    tunnel.hears(&mut p, &mut |_, _| {
        asked += 1;
        Act::Hold
    });
    let port = p.syns.last().expect("the node has connected").2;
    p.origin_sends(port, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert!(tunnel.hears(&mut p, &mut silence).starts_with("HTTP/1.1 101 "));
    assert_eq!((asked, in_use(&p, 64)), (0, 0), "a tunnel");

    let mut half = Client::connect(&mut p, &by);
    let text = head("/half", &long());
    half.says(&mut p, &text[..text.len() - 2]);
    assert_eq!(in_use(&p, 64), 0, "half a head");
    half.says(&mut p, "\r\n");
    let port = p.syns.last().expect("the node has connected").2;
    p.origin_sends(port, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert!(half.hears(&mut p, &mut silence).ends_with("ok"));

    p.client_resets(poll.port);
    p.settle(&mut silence);
    let mut log = String::new();
    while lines.take(|_, line| log.push_str(&String::from_utf8_lossy(line))) > 0 {}
    let polled = log.lines().find(|l| l.contains("/poll")).expect("a line");
    assert!(polled.contains("somebody") && polled.contains("site.lab"), "{polled}");
    assert!(log.contains("/half"), "{log}");
    assert_eq!(in_use(&p, 64), 0);
}

/// What came with a request that is being answered, and what came then.
#[test]
fn what_is_not_read_yet_keeps_no_cell_for_records() {
    let (front, by) = edge();
    let mut p = node(site(vec![origin(&[v4()])], false), Some(&front), 64);
    let mut next = Client::connect(&mut p, &by);
    let two = format!("{}{}", head("/one", &long()), "GET /two HTTP/1.1\r\n");
    next.says(&mut p, &two);
    next.says(&mut p, &format!("Host: site.lab\r\n{}\r\n", long()));
    assert_eq!(in_use(&p, 64), 0);
    let port = p.syns.last().expect("the node has connected").2;
    for _ in 0..2 {
        p.origin_sends(port, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert!(next.hears(&mut p, &mut silence).ends_with("ok"));
    }
}

/// Somebody without TLS who reads slowly what comes by TLS, and so holds every cell.
struct Hoard {
    client: u16,
    body: usize,
}

impl Hoard {
    /// As a client of a node for plain ones; the origin's connection stays.
    fn plain(p: &mut Peers, config: &Arc<ServerConfig>) -> (Hoard, Connection) {
        let client = p.connect_slow(head("/hoard", "").as_bytes(), 4 << 10);
        p.settle(&mut silence);
        let (mut tls, port) = be_asked(p, config);
        let body = 256 << 10;
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n");
        for piece in std::iter::once(text.as_bytes()).chain(vec![b'h'; body].chunks(16 << 10)) {
            tls.writer().write_all(piece).expect("no bound is reached");
            let (_, out) = turn(&mut tls, &[]);
            p.origin_sends(port, &out);
        }
        p.settle(&mut silence);
        assert_eq!(count(p, Ctr::PoolRecordFree), 0, "all cells are taken");
        (Hoard { client, body }, tls)
    }

    /// So much time goes by.
    fn sits(&self, p: &mut Peers, seconds: u64) {
        wait(p, seconds * 1000, &mut silence);
        assert_eq!(count(p, Ctr::PoolRecordFree), 0, "it sits on all cells");
    }

    fn reads_all(&self, p: &mut Peers) {
        for _ in 0..self.body / 1024 {
            p.client_reads(self.client, 16 << 10);
            wait(p, 5, &mut silence);
        }
        let got = p.client_got(self.client).0.len();
        assert!(got > self.body, "{got} of {}", self.body);
    }
}

/// Another plain client's request is answered by one record that is too long for the cells that are left.
fn asks(p: &mut Peers, config: &Arc<ServerConfig>) -> (u16, Connection, u16) {
    let client = p.connect(head("/", "").as_bytes());
    p.settle(&mut silence);
    let (mut tls, port) = be_asked(p, config);
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 8000\r\n\r\n{}", "b".repeat(8000));
    tls.writer().write_all(text.as_bytes()).expect("no bound is reached");
    let (_, out) = turn(&mut tls, &[]);
    p.origin_sends(port, &out);
    p.settle(&mut silence);
    (client, tls, port)
}

/// While its answer lies there and we have no cell to read it.
#[test]
fn an_origin_is_not_blamed_for_cells_that_we_lack() {
    let (config, origin) = by_tls("origin.lab");
    let mut p = node(patient(origin), None, FEW);
    let (hoard, _tls) = Hoard::plain(&mut p, &config);
    let (client, _tls, _) = asks(&mut p, &config);
    assert!(count(&p, Ctr::TlsCellWaits) > 0);
    // The first byte has five seconds.
    hoard.sits(&mut p, 12);
    assert_eq!(statuses(&mut p, client), [0u16; 0]);
    hoard.reads_all(&mut p);
    assert_eq!(statuses(&mut p, client), [200]);
    assert_eq!((count(&p, Ctr::OriginFirstByteTimeout), in_use(&p, FEW)), (0, 0));
}

/// It does not wait for ever; and it is still not the origin's fault.
#[test]
fn who_waits_for_cells_too_long_is_told() {
    let (config, origin) = by_tls("origin.lab");
    let mut p = node(patient(origin), None, FEW);
    let (hoard, _tls) = Hoard::plain(&mut p, &config);
    for _ in 0..7 {
        let (client, _tls, _) = asks(&mut p, &config);
        hoard.sits(&mut p, 25);
        assert_eq!(statuses(&mut p, client), [503]);
    }
    let told = (count(&p, Ctr::OriginFirstByteTimeout), count(&p, Ctr::OriginEjections));
    assert_eq!(told, (0, 0));
    hoard.reads_all(&mut p);
    assert_eq!(in_use(&p, FEW), 0);
}

/// It is not told that it was slow, when it was not.
#[test]
fn a_client_is_not_blamed_for_cells_that_we_lack() {
    let (front, by) = edge();
    let mut p = node(patient(origin(&[v4()])), Some(&front), FEW);
    let mut client = Client::connect(&mut p, &by);
    let mut idle = Client::connect(&mut p, &by);
    let mut slow = Vec::new();
    let body = format!("HTTP/1.1 200 OK\r\nContent-Length: 262144\r\n\r\n{}", "h".repeat(256 << 10));
    for _ in 0..4 {
        let mut one = Client::connect(&mut p, &by);
        one.says(&mut p, &head("/hoard", ""));
        p.client_stops_reading(one.port);
        let port = p.syns.last().expect("the node has connected").2;
        p.origin_sends(port, body.as_bytes());
        p.settle(&mut silence);
        slow.push(one.port);
    }
    assert_eq!(count(&p, Ctr::PoolRecordFree), 0, "all cells are taken");
    // The first half comes in a small record, and is read.
    client.says(&mut p, "POST / HTTP/1.1\r\nHost: site.lab\r\nContent-Length: 2\r\n");
    client.says(&mut p, &format!("{}\r\nok", long()));
    idle.says(&mut p, &head("/idle", &long()));
    assert!(count(&p, Ctr::TlsCellWaits) > 1);
    wait(&mut p, 59_000, &mut silence);
    assert!(!p.client_got(idle.port).1, "it has its time");
    wait(&mut p, 2_000, &mut silence);
    assert!(p.client_got(idle.port).1, "it has no more than its time");
    assert_eq!((client.hears(&mut p, &mut silence).as_str(), count(&p, Ctr::HttpHeaderTimeout)), ("", 0));
    for port in slow {
        p.client_resets(port);
    }
    assert!(client.hears(&mut p, &mut ok).ends_with("ok"));
    assert_eq!((in_use(&p, FEW), count(&p, Ctr::TlsNoCell)), (0, 0));
}

/// What a check's origin has said lies there: nothing is known of it.
#[test]
fn a_check_is_left_out_where_we_lack_cells() {
    let (config, origin) = by_tls("origin.lab");
    let mut proxy = patient(origin);
    let settings = CheckSettings {
        path: b"/check".to_vec(),
        interval_ns: 2000 * MS,
        timeout_ns: 1000 * MS,
        rise: 1,
        fall: 1,
        statuses: vec![200..=299],
    };
    proxy.upstreams[0].checks = Some(HealthChecks { settings, host: None });
    let mut p = node(proxy, None, FEW);
    let (hoard, _tls) = Hoard::plain(&mut p, &config);
    let mut answered = 0;
    for _ in 0..5 {
        let checks = count(&p, Ctr::OriginChecks);
        while count(&p, Ctr::OriginChecks) == checks {
            wait(&mut p, 100, &mut silence);
        }
        let (mut tls, port) = be_asked(&mut p, &config);
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 8000\r\n\r\n{}", "b".repeat(8000));
        tls.writer().write_all(text.as_bytes()).expect("no bound is reached");
        tls.send_close_notify();
        let (_, out) = turn(&mut tls, &[]);
        p.origin_sends(port, &out);
        p.origin_closes(port);
        answered += 1;
        hoard.sits(&mut p, 1);
    }
    assert_eq!(answered, 5);
    let s = p.segment.read();
    assert_eq!((s.get(Ctr::OriginCheckFailures), s.get(Ctr::OriginDown)), (0, 0));
    assert!(s.get(Ctr::OriginChecksLeftOut) >= 3, "{}", s.get(Ctr::OriginChecksLeftOut));
}
