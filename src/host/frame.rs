//! What the bridge must know of a frame before smoltcp sees it: whose it is, and whether it opens anything.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

/// Length of an Ethernet header without a tag.
pub(super) const ETHERNET: usize = 14;

/// A connection on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The node's end.
    pub(super) node: SocketAddr,
    /// The end that the bridge stands in for: a client or an origin.
    pub(super) peer: SocketAddr,
}

/// A TCP segment from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) key: Key,
    /// SYN without ACK: the node opens a connection.
    pub(super) opens: bool,
}

/// Reads a frame that the node has sent; `None` when it is not TCP, or malformed.
pub(super) fn read(frame: &[u8]) -> Option<Segment> {
    let eth = EthernetFrame::new_checked(frame).ok()?;
    let (src, dst, tcp): (IpAddr, IpAddr, &[u8]) = match eth.ethertype() {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(eth.payload()).ok()?;
            let whole = !ip.more_frags() && ip.frag_offset() == 0;
            if ip.next_header() != IpProtocol::Tcp || !whole {
                return None;
            }
            (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(eth.payload()).ok()?;
            if ip.next_header() != IpProtocol::Tcp {
                return None;
            }
            (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        }
        _ => return None,
    };
    let tcp = TcpPacket::new_checked(tcp).ok()?;
    Some(Segment {
        key: Key { node: SocketAddr::new(src, tcp.src_port()), peer: SocketAddr::new(dst, tcp.dst_port()) },
        opens: tcp.syn() && !tcp.ack() && !tcp.rst(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet, IPv4 and TCP header, with these flags.
    fn frame(flags: u8) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        f.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 9]);
        f.extend([0x80, 0, 0x0b, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        f
    }

    #[test]
    fn only_a_bare_syn_opens() {
        let s = read(&frame(0x02)).unwrap();
        assert_eq!(s.key.node, "127.0.0.1:32768".parse().unwrap());
        assert_eq!(s.key.peer, "127.0.0.9:3000".parse().unwrap());
        assert!(s.opens);
        for flags in [0x10, 0x12, 0x14, 0x04, 0x06] {
            assert!(!read(&frame(flags)).unwrap().opens, "{flags:#x}");
        }
    }

    #[test]
    fn what_is_cut_short_or_not_tcp_is_nobodys() {
        let whole = frame(0x02);
        for n in 0..whole.len() {
            assert_eq!(read(&whole[..n]), None, "{n} bytes");
        }
        let mut udp = whole.clone();
        udp[ETHERNET + 9] = 17;
        let mut fragment = whole;
        fragment[ETHERNET + 6] = 0x20;
        assert_eq!((read(&udp), read(&fragment)), (None, None));
    }
}
