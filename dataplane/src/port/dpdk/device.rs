//! A device of DPDK's and its mbufs, behind an interface that cannot be misused: frames are looked at while they are
//! there, and written into room that is there.
//!
//! What the `unsafe` here rests on:
//!
//! 1. A `Device` is made on its core's thread and stays there (it is not `Send`): one thread polls its queues.
//! 2. An mbuf is with exactly one of: the mempool, the driver, `spare`, `staged`, or the burst that is looked at. What
//!    leaves one is given to another in the same breath.
//! 3. The mempool outlives them all: it is freed when it has every mbuf back, and else never.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::eal::{Bus, Eal, last_error, text};
use crate::port::{BURST_MAX, Mac};

/// Mbufs of a device: both rings full, a burst each way, and what the mempool's cache holds back. A power of 2 less
/// one, which is what a mempool's ring has room for.
pub(super) const MBUFS: u32 = 4095;
const RING_SLOTS: u16 = 1024;
const CACHE: u32 = 256;
/// Any NUMA node.
const SOCKET_ANY: c_int = -1;

type Mbuf = NonNull<sys::rte_mbuf>;

/// One device with a queue each way.
pub(super) struct Device {
    eal: Eal,
    bus: Bus,
    name: CString,
    port: u16,
    mempool: NonNull<sys::rte_mempool>,
    /// Empty mbufs for frames to come.
    spare: ArrayVec<Mbuf, BURST_MAX>,
    /// Written, not yet sent.
    staged: ArrayVec<Mbuf, BURST_MAX>,
    started: bool,
    promiscuous: bool,
    open: bool,
}

/// What became of a frame that was to be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staged {
    /// It is among those that [`Device::send`] sends.
    Done,
    /// No mbuf is free now.
    NoBuffer,
    /// It does not fit an mbuf.
    TooLong,
}

/// A received frame, while it is looked at.
pub(super) struct Frame<'a>(&'a sys::rte_mbuf);

impl Frame<'_> {
    /// Bytes of the frame, as the device gave it.
    pub(super) fn len(&self) -> usize {
        self.0.pkt_len as usize
    }

    /// Calls `take` with each part in order, until one gives `false` or says more than its buffer holds (a driver's
    /// mistake). Gives whether all were taken.
    pub(super) fn parts(&self, mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let mut part = self.0;
        loop {
            if usize::from(part.data_off) + usize::from(part.data_len) > usize::from(part.buf_len) {
                return false;
            }
            // SAFETY: rule 2: the burst that is looked at has the mbuf, nobody writes to it; within its buffer (above).
            let bytes = unsafe {
                let at = part.buf_addr.cast::<u8>().add(part.data_off.into());
                std::slice::from_raw_parts(at, part.data_len.into())
            };
            if !take(bytes) {
                return false;
            }
            // SAFETY: a link in a chain is null or an mbuf that came with the first.
            match unsafe { part.next.as_ref() } {
                Some(next) => part = next,
                None => return true,
            }
        }
    }
}

/// Bytes of an mbuf's buffer for frames of `frame_bytes`. At least 2 KiB, which is what drivers take for granted.
fn room_bytes(frame_bytes: usize) -> u16 {
    (frame_bytes.next_multiple_of(64).max(2048) + sys::RTE_PKTMBUF_HEADROOM as usize) as u16
}

/// Memory that a device's mbufs take, for frames of `frame_bytes`.
pub(super) fn mempool_bytes(frame_bytes: usize) -> u64 {
    // The mempool's own header of each, and its padding.
    let each = size_of::<sys::rte_mbuf>() + usize::from(room_bytes(frame_bytes)) + 128;
    u64::from(MBUFS + 1) * each as u64
}

impl Device {
    /// Takes the device `name` with `args` and starts it, for frames of up to `frame_bytes` with IP packets of
    /// up to `mtu`.
    pub(super) fn open(
        eal: Eal,
        bus: Bus,
        name: &str,
        args: &str,
        mtu: u16,
        frame_bytes: usize,
    ) -> Result<Device, String> {
        let c_string = |s: &str| CString::new(s).map_err(|_| "it has a zero byte in it".to_owned());
        let (name, args) = (c_string(name)?, c_string(args)?);
        let mempool = mempool(&name, room_bytes(frame_bytes))?;
        let port = match eal.add(bus, &name, &args) {
            Ok(port) => port,
            Err(e) => {
                // SAFETY: rule 3: just made, all mbufs are in it.
                unsafe { sys::rte_mempool_free(mempool.as_ptr()) };
                return Err(e);
            }
        };
        // From here on its Drop cleans up.
        let mut device = Device {
            eal,
            bus,
            name,
            port,
            mempool,
            spare: ArrayVec::new(),
            staged: ArrayVec::new(),
            started: false,
            promiscuous: false,
            open: true,
        };
        device.start(mtu)?;
        device.started = true;
        Ok(device)
    }

    fn start(&self, mtu: u16) -> Result<(), String> {
        let (port, mempool) = (self.port, self.mempool.as_ptr());
        let step = |what: &str, rc: c_int| match rc {
            0.. => Ok(()),
            _ => Err(format!("{what}: {}", text(-rc))),
        };
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = mtu.into();
        let (mut rx_slots, mut tx_slots) = (RING_SLOTS, RING_SLOTS);
        // SAFETY: EAL runs, the port is ours and not started; `conf` and the numbers outlive the calls; the queues' own
        // settings are left to the driver (null).
        unsafe {
            step(
                "it takes no queue, or no such MTU",
                sys::rte_eth_dev_configure(port, 1, 1, &raw const conf),
            )?;
            step(
                "its queues",
                sys::rte_eth_dev_adjust_nb_rx_tx_desc(port, &raw mut rx_slots, &raw mut tx_slots),
            )?;
            let any = SOCKET_ANY as u32;
            let rc = sys::rte_eth_rx_queue_setup(port, 0, rx_slots, any, std::ptr::null(), mempool);
            step("its rx queue", rc)?;
            let rc = sys::rte_eth_tx_queue_setup(port, 0, tx_slots, any, std::ptr::null());
            step("its tx queue", rc)?;
            // Devices without an MTU of their own say so (ENOTSUP); the frames' length is looked at in any case.
            let rc = sys::rte_eth_dev_set_mtu(port, mtu);
            if rc != -libc::ENOTSUP {
                step("its MTU", rc)?;
            }
            step("it does not start", sys::rte_eth_dev_start(port))
        }
    }

    /// The address that the device came with.
    pub(super) fn mac(&self) -> Mac {
        let mut mac = sys::rte_ether_addr::default();
        // SAFETY: the port is ours; a place for the address.
        unsafe { sys::rte_eth_macaddr_get(self.port, &raw mut mac) };
        mac.addr_bytes
    }

    /// Takes frames to any address. Gives `false` where the device does not filter by address anyway (or cannot say).
    pub(super) fn be_promiscuous(&mut self) -> bool {
        // SAFETY: the port is ours.
        self.promiscuous = unsafe { sys::rte_eth_promiscuous_enable(self.port) } == 0;
        self.promiscuous
    }

    /// The driver's name.
    pub(super) fn driver(&self) -> String {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: the port is ours; a place for the facts; the driver's name is a C string of the driver's, or null.
        unsafe {
            if sys::rte_eth_dev_info_get(self.port, &raw mut info) != 0 || info.driver_name.is_null() {
                return "unknown driver".to_owned();
            }
            CStr::from_ptr(info.driver_name).to_string_lossy().into_owned()
        }
    }

    /// Frames that the device had to drop because nobody fetched them in time.
    pub(super) fn missed(&self) -> u64 {
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port is ours; a place for the counts.
        match unsafe { sys::rte_eth_stats_get(self.port, &raw mut stats) } {
            0 => stats.imissed,
            _ => 0,
        }
    }

    /// Receives up to `max` frames; each is shown to `take`, then its mbuf goes back. Gives the number.
    #[inline]
    pub(super) fn receive(&mut self, max: usize, mut take: impl FnMut(Frame<'_>)) -> usize {
        let mut mbufs = [std::ptr::null_mut(); BURST_MAX];
        let max = max.min(BURST_MAX) as u16;
        // SAFETY: rule 1; room for `max` pointers.
        let n = unsafe { sys::mr_eth_rx_burst(self.port, 0, mbufs.as_mut_ptr(), max) };
        for &mbuf in &mbufs[..usize::from(n)] {
            // SAFETY: rule 2: the driver gave it to us.
            take(Frame(unsafe { &*mbuf }));
        }
        if n > 0 {
            // SAFETY: rule 2: they go back, and nothing points to them any more (a `Frame` cannot outlive its call).
            unsafe { sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), n.into()) };
        }
        usize::from(n)
    }

    /// Lets `fill` write a frame into an mbuf and give its length (`None`: it does not fit).
    ///
    /// At most [`BURST_MAX`] between two calls of [`Device::send`].
    #[inline]
    pub(super) fn stage(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> Staged {
        let Some(mut mbuf) = self.spare.pop().or_else(|| self.alloc()) else { return Staged::NoBuffer };
        debug_assert!(!self.staged.is_full(), "more frames than a burst");
        // SAFETY: rule 2: taken from the mempool, ours alone.
        let m = unsafe { mbuf.as_mut() };
        let room = usize::from(m.buf_len) - usize::from(m.data_off);
        // SAFETY: within its buffer, which is memory of the mempool, zeroed when EAL mapped it.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(m.buf_addr.cast::<u8>().add(m.data_off.into()), room) };
        match fill(bytes) {
            Some(len) if len <= room => {
                m.data_len = len as u16;
                m.pkt_len = len as u32;
                self.staged.push(mbuf);
                Staged::Done
            }
            _ => {
                self.spare.push(mbuf);
                Staged::TooLong
            }
        }
    }

    /// Takes mbufs from the mempool, a handful at once while it has them.
    #[cold]
    fn alloc(&mut self) -> Option<Mbuf> {
        let mut got = [std::ptr::null_mut(); BURST_MAX / 2];
        for n in [got.len(), 1] {
            // SAFETY: rule 3; room for `n` pointers; all or none are given.
            if unsafe { sys::mr_pktmbuf_alloc_bulk(self.mempool.as_ptr(), got.as_mut_ptr(), n as u32) } == 0 {
                self.spare.extend(got[..n].iter().filter_map(|m| NonNull::new(*m)));
                return self.spare.pop();
            }
        }
        None
    }

    /// Sends what is staged, in order; what the device does not take goes back to the mempool. Gives how many it took.
    #[inline]
    pub(super) fn send(&mut self) -> usize {
        let mut mbufs = [std::ptr::null_mut(); BURST_MAX];
        let n = self.staged.len();
        for (to, mbuf) in mbufs.iter_mut().zip(self.staged.drain(..)) {
            *to = mbuf.as_ptr();
        }
        // SAFETY: rules 1 and 2: `n` mbufs of ours; the driver owns those that it takes.
        let sent = usize::from(unsafe { sys::mr_eth_tx_burst(self.port, 0, mbufs.as_mut_ptr(), n as u16) });
        free(&mut mbufs[sent..n]);
        sent
    }

    /// Stops and removes the device. Gives the number of mbufs that did not come back: it should be 0.
    pub(super) fn close(&mut self) -> u32 {
        if !std::mem::take(&mut self.open) {
            return 0;
        }
        let mut mine = [std::ptr::null_mut(); 2 * BURST_MAX];
        let all = self.spare.drain(..).chain(self.staged.drain(..));
        let n = mine.iter_mut().zip(all).map(|(to, mbuf)| *to = mbuf.as_ptr()).count();
        free(&mut mine[..n]);
        // Some drivers forget what lies in their rings. A device that makes frames up never runs dry: bounded.
        let mut left = if self.started { 2 * MBUFS as usize / BURST_MAX } else { 0 };
        while left > 0 && self.receive(BURST_MAX, |_| ()) > 0 {
            left -= 1;
        }
        // SAFETY: the port is ours, and nobody polls it any more: rule 1.
        unsafe {
            if self.promiscuous {
                sys::rte_eth_promiscuous_disable(self.port);
            }
            sys::rte_eth_dev_stop(self.port);
            sys::rte_eth_dev_close(self.port);
        }
        self.eal.remove(self.bus, &self.name);
        // SAFETY: rule 3.
        let missing = MBUFS - unsafe { sys::rte_mempool_avail_count(self.mempool.as_ptr()) };
        if missing == 0 {
            // SAFETY: rule 3.
            unsafe { sys::rte_mempool_free(self.mempool.as_ptr()) };
        }
        missing
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let missing = self.close();
        debug_assert!(missing == 0 || std::thread::panicking(), "{missing} mbufs did not come back");
    }
}

/// Gives mbufs back. They must be the caller's.
fn free(mbufs: &mut [*mut sys::rte_mbuf]) {
    if !mbufs.is_empty() {
        // SAFETY: rule 2, as the caller says (both callers are above).
        unsafe { sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), mbufs.len() as u32) };
    }
}

/// As `rte_pktmbuf_pool_create`, but without asking for buffers that are whole in physical memory: with normal pages
/// that would put each on a page of its own and halve the throughput.
fn mempool(device: &CStr, room_bytes: u16) -> Result<NonNull<sys::rte_mempool>, String> {
    let failed = |what: &str| format!("no mbufs ({what}): {}", last_error());
    // Its names are short; the device's is unique among the first characters in practice, and DPDK refuses another.
    let name: Vec<u8> = device.to_bytes().iter().copied().take(20).collect();
    let name = CString::new(name).map_err(|e| e.to_string())?;
    let element = size_of::<sys::rte_mbuf>() as u32 + u32::from(room_bytes);
    let mut private = sys::rte_pktmbuf_pool_private { mbuf_data_room_size: room_bytes, ..Default::default() };
    let private_bytes = size_of::<sys::rte_pktmbuf_pool_private>() as u32;
    // SAFETY: EAL runs (the caller has an `Eal`); a C string; the calls are those of rte_pktmbuf_pool_create, in its
    // order; a mempool that could not be filled is freed and not used.
    unsafe {
        let pool = sys::rte_mempool_create_empty(
            name.as_ptr(),
            MBUFS,
            element,
            CACHE,
            private_bytes,
            SOCKET_ANY,
            sys::RTE_MEMPOOL_F_NO_IOVA_CONTIG,
        );
        let pool = NonNull::new(pool).ok_or_else(|| failed("made"))?;
        let p = pool.as_ptr();
        if sys::rte_mempool_set_ops_byname(p, c"ring_mp_mc".as_ptr(), std::ptr::null_mut()) != 0 {
            let e = failed("kind");
            sys::rte_mempool_free(p);
            return Err(e);
        }
        sys::rte_pktmbuf_pool_init(p, (&raw mut private).cast::<c_void>());
        if sys::rte_mempool_populate_default(p) < MBUFS as c_int {
            let e = failed("memory");
            sys::rte_mempool_free(p);
            return Err(e);
        }
        sys::rte_mempool_obj_iter(p, Some(sys::rte_pktmbuf_init), std::ptr::null_mut());
        Ok(pool)
    }
}
