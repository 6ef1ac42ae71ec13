//! Origins with several addresses, and origins that fail, in the real node in memory under a virtual clock.

mod blame;
mod early;
mod edits;
mod hold;
mod kept;
mod news;
mod race;
mod records;
mod reload;
mod rig;
mod scarce;
mod short;
mod sizes;
mod sources;
mod stock;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod truncated;
