//! Frames that are written straight into mbufs, for who makes frames that nobody keeps: no packet, no cell, no queue.
#![allow(unsafe_code)]

use dpdk_sys as sys;

use super::{HEADROOM, Mbuf, Tx};
use crate::port::{BURST_MAX, Fill, PortStats};

impl Tx {
    /// As [`crate::Port::tx_fill`]. What the driver does not take stays, and is offered first the next time.
    #[inline]
    pub(in super::super) fn fill(
        &mut self,
        most: usize,
        bytes: usize,
        fill: Fill,
        stats: &mut PortStats,
    ) -> Option<usize> {
        if bytes > self.room.min(self.frame_bytes) {
            return None;
        }
        let before = self.held.len();
        while self.held.len() < most.min(BURST_MAX) {
            let Some(&mbuf) = self.spare.last() else {
                if self.fill_spare() {
                    continue;
                }
                break;
            };
            let Some(len) = fill(buffer(mbuf)) else { break };
            self.held_bytes += set_len(mbuf, len);
            self.held.push(mbuf.as_ptr());
            self.spare.pop();
        }
        let (made, n) = (self.held.len() - before, self.held.len());
        if n > 0 {
            // SAFETY: one thread polls the queue; `n` frames that are ours; the driver owns those that it takes.
            let sent = unsafe { sys::eth_tx_burst(self.port, self.queue, self.held.as_mut_ptr(), n as u16) };
            self.held.drain(..usize::from(sent));
            // SAFETY: those left are ours.
            let left = self.held.iter().map(|m| u64::from(unsafe { (**m).pkt_len })).sum();
            stats.tx_packets += u64::from(sent);
            stats.tx_bytes += std::mem::replace(&mut self.held_bytes, left) - left;
            stats.tx_held = self.held.len() as u64;
        }
        Some(made)
    }
}

/// What may be written of an empty mbuf, behind its headroom.
#[inline]
fn buffer<'a>(mbuf: Mbuf) -> &'a mut [u8] {
    // SAFETY: it is one of the spare ones: ours alone, and whole; its memory was zeroed or written. The caller lets go of
    // the slice before it does anything else with it.
    unsafe {
        let m = mbuf.as_ref();
        let room = usize::from(m.buf_len) - HEADROOM;
        std::slice::from_raw_parts_mut(m.buf_addr.cast::<u8>().add(HEADROOM), room)
    }
}

/// Makes an empty mbuf a frame; gives its bytes.
#[inline]
fn set_len(mut mbuf: Mbuf, len: usize) -> u64 {
    // SAFETY: ours alone.
    let m = unsafe { mbuf.as_mut() };
    debug_assert!(usize::from(m.data_off) == HEADROOM && len <= usize::from(m.buf_len) - HEADROOM);
    m.data_len = len as u16;
    m.pkt_len = len as u32;
    len as u64
}
