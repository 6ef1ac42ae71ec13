//! The config as a whole: what a good file becomes, and that no file makes the reader panic.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"
[node]
name = "edge-1"
cores = [1]
memory = "256MiB"
drain = "10s"

[[port]]
name = "wan"
kind = "tap"
device = "tap0"
addresses = ["192.0.2.10/24", "2001:db8::10/64"]
gateway = ["192.0.2.1", "fe80::1"]
vlan = 100
mtu = 9000
mac = "02:00:5e:10:00:01"
pcap = "/tmp/wan.pcap"

[[listener]]
address = ["192.0.2.10", "2001:db8::10"]
http = 80

[[site]]
hosts = ["Example.com", "*.example.com", "*"]
origin = ["http://192.0.2.80:8080", "http://[2001:db8::80]"]
timeouts = { connect = "250ms", idle = "2m" }

[timeouts]
header = "4s"
keep_alive = "90s"

[limits]
head_bytes_max = "8KiB"
connections = 10_000

[log]
level = "debug"
format = "json"
"#;

fn machine() -> Machine {
    Machine { cores: vec![0, 1], memory_bytes: 4 << 30 }
}

fn check(source: &str) -> Result<Config, String> {
    parse(Path::new("t.toml"), source, &machine()).map_err(|report| report.to_string())
}

#[test]
fn every_key_reaches_the_config() {
    let config = check(GOOD).expect("a good config");
    let ip = |text: &str| text.parse::<std::net::IpAddr>().expect("an address");
    assert_eq!(
        config.node,
        Node {
            name: "edge-1".into(),
            cores: vec![1],
            memory_bytes: 256 << 20,
            drain: Duration::from_secs(10)
        }
    );
    let port = &config.ports[0];
    assert_eq!(port.name, "wan");
    assert_eq!(port.kind, PortKind::Tap { device: "tap0".into() });
    assert_eq!(port.addresses[1], Cidr { address: ip("2001:db8::10"), prefix_len: 64 });
    assert_eq!(port.gateways, [ip("192.0.2.1"), ip("fe80::1")]);
    assert_eq!((port.vlan, port.mtu), (Some(100), 9000));
    assert_eq!(port.mac, Some([2, 0, 0x5e, 0x10, 0, 1]));
    assert_eq!(port.pcap.as_deref(), Some(Path::new("/tmp/wan.pcap")));
    assert_eq!(
        config.listeners,
        [Listener {
            addresses: vec![ip("192.0.2.10"), ip("2001:db8::10")],
            http: 80,
            proxy_protocol_from: Vec::new()
        }]
    );
    let site = &config.sites[0];
    assert_eq!(
        site.hosts,
        [
            HostPattern::Exact("example.com".into()),
            HostPattern::Wildcard("example.com".into()),
            HostPattern::Default
        ]
    );
    let route = &site.routes[0];
    let upstream = &config.upstreams[route.upstream.expect("an upstream")];
    assert_eq!(upstream.origins[1].authority, "[2001:db8::80]");
    assert_eq!(
        route.timeouts,
        OriginTimeouts {
            connect: Duration::from_millis(250),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(120)
        }
    );
    assert_eq!(config.timeouts.header, Duration::from_secs(4));
    assert_eq!(config.limits, Limits { head_bytes_max: 8 << 10, connections_max: Some(10_000) });
    assert_eq!(config.log, Log { level: LogLevel::Debug, format: LogFormat::Json, ..Log::default() });
}

#[test]
fn defaults() {
    let source = "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttp = 8080\n\
                  [[site]]\nhosts = \"*\"\norigin = \"http://localhost:3000\"\n";
    let config = check(source).expect("a good config");
    assert_eq!(config.node.name, "default");
    assert!(config.node.cores.is_empty());
    assert_eq!(config.node.memory_bytes, 512 << 20, "an eighth of the machine's");
    assert_eq!(config.node.drain, Duration::from_secs(30));
    assert_eq!(config.ports[0].mtu, 1500);
    assert_eq!(config.ports[0].addresses[0].to_string(), "127.0.0.1/8");
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.log, Log::default());
}

#[test]
fn all_errors_are_reported_in_order() {
    let source = GOOD
        .replace("cores = [1]", "cores = [1, 1, 7]")
        .replace("vlan = 100", "vlan = 5000")
        .replace("http = 80\n", "http = 0\n")
        .replace("origin = ", "orign = ")
        .replace("\"4s\"", "4");
    let report = check(&source).expect_err("a bad config");
    let lines: Vec<&str> = report.lines().collect();
    let expected = [
        "t.toml:4: core 1",
        "t.toml:4: this machine has no core 7",
        "t.toml:14:",
        "t.toml:21:",
        "t.toml:23:",
        "t.toml:25: unknown key \"orign\"",
        "t.toml:29:",
    ];
    assert_eq!(lines.len(), expected.len(), "{report}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line} should start with {start}");
        assert!(line.contains("; "), "{line} has no mend");
    }
}

#[test]
fn after_a_syntax_error_the_rest_is_still_judged() {
    let source = GOOD.replace("name = \"edge-1\"", "name = edge-1").replace("vlan = 100", "vlan = 5000");
    let report = check(&source).expect_err("a bad config");
    assert!(report.contains("t.toml:3: not TOML"), "{report}");
    assert!(report.contains("t.toml:14: 5000 is out of range"), "{report}");
    assert_eq!(report.lines().count(), 2, "{report}");
}

#[test]
fn the_docs_name_every_key() {
    let docs = include_str!("../../docs/config.md");
    for (table, key) in known_keys() {
        if table == "the top level" {
            let named = docs.contains(&format!("`[{key}]`")) || docs.contains(&format!("`[[{key}]]`"));
            assert!(named, "docs/config.md does not name the table {key}");
            continue;
        }
        let heading = format!("## `{table}`");
        let start = docs.find(&heading).unwrap_or_else(|| panic!("docs/config.md has no section {heading}"));
        let section = docs[start + 3..].split("\n## ").next().unwrap_or_default();
        assert!(section.contains(&format!("`{key}`")), "docs/config.md: {table} does not name `{key}`");
    }
}

#[test]
fn the_example_of_the_docs_is_good() {
    let docs = include_str!("../../docs/config.md");
    let mut examples = 0;
    for part in docs.split("```toml\n").skip(1) {
        let example = part.split("```").next().unwrap_or_default();
        if example.contains("[[site]]") && example.contains("[[port]]") {
            check(example).unwrap_or_else(|report| panic!("{report}"));
            examples += 1;
        }
    }
    assert!(examples > 0, "docs/config.md has no whole example");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a good file, the reader answers, and its report is well formed.
    #[test]
    fn no_mutation_makes_the_reader_panic(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..12, "[ -~\n\"\\[\\]{}=.é]{0,6}"), 1..6)
    ) {
        let mut source: Vec<char> = GOOD.chars().collect();
        for (at, cut, put) in edits {
            let at = at.index(source.len());
            let end = (at + cut).min(source.len());
            source.splice(at..end, put.chars());
        }
        let source: String = source.into_iter().collect();
        if let Err(report) = parse(Path::new("t.toml"), &source, &machine()) {
            let lines = source.lines().count() + 1;
            for error in report.errors() {
                prop_assert!((1..=lines).contains(&error.line));
                prop_assert!(!error.cause.contains('\n') && !error.mend.contains('\n'));
            }
            prop_assert_eq!(report.to_string().lines().count(), report.errors().len());
            let _ = report.with_source();
        }
    }

    /// The tables of a good file in any selection and order.
    #[test]
    fn no_selection_of_lines_makes_the_reader_panic(picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..60)) {
        let lines: Vec<&str> = GOOD.lines().collect();
        let source: String = picks.iter().map(|i| format!("{}\n", lines[i.index(lines.len())])).collect();
        let _ = parse(Path::new("t.toml"), &source, &machine());
    }
}
