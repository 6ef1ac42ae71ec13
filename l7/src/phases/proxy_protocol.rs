//! The PROXY protocol, versions 1 and 2: who a client is behind a load balancer, said at the start of a
//! connection; and saying it to origins.
//!
//! ```text
//!  v1  PROXY TCP4 192.0.2.1 198.51.100.2 40000 443␍␊           text, 107 bytes at most
//!  v2  ␍␊␍␊␀␍␊QUIT␊ │ 2·cmd │ family·transport │ length:16 │ addresses │ TLVs…
//! ```
//!
//! The header is believed, so only a listener whose every peer is a load balancer may ask for it; there it is
//! required. TLVs are skipped, the checksum among them: TCP has its own. Names of sections are those of
//! haproxy's `doc/proxy-protocol.txt`.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::http1::bytes;
use crate::http1::rewrite::put_ip;
use crate::http1::{Full, HeadSink, Parsed};

/// No longer header is taken: a sender has to be able to put it into one segment of any path (section 2).
pub const HEADER_BYTES_MAX: usize = 536;

/// The longest line of version 1, CRLF included (section 2.1).
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const FIXED: usize = 16;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Nothing about a client: a health check of the balancer, or a client without an Internet address. The
    /// connection's own addresses count.
    Local,
    /// Whom the balancer speaks for. IPv4 addresses in IPv6 form are given as what they are.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
}

/// Parses the header at the start of `buf`, all that was received so far. On `Partial` call again with more.
pub fn parse(buf: &[u8]) -> Result<Parsed<ProxyHeader>, ProxyFault> {
    if begins(buf, SIGNATURE) {
        version_2(buf)
    } else if begins(buf, b"PROXY ") {
        version_1(buf)
    } else {
        Err(ProxyFault::NotProxy)
    }
}

/// Whether `buf` begins with `prefix`, as far as it goes.
fn begins(buf: &[u8], prefix: &[u8]) -> bool {
    let n = buf.len().min(prefix.len());
    buf[..n] == prefix[..n]
}

fn version_1(buf: &[u8]) -> Result<Parsed<ProxyHeader>, ProxyFault> {
    let window = &buf[..buf.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if buf.len() >= LINE_BYTES_MAX { Err(ProxyFault::TooLong) } else { Ok(Parsed::Partial) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyFault::Malformed)?;
    let mut words = line.split(|&b| b == b' ').skip(1);
    let protocol = words.next().unwrap_or_default();
    if protocol == b"UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(Parsed::Complete(ProxyHeader::Local, end + 1));
    }
    let is_v4 = match protocol {
        b"TCP4" => true,
        b"TCP6" => false,
        _ => return Err(ProxyFault::Malformed),
    };
    let mut next = || words.next().ok_or(ProxyFault::Malformed);
    let (source, destination) = (address(next()?, is_v4)?, address(next()?, is_v4)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if words.next().is_some() {
        return Err(ProxyFault::Malformed);
    }
    Ok(Parsed::Complete(proxied((source, source_port), (destination, destination_port)), end + 1))
}

fn address(text: &[u8], is_v4: bool) -> Result<IpAddr, ProxyFault> {
    let text = core::str::from_utf8(text).map_err(|_| ProxyFault::Malformed)?;
    let parsed = if is_v4 {
        text.parse::<Ipv4Addr>().map(IpAddr::V4)
    } else {
        text.parse::<Ipv6Addr>().map(IpAddr::V6)
    };
    parsed.map_err(|_| ProxyFault::Malformed)
}

fn port(text: &[u8]) -> Result<u16, ProxyFault> {
    if text.len() > 1 && text.starts_with(b"0") {
        return Err(ProxyFault::Malformed);
    }
    bytes::decimal(text).and_then(|port| u16::try_from(port).ok()).ok_or(ProxyFault::Malformed)
}

fn version_2(buf: &[u8]) -> Result<Parsed<ProxyHeader>, ProxyFault> {
    // Each byte is judged as soon as it is there.
    let Some(&command) = buf.get(12) else { return Ok(Parsed::Partial) };
    if command >> 4 != 2 {
        return Err(ProxyFault::VersionUnknown);
    }
    let is_local = match command & 15 {
        0 => true,
        1 => false,
        _ => return Err(ProxyFault::Malformed),
    };
    let Some(&family) = buf.get(13) else { return Ok(Parsed::Partial) };
    if family >> 4 > 3 || family & 15 > 2 {
        return Err(ProxyFault::Malformed);
    }
    let Some(&[high, low]) = buf.get(14..FIXED) else { return Ok(Parsed::Partial) };
    let end = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if end > HEADER_BYTES_MAX {
        return Err(ProxyFault::TooLong);
    }
    let Some(rest) = buf.get(FIXED..end) else { return Ok(Parsed::Partial) };
    let header = match family {
        // For LOCAL the addresses are to be ignored, whatever they are (section 2.2).
        _ if is_local => ProxyHeader::Local,
        0x11 | 0x12 => {
            let (source, rest) = rest.split_first_chunk::<4>().ok_or(ProxyFault::Malformed)?;
            let (destination, rest) = rest.split_first_chunk::<4>().ok_or(ProxyFault::Malformed)?;
            let (source_port, destination_port) = ports(rest)?;
            proxied((IpAddr::from(*source), source_port), (IpAddr::from(*destination), destination_port))
        }
        0x21 | 0x22 => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(ProxyFault::Malformed)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(ProxyFault::Malformed)?;
            let (source_port, destination_port) = ports(rest)?;
            proxied((IpAddr::from(*source), source_port), (IpAddr::from(*destination), destination_port))
        }
        // AF_UNSPEC, AF_UNIX, or a transport that is not said.
        _ => ProxyHeader::Local,
    };
    Ok(Parsed::Complete(header, end))
}

fn ports(rest: &[u8]) -> Result<(u16, u16), ProxyFault> {
    match rest {
        [a, b, c, d, ..] => Ok((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => Err(ProxyFault::Malformed),
    }
}

fn proxied(source: (IpAddr, u16), destination: (IpAddr, u16)) -> ProxyHeader {
    let address = |(ip, port): (IpAddr, u16)| SocketAddr::new(ip.to_canonical(), port);
    ProxyHeader::Proxied { source: address(source), destination: address(destination) }
}

/// Writes a header of version 1.
pub fn write_v1(header: &ProxyHeader, sink: &mut impl HeadSink) -> Result<(), Full> {
    let ProxyHeader::Proxied { source, destination } = header else {
        return sink.put(b"PROXY UNKNOWN\r\n");
    };
    let is_v4 = source.is_ipv4() && destination.is_ipv4();
    sink.put(if is_v4 { b"PROXY TCP4 " } else { b"PROXY TCP6 " })?;
    let in_family = |ip: IpAddr| if is_v4 { ip } else { IpAddr::V6(mapped(ip)) };
    put_ip(in_family(source.ip()), sink)?;
    sink.put(b" ")?;
    put_ip(in_family(destination.ip()), sink)?;
    for port in [source.port(), destination.port()] {
        let mut digits = [0; 20];
        sink.put(b" ")?;
        sink.put(bytes::format_decimal(u64::from(port), &mut digits))?;
    }
    sink.put(b"\r\n")
}

/// Writes a header of version 2.
pub fn write_v2(header: &ProxyHeader, sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put(SIGNATURE)?;
    let ProxyHeader::Proxied { source, destination } = header else {
        return sink.put(&[0x20, 0, 0, 0]);
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            sink.put(&[0x21, 0x11, 0, 12])?;
            sink.put(&source.octets())?;
            sink.put(&destination.octets())?;
        }
        (source, destination) => {
            sink.put(&[0x21, 0x21, 0, 36])?;
            sink.put(&mapped(source).octets())?;
            sink.put(&mapped(destination).octets())?;
        }
    }
    sink.put(&source.port().to_be_bytes())?;
    sink.put(&destination.port().to_be_bytes())
}

/// Both addresses have to be of one family.
fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Why a connection that has to begin with a PROXY header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// It begins with something else.
    NotProxy,
    /// The signature of version 2, and another version.
    VersionUnknown,
    /// It is none that the specification allows.
    Malformed,
    /// It is longer than 107 bytes (version 1) or [`HEADER_BYTES_MAX`] (version 2).
    TooLong,
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotProxy => "the connection does not begin with a PROXY header",
            Self::VersionUnknown => "the PROXY header has an unknown version",
            Self::Malformed => "the PROXY header is malformed",
            Self::TooLong => "the PROXY header is too long",
        })
    }
}

impl core::error::Error for ProxyFault {}

/// What must hold for any bytes: for the fuzz target and the property test.
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub fn check(input: &[u8]) {
    let whole = parse(input);
    // More bytes never change what was decided, fewer never decide otherwise.
    for end in 0..=input.len().min(HEADER_BYTES_MAX + 1) {
        match (parse(&input[..end]), &whole) {
            (Ok(Parsed::Partial), _) => {
                if let Ok(Parsed::Complete(_, consumed)) = whole {
                    assert!(end < consumed);
                }
            }
            (Ok(Parsed::Complete(a, n)), Ok(Parsed::Complete(b, m))) => {
                assert!(a == *b && n == *m && n <= end)
            }
            (Err(a), Err(b)) => assert_eq!(a, *b),
            (a, b) => panic!("{a:?} of a part, {b:?} of the whole"),
        }
    }
    let Ok(Parsed::Complete(header, consumed)) = whole else { return };
    assert!(consumed <= input.len() && consumed <= HEADER_BYTES_MAX);
    for version in [1, 2] {
        let mut room = [0; LINE_BYTES_MAX];
        let mut sink = crate::http1::SliceSink::new(&mut room);
        if version == 1 { write_v1(&header, &mut sink) } else { write_v2(&header, &mut sink) }
            .expect("it fits");
        match parse(sink.written()) {
            Ok(Parsed::Complete(again, n)) => assert!(again == header && n == sink.len()),
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::http1::SliceSink;

    fn told(source: &str, destination: &str) -> Result<Option<ProxyHeader>, ProxyFault> {
        Ok(Some(ProxyHeader::Proxied {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }))
    }

    const LOCAL: Result<Option<ProxyHeader>, ProxyFault> = Ok(Some(ProxyHeader::Local));

    fn parsed(input: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
        check(input);
        match parse(input)? {
            Parsed::Partial => Ok(None),
            Parsed::Complete(header, _) => Ok(Some(header)),
        }
    }

    #[test]
    fn version_1_lines() {
        use ProxyFault::{Malformed, NotProxy, TooLong};
        let v4 = told("192.0.2.1:40000", "198.51.100.2:443");
        let cases: &[(&str, Result<Option<ProxyHeader>, ProxyFault>)] = &[
            ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n", v4),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\nGET / HTTP/1.1\r\n", v4),
            (
                "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
                told("[2001:db8::1]:1", "[2001:db8::2]:65535"),
            ),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 0 0\r\n", told("192.0.2.1:0", "[::1]:0")),
            ("PROXY UNKNOWN\r\n", LOCAL),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", LOCAL),
            ("PROXY UNKNOWN anything at all\r\n", LOCAL),
            ("", Ok(None)),
            ("P", Ok(None)),
            ("PROXY", Ok(None)),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r", Ok(None)),
            ("GET / HTTP/1.1\r\n", Err(NotProxy)),
            ("PROXZ ", Err(NotProxy)),
            ("proxy TCP4", Err(NotProxy)),
            ("PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n", Err(Malformed)),
            ("PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n", Err(Malformed)),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", Err(Malformed)),
            ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Err(Malformed)),
            ("PROXY TCP6 fe80::1%1 ::1 1 2\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", Err(Malformed)),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", Err(Malformed)),
            ("PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", Err(Malformed)),
            ("PROXY \r\n", Err(Malformed)),
        ];
        for (line, want) in cases {
            assert_eq!(parsed(line.as_bytes()), *want, "{line:?}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(parsed(&endless), Err(TooLong));
        assert_eq!(parsed(&endless[..106]), Ok(None));
        let longest = [&endless[..105], b"\r\n"].concat();
        assert_eq!(parsed(&longest), LOCAL);
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [SIGNATURE, &[command, family][..], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn version_2_headers() {
        use ProxyFault::{Malformed, NotProxy, TooLong, VersionUnknown};
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 1, 187];
        let with_tlvs = [&v4[..], &[3, 0, 4, 1, 2, 3, 4, 4, 0, 1, 0]].concat();
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let v6 = [&a.octets()[..], &b.octets(), &[0, 1, 0, 2]].concat();
        let told_v4 = told("192.0.2.1:40000", "198.51.100.2:443");
        let cases = [
            (v2(0x21, 0x11, &v4), told_v4),
            (v2(0x21, 0x12, &v4), told_v4),
            (v2(0x21, 0x11, &with_tlvs), told_v4),
            (v2(0x21, 0x21, &v6), told("[2001:db8::1]:1", "[2001:db8::2]:2")),
            (v2(0x20, 0, &[]), LOCAL),
            (v2(0x20, 0x11, &v4), LOCAL),
            (v2(0x20, 0x11, &[1]), LOCAL),
            (v2(0x21, 0, &[]), LOCAL),
            (v2(0x21, 0x31, &[0; 216]), LOCAL),
            (v2(0x21, 0x10, &v4), LOCAL),
            (v2(0x21, 0x11, &[&v4[..], &[0; 508]].concat()), told_v4),
            (v2(0x21, 0x11, &[&v4[..], &[0; 509]].concat()), Err(TooLong)),
            (v2(0x21, 0x11, &v4[..11]), Err(Malformed)),
            (v2(0x21, 0x21, &v6[..35]), Err(Malformed)),
            (v2(0x22, 0x11, &v4), Err(Malformed)),
            (v2(0x21, 0x13, &v4), Err(Malformed)),
            (v2(0x21, 0x41, &v4), Err(Malformed)),
            (v2(0x11, 0x11, &v4), Err(VersionUnknown)),
            (v2(0x31, 0x11, &v4), Err(VersionUnknown)),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Err(NotProxy)),
            (b"\r\n\r\nGET".to_vec(), Err(NotProxy)),
        ];
        for (bytes, want) in cases {
            assert_eq!(parsed(&bytes), want, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_written() {
        let text = |header| {
            let mut room = [0; 107];
            let mut sink = SliceSink::new(&mut room);
            write_v1(&header, &mut sink).unwrap();
            String::from_utf8(sink.written().to_vec()).unwrap()
        };
        let header = |a: &str, b: &str| ProxyHeader::Proxied {
            source: a.parse().unwrap(),
            destination: b.parse().unwrap(),
        };
        assert_eq!(text(ProxyHeader::Local), "PROXY UNKNOWN\r\n");
        assert_eq!(text(header("192.0.2.1:1", "192.0.2.2:2")), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
        assert_eq!(text(header("192.0.2.1:1", "[::1]:2")), "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n");
        let mut room = [0; 107];
        let mut sink = SliceSink::new(&mut room);
        write_v2(&header("192.0.2.1:40000", "198.51.100.2:443"), &mut sink).unwrap();
        assert_eq!(sink.written(), v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 1, 187]));
    }

    proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes(prefix in 0..3usize, rest in vec(any::<u8>(), 0..64)) {
            let prefix = [Vec::new(), b"PROXY ".to_vec(), v2(0x21, 0x11, &[])[..14].to_vec()][prefix].clone();
            check(&[prefix, rest].concat());
        }

        #[test]
        fn round_trips(a: (IpAddr, u16), b: (IpAddr, u16)) {
            let header = proxied(a, b);
            for version in [1, 2] {
                let mut room = [0; LINE_BYTES_MAX];
                let mut sink = SliceSink::new(&mut room);
                if version == 1 { write_v1(&header, &mut sink) } else { write_v2(&header, &mut sink) }.unwrap();
                prop_assert_eq!(parsed(sink.written()), Ok(Some(header)));
            }
        }
    }
}
