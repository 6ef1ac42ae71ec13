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

pub mod keys;
