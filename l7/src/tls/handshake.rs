//! One handshake, of either side: bytes in, bytes out, and at the end the keys. rustls does it, through its unbuffered
//! interface; what it leaves behind is [`Established`].
//!
//! ```text
//!  records ──► advance ──► out: flights, tickets, alerts
//!                 │
//!                 ├── WantsMore: as many bytes as wants() says, so that nothing behind the handshake is taken
//!                 │     └── take_early(), seal(): what a client sends before the end, and what it is answered
//!                 ├── Done(Established): keys, what was agreed on
//!                 └── Failure: for the counters and the log; the alert is in out
//! ```
//!
//! Records are given to rustls one at a time, and none once the handshake is done: rustls would open them.
//!
//! No clock and no socket. rustls draws its randomness from aws-lc, and asks the time of the config's `TimeProvider`.
//! It allocates: a handshake is never on the path of an established connection.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{
    AlertDescription, ClientConfig, CommonState, ConnectionTrafficSecrets, Error, ExtractedSecrets,
    HandshakeKind, KeyLog, NamedGroup, ProtocolVersion, ServerConfig,
};
use zeroize::{Zeroize, Zeroizing};

use super::age::Past;
use super::keys::{Half, Keys, SECRET_BYTES, Suite, Version};
use super::refused::Refused;

/// Bytes that a handshake holds at most of what its peer sent, early data aside. The longest message of a handshake
/// that rustls takes is 64 KiB; only chains of certificates come near a tenth of that.
pub const INPUT_BYTES_MAX: usize = 64 << 10;
/// The same where no certificates may come: a record.
pub const SHORT_INPUT_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;

/// Bytes of certificates that a handshake holds at most without a place for long ones
/// ([`Handshakes::long`](super::handshakes::Handshakes::long)): rustls keeps a copy until they are done with; and the
/// transcript besides, where a client shows them in TLS 1.2, in a vector that doubles.
pub const fn certificates_bytes_max(tls13: bool, by_client: bool) -> usize {
    let copies = if tls13 || !by_client { 1 } else { 3 };
    SHORT_INPUT_BYTES_MAX / (1 + copies)
}

/// A record's header.
const HEADER_BYTES: usize = 5;
/// Longest body of a record (RFC 5246, 6.2.3).
const BODY_BYTES_MAX: usize = (16 << 10) + 2048;
/// Types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Type of a message.
const SERVER_HELLO: u8 = 2;
/// An alert's record in TLS 1.3: header, level and description, type, tag. Nothing else of a handshake is as short.
const SEALED_ALERT_BYTES: usize = HEADER_BYTES + 2 + 1 + 16;
/// Steps that one record may cause. A flight is one record for each message at most, and one for each ticket.
const STEPS_MAX: usize = 64;

/// A handshake that is not done.
pub struct Handshake {
    side: Side,
    input: Vec<u8>,
    /// Bytes of `input` that rustls has not discarded, and that it has seen: up to a record's end.
    shown: usize,
    secrets: Captured,
    past: Past,
    early: Vec<u8>,
    /// Of a client that sends early data, until it is known that it is taken.
    refused: Option<Refused>,
    input_bytes_max: usize,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    /// Failed, or done.
    Over,
}

/// What [`Handshake::advance`] came to.
#[derive(Debug)]
pub enum Progress {
    /// The peer's turn.
    WantsMore,
    /// Both sides have agreed.
    Done(Box<Established>),
}

/// What a handshake leaves behind.
pub struct Established {
    /// Of the records from here on. Tickets that were sent are counted.
    pub keys: Keys,
    /// What came behind the handshake, still sealed. Empty where no more than [`Handshake::wants`] was given.
    pub unread: Vec<u8>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The protocol agreed on by ALPN.
    pub alpn: Option<Vec<u8>>,
    /// The group of the key exchange. None where a TLS 1.2 session was resumed.
    pub group: Option<NamedGroup>,
    /// The certificates that the peer has shown and that were verified, its own first. Of a resumed session, those of
    /// the first.
    pub peer: Vec<CertificateDer<'static>>,
    /// Early data that nobody has taken before ([`Handshake::take_early`]): anyone may have sent it again (RFC 8446, 8),
    /// but not the one whose handshake is done.
    pub early: Vec<u8>,
    /// On the server's side, the entry of the front; [`Handshakes`](super::handshakes::Handshakes) knows it.
    pub entry: u16,
    /// On the server's side, by which of the front's policies the client was verified; likewise.
    pub policy: u32,
    /// On the server's side, the name that the client has asked for; likewise.
    pub server_name: Option<Box<str>>,
    /// On the client's side in TLS 1.3, what takes the tickets that come later.
    pub kernel: Option<KernelConnection<ClientConnectionData>>,
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub struct Failure {
    /// For the counters.
    pub kind: FailureKind,
    /// For the log.
    pub error: Error,
}

/// Failures by what is to be done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The bytes are no handshake, or not one that RFC 8446 or 5246 allows.
    Protocol,
    /// Both sides are right, and have nothing in common: version, suite, group, name.
    Incompatible,
    /// A certificate is missing, or does not verify.
    Certificate,
    /// The peer sent an alert: mostly it does not like our certificate.
    Alert,
    /// Our side cannot: a key does not sign, there is no randomness.
    Internal,
}

impl Handshake {
    /// The server's side, by a config that [`serve`] has seen.
    ///
    /// # Errors
    /// When rustls does not take the config.
    pub fn server(config: Arc<ServerConfig>) -> Result<Handshake, Error> {
        Ok(Handshake::new(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    /// The client's side, by a config that [`ask`] has seen. Its first flight comes of an [`advance`](Self::advance)
    /// by nothing.
    ///
    /// # Errors
    /// When rustls does not take the config.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Handshake, Error> {
        Ok(Handshake::new(Side::Client(Box::new(UnbufferedClientConnection::new(config, name)?))))
    }

    fn new(side: Side) -> Handshake {
        Handshake {
            side,
            input: Vec::new(),
            shown: 0,
            secrets: Captured::default(),
            past: Past::NONE,
            early: Vec::new(),
            refused: None,
            input_bytes_max: INPUT_BYTES_MAX,
        }
    }

    /// The peer is not asked for certificates: nothing that it sends needs more than one record's room.
    pub fn expect_no_certificates(&mut self) {
        self.input_bytes_max = SHORT_INPUT_BYTES_MAX;
    }

    /// The client's hello says that it sends early data, of which this much is taken.
    pub fn expect_early(&mut self, bytes: u32) {
        self.refused = Some(Refused::new(bytes));
    }

    /// How many bytes are missing until there is something to do: of a header, or of a record whose header is there.
    /// Whoever gives no more than these keeps what comes behind the handshake.
    pub fn wants(&self) -> usize {
        match self.next_record() {
            Record::Missing(bytes) => bytes,
            Record::Whole(_) | Record::TooLong | Record::Not => 0,
        }
    }

    /// Whether the record that is next holds an origin's hello, and more behind it: its certificates (TLS 1.2).
    pub fn has_more_than_hello(&self) -> bool {
        match self.input.get(self.shown..).unwrap_or_default() {
            [HANDSHAKE, _, _, high, low, SERVER_HELLO, a, b, c, ..] => {
                let message = 4 + u32::from_be_bytes([0, *a, *b, *c]);
                message < u32::from(u16::from_be_bytes([*high, *low]))
            }
            _ => false,
        }
    }

    /// Whether what comes next changes nothing: a change_cipher_spec, which only middleboxes look at (RFC 8446, D.4).
    pub fn is_trifle(&self) -> bool {
        !self.is_tls12() && self.input.get(self.shown) == Some(&CHANGE_CIPHER_SPEC)
    }

    /// Bytes that have come and are not done with.
    pub fn held(&self) -> usize {
        self.input.len()
    }

    /// Takes `input`, and does nothing with it yet.
    pub fn give(&mut self, input: &[u8]) {
        // Room for the record whose header is there, and no more: a vector that doubles holds twice as much.
        self.input.reserve_exact(input.len().max(self.wants()));
        self.input.extend_from_slice(input);
    }

    /// The early data that has come since this was last asked for.
    pub fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }

    /// On the server's side, before the handshake is done: seals a record of data, which the client can read although it
    /// has not finished (RFC 8446, 2.3). Such records are rustls' until then, so that what it sends behind the client's
    /// Finished goes on with their numbers. Gives the record's length; `None`: it is not the time, or `out` is too small.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        self.write(|mut traffic| traffic.encrypt(plain, out).ok())
    }

    /// Seals a close_notify in the same way.
    pub fn seal_close(&mut self, out: &mut [u8]) -> Option<usize> {
        self.write(|mut traffic| traffic.queue_close_notify(out).ok())
    }

    fn write<T>(
        &mut self,
        with: impl FnOnce(WriteTraffic<'_, ServerConnectionData>) -> Option<T>,
    ) -> Option<T> {
        let Side::Server(server) = &mut self.side else { return None };
        // It waits for its peer, and has seen these bytes before.
        let shown = self.input.get_mut(..self.shown).unwrap_or_default();
        let UnbufferedStatus { discard, state } = server.process_tls_records(shown);
        debug_assert_eq!(discard, 0, "all was settled before");
        match state {
            Ok(ConnectionState::WriteTraffic(traffic)) => with(traffic),
            _ => None,
        }
    }

    /// Whether a full handshake was agreed on: certificates are shown, and none of it is over quickly.
    pub fn is_full(&self) -> bool {
        let kind = self.side.common().ok().and_then(|common| common.handshake_kind());
        matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))
    }

    /// Whether the client has brought a session whose time is over, so that the handshake is a full one. Says so once.
    pub fn take_over(&mut self) -> bool {
        self.past.take_over()
    }

    /// Whether the client was asked to say hello again, with another key (RFC 8446, 4.1.4).
    pub fn is_retrying(&self) -> bool {
        let kind = self.side.common().ok().and_then(|common| common.handshake_kind());
        kind == Some(HandshakeKind::FullWithHelloRetryRequest)
    }

    /// Whether TLS 1.2 was agreed on, where the key exchange is done when the first hello has long been answered.
    pub fn is_tls12(&self) -> bool {
        let version = self.side.common().ok().and_then(|common| common.protocol_version());
        version == Some(ProtocolVersion::TLSv1_2)
    }

    /// Takes `input` and goes as far as that allows. What is to be sent is put behind what is in `out`, whether this
    /// succeeds or not.
    ///
    /// # Errors
    /// When the handshake has failed. If there is an alert to be sent, it is in `out`.
    pub fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, Failure> {
        self.give(input);
        let result = self.go(out);
        if !matches!(result, Ok(Progress::WantsMore)) {
            self.side = Side::Over;
        }
        result
    }

    fn go(&mut self, out: &mut Vec<u8>) -> Result<Progress, Failure> {
        let mut is_refused = false;
        loop {
            self.settle(out)?;
            self.see_refused();
            if is_refused {
                return Err(Failure::internal("what is no record was taken for one"));
            }
            if !self.side.common()?.is_handshaking() {
                return self.done().map(|established| Progress::Done(Box::new(established)));
            }
            match self.next_record() {
                Record::Missing(bytes) if self.input.len() + bytes > self.input_bytes_max => {
                    return Err(Failure::internal("more bytes than a handshake has"));
                }
                Record::Missing(_) => return Ok(Progress::WantsMore),
                Record::Whole(bytes) if self.passes_over(bytes) => {
                    self.input.drain(self.shown..self.shown + bytes);
                }
                Record::Whole(bytes) => self.shown += bytes,
                // rustls finds the right alert for it.
                Record::TooLong => (self.shown, is_refused) = (self.input.len(), true),
                Record::Not => {
                    // It would wait for the rest of what has a version of DTLS, or is a heartbeat: so that it does not, the
                    // version that it sees is nobody's.
                    if let Some([_, version @ .., _, _]) =
                        self.input.get_mut(self.shown..self.shown + HEADER_BYTES)
                    {
                        version.fill(0xff);
                    }
                    (self.shown, is_refused) = (self.input.len(), true);
                }
            }
        }
    }

    /// Looks at what rustls has made of a client that sends early data.
    fn see_refused(&mut self) {
        let is_full = self.is_full();
        let Some(refused) = &mut self.refused else { return };
        if refused.is_certain || is_full {
            refused.is_certain = true;
        } else if refused.is_tried && self.shown == 0 {
            self.refused = None;
        } else if refused.is_tried {
            // rustls has passed over it, and would do so again.
            refused.is_certain = true;
            self.input.drain(..self.shown);
            self.shown = 0;
        }
    }

    /// Whether the record that is next, of so many bytes, is early data that rustls is not to see.
    fn passes_over(&mut self, bytes: usize) -> bool {
        let Some(refused) = &mut self.refused else { return false };
        let Some(record @ [APPLICATION_DATA, ..]) = self.input.get(self.shown..self.shown + bytes) else {
            return false;
        };
        let suite = self.side.common().ok().and_then(|common| common.negotiated_cipher_suite());
        let suite = suite.and_then(|suite| Suite::of_tls13(suite.suite()));
        refused.passes_over(record, suite.zip(self.secrets.handshake.as_ref()))
    }

    /// Shows rustls what it may see, until it waits for its peer.
    fn settle(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        for _ in 0..STEPS_MAX {
            if self.is_full() {
                self.past.forget_opened();
            }
            let shown = self.input.get_mut(..self.shown).unwrap_or_default();
            Captured::start();
            self.past.enter();
            let (discard, step) = match &mut self.side {
                Side::Server(server) => {
                    let UnbufferedStatus { discard, state } = server.process_tls_records(shown);
                    let step = match state {
                        Ok(ConnectionState::ReadEarlyData(mut early)) => {
                            while let Some(Ok(record)) = early.next_record() {
                                self.early.extend_from_slice(record.payload);
                            }
                            Step::Again
                        }
                        state => step(state, out),
                    };
                    (discard, step)
                }
                Side::Client(client) => {
                    let UnbufferedStatus { discard, state } = client.process_tls_records(shown);
                    (discard, step(state, out))
                }
                Side::Over => (0, Step::Failed(Error::HandshakeNotComplete)),
            };
            self.secrets.take_over();
            self.past = Past::leave();
            self.input.drain(..discard.min(self.shown));
            self.shown = self.shown.saturating_sub(discard);
            match step {
                Step::Again => {}
                Step::Wait => return Ok(()),
                Step::Failed(error) => {
                    self.last_words(out);
                    return Err(Failure::of(error));
                }
            }
        }
        Err(Failure::internal("a handshake that does not come to an end"))
    }

    /// What rustls still has to say after an error, up to its alert. It may hold places in what it was shown, so it is
    /// shown that again; and it must not fail again once it has sent its alert.
    fn last_words(&mut self, out: &mut Vec<u8>) {
        for _ in 0..STEPS_MAX {
            let (start, shown) = (out.len(), self.input.get_mut(..self.shown).unwrap_or_default());
            let step = match &mut self.side {
                Side::Server(server) => step(server.process_tls_records(shown).state, out),
                Side::Client(client) => step(client.process_tls_records(shown).state, out),
                Side::Over => return,
            };
            let is_alert = match out.get(start..) {
                Some([ALERT, ..]) => true,
                Some(sealed @ [APPLICATION_DATA, ..]) => sealed.len() == SEALED_ALERT_BYTES,
                _ => false,
            };
            if is_alert || !matches!(step, Step::Again) {
                return;
            }
        }
    }

    fn next_record(&self) -> Record {
        let rest = self.input.get(self.shown..).unwrap_or_default();
        let Some((&[kind, major, _, high, low], body)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Record::Missing(HEADER_BYTES - rest.len());
        };
        let bytes = usize::from(u16::from_be_bytes([high, low]));
        if !matches!(kind, 20..=23) || major != 3 {
            return Record::Not;
        }
        if bytes > BODY_BYTES_MAX {
            return Record::TooLong;
        }
        match bytes.checked_sub(body.len()) {
            None | Some(0) => Record::Whole(HEADER_BYTES + bytes),
            Some(missing) => Record::Missing(missing),
        }
    }

    fn done(&mut self) -> Result<Established, Failure> {
        let common = self.side.common()?;
        let resumed = common.handshake_kind() == Some(HandshakeKind::Resumed);
        let alpn = common.alpn_protocol().map(<[u8]>::to_vec);
        let group = common.negotiated_key_exchange_group().map(|group| group.name());
        let peer = common.peer_certificates().unwrap_or_default().to_vec();
        let version = match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => return Err(Failure::internal("a version that is not ours")),
        };
        if self.shown != 0 {
            return Err(Failure::internal("bytes of the handshake behind its end"));
        }
        let (client, server) = (self.secrets.client.as_ref(), self.secrets.server.as_ref());
        let (extracted, ours, theirs, kernel) = match std::mem::replace(&mut self.side, Side::Over) {
            Side::Server(side) => {
                let (extracted, _) = side.dangerous_into_kernel_connection().map_err(Failure::of)?;
                (extracted, server, client, None)
            }
            Side::Client(side) => {
                let (extracted, kernel) = side.dangerous_into_kernel_connection().map_err(Failure::of)?;
                (extracted, client, server, (version == Version::Tls13).then_some(kernel))
            }
            Side::Over => return Err(Failure::of(Error::HandshakeNotComplete)),
        };
        Ok(Established {
            keys: keys(version, &extracted, ours, theirs)?,
            unread: std::mem::take(&mut self.input),
            resumed,
            alpn,
            group,
            peer,
            early: std::mem::take(&mut self.early),
            entry: 0,
            policy: 0,
            server_name: None,
            kernel,
        })
    }
}

enum Record {
    Whole(usize),
    Missing(usize),
    /// Its header says more than a record holds.
    TooLong,
    /// These bytes begin none.
    Not,
}

enum Step {
    Again,
    Wait,
    Failed(Error),
}

/// One answer of rustls'. What is to be sent goes behind what is in `out`.
fn step<Data>(state: Result<ConnectionState<'_, '_, Data>, Error>, out: &mut Vec<u8>) -> Step {
    match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let start = out.len();
            let mut room = 0;
            if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
                data.encode(&mut [])
            {
                room = required_size;
            }
            out.resize(start + room, 0);
            let written = out.get_mut(start..).map_or(0, |room| data.encode(room).unwrap_or(0));
            out.truncate(start + written);
            Step::Again
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Step::Again
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Step::Wait,
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            Step::Failed(Error::AlertReceived(AlertDescription::CloseNotify))
        }
        // Early data is taken before; other data is never shown to rustls.
        Ok(_) => Step::Failed(Error::HandshakeNotComplete),
        Err(error) => Step::Failed(error),
    }
}

impl Side {
    fn common(&self) -> Result<&CommonState, Failure> {
        match self {
            Side::Server(server) => Ok(server),
            Side::Client(client) => Ok(client),
            Side::Over => Err(Failure::of(Error::HandshakeNotComplete)),
        }
    }
}

/// Makes a config fit for [`Handshake::server`].
pub fn serve(config: &mut ServerConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(Capture);
}

/// Makes a config fit for [`Handshake::client`].
pub fn ask(config: &mut ClientConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(Capture);
}

/// The traffic secrets of TLS 1.3, which rustls gives to a [`KeyLog`] only: extraction gives the keys made from them,
/// by which no key can be updated.
/// Overwritten when it goes.
#[derive(Default)]
struct Captured {
    /// The client's, of its last flight.
    handshake: Option<[u8; SECRET_BYTES]>,
    client: Option<[u8; SECRET_BYTES]>,
    server: Option<[u8; SECRET_BYTES]>,
}

thread_local! {
    /// What was logged since rustls was last called: it logs in the call, on its thread.
    static CAPTURE: RefCell<Captured> = const { RefCell::new(Captured::NONE) };
}

/// Writes what is logged to [`CAPTURE`].
#[derive(Debug)]
struct Capture;

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        CAPTURE.with_borrow_mut(|captured| {
            let place = match label {
                HANDSHAKE_SECRET => &mut captured.handshake,
                CLIENT_SECRET => &mut captured.client,
                SERVER_SECRET => &mut captured.server,
                _ => return,
            };
            if let Some(room) = place.insert([0; SECRET_BYTES]).get_mut(..secret.len()) {
                room.copy_from_slice(secret);
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, HANDSHAKE_SECRET | CLIENT_SECRET | SERVER_SECRET)
    }
}

const HANDSHAKE_SECRET: &str = "CLIENT_HANDSHAKE_TRAFFIC_SECRET";
const CLIENT_SECRET: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_SECRET: &str = "SERVER_TRAFFIC_SECRET_0";

impl Captured {
    const NONE: Captured = Captured { handshake: None, client: None, server: None };

    /// Nothing has been logged.
    fn start() {
        CAPTURE.with_borrow_mut(Captured::zeroize);
    }

    /// Takes what was logged since.
    fn take_over(&mut self) {
        CAPTURE.with_borrow_mut(|new| {
            for (own, new) in [
                (&mut self.handshake, &new.handshake),
                (&mut self.client, &new.client),
                (&mut self.server, &new.server),
            ] {
                if new.is_some() {
                    *own = *new;
                }
            }
            new.zeroize();
        });
    }

    fn zeroize(&mut self) {
        self.handshake.zeroize();
        self.client.zeroize();
        self.server.zeroize();
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.zeroize();
    }
}

/// The secrets of TLS 1.3 as they were logged, the keys of TLS 1.2 as they were extracted, and the records' numbers.
fn keys(
    version: Version,
    extracted: &ExtractedSecrets,
    ours: Option<&[u8; SECRET_BYTES]>,
    theirs: Option<&[u8; SECRET_BYTES]>,
) -> Result<Keys, Failure> {
    let suite = match &extracted.tx.1 {
        ConnectionTrafficSecrets::Aes128Gcm { .. } => Suite::Aes128Gcm,
        ConnectionTrafficSecrets::Aes256Gcm { .. } => Suite::Aes256Gcm,
        ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Suite::ChaCha20Poly1305,
        _ => return Err(Failure::internal("an AEAD that is not ours")),
    };
    let half = |side: &(u64, ConnectionTrafficSecrets), secret: Option<&[u8; SECRET_BYTES]>| match version {
        Version::Tls13 => secret.and_then(|secret| Half::new(secret, side.0)),
        Version::Tls12 => write_key(&side.1, side.0),
    };
    match (half(&extracted.rx, theirs), half(&extracted.tx, ours)) {
        (Some(rx), Some(tx)) => Ok(Keys { version, suite, rx, tx }),
        _ => Err(Failure::internal("the config logs no secrets")),
    }
}

/// TLS 1.2: the key, and of the nonce what never changes.
fn write_key(secrets: &ConnectionTrafficSecrets, seq: u64) -> Option<Half> {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => return None,
    };
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    let (of_key, rest) = secret.split_at_mut_checked(key.as_ref().len())?;
    of_key.copy_from_slice(key.as_ref());
    rest.get_mut(..iv.as_ref().len())?.copy_from_slice(iv.as_ref());
    Half::new(&secret[..], seq)
}

impl Failure {
    fn of(error: Error) -> Failure {
        let kind = match &error {
            Error::AlertReceived(_) => FailureKind::Alert,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => FailureKind::Incompatible,
            Error::InvalidCertificate(_)
            | Error::InvalidCertRevocationList(_)
            | Error::NoCertificatesPresented
            | Error::UnsupportedNameType => FailureKind::Certificate,
            Error::General(_)
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::HandshakeNotComplete
            | Error::EncryptError
            | Error::BadMaxFragmentSize
            | Error::InconsistentKeys(_)
            | Error::Other(_) => FailureKind::Internal,
            _ => FailureKind::Protocol,
        };
        Failure { kind, error }
    }

    /// We have answered by `alert`, and rustls was not asked.
    pub(super) fn refused(kind: FailureKind, alert: AlertDescription) -> Failure {
        Failure { kind, error: Error::General(format!("refused: {alert:?}")) }
    }

    /// Our side cannot.
    pub(super) fn internal(why: &str) -> Failure {
        Failure { kind: FailureKind::Internal, error: Error::General(why.into()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Handshake {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("input", &self.input.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established")
            .field("keys", &self.keys)
            .field("resumed", &self.resumed)
            .field("alpn", &self.alpn)
            .field("group", &self.group)
            .field("unread", &self.unread.len())
            .field("early", &self.early.len())
            .finish_non_exhaustive()
    }
}
