//! Sending: packets become chains of mbufs, with as few copies as the driver allows.
//!
//! ```text
//!  head in a cell of mbufs             the mbuf itself          (what was received goes on as it is)
//!  head of up to COPY_MAX bytes        copied into an mbuf
//!  longer head, slice of the tail      an mbuf attached to the cell's bytes, which the ledger keeps
//!  shorter slice                       copied behind what is there
//! ```
//!
//! A driver that takes no chains gets frames of one piece: the mbuf itself, or a copy. A NIC, which reads by DMA, gets
//! chains of what is in mbufs, and copies of the rest.
//!
//! A packet is kept as it is until the driver has taken its mbufs; what the driver refuses is undone and stays in the
//! queue.
#![allow(unsafe_code)]

mod fill;

use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use super::abilities::Reach;
use super::chain::{Chain, ask_for_checksum};
use super::eal::Eal;
use super::ledger::Ledger;
use super::mbufs::{Mbuf, MbufSource, free, is_whole, mbuf_of, mempool};
use crate::buf::{Handle, RxFlags, TAIL_MAX};
use crate::port::{BURST_MAX, PortStats, TxQueue};
use crate::{Packet, Slice};

/// Up to so many bytes are copied: less work than an mbuf and a record for them.
const COPY_MAX: usize = 256;
/// Room of an mbuf for copies, in a chain.
const CHAIN_ROOM: usize = 640;
/// Mbufs of one frame: its head, and each slice.
const SEGMENTS_MAX: usize = 1 + TAIL_MAX;
/// So many at once from the mempool.
const SPARE: usize = 64;
/// What a queue of the driver's holds, and as much again on its way.
const FRAMES: u32 = 2048;
/// As many frames of two segments.
const SEGMENTS: u32 = 2 * FRAMES;
const HEADROOM: usize = sys::RTE_PKTMBUF_HEADROOM as usize;
/// A queue of a device to send to.
pub(super) struct Tx {
    port: u16,
    queue: u16,
    mempool: NonNull<sys::rte_mempool>,
    total: u32,
    frame_bytes: usize,
    reach: Reach,
    /// The device fills in the checksums that are left blank.
    fills_in: bool,
    /// Empty mbufs.
    spare: ArrayVec<Mbuf, SPARE>,
    /// What the driver is offered; packets of `mbufs`, in the same order.
    mbufs: ArrayVec<*mut sys::rte_mbuf, BURST_MAX>,
    packets: ArrayVec<Staged, BURST_MAX>,
    /// Frames written in place that the driver did not take yet, and their bytes.
    held: ArrayVec<*mut sys::rte_mbuf, BURST_MAX>,
    held_bytes: u64,
    /// Bytes of an mbuf behind its headroom.
    room: usize,
    ledger: Ledger,
    /// The driver can be asked to give back what it has sent.
    cleans_up: bool,
}

/// A packet that is offered.
struct Staged {
    packet: Packet,
    /// Bytes of the frame.
    len: u32,
    /// Its own mbuf is the frame's first.
    lent: bool,
}

/// Why a packet was not staged.
enum Refused {
    /// It is longer than the MTU allows.
    TooLong,
    /// Not now: mbufs or records are short.
    Short,
}

/// Bytes of buffer of a port's own mbufs.
fn room(reach: Reach, frame_bytes: usize) -> u16 {
    // At least 2 KiB, which is what drivers take for granted.
    let frame =
        if reach == Reach::Anywhere { CHAIN_ROOM } else { frame_bytes.next_multiple_of(64).max(2048) };
    (frame + HEADROOM) as u16
}

fn segments(reach: Reach) -> u32 {
    if reach == Reach::Anywhere { SEGMENTS } else { FRAMES }
}

fn segments_bytes(reach: Reach, frame_bytes: usize) -> u64 {
    let each = 64 + size_of::<sys::rte_mbuf>() as u64 + u64::from(room(reach, frame_bytes)) + 64;
    u64::from(segments(reach)) * each
}

impl Tx {
    /// Memory that a port's mbufs take, whatever its driver.
    pub(super) fn bytes(frame_bytes: usize) -> u64 {
        segments_bytes(Reach::Anywhere, frame_bytes).max(segments_bytes(Reach::OneMbuf, frame_bytes))
    }

    /// With where segments may lie, and whether the device fills in checksums that are left blank. Its mbufs are on a NUMA
    /// node, if it is given.
    pub(super) fn new(
        eal: Eal,
        port: u16,
        queue: u16,
        (reach, fills_in): (Reach, bool),
        frame_bytes: usize,
        node: Option<i32>,
    ) -> Result<Tx, String> {
        Ok(Tx {
            port,
            queue,
            mempool: mempool(eal, segments(reach), 0, room(reach, frame_bytes), node)?,
            total: segments(reach),
            frame_bytes,
            reach,
            fills_in,
            spare: ArrayVec::new(),
            mbufs: ArrayVec::new(),
            packets: ArrayVec::new(),
            held: ArrayVec::new(),
            held_bytes: 0,
            room: usize::from(room(reach, frame_bytes)) - HEADROOM,
            ledger: Ledger::new(if reach == Reach::OneMbuf { 0 } else { segments(reach) }),
            cleans_up: true,
        })
    }

    /// Memory that its mbufs take.
    pub(super) fn mempool_bytes(&self) -> u64 {
        segments_bytes(self.reach, self.frame_bytes)
    }

    /// Cells that the device reads, or has read without giving them back.
    pub(super) fn attached(&self) -> u32 {
        self.ledger.in_use()
    }

    /// Lets go of cells that were sent and freed elsewhere.
    #[inline]
    pub(super) fn collect(&mut self) {
        self.ledger.collect();
    }

    /// Has the driver look what was sent meanwhile.
    #[cold]
    pub(super) fn poke(&mut self) {
        // SAFETY: one thread polls the queue: a port stays on its core; no frames are offered.
        unsafe { sys::eth_tx_burst(self.port, self.queue, self.mbufs.as_mut_ptr(), 0) };
    }

    /// Asks a driver that keeps what it has sent until it needs the room.
    #[cold]
    pub(super) fn clean_up(&mut self) {
        if self.cleans_up && self.ledger.in_use() > 0 {
            // SAFETY: one thread polls the queue: a port stays on its core.
            let rc = unsafe { sys::rte_eth_tx_done_cleanup(self.port, self.queue, 0) };
            self.cleans_up = rc >= 0;
        }
        self.ledger.collect();
    }

    /// Sends from the front of `queue`. Gives how many packets have left it.
    #[inline]
    pub(super) fn burst(&mut self, queue: &mut TxQueue, stats: &mut PortStats) -> usize {
        self.ledger.collect();
        let mut errors = 0;
        while self.packets.len() + errors < BURST_MAX {
            let Some(packet) = queue.pop() else { break };
            let (len, lent) = (packet.total_len(), is_lent(&packet, self.reach));
            match self.stage(&packet, len, lent) {
                Ok(mbuf) => {
                    self.mbufs.push(mbuf);
                    self.packets.push(Staged { packet, len: len as u32, lent });
                }
                Err(Refused::TooLong) => errors += 1,
                Err(Refused::Short) => {
                    queue.push_front(packet);
                    break;
                }
            }
        }
        if self.fills_in {
            errors += self.prepare();
        }
        stats.tx_errors += errors as u64;
        let n = self.mbufs.len();
        // SAFETY: one thread polls the queue; `n` frames that are ours; the driver owns those that it takes.
        let sent = unsafe { sys::eth_tx_burst(self.port, self.queue, self.mbufs.as_mut_ptr(), n as u16) };
        let sent = usize::from(sent);
        for (s, mbuf) in self.packets.drain(sent..).zip(self.mbufs.drain(sent..)).rev() {
            undo(mbuf, s.lent);
            queue.push_front(s.packet);
        }
        self.mbufs.clear();
        stats.tx_packets += sent as u64;
        for s in self.packets.drain(..) {
            stats.tx_bytes += u64::from(s.len);
            if s.lent {
                // SAFETY: its mbuf is the driver's, who gives it to its mempool; from there this thread alone takes it.
                unsafe { s.packet.gone() };
            }
        }
        sent + errors
    }

    /// Has the driver look at the frames whose checksums it is to fill in: some want the fields otherwise. Those that it
    /// refuses are let go; gives their number.
    fn prepare(&mut self) -> usize {
        let (mut good, mut refused) = (0, 0);
        while good < self.mbufs.len() {
            let rest = &mut self.mbufs[good..];
            // SAFETY: one thread polls the queue; so many frames that are ours.
            let n =
                unsafe { sys::eth_tx_prepare(self.port, self.queue, rest.as_mut_ptr(), rest.len() as u16) };
            good += usize::from(n);
            if good < self.mbufs.len() {
                let (mbuf, s) = (self.mbufs.remove(good), self.packets.remove(good));
                undo(mbuf, s.lent);
                refused += 1;
            }
        }
        refused
    }

    /// The packet, of so many bytes and lent or not, as a frame of mbufs, which are ours until the driver takes them.
    #[inline]
    fn stage(&mut self, p: &Packet, len: usize, lent: bool) -> Result<*mut sys::rte_mbuf, Refused> {
        let frame = self.build(p, len, lent)?;
        if self.fills_in && p.meta().flags.has(RxFlags::L4_CHECKSUM_BLANK) {
            ask_for_checksum(frame, p.head());
        }
        Ok(frame)
    }

    #[inline]
    fn build(&mut self, p: &Packet, len: usize, lent: bool) -> Result<*mut sys::rte_mbuf, Refused> {
        if len > self.frame_bytes {
            return Err(Refused::TooLong);
        }
        if lent && p.tail().is_empty() {
            return Ok(whole(p));
        }
        if self.spare.len() < SEGMENTS_MAX && !self.fill_spare() {
            return Err(Refused::Short);
        }
        if self.reach == Reach::OneMbuf {
            return self.copy(p);
        }
        if (self.ledger.free() as usize) < SEGMENTS_MAX {
            return Err(Refused::Short);
        }
        let mut chain = if lent {
            Chain::new(whole(p))
        } else if p.head().len() <= COPY_MAX || self.reach == Reach::Mbufs {
            let mut chain = Chain::new(self.segment());
            chain.append(p.head());
            chain
        } else {
            Chain::new(self.attach(p.head(), p.handle()))
        };
        for slice in p.tail() {
            if slice.len() > COPY_MAX && self.reaches(slice) {
                let segment = self.attach(slice, slice.handle());
                if self.reach == Reach::Mbufs {
                    translate(segment, slice);
                }
                chain.link(segment);
            } else if !chain.append(slice) {
                chain.link(self.segment());
                let fits = chain.append(slice);
                debug_assert!(fits, "what is copied fits an mbuf");
            }
        }
        Ok(chain.first)
    }

    #[inline]
    fn reaches(&self, slice: &Slice) -> bool {
        self.reach == Reach::Anywhere || slice.is_from::<MbufSource>()
    }

    /// All of it in one mbuf.
    fn copy(&mut self, p: &Packet) -> Result<*mut sys::rte_mbuf, Refused> {
        let mut chain = Chain::new(self.segment());
        let parts = std::iter::once(p.head()).chain(p.tail().iter().map(|s| &**s));
        for part in parts {
            let fits = chain.append(part);
            debug_assert!(fits, "a frame of the MTU's length fits an mbuf");
        }
        Ok(chain.first)
    }

    /// An empty mbuf.
    fn segment(&mut self) -> *mut sys::rte_mbuf {
        self.spare.pop().expect("`stage` looked whether there are enough").as_ptr()
    }

    /// An mbuf of these bytes, which `handle` keeps until it is freed.
    fn attach(&mut self, bytes: &[u8], handle: Handle) -> *mut sys::rte_mbuf {
        let info = self.ledger.keep(handle).expect("`stage` looked whether there are enough");
        let mbuf = self.segment();
        // SAFETY: an empty mbuf of ours. Bytes of a cell stay where they are, and as they are, while there is a handle; no
        // frame is longer than a u16 counts. As rte_pktmbuf_attach_extbuf.
        unsafe {
            let m = &mut *mbuf;
            m.buf_addr = bytes.as_ptr().cast_mut().cast();
            // Virtual devices do not look at it; for NICs see `translate`.
            m.buf_iova = bytes.as_ptr() as u64;
            m.buf_len = bytes.len() as u16;
            m.data_off = 0;
            m.data_len = bytes.len() as u16;
            m.pkt_len = bytes.len() as u32;
            m.ol_flags = sys::RTE_MBUF_F_EXTERNAL;
            m.shinfo = info;
        }
        mbuf
    }

    /// Takes mbufs from the mempool. Gives whether there are enough for a frame.
    #[cold]
    fn fill_spare(&mut self) -> bool {
        let mut got = [std::ptr::null_mut(); SPARE];
        for n in [SPARE / 2, SEGMENTS_MAX] {
            // SAFETY: room for `n` pointers; all or none are given.
            if unsafe { sys::mr_pktmbuf_alloc_bulk(self.mempool.as_ptr(), got.as_mut_ptr(), n as u32) } == 0 {
                self.spare.extend(got[..n].iter().filter_map(|m| NonNull::new(*m)));
                return true;
            }
        }
        false
    }

    /// Ends it, after the device was closed. Gives how many mbufs did not come back, and how many cells.
    pub(super) fn close(&mut self) -> u32 {
        self.ledger.collect();
        let mut mine: ArrayVec<_, SPARE> = self.spare.drain(..).map(NonNull::as_ptr).collect();
        free(&mut mine);
        free(&mut self.held);
        self.held.clear();
        // SAFETY: nobody sends any more.
        let missing = self.total - unsafe { sys::rte_mempool_avail_count(self.mempool.as_ptr()) };
        missing + self.ledger.in_use()
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // With an mbuf missing it is kept for ever: somebody may still read it.
        if self.close() == 0 {
            // SAFETY: all mbufs are in it.
            unsafe { sys::rte_mempool_free(self.mempool.as_ptr()) };
        }
    }
}

/// Whether the packet's own mbuf goes to the driver.
#[inline]
fn is_lent(p: &Packet, reach: Reach) -> bool {
    p.is_from::<MbufSource>() && (reach != Reach::OneMbuf || p.tail().is_empty())
}

/// Says where a NIC finds the bytes of a segment that is attached to an mbuf's cell.
fn translate(segment: *mut sys::rte_mbuf, slice: &Slice) {
    // SAFETY: the segment is ours; the cell's mbuf is there while the slice is, and its buffer stays the same.
    unsafe {
        let cell = mbuf_of(slice.place()).as_ptr();
        let offset = slice.as_ptr() as u64 - (*cell).buf_addr as u64;
        (*segment).buf_iova = (*cell).buf_iova + offset;
    }
}

/// The mbuf of a packet's cell, with its head as the frame.
#[inline]
fn whole(p: &Packet) -> *mut sys::rte_mbuf {
    let mbuf = mbuf_of(p.place()).as_ptr();
    let (off, len) = p.bounds();
    // SAFETY: the mbuf is the packet's, which has one owner; the bounds are within its buffer, whose size is a u16.
    unsafe {
        let m = &mut *mbuf;
        m.data_off = off as u16;
        m.data_len = len as u16;
        m.pkt_len = len;
        // What its device said of it when it came.
        m.ol_flags = 0;
        debug_assert!(is_whole(m) && m.next.is_null());
    }
    mbuf
}

/// Takes back a frame that the driver refused: `lent`, its first mbuf is a packet's, and stays that.
#[cold]
fn undo(first: *mut sys::rte_mbuf, lent: bool) {
    let mut rest = first;
    if lent {
        // SAFETY: ours again; what follows it, too.
        unsafe {
            rest = std::mem::replace(&mut (*first).next, std::ptr::null_mut());
            (*first).nb_segs = 1;
        }
    }
    if !rest.is_null() {
        free(&mut [rest]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Eal, EalConfig, Mbufs};
    use super::*;
    use crate::Pool;
    use hugepages::PagePolicy;

    /// The segments of a frame: its bytes, and where a NIC would look for them, in the address space of the process.
    fn segments_of(first: *mut sys::rte_mbuf) -> Vec<(Vec<u8>, bool)> {
        let (mut at, mut all) = (first, Vec::new());
        // SAFETY: a chain that was staged, and is ours.
        while let Some(m) = unsafe { at.as_ref() } {
            // SAFETY: its bounds are within its buffer; where IOVA is VA, that is the address.
            unsafe {
                let data = m.buf_addr.cast::<u8>().add(m.data_off.into());
                all.push((
                    std::slice::from_raw_parts(data, m.data_len.into()).to_vec(),
                    m.ol_flags & sys::RTE_MBUF_F_EXTERNAL != 0,
                ));
            }
            at = m.next;
        }
        all
    }

    #[test]
    fn what_a_device_cannot_reach_is_copied() {
        let (pages, nics, args) = (PagePolicy::NormalOnly, Vec::new(), Vec::new());
        let eal = Eal::start(&EalConfig { buffers_bytes: 64 << 20, pages, nics, args }).expect("EAL");
        let mbufs = Mbufs::reserve(eal, 64, 64, 2176, None).expect("memory").into_pool("rx");
        let own = Pool::reserve("own", 64, 2048, PagePolicy::NormalOnly).expect("memory");
        let slice = |pool: &Pool, byte: u8| {
            let mut p = pool.alloc().expect("a cell");
            assert!(p.append(&[byte; 400]));
            p.into_slice(10, 390)
        };
        for (reach, from_mbufs, from_own) in [
            (Reach::OneMbuf, vec![(1200, false)], vec![(1200, false)]),
            (
                Reach::Mbufs,
                vec![(30, false), (390, true), (780, false)],
                vec![(420, false), (390, true), (390, false)],
            ),
            (
                Reach::Anywhere,
                vec![(30, false), (390, true), (390, true), (390, true)],
                vec![(30, false), (390, true), (390, true), (390, true)],
            ),
        ] {
            let mut tx = Tx::new(eal, 0, 0, (reach, false), 1518, None).expect("memory");
            for (first, second, expected) in [(&mbufs, &own, &from_mbufs), (&own, &mbufs, &from_own)] {
                let mut p = own.alloc().expect("a cell");
                assert!(p.append(&[7; 30]));
                for (pool, byte) in [(first, 1), (second, 2), (&own, 3)] {
                    p.attach(slice(pool, byte)).expect("room");
                }
                let Ok(frame) = tx.stage(&p, p.total_len(), is_lent(&p, reach)) else { panic!("not staged") };
                let segments = segments_of(frame);
                let shape: Vec<_> =
                    segments.iter().map(|(bytes, attached)| (bytes.len(), *attached)).collect();
                assert_eq!(&shape, expected, "{reach:?}");
                let whole: Vec<u8> = segments.into_iter().flat_map(|(bytes, _)| bytes).collect();
                assert_eq!(whole, [vec![7; 30], vec![1; 390], vec![2; 390], vec![3; 390]].concat());
                // SAFETY: ours.
                let (len, count) = unsafe { ((*frame).pkt_len, (*frame).nb_segs) };
                assert_eq!((len as usize, usize::from(count)), (1200, shape.len()));
                drop(p);
                free(&mut [frame]);
                assert_eq!((tx.attached(), own.free_count(), mbufs.free_count()), (0, 64, 64));
            }
            assert_eq!(tx.close(), 0);
        }
    }
}
