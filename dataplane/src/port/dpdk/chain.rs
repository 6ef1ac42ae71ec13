//! A frame that is made of mbufs, and what its device is asked to do with it.
#![allow(unsafe_code)]

use dpdk_sys as sys;

// The bindings give each the smallest type that holds it.
const TX_TCP_CHECKSUM: u64 = sys::RTE_MBUF_F_TX_TCP_CKSUM;
const TX_IPV4: u64 = sys::RTE_MBUF_F_TX_IPV4;
const TX_IPV6: u64 = sys::RTE_MBUF_F_TX_IPV6;
/// Lengths of the headers in an mbuf's `tx_offload`: L2 first, in 7 bits, then L3, in 9, then L4.
const L3_SHIFT: u32 = 7;
const L4_SHIFT: u32 = 16;

/// A frame that grows.
pub(super) struct Chain {
    pub(super) first: *mut sys::rte_mbuf,
    last: *mut sys::rte_mbuf,
}

impl Chain {
    /// Of one mbuf, which must be ours, and whole.
    pub(super) fn new(first: *mut sys::rte_mbuf) -> Chain {
        Chain { first, last: first }
    }

    /// Copies `bytes` behind the last mbuf's, if they fit there and the buffer is its own.
    pub(super) fn append(&mut self, bytes: &[u8]) -> bool {
        // SAFETY: ours; two references to one mbuf are not there at once.
        unsafe {
            let last = &mut *self.last;
            let end = usize::from(last.data_off) + usize::from(last.data_len);
            let room = usize::from(last.buf_len).saturating_sub(end);
            if bytes.len() > room || last.ol_flags & sys::RTE_MBUF_F_EXTERNAL != 0 {
                return false;
            }
            // Within its buffer, which nobody else reads or writes.
            let to = last.buf_addr.cast::<u8>().add(end);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            last.data_len += bytes.len() as u16;
            (*self.first).pkt_len += bytes.len() as u32;
        }
        true
    }

    /// Puts an mbuf at the end, which must be ours, and whole.
    pub(super) fn link(&mut self, mbuf: *mut sys::rte_mbuf) {
        // SAFETY: ours; never the same one.
        unsafe {
            (*self.last).next = mbuf;
            let first = &mut *self.first;
            first.nb_segs += 1;
            first.pkt_len += u32::from((*mbuf).data_len);
        }
        self.last = mbuf;
    }
}

/// Asks the device to fill in the checksum of a TCP segment with this head, which our stack wrote.
pub(super) fn ask_for_checksum(frame: *mut sys::rte_mbuf, head: &[u8]) {
    let tagged = head[12..14] == [0x81, 0];
    let l2: u64 = if tagged { 18 } else { 14 };
    let v4 = head[l2 as usize] >> 4 == 4;
    let (l3, family): (u64, u64) = if v4 { (20, TX_IPV4) } else { (40, TX_IPV6) };
    // SAFETY: ours.
    unsafe {
        let m = &mut *frame;
        m.ol_flags |= TX_TCP_CHECKSUM | family;
        m.__bindgen_anon_3.tx_offload = l2 | l3 << L3_SHIFT | 20 << L4_SHIFT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_where_the_headers_are() {
        let tcp = [0; 20];
        for (ethertype, version, l3, family) in [(0x0800_u16, 0x45, 20, TX_IPV4), (0x86dd, 0x60, 40, TX_IPV6)]
        {
            for tag in [&[][..], &[0x81, 0, 0, 7]] {
                let mut ip = vec![0; l3];
                ip[0] = version;
                let head = [&[2; 12][..], tag, &ethertype.to_be_bytes(), &ip, &tcp].concat();
                let mut mbuf = sys::rte_mbuf::default();
                ask_for_checksum(&raw mut mbuf, &head);
                assert_eq!(mbuf.ol_flags, TX_TCP_CHECKSUM | family);
                // SAFETY: a member of a union of numbers.
                let told = unsafe { mbuf.__bindgen_anon_3.__bindgen_anon_1 };
                let expected = (14 + tag.len() as u64, l3 as u64, 20, 0);
                assert_eq!((told.l2_len(), told.l3_len(), told.l4_len(), told.tso_segsz()), expected);
            }
        }
    }
}
