//! The sessions of a core, and what they send.

use aws_lc_rs::aead::{Aad, Nonce};
use dataplane::{Counters, Ctr};
use hugepages::{Arena, Footprint, Slab};

use super::contexts::Contexts;
use super::session::{OPEN, Session, SessionId, TX_CLOSED, UPDATE_OWED, Way};
use super::{Alert, ContentType, HEADER_BYTES, PLAIN_MAX, SealError, Side, TAG_BYTES, header};
use crate::tls::keys::{Keys, Suite, Version};

/// Records under one AES-GCM key after which it is time to update or to end (RFC 8446, 5.5: 2^24.5 at most). Twice as
/// many of data are sealed at most.
const GCM_SOON: u64 = 1 << 23;
/// The same for ChaCha20-Poly1305, which has no limit but the number itself (RFC 8446, 5.3 and 5.5).
const CHACHA_SOON: u64 = 1 << 62;
const CHACHA_MAX: u64 = 1 << 63;
/// What alerts and KeyUpdates may have beyond that.
const LAST_WORDS: u64 = 16;

/// Bytes of glibc's blocks for the two contexts of a session in the AEAD library.
const LIBRARY_BYTES: u64 = 2 * 608;

/// Says which record of a session's: the same bytes can be sealed again under it, for as long as
/// [`generation`](Self::generation) is the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordNumber {
    /// KeyUpdates that were sent before it.
    pub generation: u32,
    /// Its number under its key.
    pub seq: u64,
}

/// The established sessions of one core.
pub struct Sessions {
    pub(super) sessions: Slab<SessionId, Session>,
    pub(super) contexts: Contexts,
    pub(super) counters: Counters,
    /// How many have begun and not ended.
    open: u32,
    /// [`GCM_SOON`], or less.
    gcm_soon: u64,
}

impl Sessions {
    /// Bytes that [`Sessions::new`] takes from an arena.
    pub const fn cost(sessions: u32, contexts: u32) -> usize {
        let contexts = if contexts == 0 { 1 } else { contexts };
        Slab::<SessionId, Session>::cost(sessions as usize) + Contexts::cost(contexts)
    }

    /// What they take in all: with what the AEAD library allocates, which is not in the arena.
    pub fn footprint(sessions: u32, contexts: u32, f: &mut Footprint) {
        let session = size_of::<Session>() + size_of::<u32>();
        f.add("tls sessions", sessions.into(), session as u64, "one per connection with TLS");
        let context = Contexts::ENTRY_BYTES as u64 + LIBRARY_BYTES;
        f.add("tls contexts", contexts.max(1).into(), context, "AEADs of the connections used last");
    }

    /// Room for `sessions`, of which `contexts` (1 at least) can have their AEAD ready; `None` when it does not fit.
    pub fn new(sessions: u32, contexts: u32, arena: &mut Arena, counters: Counters) -> Option<Sessions> {
        Some(Sessions {
            sessions: Slab::new(arena, sessions, Session::unused)?,
            contexts: Contexts::new(contexts, arena, counters.clone())?,
            counters,
            open: 0,
            gcm_soon: GCM_SOON,
        })
    }

    /// Has AES-GCM keys updated, or their connections worn, after so many records: fewer than 2^23, or nothing changes.
    pub fn wear_after(&mut self, records: u64) {
        self.gcm_soon = records.clamp(1, GCM_SOON);
    }

    /// A session with what a handshake left; `None` when all places are taken, which is counted.
    pub fn open(&mut self, keys: &Keys, side: Side) -> Option<SessionId> {
        let id = self.reserve()?;
        self.begin(id, keys, side);
        Some(id)
    }

    /// The end of a session. Its secrets are overwritten; its place is another's.
    pub fn close(&mut self, id: SessionId) {
        self.end(id);
        self.sessions.free(id);
    }

    /// A place for a session that is to [`begin`](Self::begin) later, as [`Sessions::open`] gives it: nothing is sealed or
    /// received there before. It is given back by [`Sessions::close`].
    pub fn reserve(&mut self) -> Option<SessionId> {
        let id = self.sessions.alloc();
        if id.is_none() {
            self.counters.inc(Ctr::TlsNoSession);
        }
        id
    }

    /// What a handshake left begins a session in a place that was reserved for it.
    pub fn begin(&mut self, id: SessionId, keys: &Keys, side: Side) {
        self.end(id);
        self.sessions[id].begin(keys, side);
        self.count_open(self.open + 1);
    }

    /// The end of a session, if one has begun in this place, which is still kept. Its secrets are overwritten.
    pub fn end(&mut self, id: SessionId) {
        let session = &mut self.sessions[id];
        if session.has(OPEN) {
            self.contexts.release(session);
            session.wipe();
            self.count_open(self.open - 1);
        }
    }

    /// Sessions open now.
    pub fn in_use(&self) -> u32 {
        self.open
    }

    /// Places taken, by sessions that are open and those that are to begin.
    pub fn reserved(&self) -> u32 {
        self.sessions.in_use()
    }

    /// The version and the suite of a session.
    pub fn protection(&self, id: SessionId) -> (Version, Suite) {
        (self.sessions[id].version, self.sessions[id].suite)
    }

    /// Bytes of a session's record that holds `plain` bytes.
    pub fn sealed_bytes(&self, id: SessionId, plain: usize) -> usize {
        let (version, suite) = self.protection(id);
        super::sealed_bytes(version, suite, plain)
    }

    /// As [`header`], and what is no record is counted.
    ///
    /// # Errors
    /// As [`header`].
    pub fn header(&self, bytes: &[u8]) -> Result<Option<usize>, Alert> {
        header(bytes).inspect_err(|alert| self.count_bad(*alert))
    }

    /// Seals `plain` as one record of `kind` into the front of `out`: header and all. Gives the record's length, which is
    /// [`Sessions::sealed_bytes`].
    ///
    /// # Errors
    /// Nothing was sealed, and the number of the next record is as it was.
    #[inline]
    pub fn seal(
        &mut self,
        id: SessionId,
        kind: ContentType,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let session = &self.sessions[id];
        if session.has(TX_CLOSED) {
            return Err(SealError::Closed);
        }
        let seq = session.seq[Way::Tx as usize];
        let last_words = if kind == ContentType::ApplicationData { 0 } else { LAST_WORDS };
        if seq >= self.most(session.suite) + last_words {
            return Err(SealError::Exhausted);
        }
        let n = self.write(id, seq, kind, plain, out)?;
        self.sessions[id].seq[Way::Tx as usize] += 1;
        self.counters.inc(Ctr::TlsRecordsSealed);
        self.counters.add(Ctr::TlsBytesSealed, plain.len() as u64);
        Ok(n)
    }

    /// The number that the next record sealed will have: for who wants to be able to seal it again.
    pub fn next_number(&self, id: SessionId) -> RecordNumber {
        let session = &self.sessions[id];
        RecordNumber { generation: session.generation.into(), seq: session.seq[Way::Tx as usize] }
    }

    /// Seals once more what record `number` held: the same bytes come out. For who has let go of a record that is not
    /// acknowledged yet.
    ///
    /// `kind` and `plain` must be what they were: two different plaintexts under one number would give away both.
    ///
    /// # Errors
    /// [`SealError::Gone`] when there was no such record, or a KeyUpdate since: before one is sent, what may have to be
    /// sent again has to be sealed again and kept.
    pub fn seal_again(
        &mut self,
        id: SessionId,
        number: RecordNumber,
        kind: ContentType,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let next = self.next_number(id);
        if number.generation != next.generation || number.seq >= next.seq {
            return Err(SealError::Gone);
        }
        let n = self.write(id, number.seq, kind, plain, out)?;
        self.counters.inc(Ctr::TlsRecordsSealedAgain);
        Ok(n)
    }

    /// Whether a KeyUpdate of ours must come before more data: the peer has asked, or the key is half-way to its limit.
    #[inline]
    pub fn update_due(&self, id: SessionId) -> bool {
        let session = &self.sessions[id];
        session.version == Version::Tls13
            && (session.has(UPDATE_OWED) || session.seq[Way::Tx as usize] >= self.soon(session.suite))
    }

    /// Whether a connection of TLS 1.2 should end when it next can in good order: its key is half-way to its limit, and
    /// there is no way to change it.
    #[inline]
    pub fn worn(&self, id: SessionId) -> bool {
        let session = &self.sessions[id];
        session.version == Version::Tls12 && session.seq[Way::Tx as usize] >= self.soon(session.suite)
    }

    /// Seals a KeyUpdate into `out`; from there on our next secret counts (RFC 8446, 4.6.3). `ask`: the peer is to change
    /// its own too. Records numbered before cannot be sealed again.
    ///
    /// # Errors
    /// As [`Sessions::seal`]; [`SealError::NoUpdate`] in TLS 1.2.
    pub fn update(&mut self, id: SessionId, ask: bool, out: &mut [u8]) -> Result<usize, SealError> {
        if self.sessions[id].version == Version::Tls12 {
            return Err(SealError::NoUpdate);
        }
        let n = self.seal(id, ContentType::Handshake, &[24, 0, 0, 1, u8::from(ask)], out)?;
        let session = &mut self.sessions[id];
        if session.advance(Way::Tx).is_err() {
            // The update is not sent, and its number is used up.
            session.flags |= TX_CLOSED;
            return Err(SealError::Library);
        }
        session.flags &= !UPDATE_OWED;
        session.generation = session.generation.wrapping_add(1);
        self.contexts.forget(session, Way::Tx);
        self.counters.inc(Ctr::TlsKeyUpdatesSent);
        Ok(n)
    }

    /// Seals an alert into `out`. After close_notify or a fatal one nothing more is sealed.
    ///
    /// # Errors
    /// As [`Sessions::seal`].
    pub fn alert(&mut self, id: SessionId, alert: Alert, out: &mut [u8]) -> Result<usize, SealError> {
        let n = self.seal(id, ContentType::Alert, &[alert.level(), alert.0], out)?;
        if alert == Alert::CLOSE_NOTIFY || alert.level() == 2 {
            self.sessions[id].flags |= TX_CLOSED;
        }
        Ok(n)
    }

    fn write(
        &mut self,
        id: SessionId,
        seq: u64,
        kind: ContentType,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        if plain.len() > PLAIN_MAX {
            return Err(SealError::TooLong);
        }
        let n = self.sealed_bytes(id, plain.len());
        let out = out.get_mut(..n).ok_or(SealError::NoRoom)?;
        let context = self.contexts.of(&mut self.sessions, id, Way::Tx)?;
        let session = &self.sessions[id];
        let (key, nonce) = (&context.key, context.nonce(seq));
        let explicit = session.explicit_bytes();

        let (head, body) = out.split_at_mut(HEADER_BYTES);
        let (in_clear, sealed) = body.split_at_mut(explicit);
        let (cipher, tail) = sealed.split_at_mut(plain.len());
        in_clear.copy_from_slice(&nonce[nonce.len() - explicit..]);
        let inner = [kind as u8];
        let (nonce, ran) = (Nonce::assume_unique_for_key(nonce), n - HEADER_BYTES);
        let done = match session.version {
            Version::Tls13 => {
                // RFC 8446, 5.2: the header is what is authenticated with it; the true type is inside.
                let outer = head_of(ContentType::ApplicationData, ran);
                head.copy_from_slice(&outer);
                key.seal_out_of_place_scatter(nonce, Aad::from(outer), plain, cipher, &inner, tail)
            }
            Version::Tls12 => {
                head.copy_from_slice(&head_of(kind, ran));
                let aad = Aad::from(aad12(seq, head_of(kind, plain.len())));
                key.seal_out_of_place_scatter(nonce, aad, plain, cipher, &[], tail)
            }
        };
        debug_assert!(tail.len() >= TAG_BYTES);
        done.map_err(|_| SealError::Library)?;
        Ok(n)
    }

    fn soon(&self, suite: Suite) -> u64 {
        match suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm => self.gcm_soon,
            Suite::ChaCha20Poly1305 => CHACHA_SOON,
        }
    }

    fn most(&self, suite: Suite) -> u64 {
        match suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm => 2 * self.gcm_soon,
            Suite::ChaCha20Poly1305 => CHACHA_MAX,
        }
    }

    fn count_open(&mut self, open: u32) {
        self.open = open;
        self.counters.set(Ctr::TlsSessions, open.into());
    }

    /// Counts a record that we end a session for, by the alert that says why.
    pub(super) fn count_bad(&self, alert: Alert) {
        self.counters.inc(match alert {
            Alert::BAD_RECORD_MAC => Ctr::TlsBadMac,
            Alert::RECORD_OVERFLOW => Ctr::TlsBadLength,
            Alert::UNEXPECTED_MESSAGE => Ctr::TlsBadType,
            Alert::HANDSHAKE_FAILURE => Ctr::TlsRenegotiationRefused,
            _ => Ctr::TlsBadContent,
        });
    }
}

/// A record's header. Version 1.2 stands in all of them (RFC 8446, 5.1 and 5.2).
#[inline]
pub(super) fn head_of(kind: ContentType, length: usize) -> [u8; HEADER_BYTES] {
    let [high, low] = (length as u16).to_be_bytes();
    [kind as u8, 3, 3, high, low]
}

/// What is authenticated with a record of TLS 1.2: its number, and its header with the plaintext's length (RFC 5246,
/// 6.2.3.3).
#[inline]
pub(super) fn aad12(seq: u64, head: [u8; HEADER_BYTES]) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&seq.to_be_bytes());
    aad[8..].copy_from_slice(&head);
    aad
}
