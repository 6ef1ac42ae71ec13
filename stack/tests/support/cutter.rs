//! A port that cuts frames for segmentation, and fills in checksums, as the kernel behind a TAP and a NIC do.

use std::collections::VecDeque;

use dataplane::buf::RxFlags;
use dataplane::port::mem::MemPort;
use dataplane::port::{LinkFacts, PortStats};
use dataplane::{Burst, Pool, Port, Time, TxQueue};
use stack::{Sum, checksum};

/// The longest frame that it takes.
pub const TSO_BYTES_MAX: u32 = 65_535;
const ETHERNET: usize = 14;
const FIN_PSH: u8 = 9;
const CWR: u8 = 0x80;

pub struct Cutter {
    inner: MemPort,
    facts: LinkFacts,
    /// Cut, and not yet on the wire.
    pending: VecDeque<Vec<u8>>,
    taken: u64,
    bytes: u64,
}

impl Cutter {
    pub fn new(inner: MemPort) -> Cutter {
        let facts =
            LinkFacts { tx_checksum_offload: true, tso_bytes_max: TSO_BYTES_MAX, ..inner.facts().clone() };
        Cutter { inner, facts, pending: VecDeque::new(), taken: 0, bytes: 0 }
    }

    fn flush(&mut self) {
        let (n, pending) = (self.pending.len(), &mut self.pending);
        self.inner.tx_fill(n, 1514, &mut |room| {
            let frame = pending.pop_front()?;
            room[..frame.len()].copy_from_slice(&frame);
            Some(frame.len())
        });
    }
}

/// Cuts a frame into segments of `mss` bytes, each with the headers that it needs.
pub fn cut(frame: &[u8], mss: usize, out: &mut VecDeque<Vec<u8>>) {
    let is_v6 = frame[ETHERNET] >> 4 == 6;
    let l4 = ETHERNET + if is_v6 { 40 } else { 20 };
    let headers = l4 + usize::from(frame[l4 + 12] >> 4) * 4;
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let l3_len = if is_v6 { usize::from(word(ETHERNET + 4)) + 40 } else { usize::from(word(ETHERNET + 2)) };
    assert_eq!(frame.len(), ETHERNET + l3_len, "the IP packet's length is the frame's");
    assert!(is_v6 || checksum(&frame[ETHERNET..l4]) == 0, "the IPv4 header's checksum");
    let pseudo = |len: usize| {
        let mut s = Sum::default();
        let (src, dst) = if is_v6 { (22..38, 38..54) } else { (26..30, 30..34) };
        s.add_pseudo(&frame[src], &frame[dst], 6, len);
        s
    };
    assert_eq!(word(l4 + 16), !pseudo(frame.len() - l4).finish(), "the pseudo-header's sum");
    let mut pieces: Vec<&[u8]> = frame[headers..].chunks(mss).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    assert_eq!(frame[l4 + 13] & CWR, 0, "this port cannot cut one with CWR");
    for (i, piece) in pieces.iter().enumerate() {
        let mut f = [&frame[..headers], piece].concat();
        let seq =
            u32::from_be_bytes(frame[l4 + 4..l4 + 8].try_into().unwrap()).wrapping_add((i * mss) as u32);
        f[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        if i + 1 < pieces.len() {
            f[l4 + 13] &= !FIN_PSH;
        }
        let len = f.len() - ETHERNET;
        if is_v6 {
            f[18..20].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        } else {
            f[16..18].copy_from_slice(&(len as u16).to_be_bytes());
            f[24..26].copy_from_slice(&[0, 0]);
            let sum = checksum(&f[ETHERNET..l4]);
            f[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        f[l4 + 16..l4 + 18].copy_from_slice(&[0, 0]);
        let mut s = pseudo(f.len() - l4);
        s.add(&f[l4..]);
        f[l4 + 16..l4 + 18].copy_from_slice(&s.finish().to_be_bytes());
        out.push_back(f);
    }
}

impl Port for Cutter {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        self.flush();
        self.inner.rx_burst(out, now)
    }

    fn tx_burst(&mut self, queue: &mut TxQueue, _now: Time) -> usize {
        let mut n = 0;
        while self.pending.is_empty() {
            let Some(p) = queue.pop() else { break };
            let mut frame = vec![0; p.total_len()];
            assert_eq!(p.copy_to(&mut frame), Some(frame.len()));
            let (mss, blank) =
                (usize::from(p.meta().tso_mss), p.meta().flags.has(RxFlags::L4_CHECKSUM_BLANK));
            assert!(frame.len() <= TSO_BYTES_MAX as usize && (mss == 0 || blank));
            self.taken += 1;
            self.bytes += frame.len() as u64;
            match (mss, blank) {
                (0, false) => self.pending.push_back(frame),
                (0, true) => cut(&frame, 1460, &mut self.pending),
                _ => {
                    cut(&frame, mss, &mut self.pending);
                    assert!(self.pending.len() > 1, "one segment needs no cutting");
                }
            }
            n += 1;
            self.flush();
        }
        n
    }

    fn facts(&self) -> &LinkFacts {
        &self.facts
    }

    fn stats(&self) -> PortStats {
        PortStats { tx_packets: self.taken, tx_bytes: self.bytes, ..self.inner.stats() }
    }

    fn rx_pool(&self) -> &Pool {
        self.inner.rx_pool()
    }
}
