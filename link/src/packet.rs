//! One end of the link on a network interface: a packet socket. Frames come through a ring that the kernel fills
//! (TPACKET_V2: each frame is ours as soon as it is there, stamped with its arrival; the blocks of V3 come with up to
//! some milliseconds of delay), and leave by sendmmsg, past the queueing discipline.
//!
//! Frames wait in the ring with their arrival times, so a shim that wakes late loses nothing but lateness.
#![allow(unsafe_code)] // packet sockets, their ring.

use std::ffi::CString;
use std::io;
use std::mem::{offset_of, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dataplane::Time;
use dataplane::port::link::InFlight;

use crate::end::{BATCH, Drained};

const RING_BYTES: usize = 16 << 20;
const BLOCK_BYTES: usize = 1 << 18;
/// What the kernel puts before a frame: its header, an address, room for alignment.
const SLOT_HEADER: usize = 96;

/// A packet socket on an interface.
pub struct PacketEnd {
    socket: OwnedFd,
    ring: NonNull<u8>,
    slot_bytes: usize,
    slots: usize,
    next: usize,
    /// For frames whose VLAN tag the kernel has taken off.
    tagged: Vec<u8>,
}

impl PacketEnd {
    /// Binds to the interface, in the namespace of this thread.
    pub fn open(interface: &str) -> io::Result<PacketEnd> {
        let name = CString::new(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a string that ends in zero.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0: nothing is received before everything is set.
        // SAFETY: plain numbers; the descriptor that comes back is ours alone.
        let socket = unsafe {
            let fd =
                libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mtu = mtu_of(&socket, interface)?;
        let slot_bytes = (mtu + 18 + SLOT_HEADER).next_power_of_two().clamp(2048, BLOCK_BYTES);
        let slots = RING_BYTES / slot_bytes;
        let option = |name: libc::c_int, value: &dyn Plain| value.set(&socket, name);
        option(libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as libc::c_int))?;
        option(libc::PACKET_IGNORE_OUTGOING, &1)?;
        option(libc::PACKET_QDISC_BYPASS, &1)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: (RING_BYTES / BLOCK_BYTES) as u32,
            tp_frame_size: slot_bytes as u32,
            tp_frame_nr: slots as u32,
        };
        option(libc::PACKET_RX_RING, &request)?;
        // SAFETY: a new mapping, of the ring that the socket has just been given.
        let ring = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                RING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                0,
            )
        };
        let ring = NonNull::new(ring.cast::<u8>()).filter(|p| p.as_ptr().cast() != libc::MAP_FAILED);
        let ring = ring.ok_or_else(io::Error::last_os_error)?;
        let end = PacketEnd { socket, ring, slot_bytes, slots, next: 0, tagged: Vec::new() };

        // Frames for whomever: on a veth they come anyway, on a card only if it is told.
        // SAFETY: all zeroes are a value of it.
        let mut everything: libc::packet_mreq = unsafe { zeroed() };
        everything.mr_ifindex = index as libc::c_int;
        everything.mr_type = libc::PACKET_MR_PROMISC as u16;
        everything.set(&end.socket, libc::PACKET_ADD_MEMBERSHIP)?;
        // SAFETY: all zeroes are a value of it.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as libc::c_int;
        // SAFETY: the address lives until the call is over, and its length is told.
        let bound = unsafe {
            libc::bind(
                end.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(end)
    }

    /// Gives up to [`BATCH`] frames that have come to `take`, with the times of their arrival.
    pub fn drain(&mut self, now: Time, mut take: impl FnMut(&[u8], Time)) -> Drained {
        let mut out = Drained::default();
        let mut real_ns = 0;
        while out.frames < BATCH {
            // SAFETY: slots lie one after the other in the ring, which is mapped as long as `self` lives.
            let slot = unsafe { self.ring.add(self.next * self.slot_bytes) };
            // SAFETY: the kernel and we hand a slot to each other by this word, which is aligned in it.
            let status = unsafe {
                AtomicU32::from_ptr(slot.add(offset_of!(libc::tpacket2_hdr, tp_status)).cast().as_ptr())
            };
            let flags = status.load(Ordering::Acquire);
            if flags & libc::TP_STATUS_USER == 0 {
                break;
            }
            if real_ns == 0 {
                real_ns = unix_ns();
            }
            // SAFETY: the slot is ours, and begins with its header.
            let head = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
            let stamp = u64::from(head.tp_sec) * 1_000_000_000 + u64::from(head.tp_nsec);
            // A clock that is set while frames wait must not age them by hours.
            let age = real_ns.saturating_sub(stamp).min(1_000_000_000);
            let at = Time(now.0.saturating_sub(age));
            let (mac, len) = (usize::from(head.tp_mac), head.tp_snaplen as usize);
            out.frames += 1;
            out.unfinished += u64::from(flags & libc::TP_STATUS_CSUMNOTREADY != 0);
            if head.tp_snaplen < head.tp_len || mac + len > self.slot_bytes {
                out.oversize += 1;
            } else {
                // SAFETY: the kernel has written `len` bytes there, within the slot, and writes no more until we
                // give it back.
                let frame = unsafe { std::slice::from_raw_parts(slot.add(mac).as_ptr(), len) };
                if flags & libc::TP_STATUS_VLAN_VALID != 0 && len >= 12 {
                    let known = flags & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                    let tpid = if known { head.tp_vlan_tpid } else { 0x8100 };
                    self.tagged.clear();
                    self.tagged.extend_from_slice(&frame[..12]);
                    self.tagged.extend_from_slice(&tpid.to_be_bytes());
                    self.tagged.extend_from_slice(&head.tp_vlan_tci.to_be_bytes());
                    self.tagged.extend_from_slice(&frame[12..]);
                    take(&self.tagged, at);
                } else {
                    take(frame, at);
                }
            }
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.slots;
        }
        out
    }

    /// Sends frames in order; `done` hears of each whether the far side took it.
    pub fn send(&mut self, frames: &[InFlight], mut done: impl FnMut(usize, io::Result<()>)) {
        // SAFETY: all zeroes are a value of both: no name, no control data, no parts.
        let (mut heads, mut parts): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        let frames = &frames[..frames.len().min(BATCH)];
        for ((frame, part), head) in frames.iter().zip(&mut parts).zip(&mut heads) {
            part.iov_base = frame.bytes.as_ptr().cast_mut().cast();
            part.iov_len = frame.bytes.len();
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
        }
        let mut at = 0;
        while at < frames.len() {
            let rest = &mut heads[at..frames.len()];
            // SAFETY: each header names one part, each part the bytes of a frame that outlives the call, which only
            // reads them.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            if sent > 0 {
                for i in at..at + sent as usize {
                    done(i, Ok(()));
                }
                at += sent as usize;
            } else {
                let e = io::Error::last_os_error();
                if e.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                done(at, Err(e));
                at += 1;
            }
        }
    }

    /// Frames since the last call that found the ring full.
    pub fn missed(&self) -> u64 {
        // SAFETY: all zeroes are a value of it.
        let mut stats: libc::tpacket_stats = unsafe { zeroed() };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes of a struct that outlives the call.
        let got = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        if got == 0 { u64::from(stats.tp_drops) } else { 0 }
    }

    /// What to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

// SAFETY: the ring belongs to this value alone, whichever thread has it.
unsafe impl Send for PacketEnd {}

impl Drop for PacketEnd {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`, and nothing points into it any more.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), RING_BYTES) };
    }
}

fn mtu_of(socket: &OwnedFd, interface: &str) -> io::Result<usize> {
    // SAFETY: all zeroes are a value of it.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU reads and writes one ifreq, which outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in the MTU.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.max(68) as usize)
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos() as u64
}

/// What a socket option is made of.
trait Plain {
    fn set(&self, socket: &OwnedFd, name: libc::c_int) -> io::Result<()>;
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Plain for $t {
            fn set(&self, socket: &OwnedFd, name: libc::c_int) -> io::Result<()> {
                // SAFETY: a C struct or number, read for its own length.
                let set = unsafe {
                    libc::setsockopt(
                        socket.as_raw_fd(),
                        libc::SOL_PACKET,
                        name,
                        std::ptr::from_ref(self).cast(),
                        size_of::<$t>() as libc::socklen_t,
                    )
                };
                if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            }
        }
    )*};
}

plain!(libc::c_int, libc::tpacket_req, libc::packet_mreq);
