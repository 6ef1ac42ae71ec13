//! Connections of TLS, by stock rustls peers: who is served by whose certificate, and ends that come with the last data.

use std::io::Write;
use std::sync::Arc;

use dataplane::Ctr;
use l7::phases::modules::RedirectTo;
use l7::phases::{Filter, Program as Modules, Redirect};
use l7::proxy::{Answer, ClientAuth, HealthChecks, Io, OriginTimeouts, Program, ProxyConfig};
use l7::tls::front::{self, ClientAuth as Asks, Entry, FrontSpec};
use l7::tls::{Conns, Front};
use l7::upstream::CheckSettings;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConnection};

use crate::rig::{MS, at_rest, count, get, node, node_of, origin, site, statuses, v4, wait};
use crate::stock::{be_asked, by_tls, silence, tls_node, turn};
use crate::support::Shared;
use crate::support::identity::Identity;
use crate::support::peers::{Act, Asked, Peers};
use crate::support::tls::TlsOf;

fn served(_: &Asked, _: u64) -> Act {
    Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(), false)
}

fn front_node(mut config: ProxyConfig, front: Arc<Front>) -> Peers {
    config.tls_listeners = vec![true];
    config.front = front;
    tls_node(config)
}

/// A node's next program.
fn swap(p: &mut Peers, mut config: ProxyConfig, front: Arc<Front>) {
    config.tls_listeners = vec![true];
    config.front = front;
    let (now, pipeline) = (p.now, &mut p.cores[0].pipeline);
    pipeline.proxy.swap(
        Program::new(config),
        &mut Io {
            tcp: Conns { tcp: &mut pipeline.stack.tcp, tls: &mut pipeline.tls },
            net: &pipeline.stack.net,
            now,
        },
    );
}

/// A client.
struct Client {
    tls: Connection,
    port: u16,
}

impl Client {
    fn connect(p: &mut Peers, config: &Arc<ClientConfig>, name: &'static str) -> Client {
        let name = ServerName::try_from(name).expect("a name");
        let mut tls =
            Connection::from(ClientConnection::new(Arc::clone(config), name).expect("a good config"));
        let port = p.connect(&turn(&mut tls, b"").1);
        Client { tls, port }
    }

    /// The status of a GET, and whether the connection is at its end.
    fn get(&mut self, p: &mut Peers, host: &str) -> (u16, bool) {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.tls.writer().write_all(request.as_bytes()).expect("no bound is set");
        let mut got = Vec::new();
        for _ in 0..10 {
            p.settle(&mut served);
            let came = std::mem::take(p.client_got(self.port).0);
            let (data, out) = turn(&mut self.tls, &came);
            got.extend(data);
            p.client_sends(self.port, &out);
        }
        let text = String::from_utf8_lossy(&got).into_owned();
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|t| t.get(..3)).and_then(|t| t.parse().ok());
        (status.unwrap_or_default(), p.client_got(self.port).1)
    }
}

/// An edge that presents `identity`, by an entry for each of these names, to clients that are asked like this.
fn front(identity: &Identity, entries: &[(&str, Asks)]) -> Arc<Front> {
    let provider = front::provider();
    let certified =
        front::certified(vec![identity.certificate.clone()], identity.key.clone_key(), None, &provider)
            .expect("the key is the certificate's");
    let entry = |(name, client_auth): &(&str, Asks)| Entry {
        names: vec![(*name).to_owned()],
        certificates: vec![certified.clone()],
        client_auth: client_auth.clone(),
        alpn: vec![b"http/1.1".to_vec()],
        tls12: true,
        early_data_bytes: 0,
    };
    let entries = entries.iter().map(entry).collect();
    let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
    Arc::new(
        Front::new(FrontSpec { entries, challenges: Vec::new(), provider, time, tickets: None })
            .expect("good"),
    )
}

fn roots(of: &Identity) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(of.certificate.clone()).expect("a certificate");
    Arc::new(roots)
}

/// A client's config, which shows `own`.
fn who(identity: &Identity, own: &Identity) -> Arc<ClientConfig> {
    let config = ClientConfig::builder().with_root_certificates(roots(identity));
    let chain = vec![own.certificate.clone()];
    Arc::new(config.with_client_auth_cert(chain, own.key.clone_key()).expect("the key is the certificate's"))
}

/// Sites `closed.lab` and `open.lab`, of which the first asks its clients like this, in a front with as many entries.
fn two_sites(front: &Front, auth: ClientAuth) -> ProxyConfig {
    let mut config = site(vec![origin(&[v4()])], false);
    config.sites.clear();
    let timeouts = OriginTimeouts { connect_ns: 1000 * MS, first_byte_ns: 1000 * MS, idle_ns: 1000 * MS };
    for host in ["closed.lab", "open.lab"] {
        config.add_site(&[host], Answer::Upstream(0), timeouts);
    }
    config.sites[0].client_auth = auth;
    config.sites[0].policies = vec![front.policy(0)];
    config
}

#[test]
fn what_is_for_clients_with_certificates_is_not_served_in_the_clear() {
    let timeouts = OriginTimeouts { connect_ns: 1000 * MS, first_byte_ns: 1000 * MS, idle_ns: 1000 * MS };
    let mut config = site(vec![origin(&[v4()])], true);
    for host in ["closed.lab", "maybe.lab", "sends-on.lab"] {
        config.add_site(&[host], Answer::Upstream(0), timeouts);
    }
    let n = config.routes.len();
    config.routes[n - 1].modules = Modules::builder()
        .with(Redirect::new(308, &RedirectTo::Https(443), Filter::ALWAYS).expect("good"))
        .expect("room")
        .build();
    config.add_site(&["proves.lab"], Answer::Stub(b"a token".to_vec()), timeouts);
    for (n, auth) in [
        (1, ClientAuth::Required),
        (2, ClientAuth::Optional),
        (3, ClientAuth::Required),
        (4, ClientAuth::Required),
    ] {
        config.sites[n].client_auth = auth;
        config.sites[n].policies = vec![n as u32];
    }
    let mut p = node(config);
    let client = p.connect(b"");
    for host in ["site.lab", "closed.lab", "maybe.lab", "sends-on.lab", "proves.lab", "closed.lab"] {
        p.client_sends(client, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        p.settle(&mut served);
    }
    assert_eq!(statuses(&mut p, client), [200, 403, 200, 308, 200, 403]);
    assert_eq!(count(&p, Ctr::HttpNoCertificate), 2);
}

#[test]
fn a_connection_stays_whose_it_is_while_programs_come_and_go() {
    let identity = Identity::new(&["closed.lab", "open.lab"]);
    let (somebody, stranger) = (Identity::new(&["somebody"]), Identity::new(&["stranger"]));
    let make = |asks: Asks| front(&identity, &[("closed.lab", asks), ("open.lab", Asks::None)]);
    let required = || make(Asks::Required(roots(&somebody)));
    let first = required();
    let mut p = front_node(two_sites(&first, ClientAuth::Required), first);
    let config = who(&identity, &somebody);
    let mut closed = Client::connect(&mut p, &config, "closed.lab");
    let mut open = Client::connect(&mut p, &config, "open.lab");
    assert_eq!(
        (closed.get(&mut p, "closed.lab"), open.get(&mut p, "open.lab")),
        ((200, false), (200, false))
    );
    // The same again, as after a reload of something else.
    for _ in 0..3 {
        let same = required();
        swap(&mut p, two_sites(&same, ClientAuth::Required), same);
        assert_eq!(closed.get(&mut p, "closed.lab"), (200, false));
        assert_eq!(open.get(&mut p, "open.lab"), (200, false));
    }
    // By a neighbour's door: neither way.
    assert_eq!((open.get(&mut p, "closed.lab"), closed.get(&mut p, "open.lab")), ((421, true), (421, true)));
    // Somebody else vouches for its clients, or they need not show anything, or have to.
    let mut kept = Client::connect(&mut p, &config, "closed.lab");
    assert_eq!(kept.get(&mut p, "closed.lab"), (200, false));
    let others = make(Asks::Required(roots(&stranger)));
    swap(&mut p, two_sites(&others, ClientAuth::Required), others);
    assert_eq!(kept.get(&mut p, "closed.lab"), (421, true));
    let nobody = make(Asks::None);
    let mut config = two_sites(&nobody, ClientAuth::None);
    config.sites[0].policies.clear();
    swap(&mut p, config, nobody);
    let mut anybody = Client::connect(&mut p, &Arc::new(identity.client_config()), "closed.lab");
    assert_eq!(anybody.get(&mut p, "closed.lab"), (200, false));
    let again = required();
    swap(&mut p, two_sites(&again, ClientAuth::Required), again);
    assert_eq!(anybody.get(&mut p, "closed.lab"), (421, true));
    assert_eq!(count(&p, Ctr::HttpMisdirected), 4);
}

/// Who is refused before his handshake is gone, whatever came with the end of his connection's.
#[test]
fn who_finds_no_room_is_counted_once() {
    let mut config = site(vec![origin(&[v4()])], false);
    config.tls_listeners = vec![true];
    let mut p = node(config); // There are no handshakes at all.
    for bytes in [&b""[..], b"\x16\x03\x01"] {
        let closes = p.connect(bytes);
        p.client_closes(closes);
        let resets = p.connect(bytes);
        p.pass(&mut silence);
        p.pass(&mut silence);
        p.client_resets(resets);
        p.settle(&mut silence);
    }
    let pipeline = &p.cores[0].pipeline;
    assert_eq!((count(&p, Ctr::TlsShedFull) >= 2, pipeline.proxy.active()), (true, 0));
    assert_eq!(pipeline.stack.tcp.flows().count(), 0);
}

/// The response's last record, and the FIN behind it that TLS has not announced, in one burst.
fn answer_and_end(p: &mut Peers, (mut tls, port): (Connection, u16), response: &[u8]) {
    tls.writer().write_all(response).expect("no bound is set");
    let (_, out) = turn(&mut tls, b"");
    p.origin_sends(port, &out);
    p.origin_closes(port);
    p.settle(&mut silence);
}

#[test]
fn an_end_that_comes_with_the_last_data_is_seen_at_once() {
    let (config, origin) = by_tls("origin.lab");
    let mut p = tls_node(site(vec![origin], false));
    let client = p.connect(b"GET / HTTP/1.1\r\nHost: site.lab\r\n\r\n");
    p.settle(&mut silence);
    let asked = be_asked(&mut p, &config);
    let now = p.now;
    answer_and_end(&mut p, asked, b"HTTP/1.1 200 OK\r\n\r\nas much as there is");
    assert!(p.now.since_ns(now) < MS, "nobody has waited for a timer");
    let (got, ended, reset) = p.client_got(client);
    let got = String::from_utf8_lossy(got).into_owned();
    assert!(got.contains("as much as there is") && !got.contains("\r\n0\r\n"), "{got}");
    assert!(ended && !reset, "TCP ends in order, and what it carries does not");
    assert_eq!(count(&p, Ctr::TlsTruncated), 1);
}

#[test]
fn a_connection_that_has_ended_so_is_not_kept() {
    let (config, origin) = by_tls("origin.lab");
    let mut p = tls_node(site(vec![origin], false));
    for n in 1..=2 {
        let client = p.connect(b"GET / HTTP/1.1\r\nHost: site.lab\r\n\r\n");
        p.settle(&mut silence);
        assert_eq!(p.syns.len(), n, "by a connection of its own");
        let asked = be_asked(&mut p, &config);
        answer_and_end(&mut p, asked, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(statuses(&mut p, client), [200]);
        assert_eq!(count(&p, Ctr::OriginIdle), 0);
    }
}

#[test]
fn an_origin_that_is_not_believed_is_told_why() {
    let (config, origin) = by_tls("another.lab");
    let mut p = tls_node(site(vec![origin], false));
    let client = p.connect(b"GET / HTTP/1.1\r\nHost: site.lab\r\n\r\n");
    p.settle(&mut silence);
    let port = p.syns[0].2;
    let mut tls = Connection::from(ServerConnection::new(config).expect("a good config"));
    let came = p.origin_takes(port);
    let (_, out) = turn(&mut tls, &came);
    p.origin_sends(port, &out);
    p.settle(&mut silence);
    assert_eq!(statuses(&mut p, client), [502]);
    let came = p.origin_takes(port);
    tls.read_tls(&mut &came[..]).expect("from memory");
    let error = tls.process_new_packets().expect_err("an alert");
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
}

/// A host that is off takes a connection of ours, and no place for a handshake.
#[test]
fn who_does_not_answer_holds_no_handshake() {
    let (_, origin) = by_tls("origin.lab");
    let mut p = tls_node(site(vec![origin], false));
    p.silent = true;
    let clients: Vec<u16> = (0..9).map(|n| p.connect(&get(&format!("/{n}")))).collect();
    wait(&mut p, 100, &mut silence);
    assert_eq!((p.syns.len() >= 9, count(&p, Ctr::TlsActive)), (true, 0));
    wait(&mut p, 10_000, &mut silence);
    for client in clients {
        assert_eq!(statuses(&mut p, client), [504]);
        p.client_resets(client);
    }
    p.settle(&mut silence);
    assert_eq!(p.cores[0].pipeline.stack.tcp.flows().count(), 0);
}

/// That we have no place for a handshake is not the origin's fault.
#[test]
fn an_origin_for_which_there_is_no_room_is_not_to_blame() {
    let (_, origin) = by_tls("origin.lab");
    // Our own may have half of them.
    let tls = TlsOf { handshakes: 2, ..TlsOf::new() };
    let mut p = node_of(site(vec![origin], false), &Shared { tls: Some(tls), ..Shared::new(1) });
    let first = p.connect(&get("/1"));
    p.settle(&mut silence);
    assert_eq!(count(&p, Ctr::TlsActive), 1, "the origin says nothing");
    for n in 2..10 {
        let client = p.connect(&get(&format!("/{n}")));
        p.settle(&mut silence);
        assert_eq!(statuses(&mut p, client), [503]);
        p.client_resets(client);
    }
    let counted =
        [Ctr::OriginTlsNoRoom, Ctr::OriginEjections, Ctr::OriginConnectFailed].map(|c| count(&p, c));
    assert_eq!(counted, [8, 0, 0]);
    at_rest(&mut p, first);
}

#[test]
fn a_check_that_finds_no_room_says_nothing_of_its_origin() {
    let (_, origin) = by_tls("origin.lab");
    let mut config = site(vec![origin], false);
    let settings = CheckSettings {
        path: b"/health".to_vec(),
        interval_ns: 1000 * MS,
        timeout_ns: 500 * MS,
        rise: 2,
        fall: 2,
        statuses: vec![200..=299],
    };
    config.upstreams[0].checks = Some(HealthChecks { settings, host: None });
    let mut p = node(config); // There are no handshakes at all.
    wait(&mut p, 10_000, &mut silence);
    let s = p.segment.read();
    assert!(s.get(Ctr::OriginChecksLeftOut) >= 9);
    assert_eq!((s.get(Ctr::OriginCheckFailures), s.get(Ctr::OriginDown)), (0, 0));
}
