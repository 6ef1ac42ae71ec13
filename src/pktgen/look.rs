//! What a received frame is, in the words of a load test; and where its payload lies.

use std::ops::Range;

use super::spec::flag;

/// What came back, in the order of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// SYN and ACK: a connection could begin.
    SynAck,
    /// RST.
    Reset,
    /// Other TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo reply.
    EchoReply,
    /// Echo request.
    EchoRequest,
    /// ICMP or ICMPv6 errors.
    Unreachable,
    /// ARP, or ICMPv6 of neighbour discovery: the link's own business.
    Neighbour,
    /// Anything else.
    Other,
}

impl Seen {
    /// All of them, each at its own number.
    pub const ALL: [Seen; 9] = [
        Seen::SynAck,
        Seen::Reset,
        Seen::Tcp,
        Seen::Udp,
        Seen::EchoReply,
        Seen::EchoRequest,
        Seen::Unreachable,
        Seen::Neighbour,
        Seen::Other,
    ];

    /// For reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Seen::Neighbour => "neighbour",
            Seen::SynAck => "syn_ack",
            Seen::Reset => "rst",
            Seen::Tcp => "tcp",
            Seen::Udp => "udp",
            Seen::EchoRequest => "echo_request",
            Seen::EchoReply => "echo_reply",
            Seen::Unreachable => "unreachable",
            Seen::Other => "other",
        }
    }
}

/// Looks at a frame; nothing in it is believed beyond its end.
pub fn look(f: &[u8]) -> (Seen, Range<usize>) {
    look_at(f).unwrap_or((Seen::Other, 0..0))
}

fn look_at(f: &[u8]) -> Option<(Seen, Range<usize>)> {
    let be16 = |at: usize| Some(u16::from_be_bytes([*f.get(at)?, *f.get(at + 1)?]));
    let (mut kind, mut l3) = (be16(12)?, 14);
    if kind == 0x8100 {
        (kind, l3) = (be16(16)?, 18);
    }
    let (protocol, l4, end) = match kind {
        0x0806 => return Some((Seen::Neighbour, 0..0)),
        0x0800 => {
            // A fragment has no header to look at.
            if be16(l3 + 6)? & 0x3fff != 0 {
                return None;
            }
            (*f.get(l3 + 9)?, l3 + usize::from(*f.get(l3)? & 15) * 4, l3 + usize::from(be16(l3 + 2)?))
        }
        0x86dd => (*f.get(l3 + 6)?, l3 + 40, l3 + 40 + usize::from(be16(l3 + 4)?)),
        _ => return None,
    };
    let end = end.min(f.len());
    let payload = |header: usize| if l4 + header <= end { l4 + header..end } else { 0..0 };
    let at = *f.get(l4)?;
    Some(match (protocol, at) {
        (6, _) => {
            let flags = *f.get(l4 + 13)?;
            let seen = match flags {
                x if x & flag::RST != 0 => Seen::Reset,
                x if x & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK => Seen::SynAck,
                _ => Seen::Tcp,
            };
            (seen, payload(usize::from(*f.get(l4 + 12)? >> 4) * 4))
        }
        (17, _) => (Seen::Udp, payload(8)),
        (1, 8) | (58, 128) => (Seen::EchoRequest, payload(8)),
        (1, 0) | (58, 129) => (Seen::EchoReply, payload(8)),
        (58, 133..=137) => (Seen::Neighbour, 0..0),
        (1, 3 | 11 | 12) | (58, 1..=4) => (Seen::Unreachable, payload(8)),
        _ => (Seen::Other, 0..0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, l4: &[u8]) -> Vec<u8> {
        let mut f = vec![0; 12];
        f.extend([8, 0, 0x45, 0, 0, (20 + l4.len()) as u8, 0, 0, 0, 0, 64, protocol, 0, 0]);
        f.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        f.extend(l4);
        f
    }

    #[test]
    fn each_is_at_its_number() {
        assert!(Seen::ALL.iter().enumerate().all(|(i, s)| *s as usize == i));
    }

    #[test]
    fn frames_are_told_apart() {
        let tcp = |flags| {
            let mut l4 = [0; 20];
            (l4[12], l4[13]) = (0x50, flags);
            look(&ipv4(6, &l4)).0
        };
        assert_eq!(tcp(flag::SYN | flag::ACK), Seen::SynAck);
        assert_eq!(tcp(flag::RST | flag::ACK), Seen::Reset);
        assert_eq!(tcp(flag::ACK), Seen::Tcp);
        let udp = ipv4(17, b"12345678payload");
        let (seen, at) = look(&udp);
        assert_eq!((seen, &udp[at]), (Seen::Udp, &b"payload"[..]));
        assert_eq!(look(&ipv4(1, &[0; 8])).0, Seen::EchoReply);
        assert_eq!(look(&ipv4(1, &[3; 8])).0, Seen::Unreachable);
        let mut tagged = udp.clone();
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        assert_eq!(look(&tagged).0, Seen::Udp);
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let whole = ipv4(6, &[0x50; 20]);
        for n in 0..whole.len() {
            let (_, at) = look(&whole[..n]);
            assert!(at.end <= n);
        }
    }
}
