//! What a connection costs that does nothing.

use hugepages::{Footprint, Limits};
use stack::Tcp;

use crate::tls::Tls;

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
