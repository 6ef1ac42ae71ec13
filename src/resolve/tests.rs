//! The resolver against a name server of a few lines, on loopback.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;

use super::*;

/// What the name server says to a question.
#[derive(Clone)]
enum Says {
    /// These addresses (those of the question's family), with this TTL.
    Addresses(&'static str, u32),
    /// This response code without records: 2 is SERVFAIL, 3 NXDOMAIN.
    Code(u8),
    /// Nothing.
    Silence,
}

/// A name server whose answers a test sets.
struct Server {
    address: SocketAddr,
    says: Arc<Mutex<HashMap<String, Says>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let address = socket.local_addr().expect("an address");
        let says: Arc<Mutex<HashMap<String, Says>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (its_says, its_stop) = (Arc::clone(&says), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut packet = [0u8; 1500];
            while !its_stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut packet) else { continue };
                let says = its_says.lock().expect("no panic").clone();
                if let Some(answer) = answer(&packet[..len], &says) {
                    socket.send_to(&answer, from).expect("loopback");
                }
            }
        });
        Server { address, says, stop, thread: Some(thread) }
    }

    fn says(&self, name: &str, what: Says) {
        self.says.lock().expect("no panic").insert(name.to_string(), what);
    }

    fn settings(&self) -> Settings {
        // A second at least, as in a config: the tests wait for changes, never for times.
        let hosts_file = PathBuf::from("/nonexistent");
        Settings { servers: vec![self.address], ttl_min: Duration::from_millis(50), hosts_file }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("no panic");
    }
}

/// A response by RFC 1035, section 4.
fn answer(question: &[u8], says: &HashMap<String, Says>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while question[at] != 0 {
        let len = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..at + 1 + len]).to_ascii_lowercase());
        at += 1 + len;
    }
    let v6 = question[at + 2] == 28;
    let (code, addresses, ttl) = match says.get(&labels.join("."))? {
        Says::Silence => return None,
        Says::Code(code) => (*code, "", 0),
        Says::Addresses(addresses, ttl) => (0, *addresses, *ttl),
    };
    let addresses: Vec<IpAddr> = addresses
        .split_whitespace()
        .map(|a| a.parse().expect("an address"))
        .filter(|a: &IpAddr| a.is_ipv6() == v6)
        .collect();
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    out.extend(&question[12..at + 5]);
    for address in addresses {
        out.extend([0xc0, 12, 0, if v6 { 28 } else { 1 }, 0, 1]);
        out.extend(ttl.to_be_bytes());
        match address {
            IpAddr::V4(a) => out.extend([&[0, 4], &a.octets()[..]].concat()),
            IpAddr::V6(a) => out.extend([&[0, 16], &a.octets()[..]].concat()),
        }
    }
    Some(out)
}

type Updates = std_mpsc::Receiver<(String, String)>;

fn start(settings: Settings, names: &[&str]) -> (Resolve, Updates) {
    let (tx, updates) = std_mpsc::channel();
    let show = |a: &[IpAddr]| a.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    let on_update: OnUpdate =
        Box::new(move |name, addresses| drop(tx.send((name.to_string(), show(addresses)))));
    let names = names.iter().map(|n| (*n).to_string()).collect();
    (Resolve::start(settings, names, on_update).expect("a thread"), updates)
}

/// The next update; a minute is for machines under load.
fn next(updates: &Updates) -> (String, String) {
    updates.recv_timeout(Duration::from_secs(60)).expect("an update")
}

fn update(name: &str, addresses: &str) -> (String, String) {
    (name.to_string(), addresses.to_string())
}

#[test]
fn changes_come_as_the_ttl_ends_and_failures_change_nothing() {
    let server = Server::start();
    server.says("a.example", Says::Addresses("192.0.2.2 192.0.2.1 2001:db8::1", 0));
    let (resolve, updates) = start(server.settings(), &["a.example"]);
    assert!(resolve.wait_first(Duration::from_secs(60)).is_empty());
    assert_eq!(next(&updates), update("a.example", "2001:db8::1 192.0.2.1 192.0.2.2"));
    assert_eq!(resolve.addresses("a.example").len(), 3);
    // The order is not news, and neither are failures: the next update is the one after them.
    for quiet in [
        Says::Addresses("192.0.2.1 2001:db8::1 192.0.2.2", 0),
        Says::Code(2),
        Says::Code(3),
        Says::Code(5),
        Says::Addresses("", 0),
    ] {
        server.says("a.example", quiet);
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(resolve.addresses("a.example").len(), 3);
    }
    server.says("a.example", Says::Addresses("192.0.2.3", 0));
    assert_eq!(next(&updates), update("a.example", "192.0.2.3"));
}

#[test]
fn a_name_without_an_answer_has_no_address_until_it_has_one() {
    let server = Server::start();
    server.says("up.example", Says::Addresses("192.0.2.1", 3600));
    server.says("gone.example", Says::Code(3));
    server.says("silent.example", Says::Silence);
    let (resolve, updates) = start(server.settings(), &["up.example", "gone.example", "silent.example"]);
    assert_eq!(next(&updates), update("up.example", "192.0.2.1"));
    // Whether the silent one has been given up by then or not: it has no address.
    assert_eq!(resolve.wait_first(Duration::from_millis(300)), ["gone.example", "silent.example"]);
    server.says("gone.example", Says::Addresses("2001:db8::9", 3600));
    assert_eq!(next(&updates), update("gone.example", "2001:db8::9"));
    server.says("silent.example", Says::Addresses("192.0.2.8", 3600));
    assert_eq!(next(&updates), update("silent.example", "192.0.2.8"));
}

#[test]
fn a_long_ttl_is_honoured() {
    let server = Server::start();
    server.says("a.example", Says::Addresses("192.0.2.1", 3600));
    server.says("b.example", Says::Addresses("192.0.2.1", 0));
    let (_resolve, updates) = start(server.settings(), &["a.example", "b.example"]);
    let mut first = [next(&updates), next(&updates)];
    first.sort();
    assert_eq!(first, [update("a.example", "192.0.2.1"), update("b.example", "192.0.2.1")]);
    server.says("a.example", Says::Addresses("192.0.2.2", 3600));
    for addresses in ["192.0.2.3", "192.0.2.4"] {
        server.says("b.example", Says::Addresses(addresses, 0));
        assert_eq!(next(&updates), update("b.example", addresses), "only the one with the short TTL");
    }
}

#[test]
fn the_hosts_file_goes_first() {
    let server = Server::start();
    server.says("a.example", Says::Addresses("192.0.2.1", 3600));
    server.says("b.example", Says::Addresses("192.0.2.1", 3600));
    let hosts_file = std::env::temp_dir().join(format!("millrace-hosts-{}", std::process::id()));
    std::fs::write(&hosts_file, "203.0.113.1 a.example\n").expect("writable");
    let settings = Settings { hosts_file: hosts_file.clone(), ..server.settings() };
    let (resolve, _updates) = start(settings, &["a.example", "b.example"]);
    assert!(resolve.wait_first(Duration::from_secs(60)).is_empty());
    let addresses = |name| resolve.addresses(name).first().map(IpAddr::to_string);
    assert_eq!(addresses("a.example").as_deref(), Some("203.0.113.1"));
    assert_eq!(addresses("b.example").as_deref(), Some("192.0.2.1"));
    std::fs::remove_file(hosts_file).expect("removable");
}

#[test]
fn a_reload_keeps_what_is_known() {
    let server = Server::start();
    server.says("a.example", Says::Addresses("192.0.2.1", 3600));
    server.says("b.example", Says::Addresses("192.0.2.2", 3600));
    let (resolve, updates) = start(server.settings(), &["a.example"]);
    assert_eq!(next(&updates), update("a.example", "192.0.2.1"));
    assert!(resolve.wait_first(Duration::from_secs(60)).is_empty());
    server.says("a.example", Says::Code(2));
    resolve.set(server.settings(), vec!["a.example".into(), "b.example".into()]);
    assert_eq!(resolve.addresses("a.example").len(), 1, "at once");
    assert!(resolve.wait_first(Duration::from_secs(60)).is_empty());
    assert_eq!(next(&updates), update("b.example", "192.0.2.2"));
    resolve.set(server.settings(), vec!["b.example".into()]);
    assert!(resolve.addresses("a.example").is_empty(), "nobody asks for it any more");
    assert!(resolve.wait_first(Duration::from_secs(60)).is_empty());
}

#[test]
fn more_names_than_are_looked_up_at_once() {
    let server = Server::start();
    let names: Vec<String> = (0..3 * AT_ONCE_MAX).map(|n| format!("n{n}.example")).collect();
    for name in &names {
        server.says(name, Says::Addresses("192.0.2.1", 3600));
    }
    let (resolve, _updates) = start(server.settings(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(resolve.wait_first(Duration::from_secs(60)).is_empty());
    assert!(names.iter().all(|n| resolve.addresses(n).len() == 1));
}

#[test]
fn the_names_of_a_config() {
    let source = "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttp = 8080\n\
                  [[site]]\nhosts = \"*\"\norigin = [\"http://b.example\", \"http://192.0.2.1\", \"http://a.example:1\"]\n\
                  [[site.route]]\npath = \"/x\"\norigin = \"http://B.example:8080\"\n";
    let machine = config::Machine { cores: vec![0], memory_bytes: 1 << 30 };
    let config = config::parse(std::path::Path::new("t.toml"), source, &machine).expect("good");
    assert_eq!(names(&config), ["a.example", "b.example"]);
    let settings = Settings::from(&config.resolver);
    assert_eq!(settings.ttl_min, Duration::from_secs(5));
}
