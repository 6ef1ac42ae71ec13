//! TLS with nginx on the other side: `pktgen http` by https, full and resumed, and origins of a node, good ones and
//! every kind of bad one. The certificates are made here.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{Answer, Client};
use crate::lab::{Checks, EDGE_V4, Edge, Lab, PATIENCE, config, text};

const AT: &str = "10.80.0.3";
const GOOD: u16 = 8443;
const WRONG_NAME: u16 = 8444;
const EXPIRED: u16 = 8445;
const SELF_SIGNED: u16 = 8446;
const STRANGER: u16 = 8447;
const MUTUAL: u16 = 8448;
const OLD: u16 = 8449;
const PLAIN: u16 = 8450;
const ASKS_LATE: u16 = 8451;
const NOT_YET: u16 = 8452;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Issuer {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// A server that ends with its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The servers, and the files of their certificates.
struct Servers {
    dir: PathBuf,
    _running: Vec<Server>,
}

impl Servers {
    fn start(lab: &Lab) -> Servers {
        let dir = lab.dir().join("tls");
        fs::create_dir_all(&dir).expect("a folder");
        let put = |name: &str, text: &str| fs::write(dir.join(name), text).expect("written");
        let (ca, stranger) = (authority("Lab CA"), authority("Another CA"));
        put("ca.pem", &ca.pem());
        let pair = |file: &str, params: CertificateParams, by: Option<&Issuer>| {
            let key = KeyPair::generate().expect("a key");
            let made = match by {
                Some(issuer) => params.signed_by(&key, issuer),
                None => params.self_signed(&key),
            };
            put(&format!("{file}.pem"), &made.expect("a certificate").pem());
            put(&format!("{file}.key"), &key.serialize_pem());
        };
        let names = ["origin.lab", "www.origin.lab", AT];
        pair("good", params("origin.lab", &names), Some(&ca));
        pair("other", params("other.lab", &["other.lab"]), Some(&ca));
        let mut old = params("origin.lab", &names);
        (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        pair("expired", old, Some(&ca));
        let mut young = params("origin.lab", &names);
        (young.not_before, young.not_after) = (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1));
        pair("not-yet", young, Some(&ca));
        pair("self", params("origin.lab", &names), None);
        pair("stranger", params("origin.lab", &names), Some(&stranger));
        pair("edge", params("edge.lab", &["edge.lab"]), Some(&ca));

        let at = dir.display();
        let www = lab.dir().join("www");
        let server = |port: u16, file: &str, more: &str| {
            format!(
                "server {{ listen {AT}:{port} ssl backlog=4096; ssl_certificate {at}/{file}.pem; \
                 ssl_certificate_key {at}/{file}.key; root {}; {more}\n\
                 location = /who {{ default_type text/plain; return 200 \
                 \"$ssl_protocol $ssl_session_reused $ssl_server_name $ssl_client_s_dn\"; }}\n\
                 location = /once {{ keepalive_timeout 0; default_type text/plain; return 200 \
                 \"$ssl_protocol $ssl_session_reused $ssl_server_name\"; }} }}\n",
                www.display()
            )
        };
        let servers = [
            server(GOOD, "good", "ssl_protocols TLSv1.2 TLSv1.3;"),
            server(WRONG_NAME, "other", ""),
            server(EXPIRED, "expired", ""),
            server(NOT_YET, "not-yet", ""),
            server(SELF_SIGNED, "self", ""),
            server(STRANGER, "stranger", ""),
            server(MUTUAL, "good", &format!("ssl_verify_client on; ssl_client_certificate {at}/ca.pem;")),
            server(OLD, "good", "ssl_protocols TLSv1.2;"),
            format!("server {{ listen {AT}:{PLAIN}; return 200 plain; }}\n"),
        ];
        put(
            "nginx.conf",
            &format!(
                "user root; worker_processes 1; daemon off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
                 events {{ worker_connections 8192; }}\n\
                 http {{ log_format tls '$server_port $ssl_protocol $ssl_session_reused'; access_log {at}/access.log tls;\n\
                 default_type application/octet-stream; keepalive_requests 1000000; ssl_session_timeout 1h;\n\
                 ssl_session_cache shared:all:8m;\n{}}}\n",
                servers.concat()
            ),
        );
        let in_origin = |line: &str| {
            let out = fs::OpenOptions::new().create(true).append(true).open(dir.join("out")).expect("a file");
            let child = Command::new("ip")
                .args(["netns", "exec", &lab.origin()])
                .args(line.split(' '))
                .stdin(Stdio::null())
                .stdout(out.try_clone().expect("a file"))
                .stderr(out)
                .spawn();
            Server(child.expect("ip"))
        };
        let running = vec![
            in_origin(&format!("nginx -p {at} -e {at}/error.log -c {at}/nginx.conf")),
            // In TLS 1.3 it asks for our certificate, and says what it thinks of it after the handshake.
            in_origin(&format!(
                "openssl s_server -accept {AT}:{ASKS_LATE} -cert {at}/good.pem -key {at}/good.key -CAfile {at}/ca.pem \
                 -Verify 1 -verify_return_error -tls1_3 -www -quiet"
            )),
        ];
        let until = Instant::now() + PATIENCE;
        for port in [GOOD, PLAIN, ASKS_LATE] {
            let to: SocketAddr = format!("{AT}:{port}").parse().expect("an address");
            while lab.connect(to).is_err() {
                let said = fs::read_to_string(dir.join("out")).unwrap_or_default();
                assert!(Instant::now() < until, "no server on port {port}: {said}");
                thread::sleep(Duration::from_millis(20));
            }
        }
        Servers { dir, _running: running }
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// What nginx has logged of a port: how many requests came by new and by resumed sessions of a version.
    fn logged(&self, port: u16) -> Vec<String> {
        let all = fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
        let of = format!("{port} ");
        all.lines().filter_map(|l| l.strip_prefix(&of)).map(str::to_owned).collect()
    }
}

fn pktgen(lab: &Lab, port: u16, path: &str, options: &str) -> Result<Value, String> {
    let url = format!("https://{AT}:{port}{path}");
    let mut args = vec!["pktgen", "http", &url, "--port", "tap:mr0", "--address", "10.80.0.1/24", "--json"];
    args.extend(options.split_whitespace());
    let out = lab.millrace(&args);
    match serde_json::from_slice(&out.stdout) {
        Ok(v) if out.status.success() => Ok(v),
        _ => Err(text(&out)),
    }
}

fn n(v: &Value, path: &str) -> u64 {
    v.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {v}"))
}

#[test]
fn tls_and_nginx() {
    let Some(lab) = Lab::up("tls_origins::tls_and_nginx", 'y', false) else { return };
    let servers = Servers::start(&lab);
    let mut checks = Checks::new();
    loads(&lab, &servers, &mut checks);
    let edge = lab.edge(&sites(&servers));
    origins(&lab, &edge, &mut checks);
    drop(edge);
    checks.end();
}

fn loads(lab: &Lab, servers: &Servers, checks: &mut Checks) {
    let trusted = format!("--ca {} --host origin.lab", servers.file("ca.pem"));
    let sums = fs::read_to_string(lab.dir().join("www/SHA256SUMS")).expect("the sums");
    let sum_of = |file: &str| {
        let line = sums.lines().find(|l| l.ends_with(&format!("  {file}"))).expect("a sum");
        line[..64].to_owned()
    };

    checks.check("pktgen https: kept connections, every byte right", || {
        for (port, version) in [(GOOD, "TLS 1.3"), (OLD, "TLS 1.2")] {
            let r = pktgen(lab, port, "/1k", &format!("-c 10 -n 1000 --sha256 {} {trusted}", sum_of("1k")))
                .expect("good");
            assert_eq!((n(&r, "/responses"), n(&r, "/errors"), n(&r, "/tls/full")), (1000, 0, 10), "{r}");
            assert_eq!(n(&r, "/tls/resumed"), 0, "{r}");
            assert!(r["tls"]["agreed"].as_str().is_some_and(|a| a.starts_with(version)), "{r}");
            assert!(r["handshake_us"]["p50"].as_f64().is_some_and(|us| us > 0.0), "{r}");
        }
        // Records of 16 KiB, in pieces.
        let r = pktgen(lab, GOOD, "/1m", &format!("-c 4 -n 24 --sha256 {} {trusted}", sum_of("1m")))
            .expect("good");
        assert_eq!((n(&r, "/responses"), n(&r, "/errors"), n(&r, "/body_bytes")), (24, 0, 24 << 20), "{r}");
    });

    checks.check("pktgen https: full and resumed handshakes are what nginx has seen", || {
        for (port, version) in [(GOOD, "TLSv1.3"), (OLD, "TLSv1.2")] {
            let seen = servers.logged(port).len();
            let r =
                pktgen(lab, port, "/1", &format!("-c 5 -n 200 --close --tls full {trusted}")).expect("good");
            assert_eq!(
                (n(&r, "/responses"), n(&r, "/tls/full"), n(&r, "/tls/resumed")),
                (200, 200, 0),
                "{r}"
            );
            let lines = servers.logged(port).split_off(seen);
            assert_eq!(lines, vec![format!("{version} ."); 200]);

            let seen = servers.logged(port).len();
            let r = pktgen(lab, port, "/1", &format!("-c 5 -n 200 --close --tls resumed {trusted}"))
                .expect("good");
            let (full, resumed) = (n(&r, "/tls/full"), n(&r, "/tls/resumed"));
            assert_eq!((n(&r, "/responses"), full + resumed), (200, 200), "{r}");
            assert!((1..=5).contains(&full), "only those that had no ticket yet: {r}");
            let lines = servers.logged(port).split_off(seen);
            let count = |of: &str| lines.iter().filter(|l| **l == format!("{version} {of}")).count() as u64;
            assert_eq!((count("."), count("r")), (full, resumed));
        }
    });

    checks.check("pktgen https: a server that is not believed is not asked", || {
        for (port, more, says) in [
            (EXPIRED, &*trusted, "certificate expired (its time was over on Fri, 01 Jan 2021"),
            (SELF_SIGNED, &trusted, "self-signed certificate"),
            (STRANGER, &trusted, "unknown issuer"),
            (WRONG_NAME, &trusted, "name mismatch (it is not for origin.lab, but for"),
            (PLAIN, &trusted, "not TLS"),
        ] {
            let why = pktgen(lab, port, "/1", &format!("-c 2 -n 4 {more}")).expect_err("a refusal");
            assert!(why.contains("fails the TLS handshake: ") && why.contains(says), "{port}: {why}");
        }
        for port in [EXPIRED, SELF_SIGNED, STRANGER, WRONG_NAME] {
            let r = pktgen(lab, port, "/1", "-c 2 -n 4 --insecure").expect("believed");
            assert_eq!(n(&r, "/responses"), 4, "{r}");
        }
        let own = format!("--ca {} --host origin.lab", servers.file("self.pem"));
        assert!(
            pktgen(lab, SELF_SIGNED, "/1", &format!("-c 2 -n 4 {own}")).is_ok(),
            "it is itself in the file"
        );
        // By its address, which is in the certificate.
        let ca = servers.file("ca.pem");
        assert!(pktgen(lab, GOOD, "/1", &format!("-c 2 -n 4 --ca {ca}")).is_ok());
    });
}

/// Host, port, the words of the log line, and the counter.
const REFUSED: [(&str, u16, &str, &str); 6] = [
    ("name.lab", WRONG_NAME, "name mismatch (it is not for origin.lab, but for", "name"),
    ("expired.lab", EXPIRED, "certificate expired (its time was over on Fri, 01 Jan 2021", "expired"),
    ("notyet.lab", NOT_YET, "certificate not yet valid (its time begins on", "not_yet_valid"),
    ("self.lab", SELF_SIGNED, "self-signed certificate", "self_signed"),
    ("stranger.lab", STRANGER, "unknown issuer", "unknown_issuer"),
    ("plain.lab", PLAIN, "not TLS", "protocol"),
];

fn sites(servers: &Servers) -> String {
    let ca = servers.file("ca.pem");
    let site = |host: &str, origins: &str, tls: &str, more: &str| {
        format!("[[site]]\nhosts = \"{host}\"\norigin = [{origins}]\norigin_tls = {{ {tls} }}\n{more}\n")
    };
    let of = |port: u16| format!("\"https://{AT}:{port}\"");
    let named = format!("ca = \"{ca}\", name = \"origin.lab\"");
    let own = format!(
        "{named}, certificate = {{ chain = \"{}\", key = \"{}\" }}",
        servers.file("edge.pem"),
        servers.file("edge.key")
    );
    let health =
        "health = { path = \"/who\", interval = \"200ms\", timeout = \"200ms\", rise = 1, fall = 1 }";
    let mut all = vec![
        site("good.lab", &of(GOOD), &named, ""),
        site("www.lab", &of(GOOD), &format!("ca = \"{ca}\", name = \"www.origin.lab\""), ""),
        site("address.lab", &of(GOOD), &format!("ca = \"{ca}\""), ""),
        site("old.lab", &of(OLD), &named, ""),
        site("mutual.lab", &of(MUTUAL), &own, ""),
        site("nobody.lab", &of(MUTUAL), &named, ""),
        site("late.lab", &of(ASKS_LATE), &named, "retries = { max = 0 }"),
        site("latemutual.lab", &of(ASKS_LATE), &own, ""),
        site("anybody.lab", &of(EXPIRED), "verify = false", ""),
        site("second.lab", &format!("{}, {}", of(EXPIRED), of(GOOD)), &named, "outlier = { failures = 100 }"),
        site("checked.lab", &format!("{}, {}", of(STRANGER), of(GOOD)), &named, health),
    ];
    all.extend(REFUSED.iter().map(|(host, port, ..)| site(host, &of(*port), &named, "")));
    config(&all.concat())
}

fn client(lab: &Lab) -> Client {
    let to: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
    Client::new(lab.connect(to).expect("the node takes connections"))
}

fn ask(c: &mut Client, host: &str, path: &str) -> Answer {
    c.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect("sent");
    c.answer("GET")
}

fn body(a: &Answer) -> String {
    String::from_utf8_lossy(&a.body).into_owned()
}

/// Waits for a line of the node's log that has all of these.
fn logged(edge: &Edge, words: &[&str]) {
    let until = Instant::now() + PATIENCE;
    while !edge.log().lines().any(|l| words.iter().all(|w| l.contains(w))) {
        assert!(Instant::now() < until, "no line with {words:?} in {}", edge.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn origins(lab: &Lab, edge: &Edge, checks: &mut Checks) {
    checks.check("origins by https: asked for by name, kept, each name apart", || {
        let mut c = client(lab);
        let reused = edge.counter("origin.reused");
        for _ in 0..3 {
            for (host, name) in
                [("good.lab", "origin.lab"), ("www.lab", "www.origin.lab"), ("address.lab", "")]
            {
                let a = ask(&mut c, host, "/who");
                assert_eq!(
                    (a.whole(), body(&a).trim_end()),
                    (200, format!("TLSv1.3 . {name}").trim_end()),
                    "{host}"
                );
            }
        }
        assert_eq!(edge.counter("origin.reused") - reused, 6, "a connection for each name");
        let a = ask(&mut c, "good.lab", "/1m");
        assert_eq!((a.whole(), a.body.len()), (200, 1 << 20));
        assert_eq!(a.body, fs::read(lab.dir().join("www/1m")).expect("the file"));
        let a = ask(&mut c, "old.lab", "/who");
        assert_eq!((a.whole(), &*body(&a)), (200, "TLSv1.2 . origin.lab "));
    });

    checks.check("origins by https: later handshakes are resumed", || {
        let mut c = client(lab);
        for (host, version) in [("good.lab", "TLSv1.3"), ("old.lab", "TLSv1.2")] {
            // Whatever is kept is used first; /once ends it.
            let all: Vec<String> = (0..6).map(|_| body(&ask(&mut c, host, "/once"))).collect();
            let resumed = all.iter().filter(|a| **a == format!("{version} r origin.lab")).count();
            assert!(resumed >= 4, "{all:?}");
        }
        assert!(edge.counter("tls.origin_handshakes_resumed") >= 8);
    });

    checks.check("origins by https: one that is not believed is 502, and the log says why", || {
        let mut c = client(lab);
        for (host, port, says, counter) in REFUSED {
            let counter = format!("origin.tls_failed_{counter}");
            let before = edge.counter(&counter);
            assert_eq!(ask(&mut c, host, "/1").whole(), 502, "{host}");
            assert_eq!(edge.counter(&counter) - before, 1, "{counter}");
            let origin =
                format!("origin {AT}:{port} of site {host} fails the TLS handshake, at {AT}: {says}");
            logged(edge, &["warn", &origin]);
        }
        assert_eq!(ask(&mut c, "anybody.lab", "/1").whole(), 200, "verify = false");
        logged(edge, &["verify = false", "can read and change everything"]);
    });

    checks.check("origins by https: who are we", || {
        let mut c = client(lab);
        let a = ask(&mut c, "mutual.lab", "/who");
        assert_eq!(a.whole(), 200);
        assert!(body(&a).contains("CN=edge.lab"), "{}", body(&a));
        let a = ask(&mut c, "nobody.lab", "/who");
        assert_eq!(a.whole(), 400, "nginx says itself that it wants a certificate");
        assert!(body(&a).contains("No required SSL certificate was sent"), "{}", body(&a));
        assert_eq!(ask(&mut c, "latemutual.lab", "/").whole(), 200);
        assert_eq!(ask(&mut c, "late.lab", "/").whole(), 502);
        logged(edge, &["of site late.lab", "alert certificate_required"]);
    });

    checks.check("origins by https: a handshake that failed is tried elsewhere", || {
        let mut c = client(lab);
        let retried = edge.counter("origin.retried");
        for _ in 0..4 {
            assert_eq!(ask(&mut c, "second.lab", "/1").whole(), 200);
        }
        assert!(edge.counter("origin.retried") > retried);
    });

    checks.check("origins by https: checked by https", || {
        let down = format!("origin {AT}:{STRANGER} of site checked.lab is down, by its health checks: the TLS handshake: unknown issuer");
        logged(edge, &[&down]);
        assert_eq!(edge.counter("origin.down"), 1);
        let mut c = client(lab);
        assert!((0..4).all(|_| ask(&mut c, "checked.lab", "/1").whole() == 200));
    });
}
