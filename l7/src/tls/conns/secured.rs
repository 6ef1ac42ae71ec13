//! What is kept of each connection with TLS beside its [`Session`](crate::tls::record), in 24 bytes: with TCP's control
//! block, the session's two secrets and the places in tables, an idle connection is at 1 KiB (`tests/cost.rs`).
//!
//! ```text
//!   8  plain   plaintext that the owner has not read
//!   8  rare    what few have: a failure, a client's certificate, the way for an origin's tickets
//!   4  at      its handshake, and then the last of its notes
//!   2  sent    for the size of records; of one whose owner has left: until when it may last
//!   1  stage   Free ─► (Connects ─►) Shakes ─► Open ─► Leaves
//!   1  flags                 └───────────┴───────┴─► Broken
//! ```
//!
//! Its number is its session's: that place is taken when the handshake begins, and given back with this one. Ciphertext that
//! is not opened yet is in TCP's queue, and nowhere else.

use std::ops::{Index, IndexMut};
use std::rc::Rc;
use std::sync::Arc;

use dataplane::buf::Stash;
use hugepages::{Arena, FixedVec, SlabIndex};
use rustls::ClientConfig;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;

use super::again::NoteId;
use crate::tls::certs::Identity;
use crate::tls::handshake::Failure;
use crate::tls::handshakes::HandshakeId;
use crate::tls::record::SessionId;

/// Where a connection with TLS stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not in use.
    Free,
    /// An origin's is to shake hands when TCP is connected.
    Connects,
    /// The handshake.
    Shakes(HandshakeId),
    /// Records go both ways.
    Open,
    /// Its owner has left, and TCP lacks bytes that are to be sealed again.
    Leaves,
    /// It has failed: its owner has been told, or is about to be.
    Broken,
}

/// The same without numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    #[default]
    Free,
    Connects,
    Shakes,
    Open,
    Leaves,
    Broken,
}

/// We have opened it.
pub(super) const IS_CLIENT: u8 = 1;
/// The peer has said that nothing more comes.
pub(super) const HAS_CLOSED: u8 = 2;
/// We have said so.
pub(super) const SAID_CLOSE: u8 = 4;
/// The handshake is under way, and early data has come: the owner may answer it.
pub(super) const EARLY: u8 = 8;
/// The handshake is done, and the owner has yet to hear of it.
pub(super) const NEWS: u8 = 16;
/// Its next record waits for a cell.
pub(super) const STARVES: u8 = 32;

/// A connection with TLS.
#[derive(Default)]
pub(super) struct Secured {
    /// Plaintext that the owner has not read yet.
    pub plain: Stash,
    rare: Option<Box<Rare>>,
    /// Of one that shakes hands: its handshake. Of one that is open: the last of its notes.
    at: u32,
    /// Plaintext sent since it stood still, as far as that counts. Of one that leaves: its latest end, in seconds, modulo
    /// 2^16.
    pub sent: u16,
    stage: Stage,
    flags: u8,
}

/// What a connection to an origin is to begin with.
pub(super) struct Asks {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

/// What only few connections have.
#[derive(Default)]
pub(super) struct Rare {
    /// By which policy its client was verified ([`Front::policy`](crate::tls::Front::policy)); 0: by none.
    pub policy: u32,
    /// Who the client is by the certificate that it has shown.
    pub client: Option<Rc<Identity>>,
    /// Of one to an origin that is not connected yet.
    pub asks: Option<Box<Asks>>,
    /// Of an origin's: what takes the tickets that it sends.
    pub tickets: Option<KernelConnection<ClientConnectionData>>,
    /// Why there was no handshake, or by which alert it ended.
    pub failure: Option<Failure>,
}

const _: () = assert!(size_of::<Secured>() == 24);

impl Secured {
    /// A client's that begins its handshake.
    pub fn shaking(h: HandshakeId) -> Secured {
        Secured { at: h.to_u32(), stage: Stage::Shakes, ..Secured::default() }
    }

    /// One to an origin, which is to shake hands as `asks` says when TCP is connected.
    pub fn connecting(asks: Asks) -> Secured {
        let rare = Rare { asks: Some(Box::new(asks)), ..Rare::default() };
        Secured { rare: Some(Box::new(rare)), stage: Stage::Connects, flags: IS_CLIENT, ..Secured::default() }
    }

    /// What the handshake of one that [`Phase::Connects`] is to begin with, once.
    pub fn asks(&mut self) -> Option<Asks> {
        self.rare.take()?.asks.map(|asks| *asks)
    }

    /// It does.
    pub fn shakes(&mut self, h: HandshakeId) {
        debug_assert!(self.stage == Stage::Connects);
        (self.stage, self.at) = (Stage::Shakes, h.to_u32());
    }

    /// Where it stands.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Free => Phase::Free,
            Stage::Connects => Phase::Connects,
            Stage::Shakes => Phase::Shakes(HandshakeId::from_u32(self.at)),
            Stage::Open => Phase::Open,
            Stage::Leaves => Phase::Leaves,
            Stage::Broken => Phase::Broken,
        }
    }

    /// Whether records go both ways, and its owner is there.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether its session is of use.
    #[inline]
    pub fn has_session(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Leaves)
    }

    /// Its handshake is done.
    pub fn opens(&mut self, rare: Rare) {
        debug_assert!(self.stage == Stage::Shakes);
        (self.stage, self.at) = (Stage::Open, NoteId::NONE.to_u32());
        if self.has(IS_CLIENT) || self.has(EARLY) {
            self.set(NEWS);
        }
        self.take(EARLY);
        let Rare { policy, client, asks: _, tickets, failure } = &rare;
        let is_usual = *policy == 0 && client.is_none() && tickets.is_none() && failure.is_none();
        self.rare = (!is_usual).then(|| Box::new(rare));
    }

    /// Its owner leaves, and takes nothing more; `until_s`: its latest end.
    pub fn leaves(&mut self, until_s: u16) {
        debug_assert!(self.stage == Stage::Open);
        (self.stage, self.sent) = (Stage::Leaves, until_s);
        self.plain.clear();
        self.rare = None;
    }

    /// It comes to nothing. Its notes have gone.
    pub fn breaks(&mut self) {
        debug_assert!(self.notes().is_none());
        self.stage = Stage::Broken;
    }

    /// The same, for a reason.
    pub fn breaks_by(&mut self, failure: Failure) {
        self.breaks();
        self.set_failure(failure);
    }

    /// The last of its records that can be sealed again.
    #[inline]
    pub fn notes(&self) -> NoteId {
        if self.has_session() { NoteId::from_u32(self.at) } else { NoteId::NONE }
    }

    /// Sets [`notes`](Self::notes) of one that has a session.
    pub fn set_notes(&mut self, last: NoteId) {
        debug_assert!(self.has_session());
        self.at = last.to_u32();
    }

    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    #[inline]
    pub fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    /// Clears `flag`, and gives whether it was set.
    #[inline]
    pub fn take(&mut self, flag: u8) -> bool {
        let was = self.has(flag);
        self.flags &= !flag;
        was
    }

    /// Whether the owner may send data.
    pub fn takes_data(&self) -> bool {
        !self.has(SAID_CLOSE)
            && match self.stage {
                Stage::Open => true,
                Stage::Shakes => self.has(EARLY),
                Stage::Free | Stage::Connects | Stage::Leaves | Stage::Broken => false,
            }
    }

    /// What few connections have, if this one has any of it.
    pub fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    /// What takes the tickets of an origin.
    pub fn tickets(&mut self) -> Option<&mut KernelConnection<ClientConnectionData>> {
        self.rare.as_mut()?.tickets.as_mut()
    }

    /// Why it has failed, or is to.
    pub fn failure(&self) -> Option<&Failure> {
        self.rare.as_ref()?.failure.as_ref()
    }

    /// From here on it is to fail: nothing else but its policy is kept.
    pub fn set_failure(&mut self, failure: Failure) {
        let policy = self.rare.as_ref().map_or(0, |rare| rare.policy);
        self.rare = Some(Box::new(Rare { policy, failure: Some(failure), ..Rare::default() }));
    }
}

/// Those of a core, by the numbers of their sessions.
pub(super) struct Places(FixedVec<Secured>);

impl Places {
    pub const fn cost(places: u32) -> usize {
        Arena::cost::<Secured>(places as usize)
    }

    pub fn new(places: u32, arena: &mut Arena) -> Option<Places> {
        arena.array(places as usize, |_| Secured::default()).map(Places)
    }
}

impl Index<SessionId> for Places {
    type Output = Secured;
    #[inline]
    fn index(&self, id: SessionId) -> &Secured {
        &self.0[id.to_u32() as usize]
    }
}

impl IndexMut<SessionId> for Places {
    #[inline]
    fn index_mut(&mut self, id: SessionId) -> &mut Secured {
        &mut self.0[id.to_u32() as usize]
    }
}
