//! What a connection costs that does nothing.

use dataplane::Pool;
use hugepages::{Footprint, Limits};
use stack::Tcp;

use crate::proxy::Proxy;
use crate::tls::{RECORD_BYTES_MAX, Tls};

#[test]
fn an_idle_connection() {
    let limits = Limits::with_tls(256 << 20);
    let mut f = Footprint::default();
    Tcp::footprint(&limits, &mut f);
    Tls::footprint(&limits, &mut f);
    let bytes = |what: &str| f.items.iter().find(|item| item.name == what).expect(what).item_bytes;
    let [tcp, session, stands] = ["tcp flows", "tls sessions", "tls connections"].map(bytes);
    assert_eq!(session, 132, "two secrets, numbers, a place");
    assert!(stands <= 76, "{stands} for where it stands");
    assert!(tcp + session + stands <= 1076, "{tcp} + {session} + {stands}");
}

/// Handshakes under way are in the footprint with all that they may take, and it keeps to what it was made from.
#[test]
fn a_core_keeps_to_its_memory() {
    for mib in [64, 256, 1024, 8192] {
        let limits = Limits::with_tls(mib << 20);
        let mut f = Footprint::default();
        let cells = [
            ("rx", limits.rx_cells, 2048),
            ("payload", limits.payload_cells, 2048),
            ("head", limits.head_cells, 20 << 10),
            ("header", limits.header_cells, 256),
            ("record", limits.record_cells, RECORD_BYTES_MAX),
        ];
        for (name, n, bytes) in cells {
            f.add(name, n.into(), Pool::true_size(bytes).into(), "");
        }
        Tcp::footprint(&limits, &mut f);
        Tls::footprint(&limits, &mut f);
        Proxy::footprint(&limits, &mut f);
        assert!(f.bytes() <= mib << 20, "{mib} MiB, {} KiB:\n{f}", f.bytes() >> 10);
    }
}
