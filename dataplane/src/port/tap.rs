//! `tap`: a kernel TAP device, one queue for each core, one copy each way. Works in an unprivileged user and network
//! namespace. The kernel is the other end of the wire, with the TAP's own MAC; ours is another one, or a
//! bridge between would not deliver.
//!
//! With several queues the kernel chooses among them: it remembers for each flow (by a hash that is the same in both
//! directions) which queue sent last, for 3 s after the last packet; then, and for flows that it has not seen, the
//! hash alone decides. So a client's connection stays on the queue of its SYN, but packets of a connection that we
//! opened may come on another queue once it was idle: whoever uses this port steers them in software.
#![allow(unsafe_code)] // ioctl on /dev/net/tun, read, write, poll.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::{BURST_MAX, Burst, LinkFacts, Mac, Port, PortStats, TxQueue, mem::receive_copy};
use crate::{Packet, Pool, Time};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TAP: libc::c_short = 0x0002;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_MULTI_QUEUE: libc::c_short = 0x0100;

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
    /// A frame longer than a cell is still read whole, so that it can be counted.
    spill: Box<[u8]>,
    linear: Box<[u8]>,
}

impl TapPort {
    /// Opens the TAP device `name`, or creates it; `mac` is our address on it, not the device's. `queues` is how many
    /// times it will be opened, each for a queue of its own.
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
        req.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI | if several { IFF_MULTI_QUEUE } else { 0 };
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
        let facts = LinkFacts {
            kind: "tap",
            device: name.to_owned(),
            mac,
            mtu,
            mode: match queues {
                0 | 1 => "1 queue, copy, checksums in software".to_owned(),
                n => format!("{n} queues, copy, checksums in software, software steering"),
            },
            rx_checksum_offload: false,
            tx_checksum_offload: false,
            rss: None,
        };
        let frame = vec![0; 64 << 10].into_boxed_slice();
        let linear = vec![0; 64 << 10].into_boxed_slice();
        let (stats, next_read) = (PortStats::default(), Time(0));
        Ok(TapPort { file, pool, facts, stats, number, rest_ns: 0, next_read, spill: frame, linear })
    }

    /// The same, read at most once in `rest_ns` while there is nothing: for one beside a port that matters more, as each
    /// look is a system call. A core that sleeps is woken at once all the same.
    pub fn resting(mut self, rest_ns: u64) -> TapPort {
        self.rest_ns = rest_ns;
        self
    }

    fn read_into(fd: RawFd, p: &mut Packet, spill: &mut [u8]) -> isize {
        let room = p.room_mut();
        let parts = [
            libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() },
            libc::iovec { iov_base: spill.as_mut_ptr().cast(), iov_len: spill.len() },
        ];
        // SAFETY: both parts are writable for their lengths and outlive the call.
        unsafe { libc::readv(fd, parts.as_ptr(), 2) }
    }
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
        let before = out.len();
        for _ in 0..out.remaining_capacity() {
            let Some(mut p) = self.pool.alloc() else {
                // Nothing to receive into: drain into the spill buffer so that the drop is ours, and counted.
                let Ok(n) = io::Read::read(&mut &self.file, &mut self.spill) else { break };
                receive_copy(&self.spill[..n], &self.pool, &mut self.stats, self.number, now);
                continue;
            };
            let n = Self::read_into(self.file.as_raw_fd(), &mut p, &mut self.spill);
            if n <= 0 {
                break; // EAGAIN: nothing there; anything else (link down) looks the same to the core.
            }
            self.stats.rx_packets += 1;
            self.stats.rx_bytes += n as u64;
            if n as usize > p.room_mut().len() {
                self.stats.rx_too_long += 1;
                continue;
            }
            p.set_len(n as usize);
            let m = p.meta_mut();
            m.arrival = now;
            m.port = self.number;
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
            let sent = match p.copy_to(&mut self.linear) {
                Some(len) => (&self.file).write(&self.linear[..len]),
                None => Err(io::ErrorKind::InvalidInput.into()),
            };
            match sent {
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
            let e = TapPort::open(name, [2; 6], 1500, pool.clone(), 0, 1).err().expect("refused");
            assert!(e.to_string().contains("interface name"), "{e}");
        }
    }
}
