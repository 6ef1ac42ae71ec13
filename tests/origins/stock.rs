//! Stock peers of TLS, by rustls: what they say and hear, and an origin that speaks it.

use std::io::Read;
use std::sync::Arc;

use l7::proxy::{Origin, ProxyConfig};
use l7::tls::origin::{OriginTls, Roots, Spec, Trust};
use rustls::{Connection, ServerConfig, ServerConnection};

use crate::rig::{node_of, origin, v4};
use crate::support::Shared;
use crate::support::identity::Identity;
use crate::support::peers::{Act, Asked, Peers};
use crate::support::tls::TlsOf;

/// Nobody here speaks HTTP in the clear.
pub fn silence(_: &Asked, _: u64) -> Act {
    Act::Hold
}

/// A node that has memory for TLS.
pub fn tls_node(config: ProxyConfig) -> Peers {
    node_of(config, &Shared { tls: Some(TlsOf::new()), ..Shared::new(1) })
}

/// Hands what has come to `tls`, and gives what of it is data; with what is to be sent.
pub fn turn(tls: &mut Connection, came: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut came, mut data, mut out) = (came, Vec::new(), Vec::new());
    while !came.is_empty() {
        tls.read_tls(&mut came).expect("from memory");
        let state = tls.process_new_packets().expect("good records");
        let at = data.len();
        data.resize(at + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut data[at..]).expect("it is there");
    }
    while tls.wants_write() {
        tls.write_tls(&mut out).expect("to memory");
    }
    (data, out)
}

/// An origin's TLS: the config of its server, and how the node sees it, which expects `name`.
pub fn by_tls(name: &str) -> (Arc<ServerConfig>, Origin) {
    let identity = Identity::new(&["origin.lab"]);
    let roots = Roots::new(std::slice::from_ref(&identity.certificate), true).expect("one");
    let spec = Spec::new(name, Trust::Roots(Arc::new(roots))).expect("a name");
    let tls = OriginTls::new(spec, 1).expect("a good spec");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .expect("the key is the certificate's");
    (Arc::new(config), Origin { tls: Some(Arc::new(tls)), ..origin(&[v4()]) })
}

/// Shakes hands as the node's newest origin connection; the request has come when this is over.
pub fn be_asked(p: &mut Peers, config: &Arc<ServerConfig>) -> (Connection, u16) {
    let mut tls = Connection::from(ServerConnection::new(Arc::clone(config)).expect("a good config"));
    let port = p.syns.last().expect("the node has connected").2;
    let mut asked = Vec::new();
    for _ in 0..10 {
        p.settle(&mut silence);
        let came = p.origin_takes(port);
        let (data, out) = turn(&mut tls, &came);
        asked.extend(data);
        p.origin_sends(port, &out);
    }
    assert!(
        asked.starts_with(b"GET ") && asked.ends_with(b"\r\n\r\n"),
        "{:?}",
        String::from_utf8_lossy(&asked)
    );
    (tls, port)
}
