//! A device of DPDK's: made, set up with a queue each way for each core, started, asked, stopped and removed. What it
//! carries goes by `rx.rs` and `tx.rs`.
#![allow(unsafe_code)] // Calls of libdpdk; each says what it rests on.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::eal::{Bus, Eal, text};
use super::rss::{self, GROUP, HASHED, KEY_BYTES_MAX, Offered, Plan, TABLE_MAX};
use super::rx::{HASH, L3_MASK, L4_MASK};
use crate::port::{Checksums, LinkState, Mac};
use crate::rss::Rss;

/// What is asked for; a driver may have less.
pub(super) const RING_SLOTS: u16 = 1024;
/// The driver of the kernel's AF_XDP sockets, and its rings (`ETH_AF_XDP_DFLT_NUM_DESCS`).
const AF_XDP: &str = "net_af_xdp";
const AF_XDP_SLOTS: u32 = 2048;
/// The kernel's page; and what is left of it for a packet, in round numbers, behind 64 + 128 + 192 bytes of headers, two
/// headrooms and the Ethernet header.
const AF_XDP_OBJECT_MAX: u32 = 4096;
const AF_XDP_MTU_MAX: u16 = 3200;
/// Any NUMA node.
const SOCKET_ANY: c_int = -1;
// The bindings give each the smallest type that holds it.
/// What a device may verify, and does where it can.
const RX_CHECKSUMS: u64 = (sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM
    | sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM
    | sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM) as u64;
/// The one that our stack leaves to a device.
const TX_CHECKSUM: u64 = sys::RTE_ETH_TX_OFFLOAD_TCP_CKSUM as u64;
const TX_TSO: u64 = sys::RTE_ETH_TX_OFFLOAD_TCP_TSO as u64;
const RX_HASH: u64 = sys::RTE_ETH_RX_OFFLOAD_RSS_HASH as u64;
const TX_CHAINS: u64 = sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS as u64;

/// One device with a queue each way for each core.
pub(super) struct Device {
    eal: Eal,
    bus: Bus,
    name: CString,
    port: u16,
    abilities: Abilities,
    rx_slots: u16,
    tx_slots: u16,
    /// How it is to spread frames over its queues.
    rss: Option<Plan>,
    started: bool,
    promiscuous: bool,
    open: bool,
}

/// What a device can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Frames of one segment, in an mbuf's own buffer.
    OneMbuf,
    /// Chains, of what is in mbufs' own buffers. A NIC's IOMMU knows of EAL's memory and no other: for cells of ours,
    /// `rte_extmem_register` and `rte_dev_dma_map` of their regions would have to come first, and IOVA as VA.
    Mbufs,
    /// Chains, of any memory: drivers that copy, or give pointers to their peer.
    Anywhere,
}

/// What a device can do, of what we have a use for.
#[derive(Clone, Debug, Default)]
pub(super) struct Abilities {
    /// The driver's name.
    pub(super) driver: String,
    rx_offloads: u64,
    tx_offloads: u64,
    /// Reads what it sends by DMA: only what EAL has mapped for it.
    dma: bool,
    /// It computes TCP checksums of what it sends, and is asked to.
    tx_checksums: bool,
    /// Queues each way.
    queues_max: u16,
    spreads: Offered,
}

impl Abilities {
    /// Where the segments of a frame may lie.
    pub(super) fn reach(&self) -> Reach {
        match (self.tx_offloads & TX_CHAINS != 0, self.dma) {
            (false, _) => Reach::OneMbuf,
            (true, true) => Reach::Mbufs,
            (true, false) => Reach::Anywhere,
        }
    }

    /// It verifies all checksums of what it receives.
    pub(super) fn rx_checksums(&self) -> bool {
        self.rx_offloads & RX_CHECKSUMS == RX_CHECKSUMS
    }

    /// It fills in the checksums that our stack leaves blank.
    pub(super) fn tx_checksums(&self) -> bool {
        self.tx_checksums
    }

    /// Decides who computes checksums.
    fn settle(&mut self, checksums: Checksums) -> Result<(), String> {
        let offered = self.tx_offloads & TX_CHECKSUM != 0;
        self.tx_checksums = match checksums {
            Checksums::Auto => offered && self.dma,
            Checksums::Software => {
                self.rx_offloads &= !RX_CHECKSUMS;
                false
            }
            Checksums::Device if offered && self.rx_checksums() => true,
            Checksums::Device => {
                return Err("it does not compute checksums both ways; write checksums = \"auto\"".to_owned());
            }
        };
        if self.tx_checksums && self.driver == "net_tap" {
            // It adds up piece by piece as if each had an even number of bytes (22.11, tap_tx_l4_add_rcksum).
            self.tx_offloads &= !TX_CHAINS;
        }
        Ok(())
    }

    /// Who does what, for the port's mode.
    pub(super) fn offloads(&self) -> String {
        let device = if self.dma { "by the NIC" } else { "by the driver" };
        let who = |by_device: bool| if by_device { device } else { "in software" };
        let tso = if self.tx_offloads & TX_TSO != 0 { "TSO offered but not used" } else { "no TSO" };
        format!(
            "rx checksums {}, tx checksums {}, {tso}, VLAN tags in software",
            who(self.rx_checksums()),
            who(self.tx_checksums)
        )
    }

    /// Through the kernel's AF_XDP sockets.
    pub(super) fn is_af_xdp(&self) -> bool {
        self.driver == AF_XDP
    }

    /// Mbufs of each queue's mempool that its driver never gives back. That of AF_XDP fills the kernel's ring of empty
    /// buffers when the queue is set up, and again for each frame that it receives, so that the kernel always has as many;
    /// `eth_dev_close` frees none, and leaves the socket open (22.11 compares a count that is 0 with 1 before it would let
    /// go of the memory), so that the kernel has them until the process ends. Their mempool is then kept as long.
    pub(super) fn kept(&self) -> u32 {
        if self.is_af_xdp() { AF_XDP_SLOTS } else { 0 }
    }

    /// Marks of received frames that mean something.
    pub(super) fn rx_marks(&self) -> u64 {
        let mut marks = 0;
        if self.rx_checksums() {
            marks |= L3_MASK | L4_MASK;
        }
        if self.rx_offloads & RX_HASH != 0 {
            marks |= HASH;
        }
        marks
    }
}

/// Mbufs of the receiving mempool that a device may have at any time.
pub(super) fn mbufs_held(device: &str) -> u32 {
    // It fills rings of its own size, and copies what it sends into mbufs of that mempool.
    if device.starts_with(AF_XDP) { 4 * AF_XDP_SLOTS } else { 2 * u32::from(RING_SLOTS) }
}

/// What a call of libdpdk gave, as a sentence when it failed.
fn step(what: &str, rc: c_int) -> Result<(), String> {
    match rc {
        0.. => Ok(()),
        _ => Err(format!("{what}: {}", text(-rc))),
    }
}

/// Whether the driver of AF_XDP can make its buffers of the mempool. It takes the first piece of its memory for all of it,
/// with one object right behind the other; what lies elsewhere the kernel refuses in silence, both ways. And the kernel wants
/// each object to fit a page.
fn umem_fits(mempool: NonNull<sys::rte_mempool>) -> Result<(), String> {
    // SAFETY: the caller's mempool, which is there, and filled.
    let m = unsafe { mempool.as_ref() };
    let pieces = m.nb_mem_chunks;
    if m.flags & sys::RTE_MEMPOOL_F_NO_IOVA_CONTIG == 0 || pieces != 1 {
        return Err(format!(
            "it needs memory in one piece without gaps, and has {pieces}: a node with a NIC among its ports, in hugepages and \
             without an IOMMU, has no such memory"
        ));
    }
    if m.header_size + m.elt_size + m.trailer_size > AF_XDP_OBJECT_MAX {
        return Err(format!(
            "a frame and what is kept with it must fit a page: an MTU of at most {AF_XDP_MTU_MAX}"
        ));
    }
    Ok(())
}

fn too_few_queues(room: u16, cores: u16) -> String {
    let (n, s) = if room == 1 { ("one".to_owned(), "") } else { (room.to_string(), "s") };
    format!(
        "it has {n} queue{s} each way, and the node has {cores} cores; list {n} in \"cores\", or take another device"
    )
}

impl Device {
    /// Takes the device `name` with `args` and configures it for `queues` queues each way and IP packets of up to `mtu`, with
    /// `checksums` by whom they are to be.
    /// `secret`: random bytes for its RSS.
    pub(super) fn open(
        eal: Eal,
        (bus, name, args): (Bus, &str, &str),
        (mtu, checksums): (u16, Checksums),
        queues: u16,
        secret: &[u8; KEY_BYTES_MAX],
    ) -> Result<Device, String> {
        let c_string = |s: &str| CString::new(s).map_err(|_| "it has a zero byte in it".to_owned());
        let (c_name, c_args) = (c_string(name)?, c_string(args)?);
        let port = eal.add(bus, &c_name, &c_args)?;
        // From here on its Drop cleans up.
        let mut device = Device {
            eal,
            bus,
            name: c_name,
            port,
            abilities: Abilities::default(),
            rx_slots: RING_SLOTS,
            tx_slots: RING_SLOTS,
            rss: None,
            started: false,
            promiscuous: false,
            open: true,
        };
        device.abilities = device.ask()?;
        if name.starts_with("net_memif") && args.contains("zero-copy=yes") {
            // It says that it takes any, and gives its peer offsets within EAL's memory.
            device.abilities.tx_offloads &= !TX_CHAINS;
        }
        device.abilities.settle(checksums)?;
        let room = device.abilities.queues_max;
        if room < queues {
            return Err(too_few_queues(room, queues));
        }
        device.rss = rss::plan(device.abilities.spreads, queues, secret);
        device.configure(mtu, queues)?;
        Ok(device)
    }

    fn ask(&self) -> Result<Abilities, String> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: the port is ours; a place for the facts; the driver's name is a C string of the driver's, or null.
        unsafe {
            let rc = sys::rte_eth_dev_info_get(self.port, &raw mut info);
            if rc != 0 {
                return Err(format!("it says nothing of itself: {}", text(-rc)));
            }
            let driver = match info.driver_name.is_null() {
                true => "unknown driver".to_owned(),
                false => CStr::from_ptr(info.driver_name).to_string_lossy().into_owned(),
            };
            Ok(Abilities {
                driver,
                dma: self.bus == Bus::Pci,
                tx_checksums: false,
                rx_offloads: info.rx_offload_capa,
                tx_offloads: info.tx_offload_capa,
                queues_max: info.max_rx_queues.min(info.max_tx_queues),
                spreads: Offered {
                    hashes: info.flow_type_rss_offloads,
                    key_bytes: info.hash_key_size.into(),
                    table: info.reta_size.into(),
                },
            })
        }
    }

    fn configure(&mut self, mtu: u16, queues: u16) -> Result<(), String> {
        let port = self.port;
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = mtu.into();
        if self.abilities.rx_checksums() {
            conf.rxmode.offloads |= RX_CHECKSUMS;
        }
        conf.rxmode.offloads |= self.abilities.rx_offloads & RX_HASH;
        conf.txmode.offloads |= self.abilities.tx_offloads & TX_CHAINS;
        if self.abilities.tx_checksums {
            conf.txmode.offloads |= TX_CHECKSUM;
        }
        if let Some(plan) = &mut self.rss {
            conf.rxmode.mq_mode = sys::rte_eth_rx_mq_mode_RTE_ETH_MQ_RX_RSS;
            let rss = &mut conf.rx_adv_conf.rss_conf;
            (rss.rss_key, rss.rss_key_len) = (plan.key.as_mut_ptr(), plan.key.len() as u8);
            rss.rss_hf = HASHED;
        }
        // SAFETY: EAL runs, the port is ours and not started; `conf`, the key that it points to and the numbers outlive the
        // calls.
        unsafe {
            step(
                "it does not take these queues, or no such MTU",
                sys::rte_eth_dev_configure(port, queues, queues, &raw const conf),
            )?;
            step(
                "its queues",
                sys::rte_eth_dev_adjust_nb_rx_tx_desc(port, &raw mut self.rx_slots, &raw mut self.tx_slots),
            )?;
            // Devices without an MTU of their own say so (ENOTSUP); the frames' length is looked at in any case.
            let rc = sys::rte_eth_dev_set_mtu(port, mtu);
            if rc != -libc::ENOTSUP {
                step("its MTU", rc)?;
            }
            Ok(())
        }
    }

    /// Sets up one of its queues each way, to receive into mbufs of `mempool`, which must outlive the device.
    pub(super) fn set_up(&self, queue: u16, mempool: NonNull<sys::rte_mempool>) -> Result<(), String> {
        if self.abilities.is_af_xdp() {
            umem_fits(mempool)?;
        }
        let (port, node) = (self.port, self.node().unwrap_or(SOCKET_ANY) as u32);
        // SAFETY: EAL runs, the port is ours and not started; the queues' own settings are left to the driver (null); the
        // mempool is as the caller says.
        unsafe {
            let pool = mempool.as_ptr();
            let rc = sys::rte_eth_rx_queue_setup(port, queue, self.rx_slots, node, std::ptr::null(), pool);
            step("its rx queue", rc)?;
            let rc = sys::rte_eth_tx_queue_setup(port, queue, self.tx_slots, node, std::ptr::null());
            step("its tx queue", rc)
        }
    }

    /// Starts it, all of its queues being set up. Gives its RSS, where that can be relied on.
    pub(super) fn start(&mut self, promiscuous: bool) -> Result<Option<Rss>, String> {
        // SAFETY: the port is ours.
        step("it does not start", unsafe { sys::rte_eth_dev_start(self.port) })?;
        self.started = true;
        // Neighbours are asked for by multicast, and the kernel that shares a port has groups of its own. Virtual devices
        // that cannot do this take every frame anyway. SAFETY: the port is ours.
        unsafe { sys::rte_eth_allmulticast_enable(self.port) };
        if promiscuous {
            // Virtual devices that cannot do this take every frame anyway. SAFETY: the port is ours.
            self.promiscuous = unsafe { sys::rte_eth_promiscuous_enable(self.port) } == 0;
        }
        Ok(self.rss.as_ref().and_then(|plan| self.write_table(plan)))
    }

    /// Writes the indirection table, and reads it and the key back.
    fn write_table(&self, plan: &Plan) -> Option<Rss> {
        let mut groups = [sys::rte_eth_rss_reta_entry64::default(); TABLE_MAX / GROUP];
        let groups = &mut groups[..plan.table.len().div_ceil(GROUP)];
        for (group, entries) in groups.iter_mut().zip(plan.table.chunks(GROUP)) {
            group.mask = u64::MAX >> (GROUP - entries.len());
            group.reta[..entries.len()].copy_from_slice(entries);
        }
        let size = plan.table.len() as u16;
        let mut key = [0; KEY_BYTES_MAX];
        let mut conf = sys::rte_eth_rss_conf::default();
        (conf.rss_key, conf.rss_key_len) = (key.as_mut_ptr(), plan.key.len() as u8);
        // SAFETY: the port is ours; the groups have `size` entries, the key has room for as much as the device has.
        let done = unsafe {
            sys::rte_eth_dev_rss_reta_update(self.port, groups.as_mut_ptr(), size) == 0 && {
                groups.iter_mut().for_each(|group| group.reta.fill(u16::MAX));
                sys::rte_eth_dev_rss_reta_query(self.port, groups.as_mut_ptr(), size) == 0
                    && sys::rte_eth_dev_rss_hash_conf_get(self.port, &raw mut conf) == 0
            }
        };
        let table: Vec<u16> = groups.iter().flat_map(|g| g.reta).take(plan.table.len()).collect();
        if !done || conf.rss_hf & HASHED != HASHED {
            return None;
        }
        rss::confirm(plan, key.get(..conf.rss_key_len.into())?, &table)
    }

    /// The NUMA node that it is on, where there are several.
    pub(super) fn node(&self) -> Option<c_int> {
        // SAFETY: the port is ours.
        let node = unsafe { sys::rte_eth_dev_socket_id(self.port) };
        (node >= 0 && self.eal.hugepages()).then_some(node)
    }

    /// DPDK's number for it.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What it can do.
    pub(super) fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// The address that the device came with.
    pub(super) fn mac(&self) -> Mac {
        let mut mac = sys::rte_ether_addr::default();
        // SAFETY: the port is ours; a place for the address.
        unsafe { sys::rte_eth_macaddr_get(self.port, &raw mut mac) };
        mac.addr_bytes
    }

    /// How its link is, as far as its driver knows without waiting; on any thread. `None` of a device that is closed, or has
    /// no link.
    pub(super) fn link(&self) -> Option<LinkState> {
        let mut link = sys::rte_eth_link::default();
        // SAFETY: the port is open; a place for the state.
        if !self.open || unsafe { sys::rte_eth_link_get_nowait(self.port, &raw mut link) } != 0 {
            return None;
        }
        let speed = (1..sys::RTE_ETH_SPEED_NUM_UNKNOWN).contains(&link.link_speed).then_some(link.link_speed);
        Some(LinkState { up: link.link_status() != 0, speed_mbps: speed })
    }

    /// What the device has counted, by its driver's names; what is 0 is left out. None of a device that is closed.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        if !self.open {
            return Vec::new();
        }
        // SAFETY: the port is open; asks for the number only.
        let n = unsafe { sys::rte_eth_xstats_get_names(self.port, std::ptr::null_mut(), 0) };
        let n = usize::try_from(n).unwrap_or(0);
        let mut names = vec![sys::rte_eth_xstat_name::default(); n];
        let mut values = vec![sys::rte_eth_xstat::default(); n];
        // SAFETY: the port is open; room for `n` of each.
        let got = unsafe {
            let names = sys::rte_eth_xstats_get_names(self.port, names.as_mut_ptr(), n as u32);
            names.min(sys::rte_eth_xstats_get(self.port, values.as_mut_ptr(), n as u32))
        };
        if usize::try_from(got).ok() != Some(n) {
            return Vec::new();
        }
        let counts = values.iter().filter(|v| v.value > 0).filter_map(|v| {
            let name = names.get(usize::try_from(v.id).ok()?)?.name.map(|c| c as u8);
            Some((CStr::from_bytes_until_nul(&name).ok()?.to_string_lossy().into_owned(), v.value))
        });
        counts.collect()
    }

    /// Stops and removes the device.
    pub(super) fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        // SAFETY: the port is ours, and nobody polls it any more.
        unsafe {
            if self.promiscuous {
                sys::rte_eth_promiscuous_disable(self.port);
            }
            if std::mem::take(&mut self.started) {
                sys::rte_eth_dev_stop(self.port);
            }
            sys::rte_eth_dev_close(self.port);
        }
        self.eal.remove(self.bus, &self.name);
    }
}

/// What a device has lost, since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// Dropped because nobody fetched it in time.
    pub(super) missed: u64,
    /// Came damaged, or longer than the device takes.
    pub(super) damaged: u64,
    /// Taken from us and dropped all the same.
    pub(super) unsent: u64,
}

impl Lost {
    /// What the device with this number has lost. It must be open.
    pub(super) fn of(port: u16, abilities: &Abilities) -> Lost {
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port is open; a place for the counts. Whoever polls a queue may ask.
        if unsafe { sys::rte_eth_stats_get(port, &raw mut stats) } != 0 {
            return Lost::default();
        }
        // These count what they have not taken either, and are offered again.
        let offered_again = abilities.driver == "net_tap" || abilities.is_af_xdp();
        let unsent = if offered_again { 0 } else { stats.oerrors };
        Lost { missed: stats.imissed, damaged: stats.ierrors, unsent }
    }

    /// What is new since `before`. A driver whose counts go back has nothing new.
    pub(super) fn since(self, before: Lost) -> Lost {
        Lost {
            missed: self.missed.saturating_sub(before.missed),
            damaged: self.damaged.saturating_sub(before.damaged),
            unsent: self.unsent.saturating_sub(before.unsent),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn too_few_queues() {
        let expected = "it has one queue each way, and the node has 2 cores; list one in \"cores\", or take another device";
        assert_eq!(super::too_few_queues(1, 2), expected);
        assert!(super::too_few_queues(4, 8).starts_with("it has 4 queues each way"));
    }
}
