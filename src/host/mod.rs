//! stub
#![allow(missing_docs)]
use dataplane::port::{Mac, mem::WireEnd};
use std::net::SocketAddr;
pub struct HostConfig {}
impl HostConfig {
    pub fn new(_l: Vec<SocketAddr>, _a: Mac, _b: Mac) -> Self {
        Self {}
    }
}
pub struct HostBridge {}
pub fn start(_c: HostConfig, _w: WireEnd) -> std::io::Result<HostBridge> {
    Err(std::io::Error::other("not yet"))
}
impl HostBridge {
    pub fn addresses(&self) -> &[SocketAddr] {
        &[]
    }
    pub fn stop_accepting(&self) {}
    pub fn shutdown(&mut self) {}
}
