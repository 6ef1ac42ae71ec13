//! The port that a packet generator sends by: `tap:tap0`, `dpdk:net_tap0,iface=t0`, `dpdk:0000:3b:00.0`.

use dataplane::Pool;
use dataplane::port::tap::TapPort;
use dataplane::port::{Mac, Port};
use hugepages::PagePolicy;

/// Received frames that may be held: enough for what lies in the queues between two passes.
const RX_CELLS: u32 = 4096;

/// Opens `KIND:DEVICE` on the thread that will poll it.
///
/// # Errors
/// One sentence, with the mend.
pub fn open(text: &str, mac: Option<Mac>, mtu: u16) -> Result<Box<dyn Port>, String> {
    let wrong = || format!("\"{text}\" is no port; write tap:DEVICE or dpdk:DEVICE");
    let (kind, device) = text.split_once(':').filter(|(_, device)| !device.is_empty()).ok_or_else(wrong)?;
    let fallback = crate::node::own_mac(&format!("pktgen {device}"));
    match kind {
        "tap" => {
            let cell = (u32::from(mtu) + 18 + dataplane::buf::HEADROOM as u32).max(2048);
            let pool = Pool::reserve("rx", RX_CELLS, cell, PagePolicy::Best).map_err(|e| e.to_string())?;
            let mac = mac.unwrap_or(fallback);
            Ok(Box::new(TapPort::open(device, mac, mtu, pool, 0, 1).map_err(|e| e.to_string())?))
        }
        "dpdk" => dpdk(device, mac, fallback, mtu),
        _ => Err(wrong()),
    }
}

#[cfg(feature = "dpdk")]
fn dpdk(device: &str, mac: Option<Mac>, fallback_mac: Mac, mtu: u16) -> Result<Box<dyn Port>, String> {
    use dataplane::port::dpdk::{Checksums, DpdkConfig, DpdkPort, Eal, EalConfig, Host, nic};

    let devices = [device];
    let eal = Eal::start(&EalConfig {
        buffers_bytes: DpdkPort::buffers_bytes(RX_CELLS, mtu, &devices),
        pages: PagePolicy::Best,
        nics: nic(&Host::default(), device)?.into_iter().collect(),
        args: Vec::new(),
    })?;
    let pool = DpdkPort::rx_buffers(eal, RX_CELLS, mtu, &devices, None)?.into_pool("rx");
    Ok(Box::new(DpdkPort::open(
        eal,
        &DpdkConfig { device, mac, fallback_mac, mtu, checksums: Checksums::Auto },
        pool,
        0,
    )?))
}

#[cfg(not(feature = "dpdk"))]
fn dpdk(device: &str, _: Option<Mac>, _: Mac, _: u16) -> Result<Box<dyn Port>, String> {
    Err(format!("this millrace was built without DPDK and cannot open {device}; use a tap"))
}
