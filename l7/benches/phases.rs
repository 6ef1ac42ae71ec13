//! What the parts of the request phases cost, in memory: best of some rounds, nanoseconds each.
//!
//! `cargo bench -p l7 --bench phases`

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use l7::http1::*;
use l7::phases::*;

const ROUNDS: usize = 15;
const TIMES: u32 = 20_000;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return; // As `cargo test` calls it.
    }
    removal();
    routing();
    paths();
    logs();
    proxy_headers();
}

/// Prints the best round of `work`.
fn time(what: &str, mut work: impl FnMut()) {
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..TIMES).for_each(|_| work());
            start.elapsed().as_nanos() as f64 / f64::from(TIMES)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{what:<64} {best:9.1} ns");
}

/// Names as infrastructures have them.
fn internal_names(exact: usize, wildcards: usize) -> Vec<String> {
    let areas = ["Trace", "Shard", "Backend", "Debug", "Canary", "Auth", "Edge", "Cell", "Region", "Build"];
    let exact = (0..exact).map(|n| {
        format!(
            "X-{}-{}",
            areas[n % areas.len()],
            ["Id", "Host", "Time", "Hash", "Key", "Node", "Zone", "Mode", "Step", "Flag"][n / 10 % 10]
        )
    });
    let wildcards = (0..wildcards).map(|n| format!("X-Internal-{}-*", areas[n % areas.len()]));
    exact.chain(wildcards).collect()
}

/// A response head of 20 lines, two of which an internal list removes.
fn head() -> String {
    let lines = [
        "Server: nginx",
        "Content-Type: text/html; charset=utf-8",
        "Cache-Control: public, max-age=3600",
        "ETag: \"5f1c-61a2b3c4d5e6f\"",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
        "Vary: Accept-Encoding",
        "Strict-Transport-Security: max-age=31536000",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: SAMEORIGIN",
        "Referrer-Policy: strict-origin-when-cross-origin",
        "Content-Security-Policy: default-src 'self'",
        "X-Request-Id: 0123456789abcdef",
        "X-Backend-Host: app-17.internal",
        "X-Internal-Shard-Count: 4",
        "Accept-Ranges: bytes",
        "Access-Control-Allow-Origin: *",
        "Content-Language: en",
        "Set-Cookie: session=abcdef; Path=/; HttpOnly",
        "X-XSS-Protection: 0",
        "Link: </style.css>; rel=preload",
    ];
    format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", lines.join("\r\n"))
}

fn removal() {
    let head = head();
    let mut slots = HeaderSlots::new();
    let parsed = parse_response(
        head.as_bytes(),
        Method::Get,
        &mut HeadScan::new(),
        &HttpLimits::default(),
        &mut slots,
    );
    let Ok(Parsed::Complete(head, _)) = parsed else { panic!("a response") };
    let headers = head.headers();
    assert_eq!(headers.len(), 20);
    let mut room = [0; 8192];
    time("20 lines, copied without edits", || {
        apply_edits(black_box(&headers), &EditList::NONE, &mut SliceSink::new(&mut room)).expect("room");
    });
    for (exact, wildcards) in [(100, 0), (90, 10), (10, 0)] {
        let spec = EditSpec { remove: internal_names(exact, wildcards), ..EditSpec::default() };
        let edit = HeadEdit::new(Message::Response, &spec).expect("good");
        let edits = EditList { edits: &[&edit], ..EditList::NONE };
        time(&format!("20 lines, copied, less {exact} names and {wildcards} wildcards"), || {
            apply_edits(black_box(&headers), &edits, &mut SliceSink::new(&mut room)).expect("room");
        });
    }
    // As it would be without compiling: for each line, each name.
    let names = internal_names(90, 10);
    time("  the same by comparing each line with each name", || {
        for (name, _) in black_box(&headers).iter() {
            black_box(names.iter().any(|n| match n.strip_suffix('*') {
                Some(p) => name.len() >= p.len() && name[..p.len()].eq_ignore_ascii_case(p.as_bytes()),
                None => name.eq_ignore_ascii_case(n.as_bytes()),
            }));
        }
    });
    let set = vec![
        ("X-Served-By".to_owned(), "edge".to_owned()),
        ("X-Client".to_owned(), "{client_ip} for {host}".to_owned()),
    ];
    let edit = HeadEdit::new(Message::Response, &EditSpec { set, ..EditSpec::default() }).expect("good");
    let vars = Vars {
        client_ip: CLIENT,
        scheme: Scheme::Https,
        host: b"www.example.com",
        path: b"/",
        identity: None,
    };
    time("20 lines, copied, 2 set, one with variables", || {
        let edits = EditList { edits: &[&edit], vars };
        apply_edits(black_box(&headers), &edits, &mut SliceSink::new(&mut room)).expect("room");
    });
}

fn routing() {
    for count in [1, 100, 10_000] {
        let names: Vec<String> = (0..count).map(|n| format!("site-{n}.customer.example.com")).collect();
        let numbered = names.iter().map(|name| (name.as_str(), 1));
        let hosts = Hosts::new(numbered.clone().chain([("*.example.com", 2), ("*", 3)]));
        let std: HashMap<Vec<u8>, u16> = numbered.map(|(name, n)| (name.as_bytes().to_vec(), n)).collect();
        let mut n = 0;
        let mut next = || {
            n = (n + 7) % names.len();
            names[n].as_bytes()
        };
        time(&format!("host among {count}, exact"), || {
            black_box(hosts.find(black_box(next())));
        });
        time("  the same by std's HashMap, made lower case first", || {
            let mut buf = [0; 255];
            let host = next();
            buf[..host.len()].copy_from_slice(host);
            buf[..host.len()].make_ascii_lowercase();
            black_box(std.get(black_box(&buf[..host.len()])));
        });
        time("  three labels under a wildcard", || {
            black_box(hosts.find(black_box(b"a.b.c.example.com")));
        });
    }
    let prefixes: Vec<String> = (0..200).map(|n| format!("/area-{}/part-{n}/", n % 10)).collect();
    let routes = Routes::new(prefixes.iter().map(String::as_str).zip(1..).chain([("/", 0)]));
    time("path among 201 prefixes", || {
        black_box(routes.find(black_box(b"/area-7/part-137/images/logo.png")));
    });
}

fn paths() {
    let mut room = [0; CleanPath::ROOM];
    for (what, path) in [
        ("a clean path of 36 bytes", &b"/images/products/2026/11/picture.png"[..]),
        ("one with an escape", b"/images/products/2026/11/a%20pict.png"),
        ("one with `..`", b"/images/products/../../11/picture.png"),
    ] {
        time(what, || {
            black_box(CleanPath::of(black_box(path), &mut room));
        });
    }
}

fn logs() {
    let record = LogRecord {
        unix_us: 784_111_777_000_042,
        client: CLIENT,
        method: b"GET",
        target: b"/images/products/2026/11/picture.png?size=large",
        host: b"www.example.com",
        version: Version::Http11,
        status: 200,
        body_bytes: 10_240,
        cache: b"MISS",
        origin: Some(([198, 51, 100, 1], 8080).into()),
        timings: Timings::start(0),
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        referer: b"https://www.example.com/products/2026/",
        request_id: 0x0123_4567_89ab_cdef,
    };
    let mut room = [0; access_log::LINE_BYTES_MAX];
    for (what, format) in [("a log line of text", LogFormat::Text), ("a log line of JSON", LogFormat::Json)] {
        time(what, || {
            black_box(&record).write(format, &mut SliceSink::new(&mut room)).expect("room");
        });
    }
}

fn proxy_headers() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n";
    let Ok(Parsed::Complete(header, _)) = proxy_protocol::parse(line) else { panic!("a header") };
    let mut room = [0; 128];
    let mut sink = SliceSink::new(&mut room);
    proxy_protocol::write_v2(&header, &mut sink).expect("room");
    time("PROXY header, version 1, parsed", || {
        black_box(proxy_protocol::parse(black_box(line))).expect("good");
    });
    time("PROXY header, version 2, parsed", || {
        black_box(proxy_protocol::parse(black_box(sink.written()))).expect("good");
    });
}
