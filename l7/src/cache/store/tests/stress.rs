//! Threads that fill, read, pin, replace, purge and sleep; every byte is checked, and that nothing comes back.

use std::sync::atomic::AtomicU32;

use super::*;

const KEYS: u32 = 100;
const WORKERS: usize = 3;

struct Shared {
    store: Arc<Store>,
    /// The version that a key's next fill writes.
    next: Vec<AtomicU32>,
    /// Versions below were purged: a look-up that begins now must not give them.
    floor: Vec<AtomicU32>,
    working: AtomicU32,
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// One in 16 is long.
fn len_of(key: u32, version: u32) -> u64 {
    let x = u64::from(key * 31 + version * 7);
    if x.is_multiple_of(16) { 30_000 + x * 97 % 40_000 } else { x * 53 % 3_000 }
}

struct Worker<'a> {
    s: &'a Shared,
    h: Handle,
    rng: Rng,
    pinned: Vec<(ObjectId, u32)>,
    fills: Vec<(Fill, u32, u32)>,
    read: u64,
    scratch: Vec<u8>,
}

impl Worker<'_> {
    fn lookup(&mut self, key: u32) -> Option<ObjectId> {
        let floor = self.s.floor[key as usize].load(Ordering::Acquire);
        let hash = hash_of(&self.s.store, key);
        self.h.lookup(hash, &mut self.scratch, |v| {
            let (k, version, _) = parse(v.blob);
            if k != key {
                return Pick::Next;
            }
            assert!(
                version == 0 || version >= floor,
                "key {key}: version {version} was purged below {floor}"
            );
            Pick::Take
        })
    }

    /// Reads what there is of a pinned object, perhaps over passes, and checks it.
    fn read(&mut self, id: ObjectId, key: u32) {
        let v = self.h.view(id, &mut self.scratch);
        if !v.state.has_head() {
            return;
        }
        let (k, version, len) = parse(v.blob);
        assert_eq!(k, key);
        let from = self.rng.below(len.max(1));
        let mut c = Cursor::at(from);
        loop {
            let before = self.h.progress(id);
            let (mut at, max) = (c.offset(), 1 + self.rng.below(20_000) as usize);
            let n = self.h.read(id, &mut c, max, |piece| {
                for b in piece {
                    assert_eq!(*b, byte(key, version, at), "key {key} version {version} byte {at}");
                    at += 1;
                }
            });
            self.read += n as u64;
            if n == 0 {
                if before.state.is_complete() {
                    assert_eq!(c.offset().max(from), len.max(from), "complete, so all of it is there");
                }
                if !before.state.is_filling() || !self.h.wait_for(id, before) || self.rng.below(4) == 0 {
                    return;
                }
                std::thread::yield_now();
            }
            if self.rng.below(3) == 0 {
                self.top();
            }
        }
    }

    fn top(&mut self) {
        self.h.quiescent();
        self.h.drain_wakes(|_| ());
        while self.h.over_pinned_cap() {
            let Some(at) = self.pinned.iter().position(|(id, _)| self.h.is_evicted(*id)) else { return };
            let (id, _) = self.pinned.swap_remove(at);
            self.h.unpin(id);
        }
    }

    fn begin(&mut self, key: u32) {
        let hash = hash_of(&self.s.store, key);
        let replace = self.rng.below(8) == 0;
        let old = self.lookup(key).filter(|_| replace);
        let check = |v: &ObjectView<'_>| {
            if parse(v.blob).0 == key && Some(v.id) != old { Pick::Take } else { Pick::Next }
        };
        if let Claim::New(fill) = self.h.claim(hash, &blob(key, 0, 0, 0), &mut self.scratch, check) {
            let version = self.s.next[key as usize].fetch_add(1, Ordering::AcqRel);
            self.fills.push((fill, key, version));
        }
    }

    /// Goes on with a fill, a piece at a time.
    fn go_on(&mut self) {
        if self.fills.is_empty() {
            return;
        }
        let at = self.rng.below(self.fills.len() as u64) as usize;
        let (mut fill, key, version) = self.fills.swap_remove(at);
        let len = len_of(key, version);
        if fill.is_empty() {
            let head = blob(key, version, len, (key * 40 % 900) as usize);
            if self.h.set_head(&mut fill, &head).is_err() {
                return self.h.fail(fill);
            }
        }
        let end = len.min(fill.len() + 1 + self.rng.below(9_000));
        let more = body(key, version, fill.len()..end);
        if self.h.append(&mut fill, &more).is_err() || self.rng.below(50) == 0 {
            return self.h.fail(fill);
        }
        if fill.len() < len {
            self.h.publish(&fill);
            return self.fills.push((fill, key, version));
        }
        // What it replaces, if that is there still: not the object itself.
        let hash = hash_of(&self.s.store, key);
        let me = fill.id();
        let old = self.h.lookup(hash, &mut self.scratch, |v| {
            if parse(v.blob).0 == key && v.id != me { Pick::Take } else { Pick::Next }
        });
        self.h.finish(fill, old);
    }

    fn turn(&mut self) {
        // Small numbers are asked for more often.
        let key = self.rng.below(1 + u64::from(KEYS)) * self.rng.below(u64::from(KEYS)) / u64::from(KEYS);
        let key = (key as u32).min(KEYS - 1);
        match self.rng.below(16) {
            0..=5 => match self.lookup(key) {
                Some(id) => {
                    self.h.pin(id);
                    self.read(id, key);
                    self.h.unpin(id);
                }
                None if self.fills.len() < 3 => self.begin(key),
                None => {}
            },
            6 if self.fills.len() < 3 => self.begin(key),
            7..=10 => self.go_on(),
            11 if self.pinned.len() < 6 => {
                if let Some(id) = self.lookup(key) {
                    self.h.pin(id);
                    self.pinned.push((id, key));
                }
            }
            12 if !self.pinned.is_empty() => {
                let at = self.rng.below(self.pinned.len() as u64) as usize;
                let (id, key) = self.pinned.swap_remove(at);
                self.read(id, key);
                self.h.unpin(id);
            }
            13 if self.rng.below(8) == 0 => {
                if let Some(id) = self.lookup(key) {
                    self.h.unlink(id);
                }
            }
            14 => {
                let Some(id) = self.lookup(key) else { return };
                if self.h.begin_revalidation(id) {
                    let v = self.h.view(id, &mut self.scratch);
                    if v.state.is_complete() {
                        let (k, version, len) = parse(v.blob);
                        let _ =
                            self.h.replace_head(id, &blob(k, version, len, self.rng.below(1500) as usize));
                    }
                    self.h.end_revalidation(id);
                }
            }
            _ if self.rng.below(16) == 0 => {
                self.h.offline();
                std::thread::yield_now();
                self.h.online();
            }
            _ => {}
        }
        self.top();
    }
}

fn worker(s: &Shared, n: usize, turns: u32) -> u64 {
    let h = s.store.handle(n);
    let rng = Rng(0x9e37_79b9 + n as u64 * 77);
    let scratch = vec![0; 4096];
    let mut w = Worker { s, h, rng, pinned: Vec::new(), fills: Vec::new(), read: 0, scratch };
    for _ in 0..turns {
        w.turn();
    }
    for (fill, ..) in std::mem::take(&mut w.fills) {
        w.h.fail(fill);
    }
    for (id, key) in std::mem::take(&mut w.pinned) {
        w.read(id, key);
        w.h.unpin(id);
    }
    s.working.fetch_sub(1, Ordering::Release);
    w.read
}

/// Purges until the workers are done; gives how often.
fn purger(s: &Shared) -> u32 {
    let mut h = s.store.handle(WORKERS);
    let mut rng = Rng(42);
    let mut rounds = 0;
    let mut scratch = vec![0; 4096];
    while s.working.load(Ordering::Acquire) > 0 {
        rounds += 1;
        let (how, key) = (rng.below(8), rng.below(u64::from(KEYS)) as u32);
        let hit: Box<dyn Fn(u32) -> bool> = match how {
            0 => Box::new(|_| true),
            1 | 2 => Box::new(move |k| k % 5 == key % 5),
            _ => Box::new(move |k| k == key),
        };
        // Whatever was asked for until now must not be given afterwards.
        let now: Vec<u32> = s.next.iter().map(|n| n.load(Ordering::Acquire)).collect();
        match how {
            0 => h.purge_all(false),
            1 | 2 => h.purge_matching(|b| hit(parse(b).0), false),
            _ => h.purge_hash(hash_of(&s.store, key), &mut scratch, |v| parse(v.blob).0 == key, false),
        };
        for k in (0..KEYS).filter(|k| hit(*k)) {
            s.floor[k as usize].store(now[k as usize], Ordering::Release);
        }
        if rng.below(3) == 0 {
            h.sweep();
        }
        if rng.below(10) == 0 {
            h.purge_matching(|b| parse(b).1.is_multiple_of(2), true);
            h.purge_all(true);
        }
        h.quiescent();
        h.offline();
        std::thread::sleep(std::time::Duration::from_millis(2));
        h.online();
    }
    rounds
}

fn run(turns: u32, change: impl FnOnce(&mut StoreConfig)) {
    let (store, _) = store(change);
    let s = Shared {
        store,
        next: (0..KEYS).map(|_| AtomicU32::new(1)).collect(),
        floor: (0..KEYS).map(|_| AtomicU32::new(1)).collect(),
        working: AtomicU32::new(WORKERS as u32),
    };
    let (read, rounds) = std::thread::scope(|scope| {
        let s = &s;
        let workers: Vec<_> = (0..WORKERS).map(|n| scope.spawn(move || worker(s, n, turns))).collect();
        let purger = scope.spawn(move || purger(s));
        let read: u64 = workers.into_iter().map(|w| w.join().unwrap()).sum();
        (read, purger.join().unwrap())
    });
    let stats = s.store.stats();
    println!("{read} bytes read and checked, {rounds} rounds of purges, {stats:?}");
    assert!(read > 0 && rounds > 0 && stats.bytes_used <= stats.bytes_total);
    let mut all: Vec<Handle> = (0..4).map(|n| s.store.handle(n)).collect();
    all[3].purge_all(false);
    all[3].sweep();
    settle(&mut all);
    drop(all);
    let end = s.store.stats();
    assert_eq!((end.bytes_used, end.objects, end.bytes_pinned), (0, 0, 0), "everything has come back");
}

/// Turns of a worker; more by hand (`MILLRACE_STRESS_TURNS`).
fn turns() -> u32 {
    std::env::var("MILLRACE_STRESS_TURNS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn threads_that_evict_all_the_time() {
    run(turns(), |c| {
        c.bytes = 512 << 10;
        c.objects_max = 70;
        c.shards = 2;
        c.pinned_bytes_max = 100 << 10;
        c.wakes_max = 4;
        c.object_bytes_max = 200_000;
    });
}

#[test]
fn threads_that_meet_in_one_shard() {
    run(turns(), |c| {
        c.shards = 1;
        c.bytes = 300 << 10;
        c.object_bytes_max = 200_000;
        c.objects_max = 200;
    });
}
