//! What becomes of connections that shake hands.

use std::sync::Arc;

use dataplane::Ctr;
use l7::tls::front::ACME_TLS;
use l7::tls::handshake;

use crate::support::identity::Identity;
use crate::support::tls::TlsOf;
use crate::support::{Rig, Shared, Who};

const NAME: &str = "site.lab";

/// A node that serves by TLS, and one client of it that offers this protocol.
fn rig(alpn: &[u8]) -> Rig {
    let identity = Identity::new(&[NAME]);
    let mut client = identity.client_config();
    client.alpn_protocols = vec![alpn.to_vec()];
    handshake::ask(&mut client);
    let mut shared = Shared::new(1);
    shared.tls = Some(TlsOf {
        front: identity.front_proving(&[NAME], None, 0),
        client: Arc::new(client),
        ..TlsOf::new()
    });
    let mut rig = Rig::with_cores(Who::Stub(5), 1, Vec::new(), &shared, |_, _, _| 0);
    rig.load.open(0);
    turn(&mut rig);
    rig
}

fn turn(rig: &mut Rig) {
    for _ in 0..200 {
        rig.pass();
        rig.load.poll();
    }
}

/// RFC 8737, 3: nothing is said by a connection that proves a name, and it ends with the handshake.
#[test]
fn a_connection_that_proves_a_name_ends_with_its_handshake() {
    let mut rig = rig(ACME_TLS);
    assert!(rig.load.is_open(0) && rig.load.conns[0].ended);
    let s = rig.segment.read();
    let count = |c| s.get(c);
    assert_eq!((count(Ctr::TlsFull), count(Ctr::TlsRecordsSealed), count(Ctr::HttpRequests)), (1, 1, 0));
    rig.load.close(0);
    turn(&mut rig);
    let s = rig.segment.read();
    assert_eq!((s.get(Ctr::TlsSessions), s.get(Ctr::TcpFlows), s.get(Ctr::TlsTruncated)), (0, 0, 0));

    // Meanwhile others are served as ever.
    let mut rig = self::rig(b"http/1.1");
    assert!(rig.load.is_open(0) && !rig.load.conns[0].ended);
    rig.load.request(0, b"GET / HTTP/1.1\r\nHost: site.lab\r\n\r\n");
    turn(&mut rig);
    assert_eq!(rig.segment.read().get(Ctr::Http2xx), 1);
    assert!(!rig.load.conns[0].ended);
}
