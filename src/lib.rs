//! Millrace, the open kernel-bypass edge node: command line, config and control plane.
//!
//! Everything here runs on control threads. The data cores are built from the crates below (`l7`, `stack`,
//! `dataplane`, `hugepages`) and assembled in [`node`].

#![forbid(unsafe_code)]

pub mod access_log;
pub mod cli;
pub mod config;
pub mod control;
pub mod cpu;
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod host;
pub mod host_if;
pub mod log;
pub mod node;
pub mod pktgen;
pub mod resolve;
pub mod roots;
pub mod rundir;
pub mod stats;
pub mod tls;
