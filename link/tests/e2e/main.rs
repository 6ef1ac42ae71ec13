//! The link and the lab in network namespaces, each test in some of its own.
//!
//! Needs root; without it, or without a tool, a test skips itself and says so.

mod lab;
mod link;
mod support;
