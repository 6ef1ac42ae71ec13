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

#[derive(Clone)]
struct InUse {
    spec: config::Tickets,
    ticketer: Arc<Ticketer>,
    /// Where sessions are that may send early data.
    kept: Option<Arc<SessionStore>>,
}

/// The keys of a config that is not in force yet.
pub struct NewKeys(Option<InUse>);

impl NewKeys {
    /// For the cores.
    pub fn tickets(&self) -> Option<front::Tickets> {
        let tickets = |keys: &InUse| front::Tickets {
            producer: Arc::clone(&keys.ticketer),
            sent: SENT,
            kept: keys.kept.clone(),
        };
        self.0.as_ref().map(tickets)
    }
}

impl TicketKeys {
    /// The keys of a config, and beside them where sessions are kept that may send early data: those that there are, if it
    /// says the same about them as the one before. Where the file of shared keys has another content, what was sealed by
    /// the one before is opened as long as it is good. Nothing changes before they are [kept](Self::keep).
    ///
    /// # Errors
    /// One sentence.
    pub fn of(
        &self,
        tickets: Option<&config::Tickets>,
        kept: Option<&Arc<SessionStore>>,
    ) -> Result<NewKeys, String> {
        let Some(spec) = tickets else { return Ok(NewKeys(None)) };
        let old = self.in_use().clone();
        if let Some(same) = old.as_ref().filter(|old| old.spec == *spec) {
            return Ok(NewKeys(Some(same.clone())));
        }
        let new = TicketSpec {
            period_s: spec.rotate.as_secs(),
            lifetime_s: spec.keep.as_secs(),
            secret: spec.shared.as_ref().map(|s| s.bytes.to_vec()),
        };
        let former = old.filter(|old| old.ticketer.is_shared() && spec.shared.is_some());
        let made = match former {
            Some(former) => Ticketer::instead_of(&former.ticketer, new, now_s()),
            None => Ticketer::new(new, now_s()),
        };
        let ticketer = made.map_err(|e| match e {
            TicketError::ShortSecret => "the key_file of [tls] tickets is too short".to_owned(),
            TicketError::Times => "keep of [tls] tickets is too many times rotate".to_owned(),
            TicketError::Crypto => "there are no random numbers for the keys of tickets".to_owned(),
        })?;
        Ok(NewKeys(Some(InUse { spec: spec.clone(), ticketer, kept: kept.cloned() })))
    }

    /// The config of these keys is in force.
    pub fn keep(&self, keys: NewKeys) {
        if let Some(InUse { spec, kept: Some(kept), .. }) = &keys.0 {
            kept.keep_for(spec.keep.as_secs());
        }
        *self.in_use() = keys.0;
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

    use rustls::time_provider::DefaultTimeProvider;

    use super::*;
    use crate::config::TicketSecret;

    fn ticketer(keys: &TicketKeys, spec: &config::Tickets) -> Arc<Ticketer> {
        let new = keys.of(Some(spec), None).expect("good");
        let producer = new.tickets().expect("tickets").producer;
        keys.keep(new);
        producer
    }

    #[test]
    fn keys_outlive_a_reload_that_says_nothing_else_of_them() {
        let keys = TicketKeys::default();
        let spec = config::Tickets::default();
        let first = ticketer(&keys, &spec);
        let sealed = first.bind(b"a", Arc::new(DefaultTimeProvider)).encrypt(b"session").expect("sealed");
        assert!(Arc::ptr_eq(&first, &ticketer(&keys, &spec)));
        let other = config::Tickets { keep: Duration::from_secs(3600), ..spec };
        let second = ticketer(&keys, &other);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(
            second.bind(b"a", Arc::new(DefaultTimeProvider)).decrypt(&sealed),
            None,
            "its own keys are new"
        );
        assert!(keys.of(None, None).expect("good").tickets().is_none());
        assert!(Arc::ptr_eq(&second, &ticketer(&keys, &other)), "what was not kept has changed nothing");
    }

    #[test]
    fn what_a_replaced_file_has_sealed_is_opened() {
        let spec = |byte| config::Tickets {
            shared: Some(TicketSecret { file: "f".into(), bytes: [byte; 48].into() }),
            ..config::Tickets::default()
        };
        let (a, b) = (TicketKeys::default(), TicketKeys::default());
        let sealed = ticketer(&a, &spec(1))
            .bind(b"k", Arc::new(DefaultTimeProvider))
            .encrypt(b"session")
            .expect("sealed");
        assert_eq!(
            ticketer(&b, &spec(1)).bind(b"k", Arc::new(DefaultTimeProvider)).decrypt(&sealed).as_deref(),
            Some(&b"session"[..])
        );
        assert_eq!(
            ticketer(&a, &spec(2)).bind(b"k", Arc::new(DefaultTimeProvider)).decrypt(&sealed).as_deref(),
            Some(&b"session"[..])
        );
        let newer = ticketer(&a, &spec(2))
            .bind(b"k", Arc::new(DefaultTimeProvider))
            .encrypt(b"session")
            .expect("sealed");
        assert_eq!(ticketer(&b, &spec(1)).bind(b"k", Arc::new(DefaultTimeProvider)).decrypt(&newer), None);
        // A config that fails takes nothing away from the one that stays.
        drop(a.of(Some(&spec(3)), None));
        assert_eq!(
            ticketer(&a, &spec(2)).bind(b"k", Arc::new(DefaultTimeProvider)).decrypt(&sealed).as_deref(),
            Some(&b"session"[..])
        );
    }
}
