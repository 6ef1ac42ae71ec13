//! The cache: one store for all cores, and the rules of HTTP over it.

pub mod policy;
pub mod store;
