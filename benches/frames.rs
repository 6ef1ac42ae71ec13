//! What the packet generator costs a frame: streams of 64 bytes, by kind and wire, on this thread.
//!
//! | wire | where a frame goes |
//! |---|---|
//! | `mem` | it is copied into a wire, whose other end throws it away: that is not counted |
//! | `null` | `net_null` frees it; nothing is received |
//! | `ring` | `net_ring`, a ring of pointers, and back: the generator looks at it and counts it as received |
//!
//! A row is a core of `millrace pktgen` at `--rate max`, port and all. Rates are of the thread's own time. `null` and `ring`
//! are what testpmd's modes `txonly` and `flowgen` do on the same devices; `scripts/bench/txonly.sh` runs rounds of both.
//!
//! `cargo bench -p millrace --bench frames -- [--wires mem,null,ring] [--kinds udp,syn] [--seconds 2] [--plain]`

mod common;

use std::time::{Duration, Instant};

use common::median;
use dataplane::counters::Segment;
use dataplane::port::mem;
use dataplane::{Clock, Ctr, Pool, Port, time::cycles};
use hugepages::PagePolicy;
use millrace::pktgen;
use rustix::time::{ClockId, clock_gettime};

const MTU: u16 = 1500;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CELLS: u32 = 4096;
/// Frames that a wire in memory holds.
const WIRE: usize = 1024;
/// Passes between two looks at the clock and the counters: what those cost is far below a cycle a frame.
const STRETCH_PASSES: usize = 500;

/// As an operator writes them, but for the station.
const KINDS: [(&str, &str); 8] = [
    ("udp", "udp dst=10.0.0.1 sport=9"),
    ("udp-random", "udp dst=10.0.0.1 src=10.1.0.0/16"),
    ("syn", "syn dst=10.0.0.1:80 src=10.1.0.0/16"),
    ("ack", "ack dst=10.0.0.1:80 src=10.1.0.0/16"),
    ("icmp", "icmp dst=10.0.0.1"),
    ("dns", "dns dst=10.0.0.1 src=10.1.0.0/16"),
    ("frags", "frags dst=10.0.0.1 src=10.1.0.0/16 size=64"),
    ("udp6", "udp dst=2001:db8::1 src=2001:db8:1::/64"),
];

struct Args {
    wires: Vec<String>,
    kinds: Vec<String>,
    seconds: f64,
    /// Rows for a script.
    plain: bool,
}

impl Args {
    fn parse() -> Args {
        let mut a = Args {
            wires: ["mem", "null", "ring"].map(str::to_owned).to_vec(),
            kinds: KINDS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            seconds: 2.0,
            plain: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(w) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            let list = |v: String| v.split(',').map(str::to_owned).collect();
            match w.as_str() {
                "--wires" => a.wires = list(value()),
                "--kinds" => a.kinds = list(value()),
                "--seconds" => a.seconds = value().parse().expect("a number"),
                "--plain" => a.plain = true,
                "--bench" => {}
                "--test" => std::process::exit(0),
                _ => {
                    eprintln!("unknown argument {w}; known: --wires --kinds --seconds --plain");
                    std::process::exit(2)
                }
            }
        }
        a
    }
}

/// Nanoseconds that this thread has run.
fn own_ns() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn main() {
    let args = Args::parse();
    let clock = Clock::calibrated();
    let mut devices = Devices::new(&args);
    println!("# {}, {}", common::machine(clock.cycles_per_second() as f64), devices.pages());
    let mut rows = Vec::new();
    for wire in &args.wires {
        for kind in &args.kinds {
            let Some((name, stream)) = KINDS.iter().find(|(name, _)| name == kind) else {
                panic!("no kind {kind}")
            };
            let (port, drain) = devices.open(wire);
            let stream = format!("{stream} dstmac=02:00:00:00:00:02");
            let (frames, ns, cycles) = measure(port, &stream, drain.as_ref(), &clock, args.seconds);
            if args.plain {
                println!("{wire} {name} {frames} {ns} {cycles:.2}");
            } else {
                let mpps = frames as f64 * 1e3 / ns as f64;
                rows.push(vec![format!("{wire} {name}"), format!("{mpps:.2}"), format!("{cycles:.1}")]);
            }
        }
    }
    if !args.plain {
        common::table("64-byte frames", &["", "Mpps", "cycles a frame"], &rows);
    }
}

/// Turns a core for so long, a fifth of it as a warm-up. Gives frames sent, nanoseconds of this thread's, and cycles per
/// frame in the median stretch, which nobody interrupted.
fn measure(
    port: Box<dyn Port>,
    stream: &str,
    drain: Option<&mem::WireEnd>,
    clock: &Clock,
    seconds: f64,
) -> (u64, u64, f64) {
    let segment = Segment::in_memory(1);
    let mut core = pktgen::endless(port, &[stream], &segment).unwrap_or_else(|e| panic!("{e}"));
    let mut turn = |seconds: f64| {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let (mut stretches, mut ns) = (Vec::with_capacity(1 << 16), 0);
        let start = segment.read().get(Ctr::TxSent);
        let mut before = start;
        while Instant::now() < until {
            let (mut spent, ns0) = (0, own_ns());
            for _ in 0..STRETCH_PASSES {
                let t0 = cycles();
                core.pass(clock.now());
                spent += cycles() - t0;
                if let Some(end) = drain {
                    while end.recv_with(|_| ()).is_some() {}
                }
            }
            ns += own_ns() - ns0;
            let sent = segment.read().get(Ctr::TxSent);
            stretches.push(spent as f64 / (sent - before).max(1) as f64);
            before = sent;
        }
        let median = median(&mut stretches);
        let frames = before - start;
        // Of a wire in memory, the other end has run as well: the thread's time says nothing of the core then.
        if drain.is_some() {
            ns = (frames as f64 * median / clock.cycles_per_second() as f64 * 1e9) as u64;
        }
        (frames, ns, median)
    };
    turn(seconds / 5.0);
    turn(seconds)
}

#[cfg(feature = "dpdk")]
struct Devices {
    eal: Option<dataplane::port::dpdk::Eal>,
    count: u32,
}

#[cfg(feature = "dpdk")]
impl Devices {
    fn new(args: &Args) -> Devices {
        use dataplane::port::dpdk::{DpdkPort, Eal, EalConfig};
        let any = args.wires.iter().any(|w| w != "mem");
        let buffers_bytes = 32 * DpdkPort::buffers_bytes(CELLS, MTU, &["net_null0"]);
        let config = EalConfig { buffers_bytes, pages: PagePolicy::Best, args: Vec::new(), nics: Vec::new() };
        let eal = any.then(|| Eal::start(&config).unwrap_or_else(|e| panic!("{e}")));
        Devices { eal, count: 0 }
    }

    fn pages(&self) -> &'static str {
        if self.eal.is_some_and(|e| e.hugepages()) { "hugepages" } else { "normal pages" }
    }

    fn open(&mut self, wire: &str) -> (Box<dyn Port>, Option<mem::WireEnd>) {
        use dataplane::port::dpdk::{Checksums, DpdkConfig, DpdkPort};
        let (Some(eal), false) = (self.eal, wire == "mem") else { return in_memory() };
        // A device gone, DPDK keeps its ring: each has a name of its own.
        let device = match wire {
            "null" => format!("net_null{},no-rx=1", self.count),
            "ring" => format!("net_ring{}", self.count),
            _ => panic!("no wire {wire}"),
        };
        self.count += 1;
        let pool = DpdkPort::rx_buffers(eal, CELLS, MTU, &[&device], None).expect("memory").into_pool("rx");
        let config = DpdkConfig {
            device: &device,
            mac: Some(MAC),
            fallback_mac: MAC,
            mtu: MTU,
            checksums: Checksums::Auto,
        };
        (Box::new(DpdkPort::open(eal, &config, pool, 0).unwrap_or_else(|e| panic!("{e}"))), None)
    }
}

#[cfg(not(feature = "dpdk"))]
struct Devices;

#[cfg(not(feature = "dpdk"))]
impl Devices {
    fn new(_: &Args) -> Devices {
        Devices
    }

    fn pages(&self) -> &'static str {
        "normal pages"
    }

    fn open(&mut self, wire: &str) -> (Box<dyn Port>, Option<mem::WireEnd>) {
        assert_eq!(wire, "mem", "this bench was built without DPDK");
        in_memory()
    }
}

fn in_memory() -> (Box<dyn Port>, Option<mem::WireEnd>) {
    let (near, far) = mem::wire(WIRE, 2048);
    let pool = Pool::reserve("rx", CELLS, 2048, PagePolicy::Best).expect("memory");
    (Box::new(mem::MemPort::new(near, pool, MAC, MTU, 0)), Some(far))
}
