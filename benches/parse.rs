//! L2 to L4 of one received TCP segment: our parser against smoltcp's wire module, in one run.
//!
//! DESIGN.md D3 has smoltcp's `wire` as the parser; `stack/src/parse.rs` reads the headers itself, and this is
//! the measurement behind it. Both verify both checksums, or neither.

use std::hint::black_box;
use std::time::Instant;

use dataplane::buf::RxFlags;
use dataplane::{Packet, Pool};
use hugepages::PagePolicy;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use stack::Iface;

const ROUNDS: usize = 9;
const TIMES: u32 = 200_000;
const US: [u8; 4] = [10, 0, 0, 1];
const THEM: [u8; 4] = [10, 0, 0, 2];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn frame(payload: &[u8]) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let tcp = TcpRepr {
        src_port: 40_000,
        dst_port: 80,
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(1),
        ack_number: Some(TcpSeqNumber(2)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let ip = Ipv4Repr {
        src_addr: THEM.into(),
        dst_addr: US.into(),
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut f = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
    let mut e = EthernetFrame::new_unchecked(&mut f[..]);
    EthernetRepr {
        src_addr: EthernetAddress([2, 0, 0, 0, 0, 2]),
        dst_addr: EthernetAddress(MAC),
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut e);
    let mut p = Ipv4Packet::new_unchecked(e.payload_mut());
    ip.emit(&mut p, &caps);
    let mut t = TcpPacket::new_unchecked(p.payload_mut());
    tcp.emit(
        &mut t,
        &IpAddress::from(std::net::Ipv4Addr::from(THEM)),
        &std::net::Ipv4Addr::from(US).into(),
        &caps,
    );
    f
}

fn theirs(f: &[u8], caps: &ChecksumCapabilities) -> Option<(u32, usize)> {
    let e = EthernetFrame::new_checked(f).ok()?;
    let _ = EthernetRepr::parse(&e).ok()?;
    let p = Ipv4Packet::new_checked(e.payload()).ok()?;
    let ip = Ipv4Repr::parse(&p, caps).ok()?;
    let t = TcpPacket::new_checked(p.payload()).ok()?;
    let tcp = TcpRepr::parse(&t, &ip.src_addr.into(), &ip.dst_addr.into(), caps).ok()?;
    Some((tcp.seq_number.0 as u32, tcp.payload.len()))
}

fn ns(mut once: impl FnMut()) -> f64 {
    let t = Instant::now();
    for _ in 0..TIMES {
        once();
    }
    t.elapsed().as_nanos() as f64 / f64::from(TIMES)
}

fn main() {
    let pool = Pool::reserve("bench", 4, 2048, PagePolicy::NormalOnly).expect("memory");
    let mut iface = Iface::new(MAC, 1500);
    iface.add(std::net::Ipv4Addr::from(US).into(), 24);
    println!("{:<28} {:>24} {:>24}", "ns, median (min–max)", "ours", "smoltcp wire");
    for (name, len) in [("ACK", 0), ("1460 B segment", 1460)] {
        for verify in [true, false] {
            let bytes = frame(&vec![0x5a; len]);
            let mut caps = ChecksumCapabilities::ignored();
            if verify {
                caps = ChecksumCapabilities::default();
            }
            let mut p: Packet = pool.alloc().expect("a cell");
            p.append(&bytes);
            let flags =
                if verify { RxFlags(0) } else { RxFlags(RxFlags::L3_CHECKSUM_OK | RxFlags::L4_CHECKSUM_OK) };
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                a.push(ns(|| {
                    p.meta_mut().flags = flags;
                    assert!(stack::parse::parse(black_box(&mut p), &iface).is_ok());
                }));
                b.push(ns(|| assert!(black_box(theirs(black_box(&bytes), &caps)).is_some())));
            }
            let show = |v: &mut Vec<f64>| {
                v.sort_by(f64::total_cmp);
                format!("{:.1} ({:.1}–{:.1})", v[ROUNDS / 2], v[0], v[ROUNDS - 1])
            };
            let what =
                format!("{name}, {}", if verify { "checksums verified" } else { "checksums offloaded" });
            println!("{what:<38} {:>20} {:>20}", show(&mut a), show(&mut b));
        }
    }
}
