//! A handshake's place, and what it reads of its connection.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use stack::FlowId;

use super::Peers;
use crate::tls::handshake::{Handshake, SHORT_INPUT_BYTES_MAX, certificates_bytes_max};
use crate::tls::hello;
use crate::tls::queue::Links;
use crate::tls::sources::Source;

/// A handshake's place.
pub(super) struct Slot {
    pub flow: FlowId,
    pub source: Source,
    pub state: State,
    /// Which of those that have had this slot.
    pub generation: u32,
    pub links: Links,
    pub side: Side,
    /// The next step is slow.
    pub is_slow: bool,
    /// Its key exchange takes long, in whichever step.
    pub slow_exchange: bool,
    /// The peer's certificates will have to be verified, if it is a full handshake.
    pub verifies: bool,
    /// The client shows some: then rustls keeps all messages in TLS 1.2.
    pub by_client: bool,
    /// It has a place for long ones.
    pub is_long: bool,
    pub entry: u16,
    pub policy: u32,
    pub name: Option<Box<str>>,
    pub early: Early,
    /// Bytes taken of the record that is next, which may be early data, and not consumed.
    pub taken: usize,
}

/// What has become of a client's early data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Early {
    /// It sends none.
    None,
    /// It says that it does. Mostly it was refused when none comes.
    Offered,
    /// Some was taken.
    Taken,
}

/// Whose side of a handshake is ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// How far a handshake is.
pub(super) enum State {
    Free,
    /// What has come of a hello, and where the record ends whose header is there.
    Hello {
        bytes: Vec<u8>,
        shown: usize,
    },
    /// We are to say hello to an origin.
    Asks(Arc<ClientConfig>, ServerName<'static>),
    Running {
        handshake: Box<Handshake>,
    },
    Away,
}

impl Slot {
    /// One for this connection.
    pub fn new(flow: FlowId, source: Source, side: Side, state: State, generation: u32) -> Slot {
        Slot {
            flow,
            source,
            state,
            generation,
            links: Links::default(),
            side,
            is_slow: false,
            slow_exchange: false,
            verifies: side == Side::Client,
            by_client: false,
            is_long: false,
            entry: 0,
            policy: 0,
            name: None,
            early: Early::None,
            taken: 0,
        }
    }

    /// One that belongs to nobody.
    pub fn free() -> Slot {
        Slot::new(FlowId::NONE, Source::NONE, Side::Server, State::Free, 0)
    }
}

impl AsMut<Links> for Slot {
    fn as_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// What came of reading a hello, or a record.
#[derive(PartialEq, Eq)]
pub(super) enum Read {
    Missing,
    Whole,
    /// There is no place for something that long.
    NoRoom,
}

/// How much of its peer's a handshake may hold.
pub(super) struct Room<'a> {
    /// It may be certificates.
    pub verifies: bool,
    /// The client shows some.
    pub by_client: bool,
    /// It has a place for long ones.
    pub is_long: &'a mut bool,
    /// Places that are left.
    pub places: &'a mut u32,
}

impl Room<'_> {
    /// Whether there is room for so many bytes more.
    fn takes(&mut self, handshake: &Handshake, bytes: usize) -> bool {
        let short = match self.verifies {
            true => certificates_bytes_max(!handshake.is_tls12(), self.by_client),
            false => SHORT_INPUT_BYTES_MAX,
        };
        if handshake.held() + bytes <= short || *self.is_long {
            return true;
        }
        let Some(left) = self.places.checked_sub(1) else { return false };
        (*self.places, *self.is_long) = (left, true);
        true
    }
}

/// Takes records until there is a whole hello, or what is none; no more than that.
pub(super) fn read_hello(
    bytes: &mut Vec<u8>,
    shown: &mut usize,
    flow: FlowId,
    peers: &mut impl Peers,
) -> Read {
    loop {
        let missing = hello::missing(bytes.get(*shown..).unwrap_or_default());
        if missing == 0 {
            *shown = bytes.len();
            return Read::Whole;
        }
        let received = peers.received(flow);
        if received.is_empty() {
            return Read::Missing;
        }
        let take = missing.min(received.len());
        bytes.reserve_exact(take);
        bytes.extend_from_slice(&received[..take]);
        peers.take(flow, take);
        peers.consume(flow, take);
    }
}

/// Takes what is missing of a record, which may be early data: then it is added to `taken`.
pub(super) fn read_record(
    handshake: &mut Handshake,
    flow: FlowId,
    (early, taken): (Early, &mut usize),
    mut room: Room<'_>,
    peers: &mut impl Peers,
) -> Read {
    loop {
        let missing = handshake.wants();
        if missing == 0 {
            return Read::Whole;
        }
        let received = peers.received(flow);
        if received.is_empty() {
            return Read::Missing;
        }
        if !room.takes(handshake, missing) {
            return Read::NoRoom;
        }
        let take = missing.min(received.len());
        handshake.give(&received[..take]);
        peers.take(flow, take);
        match early {
            Early::None => peers.consume(flow, take),
            Early::Offered | Early::Taken => *taken += take,
        }
    }
}
