//! The handshakes of one core: so many at a time, so much work in a pass, so many for one source.
//!
//! ```text
//!  start ──► slot ── readable ──► going │ new ── turn ──► advance ──► Send, Established, Failed
//!              │                    ▲                        │
//!              │                    └──── back ◄── helper ◄──┤  what is slow, or too much
//!              └─ refused: full, or the source has its share  └─ waits for its peer
//! ```
//!
//! - **Work.** A pass without packets does [`HandshakeLimits::work_per_pass`] units; one with some ([`beside`]) does few, and
//!   one with many gives all steps to the helpers for as long as these have room: see [`budget`]. Those that have said
//!   hello come before those that say it: what
//!   was begun is brought to an end. Our own hellos, to origins, take turns with the answers to clients'; our
//!   slow steps come before theirs.
//! - **Slow steps** (signatures by RSA, key exchanges by P-384, a client's or an origin's certificates) go to a helper thread, where there are
//!   any; so do second hellos, as what they lead to is not foreseen, and hellos while more than
//!   [`HandshakeLimits::waiting`] wait for the core. When the helpers are full, the slow
//!   ones wait in a queue of their own, and delay nobody else. Where there are helpers no core signs slowly, foreseen or not.
//! - **Shedding.** When as many clients as may be are under way, the one that has said nothing for the longest time makes
//!   room for the next; if all have said hello, the next one is refused: its connection is to be reset, as a handshake
//!   that is not begun costs the least. So is whoever comes while its source has its share. Nothing else is shed; whoever
//!   is too slow meets its owner's timeout ([`cancel`](Handshakes::cancel)). An eighth of the slots is for our own
//!   handshakes, with origins: no client can have it. Half of them is the most that our own may have.
//! - **Memory.** A slot that waits for a hello has no more than what came of it. A hello has at most 16 KiB, in at most 64
//!   records, what follows it a record. Where certificates may come it is less, as rustls keeps copies; longer ones, up to
//!   64 KiB, need one of [`Handshakes::long`] places. Who finds none is refused: chains that long are rare, and what
//!   all handshakes take is bounded whatever the config asks for. What rustls needs for one is about 10 KiB until it is done.
//!
//! [`beside`]: Handshakes::beside
//!
//! Bytes are taken from TCP's queue by [`Peers`] as they are needed, a record at a time: what is behind the handshake
//! stays there.

pub mod budget;
mod slot;
mod turn;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::{Counters, Ctr, sip};
use hugepages::{SlabIndex, typed_index};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use stack::FlowId;

use super::front::Front;
use super::handshake::{Established, Failure, Handshake};
use super::hello;
use super::offload::Helper;
use super::queue::Queue;
use super::sources::{Source, Sources};
use budget::{Budget, HELLO};
use slot::{Side, Slot, State};
use turn::Turn;

typed_index! {
    /// A handshake under way. The number is another's once it is over.
    pub struct HandshakeId;
}

/// One in so many slots is for our own handshakes.
const OWN_SHARE: u32 = 8;
/// One in so many slots may have a place for long certificates; a few in any case.
const LONG_SHARE: u32 = 64;
const LONG_MIN: u32 = 4;

/// How much of everything.
#[derive(Clone, Debug)]
pub struct HandshakeLimits {
    /// Under way on this core.
    pub handshakes: u32,
    /// Of those, with clients of one source: an IPv4 address, an IPv6 network of 64 bits.
    pub per_source: u32,
    /// Units of work in a pass without packets.
    pub work_per_pass: u32,
    /// Hellos that may wait for the core before helpers take more of them.
    pub waiting: u32,
    /// For the table of sources: nobody else may know it.
    pub key: sip::Key,
}

impl HandshakeLimits {
    /// What fits most: an eighth of them for one source, one hello a pass.
    pub fn new(handshakes: u32, key: sip::Key) -> HandshakeLimits {
        HandshakeLimits {
            handshakes,
            per_source: (handshakes / 8).max(16),
            work_per_pass: HELLO,
            waiting: 16,
            key,
        }
    }
}

/// Why a handshake is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// As many as there may be are under way.
    Full,
    /// The source has its share.
    Source,
}

/// The connections that handshakes are done over.
pub trait Peers {
    /// The first bytes, as many as lie together, that `flow` has received and nobody has consumed.
    fn received(&mut self, flow: FlowId) -> &[u8];
    /// Takes the first `bytes` of them: they are not there any more.
    fn take(&mut self, flow: FlowId, bytes: usize);
    /// So many that were taken are done with. What an [`Outcome::Early`] gives is not, until its reader says so.
    fn consume(&mut self, flow: FlowId, bytes: usize);
    /// What has become of a handshake.
    fn outcome(&mut self, id: HandshakeId, flow: FlowId, outcome: Outcome<'_>);
}

/// What has become of a handshake.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// This is to be sent.
    Send(&'a [u8]),
    /// The client, whom this entry of the front has answered, sends this without having finished. It can be answered by
    /// [`Handshakes::seal`].
    Early {
        /// As in [`Established`].
        entry: u16,
        /// What it sends.
        data: &'a [u8],
    },
    /// It is done, and its number is free. All that it has to send has been given before.
    Established(Box<Established>),
    /// It has failed, and its number is free. If there is an alert to be sent, it has been given before.
    Failed(Failure),
}

/// See the module.
pub struct Handshakes {
    slots: Box<[Slot]>,
    free: Vec<u32>,
    sources: Sources,
    going: Queue,
    new: Queue,
    /// Our own that have yet to say hello.
    asks: Queue,
    /// The last hello was ours.
    has_asked: bool,
    /// What only helpers do, while they are full: with origins, and, after these, with clients.
    slow_own: Queue,
    slow: Queue,
    /// Clients that have not said hello, and of whom there is nothing to read.
    silent: Queue,
    /// Whose slots are clients'.
    clients: u32,
    /// Places for long certificates that nobody has.
    long: u32,
    /// Who has just lost its slot.
    evicted: Option<FlowId>,
    helper: Option<Helper>,
    limits: HandshakeLimits,
    budget: Budget,
    counters: Counters,
    out: Vec<u8>,
    joined: Vec<u8>,
}

impl Handshakes {
    /// Those of a core, with its way to the helpers, if there are any.
    pub fn new(limits: HandshakeLimits, helper: Option<Helper>, counters: Counters) -> Handshakes {
        Handshakes {
            slots: (0..limits.handshakes).map(|_| Slot::free()).collect(),
            free: (0..limits.handshakes).rev().collect(),
            sources: Sources::new(limits.handshakes, limits.per_source, limits.key),
            going: Queue::new(0),
            new: Queue::new(1),
            slow: Queue::new(2),
            silent: Queue::new(3),
            slow_own: Queue::new(4),
            asks: Queue::new(5),
            has_asked: false,
            clients: 0,
            long: Handshakes::long(limits.handshakes),
            evicted: None,
            helper,
            limits,
            budget: Budget::default(),
            counters,
            out: Vec::with_capacity(16 << 10),
            joined: Vec::with_capacity(hello::JOINED_BYTES_MAX),
        }
    }

    /// Bytes of the tables, without what is allocated for a handshake under way.
    pub const fn bytes(handshakes: u32) -> usize {
        handshakes as usize * (size_of::<Slot>() + 4) + Sources::bytes(handshakes)
    }

    /// Secret of the table of sources.
    pub fn key(&self) -> sip::Key {
        self.limits.key
    }

    /// Of so many handshakes, those that may hold long certificates at a time
    /// ([`certificates_bytes_max`](super::handshake::certificates_bytes_max)).
    pub const fn long(handshakes: u32) -> u32 {
        let share = handshakes / LONG_SHARE;
        if share > LONG_MIN { share } else { LONG_MIN }
    }

    /// The server's side, with a client from `source`. It is begun by [`readable`](Self::readable). Another one may have
    /// had to make room for it: [`take_evicted`](Self::take_evicted).
    ///
    /// # Errors
    /// When the connection is to be refused.
    pub fn start_server(&mut self, flow: FlowId, source: IpAddr) -> Result<HandshakeId, Shed> {
        let is_full = self.free.is_empty() || self.clients >= self.slots.len() as u32 - self.own();
        if is_full && self.silent.is_empty() {
            self.counters.inc(Ctr::TlsShedFull);
            return Err(Shed::Full);
        }
        let source = Source::of(source);
        if !self.sources.add(source) {
            self.counters.inc(Ctr::TlsShedSource);
            return Err(Shed::Source);
        }
        if is_full && let Some(oldest) = self.silent.pop(&mut self.slots) {
            self.counters.inc(Ctr::TlsShedSilent);
            self.evicted = Some(self.slots[oldest as usize].flow);
            self.end(oldest);
        }
        let started = self.start(flow, source, Side::Server, State::Hello { bytes: Vec::new(), shown: 0 });
        let id = started.ok_or(Shed::Full)?;
        self.clients += 1;
        self.silent.push(&mut self.slots, id.to_u32());
        Ok(id)
    }

    /// The connection whose slot the last one that was started has got, if that was another's: its number is not its own
    /// any more. To be asked for at once.
    pub fn take_evicted(&mut self) -> Option<FlowId> {
        self.evicted.take()
    }

    /// Slots that are for our own handshakes.
    fn own(&self) -> u32 {
        let slots = self.slots.len() as u32;
        (slots / OWN_SHARE).max(1).min(slots / 2)
    }

    /// Queues what is for a helper only.
    fn push_slow(&mut self, number: u32) {
        let queue = match self.slots[number as usize].side {
            Side::Client => &mut self.slow_own,
            Side::Server => &mut self.slow,
        };
        queue.push(&mut self.slots, number);
    }

    fn pop_slow(&mut self) -> Option<u32> {
        self.slow_own.pop(&mut self.slots).or_else(|| self.slow.pop(&mut self.slots))
    }

    fn has_slow(&self) -> bool {
        !self.slow_own.is_empty() || !self.slow.is_empty()
    }

    /// The client's side, with an origin. It is begun by the next pass.
    ///
    /// # Errors
    /// When there is no slot.
    pub fn start_client(
        &mut self,
        flow: FlowId,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<HandshakeId, Shed> {
        // Origins that say nothing are no reason to send clients away.
        let is_full = self.active() - self.clients >= (self.slots.len() as u32).div_ceil(2);
        let asks = State::Asks(config, name);
        let started = if is_full { None } else { self.start(flow, Source::NONE, Side::Client, asks) };
        let Some(id) = started else {
            self.counters.inc(Ctr::TlsShedFull);
            return Err(Shed::Full);
        };
        self.readable(id);
        Ok(id)
    }

    fn start(&mut self, flow: FlowId, source: Source, side: Side, state: State) -> Option<HandshakeId> {
        let number = self.free.pop()?;
        let slot = &mut self.slots[number as usize];
        debug_assert!(matches!(slot.state, State::Free) && !slot.links.is_queued());
        let generation = slot.generation.wrapping_add(1);
        *slot = Slot::new(flow, source, side, state, generation);
        Some(HandshakeId::from_u32(number))
    }

    /// The flow has received something.
    pub fn readable(&mut self, id: HandshakeId) {
        let number = id.to_u32();
        if number as usize >= self.slots.len() {
            return;
        }
        self.silent.remove(&mut self.slots, number);
        let slot = &self.slots[number as usize];
        if slot.links.is_queued() {
            return;
        }
        match &slot.state {
            State::Hello { .. } => self.new.push(&mut self.slots, number),
            // Our own hellos do not wait behind a flood of others'.
            State::Asks(..) => self.asks.push(&mut self.slots, number),
            State::Running { .. } => self.going.push(&mut self.slots, number),
            State::Free | State::Away => {}
        }
    }

    /// The connection is closed, or its owner has had enough of it. The number is free.
    pub fn cancel(&mut self, id: HandshakeId) {
        if self.slots.get(id.to_u32() as usize).is_some_and(|slot| !matches!(slot.state, State::Free)) {
            self.counters.inc(Ctr::TlsCancelled);
            self.end(id.to_u32());
        }
    }

    /// Seals data for a client that has not finished, and whose early data has come. Gives the record's length; `None`:
    /// there is no such client, or `out` is too small.
    pub fn seal(&mut self, id: HandshakeId, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        self.running(id)?.seal(plain, out)
    }

    /// The same, of a close_notify.
    pub fn seal_close(&mut self, id: HandshakeId, out: &mut [u8]) -> Option<usize> {
        self.running(id)?.seal_close(out)
    }

    fn running(&mut self, id: HandshakeId) -> Option<&mut Handshake> {
        match &mut self.slots.get_mut(id.to_u32() as usize)?.state {
            State::Running { handshake } => Some(handshake),
            State::Free | State::Hello { .. } | State::Asks(..) | State::Away => None,
        }
    }

    /// Whether a pass would do anything: a core that sleeps now would make somebody wait.
    pub fn has_work(&self) -> bool {
        let helped = self
            .helper
            .as_ref()
            .is_some_and(|helper| helper.has_done() || (helper.has_room() && self.has_slow()));
        helped || !self.going.is_empty() || !self.new.is_empty() || !self.asks.is_empty()
    }

    /// Handshakes under way.
    pub fn active(&self) -> u32 {
        self.slots.len() as u32 - self.free.len() as u32
    }

    /// This pass has so many packets, which come before handshakes.
    #[inline]
    pub fn beside(&mut self, packets: u32) {
        self.budget.beside(packets);
    }

    /// A pass has nothing to do here: what its packets are worth is saved up, or paid off.
    #[inline]
    pub fn rest(&mut self) {
        self.budget.begin(self.limits.work_per_pass);
    }

    /// The next one that goes on: of those that have yet to say hello by turns ours and a client's.
    fn next(&mut self) -> Option<u32> {
        let Handshakes { slots, going, new, asks, .. } = self;
        if let Some(number) = going.pop(slots) {
            return Some(number);
        }
        self.has_asked = !asks.is_empty() && (new.is_empty() || !self.has_asked);
        if self.has_asked { asks.pop(slots) } else { new.pop(slots) }
    }

    /// Does a pass's work. Hellos are answered as `front` says.
    pub fn run(&mut self, front: &Front, peers: &mut impl Peers) {
        self.budget.begin(self.limits.work_per_pass);
        self.take_back(peers);
        self.hand_over();
        while self.budget.has_some() {
            let Some(number) = self.next() else { break };
            match self.turn(number, front, peers) {
                Turn::Waits if matches!(self.slots[number as usize].state, State::Hello { .. }) => {
                    self.silent.push(&mut self.slots, number);
                }
                Turn::Waits | Turn::Left => {}
                Turn::Again => self.going.push(&mut self.slots, number),
                Turn::Slow => {
                    self.push_slow(number);
                    self.hand_over();
                }
            }
        }
        self.budget.end();
        self.counters.add(Ctr::TlsEarlyEvicted, front.take_evicted());
        self.counters.set(Ctr::TlsActive, self.active().into());
        let waiting =
            self.going.len() + self.new.len() + self.asks.len() + self.slow.len() + self.slow_own.len();
        self.counters.set(Ctr::TlsWaiting, waiting.into());
        self.counters.set(Ctr::TlsAway, self.helper.as_ref().map_or(0, |helper| helper.away() as u64));
    }

    /// What the helpers have done, as much as the pass may take back.
    fn take_back(&mut self, peers: &mut impl Peers) {
        for _ in 0..self.budget.back_max() {
            let Some(job) = self.helper.as_mut().and_then(Helper::take_back) else { return };
            let number = job.id;
            let is_ours =
                |slot: &&mut Slot| slot.generation == job.generation && matches!(slot.state, State::Away);
            let Some(slot) = self.slots.get_mut(number as usize).filter(is_ours) else { continue };
            slot.state = State::Running { handshake: job.handshake };
            self.out.clear();
            self.out.extend_from_slice(&job.out);
            match self.settle(number, job.result, peers) {
                // Something may have come meanwhile.
                Turn::Waits | Turn::Again => self.going.push(&mut self.slots, number),
                Turn::Slow => self.push_slow(number),
                Turn::Left => {}
            }
        }
    }

    /// What only helpers do goes to them, as many as there is room for.
    fn hand_over(&mut self) {
        while self.has_slow() {
            if !self.helper.as_ref().is_some_and(Helper::has_room) {
                self.counters.inc(Ctr::TlsHelpersFull);
                return;
            }
            let Some(number) = self.pop_slow() else { return };
            let (Some(helper), slot) = (self.helper.as_mut(), &mut self.slots[number as usize]) else {
                return;
            };
            let State::Running { handshake } = mem::replace(&mut slot.state, State::Away) else {
                debug_assert!(false, "only those that run are handed over");
                continue;
            };
            match helper.submit(number, slot.generation, handshake) {
                Ok(()) => self.counters.inc(Ctr::TlsHelped),
                Err(handshake) => {
                    slot.state = State::Running { handshake };
                    self.push_slow(number);
                    return;
                }
            }
        }
    }

    fn end(&mut self, number: u32) {
        let Handshakes { going, new, asks, slow_own, slow, silent, .. } = self;
        let queues = [going, new, asks, slow_own, slow, silent];
        for queue in queues {
            queue.remove(&mut self.slots, number);
        }
        let slot = &mut self.slots[number as usize];
        self.sources.remove(slot.source);
        self.clients -= u32::from(slot.side == Side::Server);
        slot.state = State::Free;
        slot.name = None;
        self.long += u32::from(std::mem::take(&mut slot.is_long));
        self.free.push(number);
        self.counters.set(Ctr::TlsActive, self.active().into());
    }
}
