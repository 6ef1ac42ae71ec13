//! Addresses as the stack keeps them: 16 bytes, IPv4 mapped (::ffff:a.b.c.d), so that one table serves both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Addr(pub [u8; 16]);

const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Addr {
    /// `::`: no address.
    pub const UNSPECIFIED: Addr = Addr([0; 16]);

    /// From the 4 bytes of an IPv4 header.
    #[inline]
    pub fn v4(b: &[u8]) -> Addr {
        let mut a = [0; 16];
        a[..12].copy_from_slice(&V4_PREFIX);
        a[12..].copy_from_slice(&b[..4]);
        Addr(a)
    }

    /// From the 16 bytes of an IPv6 header.
    #[inline]
    pub fn v6(b: &[u8]) -> Addr {
        let mut a = [0; 16];
        a.copy_from_slice(&b[..16]);
        Addr(a)
    }

    /// Whether it is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.0[..12] == V4_PREFIX
    }

    /// The number that an IPv4 address is.
    #[inline]
    pub fn as_v4(&self) -> Option<u32> {
        self.is_v4().then(|| u32::from_be_bytes([self.0[12], self.0[13], self.0[14], self.0[15]]))
    }

    /// The bytes that stand in a header: 4 or 16.
    #[inline]
    pub fn wire(&self) -> &[u8] {
        if self.is_v4() { &self.0[12..] } else { &self.0 }
    }

    /// As the standard library's type.
    pub fn ip(&self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::new(self.0[12], self.0[13], self.0[14], self.0[15]))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.0))
        }
    }

    /// Whether it is a multicast address (or IPv4's limited broadcast).
    pub fn is_group(&self) -> bool {
        if self.is_v4() { self.0[12] >= 224 } else { self.0[0] == 0xff }
    }

    /// Whether it is a loopback address.
    pub fn is_loopback(&self) -> bool {
        if self.is_v4() { self.0[12] == 127 } else { self.ip().is_loopback() }
    }

    /// Whether the first `prefix` bits (of the family's own length) equal `other`'s.
    pub fn matches(&self, other: &Addr, prefix: u8) -> bool {
        if self.is_v4() != other.is_v4() {
            return false;
        }
        let bits = usize::from(prefix) + if self.is_v4() { 96 } else { 0 };
        let whole = (bits / 8).min(16);
        if self.0[..whole] != other.0[..whole] {
            return false;
        }
        let rest = bits % 8;
        whole == 16 || rest == 0 || (self.0[whole] ^ other.0[whole]) >> (8 - rest) == 0
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Addr {
        match ip {
            IpAddr::V4(a) => Addr::v4(&a.octets()),
            IpAddr::V6(a) => Addr(a.octets()),
        }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.ip(), f)
    }
}

/// A connection as its end here sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Tuple {
    /// Our address.
    pub local: Addr,
    /// The peer's.
    pub remote: Addr,
    /// Our port.
    pub local_port: u16,
    /// The peer's.
    pub remote_port: u16,
}

impl Tuple {
    /// Of no connection.
    pub const EMPTY: Tuple =
        Tuple { local: Addr::UNSPECIFIED, remote: Addr::UNSPECIFIED, local_port: 0, remote_port: 0 };
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::net::SocketAddr;
        let l = SocketAddr::new(self.local.ip(), self.local_port);
        write!(f, "{l} ↔ {}", SocketAddr::new(self.remote.ip(), self.remote_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_prefixes() {
        let a = Addr::from("10.1.2.3".parse::<IpAddr>().unwrap());
        assert!(a.is_v4() && a.wire() == [10, 1, 2, 3] && !a.is_group());
        let p = |s: &str| Addr::from(s.parse::<IpAddr>().unwrap());
        assert!(a.matches(&p("10.1.2.200"), 24) && !a.matches(&p("10.1.3.3"), 24));
        assert!(a.matches(&p("10.1.2.2"), 31) && !a.matches(&p("10.1.2.1"), 31));
        assert!(a.matches(&p("99.9.9.9"), 0) && !a.matches(&p("::"), 0));
        assert!(p("2001:db8::1").matches(&p("2001:db8::ffff"), 64));
        assert!(p("ff02::1").is_group() && p("224.0.0.1").is_group() && p("::1").is_loopback());
    }
}
