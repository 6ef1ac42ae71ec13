//! Early data (RFC 8446, 2.3) in a share of the seeds over TLS: the edge takes it, and the clients come a few at a time,
//! so that most find a ticket that one before them was given. The edge has few places for sessions, so that some who
//! send early data are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dataplane::Time;
use dataplane::rng::Rng;
use l7::tls::Front;
use l7::tls::front::Tickets;
use l7::tls::store::SessionStore;
use l7::tls::tickets::{TicketSpec, Ticketer};
use rustls::ClientConfig;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use super::http::Client;
use super::identity::Identity;
use super::tls::OverTls;

/// When virtual time begins.
const START: Duration = Duration::from_secs(1_700_000_000);
/// What the edge takes early, as a node does.
const ROOM: u32 = 16 << 10;
/// Places for sessions: one set of the store. Of several it would depend on what rustls draws, and not on the seed, which
/// sessions go.
const SESSIONS: u32 = 8;
const SESSION_LIFETIME_S: u64 = 3600;

/// The time that it is for TLS.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    pub fn set(&self, now: Time) {
        self.0.store(now.0, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_nanos(self.0.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(START + now))
    }
}

/// What such a seed has drawn.
pub struct Early {
    /// So many clients are there at a time.
    pub at_once: usize,
    front: Arc<Front>,
    /// All of them, as if they were one that comes again.
    clients: Arc<ClientConfig>,
    rng: Rng,
}

impl Early {
    /// `None`: this seed goes without. What else it draws does not depend on it.
    pub fn draw(seed: u64, identity: &Identity) -> Option<Early> {
        let mut rng = Rng::new(seed ^ 0xEA71);
        if rng.below(3) > 0 {
            return None;
        }
        let producer = Ticketer::new(TicketSpec::default(), START.as_secs()).expect("good");
        let kept = SessionStore::new(SESSIONS, SESSION_LIFETIME_S, identity.time.clone());
        let tickets = Tickets { producer, sent: 2, kept: Some(kept) };
        let front = identity.front_with(Some(tickets), ROOM);
        let mut clients = identity.client_config();
        clients.enable_early_data = true;
        Some(Early { at_once: rng.range(2, 8) as usize, front, clients: Arc::new(clients), rng })
    }

    pub fn front(&self) -> Arc<Front> {
        Arc::clone(&self.front)
    }

    /// Half send early only what may be sent twice (RFC 8470, 4), the others whatever they have; a quarter end anywhere.
    pub fn client(&mut self, c: Client) -> OverTls {
        let bytes = match self.rng.below(4) {
            0 => self.rng.below(u64::from(ROOM) + 1) as usize,
            1 => ROOM as usize,
            _ if c.begins_safely() => ROOM as usize,
            _ => 0,
        };
        OverTls::client(Box::new(c), &self.clients, "sim.example").hasty(bytes)
    }
}
