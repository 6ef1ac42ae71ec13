//! What a device can do, of what we have a use for, and what is made of that: who computes checksums, where segments may lie;
//! and what is special about AF_XDP's driver.
#![allow(unsafe_code)] // A mempool is looked at.

use std::ptr::NonNull;

use dpdk_sys as sys;

use super::device::RING_SLOTS;
use super::rss::Offered;
use super::rx::{HASH, L3_MASK, L4_MASK};
use crate::port::Checksums;

/// The driver of the kernel's AF_XDP sockets, and its rings (`ETH_AF_XDP_DFLT_NUM_DESCS`).
const AF_XDP: &str = "net_af_xdp";
const AF_XDP_SLOTS: u32 = 2048;
/// The kernel's page; and what is left of it for a packet, in round numbers, behind 64 + 128 + 192 bytes of headers, two
/// headrooms and the Ethernet header.
const AF_XDP_OBJECT_MAX: u32 = 4096;
const AF_XDP_MTU_MAX: u16 = 3200;
// The bindings give each the smallest type that holds it.
/// What a device may verify, and does where it can.
pub(super) const RX_CHECKSUMS: u64 = (sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM
    | sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM
    | sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM) as u64;
/// The one that our stack leaves to a device.
pub(super) const TX_CHECKSUM: u64 = sys::RTE_ETH_TX_OFFLOAD_TCP_CKSUM as u64;
pub(super) const TX_TSO: u64 = sys::RTE_ETH_TX_OFFLOAD_TCP_TSO as u64;
pub(super) const RX_HASH: u64 = sys::RTE_ETH_RX_OFFLOAD_RSS_HASH as u64;
pub(super) const TX_CHAINS: u64 = sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS as u64;

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
    pub(super) rx_offloads: u64,
    pub(super) tx_offloads: u64,
    /// Reads what it sends by DMA: only what EAL has mapped for it.
    pub(super) dma: bool,
    /// It computes TCP checksums of what it sends, and is asked to.
    pub(super) tx_checksums: bool,
    /// Queues each way.
    pub(super) queues_max: u16,
    pub(super) spreads: Offered,
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
    pub(super) fn settle(&mut self, checksums: Checksums) -> Result<(), String> {
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

/// Whether the driver of AF_XDP can make its buffers of the mempool. It takes the first piece of its memory for all of it,
/// with one object right behind the other; what lies elsewhere the kernel refuses in silence, both ways. And the kernel wants
/// each object to fit a page.
pub(super) fn umem_fits(mempool: NonNull<sys::rte_mempool>) -> Result<(), String> {
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
