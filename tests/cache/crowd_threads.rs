//! The thousand clients of `crowd.rs` and one origin, with each of the two cores on a thread of its own.
//!
//! No clock is asked how fast it went. The origin sends its next piece when every client is close behind the one before:
//! a node that keeps anything back until the end, from anybody, would wait for ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dataplane::mail::Post;
use dataplane::port::mem::wire;
use dataplane::{Clock, Ctr};

use crate::crowd::{Bodies, CLIENTS, Client, LAG, cache_bytes, get, size};
use crate::rig::parts;
use crate::support::peers::{Act, Asked, Peers};

const CORES: usize = 2;
const PIECE: usize = 10_000;
/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(300);

/// The node's threads run while `drive` does.
fn with_node(drive: impl FnOnce(&mut Peers)) {
    let mut parts = parts(CORES, cache_bytes(), 12 << 20);
    // The load sends nothing twice: mail has room for all of it, however long a core does not get its turn.
    parts.shared.post = Some(Post::new(8192, 1600, Arc::clone(&parts.shared.bells)));
    let (near, far): (Vec<_>, Vec<_>) = (0..CORES).map(|_| wire(8192, 1600)).unzip();
    let segment = Arc::clone(&parts.shared.segment);
    let clock = Clock::calibrated();
    std::thread::scope(|s| {
        for (n, near) in near.into_iter().enumerate() {
            let (parts, clock) = (&parts, clock.clone());
            s.spawn(move || parts.core(n, 1024, near).run(&clock, &parts.shared.orders[n].stop));
        }
        // A test that fails must not leave them running.
        let stop = Stop(&parts.shared);
        drive(&mut Peers::new(Vec::new(), far, Arc::clone(&segment)));
        drop(stop);
    });
    let s = segment.read();
    for core in 0..CORES {
        assert!(segment.read_core(core).get(Ctr::HttpRequests) > 0, "core {core} did nothing");
    }
    assert_eq!((s.get(Ctr::DropMailFull), s.get(Ctr::DropPortNoBuffer)), (0, 0));
}

struct Stop<'a>(&'a crate::support::Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        for o in &self.0.orders {
            o.stop.store(true, Ordering::Relaxed);
        }
        self.0.bells.ring_all();
    }
}

/// All of them at once; the first of them leaves after a tenth of the object, or does not.
fn crowd(p: &mut Peers, path: &str, leaves: bool) {
    let bodies = Bodies::new(size());
    let end = Instant::now() + PATIENCE;
    let (mut port, mut sent) = (None, 0);
    let mut clients = vec![Client::new(p.connect(&get(path, "")))];
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {}\r\n\r\n", size());
    while clients.iter().any(|c| c.got < size()) {
        let busy = p.pass(&mut |a: &Asked, _| {
            assert!(port.replace(a.0).is_none(), "asked again: {}", a.1);
            Act::Send(head.clone().into_bytes(), false)
        });
        clients.iter_mut().for_each(|c| c.take(p, &bodies));
        assert!(clients.iter().all(|c| c.got <= sent), "more than was sent");
        let least = || clients.iter().map(|c| c.got).min();
        assert!(Instant::now() < end, "not in time: {sent} B sent, a client has {:?}", least());
        if !busy {
            std::thread::yield_now();
        }
        let Some(port) = port else { continue };
        // The first one's request is at the origin: it is the one that all others wait behind.
        if clients.len() == 1 && sent == 0 {
            clients.extend((1..CLIENTS).map(|_| Client::new(p.connect(&get(path, "")))));
        }
        if sent < size() && clients.iter().all(|c| c.got + LAG > sent) {
            if leaves && sent == size() / 10 {
                p.client_resets(clients.remove(0).port);
            }
            p.origin_sends(port, &bodies.of(0, sent, PIECE));
            sent = (sent + PIECE).min(size());
        }
    }
    assert_eq!(clients.len(), CLIENTS - usize::from(leaves));
    assert!(clients.iter().all(|c| c.is_whole(200, size())));
    clients.iter().for_each(|c| p.client_resets(c.port));
}

#[test]
fn two_threads_serve_a_thousand_from_one_request() {
    with_node(|p| {
        crowd(p, "/one", false);
        crowd(p, "/left", true);
    });
}
