//! A `net_ring` device whose other end is in the caller's hands: what is sent there arrives at the device, and what the
//! device sends comes out. For benches and tests, in one thread.
//!
//! ```text
//!  FarEnd::send ─► ring ─► rx ┐
//!                             │ DpdkPort on FarEnd::device()
//!  FarEnd::recv ◄─ ring ◄─ tx ┘
//! ```
//!
//! It plays the NIC: frames arrive in mbufs of the port's own mempool, as they would by DMA, and what was sent is freed
//! when the device has read it. What a NIC's driver does in its bursts for that, taking empty mbufs and freeing sent ones,
//! is [`FarEnd::drive`], apart from writing and reading frames, so that a measurement can count it as the node's.
#![allow(unsafe_code)] // Rings of mbufs, and their contents.

use std::ffi::{c_uint, c_void};
use std::ptr::NonNull;

use dpdk_sys as sys;

use super::eal::Eal;
use super::mbufs::{MbufSource, free};
use super::rings::CrossedRings;
use crate::Pool;

/// Mbufs that wait to be written to, or freed.
const HELD_MAX: usize = 512;

type Mbuf = *mut sys::rte_mbuf;

/// The other end. Only side 0 of its rings has a device.
pub struct FarEnd {
    rings: CrossedRings,
    /// What the port receives into, once there is one.
    mempool: Option<NonNull<sys::rte_mempool>>,
    empty: Vec<Mbuf>,
    arrived: Vec<Mbuf>,
    sent: Vec<Mbuf>,
    /// The number of frames in `arrived` that were looked at.
    seen: usize,
}

impl FarEnd {
    /// Makes the rings; `name` is one of their own.
    ///
    /// # Errors
    /// One sentence.
    pub fn new(eal: Eal, name: &str) -> Result<FarEnd, String> {
        eal.register_thread()?;
        let rings = CrossedRings::new(eal, name, 1)?;
        let held = || Vec::with_capacity(HELD_MAX);
        Ok(FarEnd { rings, mempool: None, empty: held(), arrived: held(), sent: held(), seen: 0 })
    }

    /// What to open the port on. The port must be closed before this is dropped.
    pub fn device(&self) -> String {
        self.rings.device(0)
    }

    /// What the device receives from.
    fn to(&self) -> *mut sys::rte_ring {
        self.rings.received_by(0)
    }

    /// What it sends to.
    fn from(&self) -> *mut sys::rte_ring {
        self.rings.received_by(1)
    }

    /// Frames arrive in mbufs of this pool: the port's.
    ///
    /// # Panics
    /// When it is not one of mbufs.
    pub fn deliver_into(&mut self, pool: &Pool) {
        self.mempool = Some(pool.source::<MbufSource>().expect("a pool of mbufs").mempool());
        self.drive();
    }

    /// What a NIC's driver does: frees what was sent, takes empty mbufs.
    #[inline]
    pub fn drive(&mut self) {
        free(&mut self.sent);
        self.sent.clear();
        let want = HELD_MAX / 2 - self.empty.len().min(HELD_MAX / 2);
        let Some(mempool) = self.mempool.filter(|_| want > 0) else { return };
        let at = self.empty.len();
        // SAFETY: there is room for them behind those that are there; all or none are given.
        unsafe {
            let to = self.empty.as_mut_ptr().add(at);
            if sys::mr_pktmbuf_alloc_bulk(mempool.as_ptr(), to, want as c_uint) == 0 {
                self.empty.set_len(at + want);
            }
        }
    }

    /// Sends a frame that `fill` writes, and whose length `fill` gives. `false` when the ring is full, or no mbuf is left.
    pub fn send_with(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.empty.is_empty() {
            self.drive();
        }
        let Some(&mbuf) = self.empty.last() else { return false };
        // SAFETY: a fresh mbuf of ours; the room is within its buffer, which EAL has zeroed.
        unsafe {
            let m: &mut sys::rte_mbuf = &mut *mbuf;
            let room = usize::from(m.buf_len - m.data_off);
            let bytes = std::slice::from_raw_parts_mut(m.buf_addr.cast::<u8>().add(m.data_off.into()), room);
            let Some(len) = fill(bytes).filter(|len| *len <= room) else { return false };
            m.data_len = len as u16;
            m.pkt_len = len as u32;
            let mut object = mbuf.cast::<c_void>();
            if sys::mr_ring_enqueue_burst(self.to(), &raw mut object, 1) == 0 {
                return false;
            }
        }
        self.empty.pop();
        true
    }

    /// Looks at the next frame that the device has sent: at its first segment, which has all headers, and its length.
    pub fn recv_with<R>(&mut self, look: impl FnOnce(&[u8], usize) -> R) -> Option<R> {
        if self.seen == self.arrived.len() && !self.fetch() {
            return None;
        }
        let mbuf = self.arrived[self.seen];
        self.seen += 1;
        // SAFETY: out of the ring, so ours; nobody writes to a frame that was sent.
        let (bytes, len) = unsafe {
            let m: &sys::rte_mbuf = &*mbuf;
            let at = m.buf_addr.cast::<u8>().add(m.data_off.into());
            (std::slice::from_raw_parts(at, m.data_len.into()), m.pkt_len as usize)
        };
        Some(look(bytes, len))
    }

    /// Gives back every mbuf that it has: a port that is closed afterwards counts them. Nothing can be sent any more.
    pub fn let_go(&mut self) {
        self.mempool = None;
        while self.fetch() {
            self.drive();
        }
        free(&mut self.empty);
        self.empty.clear();
        free(&mut self.sent);
        self.sent.clear();
    }

    /// Takes what waits in the ring. Gives whether anything did.
    fn fetch(&mut self) -> bool {
        self.sent.append(&mut self.arrived);
        self.seen = 0;
        if self.sent.len() > HELD_MAX - 64 {
            self.drive();
        }
        // SAFETY: room for 64 pointers; the ring has nothing but mbufs, which become ours.
        unsafe {
            let to = self.arrived.as_mut_ptr();
            let n = sys::mr_ring_dequeue_burst(self.from(), to.cast(), 64);
            self.arrived.set_len(n as usize);
            n > 0
        }
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.let_go();
        let mut object = std::ptr::null_mut();
        // SAFETY: the rings are ours, and the device is closed, as `device` asks.
        unsafe {
            while sys::mr_ring_dequeue_burst(self.to(), &raw mut object, 1) == 1 {
                free(&mut [object.cast()]);
            }
        }
    }
}
