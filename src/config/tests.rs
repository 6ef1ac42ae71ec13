//! The config as a whole: what a good file becomes, and that no file makes the reader panic.

use std::path::Path;
use std::time::Duration;

use hugepages::PagePolicy;
use proptest::prelude::*;
use stack::tcp::cc::Algorithm;
use stack::{CookieUse, EcnUse};

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
congestion = "reno"
split = { bbr = 10, cubic = "5%" }
connections_max = 5000

[[site]]
hosts = ["Example.com", "*.example.com", "*"]
origin = ["http://192.0.2.80:8080", "http://[2001:db8::80]"]
timeouts = { connect = "250ms", idle = "2m" }
cache = { default_ttl = "5m", negative_ttl = { 404 = "1s" }, key = { query = ["a"] } }
health = { path = "/up", status = ["2xx", 301] }
origin_limits = { connections_max = 9 }
response_headers = { set = { X-A = "{host}" }, remove = "X-*" }
redirect = { host = "example.com" }
congestion = "bbr"

[[site.route]]
path = "/a/"
cache = false
balance = "hash"
hash_key = "header:X-A"

[timeouts]
header = "4s"
keep_alive = "90s"

[limits]
head_bytes_max = "8KiB"
connections = 10_000

[tcp]
syn_cookies = "always"
ecn = "never"

[log]
level = "debug"
format = "json"
"#;

fn machine() -> Machine {
    Machine { cores: vec![0, 1], memory_bytes: 4 << 30 }
}

/// A folder for the files of one test.
fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("millrace-config-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
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
            pages: PagePolicy::Best,
            eal_args: Vec::new(),
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
            http: Some(80),
            https: None,
            proxy_protocol_from: Vec::new(),
            congestion: Algorithm::Reno,
            split: Split([5, 10, 0]),
            connections_max: Some(5000)
        }]
    );
    let site = &config.sites[0];
    assert_eq!(site.congestion, Some(Algorithm::Bbr));
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
    assert_eq!(config.tcp, Tcp { syn_cookies: CookieUse::Always, ecn: EcnUse::Never });
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
        "t.toml:26:",
        "t.toml:28: unknown key \"orign\"",
        "t.toml:44:",
    ];
    assert_eq!(lines.len(), expected.len(), "{report}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line} should start with {start}");
        assert!(line.contains("; "), "{line} has no mend");
    }
}

/// A good file with these tables at its end.
fn with(tables: &str) -> Config {
    const START: &str = "[node]\nmemory = \"64MiB\"\n[[port]]\nname = \"h\"\nkind = \"host\"\n\
                         [[listener]]\naddress = \"127.0.0.1\"\nhttp = 8080\n";
    check(&format!("{START}{tables}")).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn a_route_has_what_it_does_not_say_from_its_site() {
    let config = with(
        r#"
[[site]]
hosts = "*"
origin = "http://192.0.2.80"
balance = "hash"
hash_key = "client_ip"
timeouts = { connect = "1s", idle = "9s" }
cache = { default_ttl = "5m", key = { query = "none" } }
health = { path = "/up", rise = 7 }

[[site.route]]
path = "/a"
timeouts = { idle = "2s" }
cache = { heuristic = false, key = { cookies = "c" } }

[[site.route]]
path = "/a/longer"
origin = ["http://192.0.2.81", "http://name.example"]
health = false
cache = false

[[site.route]]
path = "/b"
health = { fall = 9 }
outlier = false
hash_key = "path"
"#,
    );
    let routes = &config.sites[0].routes;
    let paths: Vec<&str> = routes.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["/a/longer", "/a", "/b", "/"]);
    let [longer, a, b, own] = &routes[..] else { unreachable!() };
    let upstream = |r: &Route| &config.upstreams[r.upstream.expect("an upstream")];

    assert_eq!(
        own.timeouts,
        OriginTimeouts {
            connect: Duration::from_secs(1),
            idle: Duration::from_secs(9),
            ..OriginTimeouts::default()
        }
    );
    assert_eq!(a.timeouts, OriginTimeouts { idle: Duration::from_secs(2), ..own.timeouts });
    assert_eq!(a.upstream, own.upstream, "routes that say the same share an upstream");
    let rules = a.cache.as_ref().expect("cached");
    assert_eq!((rules.default_ttl, rules.heuristic), (Some(Duration::from_secs(300)), false));
    assert_eq!(
        rules.key,
        CacheKey { query: QueryKey::None, cookies: vec!["c".into()], ..CacheKey::default() }
    );
    assert_eq!(rules.object_bytes_max, 4 << 20, "an eighth of the cache's");

    assert_eq!((&longer.cache, &upstream(longer).health), (&None, &None));
    assert_eq!(upstream(longer).origins[1].host, OriginHost::Name("name.example".into()));
    assert_eq!(upstream(longer).balance, Balance::Hash(HashKey::ClientIp));
    assert_eq!(upstream(b).balance, Balance::Hash(HashKey::Path));
    assert_eq!(upstream(b).outlier, None);
    let check = upstream(b).health.as_ref().expect("a check");
    assert_eq!((check.path.as_str(), check.rise, check.fall), ("/up", 7, 9));
    assert_eq!(config.upstreams.len(), 3);
}

#[test]
fn fields_of_a_route_replace_its_sites_field_by_field() {
    let config = with(
        r#"
[[site]]
hosts = "*"
origin = "http://192.0.2.80"
[site.response_headers]
set = { X-A = "site", X-B = "site", X-C = "site" }
add = { Link = "site", Via = "site" }
remove = ["Server"]

[[site.route]]
path = "/a"
[site.route.response_headers]
set = { x-a = "route", LINK = "route" }
add = { Set-Cookie = ["1", "2"] }
remove = ["X-B", "server"]
"#,
    );
    let show = |fields: &[HeaderField]| -> Vec<String> {
        let value = |f: &HeaderField| match &f.value[..] {
            [ValuePart::Text(text)] => text.clone(),
            other => panic!("{other:?}"),
        };
        fields.iter().map(|f| format!("{}={}", f.name, value(f))).collect()
    };
    let rules = &config.sites[0].routes[0].response_headers;
    assert_eq!(show(&rules.set), ["X-C=site", "LINK=route", "x-a=route"]);
    assert_eq!(show(&rules.add), ["Via=site", "Set-Cookie=1", "Set-Cookie=2"]);
    assert_eq!(rules.remove, ["server", "x-b"].map(|n| NamePattern::Exact(n.into())));
    assert_eq!(show(&config.sites[0].routes[1].response_headers.set), ["X-A=site", "X-B=site", "X-C=site"]);
}

#[test]
fn the_memory_of_the_cache() {
    const OFF: &str = "[[site]]\nhosts = \"*\"\norigin = \"http://192.0.2.80\"\n";
    const ON: &str = "[[site]]\nhosts = \"*\"\norigin = \"http://192.0.2.80\"\ncache = true\n";
    assert_eq!(with(OFF).cache, Cache::OFF);
    let half = with(ON);
    let (half, rules) = (half.cache, half.sites[0].routes[0].cache.clone());
    assert_eq!(half, Cache { memory_bytes: 32 << 20, object_bytes_max: 4 << 20, pinned_bytes_max: 4 << 20 });
    assert_eq!(rules, Some(CacheRules::new(&half)));
    let said = with(&format!("[cache]\nmemory = \"16MiB\"\nobject_max = \"1MiB\"\n{OFF}")).cache;
    assert_eq!(said, Cache { memory_bytes: 16 << 20, object_bytes_max: 1 << 20, pinned_bytes_max: 2 << 20 });
}

#[test]
fn access_logs_and_error_pages() {
    let folder = folder("pages");
    std::fs::write(folder.join("large.html"), vec![b'x'; 65_537]).expect("writable");
    std::fs::write(folder.join("full.html"), vec![b'x'; 65_536]).expect("writable");
    let source = |page: &str, log: &str| {
        format!(
            "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttp = 80\n\
             [[site]]\nhosts = \"*\"\norigin = \"http://192.0.2.80\"\n\
             error_pages = {{ 5xx = \"full.html\", 503 = \"{page}\" }}\n{log}"
        )
    };
    let check = |page: &str, log: &str| parse(&folder.join("t.toml"), &source(page, log), &machine());
    let config = check("full.html", "").expect("good");
    let site = &config.sites[0];
    assert_eq!(site.access_log, None);
    let pages: Vec<_> = site.error_pages.iter().map(|p| (p.statuses.clone(), p.body.len())).collect();
    assert_eq!(pages, [(503..=503, 65_536), (500..=599, 65_536)]);
    assert_eq!(site.error_pages[0].content_type, "text/html; charset=utf-8");
    let report = check("large.html", "").expect_err("too large").to_string();
    assert!(report.contains(":10: \"large.html\" is larger than 64KiB; "), "{report}");

    for (log, expected) in [
        ("access_log = true\n", Some(LogTarget::Stdout)),
        ("access_log = true\n[log]\naccess = \"/a\"\n", Some(LogTarget::File("/a".into()))),
        ("[log]\naccess = \"/a\"\n", Some(LogTarget::File("/a".into()))),
        ("access_log = \"/b\"\n[log]\naccess = \"/a\"\n", Some(LogTarget::File("/b".into()))),
        ("access_log = false\n[log]\naccess = \"/a\"\n", None),
    ] {
        let config = check("full.html", log).expect("good");
        assert_eq!(config.sites[0].access_log, expected, "{log}");
    }
    std::fs::remove_dir_all(folder).expect("removable");
}

#[test]
fn a_site_needs_an_origin_unless_all_requests_are_redirected() {
    for (redirect, good) in [
        ("{ https = true }", true),
        ("{ host = \"other.example\" }", true),
        ("{ host = \"www.example.com\" }", false),
        ("{ host = \"example.com\" }", false),
        ("{ host = \"x.example.net\" }", false),
    ] {
        let source = format!(
            "[[port]]\nname = \"h\"\nkind = \"host\"\n[[listener]]\naddress = \"127.0.0.1\"\nhttp = 80\n\
             [[site]]\nhosts = [\"example.com\", \"www.example.com\", \"*.example.net\"]\nredirect = {redirect}\n"
        );
        assert_eq!(check(&source).is_ok(), good, "{redirect}");
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
        // A route has its site's tables.
        let table = table.replace("site.route.", "site.");
        let heading = format!("## `{table}`");
        let start = docs.find(&heading).unwrap_or_else(|| panic!("docs/config.md has no section {heading}"));
        let section = docs[start + 3..].split("\n## ").next().unwrap_or_default();
        assert!(section.contains(&format!("`{key}`")), "docs/config.md: {table} does not name `{key}`");
    }
}

/// Every example is good as it stands; what it leaves out of a whole file is put around it.
#[test]
fn the_examples_of_the_docs_are_good() {
    const PORT: &str = "[[port]]\nname = \"wan\"\nkind = \"tap\"\ndevice = \"tap0\"\n\
                        addresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]\n";
    const LISTENER: &str = "[[listener]]\naddress = \"192.0.2.10\"\nhttp = 80\n";
    const SITE: &str = "[[site]]\nhosts = \"*\"\norigin = \"http://192.0.2.80\"\n";
    let docs = include_str!("../../docs/config.md");
    let folder = folder("docs");
    for page in ["pages/not-here.html", "pages/sorry.html"] {
        std::fs::create_dir_all(folder.join("pages")).expect("a folder");
        std::fs::write(folder.join(page), "<p>Sorry.").expect("writable");
    }
    let mut examples = 0;
    for part in docs.split("```toml\n").skip(1) {
        let example = part.split("```").next().unwrap_or_default();
        let mut whole = String::new();
        for (table, text) in [("[[port]]", PORT), ("[[listener]]", LISTENER), ("[[site]]", SITE)] {
            if !example.contains(table) {
                whole.push_str(text);
            }
        }
        // `[site.x]` belongs to the site above, which comes last.
        whole.push_str(example);
        if let Err(report) = parse(&folder.join("t.toml"), &whole, &machine()) {
            panic!("{report}\n{whole}");
        }
        examples += 1;
    }
    std::fs::remove_dir_all(folder).expect("removable");
    assert!(examples >= 10, "docs/config.md has only {examples} examples");
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

#[test]
fn each_core_needs_memory() {
    let two = GOOD.replace("cores = [1]", "cores = [1, 0]");
    assert_eq!(check(&two).expect("good").node.cores, [1, 0]);
    let many = Machine { cores: (0..64).collect(), memory_bytes: 4 << 30 };
    let list = (0..64).map(|n: u16| n.to_string()).collect::<Vec<_>>().join(", ");
    let source = format!("[node]\ncores = [{list}]\nmemory = \"1GiB\"\n");
    let report = parse(Path::new("t.toml"), &source, &many).expect_err("too small").to_string();
    assert!(report.contains("t.toml:3: 1GiB of memory is too small for 64 cores; give it 32MiB"), "{report}");
}

#[cfg(feature = "dpdk")]
#[test]
fn devices_of_dpdks() {
    let kind = |device: &str| {
        let source = GOOD.replace("\"tap\"", "\"dpdk\"").replace("\"tap0\"", &format!("\"{device}\""));
        check(&source.replace("cores = [1]", "cores = [0, 1]")).expect("good").ports[0].kind.clone()
    };
    for (written, read) in [
        ("net_af_packet0,iface=eth1", "net_af_packet0,iface=eth1"),
        ("3B:00.0", "0000:3b:00.0"),
        ("0000:3b:00.0,a=b", "0000:3b:00.0,a=b"),
        ("eth1", "eth1"),
    ] {
        assert_eq!(kind(written), PortKind::Dpdk { device: read.into() });
    }
}
