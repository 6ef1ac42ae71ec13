//! Whose handshakes and connections are limited, of connections that speak for somebody: a balancer's, by PROXY headers.

use std::sync::Arc;

use dataplane::Ctr;
use l7::proxy::Network;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection};

use crate::rig::{at_rest, count, node_of, origin, site, v4};
use crate::stock::{silence, turn};
use crate::support::Shared;
use crate::support::identity::Identity;
use crate::support::peers::Peers;
use crate::support::tls::TlsOf;

/// Handshakes that one source may have under way.
const PER_SOURCE: u32 = 2;

/// A node that believes whoever connects to it.
fn behind_a_balancer(identity: &Identity) -> Peers {
    balanced(identity, TlsOf { per_source: PER_SOURCE, ..TlsOf::new() })
}

fn balanced(identity: &Identity, tls: TlsOf) -> Peers {
    let mut config = site(vec![origin(&[v4()])], false);
    config.tls_listeners = vec![true];
    config.front = identity.front();
    config.proxy_headers_from = vec![vec![Network { address: [0, 0, 0, 0].into(), prefix_len: 0 }]];
    node_of(config, &Shared { tls: Some(tls), ..Shared::new(1) })
}

/// The balancer's connection for somebody, who says hello and no more. Gives the port.
fn hello_of(p: &mut Peers, identity: &Identity, header: &str) -> u16 {
    let name = ServerName::try_from("site.lab").expect("a name");
    let client = ClientConnection::new(Arc::new(identity.client_config()), name).expect("a good config");
    let hello = turn(&mut Connection::from(client), b"").1;
    let port = p.connect(&[header.as_bytes(), &hello].concat());
    p.settle(&mut silence);
    port
}

/// The balancer's connection for somebody, who shakes hands to the end. `None`: it is refused.
fn connection_of(p: &mut Peers, identity: &Identity, header: &str) -> Option<u16> {
    let name = ServerName::try_from("site.lab").expect("a name");
    let client = ClientConnection::new(Arc::new(identity.client_config()), name).expect("a good config");
    let mut client = Connection::from(client);
    let hello = turn(&mut client, b"").1;
    let port = p.connect(&[header.as_bytes(), &hello].concat());
    for _ in 0..4 {
        p.settle(&mut silence);
        let came = std::mem::take(p.client_got(port).0);
        let out = turn(&mut client, &came).1;
        p.client_sends(port, &out);
    }
    assert!(client.is_handshaking() == p.client_got(port).2, "it is done, or was refused at once");
    (!client.is_handshaking()).then_some(port)
}

fn of_v4(n: u8) -> String {
    format!("PROXY TCP4 203.0.113.{n} 192.0.2.10 50000 443\r\n")
}

fn of_v6(network: u8, host: u8) -> String {
    format!("PROXY TCP6 2001:db8:0:{network}::{host} 2001:db8::ff 50000 443\r\n")
}

#[test]
fn each_client_behind_a_balancer_has_its_own_share() {
    let identity = Identity::new(&["site.lab"]);
    let mut p = behind_a_balancer(&identity);
    // More than the balancer's own share, all from its address.
    let ports: Vec<u16> = (1..=6).map(|n| hello_of(&mut p, &identity, &of_v4(n))).collect();
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsShedSource)), (6, 0));
    // One more of the first is its second; then it has its share, and the others do not notice.
    hello_of(&mut p, &identity, &of_v4(1));
    let third = hello_of(&mut p, &identity, &of_v4(1));
    assert!(p.client_got(third).2, "it is reset");
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsShedSource)), (7, 1));
    hello_of(&mut p, &identity, &of_v4(2));
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsShedSource)), (8, 1));
    // One that ends makes room.
    p.client_resets(ports[0]);
    p.settle(&mut silence);
    hello_of(&mut p, &identity, &of_v4(1));
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsShedSource)), (8, 1));
    // Of IPv6 it is the network.
    let seen: Vec<u64> = [(1, 1), (1, 2), (2, 3), (1, 4)]
        .map(|(network, host)| {
            hello_of(&mut p, &identity, &of_v6(network, host));
            count(&p, Ctr::TlsShedSource)
        })
        .into();
    assert_eq!(seen, [1, 1, 1, 2]);
    // What is the balancer's own counts as its own.
    let seen: Vec<u64> = (0..3)
        .map(|_| {
            hello_of(&mut p, &identity, "PROXY UNKNOWN\r\n");
            count(&p, Ctr::TlsShedSource)
        })
        .collect();
    assert_eq!(seen, [2, 2, 3]);
}

#[test]
fn a_client_that_has_its_share_leaves_nothing() {
    let identity = Identity::new(&["site.lab"]);
    let mut p = behind_a_balancer(&identity);
    let first = hello_of(&mut p, &identity, &of_v4(1));
    let second = hello_of(&mut p, &identity, &of_v4(1));
    // In pieces: the header first, and the hello when its place is known.
    let refused = p.connect(&of_v4(1).as_bytes()[..10]);
    p.settle(&mut silence);
    p.client_sends(refused, &of_v4(1).as_bytes()[10..]);
    p.settle(&mut silence);
    assert!(p.client_got(refused).2);
    p.client_resets(first);
    p.client_resets(refused);
    at_rest(&mut p, second);
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsShedSource)), (0, 1));
}

#[test]
fn each_source_has_its_share_of_connections() {
    let identity = Identity::new(&["site.lab"]);
    let mut p = balanced(&identity, TlsOf { connections_per_source: PER_SOURCE, ..TlsOf::new() });
    let shed = |p: &Peers| count(p, Ctr::TlsShedShare);
    let first = connection_of(&mut p, &identity, &of_v4(1)).expect("its first");
    let second = connection_of(&mut p, &identity, &of_v4(1)).expect("its second");
    // Those that are established count, where handshakes are no more.
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsSessions), shed(&p)), (0, 2, 0));
    assert_eq!(connection_of(&mut p, &identity, &of_v4(1)), None);
    assert_eq!(shed(&p), 1);
    let other = connection_of(&mut p, &identity, &of_v4(2)).expect("another's");
    // So do those that shake hands.
    let shakes = hello_of(&mut p, &identity, &of_v4(2));
    assert_eq!((count(&p, Ctr::TlsActive), shed(&p)), (1, 1));
    assert_eq!(connection_of(&mut p, &identity, &of_v4(2)), None);
    // However one ends, it makes room for one more, and not for two.
    for ended in [first, second, shakes] {
        p.client_resets(ended);
        p.settle(&mut silence);
    }
    let again = |p: &mut Peers, n| connection_of(p, &identity, &of_v4(n));
    let more = [again(&mut p, 1), again(&mut p, 1), again(&mut p, 2)].map(|port| port.expect("room"));
    assert_eq!((again(&mut p, 1), again(&mut p, 2), shed(&p)), (None, None, 4));
    for port in more {
        p.client_resets(port);
    }
    at_rest(&mut p, other);
    // Of IPv6 it is the network.
    let of_network =
        |p: &mut Peers, network, host| connection_of(p, &identity, &of_v6(network, host)).is_some();
    let got = [(1, 1), (1, 2), (2, 3), (1, 4)].map(|(network, host)| of_network(&mut p, network, host));
    assert_eq!(got, [true, true, true, false]);
}
