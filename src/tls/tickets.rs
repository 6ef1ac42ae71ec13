//! The keys of tickets: the node's, so that sessions from before a reload are resumed after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use l7::tls::front;
use l7::tls::store::SessionStore;
use l7::tls::tickets::{TicketError, TicketSpec, Ticketer};

use crate::config;

/// Tickets that a client is sent in TLS 1.3: browsers open a few connections at once, and each uses one up.
const SENT: usize = 2;

/// The keys that are in use, if any.
#[derive(Default)]
pub struct TicketKeys(Mutex<Option<InUse>>);

struct InUse {
    spec: config::Tickets,
    ticketer: Arc<Ticketer>,
}

impl TicketKeys {
    /// The tickets of a config, and beside them where sessions are kept that may send early data: with the keys that there
    /// are, if it says the same about them as the one before. Where the
    /// file of shared keys has another content, what was sealed by the one before is opened as long as it is good.
    ///
    /// # Errors
    /// One sentence.
    pub fn follow(
        &self,
        tickets: Option<&config::Tickets>,
        kept: Option<&Arc<SessionStore>>,
    ) -> Result<Option<front::Tickets>, String> {
        let mut in_use = self.in_use();
        let Some(spec) = tickets else {
            *in_use = None;
            return Ok(None);
        };
        let ticketer = match &*in_use {
            Some(same) if same.spec == *spec => Arc::clone(&same.ticketer),
            old => {
                let before = old.as_ref().and_then(|o| o.spec.shared.as_ref());
                let secrets = spec.shared.iter().chain(before.filter(|_| spec.shared.is_some()));
                let spec = TicketSpec {
                    period_s: spec.rotate.as_secs(),
                    lifetime_s: spec.keep.as_secs(),
                    secrets: secrets.map(|s| s.bytes.to_vec()).collect(),
                };
                Ticketer::new(spec, now_s()).map_err(|e| match e {
                    TicketError::ShortSecret => "the key_file of [tls] tickets is too short".to_owned(),
                    TicketError::Times => "keep of [tls] tickets is too many times rotate".to_owned(),
                    TicketError::Crypto => "there are no random numbers for the keys of tickets".to_owned(),
                })?
            }
        };
        if let Some(kept) = kept {
            kept.keep_for(spec.keep.as_secs());
        }
        *in_use = Some(InUse { spec: spec.clone(), ticketer: Arc::clone(&ticketer) });
        Ok(Some(front::Tickets { producer: ticketer, sent: SENT, kept: kept.cloned() }))
    }

    /// Takes a new key where it is time for one, and forgets old ones. Each second or so.
    pub fn rotate(&self) {
        if let Some(in_use) = &*self.in_use() {
            in_use.ticketer.rotate(now_s());
        }
    }

    fn in_use(&self) -> MutexGuard<'_, Option<InUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::TicketSecret;

    fn ticketer(keys: &TicketKeys, spec: &config::Tickets) -> Arc<Ticketer> {
        keys.follow(Some(spec), None).expect("good").expect("tickets").producer
    }

    #[test]
    fn keys_outlive_a_reload_that_says_nothing_else_of_them() {
        let keys = TicketKeys::default();
        let spec = config::Tickets::default();
        let first = ticketer(&keys, &spec);
        let sealed = first.bind(b"a").encrypt(b"session").expect("sealed");
        assert!(Arc::ptr_eq(&first, &ticketer(&keys, &spec)));
        let other = config::Tickets { keep: Duration::from_secs(3600), ..spec };
        let second = ticketer(&keys, &other);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.bind(b"a").decrypt(&sealed), None, "its own keys are new");
        assert!(keys.follow(None, None).expect("good").is_none());
    }

    #[test]
    fn what_a_replaced_file_has_sealed_is_opened() {
        let spec = |byte| config::Tickets {
            shared: Some(TicketSecret { file: "f".into(), bytes: [byte; 48].into() }),
            ..config::Tickets::default()
        };
        let (a, b) = (TicketKeys::default(), TicketKeys::default());
        let sealed = ticketer(&a, &spec(1)).bind(b"k").encrypt(b"session").expect("sealed");
        assert_eq!(ticketer(&b, &spec(1)).bind(b"k").decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(ticketer(&a, &spec(2)).bind(b"k").decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        let newer = ticketer(&a, &spec(2)).bind(b"k").encrypt(b"session").expect("sealed");
        assert_eq!(ticketer(&b, &spec(1)).bind(b"k").decrypt(&newer), None);
    }
}
