//! What a packet costs on DPDK's virtual devices, in cycles: received and sent on as it is, and built from a head and
//! payload. `cargo run --release -p dataplane --features dpdk --example dpdk_copies`; with an argument, in hugepages.

use dataplane::port::dpdk::{Checksums, DpdkConfig, DpdkPort, Eal, EalConfig};
use dataplane::time::cycles;
use dataplane::{Burst, Pool, Port, Time, TxQueue};
use hugepages::PagePolicy;

const PASSES: u64 = 20_000;

fn main() {
    let huge = std::env::args().nth(1).is_some();
    let pages = if huge { PagePolicy::HugeOnly } else { PagePolicy::NormalOnly };
    let devices = ["net_ring0", "net_null0", "net_null1,size=1514"];
    let buffers_bytes = 3 * DpdkPort::buffers_bytes(8192, 1500, &devices);
    let eal =
        Eal::start(&EalConfig { buffers_bytes, pages, nics: Vec::new(), args: Vec::new() }).expect("EAL");
    let cells = Pool::reserve("cells", 4096, 2048, pages).expect("memory");
    let heads = Pool::reserve("heads", 4096, 256, pages).expect("memory");
    for device in devices {
        let rx = DpdkPort::rx_buffers(eal, 8192, 1500, &[device], None).expect("memory").into_pool("rx");
        let config =
            DpdkConfig { device, mac: None, fallback_mac: [2; 6], mtu: 1500, checksums: Checksums::Auto };
        let mut port = DpdkPort::open(eal, &config, rx.clone(), 0).expect("a port");
        if device.starts_with("net_null") {
            let len = if device.contains("1514") { 1514 } else { 64 };
            println!("{device} forward {len} {:.1}", forward(&mut port));
            continue;
        }
        for len in [64, 1514] {
            let mut queue = TxQueue::new(4096);
            for _ in 0..512 {
                let mut p = rx.alloc().expect("a cell");
                p.append(&vec![7; len]);
                queue.push(p);
            }
            while port.tx_burst(&mut queue, Time(0)) > 0 {}
            println!("{device} forward {len} {:.1}", forward(&mut port));
            drain(&mut port);
        }
        for len in [200, 1448] {
            println!("{device} build 54+{len} {:.1}", build(&mut port, &heads, &cells, len));
            drain(&mut port);
            println!("{device} build 54+{len}, heads in mbufs {:.1}", build(&mut port, &rx, &cells, len));
            drain(&mut port);
        }
    }
}

/// Cycles of a packet: the median of many short rounds, as other processes get in between.
struct Rounds(Vec<f64>);

impl Rounds {
    fn new() -> Rounds {
        Rounds(Vec::with_capacity(PASSES as usize))
    }
    fn median(mut self) -> f64 {
        self.0.drain(..self.0.len() / 10);
        self.0.sort_by(f64::total_cmp);
        self.0[self.0.len() / 2]
    }
}

/// What comes goes out again.
fn forward(port: &mut DpdkPort) -> f64 {
    let (mut burst, mut queue, mut rounds) = (Burst::new(), TxQueue::new(4096), Rounds::new());
    for pass in 0..PASSES {
        let t0 = cycles();
        let n = port.rx_burst(&mut burst, Time(pass));
        for p in burst.drain(..) {
            queue.push(p);
        }
        port.tx_burst(&mut queue, Time(pass));
        rounds.0.push((cycles() - t0) as f64 / n.max(1) as f64);
    }
    rounds.median()
}

/// A burst of segments, each a head and payload that others hold as well; received and dropped.
fn build(port: &mut DpdkPort, heads: &Pool, cells: &Pool, len: usize) -> f64 {
    let payload: Vec<_> = (0..2048)
        .map(|_| {
            let mut p = cells.alloc().expect("a cell");
            p.append(&vec![9; len]);
            p.into_slice(0, len)
        })
        .collect();
    let (mut burst, mut queue, mut rounds) = (Burst::new(), TxQueue::new(4096), Rounds::new());
    let mut next = 0;
    for pass in 0..PASSES {
        let t0 = cycles();
        for _ in 0..64 {
            let mut p = heads.alloc().expect("a cell");
            p.append(&[3; 54]);
            p.attach(payload[next % payload.len()].clone()).expect("room");
            next += 1;
            queue.push(p);
        }
        let n = port.tx_burst(&mut queue, Time(pass));
        rounds.0.push((cycles() - t0) as f64 / n.max(1) as f64);
        port.rx_burst(&mut burst, Time(pass));
        burst.clear();
    }
    rounds.median()
}

fn drain(port: &mut DpdkPort) {
    let mut burst = Burst::new();
    while port.rx_burst(&mut burst, Time(0)) > 0 {
        burst.clear();
    }
}
