//! What helpers do instead of the core.

use std::sync::Arc;

use dataplane::Ctr;
use hugepages::SlabIndex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, SignatureScheme};
use stack::FlowId;

use super::super::support::*;
use super::{Core, Flow, limits};
use crate::tls::front::{Front, Tickets};
use crate::tls::handshake;
use crate::tls::handshakes::HandshakeLimits;
use crate::tls::tickets::{TicketSpec, Ticketer};

fn rsa_front(authority: &Authority) -> Front {
    let both = vec![
        authority.certified(&["a.test"], KeyType::Rsa),
        authority.certified(&["a.test"], KeyType::Ecdsa),
    ];
    Front::new(spec(vec![
        entry(&["*"], both),
        entry(&["rsa.test"], vec![authority.certified(&["rsa.test"], KeyType::Rsa)]),
    ]))
    .unwrap()
}

/// A client that makes the other side sign by RSA.
fn rsa_client(authority: &Authority, tls13: bool) -> ClientConfig {
    let mut config = client_config(authority, tls13);
    super::super::front::witness(
        &mut config,
        authority,
        &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256],
    );
    config
}

#[test]
fn slow_signatures_are_made_by_helpers() {
    let authority = Authority::new("ca");
    let front = rsa_front(&authority);
    let mut core = Core::with_helpers(front, limits(16), 1);
    for (flow, tls13) in [(1, true), (2, false)] {
        let config = Arc::new(rsa_client(&authority, tls13));
        core.shake(flow, &mut client(&config, "a.test"), b"").unwrap();
        assert!(core.flow(flow).done.is_some());
        assert_eq!(core.counters.get(Ctr::TlsHelped), u64::from(flow));
    }
    // Whoever can verify ECDSA gets that.
    let config = Arc::new(client_config(&authority, true));
    core.shake(3, &mut client(&config, "a.test"), b"").unwrap();
    assert_eq!(core.counters.get(Ctr::TlsHelped), 2);
    // Several at once, with one place: they wait, and all are served.
    let mut clients: Vec<_> = (10..16).map(|flow| (flow, client(&config, "rsa.test"))).collect();
    let mut ids = Vec::new();
    for (flow, client) in &mut clients {
        let id = core.start(*flow);
        core.give(*flow, id, &flush(client));
        ids.push(id);
    }
    core.settle();
    for ((flow, client), id) in clients.iter_mut().zip(ids) {
        let sent = std::mem::take(&mut core.flow(*flow).sent);
        feed(client, &sent).unwrap();
        core.give(*flow, id, &flush(client));
        core.settle();
        assert!(core.flow(*flow).done.is_some());
    }
    assert_eq!(core.counters.get(Ctr::TlsHelped), 8);
    assert!(core.counters.get(Ctr::TlsHelpersFull) > 0);
}

#[test]
fn a_resumed_session_signs_nothing_and_a_bad_ticket_makes_no_core_sign() {
    let authority = Authority::new("ca");
    let certified = authority.certified(&["a.test"], KeyType::Rsa);
    let make_front = || {
        let mut spec = spec(vec![entry(&["*"], vec![certified.clone()])]);
        let producer = Ticketer::new(TicketSpec::default(), 1_000_000).unwrap();
        spec.tickets = Some(Tickets { producer, sent: 2, kept: None });
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let has = [NamedGroup::X25519MLKEM768, NamedGroup::X25519];
        provider.kx_groups.retain(|group| has.contains(&group.name()));
        spec.provider = Arc::new(provider);
        Front::new(spec).unwrap()
    };
    let mut core = Core::with_helpers(make_front(), limits(4), 4);
    for tls13 in [true, false] {
        let config = Arc::new(client_config(&authority, tls13));
        let before = core.counters.get(Ctr::TlsHelped);
        core.shake(1, &mut client(&config, "a.test"), b"").unwrap();
        assert_eq!(core.counters.get(Ctr::TlsHelped), before + 1);
        *core.flow(1) = Flow::default();
        core.shake(1, &mut client(&config, "a.test"), b"").unwrap();
        assert!(core.flow(1).done.take().unwrap().resumed);
        assert_eq!(core.counters.get(Ctr::TlsHelped), before + 1, "on the core");
        // Tickets that do not open.
        core.front = make_front();
        core.shake(1, &mut client(&config, "a.test"), b"").unwrap();
        assert!(!core.flow(1).done.take().unwrap().resumed);
        assert_eq!(core.counters.get(Ctr::TlsHelped), before + 2);
        // The same with a key share that the server has no use for: the second hello is a helper's.
        if tls13 {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
            provider.kx_groups.reverse();
            let config =
                Arc::new(client_config_of(&authority, &Arc::new(provider), &[&rustls::version::TLS13]));
            let mut done = Vec::new();
            for round in 0..3 {
                if round == 2 {
                    core.front = make_front();
                }
                let mut client = client(&config, "a.test");
                core.shake(1, &mut client, b"").unwrap();
                // Once it knows the server's group it is not asked again.
                let is_retried = client.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
                assert!(is_retried || round > 0);
                done.push(core.flow(1).done.take().is_some());
            }
            assert_eq!(done, [true; 3]);
        }
        *core.flow(1) = Flow::default();
    }
    assert_eq!(core.counters.get(Ctr::TlsFailedInternal), 0);
}

/// A provider that knows only these groups.
fn provider_of(groups: &[NamedGroup]) -> Arc<CryptoProvider> {
    let all = rustls::crypto::aws_lc_rs::default_provider();
    let of = |group: &NamedGroup| *all.kx_groups.iter().find(|g| g.name() == *group).unwrap();
    let kx_groups = groups.iter().map(of).collect();
    Arc::new(CryptoProvider { kx_groups, ..all })
}

/// The second hello asks for what the first did not let expect.
#[test]
fn a_second_hello_makes_no_core_sign() {
    let authority = Authority::new("ca");
    let both = [KeyType::Rsa, KeyType::Ecdsa].map(|key| authority.certified(&["a.test"], key));
    let mut spec = spec(vec![entry(&["*"], both.to_vec())]);
    spec.provider = provider_of(&[NamedGroup::secp256r1]);
    let mut core = Core::with_helpers(Front::new(spec).unwrap(), limits(4), 4);
    let groups = provider_of(&[NamedGroup::X25519, NamedGroup::secp256r1]);
    let client_of = |schemes: &[SignatureScheme]| {
        let mut config = client_config_of(&authority, &groups, &[&rustls::version::TLS13]);
        super::super::front::witness(&mut config, &authority, schemes);
        client(&Arc::new(config), "a.test")
    };
    let mut ecdsa = client_of(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
    let mut rsa = client_of(&[SignatureScheme::RSA_PSS_SHA256]);
    let ids = [1, 2].map(|flow| core.start(flow));
    core.give(1, ids[0], &flush(&mut ecdsa));
    core.give(2, ids[1], &flush(&mut rsa));
    core.settle();
    let sent = std::mem::take(&mut core.flow(2).sent);
    feed(&mut rsa, &sent).unwrap();
    let second = flush(&mut rsa);
    let before = core.counters.get(Ctr::TlsHelped);
    core.flow(1).sent.clear();
    core.give(1, ids[0], &second);
    core.settle();
    assert!(!core.flow(1).sent.is_empty(), "it is answered as any");
    assert!(core.counters.get(Ctr::TlsHelped) > before);
}

#[test]
fn slow_exchanges_are_made_by_helpers_in_every_step() {
    let authority = Authority::new("ca");
    let certified = authority.certified(&["a.test"], KeyType::Ecdsa);
    let mut spec = spec(vec![entry(&["*"], vec![certified])]);
    spec.provider = provider_of(&[NamedGroup::secp384r1]);
    let mut core = Core::with_helpers(Front::new(spec).unwrap(), limits(4), 4);
    let groups = provider_of(&[NamedGroup::X25519, NamedGroup::secp384r1]);
    // Two hellos, and Finished; a hello, and what it takes to finish.
    for (flow, version, steps) in [(1, &rustls::version::TLS13, 3), (2, &rustls::version::TLS12, 2)] {
        let before = core.counters.get(Ctr::TlsHelped);
        let config = Arc::new(client_config_of(&authority, &groups, &[version]));
        core.shake(flow, &mut client(&config, "a.test"), b"").unwrap();
        assert!(core.flow(flow).done.is_some());
        assert!(core.counters.get(Ctr::TlsHelped) >= before + steps);
    }
}

#[test]
fn one_that_is_cancelled_with_a_helper_is_forgotten() {
    let authority = Authority::new("ca");
    let mut core = Core::with_helpers(rsa_front(&authority), limits(1), 4);
    let config = Arc::new(client_config(&authority, true));
    let id = core.start(1);
    core.give(1, id, &flush(&mut client(&config, "rsa.test")));
    core.run();
    assert_eq!(core.counters.get(Ctr::TlsAway), 1);
    core.handshakes.cancel(id);
    // Its slot is another's at once.
    core.shake(2, &mut client(&config, "a.test"), b"").unwrap();
    core.settle();
    assert!(core.flow(2).done.is_some());
    assert!(core.flow(1).sent.is_empty() && core.flow(1).done.is_none());
}

#[test]
fn too_many_hellos_are_shared_with_the_helpers() {
    let authority = Authority::new("ca");
    let mut core =
        Core::with_helpers(simple_front(&authority), HandshakeLimits { waiting: 2, ..limits(16) }, 16);
    let config = Arc::new(client_config(&authority, true));
    let mut clients: Vec<_> = (0..10).map(|_| client(&config, "a.test")).collect();
    for (n, client) in (0..).zip(&mut clients) {
        let id = core.start(n);
        core.give(n, id, &flush(client));
    }
    core.settle();
    assert!(core.counters.get(Ctr::TlsHelped) >= 6, "{}", core.counters.get(Ctr::TlsHelped));
    assert_eq!(core.wire.flows.values().filter(|flow| !flow.sent.is_empty()).count(), 10);
}

#[test]
fn our_own_handshakes_do_not_wait_behind_a_flood() {
    let authority = Authority::new("ca");
    // One place with the helpers, and nobody takes what is there: all but one of the slow ones wait.
    let rsa = || vec![authority.certified(&["a.test"], KeyType::Rsa)];
    let front = Front::new(spec(vec![entry(&["a.test"], rsa())])).unwrap();
    let mut core = Core::with_helpers(front, limits(80), 1);
    let config = Arc::new(client_config(&authority, true));
    for n in 0..64 {
        let id = core.start(n);
        core.give(n, id, &flush(&mut client(&config, "a.test")));
    }
    let mut server = stock_server(server_config(authority.certified(&["o.test"], KeyType::Ecdsa), true));
    let mut config = client_config(&authority, true);
    handshake::ask(&mut config);
    let name = ServerName::try_from("o.test").unwrap();
    let ours = 100;
    let id = core.handshakes.start_client(FlowId::from_u32(ours), Arc::new(config), name).unwrap();
    // Its hello leaves with the first pass, and its certificates are looked at as soon as a helper is free.
    core.run();
    let hello = std::mem::take(&mut core.flow(ours).sent);
    assert!(!hello.is_empty());
    feed(&mut server, &hello).unwrap();
    core.give(ours, id, &flush(&mut server));
    core.settle_while(|core| core.flow(ours).done.is_none());
    let others = core.wire.flows.iter().filter(|(flow, at)| **flow != ours && !at.sent.is_empty());
    assert!(others.count() < 32, "most of the others still wait");
    core.settle();
}
