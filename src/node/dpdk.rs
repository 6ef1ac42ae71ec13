//! DPDK for the ports that are its devices. In a build without it (cargo's feature `dpdk`) there are no such ports: the
//! config refuses them.
//!
//! [`start`] starts DPDK's environment, where a port needs it; who asks later gets the same. [`open`] opens a port on its
//! core's thread.

use dataplane::Pool;
use dataplane::port::{Mac, Port};

use crate::config::{self, Config};

#[cfg(feature = "dpdk")]
mod with {
    use dataplane::port::dpdk::{self, DpdkConfig, DpdkPort, Eal, EalConfig, Host};

    use super::*;
    use crate::config::PortKind;

    pub fn start(config: &Config) -> Result<Option<Eal>, String> {
        let host = Host::default();
        let (mut buffers_bytes, mut nics) = (0, Vec::new());
        for port in &config.ports {
            let PortKind::Dpdk { device } = &port.kind else { continue };
            buffers_bytes += DpdkPort::buffers_bytes(port.mtu);
            let nic = dpdk::nic(&host, device).map_err(|e| format!("port \"{}\": {e}", port.name))?;
            if nic.is_some() && nics.contains(&nic) {
                return Err(format!("port \"{}\": another port has {device}; give each its own", port.name));
            }
            nics.push(nic);
        }
        if buffers_bytes == 0 {
            return Ok(None);
        }
        let (pages, args) = (config.node.pages, config.node.eal_args.clone());
        let nics = nics.into_iter().flatten().collect();
        Eal::start(&EalConfig { buffers_bytes, pages, nics, args }).map(Some)
    }

    pub fn open(
        eal: Option<Eal>,
        port: &config::Port,
        device: &str,
        fallback_mac: Mac,
        pool: Pool,
        number: u8,
    ) -> Result<Box<dyn Port>, String> {
        let eal = eal.ok_or("DPDK was not started; this is a defect")?;
        let config = DpdkConfig { device, mac: port.mac, fallback_mac, mtu: port.mtu };
        Ok(Box::new(DpdkPort::open(eal, &config, pool, number)?))
    }
}

#[cfg(not(feature = "dpdk"))]
mod with {
    use super::*;

    /// What there is none of in this build.
    pub enum Eal {}

    pub fn start(_: &Config) -> Result<Option<Eal>, String> {
        Ok(None)
    }

    pub fn open(
        _: Option<Eal>,
        port: &config::Port,
        device: &str,
        _: Mac,
        _: Pool,
        _: u8,
    ) -> Result<Box<dyn Port>, String> {
        Err(format!("port \"{}\": this millrace was built without DPDK and cannot open {device}", port.name))
    }
}

pub(super) use with::{open, start};
