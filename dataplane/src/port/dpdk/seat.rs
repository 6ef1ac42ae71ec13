//! A device that several cores share: taken and configured once, on a control thread; each core then takes its queue.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::abilities::{Abilities, Reach};
use super::device::Device;
use super::eal::{Bus, Eal};
use super::gate::Gate;
use super::mbufs::MbufSource;
use super::rss::KEY_BYTES_MAX;
use super::tx::Tx;
use super::{DpdkConfig, DpdkPort, Host, mend, on_bus};
use crate::Pool;
use crate::port::{LinkFacts, LinkState, Mac};
use crate::rss::Rss;

/// The right to one queue each way of a device, to be taken on the thread of the core that will poll it.
pub struct DpdkSeat {
    shared: Arc<Shared>,
    queue: u16,
    taken: bool,
    /// What is to be said of this core's queue.
    note: Option<String>,
}

/// What a device counts by itself, and its link, for the control side; on any thread.
#[derive(Clone)]
pub struct DpdkCounts(Weak<Shared>);

impl DpdkCounts {
    /// The counts that are not 0, by the driver's names; empty once the device is closed.
    pub fn read(&self) -> Vec<(String, u64)> {
        self.0.upgrade().map_or_else(Vec::new, |shared| shared.device().counts())
    }

    /// How its link is; `None` once the device is closed, and of one without a link.
    pub fn link(&self) -> Option<LinkState> {
        self.0.upgrade()?.device().link()
    }
}

/// What the queues of a device have in common.
pub(super) struct Shared {
    eal: Eal,
    device: Mutex<Device>,
    gate: Gate,
    port: u16,
    queues: u16,
    abilities: Abilities,
    /// As it is called in the config, and on its bus.
    name: String,
    on_bus: String,
    mac: Mac,
    mtu: u16,
    promiscuous: bool,
    node: Option<i32>,
    /// Known once it is started.
    rss: OnceLock<Option<Arc<Rss>>>,
}

impl DpdkSeat {
    /// Takes a device for so many cores, on a control thread. It starts when each seat has been opened. `secret`: random
    /// bytes, of which the key of its RSS is made.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn take(
        eal: Eal,
        config: &DpdkConfig<'_>,
        cores: u16,
        secret: &[u8; KEY_BYTES_MAX],
    ) -> Result<Vec<DpdkSeat>, String> {
        let name = config.device;
        let (bus, on_bus, args) = on_bus(name)?;
        let explain = |e: String| format!("cannot open DPDK's {name}: {e}; {}", mend(&on_bus));
        eal.register_thread().map_err(explain)?;
        let args = args_for(&on_bus, args, cores);
        let device = Device::open(eal, (bus, &on_bus, &args), (config.mtu, config.checksums), cores, secret);
        let device = device.map_err(explain)?;
        let own = device.mac();
        // The kernel's side of a TAP has the address that DPDK says is the device's.
        let usable = own != [0; 6] && own[0] & 1 == 0 && !on_bus.starts_with("net_tap");
        let mac = config.mac.unwrap_or(if usable { own } else { config.fallback_mac });
        let shared = Arc::new(Shared {
            eal,
            gate: Gate::new(cores),
            port: device.port(),
            queues: cores,
            abilities: device.abilities().clone(),
            name: name.to_owned(),
            on_bus,
            mac,
            mtu: config.mtu,
            promiscuous: mac != own,
            node: (bus == Bus::Pci).then(|| device.node()).flatten(),
            rss: OnceLock::new(),
            device: Mutex::new(device),
        });
        Ok((0..cores)
            .map(|queue| DpdkSeat { shared: Arc::clone(&shared), queue, taken: false, note: None })
            .collect())
    }

    /// What the device counts, as long as it is there.
    pub fn counts(&self) -> DpdkCounts {
        DpdkCounts(Arc::downgrade(&self.shared))
    }

    /// The environment that the device was taken in.
    pub fn eal(&self) -> Eal {
        self.shared.eal
    }

    /// The NUMA node that the device is on, where there are several and its memory can be there.
    pub fn node(&self) -> Option<i32> {
        self.shared.node
    }

    /// Has the port's mode say this as well.
    pub fn note(&mut self, note: String) {
        self.note = Some(note);
    }

    /// Takes the queue on the thread that will poll it, to receive into `pool`, which must be one of mbufs. Waits until all
    /// cores have taken theirs, and the device is started.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn open(mut self, pool: Pool, number: u8) -> Result<DpdkPort, String> {
        let (shared, queue) = (Arc::clone(&self.shared), self.queue);
        let explain =
            |e: String| format!("cannot open DPDK's {}: {e}; {}", shared.name, mend(&shared.on_bus));
        shared.eal.register_thread().map_err(explain)?;
        let frame_bytes = super::frame_bytes(shared.mtu);
        let source =
            pool.source::<MbufSource>().ok_or_else(|| explain("no pool of mbufs was made".to_owned()))?;
        if usize::from(source.room()) < frame_bytes {
            return Err(explain("the pool's mbufs are shorter than a frame".to_owned()));
        }
        let what = (shared.abilities.reach(), shared.abilities.tx_checksums());
        let tx = Tx::new(shared.eal, shared.port, queue, what, frame_bytes, shared.node).map_err(explain)?;
        shared.device().set_up(queue, source.mempool()).map_err(explain)?;
        self.taken = true;
        shared.gate.arrive(|| shared.start()).map_err(explain)?;
        let mut port = DpdkPort::new(shared, queue, tx, pool, number);
        if let Some(note) = self.note.take() {
            port.facts.mode.push_str(&format!(", {note}"));
        }
        Ok(port)
    }
}

impl Drop for DpdkSeat {
    fn drop(&mut self) {
        if !self.taken {
            self.shared.gate.abandon();
        }
    }
}

impl Shared {
    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<(), String> {
        let rss = self.device().start(self.promiscuous)?;
        // Set here and nowhere else, and started once.
        let _ = self.rss.set(rss.map(Arc::new));
        Ok(())
    }

    /// A core polls no more. Where `wait`, this waits until the others do not either, and the device is stopped and
    /// removed. Gives whether it is.
    pub(super) fn leave(&self, wait: bool) -> bool {
        self.gate.leave(wait, || self.device().close())
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// What the port is that has `buffers_bytes` of mbufs.
    pub(super) fn facts(&self, buffers_bytes: u64) -> LinkFacts {
        let abilities = &self.abilities;
        let rss = self.rss.get().cloned().flatten();
        let queues = match (self.queues, &rss) {
            (1, _) => "1 queue".to_owned(),
            (n, Some(_)) => format!("{n} queues by RSS, predicted"),
            (n, None) => format!("{n} queues, software steering"),
        };
        LinkFacts {
            kind: "dpdk",
            device: self.name.clone(),
            mac: self.mac,
            mtu: self.mtu,
            mode: format!(
                "{}, {queues}, zero-copy rx, {} tx, {}, {} of mbufs in {}",
                abilities.driver,
                match abilities.reach() {
                    Reach::OneMbuf => "copying",
                    Reach::Mbufs => "extbuf (of what was received)",
                    Reach::Anywhere => "extbuf",
                },
                abilities.offloads(),
                hugepages::human_bytes(buffers_bytes as usize),
                self.eal.pages()
            ),
            rx_checksum_offload: false,
            tx_checksum_offload: abilities.tx_checksums(),
            tso_bytes_max: 0,
            rss,
        }
    }
}

/// Arguments that a driver needs for several queues, unless the config has them.
fn args_for(on_bus: &str, args: &str, cores: u16) -> String {
    if cores > 1 && on_bus.starts_with("net_af_packet") && !args.contains("qpairs=") {
        return format!("{args},qpairs={cores}");
    }
    args.to_owned()
}

/// Says so where a core is on another NUMA node than the device that it polls.
pub fn far_from(host: &Host, cpu: Option<u16>, node: Option<i32>) -> Option<String> {
    let (here, there) = (host.node_of_cpu(cpu?)?, node?);
    (here != there).then(|| format!("on NUMA node {there}, and this core on {here}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_far_from_its_device_is_told_of() {
        let host = Host::default();
        assert_eq!(far_from(&host, None, Some(1)), None, "not pinned: it may be anywhere");
        assert_eq!(far_from(&host, Some(0), None), None);
        // Where this machine shows its nodes at all.
        if let Some(here) = host.node_of_cpu(0) {
            assert_eq!(far_from(&host, Some(0), Some(here)), None);
            let expected = format!("on NUMA node {}, and this core on {here}", here + 1);
            assert_eq!(far_from(&host, Some(0), Some(here + 1)), Some(expected));
        }
    }

    #[test]
    fn packet_sockets_get_as_many_queues_as_there_are_cores() {
        assert_eq!(args_for("net_af_packet0", "iface=eth1", 2), "iface=eth1,qpairs=2");
        assert_eq!(args_for("net_af_packet0", "iface=eth1,qpairs=4", 2), "iface=eth1,qpairs=4");
        assert_eq!(args_for("net_af_packet0", "iface=eth1", 1), "iface=eth1");
        assert_eq!(args_for("net_tap0", "iface=tap7", 2), "iface=tap7");
    }
}
