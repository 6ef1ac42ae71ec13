//! Text that names something: hosts, addresses with a prefix, MACs, interfaces, nodes; origins and what HTTP names
//! have files of their own.
//!
//! Each function takes a string from the config and gives the value, or the cause and the mend.

mod http;
mod origin;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dataplane::port::DeviceName;

use super::model::{Cidr, HostPattern};
use super::report::quote;

pub use http::{
    Direction, check_path, cookie, field_name, field_to_write, hash_key, parameter_pattern,
    pattern_to_remove, redirect_host, route_path, statuses, value,
};
pub use origin::origin;

/// Why a string is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub mend: String,
}

fn wrong<T>(cause: impl Into<String>, mend: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { cause: cause.into(), mend: mend.into() })
}

/// A site's host: `*`, `*.example.com`, `www.example.com`, `192.0.2.1`, `[2001:db8::1]`.
pub fn host_pattern(text: &str) -> Result<HostPattern, Wrong> {
    if text == "*" {
        return Ok(HostPattern::Default);
    }
    let lower = text.to_ascii_lowercase();
    if let Some(literal) = lower.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
        return match literal.parse::<Ipv6Addr>() {
            Ok(address) => Ok(HostPattern::Exact(format!("[{address}]"))),
            Err(_) => {
                wrong(format!("{} is not an IPv6 address", quote(text)), "write it as in \"[2001:db8::1]\"")
            }
        };
    }
    if lower.parse::<Ipv6Addr>().is_ok() {
        let cause = format!("the IPv6 address {} has no brackets", quote(text));
        return wrong(cause, format!("write \"[{text}]\", as clients do"));
    }
    if lower.contains("://") || lower.contains('/') {
        return wrong(format!("{} is a URL, not a host", quote(text)), "write the host alone");
    }
    if lower.contains(':') {
        return wrong(
            format!("the host {} has a port", quote(text)),
            "leave the port out: it is the listener's",
        );
    }
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    if let Some(parent) = lower.strip_prefix("*.") {
        host_name(text, parent)?;
        return Ok(HostPattern::Wildcard(parent.to_string()));
    }
    if lower.contains('*') {
        let mend = "use \"*.example.com\" for one domain, or \"*\" for the default site";
        return wrong(format!("the * in {} does not stand for the whole first label", quote(text)), mend);
    }
    host_name(text, lower)?;
    Ok(HostPattern::Exact(lower.to_string()))
}

/// Whom an origin's certificate must be for: a host name or an address.
pub fn server_name(text: &str) -> Result<String, Wrong> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    match host_pattern(text)? {
        HostPattern::Exact(name) => Ok(name),
        _ => wrong(format!("{} is not one name", quote(text)), "write the name that the certificate has"),
    }
}

/// The labels of a host name; `shown` is how it stands in the file.
fn host_name(shown: &str, name: &str) -> Result<(), Wrong> {
    if !name.is_ascii() {
        let mend = "write its ASCII form, as in \"xn--mnchen-3ya.example\"";
        return wrong(format!("the host {} is not in ASCII", quote(shown)), mend);
    }
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_ok) {
        let mend = "write a host name, as in \"www.example.com\"";
        return wrong(format!("{} is not a host name", quote(shown)), mend);
    }
    Ok(())
}

/// A TCP port in decimal, without sign or spaces.
fn port_number(digits: &str) -> Option<u16> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}

/// A port's address with its prefix: `192.0.2.10/24`.
pub fn cidr(text: &str) -> Result<Cidr, Wrong> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let mend = "write it as in \"192.0.2.10/24\" or \"2001:db8::10/64\"";
        return wrong(format!("{} is not an IP address with a prefix", quote(text)), mend);
    };
    let (width, usual) = if address.is_ipv4() { (32, 24) } else { (128, 64) };
    let Some(prefix) = prefix else {
        let mend = format!("add its network's, as in \"{address}/{usual}\"");
        return wrong(format!("the address {} has no prefix length", quote(text)), mend);
    };
    let prefix_len = match prefix.parse::<u8>() {
        Ok(len) if len <= width && prefix.bytes().all(|b| b.is_ascii_digit()) => len,
        _ => {
            let cause = format!("the prefix length of {} is out of range", quote(text));
            return wrong(cause, format!("write 0 to {width}"));
        }
    };
    let cidr = Cidr { address, prefix_len };
    if let IpAddr::V4(v4) = address {
        let host_bits = if prefix_len == 0 { u32::MAX } else { !(u32::MAX << (32 - prefix_len)) };
        // In a /31 (RFC 3021) and a /32 every address is a host's.
        let host = v4.to_bits() & host_bits;
        if prefix_len < 31 && (host == 0 || host == host_bits) {
            let what =
                if host == 0 { "the network's own address" } else { "the network's broadcast address" };
            return wrong(format!("{} is {what}", quote(text)), "write the address of this node in it");
        }
    }
    if address.is_unspecified() || address.is_multicast() {
        let cause = format!("{} is not an address that a host can have", quote(text));
        return wrong(cause, "write the address of this node");
    }
    Ok(cidr)
}

/// A network: `10.0.0.0/8`; an address alone is a network of one.
pub fn network(text: &str) -> Result<Cidr, Wrong> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let Ok(address) = address.parse::<IpAddr>() else {
        let mend = "write it as in \"10.0.0.0/8\" or \"2001:db8::/32\"";
        return wrong(format!("{} is not a network", quote(text)), mend);
    };
    let (width, bits) = match address {
        IpAddr::V4(v4) => (32, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    };
    let prefix_len = match prefix.map(|p| (p, p.parse::<u8>())) {
        None => width,
        Some((p, Ok(len))) if len <= width && p.bytes().all(|b| b.is_ascii_digit()) => len,
        Some(_) => {
            let cause = format!("the prefix length of {} is out of range", quote(text));
            return wrong(cause, format!("write 0 to {width}"));
        }
    };
    let host_bits = u32::from(width - prefix_len);
    // A shift by all 128 bits would overflow: /0 leaves nothing.
    let kept = bits.checked_shr(host_bits).and_then(|n| n.checked_shl(host_bits)).unwrap_or(0);
    if kept != bits {
        let first = match address {
            IpAddr::V4(_) => IpAddr::V4((kept as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(kept.into()),
        };
        let cause = format!("{} is an address within a network, not the network", quote(text));
        return wrong(cause, format!("write \"{first}/{prefix_len}\", or the address alone"));
    }
    Ok(Cidr { address, prefix_len })
}

/// A name server: `192.0.2.53`, `192.0.2.53:5353`, `[2001:db8::53]:53`.
pub fn server(text: &str) -> Result<SocketAddr, Wrong> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
        (Ok(address), _) => address,
        (_, Ok(ip)) => SocketAddr::new(ip, 53),
        _ => {
            let mend = "write its address, as in \"192.0.2.53\" or \"[2001:db8::53]:53\"";
            return wrong(format!("{} is not the address of a name server", quote(text)), mend);
        }
    };
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return wrong(format!("no name server can be at {}", quote(text)), "write the address of one");
    }
    Ok(address)
}

/// A plain address: a listener's or a gateway's.
pub fn address(text: &str) -> Result<IpAddr, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        if address.is_unspecified() {
            let cause = format!("{} is no single address", quote(text));
            return wrong(cause, "list the addresses, as the ports have them");
        }
        return Ok(address);
    }
    let mend = if text.contains('/') && cidr(text).is_ok() {
        "leave out the prefix length"
    } else if text.parse::<SocketAddr>().is_ok() {
        "leave out the TCP port: it has a key of its own"
    } else if text.starts_with('[') {
        "leave out the brackets"
    } else {
        "write it as in \"192.0.2.10\" or \"2001:db8::10\""
    };
    wrong(format!("{} is not an IP address", quote(text)), mend)
}

/// A MAC that a device can have: `02:00:5e:10:00:01`.
pub fn mac(text: &str) -> Result<[u8; 6], Wrong> {
    const MEND: &str = "write six bytes in hexadecimal, as in \"02:00:5e:10:00:01\"";
    let mut bytes = [0u8; 6];
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let part_ok = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(part_ok) {
        return wrong(format!("{} is not a MAC address", quote(text)), MEND);
    }
    for (byte, part) in bytes.iter_mut().zip(parts) {
        *byte = u8::from_str_radix(part, 16).expect("two hexadecimal digits");
    }
    if bytes[0] & 1 != 0 || bytes == [0; 6] {
        let cause = format!("{} is not the address of one device", quote(text));
        return wrong(cause, "write a unicast one, as in \"02:00:5e:10:00:01\"");
    }
    Ok(bytes)
}

/// A name for a network interface, by the kernel's rules.
pub fn interface(text: &str) -> Result<String, Wrong> {
    let ok = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'));
    if !ok {
        let mend = "write 1 to 15 characters without spaces, / or :, as in \"tap0\"";
        return wrong(format!("{} is not a name for an interface", quote(text)), mend);
    }
    Ok(text.to_string())
}

/// A device of DPDK's: a NIC or a virtual one.
pub fn dpdk_device(text: &str) -> Result<String, Wrong> {
    match DeviceName::parse(text) {
        Some(DeviceName::Pci { address, args: "" }) => return Ok(address.to_string()),
        Some(DeviceName::Pci { address, args }) => return Ok(format!("{address},{args}")),
        Some(DeviceName::Virtual(_) | DeviceName::Interface(_)) => return Ok(text.to_string()),
        None => {}
    }
    let device = text.split(',').next().unwrap_or_default();
    if device.contains(':') && device.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
        let mend = "write domain, bus, device and function, as in \"0000:3b:00.0\"; `lspci -D` lists them";
        return wrong(format!("{} is not a PCI address", quote(text)), mend);
    }
    let mend = "write a NIC's PCI address, as in \"0000:3b:00.0\", its interface, or a driver with a number, and \
                its arguments, as in \"net_af_packet0,iface=eth1\"";
    wrong(format!("{} is not a device of DPDK's", quote(text)), mend)
}

/// A name for a node or a port: it becomes a folder's name and a label in statistics.
pub fn label(text: &str) -> Result<String, Wrong> {
    let ok = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !text.starts_with(['.', '-']);
    if !ok {
        let mend = "use up to 64 letters, digits, _ - and . and begin with a letter or digit";
        return wrong(format!("{} is not a usable name", quote(text)), mend);
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn cause<T: std::fmt::Debug>(result: Result<T, Wrong>) -> String {
        let wrong = result.expect_err("must be refused");
        assert!(!wrong.cause.contains(';'), "the first ; of a line ends the cause: {}", wrong.cause);
        format!("{}; {}", wrong.cause, wrong.mend)
    }

    #[test]
    fn hosts() {
        let exact = |h: &str| Ok(HostPattern::Exact(h.into()));
        assert_eq!(host_pattern("*"), Ok(HostPattern::Default));
        assert_eq!(host_pattern("WWW.Example.COM"), exact("www.example.com"));
        assert_eq!(host_pattern("example.com."), exact("example.com"));
        assert_eq!(host_pattern("*.Example.com"), Ok(HostPattern::Wildcard("example.com".into())));
        assert_eq!(host_pattern("192.0.2.1"), exact("192.0.2.1"));
        assert_eq!(host_pattern("[2001:DB8::0:1]"), exact("[2001:db8::1]"));
        assert_eq!(host_pattern("localhost"), exact("localhost"));
        let refused = [
            ("", "not a host name"),
            ("a..b", "not a host name"),
            ("-a.b", "not a host name"),
            ("a b", "not a host name"),
            (".", "not a host name"),
            ("*.", "does not stand"),
            ("www.*.com", "does not stand"),
            ("*example.com", "does not stand"),
            ("example.com:80", "has a port"),
            ("http://example.com", "is a URL"),
            ("example.com/", "is a URL"),
            ("2001:db8::1", "has no brackets"),
            ("[2001:db8]", "not an IPv6 address"),
            ("münchen.example", "not in ASCII"),
        ];
        for (text, phrase) in refused {
            let cause = cause(host_pattern(text));
            assert!(cause.contains(phrase), "{text}: {cause}");
        }
        assert!(host_pattern(&"a".repeat(64)).is_err());
        assert!(host_pattern(&"a.".repeat(127)).is_ok());
        assert!(host_pattern(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn prefixes() {
        for text in
            ["192.0.2.10/24", "10.0.0.0/31", "10.0.0.1/32", "10.255.255.255/0", "2001:db8::10/64", "::1/128"]
        {
            assert_eq!(cidr(text).map(|c| c.to_string()), Ok(text.to_string()));
        }
        let refused = [
            ("192.0.2.10", "no prefix length"),
            ("192.0.2.0/24", "network's own"),
            ("192.0.2.255/24", "broadcast"),
            ("192.0.2.10/33", "out of range"),
            ("2001:db8::1/129", "out of range"),
            ("192.0.2.10/+8", "out of range"),
            ("192.0.2/24", "not an IP address"),
            ("224.0.0.1/24", "not an address that a host can have"),
            ("::/64", "not an address that a host can have"),
        ];
        for (text, phrase) in refused {
            let cause = cause(cidr(text));
            assert!(cause.contains(phrase), "{text}: {cause}");
        }
        let net = cidr("192.0.2.10/24").expect("good");
        assert!(net.contains("192.0.2.1".parse().expect("good")));
        assert!(!net.contains("192.0.3.1".parse().expect("good")));
        assert!(!net.contains("::1".parse().expect("good")));
        assert!(cidr("2001:db8::1/0").expect("good").contains("::1".parse().expect("good")));
    }

    #[test]
    fn networks() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(network(text).map(|n| n.to_string()), Ok(shown.to_string()));
        }
        for (text, phrase) in [
            ("10.0.0.1/8", "write \"10.0.0.0/8\""),
            ("2001:db8::1/32", "write \"2001:db8::/32\""),
            ("1.2.3.4/0", "write \"0.0.0.0/0\""),
            ("10.0.0.0/33", "out of range"),
            ("10.0.0.0/+8", "out of range"),
            ("10/8", "not a network"),
            ("", "not a network"),
        ] {
            let cause = cause(network(text));
            assert!(cause.contains(phrase), "{text}: {cause}");
        }
    }

    #[test]
    fn name_servers() {
        for (text, address) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
            ("[2001:db8::53]:54", "[2001:db8::53]:54"),
        ] {
            assert_eq!(server(text), Ok(address.parse().expect("an address")), "{text}");
        }
        for text in ["", "dns.example", "192.0.2.53:0", "0.0.0.0", "224.0.0.1", "1.2.3"] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn macs_interfaces_and_labels() {
        assert_eq!(mac("02:00:5E:10:00:01"), Ok([2, 0, 0x5e, 0x10, 0, 1]));
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:0g",
            "02:00:5e:10:00:+1",
            "01:00:5e:10:00:01",
            "00:00:00:00:00:00",
        ] {
            assert!(mac(text).is_err(), "{text}");
        }
        assert!(interface("tap0").is_ok());
        for text in ["", "a b", "a/b", "..", "sixteen-letters!", "tap%d"] {
            assert!(interface(text).is_err(), "{text}");
        }
        assert!(label("edge-1.fra").is_ok());
        for text in ["", "..", "-a", "a/b", "a b", "ä"] {
            assert!(label(text).is_err(), "{text}");
        }
    }
}
