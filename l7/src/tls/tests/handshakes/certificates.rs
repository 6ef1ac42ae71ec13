//! Certificates that the other side shows: clients, and origins.

use std::sync::Arc;

use dataplane::Ctr;
use hugepages::SlabIndex;
use rustls::pki_types::ServerName;
use stack::FlowId;

use super::super::support::*;
use super::{Core, limits};
use crate::tls::front::{ClientAuth, Front};
use crate::tls::handshake::{self, FailureKind};
use crate::tls::handshakes::Handshakes;

#[test]
fn clients_show_certificates_where_they_are_to() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let make_front = |auth: ClientAuth| {
        let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
        entry.client_auth = auth;
        Front::new(spec(vec![entry])).unwrap()
    };
    let with_certificate = |issuer: &Authority, tls13| {
        let (chain, key) = issuer.issue(&["somebody.test"], KeyType::Ecdsa);
        let mut config = client_config(&authority, tls13);
        let resolver = rustls::sign::SingleCertAndKey::from(
            crate::tls::front::certified(chain, key, None, config.crypto_provider()).unwrap(),
        );
        config.client_auth_cert_resolver = Arc::new(resolver);
        Arc::new(config)
    };
    let none = |tls13| Arc::new(client_config(&authority, tls13));
    let stranger = Authority::new("stranger");
    for helped in [false, true] {
        for tls13 in [true, false] {
            let make = |auth| match helped {
                true => Core::with_helpers(make_front(auth), limits(4), 4),
                false => Core::new(make_front(auth), limits(4)),
            };
            let mut core = make(ClientAuth::Required(people.roots()));
            core.shake(1, &mut client(&with_certificate(&people, tls13), "a.test"), b"GET").unwrap();
            assert_eq!(core.flow(1).done.as_ref().unwrap().peer.len(), 1);
            assert_eq!(core.counters.get(Ctr::TlsHelped) > 0, helped);
            assert!(core.shake(2, &mut client(&none(tls13), "a.test"), b"").is_err());
            assert_eq!(core.flow(2).failed.as_ref().unwrap().kind, FailureKind::Certificate);
            assert!(core.shake(3, &mut client(&with_certificate(&stranger, tls13), "a.test"), b"").is_err());
            assert_eq!(core.flow(3).failed.as_ref().unwrap().kind, FailureKind::Certificate);
            let mut core = make(ClientAuth::Optional(people.roots()));
            core.shake(4, &mut client(&none(tls13), "a.test"), b"").unwrap();
            assert!(core.flow(4).done.as_ref().unwrap().peer.is_empty());
            core.shake(5, &mut client(&with_certificate(&people, tls13), "a.test"), b"").unwrap();
            assert_eq!(core.flow(5).done.as_ref().unwrap().peer.len(), 1);
        }
    }
}

/// So many that their certificate does not fit one record.
fn many_names() -> Vec<String> {
    (0..700).map(|n| format!("somebody-with-many-names-{n:04}.test")).collect()
}

/// Whoever has long certificates takes one of a few places, and leaves it again; others do not notice.
#[test]
fn long_certificates_have_their_places() {
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let names = many_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let who = |names: &[&str]| {
        let (chain, key) = people.issue(names, KeyType::Ecdsa);
        let mut config = client_config(&authority, true);
        let certified = crate::tls::front::certified(chain, key, None, config.crypto_provider()).unwrap();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        Arc::new(config)
    };
    let (long, usual) = (who(&names), who(&["somebody.test"]));
    let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    entry.client_auth = ClientAuth::Required(people.roots());
    let mut core = Core::new(Front::new(spec(vec![entry])).unwrap(), limits(32));
    let places = Handshakes::long(32);
    // All but the end of what follows the hello.
    let begin = |core: &mut Core, flow| {
        let mut client = client(&long, "a.test");
        let id = core.start(flow);
        core.give(flow, id, &flush(&mut client));
        core.settle();
        let sent = std::mem::take(&mut core.flow(flow).sent);
        feed(&mut client, &sent).unwrap();
        let mut flight = flush(&mut client);
        assert!(flight.len() > 20_000, "{}", flight.len());
        let last = flight.pop().unwrap();
        core.give(flow, id, &flight);
        core.settle();
        (id, last)
    };
    let held: Vec<_> = (0..places).map(|flow| begin(&mut core, flow)).collect();
    assert_eq!(core.counters.get(Ctr::TlsShedLong), 0);
    begin(&mut core, 10);
    assert_eq!(core.flow(10).failed.as_ref().unwrap().kind, FailureKind::Internal);
    assert_eq!((core.counters.get(Ctr::TlsShedLong), core.handshakes.active()), (1, places));
    core.shake(11, &mut client(&usual, "a.test"), b"").unwrap();
    assert!(core.flow(11).done.is_some());
    // One comes to its end, another one is given up: both places are free.
    core.give(0, held[0].0, &[held[0].1]);
    core.settle();
    assert!(core.flow(0).done.is_some());
    core.handshakes.cancel(held[1].0);
    for flow in 20..30 {
        core.shake(flow, &mut client(&long, "a.test"), b"").unwrap();
        assert_eq!(core.flow(flow).done.as_ref().unwrap().peer.len(), 1);
    }
    assert_eq!(core.counters.get(Ctr::TlsShedLong), 1);
}

#[test]
fn our_clients_shake_hands_with_origins() {
    let authority = Authority::new("ca");
    for helped in [false, true] {
        let front = simple_front(&authority);
        let mut core =
            if helped { Core::with_helpers(front, limits(4), 4) } else { Core::new(front, limits(4)) };
        for (flow, tls13) in [(1, true), (2, false)] {
            let mut server =
                stock_server(server_config(authority.certified(&["a.test"], KeyType::Ecdsa), tls13));
            let mut config = client_config(&authority, true);
            handshake::ask(&mut config);
            let name = ServerName::try_from("a.test").unwrap();
            let id = core.handshakes.start_client(FlowId::from_u32(flow), Arc::new(config), name).unwrap();
            core.settle();
            while core.flow(flow).done.is_none() {
                let sent = std::mem::take(&mut core.flow(flow).sent);
                feed(&mut server, &sent).unwrap();
                core.give(flow, id, &flush(&mut server));
                core.settle();
            }
            let sent = std::mem::take(&mut core.flow(flow).sent);
            feed(&mut server, &sent).unwrap();
            assert!(!server.is_handshaking());
        }
        assert_eq!(core.counters.get(Ctr::TlsOriginFull), 2);
        assert_eq!(core.counters.get(Ctr::TlsHelped) > 0, helped);
        // A certificate for another name.
        let mut server = stock_server(server_config(authority.certified(&["b.test"], KeyType::Ecdsa), true));
        let mut config = client_config(&authority, true);
        handshake::ask(&mut config);
        let name = ServerName::try_from("a.test").unwrap();
        let id = core.handshakes.start_client(FlowId::from_u32(3), Arc::new(config), name).unwrap();
        core.settle();
        let sent = std::mem::take(&mut core.flow(3).sent);
        feed(&mut server, &sent).unwrap();
        core.give(3, id, &flush(&mut server));
        core.settle();
        assert_eq!(core.flow(3).failed.as_ref().unwrap().kind, FailureKind::Certificate);
        assert_eq!(core.counters.get(Ctr::TlsOriginFailed), 1);
    }
}
