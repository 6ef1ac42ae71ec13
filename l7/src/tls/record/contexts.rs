//! A bounded pool of AEAD contexts, made from the sessions' secrets when a record comes.
//!
//! A context is larger than all else that a session has (an expanded AES key and the powers of GCM's hash key: about
//! 0.6 KiB each way; the start of its nonces lies beside it), and only connections that move data need one. Who has not
//! used theirs for longest loses it, as near as a clock tells: each use marks the entry, the hand takes marks away and
//! stops at one that has none.

use dataplane::{Counters, Ctr};
use hugepages::{Arena, Slab, SlabIndex, typed_index};

use super::Broken;
use super::derive::Context;
use super::session::{Session, SessionId, Way};

typed_index! {
    /// An entry of the pool.
    pub(super) struct ContextId;
}

/// Entries that the hand looks at before it takes what it stands at: no session pays for a round of the whole pool.
const LOOKS: u32 = 16;

/// Both directions of a session, each made when first needed.
struct Entry {
    ways: [Option<Context>; 2],
    owner: SessionId,
    used: bool,
}

pub(super) struct Contexts {
    entries: Slab<ContextId, Entry>,
    hand: u32,
    counters: Counters,
}

impl Contexts {
    pub const fn cost(contexts: u32) -> usize {
        Slab::<ContextId, Entry>::cost(contexts as usize)
    }

    /// Bytes of an entry, without what the AEAD library has in its heap.
    pub const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<u32>();

    pub fn new(contexts: u32, arena: &mut Arena, counters: Counters) -> Option<Contexts> {
        let unused = || Entry { ways: [None, None], owner: SessionId::NONE, used: false };
        let entries = Slab::new(arena, contexts.max(1), unused)?;
        Some(Contexts { entries, hand: 0, counters })
    }

    /// The AEAD of one direction of session `id`.
    #[inline]
    pub fn of(
        &mut self,
        sessions: &mut Slab<SessionId, Session>,
        id: SessionId,
        way: Way,
    ) -> Result<&Context, Broken> {
        let mut context = sessions[id].context;
        if context.is_none() || self.entries[context].ways[way as usize].is_none() {
            context = self.make(sessions, id, way)?;
        }
        let entry = &mut self.entries[context];
        debug_assert!(entry.owner == id);
        entry.used = true;
        entry.ways[way as usize].as_ref().ok_or(Broken)
    }

    /// Drops one direction: its secret has changed.
    pub fn forget(&mut self, session: &Session, way: Way) {
        if session.context.is_some() {
            self.entries[session.context].ways[way as usize] = None;
        }
    }

    /// The session ends.
    pub fn release(&mut self, session: &mut Session) {
        if session.context.is_some() {
            let entry = &mut self.entries[session.context];
            entry.ways = [None, None];
            entry.owner = SessionId::NONE;
            self.entries.free(session.context);
            session.context = ContextId::NONE;
        }
    }

    #[cold]
    fn make(
        &mut self,
        sessions: &mut Slab<SessionId, Session>,
        id: SessionId,
        way: Way,
    ) -> Result<ContextId, Broken> {
        if sessions[id].context.is_none() {
            let context = match self.entries.alloc() {
                Some(free) => free,
                None => self.evict(sessions),
            };
            let entry = &mut self.entries[context];
            entry.owner = id;
            sessions[id].context = context;
        }
        let session = &sessions[id];
        let made = Context::new(session.version, session.suite, session.secret(way))?;
        self.entries[session.context].ways[way as usize] = Some(made);
        self.counters.inc(Ctr::TlsContextsMade);
        Ok(session.context)
    }

    /// An entry that somebody else had; all are in use.
    fn evict(&mut self, sessions: &mut Slab<SessionId, Session>) -> ContextId {
        let mut at = self.hand;
        for look in 1.. {
            at = self.hand;
            self.hand = if at + 1 < self.entries.capacity() { at + 1 } else { 0 };
            let entry = &mut self.entries[ContextId::from_u32(at)];
            if !std::mem::take(&mut entry.used) || look >= LOOKS {
                break;
            }
        }
        let context = ContextId::from_u32(at);
        let entry = &mut self.entries[context];
        entry.ways = [None, None];
        sessions[entry.owner].context = ContextId::NONE;
        entry.owner = SessionId::NONE;
        self.counters.inc(Ctr::TlsContextsEvicted);
        context
    }
}
