//! DPDK for the ports that are its devices. In a build without it (cargo's feature `dpdk`) there are no such ports: the
//! config refuses them.
//!
//! [`start`] starts DPDK's environment, where a port needs it; who asks later gets the same. [`open`] opens a port on its
//! core's thread.

use dataplane::Pool;
use dataplane::port::{Mac, Port};
use hugepages::PagePolicy;

use crate::config::{self, Config};

#[cfg(feature = "dpdk")]
mod with {
    use dataplane::port::dpdk::{DpdkConfig, DpdkPort, Eal, EalConfig};

    use super::*;
    use crate::config::PortKind;

    pub fn start(config: &Config, pages: PagePolicy) -> Result<Option<Eal>, String> {
        let devices = config.ports.iter().filter(|p| matches!(p.kind, PortKind::Dpdk { .. }));
        match devices.map(|p| DpdkPort::buffers_bytes(p.mtu)).sum() {
            0 => Ok(None),
            buffers_bytes => Eal::start(&EalConfig { buffers_bytes, pages, args: Vec::new() }).map(Some),
        }
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

    pub fn start(_: &Config, _: PagePolicy) -> Result<Option<Eal>, String> {
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
