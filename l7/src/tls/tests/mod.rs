//! Against stock rustls on the other side.

mod age;
mod cost;
mod early;
mod front;
mod handshake;
mod handshakes;
mod hello;
mod ocsp;
pub(super) mod support;
mod tickets;
