//! Text that names something on the network: hosts, origins, addresses with a prefix, MACs, interfaces, nodes.
//!
//! Each function takes a string from the config and gives the value, or the cause and the mend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::model::{Cidr, HostPattern, Origin};
use super::report::quote;

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

/// An origin: `http://HOST[:PORT]`, where the host is an IP address or `localhost`.
pub fn origin(text: &str) -> Result<Origin, Wrong> {
    const SHAPE: &str =
        "write \"http://ADDRESS:PORT\", as in \"http://192.0.2.80:8080\" or \"http://[2001:db8::80]\"";
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(format!("the origin {} has no scheme", quote(text)), SHAPE);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => {
            let cause = format!("the origin {} uses https, which is not yet in this version", quote(text));
            return wrong(cause, "use http:// and an origin on a network that you trust");
        }
        _ => return wrong(format!("the origin {} has an unknown scheme", quote(text)), SHAPE),
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        let mend = "end it after the port: a request keeps its own path";
        return wrong(format!("the origin {} has a path", quote(text)), mend);
    }
    if authority.contains('@') {
        return wrong(
            format!("the origin {} has a user name", quote(text)),
            "leave out everything up to the @",
        );
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        let cause = format!("the IPv6 address in {} has no brackets", quote(text));
        return wrong(cause, format!("write \"http://[{authority}]:80\", with the port that you mean"));
    }
    let (host, port) = match authority.rfind(':') {
        // A colon within brackets is the address's own.
        Some(colon) if !authority.ends_with(']') => (&authority[..colon], Some(&authority[colon + 1..])),
        _ => (authority, None),
    };
    let port = match port {
        None => 80,
        Some(digits) => match port_number(digits) {
            Some(port) => port,
            None => {
                let cause = format!("the port of {} is not a TCP port", quote(text));
                return wrong(cause, "write a port from 1 to 65535");
            }
        },
    };
    let ip = origin_address(text, host, SHAPE)?;
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        let cause = format!("the origin {} is not the address of one host", quote(text));
        return wrong(cause, "write the address that the origin listens on");
    }
    let shown = if host.eq_ignore_ascii_case("localhost") {
        "localhost".to_string()
    } else {
        match ip {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        }
    };
    let authority = if port == 80 { shown } else { format!("{shown}:{port}") };
    Ok(Origin::at(SocketAddr::new(ip, port), authority))
}

fn origin_address(text: &str, host: &str, shape: &str) -> Result<IpAddr, Wrong> {
    if host.is_empty() {
        return wrong(format!("the origin {} has no host", quote(text)), shape);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    if let Some(literal) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match literal.parse::<Ipv6Addr>() {
            Ok(v6) => Ok(IpAddr::V6(v6)),
            Err(_) => wrong(format!("the address in {} is not an IPv6 address", quote(text)), shape),
        };
    }
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return Ok(IpAddr::V4(v4));
    }
    if host.contains([':', '[', ']']) {
        let cause = format!("the IPv6 address in {} has no brackets", quote(text));
        return wrong(cause, "write \"http://[ADDRESS]:PORT\"");
    }
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return wrong(format!("the address in {} is not an IPv4 address", quote(text)), shape);
    }
    if host_name(text, host).is_err() {
        return wrong(format!("the host of {} is neither an address nor a name", quote(text)), shape);
    }
    let cause = format!("the origin {} is given by name, which is not yet in this version", quote(text));
    wrong(cause, "write its IP address")
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

    fn cause<T: std::fmt::Debug>(result: Result<T, Wrong>) -> String {
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
    fn origins() {
        let good = [
            ("http://192.0.2.80:8080", "192.0.2.80:8080", "192.0.2.80:8080"),
            ("http://192.0.2.80", "192.0.2.80:80", "192.0.2.80"),
            ("HTTP://192.0.2.80:80/", "192.0.2.80:80", "192.0.2.80"),
            ("http://LocalHost:3000", "127.0.0.1:3000", "localhost:3000"),
            ("http://[2001:db8::80]:8080", "[2001:db8::80]:8080", "[2001:db8::80]:8080"),
            ("http://[2001:db8:0::80]", "[2001:db8::80]:80", "[2001:db8::80]"),
        ];
        for (text, address, authority) in good {
            let origin = origin(text).unwrap_or_else(|w| panic!("{text}: {w:?}"));
            assert_eq!(origin.address(), address.parse().ok(), "{text}");
            assert_eq!(origin.authority, authority, "{text}");
        }
        let refused = [
            ("192.0.2.80:80", "no scheme"),
            ("ftp://192.0.2.80", "unknown scheme"),
            ("https://192.0.2.80", "https, which is not yet in this version"),
            ("http://origin.example.net:80", "by name, which is not yet in this version"),
            ("http://", "has no host"),
            ("http://:80", "has no host"),
            ("http://192.0.2.80:0", "not a TCP port"),
            ("http://192.0.2.80:65536", "not a TCP port"),
            ("http://192.0.2.80:+80", "not a TCP port"),
            ("http://192.0.2.80:", "not a TCP port"),
            ("http://192.0.2.300", "not an IPv4 address"),
            ("http://2001:db8::80", "has no brackets"),
            ("http://2001:db8:0:0:0:0:0:1:8080", "has no brackets"),
            ("http://[2001:db8::80", "has no brackets"),
            ("http://[::g]:80", "not an IPv6 address"),
            ("http://192.0.2.80/app", "has a path"),
            ("http://u:p@192.0.2.80", "has a user name"),
            ("http://0.0.0.0:80", "not the address of one host"),
            ("http://a b:80", "neither an address nor a name"),
        ];
        for (text, phrase) in refused {
            let cause = cause(origin(text));
            assert!(cause.contains(phrase), "{text}: {cause}");
        }
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
