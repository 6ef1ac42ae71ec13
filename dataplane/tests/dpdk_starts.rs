//! Starts and stops of DPDK's devices in one process, without a file, a hugepage or an mbuf left behind. A process of its own,
//! with one test, as it counts what the process has open. Without `net_memif`: in 22.11 its server never closes the socket
//! that it listens on, and its client does not start without one.
//!
//! `MILLRACE_DPDK_ROUNDS=1000` for more of them (30), `MILLRACE_DPDK_DEVICES='net_tap5,iface=t5 …'` for more devices, where
//! there is the privilege, `MILLRACE_DPDK_HUGEPAGES=1` in hugepages: scripts/checks/starts.sh.
#![cfg(feature = "dpdk")]

use std::sync::atomic::{AtomicU64, Ordering};

use dataplane::port::dpdk::{Checksums, DpdkConfig, DpdkPort, DpdkSeat, Eal, EalConfig, KEY_BYTES_MAX};
use dataplane::{BURST_MAX, Burst, Pool, Port, Time, TxQueue};
use hugepages::PagePolicy;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MTU: u16 = 1500;
const CORES: u16 = 3;

fn eal() -> Eal {
    // What one round needs, and hardly more.
    let buffers_bytes = (1 + u64::from(CORES)) * DpdkPort::buffers_bytes(256, MTU, &["net_null"]);
    let huge = std::env::var("MILLRACE_DPDK_HUGEPAGES").is_ok_and(|v| v == "1");
    let pages = if huge { PagePolicy::HugeOnly } else { PagePolicy::NormalOnly };
    Eal::start(&EalConfig { buffers_bytes, pages, nics: Vec::new(), args: Vec::new() }).expect("EAL")
}

fn mbufs(n: u32) -> Pool {
    DpdkPort::rx_buffers(eal(), n, MTU, &["net_null"], None).expect("memory").into_pool("rx")
}

fn config(device: &str) -> DpdkConfig<'_> {
    DpdkConfig { device, mac: None, fallback_mac: MAC, mtu: MTU, checksums: Checksums::Auto }
}

/// Files and sockets that this process has open.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("its folder").count()
}

/// What starts may have cost: open files, and KiB of hugepages.
fn costs() -> (usize, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("its facts");
    let huge = status.lines().find(|line| line.starts_with("HugetlbPages:"));
    let kib = huge.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    (open_files(), kib.expect("a number"))
}

/// One core: frames go out, and come back from a ring.
fn alone(device: &str) {
    let pool = Pool::reserve("cells", 64, 2048, PagePolicy::NormalOnly).expect("memory");
    // A pool of its own each time: that of the last one is free, or there would soon be no memory.
    let mut port = DpdkPort::open(eal(), &config(device), mbufs(64), 0).unwrap_or_else(|e| panic!("{e}"));
    let mut queue = TxQueue::new(64);
    for _ in 0..40 {
        let mut p = pool.alloc().expect("a cell");
        assert!(p.append(&[2; 100]));
        queue.push(p);
    }
    let (sent, mut burst) = (port.tx_burst(&mut queue, Time(0)), Burst::new());
    let got = port.rx_burst(&mut burst, Time(0));
    if device.starts_with("net_ring") {
        assert_eq!((sent, got), (40, 40));
    }
    burst.clear();
    assert_eq!(port.close(), 0, "{device}: all mbufs are back");
    drop(queue);
    assert_eq!(pool.free_count(), 64);
}

/// Several cores share it; some stop at once, some late.
fn shared(round: u64) {
    let seats =
        DpdkSeat::take(eal(), &config("net_null6"), CORES, &[7; KEY_BYTES_MAX]).expect("it has many queues");
    let received = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (core, seat) in seats.into_iter().enumerate() {
            let received = &received;
            scope.spawn(move || {
                let mut port = seat.open(mbufs(256), 0).expect("a queue");
                let mode = &port.facts().mode;
                assert!(mode.starts_with("net_null, 3 queues, software steering, "), "{mode}");
                assert!(port.facts().rss.is_none());
                let mut burst = Burst::new();
                for pass in 0..10 {
                    assert_eq!(port.rx_burst(&mut burst, Time(pass)), BURST_MAX);
                    burst.clear();
                }
                received.fetch_add(port.stats().rx_packets, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis((core as u64 + round) % 3));
                assert_eq!(port.close(), 0, "each core has all of its mbufs back");
            });
        }
    });
    assert_eq!(received.into_inner(), u64::from(CORES) * 10 * BURST_MAX as u64);
}

#[test]
fn nothing_is_left_behind_by_starts_and_stops() {
    let rounds = std::env::var("MILLRACE_DPDK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let more = std::env::var("MILLRACE_DPDK_DEVICES").unwrap_or_default();
    let mut devices = vec!["net_ring5", "net_null5", "three cores"];
    devices.extend(more.split_whitespace());
    for device in devices {
        let mut before = None;
        for round in 0..rounds {
            if device == "three cores" {
                shared(round)
            } else {
                alone(device)
            }
            // What DPDK itself opens for the first one stays.
            match before {
                None => before = Some(costs()),
                Some(before) => assert_eq!(costs(), before, "{device}, round {round}"),
            }
        }
        let (files, huge_kib) = before.expect("a round");
        eprintln!(
            "{device}: {rounds} starts and stops; {files} open files, {huge_kib} KiB of hugepages, as after the first"
        );
    }
}
