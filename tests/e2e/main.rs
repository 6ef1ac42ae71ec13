//! End to end: the real binary on a TAP port in network namespaces, with the Linux kernel's TCP, curl, wrk and nginx
//! on the other sides. Each `#[test]` makes a lab of its own, and runs many named checks in it.
//!
//! Needs root; without it, or without one of the tools, a test skips itself and says so. Knobs:
//! `MILLRACE_E2E_SECONDS=3` how long loads run, `MILLRACE_E2E_ONLY=TEXT` only checks with TEXT in their names.

mod backpressure;
#[path = "../cache_cases/mod.rs"]
mod cache_cases;
mod clients;
mod conformance;
mod cores;
#[cfg(feature = "dpdk")]
mod dpdk;
#[cfg(feature = "dpdk")]
mod dpdk_cores;
#[cfg(feature = "dpdk")]
mod dpdk_xdp;
mod edge;
mod http;
mod lab;
mod links;
mod names;
mod operations;
#[cfg(feature = "dpdk")]
mod ordinary;
mod origins;
mod pktgen;
mod pktgen_http;
mod reloads;
mod script;
mod shared;
mod slices;
mod tls_origins;
mod traffic;
mod upstreams;
