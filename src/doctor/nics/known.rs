//! Which driver of DPDK's takes a PCI device.
//!
//! `known.txt` is what `dpdk-pmdinfo.py` says of the drivers of Debian's DPDK 22.11.

const KNOWN: &str = include_str!("known.txt");

/// The driver's name.
pub fn driver_of(vendor: u32, device: u32) -> Option<&'static str> {
    let hex = |n: &str| u32::from_str_radix(n, 16).ok();
    KNOWN.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (name, of) = (words.next()?, words.next()?);
        (hex(of) == Some(vendor) && words.any(|w| hex(w) == Some(device))).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_by_their_devices() {
        assert_eq!(driver_of(0x8086, 0x1592), Some("net_ice"));
        assert_eq!(driver_of(0x8086, 0x1572), Some("net_i40e"));
        assert_eq!(driver_of(0x15b3, 0x1017), Some("net_mlx5"));
        assert_eq!(driver_of(0x1af4, 0x1041), Some("net_virtio"));
        assert_eq!(driver_of(0x10ec, 0x8168), None, "a Realtek");
    }

    #[test]
    fn the_table_is_well_formed() {
        for line in KNOWN.lines().filter(|l| !l.starts_with('#')) {
            let mut words = line.split(' ');
            assert!(words.next().is_some_and(|n| n.starts_with("net_")), "{line}");
            assert!(words.clone().count() >= 2, "{line}");
            assert!(words.all(|w| w.len() == 4 && u32::from_str_radix(w, 16).is_ok()), "{line}");
        }
    }
}
