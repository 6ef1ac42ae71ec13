//! The `dpdk` port over virtual devices that need no privilege: what it counts, what it refuses, and that every mbuf
//! comes back. EAL runs once in a process and devices are told apart by name, so these may share one or not.
//!
//! With `MILLRACE_DPDK_HUGEPAGES=1` the mbufs must be in hugepages (210 MiB of free ones), else they are in normal pages.
#![cfg(feature = "dpdk")]

use std::path::{Path, PathBuf};

use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::{Segment, Snapshot};
use dataplane::pcapng::{PcapReader, PcapWriter};
use dataplane::port::PortStats;
use dataplane::port::dpdk::{
    Checksums, CrossedRings, DpdkConfig, DpdkPort, DpdkSeat, Eal, EalConfig, KEY_BYTES_MAX,
};
use dataplane::{BURST_MAX, Burst, Counters, Ctr, Pool, Port, Time, TxQueue};
use hugepages::PagePolicy;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MTU: u16 = 1500;

/// Room for the ports of all tests at once.
fn eal() -> Eal {
    let buffers_bytes = 14 * DpdkPort::buffers_bytes(2048, MTU, &["net_null"]);
    let huge = std::env::var("MILLRACE_DPDK_HUGEPAGES").is_ok_and(|v| v == "1");
    let pages = if huge { PagePolicy::HugeOnly } else { PagePolicy::NormalOnly };
    Eal::start(&EalConfig { buffers_bytes, pages, nics: Vec::new(), args: Vec::new() }).expect("EAL")
}

/// Cells of ours.
fn cells(n: u32) -> Pool {
    Pool::reserve("cells", n, 2048, PagePolicy::NormalOnly).expect("memory")
}

/// Cells that are mbufs, for one device.
fn mbufs(n: u32) -> Pool {
    DpdkPort::rx_buffers(eal(), n, MTU, &["net_null"], None).expect("memory").into_pool("rx")
}

fn try_open(device: &str, pool: &Pool) -> Result<DpdkPort, String> {
    let config = DpdkConfig { device, mac: None, fallback_mac: MAC, mtu: MTU, checksums: Checksums::Auto };
    DpdkPort::open(eal(), &config, pool.clone(), 0)
}

fn open(device: &str, pool: &Pool) -> DpdkPort {
    try_open(device, pool).unwrap_or_else(|e| panic!("{e}"))
}

/// A frame of this length that can be told from others.
fn frame(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (number * 31 + i) as u8).collect()
}

fn queue(pool: &Pool, frames: impl Iterator<Item = Vec<u8>>) -> TxQueue {
    let mut queue = TxQueue::new(4096);
    for f in frames {
        let mut p = pool.alloc().expect("a cell");
        assert!(p.append(&f));
        queue.push(p);
    }
    queue
}

/// Sends every frame back.
struct Echo(Counters);

impl Pipeline for Echo {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], _now: Time) {
        for p in rx.drain(..) {
            self.0.inc(Ctr::RxForwarded);
            tx[0].push(p);
        }
    }
    fn timers(&mut self, _tx: &mut [TxQueue], _now: Time) -> bool {
        false
    }
    fn next_deadline(&self) -> Option<Time> {
        None
    }
}

/// An echo over a port for so many passes; both laws hold after each.
fn echo(port: DpdkPort, passes: u64) -> Snapshot {
    let segment = Segment::in_memory(1);
    let mut core = Core::new(vec![Box::new(port)], Echo(segment.writer(0)), segment.writer(0), 2 * BURST_MAX);
    for pass in 0..passes {
        core.pass(Time::from_ms(pass));
        let s = segment.read();
        assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "pass {pass}");
    }
    segment.read()
}

/// A file of a test's own, gone when this is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        Temporary(std::env::temp_dir().join(format!("millrace-dpdk-{}-{name}", std::process::id())))
    }
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn null_gives_and_takes_whole_bursts() {
    let pool = mbufs(512);
    let port = open("net_null0", &pool);
    assert_eq!((port.facts().kind, port.facts().mtu), ("dpdk", MTU));
    assert!(
        port.facts().mode.starts_with(
            "net_null, 1 queue, zero-copy rx, copying tx, rx checksums in software, tx checksums in software, no TSO, "
        ),
        "{}",
        port.facts().mode
    );
    assert!(port.facts().mode.ends_with(if eal().hugepages() { "hugepages" } else { "normal pages" }));
    let s = echo(port, 1000);
    // The device always has a burst, of 64-byte frames, and takes all.
    assert_eq!(s.get(Ctr::RxPackets), 1000 * BURST_MAX as u64);
    assert_eq!(s.get(Ctr::RxBytes), 1000 * BURST_MAX as u64 * 64);
    assert_eq!(s.get(Ctr::TxSent), s.get(Ctr::RxPackets));
    assert_eq!(pool.free_count(), 512, "every cell is back");
}

#[test]
fn what_goes_into_a_ring_comes_out_of_it() {
    let (rx, pool) = (mbufs(1024), cells(1024));
    let mut port = open("net_ring1", &rx);
    let lengths: Vec<usize> = (14..=1518).step_by(16).collect();
    let mut queue = queue(&pool, lengths.iter().enumerate().map(|(n, &len)| frame(n, len)));
    while !queue.is_empty() {
        assert!(port.tx_burst(&mut queue, Time(0)) > 0);
    }
    let short = lengths.iter().filter(|&&len| len <= 256).count();
    assert_eq!(port.tx_attached() as usize, lengths.len() - short);
    assert_eq!(
        pool.free_count() as usize,
        1024 - lengths.len() + short,
        "longer ones lie in the ring as they are"
    );
    let (mut burst, mut got) = (Burst::new(), 0);
    while port.rx_burst(&mut burst, Time(7)) > 0 {
        for p in burst.drain(..) {
            assert_eq!(p.head(), frame(got, lengths[got]));
            assert_eq!((p.meta().arrival, p.meta().port), (Time(7), 0));
            got += 1;
        }
    }
    assert_eq!(got, lengths.len());
    let bytes = lengths.iter().sum::<usize>() as u64;
    let expected = PortStats {
        rx_packets: got as u64,
        rx_bytes: bytes,
        rx_copied: got as u64,
        tx_packets: got as u64,
        tx_bytes: bytes,
        ..PortStats::default()
    };
    assert_eq!(port.stats(), expected);
    assert_eq!((port.rx_copied(), port.tx_attached()), (got as u64, 0));
    assert_eq!((pool.free_count(), rx.free_count()), (1024, 1024));
    assert_eq!(port.close(), 0, "every mbuf is back");
}

#[test]
fn heads_and_tails_leave_as_one_frame() {
    let (rx, pool) = (mbufs(16), cells(16));
    let mut port = open("net_ring2", &rx);
    let mut payload = pool.alloc().expect("a cell");
    assert!(payload.append(b"..payload of two slices.."));
    let payload = payload.into_slice(2, 21);
    let mut p = pool.alloc().expect("a cell");
    assert!(p.append(b"fourteen bytes "));
    p.attach(payload.clone()).expect("room in the tail");
    p.attach(payload).expect("room in the tail");
    let mut queue = TxQueue::new(4);
    queue.push(p);
    assert_eq!(port.tx_burst(&mut queue, Time(0)), 1);
    let mut burst = Burst::new();
    assert_eq!(port.rx_burst(&mut burst, Time(0)), 1);
    assert_eq!(burst[0].head(), b"fourteen bytes payload of two slicespayload of two slices");
    burst.clear();
    assert_eq!((pool.free_count(), rx.free_count(), port.close()), (16, 16, 0));
}

#[test]
fn a_received_frame_goes_on_in_the_mbuf_that_it_came_in() {
    let rx = mbufs(64);
    let mut port = open("net_ring7", &rx);
    let mut queue = queue(&rx, (0..10).map(|n| frame(n, 60 + 100 * n)));
    let at = queue.front().expect("a frame").head().as_ptr();
    let mut burst = Burst::new();
    for lap in 0..50 {
        assert_eq!(port.tx_burst(&mut queue, Time(0)), 10);
        assert_eq!((rx.free_count(), port.tx_attached()), (64, 0), "they are the device's");
        assert_eq!(port.rx_burst(&mut burst, Time(lap)), 10);
        assert_eq!((burst[0].head().as_ptr(), rx.free_count()), (at, 54));
        for (n, p) in burst.drain(..).enumerate() {
            assert_eq!(p.head(), frame(n, 60 + 100 * n));
            queue.push(p);
        }
    }
    assert_eq!(port.rx_copied(), 0);
    drop(queue);
    assert_eq!((rx.free_count(), port.close()), (64, 0));
}

/// Heads of every kind with tails of every kind, and what is refused is what it was.
#[test]
fn chains_of_all_kinds_arrive_whole_and_refused_ones_stay() {
    let (rx, large, payload) = (mbufs(2048), cells(2048), cells(64));
    let mut port = open("net_ring8", &rx);
    let slice = |n: usize, len: usize| {
        let mut p = payload.alloc().expect("a cell");
        assert!(p.append(&frame(n, len + 5)));
        p.into_slice(5, len)
    };
    let slices: Vec<_> =
        [1, 40, 256, 257, 700, 300].into_iter().enumerate().map(|(n, len)| slice(n, len)).collect();
    let mut tx = TxQueue::new(4096);
    let mut expected = Vec::new();
    for n in 0..1400 {
        let from = if n % 2 == 0 { &rx } else { &large };
        let head = frame(n, [14, 54, 256, 257, 600][n % 5]);
        let mut p = from.alloc().expect("a cell");
        assert!(p.append(&head));
        let mut whole = head;
        for k in 0..n % 7 {
            let s = &slices[(n / 7 + k) % slices.len()];
            if whole.len() + s.len() <= 1518 {
                whole.extend_from_slice(s);
                p.attach(s.clone()).expect("room in the tail");
            }
        }
        expected.push(whole);
        tx.push(p);
    }
    let (mut got, mut burst, mut full) = (0, Burst::new(), 0);
    while got < expected.len() {
        // Until the ring is full, or records are short.
        while port.tx_burst(&mut tx, Time(0)) > 0 {}
        full += usize::from(!tx.is_empty());
        for _ in 0..3 {
            port.rx_burst(&mut burst, Time(0));
            for p in burst.drain(..) {
                assert_eq!(p.head(), expected[got], "frame {got}");
                got += 1;
            }
        }
    }
    assert!(full > 1 && tx.is_empty(), "{full}");
    let s = port.stats();
    let bytes = expected.iter().map(|f| f.len() as u64).sum();
    assert_eq!((s.tx_packets, s.tx_bytes, s.rx_bytes, s.tx_errors), (1400, bytes, bytes, 0));
    assert_eq!((large.free_count(), rx.free_count(), port.tx_attached()), (2048, 2048, 0));
    drop(slices);
    assert_eq!((payload.free_count(), port.close()), (64, 0));
}

#[test]
fn a_chain_to_a_driver_that_takes_none_is_one_copy() {
    let (to, pool) = (Temporary::new("chains.pcap"), mbufs(16));
    let mut port = open(&format!("net_pcap1,tx_pcap={}", to.path().display()), &pool);
    assert!(port.facts().mode.contains("copying tx"), "{}", port.facts().mode);
    let payload = queue(&pool, std::iter::once(frame(2, 900))).pop().expect("a packet").into_slice(100, 800);
    let mut tx = queue(&pool, (0..2).map(|n| frame(n, 400)));
    let mut p = tx.pop().expect("a packet");
    p.attach(payload.clone()).expect("room in the tail");
    tx.push_front(p);
    assert_eq!(port.tx_burst(&mut tx, Time(0)), 2);
    assert_eq!((port.stats().tx_bytes, port.tx_attached(), pool.free_count()), (1600, 0, 15));
    drop(payload);
    assert_eq!(port.close(), 0);
    let mut reader = PcapReader::open(to.path()).expect("what it wrote");
    let mut bytes = Vec::new();
    assert!(reader.next_frame(&mut bytes).expect("readable").is_some());
    assert_eq!(bytes, [&frame(0, 400)[..], &frame(2, 900)[100..900]].concat());
    assert!(reader.next_frame(&mut bytes).expect("readable").is_some());
    assert_eq!(bytes, frame(1, 400));
}

#[test]
fn jumbo_frames_are_one_segment_each_way() {
    const JUMBO: u16 = 9198;
    let rx = DpdkPort::rx_buffers(eal(), 64, JUMBO, &["net_ring9"], None).expect("memory").into_pool("rx");
    let large = Pool::reserve("large", 16, 16 << 10, PagePolicy::NormalOnly).expect("memory");
    let config = DpdkConfig {
        device: "net_ring9",
        mac: None,
        fallback_mac: MAC,
        mtu: JUMBO,
        checksums: Checksums::Auto,
    };
    let mut port = DpdkPort::open(eal(), &config, rx.clone(), 0).expect("a port");
    for pool in [&rx, &large] {
        let mut tx = queue(pool, [frame(1, 9216), frame(2, 9216), frame(3, 60)].into_iter());
        // One byte more than fits.
        let (first, mut second) = (tx.pop().expect("a packet"), tx.pop().expect("a packet"));
        second.push_front(1).expect("headroom")[0] = 0;
        tx.push_front(second);
        tx.push_front(first);
        assert_eq!(port.tx_burst(&mut tx, Time(0)), 3);
        let mut burst = Burst::new();
        assert_eq!(port.rx_burst(&mut burst, Time(0)), 2);
        assert_eq!((burst[0].head(), burst[1].head()), (&frame(1, 9216)[..], &frame(3, 60)[..]));
    }
    assert_eq!((port.stats().tx_errors, port.rx_copied()), (2, 2));
    assert_eq!((large.free_count(), rx.free_count(), port.close()), (16, 64, 0));
    // The pool of a smaller port will not do.
    let e = DpdkPort::open(eal(), &config, mbufs(16), 0).err().expect("too small");
    assert!(e.contains("shorter than a frame"), "{e}");
    let e = DpdkPort::open(eal(), &config, cells(16), 0).err().expect("no mbufs");
    assert!(e.contains("no pool of mbufs"), "{e}");
}

/// Frames are written into mbufs until the ring is full; those that it had no room for are sent later, in order; what was
/// never sent goes back at the stop.
#[test]
fn frames_written_in_place_arrive_in_order_and_wait_for_room() {
    let rx = mbufs(2048);
    let mut port = open("net_ring12", &rx);
    let (mut burst, mut made, mut seen, mut bytes) = (Burst::new(), 0, 0, 0);
    let mut write = |port: &mut DpdkPort, most: usize| {
        port.tx_fill(most, 256, &mut |room| {
            let f = frame(made, 60 + made % 100);
            room[..f.len()].copy_from_slice(&f);
            made += 1;
            bytes += f.len() as u64;
            Some(f.len())
        })
    };
    // A ring of 1,024 holds one less.
    let total: usize = (0..40).map(|_| write(&mut port, BURST_MAX).expect("mbufs are long enough")).sum();
    assert_eq!(total, 1023 + BURST_MAX, "one burst waits");
    assert_eq!((port.stats().tx_packets, port.stats().tx_held), (1023, BURST_MAX as u64));
    for _ in 0..40 {
        port.rx_burst(&mut burst, Time(0));
        for p in burst.drain(..) {
            assert_eq!(p.head(), frame(seen, 60 + seen % 100));
            seen += 1;
        }
        write(&mut port, 0);
    }
    assert_eq!((seen, port.stats().tx_held), (total, 0));
    assert_eq!(write(&mut port, 3), Some(3));
    assert_eq!((port.stats().tx_packets as usize, port.stats().tx_bytes), (made, bytes));
    // Who has nothing to write, and who wants longer buffers than there are.
    assert_eq!(port.tx_fill(9, 60, &mut |_| None), Some(0));
    assert_eq!(port.tx_fill(9, 9000, &mut |_| unreachable!()), None);
    assert_eq!((rx.free_count(), port.close()), (2048, 0));
}

/// More than EAL has, one after the other: what is held is read after the port and the pool are gone, and then all goes.
#[test]
fn cells_outlive_port_and_pool_and_their_memory_comes_back() {
    for round in 0..100 {
        let rx = mbufs(2048);
        let mut port = open("net_null3", &rx);
        let mut held: Vec<_> = Vec::new();
        let mut burst = Burst::new();
        for _ in 0..4 {
            port.rx_burst(&mut burst, Time(round));
            held.extend(burst.drain(..).map(|p| p.into_slice(10, 20)));
        }
        assert_eq!(port.close(), 0);
        assert_eq!(rx.out(), 4 * BURST_MAX as u32);
        drop(rx);
        assert!(held.iter().all(|s| s.len() == 20));
    }
}

#[test]
fn a_full_ring_leaves_packets_in_the_queue_and_a_stop_empties_it() {
    let (rx, pool) = (mbufs(64), cells(2048));
    let mut port = open("net_ring3", &rx);
    let mut queue = queue(&pool, (0..1500).map(|n| frame(n, 60)));
    while port.tx_burst(&mut queue, Time(0)) > 0 {}
    let taken = port.stats().tx_packets;
    assert!((512..1500).contains(&taken), "{taken}");
    assert_eq!(queue.len() as u64 + taken, 1500);
    assert_eq!(queue.front().expect("one more").head(), frame(taken as usize, 60), "still in order");
    assert_eq!(port.close(), 0, "also those that lay in the ring");
}

/// What a port sends another one reads and frees, on a thread of its own: cells are let go where they belong.
#[test]
fn cells_that_another_thread_frees_come_back_to_their_own() {
    const FRAMES: usize = 20_000;
    let rings = CrossedRings::new(eal(), "threads", 1).expect("memory");
    let (near, far) = (rings.device(0), rings.device(1));
    let (rx, large) = (mbufs(512), cells(512));
    let mut port = open(&near, &rx);
    let reader = std::thread::spawn(move || {
        let rx = mbufs(512);
        let mut port = open(&far, &rx);
        let (mut burst, mut got) = (Burst::new(), 0);
        while got < FRAMES {
            port.rx_burst(&mut burst, Time(0));
            for p in burst.drain(..) {
                assert_eq!(p.head(), frame(got, 60 + got % 1400), "frame {got}");
                got += 1;
            }
        }
        assert_eq!((port.rx_copied(), port.stats().rx_no_buffer), (FRAMES as u64, 0));
        assert_eq!((rx.free_count(), port.close()), (512, 0));
    });
    let (mut tx, mut next, mut burst) = (TxQueue::new(64), 0, Burst::new());
    while next < FRAMES || !tx.is_empty() {
        while next < FRAMES && tx.room() > 0 {
            // By turns: the mbuf itself goes, or a short copy, or a cell is attached.
            let Some(mut p) = [&rx, &large][next % 2].alloc() else { break };
            assert!(p.append(&frame(next, 60 + next % 1400)));
            tx.push(p);
            next += 1;
        }
        if port.tx_burst(&mut tx, Time(0)) == 0 {
            std::thread::yield_now();
        }
        // Nothing comes this way; but what was freed there is looked for.
        assert_eq!(port.rx_burst(&mut burst, Time(0)), 0);
    }
    reader.join().expect("no panic");
    port.rx_burst(&mut burst, Time(0));
    assert_eq!((port.tx_attached(), large.free_count(), rx.free_count()), (0, 512, 512));
    assert_eq!(port.close(), 0);
}

#[test]
fn a_file_is_replayed_with_exact_counts() {
    let (from, to) = (Temporary::new("in.pcapng"), Temporary::new("out.pcap"));
    let pool = mbufs(256);
    // Every seventh is longer than the MTU allows; the longest do not fit an mbuf either.
    let length = |n: usize| if n % 7 == 6 { 1519 + n * 20 } else { 60 + n };
    let mut file = PcapWriter::create(from.path(), &["test"]).expect("a file");
    for n in 0..100 {
        file.write(Time(n as u64), 0, &[&frame(n, length(n))]).expect("written");
    }
    file.flush().expect("written");
    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", from.path().display(), to.path().display());
    let s = echo(open(&device, &pool), 50);
    let (good, long): (Vec<usize>, Vec<usize>) = (0..100).partition(|n| n % 7 != 6);
    assert_eq!(s.get(Ctr::RxPackets), 100);
    assert_eq!(s.get(Ctr::RxBytes), (0..100).map(|n| length(n) as u64).sum::<u64>());
    assert_eq!(s.get(Ctr::DropPortTooLong), long.len() as u64);
    assert_eq!(s.get(Ctr::TxSent), good.len() as u64);
    let mut reader = PcapReader::open(to.path()).expect("what it wrote");
    let mut bytes = Vec::new();
    for n in good {
        assert!(reader.next_frame(&mut bytes).expect("readable").is_some(), "frame {n} is missing");
        assert_eq!(bytes, frame(n, length(n)));
    }
    assert!(reader.next_frame(&mut bytes).expect("readable").is_none());
}

#[test]
fn frames_beyond_the_mtu_are_counted_and_never_read() {
    let pool = mbufs(64);
    // This driver gives lengths beyond its buffers.
    let mut port = open("net_null1,size=4000", &pool);
    let mut burst = Burst::new();
    for _ in 0..10 {
        assert_eq!(port.rx_burst(&mut burst, Time(0)), 0);
    }
    let s = port.stats();
    assert_eq!((s.rx_packets, s.rx_too_long), (10 * BURST_MAX as u64, 10 * BURST_MAX as u64));
    assert_eq!((pool.stats().empty_count, port.close()), (0, 0));
}

#[test]
fn frames_without_a_cell_are_counted_and_their_mbufs_go_back() {
    let pool = mbufs(100);
    let mut port = open("net_null2", &pool);
    let mut held = Vec::new();
    let mut burst = Burst::new();
    for _ in 0..200 {
        port.rx_burst(&mut burst, Time(0));
        held.extend(burst.drain(..));
    }
    let s = port.stats();
    assert_eq!((held.len() as u64, s.rx_packets), (100, 200 * BURST_MAX as u64));
    assert_eq!(s.rx_no_buffer, s.rx_packets - 100);
    assert_eq!((pool.free_count(), pool.stats().low_water, pool.stats().empty_count), (0, 0, s.rx_no_buffer));
    assert_eq!(port.close(), 0, "those that are held are not missing");
    assert!(held.iter().all(|p| p.head().len() == 64));
    drop(pool);
    drop(held);
}

#[test]
fn memif_carries_frames_between_two_ports() {
    let socket = Temporary::new("memif.sock");
    let (rx, pool) = ([mbufs(512), mbufs(512)], cells(512));
    let name = |n: u8, role: &str| {
        format!("net_memif{n},role={role},socket-abstract=no,socket={}", socket.path().display())
    };
    let mut server = open(&name(0, "server"), &rx[0]);
    let mut client = open(&name(1, "client"), &rx[1]);
    let mut queue = queue(&pool, (0..200).map(|n| frame(n, 60 + 7 * n)));
    let (mut burst, mut got) = (Burst::new(), 0);
    // They find each other on a thread of DPDK's; until then nothing is taken.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while got < 200 {
        client.tx_burst(&mut queue, Time(0));
        if server.rx_burst(&mut burst, Time(0)) == 0 {
            std::thread::yield_now();
        }
        for p in burst.drain(..) {
            assert_eq!(p.head(), frame(got, 60 + 7 * got));
            got += 1;
        }
        assert!(std::time::Instant::now() < until, "{got} of 200 came");
    }
    assert_eq!((client.stats().tx_packets, server.stats().rx_packets), (200, 200));
    assert_eq!((pool.free_count(), client.close()), (512, 0));
    // DPDK's own thread takes the server's end down meanwhile; the driver does not bear both at once.
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(server.close(), 0);
}

#[test]
fn a_packet_that_fits_no_mbuf_is_an_error_of_its_own() {
    let large = Pool::reserve("large", 4, 16 << 10, PagePolicy::NormalOnly).expect("memory");
    let mut port = open("net_ring4", &mbufs(4));
    let mut queue = queue(&large, [frame(1, 60), frame(2, 9000), frame(3, 60)].into_iter());
    assert_eq!(port.tx_burst(&mut queue, Time(0)), 3);
    let s = port.stats();
    assert_eq!((s.tx_packets, s.tx_errors, s.tx_bytes), (2, 1, 120));
    assert_eq!((large.free_count(), port.close()), (4, 0));
}

#[test]
fn a_device_with_too_few_queues_or_cores_is_not_started() {
    let config =
        |device| DpdkConfig { device, mac: None, fallback_mac: MAC, mtu: MTU, checksums: Checksums::Auto };
    let e =
        DpdkSeat::take(eal(), &config("net_null8"), 2000, &[0; KEY_BYTES_MAX]).err().expect("not so many");
    assert!(
        e.contains("it has 1024 queues each way, and the node has 2000 cores; list 1024 in \"cores\""),
        "{e}"
    );
    // A core that fails before it takes its queue must not leave the others waiting.
    let mut seats = DpdkSeat::take(eal(), &config("net_null9"), 2, &[0; KEY_BYTES_MAX]).expect("two");
    drop(seats.pop());
    let e = seats.pop().expect("the other").open(mbufs(64), 0).err().expect("never started");
    assert!(e.contains("another core did not take its queue"), "{e}");
    // And the device is free again.
    assert_eq!(open("net_null9", &mbufs(64)).close(), 0);
}

#[test]
fn what_cannot_be_opened_says_why_and_harms_nothing() {
    let pool = mbufs(16);
    for (device, word) in [
        ("net_nonesuch0", "cannot open DPDK's net_nonesuch0"),
        ("net_pcap7,rx_pcap=/nowhere/at/all.pcap", "look whether the file is there"),
        ("net_null7,colour=red", "look at its arguments"),
        ("ffff:ff:1f.7", "cannot open DPDK's ffff:ff:1f.7"),
        ("nosuchif0", "there is no interface nosuchif0"),
        ("net_Tap0", "not a device of DPDK's"),
    ] {
        let e = try_open(device, &pool).err().unwrap_or_else(|| panic!("{device} was opened"));
        assert!(e.contains(word), "{e}");
    }
    let device = "net_memif7,socket-abstract=no,socket=/tmp/millrace-never.sock";
    let config = DpdkConfig { device, mac: None, fallback_mac: MAC, mtu: 1800, checksums: Checksums::Auto };
    let e = DpdkPort::open(eal(), &config, pool.clone(), 0).err().expect("more than it carries");
    assert!(e.contains("MTU"), "{e}");
    let first = open("net_ring6", &pool);
    let e = try_open("net_ring6", &pool).err().expect("taken");
    assert!(e.contains("net_ring6"), "{e}");
    assert_eq!(first.close(), 0);
}
