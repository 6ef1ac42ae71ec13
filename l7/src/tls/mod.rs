//! TLS at the front and to origins: rustls shakes hands, the records are ours.
//!
//! ```text
//!  Tcp ⇄ Conns ⇄ proxy            plain connections: Conns hands every call on
//!          │
//!          ├─ handshakes ── Handshake (rustls, unbuffered) ── Keys ──┐   a bounded pool, so many steps a pass;
//!          │                                                        │   what is long runs whole on other threads
//!          └─ sessions ◄────────────────────────────────────────────┘   two secrets and two numbers a connection
//!                 seal, open, key updates, alerts
//! ```
//!
//! A connection that is established has nothing of rustls' left on the server's side: the two traffic secrets and
//! record numbers are its whole state, and the contexts of the AEAD, which are larger, are made from them when a record
//! comes and kept in a pool for the connections that were last used.

mod age;
pub mod certs;
mod conns;
pub mod front;
pub mod handshake;
pub mod handshakes;
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub mod harness;
pub mod hello;
pub mod keys;
pub mod ocsp;
pub mod offload;
pub mod origin;
mod proofs;
mod queue;
pub mod record;
mod refused;
mod slow;
mod sources;
pub mod store;
pub mod tickets;

#[cfg(test)]
mod tests;

pub use conns::{Conns, RECORD_BYTES_MAX, RecordCells, Sent, Tls};
pub use front::Front;
pub use handshakes::{HandshakeLimits, Handshakes};

/// What a handshake under way takes of the heap at most, but with a place for long certificates: rustls' state, and a record
/// of what has come, or less of certificates, with what rustls keeps of them.
pub const HANDSHAKE_BYTES: u64 = RUSTLS_BYTES + handshake::SHORT_INPUT_BYTES_MAX as u64;
/// What one with such a place takes more: all that may come, a record that is added to it, rustls' copy, and the transcript.
pub const LONG_HANDSHAKE_BYTES: u64 =
    4 * handshake::INPUT_BYTES_MAX as u64 + handshake::SHORT_INPUT_BYTES_MAX as u64;
const RUSTLS_BYTES: u64 = 10 << 10;
