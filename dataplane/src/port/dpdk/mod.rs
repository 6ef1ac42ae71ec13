//! `dpdk`: a device of DPDK's, a NIC or a virtual one, with a queue each way for each core. Cargo's feature `dpdk`.
//!
//! ```text
//!  driver ──► mbufs ══ are our cells ══► core          no copy: `mbufs.rs`, `rx.rs`
//!         ◄── mbufs ◄── head │ attached cells ◄── TxQueue      `tx.rs`, `ledger.rs`
//! ```
//!
//! - `eal.rs`: DPDK's environment, once in a process, and threads known to it.
//! - `nic.rs`: what keeps a NIC of this host from being ours.
//! - `seat.rs`, `gate.rs`: a device that several cores share: how it starts and ends; `rss.rs`: how it spreads frames.
//! - `device.rs`: one device, from its making to its end; `abilities.rs`: what it can do.
//! - `mbufs.rs`: a mempool, and the pool whose cells are its mbufs.
//! - `rx.rs`, `tx.rs`: a queue each way; `chain.rs`: a frame of mbufs; `ledger.rs`: cells that a device reads; `giveback.rs`: how they
//!   come back from other threads.
//! - `bare.rs`, `crossed.rs`: for measurements: a device without our packets, and the far end of one.
//! - `library.rs`: what is known of DPDK without starting it.
//! - `rings.rs`: two `net_ring` that face each other, for tests.
//! - here: the port: what is counted, and what a device is called.
//!
//! A frame that is longer than the MTU allows is dropped and counted: some drivers (`net_af_packet`) cut what does not
//! fit their ring without a word, and what is that long may have been cut. It is counted before a byte of it is read, as
//! others (`net_null`) make up lengths beyond their buffers.

mod abilities;
pub mod bare;
mod chain;
mod crossed;
mod device;
mod eal;
mod gate;
mod giveback;
mod ledger;
pub mod library;
mod mbufs;
mod nic;
mod rings;
mod rss;
mod rx;
mod seat;
mod tx;

use std::sync::Arc;
use std::time::Duration;

use self::abilities::mbufs_held;
pub use self::crossed::FarEnd;
use self::device::{Lost, RING_SLOTS};
use self::eal::Bus;
pub use self::eal::{Eal, EalConfig};
use self::mbufs::MbufSource;
pub use self::mbufs::Mbufs;
pub use self::nic::Host;
pub use self::rings::CrossedRings;
pub use self::rss::KEY_BYTES_MAX;
use self::rx::Rx;
use self::seat::Shared;
pub use self::seat::{DpdkCounts, DpdkSeat, far_from};
use self::tx::Tx;
pub use super::Checksums;
use super::{Burst, DeviceName, Fill, LinkFacts, Mac, Port, PortStats, TxQueue};
use crate::{Pool, Time};

/// Ethernet with a VLAN tag in front of the packet.
const ETHERNET_BYTES: usize = 18;
/// In front of a received frame.
const HEADROOM: usize = dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;
/// In front of a frame that came by AF_XDP, besides.
const XDP_HEADROOM: usize = 256;
/// The device is asked this often what it missed, and to give back what it sent: some ask the kernel, or a NIC's
/// registers.
const CHORES_EVERY_NS: u64 = 100_000_000;
/// Bursts that are fetched and thrown away before a device is closed.
const DISCARDS_MAX: usize = 256;
/// At most so often, and for so long each time, a device that is closed is waited for, until what it was given is sent.
const SENT_WAITS_MAX: usize = 200;
const SENT_WAIT: Duration = Duration::from_millis(1);

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
    /// Who computes checksums.
    pub checksums: Checksums,
}

/// One queue each way of a device.
pub struct DpdkPort {
    shared: Arc<Shared>,
    /// The first of them counts what is counted for the whole device.
    is_first: bool,
    /// Whether the core has ever looked for frames.
    polled: bool,
    rx: Rx,
    tx: Tx,
    /// What heads are sent from, beside cells.
    heads: Option<Pool>,
    facts: LinkFacts,
    stats: PortStats,
    chores_next: Time,
    lost_seen: Lost,
    open: bool,
}

impl DpdkPort {
    /// Memory for the buffers of a core: as many cells as [`DpdkPort::rx_buffers`] is asked for, and what the ports of
    /// these devices send from.
    pub fn buffers_bytes(cells: u32, mtu: u16, devices: &[&str]) -> u64 {
        let held = devices.iter().map(|d| mbufs_held(d)).sum();
        Mbufs::bytes(cells, held, rx_room(mtu)) + devices.len() as u64 * Tx::bytes(frame_bytes(mtu))
    }

    /// Memory for the heads of frames that a core sends: see [`DpdkPort::head_buffers`].
    pub fn head_buffers_bytes(cells: u32, bytes: u16, devices: &[&str]) -> u64 {
        Mbufs::bytes(cells, heads_held(devices), bytes)
    }

    /// Mbufs for the heads of frames that a core sends, of so many bytes each: then a head is not copied into one. They
    /// will do for ports of any kind.
    ///
    /// # Errors
    /// One sentence.
    pub fn head_buffers(
        eal: Eal,
        cells: u32,
        bytes: u16,
        devices: &[&str],
        node: Option<i32>,
    ) -> Result<Mbufs, String> {
        eal.register_thread()?;
        Mbufs::reserve(eal, cells, heads_held(devices), bytes, node)
    }

    /// Memory that one more cell takes.
    pub fn rx_cell_bytes(mtu: u16) -> u64 {
        Mbufs::bytes(1, 0, rx_room(mtu)) - Mbufs::bytes(0, 0, rx_room(mtu))
    }

    /// Mbufs for what the ports of a core receive: `cells` that the core may hold, with room for a frame of any port, and
    /// those that its DPDK devices have themselves; on a NUMA node, if it is given.
    ///
    /// # Errors
    /// One sentence.
    pub fn rx_buffers(
        eal: Eal,
        cells: u32,
        mtu: u16,
        devices: &[&str],
        node: Option<i32>,
    ) -> Result<Mbufs, String> {
        eal.register_thread()?;
        Mbufs::reserve(eal, cells, devices.iter().map(|d| mbufs_held(d)).sum(), rx_room(mtu), node)
    }

    /// Takes and starts a device for one core, on the thread that will poll it; receives into `pool`, which must be one of
    /// mbufs.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn open(eal: Eal, config: &DpdkConfig<'_>, pool: Pool, number: u8) -> Result<DpdkPort, String> {
        // One queue needs no key.
        let mut seats = DpdkSeat::take(eal, config, 1, &[0; KEY_BYTES_MAX])?;
        seats.pop().ok_or("a device without a queue; this is a defect")?.open(pool, number)
    }

    /// A queue of a device that has been started.
    fn new(shared: Arc<Shared>, queue: u16, tx: Tx, pool: Pool, number: u8) -> DpdkPort {
        let source = pool.source::<MbufSource>();
        let facts = shared.facts(source.map_or(0, MbufSource::bytes) + tx.mempool_bytes());
        if let Some(source) = source {
            source.enter();
        }
        let marks = shared.abilities().rx_marks();
        let rx = Rx::new(shared.port(), queue, pool, number, frame_bytes(facts.mtu), marks);
        DpdkPort {
            is_first: queue == 0,
            polled: false,
            rx,
            tx,
            heads: None,
            facts,
            stats: PortStats::default(),
            chores_next: Time(0),
            lost_seen: Lost::of(shared.port(), shared.abilities()),
            shared,
            open: true,
        }
    }

    /// The core's pool of [`DpdkPort::head_buffers`], which is to have all of its mbufs back when the port is closed.
    pub fn sends_from(&mut self, heads: &Pool) {
        if let Some(source) = heads.source::<MbufSource>() {
            source.enter();
            self.heads = Some(heads.clone());
        }
    }

    /// Frames that were received and copied, as their mbufs were another port's or several.
    pub fn rx_copied(&self) -> u64 {
        self.stats.rx_copied
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
        let mut left = DISCARDS_MAX;
        while left > 0 && self.rx.discard() > 0 {
            left -= 1;
        }
        if self.polled && self.shared.abilities().is_af_xdp() {
            self.await_sent();
        }
        // A core that has not begun may have failed to: it waits for nobody, and its buffers stay with the device.
        let ended = self.shared.leave(self.polled && !std::thread::panicking());
        let pool = self.rx.pool();
        let kept = self.shared.abilities().kept();
        let unreceived = pool.source::<MbufSource>().map_or(0, |source| source.leave(pool, kept));
        let heads = self.heads.as_ref().and_then(|heads| Some(heads.source::<MbufSource>()?.leave(heads, 0)));
        let unsent = self.tx.close() + heads.unwrap_or(0);
        if ended || self.polled { unreceived + unsent } else { 0 }
    }

    /// Gives the kernel time to send what it was given: its driver fetches the mbufs of that when it sends, and never again
    /// when it is closed.
    fn await_sent(&mut self) {
        let kept = self.shared.abilities().kept();
        for _ in 0..SENT_WAITS_MAX {
            self.tx.poke();
            let pool = self.rx.pool();
            if pool.source::<MbufSource>().is_none_or(|source| source.elsewhere(pool) <= kept) {
                return;
            }
            std::thread::sleep(SENT_WAIT);
        }
    }

    /// What is looked after now and then.
    #[cold]
    fn chores(&mut self, now: Time) {
        self.chores_next = Time(now.0 + CHORES_EVERY_NS);
        self.tx.clean_up();
        if !self.is_first {
            return;
        }
        // Frames that the device dropped because a core was too slow reached us as well.
        let lost = Lost::of(self.shared.port(), self.shared.abilities());
        let new = lost.since(self.lost_seen);
        self.lost_seen = lost;
        self.stats.rx_packets += new.missed + new.damaged;
        self.stats.rx_missed += new.missed;
        self.stats.rx_damaged += new.damaged;
        self.stats.tx_unsent += new.unsent;
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        let missing = self.end();
        debug_assert!(missing == 0 || std::thread::panicking(), "{missing} mbufs did not come back");
    }
}

/// Where EAL finds a device, what it is called there, and its driver's arguments.
fn on_bus(device: &str) -> Result<(Bus, String, &str), String> {
    match DeviceName::parse(device) {
        Some(DeviceName::Virtual(v)) => Ok((Bus::Virtual, v.name.to_owned(), v.args)),
        Some(DeviceName::Pci { address, args }) => Ok((Bus::Pci, address.to_string(), args)),
        Some(DeviceName::Interface(name)) => Ok((Bus::Pci, Host::default().nic_of(name)?.to_string(), "")),
        None => Err(format!(
            "\"{device}\" is not a device of DPDK's; write a NIC's PCI address, as in 0000:3b:00.0, or a virtual \
             device, as in net_tap0,iface=tap7"
        )),
    }
}

/// The NIC that a device is, with its driver's arguments, as [`EalConfig::nics`] wants it; `None` for a virtual device.
///
/// # Errors
/// One sentence with the mend, where there is no such NIC, or something keeps it from being ours.
pub fn nic(host: &Host, device: &str) -> Result<Option<String>, String> {
    let (address, args) = match DeviceName::parse(device) {
        Some(DeviceName::Pci { address, args }) => (address, args),
        Some(DeviceName::Interface(name)) => (host.nic_of(name)?, ""),
        Some(DeviceName::Virtual(_)) | None => return Ok(None),
    };
    host.check(address)?;
    Ok(Some(if args.is_empty() { address.to_string() } else { format!("{address},{args}") }))
}

/// Heads that devices have not sent yet, at most.
fn heads_held(devices: &[&str]) -> u32 {
    devices.len() as u32 * u32::from(RING_SLOTS)
}

/// Bytes of an mbuf's buffer to receive into. At least 2 KiB for the frame, which is what drivers take for granted.
fn rx_room(mtu: u16) -> u16 {
    ((frame_bytes(mtu) + XDP_HEADROOM).next_multiple_of(64).max(2048) + HEADROOM) as u16
}

fn frame_bytes(mtu: u16) -> usize {
    usize::from(mtu) + ETHERNET_BYTES
}

/// What to do about a device that cannot be had.
fn mend(name: &str) -> &'static str {
    let needs = [
        ("net_tap", "needs CAP_NET_ADMIN: run as root, or in `unshare -Urn`, and name a TAP that is free"),
        ("net_af_packet", "needs root (CAP_NET_RAW, CAP_NET_ADMIN), and iface= an interface that is there"),
        (
            "net_af_xdp",
            "needs root, and iface= an interface that is there and whose queue no XDP program or socket has",
        ),
        ("net_memif", "with role=client the other process, with role=server, must be there first"),
        ("net_pcap", "needs rx_pcap=, tx_pcap= or iface=; look whether the file is there"),
    ];
    if !name.starts_with("net_") {
        return "look at DPDK's own message above, and at `dmesg`";
    }
    let known = needs.iter().find(|(driver, _)| name.starts_with(driver));
    known.map_or("look at its arguments, and at DPDK's own message above", |(_, mend)| mend)
}

impl Port for DpdkPort {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        if now >= self.chores_next {
            self.polled = true;
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

    fn tx_fill(&mut self, most: usize, bytes: usize, fill: Fill) -> Option<usize> {
        self.tx.fill(most, bytes, fill, &mut self.stats)
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
