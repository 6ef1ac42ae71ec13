//! The program on this host: real kernel sockets on loopback, no privilege. In one test program, as each is a link of all.

mod acme;
mod cert;
mod clients;
mod host_port;
mod https;
mod origins;
#[path = "../running/mod.rs"]
mod running;
mod stock;
