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
            .mend("apt-get install libdpdk-dev libclang-dev && cargo build --release")
            .blocks(&[Kind::Dpdk]);
    };
    let Some(folder) = &host.build.drivers else {
        return Finding::ok(CHECK, format!("{version} is in this program, with its drivers"));
    };
    let shown = folder.display();
    let drivers = host.files.names(&folder.to_string_lossy());
    if drivers.is_empty() {
        return Finding::note(CHECK, format!("{version} finds no drivers in {shown}"))
            .mend("apt-get install libdpdk-dev")
            .blocks(&[Kind::Dpdk]);
    }
    let there = |driver: &str| {
        let name = |file: &String| Some(file.strip_prefix("librte_")?.split('.').next()?.to_owned());
        drivers.iter().filter_map(name).any(|n| n == plugin(driver))
    };
    let missing: Vec<&str> = nics.iter().filter_map(|n| n.dpdk_driver).filter(|d| !there(d)).collect();
    match missing.first() {
        Some(driver) => {
            Finding::warn(CHECK, format!("{version} has no {driver} in {shown}, which a NIC here needs"))
                .mend(format!("apt-get install {}", package(plugin(driver))))
        }
        None => Finding::ok(CHECK, format!("{version}, with its drivers in {shown}")),
    }
}

/// The plugin that a driver is in: they are called by the drivers' folders.
fn plugin(driver: &str) -> &str {
    match driver {
        "net_cn9k" | "net_cn10k" => "net_cnxk",
        "net_e1000_em" | "net_e1000_igb" | "net_e1000_igb_vf" => "net_e1000",
        "net_liovf" => "net_liquidio",
        "net_octeon_ep" | "net_otx_ep" => "net_octeon_ep",
        "net_sfc_efx" => "net_sfc",
        "net_bnx2xvf" => "net_bnx2x",
        _ => driver.strip_suffix("_vf").or(driver.strip_suffix("_pf")).unwrap_or(driver),
    }
}

/// Debian's package of a plugin.
fn package(plugin: &str) -> String {
    let name = plugin.replace('_', "-");
    let dash = if name.ends_with(|c: char| c.is_ascii_digit()) { "-" } else { "" };
    format!("librte-{name}{dash}23")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_in_plugins_of_their_own_names_mostly() {
        for (driver, of) in [
            ("net_ice", "net_ice"),
            ("net_ixgbe_vf", "net_ixgbe"),
            ("net_nfp_pf", "net_nfp"),
            ("net_e1000_igb_vf", "net_e1000"),
            ("net_cn10k", "net_cnxk"),
        ] {
            assert_eq!(plugin(driver), of);
        }
        assert_eq!(package("net_ice"), "librte-net-ice23");
        assert_eq!(package("net_e1000"), "librte-net-e1000-23");
    }
}
