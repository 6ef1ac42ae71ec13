//! The stack between hosts: see `tests/support`.
#[path = "../support/mod.rs"]
mod support;

mod transfer;
