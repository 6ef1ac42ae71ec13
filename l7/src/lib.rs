//! Layer 7 of Millrace: what happens to a connection's bytes once TCP has put them in order.
//!
//! Everything here is sans-IO. A protocol type takes bytes, says what they mean and what may be done next;
//! it holds no socket, reads no clock and, on the paths that the network reaches, allocates nothing.

// Allowed in the cache store's `memory` and `chain`, over memory that cores share; nowhere else.
#![deny(unsafe_code)]

pub mod cache;
pub mod http1;
pub mod phases;
pub mod proxy;
pub mod tls;
pub mod upstream;
