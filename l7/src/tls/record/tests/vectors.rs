//! RFC 8448, 3 ("Simple 1-RTT Handshake"): the traffic secrets, what is derived from them, and the records under them.

use super::*;
use crate::tls::keys::{Half, Keys};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

const CLIENT_SECRET: &str =
    "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5";
const SERVER_SECRET: &str =
    "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43";
const CLIENT_IV: &str = "5b 78 92 3d ee 08 57 90 33 e5 23 d9";
const SERVER_IV: &str = "cf 78 2b 88 dd 83 54 9a ad f1 e9 84";
const CLIENT_KEY: &str = "17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51";
const SERVER_KEY: &str = "9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56";
/// The client's data: 50 bytes, 0 to 49.
const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b
    98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";
/// The server's, behind a ticket: number 1.
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa 1b 36 e3
    0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d";
/// close_notify, from both.
const CLIENT_ALERT: &str = "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
const SERVER_ALERT: &str = "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

/// The server's keys; its ticket is sent already.
fn server() -> (Sessions, SessionId) {
    let keys = Keys {
        version: Version::Tls13,
        suite: Suite::Aes128Gcm,
        rx: Half::new(&bytes(CLIENT_SECRET), 0).unwrap(),
        tx: Half::new(&bytes(SERVER_SECRET), 1).unwrap(),
    };
    let mut s = sessions(1, 1);
    let id = s.open(&keys, Side::Server).unwrap();
    (s, id)
}

#[test]
fn keys_and_nonces() {
    let (s, id) = server();
    let session = &s.sessions[id];
    let context = |way| derive::Context::new(session.version, session.suite, session.secret(way)).unwrap();
    assert_eq!(context(session::Way::Rx).nonce(0).as_slice(), bytes(CLIENT_IV));
    assert_eq!(context(session::Way::Tx).nonce(0).as_slice(), bytes(SERVER_IV));
    assert_eq!(context(session::Way::Tx).nonce(0x0102)[10..], [0xe9 ^ 1, 0x84 ^ 2]);
    for (way, key) in [(session::Way::Rx, CLIENT_KEY), (session::Way::Tx, SERVER_KEY)] {
        assert_eq!(derive::key_for_tests(Suite::Aes128Gcm, session.secret(way)), bytes(key));
    }
}

#[test]
fn records() {
    let (mut s, id) = server();
    let data: Vec<u8> = (0..50).collect();
    let mut record = bytes(CLIENT_DATA);
    assert_eq!(s.receive(id, &mut record), Ok(Received::Data(5..55)));
    assert_eq!(record[5..55], data);
    assert_eq!(sealed(&mut s, id, ContentType::ApplicationData, &data).unwrap(), bytes(SERVER_DATA));
    assert_eq!(s.receive(id, &mut bytes(CLIENT_ALERT)), Ok(Received::CloseNotify));
    let mut out = [0; 64];
    let n = s.alert(id, Alert::CLOSE_NOTIFY, &mut out).unwrap();
    assert_eq!(out[..n], bytes(SERVER_ALERT));
}
