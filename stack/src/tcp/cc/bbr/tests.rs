//! BBR's steps, one by one. What they come to on a path is in `cc::sim`.

use super::super::Rate;
use super::super::test_support::{ack, lost_at};
use super::*;

const MSS: u32 = 1000;

#[test]
fn size_is_small() {
    assert!(size_of::<Bbr>() <= 216, "{}", size_of::<Bbr>());
}

#[test]
fn the_wait_between_probes_is_two_to_three_seconds_and_a_matter_of_the_seed() {
    let mut waits = Vec::new();
    for seed in 0..100 {
        let mut b = Bbr::new(seed * 7919);
        b.start_down(0);
        assert!((2000..3000).contains(&b.bw_probe_wait_ms) && b.rounds_since_probe_up < 2);
        waits.push(b.bw_probe_wait_ms);
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 20, "{}", waits.len());
}
