//! Ports: where frames come from and go to.
//!
//! One [`Port`] value is one queue of one device, owned by one core. The kinds:
//!
//! | kind | device | needs |
//! |---|---|---|
//! | [`mem`] | an in-process wire of copied frames; with [`link`] in between, one with faults | nothing |
//! | [`tap`] | a kernel TAP device | CAP_NET_ADMIN in its network namespace |
//! | [`pcap`] | writes what another port carries; replays a file | nothing |
//! | `host` | ordinary kernel sockets, bridged over a `mem` wire (root package) | nothing |
//! | `dpdk` | a NIC, or a virtual device of DPDK's | cargo's feature `dpdk`; what the device needs |
//!
//! AF_XDP comes with its issue; [`Port`] and the buffers are shaped for both.

mod device_name;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod link;
pub mod mem;
pub mod pcap;
pub mod tap;

use std::sync::Arc;

use arrayvec::ArrayVec;

pub use self::device_name::{DeviceName, PciAddress, VdevName};
use crate::rss::Rss;
use crate::{Packet, Pool, Time};

/// The most packets that one rx or tx burst carries.
pub const BURST_MAX: usize = 64;

/// Packets on their way through a stage.
pub type Burst = ArrayVec<Packet, BURST_MAX>;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// What a port is, as it actually runs: printed at start, shown in stats.
#[derive(Clone, Debug)]
pub struct LinkFacts {
    /// `mem`, `tap`, `host`, `pcap`, `dpdk`.
    pub kind: &'static str,
    /// The device, in the words of its kind.
    pub device: String,
    /// Our address on it.
    pub mac: Mac,
    /// Bytes of L3 packet that fit a frame.
    pub mtu: u16,
    /// How it runs (copies, queues, offloads), for a person.
    pub mode: String,
    /// Frames cannot be damaged on the way (in-process wires): received checksums need no verification.
    pub rx_checksum_offload: bool,
    /// The other side does not look at checksums, or fills them in.
    pub tx_checksum_offload: bool,
    /// The longest frame that the port takes to cut it into segments ([`crate::buf::Meta::tso_mss`]), from its Ethernet header
    /// to its end. 0: it cuts none. Only with `tx_checksum_offload`: each segment gets a checksum of its own.
    pub tso_bytes_max: u32,
    /// How the device spreads TCP over its queues, where that can be predicted.
    pub rss: Option<Arc<Rss>>,
}

/// How the link of a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Frames can pass.
    pub up: bool,
    /// Megabits a second, where the device says it.
    pub speed_mbps: Option<u32>,
}

/// Who computes the checksums of what a device receives and sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// The device, where that saves us the work: of what is received wherever it can, of what is sent only if it is a NIC.
    /// The drivers of virtual devices only do with the CPU what we do as well.
    #[default]
    Auto,
    /// The device, both ways; one that cannot is refused.
    Device,
    /// We do, both ways.
    Software,
}

/// Who cuts what one connection sends at once into segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// The device, where it can and fills in their checksums.
    #[default]
    Auto,
    /// We do: each frame leaves as it will be on the wire.
    Software,
}

/// Writes a frame into a buffer and gives its length; see [`Port::tx_fill`].
pub type Fill<'a> = &'a mut dyn FnMut(&mut [u8]) -> Option<usize>;

/// One queue of a device.
///
/// `rx_burst` and `tx_burst` never block and never allocate. What a port must drop it counts in
/// [`PortStats`], whose sums go into the conservation law.
pub trait Port {
    /// Receives up to the room in `out`, stamping each packet's arrival and port number; gives the number.
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize;

    /// Sends from the front of `queue`, at most [`BURST_MAX`]; what cannot be taken now stays there.
    fn tx_burst(&mut self, queue: &mut TxQueue, now: Time) -> usize;

    /// Sends frames that `fill` writes into the port's own buffers, of at least `bytes` bytes, and whose lengths it gives: for
    /// who makes frames that nobody keeps, and needs no packets for them. `fill` ends it by `None`; so do `most` frames, and
    /// a port that can take no more now. Gives how many were written. `None`, and nothing is done: this port has no such
    /// buffers.
    fn tx_fill(&mut self, _most: usize, _bytes: usize, _fill: Fill) -> Option<usize> {
        None
    }

    /// What the port is.
    fn facts(&self) -> &LinkFacts;

    /// Its counts so far.
    fn stats(&self) -> PortStats;

    /// The pool that received frames come from.
    fn rx_pool(&self) -> &Pool;

    /// A file descriptor that is readable when a frame may be there, for ports that have one: what an idle core
    /// sleeps on.
    fn wait_fd(&self) -> Option<std::os::fd::RawFd> {
        None
    }

    /// The core is about to sleep on the descriptor. `false`: a frame waits already, and it must not. If it may,
    /// [`Port::end_wait`] follows.
    fn prepare_wait(&mut self) -> bool {
        true
    }

    /// The core is awake again.
    fn end_wait(&mut self) {}
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        (**self).rx_burst(out, now)
    }
    fn tx_burst(&mut self, queue: &mut TxQueue, now: Time) -> usize {
        (**self).tx_burst(queue, now)
    }
    fn tx_fill(&mut self, most: usize, bytes: usize, fill: Fill) -> Option<usize> {
        (**self).tx_fill(most, bytes, fill)
    }
    fn facts(&self) -> &LinkFacts {
        (**self).facts()
    }
    fn stats(&self) -> PortStats {
        (**self).stats()
    }
    fn rx_pool(&self) -> &Pool {
        (**self).rx_pool()
    }
    fn wait_fd(&self) -> Option<std::os::fd::RawFd> {
        (**self).wait_fd()
    }
    fn prepare_wait(&mut self) -> bool {
        (**self).prepare_wait()
    }
    fn end_wait(&mut self) {
        (**self).end_wait();
    }
}

/// What a port has counted since it was opened. Every frame is in exactly one place of each sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames that reached us: given to the core, or missed, damaged, dropped for want of a buffer, or too long.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Of `rx_packets`, those that were copied into a cell though this port's own buffers are not: they came in buffers of
    /// another port's, or in several.
    pub rx_copied: u64,
    /// Received, but no cell was free.
    pub rx_no_buffer: u64,
    /// Received, but longer than a cell, or than the port's MTU allows.
    pub rx_too_long: u64,
    /// Dropped by the device, because nobody fetched them in time. Their bytes are not known.
    pub rx_missed: u64,
    /// Came damaged, or longer than the device takes, and was dropped by it. Their bytes are not known.
    pub rx_damaged: u64,
    /// Frames that the device has taken.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that the device refused for good (link down, too long).
    pub tx_errors: u64,
    /// Of `tx_packets`, what the device says that it has dropped all the same.
    pub tx_unsent: u64,
    /// Frames that were written into the port's own buffers and that the device has not taken yet.
    pub tx_held: u64,
}

/// Packets that were built and wait for a port: bounded, first in, first out.
pub struct TxQueue {
    /// A ring; as many places as a power of two.
    ring: Box<[Option<Packet>]>,
    first: usize,
    len: usize,
    bound: usize,
    /// Packets put in, whether they found room or not ("built").
    pub built: u64,
    /// Packets dropped because the queue was full.
    pub dropped: u64,
}

impl TxQueue {
    /// A queue of at most `bound` packets, allocated now.
    pub fn new(bound: usize) -> TxQueue {
        let ring = (0..bound.next_power_of_two()).map(|_| None).collect();
        TxQueue { ring, first: 0, len: 0, bound, built: 0, dropped: 0 }
    }

    /// The place of the packet `n` behind the first.
    #[inline]
    fn at(&self, n: usize) -> usize {
        self.first.wrapping_add(n) & (self.ring.len() - 1)
    }

    /// Room for how many more.
    #[inline]
    pub fn room(&self) -> usize {
        self.bound - self.len
    }

    /// Queues a packet, or drops and counts it when there is no room.
    #[inline(always)]
    pub fn push(&mut self, p: Packet) {
        self.built += 1;
        if self.room() == 0 {
            self.dropped += 1;
        } else {
            let at = self.at(self.len);
            let none = self.ring[at].replace(p);
            debug_assert!(none.is_none());
            // Nothing is there to be dropped: this spares looking.
            std::mem::forget(none);
            self.len += 1;
        }
    }

    /// The first packet.
    #[inline]
    pub fn front(&self) -> Option<&Packet> {
        self.ring[self.first].as_ref()
    }

    /// Takes the first packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        let p = self.ring[self.first].take()?;
        self.first = self.at(1);
        self.len -= 1;
        Some(p)
    }

    /// Puts a packet back in front: what a port did not take after all. Not counted as built again.
    pub fn push_front(&mut self, p: Packet) {
        debug_assert!(self.len < self.ring.len(), "more put back than was taken");
        self.first = self.at(self.ring.len() - 1);
        self.ring[self.first] = Some(p);
        self.len += 1;
    }

    /// Packets waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
