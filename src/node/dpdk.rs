//! DPDK for the ports that are its devices. In a build without it (cargo's feature `dpdk`) there are no such ports: the
//! config refuses them.
//!
//! [`start`] starts DPDK's environment, where a port needs it; who asks later gets the same. [`rx_pool`] makes a core's
//! pool for received frames: mbufs, where there is such a port. [`open`] opens a port on its core's thread.

use dataplane::Pool;
use dataplane::port::{Mac, Port};
use hugepages::{Limits, PagePolicy};

use crate::config::{self, Config};

#[cfg(feature = "dpdk")]
mod with {
    use dataplane::port::dpdk::{DpdkConfig, DpdkPort, Eal, EalConfig};

    use super::*;
    use crate::config::PortKind;
    use crate::node::assemble::{cores, limits_for, mtu};

    fn devices(config: &Config) -> Vec<&str> {
        config
            .ports
            .iter()
            .filter_map(|p| match &p.kind {
                PortKind::Dpdk { device } => Some(device.as_str()),
                _ => None,
            })
            .collect()
    }

    pub fn start(config: &Config, pages: PagePolicy) -> Result<Option<Eal>, String> {
        let devices = devices(config);
        if devices.is_empty() {
            return Ok(None);
        }
        let core = DpdkPort::buffers_bytes(limits_for(config).rx_cells, mtu(config), &devices);
        let buffers_bytes = core * cores(config) as u64;
        Eal::start(&EalConfig { buffers_bytes, pages, args: Vec::new() }).map(Some)
    }

    pub fn rx_cell_cost(config: &Config) -> Option<u64> {
        (!devices(config).is_empty()).then(|| DpdkPort::rx_cell_bytes(mtu(config)))
    }

    pub fn device_buffers(config: &Config) -> u64 {
        match devices(config) {
            none if none.is_empty() => 0,
            some => DpdkPort::buffers_bytes(0, mtu(config), &some),
        }
    }

    pub fn rx_pool(config: &Config, limits: &Limits, pages: PagePolicy) -> Result<Option<Pool>, String> {
        let Some(eal) = start(config, pages)? else { return Ok(None) };
        let buffers = DpdkPort::rx_buffers(eal, limits.rx_cells, mtu(config), &devices(config));
        let explain =
            |e| format!("DPDK has no memory for {} received frames: {e}; lower node.memory", limits.rx_cells);
        Ok(Some(buffers.map_err(explain)?.into_pool("rx")))
    }

    pub fn open(
        config: &Config,
        pages: PagePolicy,
        port: &config::Port,
        device: &str,
        fallback_mac: Mac,
        pool: Pool,
        number: u8,
    ) -> Result<Box<dyn Port>, String> {
        let eal = start(config, pages)?.ok_or("DPDK was not started; this is a defect")?;
        let config = DpdkConfig { device, mac: port.mac, fallback_mac, mtu: port.mtu };
        Ok(Box::new(DpdkPort::open(eal, &config, pool, number)?))
    }
}

#[cfg(not(feature = "dpdk"))]
mod with {
    use super::*;

    pub fn start(_: &Config, _: PagePolicy) -> Result<Option<()>, String> {
        Ok(None)
    }

    pub fn rx_cell_cost(_: &Config) -> Option<u64> {
        None
    }

    pub fn device_buffers(_: &Config) -> u64 {
        0
    }

    pub fn rx_pool(_: &Config, _: &Limits, _: PagePolicy) -> Result<Option<Pool>, String> {
        Ok(None)
    }

    pub fn open(
        _: &Config,
        _: PagePolicy,
        port: &config::Port,
        device: &str,
        _: Mac,
        _: Pool,
        _: u8,
    ) -> Result<Box<dyn Port>, String> {
        Err(format!("port \"{}\": this millrace was built without DPDK and cannot open {device}", port.name))
    }
}

pub(super) use with::{device_buffers, open, rx_cell_cost, rx_pool, start};
