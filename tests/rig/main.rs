//! The node's cores under a load of frames made by hand ([`support`]): on threads of their own, over DPDK, with TLS.

#[cfg(feature = "dpdk")]
mod dpdk_cells;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod tls;
