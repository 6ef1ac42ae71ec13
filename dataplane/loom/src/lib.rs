//! dataplane's own files, built against loom's atomics.
#![cfg(loom)]
#![allow(dead_code)]

#[path = "../../src/epoch.rs"]
pub mod epoch;
#[path = "../../src/port/dpdk/giveback.rs"]
pub mod giveback;
#[path = "../../src/pins.rs"]
pub mod pins;
#[path = "../../src/sync.rs"]
mod sync;
