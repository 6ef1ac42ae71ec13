//! A session over TLS, by rustls' own buffered connections: the edge's records are judged by a stock peer.

use std::io::{Read, Write};
use std::sync::Arc;

use dataplane::Time;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::http::{Intent, Session};

/// What TLS carries is `inner`'s.
pub struct OverTls {
    inner: Box<dyn Session>,
    tls: ClientConnection,
    /// Ciphertext that is to be sent.
    out: Vec<u8>,
    said_close: bool,
    /// The peer has said that nothing more comes.
    heard_close: bool,
    failed: Option<String>,
    /// After so many bytes of data it asks for new keys, once.
    asks_after: Option<u64>,
    got: u64,
    /// So much more it says before the handshake is done, where the edge lets it.
    early_left: usize,
    /// What it has said so, until it is known whether that was taken.
    said_early: Vec<u8>,
}

impl OverTls {
    pub fn client(inner: Box<dyn Session>, config: &Arc<ClientConfig>, name: &'static str) -> OverTls {
        let name = ServerName::try_from(name).expect("a name");
        let tls = ClientConnection::new(Arc::clone(config), name).expect("a good config");
        OverTls::new(inner, tls)
    }

    /// The same; after so many bytes it wants new keys, both ways (TLS 1.3).
    pub fn asking(mut self, after: u64) -> OverTls {
        self.asks_after = Some(after);
        self
    }

    /// The same; so much it says before the handshake is done, where the edge lets it.
    pub fn hasty(mut self, bytes: usize) -> OverTls {
        self.early_left = bytes;
        self
    }

    fn new(inner: Box<dyn Session>, mut tls: ClientConnection) -> OverTls {
        tls.set_buffer_limit(None);
        OverTls {
            inner,
            tls,
            out: Vec::new(),
            said_close: false,
            heard_close: false,
            failed: None,
            asks_after: None,
            got: 0,
            early_left: 0,
            said_early: Vec::new(),
        }
    }

    fn speak_early(&mut self, max: usize) {
        let Some(mut early) = self.tls.early_data() else { return };
        let plain = self.inner.output(max.min(early.bytes_left()).min(self.early_left));
        early.write_all(&plain).expect("there is room");
        self.early_left -= plain.len();
        self.said_early.extend(plain);
    }

    fn speak(&mut self, max: usize) {
        let said = std::mem::take(&mut self.said_early);
        if !self.tls.is_early_data_accepted() {
            self.tls.writer().write_all(&said).expect("no bound is set");
        }
        let plain = self.inner.output(max);
        self.tls.writer().write_all(&plain).expect("no bound is set");
        if plain.is_empty()
            && self.inner.intent() == Intent::Fin
            && !std::mem::replace(&mut self.said_close, true)
        {
            self.tls.send_close_notify();
        }
    }
}

impl Session for OverTls {
    fn input(&mut self, mut bytes: &[u8], now: Time) {
        while !bytes.is_empty() && self.failed.is_none() {
            self.tls.read_tls(&mut bytes).expect("from memory");
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    self.tls.reader().read_exact(&mut plain).expect("it is there");
                    self.got += plain.len() as u64;
                    if self.asks_after.take_if(|n| *n <= self.got).is_some() {
                        self.tls.refresh_traffic_keys().expect("it is TLS 1.3");
                    }
                    if !plain.is_empty() {
                        self.inner.input(&plain, now);
                    }
                    if state.peer_has_closed() && !std::mem::replace(&mut self.heard_close, true) {
                        self.inner.eof();
                    }
                }
                Err(e) => self.failed = Some(format!("TLS: {e}")),
            }
        }
    }

    fn eof(&mut self) {
        // An end that TLS has not announced is none.
    }

    fn closed(&mut self, reset: bool) {
        self.inner.closed(reset || !self.heard_close);
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        if self.out.len() < max && self.failed.is_none() {
            if self.tls.is_handshaking() { self.speak_early(max) } else { self.speak(max) }
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.out).expect("to memory");
        }
        let n = max.min(self.out.len());
        self.out.drain(..n).collect()
    }

    fn intent(&self) -> Intent {
        match self.inner.intent() {
            _ if self.failed.is_some() => Intent::Abort,
            Intent::Fin if !self.said_close || !self.out.is_empty() => Intent::Stay,
            intent => intent,
        }
    }

    fn reads(&self, now: Time) -> bool {
        self.inner.reads(now)
    }

    fn wake(&self) -> Option<Time> {
        self.inner.wake()
    }

    fn verdict(&self) -> Option<Result<(), String>> {
        match &self.failed {
            Some(why) => Some(Err(why.clone())),
            None => self.inner.verdict(),
        }
    }
}
