//! `millrace demo`: a node on the host port with a built-in origin, and a live table in the terminal.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dataplane::counters::Segment;
use dataplane::port::{Checksums, Segmentation};
use hugepages::PagePolicy;
use stack::tcp::cc::Algorithm;

use super::{Node, Reloader, Signals, failed, serve};
use crate::cli::DemoArgs;
use crate::config::{
    Cache, Cidr, Config, HostPattern, Limits, Listener, Log, LogFormat, LogLevel, Node as NodeConfig, Origin,
    Port, PortKind, Resolver, Site, Split, Tcp, Timeouts, Tls, Upstream,
};
use crate::demo::origin;
use crate::{log, stats};

/// The demo's memory (DESIGN.md 8).
const MEMORY_BYTES: u64 = 128 << 20;
const DRAIN: Duration = Duration::from_secs(3);

/// `millrace demo`
pub fn demo(args: DemoArgs) -> ExitCode {
    log::init(LogLevel::Warn, LogFormat::Text);
    let signals = match Signals::install() {
        Ok(s) => s,
        Err(e) => return failed(&format!("cannot take signals: {e}")),
    };
    // The origin is started first, and asks for stats of a node that comes after it.
    let segment: Arc<OnceLock<Arc<Segment>>> = Arc::default();
    let (built_in, target) = match args.origin {
        Some(o) => (None, o),
        None => {
            let seg = Arc::clone(&segment);
            let json = move || seg.get().map_or_else(|| "{}".to_owned(), |s| stats::json(s).to_string());
            match origin::start(Arc::new(json)) {
                Ok(o) => {
                    let address = o.address();
                    (Some(o), Origin::at(address, address.to_string()))
                }
                Err(e) => return failed(&format!("cannot start the built-in origin: {e}")),
            }
        }
    };
    let shown = target.authority.clone();
    let config = config(&args.listen, target);
    let node = match Node::start(config.clone()) {
        Ok(n) => n,
        Err(e) => return failed(&e),
    };
    let _ = segment.set(Arc::clone(&node.segment));
    let address = node.kernel_addresses.first().copied().unwrap_or(args.listen);
    let origin_text =
        if built_in.is_some() { "the built-in page".to_owned() } else { format!("http://{shown}") };
    let tty = std::io::stdout().is_terminal();
    let mut out = std::io::stdout();
    let _ = writeln!(out, "Millrace serves {origin_text} at http://{address}/  (Ctrl-C ends it)");
    let _ = out.flush();
    let mut screen = stats::Screen::new(tty);
    let reloader = Arc::new(Reloader::new(None, config, &node));
    let code = serve(node, &signals, &reloader, |n| {
        if tty {
            let head = format!("Millrace serves {origin_text} at http://{address}/  (Ctrl-C ends it)");
            screen.draw(&head, &n.segment);
        }
    });
    drop(built_in);
    code
}

fn config(listen: &std::net::SocketAddr, origin: Origin) -> Config {
    let prefix_len = if listen.is_ipv4() { 8 } else { 128 };
    Config {
        node: NodeConfig {
            name: format!("demo-{}", std::process::id()),
            cores: Vec::new(),
            memory_bytes: MEMORY_BYTES,
            pages: PagePolicy::Best,
            eal_args: Vec::new(),
            drain: DRAIN,
        },
        ports: vec![Port {
            name: "host".to_owned(),
            kind: PortKind::Host,
            addresses: vec![Cidr { address: listen.ip(), prefix_len }],
            gateways: Vec::new(),
            vlan: None,
            mtu: 1500,
            mac: None,
            pcap: None,
            host_if: None,
            checksums: Checksums::Auto,
            segmentation: Segmentation::Auto,
        }],
        listeners: vec![Listener {
            addresses: vec![listen.ip()],
            http: Some(listen.port()),
            https: None,
            proxy_protocol_from: Vec::new(),
            congestion: Algorithm::default(),
            split: Split::default(),
            connections_max: None,
        }],
        sites: vec![Site::plain(vec![HostPattern::Default], 0)],
        upstreams: vec![Upstream::plain(origin)],
        cache: Cache::OFF,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        tcp: Tcp::default(),
        tls: Tls::default(),
        log: Log::default(),
        resolver: Resolver::default(),
    }
}
