//! So many at a time, and for one source: who is refused, and who makes room.

use std::sync::Arc;

use dataplane::Ctr;
use hugepages::SlabIndex;
use rustls::pki_types::ServerName;
use stack::FlowId;

use super::super::support::*;
use super::{Core, SOURCE, limits};
use crate::tls::handshake;
use crate::tls::handshakes::{HandshakeId, HandshakeLimits, Shed};

#[test]
fn the_pool_and_each_source_have_a_bound() {
    let authority = Authority::new("ca");
    let limits = HandshakeLimits { per_source: 2, ..HandshakeLimits::new(4, [1, 2]) };
    let mut core = Core::new(simple_front(&authority), limits);
    let start = |core: &mut Core, flow, source: &str| {
        core.handshakes.start_server(FlowId::from_u32(flow), source.parse().unwrap())
    };
    let first = start(&mut core, 1, "2001:db8::1").unwrap();
    start(&mut core, 2, "2001:db8::2").unwrap();
    assert_eq!(start(&mut core, 3, "2001:db8::3"), Err(Shed::Source));
    let other = start(&mut core, 3, "192.0.2.1").unwrap();
    core.handshakes.cancel(first);
    core.handshakes.cancel(first);
    assert_eq!(core.handshakes.active(), 2);
    let again = start(&mut core, 5, "2001:db8::1").unwrap();
    core.handshakes.cancel(again);
    core.handshakes.cancel(other);
    assert_eq!(core.counters.get(Ctr::TlsShedSource), 1);
    assert_eq!(core.counters.get(Ctr::TlsCancelled), 3);
}

/// Whoever opens connections and says nothing keeps out neither clients that do, nor our own handshakes.
#[test]
fn who_says_nothing_makes_room() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(16));
    let config = Arc::new(client_config(&authority, true));
    for flow in 0..14 {
        core.start(flow);
        assert_eq!(core.handshakes.take_evicted(), None);
    }
    // The first has said something, the third a part of it, the second nothing: that one goes.
    let ours: Vec<_> = [0, 2].map(HandshakeId::from_u32).into();
    core.give(0, ours[0], &flush(&mut client(&config, "a.test")));
    core.settle();
    core.give(2, ours[1], &[22, 3, 1]);
    core.settle();
    for (flow, oldest) in (14..26).zip([1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]) {
        let id = core.start(flow);
        assert_eq!(core.handshakes.take_evicted(), Some(FlowId::from_u32(oldest)), "for {flow}");
        core.give(flow, id, &flush(&mut client(&config, "a.test")));
        core.settle();
        assert!(!core.flow(flow).sent.is_empty());
    }
    // Now the one with a part of a hello; and then all have said hello.
    let id = core.start(26);
    assert_eq!(core.handshakes.take_evicted(), Some(FlowId::from_u32(2)));
    core.give(26, id, &flush(&mut client(&config, "a.test")));
    let refused = core.handshakes.start_server(FlowId::from_u32(27), SOURCE.into());
    assert_eq!((refused, core.handshakes.take_evicted()), (Err(Shed::Full), None));
    assert_eq!((core.handshakes.active(), core.counters.get(Ctr::TlsShedSilent)), (14, 13));
    // Two places are for handshakes of our own.
    let mut config = client_config(&authority, true);
    handshake::ask(&mut config);
    let config = Arc::new(config);
    let start = |core: &mut Core, flow| {
        let name = ServerName::try_from("a.test").unwrap();
        core.handshakes.start_client(FlowId::from_u32(flow), config.clone(), name)
    };
    start(&mut core, 30).unwrap();
    start(&mut core, 31).unwrap();
    assert_eq!(start(&mut core, 32), Err(Shed::Full));
    core.settle();
    assert!([30, 31].iter().all(|flow| !core.flow(*flow).sent.is_empty()));
}

/// Origins that say nothing keep out no clients.
#[test]
fn our_own_have_half_of_the_places() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(16));
    let mut config = client_config(&authority, true);
    handshake::ask(&mut config);
    let config = Arc::new(config);
    let mut ours = (0..16).map(|flow| {
        let name = ServerName::try_from("a.test").unwrap();
        core.handshakes.start_client(FlowId::from_u32(flow), config.clone(), name)
    });
    assert!(ours.by_ref().take(8).all(|begun| begun.is_ok()));
    assert!(ours.all(|begun| begun == Err(Shed::Full)));
    core.settle();
    for flow in 16..24 {
        core.start(flow);
    }
    assert_eq!((core.handshakes.active(), core.counters.get(Ctr::TlsShedSilent)), (16, 0));
}
