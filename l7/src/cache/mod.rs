//! The HTTP cache: what may be stored and served, and where it lies.

pub mod policy;
