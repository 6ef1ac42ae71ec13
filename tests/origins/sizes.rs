//! How long records are: at first one fits a segment, so that a client can use each as it comes; in bulk they are as long as
//! may be; and after a pause they begin anew.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, SupportedProtocolVersion, version};

use crate::early::flush;
use crate::rig::{get, origin, site, v4, wait};
use crate::stock::tls_node;
use crate::support::identity::Identity;
use crate::support::peers::{Act, Asked, Peers};

/// What a segment to a client holds.
const SEGMENT: usize = 1460;
/// Plaintext that goes in short records: `SMALL_RECORDS_BYTES`.
const SHORT: usize = 16 << 10;
const LONGEST: usize = 16 << 10;
const BODY: usize = 200_000;

struct Client {
    tls: ClientConnection,
    port: u16,
    /// What was read of the connection so far, but not taken apart.
    came: Vec<u8>,
}

fn served(_: &Asked, _: u64) -> Act {
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {BODY}\r\n\r\n");
    Act::Send([head.as_bytes(), &[b'x'; BODY]].concat(), false)
}

impl Client {
    fn connect(p: &mut Peers, identity: &Identity, v: &'static SupportedProtocolVersion) -> Client {
        let builder = rustls::ClientConfig::builder_with_protocol_versions(&[v]);
        let config = builder.with_root_certificates(identity.roots()).with_no_client_auth();
        let name = ServerName::try_from("site.lab").expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a good config");
        let port = p.connect(&flush(&mut tls));
        let mut c = Client { tls, port, came: Vec::new() };
        while c.tls.is_handshaking() {
            c.listen(p);
        }
        // What follows the handshake is not counted.
        c.listen(p);
        c.came.clear();
        c
    }

    /// Hears what has come; gives how much of it is data.
    fn listen(&mut self, p: &mut Peers) -> usize {
        p.settle(&mut served);
        let came = std::mem::take(p.client_got(self.port).0);
        self.came.extend(&came);
        let (mut came, mut data) = (&came[..], Vec::new());
        while !came.is_empty() {
            self.tls.read_tls(&mut came).expect("from memory");
            let state = self.tls.process_new_packets().expect("good records");
            let from = data.len();
            data.resize(from + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut data[from..]).expect("it is there");
        }
        p.client_sends(self.port, &flush(&mut self.tls));
        data.len()
    }

    /// Asks, and gives the lengths of the answer's records, with their headers.
    fn ask(&mut self, p: &mut Peers) -> Vec<usize> {
        self.tls.writer().write_all(&get("/")).expect("room");
        p.client_sends(self.port, &flush(&mut self.tls));
        let mut got = 0;
        while got < BODY {
            let n = self.listen(p);
            assert!(n > 0, "after {got} bytes");
            got += n;
        }
        let (came, mut at, mut lengths) = (std::mem::take(&mut self.came), 0, Vec::new());
        while at < came.len() {
            assert_eq!(came[at], 23, "data");
            let length = 5 + usize::from(u16::from_be_bytes([came[at + 3], came[at + 4]]));
            lengths.push(length);
            at += length;
        }
        lengths
    }
}

/// An answer of [`BODY`] bytes that begins anew: no record is longer than a segment before so much has gone as goes in
/// short ones, and then they are as long as may be. `overhead`: of each record.
fn grows(lengths: &[usize], overhead: usize, what: &str) {
    let mut gone = 0;
    let short = lengths.iter().take_while(|n| **n <= SEGMENT).inspect(|n| gone += **n - overhead).count();
    assert!((SHORT..SHORT + SEGMENT).contains(&gone), "{what}: {gone} in {lengths:?}");
    // The head may be a record of its own, and what the origin's segments bring is not cut in vain.
    let full = lengths[..short].iter().filter(|n| **n == SEGMENT).count();
    assert!(full + 2 >= short, "{what}: {lengths:?}");
    // What a pass brings may end within a record.
    let bulk = &lengths[short..];
    let least = (BODY - gone).div_ceil(LONGEST);
    assert!(bulk.iter().all(|n| *n <= LONGEST + overhead) && bulk.len() <= least + 2, "{what}: {lengths:?}");
    assert!(bulk.iter().filter(|n| **n == LONGEST + overhead).count() * 2 > least, "{what}: {lengths:?}");
}

#[test]
fn records_grow_with_an_answer_and_begin_small_again() {
    for (v, overhead) in [(&version::TLS13, 5 + 1 + 16), (&version::TLS12, 5 + 8 + 16)] {
        for cached in [false, true] {
            let identity = Identity::new(&["site.lab"]);
            let mut config = site(vec![origin(&[v4()])], cached);
            config.tls_listeners = vec![true];
            config.front = identity.front();
            let mut p = tls_node(config);
            let mut c = Client::connect(&mut p, &identity, v);
            for turn in 0..3 {
                let lengths = c.ask(&mut p);
                grows(&lengths, overhead, &format!("{v:?}, cached {cached}, answer {turn}"));
                wait(&mut p, 1_000 * turn, &mut served);
            }
        }
    }
}
