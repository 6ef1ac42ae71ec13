//! A device of DPDK's: made, set up, started, asked, stopped and removed. What it carries goes by `rx.rs` and `tx.rs`.
#![allow(unsafe_code)] // Calls of libdpdk; each says what it rests on.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::eal::{Eal, text};
use super::rx::{HASH, L3_MASK, L4_MASK};
use crate::port::Mac;

/// What is asked for; a driver may have less.
const RING_SLOTS: u16 = 1024;
/// Any NUMA node.
const SOCKET_ANY: c_int = -1;
// The bindings give each the smallest type that holds it.
/// What a device may verify, and does where it can.
const RX_CHECKSUMS: u64 = (sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM
    | sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM
    | sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM) as u64;
const RX_HASH: u64 = sys::RTE_ETH_RX_OFFLOAD_RSS_HASH as u64;
const TX_CHAINS: u64 = sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS as u64;

/// One device with a queue each way.
pub(super) struct Device {
    eal: Eal,
    name: CString,
    port: u16,
    abilities: Abilities,
    started: bool,
    promiscuous: bool,
    open: bool,
}

/// What a device can do, of what we have a use for.
#[derive(Clone, Debug, Default)]
pub(super) struct Abilities {
    /// The driver's name.
    pub(super) driver: String,
    rx_offloads: u64,
    tx_offloads: u64,
}

impl Abilities {
    /// It takes frames of several segments, wherever those lie.
    pub(super) fn chains(&self) -> bool {
        self.tx_offloads & TX_CHAINS != 0
    }

    /// It verifies all checksums of what it receives.
    pub(super) fn rx_checksums(&self) -> bool {
        self.rx_offloads & RX_CHECKSUMS == RX_CHECKSUMS
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
    if device.starts_with("net_af_xdp") { 4 * 2048 } else { 2 * u32::from(RING_SLOTS) }
}

impl Device {
    /// Makes the virtual device `name` with `args` and starts it, to receive into mbufs of `mempool` and for IP packets of
    /// up to `mtu`.
    pub(super) fn open(
        eal: Eal,
        name: &str,
        args: &str,
        mtu: u16,
        mempool: NonNull<sys::rte_mempool>,
    ) -> Result<Device, String> {
        let c_string = |s: &str| CString::new(s).map_err(|_| "it has a zero byte in it".to_owned());
        let (c_name, c_args) = (c_string(name)?, c_string(args)?);
        let port = eal.add_vdev(&c_name, &c_args)?;
        // From here on its Drop cleans up.
        let mut device = Device {
            eal,
            name: c_name,
            port,
            abilities: Abilities::default(),
            started: false,
            promiscuous: false,
            open: true,
        };
        device.abilities = device.ask()?;
        if name.starts_with("net_memif") && args.contains("zero-copy=yes") {
            // It says that it takes any, and gives its peer offsets within EAL's memory.
            device.abilities.tx_offloads &= !TX_CHAINS;
        }
        device.start(mtu, mempool)?;
        device.started = true;
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
            Ok(Abilities { driver, rx_offloads: info.rx_offload_capa, tx_offloads: info.tx_offload_capa })
        }
    }

    fn start(&self, mtu: u16, mempool: NonNull<sys::rte_mempool>) -> Result<(), String> {
        let port = self.port;
        let step = |what: &str, rc: c_int| match rc {
            0.. => Ok(()),
            _ => Err(format!("{what}: {}", text(-rc))),
        };
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = mtu.into();
        if self.abilities.rx_checksums() {
            conf.rxmode.offloads |= RX_CHECKSUMS;
        }
        conf.rxmode.offloads |= self.abilities.rx_offloads & RX_HASH;
        conf.txmode.offloads |= self.abilities.tx_offloads & TX_CHAINS;
        let (mut rx_slots, mut tx_slots) = (RING_SLOTS, RING_SLOTS);
        // SAFETY: EAL runs, the port is ours and not started; `conf` and the numbers outlive the calls; the queues' own
        // settings are left to the driver (null); the mempool outlives the port.
        unsafe {
            step(
                "it takes no queue, or no such MTU",
                sys::rte_eth_dev_configure(port, 1, 1, &raw const conf),
            )?;
            step(
                "its queues",
                sys::rte_eth_dev_adjust_nb_rx_tx_desc(port, &raw mut rx_slots, &raw mut tx_slots),
            )?;
            let any = SOCKET_ANY as u32;
            let rc = sys::rte_eth_rx_queue_setup(port, 0, rx_slots, any, std::ptr::null(), mempool.as_ptr());
            step("its rx queue", rc)?;
            let rc = sys::rte_eth_tx_queue_setup(port, 0, tx_slots, any, std::ptr::null());
            step("its tx queue", rc)?;
            // Devices without an MTU of their own say so (ENOTSUP); the frames' length is looked at in any case.
            let rc = sys::rte_eth_dev_set_mtu(port, mtu);
            if rc != -libc::ENOTSUP {
                step("its MTU", rc)?;
            }
            step("it does not start", sys::rte_eth_dev_start(port))
        }
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

    /// Takes frames to any address. Gives `false` where the device does not filter by address anyway (or cannot say).
    pub(super) fn be_promiscuous(&mut self) -> bool {
        // SAFETY: the port is ours.
        self.promiscuous = unsafe { sys::rte_eth_promiscuous_enable(self.port) } == 0;
        self.promiscuous
    }

    /// Frames that the device had to drop because nobody fetched them in time.
    pub(super) fn missed(&self) -> u64 {
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port is ours; a place for the counts.
        match unsafe { sys::rte_eth_stats_get(self.port, &raw mut stats) } {
            0 => stats.imissed,
            _ => 0,
        }
    }

    /// Whether it runs.
    pub(super) fn is_started(&self) -> bool {
        self.started
    }

    /// Stops and removes the device.
    pub(super) fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.started = false;
        // SAFETY: the port is ours, and nobody polls it any more.
        unsafe {
            if self.promiscuous {
                sys::rte_eth_promiscuous_disable(self.port);
            }
            sys::rte_eth_dev_stop(self.port);
            sys::rte_eth_dev_close(self.port);
        }
        self.eal.remove_vdev(&self.name);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.close();
    }
}
