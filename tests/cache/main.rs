//! The cache in the real node, in memory, under a virtual clock: the table of conversations of `tests/cache_cases`,
//! many clients that want one object, and an origin that is not there.

mod admission;
#[path = "../cache_cases/mod.rs"]
mod cache_cases;
mod collapsing;
mod conformance;
mod crowd;
mod crowd_threads;
mod down;
mod rig;
mod slices;
mod slices_odd;
mod slices_random;
#[path = "../support/mod.rs"]
mod support;
