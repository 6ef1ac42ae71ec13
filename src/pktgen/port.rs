//! The port that a packet generator sends by: `tap:tap0`, `dpdk:net_tap0,iface=t0`, `dpdk:0000:3b:00.0`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use dataplane::Pool;
use dataplane::counters::Counters;
use dataplane::port::tap::{Offloads, TapPort};
use dataplane::port::{LinkFacts, Mac, Port};
use hugepages::PagePolicy;
use stack::neigh::Neighbours;
use stack::{Iface, Net};

use super::args::PortArgs;
use super::frames::Pools;
use super::generator::{End, Generator, Plan, TX_BOUND, Tally};

/// Received frames that may be held: enough for what lies in the queues between two passes.
const RX_CELLS: u32 = 4096;

/// Opens `KIND:DEVICE` on the thread that will poll it, as the core's port `number`.
///
/// # Errors
/// One sentence, with the mend.
pub fn open(text: &str, mac: Option<Mac>, mtu: u16, number: u8) -> Result<Box<dyn Port>, String> {
    let wrong = || format!("\"{text}\" is no port; write tap:DEVICE or dpdk:DEVICE");
    let (kind, device) = text.split_once(':').filter(|(_, device)| !device.is_empty()).ok_or_else(wrong)?;
    let fallback = crate::node::own_mac(&format!("pktgen {device}"));
    match kind {
        "tap" => {
            let cell = (u32::from(mtu) + 18 + dataplane::buf::HEADROOM as u32).max(2048);
            let pool = Pool::reserve("rx", RX_CELLS, cell, PagePolicy::Best).map_err(|e| e.to_string())?;
            let mac = mac.unwrap_or(fallback);
            // Its frames are templates with their checksums, and what it sees is to be what a wire would carry.
            let tap = TapPort::open(device, mac, mtu, pool, number, 1, Offloads::default());
            Ok(Box::new(tap.map_err(|e| e.to_string())?))
        }
        "dpdk" => dpdk(device, mac, fallback, mtu, number),
        _ => Err(wrong()),
    }
}

/// What our side of a port is on its link.
///
/// # Errors
/// Too many addresses.
pub fn iface(on: &PortArgs, facts: &LinkFacts) -> Result<Iface, String> {
    let mut iface = Iface::new(facts.mac, facts.mtu);
    for (address, len) in &on.address {
        if !iface.add(*address, *len) {
            return Err(format!("too many addresses; {} fit", stack::net::ADDRESSES_MAX));
        }
    }
    for gateway in &on.gateway {
        iface.gateway[usize::from(gateway.is_ipv6())] = Some((*gateway).into());
    }
    Ok(iface)
}

/// The pool that frames are best made from, where the port has an opinion: one of mbufs sends its own as they are, and
/// would copy others.
pub fn frames(port: &dyn Port) -> Option<Pool> {
    (port.facts().kind == "dpdk").then(|| port.rx_pool().clone())
}

/// A generator that sends by the first of these ports, and whose frames are made from `pool`.
///
/// # Errors
/// When there is no memory for its frames.
pub fn generator(
    ifaces: Vec<Iface>,
    pool: Option<Pool>,
    plan: Plan,
    counters: &Counters,
    tally: Arc<Tally>,
    signs: [Arc<AtomicBool>; 2],
    end: Sender<End>,
) -> Result<Generator, String> {
    let net = Net::new(ifaces, Neighbours::new(256), super::generator::answers()?, counters.clone());
    // As many as may wait for the port, and those that it has taken and not sent.
    let pools = pool.map_or_else(|| Pools::reserve(4 * TX_BOUND as u32), Pools::of);
    Generator::new(net, pools.map_err(|e| e.to_string())?, plan, tally, signs, end)
}

#[cfg(feature = "dpdk")]
fn dpdk(
    device: &str,
    mac: Option<Mac>,
    fallback_mac: Mac,
    mtu: u16,
    number: u8,
) -> Result<Box<dyn Port>, String> {
    use dataplane::port::dpdk::{Checksums, DpdkConfig, DpdkPort, Eal, EalConfig, Host, nic};

    let devices = [device];
    let eal = Eal::start(&EalConfig {
        buffers_bytes: DpdkPort::buffers_bytes(RX_CELLS, mtu, &devices),
        pages: PagePolicy::Best,
        nics: nic(&Host::default(), device)?.into_iter().collect(),
        args: Vec::new(),
    })?;
    let pool = DpdkPort::rx_buffers(eal, RX_CELLS, mtu, &devices, None)?.into_pool("rx");
    let config = DpdkConfig { device, mac, fallback_mac, mtu, checksums: Checksums::Auto };
    Ok(Box::new(DpdkPort::open(eal, &config, pool, number)?))
}

#[cfg(not(feature = "dpdk"))]
fn dpdk(device: &str, _: Option<Mac>, _: Mac, _: u16, _: u8) -> Result<Box<dyn Port>, String> {
    Err(format!("this millrace was built without DPDK and cannot open {device}; use a tap"))
}
