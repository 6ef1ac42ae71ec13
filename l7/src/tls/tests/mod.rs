//! Against stock rustls on the other side.

mod front;
mod handshake;
pub(super) mod support;
