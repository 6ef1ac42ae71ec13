//! The header that stands before each frame where the kernel takes part in checksums and segmentation (IFF_VNET_HDR): the
//! `virtio_net_hdr` of linux/virtio_net.h, in the machine's own byte order.
//!
//! ```text
//!  0 flags   1 gso_type   2 hdr_len   4 gso_size   6 csum_start   8 csum_offset   10
//! ```

use crate::Packet;
use crate::buf::RxFlags;

/// Its bytes.
pub(super) const BYTES: usize = 10;

/// The checksum is to be filled in from `csum_start` on, or was left out because nobody was to look at it.
const NEEDS_CSUM: u8 = 1;
/// The checksum was verified.
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Where the checksum stands in a TCP header.
const TCP_CHECKSUM: u16 = 16;
const VLAN: [u8; 2] = [0x81, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Of a frame to be sent: all zeroes for one that is finished.
#[inline]
pub(super) fn of(p: &Packet) -> [u8; BYTES] {
    let mut h = [0; BYTES];
    let (meta, head) = (p.meta(), p.head());
    if !meta.flags.has(RxFlags::L4_CHECKSUM_BLANK) {
        debug_assert!(meta.tso_mss == 0, "each segment needs a checksum of its own");
        return h;
    }
    // What leaves checksums blank is our own TCP: IP headers without options or extensions.
    let at = if head.get(12..14) == Some(&VLAN) { 16 } else { 12 };
    let is_v6 = head.get(at..at + 2) == Some(&IPV6);
    let l4 = at as u16 + 2 + if is_v6 { 40 } else { 20 };
    h[0] = NEEDS_CSUM;
    if meta.tso_mss > 0 {
        h[1] = if is_v6 { GSO_TCPV6 } else { GSO_TCPV4 };
        h[2..4].copy_from_slice(&(head.len() as u16).to_ne_bytes());
        h[4..6].copy_from_slice(&meta.tso_mss.to_ne_bytes());
    }
    h[6..8].copy_from_slice(&l4.to_ne_bytes());
    h[8..10].copy_from_slice(&TCP_CHECKSUM.to_ne_bytes());
    h
}

/// Whether the L4 checksum of a received frame needs no look: it was verified, or the frame never left this host.
#[inline]
pub(super) fn is_verified(h: &[u8; BYTES]) -> bool {
    h[0] & (NEEDS_CSUM | DATA_VALID) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;
    use hugepages::PagePolicy;

    fn frame(pool: &Pool, start: &[&[u8]], len: usize, blank: bool, tso_mss: u16) -> Packet {
        let mut p = pool.alloc().expect("a cell");
        let start = start.concat();
        assert!(p.append(&[0; 12]) && p.append(&start) && p.append(&vec![0; len - 12 - start.len()]));
        if blank {
            p.meta_mut().flags.set(RxFlags::L4_CHECKSUM_BLANK);
        }
        p.meta_mut().tso_mss = tso_mss;
        p
    }

    fn fields(h: [u8; BYTES]) -> (u8, u8, [u16; 4]) {
        (h[0], h[1], std::array::from_fn(|i| u16::from_ne_bytes([h[2 + 2 * i], h[3 + 2 * i]])))
    }

    #[test]
    fn it_says_where_the_checksum_goes_and_how_to_cut() {
        let pool = Pool::reserve("t", 1, 512, PagePolicy::NormalOnly).expect("memory");
        let (v4, v6, tag): (&[u8], &[u8], &[u8]) = (&[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 5]);
        for (start, len, blank, mss, want) in [
            (vec![v4], 66, false, 0, (0, 0, [0; 4])),
            (vec![v4], 66, true, 0, (NEEDS_CSUM, 0, [0, 0, 34, 16])),
            (vec![v4], 66, true, 1448, (NEEDS_CSUM, GSO_TCPV4, [66, 1448, 34, 16])),
            (vec![v6], 86, true, 1428, (NEEDS_CSUM, GSO_TCPV6, [86, 1428, 54, 16])),
            (vec![tag, v4], 70, true, 1448, (NEEDS_CSUM, GSO_TCPV4, [70, 1448, 38, 16])),
            (vec![tag, v6], 90, true, 0, (NEEDS_CSUM, 0, [0, 0, 58, 16])),
        ] {
            assert_eq!(fields(of(&frame(&pool, &start, len, blank, mss))), want, "{start:?}");
        }
    }

    #[test]
    fn what_never_left_the_host_and_what_was_verified_needs_no_look() {
        let flags = |f| std::array::from_fn(|i| if i == 0 { f } else { 0 });
        assert!(!is_verified(&flags(0)));
        assert!(is_verified(&flags(NEEDS_CSUM)) && is_verified(&flags(DATA_VALID)));
    }
}
