//! The segment: made by the node, mapped read-only by whoever wants to look.
#![allow(unsafe_code)] // Shared memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::hist::{BUCKETS, Histogram, bucket_of};
use super::schema::{Ctr, Hist, Stage};

const MAGIC: u64 = u64::from_le_bytes(*b"MILLRACE");
const FACTS_WORDS: usize = 2048; // 16 KiB of text
/// The longest text about a node.
pub const FACTS_BYTES_MAX: usize = FACTS_WORDS * 8;
const HEADER_WORDS: usize = 16 + FACTS_WORDS;
const CORE_WORDS: usize = (Ctr::COUNT + 3 * Stage::COUNT + BUCKETS * Hist::COUNT).next_multiple_of(8);

// Header words.
const W_MAGIC: usize = 0;
const W_SCHEMA: usize = 1;
const W_CORES: usize = 2;
const W_PID: usize = 3;
const W_STATE: usize = 4;
const W_STARTED: usize = 5;
const W_CYCLES_PER_SECOND: usize = 6;
const W_FACTS_SEQ: usize = 7;
const W_FACTS_LEN: usize = 8;

/// What the node is doing, as the segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum NodeState {
    /// Reserving memory, opening ports.
    Starting = 1,
    /// Serving.
    Running = 2,
    /// Finishing what is under way, taking nothing new.
    Draining = 3,
    /// Ended in order.
    Stopped = 4,
}

impl NodeState {
    /// The word used in reports and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            NodeState::Starting => "starting",
            NodeState::Running => "running",
            NodeState::Draining => "draining",
            NodeState::Stopped => "stopped",
        }
    }

    fn from_word(w: u64) -> Option<NodeState> {
        [NodeState::Starting, NodeState::Running, NodeState::Draining, NodeState::Stopped]
            .into_iter()
            .find(|s| *s as u64 == w)
    }
}

/// Why a segment could not be read.
#[derive(Debug)]
pub enum SegmentError {
    /// The file cannot be opened or mapped.
    Io(io::Error),
    /// Not a segment, or not yet filled in.
    NotASegment,
    /// Written by another version of Millrace.
    OtherSchema,
}

impl std::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SegmentError::Io(e) => write!(f, "cannot read the node's counters: {e}"),
            SegmentError::NotASegment => f.write_str("the counters file is not one of a Millrace node"),
            SegmentError::OtherSchema => {
                f.write_str("the node runs another version of millrace; use its own `millrace stats`")
            }
        }
    }
}

impl std::error::Error for SegmentError {}

/// The mapped segment.
pub struct Segment {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is only reached as atomics.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// FNV-1a over all names: two builds with one hash agree on every word's meaning.
const fn schema_hash() -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < Ctr::COUNT {
        h = fnv(h, Ctr::ALL[i].name());
        i += 1;
    }
    i = 0;
    while i < Stage::COUNT {
        h = fnv(h, Stage::ALL[i].name());
        i += 1;
    }
    i = 0;
    while i < Hist::COUNT {
        h = fnv(h, Hist::ALL[i].name());
        i += 1;
    }
    h ^ (BUCKETS as u64)
}

const fn fnv(mut h: u64, s: &str) -> u64 {
    let b = s.as_bytes();
    let mut i = 0;
    while i < b.len() {
        h = (h ^ b[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    (h ^ 0xff).wrapping_mul(0x0000_0100_0000_01b3)
}

impl Segment {
    /// A segment for `cores` cores in a new file at `path` (which replaces what was there).
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(path: &Path, cores: usize) -> io::Result<Arc<Segment>> {
        // A reader of the old file keeps its mapping: unlink instead of truncating under it.
        let _ = std::fs::remove_file(path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let words = HEADER_WORDS + cores * CORE_WORDS;
        file.set_len(words as u64 * 8)?;
        let s = Segment::map(Some(&file), words, true)?;
        s.init(cores);
        Ok(Arc::new(s))
    }

    /// A segment in memory of this process only: tests, the simulator, benches.
    ///
    /// # Panics
    /// When there is no memory left.
    pub fn in_memory(cores: usize) -> Arc<Segment> {
        let s = Segment::map(None, HEADER_WORDS + cores * CORE_WORDS, true).expect("memory for counters");
        s.init(cores);
        Arc::new(s)
    }

    /// Maps a node's segment to read it.
    ///
    /// # Errors
    /// When there is none, or it is another version's.
    pub fn open(path: &Path) -> Result<Segment, SegmentError> {
        let file = File::open(path).map_err(SegmentError::Io)?;
        let len = file.metadata().map_err(SegmentError::Io)?.len() as usize;
        if len < HEADER_WORDS * 8 || !len.is_multiple_of(8) {
            return Err(SegmentError::NotASegment);
        }
        let s = Segment::map(Some(&file), len / 8, false).map_err(SegmentError::Io)?;
        if s.word(W_MAGIC).load(Ordering::Acquire) != MAGIC {
            return Err(SegmentError::NotASegment);
        }
        if s.word(W_SCHEMA).load(Ordering::Relaxed) != schema_hash()
            || s.words != HEADER_WORDS + s.cores() * CORE_WORDS
        {
            return Err(SegmentError::OtherSchema);
        }
        Ok(s)
    }

    fn map(file: Option<&File>, words: usize, write: bool) -> io::Result<Segment> {
        let prot = if write { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let (flags, fd) = match file {
            Some(f) => (libc::MAP_SHARED, f.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        let populate = if write { libc::MAP_POPULATE } else { 0 };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing of ours.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), words * 8, prot, flags | populate, fd, 0) };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(p.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        Ok(Segment { base, words })
    }

    fn init(&self, cores: usize) {
        self.word(W_SCHEMA).store(schema_hash(), Ordering::Relaxed);
        self.word(W_CORES).store(cores as u64, Ordering::Relaxed);
        self.word(W_PID).store(u64::from(std::process::id()), Ordering::Relaxed);
        self.word(W_STATE).store(NodeState::Starting as u64, Ordering::Relaxed);
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.word(W_STARTED).store(started.as_secs(), Ordering::Relaxed);
        self.word(W_MAGIC).store(MAGIC, Ordering::Release);
    }

    fn word(&self, i: usize) -> &AtomicU64 {
        assert!(i < self.words);
        // SAFETY: word i lies in the mapping, which lives as long as `self`; atomics may be shared.
        unsafe { self.base.add(i).as_ref() }
    }

    /// Cores in the segment.
    pub fn cores(&self) -> usize {
        self.word(W_CORES).load(Ordering::Relaxed) as usize
    }

    /// Process id of the node.
    pub fn pid(&self) -> u32 {
        self.word(W_PID).load(Ordering::Relaxed) as u32
    }

    /// Unix time of the start, in seconds.
    pub fn started(&self) -> u64 {
        self.word(W_STARTED).load(Ordering::Relaxed)
    }

    /// What the node said last that it was doing.
    pub fn state(&self) -> Option<NodeState> {
        NodeState::from_word(self.word(W_STATE).load(Ordering::Relaxed))
    }

    /// Says what the node is doing.
    pub fn set_state(&self, state: NodeState) {
        self.word(W_STATE).store(state as u64, Ordering::Relaxed);
    }

    /// Cycles of the counters' clock in a second (0: not said).
    pub fn cycles_per_second(&self) -> u64 {
        self.word(W_CYCLES_PER_SECOND).load(Ordering::Relaxed)
    }

    /// Says how fast the cycle counter runs.
    pub fn set_cycles_per_second(&self, hz: u64) {
        self.word(W_CYCLES_PER_SECOND).store(hz, Ordering::Relaxed);
    }

    /// Leaves a text about the node (JSON: name, version, ports as they run). At most 16 KiB are kept.
    pub fn set_facts(&self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(FACTS_WORDS * 8)];
        let seq = self.word(W_FACTS_SEQ);
        seq.fetch_add(1, Ordering::AcqRel); // odd: being written
        fence(Ordering::Release);
        for (i, chunk) in bytes.chunks(8).enumerate() {
            let mut w = [0; 8];
            w[..chunk.len()].copy_from_slice(chunk);
            self.word(16 + i).store(u64::from_le_bytes(w), Ordering::Relaxed);
        }
        self.word(W_FACTS_LEN).store(bytes.len() as u64, Ordering::Relaxed);
        seq.fetch_add(1, Ordering::Release);
    }

    /// The text about the node.
    pub fn facts(&self) -> String {
        for _ in 0..1000 {
            let before = self.word(W_FACTS_SEQ).load(Ordering::Acquire);
            let len = (self.word(W_FACTS_LEN).load(Ordering::Relaxed) as usize).min(FACTS_WORDS * 8);
            let mut bytes = Vec::with_capacity(len + 8);
            for i in 0..len.div_ceil(8) {
                bytes.extend_from_slice(&self.word(16 + i).load(Ordering::Relaxed).to_le_bytes());
            }
            bytes.truncate(len);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.word(W_FACTS_SEQ).load(Ordering::Relaxed) == before {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        String::new()
    }

    /// Everything that `core` has counted.
    ///
    /// # Panics
    /// When there is no such core.
    pub fn read_core(&self, core: usize) -> Snapshot {
        assert!(core < self.cores());
        let at = |i: usize| self.word(HEADER_WORDS + core * CORE_WORDS + i).load(Ordering::Relaxed);
        let mut s = Snapshot::default();
        for (i, c) in s.counters.iter_mut().enumerate() {
            *c = at(i);
        }
        for (i, st) in s.stages.iter_mut().enumerate() {
            let w = Ctr::COUNT + 3 * i;
            *st = StageCounts { calls: at(w), packets: at(w + 1), cycles: at(w + 2) };
        }
        for (i, h) in s.hists.iter_mut().enumerate() {
            let w = Ctr::COUNT + 3 * Stage::COUNT + BUCKETS * i;
            for b in 0..BUCKETS {
                h.add(b, at(w + b));
            }
        }
        s
    }

    /// The sum over all cores.
    pub fn read(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for core in 0..self.cores() {
            sum.merge(&self.read_core(core));
        }
        sum
    }

    /// The handle with which `core` counts. One writer per core.
    ///
    /// # Panics
    /// When there is no such core.
    pub fn writer(self: &Arc<Segment>, core: usize) -> Counters {
        assert!(core < self.cores());
        // SAFETY: the core's words lie in the mapping (the segment was made for that many cores).
        let base = unsafe { self.base.add(HEADER_WORDS + core * CORE_WORDS) };
        Counters { words: base.cast(), _segment: Arc::clone(self) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; writers hold the segment.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * 8) };
    }
}

/// A core's handle on its own counters: a load, an add and a store each, no lock prefix.
#[derive(Clone)]
pub struct Counters {
    words: NonNull<[AtomicU64; CORE_WORDS]>,
    _segment: Arc<Segment>,
}

// SAFETY: the words are atomics, and the segment that holds them is kept by the handle.
unsafe impl Send for Counters {}

impl Counters {
    #[inline(always)]
    fn word(&self, i: usize) -> &AtomicU64 {
        // SAFETY: the array lies in the segment, which this handle keeps.
        let words = unsafe { self.words.as_ref() };
        &words[i]
    }

    #[inline(always)]
    fn bump(&self, i: usize, n: u64) {
        let w = self.word(i);
        w.store(w.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds `n`.
    #[inline(always)]
    pub fn add(&self, c: Ctr, n: u64) {
        self.bump(c as usize, n);
    }

    /// Adds one.
    #[inline(always)]
    pub fn inc(&self, c: Ctr) {
        self.add(c, 1);
    }

    /// Sets a gauge.
    #[inline(always)]
    pub fn set(&self, c: Ctr, value: u64) {
        self.word(c as usize).store(value, Ordering::Relaxed);
    }

    /// Reads one's own count.
    #[inline]
    pub fn get(&self, c: Ctr) -> u64 {
        self.word(c as usize).load(Ordering::Relaxed)
    }

    /// Counts a call of a stage.
    #[inline(always)]
    pub fn stage(&self, s: Stage, packets: u64, cycles: u64) {
        let at = Ctr::COUNT + 3 * s as usize;
        self.bump(at, 1);
        self.bump(at + 1, packets);
        self.bump(at + 2, cycles);
    }

    /// Records a latency.
    #[inline]
    pub fn record(&self, h: Hist, ns: u64) {
        self.bump(Ctr::COUNT + 3 * Stage::COUNT + BUCKETS * h as usize + bucket_of(ns), 1);
    }
}

/// What one stage did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageCounts {
    /// Times that it ran.
    pub calls: u64,
    /// Packets (or events) that went through it.
    pub packets: u64,
    /// Cycles spent in it.
    pub cycles: u64,
}

/// A copy of the counters at one time, of one core or summed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    counters: Vec<u64>,
    stages: Vec<StageCounts>,
    hists: Vec<Histogram>,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot {
            counters: vec![0; Ctr::COUNT],
            stages: vec![StageCounts::default(); Stage::COUNT],
            hists: vec![Histogram::default(); Hist::COUNT],
        }
    }
}

impl Snapshot {
    /// A counter's value.
    pub fn get(&self, c: Ctr) -> u64 {
        self.counters[c as usize]
    }

    /// A stage's counts.
    pub fn stage(&self, s: Stage) -> StageCounts {
        self.stages[s as usize]
    }

    /// A histogram.
    pub fn hist(&self, h: Hist) -> &Histogram {
        &self.hists[h as usize]
    }

    /// Adds another core's.
    pub fn merge(&mut self, other: &Snapshot) {
        for (a, b) in self.counters.iter_mut().zip(&other.counters) {
            *a = a.wrapping_add(*b);
        }
        for (a, b) in self.stages.iter_mut().zip(&other.stages) {
            a.calls += b.calls;
            a.packets += b.packets;
            a.cycles += b.cycles;
        }
        for (a, b) in self.hists.iter_mut().zip(&other.hists) {
            a.merge(b);
        }
    }

    /// Sum of the drops of received packets.
    pub fn rx_drops(&self) -> u64 {
        Ctr::ALL.iter().filter(|c| c.is_rx_drop()).map(|c| self.get(*c)).sum()
    }

    /// Sum of the drops of built packets.
    pub fn tx_drops(&self) -> u64 {
        Ctr::ALL.iter().filter(|c| c.is_tx_drop()).map(|c| self.get(*c)).sum()
    }

    /// `rx + taken over − (accepted + forwarded + punted + handed over + Σ drops)`: packets held within a pass; 0
    /// between passes, for each core and for their sum. What is in the mail has been handed over, and not yet taken
    /// over: see [`Snapshot::in_mail`].
    pub fn rx_imbalance(&self) -> i64 {
        let known = self.get(Ctr::RxAccepted)
            + self.get(Ctr::RxForwarded)
            + self.get(Ctr::RxPunted)
            + self.get(Ctr::RxHandedOver)
            + self.rx_drops();
        (self.get(Ctr::RxPackets) + self.get(Ctr::RxTakenOver)) as i64 - known as i64
    }

    /// Frames between two cores: handed over and not yet taken over. 0 when all cores are at rest. Of a sum only.
    pub fn in_mail(&self) -> i64 {
        self.get(Ctr::RxHandedOver) as i64 - self.get(Ctr::RxTakenOver) as i64
    }

    /// `built − (sent + Σ drops + queued)`: 0 between passes.
    pub fn tx_imbalance(&self) -> i64 {
        let known = self.get(Ctr::TxSent) + self.tx_drops() + self.get(Ctr::TxQueued);
        self.get(Ctr::TxBuilt) as i64 - known as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_mapping_sees_what_is_counted() {
        let path = std::env::temp_dir().join(format!("millrace-seg-{}", std::process::id()));
        let seg = Segment::create(&path, 2).unwrap();
        seg.set_facts("{\"node\":\"test\"}");
        seg.set_state(NodeState::Running);
        let (a, b) = (seg.writer(0), seg.writer(1));
        a.add(Ctr::RxPackets, 3);
        b.add(Ctr::RxPackets, 4);
        a.inc(Ctr::RxAccepted);
        b.add(Ctr::DropTcpChecksum, 6);
        a.stage(Stage::Rx, 64, 1000);
        b.record(Hist::LastByte, 5_000);
        let r = Segment::open(&path).unwrap();
        assert_eq!((r.cores(), r.pid(), r.state()), (2, std::process::id(), Some(NodeState::Running)));
        assert_eq!(r.facts(), "{\"node\":\"test\"}");
        let s = r.read();
        assert_eq!((s.get(Ctr::RxPackets), s.rx_drops(), s.rx_imbalance()), (7, 6, 0));
        assert_eq!(s.stage(Stage::Rx), StageCounts { calls: 1, packets: 64, cycles: 1000 });
        assert_eq!(s.hist(Hist::LastByte).count(), 1);
        assert_eq!(r.read_core(0).get(Ctr::RxPackets), 3);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn other_files_are_refused() {
        let path = std::env::temp_dir().join(format!("millrace-noseg-{}", std::process::id()));
        assert!(matches!(Segment::open(&path), Err(SegmentError::Io(_))));
        std::fs::write(&path, vec![0; HEADER_WORDS * 8]).unwrap();
        assert!(matches!(Segment::open(&path), Err(SegmentError::NotASegment)));
        let mut bytes = vec![0; HEADER_WORDS * 8];
        bytes[..8].copy_from_slice(b"MILLRACE");
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Segment::open(&path), Err(SegmentError::OtherSchema)));
        std::fs::remove_file(path).unwrap();
    }
}
