//! ACME against a real server: `pebble`, with `pebble-challtestsrv` for its names. A node without any certificate orders
//! one, proves the name, stores it and takes it into use; one that is nearly over is renewed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use millrace::acme::{Acme, Board, Proof};
use millrace::config::{self, Machine};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;

use crate::clients::{self, Client};
use crate::running::Node;

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("acme-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// For scripts/test.sh, which counts what was skipped.
fn skip(name: &str) {
    let line = format!("acme_{name} pebble is not installed\n");
    match std::env::var("MILLRACE_TEST_SKIPS") {
        Ok(path) => {
            let mut file = fs::OpenOptions::new().append(true).open(path).expect("the list of skips");
            file.write_all(line.as_bytes()).expect("written");
        }
        Err(_) => eprint!("skipped: {line}"),
    }
}

/// Free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let sockets: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|s| s.local_addr().expect("bound").port())
}

/// Waits until something is so, or fails.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Pebble {
    folder: Folder,
    directory: String,
    http: u16,
    https: u16,
    /// Where it tells of itself.
    manage: u16,
    /// The names', and itself.
    servers: [Running; 2],
}

impl Pebble {
    /// `None` where there is no pebble: the test says that it was skipped.
    fn start(name: &str) -> Option<Pebble> {
        if Command::new("pebble").arg("-h").stderr(Stdio::null()).status().is_err() {
            skip(name);
            return None;
        }
        let folder = Folder::new(name);
        let [acme, manage, dns, dns_manage, http, https] = free_ports();
        let made = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["cert", "self-signed", "localhost", "127.0.0.1", "--out"])
            .arg(&folder.0)
            .output()
            .expect("millrace runs");
        assert!(made.status.success());
        let file = |name: &str| folder.0.join(name).display().to_string();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{acme}"),
            "managementListenAddress": format!("127.0.0.1:{manage}"),
            "certificate": file("cert.pem"),
            "privateKey": file("key.pem"),
            "httpPort": http,
            "tlsPort": https,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(folder.0.join("pebble.json"), config.to_string()).expect("writable");
        let log = |name: &str| fs::File::create(folder.0.join(name)).expect("writable");
        let names = Command::new("pebble-challtestsrv")
            .args([
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
            ])
            .args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{dns_manage}")])
            .stdout(Stdio::null())
            .stderr(log("names.log"))
            .spawn()
            .expect("pebble-challtestsrv, of Debian's package pebble");
        let pebble = Command::new("pebble")
            .args(["-config", &file("pebble.json"), "-dnsserver", &format!("127.0.0.1:{dns}")])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(log("pebble.log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble, of Debian's package pebble");
        let servers = [Running(names), Running(pebble)];
        until("pebble listens", || TcpStream::connect(("127.0.0.1", acme)).is_ok());
        let directory = format!("https://127.0.0.1:{acme}/dir");
        Some(Pebble { folder, directory, http, https, manage, servers })
    }

    /// Who signs what it issues, in the end.
    fn root(&self) -> CertificateDer<'static> {
        let own = CertificateDer::from_pem_file(self.folder.0.join("cert.pem")).expect("its own certificate");
        let mut client =
            Client::connect(self.manage, &clients::config(&[&own], None), "localhost").expect("TLS");
        let (status, pem) = client.ask("/roots/0", "localhost", "").expect("an answer");
        assert_eq!(status, 200);
        CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.servers[1].0.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("a living server");
    }

    /// The config of a node that gets the certificate of `a.example` and `b.example`.
    fn config(&self, challenge: &str, listener: &str) -> String {
        self.config_with(challenge, listener, "127.0.0.1:9")
    }

    /// The same, with this origin.
    fn config_with(&self, challenge: &str, listener: &str, origin: &str) -> String {
        format!(
            "[node]\nname = \"acme\"\nmemory = \"64MiB\"\n\
             [[port]]\nname = \"h\"\nkind = \"host\"\n\
             [[listener]]\naddress = \"127.0.0.1\"\n{listener}\n\
             [[site]]\nhosts = [\"a.example\", \"b.example\"]\norigin = \"http://{origin}\"\ncertificate = \"acme\"\n\
             redirect = {{ https = true }}\n\
             [acme]\ndirectory = \"{}\"\naccept_terms = true\nstorage = \"{}\"\nca = \"{}\"\n\
             contact = \"mailto:you@a.example\"\nchallenge = \"{challenge}\"\n",
            self.directory,
            self.folder.0.join("storage").display(),
            self.folder.0.join("cert.pem").display()
        )
    }

    fn stored(&self) -> PathBuf {
        self.folder.0.join("storage/a.example.pem")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.0.join("pebble.log")).unwrap_or_default()
    }
}

fn is_key_and_chain(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| {
        text.contains("-----BEGIN PRIVATE KEY") && text.matches("BEGIN CERTIFICATE").count() == 2
    })
}

/// What a client is answered that asks for this.
fn ask(port: u16, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn by_a_path_that_the_cores_answer() {
    let Some(pebble) = Pebble::start("http") else { return };
    let listener = format!("http = {}", pebble.http);
    let node = Node::start("acme", &pebble.config("http-01", &listener));
    until("there is a certificate", || is_key_and_chain(&pebble.stored()));
    until("it is in force", || node.log().contains("there is a certificate for a.example, b.example"));
    // The paths are gone, and the site's redirect is as it was.
    until("the proofs are gone", || {
        ask(pebble.http, "a.example", "/.well-known/acme-challenge/x").starts_with("HTTP/1.1 308")
    });
    let account = fs::read_to_string(pebble.folder.0.join("storage/account.json")).expect("an account");
    drop(node);

    // The next run has all it needs: no order, the same account. What is nearly over is renewed.
    let orders = |log: &str| log.matches("/order-plz").count();
    let before = orders(&pebble.log());
    assert!(before > 0, "{}", pebble.log());
    let first = fs::read_to_string(pebble.stored()).expect("a certificate");
    let node = Node::start("acme", &pebble.config("http-01", &listener));
    assert_eq!(orders(&pebble.log()), before);
    drop(node);
    let old = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["cert", "self-signed", "a.example", "b.example", "--days", "0"])
        .output()
        .expect("millrace runs");
    assert_eq!(old.status.code(), Some(2), "none can be made that is over");
    fs::write(pebble.stored(), nearly_over()).expect("writable");
    let node = Node::start("acme", &pebble.config("http-01", &listener));
    until("it is renewed", || is_key_and_chain(&pebble.stored()));
    assert_ne!(fs::read_to_string(pebble.stored()).expect("a certificate"), first);
    assert_eq!(
        fs::read_to_string(pebble.folder.0.join("storage/account.json")).expect("an account"),
        account
    );
    drop(node);
}

/// A key and a certificate of ninety days, of which one is left.
fn nearly_over() -> String {
    let mut params =
        rcgen::CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()]).expect("names");
    let day = Duration::from_secs(86_400);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs((now - 89 * day).as_secs());
    params.not_after = epoch + Duration::from_secs((now + day).as_secs());
    let key = rcgen::KeyPair::generate().expect("a key");
    format!("{}{}", key.serialize_pem(), params.self_signed(&key).expect("a certificate").pem())
}

#[test]
fn by_a_handshake_that_the_cores_shake() {
    let Some(pebble) = Pebble::start("cores") else { return };
    let listener = format!("https = {}", pebble.https);
    let node = Node::start("acme-tls", &pebble.config("tls-alpn-01", &listener));
    until("there is a certificate", || is_key_and_chain(&pebble.stored()));
    until("it is in force", || node.log().contains("there is a certificate for a.example, b.example"));
}

/// Ends a load, also where the test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A certificate is renewed, and proved by the same port, while clients ask all the time, by connections that they keep
/// and by new ones: none of them notices.
#[test]
fn a_renewal_fails_no_request() {
    let Some(pebble) = Pebble::start("renewal") else { return };
    let old = nearly_over();
    fs::create_dir_all(pebble.folder.0.join("storage")).expect("writable");
    fs::write(pebble.stored(), &old).expect("writable");
    let old = CertificateDer::from_pem_slice(old.as_bytes()).expect("PEM");
    let trusting = clients::config(&[&old, &pebble.root()], None);
    // The order waits until the load is there.
    pebble.signal(Signal::STOP);
    let listener = format!("https = {}", pebble.https);
    let config = pebble.config_with("tls-alpn-01", &listener, &clients::echo().to_string());
    let node = Node::start("acme-renewal", &config);
    let (asked, renewed) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let connect = || Client::connect(pebble.https, &trusting, "a.example");
    let failed = thread::scope(|s| {
        let _ends = Stops(&stop);
        let ask = || -> std::io::Result<()> {
            let mut kept = connect()?;
            while !stop.load(Ordering::Relaxed) {
                let mut new = connect()?;
                if *new.shown() != old {
                    renewed.fetch_add(1, Ordering::Relaxed);
                }
                for client in [&mut kept, &mut new] {
                    let (status, _) = client.ask("/", "a.example", "")?;
                    if status != 200 {
                        return Err(std::io::Error::other(format!("status {status}")));
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let load: Vec<_> = (0..3).map(|_| s.spawn(ask)).collect();
        let over = || load.iter().any(ScopedJoinHandle::is_finished);
        until("there is a load", || over() || asked.load(Ordering::Relaxed) > 50);
        assert_eq!(renewed.load(Ordering::Relaxed), 0);
        pebble.signal(Signal::CONT);
        until("new connections have the new one", || over() || renewed.load(Ordering::Relaxed) > 50);
        stop.store(true, Ordering::Relaxed);
        let ends = load.into_iter().map(|l| l.join().expect("no panic"));
        ends.filter_map(Result::err).map(|e| e.to_string()).collect::<Vec<_>>()
    });
    assert_eq!(failed, [""; 0], "of {} requests", asked.into_inner());
    assert!(is_key_and_chain(&pebble.stored()));
    drop(node);
}

/// As many orders as there are sites, one behind the other, while answers begin and none ends: what an order shows and what
/// it brings are no new config for requests.
#[test]
fn many_orders_end_no_long_answer() {
    const SITES: usize = 4;
    let Some(pebble) = Pebble::start("many") else { return };
    let site = |n| {
        format!(
            "[[site]]\nhosts = \"s{n}.example\"\norigin = \"http://{}\"\ncertificate = \"acme\"\n",
            clients::slow()
        )
    };
    let listener = format!("http = {}\nhttps = {}", pebble.http, pebble.https);
    let config = pebble.config("http-01", &listener);
    let (before, rest) = config.split_once("[[site]]").expect("a site");
    let (_, acme) = rest.split_once("[acme]").expect("ACME");
    let sites: String = (0..SITES).map(site).collect();
    pebble.signal(Signal::STOP);
    let node = Node::start("acme-many", &format!("{before}{sites}[acme]{acme}"));
    let mut answers = vec![clients::Long::begin(pebble.http, "s0.example")];
    pebble.signal(Signal::CONT);
    until("there are certificates for all", || {
        answers.push(clients::Long::begin(pebble.http, "s1.example"));
        node.log().matches("ACME: there is a certificate for").count() == SITES
    });
    let trusting = clients::config(&[&pebble.root()], None);
    until("the last is in force", || {
        answers.push(clients::Long::begin(pebble.http, "s2.example"));
        Client::connect(pebble.https, &trusting, "s3.example").is_ok()
    });
    let whole = answers.into_iter().map(|a| a.end()).collect::<Vec<_>>();
    assert_eq!(whole.iter().filter(|w| !**w).count(), 0, "of {}", whole.len());
    assert!(whole.len() > 3 * SITES, "{}", whole.len());
    assert_eq!(node.counter("http.plan_ended"), Some(0));
}

/// The node's part is played here: what the thread wants shown is shown by rustls itself.
#[test]
fn by_a_handshake() {
    let Some(pebble) = Pebble::start("tls") else { return };
    let file = pebble.folder.0.join("edge.toml");
    fs::write(&file, pebble.config("tls-alpn-01", &format!("https = {}", pebble.https))).expect("writable");
    let config = config::load(&file, &Machine::this()).expect("good").config;
    let board = Arc::<Board>::default();
    board.follow(&config);
    let acme = Acme::start(Arc::clone(&board)).expect("a thread");
    let listener = TcpListener::bind(("127.0.0.1", pebble.https)).expect("a port");
    listener.set_nonblocking(true).expect("possible");
    let mut shaken = 0;
    until("there is a certificate", || {
        let news = board.news();
        if let Some(at) = news.as_ref().and_then(|n| n.show) {
            board.taken(at);
        }
        if let Ok((stream, _)) = listener.accept() {
            shake(stream, &board);
            shaken += 1;
        }
        news.is_some_and(|n| n.renewed)
    });
    assert!(shaken >= 2, "both names were looked at");
    assert!(is_key_and_chain(&pebble.stored()));
    assert!(board.shown().is_empty());
    let mut config = config;
    config.take_stored_certificates().expect("a good one");
    assert_eq!(config.sites[0].tls.certificates.len(), 1);
    assert!(config.sites[0].hosts.iter().all(|h| config.sites[0].tls.certificates[0].covers(h)));
    drop(acme);
}

/// Shows the certificate of the name that is asked for.
#[derive(Debug)]
struct ByName(Vec<(String, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        self.0.iter().find(|(n, _)| n == name).map(|(_, c)| Arc::clone(c))
    }
}

fn shake(mut stream: TcpStream, board: &Board) {
    let tls = |s: millrace::acme::Shown| match s.proof {
        Proof::Tls(certificate) => Some((s.name, certificate)),
        Proof::Http { .. } => None,
    };
    let shown = board.shown().into_iter().filter_map(tls).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(shown)));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let mut connection = ServerConnection::new(Arc::new(config)).expect("a connection");
    stream.set_nonblocking(false).expect("possible");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("possible");
    while connection.is_handshaking() {
        if connection.complete_io(&mut stream).is_err() {
            return;
        }
    }
}

#[test]
fn a_server_that_refuses_is_heard() {
    let Some(pebble) = Pebble::start("refused") else { return };
    // Nobody answers where the server looks.
    let [elsewhere] = free_ports();
    let node = Node::start("acme", &pebble.config("http-01", &format!("http = {elsewhere}")));
    until("it is said", || node.log().contains("ACME: no certificate for a.example, b.example: "));
    let log = node.log();
    assert!(log.contains("connection refused") && log.contains("/.well-known/acme-challenge/"), "{log}");
    assert!(log.contains("tried again in 15 minutes"), "{log}");
    assert!(!pebble.stored().exists());
    drop(node);
}
