//! The loop of one core: poll, process, time out, send; and what it does when there is nothing to do.
//!
//! [`Core::pass`] is one turn with a time that the caller gives: the simulator and the benches call it
//! themselves. [`Core::run`] turns it with a real clock until it is told to stop, and backs off when idle:
//! 64 passes of spinning, 192 with a pause in each, then sleeps of up to [`SLEEP_MAX`], or of up to [`WAIT_MAX`]
//! where every port has a descriptor that a frame makes readable; never past the next deadline. A core with a
//! bell ([`Core::with_bell`]) waits on that too, so that others can wake it.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::bell::{Bells, WAIT_FDS_MAX, wait_readable};
use crate::counters::{Counters, Ctr, Stage};
use crate::port::PortStats;
use crate::time::cycles;
use crate::{Burst, Clock, Port, Time, TxQueue};

/// The longest that an idle core sleeps without looking.
pub const SLEEP_MAX: Duration = Duration::from_millis(1);
/// As above, when the ports wake the core by themselves.
pub const WAIT_MAX: Duration = Duration::from_millis(10);
const SPIN_PASSES: u32 = 64;
const PAUSE_PASSES: u32 = 256;

/// What a core does with packets. `tx[n]` is the queue of port number `n`.
pub trait Pipeline {
    /// Takes a burst (leaves it empty) and queues what is to be sent.
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time);

    /// Runs what is due, and sends what could not be sent before. Called once in every pass, after the
    /// bursts. Gives whether it did anything.
    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool;

    /// Sends what is written into a port's own buffers ([`Port::tx_fill`]), after all that is queued for it. Called for each
    /// port in every pass. Gives how many frames were written.
    fn fill<P: Port>(&mut self, _port: &mut P, _number: usize, _now: Time) -> usize {
        0
    }

    /// When `timers` must run next, if nothing arrives.
    fn next_deadline(&self) -> Option<Time>;

    /// The core is about to sleep, and its bell is hung. `false`: something waits for it already (mail, an order),
    /// and it must not. [`Pipeline::woken`] follows in either case.
    fn may_sleep(&mut self) -> bool {
        true
    }

    /// The core is awake again, or did not sleep after all; its next pass begins.
    fn woken(&mut self) {}
}

struct Slot {
    port: Box<dyn Port>,
    seen: PortStats,
}

/// One core: its queue of every port, and the pipeline.
pub struct Core<L> {
    slots: Vec<Slot>,
    tx: Vec<TxQueue>,
    burst: Burst,
    /// The pipeline.
    pub pipeline: L,
    counters: Counters,
    built_seen: u64,
    dropped_seen: u64,
    bell: Option<(Arc<Bells>, usize)>,
}

impl<L: Pipeline> Core<L> {
    /// A core that polls `ports` (numbered in order), each with room for `tx_bound` packets to be sent.
    pub fn new(ports: Vec<Box<dyn Port>>, pipeline: L, counters: Counters, tx_bound: usize) -> Core<L> {
        let tx = ports.iter().map(|_| TxQueue::new(tx_bound)).collect();
        let slots = ports.into_iter().map(|port| Slot { port, seen: PortStats::default() }).collect();
        let burst = Burst::new();
        Core { slots, tx, burst, pipeline, counters, built_seen: 0, dropped_seen: 0, bell: None }
    }

    /// The same, woken by its bell: that of `core`.
    ///
    /// # Panics
    /// When there is no such bell.
    pub fn with_bell(mut self, bells: Arc<Bells>, core: usize) -> Core<L> {
        assert!(core < bells.cores());
        self.bell = Some((bells, core));
        self
    }

    /// One turn. Gives whether there was anything to do.
    pub fn pass(&mut self, now: Time) -> bool {
        let c = &self.counters;
        let mut busy = false;
        for slot in &mut self.slots {
            let t0 = cycles();
            let n = slot.port.rx_burst(&mut self.burst, now);
            if n > 0 {
                c.stage(Stage::Rx, n as u64, cycles() - t0);
                self.pipeline.burst(&mut self.burst, &mut self.tx, now);
                debug_assert!(self.burst.is_empty(), "the pipeline left packets behind");
                self.burst.clear();
                busy = true;
            }
        }
        busy |= self.pipeline.timers(&mut self.tx, now);
        for (i, (slot, queue)) in self.slots.iter_mut().zip(&mut self.tx).enumerate() {
            if !queue.is_empty() {
                let t0 = cycles();
                let mut n = 0;
                // A pass hands over what it built; a port that takes less than a burst is full.
                loop {
                    let sent = slot.port.tx_burst(queue, now);
                    n += sent;
                    if sent < crate::BURST_MAX || queue.is_empty() {
                        break;
                    }
                }
                c.stage(Stage::Tx, n as u64, cycles() - t0);
                busy |= n > 0;
            }
            let written = self.pipeline.fill(&mut slot.port, i, now);
            queue.built += written as u64;
            busy |= written > 0;
        }
        if busy {
            self.settle();
        }
        self.counters.inc(Ctr::LoopPasses);
        busy
    }

    /// Brings the counters of ports and queues into the segment: the terms of both laws.
    fn settle(&mut self) {
        let c = &self.counters;
        for s in &mut self.slots {
            let (new, old) = (s.port.stats(), s.seen);
            c.add(Ctr::RxPackets, new.rx_packets - old.rx_packets);
            c.add(Ctr::RxBytes, new.rx_bytes - old.rx_bytes);
            c.add(Ctr::RxCopied, new.rx_copied - old.rx_copied);
            c.add(Ctr::DropPortNoBuffer, new.rx_no_buffer - old.rx_no_buffer);
            c.add(Ctr::DropPortTooLong, new.rx_too_long - old.rx_too_long);
            c.add(Ctr::DropPortMissed, new.rx_missed - old.rx_missed);
            c.add(Ctr::DropPortDamaged, new.rx_damaged - old.rx_damaged);
            c.add(Ctr::TxSent, new.tx_packets - old.tx_packets);
            c.add(Ctr::TxBytes, new.tx_bytes - old.tx_bytes);
            c.add(Ctr::DropTxPortError, new.tx_errors - old.tx_errors);
            c.add(Ctr::TxUnsent, new.tx_unsent - old.tx_unsent);
            s.seen = new;
        }
        let (mut built, mut dropped, mut queued) = (0, 0, 0);
        for (q, s) in self.tx.iter().zip(&self.slots) {
            built += q.built;
            dropped += q.dropped;
            queued += q.len() as u64 + s.seen.tx_held;
        }
        c.add(Ctr::TxBuilt, built - self.built_seen);
        c.add(Ctr::DropTxQueueFull, dropped - self.dropped_seen);
        c.set(Ctr::TxQueued, queued);
        self.built_seen = built;
        self.dropped_seen = dropped;
    }

    /// Turns until `stop` is set.
    pub fn run(&mut self, clock: &Clock, stop: &AtomicBool) {
        let mut idle = 0u32;
        let mut t0 = cycles();
        while !stop.load(Ordering::Relaxed) {
            let now = clock.now();
            let busy = self.pass(now);
            if busy {
                idle = 0;
            } else {
                idle = idle.saturating_add(1);
                self.back_off(idle, now);
            }
            let t1 = cycles();
            self.counters.add(if busy { Ctr::LoopBusy } else { Ctr::LoopIdle }, t1 - t0);
            t0 = t1;
        }
    }

    fn back_off(&mut self, idle: u32, now: Time) {
        if idle < SPIN_PASSES {
            return;
        }
        if idle < PAUSE_PASSES {
            std::hint::spin_loop();
            return;
        }
        let mut fds: ArrayVec<RawFd, WAIT_FDS_MAX> = ArrayVec::new();
        fds.extend(self.bell.iter().map(|(bells, core)| bells.of(*core).fd()));
        let mut wakes = true;
        for slot in &self.slots {
            wakes &= slot.port.wait_fd().is_some_and(|fd| fds.try_push(fd).is_ok());
        }
        let mut sleep = if wakes { WAIT_MAX } else { SLEEP_MAX.min(Duration::from_micros(idle.into())) };
        if self.tx.iter().any(|q| !q.is_empty()) {
            sleep = sleep.min(Duration::from_micros(50));
        }
        if let Some(t) = self.pipeline.next_deadline() {
            sleep = sleep.min(t - now);
        }
        // Waking takes longer than this: spin on.
        if sleep < Duration::from_micros(5) {
            return;
        }
        self.counters.inc(Ctr::LoopSleeps);
        if fds.is_empty() {
            std::thread::sleep(sleep);
        } else {
            self.wait(&fds, sleep);
        }
    }

    /// Sleeps until something wakes the core. Everybody who could is told first, and says what waits already.
    fn wait(&mut self, fds: &[RawFd], sleep: Duration) {
        let bell = self.bell.as_ref().map(|(bells, core)| bells.of(*core));
        if let Some(b) = bell {
            b.prepare();
        }
        let mut prepared = 0;
        for slot in &mut self.slots {
            if !slot.port.prepare_wait() {
                break;
            }
            prepared += 1;
        }
        let mut readable = 0;
        if prepared == self.slots.len() {
            if self.pipeline.may_sleep() {
                readable = wait_readable(fds, sleep);
            }
            self.pipeline.woken();
        }
        for slot in &mut self.slots[..prepared] {
            slot.port.end_wait();
        }
        match bell {
            Some(b) if readable & 1 != 0 => b.awake(),
            Some(b) => b.cancel(),
            None => {}
        }
    }

    /// The ports, in order.
    pub fn ports(&self) -> impl Iterator<Item = &dyn Port> {
        self.slots.iter().map(|s| &*s.port)
    }

    /// The core's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pool;
    use crate::counters::Segment;
    use crate::port::mem::{MemPort, wire};
    use hugepages::PagePolicy;

    /// Sends every frame back, and drops those that begin with 0xff.
    struct Echo(Counters);

    impl Pipeline for Echo {
        fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], _now: Time) {
            for p in rx.drain(..) {
                if p.head()[0] == 0xff {
                    self.0.inc(Ctr::DropL2Malformed);
                } else {
                    self.0.inc(Ctr::RxForwarded);
                    tx[p.meta().port as usize].push(p);
                }
            }
        }
        fn timers(&mut self, _tx: &mut [TxQueue], _now: Time) -> bool {
            false
        }
        fn next_deadline(&self) -> Option<Time> {
            None
        }
    }

    #[test]
    fn both_laws_hold_over_an_echo_with_drops_and_a_full_wire() {
        let seg = Segment::in_memory(1);
        let (near, far) = wire(32, 2000);
        let pool = Pool::reserve("rx", 40, 2048, PagePolicy::NormalOnly).unwrap();
        let port = MemPort::new(near, pool.clone(), [2; 6], 1500, 0);
        let mut core = Core::new(vec![Box::new(port)], Echo(seg.writer(0)), seg.writer(0), 16);
        let (mut sent, mut back) = (0u64, 0u64);
        for round in 0..100u64 {
            for i in 0..(round % 40) {
                let first = if i % 5 == 0 { 0xff } else { i as u8 };
                sent += u64::from(far.send(&[first; 100]));
            }
            core.pass(Time::from_ms(round));
            // Every third round the far side does not read: its wire fills, then our queue.
            while round % 3 == 0 && far.recv_with(|_| ()).is_some() {
                back += 1;
            }
            let s = seg.read();
            assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "round {round}");
            assert_eq!(s.get(Ctr::RxPackets), sent, "the far side's count, not ours");
        }
        while far.recv_with(|_| ()).is_some() {
            back += 1;
        }
        let s = seg.read();
        assert_eq!(s.get(Ctr::TxSent), back);
        assert!(s.get(Ctr::DropTxQueueFull) > 0 && s.get(Ctr::DropL2Malformed) > 0);
        assert_eq!(s.stage(Stage::Rx).packets, sent - s.get(Ctr::DropPortNoBuffer));
        drop(core);
        assert_eq!(pool.free_count(), 40, "every cell is back");
    }

    /// Counts the times that it found the flag set when its core was about to sleep.
    struct Waits(Arc<AtomicBool>, u64);

    impl Pipeline for Waits {
        fn burst(&mut self, rx: &mut Burst, _tx: &mut [TxQueue], _now: Time) {
            rx.clear();
        }
        fn timers(&mut self, _tx: &mut [TxQueue], _now: Time) -> bool {
            let heard = self.0.swap(false, Ordering::Relaxed);
            self.1 += u64::from(heard);
            heard
        }
        fn next_deadline(&self) -> Option<Time> {
            None
        }
        fn may_sleep(&mut self) -> bool {
            !self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_bell_wakes_a_core_with_several_ports() {
        let (seg, bells) = (Segment::in_memory(1), Bells::new(2).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let word = Arc::new(AtomicBool::new(false));
        let (flag, seg2, bells2, word2) =
            (Arc::clone(&stop), Arc::clone(&seg), Arc::clone(&bells), Arc::clone(&word));
        let core = std::thread::spawn(move || {
            let pool = Pool::reserve("rx", 16, 2048, PagePolicy::NormalOnly).unwrap();
            let port = |n| -> Box<dyn Port> {
                let port = MemPort::new(wire(8, 2000).0, pool.clone(), [2; 6], 1500, n);
                Box::new(port.with_doorbell().unwrap())
            };
            let mut core =
                Core::new(vec![port(0), port(1)], Waits(word2, 0), seg2.writer(0), 16).with_bell(bells2, 1);
            core.run(&Clock::calibrated(), &flag);
            core.pipeline.1
        });
        // A lost wake-up would cost 10 ms each: minutes in all.
        let t0 = std::time::Instant::now();
        for _ in 0..20_000 {
            word.store(true, Ordering::Relaxed);
            bells.ring(1);
            while word.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
        assert!(t0.elapsed() < Duration::from_secs(100));
        while seg.read().get(Ctr::LoopSleeps) == 0 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        bells.ring(1);
        assert_eq!(core.join().unwrap(), 20_000);
    }

    #[test]
    fn an_idle_core_sleeps_and_stops_when_told() {
        let seg = Segment::in_memory(1);
        let (near, far) = wire(8, 2000);
        let pool = Pool::reserve("rx", 16, 2048, PagePolicy::NormalOnly).unwrap();
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let flag = std::sync::Arc::clone(&stop);
        let seg2 = std::sync::Arc::clone(&seg);
        drop(pool);
        let core = std::thread::spawn(move || {
            let pool = Pool::reserve("rx", 16, 2048, PagePolicy::NormalOnly).unwrap();
            let port = MemPort::new(near, pool, [2; 6], 1500, 0);
            let mut core = Core::new(vec![Box::new(port)], Echo(seg2.writer(0)), seg2.writer(0), 16);
            core.run(&Clock::calibrated(), &flag);
        });
        while seg.read().get(Ctr::LoopSleeps) < 3 {
            std::thread::yield_now();
        }
        assert!(far.send(&[1; 60]));
        while far.recv_with(|_| ()).is_none() {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        core.join().unwrap();
        assert!(seg.read().get(Ctr::LoopIdle) > 0);
    }
}
