//! What a node does when it is asked to over its control socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dataplane::Ctr;
use dataplane::counters::Segment;

use super::reload::Reloader;
use crate::control::{Answer, ControlHandler, Request};
use crate::log;

/// `reload` and `drain`.
pub struct NodeVerbs {
    /// Takes new configs.
    pub reloader: Arc<Reloader>,
    /// Signals to end that have come, this socket's request among them.
    pub ends: Arc<AtomicUsize>,
    /// The node's counters.
    pub segment: Arc<Segment>,
}

impl ControlHandler for NodeVerbs {
    fn verbs(&self) -> &'static [&'static str] {
        &["reload", "drain"]
    }

    fn handle(&mut self, request: &Request) -> Answer {
        match request.verb.as_str() {
            "reload" => {
                let outcome = self.reloader.reload();
                report(&outcome);
                outcome.answer()
            }
            _ => self.drain(),
        }
    }
}

impl NodeVerbs {
    fn drain(&self) -> Answer {
        // Once: a second signal would end the node at once.
        let first = self.ends.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let (open, limit) = (self.segment.read().get(Ctr::HttpOpen), self.reloader.drain_limit());
        let word = if first { "draining" } else { "already draining" };
        Answer::done(format!("{word} {open} connections, for {limit:?} at most; then the node ends"))
            .with("connections_open", open)
            .with("limit_seconds", limit.as_secs_f64())
            .with("already", !first)
    }
}

/// Logs what became of a reload.
pub fn report(outcome: &super::reload::Outcome) {
    if outcome.is_good() {
        log::info(format_args!("reload: {}", outcome.text()));
    } else {
        log::warn(format_args!("reload refused, the old config stays in force: {}", outcome.text()));
    }
}
