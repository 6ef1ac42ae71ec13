//! The record layer against itself, RFC 8448, and rustls.

mod basics;
