//! DPDK for the ports that are its devices. In a build without it (cargo's feature `dpdk`) there are no such ports: the
//! config refuses them.

use dataplane::Pool;
use dataplane::port::{Mac, Port};

use crate::config;

/// A port that is to be opened on its core's thread.
pub(super) struct Opening<'a> {
    pub port: &'a config::Port,
    pub device: &'a str,
    pub fallback_mac: Mac,
    pub pool: Pool,
    pub number: u8,
}

#[cfg(feature = "dpdk")]
mod with {
    use dataplane::port::dpdk::{DpdkConfig, DpdkPort, Eal, EalConfig};
    use hugepages::PagePolicy;

    use super::*;
    use crate::config::{Config, PortKind};

    /// DPDK's environment, where a port needs it; started by the first who asks.
    pub fn start(config: &Config, pages: PagePolicy) -> Result<Option<Eal>, String> {
        let devices = config.ports.iter().filter(|p| matches!(p.kind, PortKind::Dpdk { .. }));
        match devices.map(|p| DpdkPort::buffers_bytes(p.mtu)).sum() {
            0 => Ok(None),
            buffers_bytes => Eal::start(&EalConfig { buffers_bytes, pages, args: Vec::new() }).map(Some),
        }
    }

    pub fn open(eal: Option<Eal>, o: Opening<'_>) -> Result<Box<dyn Port>, String> {
        let eal = eal.ok_or("DPDK was not started; this is a defect")?;
        let Opening { device, fallback_mac, .. } = o;
        let config = DpdkConfig { device, mac: o.port.mac, fallback_mac, mtu: o.port.mtu };
        Ok(Box::new(DpdkPort::open(eal, &config, o.pool, o.number)?))
    }
}

#[cfg(not(feature = "dpdk"))]
mod with {
    use hugepages::PagePolicy;

    use super::*;
    use crate::config::Config;

    /// What there is none of in this build.
    pub enum Eal {}

    pub fn start(_: &Config, _: PagePolicy) -> Result<Option<Eal>, String> {
        Ok(None)
    }

    pub fn open(_: Option<Eal>, o: Opening<'_>) -> Result<Box<dyn Port>, String> {
        let Opening { port, device, fallback_mac: _, pool: _, number: _ } = o;
        Err(format!("port \"{}\": this millrace was built without DPDK and cannot open {device}", port.name))
    }
}

pub(super) use with::{open, start};
