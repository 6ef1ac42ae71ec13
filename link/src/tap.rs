//! One end of the link on a TAP device: no second interface is needed, and the kernel finishes checksums and cuts
//! segments before they come here. A system call for each frame.
#![allow(unsafe_code)] // ioctl on /dev/net/tun.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use dataplane::Time;
use dataplane::port::link::InFlight;

use crate::end::{BATCH, Drained};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TAP_NO_PI: libc::c_short = 0x1002;

/// A TAP device of one queue.
pub struct TapEnd {
    file: File,
    frame: Box<[u8]>,
}

impl TapEnd {
    /// Opens the device, or makes it, in the namespace of this thread.
    pub fn open(name: &str) -> io::Result<TapEnd> {
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // SAFETY: all zeroes are a value of it.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.is_empty() || name.len() >= request.ifr_name.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = IFF_TAP_NO_PI;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(TapEnd { file, frame: vec![0; 64 << 10].into_boxed_slice() })
    }

    /// Gives up to [`BATCH`] frames that have come to `take`. They have no time of arrival: it is now.
    pub fn drain(&mut self, now: Time, mut take: impl FnMut(&[u8], Time)) -> Drained {
        let mut out = Drained::default();
        while out.frames < BATCH {
            // Nothing there, or the device is down: both look the same.
            let Ok(len) = (&self.file).read(&mut self.frame) else { break };
            out.frames += 1;
            take(&self.frame[..len], now);
        }
        out
    }

    /// Sends frames in order; `done` hears of each whether the far side took it.
    pub fn send(&mut self, frames: &[InFlight], mut done: impl FnMut(usize, io::Result<()>)) {
        for (i, frame) in frames.iter().enumerate() {
            done(i, (&self.file).write(&frame.bytes).map(drop));
        }
    }

    /// What to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
