//! How the control side speaks to the cores, and learns that they have obeyed.
//!
//! ```text
//!  control threads                                  a data core
//!   Desk ── message ──► [bounded queue] ──────────►  taken at one point of each pass
//!        ── asked += 1, bell ────────────────────►   asked ≠ passed? take all, then passed = asked
//!        ◄── passed ≥ ticket: it has obeyed ──────
//! ```
//!
//! A message costs its core what it does; a pass without one costs it a load. Where a core takes its messages it holds
//! no reference to anything shared that it did not pin: a [`Desk::barrier`] that all cores have passed says that
//! nobody can still see what was unpublished before it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use dataplane::Bells;
use dataplane::port::Mac;
use l7::proxy::Program;
use l7::tls::Front;
use stack::{Addr, Routes};

use super::flows::FlowPage;
use super::totals::TotalsPage;

/// Messages that may wait for one core.
pub const MESSAGES_MAX: usize = 64;
/// Between two looks at whether the cores have obeyed.
const LOOK: Duration = Duration::from_micros(200);

/// What a core is told.
pub enum CoreOrder {
    /// New requests follow this config from now on.
    Config(Arc<Program>),
    /// Clients are shown this from now on; requests follow what they did.
    Front(Arc<Front>),
    /// The kernel that shares a port has news.
    Kernel(Arc<KernelNews>),
    /// Somebody wants to see the connections: the next few go into this page.
    Flows(Arc<FlowPage>),
    /// Somebody wants to see sums over all connections: a few more are counted.
    Totals(Arc<TotalsPage>),
}

/// What the kernel knows of the ports that it shares. The control side keeps it until the cores have let go of it.
pub enum KernelNews {
    /// Its routes through this port.
    Routes(u8, Arc<Routes>),
    /// Neighbours, by port: their MAC, or that they are not there.
    Neighbours(Vec<(u8, Addr, Option<Mac>)>),
}

/// What the control side tells one core of a node, and what the core looks at once in a pass.
pub struct Orders {
    /// End the loop.
    pub stop: AtomicBool,
    /// Take nothing new; finish what is under way.
    pub drain: AtomicBool,
    /// The core's answer to `drain`: connections that would lose something if it ended now.
    pub unfinished: AtomicU64,
    /// Everything else.
    pub tray: Arc<Tray<CoreOrder>>,
}

impl Default for Orders {
    fn default() -> Orders {
        let tray = Arc::new(Tray::new());
        Orders { stop: false.into(), drain: false.into(), unfinished: u64::MAX.into(), tray }
    }
}

/// One core's messages.
pub struct Tray<M> {
    /// Grows with each message and each barrier. Written by the control side.
    asked: CachePadded<AtomicU64>,
    /// What `asked` was when the core looked last. Written by the core.
    passed: CachePadded<AtomicU64>,
    messages: ArrayQueue<M>,
}

impl<M> Default for Tray<M> {
    fn default() -> Tray<M> {
        Tray::new()
    }
}

impl<M> Tray<M> {
    /// An empty tray.
    pub fn new() -> Tray<M> {
        Tray {
            asked: CachePadded::default(),
            passed: CachePadded::default(),
            messages: ArrayQueue::new(MESSAGES_MAX),
        }
    }

    /// Whether the core has something to look at. For the core: one load of a word that nobody writes meanwhile,
    /// and one of its own.
    #[inline]
    pub fn waits(&self) -> bool {
        self.asked.load(Ordering::Acquire) != self.passed.load(Ordering::Relaxed)
    }

    /// The core's look, once in a pass: gives each message to `obey`, then says that it has passed. Gives whether
    /// there was anything.
    #[inline]
    pub fn look(&self, obey: impl FnMut(M)) -> bool {
        let waits = self.waits();
        if waits {
            self.take(obey);
        }
        waits
    }

    #[cold]
    fn take(&self, mut obey: impl FnMut(M)) {
        // Messages were queued before `asked` grew by them; those that came since are obeyed early.
        let asked = self.asked.load(Ordering::Acquire);
        for _ in 0..MESSAGES_MAX {
            let Some(m) = self.messages.pop() else { break };
            obey(m);
        }
        self.passed.store(asked, Ordering::Release);
    }

    fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Release) + 1
    }
}

/// The control side's end of all trays. Any thread may use it.
pub struct Desk<M> {
    trays: Box<[Arc<Tray<M>>]>,
    bells: Arc<Bells>,
    /// One sender at a time, so that all cores get their messages in one order, or none.
    sending: Mutex<()>,
}

/// What the cores must have passed; from one desk, for that desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket(Box<[u64]>);

impl<M> Desk<M> {
    /// A desk over these trays, core 0's first, whose cores are woken by `bells`.
    pub fn new(trays: Vec<Arc<Tray<M>>>, bells: Arc<Bells>) -> Desk<M> {
        Desk { trays: trays.into(), bells, sending: Mutex::new(()) }
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.trays.len()
    }

    /// Gives every core a message, that `make` makes for it, or none of them any: `None` when one has too many that
    /// it has not looked at.
    pub fn tell_all(&self, mut make: impl FnMut(usize) -> M) -> Option<Ticket> {
        let _turn = self.turn();
        if self.trays.iter().any(|t| t.messages.is_full()) {
            return None;
        }
        for (core, t) in self.trays.iter().enumerate() {
            // Cannot fail: there was room, and only cores take.
            let _ = t.messages.push(make(core));
        }
        Some(self.ask_all())
    }

    /// A ticket that every core has passed once it has begun a pass after this call.
    pub fn barrier(&self) -> Ticket {
        let _turn = self.turn();
        self.ask_all()
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        // A sender that panicked has left nothing half done that matters here.
        self.sending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn ask_all(&self) -> Ticket {
        let ticket = Ticket(self.trays.iter().map(|t| t.ask()).collect());
        self.bells.ring_all();
        ticket
    }

    /// Whether all cores have obeyed everything up to `ticket`.
    pub fn all_passed(&self, ticket: &Ticket) -> bool {
        self.late(ticket).is_none()
    }

    /// The first core that has not.
    pub fn late(&self, ticket: &Ticket) -> Option<usize> {
        self.trays.iter().zip(&ticket.0).position(|(t, asked)| t.passed.load(Ordering::Acquire) < *asked)
    }

    /// Waits until they have; `false` when one has not after `limit`.
    pub fn wait(&self, ticket: &Ticket, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.all_passed(ticket) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(cores: usize) -> Desk<u32> {
        let trays = (0..cores).map(|_| Arc::new(Tray::new())).collect();
        Desk::new(trays, Bells::new(cores).unwrap())
    }

    #[test]
    fn a_message_is_obeyed_in_one_pass_and_its_ticket_passes() {
        let d = desk(2);
        assert!(!d.trays[0].look(|_| panic!("nothing was said")));
        let first = d.tell_all(|core| 10 + core as u32).unwrap();
        let barrier = d.barrier();
        let mut got = Vec::new();
        assert!(d.trays[0].look(|m| got.push(m)));
        assert_eq!(d.late(&first), Some(1), "core 1 has not looked");
        assert!(d.trays[1].waits() && !d.trays[0].waits());
        assert!(d.trays[1].look(|m| got.push(m)));
        assert!(d.all_passed(&first) && d.all_passed(&barrier));
        assert!(!d.trays[1].look(|_| panic!("said once")));
        assert_eq!(got, [10, 11]);
        let later = d.barrier();
        assert!(d.all_passed(&first) && !d.all_passed(&later));
        assert!(!d.wait(&later, Duration::from_millis(1)));
    }

    #[test]
    fn all_or_none() {
        let d = desk(2);
        for i in 0..MESSAGES_MAX as u32 {
            assert!(d.tell_all(|_| i).is_some());
        }
        d.trays[0].look(|_| ());
        assert!(d.tell_all(|_| panic!("core 1 has no room")).is_none());
        assert!(!d.trays[0].waits());
        let mut seen = Vec::new();
        d.trays[1].look(|m| seen.push(m));
        assert_eq!(seen, (0..MESSAGES_MAX as u32).collect::<Vec<_>>());
    }

    #[test]
    fn many_senders_and_cores_that_turn() {
        let d = desk(3);
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            for t in d.trays.iter() {
                let stop = &stop;
                s.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        t.look(drop);
                        std::thread::yield_now();
                    }
                });
            }
            let senders: Vec<_> = (0..2u32)
                .map(|who| {
                    let d = &d;
                    s.spawn(move || {
                        for i in 0..200 {
                            // Others may fill the trays in between.
                            let ticket = loop {
                                match d.tell_all(|_| who * 1000 + i) {
                                    Some(t) => break t,
                                    None => std::thread::yield_now(),
                                }
                            };
                            assert!(d.wait(&ticket, Duration::from_secs(60)));
                        }
                    })
                })
                .collect();
            for j in senders {
                j.join().unwrap();
            }
            assert!(d.wait(&d.barrier(), Duration::from_secs(60)));
            stop.store(true, Ordering::Relaxed);
        });
    }
}
