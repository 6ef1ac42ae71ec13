use std::io::Write;
use std::sync::Arc;

use super::support::*;
use crate::tls::front::{Front, Tickets};
use crate::tls::handshake::{Established, Failure, Handshake};
use crate::tls::hello::{Peek, peek};
use crate::tls::tickets::{TicketSpec, Ticketer};

const ROOM: u32 = 64;

fn front(authority: &Authority, early_data_bytes: u32) -> Front {
    let mut entry = entry(&["*"], vec![authority.certified(&["a.test"], KeyType::Ecdsa)]);
    (entry.early_data_bytes, entry.early_data_sessions) = (early_data_bytes, 100);
    let mut spec = spec(vec![entry]);
    let producer = Ticketer::new(TicketSpec::default(), 1_000_000).unwrap();
    spec.tickets = Some(Tickets { producer, sent: 2 });
    Front::new(spec).unwrap()
}

/// A client that sends `data` as early as it can. Gives whether it could.
fn shake(
    front: &Front,
    config: &Arc<rustls::ClientConfig>,
    data: &[u8],
    chunk: usize,
) -> (bool, Result<Established, Failure>, bool) {
    let mut client = client(config, "a.test");
    let sent = client.early_data().map(|mut early| early.write(data).unwrap());
    let hello = flush(&mut client);
    let mut joined = Vec::new();
    let Ok(Peek::Hello(seen)) = peek(&hello, &mut joined) else { panic!("a stock hello") };
    assert_eq!(seen.early_data, sent.is_some());
    let mut ours = Handshake::server(front.choose(&seen).unwrap().config).unwrap();
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
        let mut config = client_config(&authority, true);
        config.enable_early_data = true;
        let config = Arc::new(config);
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
    let front = front(&authority, 0);
    let mut config = client_config(&authority, true);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let (could, established, is_accepted) = shake(&front, &config, b"GET /", 1 << 20);
        assert!(!could && !is_accepted && established.unwrap().early.is_empty());
    }
}

#[test]
fn a_session_sends_early_data_once() {
    let authority = Authority::new("ca");
    let front = front(&authority, ROOM);
    let mut config = client_config(&authority, true);
    config.enable_early_data = true;
    let config = Arc::new(config);
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
        early.push(ours.early().to_vec());
    }
    assert_eq!(early, [&b"POST /"[..], b""]);
}
