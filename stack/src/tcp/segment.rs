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

/// The options of a SYN that we understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale (at most 14: RFC 7323 2.3).
    pub window_scale: Option<u8>,
}

impl SynOptions {
    /// Reads a SYN's options. What is malformed ends the list (RFC 9293 3.1, MUST-7: be ready for it).
    pub fn read(p: &Packet) -> SynOptions {
        let m = p.meta();
        let mut o = &p.head()[m.l4 as usize + 20..m.payload as usize];
        let mut found = SynOptions::default();
        loop {
            match *o {
                [] | [0, ..] => break,
                [1, ref rest @ ..] => o = rest,
                [kind, len, ..] if len >= 2 && usize::from(len) <= o.len() => {
                    match (kind, &o[2..usize::from(len)]) {
                        (2, &[a, b]) => found.mss = Some(u16::from_be_bytes([a, b])),
                        (3, &[s]) => found.window_scale = Some(s.min(14)),
                        _ => {}
                    }
                    o = &o[usize::from(len)..];
                }
                _ => break,
            }
        }
        found
    }

    /// Writes the options in Linux's order (mss, nop, wscale), padded to 4 bytes; gives the length.
    pub fn write(&self, out: &mut [u8; 12]) -> usize {
        let mut n = 0;
        if let Some(mss) = self.mss {
            out[..4].copy_from_slice(&[2, 4, (mss >> 8) as u8, mss as u8]);
            n = 4;
        }
        if let Some(s) = self.window_scale {
            out[n..n + 4].copy_from_slice(&[1, 3, 3, s]);
            n += 4;
        }
        n
    }
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

    fn with_options(o: &[u8]) -> Packet {
        let pool = Pool::reserve("t", 2, 512, PagePolicy::NormalOnly).unwrap();
        let mut p = pool.alloc().unwrap();
        p.append(&[0; 20]);
        p.append(o);
        p.meta_mut().payload = 20 + o.len() as u16;
        p
    }

    #[test]
    fn options_round_trip_and_malformed_ones_end_the_list() {
        let o = SynOptions { mss: Some(1460), window_scale: Some(7) };
        let mut out = [0; 12];
        let n = o.write(&mut out);
        assert_eq!(out[..n], [2, 4, 5, 0xb4, 1, 3, 3, 7]);
        assert_eq!(SynOptions::read(&with_options(&out[..n])), o);
        let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 200];
        assert_eq!(SynOptions::read(&with_options(&linux)).window_scale, Some(14));
        for bad in [&[2u8, 0, 5, 1][..], &[2, 4, 5], &[3], &[9, 1], &[2, 255, 0, 0], &[0, 2, 4, 5, 0xb4]] {
            assert_eq!(SynOptions::read(&with_options(bad)), SynOptions::default(), "{bad:?}");
        }
    }
}
