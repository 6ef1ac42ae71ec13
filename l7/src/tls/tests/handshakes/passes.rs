//! So much work in a pass: whose turn it is, and what packets leave of it.

use std::sync::Arc;

use dataplane::Ctr;
use hugepages::SlabIndex;
use rustls::pki_types::ServerName;
use stack::FlowId;

use super::super::support::*;
use super::{Core, limits};
use crate::tls::handshake;
use crate::tls::handshakes::{HandshakeId, HandshakeLimits, Shed};

#[test]
fn a_pass_says_one_hello_and_what_was_begun_comes_first() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(16));
    let config = Arc::new(client_config(&authority, true));
    let mut clients: Vec<_> = (0..8).map(|_| client(&config, "a.test")).collect();
    let mut ids = Vec::new();
    for (n, client) in (0..).zip(&mut clients) {
        let id = core.start(n);
        core.give(n, id, &flush(client));
        ids.push(id);
    }
    for pass in 1..=4 {
        core.run();
        let answered = core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count();
        assert_eq!(answered, pass);
    }
    // The first one's next flight is read before the fifth's hello.
    let sent = std::mem::take(&mut core.flow(0).sent);
    feed(&mut clients[0], &sent).unwrap();
    let flight = flush(&mut clients[0]);
    core.give(0, ids[0], &flight);
    core.run();
    assert!(core.flow(0).done.is_some());
    assert!(core.handshakes.has_work());
    // One that is cancelled while it waits has no turn.
    core.handshakes.cancel(ids[7]);
    core.settle();
    assert!(core.flow(7).sent.is_empty() && !core.flow(6).sent.is_empty());
}

#[test]
fn a_flood_has_its_budget_in_each_pass_and_whoever_is_refused_is_counted() {
    let authority = Authority::new("ca");
    // Two places are for handshakes of our own.
    let limits = HandshakeLimits { per_source: 2, ..HandshakeLimits::new(18, [1, 2]) };
    let mut core = Core::new(simple_front(&authority), limits);
    let config = Arc::new(client_config(&authority, true));
    let (mut begun, mut refused) = (Vec::new(), Vec::new());
    for n in 0..64 {
        // Three from each address.
        match core.handshakes.start_server(FlowId::from_u32(n), [10, 0, n as u8 / 3, 1].into()) {
            Ok(id) => {
                let mut client = client(&config, "a.test");
                core.give(n, id, &flush(&mut client));
                begun.push((n, id, client));
            }
            Err(why) => refused.push(why),
        }
    }
    assert_eq!((begun.len(), refused.len()), (16, 48));
    let counted = |core: &Core, ctr, why| {
        assert_eq!(core.counters.get(ctr), refused.iter().filter(|r| **r == why).count() as u64);
    };
    counted(&core, Ctr::TlsShedSource, Shed::Source);
    counted(&core, Ctr::TlsShedFull, Shed::Full);
    for pass in 1..=16 {
        core.run();
        assert_eq!(core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count(), pass);
        assert_eq!(core.counters.get(Ctr::TlsWaiting), 16 - pass as u64);
    }
    // All of them answer at once: each with a record that changes nothing, of which a pass takes sixteen, and then with
    // one that does: four.
    for (n, id, client) in &mut begun {
        let sent = std::mem::take(&mut core.flow(*n).sent);
        feed(client, &sent).unwrap();
        core.give(*n, *id, &flush(client));
    }
    let mut done = Vec::new();
    while done.last() != Some(&16) {
        core.run();
        done.push(core.wire.flows.values().filter(|flow| flow.done.is_some()).count());
        assert!(done.len() <= 10, "{done:?}");
    }
    assert!(done[0] <= 4 && done.windows(2).all(|pair| pair[1] - pair[0] <= 4), "{done:?}");
    assert_eq!(core.counters.get(Ctr::TlsFull), 16);
}

#[test]
fn a_busy_core_gives_its_handshakes_away() {
    let authority = Authority::new("ca");
    for (packets, helped) in [(31, 0), (32, 2)] {
        let mut core = Core::with_helpers(simple_front(&authority), limits(16), 4);
        let mut client = client(&Arc::new(client_config(&authority, true)), "a.test");
        let id = core.start(1);
        while client.is_handshaking() || core.flow(1).done.is_none() {
            core.give(1, id, &flush(&mut client));
            core.handshakes.beside(packets);
            core.settle();
            let sent = std::mem::take(&mut core.flow(1).sent);
            feed(&mut client, &sent).unwrap();
        }
        // The hello, and what follows it; not the record between them, which changes nothing.
        assert_eq!(core.counters.get(Ctr::TlsHelped), helped, "beside {packets}");
    }
}

/// What came in other passes makes this one no busier; a debt is paid off by it all the same.
#[test]
fn only_the_packets_of_a_pass_count_in_it() {
    let authority = Authority::new("ca");
    let mut core = Core::with_helpers(simple_front(&authority), limits(16), 4);
    let pass = |core: &mut Core, packets| {
        core.handshakes.beside(packets);
        if core.handshakes.has_work() { core.run() } else { core.handshakes.rest() }
    };
    let config = Arc::new(client_config(&authority, true));
    let hello = |core: &mut Core, flow| {
        let id = core.start(flow);
        core.give(flow, id, &flush(&mut client(&config, "a.test")));
    };
    for _ in 0..100 {
        pass(&mut core, 31);
    }
    hello(&mut core, 1);
    pass(&mut core, 31);
    assert!(!core.flow(1).sent.is_empty());
    assert_eq!(core.counters.get(Ctr::TlsHelped), 0);
    // 512 packets are worth a hello, of which two units were there.
    hello(&mut core, 2);
    for _ in 0..14 {
        pass(&mut core, 31);
        assert!(core.flow(2).sent.is_empty());
    }
    core.handshakes.cancel(HandshakeId::from_u32(1));
    for _ in 0..20 {
        pass(&mut core, 31);
    }
    hello(&mut core, 3);
    pass(&mut core, 31);
    assert!(!core.flow(3).sent.is_empty(), "nobody had a turn meanwhile, and the time has passed");
}

/// Neither a crowd of clients nor one of origins has all the turns.
#[test]
fn our_hellos_and_clients_take_turns() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(16));
    let config = Arc::new(client_config(&authority, true));
    let mut own = client_config(&authority, true);
    handshake::ask(&mut own);
    let own = Arc::new(own);
    for n in 0..4 {
        let name = ServerName::try_from("a.test").unwrap();
        core.handshakes.start_client(FlowId::from_u32(10 + n), own.clone(), name).unwrap();
        let id = core.start(n);
        core.give(n, id, &flush(&mut client(&config, "a.test")));
    }
    for pass in 1..=8 {
        core.run();
        let said = |flows: std::ops::Range<u32>| {
            flows.filter(|n| core.wire.flows.get(n).is_some_and(|flow| !flow.sent.is_empty())).count()
        };
        let (clients, ours) = (said(0..4), said(10..14));
        assert_eq!(clients + ours, pass);
        assert!(clients.abs_diff(ours) <= 1, "{clients} clients, {ours} of ours");
    }
}

#[test]
fn packets_come_before_handshakes() {
    let authority = Authority::new("ca");
    // An eighth of them is for our own handshakes.
    let mut core = Core::new(simple_front(&authority), limits(80));
    let config = Arc::new(client_config(&authority, true));
    for n in 0..64 {
        let id = core.start(n);
        core.give(n, id, &flush(&mut client(&config, "a.test")));
    }
    let answered = |core: &Core| core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count();
    // A hello for each 512 packets, however they come.
    for (packets, hellos) in [(64, 8), (32, 4), (1, 1)] {
        let before = answered(&core);
        for _ in 0..64 {
            core.handshakes.beside(packets);
            core.run();
        }
        let done = answered(&core) - before;
        assert!((hellos - 1..=hellos + 1).contains(&done), "{done} beside {packets} in a pass");
    }
    // Without any, one in each pass.
    let before = answered(&core);
    for pass in 1..=8 {
        core.run();
        assert_eq!(answered(&core), before + pass);
    }
    core.settle();
    assert_eq!(answered(&core), 64);
}
