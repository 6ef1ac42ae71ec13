//! What a virtual device of DPDK's is called: `net_ring0`, `net_tap0,iface=tap7`.

/// A name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VdevName<'a> {
    /// Driver and number: unique in a process.
    pub name: &'a str,
    /// The driver's arguments: what follows the first comma.
    pub args: &'a str,
}

impl VdevName<'_> {
    /// Takes the words apart; `None` when they cannot be those of a virtual device.
    pub fn parse(device: &str) -> Option<VdevName<'_>> {
        let (name, args) = device.split_once(',').unwrap_or((device, ""));
        let rest = name.strip_prefix("net_")?;
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        // DPDK's own limit is 64 with the zero byte.
        let named =
            rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.bytes().all(good) && name.len() < 64;
        let plain = args.bytes().all(|b| b.is_ascii_graphic());
        (named && plain).then_some(VdevName { name, args })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_virtual_devices() {
        let parse = |text| VdevName::parse(text).map(|v| (v.name, v.args));
        assert_eq!(parse("net_ring0"), Some(("net_ring0", "")));
        assert_eq!(parse("net_tap0,iface=tap7,mac=fixed"), Some(("net_tap0", "iface=tap7,mac=fixed")));
        let long = format!("net_{}", "a".repeat(60));
        for bad in
            ["", "tap0", "net_", "net_0", "0000:3b:00.0", "net_Tap0", "net_tap0 ", "net_tap0,a b", &long]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
