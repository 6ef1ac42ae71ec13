//! As `l7::cache`.

#[path = "../../src/cache/store/mod.rs"]
pub mod store;
