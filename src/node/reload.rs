//! A config read anew while the node runs: taken whole, or refused whole.
//!
//! ```text
//!  SIGHUP ──────────┐
//!                   ├──► read and check the file ─► what may not change? ─► Program ─► Desk ─► every core swaps
//!  millrace reload ─┘         └─ FILE:LINE …             └─ the key             └─ freed here, when no core has it
//! ```
//!
//! All that can fail does so before the first core is told, or the message reaches none ([`Desk::tell_all`]): a core has
//! nothing to refuse. One that hangs takes the config when it goes on.
//!
//! Cores, ports, where listeners listen, memory and what is cut from it are fixed when the node starts: so is whether there
//! is anything for TLS.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use l7::proxy::Program;
use l7::tls::Front;

use super::assemble::{has_tls, limits_for};
use super::orders::{CoreOrder, Desk, Ticket};
use super::program::{self, Given};
use super::{Names, Node};
use crate::access_log::Targets;
use crate::acme::Board;
use crate::config::{self, Cidr, Config, Listener, Loaded, Machine, Port, Report, ShownTo, SiteTls};
use crate::control::Answer;
use crate::log;
use crate::tls::{Shown, Side};

/// How long the cores may take: a pass each, unless something is very wrong.
const PATIENCE: Duration = Duration::from_secs(5);
const NOT_TOLD: &str = "a core does not take its orders; restart the node";

/// What became of a reload.
pub enum Outcome {
    /// The file says what the node does already.
    Same,
    /// All cores follow the new config.
    Taken,
    /// The file is bad.
    Bad(Report),
    /// The file changes what is fixed: these keys.
    Fixed(PathBuf, Vec<String>),
    /// It could not be done: one sentence with the mend.
    Failed(String),
}

/// What a running node needs to take a new config.
pub struct Reloader {
    /// `None`: the node was not started from a file.
    file: Option<PathBuf>,
    desk: Arc<Desk<CoreOrder>>,
    names: Arc<Names>,
    tls: Arc<Side>,
    /// Whether the cores have been built with what TLS takes.
    has_tls: bool,
    unix_ns_at_start: u64,
    logs: Arc<Targets>,
    acme: Arc<Board>,
    state: Mutex<State>,
}

struct State {
    running: Config,
    /// What new requests follow.
    current: Arc<Program>,
    /// What cores may still use.
    programs: Vec<Arc<Program>>,
    fronts: Vec<Arc<Front>>,
}

impl Reloader {
    /// For a node that runs `running`, read from `file`.
    pub fn new(file: Option<PathBuf>, running: Config, node: &Node) -> Reloader {
        let current = Arc::clone(&node.program);
        let programs = vec![Arc::clone(&current)];
        let acme = Arc::<Board>::default();
        acme.follow(&running);
        Reloader {
            file,
            desk: Arc::clone(&node.desk),
            names: Arc::clone(&node.names),
            logs: Arc::clone(&node.logs),
            tls: Arc::clone(&node.tls),
            has_tls: has_tls(&running),
            acme,
            unix_ns_at_start: current.config.unix_ns_at_start,
            state: Mutex::new(State { running, current, programs, fronts: Vec::new() }),
        }
    }

    /// Reads the file and does what it says, or nothing. The access log's files are opened anew in any case.
    pub fn reload(&self) -> Outcome {
        self.logs.reopen();
        let Some(file) = &self.file else {
            let sentence = "this node was not started from a config file; stop it and start another";
            return Outcome::Failed(sentence.to_owned());
        };
        let Loaded { config: new, warnings } = match config::load(file, &Machine::this()) {
            Ok(loaded) => loaded,
            Err(report) => return Outcome::Bad(report),
        };
        for line in warnings.lines() {
            log::warn(format_args!("{line}"));
        }
        self.take(new)
    }

    fn take(&self, new: Config) -> Outcome {
        let mut state = self.state();
        state.tidy();
        let mut keys = fixed_keys(&state.running, &new);
        // Whatever was in force since: what the cores have does not go with the last of these origins.
        if has_tls(&new) && !self.has_tls {
            keys.push("site.origin (the first by https)".to_owned());
        }
        if !keys.is_empty() {
            return Outcome::Fixed(self.file.clone().unwrap_or_default(), keys);
        }
        if new == state.running {
            return Outcome::Same;
        }
        // A name that is new has to be known before requests go there.
        if let Err(e) = self.names.follow(&new) {
            return Outcome::Failed(e);
        }
        match self.give(&mut state, &new) {
            Ok(outcome) => {
                self.acme.follow(&new);
                state.running = new;
                outcome
            }
            Err(e) => {
                let _ = self.names.follow(&state.running);
                Outcome::Failed(e)
            }
        }
    }

    /// Takes the names' addresses to the cores, where some have changed. Now and then.
    pub fn follow_names(&self) {
        if !self.names.take_changed() {
            return;
        }
        let mut state = self.state();
        state.tidy();
        let running = state.running.clone();
        if let Err(e) | Ok(Outcome::Failed(e)) = self.give(&mut state, &running) {
            log::warn(format_args!("the cores have not taken new addresses of origins: {e}"));
        }
    }

    /// What the node and ACME's thread tell each other.
    pub fn board(&self) -> &Arc<Board> {
        &self.acme
    }

    /// Takes certificates that ACME has stored, where `renewed`, and has the cores show them, and what ACME wants shown.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn present_anew(&self, renewed: bool) -> Result<(), String> {
        let mut state = self.state();
        state.tidy();
        let mut running = state.running.clone();
        let taken = if renewed { running.take_stored_certificates() } else { Ok(()) };
        match self.present(&mut state, &running) {
            Ok(Outcome::Failed(e)) | Err(e) => return Err(e),
            Ok(_) => {}
        }
        self.acme.follow(&running);
        state.running = running;
        taken
    }

    /// Has the cores show what this config says, which says nothing else that is new: requests under way count for nothing,
    /// as they follow what they did. An error: they have not been told.
    fn present(&self, state: &mut State, config: &Config) -> Result<Outcome, String> {
        let tickets = self.tls.keys(config)?.tickets();
        let presented = program::presented(config, tickets, &self.acme.shown())?;
        if !presented.fits(&state.current) {
            // A first certificate may bring an entry by which clients are verified.
            return self.give(state, config);
        }
        let front = presented.front;
        let ticket = self.desk.tell_all(|_| CoreOrder::Front(Arc::clone(&front)));
        state.fronts.push(front);
        self.obeyed(ticket.as_ref().ok_or(NOT_TOLD)?)
    }

    /// Gives the cores a config. An error: they have not been told.
    fn give(&self, state: &mut State, config: &Config) -> Result<Outcome, String> {
        let known = |name: &str| self.names.addresses(name);
        let old = Some(&*state.current);
        let limits = limits_for(config);
        let shown = self.acme.shown();
        let keys = self.tls.keys(config)?;
        let given = Given {
            limits: &limits,
            unix_ns_at_start: self.unix_ns_at_start,
            known: &known,
            old,
            logs: &self.logs,
            shown: &shown,
            tickets: keys.tickets(),
        };
        let program = program::compile(config, given)?;
        let ticket = self.desk.tell_all(|_| CoreOrder::Config(Arc::clone(&program)));
        // Kept here, so that no core is ever the last to let go of it; also where not all have been told.
        state.programs.push(Arc::clone(&program));
        let ticket = ticket.ok_or(NOT_TOLD)?;
        self.tls.keep(keys);
        state.current = program;
        self.obeyed(&ticket)
    }

    fn obeyed(&self, ticket: &Ticket) -> Result<Outcome, String> {
        if !self.desk.wait(ticket, PATIENCE) {
            // It is under way and cannot be called back: the core takes it with its next pass, if there is one.
            let sentence = "a core did not obey in time; restart the node if it hangs";
            return Ok(Outcome::Failed(sentence.to_owned()));
        }
        Ok(Outcome::Taken)
    }

    /// Frees what no core uses any more. Now and then.
    pub fn tidy(&self) {
        self.state().tidy();
    }

    /// What new requests follow.
    pub fn program(&self) -> Arc<Program> {
        Arc::clone(&self.state().current)
    }

    /// Where the node takes connections: no reload changes that.
    pub fn listeners(&self) -> Vec<Listener> {
        self.state().running.listeners.clone()
    }

    /// Looks at the certificates that clients and origins are shown.
    pub fn look_at_certificates<T>(&self, look: impl FnOnce(&mut dyn Iterator<Item = Shown<'_>>) -> T) -> T {
        let Config { sites, upstreams, .. } = &self.state().running;
        let to_clients = sites.iter().flat_map(|site| {
            let SiteTls { certificates, acme, .. } = &site.tls;
            certificates.iter().map(|c| Shown { certificate: c, to: ShownTo::Clients, by_acme: *acme })
        });
        let to_origins = upstreams.iter().filter_map(|upstream| {
            let certificate = upstream.tls.certificate.as_deref()?;
            Some(Shown { certificate, to: ShownTo::Origins, by_acme: false })
        });
        look(&mut to_clients.chain(to_origins))
    }

    /// How long a stopping node serves the connections that it has.
    pub fn drain_limit(&self) -> Duration {
        self.state().running.node.drain
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tidy(&mut self) {
        self.programs.retain(|p| Arc::strong_count(p) > 1);
        self.fronts.retain(|f| Arc::strong_count(f) > 1);
    }
}

/// The keys that differ, of those that are fixed at the start whatever they say. Every field of the config is named here, so that a new
/// one has to be put on one side or the other.
fn fixed_keys(old: &Config, new: &Config) -> Vec<String> {
    let Config {
        node,
        ports,
        listeners,
        sites: _,
        upstreams: _,
        cache,
        timeouts: _,
        limits,
        tcp,
        tls,
        system_roots: _,
        acme: _,
        log,
        resolver,
    } = new;
    let config::Node { name, cores, memory_bytes, pages, eal_args, drain: _ } = node;
    let config::Limits { head_bytes_max: _, connections_max } = limits;
    let mut keys = Vec::new();
    let mut fixed = |same: bool, key: String| {
        if !same {
            keys.push(key);
        }
    };
    fixed(*name == old.node.name, "node.name".to_owned());
    fixed(*cores == old.node.cores, "node.cores".to_owned());
    fixed(*memory_bytes == old.node.memory_bytes, "node.memory".to_owned());
    fixed(*pages == old.node.pages, "node.pages".to_owned());
    fixed(*eal_args == old.node.eal_args, "node.eal_args".to_owned());
    fixed(ports.len() == old.ports.len(), "port".to_owned());
    for (i, (new, old)) in ports.iter().zip(&old.ports).enumerate() {
        let Port { name, kind, addresses, gateways, vlan, mtu, mac, pcap, host_if, checksums, segmentation } =
            new;
        fixed(*name == old.name, format!("port[{i}].name"));
        fixed(*kind == old.kind, format!("port[{i}].kind or port[{i}].device"));
        fixed(*addresses == old.addresses, format!("port[{i}].addresses"));
        fixed(*gateways == old.gateways, format!("port[{i}].gateway"));
        fixed(*vlan == old.vlan, format!("port[{i}].vlan"));
        fixed(*mtu == old.mtu, format!("port[{i}].mtu"));
        fixed(*mac == old.mac, format!("port[{i}].mac"));
        fixed(*pcap == old.pcap, format!("port[{i}].pcap"));
        fixed(*host_if == old.host_if, format!("port[{i}].host_if"));
        fixed(*checksums == old.checksums, format!("port[{i}].checksums"));
        fixed(*segmentation == old.segmentation, format!("port[{i}].segmentation"));
    }
    fixed(listeners.iter().map(fixed_part).eq(old.listeners.iter().map(fixed_part)), "listener".to_owned());
    fixed(*connections_max == old.limits.connections_max, "limits.connections".to_owned());
    let config::Cache { memory_bytes, object_bytes_max, pinned_bytes_max } = cache;
    fixed(*memory_bytes == old.cache.memory_bytes, "cache.memory".to_owned());
    fixed(*object_bytes_max == old.cache.object_bytes_max, "cache.object_max".to_owned());
    fixed(*pinned_bytes_max == old.cache.pinned_bytes_max, "cache.pinned_max".to_owned());
    fixed(tcp.syn_cookies == old.tcp.syn_cookies, "tcp.syn_cookies".to_owned());
    fixed(tcp.ecn == old.tcp.ecn, "tcp.ecn".to_owned());
    // The pools of handshakes and their threads are made at the start, and the sessions' that may send early data.
    let config::Tls {
        min_version: _,
        tickets: _,
        early_data,
        handshakes_max,
        handshakes_per_source_max,
        connections_per_source_max,
        threads,
    } = tls;
    fixed(*handshakes_max == old.tls.handshakes_max, "tls.handshakes_max".to_owned());
    fixed(
        *handshakes_per_source_max == old.tls.handshakes_per_source_max,
        "tls.handshakes_per_source_max".to_owned(),
    );
    fixed(
        *connections_per_source_max == old.tls.connections_per_source_max,
        "tls.connections_per_source_max".to_owned(),
    );
    fixed(*early_data == old.tls.early_data, "tls.early_data".to_owned());
    fixed(*threads == old.tls.threads, "tls.threads".to_owned());
    fixed(*resolver == old.resolver, "resolver".to_owned());
    fixed(log.level == old.log.level, "log.level".to_owned());
    fixed(log.format == old.log.format, "log.format".to_owned());
    keys
}

/// What of a listener is fixed. How its connections are treated may change for those to come.
fn fixed_part(l: &Listener) -> (&[IpAddr], [Option<u16>; 2], &[Cidr]) {
    let Listener { addresses, http, https, proxy_protocol_from, congestion: _, split: _, connections_max: _ } =
        l;
    (addresses, [*http, *https], proxy_protocol_from)
}

impl Outcome {
    /// Whether the node follows the file now.
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Same | Outcome::Taken)
    }

    /// For a person: a line for each thing that is wrong, or one that says what was done.
    pub fn text(&self) -> String {
        match self {
            Outcome::Same => "nothing has changed in the config".to_owned(),
            Outcome::Taken => "the new config is in force; requests under way keep the old one".to_owned(),
            Outcome::Bad(report) => report.to_string().trim_end().to_owned(),
            Outcome::Fixed(file, keys) => {
                let line = |key: &String| {
                    let file = file.display();
                    format!(
                        "{file}: {key} cannot change while the node runs; change it back, or restart the node"
                    )
                };
                keys.iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Outcome::Failed(sentence) => sentence.clone(),
        }
    }

    /// As an answer on the control socket.
    pub fn answer(&self) -> Answer {
        let answer = if self.is_good() { Answer::done(self.text()) } else { Answer::bad(self.text()) };
        let answer = answer.with("changed", matches!(self, Outcome::Taken));
        match self {
            Outcome::Bad(report) => {
                let errors = serde_json::to_value(report.errors()).unwrap_or_default();
                answer.with("errors", errors)
            }
            Outcome::Fixed(_, keys) => answer.with("fixed", keys.clone()),
            _ => answer,
        }
    }
}
