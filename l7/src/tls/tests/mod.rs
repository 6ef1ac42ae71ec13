//! Against stock rustls on the other side.

mod front;
mod handshake;
mod handshakes;
pub(super) mod support;
mod tickets;
