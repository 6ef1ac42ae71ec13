//! Which TCP ports a node connects from when it shares its addresses with the kernel: not the kernel's.

use stack::OwnPorts;

/// The first port below the kernel's that is not likely to be a service's.
const FIRST: u16 = 16_384;
/// Fewer would soon be used up.
const ENOUGH: u16 = 4_096;

/// The ports outside the kernel's `net.ipv4.ip_local_port_range`: the longer stretch of those below and above. `None`:
/// too few are left.
pub fn own_ports(first: u16, last: u16) -> Option<OwnPorts> {
    let below = OwnPorts { first: FIRST, last: first.saturating_sub(1).max(FIRST) };
    let above = OwnPorts { first: last.saturating_add(1).max(FIRST), last: u16::MAX };
    let longer = if below.last - below.first >= above.last - above.first { below } else { above };
    (longer.last - longer.first >= ENOUGH - 1).then_some(longer)
}

/// The kernel's range in this network namespace: its default where it cannot be read.
pub fn kernels() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().filter_map(|w| w.parse().ok());
    ports.next().zip(ports.next()).unwrap_or((32_768, 60_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_stretch_outside_the_kernels_range() {
        for (first, last, want) in [
            (32_768, 60_999, Some((16_384, 32_767))),
            (1024, 32_767, Some((32_768, 65_535))),
            (1024, 65_000, None),
            (1024, 61_439, Some((61_440, 65_535))),
            (20_480, 65_535, Some((16_384, 20_479))),
            (20_479, 65_535, None),
            (1, 65_535, None),
        ] {
            let got = own_ports(first, last).map(|o| (o.first, o.last));
            assert_eq!(got, want, "the kernel has {first} to {last}");
        }
    }
}
