//! Gives the kernel's end of an exception path what the port has: MAC, MTU, addresses; and takes it up.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice};

use super::Shared;
use super::netlink::{INET6, Request, Socket, family, flag, ip, kind, octets, word};
use crate::config::Cidr;

const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_CARRIER: u16 = 33;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No duplicate address detection: as on the node's own ports, the config is believed.
const IFA_F_NODAD: u8 = 2;

/// Sets the interface up. Gives its index, and the addresses that it did not have yet.
///
/// # Errors
/// One sentence, with the mend.
pub fn setup(shared: &Shared) -> Result<(u32, Vec<Cidr>), String> {
    let name = &shared.host_if;
    let told = |what: &str, e: &io::Error| {
        let mend = match e.raw_os_error() {
            Some(e) if e == Errno::PERM.raw_os_error() => {
                "it needs CAP_NET_ADMIN: run as root, or in `unshare -Urn`"
            }
            _ => "see ip-link(8) and ip-address(8)",
        };
        format!("port \"{}\", host_if: cannot {what} {name}: {e}; {mend}", shared.name)
    };
    let index = index(name).map_err(|e| told("find", &e))?;
    let mut socket = Socket::new().map_err(|e| told("ask netlink about", &e))?;
    let mut link = [0; 16];
    link[4..8].copy_from_slice(&index.to_ne_bytes());
    link[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
    link[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    let up = Request::new(kind::NEW_LINK, flag::ACK, &link)
        .with(IFLA_ADDRESS, &shared.mac)
        .with(IFLA_MTU, &u32::from(shared.mtu).to_ne_bytes());
    allow_ipv6(shared);
    socket.ask(up, |_| ()).map_err(|e| told("take up", &e))?;
    let there = addresses(&mut socket, index).map_err(|e| told("list the addresses of", &e))?;
    let mut added = Vec::new();
    for a in shared.addresses.iter().filter(|a| !there.contains(&a.address)) {
        let what = format!("add {}/{} to", a.address, a.prefix_len);
        match socket.ask(new_address(index, a), |_| ()) {
            Ok(()) => added.push(*a),
            Err(e) if e.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
            Err(e) => return Err(told(&what, &e)),
        }
    }
    Ok((index, added))
}

/// Has the kernel see the interface with or without a carrier, as the port's device has one.
///
/// # Errors
/// What the kernel says.
pub fn set_carrier(host_if: &str, up: bool) -> io::Result<()> {
    let mut link = [0; 16];
    link[4..8].copy_from_slice(&index(host_if)?.to_ne_bytes());
    Socket::new()?
        .ask(Request::new(kind::NEW_LINK, flag::ACK, &link).with(IFLA_CARRIER, &[u8::from(up)]), |_| ())
}

fn index(name: &str) -> io::Result<u32> {
    let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(&any, name)?)
}

/// Where IPv6 is off by default, this interface has it all the same: its port has such an address.
fn allow_ipv6(shared: &Shared) {
    if shared.addresses.iter().any(|a| a.address.is_ipv6()) {
        // If it cannot be had, adding the address fails, and says so.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", shared.host_if), "0");
    }
}

/// The interface's addresses.
fn addresses(socket: &mut Socket, index: u32) -> io::Result<Vec<IpAddr>> {
    let mut there = Vec::new();
    socket.ask(Request::new(kind::GET_ADDR, flag::DUMP, &[0; 8]), |m| {
        let Some(fixed) = m.fixed::<8>() else { return };
        let local = m.attribute(8, IFA_LOCAL).or_else(|| m.attribute(8, IFA_ADDRESS));
        if m.kind == kind::NEW_ADDR && word(fixed, 4) == Some(index) {
            there.extend(local.and_then(ip));
        }
    })?;
    Ok(there)
}

fn new_address(index: u32, a: &Cidr) -> Request {
    let family = family(&a.address);
    let mut fixed = [family, a.prefix_len, if family == INET6 { IFA_F_NODAD } else { 0 }, 0, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let own = octets(&a.address);
    let r = Request::new(kind::NEW_ADDR, flag::ACK | flag::CREATE | flag::EXCL, &fixed)
        .with(IFA_LOCAL, &own)
        .with(IFA_ADDRESS, &own);
    match a.address {
        IpAddr::V4(v4) if a.prefix_len < 31 => {
            let hosts = if a.prefix_len == 0 { u32::MAX } else { u32::MAX >> a.prefix_len };
            r.with(IFA_BROADCAST, &(v4.to_bits() | hosts).to_be_bytes())
        }
        _ => r,
    }
}
