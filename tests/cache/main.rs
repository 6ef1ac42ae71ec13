//! The cache in the real node, in memory, under a virtual clock: the table of conversations of `tests/cache_cases`,
//! many clients that want one object, and an origin that is not there.

#[path = "../cache_cases/mod.rs"]
mod cache_cases;
mod collapsing;
mod conformance;
mod crowd;
mod crowd_threads;
mod down;
mod rig;
#[path = "../support/mod.rs"]
mod support;
