//! A rig whose node has a port of kind `dpdk`: a `net_ring`, on whose far end the load's frames go in and out, in the same
//! thread. They come in mbufs of the node's own mempool, as from any device.

use std::sync::atomic::{AtomicU32, Ordering};

use dataplane::buf::RxFlags;
use dataplane::port::dpdk::{Checksums, CrossedRings, DpdkConfig, DpdkPort, Eal, EalConfig, FarEnd};
use dataplane::port::mem::{WireEnd, wire};
use dataplane::port::{LinkFacts, PortStats};
use dataplane::{Burst, Pool, Port, Time, TxQueue};
use hugepages::PagePolicy;

use super::{Far, Load, NODE_MAC, PEER_MAC, RIG_FRAMES, Rig, Shared, Who, core_over, program_of};

const MTU: u16 = 1500;
/// So that a few rigs have room at once.
const CELLS_MAX: u32 = 16_384;

/// Room for the ports of all tests at once.
fn eal() -> Eal {
    let huge = std::env::var("MILLRACE_DPDK_HUGEPAGES").is_ok_and(|v| v == "1");
    let pages = if huge { PagePolicy::HugeOnly } else { PagePolicy::NormalOnly };
    Eal::start(&EalConfig { buffers_bytes: 256 << 20, pages, nics: Vec::new(), args: Vec::new() })
        .expect("EAL")
}

/// A port whose frames are not verified: the load leaves their checksums blank.
struct Trusting(DpdkPort);

impl Port for Trusting {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        let before = out.len();
        let n = self.0.rx_burst(out, now);
        for p in &mut out[before..] {
            p.meta_mut().flags.set(RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK);
        }
        n
    }
    fn tx_burst(&mut self, queue: &mut TxQueue, now: Time) -> usize {
        self.0.tx_burst(queue, now)
    }
    fn facts(&self) -> &LinkFacts {
        self.0.facts()
    }
    fn stats(&self) -> PortStats {
        self.0.stats()
    }
    fn rx_pool(&self) -> &Pool {
        self.0.rx_pool()
    }
}

/// The load's end: what its wire carries goes over the memif, and back.
pub struct Pump {
    port: DpdkPort,
    wire: WireEnd,
    queue: TxQueue,
    burst: Burst,
}

impl Pump {
    /// Carries what is there, a burst each way.
    pub fn turn(&mut self, now: Time) {
        let (pool, queue) = (self.port.rx_pool().clone(), &mut self.queue);
        while queue.room() > 0 {
            let into = |frame: &[u8]| {
                let mut p = pool.alloc().expect("a cell");
                assert!(p.append(frame));
                queue.push(p);
            };
            if self.wire.recv_with(into).is_none() {
                break;
            }
        }
        self.port.tx_burst(&mut self.queue, now);
        self.port.rx_burst(&mut self.burst, now);
        for p in self.burst.drain(..) {
            assert!(self.wire.send(p.head()), "the load's wire is full");
        }
    }
}

impl Rig {
    /// A node of one core on a `net_ring` whose far end is the load's own, as a NIC's would be: for what is to be measured.
    /// Checksums are filled in and verified, as such a device does neither.
    pub fn on_ring(who: &Who, conns: usize, response: Vec<u8>) -> Rig {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("far{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut far = FarEnd::new(eal(), &name).expect("memory");
        let device = far.device();
        let mut shared = Shared::new(1);
        shared.has_checksums = true;
        let (program, cache) = program_of(who, &shared, 0);
        let core = core_over(program, cache, conns as u32, &shared, 0, |cells| {
            let cells = cells.min(CELLS_MAX);
            let pool =
                DpdkPort::rx_buffers(eal(), cells, MTU, &[&device], None).expect("memory").into_pool("rx");
            far.deliver_into(&pool);
            let config = DpdkConfig {
                device: &device,
                mac: Some(NODE_MAC),
                fallback_mac: NODE_MAC,
                mtu: MTU,
                checksums: Checksums::Auto,
            };
            let port = DpdkPort::open(eal(), &config, pool.clone(), 0).unwrap_or_else(|e| panic!("{e}"));
            (Box::new(port), pool)
        });
        let mut load = Load::over_any(vec![Far::Ring(Box::new(far))], |_, _, _| 0, conns, response);
        load.has_checksums = true;
        Rig { core, others: Vec::new(), load, segment: shared.segment, now: Time(1_000_000), helpers: None }
    }

    /// A node of one core over a pair of rings, what turns its other end between two passes, and the rings, which must go
    /// last.
    pub fn over_rings(
        who: Who,
        conns: usize,
        response: Vec<u8>,
        shared: &Shared,
    ) -> (CrossedRings, Rig, Pump) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("rig{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let rings = CrossedRings::new(eal(), &name, 1).expect("memory");
        let devices = [rings.device(0), rings.device(1)];
        let open = |side: usize, pool: &Pool, mac| {
            let config = DpdkConfig {
                device: &devices[side],
                mac: Some(mac),
                fallback_mac: mac,
                mtu: MTU,
                checksums: Checksums::Auto,
            };
            DpdkPort::open(eal(), &config, pool.clone(), 0).unwrap_or_else(|e| panic!("{e}"))
        };
        let (program, cache) = program_of(&who, shared, 0);
        let core = core_over(program, cache, conns as u32, shared, 0, |cells| {
            let names = devices.each_ref().map(String::as_str);
            let pool = DpdkPort::rx_buffers(eal(), cells, MTU, &names, None).expect("memory").into_pool("rx");
            (Box::new(Trusting(open(0, &pool, NODE_MAC))), pool)
        });
        let pool = core.ports().next().expect("a port").rx_pool().clone();
        let (near, far) = wire(2 * RIG_FRAMES, 1600);
        let port = open(1, &pool, PEER_MAC);
        let pump = Pump { port, wire: near, queue: TxQueue::new(64), burst: Burst::new() };
        let load = Load::new(far, conns, response);
        let segment = std::sync::Arc::clone(&shared.segment);
        let rig = Rig { core, others: Vec::new(), load, segment, now: Time(1_000_000), helpers: None };
        (rings, rig, pump)
    }
}
