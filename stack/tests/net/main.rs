//! The stack between hosts: see `tests/support`.
#[path = "../support/mod.rs"]
mod support;

mod attack;
mod book;
mod bulk;
mod cookies;
mod ecn;
mod flows;
mod goodput;
mod kernel;
mod layers;
mod limits;
mod options;
mod pmtu;
mod rack;
mod receiving;
mod sending;
mod states;
mod steering;
mod transfer;
mod usual;
