//! `mem`: an in-process wire. Frames are copied into it and out of it, as a device does by DMA.
//!
//! ```text
//!  MemPort / WireEnd ──► [full ring] ──► WireEnd / MemPort      (and the same the other way)
//!                   ◄── [empty ring] ◄──
//! ```
//!
//! The boxes of a fixed set of frames circulate between two bounded wait-free rings, each with one writer and one
//! reader, so that the wire can join two threads, allocates only when it is made, and drops (counted) when the reader
//! falls behind.
//!
//! A reader that wants to sleep hangs a doorbell on its end ([`WireEnd::hang_doorbell`],
//! [`MemPort::with_doorbell`]); without one, writers pay nothing for it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock};

use rtrb::{Consumer, Producer, RingBuffer};

use super::{BURST_MAX, Burst, Fill, LinkFacts, Mac, Port, PortStats, TxQueue};
use crate::bell::Doorbell;
use crate::buf::RxFlags;
use crate::{Packet, Pool, Time};

struct Frame {
    len: usize,
    bytes: Box<[u8]>,
}

/// The reader's bell of a direction, if it ever sleeps.
type Bell = Arc<OnceLock<Doorbell>>;

/// Where frames are put into a direction.
struct Writer {
    full: RefCell<Producer<Box<Frame>>>,
    empty: RefCell<Consumer<Box<Frame>>>,
    /// One that was taken out, and then not sent.
    spare: RefCell<Option<Box<Frame>>>,
    bell: Bell,
    overflows: Cell<u64>,
    frame_bytes: usize,
}

/// Where they are taken out.
struct Reader {
    full: RefCell<Consumer<Box<Frame>>>,
    empty: RefCell<Producer<Box<Frame>>>,
    bell: Bell,
}

fn direction(frames: usize, frame_bytes: usize) -> (Writer, Reader) {
    let (full_in, full_out) = RingBuffer::new(frames);
    let (mut empty_in, empty_out) = RingBuffer::new(frames);
    for _ in 0..frames {
        // Cannot fail: the ring has room for exactly these.
        let _ = empty_in.push(Box::new(Frame { len: 0, bytes: vec![0; frame_bytes].into() }));
    }
    let bell = Bell::default();
    (
        Writer {
            full: RefCell::new(full_in),
            empty: RefCell::new(empty_out),
            spare: RefCell::default(),
            bell: Arc::clone(&bell),
            overflows: Cell::new(0),
            frame_bytes,
        },
        Reader { full: RefCell::new(full_out), empty: RefCell::new(empty_in), bell },
    )
}

impl Writer {
    /// Tells a sleeping reader that frames were put in.
    #[inline]
    fn ring(&self) {
        if let Some(b) = self.bell.get() {
            b.ring();
        }
    }
}

/// One end of a wire, in raw frames: for what is not a core (the bridge, the link, the simulator's hosts). It may
/// move to another thread, but belongs to one at a time.
pub struct WireEnd {
    tx: Writer,
    rx: Reader,
}

/// A wire that holds up to `frames` frames of up to `frame_bytes` in each direction.
pub fn wire(frames: usize, frame_bytes: usize) -> (WireEnd, WireEnd) {
    let (to_right, from_left) = direction(frames, frame_bytes);
    let (to_left, from_right) = direction(frames, frame_bytes);
    (WireEnd { tx: to_right, rx: from_right }, WireEnd { tx: to_left, rx: from_left })
}

impl WireEnd {
    /// Sends a frame that `fill` writes, and whose length `fill` gives (`None`: not sent after all). `false`
    /// when the wire is full, which is counted.
    pub fn send_with(&self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let sent = self.put_with(fill);
        if sent {
            self.tx.ring();
        }
        sent
    }

    /// As [`WireEnd::send_with`], but leaves the doorbell alone: for bursts, which ring once.
    fn put_with(&self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Some(mut f) = self.tx.spare.take().or_else(|| self.tx.empty.borrow_mut().pop().ok()) else {
            self.tx.overflows.set(self.tx.overflows.get() + 1);
            return false;
        };
        match fill(&mut f.bytes) {
            Some(len) => {
                f.len = len.min(f.bytes.len());
                self.tx.full.borrow_mut().push(f).is_ok()
            }
            None => {
                self.tx.spare.replace(Some(f));
                false
            }
        }
    }

    /// Sends a copy of `frame`.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.send_with(|room| {
            room.get_mut(..frame.len())?.copy_from_slice(frame);
            Some(frame.len())
        })
    }

    /// Receives a frame into `take`; `None` when none waits.
    pub fn recv_with<R>(&self, take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let f = self.rx.full.borrow_mut().pop().ok()?;
        let r = take(&f.bytes[..f.len]);
        // There is room for every frame that there is.
        let _ = self.rx.empty.borrow_mut().push(f);
        Some(r)
    }

    /// Whether the wire has room for another frame of ours.
    pub fn can_send(&self) -> bool {
        self.tx.spare.borrow().is_some() || !self.tx.empty.borrow().is_empty()
    }

    /// Frames of ours for which the wire has room.
    pub fn room(&self) -> usize {
        usize::from(self.tx.spare.borrow().is_some()) + self.tx.empty.borrow().slots()
    }

    /// Whether a frame waits for us.
    pub fn has_rx(&self) -> bool {
        !self.rx.full.borrow().is_empty()
    }

    /// The longest frame that the wire carries.
    pub fn frame_bytes(&self) -> usize {
        self.tx.frame_bytes
    }

    /// Hangs a doorbell on this end, so that its reader can sleep on [`WireEnd::wait_fd`]. Once is enough.
    ///
    /// # Errors
    /// When the kernel gives no eventfd: too many open files.
    pub fn hang_doorbell(&self) -> io::Result<()> {
        if self.rx.bell.get().is_none() {
            // Lost to another thread at the same time: its bell serves as well.
            let _ = self.rx.bell.set(Doorbell::new()?);
        }
        Ok(())
    }

    /// Readable when a frame came after [`WireEnd::prepare_wait`]; `None` without a doorbell.
    pub fn wait_fd(&self) -> Option<RawFd> {
        self.rx.bell.get().map(Doorbell::fd)
    }

    /// Says that this end's reader is about to sleep. Gives whether it may: `false` when a frame waits
    /// already. If it may, [`WireEnd::end_wait`] follows.
    pub fn prepare_wait(&self) -> bool {
        let Some(b) = self.rx.bell.get() else { return !self.has_rx() };
        b.prepare();
        let may = !self.has_rx();
        if !may {
            b.cancel();
        }
        may
    }

    /// Says that this end's reader is awake again.
    pub fn end_wait(&self) {
        if let Some(b) = self.rx.bell.get() {
            b.awake();
        }
    }

    /// Frames of ours that found the wire full.
    pub fn overflows(&self) -> u64 {
        self.tx.overflows.get()
    }
}

/// A port over one end of a wire.
pub struct MemPort {
    end: WireEnd,
    pool: Pool,
    facts: LinkFacts,
    stats: PortStats,
    number: u8,
}

impl MemPort {
    /// A port with our address `mac`, numbered `number` on its core, receiving into `pool`.
    ///
    /// Checksums are verified and filled in, unless [`MemPort::trust_wire`] says otherwise.
    pub fn new(end: WireEnd, pool: Pool, mac: Mac, mtu: u16, number: u8) -> MemPort {
        let facts = LinkFacts {
            kind: "mem",
            device: "in-process".to_owned(),
            mac,
            mtu,
            mode: "1 queue, copy, checksums in software".to_owned(),
            rx_checksum_offload: false,
            tx_checksum_offload: false,
            tso_bytes_max: 0,
            rss: None,
        };
        MemPort { end, pool, facts, stats: PortStats::default(), number }
    }

    /// Hangs a doorbell on the port's end, so that an idle core sleeps until a frame comes.
    ///
    /// # Errors
    /// As [`WireEnd::hang_doorbell`].
    pub fn with_doorbell(self) -> io::Result<MemPort> {
        self.end.hang_doorbell()?;
        Ok(self)
    }

    /// Nothing can damage frames on this wire: checksums are neither verified nor needed. For the `host` port.
    pub fn trust_wire(mut self, kind: &'static str, device: String) -> MemPort {
        self.facts.kind = kind;
        self.facts.device = device;
        self.facts.mode = "1 queue, copy, no checksums needed".to_owned();
        self.facts.rx_checksum_offload = true;
        self.facts.tx_checksum_offload = true;
        self
    }
}

/// Receives one frame's bytes into a new cell: the part that every copying port shares.
pub(super) fn receive_copy(
    frame: &[u8],
    pool: &Pool,
    stats: &mut PortStats,
    number: u8,
    now: Time,
) -> Option<Packet> {
    stats.rx_packets += 1;
    stats.rx_bytes += frame.len() as u64;
    let Some(mut p) = pool.alloc() else {
        stats.rx_no_buffer += 1;
        return None;
    };
    if !p.append(frame) {
        stats.rx_too_long += 1;
        return None;
    }
    let m = p.meta_mut();
    m.arrival = now;
    m.port = number;
    Some(p)
}

impl Port for MemPort {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        let before = out.len();
        // Frames that find no cell must not keep the loop going for ever: count takes, not gives.
        for _ in 0..out.remaining_capacity() {
            let (pool, stats, number) = (&self.pool, &mut self.stats, self.number);
            let Some(got) = self.end.recv_with(|f| receive_copy(f, pool, stats, number, now)) else { break };
            if let Some(mut p) = got {
                if self.facts.rx_checksum_offload {
                    p.meta_mut().flags.set(RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK);
                }
                out.push(p);
            }
        }
        out.len() - before
    }

    fn tx_burst(&mut self, queue: &mut TxQueue, _now: Time) -> usize {
        let mut n = 0;
        while n < BURST_MAX && self.end.can_send() {
            let Some(p) = queue.pop() else { break };
            n += 1;
            if self.end.put_with(|room| p.copy_to(room)) {
                self.stats.tx_packets += 1;
                self.stats.tx_bytes += p.total_len() as u64;
            } else {
                self.stats.tx_errors += 1;
            }
        }
        if n > 0 {
            self.end.tx.ring();
        }
        n
    }

    fn tx_fill(&mut self, most: usize, bytes: usize, fill: Fill) -> Option<usize> {
        if bytes > self.end.frame_bytes() {
            return None;
        }
        let mut n = 0;
        while n < most.min(BURST_MAX) && self.end.can_send() {
            let mut len = 0;
            if !self.end.put_with(|room| {
                len = fill(room)?;
                Some(len)
            }) {
                break;
            }
            n += 1;
            self.stats.tx_bytes += len as u64;
        }
        self.stats.tx_packets += n as u64;
        if n > 0 {
            self.end.tx.ring();
        }
        Some(n)
    }

    fn facts(&self) -> &LinkFacts {
        &self.facts
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn rx_pool(&self) -> &Pool {
        &self.pool
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.end.wait_fd()
    }

    fn prepare_wait(&mut self) -> bool {
        self.end.prepare_wait()
    }

    fn end_wait(&mut self) {
        self.end.end_wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bell::wait_readable;
    use hugepages::PagePolicy;
    use std::time::Duration;

    /// What an idle core does.
    fn wait(p: &mut MemPort, timeout: Duration) {
        if p.prepare_wait() {
            wait_readable(&[p.wait_fd().unwrap()], timeout);
            p.end_wait();
        }
    }

    fn port(end: WireEnd, cells: u32) -> MemPort {
        let pool = Pool::reserve("rx", cells, 2048, PagePolicy::NormalOnly).unwrap();
        MemPort::new(end, pool, [2, 0, 0, 0, 0, 1], 1500, 0)
    }

    #[test]
    fn frames_cross_and_counts_agree() {
        let (a, b) = wire(8, 1600);
        let (mut a, mut b) = (port(a, 16), port(b, 16));
        let mut q = TxQueue::new(16);
        for i in 0..10u8 {
            let mut p = a.pool.alloc().unwrap();
            p.append(&[i; 60]);
            q.push(p);
        }
        assert_eq!(a.tx_burst(&mut q, Time(0)), 8, "the wire holds eight");
        let mut burst = Burst::new();
        assert_eq!(b.rx_burst(&mut burst, Time(5)), 8);
        assert_eq!(burst[7].head(), &[7; 60]);
        assert_eq!(burst[7].meta().arrival, Time(5));
        a.tx_burst(&mut q, Time(0));
        b.rx_burst(&mut burst, Time(6));
        assert_eq!((a.stats().tx_packets, b.stats().rx_packets, q.len()), (10, 10, 0));
    }

    #[test]
    fn no_cell_is_a_counted_drop() {
        let (a, b) = wire(8, 4000);
        let mut b = port(b, 1);
        for _ in 0..2 {
            a.send(&[0; 60]);
        }
        let mut burst = Burst::new();
        b.rx_burst(&mut burst, Time(0));
        burst.clear();
        a.send(&[0; 3000]);
        b.rx_burst(&mut burst, Time(0));
        let s = b.stats();
        assert_eq!((s.rx_packets, s.rx_no_buffer, s.rx_too_long), (3, 1, 1));
    }

    #[test]
    fn a_full_wire_refuses_and_counts() {
        let (a, _b) = wire(2, 100);
        assert!(a.send(b"1") && a.send(b"2") && !a.send(b"3"));
        assert_eq!(a.overflows(), 1);
        assert!(!a.can_send());
    }

    #[test]
    fn a_doorbell_ends_a_sleep_and_a_waiting_frame_prevents_one() {
        let (a, b) = wire(8, 2000);
        let mut b = port(b, 16).with_doorbell().unwrap();
        assert!(b.wait_fd().is_some() && a.wait_fd().is_none(), "one bell for each reader");
        let long = Duration::from_secs(20);
        let t0 = std::time::Instant::now();
        a.send(&[1; 60]);
        wait(&mut b, long); // A frame waits: no sleep.
        let mut burst = Burst::new();
        assert_eq!(b.rx_burst(&mut burst, Time(0)), 1);
        let far = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            a.send(&[2; 60]);
            a
        });
        wait(&mut b, long); // Ended by the bell.
        assert_eq!(b.rx_burst(&mut burst, Time(0)), 1);
        assert!(t0.elapsed() < long);
        let _a = far.join().unwrap();
        let t0 = std::time::Instant::now();
        wait(&mut b, Duration::from_millis(30));
        wait(&mut b, Duration::from_millis(30));
        assert!(t0.elapsed() >= Duration::from_millis(30), "a bell that was heard is silent again");
    }

    #[test]
    fn frames_are_written_where_they_are_sent() {
        let (a, b) = wire(4, 256);
        let pool = Pool::reserve("rx", 4, 512, PagePolicy::NormalOnly).expect("memory");
        let mut port = MemPort::new(a, pool, [2, 0, 0, 0, 0, 1], 200, 0);
        let mut n = 0;
        let mut write = |most| {
            port.tx_fill(most, 100, &mut |room| {
                n += 1;
                room[..n].fill(n as u8);
                (n != 3).then_some(n)
            })
        };
        // The third is not sent after all, and the wire holds four.
        assert_eq!((write(9), write(1), write(9)), (Some(2), Some(1), Some(1)));
        assert_eq!(port.tx_fill(1, 257, &mut |_| unreachable!()), None);
        assert_eq!((port.stats().tx_packets, port.stats().tx_bytes), (4, 1 + 2 + 4 + 5));
        for len in [1, 2, 4, 5] {
            assert_eq!(b.recv_with(<[u8]>::to_vec), Some(vec![len; len.into()]));
        }
        assert!(!b.has_rx());
    }

    #[test]
    fn no_wake_up_is_lost_between_two_sleepers() {
        let (a, b) = wire(4, 100);
        let run = |end: WireEnd, serves: bool| {
            let mut p = port(end, 16).with_doorbell().unwrap();
            let mut burst = Burst::new();
            let mut left = 20_000;
            if serves {
                p.end.send(&[0; 60]);
            }
            // A lost wake-up would cost 10 s, and fail the bound below.
            while left > 0 {
                wait(&mut p, Duration::from_secs(10));
                if p.rx_burst(&mut burst, Time(0)) > 0 {
                    left -= 1;
                    burst.clear();
                    p.end.send(&[0; 60]);
                }
            }
        };
        let t0 = std::time::Instant::now();
        std::thread::scope(|s| {
            s.spawn(move || run(a, true));
            s.spawn(move || run(b, false));
        });
        assert!(t0.elapsed() < Duration::from_secs(10));
    }
}
