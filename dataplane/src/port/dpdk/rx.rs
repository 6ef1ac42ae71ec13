//! Receiving: mbufs become packets as they are.
//!
//! An mbuf that is not of the port's own mempool (what another port sent into a `net_ring`), or that is a chain, is copied
//! into a cell. What cannot be had goes back to where it is from, counted.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::mbufs::{MbufSource, free, is_whole, place_of, prefetch_header};
use crate::buf::{Meta, RxFlags};
use crate::port::{BURST_MAX, Burst, PortStats};
use crate::{Packet, Pool, Time};

/// Free cells that the pool may list before the mempool, and so the device, gets some.
const LISTED_MAX: u32 = 512;
/// So many mbufs ahead are asked for.
const AHEAD: usize = 4;

// Marks of received frames. The bindings give each the smallest type that holds it.
pub(super) const HASH: u64 = sys::RTE_MBUF_F_RX_RSS_HASH as u64;
pub(super) const L3_MASK: u64 = sys::RTE_MBUF_F_RX_IP_CKSUM_MASK as u64;
pub(super) const L4_MASK: u64 = sys::RTE_MBUF_F_RX_L4_CKSUM_MASK as u64;
const L3_GOOD: u64 = sys::RTE_MBUF_F_RX_IP_CKSUM_GOOD as u64;
const L4_GOOD: u64 = sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD as u64;

/// A queue of a device to receive from.
pub(super) struct Rx {
    port: u16,
    queue: u16,
    pool: Pool,
    /// The pool's; without one all is copied.
    mempool: Option<NonNull<sys::rte_mempool>>,
    /// The port's number on its core.
    number: u8,
    /// Ethernet header, tag and the largest packet.
    frame_bytes: u32,
    /// Marks of the device that it was asked to make, and thus mean something.
    marks: u64,
}

impl Rx {
    pub(super) fn new(port: u16, queue: u16, pool: Pool, number: u8, frame_bytes: usize, marks: u64) -> Rx {
        let mempool = pool.source::<MbufSource>().map(MbufSource::mempool);
        Rx { port, queue, pool, mempool, number, frame_bytes: frame_bytes as u32, marks }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Receives up to the room in `out`. Gives how many frames the device had.
    #[inline]
    pub(super) fn burst(&mut self, out: &mut Burst, stats: &mut PortStats, now: Time) -> usize {
        let mut mbufs = [std::ptr::null_mut(); BURST_MAX];
        let max = out.remaining_capacity() as u16;
        // SAFETY: one thread polls the queue: a port stays on its core; room for `max` pointers.
        let n = unsafe { sys::eth_rx_burst(self.port, self.queue, mbufs.as_mut_ptr(), max) };
        let mbufs = &mut mbufs[..usize::from(n)];
        let mut back: ArrayVec<_, BURST_MAX> = ArrayVec::new();
        for i in 0..mbufs.len() {
            if let Some(next) = mbufs.get(i + AHEAD) {
                prefetch_header(*next);
            }
            // SAFETY: the driver gave it to us, and it is ours alone.
            let m = unsafe { &*mbufs[i] };
            stats.rx_packets += 1;
            stats.rx_bytes += u64::from(m.pkt_len);
            let (packet, adopted) = self.packet(mbufs[i], m, stats);
            if !adopted {
                back.push(mbufs[i]);
            }
            let Some(mut p) = packet else { continue };
            let meta = p.meta_mut();
            meta.arrival = now;
            meta.port = self.number;
            let marks = m.ol_flags & self.marks;
            if marks != 0 {
                read_marks(m, marks, meta);
            }
            out.push(p);
        }
        free(&mut back);
        self.pool.trim(LISTED_MAX);
        mbufs.len()
    }

    /// The frame of `mbuf`, which `m` is, as a packet, and whether the mbuf is its cell now; it is still ours otherwise.
    #[inline]
    fn packet(
        &mut self,
        mbuf: *mut sys::rte_mbuf,
        m: &sys::rte_mbuf,
        stats: &mut PortStats,
    ) -> (Option<Packet>, bool) {
        if m.pkt_len > self.frame_bytes {
            stats.rx_too_long += 1;
            return (None, false);
        }
        if NonNull::new(m.pool) != self.mempool || !is_whole(m) {
            return (self.copy(m, stats), false);
        }
        if u32::from(m.data_off) + u32::from(m.data_len) > u32::from(m.buf_len) {
            // A driver's mistake.
            stats.rx_too_long += 1;
            return (None, false);
        }
        // SAFETY: an mbuf of the pool's mempool, the driver gave it to us and nobody else has it; the frame is within its
        // buffer.
        let packet = unsafe { self.pool.adopt(place_of(mbuf), m.data_off.into(), m.data_len.into()) };
        if packet.is_none() {
            stats.rx_no_buffer += 1;
        }
        let adopted = packet.is_some();
        (packet, adopted)
    }

    #[cold]
    fn copy(&mut self, m: &sys::rte_mbuf, stats: &mut PortStats) -> Option<Packet> {
        let Some(mut p) = self.pool.alloc() else {
            stats.rx_no_buffer += 1;
            return None;
        };
        stats.rx_copied += 1;
        let mut part = m;
        loop {
            let whole = usize::from(part.data_off) + usize::from(part.data_len) <= usize::from(part.buf_len);
            // SAFETY: within its buffer, and nobody writes to it: the frame is ours, and what it shares is payload that
            // was sent, which stays as it is.
            if !(whole && p.append(unsafe { bytes_of(part) })) {
                stats.rx_too_long += 1;
                return None;
            }
            // SAFETY: a link in a chain is null or an mbuf that came with the first.
            match unsafe { part.next.as_ref() } {
                Some(next) => part = next,
                None => return Some(p),
            }
        }
    }

    /// Gives back what the device still has for us; for a port that is closed. Gives the number.
    pub(super) fn discard(&mut self) -> usize {
        let mut mbufs = [std::ptr::null_mut(); BURST_MAX];
        // SAFETY: as in `burst`.
        let n = unsafe { sys::eth_rx_burst(self.port, self.queue, mbufs.as_mut_ptr(), BURST_MAX as u16) };
        free(&mut mbufs[..usize::from(n)]);
        n.into()
    }
}

/// # Safety
/// The mbuf's bounds are within its buffer, and nobody writes to it meanwhile.
unsafe fn bytes_of(m: &sys::rte_mbuf) -> &[u8] {
    // SAFETY: as the caller says.
    unsafe {
        let at = m.buf_addr.cast::<u8>().add(m.data_off.into());
        std::slice::from_raw_parts(at, m.data_len.into())
    }
}

/// What the device says of a frame.
fn read_marks(m: &sys::rte_mbuf, marks: u64, meta: &mut Meta) {
    if marks & HASH != 0 {
        // SAFETY: the mark says which member it is.
        meta.rss_hash = unsafe { m.__bindgen_anon_2.hash.rss };
    }
    if marks & L3_MASK == L3_GOOD {
        meta.flags.set(RxFlags::L3_CHECKSUM_OK);
    }
    if marks & L4_MASK == L4_GOOD {
        meta.flags.set(RxFlags::L4_CHECKSUM_OK);
    }
}
