//! Origins with several addresses, and origins that fail, in the real node in memory under a virtual clock.

mod blame;
mod early;
mod edits;
mod kept;
mod news;
mod race;
mod reload;
mod rig;
mod short;
mod sources;
mod stock;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod truncated;
