//! What a connection costs that does nothing.

use dataplane::Pool;
use hugepages::{Footprint, Limits};
use stack::Tcp;

use crate::proxy::Proxy;
use crate::tls::{RECORD_BYTES_MAX, Tls};

/// In all: the goal, and what is reached.
const IDLE_BYTES_MAX: u64 = 1024;

#[test]
fn an_idle_connection() {
    let limits = Limits::with_tls(256 << 20);
    let mut f = Footprint::default();
    Tcp::footprint(&limits, &mut f);
    Tls::footprint(&limits, &mut f);
    let bytes = |what: &str| f.items.iter().find(|item| item.name == what).expect(what).item_bytes;
    let [tcp, session, stands] = ["tcp flows", "tls sessions", "tls connections"].map(bytes);
    assert_eq!(tcp, 868, "a control block, a place, buckets, a timer");
    assert_eq!(session, 132, "two secrets, numbers, a place");
    assert_eq!(stands, 24, "where it stands");
    assert_eq!(tcp + session + stands, IDLE_BYTES_MAX);
}

/// The same by what is really taken of the arena: nothing else grows with the connections.
#[test]
fn one_more_connection() {
    for mib in [64, 256, 1000] {
        let some = Limits::with_tls(mib << 20);
        for more in [1, 999, 65_536] {
            let mut many = some.clone();
            many.flows += more;
            many.tls_connections += more;
            let grown = Tcp::cost(&many) + Tls::cost(&many) - Tcp::cost(&some) - Tls::cost(&some);
            assert_eq!(grown as u64, u64::from(more) * IDLE_BYTES_MAX, "{more} more in {mib} MiB");
        }
    }
}

/// Where sources have a share, counting them has its price.
#[test]
fn one_more_connection_whose_source_is_counted() {
    let limits = Limits { tls_per_source: 1, ..Limits::with_tls(256 << 20) };
    let mut f = Footprint::default();
    Tls::footprint(&limits, &mut f);
    let item = f.items.iter().find(|item| item.name == "tls sources").expect("it is told of");
    assert!((40..=72).contains(&item.item_bytes), "{}", item.item_bytes);
    let grown = (Tls::cost(&limits) - Tls::cost(&Limits { tls_per_source: 0, ..limits.clone() })) as u64;
    let n = u64::from(limits.tls_connections);
    assert!((grown..grown + n).contains(&(item.item_bytes * n)), "{grown} bytes of {n}");
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
