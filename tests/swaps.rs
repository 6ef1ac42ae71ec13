//! A config is swapped a thousand times, and everything is purged every few of them, on two cores with threads of their
//! own, while clients ask for more than the cache can hold, and slow ones hold what is gone for everybody else.
//!
//! Every word of a body says which version of which object it is, and where in it: memory that has been given to
//! another object too early shows, and so does a body that is sewn together of two.

mod support;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane::mail::Post;
use dataplane::port::mem::wire;
use dataplane::{Clock, Ctr};
use hugepages::PagePolicy;
use l7::cache::policy::hash::HashKeys;
use l7::cache::policy::rules::CacheRules;
use l7::cache::store::{Store, StoreConfig};
use l7::proxy::{OLD_PLANS_MAX, OriginTimeouts, Program};
use millrace::node::CoreOrder;
use support::peers::{Act, Asked, Peers};
use support::{Shared, config, core_with, origin};

const CORES: usize = 2;
const SWAPS: usize = 1000;
/// Swaps from one purge to the next.
const PURGE_EVERY: usize = 5;
/// Passes of the load from one swap to the next.
const PASSES: usize = 12;
/// Requests that have been answered from one swap to the next, at least.
const WHOLE_PER_SWAP: usize = 3;
const QUICK: usize = 24;
const SLOW: usize = 16;
const LARGE: usize = 600_000;
const LARGES: usize = 4;
const SMALLS: usize = 40;
/// Paths from here on are not answered: their requests last until their config is too old.
const HELD: usize = 1000;
/// Swaps from one such request to the next.
const HOLD_EVERY: usize = 7;
/// Objects that have had to make room for others, at least.
const EVICTIONS: u64 = 100;
const PINNED_MAX: u64 = 3 << 19;
/// Less than all objects together, with what is pinned: some are evicted all the time.
const STORE_BYTES: u64 = 5 << 20;
/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(180);
const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;

/// Bytes of an object, by the number of its path.
fn length(path: usize) -> usize {
    match path {
        0..LARGES => LARGE,
        _ => 400 + path * 700,
    }
}

fn word(path: usize, version: u32, at: usize) -> [u8; 8] {
    let at = (at / 8) as u32;
    ((path as u64) << 48 | u64::from(version & 0xff_ffff) << 24 | u64::from(at)).to_be_bytes()
}

fn body(path: usize, version: u32) -> Vec<u8> {
    let mut b: Vec<u8> = (0..length(path)).step_by(8).flat_map(|at| word(path, version, at)).collect();
    b.truncate(length(path));
    b
}

fn get(path: usize) -> Vec<u8> {
    format!("GET /{path} HTTP/1.1\r\nHost: any.lab\r\n\r\n").into_bytes()
}

/// Every other program says how a response came about, and has a site more.
fn program(n: usize, old: Option<&Program>) -> Arc<Program> {
    let mut config = config(HOUR_NS);
    // Peers send nothing twice, a reset that is lost included: what waits for one gives up in the end.
    let timeouts = OriginTimeouts { connect_ns: MINUTE_NS, first_byte_ns: MINUTE_NS, idle_ns: MINUTE_NS };
    let answer = config.add_upstream(vec![origin()]);
    if n % 2 == 1 {
        config.add_site(&["other.lab"], answer.clone(), timeouts);
    }
    let route = config.add_site(&["*"], answer, timeouts);
    route.cache = Some(CacheRules::default());
    route.cache_status = n % 2 == 1;
    Program::following(config, old)
}

/// One request that is under way.
struct Client {
    port: u16,
    path: usize,
    /// Bytes of the response in all, once its head is there.
    whole: usize,
    /// It has been answered, and asks no more.
    done: bool,
}

/// What has become of the requests.
#[derive(Default, Debug)]
struct Seen {
    whole: u64,
    broken: u64,
    slow_whole: u64,
    slow_broken: u64,
}

/// Whether the response has come, or will never: judged then, and taken.
fn judge(p: &mut Peers, c: &mut Client) -> Option<bool> {
    let (input, ended, reset) = p.client_got(c.port);
    if c.whole == 0
        && let Some(n) = input.windows(4).take(2048).position(|w| w == b"\r\n\r\n")
    {
        let head = String::from_utf8_lossy(&input[..n + 2]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "/{} as {}: {head}", c.path, c.port);
        assert!(head.contains(&format!("content-length: {}\r\n", length(c.path))), "{head}");
        c.whole = n + 4 + length(c.path);
    }
    let is_whole = c.whole > 0 && input.len() >= c.whole;
    if !is_whole && !ended && !reset {
        return None;
    }
    if c.whole > 0 {
        let start = c.whole - length(c.path);
        let end = input.len().min(c.whole);
        let got = &input[start..end];
        if got.len() >= 8 {
            let version = u32::from_be_bytes([0, got[2], got[3], got[4]]);
            let wanted = body(c.path, version);
            if let Some(at) = got.iter().zip(&wanted).position(|(a, b)| a != b) {
                let word = &got[at & !7..][..8];
                panic!("/{} version {version} of {} B has {word:x?} at {at}", c.path, got.len());
            }
        }
        input.drain(..end);
        assert!(input.is_empty(), "bytes after the end of a response");
    }
    c.whole = 0;
    Some(is_whole)
}

struct World {
    p: Peers,
    quick: Vec<Client>,
    slow: Vec<Client>,
    /// Clients that get no answer, and the node's ports that the origin leaves without one.
    held: Vec<u16>,
    owed: Vec<u16>,
    versions: HashMap<usize, u32>,
    seen: Seen,
    turn: usize,
    /// No request follows on one that has ended.
    closing: bool,
}

impl World {
    fn turn(&mut self) -> bool {
        self.turn += 1;
        let (versions, owed, closing) = (&mut self.versions, &mut self.owed, self.closing);
        let busy = self.p.pass(&mut |(port, head): &Asked, _| {
            let path = head.split_whitespace().nth(1).and_then(|p| p[1..].parse().ok()).expect("a number");
            if path >= HELD && closing {
                // Asked again, as the connection that was reset was one kept alive.
                return Act::Send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), false);
            }
            if path >= HELD {
                owed.push(*port);
                return Act::Hold;
            }
            let version = versions.entry(path).or_default();
            *version += 1;
            let mut all = format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: {}\r\n\r\n",
                length(path)
            )
            .into_bytes();
            all.extend(body(path, *version));
            Act::Send(all, false)
        });
        let turn = self.turn;
        for i in 0..self.quick.len() {
            let Some(whole) = judge(&mut self.p, &mut self.quick[i]) else { continue };
            *(if whole { &mut self.seen.whole } else { &mut self.seen.broken }) += 1;
            if self.closing {
                self.quick[i].done = true;
                continue;
            }
            let path = LARGES + (turn * 7 + i * 13) % SMALLS;
            let c = &mut self.quick[i];
            c.path = path;
            if whole && !turn.is_multiple_of(9) {
                self.p.client_sends(c.port, &get(path));
            } else {
                self.p.client_resets(c.port);
                c.port = self.p.connect(&get(path));
            }
        }
        for i in 0..self.slow.len() {
            let c = &mut self.slow[i];
            // Each at a pace of its own, the last at next to none.
            if (turn + i).is_multiple_of(1 + i * i / 4) || self.closing {
                self.p.client_reads(c.port, 16 << 10);
            }
            let Some(whole) = judge(&mut self.p, c) else { continue };
            *(if whole { &mut self.seen.slow_whole } else { &mut self.seen.slow_broken }) += 1;
            self.p.client_resets(c.port);
            if !self.closing {
                c.path = (turn + i) % LARGES;
                c.port = self.p.connect_slow(&get(c.path), 8 << 10);
            }
        }
        let p = &mut self.p;
        self.held.retain(|port| {
            let (got, ended, reset) = p.client_got(*port);
            assert!(got.is_empty() && !ended, "an answer that nobody gave");
            !reset
        });
        if self.closing {
            self.slow.retain(|c| p.has_client(c.port));
        }
        busy
    }

    /// For whoever looks for what hangs.
    fn state(&self) -> String {
        let s = self.p.segment.read();
        let counts = [
            Ctr::HttpActive,
            Ctr::HttpOpen,
            Ctr::CacheFetches,
            Ctr::CacheStored,
            Ctr::CacheNotStored,
            Ctr::CacheSlowReset,
            Ctr::DropMailFull,
            Ctr::DropPortNoBuffer,
            Ctr::PoolPayloadEmpty,
            Ctr::TcpNoRecord,
            Ctr::TcpNoHeader,
            Ctr::TcpRetransmits,
        ];
        let counts = counts.iter().chain(Ctr::ALL.iter().filter(|c| c.is_rx_drop() && s.get(**c) > 0));
        let counts: Vec<String> = counts.map(|c| format!("{c:?} {}", s.get(*c))).collect();
        let waiting = self.quick.iter().filter(|c| !c.done);
        let open: Vec<String> = waiting.map(|c| format!("/{} whole {}", c.path, c.whole)).collect();
        format!("{:?}; {}; quick: {}", self.seen, counts.join(", "), open.join(", "))
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            if !self.turn() {
                std::thread::yield_now();
            }
            assert!(Instant::now() < end, "not in time: {what}; {}", self.state());
        }
    }
}

/// A core that runs twice, and says after each how many plans it has.
fn start(
    n: usize,
    clock: &Clock,
    first: &Arc<Program>,
    store: &Arc<Store>,
    shared: &Shared,
    near: dataplane::port::mem::WireEnd,
    (plans, go): (mpsc::Sender<usize>, mpsc::Receiver<()>),
) -> JoinHandle<()> {
    let (clock, first, store, shared) = (clock.clone(), Arc::clone(first), Arc::clone(store), shared.clone());
    std::thread::spawn(move || {
        let cache = Some((store.handle(n), HashKeys(7, 8)));
        let mut core = core_with(first, cache, 1024, near, &shared, n);
        drop(store);
        for _ in 0..2 {
            core.run(&clock, &shared.orders[n].stop);
            plans.send(core.pipeline.proxy.plans()).expect("somebody asks");
            go.recv().expect("somebody says so");
        }
    })
}

/// Stops the cores for a moment; gives their plans.
fn plans(shared: &Shared, from: &mpsc::Receiver<usize>) -> Vec<usize> {
    for o in &shared.orders {
        o.stop.store(true, Ordering::Relaxed);
    }
    shared.bells.ring_all();
    (0..CORES).map(|_| from.recv_timeout(PATIENCE).expect("a core that stops")).collect()
}

#[test]
fn a_thousand_swaps_and_two_hundred_purges_under_load() {
    let mut shared = Shared::new(CORES);
    // The load sends nothing twice: mail has room for all of it, however long a core does not get its turn.
    shared.post = Some(Post::new(16384, 1600, Arc::clone(&shared.bells)));
    let mut sizes = StoreConfig::for_bytes(STORE_BYTES, CORES as u32 + 1, [5, 6]);
    sizes.pinned_bytes_max = PINNED_MAX;
    sizes.object_bytes_max = LARGE as u64;
    let bells = Arc::clone(&shared.bells);
    let store = Store::reserve(sizes, PagePolicy::NormalOnly, Box::new(move |core| bells.ring(core)))
        .expect("a store");
    let mut control = store.handle(CORES);
    control.offline();

    let clock = Clock::calibrated();
    let mut programs = vec![program(0, None)];
    let (said, plans_of) = mpsc::channel();
    let (mut far, mut threads, mut gos) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..CORES {
        let (near, end) = wire(8192, 1600);
        far.push(end);
        let (go, going) = mpsc::channel();
        gos.push(go);
        threads.push(start(n, &clock, &programs[0], &store, &shared, near, (said.clone(), going)));
    }
    let mut p = Peers::new(Vec::new(), far, Arc::clone(&shared.segment));
    let quick = (0..QUICK).map(|i| LARGES + i);
    let quick =
        quick.map(|path| Client { port: p.connect(&get(path)), path, whole: 0, done: false }).collect();
    let slow = (0..SLOW).map(|i| i % LARGES);
    let slow = slow
        .map(|path| Client { port: p.connect_slow(&get(path), 8 << 10), path, whole: 0, done: false })
        .collect();
    let (versions, seen) = (HashMap::new(), Seen::default());
    let mut w =
        World { p, quick, slow, held: Vec::new(), owed: Vec::new(), versions, seen, turn: 0, closing: false };

    let desk = shared.desk();
    let (mut purged, mut pinned_most) = (0, 0);
    for n in 1..=SWAPS {
        if n.is_multiple_of(HOLD_EVERY) {
            let port = w.p.connect(&get(HELD + n));
            w.held.push(port);
        }
        let next = program(n, programs.last().map(|p| &**p));
        let ticket = desk.tell_all(|_| CoreOrder::Config(Arc::clone(&next))).expect("room in the trays");
        programs.push(next);
        w.until("a swap", |_| desk.all_passed(&ticket));
        for _ in 0..PASSES {
            w.turn();
        }
        // However seldom the cores have had their turn.
        w.until("requests between two swaps", |w| w.seen.whole >= (n * WHOLE_PER_SWAP) as u64);
        if n.is_multiple_of(PURGE_EVERY) {
            control.online();
            purged += control.purge_all(false);
            shared.bells.ring_all();
            assert!(control.wait_for_epoch(PATIENCE), "a core does not pass");
            control.sweep();
            control.offline();
            // What readers hold of it is bounded as soon as the cores have come round.
            pinned_most = store.stats().bytes_pinned.max(pinned_most);
            w.until("the bound of what is pinned", |_| store.stats().bytes_pinned <= PINNED_MAX);
        }
    }
    w.until("evictions", |_| store.stats().evictions > EVICTIONS);
    // All requests go on with the last config.
    let under_load = plans(&shared, &plans_of);
    assert!(under_load.iter().all(|n| *n <= OLD_PLANS_MAX + 1), "{under_load:?} plans");
    let alive = programs.iter().filter(|p| Arc::strong_count(p) > 1).count();
    assert!(alive <= CORES * (OLD_PLANS_MAX + 1), "{alive} programs");
    for (o, go) in shared.orders.iter().zip(&gos) {
        o.stop.store(false, Ordering::Relaxed);
        go.send(()).expect("a core");
    }

    w.closing = true;
    assert!(w.held.len() <= CORES * OLD_PLANS_MAX + 2, "{} requests are held", w.held.len());
    for port in std::mem::take(&mut w.held) {
        w.p.client_resets(port);
    }
    for port in std::mem::take(&mut w.owed) {
        w.p.origin_resets(port);
    }
    w.until("the end of all requests", |w| w.slow.is_empty());
    let quick: Vec<u16> = w.quick.iter().map(|c| c.port).collect();
    w.until("the end of quick requests", |_| shared.segment.read().get(Ctr::HttpActive) == 0);
    for port in quick {
        w.p.client_resets(port);
    }
    w.quick.clear();
    w.until("the end of connections", |_| shared.segment.read().get(Ctr::HttpOpen) == 0);
    let ticket = desk.barrier();
    w.until("a pass of each core", |_| desk.all_passed(&ticket));
    let at_rest = plans(&shared, &plans_of);
    assert_eq!(at_rest, [1; CORES], "plans without requests");
    let alive: Vec<usize> = (0..programs.len()).filter(|n| Arc::strong_count(&programs[*n]) > 1).collect();
    assert_eq!(alive, [SWAPS], "programs that cores still have");
    gos.iter().for_each(|go| go.send(()).expect("a core"));
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
    assert!(programs.iter().all(|p| Arc::strong_count(p) == 1));

    // Nothing is pinned: all memory comes back.
    assert_eq!(store.stats().bytes_pinned, 0);
    control.online();
    control.purge_all(false);
    let mut seats: Vec<_> = (0..CORES).map(|n| store.handle(n)).collect();
    control.sweep();
    for _ in 0..100 {
        seats.iter_mut().for_each(l7::cache::store::Handle::quiescent);
        control.quiescent();
    }
    drop((seats, control));
    let stats = store.stats();
    assert_eq!((stats.objects, stats.bytes_used), (0, 0), "{stats:?}");

    let s = shared.segment.read();
    println!(
        "{:?}, {purged} objects purged, {} readers reset, {} plans ended, {pinned_most} B pinned at most; {stats:?}",
        w.seen,
        s.get(Ctr::CacheSlowReset),
        s.get(Ctr::HttpPlanEnded),
    );
    assert!(stats.evictions > EVICTIONS, "{stats:?}");
    assert!(s.get(Ctr::CacheSlowReset) > 0 && s.get(Ctr::HttpPlanEnded) > 0);
    assert!(
        w.seen.whole >= (SWAPS * WHOLE_PER_SWAP) as u64 && w.seen.slow_whole > 0 && w.seen.slow_broken > 0,
        "{:?}",
        w.seen
    );
    assert_eq!(
        (s.get(Ctr::DropMailFull), s.get(Ctr::DropPortNoBuffer), s.rx_imbalance(), s.tx_imbalance()),
        (0, 0, 0, 0)
    );
}
