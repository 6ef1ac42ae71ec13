//! What is known of a frame besides its bytes: one cache line.

use crate::Time;

/// [`Meta::vlan`] of an untagged frame.
pub const NO_VLAN: u16 = 0xffff;

/// What the device or the parser found out about a received frame, and what is left to do of one to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxFlags(pub u8);

impl RxFlags {
    /// The device has verified the L3 checksum.
    pub const L3_CHECKSUM_OK: u8 = 1;
    /// The device has verified the L4 checksum, or the frame never left this host.
    pub const L4_CHECKSUM_OK: u8 = 2;
    /// IPv6, not IPv4.
    pub const IPV6: u8 = 4;
    /// Sent to the broadcast address or to a multicast group at L2.
    pub const L2_GROUP: u8 = 8;
    /// To be sent: the field of the L4 checksum holds the sum of the pseudo-header alone, and the port is to fill it in or
    /// leave it.
    pub const L4_CHECKSUM_BLANK: u8 = 16;

    /// Whether `flag` is set.
    #[inline]
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Sets `flag`.
    #[inline]
    pub const fn set(&mut self, flag: u8) {
        self.0 |= flag;
    }
}

/// What the frame carries, as far as it was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum L4 {
    /// Not parsed yet.
    #[default]
    Unknown,
    /// ARP.
    Arp,
    /// ICMP over IPv4.
    Icmp4,
    /// ICMPv6, neighbour discovery among it.
    Icmp6,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Some other protocol over IP.
    Other(u8),
}

/// Offsets are from the start of the frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta {
    /// When the burst that brought it was taken from the port.
    pub arrival: Time,
    /// RSS hash, when the device gave one.
    pub rss_hash: u32,
    /// Start of the L3 header.
    pub l3: u16,
    /// Start of the L4 header.
    pub l4: u16,
    /// Start of the L4 payload.
    pub payload: u16,
    /// Bytes of L4 payload (padding behind the IP datagram is not counted).
    pub payload_len: u16,
    /// VLAN id, or [`NO_VLAN`].
    pub vlan: u16,
    /// To be sent, and longer than a frame may be: bytes of TCP payload that each of the segments is to have into which the
    /// port cuts it, the last one perhaps less. 0: it is a frame as it is.
    pub tso_mss: u16,
    /// The core's number of the port that it came from, or goes to.
    pub port: u8,
    /// Cores that have looked at the frame before this one, and passed it on.
    pub hops: u8,
    /// Flags of reception, or for sending.
    pub flags: RxFlags,
    /// What it carries.
    pub l4_kind: L4,
}
