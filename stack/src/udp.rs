//! UDP (RFC 768): who listens, and nothing else yet: datagrams wait in a bounded queue for their owner.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use dataplane::{Ctr, Packet};

/// Ports that can be listened on.
pub const LISTENERS_MAX: usize = 16;

/// UDP of one core.
pub struct Udp {
    listeners: ArrayVec<u16, LISTENERS_MAX>,
    received: VecDeque<Packet>,
    bound: usize,
}

impl Udp {
    /// With room for `bound` datagrams that their owner has not taken.
    pub fn new(bound: usize) -> Udp {
        Udp { listeners: ArrayVec::new(), received: VecDeque::with_capacity(bound), bound }
    }

    /// Takes datagrams to `port`; `false` when too many ports are listened on.
    pub fn listen(&mut self, port: u16) -> bool {
        self.listeners.try_push(port).is_ok()
    }

    /// Whether somebody takes datagrams to `port`.
    pub(crate) fn is_listening(&self, port: u16) -> bool {
        self.listeners.contains(&port)
    }

    /// Takes a parsed datagram; gives it back when nothing listens on its port.
    pub(crate) fn input(&mut self, p: Packet) -> Result<Ctr, Packet> {
        let l4 = p.meta().l4 as usize;
        let port = u16::from_be_bytes([p.head()[l4 + 2], p.head()[l4 + 3]]);
        if !self.listeners.contains(&port) {
            return Err(p);
        }
        if self.received.len() == self.bound {
            return Ok(Ctr::DropUdpQueueFull);
        }
        self.received.push_back(p);
        Ok(Ctr::RxAccepted)
    }

    /// The next datagram.
    pub fn take(&mut self) -> Option<Packet> {
        self.received.pop_front()
    }
}
