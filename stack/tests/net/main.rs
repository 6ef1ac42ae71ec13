//! The stack between hosts: see `tests/support`.
#[path = "../support/mod.rs"]
mod support;

mod layers;
mod limits;
mod sending;
mod states;
mod steering;
mod transfer;
