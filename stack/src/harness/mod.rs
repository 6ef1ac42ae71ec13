//! What must hold for any frames at all. One body for the fuzz targets (`fuzz/`) and for the tests below. Tests
//! only: it allocates and panics as it likes.

mod opinion;
mod peer;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests;
mod world;

use std::sync::atomic::AtomicU64;

use dataplane::{L4, Pool};
use hugepages::PagePolicy;

use crate::net::Iface;
use crate::parse;

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Frames that worlds have been given in all, by this process.
pub static SEGMENTS: AtomicU64 = AtomicU64::new(0);

/// An interface with 10.0.0.1 and fd00::1.
fn iface() -> Iface {
    let mut i = Iface::new(OUR_MAC, 1500);
    assert!(i.add([10, 0, 0, 1].into(), 24) && i.add([0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), 64));
    i
}

/// Any bytes as a frame: what `parse` takes, smoltcp takes too. The first byte says whether checksums are made
/// right first, so that what lies behind them is reached.
pub fn parse(input: &[u8]) {
    let Some((&how, input)) = input.split_first() else { return };
    let mut frame = input[..input.len().min(1600)].to_vec();
    if how & 1 != 0 {
        opinion::mend_checksums(&mut frame);
    }
    let pool = Pool::reserve("fuzz", 1, 2048, PagePolicy::NormalOnly).expect("memory");
    let mut p = pool.alloc().expect("a cell");
    assert!(p.append(&frame));
    if parse::parse(&mut p, &iface()).is_err() {
        return;
    }
    let m = *p.meta();
    let end = usize::from(m.payload) + usize::from(m.payload_len);
    if m.l4_kind != L4::Arp {
        assert!(m.l3 < m.l4 && m.l4 <= m.payload && end <= frame.len(), "{m:?}");
        assert_eq!(p.payload().len(), usize::from(m.payload_len));
    }
    opinion::agrees(&p);
}

/// Any sequence of frames, time, and owner's doings on a stack with a listener and open connections: no panic,
/// no broken invariant, both laws exact, everything sent well-formed, and nothing left at the end.
pub fn frames(input: &[u8]) {
    world::World::new(&mut world::Input(input)).run();
}
