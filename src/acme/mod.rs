//! Certificates by ACME (RFC 8555), on a control thread of their own.
//!
//! ```text
//!  config: sites with certificate = "acme" ─► Board ─► this thread ──── order, key, request ────► ACME server
//!                                              │ ▲                                                    │
//!    the node's main thread ◄── what to show ──┘ └── storage/NAME.pem ◄── chain                       │
//!      └─► Front: paths (HTTP-01), certificates of challenges (TLS-ALPN-01) ─► every core ◄──── looks ┘
//! ```
//!
//! A certificate is renewed when a third of its time is left; what fails is tried again, later each time. The old one is
//! in use until the new one is in force. Files are replaced whole, and hold the key with its chain.

mod client;
mod order;
mod store;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use instant_acme::{Account, AccountCredentials, NewAccount};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use crate::config::{self, Config};
use crate::log;
use client::Client;

pub use store::certificate_file;

/// After a failure; twice as long after each that follows. Let's Encrypt allows five failures an hour for a name.
const RETRY_FIRST: Duration = Duration::from_secs(15 * 60);
const RETRY_LAST: Duration = Duration::from_secs(12 * 3600);
/// The node is asked again for what it could not do, twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_LAST: Duration = Duration::from_secs(60);
/// Clocks may jump, and machines sleep: the calendar is looked at this often.
const LOOK: Duration = Duration::from_secs(600);
/// How long the cores may take to show something.
const SHOW_PATIENCE: Duration = Duration::from_secs(10);

/// What proves to the server that a name is ours.
#[derive(Clone)]
pub struct Shown {
    /// The name.
    pub name: String,
    /// Where the server looks, and what it has to find.
    pub proof: Proof,
}

/// See [`Shown`].
#[derive(Clone)]
pub enum Proof {
    /// At `http://NAME/.well-known/acme-challenge/TOKEN` (RFC 8555, 8.3).
    Http {
        /// The end of the path.
        token: String,
        /// The body.
        answer: String,
    },
    /// In a handshake for the protocol `acme-tls/1` (RFC 8737).
    Tls(Arc<CertifiedKey>),
}

/// A site that wants a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// All of them in one certificate; the first names its file.
    pub names: Vec<String>,
    /// From when and up to when the certificate is good that is there.
    pub valid_unix_s: Option<(i64, i64)>,
}

/// What the node and the thread tell each other.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
    /// Rung whenever something has changed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    settings: Option<config::Acme>,
    wanted: Vec<Wanted>,
    shown: Vec<Shown>,
    /// Counts changes of `shown`, and the last of them that all cores have.
    shown_at: u64,
    taken_at: u64,
    /// A certificate has been stored that the node has not taken yet.
    renewed: bool,
    /// What the node could not do is not asked for again before this; and how long that was.
    rests_until: Option<Instant>,
    rest: Duration,
    ends: bool,
}

/// The thread; it ends when this is dropped.
pub struct Acme {
    board: Arc<Board>,
    thread: Option<JoinHandle<()>>,
}

/// What the node is to do.
pub struct News {
    /// Make the cores show [`Board::shown`], and then say [`Board::taken`] with this.
    pub show: Option<u64>,
    /// Read the stored certificates anew.
    pub renewed: bool,
}

impl Board {
    /// Says what a config wants: at the start, after a reload, and after a renewal.
    pub fn follow(&self, config: &Config) {
        let mut state = self.state();
        state.settings.clone_from(&config.acme);
        state.wanted = wanted(config);
        state.rest = Duration::ZERO;
        self.changed.notify_all();
    }

    /// What the cores are to show.
    pub fn shown(&self) -> Vec<Shown> {
        self.state().shown.clone()
    }

    /// What there is to do, if anything. Stored certificates are told of once.
    pub fn news(&self) -> Option<News> {
        let mut state = self.state();
        if state.rests_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        state.rests_until = None;
        let show = (state.shown_at != state.taken_at).then_some(state.shown_at);
        let renewed = std::mem::take(&mut state.renewed);
        (show.is_some() || renewed).then_some(News { show, renewed })
    }

    /// The node could not do it: it is asked again, a little later.
    pub fn not_taken(&self, news: &News) {
        let mut state = self.state();
        state.renewed |= news.renewed;
        state.rest = (state.rest * 2).clamp(AGAIN_FIRST, AGAIN_LAST);
        state.rests_until = Some(Instant::now() + state.rest);
    }

    /// All cores show what was to be shown at `at`.
    pub fn taken(&self, at: u64) {
        self.state().taken_at = at;
        self.changed.notify_all();
    }

    /// Has the cores show this, and waits until they do.
    fn show(&self, shown: Vec<Shown>) -> Result<(), String> {
        let mut state = self.state();
        state.shown = shown;
        state.shown_at += 1;
        let at = state.shown_at;
        let waits = |s: &mut State| s.taken_at < at && !s.ends;
        let (state, late) = self
            .changed
            .wait_timeout_while(state, SHOW_PATIENCE, waits)
            .unwrap_or_else(PoisonError::into_inner);
        match (state.ends, late.timed_out()) {
            (true, _) => Err("the node ends".to_owned()),
            (_, true) => Err("the cores do not show the proofs".to_owned()),
            _ => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sites of a config that want a certificate, and what they have.
fn wanted(config: &Config) -> Vec<Wanted> {
    let sites = config.sites.iter().filter(|s| s.tls.acme);
    let wanted = |s: &config::Site| Wanted {
        names: s.acme_names(),
        valid_unix_s: s
            .tls
            .certificates
            .first()
            .filter(|c| s.hosts.iter().all(|h| c.covers(h)))
            .map(|c| c.valid_unix_s),
    };
    sites.map(wanted).collect()
}

impl Acme {
    /// Starts the thread, which does what the board says.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(board: Arc<Board>) -> io::Result<Acme> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let own = Arc::clone(&board);
        let thread = std::thread::Builder::new().name("millrace-acme".to_owned()).spawn(move || {
            let mut clerk = Clerk { board: own, failures: HashMap::new() };
            while clerk.round(&runtime) {}
        })?;
        Ok(Acme { board, thread: Some(thread) })
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.board.state().ends = true;
        self.board.changed.notify_all();
        // A server that does not answer is waited for no longer than its patience; nobody waits for that.
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}

/// Does the work.
struct Clerk {
    board: Arc<Board>,
    /// By the first of the names.
    failures: HashMap<String, Failures>,
}

struct Failures {
    count: u32,
    again: Instant,
}

impl Clerk {
    /// Looks what is due, does it, and waits. False: the node ends.
    fn round(&mut self, runtime: &tokio::runtime::Runtime) -> bool {
        let (settings, wanted) = {
            let state = self.board.state();
            if state.ends {
                return false;
            }
            (state.settings.clone(), state.wanted.clone())
        };
        self.forget_failures(&wanted);
        if let Some(settings) = settings {
            for site in &wanted {
                let Some(name) = site.names.first().filter(|name| self.is_due(site, name)) else { continue };
                log::info(format_args!("ACME: a certificate for {} is ordered", site.names.join(", ")));
                match runtime.block_on(self.order(&settings, &site.names)) {
                    Ok(()) => {
                        // Forgotten when it is in use; until then no other is ordered at once.
                        self.failed(name);
                        log::info(format_args!("ACME: there is a certificate for {}", site.names.join(", ")));
                    }
                    Err(e) => {
                        let wait = self.failed(name);
                        log::error(format_args!(
                            "ACME: no certificate for {}: {e}; tried again in {} minutes",
                            site.names.join(", "),
                            wait.as_secs() / 60
                        ));
                    }
                }
            }
        }
        let state = self.board.state();
        let same = |s: &mut State| s.wanted == wanted && !s.ends;
        let pause = self.failures.values().map(|f| f.again.saturating_duration_since(Instant::now())).min();
        let pause = pause.map_or(LOOK, |p| p.min(LOOK));
        let (state, _) =
            self.board.changed.wait_timeout_while(state, pause, same).unwrap_or_else(PoisonError::into_inner);
        !state.ends
    }

    fn is_due(&self, site: &Wanted, name: &str) -> bool {
        let rests = self.failures.get(name).is_some_and(|f| f.again > Instant::now());
        !rests && site.is_wanting()
    }

    /// What failed for sites that have a certificate now, or are no more, counts no more.
    fn forget_failures(&mut self, wanted: &[Wanted]) {
        let is_wanting =
            |name: &String| wanted.iter().any(|s| s.names.first() == Some(name) && s.is_wanting());
        self.failures.retain(|name, _| is_wanting(name));
    }

    /// How long to wait.
    fn failed(&mut self, name: &str) -> Duration {
        let failures = self.failures.entry(name.to_owned());
        let failures = failures.or_insert(Failures { count: 0, again: Instant::now() });
        let wait = (RETRY_FIRST * 2u32.pow(failures.count.min(10))).min(RETRY_LAST);
        failures.count += 1;
        failures.again = Instant::now() + wait;
        wait
    }

    async fn order(&self, settings: &config::Acme, names: &[String]) -> Result<(), String> {
        let account = account(settings).await?;
        let show = |shown| self.board.show(shown);
        let issued = order::obtain(&account, names, settings.challenge, &show).await?;
        let file = certificate_file(&settings.storage, &names[0]);
        // What cannot be used is not to take the place of what can.
        config::stored_certificate(issued.pem.as_bytes(), &file)?;
        store::write(&file, &issued.pem)?;
        self.board.state().renewed = true;
        self.board.changed.notify_all();
        Ok(())
    }
}

impl Wanted {
    /// Whether there is no certificate, or one that is to be renewed.
    fn is_wanting(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        self.valid_unix_s.is_none_or(|valid| now >= renewal(valid))
    }
}

/// From when on a certificate is renewed: when a third of its time is left.
fn renewal((from, to): (i64, i64)) -> i64 {
    to - (to - from) / 3
}

/// The stored account of this server, or a new one.
async fn account(settings: &config::Acme) -> Result<Account, String> {
    let said = |e: instant_acme::Error| format!("{}: {e}", settings.directory);
    let builder = || Ok::<_, String>(Account::builder_with_http(Box::new(Client::new(roots(settings)?)?)));
    let file = store::account_file(&settings.storage);
    if let Some(text) = store::read(&file)? {
        let bad = |e| format!("{} is not an account: {e}; remove it for a new one", file.display());
        let value: serde_json::Value = serde_json::from_str(&text).map_err(bad)?;
        // Another server's is no use; it is replaced.
        if value.get("directory").and_then(|d| d.as_str()) == Some(&settings.directory) {
            let credentials: AccountCredentials = serde_json::from_value(value).map_err(bad)?;
            return builder()?.from_credentials(credentials).await.map_err(said);
        }
    }
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let created = builder()?.create(&new, settings.directory.clone(), None).await;
    let (account, credentials) = created.map_err(said)?;
    let text =
        serde_json::to_string(&credentials).map_err(|e| format!("an account cannot be written: {e}"))?;
    store::write(&file, &text)?;
    Ok(account)
}

fn roots(settings: &config::Acme) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match &settings.roots {
        Some(roots) => {
            store.add_parsable_certificates(roots.certificates.iter().cloned());
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(
            "this system trusts nobody; install ca-certificates, or name a \"ca\" in [acme]".to_owned()
        );
    }
    Ok(store)
}

#[cfg(test)]
mod tests;
