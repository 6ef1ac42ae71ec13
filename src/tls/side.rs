//! What a node has for TLS beside its cores: the keys of tickets, the sessions of clients that may send early data, and
//! the threads that take slow steps of handshakes.

use std::sync::Arc;

use dataplane::Bells;
use l7::tls::offload::{Helper, Helpers, Host};
use l7::tls::store::SessionStore;
use rustls::time_provider::DefaultTimeProvider;

use super::{NewKeys, TicketKeys};
use crate::config::Config;

/// Handshakes of each core that may be with the helpers.
const AWAY_MAX: usize = 64;
/// Sessions that a node keeps at least, and at most.
const SESSIONS_MIN: u64 = 1 << 10;
const SESSIONS_MAX: u64 = 1 << 20;

/// What all cores share.
pub struct Side {
    helpers: Option<Helpers>,
    keys: TicketKeys,
    kept: Option<Arc<SessionStore>>,
}

/// How many sessions of clients that may send early data a node keeps: for a 128th of its memory. None where there is no
/// early data.
pub fn sessions_kept(config: &Config) -> u32 {
    let https = config.listeners.iter().any(|l| l.https.is_some());
    if !config.tls.early_data || !https {
        return 0;
    }
    let sessions = config.node.memory_bytes / 128 / SessionStore::SESSION_BYTES;
    // As many as the store makes of it.
    sessions.clamp(SESSIONS_MIN, SESSIONS_MAX).next_power_of_two() as u32
}

struct Ring(Arc<Bells>);

impl Host for Ring {
    fn done(&self, core: usize) {
        self.0.ring(core);
    }
}

impl Side {
    /// For a node with this config and so many cores.
    ///
    /// # Errors
    /// One sentence.
    pub fn start(config: &Config, cores: usize, bells: &Arc<Bells>) -> Result<Side, String> {
        let https = config.listeners.iter().any(|l| l.https.is_some());
        if !https && !config.has_secure_origins() {
            return Ok(Side { helpers: None, keys: TicketKeys::default(), kept: None });
        }
        let threads = config.tls.threads.map_or(cores.div_ceil(4), usize::from);
        let host = Arc::new(Ring(Arc::clone(bells)));
        let helpers = match threads {
            0 => None,
            n => Some(
                Helpers::start(n, cores, AWAY_MAX, host)
                    .map_err(|e| format!("cannot start a thread for TLS handshakes: {e}"))?,
            ),
        };
        let kept = match sessions_kept(config) {
            0 => None,
            n => Some(SessionStore::new(n, 0, Arc::new(DefaultTimeProvider))),
        };
        Ok(Side { helpers, keys: TicketKeys::default(), kept })
    }

    /// A core's way to the helpers. To be called once for each.
    pub fn helper(&self, core: usize) -> Option<Helper> {
        self.helpers.as_ref()?.of(core)
    }

    /// How clients' sessions are resumed by this config: with the keys that there are, if it says the same of them. To be
    /// [kept](Self::keep) when it is in force.
    ///
    /// # Errors
    /// One sentence.
    pub fn keys(&self, config: &Config) -> Result<NewKeys, String> {
        let https = config.listeners.iter().any(|l| l.https.is_some());
        self.keys.of(config.tls.tickets.as_ref().filter(|_| https), self.kept.as_ref())
    }

    /// The config of these keys is in force.
    pub fn keep(&self, keys: NewKeys) {
        self.keys.keep(keys);
    }

    /// Once a second: new keys where it is time, and the old ones go.
    pub fn tick(&self) {
        self.keys.rotate();
    }
}
