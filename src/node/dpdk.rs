//! DPDK for the ports that are its devices. In a build without it (cargo's feature `dpdk`) there are no such ports: the
//! config refuses them.
//!
//! On the control side: [`start`] starts DPDK's environment, where a port needs it and it does not run yet; [`take`] takes the devices, and gives each core its [`Seats`]. On a core's thread: [`rx_pool`] makes its pool for
//! received frames, mbufs where there is such a port; [`open`] takes the core's queue of a device.

use dataplane::Pool;
use dataplane::port::{LinkState, Mac, Port};
use hugepages::Limits;

use crate::config::{self, Config};

/// What a device says of itself while it runs.
pub struct Device {
    /// What it has counted, by its driver's names.
    pub counts: Vec<(String, u64)>,
    /// Its link; `None` once it is closed.
    pub link: Option<LinkState>,
}

#[cfg(feature = "dpdk")]
mod with {
    use dataplane::port::dpdk::{
        self, DpdkConfig, DpdkCounts, DpdkPort, DpdkSeat, Eal, EalConfig, Host, KEY_BYTES_MAX, far_from,
    };

    use super::*;
    use crate::config::PortKind;
    use crate::log;
    use crate::node::assemble::{HEADER_CELL_BYTES, cores, limits_for, mtu};
    use crate::node::secrets;

    /// A core's queues, in the order of the ports of kind `dpdk`.
    pub type Seats = std::collections::VecDeque<DpdkSeat>;

    fn devices(config: &Config) -> Vec<&str> {
        config.ports.iter().filter_map(|p| device(p)).collect()
    }

    fn device(port: &config::Port) -> Option<&str> {
        match &port.kind {
            PortKind::Dpdk { device } => Some(device),
            _ => None,
        }
    }

    pub fn start(config: &Config) -> Result<Option<Eal>, String> {
        let devices = devices(config);
        if devices.is_empty() {
            return Ok(None);
        }
        if let Some(eal) = Eal::running() {
            // It has them already, and they would seem to be taken.
            return Ok(Some(eal));
        }
        let nics = nics(config, &Host::default())?;
        let limits = limits_for(config);
        let core = DpdkPort::buffers_bytes(limits.rx_cells, mtu(config), &devices)
            + DpdkPort::head_buffers_bytes(limits.header_cells, HEADER_CELL_BYTES, &devices);
        let buffers_bytes = core * cores(config) as u64;
        let (pages, args) = (config.node.pages, config.node.eal_args.clone());
        Eal::start(&EalConfig { buffers_bytes, pages, nics, args }).map(Some)
    }

    /// The NICs of all ports, looked at before DPDK is.
    fn nics(config: &Config, host: &Host) -> Result<Vec<String>, String> {
        let mut nics: Vec<String> = Vec::new();
        for port in &config.ports {
            let Some(device) = device(port) else { continue };
            let nic = dpdk::nic(host, device).map_err(|e| format!("port \"{}\": {e}", port.name))?;
            let Some(nic) = nic else { continue };
            let address = |nic: &str| nic.split(',').next().map(str::to_owned);
            if nics.iter().any(|other| address(other) == address(&nic)) {
                return Err(format!("port \"{}\": another port has {device}; give each its own", port.name));
            }
            nics.push(nic);
        }
        Ok(nics)
    }

    pub fn take(
        config: &Config,
        eal: Option<Eal>,
        fallback_mac: impl Fn(&str) -> Mac,
    ) -> Result<Vec<Seats>, String> {
        let cores = cores(config);
        let mut seats: Vec<Seats> = (0..cores).map(|_| Seats::new()).collect();
        let Some(eal) = eal else { return Ok(seats) };
        let mut secret = [0; KEY_BYTES_MAX];
        for half in secret.chunks_exact_mut(32) {
            for (to, word) in half.chunks_exact_mut(8).zip(secrets()?) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
        }
        for port in &config.ports {
            let Some(device) = device(port) else { continue };
            let (mac, mtu) = (port.mac, port.mtu);
            let (fallback_mac, checksums) = (fallback_mac(device), port.checksums);
            let d = DpdkConfig { device, mac, fallback_mac, mtu, checksums };
            let of_device = DpdkSeat::take(eal, &d, cores as u16, &secret);
            let of_device = of_device.map_err(|e| format!("port \"{}\": {e}", port.name))?;
            for (core, mut seat) in of_device.into_iter().enumerate() {
                let cpu = config.node.cores.get(core).copied();
                if let Some(far) = far_from(&Host::default(), cpu, seat.node()) {
                    log::warn(format_args!(
                        "port \"{}\": {device} is {far}; packets cross between the two, so list cores of the device's node",
                        port.name
                    ));
                    seat.note(far);
                }
                seats[core].push_back(seat);
            }
        }
        Ok(seats)
    }

    pub fn rx_cell_cost(config: &Config) -> Option<u64> {
        (!devices(config).is_empty()).then(|| DpdkPort::rx_cell_bytes(mtu(config)))
    }

    pub fn head_cell_cost(config: &Config) -> Option<u64> {
        let bytes = |cells| DpdkPort::head_buffers_bytes(cells, HEADER_CELL_BYTES, &[]);
        (!devices(config).is_empty()).then(|| bytes(1) - bytes(0))
    }

    pub fn device_buffers(config: &Config) -> u64 {
        match devices(config) {
            none if none.is_empty() => 0,
            some => {
                DpdkPort::buffers_bytes(0, mtu(config), &some)
                    + DpdkPort::head_buffers_bytes(0, HEADER_CELL_BYTES, &some)
            }
        }
    }

    pub fn head_pool(config: &Config, limits: &Limits, seats: &Seats) -> Result<Option<Pool>, String> {
        let Some(first) = seats.front() else { return Ok(None) };
        let (cells, devices) = (limits.header_cells, devices(config));
        let buffers = DpdkPort::head_buffers(first.eal(), cells, HEADER_CELL_BYTES, &devices, first.node());
        let explain = |e| format!("DPDK has no memory for {cells} heads of frames: {e}; lower node.memory");
        Ok(Some(buffers.map_err(explain)?.into_pool("header")))
    }

    /// Of the devices, in the order of the ports of kind `dpdk`.
    pub type Counts = Vec<DpdkCounts>;

    pub fn counts(seats: &[Seats]) -> Counts {
        seats.first().into_iter().flatten().map(DpdkSeat::counts).collect()
    }

    pub fn read(counts: &Counts) -> Vec<Device> {
        counts.iter().map(|c| Device { counts: c.read(), link: c.link() }).collect()
    }

    pub fn rx_pool(config: &Config, limits: &Limits, seats: &Seats) -> Result<Option<Pool>, String> {
        let Some(first) = seats.front() else { return Ok(None) };
        // Of several devices on several nodes, the first one's.
        let (eal, node) = (first.eal(), first.node());
        let buffers = DpdkPort::rx_buffers(eal, limits.rx_cells, mtu(config), &devices(config), node);
        let explain =
            |e| format!("DPDK has no memory for {} received frames: {e}; lower node.memory", limits.rx_cells);
        Ok(Some(buffers.map_err(explain)?.into_pool("rx")))
    }

    pub fn open(
        seats: &mut Seats,
        port: &config::Port,
        (pool, heads): (Pool, &Pool),
        number: u8,
    ) -> Result<Box<dyn Port>, String> {
        let seat = seats.pop_front().ok_or("a port without a queue; this is a defect")?;
        let mut opened = seat.open(pool, number).map_err(|e| format!("port \"{}\": {e}", port.name))?;
        opened.sends_from(heads);
        Ok(Box::new(opened))
    }
}

#[cfg(not(feature = "dpdk"))]
mod with {
    use super::*;
    use crate::node::assemble::cores;

    /// A core's queues: none, in this build.
    #[derive(Clone)]
    pub struct Seats;

    pub fn start(_: &Config) -> Result<Option<()>, String> {
        Ok(None)
    }

    pub fn take(config: &Config, _: Option<()>, _: impl Fn(&str) -> Mac) -> Result<Vec<Seats>, String> {
        Ok(vec![Seats; cores(config)])
    }

    pub fn rx_cell_cost(_: &Config) -> Option<u64> {
        None
    }

    pub fn head_cell_cost(_: &Config) -> Option<u64> {
        None
    }

    pub fn device_buffers(_: &Config) -> u64 {
        0
    }

    pub fn head_pool(_: &Config, _: &Limits, _: &Seats) -> Result<Option<Pool>, String> {
        Ok(None)
    }

    /// There are no devices.
    pub struct Counts;

    pub fn counts(_: &[Seats]) -> Counts {
        Counts
    }

    pub fn read(_: &Counts) -> Vec<Device> {
        Vec::new()
    }

    pub fn rx_pool(_: &Config, _: &Limits, _: &Seats) -> Result<Option<Pool>, String> {
        Ok(None)
    }

    pub fn open(
        _: &mut Seats,
        port: &config::Port,
        _: (Pool, &Pool),
        _: u8,
    ) -> Result<Box<dyn Port>, String> {
        Err(format!("port \"{}\": this millrace was built without DPDK and cannot open it", port.name))
    }
}

pub use with::{Counts, Seats};
pub(super) use with::{
    counts, device_buffers, head_cell_cost, head_pool, open, read, rx_cell_cost, rx_pool, start, take,
};
