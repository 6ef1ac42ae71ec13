use std::io::{Read, Write};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::time_provider::DefaultTimeProvider;

use super::support::*;
use crate::tls::front::{ClientAuth, Front, Tickets};
use crate::tls::handshake::{Established, Failure, FailureKind, Handshake, Progress};
use crate::tls::hello::{Peek, peek};
use crate::tls::store::SessionStore;
use crate::tls::tickets::{TicketSpec, Ticketer};

const ROOM: u32 = 64;

/// How sessions are resumed where there is early data.
pub fn tickets() -> Tickets {
    let producer = Ticketer::new(TicketSpec::default(), 1_000_000).unwrap();
    let kept = SessionStore::new(64, 3600, Arc::new(DefaultTimeProvider));
    Tickets { producer, sent: 2, kept: Some(kept) }
}

fn front(authority: &Authority, early_data_bytes: u32) -> Front {
    let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    entry.early_data_bytes = early_data_bytes;
    let mut spec = spec(vec![entry]);
    spec.tickets = Some(tickets());
    Front::new(spec).unwrap()
}

/// A client that sends early data where it may.
pub fn eager(authority: &Authority) -> Arc<ClientConfig> {
    let mut config = client_config(authority, true);
    config.enable_early_data = true;
    Arc::new(config)
}

/// A client that sends `data` as early as it can. Gives whether it could.
fn shake(
    front: &Front,
    config: &Arc<ClientConfig>,
    data: &[u8],
    chunk: usize,
) -> (bool, Result<Established, Failure>, bool) {
    shake_in(front, config, (data, data.len()), chunk)
}

/// The same; it is sent in pieces of so many bytes.
fn shake_in(
    front: &Front,
    config: &Arc<ClientConfig>,
    (data, piece): (&[u8], usize),
    chunk: usize,
) -> (bool, Result<Established, Failure>, bool) {
    let mut client = client(config, "a.test");
    let sent = client
        .early_data()
        .map(|mut early| data.chunks(piece.max(1)).map(|piece| early.write(piece).unwrap()).sum::<usize>());
    let hello = flush(&mut client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
    assert_eq!(seen.early_data, sent.is_some());
    let choice = front.choose(&seen).unwrap();
    let mut ours = Handshake::server(choice.config.clone()).unwrap();
    if seen.early_data {
        ours.expect_early(choice.config.max_early_data_size);
    }
    ours.give(&hello);
    let result = drive(ours, &mut client, chunk, b"behind");
    let is_accepted = client.is_early_data_accepted();
    (sent == Some(data.len()), result, is_accepted)
}

#[test]
fn early_data_is_told_apart_and_bounded() {
    let authority = Authority::new("ca");
    for chunk in [1, 1 << 20] {
        let front = front(&authority, ROOM);
        let config = eager(&authority);
        let (could, first, _) = shake(&front, &config, b"GET / HTTP/1.1", chunk);
        let first = first.unwrap();
        assert!(!could && first.early.is_empty() && !first.resumed);
        let (could, second, is_accepted) = shake(&front, &config, b"GET / HTTP/1.1", chunk);
        let second = second.unwrap();
        assert!(could && is_accepted && second.resumed);
        assert_eq!(second.early, b"GET / HTTP/1.1");
        assert!(!second.unread.is_empty(), "what came behind is not early");
    }
}

#[test]
fn where_it_is_off_nothing_is_early() {
    let authority = Authority::new("ca");
    let mut required = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    (required.early_data_bytes, required.client_auth) = (ROOM, ClientAuth::Optional(authority.roots()));
    let mut by_name = spec(vec![required]);
    by_name.tickets = Some(tickets());
    let mut unkept = spec(vec![entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)])]);
    unkept.entries[0].early_data_bytes = ROOM;
    unkept.tickets = Some(Tickets { kept: None, ..tickets() });
    for front in [front(&authority, 0), Front::new(by_name).unwrap(), Front::new(unkept).unwrap()] {
        let config = eager(&authority);
        for n in 0..2 {
            let (could, established, is_accepted) = shake(&front, &config, b"GET /", 1 << 20);
            let established = established.unwrap();
            assert!(!could && !is_accepted && established.early.is_empty());
            assert_eq!(established.resumed, n > 0, "by a ticket");
        }
    }
}

#[test]
fn a_session_sends_early_data_once() {
    let authority = Authority::new("ca");
    let front = front(&authority, ROOM);
    let config = eager(&authority);
    shake(&front, &config, b"", 1 << 20).1.unwrap();
    // The first flight again, bit for bit, as somebody in between would.
    let mut client = client(&config, "a.test");
    client.early_data().unwrap().write_all(b"POST /").unwrap();
    let flight = flush(&mut client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&flight, &mut joined) else { panic!("a stock hello") };
    let choice = front.choose(&seen).unwrap();
    let mut out = Vec::new();
    let mut early = Vec::new();
    for _ in 0..2 {
        let mut ours = Handshake::server(choice.config.clone()).unwrap();
        ours.advance(&flight, &mut out).unwrap();
        early.push(ours.take_early());
    }
    assert_eq!(early, [&b"POST /"[..], b""]);
}

/// A server's side that has taken a first flight with early data, and the client, who has heard nothing yet.
fn half_done(
    front: &Front,
    config: &Arc<ClientConfig>,
    data: &[u8],
) -> (Handshake, rustls::ClientConnection, Vec<u8>) {
    let mut client = client(config, "a.test");
    client.early_data().unwrap().write_all(data).unwrap();
    let flight = flush(&mut client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&flight, &mut joined) else { panic!("a stock hello") };
    let mut ours = Handshake::server(front.choose(&seen).unwrap().config).unwrap();
    let mut out = Vec::new();
    assert!(matches!(ours.advance(&flight, &mut out), Ok(Progress::WantsMore)));
    assert_eq!(ours.take_early(), data);
    (ours, client, out)
}

#[test]
fn it_is_answered_before_the_client_has_finished() {
    let authority = Authority::new("ca");
    let front = front(&authority, ROOM);
    let config = eager(&authority);
    shake(&front, &config, b"", 1 << 20).1.unwrap();
    let (mut ours, mut client, mut out) = half_done(&front, &config, b"GET /");
    assert_eq!(ours.seal(b"answer", &mut [0; 8]), None, "no room, and no number is used");
    for piece in [&b"an"[..], b"swer"] {
        let mut record = [0; 64];
        let n = ours.seal(piece, &mut record).unwrap();
        out.extend_from_slice(&record[..n]);
    }
    feed(&mut client, &out).unwrap();
    let mut got = Vec::new();
    let _ = client.reader().read_to_end(&mut got);
    assert_eq!(got, b"answer");
    // Then it finishes; tickets and what the record layer sends come behind those two records.
    let mut out = Vec::new();
    let Ok(Progress::Done(established)) = ours.advance(&flush(&mut client), &mut out) else {
        panic!("it has finished")
    };
    assert_eq!(established.keys.tx.seq, 3, "two records, and one with the tickets");
    feed(&mut client, &out).unwrap();
    assert!(client.is_early_data_accepted() && !client.is_handshaking());
    assert_eq!(ours.seal(b"more", &mut [0; 64]), None, "from here on they are somebody else's");
}

#[test]
fn an_end_can_be_announced_before_the_client_has_finished() {
    let authority = Authority::new("ca");
    let front = front(&authority, ROOM);
    let config = eager(&authority);
    shake(&front, &config, b"", 1 << 20).1.unwrap();
    let (mut ours, mut client, mut out) = half_done(&front, &config, b"GET /");
    let mut record = [0; 64];
    let n = ours.seal_close(&mut record).unwrap();
    out.extend_from_slice(&record[..n]);
    feed(&mut client, &out).unwrap();
    assert_eq!(client.reader().read(&mut [0; 8]).unwrap(), 0, "a clean end");
}

#[test]
fn nothing_is_sealed_for_a_client_that_sends_nothing_early() {
    let authority = Authority::new("ca");
    let front = front(&authority, 0);
    let mut client = client(&eager(&authority), "a.test");
    let hello = flush(&mut client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
    let mut ours = Handshake::server(front.choose(&seen).unwrap().config).unwrap();
    assert_eq!(ours.seal(b"x", &mut [0; 64]), None);
    assert!(matches!(ours.advance(&hello, &mut Vec::new()), Ok(Progress::WantsMore)));
    assert_eq!((ours.seal(b"x", &mut [0; 64]), ours.seal_close(&mut [0; 64])), (None, None));
}

#[test]
fn too_much_of_it_ends_the_handshake() {
    let authority = Authority::new("ca");
    let tickets = tickets();
    let front = |room| {
        let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
        entry.early_data_bytes = room;
        let mut spec = spec(vec![entry]);
        spec.tickets = Some(tickets.clone());
        Front::new(spec).unwrap()
    };
    let config = eager(&authority);
    for (room, data) in [(ROOM, ROOM + 1), (ROOM, 4 * ROOM)] {
        // It was told of more room than there is now.
        shake(&front(8 * ROOM), &config, b"", 1 << 20).1.unwrap();
        let (could, result, _) = shake(&front(room), &config, &vec![b'x'; data as usize], 1 << 20);
        let failure = result.unwrap_err();
        assert!(could && failure.kind == FailureKind::Protocol, "{failure}");
    }
}

#[test]
fn all_that_may_come_is_passed_over_where_it_is_refused() {
    let authority = Authority::new("ca");
    for (piece, other_room) in [(ROOM, ROOM), (ROOM - 17, ROOM), (9, ROOM), (1, ROOM), (1 << 13, 0)] {
        // Of a node that takes none, its clients have heard of what one may take that does.
        let room = if other_room == 0 { 16 << 10 } else { ROOM };
        for retries in [false, true] {
            let config = eager(&authority);
            shake(&front(&authority, room), &config, b"", 1 << 20).1.unwrap();
            // Another node, which knows nothing of the session; and one that wants another key, too.
            let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
            entry.early_data_bytes = other_room;
            let mut other = spec(vec![entry]);
            other.tickets = Some(tickets());
            if retries {
                let mut provider = (*other.provider).clone();
                provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::secp256r1);
                other.provider = Arc::new(provider);
            }
            let other = Front::new(other).unwrap();
            let data = vec![b'x'; room as usize];
            for chunk in [1, 1 << 20] {
                let (could, result, is_accepted) = shake_in(&other, &config, (&data, piece as usize), chunk);
                let established = result.unwrap();
                assert!(could && !is_accepted && established.early.is_empty() && !established.resumed);
                assert!(!established.unread.is_empty(), "what came behind is there");
                if chunk == 1 {
                    shake(&front(&authority, room), &config, b"", 1 << 20).1.unwrap();
                }
            }
        }
    }
}

#[test]
fn what_a_resumed_session_may_not_send_is_passed_over() {
    let authority = Authority::new("ca");
    for (piece, chunk) in [(1, 1), (1, 1 << 20), (9, 1 << 20), (40, 1)] {
        let front = front(&authority, ROOM);
        let mut config = (*eager(&authority)).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        shake(&front, &Arc::new(config.clone()), b"", 1 << 20).1.unwrap();
        // Another protocol than the session's (RFC 8446, 4.2.10).
        config.alpn_protocols.clear();
        let data = [b'x'; ROOM as usize];
        let (could, result, is_accepted) = shake_in(&front, &Arc::new(config), (&data, piece), chunk);
        let established = result.unwrap();
        assert!(could && !is_accepted && established.early.is_empty() && established.resumed);
        assert!(!established.unread.is_empty(), "what came behind is there");
    }
}

#[test]
fn more_is_not_passed_over() {
    let authority = Authority::new("ca");
    for piece in [1, 50, 8 * ROOM] {
        let config = eager(&authority);
        shake(&front(&authority, 8 * ROOM), &config, b"", 1 << 20).1.unwrap();
        let data = vec![b'x'; 2 * ROOM as usize];
        let (could, result, _) =
            shake_in(&front(&authority, ROOM), &config, (&data, piece as usize), 1 << 20);
        let failure = result.unwrap_err();
        assert!(could && failure.kind == FailureKind::Protocol, "{failure}");
    }
}
