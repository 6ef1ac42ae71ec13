//! Clients of a node's https, by rustls; and an origin that tells what it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::running::PATIENCE;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

/// An origin whose bodies are the heads of the requests. It ends with the process.
pub fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                while let Some(head) = read_head(&mut socket) {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
                    if socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// Bytes of an answer that is [`Long`].
const LONG: usize = 64;

/// An origin that answers with a body's first byte, and with the rest once the client says that it may go on: by a byte of
/// its own body.
pub fn slow() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                while read_head(&mut socket).is_some() {
                    let mut byte = [0];
                    let said = socket
                        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\nx").as_bytes())
                        .and_then(|()| socket.read_exact(&mut byte))
                        .and_then(|()| socket.write_all(&[b'x'; LONG - 1]));
                    if said.is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// An answer of [`slow`] that has begun.
pub struct Long(TcpStream);

impl Long {
    /// Asks for it, by http.
    pub fn begin(port: u16, host: &str) -> Long {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("taken");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        write!(socket, "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\n").expect("sent");
        let head = read_head(&mut socket).expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Long(socket)
    }

    /// Whether it comes to its end.
    pub fn end(mut self) -> bool {
        let mut body = [0; LONG];
        self.0.write_all(b"!").and_then(|()| self.0.read_exact(&mut body)).is_ok()
    }
}

/// The same by TLS, as `pair`.
pub fn secure_echo(pair: &Pair) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![pair.certificate.clone()], pair.der_key())
        .expect("the key is the certificate's");
    let config = Arc::new(config);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let tls = ServerConnection::new(config).expect("a good config");
                let mut socket = StreamOwned::new(tls, socket);
                while let Some(head) = read_head(&mut socket) {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
                    if socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// A head with its empty line; `None` at the end.
fn read_head(from: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: CertificateDer<'static>,
    /// As a file has it.
    pub chain: String,
    key: rcgen::KeyPair,
}

impl Pair {
    /// Signed by itself.
    pub fn new(names: &[&str], common_name: &str) -> Pair {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let made = params.self_signed(&key).expect("a certificate");
        Pair { certificate: made.der().clone(), chain: made.pem(), key }
    }

    /// Its key as a file has it.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Both in one file.
    pub fn pem(&self) -> String {
        format!("{}{}", self.chain, self.key())
    }

    fn der_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("PKCS #8")
    }
}

/// What a client needs that trusts `roots`, and shows `own`. It shakes hands in full each time: who resumes a session is
/// not shown a certificate.
pub fn config(roots: &[&CertificateDer<'static>], own: Option<&Pair>) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add((*root).clone()).expect("a certificate");
    }
    let builder = ClientConfig::builder().with_root_certificates(store);
    let mut config = match own {
        Some(own) => builder
            .with_client_auth_cert(vec![own.certificate.clone()], own.der_key())
            .expect("the key is the certificate's"),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A connection by TLS.
pub struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// Shakes hands with who answers at `port`, which must be `name`.
    pub fn connect(port: u16, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Client> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let tls = ClientConnection::new(Arc::clone(config), name).expect("a good config");
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client(stream))
    }

    /// Whether a session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that was shown.
    pub fn shown(&self) -> &CertificateDer<'_> {
        self.0.conn.peer_certificates().and_then(<[_]>::first).expect("one was shown")
    }

    /// What a request for `/` is answered: status, and body.
    pub fn get(&mut self, host: &str, more: &str) -> std::io::Result<(u16, String)> {
        self.ask("/", host, more)
    }

    /// What a request is answered; `more`: lines of its head.
    pub fn ask(&mut self, path: &str, host: &str, more: &str) -> std::io::Result<(u16, String)> {
        let broken = || std::io::Error::other("no answer");
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")?;
        let head = read_head(&mut self.0).ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
        let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).ok_or_else(broken)?;
        let mut body = vec![0; length.parse().map_err(|_| broken())?];
        self.0.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}
