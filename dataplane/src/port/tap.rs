//! `tap`: a kernel TAP device, one queue for each core, one copy each way, the kernel's. Works in an unprivileged user and network
//! namespace. The kernel is the other end of the wire, with the TAP's own MAC; ours is another one, or a
//! bridge between would not deliver.
//!
//! With several queues the kernel chooses among them: it remembers for each flow (by a hash that is the same in both
//! directions) which queue sent last, for 3 s after the last packet; then, and for flows that it has not seen, the
//! hash alone decides. So a client's connection stays on the queue of its SYN, but packets of a connection that we
//! opened may come on another queue once it was idle: whoever uses this port steers them in software.
//!
//! Where it is asked to ([`Offloads`]), the kernel fills in checksums and cuts segments: a frame for segmentation costs one
//! system call and one walk through the kernel's stack for all its segments. Whether anybody ever does that work is the
//! kernel's affair: what is for a socket of this host never needs it, and a device may do it. Received frames are never
//! longer than the MTU.
#![allow(unsafe_code)] // ioctl on /dev/net/tun, readv, writev.

mod vnet;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use arrayvec::ArrayVec;

use super::{BURST_MAX, Burst, LinkFacts, Mac, Port, PortStats, TxQueue, mem::receive_copy};
use crate::buf::{RxFlags, TAIL_MAX};
use crate::{Packet, Pool, Time};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TAP: libc::c_short = 0x0002;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_MULTI_QUEUE: libc::c_short = 0x0100;
const IFF_VNET_HDR: libc::c_short = 0x4000;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
/// We take frames without a checksum.
const TUN_F_CSUM: libc::c_ulong = 1;
/// The longest frame for segmentation: its IP packet's length is a field of 16 bits.
const TSO_BYTES_MAX: u32 = 65_535;

/// What is left to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Received frames may come without a checksum, if they have never left this host: only for who does not pass them on.
    pub rx_checksums: bool,
    /// The checksums of TCP segments that are sent.
    pub tx_checksums: bool,
    /// Cutting what is sent into segments. Only with `tx_checksums`.
    pub segmentation: bool,
}

impl Offloads {
    fn any(self) -> bool {
        self.rx_checksums || self.tx_checksums
    }

    /// For a person.
    fn words(self) -> String {
        let by = |kernel| if kernel { "by the kernel" } else { "in software" };
        if !self.any() {
            return "checksums in software".to_owned();
        }
        let (rx, tx, cut) = (by(self.rx_checksums), by(self.tx_checksums), by(self.segmentation));
        format!("rx checksums {rx}, tx checksums {tx}, segmentation {cut}")
    }
}

/// One queue of a TAP device.
pub struct TapPort {
    file: File,
    pool: Pool,
    facts: LinkFacts,
    stats: PortStats,
    number: u8,
    /// How long it rests after it found nothing, and until when.
    rest_ns: u64,
    next_read: Time,
    /// A header stands before each frame.
    has_headers: bool,
    /// A frame longer than a cell is still read whole, so that it can be counted.
    spill: Box<[u8]>,
}

impl TapPort {
    /// Opens the TAP device `name`, or creates it; `mac` is our address on it, not the device's. `queues` is how many
    /// times it will be opened, each for a queue of its own; all with the same `offloads`.
    ///
    /// # Errors
    /// Says what to do when the right or the module is missing, or the device is busy.
    pub fn open(
        name: &str,
        mac: Mac,
        mtu: u16,
        pool: Pool,
        number: u8,
        queues: usize,
        offloads: Offloads,
    ) -> io::Result<TapPort> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("\"{name}\" is not an interface name: 1 to {} characters", libc::IFNAMSIZ - 1),
            ));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|e| explain("/dev/net/tun", &e, "load the module with: modprobe tun"))?;
        // SAFETY: an all-zero ifreq is valid.
        let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in req.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // One queue: without IFF_MULTI_QUEUE, so that a device made by `ip tuntap add` opens as it is.
        let several = queues > 1;
        let offloads = Offloads { segmentation: offloads.segmentation && offloads.tx_checksums, ..offloads };
        let has_headers = offloads.any();
        let when = |on, flag| if on { flag } else { 0 };
        req.ifr_ifru.ifru_flags =
            IFF_TAP | IFF_NO_PI | when(several, IFF_MULTI_QUEUE) | when(has_headers, IFF_VNET_HDR);
        // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut req) } != 0 {
            let e = io::Error::last_os_error();
            let mend = match e.raw_os_error() {
                Some(libc::EBUSY) => "another process has it open".to_owned(),
                Some(libc::EPERM) => "needs CAP_NET_ADMIN: run as root, or in `unshare -Urn`".to_owned(),
                Some(libc::EINVAL) => incompatible(name, several),
                Some(libc::E2BIG) => {
                    format!("the kernel gives a device fewer than {queues} queues; use fewer cores")
                }
                _ => "see ip-tuntap(8)".to_owned(),
            };
            return Err(explain(name, &e, &mend));
        }
        set_offloads(&file, offloads).map_err(|e| {
            explain(
                name,
                &e,
                "set checksums = \"software\" in the port's table: this kernel cannot leave them out",
            )
        })?;
        let does = offloads.words();
        let facts = LinkFacts {
            kind: "tap",
            device: name.to_owned(),
            mac,
            mtu,
            mode: match queues {
                0 | 1 => format!("1 queue, copy, {does}"),
                n => format!("{n} queues, copy, {does}, software steering"),
            },
            rx_checksum_offload: offloads.rx_checksums,
            tx_checksum_offload: offloads.tx_checksums,
            tso_bytes_max: if offloads.segmentation { TSO_BYTES_MAX } else { 0 },
            rss: None,
        };
        let spill = vec![0; (64 << 10) + vnet::BYTES].into_boxed_slice();
        let (stats, next_read) = (PortStats::default(), Time(0));
        Ok(TapPort { file, pool, facts, stats, number, rest_ns: 0, next_read, has_headers, spill })
    }

    /// The same, read at most once in `rest_ns` while there is nothing: for one beside a port that matters more, as each
    /// look is a system call. A core that sleeps is woken at once all the same.
    pub fn resting(mut self, rest_ns: u64) -> TapPort {
        self.rest_ns = rest_ns;
        self
    }

    /// Reads a frame: into `room`, and what does not fit into `spill`. Gives its length (none: nothing is there, or the link
    /// is down) and whether its checksum needs no look.
    #[inline]
    fn read_into(fd: RawFd, has_headers: bool, room: &mut [u8], spill: &mut [u8]) -> Option<(usize, bool)> {
        let mut header = [0u8; vnet::BYTES];
        let parts = [
            libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() },
            libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() },
            libc::iovec { iov_base: spill.as_mut_ptr().cast(), iov_len: spill.len() },
        ];
        let parts = if has_headers { &parts[..] } else { &parts[1..] };
        // SAFETY: all parts are writable for their lengths and outlive the call.
        let n = unsafe { libc::readv(fd, parts.as_ptr(), parts.len() as i32) };
        let n = usize::try_from(n).ok()?.checked_sub(header_bytes(has_headers))?;
        (n > 0).then(|| (n, has_headers && vnet::is_verified(&header)))
    }

    /// Writes a frame. Gives its length.
    #[inline]
    fn write(&self, p: &Packet) -> io::Result<usize> {
        let header = if self.has_headers { vnet::of(p) } else { [0; vnet::BYTES] };
        let mut parts: ArrayVec<libc::iovec, { 2 + TAIL_MAX }> = ArrayVec::new();
        let mut part = |bytes: &[u8]| {
            parts.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        };
        if self.has_headers {
            part(&header);
        }
        part(p.head());
        p.tail().iter().for_each(|slice| part(slice));
        // SAFETY: all parts are readable for their lengths and outlive the call, which only reads them.
        let n = unsafe { libc::writev(self.file.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
        usize::try_from(n).map(|n| n - header_bytes(self.has_headers)).map_err(|_| io::Error::last_os_error())
    }
}

#[inline]
fn header_bytes(has_headers: bool) -> usize {
    if has_headers { vnet::BYTES } else { 0 }
}

impl Drop for TapPort {
    fn drop(&mut self) {
        // The device may outlive us, and the next to open it may know nothing of unfinished checksums.
        let _ = set_offloads(&self.file, Offloads::default());
    }
}

/// Tells the kernel what it may leave out of what it gives us. Always: it remembers what the last process said.
fn set_offloads(file: &File, offloads: Offloads) -> io::Result<()> {
    let check = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let flags = if offloads.rx_checksums { TUN_F_CSUM } else { 0 };
    // SAFETY: TUNSETOFFLOAD takes its flags as they are.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, flags) })?;
    if offloads.any() {
        let bytes = vnet::BYTES as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &raw const bytes) })?;
    }
    Ok(())
}

/// What to do about a device that is there, but was made for another number of queues.
fn incompatible(name: &str, several: bool) -> String {
    let again = |flag: &str| {
        format!(
            "make it anew: ip tuntap del {name} mode tap; ip tuntap add {name} mode tap{flag}; or remove it"
        )
    };
    let found = std::fs::read_to_string(format!("/sys/class/net/{name}/tun_flags")).ok();
    let flags = found.and_then(|t| i64::from_str_radix(t.trim().trim_start_matches("0x"), 16).ok());
    match flags {
        Some(f) if f & i64::from(IFF_TAP) != 0 && several => {
            format!("it has one queue, and each core of the node needs one: {}", again(" multi_queue"))
        }
        Some(f) if f & i64::from(IFF_TAP) != 0 => {
            format!("it was made for several queues, and a node of one core uses one: {}", again(""))
        }
        _ => "it exists, but is not a TAP device; choose another name".to_owned(),
    }
}

fn explain(what: &str, e: &io::Error, mend: &str) -> io::Error {
    io::Error::new(e.kind(), format!("cannot open TAP {what}: {e}; {mend}"))
}

impl Port for TapPort {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        if now < self.next_read {
            return 0;
        }
        let (before, fd, has_headers) = (out.len(), self.file.as_raw_fd(), self.has_headers);
        for _ in 0..out.remaining_capacity() {
            let Some(mut p) = self.pool.alloc() else {
                // Nothing to receive into: drain into the spill buffer so that the drop is ours, and counted.
                let Some((n, _)) = Self::read_into(fd, has_headers, &mut [], &mut self.spill) else { break };
                receive_copy(&self.spill[..n], &self.pool, &mut self.stats, self.number, now);
                continue;
            };
            let read = Self::read_into(fd, has_headers, p.room_mut(), &mut self.spill);
            // Nothing there, or the link is down: both look the same to the core.
            let Some((n, is_verified)) = read else { break };
            self.stats.rx_packets += 1;
            self.stats.rx_bytes += n as u64;
            if n > p.room_mut().len() {
                self.stats.rx_too_long += 1;
                continue;
            }
            p.set_len(n);
            let m = p.meta_mut();
            m.arrival = now;
            m.port = self.number;
            if is_verified {
                m.flags.set(RxFlags::L4_CHECKSUM_OK);
            }
            out.push(p);
        }
        if out.len() == before {
            self.next_read = now.plus_ns(self.rest_ns);
        }
        out.len() - before
    }

    fn tx_burst(&mut self, queue: &mut TxQueue, _now: Time) -> usize {
        let mut n = 0;
        while n < BURST_MAX {
            let Some(p) = queue.pop() else { break };
            match self.write(&p) {
                Ok(len) => {
                    self.stats.tx_packets += 1;
                    self.stats.tx_bytes += len as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    queue.push_front(p);
                    break;
                }
                // EIO while the interface is down: the frame is lost, as on a wire without a link.
                Err(_) => self.stats.tx_errors += 1,
            }
            n += 1;
        }
        n
    }

    fn facts(&self) -> &LinkFacts {
        &self.facts
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn rx_pool(&self) -> &Pool {
        &self.pool
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }

    fn end_wait(&mut self) {
        self.next_read = Time(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugepages::PagePolicy;

    #[test]
    fn a_bad_name_is_refused_with_the_rule() {
        let pool = Pool::reserve("rx", 4, 2048, PagePolicy::NormalOnly).unwrap();
        for name in ["", "a-name-that-is-much-too-long"] {
            let e = TapPort::open(name, [2; 6], 1500, pool.clone(), 0, 1, Offloads::default())
                .err()
                .expect("refused");
            assert!(e.to_string().contains("interface name"), "{e}");
        }
    }
}
