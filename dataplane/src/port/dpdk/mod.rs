//! `dpdk`: a device of DPDK's, today any of its virtual ones, with one queue each way. Cargo's feature `dpdk`.
//!
//! ```text
//!  driver ──► mbufs ══ are our cells ══► core          no copy: `mbufs.rs`, `rx.rs`
//!         ◄── mbufs ◄── head │ attached cells ◄── TxQueue      `tx.rs`, `ledger.rs`
//! ```
//!
//! - `eal.rs`: DPDK's environment, once in a process, and threads known to it.
//! - `device.rs`: one device, from its making to its end.
//! - `mbufs.rs`: a mempool, and the pool whose cells are its mbufs.
//! - `rx.rs`, `tx.rs`: a queue each way; `ledger.rs`: cells that a device reads.
//! - `bare.rs`, `crossed.rs`: for measurements: a device without our packets, and the far end of one.
//! - `library.rs`: what is known of DPDK without starting it.
//! - `rings.rs`: two `net_ring` that face each other, for tests.
//! - here: the port: what is counted, and what a device is called.
//!
//! A frame that is longer than the MTU allows is dropped and counted: some drivers (`net_af_packet`) cut what does not
//! fit their ring without a word, and what is that long may have been cut. It is counted before a byte of it is read, as
//! others (`net_null`) make up lengths beyond their buffers.

pub mod bare;
mod crossed;
mod device;
mod eal;
mod ledger;
pub mod library;
mod mbufs;
mod rings;
mod rx;
mod tx;

pub use self::crossed::FarEnd;
use self::device::{Device, mbufs_held};
pub use self::eal::{Eal, EalConfig};
use self::mbufs::MbufSource;
pub use self::mbufs::Mbufs;
pub use self::rings::CrossedRings;
use self::rx::Rx;
use self::tx::Tx;
use super::{Burst, LinkFacts, Mac, Port, PortStats, TxQueue, VdevName};
use crate::{Pool, Time};

/// Ethernet with a VLAN tag in front of the packet.
const ETHERNET_BYTES: usize = 18;
/// In front of a received frame.
const HEADROOM: usize = dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;
/// The device is asked this often what it missed, and to give back what it sent: some ask the kernel, or a NIC's
/// registers.
const CHORES_EVERY_NS: u64 = 100_000_000;
/// Bursts that are fetched and thrown away before a device is closed.
const DISCARDS_MAX: usize = 256;

/// What a port is made from.
pub struct DpdkConfig<'a> {
    /// The device.
    pub device: &'a str,
    /// Our address; `None`: the device's own, if it has a good one that is not the kernel's as well.
    pub mac: Option<Mac>,
    /// Our address where the device has none that will do.
    pub fallback_mac: Mac,
    /// Largest IP packet.
    pub mtu: u16,
}

/// The one queue of a device.
pub struct DpdkPort {
    device: Device,
    rx: Rx,
    tx: Tx,
    facts: LinkFacts,
    stats: PortStats,
    chores_next: Time,
    missed_seen: u64,
    open: bool,
}

impl DpdkPort {
    /// Memory for the buffers of a core: as many cells as [`DpdkPort::rx_buffers`] is asked for, and what the ports of
    /// these devices send from.
    pub fn buffers_bytes(cells: u32, mtu: u16, devices: &[&str]) -> u64 {
        let held = devices.iter().map(|d| mbufs_held(d)).sum();
        Mbufs::bytes(cells, held, rx_room(mtu)) + devices.len() as u64 * Tx::bytes(frame_bytes(mtu))
    }

    /// Memory that one more cell takes.
    pub fn rx_cell_bytes(mtu: u16) -> u64 {
        Mbufs::bytes(1, 0, rx_room(mtu)) - Mbufs::bytes(0, 0, rx_room(mtu))
    }

    /// Mbufs for what the ports of a core receive: `cells` that the core may hold, with room for a frame of any port, and
    /// those that its DPDK devices have themselves.
    ///
    /// # Errors
    /// One sentence.
    pub fn rx_buffers(eal: Eal, cells: u32, mtu: u16, devices: &[&str]) -> Result<Mbufs, String> {
        eal.register_thread()?;
        Mbufs::reserve(eal, cells, devices.iter().map(|d| mbufs_held(d)).sum(), rx_room(mtu))
    }

    /// Makes and starts the device, on the thread that will poll it; receives into `pool`, which must be one of mbufs.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn open(eal: Eal, config: &DpdkConfig<'_>, pool: Pool, number: u8) -> Result<DpdkPort, String> {
        let name = config.device;
        let Some(vdev) = VdevName::parse(name) else {
            return Err(format!(
                "\"{name}\" is not a virtual device of DPDK's; write one, as in net_tap0,iface=tap7"
            ));
        };
        let explain = |e: String| format!("cannot open DPDK's {name}: {e}; {}", mend(vdev.name));
        eal.register_thread().map_err(explain)?;
        let frame_bytes = frame_bytes(config.mtu);
        let source =
            pool.source::<MbufSource>().ok_or_else(|| explain("no pool of mbufs was made".to_owned()))?;
        if usize::from(source.room()) < frame_bytes {
            return Err(explain("the pool's mbufs are shorter than a frame".to_owned()));
        }
        let mut device =
            Device::open(eal, vdev.name, vdev.args, config.mtu, source.mempool()).map_err(explain)?;
        let abilities = device.abilities().clone();
        let tx = Tx::new(device.port(), 0, abilities.chains(), frame_bytes).map_err(explain)?;
        let own = device.mac();
        // The kernel's side of a TAP has the address that DPDK says is the device's.
        let usable = own != [0; 6] && own[0] & 1 == 0 && !vdev.name.starts_with("net_tap");
        let mac = config.mac.unwrap_or(if usable { own } else { config.fallback_mac });
        if mac != own {
            // Virtual devices that cannot do this take every frame anyway.
            device.be_promiscuous();
        }
        let facts = LinkFacts {
            kind: "dpdk",
            device: name.to_owned(),
            mac,
            mtu: config.mtu,
            mode: format!(
                "{}, 1 queue, zero-copy rx, {} tx, checksums {}, {} of mbufs in {}",
                abilities.driver,
                if abilities.chains() { "extbuf" } else { "copying" },
                if abilities.rx_checksums() { "verified by the driver" } else { "in software" },
                hugepages::human_bytes((source.bytes() + tx.mempool_bytes()) as usize),
                if eal.hugepages() { "hugepages" } else { "normal pages" }
            ),
            rx_checksum_offload: false,
            tx_checksum_offload: false,
        };
        let missed_seen = device.missed();
        source.enter();
        let rx = Rx::new(device.port(), 0, pool, number, frame_bytes, abilities.rx_marks());
        Ok(DpdkPort {
            rx,
            tx,
            device,
            facts,
            stats: PortStats::default(),
            chores_next: Time(0),
            missed_seen,
            open: true,
        })
    }

    /// Frames that were received and copied, as their mbufs were another port's or several.
    pub fn rx_copied(&self) -> u64 {
        self.rx.copied
    }

    /// Cells that were sent and that the device still reads, or has not given back.
    pub fn tx_attached(&self) -> u32 {
        self.tx.attached()
    }

    /// Stops and removes the device; so does dropping the port. Gives the number of mbufs that did not come back,
    /// which should be 0: those of cells that others hold are theirs.
    pub fn close(mut self) -> u32 {
        self.end()
    }

    fn end(&mut self) -> u32 {
        if !std::mem::take(&mut self.open) {
            return 0;
        }
        // Some drivers forget what lies in their rings. A device that makes frames up never runs dry: bounded.
        let mut left = if self.device.is_started() { DISCARDS_MAX } else { 0 };
        while left > 0 && self.rx.discard() > 0 {
            left -= 1;
        }
        self.device.close();
        let pool = self.rx.pool();
        let missing = pool.source::<MbufSource>().map_or(0, |source| source.leave(pool));
        missing + self.tx.close()
    }

    /// What is looked after now and then.
    #[cold]
    fn chores(&mut self, now: Time) {
        self.chores_next = Time(now.0 + CHORES_EVERY_NS);
        self.tx.clean_up();
        // Frames that the device dropped because this core was too slow reached us as well.
        let missed = self.device.missed();
        let new = missed.saturating_sub(self.missed_seen);
        self.missed_seen = missed;
        self.stats.rx_packets += new;
        self.stats.rx_missed += new;
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        let missing = self.end();
        debug_assert!(missing == 0 || std::thread::panicking(), "{missing} mbufs did not come back");
    }
}

/// Bytes of an mbuf's buffer to receive into. At least 2 KiB for the frame, which is what drivers take for granted.
fn rx_room(mtu: u16) -> u16 {
    (frame_bytes(mtu).next_multiple_of(64).max(2048) + HEADROOM) as u16
}

fn frame_bytes(mtu: u16) -> usize {
    usize::from(mtu) + ETHERNET_BYTES
}

/// What to do about a device that cannot be had.
fn mend(name: &str) -> &'static str {
    let needs = [
        ("net_tap", "needs CAP_NET_ADMIN: run as root, or in `unshare -Urn`, and name a TAP that is free"),
        ("net_af_packet", "needs root (CAP_NET_RAW, CAP_NET_ADMIN), and iface= an interface that is there"),
        ("net_af_xdp", "needs root, and iface= an interface that is there"),
        ("net_pcap", "needs rx_pcap=, tx_pcap= or iface=; look whether the file is there"),
    ];
    let known = needs.iter().find(|(driver, _)| name.starts_with(driver));
    known.map_or("look at its arguments, and at DPDK's own message above", |(_, mend)| mend)
}

impl Port for DpdkPort {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        if now >= self.chores_next {
            self.chores(now);
        }
        self.tx.collect();
        let before = out.len();
        self.rx.burst(out, &mut self.stats, now);
        out.len() - before
    }

    fn tx_burst(&mut self, queue: &mut TxQueue, _now: Time) -> usize {
        self.tx.burst(queue, &mut self.stats)
    }

    fn facts(&self) -> &LinkFacts {
        &self.facts
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn rx_pool(&self) -> &Pool {
        self.rx.pool()
    }
}
