//! What an operator tells a running node: the real binary on a host port, with two cores where there are two CPUs. No
//! privilege is needed.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use running::{Node, PATIENCE};

mod running;

/// An origin that answers every request with `word`; `/wait` only once it is told to go on.
struct Origin {
    at: SocketAddr,
    asked: Arc<AtomicU64>,
    go: mpsc::Sender<()>,
}

fn origin(word: &'static str) -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let (go, gone) = mpsc::channel();
    let gone = Arc::new(std::sync::Mutex::new(gone));
    thread::spawn(move || {
        for mut s in listener.incoming().map_while(Result::ok) {
            let (count, gone) = (Arc::clone(&count), Arc::clone(&gone));
            thread::spawn(move || {
                let (mut head, mut buf) = (Vec::new(), [0; 4096]);
                while let Ok(n @ 1..) = s.read(&mut buf) {
                    head.extend_from_slice(&buf[..n]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    if head.starts_with(b"GET /wait") {
                        let _ = gone.lock().expect("whole").recv_timeout(PATIENCE);
                    }
                    head.clear();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len());
                    let _ = s.write_all(answer.as_bytes());
                }
            });
        }
    });
    Origin { at, asked, go }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

fn config(http: u16, origin: SocketAddr) -> String {
    let cores = if two_cpus() { "cores = [0, 1]\n" } else { "" };
    format!(
        "[node]\nname = \"ctl\"\nmemory = \"64MiB\"\n{cores}\n[[port]]\nname = \"lo\"\nkind = \"host\"\n\n\
         [[listener]]\naddress = \"127.0.0.1\"\nhttp = {http}\n\n\
         [[site]]\nhosts = \"*\"\norigin = \"http://{origin}\"\n"
    )
}

fn two_cpus() -> bool {
    thread::available_parallelism().map_or(1, usize::from) > 1
}

fn get(http: u16, path: &str) -> String {
    let mut s = TcpStream::connect(("127.0.0.1", http)).expect("taken");
    s.set_read_timeout(Some(PATIENCE)).expect("set");
    s.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("sent");
    let mut all = String::new();
    s.read_to_string(&mut all).expect("an answer");
    all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {all:?}")).1.to_owned()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn reload_is_whole_or_not_at_all() {
    let (http, one, two) = (free_port(), origin("one"), origin("two"));
    let good = config(http, one.at);
    let mut node = Node::start("reload", &good);
    assert_eq!(mode(&node.dir.join("run/ctl/control.sock")), 0o600);
    assert_eq!(get(http, "/"), "one");

    let (code, said) = node.says(&["reload"]);
    assert_eq!((code, said.trim()), (0, "nothing has changed in the config"));

    // An error: file, line, cause, mend; the old config stays in force.
    node.write(&good.replace("http://", "ftp://"));
    let (code, said) = node.says(&["reload", "--node", "ctl"]);
    let text = fs::read_to_string(node.file()).expect("there");
    let line = 1 + text.lines().position(|l| l.contains("ftp")).expect("it");
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with(&format!("{}:{line}: ", node.file().display())), "{said}");
    assert!(said.lines().count() == 1 && said.contains("; "), "{said}");
    let answer = node.json(&["reload", "--json"]);
    assert_eq!(
        (&answer["ok"], &answer["exit"], &answer["changed"]),
        (&false.into(), &1.into(), &false.into())
    );
    assert_eq!(answer["errors"][0]["line"], line);
    assert_eq!(get(http, "/"), "one");

    // Good, but not while it runs: every key is named, and nothing of it is taken.
    for (from, to, key) in [
        ("memory = \"64MiB\"", "memory = \"96MiB\"", "node.memory"),
        ("name = \"ctl\"", "name = \"other\"", "node.name"),
        ("kind = \"host\"", "kind = \"host\"\nmtu = 1400", "port[0].mtu"),
        ("http = ", "http = 1", "listener"),
        // It has nothing set aside for TLS.
        (
            "origin = \"http:",
            "origin_tls = { verify = false }\norigin = \"https:",
            "site.origin (the first by https)",
        ),
    ] {
        let change = good.replace(from, to).replace(&one.at.to_string(), &two.at.to_string());
        // Another port number must still be one.
        node.write(&if key == "listener" {
            change.replace(&format!("http = 1{http}"), "http = 8099")
        } else {
            change
        });
        let (code, said) = node.says(&["reload"]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!(": {key} cannot change while the node runs; ")), "{key}: {said}");
        assert_eq!(node.json(&["reload", "--json"])["fixed"][0], key);
        assert_eq!(get(http, "/"), "one");
    }

    // A request that is under way ends as it began; the next one goes to the new origin.
    let asked = one.asked.load(Ordering::Relaxed);
    let waiting = thread::spawn(move || get(http, "/wait"));
    node.until("the origin has it", || one.asked.load(Ordering::Relaxed) > asked);
    node.write(&config(http, two.at));
    let answer = node.json(&["reload", "--json"]);
    assert_eq!((&answer["ok"], &answer["changed"]), (&true.into(), &true.into()), "{answer}");
    for _ in 0..20 {
        assert_eq!(get(http, "/"), "two");
    }
    one.go.send(()).expect("it waits");
    assert_eq!(waiting.join().expect("answered"), "one");

    // SIGHUP does the same, and says so in the log.
    node.write(&good);
    node.signal(Signal::HUP);
    node.until("the log says so", || node.log().matches("the new config is in force").count() == 2);
    assert_eq!(get(http, "/"), "one");
    node.write("nonsense");
    let refused = || node.log().matches("reload refused, the old config stays in force").count();
    let before = refused();
    node.signal(Signal::HUP);
    node.until("the log says so", || refused() > before);
    assert_eq!(get(http, "/"), "one");

    let (code, said) = node.says(&["drain"]);
    assert_eq!(code, 0, "{said}");
    node.end();
    assert!(!node.dir.join("run/ctl/control.sock").exists());
    for verb in ["reload", "drain"] {
        let (code, said) = node.says(&[verb]);
        assert_eq!((code, said.lines().count()), (3, 1), "{said}");
    }
}

#[test]
fn cores_behind_a_host_port() {
    let (http, one) = (free_port(), origin("one"));
    let mut node = Node::start("cores", &config(http, one.at));
    let cores = if two_cpus() { 2 } else { 1 };
    // Whichever bridge is first has a connection: some go to each when many come at once.
    let requests = || -> Vec<u64> {
        let s = node.json(&["stats", "--json"]);
        let cores = s["cores"].as_array().expect("cores");
        cores.iter().map(|c| c["counters"]["http.requests"].as_u64().expect("a count")).collect()
    };
    let until = Instant::now() + PATIENCE;
    while requests().contains(&0) {
        thread::scope(|s| {
            for _ in 0..16 {
                s.spawn(|| assert_eq!(get(http, "/"), "one"));
            }
        });
        assert!(Instant::now() < until, "{:?}", requests());
    }
    assert_eq!(requests().len(), cores);
    let answer = node.json(&["drain", "--json"]);
    assert_eq!((&answer["ok"], &answer["already"]), (&true.into(), &false.into()));
    node.end();
}

/// A connection that is kept open after an answer.
fn kept(http: u16) -> TcpStream {
    let mut s = TcpStream::connect(("127.0.0.1", http)).expect("taken");
    s.set_read_timeout(Some(PATIENCE)).expect("set");
    s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let (mut all, mut buf) = (Vec::new(), [0; 512]);
    while !all.ends_with(b"one") {
        let n = s.read(&mut buf).expect("an answer");
        assert!(n > 0, "closed after {all:?}");
        all.extend_from_slice(&buf[..n]);
    }
    s
}

#[test]
fn connections_are_shown() {
    let (http, one) = (free_port(), origin("one"));
    let node = Node::start("flows", &config(http, one.at));
    let open: Vec<TcpStream> = (0..5).map(|_| kept(http)).collect();
    let flows = |args: &[&str]| -> Vec<serde_json::Value> {
        let all = node.json(&[&["flows", "--json"], args].concat());
        assert_eq!(all["shown"].as_u64(), all["flows"].as_array().map(|f| f.len() as u64), "{all}");
        all["flows"].as_array().expect("a list").clone()
    };
    let clients = flows(&["--role", "client", "--state", "established"]);
    assert_eq!(clients.len(), 5, "{clients:?}");
    for s in &open {
        // The bridge's end has a port of its own choice: what is the same is where they went to.
        assert_eq!(s.peer_addr().expect("connected").port(), http);
    }
    for f in &clients {
        assert_eq!(f["local"], format!("127.0.0.1:{http}"));
        assert_eq!((&f["state"], &f["listener"], &f["port"]), (&"ESTAB".into(), &0.into(), &0.into()));
        assert!(f["cwnd_bytes"].as_u64() > Some(0) && f["mss_bytes"].as_u64() > Some(500), "{f}");
        assert!(f["since_sent_us"].is_u64() && f["in_flight_bytes"] == 0 && f["unacked_bytes"] == 0, "{f}");
        assert_eq!((&f["algorithm"], &f["recovery"]), (&"cubic".into(), &"open".into()));
        // A request of 27 bytes, an answer of a head and three bytes more.
        assert_eq!(f["bytes_received"], 27, "{f}");
        assert!(f["bytes_acked"].as_u64() > Some(40) && f["bytes_acked"] == f["bytes_sent"], "{f}");
        assert!(f["srtt_us"].as_u64() > Some(0) && f["segments_sent"].as_u64() > Some(1), "{f}");
    }
    let origins = flows(&["--role", "origin", "--peer", &one.at.to_string()]);
    assert!(!origins.is_empty() && origins.iter().all(|f| f["listener"].is_null()), "{origins:?}");

    assert_eq!(flows(&["--local", &format!(":{http}"), "--limit", "2"]).len(), 2);
    assert_eq!(flows(&["--listener", "0"]).len(), 5);
    assert!(flows(&["--listener", "1"]).is_empty());
    assert!(flows(&["--peer", "192.0.2.0/24"]).is_empty());
    let sorted = flows(&["--sort", "idle", "--limit", "3"]);
    let idle: Vec<u64> = sorted.iter().map(|f| f["since_received_us"].as_u64().expect("a time")).collect();
    assert!(idle.len() == 3 && idle.is_sorted_by(|a, b| a >= b), "{idle:?}");

    let (code, text) = node.says(&["flows", "--role", "client"]);
    assert_eq!((code, text.lines().count()), (0, 1 + 2 * 5), "{text}");
    assert!(text.starts_with("STATE ") && text.contains(" cwnd:") && text.contains(" lastrcv:"), "{text}");
    for (args, part) in [
        (&["flows", "--state", "open"][..], "is no state of a connection; choose from"),
        (&["flows", "--peer", "10.0.0.1/8"], "write \"10.0.0.0/8\""),
        (&["flows", "--sort", "age"], "choose from srtt"),
    ] {
        let (code, said) = node.says(args);
        assert!(code == 2 && said.contains(part), "{code} {said}");
    }
    // The sums hold those, and go on when they have ended.
    let sums = || node.json(&["stats", "tcp", "--json"])["tcp"]["listeners"][0].clone();
    let before = sums();
    assert_eq!((&before["listener"], &before["algorithm"]), (&0.into(), &"cubic".into()), "{before}");
    assert_eq!((&before["open"], &before["opened"]), (&5.into(), &5.into()), "{before}");
    assert_eq!(before["bytes_received"], 5 * 27);
    assert!(before["goodput_bytes_per_second"].is_u64() && before["srtt_mean_us"].is_u64(), "{before}");
    let (code, text) = node.says(&["stats", "tcp"]);
    assert!(code == 0 && text.starts_with("connections ") && text.contains("\nlistener 0  cubic "), "{text}");
    assert!(text.contains("\norigins     cubic ") && text.contains("tcp.passive_opens"), "{text}");
    drop(open);
    node.until("all clients have gone", || flows(&["--role", "client", "--state", "estab"]).is_empty());
}

#[test]
fn congestion_control_is_chosen_and_chosen_anew() {
    let (http, one) = (free_port(), origin("one"));
    let listener = format!("http = {http}\ncongestion = \"reno\"\n");
    let first = config(http, one.at).replace(&format!("http = {http}\n"), &listener);
    let node = Node::start("congestion", &first);
    let algorithms = || -> Vec<String> {
        let all = node.json(&["flows", "--json", "--role", "client", "--state", "estab"]);
        let flows = all["flows"].as_array().expect("a list");
        flows.iter().map(|f| f["algorithm"].as_str().expect("a name").to_owned()).collect()
    };
    let old = kept(http);
    assert_eq!(algorithms(), ["reno"]);

    // For connections to come.
    let split = format!("{listener}split = {{ bbr = 100 }}\n");
    node.write(&first.replace(&listener, &split));
    assert_eq!(node.json(&["reload", "--json"])["changed"], true);
    let new = kept(http);
    let mut both = algorithms();
    both.sort();
    assert_eq!(both, ["bbr", "reno"]);
    assert_eq!(node.json(&["flows", "--json", "--algorithm", "bbr"])["shown"], 1);

    // A site's, from the first request for it on; the listener's stays what it was for others.
    node.write(&first.replace("hosts = \"*\"", "hosts = \"*\"\ncongestion = \"cubic\""));
    assert_eq!(node.json(&["reload", "--json"])["changed"], true);
    let third = kept(http);
    assert!(algorithms().contains(&"cubic".to_owned()));
    let sums = node.json(&["stats", "tcp", "--json"]);
    let rows = sums["tcp"]["algorithms"].as_array().expect("a list");
    let mut opened: Vec<_> =
        rows.iter().map(|r| (r["algorithm"].as_str().expect("a name"), &r["opened"])).collect();
    opened.sort_by_key(|(name, _)| *name);
    assert_eq!(opened, [("bbr", &1.into()), ("cubic", &1.into()), ("reno", &1.into())]);
    drop((old, new, third));

    // What listeners are cannot change; how they treat connections can.
    node.write(&first.replace(&listener, &format!("{listener}connections_max = 1\n")));
    assert_eq!(node.json(&["reload", "--json"])["changed"], true);
    node.write(&first.replace(&listener, &format!("{listener}proxy_protocol = true\n")));
    assert_eq!(node.json(&["reload", "--json"])["fixed"][0], "listener");
}
