//! The loop: what has come goes into the model, what is due goes out, and between the two it sleeps.
//!
//! One thread for both directions. It sleeps in ppoll until the next frame is due, with the finest timer that it can
//! get (SCHED_FIFO, or a timer slack of 1 ns), and turns through the last `spin_ns` of it. While frames are in flight
//! on a direction with delay, new ones of that direction need not wake it: they wait in the ring with the times of
//! their arrival, from which everything is reckoned.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrayvec::ArrayVec;
use dataplane::Time;
use dataplane::counters::Histogram;
use dataplane::port::link::{Faults, InFlight, Lane, LinkStats, back_seed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::end::{BATCH, End};

/// Frames with this much delay before them may wait in the ring…
const LAZY_DELAY_NS: u64 = 2_000_000;
/// …for this long.
const LAZY_NS: u64 = 250_000;

/// One direction and what is known of it.
pub struct Way {
    lane: Lane,
    /// Actual departures minus due ones.
    pub lateness_ns: Histogram,
    /// Dropped by the kernel, because the ring was full.
    pub missed: u64,
    /// Longer than the interface carries.
    pub oversize: u64,
    /// With unfinished checksums.
    pub unfinished: u64,
    /// The last error of a departure that was not just a full queue.
    pub send_error: Option<String>,
}

impl Way {
    fn new(faults: Faults, seed: u64, bound_bytes: u64) -> Way {
        let mut lane = Lane::new(faults, seed);
        lane.bound(bound_bytes);
        Way {
            lane,
            lateness_ns: Histogram::default(),
            missed: 0,
            oversize: 0,
            unfinished: 0,
            send_error: None,
        }
    }

    /// Counts of the model.
    pub fn stats(&self) -> LinkStats {
        self.lane.stats()
    }

    /// Frames in flight.
    pub fn held(&self) -> usize {
        self.lane.held()
    }

    /// What is done to frames.
    pub fn faults(&self) -> &Faults {
        self.lane.faults()
    }

    fn take(&mut self, from: &mut End, now: Time) -> usize {
        let lane = &mut self.lane;
        let drained = from.drain(now, |frame, at| lane.offer(frame, at));
        self.oversize += drained.oversize;
        self.unfinished += drained.unfinished;
        drained.frames
    }

    fn give(
        &mut self,
        to: &mut End,
        clock: Instant,
        now: Time,
        batch: &mut ArrayVec<InFlight, BATCH>,
    ) -> usize {
        while !batch.is_full() {
            let Some(frame) = self.lane.pop_due(now) else { break };
            batch.push(frame);
        }
        if batch.is_empty() {
            return 0;
        }
        let mut taken = [false; BATCH];
        let error = &mut self.send_error;
        to.send(batch, |i, result| match result {
            Ok(()) => taken[i] = true,
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(e) => *error = Some(e.to_string()),
        });
        // Stamped behind the call: on a veth the far side's kernel has the frames by then.
        let left = since(clock);
        let n = batch.len();
        for (frame, taken) in batch.drain(..).zip(taken) {
            self.lateness_ns.record(left.since_ns(frame.due));
            self.lane.done(frame, taken);
        }
        n
    }

    /// Whether new frames of this direction can wait for the next turn.
    fn lazy(&self) -> bool {
        self.lane.held() > 0 && self.lane.faults().delay_ns >= LAZY_DELAY_NS
    }
}

fn since(clock: Instant) -> Time {
    Time(clock.elapsed().as_nanos() as u64)
}

/// How to run.
pub struct Settings {
    /// Of what is random.
    pub seed: u64,
    /// Bytes in flight in each direction.
    pub bound_bytes: u64,
    /// Turned through before a frame is due.
    pub spin_ns: u64,
    /// Ends by itself.
    pub run_ns: Option<u64>,
    /// Between blocks.
    pub every_ns: u64,
}

/// The link at work.
pub struct Turning {
    /// From the first end to the second.
    pub up: Way,
    /// Back.
    pub down: Way,
    /// Since the start.
    pub elapsed_ns: u64,
}

/// Turns until `stop` is set or the time is over; `block` is called now and then.
///
/// # Errors
/// Only when waiting fails.
pub fn turn(
    ends: &mut (End, End),
    faults: (Faults, Faults),
    settings: &Settings,
    stop: &AtomicBool,
    mut block: impl FnMut(&Turning),
) -> io::Result<Turning> {
    let clock = Instant::now();
    let mut t = Turning {
        up: Way::new(faults.0, settings.seed, settings.bound_bytes),
        down: Way::new(faults.1, back_seed(settings.seed), settings.bound_bytes),
        elapsed_ns: 0,
    };
    let mut batch = ArrayVec::new();
    let mut next_block = Time(settings.every_ns);
    loop {
        let now = since(clock);
        let mut moved = t.up.take(&mut ends.0, now) + t.down.take(&mut ends.1, now);
        moved += t.up.give(&mut ends.1, clock, now, &mut batch);
        moved += t.down.give(&mut ends.0, clock, now, &mut batch);

        let over = settings.run_ns.is_some_and(|ns| now.0 >= ns) || stop.load(Ordering::Relaxed);
        if over || now >= next_block {
            t.elapsed_ns = now.0;
            t.up.missed += ends.0.missed();
            t.down.missed += ends.1.missed();
            if over {
                return Ok(t);
            }
            block(&t);
            next_block = next_block.plus_ns(settings.every_ns);
        }
        if moved == 0 {
            let due = [t.up.lane.next_due(), t.down.lane.next_due()].into_iter().flatten().min();
            rest(&t, ends, due.map(|d| d.since_ns(since(clock))), settings)?;
        }
    }
}

/// Sleeps until something comes, or shortly before the next frame is due.
fn rest(t: &Turning, ends: &(End, End), due_in_ns: Option<u64>, settings: &Settings) -> io::Result<()> {
    // A signal that comes just before ppoll is seen within this time.
    let mut limit_ns = 50_000_000;
    if let Some(ns) = due_in_ns {
        if ns <= settings.spin_ns {
            std::hint::spin_loop();
            return Ok(());
        }
        limit_ns = limit_ns.min(ns - settings.spin_ns);
    }
    let mut fds = ArrayVec::<PollFd<'_>, 2>::new();
    for (way, end) in [(&t.up, &ends.0), (&t.down, &ends.1)] {
        if way.lazy() {
            limit_ns = limit_ns.min(LAZY_NS);
        } else {
            fds.push(PollFd::from_borrowed_fd(end.fd(), PollFlags::IN));
        }
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: limit_ns as i64 };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
