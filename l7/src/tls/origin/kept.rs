//! What is kept of earlier handshakes with an origin, so that the next one is short.
//!
//! One store per origin and core. It has a lock, because rustls hands it out shared and a handshake may run on another
//! thread; nobody ever waits for it: where it is taken, the handshake is a full one, or a ticket is let go.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets of TLS 1.3 that are kept of an origin by a core, each for one connection.
pub const TICKETS_MAX: usize = 8;

/// The store of one origin on one core.
#[derive(Debug)]
pub struct Kept {
    /// Tickets of TLS 1.3 that are kept; the oldest make room for new ones.
    room: usize,
    /// Whose they are: what was proven of one name says nothing of another.
    name: ServerName<'static>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The newest last.
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Kept {
    /// An empty one, with room for so many tickets.
    pub fn new(name: ServerName<'static>, room: usize) -> Kept {
        let inner = Inner { group: None, tls12: None, tls13: VecDeque::with_capacity(room) };
        Kept { room, name, inner: Mutex::new(inner) }
    }

    fn of(&self, name: &ServerName<'_>) -> Option<MutexGuard<'_, Inner>> {
        debug_assert!(*name == self.name, "a config is one name's");
        if *name == self.name { self.inner.try_lock().ok() } else { None }
    }
}

impl ClientSessionStore for Kept {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        if let Some(mut inner) = self.of(&name) {
            inner.group = Some(group);
        }
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.of(name)?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if let Some(mut inner) = self.of(&name) {
            inner.tls12 = Some(value);
        }
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.of(name)?.tls12.clone()
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(mut inner) = self.of(name) {
            inner.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if let Some(mut inner) = self.of(&name) {
            if inner.tls13.len() >= self.room {
                inner.tls13.pop_front();
            }
            inner.tls13.push_back(value);
        }
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.of(name)?.tls13.pop_back()
    }
}
