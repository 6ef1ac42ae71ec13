//! Tickets of sessions (RFC 8446, 4.6.1; RFC 5077): what a client keeps for us, sealed, so that its next handshake is
//! shorter, with whichever core or node it is.
//!
//! ```text
//!  control side ── rotate(now) ──► a set of keys ──► cores: one load to see that it is the same as before
//!
//!  a period: │ 0       │ 1       │ 2       │
//!  key 0     │ seals   │ opens …for the lifetime of its last ticket, then it is erased
//!  key 1     │ (opens) │ seals   │ opens …
//! ```
//!
//! What is sealed has its time with it (`age`): a session is good for so many seconds from its full handshake on, and the
//! tickets that follow from it no longer, whenever they were sealed and whether their key is still there or not. So the
//! client of each was verified at most that long ago, and the one secret of a TLS 1.2 session is used no longer.
//!
//! Keys are drawn anew for each period, and nobody else has them; or they are derived from a secret in a file that
//! several nodes share, and then every node has the same ones without a word between them. A node whose clock is a
//! little behind opens what another seals with the next period's key. Whoever steals that file can open what was sealed
//! while it was in use, and seal what we take: it is to be replaced from time to time. Of a secret that was replaced, the
//! keys up to that time go on opening for as long as their tickets live, and then it is of no use to anybody.
//!
//! A stolen key opens tickets: in TLS 1.2 that is the session, and with it all that was said since its full handshake; in
//! TLS 1.3 early data alone, as there is a new key
//! exchange in every handshake. It also makes tickets, for any client: so sessions of clients with certificates are in no
//! ticket whose keys come from a file ([`Ticketer::is_shared`]).
//!
//! What the hot path pays: rustls wants a `Vec` for each ticket, sealed or opened. No lock: a thread keeps the set that it
//! used last, and asks for another only when the number of the set has changed. The nonce comes from aws-lc, as all of
//! rustls' randomness does; AES-256-GCM-SIV does not mind if one comes twice, however many nodes share a key.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, rand};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;

use super::age::Age;

/// Longest ticket that is opened or sealed. A client's chain of certificates is in it.
const TICKET_BYTES_MAX: usize = 16 << 10;
const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
/// Shortest secret of a file.
pub const SECRET_BYTES_MIN: usize = 32;
/// Periods that a ticket lives at most: keys are looked for one by one.
pub const PERIODS_MAX: u64 = 24;
/// Keys of replaced secrets that are kept at most: the newest.
const FORMER_MAX: usize = 4 * (PERIODS_MAX as usize + 1);
/// Longest life of a ticket (RFC 8446, 4.6.1).
pub const LIFETIME_S_MAX: u64 = 7 * 86_400;

/// How long keys and tickets live, and where keys come from.
#[derive(Clone)]
pub struct TicketSpec {
    /// For how long a key seals, in seconds.
    pub period_s: u64,
    /// For how long a session is good from its full handshake on, in seconds, and so each of its tickets at most.
    pub lifetime_s: u64,
    /// From which all keys are derived. `None`: keys are drawn, and are this process's.
    pub secret: Option<Vec<u8>>,
}

impl Default for TicketSpec {
    /// A key an hour, tickets for half a day, this process's own.
    fn default() -> Self {
        TicketSpec { period_s: 3600, lifetime_s: 43_200, secret: None }
    }
}

impl TicketSpec {
    /// The oldest period whose key opens anything at `now`: one that was sealed in its last second has some time left.
    fn oldest(&self, now: u64) -> u64 {
        now.saturating_sub(self.lifetime_s) / self.period_s
    }
}

/// What is wrong with a [`TicketSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketError {
    /// The secret is shorter than [`SECRET_BYTES_MIN`].
    ShortSecret,
    /// A ticket lives for no time, for more than a week, or for more than [`PERIODS_MAX`] periods.
    Times,
    /// aws-lc gives no randomness, or takes no key.
    Crypto,
}

/// Seals and opens tickets, for all cores.
pub struct Ticketer {
    /// Tells those of one process from another.
    id: u64,
    spec: TicketSpec,
    /// Of the set: another one has another.
    version: AtomicU64,
    set: Mutex<Arc<Set>>,
}

/// The keys of one period: that which seals, and all that open.
struct Set {
    keys: Box<[Arc<Key>]>,
    seals: usize,
    /// Of secrets that were replaced: up to when each opens, in seconds since 1970.
    former: Box<[(u64, Arc<Key>)]>,
}

struct Key {
    name: [u8; NAME_BYTES],
    aead: LessSafeKey,
    /// The period that it seals in.
    period: u64,
}

thread_local! {
    /// The set that this thread used last: whose, which, itself. A thread that uses it no more does not keep it.
    static LAST: RefCell<Option<(u64, u64, Weak<Set>)>> = const { RefCell::new(None) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Ticketer {
    /// With the keys of the period that `now`, in seconds since 1970, is in.
    ///
    /// # Errors
    /// When the spec is not one.
    pub fn new(spec: TicketSpec, now: u64) -> Result<Arc<Ticketer>, TicketError> {
        Ticketer::with_former(spec, Box::new([]), now)
    }

    /// The same in the place of `old`: what that has sealed is opened for as long as it is good.
    ///
    /// # Errors
    /// As [`Ticketer::new`].
    pub fn instead_of(old: &Ticketer, spec: TicketSpec, now: u64) -> Result<Arc<Ticketer>, TicketError> {
        let set = old.set.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let period_s = old.spec.period_s;
        let opens_until = |key: &Arc<Key>| {
            let sealed_until = ((key.period + 1) * period_s).min(now);
            (sealed_until + old.spec.lifetime_s, key.clone())
        };
        // It has sealed nothing by the keys of times to come, and nobody is to do that now.
        let own = set.keys.iter().filter(|key| key.period <= now / period_s).map(opens_until);
        let former = own.chain(set.former.iter().cloned()).filter(|(until, _)| now < *until);
        Ticketer::with_former(spec, former.take(FORMER_MAX).collect(), now)
    }

    fn with_former(
        spec: TicketSpec,
        former: Box<[(u64, Arc<Key>)]>,
        now: u64,
    ) -> Result<Arc<Ticketer>, TicketError> {
        if spec.secret.iter().any(|secret| secret.len() < SECRET_BYTES_MIN) {
            return Err(TicketError::ShortSecret);
        }
        let lives = (1..=LIFETIME_S_MAX).contains(&spec.lifetime_s) && spec.period_s > 0;
        if !lives || spec.lifetime_s.div_ceil(spec.period_s) > PERIODS_MAX {
            return Err(TicketError::Times);
        }
        let nothing = Set { keys: Box::new([]), seals: 0, former };
        let set = Set::of(&spec, &nothing, now).ok_or(TicketError::Crypto)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Ticketer { id, spec, version: AtomicU64::new(0), set: Mutex::new(Arc::new(set)) }))
    }

    /// To be called by the control side, each second or so: a new key if it is time for one, and those that are too old are
    /// erased. Gives whether anything has changed; if there is no randomness, all
    /// stays as it is.
    pub fn rotate(&self, now: u64) -> bool {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if set.is_of(now, &self.spec) {
            return false;
        }
        let Some(new) = Set::of(&self.spec, &set, now) else { return false };
        *set = Arc::new(new);
        drop(set);
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.keys.len() + set.former.len()
    }

    /// For tests: tells whether anybody still has the keys of now.
    #[cfg(test)]
    pub(super) fn set_is_kept(&self) -> impl Fn() -> bool + use<> {
        let set = Arc::downgrade(&self.set.lock().unwrap_or_else(PoisonError::into_inner));
        move || set.strong_count() > 0
    }

    /// Whether its keys come from a secret that others may have.
    pub fn is_shared(&self) -> bool {
        self.spec.secret.is_some()
    }

    /// For tickets of `kind`: one of another kind does not open. Sessions are of one kind if whoever has one may as well
    /// have the other: the same names, and the same clients. How old they are is told by `time`.
    pub fn bind(self: &Arc<Ticketer>, kind: &[u8], time: Arc<dyn TimeProvider>) -> Arc<dyn ProducesTickets> {
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, kind).as_ref());
        Arc::new(Bound { ticketer: self.clone(), kind: digest, time })
    }

    fn with_set<T>(&self, work: impl FnOnce(&Set) -> T) -> T {
        LAST.with_borrow_mut(|last| {
            let version = self.version.load(Ordering::Acquire);
            let same = |(id, of, _): &&(u64, u64, _)| *id == self.id && *of == version;
            if let Some(set) = last.as_ref().filter(same).and_then(|(.., set)| set.upgrade()) {
                return work(&set);
            }
            let set = self.set.lock().unwrap_or_else(PoisonError::into_inner).clone();
            *last = Some((self.id, version, Arc::downgrade(&set)));
            work(&set)
        })
    }
}

impl Set {
    /// The keys of `now`; those of `old` that are still good among them.
    fn of(spec: &TicketSpec, old: &Set, now: u64) -> Option<Set> {
        let (period, oldest) = (now / spec.period_s, spec.oldest(now));
        let mut keys = Vec::new();
        let former = old.former.iter().filter(|(until, _)| now < *until).cloned().collect();
        let Some(secret) = &spec.secret else {
            // A clock that was set back leaves keys of the future: the newest of all seals.
            let good = |key: &&Arc<Key>| (oldest..=period.saturating_add(PERIODS_MAX)).contains(&key.period);
            keys.extend(old.keys.iter().filter(good).cloned());
            if keys.iter().all(|key| key.period < period) {
                keys.insert(0, Arc::new(Key::drawn(period)?));
            }
            return Some(Set { keys: keys.into(), seals: 0, former });
        };
        for period in (oldest..=period + 1).rev() {
            keys.push(Arc::new(Key::derived(secret, spec.period_s, period)?));
        }
        // The first is the next period's.
        Some(Set { keys: keys.into(), seals: 1, former })
    }

    /// Whether nothing has to change now. Drawn keys may be of a later period, after a clock was set back.
    fn is_of(&self, now: u64, spec: &TicketSpec) -> bool {
        let period = now / spec.period_s;
        let late = if spec.secret.is_none() { PERIODS_MAX } else { 0 };
        self.former.iter().all(|(until, _)| now < *until)
            && self.keys.iter().all(|key| key.period >= spec.oldest(now))
            && self.keys.get(self.seals).is_some_and(|key| (period..=period + late).contains(&key.period))
    }
}

impl Key {
    fn drawn(period: u64) -> Option<Key> {
        let (mut name, mut key) = ([0; NAME_BYTES], [0; KEY_BYTES]);
        rand::fill(&mut name).ok()?;
        rand::fill(&mut key).ok()?;
        Key::new(name, &key, period)
    }

    /// The same on all nodes with the same secret and the same periods.
    fn derived(secret: &[u8], period_s: u64, period: u64) -> Option<Key> {
        struct Bytes(usize);
        impl hkdf::KeyType for Bytes {
            fn len(&self) -> usize {
                self.0
            }
        }
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"millrace session tickets 2").extract(secret);
        let mut bytes = [0; NAME_BYTES + KEY_BYTES];
        let info = [&period_s.to_be_bytes()[..], &period.to_be_bytes()];
        prk.expand(&info, Bytes(bytes.len())).ok()?.fill(&mut bytes).ok()?;
        let (name, key) = bytes.split_first_chunk()?;
        Key::new(*name, key, period)
    }

    fn new(name: [u8; NAME_BYTES], key: &[u8], period: u64) -> Option<Key> {
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).ok()?);
        Some(Key { name, aead, period })
    }
}

/// A ticketer for one kind of sessions.
struct Bound {
    ticketer: Arc<Ticketer>,
    /// Authenticated with each ticket.
    kind: [u8; 32],
    time: Arc<dyn TimeProvider>,
}

impl Bound {
    /// Seconds that a session of this age may still be resumed.
    fn left_s(&self, age: Age) -> Option<u64> {
        let (now_s, spec) = (self.now_s()?, &self.ticketer.spec);
        // Clocks may differ by a period; of what comes from further ahead nobody knows how old it is.
        if age.began_s > now_s.saturating_add(spec.period_s) {
            return None;
        }
        Some(age.left_s(now_s, spec.lifetime_s)).filter(|left| *left > 0)
    }

    fn now_s(&self) -> Option<u64> {
        self.time.current_time().map(|now| now.as_secs())
    }
}

/// A ticket is the key's name, the nonce, what is sealed, the tag. Sealed are the session's age and the session.
impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        true
    }

    /// Of what was sealed just before.
    fn lifetime(&self) -> u32 {
        let age = self.now_s().map(Age::of_sealed);
        age.and_then(|age| self.left_s(age)).map_or(0, |left| left as u32)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > TICKET_BYTES_MAX {
            return None;
        }
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let age = Age::of_sealed(self.now_s()?);
        self.left_s(age)?;
        self.ticketer.with_set(|set| {
            let key = set.keys.get(set.seals)?;
            let mut ticket =
                Vec::with_capacity(NAME_BYTES + NONCE_LEN + Age::BYTES + plain.len() + TAG_BYTES);
            ticket.extend_from_slice(&key.name);
            ticket.extend_from_slice(&nonce);
            ticket.extend_from_slice(&age.to_bytes());
            ticket.extend_from_slice(plain);
            let sealed = ticket.get_mut(NAME_BYTES + NONCE_LEN..)?;
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.aead.seal_in_place_separate_tag(nonce, Aad::from(self.kind), sealed).ok()?;
            ticket.extend_from_slice(tag.as_ref());
            Some(ticket)
        })
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > NAME_BYTES + NONCE_LEN + Age::BYTES + TICKET_BYTES_MAX + TAG_BYTES {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let plain = self.ticketer.with_set(|set| {
            // Names are no secrets.
            let mut all = set.keys.iter().chain(set.former.iter().map(|(_, key)| key));
            let key = all.find(|key| key.name == *name)?;
            let mut plain = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let len = key.aead.open_in_place(nonce, Aad::from(self.kind), &mut plain).ok()?.len();
            plain.truncate(len);
            Some(plain)
        });
        let mut plain = plain?;
        let age = Age::from_bytes(*plain.first_chunk()?);
        if self.left_s(age).is_none() {
            Age::note_over();
            return None;
        }
        age.note_opened();
        plain.drain(..Age::BYTES);
        Some(plain)
    }
}

/// The time for rustls, in seconds since 1970, as somebody else tells it: for tests and benches, whose time is their own.
#[derive(Debug, Default)]
pub struct SharedTime(AtomicU64);

impl SharedTime {
    /// It is `now`.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// What was said last; 0 if nothing was.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TimeProvider for SharedTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.get();
        (now > 0).then(|| UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ticketer.fmt(f)
    }
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TicketError::ShortSecret => "a ticket secret has at least 32 bytes",
            TicketError::Times => "tickets live for at most a week, and for at most 24 periods of their keys",
            TicketError::Crypto => "no randomness, or no AES-256-GCM-SIV",
        })
    }
}

impl std::error::Error for TicketError {}
