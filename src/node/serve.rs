//! `millrace run`: a node from its start to its end, as signals say.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dataplane::Ctr;
use dataplane::rss::{Judgement, judge};

use super::flows::FlowsVerb;
use super::purge::Purger;
use super::reload::Reloader;
use super::totals::TotalsVerb;
use super::verbs::{self, NodeVerbs};
use super::{Node, Ticket};
use crate::acme::Acme;
use crate::config::Loaded;
use crate::tls::Watch;
use crate::{exit, log};

/// `millrace run`, with the config of `file`.
pub fn run(file: &Path, loaded: Loaded) -> ExitCode {
    let Loaded { config, warnings } = loaded;
    log::init(config.log.level, config.log.format);
    for line in warnings.lines() {
        log::warn(format_args!("{line}"));
    }
    let name = config.node.name.clone();
    let listeners = config.listeners.clone();
    let signals = match Signals::install() {
        Ok(s) => s,
        Err(e) => return failed(&format!("cannot take signals: {e}")),
    };
    // The working directory may be another one by the time of a reload.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let node = match Node::start(config.clone()) {
        Ok(n) => n,
        Err(e) => return failed(&e),
    };
    for l in &listeners {
        for (at, scheme) in l.sockets() {
            log::info(format_args!("node \"{name}\" serves {}://{at}", scheme.text()));
        }
    }
    let reloader = Arc::new(Reloader::new(Some(file), config, &node));
    let _acme = match Acme::start(Arc::clone(reloader.board())) {
        Ok(acme) => acme,
        Err(e) => return failed(&format!("cannot start a thread for ACME: {e}")),
    };
    serve(node, &signals, &reloader, |_| {})
}

pub(super) fn failed(sentence: &str) -> ExitCode {
    log::error(sentence);
    exit::bad()
}

/// Waits for a signal, then drains and stops. `every_second` is called once a second until then.
pub(super) fn serve(
    node: Node,
    signals: &Signals,
    reloader: &Arc<Reloader>,
    mut every_second: impl FnMut(&Node),
) -> ExitCode {
    node.control.add(Box::new(NodeVerbs {
        reloader: Arc::clone(reloader),
        ends: Arc::clone(&signals.ends),
        segment: Arc::clone(&node.segment),
    }));
    node.control.add(Box::new(Purger::new(
        node.cache.clone(),
        Arc::clone(reloader),
        Arc::clone(&node.bells),
    )));
    node.control.add(Box::new(FlowsVerb::new(Arc::clone(&node.desk), &reloader.listeners())));
    node.control.add(Box::new(TotalsVerb::new(Arc::clone(&node.desk), &reloader.listeners())));
    let mut last = Instant::now();
    let mut watch = Watch::new(now_s());
    let mut watchdog = Watchdog { ticket: node.desk.barrier(), late: None };
    let mut prediction_holds = true;
    loop {
        if signals.take_reload() {
            verbs::report(&reloader.reload());
        }
        reloader.follow_names();
        reloader.follow_acme();
        if signals.ends() > 0 {
            break;
        }
        if node.has_died() {
            return failed("a data core has ended; the node cannot go on");
        }
        if last.elapsed() >= Duration::from_secs(1) {
            last = Instant::now();
            node.tell_of_devices();
            every_second(&node);
            watchdog.look(&node);
            prediction_holds = prediction_holds && look_at_prediction(&node);
            node.tls.tick();
            for line in reloader.look_at_certificates(|shown| watch.look(shown, now_s())) {
                log::warn(format_args!("{line}"));
            }
            reloader.tidy();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let drain_limit = reloader.drain_limit();
    log::info(format_args!(
        "draining {} connections, for {drain_limit:?} at most; a second signal stops at once",
        node.open_clients()
    ));
    node.drain();
    let began = Instant::now();
    // A connection that the peer merely has not closed yet is not waited for.
    while node.unfinished() > 0 && began.elapsed() < drain_limit && signals.ends() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = node.open_clients();
    node.stop();
    if left > 0 {
        log::warn(format_args!("stopped with {left} connections open"));
    } else {
        log::info("stopped");
    }
    exit::DONE
}

/// In seconds since 1970.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Whether devices with RSS bring connections to the cores that we predict; says so when they do not.
fn look_at_prediction(node: &Node) -> bool {
    let s = node.segment.read();
    let (as_predicted, otherwise) = (s.get(Ctr::SteerPredicted), s.get(Ctr::SteerUnpredicted));
    let wrong = judge(as_predicted, otherwise) == Judgement::Wrong;
    if wrong {
        log::warn(format_args!(
            "a device does not spread connections as predicted ({otherwise} of {} came to another core): software \
             steering has the work",
            as_predicted + otherwise
        ));
    }
    !wrong
}

/// Notices a core that does not come to the top of its loop.
struct Watchdog {
    ticket: Ticket,
    /// The one that has been reported.
    late: Option<usize>,
}

impl Watchdog {
    /// Once a second: every core must have begun a pass since the last time.
    fn look(&mut self, node: &Node) {
        let late = node.desk.late(&self.ticket);
        match late {
            Some(core) if self.late != late => log::warn(format_args!(
                "data core {core} has not begun a pass for a second; see whether its CPU is shared or stalled"
            )),
            None if self.late.is_some() => log::info("every data core turns again"),
            _ => {}
        }
        self.late = late;
        if late.is_none() {
            self.ticket = node.desk.barrier();
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP, as counts that a loop can look at.
pub(super) struct Signals {
    ends: Arc<std::sync::atomic::AtomicUsize>,
    reload: Arc<std::sync::atomic::AtomicBool>,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Signals> {
        let s = Signals { ends: Arc::default(), reload: Arc::default() };
        let mut pending = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGHUP,
        ])?;
        let (ends, reload) = (Arc::clone(&s.ends), Arc::clone(&s.reload));
        std::thread::Builder::new().name("millrace-signals".to_owned()).spawn(move || {
            for signal in pending.forever() {
                if signal == signal_hook::consts::SIGHUP {
                    reload.store(true, Ordering::Relaxed);
                } else {
                    ends.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(s)
    }

    fn ends(&self) -> usize {
        self.ends.load(Ordering::Relaxed)
    }

    fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}
