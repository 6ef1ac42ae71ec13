//! What a node has for TLS beside its cores: the keys of tickets, and the threads that take slow steps of handshakes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::Bells;
use l7::tls::front::Tickets;
use l7::tls::offload::{Helper, Helpers, Host};
use l7::tls::tickets::{TicketSpec, Ticketer};

use crate::config::{self, Config};

/// Tickets that a client of TLS 1.3 gets: one each for two connections at once.
const TICKETS_SENT: usize = 2;
/// Handshakes of each core that may be with the helpers.
const AWAY_MAX: usize = 64;

/// What all cores share.
pub struct Side {
    helpers: Option<Helpers>,
    ticketer: Option<Arc<Ticketer>>,
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
            return Ok(Side { helpers: None, ticketer: None });
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
        let ticketer = match config.tls.tickets.as_ref().filter(|_| https) {
            None => None,
            Some(t) => Some(
                Ticketer::new(spec(t), now_s())
                    .map_err(|e| format!("tls.tickets: the keys cannot be made: {e}"))?,
            ),
        };
        Ok(Side { helpers, ticketer })
    }

    /// A core's way to the helpers. To be called once for each.
    pub fn helper(&self, core: usize) -> Option<Helper> {
        self.helpers.as_ref()?.of(core)
    }

    /// How clients' sessions are resumed.
    pub fn tickets(&self) -> Option<Tickets> {
        self.ticketer.as_ref().map(|t| Tickets { producer: Arc::clone(t), sent: TICKETS_SENT })
    }

    /// Once a second: new keys where it is time, and the old ones go.
    pub fn tick(&self) {
        if let Some(t) = &self.ticketer {
            t.rotate(now_s());
        }
    }
}

fn spec(t: &config::Tickets) -> TicketSpec {
    TicketSpec {
        period_s: t.rotate.as_secs().max(1),
        lifetime_s: t.keep.as_secs().max(1),
        secrets: t.shared.iter().map(|s| s.bytes.to_vec()).collect(),
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
