//! The wire as smoltcp sees it: a device of IP packets. The Ethernet header is put on and taken off here,
//! since both MACs are known and nobody asks for them.

use std::sync::Arc;

use dataplane::port::Mac;
use dataplane::port::mem::WireEnd;
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::frame::ETHERNET;
use super::{HostCounters, bump};

/// The bridge's end of the wire.
pub(super) struct Link {
    pub(super) wire: WireEnd,
    /// Destination and source: the node, the bridge.
    macs: [u8; 12],
    mtu: usize,
    pub(super) counters: Arc<HostCounters>,
}

impl Link {
    pub(super) fn new(wire: WireEnd, node: Mac, bridge: Mac, mtu: u16, counters: Arc<HostCounters>) -> Link {
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&node);
        macs[6..].copy_from_slice(&bridge);
        Link { wire, macs, mtu: mtu.into(), counters }
    }

    /// The device that carries `packet` (an IP packet from the node, or none) in, and anything out.
    pub(super) fn device<'a>(&'a self, packet: Option<&'a [u8]>) -> LinkDevice<'a> {
        LinkDevice { link: self, packet }
    }

    fn send<R>(&self, len: usize, emit: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut emit = Some(emit);
        let mut result = None;
        self.wire.send_with(|room| {
            let frame = room.get_mut(..ETHERNET + len)?;
            let (header, packet) = frame.split_at_mut(ETHERNET);
            result = emit.take().map(|emit| emit(packet));
            header[..12].copy_from_slice(&self.macs);
            header[12..].copy_from_slice(if packet[0] >> 4 == 4 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
            Some(ETHERNET + len)
        });
        match (result, emit) {
            (Some(r), _) => r,
            (None, Some(emit)) => {
                // Not reached while room is asked for first; a lost packet is TCP's to mend.
                bump(&self.counters.wire_full);
                emit(&mut vec![0; len])
            }
            (None, None) => unreachable!("emit is taken only when it gives a result"),
        }
    }
}

/// One packet in, any number out.
pub(super) struct LinkDevice<'a> {
    link: &'a Link,
    packet: Option<&'a [u8]>,
}

pub(super) struct Rx<'a>(&'a [u8]);
pub(super) struct Tx<'a>(&'a Link);

impl Device for LinkDevice<'_> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        self.packet.take().map(|p| (Rx(p), Tx(self.link)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        self.link.wire.can_send().then_some(Tx(self.link))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        c.medium = Medium::Ip;
        c.max_transmission_unit = self.link.mtu;
        // Memory does not damage frames; the node's port says the same.
        c.checksum = ChecksumCapabilities::ignored();
        c
    }
}

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.send(len, f)
    }
}
