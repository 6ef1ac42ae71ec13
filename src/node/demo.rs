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
use crate::cert::{self, SelfSigned};
use crate::cli::DemoArgs;
use crate::config::{
    Cache, Cidr, Config, HostPattern, Limits, Listener, Log, LogFormat, LogLevel, Node as NodeConfig, Origin,
    Port, PortKind, Resolver, Site, Split, Tcp, Timeouts, Tls, Upstream,
};
use crate::demo::origin;
use crate::{log, stats};

/// The demo's memory (DESIGN.md 8).
const MEMORY_BYTES: u64 = 128 << 20;
/// A demo is over sooner.
const CERTIFICATE_DAYS: u32 = 30;
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
    let shown = format!("{}://{}", target.scheme.text(), target.authority);
    let made = match args.https.map(|_| certificate(&args.listen)).transpose() {
        Ok(made) => made,
        Err(e) => return failed(&e),
    };
    let mut config = config(&args.listen, target);
    if let (Some(made), Some(port)) = (&made, args.https) {
        // Any free port means any for both.
        config.listeners[0].https = Some(if args.listen.port() == 0 { 0 } else { port });
        config.sites[0].tls.certificates.push(made.as_in_config());
    }
    let node = match Node::start(config.clone()) {
        Ok(n) => n,
        Err(e) => return failed(&e),
    };
    let _ = segment.set(Arc::clone(&node.segment));
    // In the order of `Listener::sockets`.
    let mut addresses = node.kernel_addresses.iter().copied();
    let address = addresses.next().unwrap_or(args.listen);
    let https = made.as_ref().and(addresses.next());
    let origin_text = if built_in.is_some() { "the built-in page".to_owned() } else { shown };
    let and_https = https.map_or(String::new(), |at| format!(" and https://{at}/"));
    let head = format!("Millrace serves {origin_text} at http://{address}/{and_https}  (Ctrl-C ends it)");
    let tty = std::io::stdout().is_terminal();
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{head}");
    if let Some(made) = &made {
        let _ =
            writeln!(out, "Its certificate is self-signed, so browsers ask: SHA-256 {}", made.fingerprint());
    }
    let _ = out.flush();
    let mut screen = stats::Screen::new(tty);
    let reloader = Arc::new(Reloader::new(None, config, &node));
    let code = serve(node, &signals, &reloader, |n| {
        if tty {
            screen.draw(&head, &n.segment);
        }
    });
    drop(built_in);
    code
}

/// For the ways in which this machine is called from here.
fn certificate(listen: &std::net::SocketAddr) -> Result<SelfSigned, String> {
    let mut names = Vec::new();
    for name in ["localhost", "127.0.0.1", "::1", &listen.ip().to_string()] {
        let name = cert::name(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    SelfSigned::new(names, CERTIFICATE_DAYS, false)
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
        system_roots: None,
        acme: None,
        log: Log::default(),
        resolver: Resolver::default(),
    }
}
