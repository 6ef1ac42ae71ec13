//! A node with a cache, its clients and its origin.

use std::path::Path;
use std::sync::Arc;

use dataplane::Time;
use dataplane::core_loop::Core;
use dataplane::port::link::{Faults, Link};
use dataplane::port::mem::{WireEnd, wire};
use hugepages::{Limits, PagePolicy};
use l7::cache::policy::hash::HashKeys;
use l7::cache::store::{Store, StoreConfig};
use l7::proxy::Program;
use millrace::access_log::Targets;
use millrace::config::{self, Machine};
use millrace::node::{Given, NodePipeline};

use crate::cache_cases::{Got, SITES};
use crate::support::peers::{Act, Asked, Peers};
use crate::support::{NODE_IP, ORIGIN_IP, ORIGIN_PORT, Shared, UNIX_NS_AT_START, core_with};

pub const CACHE_BYTES: u64 = 64 << 20;
const MS: u64 = 1_000_000;

/// What the cores of a node are made of, with the sites of the cases.
pub struct Parts {
    pub program: Arc<Program>,
    pub store: Arc<Store>,
    pub shared: Shared,
}

pub fn parts(cores: usize, cache_bytes: u64, object_bytes_max: u64) -> Parts {
    let dotted = |ip: [u8; 4]| std::net::Ipv4Addr::from(ip).to_string();
    let mut text = format!(
        "[node]\nname = \"table\"\nmemory = \"256MiB\"\n[cache]\nmemory = \"64MiB\"\nobject_max = \"{1}KiB\"\n\
         [[port]]\nname = \"lan\"\nkind = \"tap\"\ndevice = \"mr0\"\naddresses = [\"{0}/24\"]\n\
         [[listener]]\naddress = \"{0}\"\nhttp = 80\n",
        dotted(NODE_IP),
        // What outgrows the store only is for the store to find out.
        object_bytes_max.max(8 << 20) >> 10
    );
    for (name, cache) in SITES {
        text.push_str(&format!(
            "[[site]]\nhosts = \"{name}.lab\"\norigin = \"http://{}:{ORIGIN_PORT}\"\ncache = {cache}\n\
             timeouts = {{ connect = \"2s\", first_byte = \"5s\", idle = \"5s\" }}\n",
            dotted(ORIGIN_IP)
        ));
    }
    let config = match config::parse(
        Path::new("table.toml"),
        &text,
        &Machine { cores: vec![0, 1], memory_bytes: 4 << 30 },
    ) {
        Ok(c) => c,
        Err(report) => panic!("{report}"),
    };
    let limits = Limits::for_core_memory(256 << 20);
    let program = millrace::node::compile(
        &config,
        Given {
            limits: &limits,
            unix_ns_at_start: UNIX_NS_AT_START,
            known: &|_| Vec::new(),
            old: None,
            logs: &Targets::default(),
            shown: &[],
            tickets: None,
        },
    )
    .expect("a program");
    let shared = Shared::new(cores);
    let mut store = StoreConfig::for_bytes(cache_bytes, cores as u32 + 1, [5, 6]);
    store.object_bytes_max = object_bytes_max;
    let bells = Arc::clone(&shared.bells);
    let wake = Box::new(move |core: usize| bells.ring(core));
    let store = Store::reserve(store, PagePolicy::NormalOnly, wake).expect("a store");
    Parts { program, store, shared }
}

impl Parts {
    /// A core of it, made where it will run.
    pub fn core(&self, n: usize, flows: u32, near: WireEnd) -> Core<NodePipeline> {
        let cache = Some((self.store.handle(n), HashKeys(7, 8)));
        core_with(Arc::clone(&self.program), cache, flows, near, &self.shared, n)
    }
}

/// A node of so many cores, for so many connections a core, turned one core after the other.
pub fn node(cores: usize, flows: u32, object_bytes_max: u64) -> Peers {
    node_of(cores, flows, CACHE_BYTES, object_bytes_max)
}

/// The same with a cache of this size.
pub fn node_of(cores: usize, flows: u32, cache_bytes: u64, object_bytes_max: u64) -> Peers {
    let parts = parts(cores, cache_bytes, object_bytes_max);
    let (near, far): (Vec<_>, Vec<_>) = (0..cores).map(|_| wire(4096, 1600)).unzip();
    let near = near.into_iter().enumerate();
    let all = near.map(|(n, near)| parts.core(n, flows, near)).collect();
    Peers::new(all, far, parts.shared.segment)
}

/// A node of one core, for few connections, with a link to everyone around it that does this to frames.
pub fn faulty_node(faults: &Faults, seed: u64) -> Peers {
    let mut parts = parts(1, 4 << 20, 1 << 20);
    (parts.shared.core_bytes, parts.shared.has_checksums) = (16 << 20, true);
    let ((near, left), (right, far)) = (wire(512, 1600), wire(1024, 1600));
    let core = parts.core(0, 64, near);
    let link = Link::new(left, right, faults.clone(), seed);
    Peers::new(vec![core], vec![far], parts.shared.segment).over(vec![link])
}

/// Turns the node until this client has its response, or can have none any more.
pub fn answer(p: &mut Peers, port: u16, is_head: bool, origin: &mut dyn FnMut(&Asked, u64) -> Act) -> Got {
    // Longer than all timeouts together.
    let until = p.now.plus_ns(60_000 * MS);
    loop {
        p.settle(origin);
        let (input, ended, reset) = p.client_got(port);
        if let Some(got) = response(input, is_head, ended, reset) {
            return got;
        }
        match p.deadline().filter(|t| *t < until) {
            Some(t) => p.now = t.max(p.now),
            None => return Got::default(),
        }
    }
}

pub fn later(p: &Peers, ms: u64) -> Time {
    p.now.plus_ns(ms * MS)
}

/// The final response in what has come, if it is whole, or will never be.
pub fn response(input: &[u8], is_head: bool, ended: bool, reset: bool) -> Option<Got> {
    let over = ended || reset;
    let mut at = 0;
    let (head, status) = loop {
        let Some(n) = input[at..].windows(4).position(|w| w == b"\r\n\r\n") else {
            return over.then(Got::default);
        };
        let head = String::from_utf8_lossy(&input[at..at + n + 4]).into_owned();
        at += n + 4;
        let status: u16 = head.split_whitespace().nth(1)?.parse().ok()?;
        if status >= 200 {
            break (head, status);
        }
    };
    let rest = &input[at..];
    let field = |name: &str| crate::cache_cases::field(&head, name);
    let (body, whole) = if is_head || matches!(status, 204 | 304) {
        (Vec::new(), true)
    } else if let Some(n) = field("content-length").and_then(|v| v.parse::<usize>().ok()) {
        (rest[..rest.len().min(n)].to_vec(), rest.len() >= n)
    } else if field("transfer-encoding").is_some() {
        chunks(rest)
    } else {
        (rest.to_vec(), ended && !reset)
    };
    (whole || over).then_some(Got { status, head, body, whole, asked: Vec::new() })
}

fn chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(n) = rest.windows(2).position(|w| w == b"\r\n") else { return (body, false) };
        let line = String::from_utf8_lossy(&rest[..n]);
        let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16).expect("a chunk's size");
        rest = &rest[n + 2..];
        if size == 0 {
            return (body, rest.windows(2).any(|w| w == b"\r\n"));
        }
        if rest.len() < size + 2 {
            body.extend(&rest[..rest.len().min(size)]);
            return (body, false);
        }
        body.extend(&rest[..size]);
        rest = &rest[size + 2..];
    }
}
