//! Threads that take the long steps of handshakes: signatures by RSA, certificates of clients and origins, and what is
//! too much for a core. A whole handshake moves there and back.
//!
//! ```text
//!  core 0 ── submit ──┐                       ┌── take_back ──► core 0
//!  core 1 ── submit ──┴─► one queue ─► helper ┴── take_back ──► core 1      and a bell for the core
//! ```
//!
//! A core has a fixed number of places, and none has another's: so the queue has room for all that may be in it, and
//! so has each way back. A core without a free place keeps the handshake, and tries again in its next pass.
//!
//! A core that submits makes a system call only if a helper has to be woken. That takes a core up to 20 µs, so that a helper
//! that finds nothing looks again by itself for some 40 ms: where there are handshakes all the time no core pays for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::handshake::{Failure, Handshake, Progress};

/// How long a helper without work sleeps before it looks again, about as long as a handshake takes; and how often it does
/// so before it has to be woken.
const NAP: Duration = Duration::from_micros(50);
const NAPS: u32 = 400;

/// What the helpers need of the node.
pub trait Host: Send + Sync {
    /// Called by each helper as it starts, on its thread: the place to choose its CPUs.
    fn started(&self, _helper: usize) {}
    /// There is something to be taken back by a core, which may sleep.
    fn done(&self, core: usize);
}

/// The helpers of a node. When this is dropped they end, and what is with them is lost.
pub struct Helpers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A core's way to the helpers.
pub struct Helper {
    shared: Arc<Shared>,
    sleepers: Arc<[Thread]>,
    core: usize,
    away: usize,
}

/// A handshake on its way.
pub(super) struct Job {
    core: usize,
    /// Its owner's marks.
    pub id: u32,
    pub generation: u32,
    /// It has been given all that it is to look at.
    pub handshake: Box<Handshake>,
    /// What it has to send.
    pub out: Vec<u8>,
    /// What it came to.
    pub result: Result<Progress, Failure>,
}

struct Shared {
    queue: ArrayQueue<Box<Job>>,
    back: Box<[ArrayQueue<Box<Job>>]>,
    per_core: usize,
    /// By helper: it sleeps, or is about to.
    sleeping: Box<[AtomicBool]>,
    ends: AtomicBool,
    host: Arc<dyn Host>,
}

impl Helpers {
    /// `threads` of them for `cores` cores, each of which may have `per_core` handshakes there.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(threads: usize, cores: usize, per_core: usize, host: Arc<dyn Host>) -> io::Result<Helpers> {
        let per_core = per_core.max(1);
        let shared = Arc::new(Shared {
            queue: ArrayQueue::new((per_core * cores).max(1)),
            back: (0..cores).map(|_| ArrayQueue::new(per_core)).collect(),
            per_core,
            sleeping: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            ends: AtomicBool::new(false),
            host,
        });
        let mut helpers = Helpers { shared, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = helpers.shared.clone();
            let thread = thread::Builder::new().name(format!("tls-{number}"));
            helpers.threads.push(thread.spawn(move || help(&shared, number))?);
        }
        Ok(helpers)
    }

    /// The way of `core`, which must not be given twice; `None`: there is no such core, or no helper.
    pub fn of(&self, core: usize) -> Option<Helper> {
        let sleepers: Arc<[Thread]> = self.threads.iter().map(|handle| handle.thread().clone()).collect();
        let exists = core < self.shared.back.len() && !sleepers.is_empty();
        exists.then(|| Helper { shared: self.shared.clone(), sleepers, core, away: 0 })
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        for handle in self.threads.drain(..) {
            handle.thread().unpark();
            // One that has panicked has said so.
            let _ = handle.join();
        }
    }
}

impl Helper {
    /// Whether one more may be submitted.
    pub(super) fn has_room(&self) -> bool {
        self.away < self.shared.per_core
    }

    /// How many are there.
    pub(super) fn away(&self) -> usize {
        self.away
    }

    /// Whether there is something to take back.
    pub(super) fn has_done(&self) -> bool {
        self.shared.back.get(self.core).is_some_and(|back| !back.is_empty())
    }

    /// Gives a handshake away, if there is room.
    pub(super) fn submit(
        &mut self,
        id: u32,
        generation: u32,
        handshake: Box<Handshake>,
    ) -> Result<(), Box<Handshake>> {
        if !self.has_room() {
            return Err(handshake);
        }
        let job = Job {
            core: self.core,
            id,
            generation,
            handshake,
            out: Vec::new(),
            result: Ok(Progress::WantsMore),
        };
        self.shared.queue.push(Box::new(job)).map_err(|job| job.handshake)?;
        self.away += 1;
        self.wake_one();
        Ok(())
    }

    /// One that is back.
    pub(super) fn take_back(&mut self) -> Option<Box<Job>> {
        let job = self.shared.back.get(self.core)?.pop()?;
        self.away -= 1;
        Some(job)
    }

    /// Either we see that a helper sleeps, or it sees the job: there is a fence on both sides.
    fn wake_one(&self) {
        fence(Ordering::SeqCst);
        for (sleeping, thread) in self.shared.sleeping.iter().zip(&*self.sleepers) {
            if sleeping.load(Ordering::Relaxed) && sleeping.swap(false, Ordering::Relaxed) {
                thread.unpark();
                return;
            }
        }
    }
}

/// What a helper does until it is told to end.
fn help(shared: &Shared, number: usize) {
    shared.host.started(number);
    let Some(sleeping) = shared.sleeping.get(number) else { return };
    let mut naps = 0;
    while !shared.ends.load(Ordering::SeqCst) {
        if let Some(job) = shared.queue.pop() {
            naps = 0;
            work(shared, job);
            continue;
        }
        if naps < NAPS {
            naps += 1;
            thread::park_timeout(NAP);
            continue;
        }
        sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if shared.queue.is_empty() && !shared.ends.load(Ordering::SeqCst) {
            thread::park();
        }
        sleeping.store(false, Ordering::Relaxed);
        naps = 0;
    }
}

fn work(shared: &Shared, mut job: Box<Job>) {
    job.result = job.handshake.advance(&[], &mut job.out);
    let core = job.core;
    if let Some(back) = shared.back.get(core) {
        // There is a place for each that a core may have here.
        let _ = back.push(job);
        shared.host.done(core);
    }
}
