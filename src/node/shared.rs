//! Ports whose addresses the kernel has too (`host_if`): what the cores are told, what is set up once they run.

use std::sync::Arc;

use dataplane::Bells;
use stack::{OwnPorts, Questions};

use super::assemble::{CoreReport, KernelPlan};
use super::orders::{CoreOrder, Desk};
use crate::config::Config;
use crate::host_if::{self, Mirror, Shared};
use crate::log;

/// What a node with such ports needs.
pub struct Kernel {
    /// For each core.
    pub of_cores: KernelPlan,
    bells: Arc<Bells>,
}

/// The plan for a config; `None` when it shares no port.
///
/// # Errors
/// One sentence with the mend.
pub fn plan(config: &Config) -> Result<Option<Kernel>, String> {
    if config.ports.iter().all(|p| p.host_if.is_none()) {
        return Ok(None);
    }
    let bells =
        Bells::new(1).map_err(|e| format!("cannot make a doorbell: {e}; raise the limit of open files"))?;
    let questions = Arc::new(Questions::new(Arc::clone(&bells)));
    let (first, last) = host_if::kernels_ports();
    let own_ports = host_if::own_ports(first, last).unwrap_or_else(|| {
        let own = OwnPorts::default();
        log::warn(format_args!(
            "the kernel connects from TCP ports {first} to {last} and leaves too few beside them: origins are \
             connected to from {} to {}, and a connection of the kernel's from the same port to the same origin would \
             break; narrow net.ipv4.ip_local_port_range",
            own.first, own.last
        ));
        own
    });
    Ok(Some(Kernel { of_cores: KernelPlan { questions, own_ports }, bells }))
}

impl Kernel {
    /// Sets the kernel's interfaces up, as the ports run, and follows what becomes of them.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn start(
        self,
        config: &Config,
        report: &CoreReport,
        desk: Arc<Desk<CoreOrder>>,
    ) -> Result<Mirror, String> {
        let KernelPlan { questions, own_ports } = self.of_cores;
        let mut ports = Vec::new();
        for (n, (p, r)) in config.ports.iter().zip(&report.ports).enumerate() {
            let Some(host_if) = &p.host_if else { continue };
            let shared = Shared {
                name: p.name.clone(),
                port: n as u8,
                host_if: host_if.clone(),
                mac: r.facts.mac,
                mtu: r.facts.mtu,
                addresses: p.addresses.clone(),
            };
            let (index, added) = host_if::setup(&shared)?;
            ports.push((shared.port, index));
            let added = match added.len() {
                0 => "which had the addresses already".to_owned(),
                _ => format!(
                    "which was given {}",
                    added
                        .iter()
                        .map(|a| format!("{}/{}", a.address, a.prefix_len))
                        .collect::<Vec<_>>()
                        .join(" ")
                ),
            };
            log::info(format_args!(
                "port \"{}\" is shared with the kernel: exception path by TAP {host_if}, {added}; ARP, ND and routes are \
                 the kernel's; origins are connected to from ports {} to {}",
                p.name, own_ports.first, own_ports.last
            ));
        }
        Mirror::start(ports, desk, questions, self.bells)
    }
}
