//! DPDK's inline bursts in Rust, over the table that its headers give them: a call through the shim, which the compiler
//! cannot look into, costs each burst a call more.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::{
    rte_eth_call_rx_callbacks, rte_eth_call_tx_callbacks, rte_eth_fp_ops, rte_ethdev_qdata, rte_mbuf,
};

/// What is registered to see the frames of a queue (a capture, for one), or null.
///
/// # Safety
/// The queue was set up.
#[inline(always)]
unsafe fn callback(queues: &rte_ethdev_qdata, queue: u16) -> *mut c_void {
    // SAFETY: there is a place for each queue that was set up; it is written atomically, by whoever registers.
    unsafe { AtomicPtr::from_ptr(queues.clbk.add(queue.into())) }.load(Ordering::Relaxed)
}

/// `rte_eth_rx_burst`: receives up to `count` frames.
///
/// # Safety
/// As the C function of this name: the port's queue was set up, this thread alone polls it, and there is room for `count`
/// pointers at `mbufs`.
#[inline(always)]
pub unsafe fn eth_rx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16 {
    // SAFETY: as the caller says; ethdev fills the table for every port there can be, and changes it only while a port is
    // started or stopped.
    unsafe {
        let ops = &*(&raw const rte_eth_fp_ops).cast::<rte_eth_fp_ops>().add(port.into());
        let receive = ops.rx_pkt_burst.unwrap_unchecked();
        let n = receive(*ops.rxq.data.add(queue.into()), mbufs, count);
        let callback = callback(&ops.rxq, queue);
        if callback.is_null() {
            return n;
        }
        rte_eth_call_rx_callbacks(port, queue, mbufs, n, count, callback)
    }
}

/// `rte_eth_tx_prepare`: has the driver look at `count` frames that ask for work of the device's. Gives how many are fit to be
/// offered; the next one is not.
///
/// # Safety
/// As of [`eth_tx_burst`].
#[inline(always)]
pub unsafe fn eth_tx_prepare(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16 {
    // SAFETY: as below.
    unsafe {
        let ops = &*(&raw const rte_eth_fp_ops).cast::<rte_eth_fp_ops>().add(port.into());
        match ops.tx_pkt_prepare {
            Some(prepare) => prepare(*ops.txq.data.add(queue.into()), mbufs, count),
            None => count,
        }
    }
}

/// `rte_eth_tx_burst`: offers `count` frames. Gives how many the driver has taken.
///
/// # Safety
/// As the C function of this name: the port's queue was set up, this thread alone sends to it, and there are `count` frames
/// of the caller's at `mbufs`.
#[inline(always)]
pub unsafe fn eth_tx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, mut count: u16) -> u16 {
    // SAFETY: as above.
    unsafe {
        let ops = &*(&raw const rte_eth_fp_ops).cast::<rte_eth_fp_ops>().add(port.into());
        let callback = callback(&ops.txq, queue);
        if !callback.is_null() {
            count = rte_eth_call_tx_callbacks(port, queue, mbufs, count, callback);
        }
        let send = ops.tx_pkt_burst.unwrap_unchecked();
        send(*ops.txq.data.add(queue.into()), mbufs, count)
    }
}
