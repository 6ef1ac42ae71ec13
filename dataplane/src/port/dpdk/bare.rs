//! A device polled as DPDK's testpmd polls one in its mode `io`, without packets of ours: what measurements hold the port
//! against.
#![allow(unsafe_code)] // Bursts of mbufs, and their contents.

use std::ptr::NonNull;

use dpdk_sys as sys;

use super::device::Device;
use super::eal::{Bus, Eal};
use super::mbufs::{free, mempool};
use super::rss::KEY_BYTES_MAX;
use super::{frame_bytes, rx_room};
use crate::port::{Checksums, VdevName};

/// As many as testpmd takes at once.
pub const BURST: usize = 32;
/// One queue needs none.
const NO_SECRET: [u8; KEY_BYTES_MAX] = [0; KEY_BYTES_MAX];
/// Mbufs of the mempool.
const MBUFS: u32 = 8191;

/// A device, its one queue each way, and a mempool.
pub struct Bare {
    device: Device,
    mempool: NonNull<sys::rte_mempool>,
}

impl Bare {
    /// Memory that it takes.
    pub fn bytes(mtu: u16) -> u64 {
        u64::from(MBUFS + 1) * (u64::from(rx_room(mtu)) + 256)
    }

    /// Makes and starts a virtual device, on the thread that will poll it.
    ///
    /// # Errors
    /// One sentence.
    pub fn open(eal: Eal, device: &str, mtu: u16) -> Result<Bare, String> {
        eal.register_thread()?;
        let vdev = VdevName::parse(device).ok_or("not a virtual device")?;
        debug_assert!(usize::from(rx_room(mtu)) >= frame_bytes(mtu));
        let mempool = mempool(eal, MBUFS, 0, rx_room(mtu), None)?;
        // Not freed where the device cannot be had: the measurement ends then.
        let mut device = Device::open(
            eal,
            (Bus::Virtual, vdev.name, vdev.args),
            (mtu, Checksums::Software),
            1,
            &NO_SECRET,
        )?;
        device.set_up(0, mempool)?;
        device.start(false)?;
        Ok(Bare { device, mempool })
    }

    /// Sends so many copies of a frame, which a `net_ring` then has going round.
    ///
    /// # Panics
    /// When the device does not take them all.
    pub fn prime(&mut self, frames: usize, frame: &[u8]) {
        for _ in 0..frames {
            let mut mbuf = std::ptr::null_mut();
            // SAFETY: room for a pointer; a fresh mbuf is ours, and has room for a frame of the MTU's length. One thread
            // polls the device: it is not `Send`.
            unsafe {
                assert_eq!(sys::mr_pktmbuf_alloc_bulk(self.mempool.as_ptr(), &raw mut mbuf, 1), 0, "an mbuf");
                let m: &mut sys::rte_mbuf = &mut *mbuf;
                let to = m.buf_addr.cast::<u8>().add(m.data_off.into());
                assert!(frame.len() <= usize::from(m.buf_len - m.data_off));
                std::ptr::copy_nonoverlapping(frame.as_ptr(), to, frame.len());
                m.data_len = frame.len() as u16;
                m.pkt_len = frame.len() as u32;
                assert_eq!(sys::eth_tx_burst(self.device.port(), 0, &raw mut mbuf, 1), 1, "it is sent");
            }
        }
    }

    /// Receives up to `BURST` frames and sends them on; what the device does not take is dropped. Gives the number.
    #[inline]
    pub fn pass(&mut self) -> usize {
        let mut mbufs = [std::ptr::null_mut(); BURST];
        // SAFETY: one thread polls the device: it is not `Send`. Room for the pointers; what came is ours, and the
        // driver's when it has taken it.
        unsafe {
            let n = sys::eth_rx_burst(self.device.port(), 0, mbufs.as_mut_ptr(), BURST as u16);
            if n == 0 {
                return 0;
            }
            let sent = sys::eth_tx_burst(self.device.port(), 0, mbufs.as_mut_ptr(), n);
            if sent < n {
                free(&mut mbufs[sent.into()..n.into()]);
            }
            n.into()
        }
    }

    /// As [`Bare::pass`], with C functions around DPDK's inline ones.
    #[inline]
    pub fn pass_by_shim(&mut self) -> usize {
        let mut mbufs = [std::ptr::null_mut(); BURST];
        // SAFETY: as in `pass`.
        unsafe {
            let n = sys::mr_eth_rx_burst(self.device.port(), 0, mbufs.as_mut_ptr(), BURST as u16);
            if n == 0 {
                return 0;
            }
            let sent = sys::mr_eth_tx_burst(self.device.port(), 0, mbufs.as_mut_ptr(), n);
            if sent < n {
                free(&mut mbufs[sent.into()..n.into()]);
            }
            n.into()
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // What goes round in a ring would not come back. A device that makes frames up never runs dry.
        for _ in 0..64 {
            let mut mbufs = [std::ptr::null_mut(); BURST];
            // SAFETY: as in `pass`.
            let n = unsafe { sys::eth_rx_burst(self.device.port(), 0, mbufs.as_mut_ptr(), BURST as u16) };
            free(&mut mbufs[..n.into()]);
        }
        self.device.close();
        // SAFETY: the mempool is ours; freed only when it has every mbuf.
        unsafe {
            let missing = MBUFS - sys::rte_mempool_avail_count(self.mempool.as_ptr());
            debug_assert!(missing == 0 || std::thread::panicking(), "{missing} mbufs did not come back");
            if missing == 0 {
                sys::rte_mempool_free(self.mempool.as_ptr());
            }
        }
    }
}
