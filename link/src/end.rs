//! The two ends of a link: where they are, and what can be done with either kind.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use dataplane::Time;
use dataplane::port::link::InFlight;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::packet::PacketEnd;
use crate::tap::TapEnd;

/// Frames that are taken or given at a time.
pub const BATCH: usize = 32;

/// What came in one go.
#[derive(Default)]
pub struct Drained {
    /// Frames, those among them that were not passed on.
    pub frames: usize,
    /// Longer than the interface carries: segments that the sender leaves for its card to cut. Not passed on.
    pub oversize: u64,
    /// With a checksum that the sender leaves for its card to finish.
    pub unfinished: u64,
}

/// An end's name: `[NAMESPACE/]INTERFACE` or `[NAMESPACE/]tap:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    namespace: Option<String>,
    tap: bool,
    device: String,
}

impl Place {
    /// Reads a name.
    pub fn parse(word: &str) -> Result<Place, String> {
        let (namespace, rest) = match word.split_once('/') {
            Some((namespace, rest)) => (Some(namespace.to_owned()), rest),
            None => (None, word),
        };
        let (tap, device) = match rest.strip_prefix("tap:") {
            Some(name) => (true, name),
            None => (false, rest),
        };
        let good = !device.is_empty() && device.len() < libc::IFNAMSIZ && !device.contains(['/', ':']);
        if !good || namespace.as_ref().is_some_and(String::is_empty) {
            return Err(format!("\"{word}\" is not [NAMESPACE/]INTERFACE or [NAMESPACE/]tap:NAME"));
        }
        Ok(Place { namespace, tap, device: device.to_owned() })
    }

    /// Opens it, from a thread that enters the namespace: the descriptor works from every other.
    pub fn open(&self) -> Result<End, String> {
        let failed = |e: &dyn std::fmt::Display| format!("cannot open {self}: {e}");
        let open = || -> io::Result<End> {
            Ok(match self.tap {
                true => End::Tap(TapEnd::open(&self.device)?),
                false => End::Packet(PacketEnd::open(&self.device)?),
            })
        };
        let Some(namespace) = &self.namespace else { return open().map_err(|e| failed(&self.mend(&e))) };
        let door = File::open(format!("/run/netns/{namespace}"))
            .map_err(|e| failed(&format!("no namespace {namespace} ({e}); ip netns list shows them")))?;
        let inside = || {
            move_into_link_name_space(door.as_fd(), Some(LinkNameSpaceType::Network))?;
            open()
        };
        let opened = thread::scope(|s| s.spawn(inside).join());
        opened.map_err(|_| failed(&"the thread ended"))?.map_err(|e| failed(&self.mend(&e)))
    }

    fn mend(&self, e: &io::Error) -> String {
        match e.raw_os_error() {
            Some(libc::EPERM) => format!("{e}; needs root, or CAP_NET_RAW and CAP_NET_ADMIN there"),
            Some(libc::ENODEV | libc::ENXIO) => format!("{e}; ip link shows the interfaces"),
            Some(libc::EBUSY) => format!("{e}; another process has it open"),
            _ => e.to_string(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}{}", if self.tap { "tap:" } else { "" }, self.device)
    }
}

/// An open end.
pub enum End {
    /// A network interface.
    Packet(PacketEnd),
    /// A TAP device.
    Tap(TapEnd),
}

impl End {
    /// Gives up to [`BATCH`] frames that have come to `take`, with the times of their arrival.
    pub fn drain(&mut self, now: Time, take: impl FnMut(&[u8], Time)) -> Drained {
        match self {
            End::Packet(p) => p.drain(now, take),
            End::Tap(t) => t.drain(now, take),
        }
    }

    /// Sends frames in order; `done` hears of each whether the far side took it.
    pub fn send(&mut self, frames: &[InFlight], done: impl FnMut(usize, io::Result<()>)) {
        match self {
            End::Packet(p) => p.send(frames, done),
            End::Tap(t) => t.send(frames, done),
        }
    }

    /// Frames since the last call that were dropped before they came to us.
    pub fn missed(&self) -> u64 {
        match self {
            End::Packet(p) => p.missed(),
            End::Tap(_) => 0,
        }
    }

    /// What to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Packet(p) => p.fd(),
            End::Tap(t) => t.fd(),
        }
    }
}
