//! Hellos: taken as they come, whole or not; and what can be none.

use std::sync::Arc;

use dataplane::Ctr;
use rustls::AlertDescription;

use super::super::support::*;
use super::{Core, limits};
use crate::tls::front::Front;
use crate::tls::handshake::FailureKind;

#[test]
fn what_is_behind_a_handshake_stays_where_it_was() {
    let authority = Authority::new("ca");
    for tls13 in [true, false] {
        for slice in [0, 1, 3] {
            let mut core = Core::new(simple_front(&authority), limits(4));
            core.wire.slice = slice;
            let config = Arc::new(client_config(&authority, tls13));
            let mut client = client(&config, "a.test");
            core.shake(1, &mut client, b"GET / HTTP/1.1\r\n").unwrap();
            let established = core.flow(1).done.take().unwrap();
            assert!(established.unread.is_empty());
            assert_eq!(established.server_name.as_deref(), Some("a.test"));
            // The record of the request: header, bytes, and what the AEAD adds.
            let added = if tls13 { 1 + 16 } else { 8 + 16 };
            assert_eq!(core.flow(1).inbox.len(), 5 + 16 + added);
            assert_eq!(core.counters.get(Ctr::TlsFull), 1);
            assert_eq!(core.handshakes.active(), 0);
        }
    }
}

#[test]
fn a_name_that_nobody_has_is_told_so() {
    let authority = Authority::new("ca");
    let certified = || vec![authority.certified(&["a.test", "*.b.test"], KeyType::Ecdsa)];
    let entries = vec![entry(&["a.test"], certified()), entry(&["*.b.test"], certified())];
    let mut core = Core::new(Front::new(spec(entries)).unwrap(), limits(4));
    let config = Arc::new(client_config(&authority, true));
    for (flow, name, number) in [(1, "a.test", 0), (2, "x.b.test", 1)] {
        core.shake(flow, &mut client(&config, name), b"").unwrap();
        assert_eq!(core.flow(flow).done.as_ref().unwrap().entry, number);
    }
    for (flow, name) in [(3, "b.test"), (4, "192.0.2.7")] {
        let error = core.shake(flow, &mut client(&config, name), b"").unwrap_err();
        assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::UnrecognisedName));
        assert_eq!(core.flow(flow).failed.as_ref().unwrap().kind, FailureKind::Incompatible);
    }
    assert_eq!(core.counters.get(Ctr::TlsUnknownName), 2);
    assert_eq!(core.handshakes.active(), 0);
}

/// A record of `bytes`.
fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

#[test]
fn a_hello_in_many_records() {
    let authority = Authority::new("ca");
    let config = Arc::new(client_config(&authority, true));
    for count in [2, 5, 64] {
        let mut core = Core::new(simple_front(&authority), limits(4));
        let mut client = client(&config, "a.test");
        let hello = flush(&mut client);
        let body = &hello[5..];
        let id = core.start(1);
        for piece in body.chunks(body.len().div_ceil(count)) {
            core.give(1, id, &record(22, piece));
            core.settle();
        }
        let sent = std::mem::take(&mut core.flow(1).sent);
        feed(&mut client, &sent).unwrap();
        core.give(1, id, &flush(&mut client));
        core.settle();
        assert!(core.flow(1).done.is_some(), "{count} records");
    }
}

#[test]
fn what_cannot_become_a_hello_ends_at_once() {
    let authority = Authority::new("ca");
    let mut core = Core::new(simple_front(&authority), limits(4));
    let long = [&[1, 1, 0, 0][..], &[0; 100]].concat();
    let many: Vec<u8> = (0..100).flat_map(|_| record(22, &[1])).collect();
    let cases: &[(&str, &[u8], AlertDescription)] = &[
        ("plain text", b"GET / HTTP/1.1\r\n\r\n", AlertDescription::UnexpectedMessage),
        ("SSL 2", &[0x80, 0x2e, 1, 3, 1, 0, 0x15], AlertDescription::UnexpectedMessage),
        ("an alert", &record(21, &[2, 40]), AlertDescription::UnexpectedMessage),
        ("version 4", &[22, 4, 0, 0, 5, 1, 0, 0, 1, 0], AlertDescription::ProtocolVersion),
        ("an empty record", &record(22, &[]), AlertDescription::DecodeError),
        ("a record too long", &[22, 3, 1, 0x40, 1], AlertDescription::RecordOverflow),
        ("another message", &record(22, &[2, 0, 0, 1, 0]), AlertDescription::UnexpectedMessage),
        ("64 KiB", &record(22, &long), AlertDescription::DecodeError),
        ("an empty hello", &record(22, &[1, 0, 0, 0]), AlertDescription::DecodeError),
        ("a record for each byte", &many, AlertDescription::DecodeError),
    ];
    for (flow, (what, bytes, alert)) in (0..).zip(cases) {
        let id = core.start(flow);
        core.give(flow, id, bytes);
        core.settle();
        let flow = core.flow(flow);
        assert_eq!(flow.failed.as_ref().map(|failure| failure.kind), Some(FailureKind::Protocol), "{what}");
        assert_eq!(flow.sent, [21, 3, 3, 0, 2, 2, u8::from(*alert)], "{what}");
        assert_eq!(core.handshakes.active(), 0);
    }
    assert_eq!(core.counters.get(Ctr::TlsFailedProtocol), cases.len() as u64);
    // Half a hello is none, and costs no work.
    let id = core.start(99);
    core.give(99, id, &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc]);
    core.settle();
    assert!(!core.handshakes.has_work() && core.handshakes.active() == 1);
    core.handshakes.cancel(id);
}

/// Headers that can be no record's, some of which rustls would wait for the rest of.
const NO_RECORDS: &[(&str, [u8; 5])] = &[
    ("DTLS 1.2", [22, 0xfe, 0xfd, 0, 13]),
    ("SSL 2", [22, 0, 2, 0, 13]),
    ("version 4", [22, 4, 0, 0, 13]),
    ("a heartbeat", [24, 3, 3, 0, 13]),
    ("no type", [99, 3, 3, 0, 13]),
    ("too long", [22, 3, 3, 0x48, 1]),
];

#[test]
fn what_cannot_become_a_record_ends_at_its_header() {
    let authority = Authority::new("ca");
    for tls13 in [true, false] {
        let config = Arc::new(client_config(&authority, tls13));
        for (n, (what, header)) in (1..).zip(NO_RECORDS) {
            let mut core = Core::new(simple_front(&authority), limits(4));
            let id = core.start(n);
            core.give(n, id, &flush(&mut client(&config, "a.test")));
            core.settle();
            let flight = std::mem::take(&mut core.flow(n).sent);
            assert!(!flight.is_empty() && core.flow(n).failed.is_none());
            core.give(n, id, header);
            core.settle();
            let failed = core.flow(n).failed.as_ref().map(|failure| failure.kind);
            assert_eq!(failed, Some(FailureKind::Protocol), "{what}, 1.3: {tls13}");
            let sent = &core.flow(n).sent;
            // In TLS 1.3 it is sealed.
            assert_eq!(sent.first(), Some(if tls13 { &23 } else { &21 }), "{what}: {sent:?}");
            assert_eq!(core.handshakes.active(), 0);
        }
    }
}
