//! Route netlink (rtnetlink(7)): requests as bytes, answers as messages and attributes. Only what the exception path
//! needs; every length is checked, as in any parser.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Message types.
pub mod kind {
    /// An answer: 0, or the negative error.
    pub const ERROR: u16 = 2;
    /// The end of a dump.
    pub const DONE: u16 = 3;
    /// An interface is there, or is to be changed.
    pub const NEW_LINK: u16 = 16;
    /// An interface is gone.
    pub const DEL_LINK: u16 = 17;
    /// An address is there, or is to be added.
    pub const NEW_ADDR: u16 = 20;
    /// An address is gone.
    pub const DEL_ADDR: u16 = 21;
    /// All addresses.
    pub const GET_ADDR: u16 = 22;
    /// A route is there.
    pub const NEW_ROUTE: u16 = 24;
    /// A route is gone.
    pub const DEL_ROUTE: u16 = 25;
    /// All routes.
    pub const GET_ROUTE: u16 = 26;
    /// A neighbour is there, or is to be used.
    pub const NEW_NEIGH: u16 = 28;
    /// A neighbour is gone.
    pub const DEL_NEIGH: u16 = 29;
    /// One neighbour.
    pub const GET_NEIGH: u16 = 30;
}

/// Flags of requests.
pub mod flag {
    /// Answer with success, too.
    pub const ACK: u16 = 4;
    /// All there are.
    pub const DUMP: u16 = 0x300;
    /// Not if it is there already.
    pub const EXCL: u16 = 0x200;
    /// Make it if it is not there.
    pub const CREATE: u16 = 0x400;
}

/// Groups of events, as bits: links, neighbours, addresses and routes of both families.
pub const EVENTS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;

/// Address families.
pub const INET: u8 = 2;
/// IPv6.
pub const INET6: u8 = 10;

const REQUEST: u16 = 1;
const HEADER_BYTES: usize = 16;
/// More than the kernel puts into one datagram.
const BUFFER_BYTES: usize = 64 << 10;
/// How long the kernel may take to answer: it does so at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message to the kernel.
pub struct Request(Vec<u8>);

impl Request {
    /// One of this kind, with its fixed part.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Request {
        let mut b = vec![0; HEADER_BYTES];
        b[4..6].copy_from_slice(&kind.to_ne_bytes());
        b[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        b.extend(fixed);
        Request(b)
    }

    /// With an attribute.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self
    }

    /// As it is sent.
    pub(super) fn bytes(&mut self, sequence: u32) -> &[u8] {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.0
    }
}

/// A message from the kernel.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER_BYTES)?;
        let len = word(header, 0)? as usize;
        let body = rest.get(HEADER_BYTES..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: half(header, 4)?, sequence: word(header, 8)?, body })
    })
}

impl<'a> Message<'a> {
    /// The fixed part, `N` bytes.
    pub fn fixed<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.body.first_chunk()
    }

    /// The value of an attribute, behind a fixed part of `fixed` bytes.
    pub fn attribute(&self, fixed: usize, kind: u16) -> Option<&'a [u8]> {
        attributes(self.body.get(fixed..)?).find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    /// The error of an answer, when it is one.
    fn error(&self) -> Option<io::Result<()>> {
        (self.kind == kind::ERROR).then(|| match word(self.body, 0) {
            Some(0) => Ok(()),
            Some(e) => Err(io::Error::from_raw_os_error((e as i32).wrapping_neg())),
            None => Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// Kinds and values of attributes.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(half(rest, 0)?);
        // The two highest bits say how the value is written.
        let kind = half(rest, 2)? & 0x3fff;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Two bytes.
pub fn half(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes.
pub fn word(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

/// An address of a family's length.
pub fn ip(b: &[u8]) -> Option<IpAddr> {
    match b.len() {
        4 => <[u8; 4]>::try_from(b).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(b).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The bytes of an address.
pub fn octets(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The family of an address.
pub fn family(ip: &IpAddr) -> u8 {
    if ip.is_ipv4() { INET } else { INET6 }
}

/// A socket of the network namespace that the thread is in.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Socket {
    /// A socket for questions.
    pub fn new() -> io::Result<Socket> {
        let s = Socket::bound(0, SocketFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&s.fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(s)
    }

    /// A socket for events, which never waits.
    pub fn of_events() -> io::Result<Socket> {
        let s = Socket::bound(EVENTS, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // What does not fit is told, and everything is read anew.
        let _ = sockopt::set_socket_recv_buffer_size(&s.fd, 1 << 20);
        Ok(s)
    }

    fn bound(groups: u32, flags: SocketFlags) -> io::Result<Socket> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Socket { fd, sequence: 0, buffer: vec![0; BUFFER_BYTES].into() })
    }

    /// Readable when events are there.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Gives the next datagram of events to `take`; `false` when there is none.
    ///
    /// # Errors
    /// `ENOBUFS`: some were lost.
    pub fn events(&mut self, mut take: impl FnMut(Message<'_>)) -> io::Result<bool> {
        match rustix::net::recv(&self.fd, &mut *self.buffer, RecvFlags::empty()) {
            Ok((_, len)) => {
                messages(&self.buffer[..len.min(BUFFER_BYTES)]).for_each(&mut take);
                Ok(true)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Asks, and gives each message of the answer to `take`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ask(&mut self, mut request: Request, mut take: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.sequence += 1;
        let sequence = self.sequence;
        rustix::net::send(&self.fd, request.bytes(sequence), SendFlags::empty())?;
        loop {
            let (_, len) = match rustix::net::recv(&self.fd, &mut *self.buffer, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => continue,
                r => r?,
            };
            for m in messages(&self.buffer[..len.min(BUFFER_BYTES)]).filter(|m| m.sequence == sequence) {
                match m.error() {
                    Some(answer) => return answer,
                    None if m.kind == kind::DONE => return Ok(()),
                    None => take(m),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut r = Request::new(kind::NEW_NEIGH, flag::ACK, &[7; 12]).with(1, &[1, 2, 3]).with(2, &[9; 6]);
        let bytes = [r.bytes(5), Request::new(kind::DONE, 0, &[]).bytes(5)].concat();
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.iter().map(|m| (m.kind, m.sequence)).collect::<Vec<_>>(), [(28, 5), (3, 5)]);
        assert_eq!(all[0].fixed(), Some(&[7; 12]));
        assert_eq!(all[0].attribute(12, 1), Some(&[1, 2, 3][..]));
        assert_eq!(all[0].attribute(12, 2), Some(&[9; 6][..]));
        assert_eq!((all[0].attribute(12, 3), all[1].fixed::<12>()), (None, None));
    }

    #[test]
    fn cut_messages_end_the_list() {
        let whole = Request::new(kind::ERROR, 0, &(-1i32).to_ne_bytes()).with(1, &[1; 4]).bytes(1).to_vec();
        for n in 0..=whole.len() {
            let all: Vec<_> = messages(&whole[..n]).collect();
            assert_eq!(all.len(), usize::from(n == whole.len()), "{n} bytes");
            for m in all {
                assert_eq!(m.error().unwrap().unwrap_err().raw_os_error(), Some(1));
            }
            // As attributes they are nonsense, and end too.
            assert!(attributes(&whole[..n]).count() <= n);
        }
    }
}
