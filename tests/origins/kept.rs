//! Stored objects that are kept for records which may have to be sealed again, when nobody finds these objects any more and
//! too much is kept so: who has all of its records forgets what they were made from, who has not ends.

use std::io::Write;
use std::sync::Arc;

use dataplane::Ctr;
use l7::cache::store::StoreConfig;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection};

use crate::rig::{MS, count, node_with, origin, site, v4, wait};
use crate::stock::turn;
use crate::support::Shared;
use crate::support::identity::Identity;
use crate::support::peers::{Act, Asked, Peers};
use crate::support::tls::TlsOf;

/// So much that the end of it is in a long record, and is queued at once.
const BODY: usize = 30_000;
const GET: &[u8] = b"GET /kept HTTP/1.1\r\nHost: site.lab\r\n\r\n";
/// All of a window of 64 KiB: three long records.
const LARGE_BODY: usize = 62_000;
const GET_LARGE: &[u8] = b"GET /large HTTP/1.1\r\nHost: site.lab\r\n\r\n";
const GET_LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: site.lab\r\nConnection: close\r\n\r\n";
/// An unsafe request makes what is stored invalid (RFC 9111, 4.4).
const POST: &[u8] = b"POST /kept HTTP/1.1\r\nHost: site.lab\r\nContent-Length: 0\r\n\r\n";

fn served((_, head): &Asked, _: u64) -> Act {
    let (control, body) = match head.starts_with("POST") {
        _ if head.starts_with("GET /last") => ("no-store", String::new()),
        true => ("no-store", String::new()),
        false if head.starts_with("GET /large") => ("max-age=3600", "l".repeat(LARGE_BODY)),
        false => ("max-age=3600", "k".repeat(BODY)),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: {length}\r\n\r\n");
    Act::Send([head, body].concat().into_bytes(), false)
}

struct Client {
    tls: Connection,
    port: u16,
    got: usize,
}

impl Client {
    fn connect(p: &mut Peers, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("site.lab").expect("a name");
        let tls = ClientConnection::new(Arc::clone(config), name).expect("a good config");
        let mut tls = Connection::from(tls);
        let port = p.connect(&turn(&mut tls, b"").1);
        let mut c = Client { tls, port, got: 0 };
        c.hear(p);
        c
    }

    /// Hears what comes, and answers what it has to.
    fn hear(&mut self, p: &mut Peers) {
        loop {
            p.settle(&mut served);
            let came = std::mem::take(p.client_got(self.port).0);
            let (data, out) = turn(&mut self.tls, &came);
            self.got += data.len();
            if out.is_empty() {
                return;
            }
            p.client_sends(self.port, &out);
        }
    }

    fn ask(&mut self, p: &mut Peers, request: &[u8]) {
        self.tls.writer().write_all(request).expect("no bound is set");
        let (_, out) = turn(&mut self.tls, b"");
        p.client_sends(self.port, &out);
        self.hear(p);
    }

    /// Has a large response before it stops listening in the middle of another: by then all of that has been sent.
    fn stops_listening(&mut self, p: &mut Peers) {
        self.stops_listening_to(p, GET);
    }

    fn stops_listening_to(&mut self, p: &mut Peers, request: &[u8]) {
        self.ask(p, request);
        assert!(self.got > BODY);
        self.got = 0;
        p.client_stops_reading(self.port);
        self.ask(p, request);
        assert_eq!(self.got, 0);
    }
}

/// A client that has stopped reading takes the next segment that is sent again, a quarter of a minute later.
fn take_one(p: &mut Peers, c: &Client) {
    wait(p, 13_000, &mut served);
    let had = p.client_got(c.port).0.len();
    p.client_reads_again(c.port);
    for _ in 0..1_000 {
        p.now = p.deadline().unwrap_or(p.now).max(p.now);
        p.pass(&mut served);
        let (got, _, reset) = p.client_got(c.port);
        if got.len() > had || reset {
            break;
        }
    }
    p.client_stops_reading(c.port);
}

/// How many get the rest of that when they listen again.
fn listen_again(p: &mut Peers, all: &mut [Client]) -> usize {
    all.iter().for_each(|c| p.client_reads_again(c.port));
    for _ in 0..10 {
        wait(p, 2_000, &mut served);
        all.iter_mut().for_each(|c| c.hear(p));
    }
    all.iter().filter(|c| c.got > BODY).count()
}

/// A node with so few cells for records, where no more than half an object may be kept that nobody finds.
fn node(identity: &Identity, record_cells: u32) -> Peers {
    let mut config = site(vec![origin(&[v4()])], true);
    config.tls_listeners = vec![true];
    config.front = identity.front();
    let shared = Shared { tls: Some(TlsOf::new()), record_cells, ..Shared::new(1) };
    let store = StoreConfig::for_bytes(16 << 20, 2, [5, 6]);
    node_with(config, &shared, StoreConfig { pinned_bytes_max: BODY as u64 / 2, ..store })
}

fn notes(p: &Peers) -> u32 {
    p.cores[0].pipeline.tls.notes_in_use()
}

#[test]
fn who_has_all_its_records_forgets_what_they_were_made_from() {
    let identity = Identity::new(&["site.lab"]);
    let clients = Arc::new(identity.client_config());
    let mut p = node(&identity, 64);
    let mut other = Client::connect(&mut p, &clients);
    let mut c = Client::connect(&mut p, &clients);
    c.stops_listening(&mut p);
    assert!(notes(&p) > 0 && count(&p, Ctr::TlsRecordsLetGo) == 0);
    other.ask(&mut p, POST);
    for _ in 0..100 {
        p.pass(&mut served);
    }
    assert_eq!((count(&p, Ctr::CacheInvalidated), notes(&p)), (1, 0));
    assert_eq!((count(&p, Ctr::CacheSlowReset), count(&p, Ctr::HttpAborted)), (0, 0));
    assert_eq!(listen_again(&mut p, &mut [c]), 1);
}

#[test]
fn who_lacks_some_of_them_ends() {
    const CLIENTS: usize = 24;
    let identity = Identity::new(&["site.lab"]);
    let config = Arc::new(identity.client_config());
    let mut p = node(&identity, 16);
    let mut other = Client::connect(&mut p, &config);
    let mut all = Vec::new();
    for _ in 0..CLIENTS {
        let mut c = Client::connect(&mut p, &config);
        c.stops_listening(&mut p);
        all.push(c);
    }
    let gone = count(&p, Ctr::TlsRecordsLetGo);
    assert!(gone > 0 && count(&p, Ctr::TlsRecordsSealedAgain) == 0, "{gone}");
    other.ask(&mut p, POST);
    for _ in 0..100 {
        p.pass(&mut served);
    }
    assert_eq!((notes(&p), count(&p, Ctr::CacheSlowReset)), (0, gone));
    let reset = all.iter().filter(|c| p.client_got(c.port).2).count() as u64;
    let whole = listen_again(&mut p, &mut all) as u64;
    assert_eq!((reset, whole), (gone, CLIENTS as u64 - gone), "all others have the whole");
    assert_eq!((count(&p, Ctr::TlsAgainDiffers), count(&p, Ctr::TlsNoCell)), (0, 0));
    // And what is asked for then is what the origin has.
    other.got = 0;
    other.ask(&mut p, GET);
    assert!(other.got > BODY);
}

/// As an orphan of TCP's, that is.
#[test]
fn a_little_now_and_then_does_not_keep_what_its_owner_has_left() {
    let identity = Identity::new(&["site.lab"]);
    let config = Arc::new(identity.client_config());
    let mut p = node(&identity, 16);
    let mut slow = Client::connect(&mut p, &config);
    slow.ask(&mut p, GET_LARGE);
    slow.stops_listening_to(&mut p, GET_LARGE);
    // Others have its records let go, before it says that it wants no more.
    for _ in 0..24 {
        Client::connect(&mut p, &config).stops_listening(&mut p);
    }
    slow.ask(&mut p, GET_LAST);
    assert_eq!(count(&p, Ctr::TlsAgainLeft), 1);
    let left_at = p.now;
    let left_s = |p: &Peers| p.now.since_ns(left_at) / (1000 * MS);
    while left_s(&p) < 330 && !p.client_got(slow.port).2 {
        take_one(&mut p, &slow);
    }
    assert!((300..330).contains(&left_s(&p)), "after {} s", left_s(&p));
    p.settle(&mut served);
    assert_eq!((notes(&p), count(&p, Ctr::TlsSessions)), (0, 0));
}
