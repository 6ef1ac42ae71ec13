//! A device of DPDK's: made, set up with a queue each way for each core, started, asked, stopped and removed. What it
//! carries goes by `rx.rs` and `tx.rs`.
#![allow(unsafe_code)] // Calls of libdpdk; each says what it rests on.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::abilities::{Abilities, RX_CHECKSUMS, RX_HASH, TX_CHAINS, TX_CHECKSUM, umem_fits};
use super::eal::{Bus, Eal, text};
use super::rss::{self, GROUP, HASHED, KEY_BYTES_MAX, Offered, Plan, TABLE_MAX};
use crate::port::{Checksums, LinkState, Mac};
use crate::rss::Rss;

/// What is asked for; a driver may have less.
pub(super) const RING_SLOTS: u16 = 1024;
/// Any NUMA node.
const SOCKET_ANY: c_int = -1;

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

/// What a call of libdpdk gave, as a sentence when it failed.
fn step(what: &str, rc: c_int) -> Result<(), String> {
    match rc {
        0.. => Ok(()),
        _ => Err(format!("{what}: {}", text(-rc))),
    }
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
