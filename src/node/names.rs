//! Where the names in a config's origins lead, for the node that runs it.
//!
//! The resolver's thread says only that something has changed; the node's own loop takes it to the cores, as it does
//! with a reload.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::log;
use crate::resolve::{self, Resolve};

/// How long a start or a reload waits for names.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names of a node's origins.
#[derive(Default)]
pub struct Names {
    /// `None` until there is a name.
    resolve: Mutex<Option<Resolve>>,
    changed: Arc<AtomicBool>,
}

impl Names {
    /// Looks up the names of `config` from now on, and waits a little for those that are new.
    ///
    /// # Errors
    /// One sentence, when there is no thread to be had.
    pub fn follow(&self, config: &Config) -> Result<(), String> {
        let names = resolve::names(config);
        let mut resolve = self.resolve();
        match &*resolve {
            None if names.is_empty() => return Ok(()),
            Some(r) => r.set((&config.resolver).into(), names),
            None => {
                let changed = Arc::clone(&self.changed);
                let on_update = Box::new(move |_: &str, _: &[IpAddr]| changed.store(true, Ordering::Release));
                let started = Resolve::start((&config.resolver).into(), names, on_update);
                *resolve = Some(started.map_err(|e| format!("cannot start the resolver's thread: {e}"))?);
            }
        }
        if let Some(r) = &*resolve {
            for name in r.wait_first(PATIENCE) {
                log::warn(format_args!(
                    "origin {name} has no address so far; requests for it are answered 503"
                ));
            }
        }
        Ok(())
    }

    /// The addresses of a name, as far as they are known.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.resolve().as_ref().map_or(Vec::new(), |r| r.addresses(name))
    }

    /// Whether some have changed since this was asked last.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    fn resolve(&self) -> MutexGuard<'_, Option<Resolve>> {
        self.resolve.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
