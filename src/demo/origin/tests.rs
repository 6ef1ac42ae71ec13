//! The origin over real sockets, spoken to in plain bytes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::*;

fn origin() -> DemoOrigin {
    start(Arc::new(|| "{\"node\":{\"name\":\"test\"}}".to_string())).expect("a free port")
}

/// Head and body of one request on a connection of its own.
fn fetch(origin: &DemoOrigin, request: &str) -> (String, Vec<u8>) {
    fetch_bytes(origin, request.as_bytes())
}

fn fetch_bytes(origin: &DemoOrigin, request: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(origin.address()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it closes");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let body = answer.split_off(end);
    (String::from_utf8(answer).expect("ASCII"), body)
}

fn get(origin: &DemoOrigin, target: &str) -> (String, Vec<u8>) {
    fetch(origin, &format!("GET {target} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n"))
}

fn is_pattern(body: &[u8]) -> bool {
    body.iter().enumerate().all(|(i, byte)| *byte == byte_at(i as u64))
}

#[test]
fn small_objects() {
    let origin = origin();
    let (head, body) = get(&origin, "/");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/html"), "{head}");
    let page = String::from_utf8(body).expect("UTF-8");
    assert!(page.starts_with("<!doctype html>"));

    let (head, body) = get(&origin, "/stats.json");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_eq!(body, b"{\"node\":{\"name\":\"test\"}}");

    assert_ne!(get(&origin, "/uncacheable").1, get(&origin, "/uncacheable").1);
    assert!(get(&origin, "/fail").0.starts_with("HTTP/1.1 500"));
    assert!(get(&origin, "/none").0.starts_with("HTTP/1.1 404"));
    assert!(get(&origin, "/bytes/x").0.starts_with("HTTP/1.1 400"));
    assert!(get(&origin, "/bytes/1073741825").0.starts_with("HTTP/1.1 400"));
    assert!(get(&origin, "/echo").0.starts_with("HTTP/1.1 405"));
}

#[test]
fn the_page_names_nothing_from_elsewhere() {
    let page = include_str!("../page.html");
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "//cdn"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn cacheable_is_revalidated() {
    let origin = origin();
    let (head, body) = get(&origin, "/cacheable");
    assert!(
        head.contains("cache-control: max-age=60") && head.contains("etag: \"millrace-demo-1\""),
        "{head}"
    );
    assert!(!body.is_empty());
    let request = "GET /cacheable HTTP/1.1\r\nHost: demo\r\nIf-None-Match: \"x\", W/\"millrace-demo-1\"\r\nConnection: close\r\n\r\n";
    let (head, body) = fetch(&origin, request);
    assert!(head.starts_with("HTTP/1.1 304") && head.contains("etag"), "{head}");
    assert!(body.is_empty());
}

#[test]
fn large_bodies_are_the_pattern() {
    let origin = origin();
    let (head, body) = get(&origin, "/large");
    assert!(head.contains("content-length: 16777216\r\n"), "{head}");
    assert_eq!(body.len() as u64, LARGE_BYTES);
    assert!(is_pattern(&body));

    let (head, body) = get(&origin, "/large?chunked");
    assert!(head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"), "{head}");
    assert!(body.len() as u64 > LARGE_BYTES && body.ends_with(b"0\r\n\r\n"));

    for n in [0, 1, 63, 64, 65, 65_535, 65_536, 65_537, 200_000] {
        let (head, body) = get(&origin, &format!("/bytes/{n}"));
        assert!(head.contains(&format!("content-length: {n}\r\n")), "{head}");
        assert_eq!(body.len(), n);
        assert!(is_pattern(&body));
    }
    let (head, body) = fetch(&origin, "HEAD /large HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n");
    assert!(head.contains("content-length: 16777216\r\n") && body.is_empty(), "{head}");
}

#[test]
fn slow_takes_its_time() {
    let origin = origin();
    let start = Instant::now();
    let mut stream = TcpStream::connect(origin.address()).expect("it listens");
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").expect("sent");
    let mut first = [0];
    stream.read_exact(&mut first).expect("a byte");
    assert!(start.elapsed() >= SLOW_FIRST_BYTE - Duration::from_millis(20));
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("it closes");
    assert!(start.elapsed() >= SLOW_FIRST_BYTE + SLOW_EVERY * (SLOW_PIECES - 1) - Duration::from_millis(50));
    assert_eq!(rest.matches("drop\n").count() as u32, SLOW_PIECES);
}

#[test]
fn fail_close_breaks_off_in_the_body() {
    let origin = origin();
    let (head, body) = get(&origin, "/fail/close");
    assert!(head.contains("content-length: 65536\r\n"), "{head}");
    assert!(!body.is_empty() && body.len() < 65536, "{} bytes", body.len());
}

#[test]
fn echo_counts_what_arrives() {
    let origin = origin();
    let mut request =
        b"POST /echo HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n".to_vec();
    request.resize(request.len() + 3_000_000, b'x');
    assert_eq!(fetch_bytes(&origin, &request).1, b"{\"length\":3000000}\n");
    let chunked = "PUT /echo HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(fetch(&origin, chunked).1, b"{\"length\":5}\n");
    assert_eq!(
        fetch(&origin, "POST /echo HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").1,
        b"{\"length\":0}\n"
    );
}

#[test]
fn a_stopped_origin_is_gone() {
    let origin = origin();
    let address = origin.address();
    // An idle keep-alive connection must not hold it up.
    let mut idle = TcpStream::connect(address).expect("it listens");
    idle.write_all(b"GET /cacheable HTTP/1.1\r\nHost: demo\r\n\r\n").expect("sent");
    let mut some = [0; 16];
    idle.read_exact(&mut some).expect("an answer");
    let start = Instant::now();
    origin.shutdown();
    assert!(start.elapsed() < STOP_PATIENCE, "it waited for an idle connection");
    assert!(TcpStream::connect(address).is_err());
}

/// For looking at the page: `cargo test -p millrace --lib -- --ignored --nocapture serve_the_page`, then open the
/// URL. Serves for ten minutes (or `MILLRACE_DEMO_SECONDS`) with made-up statistics.
#[test]
#[ignore = "for people: serves the page until the time is over"]
fn serve_the_page() {
    let began = Instant::now();
    let stats = move || {
        let s = began.elapsed().as_secs_f64() + 100.0;
        let n = |per_second: f64| (s * per_second) as u64;
        serde_json::json!({
            "node": {"name": "demo", "uptime_seconds": s as u64, "port_kind": "host", "busy_percent": 12.4},
            "stages": [
                {"name": "rx", "calls": n(900.0), "packets": n(4100.0), "cycles": n(290_000.0)},
                {"name": "parse", "calls": n(900.0), "packets": n(4100.0), "cycles": n(120_000.0)},
                {"name": "tcp", "calls": n(900.0), "packets": n(4090.0), "cycles": n(610_000.0)},
                {"name": "http", "calls": n(300.0), "packets": n(1200.0), "cycles": n(400_000.0)},
                {"name": "tx", "calls": n(850.0), "packets": n(3900.0), "cycles": n(210_000.0)}
            ],
            "http": {"requests": n(310.0), "responses_2xx": n(300.0), "responses_3xx": n(2.0),
                     "responses_4xx": n(5.0), "responses_5xx": n(3.0),
                     "connections_accepted": n(12.0), "connections_open": 17},
            "latency": {"first_byte": {"p50_us": 84, "p90_us": 132, "p99_us": 420, "p999_us": 2_103_000, "max_us": 2_204_112}},
            "drops": [{"name": "drop.tcp.bad_checksum", "count": 0}, {"name": "drop.eth.not_for_us", "count": n(0.4)}],
            "conservation": {"rx": n(4100.0), "accepted": n(4000.0), "forwarded": 0, "punted": n(99.6),
                             "dropped": n(0.4), "held": 0, "holds": true}
        })
        .to_string()
    };
    let origin = start(Arc::new(stats)).expect("a free port");
    println!("http://{}/", origin.address());
    let seconds = std::env::var("MILLRACE_DEMO_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(600);
    std::thread::sleep(Duration::from_secs(seconds));
}
