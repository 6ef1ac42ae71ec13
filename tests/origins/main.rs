//! Origins with several addresses, and origins that fail, in the real node in memory under a virtual clock.

mod race;
mod rig;
#[path = "../support/mod.rs"]
mod support;
