//! `dpdk`: a device of DPDK's, a NIC or a virtual one, with one queue each way. Cargo's feature `dpdk`.
//!
//! ```text
//!  driver ──► mbufs ── copy ──► our cells ──► core          a copy each way, for now: `mode` says so
//!         ◄── mbufs ◄── copy ── head and tail ◄── TxQueue
//! ```
//!
//! - `eal.rs`: DPDK's environment, once in a process, and threads known to it.
//! - `nic.rs`: what keeps a NIC of this host from being ours.
//! - `device.rs`: one device, its mbufs, and all that is `unsafe` about them.
//! - here: the port: what is counted, and what a device is called.
//!
//! A frame that is longer than the MTU allows is dropped and counted: some drivers (`net_af_packet`) cut what does not
//! fit their ring without a word, and what is that long may have been cut. It is counted before a byte of it is read, as
//! others (`net_null`) make up lengths beyond their buffers.

mod device;
mod eal;
mod nic;
#[allow(dead_code)]
mod rss;

use self::device::{Device, MBUFS, Staged};
use self::eal::Bus;
pub use self::eal::{Eal, EalConfig};
pub use self::nic::Host;
use super::{BURST_MAX, Burst, DeviceName, LinkFacts, Mac, Port, PortStats, TxQueue};
use crate::{Pool, Time};

/// Ethernet with a VLAN tag in front of the packet.
const ETHERNET_BYTES: usize = 18;
/// The device is asked this often what it missed: some ask the kernel, or a NIC's registers.
const MISSED_EVERY_NS: u64 = 100_000_000;

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
    pool: Pool,
    facts: LinkFacts,
    stats: PortStats,
    number: u8,
    frame_bytes: usize,
    /// Taken from the queue and written into mbufs, until the device has said how many it takes.
    offered: Burst,
    missed_next: Time,
    missed_seen: u64,
}

impl DpdkPort {
    /// Memory that DPDK needs for a port's mbufs: what to start [`Eal`] with.
    pub fn buffers_bytes(mtu: u16) -> u64 {
        device::mempool_bytes(frame_bytes(mtu))
    }

    /// Makes and starts the device, on the thread that will poll it; receives into `pool`.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn open(eal: Eal, config: &DpdkConfig<'_>, pool: Pool, number: u8) -> Result<DpdkPort, String> {
        let name = config.device;
        let (bus, on_bus, args) = on_bus(name)?;
        let explain = |e: String| format!("cannot open DPDK's {name}: {e}; {}", mend(&on_bus));
        eal.register_thread().map_err(explain)?;
        let frame_bytes = frame_bytes(config.mtu);
        let mut device = Device::open(eal, bus, &on_bus, args, config.mtu, frame_bytes).map_err(explain)?;
        let own = device.mac();
        // The kernel's side of a TAP has the address that DPDK says is the device's.
        let usable = own != [0; 6] && own[0] & 1 == 0 && !on_bus.starts_with("net_tap");
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
                "{}, 1 queue, copy, checksums in software, {} of {MBUFS} mbufs in {}",
                device.driver(),
                hugepages::human_bytes(DpdkPort::buffers_bytes(config.mtu) as usize),
                if eal.hugepages() { "hugepages" } else { "normal pages" }
            ),
            rx_checksum_offload: false,
            tx_checksum_offload: false,
        };
        let missed_seen = device.missed();
        Ok(DpdkPort {
            device,
            pool,
            facts,
            stats: PortStats::default(),
            number,
            frame_bytes,
            offered: Burst::new(),
            missed_next: Time(0),
            missed_seen,
        })
    }

    /// Stops and removes the device; so does dropping the port. Gives the number of mbufs that did not come back,
    /// which should be 0.
    pub fn close(mut self) -> u32 {
        self.device.close()
    }

    /// Frames that the device dropped because this core was too slow reached us as well.
    #[cold]
    fn count_missed(&mut self, now: Time) {
        self.missed_next = Time(now.0 + MISSED_EVERY_NS);
        let missed = self.device.missed();
        let new = missed.saturating_sub(self.missed_seen);
        self.missed_seen = missed;
        self.stats.rx_packets += new;
        self.stats.rx_missed += new;
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
    if !name.starts_with("net_") {
        return "look at DPDK's own message above, and at `dmesg`";
    }
    let known = needs.iter().find(|(driver, _)| name.starts_with(driver));
    known.map_or("look at its arguments, and at DPDK's own message above", |(_, mend)| mend)
}

impl Port for DpdkPort {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        if now >= self.missed_next {
            self.count_missed(now);
        }
        let before = out.len();
        let (pool, stats, number, frame_bytes) = (&self.pool, &mut self.stats, self.number, self.frame_bytes);
        self.device.receive(out.remaining_capacity(), |frame| {
            stats.rx_packets += 1;
            stats.rx_bytes += frame.len() as u64;
            if frame.len() > frame_bytes {
                stats.rx_too_long += 1;
                return;
            }
            let Some(mut p) = pool.alloc() else {
                stats.rx_no_buffer += 1;
                return;
            };
            if !frame.parts(|bytes| p.append(bytes)) {
                stats.rx_too_long += 1;
                return;
            }
            let m = p.meta_mut();
            m.arrival = now;
            m.port = number;
            out.push(p);
        });
        out.len() - before
    }

    fn tx_burst(&mut self, queue: &mut TxQueue, _now: Time) -> usize {
        let mut refused = 0;
        while self.offered.len() + refused < BURST_MAX {
            let Some(p) = queue.pop() else { break };
            match self.device.stage(|room| p.copy_to(room)) {
                Staged::Done => self.offered.push(p),
                Staged::TooLong => refused += 1,
                Staged::NoBuffer => {
                    queue.push_front(p);
                    break;
                }
            }
        }
        self.stats.tx_errors += refused as u64;
        if self.offered.is_empty() {
            return refused;
        }
        let sent = self.device.send();
        for p in self.offered.drain(sent..).rev() {
            queue.push_front(p);
        }
        for p in self.offered.drain(..) {
            self.stats.tx_packets += 1;
            self.stats.tx_bytes += p.total_len() as u64;
        }
        sent + refused
    }

    fn facts(&self) -> &LinkFacts {
        &self.facts
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn rx_pool(&self) -> &Pool {
        &self.pool
    }
}
