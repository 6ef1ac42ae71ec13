//! An origin's URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Wrong, host_name, port_number, wrong};
use crate::config::model::{Origin, OriginHost, Scheme};
use crate::config::report::quote;

/// An origin: `http://HOST[:PORT]` or `https://…`, where the host is an IP address, a name, or
/// `localhost` (which is 127.0.0.1, and never asked for).
pub fn origin(text: &str) -> Result<Origin, Wrong> {
    const SHAPE: &str =
        "write \"http://HOST:PORT\", as in \"http://192.0.2.80:8080\" or \"https://origin.example.net\"";
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(format!("the origin {} has no scheme", quote(text)), SHAPE);
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return wrong(format!("the origin {} has an unknown scheme", quote(text)), SHAPE),
    };
    let (scheme_text, usual_port) = (scheme.text(), scheme.port());
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
        return wrong(
            cause,
            format!("write \"{scheme_text}://[{authority}]:{usual_port}\", with the port that you mean"),
        );
    }
    let (host, port) = match authority.rfind(':') {
        // A colon within brackets is the address's own.
        Some(colon) if !authority.ends_with(']') => (&authority[..colon], Some(&authority[colon + 1..])),
        _ => (authority, None),
    };
    let port = match port {
        None => usual_port,
        Some(digits) => match port_number(digits) {
            Some(port) => port,
            None => {
                let cause = format!("the port of {} is not a TCP port", quote(text));
                return wrong(cause, "write a port from 1 to 65535");
            }
        },
    };
    let place = origin_host(text, host, SHAPE)?;
    let shown = match &place {
        _ if host.eq_ignore_ascii_case("localhost") => "localhost".to_string(),
        OriginHost::Name(name) => name.clone(),
        OriginHost::Address(IpAddr::V4(v4)) => v4.to_string(),
        OriginHost::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
    };
    if let OriginHost::Address(ip) = place
        && (ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
    {
        let cause = format!("the origin {} is not the address of one host", quote(text));
        return wrong(cause, "write the address that the origin listens on");
    }
    let authority = if port == usual_port { shown } else { format!("{shown}:{port}") };
    Ok(Origin { scheme, host: place, port, authority, weight: 1 })
}

fn origin_host(text: &str, host: &str, shape: &str) -> Result<OriginHost, Wrong> {
    if host.is_empty() {
        return wrong(format!("the origin {} has no host", quote(text)), shape);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(OriginHost::Address(Ipv4Addr::LOCALHOST.into()));
    }
    if let Some(literal) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match literal.parse::<Ipv6Addr>() {
            Ok(v6) => Ok(OriginHost::Address(v6.into())),
            Err(_) => wrong(format!("the address in {} is not an IPv6 address", quote(text)), shape),
        };
    }
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return Ok(OriginHost::Address(v4.into()));
    }
    if host.contains([':', '[', ']']) {
        let cause = format!("the IPv6 address in {} has no brackets", quote(text));
        return wrong(cause, "write \"http://[ADDRESS]:PORT\"");
    }
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return wrong(format!("the address in {} is not an IPv4 address", quote(text)), shape);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // A name whose last label is a number would be an address to others (RFC 3696, section 2).
    let last_label = name.rsplit('.').next().unwrap_or_default();
    if host_name(text, &name).is_err() || last_label.bytes().all(|b| b.is_ascii_digit()) {
        return wrong(format!("the host of {} is neither an address nor a name", quote(text)), shape);
    }
    Ok(OriginHost::Name(name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::cause;
    use super::*;

    #[test]
    fn origins() {
        let name = origin("http://Origin.Example.NET.:8080").expect("good");
        assert_eq!(name.host, OriginHost::Name("origin.example.net".into()));
        assert_eq!((name.address(), name.port, name.weight), (None, 8080, 1));
        assert_eq!(name.authority, "origin.example.net:8080");
        assert_eq!(origin("http://origin").expect("good").authority, "origin");
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
            assert_eq!(origin.scheme, Scheme::Http);
        }
        for (text, port, authority) in [
            ("https://origin.example", 443, "origin.example"),
            ("HTTPS://origin.example:443/", 443, "origin.example"),
            ("https://origin.example:80", 80, "origin.example:80"),
            ("https://[::1]:8443", 8443, "[::1]:8443"),
        ] {
            let origin = origin(text).unwrap_or_else(|w| panic!("{text}: {w:?}"));
            assert_eq!((origin.scheme, origin.port), (Scheme::Https, port), "{text}");
            assert_eq!(origin.authority, authority, "{text}");
        }
        let refused = [
            ("192.0.2.80:80", "no scheme"),
            ("ftp://192.0.2.80", "unknown scheme"),
            ("http://origin.example.7", "neither an address nor a name"),
            ("http://-origin.example", "neither an address nor a name"),
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
}
