//! Frames of the storm, written in place.
//!
//! The byte at sequence number `n` is `n as u8`, in both directions and whoever sends it. So whatever is delivered, in
//! whatever pieces, can be told to be right or wrong where it stands, and no two segments contradict each other.

use arrayvec::ArrayVec;
use dataplane::Packet;
use dataplane::buf::RxFlags;

use crate::addr::Addr;
use crate::checksum::{Sum, checksum};
use crate::harness::{OUR_MAC, PEER_MAC};
use crate::parse::protocol;

/// The longest payload that is made.
pub const PAYLOAD_MAX: usize = 1460;

/// `RAMP[n] == n as u8`: a payload from any sequence number on is a part of it.
pub static RAMP: [u8; 256 + 2048] = {
    let mut r = [0; 256 + 2048];
    let mut i = 0;
    while i < r.len() {
        r[i] = i as u8;
        i += 1;
    }
    r
};

/// The payload of `len` bytes at `seq`, at most 2048.
pub fn ramp(seq: u32, len: usize) -> &'static [u8] {
    let at = (seq & 0xff) as usize;
    &RAMP[at..at + len]
}

/// Whether bytes are those that belong at `seq`.
pub fn is_ramp(mut seq: u32, bytes: &[u8]) -> bool {
    bytes.chunks(2048).all(|c| {
        let right = c == ramp(seq, c.len());
        seq = seq.wrapping_add(c.len() as u32);
        right
    })
}

/// Who sends to whom: from the peer to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub peer: Addr,
    pub us: Addr,
    pub peer_port: u16,
    pub our_port: u16,
}

/// A segment to be made.
#[derive(Clone, Debug, Default)]
pub struct Seg {
    pub seq: u32,
    pub ack: u32,
    pub bits: u8,
    pub window: u16,
    pub len: usize,
    pub tos: u8,
    pub options: ArrayVec<u8, 40>,
}

impl Seg {
    /// Adds an option, with what brings its length to a multiple of four in front. What does not fit is left out.
    pub fn option(&mut self, bytes: &[u8]) {
        let pad = bytes.len().wrapping_neg() % 4;
        if self.options.len() + pad + bytes.len() <= self.options.capacity() {
            self.options.extend(std::iter::repeat_n(1, pad));
            let _ = self.options.try_extend_from_slice(bytes);
        }
    }

    /// Adds timestamps.
    pub fn timestamps(&mut self, val: u32, ecr: u32) {
        let (v, e) = (val.to_be_bytes(), ecr.to_be_bytes());
        self.option(&[8, 10, v[0], v[1], v[2], v[3], e[0], e[1], e[2], e[3]]);
    }

    /// Adds SACK blocks.
    pub fn sack(&mut self, blocks: &[(u32, u32)]) {
        let mut o = ArrayVec::<u8, 40>::new();
        o.extend([5, 2 + 8 * blocks.len() as u8]);
        for (from, to) in blocks {
            o.extend(from.to_be_bytes());
            o.extend(to.to_be_bytes());
        }
        self.option(&o);
    }
}

/// Writes a frame into an empty cell. `verified`: its checksums are left out, as if the device had looked at them.
pub fn write(p: &mut Packet, e: &Ends, s: &Seg, verified: bool) {
    let v4 = e.us.is_v4();
    let l4 = if v4 { 34 } else { 54 };
    let header = 20 + s.options.len();
    let (body, end) = (l4 + header, l4 + header + s.len);
    let f = &mut p.room_mut()[..end];
    f[..6].copy_from_slice(&OUR_MAC);
    f[6..12].copy_from_slice(&PEER_MAC);
    if v4 {
        f[12..26].copy_from_slice(&[8, 0, 0x45, s.tos, 0, 0, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
        f[16..18].copy_from_slice(&((end - 14) as u16).to_be_bytes());
        f[26..30].copy_from_slice(e.peer.wire());
        f[30..34].copy_from_slice(e.us.wire());
    } else {
        f[12..22].copy_from_slice(&[0x86, 0xdd, 0x60, s.tos << 4, 0, 0, 0, 0, protocol::TCP, 64]);
        f[18..20].copy_from_slice(&((end - l4) as u16).to_be_bytes());
        f[22..38].copy_from_slice(e.peer.wire());
        f[38..54].copy_from_slice(e.us.wire());
    }
    let t = &mut f[l4..];
    t[..2].copy_from_slice(&e.peer_port.to_be_bytes());
    t[2..4].copy_from_slice(&e.our_port.to_be_bytes());
    t[4..8].copy_from_slice(&s.seq.to_be_bytes());
    t[8..12].copy_from_slice(&s.ack.to_be_bytes());
    t[12..14].copy_from_slice(&[((header / 4) << 4) as u8, s.bits]);
    t[14..16].copy_from_slice(&s.window.to_be_bytes());
    t[16..20].fill(0);
    t[20..header].copy_from_slice(&s.options);
    // Behind a SYN's own number.
    let first = s.seq.wrapping_add(u32::from(s.bits >> 1 & 1));
    f[body..].copy_from_slice(ramp(first, s.len));
    if !verified {
        if v4 {
            let c = checksum(&f[14..34]);
            f[24..26].copy_from_slice(&c.to_be_bytes());
        }
        let mut sum = Sum::default();
        sum.add_pseudo(e.peer.wire(), e.us.wire(), protocol::TCP, end - l4);
        sum.add(&f[l4..]);
        let c = sum.finish();
        f[l4 + 16..l4 + 18].copy_from_slice(&c.to_be_bytes());
    }
    p.set_len(end);
    if verified {
        p.meta_mut().flags.set(RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK);
    }
}
