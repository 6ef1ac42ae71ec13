//! The exception path's control side: the kernel's view of a port (`host_if` in its table), and what the cores copy
//! from it.
//!
//! ```text
//!  wire ◄──► port ◄──► core ◄──► TAP wan0 ◄──► kernel: ARP, ND, ICMP, ssh, BIRD, routes
//!                       ▲  │ questions: who has …?              │ rtnetlink
//!      orders: routes,  │  ▼                                    ▼
//!      neighbours       └─ mirror (a thread) ◄───────────── events, answers
//! ```
//!
//! The TAP is made by the cores, each of which has a queue of it (`stack::kernel` says what goes through). [`setup`]
//! gives it the port's MAC, MTU and addresses, and takes it up; from then on it is the operator's, as any interface: what
//! is configured there is the truth, and `mirror.rs` copies it.

mod mirror;
pub mod netlink;
mod own_ports;
mod setup;

use dataplane::port::Mac;

use crate::config::Cidr;

pub use mirror::Mirror;
pub use own_ports::{kernels as kernels_ports, own_ports};
pub use setup::{set_carrier, setup};

/// A shared port.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Its name in the config.
    pub name: String,
    /// Its number.
    pub port: u8,
    /// The kernel's interface.
    pub host_if: String,
    /// The port's MAC.
    pub mac: Mac,
    /// The port's MTU.
    pub mtu: u16,
    /// The addresses.
    pub addresses: Vec<Cidr>,
}
