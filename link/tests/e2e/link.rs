//! The link between two network namespaces: what goes in is counted, what comes out is what the report says, and the
//! same seed does the same. Counts only: nothing here depends on how fast or how busy the machine is.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::{self, Ends, Link};
use serde_json::Value;

const PORT: u16 = 7000;

/// Sends `n` numbered datagrams of `bytes` through the link, and gives the numbers in the order of their arrival.
/// In portions that fit every buffer on the way; a portion is over when its marks have come, which are sent until
/// they do, or when `patience` is over.
fn cross(ends: &Ends, link: &Link, n: u32, bytes: usize) -> Vec<u32> {
    let from = ends.in_a(|| UdpSocket::bind((support::A, PORT)).expect("a socket"));
    let to = ends.in_b(|| UdpSocket::bind((support::B, PORT)).expect("a socket"));
    to.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let mut got = Vec::new();
    let mut datagram = vec![0u8; bytes];
    let mut buf = [0u8; 2048];
    for i in 0..n {
        datagram[..4].copy_from_slice(&i.to_be_bytes());
        from.send_to(&datagram, (support::B, PORT)).expect("sent");
        if (i + 1) % 50 != 0 && i + 1 != n {
            continue;
        }
        // Everything has been offered, and nothing is in flight any more: what has not come will not come.
        let before = Instant::now();
        loop {
            while let Ok(len) = to.recv(&mut buf) {
                assert_eq!(len, bytes);
                got.push(u32::from_be_bytes(buf[..4].try_into().expect("4 bytes")));
            }
            let up = &link.news()["up"];
            if up["offered"] == u64::from(i + 1) && up["in_flight"] == 0 {
                break;
            }
            assert!(before.elapsed() < Duration::from_secs(30), "{up} after {} datagrams", i + 1);
        }
        while let Ok(len) = to.recv(&mut buf) {
            assert_eq!(len, bytes);
            got.push(u32::from_be_bytes(buf[..4].try_into().expect("4 bytes")));
        }
    }
    got
}

fn count(way: &Value, name: &str) -> u64 {
    way[name].as_u64().unwrap_or_else(|| panic!("no {name} in {way}"))
}

/// Nothing got lost but by the model, and all of it adds up.
fn adds_up(way: &Value) {
    for name in ["missed", "oversize", "unfinished", "overrun", "no_room", "in_flight"] {
        assert_eq!(count(way, name), 0, "{name} in {way}");
    }
    let dropped: u64 =
        ["lost", "queue_full", "too_long", "corrupted_dropped"].iter().map(|name| count(way, name)).sum();
    assert_eq!(count(way, "offered") + count(way, "duplicated"), count(way, "delivered") + dropped, "{way}");
}

#[test]
fn every_frame_is_counted_and_the_seed_decides() {
    let Some(ends) = Ends::up("every_frame_is_counted_and_the_seed_decides", 'f') else { return };
    let words = "up loss 10% duplicate 5% reorder 5% 50ms";
    let run = |seed: &str| {
        let link = ends.link(&["--seed", seed, words]);
        let got = cross(&ends, &link, 400, 100);
        let report = link.end();
        let (up, down) = (&report["up"], &report["down"]);
        adds_up(up);
        adds_up(down);
        assert_eq!((count(up, "offered"), count(down, "offered")), (400, 0), "{report}");
        assert_eq!(count(up, "delivered"), got.len() as u64);
        assert_eq!(count(up, "delivered_bytes"), got.len() as u64 * 142);
        for (name, about) in [("lost", 40), ("duplicated", 18), ("reordered", 18)] {
            assert!((about / 2..about * 2).contains(&count(up, name)), "{name}: {report}");
        }
        let mut sorted = got.clone();
        sorted.sort_unstable();
        assert_ne!(sorted, got, "something was overtaken");
        sorted
    };
    let first = run("7");
    let mut once = first.clone();
    once.dedup();
    assert!(once.len() < first.len(), "something came twice");
    assert_eq!(run("7"), first, "the same seed, the same drops and doubles");
    assert_ne!(run("8"), first);
}

#[test]
fn pings_cross_and_long_packets_do_not() {
    let Some(ends) = Ends::up("pings_cross_and_long_packets_do_not", 'p') else { return };
    let link = ends.link(&["delay 5ms mtu 1000 down rate 10mbit"]);
    let said = ends.sh_a("ping -c 20 -i 0.02 -W 10 10.81.0.2");
    assert!(said.contains("20 received"), "{said}");
    // The answer takes 5 ms each way and 98 bytes at 10 Mbit/s: that much at least.
    let rtts: Vec<f64> =
        said.lines().filter_map(|l| l.split_once("time=")?.1.split(' ').next()?.parse().ok()).collect();
    assert!(rtts.len() == 20 && rtts.iter().all(|ms| *ms >= 10.0), "{rtts:?}");
    ends.sh_a("ping -c 3 -i 0.02 -W 10 -s 972 10.81.0.2");
    ends.sh_a("! ping -c 3 -i 0.02 -W 0.2 -s 973 10.81.0.2");
    let report = link.end();
    adds_up(&report["up"]);
    adds_up(&report["down"]);
    let of = |way: &str| ["offered", "delivered", "too_long"].map(|name| count(&report[way], name));
    assert_eq!((of("up"), of("down")), ([26, 23, 3], [23, 23, 0]), "{report}");
    assert_eq!(report["rtt_ns"], 10_000_000);
    let lateness = &report["up"]["lateness_ns"];
    assert!(
        count(lateness, "p50") <= count(lateness, "p99") && count(lateness, "p99") <= count(lateness, "max")
    );
}

#[test]
fn a_full_queue_drops_at_its_tail_and_damage_is_found() {
    let Some(ends) = Ends::up("a_full_queue_drops_at_its_tail_and_damage_is_found", 'q') else { return };
    // At 8 kbit/s a frame of 142 bytes takes 142 ms, and 10 of them find room: more come than can leave meanwhile.
    let link = ends.link(&["up rate 80kbit limit 1420b"]);
    let got = cross(&ends, &link, 50, 100);
    let report = link.end();
    adds_up(&report["up"]);
    assert!((10..50).contains(&got.len()) && got[..10] == (0..10).collect::<Vec<u32>>()[..], "{got:?}");
    assert_eq!(count(&report["up"], "queue_full"), 50 - got.len() as u64);

    let link = ends.link(&["up corrupt 20%"]);
    let got = cross(&ends, &link, 200, 100);
    let report = link.end();
    adds_up(&report["up"]);
    let damaged = count(&report["up"], "corrupted");
    assert!((20..80).contains(&damaged), "{report}");
    assert_eq!(count(&report["up"], "delivered"), 200, "damaged ones cross");
    assert_eq!(got.len() as u64, 200 - damaged, "and the kernel's checksums find every one of them");
}

#[test]
fn tags_cross_and_tap_devices_are_ends_too() {
    let Some(ends) = Ends::up("tags_cross_and_tap_devices_are_ends_too", 't') else { return };
    // A frame with a VLAN tag, which the kernel keeps beside the frame.
    let link = ends.link(&[]);
    let mut tagged = vec![0x5a; 100];
    tagged[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    tagged[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    // Priority 3, VLAN 100, and in it a type that no kernel answers.
    tagged[12..18].copy_from_slice(&[0x81, 0x00, 0x60, 100, 0x88, 0xb5]);
    assert_eq!(ends.send_frame_and_count(&tagged), (1, tagged.len() as u64));
    let report = link.end();
    let up = &report["up"];
    assert_eq!((count(up, "delivered"), count(up, "delivered_bytes")), (1, tagged.len() as u64), "{report}");

    let link = ends.link_taps(&["down delay 1ms"]);
    let said = ends.sh_a("ping -c 5 -i 0.02 -W 10 10.82.0.2");
    assert!(said.contains("5 received"), "{said}");
    let report = link.end();
    adds_up(&report["down"]);
    assert_eq!([count(&report["up"], "delivered"), count(&report["down"], "delivered")], [5, 5], "{report}");
}

#[test]
fn wrong_words_and_ends_are_refused() {
    for (args, code, part) in [
        (&["a", "b", "delay", "5"][..], 2, "us, ms or s"),
        (&["a", "b/c/d"], 2, "NAMESPACE"),
        (&["a"], 2, "required"),
        (&["no-such-ns/eth0", "tap:x"], 3, "no namespace"),
        (&["no-such-device0", "no-such-device1"], 3, "no-such-device0"),
    ] {
        let out = support::program().args(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(code) && said.contains(part), "{args:?}: {} {said}", out.status);
    }
}
