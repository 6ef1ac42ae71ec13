//! Bindings to what Millrace uses of DPDK 22.11, made by `build.rs` from an allow-list.
//!
//! Names and layouts are DPDK's; what they ask of their caller is in
//! [its reference](https://doc.dpdk.org/api-22.11/). `mr_…` are functions of the shim (`shim/shim.c`), for what DPDK has
//! only inline. Without the feature `dynamic` there is nothing here.
#![no_std]
#![cfg_attr(
    feature = "dynamic",
    allow(
        unsafe_code, // Foreign functions, and accessors of bit fields.
        unsafe_op_in_unsafe_fn,
        missing_docs,
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        dead_code,
        clippy::all,
        clippy::undocumented_unsafe_blocks
    )
)]

#[cfg(feature = "dynamic")]
include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

#[cfg(feature = "dynamic")]
mod bursts;
#[cfg(feature = "dynamic")]
pub use bursts::{eth_rx_burst, eth_tx_burst, eth_tx_prepare};
