//! TCP segments on the wire (RFC 9293 3.1): reading a received one, writing one to send.

use dataplane::Packet;
use dataplane::Slice;
use dataplane::buf::RxFlags;

use super::seq::Seq;
use crate::addr::Addr;
use crate::checksum::Sum;
use crate::parse::protocol;

/// Control bits.
pub mod bits {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 16;
    /// The urgent pointer is significant. What it points at is delivered like all other data, in its place in the stream
    /// (SO_OOBINLINE elsewhere): no owner of ours gives it a meaning, and RFC 6093 asks new ones not to.
    pub const URG: u8 = 32;
    /// Congestion was met on the way (RFC 3168).
    pub const ECE: u8 = 64;
    /// The congestion window has been reduced for it.
    pub const CWR: u8 = 128;
}

/// What a received segment says, options aside.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK.
    pub ack: Seq,
    /// Control bits.
    pub bits: u8,
    /// The window field, not scaled.
    pub window: u16,
    /// Bytes of payload.
    pub len: u32,
}

impl Segment {
    /// Reads a segment that `parse` has found to be sound.
    #[inline]
    pub fn read(p: &Packet) -> Segment {
        let m = p.meta();
        let t = &p.head()[m.l4 as usize..m.l4 as usize + 20];
        Segment {
            seq: Seq(u32::from_be_bytes([t[4], t[5], t[6], t[7]])),
            ack: Seq(u32::from_be_bytes([t[8], t[9], t[10], t[11]])),
            bits: t[13],
            window: u16::from_be_bytes([t[14], t[15]]),
            len: u32::from(m.payload_len),
        }
    }

    /// Whether a control bit is set.
    #[inline]
    pub const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// SEG.LEN: payload, SYN and FIN.
    #[inline]
    pub const fn seq_len(&self) -> u32 {
        self.len + ((self.bits & bits::SYN) >> 1) as u32 + (self.bits & bits::FIN) as u32
    }
}

/// Ports of a received segment: source, destination.
#[inline]
pub fn ports(p: &Packet) -> (u16, u16) {
    let l4 = p.meta().l4 as usize;
    let t = &p.head()[l4..l4 + 4];
    (u16::from_be_bytes([t[0], t[1]]), u16::from_be_bytes([t[2], t[3]]))
}

/// The header of a segment to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Our port.
    pub src_port: u16,
    /// The peer's.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK.
    pub ack: Seq,
    /// Control bits.
    pub bits: u8,
    /// The window field, scaled down already.
    pub window: u16,
}

/// Writes header, options and the checksum: over head and tail, or, for a port that fills it in, of the pseudo-header. `tail`
/// is attached by the caller.
#[inline]
pub fn write(p: &mut Packet, h: &Header, options: &[u8], src: &Addr, dst: &Addr, with_checksum: bool) {
    let mut t = [0u8; 20];
    t[0..2].copy_from_slice(&h.src_port.to_be_bytes());
    t[2..4].copy_from_slice(&h.dst_port.to_be_bytes());
    t[4..8].copy_from_slice(&h.seq.0.to_be_bytes());
    t[8..12].copy_from_slice(&h.ack.0.to_be_bytes());
    t[12] = (((20 + options.len()) / 4) << 4) as u8;
    t[13] = h.bits;
    t[14..16].copy_from_slice(&h.window.to_be_bytes());
    let payload: usize = p.tail().iter().map(|s: &Slice| s.len()).sum();
    let mut s = Sum::default();
    s.add_pseudo(src.wire(), dst.wire(), protocol::TCP, 20 + options.len() + payload);
    if !with_checksum {
        // Where a device goes on from.
        t[16..18].copy_from_slice(&(!s.finish()).to_be_bytes());
        p.meta_mut().flags.set(RxFlags::L4_CHECKSUM_BLANK);
    } else {
        s.add(&t);
        s.add(options);
        for piece in p.tail() {
            s.add(piece);
        }
        t[16..18].copy_from_slice(&s.finish().to_be_bytes());
    }
    p.append(&t);
    p.append(options);
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::Pool;
    use hugepages::PagePolicy;

    /// As a device does it: the sum from the header on, which goes on from what is in the field.
    #[test]
    fn a_blank_checksum_is_where_a_device_goes_on_from() {
        let pool = Pool::reserve("t", 4, 512, PagePolicy::NormalOnly).unwrap();
        let h = Header { src_port: 80, dst_port: 9, seq: Seq(7), ack: Seq(8), bits: bits::ACK, window: 9 };
        let ips: [std::net::IpAddr; 4] =
            ["192.0.2.1", "198.51.100.7", "2001:db8::1", "2001:db8::2"].map(|ip| ip.parse().unwrap());
        for (src, dst) in [(ips[0], ips[1]), (ips[2], ips[3])] {
            let segment = |with_checksum| {
                let mut payload = pool.alloc().unwrap();
                assert!(payload.append(b"an odd number"));
                let mut p = pool.alloc().unwrap();
                assert!(p.attach(payload.into_slice(0, 13)).is_ok());
                write(&mut p, &h, &[1, 1, 1, 0], &src.into(), &dst.into(), with_checksum);
                p
            };
            let (ours, blank) = (segment(true), segment(false));
            assert!(!ours.meta().flags.has(RxFlags::L4_CHECKSUM_BLANK));
            assert!(blank.meta().flags.has(RxFlags::L4_CHECKSUM_BLANK));
            let mut s = Sum::default();
            s.add(blank.head());
            s.add(&blank.tail()[0]);
            assert_eq!(s.finish().to_be_bytes(), ours.head()[16..18]);
        }
    }
}
