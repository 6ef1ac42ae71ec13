//! The DPDK that this program was built with.

use std::path::PathBuf;

use super::nics::Nic;
use super::{Finding, Host, Kind};

/// What of DPDK is in this program.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// Its version, as it says itself; `None`: built without.
    pub version: Option<String>,
    /// Where it looks for its drivers; `None`: they are in the program.
    pub drivers: Option<PathBuf>,
}

impl Build {
    /// This program.
    #[cfg(feature = "dpdk")]
    pub fn this() -> Build {
        use dataplane::port::dpdk::library;
        Build { version: Some(library::version()), drivers: library::drivers() }
    }

    /// This program.
    #[cfg(not(feature = "dpdk"))]
    pub fn this() -> Build {
        Build::default()
    }
}

pub fn findings(host: &Host, nics: &[Nic]) -> Vec<Finding> {
    vec![library(host, nics).matters_to(&[Kind::Dpdk])]
}

fn library(host: &Host, nics: &[Nic]) -> Finding {
    const CHECK: &str = "dpdk.library";
    let Some(version) = &host.build.version else {
        return Finding::note(CHECK, "this millrace was built without DPDK")
            .mend("apt-get install libdpdk-dev libclang-dev && cargo build --release --features dpdk")
            .blocks(&[Kind::Dpdk]);
    };
    let Some(folder) = &host.build.drivers else {
        return Finding::ok(CHECK, format!("{version} is in this program, drivers and all"));
    };
    let shown = folder.display();
    let drivers = host.files.names(&folder.to_string_lossy());
    if drivers.is_empty() {
        return Finding::note(CHECK, format!("{version} finds no drivers in {shown}"))
            .mend("apt-get install libdpdk-dev")
            .blocks(&[Kind::Dpdk]);
    }
    // Plugins are called by their driver's folder: net_e1000_igb is in librte_net_e1000.so.
    let there = |driver: &str| {
        drivers.iter().any(|f| {
            f.strip_prefix("librte_")
                .and_then(|f| f.split('.').next())
                .is_some_and(|name| driver.starts_with(name))
        })
    };
    let missing: Vec<&str> = nics.iter().filter_map(|n| n.dpdk_driver).filter(|d| !there(d)).collect();
    match missing.first() {
        Some(driver) => {
            Finding::warn(CHECK, format!("{version} has no {driver} in {shown}, which a NIC here needs"))
                .mend(format!(
                    "apt-get install librte-net-{}23",
                    driver.trim_start_matches("net_").split('_').next().unwrap_or(driver)
                ))
        }
        None => Finding::ok(CHECK, format!("{version}, with its drivers in {shown}")),
    }
}
