//! What DPDK's devices are called in a config: `net_ring0`, `net_tap0,iface=tap7`, `0000:3b:00.0`, `3b:00.0`, `eth1`.

use std::fmt;

/// A device for a port of kind `dpdk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName<'a> {
    /// A virtual one.
    Virtual(VdevName<'a>),
    /// A NIC by its place on the PCI bus.
    Pci {
        /// Where it is.
        address: PciAddress,
        /// The driver's arguments: what follows the first comma.
        args: &'a str,
    },
    /// A NIC by the name of the kernel's interface on it.
    Interface(&'a str),
}

/// The name of a virtual device, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VdevName<'a> {
    /// Driver and number: unique in a process.
    pub name: &'a str,
    /// The driver's arguments: what follows the first comma.
    pub args: &'a str,
}

/// A place on the PCI bus; shown as the kernel writes it, `0000:3b:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl DeviceName<'_> {
    /// Takes the words apart; `None` when no device can be called so.
    pub fn parse(text: &str) -> Option<DeviceName<'_>> {
        if text.starts_with("net_") {
            return VdevName::parse(text).map(DeviceName::Virtual);
        }
        let (name, args) = text.split_once(',').unwrap_or((text, ""));
        if let (Some(address), true) = (PciAddress::parse(name), plain(args)) {
            return Some(DeviceName::Pci { address, args });
        }
        // By the kernel's rules; names that only a typist could mean otherwise are not taken.
        let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%' | b',');
        let is_interface = (1..=15).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('.');
        is_interface.then_some(DeviceName::Interface(text))
    }
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
        (named && plain(args)).then_some(VdevName { name, args })
    }
}

/// Whether a driver could take these arguments.
fn plain(args: &str) -> bool {
    args.bytes().all(|b| b.is_ascii_graphic())
}

impl PciAddress {
    /// Reads `0000:3b:00.0`, or `3b:00.0` in the first domain.
    pub fn parse(text: &str) -> Option<PciAddress> {
        let hex = |text: &str, digits: std::ops::RangeInclusive<usize>| -> Option<u32> {
            let good = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            good.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        let (rest, function) = text.split_once('.')?;
        let (bus, device) = rest.rsplit_once(':')?;
        // Virtual bridges (VMD) make domains of five digits and more.
        let (domain, bus) = bus.split_once(':').unwrap_or(("0000", bus));
        let (domain, bus) = (hex(domain, 4..=8)?, hex(bus, 2..=2)?);
        let (device, function) = (hex(device, 2..=2)?, hex(function, 1..=1)?);
        (device < 32 && function < 8).then_some(PciAddress {
            domain,
            bus: bus as u8,
            device: device as u8,
            function: function as u8,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
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

    #[test]
    fn places_on_the_bus() {
        for (text, shown) in [
            ("0000:3b:00.0", "0000:3b:00.0"),
            ("3B:00.1", "0000:3b:00.1"),
            ("0001:ff:1f.7", "0001:ff:1f.7"),
            ("10000:01:00.0", "10000:01:00.0"),
        ] {
            assert_eq!(PciAddress::parse(text).map(|a| a.to_string()).as_deref(), Some(shown), "{text}");
        }
        for bad in [
            "",
            "3b",
            "3b:00",
            "3b:20.0",
            "3b:00.8",
            "3b:0.0",
            ":3b:00.0",
            "0:3b:00.0",
            "0000:3b:00.0 ",
            "+3b:00.0",
        ] {
            assert_eq!(PciAddress::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_port_can_be_on() {
        let address = PciAddress::parse("3b:00.0").expect("a good one");
        for (text, name) in [
            ("net_null0", DeviceName::Virtual(VdevName { name: "net_null0", args: "" })),
            ("3b:00.0", DeviceName::Pci { address, args: "" }),
            ("0000:3b:00.0,a=b,c=d", DeviceName::Pci { address, args: "a=b,c=d" }),
            ("eth1", DeviceName::Interface("eth1")),
            ("enp59s0f0.5", DeviceName::Interface("enp59s0f0.5")),
        ] {
            assert_eq!(DeviceName::parse(text), Some(name));
        }
        for bad in
            ["", "net_Tap0", "3b:00", "3b:00.0,a b", "eth1,x=y", "a-name-that-is-too-long", "..", "eth 1"]
        {
            assert_eq!(DeviceName::parse(bad), None, "{bad}");
        }
    }
}
